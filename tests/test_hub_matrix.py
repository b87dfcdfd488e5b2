"""A matrix whose model and rows are on the Hub (a stand-in), and again from the cache alone."""

import json
import subprocess
import sys

import pytest
from conftest import ROOT

from tests.hub_rows import fill
from tests.hub_server import Hub

SMALL = "--max_train_samples 8 --max_eval_samples 4 --max_steps 1 --save_strategy no --load_best_model_at_end false"


@pytest.fixture
def hub(tiny_world, tiny_model):
    hub = Hub()
    fill(hub, tiny_world)
    files = {path.name: path.read_bytes() for path in tiny_model.iterdir() if path.is_file()}
    hub.repositories["lab/tiny"] = files
    yield hub
    hub.close()


@pytest.fixture
def make(hub, preloaded, tmp_path):
    """`make("matrix", ...)`: make with the stand-in as the Hub, all caches in tmp_path / "home".

    With forked=True its runs are forks of this process, without the seconds of imports.
    """
    variables = {
        "PRESET": "xtreme",
        "PY": sys.executable,
        "MODEL": "lab/tiny",
        "DATA_ROOT": "hub",
        "ARMS": "rte",
        "TARGETS": "xnli",
        "RETRIEVAL": "",
        "INTERMEDIATE_ARGS": SMALL,
        "TARGET_ARGS": f"{SMALL} --languages en de",
        "ARGS_xnli": "",
    }
    kept = {k: v for k, v in hub.environment(tmp_path / "home", None).items() if not k.startswith(("MAKE", "MFLAGS"))}
    server = kept.pop("XSTILTS_PRELOAD")

    def run(*words, forked=False, **environment):
        given = variables | ({"RUN": preloaded} if forked else {})
        return subprocess.run(
            ["make", "-j2", *words, *(f"{name}={value}" for name, value in given.items())],
            cwd=ROOT,
            env=kept | environment | ({"XSTILTS_PRELOAD": server} if forked else {}),
            close_fds=False,  # the fixture `preloaded` listens on one
            capture_output=True,
            text=True,
            timeout=400,
        )

    return run


def scores(out):
    return {
        str(path.relative_to(out).parent): json.loads(path.read_text())["scores"] for path in out.rglob("results.json")
    }


@pytest.mark.whole
def test_a_matrix_from_the_hub_and_again_without_a_network(hub, make, tmp_path):
    done = make("matrix", f"OUT={tmp_path / 'first'}")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    first = scores(tmp_path / "first")
    assert set(first) == {"rte/seed0", "rte/seed0/xnli"}
    record = json.loads((tmp_path / "first/rte/seed0/xnli/results.json").read_text())
    assert {data["revision"] for data in record["data"]} == {"b8dd5d7af51114dbda02c0e3f6133f332186418e"}
    commits = {
        name: json.loads((tmp_path / f"first/rte/seed0/{name}results.json").read_text())["settings"].get(
            "model_commit"
        )
        for name in ("", "xnli/")
    }
    assert commits == {
        "": hub.repository("models", "lab/tiny").branches["main"],
        "xnli/": None,
    }  # the target starts from a folder
    hub.calls.clear()
    done = make("matrix", f"OUT={tmp_path / 'second'}", forked=True, HF_HUB_OFFLINE="1")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    assert not hub.calls and scores(tmp_path / "second") == first
