"""NTREX and FLORES: one sentence in many languages, English against each and any two, against plain restatements."""

from __future__ import annotations

import itertools
import json
import re

import numpy as np
import pyarrow.parquet as pq
import pytest
from test_retrieval import no_embedding, refused, retrieval  # noqa: F401 - fixtures

from tasks import files, get_task
from tasks.errors import UserError
from tasks.rows import Rows, sha256
from xstilts.report import contrasts, statistics
from xstilts.retrieve import measure, nway
from xstilts.retrieve.embedding import Encoder
from xstilts.retrieve.vectors import normalize
from xstilts.run import inputs

PATH = "mteb__NTREXBitextMining/default/test.jsonl"


@pytest.fixture
def rows(tmp_path):
    """`rows({"eng_Latn": [...], ...})`: NTREX' file with these columns -> (task, Rows)."""

    def write(columns):
        path = tmp_path / PATH
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        return get_task("ntrex"), Rows(tmp_path)

    return write


# ---- rows -----------------------------------------------------------------------------------------------------------


def test_a_column_is_a_language(rows):
    """Whatever else the file holds, a column `id` is not Indonesian, and a language that is not known here is not
    read."""
    task, there = rows(
        {
            "id": [7, 8],
            "zho_Hant": ["甲", "乙"],
            "eng_Latn": ["a", "b"],
            "pes_Arab": ["آ", "ب"],
            "qaa": ["x", "y"],
            "xyz_Latn": [None, "?"],
            "bo": ["no", "no"],
        }
    )
    assert task.languages(there) == ["fa", "qaa", "zh-Hant"]
    assert task.load("test", "zh-Hant", there).to_dict() == {"source": ["甲", "乙"], "target": ["a", "b"]}
    assert there.records[-1]["rows"] == 2


def test_columns_of_a_language_that_are_not_read_are_named(rows):
    names = ["eng_Latn", "deu_Latn", "cmn_Hans", "ekk_Latn", "fra", "por-BR", "id", "row_id", "text", "qaa"]
    task, there = rows({name: ["a", "b"] for name in names})
    notes: list[str] = []
    assert inputs.choose_languages(task, there, [], notes=notes) == ["de", "qaa"]
    (note,) = notes
    assert re.findall(r"column (\S+) \((.*?)\)", note) == [
        ("cmn_Hans", "zh is called zho_Hans here"),
        ("ekk_Latn", "an unknown language"),
        ("fra", "fr is called fra_Latn here"),
        ("por-BR", "pt-BR cannot be a column"),
    ]


def test_a_file_of_many_languages_is_read_once_unless_it_changes(rows, tmp_path, monkeypatch):
    task, there = rows({"eng_Latn": ["a", "b"], "deu_Latn": ["c", "d"], "fra_Latn": ["e", "f"]})
    read = []
    load = files.load
    monkeypatch.setattr(files, "load", lambda path, *rest: read.append(path) or load(path, *rest))
    texts = [task.load("test", language, there)["source"][:] for language in (*task.languages(there), "de")]
    assert texts == [["c", "d"], ["e", "f"], ["c", "d"]] and len(read) == 1
    assert len({record["sha256"] for record in there.records}) == 1

    path = tmp_path / PATH
    path.write_text(path.read_text().replace('"c"', '"new"'))
    assert task.load("test", "de", there)["source"][:] == ["new", "d"] and len(read) == 2
    assert there.records[-1]["sha256"] == sha256(path) != there.records[0]["sha256"]


