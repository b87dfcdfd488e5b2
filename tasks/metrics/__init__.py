"""Every score of the project, each an `evaluate` module that also works by path from outside this repository.

From outside: `evaluate.load("tasks/metrics/qa")`. In here: `compute("qa", predictions=..., references=...)`. All
scores are python floats from 0 to 100. Rows are kept in memory and no network is used, so any number of processes may
score at once. `import evaluate` takes about five seconds, hence only when a score is asked for.
"""

import importlib
from functools import cache
from typing import TYPE_CHECKING, Any

from tasks.errors import UserError

if TYPE_CHECKING:
    import evaluate

CLASSES = {
    "accuracy": "Accuracy",
    "accuracy_f1": "AccuracyF1",
    "mean_average_precision": "MeanAveragePrecision",
    "mining": "Mining",
    "qa": "QuestionAnswering",
    "retrieval_accuracy": "RetrievalAccuracy",
    "tagging": "Tagging",
}


@cache
def _module_class(name: str) -> type["evaluate.Metric"]:
    if name not in CLASSES:
        raise UserError(f"Metric {name!r} is unknown. Use one of: {', '.join(CLASSES)}.")
    return getattr(importlib.import_module(f"tasks.metrics.{name}.{name}"), CLASSES[name])


def load(name: str) -> "evaluate.Metric":
    """Returns a fresh, empty evaluate module of that name. Raises UserError if there is none.

    Fresh each time, because a module whose `compute` failed keeps the rows it was given.
    """
    return _module_class(name)(keep_in_memory=True)


def compute(name: str, **inputs: Any) -> dict[str, float]:
    """Returns the scores (0-100) that the module `name` gives `inputs`, which its own docstring describes.

    Raises UserError naming the row if the gold is missing or a placeholder, or predictions and references differ in
    number.
    """
    predictions, references = inputs["predictions"], inputs["references"]
    if len(predictions) != len(references):
        raise UserError(f"{name}: {len(predictions)} predictions for {len(references)} references. Give one for each.")
    if len(references) == 0:
        raise UserError(f"{name}: nothing to score, predictions and references are empty.")
    return load(name).compute(**inputs)
