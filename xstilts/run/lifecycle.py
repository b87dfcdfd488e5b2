"""The life of a run: one folder, one owner. `Run` alone writes its run.json, failed.json and results.json, and holds
its lock.

    with Run.open(args, settings, rows) as run:
        if run.finished:
            return
        ...                     # read rows, build the model
        run.begin()             # run.json: from now on whatever ends the run leaves failed.json
        train(run.checkpoint)   # where to resume from, or None
        run.finish(record, checkpoint=True)
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from tasks.rows import Rows
from xstilts.cli.arguments import STARTED
from xstilts.cli.privacy import with_underscores
from xstilts.errors import UserError
from xstilts.run import card, causes, checkpoints, outputs, processes, results
from xstilts.run import settings as kept
from xstilts.run.lock import FolderLock
from xstilts.run.record import Record

logger = logging.getLogger("xstilts")
# {folder: `failure_mark` of the failed.json that an earlier run has left there}
Marks = dict[Path, tuple[int, int] | None]


class RunArguments(Protocol):
    """What a run takes from its arguments."""

    output_dir: str
    push_to_hub: bool
    hub_model_id: str | None
    hub_private_repo: bool


class Stopped(UserError):
    """A user's error whose text is a whole sentence, folder and checkpoint included."""


@dataclass
class Process:
    """The runs of this process; there is one, `PROCESS`, because a signal ends the process and not a run.

    Attributes:
        runs: open and not finished.
        stopped: the line for the user of the run that stopped, until the script has printed it.
    """

    runs: list[Run] = field(default_factory=list)
    stopped: str | None = None

    def at_work(self) -> list[Run]:
        """Return the runs that have begun, or, if none has, all that are open."""
        return [run for run in self.runs if run.begun] or list(self.runs)

    def stop(self, error: BaseException) -> None:
        """Keep in failed.json what ends the runs at work too early. A run that is refused before it has begun leaves
        nothing behind.

        Raises:
            Stopped: a user can do something about the error.
        """
        runs = self.at_work()
        if not runs or (isinstance(error, SystemExit) and error.code in (None, 0)):
            return
        if isinstance(error, SystemExit):
            known, cause = None, f"ended with exit code {error.code}"
        else:
            known = causes.cause_of(error, runs[0].less_memory)
            cause = known or causes.named(error)
        if known and not runs[0].begun and not processes.lost(error):
            return
        for run in runs:
            run.fail(cause)
        self.stopped = runs[0].sentence(cause)
        if known and isinstance(error, Exception):
            raise Stopped(self.stopped) from error


PROCESS = Process()


