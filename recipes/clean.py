"""Remove what a matrix wrote into its folder: clean.py FOLDER. Other files stay, and their names are printed.

Needs no package, because `make clean` may come before there is an environment.
"""

import re
import shutil
import sys
from pathlib import Path

# every folder that a run writes holds one of these
RUN = ("run.json", "results.json", "failed.json", ".lock", ".unpacked", "cells.csv")


def delete(folder: Path) -> None:
    """Delete a folder with its contents; of a link, the link and its target."""
    if folder.is_symlink():
        target = folder.resolve()
        folder.unlink()
        folder = target
    shutil.rmtree(folder)


def remove(folder: Path) -> None:
    """Delete `folder` if a run wrote it, else the runs one level below it, and then `folder` if it is empty."""
    if not folder.is_dir():
        return
    for vectors in folder.glob(".vectors-*"):  # left by processes that were killed while they shared them
        shutil.rmtree(vectors)
    written = [
        one
        for one in (folder, *sorted(folder.iterdir()))
        if one.is_dir() and any((one / name).exists() for name in RUN)
    ]
    for one in written[:1] if folder in written else written:
        delete(one)
    if folder.is_dir() and not any(folder.iterdir()):
        delete(folder)


def main(out: Path) -> None:
    """Remove the matrix in a folder, and print what is left."""
    if not out.is_dir():
        return
    for folder in (out / "model", out / "report"):
        remove(folder)
    for log in out.glob("slurm/*_*.out"):
        log.unlink()
    for arm in sorted(out.iterdir()):
        for seed in sorted(arm.iterdir()) if arm.is_dir() else ():
            if re.fullmatch(r"seed\d+", seed.name):
                remove(seed)
        if arm.is_dir() and not any(arm.iterdir()):
            delete(arm)
    if left := sorted(path.name for path in out.iterdir()):
        print(f"{out}: kept, because the matrix did not write it: {' '.join(left)}")
    else:
        delete(out)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
