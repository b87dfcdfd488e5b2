"""Any encoder is a valid checkpoint; anything else is refused in one line. Architectures: tests/test_models.py."""

import json
import shlex
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoTokenizer

from tasks import get_task
from tasks.errors import UserError
from tests.architectures import build
from xstilts.checkpoint.config import check_checkpoint, read_config
from xstilts.checkpoint.encoder import load_encoder, position_limit, probe
from xstilts.checkpoint.heads import fresh_head, from_sizes, load_head, masked_lm
from xstilts.checkpoint.layers import TruncatedEncoder, depth
from xstilts.checkpoint.tokenizer import load_tokenizer
from xstilts.retrieve.embedding import Encoder
from xstilts.train.mixture import MixtureModel


@pytest.fixture
def model(tiny_model, tmp_path) -> Path:
    """A copy of the tiny checkpoint, to be changed."""
    return Path(shutil.copytree(tiny_model, tmp_path / "model"))


def change(folder: Path, file: str = "config.json", **values) -> None:
    path = folder / file
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def ways(folder: Path):
    """Every way a checkpoint is loaded."""
    name = str(folder)
    return [
        lambda: load_encoder(name),
        lambda: fresh_head(get_task("xnli"), name),
        lambda: masked_lm(name),
        lambda: Encoder.load(name),
    ]


def test_fewer_layers_in_the_config_than_in_the_weights_is_refused(model):
    change(model, num_hidden_layers=1)
    for load in ways(model):
        with pytest.raises(UserError, match=r"config.json does not describe, e.g. \S*encoder.layer.1"):
            load()


def test_more_layers_in_the_config_than_in_the_weights_is_refused(model):
    change(model, num_hidden_layers=3)
    for load in ways(model):
        with pytest.raises(UserError, match=r"missing from the checkpoint, e.g. \S*encoder.layer.2"):
            load()


@pytest.mark.parametrize(
    "field, value, kept", [("relative_attention", False, "rel_embeddings"), ("conv_kernel_size", 0, "conv")]
)
def test_a_part_that_the_config_switches_off_is_refused(field, value, kept, tmp_path):
    build("deberta-v2", tmp_path, conv_kernel_size=3)
    load_encoder(str(tmp_path))
    change(tmp_path, **{field: value})
    with pytest.raises(UserError, match=rf"config.json does not describe, e.g. \S*encoder.*{kept}|encoder.LayerNorm"):
        load_encoder(str(tmp_path))


def test_a_second_table_does_not_replace_the_embeddings(tmp_path):
    """ViDeBERTa's checkpoints hold `_weight` alone, and transformers would start the embeddings at random."""
    build("deberta-v2", tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    table = "deberta.embeddings.word_embeddings."
    weights[f"{table}_weight"] = weights.pop(f"{table}weight")
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"1 encoder weights are missing.*e.g. embeddings.word_embeddings.weight"):
        load_encoder(str(tmp_path))


def test_head_in_the_checkpoint_is_dropped_silently(model, tmp_path):
    head = fresh_head(get_task("xnli"), str(model))
    head.save_pretrained(tmp_path / "with_head")
    shutil.copy(model / "tokenizer.json", tmp_path / "with_head")
    encoder, missing = load_encoder(str(tmp_path / "with_head"))
    assert not missing and torch.equal(
        encoder.embeddings.word_embeddings.weight, head.base_model.embeddings.word_embeddings.weight
    )


@pytest.mark.parametrize("name", ["xlm-roberta", "deberta-v2", "longformer", "luke"])
def test_a_new_masked_lm_head_is_noted_and_comes_from_the_seed(name, tmp_path):
    """transformers leaves the biases of Longformer's and LUKE's heads as they lay in memory."""
    build(name, tmp_path / "whole")
    notes = []
    whole = masked_lm(str(tmp_path / "whole"), notes=notes)
    assert notes == []
    whole.base_model.save_pretrained(tmp_path / "encoder")
    heads = []
    for spoil in (1e30, -1e30):
        torch.empty(10**5).fill_(spoil)  # what the next tensors may find
        torch.manual_seed(0)
        model = masked_lm(str(tmp_path / "encoder"), notes=notes)
        heads.append({key: value for key, value in model.state_dict().items() if key.endswith("bias")})
        assert not any(value.any() for key, value in heads[-1].items() if not key.startswith(model.base_model_prefix))
        heads[-1] = model.state_dict()
    assert all(torch.equal(value, heads[1][key]) for key, value in heads[0].items())
    new = len({key for key in heads[0] if not key.startswith(model.base_model_prefix)})
    assert len(notes) == 2 and notes[0] == notes[1] and type(model).__name__ in notes[0]
    assert 3 < int(notes[0].split("lacks ")[1].split()[0]) <= new


