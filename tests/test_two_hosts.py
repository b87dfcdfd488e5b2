"""One run on two hosts, which are network namespaces with a cable between them; and what happens when it is pulled.

Needs root; not part of `make test`: pytest -m hosts.
"""

import importlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import records

from xstilts.run import results

pytestmark = pytest.mark.hosts
ROOT = Path(__file__).resolve().parents[1]
ADDRESSES = ["10.213.7.1", "10.213.7.2"]
ARGUMENTS = [
    "--task",
    "udpos",
    "--languages",
    "en",
    "qaa",
    "--max_eval_samples",
    "5",
    "--num_train_epochs",
    "10",
    "--optim",
    "sgd",
    "--learning_rate",
    "0.1",
    "--bf16",
    "false",
    "--disable_tqdm",
    "true",
    "--max_seq_length",
    "48",
]


def ip(*words):
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


@pytest.fixture
def hosts():
    """Names of two network namespaces, each with an interface of the same name; skips with the reason where there can
    be none."""
    if not shutil.which("ip") or os.geteuid() != 0:
        pytest.skip("network namespaces need root and the program ip (package iproute2)")
    names = [f"xs{os.getpid()}{side}" for side in "ab"]
    try:
        for name in names:
            ip("netns", "add", name)
        ip("link", "add", names[0], "netns", names[0], "type", "veth", "peer", "name", names[1], "netns", names[1])
        for name, address in zip(names, ADDRESSES, strict=True):
            ip("-n", name, "address", "add", f"{address}/24", "dev", name)
            ip("-n", name, "link", "set", name, "up")
            ip("-n", name, "link", "set", "lo", "up")
        yield names
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no network namespaces here: {error.stderr.strip()}")
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], capture_output=True)


@pytest.fixture
def start(hosts, tmp_path):
    """`start(launcher, output, model, world)`: one process on each host, together 2 x 4 rows a step -> the two
    launchers, running."""
    launchers = {
        "torchrun": lambda rank: [
            "torch.distributed.run",
            "--nnodes",
            "2",
            "--nproc_per_node",
            "1",
            "--node_rank",
            str(rank),
            "--master_addr",
            ADDRESSES[0],
            "--master_port",
            "29500",
        ],
        "accelerate": lambda rank: [
            "accelerate.commands.launch",
            "--config_file",
            "recipes/accelerate/nodes-2.yaml",
            "--num_processes",
            "2",
            "--machine_rank",
            str(rank),
            "--main_process_ip",
            ADDRESSES[0],
        ],
    }
    running = []

    def start_both(launcher, output, model, world):
        for rank, host in enumerate(hosts):
            command = [
                "ip",
                "netns",
                "exec",
                host,
                sys.executable,
                "-m",
                *launchers[launcher](rank),
                "run_target.py",
                *ARGUMENTS,
                "--ddp_timeout",
                "20",
                "--per_device_train_batch_size",
                "4",
                "--model_name_or_path",
                model,
                "--data_root",
                world,
                "--output_dir",
                output,
            ]
            environment = os.environ | {
                "GLOO_SOCKET_IFNAME": host,
                "ACCELERATE_USE_CPU": "true",
                "PYTHONPATH": str(ROOT),
            }
            with open(tmp_path / f"{launcher}-{rank}.log", "w") as log:
                running.append(
                    subprocess.Popen(list(map(str, command)), cwd=ROOT, env=environment, stdout=log, stderr=log)
                )
        return running[-2:]

    yield start_both
    for process in running:
        process.kill()
        process.wait()


def test_run_resumes_after_a_host_was_cut_off(start, hosts, still_model, tiny_world, tmp_path):
    """Both stop with one line, soon; started again they end with the scores of one process that has the same
    batches."""
    importlib.import_module("run_target").main(
        [
            *ARGUMENTS,
            "--per_device_train_batch_size",
            "8",
            "--model_name_or_path",
            str(still_model),
            "--data_root",
            str(tiny_world),
            "--output_dir",
            str(tmp_path / "one"),
        ]
    )
    out = tmp_path / "two"
    both = start("accelerate", out, still_model, tiny_world)
    end = time.time() + 100
    while not list(out.glob("checkpoint-*/trainer_state.json")):
        assert time.time() < end and all(process.poll() is None for process in both), (
            tmp_path / "accelerate-0.log"
        ).read_text()[-3000:]
        time.sleep(0.05)
    ip("-n", hosts[1], "link", "set", hosts[1], "down")
    assert all(process.wait(timeout=60) for process in both)
    for rank in (0, 1):
        (said,) = [
            line
            for line in (tmp_path / f"accelerate-{rank}.log").read_text().splitlines()
            if "run_target.py: error:" in line
        ]
        assert "another process of this run has ended, or cannot be reached" in said
    assert not (out / "results.json").exists() and "cannot be reached" in results.failures(tmp_path)["two"]

    ip("-n", hosts[1], "link", "set", hosts[1], "up")
    both = start("torchrun", out, still_model, tiny_world)
    log = tmp_path / "torchrun-0.log"
    assert [process.wait(timeout=100) for process in both] == [0, 0], log.read_text()[-3000:]
    assert "World size: 2" in log.read_text() and f"Resuming from {out}/checkpoint-" in log.read_text()
    one, two = (records.read(tmp_path / name / "results.json") for name in ("one", "two"))
    for key in ("scores", "dev", "n"):
        assert one[key] == two[key]
    assert one["measures"]["steps"] == two["measures"]["steps"] and results.failures(tmp_path) == {}
