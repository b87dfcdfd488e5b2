"""A paper's claims beside what a matrix finds: each with a difference, its interval and a verdict.

The claims are in a YAML file (recipes/claims/*.yaml), best written before the runs:

    about: Phang et al. 2020, with XLM-R Large      # whose claims
    margin: 1.0                                     # points that "not higher" may be missed by
    claims:
      squad:                                        # a short name
        claim: SQuAD first raises the targets       # in a sentence of ours
        paper: "+8.4 on average"                    # what the paper found, and where it says so
        arms: [squad]                               # the mean over these
        against: [none]                             # less the mean over these; none unless given
        tasks: targets                              # targets, retrieval, all, or a list of tasks
        expect: higher                              # or not higher; for each pair (arm, against):
                                                    # each higher, not each higher
        pick: dev                                   # optional: of `arms`, for each task the best on English dev
        why: An encoder of another size             # optional: why it may differ

Scores are those of the matrix (`Matrix.cells`). Differences are paired over seeds; the interval is the paired
t-interval over seeds, which takes the test rows as given. A task in which an arm is at chance with every seed is left
out on both sides, and so is a seed in which another training is at chance. Of a group, a task is left out that an arm
has in no seed, or above chance in fewer than others, where leaving it out keeps more cells (`_with_most_cells`). The
best arm is picked from those with the most seeds. The notes name what is left out, and give the difference with the
trainings at chance in it: leaving out those that failed flatters an arm. The verdict warns of an arm that failed in
some seeds, and of an intermediate training at chance, whose cells count.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from xstilts.cli import user_files
from xstilts.cli.arms import known_or_near
from xstilts.cli.words import short
from xstilts.errors import UserError
from xstilts.report import statistics
from xstilts.report.matrix import PLAIN, Matrix
from xstilts.report.numbers import interval_of, seeds_text, signed

EXPECTED = ("higher", "not higher", "each higher", "not each higher")
GROUPS = ("targets", "retrieval", "all")
REPEATS, CONTRADICTS, UNDECIDED, NOT_RUN = "repeats", "contradicts", "undecided", "not run"


@dataclass(frozen=True)
class Claim:
    """One claim, see the module's docstring."""

    name: str
    claim: str
    paper: str
    arms: tuple[str, ...]
    expect: str
    tasks: tuple[str, ...]  # names of tasks, or one of GROUPS
    against: tuple[str, ...] = (PLAIN,)
    pick: str | None = None
    why: str = ""


@dataclass(frozen=True)
class Difference:
    """One arm, or the mean of several, less another, over the same tasks and seeds."""

    arms: str
    against: str
    tasks: tuple[str, ...]
    by_seed: dict[int, float]  # {seed: points}
    counted: tuple[str, ...]  # the arms on both sides whose scores are in it; of a claim that picks, the picked

    @property
    def cells(self) -> tuple[tuple[str, ...], tuple[int, ...]]:
        """(Tasks, seeds)."""
        return self.tasks, tuple(self.by_seed)

    @property
    def mean(self) -> float:
        """In points."""
        return float(np.mean(list(self.by_seed.values())))

    def interval(self, level: float = statistics.LEVEL) -> statistics.Interval | None:
        """Return the paired t-interval over seeds, None with one seed or if all seeds give the same difference."""
        return statistics.seed_interval(list(self.by_seed.values()), level)


@dataclass(frozen=True)
class Judgement:
    """The result of one claim: one difference, or of a claim with `each` one for every pair that was run."""

    claim: Claim
    differences: tuple[Difference, ...]
    verdict: statistics.Verdict
    notes: tuple[str, ...] = ()


