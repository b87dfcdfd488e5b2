"""No access token in any file, and no place of a local folder in what is pushed."""

import json
import os

import pytest
import records

from tasks.errors import UserError
from xstilts.cli import privacy, words
from xstilts.cli.arguments import DataArguments, RunArguments
from xstilts.cli.parsing import parse
from xstilts.run import card, results
from xstilts.run.environment import command_line

SECRET = "hf_SecretSecretSecret"
URL = f"https://jo:{SECRET}@host/rows"

# ---- access tokens --------------------------------------------------------------------------------------------------

WAYS = [
    ["--hub_token", "x"],
    ["--hub-token", "x"],
    ["--hub_token=x"],
    ["--hub-token=x"],
    ["--hf_token", "x"],
    ["--token=x"],
    ["--api-key", "x"],
    ["--run_name", SECRET],
    [f"--run_name={SECRET}"],
    ["--lr_scheduler_kwargs", json.dumps({"a": SECRET})],
    ["--data_root", URL],
    ["--data-root", "https://host/rows?token=x"],
    ["--report_to", "wandb", SECRET],
    ["--arm", f"x {SECRET}"],
    [SECRET],
]


@pytest.mark.parametrize("given", WAYS, ids=" ".join)
def test_a_token_is_refused_however_it_is_given(given):
    for training in (True, False):
        with pytest.raises(UserError, match="hf auth login") as caught:
            parse(given, "run_target.py", "", DataArguments, RunArguments, training=training)
        assert SECRET not in str(caught.value) and "host" not in str(caught.value)


@pytest.mark.parametrize(
    "line",
    [
        "hub_token: x",
        "hub-token: x",
        "token: [x]",
        f"run_name: {SECRET}",
        f"data_root: {URL}",
        f"report_to: [wandb, {SECRET}]",
        f'lr_scheduler_kwargs: \'{{"a": "{SECRET}"}}\'',
    ],
)
def test_a_token_in_a_recipe_is_refused(line, tmp_path):
    (tmp_path / "recipe.yaml").write_text(line + "\n")
    with pytest.raises(UserError, match="recipe.yaml.*hf auth login") as caught:
        parse(["--config", str(tmp_path / "recipe.yaml")], "run_target.py", "", DataArguments, RunArguments)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "line", ["run_name: --hub_token=x", "output-dir: there", "hub-model-id: x/y", "seed=3: x", "--seed: 3"]
)
def test_a_recipe_cannot_pass_an_argument_by_its_other_spelling(line, tmp_path):
    """A value does not become an argument of its own, and one of ours does not reach TrainingArguments, which would
    win."""
    (tmp_path / "recipe.yaml").write_text(line + "\n")
    try:
        (_, run), rest = parse(
            ["--config", str(tmp_path / "recipe.yaml")], "run_target.py", "", DataArguments, RunArguments
        )
    except UserError as error:
        assert "is unknown" in str(error)
    else:
        assert (run.output_dir, run.hub_model_id) != (None, None) or rest == ["--run_name=--hub_token=x"]


@pytest.mark.parametrize("name", words.JSON_FILES)
def test_a_token_in_a_json_file_that_transformers_reads_is_refused(name, tmp_path):
    (tmp_path / "given.json").write_text(json.dumps({"note": [SECRET]}))
    with pytest.raises(UserError, match=f"--{name} .*hf auth login"):
        parse([f"--{name}", str(tmp_path / "given.json")], "run_target.py", "", DataArguments, RunArguments)


def test_a_cause_of_failure_holds_no_token(tmp_path):
    results.write_failure(tmp_path, f"GET {URL} failed", None)
    assert SECRET not in (tmp_path / "failed.json").read_text()


def test_tools_refuse_tokens_too(capsys):
    from xstilts import plan, push
    from xstilts.xtreme import submission

    for main, given in (
        (plan.main, [SECRET]),
        (push.main, ["--hub", SECRET]),
        (submission.main, ["gold", "--data_root", URL]),
    ):
        with pytest.raises(SystemExit) as leave:
            main(given)
        said = capsys.readouterr().err
        assert leave.value.code == 2 and "hf auth login" in said and SECRET not in said


