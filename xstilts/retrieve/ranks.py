"""Ranks of the right candidates in a multilingual search, mAP by language, and language bias.

Languages are numbers here. A table of right candidates is (n queries, g), where g is the maximum of any query. Unused
places hold -1, and their rank is 0.
"""

from __future__ import annotations

import numpy as np

ROWS = 64  # queries ranked at once: with 13,000 candidates 7 MB of products


def gold_ranks(
    queries: np.ndarray, candidates: np.ndarray, gold: np.ndarray, languages: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the ranks, from 1, of the right candidates: (among all, among those of their language), each (n, g).

    Candidates are ranked by inner product, ties by lower index, as in `xstilts.retrieve.neighbours`, without a cut.
    This holds a float64 copy of the candidates and the products of a few queries.

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
            counts = before.astype(np.float32) @ of_language  # (rows, languages): how many of each rank before it
            pooled[part, place] = 1 + counts.sum(axis=1)
            within[part, place] = 1 + counts[rows, languages[index]]
    return np.where(gold < 0, 0, pooled), np.where(gold < 0, 0, within)


def average_precision(ranks: np.ndarray) -> np.ndarray:
    """Return the uncut AP (n,), 0-1, of the ranks (n, g) of the right candidates; NaN for a query without any.

    Rank 0 means no candidate.
    """
    count = (ranks > 0).sum(axis=1)
    ordered = np.sort(np.where(ranks > 0, ranks, np.inf), axis=1)
    with np.errstate(invalid="ignore"):
        return (np.arange(1, ranks.shape[1] + 1) / ordered).sum(axis=1) / count


def by_language(
    pooled: np.ndarray, within: np.ndarray, spoken: np.ndarray, own: int
) -> tuple[dict[str, float], float | None]:
    """Return mAP, 0-100, in three settings and the language bias, in ranks, for the queries of one language.

    The settings are those of Elmahdy et al. (arXiv 2408.10536): map_multilingual (one pool of all languages),
    map_monolingual (candidates in the query's language) and map_crosslingual (candidates in one other language at a
    time, mean over these). mAP is not cut. The language bias is the highest rank of a question's parallel answers in
    the one pool minus the lowest, averaged over the questions that several languages answer. They do not define it for
    a language with several right candidates; here the best candidate counts.

    map_monolingual is left out if no candidate is in the query's language. Without any other language
    map_crosslingual is left out and the bias is None.

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
    parallel = np.isfinite(best).sum(axis=1) > 1
    return scores, float(spread[parallel].mean()) if parallel.any() else None
