"""Every score of the project: plain functions, one a module. All scores are Python floats from 0 to 100.

In here: `compute("qa", predictions=..., references=...)`. From outside, by path, as a module of the library
`evaluate`: `evaluate.load("tasks/metrics", "qa")`, see metrics.py.
"""

import importlib
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from tasks.errors import UserError
from tasks.metrics.inputs import checked

NAMES = ("accuracy", "accuracy_f1", "mean_average_precision", "mining", "qa", "retrieval_accuracy", "tagging")


@cache
def function(name: str) -> Callable[..., dict[str, float]]:
    """Return the function of that name. Raise UserError if there is none."""
    if name not in NAMES:
        raise UserError(f"Metric {name!r} is unknown. Use one of: {', '.join(NAMES)}.")
    return getattr(importlib.import_module(f"tasks.metrics.{name}"), name)


def compute(name: str, *, predictions: Sequence, references: Sequence, **settings: Any) -> dict[str, float]:
    """Return the scores (0-100) that the function `name` gives; its docstring describes its inputs.

    Raises:
        UserError: the metric is unknown, an input is of another type, the gold is missing or a placeholder, or
            predictions and references differ in number. Names the row where there is one.
    """
    score = function(name)
    return score(**checked(score, predictions, references), **settings)
