"""Bitext mining between two pools of sentence vectors: the margin score and the pairing.

Both follow Artetxe and Schwenk (ACL 2019, arXiv 1811.01136), as LASER and XTREME run them for BUCC. The search,
including its tie rule, is `xstilts.retrieve.neighbours`. Pairs with equal scores are ordered by lower source index,
then lower target index.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from tasks.errors import UserError
from xstilts.retrieve.neighbours import Knn, bidirectional_knn

MARGINS = ("ratio", "distance", "absolute")
RETRIEVALS = ("max", "forward", "backward", "intersect")
PAIRED_AT_ONCE = 2**20  # candidates held as Python numbers, which are fast to iterate but large


def _margin(cosine: np.ndarray, mean: np.ndarray, margin: str) -> np.ndarray:
    if margin == "absolute":
        return cosine
    if margin == "distance":
        return cosine - mean
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = cosine / mean
    return np.where(np.isnan(ratio), -np.inf, ratio)  # 0 / 0: all cosines are 0, so there is no pair


def mine(
    source: np.ndarray,
    target: np.ndarray,
    k: int = 4,
    margin: str = "ratio",
    retrieval: str = "max",
    min_score: float = 0.0,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return translation pairs of two pools: (source_index int64, target_index int64, score float64), best first.

    The margin score of (x, y) compares their cosine with the mean of x's k forward and y's k backward cosines:

        ratio     cos / mean          distance  cos - mean          absolute  cos

    The candidates are the best-scoring neighbour of every source (forward) and of every target (backward).
    `retrieval="forward"` returns the first, `"backward"` the second, `"intersect"` the pairs found both ways. `"max"`
    goes through both lists from the best score down and accepts a pair unless one of its sides is already used:
    one-to-one, and the same if the sides are swapped. As in LASER and XTREME, `max` then drops pairs whose score is
    not above `min_score`; their sides stay used.

    Raises:
        UserError: see `check_pairing` and `neighbours.check_pools`.
    """
    check_pairing(margin, retrieval)
    return pair(bidirectional_knn(source, target, k), margin, retrieval, min_score)


def check_pairing(margin: str, retrieval: str) -> None:
    """Raise UserError if the margin or the retrieval is unknown."""
    if margin not in MARGINS:
        raise UserError(f"margin={margin!r} is unknown; choose one of {', '.join(MARGINS)}.")
    if retrieval not in RETRIEVALS:
        raise UserError(f"retrieval={retrieval!r} is unknown; choose one of {', '.join(RETRIEVALS)}.")


