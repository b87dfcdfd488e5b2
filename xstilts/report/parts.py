"""Which tasks and seeds an average is over where some cells are missing or at chance."""

from collections.abc import Mapping, Sequence

import numpy as np

from xstilts.report.matrix import PLAIN

Seeds = Mapping[int, float]  # {seed: score}


def complete_part(sides: Sequence[Sequence[Seeds]]) -> tuple[list[int], list[dict[int, float]]]:
    """Return (places of the tasks used, {seed: mean over these tasks} of each side): the part without gaps.

    The tasks are those of the seed that has the most of them on every side (the lowest of equals); the seeds are all
    that have these tasks on every side.

    Args:
        sides: of each arm, the {seed: score} of each task; the same tasks in each.
    """
    places = range(len(sides[0]))
    having = {
        seed: [place for place in places if all(seed in side[place] for side in sides)]
        for seed in sorted({seed for task in sides[0] for seed in task})
    }
    tasks = max(having.values(), key=len, default=[])
    if not tasks:
        return [], [{} for _ in sides]
    seeds = [seed for seed, there in having.items() if set(tasks) <= set(there)]
    return tasks, [{seed: float(np.mean([side[place][seed] for place in tasks])) for seed in seeds} for side in sides]


def ranked_tasks(arms: Sequence[str], usable: Mapping[tuple[str, str], Seeds], tasks: Sequence[str]) -> list[str]:
    """Return the tasks that arms are ranked by: all, or those that `none` has, or else the most that an arm has.

    The latter if no arm has a usable score of all of them in one seed.

    Args:
        usable: {(arm, task): {seed: score}}.
    """
    parts = [complete_part([[usable.get((arm, task), {}) for task in tasks]])[0] for arm in arms]
    widest = max(parts, key=len, default=[])
    if len(widest) < len(tasks) and PLAIN in arms:
        widest = parts[arms.index(PLAIN)] or widest
    return [tasks[place] for place in widest] or list(tasks)
