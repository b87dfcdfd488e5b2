"""What benchmarks of retrieval invent: sentences, vectors, an untrained checkpoint; and rivals that run in turn."""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np


def in_turn(
    rivals: dict[str, Callable[[], object]], runs: int, cpu_time: bool = False
) -> tuple[dict[str, float], dict[str, object]]:
    """(median seconds, last result) of each after a warm-up; they alternate, so that a busy moment hits them all."""
    watch = time.process_time if cpu_time else time.perf_counter
    seconds: dict[str, list[float]] = {name: [] for name in rivals}
    results = {name: call() for name, call in rivals.items()}
    for _ in range(runs):
        for name, call in rivals.items():
            start = watch()
            results[name] = call()
            seconds[name].append(watch() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}, results


def invented_sentences(count: int) -> list[str]:
    """Sentences of invented words; lengths as in web text: a median of 14 words, a long tail."""
    draw = np.random.default_rng(0)
    syllables = [c + v for c in "bdfgklmnprstvz" for v in "aeiou"]
    words = ["".join(draw.choice(syllables, draw.integers(1, 5))) for _ in range(3000)]
    lengths = np.clip(draw.lognormal(np.log(14), 0.6, count), 2, 100).astype(int)
    return [" ".join(draw.choice(words, length)) for length in lengths]


def sentences_of(args: argparse.Namespace) -> list[str]:
    """The first different lines of --sentences, or invented ones."""
    if not args.sentences:
        return invented_sentences(args.count)
    return list(dict.fromkeys(Path(args.sentences).read_text(encoding="utf-8").splitlines()))[: args.count]


def untrained_checkpoint(
    folder: str, sentences: list[str], layers: int, hidden: int, vocabulary: int = 0, kind: str = "xlm-roberta"
) -> str:
    """An encoder of the given size with random weights: what it costs does not depend on what it knows.

    Its tokenizer is made from `sentences`; `vocabulary`, if larger, is the size of the embeddings all the same. `kind`
    is xlm-roberta, or modernbert with mmBERT's proportions: a gated feed-forward of 1.5 times the width, every third
    layer global, the others within 128 tokens.
    """
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
    from transformers import AutoConfig, AutoModelForMaskedLM, PreTrainedTokenizerFast

    kinds = ("bos_token", "pad_token", "eos_token", "unk_token", "mask_token")
    names = dict(zip(kinds, ("<s>", "<pad>", "</s>", "<unk>", "<mask>"), strict=True))
    backend = Tokenizer(models.Unigram())
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=4000, unk_token="<unk>", special_tokens=list(names.values()))
    backend.train_from_iterator(sentences, trainer)
    single, pair = "<s> $A </s>", "<s> $A </s> </s> $B </s>"
    specials = [("<s>", 0), ("</s>", 2)]
    backend.post_processor = processors.TemplateProcessing(single=single, pair=pair, special_tokens=specials)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, model_max_length=512, **names)
    tokenizer.save_pretrained(folder)
    of_kind = {
        "xlm-roberta": {"intermediate_size": 4 * hidden, "max_position_embeddings": 514},
        "modernbert": {
            "intermediate_size": 3 * hidden // 2,
            "max_position_embeddings": 8192,
            "cls_token_id": 0,
            "sep_token_id": 2,
        },
    }
    config = AutoConfig.for_model(
        kind,
        vocab_size=max(len(tokenizer), vocabulary),
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=hidden // 64,
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=2,
        **of_kind[kind],
    )
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):  # a GPU draws 560 M weights at once
        model = AutoModelForMaskedLM.from_config(config)
    model.save_pretrained(folder)
    return folder


def unit_vectors(
    size: int, dim: int, seed: int, near: np.ndarray | None = None, path: Path | None = None
) -> np.ndarray:
    """(size, dim) float32 of length 1, clustered and off centre as sentence vectors are; or noisy copies of `near`.

    With `path` they are made in a .npy file there and come back memory-mapped.
    """
    centres = 1 + np.random.default_rng(1).standard_normal((256, dim), dtype=np.float32)
    draw = np.random.default_rng(seed)
    shape = size, dim
    vectors = (
        np.empty(shape, dtype=np.float32) if path is None else np.lib.format.open_memmap(path, "w+", np.float32, shape)
    )
    for start in range(0, size, 4096):
        part = vectors[start : start + 4096]
        draw.standard_normal(out=part, dtype=np.float32)
        if near is None:
            part += centres[draw.integers(0, len(centres), len(part))]
        else:
            part *= 0.6 * dim**-0.5
            part += near[start : start + 4096]
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    return vectors if path is None else np.load(path, mmap_mode="r")


def isotropic_vectors(size: int, dim: int) -> tuple[np.ndarray, np.ndarray]:
    """Two pools (size, dim) of random vectors of length 1; of the first tenth each is a noisy copy of the other's."""
    draw = np.random.default_rng(0)
    target, source = (draw.standard_normal((size, dim), dtype=np.float32) for _ in range(2))
    source[: size // 10] = target[: size // 10] + 0.6 * source[: size // 10]
    return tuple(pool / np.linalg.norm(pool, axis=1, keepdims=True) for pool in (source, target))
