"""The charts of the page, as numbers for page.html.jinja, which draws them: forests, curves over layers, heat strips.

Every line has a name beside it, and no colour distinguishes two arms: each has a row or a panel of its own. The
charts read the same with 2 arms and with 25, in print and with any colour blindness, and take the page's colours.
"""

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from xstilts.report import frames, statistics
from xstilts.report import matrix as mx
from xstilts.report.contrasts import Question
from xstilts.report.matrix import PLAIN, Matrix
from xstilts.report.numbers import count, interval_of, shown, signed
from xstilts.report.standing import BETTER, WORSE, Entry, Standing

NAMED = 60  # languages of a heat strip
WIDTH, HEIGHT = 160, 84  # of a panel of curves, in units of its drawing
# A forest's axis reaches this many times the difference that nine of ten rows do not exceed. What is longer is cut,
# with an arrow: one arm that lost 60 points must not squeeze the one to five points of the others into a line.
_CLIP = 2.0


@dataclass(frozen=True)
class Row:
    """A row of a forest; places are in % of the axis. `kind` is better, worse, undecided, plain or aside."""

    name: str
    text: str
    kind: str
    dot: float | None = None
    low: float | None = None
    high: float | None = None
    cut_low: bool = False
    cut_high: bool = False
    bold: bool = False
    why: str = ""


@dataclass(frozen=True)
class Forest:
    """A ranked forest plot: a caption, where 0 is (in %), the band of equivalence if there is one, and the rows."""

    caption: str
    zero: float
    rows: list[Row]
    band: tuple[float, float] | None = None
    left: str = ""  # what stands at the ends of the axis
    right: str = ""


@dataclass(frozen=True)
class Panel:
    """One named line, as SVG points in a drawing of `WIDTH` x `HEIGHT` whose y axis goes from 0 to `top`.

    `other` is the line of arm `none`, `band` the outline of ± sd, `bars` are intervals (x, low, high), `rings` mark
    points, and `ticks` are (x, label).
    """

    name: str
    value: str
    line: str
    top: str
    ticks: list[tuple[float, str]]
    other: str = ""
    band: str = ""
    bars: tuple[tuple[float, float, float], ...] = ()
    rings: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True)
class Strip:
    """One arm's score by language and layer: a picture with a row for each language and a column for each layer."""

    name: str
    image: str
    layers: tuple[int, int]


class _Axis:
    """Places numbers on an axis from 0 to 100 %; the axis always holds 0."""

    def __init__(self, values: Sequence[float], spans: Sequence[tuple[float, float]]) -> None:
        reach = _CLIP * max(0.5, float(np.quantile(np.abs(values), 0.9, method="higher")))
        ends = [0.0, *(max(-reach, min(reach, end)) for end in [*values, *(end for span in spans for end in span)])]
        low, high = min(ends), max(ends)
        pad = 0.06 * max(high - low, 1.0)
        self.low, self.high = low - pad, high + pad

    def place(self, value: float) -> float:
        return round(100 * (min(max(value, self.low), self.high) - self.low) / (self.high - self.low), 2)


def forest(standing: Standing) -> Forest | None:
    """Return the arms of a task or average, from the largest difference to `none` down; None without a difference."""
    entries = [*sorted(standing.ranked, key=_gain, reverse=True), *sorted(standing.aside, key=_gain, reverse=True)]
    known = [entry for entry in entries if entry.difference is not None]
    if not known:
        return None
    axis = _Axis([e.difference for e in known if e.difference is not None], [e.interval for e in known if e.interval])
    rows = [_row(entry, axis) for entry in entries]
    caption = f"{standing.name} ({standing.measure})"
    return Forest(caption, axis.place(0), rows, left=signed(axis.low), right=signed(axis.high))


def _gain(entry: Entry) -> float:
    """Return the difference to `none` that an entry is ranked by: 0 for `none` itself, last without one."""
    if entry.difference is not None:
        return entry.difference
    return 0.0 if entry.arm == PLAIN else -np.inf


def _row(entry: Entry, axis: _Axis) -> Row:
    kind = "aside" if entry.aside else entry.verdict if entry.verdict in (BETTER, WORSE) else "undecided"
    if entry.difference is None:
        plain = entry.arm == PLAIN
        return Row(entry.arm, shown(entry.mean), "plain" if plain else kind, axis.place(0) if plain else None)
    interval = f" [{interval_of(entry.interval)}]" if entry.interval else ""
    text = f"{signed(entry.difference)}{interval}"
    why = ", ".join(filter(None, (entry.part, count(entry.seeds, "seed"), entry.verdict)))
    return _spanned(entry.arm, text, kind, entry.difference, entry.interval, axis, entry.ties, why)


