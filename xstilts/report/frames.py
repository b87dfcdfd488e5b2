"""The matrix as two tables of numbers: every single score (cells.csv), and one row for each arm (matrix.csv)."""

import functools
from typing import Any

import pandas as pd

from xstilts.report.matrix import Matrix, average_groups, averages, differences, over_seeds


@functools.lru_cache(maxsize=1)  # large, and asked for twice
def long_table(matrix: Matrix) -> pd.DataFrame:
    """Return one row for each score: of every cell, language, metric and, in retrieval, every layer that was scored.

    `layer` is empty for targets; `n` is rows scored; `chance` is that of the metric, empty where there is none.
    """
    rows = []
    for (arm, task, seed), record in matrix.records.items():
        for layer, scores in record.by_layer.items():
            for language, metrics in scores.items():
                for metric, score in metrics.items():
                    rows.append(
                        (
                            arm,
                            task,
                            record.form,
                            seed,
                            language,
                            metric,
                            layer,
                            score,
                            record.n.get(language),
                            (record.chance or {}).get(metric),
                            record.at_chance,
                            matrix.paths[arm, task, seed],
                        )
                    )
    columns = [
        "arm",
        "task",
        "form",
        "seed",
        "language",
        "metric",
        "layer",
        "score",
        "n",
        "chance",
        "at_chance",
        "path",
    ]
    return pd.DataFrame(rows, columns=columns).astype({"layer": "Int64", "n": "Int64"})


def wide_table(matrix: Matrix) -> pd.DataFrame:
    """Return the matrix as numbers, one row for each arm: what matrix.csv holds.

    Columns are `<task>.<what>` with what = english, others (the other languages), all (XTREME's mean), em_f1
    (spans only), score (em_f1 or all), score_sd, n (seeds), chance ("", some, all), layer (retrieval only),
    difference, difference_sd; then `average <group>.<what>` with mean, sd, n, difference, reason. A difference is
    blank where `none` alone is at chance in every seed.
    """
    columns: dict[str, dict] = {}
    tables = {what: over_seeds(matrix, what) for what in ("english", "others", "all", "em_f1", "score")}
    gaps = differences(matrix)
    for task in matrix.tasks:
        for what, table in tables.items():
            if what == "score" or matrix.cells.loc[matrix.cells["task"] == task, what].notna().any():
                columns[f"{task}.{what}"] = _of_task(table, "mean", task)
        for what, source in (("score_sd", "sd"), ("n", "n"), ("chance", "chance")):
            columns[f"{task}.{what}"] = _of_task(tables["score"], source, task)
        if matrix.phase(task) == "retrieval":
            columns[f"{task}.layer"] = {arm: _layers(matrix, arm, task) for arm in matrix.arms}
        of_arm = gaps.join(tables["score"]["chance"].rename("chance_of_arm"))
        told = of_arm[(of_arm["chance"] != "all") | (of_arm["chance_of_arm"] == "all")]
        columns[f"{task}.difference"] = _of_task(told, "mean", task)
        columns[f"{task}.difference_sd"] = _of_task(told, "sd", task)
    for name, tasks in average_groups(matrix).items():
        table = averages(matrix, tasks)
        for what in ("mean", "sd", "n", "difference", "reason"):
            columns[f"average {name}.{what}"] = table[what].to_dict()
    return pd.DataFrame(columns).reindex(matrix.arms).rename_axis("arm")


def _layers(matrix: Matrix, arm: str, task: str) -> str:
    """Return the headline layer of the arm's scores, or all of them where seeds have several."""
    return " ".join(
        str(one) for one in dict.fromkeys(r.layer for key, r in matrix.records.items() if key[:2] == (arm, task))
    )


def _of_task(table: pd.DataFrame, column: str, task: str) -> dict[str, Any]:
    return {arm: value for (arm, one), value in table[column].items() if one == task}
