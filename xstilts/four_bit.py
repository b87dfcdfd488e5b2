"""Read an encoder whose matrices are stored in 4 bits (magic E5S1): sizes, vocabulary, normaliser, float32 weights.

The file is little-endian. Its parts, in order:

    magic           4 bytes E5S1; u32 version
    sizes           7 x i32: hidden, layers, heads, inner, vocabulary, positions, token types
                    f32 layer-norm eps; i32 block size
    vocabulary      5 x i32: number of pieces, ids of <s>, </s>, <pad>, <unk>
                    u64 length of the text; (pieces + 1) x u32 offsets into it; pieces x f32 unigram scores
                    the text: UTF-8 pieces, one after the other
    normaliser      i32 entries; u32 bytes
                    an entry: u32 code point, u8 count, count x u32 code points that replace it
    directory       i32 entries
                    an entry: u16 length and the tensor's name, u8 kind (0 f32, 1 4-bit), u32 elements, u64 offset,
                    u64 bytes
    tensors         emb.word (4-bit), emb.pos, emb.type, emb.ln
                    of layer l: l{l}.q, k, v, ao, fi, fo (matrices 4-bit, out x in, and biases),
                    l{l}.aln (norm after attention), l{l}.oln (norm after the feed-forward part)
    a 4-bit block   18 bytes for 32 weights: f16 scale, then 16 bytes
                    byte j holds weight j in its low half and weight j + 16 in its high half
                    weight = (half - 8) * scale
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass

import numpy as np

from tasks.errors import UserError

MAGIC, VERSION, BLOCK = b"E5S1", 1, 32
F32, FOUR_BIT = 0, 1
BLOCK_LAYOUT = np.dtype([("scale", "<f2"), ("halves", "u1", BLOCK // 2)])
SPECIAL = ("<s>", "</s>", "<pad>", "<unk>")


@dataclass(frozen=True)
class Sizes:
    """The encoder's sizes, in the file's order."""

    hidden: int
    layers: int
    heads: int
    inner: int
    vocabulary: int
    positions: int
    token_types: int

    @property
    def tensors(self) -> int:
        """The number of tensors: 5 of the embeddings, 16 of each layer."""
        return 5 + 16 * self.layers

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return {tensor name: shape} of every tensor the file must hold."""
        h, inner = self.hidden, self.inner
        shapes = {
            "emb.word": (self.vocabulary, h),
            "emb.pos": (self.positions, h),
            "emb.type": (self.token_types, h),
            "emb.ln.w": (h,),
            "emb.ln.b": (h,),
        }
        for layer in range(self.layers):
            for part, out, into in (
                ("q", h, h),
                ("k", h, h),
                ("v", h, h),
                ("ao", h, h),
                ("fi", inner, h),
                ("fo", h, inner),
            ):
                shapes |= {f"l{layer}.{part}.w": (out, into), f"l{layer}.{part}.b": (out,)}
            shapes |= {f"l{layer}.{norm}.{part}": (h,) for norm in ("aln", "oln") for part in "wb"}
        return shapes


@dataclass(frozen=True)
class FourBitEncoder:
    """The content of the file.

    Attributes:
        sizes: of the encoder.
        eps: of its layer norms.
        pieces: [(piece, unigram score)]; the index is the token id. The last is <mask>.
        ids: {special token: its id}.
        replacements: {character: text that replaces it} in the normaliser.
        weights: {tensor name: float32 array}, see `Sizes.shapes`.
    """

    sizes: Sizes
    eps: float
    pieces: list[tuple[str, float]]
    ids: dict[str, int]
    replacements: dict[str, str]
    weights: dict[str, np.ndarray]


class Cursor:
    """A read position in the file. Reading past the end raises a UserError."""

    def __init__(self, data: bytes, name: str):
        self.data, self.name, self.at = data, name, 0

    def bytes(self, count: int, part: str) -> bytes:
        if count < 0 or self.at + count > len(self.data):
            raise UserError(f"{self.name}: the file has {len(self.data):,} bytes and ends inside its {part}.")
        self.at += count
        return self.data[self.at - count : self.at]

    def numbers(self, layout: str, part: str) -> tuple:
        return struct.unpack(f"<{layout}", self.bytes(struct.calcsize(f"<{layout}"), part))

    def array(self, kind: str, count: int, part: str) -> np.ndarray:
        return np.frombuffer(self.bytes(np.dtype(kind).itemsize * count, part), kind)

    def wrong(self, what: str) -> UserError:
        return UserError(f"{self.name}: {what}.")


def read(data: bytes, name: str) -> FourBitEncoder:
    """Return the content of a file, with its 4-bit weights as float32.

    Args:
        data: the whole file.
        name: of the file, for errors.

    Raises:
        UserError: the file has another format, is cut off, or its parts contradict each other.
    """
    file = Cursor(data, name)
    magic, version = file.numbers("4sI", "first 8 bytes")
    if (magic, version) != (MAGIC, VERSION):
        raise file.wrong(f"begins with {magic!r}, version {version}; expected {MAGIC!r}, version {VERSION}")
    sizes = Sizes(*file.numbers("7i", "sizes"))
    (eps,), (block,) = file.numbers("f", "sizes"), file.numbers("i", "sizes")
    if (
        min(vars(sizes).values()) < 1
        or sizes.hidden % BLOCK
        or sizes.inner % BLOCK
        or sizes.hidden % sizes.heads
        or block != BLOCK
    ):
        raise file.wrong(f"impossible sizes: {sizes}, blocks of {block} weights (expected {BLOCK})")
    pieces, ids = read_vocabulary(file)
    if len(pieces) > sizes.vocabulary:
        raise file.wrong(f"has {len(pieces)} pieces and {sizes.vocabulary} word embeddings")
    replacements = read_replacements(file)
    eps = float(str(np.float32(eps)))  # 1e-12 as written, not the nearest float32
    return FourBitEncoder(sizes, eps, pieces, ids, replacements, read_weights(file, sizes))


