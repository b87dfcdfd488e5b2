"""Read a user's YAML and JSON files. Errors name the file and the line. Imports nothing heavy."""

from __future__ import annotations

import json
import math
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.errors import UserError, first_line
from tasks.reading import is_utf8

if TYPE_CHECKING:
    import yaml

LARGEST = 100_000  # bytes; recipes have a few hundred, and PyYAML reads this many in a second or two
DEEPEST = 20  # levels of nested lists and mappings
NULLS = ("", "~", "null", "Null", "NULL")  # YAML's words for null, without quotes


class _Invalid(ValueError):
    """An error in a file, with its line (from 1; None: unknown)."""

    def __init__(self, why: str, line: int | None = None):
        super().__init__(why)
        self.line = line


def read_yaml(path: str | os.PathLike, flag: str) -> dict[str, Any]:
    """Return a YAML file's keys and values; {} for an empty file.

    A value is text, None, a list or a mapping. YAML itself would turn `no` (Norwegian) into false, 010 into 8 and
    2001-01-01 into a date. Here values stay text, and each argument converts its own.

    Args:
        path: the file.
        flag: the argument that names the file, for errors.

    Raises:
        UserError: the file cannot be read, or is not one plain mapping (it has tags, anchors, a repeated key or a
            second document).
    """
    import yaml

    text = read_text(path, flag)
    try:
        values = _from_events(yaml.parse(text, Loader=yaml.SafeLoader))
    except (yaml.YAMLError, _Invalid) as error:
        mark = getattr(error, "problem_mark", None)
        line = error.line if isinstance(error, _Invalid) else mark and mark.line + 1
        problem = getattr(error, "problem", None) or first_line(error)
        raise UserError(f"{flag} {path}{f', line {line}' if line else ''}: not valid YAML: {problem}.") from error
    if values is not None and not isinstance(values, dict):
        raise UserError(f"{flag} {path}: expected `key: value` lines.")
    return values or {}


def _from_events(events: Iterable[yaml.Event]) -> Any:
    """The value of one YAML document, built from the events of PyYAML's parser.

    PyYAML's own loader expands aliases, so that a short file could need a lot of memory, and it has no limit on depth.
    """
    import yaml

    top: list = []
    # lists and mappings that have not ended, the innermost last: (values, the lines of these)
    unfinished: list[tuple[list, list]] = []

    def add(value: Any, line: int) -> None:
        values, lines = unfinished[-1] if unfinished else (top, [])
        values.append(value)
        lines.append(line)

    for event in events:
        line = event.start_mark.line + 1  # type: ignore[union-attr]  # the parser sets every mark
        if isinstance(event, yaml.DocumentStartEvent) and top:
            raise _Invalid("a second document begins here", line)
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise _Invalid("anchors (&name) and aliases (*name) are not supported; repeat the value", line)
        if tag := getattr(event, "tag", None):
            raise _Invalid(
                f"tags ({tag.replace('tag:yaml.org,2002:', '!!')}) are not supported; write the value without a tag",
                line,
            )
        if isinstance(event, yaml.ScalarEvent):
            add(None if event.implicit[0] and event.value in NULLS else _checked(event.value, line), line)
        elif isinstance(event, yaml.CollectionStartEvent):
            unfinished.append(([], []))
            if len(unfinished) > DEEPEST:
                raise _Invalid(f"lists or mappings are nested more than {DEEPEST} levels deep", line)
        elif isinstance(event, yaml.CollectionEndEvent):
            values, lines = unfinished.pop()
            add(_mapping(values, lines) if isinstance(event, yaml.MappingEndEvent) else values, line)
    return top[0] if top else None


def _checked(text: str, line: int) -> str:
    if "\0" in text or not is_utf8(text):
        # it could not be written to a file, nor be part of a file name
        raise _Invalid(f"{text[:80]!r} is not text", line)
    return text


def _mapping(values: list, lines: list[int]) -> dict[str, Any]:
    """Build a mapping from alternating keys and values."""
    found: dict[str, Any] = {}
    for key, value, line in zip(values[::2], values[1::2], lines[::2], strict=True):
        if not isinstance(key, str):
            raise _Invalid(f"the key {str(key)[:80]!r} is not a name", line)
        if key in found:
            raise _Invalid(f"the key {key[:80]!r} is given twice", line)
        found[key] = value
    return found


def read_json(path: str | os.PathLike, flag: str) -> dict[str, Any]:
    """Return the JSON object in a file.

    Args:
        path: the file.
        flag: the argument that names the file, for errors.

    Raises:
        UserError: the file cannot be read, is not one JSON object, or has a repeated key or a number that is not
            finite.
    """

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        keys = [key for key, _ in items]
        if repeated := [key for key in keys if keys.count(key) > 1]:
            raise _Invalid(f"the key {repeated[0][:80]!r} is given twice")
        return dict(items)

    def number(text: str) -> float:
        if not math.isfinite(value := float(text)):
            raise _Invalid(f"{text[:80]} is not a finite number")
        return value

    try:
        values = json.loads(read_text(path, flag), object_pairs_hook=pairs, parse_float=number, parse_constant=number)
    except json.JSONDecodeError as error:
        raise UserError(f"{flag} {path}, line {error.lineno}: not valid JSON: {error.msg}.") from error
    except RecursionError as error:
        raise UserError(f"{flag} {path}: not valid JSON: lists or objects are nested too deep.") from error
    except UserError:
        raise
    except ValueError as error:
        raise UserError(f"{flag} {path}: not valid JSON: {first_line(error)}.") from error
    if not isinstance(values, dict):
        raise UserError(f"{flag} {path}: expected a JSON object, {{...}}.")
    return values


def read_text(path: str | os.PathLike, flag: str) -> str:
    """Return a small file's text.

    Args:
        path: the file.
        flag: the argument that names the file, for errors.

    Raises:
        UserError: it does not exist, is not a regular file (a pipe could block), is too large, or is not UTF-8.
    """
    try:
        info = os.stat(path)
        if stat.S_ISDIR(info.st_mode):
            raise UserError(f"{flag} {path} is a folder, expected a file.")
        if not stat.S_ISREG(info.st_mode):
            raise UserError(f"{flag} {path} is a pipe or a device. Give a regular file.")
        if info.st_size > LARGEST:
            raise UserError(f"{flag} {path} has {info.st_size:,} bytes, expected at most {LARGEST:,}.")
        return Path(path).read_bytes().decode("utf-8-sig")
    except FileNotFoundError as error:
        raise UserError(f"{flag} {path}: no such file.") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{flag} {path}: not valid UTF-8 (byte {error.start}).") from error
    except OSError as error:
        raise UserError(f"{flag} {str(path)[:300]} cannot be read: {error.strerror}.") from error
