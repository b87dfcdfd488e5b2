"""Sentence retrieval and bitext mining: compare sentence vectors, without a head or training data."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from tasks import language_columns
from tasks import languages as codes
from tasks.base import Task
from tasks.checks import check_ids, check_sentences, check_text
from tasks.errors import UserError
from tasks.fingerprint import fingerprint
from tasks.overlap import Use
from tasks.rows import Loaded
from tasks.source import XTREME_REVISION, Source
from tasks.submitted import compute, read_matches

if TYPE_CHECKING:
    from pathlib import Path

    from datasets import Dataset

    from tasks.rows import Rows
    from tasks.submitted import Scorer, Submitted


class Tatoeba(Task):
    """Tatoeba (Artetxe & Schwenk 2019): find the nearest sentence in the other language; gold is the same row.

    Columns after loading: source (foreign), target (English). It has 112 pairs; XTREME reports 36. Some sentences are
    duplicates; as in all published scores, only the same row is right.
    """

    name = "tatoeba"
    title = "Tatoeba"
    form = "retrieval"
    metric = "accuracy"
    chooses_layer = True
    search_options: ClassVar[tuple[str, ...]] = ("center", "csls", "query_side", "index")
    languages_in = "tatoeba"
    columns: ClassVar[tuple[str, ...]] = ("sentence1", "sentence2")  # foreign, English
    optional: ClassVar[tuple[str, ...]] = ("lang",)  # the pair of languages
    sources: tuple[Source, ...] = (
        Source(
            "mteb/tatoeba-bitext-mining",
            "{language}-eng",
            {"test": "test"},
            "69e8f12da6e31d59addadda9a9c8a2e601a0e282",
            codes.tatoeba_code,
        ),
        Source(
            "google/xtreme",
            "tatoeba.{language}",
            {"test": "validation"},
            XTREME_REVISION,
            codes.tatoeba_code,
            columns=("source_sentence", "target_sentence"),
            only=codes.XTREME["tatoeba"],
            shape=lambda data, _: data.rename_columns(
                {"source_sentence": "sentence1", "target_sentence": "sentence2"}
            ),
        ),
    )

    def examples(self, data: Dataset, language: str, where: str) -> Dataset:
        check_text(data, self.columns, where)
        if "lang" in data.column_names and len(pairs := sorted(set(map(str, data["lang"][:])))) > 1:
            raise UserError(f"{where}, column 'lang': rows of {', '.join(pairs[:5])}; expected those of one pair.")
        data = data.select_columns(list(self.columns))
        if count_line_ends(data, self.columns):  # google/xtreme's copy kept them
            data = data.map(
                lambda row: {c: row[c].rstrip("\r\n") for c in self.columns},
                desc=f"{self.name} line ends",
                new_fingerprint=fingerprint(self, data, self.columns),
            )
        check_sentences(data, self.columns, where)
        return data.rename_columns(dict(zip(self.columns, ("source", "target"), strict=True)))

    def notes(self, data: Dataset) -> list[str]:
        ends = count_line_ends(
            data, tuple(c for c, feature in data.features.items() if getattr(feature, "dtype", None) == "string")
        )
        return [f"{ends} sentences without the line end they have in the file"] if ends else []

    def available(self, rows: Rows) -> list[str]:
        """Return all 112 languages on the Hub, not only those that the benchmark reports."""
        return self.languages(rows) if rows.local else [codes.normalize(code) for code in codes.TATOEBA_112]

    def gold(self, examples: Dataset) -> list:
        return list(range(len(examples)))

    def score(self, predictions: list[int], examples: Dataset, language: str) -> dict[str, float]:
        from tasks.metrics import compute

        return compute("retrieval_accuracy", predictions=predictions, references=self.gold(examples))

    def main_score(self, predictions: list[int], examples: Dataset, language: str) -> float:
        from tasks.metrics import compute

        return compute("retrieval_accuracy", predictions=predictions, references=self.gold(examples), f1=False)[
            self.metric
        ]

    def hits(self, predictions: list[int], examples: Dataset) -> list[float]:
        """Return 1 for each query that found its own row, else 0. The mean is the accuracy."""
        return [float(found == row) for row, found in enumerate(predictions)]

    def query_ids(self, examples: Dataset) -> list[str]:
        """Return the row numbers, from 0."""
        return [str(row) for row in range(len(examples))]

    def chance(self, examples: Dataset, language: str = "en") -> dict[str, float]:
        """Accuracy of a random guess among n sentences."""
        return {"accuracy": 100 / len(examples)}

    def lines(self, predictions: list[int], examples: Dataset) -> list[str]:
        """The submission's lines: one row number per example, from 0."""
        return [str(p) for p in predictions]

    def read_lines(self, path: Path) -> list[int]:
        return [
            int(line)
            for line in read_matches(path, r"0|-?[1-9][0-9]{0,17}", "Write one integer per line, nothing else.")
        ]

    def compare(self, files: Submitted) -> Scorer:
        found, gold = files.read(self.read_lines)
        files.check_number(found, gold)
        if hidden := [row for row, index in enumerate(gold, 1) if index < 0]:
            raise UserError(
                f"{files.labels}: line {hidden[0]} is {gold[hidden[0] - 1]}, a placeholder. Give the gold labels."
            )
        # without mteb's F1, which the benchmark does not report
        return lambda: compute("retrieval_accuracy", predictions=found, references=gold, f1=False)

    def sides(self, examples: Dataset) -> tuple[list[str], list[str]]:
        return examples["source"][:], examples["target"][:]