def read_claims(path: str | Path) -> tuple[list[Claim], str, float]:
    """Return (the claims in a YAML file, whose they are, the margin in points).

    Raises:
        UserError: naming the file, the claim and the key that is missing, unknown or of the wrong kind.
    """
    values = user_files.read_yaml(path, "--claims")
    known = ("about", "margin", "claims", "description")
    for key in values:
        if key not in known:
            raise UserError(f"--claims {path}: the key {short(key)!r} is unknown.{known_or_near(key, known)}")
    if not isinstance(values.get("about"), str) or not isinstance(values.get("claims"), dict):
        raise UserError(
            f"--claims {path}: expected `about: whose claims` and `claims:` with one entry a claim, see "
            "recipes/claims."
        )
    try:
        margin = float(values.get("margin", statistics.MARGIN))
    except (TypeError, ValueError):
        margin = float("nan")
    if not 0 < margin < 100:
        raise UserError(f"--claims {path}: margin {values['margin']!r}, expected points above 0.")
    return [_claim(path, name, entry) for name, entry in values["claims"].items()], values["about"], margin


def _claim(path: str | Path, name: str, entry: object) -> Claim:
    known = ("claim", "paper", "arms", "expect", "tasks", "against", "pick", "why")
    if not isinstance(entry, dict):
        raise UserError(f"--claims {path}: {name}: expected keys {', '.join(known)}.")
    for key in entry:
        if key not in known:
            raise UserError(f"--claims {path}: {name}: the key {short(key)!r} is unknown.{known_or_near(key, known)}")
    missing = [key for key in ("claim", "paper", "arms", "expect", "tasks") if not entry.get(key)]
    if missing:
        raise UserError(f"--claims {path}: {name}: {', '.join(missing)} missing.")
    values = dict(entry)
    for key in ("claim", "paper", "expect", "pick", "why"):
        if not isinstance(values.get(key, ""), str):
            raise UserError(f"--claims {path}: {name}: {key} is {values[key]!r}, expected text.")
    for key in ("arms", "against", "tasks"):
        given = values.get(key, [PLAIN])
        is_list = isinstance(given, list) and given and all(isinstance(one, str) for one in given)
        if not is_list and not (key == "tasks" and given in GROUPS):
            raise UserError(
                f"--claims {path}: {name}: {key} is {given!r}, expected a list of names"
                + (f", or one of {', '.join(GROUPS)}." if key == "tasks" else ".")
            )
        values[key] = tuple(given) if isinstance(given, list) else (given,)
    if values["expect"] not in EXPECTED:
        raise UserError(
            f"--claims {path}: {name}: expect is {values['expect']!r}, expected one of: {', '.join(EXPECTED)}."
        )
    if values.get("pick") not in (None, "dev"):
        raise UserError(f"--claims {path}: {name}: pick is {values['pick']!r}, expected dev.")
    return Claim(name=name, **values)


def judge(matrix: Matrix, claims: Iterable[Claim], margin: float = statistics.MARGIN) -> list[Judgement]:
    """Return the result of each claim."""
    return [_judge_claim(matrix, claim, margin) for claim in claims]


def _judge_claim(matrix: Matrix, claim: Claim, margin: float) -> Judgement:
    notes: list[str] = []
    tasks = _tasks(matrix, claim, notes)
    run = _that_were_run(matrix, (*claim.arms, *claim.against), notes)
    pairs = [((arm,), (other,)) for arm in claim.arms for other in claim.against]
    sides = pairs if "each" in claim.expect else [(claim.arms, claim.against)]
    differences = []
    whole = replace(matrix, cells=matrix.cells.assign(at_chance=False))
    for arms, against in sides:
        there = tuple(arm for arm in arms if arm in run)
        enough = there if claim.pick else there == arms  # the best may be one of fewer
        if tasks and enough and run.issuperset(against):
            if found := _difference_of(matrix, claim, there, against, tasks, notes):
                differences.append(found)
                every = _difference_of(whole, claim, there, against, tasks, [])
                notes += [_with_failed(every)] if every and every.cells != found.cells else []
    words = _verdict(claim, differences, len(sides), margin) if differences else NOT_RUN
    # the best arm is picked by a mean that includes seeds at chance
    doubts = _untrained(matrix, differences) + ([] if claim.pick else _failed(matrix, tasks, differences))
    verdict = statistics.Verdict(words, words, doubts)
    return Judgement(claim, tuple(differences), verdict, tuple(dict.fromkeys(notes)))


