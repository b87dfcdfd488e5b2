"""The question of `make question`: a YAML file that says what is compared, fixed before the results are seen.

task: tatoeba
families:              # one intermediate task each: {role: arm}. The other arms are compared with E, the English arm
  nli: {E: xnli, M: xnli+multilingual, shuffled: xnli+shuffled}
primary: {family: nli, role: M}   # M - E on unseen languages: the one contrast without a correction for several
select_languages: [cs, da]        # the layer is chosen on these, with `none` and the E arms; they are not reported
fixed_layer: 14                   # optional second read-out; without select_languages the only one
margin: 1.0                       # points within which two arms count as equivalent
coverage: xlmr                    # optional list of tasks/coverage.py, which also splits seen and unseen languages
curve: {topic: [E, M4, M16]}      # optional: roles of a family with different numbers of languages, drawn as a curve
"""

import re
import reprlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tasks import TASKS, get_task
from tasks.coverage import COVERAGE
from tasks.errors import UserError
from xstilts.cli import user_files
from xstilts.cli.arms import known_or_near
from xstilts.cli.words import short
from xstilts.report import statistics
from xstilts.report.matrix import PLAIN

ENGLISH = "E"


@dataclass(frozen=True)
class Spec:
    """What is asked, see the module's docstring."""

    families: dict[str, dict[str, str]]
    primary: tuple[str, str]
    task: str = "tatoeba"
    select_languages: tuple[str, ...] = ()
    fixed_layer: int | None = None
    margin: float = statistics.MARGIN
    coverage: str | None = None
    curve: dict[str, list[str]] = field(default_factory=dict)

    @property
    def arms(self) -> list[str]:
        """Every arm named, `none` first."""
        return list(dict.fromkeys([PLAIN, *(arm for roles in self.families.values() for arm in roles.values())]))


def read_spec(path: str | Path) -> Spec:
    """Return the question in a YAML file.

    Raises:
        UserError: naming the file and the key that is missing, unknown or of the wrong kind.
    """
    values = user_files.read_yaml(path, "--question")
    values.pop("description", None)
    known = tuple(Spec.__dataclass_fields__)
    for key in values:
        if key not in known:
            raise UserError(f"--question {path}: the key {short(key)!r} is unknown.{known_or_near(key, known)}")
    missing = [key for key in ("families", "primary") if values.get(key) is None]
    if missing:
        raise UserError(
            f"--question {path}: {', '.join(missing)} missing, see recipes/question for what it looks like."
        )
    for key, (fits, expected) in _SHAPES.items():
        if values.get(key) is not None and not fits(values[key]):
            raise UserError(f"--question {path}: {key} is {reprlib.repr(values[key])}, expected {expected}.")
    if (task := values.get("task")) in TASKS and get_task(task).mines:
        raise UserError(
            f"--question {path}: task is {task}, whose F1 is no mean over queries. Expected a retrieval task with a "
            "score for each query, such as tatoeba."
        )
    families, primary = values["families"], values["primary"]
    if primary["role"] == ENGLISH or primary["role"] not in families.get(primary["family"], {}):
        have = "; ".join(
            f"{name}: {', '.join(role for role in roles if role != ENGLISH)}" for name, roles in families.items()
        )
        raise UserError(
            f"--question {path}: primary is {primary['family']} {primary['role']}, no family's role. There are {have}."
        )
    if not values.get("select_languages") and values.get("fixed_layer") is None:
        raise UserError(f"--question {path}: give select_languages, to choose the layer on, or a fixed_layer.")
    for family, roles in (values.get("curve") or {}).items():
        absent = [role for role in roles if role not in families.get(family, {})]
        if absent:
            raise UserError(f"--question {path}: curve names {family} {' '.join(absent)}, no family's role.")
    given = {key: value for key, value in values.items() if value is not None}
    given |= {key: kind(given[key]) for key, kind in (("fixed_layer", int), ("margin", float)) if key in given}
    return Spec(
        **given
        | {
            "primary": (primary["family"], primary["role"]),
            "select_languages": tuple(given.get("select_languages", ())),
        }
    )


def _is_roles(roles: Any) -> bool:
    return (
        isinstance(roles, dict)
        and ENGLISH in roles
        and all(isinstance(text, str) for text in (*roles, *roles.values()))
    )


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


_SHAPES = {  # key of the file -> (whether a value fits, what is expected)
    "task": (lambda value: isinstance(value, str), "a retrieval task's name"),
    "families": (
        lambda value: (
            isinstance(value, dict) and value and all(map(_is_text, value)) and all(map(_is_roles, value.values()))
        ),
        "lines `name: {E: arm, M: arm, ...}`, each with its English arm E",
    ),
    "primary": (
        lambda value: (
            isinstance(value, dict) and set(value) == {"family", "role"} and all(map(_is_text, value.values()))
        ),
        "{family: ..., role: ...}",
    ),
    "select_languages": (
        lambda value: isinstance(value, list) and all(isinstance(code, str) for code in value),
        "a list of language codes",
    ),
    "fixed_layer": (lambda value: isinstance(value, str) and re.fullmatch("[0-9]{1,4}", value), "a layer's number"),
    "margin": (statistics.is_margin, "points above 0 and below 100"),
    "coverage": (lambda value: value in list(COVERAGE), f"one of: {', '.join(COVERAGE)}"),
    "curve": (
        lambda value: (
            isinstance(value, dict)
            and all(isinstance(roles, list) and roles and all(map(_is_text, roles)) for roles in value.values())
        ),
        "lines `family: [role, role, ...]`",
    ),
}