@pytest.mark.parametrize(
    "columns, language, told",
    [
        (
            {"eng_Latn": ["a", "b"], "fas_Arab": ["1", "2"], "pes_Arab": ["1", "2"]},
            "fa",
            "'fas_Arab' and 'pes_Arab' are both Persian",
        ),
        (
            {"deu_Latn": ["a", "b"], "fra_Latn": ["c", "d"]},
            "fr",
            "no column is English ('eng_Latn'); it has deu_Latn, fra_Latn",
        ),
        ({"eng_Latn": ["a", "b"], "fra_Latn": ["c", "d"]}, "de", "no column is German ('deu_Latn'); it has"),
        ({"eng_Latn": ["a", "b"], "deu_Latn": ["c", None]}, "de", "row 2, column 'deu_Latn': empty (null)"),
        (
            {"eng_Latn": ["a", "b"], "deu_Latn": ["c", " \u3000"]},
            "de",
            "row 2, column 'deu_Latn': expected a sentence",
        ),
        ({"eng_Latn": ["a", ""], "deu_Latn": ["c", "d"]}, "de", "row 2, column 'eng_Latn': expected a sentence"),
        (
            {"eng_Latn": ["a", "b"], "deu_Latn": ["c", 5]},
            "de",
            "row 2, column 'deu_Latn': a number, but the rows before have text",
        ),
    ],
)
def test_rows_that_are_not_parallel_are_refused(rows, columns, language, told):
    task, there = rows(columns)
    with pytest.raises(UserError) as error:
        task.load("test", language, there)
    assert told in str(error.value) and "test.jsonl" in str(error.value)


def test_the_hub_is_asked_for_its_one_file_once(monkeypatch):
    import datasets

    asked = []

    def load(*where):
        asked.append(where[:4])
        data = {"eng_Latn": ["a", "b"], "deu_Latn": ["c", "d"], "xho_Latn": ["e", "f"]}
        return datasets.Dataset.from_dict(data), where[3]

    monkeypatch.setattr("tasks.hub.load", load)
    task, hub = get_task("flores"), Rows("hub")
    assert len(task.languages(hub)) == 203 and "en" not in task.languages(hub)
    assert [task.load("test", code, hub)["source"][:] for code in ("de", "xh")] == [["c", "d"], ["e", "f"]]
    with pytest.raises(UserError, match="no column is Zulu"):
        task.load("test", "zu", hub)
    assert asked == [("mteb/FloresBitextMining", "default", "devtest", "2144d16cc15edd22d4a9237d12bff5f31f5c07fc")]
    assert [record["rows"] for record in hub.records] == [2, 2, 2]


# ---- any two languages ----------------------------------------------------------------------------------------------


def drawn(languages, n, seed=0, dim=8):
    """{language: unit vectors}: of few values, so that some are equal."""
    rng = np.random.default_rng(seed)
    shared = rng.integers(-1, 2, (n, dim)) + 0.01
    return {code: normalize((shared + rng.integers(-1, 2, (n, dim)) * 0.8).astype("float32")) for code in languages}


def plain(query, passage):
    """Whether each query's nearest is its own row: the first of equals, in float64 rounded as `mining` rounds."""
    cosine = (query.astype(float) @ passage.astype(float).T).astype("float32")
    return cosine.argmax(1) == np.arange(len(query))


@pytest.mark.parametrize("n, tile", [(40, 4096), (700, 4096), (700, 256)])  # one tile, and several
def test_every_pair_is_every_pair(n, tile, monkeypatch):
    monkeypatch.setattr(nway, "TILE", tile)
    query, passage = drawn("abcd", n), drawn("abcd", n, seed=5)
    for asked in (None, passage):
        values, accuracies = nway.every_pair(query, asked)
        hits = {(a, b): plain(query[a], (asked or query)[b]) for a, b in itertools.permutations("abcd", 2)}
        assert accuracies == {pair: pytest.approx(100 * hit.mean()) for pair, hit in hits.items()}
        for code, of_query in values.items():
            both = [hit for pair, hit in hits.items() if code in pair]
            assert len(both) == 6 and of_query == pytest.approx(np.mean(both, axis=0))
        assert np.mean([100 * value.mean() for value in values.values()]) == pytest.approx(
            np.mean(list(accuracies.values()))
        )
    assert 0 < np.mean(list(accuracies.values())) < 100


