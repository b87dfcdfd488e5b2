"""The pictures of the report, from a `xstilts.report.matrix.Matrix`; each is None where there is nothing to show.

However many arms, tasks, layers and languages there are, every picture is drawn: looks come again, a legend gets more
columns or names only some languages, a picture that would be too large for the format gets coarser. `notes` says what
a picture leaves out.
"""

import base64
import io
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from xstilts.errors import UserError
from xstilts.report import matrix as mx
from xstilts.report.matrix import PLAIN, Matrix
from xstilts.run.results import write_bytes

# Okabe and Ito's colours, told apart with every common colour blindness; black is kept for the arm `none`.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#6B4C9A", "#8C6D31")
_MARKERS = "osD^vPX*"
_DASHES = ("-", "--", ":", "-.")
LOOKS = len(_COLOURS) * len(_DASHES) * len(_MARKERS)
ROWS = 24  # arms of `language_plot`
NAMED = 60  # languages in its legend
_LEGEND_ROWS = 18  # in the height of a panel
_DPI, _SIDE, _PIXELS = 160, 2**15, 6e7  # of a picture; a side of 2**16 is more than the format takes


def write(folder: Path, drawings: Mapping[str, Callable], subject: object) -> dict[str, str]:
    """Write each picture into `folder` and return {file name: data URI}; one that is None is removed.

    Args:
        drawings: {file name: function that returns a Figure of `subject` or None}.

    Raises:
        UserError: a file cannot be written.
    """
    images = {}
    for name, draw in drawings.items():
        with matplotlib.rc_context({"text.parse_math": False}):  # "$" in a name is no formula
            figure = draw(subject)
            if figure is None:
                remove(folder / name)  # of an earlier report: it would show what is no longer there
                continue
            content = png(figure)
        write_bytes(folder / name, content)
        images[name] = "data:image/png;base64," + base64.b64encode(content).decode("ascii")
    return images


def remove(path: Path) -> None:
    """Delete a file of an earlier report, if there is one.

    Raises:
        UserError: the file cannot be deleted.
    """
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"{path} cannot be removed ({error.strerror}). Choose another --output_dir.") from error


def png(figure: Figure) -> bytes:
    """Return the figure as PNG, the same bytes for the same figure (no date, no version inside)."""
    width, height = figure.get_size_inches()
    dpi = min(_DPI, _SIDE / max(width, height), (_PIXELS / (width * height)) ** 0.5)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, facecolor="white", metadata={"Software": None})
    return buffer.getvalue()


def notes(matrix: Matrix) -> list[str]:
    """Return sentences on what the pictures leave out or do not tell apart."""
    curves = mx.by_layer(matrix)
    arms, languages = (
        _with_layers(matrix, curves),
        {language for task in curves["task"].unique() for language in matrix.languages(task)},
    )
    said = []
    if len(arms) > ROWS:
        said.append(
            f"languages.png shows the first {ROWS} of {len(arms)} arms; name others with --arms. cells.csv has all."
        )
    if len(languages) > NAMED:
        said.append(f"The legend of languages.png names {NAMED} of {len(languages)} languages.")
    if len(set(matrix.arms) - {PLAIN}) > LOOKS:
        said.append(
            f"layers.png has {LOOKS} looks for {len(matrix.arms)} arms: they come again. cells.csv has all figures."
        )
    return said


