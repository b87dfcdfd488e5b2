"""The contract every task adapter keeps. Nothing here knows how a model is trained."""

from __future__ import annotations

import inspect
import math
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from tasks import languages as codes
from tasks.checks import same_numbers
from tasks.errors import RowError, UserError, one_line
from tasks.files import class_names
from tasks.rows import Loaded, Rows

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from datasets import Dataset
    from transformers import PreTrainedTokenizerFast

    from tasks.submitted import Scorer, Submitted


# What a form makes of the rows: a Dataset in the form's columns, or, where pools are searched, `Pools` or `Pool`.
Examples = Any
Collator = Callable[[list[dict[str, Any]]], Mapping[str, Any]]  # features -> a padded batch of tensors

XTREME_REVISION = "ec5f1f46e9af79639a90684a7a70a956c4998f04"  # google/xtreme in parquet, which many tasks read from


@dataclass(frozen=True)
class Source:
    """One place a task's rows lie: a Hub id at a revision, and how its configs and splits are named.

    Attributes:
        config: may hold ``{language}`` (twice, if the source writes it twice), filled with `code(language)`.
        splits: train/dev/test -> the source's name, or several joined by ``+`` whose rows are taken together.
        revision: a commit of the Hub repository; None: `main`, whose commit is looked up and recorded.
        columns: what its rows must have, where that is not the task's `columns`; or a function that picks them from
            all names.
        shape: (rows, language) -> the rows of that language in the task's columns, where they are not so already.
        inside: rows -> the language codes in them, for a config that holds several languages.
        only: the languages the Hub has here (empty: all of the task's); a folder may hold others.
        files: split -> URL, ``{revision}`` and ``{language}`` filled in, where the id cannot be loaded from the Hub.
    """

    id: str
    config: str
    splits: Mapping[str, str]
    revision: str | None = None
    code: Callable[[str], str] = staticmethod(lambda language: language)
    columns: tuple[str, ...] | Callable[[list[str]], tuple[str, ...]] = ()
    shape: Callable[[Dataset, str], Dataset] | None = None
    inside: Callable[[Dataset], Iterable[str]] | None = None
    only: tuple[str, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)

    def config_of(self, language: str) -> str:
        return self.config.replace("{language}", self.code(language))

    def serves(self, language: str, local: bool) -> bool:
        """Whether rows of a language may be looked for here: a config that names no language is English."""
        if "{language}" not in self.config and not self.inside:
            return language == "en"
        return local or not self.only or language in self.only

    def language_of(self, config: str) -> str | None:
        """The language a present config stands for, or None if it is none of this source's configs."""
        first, *rest = map(re.escape, self.config.split("{language}"))
        match = re.fullmatch(first + "(.+)" + r"\1".join(rest), config) if rest else None
        try:
            language = codes.normalize(match[1]) if match else None
        except UserError:
            return None
        return language if language and self.config_of(language) == config else None


