"""kill -9 at the moments that matter, then the same command again: all ends as if nothing had been.

benchmarks/chaos.py kills a whole matrix at random moments.
"""

import importlib
import os
import shutil
import signal
import sys

import pytest
import transformers.trainer
from safetensors.torch import load_file

from world.files import WorldError, write
from xstilts import cards, results, runner
from xstilts.errors import UserError

ARGUMENTS = ["--task", "xnli", "--max_train_samples", "16", "--max_eval_samples", "4", "--per_device_train_batch_size", "4",
             "--logging_steps", "3", "--num_train_epochs", "2", "--disable_tqdm", "true", "--languages", "en"]


@pytest.fixture(scope="module")
def start(tiny_model, tiny_world):
    """`start(folder)`: trains xnli, 8 steps with a checkpoint after the fourth and the eighth."""

    def run(folder):
        importlib.import_module("run_target").main([*ARGUMENTS, "--model_name_or_path", str(tiny_model), "--data_root", str(tiny_world),
                                                    "--output_dir", str(folder)])

    return run


@pytest.fixture(scope="module")
def undisturbed(start, tmp_path_factory):
    start(folder := tmp_path_factory.mktemp("undisturbed") / "run")
    return folder


def kill():
    os.kill(os.getpid(), signal.SIGKILL)


def killed(work):
    """Does `work` in a process of its own, which must not live to its end."""
    child = os.fork()
    if not child:
        try:
            work()
        finally:
            os._exit(0)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL


def weights_without_optimizer(patch):
    """The second checkpoint is half written."""
    plain = runner.TaskTrainer._save_optimizer_and_scheduler
    patch.setattr(runner.TaskTrainer, "_save_optimizer_and_scheduler",
                  lambda self, folder: kill() if folder.endswith("checkpoint-8") else plain(self, folder))


def old_checkpoint_half_deleted(patch):
    plain = shutil.rmtree

    def delete(path, *args, **kwargs):
        if str(path).endswith("checkpoint-4"):
            os.unlink(os.path.join(path, "optimizer.pt"))
            kill()
        plain(path, *args, **kwargs)

    patch.setattr(transformers.trainer, "rotate_checkpoints", lambda output_dir, **_: delete(f"{output_dir}/checkpoint-4")
                  if os.path.isdir(f"{output_dir}/checkpoint-8") else None)


def result_not_renamed(patch):
    """Predictions, weights and card are there, results.json only under its temporary name."""
    plain = os.replace
    patch.setattr(os, "replace", lambda a, b: kill() if str(b).endswith("results.json") else plain(a, b))


def result_there_but_not_cleaned_up(patch):
    patch.setattr(cards, "clean", lambda folder: kill())


@pytest.mark.parametrize("moment", [weights_without_optimizer, old_checkpoint_half_deleted, result_not_renamed,
                                    result_there_but_not_cleaned_up], ids=lambda moment: moment.__name__)
