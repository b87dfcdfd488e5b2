"""Who is ahead in each task and average, by how much, and how sure that is: the first thing the report says.

Arms are paired over seeds with `none` and with the arm in front. Intervals are paired t-intervals over seeds
(`statistics.t_interval`): for new seeds, with the test rows taken as given. Holm's method adjusts the p-values against
`none` among the arms of one task or average, and those against the arm in front among all pairs of arms, because the
scores choose which arm that is. With one seed, or where all seeds differ alike, there is no p-value and so no verdict.
"""

import functools
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from xstilts.report import matrix as mx
from xstilts.report import statistics
from xstilts.report.cells import score_name
from xstilts.report.matrix import PLAIN, Matrix
from xstilts.report.numbers import count, interval_of, p_text, signed
from xstilts.report.parts import Seeds, complete_part, ranked_tasks

BETTER, WORSE, UNDECIDED, ONE_SEED = "better", "worse", "undecided", "one seed"
_NAMED = 4  # arms that a sentence names

# The sentence for each kind of answer.
SENTENCES = {
    "wins": "{arm} is best, {figures}. Every other {ranked_arm} is shown to be lower.",
    "ahead": "{arm} is above {plain}, {figures}. Not shown to be lower: {ties}.",
    "gain elsewhere": "{arm} is in front, {figures}, but not shown to be above {plain}. Shown to be above {plain}: "
    "{better}.",
    "no gain": "No arm is shown to be above {plain}. {arm} is in front, {figures}.",
    "plain wins": "{plain} is best. Every {ranked_arm} is shown to be lower; the closest is {arm}, {figures}.",
    "plain first": "No arm is shown to be above {plain}, which is in front. The closest: {arm}, {figures}.",
    "one seed": "Undecided: one seed. {arm} is in front ({figures}).",
    "no spread": "Undecided: every seed gives the same difference, so nothing is known of other seeds. {arm} is in "
    "front ({figures}).",
    "no plain": "Not compared with {plain}: no seed has a usable score of both. {arm} has the highest score ({mean}).",
    "alone": "There is nothing to compare {arm} with. Its score is {mean}.",
    "one ranked": "No arm is ranked: only {arm} has every score that is needed ({mean}).",
    "at chance": "No arm is ranked: every training ended at chance (†).",
    "nothing": "There is no score to rank yet.",
}
LABELS = {  # the same in a word or two
    "wins": "decided",
    "ahead": "decided, with ties",
    "gain elsewhere": "gain shown",
    "no gain": "undecided",
    "plain wins": f"{PLAIN} is best",
    "plain first": "no gain shown",
    "one seed": "one seed",
    "no spread": "undecided",
    "no plain": "not compared",
    "alone": "one arm",
    "one ranked": "not ranked",
    "at chance": "at chance",
    "nothing": "no score",
}


@dataclass(frozen=True)
class Entry:
    """One arm in one task or average.

    Attributes:
        difference: to arm `none`, over the seeds that both have; None, like `interval` and `p`, where unknown.
        p: Holm-adjusted; `verdict` goes by it.
        ties: the arm is in front, or the test does not tell it apart from the arm in front.
        untested: there is no such test, because both share one seed at most, or differ alike in every seed.
        aside: why the arm is not ranked: its average is over fewer tasks, or it shares too few seeds with `none`
            (`_without_common_seeds`).
        over: what its average is over, if not over all tasks; `part` what the difference is over.
    """

    arm: str
    mean: float
    seeds: int
    difference: float | None = None
    interval: tuple[float, float] | None = None
    p: float | None = None
    verdict: str = ""
    ties: bool = False
    untested: bool = False
    aside: str = ""
    over: str = ""
    part: str = ""


