"""The report: matrix.md, matrix.tex, the csv files and the page, all from a `xstilts.report.matrix.Matrix`."""

import base64
import functools
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
import pandas as pd
from markupsafe import Markup

from xstilts.report import charts, frames, language_groups, notes, standing, tables
from xstilts.report.cells import DAGGER, DOUBLE
from xstilts.report.folder import PAGE
from xstilts.report.matrix import PLAIN, Matrix
from xstilts.report.numbers import count
from xstilts.run.files import remove, write_text

if TYPE_CHECKING:
    from xstilts.report.paper_table import ClaimsSection
    from xstilts.report.question import Section

# Pictures of earlier versions: they would show what the page no longer does.
_OLD = ("differences.png", "layers.png", "languages.png")
_KINDS = {"md": "text/markdown", "tex": "application/x-tex", "csv": "text/csv"}


def write_report(
    matrix: Matrix,
    output_dir: str | Path,
    title: str,
    question: "Section | None" = None,
    claims: "ClaimsSection | None" = None,
    groups: pd.DataFrame | None = None,
) -> str:
    """Write matrix.md, matrix.tex, matrix.csv, cells.csv and index.html; return what the console shows.

    index.html is written last, so that it never shows less than the files beside it.

    Args:
        question: the first section of the page.
        claims: of a paper, beside what the matrix says.
        groups: scores by groups of languages (`language_groups.as_frame`), written to groups.csv too.

    Returns:
        The answers, the notes on seeds and the headline tables, as Markdown.

    Raises:
        UserError: `output_dir` cannot be written.
    """
    out = Path(output_dir)
    for name in _OLD:
        remove(out / name)
    headline = tables.headline_tables(matrix)
    files = {
        "matrix.csv": frames.wide_table(matrix).to_csv(lineterminator="\n"),
        "matrix.md": markdown_page(matrix, title),
        "matrix.tex": "\n".join(table.latex() for table in headline),
    }
    write_text(out / "cells.csv", frames.long_table(matrix).to_csv(index=False, lineterminator="\n"))
    for name, text in files.items():
        write_text(out / name, text)
    if groups is None:
        remove(out / "groups.csv")
    else:
        write_text(out / "groups.csv", groups.to_csv(index=False, lineterminator="\n"))
    write_text(out / PAGE, html_page(matrix, title, files, question, claims, groups))
    lines = [f"{line}\n" for line in (*answers(matrix), *notes.seed_notes(matrix))]
    return "\n".join(lines + [table.markdown() for table in headline])


def answers(matrix: Matrix) -> list[str]:
    """Return one sentence for each average and task: what is ahead, by how much, and how sure."""
    return [f"{one.title}: {one.sentence}" for one in standing.standings(matrix)]


def markdown_page(matrix: Matrix, title: str) -> str:
    """Return matrix.md: every table but those by language, then what is at chance, partial, missing or doubtful."""
    parts = [f"# {title}\n", *(f"{note}\n" for note in (notes.extent(matrix), *notes.seed_notes(matrix)))]
    parts += ["\n".join(f"- {answer}" for answer in answers(matrix)) + "\n"]
    parts += [table.markdown() for table in tables.headline_tables(matrix)]
    parts.append(f"{BOLD}\n")
    best = tables.best_table(matrix)
    parts += [best.markdown()] if best else []
    parts += [tables.task_table(matrix, task).markdown() for task in matrix.tasks if matrix.phase(task)]
    parts += [f"{note}\n" for note in notes.figure_notes(matrix)]
    sections = {
        f"At chance ({DAGGER})": notes.chance_notes(matrix),
        "Blank or partial": notes.gap_notes(matrix),
        "Missing cells": notes.missing_notes(matrix),
        "Problems": matrix.problems,
    }
    for head, lines in sections.items():
        if lines:
            parts.append(f"## {head}\n\n" + "\n".join(f"- {line}" for line in lines) + "\n")
    return "\n".join(parts)


BOLD = (
    "Bold: the arm in front, and those not told apart from it by their seeds (Holm-adjusted paired t-test); with one "
    "seed, those that print alike."
)


def html_page(
    matrix: Matrix,
    title: str,
    files: dict[str, str] | None = None,
    question: "Section | None" = None,
    claims: "ClaimsSection | None" = None,
    groups: pd.DataFrame | None = None,
) -> str:
    """Return the page, which loads nothing from elsewhere.

    Args:
        files: {name: text} of the files that the page offers for download; it holds their text.
    """
    found = standing.standings(matrix)
    forests = [(one, charts.forest(one)) for one in found]
    return _template().render(
        title=title,
        question=question,
        claims=claims,
        groups=[] if groups is None else language_groups.tables(groups),
        extent=notes.extent(matrix),
        plain=PLAIN,
        dagger=DAGGER,
        double=DOUBLE,
        bold=BOLD,
        standings=found,
        average_forests=[forest for one, forest in forests if forest and one.is_average],
        task_forests=[forest for one, forest in forests if forest and not one.is_average],
        downloads={name: _data_uri(name, text) for name, text in (files or {}).items()},
        headline=tables.headline_tables(matrix),
        best=tables.best_table(matrix),
        tasks=[_task_section(matrix, task) for task in matrix.tasks if matrix.phase(task)],
        progress=charts.progress(matrix),
        figure_notes=notes.figure_notes(matrix),
        seed_notes=notes.seed_notes(matrix),
        chance_notes=notes.chance_notes(matrix),
        gap_notes=notes.gap_notes(matrix),
        problems=matrix.problems,
        problem_count=count(len(matrix.problems), "problem"),
        missing=len(matrix.missing),
        training=tables.training_table(matrix),
        notes=sorted({note for record in matrix.records.values() for note in record.notes or []}),
        provenance=provenance(matrix),
        width=charts.WIDTH,
        height=charts.HEIGHT,
    )


@functools.cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["breakable"] = _breakable
    return environment.get_template("page.html.jinja")


def _breakable(name: str) -> Markup:
    """Return the name of an arm, which a line may break after its underscores and plus signs."""
    return Markup("<wbr>").join(Markup.escape(part) for part in re.split("(?<=[_+])", name))


def _data_uri(name: str, text: str) -> str:
    kind = _KINDS[name.rpartition(".")[2]]
    return f"data:{kind};base64," + base64.b64encode(text.encode("utf-8")).decode("ascii")


def _task_section(matrix: Matrix, task: str) -> dict[str, Any]:
    languages, strips = charts.strips(matrix, task)
    return {
        "name": task,
        "table": tables.task_table(matrix, task),
        "languages": tables.language_tables(matrix, task),
        "panels": charts.layer_panels(matrix, task),
        "strips": strips,
        "strip_languages": [(language, tables.english_name(language)) for language in languages],
    }


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
