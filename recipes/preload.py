"""Start runs as forks of one process that has imported the libraries: a new Python takes seconds to import them.

    python recipes/preload.py --for COMMAND ...       run COMMAND; runs that it starts as below become forks of this
    python -IS recipes/preload.py run_target.py ...   what `python run_target.py ...` does, in such a fork

`make matrix` uses both (PRELOAD= leaves them out). A fork has the environment, arguments, streams, signals and exit
code of a new Python. Its memory is freed at its end, and killing it stops no other run. If no fork is possible, the
second command says why and becomes `python run_target.py ...` itself.

Imports nothing of ours: a fork imports xstilts and tasks itself, as a new Python would.
"""

from __future__ import annotations

import array
import atexit
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
from types import FrameType

FD = "XSTILTS_PRELOAD"  # environment variable: number of the socket for requests, which the children of make inherit
# what training and measurement import; tests/test_preload.py finds out what is missing here
LIBRARIES = tuple(
    """
torch transformers.trainer transformers.hf_argparser peft datasets scipy.stats sklearn.metrics seqeval.metrics
sentence_transformers faiss
""".split()
)
# threads that may run during a fork, because their library handles forks (jemalloc, in pyarrow)
FORK_SAFE = {"jemalloc_bg_thd"}
# variables that differ between commands of the same shell
OF_SHELL = ("SHLVL", "_")
# what a terminal, make, a shell or a scheduler sends; a run handles them, see xstilts.run.endings
SIGNALS = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGXCPU,
)
PR_SET_PDEATHSIG, PR_SET_NAME = 1, 15  # linux/prctl.h; the first: the signal to get when the parent ends


def main(argv: list[str]) -> None:
    """Run a command and serve its requests (--for), or request a fork for a script."""
    if argv[:1] != ["--for"]:
        request(argv)
    elif sys.platform != "linux":  # macOS: its own libraries crash in forks
        os.execvp(argv[1], argv[1:])
    else:
        succeeded: list[bool] = []
        atexit.register(leave, succeeded)  # the first, so that it is called last
        requests, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        server = Server(requests)
        prctl(PR_SET_PDEATHSIG, signal.SIGTERM)  # if make is killed, its matrix must not run on
        theirs.set_inheritable(True)
        # SIGPIPE and SIGXFSZ: Python ignores them, make does not
        command = os.posix_spawnp(
            argv[1],
            argv[1:],
            {**os.environ, FD: str(theirs.fileno())},
            setsigdef=[signal.SIGPIPE, signal.SIGXFSZ],
        )
        theirs.close()
        run(server.serve(command))
        succeeded.append(True)


# ---- one run: requests a fork and represents it ---------------------------------------------------------------------


def request(words: list[str]) -> None:
    """Run a script in a fork, pass signals to it, and exit as it exits. Without a fork, become the script."""
    number = os.environ.pop(FD, None)
    if number is not None:
        try:
            with socket.socket(fileno=os.dup(int(number))) as requests:
                connection = send(requests, words)
        except (OSError, ValueError) as error:
            reason = f"the process to fork from cannot be reached ({error})"
        else:
            reason = wait(connection)
        print(f"{words[0]} starts as a process of its own: {reason}.", file=sys.stderr, flush=True)
    os.execv(sys.executable, [sys.executable, *words])


def send(requests: socket.socket, words: list[str]) -> socket.socket:
    """Send a request with this process's stdin, stdout and stderr. Return the connection for the answers."""
    ours, theirs = socket.socketpair()
    with theirs:
        streams = array.array("i", [theirs.fileno(), 0, 1, 2])
        requests.sendmsg([b"1"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, streams)])
    environment = {name: value for name, value in os.environ.items() if name not in OF_SHELL}
    ours.sendall(json.dumps([sys.executable, os.getcwd(), environment, words]).encode() + b"\n")
    return ours


def wait(connection: socket.socket) -> str:
    """Wait for the fork and exit as it exited. Return the reason if there is no fork."""
    with connection.makefile() as answers:
        word, _, value = answers.readline().rstrip("\n").partition(" ")
        if word == "pid":
            pass_signals_on(int(value))
            word, _, value = answers.readline().rstrip("\n").partition(" ")
    if word == "ended":
        end_like(int(value))
    if word == "alone":
        return value
    sys.exit("recipes/preload.py has been killed, and this run with it.")


