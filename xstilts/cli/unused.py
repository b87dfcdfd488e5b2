"""Arguments that would change nothing in a run. Imports nothing heavy.

Those of one run are refused. Those that make gives to many runs alike (rows, a family, how to measure), of which some
use them and others do not, are logged and noted in results.json: a refusal would stop half a matrix.
"""

from __future__ import annotations

import logging
import os

from xstilts.cli.arguments import ArmArguments, non_defaults, refuse_unused
from xstilts.errors import UserError

logger = logging.getLogger("xstilts")


# ---- refused --------------------------------------------------------------------------------------------------------


def check_mixture(mix, tasks: list, arm) -> None:
    """Refuse settings of a mixture where there is none, and languages that no task of it has rows in.

    Args:
        mix: IntermediateArguments.
        tasks: those of --tasks.

    Raises:
        UserError: naming the argument.
    """
    if len(tasks) == 1:  # beside text the cap still says how many steps an epoch has
        only = ["temperature"] if mix.mlm_rate else ["temperature", "examples_cap"]
        refuse_unused("--tasks names one task, so nothing is mixed", mix, only=only)
    if arm.language_mode != "english" and not any(task.other_languages for task in tasks):
        raise UserError(
            f"--language_mode {arm.language_mode} changes nothing here: {', '.join(task.name for task in tasks)} "
            f"{'has' if len(tasks) == 1 else 'have'} English train rows only. Leave it out."
        )


def check_text(mlm, model_args) -> None:
    """Refuse settings of phase 1 that go with a model made from nothing, or with one that is there.

    Args:
        mlm: MlmArguments.

    Raises:
        UserError: naming the argument.
    """
    if mlm.config_name:
        refuse_unused("--config_name starts from nothing", model_args, only=["model_revision", "attn_implementation"])
    else:
        refuse_unused("the tokenizer is the checkpoint's; it goes with --config_name", mlm, only=["vocab_size"])


def check_export(how, data_args, run) -> None:
    """Refuse what only a measurement uses, where a checkpoint is exported and nothing is measured.

    Raises:
        UserError: naming the argument.
    """
    why = "without --tasks nothing is measured"
    refuse_unused(why, run, but=["list_tasks"])
    if how.select_on is None:
        refuse_unused(
            why, how, but=["layer", "report_layer", "pooling", "include_special", "export_sentence_transformers"]
        )
        refuse_unused(why, data_args, but=["max_seq_length"])


# ---- logged and noted -----------------------------------------------------------------------------------------------


def note(names: list[str], why: str) -> list[str]:
    """["--csls changes nothing here: ..."], or [] where no name is given."""
    flags = " and ".join(f"--{name}" for name in names)
    return [f"{flags} change{'' if len(names) > 1 else 's'} nothing here: {why}"] if names else []


def of_model(model_args, peft=None) -> list[str]:
    """Notes on the checkpoint's arguments: a folder has no revisions, and an adapter leaves the embeddings alone
    anyway."""
    notes = []
    if "model_revision" in non_defaults(model_args) and os.path.isdir(model_args.model_name_or_path or ""):
        notes += note(["model_revision"], "--model_name_or_path is a folder, which is taken as it is")
    if model_args.freeze_embeddings and peft and peft.peft:
        notes += note(["freeze_embeddings"], "--peft trains no weights of the encoder")
    return notes


def of_rows(data_args) -> list[str]:
    """Notes on --benchmark beside a folder of rows."""
    asked = "benchmark" in non_defaults(data_args) and data_args.data_root != "hub"
    return (
        note(["benchmark"], "it names languages of the Hub; of a folder the languages are those that are there")
        if asked
        else []
    )


def of_family(family, arm, tasks: list) -> list[str]:
    """Notes on a family's arguments in an arm of `tasks` that does not use them; see `of_translations` for the
    rest."""
    notes = [] if arm.code_switch else note(_given(family, "lexicon"), "it goes with --code_switch")
    alone = [task.name for task in tasks if task.other_languages != "parallel"]
    if alone and family.match_roundtrip:
        notes += note(["match_roundtrip"], f"{', '.join(alone)}: no rows that were translated and back")
    english = [task.name for task in tasks if not task.other_languages]
    if english and family.train_languages and arm.language_mode == "english":
        notes += [
            f"{', '.join(english)}: no rows in the other --train_languages, so their rows are not matched with any"
        ]
    return notes


def of_text(family, text_args, source) -> list[str]:
    """Notes on a family's arguments in masked LM, on rows of the task `source` or on running text (None)."""
    if source is not None:
        return of_family(family, ArmArguments(), [source])
    notes = note(_given(family, "lexicon", "match_roundtrip", "translations"), "the text is Wikipedia's")
    if text_args.text_languages:
        notes += note(_given(family, "train_languages"), "--text_languages names the languages of the text")
    return notes


def log(notes: list[str], rows) -> None:
    """Log the notes of results.json, and which --splits are of other tasks; call it when all rows have been read.

    The latter are in no note: results.json names the split of all that was read.
    """
    for sentence in notes:
        logger.info(sentence)
    if others := [f"{task}.{split}" for task, split in rows.overrides if (task, split) not in rows.asked]:
        logger.info("--splits: not read here: %s", ", ".join(others))


def of_translations(family, rows) -> list[str]:
    """A note where no row was read from --translations. Call it when all rows have been read."""
    used = any("translated_by" in record for record in rows.records)
    return [] if used else note(_given(family, "translations"), "--data_root has all rows that are read")


def of_measurement(task, how, data_args) -> list[str]:
    """Notes on arguments of run_retrieval.py that the measurement of `task` does not look at."""
    given = non_defaults(how)
    unused = {name for name in given if name not in task.search_options}
    notes = note(
        [name for name in ("center", "csls", "query_side", "margin", "mining") if name in unused],
        f"{task.name} is not measured so",
    )
    if "candidate_text" in unused:
        notes += note(["candidate_text"], f"the candidates of {task.name} have no paragraphs")
    if data_args.max_eval_samples is not None and task.mines:
        notes += note(
            ["max_eval_samples"], f"the pools of {task.name} are never cut, half a pool would be another task"
        )
    notes += note(["max_train_samples"] if data_args.max_train_samples is not None else [], "nothing is trained")
    return notes + of_rows(data_args)


def _given(one, *names: str) -> list[str]:
    return [name for name in names if name in non_defaults(one)]
