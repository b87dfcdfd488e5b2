"""Files of an earlier report in the same folder."""

from pathlib import Path

from tasks.errors import UserError


def remove(path: Path) -> None:
    """Delete a file of an earlier report, if there is one.

    Raises:
        UserError: the file cannot be deleted.
    """
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"{path} cannot be removed ({error.strerror}). Choose another --output_dir.") from error
