"""The folder of a run: whether it is done, what it was begun with, where it goes on from, and what stopped it."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from transformers import TrainingArguments
from transformers.trainer_utils import get_last_checkpoint

from tasks.rows import Rows, sha256
from xstilts import cards, claims, processes, results
from xstilts.arguments import STARTED, ArmArguments, DualEncoderArguments, FamilyArguments, PeftArguments, TextArguments
from xstilts.errors import UserError, first_line, full_disk

logger = logging.getLogger("xstilts")
# what an argument is that settings do not name, because it was not given
DEFAULTS = {f.name: f.default if f.default_factory is dataclasses.MISSING else f.default_factory()
            for kind in (TrainingArguments, TextArguments, FamilyArguments, ArmArguments, DualEncoderArguments, PeftArguments)
            for f in dataclasses.fields(kind)}


def is_first() -> bool:
    """Whether this process is the one that writes: the only one, or the first of those that torchrun started."""
    return os.environ.get("WORLD_SIZE", "1") == "1" or int(os.environ.get("RANK", 0)) == 0  # alone RANK is somebody else's variable


def last_checkpoint(folder: str) -> str | None:
    """The newest whole checkpoint below `folder`; others newer than it are removed, and that is said.

    Every process calls this; the first one looks.
    """
    box = [None]
    while is_first() and (found := get_last_checkpoint(folder)):
        if is_whole(Path(found)):
            box = [found]
            break
        logger.warning("%s is not whole; going back to the one before, or to the beginning.", found)
        shutil.rmtree(found)
    return agreed(box[0])


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
        state = json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
        for file in checkpoint.glob("*.safetensors"):
            with safe_open(file, "pt"):  # compares the file's size with what its header says
                pass
    except (OSError, ValueError, SafetensorError):
        return False
    if not isinstance(state, dict) or not isinstance(state.get("global_step"), int):
        return False
    if any(checkpoint.glob("global_step*")) or any(checkpoint.glob("pytorch_model_fsdp*")):  # sharded: the libraries' own layout
        return True
    pickles = [checkpoint / "optimizer.pt", checkpoint / "scheduler.pt", *checkpoint.glob("rng_state*.pth")]
    return len(pickles) > 2 and all(map(zipfile.is_zipfile, pickles)) and any(checkpoint.glob("*.safetensors"))


def resumable(run, settings: dict, rows: Rows) -> str | None:
    """The newest whole checkpoint, or None; those of other rows, or of a parent that was trained again, are removed, and that is said.

    Args:
        rows: of which all that are trained on have been read.

    Raises:
        UserError: the folder was begun with other arguments, see `compare`.
    """
    old, now = compare(run, settings), inputs(settings, rows)
    if old and is_first() and any(old.get(key, now[key]) != now[key] for key in now):  # older versions did not keep them
        logger.warning("%s: the model it starts from, or its rows, are others since it was begun; beginning anew.", run.output_dir)
        cards.clean(Path(run.output_dir))
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
        results.write_text(Path(run.output_dir, "run.json"), as_json(settings | inputs(settings, rows)))
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
        old = results.read_note(path, "so nobody knows what the folder was begun with. Delete the folder, or give another --output_dir.")
        # an argument there was not yet, and that is not given now, makes no difference
        differ = sorted(k for k in (old.keys() | settings.keys()) - {"model_finished", "data"} if old.get(k) != settings.get(k)
                        and (k in old or settings[k]))
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
    return agreed(_finished(run, settings) if is_first() else None)


def _finished(run, settings: dict) -> bool:
    stamp = Path(run.output_dir, "results.json")
    if not stamp.is_file():
        return False
    compare(run, settings)
    if reason := outdated(results.read(stamp), settings):
        logger.info("%s: %s; running it again.", run.output_dir, reason)
        return False
    if stamp.stat().st_mtime < STARTED:
        stamp.touch()
    cards.clean(stamp.parent)  # what a kill just before its end has left
    claims.release(run.output_dir)
    logger.info("%s is finished; nothing to do. Delete its results.json to run it again.", run.output_dir)
    if run.push_to_hub:  # an earlier push may have failed
        cards.check_push(run)
        cards.push(run.hub_model_id, stamp.parent)
    return True


def outdated(record: dict, settings: dict) -> str | None:
    """Why a result no longer stands for its inputs, or None: the parent was trained again, or a file of rows changed."""
    if (now := settings.get("model_finished")) is not None:
        then = record["settings"].get("model_finished")  # older versions did not keep it
        if now != then if then is not None else now > record["finished"]:
            return f"{settings['model']} was trained again"
    if settings["data_root"] != "hub":
        rows = Rows(settings["data_root"], translations=settings.get("translations"))
        for data in record["data"]:
            file = rows.file(data["id"], data["config"], data["split"].partition("[")[0])
            if file is None or sha256(file) != data["sha256"]:
                return f"the rows of {data['id']} ({data['config']}, {data['split']}) have changed"
    return None


def parent(model: str, revision: str = "main") -> dict[str, str]:
    """Which checkpoint a run starts from, for its settings: when its training was finished, of a Hub id its revision.

    {} where it is no folder of ours, or the Hub's main one. The time tells whether it is
    still the same one, and, as it is only compared for equality, whatever the clock did since.
    """
    path = Path(model, results.FILE_NAME)
    finished = {"model_finished": results.read(path)["finished"]} if path.is_file() else {}
    return finished | ({"model_revision": revision} if revision != "main" else {})


def settings_of(args: TrainingArguments, model: str, revision: str = "main", **more) -> dict:
    """What a run was told: the TrainingArguments that differ from transformers' defaults, and the script's own."""
    plain = TrainingArguments(output_dir="x", use_cpu=args.use_cpu).to_dict()
    volatile = {"output_dir", "logging_dir", "run_name", "hub_token", "disable_tqdm", "local_rank", "report_to", "label_names"}
    changed = {k: v for k, v in args.to_dict().items() if k not in volatile and plain.get(k) != v}
    return json.loads(json.dumps(changed | {"model": model} | parent(model, revision) | more, default=str))


@contextlib.contextmanager
def failures(folder: str | os.PathLike, trainer=None) -> Iterator[None]:
    """What stops a run that was begun is kept in its folder, in failed.json, for the report: a cause, the last checkpoint.

    Args:
        trainer: of a training; None for a measurement.

    Raises:
        UserError: naming folder, cause and checkpoint, where a user can do something about it: memory, disk, no numbers.
            Anything else is raised as it is.
    """
    try:
        yield
    except Exception as error:
        folder = Path(folder)
        last = get_last_checkpoint(folder)
        place = folder.parent if folder.name.startswith("checkpoint-") else folder  # a stage's, see xstilts.stages
        cause = cause_of(error, LESS if trainer else "--max_seq_length, or give --dtype bf16")
        if not (processes.lost(error) and Path(place, results.FAILED).is_file()):  # the process that ended has said more
            with contextlib.suppress(UserError):  # the disk may be full
                results.write_failure(place, cause or f"{type(error).__name__}: {first_line(error)}", last)
        if cause is None:
            raise
        if trainer is None:
            raise UserError(f"{place} stopped: {cause}.") from error
        raise UserError(f"{place} stopped at step {trainer.state.global_step}: {cause}. Last good checkpoint: {last or 'none'}; the same "
                        "command goes on from it.") from error


def lost_touch(folder: str, cause: str) -> None:
    """Keeps in `folder` why a run has ended that another process was lost to, for the report."""
    if is_first():
        results.write_failure(folder, cause, get_last_checkpoint(folder))


LESS = "--per_device_train_batch_size (and raise --gradient_accumulation_steps), --per_device_eval_batch_size or --max_seq_length"


def cause_of(error: Exception, less: str) -> str | None:
    """Why a run cannot go on, and what to do, where that is not a mistake in the program; else None.

    Args:
        less: what to lower where memory does not suffice.
    """
    said = str(error).lower()
    if isinstance(error, UserError):
        return str(error).rstrip(".")
    if isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in said or "out of memory" in said:
        return f"out of memory; lower {less}"
    if full_disk(error) or "pytorchstreamwriter failed" in said or "inline_container" in said:  # torch.save does not say why
        return f"the folder cannot be written, the disk may be full ({first_line(error)})"
    return processes.lost(error)


def unique(records: list[dict]) -> list[dict]:
    """The data records without repeats and without this machine's paths."""
    kept = {(r["id"], r["config"], r["split"]): {k: v for k, v in r.items() if k != "file"} for r in records}
    return list(kept.values())


def as_json(settings: dict) -> str:
    """Settings as they stand in run.json."""
    return json.dumps(settings, indent=1, sort_keys=True, default=str)
