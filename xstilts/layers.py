"""Which layers of an encoder must be there for the states of one of them: those above are neither run nor trained."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # torch and transformers take seconds to import: the functions that need them do it
    import torch
    from transformers import PreTrainedModel

PER_LAYER = ("layer_types", "attention_window")  # lists in a config with one entry for each layer


def layer_list(encoder: PreTrainedModel) -> torch.nn.ModuleList | None:
    """The list of an encoder's layers; None where no list has as many members (ALBERT shares its layers)."""
    import torch

    n = encoder.config.num_hidden_layers
    return next((m for m in encoder.modules() if isinstance(m, torch.nn.ModuleList) and len(m) == n), None)


def needed(encoder: PreTrainedModel, layer: int) -> int:
    """How many layers must stay so that hidden_states[layer] is what the whole encoder gives, found by trying.

    Usually `layer`. One more where something follows the last layer, as the norm of XLM-R XL or ModernBERT does, or where
    the code fails without any layer. All where the layers are not in one list, so that none can be taken away.
    """
    import torch

    n = encoder.config.num_hidden_layers
    if layer == n or layer_list(encoder) is None:
        return n
    whole = _tried(encoder, layer)
    for kept in range(layer, min(layer + 2, n)):
        with _without(encoder, kept):
            try:
                if torch.equal(_tried(encoder, layer), whole):
                    return kept
            except Exception:  # of whatever type: this encoder's code does not run with so few layers
                continue
    return n


def cut(encoder: PreTrainedModel, kept: int) -> None:
    """Takes away the layers above the first `kept`, from the encoder and its config, so that it can be saved."""
    config, n = encoder.config, encoder.config.num_hidden_layers
    if kept == n:
        return
    del layer_list(encoder)[kept:]
    config.num_hidden_layers = kept
    for name in PER_LAYER:
        if isinstance(values := getattr(config, name, None), list) and len(values) == n:
            setattr(config, name, values[:kept])


@contextmanager
def _without(encoder: PreTrainedModel, kept: int) -> Iterator[None]:
    """The encoder as `cut` leaves it, for the block."""
    layers, config = layer_list(encoder), encoder.config
    upper, before = layers[kept:], {name: getattr(config, name) for name in ("num_hidden_layers", *PER_LAYER) if hasattr(config, name)}
    cut(encoder, kept)
    try:
        yield
    finally:
        layers.extend(upper)
        for name, value in before.items():
            setattr(config, name, value)


def states(output, layer: int, top: int) -> torch.Tensor:
    """A layer's states in the output of an encoder of `top` layers; those of the top one are there without being asked for."""
    return output.last_hidden_state if layer == top else output.hidden_states[layer]


def _tried(encoder: PreTrainedModel, layer: int) -> torch.Tensor:
    """The layer's states of four tokens, whichever they are."""
    import torch

    training = encoder.training
    encoder.eval()
    try:
        with torch.no_grad():  # a tensor the encoder keeps of an inference_mode could not be trained with
            ids = torch.arange(4, device=encoder.device)[None]
            output = encoder(input_ids=ids, attention_mask=torch.ones_like(ids), output_hidden_states=True)
            return states(output, layer, encoder.config.num_hidden_layers)
    finally:
        encoder.train(training)
