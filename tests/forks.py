"""Python in forks of a process that has imported torch: without the seconds of imports.

`run` is such a fork from its start to its end. The fixtures `fork_python` and `preloaded` of conftest.py call it.
"""

import os
import sys


def run(folder: str, environment: dict[str, str], command: list[str], streams: list[int]) -> None:
    """Do what `python COMMAND` does (a script, `-m module` or `-c code`, then arguments), and end this process.

    Args:
        streams: file descriptors of stdin, stdout and stderr.
    """
    import logging
    import runpy
    import traceback

    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)  # of runs in the process that was forked
    for handler in logging.getLogger().handlers[:]:  # pytest's
        logging.getLogger().removeHandler(handler)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    sys.stdout, sys.stderr = (open(number, "w", buffering=1, closefd=False) for number in (1, 2))
    os.environ.clear()
    # a tokenizer's threads are not there in a fork, and it would wait for them: xstilts/__init__.py says so too
    os.environ.update(environment | {"TOKENIZERS_PARALLELISM": "false"})
    _read_environment_again()
    _own_locks()
    os.chdir(folder)
    code = 0
    sys.path.insert(0, folder)
    try:
        if command[0] == "-m":
            sys.argv = command[1:]
            runpy.run_module(command[1], run_name="__main__", alter_sys=True)
        elif command[0] == "-c":
            sys.argv = ["-c", *command[2:]]
            exec(command[1], {"__name__": "__main__"})
        else:
            sys.argv = command
            runpy.run_path(command[0], run_name="__main__")
    except SystemExit as leave:
        code = leave.code if isinstance(leave.code, int) else int(leave.code is not None)
        if isinstance(leave.code, str):
            print(leave.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _own_locks() -> None:
    """Give this fork locks of its own for progress bars.

    Forks share one between processes: one that is killed while it holds it would stop the others. And a thread of the
    tests' process may have held the other when this was forked.
    """
    import threading

    from tqdm.std import TqdmDefaultWriteLock, tqdm

    TqdmDefaultWriteLock.th_lock = threading.RLock()
    if "mp_lock" in vars(TqdmDefaultWriteLock):
        del TqdmDefaultWriteLock.mp_lock
    bars = [tqdm]
    for bar in bars:  # grows meanwhile
        bars += bar.__subclasses__()
        if "_lock" in vars(bar):
            del bar._lock


def _read_environment_again() -> None:
    """The libraries of the Hub read it when they are imported; they look their constants up when they use them.

    The clients that they keep have the Hub's address of when they were made.
    """
    import importlib

    from huggingface_hub import constants

    from tests.hub_server import clients

    for name in ("huggingface_hub.constants", "datasets.config"):
        if name in sys.modules:
            importlib.reload(sys.modules[name])
    for client in clients():
        client.endpoint = constants.ENDPOINT