# ---- local paths ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value, public",
    [
        ("/home/jo/runs/mnli", ".../mnli"),
        ("/home/jo smith/my runs/a b", ".../a b"),
        ("~/m", ".../m"),
        ("../../home/jo/m", ".../m"),
        ("a/../../jo/m", ".../m"),
        ("runs/mnli/seed0", "runs/mnli/seed0"),
        ("FacebookAI/xlm-roberta-base", "FacebookAI/xlm-roberta-base"),
        ("--output_dir=/home/jo/out", "--output_dir=.../out"),
        ("/a/there + /a/back", ".../there + .../back"),
        ("/tmp", ".../tmp"),
        ("https://huggingface.co/a/b", "https://huggingface.co/a/b"),
        ("xnli.train=validation[:80%]", "xnli.train=validation[:80%]"),
        ("/passage: ", "/passage: "),
        ("Query: ", "Query: "),
        (2.5, 2.5),
        (None, None),
        ({"a": ["/x/y", {"b": "/x/z"}]}, {"a": [".../y", {"b": ".../z"}]}),
        (
            {"notes": ["/home/jo/x.jsonl: row 3 was mended, see /home/jo/y"]},
            {"notes": [".../x.jsonl: row 3 was mended, see .../y"]},
        ),
    ],
)
def test_of_a_local_path_the_last_part_stays(value, public):
    assert privacy.public(value) == public == privacy.public(public)


def test_command_shows_no_local_paths():
    said = command_line(
        [
            "run_target.py",
            "--data_root",
            "/home/jo/rows",
            "--output_dir=/home/jo/out",
            "--model_name_or_path",
            "runs/m",
        ]
    )
    assert said == "python run_target.py --data_root .../rows --output_dir=.../out --model_name_or_path runs/m"


FEW = ["--max_steps", "1", "--max_train_samples", "8", "--max_eval_samples", "4", "--per_device_train_batch_size", "4"]
XNLI = [*FEW, "--languages", "qaa"]


@pytest.fixture(scope="module")
def chain(tmp_path_factory, tiny_model, tiny_world):
    """A matrix of absolute paths under a umask of its own: an arm by LoRA, a target and a retrieval task from it, an
    export."""
    import importlib
    import sys

    from xstilts.run.endings import command

    root = tmp_path_factory.mktemp("jo-smith")
    arm, rows = root / "mnli/seed0", ["--data_root", tiny_world, "--arm", "mnli"]

    def run(script, *given):
        sys.argv = [script, *map(str, given)]
        command(importlib.import_module(script.removesuffix(".py")).main)

    before, argv = os.umask(0o027), sys.argv
    try:
        run(
            "run_intermediate.py",
            "--tasks",
            "mnli",
            "--peft",
            "lora",
            "--model_name_or_path",
            tiny_model,
            *rows,
            *FEW,
            "--output_dir",
            arm,
        )
        run("run_target.py", "--task", "xnli", *XNLI, "--model_name_or_path", arm, *rows, "--output_dir", arm / "xnli")
        run(
            "run_retrieval.py",
            "--tasks",
            "tatoeba",
            "--languages",
            "qaa",
            "--model_name_or_path",
            arm,
            *rows,
            "--output_dir",
            arm,
            "--cache_dir",
            root / "vectors",
            "--export_sentence_transformers",
            root / "exported",
        )
    finally:
        sys.argv = argv
        os.umask(before)
    return root


def test_what_is_pushed_or_shown_tells_no_places(chain, tiny_model, tiny_world, capsys):
    places = [str(path).encode() for path in (chain, tiny_model.parent, tiny_world.parent)]
    telling = [
        path for path in chain.rglob("*") if path.is_file() and any(place in path.read_bytes() for place in places)
    ]
    assert {path.name for path in telling} == {"run.json"}  # of this machine; not pushed, see test_push
    target = records.read(chain / "mnli/seed0/xnli/results.json")
    assert (target["model"], target["parents"]) == (".../seed0", [".../model", ".../seed0"])
    card = (chain / "mnli/seed0/README.md").read_text()
    assert "base_model:" not in card and "`.../model` -> `this`" in card  # .../model is no repository of the Hub
    capsys.readouterr()