def pass_signals_on(pid: int) -> None:
    """Send each signal that arrives here to the fork, which has a process group of its own."""

    def pass_on(number: int, frame: FrameType | None) -> None:
        stops = number == signal.SIGTSTP
        try:
            os.kill(pid, signal.SIGSTOP if stops else number)
        except ProcessLookupError:  # it has just ended
            return
        if stops:
            os.kill(os.getpid(), signal.SIGSTOP)

    for number in (*SIGNALS, signal.SIGTSTP, signal.SIGCONT):
        if signal.getsignal(number) != signal.SIG_IGN:  # nohup's; the fork ignores it too
            signal.signal(number, pass_on)


def end_like(status: int) -> None:
    """End this process as another one did: with its exit code, or by the same signal."""
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        if code != -signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    sys.exit(code if code >= 0 else 128 - code)


# ---- the process that imports and forks -----------------------------------------------------------------------------


class Server:
    """Forks for requests while a command runs.

    Attributes:
        requests: where they arrive.
        runs: {process id of a fork: the connection to the process that represents it}.
        caller: (Python, folder, environment) of the first request. The libraries are imported in them, so a request
            with others gets no fork.
        unsafe: why this process may not be forked; "" if it may.
    """

    def __init__(self, requests: socket.socket):
        self.requests = requests
        self.runs: dict[int, socket.socket] = {}
        self.caller: tuple[str, str, dict[str, str]] | None = None
        self.unsafe = ""
        self.woken, self._wake = os.pipe()
        os.set_blocking(self._wake, False)
        self._handlers = {
            number: signal.signal(number, _wake_up)
            for number in (signal.SIGCHLD, *SIGNALS)
            if signal.getsignal(number) != signal.SIG_IGN
        }
        signal.set_wakeup_fd(self._wake)

    def serve(self, command: int | None) -> list[str]:
        """Fork until the command and all forks have ended, then end as the command did. In a fork, return its script.

        Of the signals only SIGTERM is passed on. A terminal sends the others to the command and to the runs itself.

        Args:
            command: its process id; None: serve without end.
        """
        status = None
        while status is None or self.runs:
            sockets = [*self.runs.values(), *([self.requests] if status is None else [])]
            ready = select.select([self.woken, *sockets], [], [])[0]
            if self.woken in ready:
                arrived = os.read(self.woken, 4096)
                if signal.SIGTERM in arrived and command and status is None:
                    os.kill(command, signal.SIGTERM)
                for pid, ended in reaped():
                    if pid == command:
                        status = ended
                    elif pid in self.runs:
                        with self.runs.pop(pid) as connection:
                            tell(connection, f"ended {ended}")
            for pid, connection in list(self.runs.items()):
                if connection in ready and not connection.recv(1):  # the process that represents the run was killed
                    os.kill(pid, signal.SIGKILL)
                    self.runs.pop(pid).close()
            if self.requests in ready and (script := self.answer()):
                return script
        end_like(status)
        return []

    def answer(self) -> list[str]:
        """Read a request and fork. Return the script in the fork, [] in this process."""
        _, descriptors, _, _ = socket.recv_fds(self.requests, 1, 4)
        if len(descriptors) < 4:
            return []
        connection, streams = socket.socket(fileno=descriptors[0]), descriptors[1:]
        try:
            with connection.makefile() as lines:
                line = lines.readline()
            if not line.endswith("\n"):  # the process was killed in the meantime
                connection.close()
                return []
            python, folder, environment, script = json.loads(line)
            if reason := self.prepare(python, folder, environment):
                tell(connection, f"alone {reason}")
                connection.close()
                return []
            return script if self.fork(os.path.basename(script[0]), connection, streams) else []
        finally:
            for stream in streams:
                os.close(stream)

    def prepare(self, python: str, folder: str, environment: dict[str, str]) -> str:
        """Import the libraries at the first request. Return why there can be no fork for this one; "" if there can."""
        if self.caller is None:
            self.caller = sys.executable, os.getcwd(), environment
            self.unsafe = preload(environment)
        elif differing := {name for name, _ in self.caller[2].items() ^ environment.items()}:
            return f"{', '.join(sorted(differing))} in its environment is not as in that of the first run"
        if self.caller[:2] != (python, folder):
            return f"it runs with {python} in {folder}, the first run with {self.caller[0]} in {self.caller[1]}"
        return self.unsafe

    def fork(self, name: str, connection: socket.socket, streams: list[int]) -> bool:
        """Return True in a new process, which has the streams as its own and the signal handlers of a new Python."""
        parent = os.getpid()
        # a signal that comes now waits until the handlers are there
        signal.pthread_sigmask(signal.SIG_BLOCK, self._handlers)
        pid = os.fork()
        if pid:
            self.runs[pid] = connection
            tell(connection, f"pid {pid}")
        else:
            prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            prctl(PR_SET_NAME, name.encode()[:15])  # the name that top shows
            if os.getppid() != parent:  # it ended before
                os._exit(1)
            os.setpgid(0, 0)  # a terminal's signals come once, from the process that represents this one
            signal.set_wakeup_fd(-1)
            for number, handler in self._handlers.items():
                signal.signal(number, handler)
            for own in (self.requests, connection, *self.runs.values()):
                own.close()
            for descriptor in (self.woken, self._wake):
                os.close(descriptor)
            for number, stream in enumerate(streams):
                os.dup2(stream, number)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, self._handlers)
        return not pid


