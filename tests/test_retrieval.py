"""run_retrieval.py: every task's figures against plain restatements, the layer chosen, the hits kept, and what is
refused."""

from __future__ import annotations

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import records
from datasets import Dataset

from tasks import get_task
from tasks import languages as codes
from tasks.errors import UserError
from tasks.ranking import Pool
from tasks.retrieval import Pools
from tasks.rows import Rows
from xstilts.retrieve import measure, ranks
from xstilts.retrieve.embedding import Encoder
from xstilts.retrieve.headline import Headline, best_layer
from xstilts.retrieve.measurement import Measurement
from xstilts.retrieve.vectors import normalize
from xstilts.xtreme import scoring, submission

RANKED = ("lareqa", "mewslix")


@pytest.fixture
def retrieval(cli, tiny_model, tiny_world, tmp_path):
    """`retrieval("--tasks", "tatoeba", ...)`: runs the script on the tiny world -> {task: results.json}; `folder=` for
    another one."""

    def run(*arguments, folder="out", model=tiny_model, root=tiny_world):
        done = cli(
            "run_retrieval.py",
            "--model_name_or_path",
            model,
            "--data_root",
            root,
            "--output_dir",
            tmp_path / folder,
            *arguments,
        )
        assert done.returncode == 0, done.stderr
        return {path.parent.name: json.loads(path.read_text()) for path in (tmp_path / folder).glob("*/results.json")}

    return run


@pytest.fixture
def refused(cli, tiny_model, tiny_world, tmp_path):
    """`refused("--tasks", ...)`: the one line of the error; no result has been written."""

    def run(*arguments, model=tiny_model, root=tiny_world):
        folder = tmp_path / "refused"
        done = cli(
            "run_retrieval.py", "--model_name_or_path", model, "--data_root", root, "--output_dir", folder, *arguments
        )
        # progress bars are no message
        lines = [line for line in done.stderr.split("\n") if line and "sentence/s" not in line]
        assert done.returncode == 2 and len(lines) == 1 and lines[0].startswith("run_retrieval.py: error: "), (
            done.stderr
        )
        assert not list(folder.rglob("results.json"))
        return lines[0]

    return run


@pytest.fixture
def no_embedding(monkeypatch):
    """Embedding anything is a failure: what is wrong must have been said before."""

    def embed(*_, **__):
        raise AssertionError("a sentence was embedded")

    monkeypatch.setattr(Encoder, "embed", embed)


