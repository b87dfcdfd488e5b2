"""Train a tokenizer for an encoder that is trained from scratch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from tasks.errors import UserError
from xstilts.checkpoint.tokenizer import in_xlmr_form

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]  # XLM-R's own order of the first four


def train_tokenizer(texts: Iterable[str], vocab_size: int, max_length: int = 512) -> PreTrainedTokenizerFast:
    """Return a BPE tokenizer in XLM-R's form (metaspace, ``<s> A </s></s> B </s>``), trained on `texts`.

    Each punctuation mark is a piece of its own. The vocabulary may be smaller than `vocab_size`, so size the model
    from `len(tokenizer)`.

    Raises:
        UserError: `vocab_size` is too small for the letters of the texts.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Metaspace(), pre_tokenizers.Punctuation("isolated")]
    )
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, special_tokens=SPECIAL, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    if (least := tokenizer.get_vocab_size()) > vocab_size:
        raise UserError(
            f"--vocab_size {vocab_size}: the letters of the text and the special tokens alone are {least} pieces. "
            "Give that or more."
        )
    return in_xlmr_form(tokenizer, max_length)
