"""Shared fixtures: a tiny world, a tiny untrained XLM-R, the scripts started as a user would, real rows if there
are any.

Everything is offline and every cache lies in a folder of its own that is removed afterwards. What takes seconds to
make is made once for all xdist workers.
"""

from __future__ import annotations

import functools
import gc
import importlib.util
import json
import logging
import multiprocessing
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

ROOT = Path(__file__).resolve().parents[1]
HIDDEN, LAYERS, POSITIONS = 32, 2, 130  # POSITIONS: 128 tokens, as XLM-R counts from 2


def _environment() -> None:
    """Set before anything imports torch or datasets; the workers and the scripts inherit it."""
    if "XSTILTS_TEST_CACHE" not in os.environ:
        os.environ["XSTILTS_TEST_CACHE"] = tempfile.mkdtemp(prefix="xstilts-test-cache-")
        os.environ["XSTILTS_TEST_CACHE_OWNER"] = str(os.getpid())
    cache = os.environ["XSTILTS_TEST_CACHE"]
    os.environ |= {
        "HF_HOME": cache,
        "HF_DATASETS_CACHE": f"{cache}/datasets",
        "HF_HUB_CACHE": f"{cache}/hub",
        "MPLCONFIGDIR": f"{cache}/matplotlib",
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "OMP_WAIT_POLICY": "passive",
        "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONWARNINGS": "ignore",
    }
    os.environ.pop("HF_DATASETS_OFFLINE", None)
    for name in ("XSTILTS_MATRIX", "XSTILTS_PRELOAD"):  # no run that a test starts is one of a matrix
        os.environ.pop(name, None)


_environment()
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell that starts the tests in the background ignores it
    signal.signal(signal.SIGINT, signal.default_int_handler)


_frozen = 0  # modules that were loaded when the garbage collector was last told to leave them alone


def pytest_runtest_teardown(item):
    """Let the garbage collector skip what the libraries hold: the Trainer collects at each start, half of a tiny
    training's time."""
    global _frozen
    if len(sys.modules) > _frozen + 50:
        _frozen = len(sys.modules)
        gc.collect()
        gc.freeze()


def pytest_unconfigure(config):
    if os.environ.get("XSTILTS_TEST_CACHE_OWNER") == str(os.getpid()):
        shutil.rmtree(os.environ["XSTILTS_TEST_CACHE"], ignore_errors=True)


@pytest.fixture(scope="session")
def once(tmp_path_factory, worker_id) -> Callable[[str, Callable[[Path], None]], Path]:
    """`once(name, build)`: the folder `name` all workers share, filled by `build(folder)` in whichever asks first."""
    from filelock import FileLock

    base = tmp_path_factory.getbasetemp()
    base = base if worker_id == "master" else base.parent

    def get(name: str, build: Callable[[Path], None]) -> Path:
        with FileLock(base / f"{name}.lock"):
            folder = base / name
            if not folder.is_dir():
                part = base / f"{name}.part"
                shutil.rmtree(part, ignore_errors=True)
                part.mkdir()
                build(part)
                part.rename(folder)
        return folder

    return get


@pytest.fixture(scope="session")
def run_script() -> Callable[..., SimpleNamespace]:
    """`run_script("run_target.py", "--help")`: the script in a process of its own -> returncode, stdout, stderr."""

    def run(script: str, *arguments: object, **environment: str) -> SimpleNamespace:
        done = subprocess.run(
            [sys.executable, script, *map(str, arguments)],
            cwd=ROOT,
            env=os.environ | environment,
            capture_output=True,
            text=True,
        )
        return SimpleNamespace(returncode=done.returncode, stdout=done.stdout, stderr=done.stderr)

    return run


def _in_fork(work: Callable[[], None], log: Path, environment: dict[str, str]) -> None:
    """Call `work()` in a fork of this process as in a process of its own; what it prints goes to the file `log`."""
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)  # of runs in the process that was forked
    os.environ.update(environment)
    file = open(log, "a", buffering=1)
    for number in (1, 2):
        os.dup2(file.fileno(), number)
    sys.stdout = sys.stderr = file
    for handler in logging.getLogger().handlers[:]:  # pytest's own
        logging.getLogger().removeHandler(handler)
    work()