@dataclass(frozen=True)
class Standing:
    """The arms of one task or average: `ranked` from the one in front down (`_level`), `aside` those not ranked,
    see `Entry.aside`, `unscored` those that have no usable score. `tasks` are those that an average ranks by, see
    `parts.ranked_tasks`; `failed` says of how many trainings of a ranked arm are at chance, and so in no figure."""

    name: str
    measure: str
    is_average: bool
    ranked: tuple[Entry, ...]
    aside: tuple[Entry, ...]
    unscored: tuple[str, ...]
    tasks: tuple[str, ...]
    all_tasks: int
    failed: tuple[str, ...]
    done: int  # cells that are there, of `planned`
    planned: int

    @property
    def kind(self) -> str:
        """The kind of answer, a key of `SENTENCES`."""
        if not self.ranked:
            return "at chance" if self.done else "nothing"
        if len(self.ranked) == 1:
            return "one ranked" if self.aside or self.unscored else "alone"
        first = self.ranked[0]
        compared = [entry for entry in self.ranked if entry.difference is not None]
        if not compared:
            return "no plain"
        if all(entry.p is None for entry in compared):
            return "one seed" if all(entry.seeds == 1 for entry in compared) else "no spread"
        alone = not any(entry.ties or entry.untested for entry in self.ranked[1:])
        if first.arm == PLAIN:
            return "plain wins" if alone else "plain first"
        if first.verdict != BETTER:
            return "gain elsewhere" if any(entry.verdict == BETTER for entry in self.ranked) else "no gain"
        return "wins" if alone else "ahead"

    @property
    def title(self) -> str:
        """The name, with "Average" before that of an average."""
        return f"Average {self.name}" if self.is_average else self.name

    @property
    def label(self) -> str:
        """`kind` in a word or two."""
        return LABELS[self.kind]

    @property
    def sentence(self) -> str:
        """The sentence for `kind`, with the arm, its figures and those that tie; then the arms that are not ranked."""
        others = [entry for entry in self.ranked if entry.arm != PLAIN]
        named = next(iter(others or self.ranked), None)
        if self.kind in ("no plain", "alone", "one ranked", "one seed", "no spread"):
            named = self.ranked[0]
        ties = [
            entry.arm for entry in self.ranked if (entry.ties or entry.untested) and named and entry.arm != named.arm
        ]
        unranked = [*(entry.arm for entry in self.aside), *self.unscored] if self.ranked else []
        text = SENTENCES[self.kind].format(
            arm=named.arm if named else "",
            plain=PLAIN,
            mean=f"{named.mean:.1f}" if named else "",
            figures=figures(named) if named else "",
            ties=_listed(ties),
            better=_listed([entry.arm for entry in self.ranked if entry.verdict == BETTER]),
            ranked_arm="ranked arm" if unranked else "arm",
        )
        if self.ranked and len(self.tasks) < self.all_tasks:
            text += f" No arm has usable scores of all {self.all_tasks} tasks; over {', '.join(self.tasks)}."
        text += f" Not counted, because at chance: {_listed(self.failed)}." if self.failed else ""
        return text + (f" Not ranked: {_listed(unranked)}." if unranked else "")


def _listed(names: Sequence[str]) -> str:
    """Return the names, the first few of many."""
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def figures(entry: Entry) -> str:
    """Return "+2.1 points to none, 95 % interval +0.3 to +3.9, p 0.024, 3 seeds", or the score of `none` itself; the
    difference of an average may be "over 1 of 2 tasks"."""
    if entry.difference is None:
        return f"{entry.mean:.1f}"
    interval = f", 95 % interval {interval_of(entry.interval)}" if entry.interval else ""
    p = f", p {p_text(entry.p)}" if entry.p is not None else ""
    part = f" {entry.part}" if entry.part else ""
    return f"{signed(entry.difference)} points to {PLAIN}{part}{interval}{p}, {count(entry.seeds, 'seed')}"


@functools.lru_cache(maxsize=2)
def standings(matrix: Matrix) -> tuple[Standing, ...]:
    """Return the standing of each average, then of each task that has a cell."""
    usable = _usable(matrix)
    found = []
    for name, tasks in mx.average_groups(matrix).items():
        if len(tasks) > 1:
            found.append(_standing(matrix, usable, name, tasks, is_average=True))
    found += [_standing(matrix, usable, task, [task], is_average=False) for task in matrix.tasks if matrix.phase(task)]
    return tuple(found)


def of_name(matrix: Matrix, name: str, is_average: bool = False) -> dict[str, Entry]:
    """Return {arm: its entry} in the task or average of that name, {} if it has no standing."""
    wanted = (one for one in standings(matrix) if (one.name, one.is_average) == (name, is_average))
    return {entry.arm: entry for one in wanted for entry in (*one.ranked, *one.aside)}


def best_per_task(matrix: Matrix) -> dict[str, tuple[str, str | None]]:
    """Return {task: (the arm in front, the arm that English dev would choose)}, see `_best`.

    Choosing by the scores that are then reported flatters; choosing on English dev is what the paper's submission did
    as we read it. It is None where some arm has no English dev score, as in retrieval. Dev scores at chance count, or
    an arm that often fails would be chosen for its luckiest seed; an arm that always fails is not chosen.
    """
    usable, found = _usable(matrix), {}
    for task in matrix.tasks:
        scores = {arm: usable[arm, task] for arm in matrix.arms if (arm, task) in usable}
        here = matrix.cells[(matrix.cells["task"] == task) & matrix.cells["arm"].isin(list(scores))]
        dev: dict[str, dict[int, float]] = {arm: {} for arm in scores}
        for arm, seed, value in zip(here["arm"], here["seed"], here["dev"], strict=True):
            dev[arm] |= {} if np.isnan(value) else {seed: value}
        if front := _best(scores):
            found[task] = front, _best(dev) if all(dev.values()) else None
    return found


