"""Cut a text into sentences for translation, with marks around an answer, and join the translations again."""

from __future__ import annotations

from collections.abc import Callable

from tasks.sentences import sentence_spans

MARKS = (("[", "]"), ("{", "}"), ("<", ">"))  # the first pair that the sentence itself does not have

Parts = list[tuple[str, tuple[str, str] | None]]  # (sentence, the marks around the answer in it)


def sentences(text: str, answer: tuple[int, int] | None, fits: Callable[[str], bool]) -> Parts | None:
    """Return the sentences of a text as [(sentence, its marks or None)]; None if the answer cannot be marked.

    The sentences that hold the (first) answer become one, with marks around the answer. A sentence that is too long
    for the model is cut at blanks, except the one with the answer.
    """
    spans = sentence_spans(text)
    if answer is None:
        return [(part, None) for start, end in spans for part in fitting(text[start:end], fits)]
    start, end = answer
    inside = [span for span in spans if span[0] < end and start < span[1]]
    if not inside:  # an answer of blanks
        return None
    first, last = min(inside[0][0], start), max(inside[-1][1], end)
    marks = next((pair for pair in MARKS if not any(mark in text[first:last] for mark in pair)), None)
    if marks is None:
        return None
    marked = text[first:start] + marks[0] + text[start:end] + marks[1] + text[end:last]
    if not fits(marked):
        return None
    before = [(part, None) for a, b in spans if b <= first for part in fitting(text[a:b], fits)]
    after = [(part, None) for a, b in spans if a >= last for part in fitting(text[a:b], fits)]
    return [*before, (marked, marks), *after]


def fitting(text: str, fits: Callable[[str], bool]) -> list[str]:
    """Return the text, or pieces of it cut at the blank nearest the middle, each short enough for the model."""
    middle = len(text) // 2
    blanks = [i for i, letter in enumerate(text) if letter.isspace()]
    if not blanks or fits(text):
        return [text]
    at = min(blanks, key=lambda i: abs(i - middle))
    return [part for half in (text[:at], text[at + 1 :]) if half.strip() for part in fitting(half, fits)]


def joined(parts: Parts | None, translated: dict[str, str], blank: str) -> tuple[str, list[tuple[int, str]]] | None:
    """Return (the translated text, [(start, answer)]), or None if an answer was lost."""
    if parts is None:
        return None
    text, answers = "", []
    for sentence, marks in parts:
        new = translated[sentence]
        text += blank if text and new else ""
        if marks:
            pieces = unmarked(new, marks)
            if pieces is None:
                return None
            answers.append((len(text) + len(pieces[0]), pieces[1]))
            new = "".join(pieces)
        text += new
    return text, answers


def unmarked(text: str, marks: tuple[str, str]) -> tuple[str, str, str] | None:
    """Return (before, answer, after) without the marks; None unless each mark occurs once, in order."""
    opened, closed = marks
    if text.count(opened) != 1 or text.count(closed) != 1 or text.index(closed) < text.index(opened):
        return None
    before, _, rest = text.partition(opened)
    answer, _, after = rest.partition(closed)
    if not answer.strip():
        return None
    # blanks on either side of a mark are one blank
    left = " " if before.strip() and (before[-1:].isspace() or answer[:1].isspace()) else ""
    right = " " if after.strip() and (after[:1].isspace() or answer[-1:].isspace()) else ""
    return before.rstrip() + left, answer.strip(), right + after.lstrip()
