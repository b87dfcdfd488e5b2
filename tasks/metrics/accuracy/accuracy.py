"""Accuracy of class labels: an evaluate module."""

import datasets
import evaluate

try:
    from tasks.errors import UserError
except ImportError:  # loaded by path, outside this project
    UserError = ValueError

_ENOUGH = 200  # rows: even where 19 of 20 have one label, chance makes these all alike once in 27,000 sets

_DESCRIPTION = """\
The share of predicted classes that are the gold class, as XTREME scores XNLI, PAWS-X and XCOPA.
"""

_CITATION = """\
Hu et al. 2020, XTREME, arXiv:2003.11080; the function `accuracy` of evaluate.py in github.com/google-research/xtreme.
"""

_INPUTS = """
Args:
    predictions: list of int, a class per row.
    references: list of int, the gold class per row. A negative label (hidden gold) is refused, with its row, and so
        are 200 or more rows that all have the same label: some copies hide the gold of a test set behind one class.
Returns:
    {"accuracy": float from 0 to 100}
Examples:
    >>> accuracy = evaluate.load("tasks/metrics/accuracy")
    >>> accuracy.compute(predictions=[0, 1, 2, 1], references=[0, 1, 1, 1])
    {'accuracy': 75.0}
"""


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _INPUTS)
class Accuracy(evaluate.Metric):
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
        for row, gold in enumerate(references, 1):
            if gold < 0:
                raise UserError(f"Row {row}: gold label {gold} means hidden gold. Score a split that has labels.")
        if len(references) >= _ENOUGH and len(set(references)) == 1:
            raise UserError(
                f"Rows 1 to {len(references)}: every gold label is {references[0]}, a placeholder. "
                "Score a split that has labels."
            )
        right = sum(prediction == gold for prediction, gold in zip(predictions, references, strict=True))
        return {"accuracy": 100.0 * right / len(references)}
