"""The contents of results.json, and what is refused."""

import json
import os
import sys

import numpy as np
import pytest
import records

from tasks.errors import UserError
from tasks.rows import sha256
from xstilts.run import consistency, results
from xstilts.run.environment import command_line
from xstilts.run.record import SCHEMA


def make_result(**changes):
    """Returns a valid target result with two languages, with `changes` made to it."""
    result = {
        "phase": "target",
        "task": "xnli",
        "form": "sentence_pair",
        "arm": "mnli",
        "seed": 0,
        "model": "runs/world/mnli/seed0",
        "parents": ["tiny", "runs/world/mnli/seed0"],
        "metric": "accuracy",
        "chance": {"accuracy": 100 / 3},
        "at_chance": False,
        "dev": {"en": {"accuracy": 81.0}},
        "scores": {"en": {"accuracy": 80.0}, "qaa": {"accuracy": 61.0}, "qab": {"accuracy": 42.0}},
        "n": {"en": 100, "qaa": 100, "qab": 50},
        "settings": {"learning_rate": 1e-5},
        "data": [{"id": "facebook/xnli", "config": "en", "split": "test", "rows": 100, "revision": "abc"}],
        "seconds": 12.5,
    }
    return result | changes


def make_retrieval(**changes):
    layers = {str(k): {"qaa": {"accuracy": 10.0 * k}} for k in range(3)}
    retrieval = {"phase": "retrieval", "task": "tatoeba", "form": "parallel_retrieval", "layer": 2, "pooling": "mean"}
    scores = {"scores": layers["2"], "n": {"qaa": 50}, "layers": layers, "dev": {}}
    return make_result(**retrieval) | scores | changes


def test_round_trip_fills_in_what_follows_from_the_run(tmp_path):
    path = tmp_path / "mnli" / "seed0" / "xnli" / "results.json"
    written = records.write(path, make_result())
    read = records.read(path)
    assert read == written
    assert read["mean"] == {"accuracy": pytest.approx(61.0)}
    assert read["schema"] == SCHEMA
    assert read["versions"]["python"].startswith(f"{sys.version_info.major}.{sys.version_info.minor}")
    assert read["versions"]["numpy"] == np.__version__
    assert read["finished"].endswith("+00:00")
    assert os.listdir(path.parent) == ["results.json"]  # no temporary file is left


def test_same_key_order_whatever_the_caller_gives(tmp_path):
    result = make_result(notes=["one"], command="python x.py", finished="2026-01-01T00:00:00+00:00", versions={})
    records.write(tmp_path / "a.json", result)
    records.write(tmp_path / "b.json", dict(reversed(result.items())))
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


def test_numpy_numbers_become_plain_ones(tmp_path):
    scores = {"en": {"accuracy": np.float32(62.5)}}
    path = tmp_path / "results.json"
    records.write(path, make_result(scores=scores, n={"en": np.int64(8)}, seed=np.int64(3)))
    read = records.read(path)
    assert (read["scores"]["en"]["accuracy"], read["n"]["en"], read["seed"]) == (62.5, 8, 3)


@pytest.mark.parametrize(
    "changes, named",
    [
        ({"scores": {"en": {"accuracy": 100.5}}, "n": {"en": 1}}, "scores.en.accuracy is 100.5"),
        ({"scores": {"en": {"accuracy": float("nan")}}, "n": {"en": 1}}, "scores.en.accuracy is nan"),
        ({"scores": {"en": {"accuracy": "80"}}, "n": {"en": 1}}, "scores.en.accuracy is '80'"),
        ({"scores": {"en": {"f1": 80.0}}, "n": {"en": 1}}, "lacks the main metric 'accuracy'"),
        ({"scores": {}, "n": {}}, "scores is empty"),
        ({"dev": {"en": {"accuracy": -1}}}, "dev.en.accuracy is -1"),
        ({"chance": {"accuracy": 333}}, "chance.accuracy is 333"),
        ({"mean": {"accuracy": 50.0}}, "mean is"),
        ({"n": {"en": 100}}, "n has the languages"),
        ({"n": {"en": 100, "qaa": 0, "qab": 50}}, "n.qaa is 0"),
        ({"phase": "training"}, "phase is 'training'"),
        ({"seed": "0"}, "seed is '0', expected a whole number"),
        ({"seed": True}, "seed is True, expected a whole number"),
        ({"at_chance": 0}, "at_chance is 0, expected true or false"),
        ({"layres": {}}, "unknown 'layres'"),
        ({"settings": {"when": object()}}, "settings cannot be written as JSON"),
        ({"settings": {"rate": float("inf")}}, "settings cannot be written as JSON"),
        ({"data": [{"id": "a/b", "config": "c", "split": "test", "rows": 1}]}, "lacks revision or sha256"),
        ({"phase": "retrieval"}, "missing layer, pooling"),
        ({"schema": 2}, "schema is 2, this version reads 1"),
        ({"seconds": float("nan")}, "seconds is nan"),
    ],
)
def test_write_refuses_and_names_the_key(tmp_path, changes, named):
    path = tmp_path / "results.json"
    with pytest.raises(UserError) as error:
        records.write(path, make_result(**changes))
    assert named in str(error.value) and "\n" not in str(error.value)
    assert os.listdir(tmp_path) == []


