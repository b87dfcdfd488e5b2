"""Concatenate data sets, replace columns, and choose the columns to read."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from tasks.errors import MissingColumn, UserError, nearest

if TYPE_CHECKING:
    from datasets import Dataset


def join(data: list[Dataset], optional: Iterable[str] = ()) -> Dataset:
    """Concatenate examples of one form. The first one's column types win: sources differ in integer widths.

    Args:
        data: at least one.
        optional: columns that not all of them need. One that some lack is left out, and one whose types differ
            becomes text: an id may be 7 in one file and "a7" in the next.
    """
    from datasets import Features, Value, concatenate_datasets

    if len(data) == 1:
        return data[0]
    some = {name for name in optional if any(name in part.column_names for part in data)}
    lacking = {name for name in some if any(name not in part.column_names for part in data)}
    data = [part.remove_columns([name for name in lacking if name in part.column_names]) for part in data]
    types = Features(data[0].features)
    types |= {name: Value("string") for name in some - lacking if any(p.features[name] != types[name] for p in data)}
    return concatenate_datasets([part if part.features == types else part.cast(types) for part in data])


def replace_columns(data: Dataset, **columns: list) -> Dataset:
    """Return the rows with new values in these columns. The columns keep their types."""
    from datasets import Dataset, Features, concatenate_datasets

    new = Dataset.from_dict(columns, features=Features({name: data.features[name] for name in columns}))
    return concatenate_datasets([data.remove_columns(list(columns)), new], axis=1)


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
        near = nearest(missing[0], names)
        hint = f" Did you mean to rename {near[0]!r}?" if near else ""
        raise MissingColumn(f"{where}: column {missing[0]!r} is missing; it has {there}.{hint}")
    found = [column for column in dict.fromkeys((*columns, *optional)) if column in names]
    if not found:
        raise UserError(f"{where}: it has none of the columns {', '.join(optional)}; it has {there}.")
    if twice := [column for column in found if names.count(column) > 1]:
        raise UserError(f"{where}: it has two columns {twice[0]!r}.")
    return found
