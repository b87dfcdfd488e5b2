"""Rows that a checkpoint, or one that it comes from, was trained on must not be scored. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks import overlap
from tasks.errors import UserError
from xstilts.run import outputs, results
from xstilts.run.record import FILE_NAME, Record, is_there

if TYPE_CHECKING:
    from tasks.base import Task
    from tasks.rows import Rows


def ancestry(model: str) -> Iterator[tuple[str, Record]]:
    """Yield (folder, its results.json) of a checkpoint and of those that it comes from, the last first.

    Raises:
        UserError: a results.json or run.json is damaged.
    """
    seen = set()
    while model and model not in seen and is_there(model):
        seen.add(model)
        record = Record.read(Path(model, FILE_NAME))
        yield model, record
        model = _parent(model, record)


def _parent(folder: str, record: Record) -> str:
    """Return what a checkpoint was trained from: run.json has its full path, results.json may not."""
    began = Path(folder, results.RUN_FILE)
    if not began.is_file():
        return record.model
    return str(results.read_note(began, outputs.UNKNOWN_SETTINGS).get("model") or "")


def check_sentences(task: Task, model: str) -> None:
    """Raise if a checkpoint was trained on other rows that hold the sentences of a task (`Task.same_sentences`).

    Raises:
        UserError: names the checkpoint and the rows.
    """
    for folder, record in ancestry(model) if task.same_sentences else ():
        if rows := [data for data in record.data if _is_trained_on(data, task.same_sentences)]:
            raise UserError(
                f"{task.name}: {folder} was trained on {_place(rows[0])}, which has sentences that are to be scored. "
                "Score another task, or start from another checkpoint."
            )


def _is_trained_on(data: Mapping[str, Any], same: Sequence[str]) -> bool:
    """Whether rows were trained on and are named in `same`. Older records do not say what rows were for."""
    if "used_as" not in data:
        return data["id"] in same
    place = f"{data['id']}/{data['config']}/{data['split'].partition('[')[0]}/"
    named = any(fnmatchcase(place, f"{one}*" if one.endswith(".") else f"{one}/*") for one in same)
    return named and any(use.split == "train" for use in overlap.uses(data))


def _place(data: Mapping[str, Any]) -> str:
    return f"{data['id']} ({data['config']}, {data['split']})"


def check_rows(rows: Rows, model: str) -> list[str]:
    """Compare the rows that a run has read with one another, and with those that its checkpoint was trained on.

    Args:
        rows: all that the run reads, train and dev and test, has been read.
        model: the checkpoint that it starts from.

    Returns:
        Notes on dev rows that test rows repeat, and on those that the checkpoint was trained on: a choice by them is
        then not fair. And a note if it is not known what the checkpoint was trained on.

    Raises:
        UserError: the checkpoint was trained on rows that are scored as test rows, or the run trains on sentences of
            its test rows. Names both.
    """
    notes = _own_rows(rows)
    for folder, record in ancestry(model):
        for found in overlap.shared(record.data, rows.records, ("train", ("dev", "test"))):
            task, split = found.other.task, found.other.split
            told = f"{task}: {found.count} of {split} were trained on by {folder}: {found.where}"
            if split == "test":
                raise UserError(
                    f"{told}. Score other rows (--splits {task}.test=...), or start from another checkpoint."
                )
            notes.setdefault(f"{task} after {folder}", told)
        # the plain model has no results.json; a parent with parents of its own had one
        if len(record.parents) > 1 and not is_there(parent := _parent(folder, record)):
            notes[parent] = f"it is not known what {parent} was trained on: its results.json is not there"
    return list(notes.values())


def _own_rows(rows: Rows) -> dict[str, str]:
    """Return {what a note is on: the note} on dev rows that are test rows too.

    Raises:
        UserError: the run trains on sentences of its test rows, see `Task.same_sentences`.
    """
    notes: dict[str, str] = {}
    tested = {use.task for data in rows.records for use in overlap.uses(data) if use.split == "test"}
    for task in filter(None, map(overlap.adapter, sorted(tested))):
        if data := [data for data in rows.records if _is_trained_on(data, task.same_sentences)]:
            raise UserError(
                f"{task.name}: {_place(data[0])} is trained on and has sentences that are scored. Give other train "
                "rows, with --splits."
            )
    for found in overlap.shared(rows.records, rows.records, ("dev", ("test",))):
        known = (overlap.adapter(use.task) for use in (found.one, found.other))
        if not any(task and task.dev_in_test for task in known):
            notes.setdefault(found.one.task, f"{found.one.task}: {found.count} of dev in test too: {found.where}")
    return notes
