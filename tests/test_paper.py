"""A paper's claims beside a matrix written by hand: the test computes every difference and verdict itself."""

import csv
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

import run_report
from tasks.errors import UserError
from tests.test_report import write_record, write_retrieval
from xstilts.report import claims_file, paper, paper_table, statistics
from xstilts.report import matrix as mx
from xstilts.report.numbers import interval_of, signed

CLAIMS = Path(run_report.__file__).parent / "recipes/claims"
SQUAD = {"xnli": (62, 63, 62.5), "udpos": (71, 72, 71)}  # scores by seed
PLAIN = {"xnli": (60, 61, 60), "udpos": (70, 70, 70)}
HELLASWAG = {"xnli": (60, 61, 60.5), "udpos": (66, 66, 65)}


@pytest.fixture
def runs(tmp_path):
    root = tmp_path / "runs"
    for arm, tasks in {"none": PLAIN, "squad": SQUAD, "hellaswag": HELLASWAG}.items():
        for task, scores in tasks.items():
            for seed, score in enumerate(scores):
                # on English dev hellaswag is the better one for xnli
                dev = score + (9 if (arm, task) == ("hellaswag", "xnli") else 5)
                write_record(root, arm, seed, task, {"en": score + 4, "de": score - 4}, dev=dev)
    for seed in (0, 1):
        for arm, score in {"none": 80, "squad": 70}.items():
            write_retrieval(root, arm, seed, {1: {"de": score + seed, "fr": score}}, 1)
    return root


def asked(folder, **claims):
    """A file of claims; each is `arms against tasks expect [pick]`."""
    text = "about: nobody\nclaims:\n"
    for name, (arms, against, tasks, expect, *pick) in claims.items():
        text += (
            f"  {name}: {{claim: c, paper: p, arms: [{arms}], against: [{against}], tasks: {tasks}, expect: {expect}"
        )
        text += (f", pick: {pick[0]}" if pick else "") + "}\n"
    path = folder / "claims.yaml"
    path.write_text(text)
    return path


def judged(root, folder, **claims):
    wanted, _, margin = claims_file.read_claims(asked(folder, **claims))
    return {one.claim.name: one for one in paper.judge(mx.collect(root), wanted, margin)}


def notes_of(judgement):
    return [note for one in judgement.differences for note in one.notes]


def found_of(judgement):
    return [one for one in judgement.differences if one.by_seed]


def figures_of(judgement):
    return [(one.arms, one.tasks, one.by_seed) for one in judgement.differences]


def mean_of(scores, seed):
    return float(np.mean([by_seed[seed] for by_seed in scores.values()]))


def test_a_difference_is_paired_over_seeds_and_its_interval_is_the_paired_t(runs, tmp_path):
    found = judged(runs, tmp_path, a=("squad", "none", "targets", "higher"))["a"]
    (one,) = found.differences
    values = list(one.by_seed.values())
    assert values == pytest.approx([mean_of(SQUAD, seed) - mean_of(PLAIN, seed) for seed in range(3)])
    expected = stats.t.interval(0.95, 2, loc=np.mean(values), scale=stats.sem(values))
    assert one.interval() == pytest.approx(expected) and expected[0] > 0 and found.verdict == "repeats"


@pytest.mark.parametrize(
    "claim, verdict",
    [
        (("squad", "none", "targets", "not higher"), "contradicts"),
        (("none", "squad", "targets", "higher"), "contradicts"),
        (("none", "squad", "targets", "not higher"), "repeats"),
        (("hellaswag", "none", "[xnli]", "higher"), "undecided"),  # 0, 0, +0.5
        (("hellaswag", "none", "[xnli]", "not higher"), "repeats"),  # ends below the margin of 1 point
        (("'squad', 'hellaswag'", "none", "[udpos]", "each higher"), "contradicts"),
        (("'squad', 'hellaswag'", "none", "[udpos]", "not each higher"), "repeats"),
        (("squad", "none", "[xnli]", "each higher"), "repeats"),
        (("squad", "none", "[xnli]", "not each higher"), "contradicts"),
    ],
)
def test_the_verdict(claim, verdict, runs, tmp_path):
    assert judged(runs, tmp_path, a=claim)["a"].verdict == verdict


