"""Record: results.json of schema 1, byte for byte, defined in one place."""

import copy
import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tasks.errors import UserError
from xstilts.run.record import PHASES, Record

RECORDS = Path(__file__).parent / "records"  # written by runs of the miniature world before there was a Record
ORDER = (
    "schema phase task form arm seed model parents metric chance at_chance dev scores n mean settings data versions "
    "command seconds finished layer pooling layers measures notes"
).split()
LAYERS = {k: {"qaa": {"accuracy": 10.0 * k}, "qab": {"accuracy": 20.0 * k}} for k in range(3)}


def kept(phase):
    return json.loads((RECORDS / f"{phase}.json").read_text(encoding="utf-8"))


def as_before(record):
    """The bytes that the writer of plain objects made, before there was a Record."""
    return (
        json.dumps({key: record[key] for key in ORDER if key in record}, indent=1, ensure_ascii=False) + "\n"
    ).encode()


def new(folder, **changes):
    run = SimpleNamespace(arm="mnli", seed=np.int64(3), output_dir=str(folder))
    given = {
        "phase": "retrieval",
        "task": "tatoeba",
        "form": "retrieval",
        "model": "tiny",
        "metric": "accuracy",
        "chance": {},
        "scores": LAYERS[2],
        "n": {"qaa": 5, "qab": np.int64(5)},
        "layer": 2,
        "pooling": "mean",
        "layers": LAYERS,
        "settings": {"model": "tiny", "rate": np.float32(0.5)},
        "seconds": 1.26,
        "data": [{"id": "a", "config": "c", "split": "test", "rows": 5, "sha256": "0", "file": "/x/y"}] * 2,
    }
    return Record.new(run, **given | changes)


@pytest.mark.parametrize("phase", PHASES)
def test_files_of_before_are_read_and_written_unchanged(phase, tmp_path):
    path = RECORDS / f"{phase}.json"
    record = Record.read(path)
    assert record.phase == phase and record.is_training == (phase in ("mlm", "intermediate"))
    record.write(tmp_path / "results.json")
    assert (
        (tmp_path / "results.json").read_bytes()
        == path.read_bytes()
        == as_before(json.loads(path.read_text(encoding="utf-8")))
    )
    assert list(record.to_dict()) == [key for key in ORDER if key in record.to_dict()]


@pytest.mark.parametrize("phase", PHASES)
def test_keys_that_a_file_may_lack_are_not_added(phase, tmp_path):
    optional = ORDER[ORDER.index("measures") :] + (["layers"] if phase == "retrieval" else ["layer", "pooling"])
    values = {key: value for key, value in kept(phase).items() if key not in optional}
    Record.from_dict(values, "x").write(tmp_path / "results.json")
    assert (tmp_path / "results.json").read_bytes() == as_before(values)
    for key in optional:
        with pytest.raises(UserError, match=f"^x: {key} is None"):
            Record.from_dict(values | {key: None}, "x")


def test_a_run_says_what_is_its_own_and_the_rest_is_filled_in(tmp_path):
    parent = tmp_path / "mnli/seed0"
    Record.from_dict(kept("intermediate"), "x").write(parent / "results.json")
    record = new(tmp_path, model=str(parent))
    assert (record.arm, record.seed, record.seconds, record.notes, record.at_chance, record.dev) == (
        "mnli",
        3,
        1.3,
        [],
        False,
        {},
    )
    assert (
        record.mean == {"accuracy": 30.0}
        and record.schema == 1
        and "numpy" in record.versions
        and "python" in record.command
    )
    assert record.finished.endswith("+00:00")
    assert record.parents == [*kept("intermediate")["parents"], ".../seed0"] and record.model == ".../seed0"
    assert record.data == [{"id": "a", "config": "c", "split": "test", "rows": 5, "sha256": "0"}]
    assert record.measures is None and "measures" not in record.to_dict() and list(record.layers) == ["0", "1", "2"]
    record.write(tmp_path / "results.json")
    read = Record.read(tmp_path / "results.json")
    assert (read.seed, read.n, read.settings["rate"]) == (3, {"qaa": 5, "qab": 5}, 0.5)
    assert read.by_layer == LAYERS


def test_a_training_without_an_arm_is_named_by_its_task_and_a_measurement_is_not(tmp_path):
    run = SimpleNamespace(arm=None, seed=0, output_dir=str(tmp_path))
    common = {"task": "mnli", "form": "x", "model": "m", "metric": "f1", "settings": {}, "data": [], "seconds": 1}
    assert Record.new(run, phase="intermediate", **common).arm == "mnli"
    with pytest.raises(UserError, match="results.json: arm is None"):
        Record.new(run, phase="target", scores={"en": {"f1": 1}}, n={"en": 1}, **common)


@pytest.mark.parametrize(
    "changes, named",
    [
        ({"scores": {"qaa": {"accuracy": 120}}}, "scores.qaa.accuracy is 120"),
        ({"layer": 7}, "layer is 7"),
        ({"pooling": None}, "missing pooling"),
        ({"phase": "training"}, "phase is 'training'"),
        ({"measures": {"steps": float("nan")}}, "measures.steps is nan"),
        ({"n": {"qaa": 5}}, "n has the languages"),
    ],
)
def test_what_breaks_a_rule_is_named_with_the_file_before_anything_is_written(changes, named, tmp_path):
    with pytest.raises(UserError) as error:
        new(tmp_path, **changes)
    assert f"{tmp_path / 'results.json'}: {named}" in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_the_scores_are_those_of_the_headline_layer(tmp_path):
    """A layer that was chosen after the scores were taken, or a table that was edited."""
    values = json.loads(new(tmp_path).to_json())
    other = copy.deepcopy(values)
    other["layers"]["2"]["qab"]["accuracy"] = 39.0
    with pytest.raises(UserError, match=r"^x: scores.qab is {'accuracy': 40.0}, but layers.2.* {'accuracy': 39.0}"):
        Record.from_dict(other, "x")
    with pytest.raises(UserError, match="^x: scores.qaa is .*layers.1"):
        Record.from_dict(values | {"layer": 1}, "x")
    Record.from_dict(values, "x")


def test_a_record_stays_as_it_is_and_another_is_checked():
    record = Record.from_dict(kept("target"), "x")
    with pytest.raises(dataclasses.FrozenInstanceError):
        record.arm = "squad"
    assert dataclasses.replace(record, arm="squad").arm == "squad"
    with pytest.raises(UserError, match="^seconds is -1"):
        dataclasses.replace(record, seconds=-1)


@pytest.mark.parametrize("phase", PHASES)
def test_no_key_takes_a_value_of_another_type(phase):
    """Every key: null (but where there is no such thing), a list, an object, true, NaN, a number beyond 64 bits."""
    values = kept(phase)
    for key, value in values.items():
        for odd in (None, ["x", 3], {"x": 3j}, True, float("nan"), 10**30, "\ud800"):
            if odd is None and key == "chance" or isinstance(odd, bool) and isinstance(value, bool):
                continue
            if key == "settings" and isinstance(odd, dict):  # shown only
                continue
            with pytest.raises(UserError, match=f"^x: ({key}|scores|mean|missing|layer)") as error:
                Record.from_dict(values | {key: odd}, "x")
            assert "\n" not in str(error.value)
