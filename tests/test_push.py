"""Pushing a finished folder with the real huggingface_hub client to a stand-in of the Hub, and loading it again."""

import json
import shutil
from pathlib import Path

import pytest
import records

from tests.hub_server import Hub, clients, use
from xstilts.run import checkpoints

PUSH = """
import sys
from types import SimpleNamespace
from pathlib import Path
from xstilts.run import card
from tasks.errors import UserError
run = SimpleNamespace(push_to_hub=True, hub_model_id="me/arm", hub_private_repo=False, output_dir=sys.argv[1])
try:
    card.check_push(run)
    print("created", run.hub_model_id)
    card.push(run.hub_model_id, Path(sys.argv[1]))
except UserError as error:
    sys.exit(f"error: {error}")
"""


@pytest.fixture
def hub():
    hub = Hub()
    yield hub
    hub.close()


@pytest.fixture
def folder(tmp_path):
    for name, text in (
        ("config.json", "{}"),
        ("model.safetensors", "weights"),
        ("results.json", "{}"),
        ("README.md", "---\nlicense: other\n---\n# card\n"),
        ("checkpoint-5/optimizer.pt", "old"),
        ("xnli/results.json", "{}"),
        ("xnli/model.safetensors", "other"),
        ("udpos/run.json", "{}"),
        ("udpos/checkpoint-5/optimizer.pt", "of a cell that was killed"),
        ("panx/failed.json", "{}"),
        ("other/checkpoint-5/model.safetensors", "old"),
        ("other/notes.txt", "of the user"),
    ):
        path = tmp_path / "arm" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "arm"


@pytest.fixture
def run(hub, fork_python):
    """`run("-m", "xstilts.push", ..., HF_TOKEN="x")`: Python in a process of its own, with the stand-in as its Hub."""
    environment = {
        "HF_ENDPOINT": hub.url,
        "HF_TOKEN": "hf_secretsecretsecret",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_OFFLINE": "0",
    }

    def start(*command, **more):
        return fork_python(*command, **environment | more)

    return start


def test_a_finished_folder_is_pushed_without_its_checkpoints(hub, run, folder):
    done = run("-c", PUSH, folder)
    assert done.returncode == 0, done.stderr
    assert "created me/arm" in done.stdout
    assert {"config.json", "model.safetensors", "README.md", "results.json"} <= set(hub.files)
    assert hub.files["model.safetensors"] == b"weights"
    assert not any("checkpoint-5" in name or name.startswith(("xnli", "udpos", "panx")) for name in hub.files)
    assert "other/notes.txt" in hub.files


@pytest.mark.parametrize(
    "part, code, said",
    [
        ("/api/repos/create", 401, "hf auth login"),
        ("/api/repos/create", 403, "403 Forbidden"),
        ("/api/repos/create", 403, "hf auth login"),
        ("/api/repos/create", 429, "429 Too Many"),
        ("/commit/main", 500, "was not pushed"),
    ],
)
def test_a_refusal_is_one_line_without_the_token_and_loses_nothing(hub, run, folder, part, code, said):
    hub.refuse[part] = code
    done = run("-c", PUSH, folder)
    assert done.returncode == 1 and said in done.stderr
    assert len([line for line in done.stderr.splitlines() if line.startswith("error:")]) == 1
    assert "hf_secret" not in done.stderr + done.stdout
    assert (folder / "model.safetensors").read_text() == "weights"


@pytest.mark.parametrize(
    "part, said", [("/api/repos/create", "--push_to_hub me/arm: "), ("/preupload/", "was not pushed to me/arm: ")]
)
def test_silent_hub_times_out(hub, run, folder, part, said):
    hub.silent = part
    done = run(
        "-c",
        PUSH.replace("run = ", "import time; time.sleep = lambda seconds: None; card.HUB_TIMEOUT = 0.3; run = ", 1),
        folder,
    )
    assert done.returncode == 1 and said in done.stderr and "timed out" in done.stderr
    assert "log in" not in done.stderr.lower()


