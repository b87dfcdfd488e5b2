"""Check an output folder: it must be new, empty, or written by the same script. Remove what an earlier run wrote."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterable
from pathlib import Path

from tasks.errors import UserError
from xstilts.run import results
from xstilts.run.hits import HITS
from xstilts.run.record import FILE_NAME

UNKNOWN_SETTINGS = "so the settings of the folder are unknown. Delete the folder, or give another --output_dir."

# what a run writes with its result, as patterns below its folder; its card is always written anew
WITH_RESULT = (
    *(FILE_NAME, results.FAILED, HITS, "pairs.tsv", "candidates/*.tsv"),
    *(f"predictions/*/test-*.{ending}" for ending in ("tsv", "json", "jsonl")),
)
# what only some trainings write beside their weights
BESIDE_WEIGHTS = (
    *("adapter/adapter_config.json", "adapter/adapter_model.safetensors"),
    *("heads.safetensors", "heads.safetensors.tmp"),
)
WITH_WEIGHTS = (
    *("model.safetensors", "model-*-of-*.safetensors", "model.safetensors.index.json"),
    *("LICENSE.md", ".eval_results/*.yaml"),
)


def clear(folder: Path, patterns: Iterable[str]) -> None:
    """Remove the files of these patterns below a run's folder, and folders that are empty then. Follow no link.

    What another run has left would otherwise be taken for a part of this one's result.
    """
    for path in [path for pattern in patterns for path in folder.glob(pattern)]:
        inside = [parent for parent in path.parents if folder in parent.parents]
        if not any(parent.is_symlink() for parent in inside):
            path.unlink(missing_ok=True)
            for parent in inside:
                with contextlib.suppress(OSError):  # not empty
                    parent.rmdir()


def clear_weights(folder: Path, model: str) -> None:
    """Remove the weights that an earlier run has left in a run's folder, unless they are the model it started from."""
    if not os.path.exists(model) or not os.path.samefile(model, folder):
        clear(folder, WITH_WEIGHTS)


def refuse_occupied(folder: str | Path) -> None:
    """Raise UserError if `folder` holds files of something else (`refuse_foreign`), or its results.json is not a
    file."""
    stamp, note = Path(folder, FILE_NAME), Path(folder, results.RUN_FILE)
    if os.path.lexists(stamp) and not stamp.is_file():  # the result could not be written after all the work
        raise UserError(f"{stamp} is not a file. Remove it to do this run.")
    ours = note.is_file() and "model" in results.read_note(note, UNKNOWN_SETTINGS)
    refuse_foreign(folder, [stamp.name, *([results.RUN_FILE] if ours else [])])


def refuse_foreign(folder: str | Path, marks: Collection[str]) -> None:
    """Raise UserError if `folder` is not empty and holds none of the files `marks`.

    These do not count, because nothing overwrites them: failed.json, hidden files, folders of other runs, and
    checkpoint-* (checked by the run itself).

    Args:
        marks: names of files; the script writes one of them before any other file.
    """
    folder = Path(folder)
    if not folder.is_dir() or any((folder / mark).is_file() for mark in marks):
        return
    found = sorted(path.name for path in folder.iterdir() if not _is_ignored(path))
    if found:
        more = f" and {len(found) - 1} more" if len(found) > 1 else ""
        raise UserError(
            f"--output_dir {folder} holds {found[0]}{more}, which this script did not write. Give a new or an empty "
            "folder."
        )


def _is_ignored(path: Path) -> bool:
    if path.name.startswith((".", "checkpoint-")) or path.name == results.FAILED:
        return True
    return path.is_dir() and (
        not any(path.iterdir())
        or any((path / name).is_file() for name in (FILE_NAME, results.RUN_FILE, results.FAILED))
    )
