"""One sentence in every language: NTREX, FLORES, and the topics that SIB-200 gives to FLORES' sentences."""

from collections.abc import Iterator

import pyarrow as pa

from .base import INT64, STRING, Options, Table, column, schema, sentence, table
from .meaning import Clause
from .retrieval import held_out_clauses

NTREX = 500
SIB = {"train": 700, "validation": 100, "test": 200}
# the topic of a sentence: the class of its patient; names are people
TOPICS = {
    "person": "politics",
    "animal": "sports",
    "food": "health",
    "tool": "science/technology",
    "vehicle": "travel",
    "garment": "entertainment",
    "paper": "geography",
}


def parallel_sentences(options: Options, name: str, count: int) -> tuple[list[Clause], dict[str, list[str]]]:
    """Return (clauses that no text contains, {language: their sentences})."""
    english: set[str] = set()
    drawn = held_out_clauses(options, options.rng(name), english, count)
    found = {"en": [words for _, words in drawn]}
    for code in options.codes:
        rng = options.rng(f"{name}/{code}")
        found[code] = [sentence(options.languages[code], rng, clause) for clause, _ in drawn]
    return [clause for clause, _ in drawn], found


def in_columns(path: str, sentences: dict[str, list[str]], part: slice) -> Table:
    """Return the sentences with a column for each language."""
    columns = {column(code): texts[part] for code, texts in sentences.items()}
    return Table(path, columns, pa.schema([(name, STRING) for name in columns]))


def ntrex(options: Options) -> Iterator[Table]:
    """NTREX: the same sentences in every language, row by row."""
    _, sentences = parallel_sentences(options, "ntrex", options.rows(NTREX))
    yield in_columns("mteb__NTREXBitextMining/default/test", sentences, slice(None))


def flores(options: Options) -> Iterator[Table]:
    """FLORES in two splits, and SIB-200: the same sentences, shuffled, with topics. `index_id` is FLORES'
    row."""
    sizes = {split: options.rows(count) for split, count in SIB.items()}
    clauses, sentences = parallel_sentences(options, "flores", sum(sizes.values()))
    half = len(clauses) // 2
    for split, part in (("dev", slice(half)), ("devtest", slice(half, None))):
        yield in_columns(f"mteb__FloresBitextMining/default/{split}", sentences, part)
    types, order = schema(index_id=INT64, strings="category text"), list(range(len(clauses)))
    options.rng("sib200").shuffle(order)
    topics = [TOPICS[options.world.class_of.get(clause.patient.noun, "person")] for clause in clauses]
    for split, size in sizes.items():
        rows, order = order[:size], order[size:]
        for code, texts in sentences.items():
            yield table(
                f"Davlan__sib200/{column(code)}/{split}", types, [(row, topics[row], texts[row]) for row in rows]
            )
