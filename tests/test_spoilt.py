"""Damaged files: each costs only its own cell, and is named; nothing else is lost, and
nothing waits."""

import copy
import json
import os
import random
import socket
from pathlib import Path
from types import SimpleNamespace

import pytest
import records as saved

from tasks import reading
from tasks.errors import UserError
from tasks.rows import translator
from xstilts import plan, push
from xstilts.report import contrasts as cs
from xstilts.report import frames, page, question
from xstilts.report import matrix as mx
from xstilts.report.spec import Spec
from xstilts.xtreme import submission

LANGUAGES = ("en", "de", "sw")
ARMS, SEEDS = ("none", "mnli", "squad"), (0, 1)
BASE = {
    "schema": 1,
    "model": "tiny",
    "parents": ["tiny"],
    "metric": "accuracy",
    "chance": {"accuracy": 33.3},
    "at_chance": False,
    "settings": {"model": "tiny", "model_finished": "2026-01-01", "seen_languages": ["de"], "learning_rate": 1e-5},
    "data": [{"id": "a/b", "config": "c", "split": "test", "rows": 2, "revision": "r"}],
    "versions": {"python": "3.11"},
    "command": "python run_target.py",
    "seconds": 1.5,
    "finished": "2026-01-01T00:00:00+00:00",
    "notes": ["a note"],
    "measures": {"rows": 10, "steps": 3},
}
PREDICTIONS = {"xnli": "neutral\nentailment\n", "tatoeba": "1\n0\n"}


def records():
    """{path below the folder of runs: record} of a small matrix: phase 2, a target task, retrieval by layer."""
    found = {}
    for i, arm in enumerate(ARMS):
        for seed in SEEDS:
            place = BASE | {"arm": arm, "seed": seed}
            if arm != "none":
                found[f"{arm}/seed{seed}/results.json"] = place | {
                    "phase": "intermediate",
                    "task": arm,
                    "form": "x",
                    "dev": {"en": {"accuracy": 60.0}},
                    "scores": {},
                    "n": {},
                    "mean": {},
                }
            scores = {language: {"accuracy": 40.0 + 5 * i + seed} for language in LANGUAGES}
            cell = place | {
                "scores": scores,
                "n": dict.fromkeys(LANGUAGES, 2),
                "mean": {"accuracy": 40.0 + 5 * i + seed},
            }
            found[f"{arm}/seed{seed}/xnli/results.json"] = cell | {
                "phase": "target",
                "task": "xnli",
                "form": "sentence_pair",
                "dev": {"en": {"accuracy": 50.0 + i}},
            }
            found[f"{arm}/seed{seed}/tatoeba/results.json"] = cell | {
                "phase": "retrieval",
                "task": "tatoeba",
                "form": "retrieval",
                "dev": {},
                "layer": 1,
                "pooling": "mean",
                "layers": {str(layer): scores for layer in range(3)},
            }
    return found


def lay_out(root, found):
    """Writes the records as they are, checked or not, and the cells' predictions."""
    for name, record in found.items():
        path = Path(root, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(record), encoding="utf-8")
        if (task := path.parent.name) in PREDICTIONS:
            for language in LANGUAGES:
                name = {"xnli": f"xnli/test-{language}.tsv", "tatoeba": f"tatoeba/test-{language}.tsv"}[task]
                file = path.parent / "predictions" / name
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(PREDICTIONS[task], encoding="utf-8")
    return root


def read_all(root, output, plots=False):
    """All that reads a matrix: the report, the plan, the question, the submission, the card of the push; the matrix
    read."""
    matrix = mx.collect(root)
    if plots:
        page.write_report(matrix, output / "report", "title")
    else:
        frames.wide_table(matrix), frames.long_table(matrix), mx.by_layer(matrix)
        page.markdown_page(matrix, "title").encode(), page.html_page(matrix, "title", {}).encode()
    plan.report(sorted(Path(root, name) for name in records())).encode()
    spec = Spec({"nli": {"E": "mnli", "M": "squad"}}, ("nli", "M"), select_languages=("en",))
    for act in (
        lambda: submission.write(root, output / "submission", allow_missing=True),
        lambda: question.markdown(asked := cs.ask(matrix, spec), question.section(asked)),
    ):
        try:
            act()
        except UserError as error:
            assert "\n" not in str(error)
    return matrix


