"""The report: tables, plots and the page, all from a `xstilts.report.matrix.Matrix`.

A table is built once, as `Table`, and shown as Markdown (`markdown`) and on the page (`page.html.jinja`).
"""

import itertools
from pathlib import Path
from typing import TYPE_CHECKING

import jinja2
import numpy as np
import pandas as pd

from xstilts.report import cells, plots
from xstilts.report import matrix as mx
from xstilts.report.cells import BIAS, DAGGER, DASH, DOUBLE, Cell, Table
from xstilts.report.matrix import PLAIN, Matrix
from xstilts.run.files import write_text

if TYPE_CHECKING:
    from xstilts.report.question import Section


def write_report(
    matrix: Matrix, output_dir: str | Path, title: str, question: "Section | None" = None, claims: Table | None = None
) -> str:
    """Write matrix.md, matrix.csv, cells.csv, the plots and index.html; return matrix.md's headline tables.

    index.html is written last, so that it never shows less than what lies beside it. `question` is its first section,
    a `xstilts.report.question.Section` or None; `claims`, of a paper, is a table of its own or None.

    Raises:
        UserError: when `output_dir` cannot be written.
    """
    out = Path(output_dir)
    write_text(out / "cells.csv", mx.long_table(matrix).to_csv(index=False, lineterminator="\n"))
    write_text(out / "matrix.csv", mx.wide_table(matrix).to_csv(lineterminator="\n"))
    drawings = {
        "differences.png": plots.heat_map,
        "layers.png": plots.layer_plot,
        "languages.png": plots.language_plot,
    }
    images = plots.write(out, drawings, matrix)
    write_text(out / "matrix.md", markdown_page(matrix, title))
    write_text(out / "index.html", html_page(matrix, title, images, question, claims))
    return "\n".join([f"{line}\n" for line in seed_notes(matrix)] + [t.markdown() for t in headline_tables(matrix)])


# Tables


def headline_tables(matrix: Matrix) -> list[Table]:
    """Return the matrix of task scores, and that of differences to arm `none` where there is such an arm."""
    scores, usual = mx.over_seeds(matrix), len(matrix.seeds)
    averages = {name: mx.averages(matrix, tasks) for name, tasks in mx.average_groups(matrix).items()}
    columns = []
    for task in matrix.tasks:
        row_cells = {arm: cells.score_cell(cells.row_of(scores, arm, task), usual) for arm in matrix.arms}
        columns.append(cells.bold_best(row_cells, *cells.of_task(scores, task)))
    for table in averages.values():
        row_cells = {arm: cells.average_cell(table.loc[arm], "mean", "sd", usual) for arm in matrix.arms}
        # An average over fewer tasks or seeds than the others is not in the running.
        columns.append(cells.bold_best(row_cells, table["mean"].astype(float), table["reason"] == ""))
    heads = ["arm"] + [f"{task} ({measure(matrix, task)})" for task in matrix.tasks] + list(averages)
    groups = cells.column_groups(matrix, len(averages))
    rows = [(arm, [column[arm] for column in columns]) for arm in matrix.arms]
    tables = [Table("Score of each task (mean over languages, 0-100)", heads, rows, groups)]
    others = [arm for arm in matrix.arms if arm != PLAIN]
    if PLAIN in matrix.arms and others:
        gaps = mx.differences(matrix)
        rows = []
        for arm in others:
            differences = [cells.difference_cell(cells.row_of(gaps, arm, task), usual) for task in matrix.tasks]
            for table in averages.values():
                differences.append(cells.average_cell(table.loc[arm], "difference", "difference_sd", usual, sign=True))
            rows.append((arm, differences))
        tables.append(Table(f"Difference to arm {PLAIN} (points)", heads, rows, groups))
    return tables


