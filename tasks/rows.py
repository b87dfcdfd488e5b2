"""Where rows come from: the Hub at a pinned revision, or a folder that holds the same rows in the same columns."""

from __future__ import annotations

import copy
import difflib
import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks import files
from tasks.errors import RowError, UserError, one_line
from tasks.reading import read_object

if TYPE_CHECKING:
    from datasets import Dataset

# names, or a function that picks them from the names of all
Columns = tuple[str, ...] | Callable[[list[str]], tuple[str, ...]]
ROUND_TRIP = ".roundtrip"  # ends the config of English rows that went into another language and back


def sha256(path: Path) -> str:
    """The hex SHA-256 of a file's bytes."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@dataclass(frozen=True)
class Read:
    """The rows of one source split, and where they came from.

    Attributes:
        data: the rows, in the source's columns.
        record: their provenance as results.json has it: id, config, split, revision or sha256, file, rows, notes.
    """

    data: Dataset
    record: dict[str, Any]

    @property
    def where(self) -> str:
        """The file, and the slice its rows are counted in, for errors that name a row."""
        if "file" not in self.record:
            return f"{self.record['id']} ({self.record['config']}, {self.record['split']})"
        cut = self.record["split"].partition("[")[2]
        return self.record["file"] + (f" [{cut}" if cut else "")

    def note(self, text: str) -> None:
        """Add a remark on these rows to the record."""
        self.record.setdefault("notes", []).append(text)


@dataclass(frozen=True)
class Loaded:
    """The examples of a split and language, and the reads they were made of, at least one."""

    examples: Any  # a Dataset in the form's columns, or pools
    reads: tuple[Read, ...]

    @property
    def where(self) -> str:
        """The files, for errors."""
        return " + ".join(dict.fromkeys(read.where for read in self.reads))

    def note(self, text: str) -> None:
        """Add a remark on the examples to the last record."""
        self.reads[-1].note(text)


class Rows:
    """The rows of one source tree.

    Attributes:
        records: the provenance of all that was read, in order: what results.json has as `data`.

    Args:
        root: ``"hub"``, or a folder laid out as ``<hub id with / as __>/<config>/<split>.{parquet,jsonl,jsonl.gz}``.
        splits: overrides such as ``"hellaswag.train=validation[:8000]"``: for that task and split, read that slice of
            that source split instead (the Hub's own slicing syntax). Several expressions separated by commas name
            alternatives: the first whose file exists is read; several joined by ``+`` are taken together.
        translations: a second folder of the same layout, of translated rows (`python -m xstilts.translate` writes
            one). What `root` lacks is looked for there; of the Hub, which is not asked what it has, anything that
            stands there is read from there. The record says which model translated.

    Raises:
        UserError: a folder does not exist, or an override is not of that form.
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
        self.suffix = ""  # of every config that is read
        if self.local and not self.root.is_dir():
            raise UserError(
                f"--data_root {root} is not a folder. Give 'hub', or a folder of rows such as data/world "
                "(made by `python -m world --out data/world`)."
            )
        if self.translations and not self.translations.is_dir():
            raise UserError(f"--translations {translations} is not a folder. `python -m xstilts.translate` makes one.")
        self.overrides: dict[tuple[str, str], str] = {}
        self.asked: set[tuple[str, str]] = set()  # (task, split) that some override was looked up for
        for text in splits:
            match = re.fullmatch(r"(\w+)\.(train|dev|test)=(.+)", text)
            if not match:
                raise UserError(
                    f"--splits {text!r} is not of the form task.split=source, e.g. "
                    "hellaswag.train=validation[:8000] (split is train, dev or test)."
                )
            self.overrides[match[1], match[2]] = match[3]
        self.records: list[dict] = []
        # a file of many languages is asked for again and again: key, rows, sha256
        self._last: tuple[tuple, Dataset, str] | None = None
        # splits of the Hub: a file of many languages is asked for once
        self._loaded: dict[tuple, tuple[Dataset, dict]] = {}

    # ---- what is there -------------------------------------------------------------------------------------------

    def roundtrip(self) -> Rows:
        """These rows, but of every config the one that went into another language and back (in `translations`).

        Raises:
            UserError: there is no folder of translations.
        """
        if not self.translations:
            raise UserError(
                "English rows that went into another language and back: say where they are with --translations FOLDER."
            )
        other = copy.copy(self)
        other.suffix = ROUND_TRIP
        return other

    def folder(self, source: str) -> Path:
        """The folder that holds a Hub id's configs."""
        return self.root / source.replace("/", "__")

    def configs(self, source: str) -> list[str]:
        """The configs of `source` present in the folder, sorted; empty for the Hub, which is not asked."""
        folder = self.folder(source)
        return sorted(p.name for p in folder.iterdir() if p.is_dir()) if self.local and folder.is_dir() else []

    def expression(self, task: str, split: str, default: str) -> str:
        """Which source split is read for a task's split: the user's override, or the adapter's `default`."""
        self.asked.add((task, split))
        return self.overrides.get((task, split), default)

    def file(self, source: str, config: str, split: str) -> Path | None:
        """The file of one source split in the folders, or None; `split` may be a file's own name."""
        for root in filter(None, (self.root if self.local else None, self.translations)):
            folder = root / self.folder(source).name / config
            found = [path for suffix in files.SUFFIXES if (path := folder / f"{split}.{suffix}").is_file()]
            if len(found) > 1:
                raise UserError(f"{found[0]} and {found[1].name} both hold {split!r}. Keep one of them.")
            if found or (folder / split).is_file():
                return found[0] if found else folder / split
        return None

    def has(self, source: str, config: str, expression: str) -> bool:
        """Whether the folders have one of the expression's splits (always True for the Hub, which is not asked)."""
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
    ) -> Read:
        """The rows of one split: `columns`, and `optional` ones that are there. Other columns are ignored, whatever
        they hold.

        Args:
            columns: their names, or a function that picks them from the names of all columns there are.
            url: stands in for a Hub id that does not load.

        Raises:
            UserError: no such file, not readable, a column of `columns` missing, or no row.
        """
        return self.keep(self.peek(source, config, expression, revision, columns, url, optional))

    def keep(self, read: Read) -> Read:
        """Add what was read to the records."""
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
        """`read` of rows that are only looked at: they do not join the records."""
        config += self.suffix
        if self.local or self.suffix or any(self.file(source, config, base) for base, _ in alternatives(expression)):
            data, record = self._read_file(source, config, expression, columns, optional)
        else:
            data, record = self._read_hub(source, config, expression, revision, url)
            columns = picked(columns, data.column_names, f"{source} ({config})") if callable(columns) else columns
            data = data.select_columns(
                files.columns_to_read(data.column_names, columns, optional, f"{source} ({config})")
            )
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
            data, digest = self._load_file(path, columns, optional)
            record = {"split": base + cut, "sha256": digest, "file": str(path)}
            data = take_slice(data, cut, path)
            if self.translations and path.is_relative_to(self.translations):
                record["translated_by"] = translator(path)
            return data, record
        root = self.root if self.local or self.translations is None else self.translations
        folder = root / self.folder(source).name
        wanted = ", ".join(str(folder / config / f"{b}.parquet") for b, _ in alternatives(expression))
        have = self.configs(source)
        near = difflib.get_close_matches(config, have, 3)
        raise UserError(
            f"No rows at {wanted} (.jsonl and .jsonl.gz are read too). "
            + (
                f"{folder} has {', '.join(near or have[:8])}."
                if have
                else ""
                if folder.is_dir()
                else f"{folder} is absent."
            )
            + (f" Nor are they below --translations {self.translations}." if self.local and self.translations else "")
            + " If another split holds them, say so with --splits task.split=validation[:8000]."
        )

    def _load_file(
        self, path: Path, columns: tuple[str, ...] | Callable[[list[str]], tuple[str, ...]], optional: tuple[str, ...]
    ) -> tuple[Dataset, str]:
        """Return the rows of a file and its sha256; of the file read last, if it has not changed, without reading it
        again."""
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
        from datasets import load_dataset
        from huggingface_hub import HfApi

        base, cut = alternatives(expression)[0]
        if (known := self._loaded.get(key := (source, config, base + cut, revision, url))) is not None:
            return known[0], dict(known[1])
        name = url or f"{source} (config {config}, split {base + cut}, revision {revision or 'main'})"
        try:
            if url:
                kind = "csv" if url.endswith(".csv") else "json"
                # GitHub's SQuAD-like files are one object whose rows stand under "data"
                data = load_dataset(
                    kind, data_files={base: url}, split=base + cut, **({"field": "data"} if kind == "json" else {})
                )
            else:
                # what `main` is today is written down, so that the result can be made again
                revision = revision or HfApi().dataset_info(source).sha
                data = load_dataset(source, config, split=base + cut, revision=revision)
        except Exception as error:
            raise UserError(
                f"Could not load {name} from the Hub: {one_line(error)} Without a network give --data_root FOLDER."
            ) from error
        record = {"split": base + cut, "revision": revision} | ({"url": url} if url else {})
        self._loaded[key] = data, record
        return data, dict(record)


