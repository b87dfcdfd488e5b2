"""Split text into sentences by rules, well enough to find the sentence of an answer in the benchmark's scripts."""

from __future__ import annotations

import re

# The end of a sentence: a stop with its closing quotes and brackets, and white space after it (not in 3.14 or
# example.org). Chinese, Japanese and Devanagari stops need no white space.
_END = re.compile(r"""[.!?…؟۔]+["'”’»)\]]*(?=\s)|[。！？।॥]+["'”’»」』）)\]]*""")
# Abbreviations with a full stop within a sentence. A single capital is an initial (J. Smith, U.S. troops).
_ABBREVIATIONS = frozenset(
    "mr mrs ms dr prof rev fr hon st sr jr gen col capt cmdr lt sgt maj gov sen rep pres ft mt no nos vol vols ed eds "
    "pp fig figs ch sec art approx cf v vs etc e.g i.e al inc ltd co corp dept univ assoc bros c ca jan feb mar apr "
    "jun jul aug sep sept oct nov dec a.m p.m a.d b.c".split()
)
_WORD_BEFORE = re.compile(r"""(?:^|[\s("'“‘«\[])([^\W_]+(?:\.[^\W_]+)*)$""")


def sentence_spans(text: str) -> list[tuple[int, int]]:
    """Return the sentences of a text as (start, end) characters, in order. Only white space is in none.

    A full stop after an abbreviation or an initial does not end a sentence. Capitals do not matter, because many
    scripts have none. For 98.6 % of XQuAD's English questions, the sentence with the answer is the same as LAReQA's.
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
    """Return the sentence with the character at `position`; between two sentences, the second one.

    Raises:
        ValueError: there is no such character, or only white space from there on.
    """
    for start, end in sentence_spans(text):
        if position < end:
            return text[start:end]
    raise ValueError(f"no sentence at character {position} of a text of {len(text)}")


def with_paragraph(sentence: str, paragraph: str) -> str:
    """Return a LAReQA answer as XTREME-R's dual encoder has it: sentence and paragraph, without line breaks."""
    return (sentence + paragraph).replace("\n", "")
