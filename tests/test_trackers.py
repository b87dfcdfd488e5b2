"""What a tracker (--report_to) calls a run. docs/where-to-run.md says which trackers were tried."""

import json
import os
from pathlib import Path

import pytest

from xstilts.cli.arguments import RunArguments
from xstilts.train import trackers, training_checks
from xstilts.train.training_arguments import training_arguments


@pytest.mark.parametrize(
    "folder, name",
    [
        ("runs/world/mnli+mlm/seed2", "mnli+mlm/seed2"),
        ("runs/world/none/seed0/xnli", "none/seed0/xnli"),
        ("runs/try", "try"),
        ("seeds/seed1x/xnli", "xnli"),
    ],
)
def test_a_run_is_named_after_its_place_in_the_matrix(folder, name):
    assert trackers.run_name(Path(folder)) == name


@pytest.fixture
def parsed(monkeypatch, tmp_path):
    """`parsed("--report_to", "wandb", ...)`: the training arguments of a cell; no tracker is started."""
    monkeypatch.setattr(training_checks, "get_reporting_integration_callbacks", lambda names: [])
    for variable in ("WANDB_RUN_GROUP", "WANDB_TAGS", "MLFLOW_TAGS"):
        monkeypatch.setenv(variable, "")  # so that it is restored
        monkeypatch.delenv(variable)

    def parse(*words):
        run = RunArguments(output_dir=str(tmp_path / "none/seed3/xnli"), seed=3)
        return training_arguments(run, [*words, "--use_cpu", "--bf16", "False"], {})

    return parse


def test_group_and_tags_say_arm_seed_and_task(parsed):
    assert parsed("--report_to", "wandb").run_name == "none/seed3/xnli"
    assert os.environ["WANDB_RUN_GROUP"] == "none" and os.environ["WANDB_TAGS"] == "none,seed3,xnli"
    assert json.loads(os.environ["MLFLOW_TAGS"]) == {"arm": "none", "seed": "seed3", "task": "xnli"}


def test_what_the_user_gives_stays(parsed, monkeypatch):
    monkeypatch.setenv("WANDB_TAGS", "mine")
    assert parsed("--report_to", "wandb", "--run_name", "other").run_name == "other"
    assert os.environ["WANDB_TAGS"] == "mine"
    assert parsed().run_name is None
