"""Do 95 % intervals of a difference between arms hold the truth 95 times in 100? Prints the tables of
docs/statistics.md.

    OMP_NUM_THREADS=1 python benchmarks/coverage.py [--replicates 3000] [--bootstraps 400] [--languages 4] [--queries
    500] OMP_NUM_THREADS=1 python benchmarks/coverage.py --failures --bootstraps 200
    python benchmarks/coverage.py --normal

Hits are made from a model whose truth is known exactly. A query is hit when a normal variable is above 0: the
language's level, the arm's effect, how easy the query is, and three parts whose sizes the grid varies: what is odd
about an arm under one seed (`seed`), about a query under one arm (`query`), and about both together (`both`). All are
normal, so the probability of a hit for a new seed and a new query is the normal distribution function of level and
effect over the total standard deviation: the macro mean of those, one arm less the other, is the truth that an
interval should hold.

Closed-form intervals are tried on every replicate, the bootstrap with 1,000 draws on the first `--bootstraps`.

`--failures` gives verdicts where some trainings of one arm fail: each seed of it, by chance alone, loses so many
points in all languages. The truth is the mean over such seeds too. 20 languages, so that queries leave little in
doubt.

`--normal` tries ways to make one interval of A and B (`statistics.variances`) on normal errors alone, B known.
"""

import argparse
import itertools
import sys
from pathlib import Path

import numpy as np
from scipy.optimize import brentq
from scipy.stats import norm, t

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from xstilts.report import statistics  # noqa: E402

SEEDS = (3, 5)
SEED_SD, QUERY_SD, BOTH_SD = (0.0, 0.03, 0.1), (0.0, 0.2, 0.5), (0.2, 0.6)  # a query's own ease has 1
SHARES = (0.0, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 0.9, 1.0)
EFFECT = 0.1  # of the treated arm, on the same scale: about 3 points
FAILURES = ((0.0, 0.0), (0.1, 12.0), (0.2, 8.0))  # share of seeds that fail, points that one loses
GAINS = (0.0, 1.2, 3.0)  # points that a seed that does not fail gains
FAILING_SEEDS, FAILING_LANGUAGES = (3, 5, 30), 20


def draw(
    rng: np.random.Generator, n_seeds: int, languages: int, queries: int, sds: tuple
) -> tuple[dict[str, np.ndarray], float]:
    """Returns ({language: (n_seeds, queries) differences in points}, the true difference)."""
    seed_sd, query_sd, both_sd = sds
    levels = np.linspace(-1.0, 0.5, languages)  # hit rates of about 20 to 65 %
    effects = np.array([EFFECT, 0.0])
    total = (1 + seed_sd**2 + query_sd**2 + both_sd**2) ** 0.5
    truth = 100 * np.diff(norm.cdf((levels + effects[::-1, None]) / total), axis=0).mean()
    of_seed = seed_sd * rng.standard_normal((2, n_seeds, 1))  # the same in all languages: the seed's macro effect
    found = {}
    for i, level in enumerate(levels):
        ease = rng.standard_normal(queries) + query_sd * rng.standard_normal((2, 1, queries))
        hits = (
            level + effects[:, None, None] + of_seed + ease + both_sd * rng.standard_normal((2, n_seeds, queries)) > 0
        )
        found[f"l{i}"] = 100.0 * (hits[0].astype(float) - hits[1])
    return found, float(truth)


