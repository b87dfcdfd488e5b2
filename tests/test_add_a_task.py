"""docs/add-a-task.md is executed: its class, its line in the registry, and the scripts with it."""

import importlib
import importlib.util
import json
import re
import sys

import pytest
from conftest import ROOT

import tasks
from tasks.retrieval import Tatoeba
from tasks.rows import Rows
from tasks.source import Source

PAGE = (ROOT / "docs" / "add-a-task.md").read_text(encoding="utf-8")
MODULE, LINE = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
ENTAILS, NEUTRAL = ("the {} is {}", "it is {1}"), ("the {} is {}", "nobody knows {0}")


@pytest.fixture
def scitail(tmp_path, monkeypatch):
    """The page followed: module saved and registered; rows in a folder -> that folder."""
    package = tmp_path / "package"
    package.mkdir()
    (package / "scitail.py").write_text(MODULE)
    monkeypatch.setattr(tasks, "__path__", [*tasks.__path__, str(package)])
    importlib.invalidate_caches()
    name, _, where = LINE.strip().rstrip(",").partition(": ")
    monkeypatch.setitem(tasks.TASKS, json.loads(name), json.loads(where))
    yield rows_of(tmp_path / "rows")
    sys.modules.pop("tasks.scitail", None)


def rows_of(root):
    folder = root / "allenai__scitail" / "tsv_format"
    folder.mkdir(parents=True)
    for split, n in (("train", 48), ("validation", 16), ("test", 16)):
        rows = []
        for i in range(n):
            premise, hypothesis = (ENTAILS, NEUTRAL)[i % 2]
            words = f"thing{i % 7}", f"shade{i % 5}"
            label = ("entails", "neutral")[i % 2]
            rows.append({"premise": premise.format(*words), "hypothesis": hypothesis.format(*words), "label": label})
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return root


def test_the_example_is_under_forty_lines_and_one_in_the_registry():
    assert len(MODULE.splitlines()) < 40 and len(LINE.splitlines()) == 1


def test_it_is_listed_and_loads(scitail):
    table = tasks.list_tasks(str(scitail))
    (line,) = (line for line in table.splitlines() if line.startswith("scitail "))
    assert line.split() == ["scitail", "sentence_pair", "accuracy", "48", "allenai/scitail", "en"]
    examples = tasks.get_task("scitail").load("test", "en", Rows(scitail))
    assert examples[1] == {"text_a": "the thing1 is shade1", "text_b": "nobody knows thing1", "label": 1}


def test_it_trains_as_a_target(scitail, tiny_model, cli, tmp_path):
    out = tmp_path / "out"
    done = cli(
        "run_target.py",
        "--task",
        "scitail",
        "--model_name_or_path",
        tiny_model,
        "--data_root",
        scitail,
        "--output_dir",
        out,
        "--max_steps",
        2,
        "--per_device_train_batch_size",
        8,
        "--max_seq_length",
        32,
        "--learning_rate",
        "1e-3",
    )
    assert done.returncode == 0, done.stderr
    record = json.loads((out / "results.json").read_text())
    assert record["task"] == "scitail" and set(record["scores"]) == {"en"} and record["n"] == {"en": 16}
    lines = (out / "predictions" / "scitail" / "test-en.tsv").read_text().split()
    assert len(lines) == 16 and set(lines) <= {"entails", "neutral"}


# ---- the table of base classes --------------------------------------------------------------------------------------