def test_checkpoints_obey_the_umask_while_a_run_goes_on(cli, tiny_model, tiny_world, tmp_path, monkeypatch):
    modes = {}

    def look(folder):
        modes.update({path.name: path.stat().st_mode & 0o777 for path in folder.glob("checkpoint-*/*")})

    monkeypatch.setattr("xstilts.run.checkpoints.clean", look)
    before = os.umask(0o027)
    try:
        given = ["--model_name_or_path", tiny_model, "--data_root", tiny_world, "--output_dir", tmp_path / "run"]
        done = cli("run_target.py", "--task", "xnli", *XNLI, "--save_strategy", "steps", "--save_steps", 1, *given)
    finally:
        os.umask(before)
    assert done.returncode == 0, done.stderr
    assert {"model.safetensors", "optimizer.pt", "trainer_state.json"} <= modes.keys() and {*modes.values()} == {0o640}


def test_every_file_obeys_the_umask(chain):
    assert {path.stat().st_mode & 0o777 for path in chain.rglob("*") if path.is_file()} == {0o640}
    assert {"model.safetensors", "adapter_model.safetensors"} <= {path.name for path in chain.rglob("*")}


def test_local_records_still_know_their_parents(chain, cli, tiny_world):
    """The report finds a checkpoint that was trained again, and the same command is done at once."""
    from xstilts.report.matrix import collect

    command = [
        "run_target.py",
        "--task",
        "xnli",
        *XNLI,
        "--model_name_or_path",
        chain / "mnli/seed0",
        "--data_root",
        tiny_world,
        "--arm",
        "mnli",
        "--output_dir",
        chain / "mnli/seed0/xnli",
    ]
    stamp = chain / "mnli/seed0/xnli/results.json"
    before = stamp.read_bytes()
    assert cli(*command).returncode == 0 and stamp.read_bytes() == before
    assert not collect(chain).problems
    parent = chain / "mnli/seed0/results.json"
    whole = parent.read_text()
    try:
        parent.write_text(whole.replace(json.loads(whole)["finished"], "2001-01-01T00:00:00+00:00"))
        assert {problem.split()[0] for problem in collect(chain).problems} == {"mnli/seed0/tatoeba", "mnli/seed0/xnli"}
    finally:
        parent.write_text(whole)


def test_places_that_an_older_version_wrote_are_not_pushed(tmp_path, monkeypatch):
    (tmp_path / "adapter").mkdir()
    for name, text in (
        ("results.json", json.dumps({"model": "/home/jo/m", "mean": {"accuracy": 1.0}})),
        ("run.json", '{"model": "/home/jo/m"}'),
        ("README.md", "# card\n`/home/jo/m` -> `this`, https://huggingface.co/a/b\n"),
        ("adapter/adapter_config.json", '{"base_model_name_or_path": "/home/jo/m"}'),
    ):
        (tmp_path / name).write_text(text)
        os.utime(tmp_path / name, (1, 1))
    sent = {}
    monkeypatch.setattr(
        card, "hub", lambda: type("Hub", (), {"upload_folder": lambda self, **options: sent.update(options)})()
    )
    card.push("me/x", tmp_path)
    assert "run.json" in sent["ignore_patterns"]
    assert [path.name for path in tmp_path.rglob("*") if path.is_file() and "/home/jo" in path.read_text()] == [
        "run.json"
    ]
    assert json.loads((tmp_path / "results.json").read_text()) == {"model": ".../m", "mean": {"accuracy": 1.0}}
    assert "https://huggingface.co/a/b" in (tmp_path / "README.md").read_text()
    assert (tmp_path / "results.json").stat().st_mtime == 1  # for make nothing is new
