"""Encoders as sizes: their weights, floating-point operations and memory, by formula."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Shape:
    """An encoder of XLM-R's architecture (Conneau et al. 2020; feed-forward layers of 4 times the width)."""

    layers: int
    hidden: int
    vocabulary: int = 250002
    feed_forward: int = 0
    positions: int = 514

    @property
    def wide(self) -> int:
        return self.feed_forward or 4 * self.hidden

    @property
    def parameters(self) -> int:
        """Weights of the encoder without pooler and head: embeddings (words, positions, one type, norm), then the
        layers."""
        h, wide = self.hidden, self.wide
        layer = 4 * (h * h + h) + (h * wide + wide) + (wide * h + h) + 2 * 2 * h
        return (self.vocabulary + self.positions + 1 + 2) * h + self.layers * layer

    def forward_flops(self, length: float) -> float:
        """Floating-point operations for a token in a row of `length`: two for each weight of the layers' matrices, and
        attention.

        Four matrices of h x h, two of h x wide; scores and weighted sum 2 * length * h each. Heads, norms and softmax
        are left out (under 1 % but for masked LM's head, see `text_flops`). For wide = 4 h it is the forward third of
        Narayanan et al. 2021 (arXiv 2104.04473, equation 3, without recomputation and vocabulary).
        """
        h = self.hidden
        return self.layers * (2 * (4 * h * h + 2 * h * self.wide) + 4 * length * h)

    def train_flops(self, length: float) -> float:
        """Forward, and twice that backward."""
        return 3 * self.forward_flops(length)

    @property
    def text_flops(self) -> float:
        """What masked LM's head adds for a token in training: a matrix of h x h and the vocabulary's, at every
        position."""
        return 3 * 2 * (self.hidden + self.vocabulary) * self.hidden

    def memory(self, tokens: int, gpus: int = 1) -> tuple[float, float]:
        """Bytes on a GPU in bf16 autocast: (weights, gradients and AdamW's two moments in fp32, activations of
        `tokens` in a batch).

        gpus: among how many the first is cut (FSDP, ZeRO-3). Activations: ACTIVATION bytes for a token, layer and unit
        of width.
        """
        return 16 * self.parameters / gpus, ACTIVATION * tokens * self.layers * self.hidden


# Kept for the backward pass under bf16 autocast, where attention keeps no scores: counted by torch's saved-tensor
# hooks (tests/test_scaling.py). All in 16 bits it would be 34 (Korthikanti et al. 2022, arXiv 2205.05198).
ACTIVATION = 44


# mmBERT's gated feed-forward has three matrices of 768 x 1,152: as many operations as two of 768 x 1,728
SHAPES = {"xlm-r-base": Shape(12, 768), "xlm-r-large": Shape(24, 1024), "mmbert-base": Shape(22, 768, 256000, 1728)}


def shape_of(model: str) -> Shape:
    """One of `SHAPES`, or that of a checkpoint's folder."""
    if model in SHAPES:
        return SHAPES[model]
    config = json.loads(Path(model, "config.json").read_text(encoding="utf-8"))
    return Shape(config["num_hidden_layers"], config["hidden_size"], config["vocab_size"], config["intermediate_size"])
