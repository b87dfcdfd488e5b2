"""The encoder of a checkpoint: loaded and checked, its longest input, and its first k layers.

Layer k is `hidden_states[k]` of the whole model: 0 is the embedding output, the number of layers is the top.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from xstilts.checkpoint.config import WORKS, encoder_class, read_config
from xstilts.errors import UserError, first_line

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerFast

# two ways to compute a float32 state differ by less, relative to its largest value; random weights in 24 layers:
# 1e-5
NOISE = 1e-4
UNLIMITED = 10**6  # tokens, where neither model nor tokenizer has a limit


# ---- loading --------------------------------------------------------------------------------------------------------


def load_encoder(
    name: str, revision: str = "main", pooler: bool = False, attention: str | None = None
) -> tuple[PreTrainedModel, list[str]]:
    """Return the checkpoint's encoder in float32, whatever head it carried, and the names of its parameters that were
    missing.

    Args:
        name: a folder or Hub id.
        revision: of a Hub id.
        pooler: whether to load the pooler, in classes that have one.
        attention: transformers' `attn_implementation`; None: its choice.

    Raises:
        UserError: it does not load; weights other than the pooler's are missing or left over; a weight is not finite;
            or `check_encoder` refuses it.
    """
    from transformers import AutoModel

    config = read_config(name, revision)
    options = pooling_layer(config, pooler) | ({"attn_implementation": attention} if attention else {})
    try:
        with quiet():
            model, info = AutoModel.from_pretrained(
                name,
                revision=revision,
                dtype=torch.float32,
                trust_remote_code=False,
                output_loading_info=True,
                **options,
            )
    except Exception as error:
        raise UserError(f"{name}: does not load as an encoder ({first_line(error)}).") from error
    missing = sorted(info["missing_keys"])
    check_weights(name, model, missing, info["unexpected_keys"])
    check_encoder(name, model)
    return model, missing


def pooling_layer(config: PretrainedConfig, wanted: bool) -> dict[str, bool]:
    """The keyword that makes or leaves out the pooler, for the classes that know it; their defaults differ."""
    knows = "add_pooling_layer" in inspect.signature(encoder_class(config).__init__).parameters
    return {"add_pooling_layer": wanted} if knows else {}


@contextmanager
def quiet() -> Iterator[None]:
    """Silence transformers' report on weights and its bars: missing and unexpected weights are checked here."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def check_weights(name: str, model: PreTrainedModel, missing, unexpected) -> None:
    """Raise UserError unless checkpoint and model hold the same encoder weights (the pooler aside), all of them
    finite.

    A missing weight would be random. An unexpected one means that config.json describes another encoder, e.g. one with
    fewer layers.

    Args:
        name: the checkpoint, for the message.
        model: the encoder, or a model with a head.
        missing, unexpected: keys, from `output_loading_info`.
    """
    spoilt = [key for key, weight in model.named_parameters() if not weight.isfinite().all()]
    if spoilt:
        raise UserError(f"{name}: {len(spoilt)} of its weights hold NaN or infinity, {spoilt[0]} for one.")
    base = model.base_model
    prefix = f"{model.base_model_prefix}."
    parts = {child for child, _ in base.named_children()}

    def of_encoder(key: str) -> bool:
        inside = key.removeprefix(prefix)
        return "pooler" not in inside.split(".") and (
            key.startswith(prefix) or (base is model and inside.split(".")[0] in parts)
        )

    lost = sorted(key for key in missing if of_encoder(key))
    if lost:
        raise UserError(f"{name}: {len(lost)} encoder weights are missing from the checkpoint, {lost[0]} for one.")
    # a checkpoint of the bare encoder has no prefix; one with a head has, and its head's own names are not among the
    # encoder's parts
    over = sorted(key for key in unexpected if key.startswith(prefix) or key.split(".")[0] in parts)
    over = [key for key in over if "pooler" not in key.split(".")]
    if over:
        raise UserError(
            f"{name}: its weights hold {len(over)} that config.json has no place for, {over[0]} for one; the encoder "
            "would be another one than was trained. Mend config.json (num_hidden_layers, for one)."
        )


# ---- checks by two short rows ---------------------------------------------------------------------------------------


