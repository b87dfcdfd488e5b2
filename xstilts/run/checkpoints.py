"""The checkpoints in a run's folder: which are complete, where a run resumes, and which are removed."""

from __future__ import annotations

import logging
import os
import shutil
import zipfile
from pathlib import Path

from tasks import TASKS
from tasks.errors import UserError
from tasks.reading import open_file, parse_json
from xstilts.run import processes, results

logger = logging.getLogger("xstilts")


def checkpoints(folder: str | os.PathLike) -> list[Path]:
    """Return the checkpoints of the training in `folder`, newest first, complete or not."""
    found = [
        path for path in Path(folder).glob("checkpoint-*") if path.name.partition("-")[2].isdecimal() and path.is_dir()
    ]
    return sorted(found, key=lambda path: int(path.name.partition("-")[2]), reverse=True)


def newest_whole(folder: str | os.PathLike) -> str | None:
    """Return the newest checkpoint in `folder` from which a run can resume, or None."""
    return next((str(path) for path in checkpoints(folder) if is_whole(path)), None)


def last_checkpoint(folder: str | os.PathLike) -> str | None:
    """Return the newest complete checkpoint in `folder`; remove newer ones with a warning.

    All ranks call this together; rank 0 reads the folder.
    """
    return processes.broadcast(remove_torn(folder) if processes.is_first() else None)


def remove_torn(folder: str | os.PathLike) -> str | None:
    """Remove the checkpoints newer than the newest complete one; return that one."""
    last = newest_whole(folder)
    for path in checkpoints(folder):
        if str(path) == last:
            break
        logger.warning("%s is incomplete and is removed; resuming from the one before, or starting over.", path)
        shutil.rmtree(path)
    return last


def rotate(folder: str | os.PathLike, limit: int, best: str | None) -> None:
    """Remove old checkpoints until `limit` are left; keep the newest and the best in any case.

    transformers' own rotation compares modification times, which a clock change can falsify, and counts the folder of
    a stage as a checkpoint.
    """
    found = checkpoints(folder)
    kept = found[:1] + [path for path in found[1:] if best and path == Path(best)]
    kept += [path for path in found if path not in kept][: max(0, limit - len(kept))]
    for path in found:
        if path not in kept:
            shutil.rmtree(path, ignore_errors=True)


def is_whole(checkpoint: Path) -> bool:
    """Return whether a run can resume from a checkpoint and end with the same result as an uninterrupted one.

    The Trainer writes trainer_state.json last, but files can get lost or truncated later. Without optimizer or random
    state the Trainer would resume all the same, and end with other weights.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with open_file(checkpoint / "trainer_state.json") as file:
            state = parse_json(file.read().decode("utf-8"))
        for weights in checkpoint.glob("*.safetensors"):
            with safe_open(weights, "pt"):  # compares the file's size with its header
                pass
    except (OSError, ValueError, RecursionError, SafetensorError):
        return False
    if not isinstance(state, dict) or not isinstance(step := state.get("global_step"), int):
        return False
    if isinstance(last := state.get("max_steps"), int) and 0 < last < step:
        # older versions trained too many steps after a kill at the end
        return False
    best = state.get("best_global_step") if state.get("best_model_checkpoint") else None
    if isinstance(best, int) and best < step and not is_whole(checkpoint.with_name(f"checkpoint-{best}")):
        # the best checkpoint's weights are the result
        return False
    if any(checkpoint.glob("global_step*")) or any(checkpoint.glob("pytorch_model_fsdp*")):
        # sharded by DeepSpeed or FSDP: their layouts are not checked
        return True
    # every rank writes its own random state, and rank 0 does not wait for the others
    states = [*checkpoint.glob("rng_state*.pth")]
    pickles = {checkpoint / "optimizer.pt", checkpoint / "scheduler.pt", *checkpoint.glob("*.pt"), *states}
    return (
        len(states) >= processes.world_size()
        and all(map(zipfile.is_zipfile, pickles))
        and any(checkpoint.glob("*.safetensors"))
    )


def clean(folder: Path) -> None:
    """Remove a finished run's checkpoints (its folder holds the final weights), pickles, and failed.json.

    A user's copy, such as checkpoint-best, stays.
    """
    for name in (results.FAILED, "training_args.bin"):
        (folder / name).unlink(missing_ok=True)
    for path in folder.glob("checkpoint-*"):
        if is_checkpoint(path.name):
            shutil.rmtree(path)


def is_checkpoint(name: str) -> bool:
    """Return whether a run writes folders of this name: checkpoint-<step>, or checkpoint-<stage> of
    xstilts.train.stages."""
    prefix, _, of = name.partition("-")
    return prefix == "checkpoint" and (of.isdecimal() or of in TASKS)


def refuse_copies(folder: Path) -> None:
    """Raise UserError if the folder holds a user's copy of a checkpoint: the Trainer deletes old ones whatever their
    name."""
    for path in folder.glob("checkpoint-*"):
        if not is_checkpoint(path.name):
            raise UserError(
                f"--output_dir {folder} holds {path.name}, which this run did not write and would delete. Move it "
                "away."
            )
