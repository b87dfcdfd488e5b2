"""Generated input: rows, YAML, arguments, checkpoints, results. Each is accepted, or refused in one line; no
traceback.

The cases are the same in every run; HYPOTHESIS_SEED=n draws others.
"""

import contextlib
import functools
import json
import os
import shutil
from pathlib import Path

import pytest
import records
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from tasks import get_task
from tasks.errors import UserError
from tasks.rows import Rows
from xstilts.checkpoint import heads
from xstilts.checkpoint.config import check_checkpoint
from xstilts.checkpoint.encoder import load_encoder
from xstilts.checkpoint.tokenizer import load_tokenizer
from xstilts.cli import arguments, parsing
from xstilts.report import spec
from xstilts.report.matrix import collect
from xstilts.retrieve.embedding import Encoder
from xstilts.run.lifecycle import Run
from xstilts.train import featurizing
from xstilts.train.training_arguments import training_arguments

ROOT = Path(__file__).resolve().parents[1]


def cases(number):
    """`number` drawn cases of a test that may use fixtures (they are made once for all cases)."""

    def decorate(test):
        # to shrink a case takes minutes
        fixed = settings(
            max_examples=number,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            derandomize="HYPOTHESIS_SEED" not in os.environ,
            suppress_health_check=list(HealthCheck),
        )
        return fixed(seed(int(os.environ["HYPOTHESIS_SEED"]))(test) if "HYPOTHESIS_SEED" in os.environ else test)

    return decorate


@contextlib.contextmanager
def judged():
    """Whatever is done here succeeds, or is refused in one line that says something."""
    try:
        yield
    except UserError as error:
        assert str(error).strip() and "\n" not in str(error).strip(), str(error)


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["", " ", "nan", "\u0000", "\ud7ff", "0", "-1", "[]", "é" * 300, "None"]),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)


def spoil(data, value):
    """A JSON value with something in it dropped, replaced, or added."""
    if isinstance(value, dict) and value:
        key = data.draw(st.sampled_from(sorted(value)))
        how = data.draw(st.sampled_from(["deeper", "drop", "replace", "add"]))
        rest = {k: v for k, v in value.items() if k != key}
        if how == "add":
            return value | {data.draw(st.text(max_size=5)): data.draw(VALUES)}
        return (
            rest if how == "drop" else rest | {key: spoil(data, value[key]) if how == "deeper" else data.draw(VALUES)}
        )
    if isinstance(value, list) and value:
        at = data.draw(st.integers(0, len(value) - 1))
        how = data.draw(st.sampled_from(["deeper", "drop", "replace"]))
        part = [] if how == "drop" else [spoil(data, value[at]) if how == "deeper" else data.draw(VALUES)]
        return value[:at] + part + value[at + 1 :]
    return data.draw(VALUES)


def damage(data, content):
    """Bytes cut off, with one exchanged, or with some in between."""
    at = data.draw(st.integers(0, max(len(content) - 1, 0)))
    how = data.draw(st.sampled_from(["cut", "exchange", "insert"]))
    if how == "cut":
        return content[:at]
    extra = data.draw(st.binary(min_size=1, max_size=4))
    return content[:at] + extra + content[at + (len(extra) if how == "exchange" else 0) :]


# ---- rows -----------------------------------------------------------------------------------------------------------

FORMS = (
    "xnli mnli pawsx udpos panx tatoeba squad squad_v2 tydiqa hellaswag copa csqa siqa cosmosqa lareqa mewslix".split()
)


@functools.cache
def sources(world):
    """{task: (split, language, file below the world, its first three rows)}, of what the world has."""
    import pyarrow.parquet as pq

    found = {}
    for name in FORMS:
        task, rows = get_task(name), Rows(world)
        if not task.sources:
            continue
        for split, language in (("test", "qaa"), ("dev", "en")):
            with contextlib.suppress(UserError):
                source, config, expression = task.locate(split, language, rows)
                file = rows.file(source.id, config, expression.partition("[")[0].partition("+")[0].partition(",")[0])
                if file:
                    found.setdefault(name, (split, language, file.relative_to(world), pq.read_table(file).slice(0, 3)))
    assert len(found) == len(FORMS), found
    return found


