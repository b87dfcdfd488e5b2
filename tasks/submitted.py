"""Read files of predictions and labels in XTREME's layout, for the forms' `read_lines` and `compare`."""

from __future__ import annotations

import contextlib
import io
import json
import re
import reprlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.base import Task
from tasks.errors import UserError
from tasks.reading import open_file, parse_json

if TYPE_CHECKING:
    import numpy as np
    from datasets import Dataset

Scorer = Callable[[], dict[str, float]]  # {metric: 0-100}


# ---- one file -------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def open_text(path: Path) -> Iterator[io.TextIOWrapper]:
    """Open a file of UTF-8 text, with or without a byte order mark. Raise UserError if it cannot be read."""
    try:
        with io.TextIOWrapper(open_file(path), encoding="utf-8-sig") as file:
            yield file
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: byte {error.start} is not UTF-8. Write the file as UTF-8 text.") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}.") from error


def read_stripped(path: Path) -> list[str]:
    """Return the stripped lines, split only at line ends as in the benchmark, not at other Unicode breaks."""
    with open_text(path) as file:
        return [line.strip() for line in file]


def read_matches(path: Path, pattern: str, advice: str) -> list[str]:
    """Return the stripped lines. Raise UserError with `advice` if a line does not match the whole pattern."""
    lines = read_stripped(path)
    for row, line in enumerate(lines, 1):
        if not re.fullmatch(pattern, line):
            raise UserError(f"{path}: line {row} is {reprlib.repr(line)}. {advice}")
    return lines


def class_number(line: str, classes: Sequence[str], path: Path, row: int) -> int:
    """Return the index of a line among the classes. Raise UserError if it is not a class."""
    if line not in classes:
        raise UserError(f"{path}: line {row} is {reprlib.repr(line)}. It must be one of: {', '.join(classes)}.")
    return classes.index(line)


def parse(text: str, where: str) -> Any:
    """Return the JSON value in `text`. Raise UserError if it is not valid JSON, or holds half of a character."""
    try:
        value = parse_json(text)
        json.dumps(value, ensure_ascii=False).encode("utf-8")
        return value
    except UnicodeEncodeError as error:
        raise UserError(
            f"{where}: {error.object[error.start]!r} is half a character. Write the text as UTF-8."
        ) from None
    except ValueError as error:
        raise UserError(f"{where}: not valid JSON: {error}.") from None


def read_value(path: Path) -> Any:
    """Return the JSON value in a file."""
    with open_text(path) as file:
        return parse(file.read(), str(path))


def read_entries(path: Path, is_right: Callable[[Any], bool], expected: str) -> dict[str, Any]:
    """Return the JSON object in a file, {id: prediction}.

    Args:
        path: the file.
        is_right: whether a prediction has the right type.
        expected: that type, for errors.

    Raises:
        UserError: the file is not such an object.
    """
    found = read_value(path)
    if not isinstance(found, dict):
        raise UserError(f"{path}: holds a {type(found).__name__}. Give one object, from id to prediction.")
    for row, (key, value) in enumerate(found.items(), 1):
        if not is_right(value):
            raise UserError(f"{path}: entry {row}, id {key!r}, is {reprlib.repr(value)}. Give {expected}.")
    return found


# ---- predictions and labels --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Submitted:
    """The two files of a task in one language.

    Attributes:
        predictions, labels: the files.
        notes: remarks that a reader of the scores needs; the checks add to them.
    """

    language: str
    predictions: Path
    labels: Path
    notes: list[str]

    def read(self, reader: Callable[[Path], Any]) -> tuple[Any, Any]:
        """Return (predictions, labels), both read by `reader`. Raise UserError if there are no labels."""
        found, gold = reader(self.predictions), reader(self.labels)
        if not gold:
            raise UserError(f"{self.labels}: empty. Give the gold labels.")
        return found, gold

    def check_number(self, found: Sequence[Any], gold: Sequence[Any], what: str = "lines") -> None:
        """Raise UserError unless there are as many predictions as labels."""
        if len(found) != len(gold):
            raise UserError(f"{self.predictions}: {len(found)} {what}, but {self.labels} has {len(gold)}.")

    def check_ids(self, found: Mapping[str, Any], gold: Mapping[str, Any]) -> None:
        """Note ids that only one file has. Raise UserError if no id of the labels has a prediction."""
        missing, extra = len(gold.keys() - found.keys()), len(found.keys() - gold.keys())
        if missing == len(gold):
            raise UserError(f"{self.predictions}: none of the {missing} ids of {self.labels} has a prediction.")
        if missing:
            self.notes.append(f"{self.predictions}: {missing} of {len(gold)} ids have no prediction and score 0.")
        if extra:
            self.notes.append(f"{self.predictions}: {extra} ids are not in the labels, left out.")


def compute(name: str, **inputs: Any) -> dict[str, float]:
    """Call `tasks.metrics.compute`, imported late: it takes seconds, and errors in files should come at once."""
    from tasks import metrics

    return metrics.compute(name, **inputs)


class OneClass(Task):
    """Base of the forms whose prediction is the number of one class per example."""

    def decode(self, logits: np.ndarray, features: Dataset, examples: Dataset) -> list:
        return logits.argmax(-1).tolist()

    def gold(self, examples: Dataset) -> list:
        return examples["label"][:]

    gold_values = gold

    def read_lines(self, path: Path) -> list[int]:
        """Return the class number of each line."""
        classes = self.lines(list(range(len(self.label_names))), None)
        return [class_number(line, classes, path, row) for row, line in enumerate(read_stripped(path), 1)]

    def compare(self, files: Submitted) -> Scorer:
        found, gold = files.read(self.read_lines)
        files.check_number(found, gold)
        return lambda: compute("accuracy", predictions=found, references=gold)
