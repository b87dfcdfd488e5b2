"""Code-switching: words of an English text replaced by another language's, from a bilingual lexicon (arXiv
2305.05295).

bilingual: each side of a pair has one language. multilingual: each word that is replaced draws its language anew.
A word the lexicon does not have stays as it is, so the real switch rate lies below the probability: `Counts` has both.

Two ways. Ours replaces words where they stand, draws among all translations of a word and leaves everything else
alone. `treebank` is that of the paper's published code: Penn Treebank tokens (also numbers and stops, "n't"), the
first translation of a token, and the text put together again from the tokens, which may change its blanks and quotes.
"""

from __future__ import annotations

import difflib
import inspect
import random
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from tasks import languages as codes
from tasks.checks import check_text
from tasks.rows import Rows, sha256
from xstilts.cli.arguments import non_defaults
from xstilts.errors import UserError

if TYPE_CHECKING:
    from datasets import Dataset

Lexicon = dict[str, list[str]]  # English word, lower-cased -> its translations, in the file's order
WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")  # letters; numbers and punctuation are nobody's words
TEXT_FILES = (".txt", ".tsv")


@dataclass
class Counts:
    """How many words a text had, how many were drawn to be replaced, how many were (the others had no entry)."""

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
    """The text with each word replaced with `probability`, by a translation from one of `lexicons` drawn for the word.

    One lexicon: bilingual; several: multilingual. Blanks around the text stay.
    """
    counts = Counts()

    def one(word: str) -> str:
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
        return WORD.sub(lambda match: one(match[0]), text), counts
    tokenizer, detokenizer = _treebank()
    body = text.strip()
    before, _, after = text.partition(body) if body else (text, "", "")
    return before + detokenizer.detokenize([one(token) for token in tokenizer.tokenize(body)]) + after, counts


@cache
def _treebank() -> tuple:
    """NLTK's Treebank tokenizer and detokenizer. UserError where NLTK is not installed."""
    try:
        from nltk.tokenize.treebank import TreebankWordDetokenizer, TreebankWordTokenizer
    except ImportError as error:
        raise UserError("--switch_treebank needs NLTK. Type: pip install -r requirements.txt") from error
    return TreebankWordTokenizer(), TreebankWordDetokenizer()


def switch_columns(
    data: Dataset, lexicons: Mapping[str, Sequence[Lexicon]], probability: float, seed: int, treebank: bool = False
) -> tuple[Dataset, dict]:
    """Rows with their text columns code-switched: {column: its lexicons} -> (the rows, {column: Counts}).

    Every row of a column has a generator of its own, from the seed and its number, so that row n is switched alike
    however many follow. For pairs as for the rows of any intermediate task.
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

    # datasets would hash the function by its name, so that switched rows outlived the code or lexicon that made them
    key = Hasher.hash(
        (
            data._fingerprint,
            {c: list(x) for c, x in lexicons.items()},
            probability,
            seed,
            treebank,
            inspect.getsource(sys.modules[__name__]),
        )
    )
    done = data.map(batch, batched=True, with_indices=True, desc="code-switching", new_fingerprint=key)
    counts = {c: Counts(*(sum(done[f"{c}/{part}"]) for part in ("words", "drawn", "switched"))) for c in lexicons}
    return done.select_columns(data.column_names), counts


def read_lexicons(
    folder: str, languages: Sequence[str] = (), skip_identities: bool = False, treebank: bool = False
) -> tuple[dict[str, Lexicon], list[dict]]:
    """The English-to-foreign lexicons of a folder: ({language: lexicon}, data records as results.json keeps them).

    The folder holds `en-<language>.txt` files of `source TAB target` lines (MUSE's, with a blank, too), or rows:
    `en-<language>/train.{parquet,jsonl,jsonl.gz}` with the columns source and target.

    Args:
        languages: these only, English aside; empty: all there are.
        skip_identities: leave out entries whose two words are the same, so that a switch can be seen.
        treebank: take entries of any token ("n't", "1990", "."), not of words alone.

    Raises:
        UserError: no such folder, no lexicon in it, a language it does not have, or no entry that can be used.
    """
    root = Path(folder)
    if not root.is_dir():
        raise UserError(f"--lexicon {folder}: no such folder.")
    found = {}
    for path in sorted(root.iterdir()):
        match = re.fullmatch(r"en-([A-Za-z_]+)", path.name if path.is_dir() else path.stem)
        if match and (path.is_dir() or path.suffix in TEXT_FILES):
            found[codes.normalize(match[1])] = path
    if not found:
        raise UserError(
            f"--lexicon {folder}: no lexicon in it. Expected en-de.txt with lines `source TAB target`, or "
            "en-de/train.parquet (.jsonl, .jsonl.gz) with columns source and target."
        )
    wanted = [code for code in map(codes.normalize, languages) if code != "en"] or list(found)
    for code in wanted:
        if code not in found:
            near = difflib.get_close_matches(code, found, 1)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise UserError(f"--switch_languages {code}: {folder} has no en-{code}; it has {' '.join(found)}.{hint}")
    lexicons, records = {}, []
    for code in wanted:
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


def _read(path: Path) -> tuple[list[tuple[str, str]], dict]:
    """The (source, target) rows of one lexicon, stripped, and where they came from."""
    if path.is_dir():
        rows = Rows(path.parent.parent)
        read = rows.read(path.parent.name, path.name, "train", None, ("source", "target"))
        check_text(read.data, ("source", "target"), read.where)
        return [
            (s.strip(), t.strip()) for s, t in zip(read.data["source"], read.data["target"], strict=True)
        ], read.record
    pairs = []
    try:
        lines = path.read_text(encoding="utf-8").split("\n")  # splitlines also splits at characters inside words
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


def check(how, lexicon: str | None) -> None:
    """Refuses arguments that cannot go together, or would do nothing (`how`: ChangeArguments).

    A lexicon without code-switching is no error: a family's arms are all told where it lies, and some use it.

    Raises:
        UserError: what was given, and what to type.
    """
    if not 0 < how.switch_probability <= 1:
        raise UserError(f"--switch_probability {how.switch_probability} must be above 0 and up to 1.")
    if how.code_switch and not lexicon:
        raise UserError(
            "--code_switch needs --lexicon, a folder with en-<language>.txt or en-<language>/train.parquet."
        )
    for name in non_defaults(how):
        if (
            name in ("switch_languages", "switch_probability", "switch_side", "switch_treebank", "skip_identities")
            and not how.code_switch
        ):
            raise UserError(f"--{name} goes with --code_switch bilingual or multilingual.")
    asked = [codes.normalize(code) for code in how.switch_languages]
    if "en" in asked:
        raise UserError("--switch_languages en: English words are what is replaced; name other languages.")
    side = getattr(how, "switch_side", "both")
    if how.code_switch == "bilingual" and side != "both" and len(set(asked)) > 1:
        raise UserError(
            f"--switch_side {side} switches one side, and bilingual has one language a side: --switch_languages "
            f"{' '.join(how.switch_languages)} names {len(set(asked))}. Give one."
        )
    if how.switch_treebank:
        _treebank()


def sides(
    mode: str, lexicons: dict[str, Lexicon], query: bool = True, passage: bool = True
) -> dict[str, list[Lexicon]]:
    """The lexicons of each side of a pair, for `switch_columns`.

    multilingual: all of them, for both. bilingual: one language for both sides, or the first for queries and the
    second for passages.

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
