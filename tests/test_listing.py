"""Folders of runs behind symbolic links."""

import json
import shutil
from pathlib import Path

import pytest
from test_spoilt import lay_out, read_all, records

from xstilts import plan, push
from xstilts.report import matrix as mx
from xstilts.run import listing, results


@pytest.fixture
def runs(tmp_path):
    return lay_out(tmp_path / "runs", records())


def move(path, elsewhere):
    """Moves a folder and leaves a link to it in its place."""
    shutil.move(path, elsewhere)
    path.symlink_to(elsewhere)


@pytest.mark.parametrize("part", ["mnli", "mnli/seed1", "mnli/seed1/xnli", "mnli/seed1/xnli/results.json", ""])
def test_symbolic_links_are_followed(runs, tmp_path, part):
    before = mx.collect(runs)
    move(runs / part, tmp_path / "scratch")
    after = read_all(runs, tmp_path / "out")
    assert after.records == before.records and after.paths == before.paths and after.trainings == before.trainings
    assert after.problems == [] and after.missing == []
    assert "Done: 16 of 16 runs" in plan.report([runs / name for name in records()])
    system = json.loads((tmp_path / "out/submission/system.json").read_text())
    assert system["tasks"]["xnli"]["arm"] == "squad"


def test_a_link_that_leads_nowhere_is_named(runs, tmp_path):
    move(runs / "mnli", tmp_path / "scratch")
    (tmp_path / "scratch").rename(tmp_path / "unmounted")
    matrix = mx.collect(runs)
    assert matrix.arms == ["none", "squad"]
    assert matrix.problems == [f"{runs / 'mnli'} leads to {tmp_path / 'scratch'}, which is not there."]


def test_an_arm_behind_a_link_is_pushed(runs, tmp_path, monkeypatch):
    (runs / "mnli/seed0/model.safetensors").touch()
    move(runs / "mnli", tmp_path / "scratch")
    monkeypatch.setattr(push.card, "check_push", lambda run: None)
    monkeypatch.setattr(push.card, "push", lambda repo, folder, **_: pushed.append(folder))
    monkeypatch.setattr(push, "index", lambda *_: None)
    pushed = []
    assert push.push_all("me", "matrix", [runs / "mnli/seed0"]) == [] and pushed == [runs / "mnli/seed0"]


def test_every_arm_behind_a_link(runs, tmp_path):
    for arm in ("none", "mnli", "squad"):
        move(runs / arm, tmp_path / f"scratch-{arm}")
    assert len(mx.collect(runs).records) == 12


def test_a_cycle_ends_and_is_named(runs):
    (runs / "mnli/seed0/up").symlink_to("../..")
    (runs / "squad/self").symlink_to(".")
    (runs / "none/other").symlink_to(runs / "mnli/seed0")
    matrix = mx.collect(runs)
    assert len(matrix.records) == 12 and len(matrix.problems) == 3
    for link in ("mnli/seed0/up", "squad/self", "none/other"):
        assert any(problem.startswith(f"{runs / link} leads to {runs}") for problem in matrix.problems)


def test_folders_that_link_to_each_other_end(runs, tmp_path):
    for name in "abc":
        (tmp_path / name).mkdir()
        for other in "abc":
            (tmp_path / name / other).symlink_to(tmp_path / other)
    (runs / "links").symlink_to(tmp_path / "a")
    assert len(mx.collect(runs).records) == 12


@pytest.mark.parametrize("alias", ["alias", "other"])  # one sorts before the arm, one after
def test_one_folder_behind_two_links_is_the_arm_its_results_name(runs, tmp_path, alias):
    move(runs / "mnli", tmp_path / "scratch")
    (runs / alias).symlink_to(tmp_path / "scratch")
    matrix = mx.collect(runs)
    assert matrix.arms == ["none", "mnli", "squad"] and len(matrix.records) == 12 and len(matrix.trainings) == 4
    assert len(matrix.problems) == 6 and all(
        problem.startswith(f"{alias}/seed") and "arm mnli" in problem for problem in matrix.problems
    )


def test_checkpoints_and_hidden_folders_are_left_out_behind_links_too(runs, tmp_path):
    lay_out(tmp_path / "more", {"results.json": records()["mnli/seed0/xnli/results.json"]})
    for name in ("checkpoint-5", ".hidden"):
        (runs / "mnli/seed0" / name).symlink_to(tmp_path / "more")
    assert not any("checkpoint-5" in str(path) or ".hidden" in str(path) for path in results.paths(runs))


def test_names_that_are_not_utf8_are_shown_with_escapes(runs, tmp_path):
    odd = Path(str(runs).encode().decode(), b"caf\xe9".decode("utf-8", "surrogateescape"), "seed0", "xnli")
    odd.mkdir(parents=True)
    shutil.copy(runs / "mnli/seed0/xnli/results.json", odd)
    matrix = read_all(runs, tmp_path / "out", plots=True)
    assert len(matrix.records) == 12 and "caf\\udce9/seed0" in matrix.problems[0]


def test_a_folder_without_results(tmp_path):
    assert listing.look(tmp_path).named("results.json") == []
