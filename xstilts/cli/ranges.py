"""The numbers that the scripts' own arguments may have. `xstilts.cli.parsing` checks them when it parses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import TYPE_CHECKING

from tasks.errors import UserError
from xstilts.cli.words import check_finite

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

# {argument: (least, most)}, None: no limit. `range` and slices would accept others and do something else.
RANGES: dict[str, tuple[int, int | None]] = {
    "max_train_samples": (1, None),
    "max_eval_samples": (1, None),
    "max_samples": (1, None),
    "max_seq_length": (1, None),
    "examples_cap": (1, None),
    "cached_loss_mini_batch": (1, None),
    "seed": (0, 2**32 - 1),
    "vocab_size": (1, 2**31 - 1),
    "lora_rank": (1, 2**16),
}
ABOVE_0: tuple[str, Callable[[float], bool]] = ("a number above 0", lambda x: x > 0)
BELOW_1: tuple[str, Callable[[float], bool]] = ("a number from 0 to below 1", lambda x: 0 <= x < 1)
# {argument: (what is expected, whether a number is that)}
NUMBERS: dict[str, tuple[str, Callable[[float], bool]]] = {
    "alpha": ("a number from 0 to 1", lambda x: 0 <= x <= 1),
    "switch_probability": ("a number above 0, at most 1", lambda x: 0 < x <= 1),
    "mlm_probability": ("a number between 0 and 1", lambda x: 0 < x < 1),
    "mlm_rate": BELOW_1,
    "lora_dropout": BELOW_1,
    "lora_alpha": ABOVE_0,
    "temperature": ABOVE_0,
    "scale": ABOVE_0,
}


def check_numbers(arguments: DataclassInstance) -> None:
    """Raise if a number is out of range.

    Raises:
        UserError: names the argument.
    """
    for f in fields(arguments):
        value = getattr(arguments, f.name)
        check_finite(f.name, value)
        if value is None:
            continue
        if f.name in NUMBERS and not NUMBERS[f.name][1](value):
            raise UserError(f"--{f.name} {value}: expected {NUMBERS[f.name][0]}.")
        least, most = RANGES.get(f.name, (value, None))
        if value < least or (most is not None and value > most):
            raise UserError(
                f"--{f.name} {value}: give {least} "
                + (f"to {most}." if most is not None else "at least, or leave it out.")
            )
