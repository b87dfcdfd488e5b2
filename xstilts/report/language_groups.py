"""Scores by groups of languages: whether a phase 2 trained on them, and whether pretraining covers them.

A language is seen if the phase 2 of any arm trained on it, so every arm is scored on the same languages. English,
which every target trains on, is in no group. For retrieval between any two languages (`--pairs all`) there is a row of
the mean over the pairs without English, too.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from xstilts.report import statistics
from xstilts.report.cells import Table, TableCell, score_name
from xstilts.report.contrasts import SEEN, UNSEEN, groups_of, seen_by
from xstilts.report.matrix import PLAIN, Matrix
from xstilts.report.numbers import interval_of, shown, signed
from xstilts.report.reading import EXACT_MATCH, F1

COLUMNS = (
    *("coverage", "task", "metric", "group", "languages", "arm", "seeds", "score"),
    *("paired_seeds", "difference", "low", "high"),
)
ALL = "all"  # the group of every language


def as_frame(matrix: Matrix, coverage: str) -> pd.DataFrame:
    """Return groups.csv: one row for each task, metric, group of languages and arm, 0-100 and points, not rounded.

    `score` is the mean over languages and seeds; `difference` is that to arm `none`, paired over seeds, with the 95 %
    t-interval over seeds. A seed at chance stays out.

    Args:
        coverage: a list of tasks/coverage.py.
    """
    seen, rows = seen_by(matrix, matrix.arms, "groups of languages", matrix.problems), []
    for task in (task for task in matrix.tasks if matrix.phase(task)):
        languages = [language for language in matrix.languages(task) if language != "en"]
        groups = {ALL: tuple(languages)} | {
            name: those
            for kind, inside in ((UNSEEN, False), (SEEN, True))
            for name, those in groups_of(kind, [one for one in languages if (one in seen) == inside], coverage).items()
        }
        for metric, parts in _metrics(matrix, task).items():
            for name, those in groups.items():
                rows += _rows(matrix, task, parts, those, {"coverage": coverage, "group": name, "metric": metric})
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _metrics(matrix: Matrix, task: str) -> dict[str, tuple[str, ...]]:
    """Return {what it is: the metrics whose mean it is} of the task's score, and of the main metric of the pairs
    without English where it was measured."""
    main, score = str(matrix.metric(task)), score_name(matrix, task)
    found: dict[str, tuple[str, ...]] = {score: (main,) if score == main else (EXACT_MATCH, F1)}
    without = f"{main}_without_english"
    if any(without in record.mean for (_, one, _), record in matrix.records.items() if one == task):
        found[without] = (without,)
    return found


def _rows(matrix: Matrix, task: str, metrics: Sequence[str], languages: Sequence[str], base: dict) -> list[dict]:
    by_arm: dict[str, dict[int, float]] = {arm: {} for arm in matrix.arms}
    for (arm, one, seed), record in matrix.records.items():
        found = [record.scores.get(language, {}).get(metric) for language in languages for metric in metrics]
        values = [value for value in found if value is not None]
        if one == task and values and len(values) == len(found) and not record.at_chance:
            by_arm[arm][seed] = float(np.mean(values))
    rows = []
    for arm, scores in by_arm.items():
        common = sorted(scores.keys() & by_arm.get(PLAIN, {}).keys()) if arm != PLAIN else []
        gaps = [scores[seed] - by_arm[PLAIN][seed] for seed in common]
        low, high = statistics.seed_interval(gaps) or (np.nan, np.nan)
        rows.append(
            base
            | {
                "task": task,
                "languages": " ".join(languages),
                "arm": arm,
                "seeds": len(scores),
                "score": np.mean(list(scores.values())) if scores else np.nan,
                "paired_seeds": len(gaps),
                "difference": np.mean(gaps) if gaps else np.nan,
                "low": low,
                "high": high,
            }
        )
    return rows if any(row["seeds"] for row in rows) else []


def tables(frame: pd.DataFrame) -> list[Table]:
    """Return a table for each task and metric: a row for each arm with scores, a column for each group of languages.

    Args:
        frame: what `as_frame` returned, or groups.csv read back.
    """
    made = []
    for (task, metric, coverage), those in frame.groupby(["task", "metric", "coverage"], sort=False):
        heads = {
            group: len(str(part["languages"].iloc[0]).split()) for group, part in those.groupby("group", sort=False)
        }
        rows = [
            (arm, [_cell(part[part["group"] == group]) for group in heads])
            for arm, part in those.groupby("arm", sort=False)
            if part["score"].notna().any()
        ]
        caption = (
            f"{task}, {metric} by languages that a phase 2 trained on (seen) and that pretraining covers (list: "
            f"{coverage}), without English; in brackets the difference to {PLAIN}, its 95 % interval over seeds, and "
            "the seeds"
        )
        made.append(Table(caption, ["arm", *(f"{group} ({number})" for group, number in heads.items())], rows))
    return made


def _cell(part: pd.DataFrame) -> TableCell:
    if part.empty or pd.isna(part["score"].iloc[0]):
        return TableCell()
    row = part.iloc[0]
    if pd.isna(row["difference"]):
        return TableCell(shown(row["score"]), value=row["score"])
    span = "" if pd.isna(row["low"]) else f", {interval_of((row['low'], row['high']))}"
    text = f"{shown(row['score'])} ({signed(row['difference'])}{span}; {int(row['paired_seeds'])})"
    return TableCell(text, value=row["score"])