def test_the_arm_picked_on_english_dev_is_the_one_scored(runs, tmp_path):
    found = judged(runs, tmp_path, a=("'squad', 'hellaswag'", "none", "targets", "higher", "dev"))["a"]
    (one,) = found.differences
    picked = [(HELLASWAG["xnli"][seed] + SQUAD["udpos"][seed]) / 2 - mean_of(PLAIN, seed) for seed in range(3)]
    assert (
        list(one.by_seed.values()) == pytest.approx(picked)
        and "squad for udpos, hellaswag for xnli" in notes_of(found)[0]
    )


def test_what_was_not_run_or_is_at_chance_is_left_out_and_said(runs, tmp_path):
    write_record(runs, "squad", 1, "xnli", {"en": 33, "de": 33}, at_chance=True, dev=33)
    found = judged(
        runs,
        tmp_path,
        a=("squad", "none", "targets", "higher"),
        b=("qqp", "none", "targets", "higher"),
        c=("squad", "none", "retrieval", "higher"),
        d=("squad", "none", "[mlqa]", "higher"),
    )
    assert list(found["a"].differences[0].by_seed) == [0, 2]
    assert "seed 1" in notes_of(found["a"])[0] and "squad xnli" in notes_of(found["a"])[0]
    assert (
        found["b"].verdict == found["d"].verdict == "no result"
        and "qqp" in notes_of(found["b"])[0]
        and "mlqa" in notes_of(found["d"])[0]
    )
    assert found["c"].differences[0].by_seed == pytest.approx({0: -10, 1: -10})


def test_a_seed_without_all_cells_is_left_out_and_the_cells_are_named(runs, tmp_path):
    shutil.rmtree(runs / "squad/seed1/xnli")
    found = judged(runs, tmp_path, a=("squad", "none", "targets", "higher"))["a"]
    assert list(found.differences[0].by_seed) == [0, 2]
    assert notes_of(found) == ["seed 1 is left out: not measured: squad xnli"]


