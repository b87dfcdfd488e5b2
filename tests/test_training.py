"""Training: the same loss for any split into batches, fresh heads, resumed runs, mixtures."""

import copy
import importlib
import itertools
import json
import os
import re
import shutil
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import records
import torch
from one_step import TASKS, one_step
from safetensors.torch import load_file, save_file
from transformers import AutoModel, BertConfig, BertForSequenceClassification, XLMRobertaConfig
from transformers import XLMRobertaForSequenceClassification as SequenceClassification
from transformers import XLMRobertaForTokenClassification as TokenClassification

from tasks import get_task
from tasks.errors import UserError
from tasks.fingerprint import rows_key
from tasks.rows import Rows
from xstilts.checkpoint import heads
from xstilts.checkpoint.tokenizer import load_tokenizer
from xstilts.cli.arguments import RunArguments
from xstilts.cli.privacy import public
from xstilts.run import inputs
from xstilts.run import settings as run_settings
from xstilts.run.environment import command_line
from xstilts.run.model_files import digest_of
from xstilts.run.record import Record
from xstilts.train import featurizing, mixture, runner, trainers
from xstilts.train.training_arguments import training_arguments

ROOT = Path(__file__).resolve().parents[1]


# ---- loss and gradient ----------------------------------------------------------------------------------------------


def assert_same_step(one, other):
    assert one[0] == pytest.approx(other[0], abs=2e-4)  # the log rounds to four places
    for name, weight in one[1].items():
        torch.testing.assert_close(other[1][name], weight, rtol=0, atol=1e-5, msg=lambda m, name=name: f"{name}: {m}")


@pytest.fixture(scope="module")
def whole_steps(still_model):
    """Each head's step with all 16 rows in one batch."""
    return {head: one_step(head, str(still_model), 16, 1) for head in TASKS}


@pytest.mark.parametrize("batch, accumulation", [(4, 4), (3, 6)])
@pytest.mark.parametrize("head", TASKS)
def test_accumulation_changes_neither_loss_nor_gradient(head, batch, accumulation, still_model, whole_steps):
    """transformers' own loss of these heads is `accumulation` times too large (issue 47688 there)."""
    assert_same_step(whole_steps[head], one_step(head, str(still_model), batch, accumulation))


@pytest.mark.parametrize("head", TASKS)
def test_the_step_moves_the_weights(head, still_model, whole_steps):
    """Else the comparisons above would hold of anything."""
    before = load_file(f"{still_model}/model.safetensors")
    name = "roberta.encoder.layer.0.attention.self.value.weight"
    assert (whole_steps[head][1][name] - before[name]).abs().max() > 1e-5


def test_two_processes_change_neither_loss_nor_gradient(still_model, whole_steps, tmp_path, forked):
    """Two processes of 4 rows, accumulated twice; every head in one start."""

    def work():
        steps = {head: one_step(head, str(still_model), 4, 2) for head in TASKS}
        assert torch.distributed.get_world_size() == 2
        torch.save(steps, tmp_path / f"steps-{os.environ['RANK']}.pt")
        torch.distributed.destroy_process_group()

    processes = forked(2, work)
    for process in processes:
        process.join(timeout=120)
    assert [process.exitcode for process in processes] == [0, 0], (tmp_path / "log").read_text()
    for head, step in torch.load(tmp_path / "steps-0.pt").items():
        assert_same_step(whole_steps[head], step)


# ---- heads ----------------------------------------------------------------------------------------------------------

SIZES = {
    "vocab_size": 60,
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "max_position_embeddings": 34,
}
TRANSFERS = {  # what was trained -> what is trained next: all that goes wrong with a plain from_pretrained
    "3 labels -> 3 labels": (SequenceClassification, XLMRobertaConfig(**SIZES, num_labels=3), "xnli"),
    "3 labels -> span": (SequenceClassification, XLMRobertaConfig(**SIZES, num_labels=3), "squad"),
    "tags -> multiple choice": (TokenClassification, XLMRobertaConfig(**SIZES, num_labels=17), "hellaswag"),
    "tags -> tags": (TokenClassification, XLMRobertaConfig(**SIZES, num_labels=17), "udpos"),
    "BERT 17 labels -> 17 tags": (BertForSequenceClassification, BertConfig(**SIZES, num_labels=17), "udpos"),
    "BERT 3 labels -> multiple choice": (
        BertForSequenceClassification,
        BertConfig(**SIZES, num_labels=3),
        "hellaswag",
    ),
}