def broken(world, folder, file, change):
    """A copy of the world in which `change(rows)` was done to one file, a list of dicts."""
    from datasets import load_dataset

    shutil.copytree(world, folder)
    source = folder / f"{file}.parquet"
    rows = load_dataset("parquet", data_files=str(source), split="train").to_list()
    source.unlink()
    changed = change(rows)
    (folder / f"{file}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in changed or rows))
    return folder


# ---- hits -----------------------------------------------------------------------------------------------------------


def test_scores_follow_from_the_hits(retrieval, tmp_path, tiny_world):
    """hits.parquet has every query of every layer and variant; 100 times their mean is what results.json says."""
    import pyarrow.parquet as pq

    found = retrieval("--tasks", "tatoeba", "bucc", *RANKED, "--layer", "all", "--center", "language", "--csls", "2")
    # F1 is no mean over queries
    assert set(found) == {"tatoeba", "bucc", *RANKED} and not (tmp_path / "out/bucc/hits.parquet").exists()
    for name in ("tatoeba", *RANKED):
        table = pq.read_table(tmp_path / "out" / name / "hits.parquet")
        assert {field.name: str(field.type) for field in table.schema} == {
            "language": "string",
            "layer": "int16",
            "variant": "string",
            "query": "string",
            "value": "float",
        }
        hits, record, task, rows = table.to_pandas(), found[name], get_task(name), Rows(tiny_world)
        assert list(record["layers"]) == ["0", "1", "2"]
        means = 100 * hits.groupby(["layer", "language", "variant"])["value"].mean()
        assert len(means) == 3 * len(record["scores"]) * 3
        for (layer, language, variant), mean in means.items():
            metric = record["metric"] if variant == "plain" else f"{record['metric']}_{variant}"
            assert record["layers"][str(layer)][language][metric] == pytest.approx(mean, abs=1e-4), (
                layer,
                language,
                variant,
            )
        assert record["scores"] == record["layers"]["2"]
        for language, n in record["n"].items():
            asked = hits[(hits["language"] == language) & (hits["layer"] == 1) & (hits["variant"] == "csls")][
                "query"
            ].tolist()
            examples = task.load("test", language, rows)
            assert asked == ([str(i) for i in range(n)] if name == "tatoeba" else examples.query_ids)
        note = (
            f"{record['metric']}_centered and {record['metric']}_csls: means and neighbours are those of the "
            "searched sentences alone"
        )
        assert note in record["notes"]


def test_one_layer_has_hits_too(retrieval, tmp_path):
    import pyarrow.parquet as pq

    record = retrieval("--tasks", "tatoeba", "--layer", "1", "--languages", "qab")["tatoeba"]
    hits = pq.read_table(tmp_path / "out/tatoeba/hits.parquet").to_pandas()
    assert set(hits["layer"]) == {1} and set(hits["variant"]) == {"plain"} and set(hits["language"]) == {"qab"}
    assert record["scores"]["qab"]["accuracy"] == pytest.approx(100 * hits["value"].mean(), abs=1e-4)


# ---- ranking --------------------------------------------------------------------------------------------------------


def test_ranks_are_those_of_a_plain_sort():
    draw = np.random.default_rng(0)
    queries = np.sign(draw.standard_normal((150, 12))).astype(np.float32)  # few values: ties everywhere
    candidates = np.sign(draw.standard_normal((90, 12))).astype(np.float32)
    languages = draw.integers(0, 3, 90)
    gold = np.array([[*draw.choice(90, k, replace=False), *[-1] * (5 - k)] for k in draw.integers(1, 6, 150)])
    pooled, within = ranks.gold_ranks(queries, candidates, gold, languages)
    for row, query in enumerate(queries.tolist()):
        order = sorted(
            range(90), key=lambda j: (-sum(a * b for a, b in zip(query, candidates[j].tolist(), strict=True)), j)
        )
        for place, j in enumerate(gold[row].tolist()):
            assert pooled[row, place] == (order.index(j) + 1 if j >= 0 else 0)
            assert within[row, place] == (
                [i for i in order if languages[i] == languages[j]].index(j) + 1 if j >= 0 else 0
            )


def test_language_figures_by_hand():
    """Two questions; languages 0, 1 and 2; the second question has two right sentences in language 0, none in 2."""
    pooled, within = np.array([[1, 4, 9], [3, 8, 2]]), np.array([[1, 2, 2], [1, 4, 1]])
    spoken = np.array([[0, 1, 2], [0, 0, 1]])
    scores, bias = ranks.by_language(pooled, within, spoken, own=0)
    assert scores == {
        "map_multilingual": pytest.approx(100 * ((1 + 2 / 4 + 3 / 9) / 3 + (1 / 2 + 2 / 3 + 3 / 8) / 3) / 2),
        "map_monolingual": pytest.approx(100 * (1 + (1 + 2 / 4) / 2) / 2),
        # language 2 answers the first question alone
        "map_crosslingual": pytest.approx(100 * ((1 / 2 + 1) / 2 + 1 / 2) / 2),
    }
    assert bias == ((9 - 1) + (3 - 2)) / 2  # the better of the two sentences stands for language 0
    alone, bias = ranks.by_language(pooled[:, :1], within[:, :1], spoken[:, :1], own=0)
    assert set(alone) == {"map_multilingual", "map_monolingual"} and bias is None
    # a question that one language answers has no parallel answers
    spoken[1] = [0, 0, -1]
    assert ranks.by_language(pooled, within, spoken, own=0)[1] == 9 - 1


def plain_figures(queries, candidates, pool, own):
    """LAReQA's figures of one language from whole rankings: (map@20, multilingual, monolingual, cross-lingual mAP,
    spreads)."""

    def precision(order, gold, cut=None):
        hits = [rank for rank, name in enumerate(order[:cut], 1) if name in gold]
        return sum(n / rank for n, rank in enumerate(hits, 1)) / min(len(gold), cut or len(gold))

    spoken = dict(zip(pool.candidate_ids, pool.candidate_languages, strict=True))
    cut, multi, mono, cross, spreads = [], [], [], [], []
    for query, gold in zip(queries, pool.gold, strict=True):
        scores = (query.astype(np.float64) @ candidates.astype(np.float64).T).astype(np.float32)
        order = [pool.candidate_ids[j] for j in np.argsort(-scores, kind="stable")]
        cut.append(precision(order, gold, 20))
        multi.append(precision(order, gold))
        maps = {
            code: precision([c for c in order if spoken[c] == code], [g for g in gold if spoken[g] == code])
            for code in dict.fromkeys(spoken.values())
        }
        mono.append(maps.pop(own))
        cross.append(np.mean(list(maps.values())))
        best = [min(order.index(g) for g in gold if spoken[g] == code) for code in dict.fromkeys(spoken.values())]
        spreads.append(max(best) - min(best))
    return [100 * np.mean(figures) for figures in (cut, multi, mono, cross)], np.mean(spreads)


@pytest.mark.parametrize("text", ["sentence", "sentence_context"])
def test_lareqa_is_one_pool_of_all_languages(text, retrieval, tiny_model, tiny_world):
    record = retrieval("--tasks", "lareqa", "--layer", "all", "--report_layer", "1", "--candidate_text", text)[
        "lareqa"
    ]
    encoder, task, rows = Encoder.load(tiny_model, layers=1), get_task("lareqa"), Rows(tiny_world)
    biases = []
    for language, scores in record["scores"].items():
        pool = task.load("test", language, rows)
        texts = [
            a + b if text == "sentence_context" else a for a, b in zip(pool.candidates, pool.contexts, strict=True)
        ]
        queries, candidates = (normalize(encoder.embed(side)[1]) for side in (pool.queries, texts))
        figures, bias = plain_figures(queries, candidates, pool, language)
        names = ("map@20", "map_multilingual", "map_monolingual", "map_crosslingual")
        assert [scores[name] for name in names] == pytest.approx(figures, abs=1e-6)
        biases.append(bias)
    measures = record["measures"]
    assert measures["language_bias"] == pytest.approx(np.mean(biases)) == measures["layer1/language_bias"]
    assert set(measures) == {"language_bias", *(f"layer{k}/language_bias" for k in range(3))}
    assert record["settings"]["candidate_text"] == text


def test_lareqa_answers_have_no_line_end():
    """XTREME-R's (sentence + context).replace("\\n", ""): a line end inside the sentence goes too."""
    pool = Pool([], [], [], ["en_1_0"], ["One\ntwo."], ["One\ntwo. Three.\n"], ["en"])
    assert get_task("lareqa").texts(pool, "sentence_context") == ["Onetwo.Onetwo. Three."]
    assert get_task("lareqa").texts(pool, "sentence") == ["One\ntwo."]


@pytest.mark.parametrize("task", ["tatoeba", *RANKED])
def test_what_is_compared_is_embedded_in_one_call(task, retrieval, monkeypatch):
    """Of two calls sentences of equal tokens get unequal vectors."""
    embed, calls = Encoder.embed, []
    monkeypatch.setattr(Encoder, "embed", lambda *rest, **more: calls.append(rest) or embed(*rest, **more))
    record = retrieval("--tasks", task)[task]
    assert len(calls) == (len(record["scores"]) if task == "tatoeba" else 1)


@pytest.fixture
def real_pools(tiny_world, tmp_path):
    """LAReQA's rows of the world under names of human languages, two of the benchmark's eleven."""
    for language, name in (("en", "en"), ("qaa", "vi")):
        shutil.copytree(tiny_world / "lareqa__xquad-r" / language, tmp_path / "rows" / "lareqa__xquad-r" / name)
    return tmp_path / "rows"


def test_the_pool_stays_whole(retrieval, tiny_world):
    """Fewer queries or languages asked: the candidates are those of all the same."""
    whole = retrieval("--tasks", *RANKED, folder="whole")
    one = retrieval("--tasks", *RANKED, "--languages", "qab", folder="one")
    few = retrieval("--tasks", *RANKED, "--max_eval_samples", "3", folder="few")
    for name in RANKED:
        assert one[name]["scores"] == {"qab": whole[name]["scores"]["qab"]}
        assert set(few[name]["n"].values()) == {3} and few[name]["chance"].keys() == whole[name]["chance"].keys()
    pools = [get_task("lareqa").load("test", code, Rows(tiny_world)) for code in ("en", "qaa", "qab")]
    assert pools[0].candidate_ids == pools[1].candidate_ids == pools[2].candidate_ids
    assert set(pools[0].candidate_languages) == {"en", "qaa", "qab"}


def test_a_pool_smaller_than_the_benchmarks_is_noted(retrieval, real_pools, tiny_world):
    few = retrieval("--tasks", "tatoeba", "--max_eval_samples", "3", "--languages", "qaa")["tatoeba"]
    assert "qaa: only the first 3 sentences are searched (--max_eval_samples)" in few["notes"]
    whole = retrieval("--tasks", "tatoeba", "lareqa", "--max_eval_samples", "1000", folder="whole")
    rows = len(get_task("tatoeba").load("test", "qaa", Rows(tiny_world)))
    exact = retrieval("--tasks", "tatoeba", "--max_eval_samples", str(rows), "--languages", "qaa", folder="exact")
    whole["exact"] = exact["tatoeba"]  # nothing was cut
    assert not any(
        "sentences" in note or "candidates are" in note for record in whole.values() for note in record["notes"]
    )
    record = retrieval("--tasks", "lareqa", root=real_pools, folder="two")["lareqa"]
    assert any(
        note.startswith("candidates are in 2 languages, the benchmark's in 11: without ar, de")
        for note in record["notes"]
    )


def test_submission_files_of_ranking_score_the_same(retrieval, tiny_world, tmp_path):
    found = retrieval("--tasks", *RANKED, "--arm", "none", folder="runs/none/seed0")
    submission.write(tmp_path / "runs", tmp_path / "system")
    submission.gold(Rows(tiny_world), tmp_path / "gold", RANKED)
    scores = scoring.score(tmp_path / "system", tmp_path / "gold", "xtreme-r", found_languages=True)
    for name in RANKED:
        assert scores[name]["avg_metric"] == pytest.approx(found[name]["mean"][found[name]["metric"]])
        assert 0 < scores[name]["avg_metric"] < 100
    submission.gold(Rows(tiny_world), tmp_path / "few", RANKED, max_eval_samples=3)
    assert len(json.loads((tmp_path / "few/lareqa/test-en.json").read_text())) == 3


def test_centring_takes_the_mean_of_each_language_away():
    draw = np.random.default_rng(0)
    vectors, languages = draw.standard_normal((40, 8)).astype(np.float32), np.repeat(["en", "qaa"], 20)
    moved = vectors + np.where(languages == "qaa", 50, 0)[:, None].astype(np.float32)
    assert measure._centered(moved, languages) == pytest.approx(measure._centered(vectors, languages), abs=1e-4)
    how = SimpleNamespace(center="language", csls=None, index=None)
    _, (name, queries, _, _) = measure._variants(moved, moved, how, languages, languages)
    assert name == "centered" and queries == pytest.approx(measure._centered(vectors, languages), abs=1e-4)


# ---- the headline layer ---------------------------------------------------------------------------------------------


def test_best_layer_is_the_lower_of_equals():
    layers = {
        layer: {"qaa": {"f1": one}, "qab": {"f1": other}}
        for layer, one, other in (("2", 30, 10), ("10", 40, 0), ("11", 5, 20))
    }
    assert best_layer(layers, ["qaa", "qab"], "f1") == (2, 20)
    assert best_layer(layers, ["qaa"], "f1") == (10, 40)
    assert best_layer({int(k): v for k, v in layers.items()}, ["qab"], "f1") == (11, 20)
    embeddings = {"0": {"qaa": {"f1": 90}, "qab": {"f1": 90}}}
    assert best_layer(embeddings | layers, ["qaa", "qab"], "f1") == (2, 20)  # layer 0 has no context
    assert best_layer(embeddings, ["qaa"], "f1") == (0, 90)
    for languages, metric in (([], "f1"), (["de"], "f1"), (["qaa"], "accuracy")):
        with pytest.raises(UserError, match="layer"):
            best_layer(layers, languages, metric)
    with pytest.raises(UserError, match="without scores by layer"):
        best_layer({}, ["qaa"], "f1")


def test_layer_chosen_on_languages_that_are_left_out(retrieval):
    whole = retrieval("--tasks", "tatoeba", "--layer", "all", folder="whole")["tatoeba"]
    layer, mean = best_layer(whole["layers"], ["qaa"], "accuracy")
    chosen = retrieval(
        "--tasks", "tatoeba", "lareqa", "--layer", "all", "--select_on", "tatoeba:qaa", "--center", "language"
    )
    assert set(chosen) == {"tatoeba", "lareqa"}
    for name, record in chosen.items():
        assert record["layer"] == layer and record["scores"] == record["layers"][str(layer)]
        assert (
            record["settings"]["select_on"] == "tatoeba:qaa"
            and "qaa" not in record["scores"]
            and "qab" in record["scores"]
        )
        assert record["notes"][:2] == [
            f"layer {layer} chosen on tatoeba qaa: mean accuracy {mean:.2f}, the best above layer 0",
            "qaa left out: the layer was chosen on it",
        ]
        assert [entry["config"] for entry in record["data"]].count("qaa-eng") == 1, name
    assert chosen["tatoeba"]["scores"]["qab"]["f1"] == whole["layers"][str(layer)]["qab"]["f1"]


def test_layer_chosen_on_a_dev_split(retrieval):
    found = retrieval("--tasks", "bucc", "tatoeba", "--layer", "all", "--select_on", "bucc:dev")
    layer, mean = best_layer(found["bucc"]["layers"], ["qaa", "qab"], "dev_f1")
    for record in found.values():
        # dev is not reported, its languages are
        assert record["layer"] == layer and set(record["scores"]) == {"qaa", "qab"}
        assert (
            record["notes"][0]
            == f"layer {layer} chosen on bucc qaa qab dev: mean f1 {mean:.2f}, the best above layer 0"
        )


@pytest.mark.parametrize("selection", ["tatoeba:qaa", "bucc:dev"])
def test_the_rows_a_layer_is_chosen_on_may_be_too_few_for_the_index(selection, retrieval, tiny_world, tmp_path):
    """They are searched exactly, as a small dev pool is; results.json says so, and the choice is that without."""
    root = broken(tiny_world, tmp_path / "rows", "mteb__tatoeba-bitext-mining/qab-eng/test", lambda rows: rows * 26)
    chosen = ("--tasks", "tatoeba", "--languages", "qab", "--layer", "all", "--select_on", selection)
    plain = retrieval(*chosen, root=root)["tatoeba"]
    index = ("--index", "IVF1,Flat", "--cache_dir", tmp_path / "cache")
    found = retrieval(*chosen, *index, folder="indexed", root=root)["tatoeba"]
    assert found["layer"] == plain["layer"] and "recall@1 qab plain" in found["measures"]
    notes = [note for note in found["notes"] if "searched exactly" in note]
    assert [note for note in found["notes"] if note not in notes] == plain["notes"]
    where = [note.partition(": searched")[0] for note in notes]
    assert where == (["--select_on tatoeba:qaa"] if selection == "tatoeba:qaa" else ["bucc qaa dev", "bucc qab dev"])


def test_the_exported_encoder_has_the_layer_chosen(cli, tiny_model, tiny_world, tmp_path):
    from sentence_transformers import SentenceTransformer

    done = cli(
        "run_retrieval.py",
        "--model_name_or_path",
        tiny_model,
        "--data_root",
        tiny_world,
        "--layer",
        "all",
        "--select_on",
        "tatoeba:qaa,qab",
        "--export_sentence_transformers",
        tmp_path / "encoder",
    )
    assert done.returncode == 0, done.stderr
    card = (tmp_path / "encoder/README.md").read_text()
    layer = next(k for k in range(3) if f"layer {k}," in card)
    vectors = SentenceTransformer(str(tmp_path / "encoder"), device="cpu").encode(["one sentence", "another"])
    np.testing.assert_allclose(
        vectors, Encoder.load(tiny_model, layers=layer).embed(["one sentence", "another"])[layer], atol=1e-5
    )


def test_texts_that_are_too_long_are_counted(cli, tiny_model, tiny_world, tmp_path):
    """The tiny model takes 128 tokens, whatever --max_seq_length is."""
    command = ["run_retrieval.py", "--model_name_or_path", tiny_model, "--tasks", "tatoeba", "--languages", "qaa"]
    command += ["--max_seq_length", 512]

    def lengthened(rows):
        return [row | {"sentence1": row["sentence1"] * (40 if i < 3 else 1)} for i, row in enumerate(rows)]

    file = next(tiny_world.glob("mteb__tatoeba*/qaa-eng/*.parquet")).relative_to(tiny_world).with_suffix("")
    long = broken(tiny_world, tmp_path / "long", str(file), lengthened)
    for root, noted in ((tiny_world, False), (long, True)):
        done = cli(*command, "--data_root", root, "--output_dir", tmp_path / root.name)
        assert done.returncode == 0, done.stderr
        notes = records.read(tmp_path / root.name / "tatoeba/results.json")["notes"]
        assert ("3 texts are longer than 128 tokens and were cut there" in notes) == noted


def test_a_changed_tokenizer_is_another_model(cli, tiny_model, tiny_world, tmp_path, caplog):
    caplog.set_level("INFO")
    model = tmp_path / "model"
    shutil.copytree(tiny_model, model)
    command = ["run_retrieval.py", "--model_name_or_path", model, "--data_root", tiny_world, "--tasks", "tatoeba"]
    command += ["--max_eval_samples", 5, "--output_dir", tmp_path / "out"]
    for change, again in ((False, False), (False, False), (True, True)):
        if change:
            (model / "tokenizer_config.json").open("a").write("\n")
        caplog.clear()
        done = cli(*command)
        assert done.returncode == 0, done.stderr
        assert ("the weights or the tokenizer" in caplog.text) == again


def test_a_measurement_with_an_export_can_be_repeated(cli, tiny_model, tiny_world, tmp_path, caplog):
    """A finished one has nothing to do. What is missing of one that was killed is done: the export, or the cell."""
    caplog.set_level("INFO")
    out, exported = tmp_path / "out", tmp_path / "encoder"
    command = ["run_retrieval.py", "--model_name_or_path", tiny_model, "--data_root", tiny_world, "--layer", "all"]
    command += ["--tasks", "tatoeba", "--select_on", "tatoeba:qaa", "--languages", "qab", "--output_dir", out]
    command += ["--export_sentence_transformers", exported]

    def repeat(*more):
        caplog.clear()
        done = cli(*command, *more)
        files = {path: path.stat().st_mtime_ns for path in exported.rglob("*") if path.is_file()}
        return done, files, caplog.text.count("nothing to do")

    done, files, _ = repeat()
    assert done.returncode == 0 and exported / "export.json" in files, done.stderr
    assert str(tmp_path) not in (exported / "export.json").read_text()
    done, again, finished = repeat()
    assert done.returncode == 0 and again == files and finished == 2, done.stderr
    (out / "tatoeba/results.json").unlink()
    done, again, finished = repeat()
    assert done.returncode == 0 and again == files and finished == 1 and (out / "tatoeba/results.json").is_file()
    shutil.rmtree(exported)
    done, again, finished = repeat()
    assert done.returncode == 0 and set(again) == set(files) and finished == 1


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda folder, model: ["--layer", "1"], "layer: 'last' then, '1' now"),
        (lambda folder, model: ["--pooling", "cls"], "pooling: 'mean' then, 'cls' now"),
        (lambda folder, model: (folder / "README.md").write_text("mine") and [], None),
        (lambda folder, model: (folder / "modules.json").write_text("[]") and [], "modules.json is not as"),
        (lambda folder, model: (folder / "model.safetensors").unlink() or [], "model.safetensors is not as"),
        (lambda folder, model: (folder / "export.json").write_text("{") and [], "export.json"),
        (lambda folder, model: (folder / "export.json").unlink() or [], "exists and is not empty"),
        (lambda folder, model: (model / "config.json").open("a").write("\n") and [], "model_weights: "),
    ],
)
def test_only_the_same_export_is_kept(change, told, cli, tiny_model, tmp_path):
    model, folder = tmp_path / "model", tmp_path / "encoder"
    shutil.copytree(tiny_model, model)
    command = ["run_retrieval.py", "--model_name_or_path", model, "--export_sentence_transformers", folder]
    done = cli(*command)
    assert done.returncode == 0, done.stderr
    done = cli(*command, *change(folder, model))
    assert done.returncode == (2 if told else 0) and (told or "") in done.stderr, done.stderr


