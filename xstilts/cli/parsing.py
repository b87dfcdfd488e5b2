"""Parse a script's arguments: default < YAML files (--config) < command line. Imports nothing heavy."""

from __future__ import annotations

import importlib.util
import itertools
import os
import sys
from collections import Counter
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

from tasks.errors import UserError, did_you_mean
from xstilts.cli import arms, user_files
from xstilts.cli.defaults import defaults
from xstilts.cli.privacy import name_of, with_underscores
from xstilts.cli.ranges import check_numbers
from xstilts.cli.repeated import join_repeated
from xstilts.cli.words import RaisingParser, check_rest, check_words, short, training_lists, yaml_words

if TYPE_CHECKING:
    from transformers.hf_argparser import HfArgumentParser

TRAINING = (
    "The fields of transformers.TrainingArguments are arguments too: --learning_rate, --num_train_epochs, "
    "--max_steps, --per_device_train_batch_size, --gradient_accumulation_steps, --warmup_steps, --bf16, --report_to, "
    "--save_strategy ... Those that cannot work here are refused, with the reason."
)


class Remaining(list):
    """The arguments that a script does not know, as words of a command line.

    Attributes:
        known: the names that the script knows, to suggest the nearest one in an error.
    """

    known: frozenset[str] = frozenset()


def parse(
    argv: list[str], script: str, description: str, *kinds: type, training: bool = True
) -> tuple[list[Any], Remaining]:
    """Parse a script's arguments.

    Args:
        argv: the command line, without the script's name.
        script: the script's file name. A YAML file whose key `script` names another one is refused.
        description: printed by --help.
        kinds: the script's argument dataclasses.
        training: whether other arguments may be fields of TrainingArguments, which the runner parses later.

    Returns:
        (one instance of each of `kinds`, the remaining arguments: first those of the YAML files)

    Raises:
        UserError: an unknown argument (with the nearest name), a wrong value, an access token, a YAML file that cannot
            be read or belongs to another script.
    """
    argv = [with_underscores(word) for word in argv]
    check_words(argv)
    argv = with_own_tasks_argument(argv, kinds)
    parser = _parser(kinds, description, training)
    usual = defaults(*kinds)
    lists = {name for kind in kinds for name, hint in get_type_hints(kind).items() if "list[" in str(hint)}
    twice = {name for name, number in Counter(map(name_of, argv)).items() if name and number > 1}
    # --task, too: it is --tasks of other scripts
    argv = join_repeated(argv, sorted(twice & {*lists, "task", *(training_lists() if training and twice else ())}))
    paths = _config_files(parser, argv)

    def parse_words(words: list[str]) -> tuple[list[Any], list[str]]:
        *parsed, _, remaining = parser.parse_args_into_dataclasses(
            words, return_remaining_strings=True, look_for_args_file=False
        )
        check_rest(remaining, usual, training)
        for arguments in parsed:
            check_numbers(arguments)
        return parsed, remaining

    layers: dict[str, Any] = {}
    for path in paths:
        values = read_yaml(path, script)
        own, other = tasks_arguments(kinds)
        if other and other in values:
            if own in values:
                raise UserError(f"--config {path}: {own} and {other} are the same. Give one of them.")
            values = {own if key == other else key: value for key, value in values.items()}
        words = yaml_words(without_removed(values, layers), path, usual, training, lists)
        try:
            check_words(words)
            parse_words(words)  # each file alone first, so that an error names the file
        except UserError as error:
            raise UserError(f"--config {path}: {error}") from error
        add_layer(layers, values)
    words = yaml_words(layers, " ".join(paths), usual, training, lists)
    words += [f"--config={path}" for path in paths]  # ends a list of values
    parsed, remaining = parse_words([*words, *argv])
    rest = Remaining(remaining)
    rest.known = frozenset([*usual, "config"])
    return parsed, rest


def tasks_arguments(kinds: tuple[type, ...]) -> tuple[str, str]:
    """Return (task or tasks, as the script has it; the other one); ("", "") for a script with both or none."""
    known = {f.name for kind in kinds for f in fields(kind)}
    found = [name for name in ("task", "tasks") if name in known]
    return (found[0], "tasks" if found[0] == "task" else "task") if len(found) == 1 else ("", "")


