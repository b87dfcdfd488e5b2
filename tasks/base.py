"""The contract every task adapter keeps. Nothing here knows how a model is trained."""

from __future__ import annotations

import inspect
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from tasks import languages as codes
from tasks.errors import UserError
from tasks.rows import Rows

if TYPE_CHECKING:
    import numpy as np
    from datasets import Dataset


@dataclass(frozen=True)
class Source:
    """One place a task's rows lie: a Hub id at a revision, and how its configs and splits are named.

    `config` may hold ``{language}``, filled with `code(language)`; `splits` maps train/dev/test to the source's names.
    """

    id: str
    config: str
    splits: Mapping[str, str]
    revision: str | None = None
    code: Any = staticmethod(lambda language: language)

    def config_of(self, language: str) -> str:
        return self.config.replace("{language}", self.code(language))

    def language_of(self, config: str) -> str | None:
        """The language a present config stands for, or None if it is none of this source's configs."""
        before, _, after = self.config.partition("{language}")
        if not (config.startswith(before) and config.endswith(after)):
            return None
        code = config[len(before) : len(config) - len(after)]
        try:
            language = codes.normalize(code)
        except UserError:
            return None
        return language if self.config_of(language) == config else None


class Task:
    """One data set in one task form; stateless and cheap to build.

    A subclass states where rows lie and which columns mean what; its form (sentence_pair, span,
    multiple_choice, tagging) gives features, decoding and score. Scores are 0-100.
    """

    name: ClassVar[str]
    form: ClassVar[str]
    sources: ClassVar[tuple[Source, ...]]
    metric: ClassVar[str]
    columns: ClassVar[tuple[str, ...]]  # what the source must have
    auto_class: ClassVar[str] = ""  # the transformers Auto class with this form's head; "" = nothing to train
    labels: ClassVar[tuple[str, ...]] = ()  # names in the order of the head's outputs
    train_from: ClassVar[str | None] = None  # the task whose English rows train this one (xquad: squad)
    languages_in: ClassVar[str] = ""  # the name this task has in tasks.languages ("" = English only)
    select: ClassVar[str] = "best"  # which checkpoint is kept: "best" on English dev, or the "last" (QA, protocol 3.2)
    train_rows: ClassVar[int | None] = None  # on the Hub (docs/datasets); None = nothing to train on
    defaults: ClassVar[dict[str, Any]] = {}

    def __init__(self, benchmark: str = "xtreme"):
        self.benchmark = benchmark  # which languages the Hub is asked for: xtreme or xtreme-r

    # ---- rows ----------------------------------------------------------------------------------------------------

    def languages(self, rows: Rows) -> list[str]:
        """The languages of the test split: the benchmark's for the Hub, those present for a folder."""
        if not rows.local:
            return list(codes.languages(self.languages_in, self.benchmark)) if self.languages_in else ["en"]
        found = {}
        for source in self.sources:
            for config in rows.configs(source.id):
                language = source.language_of(config) if "{language}" in source.config else "en"
                expression = rows.expression(self.name, "test", source.splits.get("test", ""))
                if language and expression and rows.has(source.id, config, expression):
                    found[language] = True
        if not found:
            raise UserError(f"{self.name}: no test rows below {rows.root} (looked in "
                            f"{', '.join(str(rows.folder(s.id)) for s in self.sources)}).")
        return sorted(found, key=lambda code: (code != "en", code))

    def load(self, split: str, language: str, rows: Rows) -> Dataset:
        """The examples of one split and language, in the form's columns, with `id`.

        Raises:
            UserError: the rows are absent, or one of them is not what the form needs (file, row and column are named).
        """
        if self.train_from and split != "test":
            from tasks import get_task

            return get_task(self.train_from, self.benchmark).load(split, language, rows)
        source, config, expression = self.locate(split, language, rows)
        data = rows.read(source.id, config, expression, source.revision, self.columns)
        return self.examples(data, language, rows.where())

    def locate(self, split: str, language: str, rows: Rows) -> tuple[Source, str, str]:
        """The source, config and split expression that hold a split; of several sources the first present."""
        named = [(s, s.config_of(language), rows.expression(self.name, split, s.splits.get(split, "")))
                 for s in self.sources]
        named = [n for n in named if n[2]]
        if not named:
            raise UserError(f"{self.name} has no {split} split. Its source has {', '.join(self.sources[0].splits)}.")
        if not rows.local:
            return named[0]
        return next((n for n in named if rows.has(n[0].id, n[1], n[2])), named[0])

    def examples(self, data: Dataset, language: str, where: str) -> Dataset:
        """Source rows -> the form's columns. Implemented by form and adapter."""
        raise NotImplementedError

    # ---- model side ----------------------------------------------------------------------------------------------

    @property
    def num_labels(self) -> int:
        return len(self.labels)

    def featurize(self, batch: dict[str, list], indices: list[int], tokenizer, max_length: int, train: bool) -> dict:
        """Columns of features for `Dataset.map(batched=True, with_indices=True)`.

        Every feature carries `example`, the index of its example; with `train` also `labels`. One example may give
        several features (windows); none is ever cut without a trace.
        """
        raise NotImplementedError

    def collator(self, tokenizer):
        """Pads a list of features into a batch."""
        raise NotImplementedError

    def decode(self, logits: np.ndarray, features: Dataset, examples: Dataset) -> list:
        """One prediction an example, in the examples' order, from the logits of the features."""
        raise NotImplementedError

    def gold(self, examples: Dataset) -> list:
        """Predictions that are right: what `score` gives 100 for."""
        raise NotImplementedError

    def score(self, predictions: list, examples: Dataset, language: str) -> dict[str, float]:
        """The benchmark's figures, 0-100. Raises UserError on placeholder gold."""
        raise NotImplementedError

    def constant(self, examples: Dataset) -> list:
        """The best prediction that does not look at the input (the most frequent answer): what chance means here."""
        gold = [repr(g) for g in self.gold(examples)]
        common = max(sorted(set(gold)), key=gold.count)
        return [self.gold(examples)[gold.index(common)]] * len(gold)

    def chance(self, examples: Dataset, language: str = "en") -> dict[str, float]:
        """The score of the best constant prediction, per metric."""
        return self.score(self.constant(examples), examples, language)

    def at_chance(self, score: float, chance: float, n: int) -> bool:
        """Whether a score is within two standard errors (of a proportion over n examples) of the constant's."""
        p = min(max(chance / 100, 0.0), 1.0)
        return score <= chance + 200 * math.sqrt(p * (1 - p) / n)

    def predictions_file(self, language: str) -> str:
        """Where XTREME's scorer looks for this language's predictions, below the submission folder."""
        return f"{self.name}/test-{language}.tsv"


