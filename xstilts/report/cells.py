"""Tables of the report and their cells; how a number is written is in `xstilts.report.numbers`."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from xstilts.report.matrix import PLAIN, Matrix, rows_over_seeds
from xstilts.report.numbers import count, shown, signed
from xstilts.report.reading import EM_F1
from xstilts.run.record import Record

DAGGER, DOUBLE, DASH = "†", "‡", "–"
BIAS = "language_bias"  # the one measure of retrieval that is a result


@dataclass
class TableCell:
    """One cell of a table.

    Attributes:
        why: the tooltip: a reason, shown when the reader points at the cell.
        value: the column is sorted by it; None: by the text.
        tint: the colour, from -1 (below) to 1 (above): the value divided by the largest one in its column.
        undecided: whether the cell is shaded.
    """

    text: str = ""
    bold: bool = False
    at_chance: bool = False
    why: str = ""
    value: float | None = None
    tint: float = 0.0
    undecided: bool = False


@dataclass
class Table:
    """A table of the report.

    Attributes:
        rows: (name, cells).
        groups: (head, number of columns) of the heads above the heads.
        names: {head: its long form, such as a language's name}.
        foot: the number of rows at the end that are not sorted.
        text: whether the columns hold text, which stands to the left.
    """

    caption: str
    heads: list[str]
    rows: list[tuple[str, list[TableCell]]]
    groups: list[tuple[str, int]] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)
    foot: int = 0
    text: bool = False

    def markdown(self) -> str:
        """Return the caption and a Markdown table, numbers to the right."""
        lines = [self.heads, ["---"] + ["---" if self.text else "---:"] * (len(self.heads) - 1)]
        for name, cells in self.rows:
            lines.append([name] + [f"**{cell.text}**" if cell.bold and cell.text else cell.text for cell in cells])
        lines = [[" ".join(word.replace("|", "\\|").split("\n")) for word in line] for line in lines]
        widths = [max(len(line[i]) for line in lines) for i in range(len(self.heads))]
        text = [" | ".join(word.ljust(width) for word, width in zip(line, widths, strict=True)) for line in lines]
        return f"**{self.caption}**\n\n" + "\n".join(f"| {line} |" for line in text) + "\n"

    def latex(self) -> str:
        """Return a LaTeX table, which needs the package booktabs."""
        lines = [" & ".join(_latex(head) for head in self.heads) + r" \\", r"\midrule"]
        for name, cells in self.rows:
            texts = [rf"\textbf{{{_latex(c.text)}}}" if c.bold and c.text else _latex(c.text) for c in cells]
            lines.append(" & ".join([_latex(name), *texts]) + r" \\")
        body = "\n".join(lines)
        return (
            f"\\begin{{table}}\n\\caption{{{_latex(self.caption)}}}\n"
            f"\\begin{{tabular}}{{l{'r' * (len(self.heads) - 1)}}}\n\\toprule\n{body}\n\\bottomrule\n"
            "\\end{tabular}\n\\end{table}\n"
        )


_LATEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "−": "$-$", "±": r"$\pm$"}
_LATEX |= {DAGGER: r"$\dagger$", DOUBLE: r"$\ddagger$", DASH: "--"} | {sign: f"\\{sign}" for sign in "&%$#_{}"}


def _latex(text: str) -> str:
    """Return the text with the signs that LaTeX reads as commands written so that it shows them."""
    return re.sub("|".join(map(re.escape, _LATEX)), lambda match: _LATEX[match[0]], text)


def score_cell(row: dict) -> TableCell:
    """Return a score, mean ± sd over seeds, from a row of `matrix.over_seeds`."""
    if not row or np.isnan(row["mean"]):
        return TableCell(why="" if row else "no result")
    why = {"all": "at chance: in no average", "some": "without the seeds at chance", "": ""}[row["chance"]]
    at_chance = row["chance"] != ""
    text = mark(with_spread(shown(row["mean"]), row["sd"]), at_chance)
    return TableCell(text, at_chance=at_chance, why=why, value=row["mean"])


def difference_cell(row: dict) -> TableCell:
    """Return a difference, mean ± sd over seeds, from a row of `matrix.differences`."""
    if not row or np.isnan(row["mean"]):
        return TableCell(why=row.get("reason", ""))
    at_chance = row["chance"] != ""
    why = "one side is at chance" if at_chance else ""
    text = mark(with_spread(signed(row["mean"]), row["sd"]), at_chance)
    return TableCell(text, at_chance=at_chance, why=why, value=row["mean"])


def average_cell(row: pd.Series, value: str, sd: str, sign: bool = False) -> TableCell:
    """Return an average, or a difference of averages, from a row of `matrix.averages`."""
    if pd.isna(row[value]):
        return TableCell(why=row["reason"] or f"not over the same tasks and seeds as in {PLAIN}")
    text = with_spread(signed(row[value]) if sign else shown(row[value]), row[sd])
    return TableCell(text + (DOUBLE if row["reason"] else ""), why=row["reason"], value=row[value])


def tinted(cells: list[TableCell]) -> None:
    """Set `tint` of the cells of one column, by the largest value in it; 1 point at least."""
    values = [abs(cell.value) for cell in cells if cell.value is not None]
    largest = max([1.0, *values])
    for cell in cells:
        cell.tint = 0.0 if cell.value is None else cell.value / largest


def with_spread(text: str, sd: float) -> str:
    """Return the text with the standard deviation behind it, if there is one."""
    return text if np.isnan(sd) else f"{text} ± {sd:.1f}"


def mark(text: str, at_chance: bool) -> str:
    """Return the text, with the sign for chance behind it if it is at chance."""
    return f"{text} {DAGGER}" if at_chance and text else text


def metrics_of(records: Sequence[Record]) -> list[str]:
    """Return the metrics of results of one task that every language has, the main one leading."""
    found = dict.fromkeys(metric for record in records for metric in record.mean)
    return sorted(found, key=lambda metric: metric != records[0].metric)


def other_metrics(matrix: Matrix, task: str) -> list[str]:
    """Return the other figures of a retrieval task, those of the headline layer: metrics, then what is counted in
    ranks."""
    here = [record for (_, one, _), record in matrix.records.items() if one == task]
    return metrics_of(here)[1:] + [name for name in (BIAS,) if any(name in (record.measures or {}) for record in here)]


def other_cell(matrix: Matrix, arm: str, task: str, name: str) -> TableCell:
    """Return the mean over seeds of a metric (mean over languages) or measure; blank unless every seed that the score
    is of has it, because it stands beside the score."""
    here = [record for (one, other, _), record in matrix.records.items() if (one, other) == (arm, task)]
    values = pd.Series([{**(record.measures or {}), **record.mean}.get(name, np.nan) for record in here], dtype=float)
    if values.hasnans or values.empty:
        return TableCell(why=f"measured in {values.count()} of {count(len(values), 'seed')}" if values.count() else "")
    return TableCell(with_spread(shown(values.mean()), values.std(ddof=1)), value=values.mean())


def seeds_shown(matrix: Matrix, arm: str, task: str) -> str:
    """Return the seeds that the score of the arm and task is of, as text."""
    row = rows_over_seeds(matrix).get((arm, task), {"seeds": ()})
    return " ".join(map(str, row["seeds"]))


def layers_shown(matrix: Matrix, arm: str, task: str) -> str:
    """Return the headline layers and poolings of the arm and task, as text."""
    found = [matrix.records[key] for key in matrix.records if key[:2] == (arm, task)]
    return "; ".join(dict.fromkeys(f"{record.layer}, {record.pooling}" for record in found))


def score_name(matrix: Matrix, task: str) -> str:
    """Return what the score of a task is: its main metric, or (EM+F1)/2."""
    here = matrix.cells[matrix.cells["task"] == task]
    return EM_F1 if here["em_f1"].notna().any() else matrix.metric(task) or "no result"
