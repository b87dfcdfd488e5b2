"""Every script refuses an output folder that holds files it did not write, before its work, and leaves them as they
are."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
import records
from conftest import ROOT

from tasks.errors import UserError
from world.files import WorldError, translate, write
from xstilts.report.frames import long_table
from xstilts.report.matrix import collect
from xstilts.run import results
from xstilts.xtreme import submission

RECORD = records.small()
FEW = ["--max_steps", "1", "--max_train_samples", "8", "--max_eval_samples", "4"]
RUNS = {
    "run_target.py": ["--task", "xnli", "--languages", "en", *FEW],
    "run_intermediate.py": ["--tasks", "mnli", *FEW],
    "run_mlm.py": FEW,
    "run_retrieval.py": ["--tasks", "tatoeba", "--max_eval_samples", "4"],
    "run_intermediate.py squad_dual": ["--tasks", "squad_dual", *FEW],
}


def content(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture
def mine(tmp_path, tiny_model):
    """`mine(kind)`: a folder of one's own, and what it holds."""

    def make(kind):
        folder = tmp_path / "mine"
        if kind == "checkpoint":
            shutil.copytree(tiny_model, folder)
        elif kind == "inside":
            (folder / "data").mkdir(parents=True)
            (folder / "data" / "rows.jsonl").write_text("{}\n")
        else:
            folder.mkdir()
            (folder / kind).write_text("{}")
        return folder, content(folder)

    return make


@pytest.fixture
def ask(cli, tiny_model, tiny_world, tmp_path):
    """`ask(script, folder)`: the script of `RUNS` with the tiny model and world, writing to `folder` (tmp_path)."""
    return lambda script, folder=tmp_path: cli(
        script.split()[0],
        *RUNS[script],
        "--model_name_or_path",
        tiny_model,
        "--data_root",
        tiny_world,
        "--output_dir",
        folder,
    )


KINDS = ["checkpoint", "notes.txt", "run.json", "README.md", "inside"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("script", RUNS)
def test_a_run_refuses_it(script, kind, mine, ask):
    folder, before = mine(kind)
    out = folder
    if script == "run_retrieval.py":  # which writes to a folder of its own below the one given
        out, folder = folder, folder.rename(folder.with_name("moved"))
        out.mkdir()
        folder = folder.rename(out / "tatoeba")
    done = ask(script, out)
    name = {"checkpoint": "config.json", "inside": "data"}.get(kind, kind)
    assert done.returncode == 2 and f"--output_dir {folder} holds {name}" in done.stderr, done.stderr
    assert done.stderr.count("\n") == 1 and content(folder) == before


def test_run_resumes_in_its_folder_beside_other_runs(ask, tmp_path):
    """After a refusal under make, with cells of other runs in it, and with files of a user's that it does not
    write."""
    results.write_failure(tmp_path, "refused", None)
    records.write(tmp_path / "udpos/results.json", RECORD)
    assert ask("run_target.py").returncode == 0
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "results.json").unlink()
    assert ask("run_target.py").returncode == 0
    assert (tmp_path / "notes.txt").read_text() == "mine" and records.read(tmp_path / "udpos/results.json")[
        "seed"
    ] == 0


def test_a_copy_of_a_checkpoint_is_not_deleted(ask, tmp_path):
    assert ask("run_target.py").returncode == 0
    copy = tmp_path / "checkpoint-best"
    copy.mkdir()
    (copy / "model.safetensors").write_text("mine")
    assert ask("run_target.py").returncode == 0  # nothing to do
    (tmp_path / "results.json").unlink()
    done = ask("run_target.py")
    assert (
        done.returncode == 2 and "holds checkpoint-best, which this run did not write and would delete" in done.stderr
    )
    assert (copy / "model.safetensors").read_text() == "mine"


def test_killed_measurement_runs_again_in_its_folder(ask, tmp_path, monkeypatch):
    from xstilts.retrieve.measurement import Measurement

    plain = Measurement.write
    with monkeypatch.context() as patch:
        patch.setattr(Measurement, "write", lambda *args: [plain(*args), (_ for _ in ()).throw(KeyboardInterrupt)][0])
        ask("run_retrieval.py")
    assert (tmp_path / "tatoeba" / "predictions").is_dir() and not (tmp_path / "tatoeba" / "results.json").exists()
    done = ask("run_retrieval.py")
    assert done.returncode == 0, done.stderr


def test_a_run_json_that_cannot_be_read_is_refused(ask, tmp_path):
    (tmp_path / "run.json").write_text("{")
    done = ask("run_target.py")
    assert done.returncode == 2 and "settings of the folder are unknown" in done.stderr


@pytest.mark.parametrize("kind", [*KINDS, "cells.csv", "index.html"])
def test_a_report_refuses_it(kind, mine, cli, tmp_path):
    folder, before = mine(kind)
    records.write(tmp_path / "runs/none/seed0/xnli/results.json", RECORD)
    done = cli("run_report.py", "--runs_dir", tmp_path / "runs", "--output_dir", folder)
    assert done.returncode == 2 and f"--output_dir {folder} holds " in done.stderr and content(folder) == before