def task_table(matrix: Matrix, task: str) -> Table:
    """Return one task in detail: English, the others, all, (EM + F1) / 2 of spans, difference, seeds, layer."""
    names = {"english": "English", "others": "other languages (zero-shot)", "all": "all languages"}
    if matrix.phase(task) == "retrieval":
        names = {"all": "mean over languages"}
    here = matrix.cells[matrix.cells["task"] == task]
    if here["em_f1"].notna().any():
        names["em_f1"] = "(EM+F1)/2"
    columns = []
    for what in names:
        table = mx.over_seeds(matrix, what)
        row_cells = {arm: cells.score_cell(cells.row_of(table, arm, task), len(matrix.seeds)) for arm in matrix.arms}
        columns.append(cells.bold_best(row_cells, *cells.of_task(table, task)))
    if matrix.phase(task) == "retrieval":
        for name in cells.other_metrics(matrix, task):
            columns.append({arm: cells.other_cell(matrix, arm, task, name) for arm in matrix.arms})
            names[name] = name
    gaps, heads = mx.differences(matrix), ["arm", *names.values()]
    columns.append(
        {arm: cells.difference_cell(cells.row_of(gaps, arm, task), len(matrix.seeds)) for arm in matrix.arms}
    )
    columns.append({arm: Cell(cells.seeds_shown(matrix, arm, task)) for arm in matrix.arms})
    heads += [f"difference to {PLAIN}", "seeds"]
    if matrix.phase(task) == "retrieval":
        columns.append({arm: Cell(cells.layers_shown(matrix, arm, task)) for arm in matrix.arms})
        heads.append("layer, pooling")
    rows = [(arm, [column[arm] for column in columns]) for arm in matrix.arms]
    return Table(f"{task}: {matrix.metric(task) or 'no result'}", heads, rows)


def language_tables(matrix: Matrix, task: str) -> list[Table]:
    """Return one table a metric of the task: arms by languages, mean over seeds, and the rows scored and chance."""
    records = {key: record for key, record in matrix.records.items() if key[1] == task}
    languages, first = matrix.languages(task), next(iter(records.values()), None)
    tables = []
    if first is None:
        return []
    for metric in cells.main_first(first):
        rows = []
        for arm in matrix.arms:
            per_seed = [record for (one, _, _), record in records.items() if one == arm]
            used = [record for record in per_seed if not record.at_chance] or per_seed
            means = [
                float(np.mean([r.scores[lang].get(metric, np.nan) for r in used])) if used else np.nan
                for lang in languages
            ]
            at_chance = bool(used) and used[0].at_chance
            rows.append((arm, [Cell(cells.mark(cells.shown(mean), at_chance), at_chance=at_chance) for mean in means]))
        chance = (first.chance or {}).get(metric)
        caption = f"{task}: {metric} by language" + (f" (chance {chance:.1f})" if chance is not None else "")
        rows.append(("rows scored", [Cell(f"{first.n[language]}") for language in languages]))
        tables.append(Table(caption, ["arm", *languages], rows))
    return tables


def best_table(matrix: Matrix) -> Table | None:
    """Return the best arm of each task, by score and by English dev, or None with fewer than two arms."""
    if len(matrix.arms) < 2:
        return None
    rows = []
    for task, row in mx.best_per_task(matrix).iterrows():
        by_dev = row["dev_arm"] if isinstance(row["dev_arm"], str) else DASH
        row_cells = [
            Cell(row["arm"]),
            Cell(cells.shown(row["score"])),
            Cell(by_dev),
            Cell(cells.shown(row["dev_arm_score"]) or DASH),
        ]
        rows.append((task, row_cells))
    heads = ["task", "highest score", "its score", "chosen on English dev", "its score here"]
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
        row_cells = [Cell(record.task), Cell(str(record.seed)), Cell(record.model)]
        row_cells.append(Cell(cells.mark(dev or DASH, record.at_chance), at_chance=record.at_chance))
        rows.append((path.removesuffix("/results.json"), [*row_cells, Cell(f"{record.seconds:,.0f}")]))
    heads = ["folder", "task", "seed", "trained from", "English dev, perplexity", "seconds"]
    return Table("Training before the target", heads, rows) if rows else None