def heat_map(matrix: Matrix) -> Figure | None:
    """Return the differences to arm `none` as a picture, arms by tasks and averages; None without that arm.

    Colours are centred at 0; hatched where either side is at chance; blank where there is no difference.
    """
    arms = [arm for arm in matrix.arms if arm != PLAIN]
    gaps = mx.differences(matrix)
    if PLAIN not in matrix.arms or not arms or not gaps["mean"].notna().any():
        return None
    groups = mx.average_groups(matrix)
    by_task = gaps["mean"].astype(float).unstack("task").reindex(index=arms, columns=matrix.tasks)
    hatched = (
        (gaps["chance"] == "all")
        .unstack("task", fill_value=False)
        .reindex(index=arms, columns=matrix.tasks, fill_value=False)
    )
    means = [mx.averages(matrix, tasks).loc[arms, "difference"].to_numpy(float) for tasks in groups.values()]
    values, hatched = np.column_stack([by_task.to_numpy(), *means]), hatched.to_numpy(bool)
    columns = [*matrix.tasks, *(f"average\n{name}" for name in groups)]
    limit = max(1.0, np.nanmax(np.abs(values)))
    figure = Figure(figsize=(2.2 + 1.05 * len(columns), 1.5 + 0.46 * len(arms)), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(np.ma.masked_invalid(values), cmap="RdBu", vmin=-limit, vmax=limit, aspect="auto")
    for i, j in np.ndindex(*values.shape):
        if np.isnan(values[i, j]):
            continue
        ink = "white" if abs(values[i, j]) > 0.55 * limit else "black"
        axes.text(j, i, signed(float(values[i, j])), ha="center", va="center", color=ink, fontsize=9, zorder=3)
        if j < len(matrix.tasks) and hatched[i, j]:
            axes.add_patch(Rectangle((j - 0.5, i - 0.5), 1, 1, fill=False, hatch="///", edgecolor="#777", lw=0))
    axes.set_xticks(range(len(columns)), columns, fontsize=9)
    axes.set_yticks(range(len(arms)), arms, fontsize=9)
    axes.set_xticks(np.arange(len(columns) - 1) + 0.5, minor=True)
    axes.set_yticks(np.arange(len(arms) - 1) + 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=1.5)
    axes.axvline(len(matrix.tasks) - 0.5, color="black", linewidth=1)
    axes.tick_params(which="both", length=0)
    axes.tick_params(top=True, labeltop=True, bottom=False, labelbottom=False)
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(image, ax=axes, label=f"points above arm {PLAIN}", pad=0.02, aspect=max(20, len(arms)))
    bar.outline.set_visible(False)
    if hatched.any():
        patch = Patch(facecolor="white", edgecolor="#777", hatch="///", label="one side is at chance")
        figure.legend(handles=[patch], loc="outside lower left", frameon=False, fontsize=8)
    return figure


def layer_plot(matrix: Matrix) -> Figure | None:
    """Return retrieval by layer, one panel a task, one line an arm, band = sd over seeds; None without layers."""
    frame = mx.by_layer(matrix)
    if frame.empty:
        return None
    tasks = [task for task in matrix.tasks if (frame["task"] == task).any()]
    arms = _with_layers(matrix, frame)
    looks = dict(zip(matrix.arms, styles(matrix.arms), strict=False))
    handles = [Line2D([], [], label=arm, markersize=5, **looks[arm]) for arm in arms]
    ring: dict[str, Any] = {"marker": "o", "markersize": 11, "fillstyle": "none", "linestyle": "none"}
    handles.append(Line2D([], [], label="layer reported", color="#555", **ring))
    figure, panels = beside_legend(len(tasks), 4.2, 3.8, handles)
    curves = frame.groupby(["task", "arm", "layer"])["score"].agg(["mean", "std"])
    chosen = frame[frame["chosen"]].groupby(["task", "arm"])["layer"].unique()
    for axes, task in zip(panels, tasks, strict=True):
        for arm in arms:
            if (task, arm) not in chosen.index:
                continue
            curve, colour = curves.loc[task, arm], looks[arm]["color"]
            axes.plot(curve.index, curve["mean"], markersize=4, linewidth=1.6, **looks[arm])
            if curve["std"].notna().any():
                low, high = curve["mean"] - curve["std"], curve["mean"] + curve["std"]
                axes.fill_between(curve.index, low, high, color=colour, alpha=0.15, linewidth=0)
            layers = sorted(chosen[task, arm])
            axes.plot(layers, curve.loc[layers, "mean"], color=colour, **ring)
        axes.set_title(task, fontsize=11)
        axes.set_ylabel(f"{matrix.metric(task)}, mean over languages")
        axes.set_ylim(0, 1.05 * axes.dataLim.y1)
        layer_axis(axes)
    return figure


def language_plot(matrix: Matrix) -> Figure | None:
    """Return retrieval by layer in each language, a row an arm, a column a task, a line a language; None without
    layers.

    Means over seeds; black is the mean over languages, the upright line the layer reported. In the legend the
    languages stand from the best to the worst. Only the first `ROWS` arms are drawn.
    """
    curves = mx.by_layer(matrix)
    if curves.empty:
        return None
    tasks = [task for task in matrix.tasks if (curves["task"] == task).any()]
    arms = _with_layers(matrix, curves)[:ROWS]
    table = mx.long_table(matrix)
    table = table[table["metric"] == table["task"].map({task: matrix.metric(task) for task in tasks})]
    # Best first: with more languages than one can tell apart by colour, colours then run as the lines do.
    languages = list(table.groupby("language")["score"].mean().sort_values(ascending=False, kind="stable").index)
    many = colormaps["turbo"](np.linspace(0.05, 0.95, len(languages)))
    colours = dict(zip(languages, _COLOURS if len(languages) <= len(_COLOURS) else many, strict=False))
    means = table.groupby(["arm", "task", "language", "layer"])["score"].mean()
    figure, panels = _grid(len(arms), len(tasks), _language_handles(colours))
    for (i, arm), (j, task) in itertools.product(enumerate(arms), enumerate(tasks)):
        axes = panels[i, j]
        axes.set_ylabel(arm if j == 0 else "")
        axes.set_title(f"{task} ({matrix.metric(task)})" if i == 0 else "", fontsize=10)
        layer_axis(axes)
        axes.set_xlabel(axes.get_xlabel() if i == len(arms) - 1 else "", fontsize=9)
        here = curves[(curves["arm"] == arm) & (curves["task"] == task)]
        if here.empty:
            continue
        by_layer = means[arm, task].unstack("language").sort_index()
        layers = by_layer.index.astype(int)
        for language in (one for one in languages if one in by_layer):
            axes.plot(layers, by_layer[language], color=colours[language], linewidth=1.1)
        axes.plot(layers, by_layer.mean(axis=1), color="black", linewidth=2)
        for layer in sorted(set(here[here["chosen"]]["layer"])):
            axes.axvline(layer, color="#888", linewidth=0.8, linestyle=":")
    for axes in panels[0]:
        axes.set_ylim(bottom=0)  # at last: a column shares it, and a limit once set no longer grows
    return figure


def _language_handles(colours: Mapping[str, Any]) -> list[Line2D]:
    """Return the legend of `language_plot`: every language, or `NAMED` of them from the best to the worst; then their
    mean."""
    names = list(colours)
    shown = [names[round(i)] for i in np.linspace(0, len(names) - 1, min(len(names), NAMED))]
    handles = [Line2D([], [], color=colours[name], label=name) for name in shown]
    return [*handles, Line2D([], [], color="black", linewidth=2, label="mean")]


def _grid(rows: int, columns: int, handles: list[Line2D]) -> tuple[Figure, np.ndarray]:
    """Return a figure and its panels, with a legend below. Placed by hand: the layout engine takes minutes for so
    many panels."""
    width = 0.6 + 3.4 * columns
    legend_columns = max(1, int(width / (0.5 + 0.08 * max(len(str(handle.get_label())) for handle in handles))))
    legend = 0.2 * -(-len(handles) // legend_columns) + 0.1
    height = 0.35 + 2.1 * rows + 0.4 + legend
    figure = Figure(figsize=(width, height))
    panels = figure.subplots(
        rows,
        columns,
        squeeze=False,
        sharex="col",
        sharey="col",
        gridspec_kw={
            "left": 0.75 / width,
            "right": 1 - 0.15 / width,
            "top": 1 - 0.35 / height,
            "bottom": (0.55 + legend) / height,
            "wspace": 0.5 / 2.9,
            "hspace": 0.2 / 1.9,
        },
    )
    figure.legend(
        handles=handles,
        loc="lower center",
        ncols=legend_columns,
        frameon=False,
        fontsize=8,
        handlelength=1.2,
        columnspacing=1,
    )
    return figure, panels


def beside_legend(
    panels: int, width: float, height: float, handles: list[Line2D], sharey: bool = False
) -> tuple[Figure, np.ndarray]:
    """Return a figure of panels in a row (sizes in inches) and the panels; its legend, at the right, gets as many
    columns as it needs."""
    columns = -(-len(handles) // _LEGEND_ROWS)
    legend = columns * max(
        1.5, 0.6 + 0.075 * max(len(line) for handle in handles for line in str(handle.get_label()).split("\n"))
    )
    figure = Figure(figsize=(0.1 + width * panels + legend, height), layout="constrained")
    figure.legend(handles=handles, loc="outside right upper", ncols=columns, frameon=False, fontsize=9)
    return figure, figure.subplots(1, panels, squeeze=False, sharey=sharey)[0]


def layer_axis(axes: Axes) -> None:
    """Label the x axis as layers, and takes away what a panel of curves does not need."""
    axes.set_xlabel("layer (0 = embedding output)")
    axes.locator_params(axis="x", integer=True)
    axes.grid(color="#ddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def styles(arms: Sequence[str]) -> Iterable[dict[str, Any]]:
    """Yield a line style for each arm, the same whatever is plotted: colours first, then dashes, then other markers
    too.

    They are told apart up to `LOOKS` arms, then they come again.
    """
    looks = itertools.cycle(
        {"color": colour, "marker": _MARKERS[(i + turn) % len(_MARKERS)], "linestyle": dashes}
        for turn in range(len(_MARKERS))
        for dashes in _DASHES
        for i, colour in enumerate(_COLOURS)
    )
    for arm in arms:
        yield {"color": "black", "marker": ".", "linestyle": "-"} if arm == PLAIN else next(looks)


def signed(points: float) -> str:
    """Return points with one decimal and a sign; 0.0 has none."""
    rounded = round(float(points), 1)
    return "0.0" if rounded == 0 else f"{rounded:+.1f}".replace("-", "−")


def _with_layers(matrix: Matrix, curves: pd.DataFrame) -> list[str]:
    found = set(curves["arm"])
    return [arm for arm in matrix.arms if arm in found]
