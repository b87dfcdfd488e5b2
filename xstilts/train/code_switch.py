"""Code-switching: replace words of an English text with translations from a bilingual lexicon (arXiv 2305.05295).

bilingual: each side of a pair has one language. multilingual: a language is drawn for each replaced word. A word that
is not in the lexicon stays, so the switch rate is lower than the probability; `Counts` has both.

There are two methods. Ours replaces words in place, draws among all translations of a word, and changes nothing else.
`treebank` is the paper's published code: it replaces Penn Treebank tokens (also numbers, full stops, "n't") with their
first translation, and joins the tokens again, which may change blanks and quotation marks.
"""

from __future__ import annotations

import inspect
import random
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from tasks import languages as codes
from tasks.checks import check_text
from tasks.errors import UserError, did_you_mean
from tasks.fingerprint import rows_key
from tasks.rows import Rows, sha256
from xstilts.cli.arguments import ChangeArguments
from xstilts.cli.defaults import non_defaults

if TYPE_CHECKING:
    from datasets import Dataset

Lexicon = dict[str, list[str]]  # English word, lower-cased -> its translations, in the file's order
WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")  # letters only, no numbers or punctuation
TEXT_FILES = (".txt", ".tsv")


@dataclass
class Counts:
    """Words of a text: all, drawn to be replaced, and replaced (the others are not in the lexicon)."""

    words: int = 0
    drawn: int = 0
    switched: int = 0

    def __str__(self) -> str:
        share = 100 * self.switched / max(self.words, 1)
        return (
            f"{self.switched} of {self.words} words switched ({share:.1f} %), {self.drawn - self.switched} more drawn "
            "but not in the lexicon"
        )


def switch(
    text: str, lexicons: Sequence[Lexicon], probability: float, rng: random.Random, treebank: bool = False
) -> tuple[str, Counts]:
    """Replace each word with `probability`, by a translation from one of `lexicons`, drawn for each word.

    Blanks around the text stay.

    Returns:
        (the text, counts of words).
    """
    counts = Counts()

    def replace(word: str) -> str:
        counts.words += 1
        if rng.random() >= probability:
            return word
        counts.drawn += 1
        translations = rng.choice(lexicons).get(word.lower())
        if not translations:
            return word
        counts.switched += 1
        return translations[0] if treebank else rng.choice(translations)

    if not treebank:
        return WORD.sub(lambda match: replace(match[0]), text), counts
    tokenizer, detokenizer = _treebank()
    body = text.strip()
    before, _, after = text.partition(body) if body else (text, "", "")
    return before + detokenizer.detokenize([replace(token) for token in tokenizer.tokenize(body)]) + after, counts


@cache
def _treebank() -> tuple:
    """Return NLTK's Treebank tokenizer and detokenizer; raise UserError if NLTK is not installed."""
    try:
        from nltk.tokenize.treebank import TreebankWordDetokenizer, TreebankWordTokenizer
    except ImportError as error:
        raise UserError("--switch_treebank needs NLTK. Type: pip install -r requirements.txt") from error
    return TreebankWordTokenizer(), TreebankWordDetokenizer()


def switch_columns(
    data: Dataset, lexicons: Mapping[str, Sequence[Lexicon]], probability: float, seed: int, treebank: bool = False
) -> tuple[Dataset, dict]:
    """Code-switch text columns.

    Each row of a column has its own generator, from the seed and the row's number, so row n does not depend on how
    many rows follow.

    Args:
        lexicons: {column: its lexicons}.

    Returns:
        (the rows, {column: counts of words}).
    """
    from datasets.fingerprint import Hasher

    def batch(rows: dict[str, list], indices: list[int]) -> dict[str, list]:
        columns: dict[str, list] = {}
        for column, lexica in lexicons.items():
            pairs = [
                switch(text, lexica, probability, random.Random(f"{seed}/{column}/{i}"), treebank)
                for text, i in zip(rows[column], indices, strict=True)
            ]
            columns[column] = [text for text, _ in pairs]
            for part in ("words", "drawn", "switched"):
                columns[f"{column}/{part}"] = [getattr(counts, part) for _, counts in pairs]
        return columns

    # datasets hashes the function by its name, so the cache would survive changes of code or lexicon
    key = Hasher.hash(
        (
            rows_key(data),
            {c: list(x) for c, x in lexicons.items()},
            probability,
            seed,
            version("nltk") if treebank and _treebank() else "",
            inspect.getsource(sys.modules[__name__]),
        )
    )
    done = data.map(batch, batched=True, with_indices=True, desc="code-switching", new_fingerprint=key)
    counts = {c: Counts(*(sum(done[f"{c}/{part}"]) for part in ("words", "drawn", "switched"))) for c in lexicons}
    return done.select_columns(data.column_names), counts


