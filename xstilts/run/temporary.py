"""Temporary folders. One that a killed process has left is removed by the next process that needs one there."""

from __future__ import annotations

import contextlib
import glob
import logging
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from xstilts.run.lock import FolderLock

logger = logging.getLogger("xstilts")
MARK = ".temporary"  # a run's folder may have such a name, and a lock, too


@contextlib.contextmanager
def temporary_folder(parent: str | Path, prefix: str) -> Iterator[Path]:
    """Yield a new folder in `parent`, locked, and remove it at the end, with those that killed processes have left.

    Only folders with our mark are removed whose lock a process of this host has held and no longer holds: another
    host's lock may not show here.

    Raises:
        OSError: it cannot be created.
        UserError: it cannot be locked.
    """
    for path in Path(parent).glob(f"{glob.escape(prefix)}*"):
        left = FolderLock(path)
        if (path / MARK).is_file() and left.acquire_if_left():
            logger.warning("%s was left by a process that was killed (%s); removing it.", path, _size(path))
            shutil.rmtree(path, ignore_errors=True)
            left.release()
    folder = Path(tempfile.mkdtemp(dir=parent, prefix=prefix))
    lock = FolderLock(folder)
    try:
        lock.acquire()
        (folder / MARK).touch()
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        lock.release()


def others(folder: Path) -> str:
    """Return the folders beside a temporary folder that are named like it, with their sizes; "" if there are none."""
    prefix = folder.name[: folder.name.rfind("-") + 1]
    beside = sorted(folder.parent.glob(f"{glob.escape(prefix)}*")) if prefix else []
    return ", ".join(f"{path.name} ({_size(path)})" for path in beside if path != folder and path.is_dir())


def _size(folder: Path) -> str:
    size = 0
    with contextlib.suppress(OSError):  # its process may be at work
        size = sum(path.lstat().st_size for path in folder.rglob("*"))
    return f"{size / 1e6:,.3f} MB"
