"""Nearest neighbours and mining in pools too large for exact search: a faiss index, exact scores, recall measured.

An index finds candidates for each query; they are scored exactly, as in `xstilts.retrieve.mining`, and the k best are
kept. So every score is right, and all an index can do wrong is to miss a neighbour: `recall` measures how many it
missed.

Vectors are those of `xstilts.retrieve.mining`, usually memory-mapped (`normalize(vectors, path)`), and are read in
blocks. In memory stand one shard of the index, 12 * k bytes a query, and, while the index is trained, the sample.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from xstilts.errors import UserError, first_line
from xstilts.retrieve import neighbours

if TYPE_CHECKING:
    import faiss

NPROBE = 16  # lists looked into, unless given; faiss itself looks into one
CANDIDATES = 64  # for each query, unless given: scoring them exactly costs little beside finding them
# training vectors for each list: the least faiss asks for, and what is taken where there are as many
POINTS_PER_LIST = 39, 64
CODE_BOOK = 256  # entries of a product quantizer's code book: it cannot be trained on fewer vectors
TRAIN_LEAST = 256 * CODE_BOOK  # vectors taken for training whatever the lists: the most faiss uses for a code book
SHARD_BYTES = 2**32  # codes of the pool held at once
QUERIES_AT_ONCE = 2**14
ROWS_AT_ONCE = 2**16
RECALL_QUERIES = 1000  # sampled for `recall`


@dataclass(frozen=True)
class Index:
    """How to search: a faiss factory string, lists to probe where it has lists, candidates for each query, and the
    seed of the samples to train on and to measure recall with."""

    factory: str
    nprobe: int | None = None
    candidates: int | None = None
    seed: int = 0

    def least(self, dim: int) -> int:
        """The fewest vectors of `dim` dimensions it can be trained on; 0 where it needs no training. Errors:
        `_empty`."""
        index = self._empty(dim)
        return 0 if index.is_trained else max(CODE_BOOK, POINTS_PER_LIST[0] * _lists(index))

    def sample(self, size: int, dim: int) -> int:
        """How many vectors of a pool of `size` it is trained on.

        Raises:
            UserError: the pool is too small for its lists.
        """
        least = self.least(dim)
        if size < least:
            raise UserError(
                f"--index {self.factory!r} needs at least {least:,} vectors to train on ({POINTS_PER_LIST[0]} for "
                f"each list, {CODE_BOOK} in any case), the pool has {size:,}: take fewer lists, or leave --index out "
                "and search exactly."
            )
        return min(size, max(TRAIN_LEAST, POINTS_PER_LIST[1] * _lists(self._empty(dim)))) if least else 0

    def trained(self, pool: np.ndarray) -> faiss.Index:
        """A faiss index trained on a sample of the pool, still empty. UserError as in `sample`, or if faiss
        refuses."""
        size, index = self.sample(*pool.shape), self._empty(pool.shape[1])
        if size:
            try:
                index.train(np.asarray(pool[_sample(len(pool), size, self.seed)], dtype=np.float32))
            except RuntimeError as error:
                raise UserError(
                    f"--index {self.factory!r} cannot be trained on {size:,} vectors: {_reason(error)}."
                ) from error
        return index

    def describe(self, size: int, dim: int) -> str:
        """What is searched how, for a report: "IVF64,PQ32, nprobe 16, 64 candidates, trained on 65,536 of 200,000"."""
        lists = _lists(self._empty(dim))
        words = [
            self.factory,
            f"nprobe {self.nprobe or min(NPROBE, lists)}" if lists else None,
            f"{self.candidates or CANDIDATES} candidates",
            f"trained on {n:,} of {size:,}" if (n := self.sample(size, dim)) else None,
        ]
        return ", ".join(word for word in words if word)

    def _empty(self, dim: int) -> faiss.Index:
        """A new faiss index. UserError if faiss cannot make it, with faiss's reason, or it has not so many lists to
        probe."""
        import faiss

        if self.candidates is not None and self.candidates < 1:
            raise UserError(f"--index_candidates {self.candidates}: give at least 1.")
        try:
            index = faiss.index_factory(dim, self.factory, faiss.METRIC_INNER_PRODUCT)
        except RuntimeError as error:
            raise UserError(f"--index {self.factory!r} for vectors of {dim} dimensions: {_reason(error)}.") from error
        lists = _lists(index)
        if not lists and faiss.try_extract_index_ivf(index) is not None:  # faiss makes it, and fails in the search
            raise UserError(f"--index {self.factory!r} has 0 lists: give 1 at least, e.g. IVF64,Flat.")
        if self.nprobe is not None and not 1 <= self.nprobe <= lists:
            hint = f"give 1 to {lists:,}, the lists it has" if lists else "it has no lists to probe, leave this out"
            raise UserError(f"--nprobe {self.nprobe} with --index {self.factory!r}: {hint}.")
        if lists:
            faiss.ParameterSpace().set_index_parameter(index, "nprobe", self.nprobe or min(NPROBE, lists))
        for part in filter(None, (index, getattr(index, "index", None), faiss.try_extract_index_ivf(index))):
            if hasattr(part := faiss.downcast_index(part), "do_polysemous_training"):
                # minutes of ordering codes for a kind of search that is not done here
                part.do_polysemous_training = False
        return index


def knn(
    queries: np.ndarray, pool: np.ndarray, k: int, how: Index, shard: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest of `pool` for every query as far as the index finds them: cosines (n, k) float32 and indices (n,
    k) int64, best first, ties by lower index.

    One trained index takes in the pool shard by shard (`shard` rows, or as many as have SHARD_BYTES of codes); every
    query is searched in each, what is found there is scored exactly, and the k best of all shards are kept.

    Raises:
        UserError: the vectors are none of unit length; the index cannot be made or trained; a query finds fewer than
            k.
    """
    from tqdm import tqdm

    queries, pool = neighbours.check_pools(queries, pool, k, both=False)
    index = how.trained(pool)
    wanted = max(k, how.candidates or CANDIDATES)
    shard = min(len(pool), shard or max(1, SHARD_BYTES // code_size(index)))
    scores = np.full((len(queries), k), -np.inf, dtype=np.float32)
    indices = np.full((len(queries), k), -1, dtype=np.int64)
    starts = range(0, len(pool), shard)
    work = len(queries) * len(starts)
    with tqdm(total=work, desc=how.factory, unit="query", disable=work < QUERIES_AT_ONCE) as bar:
        for start in starts:
            index.reset()
            rows = pool[start : start + shard]
            for block in range(0, len(rows), ROWS_AT_ONCE):
                index.add(rows[block : block + ROWS_AT_ONCE])
            for row in range(0, len(queries), QUERIES_AT_ONCE):
                part = slice(row, row + QUERIES_AT_ONCE)
                found = index.search(queries[part], min(wanted, len(rows)))[1]
                new = exact(queries[part], rows, found), found + start
                scores[part], indices[part] = best_of(k, (scores[part], indices[part]), new)
                bar.update(len(found))
    short = int((scores[:, -1] == -np.inf).sum())
    if short:
        raise UserError(
            f"--index {how.factory!r}: {short:,} of {len(queries):,} queries found fewer than {k} neighbours: raise "
            "--nprobe, or take fewer lists."
        )
    return scores, indices


def exact(queries: np.ndarray, pool: np.ndarray, found: np.ndarray) -> np.ndarray:
    """The cosine of every query and each of its candidates `found` (n, wanted), -inf where that is -1: (n, wanted)
    float32."""
    scores = np.full(found.shape, -np.inf, dtype=np.float32)
    rows, places = np.nonzero(found >= 0)
    scores[rows, places] = neighbours.exact_scores(queries, pool, rows, found[rows, places])
    return scores


def best_of(k: int, *lists: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The k best of several (scores, indices) with as many rows: each (n, k), best first, ties by lower index."""
    scores, indices = (np.hstack(parts) for parts in zip(*lists, strict=True))
    order = np.lexsort((indices, -scores), axis=1)[:, :k]
    return np.take_along_axis(scores, order, axis=1), np.take_along_axis(indices, order, axis=1)


def exact_knn(queries: np.ndarray, pool: np.ndarray, k: int, block: int = 2**17) -> tuple[np.ndarray, np.ndarray]:
    """`neighbours.knn`, the pool read in blocks: nothing as large as the pool is held. For a few queries."""
    found = []
    for start in range(0, len(pool), block):
        rows = pool[start : start + block]
        scores, indices = neighbours.knn(queries, rows, min(k, len(rows)))
        found = [best_of(k, *found, (scores, indices + start))]
    return found[0]


def recall(queries: np.ndarray, pool: np.ndarray, scores: np.ndarray, seed: int = 0) -> float:
    """recall@k in 0-100 of the found `scores` (n, k): the share of the k nearest that were found, over RECALL_QUERIES
    sampled queries (all, if there are fewer).

    The k nearest are computed exactly for it. Of those that tie for the k-th place any counts.
    """
    sample = _sample(len(queries), min(len(queries), RECALL_QUERIES), seed)
    exact, _ = exact_knn(np.ascontiguousarray(queries[sample]), pool, scores.shape[1])
    return float(100 * (scores[sample] >= exact[:, -1:]).mean())


def nearest(queries: np.ndarray, pool: np.ndarray, how: Index) -> tuple[np.ndarray, float]:
    """(the index of every query's nearest, (n,) int64, recall@1)."""
    scores, indices = knn(queries, pool, 1, how)
    return indices[:, 0], recall(queries, pool, scores, how.seed)


def bidirectional_knn(
    source: np.ndarray, target: np.ndarray, k: int, how: Index
) -> tuple[neighbours.Knn, dict[str, float]]:
    """The neighbours in both directions, for `mining.pair`, and the recall of each: {"forward": 0-100, "backward":
    0-100}."""
    forward, backward = knn(source, target, k, how), knn(target, source, k, how)
    found = {
        "forward": recall(source, target, forward[0], how.seed),
        "backward": recall(target, source, backward[0], how.seed),
    }
    return neighbours.Knn(*forward, *backward), found


def _lists(index: faiss.Index) -> int:
    """The inverted lists of a faiss index, 0 where it has none."""
    import faiss

    ivf = faiss.try_extract_index_ivf(index)
    return ivf.nlist if ivf is not None else 0


def code_size(index: faiss.Index) -> int:
    """Bytes a vector in a faiss index; of a graph, which has no codes, those of the vector."""
    try:
        return index.sa_code_size()
    except RuntimeError:
        return 4 * index.d


def _sample(size: int, wanted: int, seed: int) -> np.ndarray:
    """`wanted` different rows of `size`, ascending, so that a file is read from front to back."""
    return np.sort(np.random.default_rng(seed).choice(size, wanted, replace=False))


def _reason(error: RuntimeError) -> str:
    """What faiss says, without the C++ function and line it says it from."""
    return first_line(error).rpartition(": ")[2].rstrip(".")
