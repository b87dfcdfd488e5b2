"""Check the words of a command line, and of a YAML file, before torch is imported."""

from __future__ import annotations

import argparse
import ast
import functools
import importlib.util
import math
import os
import re
import sys
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from tasks.errors import UserError, nearest, not_installed
from tasks.reading import is_utf8
from xstilts.cli import arms, user_files
from xstilts.cli.privacy import refuse_secrets
from xstilts.cli.repeated import join_repeated

JSON_FILES = ("fsdp_config", "deepspeed")  # fields of TrainingArguments that name a file, or hold JSON
# {argument of run_retrieval.py --do_train: that of run_intermediate.py}; to be removed with `xstilts.train.alias`
RENAMED = {"batch_languages": "language_mode", "train_tasks": "tasks"}
# The smallest value of numbers that transformers does not check
LEAST = {
    "per_device_train_batch_size": 1,
    "per_device_eval_batch_size": 1,
    "gradient_accumulation_steps": 1,
    "eval_accumulation_steps": 1,
    "dataloader_num_workers": 0,
    "dataloader_prefetch_factor": 1,
    "save_total_limit": 1,
    "learning_rate": 0,
    "weight_decay": 0,
    "max_grad_norm": 0,
    "adam_epsilon": 0,
    "data_seed": 0,
    "eval_delay": 0,
    "ddp_timeout": 1,
    "ddp_bucket_cap_mb": 1,
    "neftune_noise_alpha": 0,
}
# Their largest value: more overflows torch's integers (batch sizes are multiplied), or starts too many processes
MOST = {
    "per_device_train_batch_size": 2**20,
    "per_device_eval_batch_size": 2**20,
    "gradient_accumulation_steps": 2**20,
    "eval_accumulation_steps": 2**20,
    "dataloader_num_workers": 256,
    "dataloader_prefetch_factor": 2**20,
}
MOST_OF_ALL = 2**31 - 1  # of every other number


def check_words(words: list[str]) -> None:
    """Raise if a word is an access token, not UTF-8 text, or begins with a ~ that the shell did not expand.

    Raises:
        UserError: names the argument.
    """
    refuse_secrets(words)
    for word in words:
        if word == "--" or word.endswith("=--"):  # argparse would ignore it
            raise UserError(f"{short(word)!r}: -- cannot be a value. Leave it out.")
        value = word.partition("=")[2] if word.startswith("--") else word
        if value == "~" or value.startswith("~/"):  # would create a folder with that name
            raise UserError(
                f"{short(word)!r}: the shell expands ~ only at the start of a word without quotes. Write the whole "
                "path."
            )
        if not is_utf8(word):
            # results.json could not be written at the end of the run
            raise UserError(f"Argument {word!r} is not UTF-8 text. Write it as UTF-8.")


