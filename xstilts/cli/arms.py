"""Parse an arm's name, `base[+modifier]*`, and read its files in recipes/ (docs/arms.md).

Uses the standard library only, because `make` needs arms before an environment exists. `read_recipe` therefore parses
a small part of YAML; the scripts read the same files with `xstilts.cli.user_files`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from tasks import NATIVE, ONE_TEXT, PAIR_NAMES, PARALLEL, RETRIEVAL, TAGGED, TASKS
from tasks.errors import UserError, did_you_mean
from xstilts.cli.user_files import read_text

ARMS, MODIFIERS = Path("recipes/arms"), Path("recipes/modifiers")
PLAIN = "none"  # the arm without phase 2
SCRIPT = "run_intermediate.py"  # for a base without the key `script`
OF_TEXT = {f"mlm_{task}": task for task in TASKS if task not in (*RETRIEVAL, *TAGGED)}
ABOUT = ("description", "needs", "script")  # keys of a recipe that are not arguments
LINE = re.compile(r"( *)([\w.-]+): *(.*?) *")

# what a modifier may need of a task or its train rows (its key `needs`): (whether a task has it, the error if not)
NEEDS: dict[str, tuple[Callable[[str], bool], str]] = {
    "head": (lambda task: task not in PAIR_NAMES, "trains a dual encoder, which has no head"),
    "pairs": (lambda task: task in PAIR_NAMES, "trains a head, not a dual encoder"),
    "languages": (
        lambda task: task in (*PARALLEL, *NATIVE),
        "has English train rows only (PARALLEL and NATIVE in tasks/__init__.py)",
    ),
    "translations": (
        lambda task: task in PARALLEL,
        "has no English train rows in translation (PARALLEL in tasks/__init__.py)",
    ),
    "two_texts": (lambda task: task not in ONE_TEXT, "has one text a row, which cannot be in two languages"),
    "words": (lambda task: task not in TAGGED, "has a tag for each word, so words cannot be replaced"),
}


@dataclass(frozen=True)
class Arm:
    """An arm, and the command that trains it.

    Attributes:
        script: the script's file name.
        words: its arguments: `--tasks TASK` or `--text_of TASK` if no file says it, then `--config` and the files.
    """

    base: str
    modifiers: tuple[str, ...]
    script: str
    words: tuple[str, ...]


@dataclass(frozen=True)
class Recipe:
    """A file of recipes/arms or recipes/modifiers. Values are text.

    Attributes:
        path: the file; None for a task, which needs none.
        about: description, needs, script.
        arguments: {script: {argument: value}}; the key "" has arguments for every script.
    """

    path: Path | None
    about: dict[str, str]
    arguments: dict[str, dict[str, str]]

    def of(self, script: str) -> dict[str, str] | None:
        """Return the arguments for a script; None if the file has none for it."""
        if set(self.arguments) == {""}:
            return self.arguments[""] if self.about.get("script", script) == script else None
        return self.arguments.get(script)

    @property
    def scripts(self) -> list[str]:
        """The scripts that the file is for."""
        return [name for name in self.arguments if name] or [self.about.get("script", "every script")]


def words_of(value: str) -> list[str]:
    """Return the words of a value as a file has it: `[a, b]` or `a`."""
    return [word.strip("'\"") for word in re.split(r"[\[\],\s]+", value) if word]


def read_recipe(path: Path) -> Recipe:
    """Read a recipe: lines `key: value`, or a script's name and its lines, indented.

    Raises:
        UserError: the file is not text, has another kind of line or a repeated key, or has lines both for every script
            and for one script.
    """
    about: dict[str, str] = {}
    arguments: dict[str, dict[str, str]] = {"": {}}
    section = ""
    for number, line in enumerate(read_text(path, "recipe").splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        found = LINE.fullmatch(line)
        if not found or (found[1] and not section):
            raise UserError(
                f"{path}, line {number}: expected `key: value` with a list as [a, b], found {line.strip()[:60]!r}."
            )
        indent, key, value = found.groups()
        section = section if indent else ""
        place = about if key in ABOUT and not indent else arguments[section]
        if value[:1] not in "'\"" and " #" in value:
            raise UserError(f"{path}, line {number}: put the comment on a line of its own.")
        if key in place or key in arguments:
            raise UserError(f"{path}, line {number}: {key} is given twice.")
        if key.endswith(".py") and not indent and not value:
            section, arguments[key] = key, {}
        else:
            place[key] = value
    if arguments[""] and len(arguments) > 1:
        raise UserError(
            f"{path}: {next(iter(arguments['']))} belongs to no script. Indent it below "
            f"{', '.join(filter(None, arguments))}."
        )
    if len(arguments) > 1:
        del arguments[""]
    script = about.get("script", SCRIPT)
    if not re.fullmatch(r"[\w./-]+\.py", script):
        raise UserError(f"{path}: script: {script}: expected the name of a .py file.")
    return Recipe(path, about, arguments)


def bases() -> list[str]:
    """Return the bases: the files of recipes/arms, the tasks and pairs that can be trained, and mlm_TASK.

    Raises:
        UserError: a file's name cannot be a base.
    """
    files = sorted(path.stem for path in ARMS.glob("*.yaml"))
    if wrong := [name for name in files if "+" in name or name == PLAIN]:
        raise UserError(
            f"{ARMS}/{wrong[0]}.yaml: a base cannot have this name. Modifiers (after a +) belong in {MODIFIERS}."
        )
    trained = [task for task in TASKS if task not in RETRIEVAL]
    return list(dict.fromkeys([*files, *trained, *PAIR_NAMES, *OF_TEXT]))


def modifiers() -> list[str]:
    """Return the names that may come after a +: the files of recipes/modifiers."""
    return sorted(path.stem for path in MODIFIERS.glob("*.yaml"))


FEW = 12  # names that a message lists
SEE_HELP = " `make help` lists them."


def known_or_near(name: str, names: Iterable[str], more: str = "") -> str:
    """Return what to write after "NAME is unknown.": the nearest name and `more`, or the names if they are few."""
    names = list(names)
    if near := did_you_mean(name, names, cutoff=0.5):
        return near + more
    return f" Known: {' '.join(names)}." if len(names) <= FEW else more


def read_arm(name: str) -> Arm:
    """Return the arm with this name.

    Raises:
        UserError: an unknown base or modifier (with the nearest name), or modifiers that do not fit the base or each
            other.
    """
    base, *more = name.split("+")
    known, known_modifiers = bases(), modifiers()
    prefix = f"{name}: " if more else ""
    if base == PLAIN:
        raise UserError(f"{prefix}{PLAIN} trains nothing.")
    if base in RETRIEVAL and base not in known:
        raise UserError(f"{prefix}{base} is measured without training. Give RETRIEVAL={base}.")
    if base not in known:
        raise UserError(f"{prefix}{base} is unknown.{known_or_near(base, [PLAIN, *known], SEE_HELP)}")
    for modifier in more:
        if modifier not in known_modifiers:
            raise UserError(
                f"{name}: {modifier or 'an empty name'} is not a modifier."
                f"{known_or_near(modifier, known_modifiers, SEE_HELP)}"
            )
    if len(set(more)) < len(more):
        raise UserError(f"{name}: a modifier is given twice.")
    own, words = _read_base(base)
    script = own.about.get("script", SCRIPT)
    recipes = {modifier: read_recipe(MODIFIERS / f"{modifier}.yaml") for modifier in more}
    _check(name, script, own.of(script) or {}, recipes)
    files = [str(recipe.path) for recipe in (own, *recipes.values()) if recipe.path]
    return Arm(base, tuple(more), script, (*words, *(["--config", *files] if files else [])))


def _read_base(base: str) -> tuple[Recipe, list[str]]:
    """Return a base's recipe, and its arguments that are in no file."""
    path = ARMS / f"{base}.yaml"
    if path.is_file():
        return read_recipe(path), []
    if base in OF_TEXT:  # masked LM on English text, that of a task's rows
        english = read_recipe(ARMS / "mlm_en.yaml")
        of = {"text_of": OF_TEXT[base]}
        own = Recipe(english.path, english.about, {key: value | of for key, value in english.arguments.items()})
        return own, ["--text_of", OF_TEXT[base]]
    return Recipe(None, {}, {"": {"tasks": base}}), ["--tasks", base]


