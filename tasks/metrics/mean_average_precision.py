"""Mean over queries of AP@k, and of the reciprocal rank within the first k, as XTREME-R scores LAReQA and Mewsli-X.

AP@k sums the precision at each rank up to k that holds a gold id found for the first time, and divides by the smaller
of k and the number of gold ids. With one gold id a query (Mewsli-X) it equals the reciprocal rank, so the "mAP@20"
published for Mewsli-X is MRR@20.

Sources:
    Ruder et al. 2021, XTREME-R, arXiv:2104.07412; utils_lareqa.py and utils_mewslix.py of
    github.com/google-research/xtreme. The LAReQA paper (Roy et al. 2020, arXiv:2004.05484) does not cut at k.
"""

from .errors import UserError


def mean_average_precision(predictions: list[list[str]], references: list[list[str]], k: int = 20) -> dict[str, float]:
    """Return mean average precision and mean reciprocal rank of ranked answers.

    Args:
        predictions: candidate ids per query, best first; may be empty (scores 0).
        references: the gold ids of each query, in any order.
        k: how many candidates count.

    Returns:
        {"map@<k>": float, "mrr@<k>": float}, both from 0 to 100.

    Raises:
        UserError: k is below 1, or a query has no gold id; names its row.

    Examples:
        >>> mean_average_precision(predictions=[["b", "a"]], references=[["a"]])
        {'map@20': 50.0, 'mrr@20': 50.0}
    """
    if k < 1:
        raise UserError(f"k is {k}; give 1 or more.")
    precisions, ranks = [], []
    for row, (ranked, gold) in enumerate(zip(predictions, references, strict=True), 1):
        if not any(gold):
            raise UserError(f"Row {row}: no gold ids. Score a split that has labels.")
        precision, reciprocal = per_query(ranked, gold, k)
        precisions.append(precision)
        ranks.append(reciprocal)
    return {
        f"map@{k}": 100.0 * sum(precisions) / len(precisions),
        f"mrr@{k}": 100.0 * sum(ranks) / len(ranks),
    }


def per_query(ranked: list[str], gold: list[str], k: int) -> tuple[float, float]:
    """Return (AP@k, reciprocal rank within the first k) of one query, both 0 to 1."""
    hits = _hit_ranks(ranked[:k], set(gold))
    return sum(n / rank for n, rank in enumerate(hits, 1)) / min(len(set(gold)), k), 1 / hits[0] if hits else 0.0


def _hit_ranks(ranked: list[str], gold: set[str]) -> list[int]:
    """The ranks, from 1, at which a gold id stands for the first time."""
    first: dict[str, int] = {}
    for rank, candidate in enumerate(ranked, 1):
        first.setdefault(candidate, rank)
    return [rank for candidate, rank in first.items() if candidate in gold]
