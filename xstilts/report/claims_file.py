"""A file of a paper's claims (recipes/claims/*.yaml), which `xstilts.report.paper` judges.

It is best written before the runs:

    about: Phang et al. 2020, with XLM-R Large      # whose claims
    margin: 1.0                                     # points that "not higher" may be missed by
    claims:
      squad:                                        # a short name
        claim: SQuAD first raises the targets       # in a sentence of ours
        paper: "+8.4 on average"                    # what the paper found, and where it says so
        arms: [squad]                               # the mean over these
        against: [none]                             # less the mean over these; none unless given
        tasks: targets                              # targets, retrieval, all, or a list of tasks
        expect: higher                              # or not higher; for each pair (arm, against):
                                                    # each higher, not each higher
        pick: dev                                   # optional: of `arms`, for each task the best on English dev
        why: An encoder of another size             # optional: why it may differ
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tasks.errors import UserError
from xstilts.cli import user_files
from xstilts.cli.arms import known_or_near
from xstilts.cli.words import short
from xstilts.report import statistics
from xstilts.report.matrix import PLAIN

EXPECTED = ("higher", "not higher", "each higher", "not each higher")
GROUPS = ("targets", "retrieval", "all")


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
    if not isinstance(values.get("about"), str) or not isinstance(values.get("claims"), dict) or not values["claims"]:
        raise UserError(
            f"--claims {path}: expected `about: whose claims` and `claims:` with one entry a claim, see "
            "recipes/claims."
        )
    margin = values.get("margin", statistics.MARGIN)
    if not statistics.is_margin(margin):
        raise UserError(f"--claims {path}: margin {margin!r}, expected points above 0 and below 100.")
    return [_claim(path, name, entry) for name, entry in values["claims"].items()], values["about"], float(margin)


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
        if key in values:
            values[key] = " ".join(values[key].split())  # a line of a table
    for key in ("arms", "against", "tasks"):
        given = values.get(key, [PLAIN])
        names = given if isinstance(given, list) else []
        is_list = bool(names) and all(isinstance(one, str) and len(one.split()) == 1 for one in names)
        if not is_list and not (key == "tasks" and given in GROUPS):
            raise UserError(
                f"--claims {path}: {name}: {key} is {given!r}, expected a list of names without blanks"
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
