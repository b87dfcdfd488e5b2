"""How runs end: one line, and failed.json with the true cause and the last good checkpoint."""

import importlib
import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tasks.errors import UserError, full_disk
from xstilts.cli.arguments import RunArguments
from xstilts.run import causes, checkpoints, endings, lifecycle, results
from xstilts.run.files import write_text
from xstilts.run.record import FILE_NAME
from xstilts.train import featurizing, runner, trainers

ROOT = Path(__file__).resolve().parents[1]
FEW = ["--max_train_samples", "16", "--max_eval_samples", "4"]
TRAINING = {
    "run_target.py": ["--task", "xnli", "--languages", "en", "--eval_strategy", "steps", "--eval_steps", "3"],
    "run_intermediate.py": ["--tasks", "mnli"],
    "run_mlm.py": ["--text_languages", "en"],
    "run_intermediate.py squad_dual": ["--tasks", "squad_dual"],
}
MEASURING = ["run_retrieval.py", "--tasks", "tatoeba", "--languages", "qaa"]


@pytest.fixture
def train(cli, tiny_model, tiny_world, tmp_path):
    """`train(script)`: a training of 6 steps with a checkpoint each third one, in tmp_path / "run"."""

    def run(script, *more):
        return cli(
            script.split()[0],
            *TRAINING[script],
            "--model_name_or_path",
            tiny_model,
            "--data_root",
            tiny_world,
            *FEW,
            "--per_device_train_batch_size",
            "4",
            "--save_strategy",
            "steps",
            "--save_steps",
            "3",
            "--max_steps",
            "6",
            "--logging_steps",
            "3",
            "--bf16",
            "false",
            "--disable_tqdm",
            "true",
            "--output_dir",
            tmp_path / "run",
            *more,
        )

    return run


def failure(folder):
    return json.loads((folder / results.FAILED).read_text())


def line(done):
    """The one line of ours."""
    (found,) = [line for line in done.stderr.splitlines() if ".py: error: " in line]
    return found


# ---- a disk that takes no more --------------------------------------------------------------------------------------


@pytest.fixture
def largest_file():
    """`largest_file(bytes)`: a longer one is refused by the system, as on a full disk, also to libraries in C++ and
    Rust."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("size", [3_000, 50_000, 120_000])
@pytest.mark.parametrize("script", TRAINING)
def test_a_file_that_cannot_be_written_ends_every_training_in_one_line(
    script, size, train, largest_file, tmp_path, monkeypatch
):
    """Weights, the optimizer's state, the tokenizer: each library has its own words for it."""
    monkeypatch.setattr(sys, "argv", [script])
    assert train(script, "--max_steps", "1").returncode == 0  # rows and features are in the cache
    (tmp_path / "run" / FILE_NAME).unlink()
    (tmp_path / "run").rename(tmp_path / "before")
    largest_file(size)
    done = train(script)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "the disk may be full" in line(done) and "Last good checkpoint: none; the same command starts over" in line(
        done
    )
    assert (
        "the disk may be full" in failure(tmp_path / "run")["cause"]
        and failure(tmp_path / "run")["checkpoint"] is None
    )


