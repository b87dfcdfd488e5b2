"""What is ahead in each task and average, and how sure that is: worked out by hand from a few scores."""

import numpy as np
import pytest
import records
from scipy import stats

from tests.test_report import write_record
from xstilts.report import charts, standing, tables
from xstilts.report import matrix as mx
from xstilts.xtreme.choice import choose_all


def lay(root, scores, task="xnli"):
    """Write {arm: score of each seed}, None for a cell that is missing."""
    for arm, values in scores.items():
        for seed, value in enumerate(values):
            if value is not None:
                write_record(root, arm, seed, task, {"en": value, "qaa": value})


def of(root, name="xnli", **grid):
    return next(one for one in standing.standings(mx.collect(root, **grid)) if one.name == name)


def test_difference_interval_and_p_are_those_of_the_paired_t_test(tmp_path):
    lay(tmp_path, {"none": [60, 61, 62], "mnli": [70, 72, 71]})
    one = of(tmp_path)
    entry = one.ranked[0]
    test = stats.ttest_rel([70, 72, 71], [60, 61, 62])
    assert (entry.arm, entry.mean, entry.seeds) == ("mnli", 71, 3)
    assert entry.difference == pytest.approx(10) and entry.p == pytest.approx(test.pvalue)
    assert entry.interval == pytest.approx(tuple(test.confidence_interval(0.95)))
    assert (one.kind, entry.verdict) == ("wins", "better")
    assert "+10.0 points to none" in one.sentence and "3 seeds" in one.sentence


def test_p_values_are_adjusted_among_the_arms(tmp_path):
    lay(tmp_path, {"none": [60, 61, 62], "a": [63, 65, 64], "b": [61, 63, 66], "c": [40, 43, 41]})
    entries = {entry.arm: entry for entry in of(tmp_path).ranked}
    raw = [stats.ttest_rel(x, [60, 61, 62]).pvalue for x in ([63, 65, 64], [61, 63, 66], [40, 43, 41])]
    assert [entries[arm].p for arm in "abc"] == pytest.approx(standing.statistics.holm(raw))


def test_an_arm_that_wins_and_one_not_told_apart_from_it(tmp_path):
    lay(tmp_path, {"none": [60, 60, 60.5], "a": [70, 71, 70.2], "b": [69, 71.5, 70], "c": [50, 51, 50.5]})
    one = of(tmp_path)
    assert one.kind == "ahead" and "Not shown to be lower: b." in one.sentence
    assert {entry.arm: entry.ties for entry in one.ranked} == {"a": True, "b": True, "none": False, "c": False}
    table, gaps = tables.headline_tables(mx.collect(tmp_path))
    assert {arm: row[0].bold for arm, row in table.rows} == {"none": False, "a": True, "b": True, "c": False}


def test_a_sentence_never_says_above_none_and_not_told_apart_from_none(tmp_path):
    """Against `none` the verdict decides; many ties are named in part."""
    many = {f"arm{i}": [69.5, 71.6 + i / 10, 70] for i in range(8)}
    lay(tmp_path, {"none": [60, 60.4, 60.1], "top": [70, 71, 70.9], **many})
    one = of(tmp_path)
    assert not next(entry for entry in one.ranked if entry.arm == "none").ties
    if one.kind == "ahead":
        assert "none" not in one.sentence.partition("Not shown to be lower")[2]
    assert "arm7" in one.sentence and "and 4 more." in one.sentence


def test_an_arm_with_one_seed_is_not_ranked_beside_arms_with_more(tmp_path):
    """Its seed may be one in which `none` is low."""
    lay(tmp_path, {"none": [60, 70, 70.5], "a": [70, 71, 70.2], "b": [85, None, None]})
    one = of(tmp_path)
    assert [entry.arm for entry in one.ranked] == ["a", "none"] and one.sentence.endswith("Not ranked: b.")
    assert [(entry.arm, entry.aside, entry.verdict) for entry in one.aside] == [
        ("b", "shares one seed with none", "one seed")
    ]
    assert best(tmp_path)[0] == "a"
    table, _ = tables.headline_tables(mx.collect(tmp_path))
    assert not dict(table.rows)["b"][0].bold


