"""Facts about a batch that a training step needs, found on the CPU when the batch is made.

Reading a tensor on a GPU makes the program wait for all queued work, and then the GPU waits for the program. So a step
reads none: `Described` adds the facts to the batch.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, MutableMapping
from contextvars import ContextVar
from typing import Any

import torch
from transformers import AttentionMaskInterface

from xstilts.checkpoint.padding_free import Layout
from xstilts.train.masked import labelled_places

PADDED, LABELLED, LAYOUT = "padded", "labelled", "layout"  # keys of a batch
_padded: ContextVar[bool | None] = ContextVar("padded", default=None)


class Described:
    """A collator that adds to a batch whether it holds padding, and which of its tokens have a label.

    Args:
        collator: makes a batch with an `attention_mask` of rows.
        layout: whether to add where the tokens are, for a model of `padding_free`.
    """

    def __init__(self, collator: Callable[[list[dict[str, Any]]], Any], layout: bool = False):
        self.collator, self.layout = collator, layout

    def __call__(self, rows: list[dict[str, Any]]) -> Any:
        batch = self.collator(rows)
        batch[PADDED] = not bool(batch["attention_mask"].all())
        if batch["labels"].shape == batch["input_ids"].shape:
            batch[LABELLED] = labelled_places(batch["labels"])
        if self.layout:
            mask = batch["attention_mask"]
            layout = Layout.of(mask.view(-1, mask.shape[-1]))  # of multiple choice: (rows, choices, n)
            batch[LAYOUT] = tuple(vars(layout).values())  # the Trainer moves the tensors of a tuple to the device
        return batch


def take(batch: MutableMapping[str, Any]) -> tuple[bool | None, torch.Tensor | None, Layout | None]:
    """Remove from a batch what `Described` added, and return it; Nones of a batch that is not described.

    Returns:
        (whether the batch holds padding, (k,) the places of tokens with a label in the flattened labels, None where
        labels are not of tokens, where the tokens are).
    """
    layout = batch.pop(LAYOUT, None)
    return batch.pop(PADDED, None), batch.pop(LABELLED, None), Layout(*layout) if layout else None


@contextlib.contextmanager
def known_padding(padded: bool | None) -> Iterator[None]:
    """Within this block, models do not check whether a batch holds padding.

    Args:
        padded: whether it does; None: not known, so models check.
    """
    use_known_padding()
    token = _padded.set(padded)
    try:
        yield
    finally:
        _padded.reset(token)


def _without_check(library: Callable[..., Any]) -> Callable[..., Any]:
    """Return transformers' function that makes an attention mask, changed so that it uses what `known_padding` says.

    The mask is the same. The library reads whether any token is padding, because attention without a mask is faster.
    """

    def make(*args: Any, attention_mask: torch.Tensor | None = None, **kwargs: Any) -> Any:
        padded = None if torch.compiler.is_compiling() else _padded.get()
        if padded:
            kwargs["allow_is_bidirectional_skip"] = False
        elif padded is not None:
            attention_mask = None
        return library(*args, attention_mask=attention_mask, **kwargs)

    return make


@functools.cache
def use_known_padding() -> None:
    """Register the attention masks of `_without_check` for this process. They change nothing outside of
    `known_padding`."""
    for name in ("sdpa", "eager"):
        AttentionMaskInterface.register(name, _without_check(AttentionMaskInterface()[name]))
