"""run_report.py on results written by hand: the test computes every figure itself."""

import base64
import csv
import dataclasses
import io
import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import records
from PIL import Image

import run_report
from tasks.errors import UserError
from xstilts.cli.arguments import RetrievalArguments
from xstilts.report import charts, comparable, frames, notes, page
from xstilts.report import matrix as mx
from xstilts.report.tables import headline_tables
from xstilts.run.record import Record

REPO = Path(run_report.__file__).parent


def write_record(root, arm, seed, task, scores, metric="accuracy", at_chance=False, dev=None, folder=None, **changes):
    """Writes one cell with `scores` {language: score, or {metric: score}}."""
    scores = {lang: score if isinstance(score, dict) else {metric: score} for lang, score in scores.items()}
    result = {
        "phase": "target",
        "task": task,
        "form": "some_form",
        "arm": arm,
        "seed": seed,
        "model": f"runs/{arm}/seed{seed}",
        "parents": ["tiny"],
        "metric": metric,
        "chance": {metric: 33.0},
        "at_chance": at_chance,
        "dev": {"en": {metric: dev}} if dev is not None else {},
        "scores": scores,
        "n": dict.fromkeys(scores, 10),
        "settings": {},
        "data": [{"id": f"some/{task}", "config": "x", "split": "test", "rows": 10, "revision": "r1"}],
        "command": f"python run_target.py --task {task} --seed {seed}",
        "seconds": 1.0,
    }
    path = root / arm / f"seed{seed}" / (folder or task) / "results.json"
    records.write(path, result | changes)
    return path


def write_retrieval(root, arm, seed, layers, chosen, task="tatoeba"):
    layers = {str(k): {lang: {"accuracy": x} for lang, x in scores.items()} for k, scores in layers.items()}
    retrieval = {"phase": "retrieval", "layer": chosen, "pooling": "mean", "layers": layers, "chance": None}
    write_record(root, arm, seed, task, layers[str(chosen)], **retrieval)


@pytest.fixture
def runs(tmp_path):
    """Two arms, two targets and retrieval, one seed; every number is chosen so that means are plain."""
    root = tmp_path / "runs"
    write_record(root, "mnli", 0, "xnli", {"en": 80, "qaa": 70, "qab": 60}, dev=81)
    write_record(root, "none", 0, "xnli", {"en": 76, "qaa": 60, "qab": 50}, dev=77)
    for arm, f1, exact in (("none", 40, 20), ("mnli", 44, 18)):
        spans = {lang: {"f1": f1 + more, "exact_match": exact + more} for lang, more in (("en", 20), ("qaa", 0))}
        write_record(root, arm, 0, "tydiqa", spans, metric="f1", dev=50)
    write_retrieval(root, "none", 0, {0: {"qaa": 1, "qab": 3}, 1: {"qaa": 10, "qab": 20}}, 1)
    write_retrieval(root, "mnli", 0, {0: {"qaa": 2, "qab": 4}, 1: {"qaa": 40, "qab": 50}}, 1)
    return root


def report(runs, *arguments):
    """Runs the script's main; returns the report's folder."""
    run_report.main(["--runs_dir", str(runs), *arguments])
    return runs / "report"


def tables(runs, **grid):
    """Returns (matrix.csv as {arm: {column: text}}, matrix.md), without the plots, which take most of the time."""
    matrix = mx.collect(runs, **grid)
    rows = csv.DictReader(io.StringIO(frames.wide_table(matrix).to_csv()))
    return {row["arm"]: row for row in rows}, page.markdown_page(matrix, "title")


def row_of(markdown, arm, caption):
    """Returns the cells of one arm in the table under `caption`."""
    table = markdown[markdown.index(f"**{caption}") :]
    line = next(line for line in table.splitlines() if re.match(rf"\| {re.escape(arm)} +\|", line))
    return [cell.strip() for cell in line.strip("|").split("|")][1:]


def test_figures_by_hand(runs):
    rows, _ = tables(runs)
    assert list(rows) == ["none", "mnli"]  # none leads although m comes before n
    mnli, none = rows["mnli"], rows["none"]
    assert float(mnli["xnli.english"]) == 80
    assert float(mnli["xnli.others"]) == 65
    assert float(mnli["xnli.all"]) == float(mnli["xnli.score"]) == 70
    assert float(mnli["xnli.difference"]) == pytest.approx(70 - 62)
    # XTREME: (mean EM + mean F1) / 2, here (28 + 54) / 2 and (30 + 50) / 2.
    assert float(mnli["tydiqa.all"]) == 54
    assert float(mnli["tydiqa.em_f1"]) == float(mnli["tydiqa.score"]) == 41
    assert float(none["tydiqa.score"]) == 40
    assert float(mnli["tatoeba.score"]) == 45 and mnli.get("tatoeba.english") is None
    assert float(mnli["average without retrieval.mean"]) == pytest.approx((70 + 41) / 2)
    assert float(mnli["average with retrieval.mean"]) == pytest.approx((70 + 41 + 45) / 3)
    assert float(mnli["average with retrieval.difference"]) == pytest.approx((8 + 1 + 30) / 3)
    assert none["xnli.difference"] == "" and mnli["xnli.score_sd"] == ""


