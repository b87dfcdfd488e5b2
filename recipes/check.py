"""Check a `make` command before anything is built.

    check.py NAME=VALUE ... --typed NAME ... --cleared NAME ... --presets FILE ...

The Makefile calls it. It prints one line on what is wrong, or "checked" and variables, NAME|WORD|...: RECIPE_<arm>,
the script that trains an arm and its arguments, and MEASURED, all tasks that can be targets or retrieval tasks.

Needs no package, because it runs before there is an environment.
"""

import argparse
import re
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # python -I leaves it out

from tasks import RETRIEVAL, TASKS, UNTESTED
from tasks.coverage import COVERAGE
from tasks.errors import UserError, did_you_mean
from xstilts.cli import arms

PATHS = ("OUT", "MODEL", "DATA_ROOT", "TRANSLATIONS", "LEXICON", "QUESTION", "CLAIMS", "VENV", "PY")
NEEDED = ("OUT", "DATA_ROOT", "VENV", "ARMS", "SEEDS")
SPECIAL = set(":;%=~*?[]\\'\"`&|<>(){}!^$#")  # make or the shell gives them a meaning of their own in a target's name
MAKES_OWN = {"INNER", "SHELL", "MAKEFLAGS", "MFLAGS", "MAKEOVERRIDES"}
# {a name that the scripts have: the variable of the Makefile}
OF_SCRIPTS = {
    "TASK": "TARGETS or RETRIEVAL",
    "TASKS": "TARGETS or RETRIEVAL",
    "MODEL_NAME_OR_PATH": "MODEL",
    "OUTPUT_DIR": "OUT",
    "RUNS_DIR": "OUT",
}
OF_ONE = ("ARGS", "FAMILY", "SEEDS")  # ARGS_squad and the like are of one arm or task
LAST_SEED = 2**32 - 1


class Wrong(Exception):
    """An error. Its message is the line that the user reads."""


def nearest(name: str, names: Iterable[str]) -> str:
    """Return " Did you mean NAME?", or "" if no name is near."""
    if name.upper() in OF_SCRIPTS:
        return f" Did you mean {OF_SCRIPTS[name.upper()]}?"
    return did_you_mean(name, names, cutoff=0.5)


def check_names(asked: Iterable[str], makefile: str) -> None:
    """Raise for a variable that the Makefile does not read: it would change nothing."""
    own = {*re.findall(r"^ *([A-Z_]+) \?=", makefile, re.M), "PY"}
    bases = [arms.PLAIN, *arms.bases(), *TASKS]
    for name in asked:
        kind, _, of = name.partition("_")
        if name in own | MAKES_OWN or name.startswith("-") or (kind in OF_ONE and of in bases):
            continue
        if kind in ("ARGS", "SEEDS") and of.split("+")[0] in bases:
            try:
                arms.read_arm(of)
                continue
            except UserError as error:
                raise Wrong(f"{name}=: {error}") from error
        near = nearest(name, [f"{kind}_{base}" for base in bases] if kind in OF_ONE and of else own)
        raise Wrong(f"{name}= is not a variable of this Makefile.{near} `make help` lists them.")


def check_used(asked: Iterable[str], values: dict[str, str]) -> None:
    """Raise for arguments or seeds of an arm or task that is not in the matrix: they would change nothing."""
    named = values["ARMS"].split()
    for name in asked:
        kind, _, of = name.partition("_")
        if not of or kind not in OF_ONE:
            continue
        trained = [arm for arm in named if kind == "SEEDS" or arm != arms.PLAIN]
        if kind == "ARGS" and of in measured():
            if of not in values["TARGETS"].split() + values["RETRIEVAL"].split():
                arm = next((arm for arm in trained if arm.split("+")[0] == of), "")
                hint = f" Arguments of the arm {arm} are FAMILY_{of}." if arm else ""
                raise Wrong(f"{name}= changes nothing: {of} is not among TARGETS and RETRIEVAL.{hint}")
        elif of not in ([arm.split("+")[0] for arm in trained] if kind == "FAMILY" else trained):
            raise Wrong(f"{name}= changes nothing: no arm of ARMS is {'of ' if kind == 'FAMILY' else ''}{of}.")


