"""Classification of two texts, ``<s> A </s></s> B </s>``, or of one, ``<s> A </s>``, by the first token."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar

from tasks.checks import at_row, check_labels, check_text, id_text, languages_in, map_rows
from tasks.columns import replace_columns
from tasks.defaults import INTERMEDIATE
from tasks.errors import UserError
from tasks.files import class_names
from tasks.fingerprint import fingerprint
from tasks.source import XTREME_REVISION, Source
from tasks.submitted import OneClass

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerFast

    from tasks.base import Collator

NLI = ("entailment", "neutral", "contradiction")  # the order of the Hub's integers


class SentencePair(OneClass):
    """Columns after loading: text_a, text_b, label (index into `labels`); id where the source has one."""

    form = "sentence_pair"
    texts: ClassVar[tuple[str, ...]] = ("text_a", "text_b")
    fields: ClassVar[tuple[tuple[str, ...], ...]] = (("text_a",), ("text_b",))
    auto_class = "AutoModelForSequenceClassification"
    pipeline_tag = "text-classification"
    usage = """\
inputs = tokenizer("The cat sleeps on the sofa.", "An animal is resting.", return_tensors="pt")
with torch.inference_mode():
    scores = model(**inputs).logits[0]
print(model.config.id2label[scores.argmax().item()])"""
    metric = "accuracy"
    columns: ClassVar[tuple[str, ...]] = ("premise", "hypothesis", "label")  # first text, second text, label
    optional: ClassVar[tuple[str, ...]] = ("id",)
    drop_unlabelled: ClassVar[bool] = False  # SNLI has -1 where annotators did not agree

    def examples(self, data: Dataset, language: str, where: str) -> Dataset:
        from datasets import Value

        *texts, label = self.columns
        check_text(data, tuple(texts), where)
        labels = check_labels(data[label][:], self.labels, where, label, class_names(data.features[label]))
        if -1 in labels and not self.drop_unlabelled:
            raise UserError(
                f"{where}, row {labels.index(-1) + 1}, column {label!r}: -1 (hidden or no gold). "
                "This split cannot be used for training or scoring."
            )
        key = fingerprint(self, data, "label")  # datasets would take longer to hash the labels
        data = data.select_columns([*texts] + [c for c in ("id",) if c in data.column_names])
        data = data.rename_columns(dict(zip(texts, self.texts, strict=True)))
        # always: our numbers and those of the rows can differ where both are integers
        data = data.add_column("label", labels, new_fingerprint=key, feature=Value("int64"))
        return data.select([i for i, v in enumerate(labels) if v != -1]) if -1 in labels else data

    def ids(self, examples: Dataset) -> list[str] | None:
        if "id" not in examples.column_names:
            return None
        if None in (ids := examples["id"][:]):
            raise UserError(
                f"{self.name}: row {ids.index(None) + 1} has no id, which is needed to match rows across languages."
            )
        return list(map(id_text, ids))

    def to_rows(self, examples: Dataset) -> Dataset:
        return examples.rename_columns(dict(zip((*self.texts, "label"), self.columns, strict=True)))

    def to_texts(self, examples: Dataset) -> Dataset:
        return examples.select_columns(list(self.texts)).rename_columns(
            dict(zip(self.texts, ("first", "second"), strict=False))
        )

    def from_texts(self, examples: Dataset, texts: Dataset) -> Dataset:
        return replace_columns(
            examples, **{column: texts[part][:] for column, part in zip(self.texts, ("first", "second"), strict=False)}
        )

    def featurize(
        self,
        batch: dict[str, list],
        indices: list[int],
        tokenizer: PreTrainedTokenizerFast,
        max_length: int,
        train: bool,
    ) -> dict[str, list]:
        # longest_first, as in the benchmark: truncation removes tokens from the longer text
        features = tokenizer(
            *(batch[column] for column in self.texts), truncation="longest_first", max_length=max_length
        )
        features["example"] = indices
        if train:
            features["labels"] = batch["label"]
        return features

    def collator(self, tokenizer: PreTrainedTokenizerFast) -> Collator:
        from transformers import DataCollatorWithPadding

        return DataCollatorWithPadding(tokenizer)

    def score(self, predictions: list[int], examples: Dataset, language: str) -> dict[str, float]:
        from tasks.metrics import compute

        return compute("accuracy", predictions=predictions, references=self.gold(examples))

    def lines(self, predictions: list[int], examples: Dataset | None) -> list[str]:
        """The submission's lines: one label word per example."""
        return [self.labels[p] for p in predictions]