def test_only_a_row_that_rounding_leaves_open_is_searched(monkeypatch):
    """Twenty sentences of one language stand there twice: their own cosine is also that of another row."""
    rng, n, searched = np.random.default_rng(0), 500, []
    left, right = (normalize(rng.standard_normal((n, 64)).astype("float32")) for _ in range(2))
    left = normalize(left + 2 * right)
    right[20:40] = right[:20]
    search = nway.plain_knn
    monkeypatch.setattr(nway, "plain_knn", lambda rows, *rest: searched.append(len(rows)) or search(rows, *rest))
    forward, backward = nway.own_hits(left, right)
    assert np.array_equal(forward, plain(left, right)) and np.array_equal(backward, plain(right, left))
    assert not forward[20:40].any() and forward[:20].any()
    assert sum(searched) <= 40


# ---- through the script ---------------------------------------------------------------------------------------------


def vectors_of(model, texts, layer):
    encoder = Encoder.load(str(model), layers=layer)
    return normalize(encoder.embed(texts)[layer])


def test_scores_are_those_of_the_plain_search(retrieval, tiny_model, tiny_world, tmp_path):  # noqa: F811
    found = retrieval(
        "--tasks", "ntrex", "flores", "--pairs", "all", "--layer", "all", "--report_layer", "1", "--center", "language"
    )
    for name, record in found.items():
        rows, task = Rows(tiny_world), get_task(name)
        texts = {code: task.load("test", code, rows)["source"][:] for code in ("qaa", "qab")}
        texts["en"] = task.load("test", "qaa", rows)["target"][:]
        n = len(texts["en"])
        unit = vectors_of(tiny_model, [text for code in texts for text in texts[code]], 1)
        unit = {code: unit[i * n : (i + 1) * n] for i, code in enumerate(texts)}
        between = {(a, b): 100 * plain(unit[a], unit[b]).mean() for a, b in itertools.permutations(unit, 2)}
        expected = {
            code: {
                "accuracy": between["en", code],
                "accuracy_reverse": between[code, "en"],
                "accuracy_without_english": (between["qaa", "qab"] + between["qab", "qaa"]) / 2,
            }
            for code in ("qaa", "qab")
        }
        for code, by_metric in expected.items():
            assert {metric: record["scores"][code][metric] for metric in by_metric} == pytest.approx(by_metric)
        assert record["mean"]["accuracy_without_english"] == pytest.approx(
            (between["qaa", "qab"] + between["qab", "qaa"]) / 2
        )
        layers = {
            layer: {metric for by in scores.values() for metric in by} for layer, scores in record["layers"].items()
        }
        assert {"accuracy", "accuracy_reverse", "accuracy_centered"} <= layers["0"] & layers["2"]
        assert [layer for layer, metrics in layers.items() if "accuracy_without_english" in metrics] == ["1"]
        pairs = [line.split("\t") for line in (tmp_path / "out" / name / "pairs.tsv").read_text().splitlines()[1:]]
        assert {(a, b): float(value) for a, b, value in pairs} == pytest.approx(
            {pair: value for pair, value in between.items() if "en" not in pair}, abs=1e-4
        )
        hits = pq.read_table(tmp_path / "out" / name / "hits.parquet").to_pandas()
        for (layer, language, variant), mean in (
            100 * hits.groupby(["layer", "language", "variant"])["value"].mean()
        ).items():
            metric = "accuracy" if variant == "plain" else f"accuracy_{variant}"
            assert record["layers"][str(layer)][language][metric] == pytest.approx(mean, abs=1e-4)
        assert hits[hits["layer"] == 1].groupby(["language", "variant"]).size().to_dict() == {
            (code, variant): n
            for code in ("qaa", "qab")
            for variant in ("plain", "centered", "reverse", "without_english")
        }


def test_the_other_side_asks(retrieval):  # noqa: F811
    english, foreign = (
        retrieval("--tasks", "ntrex", "--query_side", side, folder=side)["ntrex"] for side in ("english", "foreign")
    )
    for code, by in english["scores"].items():
        other = foreign["scores"][code]
        assert (by["accuracy"], by["accuracy_reverse"]) == (other["accuracy_reverse"], other["accuracy"])
    assert "pairs" not in english["settings"]  # so that folders of older versions stay finished