def offered(preset: str) -> list[str]:
    """Return the variables that a preset sets for the Makefile, each of which it is to read.

    One that the preset reads itself, $(NAME), or exports to programs is its own matter, unless it is set with ?= as
    what a user may give, or its name is that of an arm's arguments.
    """
    text = preset.replace("\\\n", " ")
    own = set(re.findall(r"(?:\$[({](?:call +)?|^ *export +)([\w+.-]+)", text, re.M))
    found = re.findall(r"^ *(?:(?:override|private) +)*(\w[\w+.-]*?) *(\?|:{1,3}|\+|!)?=", text, re.M)
    return [name for name, sign in found if name not in own or sign == "?" or name.split("_")[0] in OF_ONE]


def check_path(name: str, path: str) -> None:
    """Raise Wrong for a path with a character that make or the shell would interpret."""
    found = next((f"the character {letter}" for letter in path if letter in SPECIAL), "")
    found = "blanks" if path.split() not in ([], [path]) else "a - at its beginning" if path.startswith("-") else found
    if found:
        raise Wrong(
            f"{name}='{' '.join(path.split())}': a path here must not hold {found}. Give another, or a link with a "
            "plain name"
        )


def measured() -> list[str]:
    """Return the names of all tasks that can be targets or retrieval tasks."""
    return [name for name in TASKS if name not in UNTESTED]


def check_arms(names: list[str]) -> dict[str, arms.Arm]:
    """Return {name: the arm}, without arm none. Raise Wrong for an arm that cannot be trained, or is named twice."""
    found, names_of = {}, {}
    for name in names:
        if name == arms.PLAIN:
            continue
        try:
            found[name] = arm = arms.read_arm(name)
        except UserError as error:
            raise Wrong(f"ARMS: {error}") from error
        same = names_of.setdefault((arm.base, frozenset(arm.modifiers)), name)
        if same != name:
            raise Wrong(f"ARMS: {same} and {name} are the same arm. Give one of them.")
    return found


def check_lists(values: dict[str, str]) -> dict[str, arms.Arm]:
    """Return {name: the arm} of ARMS.

    Raises:
        Wrong: a name in ARMS, TARGETS or RETRIEVAL is unknown, belongs in another list or is given twice; a seed is
            wrong.
    """
    seeds = [name for name in values if name.startswith("SEEDS")]
    words = {name: values[name].split() for name in ("ARMS", "TARGETS", "RETRIEVAL", *seeds)}
    for name in ("ARMS", "TARGETS", "RETRIEVAL"):
        if "," in values[name]:
            better = " ".join(values[name].replace(",", " ").split())
            raise Wrong(f'{name}={values[name]}: put blanks between names, not commas: {name}="{better}"')
    trained = [name for name in measured() if name not in RETRIEVAL]
    found = check_arms(words["ARMS"])
    for name, ours in (("TARGETS", trained), ("RETRIEVAL", RETRIEVAL)):
        for word in words[name]:
            if word in ours:
                continue
            if name == "TARGETS" and word in RETRIEVAL:
                raise Wrong(f"TARGETS: {word} is measured without training. Give RETRIEVAL={word}.")
            if name == "TARGETS" and word in UNTESTED:
                raise Wrong(f"TARGETS: {word} has no test rows. ARMS={word} trains on it.")
            if name == "RETRIEVAL" and word in trained:
                raise Wrong(f"RETRIEVAL: {word} needs training. Give TARGETS={word}.")
            raise Wrong(f"{name}: {word} is unknown.{arms.known_or_near(word, ours, arms.SEE_HELP)}")
    for name in seeds:
        for seed in words[name]:
            if not is_whole(seed) or int(seed) > LAST_SEED:
                raise Wrong(
                    f"{name}: {seed} is not a seed. Give whole numbers from 0 to {LAST_SEED}, separated by blanks: "
                    f'{name}="0 1 2".'
                )
    for name, given in words.items():
        if twice := [word for word, n in Counter(given).items() if n > 1]:
            raise Wrong(f"{name}: {twice[0]} is given twice.")
    if words["ARMS"] == ["none"] and not words["TARGETS"] + words["RETRIEVAL"]:
        raise Wrong("ARMS=none without TARGETS and RETRIEVAL: there is nothing to do.")
    return found


