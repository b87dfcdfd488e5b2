"""The whole chain through real make: world, model, an arm, a target, retrieval, report; and the Makefile's own
answers."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import records
from test_contract import splits_of

from tasks import RETRIEVAL, TASKS, UNTESTED, get_task
from tasks.rows import Rows

ROOT = Path(__file__).resolve().parents[1]
PRESETS = sorted(p.stem for p in (ROOT / "recipes" / "presets").glob("*.mk"))
ARMS, CELLS = ["none", "squad"], ["udpos", "tatoeba"]


def begin(*arguments, **environment):
    """make in the repository, with this Python; nothing of a make that may have started the tests gets through."""
    kept = {
        k: v
        for k, v in os.environ.items()
        if not k.startswith(("MAKE", "MFLAGS")) and k not in ("PY", "PRESET", "OUT", "THREADS")
    }
    return subprocess.Popen(
        ["make", f"PY={sys.executable}", *arguments],
        cwd=ROOT,
        env=kept | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        close_fds=False,  # the fixture `preloaded` listens on one
    )


def ended(process):
    stdout, stderr = process.communicate()
    return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)


def make(*arguments, **environment):
    return ended(begin(*arguments, **environment))


@pytest.fixture
def tiny(tmp_path, preloaded):
    """The variables of a preset as small as can be. Scripts start without the seconds of imports."""
    sizes = {
        "model_type": "xlm-roberta",
        "num_hidden_layers": 2,
        "hidden_size": 16,
        "num_attention_heads": 2,
        "intermediate_size": 16,
        "max_position_embeddings": 130,
    }
    (tmp_path / "sizes.json").write_text(json.dumps(sizes))
    few = "--max_steps 5 --max_seq_length 64 --per_device_train_batch_size 4 --bf16 False"
    return [
        "PRESET=world",
        f"OUT={tmp_path}/runs",
        f"DATA_ROOT={tmp_path}/world",
        "WORLD_ARGS=--seed 0 --size 0.02 --languages 2",
        f"MLM_ARGS=--config_name {tmp_path}/sizes.json --vocab_size 300 {few}",
        f"ARMS={' '.join(ARMS)}",
        "TARGETS=udpos",
        "RETRIEVAL=tatoeba",
        "SEEDS=0",
        "ARGS_tatoeba=",
        "ARGS_udpos=",
        "ARGS_squad=",
        f"INTERMEDIATE_ARGS={few} --max_train_samples 20 --max_eval_samples 8",
        f"TARGET_ARGS={few} --max_eval_samples 8",
        "RETRIEVAL_ARGS=--layer all --report_layer 1",
    ]


def stamps(out):
    """{path below out: time it was written} of every results.json."""
    return {str(p.relative_to(out)): p.stat().st_mtime_ns for p in sorted(out.rglob("results.json"))}


def test_the_chain(tiny, tmp_path):
    out = tmp_path / "runs"
    done = make("-j2", "matrix", *tiny)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    cells = [f"{arm}/seed0/{task}/results.json" for arm in ARMS for task in CELLS]
    built = stamps(out)
    assert sorted(built) == sorted(["model/results.json", "squad/seed0/results.json", *cells])
    assert "Done: 4 cells." in done.stdout and f"{out}/report/index.html" in done.stdout

    # ---- every number of the report follows from the predictions ---------------------------------------------------
    rows = Rows(tmp_path / "world")
    table = (out / "report" / "matrix.md").read_text()
    for cell in cells:
        folder = (out / cell).parent
        record = records.read(out / cell)
        task = get_task(record["task"])
        assert list(record["scores"]) == task.languages(rows)
        for language, scores in record["scores"].items():
            examples = task.load("test", language, rows)
            text = (folder / "predictions" / task.predictions_file(language)).read_text()
            if task.form == "tagging":
                examples = examples.select(range(8))
                predictions = [block.split("\n") for block in text.strip("\n").split("\n\n")]
            else:
                predictions = [int(line) for line in text.split()]
            assert task.score(predictions, examples, language) == scores
        mean = sum(s[task.metric] for s in record["scores"].values()) / len(record["scores"])
        assert record["mean"][task.metric] == pytest.approx(mean)
        assert f"{mean:.1f}" in table
        # no path of this machine is written
        chain = [".../model", ".../seed0"] if cell.startswith("squad") else [".../model"]
        assert record["parents"][-len(chain) :] == chain and record["arm"] == cell.split("/")[0]
    for file in out.rglob("tokenizer.json"):  # not cut to the length that was trained with
        assert json.loads(file.read_text())["truncation"] is None, file
        assert "is_local" not in file.with_name("tokenizer_config.json").read_text()  # nor where it was loaded from
    record = records.read(out / "none/seed0/tatoeba/results.json")
    assert record["layer"] == 1 and list(record["layers"]) == ["0", "1", "2"]
    for name in (
        "matrix.md",
        "matrix.csv",
        "cells.csv",
        "index.html",
        "matrix.tex",
    ):
        assert (out / "report" / name).stat().st_size > 100
    page = (out / "report" / "index.html").read_text()
    assert "<script src" not in page and not re.search(r'(src|href)="(https?:|[^#"]*\.(png|css|js))', page), (
        "the page needs other files"
    )

    # ---- again: nothing; a cell deleted: that one ------------------------------------------------------------------
    again = make("-j2", "matrix", *tiny)
    assert again.returncode == 0 and again.stderr == ""
    (line,) = again.stdout.splitlines()  # not one command was run
    assert line.startswith("Nothing to do: all 4 cells are done.") and str(out / "report") in line
    assert stamps(out) == built

    lost = "none/seed0/tatoeba/results.json"
    old = records.read(out / lost)
    (out / lost).unlink()
    redone = make("-j2", "matrix", *tiny)
    assert redone.returncode == 0, redone.stderr[-3000:]
    assert {path for path, when in stamps(out).items() if when != built[path]} == {lost}
    assert records.read(out / lost)["scores"] == old["scores"]
    assert (
        "run_mlm" not in redone.stdout
        and "run_target" not in redone.stdout
        and "run_intermediate" not in redone.stdout
    )

    # ---- nothing of all that is left -------------------------------------------------------------------------------
    assert make("clean", *tiny).returncode == 0 and not out.exists()


def test_two_at_once_share_one_folder(tiny, tiny_model, tiny_world, tmp_path):
    """The second waits where the first is at work, and a run is done once."""
    tiny += ["ARMS=none", "RETRIEVAL=", f"MODEL={tiny_model}", "MLM_ARGS=", f"DATA_ROOT={tiny_world}", "WORLD_ARGS="]
    together = [begin("matrix", *tiny) for _ in range(2)]
    one, other = map(ended, together)
    assert one.returncode == other.returncode == 0, one.stderr[-3000:] + other.stderr[-3000:]
    printed = one.stdout + one.stderr + other.stdout + other.stderr
    # the second waits, or comes when the first has finished
    assert "another process is running there" in printed or "is finished; nothing to do" in printed
    assert printed.count(f"Wrote {tmp_path}/runs/none/seed0/udpos/results.json") == 1
    assert printed.count("Done: 1 cells.") == 2
    assert make("matrix", *tiny).stdout.startswith("Nothing to do: all 1 cells are done.")


# ---- a cell that fails ----------------------------------------------------------------------------------------------

STUB = """
import os, sys
from tests import records
from xstilts.run.endings import command
from tasks.errors import UserError
from xstilts.run.environment import command_line

