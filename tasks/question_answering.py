"""Question answering data sets in the form `Span`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tasks import languages as codes
from tasks.checks import languages_in
from tasks.defaults import INTERMEDIATE
from tasks.fingerprint import fingerprint
from tasks.source import XTREME_REVISION, Source
from tasks.span import Span, StartEndLogits

if TYPE_CHECKING:
    from datasets import Dataset


class SQuAD(Span):
    """SQuAD v1.1 (Rajpurkar et al. 2016).

    Rows that are not English are XTREME's machine translation of it, as juletxara/xquad_xtreme has it on the Hub; they
    keep SQuAD's ids (not checked there).
    """

    name = "squad"
    title = "SQuAD 1.1"
    train_rows = 87599
    other_languages = "parallel"
    sources: tuple[Source, ...] = (
        Source(
            "rajpurkar/squad",
            "plain_text",
            {"train": "train", "dev": "validation"},
            "7b6d24c440a36b6815f21b70d25016731768db1f",
        ),
        # its main branch is a loading script; the Hub's own conversion to parquet has no commit known to us
        Source(
            "juletxara/xquad_xtreme",
            "{language}",
            {"train": "translate_train", "dev": "translate_dev"},
            "refs/convert/parquet",
        ),
    )
    # 384 tokens and 4x4 rows: jiant's XTREME scripts for question answering, which are phase 3. Its phase 2
    # has 32 rows, as PRESET=xtreme gives (docs/protocol.md)
    defaults = INTERMEDIATE | {"per_device_train_batch_size": 16, "max_seq_length": 384}


class SQuADv2(Span):
    """SQuAD 2.0 (Rajpurkar et al. 2018): half of the questions of dev have no answer.

    A prediction is (answer, no-answer margin), see `best`; a margin above 0 means no answer. `exact_match` and `f1`
    use this threshold, `best_exact_match` and `best_f1` the best one, as the data set's own script does.
    """

    name = "squad_v2"
    title = "SQuAD 2.0"
    train_rows = 130319
    no_answer = True
    metric = "best_f1"
    sources = (
        Source(
            "rajpurkar/squad_v2",
            "squad_v2",
            {"train": "train", "dev": "validation"},
            "3ffb306f725f7d2ce8394bc1873b24868140c412",
        ),
    )
    defaults = SQuAD.defaults

    def decode(self, logits: StartEndLogits, features: Dataset, examples: Dataset) -> list:
        return self.best(logits, features, examples)

    def gold_values(self, examples: Dataset) -> list:
        """A file in which no question has an answer is a placeholder."""
        return ["no answer" if not answers["text"] else row for row, answers in enumerate(examples["answers"][:])]

    def gold(self, examples: Dataset) -> list:
        return [(answers["text"][0], -1.0) if answers["text"] else ("", 1.0) for answers in examples["answers"][:]]

    def constant(self, examples: Dataset) -> list:
        return [("", 1.0)] * len(examples)

    def chance(self, examples: Dataset, language: str = "en") -> dict[str, float]:
        """Only of the best-threshold scores: at threshold 0 a useful model may score less than chance."""
        return {name: value for name, value in super().chance(examples, language).items() if name.startswith("best_")}

    @property
    def dev_metrics(self) -> tuple[str, ...]:
        return "best_f1", "best_exact_match", "f1", "exact_match"

    def score(self, predictions: list, examples: Dataset, language: str) -> dict[str, float]:
        from tasks.metrics import compute

        answers, margins = [text for text, _ in predictions], [margin for _, margin in predictions]
        rows: dict[str, Any] = {"references": [a["text"] for a in examples["answers"][:]]}
        rows |= {"language": language, "squad_v2": True}
        cut = compute("qa", predictions=self._cut_at_0(predictions), **rows)
        free = compute("qa", predictions=answers, **rows, no_answer_probabilities=margins)
        return cut | {name: free[name] for name in ("best_exact_match", "best_f1")}

    @staticmethod
    def _cut_at_0(predictions: list[tuple[str, float]]) -> list[str]:
        return ["" if margin > 0 else text for text, margin in predictions]

    def lines(self, predictions: list, examples: Dataset) -> list[str]:
        return super().lines(self._cut_at_0(predictions), examples)


# XQuAD's and LAReQA's questions are from here
SQUAD_DEV = ("rajpurkar/squad/plain_text/validation", "rajpurkar/squad_v2/squad_v2/validation")


class XQuAD(Span):
    """XQuAD (Artetxe et al. 2020): test only, from SQuAD's dev paragraphs; trained on SQuAD v1.1."""

    name = "xquad"
    title = "XQuAD"
    dev_in_test = "XQuAD's questions are from SQuAD's dev"
    train_rows = 87599
    languages_in = "xquad"
    same_sentences = SQUAD_DEV
    other_languages = "parallel"  # if --splits uses its rows for training
    train_from = ("squad",)
    # google/xquad first: google/xtreme strips contexts without moving the offsets
    sources = (
        Source("google/xquad", "xquad.{language}", {"test": "validation"}, "51adfef1c1287aab1d2d91b5bead9bcfb9c68583"),
        Source("google/xtreme", "XQuAD.{language}", {"test": "validation"}, XTREME_REVISION),
    )
    # XTREME's scripts/train_qa.sh of 2020, for XQuAD, MLQA and TyDiQA; since August 2021 (its commit 0918248) it has 3
    # epochs and 4x8 rows
    defaults = {
        "learning_rate": 3e-5,
        "num_train_epochs": 2,
        "per_device_train_batch_size": 16,
        "max_seq_length": 384,
        "warmup_steps": 500,
        "weight_decay": 1e-4,
    }


