"""Sentence-pair classification: two texts, one label. Input ``<s> A </s></s> B </s>``, head on the first token."""

from __future__ import annotations

from typing import ClassVar

from tasks.base import Source, Task, check_labels, check_text
from tasks.errors import UserError

NLI = ("entailment", "neutral", "contradiction")  # the order of the Hub's integers


class SentencePair(Task):
    """Columns after loading: text_a, text_b, label (index into `labels`)."""

    form = "sentence_pair"
    auto_class = "AutoModelForSequenceClassification"
    metric = "accuracy"
    columns = ("premise", "hypothesis", "label")  # first text, second text, label
    drop_unlabelled: ClassVar[bool] = False  # SNLI's -1: annotators did not agree

    def examples(self, data, language, where):
        text_a, text_b, label = self.columns
        check_text(data, (text_a, text_b), where)
        labels = check_labels(data[label][:], self.labels, where, label)
        if -1 in labels and not self.drop_unlabelled:
            raise UserError(f"{where}, row {labels.index(-1) + 1}, column {label!r}: -1 (hidden or no gold); "
                            "this split cannot be trained on or scored.")
        data = data.select_columns([text_a, text_b, label])
        data = data.rename_columns({text_a: "text_a", text_b: "text_b", label: "label"})
        if data.features["label"].dtype != "int64":
            data = data.remove_columns("label").add_column("label", labels)
        return data.select([i for i, v in enumerate(labels) if v != -1]) if -1 in labels else data

    def featurize(self, batch, indices, tokenizer, max_length, train):
        # longest_first, as the benchmark: an over-long pair loses tokens from its longer side, never a whole side
        features = tokenizer(batch["text_a"], batch["text_b"], truncation="longest_first", max_length=max_length)
        features["example"] = indices
        if train:
            features["labels"] = batch["label"]
        return features

    def collator(self, tokenizer):
        from transformers import DataCollatorWithPadding

        return DataCollatorWithPadding(tokenizer)

    def decode(self, logits, features, examples):
        return logits.argmax(-1).tolist()

    def gold(self, examples):
        return examples["label"][:]

    def score(self, predictions, examples, language):
        from tasks.metrics import compute

        return compute("accuracy", predictions=predictions, references=self.gold(examples))

    def lines(self, predictions, examples):
        """The submission's lines: one label word an example."""
        return [self.labels[p] for p in predictions]


class MNLI(SentencePair):
    """MultiNLI (Williams et al. 2018), GLUE's copy; dev is the matched half."""

    name = "mnli"
    train_rows = 392702
    labels = NLI
    sources = (Source("nyu-mll/glue", "mnli", {"train": "train", "dev": "validation_matched"}),)
    # epochs, batch and rate: jiant's defaults for phase 2 (protocol 2.1); the paper's own are unconfirmed
    defaults = {"learning_rate": 1e-5, "num_train_epochs": 3, "per_device_train_batch_size": 32, "max_seq_length": 256,
                "warmup_steps": 0.1, "weight_decay": 0.01}


class XNLI(SentencePair):
    """XNLI (Conneau et al. 2018): trained on its English train split, which is MultiNLI's."""

    name = "xnli"
    train_rows = 392702
    labels = NLI
    languages_in = "xnli"
    sources = (Source("facebook/xnli", "{language}", {"train": "train", "dev": "validation", "test": "test"}),)
    # XTREME's script of May 2020 (protocol 3.2)
    defaults = {"learning_rate": 2e-5, "num_train_epochs": 5, "per_device_train_batch_size": 32, "max_seq_length": 128}