def _tasks(matrix: Matrix, claim: Claim, notes: list[str]) -> list[str]:
    """Return the tasks of a claim; none if one that it names was not run."""
    groups = {
        "targets": matrix.tasks_of("target"),
        "retrieval": matrix.tasks_of("retrieval"),
        "all": matrix.tasks_of("target") + matrix.tasks_of("retrieval"),
    }
    tasks = groups.get(claim.tasks[0], list(claim.tasks))
    absent = [task for task in tasks if matrix.phase(task) is None]
    if absent or not tasks:
        notes.append(f"not measured: {', '.join(absent) or claim.tasks[0]}")
        return []
    return tasks


def _that_were_run(matrix: Matrix, arms: Iterable[str], notes: list[str]) -> set[str]:
    """Return the arms that have a cell; note the others."""
    there = {arm for arm, _, _ in matrix.records}
    if absent := [arm for arm in dict.fromkeys(arms) if arm not in there]:
        notes.append(f"not measured: {', '.join(absent)}")
    return there


def _difference_of(
    matrix: Matrix,
    claim: Claim,
    arms: tuple[str, ...],
    against: tuple[str, ...],
    tasks: Sequence[str],
    notes: list[str],
) -> Difference | None:
    """Return the difference of two sides; None if no seed has all cells of both."""
    names = " ".join(arms), " ".join(against)
    needed = against if claim.pick else (*arms, *against)
    tasks = _above_chance(matrix, needed, tasks, notes)
    if claim.tasks[0] in GROUPS:
        tasks = _with_most_cells(matrix, needed, tasks, notes)
    if claim.pick:
        treated, picked = _picked(matrix, arms, tasks, notes)
        arms, tasks = tuple(dict.fromkeys(picked.values())), list(picked)
    if not tasks:
        notes.append(f"no task is left of {' and '.join(names)}")
        return None
    if not claim.pick:
        treated = _means(matrix, arms, tasks, notes)
    base = _means(matrix, against, tasks, notes)
    if not (seeds := sorted(treated.keys() & base.keys())):
        notes.append(f"no seed has all cells of {' and '.join(names)}")
        return None
    return Difference(
        *names, tuple(tasks), {seed: treated[seed] - base[seed] for seed in seeds}, counted=(*arms, *against)
    )


def _with_most_cells(matrix: Matrix, arms: Sequence[str], tasks: Sequence[str], notes: list[str]) -> list[str]:
    """Return the tasks that count, of those that every arm has; note the others.

    A task has the seeds in which every arm has it above chance. Those tasks count that have a number of seeds or more,
    the number chosen so that tasks times their shared seeds are the most; of equals the larger number. So neither a
    task that was measured, or learned, in one seed, nor a seed that has one task yet, takes much from the rest.
    """
    learned = matrix.cells[~matrix.cells["at_chance"].astype(bool)].groupby(["arm", "task"])["seed"].agg(set)
    seeds: dict[str, set[int]] = {}
    for task in tasks:
        if absent := [arm for arm in dict.fromkeys(arms) if not matrix.seeds_with(arm, task)]:
            notes.append(f"without {task}: not measured: {', '.join(absent)}")
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
        notes.append(f"without {task}: fewer seeds above chance: {', '.join(few)}")
    return left


def _above_chance(matrix: Matrix, arms: Sequence[str], tasks: Sequence[str], notes: list[str]) -> list[str]:
    """Return the tasks that no arm is at chance in with all its seeds; note the others."""
    cells = matrix.cells[matrix.cells["arm"].isin(arms)]
    at_chance = cells.groupby(["task", "arm"])["at_chance"].all()
    left = []
    for task in tasks:
        those = [arm for arm in dict.fromkeys(arms) if at_chance.get((task, arm), False)]
        if those:
            notes.append(f"without {task}: {', '.join(those)} at chance")
        else:
            left.append(task)
    return left


