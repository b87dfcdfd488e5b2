"""A shorter product: over the few dimensions that tell most pairs apart, and missing no neighbour.

Vectors are rotated so that their first dimensions hold most of their variance, and the product is taken over these
alone. What it leaves out of a pair is at most the product of the two lengths left out, and so at most half the sum of
their squares: a number per row and one per column, which `Operand` adds to its offsets. So the product is an upper
bound of the cosine. The pairs whose bound reaches the k best found so far are scored over all dimensions in fp32, and
the candidates among these exactly (`xstilts.retrieve.exact`).
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from xstilts.cli.progress import Bar
from xstilts.retrieve import product
from xstilts.retrieve.product import Operand, Side

if TYPE_CHECKING:
    import torch

LEAST_PAIRS = 10**8  # with fewer pairs, choosing a basis costs more than it can save
SAMPLE = 4096  # vectors of each pool that the basis is fitted to, or tried on
SAMPLE_ROWS = 128  # sources whose pairs with `SAMPLE` targets are counted
STEP = 64  # the sizes that are tried are multiples of it
# what scoring a pair costs, in dimensions of the product of one pair: 200 ns beside 16 ns for 768 (AVX2, one core)
SCORE_COST = 10_000
WORTH_IT = 0.85  # of the cost of the whole product
SUM_AT_ONCE = 96  # dimensions summed in one go while vectors are rotated: rounding grows with it
ROWS_AT_ONCE = 256  # of a tile compared at once: they stay within the cache
# the whole product is taken instead, if more than this share of a tile's pairs is to be scored
GIVE_UP = 0.15
CROWD = 64  # or if there are more candidates a row


@dataclass(frozen=True)
class Basis:
    """The directions a product is taken over.

    Attributes:
        matrix: (dim, size) float32, orthonormal columns, up to rounding.
        error: a bound on the distance of a rotated vector from the exact one, as a share of its length.
    """

    matrix: torch.Tensor
    error: float

    @classmethod
    def of(cls, directions: torch.Tensor) -> Basis:
        """Return the basis of these orthonormal directions, (dim, size) float64.

        The distance to the nearest orthonormal matrix is at most the Frobenius norm of Q'Q - 1. Each entry of a
        rotated vector is a sum in float32 of parts of `SUM_AT_ONCE` products.
        """
        import torch

        matrix = directions.float()
        dim, size = matrix.shape
        exact = matrix.double()
        skew = torch.linalg.norm(exact.T @ exact - torch.eye(size, dtype=torch.float64)).item()
        terms = min(dim, SUM_AT_ONCE) + -(-dim // SUM_AT_ONCE)
        return cls(matrix, 1.01 * (skew + size**0.5 * terms * 2.0**-23))

    def rotate(self, vectors: torch.Tensor) -> torch.Tensor:
        """Return the vectors in these directions: (n, size) float32."""
        parts = range(0, len(self.matrix), SUM_AT_ONCE)
        rotated = vectors[:, :SUM_AT_ONCE] @ self.matrix[:SUM_AT_ONCE]
        for start in parts[1:]:
            rotated += vectors[:, start : start + SUM_AT_ONCE] @ self.matrix[start : start + SUM_AT_ONCE]
        return rotated


def choose_basis(source: np.ndarray, target: np.ndarray, k: int) -> Basis | None:
    """Return the basis that makes the product cheapest on a sample, or None if the whole product is as cheap.

    It changes the speed, never the answer.
    """
    import torch

    n, m, dim = len(source), len(target), source.shape[1]
    if n * m < LEAST_PAIRS:
        return None

    def sample(pool: np.ndarray, first: int) -> torch.Tensor:
        step = -(-len(pool) // SAMPLE)
        return torch.from_numpy(pool[first * step // 2 :: step].astype(np.float32))

    fitted = [sample(pool, 0) for pool in (source, target)]
    means = [pool.mean(dim=0) for pool in fitted]
    directions = principal([pool - mean for pool, mean in zip(fitted, means, strict=True)])
    # other vectors than those the directions are fitted to, which leave out less
    rows, columns = sample(source, 1), sample(target, 1)
    rows = rows[:: -(-len(rows) // SAMPLE_ROWS)]
    left, right = ((pool - mean) @ directions.float() for pool, mean in zip((rows, columns), means, strict=True))
    bound = rows @ columns.T - left @ right.T  # what the means add
    cut = kth_best(rows, target, k)
    rotating = dim * (1 / n + 1 / m)
    best = WORTH_IT * dim, 0
    for size in range(STEP, dim, STEP):
        taken = slice(size - STEP, size)
        bound += left[:, taken] @ right[:, taken].T
        left_out = [half[:, size:].square().sum(dim=1) / 2 for half in (left, right)]
        reached = (bound + left_out[0][:, None] + left_out[1] >= cut).float().mean().item()
        best = min(best, (size * (1 + rotating) + SCORE_COST * reached, size))
    return Basis.of(directions[:, : best[1]]) if best[1] else None


def kth_best(queries: torch.Tensor, pool: np.ndarray, k: int) -> torch.Tensor:
    """Return the k-th best inner product of each query in the pool: (n, 1) float32."""
    import torch

    best = torch.full((len(queries), k), -torch.inf)
    for start in range(0, len(pool), product.TILE):
        scores = queries @ _tensor(pool[start : start + product.TILE]).T
        best = torch.cat([best, scores], dim=1).topk(k, dim=1).values
    return best[:, -1:]


def principal(centred: list[torch.Tensor]) -> torch.Tensor:
    """Return the principal directions of centred vectors, (dim, dim) float64, the one of most variance first."""
    import torch

    scatter = sum((part.T @ part).double() for part in centred)
    return torch.linalg.eigh(scatter).eigenvectors.flip(1)


class Crowded(Exception):
    """So many pairs are left that the whole product is faster."""


class ScoredSide(Side):
    """One direction of the search. Its candidates have scores over all dimensions, in fp32."""

    def __init__(self, k: int, slack: torch.Tensor, rounding: float, constant: float, error: float) -> None:
        """Args: constant: what every product leaves out; error: a bound on the error of a score in fp32."""
        super().__init__(k, slack, rounding)
        self.constant, self.error = constant, error
        self.lowest = self.best[:, 0].clone()  # a lower bound of the true k-th best score

    def cut(self, part: slice | torch.Tensor) -> torch.Tensor:
        """Return the lowest score in fp32 that can be among the true k best of these rows."""
        return self.lowest[part] - self.error

    def bound_cut(self, part: slice) -> np.ndarray:
        """Return the lowest product of a pair that can be among the true k best of these rows."""
        return self.reach(self.lowest[part] - self.constant, part).numpy()

    def seed_cut(self, part: slice, maxima: torch.Tensor) -> np.ndarray:
        """Return a cut that about k products of each row reach, if it has no k-th best yet; for other rows inf."""
        import torch

        known = self.lowest[part]
        cut = product.largest(torch.cat([self.best[part], maxima[: len(known)]], dim=1), self.k)[:, 0]
        return cut.clamp(min=product.PADDING / 2).masked_fill(known > -torch.inf, torch.inf).numpy()

    def add(self, rows: np.ndarray, columns: np.ndarray, scores: np.ndarray, keep: bool) -> None:
        """Take scored pairs, each once. If not `keep`, only the k-th best of a row is noted: the pairs come again."""
        import torch

        near = np.flatnonzero(scores >= self.cut(torch.from_numpy(rows)).numpy())
        rows, columns, scores = rows[near], columns[near], scores[near]
        order = np.lexsort((-scores, rows))
        changed, first = np.unique(rows[order], return_index=True)
        count = np.diff(first, append=len(order))
        row, place = np.repeat(np.arange(len(changed)), count), np.arange(len(order)) - np.repeat(first, count)
        top = place < self.k
        new = torch.full((len(changed), self.k), -torch.inf)
        new[row[top], place[top]] = torch.from_numpy(scores[order[top]])
        best = product.largest(torch.cat([self.best[changed], new], dim=1), self.k)
        self.lowest[changed] = torch.maximum(self.lowest[changed], best[:, 0] - self.error)
        if keep:
            self.best[changed] = best
            self.store(*map(torch.from_numpy, (rows.astype(np.int32), columns.astype(np.int32), scores)))
            if self.stored > product.PRUNE + CROWD * len(self.best):
                raise Crowded


class Selection:
    """The pairs of each tile that can be neighbours in one direction or the other, scored over all dimensions."""

    def __init__(self, source: np.ndarray, target: np.ndarray, sides: list[ScoredSide]) -> None:
        self.pools, self.sides = (source, target), sides

    def update(self, tile: torch.Tensor, i: int, j: int) -> None:
        """Process one tile of products, (rows, columns) from row i and column j.

        Raises:
            Crowded: see there.
        """
        (n, m), group = tile.shape, product.GROUP
        parts = [slice(i, min(i + n, len(self.pools[0]))), slice(j, min(j + m, len(self.pools[1])))]
        if j == 0 or (i == 0 and len(self.sides) > 1):  # rows or columns without a k-th best
            maxima = tile.view(n, group, m // group).amax(dim=1), tile.view(group, n // group, m).amax(dim=0).T
            self._score(tile, parts, list(map(ScoredSide.seed_cut, self.sides, parts, maxima)), keep=False)
        cuts = [side.bound_cut(part) for side, part in zip(self.sides, parts, strict=False)]
        self._score(tile, parts, cuts, keep=True)

    def _score(self, tile: torch.Tensor, parts: list[slice], cuts: list[np.ndarray], keep: bool) -> None:
        """Score the pairs of a tile that reach the cut of their row or column."""
        sizes = [part.stop - part.start for part in parts]
        values = tile.numpy()[: sizes[0], : sizes[1]]
        pairs = reaching(values, cuts)
        products, scores = values[pairs], self._scores(pairs, parts)
        indices = [index + part.start for index, part in zip(pairs, parts, strict=True)]
        for axis, (side, cut) in enumerate(zip(self.sides, cuts, strict=False)):
            own = products >= cut[pairs[axis]]
            side.add(indices[axis][own], indices[1 - axis][own], scores[own], keep)

    def _scores(self, pairs: tuple[np.ndarray, ...], parts: list[slice]) -> np.ndarray:
        """Return the inner products in fp32 of pairs of a tile, in its order: by row, then by column."""
        import torch

        left, right = (_tensor(pool[part]) for pool, part in zip(self.pools, parts, strict=True))
        starts = np.concatenate([[0], np.cumsum(np.bincount(pairs[0], minlength=len(left)))])
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta", UserWarning)
            pattern = torch.sparse_csr_tensor(
                torch.from_numpy(starts),
                torch.from_numpy(pairs[1]),
                torch.zeros(len(pairs[1])),
                size=(len(left), len(right)),
                check_invariants=False,
            )
        return torch.sparse.sampled_addmm(pattern, left, right.T, beta=0).values().numpy()


def reaching(values: np.ndarray, cuts: list[np.ndarray]) -> tuple[np.ndarray, ...]:
    """Return (rows, columns) of the values that reach the cut of their row or, if there is a second, of their column.

    Raises:
        Crowded: they are more than a share `GIVE_UP` of a whole tile.
    """
    found, count = [], 0
    for start in range(0, len(values), ROWS_AT_ONCE):
        part = values[start : start + ROWS_AT_ONCE]
        reached = part >= cuts[0][start : start + ROWS_AT_ONCE, None]
        if len(cuts) > 1:
            reached |= part >= cuts[1]
        found.append(np.flatnonzero(reached) + start * values.shape[1])
        count += len(found[-1])
        if count > GIVE_UP * product.TILE**2:
            raise Crowded
    return np.divmod(np.concatenate(found), values.shape[1])


def _tensor(array: np.ndarray) -> torch.Tensor:
    """Return an array in place as a tensor that is only read: it may be a file's."""
    import torch

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable", UserWarning)
        return torch.from_numpy(array)


