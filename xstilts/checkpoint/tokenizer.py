"""Load the tokenizer of a checkpoint, with the settings that every phase needs; give a new one XLM-R's form."""

from __future__ import annotations

import inspect
import logging
from typing import TYPE_CHECKING

from tasks.errors import UserError
from xstilts.checkpoint.config import encoder_class, not_loaded, read_config

if TYPE_CHECKING:
    from tokenizers import AddedToken, Tokenizer
    from transformers import PretrainedConfig, PreTrainedTokenizerBase, PreTrainedTokenizerFast

logger = logging.getLogger("xstilts")


def load_tokenizer(name: str, revision: str = "main", mask: bool = False) -> PreTrainedTokenizerFast:
    """Return the checkpoint's fast tokenizer.

    It pads and truncates on the right: labels, spans and the first token are found by position. It returns token types
    only if the model has more than one.

    Args:
        name: a folder or Hub id.
        revision: of a Hub id.
        mask: whether the tokenizer must have a mask token.

    Raises:
        UserError: it does not load, is not there, is not a fast tokenizer (which offsets need), lacks a pad or mask
            token, or its `model_max_length` is not a sensible number.
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    config = read_config(name, revision)
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, revision=revision, trust_remote_code=False)
    except Exception as error:  # tokenizers raises a bare Exception
        raise not_loaded(name, "its tokenizer does not load: is tokenizer.json there and whole?", error) from error
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise UserError(f"{name}: its tokenizer has no fast version. Give a checkpoint with a tokenizer.json.")
    refuse_empty(tokenizer, name)
    check_length(tokenizer, name)
    for kind in ("pad", *(["mask"] if mask else [])):
        if getattr(tokenizer, f"{kind}_token_id") is None:
            raise UserError(f"{name}: its tokenizer has no {kind} token. Set {kind}_token in tokenizer_config.json.")
    for side in ("padding_side", "truncation_side"):
        if getattr(tokenizer, side) != "right":
            logger.info("%s: the tokenizer sets %s=%s; using right.", name, side, getattr(tokenizer, side))
            setattr(tokenizer, side, "right")
    tokenizer.model_input_names = _inputs(tokenizer.model_input_names, config, name)
    return tokenizer


def in_xlmr_form(tokenizer: Tokenizer, max_length: int, mask: str | AddedToken = "<mask>") -> PreTrainedTokenizerFast:
    """Return a tokenizer with XLM-R's special tokens, ``<s> A </s></s> B </s>``, and its decoder.

    Args:
        tokenizer: its vocabulary has the special tokens. It is changed in place.
        max_length: in tokens.
        mask: the mask token, as an AddedToken if it takes the blank before it.
    """
    from tokenizers import decoders, processors
    from transformers import PreTrainedTokenizerFast

    tokenizer.decoder = decoders.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> </s> $B </s>",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in ("<s>", "</s>")],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        cls_token="<s>",
        sep_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        mask_token=mask,
        model_max_length=max_length,
        model_input_names=["input_ids", "attention_mask"],
    )


def _inputs(names: list[str], config: PretrainedConfig, name: str) -> list[str]:
    """The tokenizer outputs that the model accepts, without token types if the model has fewer than two.

    A model that accepts an attention mask always gets one: without it, it reads padding as text.

    Raises:
        UserError: `names` is not a list of names with "input_ids".
    """
    if (
        not isinstance(names, list | tuple)
        or not all(isinstance(key, str) for key in names)
        or "input_ids" not in names
    ):
        raise UserError(
            f"{name}: tokenizer_config.json has model_input_names {str(names)[:80]!r}, expected a list of names with "
            "'input_ids', e.g. ['input_ids', 'attention_mask']."
        )
    takes = inspect.signature(encoder_class(config).forward).parameters
    if "attention_mask" in takes and "attention_mask" not in names:
        logger.info("%s: the tokenizer returns no attention mask (model_input_names); adding it.", name)
        names = [*names, "attention_mask"]
    types = getattr(config, "type_vocab_size", 0) or 0  # XLM has no types; it would add the embedding of token 0
    return [key for key in names if key in takes and (key != "token_type_ids" or types > 1)]


def refuse_empty(tokenizer: PreTrainedTokenizerBase, name: str) -> None:
    """Raise UserError if the vocabulary holds special tokens alone.

    Where a checkpoint has no tokenizer, or the Hub does not send it, transformers makes an empty one: every word is
    unknown to it.
    """
    # no model has so many special tokens; reading a large vocabulary takes a second
    if len(tokenizer) < 1000 and set(tokenizer.get_vocab()) <= set(tokenizer.all_special_tokens):
        raise UserError(
            f"{name}: it has no tokenizer, or one without words, or the Hub did not send it. Give a folder with the "
            "model, and tokenizer.json and tokenizer_config.json from the model that it was trained from."
        )


def check_length(tokenizer: PreTrainedTokenizerFast, name: str) -> None:
    """Raise UserError if `model_max_length`, which tokenizer_config.json sets, is not a number of at least 8."""
    longest = tokenizer.model_max_length
    if isinstance(longest, bool) or not isinstance(longest, int | float) or not longest >= 8:
        raise UserError(
            f"{name}: tokenizer_config.json has model_max_length {str(longest)[:80]!r}, expected at least 8 (tokens)."
        )


def clean_tokenizer(tokenizer: PreTrainedTokenizerFast) -> None:
    """Reset the truncation, padding and source that loading and the last call left in a fast tokenizer.

    transformers sets them in every call, but `save_pretrained` would write them. Other programs that read
    tokenizer.json would then truncate to our length, and the files would depend on the last call.
    """
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    for key in ("is_local", "local_files_only"):
        tokenizer.init_kwargs.pop(key, None)
