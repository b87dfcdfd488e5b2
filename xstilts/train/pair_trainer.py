"""A dual encoder's model, loss, trainer and dev score, on sentence-transformers."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.sentence_transformer.losses import (
    CachedMultipleNegativesRankingLoss,
    MultipleNegativesRankingLoss,
)
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
from torch.utils.data import DataLoader
from transformers import PreTrainedModel, TrainingArguments

from tasks.errors import UserError
from tasks.pairs import Pairs
from xstilts.checkpoint.encoder import load_encoder, load_without_pooler
from xstilts.checkpoint.heads import has_pooler
from xstilts.checkpoint.layers import TruncatedEncoder, depth, hidden_state
from xstilts.checkpoint.tokenizer import clean_tokenizer, load_tokenizer
from xstilts.train import trainers
from xstilts.train.batching import loader_options
from xstilts.train.library_internals import CheckpointLoading
from xstilts.train.pair_batches import PairRows, PairSampler
from xstilts.train.progress import show_progress

# (queries (n, dim), passages (m, dim)), neither normalised -> (n,) index of each query's nearest passage
Nearest = Callable[[np.ndarray, np.ndarray], np.ndarray]


def encoder_with_pooler(name: str, revision: str = "main", attention: str | None = None) -> PreTrainedModel:
    """Return a checkpoint's encoder in float32. A pooler, if the checkpoint has one, is kept and not trained."""
    encoder, missing = load_encoder(name, revision, pooler=True, attention=attention)
    if has_pooler(encoder):
        if missing:
            encoder.pooler = None  # type: ignore[assignment]  # torch allows None for a module; drawn at random, so not worth keeping
        else:
            encoder.pooler.requires_grad_(False)
    return encoder


def encoder_of(model: SentenceTransformer) -> PreTrainedModel:
    """Return the encoder in a model of `build`."""
    encoder = model[0].model
    assert isinstance(encoder, PreTrainedModel)
    return encoder


class UpperLayers(TruncatedEncoder):
    """The layers above the trained one: removed during training, restored in what is saved.

    Args:
        layer: 1 to the number of layers, or None for the last.

    Raises:
        UserError: no such layer, or an encoder that cannot be cut there.
    """

    def __init__(self, encoder: PreTrainedModel, layer: int | None):
        n = depth(encoder)
        if layer is not None and not 1 <= layer <= n:
            raise UserError(f"--layer {layer}: the model has layers 1 to {n} to train.")
        super().__init__(encoder, n if layer is None else layer)
        if not self.exact:
            raise UserError(
                f"--layer {layer}: a {encoder.config.model_type} model cannot be cut there; train the last layer."
            )


def build(
    name: str,
    pooling: str = "mean",
    prompts: dict[str, str] | None = None,
    revision: str = "main",
    layer: int | None = None,
    attention: str | None = None,
) -> SentenceTransformer:
    """Return a checkpoint's encoder in float32, with a pooling layer, on the CPU.

    Args:
        prompts: {"query" or "passage": text put before it}; saved with the model.
        layer: the pooled vectors are hidden_states[layer]; None: the last layer. Saved with the model.

    Raises:
        UserError: the checkpoint does not load as an encoder, or lacks encoder weights.
    """
    encoder = encoder_with_pooler(name, revision, attention)
    where: dict[str, Any] = {"revision": revision}
    transformer = Transformer(name, model_kwargs=where, processor_kwargs=where, config_kwargs=where)
    transformer.model = encoder
    transformer.processor = load_tokenizer(name, revision)  # pads on the right
    if layer is not None:
        transformer.modality_config = hidden_state(layer)
    modules = [transformer, Pooling(encoder.config.hidden_size, pooling_mode=pooling)]
    return SentenceTransformer(modules=modules, device="cpu", prompts=prompts or {})