# ---- one sentence in many languages ---------------------------------------------------------------------------------


class ParallelText(Tatoeba):
    """Rows of one sentence in many languages, one column each: English with every other, or any two languages.

    Columns after loading: source (foreign), target (English). The target is the same in every language.
    """

    parallel = True
    search_options = ("center", "csls", "query_side", "pairs")
    columns = ()
    optional: ClassVar[tuple[str, ...]] = ()

    def languages(self, rows: Rows) -> list[str]:
        return [language for language in super().languages(rows) if language != "en"]

    def available(self, rows: Rows) -> list[str]:
        return self.languages(rows)

    def unread(self, rows: Rows, scored: Sequence[str]) -> list[str]:
        """Return the columns that are named as for a language but are not read."""
        return [name for source in self.sources for name in language_columns.unread(self, source, rows)]

    def notes(self, data: Dataset) -> list[str]:
        return []

    def examples(self, data: Dataset, language: str, where: str) -> Dataset:
        columns = tuple(data.column_names)
        check_text(data, columns, where)
        check_sentences(data, columns, where)
        return data.rename_columns(dict(zip(columns, ("source", "target"), strict=True)))


def one_file(source: str, split: str, revision: str | None = None) -> tuple[Source, ...]:
    """Return the sources of a `ParallelText`: a split of config `default`, with a column for each language.

    Args:
        source: the Hub id.
        revision: a commit of it.
    """
    return (
        Source(
            source,
            "default",
            {"test": split},
            revision,
            columns=language_columns.named,
            shape=language_columns.with_english,
            inside=lambda data: data.column_names,
        ),
    )


class NTREX(ParallelText):
    """NTREX-128 (Federmann et al. 2022): the 1,997 English sentences of WMT 2019's news test, translated by people.

    mteb's copy with 121 languages, without three variants of English and those of French, Portuguese and Spanish.
    Neighbouring rows are from one document.
    """

    name = "ntrex"
    title = "NTREX-128"
    languages_in = "ntrex"
    sources = one_file("mteb/NTREXBitextMining", "test", "66b8b27efc99658903127730575e9fa0cb9f075c")


class FLORES(ParallelText):
    """FLORES-200 (NLLB Team 2022), devtest: 1,012 sentences from Wikimedia in 204 languages, human translations.

    mteb's copy, because openlanguagedata/flores_plus needs a login. The names of its columns are taken from mteb's
    task: one per language, as in NTREX. SIB-200 and Belebele use FLORES sentences.
    """

    name = "flores"
    title = "FLORES-200"
    languages_in = "flores"
    same_sentences = ("Davlan/sib200", "facebook/belebele/*/test")
    sources = one_file("mteb/FloresBitextMining", "devtest", "2144d16cc15edd22d4a9237d12bff5f31f5c07fc")


def count_line_ends(data: Dataset, columns: tuple[str, ...]) -> int:
    """Return the number of texts that end with a line break."""
    return sum(text is not None and text.endswith(("\r", "\n")) for column in columns for text in data[column][:])


@dataclass(frozen=True)
class Pools:
    """Two comparable corpora and the pairs in them. `gold` holds (source id, target id)."""

    source_ids: list[str]
    source: list[str]
    target_ids: list[str]
    target: list[str]
    gold: set[tuple[str, str]]

    def __len__(self) -> int:
        return len(self.gold)


