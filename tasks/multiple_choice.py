"""Multiple choice: a prompt and n choices, one of them right. Each choice is scored with a 1-unit head."""

from __future__ import annotations

from typing import ClassVar

from tasks.base import Source, Task, check_labels, check_text, fingerprint
from tasks.errors import UserError


class MultipleChoice(Task):
    """Columns after loading: prompt, choices (a list), label."""

    form = "multiple_choice"
    auto_class = "AutoModelForMultipleChoice"
    metric = "accuracy"
    num_labels = 1
    n_choices: ClassVar[int]

    def row(self, row: dict) -> dict:
        """One source row -> {"prompt", "choices"}. The adapter's whole meaning."""
        raise NotImplementedError

    def examples(self, data, language, where):
        names = tuple(str(i) for i in range(self.n_choices))
        labels = check_labels(data["label"][:], names, where)
        if -1 in labels:
            raise UserError(f"{where}, row {labels.index(-1) + 1}, column 'label': -1 (hidden); cannot be used.")
        rows = data.map(self.row, remove_columns=data.column_names, desc=f"{self.name} rows",
                        new_fingerprint=fingerprint(self, data))
        for i, choices in enumerate(rows["choices"][:], 1):
            if len(choices) != self.n_choices or not all(choices):
                raise UserError(f"{where}, row {i}: {len(choices)} choices {choices!r}; expected {self.n_choices}, none empty.")
        check_text(rows, ("prompt",), where)
        return rows.add_column("label", labels)

    def featurize(self, batch, indices, tokenizer, max_length, train):
        prompts = [p for p, choices in zip(batch["prompt"], batch["choices"], strict=True) for _ in choices]
        choices = [c for row in batch["choices"] for c in row]
        # what stands next to the gap matters most: over-long inputs lose their beginning (jiant, protocol 2)
        side, tokenizer.truncation_side = tokenizer.truncation_side, "left"
        try:
            flat = tokenizer(prompts, choices, truncation="longest_first", max_length=max_length)
        finally:
            tokenizer.truncation_side = side
        n = self.n_choices
        features = {k: [v[i : i + n] for i in range(0, len(v), n)] for k, v in flat.items()}
        # labels even where nothing is trained: transformers' collator for this form insists on them
        return features | {"example": indices, "labels": batch["label"]}

    def collator(self, tokenizer):
        from transformers import DataCollatorForMultipleChoice

        return DataCollatorForMultipleChoice(tokenizer)

    def decode(self, logits, features, examples):
        return logits.argmax(-1).tolist()

    def gold(self, examples):
        return examples["label"][:]

    def score(self, predictions, examples, language):
        from tasks.metrics import compute

        return compute("accuracy", predictions=predictions, references=self.gold(examples))

    def lines(self, predictions, examples):
        """The submission's lines: one index an example."""
        return [str(p) for p in predictions]


class HellaSwag(MultipleChoice):
    """HellaSwag (Zellers et al. 2019): prompt is ctx_a, a choice is ctx_b and an ending (jiant, protocol 2).

    Rows whose ctx_a is null (some copies keep only ctx) use ctx as the prompt and the ending as the choice.
    """

    name = "hellaswag"
    train_rows = 39905
    n_choices = 4
    columns = ("ctx_a", "ctx_b", "ctx", "endings", "label")
    sources = (Source("Rowan/hellaswag", "default", {"train": "train", "dev": "validation"}),)
    defaults = {"learning_rate": 1e-5, "num_train_epochs": 3, "per_device_train_batch_size": 32, "max_seq_length": 256,
                "warmup_steps": 0.1, "weight_decay": 0.01}

    def row(self, row):
        if row["ctx_a"] is None:
            return {"prompt": row["ctx"], "choices": row["endings"]}
        start = row["ctx_b"] + " " if row["ctx_b"] else ""
        return {"prompt": row["ctx_a"], "choices": [ending and start + ending for ending in row["endings"]]}