def test_markdown_shows_the_same_and_says_single_seed(runs):
    _, text = tables(runs)
    assert row_of(text, "mnli", "Score of each task") == ["**55.5**", "**52.0**", "**41.0**", "**70.0**", "**45.0**"]
    assert row_of(text, "mnli", "Difference to arm none") == ["+4.5", "+13.0", "+1.0", "+8.0", "+30.0"]
    assert "single seed" in text
    assert row_of(text, "xnli", "Best arm of each task") == ["mnli", "70.0", "mnli", "70.0"]
    assert row_of(text, "tatoeba", "Best arm of each task") == ["mnli", "45.0", "–", "–"]  # no English dev


def test_cells_csv_holds_every_score(runs):
    rows = list(csv.DictReader(io.StringIO(frames.long_table(mx.collect(runs)).to_csv(index=False))))
    assert len(rows) == 2 * 3 + 2 * 2 * 2 + 2 * 2 * 2  # xnli, tydiqa with two metrics, tatoeba with two layers
    [row] = [r for r in rows if (r["arm"], r["task"], r["language"], r["layer"]) == ("mnli", "tatoeba", "qab", "0")]
    assert (float(row["score"]), row["n"], row["chance"], row["metric"]) == (4, "10", "", "accuracy")
    assert row["path"] == "mnli/seed0/tatoeba/results.json"


def test_mean_and_sd_over_seeds_pair_with_none(runs):
    write_record(runs, "none", 1, "xnli", {"en": 78, "qaa": 62, "qab": 52})  # 64
    write_record(runs, "mnli", 1, "xnli", {"en": 86, "qaa": 76, "qab": 66})  # 76
    rows, text = tables(runs, tasks=["xnli"])
    mnli = rows["mnli"]
    assert float(mnli["xnli.score"]) == 73
    assert float(mnli["xnli.score_sd"]) == pytest.approx(18**0.5)  # 70 and 76: deviations 3 and 3, over n - 1 = 1
    assert float(mnli["xnli.difference"]) == pytest.approx(10)  # 8 and 12
    assert float(mnli["xnli.difference_sd"]) == pytest.approx(8**0.5)
    assert mnli["xnli.n"] == "2"
    assert "**73.0 ± 4.2**" in text


def test_missing_cell_is_blank_and_named(runs):
    (runs / "mnli/seed0/xnli/results.json").unlink()
    rows, text = tables(runs)
    mnli = rows["mnli"]
    assert mnli["xnli.score"] == mnli["average without retrieval.mean"] == mnli["average with retrieval.mean"] == ""
    assert mnli["average without retrieval.reason"] == "missing xnli seed 0"
    # averages are over the scores that are there, and are not ranked
    assert row_of(text, "mnli", "Score of each task") == ["41.0‡", "43.0‡", "**41.0**", "", "**45.0**"]
    assert row_of(text, "mnli", "Difference to arm none")[:2] == ["+1.0‡", "+15.5‡"]  # over the tasks that both have
    assert "- mnli/xnli: seed 0" in text
    assert float(rows["none"]["average without retrieval.mean"]) == pytest.approx((62 + 40) / 2)


def test_expected_grid_shows_what_was_never_run(runs):
    rows, text = tables(runs, arms=["squad", "mnli", "none"], tasks=["tatoeba", "xnli"], seeds=[0])
    assert list(rows) == ["none", "squad", "mnli"]
    assert rows["squad"]["xnli.score"] == "" and "- squad/xnli: seed 0" in text
    assert "Found but not asked for: tasks tydiqa." in text


def test_seed_missing_on_one_side_gives_no_difference(runs):
    write_record(runs, "mnli", 1, "xnli", {"en": 86, "qaa": 76, "qab": 66})
    rows, text = tables(runs, tasks=["xnli"])
    assert float(rows["mnli"]["xnli.score"]) == 73 and rows["mnli"]["xnli.difference"] == ""
    assert "xnli: seeds 0 1, but 0 in none" in text
    assert "1 of 2 seeds: none/xnli." in text
    assert row_of(text, "mnli", "Difference to arm none")[-1] == "+8.0‡"  # over the seed that both have


def test_cell_at_chance_is_marked_and_in_no_average(runs):
    write_record(runs, "squad", 0, "xnli", {"en": 90, "qaa": 90, "qab": 90}, at_chance=True)
    write_record(
        runs, "squad", 0, "tydiqa", {lang: {"f1": 30, "exact_match": 20} for lang in ("en", "qaa")}, metric="f1"
    )
    write_retrieval(runs, "squad", 0, {1: {"qaa": 20, "qab": 30}}, 1)
    rows, text = tables(runs)
    squad = rows["squad"]
    assert squad["xnli.chance"] == "all"
    assert float(squad["average with retrieval.mean"]) == pytest.approx((25 + 25) / 2)
    assert squad["average with retrieval.reason"] == "without xnli: at chance"
    assert squad["average with retrieval.difference"] == ""  # none's average is over three tasks
    # 90.0 is the highest of its column, but at chance and so not bold.
    assert row_of(text, "squad", "Score of each task") == ["25.0‡", "25.0‡", "25.0", "90.0 †", "25.0"]
    assert "squad/xnli, seed 0: English dev is at chance" in text
    html = page.html_page(mx.collect(runs), "title", {})
    assert "at chance" in html and '<td class="chance"' in html


