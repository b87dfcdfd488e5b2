"""The report of `make question`, on results and hits written by hand with effects planted in them."""

import csv
import json
import os
import re
import shutil
from argparse import Namespace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import records
import yaml

from tasks import coverage
from tasks.errors import UserError
from xstilts.cli.arms import read_arm
from xstilts.report import charts, curve, question, question_plots, question_tables, statistics
from xstilts.report import contrasts as cs
from xstilts.report import matrix as mx
from xstilts.report.contrasts import SEEN, UNSEEN
from xstilts.report.layer_choice import choose_layer
from xstilts.report.spec import read_spec

ROOT = Path(__file__).parents[1]
SEEN_LANGUAGES, UNSEEN_LANGUAGES, SELECT = ["qaa", "qab"], ["qac", "qad"], ["qae"]
QUERIES, LAYERS = 400, (0, 1, 2)
SPEC = {
    "families": {
        "nli": {"E": "mnli", "M": "mnli_multilingual", "shuffled": "mnli_shuffled"},
        "mlm": {"E": "mlm_en", "M": "mlm"},
    },
    "primary": {"family": "nli", "role": "M"},
    "select_languages": SELECT,
    "fixed_layer": 2,
}
# where the rest does not matter
SMALL = {"families": {"nli": {"E": "mnli", "M": "mnli_multilingual"}}, "fixed_layer": None}
TRAINED = {
    "mnli": [],
    "mnli_multilingual": SEEN_LANGUAGES,
    "mnli_shuffled": [],
    "mlm_en": ["en"],
    "mlm": ["en", *SEEN_LANGUAGES],
}
RECORD = {
    "chance": None,
    "at_chance": False,
    "settings": {},
    "model": "tiny",
    "parents": ["tiny"],
    "seconds": 1.0,
    "metric": "accuracy",
    "data": [{"id": "some/tatoeba", "config": "x", "split": "test", "rows": 400, "revision": "r1"}],
}


def write_training(root, arm, seed, languages, **changes):
    """Phase 2: what it trained on."""
    phase = "mlm" if arm.startswith("mlm") else "intermediate"
    settings = {"text_languages": languages} if phase == "mlm" else {"seen_languages": languages}
    record = RECORD | {
        "phase": phase,
        "task": arm.partition("_")[0],
        "form": "some",
        "arm": arm,
        "seed": seed,
        "dev": {"en": {"accuracy": 60.0}},
        "scores": {},
        "n": {},
        "settings": settings,
        "measures": {"rows": 1000, "steps": 50, "tokens": 12345 + seed},
    }
    records.write(root / arm / f"seed{seed}" / "results.json", record | changes)