# XTREME's script of May 2020 (docs/protocol.md)
TARGET = {"learning_rate": 2e-5, "num_train_epochs": 5, "per_device_train_batch_size": 32, "max_seq_length": 128}
GLUE_REVISION = "bcdcba79d07bc864c1c254ccfcedcce55bcc9a8c"


class MNLI(SentencePair):
    """MultiNLI (Williams et al. 2018), GLUE's copy; dev is the matched half."""

    name = "mnli"
    title = "MultiNLI"
    train_rows = 392702
    labels = NLI
    sources = (Source("nyu-mll/glue", "mnli", {"train": "train", "dev": "validation_matched"}, GLUE_REVISION),)
    defaults = INTERMEDIATE


class SNLI(SentencePair):
    """SNLI (Bowman et al. 2015). Pairs on which the annotators did not agree (-1) are dropped and counted."""

    name = "snli"
    title = "SNLI"
    train_rows = 550152  # with the pairs that are dropped
    labels = NLI
    drop_unlabelled = True
    sources = (
        Source(
            "stanfordnlp/snli",
            "plain_text",
            {"train": "train", "dev": "validation"},
            "cdb5c3d5eed6ead6e5a341c8e56e669bb666725b",
        ),
    )
    defaults = INTERMEDIATE


class ANLI(SentencePair):
    """Adversarial NLI (Nie et al. 2020), its three rounds together."""

    name = "anli"
    title = "ANLI"
    train_rows = 162865
    labels = NLI
    sources = (
        Source(
            "facebook/anli",
            "plain_text",
            {s: "+".join(f"{s}_r{i}" for i in (1, 2, 3)) for s in ("train", "dev")},
            "8e4813d81f46d313dac7892e1c28076917cfcdf9",
        ),
    )
    defaults = INTERMEDIATE


class ANLIPlus(SentencePair):
    """ANLI, MNLI and SNLI as one task with one head: the paper's ANLI+.

    jiant samples them in proportion to their sizes. Shuffling all rows together does the same.
    """

    name = "anli_plus"
    title = "ANLI, MultiNLI and SNLI"
    train_rows = 162865 + 392702 + 550152
    labels = NLI
    parts = ("anli", "mnli", "snli")
    sources = ()
    defaults = INTERMEDIATE


class RTE(SentencePair):
    """Recognizing Textual Entailment, GLUE's collection (Wang et al. 2019)."""

    name = "rte"
    title = "RTE"
    train_rows = 2490
    labels = ("entailment", "not_entailment")
    columns = ("sentence1", "sentence2", "label")
    sources = (Source("nyu-mll/glue", "rte", {"train": "train", "dev": "validation"}, GLUE_REVISION),)
    defaults = INTERMEDIATE


class QQP(SentencePair):
    """Quora Question Pairs, GLUE's split (Wang et al. 2019): accuracy, and F1 of the duplicates.

    Other splits of the same pairs exist (balanced: half are duplicates; GLUE has 37 %). GLUE numbers its rows in
    `idx`. A copy without numbers is another split: results.json notes it, because its scores are not GLUE's.
    """

    name = "qqp"
    title = "Quora Question Pairs"
    train_rows = 363846
    labels = ("not_duplicate", "duplicate")
    columns = ("question1", "question2", "label")
    optional = ("id", "idx")
    sources = (Source("nyu-mll/glue", "qqp", {"train": "train", "dev": "validation"}, GLUE_REVISION),)
    defaults = INTERMEDIATE

    def notes(self, data: Dataset) -> list[str]:
        numbered = "idx" in data.column_names and not data.data.column("idx").null_count
        return super().notes(data) + ([] if numbered else ["rows without idx: not GLUE's split of QQP"])

    @property
    def dev_metrics(self) -> tuple[str, ...]:
        return "accuracy", "f1"

    def score(self, predictions: list[int], examples: Dataset, language: str) -> dict[str, float]:
        from tasks.metrics import compute

        return compute("accuracy_f1", predictions=predictions, references=self.gold(examples))


