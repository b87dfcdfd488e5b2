"""Arm and seed of a run: given, from its checkpoint's record, or from its folder's name; contradictions are
refused before work."""

import shutil
from types import SimpleNamespace

import pytest
import records

from tasks.errors import UserError
from xstilts.report.matrix import collect
from xstilts.run import places

RECORD = records.small("intermediate", task="mnli", arm="mnli", seed=3)


def run(**given):
    return SimpleNamespace(**{"arm": None, "seed": None, "plain_model": False, "output_dir": None} | given)


def measured(model, folder=None, **given):
    asked = run(**given)
    places.settle_measurement(asked, str(model), folder)
    return asked.arm, asked.seed


@pytest.fixture
def parent(tmp_path):
    records.write(tmp_path / "mnli/seed3/results.json", RECORD)
    return tmp_path / "mnli/seed3"


def test_arm_and_seed_are_those_of_the_checkpoint(parent, tmp_path):
    assert (
        measured(parent) == measured(parent, parent / "xnli") == measured(parent, tmp_path / "anywhere") == ("mnli", 3)
    )
    assert measured(parent, arm="mnli", seed=3) == ("mnli", 3)
    # a target's checkpoint, measured in its turn
    records.write(
        tmp_path / "cell/results.json", RECORD | {"phase": "target", "scores": {"en": {"accuracy": 1}}, "n": {"en": 1}}
    )
    assert measured(tmp_path / "cell") == ("mnli", 3)


@pytest.mark.parametrize(
    "given, told", [({"arm": "squad"}, "--arm squad"), ({"arm": "none"}, "--arm none"), ({"seed": 0}, "--seed 0")]
)
def test_a_contradiction_is_refused(parent, given, told):
    with pytest.raises(UserError, match=f"{told}: .*mnli/seed3/results.json says {told.split()[0][2:]} (mnli|3)"):
        measured(parent, **given)


@pytest.mark.parametrize("model", ["FacebookAI/xlm-roberta-base", "trained by make", "said to be plain"])
def test_a_plain_model_is_arm_none_at_any_seed(model, parent, tmp_path):
    given = {"plain_model": True} if "plain" in model else {}
    model = parent if given else model
    if model == "trained by make":
        records.write(tmp_path / "model/results.json", RECORD | {"phase": "mlm", "arm": "model", "seed": 0})
        model = tmp_path / "model"
    assert measured(model, **given) == ("none", 0)
    assert measured(model, seed=7, **given) == measured(model, tmp_path / "none/seed7/xnli", **given) == ("none", 7)
    assert measured(model, tmp_path / "none/seed2/xnli", arm="none", seed=2, **given) == ("none", 2)
    with pytest.raises(UserError, match="folder mnli/seed0 means arm mnli, seed 0, but .* arm none, seed 0"):
        measured(model, tmp_path / "mnli/seed0/xnli", **given)


def test_arm_trained_elsewhere_can_be_named(tmp_path):
    assert measured("me/xlmr-mnli", tmp_path / "mnli/seed1/xnli", arm="mnli") == ("mnli", 1)
    with pytest.raises(UserError, match="--arm mnli and --plain_model"):
        measured("me/xlmr-mnli", arm="mnli", plain_model=True)


@pytest.mark.parametrize(
    "place, given", [("squad/seed3/xnli", {}), ("mnli/seed0/xnli", {}), ("mnli/seed03/xnli", None)]
)
def test_a_cell_of_another_arm_or_seed_is_refused_before_the_work(place, given, parent, tmp_path):
    if given is None:  # no name of a seed's folder; the report says what it makes of it
        assert measured(parent, tmp_path / place) == ("mnli", 3)
    else:
        with pytest.raises(UserError, match="the report would leave it out. Give a folder mnli/seed3"):
            measured(parent, tmp_path / place)


def test_a_training_takes_arm_and_seed_of_its_folder(tmp_path):
    for folder, given, expected in (
        ("xnli+cross/seed2", {}, ("xnli+cross", 2)),
        ("elsewhere", {}, (None, 0)),
        ("elsewhere", {"seed": 4}, (None, 4)),
        ("a/seed1", {"arm": "a", "seed": 1}, ("a", 1)),
    ):
        asked = run(output_dir=str(tmp_path / folder), **given)
        places.settle_training(asked)
        assert (asked.arm, asked.seed) == expected
    for given in ({"arm": "squad"}, {"seed": 1}):
        with pytest.raises(UserError, match="folder mnli/seed0 means arm mnli, seed 0"):
            places.settle_training(run(output_dir=str(tmp_path / "mnli/seed0"), **given))


def test_every_script_settles_it_before_its_work(cli, parent, tiny_model, tiny_world, tmp_path):
    shutil.copytree(tiny_model, parent, dirs_exist_ok=True)
    few = ["--data_root", tiny_world, "--max_eval_samples", "4"]
    training = ["--max_steps", "1", "--max_train_samples", "8"]
    for script, task, out in (
        ("run_target.py", ["--task", "xnli", "--languages", "en", *training], parent / "xnli"),
        ("run_retrieval.py", ["--tasks", "tatoeba"], parent),
    ):
        asked = [script, *task, *few, "--model_name_or_path", parent, "--output_dir", out]
        done = cli(*asked, "--arm", "none")
        assert done.returncode == 2 and "--arm none" in done.stderr and not list(parent.glob("*/*"))
        assert cli(*asked).returncode == 0
        shutil.rmtree(out) if script == "run_target.py" else None
    assert {cell[:1] + cell[2:] for cell in collect(tmp_path).records} == {("mnli", 3)}
    for script, task in (
        ("run_mlm.py", []),
        ("run_intermediate.py", ["--tasks", "mnli"]),
        ("run_intermediate.py", ["--tasks", "squad_dual"]),
    ):
        done = cli(
            script,
            *task,
            *few,
            *training,
            "--model_name_or_path",
            tiny_model,
            "--output_dir",
            tmp_path / "a/seed1",
            "--seed",
            "0",
        )
        assert (
            done.returncode == 2
            and "folder a/seed1 means arm a, seed 1" in done.stderr
            and not (tmp_path / "a").exists()
        )
    done = cli(
        "run_intermediate.py",
        "--tasks",
        "mnli",
        *few,
        *training,
        "--model_name_or_path",
        tiny_model,
        "--output_dir",
        tmp_path / "a/seed1",
    )
    assert done.returncode == 0, done.stderr[-500:]
    assert (
        records.read(tmp_path / "a/seed1/results.json")["arm"],
        records.read(tmp_path / "a/seed1/results.json")["seed"],
    ) == ("a", 1)
