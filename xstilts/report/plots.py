"""What the pictures of a question share: looks of lines, a legend beside panels, and the file itself.

Every picture is drawn, however many arms and families there are: line styles repeat, a legend gets more columns, a
picture too large for the format gets a lower resolution.
"""

import io
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from xstilts.report.matrix import PLAIN
from xstilts.run.files import remove, write_bytes

# Okabe and Ito's colours, distinct with every common colour blindness; black is kept for the arm `none`.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#6B4C9A", "#8C6D31")
_MARKERS = "osD^vPX*"
_DASHES = ("-", "--", ":", "-.")
LOOKS = len(_COLOURS) * len(_DASHES) * len(_MARKERS)
_LEGEND_ROWS = 18  # in the height of a panel
_DPI, _SIDE, _PIXELS = 160, 2**15, 6e7  # of a picture; a side of 2**16 is more than the format takes


def write(folder: Path, drawings: Mapping[str, Callable], subject: object) -> list[str]:
    """Write each picture into `folder` and return the names of the files; one that is None is removed.

    Args:
        drawings: {file name: function that returns a Figure of `subject` or None}.

    Raises:
        UserError: a file cannot be written.
    """
    written = []
    for name, draw in drawings.items():
        with matplotlib.rc_context({"text.parse_math": False}):  # a "$" in a name does not begin a formula
            figure = draw(subject)
            if figure is None:
                remove(folder / name)  # of an earlier report: it would show old results
                continue
            content = png(figure)
        write_bytes(folder / name, content)
        written.append(name)
    return written


def png(figure: Figure) -> bytes:
    """Return the figure as PNG, the same bytes for the same figure (no date, no version inside)."""
    width, height = figure.get_size_inches()
    dpi = min(_DPI, _SIDE / max(width, height), (_PIXELS / (width * height)) ** 0.5)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, facecolor="white", metadata={"Software": None})
    return buffer.getvalue()


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
    """Label the x axis as layers, and remove what a panel of curves does not need."""
    axes.set_xlabel("layer (0 = embedding output)")
    axes.locator_params(axis="x", integer=True)
    axes.grid(color="#ddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def styles(arms: Sequence[str]) -> Iterable[dict[str, Any]]:
    """Yield a line style for each arm, the same whatever is plotted: colours first, then dashes, then other markers
    too.

    They are distinct up to `LOOKS` arms, then they repeat.
    """
    looks = itertools.cycle(
        {"color": colour, "marker": _MARKERS[(i + turn) % len(_MARKERS)], "linestyle": dashes}
        for turn in range(len(_MARKERS))
        for dashes in _DASHES
        for i, colour in enumerate(_COLOURS)
    )
    for arm in arms:
        yield {"color": "black", "marker": ".", "linestyle": "-"} if arm == PLAIN else next(looks)
