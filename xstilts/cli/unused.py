"""Report arguments that have no effect in a run. Imports nothing heavy.

An argument of a single run raises an error. `make` gives others to every run (data, family, measurement), although
only some runs use them. These are logged and noted in results.json: an error would stop half of the matrix.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tasks import unused_search_options
from tasks.errors import UserError
from xstilts.cli.arguments import ArmArguments
from xstilts.cli.defaults import non_defaults

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    from tasks.base import Task
    from tasks.rows import Rows
    from xstilts.cli.arguments import (
        ChangeArguments,
        DataArguments,
        DualEncoderArguments,
        FamilyArguments,
        MeasurementArguments,
        MixtureArguments,
        ModelArguments,
        PeftArguments,
        RetrievalArguments,
        TextArguments,
        VectorArguments,
    )

logger = logging.getLogger("xstilts")
BESIDE_SELECTION = {"center", "csls", "pairs", "max_train_samples"}  # never used to choose a layer
OF_A_FOLDER = "it names languages of the Hub; of a folder the languages are those that are there"


# ---- refused --------------------------------------------------------------------------------------------------------


def refuse_unused(
    why: str, arguments: DataclassInstance, only: Sequence[str] | None = None, but: Sequence[str] = ()
) -> None:
    """Raise if arguments that have no effect here differ from their default.

    Args:
        why: why they have no effect, for the error.
        arguments: a dataclass of arguments.
        only: the fields to check; None: all of them.
        but: fields that do have an effect.

    Raises:
        UserError: names the first such argument.
    """
    for name in non_defaults(arguments):
        if name not in but and (only is None or name in only):
            raise UserError(f"--{name} changes nothing here: {why}. Leave it out.")


def check_mixture(
    mix: MixtureArguments, tasks: list[Task], text_args: TextArguments, arm: ArmArguments, vectors: VectorArguments
) -> None:
    """Raise if there is only one task to mix, if no task has rows in other languages, or if arguments are for others.

    Args:
        tasks: the tasks of --tasks, which have a head.

    Raises:
        UserError: names the argument.
    """
    refuse_unused("it goes with pairs, e.g. --tasks squad_dual", vectors)
    if not mix.mlm_rate:
        refuse_unused("it goes with --mlm_rate", text_args)
    if len(tasks) == 1:  # with --mlm_rate the cap still sets the number of steps per epoch
        only = ["temperature"] if mix.mlm_rate else ["temperature", "examples_cap"]
        refuse_unused("--tasks names one task, so nothing is mixed", mix, only=only)
    if arm.language_mode != "english" and not any(task.other_languages for task in tasks):
        raise UserError(
            f"--language_mode {arm.language_mode} changes nothing here: {', '.join(task.name for task in tasks)} "
            f"{'has' if len(tasks) == 1 else 'have'} English train rows only. Leave it out."
        )


def check_text(
    config_name: str | None,
    new_model: DataclassInstance,
    text_args: TextArguments,
    peft: PeftArguments,
    model_args: ModelArguments,
    data_args: DataArguments,
) -> None:
    """Raise if arguments of phase 1 do not go together: some need a new model, others an existing checkpoint.

    Args:
        config_name: --config_name.
        new_model: the arguments of a new model, which has --config_name.

    Raises:
        UserError: names the argument.
    """
    if bool(config_name) == bool(model_args.model_name_or_path):
        raise UserError(
            "Give either --model_name_or_path (continue a checkpoint) or --config_name (train from scratch)."
        )
    if config_name and (text_args.text_of or peft.peft):
        raise UserError(
            "--config_name trains from scratch; --text_of and --peft continue a checkpoint (--model_name_or_path)."
        )
    refuse_unused("--text_languages are those of the text", data_args, only=["languages"])
    if config_name:
        refuse_unused("--config_name builds a new model", model_args, only=["model_revision", "attn_implementation"])
    else:
        refuse_unused("the checkpoint has its own tokenizer; it needs --config_name", new_model, only=["vocab_size"])


def check_measurement(dual: DualEncoderArguments, family: FamilyArguments, model_args: ModelArguments) -> None:
    """Raise if arguments of a training are given to run_retrieval.py.

    Raises:
        UserError: names the argument.
    """
    why = "run_retrieval.py only measures; run_intermediate.py --tasks trains"
    refuse_unused(why, dual, but=["query_prompt", "passage_prompt"])
    refuse_unused(why, family)
    refuse_unused(why, model_args, only=["freeze_embeddings"])


def check_export(retrieval_args: RetrievalArguments, data_args: DataArguments, run_args: MeasurementArguments) -> None:
    """Raise if arguments of a measurement are given, but the run only exports a checkpoint.

    Raises:
        UserError: names the argument.
    """
    why = "without --tasks nothing is measured"
    refuse_unused(why, run_args, but=["list_tasks"])
    if retrieval_args.select_on is None:
        refuse_unused(
            why,
            retrieval_args,
            but=["layer", "report_layer", "pooling", "include_special", "export_sentence_transformers"],
        )
        refuse_unused(why, data_args, but=["max_seq_length"])


# ---- logged and noted -----------------------------------------------------------------------------------------------


def note(names: list[str], why: str) -> list[str]:
    """Return ["--csls changes nothing here: <why>"], or [] if `names` is empty."""
    flags = " and ".join(f"--{name}" for name in names)
    return [f"{flags} change{'' if len(names) > 1 else 's'} nothing here: {why}"] if names else []


def of_model(model_args: ModelArguments, peft: PeftArguments | None = None) -> list[str]:
    """Notes on --model_revision with a folder, and on --freeze_embeddings with --peft."""
    notes = []
    if "model_revision" in non_defaults(model_args) and os.path.isdir(model_args.model_name_or_path or ""):
        notes += note(["model_revision"], "--model_name_or_path is a folder, which is taken as it is")
    if model_args.freeze_embeddings and peft and peft.peft:
        notes += note(["freeze_embeddings"], "--peft trains no weights of the encoder")
    return notes


def of_rows(data_args: DataArguments) -> list[str]:
    """Notes on --benchmark with a folder of rows."""
    unused = "benchmark" in non_defaults(data_args) and data_args.data_root != "hub"
    return note(["benchmark"], OF_A_FOLDER) if unused else []


def of_family(family: FamilyArguments, arm: ChangeArguments, tasks: list[Task]) -> list[str]:
    """Notes on a family's arguments that an arm does not use; `of_translations` has those on --translations."""
    notes = [] if arm.code_switch else note(_given(family, "lexicon"), "it goes with --code_switch")
    not_parallel = [task.name for task in tasks if task.other_languages != "parallel"]
    if not_parallel and family.match_roundtrip:
        notes += note(["match_roundtrip"], f"{', '.join(not_parallel)}: no rows that were translated and back")
    english = [task.name for task in tasks if not task.other_languages]
    if english and family.train_languages and isinstance(arm, ArmArguments) and arm.language_mode == "english":
        notes += [
            f"{', '.join(english)}: no rows in the other --train_languages, so their rows are not matched with any"
        ]
    return notes


