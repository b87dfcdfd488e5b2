"""Multiple choice: a prompt and n choices, one of them right. The head gives each choice one score."""

from __future__ import annotations

import reprlib
from typing import TYPE_CHECKING, ClassVar

from tasks import languages as codes
from tasks.checks import check_labels, check_sentences, check_text, describe, map_rows
from tasks.columns import replace_columns
from tasks.defaults import INTERMEDIATE
from tasks.errors import UserError
from tasks.files import class_names
from tasks.fingerprint import fingerprint
from tasks.source import Source
from tasks.submitted import OneClass, parse, read_stripped

if TYPE_CHECKING:
    from pathlib import Path

    from datasets import Dataset
    from transformers import PreTrainedTokenizerFast

    from tasks.base import Collator


class MultipleChoice(OneClass):
    """Columns after loading: prompt, choices (a list), label."""

    form = "multiple_choice"
    auto_class = "AutoModelForMultipleChoice"
    pipeline_tag = "multiple-choice"
    usage = """\
prompt, choices = "The ground was wet, because", ["it had rained.", "the sun was shining."]
inputs = tokenizer([prompt] * len(choices), choices, padding=True, return_tensors="pt")
with torch.inference_mode():
    scores = model(**{name: values[None] for name, values in inputs.items()}).logits[0]
print(choices[scores.argmax().item()])"""
    fields = (("prompt",), ("choices",))
    metric = "accuracy"
    num_labels = 1
    n_choices: ClassVar[int]
    answer: ClassVar[str] = "label"  # the column with the right choice
    answers: ClassVar[tuple[str, ...]] = ()  # its value for each choice; default 0, 1, ...
    by_number: ClassVar[bool] = True  # whether rows may have the number of a choice, from 0, instead of its value
    may_be_null: ClassVar[tuple[str, ...]] = ()  # columns that are null in some copies

    @property
    def label_names(self) -> tuple[str, ...]:
        return self.answers or tuple(str(i) for i in range(self.n_choices))

    def row(self, row: dict) -> dict:
        """Convert a source row to {"prompt", "choices"}. Each adapter implements this."""
        raise NotImplementedError

    def examples(self, data: Dataset, language: str, where: str) -> Dataset:
        texts = (
            c for c in self.columns if hasattr(data.features[c], "dtype") and c not in (*self.may_be_null, self.answer)
        )
        check_text(data, tuple(texts), where)  # lists of choices are checked below
        stored = class_names(data.features[self.answer])
        labels = check_labels(data[self.answer][:], self.label_names, where, self.answer, stored, self.by_number)
        if -1 in labels:
            row = labels.index(-1)
            raise UserError(
                f"{where}, row {row + 1}, column {self.answer!r}: {data[self.answer][row]!r} (hidden gold). This "
                "split cannot be used for training or scoring."
            )
        rows = map_rows(
            data,
            self.row,
            remove_columns=data.column_names,
            desc=f"{self.name} rows",
            new_fingerprint=fingerprint(self, data),
        )
        for i, choices in enumerate(rows["choices"][:], 1):
            if len(choices) != self.n_choices or not all(isinstance(choice, str) and choice for choice in choices):
                raise UserError(
                    f"{where}, row {i}: {len(choices)} choices {choices!r}; expected {self.n_choices} texts, none "
                    "empty."
                )
        check_text(rows, ("prompt",), where)
        check_sentences(rows, ("prompt",), where)
        return rows.add_column("label", labels)

    def to_texts(self, examples: Dataset) -> Dataset:
        choices = {f"second, choice {i}": [row[i] for row in examples["choices"][:]] for i in range(self.n_choices)}
        return type(examples).from_dict({"first": examples["prompt"][:], **choices})

    def from_texts(self, examples: Dataset, texts: Dataset) -> Dataset:
        choices = zip(*(texts[f"second, choice {i}"] for i in range(self.n_choices)), strict=True)
        return replace_columns(examples, prompt=texts["first"][:], choices=[list(row) for row in choices])

    def featurize(
        self,
        batch: dict[str, list],
        indices: list[int],
        tokenizer: PreTrainedTokenizerFast,
        max_length: int,
        train: bool,
    ) -> dict[str, list]:
        prompts = [p for p, choices in zip(batch["prompt"], batch["choices"], strict=True) for _ in choices]
        choices = [c for row in batch["choices"] for c in row]
        # truncate the start: the end of the prompt matters most for the choice (jiant)
        side, tokenizer.truncation_side = tokenizer.truncation_side, "left"
        try:
            encoded = tokenizer(prompts, choices, truncation="longest_first", max_length=max_length)
        finally:
            tokenizer.truncation_side = side
        n = self.n_choices
        features = {k: [v[i : i + n] for i in range(0, len(v), n)] for k, v in encoded.items()}
        # labels also for evaluation: transformers' collator for this form requires them
        return features | {"example": indices, "labels": batch["label"]}

    def lengths(self, input_ids: list) -> list[int]:
        return [max(map(len, choices)) for choices in input_ids]

    def collator(self, tokenizer: PreTrainedTokenizerFast) -> Collator:
        from transformers import DataCollatorForMultipleChoice

        return DataCollatorForMultipleChoice(tokenizer)

    def score(self, predictions: list[int], examples: Dataset, language: str) -> dict[str, float]:
        from tasks.metrics import compute

        return compute("accuracy", predictions=predictions, references=self.gold(examples))

    def lines(self, predictions: list[int], examples: Dataset | None) -> list[str]:
        """The submission's lines: one index per example."""
        return [str(p) for p in predictions]


