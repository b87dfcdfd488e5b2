"""Files of predictions and of labels in XTREME's layout: reading them back, for the forms' `read_lines` and
`compare`."""

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
    """Open a file of UTF-8 text; raise UserError where it cannot be read."""
    try:
        with io.TextIOWrapper(open_file(path), encoding="utf-8") as file:
            yield file
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: byte {error.start} is not UTF-8. Write the file as UTF-8 text.") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}.") from error


def read_stripped(path: Path) -> list[str]:
    """The stripped lines, split where the benchmark splits them: at line ends only, not at Unicode's other breaks."""
    with open_text(path) as file:
        return [line.strip() for line in file]


def read_matches(path: Path, pattern: str, advice: str) -> list[str]:
    """The stripped lines. Raise UserError with `advice` if one does not match the whole pattern."""
    lines = read_stripped(path)
    for row, line in enumerate(lines, 1):
        if not re.fullmatch(pattern, line):
            raise UserError(f"{path}: line {row} is {reprlib.repr(line)}. {advice}")
    return lines


def class_number(line: str, classes: Sequence[str], path: Path, row: int) -> int:
    """The place of a line among the classes. Raise UserError if it is none of them."""
    if line not in classes:
        raise UserError(f"{path}: line {row} is {reprlib.repr(line)}. It must be one of: {', '.join(classes)}.")
    return classes.index(line)


def parse(text: str, where: str) -> Any:
    """The JSON value in `text`. Raise UserError where there is none, or a text in it cannot be UTF-8."""
    try:
        value = parse_json(text)
        json.dumps(value, ensure_ascii=False).encode("utf-8")
        return value
    except UnicodeEncodeError as error:
        raise UserError(
            f"{where}: {error.object[error.start]!r} is half a character. Write the text as UTF-8."
        ) from None
    except ValueError as error:
        raise UserError(f"{where}: no valid JSON: {error}.") from None


def read_value(path: Path) -> Any:
    """The JSON value that a file holds."""
    with open_text(path) as file:
        return parse(file.read(), str(path))


def read_entries(path: Path, is_right: Callable[[Any], bool], expected: str) -> dict[str, Any]:
    """The JSON object of a file, from id to prediction. Raise UserError if a prediction is not `is_right`: it must be
    `expected`."""
    found = read_value(path)
    if not isinstance(found, dict):
        raise UserError(f"{path}: holds a {type(found).__name__}. Give one object, from id to prediction.")
    for row, (key, value) in enumerate(found.items(), 1):
        if not is_right(value):
            raise UserError(f"{path}: entry {row}, id {key!r}, is {reprlib.repr(value)}. Give {expected}.")
    return found


# ---- predictions beside labels --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Submitted:
    """The two files of a task in one language.

    Attributes:
        predictions, labels: the files.
        notes: what the reader of the scores has to know; the checks add to it.
    """

    language: str
    predictions: Path
    labels: Path
    notes: list[str]

    def read(self, reader: Callable[[Path], Any]) -> tuple[Any, Any]:
        """(predictions, labels), both read by `reader`. Raise UserError if there are no labels."""
        found, gold = reader(self.predictions), reader(self.labels)
        if not gold:
            raise UserError(f"{self.labels}: empty. Give the gold labels.")
        return found, gold

    def check_number(self, found: Sequence[Any], gold: Sequence[Any], what: str = "lines") -> None:
        """Raise UserError if there are more predictions than labels, or fewer."""
        if len(found) != len(gold):
            raise UserError(f"{self.predictions}: {len(found)} {what}, but {self.labels} has {len(gold)}.")

    def check_ids(self, found: Mapping[str, Any], gold: Mapping[str, Any]) -> None:
        """Note ids that are in one of the files alone; raise UserError if no id of the labels has a prediction."""
        missing, extra = len(gold.keys() - found.keys()), len(found.keys() - gold.keys())
        if missing == len(gold):
            raise UserError(f"{self.predictions}: none of the {missing} ids of {self.labels} has a prediction.")
        if missing:
            self.notes.append(f"{self.predictions}: {missing} of {len(gold)} ids have no prediction and score 0.")
        if extra:
            self.notes.append(f"{self.predictions}: {extra} ids are not in the labels, left out.")


def compute(name: str, **inputs: Any) -> dict[str, float]:
    """`tasks.metrics.compute`. What it loads takes seconds, which a file that is refused should not cost."""
    from tasks import metrics

    return metrics.compute(name, **inputs)


class OneClass(Task):
    """What the forms share whose prediction is the number of one class an example."""

    def decode(self, logits: np.ndarray, features: Dataset, examples: Dataset) -> list:
        return logits.argmax(-1).tolist()

    def gold(self, examples: Dataset) -> list:
        return examples["label"][:]

    gold_values = gold

    def read_lines(self, path: Path) -> list[int]:
        """The number of each line's class."""
        classes = self.lines(list(range(len(self.label_names))), None)
        return [class_number(line, classes, path, row) for row, line in enumerate(read_stripped(path), 1)]

    def compare(self, files: Submitted) -> Scorer:
        found, gold = files.read(self.read_lines)
        files.check_number(found, gold)
        return lambda: compute("accuracy", predictions=found, references=gold)
