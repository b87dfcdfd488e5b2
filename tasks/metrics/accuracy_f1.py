"""Accuracy, and F1 of class 1, as GLUE scores QQP (class 1: the questions are duplicates).

Sources:
    Wang et al. 2019, GLUE, arXiv:1804.07461, section 3.2 (QQP); F1 by scikit-learn's `f1_score`.
"""

from .errors import UserError


def accuracy_f1(predictions: list[int], references: list[int]) -> dict[str, float]:
    """Return accuracy and F1 of a yes-no task.

    Args:
        predictions: 0 or 1 per row.
        references: the gold 0 or 1 per row.

    Returns:
        {"accuracy": float, "f1": float}, both from 0 to 100; f1 is 0 where class 1 is neither predicted nor gold.

    Raises:
        UserError: a label is neither 0 nor 1 (-1: hidden gold); names its row.

    Examples:
        >>> accuracy_f1(predictions=[1, 1, 0, 0], references=[1, 0, 0, 0])["accuracy"]
        75.0
    """
    import sklearn.metrics  # here, so that the other metrics load without scikit-learn

    for name, labels in (("gold label", references), ("prediction", predictions)):
        for row, label in enumerate(labels, 1):
            if label not in (0, 1):
                hint = " It means hidden gold: score a split that has labels." if label == -1 else ""
                raise UserError(f"Row {row}: {name} {label} is neither 0 nor 1.{hint}")
    return {
        "accuracy": 100.0 * float(sklearn.metrics.accuracy_score(references, predictions)),
        "f1": 100.0 * float(sklearn.metrics.f1_score(references, predictions, zero_division=0)),
    }
