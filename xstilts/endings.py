"""How a run ends before it is done: one line for the user, and failed.json in its folder for the report.

Whatever ends it: a user's error, a full disk, no memory, another process that is gone, a fault in the program or in a
library, Ctrl-C, or a signal such as a job's time limit sends. A process that is killed (SIGKILL) or crashes (SIGSEGV) can say
nothing itself; those that work with it do. Of one alone the report says that it was begun and has no result.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from xstilts import processes, results
from xstilts.errors import UserError, first_line, full_disk

# SIGINT is Python's own: KeyboardInterrupt
SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU)
NO_MEMORY = ("can't allocate memory", "cannot allocate memory", "out of memory", "alloc_failed")
LESS = "--per_device_train_batch_size (and raise --gradient_accumulation_steps), --per_device_eval_batch_size or --max_seq_length"
LESS_TO_MEASURE = "--max_seq_length, or give --dtype bf16"
REPORT = "This is a fault in the program or in a library: please report it, with all the lines printed here."


class Stopped(UserError):
    """A user's error whose text is a whole `sentence`."""


class Work:
    """What this process works on; there is one, `WORK`.

    Attributes:
        places: folders of its runs, where failed.json goes.
        begun: whether the work has begun: from then on a user's error leaves failed.json too.
        checkpoints: folder that holds the checkpoints; None for a measurement.
        trainer: while a training lasts.
        earlier: {folder: the failed.json that an earlier run has left there}.
        cause: what failed.json says of a training that stopped; a signal that comes before it is printed says the same.
        said: whether the line is printed.
    """

    def __init__(self):
        self.places, self.begun, self.checkpoints, self.trainer, self.earlier = [], False, None, None, {}
        self.cause, self.said = None, False


WORK = Work()
_telling = threading.Lock()  # held by the thread that says why the process ends


def claim(folder: str | os.PathLike) -> None:
    """From now on this process works on the run of `folder`, too."""
    if WORK.begun:
        WORK.__init__()
    WORK.places.append(Path(folder))
    WORK.earlier[Path(folder)] = _identity(Path(folder))


def begin(folder: str | os.PathLike, checkpoints: str | os.PathLike | None) -> None:
    """The work on that run begins, and on no other."""
    WORK.places, WORK.begun, WORK.checkpoints = [Path(folder)], True, checkpoints and Path(checkpoints)


def done() -> None:
    """The run that had begun has its results.json."""
    WORK.places, WORK.checkpoints = [], None


@contextlib.contextmanager
def failures(place: Path, checkpoints: Path, trainer) -> Iterator[None]:
    """A part of a training: keeps what stops it in failed.json, with the step.

    Raises:
        Stopped: a user can do something about it. Anything else is raised as it is.
    """
    before = dict(vars(WORK))
    vars(WORK).update(places=[place], begun=True, checkpoints=checkpoints, trainer=trainer)
    try:
        yield
    except BaseException as error:
        cause = cause_of(error)
        before["cause"] = WORK.cause = cause or named(error)
        keep(WORK.cause)
        if cause is None or not isinstance(error, Exception):
            raise
        raise Stopped(sentence(cause)) from error
    finally:
        vars(WORK).update(before)


def cause_of(error: BaseException) -> str | None:
    """Return why a run cannot go on and what to do, without a full stop; None where that is a fault in program or library."""
    said, torch = str(error).lower(), sys.modules.get("torch")
    if isinstance(error, UserError):
        return str(error).rstrip(".")
    if isinstance(error, KeyboardInterrupt):
        return "interrupted (Ctrl-C)"
    no_memory = MemoryError if torch is None else (MemoryError, torch.OutOfMemoryError)
    if isinstance(error, no_memory) or any(words in said for words in NO_MEMORY):
        return "out of memory" + (f"; lower {LESS if WORK.checkpoints else LESS_TO_MEASURE}" if WORK.begun else "")
    if "dataloader worker" in said:  # torch says which, and by what signal
        return f"{first_line(error).rstrip('.')}. Often memory has run out; lower --dataloader_num_workers"
    if isinstance(error, BrokenPipeError):
        return "the program that reads its output has ended (broken pipe)"
    if isinstance(error, OSError) and error.errno in (errno.ENAMETOOLONG, errno.ELOOP):  # whatever argument the path is of
        return f"{error.strerror}: {error.filename}"
    if full := full_disk(error):
        where = "the folder cannot" if WORK.begun else "nothing can"
        return f"{where} be written, the disk may be full ({full}). Make room, or choose another folder"
    return processes.lost(error)


