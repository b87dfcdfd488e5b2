"""Check rows, for all task forms. Errors name file, row and column."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tasks import languages as codes
from tasks.errors import RowError, UserError, one_line
from tasks.json_lines import TYPE_NAMES
from tasks.metrics.accuracy import PLACEHOLDER

if TYPE_CHECKING:
    from datasets import Dataset


@contextmanager
def at_row(number: int, row: Any, what: str = "row") -> Iterator[None]:
    """Re-raise an error from inside this block as a RowError that names the row."""
    try:
        yield
    except (RowError, UserError) as error:
        raise RowError(
            f"{what} {number}, {error}" if str(error).startswith("column") else f"{what} {number}: {error}"
        ) from error
    except (TypeError, ValueError, LookupError, AttributeError) as error:
        empty = next(null_paths(row), "")
        raise RowError(
            f"{what} {number}: bad format ({one_line(error)})" + (f"; {empty} is empty (null)." if empty else ".")
        ) from error


def null_paths(value: Any, at: str = "") -> Iterator[str]:
    """Yield the paths of the nulls in a row, such as "mentions.0.entity_id"."""
    items = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    for name, item in items:
        yield from null_paths(item, f"{at}.{name}" if at else str(name))
    if value is None:
        yield at


def whole_number(value: Any, what: str) -> int:
    """Return `value` as an int. Raise RowError if it is not a whole number (8.0 is one)."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value % 1:
        raise RowError(f"{what} is {describe(value)}, expected a whole number.")
    return int(value)


def map_rows(data: Dataset, function: Callable[[dict], dict], **options: Any) -> Dataset:
    """Apply a function to every row with `data.map`. Errors name the row."""

    def apply(row: dict, index: int) -> dict:
        with at_row(index + 1, row):
            return function(row)

    return data.map(apply, with_indices=True, **options)


def label_numbers(names: tuple[str, ...], stored: tuple[str, ...] = (), by_number: bool = True) -> dict[Any, int]:
    """Map every spelling of a label in rows to its number, and spellings of hidden gold to -1.

    A row may spell a label as its name, its number, or its number in digits. If one of the names is a number ("1",
    "2", "3" of Social IQa), numbers in rows are names: 1 is the label "1", wherever it stands among the names.

    Args:
        names: the labels, in the order of their numbers.
        stored: the names of a ClassLabel. Integers then refer to these names.
        by_number: whether a row may give a label's number instead of its name.

    Raises:
        UserError: two of the names are the same label, or one of them stands for hidden gold.
    """
    table: dict[Any, int] = {}
    by_name = numbers_are_names(names) or not by_number
    for i, name in enumerate(names):
        spellings = {name, number_of(name)} - {None} if by_name else {name, i, str(i)}
        if reserved := {-1, "-1", ""} & spellings:
            raise UserError(f"labels: {name!r} cannot be a label, because {reserved.pop()!r} in rows is hidden gold.")
        if spellings & table.keys():
            raise UserError(f"labels: {name!r} is the same as {names[table[(spellings & table.keys()).pop()]]!r}.")
        table |= dict.fromkeys(spellings, i)
    if stored:
        table = {name: i for name, i in table.items() if isinstance(name, str)}
        table |= {number: table[name] for number, name in enumerate(stored) if name in table}
    return table | {-1: -1, "-1": -1, "": -1}


def number_of(name: str) -> float | None:
    """Return the number that a label's name is ("1", "2.5"), or None."""
    return float(name) if re.fullmatch(r"[+-]?[0-9]+(\.[0-9]+)?", name) else None


def numbers_are_names(names: tuple[str, ...]) -> bool:
    """Whether numbers in rows are names of labels, not their places among the names."""
    return any(number_of(name) is not None for name in names)


def same_numbers(names: tuple[str, ...], stored: tuple[str, ...]) -> bool:
    """Whether a ClassLabel has the labels in the same order as `names`."""
    table = label_numbers(names)
    return all(table.get(name) == number for number, name in enumerate(stored))


