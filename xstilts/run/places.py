"""Where a run belongs in the matrix, its arm and seed: as given, as its checkpoint's record says, or as its folder is
named.

The report takes a cell only from OUT/<arm>/seed<k>/<task> of the very arm and seed in its results.json. What would not
fit is refused here, before any work.
"""

from __future__ import annotations

import re
from pathlib import Path

from xstilts.errors import UserError
from xstilts.run.record import FILE_NAME, Record

PLAIN = "none"
BUILT = "model"  # the arm that make gives the plain model it trains itself


def of_folder(folder: str | Path | None) -> tuple[str | None, int | None]:
    """(arm, seed) by the name of a phase 2's folder, <arm>/seed<k>; (None, None) of any other, or of none."""
    path = Path(folder or "/").absolute()
    found = re.fullmatch(r"seed(0|[1-9]\d*)", path.name)
    return (path.parent.name or None, int(found[1])) if found else (None, None)


def settle_training(run) -> None:
    """Fill in `run.seed`, and `run.arm` where the folder names it, of a phase 1 or 2.

    Raises:
        UserError: the folder is named for another arm or seed than those given.
    """
    _settle(run, None, None, of_folder(run.output_dir), "trains")


def settle_measurement(run, model: str, folder: str | Path | None) -> None:
    """Fill in `run.arm` and `run.seed` of a phase 3 that starts from `model` and writes to `folder`.

    A plain model, one without a record, with --plain_model, or trained by make, is arm none at any seed.

    Raises:
        UserError: arm or seed are given and the record says otherwise, or the folder is named for others.
    """
    path, named = Path(model, FILE_NAME), of_folder(folder and Path(folder).absolute().parent)
    record = Record.read(path) if path.is_file() and not run.plain_model else None
    if record is None or (record.phase, record.arm) == ("mlm", BUILT):
        if run.plain_model and run.arm not in (None, PLAIN):
            raise UserError(f"--arm {run.arm} and --plain_model: a plain model is arm {PLAIN}. Give one of them.")
        run.arm = run.arm or PLAIN
        _settle(run, None, None, named, f"measures {model}, which has no record of an arm,")
        return
    for name in ("arm", "seed"):
        given, recorded = getattr(run, name), getattr(record, name)
        if given is not None and given != recorded:
            raise UserError(
                f"--{name} {given}: {path} says {name} {recorded}. Leave --{name} out; or, to take this checkpoint as "
                "the plain model of another matrix, give --plain_model."
            )
    _settle(run, record.arm, record.seed, named, f"measures {model}")


def _settle(run, arm: str | None, seed: int | None, named: tuple[str | None, int | None], does: str) -> None:
    run.arm = run.arm or arm or named[0]
    run.seed = next(value for value in (run.seed, seed, named[1], 0) if value is not None)
    if named[0] is not None and (run.arm, run.seed) != named:
        raise UserError(
            f"--output_dir: a folder {named[0]}/seed{named[1]} is of arm {named[0]}, seed {named[1]}, but this run "
            f"{does} as arm {run.arm}, seed {run.seed}: the report would leave it out. Give a folder "
            f"{run.arm}/seed{run.seed}."
        )
