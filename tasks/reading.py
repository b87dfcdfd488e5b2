"""Reading back the small JSON files that these programs write: whatever lies in a file's place, one error says so.

A file may have been cut, edited, replaced by a folder or by a named pipe, or filled with something else. A reader here
returns its content or raises UserError. It does not wait for a pipe, and does not fill the memory.
"""

from __future__ import annotations

import json
import os
import stat
from collections import Counter
from collections.abc import Callable
from typing import Any, BinaryIO

from tasks.errors import UserError, first_line

LARGEST = 64 * 2**20  # bytes; 1,000 languages in 25 layers with 12 figures each are 10 MiB
DEEPEST = 32  # levels; ours have 8
_KINDS = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket"}


def open_file(path: str | os.PathLike) -> BinaryIO:
    """Return the file, opened for reading.

    Raises:
        OSError: it cannot be opened, or it is no regular file. A pipe is not waited for.
    """
    _check_kind(os.stat(path).st_mode)
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        _check_kind(os.fstat(descriptor).st_mode)  # another file may have taken its place
    except OSError:
        os.close(descriptor)
        raise
    return open(descriptor, "rb")


def read_bytes(path: str | os.PathLike) -> bytes:
    """Return the content of a file of at most `LARGEST` bytes.

    Raises:
        OSError: see `open_file`; or the file is larger.
    """
    with open_file(path) as file:
        content = file.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise OSError(f"it has more than {LARGEST // 2**20} MiB")
    return content


def read_json(path: str | os.PathLike, advice: str, constant: Callable[[str], Any] | None = None) -> Any:
    """Return the value in a JSON file.

    Args:
        advice: what to do where it cannot be read; ends the error's sentence.
        constant: as `parse_constant` of `json.loads`, for NaN and the infinities.

    Raises:
        UserError: the file cannot be opened, is no regular file, is too large, is not UTF-8, is no JSON, has a key
            twice in one object, or is nested too deeply.
    """
    try:
        return parse_json(read_bytes(path).decode("utf-8"), constant)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else first_line(error)
        raise UserError(f"{path} cannot be read ({reason}){advice}") from error


def read_object(path: str | os.PathLike, advice: str, constant: Callable[[str], Any] | None = None) -> dict[str, Any]:
    """Return the JSON object in a file; raise as `read_json`, and where it holds another value."""
    found = read_json(path, advice, constant)
    if not isinstance(found, dict):
        raise UserError(f"{path} cannot be read (it holds {type(found).__name__}, expected an object){advice}")
    return found


def parse_json(text: str, constant: Callable[[str], Any] | None = None) -> Any:
    """Return the JSON value in `text`; raise ValueError where there is none, a key appears twice, or it is nested too
    deeply."""
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


def _check_kind(mode: int) -> None:
    if not stat.S_ISREG(mode):
        raise OSError(f"it is {_KINDS.get(stat.S_IFMT(mode), 'a device')}, expected a file")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        counts = Counter(key for key, _ in pairs)
        raise ValueError(f"{counts.most_common(1)[0][0]!r} appears twice in one object")
    return found