class BUCC(Task):
    """BUCC 2018 (Zweigenbaum et al.): find the translation pairs in two corpora. F1 of id pairs, threshold from dev.

    XTREME's dev is the shared task's sample set, its test the shared task's training set. The Hub's copies have only
    the gold pairs, or the test pools without dev. Mining needs both pools of both splits, so a folder is required:
    ``bucc2018__<language>-en/{source,target}/{validation,test}`` (id, text) and ``.../gold/...`` (source_id,
    target_id).
    """

    name = "bucc"
    title = "BUCC 2018"
    form = "mining"
    metric = "f1"
    mines = True
    chooses_layer = True
    search_options = ("margin", "mining", "index")
    languages_in = "bucc"
    splits = {"dev": "validation", "test": "test"}
    sources = ()

    def where(self) -> str:
        return "bucc2018 (local files)"

    def languages(self, rows: Rows) -> list[str]:
        self.refuse_hub(rows)
        found = (re.fullmatch(r"bucc2018__(.+)-en", p.name) for p in sorted(rows.root.iterdir()))
        languages = [codes.normalize(m[1]) for m in found if m]
        if not languages:
            pairs = [config for config in rows.configs("google/xtreme") if config.startswith("bucc18.")]
            hint = (
                f" ({rows.folder('google/xtreme') / pairs[0]} holds only the gold pairs, so there is nothing to mine)"
                if pairs
                else ""
            )
            raise UserError(f"bucc: no folder bucc2018__<language>-en below {rows.root}{hint}.")
        return languages

    def read(self, split: str, language: str, rows: Rows) -> Loaded:
        self.refuse_hub(rows)
        source, expression = f"bucc2018/{language}-en", rows.expression("bucc", split, self.splits[split])
        parts, reads = {}, {}
        for part, columns in (
            ("source", ("id", "text")),
            ("target", ("id", "text")),
            ("gold", ("source_id", "target_id")),
        ):
            read = reads[part] = rows.read(source, part, expression, None, columns, use=Use("bucc", split, language))
            check_text(read.data, columns, read.where)
            if part != "gold":
                check_sentences(read.data, ("text",), read.where)
            parts[part] = [read.data[c][:] for c in columns]
        for part in ("source", "target"):
            ids = parts[part][0]
            check_ids(ids, reads[part].where)
            for row, i in enumerate(ids, 1):
                if i.split() != [i]:
                    raise UserError(
                        f"{reads[part].where}, row {row}, column 'id': {i!r} is empty or contains white space."
                    )
        gold = set(zip(*parts["gold"], strict=True))
        for side, column in ((0, "source"), (1, "target")):
            known = set(parts[column][0])
            if unknown := [(row, i) for row, i in enumerate(parts["gold"][side], 1) if i not in known]:
                row, i = unknown[0]
                raise UserError(
                    f"{reads['gold'].where}, row {row}, column '{column}_id': {i!r} is not an id of the {column} pool."
                )
        (source_ids, source_texts), (target_ids, target_texts) = parts["source"], parts["target"]
        pools = Pools(source_ids, source_texts, target_ids, target_texts, gold)
        return Loaded(pools, tuple(reads.values()))

    def refuse_hub(self, rows: Rows) -> None:
        """Raise UserError for the Hub, which does not have the pools."""
        if not rows.local:
            raise UserError(
                "bucc cannot be mined from the Hub: its copies lack the pools of one split or both. Get the "
                "corpora from the BUCC 2018 shared task (comparable.limsi.fr/bucc2018) and give --data_root a "
                "folder with bucc2018__de-en/{source,target,gold}/{validation,test}.jsonl."
            )

    def gold(self, examples: Pools) -> list:
        return sorted(examples.gold)

    def score(self, predictions: list[tuple[str, str]], examples: Pools, language: str) -> dict[str, float]:
        from tasks.metrics import compute

        return compute(
            "mining",
            predictions=[["\t".join(p) for p in predictions]],
            references=[["\t".join(p) for p in self.gold(examples)]],
        )

    def chance(self, examples: Pools, language: str = "en") -> dict[str, float]:
        """F1 of as many random pairs as there are gold pairs; each is right with probability |gold| / (n m)."""
        return {"f1": 100 * len(examples.gold) / (len(examples.source) * len(examples.target))}

    def predictions_file(self, language: str) -> str:
        return f"bucc2018/test-{language}.tsv"

    def lines(self, predictions: list[tuple[str, str]], examples: Pools) -> list[str]:
        """The submission's lines: source id, tab, target id."""
        known = set(examples.source_ids), set(examples.target_ids)
        for pair in predictions:
            if pair[0] not in known[0] or pair[1] not in known[1]:
                raise UserError(f"bucc: {pair!r} are not ids of the source and the target pool.")
        return ["\t".join(pair) for pair in predictions]

    def read_lines(self, path: Path) -> list[str]:
        return read_matches(path, r"[^\t]+\t[^\t]+", "Write two ids with one tab between them.")

    def compare(self, files: Submitted) -> Scorer:
        found, gold = files.read(self.read_lines)
        return lambda: compute("mining", predictions=[found], references=[gold])

    def sides(self, examples: Pools) -> tuple[list[str], list[str]]:
        return examples.source, examples.target
