"""A form owns its whole contract: a new one is a file in tasks/, and nothing outside that package asks for a form by
its name."""

import ast
import json

import pytest
from conftest import ROOT

import tasks
from tasks import get_task
from tasks.base import Task
from tasks.errors import UserError
from tasks.languages import BENCHMARKS
from tasks.pairs import PAIRS
from tasks.rows import Rows
from tasks.source import Source
from tasks.submitted import read_entries
from tasks.text import Wikipedia
from xstilts.xtreme import scoring, submission

# ---- nothing dispatches on a form's name ----------------------------------------------------------------------------

FORMS = {get_task(name).form for name in tasks.TASKS} | {Wikipedia.form} | {pairs.form for pairs in PAIRS.values()}
PLACES = sorted(
    path for pattern in ("*.py", "xstilts/**/*.py", "benchmarks/*.py", "recipes/*.py") for path in ROOT.glob(pattern)
)


def dispatches(source: str) -> list[int]:
    """The lines that compare a form, look something up by it, or list what there is for each form by name."""
    found = []
    for node in ast.walk(ast.parse(source)):
        asked, names = [], []
        if isinstance(node, ast.Compare):
            asked = [node.left, *node.comparators]
        elif isinstance(node, ast.Subscript):
            asked = [node.slice]
        elif isinstance(node, ast.Match):
            asked = [node.subject]
        elif isinstance(node, ast.Call):
            asked = [*node.args, node.func]
        elif isinstance(node, ast.Dict):
            names = node.keys
        elif isinstance(node, ast.Tuple | ast.List | ast.Set):
            names = node.elts
        values = [one.value for one in names if isinstance(one, ast.Constant)]
        by_name = len(values) > 1 and len(values) == len(names) and FORMS.issuperset(values)
        if by_name or any(
            isinstance(one, ast.Attribute) and "form" in (one.attr, getattr(one.value, "attr", "")) for one in asked
        ):
            found.append(node.lineno)
    return found


@pytest.mark.parametrize(
    "line",
    [
        'task.form == "span"',
        '"span" != task.form',
        'task.form in ("span", "x")',
        "READERS[task.form]",
        "READERS.get(task.form)",
        "head_of(task.form)",
        'task.form.startswith("s")',
        'match task.form:\n    case "span": pass',
        '{"span": 1, "tagging": 2}',
        'kind in ("span", "tagging")',
    ],
)
def test_a_dispatch_is_found(line):
    assert dispatches(line)


@pytest.mark.parametrize(
    "line",
    [
        "Record.new(form=task.form)",
        'Record.new(form=task.form if one else "mixture")',
        "rows.append((arm, record.form))",
    ],
)
def test_recording_a_form_is_not_a_dispatch(line):
    assert not dispatches(line)