def _wake_up(number: int, frame: FrameType | None) -> None:
    """Do nothing. Python needs a handler to write the signal's number to the pipe that `Server.serve` reads."""


def reaped() -> list[tuple[int, int]]:
    """Return (process id, status) of the child processes that have ended."""
    found = []
    try:
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            found.append(ended)
    except ChildProcessError:
        pass
    return found


def tell(connection: socket.socket, line: str) -> None:
    """Send a line to the process that represents a run. `Server.serve` notices if it is gone."""
    try:
        connection.sendall(line.encode() + b"\n")
    except OSError:
        pass


def preload(environment: dict[str, str]) -> str:
    """Import the libraries in this environment. Return why this process may not be forked then; "" if it may."""
    os.environ.clear()
    os.environ.update(environment)
    sys.path[0] = os.getcwd()
    for name in LIBRARIES:
        try:
            importlib.import_module(name)
        except Exception as error:  # each run reports itself what is missing
            return f"{name} cannot be imported ({type(error).__name__})"
    gc.collect()
    gc.freeze()  # garbage collection in a fork then skips these objects, and does not copy their pages
    # OpenBLAS starts threads when it is loaded. It ends them before a fork, and each fork starts its own.
    if not (pid := os.fork()):
        os._exit(0)
    os.waitpid(pid, 0)
    if found := sorted(threads() - FORK_SAFE):
        return f"a library has started threads ({', '.join(found)})"
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        return "a library has begun to use the GPU"
    return ""


def threads() -> set[str]:
    """Return the names of this process's threads but the main one."""
    found = set()
    for number in os.listdir("/proc/self/task"):
        if int(number) != os.getpid():
            with open(f"/proc/self/task/{number}/comm") as file:
                found.add(file.read().strip())
    return found


# ---- in a fork ------------------------------------------------------------------------------------------------------


def prctl(option: int, value: int | bytes) -> None:
    """Set an attribute of this process: see man 2 prctl."""
    import ctypes  # imported here, so that `request` starts fast

    ctypes.CDLL(None).prctl(option, value)


def run(words: list[str]) -> None:
    """Do what `python WORD ...` does, for a script or -m MODULE."""
    import runpy

    sys.stdout.reconfigure(line_buffering=sys.stdout.isatty())
    if words[0] == "-m":
        sys.argv = words[1:]
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = words
        sys.path[0] = os.path.dirname(os.path.abspath(words[0]))
        runpy.run_path(words[0], run_name="__main__")


def leave(succeeded: list[bool]) -> None:
    """End a fork whose script has come to its end. Python would take half a second to free what was imported."""
    if succeeded:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
