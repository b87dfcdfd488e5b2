"""What happens when a script stops early: one line for the user, and failed.json in the run's folder for the report.

This covers a user's error, a full disk, lack of memory, a lost peer process, a bug here or in a library, Ctrl-C, and
signals such as a job's time limit sends. A process that is killed (SIGKILL) or crashes (SIGSEGV) cannot report it, but
its peers do. If it has none, the report lists the run as started and without a result.

An open `Run` records its cause itself. This module handles the time before and after it, and the signals.
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

from tasks.errors import UserError
from xstilts.run import causes, inputs, processes
from xstilts.run.lifecycle import Marks, fail_unopened, this_process, unopened

# SIGINT is Python's own: KeyboardInterrupt
SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU)
REPORT = "This is a fault in the program or in a library: please report it, with all the lines printed here."


class _Endings:
    """State that threads and forks share while the process ends. There is one instance, `_endings()`.

    A forked process, such as a data loader's worker, gets default handlers before it can receive a signal: a signal
    sent to it must not be reported as one sent to the run.

    Attributes:
        reporting: held by the thread that reports why the process ends.
        reported: set when the line is printed.
        caught: the signals whose handler is `_handler`.
    """

    def __init__(self) -> None:
        self.reporting = threading.Lock()
        self.reported = threading.Event()
        self.caught: list[signal.Signals] = []
        self._masks = threading.local()  # of each thread, before its fork
        os.register_at_fork(before=self._block, after_in_parent=self._unblock, after_in_child=self._in_child)

    def restore_defaults(self) -> None:
        """Give the caught signals their default handlers, unless a library has set others by now."""
        while self.caught:
            if signal.getsignal(number := self.caught.pop()) == _handler:
                signal.signal(number, signal.SIG_DFL)

    def _block(self) -> None:
        self._masks.before = signal.pthread_sigmask(signal.SIG_BLOCK, self.caught)

    def _unblock(self) -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, self._masks.before)

    def _in_child(self) -> None:
        if self.caught:
            signal.set_wakeup_fd(-1)
            self.restore_defaults()
        self._unblock()


@functools.cache
def _endings() -> _Endings:
    return _Endings()


def command(main: Callable[[list[str]], None]) -> None:
    """Run a script's main. An error ends it with one line, see `ends_in_one_line`.

    Output folders that it created and wrote nothing to are removed.
    """
    try:
        with ends_in_one_line():
            refuse_without_docstrings()
            main(sys.argv[1:])
            processes.leave()
    finally:
        inputs.remove_empty()


def tool(main: Callable[[], int | None]) -> NoReturn:
    """Run the main of a tool, `python -m xstilts.<tool>`, and exit with its status.

    An error that the user can fix, such as a missing package, is one line on stderr. A tool has no run to report on.
    """
    try:
        refuse_without_docstrings()
        sys.exit(main())
    except (Exception, KeyboardInterrupt) as error:
        if (cause := causes.cause_of(error)) is None:
            raise
        print(f"error: {shorten(causes.sentence(cause))}", file=sys.stderr)
        sys.exit(130 if isinstance(error, KeyboardInterrupt) else 2)


def refuse_without_docstrings() -> None:
    """Raise UserError under `python -OO`: transformers reads docstrings when it is imported, and --help shows ours."""
    if sys.flags.optimize > 1:
        raise UserError(
            "python -OO (PYTHONOPTIMIZE=2) leaves out docstrings, which transformers reads. Start Python without it."
        )


@contextlib.contextmanager
def ends_in_one_line() -> Iterator[None]:
    """Print one line on stderr if an error or signal ends the block, and exit.

    Exit codes: 2 for an error that the user can fix, 1 for a bug (with traceback), 130 for Ctrl-C, 128 + n for
    signal n.
    """
    process = this_process()
    process.runs, process.stopped = [], None
    _endings().reported.clear()
    earlier = unopened(sys.argv)
    with _signals(earlier):
        try:
            yield
        except SystemExit as leave:
            if leave.code not in (None, 0):
                _report(f"ended with exit code {leave.code}", earlier)
            raise
        except BaseException as error:
            cause = causes.cause_of(error)
            _report(cause or causes.named(error), earlier, more="" if cause else f" {REPORT}")
            if cause is None and isinstance(error, Exception):
                raise
            sys.exit(130 if isinstance(error, KeyboardInterrupt) else 2 if cause else 1)


def shorten(line: str) -> str:
    """Return an error message as one line of at most 1,500 characters; it may quote long input with line ends."""
    line = " ".join(line.splitlines())
    return line if len(line) <= 1500 else f"{line[:1000]} ... {line[-400:]}"


def _report(cause: str, earlier: Marks, more: str = "") -> None:
    """Print the message of the run that stopped. If no run was active, print the cause and write make's
    failed.json."""
    with _endings().reporting:
        if this_process().stopped is None:
            fail_unopened(cause, earlier)
        _print(shorten(this_process().stopped or causes.sentence(cause)) + more)
        _endings().reported.set()


def _print(sentence: str) -> None:
    """Print an error line on stderr, clear of progress bars."""
    line, tqdm = f"{Path(sys.argv[0]).name}: error: {sentence}", sys.modules.get("tqdm")
    with contextlib.suppress(OSError):  # stderr may be closed
        if tqdm is None:
            print(line, file=sys.stderr)
        else:
            tqdm.tqdm.write(line, file=sys.stderr, nolock=True)
        sys.stderr.flush()


@contextlib.contextmanager
def _signals(earlier: Marks) -> Iterator[None]:
    """Within the block, report a signal that ends the process.

    A thread does it, because the main thread may be stuck in a call, such as waiting for a lost process.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    # handlers that nohup or others have set stay
    caught = [number for number in SIGNALS if signal.getsignal(number) == signal.SIG_DFL]
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    before = signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
    for number in caught:
        signal.signal(number, _handler)
    _endings().caught.extend(caught)
    thread = threading.Thread(target=_wait, args=[read_end, earlier], daemon=True)
    thread.start()
    try:
        yield
    finally:
        _endings().restore_defaults()
        signal.set_wakeup_fd(before)
        os.write(write_end, b"\0")
        thread.join()
        os.close(read_end)
        os.close(write_end)


