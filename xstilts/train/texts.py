"""The texts of masked LM: Wikipedia's, or those of the rows that a family's arms train on."""

from __future__ import annotations

from collections.abc import Sequence

from datasets import Dataset
from transformers import TokenizersBackend

from tasks.base import Task
from tasks.errors import UserError
from tasks.rows import Rows
from xstilts.cli.arguments import ArmArguments, DataArguments, FamilyArguments, TextArguments
from xstilts.run import inputs
from xstilts.train import featurizing, multilingual
from xstilts.train.families import family_languages, text_languages


def read_texts(
    wikipedia: Task,
    source: Task | None,
    family: FamilyArguments,
    languages: Sequence[str],
    rows: Rows,
    data_args: DataArguments,
    seed: int,
) -> tuple[dict[str, Dataset], list[str]]:
    """Return ({language: train texts}, notes for results.json).

    Args:
        wikipedia: the task of running text.
        source: --text_of, the task whose rows are the text instead.
        languages: of the text; [] means all that it has.

    Raises:
        UserError: the texts are missing, or see `row_texts`.
    """
    limit = data_args.max_train_samples
    if source:
        return row_texts(source, family, languages, rows, limit, seed)
    languages = languages or wikipedia.languages(rows)
    return {code: inputs.first(wikipedia.load("train", code, rows), limit) for code in languages}, []


def read_held_out(
    wikipedia: Task, source: Task | None, languages: Sequence[str], rows: Rows, data_args: DataArguments
) -> dict[str, Dataset]:
    """Return {language: held-out texts}, of `source` the English ones; the arguments are those of `read_texts`.

    Raises:
        UserError: the texts are missing.
    """
    limit = data_args.max_eval_samples
    if source:
        dev = source.read("dev", "en", rows)
        return {"en": _texts(source, inputs.first(dev.examples, limit, dev.parts))}
    languages = languages or wikipedia.languages(rows)
    return {code: inputs.first(wikipedia.load("dev", code, rows), limit) for code in languages}


def read_features(
    text: Task,
    source: Task | None,
    family: FamilyArguments,
    text_args: TextArguments,
    rows: Rows,
    tokenizer: TokenizersBackend,
    max_length: int,
    data_args: DataArguments,
    seed: int,
) -> tuple[Dataset, list[str]]:
    """Return (features of the train texts beside tasks, notes for results.json); see `read_texts`."""
    languages = text_languages(text_args, family)
    train, notes = read_texts(text, source, family, languages, rows, data_args, seed)
    features, left_out = featurizing.text_features(text, train, tokenizer, max_length, True, source is None)
    return features, notes + left_out


def row_texts(
    task: Task,
    family: FamilyArguments,
    languages: Sequence[str],
    rows: Rows,
    limit: int | None,
    seed: int,
) -> tuple[dict[str, Dataset], list[str]]:
    """Return the texts of the rows that a family's arms train on, for masked LM.

    Args:
        languages: ["en"] for the rows of the English arm, or the family's languages for those of the multilingual
            arm.
        limit: the largest number of rows.

    Returns:
        ({"rows": the texts}, notes).

    Raises:
        UserError: other languages are given, or none, or as `multilingual.load` and `_texts`.
    """
    if list(languages) not in (["en"], family_languages(family)):
        raise UserError(
            f"--text_of {task.name}: --text_languages {' '.join(languages)} must be en, or those of --train_languages."
        )
    if list(languages) != ["en"] and not (task.other_languages and languages):
        why = "no language is given. Give --train_languages, or" if task.other_languages else "English rows only. Give"
        raise UserError(f"--text_of {task.name}: {why} --text_languages en.")
    arm = ArmArguments(language_mode="english" if list(languages) == ["en"] else "multilingual")
    train = multilingual.load(task, family, arm, rows, limit, seed, {})
    return {"rows": _texts(task, train.examples)}, train.notes


def _texts(task: Task, examples: Dataset) -> Dataset:
    """Return the texts of examples: the fields of a row, joined by a blank.

    Raises:
        UserError: the rows are not running text.
    """
    columns = [
        c
        for field in task.fields
        for c in field
        if getattr(examples.features[c], "dtype", None) in ("string", "large_string")
    ]
    if not columns:
        raise UserError(f"--text_of {task.name}: its rows are not running text.")
    return Dataset.from_dict(
        {"text": [" ".join(parts) for parts in zip(*(examples[c] for c in columns), strict=True)]}
    )
