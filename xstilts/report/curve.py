"""Retrieval against the number of languages that phase 2 trained on, at equal rows and steps: a table and a plot."""

from __future__ import annotations

import functools
from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from xstilts.report import plots, statistics
from xstilts.report.cells import Table, TableCell, with_spread
from xstilts.report.contrasts import UNSEEN, Family, Question, groups_of
from xstilts.report.matrix import PLAIN, Matrix
from xstilts.report.numbers import seeds_text, shown


def sets_of(question: Question, family: Family) -> dict[str, tuple[str, ...]]:
    """Return {what: languages} that a curve is drawn for: unseen by every arm of the family, by pretraining's list,
    and seen by some arm."""
    unseen = groups_of(UNSEEN, family.unseen, question.spec.coverage) or {UNSEEN: family.unseen}
    return {what: languages for what, languages in (unseen | {"seen by some arm": family.seen}).items() if languages}


def scores(question: Question, arm: str, languages: tuple[str, ...], seeds: list[int]) -> dict[int, float]:
    """Return {seed: mean score (0-100) over the languages at the question's read-out}, of the seeds that have all of
    them."""
    found = {}
    for seed in seeds:
        record = question.matrix.records.get((arm, question.spec.task, seed))
        by_language = record.by_layer.get(question.readout.layer, {}) if record else {}
        if record and all(language in by_language for language in languages):
            found[seed] = float(np.mean([by_language[language][record.metric] for language in languages]))
    return found


def trained_languages(matrix: Matrix, arm: str) -> int | None:
    """Return how many languages the arm's phase 2 trained its task on, None where its results do not say."""
    found = {len(record.trained_on) for record in matrix.trainings_of(arm) if record.trained_on is not None}
    return found.pop() if len(found) == 1 else None


Line = list[tuple[int, str, list[float]]]  # (number of languages, arm, score of each seed), `none` first


def points(question: Question) -> dict[tuple[str, str], Line]:
    """Return {(family, what): the points of the line}, all over the same seeds, see `lines`."""
    return lines(question)[0]


@functools.lru_cache(maxsize=1)
def lines(question: Question) -> tuple[dict[tuple[str, str], Line], list[str]]:
    """Return ({(family, what): the points of the line}, what is left out).

    `none` is the point of 0 languages. The seeds are those that every point of the line has, so that no step of it is
    one from seed to seed. An arm without any seed has no point.
    """
    found: dict[tuple[str, str], Line] = {}
    left_out: list[str] = []
    families: Mapping[str, Family] = {family.name: family for family in question.families}
    for name, roles in question.spec.curve.items():
        of = [families[name].arms[role] for role in roles]
        arms = [(0, PLAIN), *((trained_languages(question.matrix, arm), arm) for arm in of)]
        planned = question.matrix.common_seeds(PLAIN, *of)
        for what, languages in sets_of(question, families[name]).items():
            by_arm = {arm: scores(question, arm, languages, planned) for _, arm in arms}
            line = [(number, arm) for number, arm in arms if number is not None and by_arm[arm]]
            numbers = [number for number, _ in line]
            if twice := [arm for number, arm in line if numbers.count(number) > 1]:
                left_out.append(
                    f"{name}, {what}: {', '.join(twice)} have equally many languages, so there is no curve."
                )
                continue
            seeds = [seed for seed in planned if all(seed in by_arm[arm] for _, arm in line)]
            if len(line) < 2:
                continue
            if seeds:
                found[name, what] = [(number, arm, [by_arm[arm][seed] for seed in seeds]) for number, arm in line]
            if seeds != planned:
                gaps = [f"{arm} seed {seed}" for _, arm in line for seed in planned if seed not in by_arm[arm]]
                left_out.append(
                    f"{name}, {what}: the curve is over {seeds_text(seeds)}, those that every "
                    f"point has. Missing: {', '.join(gaps)}."
                )
    return found, left_out


def as_frame(question: Question) -> pd.DataFrame:
    """Return curve.csv: one row for each family, set of languages and number of languages, scores 0-100, not rounded.

    `languages` names the set of evaluation languages, `number` counts the languages of phase 2 (0: no phase 2), `sd`
    is empty with one seed, and `by_seed` has each seed's score in the order of the seeds.
    """
    rows = [
        {
            "family": family,
            "languages": languages,
            "number": number,
            "arm": arm,
            "layer": question.readout.layer,
            "mean": float(np.mean(values)),
            "sd": float(np.std(values, ddof=1)) if len(values) > 1 else np.nan,
            "seeds": len(values),
            "by_seed": " ".join(f"{value:.6f}" for value in values),
        }
        for (family, languages), line in points(question).items()
        for number, arm, values in line
    ]
    return pd.DataFrame(rows)


def table(frame: pd.DataFrame) -> Table:
    """Return a row for each family and set of languages, a column for each number of languages: mean ± sd over seeds.

    Args:
        frame: what `as_frame` returned, or curve.csv read back.
    """
    numbers = sorted(set(frame["number"])) if len(frame) else []
    rows = []
    for (family, languages), line in frame.groupby(["family", "languages"], sort=False) if len(frame) else ():
        texts = {point.number: with_spread(shown(point.mean), point.sd) for point in line.itertuples(index=False)}
        rows.append((f"{family}, {languages}", [TableCell(texts.get(number, "")) for number in numbers]))
    heads = ["languages of phase 2", *("none" if number == 0 else str(number) for number in numbers)]
    layer = f", at layer {frame['layer'].iloc[0]}" if len(frame) else ""
    caption = (
        f"Retrieval against the number of languages in phase 2, equal rows and steps{layer} (mean ± sd over seeds)"
    )
    return Table(caption, heads, rows)


def plot(question: Question) -> Figure | None:
    """Return the same as a picture, a panel a family; bars are 95 % t-intervals over seeds. None without a curve."""
    found = points(question)
    names = list(dict.fromkeys(family for family, _ in found))
    if not names:
        return None
    figure = Figure(figsize=(5.4 * len(names), 3.9), layout="constrained")
    panels = figure.subplots(1, len(names), squeeze=False, sharey=True)[0]
    for axes, name in zip(panels, names, strict=True):
        here = {what: line for (family, what), line in found.items() if family == name}
        for (what, line), style in zip(here.items(), plots.styles(list(here)), strict=True):
            middle = [float(np.mean(values)) for _, _, values in line]
            half = [
                span[1] - mean if (span := statistics.seed_interval(values)) else 0.0
                for mean, (_, _, values) in zip(middle, line, strict=True)
            ]
            axes.errorbar(
                range(len(line)), middle, yerr=half, capsize=3, markersize=5, linewidth=1.5, label=what, **style
            )
        numbers = [number for number, _, _ in max(here.values(), key=len)]
        axes.set_xticks(range(len(numbers)), ["no phase 2" if number == 0 else str(number) for number in numbers])
        axes.set_title(name, fontsize=11)
        axes.set_xlabel("languages that phase 2 trained on")
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=9)
    panels[0].set_ylabel(f"{question.matrix.metric(question.spec.task)} at {question.readout}")
    return figure
