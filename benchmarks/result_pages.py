"""Pages of the reports that docs/results/ keeps: their tables, and the claims one by one. `results.py` writes them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pandas as pd

from xstilts.report import curve, language_groups, paper_table
from xstilts.report.cells import DAGGER, Table, TableCell, score_cell
from xstilts.report.numbers import interval_of, p_text, signed

BY_COMMAND = "<!-- Written by `python benchmarks/results.py pages`; change the csv files or that script instead. -->\n"


def difference(row: pd.Series) -> str:
    """The difference of a contrast, and its interval if there is one."""
    if pd.isna(row["difference"]):
        return ""
    low, high = row["interval_low"], row["interval_high"]
    return signed(row["difference"]) + ("" if pd.isna(low) else f" [{interval_of((low, high))}]")


def question_table(found: pd.DataFrame) -> Table:
    """The contrasts at the layer reported that were computed, with their verdicts; its caption counts the others."""
    heads = ["contrast", "on", "languages", "score", "against", "difference [95 % interval]", "p", "seeds", "verdict"]
    judged, rows = found[found["verdict"].notna()], []
    computed = judged[judged["difference"].notna()]
    for _, row in computed.iterrows():
        numbers = [f"{row[name]:.1f}" if pd.notna(row[name]) else "" for name in ("score", "score_against")]
        p = p_text(None if pd.isna(row["p_judged"]) else row["p_judged"])
        seeds = "" if pd.isna(row["seeds"]) else str(int(row["seeds"]))
        texts = [
            row["on"],
            str(len(str(row["languages"]).split())),
            *numbers,
            difference(row),
            p,
            seeds,
            row["verdict"],
        ]
        rows.append(
            (
                f"{row['family']}: {row['contrast']}" + (" (primary)" if row["primary"] else ""),
                [TableCell(str(text), bold=bool(row["primary"])) for text in texts],
            )
        )
    left = f" ({len(judged) - len(computed)} more were not computed)" if len(computed) < len(judged) else ""
    return Table(f"Differences in points at layer {int(judged['layer'].iloc[0])}{left}", heads, rows)


def layers(found: pd.DataFrame) -> str:
    """The layers that a kept matrix' scores of retrieval are of: "tatoeba, ntrex: layer 12"; "" without any."""
    names = [name for name in found.columns if name.endswith(".layer")]
    by_layer: dict[str, list[str]] = {}
    for name in names:
        by_layer.setdefault(" and ".join(_words(found[name])), []).append(name.removesuffix(".layer"))
    return "; ".join(f"{', '.join(tasks)}: layer {layer}" for layer, tasks in by_layer.items())


def _words(column: pd.Series) -> list[str]:
    """The layers in a column: a number, or several as text, where seeds have several."""
    values = column.dropna().unique()
    return list(dict.fromkeys(word for x in values for word in (x.split() if isinstance(x, str) else [f"{x:g}"])))


def matrix_table(found: pd.DataFrame, question: bool) -> Table:
    """One row an arm: each task's score and sd over seeds, marked where trainings are at chance.

    Args:
        question: whether contrasts at a chosen layer, without the languages it was chosen on, stand beside the table.
    """
    tasks = [name.removesuffix(".score_sd") for name in found.columns if name.endswith(".score_sd")]
    rows = []
    for arm, row in found.iterrows():
        cells = []
        for task in tasks:
            mean, sd, n, chance = (row[f"{task}.{what}"] for what in ("score", "score_sd", "n", "chance"))
            cell = score_cell({"mean": mean, "sd": sd, "chance": "" if pd.isna(chance) else chance})
            cell.text += f" ({int(n)})" if cell.text and pd.notna(n) else ""
            cells.append(cell)
        rows.append((str(arm), cells))
    caption = "Score of each task, mean over languages ± sd over seeds (number of seeds)"
    at = layers(found)
    if question or at:
        at = at or "retrieval: the layer of --report_layer"
        caption += f"; {at}, all languages that were measured" + (" (contrasts have their own)" if question else "")
    if any(cell.at_chance for _, cells in rows for cell in cells):
        caption += f"; {DAGGER}: English dev is at chance in every seed, or in some, which are then left out"
    return Table(caption, ["arm", *tasks], rows)


def provenance(origin: dict) -> str:
    versions = ", ".join(f"{name} {' and '.join(found)}" for name, found in origin["versions"].items())
    seeds = " ".join(map(str, origin["seeds"]))
    return (
        f"{origin['cells']} cells, seeds {seeds}, finished {origin['finished']}; reported at commit "
        f"{origin['commit']}, {versions}; {origin['machine']}. Started from "
        f"{', '.join(f'`{name}`' for name in sorted(set(map(checkpoint_name, origin['models']))))}."
        + (f" **{origin['note']}**" if origin.get("note") else "")
        + "\n"
    )


def checkpoint_name(path: str) -> str:
    """Return the end of a checkpoint's path that tells which it is: the arm as well, where the folder is a seed's.

    Args:
        path: of a checkpoint, or of several that were trained one from the other: A > B.
    """
    ends = [Path(one).parts for one in path.split(" > ")]
    return " > ".join("/".join(parts[-2:] if re.fullmatch(r"seed\d+", parts[-1]) else parts[-1:]) for parts in ends)


def page(folder: Path) -> str:
    """The page of one kept report."""
    parts = [
        BY_COMMAND,
        f"# {folder.name}\n",
        provenance(json.loads((folder / "origin.json").read_text(encoding="utf-8"))),
        "Terms: [glossary](../glossary.md). Intervals and verdicts: [statistics](../statistics.md).\n",
    ]
    if question := (folder / "question.csv").is_file():
        parts.append(question_table(pd.read_csv(folder / "question.csv", keep_default_na=True)).markdown())
    if (folder / "curve.csv").is_file():
        parts.append(curve.table(pd.read_csv(folder / "curve.csv")).markdown())
    parts.append(matrix_table(kept_matrix(folder), question).markdown())
    if (folder / "groups.csv").is_file():
        parts += [one.markdown() for one in language_groups.tables(pd.read_csv(folder / "groups.csv"))]
    return "\n".join(parts)


def kept_matrix(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "matrix.csv", index_col="arm", keep_default_na=True)


def claims_page(folder: Path) -> str:
    """docs/claims.md, of the report that has claims."""
    claims = paper_table.section(paper_table.read(folder / "claims.csv"))
    return "\n".join(
        [
            BY_COMMAND,
            "# The paper's claims, and what these runs say\n",
            "The paper is Phang et al. 2020 (arXiv 2005.13013). What it says stands in "
            "`recipes/claims/x-stilts.yaml`, written before the runs. Comments there say which rules, and which "
            "claim, were settled later. One rule of those decides a verdict: of tasks with few seeds, only seeds "
            "above chance count. With it the claim about `xnli+multilingual+mlm` is *repeats*; it was *undecided*.\n",
            provenance(json.loads((folder / "origin.json").read_text(encoding="utf-8"))),
            f"Retrieval is that of one layer ({layers(kept_matrix(folder))}).\n",
            claims.markdown(),
        ]
    )
