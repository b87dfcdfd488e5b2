"""Run: one folder, one owner. When it writes which file, and who else writes."""

import json
import re
import signal
import sys
from pathlib import Path

import pytest
import torch

from tasks.errors import UserError
from tasks.rows import Rows
from xstilts.cli.arguments import RunArguments
from xstilts.run import endings, lifecycle, processes, results
from xstilts.run.lifecycle import Run, Stopped, fail_unopened, folders_of, this_process, unopened
from xstilts.run.lock import LOCK, FolderLock
from xstilts.run.outputs import clear_weights
from xstilts.run.record import Record

ROOT = Path(__file__).resolve().parents[1]
SETTINGS = {"model": "m", "data_root": "hub"}
VALUES = {
    "phase": "target",
    "task": "xnli",
    "form": "sentence_pair",
    "model": "m",
    "metric": "accuracy",
    "settings": SETTINGS,
    "data": [],
    "seconds": 1.0,
    "scores": {"en": {"accuracy": 60.0}},
    "n": {"en": 5},
}


@pytest.fixture
def start(tmp_path):
    """`start(name="run", settings={}, **options)`: an open run in that folder."""

    def run(name="run", settings=None, **options):
        return Run.open(
            RunArguments(output_dir=str(tmp_path / name), arm="none", seed=0),
            SETTINGS | (settings or {}),
            Rows(),
            **options,
        )

    return run


def record(run):
    return Record.new(RunArguments(output_dir=str(run.folder), arm="none", seed=0), **VALUES)


def names(folder):
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def test_seconds_count_from_the_beginning_to_the_record(start, monkeypatch):
    """Scoring is in it: in many languages it takes longer than training."""
    with start() as run:
        run.begin()
        began = lifecycle.time.monotonic()
        monkeypatch.setattr(lifecycle.time, "monotonic", lambda: began + 90)
        values = {key: value for key, value in VALUES.items() if key not in ("settings", "seconds", "data")}
        assert run.record(**values).seconds == pytest.approx(90, abs=1)


def test_from_its_beginning_to_its_end(start, tmp_path):
    folder = tmp_path / "run"
    with start() as run:
        assert not run.finished and run.checkpoint is None and names(folder) == [LOCK]
        results.write_failure(folder, "of an earlier run", None)
        run.begin()
        assert names(folder) == [LOCK, "run.json"] and json.loads((folder / "run.json").read_text())["processes"] == 1
        run.finish(record(run), checkpoint=False)
        assert names(folder) == ["README.md", "results.json", "run.json"]
        assert FolderLock(folder).acquire(patience=0)
    with start() as run:
        assert run.finished


@pytest.mark.parametrize("keeps", [True, False])
def test_nothing_of_an_earlier_training_stays_beside_the_result(keeps, start, tmp_path):
    """Predictions go when a run begins. Weights go when one ends that keeps none: until then they are the last."""
    folder = tmp_path / "run"
    with start() as run:
        run.begin()
    predictions = {f"predictions/{name}" for name in ("xnli/test-de.tsv", "xquad/test-de.json", "xcopa/test-et.jsonl")}
    weights = {"model.safetensors", "model-00001-of-00002.safetensors", "LICENSE.md", ".eval_results/xnli.yaml"}
    mine = {"predictions/xnli/notes.tsv", "my.safetensors", "candidates/best.txt"}
    for name in predictions | weights | mine:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()

    def there():
        return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} - {LOCK}

    with start(settings={"languages": ["fr"]}) as run:
        run.begin()
        assert there() == weights | mine | {"run.json"} and not (folder / "predictions/xquad").exists()
        run.finish(record(run), checkpoint=keeps)
    clear_weights(folder, str(folder))  # a model that was given is never removed
    assert there() - {"README.md", "run.json", "results.json"} == mine | (weights if keeps else set())


def test_a_measurement_keeps_its_settings_and_its_command(start, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["run_retrieval.py", "--data_root", "/srv/jo/rows"])
    with start(trains=False) as run:
        run.begin()
        begun = json.loads((tmp_path / "run" / "run.json").read_text())
        assert begun == SETTINGS | {"command": "python run_retrieval.py --data_root /srv/jo/rows"}
        assert run.checkpoint is None


def test_a_finished_run_of_other_settings_is_refused(start):
    with start() as run:
        run.begin()
        run.finish(record(run), checkpoint=False)
    with pytest.raises(UserError, match="lora_rank"):
        start(settings={"lora_rank": 2})
    with start() as run:  # the refused one has let go of the folder
        assert run.finished


@pytest.mark.parametrize("begun", [True, False])
@pytest.mark.parametrize(
    "error", [UserError("no such rows."), IndexError("4"), KeyboardInterrupt(), SystemExit(3), SystemExit(0)]
)
def test_what_ends_it_is_kept_and_the_folder_is_free(error, begun, start, tmp_path):
    refused = isinstance(error, UserError | KeyboardInterrupt) and not begun
    with pytest.raises(Stopped if isinstance(error, UserError) and begun else type(error)) as caught, start() as run:
        if begun:
            run.begin()
        raise error
    kept = (tmp_path / "run" / results.FAILED).exists()
    assert kept == (not refused and not (isinstance(error, SystemExit) and not error.code))
    if isinstance(error, UserError) and begun:
        assert str(caught.value).startswith(f"{tmp_path / 'run'} stopped: no such rows. Last good checkpoint: none;")
    assert FolderLock(tmp_path / "run").acquire(patience=0) and not this_process().runs


