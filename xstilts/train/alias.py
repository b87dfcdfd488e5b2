"""run_retrieval.py --do_train, the old command for training a dual encoder. The next release removes it."""

from __future__ import annotations

import logging

from tasks.errors import UserError
from xstilts.checkpoint.config import check_attention, check_checkpoint
from xstilts.cli.arguments import (
    DataArguments,
    DualEncoderArguments,
    FamilyArguments,
    MeasurementArguments,
    ModelArguments,
    RetrievalArguments,
)
from xstilts.cli.unused import refuse_unused
from xstilts.run import inputs, processes
from xstilts.train import code_switch
from xstilts.train.families import BATCHES, family_languages, trained_tasks

logger = logging.getLogger("xstilts")


def check(
    dual: DualEncoderArguments,
    family: FamilyArguments,
    retrieval: RetrievalArguments,
    model_args: ModelArguments,
    data_args: DataArguments,
    run_args: MeasurementArguments,
) -> None:
    """Make the checks that run_intermediate.py makes before it trains, and warn with the new command.

    Raises:
        UserError: what was given, and what to type.
    """
    if retrieval.tasks or retrieval.select_on or not (retrieval.layer == "last" or retrieval.layer.isdecimal()):
        raise UserError(
            "--do_train trains one layer's vectors (--layer k, or the last one's) and measures nothing: give "
            "--tasks and --layer all in a second command, with the trained folder as --model_name_or_path."
        )
    if not retrieval.include_special:
        raise UserError("--no_include_special is for measuring: --do_train always counts <s> and </s>.")
    refuse_unused("--do_train measures nothing, and makes an arm of its own", run_args, only=["plain_model"])
    refuse_unused("--do_train measures nothing", retrieval, but=["layer", "pooling"])
    refuse_unused("--do_train measures nothing", data_args, only=["languages"])
    if not dual.train_tasks:
        raise UserError("--train_tasks is missing: pairs to train on, e.g. squad_dual or nli_dual.")
    heads, _ = trained_tasks(dual.train_tasks, data_args.benchmark)
    if heads:
        name = heads[0].name
        raise UserError(f"--train_tasks {name} are not pairs; use run_intermediate.py --tasks {name}.")
    _check_pairs(dual, family)
    check_checkpoint(model_args.model_name_or_path)
    check_attention(model_args.attn_implementation)
    inputs.check_training(run_args)
    inputs.open_rows(data_args, family.translations)
    if processes.is_first():
        logger.warning("The next release removes --do_train and --train_tasks. Use: %s ...", command(dual, family))


def _check_pairs(dual: DualEncoderArguments, family: FamilyArguments) -> None:
    """Raise UserError if the old arguments do not go together; `families.check` says the same of the new ones."""
    if dual.batch_languages != "hybrid":
        refuse_unused("it goes with --batch_languages hybrid", dual, only=["alpha"])
    if dual.batch_languages in ("cross", "hybrid") and len(family_languages(family)) < 2:
        raise UserError(
            f"--batch_languages {dual.batch_languages} needs pairs in at least two languages: --train_languages en de "
            "..."
        )
    code_switch.check(dual, family.lexicon)
    if dual.code_switch and dual.batch_languages != "english" and family_languages(family) not in ([], ["en"]):
        raise UserError(
            "--code_switch replaces English words; it goes with --batch_languages english (or --train_languages en)."
        )


def command(dual: DualEncoderArguments, family: FamilyArguments) -> str:
    """Return the beginning of the command that trains the same."""
    (mode,) = (mode for mode, batches in BATCHES.items() if batches == dual.batch_languages)
    # without --train_languages, and with --code_switch, every batch is English
    english = mode == "english" or family_languages(family) in ([], ["en"]) or dual.code_switch
    tasks = " ".join(dual.train_tasks)
    return f"python run_intermediate.py --tasks {tasks}" + ("" if english else f" --language_mode {mode}")