def main(argv):
    given = dict(zip(argv, argv[1:]))
    arm, task = given["--arm"], given.get("--task")
    if f"{arm} {task}" in os.environ["FAILING"].split(","):
        raise UserError(f"{arm} {task} cannot be done.")
    phase = "target" if task else "intermediate"
    own = {"scores": {"en": {"f1": 50}}} if task else {}
    own["command"] = command_line(argv)
    record = records.small(phase, task=task or arm, form="tagging", arm=arm, metric="f1", **own)
    records.write(f"{given['--output_dir']}/results.json", record)

command(main)
"""


def test_make_k_does_the_rest_and_the_report_says_what_failed_and_why(preloaded, tmp_path):
    """With a program in the scripts' place; an arm fails, and a cell of another."""
    (tmp_path / "stub.py").write_text(STUB)
    tiny = [
        "PRESET=world",
        f"OUT={tmp_path}/runs",
        "MODEL=m",
        "MLM_ARGS=",
        f"DATA_ROOT={tmp_path}",
        "WORLD_ARGS=",
        "ARMS=none squad mnli",
        "TARGETS=udpos panx",
        "RETRIEVAL=",
        "SEEDS=0",
        f"RUN={preloaded} {tmp_path}/stub.py",
    ]
    done = make("-k", "-j2", "matrix", *tiny, FAILING="squad None,mnli panx", PYTHONPATH=f"{ROOT}:{ROOT}/tests")
    assert done.returncode == 2 and "Done:" not in done.stdout
    assert sorted(stamps(tmp_path / "runs")) == [
        f"{place}/results.json" for place in ("mnli/seed0", "mnli/seed0/udpos", "none/seed0/panx", "none/seed0/udpos")
    ]
    page = (tmp_path / "runs/report/matrix.md").read_text()
    assert (
        "mnli/seed0/panx failed: mnli panx cannot be done." in page
        and "squad/seed0 failed: squad None cannot be done." in page
    )
    assert "Missing cells: 3." in done.stdout and (tmp_path / "runs/report/index.html").is_file()
    built = stamps(tmp_path / "runs")
    done = make("-k", "matrix", *tiny, FAILING="", PYTHONPATH=f"{ROOT}:{ROOT}/tests")
    assert done.returncode == 0 and "Done: 6 cells." in done.stdout, done.stderr
    assert (
        "failed" not in (tmp_path / "runs/report/matrix.md").read_text()
        and built.items() <= stamps(tmp_path / "runs").items()
    )
    for flags in (["-k"], ["-j2"]):
        done = make(*flags, "matrix", *tiny, FAILING="", PYTHONPATH=f"{ROOT}:{ROOT}/tests")
        assert (
            done.returncode == 0
            and done.stdout.startswith("Nothing to do: all 6 cells are done.")
            and done.stdout.count("\n") == 1
        )


