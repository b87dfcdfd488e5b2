"""Approximate search: exact scores of what an index finds, recall as defined, bad input named, --index from rows to
results.json."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest

from tasks.errors import UserError
from tasks.retrieval import BUCC, Pools
from xstilts.retrieve import index, measure, mining, neighbours
from xstilts.retrieve.index import Index
from xstilts.retrieve.vectors import normalize


@pytest.fixture(scope="module")
def pools() -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors in 40 clusters, (700, 32) and (900, 32); the first 600 rows are translations of each other."""
    draw = np.random.default_rng(0)
    centres = draw.standard_normal((40, 32))
    target = centres[draw.integers(0, 40, 900)] + 0.4 * draw.standard_normal((900, 32))
    source = np.vstack([target[:600], target[:100][::-1]]) + 0.2 * draw.standard_normal((700, 32))
    return normalize(source), normalize(target)


@pytest.fixture
def mapped(pools, tmp_path) -> list[np.ndarray]:
    """The pools memory-mapped, read-only."""
    for side, vectors in enumerate(pools):
        np.save(tmp_path / f"{side}.npy", vectors)
    return [np.load(tmp_path / f"{side}.npy", mmap_mode="r") for side in (0, 1)]


@pytest.mark.parametrize("shard", [10**6, 250])
def test_an_index_that_finds_all_gives_the_exact_neighbours(shard, pools, mapped, monkeypatch):
    monkeypatch.setattr(index, "SHARD_BYTES", shard * 4 * pools[1].shape[1])
    for name in ("QUERIES_AT_ONCE", "ROWS_AT_ONCE"):
        monkeypatch.setattr(index, name, 128)
    found, expected = index.knn(*mapped, 4, Index("Flat")), neighbours.knn(*pools, 4)
    assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))
    near, recalls = index.bidirectional_knn(*mapped, 4, Index("Flat"))
    assert recalls == {"forward": 100, "backward": 100}
    for a, b in zip(mining.pair(near), mining.mine(*pools), strict=True):
        assert np.array_equal(a, b)


@pytest.mark.parametrize(
    ("factory", "nprobe"), [("IVF16,Flat", 2), ("IVF4,PQ8", 4), ("PCA16,IVF16,SQ8", None), ("HNSW8", None)]
)
def test_what_is_found_is_scored_exactly_and_recall_is_the_share_found(factory, nprobe, pools):
    source, target = pools
    how = Index(factory, nprobe)
    scores, indices = index.knn(source, target, 4, how)
    cosine = source.astype(np.float64) @ target.T.astype(np.float64)
    assert scores == pytest.approx(np.take_along_axis(cosine, indices, axis=1), abs=1e-6)
    assert (np.diff(scores, axis=1) <= 0).all() and all(len(set(row)) == 4 for row in indices.tolist())
    best = np.argsort(-cosine, axis=1)[:, :4]
    share = np.mean([len(set(a) & set(b)) / 4 for a, b in zip(best.tolist(), indices.tolist(), strict=True)])
    assert index.recall(source, target, scores) == pytest.approx(100 * share)
    assert 50 < 100 * share <= 100
    again = index.knn(source, target, 4, how)
    assert np.array_equal(again[1], indices)


def test_more_lists_and_candidates_find_more(pools):
    def recall(factory, **how) -> float:
        return index.recall(*pools, index.knn(*pools, 4, Index(factory, **how))[0])

    assert recall("IVF16,Flat", nprobe=1) < recall("IVF16,Flat", nprobe=16) == 100
    assert recall("PQ2", candidates=4) < recall("PQ2", candidates=16) < recall("PQ2")


def test_shards_of_one_trained_index_find_what_it_finds_whole(pools, monkeypatch):
    for factory, code in (("IVF16,Flat", 4 * pools[1].shape[1]), ("IVF4,PQ8", 8)):
        whole, parts = (
            monkeypatch.setattr(index, "SHARD_BYTES", rows * code) or index.knn(*pools, 4, Index(factory, 2))
            for rows in (10**6, 100)
        )
        assert np.array_equal(whole[0], parts[0])


def test_recall_is_measured_on_a_sample_against_the_pool_in_blocks(pools, monkeypatch):
    source, target = pools
    expected = neighbours.knn(source, target, 4)
    monkeypatch.setattr(index, "ROWS_AT_ONCE", 333)
    for a, b in zip(index.exact_knn(source, target, 4), expected, strict=True):
        assert np.array_equal(a, b)
    monkeypatch.setattr(index, "RECALL_QUERIES", 50)
    scores = expected[0].copy()
    assert index.recall(source, target, scores) == 100
    scores[:, 3] = -1  # every query missed its fourth
    assert index.recall(source, target, scores) == 75
    same = np.repeat(target[:1], 6, axis=0)  # all tie: whichever are found are right
    assert index.recall(same, same, index.knn(same, same, 4, Index("Flat"))[0]) == 100


