"""Scores by groups of languages: the test computes every figure itself."""

import json
import re

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import run_report
from tasks.errors import UserError
from tests.test_report import write_record
from xstilts.report import contrasts, matrix

# de and tt are seen by a phase 2; XLM-R's list has neither tt nor bo
SCORES = {"en": 90, "de": 70, "fr": 60, "tt": 50, "bo": 40}
GAIN = {"en": 0, "de": 5, "fr": 1, "tt": 8, "bo": -2}
WITHOUT = "accuracy_without_english"


@pytest.fixture
def runs(tmp_path):
    root = tmp_path / "runs"
    for seed in range(3):
        for arm in ("none", "xnli"):
            scores = {
                code: score + seed + (GAIN[code] + seed / 10 if arm == "xnli" else 0) for code, score in SCORES.items()
            }
            write_record(root, arm, seed, "sib200", scores, dev=60)
            found = {code: {"accuracy": score, WITHOUT: score - 10} for code, score in scores.items() if code != "en"}
            retrieval = {"phase": "retrieval", "layer": 1, "pooling": "mean", "chance": None}
            write_record(root, arm, seed, "ntrex", found, **retrieval, layers={"1": found})
        path = write_record(root, "xnli", seed, "xnli", {"en": 60}, dev=60, folder=".")
        training = {"phase": "intermediate", "scores": {}, "n": {}, "mean": {}}
        settings = {"seen_languages": ["de", "tt"]}
        path.write_text(json.dumps(json.loads(path.read_text()) | training | {"settings": settings}))
    return root


def test_the_four_groups_with_intervals_and_pairs_without_english(runs):
    run_report.main(["--runs_dir", str(runs), "--coverage", "xlmr"])
    groups = pd.read_csv(runs / "report/groups.csv").set_index(["task", "metric", "group", "arm"])
    alone = {"unseen, covered": "fr", "unseen, not covered": "bo", "seen, covered": "de", "seen, not covered": "tt"}
    for task, metric, less in (("sib200", "accuracy", 0), ("ntrex", "accuracy", 0), ("ntrex", WITHOUT, 10)):
        for group, code in alone.items():
            row = groups.loc[task, metric, group, "xnli"]
            gaps = [GAIN[code] + seed / 10 for seed in range(3)]
            assert row["languages"] == code and row["seeds"] == row["paired_seeds"] == 3
            assert row["score"] == pytest.approx(SCORES[code] + 1 + np.mean(gaps) - less)
            assert row["difference"] == pytest.approx(np.mean(gaps))
            assert (row["low"], row["high"]) == pytest.approx(
                stats.t.interval(0.95, 2, loc=np.mean(gaps), scale=stats.sem(gaps))
            )
        row = groups.loc[task, metric, "all", "none"]
        assert row["score"] == pytest.approx((70 + 60 + 50 + 40) / 4 + 1 - less) and np.isnan(row["difference"])
    page = (runs / "report/index.html").read_text()
    assert 'id="groups"' in page and "seen, not covered (1)" in page
    run_report.main(["--runs_dir", str(runs)])
    assert not (runs / "report/groups.csv").exists()


def test_a_seed_at_chance_or_without_a_language_enters_no_group(runs):
    write_record(runs, "xnli", 1, "sib200", SCORES, at_chance=True, dev=20)
    run_report.main(["--runs_dir", str(runs), "--coverage", "e5"])
    groups = pd.read_csv(runs / "report/groups.csv").set_index(["task", "group", "arm"])
    assert groups.loc[("sib200", "all", "xnli"), ["seeds", "paired_seeds"]].tolist() == [2, 2]


def test_answers_are_scored_as_in_the_matrix(runs):
    for seed in range(3):
        scores = {code: {"exact_match": score - 20, "f1": score} for code, score in SCORES.items()}
        write_record(runs, "none", seed, "tydiqa", scores, metric="f1", dev=60)
    run_report.main(["--runs_dir", str(runs), "--coverage", "e5"])
    groups = pd.read_csv(runs / "report/groups.csv").set_index(["task", "metric", "group", "arm"])
    assert groups.loc[("tydiqa", "(EM+F1)/2", "all", "none"), "score"] == pytest.approx((70 + 60 + 50 + 40) / 4 - 10)
    assert set(groups.loc["tydiqa"].index.get_level_values("metric")) == {"(EM+F1)/2"}


def test_an_unknown_list_is_refused_before_anything_is_written(runs):
    with pytest.raises(UserError, match="xlmx.*xlmr"):
        run_report.main(["--runs_dir", str(runs), "--coverage", "xlmx"])
    assert not (runs / "report").exists()


def test_a_phase_2_that_does_not_name_its_languages_is_a_problem(runs):
    path = runs / "xnli/seed2/results.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"settings": {}}))
    found = matrix.collect(runs)
    assert contrasts.seen_by(found, found.arms, "groups", found.problems) == {"de", "tt"}
    assert "xnli" in found.problems[-1]


def test_an_arm_without_its_phase_2_is_a_problem(runs):
    for seed in range(3):
        write_record(runs, "squad", seed, "sib200", SCORES, dev=60)
    run_report.main(["--runs_dir", str(runs), "--coverage", "xlmr"])
    (line,) = re.findall("groups of languages: .*", (runs / "report/matrix.md").read_text())
    assert "arm squad" in line


def test_text_of_masked_lm_is_not_seen_beside_a_task(runs):
    for seed in range(3):
        write_record(runs, "mlm", seed, "sib200", SCORES, dev=60)
        path = write_record(runs, "mlm", seed, "mlm", {"en": 60}, dev=60, folder=".")
        training = {"phase": "mlm", "scores": {}, "n": {}, "mean": {}, "settings": {"text_languages": ["fr"]}}
        path.write_text(json.dumps(json.loads(path.read_text()) | training))
    found = matrix.collect(runs)
    assert contrasts.seen_by(found, found.arms, "groups", found.problems) == {"de", "tt"}
    assert contrasts.seen_by(found, ["none", "mlm"], "groups", found.problems) == {"fr"}
    assert found.problems == []