def read_lexicons(
    folder: str, languages: Sequence[str] = (), skip_identities: bool = False, treebank: bool = False
) -> tuple[dict[str, Lexicon], list[dict]]:
    """Return the English-to-foreign lexicons of a folder, and their data records for results.json.

    The folder holds `en-<language>.txt` files of `source TAB target` lines (MUSE's files, with a blank, work too), or
    rows: `en-<language>/train.{parquet,jsonl,jsonl.gz}` with the columns source and target.

    Args:
        languages: the languages to read; English is ignored. Empty: all in the folder.
        skip_identities: leave out entries whose two words are equal, so that every switch changes the text.
        treebank: take entries of any token ("n't", "1990", "."), not only of words.

    Returns:
        ({language: lexicon}, data records).

    Raises:
        UserError: the folder is missing, has no lexicon or not one of `languages`, or a lexicon has no usable entry.
    """
    found = _lexicons_in(folder)
    chosen = [code for code in map(codes.normalize, languages) if code != "en"] or list(found)
    for code in chosen:
        if code not in found:
            raise UserError(
                f"--switch_languages {code}: {folder} has no en-{code}; it has {' '.join(found)}."
                f"{did_you_mean(code, found)}"
            )
    lexicons: dict[str, Lexicon] = {}
    records: list[dict] = []
    for code in chosen:
        pairs, record = _read(found[code])
        records.append(record)
        lexicon: Lexicon = {}
        for source, target in pairs:
            same = source.casefold() == target.casefold()
            token = source and not re.search(r"\s", source) if treebank else WORD.fullmatch(source)
            if token and target and not (same and skip_identities):
                entries = lexicon.setdefault(source.lower(), [])
                if target not in entries:
                    entries.append(target)
        if not lexicon:
            raise UserError(
                f"--lexicon {folder}: en-{code} has no entry that can be used (one English word, and its translation"
                + (" that differs from it" if skip_identities else "")
                + f"); it has {len(pairs)} rows."
            )
        lexicons[code] = lexicon
    return lexicons, records


def _lexicons_in(folder: str) -> dict[str, Path]:
    """Return {language: the file or folder of its lexicon}."""
    root = Path(folder)
    if not root.is_dir():
        raise UserError(f"--lexicon {folder}: no such folder.")
    found: dict[str, Path] = {}
    for path in sorted(root.iterdir()):
        match = re.fullmatch(r"en-([A-Za-z_-]+)", path.name if path.is_dir() else path.stem)
        if match and (path.is_dir() or path.suffix in TEXT_FILES):
            if (other := found.setdefault(code := codes.normalize(match[1]), path)) != path:
                raise UserError(f"{other} and {path.name} are both lexicons of {code}. Keep one of them.")
    if not found:
        raise UserError(
            f"--lexicon {folder}: no lexicon in it. Expected en-de.txt with lines `source TAB target`, or "
            "en-de/train.parquet (.jsonl, .jsonl.gz) with columns source and target."
        )
    return found


def _read(path: Path) -> tuple[list[tuple[str, str]], dict]:
    """Return the (source, target) rows of one lexicon, stripped, and its data record."""
    if path.is_dir():
        rows = Rows(path.parent.parent)
        read = rows.read(path.parent.name, path.name, "train", None, ("source", "target"))
        check_text(read.data, ("source", "target"), read.where)
        return [
            (s.strip(), t.strip()) for s, t in zip(read.data["source"][:], read.data["target"][:], strict=True)
        ], read.record
    pairs = []
    try:
        # splitlines also splits at characters inside words; utf-8-sig: a byte order mark is no part of the first word
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not valid UTF-8 (byte {error.start}).") from error
    for number, line in enumerate(lines, 1):
        fields = line.split("\t") if "\t" in line else line.split(" ", 1)
        if line.strip() and len(fields) != 2:
            raise UserError(f"{path}, line {number}: expected `source TAB target`, found {line!r}.")
        if line.strip():
            pairs.append((fields[0].strip(), fields[1].strip()))
    return pairs, {
        "id": path.parent.name,
        "config": path.stem,
        "split": "train",
        "sha256": sha256(path),
        "file": str(path),
        "rows": len(pairs),
    }


def check(arguments: ChangeArguments, lexicon: str | None) -> None:
    """Raise if arguments do not go together, or have no effect.

    --lexicon without --code_switch is allowed: make gives it to all arms of a family, and only some use it.

    Raises:
        UserError: what was given, and what to type.
    """
    if arguments.code_switch and not lexicon:
        raise UserError(
            "--code_switch needs --lexicon, a folder with en-<language>.txt or en-<language>/train.parquet."
        )
    for name in non_defaults(arguments):
        if (
            name in ("switch_languages", "switch_probability", "switch_side", "switch_treebank", "skip_identities")
            and not arguments.code_switch
        ):
            raise UserError(f"--{name} goes with --code_switch bilingual or multilingual.")
    languages = [codes.normalize(code) for code in arguments.switch_languages]
    if "en" in languages:
        raise UserError("--switch_languages en: English words are what is replaced; name other languages.")
    side = getattr(arguments, "switch_side", "both")
    if arguments.code_switch == "bilingual" and side != "both" and len(set(languages)) > 1:
        raise UserError(
            f"--switch_side {side} switches one side, and bilingual has one language a side: --switch_languages "
            f"{' '.join(arguments.switch_languages)} names {len(set(languages))}. Give one."
        )
    if arguments.switch_treebank:
        _treebank()


def sides(
    mode: str, lexicons: dict[str, Lexicon], query: bool = True, passage: bool = True
) -> dict[str, list[Lexicon]]:
    """Return {side: lexicons} for `switch_columns`.

    Args:
        mode: multilingual: all lexicons for both sides. bilingual: one language for both sides, or the first for
            queries and the second for passages.
        query, passage: whether to switch that side.

    Raises:
        UserError: bilingual with more than two languages.
    """
    if mode == "multilingual":
        of = {"query": list(lexicons.values()), "passage": list(lexicons.values())}
    elif len(lexicons) > 2:
        raise UserError(
            f"--code_switch bilingual has one language a side, and the lexicons have {len(lexicons)} "
            f"({' '.join(lexicons)}). Give --switch_languages de (both sides), or de ru (queries, passages)."
        )
    else:
        first, last = list(lexicons.values())[0], list(lexicons.values())[-1]
        of = {"query": [first], "passage": [last]}
    return {side: of[side] for side, wanted in (("query", query), ("passage", passage)) if wanted}
