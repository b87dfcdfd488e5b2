"""Several processes that share one job, as torchrun and accelerate launch start them: the first leads, the others help.

The first process runs the program as if it were alone, and alone reads, searches and writes; what can be shared it hands
out as a function that every process runs (`Team.share`). Files pass the results on, because they hold more than memory
does, and need no graphics card's own network.
"""

from __future__ import annotations

import contextlib
import gc
import itertools
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta

from xstilts.errors import UserError, first_line

PATIENCE = timedelta(days=30)  # helpers wait while the first process mines; the library's half hour would end the run
SILENCE = 60.0  # seconds without a sign of life from a process on another host, after which it counts as lost; see `watch`

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
            raise UserError(f"WORLD_SIZE={asked} is set, but not what goes with it (RANK, LOCAL_RANK, MASTER_ADDR): {HOW} For one "
                            "process unset it.")
        if asked != "1":
            import torch.distributed.nn  # noqa: F401  before there is a group: its functions keep the one there is for their default, see `leave`
        return int(asked)
    for name in COPIES:
        if os.environ.get(name, "1") not in ("", "0", "1"):
            raise UserError(f"{name}={os.environ[name]}: so many copies of this run were started, each by itself. {HOW}")
    if "MASTER_ADDR" in os.environ:
        raise UserError(f"Several processes were asked for (MASTER_ADDR is set), one was started (WORLD_SIZE is not). {HOW} For one "
                        "process unset MASTER_ADDR.")
    if os.environ.get("LOCAL_RANK", "-1") != "-1":
        raise UserError(f"LOCAL_RANK={os.environ['LOCAL_RANK']} is set, as a launcher does, but WORLD_SIZE is not. {HOW} For one process "
                        "unset it.")
    return 1


HOW = "Start them with `torchrun --standalone --nproc_per_node N`, or `accelerate launch --config_file recipes/accelerate/...`."


def watch(keep: Callable[[str], None] = lambda cause: None) -> None:
    """From now on this process ends, with one line, once another one has given no sign of life for `SILENCE` seconds.

    A host that is cut off closes no connection, so those that wait for it wait for the library's half hour, and in `gather`
    for good. Started on one host it does nothing: there the launcher ends all processes when one has ended.

    Args:
        keep: is told the cause before the end; it has ten seconds, because the folder may be cut off too.
    """
    global _watcher
    world = world_size()
    if _watcher is None and world > int(os.environ.get("LOCAL_WORLD_SIZE", 1)):
        _watcher = Watcher(int(os.environ["RANK"]), world, keep)


class Watcher:
    """Two threads: `beat` says that this process is alive and hears it of the others, `judge` ends it when one is silent.

    They meet in the store through which the processes found each other. Where that cannot be reached `beat` is stuck or
    ends, and hears nothing of anyone.
    """

    def __init__(self, rank: int, world: int, keep: Callable[[str], None]):
        self.rank, self.world, self.keep = rank, world, keep
        self.heard = {other: time.monotonic() for other in range(world) if other != rank}
        self.left = threading.Event()
        self.threads = [threading.Thread(target=run, daemon=True) for run in (self.beat, self.judge)]
        for thread in self.threads:
            thread.start()

    def beat(self) -> None:
        from torch.distributed import DistError, TCPStore

        with contextlib.suppress(DistError):
            # a connection of its own: on the group's one a stuck call would stop the others
            store = TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False, wait_for_workers=False)
            said = {}
            for number in itertools.count():
                store.set(f"alive-{self.rank}", str(number))
                for other in self.heard:
                    word = store.get(f"alive-{other}")
                    if word == b"left":
                        self.heard[other] = float("inf")
                    elif word != said.get(other):
                        self.heard[other], said[other] = time.monotonic(), word
                if self.left.wait(SILENCE / 12):
                    return store.set(f"alive-{self.rank}", "left")

    def judge(self) -> None:
        while not self.left.wait(SILENCE / 12):
            silent = [other for other, last in self.heard.items() if time.monotonic() - last > SILENCE]
            if silent:
                who = f"process {' '.join(map(str, silent))} of {self.world}"
                cause = f"no word from {who} for {SILENCE:.0f} seconds: its host is gone or cut off"
                print(f"{os.path.basename(sys.argv[0])}: error: {cause}. {AGAIN}", file=sys.stderr, flush=True)
                no_longer = threading.Timer(10, os._exit, [2])
                no_longer.daemon = True
                no_longer.start()
                try:
                    self.keep(cause)
                finally:
                    os._exit(2)  # the main thread is in a call that does not come back

    def leave(self) -> None:
        self.left.set()
        for thread in self.threads:
            thread.join(timeout=SILENCE)


_watcher: Watcher | None = None
AGAIN = "The same command, started again on every host, goes on from the last checkpoint."


def lost(error: BaseException) -> str | None:
    """What a library's error means by which another process cannot be reached, without a full stop; None of any other error."""
    torch = sys.modules.get("torch")
    if torch is None or not (isinstance(error, torch.distributed.DistError) or "gloo/transport" in str(error)):
        return None
    who = gone() or "another process of this run has ended, or cannot be reached"
    said = re.sub(r"^\[\S+:\d+\] ", "", first_line(error))  # gloo begins with a place in its own source
    return f"{who} ({said.partition('. ')[0]})"


def gone() -> str | None:
    """Which of this host's processes of the run has ended, as a sentence; None if none has, or nobody can tell."""
    here, world = (int(os.environ.get(name, 1)) for name in ("LOCAL_WORLD_SIZE", "WORLD_SIZE"))
    if here < 2:
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
    """Ends the group of processes, if there is one, and the threads that work for it.

    They would outlive the interpreter and, now and then, abort a run that has finished: github.com/pytorch/pytorch/pull/179291.
    """
    global _watcher
    if _watcher is not None:
        _watcher.leave()
        _watcher = None
    torch = sys.modules.get("torch")
    if torch is not None and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
        gc.collect()  # the threads end with the last reference, and a model wrapped for the group holds one in a circle


class Team:
    """The processes of this run: `rank` of this one, 0 leads; `size` of them, 1 outside `gather`."""

    rank, size, _sharing = 0, 1, False

    @contextlib.contextmanager
    def gather(self) -> Iterator[bool]:
        """Yields True on the first process; on the others False, after they have helped until the first left the block.

        Started as one process it yields True and does nothing else.

        Raises:
            UserError: see `world_size`.
        """
        world = world_size()
        if world == 1:
            yield True
            return
        import torch

        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        torch.distributed.init_process_group("gloo", timeout=PATIENCE)
        watch()
        self.rank, self.size = torch.distributed.get_rank(), world
        try:
            if self.rank == 0:
                try:
                    yield True
                finally:
                    # Helpers that still work would wait for a word of another kind: the launcher ends them.
                    if not self._sharing:
                        _said(None)
            else:
                while (job := _said()) is not None:
                    function, *arguments = job
                    function(*arguments)
                    torch.distributed.barrier()
                yield False
        finally:
            self.rank, self.size = 0, 1
        leave()

    @contextlib.contextmanager
    def share(self, function: Callable, *arguments: object) -> Iterator[None]:
        """The helpers run `function(*arguments)` beside this block of the first process; left when all are done."""
        import torch

        self._sharing = True
        _said((function, *arguments))
        yield
        torch.distributed.barrier()
        self._sharing = False


TEAM = Team()


def _said(job: object = None) -> object:
    """What the first process says, on every process."""
    import torch

    box = [job]
    torch.distributed.broadcast_object_list(box, src=0)
    return box[0]