def is_whole(text: str) -> bool:
    """Whether a text is a whole number without leading zeros: seed01 would be another folder than seed1."""
    return text.isascii() and text.isdecimal() and (text == "0" or text[0] != "0")


def check_model(values: dict[str, str], typed: set[str], preset: str) -> None:
    """Raise Wrong if no model is given, or two are, or MODEL is a folder without one."""
    model, builds = values["MODEL"], [name for name in ("MLM_ARGS", "MODEL_FROM_PACKAGE") if values[name]]
    if not model and not builds:
        raise Wrong(f"PRESET={preset} has no model of its own: give MODEL=, a checkpoint folder or a Hub id.")
    if model and (both := [name for name in builds if name in typed]):
        raise Wrong(f"MODEL={model} is only read, and {both[0]} builds a model: give one of them.")
    package = values["MODEL_FROM_PACKAGE"]
    known = re.findall(
        r'^ *(?:SOURCES = {)?"(\w+)": Source\($', Path("xstilts/dequantise.py").read_text(encoding="utf-8"), re.M
    )
    if package and "/" not in package and package not in known:
        raise Wrong(
            f"MODEL_FROM_PACKAGE={package}: give PACKAGE/FOLDER of an installed package, or one of: {' '.join(known)}"
        )
    path = Path(model)
    if model and (path.is_dir() or model.startswith((".", "/"))) and not (path / "config.json").is_file():
        raise Wrong(f"MODEL={model}: " + ("the folder has no config.json." if path.is_dir() else "no such folder."))


def check_places(values: dict[str, str]) -> None:
    """Raise Wrong if the matrix would write into MODEL, which is only read."""
    out, model = (Path(values[name]).resolve() for name in ("OUT", "MODEL"))
    if not values["MODEL"] or not model.exists():
        return
    if model in (out, *out.parents):
        raise Wrong(f"OUT={values['OUT']} is in MODEL={values['MODEL']}, which is only read. Give another OUT")
    for arm in values["ARMS"].split():
        if (out / arm) in (model, *model.parents):
            raise Wrong(
                f"MODEL={values['MODEL']} is where the arm {arm} of OUT={values['OUT']} is written. Give another OUT"
            )


def nothing_in(folder: Path) -> str:
    """Return what to say of a folder in which nothing can be read, such as a disk that is not mounted; else ""."""
    try:
        return "" if any(folder.iterdir()) else "an empty folder"
    except (FileNotFoundError, NotADirectoryError):
        return "no such folder"
    except OSError as error:
        return str(error.strerror)


def check_world(values: dict[str, str], typed: set[str], preset: str) -> None:
    """Raise Wrong if made-up rows would take the place of rows that the user named.

    A preset's WORLD_ARGS write a world to DATA_ROOT. A DATA_ROOT that is typed without them is one that is there.
    """
    path, root = Path(values["DATA_ROOT"]), f"DATA_ROOT={values['DATA_ROOT']}"
    if "DATA_ROOT" not in typed or "WORLD_ARGS" in typed or (path / "world.json").is_file():
        return
    if problem := nothing_in(path):
        raise Wrong(
            f"{root}: {problem}. Check the path, or add WORLD_ARGS='{values['WORLD_ARGS'].strip()}' to make a "
            "miniature world there"
        )
    raise Wrong(
        f"{root} holds other rows than a miniature world, and PRESET={preset} makes a world. Add WORLD_ARGS= to use "
        "the rows that are there, or give another preset"
    )


