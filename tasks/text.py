"""Raw text for masked language modelling."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.compute as pc

from tasks.base import Task
from tasks.checks import check_text
from tasks.errors import UserError
from tasks.source import Source

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerFast

    from tasks.rows import Loaded, Rows


class Wikipedia(Task):
    """Wikipedia articles, one row per article. One split: the last 1 % of the rows (at most 1,000) are dev."""

    name = "wikipedia"
    title = "Wikipedia"
    form = "mlm"
    metric = "perplexity"
    auto_class = "AutoModelForMaskedLM"
    pipeline_tag = "fill-mask"
    usage = """\
inputs = tokenizer(f"Paris is the capital of {tokenizer.mask_token}.", return_tensors="pt")
with torch.inference_mode():
    scores = model(**inputs).logits[inputs["input_ids"] == tokenizer.mask_token_id]
print([tokenizer.decode(piece) for piece in scores[0].topk(5).indices])"""
    masks = True
    columns = ("text",)
    sources = (
        Source(
            "wikimedia/wikipedia",
            "20231101.{language}",
            {"train": "train", "dev": "train", "test": "train"},
            "b04c8d1ceb2f5cd4588862100d08de323dccfbaa",
        ),
    )
    # masking rate and one line per example: jiant's mlm_simple
    defaults = {
        "learning_rate": 1e-5,
        "num_train_epochs": 1,
        "per_device_train_batch_size": 32,
        "max_seq_length": 256,
        "warmup_steps": 0.1,
        "weight_decay": 0.01,
        # not by length: batches of one length have few languages and word orders. On the miniature world the loss then
        # stayed on its first plateau for 2,000 steps instead of 400.
        "train_sampling_strategy": "random",
    }

    def languages(self, rows: Rows) -> list[str]:
        if not rows.local:
            raise UserError("name the languages of the text: --text_languages en de sw ...")
        return super().languages(rows)

    def read(self, split: str, language: str, rows: Rows) -> Loaded:
        loaded = super().read("train", language, rows)
        data = loaded.examples
        # an article of only white space has nothing to predict; held out, it would have no score
        written = np.flatnonzero(
            pc.match_substring_regex(data.with_format("arrow")[:]["text"], r"\S").to_numpy(zero_copy_only=False)
        )
        if len(written) < len(data):
            loaded.note(f"{len(data) - len(written)} empty texts left out")
            data = data.select(written)
        if len(data) < 2:
            raise UserError(
                f"{loaded.where}: {len(data)} text that is not empty, expected at least 2: the last 1 % are held out."
            )
        held_out = min(1000, max(1, len(data) // 100))
        kept = range(len(data) - held_out) if split == "train" else range(len(data) - held_out, len(data))
        return replace(loaded, examples=data.select(kept), sizes=())

    def examples(self, data: Dataset, language: str, where: str) -> Dataset:
        check_text(data, self.columns, where)
        return data.select_columns(["text"])

    def featurize(
        self,
        batch: dict[str, list],
        indices: list[int],
        tokenizer: PreTrainedTokenizerFast,
        max_length: int,
        train: bool,
    ) -> dict[str, list]:
        windows = tokenizer(batch["text"], truncation=True, max_length=max_length, return_overflowing_tokens=True)
        texts = windows.pop("overflow_to_sample_mapping")
        return {**windows, "example": [indices[i] for i in texts]}