def test_of_several_open_runs_the_one_that_has_begun_has_failed(start, tmp_path):
    with pytest.raises(Stopped, match="one stopped: out of memory; lower --max_seq_length"):
        with start("one", trains=False) as run, start("two", trains=False):
            run.begin()
            raise MemoryError
    assert results.failures(tmp_path).keys() == {"one"} and names(tmp_path / "two") == []


def test_a_process_that_is_lost_is_kept_in_every_open_run(start, tmp_path):
    """The runs are checked but not begun, as while several processes embed: nothing can be refused any more."""
    with pytest.raises(Stopped, match="another process of this run has ended"):
        with start("one", trains=False) as one, start("two", trains=False) as two:
            one.checked = two.checked = True
            raise torch.distributed.DistBackendError("Connection closed by peer")
    assert results.failures(tmp_path).keys() == {"one", "two"}


@pytest.mark.parametrize("begun", [False, True])
def test_the_peer_of_a_refused_rank_names_no_cause_of_its_own(begun, start, tmp_path):
    """The peer sees only that a process has ended. The refusal is the cause, and it leaves no files."""
    lost = torch.distributed.DistBackendError("Connection closed by peer")
    with pytest.raises(Stopped if begun else type(lost)), start() as run:
        if begun:
            run.begin()
        raise lost
    assert results.failures(tmp_path).keys() == ({"run"} if begun else set())


@pytest.mark.parametrize("checked", [False, True])
def test_nor_does_a_peer_that_the_launcher_ends(checked, start, tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "gone", lambda: "process 0 of 2 has ended")
    with start() as run:
        run.checked = checked
        endings._stop(signal.SIGTERM, {})
    assert this_process().stopped.startswith("process 0 of 2 has ended, and the launcher ended the others")
    assert results.failures(tmp_path).keys() == ({"run"} if checked else set())
    this_process().stopped = None


def test_a_matrix_names_the_cause_of_the_refused_rank(start, tmp_path, monkeypatch):
    """The refused rank writes failed.json first, so what its peers see later does not replace the cause."""
    monkeypatch.setenv("XSTILTS_MATRIX", "1")
    argv = ["run_target.py", "--output_dir", str(tmp_path / "run")]
    refused, peer = unopened(argv), unopened(argv)
    fail_unopened("no such rows", refused)
    fail_unopened("process 0 of 2 has ended", peer)
    assert results.failures(tmp_path) == {"run": "no such rows"}


@pytest.mark.parametrize(
    "line, folders",
    [
        ("run_target.py --task xnli --output_dir out/xnli", ["out/xnli"]),
        ("run_target.py --output-dir=a --output_dir b", ["b"]),
        ("run_retrieval.py --output_dir out --tasks tatoeba bucc --layer 2", ["out/tatoeba", "out/bucc"]),
        ("run_retrieval.py --do_train --output_dir out --train_tasks squad_dual", ["out"]),
        ("run_intermediate.py --tasks mnli squad --output_dir out", ["out"]),
        ("run_mlm.py --output_dir", []),
        ("run_report.py --runs_dir x", []),
    ],
)
def test_the_folders_of_a_script_that_has_not_read_its_arguments(line, folders):
    assert folders_of(line.split()) == list(map(Path, folders))


def test_a_measurement_that_make_started_and_that_is_refused_says_why_where_the_report_looks(
    cli, tiny_model, tiny_world, tmp_path, monkeypatch
):
    words = [
        "run_retrieval.py",
        "--tasks",
        "tatoeba",
        "--languages",
        "xx",
        "--model_name_or_path",
        tiny_model,
        "--data_root",
        tiny_world,
        "--output_dir",
        tmp_path / "none/seed0",
    ]
    monkeypatch.setenv("MAKELEVEL", "1")  # a Makefile of the user's own
    assert cli(*words).returncode == 2 and not list(tmp_path.iterdir())
    monkeypatch.setenv("XSTILTS_MATRIX", "1")
    assert cli(*words).returncode == 2
    assert list(results.failures(tmp_path)) == ["none/seed0/tatoeba"]


def test_nothing_else_writes_those_files_or_holds_the_lock():
    """Who names them to write them; results.py and record.py have the functions, lifecycle.py calls them."""
    found = {}
    for path in [*ROOT.glob("*.py"), *ROOT.glob("xstilts/**/*.py")]:
        text, name = path.read_text(), path.name
        for what, pattern in {
            "failed.json": r"\bwrite_failure\(",
            "lock": r"\bFolderLock\(|FileLock\(",
            "results.json": r"record\.write\(",
            "run.json": r"write_text\([^\n]*(run\.json|RUN_FILE)",
        }.items():
            if re.search(pattern, text):
                found.setdefault(what, set()).add(name)
    assert found == {
        "failed.json": {"results.py", "lifecycle.py"},
        "lock": {"lock.py", "lifecycle.py", "temporary.py"},  # temporary.py: of folders of its own
        "results.json": {"lifecycle.py"},
        "run.json": {"lifecycle.py"},
    }
