"""XCOPA's two stages: Social IQa first, then COPA, with one head; begun again, a finished stage is not trained
twice."""

import json
from types import SimpleNamespace

import pytest
import torch

from tasks import get_task
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
    return task, model, args, Rows(tiny_world), tokenizer, 64, data_args, model_args


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
    from xstilts.train import stages

    _, model, _, rows, *_ = setting
    before = weights(model)
    stages.train_before(SimpleNamespace(), *setting)
    assert [trainer.task.name for trainer in trained] == ["siqa"]
    after = weights(model)
    assert not torch.equal(before["classifier.weight"], after["classifier.weight"]), (
        "the head must be trained and handed on"
    )
    assert {r["id"] for r in rows.records} == {"lighteval/siqa"}
    model.load_state_dict(before)
    stages.train_before(SimpleNamespace(), *setting)
    assert len(trained) == 1 and same(weights(model), after)


def test_a_task_of_one_stage_is_left_alone(setting, trained):
    from xstilts.train import stages

    _, model, args, rows, *more = setting
    before = weights(model)
    stages.train_before(SimpleNamespace(), get_task("tydiqa"), model, args, rows, *more)
    assert same(weights(model), before) and not rows.records and not trained


def test_the_script_trains_both_and_leaves_no_stage_behind(cli, tiny_world, tiny_model, tmp_path):
    out = tmp_path / "xcopa"
    done = cli(
        "run_target.py",
        "--task",
        "xcopa",
        "--model_name_or_path",
        tiny_model,
        "--data_root",
        tiny_world,
        "--output_dir",
        out,
        "--max_steps",
        2,
        "--per_device_train_batch_size",
        4,
        "--max_seq_length",
        64,
        "--languages",
        "en",
        "qaa",
    )
    assert done.returncode == 0, done.stderr
    record = json.loads((out / "results.json").read_text())
    assert {(d["id"], d["split"]) for d in record["data"]} >= {
        ("lighteval/siqa", "train"),
        ("aps/super_glue", "train"),
    }
    assert set(record["scores"]) == {"en", "qaa"} and not list(out.glob("checkpoint-*"))


def test_finished_stage_is_named_when_the_next_one_stops(tmp_path):
    """The same command does not begin anew, though the second stage has no checkpoint yet."""
    from xstilts.run.lifecycle import Run

    with Run.open(RunArguments(output_dir=str(tmp_path)), {"model": "m", "data_root": "hub"}) as run:
        run.begin()
        assert run.sentence("it stopped").endswith("the same command starts over.")
        (tmp_path / "checkpoint-siqa/done").mkdir(parents=True)
        assert run.sentence("it stopped").endswith("the same command resumes after checkpoint-siqa.")
