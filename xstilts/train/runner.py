"""What the training scripts share: set up, train, score by language, compare with chance."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import transformers
from datasets import Dataset
from transformers import TokenizersBackend, Trainer, TrainingArguments

from tasks.base import Task
from tasks.errors import UserError
from xstilts.cli import logs
from xstilts.cli.arguments import RunArguments
from xstilts.run import outputs, processes
from xstilts.run.lifecycle import Run
from xstilts.run.predictions import write_lines
from xstilts.run.rehearsal import at_chance_means
from xstilts.train import trainers
from xstilts.train.training_arguments import training_arguments

logger = logging.getLogger("xstilts")


def prepare(run_args: RunArguments) -> None:
    """Set up logging and set the seeds."""
    name = " ".join([run_args.arm or "", f"seed {run_args.seed}"]).strip()
    logs.begin(logging.INFO if processes.is_first() else logging.ERROR, name)
    transformers.utils.logging.disable_progress_bar()  # hides the bar "Loading weights"
    transformers.utils.logging.set_verbosity_error()
    assert run_args.seed is not None  # filled in by xstilts.run.places
    transformers.set_seed(run_args.seed)


def begin(run_args: RunArguments, rest: list[str], defaults: Mapping[str, Any], **options: Any) -> TrainingArguments:
    """Set up logging, seeds and the group of processes, and return the training's arguments.

    Args:
        rest: the words of the command line that belong to TrainingArguments.
        defaults: of the task.
        options: further ones of `training_arguments`.

    Raises:
        UserError: see `training_arguments`.
    """
    prepare(run_args)
    return training_arguments(run_args, rest, defaults, **options)


def task_trainer(
    task: Task,
    model: Any,
    args: TrainingArguments,
    tokenizer: TokenizersBackend,
    dev: tuple[Dataset, Dataset],
    train: Dataset | None = None,
) -> trainers.TaskTrainer:
    """Return the trainer of one task.

    Args:
        model: with the task's head, or a PeftModel of such a model.
        dev: (examples, features) of English dev.
        train: features to train on; None: the trainer only scores.
    """
    return trainers.TaskTrainer(
        model=model,
        args=args,
        train_dataset=train,
        data_collator=task.collator(tokenizer),
        processing_class=tokenizer,
        task=task,
        dev=dev,
        eval_dataset=dev[1],
    )


def mlm_trainer(
    model: Any,
    args: TrainingArguments,
    tokenizer: TokenizersBackend,
    train: Dataset,
    dev: Dataset,
    mlm_probability: float,
) -> trainers.TaskTrainer:
    """Return the trainer of masked LM.

    Args:
        train, dev: features of texts.
        mlm_probability: share of tokens to predict.
    """
    return trainers.TaskTrainer(
        model=model,
        args=args,
        train_dataset=train,
        eval_dataset=dev,
        processing_class=tokenizer,
        data_collator=trainers.Masking(tokenizer, mlm_probability, args.seed),
    )


def train(trainer: Trainer, run: Run, checkpoint: str | None) -> None:
    """Train, and leave the last or best weights in the model.

    What an earlier training has left beside its weights is removed at the end, when those are about to be replaced.

    Args:
        run: its error message names the trainer's step and checkpoint.
        checkpoint: the checkpoint to resume from, or None.

    Raises:
        UserError: a loss or weight is not finite, or training stopped early.
    """
    run.trainer = trainer
    _train(trainer, checkpoint)
    if processes.is_first():
        outputs.clear(Path(str(trainer.args.output_dir)), outputs.BESIDE_WEIGHTS)  # of a stage, its own folder


def _train(trainer: Any, checkpoint: str | None) -> None:  # a TaskTrainer or a PairTrainer
    # Try model, decoding and scoring on a few rows before hours of training. Only with a single process: accelerate
    # takes a model that it has evaluated as prepared, so several processes would each train it without DDP.
    if checkpoint is None and trainer.dev is not None and trainer.task is not None and trainer.args.world_size == 1:
        few = trainer.dev[0].select(range(min(4, len(trainer.dev[0]))))
        features = trainer.dev[1].select([i for i, e in enumerate(trainer.dev[1]["example"]) if e < len(few)])
        trainer.task.score(trainer.task.decode(trainer.logits(features), features, few), few, "en")
    trainer.train(resume_from_checkpoint=checkpoint)
    if trainer.state.global_step < trainer.state.max_steps:  # --enable_jit_checkpoint does that on SIGTERM
        raise UserError(f"the training ended before its last step, {trainer.state.max_steps}")
    trainers.check_weights(trainer.model)


def held_out_loss(trainer: trainers.TaskTrainer) -> float:
    """Return the mean loss over the batches of the held-out text.

    Raises:
        UserError: it is not a finite number, which JSON cannot hold.
    """
    loss = trainer.evaluate()["eval_loss"]
    if not math.isfinite(loss):
        raise UserError("the loss on the held-out text is not a finite number; try a smaller --learning_rate")
    return loss


def score_languages(
    trainer: trainers.TaskTrainer, task: Task, tests: dict[str, tuple[Dataset, Dataset]], folder: Path
) -> tuple[dict[str, dict[str, float]], dict[str, int]]:
    """Score every language, and write the predictions in XTREME's layout below `folder`.

    Args:
        tests: {language: (examples, features)}.

    Returns:
        ({language: {metric: 0-100}}, {language: examples scored}).
    """
    scores, n = {}, {}
    for language, (examples, features) in tests.items():
        predictions = task.decode(trainer.logits(features), features, examples)
        scores[language], n[language] = task.score(predictions, examples, language), len(examples)
        if trainer.is_world_process_zero():
            write_lines(folder, task, language, task.lines(predictions, examples))
        shown = " ".join(f"{k} {v:.1f}" for k, v in scores[language].items())
        logger.info("%s: %s", logs.named(f"{task.name} {language}"), shown)
    return scores, n


def compare_with_chance(
    trainer: trainers.TaskTrainer, task: Task, dev: Dataset, shuffled: bool = False, rehearsal: bool = False
) -> tuple[dict[str, float], dict[str, float], bool]:
    """Score English dev and compare it with chance; log a loud warning if it is at chance.

    Args:
        dev: the examples of English dev.
        shuffled: whether labels were shuffled. A score at chance is then expected and not reported.
        rehearsal: whether the training was cut short to try it. The warning is then a plain sentence.

    Returns:
        (scores 0-100, scores of guessing 0-100, whether the training is at chance).
    """
    assert trainer.dev is not None
    features = trainer.dev[1]
    scores = task.score(task.decode(trainer.logits(features), features, dev), dev, "en")
    chance = task.chance(dev)
    at_chance = [] if shuffled else task.at_chance(scores, chance, len(dev))
    for metric in at_chance:
        warn_at_chance(task.name, metric, scores[metric], chance[metric], rehearsal)
    return scores, chance, bool(at_chance)


def warn_at_chance(name: str, metric: str, score: float, chance: float, rehearsal: bool) -> None:
    """Log that a task's score on English dev is at chance: loudly, unless the training was a short rehearsal."""
    found = f"English dev {metric} is {score:.1f}, at chance ({chance:.1f}): {at_chance_means(rehearsal)}"
    line = f"{logs.named(name)}: {found}."
    logger.warning("%s", line if rehearsal else f"\n*** {line} ***\n")


def measures(trainer: Trainer, rows: int | None = None) -> dict[str, float]:
    """Return the numbers about a finished training that are not scores.

    These are: rows (distinct training examples), optimiser steps, epochs, tokens seen (without padding, counted in
    every epoch), and the mean loss of the last five log lines.
    """
    state = trainer.state
    losses = [entry["loss"] for entry in state.log_history if "loss" in entry]
    numbers: dict[str, Any] = {} if rows is None else {"rows": rows}
    numbers |= {"steps": state.global_step, "epochs": state.epoch, "tokens": state.num_input_tokens_seen}
    return numbers | ({"last_loss": float(np.mean(losses[-5:]))} if losses else {})
