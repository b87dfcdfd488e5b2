"""`--attn_implementation padding_free`: the encoder's layers get the rows of a batch laid end to end, without padding.

Before the encoder the padding is taken out, and after it is put back as zeros, so heads and losses need no change. A
row attends to itself alone. Also known as unpadding, packing, sequence packing without cross-attention.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import itertools
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.attention.varlen import varlen_attn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface

from tasks.errors import UserError, first_line
from xstilts.checkpoint.encoder import NOISE, check_language, evaluating, first_position, position_limit, probe, quiet

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

NAME = "padding_free"
LAYOUT = "layout"  # the keyword argument by which the layers get it
FIRST = "padding_free_first_position"  # the attribute of an encoder that takes padding out


@dataclass(frozen=True)
class Layout:
    """Where the tokens of a padded batch are.

    places: (tokens,) of the flattened batch; starts: (rows + 1,), int32, the first token of each row among `places`,
    and their number; longest: tokens of the longest row; width: of the padded batch.
    """

    places: torch.Tensor
    starts: torch.Tensor
    longest: int
    width: int

    @property
    def rows(self) -> int:
        return len(self.starts) - 1

    @classmethod
    def of(cls, mask: torch.Tensor) -> Layout:
        """The layout of an attention mask (rows, width). On a GPU this waits for it."""
        lengths = mask.sum(1)
        starts = torch.nn.functional.pad(lengths.cumsum(0), (1, 0)).int()
        return cls(mask.flatten().nonzero().squeeze(1), starts, int(lengths.max()), mask.shape[1])


_known: ContextVar[Layout | None] = ContextVar("layout", default=None)


@contextlib.contextmanager
def known_layout(layout: Layout | None) -> Iterator[None]:
    """Within this block batches have this layout, so that none is read from a mask; None: it is not known."""
    token = _known.set(layout)
    try:
        yield
    finally:
        _known.reset(token)


# ---- attention ------------------------------------------------------------------------------------------------------


def attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: None,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Attention as transformers' interface has it, of rows that lie end to end.

    Args:
        query, key, value: (1, heads, tokens, width); on a GPU in bf16 or fp16, or within autocast.
        dropout: of attention weights; 0 when the model is not in training.
        sliding_window: a token sees those at a smaller distance; None: its whole row.
        kwargs: with `LAYOUT`.

    Returns:
        (1, tokens, heads, width), and no weights.

    Raises:
        UserError: torch's attention over several lengths has no such dropout, or not this precision.
    """
    layout: Layout = kwargs[LAYOUT]
    if (groups := query.shape[1] // key.shape[1]) > 1:  # heads that share their keys and values
        key, value = (state.repeat_interleave(groups, dim=1) for state in (key, value))
    states = [state[0].transpose(0, 1) for state in (query, key, value)]
    kernel: Any = functools.partial(rows_alone, dropout=dropout)
    if query.is_cuda:
        if torch.is_autocast_enabled("cuda"):  # rotary positions leave queries and keys in float32
            states = [state.to(torch.get_autocast_dtype("cuda")) for state in states]
        check_gpu(dropout, states[0].dtype != torch.float32)
        kernel = varlen_attn
    reach = -1 if sliding_window is None else sliding_window - 1
    bounds = (layout.starts, layout.starts, layout.longest, layout.longest)
    return kernel(*states, *bounds, scale=scaling, window_size=(reach, reach))[None], None


def check_gpu(dropout: float, half: bool) -> None:
    """Raise UserError if torch's attention over several lengths cannot do this on a GPU.

    Args:
        dropout: of attention weights, in training.
        half: whether states are in bf16 or fp16.
    """
    if not half:
        raise UserError(f"--attn_implementation {NAME}: on a GPU it needs bf16 or fp16. Give --bf16 true, or sdpa.")
    if dropout:
        raise UserError(
            f"--attn_implementation {NAME}: on a GPU it has no dropout of attention weights, and this model's is "
            f"{dropout:g}. Give sdpa, or flash_attention_2."
        )


def attention_dropout(config: PretrainedConfig) -> float:
    """The dropout of attention weights that a model's config asks for, under transformers' two names; else 0."""
    return getattr(config, "attention_probs_dropout_prob", None) or getattr(config, "attention_dropout", None) or 0.0


def rows_alone(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    cu_seq_q: torch.Tensor,
    cu_seq_k: torch.Tensor,
    max_q: int,
    max_k: int,
    *,
    scale: float | None,
    window_size: tuple[int, int],
    dropout: float = 0.0,
) -> torch.Tensor:
    """torch's `varlen_attn` where torch has none, on a CPU: one row after another.

    Args:
        query, key, value: (tokens, heads, width).
        cu_seq_q, cu_seq_k: (rows + 1,), equal: the first token of each row, and the number of tokens.
        window_size: tokens that a token sees before and after itself, equal; -1: all of its row.
    """
    found = []
    for start, end in itertools.pairwise(cu_seq_q.tolist()):
        q, k, v = (state[None, start:end].transpose(1, 2) for state in (query, key, value))
        near = None
        if 0 <= window_size[0] < end - start - 1:
            places = torch.arange(end - start, device=query.device)
            near = (places[:, None] - places).abs() <= window_size[0]
        found.append(scaled_dot_product_attention(q, k, v, near, dropout, scale=scale)[0].transpose(0, 1))
    return torch.cat(found)


@functools.cache
def register() -> None:
    """Make this attention known to transformers in this process."""
    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, lambda *args, **kwargs: None)