def read_all(name, split, language, root, tokenizer):
    """What a run does with a split before its model sees it, and a score of what is right."""
    rows = Rows(root)
    task = get_task(name)
    examples = task.load(split, language, rows)
    if task.auto_class:
        task.prepare(rows)
        featurizing.featurize(task, examples, tokenizer, 48, False, "malformed")
        task.score(task.gold(examples), examples, language)


@cases(160)
@given(data=st.data())
def test_rows_with_other_values(data, tiny_world, tokenizer, tmp_path_factory):
    name = data.draw(st.sampled_from(sorted(sources(tiny_world))))
    split, language, file, table = sources(tiny_world)[name]
    root = tmp_path_factory.mktemp("rows")
    path = (root / file).with_suffix(".jsonl")
    path.parent.mkdir(parents=True)
    rows = spoil(data, table.to_pylist())
    path.write_bytes(
        b"".join(json.dumps(row, default=str).encode("utf-8", "surrogatepass") + b"\n" for row in rows)
        if isinstance(rows, list)
        else b""
    )
    with judged():
        read_all(name, split, language, root, tokenizer)
    shutil.rmtree(root)


@cases(60)
@given(data=st.data())
def test_files_with_other_bytes(data, tiny_world, tokenizer, tmp_path_factory):
    import pyarrow.parquet as pq

    name = data.draw(st.sampled_from(["xnli", "udpos", "squad", "tatoeba"]))
    split, language, file, table = sources(tiny_world)[name]
    root = tmp_path_factory.mktemp("bytes")
    (root / file).parent.mkdir(parents=True)
    if data.draw(st.booleans()):
        path = root / file
        pq.write_table(table, path)
    else:
        path = (root / file).with_suffix(".jsonl")
        path.write_text("".join(json.dumps(row) + "\n" for row in table.to_pylist()))
    path.write_bytes(damage(data, path.read_bytes()))
    with judged():
        read_all(name, split, language, root, tokenizer)
    shutil.rmtree(root)


# ---- YAML and arguments ---------------------------------------------------------------------------------------------

SCRIPTS = ["run_intermediate.py", "run_mlm.py", "run_target.py", "run_retrieval.py", "run_report.py"]


@functools.cache
def kinds(script):
    """(the argument classes a script parses, whether TrainingArguments follow), as the script itself gives them to
    `parse`."""
    import importlib

    caught = {}
    module = importlib.import_module(script.removesuffix(".py"))
    plain = module.parse

    def parse(argv, name, text, *classes, training=True):
        caught["found"] = classes, training
        raise UserError("seen")

    module.parse = parse
    try:
        with pytest.raises(UserError, match="seen"):
            module.main([])
    finally:
        module.parse = plain
    return caught["found"]


@functools.cache
def flags(script):
    from transformers import TrainingArguments

    classes, training = kinds(script)
    return sorted(
        {name for one in (*classes, *([TrainingArguments] if training else [])) for name in one.__dataclass_fields__}
    )


def parsed(script, argv, folder):
    classes, training = kinds(script)
    ours, rest = parsing.parse(argv, script, "text", *classes, training=training)
    run = next((one for one in ours if isinstance(one, arguments.RunArguments)), None)
    if run is not None and training:
        run.output_dir = str(folder)
        training_arguments(run, rest, {})


@cases(80)
@given(data=st.data())
def test_yaml(data, tmp_path_factory):
    import yaml

    script = data.draw(st.sampled_from(SCRIPTS))
    names = st.sampled_from([*flags(script), "config", "script", "description"]) | st.text(max_size=6)
    folder = tmp_path_factory.mktemp("yaml")
    if data.draw(st.booleans()):
        recipe = data.draw(st.dictionaries(names, VALUES, max_size=3))
        text = yaml.safe_dump(recipe, allow_unicode=True).encode("utf-8", "surrogatepass")
    else:
        text = damage(data, data.draw(st.sampled_from(sorted((ROOT / "recipes").glob("*/*.yaml")))).read_bytes())
    (folder / "recipe.yaml").write_bytes(text)
    with judged():
        parsed(script, ["--config", str(folder / "recipe.yaml")], folder)
    with judged():
        spec.read_spec(folder / "recipe.yaml")
    shutil.rmtree(folder)


