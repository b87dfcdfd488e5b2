"""Old names of `xstilts.checkpoint`, for scripts that import them from here."""

from xstilts.checkpoint.config import check_attention, check_checkpoint
from xstilts.checkpoint.encoder import load_encoder
from xstilts.checkpoint.heads import freeze_embeddings, fresh_head, from_sizes, masked_lm
from xstilts.checkpoint.tokenizer import check_length, clean_tokenizer, load_tokenizer

__all__ = ["check_attention", "check_checkpoint", "check_length", "clean_tokenizer", "freeze_embeddings", "fresh_head", "from_sizes",
           "load_encoder", "load_tokenizer", "masked_lm"]
