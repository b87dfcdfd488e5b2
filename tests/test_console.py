"""What a person sees of runs: named bars, lines in log files, one line at the end, near names for wrong ones."""

import logging
import re

import pytest
import records
from conftest import ROOT

from tasks.errors import UserError
from xstilts.cli import arms, logs, parsing, progress, words
from xstilts.cli.arguments import RetrievalArguments
from xstilts.run.record import Record, completed
from xstilts.run.rehearsal import is_rehearsal
from xstilts.run.summary import summary
from xstilts.train.progress import numbers

# ---- bars and lines -------------------------------------------------------------------------------------------------


@pytest.fixture
def run_name(monkeypatch):
    monkeypatch.setattr(logs, "_run", "mnli seed 0")


def test_a_log_file_holds_lines(run_name, monkeypatch, capsys, caplog):
    monkeypatch.setattr(progress, "SECONDS", 0.0)
    with caplog.at_level(logging.INFO), progress.Bar(3, "xnli training", "steps") as bar:
        for _ in range(3):
            bar.update()
    assert capsys.readouterr().err == ""
    assert caplog.messages[1].startswith("mnli seed 0, xnli training: 1 of 3 steps, about ")
    assert caplog.messages[-1].startswith("mnli seed 0, xnli training: 3 steps in ")


def test_short_work_writes_no_line(capsys, caplog):
    with caplog.at_level(logging.INFO), progress.Bar(3, "embed", "sentences") as bar:
        bar.update(3)
    assert capsys.readouterr().err == "" and not caplog.messages


def test_a_terminal_has_a_bar_that_names_the_run(run_name, monkeypatch, capsys):
    monkeypatch.setattr(logs, "is_terminal", lambda: True)
    with progress.Bar(3, "xnli training", "steps") as bar:
        bar.update(3)
    drawn = capsys.readouterr().err
    assert "\rmnli seed 0, xnli training: 100%" in drawn and "3/3" in drawn


def test_time_left_counts_only_what_this_process_did():
    state = {"n": 60, "total": 100, "initial": 40, "elapsed": 10.0, "unit": "steps"}
    assert progress.line("x", state) == "x: 60 of 100 steps, about 20 s left"  # 20 steps in 10 s, 40 are left


@pytest.mark.parametrize("seconds, text", [(12.4, "12 s"), (210, "3.5 min"), (25560, "7.1 h")])
def test_durations(seconds, text):
    assert logs.duration(seconds) == text


def test_what_the_trainer_logs_is_numbers():
    entry = {"loss": 0.693147180559945, "learning_rate": 1.9e-05, "epoch": 0.5333, "total_flos": 1e18}
    assert numbers(entry) == "loss 0.6931, learning rate 1.9e-05, epoch 0.53"


def test_a_run_in_a_log_file(fork_python, tiny_model, tiny_world, tmp_path):
    """No frames of bars, a line a language, a summary; and a rehearsal does not shout."""
    folder = tmp_path / "none/seed0/xnli"
    done = fork_python(
        "run_target.py",
        *("--tasks", "xnli", "--model_name_or_path", tiny_model, "--data_root", tiny_world, "--output_dir", folder),
        *("--max_steps", 5, "--max_eval_samples", 20, "--bf16", "false", "--arm", "none", "--seed", 0),
        *("--logging_steps", 2),
    )
    assert done.returncode == 0, done.stderr
    assert "\r" not in done.stderr and "%|" not in done.stderr and done.stdout == ""
    lines = done.stderr.splitlines()
    record = Record.read(folder / "results.json")
    for language in record.scores:
        assert sum(line.startswith(f"none seed 0, xnli {language}: accuracy ") for line in lines) == 1
    assert any(line.startswith("none seed 0, xnli, step 2 of 5: loss ") for line in lines)
    assert lines[-1].startswith(f"Wrote {folder}/results.json: none seed 0, xnli: accuracy ")
    assert "did not work" not in done.stderr and record.at_chance is ("rehearsal" in done.stderr)


# ---- the line at the end --------------------------------------------------------------------------------------------


def record_of(**values):
    record = records.small(**{"arm": "mnli", "seed": 1, "seconds": 138.0} | values)
    return Record.from_dict(completed(record, "results.json"), "results.json")


SCORES = {"en": {"accuracy": 70.0}, "de": {"accuracy": 60.0}}


@pytest.mark.parametrize(
    "values, line",
    [
        ({"scores": SCORES}, "mnli seed 1, xnli: accuracy 65.0 over 2 languages (en 70.0), 2.3 min"),
        ({"scores": {"de": SCORES["de"]}}, "mnli seed 1, xnli: accuracy 60.0 over de, 2.3 min"),
        (
            {"phase": "intermediate", "task": "mnli", "dev": {"en": {"accuracy": 81.5}}},
            "mnli seed 1: English dev accuracy 81.5, 2.3 min",
        ),
        (
            {
                "phase": "mlm",
                "task": "mlm",
                "arm": "lm",
                "metric": "perplexity",
                "measures": {"perplexity": 4.0231},
            },
            "lm seed 1, mlm: perplexity 4.023, 2.3 min",
        ),
    ],
)
def test_the_summary_of_a_run(values, line):
    assert summary(record_of(**values)) == line