def picked(columns: Callable[[list[str]], tuple[str, ...]], names: list[str], where: str) -> tuple[str, ...]:
    """The columns that a function picks. Raises UserError, naming the source, where it cannot."""
    try:
        return columns(names)
    except RowError as error:
        raise UserError(f"{where}: {error}") from error


def take_slice(data: Dataset, cut: str, path: Path) -> Dataset:
    """Return the rows of a slice in the Hub's syntax: "[:8000]", "[80%:]"; "" for all rows."""
    from datasets import ReadInstruction

    try:
        (part,) = ReadInstruction.from_spec(f"rows{cut}").to_absolute({"rows": len(data)})
    except (ValueError, AssertionError) as error:
        raise UserError(f"{path}: {cut} is no slice of its {len(data)} rows ({one_line(error)}).") from error
    return data.select(range(part.from_, part.to) if part.from_ < part.to else []) if cut else data


def translation_note(path: Path) -> Path:
    """The file beside a file of translated rows that says who translated, and how: ``train.translation.json``."""
    return path.with_name(path.name.partition(".")[0] + ".translation.json")


def translator(path: Path) -> str:
    """The model that made a file of translated rows.

    Raises:
        UserError: nothing beside it says so.
    """
    note = translation_note(path)
    advice = ': translated rows of unknown make. Write it as {"model": "..."}.'
    model = read_object(note, advice).get("model")
    if not isinstance(model, str):
        raise UserError(f"{note} does not name the model{advice}")
    return model


def alternatives(expression: str) -> list[tuple[str, str]]:
    """``"validation[:80],test"`` -> ``[("validation", "[:80]"), ("test", "")]``."""
    found = []
    for part in expression.split(","):
        match = re.fullmatch(r"\s*([\w.\-]+)(\[[^\]]*\])?\s*", part)
        if not match:
            raise UserError(
                f"{expression!r} is not a split: write validation, or validation[:8000], or validation[80%:]."
            )
        found.append((match[1], match[2] or ""))
    return found