def check_list(value: list) -> list:
    """Return a list of choices. Raise UserError for a text, whose letters would become choices."""
    if not isinstance(value, list):
        raise UserError(f"{describe(value)}, expected a list of texts.")
    return value


SUPER_GLUE_REVISION = "3de24cf8022e94f4ee4b9d55a6f539891524d646"
# XTREME-R's script, for each of the two stages
XCOPA_SCRIPT = {"learning_rate": 3e-5, "num_train_epochs": 5, "per_device_train_batch_size": 32, "max_seq_length": 128}


class HellaSwag(MultipleChoice):
    """HellaSwag (Zellers et al. 2019): the prompt is ctx_a, a choice is ctx_b and an ending (jiant).

    If ctx_a is null or blank (some copies have only ctx), the prompt is ctx and a choice is an ending.
    """

    name = "hellaswag"
    title = "HellaSwag"
    train_rows = 39905
    n_choices = 4
    columns = ("ctx_a", "ctx_b", "ctx", "endings", "label")
    may_be_null = ("ctx_a", "ctx_b", "ctx")  # ctx is ctx_a and ctx_b
    sources = (
        Source(
            "Rowan/hellaswag",
            "default",
            {"train": "train", "dev": "validation"},
            "218ec52e09a7e7462a5400043bb9a69a41d06b76",
        ),
    )
    defaults = INTERMEDIATE

    def row(self, row: dict) -> dict:
        check_list(row["endings"])
        if not (row["ctx_a"] or "").strip():
            return {"prompt": row["ctx"], "choices": row["endings"]}
        start = row["ctx_b"] + " " if row["ctx_b"] else ""
        return {"prompt": row["ctx_a"], "choices": [ending and start + ending for ending in row["endings"]]}


class CosmosQA(MultipleChoice):
    """Cosmos QA (Huang et al. 2019): the prompt is context, space, question (jiant).

    The Hub's copy is a loading script, which datasets no longer supports; the authors' files are read instead.
    """

    name = "cosmosqa"
    title = "Cosmos QA"
    train_rows = 25262
    n_choices = 4
    columns = ("context", "question", "answer0", "answer1", "answer2", "answer3", "label")
    sources = (
        Source(
            "allenai/cosmos_qa",
            "default",
            {"train": "train", "dev": "validation"},
            "b6eb99cca4e2a51dd28a9a6f562534872d851639",  # of github.com/wilburOne/cosmosqa
            files={
                split: f"https://github.com/wilburOne/cosmosqa/raw/{{revision}}/data/{name}.csv"
                for split, name in (("train", "train"), ("validation", "valid"))
            },
        ),
    )
    defaults = INTERMEDIATE

    def row(self, row: dict) -> dict:
        return {"prompt": f"{row['context']} {row['question']}", "choices": [row[f"answer{i}"] for i in range(4)]}


class CommonsenseQA(MultipleChoice):
    """CommonsenseQA (Talmor et al. 2019): five choices; a letter names the right one. Test rows have no gold."""

    name = "csqa"
    title = "CommonsenseQA"
    train_rows = 9741
    n_choices = 5
    columns = ("question", "choices", "answerKey")
    answer = "answerKey"
    answers = ("A", "B", "C", "D", "E")
    by_number = False  # in other files of such questions 1 is A
    sources = (
        Source(
            "tau/commonsense_qa",
            "default",
            {"train": "train", "dev": "validation"},
            "94630fe30dad47192a8546eb75f094926d47e155",
        ),
    )
    defaults = INTERMEDIATE

    def row(self, row: dict) -> dict:
        letters, texts = check_list(row["choices"]["label"]), check_list(row["choices"]["text"])
        if sorted(letters) != list(self.answers) or len(texts) != len(letters):
            raise UserError(
                f"column 'choices': {len(texts)} texts for {letters}; expected one for each of "
                f"{', '.join(self.answers)}."
            )
        by_letter = dict(zip(letters, texts, strict=True))
        return {"prompt": row["question"], "choices": [by_letter[letter] for letter in self.answers]}


