"""Nearest neighbours and mining in pools too large for exact search: a faiss index, exact scores, measured recall.

The index finds candidates for each query. They are scored exactly, as in `xstilts.retrieve.neighbours`, and the k best
are kept. So every score is exact, and the only possible error is a missed neighbour: `recall` measures how many.

Vectors are of unit length and usually memory-mapped (`normalize(vectors, path)`); they are read in blocks. Memory
holds one shard of the index, 12 * k bytes for each query and, while the index is trained, the sample.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tasks.errors import UserError, first_line
from xstilts.cli.progress import Bar
from xstilts.retrieve import neighbours
from xstilts.retrieve.exact import exact_scores

if TYPE_CHECKING:
    import faiss

NPROBE = 16  # default of --nprobe; the default of faiss is 1
CANDIDATES = 64  # default of --index_candidates; exact scores cost little compared with the search
# training vectors for each list: the minimum of faiss, and the number used if the pool is large enough
POINTS_PER_LIST = 39, 64
CODE_BOOK = 256  # entries of a product quantizer's code book, and so the minimum of training vectors
TRAIN_LEAST = 256 * CODE_BOOK  # training vectors at least: the most that faiss uses for a code book
SHARD_BYTES = 2**32  # codes of the pool held in memory at once
QUERIES_AT_ONCE = 2**14
ROWS_AT_ONCE = 2**16
RECALL_QUERIES = 1000  # sampled for `recall`


@dataclass(frozen=True)
class Index:
    """Settings of an approximate search.

    Attributes:
        factory: a faiss factory string.
        nprobe: lists to probe; None: `NPROBE`, or all lists if there are fewer.
        candidates: for each query; None: `CANDIDATES`.
        seed: of the samples that train the index and measure its recall.
    """

    factory: str
    nprobe: int | None = None
    candidates: int | None = None
    seed: int = 0

    def least(self, dim: int) -> int:
        """Return the minimum of training vectors of `dim` dimensions, 0 without training. Errors: see `_empty`."""
        index = self._empty(dim)
        return 0 if index.is_trained else max(CODE_BOOK, POINTS_PER_LIST[0] * _lists(index))

    def sample(self, size: int, dim: int) -> int:
        """Return the number of training vectors for a pool of `size`, 0 without training.

        Raises:
            UserError: the pool is too small for the number of lists.
        """
        least = self.least(dim)
        if size < least:
            raise UserError(
                f"--index {self.factory!r} needs at least {least:,} vectors to train on ({POINTS_PER_LIST[0]} for "
                f"each list, at least {CODE_BOOK}), the pool has {size:,}: take fewer lists, or leave --index out to "
                "search exactly."
            )
        return min(size, max(TRAIN_LEAST, POINTS_PER_LIST[1] * _lists(self._empty(dim)))) if least else 0

    def trained(self, pool: np.ndarray) -> faiss.Index:
        """Return an empty faiss index trained on a sample of the pool.

        Raises:
            UserError: see `sample`; or faiss cannot train it.
        """
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
        """Return the settings as text: "IVF64,PQ32, nprobe 16, 64 candidates, trained on 65,536 of 200,000"."""
        lists = _lists(self._empty(dim))
        words = [
            self.factory,
            f"nprobe {self.nprobe or min(NPROBE, lists)}" if lists else None,
            f"{self.candidates or CANDIDATES} candidates",
            f"trained on {n:,} of {size:,}" if (n := self.sample(size, dim)) else None,
        ]
        return ", ".join(word for word in words if word)

    def _empty(self, dim: int) -> faiss.Index:
        """Return a new faiss index.

        Raises:
            UserError: faiss cannot make it, or it has fewer than `nprobe` lists.
        """
        import faiss

        if self.candidates is not None and self.candidates < 1:
            raise UserError(f"--index_candidates {self.candidates}: give at least 1.")
        try:
            index = faiss.index_factory(dim, self.factory, faiss.METRIC_INNER_PRODUCT)
        except RuntimeError as error:
            raise UserError(f"--index {self.factory!r} for vectors of {dim} dimensions: {_reason(error)}.") from error
        if isinstance(faiss.downcast_index(index), faiss.IndexIDMap | faiss.IndexIDMap2):
            raise UserError(f"--index {self.factory!r}: wants ids of its own. Leave IDMap out.")
        lists = _lists(index)
        if not lists and faiss.try_extract_index_ivf(index) is not None:  # faiss makes it, but the search fails
            raise UserError(f"--index {self.factory!r} has 0 lists: give at least 1, e.g. IVF64,Flat.")
        if self.nprobe is not None and not 1 <= self.nprobe <= lists:
            hint = (
                f"give 1 to {lists:,}, the lists it has" if lists else "it has no lists to probe, leave --nprobe out"
            )
            raise UserError(f"--nprobe {self.nprobe} with --index {self.factory!r}: {hint}.")
        if lists:
            faiss.ParameterSpace().set_index_parameter(index, "nprobe", self.nprobe or min(NPROBE, lists))
        for part in filter(None, (index, getattr(index, "index", None), faiss.try_extract_index_ivf(index))):
            if hasattr(part := faiss.downcast_index(part), "do_polysemous_training"):
                # it takes minutes, and only polysemous search needs it
                part.do_polysemous_training = False
        return index


def knn(queries: np.ndarray, pool: np.ndarray, k: int, settings: Index) -> tuple[np.ndarray, np.ndarray]:
    """Return the k nearest that the index finds for every query: cosines (n, k) float32, indices (n, k) int64.

    They are ordered best first, ties by lower index. One trained index holds the pool shard by shard, each with
    SHARD_BYTES of codes. Every query is searched in each shard, the candidates are scored exactly, and the k best of
    all shards are kept.

    Raises:
        UserError: a vector is not of unit length; the index cannot be made or trained; a query finds fewer than k.
    """
    queries, pool = neighbours.check_pools(queries, pool, k, both=False)
    index = settings.trained(pool)
    wanted = max(k, settings.candidates or CANDIDATES)
    shard = min(len(pool), max(1, SHARD_BYTES // code_size(index)))
    scores = np.full((len(queries), k), -np.inf, dtype=np.float32)
    indices = np.full((len(queries), k), -1, dtype=np.int64)
    starts = range(0, len(pool), shard)
    work = len(queries) * len(starts)
    with Bar(work, f"search {settings.factory}", "rows", disable=work < QUERIES_AT_ONCE) as bar:
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
            f"--index {settings.factory!r}: {short:,} of {len(queries):,} queries found fewer than {k} neighbours: "
            "raise --nprobe, or take fewer lists."
        )
    return scores, indices


def exact(queries: np.ndarray, pool: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Return the cosine of every query and each of its candidates: (n, candidates) float32.

    Args:
        found: (n, candidates), rows of the pool; -1 for no candidate, whose cosine is -inf.
    """
    scores = np.full(found.shape, -np.inf, dtype=np.float32)
    rows, places = np.nonzero(found >= 0)
    scores[rows, places] = exact_scores(queries, pool, rows, found[rows, places])
    return scores


