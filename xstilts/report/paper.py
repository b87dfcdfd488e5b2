"""A paper's claims beside what a matrix finds: each with a difference, its interval and a verdict.

The claims are in a YAML file (recipes/claims/*.yaml), written before the runs:

    about: Phang et al. 2020, with XLM-R Large      # whose claims
    margin: 1.0                                     # points that "not higher" may be missed by
    claims:
      squad:                                        # a short name
        claim: SQuAD first raises the targets       # in a sentence of ours
        paper: "+8.4 on average"                    # what the paper found, and where it says so
        arms: [squad]                               # the mean over these, or, with `each`, one after the other
        against: [none]                             # less the mean over these; none unless given
        tasks: targets                              # targets, retrieval, all, or a list of tasks
        expect: higher                              # or: not higher, each higher, not each higher
        pick: dev                                   # optional: of `arms`, for each task the best on English dev
        why: An encoder of another size             # optional: why it may differ

Scores are those of the matrix (`Matrix.cells`). Differences are paired over seeds; the interval is the paired
t-interval over seeds, which takes the test rows as given. A seed in which a training is at chance is left out,
and the notes name it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from xstilts.cli import user_files
from xstilts.cli.arms import known_or_near
from xstilts.cli.words import short
from xstilts.errors import UserError
from xstilts.report import statistics
from xstilts.report.cells import Cell, Table
from xstilts.report.matrix import PLAIN, Matrix
from xstilts.report.numbers import interval_of, signed
from xstilts.run.files import write_text

EXPECTED = ("higher", "not higher", "each higher", "not each higher")
GROUPS = ("targets", "retrieval", "all")
REPEATS, CONTRADICTS, UNDECIDED, NOT_RUN = "repeats", "contradicts", "undecided", "not run"


@dataclass(frozen=True)
class Claim:
    """One claim, see the module's docstring."""

    name: str
    claim: str
    paper: str
    arms: tuple[str, ...]
    expect: str
    tasks: tuple[str, ...]  # names of tasks, or one of GROUPS
    against: tuple[str, ...] = (PLAIN,)
    pick: str | None = None
    why: str = ""


@dataclass(frozen=True)
class Judgement:
    """The result of one claim: a difference in points for each arm (one, unless the claim is of `each`)."""

    claim: Claim
    differences: dict[str, tuple[float, ...]]  # {arms: one value for each seed}
    verdict: str
    notes: tuple[str, ...] = ()

    def interval(self, arms: str) -> tuple[float, float] | None:
        """The 95 % interval over seeds, None with one seed."""
        values = self.differences[arms]
        return statistics.t_interval(values) if len(values) > 1 else None


def read_claims(path: str | Path) -> tuple[list[Claim], str, float]:
    """Return (the claims in a YAML file, whose they are, the margin in points).

    Raises:
        UserError: naming the file, the claim and the key that is missing, unknown or of the wrong kind.
    """
    values = user_files.read_yaml(path, "--claims")
    known = ("about", "margin", "claims", "description")
    for key in values:
        if key not in known:
            raise UserError(f"--claims {path}: the key {short(key)!r} is unknown.{known_or_near(key, known)}")
    if not isinstance(values.get("about"), str) or not isinstance(values.get("claims"), dict):
        raise UserError(
            f"--claims {path}: expected `about: whose claims` and `claims:` with one entry a claim, see "
            "recipes/claims."
        )
    try:
        margin = float(values.get("margin", statistics.MARGIN))
    except (TypeError, ValueError):
        margin = float("nan")
    if not 0 < margin < 100:
        raise UserError(f"--claims {path}: margin {values['margin']!r}, expected points above 0.")
    return [_claim(path, name, entry) for name, entry in values["claims"].items()], values["about"], margin


