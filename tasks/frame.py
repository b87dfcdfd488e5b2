"""The special tokens around the texts of an input."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tasks.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


@dataclass(frozen=True)
class Frame:
    """The special tokens that a tokenizer puts around one or two texts: before, between and after them.

    They allow building an input from tokens truncated to an exact number. Truncating text and tokenising it again can
    give another number of tokens, because one character may be several tokens.

    Attributes:
        ids: the token ids before the first text, after each text but the last, and after the last.
        types: the token type ids of the texts, and of `ids` in the same shape.
    """

    ids: tuple[list[int], ...]
    types: tuple[tuple[int, ...], tuple[list[int], ...]]

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerFast, texts: int) -> Frame:
        """Return the special tokens around 1 or 2 texts."""
        probe = tokenizer(*["a"] * texts).encodings[0]
        places = [[i for i, sequence in enumerate(probe.sequence_ids) if sequence == text] for text in range(texts)]
        if not all(places):
            raise UserError(f"the tokenizer ({type(tokenizer).__name__}) has no token for the letter a.")
        ends = [0, *(place[-1] + 1 for place in places)]
        starts = [*(place[0] for place in places), len(probe.ids)]
        gaps = list(zip(ends, starts, strict=True))
        types = tuple(probe.type_ids[place[0]] for place in places), tuple(probe.type_ids[a:b] for a, b in gaps)
        return cls(tuple(probe.ids[a:b] for a, b in gaps), types)

    @property
    def size(self) -> int:
        """The number of special tokens."""
        return sum(map(len, self.ids))

    def around(self, *texts: list[int]) -> tuple[list[int], list[int]]:
        """Return (token ids, token type ids) of an input with these texts, given as token ids."""
        (of_text, of_special), ids, types = self.types, list(self.ids[0]), list(self.types[1][0])
        for n, text in enumerate(texts):
            ids += [*text, *self.ids[n + 1]]
            types += [*[of_text[n]] * len(text), *of_special[n + 1]]
        return ids, types
