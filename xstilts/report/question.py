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
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from xstilts.report import contrasts as cs
from xstilts.report import curve, page, plots, statistics
from xstilts.report.contrasts import COMMON, ENGLISH, SEEN, UNSEEN, Contrast, Question
from xstilts.report.matrix import PLAIN, Matrix
from xstilts.report.page import Cell, Table
from xstilts.report.plots import signed
from xstilts.run.files import write_text
from xstilts.run.record import Record

MULTILINGUAL = "M"
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
        {"question-forest.png": forest, "question-layers.png": layer_curves, "question-languages.png": curve.plot},
        question,
    )
    section = Section(words(question), tables(question), images, IMAGES, how_to_read(question), question.problems)
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
        listed = "; ".join(f"{c.readout}: {signed(c.found.difference)}{_interval(c, ' (', ')')}" for c in elsewhere)
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
    seeds = "one seed" if c.found.n_seeds == 1 else f"{c.found.n_seeds} seeds"
    return (
        f"{signed(c.found.difference)} points{_interval(c, ', 95 % interval ')}, {seeds}, {c.found.n_queries:,} "
        "queries"
    )


def _interval(c: Contrast, before: str = "", after: str = "") -> str:
    return f"{before}{_span(c.found.interval)}{after}" if c.found.interval else ""


def _span(interval: tuple[float, float] | None) -> str:
    return f"{signed(interval[0])} to {signed(interval[1])}" if interval else ""


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
            f"{family.name}: seen in phase 2 {' '.join(family.seen) or page.DASH}; unseen "
            f"{' '.join(family.unseen) or page.DASH}."
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


# Tables


def tables(question: Question) -> dict[str, Table]:
    """Return the tables by subject; those without a row are left out."""
    found = {
        "families": family_table(question),
        "contrasts": contrast_table(question),
        "groups": group_table(question),
        "curve": curve.table(curve.as_frame(question)),
        "readouts": readout_table(question),
        "checks": check_table(question),
        "languages": language_table(question),
        "training": training_table(question),
    }
    return {name: table for name, table in found.items() if table.rows}


def family_table(question: Question) -> Table:
    """Return one row a family: rows of phase 2, the score of each arm over all reported languages, M - E unseen and
    seen."""
    roles = list(dict.fromkeys(role for family in question.families for role in family.arms))
    heads = ["family", "rows", PLAIN, *roles, "M − E, unseen [95 %]", "M − E, seen [95 %]"]
    rows = []
    for family in question.families:
        arms = [PLAIN, *(family.arms.get(role) for role in roles)]
        cells = [
            Cell(_numbers(question.matrix, family.arms[ENGLISH], "rows")),
            *(_score(question, arm) for arm in arms),
        ]
        cells += [
            _difference(_find(question.contrasts, family.name, (MULTILINGUAL, ENGLISH), kind))
            for kind in (UNSEEN, SEEN)
        ]
        rows.append((family.name, cells))
    caption = (
        f"Accuracy by family and arm at {question.readout}, mean over {len(question.reported)} reported "
        "languages ± sd over seeds"
    )
    return Table(caption, heads, rows)


def contrast_table(question: Question) -> Table:
    """Return every contrast with its verdict and what it rests on; the primary one bold."""
    heads = [
        "contrast",
        "verdict",
        "difference",
        "95 % interval",
        "t over seeds",
        "bootstrap",
        "p",
        "score",
        "against",
        "seeds",
        "queries",
        "languages",
    ]
    rows = []
    for c in question.contrasts:
        name = f"{c.family}: {c.name}, {c.kind}" + (" (primary)" if c.primary else "")
        if c.found is None:
            rows.append((name, [Cell(c.verdict, why=c.why)] + [Cell(why=c.why)] * (len(heads) - 2)))
            continue
        p = "" if c.p is None else "<0.001" if c.p < 0.001 else f"{c.p:.3f}"
        texts = [
            c.verdict,
            signed(c.found.difference),
            *map(_span, (c.found.interval, c.found.t_interval, c.found.bootstrap_interval)),
            p,
            *(f"{mean:.1f}" for mean in c.means),
            str(c.found.n_seeds),
            f"{c.found.n_queries:,}",
            str(len(c.languages)),
        ]
        rows.append((name, [Cell(text, bold=c.primary) for text in texts]))
    return Table(f"Differences in points at {question.readout}", heads, rows)


def group_table(question: Question) -> Table:
    """Return every contrast by seen or unseen in phase 2 and covered or not by pretraining; bold where one arm is
    better."""
    heads = [f"{kind}, {inside}" for kind in (UNSEEN, SEEN) for inside in (cs.COVERED, cs.NOT_COVERED)]
    rows = []
    for family, roles in dict.fromkeys((c.family, c.roles) for c in question.groups):
        cells = []
        for kind in heads:
            c = _find(question.groups, family, roles, kind)
            cell = _difference(c)
            if c and c.found:
                cell.text += f", {len(c.languages)}"
                cell.bold, cell.why = " better" in c.verdict, c.verdict
            cells.append(cell)
        rows.append((f"{family}: {' − '.join(roles)}", cells))
    caption = (
        f"Differences in points [95 % interval], number of languages, at {question.readout}: languages that phase 2 "
        f"saw or not, and that pretraining covers or not (list: {question.spec.coverage}); bold: one arm is better, "
        "Holm-adjusted"
    )
    return Table(caption, ["contrast", *heads], rows)


