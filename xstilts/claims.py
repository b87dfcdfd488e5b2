"""One process at a time in a run's folder, however many were started on it."""

from __future__ import annotations

import fcntl
import logging
import os
import time
from pathlib import Path

logger = logging.getLogger("xstilts")
_held: dict[tuple[int, int], int] = {}  # (device, inode) of a folder: the descriptor that holds its lock
_told: set[str] = set()  # folders of which it was said that they are waited for


def claim(folder: str | os.PathLike, patience: float = float("inf")) -> bool:
    """Returns True when this process alone works in `folder`, which is made; says so where it has to wait for another one.

    False after `patience` seconds of waiting. The lock lies on the folder itself (flock): no file is left behind, and the system
    lets go of it when the process ends, by kill -9 too. Claimed twice by one process it is held once.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    key = _key(descriptor)
    if key in _held:
        os.close(descriptor)
        return True
    end = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if str(folder) not in _told:
                logger.warning("%s: another process is at work there; waiting until it has ended.", folder)
                _told.add(str(folder))
            if time.monotonic() > end:
                os.close(descriptor)
                return False
            time.sleep(0.5)
            continue
        except OSError as error:  # some network file systems
            logger.warning("%s: no lock can be had there (%s); do not start the same run twice.", folder, error.strerror)
        if not Path(folder).is_dir() or _key(folder) != key:  # a run that was refused has removed its empty folder meanwhile
            os.close(descriptor)
            return claim(folder, patience)
        _held[key] = descriptor
        return True


def release(folder: str | os.PathLike) -> None:
    """Lets the next process into `folder`; nothing happens if it was not claimed."""
    key = _key(folder) if Path(folder).is_dir() else None
    if key in _held:
        os.close(_held.pop(key))


def _key(folder: int | str | os.PathLike) -> tuple[int, int]:
    found = os.stat(folder)
    return found.st_dev, found.st_ino
