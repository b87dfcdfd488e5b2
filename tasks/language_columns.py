"""Rows with a column for each language, named as in FLORES: `deu_Latn`."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from tasks import files, folders
from tasks import languages as codes
from tasks.errors import RowError, UserError
from tasks.rows import alternatives

if TYPE_CHECKING:
    from datasets import Dataset

    from tasks.base import Task
    from tasks.rows import Rows
    from tasks.source import Source

_COLUMN = re.compile(r"[a-z]{3}_[A-Z][a-z]{3}")  # as in FLORES; a column `id` is not Indonesian
_LIKE_A_COLUMN = re.compile(r"[a-z]{2,3}[-_]([A-Z][a-z]{3}|[A-Z]{2})")  # meant as a language: deu-Latn, por-BR


def _by_language(names: Iterable[str]) -> dict[str, str]:
    """{our code: column} of the columns that are named after a known language."""
    found: dict[str, str] = {}
    for name in names:
        if not (_COLUMN.fullmatch(name) or codes.is_private_use(name)):
            continue
        try:
            language = codes.normalize(name)
        except UserError:
            continue  # an unknown language, see `unread`; to use it, add it to tasks/languages.py
        if language in found:
            raise RowError(
                f"columns {found[language]!r} and {name!r} are both {codes.ud_name(language)} ({language}). Remove "
                "one."
            )
        found[language] = name
    return found


def named(names: list[str]) -> tuple[str, ...]:
    """Return the columns to read: those of every known language.

    Raises:
        RowError: none is English, or two are the same language.
    """
    columns = _by_language(names)
    if "en" not in columns:
        raise RowError(f"no column is English ('eng_Latn'); it has {', '.join(names)}.")
    return tuple(columns.values())


def with_english(data: Dataset, language: str) -> Dataset:
    """Return the rows with two columns: the language's, and the English one.

    Raises:
        RowError: there is no column of the language.
    """
    columns = _by_language(data.column_names)
    if language not in columns:
        raise RowError(
            f"no column is {codes.ud_name(language)} ({codes.flores_code(language)!r}); it has "
            f"{', '.join(data.column_names)}."
        )
    return data.select_columns([columns[language], columns["en"]])


def unread(task: Task, source: Source, rows: Rows) -> list[str]:
    """Return the columns of the test rows in a folder that are named as for a language but are not read, and why."""
    found: dict[str, None] = {}
    for part in filter(None, folders.test_expression(task, source, rows).split("+")):
        paths = (rows.file(source.id, source.config, base) for base, _ in alternatives(part))
        names = files.column_names(path) if (path := next(filter(None, paths), None)) else []
        read = _by_language(names).values()
        found |= {name: None for name in names if name not in read and _like_a_language(name)}
    return [f"column {name} ({_why(name)})" for name in found]


def _why(name: str) -> str:
    language = folders.language_like(name)
    if language and not _COLUMN.fullmatch(codes.ntrex_code(language)):
        return f"{language} cannot be a column"
    return folders.what_is(name, codes.ntrex_code)


def _like_a_language(name: str) -> bool:
    """Whether a column seems to be named for a language: cmn_Hans, por-BR, deu, German. `id` is none."""
    if _LIKE_A_COLUMN.fullmatch(name):
        return True
    with contextlib.suppress(UserError):
        return bool(codes.normalize(name)) and name.lower() != "id"
    return False
