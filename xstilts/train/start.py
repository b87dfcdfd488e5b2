"""The model and the tokenizer that phase 1 starts from."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

from datasets import Dataset
from transformers import PreTrainedModel, TokenizersBackend

from xstilts.checkpoint import heads
from xstilts.checkpoint.tokenizer import load_tokenizer
from xstilts.cli.arguments import ModelArguments
from xstilts.run.lifecycle import Run
from xstilts.train.tokenizer import train_tokenizer


def masked_lm(
    config_name: str | None,
    vocab_size: int,
    model_args: ModelArguments,
    texts: Mapping[str, Dataset],
    run: Run,
    notes: list[str] | None = None,
) -> tuple[PreTrainedModel, TokenizersBackend]:
    """Return (the checkpoint to continue, its tokenizer); with --config_name new ones, the tokenizer from the texts.

    Args:
        config_name: --config_name, a model's sizes.
        vocab_size: pieces of a new tokenizer. A resumed run keeps the one in its checkpoint.
        texts: {language: train texts}.
        notes: gets what `heads.masked_lm` notes.

    Raises:
        UserError: the checkpoint or the config does not load, or the tokenizer has no mask token.
    """
    if config_name:
        lines = itertools.chain.from_iterable(part["text"] for part in texts.values())
        tokenizer = load_tokenizer(run.checkpoint) if run.checkpoint else train_tokenizer(lines, vocab_size)
        model = heads.from_sizes(config_name, tokenizer)
    else:
        name = str(model_args.model_name_or_path)
        tokenizer = load_tokenizer(name, model_args.model_revision, mask=True)
        model = heads.masked_lm(name, **model_args.loading, notes=notes)
    # read by Trainer, and not of an adapter around the model; the loss is `trainers.token_mean`
    model.accepts_loss_kwargs = False  # type: ignore[assignment]  # an attribute that torch's stubs take for a module
    if model_args.freeze_embeddings:
        heads.freeze_embeddings(model)
    return model, tokenizer
