"""What the training scripts share: how a training begins, runs, and is scored by language."""

from __future__ import annotations

import logging
import math
import time
from pathlib import Path

import numpy as np
import transformers

from xstilts.cli import logs
from xstilts.errors import UserError
from xstilts.run import processes
from xstilts.run.lifecycle import Run
from xstilts.run.predictions import write_lines
from xstilts.train import trainers

logger = logging.getLogger("xstilts")


def prepare(run) -> None:
    """Logging and seeds."""
    logs.begin(logging.INFO if processes.is_first() else logging.ERROR)
    transformers.utils.logging.disable_progress_bar()  # "Loading weights": not what the user waits for
    transformers.utils.logging.set_verbosity_error()
    transformers.set_seed(run.seed)


def train(trainer, run: Run, checkpoint: str | None) -> float:
    """Trains (or goes on), leaves the last or best weights in the model. Returns seconds.

    Args:
        run: what the training belongs to; it names step and checkpoint if the training stops.
        checkpoint: to resume from.
    """
    start = time.time()
    run.trainer = trainer
    _train(trainer, checkpoint)
    return time.time() - start


def check_metric(trainer) -> None:
    """Raises UserError if the score that chooses the checkpoint is none of the task's."""
    best = trainer.args.metric_for_best_model
    if trainer.task is not None and best and trainer.args.eval_strategy != "no":
        names = trainer.task.chance(trainer.dev[0].select(range(min(4, len(trainer.dev[0])))))
        if best.removeprefix("eval_") not in names:
            raise UserError(f"--metric_for_best_model {best}: {trainer.task.name} has {', '.join(names)}")


def _train(trainer, checkpoint: str | None) -> None:
    check_metric(trainer)
    # A few rows through model, decoding and score before hours of training. Not where there are several processes: a
    # model that accelerate has evaluated counts as prepared there, and would be trained by each process for itself,
    # without DDP.
    if checkpoint is None and trainer.dev is not None and trainer.task is not None and trainer.args.world_size == 1:
        few = trainer.dev[0].select(range(min(4, len(trainer.dev[0]))))
        wanted = [i for i, e in enumerate(trainer.dev[1]["example"]) if e < len(few)]
        features = trainer.dev[1].select(wanted)
        trainer.task.score(trainer.task.decode(trainer.logits(features), features, few), few, "en")
    trainer.train(resume_from_checkpoint=checkpoint)
    if trainer.state.global_step < trainer.state.max_steps:  # --enable_jit_checkpoint ends a training so, at a SIGTERM
        raise UserError(f"the training was ended before its last step, {trainer.state.max_steps}")
    trainers.check_weights(trainer.model)


def held_out_loss(trainer) -> float:
    """The mean loss over the batches of the held-out text.

    Raises:
        UserError: it is not a finite number, which results.json could not hold.
    """
    loss = trainer.evaluate()["eval_loss"]
    if not math.isfinite(loss):
        raise UserError("the loss of the held-out text is not a finite number; try a smaller --learning_rate")
    return loss


def score_languages(trainer, task, tests: dict, folder: Path):
    """Zero-shot scores of every language; predictions are written in XTREME's layout below `folder`.

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
        logger.info("%s %s: %s", task.name, language, " ".join(f"{k} {v:.1f}" for k, v in scores[language].items()))
    return scores, n


def judge(trainer, task, dev, shuffled: bool = False) -> tuple[dict, dict, bool]:
    """(English dev scores, chance, whether the dev score is at chance), the last said loudly.

    Where labels were shuffled chance is where it should be, and is no news.
    """
    features = trainer.dev[1]
    scores = task.score(task.decode(trainer.logits(features), features, dev), dev, "en")
    chance = task.chance(dev)
    # one metric at chance is enough: a tagger below the most frequent tag may still beat its F1 of 0
    flat = [m for m in chance if not shuffled and task.at_chance(scores[m], chance[m], len(dev))]
    for metric in flat:
        logger.warning(
            "\n*** %s: English dev %s is %.1f, at chance (%.1f): this training did not work. ***\n",
            task.name,
            metric,
            scores[metric],
            chance[metric],
        )
    return scores, chance, bool(flat)


def measures(trainer, rows: int | None = None) -> dict[str, float]:
    """Numbers about a finished training that are no scores.

    Rows (different examples there are to train on), optimiser steps, epochs, tokens trained on (padding aside, each
    time they come), mean loss of the last log lines.
    """
    state = trainer.state
    losses = [entry["loss"] for entry in state.log_history if "loss" in entry]
    found = {} if rows is None else {"rows": rows}
    found |= {"steps": state.global_step, "epochs": state.epoch, "tokens": state.num_input_tokens_seen}
    return found | ({"last_loss": float(np.mean(losses[-5:]))} if losses else {})