def _handler(number: int, frame: object) -> None:
    """Do nothing. Python needs a handler to write the signal's number to the pipe that `_wait` reads."""


def _wait(read_end: int, earlier: Marks) -> None:
    """End the process when a signal arrives, unless a library handles it by now. Return at the end of the block."""
    while number := os.read(read_end, 1)[0]:
        if signal.getsignal(number) == _handler:
            _end(signal.Signals(number), earlier)


def _end(number: signal.Signals, earlier: Marks) -> None:
    process, endings = this_process(), _endings()
    deadline = threading.Timer(10, os._exit, [128 + number])  # a disk may hang
    deadline.daemon = True
    deadline.start()
    try:
        # the lock is never released: the main thread must print nothing more
        if endings.reporting.acquire(timeout=5) and not endings.reported.is_set():
            process.stopping.acquire(timeout=5)  # the main thread may be writing failed.json, with a cause of its own
            if process.stopped is None:
                _stop(number, earlier)
            _print(process.stopped or "")
            if os.environ.get("WORLD_SIZE", "1") != "1":
                time.sleep(0.5)  # so that ranks that are ended together do not report each other as lost
    finally:
        os._exit(128 + number)


def _stop(number: signal.Signals, earlier: Marks) -> None:
    """Write failed.json for the active runs: the signal is their cause."""
    gone, runs = processes.gone(), this_process().active()
    if gone:  # before all is checked, perhaps because it was refused, see `Process.stop`
        runs = [run for run in runs if run.checked]
    cause = f"{gone}, and the launcher ended the others ({number.name})" if gone else f"ended by {number.name}"
    for run in runs:
        run.fail(cause)
    if not runs:
        fail_unopened(cause, earlier)
    this_process().stopped = runs[0].sentence(cause) if runs else causes.sentence(cause)
