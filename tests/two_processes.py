"""Runs scripts one after the other in this process, as one of those torchrun started: two_processes.py FILE

FILE is JSON, [[script, argument, ...], ...]. Used by test_processes.py: one start of two processes serves all of them.
"""

import importlib
import json
import sys
from pathlib import Path

if __name__ == "__main__":
    from xstilts.arguments import command

    for script, *arguments in json.loads(Path(sys.argv[1]).read_text()):
        sys.argv = [script, *arguments]
        command(importlib.import_module(script.removesuffix(".py")).main)