def test_seeds_of_an_arm_need_no_arms_beside_them_but_an_arm_that_is_there(runs, capsys):
    run_report.main(["--runs_dir", str(runs), "--seeds_of", "mnli=0,7"])
    assert "Missing cells: 3." in capsys.readouterr().out  # seed 7 of the three tasks
    with pytest.raises(UserError, match="--seeds_of nine: .*--arms"):
        run_report.main(["--runs_dir", str(runs), "--seeds_of", "nine=0"])


def test_seed_at_chance_leaves_the_mean_over_seeds(runs):
    write_record(runs, "mnli", 1, "xnli", {"en": 33, "qaa": 33, "qab": 33}, at_chance=True)
    write_record(runs, "none", 1, "xnli", {"en": 78, "qaa": 62, "qab": 52})
    rows, text = tables(runs, tasks=["xnli"])
    mnli = rows["mnli"]
    assert (float(mnli["xnli.score"]), mnli["xnli.n"], mnli["xnli.chance"]) == (70, "1", "some")
    assert mnli["xnli.difference"] == ""
    assert "1 of 2 seeds: mnli/xnli." in text and "70.0 †" in text


def spoil_by_copy(runs):
    write_record(runs, "mnli", 0, "xnli", {"en": 1, "qaa": 1, "qab": 1}, folder="xnli-again")
    return "2 results for one cell"


def spoil_by_truncation(runs):
    path = runs / "mnli/seed0/xnli/results.json"
    path.write_text(path.read_text()[:100])
    return "cannot be read"


def spoil_by_schema(runs):
    path = runs / "mnli/seed0/xnli/results.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema": 2}))
    return "schema is 2"


def spoil_by_languages(runs):
    write_record(runs, "squad", 0, "xnli", {"en": 76, "qaa": 60, "qab": 50})
    write_record(runs, "mnli", 0, "xnli", {"en": 80})
    return "another metric or row count"


def spoil_by_folder(runs):
    path = runs / "mnli/seed0/xnli/results.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"arm": "squad"}))
    return "belongs in another folder"


@pytest.mark.parametrize(
    "spoil", [spoil_by_copy, spoil_by_truncation, spoil_by_schema, spoil_by_languages, spoil_by_folder]
)
def test_doubtful_cell_is_blank_and_named_as_a_problem(runs, spoil):
    said = spoil(runs)
    rows, text = tables(runs)
    html = page.html_page(mx.collect(runs), "title", {})
    assert rows["mnli"]["xnli.score"] == ""
    assert all(said in shown and "Problems" in shown for shown in (text, html))


def test_other_data_behind_one_cell_is_said(runs):
    data = [{"id": "some/xnli", "config": "x", "split": "test", "rows": 10, "revision": "r2"}]
    write_record(runs, "mnli", 0, "xnli", {"en": 80, "qaa": 70, "qab": 60}, data=data)
    assert any("of another revision or number" in problem for problem in mx.collect(runs).problems)


def test_without_the_plain_arm_there_are_no_differences(runs):
    folder = report(runs, "--arms", "mnli")
    assert "There is no arm none" in (folder / "matrix.md").read_text(encoding="utf-8")
    assert "no seed has a usable score of both" not in (folder / "matrix.md").read_text(encoding="utf-8")
    assert tables(runs, arms=["mnli"])[0]["mnli"]["xnli.difference"] == ""


def test_page_stands_alone(runs):
    write_record(runs, "<b>odd</b>", 0, "xnli", {"en": 80, "qaa": 70, "qab": 60})
    html = (report(runs) / "index.html").read_text(encoding="utf-8")
    loads = re.findall(r"""(?:src|href)\s*=\s*["']?([^"'\s>]+)|url\(([^)]*)\)|@import\s+(\S+)""", html)
    assert loads and all(address.startswith(("data:", "#")) for one in loads for address in one if address)
    assert "<script src" not in html and "<b>odd</b>" not in html
    assert "<details" in html and "prefers-color-scheme: dark" in html
    assert "python run_target.py --task xnli --seed 0" in html and "r1" in html


def test_files_are_the_same_every_time_and_old_pictures_go(runs):
    folder = report(runs)
    names = [".asked", "matrix.md", "matrix.tex", "matrix.csv", "cells.csv", "index.html"]
    first = {name: (folder / name).read_bytes() for name in names}
    (folder / "layers.png").touch()  # of an earlier version
    for name in ("question.csv", "question.md", "question-forest.png", "curve.csv", "claims.csv", "claims.md"):
        (folder / name).touch()  # of an earlier report, of other results
    report(runs)
    assert first == {name: (folder / name).read_bytes() for name in names}
    assert sorted(path.name for path in folder.iterdir()) == sorted(names)


def test_the_page_holds_the_files_it_offers(runs):
    folder = report(runs)
    html = (folder / "index.html").read_text(encoding="utf-8")
    held = dict(re.findall(r'href="data:[\w/-]+;base64,([^"]+)" download="([\w.]+)"', html))
    assert sorted(held.values()) == ["matrix.csv", "matrix.md", "matrix.tex"]
    for content, name in held.items():
        assert base64.b64decode(content) == (folder / name).read_bytes()


