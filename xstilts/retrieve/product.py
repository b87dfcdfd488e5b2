"""The cheap product of two pools in tiles: it selects the pairs that can be among the k nearest, and misses none.

Its products are inexact, with a bound on the error. The selected pairs are scored exactly (`xstilts.retrieve.exact`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from xstilts.cli.progress import Bar
from xstilts.retrieve.exact import exact_scores, plain_knn, top_k

if TYPE_CHECKING:
    import torch

    from xstilts.retrieve.short import Basis

DTYPES = {"bf16": "bfloat16", "fp32": "float32"}
TILE = 4096  # rows and columns of the product held at once: 32 MiB in bf16
GROUP = 32  # columns that share one maximum: larger means fewer comparisons, smaller means fewer members to read
CROWD = 64  # a row with candidates in more groups of a tile (of 128) is searched again, more precisely
PRUNE = 4_000_000  # candidates held before the obsolete ones are dropped
PADDING = -1e4  # below any product of the vectors, so that padding is never a neighbour
SHOW_BAR = 10**9  # pairs; from this number a progress bar is shown


class Operand:
    """One pool prepared for the cheap product, with bounds on its rounding error.

    With u and v the means of the two pools, x.y = (x - u).(y - v) + (x - u).v + u.(y - v) + u.v. Contextual vectors
    lie close to their mean, where bf16 cannot distinguish them. Without the mean they are short, and so is their
    rounding error. The two middle terms are one number per row and one per column: extra columns of the same product
    hold them, as a high and a low part against ones. The last term is constant and left out.

    With a basis the product is over its directions alone, and an upper bound: see `xstilts.retrieve.short`.
    """

    def __init__(
        self,
        vectors: np.ndarray,
        mean: torch.Tensor,
        other_mean: torch.Tensor,
        dtype: torch.dtype,
        is_left: bool,
        keep: bool = False,
        basis: Basis | None = None,
    ) -> None:
        """Args: keep: hold all blocks, instead of computing each when it is needed."""
        import torch

        self.vectors, self.mean, self.other_mean, self.dtype = vectors, mean, other_mean, dtype
        self.basis, self.longest = basis, 0.0
        self.blocks: dict[int, torch.Tensor] = {}
        size, dim = len(vectors), vectors.shape[1] if basis is None else basis.matrix.shape[1]
        register = 64 // dtype.itemsize  # the rest of the last one stays zero
        self.width = -(-(dim + 4) // register) * register
        own, ones = slice(dim, dim + 2), slice(dim + 2, dim + 4)
        self.own, self.ones = (own, ones) if is_left else (ones, own)
        self.moved, self.length, self.offset, self.offset_moved = torch.empty(4, size, device=mean.device)
        for start in range(0, size, TILE):
            part = slice(start, start + TILE)
            rest, offset = self._split(start)
            rounded, parts = rest.to(dtype).float(), self._parts(offset).float()
            self.moved[part] = (rest - rounded).norm(dim=1)
            self.length[part] = torch.maximum(rest.norm(dim=1), rounded.norm(dim=1))
            self.offset[part] = offset.abs()
            self.offset_moved[part] = (offset - parts[:, 0] - parts[:, 1]).abs()
            if keep:
                self.blocks[start] = self._padded(rest, offset)

    def _split(self, start: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (x - u, (x - u).v) of one block of rows; with a basis, rotated and raised by what it leaves out."""
        import torch

        rest = torch.tensor(self.vectors[start : start + TILE], device=self.mean.device) - self.mean
        offset = rest @ self.other_mean
        if self.basis is None:
            return rest, offset
        squares, rotated = rest.square().sum(dim=1), self.basis.rotate(rest)
        self.longest = max(self.longest, squares.max().sqrt().item())
        return rotated, offset + (squares - rotated.square().sum(dim=1)) / 2

    def _parts(self, offset: torch.Tensor) -> torch.Tensor:
        """Return the offsets as high + low part in this dtype: (rows, 2)."""
        import torch

        high = offset.to(self.dtype)
        return torch.stack([high, (offset - high.float()).to(self.dtype)], dim=1)

    def block(self, start: int) -> torch.Tensor:
        """Return the operand of one block of rows: (rows, width), rows padded to whole groups."""
        return self.blocks[start] if start in self.blocks else self._padded(*self._split(start))

    def _padded(self, rest: torch.Tensor, offset: torch.Tensor) -> torch.Tensor:
        import torch

        size, dim = rest.shape
        matrix = torch.zeros(-(-size // GROUP) * GROUP, self.width, dtype=self.dtype, device=rest.device)
        matrix[:size, :dim] = rest
        matrix[:size, self.own] = self._parts(offset)
        matrix[size:, self.own.start] = PADDING
        matrix[:, self.ones] = 1
        return matrix

    def slack(self, other: Operand) -> torch.Tensor:
        """Return a bound on the error of each row's products before they are rounded: (size,) float32.

        It is Cauchy-Schwarz on the rounding of the inputs, plus dim * 2^-23 of the sum of magnitudes for fp32
        accumulation (each of dim products and sums errs by at most 2^-24 of itself). The last term covers the fp32
        arithmetic around the product: means, offsets, and the rounding of exact scores to fp32, which makes ties.
        """
        length = other.length.max()
        sums = self.width * (self.length * length + self.offset + other.offset.max())
        for pool in (self, other):  # offsets are sums of their own, over all dimensions even with a basis
            terms = max(self.width, self.vectors.shape[1])
            sums += terms * max(pool.longest, pool.length.max().item()) * pool.other_mean.norm()
        inputs = self.moved * length + self.length * other.moved.max() + self.offset_moved + other.offset_moved.max()
        if self.basis is not None:  # an error of e in the length of both: of 2e in the product and in each square
            turned = self.basis.error + self.vectors.shape[1] * 2.0**-23
            inputs += 1.5 * turned * (self.longest + other.longest) ** 2
        return inputs + 2.0**-23 * sums + 2.0**-20 * (1 + self.length) * (1 + length)


class Side:
    """One direction of the search: the candidates for the k nearest of every row."""

    def __init__(self, k: int, slack: torch.Tensor, rounding: float) -> None:
        import torch

        self.k, self.slack, self.rounding = k, slack, rounding
        # k group maxima, the lowest first: a lower bound of the k best products
        self.best = torch.full((len(slack), k), -torch.inf, device=slack.device)
        # rows with too many candidates for this search
        self.crowded = torch.zeros(len(slack), dtype=torch.bool, device=slack.device)
        self.rows: list[torch.Tensor] = []
        self.columns: list[torch.Tensor] = []
        self.products: list[torch.Tensor] = []
        self.stored, self.prune_at = 0, PRUNE

    def cut(self, part: slice | torch.Tensor) -> torch.Tensor:
        """Return the lowest stored product that can be among the true k best of these rows: (rows,).

        A product p before rounding lies within rounding * |p| of the stored value, and within the slack of the true
        value. So the true k-th best is at least `low`, and every product whose true value may reach `low` is stored as
        at least the cut.
        """
        worst = self.best[part, 0]
        return self.reach(worst - self.rounding * worst.abs() - self.slack[part], part)

    def reach(self, low: torch.Tensor, part: slice | torch.Tensor) -> torch.Tensor:
        """Return the lowest stored product of a pair whose true value is at least `low`: (rows,)."""
        reach = low - self.slack[part]
        return (reach / (1 + self.rounding * reach.sign())).clamp(min=PADDING / 2)

    def update(self, tile: torch.Tensor, maxima: torch.Tensor, start: int, column_start: int) -> None:
        """Process one tile of products (row, member, group): column = column_start + member * groups + group.

        Every row compares only `maxima` (row, group), and only a row whose highest one reaches the cut so far compares
        them one by one. Members are read only in groups whose maximum reaches the cut.
        """
        import torch

        groups, part = tile.shape[2], slice(start, min(start + len(tile), len(self.slack)))
        maxima = maxima[: part.stop - start].float().contiguous()
        (near,) = _true((maxima.amax(dim=1) >= self.cut(part)) & ~self.crowded[part])
        maxima, places = maxima[near], start + near
        self.best[places] = largest(torch.cat([self.best[places], maxima], dim=1), self.k)
        cut = self.cut(places)
        row, group = _true(maxima >= cut[:, None])
        crowded = torch.bincount(row, minlength=len(near)) > CROWD
        if crowded.any():
            self.crowded[places[crowded]] = True
            kept = ~crowded[row]
            row, group = row[kept], group[kept]
        products = tile[near[row], :, group].float()
        hit, member = _true(products >= cut[row, None])
        columns = column_start + member * groups + group[hit]
        self.store(places[row[hit]].int(), columns.int(), products[hit, member])

    def store(self, rows: torch.Tensor, columns: torch.Tensor, products: torch.Tensor) -> None:
        """Keep candidates, and drop the obsolete ones if there are many."""
        self.rows.append(rows)
        self.columns.append(columns)
        self.products.append(products)
        self.stored += len(rows)
        if self.stored > self.prune_at:
            self.candidates()
            self.prune_at = max(PRUNE, 2 * self.stored)

    def candidates(self) -> tuple[np.ndarray, np.ndarray]:
        """Return (rows, columns) of the candidates that remain after all tiles so far."""
        import torch

        rows, columns, products = torch.cat(self.rows), torch.cat(self.columns), torch.cat(self.products)
        kept = (products >= self.cut(slice(None))[rows]) & ~self.crowded[rows]
        self.rows, self.columns, self.products = [rows[kept]], [columns[kept]], [products[kept]]
        self.stored = len(self.rows[0])
        return self.rows[0].cpu().numpy(), self.columns[0].cpu().numpy()


def _true(mask: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Return the indices of the true elements, one tensor a dimension. On a CPU numpy finds them ten times as fast."""
    import torch

    if mask.device.type != "cpu":
        return mask.nonzero(as_tuple=True)
    flat = np.flatnonzero(mask.numpy())
    return tuple(torch.from_numpy(index) for index in (np.divmod(flat, mask.shape[1]) if mask.dim() == 2 else (flat,)))


def largest(values: torch.Tensor, k: int) -> torch.Tensor:
    """Return the k largest of each row, the lowest of them first. Changes `values`."""
    if values.device.type != "cpu":
        return values.topk(k, dim=1).values.flip(1)
    values.numpy().partition(values.shape[1] - k, axis=1)  # several times as fast as topk of short rows
    return values[:, -k:]


@contextmanager
def accurate_sums() -> Iterator[None]:
    """Set the matmul precision that a bound such as `Operand.slack` assumes, and restore it at the end.

    torch may be set to multiply fp32 in TF32 or bf16, and on a GPU it may by default add partial sums of a bf16
    product in bf16.
    """
    import torch

    gpu = torch.backends.cuda.matmul
    precision, reduced = torch.get_float32_matmul_precision(), gpu.allow_bf16_reduced_precision_reduction
    torch.set_float32_matmul_precision("highest")
    gpu.allow_bf16_reduced_precision_reduction = False
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(precision)
        gpu.allow_bf16_reduced_precision_reduction = reduced


@cache
def best_device() -> str:
    """Return "cuda" if there is a GPU, else "cpu"."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


@accurate_sums()
def walk(
    source: np.ndarray, target: np.ndarray, k: int, dtype: str, both: bool, device: str = "cpu"
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return (scores, indices) of every source's k nearest targets and, if `both`, every target's k nearest sources.

    One pass over the product in tiles serves both directions. The product is cheap and inexact. It only selects the
    pairs that can be among the k best, with an error bound so that none is missed, and these few are scored exactly.
    Rows with too many candidates are searched again, more precisely: after bf16 in fp32, after fp32 with the plain
    product. `device` holds a copy of the targets in `dtype`, one tile and the candidates. The vectors and the exact
    scores stay on the CPU, so that the result does not depend on the device.
    """
    import torch

    number = getattr(torch, DTYPES[dtype])
    means = [torch.from_numpy(pool.mean(axis=0, dtype=np.float64)).float().to(device) for pool in (source, target)]
    left = Operand(source, means[0], means[1], number, is_left=True)
    right = Operand(target, means[1], means[0], number, is_left=False, keep=True)
    rounding = 1.01 * torch.finfo(number).eps / 2
    sides = [Side(k, left.slack(right), rounding)] + ([Side(k, right.slack(left), rounding)] if both else [])
    blocks = [right.block(j) for j in range(0, len(target), TILE)]
    # allocating each tile afresh costs as much as computing it
    buffer = torch.empty(TILE * TILE, dtype=number, device=device)
    bar = Bar(len(source), f"k-NN {dtype}", "rows", disable=len(source) * len(target) < SHOW_BAR)
    for i in range(0, len(source), TILE):
        rows = left.block(i)
        for j, columns in zip(range(0, len(target), TILE), blocks, strict=True):
            n, m = len(rows), len(columns)
            tile = multiply(rows, columns, buffer[: n * m].view(n, m))
            forward = tile.view(n, GROUP, m // GROUP)
            sides[0].update(forward, forward.amax(dim=1), i, j)
            if both:  # the maxima before the axes change places: over permuted axes torch is 20 times slower
                backward = tile.view(GROUP, n // GROUP, m)
                sides[1].update(backward.permute(2, 0, 1), backward.amax(dim=0).T, j, i)
        bar.update(min(TILE, len(source) - i))
    bar.close()
    pools = [(source, target), (target, source)]
    return [settle(side, *pool, dtype, device) for side, pool in zip(sides, pools, strict=False)]


def settle(
    side: Side, source: np.ndarray, target: np.ndarray, dtype: str, device: str
) -> tuple[np.ndarray, np.ndarray]:
    """Return the exact (scores, indices) of one direction: score the candidates, search crowded rows again."""
    rows, columns = side.candidates()
    crowded = side.crowded.cpu().numpy()
    scores = np.empty((len(source), side.k), dtype=np.float32)
    indices = np.empty((len(source), side.k), dtype=np.int64)
    if len(rows):
        scores[~crowded], indices[~crowded] = top_k(rows, columns, exact_scores(source, target, rows, columns), side.k)
    if crowded.any():
        again = source[crowded]
        scores[crowded], indices[crowded] = (
            walk(again, target, side.k, "fp32", both=False, device=device)[0]
            if dtype == "bf16"
            else plain_knn(again, target, side.k)
        )
    return scores, indices


def multiply(left: torch.Tensor, right: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
    """Write left @ right.T, both (rows, width), to `out` and return it."""
    import torch

    if out.device.type == "cpu" and out.dtype == torch.float32 and numpy_is_faster():
        np.dot(left.numpy(), right.numpy().T, out=out.numpy())
        return out
    return torch.mm(left, right.T, out=out)


@cache
def numpy_is_faster() -> bool:
    """Return whether numpy multiplies fp32 faster on this CPU than torch: on an AMD EPYC by 12 %. See `_seconds`."""
    import torch

    return _seconds("float32", lambda a, b, out: np.dot(a.numpy(), b.numpy().T, out=out.numpy())) < _seconds(
        "float32", lambda a, b, out: torch.mm(a, b.T, out=out)
    )


@cache
def fastest_engine(device: str = "cpu") -> str:
    """Return "bf16" or "fp32", whichever the device multiplies faster. A CPU is measured once a process, in 70 ms."""
    import torch

    if device != "cpu":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    return min(DTYPES, key=lambda name: _seconds(DTYPES[name], multiply))


def _seconds(dtype: str, product: Callable[[torch.Tensor, torch.Tensor, torch.Tensor], object]) -> float:
    """Return this thread's CPU time for one product of 512 x 768 with itself, the least of 3.

    Wall time would count other jobs of a busy machine, and the slower product would be chosen.
    """
    import torch

    operand = torch.ones(512, 768, dtype=getattr(torch, dtype))
    out = torch.empty(512, 512, dtype=operand.dtype)
    product(operand, operand, out)
    times = []
    for _ in range(3):
        start = time.thread_time()
        product(operand, operand, out)
        times.append(time.thread_time() - start)
    return min(times)
