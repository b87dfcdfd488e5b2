"""Several trainings in a row with one head: XCOPA is trained on Social IQa, then on COPA."""

from __future__ import annotations

import copy
from pathlib import Path

from transformers import PreTrainedModel, TokenizersBackend, TrainingArguments

from tasks import get_task
from tasks.base import Task
from tasks.rows import Rows
from xstilts.checkpoint import heads
from xstilts.cli.arguments import DataArguments, ModelArguments
from xstilts.run.checkpoints import last_checkpoint
from xstilts.run.lifecycle import Run
from xstilts.train import featurizing, runner


def train_before(
    run: Run,
    task: Task,
    model: PreTrainedModel,
    args: TrainingArguments,
    rows: Rows,
    tokenizer: TokenizersBackend,
    length: int,
    data_args: DataArguments,
    model_args: ModelArguments,
) -> None:
    """Train on all but the last of `task.train_from` and put the weights into `model`.

    Each stage has the settings of the last one. It saves its checkpoints, and at its end its model, in
    `checkpoint-<stage>` below the output folder. A stopped run resumes there, and a finished run removes them.
    """
    before: PreTrainedModel | None = None
    for name in task.train_from[:-1]:
        stage, folder = get_task(name), Path(str(args.output_dir), f"checkpoint-{name}")
        done = folder / "done"
        with args.main_process_first(desc="features"):
            train, dev = featurizing.read_train(stage, rows, tokenizer, length, data_args)
        if not done.is_dir():
            # a new model per stage: a trainer leaves its hooks on the one it trained
            part = heads.fresh_head(task, str(model_args.model_name_or_path), **model_args.loading)
            part.load_state_dict((before or model).state_dict())
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
        before = type(model).from_pretrained(done, dtype="float32")
    if before is not None:
        model.load_state_dict(before.state_dict())
