"""Set up logging: our own lines, and only the warnings of libraries."""

from __future__ import annotations

import logging


def begin(level: int = logging.INFO) -> None:
    """Log messages from `level` on to stderr, without a prefix."""
    logging.basicConfig(level=level, format="%(message)s")
    for noisy in ("httpx", "httpx2", "filelock", "fsspec", "datasets", "faiss", "urllib3"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    for name in ("datasets", "huggingface_hub"):  # they have a handler of their own, so each line would appear twice
        logging.getLogger(name).propagate = False