def _spanned(
    name: str,
    text: str,
    kind: str,
    value: float,
    interval: tuple[float, float] | None,
    axis: _Axis,
    bold: bool,
    why: str,
) -> Row:
    low, high = interval or (value, value)
    dot = axis.place(value) if axis.low <= value <= axis.high else None
    places = {"dot": dot, "low": axis.place(low), "high": axis.place(high)}
    return Row(name, text, kind, **places, cut_low=low < axis.low, cut_high=high > axis.high, bold=bold, why=why)


def question_forest(question: Question) -> Forest | None:
    """Return the contrasts of a question that were computed, with their verdicts; None without any."""
    known = [c for c in question.contrasts if c.found]
    if not known:
        return None
    spans = {id(c): c.estimate.interval or c.estimate.bootstrap_interval for c in known}
    axis = _Axis([c.estimate.difference for c in known], list(spans.values()))
    rows = []
    for c in known:
        better, mark = c.verdict.kind == "better", " !" if c.verdict.warning else ""
        kind = "undecided" if not better else BETTER if c.estimate.difference > 0 else WORSE
        text = f"{signed(c.estimate.difference)} [{interval_of(spans[id(c)])}] {c.verdict.words}{mark}"
        name = f"{c.family}: {c.name}, {c.kind}"
        rows.append(
            _spanned(name, text, kind, c.estimate.difference, spans[id(c)], axis, c.primary, c.verdict.warning)
        )
    margin = question.spec.margin
    return Forest(
        f"Differences in points at {question.readout}, 95 % interval; the primary contrast is bold",
        axis.place(0),
        rows,
        (axis.place(-margin), axis.place(margin)),
        signed(axis.low),
        signed(axis.high),
    )


def layer_panels(matrix: Matrix, task: str) -> list[Panel]:
    """Return a panel for each arm: its mean score by layer (± sd over seeds) beside `none`; [] with one layer."""
    frame = mx.by_layer(matrix)
    frame = frame[frame["task"] == task]
    if frame["layer"].nunique() < 2:
        return []
    curves = frame.groupby(["arm", "layer"])["score"].agg(["mean", "std"])
    chosen = frame[frame["chosen"]].groupby("arm")["layer"].unique()
    first, last = int(frame["layer"].min()), int(frame["layer"].max())
    plane = _Plane(first, last, float((curves["mean"] + curves["std"].fillna(0)).max()))
    panels = []
    for arm in (one for one in matrix.arms if one in chosen.index):
        curve = curves.loc[arm]
        band = ""
        if curve["std"].notna().any():
            spread = curve["std"].fillna(0)
            upper, lower = curve["mean"] + spread, (curve["mean"] - spread).clip(lower=0)[::-1]
            band = f"{plane.points(upper.items())} {plane.points(lower.items())}"
        layers = sorted(int(layer) for layer in chosen[arm])
        beside = PLAIN in chosen.index and arm != PLAIN
        panels.append(
            Panel(
                name=arm,
                value=", ".join(f"{curve.loc[layer, 'mean']:.1f} at {layer}" for layer in layers),
                line=plane.points(curve["mean"].items()),
                top=f"{plane.top:.0f}",
                ticks=[(plane.x(layer), str(layer)) for layer in dict.fromkeys((first, last))],
                other=plane.points(curves.loc[PLAIN]["mean"].items()) if beside else "",
                band=band,
                rings=tuple((plane.x(layer), plane.y(float(curve.loc[layer, "mean"]))) for layer in layers),
            )
        )
    return panels


class _Plane:
    """Places points in a panel."""

    def __init__(self, first: float, last: float, top: float) -> None:
        self.first, self.last, self.top = first, last, max(1.0, top)

    def x(self, value: float) -> float:
        return round(WIDTH * (value - self.first) / max(1, self.last - self.first), 1)

    def y(self, value: float) -> float:
        return round(HEIGHT * (1 - min(max(value, 0.0), self.top) / self.top), 1)

    def points(self, pairs: Iterable[tuple[float, float]]) -> str:
        return " ".join(f"{self.x(x)},{self.y(y)}" for x, y in pairs)


