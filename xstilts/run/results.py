"""Find the results.json and failed.json below a folder of runs; read and write notes and failed.json.

`xstilts.run.record` defines the contents of results.json.
"""

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tasks.errors import UserError
from tasks.reading import read_object
from xstilts.cli import privacy
from xstilts.run.files import write_text
from xstilts.run.listing import Listing, look
from xstilts.run.record import FILE_NAME, is_there

RUN_FILE = "run.json"  # what a run began with
FAILED = "failed.json"
_LONGEST = 1000  # characters of a cause in the report


def paths(below: Listing | str | os.PathLike) -> list[Path]:
    """Return every results.json below a folder, sorted. Checkpoints of a running training are skipped.

    Raises:
        UserError: it is not a folder.
    """
    return listing(below).named(FILE_NAME)


def listing(root: Listing | str | os.PathLike) -> Listing:
    """Return what is below a folder of runs, see `xstilts.run.listing`.

    Raises:
        UserError: it is not a folder.
    """
    if isinstance(root, Listing):
        return root
    check_runs_dir(root)
    return look(root)


def check_runs_dir(root: str | os.PathLike) -> None:
    """Raise UserError if a folder of runs is not a folder."""
    if not Path(root).is_dir():
        raise UserError(f"{root} is not a folder. Give the folder that holds <arm>/seed<k>/.../{FILE_NAME}.")


def read_note(path: str | os.PathLike, otherwise: str) -> dict[str, Any]:
    """Return the JSON object in a file that X-STILTs wrote, such as run.json.

    Args:
        otherwise: end of the error message: what follows from the damage, and what to do.

    Raises:
        UserError: the file is damaged.
    """
    return read_object(path, f", {otherwise}")


def write_failure(folder: str | os.PathLike, cause: str, checkpoint: str | None) -> None:
    """Write failed.json into `folder`: why its run stopped, and its last good checkpoint.

    Raises:
        UserError: the file cannot be written.
    """
    record = {
        "cause": privacy.hide(cause),
        "checkpoint": checkpoint,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    write_text(Path(folder, FAILED), json.dumps(record, indent=1) + "\n")


def failures(below: Listing | str | os.PathLike) -> dict[str, str]:
    """Return {folder relative to `below`: why its run failed}, for failed runs without a result."""
    below, found = listing(below), {}
    for path in below.named(FAILED):
        if not is_there(path.parent):
            try:
                cause = str(read_note(path, "so the cause is not known").get("cause", f"{FAILED} names no cause"))
            except UserError as error:
                cause = str(error)
            found[str(path.parent.relative_to(below.root))] = " ".join(cause[:_LONGEST].split())
    return found


def unfinished(below: Listing | str | os.PathLike) -> list[str]:
    """Return the folders, relative to `below`, with a run.json but neither results.json nor failed.json."""
    below = listing(below)
    begun = (path.parent for path in below.named(RUN_FILE))
    return [
        str(folder.relative_to(below.root))
        for folder in begun
        if not is_there(folder) and not os.path.lexists(folder / FAILED)
    ]
