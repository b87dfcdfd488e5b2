"""Tables of the report: their cells, and how a number is shown."""

import itertools
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from xstilts.report import matrix as mx
from xstilts.report.matrix import PLAIN, Matrix
from xstilts.report.plots import signed
from xstilts.run.record import Record

DAGGER, DOUBLE, DASH = "†", "‡", "–"
BIAS = "language_bias"  # the one measure of retrieval that is a result


@dataclass
class Cell:
    """What stands in one place of a table; `why` is what the reader is told on pointing at it."""

    text: str = ""
    bold: bool = False
    at_chance: bool = False
    why: str = ""


@dataclass
class Table:
    """A caption, column heads, and rows that begin with their name. `groups` are (head, columns) above the heads."""

    caption: str
    heads: list[str]
    rows: list[tuple[str, list[Cell]]]
    groups: list[tuple[str, int]] = field(default_factory=list)

    def markdown(self) -> str:
        """Return the caption and a Markdown table, numbers to the right."""
        lines = [self.heads, ["---"] + ["---:"] * (len(self.heads) - 1)]
        for name, cells in self.rows:
            lines.append([name] + [f"**{cell.text}**" if cell.bold and cell.text else cell.text for cell in cells])
        lines = [[" ".join(word.replace("|", "\\|").split("\n")) for word in line] for line in lines]
        widths = [max(len(line[i]) for line in lines) for i in range(len(self.heads))]
        text = [" | ".join(word.ljust(width) for word, width in zip(line, widths, strict=True)) for line in lines]
        return f"**{self.caption}**\n\n" + "\n".join(f"| {line} |" for line in text) + "\n"


def row_of(table: pd.DataFrame, arm: str, task: str) -> dict:
    return table.loc[(arm, task)].to_dict() if (arm, task) in table.index else {}


def of_task(table: pd.DataFrame, task: str) -> tuple[pd.Series, pd.Series]:
    """Return (means, eligible to be best) by arm."""
    here = table[table.index.get_level_values("task") == task].droplevel("task")
    return here["mean"], here["chance"] != "all"


def bold_best(cells: dict[str, Cell], means: pd.Series, eligible: pd.Series) -> dict[str, Cell]:
    for arm in mx.best(means, eligible):
        cells[arm].bold = True
    return cells


def score_cell(row: dict, usual: int) -> Cell:
    if not row or np.isnan(row["mean"]):
        return Cell(why="" if row else "no result")
    why = {"all": "at chance: in no average", "some": "without the seeds at chance", "": ""}[row["chance"]]
    at_chance = row["chance"] != ""
    return Cell(mark(with_spread(shown(row["mean"]), row, usual), at_chance), at_chance=at_chance, why=why)


def difference_cell(row: dict, usual: int) -> Cell:
    if not row or np.isnan(row["mean"]):
        return Cell(why=row.get("reason", ""))
    at_chance = row["chance"] != ""
    why = "one side is at chance" if at_chance else ""
    return Cell(mark(with_spread(signed(row["mean"]), row, usual), at_chance), at_chance=at_chance, why=why)


def average_cell(row: pd.Series, value: str, sd: str, usual: int, sign: bool = False) -> Cell:
    if pd.isna(row[value]):
        return Cell(why=row["reason"] or f"not over the same tasks and seeds as in {PLAIN}")
    text = signed(row[value]) if sign else shown(row[value])
    text = with_spread(text, {"sd": row[sd], "n": row["n"]}, usual)
    return Cell(text + (DOUBLE if row["reason"] else ""), why=row["reason"])


def with_spread(text: str, row: dict, usual: int) -> str:
    if not np.isnan(row["sd"]):
        text += f" ± {row['sd']:.1f}"
    return text if row["n"] == usual else f"{text} (n={row['n']})"


def mark(text: str, at_chance: bool) -> str:
    return f"{text} {DAGGER}" if at_chance and text else text


def shown(score: float) -> str:
    return "" if pd.isna(score) else f"{score:.1f}"


def main_first(record: Record) -> list[str]:
    """Return the metrics of a result that every language has, the main one leading."""
    return sorted(record.mean, key=lambda metric: metric != record.metric)


def other_metrics(matrix: Matrix, task: str) -> list[str]:
    """Return the other figures of a retrieval task, those of the headline layer: metrics, then what is counted in
    ranks."""
    first = next(record for (_, one, _), record in matrix.records.items() if one == task)
    return main_first(first)[1:] + [name for name in (BIAS,) if name in (first.measures or {})]


def other_cell(matrix: Matrix, arm: str, task: str, name: str) -> Cell:
    """Return the mean over seeds of a metric (mean over languages) or measure."""
    here = [record for (one, other, _), record in matrix.records.items() if (one, other) == (arm, task)]
    values = pd.Series([{**(record.measures or {}), **record.mean}.get(name, np.nan) for record in here], dtype=float)
    spread = {"sd": values.std(ddof=1), "n": values.count()}
    return Cell(with_spread(shown(values.mean()), spread, len(matrix.seeds)) if spread["n"] else "")


def seeds_shown(matrix: Matrix, arm: str, task: str) -> str:
    return " ".join(str(seed) for seed in matrix.seeds if (arm, task, seed) in matrix.records)


def layers_shown(matrix: Matrix, arm: str, task: str) -> str:
    found = [matrix.records[key] for key in matrix.records if key[:2] == (arm, task)]
    return "; ".join(dict.fromkeys(f"{record.layer}, {record.pooling}" for record in found))


def column_groups(matrix: Matrix, n_averages: int) -> list[tuple[str, int]]:
    """Return heads that span the columns: runs of target and retrieval tasks, then the averages."""
    kinds = ["Retrieval" if matrix.phase(task) == "retrieval" else "Targets" for task in matrix.tasks]
    runs = [(kind, len(list(group))) for kind, group in itertools.groupby(kinds)]
    return [("", 1), *runs, ("Average", n_averages)]
