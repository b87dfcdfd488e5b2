"""The first k layers of an encoder.

Layer k is `hidden_states[k]` of the whole model: 0 is the embedding output, the number of layers is the top.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from xstilts.checkpoint.config import check_layer
from xstilts.checkpoint.encoder import differ, evaluating, probe, quiet

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel


class TruncatedEncoder:
    """An encoder without the layers above layer k, which are then not computed.

    Models that normalise before each layer have a final norm after the last one. Only the top layer needs it, so it is
    removed too. To find it, the encoder runs two rows: it is the module that runs after the last layer.

    Args:
        encoder: in evaluation or training mode; changed in place.
        layer: k, from 0 to the number of layers.

    Attributes:
        exact: whether the encoder's output is hidden_states[k]. If not, read its hidden states: a model that cannot
            run without layers, or with fewer than its config says, keeps one layer more, or all of them.
        norms: {path: module} of the modules that run after the last layer.

    Raises:
        UserError: no such layer.
    """

    def __init__(self, encoder: PreTrainedModel, layer: int):
        self.encoder, self.layer, self.top = encoder, layer, depth(encoder)
        check_layer(layer, self.top)
        self.layers = layer_list(encoder, self.top)
        self.norms: dict[str, torch.nn.Module] = {}
        self.upper: list[torch.nn.Module] = []
        self.kept, self.exact = self.top, layer == self.top
        if self.exact:
            return
        if self.layers is not None:
            self.norms = after_last(encoder, self.layers[-1])
        wanted = self._states()[layer]
        for kept, exact in ((layer, True), (layer + 1, False), (self.top, False)):
            self.kept, self.exact = kept, exact
            self.take_out(kept, exact)
            try:
                states = self._states()
            except Exception:  # models that cannot run with fewer layers raise many kinds of error
                states = []
            if (
                len(states) > layer
                and not differ(states[layer], wanted)
                and not (exact and differ(states[-1], wanted))
            ):
                return
            self.put_back()

    def _states(self) -> list[torch.Tensor]:
        """The hidden states of two rows, then the output."""
        with evaluating(self.encoder):
            output = self.encoder(**probe(self.encoder.config), output_hidden_states=True)
        return [*output.hidden_states, output.last_hidden_state]

    def take_out(self, kept: int, norms: bool) -> None:
        """Remove the layers above `kept` and, with `norms`, the modules that run after the last one.

        A model without a list of layers (ALBERT shares one layer) reads their number from its config.
        """
        if self.layers is None:
            self.encoder.config.num_hidden_layers = kept
            return
        self.upper = list(self.layers[kept:])
        del self.layers[kept:]
        for path in self.norms if norms else ():
            self.encoder.set_submodule(path, torch.nn.Identity())

    def put_back(self) -> None:
        """Put the removed layers and norms back."""
        if self.layers is None:
            self.encoder.config.num_hidden_layers = self.top
            return
        self.layers.extend(self.upper)
        self.upper = []
        for path, module in self.norms.items():
            self.encoder.set_submodule(path, module)

    @contextmanager
    def restored(self) -> Iterator[None]:
        """Put the removed layers back while the encoder is saved or loaded."""
        if self.kept == self.top:
            yield
            return
        self.put_back()
        try:
            yield
        finally:
            self.take_out(self.kept, self.exact)

    def save(self, folder: str | os.PathLike) -> int | None:
        """Write the first layers as a plain checkpoint that AutoModel loads.

        Returns:
            None if the saved encoder's output is hidden_states[k]. Otherwise k, to read from its hidden states: no
            config can leave out the final norm, so the checkpoint has one layer more.
        """
        encoder, config = self.encoder, self.encoder.config
        if self.kept == self.top:
            with quiet():
                encoder.save_pretrained(folder)
            return None if self.exact else self.layer
        lists = per_layer(config, self.top)
        plain = self.exact and not self.norms and (self.layer > 0 or not lists)  # configs with lists need one entry
        keep = self.layer if plain else self.layer + 1
        before = {key: getattr(config, key) for key in ("num_hidden_layers", *lists)}
        with self.restored():
            self.take_out(keep, norms=False)
            try:
                for key, value in before.items():
                    setattr(config, key, keep if key == "num_hidden_layers" else value[:keep])
                with quiet():
                    encoder.save_pretrained(folder)
            finally:
                for key, value in before.items():
                    setattr(config, key, value)
                self.put_back()
        return None if plain else self.layer


def per_layer(config: PretrainedConfig, layers: int) -> list[str]:
    """Fields of a config that are lists with one entry per layer, such as layer_types."""
    return [
        key
        for key, value in config.to_dict().items()
        if isinstance(value, list) and len(value) == layers and hasattr(config, key)
    ]


def depth(encoder: PreTrainedModel) -> int:
    """Return the number of layers: the hidden states of a forward pass, less the embedding output."""
    batch = {key: rows[:1, :4] for key, rows in probe(encoder.config).items()}
    with evaluating(encoder):
        return len(encoder(**batch, output_hidden_states=True).hidden_states) - 1


def layer_list(encoder: PreTrainedModel, n: int) -> torch.nn.ModuleList | None:
    """The module list with the encoder's n layers; None if no list, or more than one, has that length."""
    lists = {path: m for path, m in encoder.named_modules() if isinstance(m, torch.nn.ModuleList) and len(m) == n}
    outer = [m for path, m in lists.items() if not any(path.startswith(f"{other}.") for other in lists)]
    return outer[0] if len(outer) == 1 else None


def layer_classes(encoder: torch.nn.Module) -> list[str] | None:
    """Class names of an encoder's layers, for FSDP to shard one by one; None leaves the choice to transformers."""
    lists = [
        m
        for m in encoder.modules()
        if isinstance(m, torch.nn.ModuleList) and len(m) > 1 and len(set(map(type, m))) == 1
    ]
    return sorted({type(m[0]).__name__ for m in lists[:1]}) or None


def after_last(encoder: PreTrainedModel, last: torch.nn.Module) -> dict[str, torch.nn.Module]:
    """{path: module} of the modules that run after the last layer and keep the shape of the states: a final norm."""
    inside, paths = set(last.modules()), {module: path for path, module in encoder.named_modules() if path}
    found: dict[str, torch.nn.Module] = {}
    state = {"reached": False}

    def record(module: torch.nn.Module, args: tuple, output: Any) -> None:
        if module is last:
            state["reached"] = True
        elif state["reached"] and module not in inside and args and isinstance(args[0], torch.Tensor):
            same = isinstance(output, torch.Tensor) and output.shape == args[0].shape and output.dim() == 3
            if same and not any(True for _ in module.children()):
                found[paths[module]] = module

    hooks = [module.register_forward_hook(record) for module in paths]
    try:
        with evaluating(encoder):
            encoder(**probe(encoder.config))
    finally:
        for hook in hooks:
            hook.remove()
    return found


def hidden_state(layer: int) -> dict[str, dict[str, object]]:
    """The setting with which a sentence-transformers Transformer returns hidden_states[layer], not the last layer."""
    return {"text": {"method": "forward", "method_output_name": ["hidden_states", layer]}}