class SocialIQA(MultipleChoice):
    """Social IQa (Sap et al. 2019): three choices, numbered from 1. Stage 1 of XCOPA; XTREME-R's prompt."""

    name = "siqa"
    title = "Social IQa"
    train_rows = 33410
    n_choices = 3
    columns = ("context", "question", "answerA", "answerB", "answerC", "label")
    answers = ("1", "2", "3")
    sources = (
        Source(
            "lighteval/siqa",
            "default",
            {"train": "train", "dev": "validation"},
            "54c6a1f8cb6daf4f5abf24a601852612fb35eb25",
        ),
        # a loading script on the Hub
        Source("allenai/social_i_qa", "default", {"train": "train", "dev": "validation"}, folders_only=True),
    )
    defaults = XCOPA_SCRIPT

    def row(self, row: dict) -> dict:
        return {
            "prompt": f"{row['context']} {row['question']}",
            "choices": [row["answerA"], row["answerB"], row["answerC"]],
        }


class COPA(MultipleChoice):
    """COPA (Roemmele et al. 2011), SuperGLUE's copy: which choice is the cause, or the effect? Test gold is hidden."""

    name = "copa"
    title = "COPA"
    train_rows = 400
    n_choices = 2
    columns = ("premise", "choice1", "choice2", "question", "label")
    answers = ("choice1", "choice2")  # as the Hub names 0 and 1
    sources: tuple[Source, ...] = (
        Source("aps/super_glue", "copa", {"train": "train", "dev": "validation"}, SUPER_GLUE_REVISION),
    )
    defaults = XCOPA_SCRIPT

    def row(self, row: dict) -> dict:
        if row["question"] not in ("cause", "effect"):
            raise UserError(f"column 'question': {row['question']!r}; expected cause or effect.")
        return {
            "prompt": f"{row['premise']} What was the {row['question']}?",
            "choices": [row["choice1"], row["choice2"]],
        }


class XCOPA(COPA):
    """XCOPA (Ponti et al. 2020): COPA in eleven languages, trained on Social IQa, then on COPA, with one head.

    XTREME-R has no English. A folder is scored in English too, on COPA's dev rows, because COPA's test gold is hidden.
    English dev and English test are then the same questions.
    """

    name = "xcopa"
    title = "XCOPA"
    dev_in_test = "English, where it is scored, is COPA's dev"
    languages_in = "xcopa"
    train_from = ("siqa", "copa")
    sources = (
        Source(
            "cambridgeltl/xcopa",
            "{language}",
            {"test": "test"},
            "042f78955ba48e6404616762fa6e05e839c3907a",
            only=codes.XTREME_R["xcopa"],
        ),
        Source("aps/super_glue", "copa", {"test": "validation"}, SUPER_GLUE_REVISION),
    )

    def predictions_file(self, language: str) -> str:
        return f"{self.name}/test-{language}.jsonl"

    def lines(self, predictions: list[int], examples: Dataset | None) -> list[str]:
        """The submission's lines: {"label": 0 or 1} per example."""
        return [f'{{"label": {p}}}' for p in predictions]

    def read_lines(self, path: Path) -> list[int]:
        choices = []
        for row, line in enumerate(read_stripped(path), 1):
            value = parse(line, f"{path}: line {row}")
            label = value.get("label") if isinstance(value, dict) else None
            if type(label) is not int or label not in (0, 1):
                raise UserError(f'{path}: line {row} is {reprlib.repr(line)}. Write {{"label": 0}} or {{"label": 1}}.')
            choices.append(label)
        return choices


class Belebele(MultipleChoice):
    """Belebele (Bandarkar et al. 2024): a FLORES passage, a question, four answers; 900 test rows in 122 languages.

    Its authors train on an English collection (RACE, SciQ, MultiRC, MCTest, MCScript2.0, ReClor) that is not included
    here. Our train and dev rows are those of Cosmos QA, our only task with a passage, a question and four answers, so
    scores are not comparable with the paper. `--splits belebele.train=train belebele.dev=dev` reads such a collection
    from files in Belebele's columns, next to the English test rows (facebook__belebele/eng_Latn).
    """

    name = "belebele"
    title = "Belebele"
    train_rows = 25262
    n_choices = 4
    columns = (
        "flores_passage",
        "question",
        "mc_answer1",
        "mc_answer2",
        "mc_answer3",
        "mc_answer4",
        "correct_answer_num",
    )
    answer = "correct_answer_num"
    answers = ("1", "2", "3", "4")
    languages_in = "belebele"
    train_from = ("cosmosqa",)
    sources = (
        Source(
            "facebook/belebele",
            "{language}",
            {"test": "test"},
            "75b399394a9803252cfec289d103de462763db7c",
            codes.flores_code,
        ),
    )
    defaults = INTERMEDIATE

    def row(self, row: dict) -> dict:
        return {
            "prompt": f"{row['flores_passage']} {row['question']}",
            "choices": [row[f"mc_answer{i}"] for i in range(1, 5)],
        }
