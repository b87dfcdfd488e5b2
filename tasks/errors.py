"""The one error a user is meant to see."""


class UserError(ValueError):
    """What was given, what was expected, what to type: printed as one line, without a traceback, exit code 2."""
