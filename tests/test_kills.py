"""kill -9 at the moments that matter, then the same command again: the result equals that of an undisturbed run.

benchmarks/chaos.py kills a whole matrix at random moments.
"""

import importlib
import os
import shutil
import signal
import sys

import pytest
import records
import transformers.trainer
from safetensors.torch import load_file

from tasks.errors import UserError
from world.files import WorldError, write
from xstilts.run import checkpoints
from xstilts.run.lifecycle import Run
from xstilts.train import runner, trainers

ARGUMENTS = [
    "--task",
    "xnli",
    "--max_train_samples",
    "16",
    "--max_eval_samples",
    "4",
    "--per_device_train_batch_size",
    "4",
    "--logging_steps",
    "3",
    "--num_train_epochs",
    "2",
    "--disable_tqdm",
    "true",
    "--languages",
    "en",
]


@pytest.fixture(scope="module")
def start(tiny_model, tiny_world):
    """`start(folder)`: trains xnli, 8 steps with a checkpoint after the fourth and the eighth."""

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
    plain = trainers.TaskTrainer._save_optimizer_and_scheduler
    patch.setattr(
        trainers.TaskTrainer,
        "_save_optimizer_and_scheduler",
        lambda self, folder: kill() if folder.endswith("checkpoint-8") else plain(self, folder),
    )


def old_checkpoint_half_deleted(patch):
    plain = shutil.rmtree

    def delete(path, *args, **kwargs):
        if str(path).endswith("checkpoint-4"):
            os.unlink(os.path.join(path, "optimizer.pt"))
            kill()
        plain(path, *args, **kwargs)

    patch.setattr(
        transformers.trainer,
        "rotate_checkpoints",
        lambda output_dir, **_: (
            delete(f"{output_dir}/checkpoint-4") if os.path.isdir(f"{output_dir}/checkpoint-8") else None
        ),
    )


def result_not_renamed(patch):
    """Predictions, weights and card are there, results.json only under its temporary name."""
    plain = os.replace
    patch.setattr(os, "replace", lambda a, b: kill() if str(b).endswith("results.json") else plain(a, b))


def result_there_but_not_cleaned_up(patch):
    patch.setattr(checkpoints, "clean", lambda folder: kill())