ALL = ["--tasks", "tatoeba", "--layer", "all"]


@pytest.mark.parametrize(
    "arguments, told",
    [
        ([*ALL, "--select_on", "tatoba:qaa"], "Did you mean tatoeba"),
        ([*ALL, "--select_on", "lareqa:qaa"], "give tatoeba:<languages>"),
        ([*ALL, "--select_on", "xnli:qaa"], "give tatoeba:<languages>"),
        ([*ALL, "--select_on", "tatoeba"], "give tatoeba:<languages>"),
        ([*ALL, "--select_on", "bucc:test"], "or bucc:dev"),
        ([*ALL, "--select_on", "tatoeba:"], "names no language"),
        ([*ALL, "--select_on", "tatoeba: ,"], "names no language"),
        (
            [*ALL, "--select_on", "tatoeba:de"],
            "--select_on de: tatoeba has no test rows in this language; it has qaa qab",
        ),
        ([*ALL, "--select_on", "tatoeba:xx9"], "xx9"),
        (
            [*ALL, "--select_on", "tatoeba:qaa", "--languages", "qaa", "qab"],
            "--select_on tatoeba:qaa: qaa would be reported too (tatoeba)",
        ),
        ([*ALL, "--select_on", "tatoeba:qaa,qab"], "qaa, qab would be reported too (tatoeba)"),
        ([*ALL, "--select_on", "tatoeba:qaa", "--report_layer", "1"], "give one of them"),
        (["--tasks", "tatoeba", "--select_on", "tatoeba:qaa"], "--select_on goes with --layer all"),
        (["--tasks", "tatoeba", "--layer", "1", "--select_on", "bucc:dev"], "--select_on goes with --layer all"),
    ],
)
def test_layers_that_cannot_be_chosen(arguments, told, refused, no_embedding):
    assert told in refused(*arguments)


