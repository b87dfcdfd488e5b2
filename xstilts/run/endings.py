"""How a script ends before it is done: one line for the user, and failed.json in the run's folder for the report.

Whatever ends it: a user's error, a full disk, no memory, another process that is gone, a fault in the program or in a
library, Ctrl-C, or a signal such as a job's time limit sends. A process that is killed (SIGKILL) or crashes (SIGSEGV)
can say nothing itself; those that work with it do. Of one alone the report says that it was begun and has no result.

An open `Run` keeps its cause itself; here is what comes before and after it, and the signals.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from xstilts.run import causes, inputs, processes
from xstilts.run.lifecycle import PROCESS, Marks, fail_unopened, unopened

# SIGINT is Python's own: KeyboardInterrupt
SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU)
REPORT = "This is a fault in the program or in a library: please report it, with all the lines printed here."

_telling = threading.Lock()  # held by the thread that says why the process ends
_said = threading.Event()  # the line is printed


def command(main: Callable[[list[str]], None]) -> None:
    """Runs a script's main; what ends it too early is said in one line, see `one_line`.

    An output folder that was made and nothing was written to is removed.
    """
    try:
        with one_line():
            main(sys.argv[1:])
            processes.leave()
    finally:
        inputs.remove_empty()


@contextlib.contextmanager
def one_line() -> Iterator[None]:
    """Say in one line on stderr what ends the block too early, and end the process.

    Exit codes: 2 where a user can do something about it, 1 for a fault in the program, which keeps its traceback below
    the line, 130 for Ctrl-C, 128 + n for signal n.
    """
    PROCESS.runs, PROCESS.stopped = [], None
    _said.clear()
    earlier = unopened(sys.argv)
    with _signals(earlier):
        try:
            yield
        except SystemExit as leave:
            if leave.code not in (None, 0):
                _tell(f"ended with exit code {leave.code}", earlier)
            raise
        except BaseException as error:
            cause = causes.cause_of(error)
            _tell(cause or causes.named(error), earlier, more="" if cause else f" {REPORT}")
            if cause is None and isinstance(error, Exception):
                raise
            sys.exit(130 if isinstance(error, KeyboardInterrupt) else 2 if cause else 1)


def bearable(line: str) -> str:
    """Return an error as one line of bearable length: what was given, and is quoted, may hold line ends and thousands
    of letters."""
    line = " ".join(line.splitlines())
    return line if len(line) <= 1500 else f"{line[:1000]} ... {line[-400:]}"


def _tell(cause: str, earlier: Marks, more: str = "") -> None:
    """Print the line of the run that stopped; where none was at work, the cause, which make's cells keep in
    failed.json."""
    with _telling:
        if PROCESS.stopped is None:
            fail_unopened(cause, earlier)
        _print(bearable(PROCESS.stopped or f"{cause}.") + more)
        _said.set()


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
def _signals(earlier: Marks) -> Iterator[None]:
    """Within the block a signal that would end the process without a word ends it with one.

    A thread does it: the main one may be in a call that does not come back, such as waiting for a process that is
    gone.
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
    thread = threading.Thread(target=_wait, args=[out, earlier], daemon=True)
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


# A forked process has signals of its own, from its first moment: what is sent to the worker of a data loader is none
# of the run's.
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


def _wait(out: int, earlier: Marks) -> None:
    """Ends the process when one of the signals comes, unless a library handles it by now; returns at the end of the
    block."""
    while number := os.read(out, 1)[0]:
        if signal.getsignal(number) == _woken:
            _end(signal.Signals(number), earlier)


def _end(one: signal.Signals, earlier: Marks) -> None:
    no_longer = threading.Timer(10, os._exit, [128 + one])  # a disk may not answer
    no_longer.daemon = True
    no_longer.start()
    try:
        if _telling.acquire(timeout=5) and not _said.is_set():  # never released: the main thread has nothing to add
            if PROCESS.stopped is None:
                _stop(one, earlier)
            _print(PROCESS.stopped or "")
            if os.environ.get("WORLD_SIZE", "1") != "1":
                time.sleep(0.5)  # processes that are ended at the same time are not to take each other for gone before
    finally:
        os._exit(128 + one)


def _stop(one: signal.Signals, earlier: Marks) -> None:
    """Keep in failed.json that a signal ends the runs at work."""
    gone, runs = processes.gone(), PROCESS.at_work()
    cause = f"{gone}, and the launcher ended the others ({one.name})" if gone else f"ended by {one.name}"
    for run in runs:
        run.fail(cause)
    if not runs:
        fail_unopened(cause, earlier)
    PROCESS.stopped = runs[0].sentence(cause) if runs else f"{cause}."
