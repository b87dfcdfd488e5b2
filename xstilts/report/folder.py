"""The folder of a report: whose it is, and whether the report in it is whole."""

from collections.abc import Sequence
from pathlib import Path

from xstilts.run.files import remove, write_text

HEADS = "arm,task,form,seed,language"  # how cells.csv begins
PAGE = "index.html"  # written after the tables
ASKED = ".asked"  # written last; the Makefile compares it


def is_report(folder: Path) -> bool:
    """Whether `folder` is that of a report, by the first line of its cells.csv."""
    cells = folder / "cells.csv"
    return cells.is_file() and cells.read_bytes()[: len(HEADS)] == HEADS.encode()


def begin(folder: Path) -> None:
    """Mark `folder` as a report's, and remove an earlier page: it would not be of the tables that come.

    Raises:
        UserError: `folder` cannot be written.
    """
    if is_report(folder):
        remove(folder / ASKED)
        remove(folder / PAGE)
    else:
        write_text(folder / "cells.csv", HEADS + "\n")


def finish(folder: Path, argv: Sequence[str], missing: Sequence[object]) -> None:
    """Note the command line of a report without missing cells, so that make need not make it again.

    A missing cell may come later with an older file time, copied from another machine.

    Raises:
        UserError: `folder` cannot be written.
    """
    if not missing:
        write_text(folder / ASKED, " ".join(argv) + "\n")
