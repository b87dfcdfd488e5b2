"""Span extraction: the answer to a question is a span of the context. Long contexts become overlapping windows.

DOC_STRIDE is the number of tokens that two windows share, as in Hugging Face's run_qa.py. In XTREME and jiant the same
128 is the step between windows: at 384 tokens their windows share 188 to 251 tokens, and an answer may start only in
the window with the most context around it. benchmarks/README.md has the effect of this difference. The maximum lengths
of question and answer, and the number of best starts and ends, are those of XTREME and jiant.
"""

from __future__ import annotations

import json
from bisect import bisect_left, bisect_right
from collections import Counter
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from tasks import offsets, squad_json
from tasks.base import Task
from tasks.chance import clears
from tasks.checks import at_row, check_ids, check_text
from tasks.columns import replace_columns
from tasks.errors import RowError, UserError
from tasks.fingerprint import fingerprint
from tasks.frame import Frame
from tasks.squad_json import texts_and_starts
from tasks.submitted import compute, read_entries

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from datasets import Dataset
    from transformers import PreTrainedTokenizerFast

    from tasks.base import Collator
    from tasks.submitted import Scorer, Submitted

DOC_STRIDE, MAX_QUERY, N_BEST, MAX_ANSWER = 128, 64, 20, 30

StartEndLogits = tuple[np.ndarray, np.ndarray]  # of start and end, each of shape (features, tokens)
PARTS = ("first, before the answer", "first, the answer", "first, after it", "second")  # of `Span.to_texts`