def test_each_language_is_embedded_once(retrieval, tiny_world, monkeypatch):  # noqa: F811
    embed, calls = Encoder.embed, []
    monkeypatch.setattr(
        Encoder, "embed", lambda self, texts, **more: calls.append(list(texts)) or embed(self, texts, **more)
    )
    n = len(get_task("ntrex").load("test", "qaa", Rows(tiny_world)))
    retrieval(
        "--tasks", "ntrex", "--pairs", "all", "--query_prompt", "query: ", "--passage_prompt", "query: ", folder="same"
    )
    assert [len(texts) for texts in calls] == [3 * n] and all(text.startswith("query: ") for text in calls[0])
    calls.clear()
    retrieval(
        "--tasks",
        "ntrex",
        "--pairs",
        "all",
        "--query_prompt",
        "query: ",
        "--passage_prompt",
        "passage: ",
        folder="two",
    )
    assert [len(texts) for texts in calls] == [2 * 3 * n]  # each asks and is asked, as other texts
    assert sum(text.startswith("passage: ") for text in calls[0]) == 3 * n


def test_prompts_go_to_the_side_that_asks():
    """English asks with the query's prompt; in reverse it is asked with the passage's."""
    from datasets import Dataset

    rng = np.random.default_rng(0)
    known = {}

    def embed(texts, desc):
        return {0: np.stack([known.setdefault(text, rng.standard_normal(6).astype("float32")) for text in texts])}

    embed.prompts = {"query": "q ", "passage": "p "}
    how = type("How", (), {"query_side": "english", "pairs": "all", "center": "none", "csls": None, "index": None})
    examples = {
        code: Dataset.from_dict({"source": [f"{code}{i}" for i in range(30)], "target": [f"en{i}" for i in range(30)]})
        for code in ("de", "xh")
    }
    found = measure.retrieve(get_task("ntrex"), examples, embed, how, 0)
    unit = {
        side: {
            code: normalize(np.stack([known[f"{side} {code}{i}"] for i in range(30)])) for code in ("en", "de", "xh")
        }
        for side in "qp"
    }
    for code, other in (("de", "xh"), ("xh", "de")):
        assert found.layers[0][code]["accuracy"] == pytest.approx(100 * plain(unit["q"]["en"], unit["p"][code]).mean())
        assert found.layers[0][code]["accuracy_reverse"] == pytest.approx(
            100 * plain(unit["q"][code], unit["p"]["en"]).mean()
        )
        both = [plain(unit["q"][a], unit["p"][b]).mean() for a, b in ((code, other), (other, code))]
        assert found.layers[0][code]["accuracy_without_english"] == pytest.approx(100 * np.mean(both))


def test_layer_chosen_on_a_language_that_is_not_reported(retrieval):  # noqa: F811
    record = retrieval("--tasks", "ntrex", "--layer", "all", "--select_on", "ntrex:qab")["ntrex"]
    assert set(record["scores"]) == {"qaa"}
    assert any(note.startswith(f"layer {record['layer']} chosen on ntrex qab") for note in record["notes"])


@pytest.mark.parametrize(
    "arguments, told",
    [
        (["--tasks", "tatoeba", "--pairs", "all"], "--pairs all goes with --tasks ntrex or flores"),
        (["--tasks", "lareqa", "--pairs", "all"], "--pairs all goes with --tasks ntrex or flores"),
        (["--tasks", "ntrex", "--pairs", "all", "--languages", "qaa"], "--pairs all: ntrex has only qaa"),
        (["--tasks", "ntrex", "--index", "Flat", "--cache_dir", "/tmp"], "ntrex is searched exactly"),
        (["--tasks", "ntrex", "--languages", "en"], "ntrex has no test rows"),
        (["--tasks", "ntrex", "--csls", "99"], "--csls 99: ntrex qaa has 10 queries"),
    ],
)
def test_impossible_measurement(arguments, told, refused, no_embedding):  # noqa: F811
    assert told in refused(*arguments)


