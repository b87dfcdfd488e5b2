"""What a run is given, checked before torch is imported: an output folder, rows, languages. Imports nothing heavy."""

from __future__ import annotations

import contextlib
import difflib
import errno
import math
import os
from pathlib import Path

from tasks.rows import Rows
from xstilts.cli.user_files import read_json
from xstilts.cli.words import short
from xstilts.errors import UserError
from xstilts.run import outputs, processes

_made: list[Path] = []  # folders this process has made, the outermost first


# ---- the output folder ----------------------------------------------------------------------------------------------


def check_run(run, needs_output: bool = True, own: bool = True) -> None:
    """Refuses a run that could not keep or push what it makes; makes its output folder.

    Args:
        own: whether the output folder is the run's own; if not, runs have folders in it.

    Raises:
        UserError: no output folder, or one that cannot be written or holds what these scripts did not write; no
            repository to push to; a launcher that did not start what it was asked for.
    """
    processes.world_size()
    if run.arm is not None and (not run.arm.strip() or not run.arm.isprintable() or "/" in run.arm):
        raise UserError(
            f"--arm {run.arm!r}: give a folder's name, as the report looks for the result in <arm>/seed<k>."
        )
    if run.push_to_hub and not run.hub_model_id:
        raise UserError("--push_to_hub needs --hub_model_id, e.g. --hub_model_id my-name/xlmr-mnli.")
    for name in ("hub_model_id", "hub_private_repo"):
        if getattr(run, name) and not run.push_to_hub:
            raise UserError(f"--{name} changes nothing here: it goes with --push_to_hub. Leave it out, or add that.")
    if needs_output:
        if not run.output_dir:
            raise UserError("--output_dir is missing.")
        make_folder(run.output_dir)
        if own:
            outputs.refuse_occupied(run.output_dir)


def make_folder(path: str | os.PathLike) -> None:
    """Makes an output folder, and those above it, and tries whether it can be written; `remove_empty` takes back what
    was made.

    Raises:
        UserError: it cannot be made or written.
    """
    path = Path(path)
    try:
        for folder in (*reversed(path.parents), path):
            with contextlib.suppress(FileExistsError):
                folder.mkdir()
                _made.append(folder)
        if not path.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        probe = path / f".writable-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UserError(f"--output_dir {path} cannot be written: {error.strerror}.") from error


def check_sizes(path: str) -> None:
    """Refuses a JSON file of a model's sizes that is none, or whose model would not end being built.

    Raises:
        UserError: naming the file and the size.
    """
    for name, value in read_json(path, "--config_name").items():
        least = 1 if any(part in name for part in ("layers", "heads", "size")) else -math.inf
        most = 1000 if "layers" in name else 1_000_000
        if isinstance(value, int | float) and not least <= value <= most:
            raise UserError(f"--config_name {path}: {name} is {short(value)}, expected {least} to {most}.")


def remove_empty() -> None:
    """Removes the folders that `make_folder` made and nothing was written to: a refused run leaves nothing behind."""
    while _made:
        with contextlib.suppress(OSError):  # it holds something
            _made.pop().rmdir()


# ---- rows -----------------------------------------------------------------------------------------------------------


def open_rows(data_args, translations: str | None = None) -> Rows:
    """The rows a run reads.

    Raises:
        UserError: of them, or --splits names a task that is unknown, or has no rows of its own: it would change
            nothing, and nobody would know.
    """
    from tasks import TASKS, get_task
    from tasks.pairs import PAIRS

    rows = Rows(data_args.data_root, data_args.splits, translations)
    for name, split in rows.overrides:
        if name not in TASKS and name not in PAIRS:
            near = difflib.get_close_matches(name, [*TASKS, *PAIRS], 1)
            raise UserError(
                f"--splits {name}.{split}=...: there is no task {name!r}."
                + (f" Did you mean {near[0]}?" if near else "")
            )
        others = get_task(name).parts if name in TASKS else [PAIRS[name].of] if PAIRS[name].of else []
        if others:
            raise UserError(
                f"--splits {name}.{split}=... changes nothing: the rows of {name} are those of {', '.join(others)}. "
                f"Name {' or '.join(f'{other}.{split}=...' for other in others)} instead."
            )
    return rows