PLACE = '("me/own", "all", {"train": "train", "dev": "dev", "test": "test"})'
OWN = {
    "tasks.sentence_pair.SentencePair": (
        'columns, labels = ("one", "two", "gold"), ("yes", "no")',
        {"one": "a b", "two": "c", "gold": "no"},
        {"text_a": "a b", "text_b": "c", "label": 1},
    ),
    "tasks.topic.Sentence": (
        'columns, labels = ("words", "gold"), ("yes", "no")',
        {"words": "a b", "gold": "no"},
        {"text_a": "a b", "label": 1},
    ),
    "tasks.span.Span": (
        "",
        {"id": "1", "context": "a b", "question": "q?", "answers": {"text": ["b"], "answer_start": [2]}},
        {"context": "a b", "question": "q?"},
    ),
    "tasks.multiple_choice.MultipleChoice": (
        """n_choices, columns = 2, ("text", "first", "second", "label")

    def row(self, row):
        return {"prompt": row["text"], "choices": [row["first"], row["second"]]}""",
        {"text": "a", "first": "b", "second": "c", "label": 1},
        {"prompt": "a", "choices": ["b", "c"], "label": 1},
    ),
    "tasks.tagging.Tagging": (
        'columns, labels = ("words", "kinds"), ("N", "V")',
        {"words": ["a", "b"], "kinds": ["V", "N"]},
        {"tokens": ["a", "b"], "tags": [1, 0]},
    ),
    "tasks.retrieval.Tatoeba": (
        'columns = ("foreign", "english")',
        {"foreign": "ein", "english": "one"},
        {"source": "ein", "target": "one"},
    ),
    "tasks.retrieval.ParallelText": (
        """sources = retrieval.one_file("me/own", "test")""",
        {"eng_Latn": "one", "deu_Latn": "ein"},
        {"source": "ein", "target": "one"},
    ),
}


def test_the_table_has_every_base_class():
    assert re.findall(r"^\| [^|]*\| `(tasks\.\w+\.\w+)` \|", PAGE, re.MULTILINE) == list(OWN)


@pytest.mark.parametrize("base", OWN)
def test_each_base_class_reads_own_columns(base, tmp_path):
    """Tatoeba renamed the columns of the Hub's copy, whatever `columns` said."""
    body, row, expected = OWN[base]
    module, _, name = base.rpartition(".")
    sources = "" if "sources" in body else f"sources = (Source{PLACE},)"
    text = f"""
from tasks import retrieval
from tasks.source import Source
from {module} import {name}

class Own({name}):
    name, languages_in = "own", ""
    {sources}
    {body}
"""
    (tmp_path / "own_task.py").write_text(text)
    spec = importlib.util.spec_from_file_location("own_task", tmp_path / "own_task.py")
    found = importlib.util.module_from_spec(spec)
    sys.modules["own_task"] = found
    try:
        spec.loader.exec_module(found)
        config, language = ("default", "de") if "ParallelText" in base else ("all", "en")
        folder = tmp_path / "me__own" / config
        folder.mkdir(parents=True)
        (folder / "test.jsonl").write_text(json.dumps(row) + "\n")
        examples = found.Own().load("test", language, Rows(tmp_path))
        assert {key: examples[0][key] for key in expected} == expected
    finally:
        del sys.modules["own_task"]


def test_own_sentences_are_measured(tmp_path, monkeypatch, cli, tiny_model):
    class Mine(Tatoeba):
        name, columns = "mine", ("english", "foreign")[::-1]
        sources = (Source("me/mine", "{language}", {"test": "test"}),)

    monkeypatch.setitem(tasks.TASKS, "mine", "test_add_a_task:Mine")
    monkeypatch.setattr(sys.modules[__name__], "Mine", Mine, raising=False)
    (tmp_path / "rows/me__mine/de").mkdir(parents=True)
    pairs = [{"english": f"one {i}\n", "foreign": f"ein {i}"} for i in range(12)]
    (tmp_path / "rows/me__mine/de/test.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    place = ["--data_root", tmp_path / "rows", "--output_dir", tmp_path / "out", "--tasks", "mine"]
    done = cli("run_retrieval.py", "--model_name_or_path", tiny_model, *place)
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "out/mine/results.json").read_text())
    assert record["n"] == {"de": 12} and "12 sentences without the line end" in record["data"][0]["notes"][0]
