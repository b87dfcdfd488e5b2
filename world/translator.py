"""The world's machine translation: the train rows of XNLI, SQuAD and PAWS-X in every language, with wrong words.

The meaning of a row is known, so it is written again in the other language. Then each word goes wrong with the same
probability: half of these are left out, half become another word of the language. A question whose answer is left out
is lost, as when a translator loses the marks around it. The English rows are also written with two passes of this
noise: the result of translation into another language and back.
"""

import copy
import json
import random
from collections.abc import Iterator

import pyarrow as pa

from .base import Options, Table, TextFile, table
from .language import Language, Token
from .meaning import Clause
from .pairs import NLI, PAWS, Inference, paws_meanings, paws_rows, xnli_meanings
from .spans import QA, Questions, squad_meanings

ROUND_TRIP = ".roundtrip"


class Noisy(Language):
    """A language as written by a translator that makes errors."""

    def __init__(self, language: Language, noise: float):
        self.__dict__ |= language.__dict__
        self.noise = noise
        self.words = [forms[0] for forms in language.forms.values()]

    def clause(self, rng: random.Random, clause: Clause) -> list[Token]:
        return self._spoiled(rng, super().clause(rng, clause))

    def question(self, rng: random.Random, clause: Clause, slot: str) -> list[Token]:
        return self._spoiled(rng, super().question(rng, clause, slot))

    def _spoiled(self, rng: random.Random, tokens: list[Token]) -> list[Token]:
        kept = []
        for token in tokens:
            if rng.random() >= self.noise:
                kept.append(token)
            elif rng.random() < 0.5:
                kept.append(token._replace(word=rng.choice(self.words)))
        return kept or tokens[:1]


def translations(options: Options, noise: float) -> Iterator[Table | TextFile]:
    """Yield the files: rows in the Hub's columns, and beside each a note on what made them and what was lost."""
    noisy = copy.copy(options)
    back = 1 - (1 - noise) ** 2
    noisy.languages = {
        code: Noisy(language, back if code == "en" else noise) for code, language in options.languages.items()
    }
    pairs, paraphrases = xnli_meanings(Inference(options))["train"], paws_meanings(options)["train"]
    questions = squad_meanings(Questions(options))
    for code in noisy.languages:
        suffix = ROUND_TRIP if code == "en" else ""
        path = f"facebook__xnli/{code}{suffix}/train"
        yield from _with_note(path, NLI, Inference(noisy).rows(path, code, pairs), len(pairs), noise)
        path = f"google-research-datasets__paws-x/{code}{suffix}/train"
        yield from _with_note(path, PAWS, paws_rows(noisy, path, code, paraphrases), len(paraphrases), noise)
        path = (
            f"rajpurkar__squad/plain_text{suffix}/train"
            if suffix
            else f"juletxara__xquad_xtreme/{code}/translate_train"
        )
        rows = Questions(noisy).rows(path, code, questions, lambda i: f"squad-train-{i:06d}")
        yield from _with_note(path, QA, [row for row in rows if row[-1]["text"]], len(questions), noise)


def _with_note(
    path: str, types: pa.Schema, rows: list[tuple], english: int, noise: float
) -> Iterator[Table | TextFile]:
    note = {
        "model": f"the miniature world's own translator, noise {noise:g}",
        "rows": len(rows),
        "lost": english - len(rows),
    }
    yield table(path, types, rows)
    yield TextFile(f"{path}.translation.json", json.dumps(note, indent=1) + "\n")
