"""Run a command on a GPU that no other run has: LAUNCH="python recipes/free_gpu.py", and `make -j8` uses eight GPUs.

    python recipes/free_gpu.py [--gpus N] COMMAND ...

It waits until N GPUs (1 unless given) are free, shows the command only these (CUDA_VISIBLE_DEVICES) and keeps them
until the command ends, however it ends. The GPUs to choose from are those of CUDA_VISIBLE_DEVICES, else all that
nvidia-smi lists. What is taken is a lock on a file in $XSTILTS_GPU_LOCKS (a folder in the system's temporary folder
unless given), one for each GPU, for all users and matrices of a machine that name the same folder. Programs that are
started without this one are not seen.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from filelock import FileLock, Timeout

WAIT = 1.0  # seconds between two looks


def gpus() -> list[str]:
    """Return the GPUs to choose from, as CUDA_VISIBLE_DEVICES names them.

    Raises:
        SystemExit: there is no GPU.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        try:
            query = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
            visible = ",".join(subprocess.run(query, capture_output=True, text=True, check=True).stdout.split())
        except (OSError, subprocess.CalledProcessError) as error:
            sys.exit(f"free_gpu.py: nvidia-smi does not list any GPU ({error}). Set CUDA_VISIBLE_DEVICES=0,1,...")
    found = [gpu.strip() for gpu in visible.split(",") if gpu.strip()]
    if not found:
        sys.exit("free_gpu.py: CUDA_VISIBLE_DEVICES is empty: there is no GPU to take. Unset it, or leave LAUNCH out.")
    return found


def make_folder(folder: Path) -> None:
    """Create the folder of the locks, writable for all users as the temporary folder is. One that is there stays."""
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        return
    folder.chmod(0o1777)


def take(names: list[str], number: int, folder: Path) -> dict[str, FileLock]:
    """Wait until `number` GPUs are free; return {GPU: its lock}.

    Two runs that each hold a part of what both need would wait forever, so each gives its part back.
    """
    announced = False
    while True:
        held: dict[str, FileLock] = {}
        for name in names:
            lock = FileLock(folder / f"{name.replace('/', '_')}.lock", mode=0o666)
            try:
                lock.acquire(timeout=0)
            except Timeout:
                continue
            held[name] = lock
            if len(held) == number:
                return held
        for lock in held.values():
            lock.release()
        if not announced:
            announced = True
            print(f"free_gpu.py: waiting for {number} of the GPUs {','.join(names)}.", file=sys.stderr, flush=True)
        time.sleep(WAIT * (1 + os.getpid() % 10 / 20))  # not all at the same time


def main(argv: list[str]) -> int:
    """Return the exit status of the command; 128 + n if signal n ended it."""
    number = 1
    if argv[:1] == ["--gpus"]:
        if len(argv) < 2 or not argv[1].isdigit() or int(argv[1]) < 1:
            sys.exit(f"free_gpu.py: --gpus {' '.join(argv[1:2])}: expected a number of GPUs, such as 2.")
        number, argv = int(argv[1]), argv[2:]
    if not argv:
        sys.exit((__doc__ or "").strip())
    names = gpus()
    if number > len(set(names)):
        sys.exit(f"free_gpu.py: --gpus {number}: there are only {len(set(names))} ({','.join(names)}).")
    folder = Path(os.environ.get("XSTILTS_GPU_LOCKS") or Path(tempfile.gettempdir(), "xstilts-gpus"))
    try:
        make_folder(folder)
        held = take(list(dict.fromkeys(names)), number, folder)
    except OSError as error:
        sys.exit(f"free_gpu.py: no lock can be taken in {folder} ({error}). Name another folder in XSTILTS_GPU_LOCKS.")
    run = subprocess.Popen(argv, env=os.environ | {"CUDA_VISIBLE_DEVICES": ",".join(held)})
    for kind in (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(kind, lambda kind, frame: run.send_signal(kind))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the command by itself
    code = run.wait()
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
