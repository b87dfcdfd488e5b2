"""How often the nearest neighbour is the gold one, as XTREME scores Tatoeba, and mteb's F1 of the same predictions.

mteb takes each index for a class and averages the classes' F1 weighted by how often each is gold: an index found by
several queries costs precision there, while accuracy asks each query alone.

Sources:
    Hu et al. 2020, XTREME, arXiv:2003.11080 (accuracy). Muennighoff et al. 2023, MTEB, arXiv:2210.07316, with
    BitextMiningEvaluator of github.com/embeddings-benchmark/mteb (F1, which mteb gives from 0 to 1).
"""

from .errors import UserError


def retrieval_accuracy(predictions: list[int], references: list[int], f1: bool = True) -> dict[str, float]:
    """Return accuracy and mteb's F1 of the nearest neighbours found.

    Args:
        predictions: the index found for each query (-1: none found, which is wrong).
        references: the gold index of each query, from 0.
        f1: whether to compute F1, which takes far longer than the accuracy.

    Returns:
        {"accuracy": float, "f1": float}, both from 0 to 100; without "f1" if it is not asked for.

    Raises:
        UserError: a gold index is negative; names its row.

    Examples:
        >>> scores = retrieval_accuracy(predictions=[0, 1, 1], references=[0, 1, 2])
        >>> {name: round(score, 1) for name, score in scores.items()}
        {'accuracy': 66.7, 'f1': 55.6}
    """
    for row, gold in enumerate(references, 1):
        if gold < 0:
            raise UserError(f"Row {row}: gold index {gold} is negative. Give the gold sentence's row, from 0.")
    right = sum(prediction == gold for prediction, gold in zip(predictions, references, strict=True))
    scores = {"accuracy": 100.0 * (right / len(references))}
    if f1:
        import numpy as np  # here, so that the other metrics load without scikit-learn
        import sklearn.metrics

        classes = np.array(references), np.array(predictions)  # of lists, scikit-learn checks every element
        scores["f1"] = 100.0 * float(sklearn.metrics.f1_score(*classes, average="weighted", zero_division=0))
    return scores
