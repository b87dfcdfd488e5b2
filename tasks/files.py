"""Files of rows: the columns that are read, and no others, of JSON Lines and parquet. Each fault is told with its row."""

from __future__ import annotations

import difflib
import gzip
import inspect
import json
import logging
import os
import sys
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.errors import MissingColumn, UserError, full_disk, one_line

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset

logger = logging.getLogger("xstilts")
SUFFIXES = ("parquet", "jsonl", "jsonl.gz")
CHUNK = 10_000  # rows that are looked at together
MIXED = "mixed"  # types that have nothing in common
DEPTH = 32  # lists and objects inside each other, in a column that is read
WORDS = {str: "text", int: "a number", float: "a number", bool: "true or false", list: "a list", dict: "an object"}


def load(path: Path, digest: str, columns: tuple[str, ...], optional: tuple[str, ...] = ()) -> Dataset:
    """The rows of one file, through a cache; the path is taken as it is, whatever characters it has.

    Args:
        digest: the file's sha256. The cache goes by it.
        columns: what is read. Other columns may hold anything.
        optional: what is read besides, where the file has it; what is of several types becomes text.

    Raises:
        UserError: the file cannot be read, or a row or column is not as it must be; names the file, row and column.
    """
    from datasets import config
    from datasets.fingerprint import Hasher
    from filelock import FileLock

    folder = str(config.HF_DATASETS_CACHE)
    if "::" in folder or "://" in folder:
        raise UserError(f"HF_HOME (or HF_DATASETS_CACHE) is {folder}, which the datasets library takes for an address, not a folder. "
                        "Name one without '::' and '://'.")
    code = inspect.getsource(sys.modules[__name__])
    cached = Path(folder, "rows", f"{Hasher.hash((digest, path.suffix, columns, optional, code))}.arrow")
    try:
        cached.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{cached}.lock"):  # of several processes the first reads the file
            return _cached(cached, path) or _write(cached, *_read(path, columns, optional))
    except OSError as error:
        if said := full_disk(error):
            raise UserError(f"{path} cannot be read into the cache of rows ({said}). Make room, or set HF_HOME to another "
                            "folder.") from error
        raise UserError(f"{path}: {one_line(error)}") from error


def _cached(cached: Path, path: Path) -> Dataset | None:
    import pyarrow as pa
    from datasets import Dataset

    try:
        return Dataset.from_file(str(cached)) if cached.is_file() else None
    except (pa.ArrowInvalid, OSError) as error:
        logger.warning("%s: the cache of it cannot be read (%s); making it anew.", path, one_line(error))
        return None


def _write(cached: Path, schema: pa.Schema, batches: Iterable[pa.Table]) -> Dataset:
    import pyarrow as pa
    from datasets import Dataset

    descriptor, part = tempfile.mkstemp(dir=cached.parent, suffix=".part")
    try:
        os.close(descriptor)
        with pa.OSFile(part, "wb") as stream, pa.ipc.new_stream(stream, schema) as writer:
            for batch in batches:
                writer.write_table(batch)
        os.replace(part, cached)
    finally:
        Path(part).unlink(missing_ok=True)
    return Dataset.from_file(str(cached))


def _read(path: Path, columns: tuple[str, ...], optional: tuple[str, ...]) -> tuple[pa.Schema, Iterator[pa.Table]]:
    return (_parquet if path.suffix == ".parquet" else _json_lines)(path, columns, optional)


def chosen(names: Iterable[str], columns: tuple[str, ...], optional: tuple[str, ...], where: str) -> list[str]:
    """Those of the columns that are read.

    Raises:
        MissingColumn: one of `columns` is not there.
        UserError: none is there, or one that is read stands twice.
    """
    names = list(names)
    there = ", ".join(names).encode("utf-8", "backslashreplace").decode() or "no column"
    missing = [column for column in columns if column not in names]
    if missing:
        near = difflib.get_close_matches(missing[0], names, 1)
        hint = f" Did you mean to rename {near[0]!r}?" if near else ""
        raise MissingColumn(f"{where}: column {missing[0]!r} is missing; it has {there}.{hint}")
    found = [column for column in dict.fromkeys((*columns, *optional)) if column in names]
    if not found:
        raise UserError(f"{where}: it has none of the columns {', '.join(optional)}; it has {there}.")
    if twice := [column for column in found if names.count(column) > 1]:
        raise UserError(f"{where}: it has two columns {twice[0]!r}.")
    return found


# ---- parquet ---------------------------------------------------------------------------------------------------------

