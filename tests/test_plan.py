"""`make plan`: what is done, what is left, and an estimate that names its number of runs."""

import pytest
import records

from tasks.errors import UserError
from xstilts import plan

RECORD = records.small()


@pytest.fixture
def stamps(tmp_path):
    """Two of four xnli cells done (60 and 180 s), one of two of phase 2 (1 h), udpos not at all."""
    for place, seconds in {"none/seed0/xnli": 60, "none/seed1/xnli": 180, "mnli/seed0": 3600}.items():
        records.write(tmp_path / place / "results.json", RECORD | {"seconds": seconds})
    seeds = [f"{arm}/seed{k}" for arm in ("mnli", "none") for k in (0, 1)]
    cells = [f"{seed}/{task}" for task in ("xnli", "udpos") for seed in seeds]
    return [tmp_path / place / "results.json" for place in [*seeds[:2], *cells]]


def test_each_kind_is_estimated_from_its_own(stamps):
    found = plan.groups(stamps)
    assert {kind: (len(g.seconds), g.total, g.estimate) for kind, g in found.items()} == {
        "phase 2: mnli": (1, 2, 3600),
        "xnli": (2, 4, 240),
        "udpos": (0, 4, None),
    }


def test_the_text_says_from_how_many_and_what_is_unknown(stamps):
    text = plan.report(stamps, jobs=2)
    assert "Done: 3 of 10 runs. Left: 7." in text
    assert "Estimate for 3 of them: 64.0 min of work, 32.0 min with 2 at a time (from 3 finished" in text
    assert "Rough estimate for 4" in text  # udpos, from the ratios of the miniature world


def test_before_the_first_run_of_a_kind_there_is_a_rough_estimate(stamps):
    """xnli and mnli took as many times longer than in the world as udpos will."""
    found = plan.groups(stamps)
    slower = (60 + 180 + 3600) / (2 * plan.WORLD["xnli"] + plan.WORLD["phase 2: mnli"])
    assert plan.rough_estimates(found) == {"udpos": pytest.approx(4 * plan.WORLD["udpos"] * slower)}
    (line,) = [line for line in plan.report(stamps).splitlines() if line.startswith("udpos")]
    assert "~" in line and "unknown" not in line


def test_before_any_run_there_are_shares(tmp_path):
    text = plan.report([tmp_path / f"none/seed0/{task}/results.json" for task in ("xnli", "udpos")])
    xnli, udpos = plan.WORLD["xnli"], plan.WORLD["udpos"]
    assert f"~{100 * xnli / (xnli + udpos):.0f} %" in text and f"~{100 * udpos / (xnli + udpos):.0f} %" in text
    assert "rough" in text and "Estimate" not in text


@pytest.mark.parametrize(
    "kind, like",
    [
        ("phase 2: squad+lora", "phase 2: squad"),
        ("phase 2: squad_dual+multilingual", "phase 2: squad_dual"),
        ("xnli", "xnli"),
    ],
)
def test_an_arm_has_the_ratio_of_its_base(kind, like):
    assert plan.weight(kind) == plan.WORLD[like]


def test_an_unknown_kind_has_the_ratio_of_similar_ones():
    assert plan.WORLD["tatoeba"] < plan.weight("ntrex") < plan.WORLD["bucc"]
    assert plan.weight("phase 2: cosmosqa") > plan.weight("panx") > plan.weight("ntrex")


@pytest.mark.parametrize("jobs, minutes", [(1, 2), (2, 1)])
def test_the_line_before_a_run_counts_it_and_says_how_long(tmp_path, jobs, minutes, monkeypatch, capsys):
    monkeypatch.setattr(plan, "START_UP", 0.0)
    cells = [tmp_path / f"none/seed{k}/xnli/results.json" for k in range(4)]
    for cell in cells[:2]:
        records.write(cell, RECORD | {"seconds": 60})
    line = f"run 3 of 4, about {minutes * 60} s left: {cells[2].parent}".replace("120 s", "2.0 min")
    assert plan.before(cells[2], cells, jobs) == line
    cells[2].parent.mkdir(parents=True)
    (cells[2].parent / ".lock").touch()  # at work in another job
    assert plan.before(cells[3], cells, jobs).startswith("run 4 of 4, ")
    grid = ["--runs_dir", str(tmp_path), "--arms", "none", "--tasks", "xnli", "--seeds", "0", "1", "2", "3"]
    plan.main([*grid, "--before", str(cells[3])])
    assert capsys.readouterr().out.startswith("run 4 of 4, about ")


def test_the_line_before_a_run_reads_few_results(tmp_path, monkeypatch):
    cells = [tmp_path / f"none/seed{k}/{task}/results.json" for task in ("xnli", "udpos") for k in range(60)]
    for cell in cells[:-1]:
        records.write(cell, RECORD | {"seconds": 60})
    read, plain = [], plan.Record.read
    monkeypatch.setattr(plan.Record, "read", lambda path: read.append(path) or plain(path))
    line = plan.before(cells[-1], cells)
    assert line.startswith("run 120 of 120, about 62 s left") and len(read) == 40  # a minute, and START_UP
    assert [group.left for group in plan.groups(cells, most=20).values()] == [0, 1]


def test_without_a_finished_run_the_line_says_no_time(stamps, tmp_path):
    stamp = tmp_path / "other/none/seed0/xnli/results.json"
    assert plan.before(stamp, [stamp]) == f"run 1 of 1: {stamp.parent}"


def test_an_unreadable_result_is_named_and_counts_as_left(stamps):
    stamps[0].write_text("{")
    text = plan.report(stamps)
    assert "Done: 2 of 10 runs" in text and f"Unreadable: {stamps[0]}" in text


def test_nothing_left(stamps):
    done = [stamp for stamp in stamps if stamp.is_file()]
    assert "Done: 3 of 3 runs. Left: 0." in plan.report(done) and "of work" not in plan.report(done)


@pytest.mark.parametrize("words", [["none"], ["none=a"], ["nine=0"], ["none=0", "none=1"]])
def test_seeds_of_an_arm_that_would_not_count_are_refused(words):
    with pytest.raises(UserError, match=f"--seeds_of {words[-1]}: "):
        plan.read_seeds_of(words, ["none", "squad"])
