"""Runs scripts one after the other in this process, as one of those torchrun started: two_processes.py FILE

FILE is JSON, [[script, argument, ...], ...]. Used by test_processes.py: one start of two processes serves all of them.
Says at the end whether threads of the group are left, which can abort a process that has finished.
"""

import importlib
import json
from pathlib import Path


def main(argv: list[str]) -> None:
    for script, *arguments in json.loads(Path(argv[0]).read_text()):
        importlib.import_module(script.removesuffix(".py")).main(arguments)


if __name__ == "__main__":
    from xstilts.run.endings import command

    command(main)
    threads = [file.read_text() for file in Path("/proc/self/task").glob("*/comm")]
    print("threads of the group left:", sum("gloo" in name for name in threads))
