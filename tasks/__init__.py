"""The task adapters: the only code that knows what a row means. Knows nothing of training."""

from __future__ import annotations

import difflib
import importlib
from typing import TYPE_CHECKING

from tasks.errors import UserError

if TYPE_CHECKING:
    from tasks.base import Task

# name -> module:class; a task of one's own is one more line
TASKS = {
    "mnli": "tasks.sentence_pair:MNLI",
    "xnli": "tasks.sentence_pair:XNLI",
    "squad": "tasks.span:SQuAD",
    "xquad": "tasks.span:XQuAD",
    "tydiqa": "tasks.span:TyDiQA",
    "hellaswag": "tasks.multiple_choice:HellaSwag",
    "udpos": "tasks.tagging:UDPOS",
    "tatoeba": "tasks.retrieval:Tatoeba",
    "bucc": "tasks.retrieval:BUCC",
}


def get_task(name: str, benchmark: str = "xtreme") -> Task:
    """The adapter called `name`.

    Raises:
        UserError: no such task; the nearest names are given.
    """
    if name not in TASKS:
        near = difflib.get_close_matches(name, TASKS, 3)
        hint = f"Did you mean {' or '.join(map(repr, near))}? " if near else ""
        raise UserError(f"Task {name!r} is unknown. {hint}See --list_tasks.")
    module, _, cls = TASKS[name].partition(":")
    return getattr(importlib.import_module(module), cls)(benchmark)