class Task:
    """One data set in one task form; stateless and cheap to build.

    A subclass states where rows lie and which columns mean what. Its form gives features, decoding, score, and the
    files of predictions; nothing outside this package asks for a form by its name. Scores are 0-100.
    """

    name: ClassVar[str]
    form: ClassVar[str]
    sources: tuple[Source, ...]
    metric: ClassVar[str]
    columns: ClassVar[tuple[str, ...]]  # what the source must have
    optional: ClassVar[tuple[str, ...]] = ()  # columns that are read if the source has them; all others are ignored
    auto_class: ClassVar[str] = ""  # the transformers Auto class with this form's head; "" = nothing to train
    pipeline_tag: ClassVar[str] = "sentence-similarity"  # what the Hub calls the form
    # whether it is masked language modelling: text of any language, and the checkpoint's own head
    masks: ClassVar[bool] = False
    # whether it finds pairs, any number of them, in two pools that are never cut, of dev and of test
    mines: ClassVar[bool] = False
    ranks: ClassVar[bool] = False  # whether the candidates are one pool for the queries of all languages
    chooses_layer: ClassVar[bool] = False  # whether a layer may be chosen by its scores (--select_on)
    # the arguments of run_retrieval.py that its measurement uses, of those some do
    search_options: ClassVar[tuple[str, ...]] = ()
    labels: tuple[str, ...] = ()  # names in the order of the head's outputs
    train_from: ClassVar[tuple[str, ...]] = ()  # the tasks whose English rows train this one, one after the other
    parts: ClassVar[tuple[str, ...]] = ()  # the tasks whose rows, taken together, are this one's
    # columns of an example that are in one language together, first field first
    fields: ClassVar[tuple[tuple[str, ...], ...]] = ()
    # Hub ids whose rows hold sentences of this test: not to be trained on
    same_sentences: ClassVar[tuple[str, ...]] = ()
    parallel: ClassVar[bool] = False  # whether the test asks the same in every language, query by query
    # train rows not in English: "parallel" (the same rows), "native" (others), "" (none)
    other_languages: ClassVar[str] = ""
    languages_in: ClassVar[str] = ""  # the name this task has in tasks.languages ("" = English only)
    select: ClassVar[str] = "best"  # which checkpoint is kept: "best" on English dev, or the "last" (QA, protocol 3.2)
    dev_in_test: ClassVar[str] = ""  # how English dev and test overlap, where they do: then dev is no blind choice
    train_rows: ClassVar[int | None] = None  # on the Hub (docs/datasets); None = nothing to train on
    defaults: ClassVar[dict[str, Any]] = {}

    def __init__(self, benchmark: str = "xtreme"):
        self.benchmark = benchmark  # which languages the Hub is asked for: xtreme or xtreme-r

    # ---- rows ----------------------------------------------------------------------------------------------------

    def languages(self, rows: Rows) -> list[str]:
        """The languages of the test split: the benchmark's for the Hub, those present for a folder."""
        if not rows.local:
            return list(codes.languages(self.languages_in, self._benchmark())) if self.languages_in else ["en"]
        found = {}
        for source in self.sources:
            expression = rows.expression(self.name, "test", source.splits.get("test", ""))
            for config in rows.configs(source.id):
                language = (
                    source.language_of(config) if "{language}" in source.config else source.config == config and "en"
                )
                if language and not source.inside and expression and rows.has(source.id, config, expression):
                    found[language] = True
            # a file of several languages has to be read to know them, and only if no other source says
            if not found and source.inside and expression and rows.has(source.id, source.config, expression):
                seen = rows.peek(source.id, source.config, expression, source.revision, source.columns or self.columns)
                with self.reading(seen.where):
                    found = dict.fromkeys(map(codes.normalize, source.inside(seen.data)), True)
        if not any(rows.expression(self.name, "test", source.splits.get("test", "")) for source in self.sources):
            raise UserError(
                f"{self.name}: no test rows: it is an intermediate task, scored on its English dev split "
                f"(--splits {self.name}.test=... makes another split the test)."
            )
        if not found:
            looked = ", ".join(dict.fromkeys(str(rows.folder(source.id)) for source in self.sources))
            raise UserError(f"{self.name}: no test rows below {rows.root} (looked in {looked}).")
        return sorted(found, key=lambda code: (code != "en", code))

    def available(self, rows: Rows) -> list[str]:
        """The languages that may be asked for by name: those of `languages`, unless a source is known to have more."""
        return self.languages(rows)

    def _benchmark(self) -> str:
        """The benchmark whose languages are meant: the one asked for, if it has the task, else the one that has."""
        names = [self.benchmark, *codes.BENCHMARKS]
        return next((name for name in names if self.languages_in in codes.BENCHMARKS.get(name, ())), self.benchmark)

    def where(self) -> str:
        """Where the rows come from, for lists: the first source, or the parts."""
        return self.sources[0].id if self.sources else " + ".join(self.parts)

    def notes(self, data: Dataset) -> list[str]:
        """What a reader of a score on these source rows has to know; kept with the data in results.json."""
        named = {column: class_names(feature) for column, feature in data.features.items()}
        return [
            f"column {column!r}: labels were mapped by the file's own names, whose order differs from ours: "
            f"{', '.join(names)}"
            for column, names in named.items()
            if names and not same_numbers(self.label_names, names)
        ]

    def mended(self, data: Dataset, examples: Dataset) -> list[str]:
        """What `examples` had to mend in these source rows, and how often; kept with the data in results.json."""
        return []

    def prepare(self, rows: Rows) -> None:
        """What has to be known before a head is made; for most tasks nothing."""

    def load(self, split: str, language: str, rows: Rows) -> Any:
        """The examples of `read`."""
        return self.read(split, language, rows).examples

    def read(self, split: str, language: str, rows: Rows) -> Loaded:
        """The examples of one split and language, in the form's columns, with `id`, and where they came from.

        Raises:
            UserError: the rows are absent, or one of them is not what the form needs (file, row and column are named).
        """
        from tasks import get_task

        if self.parts:
            parts = [get_task(part).read(split, language, rows) for part in self.parts]
            # shuffled once and for all, so that the first n examples are a fair share of every part
            examples = join([part.examples for part in parts]).shuffle(seed=0)
            return Loaded(examples, tuple(read for part in parts for read in part.reads))
        if self.train_from and split != "test" and not rows.expression(self.name, split, ""):
            return get_task(self.train_from[-1], self.benchmark).read(split, language, rows)
        source, config, expression = self.locate(split, language, rows)
        loaded, reads = [], []
        for part in expression.split("+"):
            url = source.files.get(part, "").format(revision=source.revision, language=source.code(language))
            read = rows.read(
                source.id, config, part, source.revision, source.columns or self.columns, url, self.optional
            )
            reads.append(read)
            data, where, size = read.data, read.where, len(read.data)
            for note in self.notes(data):
                read.note(note)
            with self.reading(where):
                if source.shape:
                    data = source.shape(data, language)
                    if not len(data):
                        raise UserError(f"{where}: no row in language {language!r}.")
                    where += f" [rows in {language}]" if len(data) < size else ""  # errors count these rows alone
                    size = len(data)
                loaded.append(self.examples(data, language, where))
                for note in self.mended(data, loaded[-1]):
                    read.note(note)
            if len(loaded[-1]) < size:
                read.note(f"{size - len(loaded[-1])} rows without gold dropped")
        return Loaded(join(loaded), tuple(reads))

    @contextmanager
    def reading(self, where: str) -> Iterator[None]:
        """Makes one line of what goes wrong in a row: a null in a list, another type. The error itself is its
        cause."""
        try:
            yield
        except UserError:
            raise
        except RowError as error:
            raise UserError(f"{where}, {error}") from error
        except (TypeError, ValueError, LookupError, AttributeError, OverflowError) as error:
            raise UserError(f"{where}: a row is not as {self.name} has them ({one_line(error)}).") from error

    def gold_values(self, examples: Examples) -> list:
        """Gold labels that are placeholders if they are all equal; [] for forms where they may be equal."""
        return []

    def shared_query(self, query_id: str, language: str) -> str:
        """What a query is called in all languages alike, of a task that is `parallel`."""
        return query_id

    def ids(self, examples: Dataset) -> list[str] | None:
        """What names each example in all languages; None: nothing does, and parallel rows go by their number."""
        return None

    def shuffle_labels(self, examples: Dataset, rng: np.random.Generator) -> Dataset:
        """The examples with their labels dealt out anew at random: as many of each, and nothing to be learnt from the
        text."""
        if (labels := self.shared_labels(examples)) is None:
            raise UserError(f"{self.name}: its labels cannot be shuffled.")
        return replace_columns(examples, label=rng.permutation(labels).tolist())

    def shared_labels(self, examples: Dataset) -> list | None:
        """The labels, which translated examples must have too; None where the gold lies in the text."""
        return examples["label"][:] if "label" in examples.column_names else None

    @property
    def text_columns(self) -> tuple[str, ...]:
        """The columns of an example that are translated."""
        return tuple(column for columns in self.fields for column in columns)

    def places(self, row: dict) -> dict[str, tuple[int, int]]:
        """{column: (start, end)} of the characters of an example's texts that a translation must keep together and
        find again."""
        return {}

    def replaced(self, row: dict, places: dict[str, list[tuple[int, str]]]) -> dict:
        """The translated example, with what its `places` became: {column: [(start, text)], empty where it has
        none}."""
        return row

    def to_texts(self, examples: Dataset) -> Dataset:
        """The examples' texts, whose words may be replaced: columns that begin with the field they are in, first or
        second."""
        raise UserError(f"{self.name}: words of its texts cannot be replaced.")

    def from_texts(self, examples: Dataset, texts: Dataset) -> Dataset:
        """The examples with these texts (of `to_texts`) in place of their own."""
        raise NotImplementedError

    def locate(self, split: str, language: str, rows: Rows) -> tuple[Source, str, str]:
        """The source, config and split expression that hold a split; of several sources the first present."""
        named = [
            (s, s.config_of(language), rows.expression(self.name, split, s.splits.get(split, "")))
            for s in self.sources
        ]
        named = [n for n in named if n[2]]
        if not named:
            raise UserError(f"{self.name} has no {split} split. Its source has {', '.join(self.sources[0].splits)}.")
        able = [n for n in named if n[0].serves(language, rows.local)]
        if not able:
            raise UserError(
                f"{self.name}: {named[0][0].id} has no {codes.ud_name(language)} ({language}). Give --data_root a "
                f"folder with {rows.folder(named[0][0].id).name}/{named[0][1]}, or name the --languages you want."
            )
        return next((n for n in able if rows.has(n[0].id, n[1], n[2])), able[0])

    def examples(self, data: Dataset, language: str, where: str) -> Dataset:
        """Source rows -> the form's columns. Implemented by form and adapter."""
        raise NotImplementedError

    def to_rows(self, examples: Dataset) -> Dataset:
        """The examples in the source's columns again, as far as `examples` kept them."""
        return examples

    # ---- model side ----------------------------------------------------------------------------------------------

    @property
    def label_names(self) -> tuple[str, ...]:
        """What the labels are called in rows, in the order of their numbers."""
        return self.labels

    @property
    def num_labels(self) -> int:
        return len(self.labels)

    def featurize(
        self,
        batch: dict[str, list],
        indices: list[int],
        tokenizer: PreTrainedTokenizerFast,
        max_length: int,
        train: bool,
    ) -> dict:
        """Columns of features for `Dataset.map(batched=True, with_indices=True)`.

        Every feature carries `example`, the index of its example; with `train` also `labels`. One example may give
        several features (windows); none is ever cut without a trace.
        """
        raise NotImplementedError

    def lengths(self, input_ids: list) -> list[int]:
        """Tokens of each feature, by which batches are made."""
        return list(map(len, input_ids))

    def collator(self, tokenizer: PreTrainedTokenizerFast) -> Collator:
        """Pads a list of features into a batch."""
        raise NotImplementedError

    def decode(self, logits: Any, features: Dataset, examples: Dataset) -> list:
        """One prediction an example, in the examples' order, from the logits of the features."""
        raise NotImplementedError

    def gold(self, examples: Examples) -> list:
        """Predictions that are right: what `score` gives 100 for."""
        raise NotImplementedError

    def score(self, predictions: list, examples: Examples, language: str) -> dict[str, float]:
        """The benchmark's figures, 0-100. Raises UserError on placeholder gold."""
        raise NotImplementedError

    def main_score(self, predictions: list, examples: Examples, language: str) -> float:
        """The figure of `score` that is the task's metric."""
        return self.score(predictions, examples, language)[self.metric]

    def constant(self, examples: Examples) -> list:
        """The best prediction that does not look at the input (the most frequent answer): what chance means here."""
        gold = [repr(g) for g in self.gold(examples)]
        common = max(sorted(set(gold)), key=gold.count)
        return [self.gold(examples)[gold.index(common)]] * len(gold)

    def chance(self, examples: Examples, language: str = "en") -> dict[str, float]:
        """The score of the best constant prediction, per metric."""
        return self.score(self.constant(examples), examples, language)

    def at_chance(self, score: float, chance: float, n: int) -> bool:
        """Whether a score is within two standard errors (of a proportion over n examples) of the constant's."""
        p = min(max(chance / 100, 0.0), 1.0)
        return score <= chance + 200 * math.sqrt(p * (1 - p) / n)

    # ---- files of predictions --------------------------------------------------------------------------------------

    @property
    def official_metrics(self) -> tuple[str, ...]:
        """The figures whose mean is the benchmark's score of the task; the last one is shown by language."""
        return (self.metric,)

    def predictions_file(self, language: str) -> str:
        """Where XTREME's scorer looks for this language's predictions, below the submission folder."""
        return f"{self.name}/test-{language}.tsv"

    def lines(self, predictions: list, examples: Examples) -> list[str]:
        """The lines of a file of predictions."""
        raise NotImplementedError

    def gold_lines(self, examples: Examples) -> list[str]:
        """The lines of the labels in the same layout: those of a perfect submission, where the form has no fuller
        file."""
        return self.lines(self.gold(examples), examples)

    def read_lines(self, path: Path) -> Any:
        """What a file of `lines` holds: an entry for each example or, where the task mines, for each pair found.

        Raises:
            UserError: naming the file and the line, where it does not hold what the form should.
        """
        raise NotImplementedError

    def compare(self, files: Submitted) -> Scorer:
        """Read and check predictions and labels; return the function that then scores them as the benchmark does,
        0-100.

        Raises:
            UserError: naming the file and the line, where one is broken, empty, or does not belong to the other.
        """
        raise NotImplementedError

    def sides(self, examples: Examples) -> tuple[list[str], list[str]]:
        """The texts that ask and those that are searched, of a form whose vectors are compared."""
        raise NotImplementedError


def join(data: list[Dataset]) -> Dataset:
    """Several sets of examples of one form as one, in the first one's column types (sources differ in integer
    widths)."""
    from datasets import concatenate_datasets

    types = data[0].features
    return (
        concatenate_datasets([part if part.features == types else part.cast(types) for part in data])
        if len(data) > 1
        else data[0]
    )


def replace_columns(data: Dataset, **columns: list) -> Dataset:
    """The rows with other values in these columns, which keep their types."""
    from datasets import Dataset, Features, concatenate_datasets

    new = Dataset.from_dict(columns, features=Features({name: data.features[name] for name in columns}))
    return concatenate_datasets([data.remove_columns(list(columns)), new], axis=1)


def fingerprint(task: Task, data: Dataset, *more: Any) -> str:
    """The cache key of something made of `data` by the task's code: another row, source line or setting, another key.

    datasets hashes a method by its name alone, so that features would outlive the code that made them.
    """
    from datasets.fingerprint import Hasher

    code = [inspect.getsource(sys.modules[cls.__module__]) for cls in type(task).__mro__ if cls is not object]
    return Hasher.hash((data._fingerprint, type(task).__qualname__, code, more))
