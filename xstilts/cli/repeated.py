"""Lists that are given twice on a command line. argparse would drop all but the last one, in silence."""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Sequence

from tasks.errors import UserError
from xstilts.cli.privacy import name_of

logger = logging.getLogger("xstilts")
# Lists of KEY=VALUE add up: make joins those of DATA_ARGS and ARGS_<task>. Whatever reads them refuses a key that is
# given twice
ADDED = ("splits", "seeds_of")


def join_repeated(argv: Sequence[str], lists: Collection[str]) -> list[str]:
    """Return a command line in which each list of `ADDED` is given once.

    Another list that is given twice is refused. In a run that the Makefile starts (it sets XSTILTS_MATRIX) the last
    one counts, which is logged: ARGS_<arm> comes after FAMILY_<task>, to replace what that says.

    Args:
        lists: the arguments that take several values.

    Raises:
        UserError: a list is given twice.
    """
    parts: list[list[str]] = [[]]  # what comes before the first argument; then each argument with its values
    for word in argv:
        if name_of(word) is None:
            parts[-1].append(word)
        else:
            parts.append([word])
    for name in lists:
        same = [part for part in parts if part and name_of(part[0]) == name]
        if len(same) < 2:
            continue
        values = [_values(part) for part in same]
        if name in ADDED:
            same[-1][:] = [f"--{name}", *sum(values, [])]
            parts = [part for part in parts if not any(part is before for before in same[:-1])]
        elif "XSTILTS_MATRIX" not in os.environ:
            given = ", then ".join(" ".join(one)[:100] for one in values)
            raise UserError(f"--{name} is given {len(same)} times: {given}. Give it once, with all its values.")
        elif any(one != values[-1] for one in values):
            logger.warning("--%s is given %d times; the last one counts: %s", name, len(same), " ".join(values[-1]))
    return sum(parts, [])


def _values(part: list[str]) -> list[str]:
    """Return the values of one argument, given as --name a b or as --name=a."""
    _, equals, first = part[0].partition("=")
    return [*([first] if equals else []), *part[1:]]