def test_flores_is_not_measured_after_sib200(tiny_model, tiny_world, refused, no_embedding, retrieval, cli, tmp_path):  # noqa: F811
    """SIB-200's train sentences are FLORES' own: refused, of a checkpoint and of one trained on from it; NTREX is
    not."""
    first, second = tmp_path / "runs/sib200/seed0", tmp_path / "runs/more/seed0"
    few = (
        "--data_root",
        tiny_world,
        "--max_steps",
        1,
        "--per_device_train_batch_size",
        4,
        "--max_seq_length",
        32,
        "--bf16",
        "False",
    )
    for task, model, folder in (("sib200", tiny_model, first), ("copa", first, second)):
        done = cli("run_intermediate.py", "--tasks", task, "--model_name_or_path", model, "--output_dir", folder, *few)
        assert done.returncode == 0, done.stderr
    for model in (first, second):
        assert "was trained on Davlan/sib200" in refused("--tasks", "ntrex", "flores", model=model)


# ---- intervals ------------------------------------------------------------------------------------------------------


def test_languages_that_are_asked_the_same_do_not_make_the_interval_narrower():
    """Twenty languages in which every query is gained and lost alike say no more than one."""
    rng = np.random.default_rng(0)
    one = rng.normal(1, 1, (3, 1)) + rng.normal(0, 30, 200) + rng.normal(0, 10, (3, 200))
    same = {f"l{i}": one for i in range(20)}
    alone, shared, apart = (
        statistics.estimate({"l": one}),
        statistics.estimate(same, shared=True),
        statistics.estimate(same),
    )
    for name in ("interval", "t_interval", "bootstrap_interval", "p"):
        assert getattr(shared, name) == pytest.approx(getattr(alone, name), rel=0.03, abs=0.02), name
    assert (shared.n_queries, apart.n_queries) == (200, 4000)
    assert np.ptp(shared.interval) > 1.5 * np.ptp(apart.interval)
    assert shared.per_language == apart.per_language and shared.difference == apart.difference


def test_shared_intervals_cover():
    """The truth is 0, a query is odd in all languages alike and in each on its own: outside about 1 time in 20."""
    rng, inside = np.random.default_rng(1), 0
    for _ in range(400):
        of_seed, of_query = 1.5 * rng.standard_normal((3, 1)), rng.normal(0, 20, 100)
        sample = {
            code: of_seed + of_query + rng.normal(0, 15, 100) + rng.normal(0, 10, (3, 100)) for code in "abcdefgh"
        }
        low, high = statistics.estimate(sample, shared=True, draws=2).interval
        inside += low <= 0 <= high
    assert 0.92 < inside / 400 < 0.98


def test_languages_resampled_too_keep_their_queries():
    differences = {"a": np.full((3, 5), 9.0), "b": np.full((3, 5), 3.0), "c": np.full((3, 5), 0.0)}
    means, over_languages = statistics.bootstrap(differences, draws=20_000, shared=True)
    assert np.allclose(means, 4.0)
    slow = [np.mean(np.random.default_rng(i).choice([9.0, 3.0, 0.0], 3)) for i in range(4000)]
    assert over_languages.std() == pytest.approx(np.std(slow), rel=0.05)
    with pytest.raises(UserError, match="as many in each"):
        statistics.estimate({"a": np.zeros((3, 5)), "b": np.zeros((3, 6))}, shared=True)


def test_which_tasks_ask_the_same_in_every_language():
    import pandas as pd

    index = {code: pd.Index(["0", "1"]) for code in ("de", "xh")}
    assert contrasts._are_shared("ntrex", index) and not contrasts._are_shared("tatoeba", index)
    assert contrasts._are_shared("lareqa", {code: pd.Index([f"q1_{code}", f"q2_{code}"]) for code in ("de", "th")})
    with pytest.raises(UserError, match="the 1 queries of xh are not those of de"):
        contrasts._are_shared("ntrex", index | {"xh": pd.Index(["0"])})
