"""The report of `make question`: tables, plots and a paragraph in words, all from a
`xstilts.report.contrasts.Question`.

Every sentence is put together from the verdicts and figures of the contrasts; nothing is said that no contrast
carries.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from xstilts.report import cells, curve, page, plots, question_plots, question_tables, statistics
from xstilts.report import contrasts as cs
from xstilts.report.cells import Table
from xstilts.report.contrasts import ENGLISH, SEEN, UNSEEN, Contrast, Question
from xstilts.report.plots import signed
from xstilts.report.question_tables import MULTILINGUAL, interval_text
from xstilts.run.files import write_text

FIRST = ("families", "contrasts", "groups", "curve")  # the tables that are not folded away
IMAGES = {
    "question-forest.png": "Differences between arms with 95 % intervals; the numbers are in the table of differences",
    "question-layers.png": "Score by layer, one panel a family, one line an arm",
    "question-languages.png": "Score against the number of languages that phase 2 trained on; the numbers are in a "
    "table",
}


@dataclass
class Section:
    """What page.html.jinja shows: a paragraph, tables by subject, pictures as data URIs, and sentences."""

    words: str
    tables: dict[str, Table]
    images: dict[str, str]
    alt: dict[str, str]
    how: list[str]
    problems: list[str]
    first: tuple[str, ...] = FIRST


def write(question: Question, output_dir: str | Path) -> Section:
    """Write question.csv, question.md and the plots beside each other; return the section of the page.

    Raises:
        UserError: when `output_dir` cannot be written.
    """
    out = Path(output_dir)
    write_text(out / "question.csv", as_frame(question).to_csv(index=False, lineterminator="\n"))
    points = curve.as_frame(question)
    if points.empty:
        plots.remove(out / "curve.csv")  # an earlier report may have left one
    else:
        write_text(out / "curve.csv", points.to_csv(index=False, lineterminator="\n"))
    images = plots.write(
        out,
        {
            "question-forest.png": question_plots.forest,
            "question-layers.png": question_plots.layer_curves,
            "question-languages.png": curve.plot,
        },
        question,
    )
    section = Section(
        words(question), question_tables.tables(question), images, IMAGES, how_to_read(question), question.problems
    )
    write_text(out / "question.md", markdown(question, section))
    return section


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


def words(question: Question) -> str:
    """Return the paragraph: the primary verdict first, then M against E, the other arms, other read-outs, caveats."""
    main, first = question.contrasts, question.primary
    roles = list(dict.fromkeys(c.roles for c in main))
    said = [
        f"The contrast fixed in advance is {first.family}, {' against '.join(_named(first))}, in {_languages(first)}: "
        f"{first.verdict}, {_figures(first) if first.found else f'because {first.why}'}."
    ]
    for pair in sorted(roles, key=lambda pair: pair[0] != MULTILINGUAL):
        for kind in (UNSEEN, SEEN):
            here = [c for c in main if c.roles == pair and c.kind == kind]
            # On seen languages only the question itself: the table has the rest.
            if here and (kind == UNSEEN or pair[0] == MULTILINGUAL):
                said.append(f"{pair[0]} against {pair[1]} in {kind} languages: {_by_verdict(here)}.")
    for kind in dict.fromkeys(c.kind for c in question.groups):
        here = [c for c in question.groups if c.kind == kind and c.roles == (MULTILINGUAL, ENGLISH)]
        if here:
            said.append(f"{MULTILINGUAL} against {ENGLISH} in languages {kind} by pretraining: {_by_verdict(here)}.")
    elsewhere = [
        c
        for c in question.others
        if c.found and c.kind == UNSEEN and (c.family, c.roles) == (first.family, first.roles)
    ]
    if elsewhere:
        listed = "; ".join(
            f"{c.readout}: {signed(c.estimate.difference)}{interval_text(c, ' (', ')')}" for c in elsewhere
        )
        said.append(f"The primary difference by other read-outs, without a verdict: {listed}.")
    if any(c.verdict.startswith("undecided") for c in main):
        said.append("Undecided means that these runs do not tell, not that the arms are equal.")
    if any(c.found and c.found.n_seeds == 1 for c in main):
        said.append("With one seed no verdict is possible: how much another seed would change is not known.")
    if any("(within" in c.verdict for c in main):
        said.append(
            f"Within the margin in fewer than {statistics.ENOUGH_SEEDS} seeds is no equivalence: so few do not tell "
            "how often one fails."
        )
    if any(c.doubts for c in main):
        said.append(
            "A warning names seeds that were left out, whose phase 2 failed, or that stand apart from the others."
        )
    failed = dict.fromkeys(arm for family in question.families for arm in family.failed)
    if failed:
        said.append(
            f"Phase 2 did not learn its task (English dev at chance in some seed) in {', '.join(failed)}: no "
            "difference of theirs is an effect of the task."
        )
    absent = sum(c.verdict == cs.NOT_COMPUTED for c in main)
    if absent:
        said.append(f"{absent} of {len(main)} contrasts could not be computed; the reasons are listed.")
    return " ".join(said)


def _named(c: Contrast) -> list[str]:
    return [role if role == arm else f"{role} ({arm})" for role, arm in zip(c.roles, c.arms, strict=True)]


def _languages(c: Contrast) -> str:
    return f"{len(c.languages)} {c.kind} languages" if len(c.languages) != 1 else f"one {c.kind} language"


def _figures(c: Contrast) -> str:
    found = c.estimate
    seeds = "one seed" if found.n_seeds == 1 else f"{found.n_seeds} seeds"
    interval = interval_text(c, ", 95 % interval ")
    return f"{signed(found.difference)} points{interval}, {seeds}, {found.n_queries:,} queries"


def _by_verdict(here: Sequence[Contrast]) -> str:
    """Return "M better in qa (+2.1); undecided in nli (+0.4), dual (−0.2)"."""
    groups: dict[str, list[str]] = {}
    for c in here:
        groups.setdefault(c.verdict, []).append(f"{c.family} ({signed(c.found.difference)})" if c.found else c.family)
    return "; ".join(f"{verdict} in {', '.join(families)}" for verdict, families in groups.items())


def how_to_read(question: Question) -> list[str]:
    """Return sentences on what was compared, where and how a verdict comes about."""
    spec, main = question.spec, question.readout
    said = [
        f"Scores are {spec.task} {question.matrix.metric(spec.task)} at {main} ({question.layer_reason}), macro mean "
        "over languages."
    ]
    if spec.fixed_layer not in (None, main.layer):
        said.append(f"A second read-out, layer {spec.fixed_layer}, was given beforehand.")
    for family in question.families:
        said.append(
            f"{family.name}: seen in phase 2 {' '.join(family.seen) or cells.DASH}; unseen "
            f"{' '.join(family.unseen) or cells.DASH}."
        )
    said.append(
        "Seen are languages whose words the task was trained on in any arm of the family. Pretraining, and text of "
        "masked LM, may have held both."
    )
    margin = f"{spec.margin:g} {'point' if spec.margin == 1 else 'points'}"
    said += [
        "The 95 % interval is for new seeds and new queries of the same languages. Beside it stand the paired "
        "t-interval over seeds, which takes the queries as given, and the bootstrap of seeds and queries. A verdict "
        f"holds only if all of them agree: 'better' if they exclude 0, 'equivalent' if they lie within {margin} in "
        f"{statistics.ENOUGH_SEEDS} seeds or more, none of them doubtful.",
        "All intervals are for new seeds that vary as these do: how often a seed fails, a few seeds do not tell.",
        "p is two-sided, the largest of the three, and but for the primary contrast Holm-adjusted among those of its "
        f"family on the same languages; 'better' needs it to be at most {1 - statistics.LEVEL:.2f}.",
    ]
    return said


# The document


def markdown(question: Question, section: Section) -> str:
    """Return question.md: words, tables, plots, what was not computed, then the paper's own tables."""
    parts = ["# English or multilingual intermediate training?\n", section.words + "\n"]
    parts += [section.tables[name].markdown() for name in FIRST if name in section.tables]
    parts += ["\n".join(f"- {sentence}" for sentence in section.how) + "\n"]
    parts += [f"![{alt}]({name})\n" for name, alt in IMAGES.items() if name in section.images]
    parts += [table.markdown() for name, table in section.tables.items() if name not in FIRST]
    if section.problems:
        parts.append(
            "## Not computed, or to mind\n\n" + "\n".join(f"- {problem}" for problem in section.problems) + "\n"
        )
    parts.append("## The paper's tables\n\nOver all languages measured, at the layer of `--report_layer`.\n")
    best = page.best_table(question.matrix)
    parts += [table.markdown() for table in [*page.headline_tables(question.matrix), *([best] if best else [])]]
    return "\n".join(parts)