def test_a_report_takes_its_own_folder(cli, tmp_path):
    records.write(tmp_path / "none/seed0/xnli/results.json", RECORD)
    from xstilts.report.folder import HEADS

    assert long_table(collect(tmp_path)).to_csv(index=False).startswith(HEADS)
    for _ in range(2):
        assert cli("run_report.py", "--runs_dir", tmp_path).returncode == 0
        (tmp_path / "report" / "notes.txt").write_text("mine")
    assert (tmp_path / "report" / "notes.txt").read_text() == "mine"


def test_a_report_says_what_it_was_asked_for_if_it_is_whole(cli, tmp_path):
    """Half a report leaves no page, which make would take for that of the new tables."""
    records.write(tmp_path / "none/seed0/xnli/results.json", RECORD)
    note, page = tmp_path / "report/.asked", tmp_path / "report/index.html"
    asked = ["--runs_dir", str(tmp_path), "--arms", "none", "--seeds", "0"]
    assert cli("run_report.py", *asked, "--tasks", "xnli").returncode == 0 and page.is_file()
    assert note.read_text().split() == [*asked, "--tasks", "xnli"]
    assert cli("run_report.py", *asked, "--tasks", "xnli", "udpos").returncode == 0 and page.is_file()
    assert not note.exists()  # a cell is missing, and may come with an older file time
    assert cli("run_report.py", *asked, "--tasks", "xnli").returncode == 0 and note.is_file()
    (tmp_path / "report/matrix.md").unlink()
    (tmp_path / "report/matrix.md").mkdir()  # as a full disk: the file cannot be written
    assert cli("run_report.py", *asked).returncode == 2
    assert not page.exists() and not note.exists() and (tmp_path / "report/cells.csv").is_file()


@pytest.mark.parametrize("kind", KINDS)
def test_a_submission_and_an_export_refuse_it(kind, mine, cli, tiny_model, tiny_world, capsys):
    folder, before = mine(kind)
    assert submission.main(["gold", "--data_root", str(tiny_world), "--output", str(folder), "--tasks", "xnli"]) == 2
    assert str(folder) in capsys.readouterr().err
    done = cli("run_retrieval.py", "--model_name_or_path", tiny_model, "--export_sentence_transformers", folder)
    assert done.returncode == 2 and str(folder) in done.stderr and content(folder) == before


@pytest.mark.parametrize("file", ["notes.txt", "facebook__xnli/de/train.parquet", "world.json"])
def test_translations_are_not_written_among_other_files(file, tiny_model, tiny_world, tmp_path):
    from xstilts import translate as script

    path = tmp_path / "mt" / file
    path.parent.mkdir(parents=True)
    path.write_text("{}")
    with pytest.raises(UserError, match=f"--output_root .*mt holds {file}, which this script did not write"):
        script.main(
            [
                "--model",
                str(tiny_model),
                "--task",
                "xnli",
                "--languages",
                "de",
                "--data_root",
                str(tiny_world),
                "--output_root",
                str(tmp_path / "mt"),
            ]
        )
    assert path.read_text() == "{}"


def test_slurm_on_one_machine_does_not_write_over_a_cluster_s_files(tmp_path):
    (tmp_path / "slurm.conf").write_text("ClusterName=ours\n")
    done = subprocess.run(
        ["bash", "recipes/slurm/one-machine.sh", "start", tmp_path], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 2 and "holds files that this script did not write" in done.stderr
    assert content(tmp_path) == {Path("slurm.conf"): b"ClusterName=ours\n"}


# ---- worlds ---------------------------------------------------------------------------------------------------------


def test_world_with_other_files_is_not_replaced(tmp_path):
    write(tmp_path / "w", size=0.02, languages=1)
    (tmp_path / "w" / "ccgbank__ccg").mkdir(exist_ok=True)
    for mine in ("notes.txt", "facebook__xnli/en/mine.parquet"):
        (tmp_path / "w" / mine).parent.mkdir(exist_ok=True)
        (tmp_path / "w" / mine).write_text("mine")
        before = content(tmp_path / "w")
        with pytest.raises(WorldError, match=f"holds {mine}, not of this world"):
            write(tmp_path / "w", size=0.02, languages=1, seed=1, force=True)
        assert content(tmp_path / "w") == before
        (tmp_path / "w" / mine).unlink()
    assert write(tmp_path / "w", size=0.02, languages=1, seed=1, force=True)


def test_neither_a_world_nor_its_translations_take_the_others_place(tmp_path):
    """make gives --force for translations."""
    write(tmp_path / "one", size=0.02, languages=1)
    write(tmp_path / "other", size=0.02, languages=1)
    translate(tmp_path / "one", tmp_path / "mt")
    with pytest.raises(WorldError, match="holds a world, no translations"):
        translate(tmp_path / "one", tmp_path / "other", force=True)
    with pytest.raises(WorldError, match="holds translations of a world"):
        write(tmp_path / "mt", size=0.02, languages=1, force=True)
    assert translate(tmp_path / "one", tmp_path / "mt", noise=0.5, force=True)
    assert json.loads((tmp_path / "other" / "world.json").read_text())["seed"] == 0