class Span(Task):
    """Columns after loading: id, context, question, answers {text: [..], answer_start: [..]} (character offsets)."""

    form = "span"
    auto_class = "AutoModelForQuestionAnswering"
    pipeline_tag = "question-answering"
    usage = """\
question, context = "Where does Anna live?", "Anna moved to Paris in 2019 and still lives there."
inputs = tokenizer(question, context, return_offsets_mapping=True, return_tensors="pt")
offsets = inputs.pop("offset_mapping")[0]
with torch.inference_mode():
    output = model(**inputs)
inside = torch.tensor([side == 1 for side in inputs.sequence_ids()])  # the tokens of the context
allowed = (inside[:, None] & inside[None, :]).triu()
scores = output.start_logits[0][:, None] + output.end_logits[0][None, :]
start, end = divmod(scores.masked_fill(~allowed, -torch.inf).argmax().item(), len(scores))
print(context[offsets[start][0] : offsets[end][1]])"""
    official_metrics = ("exact_match", "f1")
    fields = (("context", "answers"), ("question",))
    num_labels = 2  # start and end
    empty_label = [0, 0]
    metric = "f1"
    select = "last"  # the benchmark's QA scripts keep the last checkpoint
    columns = ("id", "context", "question", "answers")
    unique_ids = True
    normalization: ClassVar[str] = "squad"
    no_answer: ClassVar[bool] = False  # whether a question may have no answer: both lists empty

    def at_chance(self, scores: Mapping[str, float], chance: Mapping[str, float], n: int) -> list[str]:
        """As for other tasks, but of the mean of exact match and F1, the benchmark's score: answers that are seldom
        exact may be half right. With no-answer questions, of both at the best threshold."""
        pair = [name for name in (*self.official_metrics, "best_exact_match", "best_f1") if name in chance]
        score, level = (float(np.mean([values[name] for name in pair])) for values in (scores, chance))
        return [] if clears(score, level, n) else pair

    def examples(self, data: Dataset, language: str, where: str) -> Dataset:
        check_text(data, ("id", "context", "question"), where)
        check_ids(data["id"][:], where)
        answers = []
        for row, given in enumerate(data["answers"][:], 1):
            with at_row(row, given):
                answers.append(self._with_gold(texts_and_starts(given)))
        feature = data.features["answers"]
        starts = getattr(feature.get("answer_start"), "feature", None) if isinstance(feature, dict) else None
        if not getattr(starts, "dtype", "").startswith(("int", "uint")):
            # [{text, answer_start}] of raw SQuAD files, or 8.0
            data = data.remove_columns("answers").add_column("answers", answers)
        moved = offsets.mend(data["context"][:], answers)
        data = data.select_columns(["id", "context", "question", "answers"])
        if moved:
            data = data.map(
                lambda _, i: {"answers": answers[i] | ({"answer_start": moved[i]} if i in moved else {})},
                with_indices=True,
                desc=f"{self.name}: mending {len(moved)} offsets",
                new_fingerprint=fingerprint(self, data, moved),
            )
        return data

    def mended(self, data: Dataset, examples: Dataset) -> list[str]:
        if data.with_format("arrow")["answers"][:].equals(examples.with_format("arrow")["answers"][:]):
            first = examples[: offsets.SAMPLED]
            rows = zip(first["context"], first["answers"], strict=True)
            unit = offsets.other_unit((context, answers["text"], answers["answer_start"]) for context, answers in rows)
            note = (
                f"every answer stands where its offset says in characters and, elsewhere, in {unit}; taken as "
                "characters"
            )
            return [note] if unit else []
        reasons: Counter[str] = Counter()
        for context, given, taken in zip(
            examples["context"][:], data["answers"][:], examples["answers"][:], strict=True
        ):
            starts = zip(texts_and_starts(given)["answer_start"], taken["answer_start"], strict=True)
            reasons.update(offsets.reason(context, old, new) for old, new in starts if old != new)
        return [f"{n} answer offsets mended: {reason}" for reason, n in reasons.most_common()]

    def _with_gold(self, answers: dict[str, list]) -> dict[str, list]:
        """Return the answers. Raise RowError if there is none, as in a stripped test file, or one is invalid."""
        texts, starts = answers["text"], answers["answer_start"]
        if (not texts and not self.no_answer) or (starts == [0] and texts == [""]):
            raise RowError(f"column 'answers': no answer (a stripped test file?). {self.name} needs gold answers.")
        for text, start in zip(texts, starts, strict=True):
            if not text or start < 0:
                raise RowError(
                    f"column 'answers': {text!r} at answer_start {start}; expected text and the number of its first "
                    "character, from 0."
                )
        return answers

    def ids(self, examples: Dataset) -> list[str] | None:
        return examples["id"][:]

    def shuffle_labels(self, examples: Dataset, rng: np.random.Generator) -> Dataset:
        """Move each (first) answer to a random place in its context; its length in characters stays the same."""
        moved = []
        for context, answers in zip(examples["context"][:], examples["answers"][:], strict=True):
            if not answers["text"]:
                raise UserError(f"{self.name}: its labels cannot be shuffled, because some questions have no answer.")
            length = len(answers["text"][0])
            start = int(rng.integers(len(context) - length + 1))
            moved.append({"text": [context[start : start + length]], "answer_start": [start]})
        return replace_columns(examples, answers=moved)

    text_columns = ("context", "question")

    def places(self, row: dict) -> dict[str, tuple[int, int]]:
        texts, starts = row["answers"]["text"], row["answers"]["answer_start"]
        return {"context": (starts[0], starts[0] + len(texts[0]))} if texts else {}

    def replaced(self, row: dict, places: dict[str, list[tuple[int, str]]]) -> dict:
        return row | {
            "answers": {
                "text": [text for _, text in places["context"]],
                "answer_start": [at for at, _ in places["context"]],
            }
        }

    def to_texts(self, examples: Dataset) -> Dataset:
        """The context in three parts, which keeps the place of its (first) answer, and the question.

        Without an answer, the whole context is the part before it.
        """

        def parts(row: dict) -> dict[str, str]:
            context, answers = row["context"], row["answers"]
            start = answers["answer_start"][0] if answers["text"] else len(context)
            end = start + len(answers["text"][0]) if answers["text"] else start
            return dict(zip(PARTS, (context[:start], context[start:end], context[end:], row["question"]), strict=True))

        return examples.map(
            parts,
            remove_columns=examples.column_names,
            desc=f"{self.name}: texts",
            new_fingerprint=fingerprint(self, examples, "texts"),
        )

    def from_texts(self, examples: Dataset, texts: Dataset) -> Dataset:
        contexts, answers = [], []
        for before, answer, after, old in zip(*(texts[part] for part in PARTS[:3]), examples["answers"], strict=True):
            contexts.append(before + answer + after)
            answers.append({"text": [answer], "answer_start": [len(before)]} if old["text"] else old)
        return replace_columns(examples, context=contexts, answers=answers, question=texts["second"][:])

    def featurize(
        self,
        batch: dict[str, list],
        indices: list[int],
        tokenizer: PreTrainedTokenizerFast,
        max_length: int,
        train: bool,
    ) -> dict[str, list]:
        frame = Frame.of(tokenizer, 2)
        room = max_length - frame.size
        # leading spaces of a question would use up tokens
        questions = tokenizer([q.lstrip() for q in batch["question"]], add_special_tokens=False, verbose=False)[
            "input_ids"
        ]
        contexts = tokenizer(batch["context"], add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        features: dict[str, list] = {key: [] for key in ("input_ids", "token_type_ids", "attention_mask", "example")}
        features |= {key: [] for key in (("labels",) if train else ("first", "offsets"))}
        for n, index in enumerate(indices):
            # leave tokens for context in every window
            question = questions[n][: min(MAX_QUERY, max_length // 3, room - 1)]
            ids, places, size = contexts["input_ids"][n], contexts["offset_mapping"][n], room - len(question)
            first = (
                len(frame.ids[0]) + len(question) + len(frame.ids[1])
            )  # index of the first context token, in every window
            for start in range(0, max(1, len(ids) - overlap(size)), size - overlap(size)):
                tokens, types = frame.around(question, ids[start : start + size])
                window = places[start : start + size]
                features["input_ids"].append(tokens)
                features["token_type_ids"].append(types)
                features["attention_mask"].append([1] * len(tokens))
                features["example"].append(index)
                if train:
                    features["labels"].append(self._label(window, first, batch["answers"][n]))
                else:
                    features["first"].append(first)
                    features["offsets"].append([list(pair) for pair in window])
        if "token_type_ids" not in tokenizer.model_input_names:
            del features["token_type_ids"]
        return features

    @staticmethod
    def _label(places: list[tuple[int, int]], first: int, answers: dict[str, list]) -> list[int]:
        """The [start, end] tokens of the first answer in this window; [0, 0] if the answer is not in it.

        Args:
            places: the (start, end) characters of the window's tokens.
            first: the index of the window's first context token in the input.
            answers: the answers of the question.
        """
        start_char = answers["answer_start"][0] if answers["text"] else -1
        end_char = start_char + len(answers["text"][0]) if answers["text"] else -1
        if not places or start_char < places[0][0] or end_char > places[-1][1]:
            return list(Span.empty_label)
        # the last token that starts at or before the answer, and the first that ends at or after it; places ascend
        start = bisect_right(places, start_char, key=lambda pair: pair[0]) - 1
        return [first + start, first + bisect_left(places, end_char, start, key=lambda pair: pair[1])]

    def collator(self, tokenizer: PreTrainedTokenizerFast) -> Collator:
        from transformers import DataCollatorWithPadding

        return DataCollatorWithPadding(tokenizer)

    def decode(self, logits: StartEndLogits, features: Dataset, examples: Dataset) -> list:
        return [text for text, _ in self.best(logits, features, examples)]

    def best(self, logits: StartEndLogits, features: Dataset, examples: Dataset) -> list[tuple[str, float]]:
        """Return (answer, no-answer margin) for each example: the best span of all its windows.

        As in HF's `utils_qa`: among the N_BEST starts and ends of each window, a valid span is in the context, has
        start <= end and at most MAX_ANSWER tokens. The one with the highest sum of logits wins. Without a valid span
        the answer is empty. The margin is the sum of the first token's logits, in the window where that is lowest,
        minus the span's sum.

        Args:
            logits: (start, end), each of shape (features, tokens). Those of padding do not count: how much of it
                there is depends on the batch, and training rules it out, too.
            features: the features.
            examples: the examples.
        """
        best = [(-np.inf, "")] * len(examples)
        null = np.full(len(examples), np.inf)
        contexts = examples["context"]
        parts = *logits, features["input_ids"], features["example"], features["first"], features["offsets"]
        for start_row, end_row, ids, example, first, places in zip(*parts, strict=True):
            start_row, end_row = start_row[: len(ids)], end_row[: len(ids)]
            null[example] = min(null[example], float(start_row[0] + end_row[0]))
            n = len(places)
            # a stable sort, so that equal logits give the same answer on every machine
            starts, ends = (np.argsort(-row, kind="stable")[:N_BEST] - first for row in (start_row, end_row))
            starts, ends = (some[(some >= 0) & (some < n)] for some in (starts, ends))
            if not len(starts) or not len(ends):
                continue
            sums = start_row[starts + first][:, None] + end_row[ends + first][None, :]
            length = ends[None, :] - starts[:, None] + 1
            sums = np.where((length >= 1) & (length <= MAX_ANSWER), sums, -np.inf)
            s, e = np.unravel_index(sums.argmax(), sums.shape)
            if sums[s, e] > best[example][0]:
                text = contexts[example][places[starts[s]][0] : places[ends[e]][1]]
                best[example] = (float(sums[s, e]), text)
        # without a valid span, the margin is the largest float32
        return [
            (text, float(nothing - score) if text else float(np.finfo("float32").max))
            for (score, text), nothing in zip(best, null, strict=True)
        ]

    def gold(self, examples: Dataset) -> list:
        return [answers["text"][0] if answers["text"] else "" for answers in examples["answers"][:]]

    def constant(self, examples: Dataset) -> list:
        common = Counter(self.gold(examples)).most_common(1)[0][0]
        return [common] * len(examples)

    @property
    def dev_metrics(self) -> tuple[str, ...]:
        by_language = ("f1_language", "exact_match_language") if self._has_two_rules("en") else ()
        return ("f1", "exact_match", *by_language)

    def _has_two_rules(self, language: str) -> bool:
        """Whether answers are compared by the English rules, as the benchmark does, and by the language's own too."""
        return bool(self.languages_in) and self.normalization_of(language) == "squad"

    def score(self, predictions: list, examples: Dataset, language: str) -> dict[str, float]:
        from tasks.metrics import compute

        qa = {
            "predictions": predictions,
            "references": [a["text"] for a in examples["answers"][:]],
            "language": language,
        }
        scores = compute("qa", **qa, normalization=self.normalization_of(language))
        if self._has_two_rules(language):
            by_language = compute("qa", **qa, normalization="language")
            scores |= {f"{name}_language": value for name, value in by_language.items()}
        return scores

    def normalization_of(self, language: str) -> str:
        """Return the normalization of answers, a name that the qa metric knows."""
        return self.normalization

    def predictions_file(self, language: str) -> str:
        return f"{self.name}/test-{language}.json"

    def lines(self, predictions: list, examples: Dataset) -> list[str]:
        """The submission: one JSON object, question id -> answer."""
        return [json.dumps(dict(zip(examples["id"][:], predictions, strict=True)), ensure_ascii=False, indent=0)]

    def gold_lines(self, examples: Dataset) -> list[str]:
        """The labels in SQuAD's JSON format, with every answer."""
        return [squad_json.written(self.name, examples)]

    def read_lines(self, path: Path) -> dict[str, str]:
        return read_entries(path, lambda answer: isinstance(answer, str), "a string")

    def compare(self, files: Submitted) -> Scorer:
        found, gold = self.read_lines(files.predictions), squad_json.read_gold(files.labels)
        files.check_ids(found, gold)
        answered = [key for key in gold if key in found]
        rows = {"predictions": [found[key] for key in answered], "references": [gold[key] for key in answered]}
        rules = {"": self.normalization_of(files.language)}
        if rules[""] == "squad":  # the English rules for every language: add ours
            rules["_language"] = "language"
        elif rules[""] == "language":
            files.notes.append(
                f"{self.name} {files.language}: the benchmark has no normalisation for it, ours is used."
            )

        def scorer() -> dict[str, float]:
            figures: dict[str, float] = {}
            for suffix, rule in rules.items():
                scores = compute("qa", **rows, language=files.language, normalization=rule)
                # a question without a prediction scores 0, even where the gold answer normalises to nothing
                figures |= {metric + suffix: value * len(answered) / len(gold) for metric, value in scores.items()}
            return figures

        return scorer


def overlap(size: int) -> int:
    """Return the number of tokens that two windows with `size` context tokens share.

    It is less than DOC_STRIDE only if less than a quarter of each window would be new.
    """
    return min(DOC_STRIDE, size * 3 // 4)
