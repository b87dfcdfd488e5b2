"""The words of a command line, and of a YAML file in its place: what may stand there, checked before torch is
imported."""

from __future__ import annotations

import argparse
import ast
import difflib
import functools
import importlib.util
import math
import os
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from xstilts.cli import user_files
from xstilts.cli.privacy import refuse_secrets
from xstilts.errors import UserError

JSON_FILES = ("fsdp_config", "deepspeed")  # fields of TrainingArguments that name a file, or hold JSON
# The least a number may be, of those that transformers takes as they come
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
# The most: beyond it torch's integers overflow (a batch is multiplied by others), or the machine is full of processes
MOST = {
    "per_device_train_batch_size": 2**20,
    "per_device_eval_batch_size": 2**20,
    "gradient_accumulation_steps": 2**20,
    "eval_accumulation_steps": 2**20,
    "dataloader_num_workers": 256,
    "dataloader_prefetch_factor": 2**20,
}
MOST_OF_ALL = 2**31 - 1


def check_words(words: list[str]) -> None:
    """Refuses words that no argument may hold: access tokens, bytes that are not text, a ~ that the shell has left.

    Raises:
        UserError: naming the argument.
    """
    refuse_secrets(words)
    for word in words:
        if word == "--" or word.endswith("=--"):  # argparse would drop it
            raise UserError(f"{short(word)!r}: -- is no value here.")
        value = word.partition("=")[2] if word.startswith("--") else word
        if value == "~" or value.startswith("~/"):  # a folder of that name would be made
            raise UserError(
                f"{short(word)!r}: the shell replaces ~ only at the beginning of a word without quotes. Write the "
                "whole path."
            )
        if any("\ud800" <= letter <= "\udfff" for letter in word):
            # results.json could not be written, after all the work
            raise UserError(f"Argument {word!r} is not UTF-8 text; write it in another way.")


def parse_tool(parser: argparse.ArgumentParser, argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The arguments of a tool started with `python -m`; what `check_words` refuses ends it as argparse's own errors
    do."""
    argv = list(sys.argv[1:] if argv is None else argv)
    try:
        words = list(map(str, argv))
        check_words(words)
        for part in (part for word in words for part in word.split("/")):
            if len(os.fsencode(part)) > 255:  # these tools take paths and names
                raise UserError(f"{short(part)!r} is longer than a name can be.")
    except UserError as error:
        parser.error(str(error))
    return parser.parse_args(argv)


def yaml_words(
    values: dict[str, Any], path: str, plain: dict[str, Any], training: bool, lists: Collection[str] = ()
) -> list[str]:
    """A YAML file's arguments as words of a command line, so that they are checked as those are.

    Args:
        plain: the arguments there are, with their defaults.
        training: whether others may be fields of TrainingArguments.
        lists: those of `plain` that take several values.

    Raises:
        UserError: naming the file and the key.
    """
    words, names = [], set()
    for key, value in values.items():
        name = key.replace("-", "_")
        if not name.isidentifier() or not (training or name in plain):
            raise UserError(f"--config {path}: {unknown(key, plain)}")
        if name in names:
            raise UserError(f"--config {path}: {name} is given twice, once as {key}.")
        names.add(name)
        if name in ("help", "config"):
            raise UserError(f"--config {path}: {name} belongs on the command line.")
        if value is None:
            if plain.get(name, "") is not None:
                raise UserError(f"--config {path}: {name} has no value. Give one, or leave the line out.")
        elif isinstance(value, list):
            if name in plain and name not in lists:
                raise UserError(f"--config {path}: {name} takes one value, given {short(value)}.")
            if (
                not value
                or not all(isinstance(one, str) for one in value)
                or any(one.startswith("--") for one in value)
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
def training_fields() -> dict[str, type]:
    """The fields of transformers' TrainingArguments, {name: int, float or str}.

    They are read from its source: to import it takes seconds, because that imports torch, and a misspelt name is found
    at once.
    """
    (folder,) = importlib.util.find_spec("transformers").submodule_search_locations
    source = ast.parse(Path(folder, "training_args.py").read_text(encoding="utf-8"))
    (found,) = (node for node in source.body if isinstance(node, ast.ClassDef) and node.name == "TrainingArguments")
    kinds = {"int": int, "float": float}
    return {
        node.target.id: kinds.get(ast.unparse(node.annotation).removesuffix(" | None"), str)
        for node in found.body
        if isinstance(node, ast.AnnAssign)
    }


def check_rest(rest: list[str], plain: dict[str, Any], training: bool) -> None:
    """Refuses arguments that neither a script nor TrainingArguments has, numbers that are none, and JSON files that
    cannot be read."""
    if not rest:
        return
    if not training:
        raise unexpected_argument(rest[0], plain)
    parser = argparse.ArgumentParser(allow_abbrev=False, add_help=False)
    parser.error = fail
    for name, kind in training_fields().items():
        parser.add_argument(f"--{name}", **({"nargs": "*"} if kind is str else {"type": kind}))
        parser.add_argument(f"--no_{name}", nargs="*")
    found, strays = parser.parse_known_args(rest)
    check_training_numbers({name: value for name, value in vars(found).items() if isinstance(value, int | float)})
    for name in JSON_FILES:
        for value in getattr(found, name) or ():
            if not value.startswith("{"):
                refuse_secrets([f"--{name}={user_files.read_json(value, f'--{name}')}"])
    if strays:
        raise unexpected_argument(strays[0], [*plain, *training_fields()])


def check_training_numbers(values: dict[str, Any]) -> None:
    """Refuses numbers that would end in a traceback once rows and model are there, or train nothing.

    Args:
        values: fields of TrainingArguments: all of them, or the numbers that were given.

    Raises:
        UserError: naming the argument.
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
                f"(--{name.partition('_')[0]}"
                "_strategy no for none)."
            )
    steps, epochs = values.get("max_steps", -1), values.get("num_train_epochs", 1)
    if steps != -1 and steps < 1:
        raise UserError(f"--max_steps {steps} trains nothing: give 1 at least, or -1 to go by --num_train_epochs.")
    if steps == -1 and epochs <= 0:
        raise UserError(f"--num_train_epochs {epochs} trains nothing: give a number above 0.")


def shown(value) -> str:
    """A value about as it was typed."""
    return (
        f"{value:g}"
        if isinstance(value, float)
        else str(value).lower()
        if isinstance(value, bool)
        else str(value)[:80]
    )


def unexpected_argument(word: str, names) -> UserError:
    """The error for a word that no argument takes."""
    if word.startswith("-"):
        return unknown(word, names)
    return UserError(f"{short(word)!r} belongs to no argument. A value with blanks needs quotes.")


def check_finite(name: str, value: Any) -> None:
    """Raises UserError where the argument's value is NaN or infinite."""
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"--{name} {value} is no number to go by; give a finite one.")


def unknown(key: str, names) -> UserError:
    """The error for a key nobody knows, with the nearest name."""
    key = key.lstrip("-").partition("=")[0]
    near = difflib.get_close_matches(key, list(names), 1)
    return UserError(
        f"Argument {short(key)!r} is unknown." + (f" Did you mean --{near[0]}?" if near else " See --help.")
    )


def short(value: Any) -> str:
    """The beginning of what was given, for an error."""
    text = str(value)
    return text if len(text) <= 100 else f"{text[:100]}..."


def fail(message: str):
    """Raises argparse's message as UserError, in one line, in place of its usage and exit: it may quote a value with
    line ends."""
    message = " ".join(message.splitlines())
    raise UserError(message[0].upper() + message[1:] + ("" if message.endswith(".") else "."))
