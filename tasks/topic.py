"""Classification of one text: SIB-200."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING

from tasks import languages as codes
from tasks.sentence_pair import SentencePair
from tasks.source import Source

if TYPE_CHECKING:
    from datasets import Dataset

    from tasks.rows import Loaded, Rows


class Sentence(SentencePair):
    """Columns after loading: text_a, label (index into `labels`); id where the source has one."""

    form = "sentence"
    usage = SentencePair.usage.replace(', "An animal is resting."', "")
    texts = ("text_a",)
    fields = (("text_a",),)
    columns = ("text", "label")  # the text, its label


class SIB200(Sentence):
    """SIB-200 (Adelani et al. 2024): what a sentence is about, one of seven topics, in 205 languages.

    The sentences are from FLORES, human translations. An `index_id` is the same sentence, with the same topic, in
    every language, so every language has train rows.

    The published test file is sorted by topic, so its first rows have one topic. Here rows are in the order of a hash
    of `index_id`, the same in every language: the first n rows are a fair sample.
    """

    name = "sib200"
    title = "SIB-200"
    train_rows = 701
    labels = ("science/technology", "travel", "politics", "sports", "health", "entertainment", "geography")
    columns = ("text", "category")
    languages_in = "sib200"
    other_languages = "parallel"
    sources = (
        Source(
            "Davlan/sib200",
            "{language}",
            {"train": "train", "dev": "validation", "test": "test"},
            "38977a667f6fc264d5c26ec57a01e16db040b358",
            codes.flores_code,
            columns=("index_id", "category", "text"),
            shape=lambda data, _: data.rename_columns({"index_id": "id"}),
        ),
    )
    # the authors' script for XLM-R trained on English (code/xlmr_zero.sh of github.com/dadelani/sib-200): batches of
    # 16 rows, 2 accumulation steps
    defaults = {
        "learning_rate": 1e-5,
        "num_train_epochs": 20,
        "per_device_train_batch_size": 32,
        "max_seq_length": 164,
    }

    def read(self, split: str, language: str, rows: Rows) -> Loaded:
        loaded = super().read(split, language, rows)
        loaded.note("in the order of a hash of index_id: the published test file is sorted by topic")
        keys = [hashlib.sha256(number.encode()).digest() for number in self.ids(loaded.examples) or ()]
        return replace(
            loaded, examples=loaded.examples.select(sorted(range(len(keys)), key=keys.__getitem__)), sizes=()
        )

    def to_rows(self, examples: Dataset) -> Dataset:
        return super().to_rows(examples).rename_column("id", "index_id")
