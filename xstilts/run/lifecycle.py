"""A run and its folder. Only `Run` writes run.json, failed.json and results.json, and holds the folder's lock.

with Run.open(args, settings, rows) as run:
    if run.finished:
        return
    ...                     # read rows, build the model
    run.begin()             # writes run.json; an error from here on writes failed.json
    train(run.checkpoint)   # the checkpoint to resume from, or None
    run.finish(run.record(scores=scores, ...), checkpoint=True)
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import logging
import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tasks.errors import UserError
from tasks.rows import Rows
from xstilts.cli import unused
from xstilts.cli.arguments import STARTED, RunArguments
from xstilts.cli.privacy import with_underscores
from xstilts.run import card, causes, checkpoints, leakage, outputs, processes, results
from xstilts.run import settings as kept
from xstilts.run.environment import command_line
from xstilts.run.files import write_text
from xstilts.run.lock import FolderLock
from xstilts.run.record import FILE_NAME, Record
from xstilts.run.rehearsal import is_rehearsal
from xstilts.run.summary import summary

logger = logging.getLogger("xstilts")
# {folder: `failure_mark` of the failed.json that an earlier run left there}
Marks = dict[Path, tuple[int, int] | None]


class Stopped(UserError):
    """A UserError whose message already names the run's folder and last checkpoint."""


@dataclass
class Process:
    """The runs of this process. There is one instance, `this_process()`: a signal ends the process with all its runs.

    Attributes:
        runs: the runs that are open and not finished.
        stopped: the message of the run that stopped, until the script has printed it.
        stopping: held while failed.json is written, so that a signal does not write another cause at the same time.
    """

    runs: list[Run] = field(default_factory=list)
    stopped: str | None = None
    stopping: threading.Lock = field(default_factory=threading.Lock)

    def active(self) -> list[Run]:
        """Return the runs that have begun; if none has, all open runs."""
        return [run for run in self.runs if run.begun] or list(self.runs)

    def stop(self, error: BaseException) -> None:
        """Write failed.json for the active runs. A run that is refused before it begins leaves no files.

        A rank that loses this one writes nothing either: only the refused rank knows the cause.

        Raises:
            Stopped: the error is one that the user can fix.
        """
        with self.stopping:
            runs = self.active()
            if not runs or (isinstance(error, SystemExit) and error.code in (None, 0)):
                return
            if isinstance(error, SystemExit):
                user_cause, cause = None, f"ended with exit code {error.code}"
            else:
                user_cause = causes.cause_of(error, runs[0].less_memory)
                cause = user_cause or causes.named(error)
            if user_cause and not (runs[0].begun or (runs[0].checked and processes.lost(error))):
                return
            for run in runs:
                run.fail(cause)
            self.stopped = runs[0].sentence(cause)
            if user_cause and isinstance(error, Exception):
                raise Stopped(self.stopped) from error


@functools.cache
def this_process() -> Process:
    """Return the one `Process` of this process."""
    return Process()