@pytest.mark.parametrize("files", [1, 2])
@pytest.mark.parametrize("flag", ["--model_name_or_path", "--back_model"])
def test_pickled_weights_are_refused_with_the_line_that_converts_them(files, flag, model, tiny_model, monkeypatch):
    """The line keeps the masked-LM head, the pooler and tied weights, of one file or of several."""
    folder = model.rename(model.with_name("it's a model"))
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    (folder / "training_args.bin").touch()
    with pytest.raises(UserError) as caught:
        check_checkpoint(str(folder), flag)
    assert str(caught.value) == f"{flag} {folder}: the folder has no model.safetensors."
    table = weights["roberta.embeddings.word_embeddings.weight"]
    more = {"lm_head.decoder.weight": table, "roberta.pooler.dense.weight": torch.eye(len(table[0])).T}
    for number, part in enumerate([weights | more] if files == 1 else [weights, more]):
        torch.save(part, folder / f"pytorch_model{'' if files == 1 else f'-0000{number + 1}-of-00002'}.bin")
    with pytest.raises(UserError) as caught:
        check_checkpoint(str(folder), flag)
    said = str(caught.value)
    assert said.startswith(f"{flag} {folder}: ") and "\n" not in said
    python, option, code, typed = shlex.split(said[said.index("python -c") :])
    assert (python, option, typed) == ("python", "-c", str(folder))
    monkeypatch.setattr("sys.argv", [python, typed])
    exec(code, {})
    assert check_checkpoint(str(folder), flag) == str(folder)
    found = load_file(folder / "model.safetensors")
    assert found.keys() == (weights | more).keys() and all(torch.equal(found[key], weights[key]) for key in weights)
    notes = []
    masked_lm(str(folder), notes=notes)
    assert notes == []


def test_an_adapter_beside_the_model_is_refused(model):
    """transformers would load it on top of the weights, but not one in a folder below, as LoRA arms keep it."""
    (model / "adapter").mkdir()
    (model / "adapter/adapter_config.json").write_text("{}")
    every = [*ways(model), lambda: check_checkpoint(str(model)), lambda: load_tokenizer(str(model))]
    for load in every:
        load()
    (model / "adapter/adapter_config.json").rename(model / "adapter_config.json")
    for load in every:
        with pytest.raises(UserError, match="adapter_config.json"):
            load()


