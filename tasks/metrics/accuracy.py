"""The share of predicted classes that are the gold class, as XTREME scores XNLI, PAWS-X and XCOPA.

Sources:
    Hu et al. 2020, XTREME, arXiv:2003.11080; the function `accuracy` of evaluate.py in
    github.com/google-research/xtreme.
"""

from .errors import UserError

PLACEHOLDER = 200  # rows: even where 19 of 20 have one label, chance makes these all alike once in 27,000 sets


def accuracy(predictions: list[int], references: list[int]) -> dict[str, float]:
    """Return the accuracy of class labels.

    Args:
        predictions: a class per row.
        references: the gold class per row.

    Returns:
        {"accuracy": float from 0 to 100}

    Raises:
        UserError: a gold label is negative (hidden gold); names its row. Or 200 or more rows all have the same gold
            label: some copies hide the gold of a test set behind one class.

    Examples:
        >>> accuracy(predictions=[0, 1, 2, 1], references=[0, 1, 1, 1])
        {'accuracy': 75.0}
    """
    for row, gold in enumerate(references, 1):
        if gold < 0:
            raise UserError(f"Row {row}: gold label {gold} means hidden gold. Score a split that has labels.")
    if len(references) >= PLACEHOLDER and len(set(references)) == 1:
        raise UserError(
            f"Rows 1 to {len(references)}: every gold label is {references[0]}, a placeholder. "
            "Score a split that has labels."
        )
    right = sum(prediction == gold for prediction, gold in zip(predictions, references, strict=True))
    return {"accuracy": 100.0 * right / len(references)}