def test_on_the_hub_what_the_benchmark_reports_is_not_chosen_on():
    how, data_args = SimpleNamespace(report_layer=None, select_on=None), SimpleNamespace()
    headline, hub = Headline(how, data_args, [0, 1, 2]), Rows("hub")
    headline.held_out = ["cs", "da"]
    assert "de" in headline.reported(get_task("tatoeba"), hub, [])[0]
    assert headline.reported(get_task("tatoeba"), hub, ["swe", "de"])[0] == ["sv", "de"]  # all 112 can be asked for
    headline.held_out = ["cs", "de"]
    how.select_on = "tatoeba:ces,deu"
    for wanted in ([], ["cs", "fr"]):
        with pytest.raises(UserError, match="--select_on tatoeba:ces,deu: (de|cs) would be reported too"):
            headline.reported(get_task("tatoeba"), hub, wanted)


@pytest.mark.parametrize(
    "arguments, told",
    [
        (
            ["--tasks", "tatoeba", "--code_switch", "bilingual"],
            "--code_switch changes nothing here: run_retrieval.py only measures",
        ),
        (
            ["--tasks", "tatoeba", "--train_languages", "en", "qaa"],
            "--train_languages changes nothing here: run_retrieval.py only measures",
        ),
        (
            ["--do_train", "--train_tasks", "squad_dual", "--csls", "10"],
            "--csls changes nothing here: --do_train measures nothing",
        ),
        (
            ["--do_train", "--train_tasks", "squad_dual", "--index", "Flat"],
            "--index changes nothing here: --do_train measures nothing",
        ),
    ],
)
def test_arguments_that_would_do_nothing(arguments, told, refused, no_embedding):
    assert told in refused(*arguments)