def test_a_cell_measured_otherwise_is_in_no_claim(runs, tmp_path):
    path = runs / "squad/seed1/tatoeba/results.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"settings": {"query_side": "foreign"}}))
    found = judged(runs, tmp_path, a=("squad", "none", "retrieval", "higher"))["a"]
    assert list(found.differences[0].by_seed) == [0]
    for path in runs.glob("squad/seed*/tatoeba/results.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"settings": {"query_side": "foreign"}}))
    found = judged(runs, tmp_path, a=("squad", "none", "retrieval", "higher"))["a"]
    assert not found_of(found) and found.verdict == "no result"


def test_a_task_more_in_few_seeds_or_arms_takes_nothing_from_a_claim(runs, tmp_path):
    before = judged(runs, tmp_path, a=("squad", "none", "targets", "higher"))["a"]
    for arm in ("none", "squad"):
        write_record(runs, arm, 0, "panx", {"en": 50, "de": 40}, dev=50)
    for seed in range(3):
        write_record(runs, "none", seed, "tydiqa", {"en": 50, "de": 40}, dev=50)
    after = judged(
        runs,
        tmp_path,
        a=("squad", "none", "targets", "higher"),
        b=("squad", "none", "[panx]", "higher"),
    )
    assert figures_of(after["a"]) == figures_of(before) and after["a"].verdict == before.verdict
    fewer = "without panx: fewer seeds above chance in arms squad, none"
    assert set(notes_of(after["a"])) == {fewer, "without tydiqa: not measured in arm squad"}
    assert list(after["b"].differences[0].by_seed) == [0]


def test_a_task_that_is_learned_in_one_seed_takes_no_seeds_from_the_others(runs, tmp_path):
    before = judged(runs, tmp_path, a=("squad", "none", "targets", "higher"))["a"]
    for arm in ("none", "squad"):
        for seed in range(3):
            failed = arm == "squad" and seed != 1
            write_record(runs, arm, seed, "panx", {"en": 50, "de": 40}, dev=50, at_chance=failed)
    after = judged(runs, tmp_path, a=("squad", "none", "targets", "higher"))["a"]
    assert figures_of(after) == figures_of(before) and len(after.differences[0].by_seed) == 3
    assert notes_of(after)[0] == "without panx: fewer seeds above chance in arm squad"
    # what it hides is said: with panx, whose difference is 0, a third of the gain is gone
    gains = [value * 2 / 3 for value in before.differences[0].by_seed.values()]
    low, high = statistics.t_interval(gains)
    figures = f"{signed(np.mean(gains))} [{interval_of((low, high))}] (tasks panx, udpos, xnli, seeds 0, 1 and 2)"
    assert notes_of(after)[1:] == [f"counting trainings at chance: {figures}"]
    assert after.warnings == ("squad is at chance in panx in seeds 0 and 2",)


@pytest.mark.parametrize("arms", [["hellaswag"], ["none", "squad"]])
def test_a_seed_that_has_begun_takes_no_task_from_a_claim(runs, tmp_path, arms):
    before = judged(runs, tmp_path, a=("squad", "none", "targets", "higher"))["a"]
    for arm in arms:
        write_record(runs, arm, 3, "xnli", {"en": 60, "de": 40}, dev=50)
    after = judged(runs, tmp_path, a=("squad", "none", "targets", "higher"))["a"]
    assert figures_of(after) == figures_of(before)


def test_an_arm_at_chance_with_every_seed_has_no_result_and_what_it_hides_is_said(runs, tmp_path):
    for seed in range(3):
        write_record(runs, "squad", seed, "xnli", {"en": 33, "de": 33}, at_chance=True, dev=33)
    found = judged(runs, tmp_path, a=("squad", "none", "[xnli]", "higher"))["a"]
    low, high = statistics.t_interval([33 - score for score in PLAIN["xnli"]])
    assert found.verdict == "no result" and notes_of(found) == [
        "without xnli: at chance in arm squad",
        "no task is left",
        f"counting trainings at chance: {signed(33 - np.mean(PLAIN['xnli']))} [{interval_of((low, high))}] "
        "(tasks xnli, seeds 0, 1 and 2)",
    ]


def test_seeds_that_differ_alike_decide_nothing(tmp_path):
    for arm, score in {"none": 60, "squad": 65}.items():
        for seed in range(3):
            write_record(tmp_path / "runs", arm, seed, "xnli", {"en": score, "de": score}, dev=score)
    found = judged(tmp_path / "runs", tmp_path, a=("squad", "none", "[xnli]", "higher"))["a"]
    (one,) = found.differences
    assert (one.mean, one.interval(), found.verdict) == (5, None, "undecided")
    assert one.notes == ("no interval: every seed gives the same difference",)


def test_a_task_at_chance_with_every_seed_is_left_out_on_both_sides(runs, tmp_path):
    for arm in ("none", "squad", "hellaswag"):
        for seed in range(3):
            write_record(runs, arm, seed, "pawsx", {"en": 50, "de": 50}, at_chance=arm == "none", dev=50)
    found = judged(
        runs,
        tmp_path,
        a=("squad", "none", "targets", "higher"),
        b=("squad", "hellaswag", "targets", "higher"),
        c=("squad, hellaswag", "none", "targets", "higher", "dev"),
        d=("squad", "none", "[pawsx]", "higher"),
    )
    (one,) = found["a"].differences
    assert one.tasks == ("udpos", "xnli") and list(one.by_seed) == [0, 1, 2] and found["a"].verdict == "repeats"
    assert one.by_seed[0] == pytest.approx(mean_of(SQUAD, 0) - mean_of(PLAIN, 0))
    assert any("pawsx" in note and "none" in note for note in notes_of(found["a"]))
    assert set(found["b"].differences[0].tasks) == {"udpos", "xnli", "pawsx"}
    assert found["c"].differences[0].tasks == ("udpos", "xnli")
    assert found["d"].verdict == "no result" and not found_of(found["d"])


def test_the_best_arm_is_picked_for_every_task_or_not_at_all(runs, tmp_path):
    for arm in ("none", "squad", "hellaswag"):
        for seed in range(3):
            write_record(runs, arm, seed, "pawsx", {"en": 50, "de": 50}, at_chance=arm != "none", dev=50)
    wanted = ("squad, hellaswag", "none", "targets", "higher", "dev")
    found = judged(runs, tmp_path, a=wanted)["a"]
    assert found.differences[0].tasks == ("udpos", "xnli") and any("pawsx" in note for note in notes_of(found))
    for seed in range(3):
        write_record(runs, "none", seed, "panx", {"en": 50, "de": 50}, dev=50)
    found = judged(runs, tmp_path, a=wanted)["a"]
    assert found.verdict == "no result" and any("panx" in note for note in notes_of(found))


def test_an_arm_with_fewer_seeds_than_another_is_not_picked(runs, tmp_path):
    wanted = ("squad, hellaswag", "none", "[xnli]", "higher", "dev")
    shutil.rmtree(runs / "hellaswag/seed2/xnli")  # the better one on English dev
    found = judged(runs, tmp_path, a=wanted)["a"]
    assert list(found.differences[0].by_seed) == [0, 1, 2] and "picked: squad for xnli" in notes_of(found)
    assert any("seeds: hellaswag" in note for note in notes_of(found))


def test_an_arm_that_is_often_at_chance_is_not_picked_for_its_one_good_seed(runs, tmp_path):
    write_record(runs, "hellaswag", 0, "xnli", {"en": 80, "de": 80}, dev=80)
    for seed in (1, 2):
        write_record(runs, "hellaswag", seed, "xnli", {"en": 33, "de": 33}, at_chance=True, dev=33)
    found = judged(runs, tmp_path, a=("squad, hellaswag", "none", "[xnli]", "higher", "dev"))["a"]
    assert list(found.differences[0].by_seed) == [0, 1, 2] and "picked: squad for xnli" in notes_of(found)


def test_a_claim_that_picks_warns_of_the_seeds_at_chance_that_it_leaves_out(runs, tmp_path):
    write_record(runs, "none", 0, "xnli", {"en": 33, "de": 33}, at_chance=True)
    write_record(runs, "squad", 1, "udpos", {"en": 1, "de": 1}, at_chance=True, dev=90)
    write_record(runs, "hellaswag", 2, "udpos", {"en": 1, "de": 1}, at_chance=True, dev=1)  # is not picked there
    found = judged(runs, tmp_path, a=("squad, hellaswag", "none", "[xnli, udpos]", "higher", "dev"))["a"]
    assert "picked: hellaswag for xnli, squad for udpos" in notes_of(found)
    assert set(found.warnings) == {"none is at chance in xnli in seed 0", "squad is at chance in udpos in seed 1"}


def test_a_claim_that_picks_says_for_which_task_an_arm_was_no_candidate(runs, tmp_path):
    shutil.rmtree(runs / "hellaswag/seed2/xnli")
    found = judged(runs, tmp_path, a=("squad, hellaswag", "none", "targets", "higher", "dev"))["a"]
    assert "for xnli not picked from, because of fewer seeds: hellaswag" in notes_of(found)


def test_a_claim_about_each_arm_says_what_those_that_were_run_say(runs, tmp_path):
    found = judged(
        runs,
        tmp_path,
        a=("squad, qqp", "none", "[udpos]", "each higher"),
        b=("hellaswag, qqp", "none", "[udpos]", "each higher"),  # -4, -4, -5
        c=("squad, qqp", "none", "[udpos]", "not each higher"),
        d=("hellaswag, qqp", "none", "[udpos]", "not each higher"),
        e=("squad, qqp", "none", "[udpos]", "higher"),
        f=("squad, hellaswag, qqp", "none", "[udpos]", "higher", "dev"),
        g=("squad", "none, hellaswag, qqp", "[udpos]", "each higher"),
    )
    verdicts = {name: one.verdict for name, one in found.items()}
    assert verdicts == {
        **{"a": "undecided", "b": "contradicts", "c": "undecided", "d": "repeats", "e": "no result"},
        **{"f": "undecided", "g": "undecided"},
    }
    assert all(any("qqp" in note for note in notes_of(one)) for one in found.values())
    assert [(one.arms, one.against) for one in found_of(found["g"])] == [("squad", "none"), ("squad", "hellaswag")]


def test_one_of_many_arms_is_below_only_by_an_interval_for_their_number(runs, tmp_path):
    """-0.5, -0.6, -0.55 is below 0 by the 95 % interval of one arm and not by that for 40."""
    for seed, score in enumerate((69.5, 69.4, 69.45)):
        write_record(runs, "qqp", seed, "panx", {"en": score, "de": score}, dev=60)
        write_record(runs, "none", seed, "panx", {"en": 70, "de": 70}, dev=60)
    others = ", ".join(f"arm{number}" for number in range(39))
    found = judged(
        runs,
        tmp_path,
        a=("qqp", "none", "[panx]", "each higher"),
        b=(f"qqp, {others}", "none", "[panx]", "each higher"),
    )
    assert found["a"].verdict == "contradicts" and found["b"].verdict == "undecided"
    assert found["a"].differences[0].interval() == found["b"].differences[0].interval()


def test_the_verdict_warns_of_a_phase_2_at_chance(runs, tmp_path):
    path = write_record(runs, "hellaswag", 1, "hellaswag", {"en": 25}, at_chance=True, dev=25, folder=".")
    record = json.loads(path.read_text()) | {"phase": "intermediate", "scores": {}, "n": {}, "mean": {}}
    path.write_text(json.dumps(record))
    found = judged(runs, tmp_path, a=("hellaswag", "none", "targets", "higher"))["a"]
    assert found.verdict == "contradicts" and found.warnings == ("phase 2 of hellaswag is at chance in seed 1",)
    picked = judged(runs, tmp_path, a=("squad, hellaswag", "none", "[udpos]", "higher", "dev"))["a"]
    assert "picked: squad for udpos" in notes_of(picked) and not picked.warnings


def test_one_seed_decides_nothing(tmp_path):
    for arm, score in {"none": 50, "squad": 70}.items():
        write_record(tmp_path / "runs", arm, 0, "xnli", {"en": score, "de": score}, dev=score)
    assert judged(tmp_path / "runs", tmp_path, a=("squad", "none", "targets", "higher"))["a"].verdict == "undecided"


def test_the_report_writes_the_claims(runs, tmp_path):
    run_report.main(["--runs_dir", str(runs), "--claims", str(CLAIMS / "x-stilts.yaml")])
    rows = list(csv.DictReader((runs / "report/claims.csv").open()))
    squad = next(row for row in rows if row["claim"] == "squad")
    assert squad["seeds"] == "0 1 2" and squad["measured"] == "udpos xnli" and squad["tasks"] == "targets"
    by_seed = [float(value) for value in squad["by_seed"].split()]
    assert squad["verdict"] == "repeats" and float(squad["difference"]) == pytest.approx(np.mean(by_seed))
    assert {row["claim"] for row in rows} == set(
        claims_file.user_files.read_yaml(CLAIMS / "x-stilts.yaml", "")["claims"]
    )
    table = next(line for line in (runs / "report/claims.md").read_text().splitlines() if "SQuAD first" in line)
    assert "| udpos xnli " in table and "| 0 1 2 |" in table and "**repeats**" in table
    assert (
        'id="claims"' in (runs / "report/index.html").read_text()
        and "repeats" in (runs / "report/claims.md").read_text()
    )


def test_the_page_made_of_the_csv_is_that_of_the_report(runs, tmp_path):
    """Also where pandas would take a text for a number or for nothing, and for two claims in the same words."""
    text = "about: nobody\nclaims:\n"
    for name, paper_says, arms, why in (
        ("NA", "'+8.4'", "[squad]", "first"),
        ("other", "n/a", "[qqp]", "|\n      one\n      two"),
        ("2020", "'1'", "[squad, hellaswag]", "third"),
    ):
        text += f"  {name}:\n    claim: the same\n    paper: {paper_says}\n    arms: {arms}\n    tasks: targets\n"
        text += f"    against: [none, qqp]\n    expect: each higher\n    why: {why}\n"
    (tmp_path / "claims.yaml").write_text(text)
    for seed in (1, 2):
        shutil.rmtree(runs / f"none/seed{seed}")
    run_report.main(["--runs_dir", str(runs), "--claims", str(tmp_path / "claims.yaml")])
    page = (runs / "report/claims.md").read_text()
    assert paper_table.markdown(paper_table.read(runs / "report/claims.csv")) == page
    first, second, third = re.findall(r"(?m)^\| the same .*", page)
    assert "| +8.4 " in first and "| n/a " in second and "| 1 " in third and re.search(r"\| 0 +\|$", first)
    assert page.count("| no result ") == 5 and page.count("- one two\n") == 1
    assert all(line.count("(") == line.count(")") for line in page.splitlines())  # no note is cut in two
    assert "- first\n" in page and "- third\n" in page and "- squad less qqp: not measured: qqp\n" in page


@pytest.mark.parametrize(
    "arms, against, pick, shown",
    [
        ("squad", "none", "", "squad"),
        ("squad, hellaswag", "none", "", "mean of squad, hellaswag"),
        ("squad, hellaswag", "none", "dev", "best of squad, hellaswag"),
        ("none", "squad, hellaswag", "", "none less mean of squad, hellaswag"),
    ],
)
def test_the_table_says_what_is_subtracted_from_what(arms, against, pick, shown, runs, tmp_path):
    path = asked(tmp_path, a=(arms, against, "targets", "higher", *filter(None, [pick])))
    run_report.main(["--runs_dir", str(runs), "--claims", str(path)])
    assert f"| {shown} |" in re.sub(" +", " ", (runs / "report/claims.md").read_text())


@pytest.mark.parametrize(
    "text, told",
    [
        ("claims: {}", "about"),
        ("about: x\nclaims: {}", "one entry a claim"),
        ("about: x\nclaims: {a: {claim: b, paper: c, arms: [my arm], expect: higher, tasks: all}}", "without blanks"),
        ("about: x\nclaims: {a: {claim: b}}", "paper, arms, expect, tasks missing"),
        ("about: x\nclams: {}", "clams.*claims"),
        ("about: x\nzzz: {}", "zzz.*about margin claims"),
        ("about: x\nmargin: -1\nclaims: {a: b}", "margin"),
        ("about: x\nclaims: {a: b}", "a: expected"),
        ("about: x\nclaims: {a: {claim: b, paper: c, arms: [d], expect: lower, tasks: all}}", "lower"),
        ("about: x\nclaims: {a: {claim: b, paper: c, arms: d, expect: higher, tasks: all}}", "arms"),
        ("about: x\nclaims: {a: {claim: b, paper: c, arms: [d], expect: higher, tasks: some}}", "tasks"),
        ("about: x\nclaims: {a: {claim: b, paper: c, arms: [d], expect: higher, tasks: all, pick: test}}", "pick"),
        ("about: x\nclaims: {a: {claim: b, paper: c, arms: [d], expect: higher, tasks: all, than: [e]}}", "than"),
    ],
)
def test_a_file_of_claims_that_cannot_be_read_is_refused_by_name(text, told, tmp_path):
    path = tmp_path / "claims.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=f"claims.yaml.*{told}"):
        claims_file.read_claims(path)
