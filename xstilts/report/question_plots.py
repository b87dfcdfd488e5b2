"""The plots of a question's report, from a `xstilts.report.contrasts.Question`."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from xstilts.report import plots
from xstilts.report.contrasts import ENGLISH, SEEN, UNSEEN, Question
from xstilts.report.matrix import PLAIN, whole_seeds
from xstilts.report.question_tables import find, scores_by_layer


def forest(question: Question) -> Figure | None:
    """Return the differences with their intervals, unseen and seen languages side by side; None without any."""
    if not any(c.found for c in question.contrasts):
        return None
    rows = list(dict.fromkeys((c.family, c.roles) for c in question.contrasts))
    longest = max(len(c.verdict) for c in question.contrasts)  # the text at the right of the panel
    figure = Figure(figsize=(7.2 + 0.07 * longest, 1.6 + 0.44 * len(rows)), layout="constrained")
    axes = figure.add_subplot()
    looks = {UNSEEN: ("#0072B2", "o", -0.16), SEEN: ("#D55E00", "s", 0.16)}
    for y, (family, roles) in enumerate(rows):
        for kind, (colour, marker, shift) in looks.items():
            c = find(question.contrasts, family, roles, kind)
            if c is None:
                continue
            if c.found:
                low, high = c.found.interval or c.found.bootstrap_interval
                axes.plot(
                    [low, high], [y + shift] * 2, color=colour, linewidth=2, linestyle="-" if c.found.interval else ":"
                )
                face = colour if kind == UNSEEN else "white"
                axes.plot(
                    c.found.difference,
                    y + shift,
                    marker,
                    color=colour,
                    markerfacecolor=face,
                    markersize=8 if c.primary else 6,
                )
            axes.annotate(
                f"{kind}: {c.verdict}",
                xy=(1.01, y + shift),
                xycoords=("axes fraction", "data"),
                va="center",
                fontsize=8,
                color=colour,
                weight="bold" if c.primary else "normal",
                annotation_clip=False,
            )
    margin = question.spec.margin
    axes.axvspan(-margin, margin, color="#eee", zorder=0)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_yticks(range(len(rows)), [f"{family}: {' − '.join(roles)}" for family, roles in rows], fontsize=9)
    for y, (before, after) in enumerate(zip(rows, rows[1:], strict=False)):
        if before[0] != after[0]:
            axes.axhline(y + 0.5, color="#bbb", linewidth=0.8)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlabel(f"difference in points at {question.readout}, 95 % interval; grey: within {margin:g}")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    if any(c.found and c.found.interval is None for c in question.contrasts):
        axes.set_title("One seed: dotted intervals are for other queries alone", fontsize=9)
    return figure


def layer_curves(question: Question) -> Figure | None:
    """Return the score by layer over the reported languages, one panel a family; None where one layer was
    measured."""
    whole = whole_seeds(question.matrix, question.spec.task)
    curves = {arm: scores_by_layer(question, arm, question.reported, whole.get(arm, [])) for arm in question.spec.arms}
    if max(map(len, curves.values())) < 2:
        return None
    families = question.families
    roles = [PLAIN, *dict.fromkeys(role for family in families for role in family.arms)]
    styles = dict(zip(roles, plots.styles(roles), strict=True))
    handles = [Line2D([], [], label=role, markersize=5, **style) for role, style in styles.items()]
    handles.append(Line2D([], [], label="layer reported", color="#999", linestyle="--", linewidth=0.9))
    if question.selection:
        handles.append(
            Line2D([], [], label=f"{PLAIN} and {ENGLISH} on the\nlanguages of the choice", color="#999", linestyle=":")
        )
    figure, panels = plots.beside_legend(len(families), 3.9, 3.9, handles, sharey=True)
    for axes, family in zip(panels, families, strict=True):
        for role, style in styles.items():
            curve = curves.get(PLAIN if role == PLAIN else family.arms.get(role, ""), {})
            axes.plot(
                list(curve), [np.mean(values) for values in curve.values()], markersize=4, linewidth=1.5, **style
            )
        if question.selection:
            axes.plot(
                list(question.selection), list(question.selection.values()), color="#999", linestyle=":", linewidth=1.5
            )
        axes.axvline(question.readout.layer, color="#999", linewidth=0.9, linestyle="--")
        axes.set_title(family.name, fontsize=11)
        plots.layer_axis(axes)
    panels[0].set_ylim(bottom=0)  # set last: the panels share the limit, and it would no longer grow
    panels[0].set_ylabel(f"{question.matrix.metric(question.spec.task)}, mean over languages and seeds")
    return figure
