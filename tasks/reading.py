"""Read the small JSON files that these programs write. Every problem is one UserError.

A file may be truncated, edited, or replaced by a folder, a named pipe or something else. Readers never wait for a
pipe, and have a limit on memory.
"""

from __future__ import annotations

import json
import os
import stat
from collections import Counter
from collections.abc import Callable
from typing import Any, BinaryIO

from tasks.errors import UserError, first_line

LARGEST = 64 * 2**20  # bytes; 1,000 languages in 25 layers with 12 metrics each need 10 MiB
DEEPEST = 32  # levels of nesting; our files have 8
_KINDS = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket"}


def open_file(path: str | os.PathLike) -> BinaryIO:
    """Return the file, opened for reading.

    Raises:
        OSError: it cannot be opened, or is not a regular file.
    """
    _check_kind(os.stat(path).st_mode)
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        _check_kind(os.fstat(descriptor).st_mode)  # the file may have been replaced in between
    except OSError:
        os.close(descriptor)
        raise
    return open(descriptor, "rb")


def read_bytes(path: str | os.PathLike) -> bytes:
    """Return the content of a file of at most `LARGEST` bytes.

    Raises:
        OSError: the file is larger, or `open_file` raises.
    """
    with open_file(path) as file:
        content = file.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise OSError(f"it has more than {LARGEST // 2**20} MiB")
    return content


def read_json(path: str | os.PathLike, advice: str, constant: Callable[[str], Any] | None = None) -> Any:
    """Return the value in a JSON file.

    Args:
        path: the file.
        advice: what to do if it cannot be read: the end of the error message.
        constant: `parse_constant` of `json.loads`, for NaN and the infinities.

    Raises:
        UserError: the file cannot be opened, is not a regular file, is too large, is not UTF-8 or JSON, repeats a key
            in one object, or is nested too deep.
    """
    try:
        return parse_json(read_bytes(path).decode("utf-8"), constant)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else first_line(error)
        raise UserError(f"{path} cannot be read ({reason}){advice}") from error


def read_object(path: str | os.PathLike, advice: str, constant: Callable[[str], Any] | None = None) -> dict[str, Any]:
    """Return the JSON object in a file. Raise UserError as `read_json` does, and if the value is not an object."""
    value = read_json(path, advice, constant)
    if not isinstance(value, dict):
        raise UserError(f"{path} cannot be read (it holds {type(value).__name__}, expected an object){advice}")
    return value


def parse_json(text: str, constant: Callable[[str], Any] | None = None) -> Any:
    """Return the JSON value in `text`.

    Raises:
        ValueError: it is not JSON, repeats a key in one object, or is nested too deep.
    """
    try:
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=constant)
    except RecursionError:
        raise ValueError(f"nested more than {DEEPEST} levels deep") from None
    level = [value]
    for _ in range(DEEPEST):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
    if level:
        raise ValueError(f"nested more than {DEEPEST} levels deep")
    return value


def is_utf8(text: str) -> bool:
    """Whether text can be written as UTF-8: without half characters, which bytes that are no UTF-8 become."""
    return text.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in text)


def _check_kind(mode: int) -> None:
    if not stat.S_ISREG(mode):
        raise OSError(f"it is {_KINDS.get(stat.S_IFMT(mode), 'a device')}, expected a file")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        counts = Counter(key for key, _ in pairs)
        raise ValueError(f"{counts.most_common(1)[0][0]!r} appears twice in one object")
    return found