def best_of(k: int, *lists: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Merge several (scores, indices) and return the k best: each (n, k), best first, ties by lower index."""
    scores, indices = (np.hstack(parts) for parts in zip(*lists, strict=True))
    order = np.lexsort((indices, -scores), axis=1)[:, :k]
    return np.take_along_axis(scores, order, axis=1), np.take_along_axis(indices, order, axis=1)


def exact_knn(queries: np.ndarray, pool: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return `neighbours.knn` for a few queries. The pool is read in blocks and never held as a whole."""
    found: list[tuple[np.ndarray, np.ndarray]] = []
    for start in range(0, len(pool), ROWS_AT_ONCE):
        rows = pool[start : start + ROWS_AT_ONCE]
        scores, indices = neighbours.knn(queries, rows, min(k, len(rows)))
        found = [best_of(k, *found, (scores, indices + start))]
    return found[0]


def recall(queries: np.ndarray, pool: np.ndarray, scores: np.ndarray, seed: int = 0) -> float:
    """Return recall@k, 0-100: the share of the exact k nearest that were found, over RECALL_QUERIES sampled queries.

    With ties for the k-th place, any of them counts.

    Args:
        scores: (n, k), what the search found.
    """
    sample = _sample(len(queries), min(len(queries), RECALL_QUERIES), seed)
    exact, _ = exact_knn(np.ascontiguousarray(queries[sample]), pool, scores.shape[1])
    return float(100 * (scores[sample] >= exact[:, -1:]).mean())


def nearest(queries: np.ndarray, pool: np.ndarray, settings: Index) -> tuple[np.ndarray, float]:
    """Return (the index of every query's nearest, (n,) int64; recall@1, 0-100)."""
    scores, indices = knn(queries, pool, 1, settings)
    return indices[:, 0], recall(queries, pool, scores, settings.seed)


def bidirectional_knn(
    source: np.ndarray, target: np.ndarray, k: int, settings: Index
) -> tuple[neighbours.Knn, dict[str, float]]:
    """Return the neighbours in both directions, for `mining.pair`, and {"forward", "backward": recall, 0-100}."""
    forward, backward = knn(source, target, k, settings), knn(target, source, k, settings)
    found = {
        "forward": recall(source, target, forward[0], settings.seed),
        "backward": recall(target, source, backward[0], settings.seed),
    }
    return neighbours.Knn(*forward, *backward), found


def _lists(index: faiss.Index) -> int:
    """Return the number of inverted lists of a faiss index, 0 without lists."""
    import faiss

    ivf = faiss.try_extract_index_ivf(index)
    return ivf.nlist if ivf is not None else 0


def code_size(index: faiss.Index) -> int:
    """Return the bytes of a vector in a faiss index. A graph has no codes, so there it is the vector itself."""
    try:
        return index.sa_code_size()
    except RuntimeError:
        return 4 * index.d


def _sample(size: int, wanted: int, seed: int) -> np.ndarray:
    """Return `wanted` distinct rows of `size`, in ascending order, so that a file is read front to back."""
    return np.sort(np.random.default_rng(seed).choice(size, wanted, replace=False))


def _reason(error: RuntimeError) -> str:
    """Return the message of a faiss error without its C++ function and line."""
    return first_line(error).rpartition(": ")[2].rstrip(".")