def readout_table(question: Question) -> Table:
    """Return the same differences by other read-outs: centred, CSLS, the fixed layer, and on the common unseen
    languages."""
    kept = [c for c in question.others if c.kind != COMMON]
    readouts = list(dict.fromkeys(c.readout for c in kept))
    has_common = any(c.kind == COMMON for c in question.others)
    rows = []
    for c in [c for c in question.contrasts if c.roles[1] == ENGLISH and question.others]:
        cells = [_difference(c)] + [
            _difference(_find(kept, c.family, c.roles, c.kind, readout)) for readout in readouts
        ]
        if has_common:
            cells.append(
                _difference(_find(question.others, c.family, c.roles, COMMON)) if c.kind == UNSEEN else Cell()
            )
        rows.append((f"{c.family}: {c.name}, {c.kind}", cells))
    heads = [
        "contrast",
        str(question.readout),
        *map(str, readouts),
        *([f"{question.readout}, {COMMON}"] if has_common else []),
    ]
    return Table("Other read-outs: difference [95 % interval], no verdicts", heads, rows)


def check_table(question: Question) -> Table:
    rows = []
    for c in question.contrasts:
        if c.found:
            p = c.found.wilcoxon_p
            cells = [
                Cell(", ".join(signed(x) for x in c.found.per_seed)),
                Cell(_span(c.found.language_interval)),
                Cell("" if p is None else f"{p:.3f}"),
            ]
            rows.append((f"{c.family}: {c.name}, {c.kind}", cells))
    heads = ["contrast", "by seed", "bootstrap, languages resampled too", "Wilcoxon p over languages"]
    return Table("Checks: each seed, and languages in general (rough where they are few)", heads, rows)


def language_table(question: Question) -> Table:
    """Return differences to E by language, seen ones marked with *."""
    rows = []
    for family in question.families:
        for role in family.arms:
            parts = [_find(question.contrasts, family.name, (role, ENGLISH), kind) for kind in (UNSEEN, SEEN)]
            by_language = {lang: x for c in parts if c and c.found for lang, x in c.found.per_language.items()}
            if by_language:
                cells = [
                    Cell(signed(by_language[lang]) + "*" * (lang in family.seen) if lang in by_language else "")
                    for lang in question.reported
                ]
                rows.append((f"{family.name}: {role} − {ENGLISH}", cells))
    return Table(
        "Differences by language (* seen in phase 2); single languages are noisy",
        ["contrast", *question.reported],
        rows,
    )


def training_table(question: Question) -> Table:
    """Return what phase 2 of each arm was, mean over seeds: languages, rows, steps, tokens, English dev."""
    rows = []
    for arm in question.spec.arms[1:]:
        records = _trainings(question.matrix, arm)
        if records:
            dev = [record.dev["en"][record.metric] for record in records if record.metric in record.dev.get("en", {})]
            languages = dict.fromkeys(language for record in records for language in record.trained_on or ())
            texts = [
                " ".join(languages),
                *(_numbers(question.matrix, arm, what) for what in ("rows", "steps", "tokens")),
            ]
            flat = any(record.at_chance for record in records)
            cells = [Cell(text) for text in texts] + [
                Cell(f"{np.mean(dev):.1f}{f' {page.DAGGER}' if flat else ''}" if dev else "")
            ]
            rows.append((arm, cells))
    heads = ["arm", "languages", "rows", "steps", "tokens", f"English dev ({page.DAGGER} at chance)"]
    return Table("What phase 2 trained on", heads, rows)


def _find(
    contrasts: Sequence[Contrast], family: str, roles: tuple, kind: str, readout: cs.ReadOut | None = None
) -> Contrast | None:
    wanted = (
        c for c in contrasts if (c.family, c.roles, c.kind) == (family, roles, kind) and readout in (None, c.readout)
    )
    return next(wanted, None)


def _difference(c: Contrast | None) -> Cell:
    if c is None or c.found is None:
        return Cell(why=c.why if c else "")
    return Cell(signed(c.found.difference) + _interval(c, " [", "]"))


def _score(question: Question, arm: str | None) -> Cell:
    """Return an arm's score over the reported languages, mean ± sd over seeds."""
    if arm is None:
        return Cell()
    values = _by_layer(question, arm, question.reported).get(question.readout.layer)
    if not values:
        return Cell(why="not run")
    spread = f" ± {np.std(values, ddof=1):.1f}" if len(values) > 1 else ""
    number = "" if 1 < len(values) == len(question.matrix.seeds) else f" (n={len(values)})"
    return Cell(f"{np.mean(values):.1f}{spread}{number}")


