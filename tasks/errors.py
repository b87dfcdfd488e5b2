"""The one error a user is meant to see, and what can be said of a disk that takes no more."""

import errno
import re

DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO)


class UserError(ValueError):
    """What was given, what was expected, what to type: printed as one line, without a traceback, exit code 2."""


class MissingColumn(UserError):
    """A column that is read is not there."""


class RowError(ValueError):
    """What is wrong with a row, told where its file is not known: "column 'label': ...", or "row 3, column 'label': ..."."""


def first_line(error: BaseException) -> str:
    """What a library's error says, in one line; its name where it says nothing.

    The number that the Hub gives a request stands first, alone, where it refuses one (403, 429), and says nothing.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return next((line for line in lines if not re.fullmatch(r"\(Request ID: .*\)", line)), type(error).__name__)


def one_line(error: BaseException) -> str:
    """The first line of an exception's message, with its type."""
    return f"{type(error).__name__}: {first_line(error)}"


def full_disk(error: BaseException | None) -> str | None:
    """What the system said, if an error or what it came from is that nothing could be written (no room, read-only); else None."""
    while error is not None:
        said = str(error).lower()
        if (isinstance(error, OSError) and error.errno in DISK) or "no space left on device" in said or "not enough disk space" in said:
            return first_line(error)
        error = error.__cause__ or error.__context__  # closing a file that could not be written fails in words of its own
    return None
