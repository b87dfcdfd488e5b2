"""Retrieval between every pair of languages whose rows are the same sentences, from one set of vectors."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np

from xstilts.cli.progress import Bar
from xstilts.retrieve import neighbours

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
    values, accuracies, rows = {code: np.zeros(n) for code in languages}, {}, np.arange(n)
    pairs = list(itertools.combinations(languages, 2))
    bar = Bar(len(pairs), desc, "pairs", disable=len(pairs) < SHOW_BAR)
    for one, other in pairs:
        if candidates is None:  # one product serves both directions
            near = neighbours.bidirectional_knn(queries[one], queries[other], 1)
            found = near.forward_indices[:, 0], near.backward_indices[:, 0]
        else:
            found = (
                neighbours.nearest(queries[one], candidates[other]),
                neighbours.nearest(queries[other], candidates[one]),
            )
        hits = [each == rows for each in found]
        accuracies[one, other], accuracies[other, one] = (100 * float(hit.mean()) for hit in hits)
        for code in (one, other):
            values[code] += np.mean(hits, axis=0) / (len(languages) - 1)
        bar.update()
    bar.close()
    return values, accuracies
