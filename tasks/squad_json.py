"""SQuAD's JSON format: the answers of a row, and files of gold answers."""

from __future__ import annotations

import json
import reprlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tasks.checks import describe, whole_number
from tasks.errors import RowError, UserError
from tasks.submitted import read_value


def texts_and_starts(answers: dict | list) -> dict[str, list]:
    """Return {text: [..], answer_start: [..]} of a question's answers, also from [{text, answer_start}].

    Raises:
        RowError: the answers have another format, or one lacks its text or start.
    """
    if not isinstance(answers, dict | list):
        raise RowError(f"column 'answers': {describe(answers)}, expected {{'text': ['Ada'], 'answer_start': [8]}}.")
    found = {
        key: [answer[key] for answer in answers] if isinstance(answers, list) else answers[key]
        for key in ("text", "answer_start")
    }
    for key, values in found.items():
        if not isinstance(values, list):
            raise RowError(f"column 'answers': {key} is {describe(values)}, expected a list.")
    if len(found["text"]) != len(found["answer_start"]):
        raise RowError(
            f"column 'answers': {len(found['text'])} in text, {len(found['answer_start'])} in answer_start; expected "
            "the same number."
        )
    if wrong := [text for text in found["text"] if not isinstance(text, str)]:
        raise RowError(f"column 'answers': text is {describe(wrong[0])}, expected text.")
    return found | {
        "answer_start": [whole_number(start, "column 'answers': answer_start") for start in found["answer_start"]]
    }


def written(title: str, examples: Iterable[dict]) -> str:
    """Return span examples as SQuAD's JSON, with one paragraph per context."""
    questions: dict[str, list] = {}
    for row in examples:
        starts = zip(row["answers"]["text"], row["answers"]["answer_start"], strict=True)
        answers = [{"text": text, "answer_start": start} for text, start in starts]
        questions.setdefault(row["context"], []).append(
            {"id": row["id"], "question": row["question"], "answers": answers}
        )
    paragraphs = [{"context": context, "qas": qas} for context, qas in questions.items()]
    return json.dumps({"version": "1.1", "data": [{"title": title, "paragraphs": paragraphs}]}, ensure_ascii=False)


def read_gold(path: Path) -> dict[str, list[str]]:
    """Return {question id: gold answers} of a file in SQuAD's format.

    Raises:
        UserError: the file has another format, or empty answers, as XTREME's stripped test sets do.
    """
    gold: dict[str, list[str]] = {}
    value = read_value(path)
    try:
        questions = [
            (question["id"], _texts(question["answers"]))
            for article in (value["data"] if isinstance(value, dict) else value)
            for paragraph in article["paragraphs"]
            for question in paragraph["qas"]
        ]
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: not in SQuAD's format (data, paragraphs, qas, answers): {error!r}.") from None
    for row, (key, answers) in enumerate(questions, 1):
        if not isinstance(key, str) or not all(isinstance(answer, str) for answer in answers):
            raise UserError(
                f"{path}: question {row}: id {reprlib.repr(key)} and answers {reprlib.repr(answers)} must be text."
            )
        if key in gold:
            raise UserError(f"{path}: question {row}: id {key!r} appears twice.")
        if not any(answers):
            raise UserError(
                f"{path}: question {row}, id {key!r}, has an empty placeholder for its answer. XTREME strips the gold "
                "of its test sets: give labels with the answers."
            )
        gold[key] = answers
    if not gold:
        raise UserError(f"{path}: empty. Give the gold labels.")
    return gold


def _texts(answers: Any) -> list[str]:
    """The texts, from SQuAD's list of answers or from the dict of lists that `datasets` makes of it."""
    if isinstance(answers, dict) and not isinstance(answers["text"], list):
        raise TypeError("answers.text is not a list")
    return answers["text"] if isinstance(answers, dict) else [answer["text"] for answer in answers]