# ---- the Makefile's own answers -------------------------------------------------------------------------------------


def dry(*arguments):
    done = make("-n", "matrix", f"OUT={ROOT}/runs/never", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout.replace("\\\n", " ")


@pytest.mark.parametrize("preset", PRESETS)
def test_dry_run_of_every_preset(preset, parsed_by, monkeypatch):
    """One run for each cell of the preset's own lists, with its settings; each script's arguments are known to it."""
    monkeypatch.setenv("XSTILTS_MATRIX", "1")  # as the commands do
    text = (ROOT / "recipes" / "presets" / f"{preset}.mk").read_text()
    text += "".join((ROOT / path).read_text() for path in re.findall(r"^include (.+)$", text, re.M))
    text = text.replace("\\\n", " ")
    arms, *tasks = (
        re.search(rf"^{name} \?= ?(.*)$", text, re.M)[1].split() for name in ("ARMS", "TARGETS", "RETRIEVAL")
    )
    commands = [
        line.split()
        for line in dry(f"PRESET={preset}", "SEEDS=0").splitlines()
        if "run_" in line and "--output_dir" in line
    ]
    found = []
    for words in commands:
        at = next(i for i, word in enumerate(words) if word.startswith("run_"))
        values = parsed_by(words[at], words[at + 1 :])
        assert values["output_dir"]
        if words[at] in ("run_target.py", "run_retrieval.py"):
            found += [(values["arm"], task) for task in values.get("tasks") or [values["task"]]]
    assert sorted(found) == sorted((arm, task) for arm in arms for task in sum(tasks, []))


def test_question_is_a_matrix_of_matched_arms(parsed_by, monkeypatch):
    """`make question` takes its own preset; all arms of a family get the same languages, and differ in nothing they
    should not."""
    monkeypatch.setenv("XSTILTS_MATRIX", "1")  # as the commands do
    done = make("-n", "question", f"OUT={ROOT}/runs/never", "SEEDS=0", "FAMILY_squad=--train_languages en qab")
    assert done.returncode == 0, done.stderr
    trained = {}
    for words in (line.split() for line in done.stdout.replace("\\\n", " ").splitlines() if "--arm " in line):
        at = next(i for i, word in enumerate(words) if word.startswith("run_"))
        values = parsed_by(words[at], words[at + 1 :])
        if values["arm"] != "model" and words[at] in ("run_intermediate.py", "run_mlm.py"):
            trained[values["arm"]] = values
    assert len(trained) > 15 and "--translate data/world9 --out data/world9-translated" in done.stdout
    for arm, values in trained.items():
        english = trained[arm.split("+")[0]]
        assert values["train_languages"] == (
            ["en", "qab"] if arm.startswith("squad+") or arm == "squad" else ["en", "qaa", "qad", "qae"]
        )
        same = set(values) - {
            "language_mode",
            "code_switch",
            "shuffle_labels",
            "arm",
            "output_dir",
            "config",
        }
        assert {key: values[key] for key in same} == {key: english[key] for key in same}, arm
    done = make("-n", "question", "PRESET=world")
    assert done.returncode == 2 and "PRESET=world asks no question: give PRESET=question" in done.stderr


def test_seeds_launch_and_arms_multiply():
    text = dry("ARMS=none mnli", "TARGETS=xnli udpos", "RETRIEVAL=", "SEEDS=0 1 2", "LAUNCH=srun -n1")
    runs = [line for line in text.splitlines() if "--output_dir" in line]
    assert len(runs) == 1 + 3 + 2 * 2 * 3  # the model; mnli at three seeds; arms x targets x seeds
    assert all("srun -n1" in line for line in runs)
    assert not (ROOT / "runs" / "never").exists()


@pytest.mark.parametrize(
    "arguments, told",
    [
        (["ARMS=none mnly"], "ARMS: mnly is unknown. Did you mean mnli?"),
        (["TARGETS=xnil"], "xnil is unknown. Did you mean xnli?"),
        (["RETRIEVAL=tatoebe"], "tatoebe is unknown"),
        (["PRESET=wolrd"], "PRESET=wolrd is unknown. Choose one of: human"),
    ],
)
def test_wrong_names_are_one_line(arguments, told):
    done = make("-n", "matrix", *arguments)
    assert done.returncode == 2 and done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert told in line


def test_make_knows_every_task():
    told = "".join(make("-n", "matrix", f"{name}=x").stderr for name in ("TARGETS", "RETRIEVAL"))
    assert all(f" {name}" in told for name in TASKS if name not in UNTESTED)
    tasks = {name: get_task(name) for name in TASKS}
    assert list(RETRIEVAL) == [name for name, task in tasks.items() if not task.auto_class]
    assert list(UNTESTED) == [name for name, task in tasks.items() if "test" not in splits_of(task)]


def test_help_lists_every_target_and_variable():
    text = make("help").stdout
    makefile = (ROOT / "Makefile").read_text()
    phony = re.search(r"^\.PHONY: (.*)$", makefile, re.M)[1].split()
    variables = re.findall(r"^([A-Z_]+) \?=", makefile, re.M)
    lines = text.splitlines()
    assert all(any(line.split()[:1] == [name] and len(line.split()) > 1 for line in lines) for name in phony), text
    missing = [v for v in variables if not any(line.split()[:1] == [v] for line in lines)]
    assert len(variables) > 10 and not missing, missing


def test_ci_calls_make_test():
    script = (ROOT / ".ci" / "run").read_text()
    assert "make test" in script and os.access(ROOT / ".ci" / "run", os.X_OK)


def test_centred_and_csls_stand_beside_the_plain_figure(tiny_model, tiny_world, tmp_path):
    import json

    import run_retrieval

    run_retrieval.main(
        [
            "--model_name_or_path",
            str(tiny_model),
            "--data_root",
            str(tiny_world),
            "--tasks",
            "tatoeba",
            "bucc",
            "--languages",
            "qaa",
            "--center",
            "language",
            "--csls",
            "2",
            "--output_dir",
            str(tmp_path / "both"),
        ]
    )
    run_retrieval.main(
        [
            "--model_name_or_path",
            str(tiny_model),
            "--data_root",
            str(tiny_world),
            "--tasks",
            "tatoeba",
            "--languages",
            "qaa",
            "--output_dir",
            str(tmp_path / "plain"),
        ]
    )
    both, plain = (
        json.loads((tmp_path / d / "tatoeba" / "results.json").read_text())["scores"]["qaa"] for d in ("both", "plain")
    )
    assert {"accuracy_centered", "accuracy_csls"} <= set(both) and plain.items() <= both.items()
    mined = json.loads((tmp_path / "both" / "bucc" / "results.json").read_text())
    assert mined["model"] == mined["parents"][-1] == f".../{tiny_model.name}"
    lines = (tmp_path / "both" / "bucc" / "candidates" / "qaa.tsv").read_text().splitlines()
    scores = [float(line.split("\t")[0]) for line in lines[1:]]
    assert scores and scores == sorted(scores, reverse=True) and all(line.count("\t") == 4 for line in lines[1:])
