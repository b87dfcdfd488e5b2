"""Turn an exception into the cause that the user reads."""

from __future__ import annotations

import errno
import sys

from tasks.errors import UserError, first_line, full_disk, not_installed
from xstilts.run import processes

NO_MEMORY = ("can't allocate memory", "cannot allocate memory", "out of memory", "alloc_failed")
LESS_TO_TRAIN = (
    "; lower --per_device_train_batch_size (and raise --gradient_accumulation_steps), --per_device_eval_batch_size or "
    "--max_seq_length"
)
LESS_TO_MEASURE = "; lower --max_seq_length, or give --dtype bf16"


def cause_of(error: BaseException, less: str | None = None) -> str | None:
    """Return the cause and what to do, without a full stop; None for a bug in this program or a library.

    Args:
        less: what to lower when memory runs out; None for a run that has not begun.
    """
    message, torch = str(error).lower(), sys.modules.get("torch")
    if isinstance(error, UserError):
        return str(error).rstrip(".")
    if isinstance(error, ModuleNotFoundError) and _is_third_party(package := (error.name or "").partition(".")[0]):
        return not_installed(package)
    if isinstance(error, KeyboardInterrupt):
        return "interrupted (Ctrl-C)"
    no_memory = MemoryError if torch is None else (MemoryError, torch.OutOfMemoryError)
    if isinstance(error, no_memory) or any(words in message for words in NO_MEMORY):
        return "out of memory" + (less or "")
    if "dataloader worker" in message:  # torch names the worker and the signal
        return f"{first_line(error).rstrip('.')}. Often memory has run out; lower --dataloader_num_workers"
    if isinstance(error, BrokenPipeError):
        return "the program that reads its output has ended (broken pipe)"
    if isinstance(error, OSError) and error.errno in (errno.ENAMETOOLONG, errno.ELOOP):
        return f"{error.strerror}: {error.filename}"
    if full := full_disk(error):
        subject = "a file" if less is None else "the folder"
        return f"{subject} cannot be written, the disk may be full ({full}). Free disk space, or choose another folder"
    return processes.lost(error)


def sentence(cause: str) -> str:
    """Return a cause as a sentence; one that ends with a question has its mark already."""
    return cause if cause.endswith("?") else f"{cause}."


def _is_third_party(package: str) -> bool:
    return bool(package) and package not in sys.stdlib_module_names and package not in ("xstilts", "tasks", "world")


def named(error: BaseException) -> str:
    """Return an error's class and the first line of its message."""
    return f"{type(error).__name__}: {first_line(error).rstrip('.')}"
