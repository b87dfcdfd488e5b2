"""The settings and inputs in run.json, and their comparison with those of the current run."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks import TASKS, get_task
from tasks.errors import UserError
from tasks.languages import normalize
from tasks.rows import Rows
from xstilts.cli import unused
from xstilts.cli.privacy import public
from xstilts.cli.user_files import read_json
from xstilts.run import outputs, results
from xstilts.run.checks import then_and_now
from xstilts.run.environment import command_line
from xstilts.run.files import write_text
from xstilts.run.model_files import digest_of
from xstilts.run.record import FILE_NAME, Record, is_there, unique, without_uses

if TYPE_CHECKING:
    from transformers import TrainingArguments

    from xstilts.cli.arguments import ModelArguments

# keys of run.json that are not settings
BESIDE = ("model_finished", "model_weights", "model_files", "sizes", "data", "processes", "command", "requested")
PATHS = ("model", "data_root", "translations", "lexicon")  # settings that can be paths
SAMPLES, SAMPLE = 64, 4096  # of a file of weights: how many, and bytes of each
KEPT = "keep_checkpoint"  # False or absent. It changes no score, so it is not compared; see `outdated`


def parent(model: str | os.PathLike, revision: str = "main") -> dict[str, Any]:
    """Return what identifies the parent checkpoint in the settings.

    That is when its training finished; of a folder that these scripts did not train, a digest of its weights; of both,
    one of weights and tokenizer (older versions lack it); the Hub's commit; of a new model, the sizes in its file.

    The time is only compared for equality, so clock changes do not matter. A revision of the Hub can move, as main
    does; the commit says which weights were used.

    Raises:
        UserError: the checkpoint's results.json is damaged.
    """
    if Path(model).is_file():
        return {"sizes": read_json(str(model), "--config_name")}
    folder: dict[str, Any] = {}
    if is_there(model):
        folder = {"model_finished": Record.read(Path(model, FILE_NAME)).finished}
    elif Path(model).is_dir():
        folder = {"model_weights": weights(model)}
    if digest := digest_of(model):
        folder["model_files"] = digest
    commit = _commit(model, revision)
    return (
        folder
        | ({"model_revision": revision} if revision != "main" else {})
        | ({"model_commit": commit} if commit else {})
    )


def weights(folder: str | os.PathLike) -> str:
    """Return a digest of a model's config.json and of its safetensors files: their sizes and evenly spread parts.

    Parts are enough, as another training moves most weights; reading all of a large model would take seconds a run.
    """
    digest = hashlib.sha256()
    if (config := Path(folder, "config.json")).is_file():
        digest.update(config.read_bytes())
    for path in sorted(Path(folder).glob("*.safetensors")):
        size = path.stat().st_size
        digest.update(f"\n{path.name} {size}\n".encode())
        with path.open("rb") as file:
            for k in range(SAMPLES):
                file.seek(k * max(0, size - SAMPLE) // (SAMPLES - 1))
                digest.update(file.read(SAMPLE))
    return digest.hexdigest()[:16]


def _commit(model: str | os.PathLike, revision: str) -> str | None:
    """Return the commit of a Hub repository that `from_pretrained` loads now, online or from the cache.

    None for a folder or a file, and where the repository cannot be read: loading it then says why.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HFValidationError
    from huggingface_hub.utils import httpx

    if Path(model).exists():
        return None
    try:
        return Path(hf_hub_download(str(model), "config.json", revision=revision)).parent.name  # snapshots/<commit>/
    except (OSError, httpx.HTTPError, EntryNotFoundError, HFValidationError):  # OSError: refused, offline, not cached
        return None


def settings_of(args: TrainingArguments, model: str, model_args: ModelArguments, **more: Any) -> dict[str, Any]:
    """Return the settings of a training: TrainingArguments that differ from their default, and the script's own.

    Args:
        model: the checkpoint to start from, or the config.
        more: the script's own settings, by argument name.
    """
    from transformers import TrainingArguments

    plain = TrainingArguments(output_dir="x", use_cpu=args.use_cpu).to_dict()
    volatile = {
        "output_dir",
        "logging_dir",
        "run_name",
        "hub_token",
        "disable_tqdm",
        "local_rank",
        "report_to",
        "label_names",
        "ddp_timeout",
    }
    changed = {k: v for k, v in args.to_dict().items() if k not in volatile and plain.get(k) != v}
    return json.loads(
        json.dumps(
            changed | {"model": model} | parent(model, model_args.model_revision) | model_args.settings() | more,
            default=str,
        )
    )


def inputs(settings: dict[str, Any], rows: Rows) -> dict[str, Any]:
    """Return the parent checkpoint, the sizes of a new model and data hashes, by their names in run.json. If they
    change, a run starts over. What rows are used for follows from the settings."""
    model = {name: settings.get(name) for name in ("model_finished", "model_weights", "sizes")}
    model |= {"model_files": settings["model_files"]} if "model_files" in settings else {}
    return json.loads(as_json(model | {"data": without_uses(unique(rows.records))}))