def check_labels(
    values: list,
    names: tuple[str, ...],
    where: str,
    column: str = "label",
    stored: tuple[str, ...] = (),
    by_number: bool = True,
) -> list[int]:
    """Return the numbers of labels, see `label_numbers`; -1 for hidden gold (-1 or an empty string).

    Args:
        values: the labels as the rows spell them.
        names: the labels, in the order of their numbers.
        where: the file, for errors.
        column: the column, for errors.
        stored: the names of a ClassLabel.
        by_number: whether a row may give a label's number instead of its name.

    Raises:
        UserError: a value is not a label; names the row, from 1.
    """
    table = label_numbers(names, stored, by_number)
    try:
        if bool not in set(map(type, values)):  # True == 1, but it is unclear which label it means
            return [table[value] for value in values]
    except (KeyError, TypeError):
        pass
    row = next(row for row, value in enumerate(values, 1) if is_no_label(value, table))
    raise UserError(f"{where}, row {row}, column {column!r}: {label_error(values[row - 1], names, stored, by_number)}")


def is_no_label(value: Any, table: dict[Any, int]) -> bool:
    """Whether a value is not in a table of `label_numbers`."""
    return isinstance(value, bool | list | dict) or value not in table


def label_error(value: Any, names: tuple[str, ...], stored: tuple[str, ...] = (), by_number: bool = True) -> str:
    """Return the error message for a value that is not a label."""
    if value is None:
        return "empty (null), expected a label."
    meant = (
        f" ({stored[value]!r} by the file's own names)" if isinstance(value, int) and 0 <= value < len(stored) else ""
    )
    numbers = "" if numbers_are_names(names) or stored or not by_number else f" (or 0..{len(names) - 1})"
    return f"{value!r}{meant} is not a label; expected one of {', '.join(names)}{numbers}."


def is_placeholder(gold: list) -> bool:
    """Whether so many gold labels are all equal that no score is computed from them."""
    return len(gold) >= PLACEHOLDER and len(set(gold)) == 1


def check_placeholder(gold: list, where: str) -> None:
    """Raise if all gold labels are equal: some copies hide the gold of a test set behind one class."""
    if is_placeholder(gold):
        raise UserError(
            f"{where}: all {len(gold)} gold labels are {gold[0]}, a placeholder; this split cannot be scored."
        )


def id_text(value: Any) -> str:
    """Return an id as text: 7 for 7.0, as pandas writes a column of numbers that had a null."""
    return str(int(value)) if isinstance(value, float) and value % 1 == 0 else str(value)


def check_ids(ids: list[str], where: str, column: str = "id") -> None:
    """Raise UserError if an id appears twice: files of predictions are matched by id."""
    if len(set(ids)) < len(ids):
        first_row: dict[str, int] = {}
        for row, i in enumerate(ids, 1):
            if first_row.setdefault(i, row) != row:
                raise UserError(
                    f"{where}, row {row}, column {column!r}: {i!r} appears twice, first in row {first_row[i]}."
                )


def check_text(data: Dataset, columns: tuple[str, ...], where: str) -> None:
    """Raise UserError if a value of these columns is null, or not text."""
    for column in columns:
        kind = getattr(data.features[column], "dtype", "")
        if kind not in ("string", "large_string", "string_view", "null"):
            row, value = next(
                ((row, value) for row, value in enumerate(data[column], 1) if value is not None), (1, None)
            )
            raise UserError(f"{where}, row {row}, column {column!r}: {describe(value)}, expected text.")
        if data.data.column(column).null_count and None in (values := data[column][:]):
            row = values.index(None) + 1
            raise UserError(f"{where}, row {row}, column {column!r}: empty (null), expected text.")


def check_sentences(data: Dataset, columns: tuple[str, ...], where: str) -> None:
    """Raise UserError if a text is empty or only white space."""
    for column in columns:
        if blank := [row for row, text in enumerate(data[column][:], 1) if not text.strip()]:
            raise UserError(
                f"{where}, row {blank[0]}, column {column!r}: expected a sentence, found only white space."
            )


def describe(value: Any) -> str:
    """Return a value and its type for an error message: "5 (a number)"."""
    return (
        "empty (null)"
        if value is None
        else f"{repr(value)[:60]} ({TYPE_NAMES.get(type(value), type(value).__name__)})"
    )


def languages_in(values: Iterable[Any], column: str) -> dict[Any, str]:
    """Return {language as written: our code} for a column of languages. Raise RowError if one is unknown."""
    found: dict[Any, str] = {}
    for row, value in enumerate(values, 1):
        if not isinstance(value, str):
            raise RowError(f"row {row}, column {column!r}: {describe(value)}, expected a language.")
        if value not in found:
            with at_row(row, value):
                found[value] = codes.normalize(value)
    return found
