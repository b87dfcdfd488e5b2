"""What recipes/slurm/matrix.sbatch submits: Slurm's commands are scripts that note how they are called."""

import os
import re
import subprocess
import sys

import pytest
from conftest import ROOT

SBATCH = """#!/bin/sh
n=$(cat "$NOTES/count" 2>/dev/null || echo 100)
echo $((n + 1)) > "$NOTES/count"
echo "$n $*" >> "$NOTES/calls"
echo $n
"""


@pytest.fixture
def submit(tmp_path, tiny_model, tiny_world):
    """`submit("AT_ONCE=2", ..., largest=4)`: (exit status, stderr, [(id, what sbatch was given)])."""
    tools = tmp_path / "bin"
    tools.mkdir()

    def run(*words, largest=1001):
        scripts = {
            "sbatch": SBATCH,
            "squeue": "#!/bin/sh\n",
            "scontrol": f"#!/bin/sh\necho 'MaxArraySize = {largest}'\n",
        }
        for name, text in scripts.items():
            (tools / name).write_text(text)
            (tools / name).chmod(0o755)
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS"))}
        environment = kept | {"PATH": f"{tools}:{os.environ['PATH']}", "NOTES": str(tmp_path)}
        variables = [f"PY={sys.executable}", "PRESET=world", f"OUT={tmp_path / 'out'}", f"MODEL={tiny_model}"]
        variables += [
            f"DATA_ROOT={tiny_world}",
            "WORLD_ARGS=",
            "MLM_ARGS=",
            "TARGETS=xnli udpos",
            "RETRIEVAL=",
            "SEEDS=0",
        ]
        done = subprocess.run(
            ["bash", "recipes/slurm/matrix.sbatch", *variables, *words],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=100,
        )
        calls = tmp_path / "calls"
        lines = calls.read_text().splitlines() if calls.is_file() else []
        return done.returncode, done.stderr, [line.partition(" ")[::2] for line in lines]

    return run


def test_an_array_is_no_longer_than_slurm_allows(submit):
    """Arm none has two cells, each other arm a phase 2: six runs start from the model."""
    code, stderr, jobs = submit("ARMS=none mnli squad rte qqp", "AT_ONCE=3", "--time=1:00:00", largest=4)
    assert code == 0, stderr
    arrays = [re.search(r"--array=(\S+)", call)[1] for _, call in jobs]
    assert arrays == ["0-0%3", "0-3%3", "0-1%3", *["0-1%3"] * 4, "0-0%3"]
    after = [re.search(r"--dependency=(\S+)|$", call)[1] for _, call in jobs]
    # the cells of the last two arms start from tasks 0 and 1 of the second array
    assert after[:7] == [
        None,
        "afterok:100",
        "afterok:100",
        "afterok:101_2",
        "afterok:101_3",
        "afterok:102_0",
        "afterok:102_1",
    ]
    assert after[7] == "afterany:101:102:103:104:105:106" and all("--time=1:00:00" in call for _, call in jobs)
    for _, call in jobs:
        number, targets = re.search(r" build (\d+) (.*) PY=", call).groups()
        assert "AT_ONCE" not in call and len(targets.replace("data model", "x").split()) == int(number)


def test_without_a_limit_there_is_one_array(submit):
    _, _, jobs = submit("ARMS=none mnli")
    assert [re.search(r"--array=(\S+)", call)[1] for _, call in jobs] == ["0-0", "0-2", "0-1", "0-0"]


def test_a_limit_that_is_no_number_is_refused(submit):
    code, stderr, jobs = submit("ARMS=none", "AT_ONCE=many")
    assert code == 2 and "AT_ONCE=many" in stderr and not jobs


@pytest.mark.parametrize("words", [["-p", "gpu"], ["--time", "12:00:00"], ["-J", "clean"], ["--exclusive", "test"]])
def test_a_word_that_make_would_take_for_a_goal_is_refused(words, submit):
    code, stderr, jobs = submit("ARMS=none", *words)
    assert code == 2 and stderr.startswith(f"{words[1]}: ") and stderr.count("\n") == 1 and not jobs
