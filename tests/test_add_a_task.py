"""docs/add-a-task.md is executed: its class, its line in the registry, and the scripts with it."""

import importlib
import json
import re
import sys

import pytest
from conftest import ROOT

import tasks
from tasks.rows import Rows

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