def named(error: BaseException) -> str:
    """Return an error's kind and the first line of what it says."""
    return f"{type(error).__name__}: {first_line(error).rstrip('.')}"


def sentence(cause: str) -> str:
    """Return the user's line: which run stopped, at which step, why, and from where the same command goes on."""
    if not (WORK.begun and WORK.places):
        return f"{cause}."
    step = f" at step {WORK.trainer.state.global_step}" if WORK.trainer else ""
    line = f"{WORK.places[0]} stopped{step}: {cause}."
    if WORK.checkpoints is None:
        return line
    last, stages = last_good(), sorted(WORK.checkpoints.glob("checkpoint-*/done"))  # `xstilts.stages` keeps a stage that is done
    goes_on = "goes on from it." if last else f"goes on after {stages[-1].parent.name}." if stages else "begins anew."
    return f"{line} Last good checkpoint: {last or 'none'}; the same command {goes_on}"


def last_good() -> str | None:
    """Return the newest whole checkpoint of the run that has begun, or None."""
    if WORK.checkpoints is None:
        return None
    from xstilts import folders  # takes seconds, but for a training, which has it already

    return folders.newest_whole(WORK.checkpoints)


def keep(cause: str, refused: bool = False) -> None:
    """Write failed.json into the folders of this process's runs, unless another process of the run has done so.

    Under make, which names the run's folder in XSTILTS_CELL, also where there is no run yet.

    Args:
        refused: nothing is left behind, but under make, if the work had not begun.
    """
    cell = os.environ.get("XSTILTS_CELL")
    places = [] if refused and not WORK.begun else [place for place in WORK.places if not (place / results.FILE_NAME).exists()]
    for place in places or ([Path(cell)] if cell else []):
        if _identity(place) not in (None, WORK.earlier.get(place)):
            continue
        try:
            results.write_failure(place, cause, last_good())
        except UserError:  # the disk is full, maybe of a checkpoint that could not be written to its end
            if WORK.checkpoints is not None:
                from xstilts import folders

                with contextlib.suppress(UserError, OSError):
                    folders.remove_torn(WORK.checkpoints)
                    results.write_failure(place, cause, last_good())


def _identity(place: Path) -> tuple[int, int] | None:
    """What tells a folder's failed.json from others that were there or will be; no time that a clock decides."""
    with contextlib.suppress(OSError):
        found = (place / results.FAILED).stat()
        return found.st_ino, found.st_mtime_ns
    return None


# ---- a script, from outside ----------------------------------------------------------------------------------------------

@contextlib.contextmanager
def one_line() -> Iterator[None]:
    """Say in one line on stderr what ends the block too early, and end the process.

    Exit codes: 2 where a user can do something about it, 1 for a fault in the program, which keeps its traceback below the
    line, 130 for Ctrl-C, 128 + n for signal n.
    """
    WORK.__init__()
    if cell := os.environ.get("XSTILTS_CELL"):
        WORK.earlier[Path(cell)] = _identity(Path(cell))
    with _signals():
        try:
            yield
        except SystemExit as leave:
            if leave.code not in (None, 0):
                _tell(f"ended with exit code {leave.code}")
            raise
        except BaseException as error:
            cause = cause_of(error)
            _tell(cause or named(error), refused=cause is not None, whole=str(error) if isinstance(error, Stopped) else None,
                  more="" if cause else f" {REPORT}")
            if cause is None and isinstance(error, Exception):
                raise
            sys.exit(130 if isinstance(error, KeyboardInterrupt) else 2 if cause else 1)