def _claim(path: str | Path, name: str, entry: object) -> Claim:
    known = ("claim", "paper", "arms", "expect", "tasks", "against", "pick", "why")
    if not isinstance(entry, dict):
        raise UserError(f"--claims {path}: {name}: expected keys {', '.join(known)}.")
    for key in entry:
        if key not in known:
            raise UserError(f"--claims {path}: {name}: the key {short(key)!r} is unknown.{known_or_near(key, known)}")
    missing = [key for key in ("claim", "paper", "arms", "expect", "tasks") if not entry.get(key)]
    if missing:
        raise UserError(f"--claims {path}: {name}: {', '.join(missing)} missing.")
    values = dict(entry)
    for key in ("claim", "paper", "expect", "pick", "why"):
        if not isinstance(values.get(key, ""), str):
            raise UserError(f"--claims {path}: {name}: {key} is {values[key]!r}, expected text.")
    for key in ("arms", "against", "tasks"):
        given = values.get(key, [PLAIN])
        is_list = isinstance(given, list) and given and all(isinstance(one, str) for one in given)
        if not is_list and not (key == "tasks" and given in GROUPS):
            raise UserError(
                f"--claims {path}: {name}: {key} is {given!r}, expected a list of names"
                + (f", or one of {', '.join(GROUPS)}." if key == "tasks" else ".")
            )
        values[key] = tuple(given) if isinstance(given, list) else (given,)
    if values["expect"] not in EXPECTED:
        raise UserError(
            f"--claims {path}: {name}: expect is {values['expect']!r}, expected one of: {', '.join(EXPECTED)}."
        )
    if values.get("pick") not in (None, "dev"):
        raise UserError(f"--claims {path}: {name}: pick is {values['pick']!r}, expected dev.")
    return Claim(name=name, **values)


def judge(matrix: Matrix, claims: Iterable[Claim], margin: float = statistics.MARGIN) -> list[Judgement]:
    """Return the result of each claim."""
    return [_judge_claim(matrix, claim, margin) for claim in claims]


def _judge_claim(matrix: Matrix, claim: Claim, margin: float) -> Judgement:
    tasks = {
        "targets": matrix.tasks_of("target"),
        "retrieval": matrix.tasks_of("retrieval"),
        "all": list(matrix.tasks),
    }.get(claim.tasks[0], list(claim.tasks))
    needed = [*claim.arms, *claim.against]
    absent = [arm for arm in dict.fromkeys(needed) if arm not in matrix.arms] + [
        task for task in tasks if task not in matrix.tasks
    ]
    if absent or not tasks:
        return Judgement(claim, {}, NOT_RUN, (f"not run: {', '.join(absent) or 'no such task'}",))
    notes: list[str] = []
    against = _means(matrix, claim.against, tasks, notes)
    sides = [(arm,) for arm in claim.arms] if "each" in claim.expect else [claim.arms]
    differences = {}
    for arms in sides:
        treated = _picked(matrix, arms, tasks, notes) if claim.pick else _means(matrix, arms, tasks, notes)
        seeds = sorted(treated.keys() & against.keys())
        name = " ".join(arms)
        differences[name] = tuple(treated[seed] - against[seed] for seed in seeds)
        if not seeds:
            return Judgement(
                claim,
                {},
                NOT_RUN,
                (*dict.fromkeys(notes), f"no seed has all cells of {name} and {' '.join(claim.against)}"),
            )
    return Judgement(claim, differences, _verdict(claim, differences, margin), tuple(dict.fromkeys(notes)))


def _means(matrix: Matrix, arms: Sequence[str], tasks: Sequence[str], notes: list[str]) -> dict[int, float]:
    """Return {seed: mean over arms and tasks of the score}, of the seeds that have every cell, none of them at
    chance."""
    cells = matrix.cells.set_index(["arm", "task", "seed"])
    found = {}
    for seed in matrix.common_seeds(*arms):
        keys = [(arm, task, seed) for arm in arms for task in tasks]
        missing = [key for key in keys if key not in cells.index]
        at_chance = [key for key in keys if key not in missing and cells.loc[key, "at_chance"]]
        if not missing and not at_chance:
            found[seed] = float(np.mean([cells.loc[key, "score"] for key in keys]))
        elif at_chance:
            notes.append(
                f"seed {seed} is left out: {', '.join(f'{arm} {task}' for arm, task, _ in at_chance)} at chance"
            )
        elif len(missing) < len(keys):
            notes.append(f"seed {seed} is left out: {len(missing)} of {len(keys)} cells are not there")
    return found


def _picked(matrix: Matrix, arms: Sequence[str], tasks: Sequence[str], notes: list[str]) -> dict[int, float]:
    """Return {seed: mean over tasks of the score of the arm that is best on English dev there, mean over seeds}."""
    dev = matrix.cells[matrix.cells["arm"].isin(arms) & ~matrix.cells["at_chance"].astype(bool)]
    chosen = {}
    for task in tasks:
        means = dev[dev["task"] == task].groupby("arm")["dev"].mean().dropna()
        if means.empty:
            notes.append(f"{task} has no English dev score to pick an arm by")
            return {}
        chosen[task] = means.idxmax()
    notes.append(f"picked: {', '.join(f'{arm} for {task}' for task, arm in chosen.items())}")
    by_task = [_means(matrix, [arm], [task], notes) for task, arm in chosen.items()]
    seeds = set.intersection(*(set(scores) for scores in by_task))
    return {seed: float(np.mean([scores[seed] for scores in by_task])) for seed in seeds}


