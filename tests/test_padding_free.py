"""--attn_implementation padding_free; docs/models.md says which architectures have it, with gradients of every head.

tests/test_encoders_in_scripts.py trains with it. Its kernel runs on a GPU alone: the last test, where there is one."""

import functools
import inspect

import pytest
import torch
from torch._subclasses import FakeTensorMode
from torch.nn.attention.varlen import varlen_attn

from tasks import get_task
from tasks.errors import UserError
from tests import architectures
from xstilts.checkpoint import heads, padding_free
from xstilts.checkpoint.encoder import load_encoder
from xstilts.checkpoint.padding_free import Layout
from xstilts.checkpoint.tokenizer import load_tokenizer
from xstilts.train import host_facts, mixture

MASK = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0]])


@pytest.fixture
def checkpoint(tmp_path, request):
    architectures.build(request.param, tmp_path)
    return str(tmp_path)


of_two = pytest.mark.parametrize("checkpoint", ["xlm-roberta", "modernbert"], indirect=True)


def test_a_layout():
    layout = Layout.of(MASK)
    assert layout.places.tolist() == [0, 1, 2, 3, 4, 5, 6, 10, 11, 12] and layout.starts.tolist() == [0, 5, 7, 10]
    assert (layout.longest, layout.width, layout.rows) == (5, 5, 3)


@of_two
def test_hidden_states_of_every_layer_are_those_of_eager_attention(checkpoint):
    tokenizer = load_tokenizer(checkpoint)
    batch = tokenizer(architectures.TEXTS[:3] + ["the"], padding=True, return_tensors="pt")
    found = [
        load_encoder(checkpoint, attention=attention)[0].eval()(**batch, output_hidden_states=True).hidden_states
        for attention in ("padding_free", "eager")
    ]
    real = batch["attention_mask"].bool()
    assert len(found[0]) == len(found[1]) == architectures.LAYERS + 1 and not real.all()
    for ours, theirs in zip(*found, strict=True):
        assert ours.shape == theirs.shape
        torch.testing.assert_close(ours[real], theirs[real], atol=1e-5, rtol=1e-4)


