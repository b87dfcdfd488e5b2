"""recipes/preload.py: a run that is forked is what a new Python would be, and ends alone, whoever is killed."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress

import psutil
import pytest
import records
from conftest import ROOT, load_recipe
from test_chain import begin, ended, make
from test_rooms import imports

preload = load_recipe("preload")
# the server, without the seconds of imports
SERVE = """
import sys
sys.path.insert(0, {recipes!r})
import preload
preload.LIBRARIES = ()
preload.main(["--for", *sys.argv[1:]])
"""
FORK = f"{sys.executable} -IS {ROOT}/recipes/preload.py"
PROBE = """
import json, os, signal, sys
hidden = ("SHLVL", "_", "XSTILTS_PRELOAD")
print(json.dumps({
    "argv": sys.argv, "path": sys.path[0], "name": __name__, "file": os.path.abspath(__file__), "folder": os.getcwd(),
    "environment": {k: v for k, v in os.environ.items() if k not in hidden},
    "input": sys.stdin.read(), "buffered": sys.stdout.line_buffering,
    "signals": {n: str(signal.getsignal(n)) for n in range(1, 32) if n not in (9, 19)},
    "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
    "descriptors": sorted(map(int, os.listdir("/proc/self/fd")))[:-1],
}, default=str))
print("words", file=sys.stderr)
if "fails" in sys.argv:
    sys.exit(7)
"""
SLEEPER = """
import os, signal, sys, time
def stop(number, frame):
    os.write(1, b"stopped %d\\n" % number)
    sys.exit(128 + number)