def _verdict(claim: Claim, differences: dict[str, tuple[float, ...]], margin: float) -> str:
    """Return repeats, contradicts or undecided; with one seed it is undecided.

    "Higher" repeats if the interval lies above 0 and is contradicted if it lies below. "Not higher" is contradicted if
    it lies above 0, and repeats if it ends below the margin.
    """
    if any(len(values) < 2 for values in differences.values()):
        return UNDECIDED
    spans = [statistics.t_interval(values) for values in differences.values()]
    above = [low > 0 for low, _ in spans]
    if claim.expect.startswith("not"):
        return CONTRADICTS if all(above) else REPEATS if any(high < margin for _, high in spans) else UNDECIDED
    return REPEATS if all(above) else CONTRADICTS if any(high < 0 for _, high in spans) else UNDECIDED


# ---- tables ---------------------------------------------------------------------------------------------------------


def table(judgements: Sequence[Judgement], about: str) -> Table:
    """Return one row for each claim: the paper's figure, the difference here, the verdict, why it may differ."""
    rows = []
    for one in judgements:
        here = "; ".join(_difference(one, arms, len(one.differences) > 1) for arms in one.differences)
        seeds = " to ".join(map(str, sorted({len(values) for values in one.differences.values()})))
        why = ". ".join(part.rstrip(".") for part in (one.claim.why, *one.notes) if part)
        texts = [one.claim.paper, here, seeds, one.verdict, why]
        rows.append((one.claim.claim, [Cell(text, bold=i == 3) for i, text in enumerate(texts)]))
    heads = ["claim", "the paper", "here: difference in points [95 % interval]", "seeds", "verdict", "notes"]
    return Table(f"The claims of {about}", heads, rows)


def _difference(one: Judgement, arms: str, named: bool) -> str:
    interval = one.interval(arms)
    span = f" [{interval_of(interval)}]" if interval else ""
    return (f"{arms} " if named else "") + signed(float(np.mean(one.differences[arms]))) + span


def write(judgements: Sequence[Judgement], about: str, output_dir: str | Path) -> Table:
    """Write claims.csv and claims.md; return the table for the page.

    Raises:
        UserError: `output_dir` cannot be written.
    """
    write_text(Path(output_dir, "claims.csv"), as_frame(judgements).to_csv(index=False, lineterminator="\n"))
    write_text(Path(output_dir, "claims.md"), markdown(judgements, about))
    return table(judgements, about)


def as_frame(judgements: Sequence[Judgement]) -> pd.DataFrame:
    """Return one row for each difference, unrounded: what claims.csv holds."""
    rows = []
    for one in judgements:
        base = {
            "claim": one.claim.name,
            "text": one.claim.claim,
            "paper": one.claim.paper,
            "expect": one.claim.expect,
            "against": " ".join(one.claim.against),
            "tasks": " ".join(one.claim.tasks),
            "verdict": one.verdict,
            "why": one.claim.why,
            "notes": "; ".join(one.notes),
        }
        for arms, values in (one.differences or {" ".join(one.claim.arms): ()}).items():
            low, high = (one.interval(arms) if values else None) or (np.nan, np.nan)
            rows.append(
                base
                | {
                    "arms": arms,
                    "difference": np.mean(values) if values else np.nan,
                    "low": low,
                    "high": high,
                    "by_seed": " ".join(f"{value:.6f}" for value in values),
                }
            )
    return pd.DataFrame(rows)


def markdown(judgements: Sequence[Judgement], about: str) -> str:
    """Return claims.md: how to read it, then the table."""
    return "\n".join(
        [
            f"# The claims of {about}, and what these runs say\n",
            "A difference is the mean over the tasks named, paired over seeds, with the paired t-interval over seeds; "
            "the test rows are taken as given.",
            "*Repeats*: the interval lies on the side that the paper claims. *Contradicts*: it lies on the other "
            "side. *Undecided*: neither, which does not prove equality.\n",
            table(judgements, about).markdown(),
        ]
    )
