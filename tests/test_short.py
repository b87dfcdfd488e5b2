"""The shorter product: it misses no neighbour, is chosen where it is faster, and given up where it is not."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from tests.test_mining import KINDS, pools, unit
from xstilts.retrieve import neighbours, product, short
from xstilts.retrieve.exact import plain_knn
from xstilts.retrieve.neighbours import bidirectional_knn, csls_vectors, knn
from xstilts.retrieve.product import Operand

torch = pytest.importorskip("torch")
PARTS = ("forward_scores", "forward_indices", "backward_scores", "backward_indices")


def basis_of(source: np.ndarray, target: np.ndarray, size: int) -> short.Basis:
    centred = [torch.from_numpy(pool - pool.mean(axis=0)) for pool in (source, target)]
    return short.Basis.of(short.principal(centred)[:, :size])


def same(found: list, source: np.ndarray, target: np.ndarray, k: int) -> bool:
    expected = [plain_knn(source, target, k), plain_knn(target, source, k)][: len(found)]
    return all(np.array_equal(a, b) for f, e in zip(found, expected, strict=True) for a, b in zip(f, e, strict=True))


@pytest.fixture
def small_tiles(monkeypatch):
    for name, value in {"TILE": 64, "GROUP": 4, "PRUNE": 500}.items():
        monkeypatch.setattr(product, name, value)
    monkeypatch.setattr(short, "GIVE_UP", 1)
    monkeypatch.setattr(short, "ROWS_AT_ONCE", 10)


@pytest.fixture
def scored(monkeypatch):
    """The number of pairs of each tile that are scored over all dimensions."""
    counts = []
    scores = short.Selection._scores

    def counted(self, pairs, parts):
        counts.append(len(pairs[0]))
        return scores(self, pairs, parts)

    monkeypatch.setattr(short.Selection, "_scores", counted)
    return counts


def low_rank(n: int, m: int, dim: int, rank: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Two pools whose variance lies almost wholly in `rank` directions."""
    draw = np.random.default_rng(seed)
    directions = draw.standard_normal((rank, dim))
    return tuple(
        unit(draw.standard_normal((size, rank)) @ directions + 0.05 * draw.standard_normal((size, dim)))
        for size in (n, m)
    )


@pytest.mark.parametrize("size", [1, 7, 15])
@pytest.mark.parametrize("kind", KINDS)
def test_every_size_of_basis_finds_the_same(kind, size, small_tiles):
    source, target = pools(kind)
    basis = basis_of(source, target, size)
    assert same(short.walk(source, target, 4, basis, both=True), source, target, 4)
    assert same(short.walk(source, target, 4, basis, both=False), source, target, 4)


@pytest.mark.parametrize("seed", range(6))
def test_ties_and_copies_across_tiles(seed, small_tiles):
    """Rows from a handful of vectors, some of them opposite or rounded to fp16, in every tile."""
    draw = np.random.default_rng(seed)
    some = unit(draw.standard_normal((9, 40)).astype(np.float16))
    some = np.concatenate([some, -some[:4]])
    source, target = (some[draw.integers(0, len(some), size)] for size in (150, 130))
    for k in (1, 4, 30):
        assert same(short.walk(source, target, k, basis_of(source, target, 5), both=True), source, target, k)


def test_csls_vectors_longer_than_one(small_tiles):
    source, target = csls_vectors(*pools("crowded"), 10)
    assert same(short.walk(source, target, 3, basis_of(source, target, 6), both=True), source, target, 3)


@pytest.mark.parametrize("size", [1, 30, 95])
@pytest.mark.parametrize("kind", KINDS)
def test_the_product_is_an_upper_bound(kind, size):
    source, target = pools(kind, 400, 300, 96)
    basis = basis_of(source, target, min(size, source.shape[1]))
    means = [torch.tensor(pool.mean(axis=0)) for pool in (source, target)]
    left = Operand(source, means[0], means[1], torch.float32, is_left=True, basis=basis)
    right = Operand(target, means[1], means[0], torch.float32, is_left=False, keep=True, basis=basis)
    stored = (left.block(0) @ right.block(0).T)[: len(source), : len(target)].double().numpy()
    truth = source.astype(np.float64) @ target.T.astype(np.float64) - (means[0].double() @ means[1].double()).item()
    rounding = 1.01 * 2.0**-24 * np.abs(stored)
    assert (stored + left.slack(right).numpy()[:, None] + rounding >= truth).all()
    assert (stored.T + right.slack(left).numpy()[:, None] + rounding.T >= truth.T).all()