@cases(80)
@given(data=st.data())
def test_arguments(data, tmp_path_factory):
    script = data.draw(st.sampled_from(SCRIPTS))
    values = st.one_of(
        st.integers(-3, 10**12).map(str),
        st.floats().map(str),
        st.text(max_size=6),
        st.sampled_from(["true", "no", "", "-1", "{", "[]", "cuda", "steps", "epoch", "nowhere/at/all"]),
    )
    argv = []
    for _ in range(data.draw(st.integers(1, 3))):
        flag = data.draw(st.sampled_from(flags(script)) | st.text(max_size=6))
        if flag not in ("config", "fsdp", "deepspeed", "output_dir", "accelerator_config", "report_to"):
            argv += [f"--{flag}", *data.draw(st.lists(values, max_size=2))]
    with judged():
        parsed(script, argv, tmp_path_factory.mktemp("arguments"))


@pytest.mark.parametrize(
    "argv, told",
    [
        ("--layer ²", "--layer ²: expected a number"),
        ("--splits nope.test=test", "there is no task 'nope'"),
        ("--splits tatoeb.test=test", "Did you mean tatoeba?"),
        ("--cache_dir CACHE --index IVF0,Flat", "has 0 lists"),
    ],
)
def test_retrieval_arguments_that_mean_nothing(argv, told, cli, tiny_model, tiny_world, tmp_path):
    """A traceback each, but --splits: a misspelt task left the split as it was, unseen."""
    found = cli(
        "run_retrieval.py",
        "--tasks",
        "tatoeba",
        "--model_name_or_path",
        tiny_model,
        "--data_root",
        tiny_world,
        "--output_dir",
        tmp_path / "out",
        *(str(tmp_path / "cache") if word == "CACHE" else word for word in argv.split()),
    )
    assert found.returncode == 2 and told in found.stderr and "Traceback" not in found.stderr, found.stderr


def test_a_file_where_the_folder_of_a_cell_belongs(cli, tiny_model, tiny_world, tmp_path):
    (tmp_path / "tatoeba").touch()
    found = cli(
        "run_retrieval.py",
        "--tasks",
        "tatoeba",
        "--model_name_or_path",
        tiny_model,
        "--data_root",
        tiny_world,
        "--output_dir",
        tmp_path,
    )
    assert found.returncode == 2 and f"{tmp_path}/tatoeba cannot be written" in found.stderr, found.stderr


# ---- checkpoints ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "file, key, value, told",
    [
        ("config.json", "hidden_size", [], "no usable config.json|does not load"),
        ("config.json", "hidden_act", "nope", "be loaded|load as"),
        ("tokenizer_config.json", "model_max_length", {}, "model_max_length"),
        ("tokenizer_config.json", "model_max_length", -1, "model_max_length"),
        *(
            ("tokenizer_config.json", "model_input_names", value, "model_input_names")
            for value in ([["input_ids"]], [None], [], {}, "input_ids", ["attention_mask"])
        ),
        ("tokenizer.json", "model", None, "tokenizer"),
    ],
)
def test_a_checkpoint_with_one_wrong_field_is_refused_by_both_ways_to_load_it(
    file, key, value, told, tiny_model, tmp_path
):
    shutil.copytree(tiny_model, tmp_path / "model")
    path = tmp_path / "model" / file
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises(UserError, match=told):
        Encoder.load(tmp_path / "model")
    with pytest.raises(UserError, match=told):
        load_tokenizer(str(tmp_path / "model"))
        load_encoder(str(tmp_path / "model"))


@pytest.mark.parametrize(
    "script, more",
    [
        ("run_target.py", ["--task", "xnli"]),
        ("run_mlm.py", ["--text_languages", "en"]),
        ("run_intermediate.py", ["--tasks", "squad_dual", "--per_device_train_batch_size", 4]),
    ],
)
def test_a_tokenizer_of_another_model_is_refused(script, more, cli, tiny_model, tiny_world, tmp_path):
    """It has more pieces than the model has embeddings: an IndexError in mid-training, a CUDA assertion on a GPU."""
    from safetensors.torch import load_file, save_file

    shutil.copytree(tiny_model, tmp_path / "model")
    config, weights = tmp_path / "model" / "config.json", tmp_path / "model" / "model.safetensors"
    told = json.loads(config.read_text())
    rows = told["vocab_size"] - 50
    config.write_text(json.dumps(told | {"vocab_size": rows}))
    tensors = {name: (t[:rows].clone() if len(t) == rows + 50 else t) for name, t in load_file(weights).items()}
    save_file(tensors, weights, metadata={"format": "pt"})
    found = cli(
        script,
        "--model_name_or_path",
        tmp_path / "model",
        "--data_root",
        tiny_world,
        "--output_dir",
        tmp_path / "out",
        "--max_steps",
        1,
        *more,
    )
    assert found.returncode == 2 and "but the model only" in found.stderr, found.stderr
    assert not (tmp_path / "out/run.json").exists()


