"""benchmarks/costs.py and processes.py in small; what is kept agrees with what they compute."""

import csv

import pytest
from conftest import ROOT

from benchmarks import costs, processes

TINY = costs.Sizes((2, 4), (32, 64), (2, 3), (1, 2), (1,), sentences=3, repeats=1)


@pytest.mark.parametrize("name", ["cells", "rows", "languages", "layers"])
def test_a_curve_has_a_point_for_each_x(name):
    points = list(costs.CURVES[name](TINY))
    assert {x for _, _, x, _ in points} == set(getattr(TINY, name))
    assert {curve for curve, *_ in points} == {name} and all(seconds > 0 for *_, seconds in points)


def test_processes_share_a_step_and_reach_the_same_loss():
    work = processes.Work(layers=1, hidden=32, rows=8, tokens=8, steps=2)
    one, two = (processes.measure(work, world) for world in (1, 2))
    assert one["loss"] == pytest.approx(two["loss"], abs=1e-4)
    assert one["cpu"] > 0 and two["wall"] > 0


def test_curves_measured_again_replace_their_own_points_alone(tmp_path):
    costs.keep([("rows", "an epoch", 8, 1.0), ("rows", "an epoch", 16, 4.0)], tmp_path)
    costs.keep([("cells", "report", 5, 2.0)], tmp_path)
    costs.keep([("rows", "an epoch", 8, 1.0), ("rows", "an epoch", 16, 2.0)], tmp_path)
    assert costs.read(tmp_path / "costs.csv") == [
        ("cells", "report", 5, 2.0),
        ("rows", "an epoch", 8, 1.0),
        ("rows", "an epoch", 16, 2.0),
    ]
    table = costs.table(tmp_path)
    assert "| rows: an epoch | 8, 16 | 1, 2 | 1.00 |" in table and "cores; a thread each" in table
    picture = costs.picture(tmp_path, "")
    assert picture.count("an epoch") == 1 and costs.picture(tmp_path, picture) is picture


def test_what_a_matrix_costs_is_scalings_arithmetic():
    with open(ROOT / "docs/results/matrix-costs.csv", encoding="utf-8", newline="") as text:
        assert list(csv.reader(text))[1:] == costs.matrix_costs([*costs.MATRIX, "OUT=none-there"])
