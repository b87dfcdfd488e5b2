"""The one error a user is meant to see, and what can be said of a disk that takes no more."""

import errno
import re

DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO)


class UserError(ValueError):
    """What was given, what was expected, what to type: printed as one line, without a traceback, exit code 2."""


def first_line(error: BaseException) -> str:
    """The first sentence of a library's error, in one line; the error's name where it says nothing.

    Some messages go on in a list ("but found", "one of:"). The number that the Hub gives a request stands first, alone,
    where it refuses one (403, 429), and says nothing.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    lines = [line for line in lines if not re.fullmatch(r"\(Request ID: .*\)", line)] or [type(error).__name__]
    text = lines[0]
    for line in lines[1:]:
        if not (line.startswith("- ") or re.search(r"([:,]|\b(and|found|from|of|or))$", text)):
            break
        text += " " + line
    return text


def full_disk(error: BaseException | None) -> str | None:
    """What the system said, if an error or what it came from is that nothing could be written (no room, read-only); else None."""
    while error is not None:
        said = str(error).lower()
        if (isinstance(error, OSError) and error.errno in DISK) or "no space left on device" in said or "not enough disk space" in said:
            return first_line(error)
        error = error.__cause__
    return None