def test_a_sentence_says_how_many_trainings_are_at_chance(tmp_path):
    lay(tmp_path, {"none": [50, 51, 52, 53, 54], "squad": [52, 53.1, 54.2], "mnli": [40, 41, 42.2, 43, 44]})
    for seed in (3, 4):
        write_record(tmp_path, "squad", seed, "xnli", {"en": 33, "qaa": 33}, at_chance=True)
    one = of(tmp_path)
    assert one.ranked[0].arm == "squad" and one.failed == ("2 of 5 trainings of squad",)
    assert one.sentence.endswith("Not counted, because at chance: 2 of 5 trainings of squad.")


def test_an_average_that_no_arm_has_whole_ranks_by_the_tasks_of_none(tmp_path):
    """pawsx is at chance in every arm, and b has one task alone."""
    lay(tmp_path, {"none": [60, 61, 62], "a": [70, 72, 71], "b": [90, 91, 92]})
    lay(tmp_path, {"none": [50, 51, 52], "a": [55, 56, 57.5]}, "panx")
    for arm in ("none", "a"):
        write_record(tmp_path, arm, 0, "pawsx", {"en": 50, "de": 50}, at_chance=True)
    one = of(tmp_path, "all tasks")
    assert [entry.arm for entry in one.ranked] == ["a", "none"] and set(one.tasks) == {"xnli", "panx"}
    assert one.kind == "wins" and one.all_tasks == 3 and one.sentence.endswith("over panx, xnli. Not ranked: b.")
    assert {entry.over for entry in one.ranked} == {"over 2 of 3 tasks"} and one.ranked[0].part == "over 2 of 3 tasks"
    (b,) = one.aside
    assert b.aside == "over 1 of 2 tasks" and b.part == "over 1 of 3 tasks"
    table, _ = tables.headline_tables(mx.collect(tmp_path))
    cell = dict(table.rows)["a"][0]
    assert cell.text.endswith("‡") and cell.bold


def test_equal_arms_are_seldom_called_lower_than_the_one_in_front():
    """The scores choose the arm in front, so the pairs to be tested are all pairs."""
    draw = np.random.default_rng(0)
    runs, wrong = 400, 0
    for _ in range(runs):
        scores = {f"arm{n}": dict(enumerate(draw.normal(60, 1, 5))) for n in range(8)}
        entries = [standing.Entry(arm, float(np.mean(list(by.values()))), 5) for arm, by in scores.items()]
        ranked = standing._with_ties(sorted(entries, key=lambda entry: -entry.mean), scores)
        wrong += not all(entry.ties for entry in ranked)
    assert wrong / runs < 0.07  # 5 % and two standard errors


def test_an_arm_above_none_behind_one_that_is_not_shown_to_be(tmp_path):
    lay(tmp_path, {"none": [60, 61, 62], "squad": [68, 62, 67], "mnli": [62.0, 63.1, 63.9]})
    one = of(tmp_path)
    assert [entry.arm for entry in one.ranked] == ["squad", "mnli", "none"] and one.ranked[1].verdict == "better"
    assert one.kind == "gain elsewhere" and one.sentence.endswith("Shown to be above none: mnli.")
    assert "No arm" not in one.sentence


def test_an_arm_that_is_higher_in_every_shared_seed_is_not_called_lower(tmp_path):
    none = [60.0, 61.0, 59.0, 60.0, 61.0]
    squad = [score + gap for score, gap in zip(none, [1.0, 1.1, 1.05, 4.2, 4.3], strict=True)]
    mnli = [score + gap for score, gap in zip(none, [1.8, 1.95, 1.85], strict=False)]
    lay(tmp_path, {"none": none, "squad": squad, "mnli": [*mnli, None, None]})
    one = of(tmp_path)
    assert one.ranked[0].arm == "squad" and one.ranked[1].ties
    assert "lower: mnli." in one.sentence


def test_arms_that_are_not_ranked_are_named_where_all_others_are_called_lower(tmp_path):
    scores = {"none": [60, 61, 62], "mnli": [70, 72, 71], "squad": [80, 82, 81]}
    lay(tmp_path, scores)
    lay(tmp_path, {"none": [50, 51, 52], "mnli": [60, 62, 61]}, "panx")
    one = of(tmp_path, "panx")
    assert one.kind == "wins" and one.sentence.endswith("ranked arm is shown to be lower. Not ranked: squad.")
    average = of(tmp_path, "all tasks", arms=["none", "mnli", "squad"])
    assert average.ranked[0].arm == "mnli" and average.sentence.endswith("Not ranked: squad.")


