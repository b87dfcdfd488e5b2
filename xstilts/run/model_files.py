"""A digest of the files of a checkpoint that its results depend on. Imports no torch."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

# the model, and its tokenizer: its words, and what is said of them
NAMES = ("config.json", "*token*.json", "vocab.*", "merges.txt", "*.model", "*.safetensors")
SAMPLES, SAMPLE = 16, 4096  # of a large tensor: how many parts, and bytes of each
WHOLE = SAMPLES * SAMPLE  # bytes of a tensor that is read whole
HEADER = 100 * 2**20  # bytes: the library refuses longer headers


def digest_of(folder: str | os.PathLike) -> str | None:
    """Return the digest; None for a folder without weights, as one whose weights were deleted to save space.

    Of a large tensor evenly spread parts are read: a training moves most of its values. Small ones are read whole.
    """
    paths = sorted({path for name in NAMES for path in Path(folder).glob(name) if path.is_file()})
    if not any(path.suffix == ".safetensors" for path in paths):
        return None
    digest = hashlib.sha256()
    for path in paths:
        digest.update(f"\n{path.name} {path.stat().st_size}\n".encode())
        if path.suffix == ".safetensors":
            _add_tensors(digest.update, path)
        else:
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _add_tensors(add: Callable[[bytes], None], path: Path) -> None:
    """Add a file of tensors: 8 bytes with the length of its header, the header, and the tensors one after another."""
    with path.open("rb") as file:
        length, size = int.from_bytes(file.read(8), "little"), path.stat().st_size
        header = file.read(min(length, HEADER))
        add(header)
        try:
            tensors = [one["data_offsets"] for name, one in json.loads(header).items() if name != "__metadata__"]
            places = sorted((8 + length + start, 8 + length + end) for start, end in tensors)
            if not all(0 <= start <= end <= size for start, end in places):
                raise ValueError("tensors outside the file")
        except (ValueError, LookupError, TypeError, AttributeError):  # a damaged file: loading it says so
            places = [(0, size)]
        for start, end in places:
            large = end - start > WHOLE
            for k in range(SAMPLES if large else 1):
                file.seek(start + (k * (end - start - SAMPLE) // (SAMPLES - 1) if large else 0))
                add(file.read(SAMPLE if large else end - start))