@pytest.mark.parametrize(
    "broken", ["model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json"]
)
def test_incomplete_checkpoint_is_not_the_last_good_one(broken, train, tmp_path, monkeypatch):
    plain, failing = trainers.CheckedTrainer._save_checkpoint, []

    def save(self, *args):
        plain(self, *args)
        if self.state.global_step == 6:
            torn = Path(self.args.output_dir, "checkpoint-6", broken)
            os.truncate(torn, torn.stat().st_size // 2)
            failing.append(torn)
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(trainers.CheckedTrainer, "_save_checkpoint", save)
    monkeypatch.setattr(checkpoints, "rotate", lambda *_: None)
    done = train("run_target.py")
    good = str(tmp_path / "run" / "checkpoint-3")
    assert failing and done.returncode == 2 and f"Last good checkpoint: {good};" in line(done)
    assert failure(tmp_path / "run")["checkpoint"] == good


def test_incomplete_checkpoint_is_removed_for_failed_json(train, tmp_path, monkeypatch):
    """On a disk that it has filled."""
    plain = write_text

    def write(path, text):
        if Path(path).name == results.FAILED and (tmp_path / "run" / "checkpoint-3").exists():
            raise UserError("No space left on device")
        plain(path, text)

    def save(self, *args):
        Path(self.args.output_dir, "checkpoint-3").mkdir()
        raise RuntimeError("basic_ios::clear: iostream error")  # torch.save's

    monkeypatch.setattr(results, "write_text", write)
    monkeypatch.setattr(trainers.CheckedTrainer, "_save_checkpoint", save)
    assert train("run_target.py").returncode == 2
    assert (
        "torch.save could not write" in failure(tmp_path / "run")["cause"]
        and not (tmp_path / "run" / "checkpoint-3").exists()
    )


@pytest.mark.parametrize(
    "error, full",
    [
        (RuntimeError("basic_ios::clear: iostream error"), True),
        (OSError(27, "File too large"), True),
        (RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0"), True),
        (Exception("I/O error: No space left on device (os error 28)"), True),
        (Exception("Disk quota exceeded (os error 122)"), True),
        (
            RuntimeError("PytorchStreamReader failed reading zip archive: [enforce fail at inline_container.cc:325]"),
            False,
        ),
        (OSError(2, "No such file or directory"), False),
        (RuntimeError("shape mismatch"), False),
    ],
)
def test_what_a_full_disk_is_called(error, full):
    assert bool(full_disk(error)) == full


def test_what_a_full_disk_led_to_is_one_too():
    try:
        try:
            raise OSError(28, "No space left on device")
        except OSError:
            raise ValueError("the writer was not closed")  # noqa: B904  as libraries do
    except ValueError as error:
        assert "No space left" in full_disk(error)


def test_vectors_on_disk_have_their_room_at_once(tmp_path):
    """A hole in a file costs nothing until it is written, and on a disk that is full then that ends the process
    (SIGBUS)."""
    from xstilts.retrieve.vectors import new_array

    new_array(tmp_path / "vectors.npy", (1000, 256))
    assert (tmp_path / "vectors.npy").stat().st_blocks * 512 >= 1000 * 256 * 4


# ---- faults, panics, interrupts -------------------------------------------------------------------------------------


class Panic(BaseException):
    """As pyo3_runtime.PanicException, which a library in Rust raises: no Exception."""


@pytest.fixture(params=["before the training", "in it", "after it"])
def broken(request, monkeypatch):
    """`broken(error)`: raises it at that time of a training."""

    def set_to(error):
        def stop(*_, **__):
            raise error

        place = {
            "before the training": (featurizing, "max_length"),
            "in it": (trainers.CheckedTrainer, "training_step"),
            "after it": (runner, "measures"),
        }[request.param]
        monkeypatch.setattr(*place, stop)

    return set_to


@pytest.mark.parametrize("script", TRAINING)
def test_a_panic_leaves_its_cause_and_one_line(script, train, broken, tmp_path):
    broken(Panic("stride must be less than max_len"))
    done = train(script)
    assert (
        done.returncode == 1
        and "Panic: stride must be less than max_len" in line(done)
        and "Traceback" not in done.stderr
    )
    assert failure(tmp_path / "run")["cause"] == "Panic: stride must be less than max_len"


def test_a_panic_of_a_library_in_rust(train, tmp_path, monkeypatch, tokenizer):
    """A real one: a question leaves the text beside it less room than the stride."""
    monkeypatch.setenv("RUST_BACKTRACE", "0")

    def judge(*_, **__):
        room = (
            len(tokenizer("the bird", add_special_tokens=False)["input_ids"])
            + tokenizer.num_special_tokens_to_add(pair=True)
            + 1
        )
        tokenizer(
            ["the bird"],
            ["the other bird sees"],
            max_length=room,
            stride=3,
            truncation="only_second",
            return_overflowing_tokens=True,
        )
        raise UserError("no panic")

    monkeypatch.setattr(runner, "compare_with_chance", judge)
    done = train("run_target.py")
    if "no panic" in done.stderr:
        pytest.skip("this version of tokenizers does not panic")
    assert done.returncode == 1 and "PanicException: `stride`" in line(done) and "Traceback" not in done.stderr
    assert "PanicException" in failure(tmp_path / "run")["cause"]


def test_a_panic_while_measuring(cli, tiny_model, tiny_world, tmp_path, monkeypatch):
    from xstilts.retrieve import measure

    def stop(*_):
        raise Panic("index out of bounds")

    monkeypatch.setattr(measure, "retrieve", stop)
    done = cli(*MEASURING, "--model_name_or_path", tiny_model, "--data_root", tiny_world, "--output_dir", tmp_path)
    assert done.returncode == 1 and f"{tmp_path / 'tatoeba'} stopped: Panic: index out of bounds" in line(done)
    assert failure(tmp_path / "tatoeba")["cause"] == "Panic: index out of bounds"


@pytest.mark.parametrize(
    "error, code",
    [
        (IndexError("list index out of range"), None),
        (UserError("no such rows"), 2),
        (MemoryError(), 2),
        (RuntimeError("Cannot allocate memory"), 2),
        (OSError(28, "No space left on device"), 2),
    ],
)
def test_what_ends_a_training_after_its_last_step_is_kept_too(error, code, train, tmp_path, monkeypatch):
    def stop(*_, **__):
        raise error

    monkeypatch.setattr(runner, "compare_with_chance", stop)
    if code is None:  # a fault in the program keeps its traceback, below our line
        with pytest.raises(IndexError):
            train("run_target.py")
    else:
        done = train("run_target.py")
        assert done.returncode == code and line(done).endswith(
            f"{tmp_path / 'run' / 'checkpoint-6'}; the same command resumes from it."
        )
    kept = failure(tmp_path / "run")
    assert kept["checkpoint"] == str(tmp_path / "run" / "checkpoint-6") and kept["cause"]
    monkeypatch.undo()
    assert checkpoints.is_whole(Path(kept["checkpoint"]))


def test_bug_prints_one_line_above_its_traceback(run_script, tmp_path):
    broken = tmp_path / "broken.py"
    broken.write_text(
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "from xstilts.run.endings import command\ncommand(lambda _: [][0])\n"
    )
    done = run_script(str(broken))
    ours, rest = done.stderr.split("\n", 1)
    assert ours.startswith("broken.py: error: IndexError: list index out of range.") and "please report it" in ours
    assert done.returncode == 1 and rest.startswith("Traceback")


@pytest.mark.parametrize("words", [["run_report.py", "--help"], ["-m", "xstilts.plan", "--help"]])
def test_a_python_without_docstrings_is_refused(words, run_script):
    """transformers cannot be imported then."""
    done = run_script("-OO", *words)
    assert done.returncode == 2 and "PYTHONOPTIMIZE" in done.stderr and done.stderr.count("\n") == 1
    assert not done.stdout


def test_interrupt_names_the_checkpoint_to_resume_from(train, tmp_path, monkeypatch):
    plain = trainers.CheckedTrainer.training_step

    def step(self, *args, **kwargs):
        if self.state.global_step == 5:
            raise KeyboardInterrupt
        return plain(self, *args, **kwargs)

    monkeypatch.setattr(trainers.CheckedTrainer, "training_step", step)
    done = train("run_target.py")
    assert (
        done.returncode == 130
        and f"interrupted (Ctrl-C). Last good checkpoint: {tmp_path / 'run' / 'checkpoint-3'};" in line(done)
    )
    assert failure(tmp_path / "run")["cause"] == "interrupted (Ctrl-C)"


def test_what_was_refused_before_it_began_leaves_nothing(train, tmp_path):
    assert train("run_target.py", "--languages", "de").returncode == 2
    assert not (tmp_path / "run" / results.FAILED).exists()


def test_a_finished_run_has_not_failed_whatever_comes_then(train, tmp_path, monkeypatch):
    from xstilts.run import card

    def stop(*_, **__):
        raise UserError("the Hub does not answer")

    monkeypatch.setattr(card, "check_push", lambda run: None)
    monkeypatch.setattr(card, "push", stop)
    done = train("run_target.py", "--push_to_hub", "--hub_model_id", "me/it")
    assert done.returncode == 2 and line(done).endswith("error: the Hub does not answer.")
    assert (tmp_path / "run" / FILE_NAME).exists() and not (tmp_path / "run" / results.FAILED).exists()


def test_the_cause_of_an_earlier_run_is_not_taken_for_this_ones(tmp_path, monkeypatch):
    """Nor is what another process of the run has written overwritten; no clock decides which is which."""
    results.write_failure(tmp_path, "of an earlier run", None)
    os.utime(tmp_path / results.FAILED, (4e9, 4e9))
    with lifecycle.Run.open(RunArguments(output_dir=str(tmp_path)), {"model": "m", "data_root": "hub"}) as run:
        run.fail("of this process")
        assert failure(tmp_path)["cause"] == "of this process"
        results.write_failure(tmp_path, "of another process of the run", None)
        run.fail("it is gone")
    assert failure(tmp_path)["cause"] == "of another process of the run"


@pytest.mark.parametrize(
    "error, words",
    [
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. "), "lower --dataloader_num_workers"),
        (BrokenPipeError(32, "Broken pipe"), "the program that reads its output has ended"),
        (OSError(12, "Cannot allocate memory"), "out of memory"),
        (torch.OutOfMemoryError("CUDA out of memory"), "out of memory"),
        (RuntimeError("CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"), "out of memory"),
        (IndexError("4"), None),
    ],
)
def test_user_error_is_not_reported_as_a_bug(error, words):
    cause = causes.cause_of(error)
    assert cause is None if words is None else words in cause


def test_message_is_not_printed_behind_a_progress_bar(capsys, monkeypatch):
    from tqdm import tqdm

    monkeypatch.setattr(sys, "argv", ["run_target.py"])
    with pytest.raises(SystemExit), endings.ends_in_one_line():
        bar = tqdm(total=10, file=sys.stderr)
        bar.update(3)
        raise UserError("no such rows")
    assert "\rrun_target.py: error: no such rows.\n" in capsys.readouterr().err
    bar.close()


# ---- numbers that are none ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_predictions_that_are_no_numbers_are_not_scored(value, train, tmp_path, monkeypatch):
    """The first label would be taken for each of them, in silence."""
    plain = trainers.TaskTrainer.predict

    def predict(self, *args, **kwargs):
        output = plain(self, *args, **kwargs)
        if self.state.global_step == 6:
            output.predictions[0] = float(value)
        return output

    monkeypatch.setattr(trainers.TaskTrainer, "predict", predict)
    done = train("run_target.py")
    assert done.returncode == 2 and "predictions are not finite numbers" in line(done)
    assert "predictions are not finite" in failure(tmp_path / "run")["cause"]
    assert not (tmp_path / "run" / FILE_NAME).exists()


# ---- signals --------------------------------------------------------------------------------------------------------


@pytest.fixture
def long_training(tiny_model, tiny_world, tmp_path):
    """The arguments of one, and a function that waits for its first checkpoint: (arguments, log, folder, wait)."""
    folder, log = tmp_path / "run", tmp_path / "log"
    arguments = [
        "--task",
        "xnli",
        "--languages",
        "en",
        "--model_name_or_path",
        tiny_model,
        "--data_root",
        tiny_world,
        *FEW,
        "--per_device_train_batch_size",
        "2",
        "--max_steps",
        "5000",
        "--save_strategy",
        "steps",
        "--save_steps",
        "20",
        "--eval_strategy",
        "no",
        "--load_best_model_at_end",
        "false",
        "--bf16",
        "false",
        "--disable_tqdm",
        "true",
        "--output_dir",
        folder,
    ]

    def wait(ended):
        end = time.monotonic() + 300
        while not list(folder.glob("checkpoint-*/trainer_state.json")):
            assert time.monotonic() < end and not ended(), log.read_text()[-3000:]
            time.sleep(0.05)

    return list(map(str, arguments)), log, folder, wait


@pytest.fixture
def two_started(long_training, torchrun, monkeypatch):
    """A long training by torchrun: (launcher, log, folder), when its first checkpoint is there."""
    arguments, log, folder, wait = long_training
    monkeypatch.chdir(ROOT)
    launcher = torchrun(2, ["run_target.py", *arguments], log)
    try:
        wait(lambda: launcher.exitcode is not None)
        yield launcher, log, folder
    finally:
        launcher.kill()
        launcher.join()


def rank_of(launcher, rank):
    import psutil

    (found,) = [child for child in psutil.Process(launcher.pid).children() if child.environ().get("RANK") == str(rank)]
    return found


def error_lines(log):
    return [line for line in log.read_text().splitlines() if "run_target.py: error: " in line]


def test_signal_is_named_in_one_line(long_training, forked, monkeypatch):
    arguments, log, folder, wait = long_training
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("sys.argv", ["run_target.py", *arguments])
    (process,) = forked(1, lambda: endings.command(importlib.import_module("run_target").main))
    wait(lambda: process.exitcode is not None)
    os.kill(process.pid, signal.SIGTERM)
    process.join(timeout=30)
    assert process.exitcode == 128 + signal.SIGTERM
    (said,) = error_lines(log)
    kept = failure(folder)
    assert kept["cause"] == "ended by SIGTERM" in said and f"Last good checkpoint: {kept['checkpoint']};" in said
    assert checkpoints.is_whole(Path(kept["checkpoint"])) and "Traceback" not in log.read_text()
    assert results.unfinished(folder.parent) == [] and list(results.failures(folder.parent)) == ["run"]


@pytest.mark.whole
def test_the_other_process_says_which_one_is_gone(two_started):
    """Under torchrun, which ends the other one at once."""
    launcher, log, folder = two_started
    rank_of(launcher, 0).send_signal(signal.SIGSEGV)
    launcher.join(timeout=60)
    assert launcher.exitcode
    (said,) = error_lines(log)
    kept = failure(folder)
    assert kept["cause"].startswith("process 0 of 2 has ended") and kept["cause"] in said
    assert f"Last good checkpoint: {kept['checkpoint']};" in said and Path(kept["checkpoint"]).parent == folder


def test_the_first_process_says_that_the_other_is_gone(long_training, forked, monkeypatch):
    """Without a launcher, nobody knows which one it was."""
    arguments, log, folder, wait = long_training
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("sys.argv", ["run_target.py", *arguments])
    first, other = forked(2, lambda: endings.command(importlib.import_module("run_target").main))
    wait(lambda: first.exitcode is not None)
    os.kill(other.pid, signal.SIGKILL)
    first.join(timeout=60)
    assert first.exitcode == 2
    (said,) = error_lines(log)
    kept = failure(folder)
    assert kept["cause"].startswith("another process of this run has ended") and kept["cause"] in said
    assert f"Last good checkpoint: {kept['checkpoint']};" in said and Path(kept["checkpoint"]).parent == folder


def test_a_signal_is_heard_while_the_main_thread_waits_in_a_library(tmp_path):
    """As in a collective of a process that is gone: Python's own handlers do not come to their turn there."""
    script = tmp_path / "waits.py"
    script.write_text(
        "import ctypes, sys\nfrom xstilts.run.endings import command\n"
        "command(lambda _: (print('there', flush=True), ctypes.CDLL(None).sleep(60), ctypes.CDLL(None).sleep(60)))\n"
    )
    process = subprocess.Popen(
        [sys.executable, script],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout.readline() == "there\n"
    process.send_signal(signal.SIGUSR1)
    assert (
        process.wait(timeout=20) == 128 + signal.SIGUSR1
        and process.stderr.read() == "waits.py: error: ended by SIGUSR1.\n"
    )


def test_what_a_process_forks_has_signals_of_its_own(tmp_path):
    """The worker of a data loader that is ended is no end of the run; nor are signals that somebody else handles, or
    nohup ignores."""
    script = tmp_path / "forks.py"
    script.write_text("""
import os, signal, sys, time
from xstilts.run.endings import command
def main(_):
    child = os.fork()
    if not child:
        time.sleep(60)
        os._exit(0)
    os.kill(child, signal.SIGTERM)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM
    got = []
    signal.signal(signal.SIGTERM, lambda *_: got.append(1))
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGHUP)
    time.sleep(0.5)
    assert got
command(main)
print("done")
""")
    done = subprocess.run(
        [sys.executable, script],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        text=True,
        capture_output=True,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


def test_handlers_are_as_before_when_a_script_has_ended(cli, tmp_path):
    before = [signal.getsignal(one) for one in endings.SIGNALS]
    assert cli("run_report.py", "--runs_dir", tmp_path).returncode == 2
    assert [signal.getsignal(one) for one in endings.SIGNALS] == before


# ---- checkpoints of several processes -------------------------------------------------------------------------------


@pytest.fixture
def trained_by_two(train, tmp_path, monkeypatch):
    """A checkpoint as two processes leave it, and its run.json."""
    plain = trainers.CheckedTrainer.training_step

    def step(self, *args, **kwargs):
        if self.state.global_step == 5:
            raise KeyboardInterrupt
        return plain(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(trainers.CheckedTrainer, "training_step", step)
        assert train("run_target.py").returncode == 130
    checkpoint, note = tmp_path / "run" / "checkpoint-3", tmp_path / "run" / "run.json"
    state = (checkpoint / "rng_state.pth").read_bytes()
    for rank in (0, 1):
        (checkpoint / f"rng_state_{rank}.pth").write_bytes(state)
    (checkpoint / "rng_state.pth").unlink()
    assert json.loads(note.read_text())["processes"] == 1
    note.write_text(note.read_text().replace('"processes": 1', '"processes": 2'))
    return checkpoint


def test_checkpoint_without_the_part_of_a_killed_process_is_incomplete(trained_by_two, monkeypatch):
    monkeypatch.setattr("xstilts.run.processes.world_size", lambda: 2)
    assert checkpoints.is_whole(trained_by_two)
    (trained_by_two / "rng_state_1.pth").unlink()
    assert not checkpoints.is_whole(trained_by_two)


def test_other_numbers_of_processes_do_not_go_on_with_each_others_checkpoints(trained_by_two, train):
    done = train("run_target.py")
    assert (
        done.returncode == 2
        and "was begun with 2 processes, now there are 1" in line(done)
        and trained_by_two.is_dir()
    )
