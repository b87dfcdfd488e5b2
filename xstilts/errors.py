"""The errors that users see, from `tasks.errors`."""

from tasks.errors import UserError, did_you_mean, first_line, full_disk, is_panic, nearest, not_installed

__all__ = ["UserError", "did_you_mean", "first_line", "full_disk", "is_panic", "nearest", "not_installed"]
