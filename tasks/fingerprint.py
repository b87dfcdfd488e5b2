"""The cache key of what a task makes of its rows."""

from __future__ import annotations

import functools
import hashlib
import inspect
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datasets import Dataset

    from tasks.base import Task


def fingerprint(task: Task, data: Dataset, *more: Any) -> str:
    """Return a cache key that changes with the data, the task's source code, its labels and the settings in `more`.

    datasets hashes a method only by its name, so cached features would survive a change of the code. The labels are in
    the key because a task may compute them.
    """
    from datasets.fingerprint import Hasher

    own = [inspect.getsource(sys.modules[cls.__module__]) for cls in type(task).__mro__ if cls is not object]
    return Hasher.hash((rows_key(data), type(task).__qualname__, own, task.label_names, _source_hash(), more))


def rows_key(data: Dataset) -> str:
    """Return datasets' own cache key of rows. It has no public name; tests/test_library_internals.py checks it."""
    return data._fingerprint


@functools.cache
def _source_hash() -> str:
    """Return one hash of all modules of this package, because a form uses several of them."""
    sources = sorted(Path(__file__).parent.glob("*.py"))
    return hashlib.sha256(b"\0".join(source.read_bytes() for source in sources)).hexdigest()