@pytest.mark.parametrize("given", [{"HF_HUB_OFFLINE": "1"}, {"HF_ENDPOINT": "http://127.0.0.1:9"}])
def test_a_hub_that_is_not_reached_asks_for_no_log_in(given, run, folder):
    done = run("-c", PUSH, folder, **given)
    assert done.returncode == 1 and "error: --push_to_hub me/arm: " in done.stderr
    assert "log in" not in done.stderr.lower()


def test_our_client_differs_from_the_library_s_in_its_timeout_alone(hub, run_script):
    """It goes nowhere when HF_HUB_OFFLINE is set, and follows redirects."""
    code = """
import huggingface_hub as library
from xstilts.run import card

usual = library.get_session()
card.hub(), card.hub()  # the second is made from the first
ours = library.get_session()
assert ours is not usual and type(ours) is type(usual) and usual.timeout.read is None
assert ours.timeout.read == ours.timeout.connect == card.HUB_TIMEOUT
asked = ours.event_hooks["request"]
assert asked[:-1] == usual.event_hooks["request"] and len(asked) == 2  # ours sets the timeout
assert ours.follow_redirects
try:
    ours.get(library.constants.ENDPOINT)
except library.errors.OfflineModeIsEnabled:
    print("offline")
"""
    done = run_script("-c", code, HF_ENDPOINT=hub.url, HF_HUB_OFFLINE="1")
    assert done.stdout.strip() == "offline" and not hub.calls, done.stderr


