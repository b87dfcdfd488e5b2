"""The cache of sentence vectors (--cache_dir)."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import zlib
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import numpy as np

from tasks.errors import UserError
from xstilts.retrieve.embedding import Encoder
from xstilts.retrieve.tokens import Tokens
from xstilts.run import processes
from xstilts.run.temporary import temporary_folder

logger = logging.getLogger("xstilts")

CACHE_FORMAT = 3  # part of the key: increase it when `embed` computes other vectors from the same model and tokens


def cached_embed(
    encoder: Encoder, sentences: Sequence[str], cache_dir: str | Path, desc: str = "embed"
) -> dict[int, np.ndarray]:
    """Return `encoder.embed(sentences)`, memory-mapped, from `cache_dir` if they are there.

    Each layer has a file <key>-<checksum>.npy. The key is a hash of everything the vectors depend on: the model's
    files, layer, pooling, dtype, kind of device, attention, versions, and the tokens of the sentences in order. The
    tokens in turn depend on prompts, length, and the tokenizer's files and code. A file is written whole or not at
    all. If one is damaged (CRC-32) or has another shape, a warning goes to stderr and the vectors are computed again.

    Raises:
        UserError: see `Encoder.embed`; or the folder cannot be made.
    """
    folder = _cache_folder(cache_dir)
    tokens, back = encoder.tokens(sentences)
    keys = _cache_keys(encoder, tokens, back)
    shape = (len(sentences), encoder.model.config.hidden_size)
    found = {layer: vectors for layer, key in keys.items() if (vectors := _read_cache(folder, key, shape)) is not None}
    if len(found) == len(keys):
        return found
    with temporary_folder(folder, "part-") as part:
        computed = encoder.embed_tokens(tokens, back, desc=desc, folder=part)
        _keep(part, folder, {layer: key for layer, key in keys.items() if layer not in found})
    return computed


def fill_cache(encoder: Encoder, sentences: Sequence[str], cache_dir: str | Path, desc: str = "embed") -> None:
    """Compute what `cached_embed` will read from `cache_dir`. All ranks call this together and share the work.

    Raises:
        UserError: see `Encoder.embed_together`.
    """
    folder = _cache_folder(cache_dir)
    tokens, back = encoder.tokens(sentences)
    keys = _cache_keys(encoder, tokens, back)
    shape, first = (len(sentences), encoder.model.config.hidden_size), processes.is_first()
    missing = processes.broadcast(
        {k: key for k, key in keys.items() if _read_cache(folder, key, shape) is None} if first else None
    )
    if not missing:
        return
    with temporary_folder(folder, "part-") if first else nullcontext() as own:
        part = str(processes.broadcast(own))
        encoder.embed_together(tokens, back, desc, part)
        if first:
            _keep(part, folder, missing)


def _cache_folder(cache_dir: str | Path) -> Path:
    """Make the cache folder and return it. Raise UserError if it cannot be made."""
    folder = Path(cache_dir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"the cache folder {folder} cannot be made: {error.strerror}.") from error
    return folder


def _cache_keys(encoder: Encoder, tokens: Tokens, back: np.ndarray) -> dict[int, str]:
    """Return {layer: the key of its file}, see `cached_embed`."""
    import torch
    import transformers

    common = [
        CACHE_FORMAT,
        torch.__version__,
        transformers.__version__,
        encoder.fingerprint,
        encoder.pooling,
        encoder.dtype,
        encoder.model.device.type,
        encoder.attention,
        encoder.tokenizer.pad_token_id,
        tokens.digest(),
        hashlib.sha256(back.data).hexdigest(),
    ]
    return {layer: hashlib.sha256(json.dumps([*common, layer]).encode()).hexdigest()[:32] for layer in encoder.layers}


def _keep(part: str | Path, folder: Path, keys: dict[int, str]) -> None:
    """Move the files of these layers from `part` into the cache, under their keys and checksums."""
    for layer, key in keys.items():
        path = Path(part, f"layer{layer}.npy")
        os.replace(path, folder / f"{key}-{_crc32(path):08x}.npy")


def _read_cache(folder: Path, key: str, shape: tuple[int, int]) -> np.ndarray | None:
    """Return the cached vectors, or None if there is no undamaged file."""
    for path in sorted(folder.glob(f"{key}-*.npy")):
        try:
            if path.stem != f"{key}-{_crc32(path):08x}":
                raise ValueError("its checksum differs from the one in its name")
            vectors = np.load(path, mmap_mode="r")
            if vectors.shape != shape or vectors.dtype != np.float32:
                raise ValueError(f"{vectors.dtype} of shape {vectors.shape} instead of float32 of shape {shape}")
            return vectors
        except (OSError, ValueError, EOFError) as error:
            logger.warning("The cached vectors in %s are damaged (%s); computing them again.", path, error)
            path.unlink()
    return None


def _crc32(path: Path) -> int:
    """Return the CRC-32 of a file's bytes. At 1 GB/s or more it costs far less than computing the vectors."""
    checksum = 0
    with path.open("rb") as file:
        while block := file.read(2**24):
            checksum = zlib.crc32(block, checksum)
    return checksum