@product.accurate_sums()
def walk(
    source: np.ndarray, target: np.ndarray, k: int, basis: Basis, both: bool
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return what `product.walk` returns, from the product over a basis in fp32.

    Raises:
        Crowded: it would take longer than the whole product.
    """
    import torch

    exact_means = [pool.mean(axis=0, dtype=np.float64) for pool in (source, target)]
    means = [torch.from_numpy(mean).float() for mean in exact_means]
    left = Operand(source, means[0], means[1], torch.float32, is_left=True, keep=True, basis=basis)
    right = Operand(target, means[1], means[0], torch.float32, is_left=False, keep=True, basis=basis)
    constant = means[0].double().dot(means[1].double()).item()
    longest = (left.longest + means[0].norm().item()) * (right.longest + means[1].norm().item())
    error, rounding = source.shape[1] * 2.0**-23 * longest, 1.01 * 2.0**-24
    operands = [(left, right), (right, left)][: 1 + both]
    sides = [ScoredSide(k, own.slack(other), rounding, constant, error) for own, other in operands]
    selection = Selection(source, target, sides)
    blocks = [right.block(j) for j in range(0, len(target), product.TILE)]
    buffer = torch.empty(product.TILE**2)
    few = len(source) * len(target) < product.SHOW_BAR
    with Bar(len(source), f"k-NN fp32, {basis.matrix.shape[1]} dimensions", "rows", disable=few) as bar:
        for i in range(0, len(source), product.TILE):
            rows = left.block(i)
            for j, columns in zip(range(0, len(target), product.TILE), blocks, strict=True):
                n, m = len(rows), len(columns)
                selection.update(product.multiply(rows, columns, buffer[: n * m].view(n, m)), i, j)
            bar.update(min(product.TILE, len(source) - i))
    pools = [(source, target), (target, source)]
    return [product.settle(side, *pool, "fp32", "cpu") for side, pool in zip(sides, pools, strict=False)]
