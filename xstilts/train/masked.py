"""Masked LM without the logits of tokens that are not masked.

With XLM-R's vocabulary of 250,000 the output layer costs more time than a small encoder, and the logits of a batch
with their gradients more memory than everything else. The loss needs those of the masked tokens alone, about 15 %.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import PreTrainedModel


@contextmanager
def masked_tokens_alone(
    model: PreTrainedModel, labels: torch.Tensor | None, labelled: torch.Tensor | None = None
) -> Iterator[None]:
    """Within this block, the output layer of a masked LM gets only the tokens that have a label.

    The logits are then (masked tokens, vocabulary) instead of (n, tokens, vocabulary). Nothing changes for a model
    without an output layer over the vocabulary, nor for one that does not call it with (n, tokens, width).

    Args:
        model: the model, unwrapped.
        labels: (n, tokens), -100 where no label is.
        labelled: (k,) the places of tokens with a label in the flattened `labels`, in order; None: they are computed.
    """
    layer = model.get_output_embeddings() if labels is not None and labels.dim() == 2 else None
    if layer is None or labels is None:
        yield
        return
    shape, places = labels.shape, labelled_places(labels) if labelled is None else labelled

    def select(module: torch.nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        hidden = args[0]
        return (hidden.flatten(0, 1).index_select(0, places), *args[1:]) if hidden.shape[:-1] == shape else None

    handle = layer.register_forward_pre_hook(select)
    try:
        yield
    finally:
        handle.remove()


def labelled_places(labels: torch.Tensor) -> torch.Tensor:
    """Return (k,) the places of labels that are not -100 in the flattened `labels`.

    On a GPU this waits for all queued work.
    """
    return (labels.reshape(-1) != -100).nonzero().squeeze(1)