def test_killed_at_that_moment_it_ends_as_undisturbed(moment, start, undisturbed, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        moment(patch)
        killed(lambda: start(tmp_path))
    there = (tmp_path / "results.json").is_file()
    assert list(tmp_path.glob("checkpoint-*")) and there == (moment is result_there_but_not_cleaned_up)
    start(tmp_path)
    one, other = (results.read(folder / "results.json") for folder in (undisturbed, tmp_path))
    assert (one["scores"], one["dev"], one["measures"]) == (other["scores"], other["dev"], other["measures"])
    expected, found = (load_file(folder / "model.safetensors") for folder in (undisturbed, tmp_path))
    assert all(weight.equal(found[name]) for name, weight in expected.items())
    for file in [*(undisturbed / "predictions").rglob("*.tsv"), undisturbed / "tokenizer.json"]:
        assert (tmp_path / file.relative_to(undisturbed)).read_bytes() == file.read_bytes()
    assert not list(tmp_path.glob("checkpoint-*"))


# ---- what has changed between a kill and the next start ----------------------------------------------------------------

@pytest.fixture
def broken_off(start, tmp_path, monkeypatch):
    """A run killed after its first checkpoint, by an interrupt."""
    step = runner.TaskTrainer.training_step

    def interrupted(self, *args, **kwargs):
        if self.state.global_step == 5:
            raise KeyboardInterrupt
        return step(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(runner.TaskTrainer, "training_step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            start(tmp_path / "run")
    assert (tmp_path / "run" / "checkpoint-4").is_dir()
    return tmp_path / "run"


def test_other_rows_are_not_mixed_with_those_it_was_begun_with(broken_off, start, tiny_world, tmp_path, caplog):
    begun = (broken_off / "run.json").read_text()
    assert '"sha256"' in begun
    (broken_off / "run.json").write_text(begun.replace('"sha256": "', '"sha256": "0'))
    start(broken_off)
    assert "or its rows, are others since it was begun; beginning anew" in caplog.text and "Going on" not in caplog.text
    assert (broken_off / "results.json").is_file()


def test_a_dual_encoder_is_not_gone_on_with_by_other_arguments(cli, tiny_model, tiny_world, tmp_path, monkeypatch):
    from xstilts.dual_encoder import PairTrainer

    command = ["run_retrieval.py", "--do_train", "--train_tasks", "squad_dual", "--model_name_or_path", tiny_model, "--data_root",
               tiny_world, "--max_train_samples", "16", "--per_device_train_batch_size", "4", "--save_strategy", "steps", "--save_steps",
               "2", "--output_dir", tmp_path]
    step = PairTrainer.training_step

    def interrupted(self, *args, **kwargs):
        if self.state.global_step == 3:
            raise KeyboardInterrupt
        return step(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(PairTrainer, "training_step", interrupted)
        assert cli(*command).returncode
    done = cli(*command, "--scale", "10")
    assert done.returncode == 2 and "begun with other arguments (scale: 20.0 then, 10.0 now)" in done.stderr
    assert (tmp_path / "checkpoint-2").is_dir() and cli(*command).returncode == 0


def test_a_checkpoint_of_nobody_knows_what_is_not_gone_on_from(broken_off, start):
    (broken_off / "run.json").unlink()
    with pytest.raises(UserError, match="run.json cannot be read .*nobody knows what the folder was begun with"):
        start(broken_off)
    assert (broken_off / "checkpoint-4").is_dir()


def test_a_clock_that_was_set_back_does_not_make_the_newest_checkpoint_the_oldest(start, tmp_path, monkeypatch):
    """transformers keeps the checkpoint that is newest by the clock."""
    plain, kept = runner.Watched._save_checkpoint, []

    def save(self, *args):
        plain(self, *args)
        kept.append(sorted(path.name for path in tmp_path.glob("checkpoint-*")))
        for path in tmp_path.glob("checkpoint-*"):
            os.utime(path, (4e9, 4e9))  # written before the clock was set back

    monkeypatch.setattr(runner.TaskTrainer, "_save_checkpoint", save)
    start(tmp_path)
    assert len(kept) == 2 and all(f"checkpoint-{step}" in there for step, there in zip((4, 8), kept, strict=True))


def test_a_result_of_a_newer_version_is_left_alone(undisturbed, start, tmp_path):
    folder = shutil.copytree(undisturbed, tmp_path / "run")
    newer = (folder / "results.json").read_text().replace('"schema": 1', '"schema": 2')
    (folder / "results.json").write_text(newer)
    with pytest.raises(UserError, match="schema is 2, this version reads 1"):
        start(folder)
    assert (folder / "results.json").read_text() == newer


# ---- the world -----------------------------------------------------------------------------------------------------------

def test_a_world_killed_while_it_takes_the_place_of_another(tmp_path, monkeypatch):
    out = tmp_path / "world"
    write(out, size=0.02, languages=1)
    with monkeypatch.context() as patch:
        patch.setattr(sys.modules["world.files"].Path, "rename", lambda self, to: os.rename(self, to) if ".old" in str(to) else kill())
        killed(lambda: write(out, size=0.02, languages=2, force=True))
    assert write(out, size=0.02, languages=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["world"]
    with pytest.raises(WorldError):
        write(out, size=0.02, languages=1)
