"""Submission folders in XTREME's layout: collect predictions from a matrix, write the gold labels, score.

    python -m xstilts.xtreme.submission write RUNS_DIR --output DIR [--arm NAME | TASK=NAME ...] [--seed K] \\
        [--allow_missing]
    python -m xstilts.xtreme.submission gold --data_root DIR --output DIR [--tasks TASK ...] [--splits ...] \\
        [--benchmark ...]
    python -m xstilts.xtreme.submission score --predictions DIR --labels DIR [--benchmark xtreme|xtreme-r] \\
        [--found_languages] [--json]

`write` copies the prediction files of the cells: those of one arm, or for each task those of the arm that is best on
English dev. The paper's system was made so (that dev chose it is our reading). `gold` writes the labels in the same
layout, so that `score` or the benchmark's `evaluate.py` can score the folder. `lines` of the task's form documents the
format of a file.
"""

import argparse
import contextlib
import json
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks import TASKS, get_task
from tasks.base import Task
from tasks.errors import UserError
from tasks.languages import BENCHMARKS
from tasks.rows import sha256
from xstilts.cli import privacy
from xstilts.cli.words import parse_tool
from xstilts.run import inputs, predictions
from xstilts.run.endings import tool
from xstilts.run.files import write_text
from xstilts.run.record import Record
from xstilts.xtreme import scoring
from xstilts.xtreme.choice import Choice, arms_by_task, choose_all

if TYPE_CHECKING:
    from tasks.rows import Rows
    from xstilts.report.matrix import Matrix

SYSTEM = "system.json"


# --- a submission from a matrix