def fingerprint(task: Task, data: Dataset, *more: Any) -> str:
    """The cache key of something made of `data` by the task's code: another row, source line or setting, another key.

    datasets hashes a method by its name alone, so that features would outlive the code that made them.
    """
    from datasets.fingerprint import Hasher

    code = [inspect.getsource(sys.modules[cls.__module__]) for cls in type(task).__mro__ if cls is not object]
    return Hasher.hash((data._fingerprint, type(task).__qualname__, code, more))


def check_labels(values: list, names: tuple[str, ...], where: str, column: str = "label") -> list[int]:
    """Label values (index, digit string or name; -1 stays) -> indices.

    Raises:
        UserError: a value is none of these; names the row (from 1).
    """
    table: dict[Any, int] = {-1: -1, "-1": -1}
    for i, name in enumerate(names):
        table |= {i: i, str(i): i, name: i}
    try:
        return [table[v] for v in values]
    except (KeyError, TypeError):
        row, value = next((r, v) for r, v in enumerate(values, 1) if not isinstance(v, str | int) or v not in table)
        raise UserError(f"{where}, row {row}, column {column!r}: {value!r} is no label; expected one of "
                        f"{', '.join(names)} (or 0..{len(names) - 1}).") from None


def check_text(data: Dataset, columns: tuple[str, ...], where: str) -> None:
    """Refuses a null where text must stand."""
    for column in columns:
        if data.data.column(column).null_count:
            row = data[column][:].index(None) + 1
            raise UserError(f"{where}, row {row}, column {column!r}: empty (null), expected text.")
