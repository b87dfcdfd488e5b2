"""Runs you can leave alone: two on one folder, no memory, a full disk, a non-finite loss."""

import errno
import importlib
import itertools
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import records
import torch
from safetensors.torch import load_file

from tasks.errors import UserError
from xstilts.report.matrix import collect
from xstilts.run import results
from xstilts.run.checkpoints import is_whole, last_checkpoint
from xstilts.run.files import write_text
from xstilts.run.lifecycle import Run
from xstilts.run.lock import FolderLock
from xstilts.train import trainers

ROOT = Path(__file__).resolve().parents[1]
HOLD = (
    "import sys, time; from xstilts.run.lock import FolderLock; lock = FolderLock(sys.argv[1]); lock.acquire(); "
    "print('held', flush=True); time.sleep(60)"
)


# ---- one process at a time ------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    """Who waits for a lock looks often."""
    monkeypatch.setattr("xstilts.run.lock.POLL", 0.02)


@pytest.fixture
def holder(tmp_path):
    """Another process that is at work in tmp_path."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_a_second_process_waits_and_says_so_until_the_first_is_killed(holder, tmp_path, caplog):
    lock = FolderLock(tmp_path)
    second = threading.Thread(target=lock.acquire, daemon=True)
    second.start()
    second.join(0.2)
    assert second.is_alive() and f"{tmp_path}: process {holder.pid} on " in caplog.text and "(since 20" in caplog.text
    holder.kill()
    second.join(10)
    assert not second.is_alive()
    lock.release()
    assert not list(tmp_path.iterdir())


def test_patience_ends_and_a_file_left_by_a_killed_process_locks_nothing(holder, tmp_path):
    assert not FolderLock(tmp_path).acquire(patience=0.1)
    holder.kill()
    holder.wait()
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]
    lock = FolderLock(tmp_path)
    assert lock.acquire(patience=0)
    lock.release()


def test_waiting_process_ignores_a_removed_lock_file(tmp_path):
    """The one before it removes the file, and a folder that is empty then too; filelock must see that it waits on
    nothing."""
    first, second, third = (FolderLock(tmp_path / "run") for _ in range(3))
    assert first.acquire(patience=0)
    waiting = threading.Thread(target=second.acquire, daemon=True)
    waiting.start()
    time.sleep(0.1)
    first.release()
    (tmp_path / "run").rmdir() if not any((tmp_path / "run").iterdir()) else None
    waiting.join(10)
    assert not waiting.is_alive() and not third.acquire(patience=0)
    second.release()
    assert third.acquire(patience=0)
    third.release()


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EIO])
def test_file_system_without_locks_is_reported(number, tmp_path, monkeypatch, caplog):
    import fcntl

    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    lock = FolderLock(tmp_path)
    if number == errno.EIO:  # what is not said to have no locks may have one that another process holds
        with pytest.raises(UserError, match="lock cannot be locked"):
            lock.acquire(patience=0)
    else:
        assert lock.acquire(patience=0) and "has no locks" in caplog.text and not list(tmp_path.iterdir())
    lock.release()


def test_of_two_processes_that_train_together_both_learn_that_another_run_has_finished(holder, tmp_path, monkeypatch):
    """The first waits; the second, left to itself, would not have found a result when it looked, and begun."""
    args, found = (
        SimpleNamespace(output_dir=str(tmp_path), push_to_hub=False),
        tmp_path.parent / f"{tmp_path.name}.found",
    )

    def work(rank):
        monkeypatch.setenv("RANK", str(rank))
        monkeypatch.setenv("WORLD_SIZE", "2")
        torch.distributed.init_process_group("gloo", init_method=f"file://{found}.store", rank=rank, world_size=2)
        Path(f"{found}.{rank}.begun").touch()
        with Run.open(args, RECORD["settings"] | {"model": "m", "data_root": "hub"}) as run:
            Path(f"{found}.{rank}").write_text(str(run.finished))

    children = []
    for rank in (0, 1):
        children.append(os.fork())
        if not children[-1]:
            try:
                work(rank)
            finally:
                os._exit(0)
    end = time.monotonic() + 60
    while not all(Path(f"{found}.{rank}.begun").exists() for rank in (0, 1)):
        assert time.monotonic() < end
        time.sleep(0.02)
    time.sleep(0.4)
    records.write(tmp_path / "results.json", RECORD | {"settings": {"model": "m", "data_root": "hub"}})
    holder.kill()
    for child in children:
        os.waitpid(child, 0)
    assert [Path(f"{found}.{rank}").read_text() for rank in (0, 1)] == ["True", "True"]


def test_a_released_folder_is_free_for_others(tmp_path):
    lock = FolderLock(tmp_path)
    lock.acquire()
    lock.release()
    done = subprocess.run(
        [sys.executable, "-c", HOLD.replace("60", "0"), str(tmp_path)], cwd=ROOT, capture_output=True, timeout=20
    )
    assert done.returncode == 0


# ---- what stops a run -----------------------------------------------------------------------------------------------

ARGUMENTS = [
    "--task",
    "xnli",
    "--max_train_samples",
    "16",
    "--max_eval_samples",
    "4",
    "--per_device_train_batch_size",
    "4",
    "--num_train_epochs",
    "2",
    "--disable_tqdm",
    "true",
    "--languages",
    "en",
]


@pytest.fixture
def start(tiny_model, tiny_world):
    """`start(folder)`: trains xnli, 8 steps with a checkpoint after the fourth."""

    def run(folder):
        importlib.import_module("run_target").main(
            [
                *ARGUMENTS,
                "--model_name_or_path",
                str(tiny_model),
                "--data_root",
                str(tiny_world),
                "--output_dir",
                str(folder),
            ]
        )

    return run


def stopped(method, at, what):
    """`method` of the trainer, which at its `at`-th call does `what(its result)` in place."""
    calls, plain = itertools.count(1), getattr(trainers.TaskTrainer, method)

    def call(*args, **kwargs):
        found = plain(*args, **kwargs)
        return what(found) if next(calls) == at else found

    return call


def fail(error):
    def raise_it(_):
        raise error

    return raise_it


CAUSES = {
    "nan": (
        "compute_loss",
        6,
        lambda loss: loss * float("nan"),
        "the loss is not a finite number (steps 5 to 8)",
        "step 8",
    ),
    "memory": (
        "training_step",
        6,
        fail(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")),
        "out of memory; lower",
        "step 5",
    ),
    "disk": (
        "_save_checkpoint",
        2,
        fail(OSError(errno.ENOSPC, "No space left on device")),
        "the disk may be full",
        "step 8",
    ),
}


@pytest.mark.parametrize("cause", CAUSES)
def test_stopped_run_names_cause_and_checkpoint_and_resumes(cause, start, tmp_path, monkeypatch):
    method, at, what, told, step = CAUSES[cause]
    folder = tmp_path / "none" / "seed0" / "xnli"
    with monkeypatch.context() as patch:
        patch.setattr(trainers.TaskTrainer, method, stopped(method, at, what))
        with pytest.raises(UserError) as caught:
            start(folder)
    said = str(caught.value)
    assert told in said and said.startswith(f"{folder} stopped at {step}: ") and "\n" not in said
    last = folder / ("checkpoint-8" if cause == "disk" else "checkpoint-4")
    assert str(last) in said and not (folder / "results.json").exists()
    assert all(torch.isfinite(weight).all() for weight in load_file(last / "model.safetensors").values())
    ((place, kept),) = results.failures(tmp_path).items()
    assert place == "none/seed0/xnli" and told in kept
    start(folder)
    assert results.failures(tmp_path) == {} and not (folder / results.FAILED).exists()
    assert records.read(folder / "results.json")["measures"]["steps"] == 8


# ---- file systems that take no more ---------------------------------------------------------------------------------


@pytest.fixture
def disk(tmp_path):
    """`disk(options)`: a folder that is a file system of its own; with other options the same one, what it holds
    kept."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(options):
        mounted = folder.is_mount()
        command = (
            ["mount", "-o", f"remount,{options}", folder]
            if mounted
            else ["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder]
        )
        try:
            done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
        except OSError as error:
            pytest.skip(f"no file system can be mounted here: {error}")
        if done.returncode:
            pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
        return folder

    yield mount
    if folder.is_mount():
        # a run that failed holds its folder until the process ends
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_full_disk_stops_the_run_which_resumes_with_free_space(disk, start):
    folder = disk("size=300k") / "none/seed0/xnli"
    other = folder.parent / "udpos" / "results.json"
    other.parent.mkdir(parents=True)
    other.write_text("finished before")
    with pytest.raises(
        UserError, match="stopped at step 4: the folder cannot be written, the disk may be full"
    ) as caught:
        start(folder)
    assert (
        "\n" not in str(caught.value)
        and not (folder / "results.json").exists()
        and other.read_text() == "finished before"
    )
    disk("size=30m")
    start(folder)
    assert records.read(folder / "results.json")["measures"]["steps"] == 8


@pytest.mark.parametrize("size", ["4k", "20k"])
def test_full_disk_of_the_cache_is_named(size, disk, cli, tiny_model, tiny_world, tmp_path, monkeypatch):
    """Of rows, or of features: no file of rows is blamed for it, and nothing lies in the run's folder."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", disk(f"size={size}"))
    folder = tmp_path / "run"
    done = cli(
        "run_target.py",
        *ARGUMENTS,
        "--model_name_or_path",
        tiny_model,
        "--data_root",
        tiny_world,
        "--output_dir",
        folder,
    )
    (line,) = [line for line in done.stderr.splitlines() if "error:" in line]
    assert (
        done.returncode == 2
        and "Free disk space" in line
        and ("No space left on device" in line or "Not enough disk space" in line)
    )
    assert "Traceback" not in done.stderr and not folder.exists()


@pytest.mark.parametrize("kind", ["features", "rows"])
def test_truncated_cache_is_rebuilt_with_a_warning(kind, start, tmp_path, monkeypatch, caplog):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    start(tmp_path / "one")
    files = [
        path
        for path in (tmp_path / "cache").rglob("*.arrow")
        if path.name.startswith("cache-") == (kind == "features")
    ]
    assert len(files) > 2
    for path in files:
        os.truncate(path, path.stat().st_size // 2)
    start(tmp_path / "other")
    assert caplog.text.count("rebuilding it") == len(files)
    one, other = (records.read(tmp_path / name / "results.json") for name in ("one", "other"))
    assert (one["scores"], one["measures"]) == (other["scores"], other["measures"])
    caplog.clear()
    start(tmp_path / "again")
    assert "rebuilding it" not in caplog.text


@pytest.mark.parametrize(
    "script", ["run_target.py", "run_mlm.py", "run_intermediate.py", "run_retrieval.py", "run_report.py"]
)
def test_a_folder_that_can_only_be_read(script, disk, cli, tiny_model, tiny_world):
    folder = disk("size=1m")
    records.write(folder / "none/seed0/xnli/results.json", RECORD)
    disk("ro")
    task = {
        "run_target.py": ["--task", "xnli"],
        "run_intermediate.py": ["--tasks", "mnli"],
        "run_retrieval.py": ["--tasks", "tatoeba"],
    }
    run = ["--model_name_or_path", tiny_model, "--data_root", tiny_world, "--output_dir", folder / "none/seed0/xnli"]
    done = cli(script, *task.get(script, []), *(["--runs_dir", folder] if script == "run_report.py" else run))
    assert done.returncode == 2 and "cannot be written" in done.stderr and "Read-only file system" in done.stderr
    assert done.stderr.count("\n") == 1


# ---- checkpoints ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", ["model.safetensors", "optimizer.pt", "rng_state.pth", "trainer_state.json"])
@pytest.mark.parametrize("lost", [True, False])
def test_resume_ignores_incomplete_checkpoint(file, lost, start, tmp_path, monkeypatch, caplog):
    with monkeypatch.context() as patch:
        patch.setattr(trainers.TaskTrainer, "training_step", stopped("training_step", 6, fail(MemoryError())))
        with pytest.raises(UserError, match="checkpoint-4"):
            start(tmp_path)
    damaged = tmp_path / "checkpoint-4" / file
    assert is_whole(damaged.parent)
    if lost:
        damaged.unlink()
    else:
        os.truncate(damaged, damaged.stat().st_size // 2)
    assert last_checkpoint(str(tmp_path)) is None
    assert f"{damaged.parent} is incomplete" in caplog.text and not damaged.parent.exists()


def test_checkpoint_with_non_finite_weights_is_not_kept(start, tmp_path, monkeypatch):
    step = trainers.TaskTrainer.training_step

    def spoil(self, model, inputs, *args, **kwargs):
        loss = step(self, model, inputs, *args, **kwargs)
        if self.state.global_step == 3:
            next(model.parameters()).grad.fill_(float("nan"))
        return loss

    monkeypatch.setattr(trainers.TaskTrainer, "training_step", spoil)
    with pytest.raises(UserError, match="the weights are not finite numbers.*checkpoint: none"):
        start(tmp_path)
    assert not list(tmp_path.glob("checkpoint-*"))


def test_bug_keeps_its_traceback(start, tmp_path, monkeypatch):
    monkeypatch.setattr(
        trainers.TaskTrainer, "training_step", stopped("training_step", 1, fail(IndexError("list index out of range")))
    )
    with pytest.raises(IndexError):
        start(tmp_path)
    assert json.loads((tmp_path / results.FAILED).read_text())["cause"] == "IndexError: list index out of range"


# ---- what the report says of it -------------------------------------------------------------------------------------

RECORD = records.small()


def test_what_was_refused_is_kept_for_the_report_where_make_asks_for_it(
    cli, tiny_model, tiny_world, tmp_path, monkeypatch
):
    folder = tmp_path / "none/seed0/xnli"
    command = [
        "run_target.py",
        *ARGUMENTS,
        "--model_name_or_path",
        tiny_model,
        "--data_root",
        tiny_world,
        "--output_dir",
        folder,
    ]
    assert cli(*command, "--languages", "de").returncode == 2 and not list(tmp_path.iterdir())
    monkeypatch.setenv("XSTILTS_MATRIX", "1")
    assert cli(*command, "--languages", "de").returncode == 2
    assert [path.name for path in folder.iterdir()] == [results.FAILED]
    assert results.failures(tmp_path) == {
        "none/seed0/xnli": "--languages de: xnli has no test rows in this language; it has en qaa qab"
    }
    monkeypatch.setattr(sys.modules["run_target"], "parse", lambda *_, **__: [][0])
    with pytest.raises(IndexError):
        cli(*command)
    assert results.failures(tmp_path) == {"none/seed0/xnli": "IndexError: list index out of range"}


def test_a_measurement_that_failed_says_why_until_it_succeeds(cli, tiny_model, tiny_world, tmp_path, monkeypatch):
    from xstilts.retrieve import measure

    command = [
        "run_retrieval.py",
        "--tasks",
        "tatoeba",
        "--languages",
        "qaa",
        "--model_name_or_path",
        tiny_model,
        "--data_root",
        tiny_world,
        "--output_dir",
        tmp_path,
    ]
    with monkeypatch.context() as patch:
        patch.setattr(measure, "retrieve", lambda *_: fail(MemoryError())(None))
        done = cli(*command)
    assert (
        done.returncode == 2
        and f"{tmp_path / 'tatoeba'} stopped: out of memory; lower --max_seq_length" in done.stderr
    )
    assert list(results.failures(tmp_path)) == ["tatoeba"]
    assert cli(*command).returncode == 0
    assert results.failures(tmp_path) == {} and not (tmp_path / "tatoeba" / results.FAILED).exists()


def test_the_report_names_what_was_killed_and_what_stands_for_an_earlier_training(tmp_path):
    arm = RECORD | {"phase": "intermediate", "arm": "mnli", "scores": {}, "n": {}}
    folder = tmp_path / "mnli/seed0"
    parent = records.write(folder / "results.json", arm)
    for task, finished in (("xnli", parent["finished"]), ("udpos", "2001-01-01T00:00:00+00:00")):
        settings = {"model": str(folder), "model_finished": finished}
        records.write(folder / task / "results.json", RECORD | {"arm": "mnli", "task": task, "settings": settings})
    assert collect(tmp_path).problems == [
        f"mnli/seed0/udpos started from an earlier training of {folder}; delete its results.json and run it again."
    ]
    write_text(folder / "panx" / "run.json", "{}")
    assert (
        "mnli/seed0/panx was begun and has no result: it was killed, or is still at work."
        in collect(tmp_path).problems
    )


def test_the_report_lists_what_failed_and_why(tmp_path):
    records.write(tmp_path / "none/seed0/xnli/results.json", RECORD)
    results.write_failure(tmp_path / "none/seed0/xnli", "of an earlier time", None)
    (tmp_path / "mnli/seed0/xnli").mkdir(parents=True)
    results.write_failure(tmp_path / "mnli/seed0/xnli", "out of memory", None)
    matrix = collect(tmp_path, ["none", "mnli"], ["xnli"], [0])
    assert matrix.problems == ["mnli/seed0/xnli failed: out of memory."]
    os.truncate(tmp_path / "mnli/seed0/xnli" / results.FAILED, 3)
    assert "cannot be read" in collect(tmp_path).problems[0]