@pytest.mark.parametrize("transfer", TRANSFERS)
def test_fresh_head_on_the_same_encoder(transfer, tmp_path):
    kind, config, task = TRANSFERS[transfer]
    old = kind(config)
    old.save_pretrained(tmp_path)
    torch.manual_seed(1)
    new = heads.fresh_head(task := get_task(task), str(tmp_path))
    assert type(new).__name__.endswith(task.auto_class.removeprefix("AutoModel"))
    assert new.config.num_labels == task.num_labels
    before, after = old.state_dict(), new.state_dict()
    encoder = [k for k in before if k.startswith(f"{old.base_model_prefix}.")]
    assert encoder and all(torch.equal(before[k], after[k]) for k in encoder if k in after)
    assert not [k for k in encoder if k not in after and "pooler" not in k]
    matrices = [k for k in after if not k.startswith(f"{new.base_model_prefix}.") and after[k].dim() > 1]
    assert matrices
    for name in matrices:  # biases begin as zeros anyway
        assert (
            name not in before or before[name].shape != after[name].shape or not torch.equal(before[name], after[name])
        )
    if task.labels:
        assert [new.config.id2label[i] for i in range(task.num_labels)] == list(task.labels)


@pytest.mark.parametrize("name", ["xnli", "udpos", "squad", "hellaswag"])
@pytest.mark.parametrize(
    "problem, labels",
    [("multi_label_classification", 17), ("single_label_classification", 2), ("regression", 1)],
)
def test_no_setting_of_the_old_head_is_left(problem, labels, name, tiny_model, tmp_path):
    """A pipeline of transformers chooses sigmoid or softmax, and names the labels, by the config."""
    shutil.copytree(tiny_model, tmp_path / "model")
    path = tmp_path / "model" / "config.json"
    old = {"problem_type": problem, "id2label": {str(i): f"old{i}" for i in range(labels)}}
    path.write_text(json.dumps(json.loads(path.read_text()) | old | {"label2id": {"old0": 0}}))
    given, plain = (
        heads.fresh_head(get_task(name), str(folder)).config for folder in (tmp_path / "model", tiny_model)
    )
    for field in ("problem_type", "num_labels", "id2label", "label2id"):
        assert getattr(given, field) == getattr(plain, field), field


def test_fresh_heads_follow_the_seed(tiny_model):
    def head(seed):
        torch.manual_seed(seed)
        return heads.fresh_head(get_task("xnli"), str(tiny_model)).classifier.out_proj.weight

    assert torch.equal(head(1), head(1)) and not torch.equal(head(1), head(2))


def test_frozen_embeddings_stay(tiny_model):
    model = heads.fresh_head(get_task("xnli"), str(tiny_model))
    heads.freeze_embeddings(model)
    frozen = [n for n, p in model.named_parameters() if not p.requires_grad]
    assert frozen and all(".embeddings." in n for n in frozen)


# ---- runs -----------------------------------------------------------------------------------------------------------

SMALL = [
    "--max_train_samples",
    "24",
    "--max_eval_samples",
    "5",
    "--per_device_train_batch_size",
    "8",
    "--num_train_epochs",
    "2",
    "--learning_rate",
    "1e-3",
    "--disable_tqdm",
    "true",
]
RUNS = {  # script and arguments; 6 steps (12 of the mixture), checkpoints in between
    "target": (
        "run_target.py",
        ["--task", "xquad", "--max_seq_length", "48", "--save_strategy", "steps", "--save_steps", "4"],
    ),
    "best": ("run_target.py", ["--task", "udpos"]),
    "mixture": (
        "run_intermediate.py",
        ["--tasks", "mnli", "squad", "hellaswag", "--save_strategy", "steps", "--save_steps", "8"],
    ),
    "mlm": (
        "run_mlm.py",
        [
            "--config_name",
            "CONFIG",
            "--vocab_size",
            "300",
            "--max_train_samples",
            "12",
            "--save_strategy",
            "steps",
            "--save_steps",
            "4",
        ],
    ),
}


@pytest.fixture(scope="session")
def start(tiny_model, tiny_world, tmp_path_factory):
    """`start(run, folder, *more)`: runs one of RUNS in this process."""
    config = tmp_path_factory.mktemp("sizes") / "sizes.json"
    config.write_text(
        json.dumps(
            {
                "model_type": "xlm-roberta",
                "hidden_size": 16,
                "num_hidden_layers": 1,
                "num_attention_heads": 2,
                "intermediate_size": 16,
                "max_position_embeddings": 66,
            }
        )
    )

    def run(name, folder, *more):
        script, own = RUNS[name]
        own = [str(config) if a == "CONFIG" else a for a in own]
        model = [] if name == "mlm" else ["--model_name_or_path", str(tiny_model)]
        arguments = [
            *SMALL,
            *own,
            *model,
            "--data_root",
            str(tiny_world),
            "--output_dir",
            str(folder),
            *map(str, more),
        ]
        importlib.import_module(script.removesuffix(".py")).main(arguments)

    return run


@pytest.fixture(scope="session")
def finished(once, start):
    """`finished(run)`: the folder of that run, uninterrupted. Shared: not to be written into."""

    def get(name):
        def build(folder):
            start(name, folder)

        return once(f"run_{name}", build)

    return get


def weights(folder):
    return {path.name: load_file(path) for path in sorted(Path(folder).glob("*.safetensors"))}