def curve_panels(lines: Mapping[tuple[str, str], Sequence[tuple[int, str, list[float]]]]) -> list[Panel]:
    """Return a panel for each line of `curve.points`: score against the number of languages, with t-intervals."""
    means = {name: [float(np.mean(values)) for _, _, values in line] for name, line in lines.items()}
    top = max((value for line in means.values() for value in line), default=1.0)
    panels = []
    for (family, what), line in lines.items():
        plane, middle = _Plane(0, len(line) - 1, 1.15 * top), means[family, what]
        spans = [statistics.seed_interval(values) for _, _, values in line]
        panels.append(
            Panel(
                name=f"{family}, {what}",
                value=f"{middle[0]:.1f} to {middle[-1]:.1f}",
                line=plane.points(enumerate(middle)),
                top=f"{plane.top:.0f}",
                ticks=[(plane.x(i), "none" if number == 0 else str(number)) for i, (number, _, _) in enumerate(line)],
                bars=tuple((plane.x(i), plane.y(span[0]), plane.y(span[1])) for i, span in enumerate(spans) if span),
                rings=tuple((plane.x(i), plane.y(value)) for i, value in enumerate(middle)),
            )
        )
    return panels


def strips(matrix: Matrix, task: str) -> tuple[list[str], list[Strip]]:
    """Return (languages from the best to the worst, a heat strip for each arm), ([], []) without several layers.

    Only `NAMED` of more languages are shown, evenly from the best to the worst.
    """
    frame = frames.long_table(matrix)
    frame = frame[(frame["task"] == task) & (frame["metric"] == matrix.metric(task)) & frame["layer"].notna()]
    if frame["layer"].nunique() < 2:
        return [], []
    whole = mx.whole_seeds(matrix, task)
    frame = frame[[seed in whole[arm] for arm, seed in zip(frame["arm"], frame["seed"], strict=True)]]
    means = frame.groupby(["arm", "language", "layer"])["score"].mean()
    ranked = list(frame.groupby("language")["score"].mean().sort_values(ascending=False, kind="stable").index)
    kept = [ranked[round(i)] for i in np.linspace(0, len(ranked) - 1, min(len(ranked), NAMED))]
    layers = sorted(frame["layer"].unique())
    found = []
    for arm in (one for one in matrix.arms if one in means.index.get_level_values("arm")):
        values = means[arm].unstack("layer").reindex(index=kept, columns=layers).to_numpy(float)
        found.append(Strip(arm, _picture(values), (int(layers[0]), int(layers[-1]))))
    return kept, found


def _picture(values: np.ndarray) -> str:
    """Return scores from 0 to 100 as a PNG of one pixel each, a data URI."""
    from matplotlib.image import imsave

    buffer = io.BytesIO()
    imsave(buffer, values, cmap="cividis", vmin=0, vmax=100, format="png", metadata={"Software": ""})
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def progress(matrix: Matrix) -> dict[str, dict[str, list[tuple[int, str]]]]:
    """Return {arm: {task: [(seed, done, failed, running or waiting), ...]}}; {} where no cell is missing.

    A cell whose phase 2 failed counts as failed. "running" is a run that has begun and not ended: it is active, or was
    killed.
    """
    if not matrix.missing:
        return {}
    marks: Mapping[str, set[str]] = {"failed": matrix.failed, "running": matrix.unfinished}

    def state(arm: str, task: str, seed: int) -> str:
        if (arm, task, seed) in matrix.records:
            return "done"
        places = {f"{arm}/seed{seed}/{task}", f"{arm}/seed{seed}"}
        return next((name for name, folders in marks.items() if places & folders), "waiting")

    return {
        arm: {task: [(seed, state(arm, task, seed)) for seed in matrix.seeds_of[arm]] for task in matrix.tasks}
        for arm in matrix.arms
    }


def notes(matrix: Matrix) -> list[str]:
    """Return a sentence on each task whose heat strips leave languages out, and on each arm whose curves leave seeds
    out."""
    found = []
    for task in mx.by_layer(matrix)["task"].unique():
        if (number := len(matrix.languages(task))) > NAMED:
            found.append(
                f"The heat strips of {task} show {NAMED} of {number} languages, evenly from the best to the worst; "
                "cells.csv has all."
            )
        for arm, seeds in mx.whole_seeds(matrix, task).items():
            if fewer := [
                str(seed) for one, other, seed in matrix.records if (one, other) == (arm, task) and seed not in seeds
            ]:
                found.append(
                    f"The charts of {task} by layer leave out {arm}, seed {', '.join(fewer)}: fewer layers were "
                    "measured."
                )
    return found
