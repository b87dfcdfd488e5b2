"""Retrieval between any two of many languages whose rows are the same sentences, from vectors that were computed
once."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np
from tqdm import tqdm

from xstilts.retrieve import neighbours

SHOW_BAR = 100  # pairs from which on a search takes long enough for a progress bar


def every_pair(
    asking: Mapping[str, np.ndarray], asked: Mapping[str, np.ndarray] | None = None, desc: str = "pairs"
) -> tuple[dict[str, np.ndarray], dict[tuple[str, str], float]]:
    """What every language is worth with each of the others, both asking and asked.

    Args:
        asking: {language: unit vectors (n, dim) float32}, row i the same sentence in every language.
        asked: the same sentences as they are searched, where a prompt makes other vectors of them; None: the same
            vectors.

    Returns:
        ({language: (n,) float64 in 0..1}, {(asking, asked): accuracy 0-100}). The value of sentence i in a language is
        the mean
        over the other languages and both directions: whether i there is nearest to i here, and i here to i there. So
            100 times
        the mean over sentences and languages is the mean accuracy of all ordered pairs.

    Raises:
        UserError: vectors that cannot be searched.
    """
    languages, n = list(asking), len(next(iter(asking.values())))
    values, accuracies, rows = {code: np.zeros(n) for code in languages}, {}, np.arange(n)
    pairs = list(itertools.combinations(languages, 2))
    for one, other in tqdm(pairs, desc=desc, unit="pair", disable=len(pairs) < SHOW_BAR):
        if asked is None:  # one product serves both directions
            near = neighbours.bidirectional_knn(asking[one], asking[other], 1)
            found = near.forward_indices[:, 0], near.backward_indices[:, 0]
        else:
            found = neighbours.nearest(asking[one], asked[other]), neighbours.nearest(asking[other], asked[one])
        hits = [each == rows for each in found]
        accuracies[one, other], accuracies[other, one] = (100 * float(hit.mean()) for hit in hits)
        for code in (one, other):
            values[code] += np.mean(hits, axis=0) / (len(languages) - 1)
    return values, accuracies
