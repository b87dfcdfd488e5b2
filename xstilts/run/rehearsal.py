"""A rehearsal: a training that the user has cut short to try it. Its score says nothing about the task."""

from collections.abc import Mapping
from typing import Any

STEPS = 50  # a rehearsal has fewer


def is_rehearsal(settings: Mapping[str, Any], steps: float) -> bool:
    """Return whether the user has cut a training so short that its score says nothing.

    Args:
        settings: as results.json has them.
        steps: the optimiser steps of the training.
    """
    return steps < STEPS and ((settings.get("max_steps") or 0) > 0 or bool(settings.get("max_train_samples")))


def at_chance_means(rehearsal: bool) -> str:
    """Return what a score at chance says about a training."""
    if rehearsal:
        return f"a rehearsal of fewer than {STEPS} steps says nothing about the task"
    return "this training did not work"
