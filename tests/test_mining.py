"""Mining: every engine gives exact neighbours, the pairs are the benchmark's, bad input is named."""

from __future__ import annotations

import time
from fractions import Fraction
from operator import mul

import numpy as np
import pytest

from tasks.errors import UserError
from xstilts.retrieve import exact, mining, neighbours, product, short
from xstilts.retrieve.mining import best_threshold, deduplicate, id_pairs, mine, pairs_above
from xstilts.retrieve.neighbours import bidirectional_knn, knn, nearest


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def pools(kind: str, n: int = 180, m: int = 150, dim: int = 24, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Two pools of unit vectors; for "random" the first rows are translations of each other."""
    draw = np.random.default_rng(seed)
    x, y = draw.standard_normal((n, dim)), draw.standard_normal((m, dim))
    both = min(n, m) // 2
    x[:both] = y[:both] + 0.5 * draw.standard_normal((both, dim))
    if kind == "crowded":  # as contextual vectors are: cosines above 0.99 for every pair
        offset = 20 * draw.standard_normal(dim)
        x, y = x + offset, y + offset
    if kind in ("clusters", "duplicates"):
        centres = draw.standard_normal((12, dim))
        spread = 0.02 if kind == "clusters" else 0
        x, y = (centres[draw.integers(0, 12, len(p))] + spread * draw.standard_normal(p.shape) for p in (x, y))
    if kind == "signs":  # inner products take few values, all exact: ties everywhere
        x, y = np.sign(x[:, :16]), np.sign(y[:, :16])
    return unit(x), unit(y)


KINDS = ("random", "crowded", "clusters", "duplicates", "signs")


def plain_neighbours(source: np.ndarray, target: np.ndarray, k: int) -> tuple[list[list[float]], list[list[int]]]:
    """The definition in plain Python: float64 inner products, rounded to float32, best first, ties by lower index."""
    scores, indices = [], []
    others = target.tolist()
    for x in source.tolist():
        row = [float(np.float32(sum(map(mul, x, y)))) for y in others]
        order = sorted(range(len(row)), key=lambda j: (-row[j], j))[:k]
        scores.append([row[j] for j in order])
        indices.append(order)
    return scores, indices


@pytest.fixture
def small_tiles(monkeypatch):
    """Many tiles, prunings and crowded rows from a few hundred vectors."""
    sizes = {"TILE": 64, "GROUP": 4, "CROWD": 9, "PRUNE": 500, "PLAIN_ROWS": 50, "PLAIN_COLUMNS": 70}
    for name, value in sizes.items():
        monkeypatch.setattr(exact if name.startswith("PLAIN") else product, name, value)
    # a basis of few dimensions, however many pairs are left to score
    for name, value in {"LEAST_PAIRS": 0, "STEP": 5, "SCORE_COST": 0, "WORTH_IT": 10, "GIVE_UP": 1}.items():
        monkeypatch.setattr(short, name, value)


def test_the_order_of_a_float64_sum_changes_no_score():
    """Cosines midway between two float32 numbers: the last bit of the float64 sum decides which of them it becomes."""
    for seed in range(20):
        x, y = unit(np.random.default_rng(seed).standard_normal((2, 768)))
        y = unit((x + y)[None])[0]
        x[-2:], y[-2:] = (1e-4, 1e-8), 0
        score = np.float32(x.astype(np.float64) @ y)
        middle = (float(score) + float(np.nextafter(score, np.float32(2)))) / 2
        for last in (-2, -1):
            y[last] = (middle - x.astype(np.float64) @ y) / float(x[last])
        pool = np.repeat(y[None], 9, axis=0)
        scores, indices = exact.plain_knn(x[None], pool, 4)
        assert (scores == exact.exact_scores(x[None], y[None], [0], [0])).all()
        assert indices.tolist() == [[0, 1, 2, 3]]


@pytest.mark.parametrize("engine", ["bf16", "short", "fp32", "plain"])
@pytest.mark.parametrize("kind", KINDS)
def test_neighbours_are_exact(kind, engine, small_tiles):
    source, target = pools(kind)
    found = bidirectional_knn(source, target, 4, engine)
    for x, y, scores, indices in (
        (source, target, found.forward_scores, found.forward_indices),
        (target, source, found.backward_scores, found.backward_indices),
    ):
        expected_scores, expected_indices = plain_neighbours(x, y, 4)
        assert indices.tolist() == expected_indices
        assert scores.tolist() == expected_scores
        assert indices.dtype == np.int64 and scores.dtype == np.float32


@pytest.mark.parametrize("engine", ["bf16", "short", "fp32"])
@pytest.mark.parametrize(("n", "m", "k"), [(65, 63, 4), (1, 5, 1), (5, 4, 4), (200, 3, 3), (130, 70, 20)])
def test_engines_agree_on_any_shape(n, m, k, engine, small_tiles):
    source, target = pools("random", n, m)
    scores, indices = knn(source, target, k, engine)
    expected_scores, expected_indices = knn(source, target, k, "plain")
    assert np.array_equal(indices, expected_indices) and np.array_equal(scores, expected_scores)


@pytest.mark.parametrize("engine", ["bf16", "fp32"])
def test_engines_agree_at_full_tile_size(engine):
    source, target = pools("random", 4200, 2100, 32)
    found, expected = (bidirectional_knn(source, target, 4, name) for name in (engine, "plain"))
    for name in ("forward_scores", "forward_indices", "backward_scores", "backward_indices"):
        assert np.array_equal(getattr(found, name), getattr(expected, name)), name


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize("kind", KINDS)
def test_no_product_is_further_from_the_truth_than_its_slack(kind, dtype):
    torch = pytest.importorskip("torch")
    source, target = pools(kind, 400, 300, 96)
    number = getattr(torch, dtype)
    means = [torch.tensor(pool.mean(axis=0)) for pool in (source, target)]
    left = product.Operand(source, means[0], means[1], number, is_left=True)
    right = product.Operand(target, means[1], means[0], number, is_left=False)
    stored = (left.block(0) @ right.block(0).T)[: len(source), : len(target)].double().numpy()
    constant = means[0].double() @ means[1].double()
    truth = source.astype(np.float64) @ target.T.astype(np.float64) - constant.item()
    rounding = 1.01 * torch.finfo(number).eps / 2 * np.abs(stored)
    assert (np.abs(stored - truth) <= left.slack(right).numpy()[:, None] + rounding).all()
    assert (np.abs(stored - truth).T <= right.slack(left).numpy()[:, None] + rounding.T).all()


def test_the_cut_leaves_out_only_what_cannot_be_among_the_best():
    torch = pytest.importorskip("torch")
    rounding, slack = 0.05, torch.rand(1000)
    side = product.Side(1, slack, rounding)
    side.best = torch.randn(1000, 1)
    worst = side.best[:, 0]
    surely = worst - rounding * worst.abs() - slack  # what the best found is at least, in truth
    for step, may_reach in ((1e-4, True), (-1e-4, False)):
        stored = side.cut(slice(None)) + step
        at_most = stored + rounding * stored.abs() + slack
        assert ((at_most >= surely) == may_reach).all()


def published(
    source: np.ndarray, target: np.ndarray, k: int, margin: str, retrieval: str
) -> list[tuple[int, int, float]]:
    """The mining that LASER and XTREME publish for BUCC, restated; ties, which it leaves open, as we document them."""
    forward_cosine, forward_index = plain_neighbours(source, target, k)
    backward_cosine, backward_index = plain_neighbours(target, source, k)
    forward_mean = [sum(row) / k for row in forward_cosine]
    backward_mean = [sum(row) / k for row in backward_cosine]

    def score(cosine: float, i: int, j: int) -> float:
        mean = (forward_mean[i] + backward_mean[j]) / 2
        return {"absolute": cosine, "distance": cosine - mean, "ratio": cosine / mean}[margin]

    forward, backward = [], []
    for i, (cosines, indices) in enumerate(zip(forward_cosine, forward_index, strict=True)):
        scores = [score(cosine, i, j) for cosine, j in zip(cosines, indices, strict=True)]
        forward.append((i, indices[scores.index(max(scores))], max(scores)))
    for j, (cosines, indices) in enumerate(zip(backward_cosine, backward_index, strict=True)):
        scores = [score(cosine, i, j) for cosine, i in zip(cosines, indices, strict=True)]
        backward.append((indices[scores.index(max(scores))], j, max(scores)))
    if retrieval == "forward":
        chosen = forward
    elif retrieval == "backward":
        chosen = backward
    elif retrieval == "intersect":
        chosen = [(i, j, s) for i, j, s in forward if backward[j][0] == i]
    else:
        used_source, used_target, chosen = set(), set(), []
        for i, j, s in sorted(forward + backward, key=lambda pair: (-pair[2], pair[0], pair[1])):
            if i not in used_source and j not in used_target:
                used_source.add(i)
                used_target.add(j)
                if s > 0:
                    chosen.append((i, j, s))
    return sorted(chosen, key=lambda pair: (-pair[2], pair[0], pair[1]))


@pytest.mark.parametrize("margin", mining.MARGINS)
@pytest.mark.parametrize("kind", KINDS)
def test_pairs_are_the_benchmarks(kind, margin):
    source, target = pools(kind, 90, 80, seed=3)
    for retrieval in mining.RETRIEVALS:
        i, j, score = mine(source, target, 4, margin, retrieval)
        expected = published(source, target, 4, margin, retrieval)
        assert list(zip(i.tolist(), j.tolist(), strict=True)) == [pair[:2] for pair in expected], retrieval
        assert score == pytest.approx([pair[2] for pair in expected], abs=1e-12)


def published_threshold(scores: list[float], is_gold: list[bool], n_gold: int) -> tuple[float, float]:
    """The published walk over the dev candidates, restated, without its crash after the last candidate."""
    walk = sorted(zip(scores, is_gold, strict=True), key=lambda item: -item[0])
    best, threshold, correct = 0.0, 0.0, 0
    for position, (score, gold) in enumerate(walk, 1):
        correct += gold
        if correct:
            precision, recall = correct / position, correct / n_gold
            f1 = 2 * precision * recall / (precision + recall)
            if f1 > best:
                best = f1
                threshold = (score + walk[position][0]) / 2 if position < len(walk) else score
    kept = [gold for score, gold in walk if score >= threshold]
    precision, recall = sum(kept) / len(kept), sum(kept) / n_gold
    return threshold, 200 * precision * recall / (precision + recall)


def test_threshold_is_the_benchmarks():
    """The same bits, also where several cuts have the same F1 as a fraction and rounding decides: 17 of these
    2,000."""
    draw, by_rounding = np.random.default_rng(0), 0
    for number in range(2000):
        size = int(draw.integers(1, 40))
        scores = draw.standard_normal(size)
        if number % 2:
            scores = np.round(scores, 1)  # ties
        is_gold = draw.random(size) < 0.2 + 0.6 * (scores > 0)
        is_gold[draw.integers(size)] = True
        n_gold = int(is_gold.sum() + draw.integers(0, 5))
        threshold, f1 = best_threshold(scores, is_gold, n_gold)
        expected = published_threshold(scores.tolist(), is_gold.tolist(), n_gold)
        assert threshold == expected[0] and f1 == pytest.approx(expected[1], abs=1e-9)
        walk = sorted(zip(scores.tolist(), is_gold.tolist(), strict=True), key=lambda item: -item[0])
        fractions = [Fraction(2 * sum(gold for _, gold in walk[:n]), n + n_gold) for n in range(1, size + 1)]
        first = fractions.index(max(fractions))
        by_rounding += threshold != (
            walk[first][0] if first + 1 == size else (walk[first][0] + walk[first + 1][0]) / 2
        )
    assert by_rounding == 17


@pytest.mark.parametrize("margin", mining.MARGINS)
@pytest.mark.parametrize("kind", ["random", "crowded", "signs"])
def test_f1_is_the_benchmarks(kind, margin):
    """From the same vectors to F1 on test with dev's threshold: mined, cut and counted as published."""
    dev, test = pools(kind, 90, 80, seed=5), pools(kind, 80, 90, seed=6)
    gold = {(i, i) for i in range(40)}
    found = [mine(*split, 4, margin) for split in (dev, test)]
    pairs = [list(zip(i.tolist(), j.tolist(), strict=True)) for i, j, _ in found]
    plain = [published(*split, 4, margin, "max") for split in (dev, test)]
    hits = [pair in gold for pair in pairs[0]]
    threshold, _ = best_threshold(found[0][2], hits, len(gold))
    kept = set(pairs_above(pairs[1], found[1][2], threshold))
    expected_threshold, _ = published_threshold(
        [s for *_, s in plain[0]], [(i, j) in gold for i, j, _ in plain[0]], len(gold)
    )
    expected = {(i, j) for i, j, s in plain[1] if s >= expected_threshold}
    # some are right, and the threshold leaves some out
    assert kept == expected and kept & gold and len(kept) < len(pairs[1])


def test_threshold_after_the_last_candidate():
    assert best_threshold([0.9, 0.5], [True, True], 2) == (0.5, 100.0)
    assert best_threshold([0.9, 0.5, 0.1], [True, True, False], 2) == (pytest.approx(0.3), 100.0)
    assert best_threshold([0.7], [True], 3) == (0.7, 50.0)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("margin", mining.MARGINS)
def test_max_is_one_to_one_order_free_and_symmetric(margin, seed):
    draw = np.random.default_rng(seed)
    source, target = pools(("random", "crowded")[seed % 2], *draw.integers(20, 200, 2), seed=seed)
    i, j, score = mine(source, target, 4, margin)
    assert len(set(i.tolist())) == len(set(j.tolist())) == len(i) > 0
    assert (np.diff(score) <= 0).all() and (score > 0).all()

    pairs = {(a, b): s for a, b, s in zip(i.tolist(), j.tolist(), score.tolist(), strict=True)}
    assert len(set(pairs.values())) == len(pairs)  # no ties, so nothing may depend on the order
    back_j, back_i, back = mine(target, source, 4, margin)
    assert {(a, b): s for a, b, s in zip(back_i.tolist(), back_j.tolist(), back.tolist(), strict=True)} == pairs

    rows, columns = draw.permutation(len(source)), draw.permutation(len(target))
    i, j, score = mine(source[rows], target[columns], 4, margin)
    assert {(a, b): s for a, b, s in zip(rows[i].tolist(), columns[j].tolist(), score.tolist(), strict=True)} == pairs


@pytest.mark.parametrize("seed", range(4))
def test_one_sided_and_intersected_pairs_are_order_free_and_mirror_each_other(seed):
    draw = np.random.default_rng(seed)
    source, target = pools(("random", "crowded")[seed % 2], *draw.integers(20, 200, 2), seed=seed)
    rows, columns = draw.permutation(len(source)), draw.permutation(len(target))

    def pairs(retrieval: str, x=source, y=target) -> dict[tuple[int, int], float]:
        i, j, score = mine(x, y, 4, retrieval=retrieval)
        return {(a, b): s for a, b, s in zip(i.tolist(), j.tolist(), score.tolist(), strict=True)}

    forward, backward, both, one_to_one = (
        pairs(retrieval) for retrieval in ("forward", "backward", "intersect", "max")
    )
    assert len({i for i, _ in forward}) == len(source) and len({j for _, j in backward}) == len(target)
    assert both.keys() == forward.keys() & backward.keys() and one_to_one.keys() <= forward.keys() | backward.keys()
    for retrieval, mirrored, found in (("forward", "backward", forward), ("intersect", "intersect", both)):
        assert {(i, j): s for (j, i), s in pairs(mirrored, target, source).items()} == found
        shuffled = pairs(retrieval, source[rows], target[columns])
        assert {(rows[i], columns[j]): s for (i, j), s in shuffled.items()} == found


def test_memory_mapped_pools_are_read_in_place(tmp_path, small_tiles, monkeypatch):
    source, target = pools("random")
    monkeypatch.setattr(neighbours, "PLAIN_PRODUCT", 0)
    mapped = []
    for name, vectors in (("source", source), ("target", target)):
        np.save(tmp_path / f"{name}.npy", vectors)
        mapped.append(np.load(tmp_path / f"{name}.npy", mmap_mode="r"))
        # no copy of the whole
        assert np.shares_memory(neighbours.check_pools(mapped[-1], mapped[-1], 1, both=True)[0], mapped[-1])
    for a, b in zip(mine(*mapped), mine(source, target), strict=True):
        assert np.array_equal(a, b)


def test_products_are_accurate_whatever_torchs_precision(small_tiles):
    torch = pytest.importorskip("torch")
    source, target = pools("clusters")
    expected = bidirectional_knn(source, target, 4, "plain")
    torch.set_float32_matmul_precision("medium")  # fp32 products in bf16, where the machine can
    try:
        found = bidirectional_knn(source, target, 4, "fp32")
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")
    assert np.array_equal(found.forward_indices, expected.forward_indices)
    assert np.array_equal(found.backward_indices, expected.backward_indices)


def test_the_answer_does_not_depend_on_the_engine(small_tiles, monkeypatch):
    source, target = pools("duplicates")
    monkeypatch.setattr(neighbours, "PLAIN_PRODUCT", 0)
    answers = []
    for engine in ("bf16", "fp32"):  # the second is "short" on a CPU
        monkeypatch.setattr(neighbours, "fastest_engine", lambda device, engine=engine: engine)
        answers.append(mine(source, target))
    for a, b in zip(*answers, strict=True):
        assert np.array_equal(a, b)


def test_self_measurement_chooses_an_engine():
    assert product.fastest_engine() in ("bf16", "fp32")
    assert product.numpy_is_faster() in (True, False)


@pytest.mark.parametrize(("slow", "expected"), [("bfloat16", "fp32"), ("float32", "bf16")])
def test_other_jobs_on_the_machine_do_not_change_what_is_faster(slow, expected, monkeypatch):
    """Time in which this process does not run is not counted; nor is one product that takes long by chance."""
    torch, calls = pytest.importorskip("torch"), []

    def multiply(left, right, out):
        calls.append(out.dtype)
        if out.dtype == getattr(torch, slow) or calls.count(out.dtype) == 3:  # each is called four times
            end = time.thread_time() + 0.02
            while time.thread_time() < end:
                pass
        else:
            time.sleep(0.05)

    monkeypatch.setattr(product, "multiply", multiply)
    assert product.fastest_engine.__wrapped__() == expected


@pytest.mark.parametrize("engine", ["short", "fp32"])
def test_the_answer_does_not_depend_on_who_multiplies(engine, small_tiles, monkeypatch):
    source, target = pools("clusters")
    expected = bidirectional_knn(source, target, 4, "plain")
    torch, used = pytest.importorskip("torch"), []
    real = {"numpy": np.dot, "torch": torch.mm}
    monkeypatch.setattr(np, "dot", lambda *a, **k: used.append("numpy") or real["numpy"](*a, **k))
    monkeypatch.setattr(torch, "mm", lambda *a, **k: used.append("torch") or real["torch"](*a, **k))
    for name in real:
        used.clear()
        monkeypatch.setattr(product, "numpy_is_faster", lambda name=name: name == "numpy")
        found = bidirectional_knn(source, target, 4, engine)
        assert set(used) == {name}
        assert np.array_equal(found.forward_indices, expected.forward_indices)
        assert np.array_equal(found.backward_scores, expected.backward_scores)


def test_max_keeps_what_scores_above_min_score():
    source, target = pools("random")
    everything = mine(source, target, margin="distance", min_score=-np.inf)
    some = mine(source, target, margin="distance", min_score=0.1)
    kept = everything[2] > 0.1
    assert 0 < kept.sum() < len(kept)
    assert all(np.array_equal(a[kept], b) for a, b in zip(everything, some, strict=True))


def test_distant_sentences_are_not_paired():
    i, _, _ = mine(np.eye(8, dtype=np.float32)[:4], np.eye(8, dtype=np.float32)[4:], k=4)
    assert len(i) == 0


def test_nearest_and_csls():
    source, target = pools("random", 150, 140)
    cosine = source.astype(np.float64) @ target.T.astype(np.float64)
    assert np.array_equal(nearest(source, target), cosine.argmax(axis=1))
    k = 10
    source_mean = np.sort(cosine, axis=1)[:, -k:].mean(axis=1, keepdims=True)
    target_mean = np.sort(cosine, axis=0)[-k:].mean(axis=0, keepdims=True)
    csls = (2 * cosine - source_mean - target_mean).argmax(axis=1)
    assert np.array_equal(nearest(source, target, csls=k), csls)
    assert (csls != cosine.argmax(axis=1)).any()


def test_repeated_texts_compete_but_are_not_returned():
    texts, ids = deduplicate(["a", "b", "c", "d", "e"], ["one", "two", "one", "two ", "three"])
    assert texts == ["one", "two", "two ", "three"]
    assert ids == [None, None, None, "e"]
    found = np.array([3, 0, 1]), np.array([0, 1, 0]), np.array([3.0, 2.0, 1.0])
    pairs, scores = id_pairs(*found, ids, ["x", "y"])
    assert pairs == [("e", "x")] and scores.tolist() == [3.0]


def test_pairs_above_keeps_the_threshold_itself():
    pairs = [("a", "x"), ("b", "y"), ("c", "z")]
    assert pairs_above(pairs, np.array([0.9, 0.5, 0.4]), 0.5) == pairs[:2]


def with_row(vectors: np.ndarray, value: float) -> np.ndarray:
    vectors = vectors.copy()
    vectors[5] = value
    return vectors


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x, y: mine(with_row(x, np.nan), y), "source vectors: 1 of 30 are not of unit length .first: row 5"),
        (lambda x, y: mine(x, with_row(y, 0)), "target vectors: 1 of 20 .* row 5, norm 0"),
        (lambda x, y: mine(x, 3 * y), "target vectors: 20 of 20 are not of unit length"),
        (lambda x, y: mine(x, unit(y[:, :5])), "24 dimensions, target vectors 5"),
        (lambda x, y: mine(x, y, k=21), "k=21 neighbours in a target pool of 20"),
        (lambda x, y: mine(x[:3], y), "k=4 neighbours in a source pool of 3"),
        (lambda x, y: mine(x, y, k=0), "k must be between 1 and 20"),
        (lambda x, y: mine(x[:0], y), "the pool is empty"),
        (lambda x, y: mine(x[0], y), "expected a float array"),
        (lambda x, y: mine(x, y, margin="ration"), "margin='ration' is unknown"),
        (lambda x, y: mine(x, y, retrieval="fwd"), "retrieval='fwd' is unknown; choose one of max, forward"),
        (lambda x, y: knn(x, y, engine="fp64"), "engine='fp64' is unknown"),
        (lambda x, y: best_threshold([0.3, 0.2], [False, False], 4), "none of the 2 dev candidates"),
        (lambda x, y: best_threshold([], [], 4), "none of the 0 dev candidates"),
        (lambda x, y: best_threshold([0.3, np.nan], [True, False], 4), "candidate 1 has the score NaN"),
        (lambda x, y: best_threshold([0.3, 0.2], [True], 4), "one mark for every candidate"),
        (lambda x, y: best_threshold([0.3, 0.2], [True, True], 1), "only 1 gold pairs"),
        (lambda x, y: deduplicate(["a", "b", "a"], ["1", "2", "3"]), "first: 'a'"),
        (lambda x, y: deduplicate(["a", "b"], ["1"]), "2 ids for 1 sentences"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(UserError, match=message):
        call(*pools("random", 30, 20))
