"""The folder of a run: whether it is done, what it was begun with, where it goes on from, and what stopped it."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import shutil
import zipfile
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from transformers import TrainingArguments

from tasks.reading import open_file, parse_json
from tasks.rows import Rows, sha256
from xstilts import cards, claims, endings, outputs, processes, results
from xstilts.arguments import STARTED, ArmArguments, DualEncoderArguments, FamilyArguments, PeftArguments, TextArguments
from xstilts.errors import UserError
from xstilts.run.record import Record, unique

logger = logging.getLogger("xstilts")
# what an argument is that settings do not name, because it was not given
DEFAULTS = {f.name: f.default if f.default_factory is dataclasses.MISSING else f.default_factory()
            for kind in (TrainingArguments, TextArguments, FamilyArguments, ArmArguments, DualEncoderArguments, PeftArguments)
            for f in dataclasses.fields(kind)}


def is_first() -> bool:
    """Whether this process is the one that writes: the only one, or the first of those that torchrun started."""
    return os.environ.get("WORLD_SIZE", "1") == "1" or int(os.environ.get("RANK", 0)) == 0  # alone RANK is somebody else's variable


def checkpoints(folder: str | os.PathLike) -> list[Path]:
    """The checkpoints of the training in `folder`, the newest first; whole or not."""
    found = [path for path in Path(folder).glob("checkpoint-*") if path.name.partition("-")[2].isdecimal() and path.is_dir()]
    return sorted(found, key=lambda path: int(path.name.partition("-")[2]), reverse=True)


def newest_whole(folder: str | os.PathLike) -> str | None:
    """The newest checkpoint in `folder` from which a run can go on, or None."""
    return next((str(path) for path in checkpoints(folder) if is_whole(path)), None)


def last_checkpoint(folder: str) -> str | None:
    """The newest whole checkpoint below `folder`; others newer than it are removed, and that is said.

    Every process calls this; the first one looks.
    """
    return agreed(remove_torn(folder) if is_first() else None)


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


def agreed(value):
    """What the first process says, on every process that trains; where one works alone, or leads helpers, its own value."""
    box = [value]
    if torch.distributed.is_initialized() and processes.TEAM.size == 1:
        torch.distributed.broadcast_object_list(box)
    return box[0]


def is_whole(checkpoint: Path) -> bool:
    """Whether a run can go on from a checkpoint as if it had not stopped.

    trainer_state.json is the last file the Trainer writes, so this is usually enough; but files get lost and cut later too,
    and without optimizer or random state the Trainer would go on all the same, to other weights.
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
    if isinstance(last := state.get("max_steps"), int) and 0 < last < step:  # older versions trained on after each kill at the end
        return False
    best = state.get("best_global_step") if state.get("best_model_checkpoint") else None
    if isinstance(best, int) and best < step and not is_whole(checkpoint.with_name(f"checkpoint-{best}")):  # its weights are the result
        return False
    if any(checkpoint.glob("global_step*")) or any(checkpoint.glob("pytorch_model_fsdp*")):  # sharded: the libraries' own layout
        return True
    states = [*checkpoint.glob("rng_state*.pth")]  # each process writes its own, and the first does not wait for the others
    pickles = {checkpoint / "optimizer.pt", checkpoint / "scheduler.pt", *checkpoint.glob("*.pt"), *states}
    return len(states) >= processes.world_size() and all(map(zipfile.is_zipfile, pickles)) and any(checkpoint.glob("*.safetensors"))


def resumable(run, settings: dict, rows: Rows) -> str | None:
    """The newest whole checkpoint, or None; those of other rows, or of a parent that was trained again, are removed, and that is said.

    Args:
        rows: of which all that are trained on have been read.

    Raises:
        UserError: the folder was begun with other arguments, see `compare`.
    """
    old, now, here = compare(run, settings), inputs(settings, rows), processes.world_size()
    if old and any(old.get(key, now[key]) != now[key] for key in now):  # older versions did not keep them
        if is_first():
            logger.warning("%s: the model it starts from, or its rows, are others since it was begun; beginning anew.", run.output_dir)
            cards.clean(Path(run.output_dir))
    elif old and old.get("processes", here) != here and checkpoints(run.output_dir):
        raise UserError(f"{run.output_dir} was begun on {old['processes']} processes, now there are {here}: its steps would have other "
                        f"rows. Start {old['processes']}, give another --output_dir, or delete the folder.")
    return last_checkpoint(run.output_dir)


def inputs(settings: dict, rows: Rows) -> dict:
    """What the arguments led to, by its name in run.json: other inputs are no mistake, but none may be mixed with those before."""
    return json.loads(as_json({"model_finished": settings.get("model_finished"), "data": unique(rows.records)}))


def begin(run, settings: dict, rows: Rows) -> str | None:
    """The checkpoint to resume from, or None, see `resumable`; what is left of an earlier result or failure goes."""
    checkpoint = resumable(run, settings, rows)
    if is_first():
        for name in (results.FILE_NAME, results.FAILED):
            Path(run.output_dir, name).unlink(missing_ok=True)
        begun = settings | inputs(settings, rows) | {"processes": processes.world_size()}
        results.write_text(Path(run.output_dir, "run.json"), as_json(begun))
    endings.begin(run.output_dir, run.output_dir)
    if checkpoint:
        logger.info("Going on from %s", checkpoint)
    return checkpoint