def test_latex_shows_every_sign(runs):
    write_record(runs, "a_b&c\\d", 0, "xnli", {"en": 80, "qaa": 70, "qab": 60})
    text = (report(runs) / "matrix.tex").read_text(encoding="utf-8")
    assert r"a\_b\&c\textbackslash{}d & " in text and r"\textbf{70.0}" in text and r"\toprule" in text
    assert text.count(r"\begin{tabular}{lrrrrr}") == 2 and "‡" not in text


def test_layer_curve_is_the_mean_over_languages(runs):
    curve = mx.by_layer(mx.collect(runs))
    points = {(r.arm, r.layer): (r.score, r.chosen) for r in curve.itertuples()}
    assert points == {
        ("none", 0): (2, False),
        ("none", 1): (15, True),
        ("mnli", 0): (3, False),
        ("mnli", 1): (45, True),
    }
    none, mnli = charts.layer_panels(mx.collect(runs), "tatoeba")
    assert (none.name, none.value, none.top, none.other) == ("none", "15.0 at 1", "45", "")
    height = [round(charts.HEIGHT * (1 - score / 45), 1) for score in (2, 15)]
    assert none.line == f"0.0,{height[0]} {charts.WIDTH}.0,{height[1]}" == mnli.other
    assert mnli.rings == ((charts.WIDTH, 0.0),)


def test_charts_over_layers_are_over_the_seeds_with_all_layers(runs):
    write_retrieval(runs, "mnli", 1, {0: {"qaa": 4, "qab": 6}, 1: {"qaa": 50, "qab": 60}}, 1)
    scores = {"qaa": {"accuracy": 90}, "qab": {"accuracy": 90}}
    one_layer = {"phase": "retrieval", "layer": 1, "pooling": "mean", "chance": None}
    write_record(runs, "mnli", 2, "tatoeba", scores, **one_layer)
    write_record(runs, "squad", 0, "tatoeba", scores, **one_layer)
    matrix = mx.collect(runs)
    none, mnli, squad = charts.layer_panels(matrix, "tatoeba")
    assert (mnli.value, squad.value) == ("50.0 at 1", "90.0 at 1")  # 45 and 55, without the 90 at one layer
    languages, strips = charts.strips(matrix, "tatoeba")
    assert [strip.name for strip in strips] == ["none", "mnli", "squad"]
    (note,) = [note for note in charts.notes(matrix) if "by layer" in note]
    assert "mnli, seed 2:" in note


def test_heat_strips_hold_every_language_by_layer(runs):
    write_retrieval(runs, "mnli", 1, {0: {"qaa": 4, "qab": 4}, 1: {"qaa": 20, "qab": 60}}, 1)
    languages, (none, mnli) = charts.strips(mx.collect(runs), "tatoeba")
    assert languages == ["qab", "qaa"] and (none.name, none.layers) == ("none", (0, 1))  # the best language first
    picture = Image.open(io.BytesIO(base64.b64decode(mnli.image.partition(",")[2])))
    assert picture.size == (2, 2)  # layers by languages
    light = [sum(picture.convert("RGB").getpixel((1, row))) for row in range(2)]
    assert light[0] > light[1]  # 55 above 30


def test_centred_figures_and_measures_stand_beside_the_plain_one(runs):
    for seed, shift in ((0, 0), (1, 10)):
        scores = {
            language: {"map@20": x + shift, "map@20_centered": 2 * x, "map_monolingual": 3 * x}
            for language, x in (("qaa", 10), ("qab", 20))
        }
        write_record(
            runs,
            "none",
            seed,
            "lareqa",
            scores,
            metric="map@20",
            phase="retrieval",
            layer=1,
            pooling="mean",
            layers={"1": scores},
            measures={"language_bias": 40 + seed, "layer1/language_bias": 40 + seed},
        )
    _, text = tables(runs)
    cells = row_of(text, "none", "lareqa: map@20")
    assert cells[:4] == ["20.0 ± 7.1", "30.0 ± 0.0", "45.0 ± 0.0", "40.5 ± 0.7"]
    assert "Means and neighbours come from the searched sentences alone" in text
    assert "not cut at 20" in text and "language_bias counts ranks" in text
    html = page.html_page(mx.collect(runs), "title", {})
    assert "come from the searched sentences alone" in html and "map@20_centered" in html


def test_another_metric_stands_beside_the_score_only_if_it_is_of_the_same_seeds(runs):
    """And it does not matter which seed was read first."""
    for seed, more in ((0, {}), (1, {}), (2, {"accuracy_csls": 75.5})):
        scores = {"qaa": {"accuracy": 60.0 + seed, **more}}
        layers = {"phase": "retrieval", "layer": 1, "pooling": "mean", "layers": {"1": scores}}
        for arm in ("none", "mnli"):
            shown = scores if arm == "mnli" else {"qaa": {"accuracy": 60.0, "accuracy_csls": 65.0}}
            write_record(runs, arm, seed, "tatoeba", shown, **layers | {"layers": {"1": shown}})
    _, text = tables(runs)
    assert row_of(text, "none", "tatoeba: accuracy")[1] == "65.0 ± 0.0"
    assert row_of(text, "mnli", "tatoeba: accuracy")[:2] == ["61.0 ± 1.0", ""]


