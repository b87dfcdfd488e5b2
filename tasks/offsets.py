"""Where answers stand in their contexts. A given offset counts characters; one that counted otherwise is mended or
refused."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable

from tasks.checks import at_row
from tasks.errors import RowError

# Characters that may have been cut off the start of a context without moving its answers: the copies known to us lack
# up to 9 blanks (TyDiQA). A text that occurs several times is not looked for farther than that from where it should
# be.
CUT = 16
CUT_OFF, ONLY_PLACE = "characters cut off the start of the context", "the only place in the context"


def _bytes(context: str, start: int) -> int:
    return len(context.encode()[:start].decode(errors="ignore"))


def _utf16(context: str, start: int) -> int:
    return len(context.encode("utf-16-le")[: 2 * start].decode("utf-16-le", errors="ignore"))


def _crlf_as_one(context: str, start: int) -> int:
    return start + sum(match.start() - before < start for before, match in enumerate(re.finditer("\r\n", context)))


def _lf_as_two(context: str, start: int) -> int:
    return start - sum(match.end() + before < start for before, match in enumerate(re.finditer("(?<!\r)\n", context)))


# what else an offset may count -> (context, offset) -> the offset in characters
UNITS: dict[str, Callable[[str, int], int]] = {
    "UTF-8 bytes": _bytes,
    "UTF-16 units": _utf16,
    "CR LF as one character": _crlf_as_one,
    "LF as two characters": _lf_as_two,
}


def mend(contexts: list[str], answers: list[dict]) -> dict[int, list[int]]:
    """The right offsets, in characters, of the rows that give others, by row (from 0).

    Rows whose answers stand where they say are left alone, unless every answer of the file stands where it says in
    another unit (`UNITS`), and not every one in characters: then all offsets of the file count that unit. Otherwise
    each wrong row is read in every way there is: its answers in a unit, or as many characters too far on, all of them
    (at most `CUT`), because the context lost its first blanks. Where no reading holds, an answer that occurs once
    stands there.

    Args:
        answers: of each row {"text": [...], "answer_start": [...]}, no start below 0.

    Raises:
        RowError: an answer is not in its context, or occurs several times and the readings lead nowhere or to several
            places.
    """
    rows = [
        (context, answer["text"], answer["answer_start"]) for context, answer in zip(contexts, answers, strict=True)
    ]
    wrong = [row for row, (context, texts, starts) in enumerate(rows) if not _stand(context, texts, starts)]
    if not wrong:
        return {}
    whole = []
    for unit in UNITS.values():
        if all(_stand(*_read(rows[row], unit)) for row in wrong):  # the few first: most files count characters
            reading = [_read(row, unit) for row in rows]
            whole += [reading] if all(_stand(*row) for row in reading) else []
    if whole and all(reading == whole[0] for reading in whole):
        return {row: starts for row, (_, _, starts) in enumerate(whole[0]) if starts != rows[row][2]}
    mended = {}
    for row in wrong:
        with at_row(row + 1, rows[row]):
            mended[row] = _mend_row(*rows[row])
    return mended


def other_unit(rows: Iterable[tuple[str, list[str], list[int]]]) -> str | None:
    """A unit in which every answer of the file stands where it says too, though not all in the same places; else None.

    Of a file whose offsets count characters that happens only where rows are few.
    """
    rows = list(itertools.islice(rows, 1000))
    for name, unit in UNITS.items():
        readings = [_read(row, unit) for row in rows]
        if all(_stand(*reading) for reading in readings) and any(
            a[2] != b[2] for a, b in zip(readings, rows, strict=True)
        ):
            return name
    return None


def reason(context: str, given: int, taken: int) -> str:
    """Why an offset was mended: the unit it counted, or what else explains it."""
    by_unit = (name for name, unit in UNITS.items() if unit(context, given) == taken)
    return next(by_unit, CUT_OFF if 0 < given - taken <= CUT else ONLY_PLACE)


def _mend_row(context: str, texts: list[str], starts: list[int]) -> list[int]:
    readings = [[unit(context, start) for start in starts] for unit in UNITS.values()]
    shifts = ([start - cut for start in starts] for cut in range(1, CUT + 1))
    found = [reading for reading in readings if _stand(context, texts, reading)]
    found += [shift for shift in shifts if _stand(context, texts, shift)][:1]
    if found and all(reading == found[0] for reading in found):
        return found[0]
    mended = []
    for text, start in zip(texts, starts, strict=True):
        if not _stand(context, [text], [start]):
            said = f"column 'answers': {text!r} does not stand at character {start} of the context"
            places = [i for i in range(len(context)) if context.startswith(text, i)]
            if not places:
                raise RowError(f"{said}, nor anywhere else in it.")
            if found or len(places) > 1:
                shown = ", ".join(map(str, places[:5])) + (", ..." if len(places) > 5 else "")
                raise RowError(
                    f"{said}. It stands at {shown}, and nothing tells which is meant: give its start in characters, "
                    "from 0."
                )
            start = places[0]
        mended.append(start)
    return mended


def _read(row: tuple, unit: Callable[[str, int], int]) -> tuple:
    context, texts, starts = row
    return context, texts, [unit(context, start) for start in starts]


def _stand(context: str, texts: list[str], starts: list[int]) -> bool:
    """Whether each text stands at its start. One below 0 is no place: Python would count it from the end."""
    return all(start >= 0 and context.startswith(text, start) for text, start in zip(texts, starts, strict=True))
