"""Charts and pictures of matrices larger than any supply of colours, dashes, markers, legend lines or pixels."""

import io
import json

import pytest
from matplotlib.figure import Figure
from PIL import Image
from test_report import report, write_retrieval
from test_spoilt import BASE

from xstilts.report import charts, page, plots, question_plots, standing, tables
from xstilts.report import matrix as mx
from xstilts.report.contrasts import Family, Question, ReadOut
from xstilts.report.spec import Spec
from xstilts.run.record import mean


def many(root, arms=1, languages=2, tasks=1, layers=2, targets=1):
    """A matrix of so many arms beside none."""
    names = [f"q{i:04d}" for i in range(languages)]
    for a, arm in enumerate(["none", *(f"arm{i:03d}" for i in range(arms))]):
        place = BASE | {"arm": arm, "seed": 0, "settings": {}}
        for t in range(tasks):
            scores = {
                str(layer): {name: {"accuracy": (7 * a + 3 * i + layer) % 100} for i, name in enumerate(names)}
                for layer in range(layers)
            }
            save(
                root,
                place
                | {
                    "phase": "retrieval",
                    "task": f"retrieval{t:02d}",
                    "form": "x",
                    "dev": {},
                    "layer": layers - 1,
                    "pooling": "mean",
                    "layers": scores,
                    "scores": scores[str(layers - 1)],
                },
            )
        for t in range(targets):
            scores = {"en": {"accuracy": (11 * a + t) % 100}}
            save(root, place | {"phase": "target", "task": f"task{t:02d}", "form": "x", "dev": {}, "scores": scores})
    return mx.collect(root)


def save(root, record):
    """Writes a record without the versions of all libraries, which take most of the time."""
    record |= {"mean": mean(record["scores"]), "n": dict.fromkeys(record["scores"], 10)}
    path = root / record["arm"] / f"seed{record['seed']}" / record["task"] / "results.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(record))


def within(figure, artist):
    """Whether all of an artist lies in the picture."""
    figure.draw_without_rendering()
    box, whole = artist.get_window_extent(), figure.bbox
    return box.x0 >= -1 and box.y0 >= -1 and box.x1 <= whole.x1 + 1 and box.y1 <= whole.y1 + 1


def legend_texts(figure):
    (legend,) = figure.legends
    assert within(figure, legend)
    return [text.get_text() for text in legend.get_texts()]


@pytest.mark.parametrize("arms", [8, 25, 60, 200, 300])
def test_every_arm_has_a_look_and_no_two_share_one_while_there_are_enough(arms):
    looks = [tuple(look.values()) for look in plots.styles(["none", *map(str, range(arms))])]
    assert len(looks) == arms + 1 and len(set(looks)) == min(arms, plots.LOOKS) + 1


@pytest.mark.parametrize("arms", [25, 90])
def test_every_arm_has_a_row_or_a_panel_of_its_own(tmp_path, arms):
    matrix = many(tmp_path, arms)
    assert [panel.name for panel in charts.layer_panels(matrix, "retrieval00")] == matrix.arms
    assert [strip.name for strip in charts.strips(matrix, "retrieval00")[1]] == matrix.arms
    for one in standing.standings(matrix):
        assert sorted(row.name for row in charts.forest(one).rows) == sorted(matrix.arms)


def test_more_languages_than_a_strip_takes_are_shown_in_part_and_that_is_said(tmp_path):
    matrix = many(tmp_path, languages=1000)
    languages, _ = charts.strips(matrix, "retrieval00")
    assert len(languages) == charts.NAMED
    (note,) = charts.notes(matrix)
    assert f"{charts.NAMED} of 1000 languages" in note
    assert note in page.markdown_page(matrix, "title") and note in page.html_page(matrix, "title")
    (table,) = tables.language_tables(matrix, "retrieval00")
    assert len(table.heads) == 1 + tables.COLUMNS and f"{tables.COLUMNS} of 1000 languages" in table.caption


def test_many_layers_and_tasks_are_drawn(tmp_path):
    matrix = many(tmp_path, tasks=8, layers=49, targets=30)
    assert all(len(panel.line.split()) == 49 for panel in charts.layer_panels(matrix, "retrieval07"))
    assert len(standing.standings(matrix)) == 8 + 30 + 2
    html = page.html_page(matrix, "title")
    assert html.count('<figure class="forest') == 40


@pytest.mark.parametrize("size", [(4000, 1), (1, 4000), (70, 50)])
def test_a_picture_too_large_for_the_format_gets_coarser(size):
    content = plots.png(Figure(figsize=size))
    width, height = Image.open(io.BytesIO(content)).size
    assert max(width, height) <= 2**15 and width * height <= 6.1e7


def test_names_are_shown_as_they_are(tmp_path):
    for arm in ("none", "$x_^$", "_hidden", "<b>"):
        write_retrieval(tmp_path, arm, 0, {0: {r"$\frac$": 1, "_x": 3}, 1: {r"$\frac$": 10, "_x": 20}}, 1)
    html = (report(tmp_path) / "index.html").read_text().replace("<wbr>", "")
    assert all(name in html for name in ("$x_^$", "_hidden", "&lt;b&gt;", r"$\frac$")) and "<b><" not in html


def test_many_families_and_roles(tmp_path):
    matrix = many(tmp_path, 30)
    roles = {"E": "arm000"} | {f"R{i}": f"arm{i:03d}" for i in range(1, 30)}
    families = {f"family{i}": roles for i in range(20)}
    spec = Spec(families, ("family0", "R1"), task="retrieval00", fixed_layer=1)
    found = [Family(name, roles, (), ("q0000", "q0001"), ()) for name in families]
    figure = question_plots.layer_curves(Question(spec, matrix, found, ReadOut(1), "", {}, ("q0000", "q0001"), [], []))
    assert len(figure.axes) == 20 and len(legend_texts(figure)) == 32
