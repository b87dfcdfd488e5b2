"""Split expressions, as --splits has them: ``validation[:8000]``, alternatives after commas, files of a split."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.errors import UserError, one_line

if TYPE_CHECKING:
    import numpy as np
    from datasets import Dataset


def alternatives(expression: str) -> list[tuple[str, str]]:
    """Return the alternatives of an expression: ``"a[:80],b"`` -> ``[("a", "[:80]"), ("b", "")]``.

    Raises:
        UserError: a part is not a split.
    """
    found = []
    for part in expression.split(","):
        match = re.fullmatch(r"\s*([\w.\-]+)(\[[^\]]*\])?\s*", part)
        if not match:
            raise UserError(
                f"{expression!r} is not a split. Give one like validation, validation[:8000] or validation[80%:]."
            )
        found.append((match[1], match[2] or ""))
    return found


def shards(split: str, names: Iterable[str]) -> tuple[list[str], list[str]]:
    """Return (the files that a split is cut into, those that are missing), as the Hub names them, without suffix.

    ``train-00000-of-00002`` and ``train-00001-of-00002`` are the train split. Both are empty if there is no such name,
    or if names differ in the number of files.
    """
    matches = [re.fullmatch(rf"{re.escape(split)}-(\d+)-of-(\d+)", name) for name in sorted(names)]
    found = [match for match in matches if match]
    if len({match[2] for match in found}) != 1:
        return [], []
    have, digits, number = {match[0] for match in found}, len(found[0][1]), found[0][2]
    every = [f"{split}-{at:0{digits}d}-of-{number}" for at in range(int(number))]
    missing = [name for name in every if name not in have] if len(have) < int(number) else []
    return [match[0] for match in found], missing


def whole_split(split: str) -> str:
    """Return the split that rows are of: without a slice, and of a file that a split is cut into the split."""
    return re.sub(r"-\d+-of-\d+$", "", split.partition("[")[0])


def are_other_shards(one: str, other: str) -> bool:
    """Whether two names are different files that one split is cut into: train-00000-of-00002, train-00001-of-00002."""
    found = [re.fullmatch(r"(.+)-(\d+)-of-(\d+)", name) for name in (one, other)]
    return one != other and all(found) and found[0].group(1, 3) == found[1].group(1, 3)  # type: ignore[union-attr]


def fair_share(parts: np.ndarray, n: int) -> np.ndarray:
    """Return which n rows to take, in order: the first of each part, as many as the part has of all rows.

    Args:
        parts: the number of each row's part.
    """
    import numpy as np

    sizes = np.bincount(parts)
    exact = n * sizes / len(parts)
    shares = np.floor(exact).astype(int)
    shares[np.argsort(shares - exact, kind="stable")[: n - shares.sum()]] += 1
    taken = [np.flatnonzero(parts == part)[:share] for part, share in enumerate(shares)]
    return np.sort(np.concatenate(taken))


def take_slice(data: Dataset, cut: str, where: str | Path) -> tuple[Dataset, int]:
    """Return (the rows of a slice in the Hub's syntax: "[:8000]", "[80%:]", "" for all rows; the number of the first).

    Raises:
        UserError: it is not a slice of these rows; names `where`.
    """
    from datasets import ReadInstruction

    low, _, high = cut.strip("[]").partition(":")
    zero = low.strip() in ("", "0")  # which is 0 % too
    if not zero and high.strip() and ("%" in low) != ("%" in high):  # the library takes both for percentages
        raise UserError(f"{where}: {cut} has one bound in rows and one in %. Give both in rows, or both in %.")
    try:
        (part,) = ReadInstruction.from_spec(f"rows{cut}").to_absolute({"rows": len(data)})
    except (ValueError, AssertionError) as error:
        raise UserError(f"{where}: {cut} is not a valid slice of its {len(data)} rows ({one_line(error)}).") from error
    return data.select(range(part.from_, part.to) if part.from_ < part.to else []) if cut else data, part.from_