def probe(config: PretrainedConfig) -> dict[str, torch.Tensor]:
    """Two rows of made-up tokens, (2, 7) each, the second with 4 tokens and 3 of padding."""
    pad = config.pad_token_id if isinstance(config.pad_token_id, int) and config.pad_token_id >= 0 else 0
    ids = [token for token in range(config.vocab_size // 2, config.vocab_size) if token != pad][:9]
    if len(ids) < 9:
        ids = ([token for token in range(config.vocab_size) if token != pad] * 9)[:9]
    rows = torch.tensor([ids[:7], ids[5:9] + [pad] * 3])
    mask = torch.tensor([[1] * 7, [1] * 4 + [0] * 3])
    return {"input_ids": rows, "attention_mask": mask}


@contextmanager
def evaluating(model: PreTrainedModel) -> Iterator[None]:
    """Without dropout, gradients or a trace in torch's random state."""
    training = model.training
    model.eval()
    try:
        with torch.random.fork_rng(devices=[]), torch.inference_mode():
            yield
    finally:
        model.train(training)


def differ(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether two arrays differ by more than rounding."""
    return one.shape != other.shape or not (one - other).abs().max() <= NOISE * other.abs().max().clamp(min=1e-9)


def check_encoder(name: str, model: PreTrainedModel) -> None:
    """Raise UserError unless the encoder reads tokens both ways and takes no notice of padding.

    Nothing here asks for the model's name: it runs two short rows, padded together and each alone.
    """
    config, batch = model.config, probe(model.config)
    if hasattr(model, "set_default_language") and getattr(config, "default_language", None) is None:
        raise UserError(
            f'{name}: its layers differ by language and none is chosen. Set "default_language" in config.json to one '
            "of: "
            f"{' '.join(config.languages)}."
        )
    try:
        with evaluating(model):
            together = model(**batch).last_hidden_state
            alone = model(**{key: rows[1:, :4] for key, rows in batch.items()}).last_hidden_state
            changed = batch["input_ids"][:1].clone()
            changed[0, 1] = changed[0, 2]
            other = model(input_ids=changed, attention_mask=batch["attention_mask"][:1]).last_hidden_state
    except Exception as error:
        raise UserError(
            f"{name}: a {config.model_type} model fails on two short rows of tokens ({first_line(error)}), so it is "
            f"not supported. {WORKS}"
        ) from error
    if not together[0].isfinite().all():
        raise UserError(f"{name}: two short rows of tokens give NaN or infinity: its weights are too large.")
    if together.shape[1] != batch["input_ids"].shape[1] or differ(together[1:, :4], alone):
        raise UserError(
            f"{name}: the vectors of a {config.model_type} model depend on the padding of its batch, so no score can "
            f"be repeated. {WORKS}"
        )
    if torch.equal(other[0, 0], together[0, 0]) and not torch.equal(other[0, 1], together[0, 1]):
        raise UserError(f"{name}: a decoder: the first token does not see the second. {WORKS}")


def check_precision(name: str, model: PreTrainedModel, dtype: str) -> None:
    """Raise UserError if an encoder that was cast to `dtype` does not run in it, as DeBERTa's code, which mixes
    precisions."""
    try:
        with evaluating(model):
            model(**probe(model.config))
    except Exception as error:
        raise UserError(f"{name} does not run in {dtype} ({first_line(error)}). Give --dtype fp32.") from error


# ---- the longest input ----------------------------------------------------------------------------------------------


def position_limit(config: PretrainedConfig) -> int:
    """Return how many tokens the model has positions for, read off its table of positions.

    RoBERTa's descendants count positions from padding_idx + 1, so that a table of 514 serves 512 tokens. A model
    without a table (relative or rotary positions) is limited by the length it was trained with.
    """
    from transformers import AutoModel

    longest = getattr(config, "max_position_embeddings", None)
    if not longest:
        return UNLIMITED
    with torch.device("meta"):  # no memory, no time, no random numbers
        model = AutoModel.from_config(config, trust_remote_code=False)
    for path, module in model.named_modules():
        if (
            isinstance(module, torch.nn.Embedding)
            and "position" in path.rpartition(".")[2]
            and module.num_embeddings == longest
        ):
            return longest - (0 if module.padding_idx is None else module.padding_idx + 1)
    return longest


def length_limit(config: PretrainedConfig, tokenizer: PreTrainedTokenizerFast) -> int:
    """Return the most tokens both model and tokenizer take."""
    return int(min(position_limit(config), tokenizer.model_max_length))


def check_vocabulary(name: str, config: PretrainedConfig, tokenizer: PreTrainedTokenizerFast) -> None:
    """Raise UserError if the tokenizer has tokens that the model has no embedding for: on a GPU that ends without a
    reason."""
    needed = max(tokenizer.get_vocab().values()) + 1
    if needed > config.vocab_size:
        raise UserError(
            f"{name}: the checkpoint's tokenizer has {needed} pieces, its model {config.vocab_size} embeddings: the "
            "two do not belong together."
        )


# ---- the first k layers ---------------------------------------------------------------------------------------------


class Cut:
    """An encoder without the layers above layer k, so that nothing above it is computed.

    In models that normalise before each layer, a last norm stands on top of the last layer. It belongs to the top
    alone, so it is taken out too. It is found by running two rows: it is what runs after the last layer.

    Args:
        encoder: in evaluation or training; it is changed in place.
        layer: k, from 0 to the number of layers.

    Attributes:
        exact: whether the encoder's output is hidden_states[k]. Otherwise ask it for its hidden states: a model that
            cannot run without any layer, or with fewer than its config says, keeps one layer more, or all.
        norms: {path: module} of what runs after the last layer.

    Raises:
        UserError: no such layer.
    """

    def __init__(self, encoder: PreTrainedModel, layer: int):
        self.encoder, self.layer, self.top = encoder, layer, depth(encoder)
        if not 0 <= layer <= self.top:
            raise UserError(
                f"layer {layer} does not exist: the model has layers 0 (embedding output) to {self.top} (top)."
            )
        self.layers, self.norms, self.upper = layer_list(encoder, self.top), {}, []
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
            except Exception:  # a model that cannot run with fewer layers says so in many ways
                states = []
            if (
                len(states) > layer
                and not differ(states[layer], wanted)
                and not (exact and differ(states[-1], wanted))
            ):
                return
            self.put_back()

    def _states(self) -> list[torch.Tensor]:
        """All hidden states of two rows and, last, the output."""
        with evaluating(self.encoder):
            output = self.encoder(**probe(self.encoder.config), output_hidden_states=True)
        return [*output.hidden_states, output.last_hidden_state]

    def take_out(self, kept: int, norms: bool) -> None:
        """Take out the layers above `kept`, and what runs after the last one.

        A model without a list of layers (ALBERT shares one) reads their number from its config.
        """
        if self.layers is None:
            self.encoder.config.num_hidden_layers = kept
            return
        self.upper = list(self.layers[kept:])
        del self.layers[kept:]
        for path in self.norms if norms else ():
            self.encoder.set_submodule(path, torch.nn.Identity())

    def put_back(self) -> None:
        """Make the encoder whole again."""
        if self.layers is None:
            self.encoder.config.num_hidden_layers = self.top
            return
        self.layers.extend(self.upper)
        self.upper = []
        for path, module in self.norms.items():
            self.encoder.set_submodule(path, module)

    @contextmanager
    def restored(self) -> Iterator[None]:
        """The whole encoder, for as long as it is saved or loaded."""
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
            None if the saved encoder's output is hidden_states[k]; otherwise the k to ask its hidden states for: no
            config can say that the last norm is missing; one layer more is kept then.
        """
        encoder, config = self.encoder, self.encoder.config
        if self.kept == self.top:
            with quiet():
                encoder.save_pretrained(folder)
            return None if self.exact else self.layer
        lists = per_layer(config, self.top)
        plain = self.exact and not self.norms and (self.layer > 0 or not lists)  # an empty list is no list of windows
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
    """Fields of a config that are lists with one entry a layer, such as layer_types."""
    return [
        key
        for key, value in config.to_dict().items()
        if isinstance(value, list) and len(value) == layers and hasattr(config, key)
    ]


def depth(encoder: PreTrainedModel) -> int:
    """Return the number of layers: the states of a forward pass, less the embedding output."""
    batch = {key: rows[:1, :4] for key, rows in probe(encoder.config).items()}
    with evaluating(encoder):
        return len(encoder(**batch, output_hidden_states=True).hidden_states) - 1


def layer_list(encoder: PreTrainedModel, n: int) -> torch.nn.ModuleList | None:
    """The one list that holds the encoder's n layers; None if no list has that length, or several stand side by
    side."""
    found = {path: m for path, m in encoder.named_modules() if isinstance(m, torch.nn.ModuleList) and len(m) == n}
    outer = [m for path, m in found.items() if not any(path.startswith(f"{other}.") for other in found)]
    return outer[0] if len(outer) == 1 else None


def layer_classes(encoder: torch.nn.Module) -> list[str] | None:
    """Names of the classes of an encoder's layers, which FSDP shards one by one; None leaves the choice to
    transformers."""
    lists = [
        m
        for m in encoder.modules()
        if isinstance(m, torch.nn.ModuleList) and len(m) > 1 and len(set(map(type, m))) == 1
    ]
    return sorted({type(m[0]).__name__ for m in lists[:1]}) or None


def after_last(encoder: PreTrainedModel, last: torch.nn.Module) -> dict[str, torch.nn.Module]:
    """{path: module} of those outside the layers that run after the last one and keep the shape of the states: a last
    norm."""
    inside, paths = set(last.modules()), {module: path for path, module in encoder.named_modules() if path}
    found, state = {}, {"reached": False}

    def watch(module, args, output):
        if module is last:
            state["reached"] = True
        elif state["reached"] and module not in inside and args and isinstance(args[0], torch.Tensor):
            same = isinstance(output, torch.Tensor) and output.shape == args[0].shape and output.dim() == 3
            if same and not any(True for _ in module.children()):
                found[paths[module]] = module

    hooks = [module.register_forward_hook(watch) for module in paths]
    try:
        with evaluating(encoder):
            encoder(**probe(encoder.config))
    finally:
        for hook in hooks:
            hook.remove()
    return found


def hidden_state(layer: int) -> dict[str, dict[str, object]]:
    """What makes a sentence-transformers Transformer give hidden_states[layer] instead of the last layer's."""
    return {"text": {"method": "forward", "method_output_name": ["hidden_states", layer]}}
