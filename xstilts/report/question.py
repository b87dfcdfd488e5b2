"""The report of `make question`: a sentence for the verdict, tables and plots, all from a
`xstilts.report.contrasts.Question`.

Sentences are fixed, one for each kind of verdict and one for each caveat; every number stands in a table.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from xstilts.report import cells, charts, curve, plots, question_plots, question_tables, statistics, tables
from xstilts.report.cells import Table
from xstilts.report.contrasts import Question
from xstilts.report.numbers import points_of, signed
from xstilts.report.question_tables import interval_text
from xstilts.run.files import remove, write_text

FILES = ("question.csv", "question.md", "curve.csv")
FIRST = ("verdicts", "families", "contrasts", "groups", "curve")  # the tables that are not folded away
IMAGES = {
    "question-forest.png": "Differences between arms with 95 % intervals; the numbers are in the table of differences",
    "question-layers.png": "Score by layer, one panel a family, one line an arm",
    "question-languages.png": "Score against the number of languages that phase 2 trained on; the numbers are in a "
    "table",
}


@dataclass
class Section:
    """What page.html.jinja shows: the answer, tables by subject, charts, sentences; and the names of the pictures."""

    answer: str
    caveats: list[str]
    tables: dict[str, Table]
    reading: list[str]
    problems: list[str]
    forest: charts.Forest | None
    curves: list[charts.Panel]
    pictures: Sequence[str]
    first: tuple[str, ...] = FIRST


def write(question: Question | None, output_dir: str | Path) -> Section | None:
    """Write question.csv, question.md and the plots beside each other; return the section of the page.

    Without a question those of an earlier report are removed: they are not of the results beside them.

    Raises:
        UserError: `output_dir` cannot be written.
    """
    out = Path(output_dir)
    if question is None:
        for name in (*FILES, *IMAGES):
            remove(out / name)
        return None
    write_text(out / "question.csv", as_frame(question).to_csv(index=False, lineterminator="\n"))
    points = curve.as_frame(question)
    if points.empty:
        remove(out / "curve.csv")  # an earlier report may have left one
    else:
        write_text(out / "curve.csv", points.to_csv(index=False, lineterminator="\n"))
    pictures = plots.write(
        out,
        {
            "question-forest.png": question_plots.forest,
            "question-layers.png": question_plots.layer_curves,
            "question-languages.png": curve.plot,
        },
        question,
    )
    shown = section(question, pictures)
    write_text(out / "question.md", markdown(question, shown))
    return shown


def section(question: Question, pictures: Sequence[str] = ()) -> Section:
    """Return what the page shows.

    Args:
        pictures: names of the files that question.md shows.
    """
    return Section(
        answer(question),
        caveats(question),
        question_tables.tables(question),
        how_to_read(question),
        [*question.problems, *curve.lines(question)[1]],
        charts.question_forest(question),
        charts.curve_panels(curve.points(question)),
        pictures,
    )


def as_frame(question: Question) -> pd.DataFrame:
    """Return one row for each contrast, all figures unrounded: what question.csv holds. Intervals are <name>_low,
    _high."""
    rows = []
    for c in [*question.contrasts, *question.others, *question.groups]:
        row = {
            "family": c.family,
            "contrast": f"{c.roles[0]}-{c.roles[1]}",
            "arm": c.arms[0],
            "against": c.arms[1],
            "on": c.kind,
            "languages": " ".join(c.languages),
            "layer": c.readout.layer,
            "variant": c.readout.variant,
            "primary": c.primary,
            "verdict": c.verdict,
            "why": c.why,
        }
        if c.found:
            row |= {"score": c.means[0], "score_against": c.means[1], "difference": c.found.difference}
            for name in ("interval", "t_interval", "bootstrap_interval", "language_interval"):
                low, high = getattr(c.found, name) or (np.nan, np.nan)
                row |= {f"{name}_low": low, f"{name}_high": high}
            row |= {
                "p": c.found.p,
                "p_judged": c.p,
                "wilcoxon_p": c.found.wilcoxon_p,
                "seeds": c.found.n_seeds,
                "queries": c.found.n_queries,
                "by_seed": " ".join(f"{x:.6f}" for x in c.found.per_seed),
            }
        rows.append(row)
    return pd.DataFrame(rows)


# Words

# The sentence on the primary contrast, for each kind of verdict.
ANSWERS = {
    "better": "{better} is better than {worse} in {where}.",
    "equivalent": "{first} and {second} are equivalent in {where}.",
    "within": "Undecided: {first} against {second} in {where}. The difference is within the margin, but fewer than "
    f"{statistics.ENOUGH_SEEDS} seeds cannot show that two arms are equivalent.",
    "one seed": "Undecided: {first} against {second} in {where}. One seed does not tell what another would give.",
    "undecided": "Undecided: {first} against {second} in {where}. These runs do not tell which one is better.",
    "not computed": "Not computed: {first} against {second} in {where}. Reason: {why}.",
}
# Sentences below the verdicts, each shown once if it applies.
CAVEATS = {
    "undecided": "Undecided means that these runs do not tell. It does not mean that the arms are equal.",
    "one seed": "With one seed no verdict is possible: nobody knows what another seed would give.",
    "within": f"Fewer than {statistics.ENOUGH_SEEDS} seeds cannot show equivalence: they do not tell how often a "
    "training fails.",
    "warning": "A warning names seeds that are missing, whose phase 2 failed, or that stand apart from the others.",
    "failed": "Phase 2 did not learn its task in some seed (English dev at chance): {arms}. A difference of these "
    "arms is not an effect of the task.",
    "not computed": "{number} of {all} contrasts were not computed. The reasons are listed below.",
}


def answer(question: Question) -> str:
    """Return the sentence for the verdict on the primary contrast, and its figures."""
    c = question.primary
    first, second = (role if role == arm else f"{role} ({arm})" for role, arm in zip(c.roles, c.arms, strict=True))
    number = f"{len(c.languages)} {c.kind} languages" if len(c.languages) != 1 else f"one {c.kind} language"
    names = {"first": first, "second": second, "where": f"{number}, family {c.family}", "why": c.why}
    ahead = c.found is not None and c.found.difference > 0
    names |= {"better": first, "worse": second} if ahead else {"better": second, "worse": first}
    sentence = ANSWERS[c.verdict.kind].format(**names)
    if c.found is None:
        return sentence
    seeds = "one seed" if c.found.n_seeds == 1 else f"{c.found.n_seeds} seeds"
    interval = interval_text(c, ", 95 % interval ")
    sentence += f" Difference: {signed(c.found.difference)} points{interval}, {seeds}, {c.found.n_queries:,} queries."
    return sentence + (f" Warning: {', '.join(c.doubts)}." if c.doubts else "")


def caveats(question: Question) -> list[str]:
    """Return the sentences of `CAVEATS` that apply."""
    main = question.contrasts
    kinds = {c.verdict.kind for c in main}
    failed = dict.fromkeys(arm for family in question.families for arm in family.failed)
    applies = {
        "undecided": kinds & set(statistics.UNDECIDED),
        "one seed": "one seed" in kinds,
        "within": "within" in kinds,
        "warning": any(c.doubts for c in main),
        "failed": failed,
        "not computed": "not computed" in kinds,
    }
    slots = {"arms": ", ".join(failed), "number": sum(c.found is None for c in main), "all": len(main)}
    return [CAVEATS[name].format(**slots) for name, so in applies.items() if so]


def how_to_read(question: Question) -> list[str]:
    """Return sentences on what was compared, where and how a verdict comes about."""
    spec, main = question.spec, question.readout
    notes = [
        f"Scores are {spec.task} {question.matrix.metric(spec.task)} at {main} ({question.layer_reason}), macro mean "
        "over languages."
    ]
    if spec.fixed_layer not in (None, main.layer):
        notes.append(f"A second read-out, layer {spec.fixed_layer}, was fixed in advance.")
    for family in question.families:
        notes.append(
            f"{family.name}: seen in phase 2 {' '.join(family.seen) or cells.DASH}; unseen "
            f"{' '.join(family.unseen) or cells.DASH}."
        )
    notes.append(
        "Seen are languages whose words the task was trained on in any arm of the family. Pretraining, and text of "
        "masked LM, may have held both."
    )
    margin = points_of(spec.margin)
    notes += [
        "The 95 % interval is for new seeds and new queries of the same languages. Beside it stand the paired "
        "t-interval over seeds, which takes the queries as given, and the bootstrap of seeds and queries. A verdict "
        f"holds only if all of them agree: 'better' if they exclude 0, 'equivalent' if they lie within {margin} in "
        f"{statistics.ENOUGH_SEEDS} seeds or more, none of them doubtful.",
        "All intervals are for new seeds that vary as these do. A few seeds do not tell how often a training fails.",
        "p is two-sided, the largest of the three, and but for the primary contrast Holm-adjusted among those of its "
        f"family on the same languages; 'better' needs it to be at most {1 - statistics.LEVEL:.2f}.",
    ]
    return notes


# The document


def markdown(question: Question, section: Section) -> str:
    """Return question.md: answer, tables, plots, what was not computed, then the paper's own tables."""
    parts = ["# English or multilingual intermediate training?\n", section.answer + "\n"]
    parts += ["\n".join(f"- {sentence}" for sentence in section.caveats) + "\n"] if section.caveats else []
    parts += [section.tables[name].markdown() for name in FIRST if name in section.tables]
    parts += ["\n".join(f"- {sentence}" for sentence in section.reading) + "\n"]
    parts += [f"![{alt}]({name})\n" for name, alt in IMAGES.items() if name in section.pictures]
    parts += [table.markdown() for name, table in section.tables.items() if name not in FIRST]
    if section.problems:
        parts.append(
            "## Not computed, or to keep in mind\n\n"
            + "\n".join(f"- {problem}" for problem in section.problems)
            + "\n"
        )
    parts.append("## The paper's tables\n\nOver all languages measured, at the layer of `--report_layer`.\n")
    best = tables.best_table(question.matrix)
    parts += [table.markdown() for table in [*tables.headline_tables(question.matrix), *([best] if best else [])]]
    return "\n".join(parts)
