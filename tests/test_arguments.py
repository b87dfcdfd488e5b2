"""default < YAML < command line; a wrong key is refused with the nearest right one."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tasks.errors import UserError
from xstilts.cli import arguments
from xstilts.cli.arguments import DataArguments, RunArguments
from xstilts.cli.parsing import parse

ROOT = Path(arguments.__file__).parents[2]
RECIPES = sorted((ROOT / "recipes" / "arms").glob("*.yaml"))


@dataclass
class Mixed:
    tasks: list[str] = field(default_factory=list)
    temperature: float = 1.0
    examples_cap: int | None = None
    keep: bool = True
    seeds: list[int] = field(default_factory=list)


def read(argv, script="run_intermediate.py", training=True):
    return parse(argv, script, "A script.", Mixed, DataArguments, training=training)


@pytest.fixture
def recipe(tmp_path):
    def write(text):
        path = tmp_path / "recipe.yaml"
        path.write_text(text, encoding="utf-8")
        return str(path)

    return write


def test_default_then_yaml_then_command_line(recipe):
    path = recipe("temperature: 2\nexamples_cap: 50\nkeep: false\ntasks: [mnli, squad]\n")
    assert read([])[0][0] == Mixed()
    assert read(["--config", path])[0][0] == Mixed(["mnli", "squad"], 2.0, 50, False)
    assert read(["--config", path, "--temperature", "3", "--tasks", "udpos"])[0][0] == Mixed(["udpos"], 3.0, 50, False)


def test_one_item_where_a_list_is_meant(recipe):
    assert read(["--config", recipe("tasks: mnli\n")])[0][0].tasks == ["mnli"]


def test_yaml_numbers_without_a_dot_are_numbers(recipe):
    """YAML reads 2e-5 as text."""
    assert read(["--config", recipe("temperature: 2e-5\n")])[0][0].temperature == 2e-5


def test_training_arguments_pass_through_yaml_first(recipe):
    path = recipe("learning_rate: 2e-5\nlogging_steps: 7\n")
    _, rest = read(["--config", path, "--learning_rate", "3e-5"])
    run = RunArguments(output_dir="out")
    from xstilts.train.training_arguments import training_arguments

    args = training_arguments(run, rest, {"learning_rate": 1e-3, "weight_decay": 0.5})
    assert (args.learning_rate, args.logging_steps, args.weight_decay) == (3e-5, 7, 0.5)
    args = training_arguments(run, read(["--config", path])[1], {"learning_rate": 1e-3})
    assert args.learning_rate == 2e-5


@pytest.mark.parametrize("key, near", [("temprature", "temperature"), ("max_train_sample", "max_train_samples")])
def test_unknown_key_of_ours_names_the_nearest(recipe, key, near):
    with pytest.raises(UserError, match=f"'{key}' is unknown. Did you mean --{near}"):
        read([f"--{key}", "1"], training=False)
    with pytest.raises(UserError, match=f"'{key}' is unknown. Did you mean --{near}"):
        read(["--config", recipe(f"{key}: 1\n")], training=False)


@pytest.mark.parametrize(
    "flag, near",
    [
        ("--learning_rat=1", "learning_rate"),
        ("--num_train_epoch=1", "num_train_epochs"),
        # with training a key that is nobody's may be one of ours, misspelt
        ("--temprature=1", "temperature"),
        ("--max_train_sample=1", "max_train_samples"),
    ],
)
@pytest.mark.parametrize("way", ["command line", "yaml"])
def test_unknown_key_of_training_names_the_nearest(recipe, flag, near, way):
    from xstilts.train.training_arguments import training_arguments

    key = flag.lstrip("-").partition("=")[0]
    argv = [flag] if way == "command line" else ["--config", recipe(f"{key}: 1\n")]
    with pytest.raises(UserError, match=f"'{key}' is unknown. Did you mean --{near}"):
        training_arguments(RunArguments(output_dir="out"), read(argv)[1], {})


def test_flags_are_not_abbreviated():
    with pytest.raises(UserError, match="'temp' is unknown"):
        read(["--temp", "2"], training=False)


@pytest.mark.parametrize(
    "argv, told",
    [
        (["--temperature", "warm"], "temperature"),
        (["--temperature", "wa\nrm"], "temperature"),
        (["--examples_cap", "1.5"], "examples_cap"),
        (["--benchmark", "glue"], "xtreme"),
    ],
)
def test_wrong_value_names_its_argument(argv, told):
    with pytest.raises(UserError, match=told) as caught:
        read(argv)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text, told",
    [
        ("temperature: [1, 2]\n", "temperature takes one value"),
        ("a: [1\n", "not valid YAML"),
        ("- mnli\n", "key: value"),
        ("temperature: warm\n", "temperature"),
        ("seeds: [1, two]\n", "--seeds: invalid int value: 'two'"),
        ("seeds: {one: 1}\n", "seeds takes one value, or a list"),
    ],
)
def test_wrong_yaml_is_one_line(recipe, text, told):
    with pytest.raises(UserError, match=told) as caught:
        read(["--config", recipe(text)])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text, told",
    [
        ("seed: 1\nseed: 2\n", "line 2: .*'seed' is given twice"),
        ("max-seq-length: 8\nmax_seq_length: 8\n", "max_seq_length is given twice"),
        ("help: true\n", "help belongs on the command line"),
        ("config: x.yaml\n", "config belongs on the command line"),
        ("temperature: null\n", "temperature has no value"),
        ("learning_rate: ~\n", "learning_rate has no value"),
        ("benchmark: glue\n", "xtreme-r"),
        ("keep: maybe\n", "--keep"),
        ("tasks: []\n", "tasks takes a list"),
        ("tasks: [mnli, null]\n", "tasks takes a list"),
        ("tasks: [mnli, --keep]\n", "tasks takes a list"),
        ("lr_scheduler_kwargs: {num_cycles: 3}\n", "JSON goes in quotes"),
        ("learning_rate: fast\n", "--learning_rate: invalid float value"),
        ("logging_steps: 1e309\n", "--logging_steps inf"),
        ("temperature: .nan\n", "invalid float value"),
        ("temperature: nan\n", "temperature nan"),
        ("max_train_samples: 1.0\n", "invalid int value"),
        ("seeds: [1_0, x]\n", "'x'"),
        ("1: 2\n", "'1' is unknown"),
        ("<<: {seed: 1}\n", "'<<' is unknown"),
        ("max_train_samples: 2001-99-99\n", "invalid int value: '2001-99-99'"),
    ],
)
def test_ambiguous_yaml_is_refused(recipe, text, told):
    with pytest.raises(UserError, match=f"recipe.yaml.*{told}") as caught:
        read(["--config", recipe(text)])
    assert "\n" not in str(caught.value)


def test_yaml_values_are_kept_as_text(recipe):
    """As on the command line: no dates, octal numbers or booleans where a name is meant; null is no value."""
    values, _ = read(["--config", recipe("tasks: [no, 010, 1.10, 2001-01-01]\nexamples_cap: null\ndata-root: 1_0\n")])
    assert values[0] == Mixed(["no", "010", "1.10", "2001-01-01"]) and values[1].data_root == "1_0"


def test_a_list_of_yaml_takes_no_word_of_the_command_line(recipe):
    _, rest = read(["--config", recipe("report_to: [a, b]\n"), "--logging_steps", "3"])
    assert rest == ["--report_to", "a", "b", "--logging_steps", "3"]
    with pytest.raises(UserError, match="'stray' belongs to no argument"):
        read(["stray", "--config", recipe("tasks: [a]\n")])


@pytest.mark.parametrize(
    "argv, told",
    [
        (["--config", "a", "--config", "b"], "given 2 times"),
        (["--tasks", "a", "--tasks", "b"], "--tasks is given 2 times: a, then b"),
        (["--tasks=a", "--tasks=b"], "--tasks is given 2 times: a, then b"),
        (["--report-to", "a", "--logging_steps", "1", "--report_to", "b"], "--report_to is given 2 times"),
        (["--temperature", "1", "2"], "'2' belongs to no argument"),
        (["--tasks=--"], "--tasks=--"),
        (["--data_root=~/rows"], "--data_root=~/rows"),
        (["--logging_steps", "1e309"], "--logging_steps inf"),
        (["--deepspeed", "none.json"], "--deepspeed none.json: no such file"),
        (["--fsdp_config", "."], "is a folder"),
    ],
)
def test_unknown_words_are_refused(argv, told):
    with pytest.raises(UserError, match=told):
        read(argv)


def test_a_list_that_is_given_twice(monkeypatch, caplog):
    """Two lists of splits add up. In a run of make the last of other lists counts, and of single values always."""
    (_, data), rest = read(["--splits", "a.test=x", "--temperature=1", "--splits=b.test=y", "--logging_steps", "3"])
    assert data.splits == ["a.test=x", "b.test=y"] and rest == ["--logging_steps", "3"]
    assert read(["--temperature", "2", "--temperature", "3"])[0][0].temperature == 3
    assert not caplog.records
    monkeypatch.setenv("XSTILTS_MATRIX", "1")
    mixture = read(["--tasks", "a", "b", "--splits=a.test=x", "--tasks", "c"])[0][0]
    assert mixture.tasks == ["c"] and "--tasks is given 2 times; the last one counts: c" in caplog.text


@pytest.mark.parametrize("script", ["run_target.py", "run_retrieval.py"])
def test_a_task_that_is_given_twice_is_refused(script, cli, tmp_path):
    result = cli(script, "--task", "xnli", "--task=tatoeba", "--output_dir", tmp_path / "x")
    assert result.returncode == 2 and "is given 2 times: xnli, then tatoeba" in result.stderr


@pytest.mark.parametrize("words", [["--arms", "a", "--arms", "b"], ["--seeds", "1", "--seeds=2"]])
def test_a_list_of_a_tool_that_is_given_twice_is_refused(words, capsys):
    from xstilts import plan

    with pytest.raises(SystemExit):
        plan.main(["--runs_dir", "x", *words])
    assert f"{words[0]} is given 2 times" in capsys.readouterr().err


def test_a_name_with_dashes_is_the_same_argument(recipe):
    from_line, _ = read(["--examples-cap=3", "--data-root", "x"])
    assert (
        from_line == read(["--config", recipe("examples-cap: 3\ndata-root: x\n")])[0]
        and from_line[0].examples_cap == 3
    )
    assert read(["--learning-rate=1", "--num-train-epochs", "2"])[1] == [
        "--learning_rate=1",
        "--num_train_epochs",
        "2",
    ]


def test_the_fields_of_training_arguments_are_read_from_their_source():
    """Without importing torch; as the class itself has them."""
    from dataclasses import fields

    from transformers import TrainingArguments

    from xstilts.cli.words import training_fields

    assert list(training_fields()) == [f.name for f in fields(TrainingArguments) if f.init]
    found = {
        name: getattr(TrainingArguments(output_dir="x"), name)
        for name, kind in training_fields().items()
        if kind is not str
    }
    assert {"learning_rate", "max_steps", "logging_steps"} <= found.keys()
    assert all(value is None or isinstance(value, int | float) for value in found.values())


def test_missing_yaml_names_the_arms_like_it(monkeypatch):
    monkeypatch.chdir(ROOT)
    with pytest.raises(UserError, match="no such file. Did you mean hellaswag"):
        read(["--config", "recipes/arms/helaswag.yaml"])


def test_recipe_of_another_script_is_refused(recipe):
    path = recipe("script: run_mlm.py\nmlm_probability: 0.3\n")
    with pytest.raises(UserError, match="is a recipe of run_mlm.py; run `python run_mlm.py"):
        read(["--config", path])


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_every_arm_parses_with_its_script(path, parsed_by):
    """As its own script would: nothing unknown, tasks that exist."""
    import yaml

    from tasks import PAIR_NAMES, TASKS

    script = yaml.safe_load(path.read_text()).get("script", "run_intermediate.py")
    values = parsed_by(script, ["--config", str(path)])
    assert set(values.get("tasks", [])) <= {*TASKS, *PAIR_NAMES}


@pytest.mark.parametrize(
    "argv",
    [
        "--max_train_samples 0",
        "--max_train_samples -4",
        "--max_eval_samples 0",
        "--max_seq_length 0",
        "--max_seq_length -5",
        "--max_seq_length 5",
        "--seed -1",
        "--seed 4294967296",
        "--learning_rate nan",
        "--learning_rate -1",
        "--max_steps 0",
        "--max_steps -7",
        "--num_train_epochs 0",
        "--num_train_epochs nan",
        "--num_train_epochs inf",
        "--per_device_train_batch_size 0",
        "--per_device_eval_batch_size 0",
        "--gradient_accumulation_steps -2",
        "--warmup_steps nan",
        "--logging_steps nan",
        "--logging_steps -1",
        "--max_grad_norm nan",
        "--dataloader_num_workers -1",
        "--adam_beta1 2",
        "--report_to bogus",
        "--fsdp full_shard",
        "--label_smoothing_factor 0.1",
        "--prediction_loss_only true",
        "--dataloader_drop_last true",
        "--resume_from_checkpoint x",
        "--metric_for_best_model bogus",
        '--lr_scheduler_type cosine_with_restarts --lr_scheduler_kwargs {"a":1}',
        "--arm \udcff",
    ],
)
def test_unusable_value_is_refused_before_the_work(argv, cli, tiny_model, tiny_world, tmp_path):
    """Such were a traceback after rows and model, or worse: no training, a length that did not cut, a smoothing that
    was none."""
    more = [] if "epochs" in argv else ["--max_steps", 2]
    found = cli(
        "run_target.py",
        "--task",
        "xnli",
        "--model_name_or_path",
        tiny_model,
        "--data_root",
        tiny_world,
        *more,
        "--output_dir",
        tmp_path,
        *argv.split(" "),
    )
    assert found.returncode == 2 and "Traceback" not in found.stderr, found.stderr
    said = found.stderr.strip().splitlines()[-1]
    assert argv.split(" ")[0].rstrip("12") in said or "arm" in argv or "adam" in argv or "scheduler" in argv, said
    begun = (tmp_path / "run.json").exists()
    assert not begun or argv.startswith(("--adam_beta1", "--metric_for_best_model")), "rows had been read"
    assert not list(tmp_path.glob("results.json")) and not list(tmp_path.glob("checkpoint-*"))


@pytest.mark.parametrize(
    "script, flag, value",
    [
        ("run_intermediate.py", "alpha", "1.5"),
        ("run_intermediate.py", "switch_probability", "0.0"),
        ("run_intermediate.py", "mlm_probability", "1.0"),
        ("run_mlm.py", "mlm_probability", "0.0"),
        ("run_intermediate.py", "mlm_rate", "1.0"),
        ("run_intermediate.py", "temperature", "0.0"),
        ("run_intermediate.py", "examples_cap", "0"),
        ("run_intermediate.py", "scale", "-1.0"),
        ("run_intermediate.py", "cached_loss_mini_batch", "0"),
        ("run_mlm.py", "lora_dropout", "1.0"),
        ("run_mlm.py", "lora_alpha", "0.0"),
    ],
)
def test_a_number_out_of_range_is_refused_on_the_command_line_and_in_a_file(script, flag, value, cli, tmp_path):
    (tmp_path / "mine.yaml").write_text(f"{flag}: {value}\n")
    for words in ([f"--{flag}={value}"], ["--config", tmp_path / "mine.yaml"]):
        done = cli(script, *words)
        assert done.returncode == 2 and f"--{flag} {value}: " in done.stderr and done.stderr.count("\n") == 1
    assert "mine.yaml: " in done.stderr
