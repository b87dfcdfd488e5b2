"""What benchmarks/scaling.py computes against the library and by hand; benchmarks/training.py in small; how much of a
batch is padding."""

import math
from argparse import Namespace
from dataclasses import replace

import pytest
import torch
from transformers import XLMRobertaConfig, XLMRobertaModel

from benchmarks.shapes import ACTIVATION
from tests.conftest import ROOT
from xstilts.train import batching


@pytest.fixture
def scaling(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import scaling

    return scaling


@pytest.fixture
def training(scaling):
    import training

    return training


def encoder(shape, device="cpu", **more):
    config = XLMRobertaConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.hidden // 64,
        intermediate_size=shape.wide,
        max_position_embeddings=shape.positions,
        type_vocab_size=1,
        **more,
    )
    with torch.device(device):
        return XLMRobertaModel(config, add_pooling_layer=False)


def test_parameters_are_the_librarys(scaling):
    for shape in scaling.SHAPES.values():
        assert shape.parameters == sum(p.numel() for p in encoder(shape, "meta").parameters())


def test_operations_are_those_that_torch_counts(scaling):
    from torch.utils.flop_counter import FlopCounterMode

    shape, rows, length = scaling.Shape(2, 64, 100, feed_forward=96), 3, 20
    model = encoder(shape, attn_implementation="eager")
    with FlopCounterMode(display=False) as counter:
        output = model(torch.full((rows, length), 7)).last_hidden_state
    assert counter.get_total_flops() == rows * length * shape.forward_flops(length)
    with FlopCounterMode(display=False) as counter:
        output.sum().backward()
    assert counter.get_total_flops() == pytest.approx(
        rows * length * (shape.train_flops(length) - shape.forward_flops(length))
    )


def test_activations_are_those_that_torch_keeps(scaling):
    def kept(layers):
        # else a CPU keeps attention's scores
        model = encoder(scaling.Shape(layers, 256, 100), attention_probs_dropout_prob=0.0).train()
        weights, found = {p.untyped_storage().data_ptr() for p in model.parameters()}, {}

        def keep(tensor):
            storage = tensor.untyped_storage()
            copy = not {96, 4 * 96} & set(tensor.shape)  # of a weight, in 16 bits
            if storage.data_ptr() not in weights and not copy:
                found[storage.data_ptr()] = storage.nbytes(), tensor
            return tensor

        with (
            torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
            torch.autocast("cpu", torch.bfloat16),
        ):
            model(torch.full((4, 96), 7))
        return sum(size for size, _ in found.values())

    assert (kept(3) - kept(1)) / 2 / (4 * 96) / 256 == pytest.approx(ACTIVATION, rel=0.05)


@pytest.fixture
def plan(scaling, monkeypatch):
    """The runs of a matrix that make is asked for."""
    monkeypatch.chdir(ROOT)
    shape = scaling.SHAPES["xlm-r-large"]
    return lambda *variables: [
        scaling.run_of(words, scaling.ROWS, shape) for words in scaling.commands(["OUT=none-there", *variables])
    ]


def test_a_matrix_has_the_tokens_of_its_rows_and_epochs(plan):
    runs = plan("PRESET=xtreme", "ARMS=none mnli", "TARGETS=xnli", "RETRIEVAL=tatoeba", "SEEDS=0 1")
    assert sorted(run.kind for run in runs) == ["phase 2: mnli"] * 2 + ["tatoeba"] * 4 + ["xnli"] * 4
    tokens = {run.kind: run.tokens for run in runs}
    assert tokens == {"phase 2: mnli": 392702 * 3 * 37, "xnli": 392702 * 2 * 37, "tatoeba": 0}
    (tatoeba,) = {tuple(run.scored) + (run.depth,) for run in runs if run.kind == "tatoeba"}
    assert tatoeba == ((2 * 31692 * 10, 12), 14 / 24)


def test_steps_and_batches_win_over_epochs(plan):
    english, several = plan("PRESET=question-base", "ARMS=squad squad+multilingual", "RETRIEVAL=", "SEEDS=0")
    assert english.tokens == 6250 * 32 * 188 and several.tokens == pytest.approx(1.2 * english.tokens)


def test_masked_lm_alongside_takes_its_share(scaling, plan):
    (run,) = plan("PRESET=question-base", "ARMS=xnli+mlm", "RETRIEVAL=", "SEEDS=0")
    text = 6250 * 32 / 2 * 256
    assert sorted(run.train) == [(6250 * 32 / 2 * 37, 41), (text, 256)] and run.text == text
    shape = scaling.Shape(1, 8, 100)
    assert run.flops(shape) - replace(run, text=0).flops(shape) == text * 3 * 2 * (8 * 8 + 8 * 100)