@pytest.fixture(scope="session")
def fork_ranks() -> Callable[[int, Callable[[], None], Path], list]:
    """`fork_ranks(2, work, log)`: two processes that call `work()`, as torchrun would start them; 1: one process.

    They are forks of this one, so that none takes seconds to import torch. Each has `exitcode`, `join` and `pid`;
    what they print goes to the file `log`.
    """
    context = multiprocessing.get_context("fork")

    def start(n: int, work: Callable[[], None], log: Path) -> list:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            group = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
        group |= {"WORLD_SIZE": str(n), "LOCAL_WORLD_SIZE": str(n)}
        ranks = [{} if n == 1 else {"RANK": str(rank), "LOCAL_RANK": str(rank)} | group for rank in range(n)]
        processes = [context.Process(target=_in_fork, args=(work, log, rank)) for rank in ranks]
        for process in processes:
            process.start()
        return processes

    return start


@pytest.fixture(scope="session")
def torchrun() -> Callable[[int, list[str], Path], multiprocessing.Process]:
    """`torchrun(2, ["run_target.py", ...], log)`: torchrun's agent, which starts the script twice.

    The agent is a fork of this process. The ranks are not: `processes.gone` reads the environment they began with.
    """

    def start(n: int, command: list[str], log: Path) -> multiprocessing.Process:
        from torch.distributed.launcher.api import LaunchConfig, elastic_launch

        config = LaunchConfig(  # as of `torchrun --standalone`
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=n,
            run_id=log.parent.name,
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            max_restarts=0,
        )
        agent = elastic_launch(config, sys.executable)
        work = functools.partial(agent, "-u", *command)
        process = multiprocessing.get_context("fork").Process(target=_in_fork, args=(work, log, {}))
        process.start()
        return process

    return start


@pytest.fixture
def forked(fork_ranks, tmp_path) -> Iterator[Callable[..., list]]:
    """`forked(2, work)`: as `fork_ranks`, with tmp_path / "log"; what still runs at the end of the test is killed."""
    started: list = []

    def start(n: int, work: Callable[[], None]) -> list:
        processes = fork_ranks(n, work, tmp_path / "log")
        started.extend(processes)
        return processes

    yield start
    for process in started:
        process.kill()
        process.join()


def _import_libraries() -> None:
    """What runs need, so that their forks do not import it."""
    for name in ("xstilts.train.trainers", "xstilts.train.runner", "xstilts.retrieve.measure"):
        importlib.import_module(name)


@pytest.fixture(scope="session")
def fork_python() -> Callable[..., SimpleNamespace]:
    """`fork_python("-m", "xstilts.push", ..., HF_TOKEN="x")`: as `run_script`, without the seconds of imports: see
    forks.py. Not for tests of what a process imports, or of its first moments."""

    def start(*command: object, **environment: str) -> SimpleNamespace:
        from tests.forks import run

        _import_libraries()
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err, open(os.devnull) as none:
            streams = [none.fileno(), out.fileno(), err.fileno()]
            given = (str(ROOT), os.environ | environment, list(map(str, command)), streams)
            process = multiprocessing.get_context("fork").Process(target=run, args=given)
            process.start()
            process.join(timeout=120)
            if process.exitcode is None:
                process.kill()
                process.join()
            for file in (out, err):
                file.seek(0)
            return SimpleNamespace(returncode=process.exitcode, stdout=out.read(), stderr=err.read())

    return start


