"""Read JSON Lines with Python's json module.

pyarrow's reader turns text into dates, infers types from the first megabytes only, and crashes the process on deep
nesting.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.columns import columns_to_read
from tasks.errors import UserError, one_line
from tasks.reading import is_utf8

if TYPE_CHECKING:
    import pyarrow as pa

CHUNK = 10_000  # rows parsed at a time
MIXED = "mixed"  # the type of an optional column whose rows have different types
DEPTH = 32  # how deep lists and objects may be nested in a column that is read
TYPE_NAMES = {
    str: "text",
    int: "a number",
    float: "a number",
    bool: "true or false",
    list: "a list",
    dict: "an object",
}


class Clash(Exception):
    """Values have no common type."""


def read_json_lines(
    path: Path, columns: tuple[str, ...], optional: tuple[str, ...]
) -> tuple[pa.Schema, Iterator[pa.Table]]:
    """Return (the schema of a JSON Lines file, its rows in batches).

    Args:
        columns: columns that must be there.
        optional: columns that are read if they are there. One that holds several types becomes text.

    Raises:
        UserError: a line is not a JSON object, a column is missing, or a row has another type than the rows before.
    """
    import pyarrow as pa

    wanted = tuple(dict.fromkeys((*columns, *optional)))
    names: dict[str, Any] = {}
    kinds, rows = dict.fromkeys(wanted), 0
    for chunk in chunks(path, wanted):  # first pass: find the type that fits every row
        for row in chunk:
            names |= row
        for column in wanted:
            mixed = column in optional and column not in columns
            kinds[column] = _kind_after(kinds[column], [row.get(column) for row in chunk], path, rows, column, mixed)
        rows += len(chunk)
    if not rows:
        raise UserError(f"{path}: it is empty.")
    found = columns_to_read(names, columns, optional, str(path))
    try:
        schema = pa.schema([(column, _arrow_type(kinds[column])) for column in found])
    except UnicodeEncodeError as error:
        raise UserError(f"{path}: a name in a column that is read is not valid UTF-8 ({error.object!r}).") from error

    def batches() -> Iterator[pa.Table]:
        before = 0
        for chunk in chunks(path, wanted):
            columns = {column: [row.get(column) for row in chunk] for column in found}
            columns |= {column: list(map(_text, columns[column])) for column in found if kinds[column] == MIXED}
            arrays = [_array(columns[column], schema.field(column).type, path, before, column) for column in found]
            yield pa.Table.from_arrays(arrays, schema=schema)
            before += len(chunk)

    return schema, batches()


def chunks(path: Path, wanted: Iterable[str]) -> Iterator[list[dict]]:
    """Yield the rows of a file, CHUNK at a time."""
    repeated: list[tuple[dict, list[str]]] = []  # objects with a repeated name, and their names

    def pairs(items: list[tuple[str, Any]]) -> dict:
        found = dict(items)
        if len(found) < len(items):
            repeated.append((found, [name for name, _ in items]))
        return found

    decode, row, chunk = json.JSONDecoder(object_pairs_hook=pairs, strict=False).decode, 0, []
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as stream:
            for number, line in enumerate(stream, 1):
                line = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line  # a byte order mark
                if not line.strip():
                    continue
                row += 1
                where = f"{path}, row {row}" + (f" (line {number})" if row != number else "")
                chunk.append(_parse(line, decode, where))
                if repeated:
                    _check_repeated_names(chunk[-1], repeated, wanted, where)
                    repeated.clear()
                if len(chunk) == CHUNK:
                    yield chunk
                    chunk = []
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path}, row {row + 1}: {one_line(error)}") from error
    if chunk:
        yield chunk


def _parse(line: bytes, decode: Callable[[str], Any], where: str) -> dict:
    # `_array` raises on invalid bytes, but only in columns that are read
    text = line.decode("utf-8", "surrogateescape")
    try:
        value = decode(text)
    except json.JSONDecodeError as error:
        what = f"JSON ({error.msg} at column {error.colno})" if is_utf8(text) else "UTF-8"
        raise UserError(f"{where} is not valid {what}; expected one JSON object a line.") from error
    except RecursionError as error:
        raise UserError(f"{where} cannot be read: lists or objects are nested too deep.") from error
    except ValueError as error:  # a number of thousands of digits
        raise UserError(f"{where} cannot be read ({one_line(error)}).") from error
    if not isinstance(value, dict):
        raise UserError(
            f"{where} is not a JSON object but {TYPE_NAMES.get(type(value), 'null')}; expected one object a line."
        )
    return value


def _check_repeated_names(
    row: dict, repeated: list[tuple[dict, list[str]]], wanted: Iterable[str], where: str
) -> None:
    """Raise if an object in a column that is read has the same name twice: it is unclear which value counts."""
    for found, names in repeated:
        for column in wanted:
            if names.count(column) > 1 if found is row else _contains(row.get(column), found):
                name = next(name for name in names if names.count(name) > 1)
                raise UserError(f"{where}, column {column!r}: {name!r} appears twice in one object.")


def _contains(value: Any, target: dict) -> bool:
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return value is target or any(_contains(item, target) for item in items)


# ---- types: None (only nulls), a Python type, (list, type of the items), or {name: type} for objects ----------------


def _kind_after(kind: Any, values: list, path: Path, before: int, column: str, mixed: bool) -> Any:
    """The common type of a column's values so far and these; MIXED if there is none and `mixed` allows it."""
    try:
        return kind if kind == MIXED else _merge(kind, _kind(values))
    except Clash:
        if mixed:
            return MIXED
        for row, value in enumerate(values, before + 1):
            try:
                kind = _merge(kind, _kind([value]))
            except Clash as clash:
                raise UserError(f"{path}, row {row}, column {column!r}: {clash}.") from None
        raise