def measure(matrix: Matrix, task: str) -> str:
    """Return what the score of a task is: its main metric, or (EM+F1)/2."""
    here = matrix.cells[matrix.cells["task"] == task]
    return "(EM+F1)/2" if here["em_f1"].notna().any() else matrix.metric(task) or "no result"


# Words


def seed_notes(matrix: Matrix) -> list[str]:
    """Return sentences on the number of seeds: what the tables can and cannot tell about spread."""
    counts = mx.over_seeds(matrix)["n"]
    if len(matrix.seeds) == 1:
        return [
            f"Every cell is a single seed ({matrix.seeds[0]}): no spread is known, and a difference may be chance."
        ]
    notes = [f"Mean ± standard deviation over {len(matrix.seeds)} seeds ({', '.join(map(str, matrix.seeds))})."]
    single = [f"{arm}/{task}" for (arm, task), n in counts.items() if n == 1]
    if single:
        notes.append(f"A single seed, so without spread: {', '.join(single)}.")
    return notes


def chance_notes(matrix: Matrix) -> list[str]:
    """Return one sentence for each (arm, task) that has a cell at chance; trainings at chance are named too."""
    notes = []
    for (arm, task), group in matrix.cells[matrix.cells["at_chance"]].groupby(["arm", "task"], sort=False):
        seeds = ", ".join(str(seed) for seed in group["seed"])
        notes.append(f"{arm}/{task}, seed {seeds}: English dev is at chance; in no average.")
    for path, record in matrix.trainings:
        if record.at_chance:
            folder = path.removesuffix("/results.json")
            notes.append(f"{folder} ({record.task}): this training itself ended at chance on English dev.")
    return notes


def gap_notes(matrix: Matrix) -> list[str]:
    """Return one sentence for each average or difference that is blank or partial, with the reason."""
    notes = []
    for name, tasks in mx.average_groups(matrix).items():
        table = mx.averages(matrix, tasks)
        for arm, row in table[table["reason"] != ""].iterrows():
            kind = "is blank" if pd.isna(row["mean"]) else f"is partial ({DOUBLE})"
            notes.append(f"Average {name} of {arm} {kind}: {row['reason']}.")
    if PLAIN not in matrix.arms:
        notes.append(f"There is no arm {PLAIN}, so no differences.")
    else:
        blank = mx.differences(matrix)["reason"]
        notes += [f"Difference of {arm} to {PLAIN} is blank: {why}." for (arm, _), why in blank.items() if why]
    return notes


def figure_notes(matrix: Matrix) -> list[str]:
    """Return sentences on the figures of retrieval that stand beside the main one, where there are such, and on the
    pictures."""
    names = {name for task in matrix.tasks_of("retrieval") for name in cells.other_metrics(matrix, task)}
    notes = []
    if any(name.endswith(("_centered", "_csls")) for name in names):
        notes.append(
            "Figures in _centered are of vectors less the mean of their language, those in _csls of CSLS: beside the "
            "plain figure, because a language's offset hides much of what a model knows. Means and neighbours come "
            "from the searched sentences alone."
        )
    if any(name.endswith("_reverse") for name in names):
        notes.append(
            "Figures in _reverse are of the other side asking: English is asked where it asks else, or the other way "
            "round."
        )
    if any(name.endswith("_without_english") for name in names):
        notes.append(
            "Figures in _without_english are the mean over all pairs of two languages neither of which is English, "
            "both ways."
        )
    if any(name.startswith("map_") for name in names):
        notes.append(
            "map_multilingual (one pool of all languages), map_monolingual and map_crosslingual are not cut at 20."
        )
    notes += plots.notes(matrix)
    if BIAS in names:
        notes.append(
            f"{BIAS} counts ranks, the fewer the better: how far the parallel answers of a question lie apart in the "
            "pool."
        )
    return notes


