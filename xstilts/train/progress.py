"""The progress of a training: a bar, or lines in a log file, and a line for each entry of the Trainer's log."""

from __future__ import annotations

import logging
from typing import Any

from torch.utils.data import DataLoader
from transformers import PrinterCallback, ProgressCallback, Trainer, TrainerCallback, TrainerControl, TrainerState
from transformers.trainer_utils import has_length
from transformers.training_args import TrainingArguments

from xstilts.cli.logs import named
from xstilts.cli.progress import Bar

logger = logging.getLogger("xstilts")
NOT_LOGGED = ("total_flos", "epoch")


def show_progress(trainer: Trainer, name: str) -> None:
    """Put our bars and lines in place of transformers'.

    Args:
        trainer: its callbacks are changed.
        name: the name of the training.
    """
    for theirs in (ProgressCallback, PrinterCallback):
        trainer.pop_callback(theirs)
    trainer.add_callback(Progress(name, bars=not trainer.args.disable_tqdm))


class Progress(TrainerCallback):
    """Shows the steps of a training, the batches of a scoring, and what the Trainer logs.

    Args:
        name: the name of the training.
        bars: whether to show steps and batches, and not only the log.
    """

    def __init__(self, name: str, bars: bool = True):
        self.name, self.bars = name, bars
        self.training: Bar | None = None
        self.scoring: Bar | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self.bars and state.is_world_process_zero:
            self.training = Bar(state.max_steps, f"{self.name} training", "steps", initial=state.global_step)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self.training is not None:
            self.training.update(state.global_step - self.training.n)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self.training is not None:
            self.training.close()
            self.training = None

    def on_prediction_step(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        eval_dataloader: DataLoader | None = None,
        **kwargs: Any,
    ) -> None:
        if not (self.bars and state.is_world_process_zero and has_length(eval_dataloader)):
            return
        if self.scoring is None:
            assert eval_dataloader is not None  # `has_length` says so
            self.scoring = Bar(len(eval_dataloader), f"{self.name} scoring", "batches", leave=self.training is None)
        self.scoring.update(1)

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._end_scoring()

    def on_predict(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, metrics: Any, **kwargs: Any
    ) -> None:
        self._end_scoring()

    def _end_scoring(self) -> None:
        if self.scoring is not None:
            self.scoring.close()
            self.scoring = None

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if logs and state.is_world_process_zero:
            where = f"{named(self.name)}, step {state.global_step} of {state.max_steps}"
            logger.info("%s: %s", where, numbers(logs))


def numbers(logs: dict[str, Any]) -> str:
    """Return what the Trainer logs as text: ``loss 0.6931, learning rate 1.9e-05, epoch 0.53``."""
    shown = {key: value for key, value in logs.items() if key not in NOT_LOGGED} | (
        {"epoch": round(logs["epoch"], 2)} if "epoch" in logs else {}
    )
    return ", ".join(
        f"{key.replace('_', ' ')} {f'{value:.4g}' if isinstance(value, float) else value}"
        for key, value in shown.items()
    )