DEEP = json.loads("[" * 20 + "]" * 20)
ODD = [
    None,
    True,
    -1,
    0,
    3,
    10**400,
    -(10**30),
    2**63,
    1e308,
    0.5,
    "",
    "x",
    "x" * 5000,
    "\ud800",
    "\0",
    "$a_b^$",
    "_x",
    "a\nb|c",
    "Infinity",
    [],
    {},
    [None],
    ["x", 3],
    [["x"]],
    {"x": None},
    {"x": {"y": "z"}},
    {"": []},
    {"en": {"accuracy": 10**400}},
    DEEP,
    {"x": DEEP},
]
KEYS = ["x", "", "en", "0", "01", "-1", "9" * 300, "٣", "$x$", "_x", "a\nb", "\ud800", "accuracy"]


def places(value, path=()):
    """Every (path, value) inside a JSON value, itself first."""
    yield path, value
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inner:
        yield from places(one, (*path, key))


def spoil(record, rng):
    """The record with one value, anywhere in it, replaced, removed or renamed."""
    record = copy.deepcopy(record)
    path, _ = rng.choice([place for place in places(record) if place[0]])
    parent = record
    for key in path[:-1]:
        parent = parent[key]
    how = rng.randrange(4)
    if how == 0:
        del parent[path[-1]]
    elif how == 1 and isinstance(parent, dict):
        parent[rng.choice(KEYS)] = parent.pop(path[-1])
    elif how == 2 and isinstance(parent, dict):
        parent[rng.choice(KEYS)] = copy.deepcopy(rng.choice(ODD))
    else:
        parent[path[-1]] = copy.deepcopy(rng.choice(ODD))
    return record


def fuzz(seed, rounds, tmp_path, plots=0.0):
    """Spoils six files at a time; returns how many were refused and how many were still usable."""
    rng, refused, kept = random.Random(seed), 0, 0
    for turn in range(rounds):
        found = records()
        root = tmp_path / f"{turn}"
        names = rng.sample(sorted(found), 6)
        for name in names:
            found[name] = spoil(found[name], rng)
        lay_out(root, found)
        read_all(root, tmp_path / f"out-{turn}", plots=rng.random() < plots)
        for name in names:
            try:
                saved.read(root / name)
                kept += 1
            except UserError as error:
                refused += 1
                assert str(root / name) in str(error) and "\n" not in str(error) and len(str(error)) < 2000
    return refused, kept


def test_no_spoilt_value_takes_the_report_down(tmp_path):
    refused, kept = fuzz(0, 30, tmp_path)
    assert refused > 80 and kept > 20


def make_socket(path):
    here = os.getcwd()
    os.chdir(path.parent)  # a socket's path has at most 107 bytes
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(path.name)
    os.chdir(here)


def make_huge(path):
    path.touch()
    os.truncate(path, 2**40)  # a hole: it takes no room


KINDS = {
    "folder": Path.mkdir,
    "pipe": os.mkfifo,
    "socket": make_socket,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "loop": lambda path: path.symlink_to(path.name),
    "dangling": lambda path: path.symlink_to("nowhere"),
    "huge": make_huge,
    "empty": Path.touch,
    "nested": lambda path: path.write_text("[" * 10**6),
    "nested object": lambda path: path.write_text('{"a":' * 200 + "1" + "}" * 200),
    "digits": lambda path: path.write_text("1" * 5000),
    "bytes": lambda path: path.write_bytes(b"\xff\xfe\x00"),
    "twice": lambda path: path.write_text('{"schema": 1, "schema": 1}'),
    "unreadable": lambda path: (path.touch(), path.chmod(0)),
}


def make_file(kind, path):
    if kind == "unreadable" and os.geteuid() == 0:
        pytest.skip("root reads everything")
    path.unlink(missing_ok=True)
    KINDS[kind](path)


