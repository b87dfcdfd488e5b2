"""Read rows from the Hub at a pinned revision, or from a folder with the same rows and columns."""

from __future__ import annotations

import copy
import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks import files, hub, overlap
from tasks.columns import columns_to_read
from tasks.errors import MissingRows, RowError, UserError, nearest
from tasks.expressions import alternatives, shards, take_slice, whole_split
from tasks.reading import read_object

if TYPE_CHECKING:
    import numpy as np
    from datasets import Dataset

# names, or a function that picks them from all column names
Columns = tuple[str, ...] | Callable[[list[str]], tuple[str, ...]]
ROUND_TRIP = ".roundtrip"  # suffix of configs with round-trip translations of English rows


def sha256(*paths: Path) -> str:
    """Return the hex SHA-256 of a file, or of several one after another."""
    digest = hashlib.sha256()
    for path in paths:
        with open(path, "rb") as stream:
            hashlib.file_digest(stream, lambda: digest)
    return digest.hexdigest()


@dataclass(frozen=True)
class Read:
    """The rows of one source split, and their provenance.

    Attributes:
        data: the rows, in the source's columns.
        record: the provenance, as results.json has it: id, config, split, revision or sha256, file, first (the number
            of the first row, from 0), rows, used_as (`tasks.overlap.Use`), notes.
    """

    data: Dataset
    record: dict[str, Any]

    @property
    def where(self) -> str:
        """The file, and the slice in which rows are counted, for errors that name a row."""
        if "file" not in self.record:
            return f"{self.record['id']} ({self.record['config']}, {self.record['split']})"
        cut = self.record["split"].partition("[")[2]
        return self.record["file"] + (f" [{cut}" if cut else "")

    def note(self, text: str) -> None:
        """Add a remark on these rows to the record."""
        self.record.setdefault("notes", []).append(text)


@dataclass(frozen=True)
class Loaded:
    """The examples of a split and language, and the reads they come from (at least one).

    Attributes:
        examples: a Dataset in the form's columns, or pools; see `tasks.base.Examples`.
        sizes: how many of the examples each read gave, in order; () where this is not known.
    """

    examples: Any
    reads: tuple[Read, ...]
    sizes: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Raise UserError if two of the reads, which --splits joins by a +, hold the same rows."""
        overlap.refuse_repeats([read.record for read in self.reads])

    @property
    def where(self) -> str:
        """The files, for errors."""
        return " + ".join(dict.fromkeys(read.where for read in self.reads))

    def note(self, text: str) -> None:
        """Add a remark on the examples to the last record."""
        self.reads[-1].note(text)

    @property
    def parts(self) -> np.ndarray | None:
        """The number of each example's part, of several splits that --splits joins; None for one split."""
        import numpy as np

        splits = {whole_split(read.record["split"]) for read in self.reads}
        return np.repeat(np.arange(len(self.sizes)), self.sizes) if self.sizes and len(splits) > 1 else None


