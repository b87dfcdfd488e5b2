"""Tiny checkpoints with random weights, one for each architecture, and the outcome of each step: the table of
docs/models.md.

    python -m tests.architectures            # compare with docs/models.md
    python -m tests.architectures --write    # write it anew

The steps are the project's own functions, called as the scripts call them, without the Trainer around them.
"""

from __future__ import annotations

import functools
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import transformers as hf
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

PAGE = Path(__file__).resolve().parents[1] / "docs" / "models.md"
LAYERS, LENGTH = 2, 128
SIZES = {"hidden_size": 32, "num_hidden_layers": LAYERS, "num_attention_heads": 2, "intermediate_size": 64}
WORDS = (
    "the small boat was early and the old bird sees a river under two bridges before the rain comes back to town"
).split()
TEXTS = [" ".join(WORDS[i % 7 :: 1 + i % 3]) for i in range(40)]
SENTENCES = [" ".join(WORDS[:n]) for n in (2, 9, 20, 5, 14)]


# ---- tokenizers of each kind ----------------------------------------------------------------------------------------


def _wrap(tokenizer: Tokenizer, template: tuple[str, str], special: dict[str, str], types: bool, longest: int):
    names = [name for name in dict.fromkeys(special.values()) if any(name in part for part in template)]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=template[0], pair=template[1], special_tokens=[(name, tokenizer.token_to_id(name)) for name in names]
    )
    inputs = ["input_ids", *(["token_type_ids"] if types else []), "attention_mask"]
    return hf.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=longest, model_input_names=inputs, **special
    )


def sentencepiece(template: str = "roberta", longest: int = LENGTH):
    """Unigram pieces that carry the space: XLM-R, ALBERT, mDeBERTa, mmBERT."""
    cls, sep = ("<s>", "</s>") if template == "roberta" else ("[CLS]", "[SEP]")
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=120, special_tokens=[cls, "<pad>", sep, "<unk>", "<mask>"], unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    return _finish(tokenizer, cls, sep, template, longest)


def bytes_bpe(template: str = "roberta", longest: int = LENGTH):
    """Byte-level BPE: RoBERTa, Longformer, ModernBERT, EuroBERT."""
    cls, sep = ("<s>", "</s>") if template == "roberta" else ("[CLS]", "[SEP]")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=330,
        special_tokens=[cls, "<pad>", sep, "<unk>", "<mask>"],
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    return _finish(tokenizer, cls, sep, template, longest)


def wordpiece(template: str = "bert", longest: int = LENGTH):
    """WordPiece: BERT, DistilBERT, ELECTRA."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False)
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.BertPreTokenizer(), decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(
        vocab_size=120, special_tokens=["[CLS]", "<pad>", "[SEP]", "<unk>", "<mask>"], show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    return _finish(tokenizer, "[CLS]", "[SEP]", template, longest)


def _finish(tokenizer: Tokenizer, cls: str, sep: str, template: str, longest: int):
    templates = {
        "roberta": (f"{cls} $A {sep}", f"{cls} $A {sep} {sep} $B {sep}"),
        "bert": (f"{cls}:0 $A:0 {sep}:0", f"{cls}:0 $A:0 {sep}:0 $B:1 {sep}:1"),
        "one": (f"{cls} $A {sep}", f"{cls} $A {sep} $B {sep}"),
    }
    special = {
        "bos_token": cls,
        "cls_token": cls,
        "eos_token": sep,
        "sep_token": sep,
        "pad_token": "<pad>",
        "unk_token": "<unk>",
        "mask_token": "<mask>",
    }
    return _wrap(tokenizer, templates[template], special, template == "bert", longest)


# ---- architectures --------------------------------------------------------------------------------------------------


def _sizes(config: type, tokenizer, **more) -> hf.PretrainedConfig:
    ids = {
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }
    values = {"vocab_size": len(tokenizer), "max_position_embeddings": LENGTH} | SIZES | ids | more
    return config(**{key: value for key, value in values.items() if value is not None})


def _from_two(**more):
    """RoBERTa's descendants count positions from padding_idx + 1."""
    return {"max_position_embeddings": LENGTH + 2, "type_vocab_size": 1, **more}


