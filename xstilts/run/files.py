"""Write files and folders completely or not at all."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tasks.errors import UserError
from xstilts.run.temporary import temporary_folder


def write_text(path: str | os.PathLike, text: str) -> None:
    """Write `text` as UTF-8, see `write_bytes`. Lone surrogates, from file names, are written as escapes.

    Raises:
        UserError: the folder or file cannot be written.
    """
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


def write_bytes(path: str | os.PathLike, content: bytes) -> None:
    """Write a file under a temporary name in the same folder, then rename it. Create the folder.

    Raises:
        UserError: the folder or file cannot be written.
    """
    path = Path(path)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        obey_umask(temporary)
        os.replace(temporary, path)
    except OSError as error:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        raise UserError(f"{path} cannot be written ({error.strerror}). Choose another --output_dir.") from error


def remove(path: Path) -> None:
    """Delete a file, if it is there.

    Raises:
        UserError: the file cannot be deleted.
    """
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"{path} cannot be removed ({error.strerror}). Choose another --output_dir.") from error


@contextmanager
def folder_beside(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `folder`, from which a whole folder can be renamed to it; remove it at the end.

    Raises:
        UserError: it cannot be created.
    """
    with ExitStack() as stack:
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            temporary = stack.enter_context(temporary_folder(folder.parent, f".{folder.name}."))
        except OSError as error:
            raise UserError(f"{folder} cannot be written ({error.strerror}).") from error
        yield temporary


def obey_umask(*paths: str | os.PathLike) -> None:
    """Set the file mode to what the umask allows: mkstemp and safetensors create files only their owner can read."""
    umask = os.umask(0)
    os.umask(umask)
    for path in paths:
        os.chmod(path, 0o666 & ~umask)
