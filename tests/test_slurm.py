"""A matrix through a real Slurm, brought up on this machine as docs/scaling.md says: a run for each srun, and array
jobs.

Needs root and the packages; not part of `make test`: pytest -m slurm.
"""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest
import records
from safetensors.torch import load_file

from xstilts.run.checkpoints import is_whole

pytestmark = pytest.mark.slurm
ROOT = Path(__file__).resolve().parents[1]
PROGRAMS = ["slurmctld", "slurmd", "srun", "sbatch", "munged"]


@pytest.fixture(scope="module")
def slurm():
    """`slurm("squeue", ..., code=0)`: what a command prints (on stderr, where it is to fail), beside a Slurm of one
    node.

    Skips with the reason where there can be none.
    """
    missing = [program for program in PROGRAMS if not shutil.which(program)]
    if missing or os.geteuid() != 0:
        pytest.skip(
            f"no Slurm here: {' '.join(missing)} not installed"
            if missing
            else "Slurm's own daemons are started as root only"
        )
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    folder = tempfile.mkdtemp(prefix="xstilts-slurm-")  # not pytest's: munged takes none that others cannot enter
    kept = {
        k: v
        for k, v in os.environ.items()
        if not k.startswith(("MAKE", "MFLAGS", "SLURM_")) and k not in ("PY", "PRESET", "OUT")
    }
    environment = kept | {"SLURM_CONF": f"{folder}/slurm.conf", "PORT": str(port)}

    def run(*command, code=0):
        done = subprocess.run(
            list(map(str, command)),
            cwd=ROOT,
            env=environment,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=300,
        )
        assert done.returncode == code, f"{command}: {done.stdout[-2000:]}{done.stderr[-3000:]}"
        return done.stderr if code else done.stdout

    up = subprocess.run(
        ["recipes/slurm/one-machine.sh", "start", folder], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    try:
        if up.returncode:
            pytest.skip(f"Slurm does not come up here: {up.stderr.strip()[-500:]}")
        yield run
    finally:
        run("recipes/slurm/one-machine.sh", "stop", folder)
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def variables(tiny_model, tiny_world):
    """`variables(out, arms)`: make's, of a matrix with one target, and trainings of several checkpoints."""
    few = (
        "--max_train_samples 80 --num_train_epochs 15 --max_eval_samples 8 --per_device_train_batch_size 4 "
        "--max_seq_length 48 --bf16 False"
    )

    def of(out, arms="none mnli"):
        return [
            f"PY={sys.executable}",
            "PRESET=world",
            f"OUT={out}",
            f"MODEL={tiny_model}",
            f"DATA_ROOT={tiny_world}",
            "WORLD_ARGS=",
            "MLM_ARGS=",
            f"ARMS={arms}",
            "TARGETS=udpos",
            "RETRIEVAL=",
            "SEEDS=0",
            "ARGS_udpos=--languages en qaa",
            *(["ARGS_squad=--unheard_of 1"] if "squad" in arms.split() else []),
            f"INTERMEDIATE_ARGS={few}",
            f"TARGET_ARGS={few}",
        ]

    return of


@pytest.fixture(scope="module")
def undisturbed(slurm, variables, tmp_path_factory):
    """The folder of the matrix, run by make through srun, and what was printed."""
    out = tmp_path_factory.mktemp("srun")
    return out, slurm("make", "-j2", "matrix", "LAUNCH=srun -n1", *variables(out))


def until(found, seconds=300):
    """What `found` gives, as soon as that is something."""
    end = time.time() + seconds
    while not (value := found()):
        assert time.time() < end, "waited too long"
        time.sleep(0.1)
    return value


def frozen(run):
    """Holds the processes of the run as soon as it has a whole checkpoint: it must not be done before Slurm has
    decided to end it."""
    until(lambda: any(map(is_whole, run.glob("checkpoint-*"))))
    found = [process for process in psutil.process_iter(["cmdline"]) if str(run) in (process.info["cmdline"] or [])]
    assert found and not (run / "results.json").exists()
    for process in found:
        process.suspend()


def jobs(slurm, out):
    """{array job and task: what Slurm says of it, field by field} of a matrix's array jobs."""
    found = {}
    for line in slurm("scontrol", "--oneliner", "show", "jobs").splitlines():
        fields = dict(field.split("=", 1) for field in line.split() if "=" in field)
        if "ArrayTaskId" in fields and fields["JobName"] == f"matrix:{out}":
            found[f"{fields['ArrayJobId']}_{fields['ArrayTaskId']}"] = fields
    return found


def test_each_run_is_a_job_of_its_own(undisturbed, slurm):
    out, printed = undisturbed
    assert printed.count(" srun -n1 ") == 3 and "Done: 2 cells." in printed
    assert slurm("scontrol", "--oneliner", "show", "jobs").count("JobState=COMPLETED") == 3


def test_submitted_from_a_job(undisturbed, slurm, variables):
    """The script as a job itself; nothing is left to do, and the report is made again."""
    out = undisturbed[0]
    before = (out / "report" / "index.html").stat().st_mtime_ns
    slurm(
        "sbatch", "--wait", f"--output={out}/said", "recipes/slurm/matrix.sbatch", "--cpus-per-task=1", *variables(out)
    )
    assert "Submitted: 3 runs" in (out / "said").read_text()
    until(lambda: not slurm("squeue", "--noheader"))
    found = jobs(slurm, out)
    assert len(found) == 5 and {job["JobState"] for job in found.values()} == {"COMPLETED"}
    assert (out / "report" / "index.html").stat().st_mtime_ns > before


def test_preempted_out_of_time_and_failed(undisturbed, slurm, variables, tmp_path):
    """Jobs that are sent back go on from a checkpoint to the same weights; what starts from a run that failed is not
    begun."""
    expected, out = undisturbed[0], tmp_path / "out"
    said = slurm("bash", "recipes/slurm/matrix.sbatch", "--cpus-per-task=1", *variables(out, "none mnli squad"))
    assert "Submitted: 5 runs" in said
    assert "queued or running already" in slurm(
        "bash", "recipes/slurm/matrix.sbatch", *variables(out, "none mnli squad"), code=2
    )
    frozen(out / "mnli/seed0")
    slurm("srun", "--partition=urgent", "--exclusive", "true")  # preempts what runs
    frozen(out / "mnli/seed0/udpos")
    (cell,) = [name for name, job in jobs(slurm, out).items() if job["JobState"] == "RUNNING"]
    slurm("scancel", "--batch", "--signal=USR1", cell)  # as Slurm does shortly before the time limit
    until(lambda: not slurm("squeue", "--noheader"))

    for run in ("none/seed0/udpos", "mnli/seed0", "mnli/seed0/udpos"):
        assert (
            records.read(out / run / "results.json")["scores"]
            == records.read(expected / run / "results.json")["scores"]
        )
        one, other = (load_file(folder / run / "model.safetensors") for folder in (expected, out))
        assert all((one[key] == other[key]).all() for key in one)
    logs = {file.stem: file.read_text() for file in (out / "slurm").iterdir()}
    for run in ("mnli/seed0", "mnli/seed0/udpos"):
        (log,) = [text for text in logs.values() if f"Wrote {out}/{run}/results.json" in text]
        assert f"Resuming from {out}/{run}/checkpoint-" in log
    ended = jobs(slurm, out)
    assert ended[cell]["Restarts"] == "1"
    assert sorted(job["JobState"] for job in ended.values()) == ["CANCELLED", *["COMPLETED"] * 5, "FAILED"]
    assert "| squad |" in (out / "report" / "matrix.md").read_text()  # its row, without scores
