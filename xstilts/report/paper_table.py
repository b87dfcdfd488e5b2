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
    *("difference", "low", "high", "seeds", "by_seed", "verdict", "why", "notes"),
)
HOW_TO_READ = (
    "A difference is the mean over the tasks named, paired over seeds, with the 95 % paired t-interval over seeds. "
    "The test rows are taken as given. A task is left out if an arm is at chance in it with every seed, and of "
    "several tasks those that an arm did not measure, or whose few seeds above chance would cost more cells than they "
    "add. A claim that something is higher repeats if the interval lies above 0 and contradicts if it lies below. A "
    "claim that something is not higher contradicts if the interval lies above 0 and repeats if it ends below "
    "{margin}. Some claims are about several arms one by one: all must be higher, and one that is shown not to be "
    "higher settles the opposite. For that a wider interval than the one shown is needed (Bonferroni, over the arms). "
    "Undecided means neither, and does not prove equality. One seed decides nothing. A warning names trainings at "
    "chance. An intermediate training's cells count all the same. Those of a target are left out, which flatters the "
    "arm that failed; the notes give the difference with them."
)


class ClaimsSection(NamedTuple):
    """What the report's page says about claims."""

    table: Table
    how: str  # to read it


def section(claims: pd.DataFrame) -> ClaimsSection:
    """Return the table of claims.csv and how to read it."""
    about, margin = claims.iloc[0][["about", "margin"]]
    return ClaimsSection(table(claims, about), HOW_TO_READ.format(margin=points_of(margin)))


def table(claims: pd.DataFrame, about: str) -> Table:
    """Return one row for each claim, made of `as_frame`: the paper's figure, the difference here, the tasks and seeds
    it was found from, the verdict, why it may differ."""
    rows = []
    for _, those in claims.groupby("claim", sort=False):
        first = those.iloc[0]
        found = those[those["difference"].notna()]
        texts = [
            first["paper"],
            "; ".join(_named(row, len(those) > 1) for _, row in found.iterrows()),
            "; ".join(dict.fromkeys(f"{len(tasks.split())}: {tasks}" for tasks in found["measured"])),
            "; ".join(dict.fromkeys(f"{len(str(seeds).split())}: {seeds}" for seeds in found["seeds"])),
            first["verdict"],
            ". ".join(str(first[name]).rstrip(".") for name in ("why", "notes") if pd.notna(first[name])),
        ]
        rows.append((first["text"], [Cell(text, bold=i == 4) for i, text in enumerate(texts)]))
    heads = ["claim", "the paper", "here: difference in points [95 % interval]", "tasks", "seeds", "verdict", "notes"]
    return Table(f"The claims of {about}", heads, rows)


def _named(row: pd.Series, named: bool) -> str:
    """Return the difference of a row with its interval; `named`: with its arms."""
    arms = row["arms"] + ("" if row["against"] == PLAIN else f" less {row['against']}")
    span = "" if pd.isna(row["low"]) else f" [{interval_of((row['low'], row['high']))}]"
    return (f"{arms} " if named else "") + signed(row["difference"]) + span


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
            "why": one.claim.why or np.nan,
            "notes": ". ".join(one.notes) or np.nan,
        }
        if not one.differences:
            rows.append(base | {"arms": " ".join(one.claim.arms), "against": " ".join(one.claim.against)})
        for found in one.differences:
            low, high = found.interval() or (np.nan, np.nan)
            rows.append(
                base
                | {
                    "arms": found.arms,
                    "against": found.against,
                    "measured": " ".join(found.tasks),
                    "difference": found.mean,
                    "low": low,
                    "high": high,
                    "seeds": " ".join(map(str, found.by_seed)),
                    "by_seed": " ".join(f"{value:.6f}" for value in found.by_seed.values()),
                }
            )
    return pd.DataFrame(rows, columns=list(COLUMNS))


def markdown(claims: pd.DataFrame) -> str:
    """Return claims.md: how to read it, then the table."""
    found = section(claims)
    return f"# {found.table.caption}, and what these runs say\n\n{found.how}\n\n{found.table.markdown()}"