def of_text(family: FamilyArguments, text_args: TextArguments, source: Task | None) -> list[str]:
    """Notes on a family's arguments in masked LM.

    Args:
        family: the family's arguments.
        text_args: the arguments of masked LM.
        source: the task whose rows are the text; None: Wikipedia.
    """
    if source is not None:
        return of_family(family, ArmArguments(), [source])
    notes = note(_given(family, "lexicon", "match_roundtrip", "translations"), "the text is Wikipedia's")
    if text_args.text_languages:
        notes += note(_given(family, "train_languages"), "--text_languages names the languages of the text")
    return notes


def log(notes: Sequence[str], rows: Rows) -> None:
    """Log the notes of results.json, and the --splits that were not read. Call it when all rows have been read.

    Unread --splits are not noted: results.json names the splits that were read.
    """
    for text in notes:
        logger.info(text)
    if others := [f"{task}.{split}" for task, split in rows.overrides if (task, split) not in rows.requested]:
        logger.info("--splits: not read here: %s", ", ".join(others))


def of_translations(family: FamilyArguments, rows: Rows) -> list[str]:
    """A note if no row was read from --translations. Call it when all rows have been read."""
    used = any("translated_by" in record for record in rows.records)
    return [] if used else note(_given(family, "translations"), "--data_root has all rows that are read")


def without_effect(task: Task, data_root: str, select_on: str | None = None) -> dict[str, str]:
    """Return {argument of run_retrieval.py that has no effect on `task`: why}.

    With --select_on the rows that choose the layer are searched, too, and by them an argument may have one.
    """
    found = dict.fromkeys(sorted(unused_search_options(task.name)), f"not used by {task.name}")
    if task.mines:
        found["max_eval_samples"] = f"{task.name} always uses its full pools"
    found["max_train_samples"] = "nothing is trained"
    found |= {} if data_root == "hub" else {"benchmark": OF_A_FOLDER}
    return {name: why for name, why in found.items() if select_on is None or name in BESIDE_SELECTION}


def of_measurement(task: Task, retrieval_args: RetrievalArguments, data_args: DataArguments) -> list[str]:
    """Notes on arguments of run_retrieval.py that have no effect on `task`."""
    given = {*non_defaults(retrieval_args), *non_defaults(data_args)}
    by_reason: dict[str, list[str]] = {}
    for name, why in without_effect(task, data_args.data_root, retrieval_args.select_on).items():
        by_reason.setdefault(why, []).extend([name] if name in given else [])
    return [text for why, names in by_reason.items() for text in note(names, why)]


def _given(arguments: DataclassInstance, *names: str) -> list[str]:
    """The names whose arguments differ from their default."""
    return [name for name in names if name in non_defaults(arguments)]