class Rows:
    """The rows of one source tree.

    Attributes:
        records: the provenance of all reads, in order; `data` in results.json.
        requested: the (task, split) pairs whose rows were requested.

    Args:
        root: ``"hub"``, or a folder laid out as ``<hub id with / as __>/<config>/<split>.{parquet,jsonl,jsonl.gz}``.
        splits: overrides such as ``"hellaswag.train=validation[:8000]"``: for that task and split, read that slice of
            that source split instead (the Hub's slicing syntax). Expressions separated by commas are alternatives: the
            first whose file exists is read. Expressions joined by ``+`` are concatenated.
        translations: a second folder of the same layout, with translated rows (`python -m xstilts.translate` writes
            one). Rows that a folder `root` lacks are read from it; it takes precedence over the Hub. The record names
            the translation model.

    Raises:
        UserError: a folder does not exist, or an override has another form.
    """

    def __init__(
        self,
        root: str | Path = "hub",
        splits: list[str] | tuple[str, ...] = (),
        translations: str | Path | None = None,
    ):
        self.local = str(root) != "hub"
        self.root = Path(root)
        self.translations = Path(translations) if translations else None
        self.suffix = ""  # added to every config
        if self.local and not self.root.is_dir():
            raise UserError(
                f"--data_root {root} is not a folder. Give 'hub', or a folder of rows such as data/world "
                "(made by `python -m world --out data/world`)."
            )
        if self.translations and not self.translations.is_dir():
            raise UserError(f"--translations {translations} is not a folder. `python -m xstilts.translate` makes one.")
        self.overrides: dict[tuple[str, str], str] = {}
        self.requested: set[tuple[str, str]] = set()
        for text in splits:
            match = re.fullmatch(r"(\w+)\.(train|dev|test)=(.+)", text)
            if not match:
                raise UserError(
                    f"--splits {text!r} is not of the form task.split=source, e.g. "
                    "hellaswag.train=validation[:8000] (split is train, dev or test)."
                )
            if (before := self.overrides.setdefault((match[1], match[2]), match[3])) != match[3]:
                raise UserError(
                    f"--splits {match[1]}.{match[2]} is given twice: {before} and {match[3]}. Give one; a + between "
                    "source splits joins their rows."
                )
        self.records: list[dict] = []
        # the last file (key, rows, sha256): a file of many languages is read once per language
        self._last: tuple[tuple, Dataset, str] | None = None
        # splits loaded from the Hub, for the same reason
        self._loaded: dict[tuple, tuple[Dataset, dict]] = {}

    # ---- available rows -------------------------------------------------------------------------------------------

    def roundtrip(self) -> Rows:
        """Return these rows with the round-trip translation of every config, from `translations`.

        Raises:
            UserError: there is no folder of translations.
        """
        if not self.translations:
            raise UserError("Round-trip translations of English rows need their folder: give --translations FOLDER.")
        other = copy.copy(self)
        other.suffix = ROUND_TRIP
        return other

    def folder(self, source: str) -> Path:
        """Return the folder with a Hub id's configs."""
        return self.root / source.replace("/", "__")

    def configs(self, source: str) -> list[str]:
        """Return the configs of `source` in the folder, sorted; empty for the Hub."""
        folder = self.folder(source)
        return sorted(p.name for p in folder.iterdir() if p.is_dir()) if self.local and folder.is_dir() else []

    def splits(self, source: str, config: str) -> list[str]:
        """Return the splits that a config of `source` has in the folder, sorted."""
        ends = tuple(f".{suffix}" for suffix in files.SUFFIXES)
        names = [path.name for path in (self.folder(source) / config).glob("*") if path.name.endswith(ends)]
        return sorted({name.partition(".")[0] for name in names})

    def expression(self, task: str, split: str, default: str) -> str:
        """Return the source split to read for a task's split: the user's override, or the adapter's `default`."""
        self.requested.add((task, split))
        return self.overrides.get((task, split), default)

    def file(self, source: str, config: str, split: str) -> Path | None:
        """Return the file of a source split in the folders, or None. `split` may also be a file name.

        Raises:
            UserError: two files hold the split.
        """
        for root in filter(None, (self.root if self.local else None, self.translations)):
            folder = root / self.folder(source).name / config
            found = [path for suffix in files.SUFFIXES if (path := folder / f"{split}.{suffix}").is_file()]
            if len(found) > 1:
                raise UserError(f"{found[0]} and {found[1].name} both hold {split!r}. Keep one of them.")
            if found or (folder / split).is_file():
                return found[0] if found else folder / split
        return None

    def digest(self, record: Mapping[str, Any]) -> str | None:
        """Return the SHA-256 that the file of a data record has now; None if it is not there.

        With `files`, how many there are, its split is patterns of file names below its config.
        """
        if "files" in record:
            folder = self.folder(record["id"]) / record["config"]
            paths = [path for part in record["split"].split("+") for path in sorted(folder.glob(part))]
            return sha256(*paths) if paths else None
        file = self.file(record["id"], record["config"], record["split"].partition("[")[0])
        return sha256(file) if file else None

    def has(self, source: str, config: str, expression: str) -> bool:
        """Whether the folders have a split of the expression. Always True for the Hub, which is not asked."""
        return not self.local or all(
            any(self.file(source, config + self.suffix, base) for base, _ in alternatives(part))
            for part in expression.split("+")
        )

    # ---- reading -------------------------------------------------------------------------------------------------

    def read(
        self,
        source: str,
        config: str,
        expression: str,
        revision: str | None,
        columns: Columns,
        url: str = "",
        optional: tuple[str, ...] = (),
        use: overlap.Use | None = None,
    ) -> Read:
        """Return the rows of one split, and add their provenance to the records.

        Args:
            source: the Hub id.
            config: the config.
            expression: the split, with slices or alternatives, see the class.
            revision: the Hub revision; None: what `main` is now.
            columns: the required columns, or a function that picks them from all column names.
            url: read instead of a Hub id that the library cannot load.
            optional: columns read if present. All others are ignored.
            use: what the rows are for; None: they are neither trained on nor scored, such as a lexicon.

        Raises:
            UserError: no such file, an unreadable file, a missing column, or no rows; or see `keep`.
        """
        return self.keep(self.peek(source, config, expression, revision, columns, url, optional), use)

    def keep(self, read: Read, use: overlap.Use | None) -> Read:
        """Add the provenance of a read to the records.

        Raises:
            UserError: rows would be both trained on and scored.
        """
        if use:
            read.record["used_as"] = [str(use)]
            overlap.refuse(self.records, read.record)
        self.records.append(read.record)
        return read

    def peek(
        self,
        source: str,
        config: str,
        expression: str,
        revision: str | None,
        columns: Columns,
        url: str = "",
        optional: tuple[str, ...] = (),
    ) -> Read:
        """Return what `read` returns, without adding to the records."""
        config += self.suffix
        if self.local or self.suffix or any(self.file(source, config, base) for base, _ in alternatives(expression)):
            data, record = self._read_file(source, config, expression, columns, optional)
        else:
            data, record = self._read_hub(source, config, expression, revision, url)
            columns = picked(columns, data.column_names, f"{source} ({config})") if callable(columns) else columns
            data = data.select_columns(columns_to_read(data.column_names, columns, optional, f"{source} ({config})"))
        if not len(data):
            raise UserError(f"{record.get('file', f'{source} ({config})')}: split {expression!r} has no rows.")
        return Read(data, {"id": source, "config": config, **record, "rows": len(data)})

    def _read_file(
        self, source: str, config: str, expression: str, columns: Columns, optional: tuple[str, ...]
    ) -> tuple[Dataset, dict]:
        for base, cut in alternatives(expression):
            path = self.file(source, config, base)
            if path is None:
                continue
            whole, digest = self._load_file(path, columns, optional)
            data, first = take_slice(whole, cut, path)
            record = {"split": base + cut, "first": first, "order": overlap.order_of(whole)}
            record |= {"sha256": digest, "file": str(path)}
            if self.translations and path.is_relative_to(self.translations):
                record["translated_by"] = translator(path)
            return data, record
        raise self._no_rows(source, config, expression)

    def _no_rows(self, source: str, config: str, expression: str) -> MissingRows:
        """Return the error for rows that are in no file: where they were looked for, and what is there."""
        root = self.root if self.local or self.translations is None else self.translations
        folder = root / self.folder(source).name
        wanted = ", ".join(str(folder / config / f"{b}.parquet") for b, _ in alternatives(expression))
        lines = [f"No rows at {wanted} (.jsonl and .jsonl.gz are read too)."]
        have, there = self.configs(source), sorted(path.name for path in (folder / config).glob("*"))
        if there:
            lines += [f"{folder / config} holds {', '.join(there[:8])}."]
            if not any(shards(base, self.splits(source, config))[0] for base, _ in alternatives(expression)):
                lines += ["Rename the file, if it is one of them."]
        elif have:
            lines += [f"{folder} has {', '.join(nearest(config, have, 3) or have[:8])}."]
        elif not folder.is_dir():
            lines += [f"{folder} is absent."]
        if self.local and self.translations:
            lines += [f"The rows are not in --translations {self.translations} either."]
        return MissingRows(" ".join(lines))

    def _load_file(
        self, path: Path, columns: tuple[str, ...] | Callable[[list[str]], tuple[str, ...]], optional: tuple[str, ...]
    ) -> tuple[Dataset, str]:
        """Return the rows of a file and its sha256. The last file is not read again unless it has changed."""
        stat = path.stat()
        key = path, stat.st_mtime_ns, stat.st_size, columns, optional
        if self._last is None or self._last[0] != key:
            digest = sha256(path)
            names = picked(columns, files.column_names(path), str(path)) if callable(columns) else columns
            self._last = key, files.load(path, digest, names, optional), digest
        return self._last[1:]

    def _read_hub(
        self, source: str, config: str, expression: str, revision: str | None, url: str
    ) -> tuple[Dataset, dict]:
        base, cut = alternatives(expression)[0]
        if (known := self._loaded.get(key := (source, config, base + cut, revision, url))) is not None:
            return known[0], dict(known[1])
        if url:
            whole, commit = hub.load_file(url, base), revision
        else:
            whole, commit = hub.load(source, config, base, revision)
        data, first = take_slice(whole, cut, f"{source} ({config}, {base})")
        record = {"split": base + cut, "first": first, "order": overlap.order_of(whole), "revision": commit}
        record |= {"url": url} if url else {}
        self._loaded[key] = data, record
        return data, dict(record)


def picked(columns: Callable[[list[str]], tuple[str, ...]], names: list[str], where: str) -> tuple[str, ...]:
    """Return the columns that a function picks. Raise UserError, with the source, if it cannot."""
    try:
        return columns(names)
    except RowError as error:
        raise UserError(f"{where}: {error}") from error


def translation_note(path: Path) -> Path:
    """Return the file that describes the translation of a file of rows: ``train.translation.json`` beside it."""
    return path.with_name(path.name.partition(".")[0] + ".translation.json")


def translator(path: Path) -> str:
    """Return the model that translated a file of rows.

    Raises:
        UserError: the file beside it is missing or does not name the model.
    """
    note = translation_note(path)
    advice = ': the translation model is unknown. Write {"model": "..."} to this file.'
    model = read_object(note, advice).get("model")
    if not isinstance(model, str):
        raise UserError(f"{note} does not name the model{advice}")
    return model