@pytest.mark.parametrize(
    ("how", "message"),
    [
        (
            Index("nonsense"),
            "--index 'nonsense' for vectors of 32 dimensions: could not parse index string nonsense.$",
        ),
        (Index("IVF4,PQ7"), "should be a multiple of the number of subquantizers"),
        (
            Index("IVF1024,Flat"),
            "needs at least 39,936 vectors to train on .39 for each list, .* the pool has 900: take fewer",
        ),
        (Index("IVF16,Flat", 17), "--nprobe 17 with --index 'IVF16,Flat': give 1 to 16"),
        (Index("IVF16,Flat", 0), "--nprobe 0 with"),
        (Index("Flat", 4), "--nprobe 4 with --index 'Flat': it has no lists"),
        (Index("Flat", candidates=0), "--index_candidates 0: give at least 1"),
        (Index("PQ8x12"), "cannot be trained on 900 vectors: .*at least as large as number of clusters"),
    ],
)
def test_indices_that_cannot_be_are_refused_in_one_line(how, message, pools):
    with pytest.raises(UserError, match=message) as error:
        index.knn(*pools, 4, how)
    assert "\n" not in str(error.value) and ".cpp" not in str(error.value)


def test_too_few_neighbours_are_refused(pools):
    with pytest.raises(UserError, match="700 of 700 queries found fewer than 300 neighbours: raise --nprobe"):
        index.knn(*pools, 300, Index("IVF16,Flat", 1))


def test_vectors_are_checked(pools):
    source, target = pools
    with pytest.raises(UserError, match="target vectors: 900 of 900 are not of unit length"):
        index.knn(source, 2 * target, 4, Index("Flat"))
    with pytest.raises(UserError, match="k=901 neighbours"):
        index.knn(source, target, 901, Index("Flat"))


# ---- from rows to results.json --------------------------------------------------------------------------------------


@pytest.fixture
def retrieval(cli, tiny_model, tiny_world, tmp_path):
    """`retrieval("tatoeba", ...)`: what the script made of it on the tiny world."""

    def run(task, *arguments, folder="out"):
        done = cli(
            "run_retrieval.py",
            "--model_name_or_path",
            tiny_model,
            "--data_root",
            tiny_world,
            "--tasks",
            task,
            "--layer",
            1,
            "--output_dir",
            tmp_path / folder,
            *arguments,
        )
        return done, tmp_path / folder / task / "results.json"

    return run


@pytest.mark.parametrize(
    ("task", "measure_name"), [("tatoeba", "recall@1 qaa plain"), ("bucc", "recall@4 bucc qaa test backward")]
)
def test_an_exact_index_changes_no_score_and_its_recall_is_reported(task, measure_name, retrieval, tmp_path, caplog):
    caplog.set_level("INFO")
    done, path = retrieval(task, "--index", "Flat", "--cache_dir", tmp_path / "cache")
    assert done.returncode == 0, done.stderr
    indexed = json.loads(path.read_text())
    plain = json.loads(retrieval(task, folder="plain")[1].read_text())
    assert indexed["scores"] == plain["scores"]
    assert indexed["measures"][measure_name] == 100 and "measures" not in plain
    assert f"{measure_name} 100.0" in caplog.text
    # what lay there for the search is gone
    assert all(path.suffix == ".npy" for path in (tmp_path / "cache").iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["bucc", "--index", "Flat"], "--index searches vectors on disk: give --cache_dir"),
        (["bucc", "--nprobe", 4], "--nprobe goes with --index"),
        (
            ["tatoeba", "--index", "Flat", "--csls", 2, "--cache_dir", "c"],
            "--index is for tatoeba and bucc, without --csls",
        ),
        (["lareqa", "--index", "Flat", "--cache_dir", "c"], "lareqa is searched exactly"),
        (["bucc", "--index", "IDMap,Flat", "--cache_dir", "c"], "--index 'IDMap,Flat': wants ids of its own"),
        (
            ["bucc", "--index", "IVF4,Flat", "--cache_dir", "c"],
            "bucc qaa: --index 'IVF4,Flat' needs at least 256 vectors",
        ),
    ],
)
def test_impossible_index_is_refused_before_embedding(arguments, message, retrieval, monkeypatch):
    monkeypatch.setattr(measure, "embedder", lambda *_: pytest.fail("embedding began"))
    done, path = retrieval(*arguments)
    assert done.returncode == 2 and message in done.stderr and not path.exists()


def test_a_dev_pool_too_small_for_the_index_is_searched_exactly_and_that_is_said(tmp_path):
    draw = np.random.default_rng(0)

    def made(n: int) -> Pools:
        source, target = ([f"{side}{row} of {n}" for row in range(n)] for side in "st")
        return Pools(source, source, target, target, set(zip(source, target, strict=True)))

    vectors = {}  # a translation is its sentence, a little moved

    def embed(sentences, desc):
        for text in sentences:
            vectors[text] = vectors.get("s" + text[1:], draw.standard_normal(16)) + 0.1 * draw.standard_normal(16)
        return {3: np.array([vectors[text] for text in sentences], dtype=np.float32)}

    how = SimpleNamespace(
        index="IVF4,Flat", nprobe=4, index_candidates=None, cache_dir=tmp_path, margin="ratio", mining="max"
    )
    found = measure.mine(BUCC(), {"qaa": {"dev": made(100), "test": made(400)}}, embed, how, 3)
    assert found.layers[3]["qaa"]["f1"] > 90
    assert found.notes == [
        "bucc qaa dev: searched exactly: too few to train the index",
        "bucc qaa test: searched with IVF4,Flat, nprobe 4, 64 candidates, trained on 400 of 400",
    ]
    assert found.measures == {3: {"recall@4 bucc qaa test forward": 100, "recall@4 bucc qaa test backward": 100}}