def pair(
    near: Knn, margin: str = "ratio", retrieval: str = "max", min_score: float = 0.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the pairs of `mine` from the neighbours of a search."""
    check_pairing(margin, retrieval)
    n, m = len(near.forward_scores), len(near.backward_scores)
    forward_mean = near.forward_scores.mean(axis=1, dtype=np.float64)
    backward_mean = near.backward_scores.mean(axis=1, dtype=np.float64)

    def best(
        cosines: np.ndarray, indices: np.ndarray, own: np.ndarray, other: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        scores = _margin(cosines.astype(np.float64), (own[:, None] + other[indices]) / 2, margin)
        rows, column = np.arange(len(scores)), scores.argmax(axis=1)
        return indices[rows, column], scores[rows, column]

    target_of, forward = best(near.forward_scores, near.forward_indices, forward_mean, backward_mean)
    source_of, backward = best(near.backward_scores, near.backward_indices, backward_mean, forward_mean)
    if retrieval == "backward":
        i, j, score = source_of, np.arange(m), backward
    elif retrieval == "max":
        i, j = np.concatenate([np.arange(n), source_of]), np.concatenate([target_of, np.arange(m)])
        score = np.concatenate([forward, backward])
    else:
        i, j, score = np.arange(n), target_of, forward
        if retrieval == "intersect":
            both = source_of[target_of] == i
            i, j, score = i[both], j[both], score[both]
    order = np.lexsort((j, i, -score))
    i, j, score = i[order], j[order], score[order]
    if retrieval == "max":
        kept = _greedy(i, j, n, m) & (score > min_score)
        i, j, score = i[kept], j[kept], score[kept]
    return i, j, score


def _greedy(i: np.ndarray, j: np.ndarray, n: int, m: int) -> np.ndarray:
    """Return a mask of the candidates, best first, that are accepted if each index of a side may be used once."""
    source_free, target_free = bytearray(b"\1") * n, bytearray(b"\1") * m
    accepted = np.zeros(len(i), dtype=bool)
    for start in range(0, len(i), PAIRED_AT_ONCE):
        part = slice(start, start + PAIRED_AT_ONCE)
        for position, (a, b) in enumerate(zip(i[part].tolist(), j[part].tolist(), strict=True), start):
            if source_free[a] and target_free[b]:
                source_free[a] = target_free[b] = 0
                accepted[position] = True
    return accepted


def best_threshold(scores: np.ndarray, is_gold: np.ndarray, n_gold: int) -> tuple[float, float]:
    """Return the threshold with the best F1 on dev: (threshold, F1 in 0-100 of candidates with score >= threshold).

    As in the BUCC code of LASER and XTREME: go down from the best score (equal scores in the given order) to the first
    maximum of F1, and put the threshold midway between this score and the next. F1 is 2pr / (p + r) in float64 as
    there, because rounding decides between cuts with equal F1. If the maximum is at the last candidate, where their
    code fails, its score is the threshold.

    Args:
        scores, is_gold: (n,), of the dev candidates.
        n_gold: gold pairs, found or not.

    Raises:
        UserError: the arrays differ in shape, a score is NaN, no candidate is gold, or more than `n_gold` are.
    """
    scores, is_gold = np.asarray(scores, dtype=np.float64), np.asarray(is_gold, dtype=bool)
    if scores.shape != is_gold.shape or scores.ndim != 1:
        raise UserError(
            f"{scores.shape} scores and {is_gold.shape} gold marks: expected one mark for every candidate."
        )
    if np.isnan(scores).any():
        raise UserError(f"dev candidate {int(np.isnan(scores).argmax())} has the score NaN: mine the dev pools again.")
    if not is_gold.any():
        raise UserError(
            f"none of the {len(scores)} dev candidates is one of the {n_gold} gold pairs: no threshold can be chosen. "
            "Check that the gold ids belong to these pools, or give a threshold."
        )
    if is_gold.sum() > n_gold:
        raise UserError(f"{int(is_gold.sum())} candidates are marked gold, but there are only {n_gold} gold pairs.")
    order = np.argsort(-scores, kind="stable")
    walked = scores[order]
    correct = np.cumsum(is_gold[order])
    precision, recall = correct / np.arange(1, len(walked) + 1), correct / n_gold
    f1 = np.divide(2 * precision * recall, precision + recall, out=np.zeros(len(walked)), where=correct > 0)
    cut = int(f1.argmax())
    threshold = float(walked[cut] if cut + 1 == len(walked) else (walked[cut] + walked[cut + 1]) / 2)
    kept = scores >= threshold
    return threshold, float(200 * is_gold[kept].sum() / (kept.sum() + n_gold))


def deduplicate(ids: Sequence[str], texts: Sequence[str]) -> tuple[list[str], list[str | None]]:
    """Return the pool that is searched: (unique texts in order of first appearance, the id of each).

    As in XTREME's BUCC, a text with several ids is searched once and gets the id None, because no single id is right.
    `id_pairs` drops its pairs, so their gold pairs count as missed. Texts that differ only in surrounding white space
    stay two entries, both with the id None.

    Raises:
        UserError: the number of ids is not the number of texts, or an id is repeated.
    """
    if len(ids) != len(texts):
        raise UserError(f"{len(ids)} ids for {len(texts)} sentences: expected one id for each sentence.")
    if repeated := [name for name, count in Counter(ids).items() if count > 1]:
        raise UserError(f"{len(repeated)} ids are repeated in the pool (first: {repeated[0]!r}): ids must be unique.")
    counts = Counter(text.strip() for text in texts)
    unique: dict[str, str | None] = {}
    for name, text in zip(ids, texts, strict=True):
        unique.setdefault(text, name if counts[text.strip()] == 1 else None)
    return list(unique), list(unique.values())


def id_pairs(
    source_index: np.ndarray,
    target_index: np.ndarray,
    score: np.ndarray,
    source_ids: Sequence[str | None],
    target_ids: Sequence[str | None],
) -> tuple[list[tuple[str, str]], np.ndarray]:
    """Return the pairs of `mine` as ([(source id, target id)], their scores), in order, without pairs with id None."""
    pairs, kept = [], []
    for position, (i, j) in enumerate(zip(source_index.tolist(), target_index.tolist(), strict=True)):
        source_id, target_id = source_ids[i], target_ids[j]
        if source_id is not None and target_id is not None:
            pairs.append((source_id, target_id))
            kept.append(position)
    return pairs, np.asarray(score)[kept]


def pairs_above(pairs: Sequence[tuple[str, str]], scores: np.ndarray, threshold: float) -> list[tuple[str, str]]:
    """Return the pairs whose score is at least the threshold, in the given order."""
    return [pair for pair, score in zip(pairs, np.asarray(scores).tolist(), strict=True) if score >= threshold]
