"""The interface of every task adapter. Independent of models and training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from tasks import folders
from tasks import languages as codes
from tasks.chance import clears
from tasks.checks import check_ids, same_numbers
from tasks.columns import join, replace_columns
from tasks.errors import MissingRows, UserError, reading
from tasks.expressions import alternatives
from tasks.files import class_names
from tasks.overlap import Use
from tasks.rows import Loaded, Read, Rows
from tasks.source import Source

if TYPE_CHECKING:
    import numpy as np
    from datasets import Dataset
    from transformers import PreTrainedTokenizerFast

    from tasks.submitted import Scorer, Submitted


# What a form makes of the rows: a Dataset in the form's columns, or, where pools are searched, `Pools` or `Pool`.
Examples = Any
Collator = Callable[[list[dict[str, Any]]], Mapping[str, Any]]  # features -> a padded batch of tensors


class Task:
    """One data set in one task form. Stateless, and cheap to create.

    A subclass states where the rows are and what their columns mean. Its form defines features, decoding, scores and
    files of predictions; code outside this package does not depend on a form's name. Scores are 0-100.
    """

    name: ClassVar[str]
    form: ClassVar[str]
    sources: tuple[Source, ...] = ()
    metric: ClassVar[str]
    columns: ClassVar[tuple[str, ...]]  # required in the source
    optional: ClassVar[tuple[str, ...]] = ()  # columns read if the source has them; others are ignored
    unique_ids: ClassVar[bool] = False  # whether no id may come twice, because predictions are matched by it
    auto_class: ClassVar[str] = ""  # the transformers Auto class with this form's head; "" = nothing to train
    pipeline_tag: ClassVar[str] = "sentence-similarity"  # what the Hub calls the form
    title: ClassVar[str] = ""  # what people call the data set, for headings; "" = its name
    usage: ClassVar[str] = ""  # lines of Python for a card, which use `tokenizer` and `model`, with this form's head
    # whether this is masked language modelling: text in any language, with the checkpoint's own head
    masks: ClassVar[bool] = False
    # whether the task is to find pairs in two pools, of dev and of test; pools are never truncated
    mines: ClassVar[bool] = False
    ranks: ClassVar[bool] = False  # whether queries of all languages share one pool of candidates
    chooses_layer: ClassVar[bool] = False  # whether --select_on may choose a layer by its scores
    # the arguments of run_retrieval.py that only some tasks use, and this one does
    search_options: ClassVar[tuple[str, ...]] = ()
    labels: tuple[str, ...] = ()  # in the order of the head's outputs
    empty_label: ClassVar[Any] = None  # the label of a window without an answer, in forms that cut examples so
    train_from: ClassVar[tuple[str, ...]] = ()  # tasks whose English rows train this one, in this order
    parts: ClassVar[tuple[str, ...]] = ()  # tasks whose rows together are this one's
    # groups of columns that are always in the same language, in the order of the input
    fields: ClassVar[tuple[tuple[str, ...], ...]] = ()
    same_sentences: ClassVar[tuple[str, ...]] = ()  # rows with its sentences: id, id/config, id/config/split; * is any
    parallel: ClassVar[bool] = False  # whether the test has the same queries in every language
    # train rows in other languages: "parallel" (translations), "native" (their own), "" (none)
    other_languages: ClassVar[str] = ""
    languages_in: ClassVar[str] = ""  # the task's name in tasks.languages ("" = English only)
    select: ClassVar[str] = "best"  # the checkpoint to keep: "best" on English dev, or "last" (question answering)
    dev_in_test: ClassVar[str] = ""  # how English dev and test overlap, if they do: dev then cannot select fairly
    train_rows: ClassVar[int | None] = None  # on the Hub; None = no train rows
    defaults: ClassVar[dict[str, Any]] = {}

    def __init__(self, benchmark: str = "xtreme"):
        self.benchmark = benchmark  # xtreme or xtreme-r: the languages to load from the Hub

    # ---- rows ----------------------------------------------------------------------------------------------------

    def languages(self, rows: Rows) -> list[str]:
        """Return the languages of the test split: on the Hub the benchmark's, in a folder those present.

        Raises:
            UserError: the task has no test split, or the folder has no test rows.
        """
        if rows.local:
            return folders.test_languages(self, rows)
        return list(codes.languages(self.languages_in, self._benchmark())) if self.languages_in else ["en"]

    def available(self, rows: Rows) -> list[str]:
        """Return the languages that --languages may name: those of `languages`, or more if a source has more."""
        return self.languages(rows)

    def unread(self, rows: Rows, scored: Sequence[str]) -> list[str]:
        """Return what a folder names as test rows of a language but is not read, with the reason, see `folders`."""
        return folders.unread(self, rows, scored)

    def _benchmark(self) -> str:
        """The benchmark that defines the languages: the chosen one if it has the task, else another that does."""
        names = [self.benchmark, *codes.BENCHMARKS]
        return next((name for name in names if self.languages_in in codes.BENCHMARKS.get(name, ())), self.benchmark)

    def where(self) -> str:
        """Return where the rows come from, for --list_tasks: the first source, or the parts."""
        return self.sources[0].id if self.sources else " + ".join(self.parts)

    def notes(self, data: Dataset) -> list[str]:
        """Return remarks on these source rows that a reader of the scores needs; results.json has them too."""
        named = {column: class_names(feature) for column, feature in data.features.items()}
        return [
            f"column {column!r}: labels were mapped by the file's own names, whose order differs from ours: "
            f"{', '.join(names)}"
            for column, names in named.items()
            if names and not same_numbers(self.label_names, names)
        ]

    def mended(self, data: Dataset, examples: Dataset) -> list[str]:
        """Return what `examples` corrected in these source rows, and how often; results.json keeps it."""
        return []

    def prepare(self, rows: Rows) -> None:
        """Read what the head needs, such as the labels. Most tasks need nothing."""

    def load(self, split: str, language: str, rows: Rows) -> Any:
        """Return the examples of `read`."""
        return self.read(split, language, rows).examples

    def read(self, split: str, language: str, rows: Rows) -> Loaded:
        """Return the examples of one split and language, in the form's columns, and their provenance.

        Raises:
            UserError: the rows are missing, or a row is invalid; names file, row and column.
        """
        from tasks import get_task

        if self.parts:
            several = [get_task(part).read(split, language, rows) for part in self.parts]
            # with a fixed seed, so that the first n examples have a fair share of every part
            examples = join([loaded.examples for loaded in several], self.optional).shuffle(seed=0)
            return Loaded(examples, tuple(read for loaded in several for read in loaded.reads))
        if self.train_from and split != "test" and not rows.expression(self.name, split, ""):
            return get_task(self.train_from[-1], self.benchmark).read(split, language, rows)
        (source, config, expression), use = self.locate(split, language, rows), Use(self.name, split, language)
        try:
            found = [self._part(source, config, part, use, rows) for part in expression.split("+")]
        except MissingRows as error:
            raise UserError(f"{error}{folders.advice(self, split, language, rows)}") from error
        parts = [examples for _, examples in found if examples is not None]
        loaded = Loaded(None, tuple(read for read, _ in found), tuple(len(data or ()) for _, data in found))
        if not parts:
            raise UserError(f"{loaded.where}: no row in language {language!r}.")
        with reading(self.name, loaded.where):
            loaded = replace(loaded, examples=join(parts, self.optional))
            if self.unique_ids and len(parts) > 1:  # `examples` checks one part alone
                check_ids(loaded.examples["id"][:], loaded.where)
        for column in self.optional:
            if len({column in part.column_names for part in parts}) > 1:
                loaded.note(f"column {column!r} is not read: not every part of {expression} has it")
        return loaded

    def _part(self, source: Source, config: str, part: str, use: Use, rows: Rows) -> tuple[Read, Dataset | None]:
        """Return (one of the source splits that `+` joins, its examples; None if it has no row in the language)."""
        language, columns = use.language, source.columns or self.columns
        url = source.files.get(part, "").format(revision=source.revision, language=source.code(language))
        read = rows.read(source.id, config, part, source.revision, columns, url, self.optional, use)
        data, where = read.data, read.where
        for note in self.notes(data):
            read.note(note)
        with reading(self.name, where):
            if source.shape:
                data = source.shape(data, language)
                if not len(data):
                    read.note(f"no row in language {language!r}")
                    return read, None
                where += f" [rows in {language}]" if len(data) < len(read.data) else ""  # errors count only these
            examples = self.examples(data, language, where)
            for note in self.mended(data, examples):
                read.note(note)
        if len(examples) < len(data):
            read.note(f"{len(data) - len(examples)} rows without gold dropped")
        return read, examples

    def gold_values(self, examples: Examples) -> list:
        """Return gold labels that would be placeholders if all were equal; [] for forms where they may be equal."""
        return []

    def shared_query(self, query_id: str, language: str) -> str:
        """Return the id of a query that is the same in all languages, for a `parallel` task."""
        return query_id

    def ids(self, examples: Dataset) -> list[str] | None:
        """Return the ids that align examples across languages; None: parallel rows align by their number."""
        return None

    def shuffle_labels(self, examples: Dataset, rng: np.random.Generator) -> Dataset:
        """Return the examples with their labels permuted: the same counts, but unrelated to the text.

        Raises:
            UserError: the task's labels cannot be shuffled.
        """
        if (labels := self.shared_labels(examples)) is None:
            raise UserError(f"{self.name}: its labels cannot be shuffled.")
        return replace_columns(examples, label=rng.permutation(labels).tolist())

    def shared_labels(self, examples: Dataset) -> list | None:
        """Return the labels, which a translation keeps; None if the gold is part of the text."""
        return examples["label"][:] if "label" in examples.column_names else None

    @property
    def text_columns(self) -> tuple[str, ...]:
        """The columns to translate."""
        return tuple(column for columns in self.fields for column in columns)

    def places(self, row: dict) -> dict[str, tuple[int, int]]:
        """Return {column: (start, end)}, the characters of an example that a translation must mark, such as an
        answer."""
        return {}

    def replaced(self, row: dict, places: dict[str, list[tuple[int, str]]]) -> dict:
        """Return a translated example with its `places` updated.

        Args:
            row: the translated example.
            places: {column: [(start, text)]} in the translation, [] for an example without any.
        """
        return row

    def to_texts(self, examples: Dataset) -> Dataset:
        """Return the texts for code-switching. A column's name begins with its field, "first" or "second".

        Raises:
            UserError: the words of the task's texts cannot be replaced.
        """
        raise UserError(f"{self.name}: words of its texts cannot be replaced.")

    def from_texts(self, examples: Dataset, texts: Dataset) -> Dataset:
        """Return the examples with these texts, in the columns of `to_texts`, instead of their own."""
        raise NotImplementedError

    def locate(self, split: str, language: str, rows: Rows) -> tuple[Source, str, str]:
        """Return the source, config and split expression of a split; the first source that has it.

        Raises:
            UserError: the task has no such split, or no source has the language.
        """
        named = [
            (s, s.config_of(language), rows.expression(self.name, split, s.splits.get(split, "")))
            for s in self.sources
        ]
        named = [n for n in named if n[2]]
        if not named:
            have = ", ".join(dict.fromkeys(own for source in self.sources for own in source.splits))
            raise UserError(f"{self.name} has no {split} split." + (f" Its rows have {have}." if have else ""))
        able = [n for n in named if n[0].serves(language, rows.local)]
        if not able:
            raise UserError(
                f"{self.name}: {named[0][0].id} has no {codes.ud_name(language)} ({language}). Give --data_root a "
                f"folder with {rows.folder(named[0][0].id).name}/{named[0][1]}, or name the --languages you want."
            )
        return next((n for n in able if rows.has(n[0].id, n[1], n[2])), able[0])

    def origins(self, split: str, language: str, rows: Rows) -> list[tuple[str, str, str]]:
        """Return (Hub id, config, source split) of what `read` loads, in order; nothing is read.

        Raises:
            UserError: as for `locate`.
        """
        from tasks import get_task

        if self.parts:
            return [origin for part in self.parts for origin in get_task(part).origins(split, language, rows)]
        if self.train_from and split != "test" and not rows.expression(self.name, split, ""):
            return get_task(self.train_from[-1], self.benchmark).origins(split, language, rows)
        source, config, expression = self.locate(split, language, rows)
        return [
            (source.id, config, base + cut) for part in expression.split("+") for base, cut in alternatives(part)[:1]
        ]

    def examples(self, data: Dataset, language: str, where: str) -> Dataset:
        """Convert source rows to the form's columns. Implemented by form and adapter."""
        raise NotImplementedError

    def to_rows(self, examples: Dataset) -> Dataset:
        """Convert examples back to the source's columns, without columns that `examples` dropped."""
        return examples

    # ---- model side ----------------------------------------------------------------------------------------------

    @property
    def label_names(self) -> tuple[str, ...]:
        """The labels as rows spell them, in the order of their numbers."""
        return self.labels

    @property
    def num_labels(self) -> int:
        """The number of the head's outputs."""
        return len(self.labels)

    def featurize(
        self,
        batch: dict[str, list],
        indices: list[int],
        tokenizer: PreTrainedTokenizerFast,
        max_length: int,
        train: bool,
    ) -> dict:
        """Return columns of features, for `Dataset.map(batched=True, with_indices=True)`.

        Every feature has `example`, the index of its example, and with `train` also `labels`. A long example becomes
        several features (windows).
        """
        raise NotImplementedError

    def lengths(self, input_ids: list) -> list[int]:
        """Return the number of tokens of each feature, for batches of similar length."""
        return list(map(len, input_ids))

    def collator(self, tokenizer: PreTrainedTokenizerFast) -> Collator:
        """Return a function that pads a list of features into a batch."""
        raise NotImplementedError

    def decode(self, logits: Any, features: Dataset, examples: Dataset) -> list:
        """Return one prediction per example, in the examples' order.

        The `logits` of the features are an array, or a tuple of arrays (start and end of a span).
        """
        raise NotImplementedError

    def gold(self, examples: Examples) -> list:
        """Return the right predictions, for which `score` gives 100."""
        raise NotImplementedError

    def score(self, predictions: list, examples: Examples, language: str) -> dict[str, float]:
        """Return the benchmark's metrics, 0-100. Raise UserError if the gold is a placeholder."""
        raise NotImplementedError

    @property
    def dev_metrics(self) -> tuple[str, ...]:
        """What `score` returns of English dev, the main metric first."""
        return (self.metric,)

    def main_score(self, predictions: list, examples: Examples, language: str) -> float:
        """Return the value of the task's main metric."""
        return self.score(predictions, examples, language)[self.metric]

    def constant(self, examples: Examples) -> list:
        """Return the best prediction that ignores the input, the most frequent answer, for the chance level."""
        gold = [repr(g) for g in self.gold(examples)]
        common = max(sorted(set(gold)), key=gold.count)
        return [self.gold(examples)[gold.index(common)]] * len(gold)

    def chance(self, examples: Examples, language: str = "en") -> dict[str, float]:
        """Return the scores of the best constant prediction, {metric: 0-100}."""
        return self.score(self.constant(examples), examples, language)

    def at_chance(self, scores: Mapping[str, float], chance: Mapping[str, float], n: int) -> list[str]:
        """Return the metrics that do not clear chance. One is enough to doubt a training: a tagger below the most
        frequent tag may still beat that tag's F1 of 0."""
        return [metric for metric, level in chance.items() if not clears(scores[metric], level, n)]

    # ---- files of predictions --------------------------------------------------------------------------------------

    @property
    def official_metrics(self) -> tuple[str, ...]:
        """The metrics whose mean is the benchmark's score of the task. Tables by language show the last one."""
        return (self.metric,)

    def predictions_file(self, language: str) -> str:
        """Return the path of this language's predictions in an XTREME submission folder."""
        return f"{self.name}/test-{language}.tsv"

    def lines(self, predictions: list, examples: Examples) -> list[str]:
        """Return the lines of a file of predictions."""
        raise NotImplementedError

    def gold_lines(self, examples: Examples) -> list[str]:
        """Return the lines of a file of labels: by default those of perfect predictions."""
        return self.lines(self.gold(examples), examples)

    def read_lines(self, path: Path) -> Any:
        """Read a file of `lines`: an entry per example or, in mining, per pair found.

        Raises:
            UserError: a line is invalid; names the file and the line.
        """
        raise NotImplementedError

    def compare(self, files: Submitted) -> Scorer:
        """Read and check predictions and labels; return a function that scores them as the benchmark does, 0-100.

        Raises:
            UserError: a file is invalid or empty, or the two do not match; names the file and the line.
        """
        raise NotImplementedError

    def sides(self, examples: Examples) -> tuple[list[str], list[str]]:
        """Return (queries, candidates), for a form that compares vectors."""
        raise NotImplementedError