@pytest.mark.parametrize("task", ["tatoeba", "bucc", "lareqa"])
def test_layer_0_of_the_first_token_is_left_out(task, retrieval):
    """There <s> has the same vector in every text, which centring turns into zeros."""
    arguments = ("--tasks", task, "--layer", "all", "--center", "language", "--languages", "qab")
    found = retrieval(*arguments, "--pooling", "cls")[task]
    assert list(found["layers"]) == ["1", "2"] and found["layer"] == 2
    assert [note for note in found["notes"] if note.startswith("layer 0 left out: ")]
    assert list(retrieval(*arguments, folder="mean")[task]["layers"]) == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("layers", "told"),
    [(["--layer", "0"], "--layer 0: "), (["--layer", "all", "--report_layer", "0"], "--report_layer 0: ")],
)
def test_layer_0_of_the_first_token_is_refused(layers, told, refused, no_embedding, tmp_path):
    """In a measurement and in an export."""
    for what in (["--tasks", "tatoeba"], ["--tasks", "tatoeba", "--export_sentence_transformers", tmp_path / "st"]):
        assert told in refused(*what, *layers, "--pooling", "cls") and not (tmp_path / "st").exists()


def test_layer_0_of_a_first_token_that_is_a_word_is_measured(tiny_model, tmp_path):
    from tokenizers.processors import TemplateProcessing

    shutil.copytree(tiny_model, tmp_path / "model")
    assert Encoder.load(tmp_path / "model", layers="all", pooling="cls").starts_alike
    assert not Encoder.load(tmp_path / "model", layers="all", pooling="mean").starts_alike
    encoder = Encoder.load(tmp_path / "model", layers="all", pooling="cls")
    encoder.tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 2)]
    )
    assert not encoder.starts_alike
    first, second = encoder.embed(["one two", "two one"])[0]
    assert not np.array_equal(first, second)


# ---- special tokens -------------------------------------------------------------------------------------------------


def test_mean_without_special_tokens(retrieval, tiny_model, tiny_world):
    record = retrieval("--tasks", "tatoeba", "--no_include_special")["tatoeba"]
    assert record["settings"]["include_special"] is False
    encoder, rows = (
        Encoder.load(tiny_model, include_special=False),
        get_task("tatoeba").load("test", "qaa", Rows(tiny_world)),
    )
    english, foreign = (normalize(encoder.embed(rows[side])[2]) for side in ("target", "source"))
    hits = (english @ foreign.T).argmax(axis=1) == np.arange(len(rows))
    assert record["scores"]["qaa"]["accuracy"] == pytest.approx(100 * hits.mean())
    assert retrieval("--tasks", "tatoeba", folder="with")["tatoeba"]["settings"]["include_special"] is True


@pytest.mark.parametrize(
    "arguments, told",
    [
        (["--tasks", "tatoeba", "--pooling", "cls"], "--pooling cls takes"),
        (["--export_sentence_transformers", "unused"], "cannot leave out <s> and </s>"),
        (["--do_train", "--train_tasks", "squad_dual"], "counts <s> and </s>"),
    ],
)
def test_special_tokens_that_must_count(arguments, told, refused, no_embedding):
    assert told in refused("--no_include_special", *arguments)


# ---- a finished measurement -----------------------------------------------------------------------------------------


@pytest.fixture
def again(cli, tiny_model, tiny_world, tmp_path, caplog):
    """`again("--tasks", ...)`: the script once more in the folder of `retrieval` -> (error, finished cells)."""
    caplog.set_level("INFO")

    def run(*arguments):
        caplog.clear()
        where = ["--model_name_or_path", tiny_model, "--data_root", tiny_world, "--output_dir", tmp_path / "out"]
        done = cli("run_retrieval.py", *where, *arguments)
        return done.stderr * done.returncode, caplog.text.count("is finished; nothing to do")

    return run


