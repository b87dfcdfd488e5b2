"""recipes/free_gpu.py: as many runs at a time as there are GPUs, each on its own. GPUs are only names here."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter

from conftest import ROOT

# looks every few hundredths of a second, not every second
OFTEN = (
    "import sys; sys.path.insert(0, 'recipes'); import free_gpu as f; f.WAIT = 0.05; sys.exit(f.main(sys.argv[1:]))"
)
LAUNCHER = [sys.executable, "-c", OFTEN]
# notes when it began and ended, and which GPU it saw
NOTE = """
import os, sys, time
from pathlib import Path
begin = time.monotonic()
time.sleep(float(sys.argv[2]))
Path(sys.argv[1]).write_text(f"{begin} {time.monotonic()} {os.environ['CUDA_VISIBLE_DEVICES']}")
"""


def start(folder, *command, gpus="0,1", **environment):
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": gpus, "XSTILTS_GPU_LOCKS": str(folder / "locks")} | environment
    return subprocess.Popen(
        [*LAUNCHER, *map(str, command)], cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True
    )


def catches(process, number):
    """Whether the process has a handler for the signal."""
    (mask,) = [line.split()[1] for line in open(f"/proc/{process.pid}/status") if line.startswith("SigCgt")]
    return bool(int(mask, 16) >> (number - 1) & 1)


def test_runs_at_the_same_time_have_different_gpus(tmp_path):
    runs = [start(tmp_path, sys.executable, "-c", NOTE, tmp_path / str(i), 0.3, gpus="GPU-a,GPU-b") for i in range(5)]
    assert [run.wait(30) for run in runs] == [0] * 5
    notes = [(tmp_path / str(i)).read_text().split() for i in range(5)]
    assert {gpu for *_, gpu in notes} == {"GPU-a", "GPU-b"}
    events = sorted(
        [(float(begin), 1, gpu) for begin, _, gpu in notes] + [(float(end), -1, gpu) for _, end, gpu in notes]
    )
    busy = Counter()
    for _, change, gpu in events:
        busy[gpu] += change
        assert busy[gpu] <= 1


def test_several_gpus_for_one_run(tmp_path):
    runs = [
        start(tmp_path, "--gpus", 2, sys.executable, "-c", NOTE, tmp_path / str(i), 0.2, gpus="0,1,2") for i in (1, 2)
    ]
    assert [run.wait(30) for run in runs] == [0, 0]
    assert [len((tmp_path / str(i)).read_text().split()[2].split(",")) for i in (1, 2)] == [2, 2]


def test_the_exit_status_is_the_commands_and_a_killed_run_frees_its_gpu(tmp_path):
    assert start(tmp_path, "sh", "-c", "exit 7", gpus="0").wait(20) == 7
    run = start(tmp_path, "sleep", 60, gpus="0")
    while not catches(run, signal.SIGTERM):
        assert run.poll() is None
        time.sleep(0.02)
    run.send_signal(signal.SIGTERM)
    assert run.wait(20) == 128 + signal.SIGTERM
    assert start(tmp_path, "true", gpus="0").wait(20) == 0


def test_what_cannot_be_had_is_refused_at_once(tmp_path):
    for gpus, command, told in (
        ("0,1", ["--gpus", "3", "true"], "there are only 2"),
        ("0,1", ["--gpus", "no", "true"], "expected a number"),
        ("", ["true"], "CUDA_VISIBLE_DEVICES is empty"),
    ):
        run = start(tmp_path, *command, gpus=gpus)
        _, stderr = run.communicate(timeout=20)
        assert run.returncode == 1 and told in stderr


def test_other_users_can_put_their_locks_into_the_folder(tmp_path):
    assert start(tmp_path, "true").wait(20) == 0
    assert (tmp_path / "locks").stat().st_mode & 0o777 == 0o777


def test_a_folder_that_cannot_hold_locks_is_named(tmp_path):
    (tmp_path / "locks").write_text("no folder")
    run = start(tmp_path, "true")
    _, stderr = run.communicate(timeout=20)
    assert run.returncode == 1 and str(tmp_path / "locks") in stderr and "Traceback" not in stderr


def test_gpus_are_those_of_nvidia_smi(tmp_path):
    tool = tmp_path / "bin" / "nvidia-smi"
    tool.parent.mkdir()
    tool.write_text("#!/bin/sh\nprintf '0\\n1\\n'\n")
    tool.chmod(0o755)
    environment = {k: v for k, v in os.environ.items() if k != "CUDA_VISIBLE_DEVICES"}
    environment |= {"PATH": f"{tool.parent}:{os.environ['PATH']}", "XSTILTS_GPU_LOCKS": str(tmp_path)}
    command = [*LAUNCHER, "--gpus", "2", "sh", "-c", "echo $CUDA_VISIBLE_DEVICES"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=20)
    assert done.stdout == "0,1\n", done.stderr