# ---- the encoder ----------------------------------------------------------------------------------------------------


def install(name: str, encoder: PreTrainedModel) -> None:
    """Make an encoder that was loaded with this attention take padding out, and check that its states stay the same.

    Args:
        name: the checkpoint, for the message.

    Raises:
        UserError: this model type cannot do so, or it has no language.
    """
    encoder.register_forward_pre_hook(_take_out, with_kwargs=True)
    encoder.register_forward_hook(_put_back, with_kwargs=True)
    setattr(encoder, FIRST, first_position(encoder))
    check_language(name, encoder)
    if "position_ids" not in inspect.signature(encoder.forward).parameters:
        why: str | None = "it takes no positions"
    else:
        why = fault(encoder)
    if why:
        raise UserError(
            f"{name}: --attn_implementation {NAME} does not work with model type {encoder.config.model_type}: {why}. "
            "Give sdpa, or leave it out."
        )


def encoder_in(model: torch.nn.Module) -> PreTrainedModel | None:
    """The encoder in a model that takes padding out, or None."""
    return next((module for module in model.modules() if hasattr(module, FIRST)), None)  # type: ignore[return-value]


def used_by(model: torch.nn.Module) -> bool:
    """Whether a model, or a module within it, takes padding out."""
    return encoder_in(model) is not None


def _positions(ids: torch.Tensor, first: int) -> torch.Tensor:
    """The positions of tokens (rows, width), as the models have them.

    RoBERTa models, whose first position is not 0, do not count a padding token within a text: it has the position
    before the first (`create_position_ids_from_input_ids` in transformers).
    """
    if not first:
        return torch.arange(ids.shape[1], device=ids.device)
    counted = (ids != first - 1).long()
    return counted.cumsum(1) * counted + first - 1


def _take_out(encoder: Any, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]] | None:
    """Before the encoder: one row of all tokens, with the positions that they had."""
    if _plain.get():
        return None
    values = inspect.signature(encoder.forward).bind(*args, **kwargs).arguments
    values |= values.pop("kwargs", {})
    if values.get("input_ids") is None or values.get("position_ids") is not None:
        raise TypeError(f"{NAME} attention takes input_ids, and makes the positions")
    ids, mask = values["input_ids"], values.get("attention_mask")
    layout = _known.get() or Layout.of(torch.ones_like(ids) if mask is None else mask)
    positions = _positions(ids, getattr(encoder, FIRST))
    padded = {"input_ids": ids, "position_ids": positions.expand(ids.shape)}
    if values.get("token_type_ids") is not None:
        padded["token_type_ids"] = values["token_type_ids"]
    values |= {key: value.flatten()[layout.places][None] for key, value in padded.items()}
    return (), values | {"attention_mask": None, LAYOUT: layout}


