"""Read files of rows, JSON Lines or parquet. Reads only the given columns. Errors name file, row and column."""

from __future__ import annotations

import functools
import inspect
import json
import logging
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.columns import columns_to_read
from tasks.errors import UserError, file_for_folder, full_disk, one_line
from tasks.json_lines import chunks, read_json_lines

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset
    from pyarrow import parquet

logger = logging.getLogger("xstilts")
SUFFIXES = ("parquet", "jsonl", "jsonl.gz")
# whose code the cache of rows depends on
CODE = (__name__, "tasks.json_lines", "tasks.columns")


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
    code = [inspect.getsource(sys.modules[name]) for name in CODE]
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
        raise UserError(file_for_folder(error) or f"{path}: {one_line(error)}") from error


def column_names(path: Path) -> list[str]:
    """Return the names of all columns of a file, in the order in which they first come.

    Raises:
        UserError: the file cannot be read.
    """
    stat = path.stat()
    return list(_column_names(path, stat.st_mtime_ns, stat.st_size))


@functools.lru_cache(maxsize=4)  # reading the names of JSON Lines takes as long as reading the rows
def _column_names(path: Path, changed: int, size: int) -> list[str]:
    if path.suffix == ".parquet":
        import pyarrow as pa
        from pyarrow import parquet

        try:
            return parquet.ParquetFile(pa.OSFile(str(path))).schema_arrow.names
        except (pa.ArrowException, OSError, ValueError) as error:
            raise UserError(f"{path}: {one_line(error)}") from error
    names: dict[str, None] = {}
    for chunk in chunks(path, ()):
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
    return (_parquet if path.suffix == ".parquet" else read_json_lines)(path, columns, optional)


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
            features[name] = _feature(schema.field(name), stored.get(name), file)
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


def _feature(field: pa.Field, stored: Any, file: parquet.ParquetFile) -> Any:
    """The feature of a column, from its type in the file. A ClassLabel keeps its names for integers of any width. Text
    beside such names is text.

    Raises:
        ValueError: the metadata name labels, and the column holds their numbers as decimals or digits.
    """
    import pyarrow as pa
    from datasets import Features

    plain = Features.from_arrow_schema(pa.schema([field.remove_metadata()]))[field.name]
    inner = getattr(plain, "feature", plain)
    if not (names := class_names(stored)):
        return plain
    kind = getattr(inner, "pa_type", None) or pa.null()
    if pa.types.is_integer(kind) and hasattr(stored, "feature") == hasattr(plain, "feature"):
        return stored
    values = file.read(columns=[field.name])[0].combine_chunks()
    values = values.flatten() if hasattr(values, "flatten") and hasattr(plain, "feature") else values
    if all(
        value is None or (isinstance(value, str) and (not value.isdecimal() or value in names))
        for value in values.unique().to_pylist()
    ):
        return plain
    raise ValueError(
        f"the metadata 'huggingface' name the labels {', '.join(names)}, but the column holds "
        f"{field.type}, expected integers. Write the file again with integers, or without the metadata."
    )


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
