"""Check a run's output folder, rows and languages, before torch is imported. Imports no torch."""

from __future__ import annotations

import contextlib
import errno
import functools
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.errors import UserError, did_you_mean
from tasks.expressions import fair_share
from tasks.folders import test_expression
from tasks.rows import Rows
from xstilts.cli.arguments import DataArguments, MeasurementArguments, RetrievalArguments, RunArguments
from xstilts.cli.user_files import read_json
from xstilts.cli.words import short
from xstilts.run import leakage, outputs, places, processes

if TYPE_CHECKING:
    import numpy as np
    from datasets import Dataset

    from tasks.base import Task


# ---- the output folder ----------------------------------------------------------------------------------------------


def check_training(run: RunArguments) -> None:
    """Fill in arm and seed of a run of phase 1 or 2 (`xstilts.run.places`), and check and create its folder.

    Raises:
        UserError: see `places.settle_training` and `check_run`.
    """
    places.settle_training(run)
    check_run(run)


def check_target(task: Task, run: MeasurementArguments, model: str) -> None:
    """Fill in arm and seed of a target run that starts from `model`, and check and create its folder.

    Raises:
        UserError: see `leakage.check_sentences`, `places.settle_measurement` and `check_run`.
    """
    leakage.check_sentences(task, model)
    places.settle_measurement(run, model, run.output_dir)
    check_run(run)


def check_run(run: RunArguments, needs_output: bool = True, own: bool = True) -> None:
    """Check the arguments about output and push; create the output folder.

    Args:
        needs_output: whether --output_dir is required.
        own: whether the output folder belongs to one run; if not, runs have folders in it.

    Raises:
        UserError: the output folder is missing, cannot be written or holds files of something else; there is no
            repository to push to; the launcher did not start the processes it was asked for.
    """
    processes.world_size()
    if run.arm is not None and (not run.arm.strip() or not run.arm.isprintable() or "/" in run.arm):
        raise UserError(
            f"--arm {run.arm!r}: expected a folder name (the report looks for the result in <arm>/seed<k>)."
        )
    if run.push_to_hub and not run.hub_model_id:
        raise UserError("--push_to_hub needs --hub_model_id, e.g. --hub_model_id my-name/xlmr-mnli.")
    for name in ("hub_model_id", "hub_private_repo"):
        if getattr(run, name) and not run.push_to_hub:
            raise UserError(
                f"--{name} changes nothing here: it goes with --push_to_hub. Leave it out, or add --push_to_hub."
            )
    if needs_output:
        if not run.output_dir:
            raise UserError("--output_dir is missing.")
        make_folder(run.output_dir)
        if own:
            outputs.refuse_occupied(run.output_dir)


def make_folder(path: str | os.PathLike) -> None:
    """Create an output folder with its parents, and test whether it can be written. `remove_empty` undoes this.

    Raises:
        UserError: it cannot be created or written.
    """
    path = Path(path)
    try:
        for folder in (*reversed(path.parents), path):
            with contextlib.suppress(FileExistsError):
                folder.mkdir()
                _created().append(folder)
        if not path.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        probe = path / f".writable-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UserError(f"--output_dir {path} cannot be written: {error.strerror}.") from error


def check_sizes(path: str) -> None:
    """Check a JSON file of a model's sizes: it must be valid JSON, without sizes that are negative or far too large.

    Raises:
        UserError: names the file and the size.
    """
    for name, value in read_json(path, "--config_name").items():
        least = 1 if any(part in name for part in ("layers", "heads", "size")) else -math.inf
        most = 1000 if "layers" in name else 1_000_000
        if isinstance(value, int | float) and not least <= value <= most:
            raise UserError(f"--config_name {path}: {name} is {short(value)}, expected {least} to {most}.")


def remove_empty() -> None:
    """Remove the empty folders that `make_folder` created, so that a refused run leaves no files."""
    while _created():
        with contextlib.suppress(OSError):  # not empty
            _created().pop().rmdir()


@functools.cache
def _created() -> list[Path]:
    """Return the folders that this process created, the outermost first."""
    return []


# ---- rows -----------------------------------------------------------------------------------------------------------


