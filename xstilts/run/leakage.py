"""Rows that a checkpoint, or one that it comes from, was trained on must not be scored. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from tasks import overlap
from xstilts.errors import UserError
from xstilts.run import outputs, results
from xstilts.run.record import FILE_NAME, Record, is_there

if TYPE_CHECKING:
    from tasks.base import Task
    from tasks.rows import Rows


def chain(model: str) -> Iterator[tuple[str, Record]]:
    """Yield (folder, its results.json) of a checkpoint and of those that it comes from, the last first.

    Raises:
        UserError: a results.json or run.json is damaged.
    """
    seen = set()
    while model and model not in seen and is_there(model):
        seen.add(model)
        record = Record.read(Path(model, FILE_NAME))
        yield model, record
        began = Path(model, results.RUN_FILE)  # has the parent's full path; results.json does not
        model = (
            str(results.read_note(began, outputs.UNKNOWN_SETTINGS).get("model") or "")
            if began.is_file()
            else record.model
        )


def check_sentences(task: Task, model: str) -> None:
    """Raise if a checkpoint was trained on other rows that hold the sentences of a task (`Task.same_sentences`).

    Raises:
        UserError: names the checkpoint and the rows.
    """
    for folder, record in chain(model) if task.same_sentences else ():
        for data in record.data:
            # older versions did not write what rows were used for
            trained = "used_as" not in data or any(use.split == "train" for use in overlap.uses(data))
            if trained and f"{data['id']}/{data['config']}".startswith(task.same_sentences):
                raise UserError(
                    f"{task.name}: {folder} was trained on {data['id']} ({data['config']}), whose sentences are among "
                    "those that are scored. Measure it on another task, such as ntrex."
                )


def check_rows(rows: Rows, model: str) -> list[str]:
    """Compare the rows that a run has read with those that its checkpoint was trained on.

    Args:
        rows: all that the run reads, train and dev and test, has been read.
        model: the checkpoint that it starts from.

    Returns:
        Notes on dev rows that test rows repeat, and on those that the checkpoint was trained on: a choice by them is
        then not fair.

    Raises:
        UserError: the checkpoint was trained on rows that are scored as test rows. Names both.
    """
    notes: dict[overlap.Use, str] = {}
    for found in overlap.shared(rows.records, rows.records, ("dev", ("test",))):
        known = (overlap.adapter(use.task) for use in (found.one, found.other))
        if not any(task and task.dev_in_test for task in known):
            notes.setdefault(found.one, f"{found.one.task}: {found.rows} dev rows are test rows too: {found.where}")
    for folder, record in chain(model):
        for found in overlap.shared(record.data, rows.records, ("train", ("dev", "test"))):
            if found.other.split == "test":
                raise UserError(
                    f"{found.other.task}: {folder} was trained on {found.rows} of the rows that are to be scored, in "
                    f"{found.where}. Give it other rows, with --splits {found.other.task}.test=..., or start from "
                    "another checkpoint."
                )
            notes.setdefault(
                found.other,
                f"{found.other.task}: {folder} was trained on {found.rows} of the dev rows, in {found.where}",
            )
    return list(notes.values())