def test_the_difference_of_an_average_says_of_how_many_tasks_it_is(tmp_path):
    lay(tmp_path, {"none": [60, 61, 62], "mnli": [70, 72, 71]})
    lay(tmp_path, {"squad": [62, 63, 62]})
    lay(tmp_path, {"mnli": [60, 62, 61], "squad": [50, 52, 51]}, "panx")
    assert "points to none over 1 of 2 tasks, " in of(tmp_path, "all tasks").sentence


def test_a_matrix_that_ended_at_chance_is_not_said_to_be_unfinished(tmp_path):
    write_record(tmp_path, "none", 0, "xnli", {"en": 33, "qaa": 33}, at_chance=True)
    assert of(tmp_path).kind == "at chance" and "yet" not in of(tmp_path).sentence


def test_what_is_undecided_is_shaded(tmp_path):
    lay(tmp_path, {"none": [60, 60, 60.5], "a": [70, 71, 70.2], "b": [55, 66, 61]})
    _, gaps = tables.headline_tables(mx.collect(tmp_path))
    assert {arm: row[0].undecided for arm, row in gaps.rows} == {"a": False, "b": True}


def test_a_difference_of_one_seed_is_shaded(tmp_path):
    lay(tmp_path, {"none": [60, 60, 60.5], "a": [70, 71, 70.2], "b": [90, None, None]})
    _, gaps = tables.headline_tables(mx.collect(tmp_path))
    assert {arm: row[0].undecided for arm, row in gaps.rows} == {"a": False, "b": True}


def test_arms_with_different_seeds_are_ranked_by_the_seeds_they_share_with_none(tmp_path):
    """Seeds 0 and 1 are high ones: b has the highest score, and is below none in the seeds it has."""
    lay(tmp_path, {"none": [70, 69, 60, 61], "a": [70.5, 69.8, 61, 61.8], "b": [69, 68.5, None, None]})
    one = of(tmp_path)
    assert [entry.arm for entry in one.ranked] == ["a", "none", "b"] and one.ranked[2].mean > one.ranked[0].mean
    assert [row.name for row in charts.forest(one).rows] == [entry.arm for entry in one.ranked]
    (tmp_path / "two").mkdir()
    lay(tmp_path / "two", {"none": [70, 60, 61], "b": [69, None, None]})
    assert of(tmp_path / "two").ranked[0].arm == "none"


def test_an_arm_that_shares_no_seed_with_none_is_not_in_front(tmp_path):
    """Seed 3 may be a high one for every arm."""
    lay(tmp_path, {"none": [60, 61, 62], "a": [61, 63, 64], "b": [None, None, None, 90]})
    one = of(tmp_path)
    assert [entry.arm for entry in one.ranked] == ["a", "none"] and one.sentence.endswith("Not ranked: b.")
    assert [(entry.arm, entry.aside) for entry in one.aside] == [("b", "shares no seed with none")]
    table, _ = tables.headline_tables(mx.collect(tmp_path))
    assert not dict(table.rows)["b"][0].bold and dict(table.rows)["b"][0].text.startswith("90.0")
    assert [row.kind for row in charts.forest(one).rows] == ["better", "plain", "aside"]


def test_an_arm_is_put_aside_only_for_others_that_are_ranked(tmp_path):
    """None and a have one task, so they are not ranked, and b is."""
    lay(tmp_path, {"none": [60, 61], "a": [61, 63], "b": [None, None, None, 90]})
    lay(tmp_path, {"b": [None, None, None, 80]}, "panx")
    average = of(tmp_path, "all tasks", arms=["none", "a", "b"])
    assert [entry.arm for entry in average.ranked] == ["b"] and {entry.arm for entry in average.aside} == {"none", "a"}


def best(root):
    return standing.best_per_task(mx.collect(root))["xnli"]


