"""`make plan`: count the finished runs of a matrix and estimate the time of the rest from similar runs.

python -m xstilts.plan --runs_dir runs/world --arms none mnli --tasks xnli tatoeba --seeds 0 1 --model
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tasks import RETRIEVAL, TASKS
from tasks.errors import UserError
from xstilts.cli.arms import PLAIN
from xstilts.cli.logs import duration
from xstilts.cli.words import parse_tool
from xstilts.run.endings import tool
from xstilts.run.lock import LOCK
from xstilts.run.record import FILE_NAME, Record, is_there


def grid_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that define the runs of a matrix, see `stamps_of`."""
    parser.add_argument("--runs_dir", type=Path, required=True, help="folder of the matrix")
    parser.add_argument("--arms", nargs="+", required=True)
    parser.add_argument("--tasks", "--task", nargs="*", default=[])
    parser.add_argument("--seeds", nargs="+", type=int, required=True)
    parser.add_argument(
        "--seeds_of", nargs="+", default=[], metavar="ARM=SEED,...", help="seeds of arms that have other seeds"
    )
    parser.add_argument("--model", action="store_true", help="the matrix trains the model that its arms start from")


def stamps_of(arguments: argparse.Namespace) -> list[Path]:
    """Return the results.json path of every run, finished or not: the model, each phase 2, the cells."""
    of = read_seeds_of(arguments.seeds_of, arguments.arms)
    seeds = [
        arguments.runs_dir / arm / f"seed{seed}" for arm in arguments.arms for seed in of.get(arm, arguments.seeds)
    ]
    folders = [arguments.runs_dir / "model"] if arguments.model else []
    folders += [folder for folder in seeds if folder.parent.name != PLAIN]
    folders += [folder / task for folder in seeds for task in arguments.tasks]
    return [folder / FILE_NAME for folder in folders]


def read_seeds_of(words: Sequence[str], arms: Sequence[str] | None) -> dict[str, list[int]]:
    """Return {arm: its seeds} from words ARM=SEED,SEED,...

    Args:
        arms: those of --arms; None where they are not given, so that any may be named.

    Raises:
        UserError: a word has another form, or its arm is not in `arms` or was given before.
    """
    found: dict[str, list[int]] = {}
    for word in words:
        arm, _, seeds = word.partition("=")
        if not re.fullmatch(r"\d+(,\d+)*", seeds):
            raise UserError(f"--seeds_of {word}: expected ARM=SEED,SEED,..., e.g. none=0,1,2.")
        if arm in found or (arms is not None and arm not in arms):
            problem = "is given twice" if arm in found else "is not one of --arms"
            raise UserError(f"--seeds_of {word}: arm {arm} {problem}.")
        found[arm] = [int(seed) for seed in seeds.split(",")]
    return found


@dataclass
class Group:
    """The runs of one kind: a task's cells, or one arm's trainings, over seeds."""

    total: int = 0
    unread: int = 0  # finished, but not among those that were read
    seconds: list[float] = field(default_factory=list)  # of the finished runs that were read
    unreadable: list[str] = field(default_factory=list)

    @property
    def left(self) -> int:
        return self.total - self.unread - len(self.seconds)

    @property
    def estimate(self) -> float | None:
        """Seconds of work left, by the mean of the finished runs; None if there are none."""
        return self.left * sum(self.seconds) / len(self.seconds) if self.seconds else None


def groups(stamps: Sequence[Path], most: int | None = None) -> dict[str, Group]:
    """Return {kind: its runs} in the order of `stamps`, the results.json files of a complete matrix.

    The kind of a cell is its task, of <arm>/seed<k>/results.json "phase 2: <arm>", of any other run its folder's name.

    Args:
        most: the largest number of results to read of a kind; None: all.
    """
    found: dict[str, Group] = {}
    for stamp in stamps:
        folder = stamp.parent
        kind = f"phase 2: {folder.parent.name}" if re.fullmatch(r"seed\d+", folder.name) else folder.name
        group = found.setdefault(kind, Group())
        group.total += 1
        if is_there(stamp.parent):
            if most is not None and len(group.seconds) >= most:
                group.unread += 1
                continue
            try:
                group.seconds.append(Record.read(stamp).seconds)
            except UserError as error:
                group.unreadable.append(str(error))
    return found


# Seconds of runs in the miniature world (preset world, two cores): ratios for kinds without a finished run
WORLD = {
    "model": 232.0,
    "phase 2: mnli": 17.0,
    "phase 2: squad": 31.0,
    "phase 2: hellaswag": 41.0,
    "phase 2: all": 57.0,
    "phase 2: squad_dual": 8.5,
    "phase 2: paraphrase_dual": 8.3,
    "xnli": 10.3,
    "udpos": 10.0,
    "tydiqa": 12.3,
    "tatoeba": 1.6,
    "bucc": 4.9,
}
START_UP = 2.0  # seconds of a run before its clock starts: rows, model; a run that is not a fork imports for 6 more