def _best(by_arm: Mapping[str, Seeds]) -> str | None:
    """Return the arm with the highest mean over seeds, the first of equals; None without arms.

    An arm with fewer seeds than others is not chosen because these are high ones: arms are ranked by their difference
    to `none` over the seeds that both have (`_level`), and one such seed is not enough where others have more. Without
    `none`, only arms with the most seeds are candidates.
    """
    if plain := by_arm.get(PLAIN):
        gaps = {arm: _gaps(seeds, plain) for arm, seeds in by_arm.items()}
        enough = min(2, max((len(gap) for arm, gap in gaps.items() if arm != PLAIN), default=0))
        there = {arm: gap for arm, gap in gaps.items() if len(gap) and (arm == PLAIN or len(gap) >= enough)}
        levels = {arm: round(float(gap.mean()), 9) for arm, gap in there.items()}
    else:
        most = max(map(len, by_arm.values()), default=0)
        levels = {arm: float(np.mean(list(seeds.values()))) for arm, seeds in by_arm.items() if len(seeds) == most}
    return max(levels, key=lambda arm: levels[arm], default=None)


def _usable(matrix: Matrix) -> dict[tuple[str, str], dict[int, float]]:
    """Return {(arm, task): {seed: score}} of the cells that are not at chance."""
    found: dict[tuple[str, str], dict[int, float]] = {}
    cells = matrix.cells[~matrix.cells["at_chance"].astype(bool)]
    for arm, task, seed, score in zip(cells["arm"], cells["task"], cells["seed"], cells["score"], strict=True):
        found.setdefault((arm, task), {})[seed] = score
    return found


def _standing(matrix: Matrix, usable: Mapping, name: str, every: Sequence[str], is_average: bool) -> Standing:
    entries, scores = [], {}
    tasks = ranked_tasks(matrix.arms, usable, every)
    plain = [usable.get((PLAIN, task), {}) for task in tasks]
    for arm in matrix.arms:
        ours = [usable.get((arm, task), {}) for task in tasks]
        used, (scores[arm],) = complete_part([ours])
        if not used:
            continue
        aside = _part(used, tasks)
        mean = float(np.mean(list(scores[arm].values())))
        entry = Entry(arm, mean, len(scores[arm]), aside=aside, over=_part(used, every))
        if arm != PLAIN:
            used, sides = complete_part([ours, plain])
            entry = _against_plain(replace(entry, part=_part(used, every)), sides)
        entries.append(entry)
    entries = _with_verdicts(_without_common_seeds(entries))
    ranked = [entry for entry in entries if not entry.aside]
    plain_mean = next((entry.mean for entry in ranked if entry.arm == PLAIN), None)
    ranked = sorted(ranked, key=lambda entry: -_level(entry, plain_mean))
    ranked = _with_ties(ranked, scores)
    planned = [(arm, task, seed) for arm in matrix.arms for task in every for seed in matrix.seeds_of[arm]]
    return Standing(
        name=name,
        measure="mean over tasks" if is_average else score_name(matrix, name),
        is_average=is_average,
        ranked=tuple(ranked),
        aside=tuple(sorted((entry for entry in entries if entry.aside), key=lambda entry: -entry.mean)),
        unscored=tuple(arm for arm in matrix.arms if not scores[arm]),
        tasks=tuple(tasks),
        all_tasks=len(every),
        failed=_failed(matrix, [entry.arm for entry in ranked], tasks),
        done=sum(key in matrix.records for key in planned),
        planned=len(planned),
    )


def _failed(matrix: Matrix, arms: Sequence[str], tasks: Sequence[str]) -> tuple[str, ...]:
    """Return "2 of 5 trainings of squad" for each of these arms that has trainings at chance."""
    cells = matrix.cells[matrix.cells["task"].isin(tasks)]
    by_arm = cells.groupby("arm")["at_chance"].agg(["sum", "size"])
    rows = [(arm, by_arm.loc[arm]) for arm in arms]
    return tuple(f"{row['sum']} of {count(row['size'], 'training')} of {arm}" for arm, row in rows if row["sum"])


