"""Several processes that work on one run together, as torchrun and accelerate launch start them: one process is one
rank."""

from __future__ import annotations

import contextlib
import gc
import os
import re
import sys
from typing import TypeVar

from xstilts.errors import UserError, first_line

T = TypeVar("T")

# What mpirun and srun tell each of the copies they start; neither makes them one run as torchrun does.
COPIES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS")


def world_size() -> int:
    """The number of processes that work on this run together, as their launcher told each of them.

    Raises:
        UserError: a launcher was asked for more than it started as one run. On a CPU `accelerate launch --cpu
            --num_processes 2` starts one process, and mpirun and srun start copies that know nothing of each other.
    """
    asked = os.environ.get("WORLD_SIZE")
    if asked is not None:
        if not asked.isdecimal() or (asked != "1" and not {"RANK", "LOCAL_RANK", "MASTER_ADDR"} <= os.environ.keys()):
            raise UserError(
                f"WORLD_SIZE={asked} is set, but not what goes with it (RANK, LOCAL_RANK, MASTER_ADDR): {HOW} For one "
                "process unset it."
            )
        if asked != "1":
            import torch.distributed.nn  # noqa: F401  before there is a group: its functions keep the one there is for their default, see `leave`
        return int(asked)
    for name in COPIES:
        if os.environ.get(name, "1") not in ("", "0", "1"):
            raise UserError(
                f"{name}={os.environ[name]}: so many copies of this run were started, each by itself. {HOW}"
            )
    if "MASTER_ADDR" in os.environ:
        raise UserError(
            f"Several processes were asked for (MASTER_ADDR is set), one was started (WORLD_SIZE is not). {HOW} For "
            "one process unset MASTER_ADDR."
        )
    if os.environ.get("LOCAL_RANK", "-1") != "-1":
        raise UserError(
            f"LOCAL_RANK={os.environ['LOCAL_RANK']} is set, as a launcher does, but WORLD_SIZE is not. {HOW} For one "
            "process unset it."
        )
    return 1


HOW = (
    "Start them with `torchrun --standalone --nproc_per_node N`, or `accelerate launch --config_file "
    "recipes/accelerate/...`."
)


def is_first() -> bool:
    """Return whether this process writes: the only one, or rank 0 of those that a launcher started."""
    # alone RANK is somebody else's variable
    return os.environ.get("WORLD_SIZE", "1") == "1" or int(os.environ.get("RANK", 0)) == 0


def broadcast(value: T) -> T:
    """Return rank 0's value on every rank. All ranks call it together; before they have met, each gets its own."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.distributed.is_initialized():
        return value
    box = [value]
    torch.distributed.broadcast_object_list(box)
    return box[0]


def lost(error: BaseException) -> str | None:
    """What a library's error means by which another process cannot be reached, without a full stop; None of any other
    error."""
    torch = sys.modules.get("torch")
    if torch is None or not (isinstance(error, torch.distributed.DistError) or "gloo/transport" in str(error)):
        return None
    who = gone() or "another process of this run has ended, or cannot be reached"
    said = re.sub(r"^\[\S+:\d+\] ", "", first_line(error))  # gloo begins with a place in its own source
    return f"{who} ({said.partition('. ')[0]})"


def gone() -> str | None:
    """Which of this host's processes of the run has ended, as a sentence; None if none has, or nobody can tell."""
    here, world = (int(os.environ.get(name, 1)) for name in ("LOCAL_WORLD_SIZE", "WORLD_SIZE"))
    torch = sys.modules.get("torch")
    if here < 2 or torch is None or not torch.distributed.is_initialized():  # before they met, or after `leave`
        return None
    import psutil

    alive = set()
    for process in psutil.Process(os.getppid()).children():  # of the launcher
        with contextlib.suppress(psutil.Error):  # ended just now, or not yet collected
            alive.add(process.environ().get("RANK"))
    first = int(os.environ["RANK"]) - int(os.environ["LOCAL_RANK"])
    ended = [str(rank) for rank in range(first, first + here) if str(rank) not in alive]
    if not ended or os.environ["RANK"] in ended:  # the launcher is gone, and this process has another parent
        return None
    return f"process {' '.join(ended)} of {world} has ended"


def leave() -> None:
    """End the group of processes, if there is one: from now on each works, and may end, on its own.

    Its threads would outlive the interpreter and, now and then, abort a run that has finished:
    github.com/pytorch/pytorch/pull/179291.
    """
    torch = sys.modules.get("torch")
    if torch is not None and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
        # the threads end with the last reference, and a model wrapped for the group holds one in a circle
        gc.collect()