def _kind(values: Iterable, depth: int = 0) -> Any:
    """The common type of all values. Raise Clash if there is none."""
    values = [value for value in values if value is not None]
    found = set(map(type, values))
    if depth > DEPTH:
        raise Clash(f"lists or objects are nested more than {DEPTH} deep")
    if found == {list}:
        return list, _kind(chain.from_iterable(values), depth + 1)
    if found == {dict}:
        names = dict.fromkeys(chain.from_iterable(values))
        return {name: _kind((value.get(name) for value in values), depth + 1) for name in names}
    if found == {int, float}:
        return float
    if len(found) > 1:
        raise Clash(f"{' and '.join(sorted({TYPE_NAMES[kind] for kind in found}))} side by side")
    return found.pop() if found else None


def _merge(a: Any, b: Any, at: str = "") -> Any:
    """The common type of two types. Raise Clash if there is none."""
    if a is None or b is None or a == b:
        return b if a is None else a
    if isinstance(a, dict) and isinstance(b, dict):
        return {name: _merge(a.get(name), b.get(name), f"{name!r} is ") for name in {**a, **b}}
    if isinstance(a, tuple) and isinstance(b, tuple):
        return list, _merge(a[1], b[1], at)
    if a in (int, float) and b in (int, float):
        return float
    raise Clash(f"{at}{_type_name(b)}, but the rows before have {_type_name(a)}")


def _type_name(kind: Any) -> str:
    return TYPE_NAMES[kind if isinstance(kind, type) else list if isinstance(kind, tuple) else dict]


def _text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value)


def _arrow_type(kind: Any) -> pa.DataType:
    import pyarrow as pa

    if isinstance(kind, tuple):
        return pa.list_(_arrow_type(kind[1]))
    if isinstance(kind, dict):
        return pa.struct([(name, _arrow_type(inner)) for name, inner in kind.items()])
    return {
        None: pa.null(),
        str: pa.string(),
        MIXED: pa.string(),
        int: pa.int64(),
        float: pa.float64(),
        bool: pa.bool_(),
    }[kind]


def _array(values: list, kind: pa.DataType, path: Path, before: int, column: str) -> pa.Array:
    import pyarrow as pa

    try:
        return pa.array(values, kind)
    except (pa.ArrowException, OverflowError, UnicodeEncodeError) as error:
        for row, value in enumerate(values, before + 1):
            try:
                pa.array([value], kind)
            except UnicodeEncodeError as why:
                raise UserError(f"{path}, row {row}, column {column!r}: not valid UTF-8.") from why
            except OverflowError as why:
                raise UserError(f"{path}, row {row}, column {column!r}: a number of more than 64 bits.") from why
            except pa.ArrowException as why:
                raise UserError(f"{path}, row {row}, column {column!r}: {one_line(why)}") from why
        raise UserError(f"{path}, column {column!r}: {one_line(error)}") from error
