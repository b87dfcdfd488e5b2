"""Choose for each task of a submission the arm whose predictions it gets: the one named, or the best on dev."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypedDict

from tasks.errors import UserError
from xstilts.cli.arms import PLAIN, known_or_near
from xstilts.run.record import Record

if TYPE_CHECKING:
    from xstilts.report.matrix import Matrix


class Dev(TypedDict):
    """The dev scores, 0-100, by which an arm is chosen."""

    metric: str
    scores: dict[str, float]


class Choice(TypedDict):
    """The arm of a task, and why: "asked", best on "dev", or the "default" without dev scores."""

    arm: str
    chosen: str
    dev: Dev | None


def _dev_score(record: Record) -> tuple[str, float] | None:
    """Return (name, score 0-100) of the dev score that chooses an arm, or None without dev scores.

    It is English dev. Mining has dev pools in the test languages, so there it is their mean.
    """
    from xstilts.report.reading import english_dev  # needs numpy, which may not be installed

    if found := english_dev(record):
        return f"English dev {found[0]}", found[1]
    if f"dev_{record.metric}" in record.mean:
        return f"mean dev {record.metric}", record.mean[f"dev_{record.metric}"]
    return None


def arms_by_task(arms: Sequence[str], tasks: Sequence[str], known: Sequence[str]) -> dict[str, str]:
    """Return {task: arm} from the words NAME and TASK=NAME of the command line."""
    everywhere: dict[str, str] = {}
    single: dict[str, str] = {}
    for word in arms:
        task, equals, arm = word.rpartition("=")
        if arm not in known:
            raise UserError(f"--arm {word}: there is no arm {arm!r}.{known_or_near(arm, known)}")
        if equals and task not in tasks:
            raise UserError(f"--arm {word}: there is no task {task!r} to write.{known_or_near(task, tasks)}")
        if task in single or (everywhere and not equals):
            raise UserError(f"--arm {word}: an arm is already given for {task or 'all tasks'}.")
        if equals:
            single[task] = arm
        else:
            everywhere = dict.fromkeys(tasks, arm)
    return everywhere | single


def _choose(matrix: "Matrix", task: str, seed: int, arm: str | None) -> Choice:
    """Return the arm for a task. Raise UserError if a cell that the choice needs is missing.

    Args:
        arm: the arm that the user named for the task, or None.
    """
    cells = {arm: matrix.records[arm, task, seed] for arm in matrix.arms if (arm, task, seed) in matrix.records}
    figures = {arm: figure for arm, record in cells.items() if (figure := _dev_score(record))}
    needed, chosen = ([arm], "asked") if arm else (matrix.arms, "dev") if figures else ([PLAIN], "default")
    missing = [f"{arm}/seed{seed}/{task}" for arm in needed if arm not in cells]
    missing += [
        f"{arm}/seed{seed}/{task} (no dev score)"
        for arm in needed
        if chosen == "dev" and arm in cells and arm not in figures
    ]
    if missing:
        raise UserError(f"Missing: {', '.join(missing)}.")
    winner = needed[0]
    if chosen == "dev":
        able = [arm for arm in figures if not cells[arm].at_chance]
        if not able:
            raise UserError(f"{task}: every arm is at chance on English dev.")
        winner = max(able, key=lambda arm: figures[arm][1])  # ties go to the first
    scores = {arm: figure for arm, (_, figure) in figures.items()}
    dev: Dev | None = {"metric": next(iter(figures.values()))[0], "scores": scores} if figures else None
    return {"arm": winner, "chosen": chosen, "dev": dev}


def choose_all(
    matrix: "Matrix", tasks: Sequence[str], seed: int, arm_of: Mapping[str, str]
) -> tuple[dict[str, Choice], list[str]]:
    """Return ({task: its arm}, what is missing for the other tasks)."""
    chosen: dict[str, Choice] = {}
    gaps: list[str] = []
    for task in tasks:
        try:
            chosen[task] = _choose(matrix, task, seed, arm_of.get(task))
        except UserError as gap:
            gaps.append(str(gap))
    return chosen, gaps
