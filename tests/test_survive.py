"""Runs one can leave alone: two on one folder, no memory, a full disk, a loss that is no number."""

import errno
import importlib
import itertools
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from xstilts import claims, results, runner
from xstilts.errors import UserError
from xstilts.matrix import collect

ROOT = Path(__file__).resolve().parents[1]
HOLD = "import sys, time; from xstilts import claims; claims.claim(sys.argv[1]); print('held', flush=True); time.sleep(60)"


# ---- one process at a time -------------------------------------------------------------------------------------------

@pytest.fixture
def holder(tmp_path):
    """Another process that is at work in tmp_path."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_a_second_process_waits_and_says_so_until_the_first_is_killed(holder, tmp_path, caplog):
    second = threading.Thread(target=claims.claim, args=[tmp_path], daemon=True)
    second.start()
    second.join(1)
    assert second.is_alive() and f"{tmp_path}: another process is at work there" in caplog.text
    holder.kill()
    second.join(10)
    assert not second.is_alive() and not list(tmp_path.iterdir())
    claims.claim(tmp_path)  # held by this process already
    claims.release(tmp_path)


def test_a_released_folder_is_free_for_others(tmp_path):
    claims.claim(tmp_path)
    claims.release(tmp_path)
    done = subprocess.run([sys.executable, "-c", HOLD.replace("60", "0"), str(tmp_path)], cwd=ROOT, capture_output=True, timeout=20)
    assert done.returncode == 0


# ---- what stops a run ------------------------------------------------------------------------------------------------

ARGUMENTS = ["--task", "xnli", "--max_train_samples", "16", "--max_eval_samples", "4", "--per_device_train_batch_size", "4",
             "--num_train_epochs", "2", "--disable_tqdm", "true", "--languages", "en"]


@pytest.fixture
def start(tiny_model, tiny_world):
    """`start(folder)`: trains xnli, 8 steps with a checkpoint after the fourth."""

    def run(folder):
        importlib.import_module("run_target").main([*ARGUMENTS, "--model_name_or_path", str(tiny_model), "--data_root", str(tiny_world),
                                                    "--output_dir", str(folder)])

    return run


def stopped(method, at, what):
    """`method` of the trainer, which at its `at`-th call does `what(its result)` in place."""
    calls, plain = itertools.count(1), getattr(runner.TaskTrainer, method)

    def call(*args, **kwargs):
        found = plain(*args, **kwargs)
        return what(found) if next(calls) == at else found

    return call


def fail(error):
    def raise_it(_):
        raise error

    return raise_it


CAUSES = {
    "nan": ("compute_loss", 6, lambda loss: loss * float("nan"), "the loss is no longer a number", "step 5"),
    "memory": ("training_step", 6, fail(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")), "out of memory; lower",
               "step 5"),
    "disk": ("_save_checkpoint", 2, fail(OSError(errno.ENOSPC, "No space left on device")), "the disk may be full", "step 8"),
}


@pytest.mark.parametrize("cause", CAUSES)
def test_it_stops_with_its_name_its_cause_and_its_checkpoint_and_goes_on(cause, start, tmp_path, monkeypatch):
    method, at, what, told, step = CAUSES[cause]
    folder = tmp_path / "none" / "seed0" / "xnli"
    with monkeypatch.context() as patch:
        patch.setattr(runner.TaskTrainer, method, stopped(method, at, what))
        with pytest.raises(UserError) as caught:
            start(folder)
    said = str(caught.value)
    assert told in said and said.startswith(f"{folder} stopped at {step}: ") and "\n" not in said
    last = folder / ("checkpoint-8" if cause == "disk" else "checkpoint-4")
    assert str(last) in said and not (folder / "results.json").exists()
    assert all(torch.isfinite(weight).all() for weight in load_file(last / "model.safetensors").values())
    (place, kept), = results.failures(tmp_path).items()
    assert place == "none/seed0/xnli" and told in kept
    start(folder)
    assert results.failures(tmp_path) == {} and not (folder / results.FAILED).exists()
    assert results.read(folder / "results.json")["measures"]["steps"] == 8


@pytest.mark.parametrize("file", ["model.safetensors", "optimizer.pt", "rng_state.pth", "trainer_state.json"])
@pytest.mark.parametrize("lost", [True, False])
def test_a_checkpoint_that_is_not_whole_is_not_gone_on_from(file, lost, start, tmp_path, monkeypatch, caplog):
    with monkeypatch.context() as patch:
        patch.setattr(runner.TaskTrainer, "training_step", stopped("training_step", 6, fail(MemoryError())))
        with pytest.raises(UserError, match="checkpoint-4"):
            start(tmp_path)
    damaged = tmp_path / "checkpoint-4" / file
    assert runner.is_whole(damaged.parent)
    if lost:
        damaged.unlink()
    else:
        os.truncate(damaged, damaged.stat().st_size // 2)
    assert runner.last_checkpoint(str(tmp_path)) is None
    assert f"{damaged.parent} is not whole" in caplog.text and not damaged.parent.exists()


def test_a_checkpoint_of_weights_that_are_no_numbers_is_not_kept(start, tmp_path, monkeypatch):
    step = runner.TaskTrainer.training_step

    def spoil(self, model, inputs, *args, **kwargs):
        loss = step(self, model, inputs, *args, **kwargs)
        if self.state.global_step == 3:
            next(model.parameters()).grad.fill_(float("nan"))
        return loss

    monkeypatch.setattr(runner.TaskTrainer, "training_step", spoil)
    with pytest.raises(UserError, match="the weights are no longer finite numbers.*checkpoint: none"):
        start(tmp_path)
    assert not list(tmp_path.glob("checkpoint-*"))


def test_a_mistake_in_the_program_keeps_its_traceback(start, tmp_path, monkeypatch):
    monkeypatch.setattr(runner.TaskTrainer, "training_step", stopped("training_step", 1, fail(IndexError("list index out of range"))))
    with pytest.raises(IndexError):
        start(tmp_path)
    assert json.loads((tmp_path / results.FAILED).read_text())["cause"] == "IndexError: list index out of range"


def test_the_report_lists_what_failed_and_why(tmp_path):
    record = {"phase": "target", "task": "xnli", "form": "sentence_pair", "arm": "none", "seed": 0, "model": "m", "parents": [],
              "metric": "accuracy", "chance": None, "at_chance": False, "dev": {}, "scores": {"en": {"accuracy": 60}}, "n": {"en": 5},
              "settings": {}, "data": [], "seconds": 1}
    results.write(tmp_path / "none/seed0/xnli/results.json", record)
    results.write_failure(tmp_path / "none/seed0/xnli", "of an earlier time", None)
    (tmp_path / "mnli/seed0/xnli").mkdir(parents=True)
    results.write_failure(tmp_path / "mnli/seed0/xnli", "out of memory", None)
    matrix = collect(tmp_path, ["none", "mnli"], ["xnli"], [0])
    assert matrix.problems == ["mnli/seed0/xnli failed: out of memory."]
    os.truncate(tmp_path / "mnli/seed0/xnli" / results.FAILED, 3)
    assert "cannot be read" in collect(tmp_path).problems[0]