@pytest.mark.parametrize(("typed", "chosen"), [("auto", "fp32"), ("auto", "bf16"), ("bf16", "bf16")])
def test_a_result_without_run_json_has_the_precision_that_was_chosen(typed, chosen, retrieval, again, tmp_path):
    """As a downloaded or unpacked result, which another machine may have made."""
    found = retrieval("--tasks", "tatoeba", "--dtype", typed)["tatoeba"]
    folder = tmp_path / "out/tatoeba"
    (folder / "run.json").unlink()
    settings = found["settings"] | {"dtype": chosen}
    (folder / "results.json").write_text(json.dumps(found | {"settings": settings}))
    assert again("--tasks", "tatoeba", "--dtype", typed) == again("--tasks", "tatoeba") == ("", 1)
    error, _ = again("--tasks", "tatoeba", "--dtype", {"fp32": "bf16", "bf16": "fp32"}[chosen])
    assert f"dtype: '{chosen}' then" in error
    assert "query_side: 'english' then" in again("--tasks", "tatoeba", "--query_side", "foreign")[0]


@pytest.mark.parametrize("noted", [True, False])
def test_what_has_no_effect_on_a_task_does_not_count_in_its_finished_cell(noted, retrieval, again, tmp_path):
    """An option of one task may be added with the task; the cells of the others stay."""
    retrieval("--tasks", "tatoeba", "bucc")
    for note in tmp_path.glob("out/*/run.json") if not noted else ():
        note.unlink()
    error, finished = again("--tasks", "tatoeba", "bucc", "lareqa", "--candidate_text", "sentence_context")
    assert (error, finished) == ("", 2) and (tmp_path / "out/lareqa/results.json").is_file()
    for task, arguments in {
        "bucc": ["--center", "language", "--csls", "2", "--query_side", "foreign", "--max_eval_samples", "3"],
        "tatoeba": ["--margin", "distance", "--mining", "forward", "--max_train_samples", "3"],
        "lareqa": ["--candidate_text", "sentence_context", "--benchmark", "xtreme-r"],
    }.items():
        assert again("--tasks", task, *arguments) == ("", 1), task
    assert "margin: 'ratio' then, 'distance' now" in again("--tasks", "bucc", "--margin", "distance")[0]
    assert "max_eval_samples: None then, 3 now" in again("--tasks", "tatoeba", "--max_eval_samples", "3")[0]
    assert "candidate_text: 'sentence_context' then, 'sentence' now" in again("--tasks", "lareqa")[0]


@pytest.mark.parametrize("task", ["tatoeba", "bucc", "lareqa", "ntrex"])
def test_a_measurement_begins_without_the_files_of_an_earlier_one(task, retrieval, again, tmp_path, monkeypatch):
    """With results.json gone its folder may be measured with other arguments: nothing of the earlier ones is left."""
    pairs = ["--pairs", "all"] * (task == "ntrex")
    retrieval("--tasks", task, *pairs)
    folder = tmp_path / "out" / task
    (folder / "results.json").unlink()
    (folder / "predictions/mine.tsv").write_text("mine")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/de.tsv").touch()
    if not (folder / "candidates").exists():
        (folder / "candidates").symlink_to(tmp_path / "elsewhere")
    written = {path for path in folder.rglob("*") if path.is_file()} - {*folder.glob("candidates/de.tsv")}
    assert [path for path in written if "qaa" in path.name or task == "ntrex"]

    def stop(*_):
        raise UserError("stopped here")

    monkeypatch.setattr(measure, "measure", stop)
    assert "stopped here" in again("--tasks", task, "--languages", "qab")[0]
    left = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert left - {"candidates/de.tsv", "failed.json"} == {"README.md", "run.json", "predictions/mine.tsv"}
    assert (tmp_path / "elsewhere/de.tsv").exists()


# ---- bad input ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value, told", [(float("nan"), "hold NaN"), (3e38, "too large"), (0.0, "is zero")])
@pytest.mark.parametrize("task", ["tatoeba", "bucc", "lareqa"])
def test_vectors_without_a_direction(task, value, told, refused, tiny_model, tmp_path):
    """A model whose last layer gives NaN is refused when it is loaded; one that gives zeros, with task and layer."""
    from safetensors.torch import load_file, save_file

    model = tmp_path / "model"
    shutil.copytree(tiny_model, model)
    weights = load_file(model / "model.safetensors")
    last = [key for key in weights if "layer.1.output.LayerNorm" in key]
    assert last
    save_file(
        weights | {key: weights[key] * 0 + value for key in last},
        model / "model.safetensors",
        metadata={"format": "pt"},
    )
    message = refused("--tasks", task, model=model)
    assert told in message and (value != 0 or (task in message and "layer 2" in message))


def every(**values):
    """A change that sets these columns in all rows."""
    return lambda rows: [row | values for row in rows]


def from_the_end(rows):
    """A mention whose place is counted from the end, which a slice takes."""
    length, span = len(rows[1]["context"]["text"]), rows[1]["mentions"][0]["mention_span"]
    span.update(start=span["start"] - length, end=span["end"] - length)


def a_sentence_of_blanks(rows):
    length = len(rows[1]["context"])
    rows[1]["context"] += "  "
    rows[1]["sentence_breaks"].append([length, length + 2])


