"""The token ids of many sentences, in flat arrays: distinct sequences, batches and padding."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Tokens:
    """The token ids of n sentences, concatenated. Flat arrays: lists of Python numbers would outweigh the vectors.

    Attributes:
        ids: (t,) int32.
        counted: (t,) bool, True for the tokens that enter the mean.
        ends: (n + 1,); sentence i is ids[ends[i] : ends[i + 1]].
    """

    ids: np.ndarray
    counted: np.ndarray
    ends: np.ndarray

    def distinct(self) -> tuple[Tokens, np.ndarray]:
        """Return (each distinct sequence once, in order of appearance; its number for each sentence, (n,) int64)."""
        place: dict[bytes, int] = {}
        rows = np.empty(len(self.ends) - 1, dtype=np.int64)
        for row, (start, end) in enumerate(pairwise(self.ends.tolist())):
            key = hashlib.blake2b(
                self.ids[start:end].tobytes() + self.counted[start:end].tobytes(), digest_size=16
            ).digest()
            rows[row] = place.setdefault(key, len(place))
        first, lengths = np.unique(rows, return_index=True)[1], np.diff(self.ends)
        kept = np.zeros(len(rows), dtype=bool)
        kept[first] = True
        flat = np.repeat(kept, lengths)
        return Tokens(self.ids[flat], self.counted[flat], np.concatenate([[0], np.cumsum(lengths[kept])])), rows

    def digest(self) -> str:
        """Return the SHA-256 of the sequences in their order."""
        digest = hashlib.sha256()
        for array in (self.ids, self.counted, self.ends):
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()

    def batches(self, budget: int) -> Iterator[np.ndarray]:
        """Yield batches of sentence numbers, longest first: as many as fit the budget of tokens, but at least one."""
        lengths = np.diff(self.ends)
        order = np.argsort(-lengths, kind="stable")  # longest first, so that a lack of memory shows at once
        start = 0
        while start < len(order):
            longest = lengths[order[start]]
            stop = start + max(1, budget // int(longest))
            yield order[start:stop]
            start = stop

    def padded(self, rows: np.ndarray, pad: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return input_ids int64, attention_mask int64 and the mean's weights float32, each (rows, longest).

        Padding is on the right.
        """
        import torch

        lengths = self.ends[rows + 1] - self.ends[rows]
        mask = np.arange(lengths.max()) < lengths[:, None]
        flat = np.concatenate([np.arange(self.ends[row], self.ends[row + 1]) for row in rows])
        input_ids = np.full(mask.shape, pad, dtype=np.int64)
        input_ids[mask] = self.ids[flat]
        weights = np.zeros(mask.shape, dtype=np.float32)
        weights[mask] = self.counted[flat]
        return torch.from_numpy(input_ids), torch.from_numpy(mask.astype(np.int64)), torch.from_numpy(weights)