class Run:
    """A run and its folder. Use `open` in a `with` block: an error inside it is recorded in failed.json.

    Attributes:
        folder: the output folder.
        finished: whether the folder holds the results.json of the same settings and inputs.
        begun: whether the folder holds this run's run.json. From then on a UserError writes failed.json too.
        checked: whether every rank has passed its checks. From then on a lost rank is named as the cause.
        rows: the rows that it reads; a measurement gives them before `begin`.
        trainer: the current or last trainer; its step and output folder go into messages. None for a measurement.
    """

    def __init__(self, args: RunArguments, settings: dict[str, Any], rows: Rows | None, trains: bool):
        assert args.output_dir  # `inputs.check_run` refuses a run without
        self.folder = Path(args.output_dir)
        self.finished = self.begun = self.checked = False
        self.trainer: Any = None
        self._args, self._settings, self.rows, self._trains = args, settings, rows or Rows(), trains
        self._lock = FolderLock(self.folder)
        self._earlier = failure_mark(self.folder)
        self._started = time.monotonic()

    @classmethod
    def open(cls, args: RunArguments, settings: dict[str, Any], rows: Rows | None = None, trains: bool = True) -> Run:
        """Lock the folder, waiting if another process holds it, and check whether the run is finished.

        A finished run releases its folder, and is pushed again with --push_to_hub. For an unfinished run
        --push_to_hub creates the repository now, so that a wrong token or name fails early. All ranks call this
        together.

        Args:
            args: the output folder and the Hub arguments.
            settings: the settings to write into run.json.
            rows: the rows to train on. Those read before `begin` go into run.json.
            trains: whether the run writes checkpoints; a measurement does not.

        Raises:
            UserError: the folder was begun with other settings or holds files of something else; its results.json is
                damaged; the Hub refuses the push.
        """
        run = cls(args, settings, rows, trains)
        this_process().stopped = None  # left by an earlier run of this process
        try:
            # rank 0 waits at most a minute at a time, so that the other ranks' collective does not time out
            while not processes.broadcast(processes.is_first() and run._lock.acquire(patience=60)):
                pass
            run.finished = processes.broadcast(processes.is_first() and run._is_finished())
            if run.finished:
                run.close()
                run._push_again()
            else:
                card.check_push(args)
                this_process().runs.append(run)
        except BaseException:
            run.close()
            raise
        return run

    def _is_finished(self) -> bool:
        """Return whether results.json has the same settings, rows and parent. If so, touch it (unless it is newer than
        this process) and note the command: make looks at both."""
        stamp = self.folder / FILE_NAME
        outputs.refuse_occupied(self.folder)
        if not stamp.is_file():
            checkpoints.refuse_copies(self.folder)
            return False
        kept.compare(self.folder, self._settings)
        if reason := kept.outdated(Record.read(stamp), self._settings):
            logger.info("%s: %s; running it again.", self.folder, reason)
            checkpoints.refuse_copies(self.folder)
            return False
        if stamp.stat().st_mtime < STARTED:
            stamp.touch()
        kept.note(self.folder, command=command_line(whole_paths=True))
        checkpoints.clean(self.folder)  # left by a kill just before the end
        logger.info(kept.nothing_to_do(self.folder, self._settings, self._trains))
        return True

    def _push_again(self) -> None:
        """With --push_to_hub, push a finished folder: an earlier push may have failed. Other ranks do not wait."""
        if self._args.push_to_hub and processes.is_first():
            card.check_push(self._args)
            card.push(str(self._args.hub_model_id), self.folder)

    # ---- start ------------------------------------------------------------------------------------------------------

    @functools.cached_property
    def checkpoint(self) -> str | None:
        """The newest complete checkpoint, to resume from, or None. All ranks get it together, after reading all rows.

        If the rows or the parent checkpoint changed, the old checkpoints are removed and a warning is logged.

        Raises:
            UserError: the folder was begun with other settings, or with another number of processes.
        """
        if not self._trains:
            return None
        old, now, here = kept.compare(self.folder, self._settings, self.rows), self._inputs(), processes.world_size()
        if old and any(old.get(key, now[key]) != now[key] for key in now):  # older versions lack the keys
            if processes.is_first():
                logger.warning("%s: its parent model or rows have changed since it began; starting over.", self.folder)
                checkpoints.clean(self.folder)
        elif old and old.get("processes", here) != here and checkpoints.checkpoints(self.folder):
            raise UserError(
                f"{self.folder} was begun with {old['processes']} processes, now there are {here}: each step would "
                f"see other rows. Start {old['processes']}, give another --output_dir, or delete the folder."
            )
        return checkpoints.last_checkpoint(self.folder)

    def begin(self, notes: list[str] | None = None) -> None:
        """Write run.json; remove what an earlier run wrote with its result. All ranks call this together.

        Args:
            notes: those of results.json so far; gets those of `leakage.check_rows`. They are logged.

        Raises:
            UserError: see `leakage.check_rows` and `checkpoint`; or run.json cannot be written.
        """
        if notes is not None:  # a measurement has done so before it embeds
            notes += leakage.check_rows(self.rows, str(self._settings["model"]))
            unused.log(notes, self.rows)
        begun = self._settings | {"command": command_line(whole_paths=True)}
        if self._trains:
            begun = begun | self._inputs() | {"processes": processes.world_size()}
        checkpoint = self.checkpoint
        if processes.is_first():
            outputs.clear(self.folder, outputs.WITH_RESULT)
            write_text(self.folder / results.RUN_FILE, kept.as_json(begun))
        self.begun = self.checked = True
        self._started = time.monotonic()
        if checkpoint:
            logger.info("Resuming from %s", checkpoint)

    def _inputs(self) -> dict[str, Any]:
        return kept.inputs(self._settings, self.rows)

    # ---- end --------------------------------------------------------------------------------------------------------

    def record(self, **values: Any) -> Record:
        """Return the record of this run: `Record.new` with its arguments, settings, rows and the time since `begin`.

        Args:
            values: the other arguments of `Record.new`; `data` if rows were read that `open` was not given; `settings`
                that were decided later than `open`.

        Raises:
            UserError: see `Record.new`.
        """
        settings = self._settings | values.pop("settings", {})
        seconds = time.monotonic() - self._started
        return Record.new(self._args, settings=settings, seconds=seconds, **({"data": self.rows.records} | values))

    def finish(self, record: Record, checkpoint: bool) -> None:
        """Write the card, then results.json (make's stamp); remove checkpoints; push with --push_to_hub.

        All ranks call this; rank 0 writes.

        Args:
            checkpoint: whether the folder holds weights.

        Raises:
            UserError: a file cannot be written; or the Hub refuses the push (the run is finished nevertheless).
        """
        if processes.is_first():
            if self._trains and not checkpoint:
                outputs.clear_weights(self.folder, str(self._settings["model"]))
            card.write(self.folder, record, checkpoint, str(self._settings["model"]))
            kept.note(self.folder, requested=kept.splits_read(self.rows.requested))
            record.write(self.folder / FILE_NAME)
            self.finished = True
            checkpoints.clean(self.folder)
        self.close()
        if processes.is_first():
            logger.info("Wrote %s: %s", self.folder / FILE_NAME, summary(record))
            if self._args.push_to_hub:
                card.push(str(self._args.hub_model_id), self.folder)

    @property
    def is_rehearsal(self) -> bool:
        """Whether the user has cut this training short to try it (`xstilts.run.rehearsal.is_rehearsal`)."""
        return self.trainer is not None and is_rehearsal(self._settings, self.trainer.state.global_step)

    def fail(self, cause: str) -> None:
        """Write failed.json, unless the run is finished or another process of it has written the file."""
        marked = failure_mark(self.folder) not in (None, self._earlier)
        if self.finished or marked or (self.folder / FILE_NAME).exists():
            return
        try:
            results.write_failure(self.folder, cause, self._last_good())
        except UserError:  # the disk may be full: removing an incomplete checkpoint makes room
            if self.begun and self._trains:
                with contextlib.suppress(UserError, OSError):
                    checkpoints.remove_torn(self._checkpoints())
                    results.write_failure(self.folder, cause, self._last_good())

    def sentence(self, cause: str) -> str:
        """Return the message for the user: which run stopped, at which step, why, and where it resumes."""
        if not self.begun:
            return causes.sentence(cause)
        step = f" at step {self.trainer.state.global_step}" if self.trainer else ""
        line = f"{self.folder} stopped{step}: {causes.sentence(cause)}"
        if not self._trains:
            return line
        # xstilts.train.stages keeps a finished stage in checkpoint-<stage>/done
        last, stages = self._last_good(), sorted(self._checkpoints().glob("checkpoint-*/done"))
        resumes = (
            "resumes from it." if last else f"resumes after {stages[-1].parent.name}." if stages else "starts over."
        )
        return f"{line} Last good checkpoint: {last or 'none'}; the same command {resumes}"

    @property
    def less_memory(self) -> str | None:
        """What to lower when memory runs out; None before the run has begun."""
        return None if not self.begun else causes.LESS_TO_TRAIN if self._trains else causes.LESS_TO_MEASURE

    def _checkpoints(self) -> Path:
        """Return the folder of the checkpoints: the run's own, or that of a stage (`xstilts.train.stages`)."""
        return Path(self.trainer.args.output_dir) if self.trainer else self.folder

    def _last_good(self) -> str | None:
        return checkpoints.newest_whole(self._checkpoints()) if self.begun and self._trains else None

    def close(self) -> None:
        """Release the folder. Later errors are not recorded as errors of this run."""
        if self in this_process().runs:
            this_process().runs.remove(self)
        self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Record an error in failed.json and release the folder.

        Raises:
            Stopped: in place of an error that the user can fix. Other errors are raised unchanged.
        """
        try:
            if error is not None and this_process().stopped is None:
                this_process().stop(error)
        finally:
            self.close()


# ---- before a run is open -------------------------------------------------------------------------------------------


def failure_mark(folder: str | os.PathLike) -> tuple[int, int] | None:
    """Return (inode, modification time) of a folder's failed.json, or None. It identifies the file whatever the clock
    says."""
    with contextlib.suppress(OSError):
        found = Path(folder, results.FAILED).stat()
        return found.st_ino, found.st_mtime_ns
    return None


def folders_of(argv: Sequence[str]) -> list[Path]:
    """Return the output folders named on a script's command line, before the script has parsed it.

    run_retrieval.py has one folder for each of its --tasks.

    Args:
        argv: the script and its arguments, as `sys.argv`.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--output_dir")
    parser.add_argument("--tasks", "--task", nargs="*", default=[])
    try:
        given, _ = parser.parse_known_args([with_underscores(word) for word in argv[1:]])
    except argparse.ArgumentError:  # --output_dir without a folder
        return []
    if not given.output_dir:
        return []
    tasks = given.tasks if Path(argv[0]).name == "run_retrieval.py" else []
    return [Path(given.output_dir, task) for task in tasks] or [Path(given.output_dir)]


def unopened(argv: Sequence[str]) -> Marks:
    """Return the folders to write failed.json into if the script stops before it opens a run.

    Only the runs of a matrix (its Makefile sets XSTILTS_MATRIX) have any: the report lists refused cells. A run
    started by hand that is refused leaves no files.

    Args:
        argv: as for `folders_of`.
    """
    return {folder: failure_mark(folder) for folder in folders_of(argv)} if "XSTILTS_MATRIX" in os.environ else {}


def fail_unopened(cause: str, earlier: Marks) -> None:
    """Write failed.json for runs that are not open, except for a finished one or one that another process has marked.

    Args:
        earlier: as `unopened` returns it.
    """
    for folder, mark in earlier.items():
        if failure_mark(folder) in (None, mark) and not (folder / FILE_NAME).exists():
            with contextlib.suppress(UserError):  # the folder cannot be written; the printed message says so
                results.write_failure(folder, cause, None)
