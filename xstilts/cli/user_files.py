"""YAML and JSON files that a user gives: read as they stand, or refused with file and line. Imports nothing heavy."""

from __future__ import annotations

import json
import math
import os
import stat
from pathlib import Path
from typing import Any

from xstilts.errors import UserError, first_line

LARGEST = 100_000  # bytes: recipes have a few hundred, and PyYAML needs a second or two for so many
DEEPEST = 20  # lists and mappings within each other
NULLS = ("", "~", "null", "Null", "NULL")  # YAML's words for "nothing", where they stand without quotes


class _Invalid(ValueError):
    """What is wrong in a file, and in which line (from 1; None where that is not known)."""

    def __init__(self, why: str, line: int | None = None):
        super().__init__(why)
        self.line = line


def read_yaml(path: str | os.PathLike, flag: str) -> dict[str, Any]:
    """Return a YAML file's keys and values, {} of an empty one.

    A value is text, None, a list or a mapping. YAML's own guesses are not made: it would take `no` (Norwegian) for
    false, 010 for 8 and 2001-01-01 for a date. What a text means is for its argument to say.

    Args:
        flag: the argument that named the file, for errors.

    Raises:
        UserError: it cannot be read, or is not one plain mapping (tags, anchors, a key given twice, a second
            document).
    """
    import yaml

    text = read_text(path, flag)
    try:
        values = _from_events(yaml.parse(text, Loader=yaml.SafeLoader))
    except (yaml.YAMLError, _Invalid) as error:
        mark = getattr(error, "problem_mark", None)
        line = error.line if isinstance(error, _Invalid) else mark and mark.line + 1
        said = getattr(error, "problem", None) or first_line(error)
        raise UserError(f"{flag} {path}{f', line {line}' if line else ''}: not valid YAML: {said}.") from error
    if values is not None and not isinstance(values, dict):
        raise UserError(f"{flag} {path}: expected `key: value` lines.")
    return values or {}


def _from_events(events) -> Any:
    """The value of one YAML document, from PyYAML's parser: of these, no file takes longer to read than it is long, or
    nests too deep."""
    import yaml

    top: list = []
    # lists and mappings begun: their values and the lines of these; the innermost last
    opened: list[tuple[list, list]] = []

    def add(value, line: int) -> None:
        values, lines = opened[-1] if opened else (top, [])
        values.append(value)
        lines.append(line)

    for event in events:
        line = event.start_mark.line + 1
        if isinstance(event, yaml.DocumentStartEvent) and top:
            raise _Invalid("a second document begins here", line)
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise _Invalid("anchors (&name) and aliases (*name) are not taken; write the value out", line)
        if getattr(event, "tag", None):
            raise _Invalid(
                f"tags ({event.tag.replace('tag:yaml.org,2002:', '!!')}) are not taken; write the value alone", line
            )
        if isinstance(event, yaml.ScalarEvent):
            add(None if event.implicit[0] and event.value in NULLS else _checked(event.value, line), line)
        elif isinstance(event, yaml.CollectionStartEvent):
            opened.append(([], []))
            if len(opened) > DEEPEST:
                raise _Invalid(f"more than {DEEPEST} lists or mappings within each other", line)
        elif isinstance(event, yaml.CollectionEndEvent):
            values, lines = opened.pop()
            add(_mapping(values, lines) if isinstance(event, yaml.MappingEndEvent) else values, line)
    return top[0] if top else None


def _checked(text: str, line: int) -> str:
    if "\0" in text or any("\ud800" <= letter <= "\udfff" for letter in text):
        # no file could be named, or written, so
        raise _Invalid(f"{text[:80]!r} is not text", line)
    return text


def _mapping(values: list, lines: list[int]) -> dict[str, Any]:
    """The mapping of keys and values that stand one after the other."""
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

    Raises:
        UserError: it cannot be read, or is not one JSON object in which every key stands once and every number is
            finite.
    """

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        keys = [key for key, _ in items]
        if twice := [key for key in keys if keys.count(key) > 1]:
            raise _Invalid(f"the key {twice[0][:80]!r} is given twice")
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
        raise UserError(f"{flag} {path}: not valid JSON: too many lists or objects within each other.") from error
    except UserError:
        raise
    except ValueError as error:
        raise UserError(f"{flag} {path}: not valid JSON: {first_line(error)}.") from error
    if not isinstance(values, dict):
        raise UserError(f"{flag} {path}: expected a JSON object, {{...}}.")
    return values


def read_text(path: str | os.PathLike, flag: str) -> str:
    """Return a small file's text.

    Raises:
        UserError: it is not there, no ordinary file (a FIFO would be waited for), too large, or not UTF-8.
    """
    try:
        found = os.stat(path)
        if stat.S_ISDIR(found.st_mode):
            raise UserError(f"{flag} {path} is a folder, expected a file.")
        if not stat.S_ISREG(found.st_mode):
            raise UserError(f"{flag} {path} is not an ordinary file (a pipe or a device). Give a file's path.")
        if found.st_size > LARGEST:
            raise UserError(f"{flag} {path} has {found.st_size:,} bytes, expected at most {LARGEST:,}.")
        return Path(path).read_bytes().decode("utf-8-sig")
    except FileNotFoundError as error:
        raise UserError(f"{flag} {path}: no such file.") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{flag} {path}: not valid UTF-8 (byte {error.start}).") from error
    except OSError as error:
        raise UserError(f"{flag} {str(path)[:300]} cannot be read: {error.strerror}.") from error