def test_scores_in_languages_that_phase_2_trained_the_task_in_are_named(runs):
    start_from(runs, "mnli", ["tiny"], seen_languages=["qaa", "qzz"])
    assert notes.trained_notes(mx.collect(runs)) == []  # another task
    change(runs / "mnli/seed0/results.json", task="squad+xnli")
    matrix = mx.collect(runs)
    (note,) = notes.trained_notes(matrix)
    assert note.startswith("xnli: phase 2 of mnli ") and " qaa," in note and "qab" not in note
    _, text = tables(runs)
    assert text.count(note) == 1 and "(zero-shot)" not in text


def test_differences_are_tinted_by_the_largest_of_their_column(runs):
    write_record(runs, "squad", 0, "xnli", {"en": 72, "qaa": 56, "qab": 46})
    _, table = page.tables.headline_tables(mx.collect(runs, tasks=["xnli", "tatoeba"]))
    tints = {
        arm: {head: cell.tint for head, cell in zip(table.heads[1:], row, strict=True)} for arm, row in table.rows
    }
    assert tints["mnli"]["xnli (accuracy)"] == 1 and tints["squad"]["xnli (accuracy)"] == -0.5  # +8 and -4
    assert tints["mnli"]["tatoeba (accuracy)"] == 1  # each column has its own scale: +30 does not make the others pale


def test_training_before_the_target_is_shown(runs):
    path = write_record(runs, "mnli", 0, "mnli", {}, folder="x", dev=33.1, at_chance=True, phase="intermediate")
    path.rename(runs / "mnli/seed0/results.json")
    mlm = {"phase": "mlm", "metric": "perplexity", "chance": None, "measures": {"perplexity": 123.4, "loss": 4.8}}
    path = write_record(runs, "mlm", 0, "mlm", {}, folder="x", **mlm)
    path.rename(runs / "results.json")  # the phase-1 model of a matrix belongs to no arm
    html = page.html_page(mx.collect(runs), "title", {})
    assert "perplexity 123.4" in html and ", loss 4.8" not in html
    assert "accuracy 33.1 †" in html and "this training itself ended at chance" in html


def test_no_results_is_one_line_and_nothing_written(tmp_path, runs):
    (tmp_path / "empty").mkdir()
    for arguments in (["--runs_dir", str(tmp_path / "empty")], ["--runs_dir", str(tmp_path / "nowhere")], []):
        with pytest.raises(UserError) as error:
            run_report.main(arguments)
        assert "\n" not in str(error.value)
    assert not (tmp_path / "empty" / "report").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        run_report.main(["--runs_dir", str(runs), "--output_dir", str(tmp_path / "file")])


def test_one_problem_is_named_and_the_others_counted_where_no_result_is_usable(tmp_path):
    for seed in range(3):
        write_record(tmp_path, "none", seed, "xnli", {"en": 1})
        path = tmp_path / f"none/seed{seed}/xnli/results.json"
        path.write_text(path.read_text().replace('"schema": 1', '"schema": 0'))
    with pytest.raises(UserError, match="schema is 0.* And 2 more problems.$"):
        mx.collect(tmp_path)


def test_script_as_a_user_runs_it(tmp_path):
    started = time.perf_counter()
    shown = subprocess.run([sys.executable, "run_report.py", "--help"], cwd=REPO, capture_output=True, text=True)
    assert shown.returncode == 0 and "--runs_dir" in shown.stdout
    assert time.perf_counter() - started < 5  # 1 s is what we want; the margin is for busy machines
    typo = subprocess.run(
        [sys.executable, "run_report.py", "--runs_dir", str(tmp_path), "--sedes", "0"],
        cwd=REPO,
        capture_output=True,
        text=True,
    )
    assert typo.returncode != 0 and "Did you mean --seeds?" in typo.stderr and "Traceback" not in typo.stderr


# Which cells may be compared


def blank(runs, arm, task, *words):
    """The cell is blank, in no difference, and one problem names it with these words."""
    matrix = mx.collect(runs)
    problems = [problem for problem in matrix.problems if problem.startswith(f"{arm}/seed0/{task} ")]
    assert len(problems) == 1 and all(word in problems[0] for word in words), matrix.problems
    rows = {row["arm"]: row for row in csv.DictReader(io.StringIO(frames.wide_table(matrix).to_csv()))}
    assert rows[arm][f"{task}.score"] == rows[arm][f"{task}.difference"] == ""
    return True


def change(path, **changes):
    """Writes a record again with other values; those of settings are added."""
    record = json.loads(path.read_text())
    settings = record["settings"] | changes.pop("settings", {})
    path.write_text(json.dumps(record | changes | {"settings": settings}))


