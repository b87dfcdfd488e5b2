"""Rows as the features a model takes: cached on disk, cut to what the model reads, checked before training."""

from __future__ import annotations

import logging

import numpy as np
import pyarrow
import pyarrow.compute as pc
from datasets import Dataset, concatenate_datasets

from tasks.base import fingerprint
from tasks.checks import check_placeholder
from xstilts.checkpoint.encoder import check_vocabulary, length_limit
from xstilts.checkpoint.tokenizer import clean_tokenizer
from xstilts.errors import UserError, first_line, full_disk, is_panic
from xstilts.run import inputs

logger = logging.getLogger("xstilts")


def featurize(task, examples, tokenizer, max_length: int, train: bool, desc: str):
    """The examples' features, cached on disk by datasets (key: rows, adapter, tokenizer, length).

    Raises:
        UserError: the tokenizer fails on an example, which is named.
    """
    options = {"tokenizer": tokenizer, "max_length": max_length, "train": train}
    clean_tokenizer(tokenizer)
    key = fingerprint(task, examples, tokenizer.backend_tokenizer.to_str(), max_length, train)
    try:
        features = through_cache(
            examples,
            task.featurize,
            with_indices=True,
            fn_kwargs=options,
            remove_columns=examples.column_names,
            desc=f"{desc}: features",
            new_fingerprint=key,
        )
    except BaseException as error:
        if not (isinstance(error, UserError) or type(error) is Exception or is_panic(error)):
            # tokenizers raises bare Exceptions
            raise
        row, cause = _failing(task, examples, options)
        raise UserError(f"{desc}, row {row + 1}: {first_line(cause or error)}") from error
    return through_cache(
        features,
        lambda ids: {"length": task.lengths(ids)},
        input_columns="input_ids",
        desc=f"{desc}: lengths",
        new_fingerprint=fingerprint(task, features, "length"),
    )


def _failing(task, examples, options: dict) -> tuple[int, BaseException | None]:
    """(the first example, from 0, that no features can be made of; the error)."""
    for row in range(len(examples)):
        try:
            task.featurize(examples[row : row + 1], [row], **options)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt | SystemExit):
                raise
            return row, error
    return 0, None


def through_cache(data, function, **options):
    """`data.map` in batches; what the cache holds of it and cannot be read, cut off or damaged, is made anew, and that
    is said."""
    try:
        return data.map(function, batched=True, **options)
    except (pyarrow.ArrowInvalid, OSError) as error:
        if full_disk(error):
            raise
        logger.warning("%s: the cache of it cannot be read (%s); making it anew.", options["desc"], first_line(error))
        return data.map(function, batched=True, load_from_cache_file=False, **options)


def text_features(task, texts: dict, tokenizer, max_length: int, train: bool) -> tuple[Dataset, list[str]]:
    """The features of texts in several languages, {language: examples}, one language after the other; and notes.

    Texts without a token that could be masked are left out, with a note.

    Raises:
        UserError: a language has no other texts, or the tokenizer cannot mask.
    """
    if tokenizer.mask_token is None:
        raise UserError(
            "The checkpoint's tokenizer has no mask token, so it cannot be trained by masked language modelling."
        )
    parts, notes, name = [], [], f"{task.name}{'' if train else ', held out'}"
    for code, some in texts.items():
        features = featurize(task, some, tokenizer, max_length, train, code)
        kept = np.flatnonzero(has_words(features, tokenizer.all_special_ids))
        if not len(kept):
            raise UserError(
                f"{name}, {code}: none of {len(some)} texts has a token to predict. Give more text, or leave {code} "
                "out."
            )
        if len(kept) < len(features):
            notes.append(
                f"{name}, {code}: {len(features) - len(kept)} of {len(features)} texts without a token to predict "
                "left out"
            )
            features = features.select(kept)
        parts.append(features)
    return concatenate_datasets(parts), notes


def has_words(features, special: list[int]) -> np.ndarray:
    """For each feature whether it has a token that is not special: array (n,) of bool."""
    found = [np.zeros(0, bool)]
    for ids in features.with_format("arrow")[:]["input_ids"].chunks:
        feature = np.repeat(np.arange(len(ids)), pc.list_value_length(ids))
        found.append(np.bincount(feature[~np.isin(ids.flatten(), special)], minlength=len(ids)) > 0)
    return np.concatenate(found)


def load_scored(task, split: str, language: str, rows, limit: int | None):
    """The first `limit` examples of a split that will be scored.

    Raises:
        UserError: as `task.load`; or the gold is a placeholder, which the score would find only after the training.
    """
    loaded = task.read(split, language, rows)
    check_placeholder(task.gold_values(loaded.examples), loaded.where)
    return inputs.first(loaded.examples, limit)


def max_length(data_args, task_length: int, tokenizer, config) -> int:
    """Tokens a feature may have: the user's, or the task's capped by what the model takes.

    Raises:
        UserError: the user's is more than the model takes, or too little for two texts (the tokenizer would then not
            cut at all); tokenizer and model are not of each other.
    """
    check_vocabulary("--model_name_or_path", config, tokenizer)
    limit = length_limit(config, tokenizer)
    if data_args.max_seq_length is None:
        return min(task_length, limit)
    if data_args.max_seq_length > limit:
        raise UserError(f"--max_seq_length {data_args.max_seq_length}: the model takes at most {limit} tokens.")
    least = tokenizer.num_special_tokens_to_add(pair=True) + 2
    if data_args.max_seq_length < least:
        raise UserError(
            f"--max_seq_length {data_args.max_seq_length}: give at least {least} tokens, {least - 2} of which are "
            "special."
        )
    return data_args.max_seq_length
