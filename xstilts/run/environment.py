"""What a run ran in: the versions of the libraries, and the command."""

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
    found = {"python": platform.python_version()}
    for library in _LIBRARIES:
        try:
            found[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def command_line(argv: list[str] | None = None) -> str:
    """Return the command that runs now, quoted for a shell, without access tokens and places of local folders
    (`privacy`).

    Args:
        argv: in place of `sys.argv`.
    """
    argv = list(sys.argv if argv is None else argv)
    script = os.path.relpath(argv[0]) if argv else ""
    # A script elsewhere is named by its file alone: the folders above it say more about the machine than the run.
    words = ["python", os.path.basename(script) if script.startswith("..") else script]
    return shlex.join(words + privacy.public(privacy.hide_words(argv[1:])))
