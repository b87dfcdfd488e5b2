"""The errors that users see, from `tasks.errors`."""

from tasks.errors import UserError, first_line, full_disk, is_panic

__all__ = ["UserError", "first_line", "full_disk", "is_panic"]