def as_json(settings: dict[str, Any]) -> str:
    """Return settings as the text of run.json."""
    return json.dumps(settings, indent=1, sort_keys=True, default=str)


def compare(folder: str | os.PathLike, settings: dict[str, Any], rows: Rows | None = None) -> dict[str, Any] | None:
    """Compare a run's settings with those in its folder's run.json, or in the results.json of a kept report.

    Args:
        rows: what an unfinished run has read, all of it. A finished one has noted it in run.json.

    Returns:
        The contents of run.json; None if the folder holds neither checkpoints nor a result.

    Raises:
        UserError: the settings differ (shows up to five), or run.json cannot be read.
    """
    path, old = Path(folder, results.RUN_FILE), None
    finished = path.with_name(FILE_NAME).is_file()
    # a run of several stages has an empty folder of checkpoints before its first step
    if any(path.parent.glob("checkpoint-*/*")) or (path.is_file() and finished):
        old = results.read_note(path, outputs.UNKNOWN_SETTINGS)
        _refuse_other(folder, old, settings, _same_anyway(folder, old, settings, finished, rows))
    elif finished:  # as `benchmarks/results.py unpack` leaves it: paths are shortened, and settings were added later
        record, now = Record.read(path.with_name(FILE_NAME)), by_name(settings)
        then = by_name(record.settings) | {"command": record.command}
        same = then.keys() - now.keys() - _defaults().keys()
        if now.get("dtype") == "auto":  # results.json has what it chose
            same |= {"dtype"}
        _refuse_other(folder, then, now, _same_anyway(folder, then, now, finished) | same)
    return old


def by_name(settings: dict[str, Any]) -> dict[str, Any]:
    """Return settings as results.json has them, with the last part of a path alone: the rest may have been hidden."""
    names = {key: Path(value).name for key in PATHS if isinstance(value := settings.get(key), str)}
    return public(json.loads(as_json(settings))) | names


def _refuse_other(folder: str | os.PathLike, old: dict[str, Any], now: dict[str, Any], same: set[str]) -> None:
    """Raise if settings differ. An argument that is absent had its default; one that older versions lacked is no
    difference if it is not given now.

    Args:
        same: the settings that are not to be compared.
    """
    plain = _defaults() if old.keys() ^ now.keys() else {}
    differ = sorted(
        k
        for k in (old.keys() | now.keys()) - {*BESIDE, KEPT} - same
        if not _same(k, old.get(k, plain.get(k)), now.get(k, plain.get(k))) and (k in old or k in plain or now[k])
    )
    if differ:
        shown = then_and_now(plain | old, plain | now, differ)
        raise UserError(
            f"{folder} was begun with other arguments ({shown}). Give the same, another --output_dir, or delete "
            "the folder."
        )


def _same_anyway(
    folder: str | os.PathLike,
    old: dict[str, Any],
    settings: dict[str, Any],
    finished: bool,
    rows: Rows | None = None,
) -> set[str]:
    """Return the settings that are not to be compared.

    A model that was moved is known by when its training finished, or by its weights. Whether a machine has bf16 is no
    matter for a result that the same command made, nor is an argument without effect on a finished measurement. Of
    --splits, those that the run does not read are for other runs of the command.

    Raises:
        UserError: the model has another commit now; says which to give.
    """
    same = _compare_commits(folder, old, settings)
    known = [key for key in ("model_finished", "model_weights") if old.get(key) and old[key] == settings.get(key)]
    if known and Path(old["model"]).name == Path(settings["model"]).name:
        same |= {"model"}
    command = old.get("command", "")
    if finished and command in (command_line(whole_paths=True), command_line()) and "--config" not in command:
        same |= {"bf16"}
    read = old.get("requested") if finished else splits_read(rows.requested) if rows else None
    if read and _same_splits(old, settings, read):
        same |= {"splits"}
    return same | (_without_effect(Record.read(Path(folder, FILE_NAME)), settings) if finished else set())


def splits_read(requested: Iterable[tuple[str, str]]) -> list[str]:
    """Return what --splits could name of the (task, split) pairs that a run has read: ["xnli.dev", "xnli.train"]."""
    return sorted(f"{task}.{split}" for task, split in requested)


def _same_splits(old: Mapping[str, Any], now: Mapping[str, Any], read: Collection[str]) -> bool:
    """Whether --splits are the same for what the run reads (`splits_read`)."""
    then, there = ({one for one in found.get("splits") or () if one.partition("=")[0] in read} for found in (old, now))
    return then == there


def _without_effect(record: Record, settings: dict[str, Any]) -> set[str]:
    """Return the arguments of a measurement that have no effect on its task: others of the command may use them."""
    if record.phase != "retrieval" or record.task not in TASKS:
        return set()
    return set(unused.without_effect(get_task(record.task), settings["data_root"], settings.get("select_on")))