def open_rows(data_args: DataArguments, translations: str | None = None) -> Rows:
    """Return the rows a run reads.

    Args:
        translations: --translations.

    Raises:
        UserError: as `Rows`; or --splits names a task that is unknown, or that takes its rows from other tasks (it
            would have no effect).
    """
    from tasks import TASKS, get_task
    from tasks.pairs import PAIRS

    rows = Rows(data_args.data_root, data_args.splits, translations)
    for name, split in rows.overrides:
        if name not in TASKS and name not in PAIRS:
            hint = did_you_mean(name, [*TASKS, *PAIRS])
            raise UserError(f"--splits {name}.{split}=...: there is no task {name!r}.{hint}")
        others = get_task(name).parts if name in TASKS else [PAIRS[name].of] if PAIRS[name].of else []
        if others:
            raise UserError(
                f"--splits {name}.{split}=... changes nothing: the rows of {name} are those of {', '.join(others)}. "
                f"Name {' or '.join(f'{other}.{split}=...' for other in others)} instead."
            )
    return rows


def first(data: Dataset, n: int | None, parts: np.ndarray | None = None) -> Dataset:
    """Return the first n examples, all if None.

    For examples, never for features: a missing window of an example would count as a wrong answer.

    Args:
        parts: `Loaded.parts` of the examples, to take a fair share of each part.
    """
    if n is None or parts is None or n >= len(data):
        return data if n is None else data.select(range(min(n, len(data))))
    return data.select(fair_share(parts, n))


def choose_languages(
    task: Task, rows: Rows, wanted: Sequence[str], flag: str = "--languages", notes: list[str] | None = None
) -> list[str]:
    """Return the wanted languages as our codes; if none are given, all languages of the task.

    Args:
        notes: gets one on the languages that `untested` finds.

    Raises:
        UserError: a wanted language has no rows.
    """
    from tasks import languages as codes

    if not wanted:
        found = task.languages(rows)
        if notes is not None:
            notes += untested(task, rows, found)
        return found
    have = task.available(rows)
    wanted = list(dict.fromkeys(codes.normalize(code) for code in wanted))
    for code in wanted:
        if code not in have:
            unread = task.unread(rows, have) if rows.local else []
            raise UserError(
                f"{flag} {code}: {task.name} has no test rows in this language; it has {' '.join(have)}."
                + (f" Not read: {first_of(unread)}." if unread else "")
            )
    return wanted


def untested(task: Task, rows: Rows, scored: Sequence[str]) -> list[str]:
    """Return notes on what is missing in the score of a folder's rows.

    They are languages that it has rows of, but no test rows, and folders or columns of a language that are not read.

    Args:
        scored: the languages with test rows.
    """
    if not rows.local:
        return []
    missing = [
        f"{language} (has {' '.join(splits)})"
        for source in task.sources
        if (test := test_expression(task, source, rows))
        for config in rows.configs(source.id)
        if (language := source.language_of(config)) and language not in scored
        if (splits := rows.splits(source.id, config)) and not rows.has(source.id, config, test)
    ]
    notes = [f"not scored, because there are no test rows: {first_of(missing)}"] if missing else []
    if unread := task.unread(rows, scored):
        notes.append(f"not scored: {first_of(unread)}. Rename what is to be read; tasks/languages.py has the names")
    return notes


