"""Exact cosines of pairs, and the reference search: the k nearest from the whole product in float64."""

from __future__ import annotations

import numpy as np

PLAIN_ROWS, PLAIN_COLUMNS = 256, 16384  # of the float64 product held at once: 32 MiB


def exact_scores(left: np.ndarray, right: np.ndarray, i: np.ndarray, j: np.ndarray) -> np.ndarray:
    """Return float32 cosines of the pairs (left[i], right[j]), summed in float64."""
    scores = np.empty(len(i), dtype=np.float32)
    for start in range(0, len(i), 256):  # the gathered rows stay within the cache
        part = slice(start, start + 256)
        scores[part] = np.einsum("nd,nd->n", left[i[part]], right[j[part]], dtype=np.float64)
    return scores


def top_k(rows: np.ndarray, columns: np.ndarray, scores: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the k best candidates of every row, ties by lower column: (rows, k) scores and columns, rows ascending.

    Every row in `rows` must have at least k candidates.
    """
    order = np.lexsort((columns, -scores, rows))
    first = np.flatnonzero(np.diff(rows[order], prepend=-1))
    kept = order[first[:, None] + np.arange(k)]
    return scores[kept], columns[kept].astype(np.int64)


def plain_knn(source: np.ndarray, target: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the k nearest targets of every source from the whole float64 product: the reference implementation."""
    scores = np.full((len(source), k), -np.inf, dtype=np.float32)
    indices = np.zeros((len(source), k), dtype=np.int64)
    for j in range(0, len(target), PLAIN_COLUMNS):
        columns = np.arange(j, min(j + PLAIN_COLUMNS, len(target)))
        right = target[columns].astype(np.float64).T
        for i in range(0, len(source), PLAIN_ROWS):
            part = slice(i, i + PLAIN_ROWS)
            product = (source[part].astype(np.float64) @ right).astype(np.float32)
            product = np.hstack([scores[part], product])
            index = np.hstack([indices[part], np.broadcast_to(columns, (len(product), len(columns)))])
            last = -np.partition(-product, k - 1, axis=1)[:, k - 1, None]
            rows, place = np.nonzero(product >= last)
            scores[part], indices[part] = top_k(rows, index[rows, place], product[rows, place], k)
    return scores, indices