@cases(50)
@given(data=st.data())
def test_checkpoints(data, tiny_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoint") / "model"
    shutil.copytree(tiny_model, folder)
    path = folder / data.draw(
        st.sampled_from(["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"])
    )
    if path.suffix == ".json" and data.draw(st.booleans()):
        path.write_bytes(json.dumps(spoil(data, json.loads(path.read_text()))).encode("utf-8", "surrogatepass"))
    elif data.draw(st.booleans()):
        path.write_bytes(damage(data, path.read_bytes()))
    else:
        path.unlink()
    with judged():
        name = check_checkpoint(str(folder))
        tokenizer = load_tokenizer(name)
        model = heads.fresh_head(get_task("xnli"), name)
        featurizing.max_length(arguments.DataArguments(), 64, tokenizer, model.config)
    with judged():
        Encoder.load(folder, layers="all").embed(["two words", "one"])
    shutil.rmtree(folder.parent)


@cases(40)
@given(data=st.data())
def test_interrupted_run(data, tmp_path_factory):
    """What lies in its folder decides where it goes on: run.json, a checkpoint's state, an older result."""
    folder = tmp_path_factory.mktemp("run")
    told = {"learning_rate": 1e-3, "model": "m", "data_root": "hub"}
    files = {"run.json": told, "checkpoint-4/trainer_state.json": {"global_step": 4}, "results.json": RECORD}
    for name, content in files.items():
        if data.draw(st.booleans()):
            (folder / name).parent.mkdir(exist_ok=True)
            text = json.dumps(content).encode()
            (folder / name).write_bytes(damage(data, text) if data.draw(st.booleans()) else text)
    run = arguments.RunArguments(output_dir=str(folder))
    with judged():
        with Run.open(run, told, Rows()) as begun:
            if not begun.finished:
                begun.begin()
    shutil.rmtree(folder)


# ---- results --------------------------------------------------------------------------------------------------------

RECORD = {
    "schema": 1,
    "phase": "retrieval",
    "task": "tatoeba",
    "form": "retrieval",
    "arm": "none",
    "seed": 0,
    "model": "m",
    "parents": ["m"],
    "metric": "accuracy",
    "chance": {"accuracy": 20.0},
    "at_chance": False,
    "dev": {},
    "scores": {"qaa": {"accuracy": 60.0}, "qab": {"accuracy": 40.0}},
    "n": {"qaa": 5, "qab": 5},
    "mean": {"accuracy": 50.0},
    "layer": 1,
    "pooling": "mean",
    "layers": {"1": {"qaa": {"accuracy": 60.0}, "qab": {"accuracy": 40.0}}},
    "measures": {"bias": 1.0},
    "notes": ["a note"],
    "settings": {"layer": "all"},
    "data": [{"id": "a", "config": "b", "split": "test", "sha256": "0" * 64, "rows": 5}],
    "versions": {"python": "3.11"},
    "command": "python run_retrieval.py",
    "seconds": 3.5,
    "finished": "2026-01-01T00:00:00+00:00",
}


@cases(120)
@given(data=st.data())
def test_results(data, tmp_path_factory):
    """One broken file beside a good one: it is named, and the good one is still reported."""
    root = tmp_path_factory.mktemp("results")
    records.write(root / "good/seed0/tatoeba/results.json", RECORD | {"arm": "good"})
    path = root / "none/seed0/tatoeba/results.json"
    path.parent.mkdir(parents=True)
    if data.draw(st.booleans()):
        path.write_bytes(json.dumps(spoil(data, RECORD)).encode("utf-8", "surrogatepass"))
    else:
        path.write_bytes(damage(data, json.dumps(RECORD).encode()))
    with judged():
        records.read(path)
    matrix = collect(root)
    assert ("good", "tatoeba", 0) in matrix.records
    assert len(matrix.records) == 2 or matrix.problems or matrix.trainings or matrix.missing
    shutil.rmtree(root)
