"""Prediction files in XTREME's layout, as every measurement leaves them beside its result."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tasks.base import Task
from xstilts.errors import UserError
from xstilts.run.files import write_text


def write_lines(folder: Path | str, task: Task, language: str, lines: Sequence[str]) -> Path:
    """Returns the file of a task and language below `folder`, written whole or not at all.

    Raises UserError, naming the line, for one that would be read as another: readers strip lines and split at line
    ends.
    """
    path = Path(folder, task.predictions_file(language))
    if path.suffix != ".json":
        for row, line in enumerate(lines, 1):
            if line != line.strip() or "\n" in line or "\r" in line:
                raise UserError(
                    f"{path}: line {row} would be {line!r}. It must not hold a line end, nor begin or end with white "
                    "space."
                )
    write_text(path, "".join(line + "\n" for line in lines))
    return path
