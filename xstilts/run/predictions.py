"""Write prediction files in XTREME's layout, beside the result."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tasks.base import Task
from tasks.errors import UserError
from xstilts.run.files import write_text


def write_lines(folder: Path | str, task: Task, language: str, lines: Sequence[str]) -> Path:
    """Write the predictions of a task and language below `folder`, and return the file.

    Raises:
        UserError: a line has a line end in it, or blanks at its ends, so readers would get another text. Names the
            line.
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
