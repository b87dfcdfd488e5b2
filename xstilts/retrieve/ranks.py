"""Where the right candidates of a multilingual search stand, and what that says of its languages.

Languages are numbered here. A table of right candidates is (n queries, g) with g the most that any query has; places a
query does not need hold -1, and rank 0.
"""

from __future__ import annotations

import numpy as np

ROWS = 64  # queries ranked at once: with 13,000 candidates 7 MB of products


def gold_ranks(
    queries: np.ndarray, candidates: np.ndarray, gold: np.ndarray, languages: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The ranks, from 1, of the right candidates: (among all, among those of the candidate's own language), each (n,
    g).

    Ranked by inner product, ties by lower index, as in `xstilts.retrieve.mining`; nothing is cut off. Beside the
    vectors this holds a float64 copy of the candidates and the products of a few queries.

    Args:
        queries: (n, dim) float32.
        candidates: (m, dim) float32.
        gold: (n, g), indices of the right candidates.
        languages: (m,), the language of each candidate.
    """
    right, columns = candidates.astype(np.float64).T, np.arange(len(candidates))
    of_language = (languages[:, None] == np.arange(languages.max() + 1)).astype(np.float32)
    pooled, within = np.zeros(gold.shape, dtype=np.int64), np.zeros(gold.shape, dtype=np.int64)
    for start in range(0, len(queries), ROWS):
        part = slice(start, start + ROWS)
        products = (queries[part].astype(np.float64) @ right).astype(np.float32)
        rows = np.arange(len(products))
        for place, index in enumerate(gold[part].T):
            own = products[rows, index][:, None]
            before = (products > own) | ((products == own) & (columns < index[:, None]))
            counts = before.astype(np.float32) @ of_language  # (rows, languages): how many of each stand before it
            pooled[part, place] = 1 + counts.sum(axis=1)
            within[part, place] = 1 + counts[rows, languages[index]]
    return np.where(gold < 0, 0, pooled), np.where(gold < 0, 0, within)


def average_precision(ranks: np.ndarray) -> np.ndarray:
    """AP (n,) in 0-1 of the ranks (n, g) of the right candidates, uncut; 0 in `ranks` is no candidate, NaN without
    any."""
    count = (ranks > 0).sum(axis=1)
    ordered = np.sort(np.where(ranks > 0, ranks, np.inf), axis=1)
    with np.errstate(invalid="ignore"):
        return (np.arange(1, ranks.shape[1] + 1) / ordered).sum(axis=1) / count


def by_language(
    pooled: np.ndarray, within: np.ndarray, spoken: np.ndarray, own: int
) -> tuple[dict[str, float], float | None]:
    """({"map_multilingual", "map_monolingual", "map_crosslingual"} in 0-100, language bias in ranks) of one language's
    queries.

    The three settings are those of Elmahdy et al. (arXiv 2408.10536): one pool of all languages; the candidates of the
    query's language; those of one other language at a time, the mean over these languages. mAP is not cut. Their
    language bias is how far the parallel answers of a question lie apart in the one pool: the highest rank less the
    lowest, averaged over questions. Ours is what they leave open: where a language has several right candidates, the
    best of them stands for it.

    What is not defined is left out, or None: without the query's language among the candidates nothing is monolingual,
    without another one nothing crosses languages.

    Args:
        pooled, within: from `gold_ranks`, (n, g).
        spoken: (n, g), the language of each right candidate, -1 where there is none.
        own: the language of the queries.
    """
    maps = {}
    for language in np.unique(spoken[spoken >= 0]).tolist():
        precision = average_precision(np.where(spoken == language, within, 0))
        maps[language] = 100 * float(np.nanmean(precision))  # over the questions that language answers
    scores = {"map_multilingual": 100 * float(average_precision(pooled).mean())}
    if own in maps:
        scores["map_monolingual"] = maps[own]
    others = [score for language, score in maps.items() if language != own]
    if others:
        scores["map_crosslingual"] = float(np.mean(others))
    best = np.stack([np.where(spoken == language, pooled, np.inf).min(axis=1) for language in maps], axis=1)
    spread = np.where(np.isfinite(best), best, -np.inf).max(axis=1) - best.min(axis=1)
    return scores, float(spread.mean()) if len(maps) > 1 else None
