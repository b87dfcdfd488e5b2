"""The ranks of a run: the processes that torchrun or accelerate launch started for it."""

from __future__ import annotations

import contextlib
import gc
import os
import re
import sys
from typing import TypeVar

from tasks.errors import UserError, first_line

T = TypeVar("T")

# Variables that mpirun and srun set. They start copies that do not form one group as torchrun's processes do.
COPIES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS")


def world_size() -> int:
    """Return the number of ranks, as the launcher set it.

    Raises:
        UserError: a launcher did not start the processes it was asked for as one group. On a CPU `accelerate launch
            --cpu --num_processes 2` starts one process; mpirun and srun start independent copies.
    """
    size = os.environ.get("WORLD_SIZE")
    if size is not None:
        if not size.isdecimal() or (size != "1" and not {"RANK", "LOCAL_RANK", "MASTER_ADDR"} <= os.environ.keys()):
            raise UserError(
                f"WORLD_SIZE={size} is set, but RANK, LOCAL_RANK or MASTER_ADDR is not. {HOW} For one process unset "
                "WORLD_SIZE."
            )
        if size != "1":
            # before there is a group: its functions would keep the group as their default argument, see `leave`
            import torch.distributed.nn  # noqa: F401
        return int(size)
    for name in COPIES:
        if os.environ.get(name, "1") not in ("", "0", "1"):
            raise UserError(
                f"{name}={os.environ[name]}: that many processes were started, but they do not form one group. {HOW}"
            )
    if "MASTER_ADDR" in os.environ:
        raise UserError(
            f"MASTER_ADDR is set, as for several processes, but WORLD_SIZE is not: only one was started. {HOW} For "
            "one process unset MASTER_ADDR."
        )
    if os.environ.get("LOCAL_RANK", "-1") != "-1":
        raise UserError(
            f"LOCAL_RANK={os.environ['LOCAL_RANK']} is set, as by a launcher, but WORLD_SIZE is not. {HOW} For one "
            "process unset LOCAL_RANK."
        )
    return 1


HOW = (
    "Start them with `torchrun --standalone --nproc_per_node N`, or `accelerate launch --config_file "
    "recipes/accelerate/...`."
)


def is_first() -> bool:
    """Return whether this is rank 0, the one that writes files; a single process is."""
    # without WORLD_SIZE, RANK may be a variable of something else
    return os.environ.get("WORLD_SIZE", "1") == "1" or int(os.environ.get("RANK", 0)) == 0


def broadcast(value: T) -> T:
    """Return rank 0's value on every rank. All ranks call this together; without a group each gets its own."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.distributed.is_initialized():
        return value
    box = [value]
    torch.distributed.broadcast_object_list(box)
    return box[0]


# what gloo says of a peer that is gone: a line of its source code, or that it waited longer than --ddp_timeout
_PEER_GONE = ("gloo/transport", "Application timeout caused pair closure")


def lost(error: BaseException) -> str | None:
    """Return the cause, without a full stop, if an error means that another rank is unreachable; otherwise None."""
    torch = sys.modules.get("torch")
    if torch is None:
        return None
    if not isinstance(error, torch.distributed.DistError) and not any(text in str(error) for text in _PEER_GONE):
        return None
    who = gone() or "another process of this run has ended, or cannot be reached"
    message = re.sub(r"^\[\S+:\d+\] ", "", first_line(error))  # gloo begins with a line of its source code
    return f"{who} ({message.partition('. ')[0]})"


def gone() -> str | None:
    """Return a sentence naming the ranks of this host that have ended; None if none has, or it is not known."""
    here, world = (int(os.environ.get(name, 1)) for name in ("LOCAL_WORLD_SIZE", "WORLD_SIZE"))
    torch = sys.modules.get("torch")
    if (
        here < 2 or torch is None or not torch.distributed.is_initialized()
    ):  # before there is a group, or after `leave`
        return None
    import psutil

    alive = set()
    for process in psutil.Process(os.getppid()).children():  # of the launcher
        with contextlib.suppress(psutil.Error):  # it has just ended
            alive.add(process.environ().get("RANK"))
    first = int(os.environ["RANK"]) - int(os.environ["LOCAL_RANK"])
    ended = [str(rank) for rank in range(first, first + here) if str(rank) not in alive]
    if not ended or os.environ["RANK"] in ended:  # the launcher has ended, so this process has another parent
        return None
    return f"process {' '.join(ended)} of {world} has ended"


def leave() -> None:
    """Destroy the process group, if there is one. From then on each rank can end on its own.

    The group's threads may outlive the interpreter and then abort a finished run:
    github.com/pytorch/pytorch/pull/179291.
    """
    torch = sys.modules.get("torch")
    if torch is not None and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
        # the threads end with the last reference; a wrapped model holds one in a reference cycle
        gc.collect()
