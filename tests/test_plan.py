"""`make plan`: what is done, what is left, and an estimate that names its number of runs."""

import pytest
import records

from xstilts import plan
from xstilts.errors import UserError

RECORD = {
    "phase": "target",
    "task": "xnli",
    "form": "sentence_pair",
    "arm": "none",
    "seed": 0,
    "model": "m",
    "parents": [],
    "metric": "accuracy",
    "chance": None,
    "at_chance": False,
    "dev": {},
    "scores": {"en": {"accuracy": 60}},
    "n": {"en": 5},
    "settings": {},
    "data": [],
}


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
    assert "3 of 10 runs are done, 7 are left" in text
    assert "Estimate for 3 of them: 64.0 min of work, 32.0 min with 2 at a time (from 3 finished" in text
    assert "No estimate for 4" in text


def test_an_unreadable_result_is_named_and_counts_as_left(stamps):
    stamps[0].write_text("{")
    text = plan.report(stamps)
    assert "2 of 10 runs are done" in text and f"Unreadable: {stamps[0]}" in text


def test_nothing_left(stamps):
    done = [stamp for stamp in stamps if stamp.is_file()]
    assert "3 of 3 runs are done, 0 are left." in plan.report(done) and "of work" not in plan.report(done)


@pytest.mark.parametrize("words", [["none"], ["none=a"], ["nine=0"], ["none=0", "none=1"]])
def test_seeds_of_an_arm_that_would_not_count_are_refused(words):
    with pytest.raises(UserError, match=f"--seeds_of {words[-1]}: "):
        plan.read_seeds_of(words, ["none", "squad"])
