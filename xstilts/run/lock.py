"""One process at a time in a run's folder, however many were started on it: the library filelock, on a file in the
folder."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import platform
import time
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from xstilts.errors import UserError

logger = logging.getLogger("xstilts")
LOCK = ".lock"
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)  # of a file system without locks, such as some network ones


class FolderLock:
    """The lock of a run's folder, which is made.

    The system lets go of it when the process ends, by kill -9 too: a lock file that is left behind locks nothing.

    Args:
        folder: of the run.
    """

    def __init__(self, folder: str | os.PathLike):
        self.folder = Path(folder)
        self._told = False  # whether the log says that we wait
        # without a marker in place of a lock: after a kill -9 that would lock the folder for good
        self._lock = FileLock(
            self.folder / LOCK, thread_local=False, fallback_to_soft=False, poll_interval=0.5, on_acquired=_sign
        )

    def acquire(self, patience: float = -1) -> bool:
        """Return True when this process alone works in the folder, False after `patience` seconds (below 0: wait for
        ever).

        The log names the process that is waited for. Where the file system has no locks the log warns, and the run
        goes on.

        Raises:
            UserError: the folder or its lock file cannot be written.
        """
        end = time.monotonic() + patience if patience >= 0 else float("inf")
        while True:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                self._lock.acquire(timeout=max(0.0, end - time.monotonic()) if self._told else 0)
                return True
            except Timeout:
                if self._told:
                    return False
                logger.warning("%s: %s is at work there; waiting until it has ended.", self.folder, self._holder())
                self._told = True
            except FileNotFoundError:  # the other process was refused, and has removed its empty folder
                continue
            except OSError as error:
                if error.errno not in NO_LOCKS:
                    raise UserError(
                        f"{self._lock_file()} cannot be locked ({error.strerror or error}). Make the folder writable, "
                        "or give another --output_dir."
                    ) from error
                logger.warning(
                    "%s: no lock can be had there (%s); do not start the same run twice.", self.folder, error.strerror
                )
                self._lock_file().unlink(missing_ok=True)
                return True

    def release(self) -> None:
        """Let the next process in, and remove the lock file. Do nothing if the lock is not held."""
        if self._lock.is_locked:
            # while it is held: a process that waits on the removed file notices, and makes a new one
            self._lock_file().unlink(missing_ok=True)
            self._lock.release()

    def _lock_file(self) -> Path:
        return self.folder / LOCK

    def _holder(self) -> str:
        """Return who holds the lock and since when, as the holder wrote it."""
        with contextlib.suppress(OSError):
            return self._lock_file().read_text(encoding="utf-8", errors="replace").strip() or "another process"
        return "another process"


def _sign(descriptor: int) -> None:
    """Write into the lock file who holds it; on a full disk the file stays empty."""
    with contextlib.suppress(OSError):
        os.ftruncate(descriptor, 0)
        since = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        os.pwrite(descriptor, f"process {os.getpid()} on {platform.node()} (since {since})\n".encode(), 0)