def covered(n_seeds: int, sds: tuple, options: argparse.Namespace) -> dict[str, float]:
    """Returns, for one cell of the grid, the two parts of the standard error in points (`statistics.variances`),
    coverages in %."""
    rng = np.random.default_rng([n_seeds, *(round(1000 * sd) for sd in sds), options.seed])
    parts, closed, resampled = [], [], []
    for replicate in range(options.replicates):
        differences, truth = draw(rng, n_seeds, options.languages, options.queries, sds)
        over_seeds = statistics.t_interval(np.mean([values.mean(axis=1) for values in differences.values()], axis=0))
        crossed = statistics.crossed_interval(differences)
        parts.append(statistics.variances(differences))
        closed.append([_holds(over_seeds, truth), _holds(crossed, truth)])
        if replicate < options.bootstraps:
            means, _ = statistics.bootstrap(differences, draws=1000, seed=replicate)
            bootstrap = statistics.percentiles(means)
            resampled.append([_holds(bootstrap, truth), _holds(bootstrap, truth) or _holds(over_seeds, truth)])
    names = ("over seeds", "over queries", "t", "reported", "bootstrap", "t or bootstrap")
    errors = np.mean(parts, axis=0) ** 0.5
    return dict(
        zip(names, [*errors, *(100 * np.mean(closed, axis=0)), *(100 * np.mean(resampled, axis=0))], strict=True)
    )


def draw_failing(
    rng: np.random.Generator, n_seeds: int, queries: int, failure: tuple[float, float], gain: float
) -> dict[str, np.ndarray]:
    """Returns {language: differences in points}; the first arm gains `gain` points, and in seeds that fail loses as
    many as they do."""
    share, loss = failure
    levels = np.linspace(-1.0, 0.5, FAILING_LANGUAGES)
    total = (1 + 0.2**2) ** 0.5

    def shift(points: float) -> float:
        """How far the levels move for a mean change of so many points."""
        return brentq(
            lambda x: 100 * (norm.cdf((levels + x) / total) - norm.cdf(levels / total)).mean() - points, -4, 4
        )

    moved = np.where(rng.random(n_seeds) < share, shift(gain - loss), shift(gain))
    found = {}
    for i, level in enumerate(levels):
        ease = rng.standard_normal(queries)
        noise = 0.2 * rng.standard_normal((2, n_seeds, queries))
        hits = level + np.array([moved, np.zeros(n_seeds)])[:, :, None] + ease + noise > 0
        found[f"l{i}"] = 100.0 * (hits[0].astype(float) - hits[1])
    return found


def judged(n_seeds: int, failure: tuple[float, float], gain: float, options: argparse.Namespace) -> dict[str, float]:
    """Returns, in % of the replicates: coverage of the reported interval, and how often which verdict was given and
    wrong.

    "within" are those whose intervals lie within the margin, whatever the number of seeds.
    """
    rng = np.random.default_rng([n_seeds, round(1000 * failure[0]), round(1000 * gain), options.seed])
    truth = gain - failure[0] * failure[1]
    counts = dict.fromkeys(("covered", "within", "equivalent", "better", "wrong better", "warned"), 0)
    for replicate in range(options.bootstraps):
        differences = draw_failing(rng, n_seeds, options.queries, failure, gain)
        found = statistics.estimate(differences, draws=500, seed=replicate)
        doubts = [] if found.apart is None else [f"seed {found.apart} stands apart"]
        verdict = statistics.verdict(found, found.p, doubts=doubts)
        counts["covered"] += _holds(found.interval, truth)
        counts["within"] += found.within(statistics.MARGIN)
        counts["equivalent"] += verdict.kind == "equivalent"
        counts["better"] += verdict.kind == "better"
        counts["wrong better"] += verdict.kind == "better" and (truth <= 0) == verdict.startswith("M")
        counts["warned"] += "warning" in verdict
    return {name: 100 * count / options.bootstraps for name, count in counts.items()}


def failures(options: argparse.Namespace) -> None:
    """Prints the table of verdicts where seeds fail."""
    print(
        "| seeds | fail | gain of the others | truth | interval holds it | within 1 point | equivalent | wrongly | "
        "better | wrongly | warning |"
    )
    print("|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|", flush=True)
    worst = 0.0
    for n_seeds, failure, gain in itertools.product(FAILING_SEEDS, FAILURES, GAINS):
        cell, truth = judged(n_seeds, failure, gain, options), gain - failure[0] * failure[1]
        wrongly = cell["equivalent"] if abs(truth) > statistics.MARGIN else 0.0
        worst = max(worst, wrongly)
        print(
            f"| {n_seeds} | {f'{100 * failure[0]:g} % by {failure[1]:g}' if failure[0] else 'none'} | {gain:g} | "
            f"{truth:+.1f} | {cell['covered']:.1f} | {cell['within']:.1f} | {cell['equivalent']:.1f} | {wrongly:.1f} "
            f"| {cell['better']:.1f} | {cell['wrong better']:.1f} | {cell['warned']:.1f} |",
            flush=True,
        )
    print(
        f"\n{FAILING_LANGUAGES} languages of {options.queries} queries, {options.bootstraps} replicates. "
        f"Equivalence given wrongly: at most {worst:.1f} %."
    )


