"""Checks of rows that every form shares. What is refused names file, row and column."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tasks import languages as codes
from tasks.errors import RowError, UserError, one_line
from tasks.files import WORDS

if TYPE_CHECKING:
    from datasets import Dataset

PLACEHOLDER = 200  # so many labels that are all the same are none, as in tasks/metrics/accuracy, which stands alone


@contextmanager
def at_row(number: int, row: Any, what: str = "row") -> Iterator[None]:
    """What goes wrong in here, with this row, names its number.

    Raises:
        RowError: in place of what was raised.
    """
    try:
        yield
    except (RowError, UserError) as error:
        raise RowError(f"{what} {number}, {error}" if str(error).startswith("column") else f"{what} {number}: {error}") from error
    except (TypeError, ValueError, LookupError, AttributeError) as error:
        empty = next(nulls(row), "")
        raise RowError(f"{what} {number}: not as expected ({one_line(error)})"
                       + (f"; {empty} is empty (null)." if empty else ".")) from error


def nulls(value: Any, at: str = "") -> Iterator[str]:
    """Where in a row nothing stands: "mentions.0.entity_id"."""
    inside = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    for name, one in inside:
        yield from nulls(one, f"{at}.{name}" if at else str(name))
    if value is None:
        yield at


def whole(value: Any, what: str) -> int:
    """A number that counts characters.

    Raises:
        RowError: it is something else.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or value % 1:
        raise RowError(f"{what} is {shown(value)}, expected a whole number.")
    return int(value)


def each(data: Dataset, function: Callable[[dict], dict], **options: Any) -> Dataset:
    """`data.map` row by row; what goes wrong names its row, see `at_row`."""
    def one(row: dict, index: int) -> dict:
        with at_row(index + 1, row):
            return function(row)

    return data.map(one, with_indices=True, **options)


def label_numbers(names: tuple[str, ...], stored: tuple[str, ...] = ()) -> dict[Any, int]:
    """What may stand for a label in rows -> its number; -1: hidden gold.

    A label is its name, its number, or its number as digits. Names that are digits themselves ("1", "2", "3" of Social
    IQa) are names, not numbers.

    Args:
        stored: the names a file has for its own numbers (a ClassLabel's): its numbers are these names then.
    """
    table: dict[Any, int] = {}
    for i, name in enumerate(names):
        table |= {name: i, int(name): i} if name.isdigit() else {name: i, i: i, str(i): i}
    if stored:
        table = {name: i for name, i in table.items() if isinstance(name, str)}
        table |= {number: table[name] for number, name in enumerate(stored) if name in table}
    return table | {-1: -1, "-1": -1, "": -1}


def same_numbers(names: tuple[str, ...], stored: tuple[str, ...]) -> bool:
    """Whether a file's own names for its numbers are these, number by number."""
    table = label_numbers(names)
    return all(table.get(name) == number for number, name in enumerate(stored))


def check_labels(values: list, names: tuple[str, ...], where: str, column: str = "label", stored: tuple[str, ...] = ()) -> list[int]:
    """Labels as they stand in rows -> their numbers, see `label_numbers`; hidden gold (-1, or an empty string) -> -1.

    Raises:
        UserError: a value is no label; names the row (from 1).
    """
    table = label_numbers(names, stored)
    try:
        if bool not in set(map(type, values)):  # True == 1, but nobody knows which label it stands for
            return [table[value] for value in values]
    except (KeyError, TypeError):
        pass
    row = next(row for row, value in enumerate(values, 1) if no_label(value, table))
    raise UserError(f"{where}, row {row}, column {column!r}: {not_a_label(values[row - 1], names, stored)}")


def no_label(value: Any, table: dict[Any, int]) -> bool:
    """Whether a value stands for none of the labels of `label_numbers`."""
    return isinstance(value, bool | list | dict) or value not in table


def not_a_label(value: Any, names: tuple[str, ...], stored: tuple[str, ...] = ()) -> str:
    """What is wrong with a value that is no label."""
    if value is None:
        return "empty (null), expected a label."
    meant = f", {stored[value]!r} by the file's own names," if isinstance(value, int) and 0 <= value < len(stored) else ""
    numbers = "" if names[0].isdigit() or stored else f" (or 0..{len(names) - 1})"
    return f"{value!r}{meant} is no label; expected one of {', '.join(names)}{numbers}."


def check_gold(gold: list, where: str) -> None:
    """Refuses gold that is the same throughout: some copies hide a test set's gold behind one class."""
    if len(gold) >= PLACEHOLDER and len(set(gold)) == 1:
        raise UserError(f"{where}: all {len(gold)} gold labels are {gold[0]}, a placeholder; this split cannot be scored.")


def check_ids(ids: list[str], where: str, column: str = "id") -> None:
    """Refuses an id that stands twice: files of predictions go by it."""
    if len(set(ids)) < len(ids):
        seen: set[str] = set()
        row, twice = next((row, i) for row, i in enumerate(ids, 1) if i in seen or seen.add(i))
        raise UserError(f"{where}, row {row}, column {column!r}: {twice!r} stands twice.")


def check_text(data: Dataset, columns: tuple[str, ...], where: str) -> None:
    """Refuses a null, or another type, where text must stand."""
    for column in columns:
        kind = getattr(data.features[column], "dtype", "")
        if kind not in ("string", "large_string", "string_view", "null"):
            row, value = next(((row, value) for row, value in enumerate(data[column], 1) if value is not None), (1, None))
            raise UserError(f"{where}, row {row}, column {column!r}: {shown(value)}, expected text.")
        if data.data.column(column).null_count and None in (values := data[column][:]):
            row = values.index(None) + 1
            raise UserError(f"{where}, row {row}, column {column!r}: empty (null), expected text.")


def shown(value: Any) -> str:
    """A value and what it is, for errors: "5 (a number)"."""
    return "empty (null)" if value is None else f"{repr(value)[:60]} ({WORDS.get(type(value), type(value).__name__)})"


def languages_in(values: Iterable[Any], column: str) -> dict[Any, str]:
    """The languages of a file that holds several, each as it stands there: {as it stands there: our code}.

    Raises:
        RowError: a row is in no language that is known.
    """
    found: dict[Any, str] = {}
    for row, value in enumerate(values, 1):
        if not isinstance(value, str):
            raise RowError(f"row {row}, column {column!r}: {shown(value)}, expected a language.")
        if value not in found:
            with at_row(row, value):
                found[value] = codes.normalize(value)
    return found
