"""Why a run cannot go on, in words for a user."""

from __future__ import annotations

import errno
import sys

from xstilts.errors import UserError, first_line, full_disk
from xstilts.run import processes

NO_MEMORY = ("can't allocate memory", "cannot allocate memory", "out of memory", "alloc_failed")
LESS_TO_TRAIN = (
    "; lower --per_device_train_batch_size (and raise --gradient_accumulation_steps), --per_device_eval_batch_size or "
    "--max_seq_length"
)
LESS_TO_MEASURE = "; lower --max_seq_length, or give --dtype bf16"


def cause_of(error: BaseException, less: str | None = None) -> str | None:
    """Return why a run cannot go on and what to do, without a full stop; None where that is a fault in program or
    library.

    Args:
        less: what to lower where memory is short, of a run that has begun; None of one that has not.
    """
    said, torch = str(error).lower(), sys.modules.get("torch")
    if isinstance(error, UserError):
        return str(error).rstrip(".")
    if isinstance(error, KeyboardInterrupt):
        return "interrupted (Ctrl-C)"
    no_memory = MemoryError if torch is None else (MemoryError, torch.OutOfMemoryError)
    if isinstance(error, no_memory) or any(words in said for words in NO_MEMORY):
        return "out of memory" + (less or "")
    if "dataloader worker" in said:  # torch says which, and by what signal
        return f"{first_line(error).rstrip('.')}. Often memory has run out; lower --dataloader_num_workers"
    if isinstance(error, BrokenPipeError):
        return "the program that reads its output has ended (broken pipe)"
    if isinstance(error, OSError) and error.errno in (errno.ENAMETOOLONG, errno.ELOOP):
        # whatever argument the path is of
        return f"{error.strerror}: {error.filename}"
    if full := full_disk(error):
        where = "nothing can" if less is None else "the folder cannot"
        return f"{where} be written, the disk may be full ({full}). Make room, or choose another folder"
    return processes.lost(error)


def named(error: BaseException) -> str:
    """Return an error's kind and the first line of what it says."""
    return f"{type(error).__name__}: {first_line(error).rstrip('.')}"