BAD_ROWS = [
    (
        "tatoeba",
        "mteb__tatoeba-bitext-mining/qab-eng/test",
        lambda rows: rows[1].update(sentence2=None),
        "row 2, column 'sentence2'",
    ),
    ("bucc", "bucc2018__qab-en/target/test", lambda rows: rows[3].update(id=rows[0]["id"]), "row 4, column 'id'"),
    ("bucc", "bucc2018__qab-en/target/test", lambda rows: rows[2].update(text=" "), "row 3, column 'text'"),
    ("bucc", "bucc2018__qab-en/source/validation", lambda rows: rows[4].update(text=""), "row 5, column 'text'"),
    (
        "bucc",
        "bucc2018__qab-en/gold/test",
        lambda rows: rows[0].update(source_id="qab-9"),
        "'qab-9' is not an id of the source pool",
    ),
    ("bucc", "bucc2018__qab-en/gold/validation", lambda rows: rows.clear(), "it is empty"),
    ("bucc", "bucc2018__qab-en/target/test", every(text="the same"), "the test target pool has 1 different sentences"),
    ("lareqa", "lareqa__xquad-r/qab/test", lambda rows: rows[1]["qas"].append(rows[1]["qas"][0]), "appears twice"),
    ("lareqa", "lareqa__xquad-r/qab/test", every(qas=[]), "no answer of a question starts in a sentence"),
    ("lareqa", "lareqa__xquad-r/qab/test", lambda rows: rows[1].update(context=" "), "row 2"),
    ("lareqa", "lareqa__xquad-r/qab/test", lambda rows: rows[1]["sentence_breaks"][0].__setitem__(0, -4), "row 2"),
    ("lareqa", "lareqa__xquad-r/qab/test", lambda rows: rows[1]["sentence_breaks"][-1].__setitem__(1, 10**6), "row 2"),
    ("lareqa", "lareqa__xquad-r/qab/test", lambda rows: rows[1]["sentence_breaks"].append([0, 3]), "row 2"),
    ("lareqa", "lareqa__xquad-r/qab/test", lambda rows: rows[1]["qas"][0].update(question=None), "row 2"),
    ("lareqa", "lareqa__xquad-r/qab/test", lambda rows: rows[1]["qas"][0].update(question=" "), "row 2, column 'qas'"),
    ("lareqa", "lareqa__xquad-r/qab/test", a_sentence_of_blanks, "row 2, column 'sentence_breaks'"),
    (
        "lareqa",
        "lareqa__xquad-r/qab/test",
        lambda rows: rows[1]["qas"][0]["answers"][0].update(answer_start=-1),
        "row 2",
    ),
    (
        "lareqa",
        "lareqa__xquad-r/qab/test",
        lambda rows: rows[1]["qas"][0]["answers"][0].update(text="elsewhere"),
        "row 2",
    ),
    (
        "mewslix",
        "izhx__mewsli-x/candidate_entities/test",
        lambda rows: rows[1].update(entity_id="Q1"),
        "row 2, column 'entity_id': 'Q1'",
    ),
    (
        "mewslix",
        "izhx__mewsli-x/qab/test",
        lambda rows: rows[0]["mentions"][0].update(entity_id="Q999"),
        "'Q999', which is not a candidate",
    ),
    ("mewslix", "izhx__mewsli-x/qab/test", lambda rows: rows[1].update(rows[0]), "column 'example_id of mentions': "),
    ("mewslix", "izhx__mewsli-x/qab/test", every(mentions=[]), "no row has a mention"),
    ("mewslix", "izhx__mewsli-x/qab/test", lambda rows: rows[1]["mentions"][0].update(example_id=[]), "row 2"),
    ("mewslix", "izhx__mewsli-x/qab/test", lambda rows: rows[1].update(mentions=[None]), "row 2"),
    ("mewslix", "izhx__mewsli-x/qab/test", from_the_end, "is not at character -"),
    (
        "mewslix",
        "izhx__mewsli-x/qab/test",
        lambda rows: rows[1]["mentions"][0]["mention_span"].update(text=" "),
        "row 2, column 'mentions': expected the text",
    ),
]


@pytest.mark.parametrize("task, file, change, told", BAD_ROWS, ids=[f"{task}-{told}" for task, _, _, told in BAD_ROWS])
def test_rows_of_every_language_and_task_are_read_before_a_sentence_is_embedded(
    task, file, change, told, refused, no_embedding, tiny_world, tmp_path
):
    """The last language of the last task has a broken row."""
    first = ["tatoeba"] if task != "tatoeba" else ["lareqa"]
    message = refused("--tasks", *first, task, root=broken(tiny_world, tmp_path / "rows", file, change))
    assert told in message, message


def test_candidates_without_a_description_are_counted(tiny_world, tmp_path):
    file = "izhx__mewsli-x/candidate_entities/test"
    root = broken(tiny_world, tmp_path / "rows", file, lambda rows: rows[2].update(description=" "))
    loaded = get_task("mewslix").read("test", "qab", Rows(root))
    assert [read.record["notes"] for read in loaded.reads if "notes" in read.record] == [
        ["blank descriptions of candidates: 1"]
    ]


@pytest.mark.parametrize("cached", [False, True])
def test_a_sentence_without_a_token_names_its_task_and_language(cached, refused, tiny_model, tiny_world, tmp_path):
    """Only the tokenizer knows that it drops every character of a sentence."""
    from tokenizers.normalizers import Replace
    from transformers import AutoTokenizer

    shutil.copytree(tiny_model, tmp_path / "model")
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    tokenizer.backend_tokenizer.normalizer = Replace("\u200b", "")
    tokenizer.save_pretrained(tmp_path / "model")
    file = "mteb__tatoeba-bitext-mining/qab-eng/test"
    root = broken(tiny_world, tmp_path / "rows", file, lambda rows: rows[1].update(sentence1="\u200b"))
    cache = ["--cache_dir", tmp_path / "cache"] if cached else []
    message = refused("--tasks", "tatoeba", "--no_include_special", *cache, model=tmp_path / "model", root=root)
    assert "tatoeba qab: the sentence " in message and repr("\u200b") in message


@pytest.mark.parametrize(
    "arguments, told",
    [
        (["--tasks", "tatoeba", "--csls", "0"], "--csls 0: give at least 1"),
        (["--tasks", "tatoeba", "--csls", "11"], "--csls 11: tatoeba qaa has 10 queries, expected at least 11"),
        (["--tasks", "mewslix", "--csls", "11"], "--csls 11: mewslix has 8 candidates, expected at least 11"),
        (["--tasks", "tatoeba", "--max_eval_samples", "0"], "--max_eval_samples 0: give 1 at least"),
        (
            ["--tasks", "tatoeba", "--max_eval_samples", "1", "--center", "language"],
            "tatoeba qaa has 1 queries, expected at least 2",
        ),
        (
            ["--tasks", "lareqa", "--max_eval_samples", "1", "--center", "language"],
            "--center language: lareqa en has 1 queries",
        ),
    ],
)
def test_pools_too_small_for_what_is_asked(arguments, told, refused, no_embedding):
    assert told in refused(*arguments)


def test_without_a_hit_on_dev_the_threshold_is_zero(retrieval, tiny_world, tmp_path):
    """Dev's gold pairs are of sentences that stand twice, so none can be found. XTREME then extracts every test
    candidate."""

    def unfindable(rows):
        return [{"source_id": rows[0]["source_id"], "target_id": rows[0]["target_id"]}]

    root = broken(tiny_world, tmp_path / "rows", "bucc2018__qab-en/gold/validation", unfindable)
    twice = unfindable(
        [json.loads(line) for line in (root / "bucc2018__qab-en/gold/validation.jsonl").read_text().splitlines()]
    )[0]

    def double(rows):
        row = next(row for row in rows if row["id"] == twice["source_id"])
        next(other for other in rows if other["id"] != row["id"])["text"] = row["text"]

    root = broken(root, tmp_path / "doubled", "bucc2018__qab-en/source/validation", double)
    record = retrieval("--tasks", "bucc", "--languages", "qab", root=root)["bucc"]
    assert record["scores"]["qab"]["dev_f1"] == 0
    assert "qab, layer 2: no dev candidate is a gold pair, so the threshold is 0, as in XTREME" in record["notes"]
    candidates = (tmp_path / "out/bucc/candidates/qab.tsv").read_text().splitlines()
    assert candidates[0].endswith("score >= 0.000000 (best F1 on dev)")
    assert (
        len((tmp_path / "out/bucc/predictions/bucc2018/test-qab.tsv").read_text().splitlines())
        == len(candidates) - 1
        > 0
    )


