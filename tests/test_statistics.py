"""Intervals, p-values and verdicts: computed again the slow way, and on planted effects."""

import numpy as np
import pytest
from scipy import stats

from tasks.errors import UserError
from xstilts.report import statistics


def planted(effect=0.0, seed_sd=1.0, seeds=3, languages=4, queries=300, seed=0):
    """Differences of hits: a true effect in points, an effect of each seed on all languages, and queries that flip."""
    rng = np.random.default_rng(seed)
    of_seed = effect + seed_sd * rng.standard_normal(seeds)
    found = {}
    for i in range(languages):
        base = rng.uniform(0.2, 0.8, queries)
        shifted = np.clip(base + of_seed[:, None] / 100, 0, 1)
        draw = rng.random((seeds, queries))
        found[f"qa{chr(97 + i)}"] = 100.0 * ((draw < shifted).astype(float) - (draw < base))
    return found


def slow_bootstrap(differences, draws, seed):
    """The definition in loops: seeds, then query ids within each language, the same for all seeds."""
    rng = np.random.default_rng(seed)
    n = len(next(iter(differences.values())))
    results = []
    for _ in range(draws):
        seeds = [rng.integers(n) for _ in range(n)]
        means = []
        for values in differences.values():
            ids = [rng.integers(values.shape[1]) for _ in range(values.shape[1])]
            means.append(np.mean([values[s][ids].mean() for s in seeds]))
        results.append(np.mean(means))
    return np.array(results)


def test_difference_is_the_macro_mean_whatever_the_number_of_queries():
    found = statistics.estimate({"qaa": np.full((3, 10), 6.0), "qab": np.full((3, 1000), 2.0)}, draws=50)
    assert found.difference == pytest.approx(4.0)
    assert found.per_language == pytest.approx({"qaa": 6.0, "qab": 2.0})
    assert (found.n_seeds, found.n_queries) == (3, 1010)


@pytest.mark.parametrize("kind", ["hits", "reciprocal ranks"])
def test_bootstrap_equals_the_loop(kind):
    differences = planted(3.0, seed_sd=2.0, languages=2, queries=40)
    if kind == "reciprocal ranks":  # then hardly two queries have the same row of differences
        noise = np.random.default_rng(3)
        differences = {
            language: values + noise.normal(0, 20, values.shape) for language, values in differences.items()
        }
    fast, _ = statistics.bootstrap(differences, draws=20_000, seed=1)
    slow = slow_bootstrap(differences, 4000, seed=2)
    assert fast.mean() == pytest.approx(slow.mean(), abs=0.15)
    assert fast.std() == pytest.approx(slow.std(), rel=0.06)
    assert statistics.percentiles(fast) == pytest.approx(statistics.percentiles(slow), abs=0.1 * slow.std() + 0.4)


def test_bootstrap_over_languages_equals_the_loop():
    differences = {"qaa": np.full((3, 5), 9.0), "qab": np.full((3, 50), 3.0), "qac": np.full((3, 5), 0.0)}
    means, over_languages = statistics.bootstrap(differences, draws=20_000)
    assert np.allclose(means, 4.0)  # nothing varies but the languages
    rng = np.random.default_rng(0)
    slow = [np.mean(rng.choice([9.0, 3.0, 0.0], 3)) for _ in range(4000)]
    assert over_languages.std() == pytest.approx(np.std(slow), rel=0.05)
    assert over_languages.mean() == pytest.approx(4.0, abs=0.1)


def test_bootstrap_is_the_same_for_the_same_seed_and_in_small_pieces(monkeypatch):
    differences = planted()
    first, again = (statistics.bootstrap(differences, 200, seed=5)[0] for _ in range(2))
    assert (first == again).all() and not np.array_equal(first, statistics.bootstrap(differences, 200, seed=6)[0])
    monkeypatch.setattr(statistics, "_CHUNK", 100)  # a few draws at a time
    pieces = statistics.bootstrap(differences, 200, seed=5)[0]
    assert np.array_equal(first, pieces)


def test_t_interval_is_scipys_paired_test():
    differences = planted(2.0, seeds=5)
    per_seed = np.mean([values.mean(axis=1) for values in differences.values()], axis=0)
    expected = stats.ttest_rel(per_seed, np.zeros(5)).confidence_interval()
    assert statistics.t_interval(per_seed) == pytest.approx((expected.low, expected.high))


def test_variances_by_hand():
    # Two seeds, four queries, one language; written out from the mean squares of a two-way table.
    table = np.array([[10.0, 0.0, 20.0, 6.0], [14.0, 2.0, 30.0, 2.0]])
    a, b = statistics.variances({"qaa": table})
    assert a == pytest.approx((9.0 - 12.0) ** 2 / 2 / 2)  # variance 4.5 of two means, over two seeds
    residuals = table - table.mean(0) - table.mean(1)[:, None] + table.mean()
    interaction = (residuals**2).sum() / 3
    assert b == pytest.approx((np.var([12.0, 1.0, 25.0, 4.0], ddof=1) - interaction / 2) / 4)