def check_rows(values: dict[str, str]) -> None:
    """Raise Wrong for a folder of rows or lexicons that is not there, or is empty."""
    for name, expected in {
        "DATA_ROOT": "hub or a folder of rows (docs/rows.md)",
        "TRANSLATIONS": "a folder of translated rows",
        "LEXICON": "a folder of lexicons",
    }.items():
        path = values[name]
        if path and (name, path) != ("DATA_ROOT", "hub") and (problem := nothing_in(Path(path))):
            raise Wrong(f"{name}={path}: {problem}. Set {name} to {expected}")


def check(values: dict[str, str], typed: set[str], cleared: set[str], presets: list[Path]) -> dict[str, arms.Arm]:
    """Return {name: the arm} of ARMS, without arm none. Raise Wrong for the first error.

    Args:
        values: {variable: its value}.
        typed: names on make's command line, and those of the Makefile's variables that the environment sets.
        cleared: those of make's command line that have no value: they take back what a preset gives.
        presets: files of variables that make has read.
    """
    in_presets = [name for path in presets for name in offered(path.read_text(encoding="utf-8"))]
    check_names([*sorted(typed), *in_presets], Path("Makefile").read_text(encoding="utf-8"))
    for name in PATHS:
        check_path(name, values[name])
    if empty := [name for name in NEEDED if not values[name].strip()]:
        raise Wrong(f"{empty[0]} is empty. Give it a value, or leave it out.")
    if not values["OUT"].strip("/"):
        raise Wrong(f"OUT={values['OUT']}: give a folder for the matrix, e.g. runs/mine.")
    if not re.fullmatch(r"[\w.-]*", values.get("HUB", "")):
        raise Wrong(f"HUB={values['HUB']}: expected one name, yours on the Hub or an organisation's.")
    found = check_lists(values)
    check_used(sorted(typed - cleared), values)
    for name in ("THREADS", "MODEL_THREADS", "DEFAULT_JOBS"):
        if (given := values.get(name)) and not (is_whole(given) and int(given)):
            raise Wrong(f"{name}={given}: give a whole number, 1 or more.")
    check_model(values, typed, presets[0].stem)
    check_places(values)
    if values["WORLD_ARGS"].strip() and values["DATA_ROOT"] == "hub":
        raise Wrong(
            f"DATA_ROOT=hub: PRESET={presets[0].stem} writes its rows into a folder (WORLD_ARGS). Give a folder, such "
            "as DATA_ROOT=data/world, or WORLD_ARGS= to read rows of the Hub"
        )
    for name in ("QUESTION", "CLAIMS"):
        if values[name] and not Path(values[name]).is_file():
            files = " ".join(sorted(map(str, Path("recipes", name.lower()).glob("*.yaml"))))
            raise Wrong(f"{name}={values[name]}: no such file. Choose one of: {files}")
    if (name := values.get("COVERAGE", "").strip()) and name not in COVERAGE:
        raise Wrong(f"COVERAGE={name}: give one of: {' '.join(COVERAGE)}")
    return found


def main() -> None:
    """Print what make reads: `checked` and the arms, or what is wrong."""
    parser = argparse.ArgumentParser()
    parser.add_argument("values", nargs="*")
    parser.add_argument("--typed", nargs="*", default=[])
    parser.add_argument("--cleared", nargs="*", default=[])
    parser.add_argument("--presets", nargs="*", type=Path, default=[])
    parser.add_argument("--rows", action="store_true", help="the goal reads rows")
    given = parser.parse_args()
    try:
        values = dict(value.split("=", 1) for value in given.values)
        found = check(values, set(given.typed), set(given.cleared), given.presets)
        if given.rows and values["WORLD_ARGS"].strip():
            check_world(values, set(given.typed), given.presets[0].stem)
        elif given.rows:
            check_rows(values)
        recipes = ([f"RECIPE_{name}", arm.script, *arm.words] for name, arm in found.items())
        print("checked", *map("|".join, [*recipes, ["MEASURED", *measured()]]))
    except (Wrong, UserError) as wrong:
        print(str(wrong).rstrip("."))  # make puts one after it


if __name__ == "__main__":
    main()
