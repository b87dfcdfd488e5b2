"""The tables of a question's report, from a `xstilts.report.contrasts.Question`."""

from collections.abc import Sequence

import numpy as np

from xstilts.report import contrasts as cs
from xstilts.report import curve, statistics
from xstilts.report.cells import DAGGER, Table, TableCell, with_spread
from xstilts.report.contrasts import COMMON, ENGLISH, SEEN, UNSEEN, Contrast, Question
from xstilts.report.matrix import PLAIN, Matrix
from xstilts.report.numbers import interval_of, p_text, shown, signed
from xstilts.report.reading import english_dev

MULTILINGUAL = "M"


def tables(question: Question) -> dict[str, Table]:
    """Return the tables by subject; those without a row are left out."""
    found = {
        "verdicts": verdict_table(question),
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


def verdict_table(question: Question) -> Table:
    """Return one row for each pair of roles and set of languages, M against E first: the verdict in each family."""
    pairs = sorted(dict.fromkeys(c.roles for c in question.contrasts), key=lambda pair: pair[0] != MULTILINGUAL)
    rows = []
    for pair in pairs:
        for kind in (UNSEEN, SEEN):
            cells = [_verdict(find(question.contrasts, family.name, pair, kind)) for family in question.families]
            if any(cell.text for cell in cells):
                rows.append((f"{' − '.join(pair)}, {kind}", cells))
    heads = ["contrast", *(family.name for family in question.families)]
    return Table(f"Verdict in each family, and the difference in points, at {question.readout}", heads, rows)


def family_table(question: Question) -> Table:
    """Return one row a family: rows of phase 2, the score of each arm over all reported languages, M - E unseen and
    seen."""
    roles = list(dict.fromkeys(role for family in question.families for role in family.arms))
    heads = ["family", "rows", PLAIN, *roles, "M − E, unseen [95 %]", "M − E, seen [95 %]"]
    rows = []
    for family in question.families:
        arms = [PLAIN, *(family.arms.get(role) for role in roles)]
        cells = [
            TableCell(_numbers(question.matrix, family.arms[ENGLISH], "rows")),
            *(_score(question, arm) for arm in arms),
        ]
        cells += [
            _difference(find(question.contrasts, family.name, (MULTILINGUAL, ENGLISH), kind))
            for kind in (UNSEEN, SEEN)
        ]
        rows.append((family.name, cells))
    caption = (
        f"{question.matrix.metric(question.spec.task)} by family and arm at {question.readout}, mean over "
        f"{len(question.reported)} reported languages ± sd over seeds"
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
            rows.append((name, [TableCell(c.verdict, why=c.why)] + [TableCell(why=c.why)] * (len(heads) - 2)))
            continue
        texts = [
            c.verdict,
            signed(c.found.difference),
            *map(interval_of, (c.found.interval, c.found.t_interval, c.found.bootstrap_interval)),
            p_text(c.p),
            *(f"{mean:.1f}" for mean in c.means),
            str(c.found.n_seeds),
            f"{c.found.n_queries:,}",
            str(len(c.languages)),
        ]
        rows.append((name, [TableCell(text, bold=c.primary) for text in texts]))
    return Table(f"Differences in points at {question.readout}", heads, rows)


def group_table(question: Question) -> Table:
    """Return every contrast by seen or unseen in phase 2 and covered or not by pretraining; bold where one arm is
    better."""
    heads = [f"{kind}, {inside}" for kind in (UNSEEN, SEEN) for inside in (cs.COVERED, cs.NOT_COVERED)]
    rows = []
    for family, roles in dict.fromkeys((c.family, c.roles) for c in question.groups):
        cells = []
        for kind in heads:
            c = find(question.groups, family, roles, kind)
            cell = _difference(c)
            if c and c.found:
                cell.text += f", {len(c.languages)}"
                cell.bold, cell.why = c.verdict.kind == "better", c.verdict
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
            _difference(find(kept, c.family, c.roles, c.kind, readout)) for readout in readouts
        ]
        if has_common:
            cells.append(
                _difference(find(question.others, c.family, c.roles, COMMON)) if c.kind == UNSEEN else TableCell()
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
    """Return the checks of each contrast: the difference of each seed, and tests over languages."""
    rows = []
    for c in question.contrasts:
        if c.found:
            p = c.found.wilcoxon_p
            cells = [
                TableCell(", ".join(signed(x) for x in c.found.per_seed)),
                TableCell(interval_of(c.found.language_interval)),
                TableCell("" if p is None else f"{p:.3f}"),
            ]
            rows.append((f"{c.family}: {c.name}, {c.kind}", cells))
    heads = ["contrast", "by seed", "bootstrap, languages resampled too", "Wilcoxon p over languages"]
    return Table("Checks: each seed, and languages in general (rough where they are few)", heads, rows)


def language_table(question: Question) -> Table:
    """Return differences to E by language, seen ones marked with *."""
    rows = []
    for family in question.families:
        for role in family.arms:
            parts = [find(question.contrasts, family.name, (role, ENGLISH), kind) for kind in (UNSEEN, SEEN)]
            by_language = {lang: x for c in parts if c and c.found for lang, x in c.found.per_language.items()}
            if by_language:
                cells = [
                    TableCell(signed(by_language[lang]) + "*" * (lang in family.seen) if lang in by_language else "")
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
        records = question.matrix.trainings_of(arm)
        if records:
            dev = [found[1] for record in records if (found := english_dev(record))]
            languages = dict.fromkeys(language for record in records for language in record.trained_on or ())
            texts = [
                " ".join(languages),
                *(_numbers(question.matrix, arm, what) for what in ("rows", "steps", "tokens")),
            ]
            at_chance = any(record.at_chance for record in records)
            cells = [TableCell(text) for text in texts] + [
                TableCell(f"{np.mean(dev):.1f}{f' {DAGGER}' if at_chance else ''}" if dev else "")
            ]
            rows.append((arm, cells))
    heads = ["arm", "languages", "rows", "steps", "tokens", f"English dev ({DAGGER} at chance)"]
    return Table("What phase 2 trained on", heads, rows)


def interval_text(c: Contrast, before: str = "", after: str = "") -> str:
    """Return the interval with the text before and after it, "" without an interval."""
    return f"{before}{interval_of(c.estimate.interval)}{after}" if c.estimate.interval else ""


def find(
    contrasts: Sequence[Contrast], family: str, roles: tuple, kind: str, readout: cs.ReadOut | None = None
) -> Contrast | None:
    """Return the first contrast of this family, roles, kind and read-out (None: any); None if there is none."""
    wanted = (
        c for c in contrasts if (c.family, c.roles, c.kind) == (family, roles, kind) and readout in (None, c.readout)
    )
    return next(wanted, None)


def _difference(c: Contrast | None) -> TableCell:
    if c is None or c.found is None:
        return TableCell(why=c.why if c else "")
    return TableCell(signed(c.found.difference) + interval_text(c, " [", "]"))


def _verdict(c: Contrast | None) -> TableCell:
    """Return the verdict, without its warning, and the difference; bold for the primary contrast."""
    if c is None:
        return TableCell()
    text = c.verdict.words
    if c.found:
        text += f"{' !' if c.verdict.warning else ''} ({signed(c.found.difference)})"
    undecided = c.verdict.kind in statistics.UNDECIDED
    return TableCell(text, bold=c.primary, undecided=undecided, why=c.verdict.warning or c.why)


def _score(question: Question, arm: str | None) -> TableCell:
    """Return an arm's score over the reported languages, mean ± sd over seeds."""
    if arm is None:
        return TableCell()
    values = scores_by_layer(question, arm, question.reported).get(question.readout.layer)
    if not values:
        return TableCell(why="not run")
    sd = float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")
    planned = len(question.matrix.seeds_of.get(arm, question.matrix.seeds))
    number = "" if len(values) == planned else f" (n={len(values)})"
    return TableCell(with_spread(shown(float(np.mean(values))), sd) + number)


def scores_by_layer(
    question: Question, arm: str, languages: Sequence[str], seeds: Sequence[int] | None = None
) -> dict[int, list[float]]:
    """Return {layer: mean over `languages` of the plain score, one for each seed that has all of them}.

    Args:
        seeds: those to take; None: all.
    """
    found: dict[int, list[float]] = {}
    for (one, task, seed), record in question.matrix.records.items():
        if (one, task) == (arm, question.spec.task) and (seeds is None or seed in seeds):
            for layer, scores in record.by_layer.items():
                if layer is not None and all(language in scores for language in languages):
                    found.setdefault(layer, []).append(
                        float(np.mean([scores[lang][record.metric] for lang in languages]))
                    )
    return dict(sorted(found.items()))


def _numbers(matrix: Matrix, arm: str, what: str) -> str:
    """Return a number of phase 2, or its range over seeds."""
    measures = [record.measures or {} for record in matrix.trainings_of(arm)]
    values = sorted({measured[what] for measured in measures if measured.get(what) is not None})
    return " to ".join(f"{value:,.0f}" for value in dict.fromkeys([*values[:1], *values[-1:]]))