@pytest.mark.parametrize("name, stop", [("target", 9), ("best", 5), ("mixture", 15), ("mlm", 9)])
def test_a_resumed_run_ends_with_the_same_weights(name, stop, finished, start, tmp_path, monkeypatch):
    """Stopped, started again with the same command: every tensor bit-equal, scores too.

    "best" goes on at the beginning of an epoch, "mixture" in the middle of the first, the others of the second.
    """
    calls = itertools.count(1)
    step = trainers.TaskTrainer.training_step

    def interrupted(*args, **kwargs):
        if next(calls) == stop:
            raise KeyboardInterrupt
        return step(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(trainers.TaskTrainer, "training_step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            start(name, tmp_path)
    assert list(tmp_path.glob("checkpoint-*")) and not (tmp_path / "results.json").exists()
    with pytest.raises(UserError, match="begun with other arguments.*learning_rate: 0.001 then, 0.002 now"):
        start(name, tmp_path, "--learning_rate", "2e-3")
    begun = next(calls)
    with monkeypatch.context() as patch:
        patch.setattr(trainers.TaskTrainer, "training_step", lambda *a, **k: (next(calls), step(*a, **k))[1])
        start(name, tmp_path)
    whole = finished(name)
    record, other = records.read(whole / "results.json"), records.read(tmp_path / "results.json")
    assert next(calls) - begun - 1 < record["measures"]["steps"], "it began from the start"
    expected, found = weights(whole), weights(tmp_path)
    assert expected.keys() == found.keys() and expected
    for file, tensors in expected.items():
        assert all(torch.equal(tensor, found[file][key]) for key, tensor in tensors.items()), file
    assert (record["scores"], record["dev"], record["measures"]) == (other["scores"], other["dev"], other["measures"])
    assert not list(tmp_path.glob("checkpoint-*"))


def test_a_finished_run_is_not_done_again(finished, start, tmp_path, monkeypatch, caplog):
    folder = shutil.copytree(finished("target"), tmp_path / "run")
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    monkeypatch.setattr(runner, "train", lambda *a: pytest.fail("it trained"))
    os.utime(folder / "results.json", (1, 1))
    with caplog.at_level("INFO"):
        start("target", folder)
    assert "is finished; nothing to do" in caplog.text
    assert before == {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    assert (folder / "results.json").stat().st_mtime > time.time() - 60  # touched: make goes by time
    with pytest.raises(UserError, match="begun with other arguments.*max_eval_samples: 5 then, 4 now"):
        start("target", folder, "--max_eval_samples", "4")
    assert before == {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_splits_of_tasks_that_a_run_does_not_read_are_no_other_arguments(
    finished, start, tmp_path, monkeypatch, caplog
):
    """A matrix gives --splits to all its runs, and may need them for one more task when some are finished."""
    folder = shutil.copytree(finished("target"), tmp_path / "run")
    monkeypatch.setattr(runner, "train", lambda *a: pytest.fail("it trained"))
    with caplog.at_level("INFO"):
        start("target", folder, "--splits", "udpos.test=validation")
    assert "is finished; nothing to do" in caplog.text
    with pytest.raises(UserError, match=r"begun with other arguments.*splits: .* then, .*xquad.test=validation"):
        start("target", folder, "--splits", "udpos.test=validation", "xquad.test=validation")
    (folder / "results.json").unlink()  # a training that was stopped
    shutil.copytree(folder, folder / "checkpoint-1")
    with pytest.raises(UserError, match=r"begun with other arguments.*splits: .* then, .*xquad.test=validation"):
        start("target", folder, "--splits", "udpos.test=validation", "xquad.test=validation")
    with pytest.raises(pytest.fail.Exception, match="it trained"):
        start("target", folder, "--splits", "udpos.test=validation")


TEXT_OF_XQUAD = ["--text_of", "xquad", "--text_languages", "en"]  # whose train rows are SQuAD's
READ = {  # script and arguments, --splits that it reads, --splits that it does not
    "phase 2": ("run_intermediate.py", ["--tasks", "xnli"], ["xnli.train=validation"], "xnli.test=validation"),
    "masked LM": ("run_mlm.py", TEXT_OF_XQUAD, ["xquad.train=validation[:8]"], "xquad.test=validation[:8]"),
    "mixture": (
        "run_intermediate.py",
        ["--tasks", "csqa", "--mlm_rate", "0.5", *TEXT_OF_XQUAD],
        ["xquad.train=validation[:8]", "csqa.train=validation"],
        "squad_v2.train=validation",
    ),
    "retrieval": (
        "run_retrieval.py",
        ["--tasks", "mewslix", "--select_on", "tatoeba:qab", "--layer", "all", "--languages", "qaa"],
        ["mewslix.test=validation", "tatoeba.test=train"],
        "ntrex.test=train",
    ),
}


@pytest.mark.parametrize("kind", READ)
def test_a_finished_run_knows_which_splits_it_has_read(kind, cli, tiny_model, tiny_world, tmp_path):
    script, words, read, other = READ[kind]
    words = [
        script,
        *words,
        "--model_name_or_path",
        tiny_model,
        "--data_root",
        tiny_world,
        "--output_dir",
        tmp_path / "o",
    ]
    if kind != "retrieval":
        words += ["--max_steps", "1", "--max_train_samples", "8", "--per_device_train_batch_size", "4", "--use_cpu"]
    words += ["--max_eval_samples", "8"]
    assert cli(*words).returncode == 0
    (stamp,) = (tmp_path / "o").rglob("results.json")
    before = stamp.read_bytes()
    assert cli(*words, "--splits", other).returncode == 0 and stamp.read_bytes() == before
    for changed in read:
        done = cli(*words, "--splits", other, changed)
        assert done.returncode == 2 and "begun with other arguments (splits: " in done.stderr, done.stderr
    run = stamp.with_name("run.json")  # of an earlier version: nothing is known
    run.write_text(json.dumps({k: v for k, v in json.loads(run.read_text()).items() if k != "requested"}))
    assert cli(*words, "--splits", other).returncode == 2 and stamp.read_bytes() == before


@pytest.mark.parametrize(
    "then, now, said",
    [
        ({}, {"seed": 0}, "seed: 42 then, 0 now"),
        ({"max_grad_norm": 0.0}, {}, "max_grad_norm: 0.0 then, 1.0 now"),
        ({}, {"adam_beta1": 0.0}, "adam_beta1: 0.9 then, 0.0 now"),
        ({}, {"lora_dropout": 0.0}, "lora_dropout: 0.1 then, 0.0 now"),
        ({"bf16": True}, {}, "bf16: True then, False now"),
        ({}, {"lora_dropout": 0.1}, None),
        ({}, {"an_argument_of_a_newer_version": False}, None),
    ],
)
def test_an_argument_that_is_absent_had_its_default(then, now, said, tmp_path):
    (tmp_path / "run.json").write_text(json.dumps({"model": "m"} | then))
    (tmp_path / "checkpoint-5").mkdir()
    (tmp_path / "checkpoint-5/trainer_state.json").touch()
    if said is None:
        assert run_settings.compare(tmp_path, {"model": "m"} | now) == {"model": "m"} | then
        return
    with pytest.raises(UserError, match=re.escape(said)):
        run_settings.compare(tmp_path, {"model": "m"} | now)


@pytest.mark.parametrize("there", ["/data/rows", "rows"])
def test_a_result_alone_may_come_from_a_machine_with_another_precision(there, tmp_path, monkeypatch):
    """As long as the same command made it; of a path it has the last part alone."""
    monkeypatch.setattr(sys, "argv", ["run_target.py", "--data_root", there])
    settings = {"model": "m", "data_root": there}
    result = records.small(settings=public(settings | {"bf16": True}), command=command_line())
    records.write(tmp_path / "results.json", result)
    assert run_settings.compare(tmp_path, settings) is None
    monkeypatch.setattr(sys, "argv", ["run_target.py", "--data_root", there, "--bf16", "False"])
    with pytest.raises(UserError, match="bf16: True then, False now"):
        run_settings.compare(tmp_path, settings)


def test_a_new_model_is_outdated_by_its_sizes(finished, tiny_world):
    record = Record.read(finished("mlm") / "results.json")
    sizes = record.settings["sizes"]
    assert sizes["num_hidden_layers"] and "sizes" in run_settings.BESIDE
    settings = record.settings | {"data_root": str(tiny_world)}
    assert run_settings.outdated(record, settings) is None
    changed = settings | {"sizes": sizes | {"hidden_dropout_prob": 0.3}}
    assert "sizes" in run_settings.outdated(record, changed)
    record.settings.pop("sizes")  # an older version
    assert run_settings.outdated(record, changed) is None


def test_a_result_is_outdated_by_other_weights_in_the_users_folder(finished, tiny_world, tiny_model, tmp_path):
    model = tmp_path / "model"
    shutil.copytree(tiny_model, model)
    (model / "results.json").unlink(missing_ok=True)
    settings = {"model": str(model), "data_root": str(tiny_world)} | run_settings.parent(str(model))
    record = Record.read(finished("target") / "results.json")
    record = replace(record, settings={**record.settings, **settings})
    assert run_settings.outdated(record, settings) is None and "model_weights" in run_settings.BESIDE
    weights = load_file(model / "model.safetensors")
    name = max(weights, key=lambda name: weights[name].numel())
    save_file(weights | {name: weights[name] + 1}, model / "model.safetensors", metadata={"format": "pt"})
    assert "weights" in run_settings.outdated(record, settings | run_settings.parent(str(model)))
    record.settings.pop("model_weights")
    assert "weights or the tokenizer" in run_settings.outdated(record, settings | run_settings.parent(str(model)))
    record.settings.pop("model_files")  # an older version
    assert run_settings.outdated(record, settings | run_settings.parent(str(model))) is None


def _replace_small(model):
    weights = load_file(model / "model.safetensors")
    name = min(weights, key=lambda name: weights[name].numel())
    save_file(weights | {name: weights[name] + 1}, model / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize(
    "change, told",
    [
        (lambda model: (model / "tokenizer_config.json").open("a").write("\n"), True),
        (lambda model: (model / "tokenizer.json").open("a").write(" "), True),
        (_replace_small, True),
        (lambda model: (model / "results.json").write_text("{}"), False),
        (lambda model: (model / "README.md").write_text("mine"), False),
        (lambda model: (model / "checkpoint-9").mkdir(), False),
    ],
    ids=["tokenizer_config.json", "tokenizer.json", "the smallest tensor", "results.json", "README.md", "a folder"],
)
def test_a_model_is_another_with_another_tokenizer_or_one_other_tensor(change, told, tiny_model, tmp_path):
    shutil.copytree(tiny_model, tmp_path / "model")
    before = digest_of(tmp_path / "model")
    change(tmp_path / "model")
    assert (digest_of(tmp_path / "model") != before) == told
    (tmp_path / "model/model.safetensors").unlink()
    assert digest_of(tmp_path / "model") is None


@pytest.mark.parametrize(
    "content", [b"", b"version https://git-lfs", b"\xff" * 8 + b"abc", b"\x10" + b"\0" * 7 + b"{"]
)
def test_a_damaged_file_of_weights_has_a_digest(content, tmp_path):
    """What is wrong with it is said where it is loaded."""
    (tmp_path / "model.safetensors").write_bytes(content)
    assert digest_of(tmp_path)


def test_a_result_is_outdated_by_rows_in_one_language_more(tiny_world, tmp_path):
    """Without --languages all are measured."""
    there = get_task("xnli").languages(Rows(tiny_world))
    settings = {"model": "m", "data_root": str(tiny_world), "languages": []}

    def outdated(measured, **more):
        scores = {language: {"accuracy": 60} for language in measured}
        records.write(tmp_path / "results.json", records.small(scores=scores))
        return run_settings.outdated(Record.read(tmp_path / "results.json"), settings | more)

    assert outdated(there) is None
    assert outdated(there[:-1]) == f"there are rows in {there[-1]} now"
    assert outdated(there[:-1], languages=there[:-1]) is None
    assert outdated(there[:-1], select_on=f"tatoeba:{there[-1]}") is None


def test_a_result_is_outdated_by_its_parent_and_its_rows(finished, tiny_world, tmp_path):
    record = Record.read(finished("target") / "results.json")
    parent, rows = tmp_path / "parent", tmp_path / "rows"
    parent.mkdir()
    shutil.copytree(tiny_world, rows)
    settings = {"model": str(parent), "data_root": str(rows)}
    assert (
        set(run_settings.parent(str(parent))) == {"model_weights"} and run_settings.outdated(record, settings) is None
    )
    (parent / "results.json").write_text(json.dumps(record.to_dict() | {"finished": "2999-01-01T00:00:00+00:00"}))
    settings |= run_settings.parent(str(parent))
    # a record that does not say of when its parent was
    assert "was trained again" in run_settings.outdated(record, settings)
    record = replace(record, settings=record.settings | {"model_finished": settings["model_finished"]})
    # the clock was ahead when the parent was trained: it is the same one
    assert run_settings.outdated(record, settings) is None
    record = replace(record, settings=record.settings | {"model_finished": "2998-01-01T00:00:00+00:00"})
    assert "was trained again" in run_settings.outdated(record, settings)
    settings.pop("model_finished")
    file = rows / "google__xquad" / "xquad.qaa" / "validation.parquet"
    shutil.copy(rows / "google__xquad" / "xquad.qab" / "validation.parquet", file)
    assert "google/xquad (xquad.qaa, validation)" in run_settings.outdated(record, settings)


def test_only_a_repository_that_cannot_be_read_has_no_commit(monkeypatch):
    assert run_settings.parent("lab/not-in-the-cache") == {}  # no network: tests/conftest.py
    assert run_settings.parent("not a/valid/name") == {}

    def wrong(*args, **kwargs):
        raise TypeError("a fault of the program")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", wrong)
    with pytest.raises(TypeError):
        run_settings.parent("lab/tiny")


def test_a_model_of_the_hub_that_moved_is_refused_and_its_checkpoints_stay(tmp_path):
    (tmp_path / "checkpoint-3").mkdir()
    (tmp_path / "checkpoint-3/trainer_state.json").write_text("{}")
    begun = {"model": "lab/tiny", "model_commit": "a" * 40}
    (tmp_path / "run.json").write_text(json.dumps(begun))
    assert run_settings.compare(tmp_path, {"model": "lab/tiny"}) == begun  # no commit is known
    with pytest.raises(UserError, match=f"--model_revision {'a' * 40}"):
        run_settings.compare(tmp_path, {"model": "lab/tiny", "model_commit": "b" * 40})
    pinned = {"model": "lab/tiny", "model_commit": "a" * 40, "model_revision": "a" * 40}
    assert run_settings.compare(tmp_path, pinned) == begun
    with pytest.raises(UserError, match="model_revision"):
        run_settings.compare(tmp_path, pinned | {"model_revision": "old"})
    assert (tmp_path / "checkpoint-3/trainer_state.json").is_file()


def test_examples_are_cut_not_features(finished):
    """5 examples a language in more than 5 windows: all five answered, the score over five."""
    folder = finished("target")
    record = records.read(folder / "results.json")
    assert record["n"] == {"en": 5, "qaa": 5, "qab": 5}
    for language in record["n"]:
        assert len(json.loads((folder / "predictions" / "xquad" / f"test-{language}.json").read_text())) == 5


@pytest.mark.parametrize("name", ["target", "best"])
def test_scores_follow_from_the_predictions(name, finished, tiny_world):
    folder = finished(name)
    record = records.read(folder / "results.json")
    task, rows = get_task(record["task"]), Rows(tiny_world)
    for language, scores in record["scores"].items():
        examples = inputs.first(task.load("test", language, rows), 5)
        text = (folder / "predictions" / task.predictions_file(language)).read_text()
        if task.form == "span":
            predictions = [json.loads(text)[i] for i in examples["id"]]
        else:
            predictions = [block.split("\n") for block in text.strip("\n").split("\n\n")]
        assert task.score(predictions, examples, language) == scores
        assert record["n"][language] == len(examples)


@pytest.mark.parametrize("name", RUNS)
def test_a_finished_folder_is_a_plain_checkpoint(name, finished):
    """config, weights, tokenizer, card, result; AutoModel finds every weight of the encoder and no stranger among
    them."""
    folder = finished(name)
    model, info = AutoModel.from_pretrained(folder, add_pooling_layer=name == "mixture", output_loading_info=True)
    assert not info["missing_keys"] and not info["mismatched_keys"]
    if name == "mixture":  # the others carry the head of their own class
        assert not info["unexpected_keys"]
    assert load_tokenizer(str(folder)).is_fast
    assert (folder / "README.md").read_text().startswith("---\n")
    assert not list(folder.glob("*.bin")) and not list(folder.glob("checkpoint-*"))
    record = records.read(folder / "results.json")
    assert record["seed"] == 0 and record["data"] and all(len(d["sha256"]) == 64 for d in record["data"])
    assert str(ROOT) not in json.dumps(record["data"])


def test_a_checkpoint_that_was_not_kept_is_made_when_it_is_asked_for(cli, tiny_model, tiny_world, tmp_path, caplog):
    """The same command without --keep_checkpoint false ended well, and there was no checkpoint."""
    caplog.set_level("INFO")

    def run(*more):
        caplog.clear()
        done = cli(
            "run_target.py",
            *["--task", "xnli", "--model_name_or_path", tiny_model, "--data_root", tiny_world, "--bf16", "false"],
            *[
                "--output_dir",
                tmp_path / "x",
                "--max_steps",
                "2",
                "--max_eval_samples",
                "4",
                "--languages",
                "qaa",
                *more,
            ],
        )
        assert done.returncode == 0, done.stderr
        return records.read(tmp_path / "x/results.json"), (tmp_path / "x/model.safetensors").exists()

    first, there = run("--keep_checkpoint", "false")
    assert not there and first["settings"]["keep_checkpoint"] is False
    assert run("--keep_checkpoint", "false") == (first, False) and "nothing to do" in caplog.text
    assert "no checkpoint" not in caplog.text
    second, there = run()
    assert there and "keep_checkpoint" not in second["settings"] and second["scores"] == first["scores"]
    assert run() == run("--no_keep_checkpoint") == (second, True)
    (tmp_path / "x/model.safetensors").unlink()  # as of a run of an earlier version, whose settings do not say it
    assert run() == (second, False) and "holds no checkpoint" in caplog.text


# ---- the cache of features ------------------------------------------------------------------------------------------

ADAPTER = """
from tasks.sentence_pair import XNLI


class Counting(XNLI):
    calls = 0

    def featurize(self, batch, *args, **kwargs):
        Counting.calls += 1
        return super().featurize(PREPARED, *args, **kwargs)
"""


@pytest.fixture
def adapter(tmp_path, monkeypatch):
    """`adapter(expression)`: a task adapter whose source file is written anew, its features made of `expression`."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def write(expression):
        (tmp_path / "counting_adapter.py").write_text(ADAPTER.replace("PREPARED", expression))
        sys.modules.pop("counting_adapter", None)
        import linecache

        linecache.clearcache()
        importlib.invalidate_caches()
        return importlib.import_module("counting_adapter").Counting()

    yield write
    sys.modules.pop("counting_adapter", None)


def test_features_are_made_once(adapter, tiny_world, tokenizer, tiny_model):
    """A second time from the cache; anew for another length, tokenizer, rows, purpose, or line in the adapter's
    source."""
    task = adapter("batch")
    rows = Rows(tiny_world)

    def made(task, tokenizer=tokenizer, length=60, language="en", train=False):
        before = type(task).calls
        features = featurizing.featurize(task, task.load("test", language, rows), tokenizer, length, train, "test")
        return type(task).calls > before, features

    assert made(task)[0] and not made(task)[0]
    tokenizer(["used", "in between"], padding=True, truncation=True, max_length=4)
    assert not made(task)[0], "what a tokenizer was last used for is no part of what it is"
    assert made(task, length=61)[0] and not made(task, length=61)[0]
    assert made(task, language="qaa")[0] and made(task, train=True)[0]
    other = load_tokenizer(str(tiny_model))
    other.add_tokens(["Ardale"])
    assert made(task, tokenizer=other)[0] and not made(task)[0]
    plain = made(task)[1]["input_ids"][:]
    changed = adapter('{**batch, "text_a": batch["text_b"]}')
    again, features = made(changed)
    assert again and features["input_ids"][:] != plain
    assert not made(adapter("batch"))[0]


@pytest.mark.parametrize("task", ["pawsx", "xquad", "copa"])
def test_features_of_models_that_share_a_tokenizer_file(task, tokenizer, tiny_world):
    """BERT after DistilBERT: the same tokenizer.json, but one model takes token types."""
    task = get_task(task)
    examples = task.load("train", "en", Rows(tiny_world)).select(range(8))
    for names in (["input_ids", "attention_mask"], ["input_ids", "token_type_ids", "attention_mask"]):
        one = copy.deepcopy(tokenizer)
        one.model_input_names = names
        features = featurizing.featurize(task, examples, one, 64, True, "test")
        assert ("token_type_ids" in features.column_names) == ("token_type_ids" in names)


@pytest.mark.parametrize(
    "setting",
    [
        {"truncation_side": "left"},
        {"split_special_tokens": True},
        {"unk_token": "<mask>"},  # the token of a word without tokens
    ],
    ids=str,
)
def test_features_depend_on_the_settings_of_a_tokenizer(setting, tokenizer, tiny_world):
    task, rows = get_task("pawsx"), Rows(tiny_world)
    examples = task.load("test", "en", rows)
    one, other = copy.deepcopy(tokenizer), copy.deepcopy(tokenizer)
    for name, value in setting.items():
        setattr(other, name, value)
    first, second, again = (featurizing.featurize(task, examples, t, 62, False, "test") for t in (one, other, one))
    assert rows_key(first) == rows_key(again) != rows_key(second)


# ---- mixtures -------------------------------------------------------------------------------------------------------


def sampler(sizes, batch=4, per_step=2, cap=None, temperature=1.0, seed=0):
    lengths = {f"task{i}": [1 + (7 * k) % 50 for k in range(n)] for i, n in enumerate(sizes)}
    return mixture.MixtureSampler(lengths, batch, per_step, cap, temperature, seed)


def drawn(one, sizes):
    """The part each batch belongs to; fails if a batch mixes parts."""
    ends = list(itertools.accumulate(sizes))
    parts = [{next(p for p, end in enumerate(ends) if i < end) for i in batch} for batch in one]
    assert all(len(p) == 1 for p in parts)
    return [p.pop() for p in parts]


def test_every_step_is_wholly_one_task():
    sizes = [100, 300, 60]
    parts = drawn(sampler(sizes, per_step=4), sizes)
    steps = [set(parts[i : i + 4]) for i in range(0, len(parts), 4)]
    assert all(len(step) == 1 for step in steps) and len(steps) == 7 + 19 + 4 == len(sampler(sizes, per_step=4)) // 4
    assert len(set().union(*steps)) == 3


@pytest.mark.parametrize(
    "cap, temperature, expected",
    [
        (None, 1.0, [0.8, 0.2]),
        (2000, 1.0, [0.5, 0.5]),
        (None, 2.0, [2 / 3, 1 / 3]),
        (4000, 2.0, [2**0.5 / (1 + 2**0.5), 1 / (1 + 2**0.5)]),
    ],
)
def test_proportions_follow_cap_and_temperature(cap, temperature, expected):
    """p ~ min(n, cap) ** (1 / T), for 8,000 and 2,000 examples."""
    sizes = [8000, 2000]
    one = sampler(sizes, batch=1, per_step=1, cap=cap, temperature=temperature)
    assert one.probabilities.tolist() == pytest.approx(expected)
    counts = Counter(drawn(one, sizes))
    assert counts[0] / counts.total() == pytest.approx(expected[0], abs=0.03)  # 4,000 draws or more: sd below .008
    assert counts.total() == sum(min(n, cap or n) for n in sizes)


def test_epochs_differ_and_repeat():
    sizes = [40, 80]
    one, other = sampler(sizes), sampler(sizes)
    first, again = list(one), list(other)
    assert first == again
    one.set_epoch(1)
    assert list(one) != first
    assert list(sampler(sizes, seed=1)) != first


def test_task_repeats_only_after_all_its_rows():
    one = sampler([48], batch=4, per_step=1)
    assert sorted(i for batch in one for i in batch) == list(range(48))


def test_mixture_trains_one_task_a_step_in_another_order_each_epoch(start, tmp_path, monkeypatch):
    """As above through the Trainer's own loop, which must tell the sampler its epoch."""
    seen = []
    compute = trainers.TaskTrainer.compute_loss

    def watch(self, model, inputs, *args, **kwargs):
        if "task" in inputs:  # not the dev scores afterwards
            seen.append((inputs["task"], inputs["input_ids"].flatten().tolist()))
        return compute(self, model, inputs, *args, **kwargs)

    monkeypatch.setattr(trainers.TaskTrainer, "compute_loss", watch)
    start("mixture", tmp_path, "--gradient_accumulation_steps", "3", "--per_device_train_batch_size", "4")
    tasks = [task for task, _ in seen]
    assert len(tasks) == 2 * 3 * 2 * 3  # epochs x tasks x steps of each x accumulation
    assert all(len(set(tasks[i : i + 3])) == 1 for i in range(0, len(tasks), 3)) and len(set(tasks)) > 1
    assert seen[: len(seen) // 2] != seen[len(seen) // 2 :]


def test_mixture_saves_encoder_and_heads_apart(finished, tiny_model):
    folder = finished("mixture")
    before, after = (load_file(f / "model.safetensors") for f in (tiny_model, folder))
    changed = [k for k in after if f"roberta.{k}" in before and not torch.equal(after[k], before[f"roberta.{k}"])]
    assert len(changed) > 10
    names = {key.split(".")[1] for key in load_file(folder / "heads.safetensors")}
    assert json.loads((folder / "tokenizer.json").read_text())["truncation"] is None
    assert names == {"mnli", "squad", "hellaswag"}
    record = records.read(folder / "results.json")
    assert record["task"] == "mnli+squad+hellaswag" and {k.split("/")[0] for k in record["dev"]["en"]} == names


def test_logits_come_in_the_order_of_the_features(tiny_model, tiny_world, tmp_path):
    # transformers groups evaluation batches by length too, which would score every prediction against another row
    import torch
    from transformers import TrainingArguments

    from tasks import get_task
    from tasks.rows import Rows
    from xstilts.checkpoint import heads
    from xstilts.checkpoint.tokenizer import load_tokenizer
    from xstilts.train import featurizing, trainers

    task, tokenizer = get_task("udpos"), load_tokenizer(str(tiny_model))
    model = heads.fresh_head(task, str(tiny_model)).eval()
    examples = task.load("test", "en", Rows(tiny_world))
    features = featurizing.featurize(task, examples, tokenizer, 64, False, "order")
    args = TrainingArguments(
        output_dir=str(tmp_path),
        use_cpu=True,
        train_sampling_strategy="group_by_length",
        per_device_eval_batch_size=3,
        label_names=["labels"],
        report_to="none",
    )
    trainer = trainers.TaskTrainer(
        model=model,
        args=args,
        task=task,
        dev=(examples, features),
        processing_class=tokenizer,
        data_collator=task.collator(tokenizer),
    )
    logits = trainer.logits(features)
    assert len({len(ids) for ids in features["input_ids"]}) > 3
    for row, ids in zip(logits, features["input_ids"], strict=True):
        with torch.no_grad():
            alone = model(input_ids=torch.tensor([ids])).logits[0].numpy()
        assert abs(row[: len(ids)] - alone).max() < 1e-4


def test_bf16_flag_wins_over_accelerates_setting(monkeypatch, caplog, tmp_path):
    """Its launcher's --mixed_precision, or a default config, would train in another precision than the record says."""
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    run = RunArguments(output_dir=str(tmp_path))
    args = training_arguments(run, ["--bf16", "false"], {})
    assert (
        args.mixed_precision == "no"
        and "accelerate is configured for bf16; --bf16 and --fp16 decide: fp32." in caplog.text
    )
    assert training_arguments(run, ["--bf16", "true"], {}).mixed_precision == "bf16"


def test_checkpoints_by_steps_are_each_scored_where_the_best_is_chosen(tmp_path):
    """docs/survive.md: --save_strategy steps --save_steps N, for more checkpoints; of a target task it was refused."""
    run, chosen = RunArguments(output_dir=str(tmp_path)), {"scores": ["f1"], "load_best_model_at_end": True}
    args = training_arguments(run, ["--save_strategy", "steps", "--save_steps", "40"], {}, **chosen)
    assert (args.eval_strategy, args.eval_steps) == ("steps", 40)
    args = training_arguments(
        run, ["--save_strategy", "steps", "--save_steps", "40", "--eval_steps", "20"], {}, **chosen
    )
    assert (args.save_steps, args.eval_steps) == (40, 20)
    assert training_arguments(run, [], {}, **chosen).eval_strategy == "epoch"
