"""Shared by the modules that make rows: options, the two kinds of file, and helpers."""

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

import pyarrow as pa

from .language import STOP, Language, text
from .meaning import Clause, World

STRING, INT32, INT64 = pa.string(), pa.int32(), pa.int64()
STRINGS = pa.list_(STRING)

DEV, TEST = 300, 400  # rows a language at size 1, unless a data set sets another number


class Table(NamedTuple):
    """One parquet file: its path in the world without the suffix, its columns by name, their types."""

    path: str
    columns: dict[str, list]
    schema: pa.Schema


class TextFile(NamedTuple):
    """One file of plain text: its path in the world, its contents."""

    path: str
    content: str


@dataclass
class Options:
    """The options of a world: codes of the invented languages, the seed, a factor on every count."""

    codes: list[str]
    seed: int
    size: float
    world: World = field(init=False)
    languages: dict[str, Language] = field(init=False)
    held_out: set[Clause] = field(init=False, default_factory=set)  # of retrieval tests: they are not in the text
    in_text: set[Clause] = field(init=False, default_factory=set)  # in the text of any language, once written

    def __post_init__(self):
        self.world = World(self.seed)
        self.languages = {code: Language(code, self.world, self.seed) for code in ["en", *self.codes]}

    @property
    def english(self) -> Language:
        return self.languages["en"]

    def rng(self, name: str) -> random.Random:
        """Return the random generator of one data set, or of one language's wording of it."""
        return random.Random(f"{self.seed}/{name}")

    def rows(self, count: int) -> int:
        """Return a count at this size, at least 8."""
        return max(8, round(count * self.size))


def schema(**types: pa.DataType | str) -> pa.Schema:
    """A schema from `column=type`, a string of column names standing for columns of strings."""
    fields = []
    for name, kind in types.items():
        fields += [(column, STRING) for column in kind.split()] if isinstance(kind, str) else [(name, kind)]
    return pa.schema(fields)


def table(path: str, types: pa.Schema, rows: Iterable[tuple]) -> Table:
    """The rows, each a tuple in the order of the schema, as a table."""
    rows = list(rows)
    return Table(path, {name: [row[i] for row in rows] for i, name in enumerate(types.names)}, types)


def column(code: str) -> str:
    """Return the code of a language in FLORES and NTREX: their own for English, the usual one for invented
    ones."""
    return "eng_Latn" if code == "en" else code


def unlike(seen: set, draw: Callable[[], tuple], count: int) -> list[tuple]:
    """Draw `count` meanings that are not in `seen`, and add them to it."""
    drawn = []
    while len(drawn) < count:
        item = draw()
        if item not in seen:
            seen.add(item)
            drawn.append(item)
    return drawn


def sentence(language: Language, rng: random.Random, clause: Clause) -> str:
    """Return a clause as a sentence."""
    return text([*language.clause(rng, clause), STOP])


def even_labels(rng: random.Random, count: int, labels: int) -> list[int]:
    """Return `count` labels in equal shares and random order."""
    drawn = [i % labels for i in range(count)]
    rng.shuffle(drawn)
    return drawn
