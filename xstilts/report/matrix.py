"""The matrix of a folder of runs: which cells there are, and their numbers over languages, tasks and seeds.

Reads only results.json (see `xstilts.run.record`): `OUT/<arm>/seed<k>/results.json` is a phase-2 training,
`OUT/<arm>/seed<k>/<task>/results.json` a cell. Nothing is averaged over a gap: what cannot be compared is left out,
and `Matrix.missing`, `Matrix.problems` and the reasons beside each average say what and why.
"""

import functools
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tasks import RETRIEVAL
from tasks.errors import UserError
from xstilts.cli.arms import PLAIN
from xstilts.report.comparable import keep_comparable, name_other_seeds, name_rehearsals
from xstilts.report.numbers import count, seeds_text
from xstilts.report.reading import (
    CellKey,
    cell_name,
    cell_row,
    is_placed,
    outdated_lines,
    printable,
    read_all,
    seeds_begun,
)
from xstilts.run import results
from xstilts.run.record import Record, mean


@dataclass(eq=False)  # compared, and so cached, by identity
class Matrix:
    """The results in a folder of runs, read only. `cells` has a row for each usable result, see `reading.cell_row`."""

    root: Path
    arms: list[str]
    tasks: list[str]
    seeds: list[int]
    seeds_of: dict[str, list[int]]  # {arm: the seeds planned for it}
    records: dict[CellKey, Record]
    paths: dict[CellKey, str]
    trainings: list[tuple[str, Record]]  # phases 1 and 2: (path, record)
    cells: pd.DataFrame
    missing: list[CellKey] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    left_out: str = ""  # what is below root but outside the grid
    # (arm, seed) of every folder <arm>/seed<k>, whatever became of it
    begun: set[tuple[str, int]] = field(default_factory=set)
    failed: set[str] = field(default_factory=set)  # folders of runs that failed, relative to root
    unfinished: set[str] = field(default_factory=set)  # folders of runs that were begun and have no end

    def common_seeds(self, *arms: str) -> list[int]:
        """Return the seeds planned for every one of the arms."""
        return [seed for seed in self.seeds if all(seed in self.seeds_of.get(arm, self.seeds) for arm in arms)]

    def seeds_with(self, arm: str, task: str) -> set[int]:
        """Return the seeds that have a result of the arm and task."""
        return {seed for seed in self.seeds if (arm, task, seed) in self.records}

    def tasks_of(self, phase: str) -> list[str]:
        """Return the tasks scored in `phase`, in the matrix' order; a task without any cell has no phase."""
        return [task for task in self.tasks if self.phase(task) == phase]

    def phase(self, task: str) -> str | None:
        """Return "target" or "retrieval", or None for a task without any cell."""
        return self._first[task].phase if task in self._first else None

    def is_retrieval(self, task: str) -> bool:
        """Whether a task is measured without training, also one without any cell yet."""
        return self.phase(task) == "retrieval" or (self.phase(task) is None and task in RETRIEVAL)

    def metric(self, task: str) -> str | None:
        """Return the main metric of the task, or None for a task without any cell."""
        return self._first[task].metric if task in self._first else None

    @functools.cached_property
    def _first(self) -> dict[str, Record]:
        """{task: one of its records}; within a task, all have the same phase and metric."""
        return {task: record for (_, task, _), record in self.records.items()}

    def trainings_of(self, arm: str) -> list[Record]:
        """Return the results of an arm's phase 2, one for each planned seed that has one."""
        seeds = self.seeds_of.get(arm, self.seeds)
        return [
            record
            for path, record in self.trainings
            if record.arm == arm and record.seed in seeds and is_placed(path, record)
        ]

    def languages(self, task: str) -> list[str]:
        """Return the languages of the task, English first."""
        found = {lang for (_, one, _), record in self.records.items() if one == task for lang in record.scores}
        return sorted(found, key=lambda language: (language != "en", language))