def test_rotated_vectors_are_within_the_error_of_their_basis():
    draw = np.random.default_rng(0)
    exact = torch.linalg.qr(torch.from_numpy(draw.standard_normal((300, 120)))).Q
    vectors = torch.from_numpy(unit(draw.standard_normal((500, 300))))
    basis = short.Basis.of(exact)
    distance = (basis.rotate(vectors).double() - vectors.double() @ exact).norm(dim=1).max().item()
    assert 0 < distance <= basis.error < 1e-3


def test_few_pairs_are_scored_where_few_dimensions_hold_the_variance(scored, monkeypatch):
    monkeypatch.setattr(product, "TILE", 512)
    monkeypatch.setattr(short, "LEAST_PAIRS", 0)
    source, target = low_rank(1000, 1500, 256, 24)
    basis = short.choose_basis(source, target, 4)
    assert basis.matrix.shape == (256, 64)
    assert same(short.walk(source, target, 4, basis, both=True), source, target, 4)
    assert 0 < sum(scored) < 0.1 * 1000 * 1500


def test_the_same_at_full_tile_size(scored):
    source, target = low_rank(4200, 8300, 96, 12)
    source[4100:], target[8200:] = source[:100], target[:100]  # ties from other tiles
    assert same(short.walk(source, target, 4, basis_of(source, target, 32), both=True), source, target, 4)
    assert len(scored) > 6


def test_no_basis_is_chosen_where_it_would_not_pay(monkeypatch):
    draw = np.random.default_rng(0)
    source, target = (unit(draw.standard_normal((900, 192))) for _ in range(2))
    assert short.choose_basis(*low_rank(900, 900, 192, 10), 4) is None  # too few pairs
    monkeypatch.setattr(short, "LEAST_PAIRS", 0)
    assert short.choose_basis(*low_rank(900, 900, 192, 10), 4) is not None
    assert short.choose_basis(source, target, 4) is None  # every direction counts alike


def test_a_sample_is_not_measured_on_what_it_was_fitted_to(monkeypatch):
    """More dimensions than a fit can settle: measured on its own vectors, a basis seems to leave out less."""
    monkeypatch.setattr(short, "LEAST_PAIRS", 0)
    monkeypatch.setattr(short, "SAMPLE", 200)
    draw = np.random.default_rng(0)
    source, target = (unit(draw.standard_normal((2000, 256))) for _ in range(2))
    assert short.choose_basis(source, target, 4) is None


@pytest.mark.parametrize("limit", [{"GIVE_UP": 1e-4}, {"CROWD": 0}])
def test_too_many_pairs_and_the_whole_product_is_taken(limit, small_tiles, monkeypatch):
    source, target = pools("duplicates")
    monkeypatch.setattr(product, "PRUNE", 100)
    for name, value in (limit | {"LEAST_PAIRS": 0, "STEP": 5, "SCORE_COST": 0, "WORTH_IT": 10}).items():
        monkeypatch.setattr(short, name, value)
    with pytest.raises(short.Crowded):
        short.walk(source, target, 4, short.choose_basis(source, target, 4), both=True)
    found, expected = (bidirectional_knn(source, target, 4, engine) for engine in ("short", "plain"))
    assert all(np.array_equal(getattr(found, part), getattr(expected, part)) for part in PARTS)


def test_a_narrow_last_tile_is_no_reason_to_give_up(monkeypatch):
    """Three targets that are near to every source fill the last tile."""
    monkeypatch.setattr(product, "TILE", 256)
    source, target = low_rank(512, 515, 64, 6)
    target[-3:] = unit(source.mean(axis=0, keepdims=True) + 0.1 * target[-3:])
    source = unit(source + 3 * target[-1])
    assert same(short.walk(source, target, 4, basis_of(source, target, 16), both=False), source, target, 4)


def test_files_are_read_in_place_without_a_warning(small_tiles, tmp_path, monkeypatch):
    monkeypatch.setattr(short, "LEAST_PAIRS", 0)
    monkeypatch.setattr(short, "SCORE_COST", 0)
    source, target = low_rank(200, 150, 160, 5)
    for name, pool in (("source", source), ("target", target)):
        np.save(tmp_path / name, pool)
    mapped = [np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in ("source", "target")]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = knn(*mapped, 4, "short")
    assert same([found], source, target, 4)


def test_auto_takes_the_shorter_product_on_a_cpu_without_bf16(monkeypatch):
    chosen = []
    monkeypatch.setattr(neighbours, "PLAIN_PRODUCT", 0)
    monkeypatch.setattr(short, "choose_basis", lambda *given: chosen.append(given) and None)
    source, target = pools("random")
    for device, engine, tries in (("cpu", "fp32", 1), ("cpu", "bf16", 0)):
        chosen.clear()
        monkeypatch.setattr(neighbours, "best_device", lambda device=device: device)
        monkeypatch.setattr(neighbours, "fastest_engine", lambda device, engine=engine: engine)
        assert same([knn(source, target, 4)], source, target, 4)
        assert len(chosen) == tries
