"""The one error a user is meant to see, and what can be said of a disk that takes no more."""

import errno
import os
import re

DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO, errno.EFBIG)
# Libraries in Rust and C++ raise errors without a number: the system's words, and what torch.save says instead of them
FULL = (
    *(os.strerror(number).lower() for number in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EFBIG)),
    "not enough disk space",
)
TORCH_SAVE = ("pytorchstreamwriter failed", "unexpected pos", "iostream error")


class UserError(ValueError):
    """What was given, what was expected, what to type: printed as one line, without a traceback, exit code 2."""


class MissingColumn(UserError):
    """A required column is missing."""


class RowError(ValueError):
    """An error in a row, raised where the file's name is not known. `Task.reading` adds it."""


def first_line(error: BaseException) -> str:
    """The first sentence of a library's error, in one line; the error's name where it says nothing.

    Some messages go on in a list ("but found", "one of:"). The number that the Hub gives a request stands first,
    alone, where it refuses one (403, 429), and says nothing.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    lines = [line for line in lines if not re.fullmatch(r"\(Request ID: .*\)", line)] or [type(error).__name__]
    text = lines[0]
    for line in lines[1:]:
        if not (line.startswith("- ") or re.search(r"([:,]|\b(and|found|from|of|or))$", text)):
            break
        text += " " + line
    return text


def one_line(error: BaseException) -> str:
    """The first line of an exception's message, with its type."""
    return f"{type(error).__name__}: {first_line(error)}"


def full_disk(error: BaseException | None) -> str | None:
    """What the system said, if an error or what it came from is that nothing could be written (no room, read-only);
    else None."""
    while error is not None:
        said = str(error).lower()
        if (isinstance(error, OSError) and error.errno in DISK) or any(words in said for words in FULL):
            return first_line(error)
        if any(words in said for words in TORCH_SAVE):
            return "torch.save could not write all of a file"
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return None


def is_panic(error: BaseException) -> bool:
    """Whether a Rust library (tokenizers) has panicked: such an error is no Exception, and `except Exception` lets it
    pass."""
    return not isinstance(error, Exception | KeyboardInterrupt | SystemExit | GeneratorExit)
