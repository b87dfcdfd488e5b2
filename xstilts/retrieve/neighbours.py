"""Exact nearest neighbours between two pools of sentence vectors.

Vectors are float32 arrays of shape (n, dim) and (m, dim), L2-normalised (`xstilts.retrieve.vectors.normalize`),
so that an inner product is a cosine.

Ties. A cosine here is the inner product computed in float64 and rounded to float32. So it depends only on the two
vectors, not on their rows, and equal vectors get equal cosines. Neighbours with equal cosines are ordered by index,
lowest first. Apart from such ties no result depends on the order of the rows.

Memory. float32 pools are read in place, so memory-mapped ones (`np.load(..., mmap_mode="r")`) are never loaded as a
whole; other dtypes are copied. The search also holds a copy of the targets in the dtype of the cheap product (bf16:
half their bytes), one tile, and the candidates. In a shorter product (`xstilts.retrieve.short`) it is a copy of both
pools, of fewer dimensions. If the copy is too large, use `xstilts.retrieve.index`.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from tasks.errors import UserError
from xstilts.retrieve import short
from xstilts.retrieve.exact import plain_knn
from xstilts.retrieve.product import best_device, fastest_engine, walk
from xstilts.retrieve.vectors import normalize

ENGINES = ("auto", "bf16", "short", "fp32", "plain")
PLAIN_PRODUCT = 2**18  # pairs; up to this number the plain float64 product is faster
UNIT_TOLERANCE = 1e-3  # how far a norm may be from 1: bf16 vectors pass, forgotten normalisation does not


@dataclass(frozen=True)
class Knn:
    """The k nearest neighbours in both directions, best first.

    forward_scores (n, k) float32 cosines and forward_indices (n, k) int64 into the target pool; backward_* (m, k)
    into the source pool.
    """

    forward_scores: np.ndarray
    forward_indices: np.ndarray
    backward_scores: np.ndarray
    backward_indices: np.ndarray


def _checked(vectors: np.ndarray, name: str) -> np.ndarray:
    """Return the vectors as contiguous float32 (n, dim). Raise UserError unless all are finite and of unit length."""
    vectors = np.asarray(vectors)
    if vectors.ndim != 2 or vectors.dtype.kind != "f":
        raise UserError(
            f"{name} vectors: expected a float array (n, dim), got {vectors.dtype} of shape {vectors.shape}."
        )
    if len(vectors) == 0:
        raise UserError(f"{name} vectors: the pool is empty.")
    vectors = np.ascontiguousarray(vectors, dtype=np.float32)
    norms = np.sqrt(np.einsum("nd,nd->n", vectors, vectors))
    wrong = ~(np.abs(norms - 1) <= UNIT_TOLERANCE)  # written so that NaN is wrong too
    if wrong.any():
        row = int(wrong.argmax())
        raise UserError(
            f"{name} vectors: {int(wrong.sum())} of {len(vectors)} are not of unit length (first: row {row}, norm "
            f"{norms[row]:.4g}). Pass them through xstilts.retrieve.vectors.normalize first."
        )
    return vectors


def check_pools(source: np.ndarray, target: np.ndarray, k: int, both: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return the pools as contiguous float32.

    Raises:
        UserError: a vector is not finite or not of unit length, the dimensions differ, or a pool has fewer than k
            vectors (the source pool too if `both`).
    """
    source, target = _checked(source, "source"), _checked(target, "target")
    if source.shape[1] != target.shape[1]:
        raise UserError(
            f"source vectors have {source.shape[1]} dimensions, target vectors {target.shape[1]}: "
            "embed both sides with one encoder and one layer."
        )
    pools = {"target": len(target), "source": len(source)} if both else {"target": len(target)}
    for name, size in pools.items():
        if not 1 <= k <= size:
            raise UserError(f"k={k} neighbours in a {name} pool of {size}: k must be between 1 and {size}.")
    return source, target


