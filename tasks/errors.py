"""The errors that users see, and what they are made of: near names, missing packages, full disks, Rust panics."""

import difflib
import errno
import importlib.util
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO, errno.EFBIG)
# Libraries in Rust and C++ raise errors without a number: look for the system's messages, and those of torch.save
FULL = (
    *(os.strerror(number).lower() for number in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EFBIG)),
    "not enough disk space",
)
TORCH_SAVE = ("pytorchstreamwriter failed", "unexpected pos", "iostream error")


class UserError(ValueError):
    """What was given, what was expected, what to type. Printed as one line, without traceback; exit code 2."""


class MissingColumn(UserError):
    """A required column is missing."""


class MissingRows(UserError):
    """No file holds a split."""


class RowError(ValueError):
    """An error in a row, without the file's name, which `reading` adds."""


def nearest(word: str, known: Iterable[str], most: int = 1, cutoff: float = 0.6) -> list[str]:
    """Return the names most similar to `word`, the nearest first; case does not count.

    Args:
        most: the largest number of names.
        cutoff: the least similarity, 0 to 1 (`difflib.get_close_matches`).
    """
    by_case = {name.casefold(): name for name in known}
    return [by_case[name] for name in difflib.get_close_matches(word.casefold(), by_case, most, cutoff)]


def did_you_mean(word: str, known: Iterable[str], most: int = 1, cutoff: float = 0.6) -> str:
    """Return what to write after "NAME is unknown.": " Did you mean OTHER?", or "" if no name is near."""
    near = nearest(word, known, most, cutoff)
    return f" Did you mean {' or '.join(near)}?" if near else ""


def first_line(error: BaseException) -> str:
    """Return the first sentence of a library's error, in one line; the error's type if it has no message.

    A message that continues in a list ("but found", "one of:") is joined. The line with the Hub's request id, which
    comes first when the Hub refuses a request (403, 429), is left out.
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
    """Return the first sentence of an exception's message, with its type."""
    return f"{type(error).__name__}: {first_line(error)}"


@contextmanager
def reading(task: str, where: str) -> Iterator[None]:
    """Turn an error in a row of a task, such as a null or a wrong type, into a one-line UserError with `where`."""
    try:
        yield
    except UserError:
        raise
    except RowError as error:
        raise UserError(f"{where}, {error}") from error
    except (TypeError, ValueError, LookupError, AttributeError, OverflowError) as error:
        raise UserError(f"{where}: a row does not have the format of {task} ({one_line(error)}).") from error


def full_disk(error: BaseException | None) -> str | None:
    """Return the system's message if an error, or its cause, is a failed write (disk full, read-only); else None."""
    while error is not None:
        message = str(error).lower()
        if (isinstance(error, OSError) and error.errno in DISK) or any(words in message for words in FULL):
            return first_line(error)
        if any(words in message for words in TORCH_SAVE):
            return "torch.save could not write all of a file"
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return None


def file_for_folder(error: BaseException) -> str | None:
    """Return that a file is in the place of the cache's folder, and what to type, if an error says so; else None."""
    if not isinstance(error, NotADirectoryError | FileExistsError):
        return None
    return (
        f"the cache cannot be written to {error.filename} ({error.strerror}): HF_HOME, HF_HUB_CACHE or "
        "HF_DATASETS_CACHE is a file, or is in one. Set it to a folder."
    )


def not_installed(package: str) -> str:
    """Return that a package is missing and what to type, without a full stop."""
    if importlib.util.find_spec("transformers") is None:  # another Python than the project's
        return (
            f"the package {package} is not installed for this Python. Type `make install`, then `source "
            ".venv/bin/activate`; or install requirements.txt"
        )
    return f"the package {package} is not installed. Install requirements.txt, and {package} if it is not in it"


def is_panic(error: BaseException) -> bool:
    """Whether a Rust library (tokenizers) has panicked. `except Exception` does not catch such an error."""
    return not isinstance(error, Exception | KeyboardInterrupt | SystemExit | GeneratorExit)