signal.signal(signal.SIGTERM, stop)
signal.signal(signal.SIGINT, stop)
os.write(1, b"pid %d\\n" % os.getpid())
time.sleep(60)
"""


@pytest.fixture
def serve(tmp_path):
    """`serve("shell commands")`: a started bash below the server; PROBE and SLEEPER lie in its folder."""
    (tmp_path / "probe.py").write_text(PROBE)
    (tmp_path / "sleeper.py").write_text(SLEEPER)
    started = []

    def start(commands, nohup=False):
        server = [sys.executable, "-c", SERVE.format(recipes=str(ROOT / "recipes"))]
        process = subprocess.Popen(
            [*(["nohup"] if nohup else []), *server, "bash", "-c", commands],
            cwd=tmp_path,
            env=os.environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            process_group=0,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def ends_soon(pid):
    """Whether the process is gone within ten seconds."""
    end = time.time() + 10
    with suppress(psutil.NoSuchProcess):
        while psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
            if time.time() > end:
                return False
            time.sleep(0.02)
    return True


def pid_of(process):
    """The process id that SLEEPER prints."""
    word, pid = process.stdout.readline().split()
    assert word == "pid"
    return int(pid)


def client_of(process, script="sleeper.py"):
    """The process that stands for the fork: a child of the shell."""
    return next(p for p in psutil.Process(process.pid).children(recursive=True) if script in p.cmdline())


@pytest.mark.parametrize("words", ["probe.py a 'b c'", "probe.py fails", "-m probe x"])
def test_a_fork_is_as_a_new_python(words, serve, tmp_path):
    plain = subprocess.run(
        ["bash", "-c", f"echo in | A=1 {sys.executable} {words}"],
        cwd=tmp_path,
        env=os.environ,
        capture_output=True,
        text=True,
    )
    forked = serve(f"echo in | A=1 {FORK} {words}")
    stdout, stderr = forked.communicate()
    found, expected = json.loads(stdout), json.loads(plain.stdout)
    assert found.pop("environment").items() ^ expected.pop("environment").items() == set()
    assert found == expected
    assert (stderr, forked.returncode) == (plain.stderr, plain.returncode)


def test_a_signal_that_is_ignored_stays_so(serve):
    """As nohup has it."""
    stdout, _ = serve(f"{FORK} probe.py < /dev/null", nohup=True).communicate()
    assert json.loads(stdout)["signals"]["1"] == str(signal.SIG_IGN)


def test_forks_run_side_by_side(serve):
    process = serve(f"{FORK} sleeper.py & {FORK} sleeper.py & wait")
    for pid in (pid_of(process), pid_of(process)):
        os.kill(pid, signal.SIGTERM)
    assert process.stdout.read().count("stopped 15") == 2


def test_a_killed_fork_ends_its_run_only(serve):
    process = serve(f"{FORK} sleeper.py; echo code $?; {FORK} -m json.tool --help > /dev/null; echo code $?")
    os.kill(pid_of(process), signal.SIGKILL)
    assert process.communicate()[0] == "code 137\ncode 0\n" and process.returncode == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_reaches_the_fork(number, serve):
    process = serve(f"{FORK} sleeper.py; echo code $?")
    pid_of(process)
    client_of(process).send_signal(number)
    assert process.communicate()[0] == f"stopped {int(number)}\ncode {128 + number}\n"


def test_ctrl_c_reaches_a_fork_once(serve):
    """A terminal sends it to the whole process group."""
    process = serve(f"{FORK} sleeper.py; echo code $?")
    pid_of(process)
    os.killpg(process.pid, signal.SIGINT)
    assert process.stdout.read() == "stopped 2\ncode 130\n" and process.wait() == 0


def test_ctrl_z_stops_a_fork_too(serve):
    process = serve(f"{FORK} sleeper.py; echo code $?")
    fork, client = psutil.Process(pid_of(process)), client_of(process)
    for number, stopped in ((signal.SIGTSTP, True), (signal.SIGCONT, False)):
        client.send_signal(number)
        end = time.time() + 10
        while any((p.status() == psutil.STATUS_STOPPED) != stopped for p in (fork, client)):
            assert time.time() < end
            time.sleep(0.02)
    client.terminate()
    assert process.stdout.read() == "stopped 15\ncode 143\n"


def test_sigterm_goes_to_the_command_and_its_exit_code_comes_back(serve):
    process = serve("trap 'exit 5' TERM; echo pid $$; while :; do sleep 0.05; done")
    pid_of(process)
    process.terminate()
    assert process.wait() == 5


def test_a_matrix_does_not_go_on_when_its_make_is_killed(serve):
    server = f"{sys.executable} {ROOT}/recipes/preload.py --for bash -c"
    make = subprocess.Popen(
        ["bash", "-c", f"{server} 'echo pid $$; trap \"exit 5\" TERM; while :; do sleep 0.05; done'; true"],
        stdout=subprocess.PIPE,
        text=True,
    )
    pid = pid_of(make)
    make.kill()
    assert ends_soon(pid)
    make.communicate()


def test_a_fork_does_not_outlive_the_process_that_stands_for_it(serve):
    process = serve(f"{FORK} sleeper.py; echo code $?")
    pid = pid_of(process)
    client_of(process).kill()
    assert ends_soon(pid) and process.communicate()[0] == "code 137\n"


def test_a_fork_does_not_outlive_the_server(serve, tmp_path):
    process = serve(f"{FORK} sleeper.py; echo code $? > ended")
    pid, shell = pid_of(process), client_of(process).parent()
    process.kill()
    assert ends_soon(pid) and ends_soon(shell.pid) and (tmp_path / "ended").read_text() == "code 1\n"


@pytest.mark.parametrize(
    "before, after, reason",
    [
        ("A=1", "A=2", "A in its environment"),
        ("", "cd sub;", "PWD in its environment"),
        ("OLDPWD=$PWD", "cd sub; PWD=$OLDPWD", "sub, the first run"),
        ("", "unset XSTILTS_PRELOAD;", ""),
        ("", "XSTILTS_PRELOAD=77", "cannot be reached"),
        ("", "XSTILTS_PRELOAD=x", "cannot be reached"),
    ],
)
def test_without_a_fork_it_is_the_script_itself_and_says_why(before, after, reason, serve, tmp_path):
    (tmp_path / "sub").mkdir()
    process = serve(f"{before} {FORK} -m json.tool --help > /dev/null; {after} {FORK} {tmp_path}/probe.py < /dev/null")
    stdout, stderr = process.communicate()
    assert process.returncode == 0 and json.loads(stdout)["argv"] == [f"{tmp_path}/probe.py"]
    said = [line for line in stderr.splitlines() if "a process of its own" in line]
    assert len(said) == bool(reason) and reason in "".join(said)


def test_elsewhere_than_on_linux_each_run_is_a_process_of_its_own(serve, tmp_path):
    code = SERVE.format(recipes=str(ROOT / "recipes")).replace(
        "import preload", "sys.platform = 'darwin'; import preload"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "bash", "-c", f"{FORK} probe.py a < /dev/null"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert json.loads(done.stdout)["argv"] == ["probe.py", "a"] and done.stderr == "words\n"


def test_threads_make_forks_unsafe(serve, tmp_path):
    (tmp_path / "threaded.py").write_text(
        "import threading, time\nthreading.Thread(target=time.sleep, args=[9], daemon=True).start()"
    )
    code = SERVE.format(recipes=str(ROOT / "recipes")).replace("= ()", "= ('threaded',)")
    done = subprocess.run(
        [sys.executable, "-c", code, "bash", "-c", f"{FORK} probe.py < /dev/null"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert (
        done.returncode == 0
        and "probe.py starts as a process of its own: a library has started threads" in done.stderr
    )


# ---- the libraries --------------------------------------------------------------------------------------------------

LIBRARIES = """
import os, sys
sys.path.insert(0, {recipes!r})
import preload, torch