def _by_layer(question: Question, arm: str, languages: Sequence[str]) -> dict[int, list[float]]:
    """Return {layer: mean over `languages` of the plain score, one for each seed that has all of them}."""
    found: dict[int, list[float]] = {}
    for (one, task, _), record in question.matrix.records.items():
        if (one, task) == (arm, question.spec.task):
            for layer, scores in record.by_layer.items():
                if all(language in scores for language in languages):
                    found.setdefault(layer, []).append(
                        float(np.mean([scores[lang][record.metric] for lang in languages]))
                    )
    return dict(sorted(found.items()))


def _trainings(matrix: Matrix, arm: str) -> list[Record]:
    return [record for path, record in matrix.trainings if path.startswith(f"{arm}/seed")]


def _numbers(matrix: Matrix, arm: str, what: str) -> str:
    """Return a number of phase 2, or its range over seeds."""
    values = [(record.measures or {}).get(what) for record in _trainings(matrix, arm)]
    values = sorted({value for value in values if value is not None})
    return " to ".join(f"{value:,.0f}" for value in dict.fromkeys([*values[:1], *values[-1:]]))


# Plots


def forest(question: Question) -> Figure | None:
    """Return the differences with their intervals, unseen and seen languages side by side; None without any."""
    if not any(c.found for c in question.contrasts):
        return None
    rows = list(dict.fromkeys((c.family, c.roles) for c in question.contrasts))
    longest = max(len(c.verdict) for c in question.contrasts)  # it stands at the right of the panel
    figure = Figure(figsize=(7.2 + 0.07 * longest, 1.6 + 0.44 * len(rows)), layout="constrained")
    axes = figure.add_subplot()
    looks = {UNSEEN: ("#0072B2", "o", -0.16), SEEN: ("#D55E00", "s", 0.16)}
    for y, (family, roles) in enumerate(rows):
        for kind, (colour, marker, shift) in looks.items():
            c = _find(question.contrasts, family, roles, kind)
            if c is None:
                continue
            if c.found:
                low, high = c.found.interval or c.found.bootstrap_interval
                axes.plot(
                    [low, high], [y + shift] * 2, color=colour, linewidth=2, linestyle="-" if c.found.interval else ":"
                )
                face = colour if kind == UNSEEN else "white"
                axes.plot(
                    c.found.difference,
                    y + shift,
                    marker,
                    color=colour,
                    markerfacecolor=face,
                    markersize=8 if c.primary else 6,
                )
            place = {
                "xy": (1.01, y + shift),
                "xycoords": ("axes fraction", "data"),
                "va": "center",
                "fontsize": 8,
                "color": colour,
            }
            axes.annotate(
                f"{kind}: {c.verdict}", **place, weight="bold" if c.primary else "normal", annotation_clip=False
            )
    margin = question.spec.margin
    axes.axvspan(-margin, margin, color="#eee", zorder=0)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_yticks(range(len(rows)), [f"{family}: {' − '.join(roles)}" for family, roles in rows], fontsize=9)
    for y, (before, after) in enumerate(zip(rows, rows[1:], strict=False)):
        if before[0] != after[0]:
            axes.axhline(y + 0.5, color="#bbb", linewidth=0.8)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlabel(f"difference in points at {question.readout}, 95 % interval; grey: within {margin:g}")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    if any(c.found and c.found.interval is None for c in question.contrasts):
        axes.set_title("One seed: dotted intervals are for other queries alone", fontsize=9)
    return figure


def layer_curves(question: Question) -> Figure | None:
    """Return the score by layer over the reported languages, one panel a family; None where one layer was
    measured."""
    curves = {arm: _by_layer(question, arm, question.reported) for arm in question.spec.arms}
    if max(map(len, curves.values())) < 2:
        return None
    families = question.families
    roles = [PLAIN, *dict.fromkeys(role for family in families for role in family.arms)]
    styles = dict(zip(roles, plots.styles(roles), strict=True))
    handles = [Line2D([], [], label=role, markersize=5, **style) for role, style in styles.items()]
    handles.append(Line2D([], [], label="layer reported", color="#999", linestyle="--", linewidth=0.9))
    if question.selection:
        handles.append(
            Line2D([], [], label=f"{PLAIN} and {ENGLISH} on the\nlanguages of the choice", color="#999", linestyle=":")
        )
    figure, panels = plots.beside_legend(len(families), 3.9, 3.9, handles, sharey=True)
    for axes, family in zip(panels, families, strict=True):
        for role, style in styles.items():
            curve = curves.get(PLAIN if role == PLAIN else family.arms.get(role), {})
            axes.plot(
                list(curve), [np.mean(values) for values in curve.values()], markersize=4, linewidth=1.5, **style
            )
        if question.selection:
            axes.plot(
                list(question.selection), list(question.selection.values()), color="#999", linestyle=":", linewidth=1.5
            )
        axes.axvline(question.readout.layer, color="#999", linewidth=0.9, linestyle="--")
        axes.set_title(family.name, fontsize=11)
        plots.layer_axis(axes)
    panels[0].set_ylim(bottom=0)  # at last: the panels share it, and a limit once set no longer grows
    panels[0].set_ylabel(f"{question.matrix.metric(question.spec.task)}, mean over languages and seeds")
    return figure


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
