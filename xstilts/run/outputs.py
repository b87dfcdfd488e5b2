"""Output folders: a script writes into one that is new, empty, or its own, and refuses any other before it starts."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

from xstilts.errors import UserError
from xstilts.run import results

NOBODY_KNOWS = "so nobody knows what the folder was begun with. Delete the folder, or give another --output_dir."


def refuse_occupied(folder: str | Path) -> None:
    """Raise UserError if a run cannot have `folder` for its own: see `refuse_foreign`; or what is in its result's
    place is not a file."""
    stamp, note = Path(folder, results.FILE_NAME), Path(folder, "run.json")
    if os.path.lexists(stamp) and not stamp.is_file():  # the result could not take its place, after all the work
        raise UserError(f"{stamp} is not a file. Remove it to do this run.")
    ours = note.is_file() and "model" in results.read_note(note, NOBODY_KNOWS)
    refuse_foreign(folder, [stamp.name, *(["run.json"] if ours else [])])


def refuse_foreign(folder: str | Path, marks: Collection[str], flag: str = "--output_dir") -> None:
    """Raise UserError if `folder` holds anything, and none of the files `marks`, one of which this script writes
    first.

    Not counted, because nothing is written over them: failed.json, hidden files, folders of other runs, and a
    checkpoint-*, of which the run says more itself.
    """
    folder = Path(folder)
    if not folder.is_dir() or any((folder / mark).is_file() for mark in marks):
        return
    found = sorted(path.name for path in folder.iterdir() if not _is_apart(path))
    if found:
        more = f" and {len(found) - 1} more" if len(found) > 1 else ""
        raise UserError(
            f"{flag} {folder} holds {found[0]}{more}, which this script did not write. Give a new or an empty folder."
        )


def _is_apart(path: Path) -> bool:
    if path.name.startswith((".", "checkpoint-")) or path.name == results.FAILED:
        return True
    return path.is_dir() and (
        not any(path.iterdir())
        or any((path / name).is_file() for name in (results.FILE_NAME, "run.json", results.FAILED))
    )