def refuse(*args, **kwargs):
    raise AssertionError("an import asks for a GPU: a fork could not use it then")

for name in ("is_available", "device_count", "init", "_lazy_init", "current_device", "get_device_properties"):
    setattr(torch.cuda, name, refuse)
for name in ("_cuda_getDeviceCount", "_cuda_init"):
    if hasattr(torch._C, name):
        setattr(torch._C, name, refuse)
preload.LIBRARIES += tuple(sys.argv[1:])
print(preload.preload(dict(os.environ)) or "safe")
from tqdm.std import TqdmDefaultWriteLock
print("mp_lock" in vars(TqdmDefaultWriteLock))
print(*sys.modules)
"""
# imported by what a matrix does not start, or starts once
RARE = {"sentencepiece", "evaluate", "matplotlib", "nltk", "psutil", "_typeshed"}


@pytest.mark.whole
def test_the_libraries_start_no_threads_touch_no_gpu_and_are_all_there():
    done = subprocess.run(
        [sys.executable, "-c", LIBRARIES.format(recipes=str(ROOT / "recipes"))],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    unsafe, shared_lock, modules = done.stdout.splitlines()
    assert unsafe == "safe"
    assert shared_lock == "False", "a run that is killed at its progress bar would stop the others"
    needed = set()
    for room in ("tasks", *(f"xstilts/{name}" for name in ("checkpoint", "cli", "retrieve", "run", "train"))):
        for path in (ROOT / room).rglob("*.py"):
            module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            needed |= {name.split(".")[0] for _, name in imports(path.read_text(), module)}
    needed -= {"xstilts", "tasks", *sys.stdlib_module_names, *RARE}
    assert "torch" in needed and needed <= set(modules.split()), needed - set(modules.split())


# ---- a matrix -------------------------------------------------------------------------------------------------------


@pytest.fixture
def small(preloaded, tiny_model, tiny_world, tmp_path):
    """make's variables of a matrix with one target, whose runs are forks of this process."""
    few = "--max_seq_length 64 --per_device_train_batch_size 4 --bf16 False --max_eval_samples 8"
    asked = ["PRESET=world", f"OUT={tmp_path}", f"MODEL={tiny_model}", f"DATA_ROOT={tiny_world}", "WORLD_ARGS="]
    asked += ["MLM_ARGS=", "TARGETS=udpos", "RETRIEVAL=", "SEEDS=0", "INTERMEDIATE_ARGS=--learning_rate nan"]
    return [*asked, f"TARGET_ARGS={few}", "ARGS_udpos=--max_steps 40 --save_strategy steps --save_steps 5"]


