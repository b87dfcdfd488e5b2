"""The versions of the libraries and the command of a run."""

import functools
import importlib.metadata
import os
import platform
import shlex
import sys

from xstilts.cli import privacy

_LIBRARIES = (
    "torch transformers datasets evaluate accelerate peft sentence-transformers faiss-cpu huggingface_hub tokenizers "
    "safetensors numpy pandas pyarrow scipy scikit-learn seqeval sentencepiece"
).split()


def versions() -> dict[str, str]:
    """Return {"python": ..., library: installed version}; a library that is not installed is left out."""
    found = {library: _version(library) for library in _LIBRARIES}
    return {"python": platform.python_version()} | {name: one for name, one in found.items() if one is not None}


@functools.cache
def _version(library: str) -> str | None:
    """Return the installed version, None if there is none. Each look-up parses a file."""
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return None


def command_line(argv: list[str] | None = None, whole_paths: bool = False) -> str:
    """Return the current command, quoted for a shell, without access tokens and local paths (`privacy`).

    Args:
        argv: the words of the command; default: `sys.argv`.
        whole_paths: keep local paths, for a file that is not shared.
    """
    argv = list(sys.argv if argv is None else argv)
    script = os.path.relpath(argv[0]) if argv else ""
    # a script outside the working folder is given by its file name alone, without paths of this machine
    words = ["python", os.path.basename(script) if script.startswith("..") else script]
    given = privacy.hide_words(argv[1:])
    return shlex.join(words + (given if whole_paths else privacy.public(given)))