def write(
    runs: Path | str,
    output: Path | str,
    arms: Sequence[str] = (),
    seed: int | None = None,
    allow_missing: bool = False,
) -> dict[str, Any]:
    """Write the folder `output` from the matrix below `runs` and return what its system.json holds:

    {"seed": k, "tasks": {task: {"arm", "chosen", "seed", "model", "chain", "dev", "path", "files"}}, "notes": [...]}
    `chain` lists the checkpoints the arm was trained from, oldest first. `dev` is {"metric", "scores": {arm: score}}
    of every arm considered, null without dev scores. `path` is the cell below `runs`, `files` is {file: SHA-256}.

    Args:
        arms: each "NAME", for all tasks, or "TASK=NAME". Any other task takes the arm that is best on dev (English; in
            mining the mean over languages), or the plain model if there are no dev scores. An arm at chance is never
            chosen. Ties go to the first arm, and the plain model is first.
        seed: None: the lowest of the matrix.
        allow_missing: leave out tasks with a missing cell or with every arm at chance, and add a note.

    Raises:
        UserError: before anything is written: a cell or prediction file is missing, a file is broken or has another
            number of rows than results.json, an arm or seed does not exist, or `output` exists.
    """
    from xstilts.report.matrix import collect

    matrix = collect(runs)
    seeds, notes = " ".join(map(str, matrix.seeds)), list(matrix.problems)
    if seed is None:
        seed = min(matrix.seeds)
        if len(matrix.seeds) > 1:
            notes.append(f"seed {seed}, the lowest of {seeds}")
    if seed not in matrix.seeds:
        raise UserError(f"--seed {seed}: no such cells below {runs}, which has the seeds {seeds}.")
    scored = {name for benchmark in BENCHMARKS.values() for name in benchmark}
    notes += [f"{task}: no task of {' or '.join(BENCHMARKS)}, left out" for task in matrix.tasks if task not in scored]
    tasks = [task for task in matrix.tasks if task in scored]
    arm_of = arms_by_task(arms, tasks, matrix.arms)

    chosen, gaps = choose_all(matrix, tasks, seed, arm_of)
    if gaps and not allow_missing:
        gaps += matrix.problems
        raise UserError(
            f"{' '.join(gaps)} Run what is missing, name an arm (--arm TASK=NAME), or leave such tasks out "
            "(--allow_missing)."
        )
    if not chosen:
        raise UserError(f"No task of {' or '.join(BENCHMARKS)} to write below {runs}. {' '.join(gaps)}")
    notes += [f"{gap} Left out." for gap in gaps]

    system, sources = _system(matrix, chosen, seed, notes)
    content = privacy.public({"seed": seed, "tasks": system, "notes": notes})  # others will read a submission
    with _new_folder(output) as folder:
        for name, path in sources.items():
            (folder / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(path, folder / name)
        write_text(folder / SYSTEM, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    return content


def _system(
    matrix: "Matrix", choices: dict[str, Choice], seed: int, notes: list[str]
) -> tuple[dict[str, Any], dict[str, Path]]:
    """Return ("tasks" of system.json, {name in the submission: prediction file}), and add to `notes`."""
    sources: dict[str, Path] = {}
    system: dict[str, Any] = {}
    for task, choice in choices.items():
        key = choice["arm"], task, seed
        record, cell = matrix.records[key], Path(matrix.paths[key]).parent
        files = _checked_files(matrix.root / cell / "predictions", get_task(task), record)
        sources |= files
        if record.at_chance:
            notes.append(f"{task}: {choice['arm']} is at chance on English dev")
        if choice["chosen"] == "default":
            notes.append(
                f"{task}: no dev scores to choose by, arm {choice['arm']} taken (--arm {task}=NAME takes another)"
            )
        elif (
            choice["dev"]
            and choice["chosen"] == "dev"
            and len(choice["dev"]["scores"]) > 1
            and get_task(task).dev_in_test
        ):
            notes.append(f"{task}: selected on dev data that overlaps the test: {get_task(task).dev_in_test}")
        system[task] = {
            **choice,
            "seed": seed,
            "model": record.model,
            "chain": [*record.parents, record.model],
            "path": cell.as_posix(),
            "files": {name: sha256(path) for name, path in files.items()},
        }
    return system, sources


def _checked_files(folder: Path, task: Task, record: Record) -> dict[str, Path]:
    """Return {name in a submission: file} of a cell. Raise UserError if a file is missing or has another row count."""
    files = {}
    for language, rows in record.n.items():
        name = task.predictions_file(language)
        path = folder / name
        if not path.is_file():
            raise UserError(
                f"{path}: no such file, but results.json has {language}. Delete that results.json and run the cell "
                "again."
            )
        found = len(task.read_lines(path))
        if not task.mines and found != rows:  # in mining n counts the gold pairs, and any number may be found
            raise UserError(
                f"{path}: {found} predictions, but results.json says {rows}. Delete that results.json and run the "
                "cell again."
            )
        files[name] = path
    return files


@contextlib.contextmanager
def _new_folder(output: Path | str) -> Iterator[Path]:
    """Yield a temporary folder and rename it to `output` at the end. After an error nothing is left."""
    output = Path(output).absolute()
    if os.path.exists(output) and (not output.is_dir() or any(output.iterdir())):
        raise UserError(f"--output {output} exists. Remove it, or give another.")
    temporary = output.with_name(f".{output.name}.{os.getpid()}.tmp")
    try:
        temporary.mkdir(parents=True)
        yield temporary
        os.replace(temporary, output)
    except OSError as error:
        raise UserError(f"--output {output} cannot be written: {error}.") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


# --- the gold of the same layout


def gold(
    rows: "Rows",
    output: Path | str,
    tasks: Sequence[str] = (),
    benchmark: str = "xtreme",
    max_eval_samples: int | None = None,
) -> dict[str, dict[str, int]]:
    """Write the labels of test rows to the folder `output` and return {task: {language: rows}}.

    Args:
        tasks: empty: every task of a benchmark that has test rows.
        benchmark: its languages are read from the Hub.
        max_eval_samples: examples of each language, as in the runs; None: all. Mining is never cut.

    Raises:
        UserError: a named task has no test rows, no task has, a row is broken, or `output` exists.
    """
    if max_eval_samples is not None and max_eval_samples < 1:
        raise UserError(f"--max_eval_samples {max_eval_samples}: give at least 1, or leave it out.")
    names = list(tasks) or [
        name for name in TASKS if any(get_task(name).languages_in in reported for reported in BENCHMARKS.values())
    ]
    written: dict[str, dict[str, int]] = {}
    with _new_folder(output) as folder:
        for name in names:
            task = get_task(name, benchmark)
            try:
                languages = task.languages(rows)
            except UserError:
                if tasks:
                    raise
                continue
            for language in languages:
                loaded = task.read("test", language, rows)
                examples = loaded.examples
                if max_eval_samples is not None and not task.mines:
                    examples = inputs.first(examples, max_eval_samples, loaded.parts)
                predictions.write_lines(folder, task, language, task.gold_lines(examples))
                written.setdefault(name, {})[language] = len(examples)
        if not written:
            raise UserError(f"No test rows of any of {' '.join(names)} at --data_root {rows.root}.")
    return written


# --- command line


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status: 0, or 2 after a one-line error on stderr."""
    parser = argparse.ArgumentParser(prog="python -m xstilts.xtreme.submission", description=__doc__.split("\n\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)

    writer = commands.add_parser("write", help="gather the predictions of a matrix")
    writer.add_argument("runs_dir", type=Path, metavar="RUNS_DIR", help="folder of <arm>/seed<k>/<task>/results.json")
    writer.add_argument("--output", type=Path, required=True, help="the folder to write")
    writer.add_argument(
        "--arm",
        nargs="+",
        default=[],
        metavar="NAME",
        help="NAME for all tasks, TASK=NAME for one; default: for each task the best on English dev",
    )
    writer.add_argument("--seed", type=int, help="default: the lowest")
    writer.add_argument("--allow_missing", action="store_true", help="leave out tasks with missing cells")

    labels = commands.add_parser("gold", help="write the labels of rows in the same layout")
    labels.add_argument("--data_root", required=True, help="hub, or a folder of rows")
    labels.add_argument("--output", type=Path, required=True, help="the folder to write")
    labels.add_argument(
        "--tasks", "--task", nargs="+", default=[], help="default: every target task that has test rows"
    )
    labels.add_argument("--splits", nargs="+", default=[], help="as in the runs, e.g. udpos.test=validation")
    labels.add_argument("--max_eval_samples", type=int, help="as in the runs")
    labels.add_argument(
        "--benchmark", choices=tuple(BENCHMARKS), default="xtreme", help="languages from the Hub; default: %(default)s"
    )

    scorer = commands.add_parser("score", help="score a folder of predictions as the benchmark does")
    scorer.add_argument("--predictions", type=Path, required=True, help="folder of <task>/test-<language>.<suffix>")
    scorer.add_argument("--labels", type=Path, required=True, help="folder of the gold, in the same layout")
    scorer.add_argument("--benchmark", choices=tuple(BENCHMARKS), default="xtreme", help="default: %(default)s")
    scorer.add_argument(
        "--found_languages",
        action="store_true",
        help="score each task in the languages of its label files, not in the benchmark's",
    )
    scorer.add_argument("--json", action="store_true", help="every figure, unrounded, as one JSON object")

    arguments = parse_tool(parser, argv)
    try:
        {"write": _write, "gold": _gold, "score": _score}[arguments.command](arguments)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _write(arguments: argparse.Namespace) -> None:
    system = write(arguments.runs_dir, arguments.output, arguments.arm, arguments.seed, arguments.allow_missing)
    for task, choice in system["tasks"].items():
        dev = choice["dev"] or {"metric": "", "scores": {}}
        scores = ", ".join(f"{arm} {score:.1f}" for arm, score in dev["scores"].items())
        print(f"{task:<10} {choice['arm']:<20} ({choice['chosen']}) {dev['metric']}{': ' if scores else ''}{scores}")
    for note in system["notes"]:
        print(f"note: {note}")
    print(
        f"{arguments.output}: {sum(len(choice['files']) for choice in system['tasks'].values())} files, seed "
        f"{system['seed']}; see {SYSTEM}"
    )


def _gold(arguments: argparse.Namespace) -> None:
    from xstilts.cli.arguments import DataArguments

    rows = inputs.open_rows(DataArguments(data_root=arguments.data_root, splits=arguments.splits))
    for task, languages in gold(
        rows, arguments.output, arguments.tasks, arguments.benchmark, arguments.max_eval_samples
    ).items():
        print(f"{task:<10} {' '.join(f'{language}:{n}' for language, n in languages.items())}")


def _score(arguments: argparse.Namespace) -> None:
    scores = scoring.score(arguments.predictions, arguments.labels, arguments.benchmark, arguments.found_languages)
    print(json.dumps(scores, indent=1) if arguments.json else scoring.table(scores))


if __name__ == "__main__":
    tool(main)