@pytest.mark.parametrize(
    "task, changes",
    [
        ("tatoeba", {"settings": {"query_side": "foreign"}}),
        ("tatoeba", {"pooling": "cls"}),
        ("tatoeba", {"settings": {"include_special": False}}),
        ("tatoeba", {"settings": {"query_prompt": "query: "}}),
        ("tatoeba", {"settings": {"passage_prompt": "passage: "}}),
        ("tatoeba", {"settings": {"max_seq_length": 32}}),
        ("tatoeba", {"settings": {"index": "IVF16,PQ64"}}),
        ("tatoeba", {"settings": {"select_on": "tatoeba:ces"}}),
        ("bucc", {"settings": {"margin": "distance"}}),
        ("bucc", {"settings": {"mining": "forward"}}),
        ("lareqa", {"settings": {"candidate_text": "sentence_context"}}),
        ("xnli", {"settings": {"max_seq_length": 64}}),
    ],
)
def test_a_cell_measured_otherwise_is_compared_with_none(runs, task, changes):
    for arm in ("none", "mnli"):
        if task in ("bucc", "lareqa"):
            write_retrieval(runs, arm, 0, {1: {"qaa": 10, "qab": 20}}, 1, task=task)
    change(runs / "mnli/seed0" / task / "results.json", **changes)
    name = next(iter(changes.get("settings", changes)))
    assert blank(runs, "mnli", task, "headline layer" if name == "select_on" else name)


@pytest.mark.parametrize(
    "task, settings",
    [
        # the same written out, a setting of other tasks, and what is measured beside the score
        ("tatoeba", {"query_side": "english", "max_seq_length": 512, "query_prompt": "", "index": None}),
        ("tatoeba", {"margin": "distance", "candidate_text": "sentence_context", "csls": 10, "center": "language"}),
        ("tatoeba", {"layer": "last", "report_layer": 1, "cache_dir": "x", "pairs": "all"}),
        ("xnli", {"max_seq_length": 128, "logging_steps": 5}),
    ],
)
def test_a_setting_that_changes_no_score_leaves_cells_comparable(runs, task, settings):
    change(runs / "mnli/seed0" / task / "results.json", settings=settings)
    assert mx.collect(runs).problems == [] and mx.collect(runs).missing == []


def test_another_fixed_layer_is_not_compared_and_one_chosen_alike_is(runs):
    write_retrieval(runs, "mnli", 0, {0: {"qaa": 2, "qab": 4}, 1: {"qaa": 40, "qab": 50}}, 0)
    assert blank(runs, "mnli", "tatoeba", "headline layer", "0", "1")
    for arm in ("none", "mnli"):
        change(runs / arm / "seed0/tatoeba/results.json", settings={"select_on": "tatoeba:ces"})
    assert mx.collect(runs).problems == []


def test_prompts_and_pooling_that_phase_2_trained_with_are_part_of_the_arm(runs):
    start_from(runs, "mnli", ["tiny"], query_prompt="Query: ", pooling="cls")
    change(runs / "mnli/seed0/tatoeba/results.json", settings={"query_prompt": "Query: "}, pooling="cls")
    assert mx.collect(runs).missing == []
    start_from(runs, "mnli", ["tiny"], query_prompt="Query: ")
    assert blank(runs, "mnli", "tatoeba", "pooling")


def test_every_setting_of_a_measurement_is_compared_or_named_as_without_effect():
    names = {field.name for field in dataclasses.fields(RetrievalArguments)}
    assert comparable.BESIDE <= names
    record = Record.read(REPO / "tests/records/retrieval.json")
    compared = comparable.measured(dataclasses.replace(record, task="own_task"))
    assert names - comparable.BESIDE <= compared.keys() and compared["pooling"] == "mean"


def test_a_curve_over_layers_leaves_out_what_was_measured_otherwise(runs):
    change(runs / "mnli/seed0/tatoeba/results.json", settings={"query_side": "foreign"})
    matrix = mx.collect(runs)
    assert set(mx.by_layer(matrix)["arm"]) == {"none"} and ("mnli", "tatoeba", 0) in matrix.missing


def test_an_average_without_retrieval_waits_for_no_retrieval(runs):
    """Of a retrieval task without a cell nothing but its name is known."""
    of, _ = tables(runs, tasks=["xnli", "tydiqa", "tatoeba", "bucc"])
    assert float(of["mnli"]["average without retrieval.mean"]) == pytest.approx((70 + 41) / 2)
    assert of["mnli"]["average with retrieval.reason"].startswith("missing bucc seed 0")
    shutil.rmtree(runs / "none/seed0/tatoeba")
    shutil.rmtree(runs / "mnli/seed0/tatoeba")
    of, _ = tables(runs, tasks=["xnli", "tydiqa", "tatoeba"])
    assert float(of["mnli"]["average without retrieval.mean"]) == pytest.approx((70 + 41) / 2)
    table = headline_tables(mx.collect(runs, tasks=["xnli", "tydiqa", "tatoeba"]))[0]
    assert [name for name, _ in table.groups][-2:] == ["Targets", "Retrieval"]


def test_numbers_say_which_layer_and_which_seeds_they_are_of(runs):
    for seed in (1, 2):
        for arm in ("none", "mnli"):
            write_record(runs, arm, seed, "xnli", {"en": 76, "qaa": 60, "qab": 50}, dev=33, at_chance=seed == 1)
    of, text = tables(runs)
    assert (of["mnli"]["tatoeba.layer"], of["mnli"].get("xnli.layer")) == ("1", None)
    row = re.search(r"^\| mnli +\| 78.*$", text[text.index("**xnli: accuracy**") :], re.M)[0]
    assert row.rstrip(" |").endswith("| 0 2")