def _search(
    source: np.ndarray, target: np.ndarray, k: int, engine: str, both: bool
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the k nearest by inner product in checked, contiguous float32 pools. All engines give the same answer."""
    if engine not in ENGINES:
        raise UserError(f"engine={engine!r} is unknown; choose one of {', '.join(ENGINES)}.")
    if engine == "auto":
        engine = "plain" if len(source) * len(target) <= PLAIN_PRODUCT else fastest_engine(best_device())
        if engine == "fp32" and best_device() == "cpu":
            engine = "short"
    if engine == "plain":
        return [plain_knn(source, target, k)] + ([plain_knn(target, source, k)] if both else [])
    if engine == "short":
        basis, engine = short.choose_basis(source, target, k), "fp32"
        if basis is not None:
            with suppress(short.Crowded):  # the sample was wrong: the whole product is faster
                return short.walk(source, target, k, basis, both)
    return walk(source, target, k, engine, both, best_device())


def knn(
    source: np.ndarray, target: np.ndarray, k: int = 4, engine: str = "auto", csls: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the k nearest targets of every source: scores (n, k) float32 and indices (n, k) int64, best first.

    Args:
        engine: see `bidirectional_knn`.
        csls: number of neighbours of CSLS; the scores are then inner products of `csls_vectors`. None: cosines.

    Raises:
        UserError: see `check_pools`; or the engine is unknown.
    """
    source, target = check_pools(source, target, k, both=False)
    if csls is not None:
        source, target = csls_vectors(source, target, csls)
    return _search(source, target, k, engine, both=False)[0]


def bidirectional_knn(source: np.ndarray, target: np.ndarray, k: int = 4, engine: str = "auto") -> Knn:
    """Return the exact k nearest targets of every source and the k nearest sources of every target, from one product.

    Args:
        engine: changes the speed, never the answer: "bf16" or "fp32" (a cheap product in that precision, then exact
            scores of the candidates), "short" (in fp32 over fewer dimensions, if that is faster for these vectors,
            otherwise "fp32"), "plain" (the float64 product), "auto" (plain for small pools, otherwise bf16 or short,
            whichever this machine multiplies faster; fp32 on a GPU without bf16).

    Raises:
        UserError: see `check_pools`; or the engine is unknown.
    """
    source, target = check_pools(source, target, k, both=True)
    forward, backward = _search(source, target, k, engine, both=True)
    return Knn(*forward, *backward)


def csls_vectors(source: np.ndarray, target: np.ndarray, k: int = 10) -> tuple[np.ndarray, np.ndarray]:
    """Return vectors (n, dim + 1) and (m, dim + 1) float32 whose inner products rank the targets as CSLS does.

    CSLS is 2 cos(x, y) - r(x) - r(y). r is the mean cosine of a vector to its k nearest in the other pool, so targets
    that are close to every source rank lower (Conneau et al., ICLR 2018, arXiv 1710.04087; there k is 10).
    """
    near = bidirectional_knn(source, target, k)
    # r(x) is equal for all targets of x, so it is left out. One more dimension subtracts r(y) / 2:
    # (x, 1).(y, -r(y) / 2).
    penalty = near.backward_scores.mean(axis=1, keepdims=True, dtype=np.float64) / 2
    left = np.hstack([source, np.ones((len(source), 1))]).astype(np.float32)
    return left, np.hstack([target, -penalty]).astype(np.float32)


def nearest(source: np.ndarray, target: np.ndarray, csls: int | None = None) -> np.ndarray:
    """Return the index (n,) int64 of every source's nearest target by cosine or, with `csls` neighbours, by CSLS."""
    return knn(source, target, 1, csls=csls)[1][:, 0]


def nearest_by_cosine(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Normalise vectors (n, dim) and (m, dim) and return `nearest`.

    Raises:
        UserError: a vector is zero or not finite.
    """
    return nearest(normalize(source), normalize(target))