def _check(name: str, script: str, base: dict[str, str], more: dict[str, Recipe]) -> None:
    """Raise if modifiers do not fit the base or each other.

    Args:
        name: the arm's name, for errors.
        script: the base's script.
        base: the base's arguments.
        more: {modifier: its recipe}.
    """
    trained = next((words_of(base[key]) for key in ("tasks", "text_of") if key in base), [])
    setters: dict[str, str] = {}
    for modifier, recipe in more.items():
        arguments = recipe.of(script)
        if arguments is None:
            raise UserError(
                f"{name}: +{modifier} goes with {', '.join(recipe.scripts)}, and {name.partition('+')[0]} with "
                f"{script}."
            )
        for key, value in arguments.items():
            if key in setters:
                raise UserError(f"{name}: +{setters[key]} and +{modifier} both set {key}. Give one of them.")
            if value in ("", "~", "null") and key not in base:
                raise UserError(f"{name}: +{modifier} changes nothing: {name.partition('+')[0]} sets no {key}.")
            setters[key] = modifier
        for need in words_of(recipe.about.get("needs", "")):
            if need not in NEEDS:
                raise UserError(f"{recipe.path}: needs: {need} is unknown. Known: {' '.join(NEEDS)}.")
            has, why = NEEDS[need]
            # in a mixture one such task is enough: the others keep their rows, or the run reports the error
            if trained and not any(map(has, trained)):
                raise UserError(f"{name}: +{modifier} is impossible: {', '.join(trained)} {why}.")
