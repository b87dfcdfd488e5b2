"""The runs behind a kept report, packed beside its csv files, so that anyone can make the tables again or go on."""

from __future__ import annotations

import csv
import os
import re
import sys
import tarfile
import time
from pathlib import Path

from xstilts.run.hits import HITS
from xstilts.run.places import SEED_FOLDER
from xstilts.run.record import FILE_NAME

FILE = "runs.tar.xz"
READ = (FILE_NAME, HITS)  # what a report reads of a run


def pack(report: Path, folder: Path) -> None:
    """Pack what a report reads of its runs, and nothing else: no weights, no predictions, which hold text of the rows.

    Arms and seeds that the report does not show are left out, so that the tables come out again as they were kept; so
    is a phase 2 that nothing was measured of: its weights would be missing, and make would take it for done.
    Two packings of the same files are equal byte for byte, so that git stores the file again only if a run changed.
    """
    runs = report.parent
    with (report / "cells.csv").open(encoding="utf-8", newline="") as file:
        shown = {f"{row['arm']}/seed{row['seed']}" for row in csv.DictReader(file)}
    bare = {path for path in runs.glob(f"*/seed*/{FILE_NAME}") if not any(path.parent.glob(f"*/{FILE_NAME}"))}
    found = (path for path in runs.rglob("*") if path.name in READ and path.is_file() and path not in bare)
    seed = re.compile(rf"[^/]+/{SEED_FOLDER}(?=/)")
    places = {path: seed.match(path.relative_to(runs).as_posix()) for path in found}
    files = sorted(path for path, of in places.items() if of is None or of[0] in shown)

    def place(entry: tarfile.TarInfo) -> tarfile.TarInfo:
        entry.mtime = entry.uid = entry.gid = 0
        entry.uname = entry.gname = ""
        entry.mode = 0o644
        return entry

    with tarfile.open(folder / FILE, "w:xz") as packed:
        for path in files:
            packed.add(path, path.relative_to(runs).as_posix(), filter=place)


def unpack(folder: Path, out: Path) -> None:
    """Put kept runs back for `make report`, or for `make matrix`, which goes on with those that are missing.

    They are as old as this call, so that make takes them for newer than a model that is there already.
    """
    if not (folder / FILE).is_file():
        sys.exit(f"{folder} holds no {FILE}: this report was kept without --runs.")
    with tarfile.open(folder / FILE) as packed:
        if there := [name for name in packed.getnames() if (out / name).exists()]:
            sys.exit(f"{out} holds {there[0]} already. Give another --out, or remove it.")
        packed.extractall(out, filter="data")
        now = time.time()  # the same for all: no cell is older than the training it started from
        for name in packed.getnames():
            os.utime(out / name, (now, now))
