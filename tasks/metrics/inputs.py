"""Checks of what a metric is given, the same for every metric: by the types that its function declares."""

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_type_hints

from .errors import UserError


def checked(function: Callable, predictions: Sequence, references: Sequence) -> dict[str, list]:
    """Return {"predictions": list, "references": list} of the types that `function` declares.

    Arrays, tensors and columns of a data set are taken as lists.

    Raises:
        UserError: an input is of another type (names the row), they differ in number, or there are none.
    """
    name, kinds = function.__name__, get_type_hints(function)
    given = {"predictions": predictions, "references": references}
    rows = {key: _list(values, f"{name}: {key}") for key, values in given.items()}
    found, gold = map(len, rows.values())
    if found != gold:
        raise UserError(f"{name}: {found} predictions for {gold} references. Give one for each.")
    if not gold:
        raise UserError(f"{name}: nothing to score, predictions and references are empty.")
    return {key: _checked(values, kinds[key], f"{name}: {key}, row") for key, values in rows.items()}


def _list(values: Any, what: str) -> list:
    if isinstance(values, str | bytes | Mapping) or not (
        hasattr(values, "__len__") and hasattr(values, "__getitem__")
    ):
        raise UserError(f"{what}: {values!r:.60}. Give a list.")
    # tolist: Python's numbers instead of an array's
    return values.tolist() if hasattr(values, "tolist") else list(values)


def _checked(values: list, kind: Any, what: str) -> list:
    """Return rows of the type `kind`: list[int], list[str] or list[list[str]]. Raise UserError if one is of
    another."""
    (inner,) = kind.__args__
    if inner is int:
        return [_whole_number(value, f"{what} {row}") for row, value in enumerate(values, 1)]
    if inner is str:
        return [_text(value, f"{what} {row}") for row, value in enumerate(values, 1)]
    return [
        _checked(_list(value, f"{what} {row}"), inner, f"{what} {row}, entry") for row, value in enumerate(values, 1)
    ]


def _whole_number(value: Any, what: str) -> int:
    try:
        number = operator.index(value)  # takes numpy's integers, refuses 1.5, "1" and None
    except TypeError:
        raise UserError(f"{what}: {value!r:.60}. Give a whole number.") from None
    if number.bit_length() > 63:  # numpy, and with it scikit-learn, compares no larger integers
        raise UserError(f"{what}: {number} does not fit into 64 bits. Give a smaller number.")
    return number


def _text(value: Any, what: str) -> str:
    if not isinstance(value, str):
        raise UserError(f"{what}: {value!r:.60}. Give text.")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise UserError(
                f"{what}: {value!r:.60} holds half of a character (a lone surrogate). Give whole text."
            ) from None
    return value
