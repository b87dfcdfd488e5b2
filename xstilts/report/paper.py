"""A paper's claims beside what a matrix finds: each with its differences, their intervals and a verdict.

The claims come from a file (`xstilts.report.claims_file`). Scores are those of the matrix (`Matrix.cells`).
Differences are paired over seeds; the interval is the paired t-interval over seeds, which takes the test rows as
given. A task in which an arm is at chance with every seed is left out on both sides, and so is a seed in which another
training is at chance. Of a group, a task is left out that an arm has in no seed, or above chance in fewer than others,
where leaving it out keeps more cells (`_with_most_cells`). The best arm is picked from those with the most seeds. The
notes name what is left out, and give the difference with the trainings at chance in it: leaving out those that failed
flatters an arm. Warnings name an arm that failed in some seeds, and an intermediate training at chance, whose cells
count.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from xstilts.report import statistics
from xstilts.report.claims_file import GROUPS, Claim
from xstilts.report.matrix import Matrix
from xstilts.report.numbers import interval_of, seeds_text, signed

REPEATS, CONTRADICTS, UNDECIDED, NO_RESULT = "repeats", "contradicts", "undecided", "no result"


@dataclass(frozen=True)
class Difference:
    """One arm, or the mean of several, less another, over the same tasks and seeds; without seeds, none was found.

    Attributes:
        by_seed: {seed: points}.
        counted: the arms on both sides whose scores are in it; of a claim that picks, the picked.
        picked: {task: arm} of a claim that picks.
        notes: what was left out, and why.
    """

    arms: str
    against: str
    tasks: tuple[str, ...] = ()
    by_seed: dict[int, float] = field(default_factory=dict)
    counted: tuple[str, ...] = ()
    picked: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def cells(self) -> tuple[tuple[str, ...], tuple[int, ...]]:
        """(Tasks, seeds)."""
        return self.tasks, tuple(self.by_seed)

    @property
    def mean(self) -> float:
        """In points; NaN without seeds."""
        return float(np.mean(list(self.by_seed.values()))) if self.by_seed else float("nan")

    def interval(self, level: float = statistics.LEVEL) -> statistics.Interval | None:
        """Return the paired t-interval over seeds, None with one seed or if all seeds give the same difference."""
        return statistics.seed_interval(list(self.by_seed.values()), level)


@dataclass(frozen=True)
class Judgement:
    """The result of one claim.

    Attributes:
        differences: one, or of a claim with `each` one for every pair; some may have no seeds.
        warnings: of trainings at chance.
    """

    claim: Claim
    differences: tuple[Difference, ...]
    verdict: str
    warnings: tuple[str, ...] = ()


@dataclass
class _Notes:
    """What a difference leaves out. Tasks that are left out for the same reason share a line."""

    tasks: dict[str, list[str]] = field(default_factory=dict)  # {reason: tasks}
    others: list[str] = field(default_factory=list)

    def without(self, task: str, reason: str) -> None:
        self.tasks.setdefault(reason, []).append(task)

    def lines(self) -> tuple[str, ...]:
        return (*(f"without {', '.join(those)}: {reason}" for reason, those in self.tasks.items()), *self.others)


def judge(matrix: Matrix, claims: Iterable[Claim], margin: float = statistics.MARGIN) -> list[Judgement]:
    """Return the result of each claim."""
    return [_judge_claim(matrix, claim, margin) for claim in claims]


def _judge_claim(matrix: Matrix, claim: Claim, margin: float) -> Judgement:
    pairs = [((arm,), (other,)) for arm in claim.arms for other in claim.against]
    sides = pairs if "each" in claim.expect else [(claim.arms, claim.against)]
    whole = replace(matrix, cells=matrix.cells.assign(at_chance=False))
    differences = []
    for arms, against in sides:
        one, every = (_difference_of(scores, claim, arms, against) for scores in (matrix, whole))
        more = [_with_failed(every)] if every.by_seed and every.cells != one.cells else []
        if len(one.by_seed) > 1 and not one.interval():
            more.append("no interval: every seed gives the same difference")
        one = replace(one, notes=(*one.notes, *more))
        differences.append(one)
    found = [one for one in differences if one.by_seed]
    verdict = _verdict(claim, found, len(sides), margin) if found else NO_RESULT
    warnings = _untrained(matrix, found) + _failed(matrix, claim, found)
    return Judgement(claim, tuple(differences), verdict, tuple(warnings))


def _tasks(matrix: Matrix, claim: Claim) -> list[str]:
    """Return the tasks of a claim."""
    groups = {
        "targets": matrix.tasks_of("target"),
        "retrieval": matrix.tasks_of("retrieval"),
        "all": matrix.tasks_of("target") + matrix.tasks_of("retrieval"),
    }
    return groups.get(claim.tasks[0], list(claim.tasks))


def _difference_of(matrix: Matrix, claim: Claim, arms: tuple[str, ...], against: tuple[str, ...]) -> Difference:
    """Return the difference of two sides; it has no seeds if none has all cells of both."""
    notes, nothing = _Notes(), Difference(" ".join(arms), " ".join(against))
    tasks = _tasks(matrix, claim)
    if not tasks or (absent := [task for task in tasks if matrix.phase(task) is None]):
        return replace(nothing, notes=(f"not measured: {', '.join(absent) if tasks else claim.tasks[0]}",))
    there = {arm for arm, _, _ in matrix.records}
    if absent := [arm for arm in dict.fromkeys((*arms, *against)) if arm not in there]:
        notes.others.append(f"not measured: {', '.join(absent)}")
        arms = tuple(arm for arm in arms if arm in there)
        if not (claim.pick and arms and there.issuperset(against)):  # the best may be one of fewer
            return replace(nothing, notes=notes.lines())
    needed = against if claim.pick else (*arms, *against)
    picked: dict[str, str] = {}
    tasks = _above_chance(matrix, needed, tasks, notes)
    if claim.tasks[0] in GROUPS:
        tasks = _with_most_cells(matrix, needed, tasks, notes)
    if claim.pick:
        treated, picked = _picked(matrix, arms, tasks, notes)
        arms, tasks = tuple(dict.fromkeys(picked.values())), list(picked)
    elif tasks:
        treated = _means(matrix, arms, tasks, notes)
    if not tasks:
        notes.others.append("no task is left")
        return replace(nothing, notes=notes.lines())
    base = _means(matrix, against, tasks, notes)
    if not (seeds := sorted(treated.keys() & base.keys())):
        notes.others.append("no seed has all cells of both sides")
        return replace(nothing, notes=notes.lines())
    by_seed = {seed: treated[seed] - base[seed] for seed in seeds}
    counted = (*arms, *against)
    return replace(nothing, tasks=tuple(tasks), by_seed=by_seed, counted=counted, picked=picked, notes=notes.lines())


def _with_most_cells(matrix: Matrix, arms: Sequence[str], tasks: Sequence[str], notes: _Notes) -> list[str]:
    """Return the tasks that count, of those that every arm has; note the others.

    A task has the seeds in which every arm has it above chance. Those tasks count that have a number of seeds or more,
    the number chosen so that tasks times their shared seeds are the most; of equals the larger number. So neither a
    task that was measured, or learned, in one seed, nor a seed that has one task yet, takes much from the rest.
    """
    learned = matrix.cells[~matrix.cells["at_chance"].astype(bool)].groupby(["arm", "task"])["seed"].agg(set)
    seeds: dict[str, set[int]] = {}
    for task in tasks:
        if absent := [arm for arm in dict.fromkeys(arms) if not matrix.seeds_with(arm, task)]:
            notes.without(task, f"not measured in {_arms(absent)}")
        else:
            seeds[task] = set.intersection(*(learned[arm, task] for arm in arms))

    def kept(number: int) -> list[str]:
        return [task for task, those in seeds.items() if len(those) >= number]

    def size(number: int) -> tuple[int, int]:
        those = kept(number)
        return len(those) * len(set.intersection(*(seeds[task] for task in those))), number

    left = kept(max(map(len, seeds.values()), key=size)) if seeds else []
    for task in (task for task in seeds if task not in left):
        number = {arm: len(learned[arm, task]) for arm in arms}
        few = [arm for arm in number if number[arm] == min(number.values())]
        notes.without(task, f"fewer seeds above chance in {_arms(few)}")
    return left


def _arms(names: Sequence[str]) -> str:
    return f"{'arm' if len(names) == 1 else 'arms'} {', '.join(names)}"


def _above_chance(matrix: Matrix, arms: Sequence[str], tasks: Sequence[str], notes: _Notes) -> list[str]:
    """Return the tasks that no arm is at chance in with all its seeds; note the others."""
    cells = matrix.cells[matrix.cells["arm"].isin(arms)]
    at_chance = cells.groupby(["task", "arm"])["at_chance"].all()
    left = []
    for task in tasks:
        those = [arm for arm in dict.fromkeys(arms) if at_chance.get((task, arm), False)]
        if those:
            notes.without(task, f"at chance in {_arms(those)}")
        else:
            left.append(task)
    return left


def _untrained(matrix: Matrix, differences: Iterable[Difference]) -> list[str]:
    """Return a warning for each arm whose phase 2 stayed at chance in a seed that counts."""
    seeds: dict[str, set[int]] = {}
    for one in differences:
        for arm in one.counted:
            seeds.setdefault(arm, set()).update(one.by_seed)
    warnings = []
    for arm, counted in seeds.items():
        at_chance = sorted(
            record.seed for record in matrix.trainings_of(arm) if record.failed and record.seed in counted
        )
        if at_chance:
            warnings.append(f"phase 2 of {arm} is at chance in {seeds_text(at_chance)}")
    return warnings


def _failed(matrix: Matrix, claim: Claim, differences: Iterable[Difference]) -> list[str]:
    """Return a warning for each arm that is at chance in a task in some of its seeds; of arms that were picked, in the
    tasks they were picked for."""
    warnings = []
    for one in differences:
        if claim.pick:
            counted = {
                *((arm, task) for task, arm in one.picked.items()),
                *itertools.product(claim.against, one.tasks),
            }
        else:
            tasks = _tasks(matrix, claim)
            measured = [task for task in tasks if all(matrix.seeds_with(arm, task) for arm in one.counted)]
            counted = set(itertools.product(one.counted, measured))
        for (arm, task), group in matrix.cells.groupby(["arm", "task"], sort=False):
            at_chance = group.loc[group["at_chance"].astype(bool), "seed"]
            if (arm, task) in counted and 0 < len(at_chance) < len(group):
                warnings.append(f"{arm} is at chance in {task} in {seeds_text(sorted(at_chance))}")
    return list(dict.fromkeys(warnings))


def _with_failed(found: Difference) -> str:
    """Return a note of the difference that counts trainings at chance, too."""
    span = f" [{interval_of(span)}]" if (span := found.interval()) else ""
    where = f"tasks {', '.join(found.tasks)}, {seeds_text(list(found.by_seed))}"
    return f"counting trainings at chance: {signed(found.mean)}{span} ({where})"


def _means(matrix: Matrix, arms: Sequence[str], tasks: Sequence[str], notes: _Notes) -> dict[int, float]:
    """Return {seed: mean over arms and tasks of the score}, of the seeds that have every cell, none of them at
    chance."""
    cells = matrix.cells.set_index(["arm", "task", "seed"])
    found = {}
    for seed in matrix.common_seeds(*arms):
        keys = [(arm, task, seed) for arm in arms for task in tasks]
        missing = [key for key in keys if key not in cells.index]
        at_chance = [key for key in keys if key not in missing and cells.loc[key, "at_chance"]]
        if not missing and not at_chance:
            found[seed] = float(np.mean([cells.loc[key, "score"] for key in keys]))
        elif at_chance:
            notes.others.append(
                f"seed {seed} is left out: {', '.join(f'{arm} {task}' for arm, task, _ in at_chance)} at chance"
            )
        elif len(missing) < len(keys):
            named = ", ".join(f"{arm} {task}" for arm, task, _ in missing)
            notes.others.append(f"seed {seed} is left out: not measured: {named}")
    return found


def _picked(
    matrix: Matrix, arms: Sequence[str], tasks: Sequence[str], notes: _Notes
) -> tuple[dict[int, float], dict[str, str]]:
    """Return ({seed: mean over tasks of the score of the arm that is best on English dev there, mean over seeds},
    {task: that arm}, without tasks in which every arm is at chance). Both are empty if a task has no English dev score
    of these arms.

    An arm with fewer seeds than another is not picked: its mean is over other seeds, and the claim would have few
    seeds. The mean includes seeds at chance, or an arm that often fails would win by its luckiest seed."""
    dev = matrix.cells[matrix.cells["arm"].isin(arms) & matrix.cells["dev"].notna()]
    if missing := [task for task in tasks if task not in set(dev["task"])]:
        notes.others.append(f"no English dev score to pick an arm by: {', '.join(missing)}")
        return {}, {}
    chosen: dict[str, str] = {}
    fewer: dict[tuple[str, ...], list[str]] = {}
    for task in tasks:
        by_arm = (
            dev[dev["task"] == task]
            .groupby("arm")
            .agg(dev=("dev", "mean"), seeds=("seed", "nunique"), at_chance=("at_chance", "all"))
        )
        whole = by_arm["seeds"] == by_arm["seeds"].max()
        if not whole.all():
            fewer.setdefault(tuple(arm for arm in arms if arm in by_arm.index[~whole]), []).append(task)
        means = by_arm.loc[whole & ~by_arm["at_chance"].astype(bool), "dev"]
        if means.empty:
            notes.without(task, "at chance in every arm")
        else:
            chosen[task] = means.idxmax()
    for few, those in fewer.items():
        notes.others.append(f"for {', '.join(those)} not picked from, because of fewer seeds: {', '.join(few)}")
    if not chosen:
        return {}, {}
    notes.others.append(f"picked: {', '.join(f'{arm} for {task}' for task, arm in chosen.items())}")
    by_task = [_means(matrix, [arm], [task], notes) for task, arm in chosen.items()]
    seeds = set.intersection(*(set(scores) for scores in by_task))
    return {seed: float(np.mean([scores[seed] for scores in by_task])) for seed in seeds}, chosen


def _verdict(claim: Claim, differences: Sequence[Difference], wanted: int, margin: float) -> str:
    """Return repeats, contradicts or undecided; a difference of one seed decides nothing.

    "Higher" repeats if the interval lies above 0, and contradicts if it lies below. "Not higher" contradicts if it
    lies above 0, and repeats if it ends below the margin. Of `wanted` differences of a claim with `each`, all must
    lie above 0; one that does not is enough for the opposite, so its interval is a wider one (Bonferroni).

    Args:
        wanted: how many differences the claim is about; fewer may have been run.
    """
    spans = [span for one in differences if (span := one.interval())]
    wide = [span for one in differences if (span := one.interval(1 - (1 - statistics.LEVEL) / wanted))]
    higher = len(spans) == wanted and all(low > 0 for low, _ in spans)
    if claim.expect.startswith("not"):
        return CONTRADICTS if higher else REPEATS if any(high < margin for _, high in wide) else UNDECIDED
    return REPEATS if higher else CONTRADICTS if any(high < 0 for _, high in wide) else UNDECIDED
