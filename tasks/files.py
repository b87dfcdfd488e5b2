"""Read files of rows, JSON Lines or parquet. Reads only the given columns. Errors name file, row and column."""

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
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.errors import MissingColumn, UserError, full_disk, one_line

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset

logger = logging.getLogger("xstilts")
SUFFIXES = ("parquet", "jsonl", "jsonl.gz")
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


def load(path: Path, digest: str, columns: tuple[str, ...], optional: tuple[str, ...] = ()) -> Dataset:
    """Return the rows of one file, cached on disk by content. The path is never read as a pattern or an address.

    Args:
        digest: the file's sha256, the key of the cache.
        columns: columns that must be there. All columns not named here are ignored, whatever they hold.
        optional: columns that are read if they are there. One that holds several types becomes text.

    Raises:
        UserError: the file cannot be read, a column is missing, or a row has another type.
    """
    from datasets import config
    from datasets.fingerprint import Hasher
    from filelock import FileLock

    folder = str(config.HF_DATASETS_CACHE)
    if "::" in folder or "://" in folder:
        raise UserError(
            f"HF_HOME (or HF_DATASETS_CACHE) is {folder}, and the datasets library reads '::' and '://' as an "
            "address. Name a folder without them."
        )
    code = inspect.getsource(sys.modules[__name__])
    cached = Path(folder, "rows", f"{Hasher.hash((digest, path.suffix, columns, optional, code))}.arrow")
    try:
        cached.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{cached}.lock"):  # one process parses the file, the others wait and read its cache
            return _cached(cached, path) or _write(cached, *_read(path, columns, optional))
    except OSError as error:
        if message := full_disk(error):
            raise UserError(
                f"{path} cannot be read into the cache of rows ({message}). Free disk space, or set HF_HOME to "
                "another folder."
            ) from error
        raise UserError(f"{path}: {one_line(error)}") from error


def column_names(path: Path) -> list[str]:
    """Return the names of all columns of a file, in the order in which they first come.

    Raises:
        UserError: the file cannot be read.
    """
    if path.suffix == ".parquet":
        import pyarrow as pa
        from pyarrow import parquet

        try:
            return parquet.ParquetFile(pa.OSFile(str(path))).schema_arrow.names
        except (pa.ArrowException, OSError, ValueError) as error:
            raise UserError(f"{path}: {one_line(error)}") from error
    names: dict[str, None] = {}
    for chunk in _chunks(path, ()):
        for row in chunk:
            names |= dict.fromkeys(row)
    return list(names)


def _cached(cached: Path, path: Path) -> Dataset | None:
    import pyarrow as pa
    from datasets import Dataset

    try:
        return Dataset.from_file(str(cached)) if cached.is_file() else None
    except (pa.ArrowInvalid, OSError) as error:
        logger.warning("%s: its cache is corrupt (%s); rebuilding it.", path, one_line(error))
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
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(part, 0o666 & ~umask)  # mkstemp makes files that only their owner can read
        os.replace(part, cached)
    finally:
        Path(part).unlink(missing_ok=True)
    return Dataset.from_file(str(cached))


def _read(path: Path, columns: tuple[str, ...], optional: tuple[str, ...]) -> tuple[pa.Schema, Iterator[pa.Table]]:
    return (_parquet if path.suffix == ".parquet" else _json_lines)(path, columns, optional)


def columns_to_read(
    names: Iterable[str], columns: tuple[str, ...], optional: tuple[str, ...], where: str
) -> list[str]:
    """Return the names in `columns` and, where present, in `optional`.

    Raises:
        MissingColumn: one of `columns` is missing.
        UserError: nothing is left to read, or two columns have the same name.
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


# ---- parquet --------------------------------------------------------------------------------------------------------


def _parquet(path: Path, columns: tuple[str, ...], optional: tuple[str, ...]) -> tuple[pa.Schema, Iterator[pa.Table]]:
    import pyarrow as pa
    from datasets import Features
    from pyarrow import parquet

    where = str(path)
    try:
        file = parquet.ParquetFile(pa.OSFile(where))  # an open file: pyarrow would read some paths as addresses
        schema = file.schema_arrow
        names = columns_to_read(schema.names, columns, optional, where)
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
    """The features that the datasets library stored in a parquet file, of the columns that are read."""
    from datasets import Features

    try:
        stored = (json.loads(metadata.get(b"huggingface", b"{}")).get("info") or {}).get("features") or {}
        return dict(Features.from_dict({name: stored[name] for name in names if name in stored}))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(
            f"the metadata 'huggingface' cannot be read ({one_line(error)}), so the names of the labels are unknown. "
            "Write the file again without it."
        ) from error


def _feature(field: pa.Field, stored: Any) -> Any:
    """The feature of a column, from its type in the file. A ClassLabel keeps its names for integers of any width."""
    import pyarrow as pa
    from datasets import Features

    plain = Features.from_arrow_schema(pa.schema([field.remove_metadata()]))[field.name]
    inner = getattr(plain, "feature", plain)
    named = class_names(stored) and hasattr(stored, "feature") == hasattr(plain, "feature")
    return stored if named and pa.types.is_integer(getattr(inner, "pa_type", None) or pa.null()) else plain


def class_names(feature: Any) -> tuple[str, ...]:
    """The names of a ClassLabel, or of a list of ClassLabels; () for any other feature."""
    return tuple(getattr(getattr(feature, "feature", feature), "names", None) or ())


def _check_bytes(batch: pa.RecordBatch, path: Path, before: int) -> None:
    """Raise if text is not UTF-8. Arrow does not check this when it reads."""
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


# ---- JSON Lines -----------------------------------------------------------------------------------------------------
# Parsed by Python's json module. pyarrow's reader turns text into dates, infers types from the first megabytes only,
# and crashes the process on deep nesting.


class Clash(Exception):
    """Values have no common type."""


def _json_lines(
    path: Path, columns: tuple[str, ...], optional: tuple[str, ...]
) -> tuple[pa.Schema, Iterator[pa.Table]]:
    import pyarrow as pa

    wanted = tuple(dict.fromkeys((*columns, *optional)))
    names: dict[str, Any] = {}
    kinds, rows = dict.fromkeys(wanted), 0
    for chunk in _chunks(path, wanted):  # first pass: find the type that fits every row
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
        for chunk in _chunks(path, wanted):
            columns = {column: [row.get(column) for row in chunk] for column in found}
            columns |= {column: list(map(_text, columns[column])) for column in found if kinds[column] == MIXED}
            arrays = [_array(columns[column], schema.field(column).type, path, before, column) for column in found]
            yield pa.Table.from_arrays(arrays, schema=schema)
            before += len(chunk)

    return schema, batches()


def _chunks(path: Path, wanted: Iterable[str]) -> Iterator[list[dict]]:
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
        what = f"JSON ({error.msg} at column {error.colno})" if _is_utf8(text) else "UTF-8"
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


def _is_utf8(text: str) -> bool:
    return not any("\ud800" <= letter <= "\udfff" for letter in text)


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