def test_a_damaged_cache_is_computed_again(retrieval, tmp_path):
    whole = retrieval("--tasks", "tatoeba", "--cache_dir", tmp_path / "cache", folder="first")["tatoeba"]
    files = list((tmp_path / "cache").iterdir())
    assert len(files) == 2  # a language each
    for file in files:
        file.write_bytes(file.read_bytes()[:-40])
    again = retrieval("--tasks", "tatoeba", "--cache_dir", tmp_path / "cache", folder="second")["tatoeba"]
    assert again["scores"] == whole["scores"]


def test_the_benchmarks_mean_stands_beside_that_of_more_languages():
    """36 languages of XTREME and one more: both means; 36 alone need no second one."""
    benchmark = codes.XTREME["tatoeba"]
    task = get_task("tatoeba")
    for more in (["ces"], []):
        languages = [*benchmark, *map(codes.normalize, more)]
        rows = Dataset.from_dict({"source": ["a", "b"], "target": ["a", "b"]})
        # one hit of two in English order for every language of the benchmark, both for the other
        found = Measurement()
        for language in languages:
            found.answer(task, 0, language, "plain", [0, 0] if language in benchmark else [0, 1], rows)
        measure._finish(found, task, dict.fromkeys(languages, rows))
        assert found.measures.get(0, {}) == ({"accuracy_xtreme": 50.0} if more else {})


# ---- a model of the Hub ---------------------------------------------------------------------------------------------


@pytest.fixture
def revisions(tiny_model, tmp_path, monkeypatch):
    """A Hub model as the cache holds it: its revision `old` is the tiny model, `main` has other weights."""
    from safetensors.torch import load_file, save_file

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    place = tmp_path / "hub" / "models--me--two"
    (place / "refs").mkdir(parents=True)
    for name, commit in (("old", "1" * 40), ("main", "2" * 40)):
        shutil.copytree(tiny_model, place / "snapshots" / commit)
        (place / "refs" / name).write_text(commit)
    file = place / "snapshots" / ("2" * 40) / "model.safetensors"
    save_file({key: weight.flip(0) for key, weight in load_file(file).items()}, file, metadata={"format": "pt"})
    return "me/two"


def test_the_revision_that_was_asked_for_is_measured(revisions, retrieval, cli, tiny_model, tiny_world, tmp_path):
    asked = ("--tasks", "tatoeba", "--layer", "1", "--languages", "qaa", "--cache_dir", str(tmp_path / "vectors"))
    folder = retrieval(*asked, folder="folder")["tatoeba"]["scores"]
    old = retrieval(*asked, "--model_revision", "old", folder="old", model=revisions)["tatoeba"]
    assert old["scores"] == folder != retrieval(*asked, folder="main", model=revisions)["tatoeba"]["scores"]
    assert old["settings"]["model_revision"] == "old"
    few = ("--max_train_samples", "8", "--max_eval_samples", "4", "--max_steps", "1")
    for script, *more in (
        ["run_retrieval.py", *asked],
        ["run_target.py", "--task", "xnli", "--languages", "en", *few],
    ):
        more += ["--model_name_or_path", revisions, "--data_root", tiny_world, "--output_dir", tmp_path / "old"]
        assert cli(script, *more, "--model_revision", "old").returncode == 0
        done = cli(script, *more)
        assert done.returncode == 2 and "1" * 40 in done.stderr and "2" * 40 in done.stderr


def test_one_pool_for_dev_and_test_is_embedded_once(tmp_path):
    """Its candidates are those of two pools that differ in a gold pair alone."""
    draw, calls = np.random.default_rng(0), []
    vectors = {f"{side}{row}": draw.standard_normal(8).astype(np.float32) for row in range(40) for side in "st"}
    source, target = ([f"{side}{row}" for row in range(40)] for side in "st")

    def embed(sentences, desc):
        calls.append(desc)
        return {2: np.array([vectors[text] for text in sentences])}

    def mined(dev_gold):
        test, dev = (Pools(source, source, target, target, gold) for gold in (gold, dev_gold))
        return measure.mine(get_task("bucc"), {"qaa": {"dev": dev, "test": test}}, embed, how, 2)

    how = SimpleNamespace(index=None, cache_dir=tmp_path, margin="ratio", mining="max")
    gold = set(zip(source, target, strict=True))
    one = mined(gold)
    assert calls == ["bucc qaa dev"]
    two = mined(gold | {("s0", "t1")})
    assert calls[1:] == ["bucc qaa dev", "bucc qaa test"]
    lines = [found.files["candidates/qaa.tsv"].splitlines()[1:] for found in (one, two)]
    assert lines[0] == lines[1] and len(lines[0]) > 10
    assert one.notes == ["qaa: the threshold was chosen on the very pairs that are scored"] and two.notes == []


def test_a_line_of_candidates_holds_the_sentences_of_its_own_sides(tmp_path):
    """The two sides have the same ids, and a sentence holds a tab and a line end."""
    draw, ids = np.random.default_rng(0), [f"{row:05}" for row in range(40)]
    vectors = {f"{side}\t{row}\nend": draw.standard_normal(8).astype(np.float32) for row in ids for side in "st"}
    source, target = ([f"{side}\t{row}\nend" for row in ids] for side in "st")
    pools = Pools(ids, source, ids, target, set(zip(ids, ids, strict=True)))
    found = measure.mine(
        get_task("bucc"),
        {"qaa": {"dev": pools, "test": pools}},
        lambda sentences, desc: {2: np.array([vectors[text] for text in sentences])},
        SimpleNamespace(index=None, cache_dir=tmp_path, margin="ratio", mining="max"),
        2,
    )
    for line in found.files["candidates/qaa.tsv"].splitlines()[1:]:
        _, one, other, *sentences = line.split("\t")
        assert sentences == [f"s {one} end", f"t {other} end"]