def test_the_best_arm_is_not_the_one_of_a_lucky_seed(tmp_path):
    for arm, scores in {"none": [60, 50, 70], "good": [64, 54, 74], "lucky": [None, None, 71]}.items():
        for seed, score in enumerate(scores):
            if score is not None:
                write_record(tmp_path, arm, seed, "xnli", {"en": score, "qaa": score}, dev=score + 1)
    assert best(tmp_path) == ("good", "good")
    row = dict(tables.best_table(mx.collect(tmp_path)).rows)["xnli"]
    assert [cell.text for cell in row] == ["good", "64.0", "good", "64.0"]
    for seed in range(3):  # without none: of the arms with the most seeds
        (tmp_path / f"none/seed{seed}/xnli/results.json").unlink()
    assert best(tmp_path) == ("good", "good")


def test_english_dev_does_not_choose_an_arm_for_the_seed_that_did_not_fail(tmp_path):
    for seed in range(3):
        for arm, score in (("none", 60), ("good", 64), ("failing", 66)):
            fails = arm == "failing" and seed < 2
            score = 33 if fails else score
            write_record(tmp_path, arm, seed, "xnli", {"en": score}, dev=score, at_chance=fails)
        write_record(tmp_path, "always", seed, "xnli", {"en": 99}, dev=99, at_chance=True)
    assert best(tmp_path)[1] == "good"


@pytest.mark.parametrize(
    "scores, kind",
    [
        ({"none": [60, 61, 62], "a": [50, 52, 51], "b": [40, 42, 41]}, "plain wins"),
        ({"none": [60, 61, 62], "a": [59, 62, 61]}, "plain first"),
        ({"none": [60, 61, 62], "a": [59, 64, 66]}, "no gain"),
        ({"none": [60], "a": [70]}, "one seed"),
        ({"none": [60, 61], "a": [70, 71]}, "no spread"),
        ({"a": [60, 61], "b": [70, 72]}, "no plain"),
        ({"none": [60, None], "a": [None, 70]}, "no plain"),
        ({"a": [60, 61]}, "alone"),
    ],
)
def test_each_kind_of_answer_has_its_sentence(tmp_path, scores, kind):
    lay(tmp_path, scores)
    one = of(tmp_path)
    assert one.kind == kind and "{" not in one.sentence and one.label == standing.LABELS[kind]


def test_one_arm_with_all_scores_is_not_called_the_only_one(tmp_path):
    for seed in range(3):
        write_record(tmp_path, "none", seed, "udpos", {"en": 60 + seed})
        write_record(tmp_path, "a", seed, "udpos", {"en": 33}, at_chance=True)
        for arm in ("none", "a"):
            write_record(tmp_path, arm, seed, "xnli", {"en": 60 + seed * (2 if arm == "a" else 1)})
    average, udpos = of(tmp_path, "all tasks"), of(tmp_path, "udpos")
    assert (average.kind, udpos.kind) == ("one ranked", "one ranked")
    assert "Not ranked: a." in average.sentence and [entry.difference for entry in average.aside] == [1.0]


def test_an_arm_that_shares_one_seed_with_the_one_in_front_is_not_bold(tmp_path):
    lay(tmp_path, {"none": [60, 60.5, 61, 62], "a": [70, 70.5, 71.5, None], "b": [None, None, 70, 71.4]})
    first, other = of(tmp_path).ranked[:2]
    assert (first.arm, first.ties, other.arm) == ("a", True, "b") and round(other.mean, 1) == round(
        first.mean, 1
    ) == 70.7
    assert other.untested and not other.ties
    lay(tmp_path / "one", {"none": [60], "a": [70], "b": [70.01]})
    assert [entry.ties for entry in of(tmp_path / "one").ranked] == [True, True, False]


def test_english_dev_of_question_answering_is_the_mean_of_f1_and_exact_match(tmp_path):
    """As its score is."""
    for arm, f1, exact in (("none", 30, 20), ("a", 50, 20), ("b", 49, 40)):
        both = {"f1": f1, "exact_match": exact}
        write_record(tmp_path, arm, 0, "tydiqa", {"en": both}, metric="f1")
        path = tmp_path / arm / "seed0/tydiqa/results.json"
        records.write(path, records.read(path) | {"dev": {"en": both}})
    assert standing.best_per_task(mx.collect(tmp_path))["tydiqa"] == ("b", "b")
    choice, _ = choose_all(mx.collect(tmp_path), ["tydiqa"], 0, {})
    assert choice["tydiqa"]["arm"] == "b" and choice["tydiqa"]["dev"]["scores"]["b"] == 44.5


