"""The languages of an arm's family, and checks of arguments that go together. Imports neither torch nor datasets."""

from __future__ import annotations

from tasks import languages as codes
from tasks.pairs import get_pairs
from xstilts.cli.arguments import (
    ArmArguments,
    DualEncoderArguments,
    FamilyArguments,
    PeftArguments,
    TextArguments,
    refuse_unused,
)
from xstilts.errors import UserError
from xstilts.train import code_switch


def family_languages(family: FamilyArguments) -> list[str]:
    """Return --train_languages as our language codes, without repeats.

    Raises:
        UserError: an unknown language.
    """
    return list(dict.fromkeys(map(codes.normalize, family.train_languages)))


def check(family: FamilyArguments, arm: ArmArguments) -> None:
    """Raise if arguments of an arm do not go together.

    Raises:
        UserError: what was given, and what to type.
    """
    languages, mode = family_languages(family), arm.language_mode
    foreign = [code for code in languages if code != "en"]
    if not 0 <= arm.alpha <= 1:
        raise UserError(f"--alpha {arm.alpha}: expected a number from 0 to 1.")
    if mode != "hybrid":
        refuse_unused("it goes with --language_mode hybrid", arm, only=["alpha"])
    if mode in ("multilingual", "translated") and not foreign:
        raise UserError(
            f"--language_mode {mode} needs a language other than English, e.g. --train_languages en de sw."
        )
    if mode in ("cross", "hybrid") and len(languages) < 2:
        raise UserError(
            f"--language_mode {mode} needs at least two --train_languages, e.g. --train_languages en de sw."
        )
    if mode == "roundtrip" and not family.match_roundtrip:
        raise UserError(
            "--language_mode roundtrip needs --match_roundtrip in every arm of the family: rows without a complete "
            "round-trip translation are left out of all of them."
        )
    if arm.code_switch and mode != "english":
        raise UserError(f"--code_switch replaces English words: it goes with --language_mode english, not {mode}.")
    code_switch.check(arm, family.lexicon)


def seen_languages(family: FamilyArguments, arm: ArmArguments) -> list[str]:
    """Return the languages other than English that the arm trains on."""
    foreign = [code for code in family_languages(family) if code != "en"]
    if arm.code_switch:
        return [codes.normalize(code) for code in arm.switch_languages] or foreign
    return [] if arm.language_mode in ("english", "roundtrip") else foreign


def text_languages(arguments: TextArguments, family: FamilyArguments) -> list[str]:
    """Return --text_languages, else --train_languages; [] means all languages that the text has."""
    return list(dict.fromkeys(map(codes.normalize, arguments.text_languages))) or family_languages(family)


def check_pairs(dual: DualEncoderArguments, family: FamilyArguments) -> None:
    """Raise if arguments of a dual encoder's training do not go together.

    Raises:
        UserError: what was given, and what to type.
    """
    if not dual.train_tasks:
        raise UserError("--train_tasks is missing: pairs to train on, e.g. squad_dual or nli_dual.")
    for name in dual.train_tasks:
        get_pairs(name)
    if not 0 <= dual.alpha <= 1:
        raise UserError(f"--alpha {dual.alpha}: expected a number from 0 to 1.")
    if dual.batch_languages != "hybrid":
        refuse_unused("it goes with --batch_languages hybrid", dual, only=["alpha"])
    if dual.batch_languages in ("cross", "hybrid") and len(family_languages(family)) < 2 and not dual.code_switch:
        raise UserError(
            f"--batch_languages {dual.batch_languages} needs pairs in at least two languages: --train_languages en de "
            "..."
        )
    if dual.scale <= 0 or (dual.cached_loss_mini_batch is not None and dual.cached_loss_mini_batch < 1):
        raise UserError(
            f"--scale {dual.scale} and --cached_loss_mini_batch {dual.cached_loss_mini_batch} must be positive."
        )
    code_switch.check(dual, family.lexicon)
    if dual.code_switch and dual.batch_languages != "english" and family_languages(family) not in ([], ["en"]):
        raise UserError(
            "--code_switch replaces English words; it goes with --batch_languages english (or --train_languages en)."
        )


def check_adapter(arguments: PeftArguments) -> None:
    """Raise if the settings of an adapter are wrong, or given without --peft.

    Raises:
        UserError: what was given, and what to type.
    """
    if not arguments.peft:
        refuse_unused("it goes with --peft lora", arguments)
    elif arguments.lora_rank < 1 or not 0 <= arguments.lora_dropout < 1 or arguments.lora_targets == []:
        raise UserError(
            f"--lora_rank {arguments.lora_rank} must be at least 1, --lora_dropout {arguments.lora_dropout} from 0 to "
            "below 1, and --lora_targets must name a module, e.g. query value."
        )
    elif arguments.lora_alpha is not None and arguments.lora_alpha <= 0:
        raise UserError(
            f"--lora_alpha {arguments.lora_alpha}: expected a number above 0 (the adapter is scaled by it)."
        )
