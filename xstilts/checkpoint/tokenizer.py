"""The tokenizer of a checkpoint, as every phase needs it."""

from __future__ import annotations

import inspect
import logging
from typing import TYPE_CHECKING

from xstilts.checkpoint.config import encoder_class, read_config
from xstilts.errors import UserError, first_line

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerFast

logger = logging.getLogger("xstilts")


def load_tokenizer(name: str, revision: str = "main", mask: bool = False) -> PreTrainedTokenizerFast:
    """Return the checkpoint's fast tokenizer. It pads and cuts on the right, and gives token types only where the
    model has them.

    Labels, spans and the first token are found by position, so padding on the left would shift them all.

    Args:
        name: a folder or Hub id.
        revision: of a Hub id.
        mask: whether a mask token is needed too.

    Raises:
        UserError: it does not load, is not a fast one (offsets need that), lacks a pad or mask token, or its
            `model_max_length` is no number.
    """
    from transformers import AutoTokenizer

    config = read_config(name, revision)
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, revision=revision, trust_remote_code=False)
    except Exception as error:  # tokenizers raises a bare Exception
        raise UserError(f"{name}: its tokenizer does not load ({first_line(error)}).") from error
    if not tokenizer.is_fast:
        raise UserError(f"{name}: its tokenizer has no fast version, which offsets need.")
    check_length(tokenizer, name)
    for kind in ("pad", *(["mask"] if mask else [])):
        if getattr(tokenizer, f"{kind}_token_id") is None:
            raise UserError(f"{name}: its tokenizer has no {kind} token. Set {kind}_token in tokenizer_config.json.")
    for side in ("padding_side", "truncation_side"):
        if getattr(tokenizer, side) != "right":
            logger.info("%s: the tokenizer says %s=%s; here it is right.", name, side, getattr(tokenizer, side))
            setattr(tokenizer, side, "right")
    tokenizer.model_input_names = _inputs(tokenizer.model_input_names, config, name)
    return tokenizer


def _inputs(names: list[str], config: PretrainedConfig, name: str) -> list[str]:
    """The tokenizer's outputs that the model takes. Token types are left out where the model has fewer than two.

    The attention mask is always among them where the model takes one: without it padding is read as text.

    Raises:
        UserError: `names` are no names, or lack the tokens themselves.
    """
    if (
        not isinstance(names, list | tuple)
        or not all(isinstance(one, str) for one in names)
        or "input_ids" not in names
    ):
        raise UserError(
            f"{name}: tokenizer_config.json has model_input_names {str(names)[:80]!r}, expected a list of names with "
            "'input_ids', e.g. ['input_ids', 'attention_mask']."
        )
    takes = inspect.signature(encoder_class(config).forward).parameters
    if "attention_mask" in takes and "attention_mask" not in names:
        logger.info("%s: the tokenizer gives no attention mask (model_input_names); here it does.", name)
        names = [*names, "attention_mask"]
    types = getattr(config, "type_vocab_size", 0) or 0  # XLM has no types, but would add the embedding of token 0
    return [n for n in names if n in takes and (n != "token_type_ids" or types > 1)]


def check_length(tokenizer, name: str) -> None:
    """Raise UserError if `model_max_length` is not a sensible number: tokenizer_config.json may hold anything
    there."""
    longest = tokenizer.model_max_length
    if isinstance(longest, bool) or not isinstance(longest, int | float) or not longest >= 8:
        raise UserError(
            f"{name}: tokenizer_config.json has model_max_length {str(longest)[:80]!r}, expected a number of tokens."
        )


def clean_tokenizer(tokenizer) -> None:
    """Take out of a fast tokenizer what loading and its last call left there: its source, truncation and padding.

    transformers sets these anew in every call. But they would be saved with it: another program that reads
    tokenizer.json would cut to our length, and the files would depend on what happened to be done last.
    """
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    for key in ("is_local", "local_files_only"):
        tokenizer.init_kwargs.pop(key, None)