def _parquet(path: Path, columns: tuple[str, ...], optional: tuple[str, ...]) -> tuple[pa.Schema, Iterator[pa.Table]]:
    import pyarrow as pa
    from datasets import Features
    from pyarrow import parquet

    where = str(path)
    try:
        file = parquet.ParquetFile(pa.OSFile(where))  # opened here: pyarrow takes some paths for addresses
        schema = file.schema_arrow
        names = chosen(schema.names, columns, optional, where)
        stored = _stored_features(schema.metadata or {}, names)
        features = {}
        for name in names:
            where = f"{path}, column {name!r}"
            features[name] = _feature(schema.field(name), stored.get(name))
        schema = Features(features).arrow_schema
    except UserError:
        raise
    except (pa.ArrowException, OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{where}: {one_line(error)}") from error

    def batches() -> Iterator[pa.Table]:
        before = 0
        try:
            for batch in file.iter_batches(columns=names):
                _check_bytes(batch, path, before)
                before += len(batch)
                yield pa.Table.from_batches([batch]).select(names).cast(schema)
        except pa.ArrowException as error:
            raise UserError(f"{path}, after row {before}: {one_line(error)}") from error

    return schema, batches()


def _stored_features(metadata: dict[bytes, bytes], names: list[str]) -> dict[str, Any]:
    """What the datasets library wrote into a file about the columns that are read; {} where it did not."""
    from datasets import Features

    try:
        stored = (json.loads(metadata.get(b"huggingface", b"{}")).get("info") or {}).get("features") or {}
        return dict(Features.from_dict({name: stored[name] for name in names if name in stored}))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"its metadata 'huggingface' does not say what the labels are called ({one_line(error)}); write the file "
                         "anew without it") from error


def _feature(field: pa.Field, stored: Any) -> Any:
    """The type of a column: the file's own; names of a ClassLabel are kept with integers of any width."""
    import pyarrow as pa
    from datasets import Features

    plain = Features.from_arrow_schema(pa.schema([field.remove_metadata()]))[field.name]
    inner = getattr(plain, "feature", plain)
    named = class_names(stored) and hasattr(stored, "feature") == hasattr(plain, "feature")
    return stored if named and pa.types.is_integer(getattr(inner, "pa_type", None) or pa.null()) else plain


def class_names(feature: Any) -> tuple[str, ...]:
    """The names of a ClassLabel, or of a list of them; () of anything else."""
    return tuple(getattr(getattr(feature, "feature", feature), "names", None) or ())


def _check_bytes(batch: pa.RecordBatch, path: Path, before: int) -> None:
    """Refuses text that is not UTF-8, which Arrow lets through until somebody looks at it."""
    import pyarrow as pa

    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        try:
            column.validate(full=True)
        except pa.ArrowInvalid as error:
            for row, value in enumerate(column, before + 1):
                try:
                    value.as_py()
                except UnicodeDecodeError:
                    raise UserError(f"{path}, row {row}, column {name!r}: not valid UTF-8.") from error
            raise UserError(f"{path}, column {name!r}: {one_line(error)}") from error


# ---- JSON Lines ------------------------------------------------------------------------------------------------------
# Python's own parser. pyarrow's takes text for dates, lets the first megabytes decide the types of all, and ends the process
# where lists lie deep in each other.

class Clash(Exception):
    """Values that have no type in common."""


def _json_lines(path: Path, columns: tuple[str, ...], optional: tuple[str, ...]) -> tuple[pa.Schema, Iterator[pa.Table]]:
    import pyarrow as pa

    wanted = tuple(dict.fromkeys((*columns, *optional)))
    names, kinds, rows = {}, dict.fromkeys(wanted), 0
    for chunk in _chunks(path, wanted):  # twice: a column's type must be that of every row
        for row in chunk:
            names |= row
        for column in wanted:
            mixed = column in optional and column not in columns
            kinds[column] = _kind_after(kinds[column], [row.get(column) for row in chunk], path, rows, column, mixed)
        rows += len(chunk)
    if not rows:
        raise UserError(f"{path}: it is empty.")
    found = chosen(names, columns, optional, str(path))
    try:
        schema = pa.schema([(column, _arrow_type(kinds[column])) for column in found])
    except UnicodeEncodeError as error:
        raise UserError(f"{path}: a name in a column that is read is not valid UTF-8 ({error.object!r}).") from error

    def batches() -> Iterator[pa.Table]:
        before = 0
        for chunk in _chunks(path, wanted):
            columns = {column: [row.get(column) for row in chunk] for column in found}
            columns |= {column: list(map(_text, columns[column])) for column in found if kinds[column] == MIXED}
            arrays = [_array(columns[column], schema.field(column).type, path, before, column) for column in found]
            yield pa.Table.from_arrays(arrays, schema=schema)
            before += len(chunk)

    return schema, batches()


