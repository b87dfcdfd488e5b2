"""Submissions gathered from a matrix made by hand, and gold from the rows of a tiny world."""

import json

import pytest
import records

from tasks import get_task
from tasks.errors import UserError
from tasks.retrieval import Pools
from tasks.rows import Rows, sha256
from xstilts.run.predictions import write_lines
from xstilts.xtreme import scoring, submission

CONTENT = {
    "xnli": ["neutral", "entailment"],
    "udpos": ["DET", "NOUN", "", "VERB", ""],
    "tydiqa": ['{"english-1": "a", "english-2": "b"}'],
    "tatoeba": ["1", "0"],
    "bucc": ["qaa-1\ten-1", "qaa-2\ten-7", "qaa-3\ten-3"],
}


def write_record(root, arm, task, dev=None, seed=0, at_chance=False, scores=None, **changes):
    """A cell of two test rows in language qaa, with its prediction file; bucc mines three pairs of two."""
    adapter = get_task(task)
    retrieval = (
        {"phase": "retrieval", "layer": 2, "pooling": "mean"} if adapter.form in ("retrieval", "mining") else {}
    )
    folder = root / arm / f"seed{seed}" / task
    records.write(
        folder / "results.json",
        {
            "phase": "target",
            "task": task,
            "form": adapter.form,
            "arm": arm,
            "seed": seed,
            "model": f"runs/{arm}/seed{seed}",
            "parents": ["plain"],
            "metric": adapter.metric,
            "chance": None,
            "at_chance": at_chance,
            "dev": {} if dev is None else {"en": {adapter.metric: dev}},
            "scores": {"qaa": scores or {adapter.metric: 50}},
            "n": {"qaa": 2},
            "settings": {},
            "data": [{"id": "a/b", "config": "c", "split": "test", "rows": 2, "revision": "r"}],
            "command": "python run_target.py",
            "seconds": 1.0,
            **retrieval,
            **changes,
        },
    )
    file = folder / "predictions" / adapter.predictions_file("qaa")
    file.parent.mkdir(parents=True)
    file.write_text("\n".join(CONTENT[task]) + "\n", encoding="utf-8")
    return file


@pytest.fixture
def runs(tmp_path):
    """English dev says mnli for xnli and none for udpos; the test scores say the opposite."""
    root = tmp_path / "runs"
    for arm, xnli, udpos, bucc in (("none", 60, 90, 10), ("mnli", 70, 80, 30)):
        write_record(root, arm, "xnli", xnli, scores={"accuracy": 100 - xnli})
        write_record(root, arm, "udpos", udpos, scores={"f1": 100 - udpos})
        write_record(root, arm, "tatoeba", scores={"accuracy": bucc})
        write_record(root, arm, "bucc", scores={"f1": 50 - bucc, "dev_f1": bucc})
    return root


def arms(system):
    return {task: choice["arm"] for task, choice in system["tasks"].items()}


