"""Encoders of other architectures through whole scripts; tests/test_models.py has every architecture, without the
Trainer."""

import json
import shutil

import pytest
from safetensors.torch import load_file

from tests import architectures

FEW = "--max_steps 3 --max_train_samples 24 --max_eval_samples 8 --max_seq_length 32 --bf16 False --seed 0".split()


@pytest.fixture(scope="module", params=["xlm-roberta", "bert", "modernbert"])
def checkpoint(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("architecture") / request.param
    architectures.build(request.param, folder, num_hidden_layers=2)  # ModernBERT's two kinds; compiling takes seconds
    # dropout draws other numbers in another kernel
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(
        json.dumps(config | {key: 0.0 for key in config if key.endswith(("dropout", "dropout_prob"))})
    )
    return folder


# ---- how attention is computed, activations are kept and a model is compiled is a matter of speed: the training stays


@pytest.fixture
def trained(checkpoint, cli, tiny_world, tmp_path):
    """`trained("--torch_compile true")`: the weights after three steps; its record has those settings."""

    def train(argv, out=tmp_path / "out"):
        done = cli(
            "run_target.py",
            "--task",
            "xnli",
            "--languages",
            "en",
            "--model_name_or_path",
            checkpoint,
            "--data_root",
            tiny_world,
            "--output_dir",
            out,
            *FEW,
            *argv.split(),
        )
        assert done.returncode == 0, done.stderr
        settings = json.loads((out / "results.json").read_text())["settings"]
        words = argv.split()
        assert all(
            str(settings[name.removeprefix("--")]).lower() == value
            for name, value in zip(words[::2], words[1::2], strict=True)
        )
        return load_file(out / "model.safetensors")

    return train


@pytest.fixture
def eager(checkpoint, trained):
    """The weights by eager attention, made once for each architecture."""
    out = checkpoint.parent / "eager"
    if not (out / "results.json").exists():
        trained("--attn_implementation eager", out)
    return load_file(out / "model.safetensors")


@pytest.mark.parametrize(
    "argv",
    [
        "--attn_implementation sdpa",
        "--attn_implementation padding_free",
        "--attn_implementation padding_free --gradient_checkpointing true",
        "--gradient_checkpointing true",
        "--activation_checkpointing true",
        pytest.param("--torch_compile true --torch_compile_backend aot_eager", marks=pytest.mark.whole),
    ],
)
def test_it_trains_to_the_weights_of_eager_attention(argv, checkpoint, trained, eager):
    if "compile" in argv and checkpoint.name == "bert":
        pytest.skip("compiling takes seconds, and of BERT and XLM-R the code is the same")
    first, second = eager, trained(argv)
    assert first.keys() == second.keys()
    worst = max((first[name] - second[name]).abs().max().item() for name in first)
    assert worst < 2e-4, worst  # three Adam steps of 1e-4 or more: a weight moves by about that much in each
    start = load_file(checkpoint / "model.safetensors")
    assert any((first[name] - start[name]).abs().max() > 1e-5 for name in first.keys() & start.keys())


@pytest.mark.parametrize(
    "command",
    [
        "run_target.py --task xnli --gradient_checkpointing true",
        "run_mlm.py --activation_checkpointing true",
        "run_intermediate.py --tasks mnli squad --activation_checkpointing true",
    ],
)
def test_checkpointing_that_a_model_type_lacks(command, cli, tiny_world, tmp_path):
    architectures.build("albert", tmp_path / "albert")
    where = ["--model_name_or_path", tmp_path / "albert", "--data_root", tiny_world, "--output_dir", tmp_path / "out"]
    done = cli(*command.split(), *where, *FEW)
    assert done.returncode == 2 and command.split()[-2] in done.stderr


def test_flash_attention_that_is_not_there_is_said_before_rows_are_read(
    checkpoint, cli, tiny_world, tmp_path, monkeypatch
):
    monkeypatch.setattr("tasks.rows.Rows.read", lambda *_, **__: pytest.fail("rows are read"))
    done = cli(
        "run_target.py",
        "--task",
        "xnli",
        "--model_name_or_path",
        checkpoint,
        "--data_root",
        tiny_world,
        "--output_dir",
        tmp_path / "out",
        "--attn_implementation",
        "flash_attention_2",
    )
    assert done.returncode == 2 and "flash-attn" in done.stderr and "--attn_implementation" in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "command",
    [
        "run_target.py --task xnli --languages en",
        "run_intermediate.py --tasks mnli squad",
        "run_intermediate.py --tasks squad_dual --per_device_train_batch_size 4",
        "run_mlm.py --text_languages en",
        "run_retrieval.py --tasks tatoeba --layer all",
    ],
)
def test_outputs_that_a_config_asks_for_change_nothing(command, cli, tiny_model, tiny_world, tmp_path):
    shutil.copytree(tiny_model, tmp_path / "model")
    config = tmp_path / "model" / "config.json"
    asked = {"output_hidden_states": True, "output_attentions": True, "return_dict": False}
    config.write_text(json.dumps(json.loads(config.read_text()) | asked))
    where = ["--model_name_or_path", tmp_path / "model", "--data_root", tiny_world, "--output_dir", tmp_path / "out"]
    done = cli(*command.split(), *where, *([] if "retrieval" in command else FEW))
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "out").rglob("results.json"))


# ---- heads that transformers lacks ----------------------------------------------------------------------------------


@pytest.mark.parametrize("task", ["tydiqa", "xcopa"])
@pytest.mark.parametrize("name", ["eurobert", "nomic_bert"])
def test_a_head_of_ours_trains_under_the_trainer(name, task, cli, tiny_world, tmp_path):
    architectures.build(name, tmp_path / "model")
    done = cli(
        "run_target.py",
        "--task",
        task,
        "--model_name_or_path",
        tmp_path / "model",
        "--data_root",
        tiny_world,
        "--output_dir",
        tmp_path / "out",
        *FEW,
    )
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "out/results.json").read_text())
    assert len(record["scores"]) > 1
    assert (
        load_file(tmp_path / "out/model.safetensors").keys() != load_file(tmp_path / "model/model.safetensors").keys()
    )