def test_variances_add_up_to_that_of_the_mean():
    """Over many samples of seeds and queries A + B is on average the variance that the mean difference really has."""
    rng = np.random.default_rng(0)
    means, sums = [], []
    for _ in range(3000):
        sample = {}
        of_seed = rng.normal(0, 2, (3, 1))
        for language, n in (("qaa", 20), ("qab", 40)):
            sample[language] = of_seed + rng.normal(0, 8, n) + rng.normal(0, 6, (3, n))
        means.append(np.mean([values.mean() for values in sample.values()]))
        a, b = statistics.variances(sample)
        sums.append(a + b)
    assert np.mean(sums) == pytest.approx(np.var(means), rel=0.08)


@pytest.mark.parametrize(("seed_sd", "query_sd"), [(0.0, 20.0), (3.0, 0.0), (2.0, 20.0)])
def test_reported_interval_covers(seed_sd, query_sd):
    """benchmarks/coverage.py in small: the truth is 0, and lies outside about 1 time in 20, whichever part varies."""
    rng, inside = np.random.default_rng(1), 0
    for _ in range(600):
        of_seed = seed_sd * rng.standard_normal((3, 1))
        sample = {
            language: of_seed + rng.normal(0, query_sd, 100) + rng.normal(0, 10, (3, 100))
            for language in ("qaa", "qab")
        }
        low, high = statistics.crossed_interval(sample)
        inside += low <= 0 <= high
    assert 0.925 < inside / 600 < 0.975  # 95 % and three standard errors


def test_p_belongs_to_its_interval():
    """p is 5 % exactly where the interval touches 0: move the same differences until it does."""
    differences = planted(5.0, seed_sd=1.5)
    low, _ = statistics.crossed_interval(differences)
    moved = {language: values - low for language, values in differences.items()}
    assert statistics.crossed_p(moved) == pytest.approx(0.05, abs=1e-6)


def test_holm_by_hand():
    # Smallest x 3, then x 2, then x 1, never falling, in the order given.
    assert statistics.holm([0.03, 0.01, 0.04]) == pytest.approx([0.06, 0.03, 0.06])
    assert (
        statistics.holm([0.9, 0.8]) == [1.0, 1.0] and statistics.holm([]) == [] and statistics.holm([0.02]) == [0.02]
    )


def judge(differences, **options):
    found = statistics.estimate(differences, draws=2000)
    return statistics.verdict(found, found.p, **options)


def test_planted_effects_come_out():
    assert judge(planted(6.0, seed_sd=0.4)) == "M better"
    assert judge(planted(-6.0, seed_sd=0.4)) == "E better"
    assert judge(planted(-6.0, seed_sd=0.4), names=("X", "C")) == "C better"
    assert judge(planted(0.0, seed_sd=0.0, queries=5000)) == "undecided (within 1 point in 3 seeds)"
    assert judge(planted(0.0, seed_sd=0.0, queries=1000, seeds=30)) == "equivalent within 1 point"
    assert judge(planted(0.0, seed_sd=4.0)) == "undecided"
    # Large, but the three seeds do not agree.
    assert judge(planted(3.0, seed_sd=6.0)) == "undecided"


def test_a_sure_but_small_difference_is_equivalent_and_the_margin_decides():
    small = {"qaa": 0.4 + np.random.default_rng(0).normal(0, 0.5, (29, 800))}
    found = statistics.estimate(small, draws=500)
    assert found.excludes_zero and found.within(1.0)
    assert judge(small) == "equivalent within 1 point"
    assert judge(small, margin=0.1) == "M better"
    assert judge(small, margin=2.5) == "equivalent within 2.5 points"
    few = {language: values[:3] for language, values in small.items()}
    assert statistics.estimate(few, draws=500).within(1.0)
    assert judge(few) == "M better (by less than 1 point)" and judge(few).kind == "better"


def test_equivalence_takes_enough_seeds_and_none_that_is_doubtful():
    for seeds in (2, 3, 5, statistics.ENOUGH_SEEDS - 1):
        found = statistics.estimate(planted(0.0, seed_sd=0.0, queries=3000, seeds=seeds), draws=200)
        assert (
            found.within(1.0) and statistics.verdict(found, found.p) == f"undecided (within 1 point in {seeds} seeds)"
        )
    found = statistics.estimate(planted(0.0, seed_sd=0.0, queries=1000, seeds=statistics.ENOUGH_SEEDS), draws=200)
    assert statistics.verdict(found, found.p) == "equivalent within 1 point"
    doubtful = statistics.verdict(found, found.p, doubts=["E at chance in seed 3", "M without seed 4"])
    assert doubtful == "undecided (within 1 point in 29 seeds) [warning: E at chance in seed 3, M without seed 4]"


