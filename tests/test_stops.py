"""A training step reads nothing from the device: a GPU never waits for the program. Counted on a CPU (`stops.py`)."""

import importlib

import pytest
import torch
from one_step import TASKS, one_step
from stops import stops

from tasks import get_task
from tasks.errors import UserError
from tests import architectures
from xstilts.checkpoint import heads
from xstilts.checkpoint.tokenizer import load_tokenizer
from xstilts.train import host_facts, trainers
from xstilts.train.trainers import CheckedTrainer, Masking, TaskTrainer


@pytest.fixture
def found(monkeypatch):
    """Fills with the stops of every training step, from the batch to the end of backward."""
    places, plain = [], CheckedTrainer.training_step

    def step(self, *args, **kwargs):
        with stops() as of_step:
            loss = plain(self, *args, **kwargs)
        places.append(of_step)
        return loss

    monkeypatch.setattr(CheckedTrainer, "training_step", step)
    return places


def test_the_count_sees_every_way_to_read_a_tensor():
    values, index = torch.arange(3.0), torch.tensor([True, False, True])
    reads = [
        lambda: values.sum().item(),
        lambda: bool(values.all()),
        lambda: float(values[0]),
        lambda: values.tolist(),
        lambda: values.numpy(),
        lambda: values.cpu(),
        lambda: values.nonzero(),
        lambda: values[index],
    ]
    for read in reads:
        with stops() as places:
            read()
        assert len(places) == 1, places
    with stops() as places:
        (values * 2).index_select(0, torch.tensor([1])).sum()
    assert places == []


@pytest.mark.parametrize("name", ["xlm-roberta", "modernbert", "deberta-v2"])
@pytest.mark.parametrize("head", TASKS)
def test_a_step_of_one_task_stops_nowhere(name, head, tmp_path, found):
    architectures.build(name, tmp_path)
    one_step(head, str(tmp_path), 8, 2)
    assert found == [[], []]


def test_a_step_of_a_mixture_with_text_stops_nowhere(tiny_model, tiny_world, tmp_path, found):
    command = ["--tasks", "mnli", "udpos", "--mlm_rate", "0.4", "--model_name_or_path", str(tiny_model)]
    options = ["--max_steps", "8", "--max_train_samples", "32", "--max_eval_samples", "4", "--save_strategy", "no"]
    where = ["--data_root", str(tiny_world), "--output_dir", str(tmp_path / "run")]
    importlib.import_module("run_intermediate").main(
        [*command, *options, "--per_device_train_batch_size", "4", *where]
    )
    assert len(found) == 8 and not any(found)


def test_a_step_of_a_dual_encoder_stops_only_where_transformers_looks_for_padding(
    tiny_model, tiny_world, tmp_path, found
):
    command = ["--tasks", "squad_dual", "--model_name_or_path", str(tiny_model), "--save_strategy", "no"]
    options = ["--max_steps", "2", "--max_train_samples", "16", "--max_eval_samples", "4"]
    where = ["--data_root", str(tiny_world), "--output_dir", str(tmp_path / "run")]
    importlib.import_module("run_intermediate").main(
        [*command, *options, "--per_device_train_batch_size", "4", *where]
    )
    assert len(found) == 2 and {place.split()[-1] for places in found for place in places} <= {
        "_ignore_bidirectional_mask_sdpa"
    }


def test_more_steps_have_no_more_stops(tiny_model, tiny_world, tmp_path):
    """Counts what lies between steps too: clipping, optimizer, schedule, callbacks. The end reads the losses."""
    counts = []
    for steps in (2, 6):
        command = ["--task", "xquad", "--max_steps", str(steps), "--logging_steps", "100", "--save_strategy", "no"]
        where = ["--data_root", str(tiny_world), "--output_dir", str(tmp_path / str(steps))]
        options = ["--max_train_samples", "64", "--per_device_train_batch_size", "4", "--max_eval_samples", "4"]
        with pytest.MonkeyPatch.context() as patch, stops() as places:
            reads = []

            def train(self, *args, plain=TaskTrainer.train, reads=reads, places=places, **kwargs):
                before = len(places)
                output = plain(self, *args, **kwargs)
                reads += places[before:]
                return output

            patch.setattr(TaskTrainer, "train", train)
            importlib.import_module("run_target").main(
                [*command, *options, *where, "--languages", "en", "--model_name_or_path", str(tiny_model)]
            )
        counts.append(sorted(reads))
    assert counts[0] == counts[1]


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("name", ["xlm-roberta", "modernbert"])
@pytest.mark.parametrize("padded", [True, False])
def test_a_described_batch_gives_the_same_logits_to_the_last_bit(name, attention, padded, tmp_path):
    architectures.build(name, tmp_path)
    tokenizer = load_tokenizer(str(tmp_path), mask=True)
    model = heads.fresh_head(get_task("mnli"), str(tmp_path), attention=attention).eval()
    text = architectures.TEXTS[0]
    rows = [dict(tokenizer(words), labels=0) for words in (text, text.partition(" ")[0] if padded else text)]
    collator = get_task("mnli").collator(tokenizer)
    plain, described = collator(rows), host_facts.Described(collator)(rows)
    found, labelled, _ = host_facts.take(described)
    assert found is padded and labelled is None and described.keys() == plain.keys()
    with host_facts.known_padding(found):
        logits = model(**described).logits
    assert torch.equal(logits, model(**plain).logits)


def test_the_places_with_a_label_are_the_masked_tokens(tokenizer):
    rows = [tokenizer(text) for text in ("one two three four", "five")]
    batch = host_facts.Described(Masking(tokenizer, 0.5, 0))(rows)
    labels = batch["labels"]
    _, labelled, _ = host_facts.take(batch)
    assert torch.equal(labels.reshape(-1)[labelled], labels[labels != -100]) and len(labelled)


def test_a_loss_that_is_not_finite_is_refused_before_a_checkpoint_that_no_log_precedes(
    tiny_model, tiny_world, tmp_path, monkeypatch
):
    """With --save_strategy best no log line comes with a checkpoint. The weights are finite all the while."""

    def step(self, *args, plain=CheckedTrainer.training_step, **kwargs):
        loss = plain(self, *args, **kwargs)
        self.losses = self.losses * float("nan") if self.state.global_step == 1 else self.losses
        return loss

    monkeypatch.setattr(trainers.CheckedTrainer, "training_step", step)
    command = ["--task", "xnli", "--languages", "en"]
    command += ["--max_train_samples", "16", "--per_device_train_batch_size", "4"]
    best = ["--save_strategy", "best", "--eval_strategy", "epoch", "--logging_steps", "100", "--max_eval_samples", "4"]
    where = ["--data_root", str(tiny_world), "--output_dir", str(tmp_path), "--model_name_or_path", str(tiny_model)]
    with pytest.raises(UserError, match=r"not a finite number \(steps 1 to 4\)"):
        importlib.import_module("run_target").main([*command, *best, *where])
    assert not list(tmp_path.glob("checkpoint-*/*")) and not (tmp_path / "results.json").exists()