def test_a_difference_to_an_arm_at_chance_is_not_in_the_csv_without_a_mark(runs):
    write_record(runs, "none", 0, "xnli", {"en": 33, "qaa": 33, "qab": 33}, at_chance=True)
    of, text = tables(runs)
    assert of["mnli"]["xnli.difference"] == "" == of["mnli"]["xnli.chance"] and "+37.0 †" in text
    write_record(runs, "mnli", 0, "xnli", {"en": 34, "qaa": 34, "qab": 34}, at_chance=True)
    of, _ = tables(runs)
    assert of["mnli"]["xnli.difference"] == "1.0" and of["mnli"]["xnli.chance"] == "all"


def test_a_record_without_exact_match_in_one_language_is_not_mixed_with_the_mean_of_both(runs):
    spans = {"en": {"f1": 64, "exact_match": 38}, "qaa": {"f1": 44}}
    write_record(runs, "mnli", 0, "tydiqa", spans, metric="f1", dev=50)
    assert blank(runs, "mnli", "tydiqa", "exact_match")


def start_from(runs, arm, chain, seed=0, **settings):
    """Writes phase 2 of an arm that starts from the last of `chain`, and its cells' parents."""
    training = {"phase": "intermediate", "scores": {}, "n": {}, "mean": {}, "parents": chain}
    training["settings"] = {"model": chain[-1], **settings}
    path = write_record(runs, arm, seed, "mnli", {"en": 60}, dev=60, folder=".")
    path.write_text(json.dumps(json.loads(path.read_text()) | training))
    for cell in path.parent.glob("*/results.json"):
        change(cell, parents=[*chain, f"runs/{arm}/seed{seed}"])


def from_plain(runs, chain, **settings):
    for cell in runs.glob("none/seed*/*/results.json"):
        change(cell, parents=chain, settings={"model": chain[-1], **settings})


@pytest.mark.parametrize(
    "plain, of_plain, other, of_other",
    [
        (["xlm-r"], {}, ["bert"], {}),
        (["tiny.json", "runs/model"], {}, ["tiny.json", "runs/model2"], {}),
        # of one name, but trained at another time, or another commit
        (["t.json", ".../m"], {"model_finished": "2026-01-01"}, ["t.json", ".../m"], {"model_finished": "2026-01-02"}),
        (["xlm-r"], {"model_commit": "a"}, ["xlm-r"], {"model_commit": "b"}),
        # two folders called m, outside the working folder: results.json has their last part alone
        ([".../m"], {"model_weights": "a"}, [".../m"], {"model_weights": "b"}),
    ],
)  # fmt: skip
def test_arms_of_other_plain_models_are_not_compared(runs, plain, of_plain, other, of_other):
    from_plain(runs, plain, **of_plain)
    start_from(runs, "mnli", other, **of_other)
    assert blank(runs, "mnli", "xnli", "plain model", plain[-1], other[-1])
    assert blank(runs, "mnli", "tatoeba", "plain model")


@pytest.mark.parametrize(
    "plain, of_plain, other, of_other",
    [
        (["xlm-r"], {}, ["xlm-r"], {}),
        (
            ["xlm-r"],
            {},
            ["xlm-r", "runs/phase1"],
            {"model_finished": "2026-01-01"},
        ),  # the arm has a phase 1 of its own
        # one checkpoint in two places; a new version beside one that did not record the time
        (["m", "a/mlm"], {"model_finished": "2026-01-01"}, ["m", ".../moved"], {"model_finished": "2026-01-01"}),
        (["xlm-r"], {}, ["xlm-r"], {"model_commit": "a"}),
    ],
)
def test_one_plain_model_is_compared_wherever_it_lies(runs, plain, of_plain, other, of_other):
    from_plain(runs, plain, **of_plain)
    start_from(runs, "mnli", other, **of_other)
    assert mx.collect(runs).problems == [] and mx.collect(runs).missing == []


TRAINED_ALIKE = [
    ({"per_device_train_batch_size": 32}, {"per_device_train_batch_size": 16, "gradient_accumulation_steps": 2}),
    ({"logging_steps": 5, "save_steps": 5, "seed": 1, "data_root": ".../rows"}, {"per_device_eval_batch_size": 4}),
    ({"mlm_rate": 0.0, "max_train_samples": None}, {}),  # an older version lacks them
]
TRAINED_OTHERWISE = [
    ("learning_rate", {"learning_rate": 1e-5}, {"learning_rate": 1e-3}),
    ("weight_decay", {"weight_decay": 0.1}, {}),
    ("rows a step and device", {"per_device_train_batch_size": 32}, {"per_device_train_batch_size": 8}),
    ("mlm_rate", {"mlm_rate": 0.2}, {"mlm_rate": 0.0}),
]


def settings_of_seeds(runs, folder, *settings):
    """Gives the results in `folder` of arm mnli, seeds 0 to 2, these settings; the last ones to the seeds left."""
    for seed in range(3):
        write_record(runs, "mnli", seed, "xnli", {"en": 86, "qaa": 76, "qab": 66})
        write_record(runs, "none", seed, "xnli", {"en": 78, "qaa": 62, "qab": 52})
        start_from(runs, "mnli", ["tiny"], seed=seed)
        change(runs / f"mnli/seed{seed}" / folder / "results.json", settings=settings[min(seed, len(settings) - 1)])
    return " ".join(mx.collect(runs, tasks=["xnli"]).problems)


