"""The languages of an arm's family, and checks of arguments that go together. Imports neither torch nor datasets."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

from tasks import TASKS, get_task
from tasks import languages as codes
from tasks.base import Task
from tasks.errors import UserError, did_you_mean
from tasks.pairs import PAIRS, Pairs, get_pairs
from xstilts.cli.arguments import (
    ArmArguments,
    ChangeArguments,
    DualEncoderArguments,
    FamilyArguments,
    MixtureArguments,
    PairArguments,
    PeftArguments,
    TextArguments,
    VectorArguments,
)
from xstilts.cli.unused import refuse_unused
from xstilts.train import code_switch

# {--language_mode: the languages of a dual encoder's batches, as settings name them}
BATCHES = {"english": "english", "multilingual": "mono", "cross": "cross", "hybrid": "hybrid"}


class Lexicons(NamedTuple):
    """What an arm replaces English words with.

    Attributes:
        by_language: {language: lexicon}; {} without --code_switch.
        sha256: {lexicon: hash of its file}.
        seen_languages: the languages other than English that the arm trains on, with or without lexicons.
    """

    by_language: dict[str, code_switch.Lexicon]
    sha256: dict[str, str]
    seen_languages: list[str]


def trained_tasks(names: Sequence[str], benchmark: str) -> tuple[list[Task], list[Pairs]]:
    """Return the tasks of phase 2: (those with a head, pairs for a dual encoder). One of the lists is empty.

    Args:
        names: --tasks.

    Raises:
        UserError: a task is unknown or is only measured, pairs are to be mixed with other tasks, or there is no name.
    """
    if not names:
        raise UserError("--tasks is missing: one intermediate task or several; see --list_tasks.")
    heads: list[Task] = []
    pairs: list[Pairs] = []
    for name in dict.fromkeys(names):
        if name in PAIRS:
            pairs.append(get_pairs(name, benchmark))
        elif name not in TASKS and (near := did_you_mean(name, PAIRS, cutoff=0.8)):
            raise UserError(f"Task {name!r} is unknown.{near} See --list_tasks.")
        else:
            heads.append(get_task(name, benchmark))
            if not heads[-1].auto_class:
                raise UserError(f"--tasks {name} is not trained; measure it with run_retrieval.py --tasks {name}.")
    if heads and pairs:
        raise UserError(
            f"--tasks {' '.join(names)}: {pairs[0].name} trains a dual encoder, which has no head, so it cannot be "
            f"mixed with {heads[0].name}. Train one, and then the other from its --output_dir."
        )
    return heads, pairs


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
    if arm.number_of_languages not in (None, len(languages)):
        raise UserError(
            f"--number_of_languages {arm.number_of_languages}: --train_languages has {len(languages)} "
            f"({' '.join(languages)}). Give {arm.number_of_languages}; make takes them as ARGS_<arm>."
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


def read_lexicons(family: FamilyArguments, arm: ArmArguments) -> Lexicons:
    """Return the lexicons of an arm.

    Raises:
        UserError: see `code_switch.read_lexicons`.
    """
    seen = seen_languages(family, arm)
    if not arm.code_switch:
        return Lexicons({}, {}, seen)
    assert family.lexicon  # `check` refuses --code_switch without it
    found, records = code_switch.read_lexicons(family.lexicon, seen, arm.skip_identities, arm.switch_treebank)
    return Lexicons(found, {record["config"]: record["sha256"] for record in records}, list(found))


def text_languages(arguments: TextArguments, family: FamilyArguments) -> list[str]:
    """Return --text_languages, else --train_languages; [] means all languages that the text has."""
    return list(dict.fromkeys(map(codes.normalize, arguments.text_languages))) or family_languages(family)


def dual_encoder_arguments(
    pairs: Sequence[Pairs],
    arm: ArmArguments,
    vectors: VectorArguments,
    mix: MixtureArguments,
    text_args: TextArguments,
    family: FamilyArguments,
    peft: PeftArguments,
) -> DualEncoderArguments:
    """Return the settings of a dual encoder's training, from the arguments of run_intermediate.py.

    Raises:
        UserError: an argument that a dual encoder does not take, or see `code_switch.check`.
    """
    why = "pairs train a dual encoder, which is not mixed with anything"
    refuse_unused(why, mix, but=["tasks"])
    refuse_unused(why, text_args)
    refuse_unused("a dual encoder trains all its weights", peft)
    if arm.language_mode not in BATCHES:
        raise UserError(
            f"--language_mode {arm.language_mode} is not for pairs ({pairs[0].name}), which have {', '.join(BATCHES)}."
        )
    if vectors.layer != "last" and not vectors.layer.isdecimal():
        raise UserError(f"--layer {vectors.layer}: expected the layer whose vectors are trained, a number or 'last'.")
    values = {f.name: getattr(arm, f.name) for f in dataclasses.fields(ChangeArguments)}
    values |= {f.name: getattr(vectors, f.name) for f in dataclasses.fields(PairArguments)}
    names = [task.name for task in pairs]
    batches = BATCHES[arm.language_mode]
    dual = DualEncoderArguments(do_train=True, train_tasks=names, batch_languages=batches, **values)
    code_switch.check(dual, family.lexicon)  # `check` has seen the arm's part, without --switch_side
    return dual


def check_adapter(arguments: PeftArguments) -> None:
    """Raise if the settings of an adapter are wrong, or given without --peft.

    Raises:
        UserError: what was given, and what to type.
    """
    if not arguments.peft:
        refuse_unused("it goes with --peft lora", arguments)
    elif arguments.lora_targets == []:
        raise UserError("--lora_targets must name a module, e.g. query value.")