@pytest.mark.parametrize(
    "field, value", [("output_hidden_states", True), ("output_attentions", True), ("return_dict", False)]
)
def test_a_config_does_not_choose_what_a_model_returns(field, value, model, tmp_path):
    change(model, **{field: value})
    fresh_head(get_task("xquad"), str(model)).save_pretrained(tmp_path / "head")
    change(tmp_path / "head", **{field: value})
    tokenizer = load_tokenizer(str(model))
    sizes = {"model_type": "bert", "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, field: value}
    (tmp_path / "sizes.json").write_text(json.dumps(sizes))
    for outputs, loaded in [
        ({"last_hidden_state"}, load_encoder(str(model))[0]),
        ({"start_logits", "end_logits"}, fresh_head(get_task("xquad"), str(model))),
        ({"start_logits", "end_logits"}, load_head(str(tmp_path / "head"), "AutoModelForQuestionAnswering")),
        ({"logits"}, masked_lm(str(model))),
        ({"logits"}, from_sizes(str(tmp_path / "sizes.json"), tokenizer)),
        ({"logits"}, MixtureModel([get_task("xnli"), get_task("xquad")], str(model)).whole["xnli"]),
    ]:
        assert set(loaded(**probe(loaded.config))) == outputs


@pytest.mark.parametrize("kind", ["evil", "xlm-roberta"])
def test_code_of_a_checkpoint_is_never_run(kind, model, tmp_path, monkeypatch):
    """transformers would ask y/N, and `yes |` would answer; a type that transformers has itself needs no such code."""
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    change(
        model,
        model_type=kind,
        auto_map={"AutoConfig": "evil.C", "AutoModel": "evil.M", "AutoModelForMaskedLM": "evil.M"},
    )
    ran = tmp_path / "ran"
    (model / "evil.py").write_text(f"open({str(ran)!r}, 'w')\n")
    for load in [*ways(model), lambda: load_tokenizer(str(model)), lambda: read_config(str(model))]:
        if kind == "evil":
            with pytest.raises(UserError, match="its own Python code"):
                load()
        else:
            load()
    assert not ran.exists()


@pytest.mark.parametrize("side", ["padding_side", "truncation_side"])
def test_the_side_of_padding_is_right_whatever_the_tokenizer_says(side, model):
    change(model, "tokenizer_config.json", **{side: "left"})
    assert getattr(AutoTokenizer.from_pretrained(model), side) == "left"
    assert getattr(load_tokenizer(str(model)), side) == "right"


@pytest.mark.parametrize("task", ["xnli", "tydiqa", "udpos", "hellaswag"])
def test_features_and_batches_do_not_depend_on_the_padding_side(task, model, tiny_world):
    from tasks.rows import Rows

    adapter, batches = get_task(task), []
    rows = Rows(tiny_world)
    adapter.prepare(rows)
    examples = adapter.load("train", "en", rows).select(range(6))
    for side in ("right", "left"):
        change(model, "tokenizer_config.json", padding_side=side)
        tokenizer = load_tokenizer(str(model))
        features = adapter.featurize(examples[:], list(range(6)), tokenizer, 64, True)
        keep = ("input_ids", "attention_mask", "labels")
        items = [{key: features[key][i] for key in keep} for i in range(6)]
        batches.append(adapter.collator(tokenizer)(items))
    assert all(torch.equal(batches[0][key], batches[1][key]) for key in keep)


def byte_level(folder: Path):
    """A tokenizer that keeps a word's leading space, as RoBERTa's and ModernBERT's do."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(["the bird sees the bird and the bird sees"] * 5, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        cls_token="<s>",
        sep_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        mask_token="<mask>",
        model_max_length=128,
    )
    fast.save_pretrained(folder)
    return fast


def test_words_become_the_tokens_of_running_text(tmp_path, tiny_model):
    for tokenizer in (byte_level(tmp_path), load_tokenizer(str(tiny_model))):
        words = ["the", "bird", "sees"]
        features = get_task("udpos").featurize({"tokens": [words], "tags": [[5, 7, 15]]}, [0], tokenizer, 64, True)
        assert features["input_ids"][0] == tokenizer("the bird sees")["input_ids"]
        assert [w for w in features["words"][0] if w >= 0] == [0, 1, 2]


@pytest.mark.parametrize("kind", ["pad", "mask"])
def test_a_tokenizer_without_a_token_that_is_needed_is_refused(kind, model):
    for file in ("tokenizer_config.json", "special_tokens_map.json"):
        if (model / file).exists():
            values = json.loads((model / file).read_text())
            values.pop(f"{kind}_token", None)
            (model / file).write_text(json.dumps(values))
    with pytest.raises(UserError, match=f"no {kind} token. Set {kind}_token in tokenizer_config.json"):
        load_tokenizer(str(model), mask=kind == "mask")


@pytest.mark.parametrize(
    "model_type", ["xlm-roberta", "bert", "deberta-v2", "camembert", "roberta", "modernbert", "luke"]
)
def test_a_model_without_a_tokenizer_is_refused(model_type, tmp_path):
    """Where the files are not there, transformers makes an empty tokenizer of most types: every word is unknown."""
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    with pytest.raises(UserError, match="no tokenizer, or one without words|does not load") as caught:
        load_tokenizer(str(tmp_path))
    assert "tokenizer.json" in str(caught.value)


def test_token_types_go_only_where_the_model_has_them(model):
    change(model, "tokenizer_config.json", model_input_names=["input_ids", "token_type_ids", "attention_mask"])
    assert load_tokenizer(str(model)).model_input_names == ["input_ids", "attention_mask"]  # XLM-R has one token type
    weights = load_file(model / "model.safetensors")
    key = next(key for key in weights if key.endswith("token_type_embeddings.weight"))
    save_file(weights | {key: weights[key].repeat(2, 1)}, model / "model.safetensors", metadata={"format": "pt"})
    change(model, type_vocab_size=2)
    assert "token_type_ids" in load_tokenizer(str(model)).model_input_names


def test_padding_is_never_read_as_text_whatever_the_tokenizer_says(model, tiny_model):
    """A tokenizer whose model_input_names lack the mask gave batches without one."""
    change(model, "tokenizer_config.json", model_input_names=["input_ids"])
    assert "attention_mask" in load_tokenizer(str(model)).model_input_names
    texts = ["vem", "vem godezi zipenne who praised Zelda in the library?"]
    one, other = (Encoder.load(str(folder)).embed(texts) for folder in (tiny_model, model))
    assert all((one[layer] == other[layer]).all() for layer in one)


def test_a_cut_encoder_is_whole_while_it_is_saved(model, tmp_path):
    encoder, _ = load_encoder(str(model))
    whole = sum(p.numel() for p in encoder.parameters())
    cut = TruncatedEncoder(encoder, 1)
    assert cut.exact and depth(encoder) == 1 and sum(p.numel() for p in encoder.parameters()) < whole
    with cut.restored():
        encoder.save_pretrained(tmp_path / "out")
    assert (
        sum(p.numel() for p in AutoModel.from_pretrained(tmp_path / "out", add_pooling_layer=False).parameters())
        == whole
    )
    assert depth(encoder) == 1


def test_positions_of_the_table(tiny_model):
    config = read_config(str(tiny_model))
    assert position_limit(config) == config.max_position_embeddings - 2
