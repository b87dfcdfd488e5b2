"""benchmarks/gpu.sh in small, on a CPU: every part gives its numbers, a part that fails does not end the rest."""

import json
import os
import subprocess
import sys
from argparse import Namespace

import pandas as pd
import pytest
from conftest import ROOT


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import gpu

    return gpu


@pytest.fixture
def place(gpu, tiny_world, tmp_path):
    return gpu.Place(tmp_path, str(tiny_world), tiny=True)


def test_every_part_has_a_limit_and_all_limits_fit_in_ten_minutes(gpu):
    assert gpu.LIMITS.keys() == gpu.PARTS.keys() and sum(gpu.LIMITS.values()) < 600


def test_training_embedding_and_mining_give_their_numbers(gpu, place):
    import gpu_page

    results = {name: gpu.PARTS[name](place) for name in ("card", "train-mmbert-base", "embed", "mine")}
    rivals = results["train-mmbert-base"]["squad"]["rivals"]
    assert list(rivals) == ["ours", "example, best flags", "ours, embeddings frozen", "ours, padding_free"]
    assert all(rival["tokens_per_second"] > 0 for rival in rivals.values())
    assert results["embed"]["fp32"]["largest_difference"] < 1e-4
    mined = results["mine"]
    assert mined["pairs_that_differ_from_cpu"] == 0 and mined["largest_error_of_500_rows"] < 1e-6
    page = gpu_page.markdown(json.loads(json.dumps(results)))
    assert f"{rivals['ours']['tokens_per_second']:,.0f}" in page and page.count("\n## ") == 4
    # a part that runs out of time keeps what it has
    cut = gpu_page.markdown({"mine": mined | {"failed": "not done after 5 s"}})
    assert "**Failed:** not done after 5 s" in cut and f"{mined['pairs']:,} pairs" in cut


def test_attention_without_padding_is_neither_trained_nor_scored_in_fp32(gpu, place, monkeypatch):
    """A GPU refuses that."""
    import training

    from tasks import get_task
    from tasks.rows import Rows
    from xstilts.checkpoint import padding_free
    from xstilts.train import trainers

    halves = []

    def look(trainer):
        if padding_free.used_by(trainer.model):
            halves.append(trainer.args.bf16)

    monkeypatch.setattr(trainers, "check_model", look)
    given = Namespace(cpu_time=False, max_seq_length=64, batch_size=4, rows=4, runs=1, learning_rate=1e-5, bf16=True)
    given.padding_free = True
    training.race(get_task("xnli"), Rows(place.data_root), place.model("mmbert-base"), given)
    assert len(halves) == 3 and all(halves)  # a warm-up, a training, its loss on dev


def test_the_matrix_runs_on_both_from_one_model_and_its_scores_stand_side_by_side(gpu, place, tmp_path, monkeypatch):
    """make is only a script here, which writes what it was asked for and a table of scores."""
    make = tmp_path / "bin" / "make"
    make.parent.mkdir()
    make.write_text(
        f"""#!{sys.executable}
import os, pathlib, sys
given = dict(word.split("=", 1) for word in sys.argv[1:] if "=" in word)
out = pathlib.Path(given["OUT"])
(out / "report").mkdir(parents=True)
(out / "asked").write_text(given.get("MODEL", "") + " " + os.environ.get("CUDA_VISIBLE_DEVICES", "all"))
score = 40 if out.name == "gpu" else 42
(out / "report" / "matrix.csv").write_text("arm,xnli.score,xnli.score_sd\\nnone,%d,\\n" % score)
"""
    )
    make.chmod(0o755)
    monkeypatch.setenv("PATH", f"{make.parent}:{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert gpu.PARTS["matrix"](place)["scores"] == [{"arm": "none", "task": "xnli", "gpu": 40.0, "cpu": 42.0}]
    model = tmp_path / "matrix" / "model" / "model"
    asked = {name: (tmp_path / "matrix" / name / "asked").read_text() for name in ("gpu", "cpu")}
    assert asked == {"gpu": f"{model} all", "cpu": f"{model} "}


@pytest.mark.whole
def test_a_part_that_fails_or_takes_too_long_is_said_and_the_next_one_runs(gpu, tmp_path, tiny_world):
    command = ["bash", ROOT / "benchmarks" / "gpu.sh", "--tiny", "--out", tmp_path, "--parts", "matrix", "card"]
    broken = tmp_path / "rows"  # make refuses the matrix: there is no such folder
    done = subprocess.run(
        [*command, "--data_root", broken], env=os.environ | {"PY": sys.executable}, capture_output=True, text=True
    )
    results = json.loads((tmp_path / "gpu.json").read_text())
    assert done.returncode == 1 and "failed" in results["matrix"] and results["card"]["bf16_tflops"] > 0
    assert "**Failed:** exit status 1" in done.stdout and "TFLOP/s" in done.stdout
    words = ["--data_root", str(tiny_world), "--tiny"]
    assert gpu.run_part("mine", tmp_path, words, 0.05)["failed"] == "not done after 0 s"


@pytest.mark.slow
def test_the_small_matrix(gpu, place):
    scores = pd.DataFrame(gpu.PARTS["matrix"](place)["scores"])
    assert list(scores["task"]) == ["xnli"] and (scores["gpu"] == scores["cpu"]).all()
