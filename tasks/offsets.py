"""Check and correct the offsets of answers in their contexts. An offset must count characters."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable

from tasks.checks import at_row
from tasks.errors import RowError

# Some copies stripped spaces at the start of contexts without moving the offsets: up to 9 in TyDiQA. This is the
# largest shift that is corrected.
CUT = 16
SAMPLED = 1000  # rows that `other_unit` looks at
CUT_OFF, ONLY_PLACE = "characters cut off the start of the context", "the only place in the context"


def _bytes(context: str, start: int) -> int:
    return len(context.encode()[:start].decode(errors="ignore"))


def _utf16(context: str, start: int) -> int:
    return len(context.encode("utf-16-le")[: 2 * start].decode("utf-16-le", errors="ignore"))


def _crlf_as_one(context: str, start: int) -> int:
    return start + sum(match.start() - before < start for before, match in enumerate(re.finditer("\r\n", context)))


def _lf_as_two(context: str, start: int) -> int:
    return start - sum(match.end() + before < start for before, match in enumerate(re.finditer("(?<!\r)\n", context)))


# unit of an offset -> function (context, offset) -> offset in characters
UNITS: dict[str, Callable[[str, int], int]] = {
    "UTF-8 bytes": _bytes,
    "UTF-16 units": _utf16,
    "CR LF as one character": _crlf_as_one,
    "LF as two characters": _lf_as_two,
}


def mend(contexts: list[str], answers: list[dict]) -> dict[int, list[int]]:
    """Return the corrected offsets of rows with wrong ones, {row from 0: offsets in characters}.

    If some offset of the file is wrong in characters, but all are right in another unit (`UNITS`), that unit is used
    for the whole file. Otherwise the rows of a context are corrected together: their offsets are in another unit, or
    all are shifted by the same number of characters (at most `CUT`), because the context lost its first spaces. If
    neither fits all of them, each wrong row is corrected alone in that way, and if neither fits it, an answer that
    occurs once in the context is at that place.

    Args:
        contexts: the context of each row.
        answers: {"text": [...], "answer_start": [...]} of each row, no start below 0.

    Raises:
        RowError: an answer is not in its context, or it occurs several times and its place is ambiguous.
    """
    rows = [
        (context, answer["text"], answer["answer_start"]) for context, answer in zip(contexts, answers, strict=True)
    ]
    wrong = [row for row, (context, texts, starts) in enumerate(rows) if not _stand(context, texts, starts)]
    if not wrong:
        return {}
    whole = []
    for unit in UNITS.values():
        if all(_stand(*_read(rows[row], unit)) for row in wrong):  # check the wrong rows first: there are few
            reading = [_read(row, unit) for row in rows]
            whole += [reading] if all(_stand(*row) for row in reading) else []
    if whole and all(reading == whole[0] for reading in whole):
        return {row: starts for row, (_, _, starts) in enumerate(whole[0]) if starts != rows[row][2]}
    of_context: dict[str, list[int]] = {}
    for row, (context, _, _) in enumerate(rows):
        of_context.setdefault(context, []).append(row)
    mended: dict[int, list[int]] = {}
    alone: set[str] = set()  # contexts whose rows are not moved together
    for row in wrong:
        context, texts, starts = rows[row]
        if row not in mended and context not in alone:
            together = of_context[context]
            texts_of = [text for one in together for text in rows[one][1]]
            starts_of = [start for one in together for start in rows[one][2]]
            moved = _only(_readings(context, texts_of, starts_of))
            if moved is None:
                alone.add(context)
            else:  # a row that is right by chance moves, too
                places = iter(moved)
                mended |= {one: list(itertools.islice(places, len(rows[one][2]))) for one in together}
        if row not in mended:
            with at_row(row + 1, rows[row]):
                mended[row] = _mend_row(context, texts, starts)
    return mended


def other_unit(rows: Iterable[tuple[str, list[str], list[int]]]) -> str | None:
    """Return another unit in which all offsets are right too, but at other places; else None.

    If the offsets count characters, this happens only in files with few rows.
    """
    rows = list(itertools.islice(rows, SAMPLED))
    for name, unit in UNITS.items():
        readings = [_read(row, unit) for row in rows]
        if all(_stand(*reading) for reading in readings) and any(
            a[2] != b[2] for a, b in zip(readings, rows, strict=True)
        ):
            return name
    return None


def reason(context: str, given: int, taken: int) -> str:
    """Return why an offset was corrected: its unit, or another reason."""
    by_unit = (name for name, unit in UNITS.items() if unit(context, given) == taken)
    return next(by_unit, CUT_OFF if 0 < given - taken <= CUT else ONLY_PLACE)


def _readings(context: str, texts: list[str], starts: list[int]) -> list[list[int]]:
    """Return what the starts may be: in each other unit, and shifted, where that puts every text in its place."""
    readings = [[unit(context, start) for start in starts] for unit in UNITS.values()]
    shifts = ([start - cut for start in starts] for cut in range(1, CUT + 1))
    found = [reading for reading in readings if _stand(context, texts, reading)]
    return found + [shift for shift in shifts if _stand(context, texts, shift)][:1]


def _only(readings: list[list[int]]) -> list[int] | None:
    """Return the reading that all of these are; None if there is none, or if they differ."""
    return readings[0] if readings and all(reading == readings[0] for reading in readings) else None


def _mend_row(context: str, texts: list[str], starts: list[int]) -> list[int]:
    found = _readings(context, texts, starts)
    if (reading := _only(found)) is not None:
        return reading
    mended = []
    for text, start in zip(texts, starts, strict=True):
        if not _stand(context, [text], [start]):
            problem = f"column 'answers': {text!r} is not at character {start} of the context"
            places = [i for i in range(len(context)) if context.startswith(text, i)]
            if not places:
                raise RowError(f"{problem}, nor anywhere else in it.")
            if found or len(places) > 1:
                shown = ", ".join(map(str, places[:5])) + (", ..." if len(places) > 5 else "")
                raise RowError(
                    f"{problem}. It occurs at {shown}, so its place is ambiguous. Give its start in characters, "
                    "from 0."
                )
            start = places[0]
        mended.append(start)
    return mended


def _read(row: tuple, unit: Callable[[str, int], int]) -> tuple:
    context, texts, starts = row
    return context, texts, [unit(context, start) for start in starts]


def _stand(context: str, texts: list[str], starts: list[int]) -> bool:
    """Whether each text is at its start. A start below 0 is wrong: Python would count it from the end."""
    return all(start >= 0 and context.startswith(text, start) for text, start in zip(texts, starts, strict=True))
