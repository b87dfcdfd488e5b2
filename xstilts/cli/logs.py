"""What a command says while it works: its own lines, and of the libraries warnings alone, each once."""

from __future__ import annotations

import logging


def begin(level: int = logging.INFO) -> None:
    """Prints what is logged from `level` on to stderr, as it is."""
    logging.basicConfig(level=level, format="%(message)s")
    for noisy in ("httpx", "httpx2", "filelock", "fsspec", "datasets", "faiss", "urllib3"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    for name in ("datasets", "huggingface_hub"):  # these print by themselves too, and each line would come twice
        logging.getLogger(name).propagate = False