def test_no_token_is_in_any_file_log_or_card(hub, cli, tiny_model, tiny_world, tmp_path, monkeypatch, caplog):
    """A whole phase, pushed; the checkpoints it removes at its end are looked through while they are there."""
    token = "hf_secretsecretsecret"
    caplog.set_level("INFO")
    monkeypatch.setenv("HF_TOKEN", token)
    use(hub, monkeypatch)
    seen, clean = [], checkpoints.clean

    def look(folder):
        seen.extend(path.read_bytes() for path in folder.glob("checkpoint-*/*") if path.is_file())
        clean(folder)

    monkeypatch.setattr(checkpoints, "clean", look)
    done = cli(
        "run_target.py",
        "--task",
        "xnli",
        "--languages",
        "en",
        "--max_train_samples",
        "8",
        "--max_eval_samples",
        "4",
        "--max_steps",
        "2",
        "--model_name_or_path",
        tiny_model,
        "--data_root",
        tiny_world,
        "--output_dir",
        tmp_path / "run",
        "--push_to_hub",
        "--hub_model_id",
        "me/arm",
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert f"Bearer {token}" in hub.tokens and {"README.md", "model.safetensors", "results.json"} <= set(
        hub.repositories["me/arm"]
    )
    assert not [name for name in hub.repositories["me/arm"] if name.endswith((".bin", ".pt", ".pth"))]
    files = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert len(seen) > 5 and len(files) > 5
    assert not [part for part in [*seen, *files, *hub.files.values()] if token.encode() in part]
    assert token not in done.stdout + done.stderr + caplog.text
    # where a file goes: on the Hub an address that is signed, and open to whoever reads it
    assert "/put/" not in caplog.text


@pytest.fixture
def online(hub, monkeypatch):
    """The double for the scripts in this process."""
    monkeypatch.setenv("HF_TOKEN", "hf_secretsecretsecret")
    use(hub, monkeypatch)
    return hub


def test_the_same_command_sends_what_could_not_be_sent(online, cli, tiny_model, tiny_world, tmp_path):
    """A finished run has nothing else to do, but it is not to say that all is well while the Hub has nothing."""
    asked = (
        "run_target.py",
        "--task",
        "xnli",
        "--languages",
        "en",
        "--max_train_samples",
        "8",
        "--max_eval_samples",
        "4",
        "--max_steps",
        "1",
        "--model_name_or_path",
        tiny_model,
        "--data_root",
        tiny_world,
        "--output_dir",
        tmp_path / "run",
        "--push_to_hub",
    )
    online.refuse["/commit/main"] = 403
    assert cli(*asked, "--hub_model_id", "arm").returncode == 2 and not online.sent
    assert cli(*asked, "--hub_model_id", "arm").returncode == 2
    online.refuse.clear()
    done = cli(*asked, "--hub_model_id", "arm")
    assert done.returncode == 0, done.stderr
    assert {"README.md", "model.safetensors", "results.json"} <= set(online.repositories["me/arm"])


def test_measurements_do_not_overwrite_each_other_nor_the_checkpoint(online, cli, tiny_model, tiny_world, tmp_path):
    asked = (
        "run_retrieval.py",
        "--tasks",
        "tatoeba",
        "lareqa",
        "--max_eval_samples",
        "4",
        "--model_name_or_path",
        tiny_model,
        "--data_root",
        tiny_world,
        "--output_dir",
        tmp_path / "run",
        "--push_to_hub",
        "--hub_model_id",
        "arm",
    )
    online.repositories["me/arm"] = {"README.md": b"card of the checkpoint"}
    online.refuse["/commit/main"] = 403
    assert cli(*asked).returncode == 2
    # both measured, though the first could not be sent
    assert len(list((tmp_path / "run").glob("*/results.json"))) == 2
    online.refuse.clear()
    assert cli(*asked).returncode == 0
    there = online.repositories["me/arm"]
    assert there["README.md"] == b"card of the checkpoint"
    for task in ("tatoeba", "lareqa"):
        assert json.loads(there[f"{task}/results.json"])["task"] == task


def test_a_token_as_an_argument_is_refused(cli, tiny_model, tiny_world, tmp_path):
    """transformers would write it into a file of every checkpoint."""
    for flag in (["--hub_token", "hf_secretsecretsecret"], ["--hub_token=hf_secretsecretsecret"]):
        done = cli(
            "run_target.py",
            "--task",
            "xnli",
            "--model_name_or_path",
            tiny_model,
            "--data_root",
            tiny_world,
            "--output_dir",
            tmp_path / "run",
            *flag,
        )
        assert done.returncode == 2 and "--hub_token is not accepted" in done.stderr and "hf_secret" not in done.stderr


# ---- a whole matrix -------------------------------------------------------------------------------------------------


@pytest.fixture
def matrix(tmp_path):
    """An arm, two of its targets, and what is not pushed: a target that is not finished, a measurement without
    weights."""
    cells = {
        "xnli+mlm/seed0": ("intermediate", "xnli"),
        "xnli+mlm/seed0/udpos": ("target", "udpos"),
        "none/seed0/xnli": ("target", "xnli"),
        "none/seed0/tatoeba": ("retrieval", "tatoeba"),
        "none/seed0/squad": ("target", "squad"),
    }
    for place, (phase, task) in cells.items():
        folder = tmp_path / "big" / place
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "README.md").write_text("---\nlicense: other\n---\n# card\n")
        if phase != "retrieval":
            (folder / "model.safetensors").write_text("weights" if task == "xnli" else "other")
        if task != "squad":
            own = {} if phase == "intermediate" else {"scores": {"en": {"accuracy": 61.25}}}
            own |= {"layer": 1, "pooling": "mean"} if phase == "retrieval" else {}
            record = records.small(phase, task=task, arm=place.split("/")[0], **own)
            records.write(folder / "results.json", record)
    return tmp_path / "big"


NAMES = ["me/big-xnli-plus-mlm-seed0", "me/big-xnli-plus-mlm-seed0-udpos", "me/big-none-seed0-xnli"]


def push_matrix(run, folder, *grid):
    grid = grid or ("--arms", "none", "xnli+mlm", "--tasks", "udpos", "xnli", "tatoeba", "squad", "--seeds", "0")
    return run("-m", "xstilts.push", "--hub", "me", "--runs_dir", folder, *grid)


def test_each_checkpoint_has_a_repository_and_a_card_lists_them(hub, run, matrix):
    done = push_matrix(run, matrix)
    assert done.returncode == 0, done.stderr
    assert sorted(hub.repositories) == sorted([*NAMES, "me/big"])
    assert set(hub.repositories[NAMES[0]]) == {"README.md", "model.safetensors", "results.json"}
    card = hub.repositories["me/big"]["README.md"].decode()
    assert all(f"https://huggingface.co/{name}" in card for name in NAMES) and card.count("61.2") == 2
    assert "hf_secret" not in done.stderr + done.stdout


