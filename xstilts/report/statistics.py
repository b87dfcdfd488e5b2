"""How sure a difference between two arms is: intervals, p-values and verdicts, paired over seeds and queries.

Everything starts from `Differences`: {language: (n_seeds, n_queries) array}, the score of each query under the one arm
less its score under the other, in points (0-100). Row s is the pair of runs with the s-th seed, column q the same
query in every seed and both arms; languages may differ in their number of queries.

What is estimated is the macro mean over languages (each counts once) that new training seeds and new queries *of these
languages* would give. Seeds and queries are crossed, so the mean's variance has three parts:

    seed / n  +  query / N  +  (seed x query) / (n N)

Where the queries are the same in every language (NTREX: one sentence in a hundred languages) a query that is hard in
one is hard in many, so languages do not err independently. Then (`shared`) the variance is that of the queries' means
over languages.

`docs/statistics.md` says which interval covers which of them, with a simulation (benchmarks/coverage.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from tasks.errors import UserError
from xstilts.report.numbers import points_of

LEVEL = 0.95
DRAWS = 10_000
MARGIN = 1.0  # points within which two arms count as equivalent
# Seeds that equivalence takes. Where one training in ten fails, fewer may well show none that failed, and nothing in
# them says that the mean over new seeds is another: 0.9 ** 29 < 0.05.
ENOUGH_SEEDS = 29
FALSE_ALARMS = 0.1  # see `stands_apart`
_CHUNK = 2**22  # multinomial counts held at once: 32 MiB

Differences = Mapping[str, np.ndarray]
Interval = tuple[float, float]


@dataclass(frozen=True)
class Estimate:
    """A difference in points and how sure it is; what needs several seeds is None with one.

    `interval` is the one to report: for new seeds and new queries, see `crossed_interval`. `t_interval` takes the
    queries as given; `bootstrap_interval` resamples seeds and queries, `language_interval` languages too. `p` is
    two-sided, the largest of those belonging to `interval` (which includes the paired t-test's) and to the bootstrap.
    `apart` is the index of an outlying seed, see `stands_apart`.
    """

    difference: float
    per_seed: tuple[float, ...]
    per_language: dict[str, float]
    n_queries: int
    interval: Interval | None
    t_interval: Interval | None
    bootstrap_interval: Interval
    language_interval: Interval
    p: float | None
    wilcoxon_p: float | None
    apart: int | None = None

    @property
    def n_seeds(self) -> int:
        return len(self.per_seed)

    @property
    def excludes_zero(self) -> bool:
        """True if every interval over seeds lies on one side of 0."""
        if self.interval is None:
            return False
        return all(low > 0 or high < 0 for low, high in (self.interval, self.bootstrap_interval))

    def within(self, margin: float) -> bool:
        """True if every interval over seeds lies between -margin and +margin."""
        if self.interval is None:
            return False
        return all(-margin < low and high < margin for low, high in (self.interval, self.bootstrap_interval))


def estimate(differences: Differences, shared: bool = False, draws: int = DRAWS, seed: int = 0) -> Estimate:
    """Return the macro mean of the differences with all its intervals; the same for the same input and seed.

    Args:
        shared: whether column q is the same query in every language.

    Raises:
        UserError: there is no language, a language has fewer than two queries, or languages differ in their
            seeds, or, with `shared`, in their number of queries.
    """
    _check(differences, shared)
    # with shared queries the unit of sampling is a query's mean over all languages
    units = {"all languages": np.mean(list(differences.values()), axis=0)} if shared else differences
    over_queries = np.array([values.mean(axis=1) for values in differences.values()])  # (languages, seeds)
    per_seed, per_language = over_queries.mean(axis=0), over_queries.mean(axis=1)
    means, means_of_drawn_languages = bootstrap(differences, draws, seed, shared)
    several = len(per_seed) > 1
    return Estimate(
        difference=float(per_seed.mean()),
        per_seed=tuple(per_seed.tolist()),
        per_language=dict(zip(differences, per_language.tolist(), strict=True)),
        n_queries=sum(values.shape[1] for values in units.values()),
        interval=crossed_interval(units) if several else None,
        t_interval=seed_interval(per_seed),
        bootstrap_interval=percentiles(means),
        language_interval=percentiles(means_of_drawn_languages),
        p=max(crossed_p(units), bootstrap_p(means)) if several else None,
        # All zeros have no ranks; scipy answers with a warning and NaN.
        wilcoxon_p=float(stats.wilcoxon(per_language).pvalue) if per_language.any() else None,
        apart=stands_apart(units),
    )


def variances(differences: Differences) -> tuple[float, float]:
    """Return (A, B), unbiased estimates whose sum is the variance of the mean difference; two seeds at least.

    A, from the spread of the seeds' means, holds seed / n + (seed x query) / (n N); B holds query / N. Both are
    analysis of variance with two crossed random factors (Searle, Casella and McCulloch, Variance Components, 1992, ch.
    4), each language on its own: the mean over seeds of a query varies by query + (seed x query) / n, of which the
    second part, known from the residuals, is in A already. B is cut at 0.
    """
    n = len(next(iter(differences.values())))
    query = sum(
        (values.mean(axis=0).var(ddof=1) - _interaction(values) / n) / values.shape[1]
        for values in differences.values()
    )
    return float(_by_seed(differences).var(ddof=1) / n), max(float(query), 0.0) / len(differences) ** 2


def _by_seed(differences: Differences) -> np.ndarray:
    """Return each seed's macro mean over languages."""
    return np.mean([values.mean(axis=1) for values in differences.values()], axis=0)


def _interaction(values: np.ndarray) -> float:
    """Return the variance (seed x query) of one language: what neither a seed nor a query has everywhere; two seeds
    at least."""
    residuals = values - values.mean(axis=0) - values.mean(axis=1, keepdims=True) + values.mean()
    return np.square(residuals).sum() / ((len(values) - 1) * (values.shape[1] - 1))


def stands_apart(differences: Differences) -> int | None:
    """Return the place of the seed whose macro mean does not belong with the others', or None; three seeds at least.

    Of the seeds, the one that lies farthest outside the interval in which the others say a new seed lies: their mean
    +- max(t(n-2) s, z e) sqrt(n / (n-1)), with s their standard deviation and e the error that the queries make in one
    seed. With normal errors this names a seed in `FALSE_ALARMS` of all sets of seeds.
    """
    seeds = _by_seed(differences)
    n = len(seeds)
    if n < 3:
        return None
    upper = 1 - FALSE_ALARMS / (2 * n)
    noise = sum(_interaction(values) / values.shape[1] for values in differences.values()) / len(differences) ** 2
    error = stats.norm.ppf(upper) * max(noise, least(differences)) ** 0.5
    others = [np.delete(seeds, place) for place in range(n)]
    halves = np.array(
        [max(stats.t.ppf(upper, n - 2) * rest.std(ddof=1), error) * (n / (n - 1)) ** 0.5 for rest in others]
    )
    gaps = np.array([abs(seed - rest.mean()) for seed, rest in zip(seeds, others, strict=True)])
    place = int(np.argmax(gaps / halves))
    return place if gaps[place] > halves[place] else None


def is_margin(value: Any) -> bool:
    """Whether a value that a user gave is a margin in points."""
    try:
        return 0 < float(value) < 100
    except (TypeError, ValueError):
        return False


def t_interval(per_seed: Sequence[float], level: float = LEVEL) -> Interval:
    """Return the paired t-interval over seeds, n - 1 degrees of freedom: new seeds, these very queries."""
    low, high = stats.ttest_1samp(per_seed, 0).confidence_interval(level)
    return float(low), float(high)


def spread(per_seed: Sequence[float]) -> bool:
    """Whether there are several seeds, and they differ. If not, nothing is known of other seeds."""
    return len(per_seed) > 1 and float(np.ptp(per_seed)) > 1e-9


def seed_interval(per_seed: Sequence[float], level: float = LEVEL) -> Interval | None:
    """Return `t_interval`, None without a `spread`: its width would be 0."""
    return t_interval(per_seed, level) if spread(per_seed) else None


def crossed_interval(differences: Differences) -> Interval:
    """Return the interval for new seeds and new queries: mean +- max(t(n-1) sqrt(A), z sqrt(A + B)), see `variances`.

    The t-interval over seeds, widened where the queries' sampling error asks for it. Ours. Its coverage is 93.1 to
    95.6 % with three or five seeds, whichever source of variance dominates, and up to 97.7 % with two
    (docs/statistics.md). A + B does not fall below `least`.
    """
    (a, b), upper = variances(differences), (1 + LEVEL) / 2
    n = len(next(iter(differences.values())))
    half = max(stats.t.ppf(upper, n - 1) * a**0.5, stats.norm.ppf(upper) * max(a + b, least(differences)) ** 0.5)
    mean = np.mean([values.mean() for values in differences.values()])
    return float(mean - half), float(mean + half)


def least(differences: Differences) -> float:
    """Return the variance that one query of each language, gained or lost in every seed, would make: (100 / N)^2
    each.

    Where no query differs between the arms the spread found is 0, which does not prove that no further query would
    differ: after N without, up to 3 in N are likely enough (the "rule of three", Hanley and Lippman-Hand, JAMA 1983).
    """
    return sum((100 / values.shape[1]) ** 2 for values in differences.values()) / len(differences) ** 2


def crossed_p(differences: Differences) -> float:
    """Return the two-sided p at which `crossed_interval` would just touch 0; never below the paired t-test's."""
    a, b = variances(differences)
    n = len(next(iter(differences.values())))
    mean = abs(float(np.mean([values.mean() for values in differences.values()])))
    over_seeds = 2 * stats.t.sf(mean / a**0.5, n - 1) if a else 0.0
    return float(max(over_seeds, 2 * stats.norm.sf(mean / max(a + b, least(differences)) ** 0.5)))


def bootstrap(
    differences: Differences, draws: int = DRAWS, seed: int = 0, shared: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Return (draws,) resampled mean differences in points: over these languages, and over resampled languages.

    One draw takes n seeds with replacement, and within each language as many query ids as there are, with replacement,
    the same ids for both arms and all seeds, because these share the queries and their difficulty. Only
    how often each *different* row of differences over seeds is drawn matters, so that one multinomial draw over the
    distinct rows stands for the ids: for hits of 0 and 1 there are at most 3^n of them.

    In the second result languages are drawn with replacement as well; one drawn twice brings the same queries twice.

    Args:
        shared: draw the same query ids in every language, as column q is the same query there.
    """
    rng = np.random.default_rng(seed)
    n = len(next(iter(differences.values())))
    resampled = np.empty((draws, len(differences), n))  # each language's mean under each seed
    drawn_together = (
        [np.stack(list(differences.values()))] if shared else [values[None] for values in differences.values()]
    )
    for i, together in enumerate(drawn_together):  # (languages, seeds, queries)
        rows, counts = np.unique(together.reshape(-1, together.shape[2]).T, axis=0, return_counts=True)
        order = np.argsort(-counts, kind="stable")  # the sampler stops at the last query, so frequent rows go first
        rows, counts = rows[order], counts[order]
        n_queries, step = counts.sum(), max(1, _CHUNK // len(rows))
        places = slice(None) if shared else slice(i, i + 1)
        for start in range(0, draws, step):
            size = min(step, draws - start)
            drawn = rng.multinomial(n_queries, counts / n_queries, size=size)
            resampled[start : start + size, places] = (drawn @ rows / n_queries).reshape(size, -1, n)
    seeds = rng.integers(n, size=(draws, 1, n))
    over_seeds = np.take_along_axis(resampled, np.broadcast_to(seeds, resampled.shape), axis=2).mean(axis=2)
    languages = rng.integers(len(differences), size=over_seeds.shape)
    return over_seeds.mean(axis=1), np.take_along_axis(over_seeds, languages, axis=1).mean(axis=1)


def percentiles(draws: np.ndarray) -> Interval:
    """Return the percentile interval of resampled values."""
    low, high = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def bootstrap_p(draws: np.ndarray) -> float:
    """Return the two-sided p of resampled differences against 0: twice the smaller tail, never 0.

    The observed sample counts as one more draw (Davison and Hinkley, Bootstrap Methods, 1997, section 4.2).
    """
    tail = min((draws <= 0).sum(), (draws >= 0).sum())
    return min(1.0, 2 * (int(tail) + 1) / (len(draws) + 1))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p-values adjusted for being several, in their order (Holm, Scandinavian Journal of Statistics,
    1979).

    The k-th smallest of m is multiplied by m - k + 1, and none may fall below a smaller one's. scipy has
    Benjamini-Hochberg, which bounds another error rate.
    """
    adjusted, highest = [1.0] * len(p_values), 0.0
    for rank, i in enumerate(np.argsort(p_values, kind="stable").tolist()):
        highest = max(highest, min(1.0, p_values[i] * (len(p_values) - rank)))
        adjusted[i] = highest
    return adjusted


class Verdict(str):
    """A verdict in words, as tables and csv files show it.

    Attributes:
        kind: "better", "equivalent", "within" (the margin, in too few seeds), "one seed", "undecided" or
            "not computed"; "" where none is passed.
        words: the text without its warning.
        warning: "warning: " and the doubts about the seeds; "" if there are none.
    """

    kind: str
    words: str
    warning: str

    def __new__(cls, kind: str, words: str, doubts: Sequence[str] = ()) -> Verdict:
        warning = f"warning: {', '.join(doubts)}" if doubts else ""
        self = super().__new__(cls, words + (f" [{warning}]" if warning else ""))
        self.kind, self.words, self.warning = kind, words, warning
        return self


UNDECIDED = ("within", "one seed", "undecided")  # kinds
NOT_COMPUTED, NO_VERDICT = Verdict("not computed", "not computed"), Verdict("", "")


def verdict(
    found: Estimate,
    p: float | None,
    margin: float = MARGIN,
    names: tuple[str, str] = ("M", "E"),
    doubts: Sequence[str] = (),
) -> Verdict:
    """Return one of "M better", "E better", "M better (by less than 1 point)", "equivalent within 1 point",
    "undecided", "undecided (one seed)", "undecided (within 1 point in 3 seeds)"; then, if there are `doubts`,
    "[warning: these]".

    A verdict holds only if `interval` (and with it the t-interval) and the bootstrap's both say so. Equivalence takes
    `ENOUGH_SEEDS` seeds and no doubts. A difference that is surely not 0 but surely within the margin is called
    equivalent, or in fewer seeds better by less than the margin.

    Args:
        p: the p-value to go by, adjusted if the contrast is one of several.
        margin: in points.
        names: what the first and the second arm are called.
        doubts: about the seeds: one that failed, was left out, or stands apart.
    """
    points = points_of(margin)
    if found.n_seeds == 1:
        return Verdict("one seed", "undecided (one seed)", doubts)
    small = found.within(margin)
    if small and found.n_seeds >= ENOUGH_SEEDS and not doubts:
        return Verdict("equivalent", f"equivalent within {points}")
    if found.excludes_zero and p is not None and p <= 1 - LEVEL:
        words = f"{names[0] if found.difference > 0 else names[1]} better"
        return Verdict("better", words + (f" (by less than {points})" if small else ""), doubts)
    if small:
        return Verdict("within", f"undecided (within {points} in {found.n_seeds} seeds)", doubts)
    return Verdict("undecided", "undecided", doubts)


def _check(differences: Differences, shared: bool = False) -> None:
    if not differences:
        raise UserError("There is no language to compare the arms in.")
    seeds = {len(values) for values in differences.values()}
    if len(seeds) > 1:
        raise UserError(
            f"Languages with {' and '.join(map(str, sorted(seeds)))} seeds cannot be averaged: run the missing seeds."
        )
    if shared and len({values.shape[1] for values in differences.values()}) > 1:
        raise UserError("Queries that are the same in every language are as many in each.")
    for language, values in differences.items():
        if values.ndim != 2 or values.shape[1] < 2:
            raise UserError(f"{language}: {values.shape[-1]} query, at least two are needed to know their spread.")