def test_wall_time_waits_for_phase_2(scaling):
    runs = [
        scaling.Run("phase 2: a", "a", "model", [], []),
        scaling.Run("x", "a/x", "a", [], []),
        scaling.Run("y", "a/y", "a", [], []),
        scaling.Run("x", "none/x", "model", [], []),
    ]
    seconds = [10.0, 5.0, 4.0, 6.0]
    assert scaling.makespan(runs, seconds, 1) == 25
    assert scaling.makespan(runs, seconds, 2) == 15  # a (10) beside none/x (6), then x beside y
    assert scaling.makespan(runs, seconds, 64) == 15


def test_the_report_by_hand(scaling, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(
        "sys.argv",
        [
            "scaling.py",
            "PRESET=xtreme",
            "OUT=none-there",
            "ARMS=none",
            "TARGETS=",
            "RETRIEVAL=tatoeba",
            "SEEDS=0",
            "--tokens_per_second",
            "1000",
            "--gpus",
            "1",
            "--price_per_hour",
            "36",
            "--start_seconds",
            "0",
        ],
    )
    scaling.main()
    out = capsys.readouterr().out
    # a third of training's operations, 14 of 24 layers, rows of 12 tokens instead of 128
    seconds = 2 * 31692 * 10 / 1000 / 3 * 14 / 24 * (1 + 12 / 6144) / (1 + 128 / 6144)
    assert f"| tatoeba | 1 | 0.0 | {1.849e9 * seconds * 1000 / 1e15:,.1f} | {seconds:.0f} s |" in out
    assert f"| cost at 36 a GPU-hour | {seconds / 100:.0f} |" in out
    assert "558.8 M parameters, 1.850 GFLOP a token" in out and "| 8 x 256 tokens | 8.3 |" in out


def test_a_task_without_known_rows_is_refused(scaling, monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(
        "sys.argv",
        [
            "scaling.py",
            "PRESET=xtreme",
            "OUT=none-there",
            "ARMS=copa",
            "RETRIEVAL=",
            "TARGETS=",
            "--tokens_per_second",
            "1000",
        ],
    )
    with pytest.raises(SystemExit, match="copa: its tokens a row are not known; give --count"):
        scaling.main()


def test_counted_rows_are_those_of_the_folder(scaling, tiny_world, tiny_model, tokenizer):
    from tasks import get_task
    from tasks.rows import Rows

    found = scaling.count("xnli", str(tiny_world), tokenizer, 128, True)
    train, rows = get_task("xnli").load("train", "en", Rows(tiny_world)), Rows(tiny_world)
    assert (found.train, found.dev) == (len(train), len(get_task("xnli").load("dev", "en", rows)))
    assert found.scored == sum(len(get_task("xnli").load("test", code, rows)) for code in ("en", "qaa", "qab"))
    ids = tokenizer(train["text_a"][:], train["text_b"][:])["input_ids"]
    assert found.tokens == pytest.approx(sum(map(len, ids)) / len(train))


@pytest.mark.parametrize("name", ["squad", "udpos"])
def test_training_beside_the_example_scripts(training, tiny_world, tiny_model, name, capsys):
    from tasks import get_task
    from tasks.rows import Rows

    args = Namespace(cpu_time=True, max_seq_length=128, batch_size=8, rows=32, runs=1, learning_rate=1e-3, bf16=False)
    found = training.race(get_task(name), Rows(tiny_world), str(tiny_model), args)
    training.show(found)
    assert list(found) == ["ours", "example, defaults", "example, best flags"]
    ours, plain, best = (runs[0] for runs in found.values())
    assert sorted(ours.lengths) == sorted(plain.lengths) == sorted(best.lengths)  # the same rows, cut alike
    assert ours.dev_loss == pytest.approx(best.dev_loss, rel=0.1)
    assert f"{ours.rate / best.rate:5.2f}x" in capsys.readouterr().out


def test_each_round_begins_with_another_side(training):
    rounds = [training.turns(["a", "b", "c"], seed) for seed in range(-1, 4)]
    assert ["".join(names) for names in rounds] == ["abc", "abc", "bca", "cab", "abc"]


@pytest.mark.parametrize("rows, least, most", [(16 * 100, 0.6, 0.8), (16 * 600, 0.9, 1.0)])
def test_large_epochs_have_little_padding(rows, least, most):
    generator = torch.Generator().manual_seed(0)
    lengths = (torch.randn(rows, generator=generator) * 0.6 + math.log(40)).exp().clamp(4, 384).long()
    drawn = batching.length_groups(lengths, 16, generator)
    assert sorted(torch.cat(drawn).tolist()) == list(range(rows))
    real = sum(lengths[b].sum().item() for b in drawn) / sum(len(b) * lengths[b].max().item() for b in drawn)
    assert least < real < most
    means = torch.tensor([lengths[b].float().mean() for b in drawn])
    # not from long to short
    assert abs(torch.corrcoef(torch.stack((means, torch.arange(len(means)).float())))[0, 1]) < 0.15
