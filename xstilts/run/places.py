"""A run's arm and seed: from the arguments, the checkpoint's record, or the name of the folder.

The report reads a cell only from OUT/<arm>/seed<k>/<task>, with the same arm and seed in its results.json. A run that
would not fit is refused here, before any work.
"""

from __future__ import annotations

import re
from pathlib import Path

from tasks.errors import UserError
from xstilts.cli.arguments import MeasurementArguments, RunArguments
from xstilts.cli.arms import PLAIN
from xstilts.run.record import FILE_NAME, Record

SEED_FOLDER = r"seed(0|[1-9]\d*)"  # phase 2 lies in <arm>/seed<k>
BUILT = "model"  # the arm name of the plain model that make trains itself


def of_folder(folder: str | Path | None) -> tuple[str | None, int | None]:
    """Return (arm, seed) from a phase 2's folder <arm>/seed<k>; (None, None) for any other folder, or None."""
    path = Path(folder or "/").absolute()
    found = re.fullmatch(SEED_FOLDER, path.name)
    return (path.parent.name or None, int(found[1])) if found else (None, None)


def settle_training(run: RunArguments) -> None:
    """Fill in `run.seed`, and `run.arm` if the folder names it, for phase 1 or 2.

    Raises:
        UserError: the folder names another arm or seed than the arguments.
    """
    _settle(run, None, None, of_folder(run.output_dir), "trains")


def settle_measurement(run: MeasurementArguments, model: str, folder: str | Path | None) -> None:
    """Fill in `run.arm` and `run.seed` for a phase 3 that starts from `model` and writes to `folder`.

    A plain model is arm none, with any seed. A model is plain if it has no record, if --plain_model is given, or if
    make trained it as the model of all arms.

    Raises:
        UserError: --arm or --seed contradicts the model's record, or the folder names another arm or seed.
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


def _settle(
    run: RunArguments, arm: str | None, seed: int | None, named: tuple[str | None, int | None], does: str
) -> None:
    run.arm = run.arm or arm or named[0]
    run.seed = next(value for value in (run.seed, seed, named[1], 0) if value is not None)
    if named[0] is not None and (run.arm, run.seed) != named:
        raise UserError(
            f"--output_dir: the folder {named[0]}/seed{named[1]} means arm {named[0]}, seed {named[1]}, but this run "
            f"{does} as arm {run.arm}, seed {run.seed}: the report would leave it out. Give a folder "
            f"{run.arm}/seed{run.seed}."
        )