@pytest.mark.parametrize(
    "settings, steps, rehearsal",
    [
        ({"max_steps": 5}, 5, True),
        ({"max_train_samples": 100}, 12, True),
        ({"max_steps": 2000}, 2000, False),
        ({"max_steps": -1}, 12, False),  # a small task: all of its rows
        ({}, 39, False),
    ],
)
def test_what_a_rehearsal_is(settings, steps, rehearsal):
    assert is_rehearsal(settings, steps) is rehearsal


@pytest.mark.parametrize("preset", sorted(ROOT.glob("recipes/presets/*.mk")), ids=lambda path: path.stem)
def test_no_training_of_a_preset_is_a_rehearsal(preset):
    steps = [int(number) for number in re.findall(r"--max_steps (\d+)", preset.read_text(encoding="utf-8"))]
    assert all(not is_rehearsal({"max_steps": number}, number) for number in steps)


# ---- --task and --tasks, near names ---------------------------------------------------------------------------------


@pytest.mark.parametrize("flag", ["--task", "--tasks"])
@pytest.mark.parametrize("script, own", [("run_target.py", "task"), ("run_intermediate.py", "tasks")])
def test_task_and_tasks_are_accepted_alike(parsed_by, script, own, flag, tmp_path):
    values = parsed_by(script, [flag, "xnli", "--model_name_or_path", "m", "--output_dir", str(tmp_path)])
    assert values[own] in ("xnli", ["xnli"])


@pytest.mark.parametrize("words_given", [["--task", "tatoeba"], ["--task=tatoeba"], ["--tasks", "tatoeba", "bucc"]])
def test_the_value_stays(words_given):
    (found,), _ = parsing.parse(words_given, "run_retrieval.py", "", RetrievalArguments)
    assert found.tasks == words_given[1:] or found.tasks == ["tatoeba"]


def test_a_file_may_say_task_too(tmp_path):
    path = tmp_path / "retrieval.yaml"
    path.write_text("task: tatoeba\n")
    (found,), _ = parsing.parse(["--config", str(path)], "run_retrieval.py", "", RetrievalArguments)
    assert found.tasks == ["tatoeba"]
    path.write_text("task: tatoeba\ntasks: bucc\n")
    with pytest.raises(UserError, match="the same"):
        parsing.parse(["--config", str(path)], "run_retrieval.py", "", RetrievalArguments)


def test_both_are_refused_and_several_where_one_is_taken(cli):
    done = cli("run_target.py", "--task", "xnli", "--tasks", "pawsx")
    assert done.returncode == 2 and "--task and --tasks" in done.stderr
    done = cli("run_target.py", "--tasks", "xnli", "pawsx")
    assert done.returncode == 2 and "xnli pawsx" in done.stderr


@pytest.mark.parametrize(
    "script, given, near",
    [
        ("run_target.py", ["--taks", "xnli"], "--task?"),
        ("run_target.py", ["--task", "xnil"], "mean xnli?"),
        ("run_target.py", ["--task", "xnli", "--optim", "adamw_torh"], "adamw_torch "),
        ("run_target.py", ["--task", "xnli", "--lr_scheduler_type", "liner"], "linear"),
        ("run_retrieval.py", ["--task", "tatoba"], "mean tatoeba?"),
        ("run_report.py", ["--armz", "none"], "--arms?"),
    ],
)
def test_a_wrong_name_gets_the_near_ones_and_no_more(cli, tiny_model, tiny_world, tmp_path, script, given, near):
    more = ["--model_name_or_path", tiny_model, "--data_root", tiny_world, "--output_dir", tmp_path / "run"]
    done = cli(script, *given, *(more if script != "run_report.py" else []))
    (line,) = done.stderr.strip().splitlines()[-1:]
    assert done.returncode == 2 and near in line and not line.endswith("?.")
    assert len(line) < 200


def test_a_wrong_arm_gets_the_near_one_and_no_list(monkeypatch):
    monkeypatch.chdir(ROOT)
    for name, near in {"mnlii": "mnli", "mnli+multlingual": "multilingual"}.items():
        with pytest.raises(UserError, match=rf"Did you mean {near}\?") as caught:
            arms.read_arm(name)
        assert len(str(caught.value)) < 150
    with pytest.raises(UserError, match="make help"):
        arms.read_arm("qqqqqqqqq")


def test_few_names_are_listed_where_none_is_near():
    assert arms.known_or_near("qqq", ["mean", "cls"]) == " Known: mean cls."
    assert arms.known_or_near("qqq", map(str, range(60))) == ""


@pytest.mark.parametrize("form", ["invalid choice: 'x99' (choose from {})", "invalid choice: x99 (choose from {})"])
def test_both_forms_of_argparses_message_are_read(form):
    many = [f"'{letter}{n}'" for letter in "abcx" for n in range(5, 10)]
    assert words.few_choices(f"argument --y: {form.format(', '.join(many))}").endswith("Did you mean x9?")


def test_a_wrong_flag_of_a_tool_gets_the_near_one(capsys):
    """Fails when argparse's own tables of options, which it does not document, change."""
    from xstilts import plan
    from xstilts.xtreme import submission

    with pytest.raises(SystemExit):
        plan.main(["--runs_dir", "x", "--arms", "none", "--seeds", "0", "--jubs", "3"])
    assert "Did you mean --jobs?" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        submission.main(["gold", "--data_root", "x", "--output", "y", "--spltis", "z"])
    assert "Did you mean --splits?" in capsys.readouterr().err
