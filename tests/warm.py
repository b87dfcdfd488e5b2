"""Scripts in forks of a process that has imported torch: `python warm.py SOCKET run_target.py --task ...`

It does what `python run_target.py --task ...` does, in the caller's folder and environment, and ends with the same
exit code, without the seconds of imports. For tests in which make starts many scripts. The fixture `warm` of
conftest.py is at the other end of SOCKET.
"""

import array
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
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # so that no child is left as a zombie
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(64)
        while True:
            connection, _ = listener.accept()
            if not os.fork():
                _answer(connection)
            connection.close()


def _answer(connection: socket.socket) -> None:
    """Run one command, tell the client its exit code, and end. If the client is killed, so is the command."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    size, streams, _, _ = socket.recv_fds(connection, 8, 3)
    message = b""
    while len(message) < int.from_bytes(size, "big"):
        message += connection.recv(1 << 16)
    child = os.fork()
    if not child:
        connection.close()
        _run(*json.loads(message), streams)
    while not (ended := os.waitpid(child, os.WNOHANG))[0]:
        if select.select([connection], [], [], 0.02)[0]:  # it says no more, so this is its end
            os.kill(child, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(ended[1])
    connection.sendall(str(code if code >= 0 else 128 - code).encode())
    os._exit(0)


def _run(folder: str, environment: dict[str, str], command: list[str], streams: list[int]) -> None:
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
    os.chdir(folder)
    sys.argv, code = command, 0
    sys.path.insert(0, folder)
    try:
        runpy.run_path(command[0], run_name="__main__")
    except SystemExit as leave:
        code = leave.code if isinstance(leave.code, int) else int(leave.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    sys.exit(client(sys.argv[1], sys.argv[2:]))
