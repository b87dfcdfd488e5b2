"""`--attn_implementation padding_free`: the encoder's layers get the rows of a batch laid end to end, without padding.

Before the encoder the padding is taken out, and after it is put back as zeros, so heads and losses need no change. A
row attends to itself alone. Other people's names for it: unpadding, packing, sequence packing without cross-attention.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import itertools
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch
from torch.nn.attention.varlen import varlen_attn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface

from xstilts.checkpoint.encoder import NOISE, differ, evaluating, first_position, position_limit, probe, quiet
from xstilts.errors import UserError

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

NAME = "padding_free"
LAYOUT = "layout"  # the keyword argument by which the layers get it
FIRST = "padding_free_first_position"  # the attribute of an encoder that takes padding out
ROUNDED = 0.05  # rounding on a GPU, where products may be in bf16, relative to the largest value


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
        query, key, value: (1, heads, tokens, width); on a GPU in bf16 or fp16.
        dropout: of attention weights; 0 when the model is not in training.
        sliding_window: a token sees those at a smaller distance; None: its whole row.
        kwargs: with `LAYOUT`.

    Returns:
        (1, tokens, heads, width), and no weights.

    Raises:
        UserError: torch's attention over several lengths has no such dropout, or not this precision.
    """
    layout: Layout = kwargs[LAYOUT]
    kernel: Any = functools.partial(rows_alone, dropout=dropout)
    if query.is_cuda:
        check_gpu(dropout, query.dtype != torch.float32)
        kernel = varlen_attn
    reach = -1 if sliding_window is None else sliding_window - 1
    states = [state[0].transpose(0, 1) for state in (query, key, value)]
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
    """torch's `varlen_attn` on a CPU, for which torch has none: one row after another.

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
            places = torch.arange(end - start)
            near = (places[:, None] - places).abs() <= window_size[0]
        found.append(scaled_dot_product_attention(q, k, v, near, dropout, scale=scale)[0].transpose(0, 1))
    return torch.cat(found)


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, lambda *args, **kwargs: None)


# ---- the encoder ----------------------------------------------------------------------------------------------------


def install(encoder: PreTrainedModel, name: str) -> None:
    """Make an encoder that was loaded with this attention take padding out, and check that its states stay the same.

    Args:
        name: the checkpoint, for the message.

    Raises:
        UserError: this model type cannot do so.
    """
    encoder.register_forward_pre_hook(_take_out, with_kwargs=True)
    encoder.register_forward_hook(_put_back, with_kwargs=True)
    setattr(encoder, FIRST, first_position(encoder))
    why = "its states differ from those of eager attention"
    try:
        if "position_ids" in inspect.signature(encoder.forward).parameters and _agrees(encoder):
            return
    except Exception as error:
        why = str(error).partition("\n")[0]
    raise UserError(
        f"{name}: --attn_implementation {NAME} does not work with model type {encoder.config.model_type} ({why}). "
        "Give sdpa, or leave it out."
    )


def encoder_in(model: torch.nn.Module) -> PreTrainedModel | None:
    """The encoder in a model that takes padding out, or None."""
    return next((module for module in model.modules() if hasattr(module, FIRST)), None)  # type: ignore[return-value]


def used_by(model: torch.nn.Module) -> bool:
    """Whether a model, or a module within it, takes padding out."""
    return encoder_in(model) is not None


def _take_out(encoder: Any, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]] | None:
    """Before the encoder: one row of all tokens, with the positions that they had."""
    if _plain.get():
        return None
    values = inspect.signature(encoder.forward).bind(*args, **kwargs).arguments
    values |= values.pop("kwargs", {})
    ids, mask = values["input_ids"], values.get("attention_mask")
    if ids.device.type not in _checked.setdefault(encoder, {"cpu"}):
        _checked[encoder].add(ids.device.type)
        if not _agrees(encoder):
            raise UserError(f"--attn_implementation {NAME} gives other states on {ids.device.type}. Give sdpa.")
    layout = _known.get() or Layout.of(torch.ones_like(ids) if mask is None else mask)
    positions = torch.arange(ids.shape[1], device=ids.device) + getattr(encoder, FIRST)
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


_checked: WeakKeyDictionary[torch.nn.Module, set[str]] = WeakKeyDictionary()  # kinds of devices
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


def _agrees(encoder: PreTrainedModel) -> bool:
    """Whether an encoder's states of two rows are those of eager attention; the first row is longer than a window."""
    device = next(encoder.parameters()).device
    length = min(position_limit(encoder.config), max(7, 2 * (getattr(encoder.config, "sliding_window", None) or 0)))
    tokens = probe(encoder.config)["input_ids"][0].repeat(length // 7 + 1)[:length]
    ids = torch.stack([tokens, tokens.flip(0)]).to(device)
    mask = torch.ones_like(ids)
    mask[1, 4:] = 0
    with evaluating(encoder), known_layout(None), quiet():
        ours = encoder(input_ids=ids, attention_mask=mask)
        with eager(encoder):
            theirs = encoder(input_ids=ids, attention_mask=mask)
    share = NOISE if device.type == "cpu" and not torch.is_autocast_enabled("cpu") else ROUNDED
    pooled, expected = (getattr(output, "pooler_output", None) for output in (ours, theirs))
    if expected is not None and (pooled is None or differ(pooled, expected, share)):
        return False
    real = mask.bool()
    return not differ(ours.last_hidden_state[real], theirs.last_hidden_state[real], share)
