"""Set up logging: our own lines, only the warnings of libraries, and bars on a terminal alone."""

from __future__ import annotations

import logging
import sys

_run = ""  # the name of this process' run


def begin(level: int = logging.INFO, run: str = "") -> None:
    """Log messages from `level` on to stderr, without a prefix. If stderr is not a terminal, libraries show no bars.

    Args:
        run: what `named` puts before the name of a bar, such as the arm and the seed.
    """
    global _run
    _run = run
    logging.basicConfig(level=level, format="%(message)s", handlers=[_Stderr()])
    for noisy in ("httpx", "httpx2", "filelock", "fsspec", "datasets", "faiss", "urllib3"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    for name in ("datasets", "huggingface_hub"):  # they have a handler of their own, so each line would appear twice
        logging.getLogger(name).propagate = False
    if not is_terminal():
        import datasets
        from huggingface_hub.utils import disable_progress_bars

        datasets.disable_progress_bars()
        disable_progress_bars()


def named(what: str) -> str:
    """Return the name of a bar: that of the run, and what is done."""
    return f"{_run}, {what}" if _run else what


def is_terminal() -> bool:
    """Return whether a person sees stderr as it is written, so that a line can be redrawn."""
    return sys.stderr.isatty()


def duration(seconds: float) -> str:
    """Return a duration as text: 12 s, 3.5 min or 7.1 h."""
    return (
        f"{seconds:.0f} s"
        if seconds < 100
        else f"{seconds / 60:.1f} min"
        if seconds < 6000
        else f"{seconds / 3600:.1f} h"
    )


class _Stderr(logging.StreamHandler):
    """Writes to stderr; on a terminal, above the progress bars."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm = sys.modules.get("tqdm")
        if tqdm is None or not is_terminal():
            super().emit(record)
        else:
            tqdm.tqdm.write(self.format(record), file=sys.stderr)