def test_missing_key_is_named(tmp_path):
    result = make_result()
    del result["form"]
    with pytest.raises(UserError, match="missing form"):
        records.write(tmp_path / "results.json", result)


def test_retrieval_layers(tmp_path):
    path = tmp_path / "results.json"
    records.write(path, make_retrieval())
    assert records.read(path)["layers"]["1"] == {"qaa": {"accuracy": 10.0}}
    with pytest.raises(UserError, match="layer is 7, not one of layers"):
        records.write(path, make_retrieval(layer=7))
    with pytest.raises(UserError, match="layers.2.qaa.accuracy is 120"):
        records.write(path, make_retrieval(layers={"2": {"qaa": {"accuracy": 120}}}))
    assert records.read(path)["layer"] == 2  # a refused write leaves the file as it was


def test_read_refuses_what_is_not_whole(tmp_path):
    path = tmp_path / "results.json"
    records.write(path, make_result())
    whole = path.read_text()
    broken = {
        "truncated": whole[: len(whole) // 2],
        "newer": whole.replace('"schema": 1', '"schema": 2'),
        "older": whole.replace('"schema": 1', '"schema": 0'),
        "not a number": whole.replace("61.0", "NaN"),
        "list": "[]",
    }
    record = json.loads(whole)
    del record["parents"]
    broken["incomplete"] = json.dumps(record)
    for text in broken.values():
        path.write_text(text)
        with pytest.raises(UserError, match="results.json"):
            records.read(path)
    path.write_bytes(b'{"task": "\xff"}')
    with pytest.raises(UserError, match="results.json"):
        records.read(path)


def test_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="cannot be written"):
        records.write(tmp_path / "file" / "results.json", make_result())


def test_paths_are_sorted_and_leaves_checkpoints_out(tmp_path):
    for folder in ("b/seed0", "a/seed0/xnli", "a/seed0/checkpoint-5", "a/seed0"):
        records.write(tmp_path / folder / "results.json", make_result())
    found = [path.parent.relative_to(tmp_path).as_posix() for path in results.paths(tmp_path)]
    assert found == ["a/seed0", "a/seed0/xnli", "b/seed0"]
    with pytest.raises(UserError, match="not a folder"):
        results.paths(tmp_path / "nowhere")


def test_mean_is_over_languages_and_shared_metrics():
    scores = {"en": {"f1": 90.0, "accuracy": 1.0}, "de": {"f1": 60.0}, "sw": {"f1": 30.0, "accuracy": 3.0}}
    assert consistency.mean(scores) == {"f1": 60.0}
    assert consistency.mean({}) == {}


@pytest.mark.parametrize(
    "arguments, expected",
    [
        (["--hub_token", "hf_secret", "--seed", "1"], "--hub_token '<hidden>' --seed 1"),
        (["--hub_token=hf_secret"], "'--hub_token=<hidden>'"),
        (["--hub-token", "secret"], "--hub-token '<hidden>'"),
        (["--hub_tok", "secret"], "--hub_tok '<hidden>'"),
        (["--token", "secret"], "--token '<hidden>'"),
        (["--note", "hf_abcdefghijklmnopqrst"], "--note '<hidden>'"),
        (["--task", "xnli", "--hub_private_repo", "a b"], "--task xnli --hub_private_repo 'a b'"),
    ],
)
def test_command_line_hides_tokens(arguments, expected):
    assert command_line(["run_target.py", *arguments]) == f"python run_target.py {expected}"


def test_command_line_leaves_out_folders_of_the_machine():
    assert command_line(["/opt/somewhere/else/run_target.py"]) == "python run_target.py"


def test_file_sha256(tmp_path):
    (tmp_path / "x").write_bytes(b"abc")  # the first test vector of FIPS 180-2
    assert sha256(tmp_path / "x").startswith("ba7816bf8f01cfea414140de5dae2223")