def parse_tool(parser: argparse.ArgumentParser, argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the arguments of a tool started with `python -m`.

    Exits as argparse does, with its usage, if `check_words` raises or a name is too long.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    try:
        words = list(map(str, argv))
        check_words(words)
        for part in (part for word in words for part in word.split("/")):
            if len(os.fsencode(part)) > 255:  # these tools take paths and names
                raise UserError(f"{short(part)!r} is longer than a name can be.")
        argv = join_repeated(words, list_names(parser))
    except UserError as error:
        parser.error(str(error))
    arguments, rest = parser.parse_known_args(argv)
    if rest:
        parser.error(str(unexpected_argument(rest[0], option_names(parser))))
    return arguments


def option_names(parser: argparse.ArgumentParser) -> set[str]:
    """Return the names of a parser's arguments and of its commands', without the dashes."""
    names = {option.lstrip("-") for option in parser._option_string_actions}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            names = names.union(*map(option_names, action.choices.values()))
    return names


def list_names(parser: argparse.ArgumentParser) -> set[str]:
    """Return the names of the arguments of a parser, and of its commands', that take several values."""
    names: set[str] = set()
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            names = names.union(*map(list_names, action.choices.values()))
        elif action.nargs in ("*", "+"):
            names |= {option.lstrip("-") for option in action.option_strings}
    return names


def yaml_words(
    values: dict[str, Any], path: str, defaults: dict[str, Any], training: bool, lists: Collection[str] = ()
) -> list[str]:
    """Return a YAML file's arguments as words of a command line, so that both are checked alike.

    Args:
        values: the file's keys and values.
        path: the file, for errors.
        defaults: the script's arguments, {name: default}.
        training: whether other keys may be fields of TrainingArguments.
        lists: the arguments that take several values.

    Raises:
        UserError: names the file and the key.
    """
    words: list[str] = []
    names: set[str] = set()
    for key, value in values.items():
        name = key.replace("-", "_")
        if not name.isidentifier() or not (training or name in defaults):
            raise UserError(f"--config {path}: {unknown(key, defaults)}")
        if name in names:
            raise UserError(f"--config {path}: {name} is given twice, once as {key}.")
        names.add(name)
        if name in ("help", "config"):
            raise UserError(f"--config {path}: {name} belongs on the command line.")
        if value is None:
            if defaults.get(name, "") is not None:
                raise UserError(f"--config {path}: {name} has no value. Give one, or leave the line out.")
        elif isinstance(value, list):
            if name in defaults and name not in lists:
                raise UserError(f"--config {path}: {name} takes one value, given {short(value)}.")
            if (
                not value
                or not all(isinstance(item, str) for item in value)
                or any(item.startswith("--") for item in value)
            ):
                raise UserError(f"--config {path}: {name} takes a list of words or numbers, given {short(value)}.")
            words += [f"--{name}", *value]
        elif isinstance(value, dict):
            raise UserError(
                f"--config {path}: {name} takes one value, or a list, given {short(value)}. JSON goes in quotes: "
                "'{\"name\": 1}'."
            )
        else:
            words.append(f"--{name}={value}")
    return words


@functools.cache
def training_annotations() -> dict[str, str]:
    """Return the fields of transformers' TrainingArguments, {name: annotation}.

    They are read from its source code. Importing it imports torch, which takes seconds, and an unknown argument should
    be reported at once.

    Raises:
        UserError: transformers is not installed.
    """
    spec = importlib.util.find_spec("transformers")
    if spec is None or not spec.submodule_search_locations:
        raise UserError(f"{not_installed('transformers')}.")
    folder = spec.submodule_search_locations[0]
    source = ast.parse(Path(folder, "training_args.py").read_text(encoding="utf-8"))
    (definition,) = (
        node for node in source.body if isinstance(node, ast.ClassDef) and node.name == "TrainingArguments"
    )
    return {
        node.target.id: ast.unparse(node.annotation)
        for node in definition.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }


def training_fields() -> dict[str, type]:
    """Return the fields of TrainingArguments, {name: int, float or str}."""
    kinds = {"int": int, "float": float}
    return {
        name: kinds.get(annotation.removesuffix(" | None"), str) for name, annotation in training_annotations().items()
    }


def training_lists() -> list[str]:
    """Return the fields of TrainingArguments that take several values."""
    return [name for name, annotation in training_annotations().items() if "list" in annotation]


class RaisingParser(argparse.ArgumentParser):
    """A parser that raises UserError, where argparse would print the whole usage and exit."""

    def error(self, message: str) -> NoReturn:
        fail(message)


def check_rest(rest: list[str], defaults: dict[str, Any], training: bool) -> None:
    """Check the arguments that a script does not know, and may pass on to TrainingArguments.

    Args:
        rest: the words of these arguments.
        defaults: the script's own arguments, {name: default}.
        training: whether fields of TrainingArguments are allowed.

    Raises:
        UserError: an unknown argument, a wrong number, or a JSON file that cannot be read.
    """
    if not rest:
        return
    if not training:
        raise unexpected_argument(rest[0], defaults)
    parser = RaisingParser(allow_abbrev=False, add_help=False)
    for name, kind in training_fields().items():
        options: dict[str, Any] = {"nargs": "*"} if kind is str else {"type": kind}
        parser.add_argument(f"--{name}", **options)
        parser.add_argument(f"--no_{name}", nargs="*")
    parsed, unexpected = parser.parse_known_args(rest)
    check_training_numbers({name: value for name, value in vars(parsed).items() if isinstance(value, int | float)})
    for name in JSON_FILES:
        for value in getattr(parsed, name) or ():
            if not value.startswith("{"):
                refuse_secrets([f"--{name}={user_files.read_json(value, f'--{name}')}"])
    if unexpected:
        raise unexpected_argument(unexpected[0], [*defaults, *training_fields()])


def check_training_numbers(values: dict[str, Any]) -> None:
    """Raise if a number would fail after rows and model have loaded, or would train nothing.

    Args:
        values: fields of TrainingArguments: all of them, or the numbers that the user gave.

    Raises:
        UserError: names the argument.
    """
    for name, value in values.items():
        check_finite(name, value)
        most = MOST.get(name, MOST_OF_ALL)
        if isinstance(value, int | float) and value > most:
            raise UserError(f"--{name} {shown(value)}: give {most} at most.")
        if name in LEAST and value is not None and value < LEAST[name]:
            raise UserError(f"--{name} {shown(value)}: give {LEAST[name]} at least.")
    for name in ("logging_steps", "save_steps", "eval_steps"):
        if (value := values.get(name)) is not None and value <= 0:
            raise UserError(
                f"--{name} {shown(value)}: give 1 at least, or a share of all steps above 0 "
                f"(--{name.partition('_')[0]}_strategy no turns it off)."
            )
    steps, epochs = values.get("max_steps", -1), values.get("num_train_epochs", 1)
    if steps != -1 and steps < 1:
        raise UserError(f"--max_steps {steps} trains nothing: give 1 at least, or -1 to use --num_train_epochs.")
    if steps == -1 and epochs <= 0:
        raise UserError(f"--num_train_epochs {epochs} trains nothing: give a number above 0.")


def shown(value: Any) -> str:
    """Return a value as a user types it: 0.5, true, at most 80 characters."""
    return (
        f"{value:g}"
        if isinstance(value, float)
        else str(value).lower()
        if isinstance(value, bool)
        else str(value)[:80]
    )


def unexpected_argument(word: str, names: Iterable[str]) -> UserError:
    """Return the error for a word that belongs to no argument."""
    if word.startswith("-"):
        return unknown(word, names)
    return UserError(f"{short(word)!r} belongs to no argument. Put quotes around a value with spaces.")


def check_finite(name: str, value: Any) -> None:
    """Raise UserError if the argument's value is NaN or infinite."""
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"--{name} {value}: expected a finite number.")