XLM = {
    "emb_dim": 32,
    "n_layers": LAYERS,
    "n_heads": 2,
    "pad_index": 1,
    "bos_index": 0,
    "eos_index": 2,
    "unk_index": 3,
    "mask_index": 4,
}
# name: (checkpoints people bring, tokenizer, its template, config class, fields)
ARCHITECTURES: dict[str, tuple[str, Callable, str, str, dict]] = {
    "xlm-roberta": ("XLM-R, multilingual-e5-large, bge-m3", sentencepiece, "roberta", "XLMRobertaConfig", _from_two()),
    "xlm-roberta-xl": ("XLM-R XL, XXL", sentencepiece, "roberta", "XLMRobertaXLConfig", _from_two()),
    "bert": ("mBERT, LaBSE, multilingual-e5-small", wordpiece, "bert", "BertConfig", {}),
    "distilbert": (
        "DistilmBERT",
        wordpiece,
        "bert",
        "DistilBertConfig",
        {"dim": 32, "n_layers": LAYERS, "n_heads": 2, "hidden_dim": 64},
    ),
    "deberta-v2": (
        "mDeBERTa-v3, DeBERTa-v2, -v3",
        sentencepiece,
        "bert",
        "DebertaV2Config",
        {
            "type_vocab_size": 0,
            "relative_attention": True,
            "position_buckets": 32,
            "norm_rel_ebd": "layer_norm",
            "share_att_key": True,
            "pos_att_type": ["p2c", "c2p"],
            "position_biased_input": False,
        },
    ),
    "deberta": (
        "DeBERTa v1",
        bytes_bpe,
        "one",
        "DebertaConfig",
        {
            "type_vocab_size": 0,
            "relative_attention": True,
            "pos_att_type": ["p2c", "c2p"],
            "position_biased_input": False,
        },
    ),
    "rembert": (
        "RemBERT",
        sentencepiece,
        "bert",
        "RemBertConfig",
        {"input_embedding_size": 16, "output_embedding_size": 24},
    ),
    "albert": ("ALBERT, IndicBERT", sentencepiece, "bert", "AlbertConfig", {"embedding_size": 16}),
    "electra": ("ELECTRA", wordpiece, "bert", "ElectraConfig", {"embedding_size": 16}),
    "roberta": ("RoBERTa", bytes_bpe, "roberta", "RobertaConfig", _from_two()),
    "roberta-prelayernorm": ("RoBERTa-PreLayerNorm", bytes_bpe, "roberta", "RobertaPreLayerNormConfig", _from_two()),
    "camembert": ("CamemBERT", sentencepiece, "roberta", "CamembertConfig", _from_two()),
    "mpnet": (
        "paraphrase-multilingual-mpnet",
        sentencepiece,
        "roberta",
        "MPNetConfig",
        {"max_position_embeddings": LENGTH + 2},
    ),
    "xmod": (
        "X-MOD, default_language set",
        sentencepiece,
        "roberta",
        "XmodConfig",
        _from_two(languages=["en_XX", "de_DE"], default_language="en_XX"),
    ),
    "big_bird": ("BigBird", sentencepiece, "bert", "BigBirdConfig", {"block_size": 16, "num_random_blocks": 1}),
    "longformer": (
        "Longformer, XLM-R-Longformer",
        bytes_bpe,
        "roberta",
        "LongformerConfig",
        _from_two(attention_window=32, sep_token_id=2),
    ),
    "modernbert": (
        "ModernBERT, mmBERT",
        bytes_bpe,
        "one",
        "ModernBertConfig",
        {
            "max_position_embeddings": 8192,
            "global_attn_every_n_layers": 2,
            "local_attention": 16,
            "cls_token_id": 0,
            "sep_token_id": 2,
        },
    ),
    "eurobert": (
        "EuroBERT",
        bytes_bpe,
        "one",
        "EuroBertConfig",
        {"max_position_embeddings": 8192, "num_key_value_heads": 2},
    ),
    "nomic_bert": ("nomic-embed-text, as transformers has it", wordpiece, "bert", "NomicBertConfig", {}),
    "gte": (
        "mGTE, as transformers has it",
        sentencepiece,
        "roberta",
        "GteConfig",
        {"max_position_embeddings": 8192, "type_vocab_size": 1},
    ),
    "jina_embeddings_v3": (
        "jina-embeddings-v3, as transformers has it",
        sentencepiece,
        "roberta",
        "JinaEmbeddingsV3Config",
        {"max_position_embeddings": 8194, "type_vocab_size": 1},
    ),
    "ernie": ("ERNIE", wordpiece, "bert", "ErnieConfig", {}),
    "luke": (
        "mLUKE, without entities",
        sentencepiece,
        "roberta",
        "LukeConfig",
        _from_two(entity_vocab_size=10, entity_emb_size=16),
    ),
    "roformer": ("RoFormer", wordpiece, "bert", "RoFormerConfig", {"embedding_size": 32}),
    "xlm": (
        "XLM-17, XLM-100, with a fast tokenizer",
        wordpiece,
        "bert",
        "XLMConfig",
        XLM,
    ),
    "convbert": ("ConvBERT", wordpiece, "bert", "ConvBertConfig", {"embedding_size": 32, "num_attention_heads": 4}),
    "fnet": ("FNet", sentencepiece, "bert", "FNetConfig", {}),
    "funnel": (
        "Funnel",
        wordpiece,
        "bert",
        "FunnelConfig",
        {"block_sizes": [1, 1, 1], "d_model": 32, "n_head": 2, "d_head": 16, "d_inner": 64, "num_hidden_layers": None},
    ),
    "nystromformer": (
        "Nyströmformer",
        sentencepiece,
        "bert",
        "NystromformerConfig",
        {"segment_means_seq_len": 64, "num_landmarks": 8},
    ),
    "xmod without language": (
        "X-MOD as it is on the Hub",
        sentencepiece,
        "roberta",
        "XmodConfig",
        _from_two(languages=["en_XX", "de_DE"]),
    ),
    "xlm with language embeddings": (
        "xlm-mlm-xnli15-1024, xlm-mlm-enfr-1024",
        wordpiece,
        "bert",
        "XLMConfig",
        XLM | {"n_langs": 2, "use_lang_emb": True},
    ),
    "mt5": (
        "mT5, ByT5, NLLB: encoder-decoders",
        sentencepiece,
        "roberta",
        "MT5Config",
        {"d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 2, "num_heads": 2},
    ),
    "qwen3": (
        "Qwen3-Embedding, and other decoders",
        bytes_bpe,
        "one",
        "Qwen3Config",
        {"num_key_value_heads": 2, "head_dim": 16},
    ),
    "gemma3_text": (
        "EmbeddingGemma",
        sentencepiece,
        "one",
        "Gemma3TextConfig",
        {"num_key_value_heads": 1, "head_dim": 16, "use_bidirectional_attention": True},
    ),
    "canine": (
        "CANINE",
        sentencepiece,
        "bert",
        "CanineConfig",
        {"local_transformer_stride": 16, "num_hash_buckets": 64},
    ),
}


def beside(name: str, prefix: str) -> dict[str, torch.Tensor]:
    """What published checkpoints of an architecture hold beside the weights that transformers loads.

    Old versions of transformers saved the positions and frequencies of every encoder. The rest is the next-sentence
    head of bert-base-multilingual-cased, and the second tables and the heads of microsoft/mdeberta-v3-base.
    """
    extra = {
        "embeddings.position_ids": torch.arange(LENGTH)[None],
        "embeddings.token_type_ids": torch.zeros(1, LENGTH),
        "layers.0.attn.rotary_emb.inv_freq": torch.ones(8),
    }
    if name == "deberta-v2":
        extra |= {f"embeddings.{table}_embeddings._weight": torch.ones(9, 32) for table in ("word", "position")}
    heads = [f"{head}.dense.weight" for head in ("cls.seq_relationship", "lm_predictions.lm_head", "mask_predictions")]
    return {f"{prefix}.{key}": value for key, value in extra.items()} | {key: torch.ones(2, 32) for key in heads}


def build(name: str, folder: Path, **more) -> None:
    """Write the tiny checkpoint of an architecture, with what is `beside`; `more` are other fields of its config."""
    _, tokenizer, template, kind, fields = ARCHITECTURES[name]
    fields = fields | more
    longest = fields.get("max_position_embeddings", LENGTH)
    made = tokenizer(template, longest if longest > 1000 else LENGTH)
    config = _sizes(getattr(hf, kind), made, **fields)
    torch.manual_seed(0)
    auto = hf.AutoModelForMaskedLM if type(config) in hf.MODEL_FOR_MASKED_LM_MAPPING else hf.AutoModel
    model = auto.from_config(config)
    model.save_pretrained(folder)
    file = folder / "model.safetensors"
    weights = load_file(file) | beside(name, model.base_model_prefix)
    save_file({key: value.clone() for key, value in weights.items()}, file, metadata={"format": "pt"})
    made.save_pretrained(folder)


# ---- steps ----------------------------------------------------------------------------------------------------------

NLI = {"text_a": TEXTS[:4], "text_b": TEXTS[4:8], "label": [0, 1, 2, 0]}
SPANS = {
    "id": list("abcd"),
    "context": TEXTS[8:12],
    "question": ["the boat ?"] * 4,
    "answers": [{"text": [text.split()[1]], "answer_start": [text.index(text.split()[1])]} for text in TEXTS[8:12]],
}
CHOICES = {"prompt": TEXTS[:4], "choices": [TEXTS[i : i + 4] for i in range(4)], "label": [0, 1, 2, 3]}
TAGS = {
    "tokens": [text.split() for text in TEXTS[:4]],
    "tags": [[i % 17 for i, _ in enumerate(text.split())] for text in TEXTS[:4]],
}
ROWS = {"mnli": NLI, "squad": SPANS, "hellaswag": CHOICES, "udpos": TAGS}


def _batch(name: str, tokenizer) -> tuple[dict, torch.Tensor]:
    from tasks import get_task

    task = get_task(name)
    features = task.featurize(ROWS[name], list(range(4)), tokenizer, 64, True)
    keep = [key for key in features if key in (*tokenizer.model_input_names, "labels")]
    batch = dict(task.collator(tokenizer)([{key: features[key][i] for key in keep} for i in range(4)]))
    return batch, batch.pop("labels")


def _backward(model, batch: dict, labels: torch.Tensor, **more) -> None:
    from xstilts.train import trainers

    loss = trainers.token_mean(model(**batch, **more), labels, attention_mask=batch["attention_mask"])
    loss.backward()
    assert torch.isfinite(loss)


def _plain(folder: str, tokenizer) -> list[np.ndarray]:
    """The mean over tokens of hidden_states[k] for every k, one sentence at a time, by transformers alone: (sentences,
    32) each."""
    from xstilts.checkpoint.encoder import load_encoder

    load_encoder(folder)  # refused, it needs no comparison
    model = hf.AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        states = [
            [
                state[0].mean(0).numpy()
                for state in model(**tokenizer(text, return_tensors="pt"), output_hidden_states=True).hidden_states
            ]
            for text in SENTENCES
        ]
    return [np.stack(layer) for layer in zip(*states, strict=True)]


def _equal(given: np.ndarray, expected: np.ndarray) -> None:
    assert np.abs(given - expected).max() <= 1e-4 * np.abs(expected).max(), (
        f"differs by {np.abs(given - expected).max():.1g}"
    )


def steps(folder: str, scratch: Path) -> dict[str, Callable[[], None]]:
    """{column of the table: what it runs}."""
    from tasks import get_task
    from xstilts.checkpoint import heads
    from xstilts.checkpoint.tokenizer import load_tokenizer
    from xstilts.cli.arguments import PeftArguments
    from xstilts.retrieve.embedding import Encoder
    from xstilts.retrieve.export import export_sentence_transformers
    from xstilts.train import lora, mixture, pair_trainer, trainers

    expected_layers = functools.cache(lambda: _plain(folder, load_tokenizer(folder)))

    def head(name: str) -> None:
        model = heads.fresh_head(get_task(name), folder)
        _backward(model, *_batch(name, load_tokenizer(folder)))
        model.save_pretrained(scratch / name)
        again = heads.load_head(str(scratch / name), get_task(name).auto_class)
        assert all(torch.equal(value, again.state_dict()[key]) for key, value in model.state_dict().items())

    def masked() -> None:
        tokenizer = load_tokenizer(folder, mask=True)
        encoded = [tokenizer(text, return_special_tokens_mask=True) for text in TEXTS[:4]]
        keep = (*tokenizer.model_input_names, "special_tokens_mask")
        batch = dict(
            trainers.Masking(tokenizer, 0.5, 0)([{key: one[key] for key in one if key in keep} for one in encoded])
        )
        _backward(heads.masked_lm(folder), batch, batch.pop("labels"))

    def mixed() -> None:
        model = mixture.MixtureModel([get_task(name) for name in ROWS], folder)
        for name in ROWS:
            _backward(model, *_batch(name, load_tokenizer(folder)), task=name)

    def adapters() -> None:
        model = lora.wrap(heads.fresh_head(get_task("mnli"), folder), PeftArguments(peft="lora"))
        heads.freeze_embeddings(model.base_model.model)
        _backward(model, *_batch("mnli", load_tokenizer(folder)))

    def layers() -> None:
        expected = expected_layers()
        together = Encoder.load(folder, layers="all", device="cpu").embed(SENTENCES)
        for k, states in enumerate(expected):
            _equal(together[k], states)
        _equal(Encoder.load(folder, layers=1, device="cpu").embed(SENTENCES)[1], expected[1])  # the others: exported

    def dual() -> None:
        expected = expected_layers()
        for layer in range(1, LAYERS + 1):
            model = pair_trainer.build(folder, layer=layer)
            pair_trainer.UpperLayers(model[0].model, layer)
            _equal(model.encode(SENTENCES, show_progress_bar=False), expected[layer])

    def exported() -> None:
        from sentence_transformers import SentenceTransformer

        expected = expected_layers()
        for layer in range(LAYERS + 1):
            out = scratch / f"layer{layer}"
            export_sentence_transformers(folder, layer, "mean", out)
            _equal(
                SentenceTransformer(str(out), device="cpu").encode(SENTENCES, show_progress_bar=False), expected[layer]
            )

    def unpadded() -> None:
        tokenizer = load_tokenizer(folder)
        for name in ROWS:
            found = []
            for attention in ("padding_free", "eager"):
                torch.manual_seed(0)
                model = heads.fresh_head(get_task(name), folder, attention=attention).eval()
                _backward(model, *_batch(name, tokenizer))
                found.append({key: weight.grad for key, weight in model.named_parameters()})
            largest = max(float(grad.abs().max()) for grad in found[1].values() if grad is not None)
            for key, grad in found[1].items():
                given = found[0][key]
                assert (given is None) == (grad is None), key
                assert grad is None or (given - grad).abs().max() <= 1e-3 * largest, key

    forms = {"pairs": "mnli", "tags": "udpos", "spans": "squad", "choices": "hellaswag"}
    return {
        "masked LM": masked,
        **{form: functools.partial(head, task) for form, task in forms.items()},
        "mixture": mixed,
        "LoRA, freezing": adapters,
        "every layer": layers,
        "dual encoder": dual,
        "export": exported,
        "padding-free": unpadded,
    }


def outcome(name: str, scratch: Path) -> dict[str, str]:
    """{column: "ok" or the words it was refused with} of an architecture; any other error is raised."""
    from tasks.errors import UserError

    folder = scratch / "model"
    build(name, folder)
    found = {}
    for column, step in steps(str(folder), scratch).items():
        try:
            step()
            found[column] = "ok"
        except UserError as error:
            found[column] = str(error).replace(str(folder), "").strip(" :")
    return found


# ---- the page -------------------------------------------------------------------------------------------------------

HEAD = """# Which encoders work

Written by `python -m tests.architectures --write`. A test builds each architecture tiny, with random weights and with what published checkpoints
hold beside them (`position_ids`, mDeBERTa-v3's second tables and heads), runs each step, and compares the outcome with this page. A step is *ok* if it runs forward and backward with finite losses and a saved head loads again with equal
weights. For vectors, they must equal `hidden_states[k]` of transformers' own model, one sentence at a time, for every k. For
`--attn_implementation padding_free`, all gradients must equal those of eager attention on a CPU; a GPU refuses it for models with dropout of
attention weights, such as XLM-R and BERT ([scaling.md](scaling.md)).

The code has no list of model names. It finds out what a model can do from its class, its weights, and two short rows when it is loaded.
So a checkpoint of a type that is not listed works too, or is refused in one line.

- Code in a checkpoint (`auto_map`) never runs, and no flag allows it. If transformers itself has the model type, its code is used.
- A folder's weights must be safetensors; for a folder with `pytorch_model.bin` the error has the line that converts it and keeps every tensor. Of a
  Hub id without safetensors transformers reads `pytorch_model.bin` with torch's `weights_only`, which runs no code. It also
  asks the Hub in the background to convert the repository, unless the Hub is offline or `DISABLE_SAFETENSORS_CONVERSION=1` is set.
- If transformers has no question-answering or multiple-choice head for a type, we build one on the type's token- or sequence-classification
  head. `xstilts.checkpoint.heads.load_head(folder, "AutoModelForQuestionAnswering")` loads it again;
  `AutoModel.from_pretrained(folder)` loads the encoder as always.
- X-MOD needs its language: set `default_language` in its config.json.
- XLM's tokenizer on the Hub has no fast version, so it is refused. Convert it: the folder needs a tokenizer.json, and
  `"tokenizer_class": "PreTrainedTokenizerFast"` in tokenizer_config.json.

"""  # noqa: E501


def rows(name: str, found: dict[str, str]) -> tuple[str | None, str | None]:
    """The architecture's lines in the two tables of the page: which steps are ok, and the words it is refused with."""
    such, words = ARCHITECTURES[name][0], [word for word in found.values() if word != "ok"]
    works = f"| `{name}` | {such} | {' | '.join('ok' if word == 'ok' else 'refused' for word in found.values())} |"
    refused = f"| `{name}` | {such} | {words[0].partition(' Give an encoder with')[0]} |" if words else None
    return (works if len(words) < len(found) else None), refused


def page(found: dict[str, dict[str, str]]) -> str:
    """The text of docs/models.md."""
    columns = list(next(iter(found.values())))
    lines = [rows(name, by_column) for name, by_column in found.items()]
    return HEAD + "\n".join(
        [
            f"| model type | such as | {' | '.join(columns)} |",
            "|---" * (len(columns) + 2) + "|",
            *(works for works, _ in lines if works),
            "",
            "## Refused, with these words",
            "",
            "| model type | such as | what it says |",
            "|---|---|---|",
            *(refused for _, refused in lines if refused),
            "",
        ]
    )


def main() -> None:
    hf.utils.logging.set_verbosity_error()
    hf.utils.logging.disable_progress_bar()
    found = {}
    for name in ARCHITECTURES:
        with tempfile.TemporaryDirectory() as scratch:
            found[name] = outcome(name, Path(scratch))
            print(name, "ok" if set(found[name].values()) == {"ok"} else found[name], flush=True)
    text = page(found)
    if "--write" in sys.argv:
        PAGE.write_text(text, encoding="utf-8")
    elif PAGE.read_text(encoding="utf-8") != text:
        sys.exit(f"{PAGE.name} is out of date: python -m tests.architectures --write")


if __name__ == "__main__":
    main()
