"""The errors that users see, from `tasks.errors`."""

from tasks.errors import UserError, first_line, full_disk, is_panic, not_installed

__all__ = ["UserError", "first_line", "full_disk", "is_panic", "not_installed"]
