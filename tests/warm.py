"""Python in forks of a process that has imported torch: without the seconds of imports.

`python warm.py SOCKET run_target.py --task ...` does what `python run_target.py --task ...` does, in the caller's
folder and environment, and ends with the same exit code. For tests in which make starts many scripts. The fixture
`warm` of conftest.py is at the other end of SOCKET.

`run` is one such fork from its start to its end. The fixture `fork_python` of conftest.py calls it.
"""

import array
import contextlib
import json
import os
import select
import signal
import socket
import sys


def client(path: str, command: list[str]) -> int:
    message = json.dumps([os.getcwd(), dict(os.environ), command]).encode()
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(path)
        streams = array.array("i", [0, 1, 2])
        server.sendmsg([len(message).to_bytes(8, "big")], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, streams)])
        server.sendall(message)
        return int(server.recv(16) or b"1")  # nothing: the server is gone


def serve(path: str) -> None:
    """Start what clients ask for, without end."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(64)
        while True:
            connection, _ = listener.accept()
            with contextlib.suppress(ChildProcessError):  # none is there
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            if not os.fork():
                _answer(connection)
            connection.close()


def _answer(connection: socket.socket) -> None:
    """Run one command, tell the client its exit code, and end. If the client is killed, so is the command."""
    size, streams, _, _ = socket.recv_fds(connection, 8, 3)
    message = b""
    while len(message) < int.from_bytes(size, "big"):
        message += connection.recv(1 << 16)
    child = os.fork()
    if not child:
        connection.close()
        run(*json.loads(message), streams)
    while not (ended := os.waitpid(child, os.WNOHANG))[0]:
        if select.select([connection], [], [], 0.02)[0]:  # it says no more, so this is its end
            os.kill(child, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(ended[1])
    connection.sendall(str(code if code >= 0 else 128 - code).encode())
    os._exit(0)


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
    os.environ.update(environment)
    _read_environment_again()
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


def _read_environment_again() -> None:
    """The libraries of the Hub read it when they are imported; they look their constants up when they use them."""
    import importlib

    for name in ("huggingface_hub.constants", "datasets.config"):
        if name in sys.modules:
            importlib.reload(sys.modules[name])


if __name__ == "__main__":
    sys.exit(client(sys.argv[1], sys.argv[2:]))
