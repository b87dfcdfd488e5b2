"""The lock of a run's folder: one process works in it at a time. Uses the library filelock."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import platform
import time
from datetime import UTC, datetime
from pathlib import Path

from tasks.errors import UserError

logger = logging.getLogger("xstilts")
LOCK = ".lock"
POLL = 0.5  # seconds between two attempts to lock
# what a file system without locks answers, such as some network file systems
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


class FolderLock:
    """The lock of a run's folder.

    The operating system releases it when the process ends, also by kill -9; a leftover lock file locks nothing.

    Args:
        folder: the run's folder; `acquire` creates it.
    """

    def __init__(self, folder: str | os.PathLike):
        from filelock import FileLock

        self.folder = Path(folder)
        self._logged_wait = False
        # no soft lock: after a kill -9 it would lock the folder for good
        self._lock = FileLock(
            self.folder / LOCK,
            thread_local=False,
            fallback_to_soft=False,
            poll_interval=POLL,
            on_acquired=_write_holder,
        )

    def acquire(self, patience: float = -1) -> bool:
        """Return True when the folder is locked, False if that took more than `patience` seconds (below 0: no limit).

        A log line names the process that holds the lock. On a file system without locks a warning is logged, and the
        folder counts as locked.

        Raises:
            UserError: the folder or its lock file cannot be written.
        """
        from filelock import Timeout

        end = time.monotonic() + patience if patience >= 0 else float("inf")
        while True:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                self._lock.acquire(timeout=max(0.0, end - time.monotonic()) if self._logged_wait else 0)
                return True
            except Timeout:
                if self._logged_wait:
                    return False
                logger.warning("%s: %s is running there; waiting until it ends.", self.folder, self._holder())
                self._logged_wait = True
            except FileNotFoundError:  # the other process has removed its empty folder
                continue
            except OSError as error:
                if error.errno not in NO_LOCKS:
                    raise UserError(
                        f"{self._lock_file()} cannot be locked ({error.strerror or error}). Make the folder writable, "
                        "or give another --output_dir."
                    ) from error
                logger.warning(
                    "%s: the file system has no locks (%s); do not start the same run twice.",
                    self.folder,
                    error.strerror,
                )
                self._lock_file().unlink(missing_ok=True)
                return True

    def acquire_if_left(self) -> bool:
        """Lock the folder if a process of this host had locked it and was killed. Return whether it is locked now."""
        from filelock import Timeout

        # a process writes its name while it holds the lock, so a folder that is just being locked has none
        if f" on {platform.node()} " not in self._holder():
            return False
        try:
            self._lock.acquire(timeout=0)
        except (Timeout, OSError):
            return False
        return True

    def release(self) -> None:
        """Release the lock and remove its file. Do nothing if the lock is not held."""
        if self._lock.is_locked:
            # removed while locked: a process that waits on the removed file notices, and creates a new one
            self._lock_file().unlink(missing_ok=True)
            self._lock.release()

    def _lock_file(self) -> Path:
        return self.folder / LOCK

    def _holder(self) -> str:
        """Return which process holds the lock and since when, as it wrote into the file."""
        with contextlib.suppress(OSError):
            return self._lock_file().read_text(encoding="utf-8", errors="replace").strip() or "another process"
        return "another process"


def _write_holder(descriptor: int) -> None:
    """Write this process into the lock file. On a full disk the file stays empty."""
    with contextlib.suppress(OSError):
        os.ftruncate(descriptor, 0)
        since = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        os.pwrite(descriptor, f"process {os.getpid()} on {platform.node()} (since {since})\n".encode(), 0)
