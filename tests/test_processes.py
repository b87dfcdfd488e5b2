"""Several processes: their number is shown and checked, and the result is that of one process."""

import importlib
from pathlib import Path

import pytest
import records
import torch
from safetensors.torch import load_file
from torch.utils.data import BatchSampler

from tasks.errors import UserError
from xstilts.run import endings, processes
from xstilts.train import batching, mixture

ROOT = Path(__file__).resolve().parents[1]
RECIPES = ROOT / "recipes" / "accelerate"


# ---- how many there are ---------------------------------------------------------------------------------------------


@pytest.fixture
def environment(monkeypatch):
    """`environment(name=value, ...)`: only these of the names that launchers set."""

    def set_to(**values):
        for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT", *processes.COPIES):
            monkeypatch.delenv(name, raising=False)
        for name, value in values.items():
            monkeypatch.setenv(name, value)

    set_to()
    return set_to


def test_one_process_unless_a_launcher_says_otherwise(environment):
    assert processes.world_size() == 1
    environment(WORLD_SIZE="2", RANK="1", LOCAL_RANK="1", MASTER_ADDR="127.0.0.1")
    assert processes.world_size() == 2
    environment(SLURM_STEP_NUM_TASKS="1")  # srun -n1
    assert processes.world_size() == 1


def test_rank_without_a_launcher_is_refused(environment):
    """A process that took itself for a second one would wait for the first for ever."""
    environment(RANK="8", LOCAL_RANK="-1")
    assert processes.is_first()
    environment(RANK="1", LOCAL_RANK="1", WORLD_SIZE="2", MASTER_ADDR="127.0.0.1")
    assert not processes.is_first()