def missing_notes(matrix: Matrix) -> list[str]:
    """Return one line for each (arm, task) with missing seeds."""
    gaps = itertools.groupby(matrix.missing, key=lambda key: key[:2])
    return [f"{arm}/{task}: seed {', '.join(str(seed) for _, _, seed in keys)}" for (arm, task), keys in gaps]


def provenance(matrix: Matrix) -> dict[str, list]:
    """Return models, data, versions and commands of everything shown, each without repetition, for the page."""
    runs = [(path, record) for path, record in matrix.trainings]
    runs += [(matrix.paths[key], record) for key, record in matrix.records.items()]
    versions: dict[str, set[str]] = {}
    data = set()
    for _, record in runs:
        for library, version in record.versions.items():
            versions.setdefault(library, set()).add(version)
        for entry in record.data:
            version = entry.get("revision") or f"sha256 {entry['sha256'][:12]}"
            data.add((str(entry["id"]), str(entry["config"]), str(entry["split"]), f"{entry['rows']}", str(version)))
    return {
        "models": sorted({(record.parents or [record.model])[0] for _, record in runs}),
        "data": sorted(data),
        "versions": [(library, sorted(found)) for library, found in sorted(versions.items())],
        "runs": runs,
    }


# The two documents


def markdown_page(matrix: Matrix, title: str) -> str:
    """Return matrix.md: every table but those by language, then what is at chance, blank, missing or doubtful."""
    parts = [f"# {title}\n", *(f"{note}\n" for note in (_extent(matrix), *seed_notes(matrix)))]
    parts += [table.markdown() for table in headline_tables(matrix)]
    parts.append("Bold: highest of its column as printed; no claim that the lead is more than noise.\n")
    best = best_table(matrix)
    parts += [best.markdown()] if best else []
    parts += [task_table(matrix, task).markdown() for task in matrix.tasks if matrix.phase(task)]
    parts += [f"{note}\n" for note in figure_notes(matrix)]
    sections = {
        f"At chance ({DAGGER})": chance_notes(matrix),
        "Blank or partial": gap_notes(matrix),
        "Missing cells": missing_notes(matrix),
        "Problems": matrix.problems,
    }
    for head, notes in sections.items():
        if notes:
            parts.append(f"## {head}\n\n" + "\n".join(f"- {note}" for note in notes) + "\n")
    return "\n".join(parts)


def html_page(
    matrix: Matrix, title: str, images: dict[str, str], question: "Section | None" = None, claims: Table | None = None
) -> str:
    """Return the page, which loads nothing from elsewhere; `images` are data URIs by file name."""
    folder = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(
        loader=folder, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("page.html.jinja").render(
        title=title,
        question=question,
        claims=claims,
        extent=_extent(matrix),
        plain=PLAIN,
        dagger=DAGGER,
        double=DOUBLE,
        headline=headline_tables(matrix),
        best=best_table(matrix),
        tasks=[(task_table(matrix, t), language_tables(matrix, t)) for t in matrix.tasks if matrix.phase(t)],
        figure_notes=figure_notes(matrix),
        images=images,
        has_chance=bool(matrix.cells["at_chance"].any()),
        seed_notes=seed_notes(matrix),
        chance_notes=chance_notes(matrix),
        gap_notes=gap_notes(matrix),
        missing=missing_notes(matrix),
        problems=matrix.problems,
        training=training_table(matrix),
        notes=sorted({note for record in matrix.records.values() for note in record.notes or []}),
        provenance=provenance(matrix),
    )


def _extent(matrix: Matrix) -> str:
    asked = len(matrix.records) + len(matrix.missing)
    words = [_count(len(matrix.arms), "arm"), _count(len(matrix.tasks), "task"), _count(len(matrix.seeds), "seed")]
    left_out = f" Found but not asked for: {matrix.left_out}." if matrix.left_out else ""
    return f"{', '.join(words)}: {len(matrix.records)} of {asked} cells are there.{left_out}"


def _count(n: int, thing: str) -> str:
    return f"{n} {thing}" if n == 1 else f"{n} {thing}s"
