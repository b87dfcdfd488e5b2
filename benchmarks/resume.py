"""How soon a killed training is at work again: `python benchmarks/training.py resume`."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def benchmark_resume(args: argparse.Namespace) -> None:
    steps = 3 * args.save_steps
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable,
            "run_mlm.py",
            "--data_root",
            args.data_root,
            "--output_dir",
            f"{folder}/model",
            "--config_name",
            "recipes/models/xlmr-tiny.json",
            "--vocab_size",
            "2000",
            "--mlm_probability",
            "0.2",
            "--learning_rate",
            "2e-3",
            "--per_device_train_batch_size",
            "32",
            "--max_steps",
            str(steps),
            "--bf16",
            "False",
            "--save_strategy",
            "steps",
            "--save_steps",
            str(args.save_steps),
            "--logging_steps",
            "1",
            "--disable_tqdm",
            "True",
        ]
        first, times, _ = steps_of(command, until=2 * args.save_steps + args.save_steps // 2)
        interval = times[2 * args.save_steps] - times[args.save_steps]
        again, _, said = steps_of(command, until=1)
    if f"checkpoint-{2 * args.save_steps}" not in said:
        sys.exit(f"It did not go on from the second checkpoint:\n{said[-2000:]}")
    print(
        f"resume: {first:.1f} s from the command to the first step, {again:.1f} s when started again; "
        f"{args.save_steps} steps from one checkpoint to the next {interval:.1f} s: {again / interval:.2f} of an "
        "interval"
    )


def steps_of(command: list[str], until: int) -> tuple[float, list[float], str]:
    """Runs a training that logs every step, and kills it after step `until`.

    Returns:
        (seconds from the command to the end of its first step, the seconds at which each step ended, all it said).
    """
    start, times, said = time.perf_counter(), [], []
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    for line in process.stdout:
        said.append(line)
        if ": loss " in line:
            times.append(time.perf_counter() - start)
            if len(times) == until:
                process.send_signal(signal.SIGKILL)
                break
    process.stdout.close()
    process.wait()
    if len(times) < until:
        sys.exit("".join(said)[-2000:])
    return times[0], times, "".join(said)
