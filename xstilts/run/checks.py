"""Checks of single values of a record. Each takes a value and its key, and raises UserError with the key, the value
and what was expected."""

import math
import numbers
import os
import re
import reprlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from tasks.errors import UserError
from tasks.reading import is_utf8

Check = Callable[[Any, str], None]
LARGEST = 2**63 - 1  # of a whole number: tables keep them in 64 bits
_repr = reprlib.Repr()
_repr.maxstring = _repr.maxother = _repr.maxlong = 80


@contextmanager
def naming(path: str | os.PathLike) -> Iterator[None]:
    """Within the block, put the file's path before the message of a UserError."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def short(value: Any) -> str:
    """Return the value's `repr`, shortened for a message."""
    return _repr.repr(value)


def shown(key: str) -> str:
    """Return a key for a message; a long or unprintable one is quoted."""
    return key if key.isprintable() and len(key) <= 80 else short(key)


def then_and_now(then: Mapping[str, Any], now: Mapping[str, Any], keys: Iterable[str]) -> str:
    """Return "a: 1 then, 2 now; ..." of the first few keys that differ."""
    return "; ".join(f"{key}: {then.get(key)!r} then, {now.get(key)!r} now" for key in list(keys)[:5])


def of_type(expected: str, *types: type) -> Check:
    """Return a check that a value has one of the types. True and false are not numbers; text must be UTF-8.

    Args:
        expected: the types in words, for the message.
    """

    def check(value: Any, key: str) -> None:
        wrong = isinstance(value, bool) and bool not in types
        if (
            wrong
            or not isinstance(value, types)
            or (isinstance(value, numbers.Integral) and not -LARGEST <= int(value) <= LARGEST)
        ):
            raise UserError(f"{key} is {short(value)}, expected {expected}.")
        if isinstance(value, str) and not is_utf8(value):
            raise UserError(f"{key} is {short(value)}, which is not UTF-8 text.")

    return check


text = of_type("text", str)
text_or_null = of_type("text or null", str, type(None))
whole_number = of_type("a whole number", numbers.Integral)
number = of_type("a number", numbers.Real)
true_or_false = of_type("true or false", bool)
mapping = of_type("an object", Mapping)
mapping_or_null = of_type("an object or null", Mapping, type(None))
sequence = of_type("a list", list)
sequence_or_null = of_type("a list or null", list, type(None))


def texts(value: Any, key: str) -> None:
    """Check a list of texts."""
    sequence(value, key)
    for item in value:
        text(item, key)


def text_values(value: Any, key: str) -> None:
    """Check an object whose values are texts."""
    mapping(value, key)
    texts(list(value.values()), key)


def one_of(*allowed: str) -> Check:
    """Return a check that a value is one of these texts."""

    def check(value: Any, key: str) -> None:
        text(value, key)
        if value not in allowed:
            raise UserError(f"{key} is {short(value)}, expected one of {', '.join(allowed)}.")

    return check


def seconds(value: Any, key: str) -> None:
    """Check a finite number, 0 or more."""
    number(value, key)
    if not is_finite(value) or value < 0:
        raise UserError(f"{key} is {short(value)}, expected a finite number, 0 or more.")


def finite_numbers(value: Any, key: str) -> None:
    """Check an object of finite numbers."""
    mapping(value, key)
    for name, item in value.items():
        text(name, key)
        number(item, f"{key}.{shown(name)}")
        if not is_finite(item):
            raise UserError(f"{key}.{shown(name)} is {short(item)}, expected a finite number.")


def is_finite(value: Any) -> bool:
    """Return whether a number is neither NaN nor infinite."""
    try:
        return math.isfinite(value)
    except OverflowError:  # an int with hundreds of digits
        return False


def row_count(value: Any, key: str, least: int) -> None:
    """Check a number of rows of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or not least <= int(value) <= LARGEST:
        raise UserError(f"{key} is {short(value)}, expected a whole number of rows from {least}.")


def row_counts(value: Any, key: str) -> None:
    """Check {language: rows scored}, each 1 or more."""
    mapping(value, key)
    for language, rows in value.items():
        text(language, key)
        row_count(rows, f"{key}.{shown(language)}", 1)


def scores(value: Any, key: str) -> None:
    """Check {metric: score from 0 to 100}."""
    if not isinstance(value, Mapping):
        raise UserError(f"{key} is {short(value)}, expected {{metric: score}}.")
    for metric, score in value.items():
        text(metric, key)
        is_number = isinstance(score, numbers.Real) and not isinstance(score, bool)
        # The tolerance is for rounding errors of means. NaN fails the comparison.
        if not is_number or not -1e-9 <= score <= 100 + 1e-9:
            raise UserError(f"{key}.{shown(metric)} is {short(score)}, expected a score from 0 to 100.")


def scores_or_null(value: Any, key: str) -> None:
    """Check {metric: score}, or None."""
    mapping_or_null(value, key)
    scores({} if value is None else value, key)


def score_table(value: Any, key: str) -> None:
    """Check {language: {metric: score}}."""
    mapping(value, key)
    for language, by_metric in value.items():
        text(language, key)
        scores(by_metric, f"{key}.{shown(language)}")


def data(value: Any, key: str) -> None:
    """Check a list of data records: {id, config, split, rows, and revision or sha256}."""
    sequence(value, key)
    for i, entry in enumerate(value):
        if not isinstance(entry, Mapping):
            raise UserError(f"{key}[{i}] is {short(entry)}, expected an object.")
        missing = [name for name in ("id", "config", "split", "rows") if name not in entry]
        if not entry.get("revision") and not entry.get("sha256"):
            missing.append("revision or sha256")
        if missing:
            raise UserError(f"{key}[{i}] lacks {', '.join(missing)}.")
        row_count(entry["rows"], f"{key}[{i}].rows", 0)
        for name in ("id", "config", "split"):
            text(entry[name], f"{key}[{i}].{name}")
        for name in ("revision", "sha256", "url", "translated_by", "order"):
            text(entry.get(name) or "", f"{key}[{i}].{name}")
        row_count(entry.get("first", 0), f"{key}[{i}].first", 0)
        texts(entry.get("used_as", []), f"{key}[{i}].used_as")


# settings that the report and later runs read; the others are only displayed
_SETTINGS: dict[str, Check] = {
    "model": text,
    "model_finished": text_or_null,
    "model_commit": text_or_null,
    "model_weights": text_or_null,
    "model_files": text_or_null,
    "seen_languages": sequence_or_null,
    "text_languages": sequence_or_null,
}


def settings(value: Any, key: str) -> None:
    """Check {argument: value}."""
    mapping(value, key)
    for name, check in _SETTINGS.items():
        if name in value:
            check(value[name], f"{key}.{name}")
            if isinstance(value[name], list):
                texts(value[name], f"{key}.{name}")
    if value.get("model_finished") is not None and "model" not in value:
        raise UserError(f"{key}.model is missing, but {key}.model_finished is there.")


def layers(value: Any, key: str) -> None:
    """Check {layer number: {language: {metric: score}}}."""
    mapping(value, key)
    for layer, table in value.items():
        if not re.fullmatch("0|[1-9][0-9]{0,8}", str(layer)) or not isinstance(table, Mapping):
            raise UserError(f"{key}.{short(layer)}: expected {{layer number: {{language: {{metric: score}}}}}}.")
        score_table(table, f"{key}.{layer}")