def compare(run, settings: dict) -> dict | None:
    """Compares this run's settings with those the folder was begun with, which come back: None if nothing was made with them.

    Raises:
        UserError: they are others (the difference is shown), and there is something that was made with them; or what they
            were cannot be read.
    """
    path, old = Path(run.output_dir, "run.json"), None
    if any(path.parent.glob("checkpoint-*")) or (path.is_file() and path.with_name(results.FILE_NAME).is_file()):
        old = results.read_note(path, outputs.NOBODY_KNOWS)
        # an argument there was not yet, and that is not given now, makes no difference
        differ = sorted(k for k in (old.keys() | settings.keys()) - {"model_finished", "data", "processes"}
                        if old.get(k) != settings.get(k) and (k in old or settings[k]))
        if differ:
            shown = "; ".join(f"{k}: {old.get(k, DEFAULTS.get(k))!r} then, {settings.get(k, DEFAULTS.get(k))!r} now" for k in differ[:5])
            raise UserError(f"{run.output_dir} was begun with other arguments ({shown}). Give the same, another "
                            "--output_dir, or delete the folder.")
    return old


def finished(run, settings: dict) -> bool:
    """Whether this very run is done already: results.json is there, of the same settings, rows and parent.

    If rows or parent have changed since, the run is to be done again. If not, its results.json is touched, so that make,
    which goes by time, does not ask again (one that was written after this process began is new to make already). What the
    Hub lacks of it is pushed, if asked. Waits for another process that is at work on it.
    """
    # the others ask again and again, lest they give up on the first one while it waits for another run; what it finds decides
    while not agreed(claims.claim(run.output_dir, patience=60) if is_first() else None):
        pass
    done = agreed(_finished(run, settings) if is_first() else None)
    if not done:
        endings.claim(run.output_dir)
    return done


def _finished(run, settings: dict) -> bool:
    stamp = Path(run.output_dir, "results.json")
    outputs.refuse_occupied(run.output_dir)
    if not stamp.is_file():
        return refuse_copies(stamp.parent)
    compare(run, settings)
    if reason := outdated(Record.read(stamp), settings):
        logger.info("%s: %s; running it again.", run.output_dir, reason)
        return refuse_copies(stamp.parent)
    if stamp.stat().st_mtime < STARTED:
        stamp.touch()
    cards.clean(stamp.parent)  # what a kill just before its end has left
    claims.release(run.output_dir)
    logger.info("%s is finished; nothing to do. Delete its results.json to run it again.", run.output_dir)
    if run.push_to_hub:  # an earlier push may have failed
        cards.check_push(run)
        cards.push(run.hub_model_id, stamp.parent)
    return True


def refuse_copies(folder: Path) -> bool:
    """Raise UserError if a checkpoint lies there that a user named: the Trainer deletes old ones, whatever their name. Else False."""
    for path in folder.glob("checkpoint-*"):
        if not cards.is_checkpoint(path.name):
            raise UserError(f"--output_dir {folder} holds {path.name}, which this run did not write and would delete. Move it away.")
    return False


def outdated(record: Record, settings: dict) -> str | None:
    """Why a result no longer stands for its inputs, or None: the parent was trained again, or a file of rows changed."""
    if (now := settings.get("model_finished")) is not None:
        then = record.settings.get("model_finished")  # older versions did not keep it
        if now != then if then is not None else now > record.finished:
            return f"{settings['model']} was trained again"
    if settings["data_root"] != "hub":
        rows = Rows(settings["data_root"], translations=settings.get("translations"))
        for data in record.data:
            file = rows.file(data["id"], data["config"], data["split"].partition("[")[0])
            if file is None or sha256(file) != data.get("sha256"):
                return f"the rows of {data['id']} ({data['config']}, {data['split']}) have changed"
    return None


def parent(model: str, revision: str = "main") -> dict[str, str]:
    """Which checkpoint a run starts from, for its settings: when its training was finished, of a Hub id its revision.

    {} where it is no folder of ours, or the Hub's main one. The time tells whether it is
    still the same one, and, as it is only compared for equality, whatever the clock did since.
    """
    finished = {"model_finished": Record.read(Path(model, results.FILE_NAME)).finished} if results.is_there(model) else {}
    return finished | ({"model_revision": revision} if revision != "main" else {})


def settings_of(args: TrainingArguments, model: str, revision: str = "main", **more) -> dict:
    """What a run was told: the TrainingArguments that differ from transformers' defaults, and the script's own."""
    plain = TrainingArguments(output_dir="x", use_cpu=args.use_cpu).to_dict()
    volatile = {"output_dir", "logging_dir", "run_name", "hub_token", "disable_tqdm", "local_rank", "report_to", "label_names"}
    changed = {k: v for k, v in args.to_dict().items() if k not in volatile and plain.get(k) != v}
    return json.loads(json.dumps(changed | {"model": model} | parent(model, revision) | more, default=str))


def failures(trainer) -> contextlib.AbstractContextManager:
    """What stops this part of a training is kept in its folder, in failed.json, for the report: a cause, the last checkpoint.

    Raises:
        UserError: naming folder, cause and checkpoint, where a user can do something about it: memory, disk, no numbers.
            Anything else is raised as it is.
    """
    folder = Path(trainer.args.output_dir)
    place = folder.parent if folder.name.startswith("checkpoint-") else folder  # a stage's, see xstilts.stages
    return endings.failures(place, folder, trainer)


def lost_touch(folder: str, cause: str) -> None:
    """Keeps in `folder` why a run has ended that another process was lost to, for the report."""
    if not endings.WORK.begun:
        endings.claim(folder)
        endings.begin(folder, folder)
    endings.keep(cause)


def as_json(settings: dict) -> str:
    """Settings as they stand in run.json."""
    return json.dumps(settings, indent=1, sort_keys=True, default=str)
