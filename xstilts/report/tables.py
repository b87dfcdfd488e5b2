"""The tables of a matrix: matrix.md, matrix.tex and the page show the same ones."""

import functools
import itertools

import numpy as np
import pandas as pd

from tasks.languages import english_name, script
from xstilts.report import cells, standing
from xstilts.report import matrix as mx
from xstilts.report.cells import DASH, DOUBLE, Table, TableCell
from xstilts.report.matrix import PLAIN, Matrix
from xstilts.report.numbers import count, shown, signed
from xstilts.report.reading import EM_F1

COLUMNS = 300  # languages of a table; a browser is slow with more
# The ISO 15924 codes of scripts by which languages are grouped, and their names; a script not here shows its code.
_SCRIPTS = """
Latn/Latin Cyrl/Cyrillic Arab/Arabic Hebr/Hebrew Grek/Greek Deva/Devanagari Beng/Bengali Hans/Chinese Hant/Chinese
Jpan/Japanese Hang/Korean Armn/Armenian Geor/Georgian Ethi/Ethiopic Taml/Tamil Telu/Telugu Mlym/Malayalam Thai/Thai
"""
SCRIPTS = dict(pair.split("/") for pair in _SCRIPTS.split())


@functools.lru_cache(maxsize=2)
def headline_tables(matrix: Matrix) -> list[Table]:
    """Return the matrix of scores, and that of differences to arm `none` if there is one; averages come first."""
    averages = {
        name: mx.averages(matrix, tasks) for name, tasks in mx.average_groups(matrix).items() if len(tasks) > 1
    }
    heads = ["arm", *averages, *(f"{task} ({cells.score_name(matrix, task)})" for task in matrix.tasks)]
    kinds = ["Retrieval" if matrix.is_retrieval(task) else "Targets" for task in matrix.tasks]
    runs = [(kind, len(list(group))) for kind, group in itertools.groupby(kinds)]
    groups = [("", 1), ("Average", len(averages)), *runs]
    columns = [_average_scores(matrix, name, table) for name, table in averages.items()]
    columns += [_task_scores(matrix, task) for task in matrix.tasks]
    rows = [(arm, [column[arm] for column in columns]) for arm in matrix.arms]
    tables = [Table("Score of each task (mean over languages, 0-100)", heads, rows, groups)]
    others = [arm for arm in matrix.arms if arm != PLAIN]
    if PLAIN in matrix.arms and others:
        columns = [_average_differences(matrix, name, table) for name, table in averages.items()]
        columns += [_task_differences(matrix, task) for task in matrix.tasks]
        for column in columns:
            cells.tinted([column[arm] for arm in others])
        rows = [(arm, [column[arm] for column in columns]) for arm in others]
        tables.append(Table(f"Difference to arm {PLAIN} (points)", heads, rows, groups))
    return tables


def _task_scores(matrix: Matrix, task: str) -> dict[str, TableCell]:
    scores, entries = mx.rows_over_seeds(matrix), standing.of_name(matrix, task)
    column = {arm: cells.score_cell(scores.get((arm, task), {})) for arm in matrix.arms}
    for arm, entry in entries.items():
        column[arm].bold = entry.ties
    return column


def _average_scores(matrix: Matrix, name: str, table: pd.DataFrame) -> dict[str, TableCell]:
    column = {arm: cells.average_cell(table.loc[arm], "mean", "sd") for arm in matrix.arms}
    for arm, entry in standing.of_name(matrix, name, is_average=True).items():
        if column[arm].value is None:
            column[arm] = TableCell(shown(entry.mean) + DOUBLE, value=entry.mean, why=_over(entry.over, entry))
        column[arm].bold = entry.ties and not entry.aside
    return column


def _task_differences(matrix: Matrix, task: str) -> dict[str, TableCell]:
    gaps = mx.rows_of_differences(matrix)
    column = {arm: cells.difference_cell(gaps.get((arm, task), {})) for arm in matrix.arms}
    return _with_standing(column, standing.of_name(matrix, task))


def _average_differences(matrix: Matrix, name: str, table: pd.DataFrame) -> dict[str, TableCell]:
    column = {arm: cells.average_cell(table.loc[arm], "difference", "difference_sd", sign=True) for arm in matrix.arms}
    return _with_standing(column, standing.of_name(matrix, name, is_average=True))


def _with_standing(column: dict[str, TableCell], entries: dict[str, standing.Entry]) -> dict[str, TableCell]:
    """Fill in the differences over the part of the cells that both arms have, and shade what is undecided."""
    for arm, entry in entries.items():
        if column[arm].value is None and entry.difference is not None:
            column[arm] = TableCell(
                signed(entry.difference) + DOUBLE, value=entry.difference, why=_over(entry.part, entry)
            )
        column[arm].undecided = entry.verdict in (standing.UNDECIDED, standing.ONE_SEED)
    return column


def _over(part: str, entry: standing.Entry) -> str:
    """Return what an average or difference over a part of the cells is over."""
    return f"{part + ', ' if part else ''}{count(entry.seeds, 'seed')}"


