"""Retrieval between every pair of languages whose rows are the same sentences, from one set of vectors."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np

from xstilts.cli.progress import Bar
from xstilts.retrieve import neighbours
from xstilts.retrieve.exact import exact_scores, plain_knn
from xstilts.retrieve.product import TILE, accurate_sums, best_device

SHOW_BAR = 100  # pairs; from this number a progress bar is shown


def every_pair(
    queries: Mapping[str, np.ndarray], candidates: Mapping[str, np.ndarray] | None = None, desc: str = "pairs"
) -> tuple[dict[str, np.ndarray], dict[tuple[str, str], float]]:
    """Return the accuracy of every language with each of the others, in both directions.

    Args:
        queries: {language: unit vectors (n, dim) float32}, row i the same sentence in every language.
        candidates: the same sentences with the prompt of a passage; None: the vectors of `queries`.
        desc: text of the progress bar.

    Returns:
        ({language: (n,) float64 in 0..1}, {(query language, candidate language): accuracy 0-100}). The value of
        sentence i in a language is the mean of its hits over the other languages and both directions. So 100 times
        the mean over sentences and languages is the mean accuracy of all ordered pairs.

    Raises:
        UserError: vectors that cannot be searched.
    """
    languages, n = list(queries), len(next(iter(queries.values())))
    queries = {code: _checked(queries[code]) for code in languages}
    candidates = None if candidates is None else {code: _checked(candidates[code]) for code in languages}
    values, accuracies = {code: np.zeros(n) for code in languages}, {}
    pairs = list(itertools.combinations(languages, 2))
    bar = Bar(len(pairs), desc, "pairs", disable=len(pairs) < SHOW_BAR)
    for one, other in pairs:
        if candidates is None:  # one product serves both directions
            hits = own_hits(queries[one], queries[other])
        else:
            hits = own_hits(queries[one], candidates[other])[0], own_hits(queries[other], candidates[one])[0]
        accuracies[one, other], accuracies[other, one] = (100 * float(hit.mean()) for hit in hits)
        for code in (one, other):
            values[code] += np.mean(hits, axis=0) / (len(languages) - 1)
        bar.update()
    bar.close()
    return values, accuracies


def _checked(vectors: np.ndarray) -> np.ndarray:
    """Return one language's vectors as contiguous float32. Raise UserError if they cannot be searched."""
    return neighbours.check_pools(vectors, vectors, 1, both=False)[0]


@accurate_sums()
def own_hits(left: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return whether the nearest of every left row is the right row of its number, and the other way round: (n,) bool.

    The answer is that of `neighbours.nearest`, ties included, without a search: a row's exact cosine with its own is
    compared with the highest of its other products. These are fp32, with a bound on their error. Only a row that the
    bound leaves open is searched.
    """
    import torch

    n, device = len(left), best_device()
    own = exact_scores(left, right, np.arange(n), np.arange(n))
    highest = torch.full((2, n), -torch.inf, device=device)
    a, b = (torch.tensor(side, device=device) for side in (left, right))
    for i in range(0, n, TILE):
        for j in range(0, n, TILE):
            tile = a[i : i + TILE] @ b[j : j + TILE].T
            if i == j:
                tile.fill_diagonal_(-torch.inf)
            for side, start, axis in ((0, i, 1), (1, j, 0)):
                part = highest[side, start : start + tile.shape[1 - axis]]
                torch.maximum(part, tile.amax(dim=axis), out=part)
    # each of dim products and sums errs by at most 2^-24 of itself, and unit vectors sum to at most 1 (and a
    # tolerance); twice that, and a few units for the rounding of the exact cosine
    slack = (left.shape[1] + 16) * 2.0**-23
    hits = []
    for other, queries, pool in zip(highest.cpu().numpy(), (left, right), (right, left), strict=True):
        hit = other < own
        (unsure,) = np.nonzero(np.abs(other - own) <= slack)
        hit[unsure] = plain_knn(queries[unsure], pool, 1)[1][:, 0] == unsure
        hits.append(hit)
    return hits[0], hits[1]