def written(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


# ---- write ----------------------------------------------------------------------------------------------------------


def test_each_task_takes_the_arm_that_is_best_on_dev(runs, tmp_path):
    system = submission.write(runs, tmp_path / "out")
    assert arms(system) == {"udpos": "none", "xnli": "mnli", "bucc": "mnli", "tatoeba": "none"}
    assert system["tasks"]["xnli"]["dev"] == {"metric": "English dev accuracy", "scores": {"none": 60, "mnli": 70}}
    assert system["tasks"]["bucc"]["dev"] == {"metric": "mean dev f1", "scores": {"none": 10, "mnli": 30}}
    assert written(tmp_path / "out") == [
        "bucc2018/test-qaa.tsv",
        "system.json",
        "tatoeba/test-qaa.tsv",
        "udpos/test-qaa.tsv",
        "xnli/test-qaa.tsv",
    ]
    assert json.loads((tmp_path / "out" / "system.json").read_text()) == system
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_system_says_where_a_file_is_from(runs, tmp_path):
    (runs / "mnli/seed0/xnli/predictions/xnli/test-qaa.tsv").write_text("entailment\nentailment\n")
    choice = submission.write(runs, tmp_path / "out")["tasks"]["xnli"]
    assert (choice["path"], choice["seed"], choice["model"]) == ("mnli/seed0/xnli", 0, "runs/mnli/seed0")
    assert choice["chain"] == ["plain", "runs/mnli/seed0"] and choice["chosen"] == "dev"
    assert (tmp_path / "out" / "xnli" / "test-qaa.tsv").read_text() == "entailment\nentailment\n"
    assert choice["files"] == {"xnli/test-qaa.tsv": sha256(tmp_path / "out" / "xnli" / "test-qaa.tsv")}


def test_nothing_is_chosen_for_tatoeba_and_that_is_said(runs, tmp_path):
    system = submission.write(runs, tmp_path / "out")
    assert system["tasks"]["tatoeba"]["arm"] == "none" and system["tasks"]["tatoeba"]["dev"] is None
    assert any("tatoeba: no dev" in note for note in system["notes"])
    system = submission.write(runs, tmp_path / "named", ["tatoeba=mnli"])
    assert system["tasks"]["tatoeba"]["arm"] == "mnli" and not any("tatoeba" in note for note in system["notes"])
    assert arms(system)["xnli"] == "mnli"


def test_one_arm_for_all_and_another_for_one(runs, tmp_path):
    assert set(arms(submission.write(runs, tmp_path / "a", ["mnli"])).values()) == {"mnli"}
    system = submission.write(runs, tmp_path / "b", ["mnli", "xnli=none"])
    assert arms(system) == {"udpos": "mnli", "xnli": "none", "bucc": "mnli", "tatoeba": "mnli"}
    assert system["tasks"]["xnli"]["chosen"] == "asked"


def test_a_cell_at_chance_never_wins(runs, tmp_path):
    write_record(runs, "squad", "xnli", 99, at_chance=True)
    write_record(runs, "squad", "udpos", 1)
    write_record(runs, "squad", "bucc", scores={"f1": 1, "dev_f1": 1})
    system = submission.write(runs, tmp_path / "out")
    assert system["tasks"]["xnli"]["arm"] == "mnli" and system["tasks"]["xnli"]["dev"]["scores"]["squad"] == 99
    system = submission.write(runs, tmp_path / "asked", ["xnli=squad"])
    assert any("xnli: squad is at chance" in note for note in system["notes"])


def test_all_arms_at_chance(tmp_path):
    write_record(tmp_path / "runs", "none", "xnli", 33, at_chance=True)
    write_record(tmp_path / "runs", "none", "udpos", 90)
    with pytest.raises(UserError, match="xnli: every arm is at chance"):
        submission.write(tmp_path / "runs", tmp_path / "out")
    assert arms(submission.write(tmp_path / "runs", tmp_path / "out", allow_missing=True)) == {"udpos": "none"}


def test_dev_that_is_also_test_is_said(tmp_path):
    for arm in ("none", "mnli"):
        write_record(tmp_path / "runs", arm, "tydiqa", 40)
        write_record(tmp_path / "runs", arm, "xnli", 40)
    notes = submission.write(tmp_path / "runs", tmp_path / "out")["notes"]
    assert [note.split(":")[0] for note in notes] == ["tydiqa"] and "same questions" in notes[0]


def test_without_the_plain_model_tatoeba_has_to_be_named(tmp_path):
    write_record(tmp_path / "runs", "mnli", "tatoeba")
    with pytest.raises(UserError, match="none/seed0/tatoeba"):
        submission.write(tmp_path / "runs", tmp_path / "out")
    assert arms(submission.write(tmp_path / "runs", tmp_path / "out", ["tatoeba=mnli"])) == {"tatoeba": "mnli"}


def test_equal_on_dev_means_the_plain_model(tmp_path):
    for arm in ("anli", "none"):
        write_record(tmp_path / "runs", arm, "xnli", 70)
    assert arms(submission.write(tmp_path / "runs", tmp_path / "out")) == {"xnli": "none"}


def test_missing_cells_are_named_and_nothing_is_written(runs, tmp_path):
    for task in ("xnli", "udpos"):
        (runs / "none" / "seed0" / task / "results.json").unlink()
    with pytest.raises(UserError, match=r"none/seed0/udpos.* none/seed0/xnli.*--allow_missing"):
        submission.write(runs, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    system = submission.write(runs, tmp_path / "out", allow_missing=True)
    assert arms(system) == {"bucc": "mnli", "tatoeba": "none"}
    assert sum("Left out" in note for note in system["notes"]) == 2
    # an arm that has all of its cells can still be written
    assert len(submission.write(runs, tmp_path / "one", ["mnli"])["tasks"]) == 4


def test_seeds(runs, tmp_path):
    for arm, dev in (("none", 80), ("mnli", 20)):
        write_record(runs, arm, "xnli", dev, seed=3)
    system = submission.write(runs, tmp_path / "lowest")
    assert system["seed"] == 0 and any("seed 0, the lowest of 0 3" in note for note in system["notes"])
    with pytest.raises(UserError, match="--seed 1: no such cells .* seeds 0 3"):
        submission.write(runs, tmp_path / "out", seed=1)
    with pytest.raises(UserError, match="none/seed3/udpos"):
        submission.write(runs, tmp_path / "out", seed=3)
    assert arms(submission.write(runs, tmp_path / "out", seed=3, allow_missing=True)) == {"xnli": "none"}


@pytest.mark.parametrize(
    "task, content, message",
    [
        ("xnli", "neutral\n", "1 predictions, but results.json says 2"),
        ("xnli", "neutral\nyes\n", "line 2 is 'yes'"),
        ("udpos", "DET\nNOUN\n\n", "1 predictions, but results.json says 2"),
        ("tatoeba", "0\n1\n2\n", "3 predictions"),
        ("bucc", "qaa-1\n", "line 1 is 'qaa-1'"),
        ("xnli", None, "no such file"),
    ],
)
def test_doubtful_prediction_file_is_named(runs, tmp_path, task, content, message):
    path = runs / "mnli/seed0" / task / "predictions" / get_task(task).predictions_file("qaa")
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(UserError, match=f"{path}.*{message}"):
        submission.write(runs, tmp_path / "out", ["mnli"])
    assert not (tmp_path / "out").exists()


def test_answers_are_counted_by_id(tmp_path):
    path = write_record(tmp_path / "runs", "none", "tydiqa", 40)
    submission.write(tmp_path / "runs", tmp_path / "whole")
    path.write_text('{"english-1": "a"}')
    with pytest.raises(UserError, match="1 predictions"):
        submission.write(tmp_path / "runs", tmp_path / "out")


@pytest.mark.parametrize(
    "given, message",
    [
        (["mnly"], "no arm 'mnly'. Did you mean mnli"),
        (["xnly=mnli"], "no task 'xnly'"),
        (["mnli", "none"], "already given for all tasks"),
        (["xnli=mnli", "xnli=none"], "already given for xnli"),
    ],
)
def test_wrong_arms(runs, tmp_path, given, message):
    with pytest.raises(UserError, match=message):
        submission.write(runs, tmp_path / "out", given)


def test_a_folder_that_exists_is_kept(runs, tmp_path):
    (tmp_path / "out").mkdir()
    submission.write(runs, tmp_path / "out")  # empty: taken
    before = (tmp_path / "out" / "system.json").read_bytes()
    with pytest.raises(UserError, match="exists. Remove it"):
        submission.write(runs, tmp_path / "out", ["mnli"])
    assert (tmp_path / "out" / "system.json").read_bytes() == before


def test_other_tasks_of_the_matrix_are_left_out_and_said(runs, tmp_path):
    other = json.loads((runs / "mnli/seed0/xnli/results.json").read_text()) | {"task": "my_own"}
    records.write(runs / "mnli/seed0/my_own/results.json", other)
    system = submission.write(runs, tmp_path / "out")
    assert "my_own" not in system["tasks"] and any(note.startswith("my_own: no task of") for note in system["notes"])


def test_command_line(runs, tmp_path, capsys):
    assert (
        submission.main(["write", str(runs), "--output", str(tmp_path / "out"), "--arm", "mnli", "tatoeba=none"]) == 0
    )
    shown = capsys.readouterr().out
    assert "English dev accuracy: none 60.0, mnli 70.0" in shown and "4 files, seed 0" in shown
    assert submission.main(["write", str(runs), "--output", str(tmp_path / "out")]) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.startswith("error: --output") and shown.err.count("\n") == 1


# ---- gold -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def labels(tiny_world, tmp_path_factory):
    folder = tmp_path_factory.mktemp("gold") / "labels"
    assert submission.main(["gold", "--data_root", str(tiny_world), "--output", str(folder)]) == 0
    return folder


def test_gold_as_predictions_scores_100(labels, tiny_world, tmp_path):
    rows, benchmarks = Rows(tiny_world), {"xtreme", "xtreme-r"}
    tasks = {folder: task for name in benchmarks for folder, task in scoring.adapters(name).items()}
    present = [folder.name for folder in labels.iterdir()]
    assert len(present) >= 5 and set(present) <= set(tasks)
    for folder in present:
        task = tasks[folder]
        for language in task.languages(rows):
            examples = task.load("test", language, rows)
            write_lines(tmp_path, task, language, task.lines(task.gold(examples), examples))
    for benchmark in benchmarks:
        scores = scoring.score(tmp_path, labels, benchmark, found_languages=True)
        for folder in set(present) & set(scoring.adapters(benchmark)):
            assert scores[folder]["avg_metric"] == pytest.approx(100), folder


def test_gold_of_answers_keeps_all_of_them_and_the_contexts(labels, tiny_world):
    examples = get_task("tydiqa").load("test", "qaa", Rows(tiny_world))
    data = json.loads((labels / "tydiqa" / "test-qaa.json").read_text())["data"]
    found = {
        qa["id"]: (paragraph["context"], qa["question"], [(a["text"], a["answer_start"]) for a in qa["answers"]])
        for article in data
        for paragraph in article["paragraphs"]
        for qa in paragraph["qas"]
    }
    assert found == {
        row["id"]: (
            row["context"],
            row["question"],
            list(zip(row["answers"]["text"], row["answers"]["answer_start"], strict=True)),
        )
        for row in examples
    }
    assert len({p["context"] for a in data for p in a["paragraphs"]}) == sum(len(a["paragraphs"]) for a in data)


def test_gold_of_some_tasks_and_rows(tiny_world, tmp_path, capsys):
    arguments = ["gold", "--data_root", str(tiny_world), "--output", str(tmp_path / "out"), "--max_eval_samples", "3"]
    assert submission.main([*arguments, "--tasks", "xnli", "tatoeba"]) == 0
    assert capsys.readouterr().out.splitlines() == ["xnli       en:3 qaa:3 qab:3", "tatoeba    qaa:3 qab:3"]
    assert (tmp_path / "out" / "tatoeba" / "test-qab.tsv").read_text() == "0\n1\n2\n"
    assert len(written(tmp_path / "out")) == 5


def test_gold_of_a_task_without_test_rows(tiny_world, tmp_path, capsys):
    assert (
        submission.main(["gold", "--data_root", str(tiny_world), "--output", str(tmp_path / "out"), "--tasks", "mnli"])
        == 2
    )
    assert "mnli: no test rows" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert submission.main(["gold", "--data_root", str(tmp_path / "empty"), "--output", str(tmp_path / "out")]) == 2
    assert "No test rows of any" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty"]


# ---- lines ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("line", ["two\nlines", "a\rb", " blank before", "tab after\t"])
def test_ambiguous_line_is_refused(tmp_path, line):
    with pytest.raises(UserError, match="line 2 would be"):
        write_lines(tmp_path, get_task("xnli"), "en", ["neutral", line])
    assert list(tmp_path.iterdir()) == []


def test_nothing_found_is_an_empty_file(tmp_path):
    path = write_lines(tmp_path, get_task("bucc"), "de", [])
    assert path == tmp_path / "bucc2018" / "test-de.tsv" and path.read_bytes() == b""
    assert get_task("bucc").read_lines(path) == []


def test_pairs_of_unknown_ids_are_refused():
    pools = Pools(["qaa-1"], ["x"], ["en-1"], ["y"], {("qaa-1", "en-1")})
    task = get_task("bucc")
    assert task.lines([("qaa-1", "en-1")], pools) == ["qaa-1\ten-1"]
    with pytest.raises(UserError, match="'qaa-9'"):
        task.lines([("qaa-9", "en-1")], pools)


@pytest.mark.parametrize("odd", ["a\tb", "a\nb", "a b", ""])
def test_ids_with_white_space_are_refused_when_they_are_read(tmp_path, odd):
    for part, row in (
        ("source", {"id": odd, "text": "x"}),
        ("target", {"id": "en-1", "text": "y"}),
        ("gold", {"source_id": odd, "target_id": "en-1"}),
    ):
        folder = tmp_path / "bucc2018__qaa-en" / part
        folder.mkdir(parents=True)
        (folder / "test.jsonl").write_text(json.dumps(row) + "\n")
    with pytest.raises(UserError, match=r"source.test.jsonl, row 1, column 'id': .* white space"):
        get_task("bucc").load("test", "qaa", Rows(tmp_path))


def test_repeated_id_is_refused(tmp_path):
    folder = tmp_path / "google__xquad" / "xquad.qaa"
    folder.mkdir(parents=True)
    row = {"id": "q1", "context": "a b", "question": "?", "answers": {"text": ["a"], "answer_start": [0]}}
    (folder / "validation.jsonl").write_text((json.dumps(row) + "\n") * 2)
    with pytest.raises(UserError, match="row 2, column 'id': 'q1' appears twice"):
        get_task("xquad").load("test", "qaa", Rows(tmp_path))
