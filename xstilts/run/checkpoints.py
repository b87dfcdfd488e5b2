"""The checkpoints in a run's folder: which are whole, where a run resumes, and which are removed."""

from __future__ import annotations

import logging
import os
import shutil
import zipfile
from pathlib import Path

from safetensors import SafetensorError, safe_open

from tasks import TASKS
from tasks.reading import open_file, parse_json
from xstilts.errors import UserError
from xstilts.run import processes, results

logger = logging.getLogger("xstilts")


def checkpoints(folder: str | os.PathLike) -> list[Path]:
    """Return the checkpoints of the training in `folder`, the newest first; whole or not."""
    found = [
        path for path in Path(folder).glob("checkpoint-*") if path.name.partition("-")[2].isdecimal() and path.is_dir()
    ]
    return sorted(found, key=lambda path: int(path.name.partition("-")[2]), reverse=True)


def newest_whole(folder: str | os.PathLike) -> str | None:
    """Return the newest checkpoint in `folder` from which a run can resume, or None."""
    return next((str(path) for path in checkpoints(folder) if is_whole(path)), None)


def last_checkpoint(folder: str | os.PathLike) -> str | None:
    """Return the newest whole checkpoint in `folder`; remove those newer than it, and log that.

    Every rank calls this; rank 0 looks.
    """
    return processes.broadcast(remove_torn(folder) if processes.is_first() else None)


def remove_torn(folder: str | os.PathLike) -> str | None:
    """Remove what is newer than the newest whole checkpoint, which is returned."""
    last = newest_whole(folder)
    for path in checkpoints(folder):
        if str(path) == last:
            break
        logger.warning("%s is not whole; going back to the one before, or to the beginning.", path)
        shutil.rmtree(path)
    return last


def rotate(folder: str | os.PathLike, limit: int, best: str | None) -> None:
    """Remove old checkpoints, so that `limit` of them are left, but never the newest and the best.

    transformers goes by the clock, which may be set back, and takes the folder of a stage for a checkpoint.
    """
    found = checkpoints(folder)
    kept = found[:1] + [path for path in found[1:] if best and path == Path(best)]
    kept += [path for path in found if path not in kept][: max(0, limit - len(kept))]
    for path in found:
        if path not in kept:
            shutil.rmtree(path, ignore_errors=True)


def is_whole(checkpoint: Path) -> bool:
    """Return whether a run can resume from a checkpoint and end with the same result as without a stop.

    trainer_state.json is the last file the Trainer writes, so this is usually enough; but files get lost and cut later
    too, and without optimizer or random state the Trainer would go on all the same, to other weights.
    """
    try:
        with open_file(checkpoint / "trainer_state.json") as file:
            state = parse_json(file.read().decode("utf-8"))
        for file in checkpoint.glob("*.safetensors"):
            with safe_open(file, "pt"):  # compares the file's size with what its header says
                pass
    except (OSError, ValueError, RecursionError, SafetensorError):
        return False
    if not isinstance(state, dict) or not isinstance(step := state.get("global_step"), int):
        return False
    if isinstance(last := state.get("max_steps"), int) and 0 < last < step:
        # older versions trained on after each kill at the end
        return False
    best = state.get("best_global_step") if state.get("best_model_checkpoint") else None
    if isinstance(best, int) and best < step and not is_whole(checkpoint.with_name(f"checkpoint-{best}")):
        # its weights are the result
        return False
    if any(checkpoint.glob("global_step*")) or any(checkpoint.glob("pytorch_model_fsdp*")):
        # sharded: the libraries' own layout
        return True
    # each process writes its own, and the first does not wait for the others
    states = [*checkpoint.glob("rng_state*.pth")]
    pickles = {checkpoint / "optimizer.pt", checkpoint / "scheduler.pt", *checkpoint.glob("*.pt"), *states}
    return (
        len(states) >= processes.world_size()
        and all(map(zipfile.is_zipfile, pickles))
        and any(checkpoint.glob("*.safetensors"))
    )


def clean(folder: Path) -> None:
    """Remove a run's checkpoints (a finished folder is itself the last or best one), pickles, and failed.json.

    A copy that a user made, checkpoint-best for example, stays.
    """
    for name in (results.FAILED, "training_args.bin"):
        (folder / name).unlink(missing_ok=True)
    for path in folder.glob("checkpoint-*"):
        if is_checkpoint(path.name):
            shutil.rmtree(path)


def is_checkpoint(name: str) -> bool:
    """Return whether a folder of this name is a run's own: the checkpoint of a step, or of a stage
    (xstilts.train.stages)."""
    prefix, _, of = name.partition("-")
    return prefix == "checkpoint" and (of.isdecimal() or of in TASKS)


def refuse_copies(folder: Path) -> None:
    """Raise UserError if a checkpoint lies there that a user named: the Trainer deletes old ones, whatever their
    name."""
    for path in folder.glob("checkpoint-*"):
        if not is_checkpoint(path.name):
            raise UserError(
                f"--output_dir {folder} holds {path.name}, which this run did not write and would delete. Move it "
                "away."
            )
