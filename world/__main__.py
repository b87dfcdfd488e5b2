"""`python -m world --out data/world --seed 0`: write the miniature world, or report that it exists."""

import argparse
import sys
from pathlib import Path

from . import NOISE


def main(argv: list[str] | None = None) -> int:
    """Run the command and return the exit code: 2 for an error that the user can correct."""
    parser = argparse.ArgumentParser(prog="python -m world", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("data/world"), help="folder to write (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="one seed, one world, byte for byte (default: 0)")
    parser.add_argument("--languages", type=int, default=4, help="invented languages beside English (default: 4)")
    parser.add_argument("--size", type=float, default=1.0, help="factor on every row count (default: 1)")
    parser.add_argument("--force", action="store_true", help="replace a world with other options")
    parser.add_argument(
        "--translate", type=Path, metavar="WORLD", help="write to --out the train rows of a world in every language"
    )
    parser.add_argument(
        "--noise", type=float, default=NOISE, help="share of words that go wrong in translation (default: %(default)s)"
    )
    parser.add_argument("--baseline", type=Path, metavar="FOLDER", help="print shared-word retrieval in a world")
    if any(word == "--" or word.endswith("=--") for word in (sys.argv[1:] if argv is None else argv)):
        parser.error("-- cannot be a value")  # argparse would drop it
    options = parser.parse_args(argv)
    for flag, needless in (
        ("baseline", ("out", "seed", "languages", "size", "force", "translate", "noise")),
        ("translate", ("seed", "languages", "size")),
    ):
        for name in needless if getattr(options, flag) else ():
            if getattr(options, name) != parser.get_default(name):
                parser.error(f"--{name} changes nothing beside --{flag}: leave it out")
    if options.noise != NOISE and not options.translate:
        parser.error("--noise changes nothing here: it goes with --translate")

    try:
        from .baseline import report
        from .files import WorldError, read_stamp, translate, write
    except ModuleNotFoundError as error:
        print(
            f"error: the package {error.name} is not installed for this Python. Type `make install`, then `source "
            ".venv/bin/activate`; or install requirements.txt.",
            file=sys.stderr,
        )
        return 2

    try:
        if options.baseline:
            print(report(options.baseline))
            return 0
        if options.translate:
            written = translate(options.translate, options.out, noise=options.noise, force=options.force)
        else:
            settings = {name: getattr(options, name) for name in ("seed", "languages", "size", "force")}
            written = write(options.out, **settings)
        files = read_stamp(options.out)["files"]
    except WorldError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    rows = sum(facts["rows"] for facts in files.values())
    state = "written" if written else "already there, unchanged"
    print(f"{options.out}: {state}, {len(files)} files, {rows:,} rows")
    return 0


if __name__ == "__main__":
    sys.exit(main())