def first(data, n: int | None):
    """The first n examples (all if None). Examples are cut, never features: a cut window would score as a wrong
    answer."""
    return data if n is None else data.select(range(min(n, len(data))))


def choose_languages(task, rows, wanted: list[str], flag: str = "--languages") -> list[str]:
    """The task's languages, or the wanted ones among those there are.

    Raises:
        UserError: a wanted language has no rows.
    """
    from tasks import languages as codes

    if not wanted:
        return task.languages(rows)
    have = task.available(rows)
    wanted = list(dict.fromkeys(codes.normalize(code) for code in wanted))
    for code in wanted:
        if code not in have:
            raise UserError(f"{flag} {code}: {task.name} has no such test rows here; it has {' '.join(have)}.")
    return wanted


# ---- how run_retrieval.py measures ----------------------------------------------------------------------------------


def check_retrieval(how, tasks: list, benchmark: str) -> None:
    """Refuses arguments of a measurement that cannot go together.

    Args:
        how: RetrievalArguments.
        tasks: those of --tasks.

    Raises:
        UserError: what was given, and what to type.
    """
    for task in tasks:
        if task.auto_class:
            raise UserError(f"--tasks {task.name} needs training; use run_target.py --task {task.name}.")
    if how.layer not in ("all", "last") and not how.layer.isdecimal():
        raise UserError(f"--layer {how.layer}: give a number, 'all' or 'last'.")
    for flag in ("report_layer", "select_on"):
        if getattr(how, flag) is not None and how.layer != "all":
            raise UserError(f"--{flag} goes with --layer all.")
    if how.select_on is not None and how.report_layer is not None:
        raise UserError("--select_on chooses the headline layer, --report_layer names it: give one of them.")
    if how.select_on is not None:
        selection(how.select_on, benchmark)
    if not how.include_special and how.pooling != "mean":
        raise UserError(f"--no_include_special is about the mean; --pooling {how.pooling} takes <s> itself.")
    if not how.include_special and how.export_sentence_transformers:
        raise UserError(
            "--export_sentence_transformers cannot leave out <s> and </s>: SentenceTransformer's mean counts them."
        )
    if how.pairs == "all" and not any("pairs" in task.search_options for task in tasks):
        raise UserError(
            "--pairs all goes with --tasks ntrex or flores, whose rows are the same sentences in every language."
        )
    if how.csls is not None and how.csls < 1:
        raise UserError(f"--csls {how.csls}: give at least 1 neighbour (usually 10).")
    if how.index is None:
        for flag in ("nprobe", "index_candidates"):
            if getattr(how, flag) is not None:
                raise UserError(f"--{flag} goes with --index.")
    else:
        for task in tasks:
            if "index" not in task.search_options or how.csls is not None:
                raise UserError(
                    f"--index is for tatoeba and bucc, without --csls; {task.name} is searched exactly: leave it out."
                )
        if how.cache_dir is None:
            raise UserError("--index searches vectors on disk: give --cache_dir, a folder with room for them.")


def check_unseen(task, model: str) -> None:
    """Refuses a measurement on sentences that the checkpoint was trained on, as far as the results.json of its chain
    say.

    Raises:
        UserError: naming the checkpoint and the rows.
    """
    from xstilts.run import results
    from xstilts.run.record import Record

    while task.same_sentences and model and results.is_there(model):
        record = Record.read(Path(model, results.FILE_NAME))
        if rows := [data["id"] for data in record.data if data["id"] in task.same_sentences]:
            raise UserError(
                f"{task.name}: {model} was trained on {rows[0]}, whose sentences are among those that are searched. "
                "Measure it on another task, such as ntrex."
            )
        began = Path(model, "run.json")  # it has the whole path, which results.json does not tell
        model = (
            str(results.read_note(began, outputs.NOBODY_KNOWS).get("model") or "") if began.is_file() else record.model
        )


def selection(select_on: str, benchmark: str) -> tuple:
    """What --select_on names: (task, languages; of mining none).

    Raises:
        UserError: it is not of the form tatoeba:ces,dan or bucc:dev.
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