def collect(
    root: str | Path,
    arms: Sequence[str] = (),
    tasks: Sequence[str] = (),
    seeds: Sequence[int] = (),
    seeds_of: Mapping[str, Sequence[int]] | None = None,
) -> Matrix:
    """Return the matrix below `root`: the given grid, or else the smallest that holds every cell.

    Args:
        seeds_of: {arm: its seeds}, for arms with other seeds than `seeds`.

    Raises:
        UserError: `root` is no folder or holds no usable cell, or `seeds_of` names an arm that is not shown.
    """
    root = Path(root)
    below = results.listing(root)
    problems = list(below.problems)
    every_training, results_of = read_all(below, problems)
    trainings = [(path, record) for path, record in every_training if record.phase == "mlm" or is_placed(path, record)]
    failed, begun = results.failures(below), results.unfinished(below)
    problems += _run_problems(failed, begun)
    records, paths = _one_for_each_cell(results_of, problems)
    arms = _plain_first(arms or sorted({arm for arm, _, _ in results_of}))
    if results_of and (absent := [arm for arm in seeds_of or {} if arm not in arms]):
        raise UserError(f"--seeds_of {absent[0]}: no results of this arm below {root}. Correct it, or give --arms.")
    # Targets before retrieval, as in XTREME's tables.
    phase = {task: found[0][1].phase for (_, task, _), found in results_of.items()}
    tasks = list(dict.fromkeys(tasks)) or sorted(phase, key=lambda task: (phase[task] == "retrieval", task))
    usual = list(dict.fromkeys(seeds)) or sorted({seed for _, _, seed in results_of})
    planned = {arm: list(dict.fromkeys((seeds_of or {}).get(arm, usual))) for arm in arms}
    seeds = list(dict.fromkeys([*usual, *itertools.chain.from_iterable(planned.values())]))
    grid = [(arm, task, seed) for arm, task in itertools.product(arms, tasks) for seed in planned[arm]]
    records = {key: records[key] for key in grid if key in records}
    for task in tasks:
        keep_comparable(task, records, trainings, problems)
    name_other_seeds(trainings, planned, problems)
    name_rehearsals(records, trainings, problems)
    problems = [printable(problem) for problem in [*problems, *outdated_lines(root, records, every_training)]]
    if not records:
        more = f" And {count(len(problems) - 1, 'more problem')}." if len(problems) > 1 else ""
        detail = f" {problems[0]}{more}" if problems else " Run `make matrix`, or give another --runs_dir."
        raise UserError(f"no usable results below {root}.{detail}")
    return Matrix(
        root=root,
        arms=arms,
        tasks=tasks,
        seeds=seeds,
        seeds_of=planned,
        records=records,
        paths={key: paths[key] for key in records},
        trainings=trainings,
        cells=pd.DataFrame([cell_row(key, record) for key, record in records.items()]),
        missing=[key for key in grid if key not in records],
        problems=problems,
        left_out=_left_out(results_of, {"arms": arms, "tasks": tasks, "seeds": seeds}),
        begun=seeds_begun(below),
        failed=set(failed),
        unfinished=set(begun),
    )


def _run_problems(failed: Mapping[str, str], begun: Iterable[str]) -> list[str]:
    """Return a line for each cause of failure, with the folders of its runs, and one for each run without an end."""
    folders: dict[str, list[str]] = {}
    for folder, cause in failed.items():
        folders.setdefault(cause, []).append(folder)
    return [f"{', '.join(those)} failed: {cause}." for cause, those in folders.items()] + [
        f"{folder} was begun and has no result: it was killed, or is still at work." for folder in begun
    ]


def _one_for_each_cell(
    results_of: Mapping[CellKey, list[tuple[str, Record]]], problems: list[str]
) -> tuple[dict[CellKey, Record], dict[CellKey, str]]:
    """Return ({cell: record}, {cell: path}) of the cells with one result; add the others to `problems`."""
    records, paths = {}, {}
    for key, found in results_of.items():
        if len(found) > 1:
            names = " and ".join(path for path, _ in found)
            problems.append(f"{cell_name(key)}: {len(found)} results for one cell ({names}); the cell is left blank.")
        else:
            paths[key], records[key] = found[0]
    return records, paths


def _left_out(results_of: Iterable[CellKey], grid: Mapping[str, Sequence[str] | Sequence[int]]) -> str:
    """Return the arms, tasks and seeds that have results but are not in the grid, as text."""
    axes = zip(grid.items(), zip(*results_of, strict=True), strict=True)
    beside = {kind: sorted(set(found) - set(shown)) for (kind, shown), found in axes}
    return "; ".join(f"{kind} {', '.join(map(str, those))}" for kind, those in beside.items() if those)


