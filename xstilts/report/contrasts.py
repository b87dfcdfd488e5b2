"""The contrasts between arms that a question asks for (`xstilts.report.spec`), computed from the files of a matrix.

The files are results.json of every cell and, beside it, hits.parquet: language, layer, variant (plain, centered, ...),
query (an id) and value (0 to 1, of that query alone). Nothing is averaged over a gap: a contrast whose arms differ in
seeds, languages or query ids is not computed, and says why.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from tasks import TASKS, get_task
from tasks.coverage import covered
from tasks.errors import UserError
from xstilts.report import statistics
from xstilts.report.comparable import is_shared, other_settings
from xstilts.report.hits import VARIANTS, Hits, ReadOut
from xstilts.report.layer_choice import choose_layer
from xstilts.report.matrix import PLAIN, Matrix
from xstilts.report.numbers import seeds_text
from xstilts.report.reading import fingerprints
from xstilts.report.spec import ENGLISH, Spec
from xstilts.run.record import Record

UNSEEN, SEEN, COMMON = "unseen", "seen", "unseen in every family"
COVERED, NOT_COVERED = "covered", "not covered"  # by pretraining


@dataclass(frozen=True)
class Family:
    """A family's arms by role, and which of the reported languages their phase 2 saw text of (`seen`) and which not.

    `failed` are arms whose English dev score is at chance in some seed, though their labels were not shuffled.
    """

    name: str
    arms: dict[str, str]
    seen: tuple[str, ...]
    unseen: tuple[str, ...]
    failed: tuple[str, ...]


@dataclass
class Contrast:
    """One arm less another over some languages; `found` is None if it was not computed, and `why` gives the reason.

    `means` are the two arms' scores, 0-100. `doubts` are about its seeds, see `_doubts`. `p` is the p-value the
    verdict goes by: as it is for the primary contrast, Holm-adjusted for the others (see `_judge`); None, with an
    empty verdict, where no verdict is passed.
    """

    family: str
    roles: tuple[str, str]
    arms: tuple[str, str]
    kind: str  # UNSEEN, SEEN, COMMON or a group of `groups_of`
    languages: tuple[str, ...]
    readout: ReadOut
    primary: bool = False
    found: statistics.Estimate | None = None
    means: tuple[float, float] = (math.nan, math.nan)
    p: float | None = None
    doubts: list[str] = field(default_factory=list)
    verdict: statistics.Verdict = statistics.NO_VERDICT
    why: str = ""

    @property
    def estimate(self) -> statistics.Estimate:
        """`found` of a contrast that was computed."""
        if self.found is None:
            raise ValueError(f"{self.family} {self.name}: not computed")
        return self.found

    @property
    def name(self) -> str:
        return " − ".join(self.roles)


@dataclass(eq=False)  # compared, and so cached, by identity
class Question:
    """All that the report shows. `contrasts` and `groups` carry verdicts; `others` are the same at other read-outs,
    without."""

    spec: Spec
    matrix: Matrix
    families: list[Family]
    readout: ReadOut
    layer_reason: str
    selection: dict[int, float]  # layer -> mean score on select_languages, empty where nothing was chosen
    reported: tuple[str, ...]
    contrasts: list[Contrast]
    others: list[Contrast]
    # with verdicts: seen or unseen by phase 2, covered by pretraining or not
    groups: list[Contrast] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def primary(self) -> Contrast:
        return next(contrast for contrast in self.contrasts if contrast.primary)


def ask(matrix: Matrix, spec: Spec) -> Question:
    """Return every contrast of the question, computed from the files of the matrix.

    Raises:
        UserError: the task was not run at all, or the layer cannot be chosen as asked.
    """
    cells = {(arm, seed): record for (arm, task, seed), record in matrix.records.items() if task == spec.task}
    if not cells:
        raise UserError(f"--question: no results of {spec.task} below {matrix.root}; run `make question` first.")
    reported, problems = _reported(matrix, spec), list(matrix.problems)
    layer, reason, selection = choose_layer(cells, spec, problems)
    families = [_family(name, roles, matrix, reported, problems) for name, roles in spec.families.items()]
    main = ReadOut(layer)
    contrasts = [contrast for family in families for contrast in _wanted(family, main, spec)]
    others = _at_other_readouts(families, cells, layer, spec) + _on_common_languages(contrasts, families, reported)
    groups = [
        replace(contrast, kind=kind, languages=languages, primary=False)
        for contrast in contrasts
        for kind, languages in groups_of(contrast.kind, contrast.languages, spec.coverage).items()
    ]
    hits = Hits(matrix, spec.task)
    for contrast in contrasts + others + groups:
        _compute(contrast, hits, cells)
    _judge(contrasts, spec)
    _judge(groups, spec)
    problems += [f"{c.family}, {c.name}: {c.why}." for c in contrasts + others + groups if c.why]
    problems = list(dict.fromkeys(problems))
    return Question(spec, matrix, families, main, reason, selection, reported, contrasts, others, groups, problems)


def _reported(matrix: Matrix, spec: Spec) -> tuple[str, ...]:
    """Return the languages that were measured, without those that the layer is chosen on, and without English, which
    phase 2 trains on.

    Raises:
        UserError: one of those that the layer is chosen on was not measured.
    """
    measured = matrix.languages(spec.task)
    absent = [language for language in spec.select_languages if language not in measured]
    if absent:
        raise UserError(
            f"--question: select_languages {' '.join(absent)} were not measured in {spec.task}. There are "
            f"{' '.join(measured)}."
        )
    return tuple(language for language in measured if language not in ("en", *spec.select_languages))


def _at_other_readouts(families: Sequence[Family], cells: Mapping, layer: int, spec: Spec) -> list[Contrast]:
    """Return the contrasts at the fixed layer and with the other variants that were measured, without verdicts."""
    metric = next(iter(cells.values())).metric
    readouts = [ReadOut(spec.fixed_layer)] if spec.fixed_layer not in (None, layer) else []
    readouts += [
        ReadOut(layer, name)
        for name, form in VARIANTS.items()
        if name != "plain" and _has(cells, layer, form.format(metric))
    ]
    return [c for family in families for one in readouts for c in _wanted(family, one, spec, judged=False)]


def _on_common_languages(
    contrasts: Sequence[Contrast], families: Sequence[Family], reported: Sequence[str]
) -> list[Contrast]:
    """Return the contrasts with the English arms on the languages that no family has seen, where these are fewer."""
    common = tuple(language for language in reported if all(language in family.unseen for family in families))
    return [
        replace(contrast, kind=COMMON, languages=common, primary=False)
        for contrast in contrasts
        if common and contrast.kind == UNSEEN and contrast.roles[1] == ENGLISH and contrast.languages != common
    ]


def groups_of(kind: str, languages: Sequence[str], coverage: str | None) -> dict[str, tuple[str, ...]]:
    """Return {"unseen, covered": languages, ...}: languages of a kind by whether pretraining covers them; {} without
    a list.

    Args:
        coverage: a list of tasks/coverage.py.
    """
    if coverage is None:
        return {}
    groups = {
        f"{kind}, {name}": tuple(language for language in languages if covered(language, coverage) == inside)
        for name, inside in ((COVERED, True), (NOT_COVERED, False))
    }
    return {group: those for group, those in groups.items() if those}


def _has(cells: Mapping, layer: int, metric: str) -> bool:
    return any(metric in scores for record in cells.values() for scores in record.by_layer.get(layer, {}).values())


# Seen and unseen


def seen_by(matrix: Matrix, arms: Iterable[str], name: str, problems: list[str]) -> set[str]:
    """Return the languages other than English in which a phase 2 of these arms had rows of its task.

    Text for masked LM does not count: an arm that trains nothing else is a control, unless all of these arms are such.

    Args:
        name: what is asked about, for `problems`, which name the arms whose languages are not known.
    """
    found = {arm: matrix.trainings_of(arm) for arm in arms if arm != PLAIN}
    tasks = with_task(found)
    seen: set[str] = set()
    for arm, records in found.items():
        if not records:
            problems.append(
                f"{name}: arm {arm} has no results.json of its phase 2, so what it would have seen is not counted."
            )
        for languages in (record.trained_on for record in records if arm in tasks or not tasks):
            if languages is None:
                problems.append(
                    f"{name}: results.json of {arm} does not say which languages it trained on, so none counts as "
                    "seen."
                )
            seen.update(language for language in languages or () if language != "en")
    return seen


def with_task(trainings: Mapping[str, Sequence[Record]]) -> set[str]:
    """Return the arms whose phase 2 trained a task, not masked LM alone."""
    return {arm for arm, records in trainings.items() if any(record.phase != "mlm" for record in records)}


def _family(
    name: str, roles: dict[str, str], matrix: Matrix, reported: tuple[str, ...], problems: list[str]
) -> Family:
    """Return the family with its languages: seen is what any of its arms trained the task on, see `seen_by`."""
    found = {arm: matrix.trainings_of(arm) for arm in roles.values()}
    seen = seen_by(matrix, found, name, problems)
    sizes = {
        arm: {tuple((record.measures or {}).get(what, 0) for what in ("rows", "steps")) for record in found[arm]}
        for arm in sorted(with_task(found))
    }
    if len(set().union(*sizes.values())) > 1:
        sizes_text = "; ".join(
            f"{arm} {' and '.join(f'{rows} rows, {steps} steps' for rows, steps in sorted(of))}"
            for arm, of in sizes.items()
        )
        problems.append(
            f"{name}: the arms are not matched in phase 2 ({sizes_text}), so a difference may come from that."
        )
    every = {(arm, record.seed): record for arm in sorted(with_task(found)) for record in found[arm]}
    for setting, usual, others in other_settings(every, lambda key: f"{key[0]} seed {key[1]}", is_shared):
        problems.append(
            f"{name}: {setting} in phase 2 of {others} is not that of the others ({usual}), so a difference may come "
            "from that."
        )
    failed = [arm for arm, records in found.items() if any(record.failed for record in records)]
    inside = tuple(language for language in reported if language in seen)
    return Family(name, roles, inside, tuple(language for language in reported if language not in seen), tuple(failed))


# The contrasts


def _wanted(family: Family, readout: ReadOut, spec: Spec, judged: bool = True) -> Iterable[Contrast]:
    """Yield what is asked of a family at one read-out: each role against E and, if verdicts are passed, E against
    none.

    Sets without a language are left out, except the primary contrast, whose absence is reported.
    """
    pairs = [(role, ENGLISH) for role in family.arms if role != ENGLISH] + ([(ENGLISH, PLAIN)] if judged else [])
    for roles in pairs:
        treated, baseline = (PLAIN if role == PLAIN else family.arms[role] for role in roles)
        for kind, languages in ((UNSEEN, family.unseen), (SEEN, family.seen)):
            primary = judged and kind == UNSEEN and (family.name, roles[0]) == spec.primary
            if languages or primary:
                yield Contrast(family.name, roles, (treated, baseline), kind, languages, readout, primary)


def _compute(contrast: Contrast, hits: Hits, cells: Mapping) -> None:
    """Fill in `found` and `means`, or `why`."""
    treated, baseline = contrast.arms
    common = hits.matrix.common_seeds(*contrast.arms)
    seeds = {arm: sorted(seed for one, seed in cells if one == arm and seed in common) for arm in contrast.arms}
    try:
        if not contrast.languages:
            raise UserError(f"there is no {contrast.kind} language among those reported")
        if not common:
            raise UserError(f"no seed is planned for both {treated} and {baseline}")
        if not all(seeds.values()):
            raise UserError(f"not run: {', '.join(arm for arm in contrast.arms if not seeds[arm])}")
        if seeds[treated] != seeds[baseline]:
            has = [f"{arm} has {' '.join(map(str, seeds[arm]))}" for arm in contrast.arms]
            raise UserError(f"the arms have different seeds ({', '.join(has)}): run the missing ones")
        if len({tuple(fingerprints(cells[arm, seed])) for arm in contrast.arms for seed in seeds[arm]}) > 1:
            raise UserError("the arms were measured on different rows: run them on the same data")
        both = [[hits.of(arm, seed, contrast.readout) for seed in seeds[arm]] for arm in contrast.arms]
        of_treated, of_baseline = (
            float(np.mean([[100 * run[lang].mean() for lang in contrast.languages] for run in runs]))
            for runs in _checked(both, contrast, seeds[treated])
        )
        contrast.means = of_treated, of_baseline
        differences = {
            language: 100
            * (np.array([run[language] for run in both[0]]) - np.array([run[language] for run in both[1]]))
            for language in contrast.languages
        }
        shared = _are_shared(hits.task, {language: both[0][0][language].index for language in contrast.languages})
        if not any(by_query.any() for by_query in differences.values()):
            raise UserError(
                f"both arms answer every query alike in every seed: nothing differs up to {contrast.readout}"
            )
        contrast.found = statistics.estimate(differences, shared)
        contrast.doubts = _doubts(contrast, hits.matrix, seeds[treated])
    except UserError as error:
        contrast.why, contrast.verdict = str(error), statistics.NOT_COMPUTED


def _doubts(contrast: Contrast, matrix: Matrix, seeds: list[int]) -> list[str]:
    """Return what is doubtful about the seeds of a contrast: those that were left out, whose phase 2 failed, or that
    stand apart.

    A seed is left out if it has no usable result here but is planned for both arms, or has a folder though no arm
    plans it.
    """
    found, common = [], set(matrix.common_seeds(*contrast.arms))
    for role, arm in zip(contrast.roles, contrast.arms, strict=True):
        begun = {seed for one, seed in matrix.begun if one == arm}
        failed = {record.seed for record in matrix.trainings_of(arm) if record.failed}
        kinds = {
            "without": (common | begun.difference(matrix.seeds)) - set(seeds),
            "at chance in": failed.intersection(seeds),
        }
        found += [f"{role} {kind} {seeds_text(those)}" for kind, those in kinds.items() if those]
    if contrast.estimate.apart is not None:
        found.append(f"seed {seeds[contrast.estimate.apart]} stands apart")
    return found


def _checked(
    both: list[list[dict[str, pd.Series]]], contrast: Contrast, seeds: list[int]
) -> list[list[dict[str, pd.Series]]]:
    """Return `both`, the runs of the two arms, if every one has every language and the same query ids in it."""
    for language in contrast.languages:
        usual: pd.Index | None = None
        for arm, runs in zip(contrast.arms, both, strict=True):
            for seed, run in zip(seeds, runs, strict=True):
                if language not in run:
                    raise UserError(f"{language} is missing in the hits of {arm}, seed {seed}")
                ids = run[language].index
                usual = ids if usual is None else usual
                if not ids.equals(usual):
                    odd = len(ids.symmetric_difference(usual))
                    raise UserError(f"{language} has other query ids in {arm}, seed {seed} ({odd} are not in both)")
    return both


def _are_shared(task: str, ids: Mapping[str, pd.Index]) -> bool:
    """Whether query q is the same in every language, as in NTREX or LAReQA: then languages do not err independently.

    Raises:
        UserError: the task has the same queries in every language, and these languages have not.
    """
    if task not in TASKS or not get_task(task).parallel:
        return False
    asked = {
        language: [get_task(task).shared_query(query, language) for query in index] for language, index in ids.items()
    }
    first = next(iter(asked))
    for language, queries in asked.items():
        if queries != asked[first]:
            raise UserError(
                f"{task} asks the same in every language, but the {len(queries)} queries of {language} are not those "
                f"of {first}: run it on the same rows"
            )
    return True


def _judge(contrasts: Iterable[Contrast], spec: Spec) -> None:
    """Pass the verdicts: the primary on its own p-value, the others Holm-adjusted.

    Corrected together are the contrasts of one family on one set of languages, which answer one question: what the
    ways to train on this task do for languages unseen (or seen).
    """
    groups: dict[tuple[str, str], list[Contrast]] = {}
    for contrast in contrasts:
        if contrast.found and contrast.found.p is not None:
            contrast.p = contrast.found.p
            if not contrast.primary:
                groups.setdefault((contrast.family, contrast.kind), []).append(contrast)
    for group in groups.values():
        for contrast, p in zip(group, statistics.holm([c.p for c in group if c.p is not None]), strict=True):
            contrast.p = p
    for contrast in contrasts:
        if contrast.found:
            contrast.verdict = statistics.verdict(
                contrast.found, contrast.p, spec.margin, contrast.roles, contrast.doubts
            )