def bearable(line: str) -> str:
    """An error as one line of bearable length: what was given, and is quoted, may hold line ends and thousands of letters."""
    line = " ".join(line.splitlines())
    return line if len(line) <= 1500 else f"{line[:1000]} ... {line[-400:]}"


def _tell(cause: str, refused: bool = False, whole: str | None = None, more: str = "") -> None:
    """Keeps the cause, and prints the line: `whole`, or the sentence made of it."""
    with _telling:
        keep(cause, refused)
        _print(bearable(whole or sentence(cause)) + more)
        WORK.said = True


def _print(sentence: str) -> None:
    """The line on stderr, not behind a progress bar."""
    line, tqdm = f"{Path(sys.argv[0]).name}: error: {sentence}", sys.modules.get("tqdm")
    with contextlib.suppress(OSError):  # nobody may read it any more
        if tqdm is None:
            print(line, file=sys.stderr)
        else:
            tqdm.tqdm.write(line, file=sys.stderr, nolock=True)
        sys.stderr.flush()


@contextlib.contextmanager
def _signals() -> Iterator[None]:
    """Within the block a signal that would end the process without a word ends it with one.

    A thread does it: the main one may be in a call that does not come back, such as waiting for a process that is gone.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    caught = [one for one in SIGNALS if signal.getsignal(one) == signal.SIG_DFL]  # nohup's, and others' own, stay
    out, into = os.pipe()
    os.set_blocking(into, False)
    before = signal.set_wakeup_fd(into, warn_on_full_buffer=False)
    for one in caught:
        signal.signal(one, _woken)
    _caught.extend(caught)
    thread = threading.Thread(target=_wait, args=[out], daemon=True)
    thread.start()
    try:
        yield
    finally:
        _let_go()
        signal.set_wakeup_fd(before)
        os.write(into, b"\0")
        thread.join()
        os.close(out)
        os.close(into)


_caught: list[signal.Signals] = []


def _woken(number: int, frame: object) -> None:
    """Python's handler: there is one only so that the number of the signal goes to the thread that waits for it."""


def _let_go() -> None:
    while _caught:
        if signal.getsignal(one := _caught.pop()) == _woken:
            signal.signal(one, signal.SIG_DFL)


# A forked process has signals of its own, from its first moment: what is sent to the worker of a data loader is none of the run's.
_fork = threading.local()


def _before_fork() -> None:
    _fork.mask = signal.pthread_sigmask(signal.SIG_BLOCK, _caught)


def _after_fork() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _fork.mask)


def _in_child() -> None:
    if _caught:
        signal.set_wakeup_fd(-1)
        _let_go()
    _after_fork()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_in_child)


def _wait(out: int) -> None:
    """Ends the process when one of the signals comes, unless a library handles it by now; returns at the end of the block."""
    while number := os.read(out, 1)[0]:
        if signal.getsignal(number) == _woken:
            _end(signal.Signals(number))


def _end(one: signal.Signals) -> None:
    no_longer = threading.Timer(10, os._exit, [128 + one])  # a disk may not answer
    no_longer.daemon = True
    no_longer.start()
    try:
        if _telling.acquire(timeout=5) and not WORK.said:  # never released: the main thread has nothing to add
            gone = processes.gone()
            cause = WORK.cause or (f"{gone}, and the launcher ended the others ({one.name})" if gone else f"ended by {one.name}")
            keep(cause)
            _print(sentence(cause))
            if os.environ.get("WORLD_SIZE", "1") != "1":
                time.sleep(0.5)  # processes that are ended at the same time are not to take each other for gone before
    finally:
        os._exit(128 + one)