def read_vocabulary(file: Cursor) -> tuple[list[tuple[str, float]], dict[str, int]]:
    """Return [(piece, score)] and {special token: id}."""
    part = "vocabulary"
    count, *ids = file.numbers("5i", part)
    (length,) = file.numbers("Q", part)
    offsets, scores = file.array("<u4", count + 1, part), file.array("<f4", count, part)
    text = file.bytes(length, part)
    if (
        offsets[0] != 0
        or offsets[-1] != length
        or (np.diff(offsets.astype(np.int64)) < 0).any()
        or not np.isfinite(scores).all()
    ):
        raise file.wrong(f"the offsets or scores of its {count} pieces are invalid")
    try:
        pieces = [
            text[start:end].decode("utf-8")
            for start, end in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True)
        ]
    except UnicodeDecodeError as error:
        raise file.wrong("a piece of its vocabulary is not UTF-8 text") from error
    named = dict(zip(SPECIAL, ids, strict=True)) | {"<mask>": count - 1}
    for token, at in named.items():
        if not 0 <= at < count or pieces[at] != token:
            raise file.wrong(
                f"piece {at} should be {token}"
                + (f" and is {pieces[at]!r}" if 0 <= at < count else f"; there are {count}")
            )
    return list(zip(pieces, scores.tolist(), strict=True)), named


def read_replacements(file: Cursor) -> dict[str, str]:
    """Return {character: the text that replaces it}, "" where it is removed."""
    part = "normaliser"
    entries, length = file.numbers("iI", part)
    begin, found = file.at, {}
    for _ in range(entries):
        point, count = file.numbers("IB", part)
        try:
            found[chr(point)] = "".join(map(chr, file.numbers(f"{count}I", part)))
        except (ValueError, OverflowError) as error:
            raise file.wrong(f"its normaliser holds {point:#x} or a replacement that is not a code point") from error
    if len(found) != entries or file.at - begin != length:
        raise file.wrong(
            f"its normaliser has {len(found)} entries in {file.at - begin} bytes; expected {entries} in {length}"
        )
    return found


def read_weights(file: Cursor, sizes: Sizes) -> dict[str, np.ndarray]:
    """Return {tensor name: float32 array of its shape}; the names are exactly those of `Sizes.shapes`."""
    (entries,) = file.numbers("i", "directory")
    if entries != sizes.tensors:
        raise file.wrong(f"its directory has {entries} tensors, expected {sizes.tensors}")
    shapes = sizes.shapes()
    directory: dict[str, tuple[int, int, int, int]] = {}
    for _ in range(entries):
        (length,) = file.numbers("H", "directory")
        name = file.bytes(length, "directory").decode("utf-8", "replace")
        kind, elements, offset, size = file.numbers("BIQQ", "directory")
        directory[name] = kind, elements, offset, size
    if mismatches := sorted(directory.keys() ^ shapes.keys()):  # a repeated name leaves one out
        raise file.wrong(
            f"its directory {'names' if mismatches[0] in directory else 'lacks'} tensor {mismatches[0]!r}; expected "
            "one each of: "
            f"{', '.join(list(shapes)[:6])}, ..."
        )
    return {name: read_tensor(file, name, *directory[name], shape) for name, shape in shapes.items()}


def read_tensor(
    file: Cursor, name: str, kind: int, elements: int, offset: int, length: int, shape: tuple[int, ...]
) -> np.ndarray:
    """Return one tensor as float32; the arguments after its name are those of the directory."""
    expected = {F32: 4 * elements, FOUR_BIT: elements // BLOCK * BLOCK_LAYOUT.itemsize}.get(kind)
    if elements != math.prod(shape) or length != expected:
        raise file.wrong(
            f"tensor {name} has kind {kind}, {elements} elements and {length} bytes; its shape is {shape}"
        )
    file.at = offset
    raw = file.bytes(length, f"tensor {name}")
    weights = (
        np.frombuffer(raw, "<f4").astype(np.float32) if kind == F32 else dequantise(np.frombuffer(raw, BLOCK_LAYOUT))
    )
    if not np.isfinite(weights).all():
        raise file.wrong(f"tensor {name} holds NaN or infinity")
    return weights.reshape(shape)


def dequantise(blocks: np.ndarray) -> np.ndarray:
    """Return the weights of 4-bit blocks, float32, shape (32 * blocks,). Exact: 4 bits times 11 fit into float32's
    24."""
    weights = np.empty((len(blocks), BLOCK), np.float32)
    weights[:, : BLOCK // 2] = blocks["halves"] & 15
    weights[:, BLOCK // 2 :] = blocks["halves"] >> 4
    weights -= 8
    with np.errstate(invalid="ignore"):  # read_tensor checks for a scale that is NaN
        weights *= blocks["scale"].astype(np.float32)[:, None]
    return weights.ravel()