def _same(key: str, old: Any, new: Any) -> bool:
    """Whether two values of a setting are the same. A path may be spelled in two ways."""
    if key in PATHS and isinstance(old, str) and isinstance(new, str) and os.path.exists(new):
        return os.path.realpath(old) == os.path.realpath(new)
    return bool(old == new)


def _compare_commits(folder: str | os.PathLike, old: dict[str, Any], settings: dict[str, Any]) -> set[str]:
    """Compare the commits of a model from the Hub. Return the settings that are then not to be compared.

    Raises:
        UserError: the model has another commit now; says which to give.
    """
    then, now = old.get("model_commit"), settings.get("model_commit")  # older versions lack it
    if then and now and then != now:
        raise UserError(
            f"{folder} was begun from commit {then} of {settings['model']}, which is now at {now}. Give "
            f"--model_revision {then}, another --output_dir, or delete the folder."
        )
    named = then and settings.get("model_revision") == then  # the same commit, now by its name
    return {"model_commit", "model_revision"} if named else {"model_commit"}


@functools.cache
def _defaults() -> dict[str, Any]:
    """Return {argument: default}, for arguments that the settings leave out because they were not given."""
    from transformers import TrainingArguments

    from xstilts.cli.arguments import (
        ArmArguments,
        DualEncoderArguments,
        FamilyArguments,
        PeftArguments,
        TextArguments,
    )
    from xstilts.cli.defaults import defaults

    own = defaults(TextArguments, FamilyArguments, ArmArguments, DualEncoderArguments, PeftArguments)
    fields = dataclasses.fields(TrainingArguments)  # an instance would look for devices
    return {
        f.name: f.default if f.default_factory is dataclasses.MISSING else f.default_factory() for f in fields
    } | own


def outdated(record: Record, settings: dict[str, Any]) -> str | None:
    """Return why a result is outdated, or None.

    The parent was trained again, a file of rows or of sizes changed, or the checkpoint was not kept and is now asked
    for.
    """
    if record.settings.get(KEPT) is False and settings.get(KEPT) is not False:
        return "its checkpoint was not kept (--keep_checkpoint false), and is now asked for"
    if (now := settings.get("model_finished")) is not None:
        then = record.settings.get("model_finished")  # older versions lack it
        if now != then if then is not None else now > record.finished:
            return f"{settings['model']} was trained again"
    if (then := record.settings.get("model_weights")) and then != settings.get("model_weights", then):
        return f"the weights in {settings['model']} have changed"
    then, now = record.settings.get("model_files"), settings.get("model_files")
    if then and now and then != now:
        return f"the weights or the tokenizer in {settings['model']} have changed"
    if record.settings.get("sizes", now := settings.get("sizes")) != now:  # older versions lack them
        return f"the sizes in {settings['model']} have changed"
    return changed_rows(settings, record.data) or _more_languages(record, settings)


def _more_languages(record: Record, settings: dict[str, Any]) -> str | None:
    """Return that a folder has rows in languages that a measurement in all of them has not scored, or None."""
    measured = record.phase in ("target", "retrieval") and record.task in TASKS
    if not measured or settings["data_root"] == "hub" or settings.get("languages"):
        return None
    rows = Rows(settings["data_root"], settings.get("splits") or (), settings.get("translations"))
    chosen_on = (settings.get("select_on") or "").partition(":")[2].split(",")
    held_out = {normalize(code.strip()) for code in chosen_on if code.strip() not in ("", "dev")}
    there = get_task(record.task, settings.get("benchmark", "xtreme")).languages(rows)
    more = [language for language in there if language not in record.scores and language not in held_out]
    return f"there are rows in {', '.join(more)} now" if more else None


def changed_rows(settings: dict[str, Any], read: Sequence[Mapping[str, Any]]) -> str | None:
    """Return that rows in a folder have changed, or None.

    Args:
        read: the data records of what was read then.
    """
    if settings["data_root"] != "hub":
        rows = Rows(settings["data_root"], translations=settings.get("translations"))
        for data in read:
            if (digest := rows.digest(data)) is None or digest != data.get("sha256"):
                return f"the rows of {data['id']} ({data['config']}, {data['split']}) have changed"
    return None


def note(folder: Path, **values: Any) -> None:
    """Write values that are not settings (`BESIDE`) into a run's run.json, if it has one.

    The command is noted so that make does not start a finished run again for words that change nothing
    (`recipes/changed.py`).
    """
    path = folder / results.RUN_FILE
    if path.is_file() and (begun := results.read_note(path, outputs.UNKNOWN_SETTINGS)) != begun | values:
        write_text(path, as_json(begun | values))


def nothing_to_do(folder: Path, settings: dict[str, Any], trains: bool) -> str:
    """Return the line on a finished run. It says if the checkpoint that is asked for is not there.

    Args:
        trains: whether the run writes a checkpoint.
    """
    wanted = trains and settings.get(KEPT) is not False
    lacks = wanted and not any(folder.glob("*.safetensors"))
    return f"{folder} is finished; nothing to do. Delete its results.json to run it again." + (
        " It holds no checkpoint: that was not kept, or was removed." if lacks else ""
    )