def with_own_tasks_argument(argv: list[str], kinds: tuple[type, ...]) -> list[str]:
    """Return a command line in which --task and --tasks are written as the script has them.

    Raises:
        UserError: both are given, or several tasks for a script that takes one.
    """
    own, other = tasks_arguments(kinds)
    given = {name for name in (own, other) if name and name in map(name_of, argv)}
    if len(given) > 1:
        raise UserError(f"--{own} and --{other} are the same. Give one of them.")
    if given == {other}:
        argv = [f"--{own}{word.removeprefix(f'--{other}')}" if name_of(word) == other else word for word in argv]
    if own == "task" and "--task" in argv:
        after = argv[argv.index("--task") + 1 :]
        named = list(itertools.takewhile(lambda word: not word.startswith("-"), after))
        if len(named) > 1:
            raise UserError(f"--{next(iter(given))} {' '.join(named)}: this script takes one task. Start it for each.")
    return argv


def _load_argparser() -> Any:
    """Return the module transformers.hf_argparser, without the rest of the package if that is not imported yet.

    It needs nothing of the rest, whose import takes most of a second, and errors in arguments are reported at once.
    """
    spec = importlib.util.find_spec("transformers")
    if "transformers" in sys.modules or spec is None or not spec.submodule_search_locations:
        return importlib.import_module("transformers.hf_argparser")
    path = Path(spec.submodule_search_locations[0], "hf_argparser.py")
    alone = importlib.util.spec_from_file_location("hf_argparser", path)
    assert alone is not None and alone.loader is not None  # of a .py file there always is
    module = importlib.util.module_from_spec(alone)
    alone.loader.exec_module(module)
    return module


def _parser(kinds: tuple[type, ...], description: str, training: bool) -> HfArgumentParser:
    # loaded by its path, so that a type checker does not know it
    parser: Any = type("Parser", (RaisingParser, _load_argparser().HfArgumentParser), {})(
        list(kinds),
        description=description,
        epilog=TRAINING if training else None,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--config",
        action="append",
        nargs="+",
        help="YAML files of arguments; later ones win, and then the command line.",
    )
    return parser


def _config_files(parser: HfArgumentParser, argv: list[str]) -> list[str]:
    """The files after --config, which may be given once."""
    groups = parser.parse_known_args(argv)[0].config or []
    paths = [path for group in groups for path in group]
    if len(groups) > 1:
        raise UserError(
            f"--config is given {len(groups)} times; give all files after one: --config {' '.join(paths)}."
        )
    return paths


def read_yaml(path: str, script: str) -> dict[str, Any]:
    """Return a recipe's keys and values for a script, without those in `arms.ABOUT`.

    `user_files.read_yaml` describes the values.

    Raises:
        UserError: no such file (if an arm has its name, with that arm's arguments), or it has nothing for this script.
    """
    if not os.path.exists(path):
        raise UserError(f"--config {path}: no such file.{_arm_hint(path)}")
    values = user_files.read_yaml(path, "--config")
    named = values.pop("script", script)
    if named != script:
        raise UserError(
            f"--config {path} is a recipe of {short(named)}; run `python {short(named)} --config {path} ...`."
        )
    for key in arms.ABOUT:
        values.pop(key, None)
    sections = {key: value for key, value in values.items() if key.endswith(".py")}
    if not sections:
        return values
    if outside := [key for key in values if key not in sections]:
        raise UserError(f"--config {path}: {outside[0]} belongs to no script. Indent it below {', '.join(sections)}.")
    if script not in sections:
        raise UserError(f"--config {path} has nothing for {script}; it goes with {', '.join(sections)}.")
    if not isinstance(sections[script], dict):
        raise UserError(f"--config {path}: expected indented `key: value` lines below {script}.")
    return sections[script]


def _arm_hint(path: str) -> str:
    """The arguments of the arm with a missing file's name, or similar names; "" if there are none."""
    name, known = Path(path).stem, [*arms.bases(), *arms.modifiers()]
    try:
        return f" Give {' '.join(arms.read_arm(name).words)}."
    except UserError:
        return did_you_mean(name, known, 3)


def without_removed(values: dict[str, Any], layers: dict[str, Any]) -> dict[str, Any]:
    """Return a file's values without those that only remove a value of an earlier file (`key: null`)."""
    return {key: value for key, value in values.items() if value is not None or key.replace("-", "_") not in layers}


def add_layer(layers: dict[str, Any], values: dict[str, Any]) -> None:
    """Add a file's values to those of earlier files, in place; a later value wins, null removes one."""
    for key, value in values.items():
        before = layers.pop(key.replace("-", "_"), None)
        if value is not None or before is None:
            layers[key.replace("-", "_")] = value