class Run:
    """A run and its folder. Make one with `open`, in a `with` block: leaving it with an error keeps the cause in
    failed.json.

    Attributes:
        folder: where all that the run makes lies.
        finished: whether this very run has its results.json already.
        begun: whether the folder holds this run's run.json: from then on a user's error leaves failed.json too.
        trainer: the trainer that trains, or trained last, for the step and the place of its checkpoints; None of a
            measurement.
    """

    def __init__(self, args: RunArguments, settings: dict[str, Any], rows: Rows | None, trains: bool):
        self.folder = Path(args.output_dir)
        self.finished = self.begun = False
        self.trainer: Any = None
        self._args, self._settings, self._rows, self._trains = args, settings, rows, trains
        self._lock = FolderLock(self.folder)
        self._earlier = failure_mark(self.folder)

    @classmethod
    def open(cls, args: RunArguments, settings: dict[str, Any], rows: Rows | None = None, trains: bool = True) -> Run:
        """Wait until no other process works in the folder, and find out whether the run is finished.

        A finished run lets go of its folder. What the Hub lacks of it is pushed, if asked; of one that is not finished
        the repository is made, so that a wrong token or name costs seconds. All ranks call this together.

        Args:
            args: folder, and what is asked of the Hub.
            settings: what the folder is begun with, as it stands in run.json.
            rows: the rows that are trained on; what has been read of them by `begin` goes into run.json.
            trains: whether the run has checkpoints; if not, it measures.

        Raises:
            UserError: the folder was begun with other settings, or holds what no run wrote; its results.json is
                spoilt; the Hub refuses the push.
        """
        run = cls(args, settings, rows, trains)
        PROCESS.stopped = None  # what stopped an earlier run of this process says nothing of this one
        try:
            # rank 0 waits a minute at a time, so that the other ranks' collective does not time out
            while not processes.broadcast(run._lock.acquire(patience=60) if processes.is_first() else None):
                pass
            run.finished = processes.broadcast(run._is_finished() if processes.is_first() else None)
            if run.finished:
                run.close()
            else:
                card.check_push(args)
                PROCESS.runs.append(run)
        except BaseException:
            run.close()
            raise
        return run

    def _is_finished(self) -> bool:
        """Return whether results.json is there, of the same settings, rows and parent; touch it then.

        make goes by time and would ask again; one that was written after this process began is new to make already.
        """
        stamp = self.folder / results.FILE_NAME
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
        checkpoints.clean(self.folder)  # what a kill just before its end has left
        logger.info("%s is finished; nothing to do. Delete its results.json to run it again.", self.folder)
        if self._args.push_to_hub:  # an earlier push may have failed
            card.check_push(self._args)
            card.push(self._args.hub_model_id, self.folder)
        return True

    # ---- its beginning ----------------------------------------------------------------------------------------------

    @functools.cached_property
    def checkpoint(self) -> str | None:
        """The newest whole checkpoint, to resume from, or None. All ranks ask together, when all rows have been read.

        Checkpoints of other rows, or of a parent that was trained again, are removed, and the log says so.

        Raises:
            UserError: the folder was begun with other settings, or on another number of processes.
        """
        if not self._trains:
            return None
        old, now, here = kept.compare(self.folder, self._settings), self._inputs(), processes.world_size()
        if old and any(old.get(key, now[key]) != now[key] for key in now):  # older versions did not keep them
            if processes.is_first():
                logger.warning(
                    "%s: the model it starts from, or its rows, are others since it was begun; beginning anew.",
                    self.folder,
                )
                checkpoints.clean(self.folder)
        elif old and old.get("processes", here) != here and checkpoints.checkpoints(self.folder):
            raise UserError(
                f"{self.folder} was begun on {old['processes']} processes, now there are {here}: its steps would have "
                f"other rows. Start {old['processes']}, give another --output_dir, or delete the folder."
            )
        return checkpoints.last_checkpoint(self.folder)

    def begin(self) -> None:
        """Write run.json; remove what is left of an earlier result or failure. All ranks call this together.

        Raises:
            UserError: see `checkpoint`; or run.json cannot be written.
        """
        begun = self._settings
        if self._trains:
            begun = begun | self._inputs() | {"processes": processes.world_size()}
        checkpoint = self.checkpoint
        if processes.is_first():
            for name in (results.FILE_NAME, results.FAILED):
                (self.folder / name).unlink(missing_ok=True)
            results.write_text(self.folder / kept.FILE_NAME, kept.as_json(begun))
        self.begun = True
        if checkpoint:
            logger.info("Going on from %s", checkpoint)

    def _inputs(self) -> dict[str, Any]:
        return kept.inputs(self._settings, self._rows or Rows())

    # ---- its end ----------------------------------------------------------------------------------------------------

    def finish(self, record: Record, checkpoint: bool) -> None:
        """Write the card, then results.json (make's stamp), remove what a finished run needs no more, push if asked.

        All ranks call this; rank 0 writes.

        Args:
            checkpoint: whether weights lie in the folder.

        Raises:
            UserError: a file cannot be written; or the Hub refuses the push, and the run is finished all the same.
        """
        if processes.is_first():
            results.write_text(self.folder / "README.md", card.card(record, checkpoint))
            record.write(self.folder / results.FILE_NAME)
            self.finished = True
            checkpoints.clean(self.folder)
        self.close()
        if processes.is_first():
            logger.info("Wrote %s", self.folder / results.FILE_NAME)
            if self._args.push_to_hub:
                card.push(self._args.hub_model_id, self.folder)

    def fail(self, cause: str) -> None:
        """Write failed.json, unless another process of the run has done so, or the run is finished."""
        if self.finished or (self.folder / results.FILE_NAME).exists():
            return
        if failure_mark(self.folder) not in (None, self._earlier):
            return
        try:
            results.write_failure(self.folder, cause, self._last_good())
        except UserError:  # the disk is full, maybe of a checkpoint that could not be written to its end
            if self.begun and self._trains:
                with contextlib.suppress(UserError, OSError):
                    checkpoints.remove_torn(self._checkpoints())
                    results.write_failure(self.folder, cause, self._last_good())

    def sentence(self, cause: str) -> str:
        """Return the line for the user: which run stopped, at which step, why, and from where the same command
        resumes."""
        if not self.begun:
            return f"{cause}."
        step = f" at step {self.trainer.state.global_step}" if self.trainer else ""
        line = f"{self.folder} stopped{step}: {cause}."
        if not self._trains:
            return line
        # train/stages.py keeps a finished stage
        last, stages = self._last_good(), sorted(self._checkpoints().glob("checkpoint-*/done"))
        goes_on = (
            "goes on from it." if last else f"goes on after {stages[-1].parent.name}." if stages else "begins anew."
        )
        return f"{line} Last good checkpoint: {last or 'none'}; the same command {goes_on}"

    @property
    def less_memory(self) -> str | None:
        """What a user can lower where memory is short; None before the run has begun."""
        return None if not self.begun else causes.LESS_TO_TRAIN if self._trains else causes.LESS_TO_MEASURE

    def _checkpoints(self) -> Path:
        """Return where the checkpoints lie: in the run's folder, or in that of a stage (`xstilts.train.stages`)."""
        return Path(self.trainer.args.output_dir) if self.trainer else self.folder

    def _last_good(self) -> str | None:
        return checkpoints.newest_whole(self._checkpoints()) if self.begun and self._trains else None

    def close(self) -> None:
        """Let go of the folder. What happens from now on is not of this run."""
        if self in PROCESS.runs:
            PROCESS.runs.remove(self)
        self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Keep what ends the run too early, and let go of the folder.

        Raises:
            Stopped: a user can do something about the error. Any other error goes on as it is.
        """
        try:
            if error is not None and PROCESS.stopped is None:
                PROCESS.stop(error)
        finally:
            self.close()


# ---- before a run is open -------------------------------------------------------------------------------------------


def failure_mark(folder: str | os.PathLike) -> tuple[int, int] | None:
    """Return what tells a folder's failed.json from others that were there or will be; no time that a clock
    decides."""
    with contextlib.suppress(OSError):
        found = Path(folder, results.FAILED).stat()
        return found.st_ino, found.st_mtime_ns
    return None


def folders_of(argv: Sequence[str]) -> list[Path]:
    """Return the folders of the runs that a command line asks for, of a script that has not read its arguments yet.

    run_retrieval.py measures each of its --tasks in a folder of its own.

    Args:
        argv: script, then its arguments, as `sys.argv`.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--output_dir")
    parser.add_argument("--tasks", nargs="*", default=[])
    try:
        given, _ = parser.parse_known_args([with_underscores(word) for word in argv[1:]])
    except argparse.ArgumentError:  # --output_dir without a folder
        return []
    if not given.output_dir:
        return []
    tasks = given.tasks if Path(argv[0]).name == "run_retrieval.py" else []
    return [Path(given.output_dir, task) for task in tasks] or [Path(given.output_dir)]


def unopened(argv: Sequence[str]) -> Marks:
    """Return the folders that a script marks as failed where it stops before a run is open: those of a script that
    make started.

    make tells it by MAKELEVEL. Its report names a cell that was refused; by hand a refused run leaves nothing behind.

    Args:
        argv: as for `folders_of`.
    """
    return {folder: failure_mark(folder) for folder in folders_of(argv)} if "MAKELEVEL" in os.environ else {}


def fail_unopened(cause: str, earlier: Marks) -> None:
    """Write failed.json for runs that are not open, unless another process of the run has done so, or one is finished.

    Args:
        earlier: see `unopened`.
    """
    for folder, mark in earlier.items():
        if failure_mark(folder) in (None, mark) and not (folder / results.FILE_NAME).exists():
            with contextlib.suppress(UserError):  # nothing can be written there, and the line says why
                results.write_failure(folder, cause, None)
