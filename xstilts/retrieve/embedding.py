"""Sentence vectors from any layer of an encoder checkpoint.

Layer k is `hidden_states[k]`: 0 is the embedding output, the number of layers is the top. Vectors leave
`Encoder.embed` unnormalised; `vectors.normalize` makes inner products cosines.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tasks.errors import UserError
from xstilts.checkpoint.config import check_layer
from xstilts.cli.arguments import MEASURED_LENGTH, POOLINGS
from xstilts.cli.progress import Bar
from xstilts.retrieve.tokens import Tokens
from xstilts.retrieve.vectors import ROWS_AT_ONCE, new_array

if TYPE_CHECKING:  # torch and transformers take seconds to import: the functions that need them do it
    import torch
    from transformers import PreTrainedModel, TokenizersBackend

    from xstilts.checkpoint.layers import TruncatedEncoder

TOKENS_PER_BATCH = {"cpu": 1024, "cuda": 65536}
TOKENISE_AT_ONCE = 20_000  # sentences: bounds the Python lists the tokenizer returns, whatever the pool's size
# What a model is made of in a checkpoint folder. results.json, README.md and optimizer states may change freely, and
# of the tokenizer's files the cache need not know: its key has the tokens.
MODEL_FILES = ("config.json", "*.safetensors", "*.bin")


def _check_pooling(pooling: str) -> None:
    if pooling not in POOLINGS:
        raise UserError(f"pooling={pooling!r} is unknown; choose one of {', '.join(POOLINGS)}.")


def _resolve_layers(layers: str | int | Sequence[int], n_layers: int) -> list[int]:
    """Return the requested layers as sorted numbers in 0..n_layers."""
    if layers == "last":
        return [n_layers]
    if layers == "all":
        return list(range(n_layers + 1))
    requested = [layers] if isinstance(layers, (int, str)) else list(layers)
    if not requested:
        raise UserError(f"no layer was given: give 'last', 'all' or numbers between 0 and {n_layers}.")
    try:
        numbers = sorted({int(layer) for layer in requested})
    except ValueError as error:
        raise UserError(
            f"layer {layers!r} is unknown: give 'last', 'all' or a number between 0 and {n_layers}."
        ) from error
    for layer in numbers:
        check_layer(layer, n_layers)
    return numbers


def _load_cut(
    checkpoint: str,
    revision: str,
    attention: str | None,
    layers: str | int | Sequence[int],
    tokenizer: TokenizersBackend,
    dtype: str,
    device: str,
) -> tuple[TruncatedEncoder, list[int], str, str]:
    """Return (the encoder, cut above the highest layer, on the device; the layers' numbers; `precision.choose`)."""
    import torch

    from xstilts.checkpoint.encoder import check_precision, check_vocabulary, load_encoder
    from xstilts.checkpoint.layers import TruncatedEncoder, depth
    from xstilts.checkpoint.precision import DTYPES, cast, choose, computing

    if dtype not in ("auto", *DTYPES):
        raise UserError(f"dtype={dtype!r} is unknown; choose one of auto, {', '.join(DTYPES)}.")
    model, _ = load_encoder(checkpoint, revision, attention=attention)
    check_vocabulary(checkpoint, model.config, tokenizer)
    numbers = _resolve_layers(layers, depth(model))
    cut = TruncatedEncoder(model, numbers[-1])
    chosen, note = choose(dtype, model.config.hidden_size, torch.device(device).type)
    model.eval()
    cast(model, chosen)
    try:
        with computing(chosen, "cpu"):
            check_precision(checkpoint, model, chosen)
    except UserError:
        if dtype != "auto" or chosen == "fp32":
            raise
        del cut, model  # the bf16 cast cannot be undone
        cut, *_ = _load_cut(checkpoint, revision, attention, layers, tokenizer, "fp32", device)
        return cut, numbers, "fp32", "--dtype auto chose fp32: this model does not run in bf16"
    model.to(device=device)  # type: ignore[call-arg]  # transformers wraps `to` without types
    return cut, numbers, chosen, note


class Encoder:
    """An encoder checkpoint as a function from sentences to vectors. Make it with `Encoder.load`."""

    def __init__(
        self,
        checkpoint: str | Path,
        model: PreTrainedModel,
        tokenizer: TokenizersBackend,
        layers: list[int],
        pooling: str,
        include_special: bool,
        max_length: int,
        dtype: str,
        revision: str,
        cut: TruncatedEncoder,
        dtype_note: str = "",
        attention: str | None = None,
    ) -> None:
        self.cut = cut
        self.checkpoint = checkpoint
        self.revision = revision
        self.model = model
        self.tokenizer = tokenizer
        self.layers = layers
        self.pooling = pooling
        self.include_special = include_special
        self.max_length = max_length
        self.longer: set[int] = set()  # hashes of the texts that were longer
        self.dtype = dtype
        self.dtype_note = dtype_note
        self.attention = attention

    @classmethod
    def load(
        cls,
        checkpoint: str | Path,
        *,
        layers: str | int | Sequence[int] = "last",
        pooling: str = "mean",
        include_special: bool = True,
        max_length: int = MEASURED_LENGTH,
        dtype: str = "fp32",
        device: str | None = None,
        revision: str = "main",
        attention: str | None = None,
    ) -> Encoder:
        """Load the encoder of `checkpoint` and cut it above the highest requested layer. Code in it never runs.

        Args:
            checkpoint: a folder or Hub id.
            layers: "last", "all", one number or several.
            pooling: "mean" over the tokens, or "cls", the first token.
            include_special: whether the mean counts <s> and </s> (XTREME does).
            max_length: in tokens, capped by the model's positions and its tokenizer.
            dtype: "fp32", "bf16" or "auto" (see `precision.choose`, and `precision.cast` for what bf16 is); pooling is
                always fp32. `Encoder.dtype` is the one in use, `Encoder.dtype_note` says why.
            device: None: a GPU if there is one.
            revision: of a Hub id.
            attention: attn_implementation of transformers.

        Raises:
            UserError: the folder is not a checkpoint; the layer, pooling or dtype is unknown.
        """
        import torch

        from xstilts.checkpoint.encoder import length_limit
        from xstilts.checkpoint.tokenizer import load_tokenizer

        _check_pooling(pooling)
        checkpoint = str(checkpoint)
        tokenizer = load_tokenizer(checkpoint, revision)
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        cut, numbers, dtype, note = _load_cut(checkpoint, revision, attention, layers, tokenizer, dtype, device)
        shortest = tokenizer.num_special_tokens_to_add() + 1
        if max_length < shortest:
            raise UserError(f"max_length={max_length} leaves no room for a word: give at least {shortest} tokens.")
        model, max_length = cut.encoder, min(max_length, length_limit(cut.encoder.config, tokenizer))
        return cls(
            checkpoint,
            model,
            tokenizer,
            numbers,
            pooling,
            include_special,
            max_length,
            dtype,
            revision,
            cut,
            note,
            attention,
        )

    @cached_property
    def fingerprint(self) -> str:
        """The SHA-256 of the model's files, see MODEL_FILES. Computed once."""
        from transformers.utils import cached_file

        config = cached_file(str(self.checkpoint), "config.json", revision=self.revision)
        folder = Path(str(config)).parent
        files = {path for pattern in MODEL_FILES for path in folder.glob(pattern)}
        digest = hashlib.sha256()
        for path in sorted(files):
            with path.open("rb") as file:
                digest.update(f"{path.name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
        return digest.hexdigest()

    @cached_property
    def starts_alike(self) -> bool:
        """Whether pooling takes the same special token of every text. Its vector in layer 0 is then the same, too."""
        encoded = self.tokenizer("a", return_special_tokens_mask=True)
        return self.pooling == "cls" and bool(encoded["special_tokens_mask"][0])

    def embed(self, sentences: Sequence[str], desc: str = "embed") -> dict[int, np.ndarray]:
        """Return {layer: (n, dim) float32} of every requested layer from one pass, unnormalised, in the given order.

        Sentences with equal tokens are computed once, so that their vectors are equal to the bit: in two batches they
        would differ by rounding, and a search would then prefer one of them. So embed what you will compare in one
        call. A batch holds sentences of similar length, which keeps padding small; in fp32 the vectors equal those of
        each sentence alone to 1e-5.

        Args:
            desc: text of the progress bar.

        Raises:
            UserError: the list is empty, or a sentence has no token to average.
        """
        return self.embed_tokens(*self.tokens(sentences), desc)

    def tokens(self, sentences: Sequence[str]) -> tuple[Tokens, np.ndarray]:
        """Return (the distinct token sequences, the number of its sequence for each sentence). Errors: see `embed`."""
        if len(sentences) == 0:
            raise UserError("there are no sentences to embed.")
        if isinstance(sentences, str):
            raise UserError("embed takes a list of sentences, not one string.")
        place = {sentence: row for row, sentence in enumerate(dict.fromkeys(sentences))}
        back = np.fromiter((place[sentence] for sentence in sentences), dtype=np.int64, count=len(sentences))
        tokens, rows = self._tokenise(list(place)).distinct()
        return tokens, rows[back]

    def embed_tokens(
        self,
        tokens: Tokens,
        back: np.ndarray,
        desc: str = "embed",
        folder: str | Path | None = None,
    ) -> dict[int, np.ndarray]:
        """Return the vectors of `embed` for sentences that `tokens` has turned into (tokens, back).

        Args:
            folder: write the vectors to layer<k>.npy there and return them memory-mapped, read-only.

        Raises:
            UserError: the disk has too little room.
        """
        first = np.unique(back, return_index=True)[1]  # where each different sequence stands first
        shape = (len(back), self.model.config.hidden_size)
        vectors: dict[int, np.ndarray]
        files = {} if folder is None else {layer: Path(folder, f"layer{layer}.npy") for layer in self.layers}
        if files:
            vectors = {layer: new_array(path, shape, len(files)) for layer, path in files.items()}
        else:
            vectors = {layer: np.empty(shape, dtype=np.float32) for layer in self.layers}
        batches = list(tokens.batches(TOKENS_PER_BATCH[self.model.device.type]))
        for rows, pooled in self._compute(tokens, batches, desc):
            for layer, block in pooled.items():
                vectors[layer][first[rows]] = block
        _repeat(vectors, back, first)
        return {layer: np.load(path, mmap_mode="r") for layer, path in files.items()} if files else vectors

    def _compute(
        self, tokens: Tokens, batches: list[np.ndarray], desc: str | None
    ) -> Iterator[tuple[np.ndarray, dict[int, np.ndarray]]]:
        """Yield (rows of `tokens`, {layer: their vectors}) for each batch. Without `desc` there is no progress bar."""
        import torch

        total = sum(map(len, batches))
        with torch.inference_mode(), Bar(total, desc or "", "sentences", disable=desc is None) as bar:
            for rows in batches:
                padded = tokens.padded(rows, self.tokenizer.pad_token_id)
                yield rows, {layer: pooled.float().cpu().numpy() for layer, pooled in self._pool(*padded)}
                bar.update(len(rows))

    def embed_together(self, tokens: Tokens, back: np.ndarray, desc: str, folder: str | Path) -> None:
        """Share the batches of `embed_tokens` among all ranks and write the vectors to a folder that every rank sees.

        The batches are those of one process, so the vectors are equal to the bit if machines and thread counts are
        equal; otherwise they differ by about 1e-6. Every file has one writer, because ranks on several machines that
        write to one memory-mapped file lose each other's rows. Rank 0 concatenates the parts.

        Raises:
            UserError: this process does not see the folder, or the disk has too little room.
        """
        from accelerate import PartialState

        state, dim = PartialState(), self.model.config.hidden_size
        rank, size = state.process_index, state.num_processes
        if not Path(folder).is_dir():
            raise UserError(f"process {rank} does not see {folder}: give a --cache_dir that every machine sees.")
        batches = list(tokens.batches(TOKENS_PER_BATCH[self.model.device.type]))
        part = {
            k: new_array(
                Path(folder, f"{rank}-layer{k}.npy"), (sum(map(len, batches[rank::size])), dim), len(self.layers)
            )
            for k in self.layers
        }
        start = 0
        for rows, pooled in self._compute(
            tokens, batches[rank::size], f"{desc} ({size} processes)" if rank == 0 else None
        ):
            for layer, block in pooled.items():
                part[layer][start : start + len(rows)] = block
            start += len(rows)
        for array in part.values():
            array.flush()
        state.wait_for_everyone()
        if rank == 0:
            vectors: dict[int, np.ndarray] = {
                k: new_array(Path(folder, f"layer{k}.npy"), (len(back), dim), len(self.layers)) for k in self.layers
            }
            first = np.unique(back, return_index=True)[1]
            for other in range(size):
                rows = first[np.concatenate([*batches[other::size], np.empty(0, dtype=np.int64)])]
                for layer, whole in vectors.items():
                    computed = np.load(Path(folder, f"{other}-layer{layer}.npy"), mmap_mode="r")
                    for start in range(0, len(rows), ROWS_AT_ONCE):
                        whole[rows[start : start + ROWS_AT_ONCE]] = computed[start : start + ROWS_AT_ONCE]
            _repeat(vectors, back, first)

    def _tokenise(self, sentences: list[str]) -> Tokens:
        ids: list[np.ndarray] = []
        counted: list[np.ndarray] = []
        lengths: list[int] = []
        for start in range(0, len(sentences), TOKENISE_AT_ONCE):
            texts = sentences[start : start + TOKENISE_AT_ONCE]
            encoded = self.tokenizer(
                texts,
                truncation=True,
                max_length=self.max_length,
                return_attention_mask=False,
                return_token_type_ids=False,
                return_special_tokens_mask=True,
            )
            lengths.extend(map(len, encoded["input_ids"]))
            full = [text for text, row in zip(texts, encoded["input_ids"], strict=True) if len(row) == self.max_length]
            whole = self.tokenizer(full, verbose=False)["input_ids"] if full else []
            self.longer |= {hash(text) for text, row in zip(full, whole, strict=True) if len(row) > self.max_length}
            ids.append(np.fromiter((t for row in encoded["input_ids"] for t in row), dtype=np.int32))
            special = np.fromiter((s for row in encoded["special_tokens_mask"] for s in row), dtype=np.bool_)
            counted.append(np.ones_like(special) if self.include_special else ~special)
        ends = np.concatenate([[0], np.cumsum(lengths)])
        flat = np.concatenate(counted)
        sums = np.diff(np.concatenate([[0], np.cumsum(flat)])[ends])
        if (sums == 0).any():
            sentence = sentences[int((sums == 0).argmax())]
            hint = "" if self.include_special else " besides the special ones, which include_special=False leaves out"
            raise UserError(f"the sentence {sentence!r} has no tokens{hint}: remove it.")
        tokens = np.concatenate(ids)
        if tokens.max() >= self.model.config.vocab_size:
            raise UserError(
                f"the tokenizer of {self.checkpoint} gave token {tokens.max()}, but its model has "
                f"{self.model.config.vocab_size}: take both from one checkpoint."
            )
        return Tokens(tokens, flat, ends)

    def _pool(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, counted: torch.Tensor
    ) -> Iterator[tuple[int, torch.Tensor]]:
        """Yield (layer, (batch, dim) vectors) for every requested layer of one batch."""
        from xstilts.checkpoint.precision import computing

        device = self.model.device
        counted = counted.to(device)
        only_top = len(self.layers) == 1 and self.cut.exact
        with computing(self.dtype, device.type):
            output = self.model(
                input_ids=input_ids.to(device),
                attention_mask=attention_mask.to(device),
                output_hidden_states=not only_top,
            )
        for layer in self.layers:
            states = output.last_hidden_state if only_top else output.hidden_states[layer]
            if self.pooling == "cls":
                yield layer, states[:, 0]
            else:  # a product with the weights sums without a masked copy of the states
                weights = counted / counted.sum(dim=1, keepdim=True)
                yield layer, _weighted_sum(weights, states)


def _repeat(vectors: dict[int, np.ndarray], back: np.ndarray, first: np.ndarray) -> None:
    """Copy, in place, the vectors of repeated token sequences. `back`, `first`: see `Encoder.embed_tokens`."""
    repeated = np.flatnonzero(first[back] != np.arange(len(back)))
    for start in range(0, len(repeated), ROWS_AT_ONCE):
        rows = repeated[start : start + ROWS_AT_ONCE]
        for array in vectors.values():
            array[rows] = array[first[back[rows]]]


def _weighted_sum(weights: torch.Tensor, states: torch.Tensor) -> torch.Tensor:
    """Return the weighted sum over tokens: (batch, tokens) x (batch, tokens, dim) -> (batch, dim), in fp32."""
    return (weights.unsqueeze(1) @ states.float()).squeeze(1)