@pytest.mark.parametrize(
    "values",
    [
        {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"},
        {"SLURM_STEP_NUM_TASKS": "2"},
        {"OMPI_COMM_WORLD_SIZE": "2"},
        {"WORLD_SIZE": "2"},
        {"LOCAL_RANK": "0"},
        {"WORLD_SIZE": "two", "RANK": "0", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1"},
    ],
)
@pytest.mark.parametrize("script, task", [("run_target.py", "--task xnli"), ("run_retrieval.py", "--tasks tatoeba")])
def test_fewer_than_were_asked_for_are_refused(
    script, task, values, environment, cli, tiny_model, tiny_world, tmp_path
):
    environment(**values)
    done = cli(
        script,
        *task.split(),
        "--model_name_or_path",
        tiny_model,
        "--data_root",
        tiny_world,
        "--output_dir",
        tmp_path / "out",
    )
    assert done.returncode == 2 and next(iter(values)) in done.stderr and "torchrun" in done.stderr
    assert done.stderr.count("\n") == 1 and not list(tmp_path.rglob("results.json"))


@pytest.mark.parametrize(
    "options, refused",
    [
        (["--cpu", "--num_processes", "2"], True),
        (["--cpu", "--num_machines", "2", "--main_process_ip", "10.0.0.1", "--main_process_port", "29500"], True),
        (["--cpu", "--num_processes", "1"], False),
    ],
)
def test_what_accelerate_starts_on_a_cpu(options, refused, environment):
    """accelerate's own launcher makes the environment: for two processes on a CPU it starts one."""
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser
    from accelerate.utils.launch import prepare_simple_launcher_cmd_env

    arguments, _, _ = _validate_launch_command(launch_command_parser().parse_args([*options, "run_target.py"]))
    _, made = prepare_simple_launcher_cmd_env(arguments)
    environment(
        **{
            name: made[name]
            for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
            if name in made
        }
    )
    if refused:
        with pytest.raises(UserError, match="MASTER_ADDR is set"):
            processes.world_size()
    else:
        assert processes.world_size() == 1


@pytest.mark.parametrize(
    "name, machines, number, kind",
    [
        ("cpu-2", 1, 2, "multi_gpu"),
        ("gpu-1", 1, 1, None),
        ("gpu-8-ddp", 1, 8, "multi_gpu"),
        ("gpu-8-fsdp2", 1, 8, "use_fsdp"),
        ("gpu-8-zero3", 1, 8, "use_deepspeed"),
        ("nodes-2", 2, 16, "multi_gpu"),
    ],
)
def test_accelerate_takes_each_recipe(name, machines, number, kind):
    """Its own loader refuses keys it does not know; its launcher chooses the way of starting by what it made of
    them."""
    from accelerate.commands.config.config_args import load_config_from_file
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser

    file = str(RECIPES / f"{name}.yaml")
    config = load_config_from_file(file)
    arguments, _, _ = _validate_launch_command(
        launch_command_parser().parse_args(["--config_file", file, "run_target.py"])
    )
    assert (
        (arguments.num_machines, arguments.num_processes)
        == (machines, number)
        == (config.num_machines, config.num_processes)
    )
    assert [k for k in ("multi_gpu", "use_fsdp", "use_deepspeed") if getattr(arguments, k)] == ([kind] if kind else [])
    for key, value in (config.fsdp_config | config.deepspeed_config).items():
        assert getattr(arguments, key) in (value, str(value)), key


def test_accelerate_makes_a_plugin_of_the_fsdp2_recipe(monkeypatch):
    from accelerate import FullyShardedDataParallelPlugin
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser
    from accelerate.utils.launch import prepare_multi_gpu_env

    arguments, _, _ = _validate_launch_command(
        launch_command_parser().parse_args(["--config_file", str(RECIPES / "gpu-8-fsdp2.yaml"), "run_target.py"])
    )
    for key, value in prepare_multi_gpu_env(arguments).items():
        monkeypatch.setenv(key, value)
    plugin = FullyShardedDataParallelPlugin()
    assert (plugin.fsdp_version, plugin.reshard_after_forward, plugin.state_dict_type.name) == (
        2,
        True,
        "FULL_STATE_DICT",
    )
    assert plugin.transformer_cls_names_to_wrap is None  # the trainer names the layers of whatever encoder it has


def test_every_recipe_is_tested():
    (marks,) = [m for m in test_accelerate_takes_each_recipe.pytestmark if m.name == "parametrize"]
    assert {row[0] for row in marks.args[1]} == {file.stem for file in RECIPES.glob("*.yaml")}


# ---- the same batches -----------------------------------------------------------------------------------------------


def steps(batches, parts):
    """The rows of each step of all processes together, as accelerate deals the parts out."""
    dealt = list(batching.SplitBatches(batches, parts))
    assert len(dealt) == len(batching.SplitBatches(batches, parts)) and all(dealt)
    return [sum(dealt[i : i + parts], []) for i in range(0, len(dealt), parts)]


@pytest.mark.parametrize("parts", [2, 4])
def test_the_processes_together_take_the_rows_of_one(parts):
    """43 rows in batches of 8: parts of one size, but the last batch of 3 is cut 2 + 1, or has a row twice for the
    fourth."""
    lengths = [1 + (7 * i) % 13 for i in range(43)]

    def order(size):
        sampler = batching.EpochSampler(lengths, size, seed=3)
        sampler.set_epoch(1)
        return sampler

    alone = list(BatchSampler(order(8), 8, drop_last=False))
    together = steps(BatchSampler(order(8), 8, drop_last=False), parts)
    assert together[:-1] == alone[:-1] and len(alone) == 6
    assert together[-1][:3] == alone[-1] and len(together[-1]) == max(3, parts)
    sizes = {len(part) for part in list(batching.SplitBatches(BatchSampler(order(8), 8, False), parts))[: 5 * parts]}
    assert sizes == {8 // parts}


def test_a_mixture_takes_them_too():
    lengths = {"large": [1 + i % 9 for i in range(50)], "small": [3, 4, 5]}  # fewer rows than a batch
    one = mixture.MixtureSampler(lengths, 8, 2, None, 1.0, seed=0)
    assert steps(one, 2) == list(one) and {len(batch) for batch in one} == {8, 3}


# ---- real runs ------------------------------------------------------------------------------------------------------

# SGD: Adam blows rounding up to whole steps where the gradient is zero but for rounding (the bias of a span head)
COMMON = [
    "--max_train_samples",
    "21",
    "--max_eval_samples",
    "5",
    "--num_train_epochs",
    "2",
    "--optim",
    "sgd",
    "--learning_rate",
    "0.1",
    "--bf16",
    "false",
    "--disable_tqdm",
    "true",
    "--max_seq_length",
    "48",
]
RUNS = {
    "target": ["run_target.py", "--task", "udpos", "--languages", "en", "qaa"],
    "mixture": ["run_intermediate.py", "--tasks", "mnli", "squad", "hellaswag"],
}


@pytest.fixture(scope="module")
def runs(still_model, tiny_world, tmp_path_factory, fork_ranks):
    """{processes: folder below which RUNS lie}, and what the two processes wrote to the terminal."""
    base = tmp_path_factory.mktemp("runs")

    def commands(world, batch):
        return [
            [
                *run,
                *COMMON,
                "--model_name_or_path",
                str(still_model),
                "--data_root",
                str(tiny_world),
                "--per_device_train_batch_size",
                str(batch),
                "--output_dir",
                str(base / str(world) / name),
            ]
            for name, run in RUNS.items()
        ]

    for script, *arguments in commands(1, 8):
        importlib.import_module(script.removesuffix(".py")).main(arguments)

    def work():
        def main(_):
            for script, *arguments in commands(2, 4):
                importlib.import_module(script.removesuffix(".py")).main(arguments)

        endings.command(main)
        threads = [file.read_text() for file in Path("/proc/self/task").glob("*/comm")]
        print("threads of the group left:", sum("gloo" in name for name in threads))

    ranks = fork_ranks(2, work, base / "log")
    for rank in ranks:
        rank.join(timeout=300)
    said = (base / "log").read_text()
    assert [rank.exitcode for rank in ranks] == [0, 0], said[-3000:]
    return {1: base / "1", 2: base / "2", "said": said}


def test_accelerate_starts_the_processes_of_a_recipe(fork_python, tmp_path):
    program = tmp_path / "program.py"
    program.write_text("from xstilts.run import processes\nprint(processes.world_size(), processes.is_first())\n")
    start = ["-m", "accelerate.commands.launch", "--config_file", RECIPES / "cpu-2.yaml", program]
    done = fork_python(*start, PYTHONPATH=str(ROOT))
    assert done.returncode == 0, done.stderr[-3000:]
    assert sorted(done.stdout.splitlines()) == ["2 False", "2 True"]


@pytest.mark.parametrize("name", RUNS)
def test_two_processes_score_as_one(name, runs, still_model):
    """Without dropout, in fp32: 2 x 4 rows a step give the scores of 1 x 8, and weights apart only by the order of
    sums."""
    one, two = (records.read(runs[n] / name / "results.json") for n in (1, 2))
    assert (one["scores"], one["n"], one["measures"]["steps"]) == (two["scores"], two["n"], two["measures"]["steps"])
    assert one["measures"]["tokens"] == two["measures"]["tokens"]
    assert one["dev"] == two["dev"]
    before = load_file(still_model / "model.safetensors")
    for file in (runs[1] / name).glob("*.safetensors"):
        expected, found = load_file(file), load_file(runs[2] / name / file.name)
        assert (
            name == "mixture"
            or max((expected[key] - before[key]).abs().max() for key in expected.keys() & before.keys()) > 1e-3
        )
        for key, weight in expected.items():
            torch.testing.assert_close(found[key], weight, rtol=0, atol=1e-5, msg=lambda m, key=key: f"{key}: {m}")


def test_no_thread_of_the_group_outlives_it(runs):
    """One that does aborts a process in a hundred after it has finished."""
    assert runs["said"].count("threads of the group left: 0") == 2


def test_one_process_writes_and_every_row_is_scored_once(runs):
    said = runs["said"]
    assert said.count("World size: 2") == len(RUNS)
    for name in RUNS:
        assert said.count(f"Wrote {runs[2] / name / 'results.json'}") == 1
    assert {p.relative_to(runs[1]) for p in runs[1].rglob("*")} == {p.relative_to(runs[2]) for p in runs[2].rglob("*")}
    for file in (runs[2] / "target" / "predictions" / "udpos").iterdir():
        assert len(file.read_text().strip("\n").split("\n\n")) == 5


@pytest.mark.parametrize(
    "said",
    [
        "[../third_party/gloo/gloo/transport/tcp/pair.cc:550] Connection closed by peer",
        "Application timeout caused pair closure",
    ],
)
def test_what_gloo_says_of_a_lost_peer_is_known(said):
    import torch.distributed  # noqa: F401

    assert "has ended, or cannot be reached" in processes.lost(RuntimeError(said))
    assert processes.lost(RuntimeError("of the run's own")) is None