@pytest.mark.parametrize(
    "moment",
    [weights_without_optimizer, old_checkpoint_half_deleted, result_not_renamed, result_there_but_not_cleaned_up],
    ids=lambda moment: moment.__name__,
)
def test_killed_at_that_moment_it_ends_as_undisturbed(moment, start, undisturbed, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        moment(patch)
        killed(lambda: start(tmp_path))
    there = (tmp_path / "results.json").is_file()
    assert list(tmp_path.glob("checkpoint-*")) and there == (moment is result_there_but_not_cleaned_up)
    start(tmp_path)
    one, other = (records.read(folder / "results.json") for folder in (undisturbed, tmp_path))
    assert (one["scores"], one["dev"], one["measures"]) == (other["scores"], other["dev"], other["measures"])
    expected, found = (load_file(folder / "model.safetensors") for folder in (undisturbed, tmp_path))
    assert all(weight.equal(found[name]) for name, weight in expected.items())
    for file in [*(undisturbed / "predictions").rglob("*.tsv"), undisturbed / "tokenizer.json"]:
        assert (tmp_path / file.relative_to(undisturbed)).read_bytes() == file.read_bytes()
    assert not list(tmp_path.glob("checkpoint-*"))


# ---- between the last checkpoint and results.json -------------------------------------------------------------------

FEW = ["--max_train_samples", "16", "--max_eval_samples", "4"]
# trainings whose last step lies within an epoch: 4 steps make one
SHORT = {
    "target": ["run_target.py", "--task", "xnli", "--languages", "en", *FEW, "--max_steps", "6"],
    "a share of an epoch": ["run_target.py", "--task", "xnli", "--languages", "en", *FEW, "--num_train_epochs", "1.6"],
    "the last is not the best": [
        "run_target.py",
        "--task",
        "xnli",
        "--languages",
        "en",
        *FEW,
        "--max_steps",
        "6",
        "--metric_for_best_model",
        "eval_accuracy",
        "--greater_is_better",
        "false",
    ],
    "stages": ["run_target.py", "--task", "xcopa", "--languages", "en", *FEW, "--max_steps", "5"],
    "phase 2": ["run_intermediate.py", "--tasks", "mnli", *FEW, "--max_steps", "6"],
    "LoRA": ["run_intermediate.py", "--tasks", "mnli", *FEW, "--max_steps", "6", "--peft", "lora"],
    "mixture": ["run_intermediate.py", "--tasks", "mnli", "squad", "--mlm_rate", "0.2", *FEW, "--max_steps", "9"],
    "accumulation": [
        "run_intermediate.py",
        "--tasks",
        "mnli",
        *FEW,
        "--max_steps",
        "3",
        "--gradient_accumulation_steps",
        "2",
    ],
    "dual encoder": ["run_intermediate.py", "--tasks", "squad_dual", *FEW, "--max_steps", "6"],
    "masked LM": ["run_mlm.py", "--text_languages", "en", *FEW, "--max_steps", "7"],
}


@pytest.mark.parametrize("kind", SHORT)
def test_killed_at_its_end_it_is_not_trained_on(kind, tiny_model, tiny_world, tmp_path, monkeypatch):
    """transformers trains one step more each time; with a constant rate the weights are others then."""
    script, *words = SHORT[kind]
    steps, plain = [], trainers.CheckedTrainer.training_step
    monkeypatch.setattr(
        trainers.CheckedTrainer,
        "training_step",
        lambda self, *a, **k: steps.append(self.state.global_step) or plain(self, *a, **k),
    )

    def start(folder):
        importlib.import_module(script.removesuffix(".py")).main(
            [
                "--model_name_or_path",
                str(tiny_model),
                "--data_root",
                str(tiny_world),
                "--per_device_train_batch_size",
                "4",
                "--lr_scheduler_type",
                "constant",
                "--learning_rate",
                "1e-3",
                "--logging_steps",
                "2",
                "--disable_tqdm",
                "true",
                "--save_strategy",
                "epoch",
                *words,
                "--output_dir",
                str(folder),
            ]
        )

    def killed_at_its_end():
        monkeypatch.setattr(Run, "finish", lambda *a, **k: kill())
        start(tmp_path / "two")

    start(tmp_path / "one")
    for _ in range(2):
        killed(killed_at_its_end)
    steps.clear()
    start(tmp_path / "two")
    assert steps == []
    one, two = (records.read(tmp_path / name / "results.json") for name in ("one", "two"))
    assert (one["scores"], one["dev"], one["measures"]) == (two["scores"], two["dev"], two["measures"])
    for file in (tmp_path / "one").rglob("*.safetensors"):
        expected, found = load_file(file), load_file(tmp_path / "two" / file.relative_to(tmp_path / "one"))
        assert expected.keys() == found.keys() and all(weight.equal(found[name]) for name, weight in expected.items())


def test_resume_does_not_train_past_the_last_step(broken_off, caplog):
    """Older versions have left such."""
    state = broken_off / "checkpoint-4" / "trainer_state.json"
    assert checkpoints.is_whole(state.parent)
    state.write_text(state.read_text().replace('"max_steps": 8', '"max_steps": 3'))
    assert checkpoints.last_checkpoint(str(broken_off)) is None and f"{state.parent} is incomplete" in caplog.text


def test_a_training_that_is_ended_before_its_last_step_is_not_scored(start, tmp_path, monkeypatch):
    """So --enable_jit_checkpoint does at a SIGTERM."""
    plain = trainers.CheckedTrainer.training_step

    def step(self, *args, **kwargs):
        self.control.should_training_stop = self.state.global_step == 5
        return plain(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(trainers.CheckedTrainer, "training_step", step)
        with pytest.raises(
            UserError, match="stopped at step 6: the training ended before its last step, 8.*checkpoint-6"
        ):
            start(tmp_path)
    assert not (tmp_path / "results.json").exists()


# ---- the best checkpoint --------------------------------------------------------------------------------------------


@pytest.fixture
def best_is_first(start, undisturbed, tmp_path, monkeypatch):
    """Two runs, killed when they score, whose best checkpoint is the first of two: `one`, and `two`, which is a copy
    of it."""
    numbers = iter([60.0, 50.0])
    monkeypatch.setattr(
        trainers.TaskTrainer, "evaluate", lambda self, *a, **k: self.control and {"eval_accuracy": next(numbers)}
    )

    def work():
        monkeypatch.setattr(runner, "score_languages", lambda *a, **k: kill())
        start(tmp_path / "one")

    killed(work)
    assert checkpoints.checkpoints(tmp_path / "one") == [tmp_path / "one" / f"checkpoint-{step}" for step in (8, 4)]
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    return tmp_path


@pytest.mark.parametrize("there", [True, False], ids=["copied", "moved"])
def test_the_best_checkpoint_is_that_of_the_folder_itself(there, best_is_first, start):
    start(best_is_first / "one")
    expected = load_file(best_is_first / "one" / "model.safetensors")
    if there:
        # other weights
        shutil.copytree(best_is_first / "two" / "checkpoint-8", best_is_first / "one" / "checkpoint-4")
    start(best_is_first / "two")
    found = load_file(best_is_first / "two" / "model.safetensors")
    assert all(weight.equal(found[name]) for name, weight in expected.items())


def test_run_without_its_best_checkpoint_starts_over(best_is_first, caplog):
    os.truncate(best_is_first / "one" / "checkpoint-4" / "model.safetensors", 1000)
    assert not checkpoints.is_whole(best_is_first / "one" / "checkpoint-8")
    assert checkpoints.last_checkpoint(str(best_is_first / "one")) is None


def test_old_checkpoints_go_but_no_stage_does(tmp_path):
    """transformers' own way takes the oldest folder of that name by the clock."""
    for name in ("checkpoint-2", "checkpoint-10", "checkpoint-4", "checkpoint-siqa"):
        (tmp_path / name).mkdir()
        os.utime(tmp_path / name, (1e9 + len(name) * 100 * (name != "checkpoint-siqa"),) * 2)
    checkpoints.rotate(tmp_path, 1, str(tmp_path / "checkpoint-2"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-10", "checkpoint-2", "checkpoint-siqa"]
    checkpoints.rotate(tmp_path, 1, None)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-10", "checkpoint-siqa"]


def test_the_first_stage_outlives_the_checkpoints_of_the_second(tiny_model, tiny_world, tmp_path, monkeypatch):
    plain = trainers.CheckedTrainer._save_checkpoint

    def save(self, *args):
        for folder in tmp_path.rglob("checkpoint-*"):
            os.utime(folder, (folder.stat().st_mtime - 100,) * 2)  # hours between them
        plain(self, *args)

    monkeypatch.setattr(trainers.CheckedTrainer, "_save_checkpoint", save)
    monkeypatch.setattr(Run, "finish", lambda *a, **k: None)
    importlib.import_module("run_target").main(
        [
            "--model_name_or_path",
            str(tiny_model),
            "--data_root",
            str(tiny_world),
            "--task",
            "xcopa",
            "--languages",
            "en",
            *FEW,
            "--per_device_train_batch_size",
            "4",
            "--num_train_epochs",
            "3",
            "--disable_tqdm",
            "true",
            "--output_dir",
            str(tmp_path),
        ]
    )
    assert [path.parent.name for path in tmp_path.glob("*/done")] == ["checkpoint-siqa"]


# ---- what has changed between a kill and the next start -------------------------------------------------------------


@pytest.fixture
def broken_off(start, tmp_path, monkeypatch):
    """A run killed after its first checkpoint, by an interrupt."""
    step = trainers.TaskTrainer.training_step

    def interrupted(self, *args, **kwargs):
        if self.state.global_step == 5:
            raise KeyboardInterrupt
        return step(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(trainers.TaskTrainer, "training_step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            start(tmp_path / "run")
    assert (tmp_path / "run" / "checkpoint-4").is_dir()
    return tmp_path / "run"


def test_other_rows_are_not_mixed_with_those_it_was_begun_with(broken_off, start, tiny_world, tmp_path, caplog):
    begun = (broken_off / "run.json").read_text()
    assert '"sha256"' in begun
    (broken_off / "run.json").write_text(begun.replace('"sha256": "', '"sha256": "0'))
    start(broken_off)
    assert "starting over" in caplog.text and "Resuming" not in caplog.text
    assert (broken_off / "results.json").is_file()


def test_dual_encoder_refuses_to_resume_with_other_arguments(cli, tiny_model, tiny_world, tmp_path, monkeypatch):
    from xstilts.train.pair_trainer import PairTrainer

    command = [
        "run_intermediate.py",
        "--tasks",
        "squad_dual",
        "--model_name_or_path",
        tiny_model,
        "--data_root",
        tiny_world,
        "--max_train_samples",
        "16",
        "--per_device_train_batch_size",
        "4",
        "--save_strategy",
        "steps",
        "--save_steps",
        "2",
        "--output_dir",
        tmp_path,
    ]
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


def test_resume_refuses_checkpoint_without_settings(broken_off, start):
    (broken_off / "run.json").unlink()
    with pytest.raises(UserError, match="run.json cannot be read .*settings of the folder are unknown"):
        start(broken_off)
    assert (broken_off / "checkpoint-4").is_dir()


def test_a_clock_that_was_set_back_does_not_make_the_newest_checkpoint_the_oldest(start, tmp_path, monkeypatch):
    """transformers keeps the checkpoint that is newest by the clock."""
    plain, kept = trainers.CheckedTrainer._save_checkpoint, []

    def save(self, *args):
        plain(self, *args)
        kept.append(sorted(path.name for path in tmp_path.glob("checkpoint-*")))
        for path in tmp_path.glob("checkpoint-*"):
            os.utime(path, (4e9, 4e9))  # written before the clock was set back

    monkeypatch.setattr(trainers.TaskTrainer, "_save_checkpoint", save)
    start(tmp_path)
    assert len(kept) == 2 and all(f"checkpoint-{step}" in there for step, there in zip((4, 8), kept, strict=True))


def test_a_result_of_a_newer_version_is_left_alone(undisturbed, start, tmp_path):
    folder = shutil.copytree(undisturbed, tmp_path / "run")
    newer = (folder / "results.json").read_text().replace('"schema": 1', '"schema": 2')
    (folder / "results.json").write_text(newer)
    with pytest.raises(UserError, match="schema is 2, this version reads 1"):
        start(folder)
    assert (folder / "results.json").read_text() == newer


# ---- the world ------------------------------------------------------------------------------------------------------


def test_a_world_killed_while_it_takes_the_place_of_another(tmp_path, monkeypatch):
    out = tmp_path / "world"
    write(out, size=0.02, languages=1)
    with monkeypatch.context() as patch:
        patch.setattr(
            sys.modules["world.files"].Path,
            "rename",
            lambda self, to: os.rename(self, to) if ".old" in str(to) else kill(),
        )
        killed(lambda: write(out, size=0.02, languages=2, force=True))
    assert write(out, size=0.02, languages=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["world"]
    with pytest.raises(WorldError):
        write(out, size=0.02, languages=1)
