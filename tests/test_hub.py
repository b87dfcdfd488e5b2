"""Rows from the Hub, through the real libraries and a stand-in server on the loopback."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import time
from types import SimpleNamespace

import datasets
import pyarrow as pa
import pytest
from conftest import ROOT
from huggingface_hub import HfFileSystem, constants
from pyarrow import parquet

from tasks import TASKS, get_task
from tasks import hub as hub_rows
from tasks.errors import UserError
from tasks.pairs import get_pairs
from tasks.rows import Rows
from tasks.text import Wikipedia
from tests.hub_rows import fill
from tests.hub_server import TOKEN, Hub, use
from xstilts.checkpoint.config import read_config
from xstilts.checkpoint.encoder import load_encoder
from xstilts.checkpoint.heads import masked_lm
from xstilts.checkpoint.tokenizer import load_tokenizer


@pytest.fixture(scope="module")
def server(tiny_world):
    hub = Hub()
    fill(hub, tiny_world)
    yield hub
    hub.close()


@pytest.fixture
def hub(server, tmp_path, monkeypatch):
    """The stand-in for this process, with an empty cache."""
    server.calls.clear()
    HfFileSystem.clear_instance_cache()  # it keeps listings
    online(monkeypatch, server, tmp_path)
    for source in (*get_task("cosmosqa").sources, *get_task("lareqa").sources):
        for split, url in source.files.items():
            monkeypatch.setitem(source.files, split, url.replace("https://github.com", f"{server.url}/web"))
    yield server
    for name in ("refuse", "limit", "slow", "cut", "private", "gated"):
        getattr(server, name).clear()
    server.silent = None


def online(monkeypatch, server, home):
    from datasets import config

    use(server, monkeypatch)
    for name, value in (
        ("HUGGINGFACE_CO_URL_TEMPLATE", server.url + "/{repo_id}/resolve/{revision}/{filename}"),
        ("HF_HUB_CACHE", str(home / "hub")),
    ):
        monkeypatch.setattr(constants, name, value)
    for name, value in (
        ("HF_ENDPOINT", server.url),
        ("HF_HUB_OFFLINE", False),
        ("HF_DATASETS_CACHE", home / "datasets"),
        ("DOWNLOADED_DATASETS_PATH", home / "datasets" / "downloads"),
        ("HF_UPDATE_DOWNLOAD_COUNTS", False),
    ):
        monkeypatch.setattr(config, name, value)
    monkeypatch.delenv("HF_TOKEN", raising=False)


@pytest.fixture
def impatient(monkeypatch):
    """Half a second for a request. Only where the stand-in is silent: on a busy machine any answer may take longer."""
    monkeypatch.setattr(hub_rows, "TIMEOUT", 0.5)
    monkeypatch.setattr(constants, "HF_HUB_ETAG_TIMEOUT", 0.5)
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.5)


def offline(monkeypatch):
    from datasets import config

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(config, "HF_HUB_OFFLINE", True)


def read(task, source, split, rows):
    """The examples of one source, as if the task had no other."""
    language = check_hub().language_of(task, source)
    task.sources = (source,)
    return task.load(split, language, rows)


def check_hub():
    """The script recipes/check_hub.py, as a module."""
    spec = importlib.util.spec_from_file_location("check_hub", ROOT / "recipes" / "check_hub.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    return script


EVERY = [(name, number) for name in TASKS for number in range(len(get_task(name).sources))]


@pytest.mark.parametrize("name, number", EVERY, ids=[f"{n}-{i}" for n, i in EVERY])
def test_every_source_loads_at_its_revision_and_again_without_a_network(name, number, hub, monkeypatch):
    task = get_task(name)
    source = task.sources[number]
    if source.folders_only:
        with pytest.raises(UserError, match="scripts are no longer supported"):
            hub_rows.load(source.id, source.config, "train", source.revision)
        return
    if name == "lareqa":
        monkeypatch.setattr(type(task), "languages", lambda self, rows: ["en", "de", "sw"])
    found = {}
    for split in source.splits:
        rows = Rows("hub")
        found[split] = len(read(get_task(name), source, split, rows))
        assert found[split] > 0
        records = [record for record in rows.records if record["id"] == source.id]
        assert records and all(re.fullmatch("[0-9a-f]{40}", record["revision"]) for record in records)
        if re.fullmatch("[0-9a-f]{40}", source.revision or ""):
            assert {record["revision"] for record in records} == {source.revision}
    hub.calls.clear()
    offline(monkeypatch)
    for split in source.splits:
        assert len(read(get_task(name), source, split, Rows("hub"))) == found[split]
    assert not hub.calls


def test_text_and_pairs_load_too(hub):
    assert len(Wikipedia().load("train", "de", Rows("hub"))) > 1
    assert len(get_pairs("mewslix_dual").load("train", "en", Rows("hub"))) > 1


# ---- what goes wrong ------------------------------------------------------------------------------------------------

XNLI = get_task("xnli").sources[0]
COMMIT = XNLI.revision


def load(config="en", revision=COMMIT):
    return hub_rows.load(XNLI.id, config, "validation", revision)


def refusal(*where):
    with pytest.raises(UserError) as caught:
        load(*where)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def waited(monkeypatch):
    """The seconds that the loader waits, without waiting."""
    seconds = []
    monkeypatch.setattr("tasks.hub.sleep", seconds.append)
    return seconds


@pytest.fixture
def waited_by_library(monkeypatch):
    """The seconds that huggingface_hub waits by itself, without waiting."""
    seconds = []
    clock = SimpleNamespace(sleep=seconds.append, time=time.time)
    for module in ("huggingface_hub.utils._http", "huggingface_hub.file_download"):
        monkeypatch.setattr(f"{module}.time", clock)
    return seconds


def test_rows_of_another_commit_are_never_taken_from_the_cache(hub, monkeypatch, waited):
    """The datasets library would read the newest commit in its cache, whatever it was asked for."""
    other = hub.datasets[XNLI.id].add("f" * 40, hub.datasets[XNLI.id].files(COMMIT))
    assert load(revision=other)[1] == other
    offline(monkeypatch)
    assert "HF_HUB_OFFLINE=1" in refusal() and load(revision=other)[1] == other
    monkeypatch.undo()


@pytest.mark.parametrize("status", [500, 503])
def test_a_hub_with_a_fault_of_its_own_does_not_change_the_commit(status, hub, waited):
    other = hub.datasets[XNLI.id].add("e" * 40, hub.datasets[XNLI.id].files(COMMIT))
    load(revision=other)
    hub.refuse[f"/tree/{COMMIT}"] = hub.refuse[f"/revision/{COMMIT}"] = status
    told = refusal()
    assert COMMIT in told and str(other) in told and waited == [1, 2]


@pytest.mark.parametrize("token, status", [(None, 401), ("hf_of_somebody_else", 403)])
def test_a_gated_repository_says_where_to_accept(token, status, hub, monkeypatch, waited):
    hub.gated.add(XNLI.id)
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    told = refusal()
    assert f"gated ({status})" in told and f"{hub.url}/datasets/{XNLI.id}" in told and "hf auth login" in told
    assert not waited
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert len(load()[0])


def test_a_private_repository_needs_the_token(hub, monkeypatch):
    hub.private.add(XNLI.id)
    told = refusal()
    assert "private" in told and "hf auth login" in told and "HF_TOKEN" in told
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert len(load()[0])
    # big files come from another host, which gets no token
    assert hub.asked("/cdn/") and not hub.cdn_tokens - {None}


def test_what_is_not_there_is_named(hub, waited):
    assert "no such revision (404)" in refusal("en", "0" * 40)
    assert "'zz' not found" in refusal("zz") and "'en'" in refusal("zz")
    with pytest.raises(UserError, match='Unknown split "dev"'):
        hub_rows.load(XNLI.id, "en", "dev", COMMIT)
    with pytest.raises(UserError, match="there is no .*/datasets/nobody/nothing .401., or it is private"):
        hub_rows.load("nobody/nothing", "en", "dev", COMMIT)
    assert not waited


@pytest.mark.parametrize("part", ["README.md", "/tree/", "/en/validation-", "/cdn/"])
@pytest.mark.parametrize("headers", [{"Retry-After": "7"}, {"ratelimit": '"api";r=0;t=7'}])
def test_a_busy_hub_is_waited_for_as_long_as_it_asks(part, headers, hub, waited, waited_by_library):
    hub.limit[part] = [2, headers]
    assert len(load()[0]) and 7 <= max(waited + waited_by_library) <= 8


def test_a_hub_that_asks_for_hours_is_not_waited_for(hub, waited):
    hub.limit["README.md"] = [99, {"Retry-After": "7200"}]
    told = refusal()
    assert "429" in told and "7200 seconds" in told and "repeat the command" in told and not waited


@pytest.mark.parametrize("part", [f"/resolve/{COMMIT}/README.md", f"/tree/{COMMIT}", "/cdn/"])
def test_a_silent_hub_is_given_up(part, hub, impatient, waited, waited_by_library):
    hub.silent = part
    begun = time.monotonic()
    told = refusal()
    assert time.monotonic() - begun < 60  # six times half a second, twice; the stand-in closes after 100 seconds
    assert XNLI.id in told and "--data_root FOLDER" in told and waited == [1]


def test_a_hub_that_is_silent_once_does_not_end_a_run(hub, impatient, monkeypatch, waited_by_library):
    """huggingface_hub asks only once for what a commit is."""
    hub.silent, waits = f"/revision/{COMMIT}", []
    monkeypatch.setattr("tasks.hub.sleep", lambda seconds: (waits.append(seconds), setattr(hub, "silent", None)))
    assert len(load()[0]) and waits == [1]


@pytest.mark.parametrize("name, number, language", [("panx", 1, "lt"), ("squad", 1, "de")])
def test_what_a_branch_is_now_is_waited_for_too(name, number, language, hub, waited, waited_by_library):
    source = get_task(name).sources[number]
    hub.limit[f"api/datasets/{source.id}"] = [1, {"Retry-After": "7"}]
    split = next(iter(source.splits.values())) if name == "squad" else "test"
    assert len(hub_rows.load(source.id, source.config_of(language), split, source.revision)[0])
    assert 7 <= max(waited + waited_by_library) <= 8


def test_a_slow_hub_and_a_download_that_breaks_off_change_nothing(hub, waited_by_library, monkeypatch):
    whole = load()[0].to_list()
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", hub_rows.Path(constants.HF_HUB_CACHE) / "other")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", constants.HF_HUB_CACHE + "2")
    hub.slow["/cdn/"], hub.cut["/cdn/"] = 0.1, 3
    assert load()[0].to_list() == whole and hub.cut["/cdn/"] == 0


def test_main_is_the_commit_that_it_is_now(hub, monkeypatch):
    source = get_task("panx").sources[1]
    first = hub_rows.load(source.id, "lt", "test", None)[1]
    files = dict(hub.datasets[source.id].files(first)) | {"new.txt": b"new"}
    before = dict(hub.datasets[source.id].branches)
    hub.datasets[source.id].add("main", files)
    second = hub_rows.load(source.id, "lt", "test", None)[1]
    assert second != first
    offline(monkeypatch)
    assert hub_rows.load(source.id, "lt", "test", None)[1] == second
    hub.datasets[source.id].branches |= before


def test_a_conversion_that_is_not_whole_in_the_cache_is_refused(hub, monkeypatch):
    """One of two shards was downloaded."""
    source = get_task("squad").sources[1]
    where = source.id, "de", "translate_train", source.revision
    assert len(hub_rows.load(*where)[0])
    shard = next(hub_rows.Path(constants.HF_HUB_CACHE).rglob("translate_train/0001.parquet"))
    shard.unlink()
    offline(monkeypatch)
    with pytest.raises(UserError, match="HF_HUB_OFFLINE=1"):
        hub_rows.load(*where)


# ---- models ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "trouble, told",
    [
        ({"gated": {"lab/tiny"}}, "gated (401)"),
        ({"private": {"lab/tiny"}}, "or it is private"),
        ({"limit": {"config.json": [99, {"Retry-After": "30"}]}}, "429). Wait 30 seconds"),
        ({"refuse": {"config.json": 503}}, "give a folder"),
    ],
)
def test_a_model_that_the_hub_does_not_give_says_what_to_type(trouble, told, hub, tiny_model, waited_by_library):
    hub.repositories["lab/tiny"] = {path.name: path.read_bytes() for path in tiny_model.iterdir() if path.is_file()}
    assert read_config("lab/tiny").model_type == "xlm-roberta"
    shutil.rmtree(constants.HF_HUB_CACHE)
    for name, value in trouble.items():
        setattr(hub, name, value)
    with pytest.raises(UserError) as caught:
        read_config("lab/tiny")
    assert "lab/tiny" in str(caught.value) and told in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(UserError, match="no such revision"):
        for name, value in trouble.items():
            setattr(hub, name, type(value)())
        read_config("lab/tiny", "0" * 40)


@pytest.mark.parametrize(
    "file, trouble, told",
    [
        ("cdn", {"refuse": 403}, "the Hub refuses it (403). Look at"),
        ("cdn", {"limit": [99, {"Retry-After": "7"}]}, "429). Wait 7 seconds"),
        ("cdn", {"cut": 99}, "Repeat the command: what was downloaded is kept"),
    ],
)
def test_files_of_a_model_that_do_not_come_are_no_fault_of_the_model(
    file, trouble, told, hub, tiny_model, waited_by_library
):
    hub.repositories["lab/tiny"] = {path.name: path.read_bytes() for path in tiny_model.iterdir() if path.is_file()}
    for name, value in trouble.items():
        getattr(hub, name)[file] = value
    with pytest.raises(UserError) as caught:
        load_tokenizer("lab/tiny")
        load_encoder("lab/tiny")
    assert "lab/tiny cannot be loaded from the Hub" in str(caught.value) and told in str(caught.value)
    for name in trouble:
        getattr(hub, name).clear()
    load_encoder("lab/tiny")


def test_an_adapter_beside_a_model_on_the_hub_is_refused(hub, tiny_model, tmp_path):
    from peft import LoraConfig, get_peft_model

    encoder, _ = load_encoder(str(tiny_model))
    get_peft_model(encoder, LoraConfig(r=1, target_modules=["query"])).save_pretrained(tmp_path / "both")
    shutil.copytree(tiny_model, tmp_path / "both", dirs_exist_ok=True)
    files = (path for path in (tmp_path / "both").iterdir() if path.is_file())
    hub.repositories["lab/tiny"] = {path.name: path.read_bytes() for path in files}
    for load in (load_encoder, masked_lm):
        with pytest.raises(UserError, match="lab/tiny: .*adapter_config.json"):
            load("lab/tiny")


@pytest.mark.parametrize("kind", ["PreTrainedTokenizerFast", "XLMRobertaTokenizer", "BertTokenizer"])
def test_a_tokenizer_that_does_not_come_is_not_replaced_by_an_empty_one(kind, hub, tiny_model):
    """transformers hides the refusal, and would make a tokenizer without a word."""
    files = {path.name: path.read_bytes() for path in tiny_model.iterdir() if path.is_file()}
    files["tokenizer_config.json"] = json.dumps({"tokenizer_class": kind}).encode()
    hub.repositories["lab/tiny"] = files
    hub.refuse["/tokenizer.json"] = 403
    with pytest.raises(UserError, match="lab/tiny: .*tokenizer.json"):
        load_tokenizer("lab/tiny")


def test_a_model_that_the_cache_lacks_says_that_it_may_not_be_fetched(hub, monkeypatch):
    offline(monkeypatch)
    with pytest.raises(UserError, match="HF_HUB_OFFLINE=1 is set, and the cache does not have it"):
        read_config("lab/tiny")


@pytest.mark.parametrize("error", [NotADirectoryError, FileExistsError])
def test_a_cache_that_is_a_file_is_no_fault_of_the_network(error):
    for kind in ("dataset", "model"):
        told = hub_rows.advice(error(1, "Not a directory", "/a/token"), "lab/tiny", kind)
        assert "HF_HOME" in told and "/a/token" in told and "network" not in told


# ---- make check-hub -------------------------------------------------------------------------------------------------


@pytest.fixture
def check(hub, tiny_model, capsys):
    """`check(TASK ...)`: the exit status and {task, id and split: what differs} of recipes/check_hub.py."""
    script = check_hub()
    hub.repositories["lab/tiny"] = {path.name: path.read_bytes() for path in tiny_model.iterdir() if path.is_file()}

    def run(*tasks):
        capsys.readouterr()
        code = script.main([*tasks, "--model", "lab/tiny"])
        *lines, last = capsys.readouterr().out.splitlines()
        found = {line[11:].partition(": ")[0]: line.partition(": ")[2] for line in lines}
        right = sum(not told for told in found.values())
        assert last == f"{right} of {len(lines)} are as expected." and code == (right < len(lines))
        assert all(
            line.startswith("DIFFERENT" if told else "ok ") for line, told in zip(lines, found.values(), strict=True)
        )
        return found

    yield run
    datasets.enable_progress_bars()


def test_check_hub_finds_nothing_where_all_is_as_expected(check, hub):
    found = check()
    assert hub.asked("/additional_chat_templates")  # asked by one of the libraries' own clients
    assert len(found) > 60 and not {name: told for name, told in found.items() if told}


def test_check_hub_names_a_task_that_is_unknown(check, capsys):
    with pytest.raises(SystemExit):
        check("mnlii")
    assert "'mnlii' is unknown. Did you mean mnli" in capsys.readouterr().err


def test_check_hub_says_what_differs(check, hub, monkeypatch):
    snli, rte = hub.datasets["stanfordnlp/snli"], hub.datasets["nyu-mll/glue"]
    files = dict(snli.files(get_task("snli").sources[0].revision))
    for path in [path for path in files if path.endswith(".parquet")]:
        table = parquet.read_table(pa.BufferReader(files[path])).rename_columns(["premise", "hypotheses", "label"])
        sink = pa.BufferOutputStream()
        parquet.write_table(table.replace_schema_metadata(None), sink)
        files[path] = sink.getvalue().to_pybytes()
    monkeypatch.setitem(snli.commits, get_task("snli").sources[0].revision, files)
    revision = get_task("rte").sources[0].revision
    files = dict(rte.files(revision))
    stated = "dataset_info:\n- config_name: rte\n  splits:\n  - {name: train, num_bytes: 1, num_examples: 2491}\n"
    files["README.md"] = files["README.md"].replace(b"license:", f"{stated}license:".encode(), 1)
    monkeypatch.setitem(rte.commits, revision, files)
    found = check("snli", "rte", "xcopa")
    assert "'hypothesis' is missing" in found["snli stanfordnlp/snli plain_text train"] and "hypotheses" in str(found)
    assert "2,491 rows, expected 2,490" in found["rte nyu-mll/glue rte train"]
    assert not found["rte nyu-mll/glue rte dev"] and not found["xcopa cambridgeltl/xcopa {language} test"]
    hub.gated.add("stanfordnlp/snli")
    HfFileSystem.clear_instance_cache()
    assert "gated (401)" in str(check("snli")) and not check("rte")["rte nyu-mll/glue rte dev"]