@pytest.mark.parametrize("kind", KINDS)
def test_invalid_result_costs_only_its_cell(tmp_path, kind):
    root = lay_out(tmp_path / "runs", records())
    make_file(kind, root / "mnli/seed1/xnli/results.json")
    make_file(kind, root / "squad/seed0/results.json")
    whole = kind == "folder"  # plots take most of the time, and are of the same records for every kind
    matrix = read_all(root, tmp_path / "out", plots=whole)
    assert len(matrix.records) == 11 and matrix.missing == [("mnli", "xnli", 1)] and len(matrix.trainings) == 3
    assert [
        str(root / name) in problem
        for problem, name in zip(
            matrix.problems, ("mnli/seed1/xnli/results.json", "squad/seed0/results.json"), strict=True
        )
    ] == [True, True]
    assert (tmp_path / "out/report/index.html").is_file() == whole
    assert (tmp_path / "out/submission/system.json").is_file()


@pytest.mark.parametrize("kind", KINDS)
def test_invalid_note_is_named(tmp_path, kind):
    root = lay_out(tmp_path / "runs", records())
    for place in ("squad/seed1/xnli", "squad/seed1/tatoeba", "squad/seed1"):
        (root / place / "results.json").unlink()
    make_file(kind, root / "squad/seed1/xnli/failed.json")
    make_file(kind, root / "squad/seed1/run.json")
    make_file(kind, root / "squad/seed0/run.json")  # a finished run's: nobody asks
    matrix = read_all(root, tmp_path / "out")
    failed, begun = matrix.problems
    assert failed.startswith("squad/seed1/xnli failed: ") and "squad/seed1/xnli/failed.json" in failed
    assert begun.startswith("squad/seed1 was begun")
    assert len(matrix.records) == 10


@pytest.mark.parametrize("kind", KINDS)
def test_foreign_file_beside_translations_is_named(tmp_path, kind):
    make_file(kind, tmp_path / "train.translation.json")
    with pytest.raises(UserError, match="train.translation.json"):
        translator(tmp_path / "train.parquet")


@pytest.mark.parametrize("kind", KINDS)
def test_invalid_stamp_of_a_world_is_named(tmp_path, kind):
    from world.files import WorldError, read_stamp

    make_file(kind, tmp_path / "world.json")
    with pytest.raises(WorldError, match="world.json"):
        read_stamp(tmp_path)


def test_a_spoilt_result_is_an_error_of_the_push_and_stops_no_other(tmp_path, monkeypatch):
    root = lay_out(tmp_path, records())
    folders = [root / "mnli/seed0", root / "squad/seed0"]
    for folder in folders:
        (folder / "model.safetensors").touch()
    make_file("folder", folders[0] / "results.json")
    pushed = []
    monkeypatch.setattr(push.card, "check_push", lambda run: None)
    monkeypatch.setattr(push.card, "push", lambda repo, folder, **options: pushed.append(folder))
    monkeypatch.setattr(push, "index", lambda *_: None)
    (error,) = push.push_all("me", "matrix", folders)
    assert pushed == folders[1:] and "mnli/seed0/results.json" in error


def test_the_plan_counts_a_spoilt_result_as_left_and_names_it(tmp_path):
    root = lay_out(tmp_path, records())
    make_file("folder", root / "mnli/seed1/xnli/results.json")
    text = plan.report([root / name for name in records()])
    assert "Done: 15 of 16 runs. Left: 1." in text and "mnli/seed1/xnli/results.json" in text


@pytest.mark.parametrize("kind", ["pipe", "folder", "huge"])
def test_a_reader_does_not_wait_and_does_not_fill_the_memory(tmp_path, kind):
    make_file(kind, tmp_path / "x.json")
    with pytest.raises(OSError):
        reading.read_bytes(tmp_path / "x.json")


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_that_finds_a_spoilt_result_stops_before_it_begins(tmp_path, kind):
    """In its own folder, or in that of the checkpoint it starts from."""
    from xstilts.run import record, settings
    from xstilts.run.lifecycle import Run

    make_file(kind, tmp_path / "results.json")
    args = SimpleNamespace(output_dir=str(tmp_path), push_to_hub=False)
    for act in (lambda: Run.open(args, {}), lambda: settings.parent(tmp_path), lambda: record.chain(tmp_path)):
        with pytest.raises(UserError, match="results.json"):
            act()


@pytest.mark.parametrize("kind", KINDS)
def test_checkpoint_with_damaged_state_is_incomplete(tmp_path, kind):
    from xstilts.run import checkpoints

    make_file(kind, tmp_path / "trainer_state.json") if kind != "huge" else (
        tmp_path / "trainer_state.json"
    ).write_text("{")
    assert not checkpoints.is_whole(tmp_path)