def _without_common_seeds(entries: Sequence[Entry]) -> list[Entry]:
    """Put arms aside that share no seed with `none`, or one, if others that are ranked share more: it may be a high
    one."""
    shared = {entry.arm: 0 if entry.difference is None else entry.seeds for entry in entries if entry.arm != PLAIN}
    most = max((shared[entry.arm] for entry in entries if entry.arm != PLAIN and not entry.aside), default=0)
    out = []
    for entry in entries:
        if entry.arm != PLAIN and not entry.aside and shared[entry.arm] < min(2, most):
            entry = replace(entry, aside=f"shares {'one' if shared[entry.arm] else 'no'} seed with {PLAIN}")
        out.append(entry)
    return out


def _level(entry: Entry, plain_mean: float | None) -> float:
    """Return what an arm is ranked by: its score, corrected for the seeds that `none` has and it lacks.

    While a matrix runs, arms have different seeds. An arm whose only seed is a high one, for `none` too, is not ahead.
    """
    if plain_mean is None or entry.difference is None:
        return entry.mean
    return round(plain_mean + entry.difference, 9)  # equal scores stay equal


def _part(used: Sequence[int], tasks: Sequence[str]) -> str:
    return f"over {len(used)} of {len(tasks)} tasks" if len(used) < len(tasks) else ""


def _against_plain(entry: Entry, sides: Sequence[Seeds]) -> Entry:
    """Return the entry with its difference to `none`, interval and p-value, not yet adjusted."""
    gaps = _gaps(*sides)
    if not len(gaps):
        return entry
    p = _p(gaps)
    interval = statistics.seed_interval(gaps.tolist())
    return replace(entry, difference=float(gaps.mean()), interval=interval, p=p, seeds=len(gaps))


def _gaps(ours: Seeds, theirs: Seeds) -> np.ndarray:
    """Return ours less theirs, of the seeds in both."""
    return np.array([ours[seed] - theirs[seed] for seed in ours if seed in theirs], dtype=float)


def _p(gaps: np.ndarray) -> float | None:
    """Return the p-value of the paired t-test, None with one seed or without any spread over seeds."""
    if not statistics.spread(gaps.tolist()):
        return None
    return float(stats.ttest_1samp(gaps, 0).pvalue)


def _adjusted(p_values: Sequence[float | None]) -> list[float | None]:
    known = iter(statistics.holm([p for p in p_values if p is not None]))
    return [None if p is None else next(known) for p in p_values]


def _with_verdicts(entries: Sequence[Entry]) -> list[Entry]:
    """Return the entries with their p-values adjusted, and the verdicts that follow."""
    out = []
    for entry, p in zip(entries, _adjusted([entry.p for entry in entries]), strict=True):
        verdict = ""
        if entry.difference is not None:
            verdict = ONE_SEED if entry.seeds == 1 else UNDECIDED
            if p is not None and p <= 1 - statistics.LEVEL:
                verdict = BETTER if entry.difference > 0 else WORSE
        out.append(replace(entry, p=p, verdict=verdict))
    return out


def _with_ties(ranked: Sequence[Entry], scores: Mapping[str, Seeds]) -> list[Entry]:
    """Mark the arm in front and those that the test does not separate from it. Without a p, equal printed scores tie:
    of arms that differ alike in every seed, or where no two arms share two seeds."""
    if not ranked:
        return []
    first, others = ranked[0], ranked[1:]
    # all pairs, those of the arm in front before the others
    gaps = [_gaps(scores[a.arm], scores[b.arm]) for a, b in itertools.combinations(ranked, 2)]
    single = all(len(gap) < 2 for gap in gaps)
    out = [replace(first, ties=bool(others))]
    for entry, gap, p in zip(others, gaps, _adjusted(list(map(_p, gaps))), strict=False):
        alike = (single or len(gap) > 1) and round(entry.mean, 1) == round(first.mean, 1)
        # over the seeds of both, the arm in front may be the lower one
        tie = alike if p is None else p > 1 - statistics.LEVEL or gap.mean() < 0
        out.append(replace(entry, ties=_verdict_tie(first, entry, tie), untested=p is None))
    return out


def _verdict_tie(first: Entry, other: Entry, tie: bool) -> bool:
    """Return whether two arms tie: by the verdict if one of them is `none`, so that the two never contradict."""
    if other.arm == PLAIN and first.p is not None:
        return first.verdict != BETTER
    if first.arm == PLAIN and other.p is not None:
        return other.verdict != WORSE
    return tie