def _put_back(encoder: Any, args: tuple, kwargs: dict[str, Any], output: Any) -> Any:
    """After the encoder: padded rows again, with zeros as the states of padding, and the pooler's output of each."""
    if (layout := kwargs.get(LAYOUT)) is None:
        return None

    def rows(states: torch.Tensor) -> torch.Tensor:
        flat = states.new_zeros(layout.rows * layout.width, states.shape[-1])
        return flat.index_copy(0, layout.places, states[0]).view(layout.rows, layout.width, -1)

    output.last_hidden_state = rows(output.last_hidden_state)
    if output.hidden_states is not None:
        output.hidden_states = tuple(map(rows, output.hidden_states))
    if getattr(output, "pooler_output", None) is not None:
        output.pooler_output = encoder.pooler(output.last_hidden_state)
    return output


_plain: ContextVar[bool] = ContextVar("plain", default=False)  # whether encoders work as without this module


@contextlib.contextmanager
def eager(encoder: PreTrainedModel) -> Iterator[None]:
    """Within this block an encoder works with eager attention, on padded rows."""
    token = _plain.set(True)
    encoder.set_attn_implementation("eager")
    try:
        yield
    finally:
        _plain.reset(token)
        encoder.set_attn_implementation(NAME)


def fault(encoder: PreTrainedModel, autocast: Callable[[], Any] = contextlib.nullcontext) -> str | None:
    """Why an encoder's states are not those of eager attention, or None if they are.

    Two rows: the first is longer than a window and has a padding token and a mask token within it.

    Args:
        autocast: a context of lower precision. Then our error, beside eager attention in float32, may be twice that of
            eager attention in this context.
    """
    ids, mask = (tensor.to(next(encoder.parameters()).device) for tensor in _two_rows(encoder.config))
    outputs = []
    try:
        with evaluating(encoder), known_layout(None), quiet():
            with autocast():
                outputs += [encoder(input_ids=ids, attention_mask=mask)]
                with eager(encoder):
                    outputs += [encoder(input_ids=ids, attention_mask=mask)]
            with eager(encoder):
                outputs += [encoder(input_ids=ids, attention_mask=mask)]
    except Exception as error:
        how = "with eager attention" if outputs else "without padding"
        return f"its forward pass fails {how} ({first_line(error)})"
    if _far(*(output.last_hidden_state[mask.bool()] for output in outputs)):
        return "its states differ from those of eager attention"
    pooled = [output.pooler_output for output in outputs if getattr(output, "pooler_output", None) is not None]
    if pooled and (len(pooled) < len(outputs) or _far(*pooled)):
        return "its pooled states differ from those of eager attention"
    return None


def _far(ours: torch.Tensor, theirs: torch.Tensor, exact: torch.Tensor) -> bool:
    """Whether our states are further from the exact ones than rounding, and than twice the others."""
    if ours.shape != exact.shape:
        return True
    ours, theirs, exact = (states.float() for states in (ours, theirs, exact))
    rounding = NOISE * exact.abs().max()
    # not >, so that NaN counts as far
    return not bool((ours - exact).square().mean().sqrt() <= 2 * (theirs - exact).square().mean().sqrt() + rounding)


def _two_rows(config: PretrainedConfig) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and mask of two rows of tokens, the second one padded."""
    batch = probe(config)
    length = min(position_limit(config), max(14, 2 * (getattr(config, "sliding_window", None) or 0)))
    tokens = batch["input_ids"][0].repeat(length // 7 + 1)[:length]
    ids = torch.stack([tokens, tokens.flip(0)])
    pad = batch["input_ids"][1, -1]
    ids[0, 2] = pad
    if 0 < (getattr(config, "mask_token_id", None) or 0) < config.vocab_size:
        ids[0, 4] = config.mask_token_id
    mask = torch.ones_like(ids)
    ids[1, 4:], mask[1, 4:] = pad, 0
    return ids, mask