@functools.lru_cache(maxsize=32)  # every table asks for it again
def over_seeds(matrix: Matrix, column: str = "score") -> pd.DataFrame:
    """Return mean, sd (n - 1 in the divisor), n and seeds of a column of `cells`, one row for each (arm, task).

    Seeds at chance stay out, unless all are: then the row shows them and `chance` is "all". With some, it is "some".
    """
    cells = matrix.cells
    groups: dict[tuple[str, str], list[tuple[int, float, bool]]] = {}
    for arm, task, *cell in zip(*(cells[name] for name in ("arm", "task", "seed", column, "at_chance")), strict=True):
        groups.setdefault((arm, task), []).append(tuple(cell))
    rows = []
    for (arm, task), found in groups.items():
        at_chance = [cell_at_chance for _, _, cell_at_chance in found]
        used = found if all(at_chance) else [one for one in found if not one[2]]
        rows.append(
            {
                "arm": arm,
                "task": task,
                **_spread([value for _, value, _ in used]),
                "seeds": tuple(sorted(seed for seed, _, _ in used)),
                "chance": "all" if all(at_chance) else "some" if any(at_chance) else "",
            }
        )
    return pd.DataFrame(rows).set_index(["arm", "task"])


@functools.lru_cache(maxsize=32)
def rows_over_seeds(matrix: Matrix, column: str = "score") -> dict[tuple[str, str], dict[str, Any]]:
    """Return the rows of `over_seeds` by (arm, task)."""
    return over_seeds(matrix, column).to_dict("index")


@functools.lru_cache(maxsize=2)
def rows_of_differences(matrix: Matrix) -> dict[tuple[str, str], dict[str, Any]]:
    """Return the rows of `differences` by (arm, task)."""
    return differences(matrix).to_dict("index")


@functools.lru_cache(maxsize=2)
def _by_seed(matrix: Matrix) -> dict[CellKey, tuple[float, bool]]:
    """Return {(arm, task, seed): (score, at chance)}."""
    cells = matrix.cells
    keys = zip(cells["arm"], cells["task"], cells["seed"], strict=True)
    return dict(zip(keys, zip(cells["score"], cells["at_chance"], strict=True), strict=True))


@functools.lru_cache(maxsize=32)
def differences(matrix: Matrix) -> pd.DataFrame:
    """Return the score of each (arm, task) less that of arm `none`, over the seeds planned for both: mean, sd,
    n, chance, reason.

    `mean` is NaN, and `reason` says why, where `none` has no such cell or not the same of these seeds. `chance` marks
    rows in which every seed of either side is at chance.
    """
    scores, by_seed, rows = rows_over_seeds(matrix), _by_seed(matrix), []
    for (arm, task), row in scores.items():
        if arm == PLAIN:
            continue
        out = {"arm": arm, "task": task, "mean": np.nan, "sd": np.nan, "n": 0, "chance": row["chance"], "reason": ""}
        rows.append(out)
        if (PLAIN, task) not in scores:
            out["reason"] = f"arm {PLAIN} has no {task}"
            continue
        plain, common = scores[PLAIN, task], matrix.common_seeds(arm, PLAIN)
        ours, theirs = ([seed for seed in common if seed in side["seeds"]] for side in (row, plain))
        if ours != theirs or not ours:
            found = (" ".join(map(str, side["seeds"])) for side in (row, plain))
            out["reason"] = f"{task}: seeds {next(found)}, but {next(found)} in {PLAIN}"
            continue
        out |= _spread([by_seed[arm, task, seed][0] - by_seed[PLAIN, task, seed][0] for seed in ours])
        out["chance"] = "all" if "all" in (row["chance"], plain["chance"]) else row["chance"]
    columns = ["arm", "task", "mean", "sd", "n", "chance", "reason"]
    return pd.DataFrame(rows, columns=columns).set_index(["arm", "task"])


def averages(matrix: Matrix, tasks: Sequence[str]) -> pd.DataFrame:
    """Return the mean over `tasks` of each arm, see `_averages`."""
    return _averages(matrix, tuple(tasks))