def test_scores_are_pushed_where_the_hub_reads_them_and_other_hidden_files_are_not(hub, run, matrix):
    folder = matrix / "none/seed0/xnli"
    for name in (".eval_results/xnli.yaml", ".lock", ".vectors-x/part", "predictions/.part"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("- value: 1\n")
    assert push_matrix(run, matrix).returncode == 0
    sent = hub.repositories["me/big-none-seed0-xnli"]
    assert ".eval_results/xnli.yaml" in sent and not [
        name for name in sent if name.startswith((".lock", ".vec", "pre"))
    ]


def test_a_checkpoints_base_model_is_the_repository_of_its_parent(hub, run, matrix):
    cell = matrix / "xnli+mlm/seed0/udpos"
    record = json.loads((cell / "results.json").read_text())
    (cell / "results.json").write_text(json.dumps(record | {"model": str(cell.parent)}))
    assert push_matrix(run, matrix).returncode == 0
    assert f"base_model: {NAMES[0]}\n" in hub.repositories[NAMES[1]]["README.md"].decode()
    assert "base_model" not in hub.repositories[NAMES[2]]["README.md"].decode()


def test_what_failed_does_not_stop_the_others_and_is_sent_the_next_time(hub, run, matrix):
    hub.refuse[f"{NAMES[0]}/commit"] = 500
    done = push_matrix(run, matrix)
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert NAMES[0] in line and str(matrix / "xnli+mlm/seed0") in line
    assert (
        set(hub.repositories[NAMES[1]])
        == set(hub.repositories[NAMES[2]])
        == {"README.md", "model.safetensors", "results.json"}
    )
    assert "1 more could not be pushed" in hub.repositories["me/big"]["README.md"].decode()
    hub.refuse.clear(), hub.sent.clear()
    done = push_matrix(run, matrix)
    assert done.returncode == 0, done.stderr
    # the missing one, and the list
    assert sorted(hub.sent) == ["README.md", "README.md", "model.safetensors", "results.json"]
    assert "could not be pushed" not in hub.repositories["me/big"]["README.md"].decode()
    hub.sent.clear()
    assert push_matrix(run, matrix).returncode == 0 and hub.sent == []


def test_nothing_to_push_is_said(hub, run, matrix):
    done = push_matrix(run, matrix, "--arms", "none", "--tasks", "tatoeba", "squad", "--seeds", "0")
    assert (
        done.returncode == 2
        and done.stderr == "error: there is no finished checkpoint to push; run `make matrix` first.\n"
    )
    assert not hub.calls


PULL = """
import sys
from transformers import AutoModelForMaskedLM, AutoTokenizer
name, given = sys.argv[1:]
try:
    pulled, here = (AutoModelForMaskedLM.from_pretrained(where).state_dict() for where in (name, given))
    assert pulled.keys() == here.keys() and all((pulled[key] == here[key]).all() for key in here)
    ids = [AutoTokenizer.from_pretrained(where)("a b").input_ids for where in (name, given)]
    assert ids[0] == ids[1]
    print("same")
except OSError as error:
    print(error.__class__.__name__, str(error).splitlines()[0])
"""


def test_private_checkpoint_is_loaded_from_the_hub_as_it_was(hub, run, matrix, tiny_model, tmp_path):
    """With the token; without it the Hub does not have it. Then again from the cache alone."""
    assert not [client for client in clients() if client.endpoint == hub.url]  # the forks have other clients
    arm = matrix / "xnli+mlm/seed0"
    for path in filter(Path.is_file, tiny_model.iterdir()):
        shutil.copy(path, arm / path.name)
    grid = ("--arms", "xnli+mlm", "--tasks", "squad", "--seeds", "0", "--private")
    assert push_matrix(run, matrix, *grid).returncode == 0 and NAMES[0] in hub.private

    def pull(token, home, **more):
        done = run("-c", PULL, NAMES[0], arm, HF_TOKEN=token, HF_HUB_CACHE=str(tmp_path / home), **more)
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout

    assert pull("hf_of_somebody_else", "other").startswith("OSError")
    assert pull("hf_secretsecretsecret", "mine") == "same\n"
    assert hub.asked("/additional_chat_templates")  # asked by one of the libraries' own clients
    hub.calls.clear()
    assert pull("", "mine", HF_HUB_OFFLINE="1") == "same\n" and not hub.calls
