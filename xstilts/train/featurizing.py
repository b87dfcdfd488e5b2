"""Turn rows into the features a model takes: cached on disk, truncated to its length, checked before training."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow
import pyarrow.compute as pc
import tokenizers
import transformers
from datasets import Dataset, concatenate_datasets
from transformers import PretrainedConfig, TokenizersBackend

from tasks import get_task
from tasks.base import Task
from tasks.checks import check_placeholder, is_placeholder
from tasks.errors import UserError, first_line, full_disk, is_panic
from tasks.fingerprint import fingerprint
from tasks.rows import Rows
from xstilts.checkpoint.encoder import check_vocabulary, length_limit
from xstilts.checkpoint.tokenizer import clean_tokenizer
from xstilts.cli import logs
from xstilts.cli.arguments import DataArguments
from xstilts.run import inputs

logger = logging.getLogger("xstilts")


def featurize(
    task: Task, examples: Dataset, tokenizer: TokenizersBackend, max_length: int, train: bool, desc: str
) -> Dataset:
    """Return the examples' features, cached on disk by datasets (key: rows, task adapter, tokenizer, length).

    Args:
        max_length: tokens of a feature at most.
        train: whether the features carry labels.
        desc: the name on the progress bar and in errors.

    Raises:
        UserError: the tokenizer fails on an example. Names its row.
    """
    options = {"tokenizer": tokenizer, "max_length": max_length, "train": train}
    key = fingerprint(task, examples, _tokenizer_key(tokenizer), max_length, train)
    try:
        features = through_cache(
            examples,
            task.featurize,
            with_indices=True,
            fn_kwargs=options,
            remove_columns=examples.column_names,
            desc=logs.named(f"{desc}: features"),
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
        desc=logs.named(f"{desc}: lengths"),
        new_fingerprint=fingerprint(task, features, "length"),
    )


def _tokenizer_key(tokenizer: TokenizersBackend) -> list[Any]:
    """Return all that a tokenizer's outputs depend on: its tokenizer.json, and what transformers adds to that.

    Models of several kinds share one tokenizer.json: BERT and DistilBERT differ in their inputs alone.
    """
    clean_tokenizer(tokenizer)
    return [
        tokenizer.backend_tokenizer.to_str(),
        type(tokenizer).__qualname__,
        list(tokenizer.model_input_names),
        tokenizer.padding_side,
        tokenizer.truncation_side,
        tokenizer.split_special_tokens,
        sorted((role, str(token)) for role, token in tokenizer.special_tokens_map.items()),
        [tokenizers.__version__, transformers.__version__],
    ]


def _failing(task: Task, examples: Dataset, options: dict[str, Any]) -> tuple[int, BaseException | None]:
    """Return (number of the first example that fails, from 0; its error)."""
    for row in range(len(examples)):
        try:
            task.featurize(examples[row : row + 1], [row], **options)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt | SystemExit):
                raise
            return row, error
    return 0, None


def through_cache(data: Dataset, function: Callable, **options: Any) -> Dataset:
    """Return `data.map(function, batched=True, **options)`. Rebuild a corrupt cache and log a warning."""
    try:
        return data.map(function, batched=True, **options)
    except (pyarrow.ArrowInvalid, OSError) as error:
        if full_disk(error):
            raise
        logger.warning("%s: the cache cannot be read (%s); rebuilding it.", options["desc"], first_line(error))
        return data.map(function, batched=True, load_from_cache_file=False, **options)


def text_features(
    task: Task, texts: dict[str, Dataset], tokenizer: TokenizersBackend, max_length: int, train: bool, whole: bool
) -> tuple[Dataset, list[str]]:
    """Return (features of texts in several languages, one language after the other; notes for results.json).

    A text that is longer than a feature becomes several windows, or its first one alone. Features without a token to
    mask are left out. Notes count both.

    Args:
        texts: {language: examples}.
        whole: whether to keep all windows. Rows that are matched across languages are one feature each.

    Raises:
        UserError: no text of a language has a token to mask, or the tokenizer has no mask token.
    """
    if tokenizer.mask_token is None:
        raise UserError(
            "The checkpoint's tokenizer has no mask token, so it cannot be trained by masked language modelling."
        )
    parts: list[Dataset] = []
    notes: list[str] = []
    name = f"{task.name if whole else 'text of rows'}{'' if train else ', held out'}"
    for code, examples in texts.items():
        features = featurize(task, examples, tokenizer, max_length, train, code)
        numbers = features.with_format("numpy")["example"][:]
        _, first, windows = np.unique(numbers, return_index=True, return_counts=True)
        if len(first) < len(features):
            cut = f"{(windows > 1).sum()} of {len(examples)} texts are longer than {max_length} tokens"
            what = f"cut into windows, {len(features)} with the others" if whole else "cut there"
            notes.append(f"{name}, {code}: {cut}: {what}")
            features = features if whole else features.select(first)
        kept = np.flatnonzero(has_words(features, tokenizer.all_special_ids))
        if not len(kept):
            raise UserError(
                f"{name}, {code}: none of {len(examples)} texts has a token to predict. Give more text, or leave "
                f"{code} out."
            )
        if len(kept) < len(features):
            notes.append(
                f"{name}, {code}: {len(features) - len(kept)} of {len(features)} texts without a token to predict "
                "left out"
            )
            features = features.select(kept)
        parts.append(features)
    return concatenate_datasets(parts), notes


def has_words(features: Dataset, special: list[int]) -> np.ndarray:
    """Return for each feature whether it has a token that is not special: array (n,) of bool.

    Args:
        special: ids of the special tokens.
    """
    found = [np.zeros(0, bool)]
    for ids in features.with_format("arrow")[:]["input_ids"].chunks:
        feature = np.repeat(np.arange(len(ids)), pc.list_value_length(ids))
        found.append(np.bincount(feature[~np.isin(ids.flatten(), special)], minlength=len(ids)) > 0)
    return np.concatenate(found)


def read_train(
    task: Task, rows: Rows, tokenizer: TokenizersBackend, max_length: int, data_args: DataArguments
) -> tuple[Dataset, tuple[Dataset, Dataset]]:
    """Return (features of English train, (examples, features) of English dev).

    Raises:
        UserError: see `load_scored` and `featurize`.
    """
    loaded = task.read("train", "en", rows)
    train = inputs.first(loaded.examples, data_args.max_train_samples, loaded.parts)
    features = featurize(task, train, tokenizer, max_length, True, f"{task.name} train")
    return features, read_scored(task, "dev", "en", rows, tokenizer, max_length, data_args)


def read_before(
    task: Task, rows: Rows, tokenizer: TokenizersBackend, max_length: int, data_args: DataArguments
) -> dict[str, tuple[Dataset, tuple[Dataset, Dataset]]]:
    """Return {task: `read_train`} of the stages before a task: all but the last of its `train_from`.

    Raises:
        UserError: see `read_train`.
    """
    return {name: read_train(get_task(name), rows, tokenizer, max_length, data_args) for name in task.train_from[:-1]}


def read_scored(
    task: Task,
    split: str,
    language: str,
    rows: Rows,
    tokenizer: TokenizersBackend,
    max_length: int,
    data_args: DataArguments,
) -> tuple[Dataset, Dataset]:
    """Return (examples, features) of a split that will be scored: "dev", or "test" of a language.

    Raises:
        UserError: see `load_scored` and `featurize`.
    """
    examples = load_scored(task, split, language, rows, data_args.max_eval_samples)
    desc = f"{task.name} {language if split == 'test' else split}"
    return examples, featurize(task, examples, tokenizer, max_length, False, desc)


def load_scored(task: Task, split: str, language: str, rows: Rows, limit: int | None) -> Dataset:
    """Return the first `limit` examples of a split that will be scored.

    Raises:
        UserError: as `task.load`; or the gold labels are placeholders, or those of the first `limit` examples are all
            equal. Both are found here, before training, and not by the metric after it.
    """
    loaded = task.read(split, language, rows)
    check_placeholder(task.gold_values(loaded.examples), loaded.where)
    examples = inputs.first(loaded.examples, limit, loaded.parts)
    if is_placeholder(gold := task.gold_values(examples)):
        raise UserError(
            f"--max_eval_samples {limit}: the gold labels of the first {limit} rows of {loaded.where} are all "
            f"{gold[0]}, because the rows are sorted by label. These rows alone cannot be scored. Shuffle the file, "
            "or leave --max_eval_samples out."
        )
    return examples


def max_length(
    data_args: DataArguments, task_length: int, tokenizer: TokenizersBackend, config: PretrainedConfig
) -> int:
    """Return the tokens a feature may have: --max_seq_length, or the task's length up to the model's limit.

    Raises:
        UserError: --max_seq_length exceeds the model's limit, or leaves no room for two texts (the tokenizer would
            then not truncate); or tokenizer and model do not belong together.
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