@pytest.mark.parametrize("path", PLACES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_outside_tasks_asks_for_a_form_by_its_name(path):
    assert not dispatches(path.read_text(encoding="utf-8"))


# ---- a form that only this file knows -------------------------------------------------------------------------------


class Mood(Task):
    """Yes or no about a text, in a file of its own layout: {"row number": true or false}. The benchmark counts
    errors."""

    name, form, metric = "mood", "yes_no", "accuracy"
    auto_class, pipeline_tag, official_metrics = (
        "AutoModelForSequenceClassification",
        "text-classification",
        ("right", "sure"),
    )
    languages_in = "mood"
    columns, labels = ("text", "label"), ("no", "yes")
    sources = (Source("me/mood", "{language}", {"train": "train", "dev": "validation", "test": "test"}),)
    defaults = {"max_seq_length": 16}

    def examples(self, data, language, where):
        return data

    def featurize(self, batch, indices, tokenizer, max_length, train):
        features = {**tokenizer(batch["text"], truncation=True, max_length=max_length), "example": indices}
        return features | ({"labels": batch["label"]} if train else {})

    def collator(self, tokenizer):
        from transformers import DataCollatorWithPadding

        return DataCollatorWithPadding(tokenizer)

    def decode(self, logits, features, examples):
        return logits.argmax(-1).tolist()

    def gold(self, examples):
        return examples["label"][:]

    def score(self, predictions, examples, language):
        return {"accuracy": 100 * sum(map(int.__eq__, predictions, self.gold(examples))) / len(predictions)}

    def predictions_file(self, language):
        return f"moods/test-{language}.json"

    def lines(self, predictions, examples):
        return [json.dumps({str(row): bool(label) for row, label in enumerate(predictions)})]

    def read_lines(self, path):
        return read_entries(path, lambda value: isinstance(value, bool), "true or false")

    def compare(self, files):
        found, gold = files.read(self.read_lines)
        files.check_ids(found, gold)
        return lambda: {"right": 100 * sum(found.get(key) == gold[key] for key in gold) / len(gold), "sure": 50.0}


@pytest.fixture
def moods(tmp_path, monkeypatch):
    """Mood registered, as a task of the benchmark; its rows in a folder -> that folder."""
    monkeypatch.setitem(tasks.TASKS, "mood", f"{__name__}:Mood")
    monkeypatch.setitem(BENCHMARKS["xtreme"], "mood", ("en", "de"))
    for language in ("en", "de"):
        folder = tmp_path / "rows" / "me__mood" / language
        folder.mkdir(parents=True)
        for split in ("train", "validation", "test"):
            rows = [{"text": f"it is {'not ' * (i % 2)}good {split} {i}", "label": i % 2} for i in range(16)]
            (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path / "rows"


def test_a_new_form_is_trained_written_and_scored_from_its_own_file_alone(moods, tiny_model, cli, tmp_path):
    cell = tmp_path / "runs" / "none" / "seed0" / "mood"
    done = cli(
        "run_target.py",
        "--task",
        "mood",
        "--model_name_or_path",
        tiny_model,
        "--data_root",
        moods,
        "--output_dir",
        cell,
        "--max_steps",
        2,
        "--per_device_train_batch_size",
        8,
        "--learning_rate",
        "1e-3",
    )
    assert done.returncode == 0, done.stderr
    record = json.loads((cell / "results.json").read_text())
    assert record["form"] == "yes_no" and set(record["scores"]) == {"en", "de"}
    assert "pipeline_tag: text-classification" in (cell / "README.md").read_text()

    written = submission.gold(Rows(moods), tmp_path / "gold", ["mood"])
    assert written == {"mood": {"en": 16, "de": 16}}
    system = submission.write(tmp_path / "runs", tmp_path / "system", ["mood=none"])
    assert list(system["tasks"]["mood"]["files"]) == ["moods/test-en.json", "moods/test-de.json"]
    scores = scoring.score(tmp_path / "system", tmp_path / "gold")
    assert scores["moods"]["right"] == {language: by["accuracy"] for language, by in record["scores"].items()}
    assert scores["moods"]["avg_metric"] == (scores["moods"]["avg_right"] + 50) / 2
    assert "sure: en 50.0, de 50.0" in scoring.table(scores)

    file = tmp_path / "system" / "moods" / "test-de.json"
    file.write_text('{"0": 1}')
    with pytest.raises(UserError, match="test-de.json: entry 1, id '0', is 1. Give true or false"):
        scoring.score(tmp_path / "system", tmp_path / "gold")


# ---- rows and where they came from ----------------------------------------------------------------------------------


def test_what_was_read_keeps_its_place_whatever_is_read_next(tiny_world):
    task, rows = get_task("lareqa"), Rows(tiny_world)
    first, between, again = (
        task.read("test", "qaa", rows),
        get_task("xnli").read("test", "en", rows),
        task.read("test", "qaa", rows),
    )
    assert "facebook__xnli/en/test" in between.where and "xnli" not in again.where
    assert again.where == first.where and again.reads == first.reads
    first.note("a note")
    assert [record["id"] for record in rows.records if "notes" in record] == ["lareqa/xquad-r"]


def test_a_placeholder_names_all_files_its_gold_is_from(tmp_path):
    from xstilts.train.featurizing import load_scored

    folder = tmp_path / "facebook__anli" / "plain_text"
    folder.mkdir(parents=True)
    for part in (1, 2, 3):
        row = {"premise": f"a {part}", "hypothesis": "b", "label": 0}
        (folder / f"dev_r{part}.jsonl").write_text((json.dumps(row) + "\n") * 100)
    with pytest.raises(UserError, match=r"dev_r1\.jsonl.*dev_r2\.jsonl.*dev_r3\.jsonl: all 300 gold labels"):
        load_scored(get_task("anli"), "dev", "en", Rows(tmp_path), None)


def test_rows_that_are_only_looked_at_are_in_no_record(tmp_path):
    folder = tmp_path / "google__xtreme" / "XNLI"
    folder.mkdir(parents=True)
    row = {"language": "de", "sentence1": "a", "sentence2": "b", "gold_label": "neutral"}
    (folder / "test.jsonl").write_text(json.dumps(row) + "\n")
    rows = Rows(tmp_path)
    assert get_task("xnli").languages(rows) == ["de"] and rows.records == []


# ---- what a form says of its features and its translations ----------------------------------------------------------


def test_form_defines_the_length_of_a_feature():
    assert get_task("xnli").lengths([[1, 2], [1, 2, 3]]) == [2, 3]
    assert get_task("copa").lengths([[[1, 2], [1, 2, 3]], [[1], [1]]]) == [3, 1]


def test_form_defines_what_a_translation_must_mark():
    answers = {"text": ["Ulm", "in Ulm"], "answer_start": [13, 10]}
    row = {"id": "1", "context": "Ada lives in Ulm.", "question": "Where?", "answers": answers}
    assert get_task("squad").places(row) == {"context": (13, 16)} and get_task("xnli").places({"text_a": "a"}) == {}
    assert get_task("squad").replaced(row, {"context": [(4, "Ulm")], "question": []})["answers"] == {
        "text": ["Ulm"],
        "answer_start": [4],
    }
    empty = {**row, "answers": {"text": [], "answer_start": []}}
    assert get_task("squad_v2").places(empty) == {}
    assert get_task("squad_v2").replaced(row, {"context": [], "question": []})["answers"] == empty["answers"]


# ---- nor by the names of tasks --------------------------------------------------------------------------------------

TASK_NAMES = {*tasks.TASKS, *PAIRS}


def names_of_tasks(source: str) -> list[int]:
    """The lines with several names of tasks in one literal, or a comparison with one. `WORLD` holds measured times."""
    found = []
    for statement in ast.parse(source).body:
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "WORLD":
            continue
        for node in ast.walk(statement):
            if isinstance(node, ast.Compare):
                parts, least = [node.left, *node.comparators], 1
            elif isinstance(node, ast.Dict):
                parts, least = node.keys, 2
            elif isinstance(node, ast.Tuple | ast.List | ast.Set):
                parts, least = node.elts, 2
            else:
                continue
            named = [one for one in parts if isinstance(one, ast.Constant) and one.value in TASK_NAMES]
            found += [node.lineno] if len(named) >= least else []
    return found


@pytest.mark.parametrize("line", ['task.name == "squad"', 'x = ("xnli", "udpos")', '{"tatoeba": 1, "bucc": 2}'])
def test_a_list_of_tasks_is_found(line):
    assert names_of_tasks(line)


@pytest.mark.parametrize("path", [path for path in PLACES if path.parent.name != "benchmarks"], ids=str)
def test_nothing_outside_tasks_lists_tasks_by_name(path):
    assert not names_of_tasks(path.read_text(encoding="utf-8"))