@of_two
def test_no_token_sees_another_row(checkpoint):
    encoder, _ = load_encoder(checkpoint, attention="padding_free")
    encoder.eval()
    first, second = torch.full((2, 6), 7), torch.full((2, 6), 7)
    second[1] = 9
    states = [encoder(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state for ids in (first, second)]
    assert torch.equal(states[0][0], states[1][0]) and not torch.equal(states[0][1], states[1][1])


@pytest.mark.parametrize(
    "checkpoint, spoilt",
    [
        ("xlm-roberta", ("first_position", lambda encoder: 0)),
        (
            "modernbert",
            (
                "rows_alone",
                lambda *args, real=padding_free.rows_alone, **more: real(*args, **more | {"window_size": (-1, -1)}),
            ),
        ),
    ],
    indirect=["checkpoint"],
    ids=["positions", "window"],
)
def test_other_states_are_refused_when_the_model_is_loaded(checkpoint, spoilt, monkeypatch):
    monkeypatch.setattr(padding_free, *spoilt)
    with pytest.raises(UserError, match="--attn_implementation padding_free does not work with model type"):
        load_encoder(checkpoint, attention="padding_free")


@of_two
def test_a_training_step_reads_no_layout_from_a_mask(checkpoint, monkeypatch):
    """On a GPU the program would wait for it."""
    tokenizer, task = load_tokenizer(checkpoint), get_task("hellaswag")
    model = heads.fresh_head(task, checkpoint, attention="padding_free").eval()
    features = task.featurize(architectures.CHOICES, list(range(4)), tokenizer, 64, True)
    rows = [{key: features[key][i] for key in (*tokenizer.model_input_names, "labels")} for i in range(4)]
    plain = task.collator(tokenizer)([dict(row) for row in rows])
    expected = model(**plain).logits
    batch = host_facts.Described(task.collator(tokenizer), padding_free.used_by(model))(rows)
    _, _, layout = host_facts.take(batch)
    assert layout.rows == 16 and batch.keys() == plain.keys()
    monkeypatch.setattr(Layout, "of", lambda mask: pytest.fail("a layout is read from a mask"))
    with padding_free.known_layout(layout):
        assert torch.equal(model(**batch).logits, expected)


BF16 = functools.partial(torch.autocast, "cpu", torch.bfloat16)


@of_two
def test_the_check_in_bf16_takes_no_gradients_from_the_step(checkpoint):
    """Autocast keeps weights in bf16; were those of the check kept, without gradients, the step would have none."""
    model = heads.fresh_head(get_task("mnli"), checkpoint, attention="padding_free").eval()
    batch, labels = architectures._batch("mnli", load_tokenizer(checkpoint))
    with BF16():
        assert padding_free.fault(model.base_model, BF16) is None
        architectures._backward(model, batch, labels)
    without = {key for key, weight in model.named_parameters() if weight.grad is None}
    assert not {key for key in without if "pooler" not in key}


def zeros(query, *args, **kwargs):
    return torch.zeros_like(query)


def together(query, key, value, starts, *args, rows_alone=padding_free.rows_alone, **kwargs):
    one_row = torch.tensor([0, len(query)], dtype=torch.int32)
    return rows_alone(query, key, value, one_row, *args, **kwargs)


@pytest.mark.parametrize("spoilt", [zeros, together])
@pytest.mark.parametrize("name", ["xlm-roberta", "modernbert", "eurobert"])
def test_the_check_in_bf16_finds_another_attention(name, spoilt, tmp_path, monkeypatch):
    architectures.build(name, tmp_path, initializer_range=0.2)  # with small weights attention does little
    encoder, _ = load_encoder(str(tmp_path), attention="padding_free")
    assert padding_free.fault(encoder, BF16) is None
    monkeypatch.setattr(padding_free, "rows_alone", spoilt)
    assert "states differ" in padding_free.fault(encoder, BF16)


@pytest.mark.parametrize("checkpoint", ["xlm-roberta", "bert"], indirect=True)
def test_a_padding_token_within_a_text(checkpoint):
    """Masked LM draws one now and then. RoBERTa does not count it in positions."""
    tokenizer = load_tokenizer(checkpoint)
    batch = tokenizer(architectures.TEXTS[:2], return_tensors="pt", padding=True)
    batch["input_ids"][0, 3] = tokenizer.pad_token_id
    ours, theirs = (
        load_encoder(checkpoint, attention=attention)[0].eval()(**batch).last_hidden_state
        for attention in ("padding_free", "eager")
    )
    real = batch["attention_mask"].bool()
    torch.testing.assert_close(ours[real], theirs[real], atol=1e-5, rtol=1e-4)


def test_heads_that_share_keys(tmp_path):
    architectures.build("eurobert", tmp_path, num_attention_heads=4, num_key_value_heads=2)
    encoder, _ = load_encoder(str(tmp_path), attention="padding_free")
    assert padding_free.fault(encoder) is None


@of_two
def test_a_mixture(checkpoint):
    tasks = [get_task("mnli"), get_task("hellaswag")]
    ours, theirs = (
        mixture.MixtureModel(tasks, checkpoint, attention=attention).eval() for attention in ("padding_free", "sdpa")
    )
    assert padding_free.used_by(ours) and not padding_free.used_by(theirs)
    ours.load_state_dict(theirs.state_dict())
    batch, _ = architectures._batch("hellaswag", load_tokenizer(checkpoint))
    logits = [model(**batch, task="hellaswag").logits for model in (ours, theirs)]
    torch.testing.assert_close(*logits, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize(
    "script",
    [
        "run_target.py --task xnli --torch_compile true --torch_compile_backend aot_eager --max_train_samples 8",
        "run_target.py --task xnli --neftune_noise_alpha 5 --max_train_samples 8",
        "run_retrieval.py --tasks tatoeba",
        "run_intermediate.py --tasks squad_dual",
    ],
)
def test_what_it_does_not_go_with(script, cli, tiny_model, tiny_world, tmp_path):
    where = ["--model_name_or_path", tiny_model, "--data_root", tiny_world, "--output_dir", tmp_path / "out"]
    done = cli(*script.split(), *where, "--attn_implementation", "padding_free")
    assert done.returncode == 2 and "--attn_implementation padding_free" in done.stderr
    for name in ("--torch_compile", "--neftune_noise_alpha"):
        assert (name in script) == (name in done.stderr)


@pytest.mark.parametrize(
    "name, expected", [("bert", 0.1), ("distilbert", 0.1), ("modernbert", 0.0), ("eurobert", 0.0)]
)
def test_dropout_of_attention_weights(name, expected, tmp_path):
    architectures.build(name, tmp_path)
    config = load_encoder(str(tmp_path))[0].config
    assert padding_free.attention_dropout(config) == expected


# ---- on a GPU -------------------------------------------------------------------------------------------------------


def test_rows_alone_takes_what_torchs_kernel_takes():
    ours, theirs = (inspect.signature(function).parameters for function in (padding_free.rows_alone, varlen_attn))
    assert [key for key in ours if key != "dropout"] == [key for key in theirs if key in ours]


@pytest.mark.parametrize(
    "dtype, dropout, said", [("bfloat16", 0.0, ""), ("bfloat16", 0.1, "dropout"), ("float32", 0.0, "--bf16 true")]
)
def test_attention_on_a_gpu_that_is_not_there(dtype, dropout, said):
    with FakeTensorMode():
        states = [torch.empty(1, 2, 10, 64, dtype=getattr(torch, dtype), device="cuda") for _ in range(3)]
        starts = torch.empty(4, dtype=torch.int32, device="cuda")
        layout = Layout(torch.empty(10, dtype=torch.int64, device="cuda"), starts, 5, 5)

        def attend():
            return padding_free.attend(
                None, *states, None, dropout=dropout, scaling=0.125, sliding_window=3, layout=layout
            )

        if said:
            with pytest.raises(UserError, match=said):
                attend()
        else:
            assert attend()[0].shape == (1, 10, 2, 64)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize("window", [-1, 2])
def test_torchs_kernel_gives_what_rows_alone_gives(window):
    torch.manual_seed(0)
    layout = Layout.of(MASK)
    states = [torch.randn(10, 2, 64) for _ in range(3)]
    bounds = (layout.starts, layout.starts, layout.longest, layout.longest)
    expected = padding_free.rows_alone(*states, *bounds, scale=0.125, window_size=(window, window))
    starts = layout.starts.cuda()
    found = varlen_attn(
        *(state.cuda().bfloat16() for state in states), starts, starts, 5, 5, scale=0.125, window_size=(window, window)
    )
    torch.testing.assert_close(found.float().cpu(), expected, atol=0.03, rtol=0.03)
