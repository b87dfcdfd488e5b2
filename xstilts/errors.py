"""Errors for people; see `tasks.errors`."""

from tasks.errors import UserError

__all__ = ["UserError"]