def normal_theory(n_seeds: int, samples: int = 400_000) -> dict[str, list[float]]:
    """Returns coverages in % of four intervals, one figure for each share of B in the variance, from 0 to 1.

    The mean is normal with variance 1, its part A is estimated with n - 1 degrees of freedom, B is known.
    """
    rng, k, z = np.random.default_rng(0), n_seeds - 1, norm.ppf(0.975)
    found: dict[str, list[float]] = {
        "t over seeds": [],
        "reported": [],
        "Welch-Satterthwaite": [],
        "root of squares": [],
    }
    for b in SHARES:
        error, a = np.abs(rng.standard_normal(samples)), (1 - b) * rng.chisquare(k, samples) / k
        with np.errstate(divide="ignore"):
            freedom = k * np.square((a + b) / a)
        halves = [
            t.ppf(0.975, k) * a**0.5,
            np.maximum(t.ppf(0.975, k) * a**0.5, z * (a + b) ** 0.5),
            t.ppf(0.975, freedom) * (a + b) ** 0.5,
            (t.ppf(0.975, k) ** 2 * a + z**2 * b) ** 0.5,
        ]
        for coverages, half in zip(found.values(), halves, strict=True):
            coverages.append(100 * float(np.mean(error <= half)))
    return found


def _holds(interval: tuple[float, float], truth: float) -> bool:
    return interval[0] <= truth <= interval[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--replicates", type=int, default=3000)
    parser.add_argument("--bootstraps", type=int, default=400)
    parser.add_argument("--languages", type=int, default=4)
    parser.add_argument("--queries", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--failures", action="store_true", help="verdicts where trainings fail")
    parser.add_argument("--normal", action="store_true", help="the closed-form intervals on normal errors alone")
    options = parser.parse_args()
    if options.failures:
        return failures(options)
    if options.normal:
        print("| seeds | interval | " + " | ".join(f"B {100 * share:g} %" for share in SHARES) + " |")
        print("|---|---|" + "---:|" * len(SHARES))
        for n_seeds in (2, 3, 4, 5, 10):
            for name, coverages in normal_theory(n_seeds).items():
                print(f"| {n_seeds} | {name} | " + " | ".join(f"{x:.1f}" for x in coverages) + " |", flush=True)
        return
    print(
        "| seeds | sd of seed, query, both | error A | error B | t over seeds | bootstrap | t or bootstrap | "
        "reported |"
    )
    print("|---|---|---:|---:|---:|---:|---:|---:|", flush=True)
    reported = []
    for n_seeds, both, seed, query in itertools.product(SEEDS, BOTH_SD, SEED_SD, QUERY_SD):
        cell = covered(n_seeds, (seed, query, both), options)
        reported.append(cell["reported"])
        print(
            f"| {n_seeds} | {seed:g}, {query:g}, {both:g} | {cell['over seeds']:.2f} | {cell['over queries']:.2f} | "
            f"{cell['t']:.1f} | {cell['bootstrap']:.1f} | {cell['t or bootstrap']:.1f} | {cell['reported']:.1f} |",
            flush=True,
        )
    print(
        f"\n{options.languages} languages of {options.queries} queries. Reported: {min(reported):.1f} to "
        f"{max(reported):.1f} %. Standard error of a 95 %: {_error(options.replicates)} (t, reported), "
        f"{_error(options.bootstraps)} (with a bootstrap)."
    )


def _error(n: int) -> str:
    return f"{100 * (0.95 * 0.05 / n) ** 0.5:.1f}"


if __name__ == "__main__":
    main()
