"""Several trainings in a row with one head: XCOPA is trained on Social IQa, then on COPA."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path

from datasets import Dataset
from transformers import PreTrainedModel, TokenizersBackend, TrainingArguments

from tasks import get_task
from tasks.base import Task
from xstilts.checkpoint import heads
from xstilts.cli.arguments import ModelArguments
from xstilts.run.checkpoints import last_checkpoint
from xstilts.run.lifecycle import Run
from xstilts.train import runner


def train_before(
    run: Run,
    task: Task,
    model: PreTrainedModel,
    args: TrainingArguments,
    tokenizer: TokenizersBackend,
    before: Mapping[str, tuple[Dataset, tuple[Dataset, Dataset]]],
    model_args: ModelArguments,
) -> None:
    """Train on the stages of `featurizing.read_before` and put the weights into `model`.

    Each stage has the settings of the last one. It saves its checkpoints, and at its end its model, in
    `checkpoint-<stage>` below the output folder. A stopped run resumes there, and a finished run removes them.
    """
    trained: PreTrainedModel | None = None
    for name, (train, dev) in before.items():
        stage, folder = get_task(name), Path(str(args.output_dir), f"checkpoint-{name}")
        done = folder / "done"
        if not done.is_dir():
            # a new model per stage: a trainer leaves its hooks on the one it trained
            part = heads.fresh_head(task, str(model_args.model_name_or_path), **model_args.loading)
            part.load_state_dict((trained or model).state_dict())
            if model_args.freeze_embeddings:
                heads.freeze_embeddings(part)
            stage_args = copy.copy(args)
            stage_args.output_dir = str(folder)
            trainer = runner.task_trainer(stage, part, stage_args, tokenizer, dev, train)
            runner.train(trainer, run, last_checkpoint(folder) if folder.is_dir() else None)
            trainer.save_model(str(folder / "part"))
            if trainer.is_world_process_zero():
                (folder / "part").rename(done)
            trainer.accelerator.wait_for_everyone()
            run.trainer = None  # so that no message names this stage's checkpoints
        trained = type(model).from_pretrained(done, dtype="float32")
    if trained is not None:
        model.load_state_dict(trained.state_dict())
