"""--dtype auto: what it chooses, where that is recorded, and what a report says of arms in different precisions."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from tasks.errors import UserError
from tests import records
from xstilts.checkpoint import encoder as encoders
from xstilts.checkpoint import precision
from xstilts.report.matrix import collect
from xstilts.retrieve import cells
from xstilts.retrieve.embedding import Encoder

SENTENCES = ["one sentence", "another", "and a third"]
NO_UNITS = {"avx2": True, "avx512_bf16": False, "amx_tile": False}


@pytest.fixture
def units(monkeypatch):
    """`units(avx512_bf16=True)`: a machine without a GPU whose CPU has these units."""

    def machine(width=precision.BF16_WIDTH, **has):
        monkeypatch.setattr("torch.cuda.is_available", lambda: False)
        monkeypatch.setattr("torch.cpu.get_capabilities", lambda: NO_UNITS | has)
        monkeypatch.setattr(precision, "BF16_WIDTH", width)

    return machine


@pytest.mark.parametrize(
    "has, width, chosen",
    [
        ({}, 1024, "fp32"),
        ({"avx512_bf16": True}, 1024, "bf16"),
        ({"amx_tile": True}, 384, "bf16"),
        ({"amx_tile": True}, 128, "fp32"),
    ],
)
def test_a_cpu_computes_in_what_is_faster_there(units, has, width, chosen):
    units(**has)
    dtype, note = precision.choose("auto", width, "cpu")
    assert dtype == chosen and f"auto chose {chosen}" in note
    assert precision.choose("fp32", width, "cpu") == ("fp32", "")


@pytest.mark.parametrize("has", [True, False])
def test_a_gpu_computes_in_bf16_if_it_has_it_and_does_not_emulate_it(monkeypatch, has):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda including_emulation=True: has or including_emulation)
    assert precision.choose("auto", 128, "cuda")[0] == ("bf16" if has else "fp32")
    assert precision.has_bf16() == has  # the default of a training


def test_bf16_without_units_is_done_and_its_cost_said(units):
    units()
    dtype, note = precision.choose("bf16", 1024, "cpu")
    assert dtype == "bf16" and "several times as long" in note
    units(avx512_bf16=True)
    assert precision.choose("bf16", 1024, "cpu") == ("bf16", "")


def test_auto_gives_the_vectors_of_what_it_chose(units, tiny_model):
    for wide, chosen in ((16, "bf16"), (512, "fp32")):
        units(width=wide, avx512_bf16=True)
        auto = Encoder.load(tiny_model, layers="all", dtype="auto")
        same = Encoder.load(tiny_model, layers="all", dtype=chosen)
        assert auto.dtype == same.dtype == chosen
        for layer, vectors in same.embed(SENTENCES).items():
            assert np.array_equal(auto.embed(SENTENCES)[layer], vectors)


def test_in_bf16_only_linear_layers_are(tiny_model):
    """What runs from layer to layer stays in fp32, and layer 0, which has no linear layer, is as exact as in fp32."""
    rough, exact = (Encoder.load(tiny_model, layers="all", dtype=dtype, device="cpu") for dtype in ("bf16", "fp32"))
    kinds = {
        type(module).__name__: module.weight.dtype for module in rough.model.modules() if hasattr(module, "weight")
    }
    assert kinds == {"Embedding": torch.float32, "LayerNorm": torch.float32, "Linear": torch.bfloat16}
    near, true = rough.embed(SENTENCES), exact.embed(SENTENCES)
    assert np.array_equal(near[0], true[0]) and not np.array_equal(near[1], true[1])
    with torch.inference_mode():  # the context of the model ends with it: pooling is in fp32
        tokens, _ = rough.tokens(SENTENCES)
        list(rough._pool(*tokens.padded(np.arange(3), rough.tokenizer.pad_token_id)))
        assert not torch.is_autocast_enabled("cpu")


def test_in_bf16_sums_between_layers_lose_nothing(tiny_model):
    """The vectors are nearer to those in fp32 than those of the same model cast as a whole."""
    true, near, whole = (Encoder.load(tiny_model, dtype=dtype, device="cpu") for dtype in ("fp32", "bf16", "fp32"))
    whole.model.to(torch.bfloat16)
    layer = true.layers[0]
    expected = true.embed(SENTENCES)[layer]
    errors = [np.linalg.norm(encoder.embed(SENTENCES)[layer] - expected) for encoder in (near, whole)]
    assert 0 < errors[0] < 0.8 * errors[1]


def test_a_model_that_does_not_run_in_bf16_is_computed_in_fp32(units, tiny_model, monkeypatch):
    units(width=16, avx512_bf16=True)
    check = encoders.check_precision

    def fails_in_bf16(name, model, dtype):
        if dtype == "bf16":
            raise UserError(f"{name} does not run in bf16")
        check(name, model, dtype)

    monkeypatch.setattr(encoders, "check_precision", fails_in_bf16)
    auto = Encoder.load(tiny_model, layers=1, dtype="auto")
    assert auto.dtype == "fp32" and "does not run in bf16" in auto.dtype_note
    assert np.array_equal(auto.embed(SENTENCES)[1], Encoder.load(tiny_model, layers=1).embed(SENTENCES)[1])
    with pytest.raises(UserError, match="does not run in bf16"):
        Encoder.load(tiny_model, dtype="bf16")


@pytest.mark.parametrize("wide, chosen", [(16, "bf16"), (512, "fp32")])
def test_results_hold_what_was_chosen_and_why(units, cli, tiny_model, tiny_world, tmp_path, wide, chosen, caplog):
    caplog.set_level("INFO", logger="xstilts")
    units(width=wide, avx512_bf16=True)
    arguments = ("--model_name_or_path", tiny_model, "--data_root", tiny_world, "--tasks", "tatoeba")
    where = ("--output_dir", tmp_path, "--cache_dir", tmp_path / "cache")
    done = cli("run_retrieval.py", *arguments, *where)
    assert done.returncode == 0, done.stderr
    record, begun = (json.loads((tmp_path / "tatoeba" / name).read_text()) for name in ("results.json", "run.json"))
    assert record["settings"]["dtype"] == chosen and begun["dtype"] == "auto"
    assert sum(f"--dtype auto chose {chosen}" in note for note in record["notes"]) == 1
    assert sum(f"--dtype auto chose {chosen}" in message for message in caplog.messages) == 1
    kept = sorted((tmp_path / "cache").glob("*.npy"))
    explicit = cli("run_retrieval.py", *arguments, "--dtype", chosen, "--output_dir", tmp_path / "x", *where[2:])
    assert explicit.returncode == 0 and sorted((tmp_path / "cache").glob("*.npy")) == kept  # the same key
    assert not any("dtype" in note for note in json.loads((tmp_path / "x/tatoeba/results.json").read_text())["notes"])


def test_processes_that_choose_otherwise_are_refused(units, tiny_model, monkeypatch):
    from xstilts.cli.arguments import DataArguments, ModelArguments, RetrievalArguments

    units()
    monkeypatch.setattr(cells.processes, "broadcast", lambda value: "bf16")
    with pytest.raises(UserError, match="chose fp32 in this process and bf16 in process 0"):
        cells.encoder_to_measure(
            RetrievalArguments(), ModelArguments(model_name_or_path=str(tiny_model)), DataArguments()
        )


def test_a_report_says_that_precisions_differ(tmp_path):
    def problems(**dtypes):
        for arm, dtype in dtypes.items():
            result = records.small("retrieval", arm=arm, settings={"dtype": dtype}, layer=1, pooling="mean")
            records.write(tmp_path / arm / f"seed{result['seed']}" / result["task"] / "results.json", result)
        return [problem for problem in collect(tmp_path).problems if "precision" in problem]

    assert problems(none="fp32", squad="fp32") == []
    (problem,) = problems(none="fp32", squad="fp32", mnli="bf16")
    assert "mnli/seed" in problem and "(bf16)" in problem and "none" not in problem
