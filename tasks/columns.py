"""Concatenate data sets, and replace columns."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datasets import Dataset


def join(data: list[Dataset]) -> Dataset:
    """Concatenate examples of one form. The first one's column types win: sources differ in integer widths."""
    from datasets import concatenate_datasets

    types = data[0].features
    return (
        concatenate_datasets([part if part.features == types else part.cast(types) for part in data])
        if len(data) > 1
        else data[0]
    )


def replace_columns(data: Dataset, **columns: list) -> Dataset:
    """Return the rows with new values in these columns. The columns keep their types."""
    from datasets import Dataset, Features, concatenate_datasets

    new = Dataset.from_dict(columns, features=Features({name: data.features[name] for name in columns}))
    return concatenate_datasets([data.remove_columns(list(columns)), new], axis=1)
