"""Build XLM-R's fast tokenizer from the pieces and the rules for characters that a 4-bit file holds."""

from __future__ import annotations

import sys
import tempfile
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from xstilts.checkpoint.tokenizer import in_xlmr_form
from xstilts.four_bit import FourBitEncoder

if TYPE_CHECKING:
    from tokenizers import normalizers
    from transformers import PreTrainedTokenizerFast

LONGEST_GRAPHEME = 5  # bytes; the normaliser of the tokenizers library looks longer ones up letter by letter


def composed(replacements: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Yield (a letter and a mark, the one character that NFC makes of them), as far as XLM-R's tokenizer composes
    them.

    SentencePiece's rules for XLM-R hold single characters, which are `replacements`, and sequences. Of the sequences
    its fast tokenizer reaches only these: it asks for a whole grapheme of up to 5 bytes and takes the shortest rule at
    its beginning. They follow from Unicode alone. Version 3.2 has them all, and is the same in every Python.
    """
    unicode = unicodedata.ucd_3_2_0
    alike: dict[str, set[str]] = {}  # mark -> characters that are only another spelling of it
    decomposed = set()
    for point in range(sys.maxunicode + 1):
        if not unicode.decomposition(chr(point)):  # nor are Hangul's, which are too long
            continue
        parts = unicode.normalize("NFKD", chr(point))
        if len(parts) == 1:
            alike.setdefault(parts, set()).add(chr(point))
        elif len(parts) == 2 and parts[0] not in replacements:
            decomposed.add(parts)
    for parts in sorted(decomposed):
        letter, mark = parts[0], parts[1]
        whole = unicode.normalize("NFC", letter + mark)
        if whole != letter + mark:
            for spelling in sorted({mark} | alike.get(mark, set())):
                if len((letter + spelling).encode()) <= LONGEST_GRAPHEME:
                    yield letter + spelling, whole


def normaliser(replacements: dict[str, str]) -> normalizers.Precompiled:
    """Return XLM-R's normaliser, compiled by SentencePiece from its rules.

    Args:
        replacements: {character: text}.
    """
    import sentencepiece
    from tokenizers import normalizers

    def points(text: str) -> str:
        return " ".join(f"{ord(letter):X}" for letter in text)

    rules = replacements | dict(composed(replacements))
    sentencepiece.set_min_log_level(2)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "rules.tsv")
        path.write_text(
            "".join(f"{points(given)}\t{points(made)}\n" for given, made in sorted(rules.items())), encoding="ascii"
        )
        proto = sentencepiece.SentencePieceNormalizer(rule_tsv=str(path)).serialized_model_proto()
    return normalizers.Precompiled(field(field(proto, 3), 2))  # ModelProto.normalizer_spec.precompiled_charsmap


def field(message: bytes, number: int) -> bytes:
    """Return the first field of that number in a protobuf message whose fields are bytes up to it
    (sentencepiece_model.proto).

    The library that reads protobuf is not among our requirements.
    """
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(message):
        key, length = varint(), varint()
        if key == number << 3 | 2:
            return message[at : at + length]
        if key & 7 != 2:
            break
        at += length
    raise RuntimeError(f"sentencepiece's model has no field {number} where it was; its format has changed")


def tokenizer(encoder: FourBitEncoder) -> PreTrainedTokenizerFast:
    """Return the tokenizer, built as XLM-R's fast one is: normaliser, split at blanks, Metaspace, Unigram, ``<s> A
    </s></s> B </s>``."""
    from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers

    fast = Tokenizer(models.Unigram(encoder.pieces, unk_id=encoder.ids["<unk>"], byte_fallback=False))
    fast.normalizer = normaliser(encoder.replacements)
    fast.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    # takes the blank before it, as XLM-R's does
    mask = AddedToken("<mask>", lstrip=True, normalized=False, special=True)
    return in_xlmr_form(fast, encoder.sizes.positions, mask)