def weight(kind: str) -> float:
    """Return how long a run of a kind takes in the miniature world, in seconds; of an unknown kind, similar ones."""
    if found := WORLD.get(kind) or WORLD.get(kind.partition("+")[0]):
        return found
    if kind.startswith("phase 2: "):
        similar = [WORLD[f"phase 2: {task}"] for task in TASKS if f"phase 2: {task}" in WORLD]
    else:
        is_retrieval = kind in RETRIEVAL
        similar = [WORLD[task] for task in TASKS if task in WORLD and (task in RETRIEVAL) == is_retrieval]
    return sum(similar) / len(similar)


def rough_estimates(found: dict[str, Group]) -> dict[str, float]:
    """Return {kind: seconds of work left} of the kinds without a finished run; {} if no run at all is finished.

    The finished runs say how many times longer than in the miniature world runs take here.
    """
    measured = sum(sum(group.seconds) for group in found.values())
    there = sum(weight(kind) * len(group.seconds) for kind, group in found.items())
    return {
        kind: weight(kind) * group.left * measured / there
        for kind, group in found.items()
        if there and not group.seconds
    }


def report(stamps: Sequence[Path], jobs: int = 1) -> str:
    """Return the plan as text: a line for each kind, then the runs left and the number of runs behind the estimate."""
    found = groups(stamps)
    rough, work = rough_estimates(found), sum(weight(kind) * group.total for kind, group in found.items())
    width = max([len("run"), *map(len, found)])
    lines = [f"{'run':<{width}}  done      mean     left"]
    for kind, group in found.items():
        mean = duration(sum(group.seconds) / len(group.seconds)) if group.seconds else "-"
        if group.estimate is not None:
            remaining = duration(group.estimate) if group.left else "-"
        else:
            share = 100 * weight(kind) * group.total / work
            remaining = f"~{duration(rough[kind])}" if kind in rough else f"~{share:.0f} %"
        lines.append(f"{kind:<{width}}  {f'{len(group.seconds)}/{group.total}':<7}{mean:>7} {remaining:>8}")
    known = sum(group.estimate or 0 for group in found.values())
    unknown = sum(group.left for group in found.values() if group.estimate is None)
    measured = sum(len(group.seconds) for group in found.values())
    left = sum(group.left for group in found.values())
    lines.append(f"\nDone: {measured} of {len(stamps)} runs. Left: {left}.")
    if left > unknown:
        lines.append(
            f"Estimate for {left - unknown} of them: {duration(known)} of work, {duration(known / jobs)} with "
            f"{jobs} at a time (from {measured} finished runs; without start-up time)."
        )
    if rough:
        lines.append(
            f"Rough estimate for {unknown}, of whose kind no run is finished: {duration(sum(rough.values()))} of "
            "work. It takes the ratios between kinds from the miniature world; with other rows and sizes they may be "
            "several times off."
        )
    elif unknown:
        lines.append(
            "No run is finished, so there is no time yet. ~ is a share of the work in the miniature world: rough."
        )
    lines += [f"Unreadable: {problem}" for group in found.values() for problem in group.unreadable]
    return "\n".join(lines)


def before(stamp: Path, stamps: Sequence[Path], jobs: int = 1) -> str:
    """Return the line to print before a run: ``run 5 of 42, about 9 min left: mnli/seed0/xnli``.

    Args:
        stamp: the run's results.json, one of `stamps`.
        jobs: runs at a time.
    """
    others = [other for other in stamps if other != stamp]
    begun = sum(is_there(other.parent) or (other.parent / LOCK).exists() for other in others)
    found = groups(stamps, most=20)  # enough for "about", and before each of 10,000 runs not too many
    rough, left = rough_estimates(found), sum(group.left for group in found.values())
    seconds = sum(group.estimate or 0 for group in found.values()) + sum(rough.values()) + START_UP * left
    about = "roughly" if any(rough.values()) else "about"
    known = any(group.seconds for group in found.values())
    time = f", {about} {duration(seconds / max(1, min(jobs, left)))} left" if known else ""
    return f"run {begun + 1} of {len(stamps)}{time}: {stamp.parent}"


def main(argv: Sequence[str] | None = None) -> None:
    """Print the plan."""
    parser = argparse.ArgumentParser(prog="python -m xstilts.plan", description=__doc__.split("\n")[0])
    grid_arguments(parser)
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time (default: 1)")
    parser.add_argument(
        "--before", type=Path, metavar="RESULTS_JSON", help="print only a line for the run that writes this file now"
    )
    arguments = parse_tool(parser, argv)
    if arguments.jobs < 1:
        parser.error(f"--jobs {arguments.jobs}: give at least 1")
    stamps = stamps_of(arguments)
    if arguments.before and arguments.before not in stamps:
        parser.error(f"--before {arguments.before}: the matrix has no such run")
    text = before(arguments.before, stamps, arguments.jobs) if arguments.before else report(stamps, arguments.jobs)
    print(text, flush=True)


if __name__ == "__main__":
    tool(main)