def _untrained(matrix: Matrix, differences: Iterable[Difference]) -> list[str]:
    """Return a doubt for each arm whose phase 2 stayed at chance in a seed that counts."""
    seeds: dict[str, set[int]] = {}
    for one in differences:
        for arm in one.counted:
            seeds.setdefault(arm, set()).update(one.by_seed)
    doubts = []
    for arm, counted in seeds.items():
        at_chance = sorted(
            record.seed for record in matrix.trainings_of(arm) if record.failed and record.seed in counted
        )
        if at_chance:
            doubts.append(f"phase 2 of {arm} is at chance in {seeds_text(at_chance)}")
    return doubts


def _failed(matrix: Matrix, tasks: Sequence[str], differences: Iterable[Difference]) -> list[str]:
    """Return a doubt for each arm that is at chance in a task in some of its seeds."""
    doubts = []
    for one in differences:
        measured = [task for task in tasks if all(matrix.seeds_with(arm, task) for arm in one.counted)]
        cells = matrix.cells[matrix.cells["arm"].isin(one.counted) & matrix.cells["task"].isin(measured)]
        for (arm, task), group in cells.groupby(["arm", "task"], sort=False):
            at_chance = group.loc[group["at_chance"].astype(bool), "seed"]
            if 0 < len(at_chance) < len(group):
                doubts.append(f"{arm} is at chance in {task} in {seeds_text(sorted(at_chance))}")
    return list(dict.fromkeys(doubts))


def _with_failed(found: Difference) -> str:
    """Return a note of the difference that counts trainings at chance, too."""
    span = f" [{interval_of(span)}]" if (span := found.interval()) else ""
    side = f"{found.arms} less {found.against}"
    where = f"{' '.join(found.tasks)}, {seeds_text(list(found.by_seed))}"
    return f"counting trainings at chance: {side} {signed(found.mean)}{span} ({where})"


def _means(matrix: Matrix, arms: Sequence[str], tasks: Sequence[str], notes: list[str]) -> dict[int, float]:
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
            notes.append(
                f"seed {seed} is left out: {', '.join(f'{arm} {task}' for arm, task, _ in at_chance)} at chance"
            )
        elif len(missing) < len(keys):
            named = ", ".join(f"{arm} {task}" for arm, task, _ in missing)
            notes.append(f"seed {seed} is left out: not measured: {named}")
    return found


def _picked(
    matrix: Matrix, arms: Sequence[str], tasks: Sequence[str], notes: list[str]
) -> tuple[dict[int, float], dict[str, str]]:
    """Return ({seed: mean over tasks of the score of the arm that is best on English dev there, mean over seeds},
    {task: that arm}, without tasks in which every arm is at chance). Both are empty if a task has no English dev score
    of these arms.

    An arm with fewer seeds than another is not picked: its mean is over other seeds, and the claim would have few
    seeds. The mean includes seeds at chance, or an arm that often fails would win by its luckiest seed."""
    dev = matrix.cells[matrix.cells["arm"].isin(arms) & matrix.cells["dev"].notna()]
    if missing := [task for task in tasks if task not in set(dev["task"])]:
        notes.append(f"no English dev score to pick an arm by: {', '.join(missing)}")
        return {}, {}
    chosen, fewer = {}, set()
    for task in tasks:
        by_arm = (
            dev[dev["task"] == task]
            .groupby("arm")
            .agg(dev=("dev", "mean"), seeds=("seed", "nunique"), at_chance=("at_chance", "all"))
        )
        whole = by_arm["seeds"] == by_arm["seeds"].max()
        fewer.update(by_arm.index[~whole])
        means = by_arm.loc[whole & ~by_arm["at_chance"].astype(bool), "dev"]
        if means.empty:
            notes.append(f"without {task}: every arm at chance")
        else:
            chosen[task] = means.idxmax()
    if fewer:
        notes.append(f"not picked from, because of fewer seeds: {', '.join(arm for arm in arms if arm in fewer)}")
    if not chosen:
        return {}, {}
    notes.append(f"picked: {', '.join(f'{arm} for {task}' for task, arm in chosen.items())}")
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
