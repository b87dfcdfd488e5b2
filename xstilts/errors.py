"""Errors for people; see `tasks.errors`."""

from tasks.errors import UserError, full_disk

__all__ = ["UserError", "first_line", "full_disk"]


def first_line(error: BaseException) -> str:
    """What a library's error says, in one line; its name where it says nothing."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
