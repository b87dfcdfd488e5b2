"""The table of a paper's claims: claims.csv, and what is made of it (claims.md, the report's page, docs/claims.md)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from xstilts.report.cells import Cell, Table
from xstilts.report.matrix import PLAIN
from xstilts.report.numbers import interval_of, points_of, signed
from xstilts.report.old_files import remove
from xstilts.report.paper import Judgement
from xstilts.run.files import write_text

# `tasks` as the claim names them, `measured` those that the difference is of
COLUMNS = (
    *("about", "margin", "claim", "text", "paper", "expect", "arms", "against", "tasks", "measured"),
    *("difference", "low", "high", "seeds", "by_seed", "verdict", "warnings", "why", "notes"),
)
BETWEEN = "; "  # the notes, and the warnings, of a line of claims.csv
HOW_TO_READ = (
    "A difference is the mean over the tasks named, in points, paired over seeds. Its interval is the 95 % paired "
    "t-interval over seeds. The test rows are taken as given.",
    "A claim that something is higher repeats if the interval lies above 0, and contradicts if it lies below.",
    "A claim that something is not higher repeats if the interval ends below {margin}, and contradicts if it lies "
    "above 0.",
    "Some claims are about several arms one by one: all must be higher. One that is shown not to be higher settles "
    "the opposite, by a wider interval than the one shown (Bonferroni, over the arms).",
    "Undecided means neither, and does not prove equality. One seed decides nothing.",
    "A task in which an arm is at chance with every seed is left out. Of several tasks so are those that an arm did "
    "not measure, or whose few seeds above chance would cost more cells than they add.",
    "!: a warning of trainings at chance; the notes name them. The cells of an intermediate training at chance count "
    "all the same. Those of a target at chance are left out, which flatters the arm that failed; the notes give the "
    "difference with them.",
)


class ClaimsSection(NamedTuple):
    """What the report's page says about claims."""

    table: Table
    how: list[str]  # to read it
    notes: dict[str, list[str]]  # {claim: why it may differ, warnings, what was left out}

    def markdown(self) -> str:
        """Return how to read the table, the table, and its notes."""
        parts = [_list(self.how), self.table.markdown(), "## Notes\n"]
        parts += [f"**{claim}**\n\n{_list(lines)}" for claim, lines in self.notes.items()]
        return "\n".join(parts)


def _list(lines: Sequence[str]) -> str:
    return "".join(f"- {line}\n" for line in lines)


def section(claims: pd.DataFrame) -> ClaimsSection:
    """Return the table of claims.csv, how to read it, and its notes."""
    about, margin = claims.iloc[0][["about", "margin"]]
    how = [line.format(margin=points_of(margin)) for line in HOW_TO_READ]
    return ClaimsSection(table(claims, about), how, notes(claims))


def table(claims: pd.DataFrame, about: str) -> Table:
    """Return one row for each difference of `as_frame`. A claim, the paper's figure and the verdict stand in the first
    row of their differences."""
    rows = []
    for _, those in claims.groupby("claim", sort=False):
        for number, (_, row) in enumerate(those.iterrows()):
            mark = " !" if pd.notna(row["warnings"]) else ""
            found = pd.notna(row["difference"])
            cells = [
                Cell("" if number else f"{row['verdict']}{mark}", bold=True),
                Cell("" if number else row["paper"]),
                Cell(_sides(row)),
                Cell(_figures(row) if found else "not run"),
                Cell(f"{row['measured']}" if found else ""),
                Cell(str(row["seeds"]) if found else ""),
            ]
            rows.append(("" if number else row["text"], cells))
    heads = ["claim", "verdict", "the paper", "arms", "difference [95 % interval]", "tasks", "seeds"]
    return Table(f"The claims of {about}", heads, rows, text=True)


def notes(claims: pd.DataFrame) -> dict[str, list[str]]:
    """Return {claim: why it may differ, warnings, what its differences leave out}, of the claims that have notes."""
    lines = {}
    for _, those in claims.groupby("claim", sort=False):
        first = those.iloc[0]
        found = [first["why"]] if pd.notna(first["why"]) else []
        found += [f"! {one}" for one in _parts(first["warnings"])]
        for _, row in those.iterrows():
            side = f"{_sides(row)}: " if len(those) > 1 else ""
            found += [f"{side}{note}" for note in _parts(row["notes"])]
        if found:
            lines[first["text"]] = found
    return lines


def _parts(cell: object) -> list[str]:
    """Return the notes or warnings of a cell of claims.csv, which may be NaN."""
    return cell.split(BETWEEN) if isinstance(cell, str) else []


def _sides(row: pd.Series) -> str:
    return ", ".join(row["arms"].split()) + ("" if row["against"] == PLAIN else f" less {row['against']}")


def _figures(row: pd.Series) -> str:
    """Return a difference with its interval."""
    span = "" if pd.isna(row["low"]) else f" [{interval_of((row['low'], row['high']))}]"
    return signed(row["difference"]) + span


def write(claims: pd.DataFrame | None, output_dir: str | Path) -> ClaimsSection | None:
    """Write claims.csv and claims.md; return the section of the page.

    Without claims those of an earlier report are removed: they are not of the results beside them.

    Args:
        claims: of `as_frame`.

    Raises:
        UserError: `output_dir` cannot be written.
    """
    table, page = Path(output_dir, "claims.csv"), Path(output_dir, "claims.md")
    if claims is None:
        remove(table)
        remove(page)
        return None
    write_text(table, claims.to_csv(index=False, lineterminator="\n"))
    write_text(page, markdown(claims))
    return section(claims)


def as_frame(judgements: Sequence[Judgement], about: str, margin: float) -> pd.DataFrame:
    """Return one row for each difference, unrounded: what claims.csv holds."""
    rows = []
    for one in judgements:
        base = {
            "about": about,
            "margin": margin,
            "claim": one.claim.name,
            "text": one.claim.claim,
            "paper": one.claim.paper,
            "expect": one.claim.expect,
            "tasks": " ".join(one.claim.tasks),
            "verdict": one.verdict,
            "warnings": BETWEEN.join(one.warnings) or np.nan,
            "why": one.claim.why or np.nan,
        }
        for found in one.differences:
            low, high = found.interval() or (np.nan, np.nan)
            row = {"arms": found.arms, "against": found.against, "notes": BETWEEN.join(found.notes) or np.nan}
            if found.by_seed:
                row |= {
                    "measured": " ".join(found.tasks),
                    "difference": found.mean,
                    "low": low,
                    "high": high,
                    "seeds": " ".join(map(str, found.by_seed)),
                    "by_seed": " ".join(f"{value:.6f}" for value in found.by_seed.values()),
                }
            rows.append(base | row)
    return pd.DataFrame(rows, columns=list(COLUMNS))


def markdown(claims: pd.DataFrame) -> str:
    """Return claims.md."""
    found = section(claims)
    return f"# {found.table.caption}, and what these runs say\n\n{found.markdown()}"