def task_table(matrix: Matrix, task: str) -> Table:
    """Return one task in detail: English, the others, all, (EM + F1) / 2 of spans, difference, seeds, layer."""
    names = {"english": "English", "others": "other languages", "all": "all languages"}
    if matrix.phase(task) == "retrieval":
        names = {"all": "mean over languages"}
    here = matrix.cells[matrix.cells["task"] == task]
    if here["em_f1"].notna().any():
        names["em_f1"] = EM_F1
    columns = []
    for what in names:
        scores = mx.rows_over_seeds(matrix, what)
        columns.append({arm: cells.score_cell(scores.get((arm, task), {})) for arm in matrix.arms})
    if matrix.phase(task) == "retrieval":
        for name in cells.other_metrics(matrix, task):
            columns.append({arm: cells.other_cell(matrix, arm, task, name) for arm in matrix.arms})
            names[name] = name
    heads = ["arm", *names.values()]
    columns.append(_task_differences(matrix, task))
    columns.append({arm: TableCell(cells.seeds_shown(matrix, arm, task)) for arm in matrix.arms})
    heads += [f"difference to {PLAIN}", "seeds"]
    if matrix.phase(task) == "retrieval":
        columns.append({arm: TableCell(cells.layers_shown(matrix, arm, task)) for arm in matrix.arms})
        heads.append("layer, pooling")
    rows = [(arm, [column[arm] for column in columns]) for arm in matrix.arms]
    return Table(f"{task}: {matrix.metric(task) or 'no result'}", heads, rows)


def language_tables(matrix: Matrix, task: str) -> list[Table]:
    """Return one table for each metric of the task: arms by languages, in groups; mean over seeds, rows, chance."""
    records = {key: record for key, record in matrix.records.items() if key[1] == task}
    first = next(iter(records.values()), None)
    if first is None:
        return []
    languages = sorted(matrix.languages(task), key=lambda language: (language != "en", group_of(language), language))
    number, languages = len(languages), languages[:COLUMNS]
    groups = [(name, len(list(those))) for name, those in itertools.groupby(languages, key=group_of)]
    used = {}
    for arm in matrix.arms:
        every = [record for (one, _, _), record in records.items() if one == arm]
        used[arm] = [record for record in every if not record.at_chance] or every
    tables = []
    for metric in cells.metrics_of(list(records.values())):
        rows = []
        for arm, of_arm in used.items():
            at_chance = bool(of_arm) and of_arm[0].at_chance
            means = [
                float(np.mean([record.scores[language].get(metric, np.nan) for record in of_arm]))
                if of_arm
                else np.nan
                for language in languages
            ]
            values = [None if np.isnan(mean) else float(mean) for mean in means]
            texts = [cells.mark(shown(mean), at_chance) for mean in means]
            rows.append(
                (arm, [TableCell(t, at_chance=at_chance, value=v) for t, v in zip(texts, values, strict=True)])
            )
        for place in range(len(languages)):
            _bold_highest([row[place] for _, row in rows])
        chance = (first.chance or {}).get(metric)
        caption = f"{task}: {metric} by language" + (f" (chance {chance:.1f})" if chance is not None else "")
        if number > COLUMNS:
            caption += f"; {COLUMNS} of {number} languages, cells.csv has all"
        rows.append(("rows scored", [TableCell(f"{first.n[language]}") for language in languages]))
        names = {language: english_name(language) for language in languages}
        tables.append(Table(caption, ["arm", *languages], rows, [("", 1), *groups], names, foot=1))
    return tables


def _bold_highest(column: list[TableCell]) -> None:
    """Make the highest score of a language bold, and all that print alike."""
    shown_values = [round(cell.value, 1) for cell in column if cell.value is not None and not cell.at_chance]
    for cell in column:
        if len(shown_values) > 1 and cell.value is not None and not cell.at_chance:
            cell.bold = round(cell.value, 1) == max(shown_values)


def group_of(language: str) -> str:
    """Return the group that a language is shown in: English, or its script; "other" where the lists have none."""
    code = script(language)
    return "English" if language == "en" else SCRIPTS.get(code, code) or "other"


def best_table(matrix: Matrix) -> Table | None:
    """Return the best arm of each task, by score and by English dev (`standing.best_per_task`); None of one arm."""
    if len(matrix.arms) < 2:
        return None
    rows, scores = [], mx.rows_over_seeds(matrix)
    for task, (front, by_dev) in standing.best_per_task(matrix).items():
        texts = [front, shown(scores[front, task]["mean"])]
        texts += [by_dev, shown(scores[by_dev, task]["mean"])] if by_dev else [DASH, DASH]
        rows.append((task, [TableCell(text) for text in texts]))
    heads = ["task", "in front", "its score", "chosen on English dev", "its score here"]
    return Table("Best arm of each task", heads, rows)


def training_table(matrix: Matrix) -> Table | None:
    """Return phases 1 and 2: what was trained from what, English dev scores, perplexity; None if none."""
    rows = []
    for path, record in matrix.trainings:
        figures = dict(record.dev.get("en", {}))
        measures = record.measures or {}
        if (metric := record.metric) in measures:  # masked LM is judged by perplexity, no score
            figures[metric] = measures[metric]
        dev = ", ".join(f"{name} {value:.1f}" for name, value in figures.items())
        row_cells = [TableCell(record.task), TableCell(str(record.seed)), TableCell(record.model)]
        row_cells.append(TableCell(cells.mark(dev or DASH, record.at_chance), at_chance=record.at_chance))
        rows.append((path.removesuffix("/results.json"), [*row_cells, TableCell(f"{record.seconds:,.0f}")]))
    heads = ["folder", "task", "seed", "trained from", "English dev, perplexity", "seconds"]
    return Table("Training before the target", heads, rows, text=True) if rows else None