def test_kinds_sentences_and_labels_are_the_same_set():
    assert standing.SENTENCES.keys() == standing.LABELS.keys()


def test_a_partial_average_is_over_the_seed_with_most_tasks_and_not_ranked(tmp_path):
    for task, lacking in (("xnli", None), ("pawsx", 2), ("udpos", 1)):
        scores = {"none": [50.0, 51.0, 52.0], "a": [60.0, 62.0, 64.0], "b": [55.0, 57.0, 58.0]}
        if lacking:
            scores["a"][lacking] = None
        lay(tmp_path, scores, task)
    (tmp_path / "b/seed0/udpos/results.json").unlink()
    (tmp_path / "b/seed1/udpos/results.json").unlink()
    (tmp_path / "b/seed2/udpos/results.json").unlink()
    one = of(tmp_path, "all tasks")
    assert [entry.arm for entry in one.ranked] == ["a", "none"] and [entry.arm for entry in one.aside] == ["b"]
    assert one.ranked[0].seeds == 1 and one.ranked[0].mean == 60  # seed 0 alone has all three tasks
    (b,) = one.aside
    assert b.aside == b.part == "over 2 of 3 tasks" and b.seeds == 3
    assert b.difference == pytest.approx((5 + 6 + 6) / 3)
    assert (one.done, one.planned) == (22, 27)
    rows = {row.name: row for row in charts.forest(one).rows}
    assert rows["b"].kind == "aside" and list(rows)[-1] == "b"
    table, _ = tables.headline_tables(mx.collect(tmp_path))
    assert dict(table.rows)["b"][0].text == "56.7‡" and not dict(table.rows)["b"][0].bold


def test_a_forest_holds_zero_and_cuts_intervals_that_reach_too_far(tmp_path):
    lay(tmp_path, {"none": [60, 61], "a": [70, 80], "b": [61, 62.5]})
    found = charts.forest(of(tmp_path))
    row = {row.name: row for row in found.rows}
    assert row["a"].cut_low and row["a"].cut_high and not row["b"].cut_high
    assert row["none"].dot == found.zero and 0 <= row["a"].low < found.zero < row["a"].dot < row["a"].high <= 100
    assert [row.name for row in found.rows] == ["a", "b", "none"]


def test_one_far_arm_does_not_set_the_scale_of_a_forest(tmp_path):
    near = {f"a{n}": [60 + n, 61.5 + n] for n in range(12)}
    lay(tmp_path, {"none": [60, 61], "far": [5, 6.5]} | near)
    found = charts.forest(of(tmp_path))
    row = {row.name: row for row in found.rows}
    assert row["far"].dot is None and row["far"].cut_low and "−54" in row["far"].text
    assert row["a1"].dot - found.zero > 3  # a point is some percent of the axis


def test_progress_tells_done_failed_begun_and_waiting_apart(tmp_path):
    lay(tmp_path, {"none": [60, 61, 62], "a": [70, None, None], "b": [None, None, None]})
    for place, name in (("a/seed1/xnli", "failed.json"), ("a/seed2/xnli", "run.json"), ("b/seed0", "failed.json")):
        (tmp_path / place).mkdir(parents=True, exist_ok=True)
        (tmp_path / place / name).write_text('{"cause": "out of memory"}')
    matrix = mx.collect(tmp_path, arms=["none", "a", "b"], tasks=["xnli"], seeds=[0, 1, 2])
    states = {arm: [state for _, state in row["xnli"]] for arm, row in charts.progress(matrix).items()}
    assert states["none"] == ["done"] * 3 and states["a"] == ["done", "failed", "running"]
    assert states["b"] == ["failed", "waiting", "waiting"]  # its phase 2 failed
    assert any(problem.startswith("a/seed1/xnli, b/seed0 failed: out of memory") for problem in matrix.problems)
    assert charts.progress(mx.collect(tmp_path, arms=["none"])) == {}