def write_cell(root, arm, seed, gains, skip=(), ids=None, more=(), **changes):
    """Retrieval: hits whose rate is 40 % at layer 1 plus the gain of the language, in points; 10 less at the other
    layers.

    The queries and their ease are the same everywhere. Centred accuracy is 20 above the plain one.
    """
    ease = np.linspace(0, 1, QUERIES, endpoint=False)
    noise = np.random.default_rng([seed, *arm.encode()])
    frames, layers = [], {}
    for layer in LAYERS:
        for language in [*SEEN_LANGUAGES, *UNSEEN_LANGUAGES, *SELECT, *more]:
            if language in skip:
                continue
            of_layer = {0: -10, 1: 0, 2: -10}[layer] + gains.get(language, gains.get("all", 0))
            for variant, higher in (("plain", 0), ("centered", 20)):
                hit = ease < (40 + of_layer + higher) / 100 + noise.normal(0, 0.005, QUERIES)
                frames.append(
                    pd.DataFrame(
                        {
                            "language": language,
                            "layer": layer,
                            "variant": variant,
                            "value": hit.astype("float32"),
                            "query": (ids or {}).get(language) or [f"s{i}" for i in range(QUERIES)],
                        }
                    )
                )
                metric = "accuracy" if variant == "plain" else "accuracy_centered"
                layers.setdefault(str(layer), {}).setdefault(language, {})[metric] = 100 * hit.mean()
    folder = root / arm / f"seed{seed}" / "tatoeba"
    folder.mkdir(parents=True, exist_ok=True)
    pd.concat(frames).astype({"layer": "int16"}).to_parquet(folder / "hits.parquet", index=False)
    record = RECORD | {
        "phase": "retrieval",
        "task": "tatoeba",
        "form": "retrieval",
        "arm": arm,
        "seed": seed,
        "dev": {},
        "layer": 2,
        "scores": layers["2"],
        "n": dict.fromkeys(layers["2"], QUERIES),
        "pooling": "mean",
        "layers": layers,
    }
    records.write(folder / "results.json", record | changes)
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Three seeds. M gains 6 points in seen languages and none in unseen ones; shuffled labels lose 5 everywhere.

    The seeds move both arms of a pair alike, so that little is left to chance.
    """
    root = tmp_path_factory.mktemp("question")
    for seed, moved in enumerate((0.0, 1.0, -1.0)):
        arms = {
            "none": {"all": 0.0},
            "mnli": {"all": 3.0},
            "mnli_shuffled": {"all": -2.0},
            "mlm_en": {"all": 0.0},
            "mnli_multilingual": {"all": 3.0, **dict.fromkeys(SEEN_LANGUAGES, 9.0)},
            "mlm": {"all": 5.0},
        }
        for arm, gains in arms.items():
            write_cell(root, arm, seed, {language: gain + moved for language, gain in gains.items()})
            if arm != "none":
                write_training(root, arm, seed, TRAINED[arm])
    return root


@pytest.fixture
def runs(made, tmp_path):
    """A copy of `made`, to be spoiled."""
    return shutil.copytree(made, tmp_path / "runs")


@pytest.fixture
def ask(tmp_path, monkeypatch):
    """`ask(root, **changes)`: the question of SPEC with changes, its bootstrap shortened."""
    monkeypatch.setattr(statistics.estimate, "__defaults__", (300, 0))

    def asked(root, arms=(), seeds=(), seeds_of=None, **changes):
        path = tmp_path / "question.yaml"
        path.write_text(yaml.safe_dump(SPEC | changes, sort_keys=False))
        return cs.ask(mx.collect(root, arms=arms, seeds=seeds, seeds_of=seeds_of), read_spec(path))

    return asked


def find(asked, family, role, kind, against="E"):
    return next(c for c in asked.contrasts if (c.family, c.roles, c.kind) == (family, (role, against), kind))


# What comes out


def test_english_is_no_unseen_language(runs, ask):
    """LAReQA asks in English too, and every phase 2 trains on it."""
    for arm in ("none", "mnli", "mnli_multilingual"):
        for seed in range(3):
            gains = {"all": seed, "en": -30 if arm == "mnli_multilingual" else seed}
            write_cell(runs, arm, seed, gains, more=["en"])
    asked = ask(runs, arms=["none", "mnli", "mnli_multilingual"], **SMALL)
    assert asked.reported == (*SEEN_LANGUAGES, *UNSEEN_LANGUAGES)
    assert set(asked.primary.estimate.per_language) == set(UNSEEN_LANGUAGES)
    assert abs(asked.primary.estimate.difference) < 2


def test_a_training_of_a_seed_that_was_not_asked_for_is_in_no_figure(runs, ask):
    for arm in ("mnli", "mnli_multilingual"):
        changes = {"at_chance": True, "dev": {"en": {"accuracy": 34.0}}, "measures": {"rows": 7, "steps": 50}}
        write_training(runs, arm, 2, [*TRAINED[arm], "qac"], **changes)
    asked = ask(runs, seeds=[0, 1], **SMALL)
    (family,) = asked.families
    assert family.failed == () and family.unseen == tuple(UNSEEN_LANGUAGES)
    rows = dict(question_tables.training_table(asked).rows)
    assert [cell.text for cell in rows["mnli"]][1:3] + [rows["mnli"][-1].text] == ["1,000", "50", "60.0"]


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"learning_rate": 1e-3}, "learning_rate in phase 2 of"),
        ({"per_device_train_batch_size": 4}, "rows a step and device in phase 2"),
        ({"language_mode": "multilingual", "logging_steps": 3}, None),  # what the arm is, and what changes nothing
    ],
)
def test_arms_of_a_family_that_were_trained_otherwise_are_named(runs, ask, settings, named):
    for seed in (0, 1, 2):
        path = runs / f"mnli_multilingual/seed{seed}/results.json"
        record = json.loads(path.read_text())
        path.write_text(json.dumps(record | {"settings": record["settings"] | settings}))
    problems = " ".join(ask(runs).problems)
    assert named in problems if named else problems == ""


def test_planted_effects_and_the_planted_null_come_out(runs, ask):
    asked = ask(runs)
    assert asked.problems == []
    assert find(asked, "nli", "M", UNSEEN).verdict == "undecided (within 1 point in 3 seeds)"
    assert find(asked, "nli", "M", SEEN).verdict == "M better"
    assert find(asked, "nli", "shuffled", UNSEEN).verdict == find(asked, "nli", "shuffled", SEEN).verdict == "E better"
    assert find(asked, "nli", "E", UNSEEN, "none").verdict == "E better"
    assert find(asked, "mlm", "M", UNSEEN).verdict == "M better"
    assert asked.primary is find(asked, "nli", "M", UNSEEN)
    assert find(asked, "nli", "M", SEEN).found.difference == pytest.approx(6, abs=0.5)
    assert find(asked, "nli", "shuffled", SEEN).found.difference == pytest.approx(-5, abs=0.5)


def test_difference_is_that_of_the_files(runs, ask):
    """Worked out again from hits.parquet alone."""
    contrast = find(ask(runs), "nli", "M", SEEN)
    by_seed = []
    for seed in range(3):
        gap = 0.0
        for arm, sign in (("mnli_multilingual", 1), ("mnli", -1)):
            hits = pd.read_parquet(runs / arm / f"seed{seed}/tatoeba/hits.parquet")
            hits = hits[(hits["layer"] == 1) & (hits["variant"] == "plain") & hits["language"].isin(SEEN_LANGUAGES)]
            gap += sign * 100 * hits.groupby("language")["value"].mean().mean()
        by_seed.append(gap)
    assert contrast.found.per_seed == pytest.approx(by_seed)
    assert contrast.means[0] - contrast.means[1] == pytest.approx(contrast.found.difference)


def test_queries_are_paired_by_id_not_by_place(runs, ask):
    before = find(ask(runs, **SMALL), "nli", "M", SEEN).found
    path = runs / "mnli/seed1/tatoeba/hits.parquet"
    pd.read_parquet(path).sample(frac=1, random_state=0).to_parquet(path, index=False)
    assert find(ask(runs, **SMALL), "nli", "M", SEEN).found == before


def test_seen_and_unseen_come_from_phase_2(runs, ask):
    asked = ask(runs)
    assert [family.seen for family in asked.families] == [tuple(SEEN_LANGUAGES)] * 2
    assert [family.unseen for family in asked.families] == [tuple(UNSEEN_LANGUAGES)] * 2
    # Another family's M saw one more language: each family has its own sets, and there is a common one.
    for seed in range(3):
        write_training(runs, "mlm", seed, ["en", *SEEN_LANGUAGES, "qac"])
    asked = ask(runs)
    assert [family.unseen for family in asked.families] == [("qac", "qad"), ("qad",)]
    [common] = [c for c in asked.others if c.kind == cs.COMMON and (c.family, c.roles) == ("nli", ("M", "E"))]
    assert common.languages == ("qad",) and common.verdict == "" and common.found is not None


def test_masked_lm_beside_a_task_does_not_move_its_unseen_languages(runs, ask):
    families = {"nli": SPEC["families"]["nli"] | {"MLM": "mlm"}}
    for seed in range(3):
        write_training(runs, "mlm", seed, [*SEEN_LANGUAGES, *UNSEEN_LANGUAGES])
    [family] = ask(runs, families=families).families
    assert family.unseen == tuple(UNSEEN_LANGUAGES)


def test_layer_is_chosen_on_languages_that_are_not_reported(runs, ask):
    asked = ask(runs, **SMALL)
    assert asked.readout == cs.ReadOut(1) and "qae" not in asked.reported
    assert asked.selection == pytest.approx({1: 41, 2: 31.5}, abs=1)  # layer 0, the embeddings, is no candidate
    for seed in range(3):  # of M alone, whose layers have no say
        write_cell(runs, "mnli_multilingual", seed, {"all": 3.0, "qae": 60.0})
    assert ask(runs, **SMALL).selection == asked.selection
    assert ask(runs, **SMALL | {"fixed_layer": 2, "select_languages": []}).readout == cs.ReadOut(2)


def test_other_readouts_stand_beside_without_a_verdict(runs, ask):
    asked = ask(runs)
    assert {str(c.readout) for c in asked.others} == {"layer 1, centered", "layer 2"}
    assert all(c.verdict == "" and not c.primary for c in asked.others)
    [centred] = [
        c
        for c in asked.others
        if c.readout.variant == "centered" and c.name == "M − E" and (c.family, c.kind) == ("nli", SEEN)
    ]
    assert centred.means[1] == pytest.approx(find(asked, "nli", "M", SEEN).means[1] + 20, abs=1)


def test_all_but_the_primary_are_corrected_within_their_family_and_languages(runs, ask):
    asked = ask(runs)
    assert asked.primary.p == asked.primary.found.p
    for kind in (UNSEEN, SEEN):
        others = [c for c in asked.contrasts if (c.family, c.kind) == ("nli", kind) and not c.primary]
        assert [c.p for c in others] == statistics.holm([c.found.p for c in others])
        assert any(c.p > c.found.p for c in others)


# What is refused


def refused(asked, *parts):
    """The nli M - E contrast on unseen languages was not computed, and its reason is listed and has these words."""
    contrast = find(asked, "nli", "M", UNSEEN)
    assert contrast.found is None and contrast.verdict == "not computed"
    assert all(part in contrast.why for part in parts), contrast.why
    assert any(contrast.why in problem for problem in asked.problems)
    assert question.answer(asked).startswith("Not computed") and contrast.why in question.answer(asked)


def test_other_query_ids(runs, ask):
    write_cell(runs, "mnli", 1, {"all": 3.0}, ids={"qad": [f"s{i}" for i in range(1, QUERIES + 1)]})
    asked = ask(runs, **SMALL)
    refused(asked, "qad", "mnli, seed 1", "2 are not in both")
    assert find(asked, "nli", "M", SEEN).found is not None  # other languages, and their ids are right


def test_same_numbers_but_other_rows(runs, ask):
    data = [RECORD["data"][0] | {"revision": "r2"}]
    write_cell(runs, "mnli", 1, {"all": 3.0}, data=data)
    refused(ask(runs, **SMALL), "different rows")


@pytest.mark.parametrize("changes", [{"settings": {"query_side": "foreign"}}, {"pooling": "cls"}])
def test_a_cell_measured_otherwise_is_in_no_contrast(runs, ask, changes):
    write_cell(runs, "mnli", 1, {"all": 3.0}, **changes)
    refused(ask(runs, **SMALL), "different seeds", "mnli has 0 2")


def test_missing_seed(runs, ask):
    (runs / "mnli/seed2/tatoeba/results.json").unlink()
    refused(ask(runs, **SMALL), "different seeds", "mnli_multilingual has 0 1 2", "mnli has 0 1")


def test_language_missing_in_one_arm(runs, ask):
    for seed in range(3):
        folder = write_cell(runs, "mnli", seed, {"all": 3.0})
        hits = pd.read_parquet(folder / "hits.parquet")
        hits[hits["language"] != "qac"].to_parquet(folder / "hits.parquet", index=False)
    refused(ask(runs, **SMALL), "qac is missing in the hits of mnli, seed 0")


def test_language_missing_in_the_results(runs, ask):
    write_cell(runs, "mnli", 0, {"all": 3.0}, skip=["qac"])
    asked = ask(runs, **SMALL)
    refused(asked, "different seeds")
    assert any("another metric or row count" in problem for problem in asked.problems)


def test_mixed_schema_versions(runs, ask):
    path = runs / "mnli/seed0/tatoeba/results.json"
    path.write_text(path.read_text().replace('"schema": 1', '"schema": 2', 1))
    asked = ask(runs, **SMALL)
    refused(asked, "different seeds")
    assert any("schema is 2" in problem for problem in asked.problems)


def test_two_results_of_one_cell(runs, ask):
    folder = runs / "mnli/seed0"
    (folder / "again").mkdir()
    (folder / "again/results.json").write_bytes((folder / "tatoeba/results.json").read_bytes())
    asked = ask(runs, **SMALL)
    refused(asked, "different seeds")
    assert any("2 results for one cell" in problem for problem in asked.problems)


def test_primary_contrast_not_run(runs, ask):
    for seed in range(3):
        (runs / f"mnli_multilingual/seed{seed}/tatoeba/results.json").unlink()
    refused(ask(runs, **SMALL), "not run: mnli_multilingual")


def test_no_unseen_language(runs, ask):
    for seed in range(3):
        write_training(runs, "mnli_multilingual", seed, [*SEEN_LANGUAGES, *UNSEEN_LANGUAGES])
    refused(ask(runs, **SMALL), "no unseen language")


def test_arm_that_does_not_say_its_languages(runs, ask):
    for seed in range(3):
        write_training(runs, "mlm", seed, [])
    assert any("results.json of mlm does not say which languages" in problem for problem in ask(runs).problems)


def test_phase_2_at_chance_is_reported_unless_labels_were_shuffled(runs, ask):
    write_training(
        runs, "mnli_shuffled", 0, [], at_chance=True, settings={"seen_languages": [], "shuffle_labels": True}
    )
    assert "failed" not in caveats(ask(runs))
    write_training(runs, "mnli", 2, [], at_chance=True)
    asked = ask(runs, **SMALL)
    assert "failed" in caveats(asked) and ": mnli." in " ".join(question.caveats(asked))


def drop_seed(root, seed, arms):
    """Takes the cells of a seed away, not its folders."""
    for arm in arms:
        (root / f"{arm}/seed{seed}/tatoeba/results.json").unlink()


def test_a_seed_left_out_of_both_arms_is_in_the_verdict(runs, ask):
    drop_seed(runs, 2, TRAINED | {"none": []})
    verdict = find(ask(runs, **SMALL), "nli", "M", SEEN).verdict
    assert verdict.endswith("[warning: M without seed 2, E without seed 2]")


def test_a_seed_asked_for_and_never_run_is_in_the_verdict(runs, ask):
    verdict = find(ask(runs, seeds=[0, 1, 2, 3], **SMALL), "nli", "M", SEEN).verdict
    assert verdict == "M better [warning: M without seed 3, E without seed 3]"


def test_a_seed_whose_phase_2_failed_is_in_the_verdict(runs, ask):
    write_training(runs, "mnli", 2, [], at_chance=True)
    asked = ask(runs)
    assert find(asked, "nli", "M", SEEN).verdict == "M better [warning: E at chance in seed 2]"
    assert find(asked, "nli", "E", UNSEEN, "none").verdict == "E better [warning: E at chance in seed 2]"
    assert "warning" not in find(asked, "mlm", "M", UNSEEN).verdict
    assert "warning" in caveats(asked)
    (row,) = [cells for name, cells in question_tables.verdict_table(asked).rows if name == "M − E, seen"]
    assert row[0].text.startswith("M better ! (") and row[0].why == "warning: E at chance in seed 2"
    write_training(runs, "mnli", 2, [], at_chance=True, settings={"seen_languages": [], "shuffle_labels": True})
    assert "warning" not in find(ask(runs), "nli", "M", SEEN).verdict


def test_arms_that_are_to_have_other_seeds_are_compared_in_those_of_both(runs, ask):
    """Without a plan a lacking seed is one that may have failed; with one, more seeds of some arms take nothing from
    the others."""
    (runs / "mnli/seed2/tatoeba/results.json").unlink()
    asked = ask(runs, seeds=[0, 1, 2], seeds_of={"mnli": [0, 1]}, **SMALL)
    found = find(asked, "nli", "M", SEEN)
    assert found.found.n_seeds == 2 and "without" not in found.verdict
    assert (asked.matrix.missing, asked.matrix.seeds_of["none"]) == ([], [0, 1, 2])
    gaps = mx.differences(asked.matrix)
    assert (gaps.loc[("mnli", "tatoeba"), "n"], gaps.loc[("mnli_multilingual", "tatoeba"), "n"]) == (2, 3)
    # an average over fewer seeds is not ranked with the others
    reasons = mx.averages(asked.matrix, ["tatoeba"])["reason"]
    assert (reasons["mnli"], reasons["mnli_multilingual"]) == ("over seeds 0 and 1 only", "")
    apart = ask(runs, seeds=[0, 1, 2], seeds_of={"mnli": [0, 1], "mnli_multilingual": [2]}, **SMALL)
    refused(apart, "no seed is planned for both")
    (runs / "mnli_multilingual/seed1/tatoeba/results.json").unlink()
    refused(
        ask(runs, seeds=[0, 1, 2], seeds_of={"mnli": [0, 1]}, **SMALL),
        "different seeds",
        "mnli_multilingual has 0",
        "mnli has 0 1",
    )


def test_a_cell_without_all_layers_is_named_where_the_layer_is_chosen(runs, ask):
    spec, problems = ask(runs, **SMALL).spec, []
    scores = {layer: {"qae": {"accuracy": 40.0 + 10 * layer}} for layer in (0, 1, 2, 3)}
    cells = {(arm, seed): Namespace(by_layer=scores, metric="accuracy") for arm in ("none", "mnli") for seed in (0, 1)}
    assert choose_layer(cells, spec, problems)[0] == 3 and problems == []
    cells["none", 1] = Namespace(by_layer={layer: scores[layer] for layer in (1, 2)}, metric="accuracy")
    assert choose_layer(cells, spec, problems)[0] == 2
    assert len(problems) == 1 and all(
        part in problems[0] for part in ("among 1 2 only", "none seed 1", "all of 1 2 3")
    )


def test_a_seed_that_stands_apart_is_in_the_verdict(runs, ask):
    write_cell(runs, "mnli_multilingual", 1, {"all": -9.0})
    asked = ask(runs, **SMALL)
    assert find(asked, "nli", "M", UNSEEN).verdict == "undecided [warning: seed 1 stands apart]"
    question.write(asked, runs / "report")
    with (runs / "report/question.csv").open() as file:
        assert any(row["verdict"] == "undecided [warning: seed 1 stands apart]" for row in csv.DictReader(file))


def test_arms_that_are_not_matched(runs, ask):
    write_training(runs, "mnli", 0, [], measures={"rows": 900, "steps": 45, "tokens": 10})
    asked = ask(runs, **SMALL)
    assert any(
        "mnli 900 rows, 45 steps and 1000 rows, 50 steps; mnli_multilingual 1000 rows" in problem
        for problem in asked.problems
    )


def changed(path, **columns):
    """Puts another value into the first row read (layer 1, plain) of each column."""
    table = pq.read_table(path)
    for name, value in columns.items():
        values = table.column(name).to_pylist()
        values[next(i for i, layer in enumerate(table.column("layer").to_pylist()) if layer == 1)] = value
        kinds = {str: pa.string(), list: pa.list_(pa.float64())}
        kind = kinds.get(type(value), table.schema.field(name).type)
        values = [value] * len(values) if type(value) in kinds else values
        table = table.set_column(table.column_names.index(name), name, pa.array(values, kind))
    pq.write_table(table, path)


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda path: path.unlink(), "is missing"),
        (lambda path: path.write_bytes(b"PAR1 no more"), "cannot be read"),
        (lambda path: pd.DataFrame({"language": ["qaa"]}).to_parquet(path), "cannot be read"),
        (lambda path: pd.concat([pd.read_parquet(path)] * 2).to_parquet(path), "twice"),
        (lambda path: pd.read_parquet(path).assign(value=np.float32(0)).to_parquet(path), "results.json says"),
        (lambda path: changed(path, value="much"), "cannot be read"),
        (lambda path: changed(path, value=None), "cannot be read"),
        (lambda path: changed(path, value=[1.0]), "cannot be read"),
        (lambda path: changed(path, value=float("nan")), "holds nan, expected values from 0 to 1"),
        (lambda path: changed(path, value=2.0), "holds 2.0, expected values from 0 to 1"),
        (lambda path: changed(path, layer="one"), "cannot be read"),
        (lambda path: changed(path, query=None), "cannot be read"),
        (lambda path: changed(path, language=None), "cannot be read"),
        (lambda path: (path.unlink(), path.mkdir()), "a folder, expected a file"),
        (lambda path: (path.unlink(), os.mkfifo(path)), "a named pipe, expected a file"),
    ],
    ids=[
        "missing",
        "broken",
        "columns",
        "twice",
        "other scores",
        "text",
        "null",
        "list",
        "nan",
        "two",
        "layer",
        "query",
        "language",
        "folder",
        "pipe",
    ],
)
def test_hits_that_do_not_fit(runs, ask, spoil, told):
    spoil(runs / "mnli/seed1/tatoeba/hits.parquet")
    refused(ask(runs, **SMALL), "mnli/seed1/tatoeba/hits.parquet", told)


def test_one_seed(runs, ask):
    asked = ask(runs, seeds=[0], **SMALL)
    # they are there
    assert asked.primary.verdict == "undecided (one seed) [warning: M without seeds 1 and 2, E without seeds 1 and 2]"
    text = question.answer(asked)
    assert "One seed" in text and "95 % interval" not in text and "M without seeds 1 and 2" in text
    assert caveats(asked) == ["undecided", "one seed", "warning"]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"margn": 2}, "margin"),
        ({"families": {"nli": {"M": "mnli"}}}, "English arm E"),
        ({"primary": {"family": "qa", "role": "M"}}, "no family's role.*nli: M"),
        ({"primary": "nli"}, "primary is 'nli', expected"),
        ({"select_languages": "qae"}, "expected a list"),
        ({"select_languages": ["da", {"no": 1}]}, "expected a list of language codes"),
        ({"select_languages": ["no"]}, "no were not measured"),  # Norwegian, not false
        ({"primary": None}, "primary missing"),
        ({"select_languages": [], "fixed_layer": None}, "select_languages, to choose"),
        ({"select_languages": ["qaz"]}, "qaz were not measured"),
        ({"fixed_layer": 9}, "9 was not measured; there are 0, 1, 2"),
        ({"margin": 0}, "margin is '0', expected points above 0"),
        ({"fixed_layer": "last"}, "expected a layer's number"),
        ({"task": "ntrex"}, "no results of ntrex"),
    ],
)
def test_questions_that_make_no_sense(runs, ask, changes, told):
    with pytest.raises(UserError, match=told):
        ask(runs, **SMALL | changes)


# What is shown


def caveats(asked):
    """The names of the caveats that are shown, in order."""
    patterns = {name: re.sub(r"\\{\w+\\}", ".+", re.escape(text)) for name, text in question.CAVEATS.items()}
    shown = question.caveats(asked)
    return [name for name, pattern in patterns.items() if any(re.fullmatch(pattern, one) for one in shown)]


def test_the_verdict_table_holds_what_the_contrasts_say(runs, ask):
    asked = ask(runs)
    table = question_tables.verdict_table(asked)
    read = 0
    for name, cells in table.rows:
        pair, kind = name.split(", ")
        treated, against = pair.split(" − ")
        for family, cell in zip(table.heads[1:], cells, strict=True):
            if cell.text:
                contrast = find(asked, family, treated, kind, against)
                verdict, _, number = cell.text.rpartition(" (")
                assert contrast.verdict == verdict and contrast.primary == cell.bold
                assert float(number[:-1].replace("−", "-")) == pytest.approx(contrast.found.difference, abs=0.05)
                assert cell.undecided == ("undecided" in verdict)
                read += 1
    assert read == len(asked.contrasts) == 10
    assert [name for name, _ in table.rows][:2] == ["M − E, unseen", "M − E, seen"]
    low, high = asked.primary.found.interval
    text = question.answer(asked)
    assert text.startswith("Undecided: M (mnli_multilingual) against E (mnli) in 2 unseen languages, family nli.")
    assert text.endswith(
        f"Difference: {page_number(asked.primary.found.difference)} points, 95 % interval {page_number(low)} to "
        f"{page_number(high)}, 3 seeds, 800 queries."
    )
    assert caveats(asked) == ["undecided", "within"]


@pytest.mark.parametrize("kind", question.ANSWERS)
def test_there_is_one_sentence_for_each_kind_of_verdict(kind):
    """Every slot of every sentence is filled, and no slot is left to chance."""
    slots = {"first", "second", "where", "why", "better", "worse"}
    assert set(re.findall(r"{(\w+)}", question.ANSWERS[kind])) <= slots


def page_number(value):
    return "0.0" if round(value, 1) == 0 else f"{value:+.1f}".replace("-", "−")


def test_the_answer_turns_when_the_arms_are_swapped(runs, ask):
    for seed in range(3):
        write_cell(runs, "mnli_multilingual", seed, {"all": 15.0 + seed})
    before = ask(runs, **SMALL)
    after = ask(runs, **SMALL | {"families": {"nli": {"E": "mnli_multilingual", "M": "mnli"}}})
    assert question.answer(before).startswith("M (mnli_multilingual) is better than E (mnli) in 2 unseen languages")
    assert question.answer(after).startswith("E (mnli_multilingual) is better than M (mnli) in 2 unseen languages")


def test_the_forest_of_a_question_shows_each_verdict(runs, ask):
    asked = ask(runs)
    found = charts.question_forest(asked)
    assert len(found.rows) == 10 and [row.bold for row in found.rows].count(True) == 1
    row = next(row for row in found.rows if row.name == "nli: M − E, seen")
    assert row.kind == "better" and row.low < row.dot < row.high and row.low > found.zero
    assert found.band[0] < found.zero < found.band[1]


def test_report_is_written_and_shown(runs, tmp_path, monkeypatch, cli):
    monkeypatch.setattr(statistics.estimate, "__defaults__", (300, 0))
    (tmp_path / "question.yaml").write_text(yaml.safe_dump(SPEC, sort_keys=False))
    done = cli("run_report.py", "--runs_dir", runs, "--question", tmp_path / "question.yaml")
    assert done.returncode == 0, done.stderr
    out = runs / "report"
    asked = cs.ask(mx.collect(runs), read_spec(tmp_path / "question.yaml"))
    text = (out / "question.md").read_text()
    assert question.answer(asked) in text and question.answer(asked) in done.stdout
    page = (out / "index.html").read_text()
    assert question.answer(asked) in page and page.index("English or multilingual?") < page.index('id="answer"')
    assert page.count('<span class="track') >= len(asked.contrasts)
    assert (out / "question-forest.png").stat().st_size > 5000 and (out / "question-layers.png").stat().st_size > 5000
    panels = question_plots.layer_curves(asked).axes
    # none is cut off
    assert all(max(line.get_ydata(), default=0) <= axes.get_ylim()[1] for axes in panels for line in axes.lines)
    # The table of families, cell by cell.
    row = next(line for line in text.splitlines() if line.startswith("| nli "))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    scores = [
        np.mean(
            [
                asked.matrix.records["mnli", "tatoeba", seed].layers["1"][language]["accuracy"]
                for language in asked.reported
            ]
        )
        for seed in range(3)
    ]
    assert cells[:2] == ["nli", "1,000"] and cells[3] == f"{np.mean(scores):.1f} ± {np.std(scores, ddof=1):.1f}"
    assert cells[-1].startswith(page_number(find(asked, "nli", "M", SEEN).found.difference) + " [")
    assert "Difference to arm none" in text and "| mnli_multilingual | en qaa qab " in text
    rows = list(csv.DictReader((out / "question.csv").open()))
    assert len(rows) == len(asked.contrasts) + len(asked.others) + len(asked.groups)
    primary = next(row for row in rows if row["primary"] == "True")
    assert float(primary["difference"]) == pytest.approx(asked.primary.found.difference)
    assert float(primary["bootstrap_interval_low"]) == pytest.approx(asked.primary.found.bootstrap_interval[0])


def test_missing_arm_is_blank_and_named(runs, ask):
    for seed in range(3):
        (runs / f"mnli_shuffled/seed{seed}/tatoeba/results.json").unlink()
    asked = ask(runs)
    assert find(asked, "nli", "shuffled", UNSEEN).why == "not run: mnli_shuffled"
    text = question.markdown(asked, question.write(asked, runs / "report"))
    assert "not run: mnli_shuffled" in text
    assert "2 of 10 contrasts were not computed" in text


def test_questions_of_the_recipes_name_arms_that_there_are(monkeypatch):
    monkeypatch.chdir(ROOT)
    files = sorted((ROOT / "recipes/question").glob("*.yaml"))
    assert files
    for file in files:
        assert all(read_arm(arm).words for arm in read_spec(file).arms if arm != mx.PLAIN)


def test_broken_question_file(tmp_path):
    with pytest.raises(UserError, match="none.yaml: no such file"):
        read_spec(tmp_path / "none.yaml")
    bomb = (
        "a0: &a0 [x]\n"
        + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12))
        + "families: *a11\n"
    )
    for text in (
        "task: 2001-99-99\n",
        "task: !!int x\n",
        "[" * 10**5,
        bomb + "primary: {family: a, role: b}\n",
        "families: {a: {E: x, M: y}}\nprimary: {family: [a], role: M}\n",
    ):
        (tmp_path / "odd.yaml").write_text(text)
        with pytest.raises(UserError, match="odd.yaml") as error:
            read_spec(tmp_path / "odd.yaml")
        assert len(str(error.value)) < 500
    (tmp_path / "odd.yaml").write_text("task: bucc\nfamilies: {a: {E: x, M: y}}\nprimary: {family: a, role: M}\n")
    with pytest.raises(UserError, match="task is bucc"):
        read_spec(tmp_path / "odd.yaml")
    os.mkfifo(tmp_path / "pipe.yaml")
    with pytest.raises(UserError, match="a pipe or a device"):
        read_spec(tmp_path / "pipe.yaml")
    (tmp_path / "list.yaml").write_text("- a\n")
    with pytest.raises(UserError, match="key: value"):
        read_spec(tmp_path / "list.yaml")


def test_arms_that_answer_alike_are_not_called_equivalent(runs, ask):
    """As where the layer that is read lies below everything that was trained."""
    for seed in range(3):
        there = runs / "mnli" / f"seed{seed}" / "tatoeba"
        for name in ("hits.parquet", "results.json"):
            content = (there / name).read_bytes()
            if name == "results.json":
                content = content.replace(b'"arm": "mnli"', b'"arm": "mnli_multilingual"')
            (runs / "mnli_multilingual" / f"seed{seed}" / "tatoeba" / name).write_bytes(content)
    primary = ask(runs, **SMALL).primary
    assert primary.verdict.kind == "not computed" and "alike in every seed" in primary.why


# By pretraining, and by the number of languages


@pytest.fixture
def covers(monkeypatch):
    """A pretraining that covers one language of each kind."""
    monkeypatch.setitem(coverage.COVERAGE, "xlmr", frozenset({"qaa", "qac"}))
    return {"coverage": "xlmr"}


def test_seen_and_unseen_are_split_by_what_pretraining_covers(runs, ask, covers):
    asked = ask(runs, **covers)
    of_nli = {c.kind: c for c in asked.groups if (c.family, c.roles) == ("nli", ("M", "E"))}
    assert {kind: c.languages for kind, c in of_nli.items()} == {
        "unseen, covered": ("qac",),
        "unseen, not covered": ("qad",),
        "seen, covered": ("qaa",),
        "seen, not covered": ("qab",),
    }
    assert {kind: c.verdict for kind, c in of_nli.items() if kind.startswith("seen")} == {
        "seen, covered": "M better",
        "seen, not covered": "M better",
    }
    assert not any("better" in c.verdict for kind, c in of_nli.items() if kind.startswith("unseen"))
    whole = find(asked, "nli", "M", SEEN).found.difference
    assert np.mean([of_nli[kind].found.difference for kind in of_nli if kind.startswith("seen")]) == pytest.approx(
        whole
    )
    assert not any(c.primary for c in asked.groups)
    row = next(cells for name, cells in question_tables.group_table(asked).rows if name == "nli: M − E")
    assert [cell.bold for cell in row] == [False, False, True, True] and row[2].text.endswith(", 1")


def test_the_curve_is_the_score_against_the_number_of_languages(runs, ask, covers):
    asked = ask(runs, curve={"nli": ["E", "M"]}, **covers)
    found = curve.points(asked)
    assert list(found) == [("nli", "unseen, covered"), ("nli", "unseen, not covered"), ("nli", "seen by some arm")]
    line = found["nli", "seen by some arm"]
    assert [(number, arm) for number, arm, _ in line] == [(0, "none"), (1, "mnli"), (3, "mnli_multilingual")]
    score = asked.matrix.records["mnli_multilingual", "tatoeba", 2].layers["1"]
    assert line[2][2][2] == pytest.approx(np.mean([score[language]["accuracy"] for language in SEEN_LANGUAGES]))
    frame = curve.as_frame(asked)
    assert curve.table(frame).heads == ["languages of phase 2", "none", "1", "3"]
    question.write(asked, runs / "report")
    assert (runs / "report/question-languages.png").stat().st_size > 5000
    kept = pd.read_csv(runs / "report/curve.csv", index_col=["family", "languages", "number"])
    assert len(kept) == 9 and set(kept["layer"]) == {asked.readout.layer}
    point = kept.loc["nli", "seen by some arm", 3]
    by_seed = [float(text) for text in point["by_seed"].split()]
    assert point["arm"] == "mnli_multilingual" and by_seed == pytest.approx(line[2][2], abs=1e-6)
    assert point["seeds"] == 3 and point["mean"] == pytest.approx(np.mean(by_seed))
    assert point["sd"] == pytest.approx(np.std(by_seed, ddof=1), abs=1e-5)
    assert curve.table(pd.read_csv(runs / "report/curve.csv")) == curve.table(frame)
    question.write(ask(runs, **covers), runs / "report")
    assert not (runs / "report/curve.csv").exists()  # a question without a curve leaves no old one


def test_two_arms_with_equally_many_languages_are_no_curve(runs, ask):
    """One would hide the other in the table."""
    for seed in (0, 1, 2):
        path = runs / f"mnli_shuffled/seed{seed}/results.json"
        record = json.loads(path.read_text())
        settings = record["settings"] | {
            "seen_languages": json.loads((runs / f"mnli_multilingual/seed{seed}/results.json").read_text())[
                "settings"
            ]["seen_languages"]
        }
        path.write_text(json.dumps(record | {"settings": settings}))
    asked = ask(runs, curve={"nli": ["E", "M", "shuffled"]})
    assert curve.points(asked) == {}
    problems = " ".join(question.section(asked).problems)
    assert "mnli_multilingual, mnli_shuffled have equally many languages" in problems


def test_every_point_of_a_curve_is_over_the_same_seeds(runs, ask):
    (runs / "mnli/seed1/tatoeba/results.json").unlink()
    asked = ask(runs, curve={"nli": ["E", "M"]})
    for line in curve.points(asked).values():
        assert [len(values) for _, _, values in line] == [2, 2, 2]
        score = [asked.matrix.records["none", "tatoeba", seed].layers["1"] for seed in (0, 2)]
        languages = UNSEEN_LANGUAGES if line is curve.points(asked)["nli", UNSEEN] else SEEN_LANGUAGES
        by_hand = [np.mean([one[language]["accuracy"] for language in languages]) for one in score]
        assert line[0][2] == pytest.approx(by_hand)
    problems = [line for line in question.section(asked).problems if "curve" in line]
    assert len(problems) == 2 and all("seeds 0 and 2" in line and "mnli seed 1." in line for line in problems)
    for seed in (0, 2):  # an arm that was not run takes no seed from the others
        (runs / f"mnli/seed{seed}/tatoeba/results.json").unlink()
    (line, _) = curve.points(ask(runs, curve={"nli": ["E", "M"]})).values()
    assert [(arm, len(values)) for _, arm, values in line] == [("none", 3), ("mnli_multilingual", 3)]


@pytest.mark.parametrize(
    "changes, told",
    [
        ({"coverage": "bert"}, "coverage"),
        ({"curve": {"nli": ["Q"]}}, "curve names nli Q"),
        ({"curve": {"qa": ["E"]}}, "curve names qa E"),
        ({"curve": ["E"]}, "curve is"),
        ({"curves": {"qa": ["E"]}}, "curves.*curve"),
    ],
)
def test_unknown_coverage_or_curve_is_refused(changes, told, runs, ask):
    with pytest.raises(UserError, match=told):
        ask(runs, **changes)