def unknown(key: str, names: Iterable[str]) -> UserError:
    """Return the error for an unknown argument, with the nearest name."""
    key, names = key.lstrip("-").partition("=")[0], list(names)
    near = [new for old, new in RENAMED.items() if key == old and new in names]
    near = near or nearest(key, names)
    return UserError(
        f"Argument {short(key)!r} is unknown." + (f" Did you mean --{near[0]}?" if near else " See --help.")
    )


def short(value: Any) -> str:
    """Return the first 100 characters of a value, for an error."""
    text = str(value)
    return text if len(text) <= 100 else f"{text[:100]}..."


def few_choices(message: str) -> str:
    """Return argparse's message; of many choices it keeps those near to what was given."""
    found = re.fullmatch(r"(.*invalid choice: )'?(.*?)'? \(choose from (.*)\)", message, re.DOTALL)
    choices = [choice.strip("' ") for choice in found[3].split(",")] if found else []
    near = nearest(found[2], choices, 3) if found and len(choices) > 3 else []
    if not found or (not near and len(choices) <= arms.FEW):
        return message
    hint = f"Did you mean {' or '.join(near)}?" if near else f"There are {len(choices)}, such as {choices[0]}."
    return f"{found[1]}{found[2]!r}. {hint}"


def fail(message: str) -> NoReturn:
    """Raise argparse's message as a UserError, in one line even if it quotes a value with line ends."""
    message = few_choices(" ".join(message.splitlines()))
    raise UserError(message[0].upper() + message[1:] + ("" if message.endswith((".", "?")) else "."))
