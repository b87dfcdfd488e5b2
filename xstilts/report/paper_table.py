"""The table of a paper's claims: claims.csv, and what is made of it (claims.md, the report's page, docs/claims.md)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from xstilts.report.cells import Table, TableCell
from xstilts.report.matrix import PLAIN
from xstilts.report.numbers import interval_of, points_of, signed
from xstilts.report.paper import NO_RESULT, Judgement
from xstilts.run.files import remove, write_text

# `tasks` as the claim names them, `measured` those that the difference is of; unknown numbers are NaN, texts ""
COLUMNS = (
    *("about", "margin", "claim", "text", "paper", "expect", "pick", "arms", "against", "tasks", "measured"),
    *("difference", "low", "high", "seeds", "by_seed", "verdict", "warnings", "why", "notes"),
)
NUMBERS = ("margin", "difference", "low", "high")
BETWEEN = "; "  # the notes, and the warnings, of a line of claims.csv
WARNED = "An exclamation mark (!) after a verdict: some trainings were at chance; the notes name them."
HOW_TO_READ = (
    "A difference is the mean over the tasks named, in points, paired over seeds. Its interval is the 95 % paired "
    "t-interval over seeds. The test rows are taken as given.",
    "A claim that something is higher repeats if the interval lies above 0, and contradicts if it lies below.",
    "A claim that something is not higher repeats if the interval ends below {margin}, and contradicts if it lies "
    "above 0.",
    "Some claims are about several arms one by one: all must be higher. If one is shown not to be higher, the "
    "opposite holds. That takes a wider interval than the one shown (Bonferroni, over the arms).",
    "Undecided means neither, and does not prove equality. One seed decides nothing.",
    "A task in which an arm is at chance with every seed is left out. If a claim is about several tasks, one is also "
    "left out if an arm was not measured on it, or is above chance in so few seeds that the others would lose more.",
    "The cells of an intermediate training at chance count all the same. Those of a target at chance are left out, "
    "which flatters the arm that failed; the notes give the difference with them.",
)


class ClaimsSection(NamedTuple):
    """What the report's page says about claims."""

    table: Table
    how: list[str]  # to read it
    notes: list[tuple[str, list[str]]]  # (claim, why it may differ, warnings, what was left out)
    warned: str = WARNED

    def markdown(self) -> str:
        """Return how to read the table, the table, and its notes."""
        parts = [_list([*self.how, self.warned]), self.table.markdown()]
        parts += ["## Notes\n"] if self.notes else []
        return "\n".join(parts + [f"**{claim}**\n\n{_list(lines)}" for claim, lines in self.notes])


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
            text, verdict, paper = row["text"], row["verdict"] + " !" * bool(row["warnings"]), row["paper"]
            if number:
                text = verdict = paper = ""
            cells = [TableCell(verdict, bold=True), TableCell(paper), TableCell(_sides(row)), TableCell(_figures(row))]
            rows.append((text, [*cells, TableCell(row["measured"]), TableCell(row["seeds"])]))
    heads = ["claim", "verdict", "the paper", "arms", "difference [95 % interval]", "tasks", "seeds"]
    return Table(f"The claims of {about}", heads, rows, text=True)


def notes(claims: pd.DataFrame) -> list[tuple[str, list[str]]]:
    """Return (claim, [why it may differ, warnings, what its differences leave out]) of the claims that have notes."""
    found = []
    for _, those in claims.groupby("claim", sort=False):
        first = those.iloc[0]
        lines = [first["why"]] if first["why"] else []
        lines += [f"! {one}" for one in first["warnings"].split(BETWEEN) if one]
        for _, row in those.iterrows():
            side = f"{_sides(row)}: " if len(those) > 1 else ""
            lines += [f"{side}{note}" for note in row["notes"].split(BETWEEN) if note]
        if lines:
            found.append((first["text"], lines))
    return found


def _sides(row: pd.Series) -> str:
    """Return the arms of a difference: "squad", "mean of squad, xnli less hellaswag"."""
    arms, against = (row[side].split() for side in ("arms", "against"))
    of = "" if len(arms) == 1 else "best of " if row["pick"] else "mean of "
    other = f" less {'mean of ' * (len(against) > 1)}{', '.join(against)}" if against != [PLAIN] else ""
    return f"{of}{', '.join(arms)}{other}"


def _figures(row: pd.Series) -> str:
    """Return a difference with its interval."""
    span = "" if pd.isna(row["low"]) else f" [{interval_of((row['low'], row['high']))}]"
    return NO_RESULT if pd.isna(row["difference"]) else signed(row["difference"]) + span


def read(path: str | Path) -> pd.DataFrame:
    """Return `as_frame` of a claims.csv: no text is taken for a number or for nothing."""
    frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    return frame.assign(**{name: pd.to_numeric(frame[name]) for name in NUMBERS})


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
        claim = one.claim
        base = {"about": about, "margin": margin, "claim": claim.name, "text": claim.claim, "paper": claim.paper}
        base |= {"expect": claim.expect, "pick": claim.pick or "", "tasks": " ".join(claim.tasks), "why": claim.why}
        base |= {"verdict": one.verdict, "warnings": BETWEEN.join(one.warnings)}
        for found in one.differences:
            low, high = found.interval() or (np.nan, np.nan)
            own = {"arms": found.arms, "against": found.against, "notes": BETWEEN.join(found.notes)}
            own |= {"measured": " ".join(found.tasks), "seeds": " ".join(map(str, found.by_seed))}
            own |= {"by_seed": " ".join(f"{value:.6f}" for value in found.by_seed.values())}
            rows.append(base | own | {"difference": found.mean, "low": low, "high": high})
    return pd.DataFrame(rows, columns=list(COLUMNS))


def markdown(claims: pd.DataFrame) -> str:
    """Return claims.md."""
    found = section(claims)
    return f"# {found.table.caption}, and what these runs say\n\n{found.markdown()}"