def _chunks(path: Path, wanted: Iterable[str]) -> Iterator[list[dict]]:
    """The rows of a file, so many at a time."""
    repeated: list[tuple[dict, list[str]]] = []  # objects in which a name stands twice

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
                    _check_names(chunk[-1], repeated, wanted, where)
                    repeated.clear()
                if len(chunk) == CHUNK:
                    yield chunk
                    chunk = []
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path}, row {row + 1}: {one_line(error)}") from error
    if chunk:
        yield chunk


def _parse(line: bytes, decode, where: str) -> dict:
    text = line.decode("utf-8", "surrogateescape")  # bytes that are no UTF-8 matter in the columns that are read, see `_array`
    try:
        value = decode(text)
    except json.JSONDecodeError as error:
        what = f"JSON ({error.msg} at column {error.colno})" if _is_utf8(text) else "UTF-8"
        raise UserError(f"{where} is not valid {what}; expected one JSON object a line.") from error
    except RecursionError as error:
        raise UserError(f"{where} cannot be read: lists or objects lie too deep in each other.") from error
    except ValueError as error:  # a number of thousands of digits
        raise UserError(f"{where} cannot be read ({one_line(error)}).") from error
    if not isinstance(value, dict):
        raise UserError(f"{where} is not a JSON object but {WORDS.get(type(value), 'null')}; expected one object a line.")
    return value


def _is_utf8(text: str) -> bool:
    return not any("\ud800" <= letter <= "\udfff" for letter in text)


def _check_names(row: dict, repeated: list[tuple[dict, list[str]]], wanted: Iterable[str], where: str) -> None:
    """Refuses a name that stands twice in a column that is read: nobody knows which is meant."""
    for found, names in repeated:
        for column in wanted:
            if names.count(column) > 1 if found is row else _holds(row.get(column), found):
                name = next(name for name in names if names.count(name) > 1)
                raise UserError(f"{where}, column {column!r}: {name!r} stands twice in one object.")


def _holds(value: Any, some: dict) -> bool:
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return value is some or any(_holds(one, some) for one in inside)


# ---- types: None (nothing but null), a Python type, (list, type of the items), {name: type} of objects ---------------------

def _kind_after(kind: Any, values: list, path: Path, before: int, column: str, mixed: bool) -> Any:
    """The type of a column's values so far, with these; MIXED of several, if they may be."""
    try:
        return kind if kind == MIXED else _merged(kind, _kind(values))
    except Clash:
        if mixed:
            return MIXED
        for row, value in enumerate(values, before + 1):
            try:
                kind = _merged(kind, _kind([value]))
            except Clash as clash:
                raise UserError(f"{path}, row {row}, column {column!r}: {clash}.") from None
        raise


def _kind(values: Iterable, depth: int = 0) -> Any:
    """The type that all values have."""
    values = [value for value in values if value is not None]
    found = set(map(type, values))
    if depth > DEPTH:
        raise Clash(f"lists or objects lie more than {DEPTH} deep in each other")
    if found == {list}:
        return list, _kind(chain.from_iterable(values), depth + 1)
    if found == {dict}:
        names = dict.fromkeys(chain.from_iterable(values))
        return {name: _kind((value.get(name) for value in values), depth + 1) for name in names}
    if found == {int, float}:
        return float
    if len(found) > 1:
        raise Clash(f"{' and '.join(sorted({WORDS[one] for one in found}))} side by side")
    return found.pop() if found else None


def _merged(a: Any, b: Any, at: str = "") -> Any:
    """The type of values of both types."""
    if a is None or b is None or a == b:
        return b if a is None else a
    if isinstance(a, dict) and isinstance(b, dict):
        return {name: _merged(a.get(name), b.get(name), f"{name!r} is ") for name in {**a, **b}}
    if isinstance(a, tuple) and isinstance(b, tuple):
        return list, _merged(a[1], b[1], at)
    if a in (int, float) and b in (int, float):
        return float
    raise Clash(f"{at}{_word(b)}, but the rows before have {_word(a)}")


def _word(kind: Any) -> str:
    return WORDS[kind if isinstance(kind, type) else list if isinstance(kind, tuple) else dict]


def _text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value)


def _arrow_type(kind: Any) -> pa.DataType:
    import pyarrow as pa

    if isinstance(kind, tuple):
        return pa.list_(_arrow_type(kind[1]))
    if isinstance(kind, dict):
        return pa.struct([(name, _arrow_type(one)) for name, one in kind.items()])
    return {None: pa.null(), str: pa.string(), MIXED: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}[kind]


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
