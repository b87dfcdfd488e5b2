"""Accuracy and F1 of a yes-no task: an evaluate module."""

import datasets
import evaluate
import sklearn.metrics

try:
    from tasks.errors import UserError
except ImportError:  # loaded by path, outside this project
    UserError = ValueError

_DESCRIPTION = """\
Accuracy, and F1 of class 1, as GLUE scores QQP (class 1: the questions are duplicates).
"""

_CITATION = """\
Wang et al. 2019, GLUE, arXiv:1804.07461, section 3.2 (QQP); F1 by scikit-learn's `f1_score`.
"""

_INPUTS = """
Args:
    predictions: list of int, 0 or 1 per row.
    references: list of int, the gold 0 or 1 per row. Anything else (-1: hidden gold) is refused, with its row.
Returns:
    {"accuracy": float, "f1": float}, both from 0 to 100; f1 is 0 where class 1 is neither predicted nor gold.
Examples:
    >>> accuracy_f1 = evaluate.load("tasks/metrics/accuracy_f1")
    >>> accuracy_f1.compute(predictions=[1, 1, 0, 0], references=[1, 0, 0, 0])["accuracy"]
    75.0
"""


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _INPUTS)
class AccuracyF1(evaluate.Metric):
    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS,
            features=datasets.Features(
                {"predictions": datasets.Value("int64"), "references": datasets.Value("int64")}
            ),
        )

    def _compute(self, predictions: list[int], references: list[int]) -> dict[str, float]:
        for name, labels in (("gold label", references), ("prediction", predictions)):
            for row, label in enumerate(labels, 1):
                if label not in (0, 1):
                    hint = " It means hidden gold: score a split that has labels." if label == -1 else ""
                    raise UserError(f"Row {row}: {name} {label} is neither 0 nor 1.{hint}")
        return {
            "accuracy": 100.0 * float(sklearn.metrics.accuracy_score(references, predictions)),
            "f1": 100.0 * float(sklearn.metrics.f1_score(references, predictions, zero_division=0)),
        }
