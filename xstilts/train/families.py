"""Which languages an arm's family has, and which arguments go together; checked before anything is read. Imports
nothing heavy."""

from __future__ import annotations

from tasks import languages as codes
from tasks.pairs import get_pairs
from xstilts.cli.arguments import refuse_unused
from xstilts.errors import UserError
from xstilts.train import code_switch


def family_languages(family) -> list[str]:
    """Our codes of --train_languages, without repeats.

    Raises:
        UserError: an unknown language.
    """
    return list(dict.fromkeys(map(codes.normalize, family.train_languages)))


def check(family, arm) -> None:
    """Refuses arguments that cannot go together, before anything is read.

    Raises:
        UserError: what was given, and what to type.
    """
    languages, mode = family_languages(family), arm.language_mode
    foreign = [code for code in languages if code != "en"]
    if not 0 <= arm.alpha <= 1:
        raise UserError(f"--alpha {arm.alpha} must lie in 0..1.")
    if mode != "hybrid":
        refuse_unused("it goes with --language_mode hybrid", arm, only=["alpha"])
    if mode in ("multilingual", "translated") and not foreign:
        raise UserError(
            f"--language_mode {mode} needs --train_languages with one beside English, e.g. --train_languages en de sw."
        )
    if mode in ("cross", "hybrid") and len(languages) < 2:
        raise UserError(
            f"--language_mode {mode} needs two --train_languages at least, e.g. --train_languages en de sw."
        )
    if mode == "roundtrip" and not family.match_roundtrip:
        raise UserError(
            "--language_mode roundtrip needs --match_roundtrip, in every arm of the family: rows that did not come "
            "back whole are left out of all of them."
        )
    if arm.code_switch and mode != "english":
        raise UserError(f"--code_switch replaces English words; it goes with --language_mode english, not {mode}.")
    code_switch.check(arm, family.lexicon)


def seen_languages(family, arm) -> list[str]:
    """The languages other than English whose words the arm trains on."""
    foreign = [code for code in family_languages(family) if code != "en"]
    if arm.code_switch:
        return [codes.normalize(code) for code in arm.switch_languages] or foreign
    return [] if arm.language_mode in ("english", "roundtrip") else foreign


def text_languages(arguments, family) -> list[str]:
    """The languages of text: those asked for, else the family's; none of either: all there are."""
    return list(dict.fromkeys(map(codes.normalize, arguments.text_languages))) or family_languages(family)


def check_pairs(how, family) -> None:
    """Refuses arguments of a dual encoder's training that cannot go together.

    Raises:
        UserError: what was given, and what to type.
    """
    if not how.train_tasks:
        raise UserError("--train_tasks is missing: pairs to train on, e.g. squad_dual or nli_dual.")
    for name in how.train_tasks:
        get_pairs(name)
    if not 0 <= how.alpha <= 1:
        raise UserError(f"--alpha {how.alpha} must lie in 0..1.")
    if how.batch_languages != "hybrid":
        refuse_unused("it goes with --batch_languages hybrid", how, only=["alpha"])
    if how.batch_languages in ("cross", "hybrid") and len(family_languages(family)) < 2 and not how.code_switch:
        raise UserError(
            f"--batch_languages {how.batch_languages} needs pairs in two languages at least: --train_languages en de "
            "..."
        )
    if how.scale <= 0 or (how.cached_loss_mini_batch is not None and how.cached_loss_mini_batch < 1):
        raise UserError(
            f"--scale {how.scale} and --cached_loss_mini_batch {how.cached_loss_mini_batch} must be positive."
        )
    code_switch.check(how, family.lexicon)
    if how.code_switch and how.batch_languages != "english" and family_languages(family) not in ([], ["en"]):
        raise UserError(
            "--code_switch replaces English words; it goes with --batch_languages english (or --train_languages en)."
        )


def check_adapter(arguments) -> None:
    """Refuses settings that make no adapter.

    Raises:
        UserError: what was given, and what to type.
    """
    if not arguments.peft:
        refuse_unused("it goes with --peft lora", arguments)
    elif arguments.lora_rank < 1 or not 0 <= arguments.lora_dropout < 1 or arguments.lora_targets == []:
        raise UserError(
            f"--lora_rank {arguments.lora_rank} must be 1 at least, --lora_dropout {arguments.lora_dropout} in 0..1, "
            "and --lora_targets must name a module, e.g. query value."
        )
    elif arguments.lora_alpha is not None and arguments.lora_alpha <= 0:
        raise UserError(f"--lora_alpha {arguments.lora_alpha}: the adapter is scaled by it; give a number above 0.")
