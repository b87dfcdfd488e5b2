"""The sentences below the tables of a matrix: seeds, chance, gaps, and what a figure is."""

import itertools

from xstilts.report import cells, charts
from xstilts.report import matrix as mx
from xstilts.report.cells import BIAS, DOUBLE
from xstilts.report.matrix import PLAIN, Matrix
from xstilts.report.numbers import count

_NAMED = 6  # cells that a note names; of more it gives the number


def extent(matrix: Matrix) -> str:
    """Return how large the grid is, and how much of it is there."""
    asked = len(matrix.records) + len(matrix.missing)
    words = [count(len(matrix.arms), "arm"), count(len(matrix.tasks), "task"), count(len(matrix.seeds), "seed")]
    left_out = f" Found but not asked for: {matrix.left_out}." if matrix.left_out else ""
    return f"{', '.join(words)}: {len(matrix.records)} of {asked} cells are there.{left_out}"


def seed_notes(matrix: Matrix) -> list[str]:
    """Return sentences on the number of seeds: what ± is over, and the cells that have fewer seeds than planned."""
    if len(matrix.seeds) == 1:
        return [
            f"Every cell is a single seed ({matrix.seeds[0]}): no spread is known, and a difference may be chance."
        ]
    plans: dict[int, list[str]] = {}
    for arm in matrix.arms:
        plans.setdefault(len(matrix.seeds_of[arm]), []).append(arm)
    usual = max(plans, key=lambda number: len(plans[number]))
    notes = [f"Mean ± standard deviation over {count(usual, 'seed')} (of {', '.join(map(str, matrix.seeds))})."]
    notes += [f"{count(number, 'seed')}: {', '.join(arms)}." for number, arms in plans.items() if number != usual]
    short: dict[str, list[str]] = {}
    for (arm, task), n in mx.over_seeds(matrix)["n"].items():
        planned = len(matrix.seeds_of[arm])
        if n < planned:
            short.setdefault(f"{n} of {planned} seeds", []).append(f"{arm}/{task}")
    for number, those in sorted(short.items()):
        named = ", ".join(those) if len(those) <= _NAMED else f"{len(those)} pairs of arm and task"
        notes.append(f"{number}: {named}.")
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
    """Return a sentence for each average that is partial, and one for each arm with partial or blank differences."""
    notes = []
    for name, tasks in mx.average_groups(matrix).items():
        if len(tasks) < 2:
            continue
        table = mx.averages(matrix, tasks)
        for arm, row in table[table["reason"] != ""].iterrows():
            gaps = row["reason"].removeprefix("missing ").split(", ")
            many = row["reason"].startswith("missing ") and len(gaps) > _NAMED
            notes.append(
                f"Average {name} of {arm} is partial ({DOUBLE}) or blank: "
                f"{f'{len(gaps)} cells are missing' if many else row['reason']}."
            )
    if PLAIN not in matrix.arms:
        return [*notes, f"There is no arm {PLAIN}, so no differences."]
    reasons: dict[str, list[str]] = {}
    for (arm, _), why in mx.differences(matrix)["reason"].items():
        if why:
            reasons.setdefault(arm, []).append(why)
    return notes + [
        f"Differences of {arm} to {PLAIN} that are partial ({DOUBLE}) or blank: {'; '.join(whys)}."
        for arm, whys in reasons.items()
    ]


def trained_notes(matrix: Matrix) -> list[str]:
    """Return a sentence for each target and arm whose phase 2 had rows of the same task in other languages."""
    notes = []
    for task, arm in itertools.product(matrix.tasks_of("target"), matrix.arms):
        trainings = [record for record in matrix.trainings_of(arm) if task in record.task.split("+")]
        trained = {language for record in trainings for language in record.trained_on or ()}
        if shared := [language for language in matrix.languages(task) if language in trained - {"en"}]:
            notes.append(
                f"{task}: phase 2 of {arm} trained on this task in {' '.join(shared)}, so its scores in these "
                "languages are not zero-shot."
            )
    return notes


def figure_notes(matrix: Matrix) -> list[str]:
    """Return sentences on what a figure is: targets that are not zero-shot, what stands beside retrieval's main
    figure, and the charts."""
    names = {name for task in matrix.tasks_of("retrieval") for name in cells.other_metrics(matrix, task)}
    notes = trained_notes(matrix)
    if any(name.endswith(("_centered", "_csls")) for name in names):
        notes.append(
            "Figures in _centered are of vectors less the mean of their language, those in _csls of CSLS: beside the "
            "plain figure, because a language's offset hides much of what a model knows. Means and neighbours come "
            "from the searched sentences alone."
        )
    if any(name.endswith("_reverse") for name in names):
        notes.append("Figures in _reverse are of the search in the other direction: queries and pool change places.")
    if any(name.endswith("_without_english") for name in names):
        notes.append(
            "Figures in _without_english are the mean over all pairs of two languages neither of which is English, "
            "both ways."
        )
    if any(name.startswith("map_") for name in names):
        notes.append(
            "map_multilingual (one pool of all languages), map_monolingual and map_crosslingual are not cut at 20."
        )
    notes += charts.notes(matrix)
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