def first_of(names: Sequence[str], most: int = 8) -> str:
    """Return the first names in one line, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


# ---- how run_retrieval.py measures ----------------------------------------------------------------------------------


def measured_tasks(retrieval: RetrievalArguments, benchmark: str) -> list[Task]:
    """Return the tasks of --tasks, sorted by name; [] if a checkpoint is only exported.

    Raises:
        UserError: a task is unknown or needs training, or arguments do not go together (`check_retrieval`).
    """
    from tasks import PAIR_NAMES, RETRIEVAL, get_task

    if not retrieval.tasks and not retrieval.export_sentence_transformers:
        raise UserError(f"--tasks is missing. Give one or more of {', '.join(RETRIEVAL)}.")
    if pairs := [name for name in retrieval.tasks if name in PAIR_NAMES]:
        raise UserError(f"--tasks {pairs[0]} needs training; use run_intermediate.py --tasks {pairs[0]}.")
    tasks = [get_task(name, benchmark) for name in sorted(set(retrieval.tasks))]
    for task in tasks:
        if task.auto_class:
            raise UserError(f"--tasks {task.name} needs training; use run_target.py --task {task.name}.")
    check_retrieval(retrieval, tasks, benchmark)
    return tasks


def check_cells(tasks: Sequence[Task], model: str, run: MeasurementArguments, data_args: DataArguments) -> None:
    """Fill in arm and seed of a measurement of `model`; check its folders, a task each, and that its rows are there.

    Raises:
        UserError: see `leakage.check_sentences`, `places.settle_measurement`, `check_run`, `open_rows` and
            `choose_languages`.
    """
    for task in tasks:
        leakage.check_sentences(task, model)
    folders = [Path(run.output_dir, task.name) if run.output_dir else None for task in tasks]
    for folder in folders or [None]:
        places.settle_measurement(run, model, folder)
    check_run(run, needs_output=bool(tasks), own=False)
    for folder in filter(None, folders):
        outputs.refuse_occupied(folder)
    rows = open_rows(data_args)
    for task in tasks if data_args.languages else ():
        choose_languages(task, rows, data_args.languages)


def check_retrieval(retrieval: RetrievalArguments, tasks: Sequence[Task], benchmark: str) -> None:
    """Raise if arguments of a measurement do not go together.

    Args:
        tasks: the tasks of --tasks.

    Raises:
        UserError: what was given, and what to type.
    """
    if retrieval.layer not in ("all", "last") and not retrieval.layer.isdecimal():
        raise UserError(f"--layer {retrieval.layer}: expected a number, 'all' or 'last'.")
    for flag in ("report_layer", "select_on"):
        if getattr(retrieval, flag) is not None and retrieval.layer != "all":
            raise UserError(f"--{flag} goes with --layer all.")
    if retrieval.select_on is not None and retrieval.report_layer is not None:
        raise UserError("--select_on chooses the headline layer, --report_layer names it: give one of them.")
    if retrieval.select_on is not None:
        selection(retrieval.select_on, benchmark)
    if not retrieval.include_special and retrieval.pooling not in (None, "mean"):
        raise UserError(
            f"--no_include_special goes with --pooling mean; --pooling {retrieval.pooling} takes the vector of <s>."
        )
    if not retrieval.include_special and retrieval.export_sentence_transformers:
        raise UserError(
            "--export_sentence_transformers cannot leave out <s> and </s>: SentenceTransformer's mean counts them."
        )
    if retrieval.pairs == "all" and not any("pairs" in task.search_options for task in tasks):
        raise UserError(
            f"--pairs all goes with --tasks {' or '.join(_tasks_with('pairs'))}, whose rows are the same sentences in "
            "every language."
        )
    if retrieval.csls is not None and retrieval.csls < 1:
        raise UserError(f"--csls {retrieval.csls}: give at least 1 neighbour (usually 10).")
    if retrieval.index is None:
        for flag in ("nprobe", "index_candidates"):
            if getattr(retrieval, flag) is not None:
                raise UserError(f"--{flag} goes with --index.")
    else:
        for task in tasks:
            if "index" not in task.search_options or retrieval.csls is not None:
                raise UserError(
                    f"--index is for {' and '.join(_tasks_with('index'))}, without --csls; {task.name} is searched "
                    "exactly: leave it out."
                )
        if retrieval.cache_dir is None:
            raise UserError("--index searches vectors on disk: give --cache_dir, a folder with room for them.")


def _tasks_with(option: str) -> list[str]:
    """Return the names of the retrieval tasks that use an argument of run_retrieval.py, see `Task.search_options`."""
    from tasks import RETRIEVAL, get_task

    return [name for name in RETRIEVAL if option in get_task(name).search_options]


def selection(select_on: str, benchmark: str) -> tuple[Task, list[str]]:
    """Return what --select_on names: (task, languages), without languages for bitext mining.

    Raises:
        UserError: it does not have the form tatoeba:ces,dan or bucc:dev.
    """
    from tasks import get_task

    name, colon, what = select_on.partition(":")
    words = [word.strip() for word in what.split(",") if word.strip()]
    task = get_task(name, benchmark)
    if not colon or not task.chooses_layer or (task.mines and words != ["dev"]):
        raise UserError(f"--select_on {select_on}: give tatoeba:<languages>, e.g. tatoeba:ces,dan, or bucc:dev.")
    if not words:
        raise UserError(f"--select_on {select_on} names no language.")
    return task, [] if task.mines else words