@functools.lru_cache(maxsize=32)
def _averages(matrix: Matrix, tasks: tuple[str, ...]) -> pd.DataFrame:
    """Return the plain mean over `tasks` of the task scores, one row for each arm: mean, sd, n, tasks, reason,
    difference, difference_sd.

    A missing cell leaves the row blank (NaN). A task that is at chance in every seed is left out of the row, and so is
    a seed in which one task is at chance; `reason` says so, and `tasks` are those that were averaged. The difference
    to `none` is over the same tasks and the seeds planned for both, NaN where they are not the same.
    """
    scores, by_seed = rows_over_seeds(matrix), _by_seed(matrix)
    rows, per_seed = {}, {}
    for arm in matrix.arms:
        gaps = [key for key in matrix.missing if key[0] == arm and key[1] in tasks]
        if gaps or not tasks:
            reason = ", ".join(f"{task} seed {seed}" for _, task, seed in gaps)
            reason = f"missing {reason}" if gaps else "no such task"
            rows[arm] = {**_spread([]), "tasks": (), "reason": reason}
            continue
        used = [task for task in tasks if scores[arm, task]["chance"] != "all"]
        reasons = [f"without {task}: at chance" for task in tasks if task not in used]
        values, planned = {}, matrix.common_seeds(arm)
        if planned != matrix.seeds:
            reasons.append(f"over {seeds_text(planned)} only")
        for seed in planned:
            at_chance = [task for task in used if by_seed[arm, task, seed][1]]
            if at_chance:
                reasons.append(f"without seed {seed}: {', '.join(at_chance)} at chance")
            elif used:
                values[seed] = float(np.mean([by_seed[arm, task, seed][0] for task in used]))
        per_seed[arm] = values
        spread = _spread(list(values.values()))
        rows[arm] = {**spread, "tasks": tuple(used), "reason": "; ".join(reasons)}
    for arm, row in rows.items():
        plain = rows.get(PLAIN, {"tasks": ()})
        common = set(matrix.common_seeds(arm, PLAIN))
        same = (
            row["tasks"]
            and row["tasks"] == plain["tasks"]
            and common & set(per_seed[arm]) == common & set(per_seed[PLAIN])
        )
        pairs = (
            [per_seed[arm][seed] - per_seed[PLAIN][seed] for seed in per_seed[arm] if seed in common] if same else []
        )
        spread = _spread(pairs)
        row |= {"difference": spread["mean"], "difference_sd": spread["sd"]}
    return pd.DataFrame.from_dict(rows, orient="index")


def average_groups(matrix: Matrix) -> dict[str, list[str]]:
    """Return {name of an average: its tasks}: without and with retrieval, those that are different sets. A task that
    has no cell yet counts as what it will be."""
    targets = [task for task in matrix.tasks if not matrix.is_retrieval(task)]
    if not targets or targets == matrix.tasks:
        return {"all tasks": matrix.tasks}
    return {"without retrieval": targets, "with retrieval": matrix.tasks}


def whole_seeds(matrix: Matrix, task: str) -> dict[str, list[int]]:
    """Return {arm: the seeds that a curve over layers is of}: those measured at the layers of its fullest seed.

    With a seed that has fewer layers, a step of the curve would be one from seeds to other seeds.
    """
    layers: dict[str, dict[int, frozenset]] = {}
    for (arm, one, seed), record in matrix.records.items():
        if one == task:
            layers.setdefault(arm, {})[seed] = frozenset(record.by_layer)
    return {
        arm: [seed for seed, those in by_seed.items() if those == max(by_seed.values(), key=len)]
        for arm, by_seed in layers.items()
    }


@functools.lru_cache(maxsize=2)  # asked for by every task
def by_layer(matrix: Matrix) -> pd.DataFrame:
    """Return retrieval by layer, mean over languages of the main metric: task, arm, layer, seed, score, chosen.

    Of each arm the seeds of `whole_seeds`. Empty when only one layer was measured. `chosen` marks the layer whose
    scores are the result's.
    """
    rows = []
    whole = {task: whole_seeds(matrix, task) for task in matrix.tasks_of("retrieval")}
    for (arm, task, seed), record in matrix.records.items():
        for layer, scores in record.by_layer.items() if seed in whole.get(task, {}).get(arm, []) else ():
            rows.append((task, arm, layer, seed, mean(scores).get(record.metric, np.nan), layer == record.layer))
    frame = pd.DataFrame(rows, columns=["task", "arm", "layer", "seed", "score", "chosen"])
    return frame if frame["layer"].nunique() > 1 else frame.iloc[:0]


def _spread(values: Sequence[float]) -> dict[str, float]:
    """Return mean (NaN of none), sd (NaN below two values) and n of the values that are not NaN."""
    known = np.array([value for value in values if value == value], dtype=float)
    return {
        "mean": float(known.mean()) if len(known) else np.nan,
        "sd": float(known.std(ddof=1)) if len(known) > 1 else np.nan,
        "n": len(known),
    }


def _plain_first(arms: Iterable[str]) -> list[str]:
    return sorted(dict.fromkeys(arms), key=lambda arm: arm != PLAIN)