@pytest.mark.parametrize(("one", "other"), TRAINED_ALIKE)
def test_trainings_that_are_alike_are_not_called_different(runs, one, other):
    assert settings_of_seeds(runs, ".", one, other) == ""


@pytest.mark.parametrize(("name", "one", "other"), TRAINED_OTHERWISE)
def test_seeds_of_a_phase_2_that_were_trained_otherwise_are_named(runs, name, one, other):
    problems = settings_of_seeds(runs, ".", one, other)
    assert f"phase 2 of mnli: {name} in seed 0" in problems and problems.count("mixes two trainings") == 1


@pytest.mark.parametrize(("name", "one", "_"), TRAINED_OTHERWISE)
def test_targets_that_were_trained_otherwise_are_named(runs, name, one, _):
    problems = settings_of_seeds(runs, "xnli", one, {})
    assert f"xnli: {name} in the training of mnli/seed0/xnli" in problems


def test_plain_models_of_one_name_in_two_folders_are_named(runs):
    from_plain(runs, ["a/model"])
    start_from(runs, "mnli", ["b/model"])
    matrix = mx.collect(runs, tasks=["xnli"])
    assert len(matrix.problems) == 1 and "a/model, b/model" in matrix.problems[0] and matrix.missing == []


def test_each_seed_may_have_a_plain_model_of_its_own(runs):
    write_record(runs, "none", 1, "xnli", {"en": 78, "qaa": 62, "qab": 52})
    write_record(runs, "mnli", 1, "xnli", {"en": 86, "qaa": 76, "qab": 66})
    from_plain(runs, ["bert"])
    change(runs / "none/seed1/xnli/results.json", parents=["other"])
    start_from(runs, "mnli", ["bert"])
    start_from(runs, "mnli", ["other"], seed=1)
    matrix = mx.collect(runs, tasks=["xnli"])
    assert len(matrix.records) == 4 and "seed 1 started from another plain model" in " ".join(matrix.problems)


def test_a_model_of_the_hub_and_its_copy_in_a_folder_are_not_called_different(runs):
    from_plain(runs, ["me/small"], model_commit="abc")
    start_from(runs, "mnli", ["copies/small"], model_finished="2026-01-01")
    matrix = mx.collect(runs, tasks=["xnli"])
    assert len(matrix.problems) == 1 and "copies/small, me/small" in matrix.problems[0] and matrix.missing == []


def test_where_each_seed_has_a_plain_model_the_one_arm_that_has_not_is_left_out(runs):
    models = ["bert", "other", "third"]
    for seed in (1, 2):
        write_record(runs, "none", seed, "xnli", {"en": 78, "qaa": 62, "qab": 52})
    for arm in ("mnli", "squad"):
        for seed in (0, 1, 2):
            write_record(runs, arm, seed, "xnli", {"en": 86, "qaa": 76, "qab": 66})
            start_from(runs, arm, [models[seed]], seed=seed)
    for seed, model in enumerate(models):
        change(runs / f"none/seed{seed}/xnli/results.json", parents=[model])
    start_from(runs, "mnli", ["bert"], seed=1)  # by mistake
    matrix = mx.collect(runs, tasks=["xnli"])
    assert {(arm, seed) for arm, _, seed in matrix.records} == {
        (arm, seed) for arm in ("none", "mnli", "squad") for seed in (0, 1, 2)
    } - {("mnli", 1)}
    assert any("mnli/seed1/xnli" in p and "(bert)" in p and "(other)" in p for p in matrix.problems)


def test_a_rehearsal_beside_a_whole_training_is_a_problem(runs):
    for arm, steps in (("none", 3), ("mnli", 120)):
        change(runs / arm / "seed0/xnli/results.json", settings={"max_steps": steps}, measures={"steps": steps})
    problems = mx.collect(runs).problems
    assert any(p.startswith("none/seed0/xnli: a rehearsal") for p in problems)
    assert any("steps in the training of mnli/seed0/xnli (120)" in p and "(3)" in p for p in problems)
    for path in runs.glob("*/*/*/results.json"):
        change(path, settings={"max_steps": 3}, measures={"steps": 3})
    assert mx.collect(runs).problems == []  # all of it is a rehearsal


def test_only_a_training_in_the_folder_of_its_arm_and_seed_counts(runs):
    start_from(runs, "mnli", ["tiny"], seen_languages=["qaa"])
    failed = runs / "mnli/seed0_failed"
    shutil.copytree(runs / "mnli/seed0", failed, ignore=shutil.ignore_patterns("xnli", "tydiqa", "tatoeba"))
    change(failed / "results.json", at_chance=True, settings={"seen_languages": ["qaa", "qab"]})
    matrix = mx.collect(runs)
    assert [record.at_chance for record in matrix.trainings_of("mnli")] == [False]
    assert [path for path, _ in matrix.trainings] == ["mnli/seed0/results.json"]
    assert [p for p in matrix.problems if "seed0_failed/results.json" in p] == matrix.problems
    assert "seed0_failed" not in page.markdown_page(matrix, "t").partition("## Problems")[0]
