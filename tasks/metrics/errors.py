"""The error for input that cannot be scored: the project's own, or ValueError where the metrics are loaded by path
from outside."""

try:
    from tasks.errors import UserError
except ImportError:  # outside this project; UserError is a ValueError too
    UserError = ValueError  # type: ignore[misc, assignment]  # the fallback of an optional import

__all__ = ["UserError"]
