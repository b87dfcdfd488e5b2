"""Arrays of sentence vectors: in memory or in a file, scaled to length 1, centred."""

from __future__ import annotations

import math
import os
import shutil
from pathlib import Path

import numpy as np

from tasks.errors import UserError
from xstilts.run.temporary import others

ROWS_AT_ONCE = 2**16  # vectors held in memory at once


def new_array(path: Path, shape: tuple[int, int], count: int = 1) -> np.memmap:
    """Create a float32 .npy file of this shape and return it memory-mapped.

    The disk space is allocated now: if the disk fills up later, a write ends the process with SIGBUS and no message.

    Args:
        count: files of this shape that will be created; all must fit on the disk.

    Raises:
        UserError: the disk has too little room.
    """
    needed, free = 4 * math.prod(shape) * count, shutil.disk_usage(path.parent).free
    if needed > free:
        beside = others(path.parent)
        raise UserError(
            f"{path.parent} has {free / 1e6:,.3f} MB free, the vectors need {needed / 1e6:,.3f} MB: give another "
            "folder." + (f" Beside it are folders of other runs, at work or killed: {beside}." if beside else "")
        )
    array = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return array


def normalize(vectors: np.ndarray, path: str | Path | None = None) -> np.ndarray:
    """Return the vectors scaled to length 1: (n, dim) float32.

    Args:
        path: .npy file to write them to and return memory-mapped, read-only. Memory-mapped `vectors` are then never
            held in memory as a whole.

    Raises:
        UserError: a row is zero or not finite; the message names the first.
    """
    unit = np.empty(vectors.shape, dtype=np.float32) if path is None else new_array(Path(path), vectors.shape)
    for start in range(0, len(vectors), ROWS_AT_ONCE):
        block = np.asarray(vectors[start : start + ROWS_AT_ONCE], dtype=np.float32)
        norms = np.linalg.norm(block, axis=1, keepdims=True)
        wrong = ~(np.isfinite(norms[:, 0]) & (norms[:, 0] > 0))
        if wrong.any():
            row = int(wrong.argmax())
            what = "is zero" if norms[row, 0] == 0 else "is not finite"
            raise UserError(
                f"vector {start + row} {what} ({int(wrong.sum())} of {len(block)} such from {start} on): it has no "
                "direction."
            )
        np.divide(block, norms, out=unit[start : start + ROWS_AT_ONCE])
    return unit if path is None else np.load(path, mmap_mode="r")


def center(vectors: np.ndarray) -> np.ndarray:
    """Return the vectors minus their mean: (n, dim) float32. For one language this removes its common offset."""
    vectors = np.asarray(vectors, dtype=np.float32)
    return vectors - vectors.mean(axis=0, dtype=np.float64).astype(np.float32)