def _name_in(example_id: str) -> str:
    """``swahili--8211684794284159625-4`` -> ``swahili``: the numbers can be negative, so cut at the first dash."""
    return example_id.partition("-")[0]


def _tydiqa_languages(data: Dataset) -> dict[str, str]:
    return languages_in((_name_in(i) if isinstance(i, str) else i for i in data["id"][:]), "id")


def _tydiqa_rows(data: Dataset, language: str) -> Dataset:
    names = [name for name, code in _tydiqa_languages(data).items() if code == language]
    return data.filter(
        lambda i: _name_in(i) in names,
        input_columns="id",
        desc=f"tydiqa {language}",
        new_fingerprint=fingerprint(TyDiQA(), data, language),
    )


class TyDiQA(Span):
    """TyDiQA-GoldP (Clark et al. 2020): nine languages in one split, identified by the id; trained on English only.

    English dev and English test are the same questions: XTREME has no others.
    """

    name = "tydiqa"
    title = "TyDiQA-GoldP"
    dev_in_test = "TyDiQA's English dev and English test are the same questions"
    train_rows = 3696
    languages_in = "tydiqa"
    other_languages = "native"
    sources = tuple(
        Source(
            id,
            config,
            {"train": "train", "dev": "validation", "test": "validation"},
            revision,
            shape=_tydiqa_rows,
            inside=_tydiqa_languages,
        )
        # google/xtreme's copy strips contexts without moving the offsets
        for id, config, revision in (
            ("google-research-datasets/tydiqa", "secondary_task", "da78f23f9119363459acbaf46bf89426ff26c259"),
            ("google/xtreme", "tydiqa", XTREME_REVISION),
        )
    )
    defaults = XQuAD.defaults


class MLQA(Span):
    """MLQA (Lewis et al. 2020): context and question in the same language; trained on SQuAD v1.1.

    The source's configs name the context's language first (`MLQA.ar.en`: Arabic context, English question); XTREME
    takes the seven where both are the same.
    """

    name = "mlqa"
    title = "MLQA"
    train_rows = 87599
    languages_in = "mlqa"
    train_from = ("squad",)
    sources = (Source("google/xtreme", "MLQA.{language}.{language}", {"test": "test"}, XTREME_REVISION),)
    defaults = XQuAD.defaults

    def normalization_of(self, language: str) -> str:
        """MLQA's rules for its seven languages; rules by language for any other (an invented one)."""
        return "mlqa" if language in codes.XTREME["mlqa"] else "language"