def _xtreme_languages(data: Dataset) -> dict[str, str]:
    return languages_in(data["language"], "language")


def _xtreme_rows(data: Dataset, language: str) -> Dataset:
    """google/xtreme's XNLI: one config for fifteen languages, other column names, labels as words."""
    names = [name for name, code in _xtreme_languages(data).items() if code == language]
    data = data.filter(lambda name: name in names, input_columns="language", desc=f"xnli {language}")
    data = data.select_columns(["sentence1", "sentence2", "gold_label"])
    return data.rename_columns({"sentence1": "premise", "sentence2": "hypothesis", "gold_label": "label"})


def _nested_languages(data: Dataset) -> Iterable[str]:
    with at_row(1, data[0]):
        return data[0]["hypothesis"]["language"]


def _nested_rows(data: Dataset, language: str) -> Dataset:
    """facebook/xnli's all_languages: the premise by language, the hypothesis as two parallel lists."""

    def one_language(row: dict) -> dict[str, str]:
        hypothesis = dict(zip(row["hypothesis"]["language"], row["hypothesis"]["translation"], strict=True))
        if len(hypothesis) < len(row["hypothesis"]["language"]):
            raise UserError("column 'hypothesis': a language appears twice.")
        return {"premise": row["premise"][language], "hypothesis": hypothesis[language]}

    return map_rows(data, one_language, desc=f"xnli {language}", new_fingerprint=fingerprint(XNLI(), data, language))


class XNLI(SentencePair):
    """XNLI (Conneau et al. 2018): trained on its English train split, which is MultiNLI's.

    Every language is a config. Two copies with all fifteen languages in one config are read if a folder has no other.
    """

    name = "xnli"
    title = "XNLI"
    train_rows = 392702
    labels = NLI
    languages_in = "xnli"
    other_languages = "parallel"  # train by machine (XNLI-MT), dev and test by translators; no ids, same order
    sources = (
        Source(
            "facebook/xnli",
            "{language}",
            {"train": "train", "dev": "validation", "test": "test"},
            "b8dd5d7af51114dbda02c0e3f6133f332186418e",
        ),
        Source(
            "google/xtreme",
            "XNLI",
            {"dev": "validation", "test": "test"},
            XTREME_REVISION,
            shape=_xtreme_rows,
            columns=("language", "sentence1", "sentence2", "gold_label"),
            inside=_xtreme_languages,
        ),
        Source(
            "facebook/xnli",
            "all_languages",
            {"train": "train", "dev": "validation", "test": "test"},
            "b8dd5d7af51114dbda02c0e3f6133f332186418e",
            shape=_nested_rows,
            inside=_nested_languages,
            nested=True,
        ),
    )
    defaults = TARGET


class PAWSX(SentencePair):
    """PAWS-X (Yang et al. 2019): trained on English PAWS. The other languages' train splits are machine translation.

    Rows align across languages by their id. google/xtreme's copy has no ids and labels as text, and lacks some dev
    rows of es and fr and test rows of ko, so its rows do not align.
    """

    name = "pawsx"
    title = "PAWS-X"
    train_rows = 49401
    labels = ("not_paraphrase", "paraphrase")
    columns = ("sentence1", "sentence2", "label")
    languages_in = "pawsx"
    other_languages = "parallel"
    sources = (
        Source(
            "google-research-datasets/paws-x",
            "{language}",
            {"train": "train", "dev": "validation", "test": "test"},
            "4cd8187c404bda33cb1f62b49b001115862acf37",
        ),
        Source(
            "google/xtreme",
            "PAWS-X.{language}",
            {"train": "train", "dev": "validation", "test": "test"},
            XTREME_REVISION,
        ),
    )
    defaults = TARGET

    def lines(self, predictions: list[int], examples: Dataset | None) -> list[str]:
        """The submission's lines: 0 or 1 per example."""
        return [str(p) for p in predictions]
