"""The texts of masked LM: Wikipedia's, or those of the rows that a family's arms train on."""

from __future__ import annotations

from collections.abc import Sequence

from datasets import Dataset
from transformers import TokenizersBackend

from tasks.base import Task
from tasks.rows import Rows
from xstilts.cli.arguments import ArmArguments, DataArguments, FamilyArguments, TextArguments
from xstilts.errors import UserError
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
    held_out: bool,
) -> tuple[dict[str, Dataset], dict[str, Dataset], list[str]]:
    """Return ({language: train texts}, {language: held-out texts}, notes for results.json).

    Args:
        wikipedia: the task of running text.
        source: --text_of, the task whose rows are the text instead.
        languages: of the text; [] means all that it has.
        held_out: whether held-out texts are needed; if not, they are all of `source`, or {}.

    Raises:
        UserError: the texts are missing, or see `row_texts`.
    """
    limit, dev_limit = data_args.max_train_samples, data_args.max_eval_samples if held_out else None
    if source:
        return row_texts(source, family, languages, rows, limit, dev_limit, seed)
    languages = languages or wikipedia.languages(rows)
    train = {code: inputs.first(wikipedia.load("train", code, rows), limit) for code in languages}
    dev = {code: inputs.first(wikipedia.load("dev", code, rows), dev_limit) for code in languages if held_out}
    return train, dev, []


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
    train, _, notes = read_texts(text, source, family, languages, rows, data_args, seed, held_out=False)
    features, left_out = featurizing.text_features(text, train, tokenizer, max_length, True)
    return features, notes + left_out


def row_texts(
    task: Task,
    family: FamilyArguments,
    languages: Sequence[str],
    rows: Rows,
    limit: int | None,
    dev_limit: int | None,
    seed: int,
) -> tuple[dict[str, Dataset], dict[str, Dataset], list[str]]:
    """Return the texts of the rows that a family's arms train on, for masked LM.

    Args:
        languages: ["en"] for the rows of the English arm, or the family's languages for those of the multilingual
            arm.
        limit, dev_limit: the largest number of train and dev rows.

    Returns:
        ({"rows": train texts}, {"en": English dev texts}, notes). A text is the fields of a row, joined by a blank.

    Raises:
        UserError: other languages are given, or none, or as `multilingual.load`.
    """
    if list(languages) not in (["en"], family_languages(family)):
        raise UserError(
            f"--text_of {task.name}: --text_languages {' '.join(languages)} must be en, or those of --train_languages."
        )
    if list(languages) != ["en"] and not (task.other_languages and languages):
        why = "in which languages? Give --train_languages, or" if task.other_languages else "English rows only. Give"
        raise UserError(f"--text_of {task.name}: {why} --text_languages en.")
    arm = ArmArguments(language_mode="english" if list(languages) == ["en"] else "multilingual")
    train = multilingual.load(task, family, arm, rows, limit, seed, {})
    dev = inputs.first(task.load("dev", "en", rows), dev_limit)

    def texts(examples: Dataset) -> Dataset:
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

    return {"rows": texts(train.examples)}, {"en": texts(dev)}, train.notes