def load_recipe(name: str) -> ModuleType:
    """Return recipes/NAME.py as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "recipes" / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def preloaded(monkeypatch) -> Iterator[str]:
    """In the test, runs that make starts are forks of this process (recipes/preload.py), so none imports torch.

    What it gives is the command that starts one, for a make with another RUN. Start make with close_fds=False.
    """
    from tests.forks import run

    _import_libraries()
    preload = load_recipe("preload")

    def serve(requests: socket.socket) -> None:
        server = preload.Server(requests)
        environments = {}

        def prepare(python: str, folder: str, environment: dict[str, str]) -> str:
            environments["last"] = environment  # each make has its own
            return ""

        server.prepare = prepare
        script = server.serve(None)
        run(str(ROOT), environments["last"], script, [0, 1, 2])

    requests, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with requests, theirs:
        theirs.set_inheritable(True)
        monkeypatch.setenv(preload.FD, str(theirs.fileno()))
        server = multiprocessing.get_context("fork").Process(target=serve, args=[requests])
        server.start()
        yield f"{sys.executable} -IS {ROOT}/recipes/preload.py"
        server.kill()
        server.join()


@pytest.fixture(scope="session")
def tiny_world(once) -> Path:
    """A world of a few dozen rows a file: English and two invented languages (qaa, qab)."""

    def build(folder):
        subprocess.run(
            [sys.executable, "-m", "world", "--out", folder, "--size", "0.02", "--languages", "2"],
            cwd=ROOT,
            check=True,
            capture_output=True,
        )

    return once("world", build)


@pytest.fixture(scope="session")
def tiny_model(once, tiny_world) -> Path:
    """An untrained XLM-R of two layers (dropout 0.1) and a tokenizer made from the tiny world's text."""

    def build(folder):
        import torch
        from datasets import load_dataset
        from transformers import XLMRobertaConfig, XLMRobertaForMaskedLM

        from xstilts.train.tokenizer import train_tokenizer

        files = sorted(map(str, tiny_world.glob("wikimedia__wikipedia/*/train.parquet")))
        text = load_dataset("parquet", data_files=files, split="train")["text"][:]
        tokenizer = train_tokenizer(text, 400, POSITIONS - 2)
        tokenizer.save_pretrained(folder)
        torch.manual_seed(0)
        config = XLMRobertaConfig(
            vocab_size=len(tokenizer),
            hidden_size=HIDDEN,
            num_hidden_layers=LAYERS,
            num_attention_heads=2,
            intermediate_size=64,
            max_position_embeddings=POSITIONS,
            type_vocab_size=1,
            pad_token_id=1,
            bos_token_id=0,
            eos_token_id=2,
        )
        XLMRobertaForMaskedLM(config).save_pretrained(folder)

    return once("model", build)


@pytest.fixture(scope="session")
def still_model(once, tiny_model) -> Path:
    """The tiny model without dropout: several processes draw other masks than one alone would."""

    def build(folder):
        shutil.copytree(tiny_model, folder, dirs_exist_ok=True)
        config = json.loads((folder / "config.json").read_text())
        config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "classifier_dropout": 0.0}
        (folder / "config.json").write_text(json.dumps(config))

    return once("still-model", build)


@pytest.fixture(scope="session")
def tokenizer(tiny_model):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_model)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real rows (XSTILTS_DATA, or shared/data beside the repository); skips where there is none."""
    folder = Path(os.environ.get("XSTILTS_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real rows at {folder} (set XSTILTS_DATA)")
    return folder


@pytest.fixture
def cli(monkeypatch, capsys) -> Callable[..., SimpleNamespace]:
    """`cli("run_target.py", "--task", "xnli", ...)`: the script in this process -> returncode, stdout, stderr.

    The same way in as from a shell (`command(main)`), without the seconds that a new process takes to import torch.
    """
    from xstilts.run.endings import command

    monkeypatch.chdir(ROOT)
    monkeypatch.syspath_prepend(str(ROOT))

    def run(script: str, *arguments: object) -> SimpleNamespace:
        main = importlib.import_module(script.removesuffix(".py")).main
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", [script, *map(str, arguments)])
        try:
            command(main)
            code = 0
        except SystemExit as leave:
            code = leave.code if isinstance(leave.code, int) else int(leave.code is not None)
        out = capsys.readouterr()
        return SimpleNamespace(returncode=code, stdout=out.out, stderr=out.err)

    return run


@pytest.fixture
def parsed_by(monkeypatch) -> Callable[[str, list[str]], dict]:
    """`parsed_by("run_target.py", argv)`: what the script makes of its arguments, before it does anything.

    Returns {argument name: value}; training arguments are parsed too, where there are any.
    """
    from xstilts.cli import arguments, parsing
    from xstilts.train.training_arguments import training_arguments

    class Parsed(Exception):
        pass

    def stop(*args, **options):
        raise Parsed(parsing.parse(*args, **options))

    monkeypatch.chdir(ROOT)
    monkeypatch.syspath_prepend(str(ROOT))

    def parsed(script: str, argv: list[str]) -> dict:
        module = importlib.import_module(script.removesuffix(".py"))
        with monkeypatch.context() as patch:
            patch.setattr(module, "parse", stop)
            with pytest.raises(Parsed) as caught:
                module.main(argv)
        kinds, rest = caught.value.args[0]
        if rest:
            training_arguments(arguments.RunArguments(output_dir="unused"), rest, {})
        return {name: value for kind in kinds for name, value in vars(kind).items()}

    return parsed