def test_a_run_that_fails_is_as_it_was(small, tmp_path):
    """Refused with exit code 2 and failed.json; with -k the others are done and the report is written."""
    done = make("matrix", *small, "ARMS=squad none")
    assert done.returncode == 2 and done.stderr.count("run_intermediate.py: error: ") == 1
    assert "nan" in json.loads((tmp_path / "squad/seed0/failed.json").read_text())["cause"]
    assert not (tmp_path / "report").exists()
    done = make("-k", "-j2", "matrix", *small, "ARMS=squad none")
    assert done.returncode == 2 and (tmp_path / "none/seed0/udpos/results.json").is_file()
    assert "squad/seed0 failed: " in (tmp_path / "report/matrix.md").read_text()
    assert "process of its own" not in done.stderr


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_run_that_is_killed_resumes(number, small, tmp_path):
    run = tmp_path / "none/seed0/udpos"
    started = begin(f"{run}/results.json", *small, "ARMS=none")
    end = time.time() + 300
    while not list(run.glob("checkpoint-*/trainer_state.json")):
        assert time.time() < end and started.poll() is None
        time.sleep(0.01)
    children = psutil.Process(started.pid).children(recursive=True)
    next(process for process in children if "run_target.py" in process.cmdline()).send_signal(number)
    done = ended(started)
    assert done.returncode == 2 and not (run / "results.json").exists()
    assert (run / "failed.json").exists() == (number == signal.SIGTERM)
    done = make("matrix", *small, "ARMS=none")
    assert done.returncode == 0 and "Resuming" in done.stderr and (run / "results.json").is_file()


@pytest.mark.whole
def test_make_matrix_gives_the_same_files_either_way(tiny_model, tiny_world, tmp_path):
    few = "--max_steps 5 --max_seq_length 64 --per_device_train_batch_size 4 --bf16 False --max_eval_samples 8"
    asked = ["matrix", "PRESET=world", f"MODEL={tiny_model}", f"DATA_ROOT={tiny_world}", "WORLD_ARGS=", "MLM_ARGS="]
    asked += ["ARMS=none", "TARGETS=udpos", "RETRIEVAL=tatoeba", "SEEDS=0", f"TARGET_ARGS={few}", "ARGS_udpos="]
    asked += ["RETRIEVAL_ARGS=--layer all --report_layer 1"]
    printed, files = {}, {}
    for way, more in {"forked": [], "alone": ["PRELOAD="]}.items():
        out = tmp_path / way / "runs"
        done = make(*asked, f"OUT={out}", *more)
        assert done.returncode == 0 and "process of its own" not in done.stderr, done.stderr[-3000:]
        printed[way], files[way] = done.stdout, sorted(path for path in out.rglob("*") if path.is_file())
    assert printed["forked"].count("recipes/preload.py run_") == 2 and "preload" not in printed["alone"]
    for one, other in zip(files["forked"], files["alone"], strict=True):
        assert one.relative_to(tmp_path / "forked") == other.relative_to(tmp_path / "alone")
        if one.name == "results.json":
            pair = [records.read(path) for path in (one, other)]
            for record in pair:
                for name in ("seconds", "finished", "command"):  # when, and in which folder
                    del record[name]
            assert pair[0] == pair[1]
        elif one.parent.name != "report" and one.name not in ("run.json", "README.md"):
            assert one.read_bytes() == other.read_bytes(), one
    again = make(*asked, f"OUT={tmp_path}/forked/runs")
    assert again.stdout.startswith("Nothing to do: all 2 cells are done.") and again.stdout.count("\n") == 1