def make_loss(model: SentenceTransformer, scale: float, mini_batch: int | None) -> torch.nn.Module:
    """Return the loss: InfoNCE over the batch, query to passage, with cosine similarity.

    Args:
        scale: factor of the cosines, 1 / temperature.
        mini_batch: texts encoded at a time; memory then depends on this number alone, at the cost of a second forward
            pass (GradCache, arXiv 2101.06983). None: the whole batch at once.
    """
    if mini_batch is None:
        return MultipleNegativesRankingLoss(model, scale=scale)
    return CachedMultipleNegativesRankingLoss(model, scale=scale, mini_batch_size=mini_batch)


def library_arguments(args: TrainingArguments, prompts: dict[str, str]) -> SentenceTransformerTrainingArguments:
    """Return transformers' TrainingArguments as sentence-transformers' subclass."""
    values = {f.name: getattr(args, f.name) for f in dataclasses.fields(args) if f.init}
    return SentenceTransformerTrainingArguments(**values, prompts=prompts or None)


class PairTrainer(CheckpointLoading, trainers.CheckedTrainer, SentenceTransformerTrainer):  # type: ignore[misc]  # the two libraries differ in a signature
    """sentence-transformers' trainer on `PairRows`, in the batches of a `PairSampler`.

    Args:
        name: the name on the progress bar.
        layer: the layer whose vectors are trained; None: the last.
        kwargs: of SentenceTransformerTrainer.
    """

    task = dev = None  # no head, so `runner.train` has no scoring to try before training

    def __init__(
        self,
        *,
        model: SentenceTransformer,
        pairs: PairRows,
        sampler: PairSampler,
        name: str,
        layer: int | None = None,
        **kwargs: Any,
    ):
        self.upper = UpperLayers(encoder_of(model), layer)
        super().__init__(model=model, train_dataset=pairs.data, **kwargs)
        self.pairs, self.sampler = pairs, sampler
        show_progress(self, name)

    def add_model_card_callback(self, default_args_dict: dict[str, Any]) -> None:
        """Write no card: `xstilts.run.card` writes ours."""

    def get_train_dataloader(self) -> DataLoader:
        """Return a loader of the sampler's batches."""
        self.accelerator.even_batches = False
        loader = DataLoader(
            self.pairs, batch_sampler=self.sampler, collate_fn=self.data_collator, **loader_options(self.args)
        )
        return self.accelerator.prepare(loader)

    def load_checkpoint(self, folder: str) -> None:
        """Load the encoder's weights. The library would add a random pooler to a checkpoint without one, and fail."""
        with self.upper.restored():
            encoder_of(self.model).load_state_dict(encoder_with_pooler(folder).state_dict())

    def write(self, folder: str, in_training: bool) -> None:
        """Save in the layout of both libraries, without a card."""
        if self.args.should_save:
            clean_tokenizer(self.model.tokenizer)
            with self.upper.restored():
                self.model.save(folder, create_model_card=False)
            if not has_pooler(encoder_of(self.model)):
                load_without_pooler(folder, encoder_of(self.model).config)


def accuracy(
    model: SentenceTransformer, task: Pairs, examples: Dataset, nearest: Nearest, batch_size: int = 64
) -> dict[str, float]:
    """Return the task's scores on dev pairs, 0-100, from each query's nearest passage by cosine.

    Texts with equal tokens are embedded once, as in `Encoder.embed`.
    """
    sides = {"query": examples["query"][:], "passage": task.candidates(examples)}
    texts = [model.prompts.get(side, "") + text for side, column in sides.items() for text in column]
    ids = model.tokenizer(texts, truncation=True, max_length=model.max_seq_length)["input_ids"]
    # the first text of those with equal tokens
    of_tokens = dict(zip(map(tuple, reversed(ids)), reversed(texts), strict=True))
    row_of = {tokens: row for row, tokens in enumerate(of_tokens)}
    vectors = model.encode(list(of_tokens.values()), batch_size=batch_size, show_progress_bar=False)
    vectors = vectors[[row_of[tuple(row)] for row in ids]]
    found = nearest(vectors[: len(examples)], vectors[len(examples) :])
    return task.score(found.tolist(), examples, "en")