def test_every_verdict_carries_the_doubts():
    found = statistics.estimate(planted(6.0, seed_sd=0.4), draws=2000)
    assert statistics.verdict(found, found.p, doubts=["x"]) == "M better [warning: x]"
    assert statistics.verdict(found, 0.06, doubts=["x"]) == "undecided [warning: x]"
    alone = statistics.estimate(planted(6.0, seeds=1), draws=100)
    assert statistics.verdict(alone, None, doubts=["x"]) == "undecided (one seed) [warning: x]"


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_a_seed_that_fails_stands_apart(seeds):
    for place in range(seeds):
        differences = planted(0.0, seed_sd=0.1, seeds=seeds, queries=2000)
        for values in differences.values():
            values[place] -= 12
        assert statistics.estimate(differences, draws=50).apart == place


def test_seeds_that_vary_alike_seldom_stand_apart():
    for sd in (0.0, 1.0, 4.0):
        found = [
            statistics.stands_apart(planted(1.0, seed_sd=sd, seeds=5, queries=200, seed=seed)) for seed in range(100)
        ]
        assert sum(place is not None for place in found) <= 18  # 10 are expected at most, 16 in one of 40 tries


def test_two_seeds_and_seeds_that_answer_alike_do_not_stand_apart():
    assert statistics.stands_apart(planted(0.0, seeds=2)) is None
    same = {"qaa": np.zeros((3, 100))}
    assert statistics.stands_apart(same) is None
    same["qaa"][0, 0] = 100  # one query
    assert statistics.stands_apart(same) is None


@pytest.mark.parametrize(("share", "loss"), [(0.0, 0.0), (0.1, 12.0), (0.2, 8.0)])
def test_equivalence_is_seldom_wrong_where_seeds_fail(share, loss):
    """One arm's seeds fail in a share of all trainings; the intervals alone would call the arms equivalent in most
    sets of three."""
    truth, wrong, by_intervals = -share * loss, 0, 0
    for replicate in range(40):
        differences = planted(0.0, seed_sd=0.0, queries=1000, languages=8, seed=replicate)
        failed = np.random.default_rng(1000 + replicate).random(3) < share
        for values in differences.values():
            values[failed] -= loss
        found = statistics.estimate(differences, draws=100)
        by_intervals += found.within(1.0)
        wrong += statistics.verdict(found, found.p).startswith("equivalent") and abs(truth) > 1
    assert wrong == 0 and by_intervals > 10


def test_correction_can_undo_a_verdict():
    found = statistics.estimate(planted(6.0, seed_sd=0.4), draws=2000)
    assert statistics.verdict(found, 0.049) == "M better" and statistics.verdict(found, 0.051) == "undecided"


def test_planted_null_is_seldom_called_better():
    """A true difference of 0 with seeds that vary: at most about one call in twenty."""
    calls = [judge(planted(0.0, seed_sd=2.0, queries=100, languages=2, seed=seed)) for seed in range(150)]
    assert sum("better" in call for call in calls) <= 15


def test_one_seed_has_no_verdict():
    found = statistics.estimate(planted(20.0, seeds=1), draws=500)
    assert found.interval is found.t_interval is found.p is None
    assert found.bootstrap_interval[0] > 0  # of the queries alone
    assert statistics.verdict(found, found.p) == "undecided (one seed)"


def test_no_query_differs():
    """Many queries without a difference are evidence for equality; a handful are none."""
    many = statistics.estimate({"qaa": np.zeros((3, 1000)), "qab": np.zeros((3, 1000))}, draws=100)
    assert many.p == 1 and many.wilcoxon_p is None and many.bootstrap_interval == (0, 0)
    assert many.interval == pytest.approx((-0.139, 0.139), abs=1e-3)  # 1.96 sqrt(2 (100 / 1000)^2) / 2
    assert statistics.verdict(many, many.p) == "undecided (within 1 point in 3 seeds)"
    assert judge({"qaa": np.zeros((29, 1000)), "qab": np.zeros((29, 1000))}) == "equivalent within 1 point"
    assert judge({"qaa": np.zeros((3, 10)), "qab": np.zeros((3, 10))}) == "undecided"


def test_every_query_gains_the_same():
    assert judge({"qaa": np.full((3, 50), 5.0), "qab": np.full((3, 50), 5.0)}) == "M better"
    assert judge({"qaa": np.full((3, 10), 5.0), "qab": np.full((3, 10), 5.0)}) == "undecided"


def test_wilcoxon_is_over_languages():
    differences = {
        f"q{c}a": np.full((3, 5), float(gain)) for c, gain in zip("abcdef", (1, 2, 3, 4, 5, -6), strict=False)
    }
    found = statistics.estimate(differences, draws=50)
    assert found.wilcoxon_p == pytest.approx(stats.wilcoxon([1, 2, 3, 4, 5, -6]).pvalue)


@pytest.mark.parametrize(
    ("differences", "told"),
    [
        ({}, "no language"),
        ({"qaa": np.zeros((3, 5)), "qab": np.zeros((2, 5))}, "2 and 3 seeds"),
        ({"qaa": np.zeros((3, 1))}, "qaa: 1 query"),
    ],
)
def test_what_cannot_be_averaged_is_refused(differences, told):
    with pytest.raises(UserError, match=told):
        statistics.estimate(differences, draws=10)
