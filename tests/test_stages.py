"""XCOPA's two stages: Social IQa first, then COPA, with one head; begun again, a finished stage is not trained
twice."""

import json
import shutil
from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest
import torch

from tasks import get_task
from tasks.errors import UserError
from tasks.rows import Rows
from xstilts.cli.arguments import ModelArguments, RunArguments


@pytest.fixture
def setting(tiny_world, tiny_model, tokenizer, tmp_path):
    from xstilts.checkpoint import heads
    from xstilts.train.training_arguments import training_arguments

    run = SimpleNamespace(output_dir=str(tmp_path / "out"), seed=0)
    task = get_task("xcopa")
    args = training_arguments(
        run,
        [
            "--max_steps",
            "2",
            "--per_device_train_batch_size",
            "4",
            "--learning_rate",
            "1e-2",
            "--report_to",
            "none",
            "--disable_tqdm",
            "True",
        ],
        task.defaults,
        scores=["accuracy"],
        load_best_model_at_end=True,
    )
    torch.manual_seed(0)
    model = heads.fresh_head(task, str(tiny_model))
    data_args = SimpleNamespace(max_train_samples=None, max_eval_samples=8)
    model_args = ModelArguments(model_name_or_path=str(tiny_model))
    rows = Rows(tiny_world)
    return task, model, args, rows, tokenizer, (rows, tokenizer, 64, data_args), model_args


def train_before(task, model, args, rows, tokenizer, inputs, model_args):
    from xstilts.train import featurizing, stages

    before = featurizing.read_before(task, *inputs)
    stages.train_before(SimpleNamespace(), task, model, args, tokenizer, before, model_args)


def weights(model):
    return {k: v.clone() for k, v in model.state_dict().items()}


def same(one, other):
    return all(torch.equal(one[k], other[k]) for k in one)


@pytest.fixture
def trained(monkeypatch):
    """The trainers that were trained."""
    from xstilts.train import runner

    train, trainers = runner.train, []
    monkeypatch.setattr(runner, "train", lambda trainer, *more: trainers.append(trainer) or train(trainer, *more))
    return trainers


def test_the_first_stage_is_handed_on_with_its_head_and_not_repeated(setting, trained):
    _, model, _, rows, *_ = setting
    before = weights(model)
    train_before(*setting)
    assert [trainer.task.name for trainer in trained] == ["siqa"]
    after = weights(model)
    assert not torch.equal(before["classifier.weight"], after["classifier.weight"]), (
        "the head must be trained and handed on"
    )
    assert {r["id"] for r in rows.records} == {"lighteval/siqa"}
    model.load_state_dict(before)
    train_before(*setting)
    assert len(trained) == 1 and same(weights(model), after)


def test_a_task_of_one_stage_is_left_alone(setting, trained):
    _, model, args, rows, *more = setting
    before = weights(model)
    train_before(get_task("tydiqa"), model, args, rows, *more)
    assert same(weights(model), before) and not rows.records and not trained


@pytest.fixture
def start(cli, tiny_model, tmp_path):
    """`start(world)` runs XCOPA for two steps a stage, into tmp_path/xcopa."""

    def run(world):
        out = ("--data_root", world, "--output_dir", tmp_path / "xcopa", "--languages", "en", "qaa")
        size = ("--max_steps", 2, "--per_device_train_batch_size", 4, "--max_seq_length", 64)
        return cli("run_target.py", "--task", "xcopa", "--model_name_or_path", tiny_model, *out, *size)

    return run


def test_the_script_trains_both_and_leaves_no_stage_behind(start, tiny_world, tmp_path):
    out = tmp_path / "xcopa"
    done = start(tiny_world)
    assert done.returncode == 0, done.stderr
    record = json.loads((out / "results.json").read_text())
    assert {(d["id"], d["split"]) for d in record["data"]} >= {
        ("lighteval/siqa", "train"),
        ("aps/super_glue", "train"),
    }
    assert set(record["scores"]) == {"en", "qaa"} and not list(out.glob("checkpoint-*"))


def test_rows_of_the_first_stage_decide_whether_a_run_resumes(start, tiny_world, tmp_path, trained, monkeypatch):
    """They are read before the run begins: a missing file ends it there, and a corrected one starts it over."""
    from xstilts.train import runner

    out, world = tmp_path / "xcopa", tmp_path / "world"
    shutil.copytree(tiny_world, world)
    (siqa,) = (world / "lighteval__siqa").rglob("train.parquet")
    siqa.rename(tmp_path / "kept")
    refused = start(world)
    assert refused.returncode == 2 and "lighteval__siqa" in refused.stderr and not (out / "run.json").exists()

    (tmp_path / "kept").rename(siqa)
    train = runner.train

    def first_stage(trainer, *more):
        if trainer.task.name == "xcopa":
            raise UserError("stopped here")
        train(trainer, *more)

    with monkeypatch.context() as patch:
        patch.setattr(runner, "train", first_stage)
        assert start(world).returncode == 2
    begun = json.loads((out / "run.json").read_text())
    assert ("lighteval/siqa", "train") in {(data["id"], data["split"]) for data in begun["data"]}
    trained.clear()
    pq.write_table(pq.read_table(siqa).slice(1), siqa)
    assert start(world).returncode == 0
    assert [trainer.task.name for trainer in trained] == ["siqa", "xcopa"]


def test_finished_stage_is_named_when_the_next_one_stops(tmp_path):
    """The same command does not begin anew, though the second stage has no checkpoint yet."""
    from xstilts.run.lifecycle import Run

    with Run.open(RunArguments(output_dir=str(tmp_path)), {"model": "m", "data_root": "hub"}) as run:
        run.begin()
        assert run.sentence("it stopped").endswith("the same command starts over.")
        (tmp_path / "checkpoint-siqa/done").mkdir(parents=True)
        assert run.sentence("it stopped").endswith("the same command resumes after checkpoint-siqa.")
