"""Retrieval by shared words alone: the accuracy that names, digits and shared words give without a model."""

import math
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq

from .files import WorldError, read_stamp


def accuracy(source: list[str], target: list[str]) -> float:
    """Return the share of sources, 0-100, whose nearest target (TF-IDF cosine over shared words) is in the same row.

    Words are split at spaces; full stops and commas are words of their own. A tie for the first place is a miss.
    """
    sides = [[Counter(_words(line)) for line in side] for side in (source, target)]
    documents = Counter(word for bag in sides[1] for word in bag)
    weight = {word: math.log(len(target) / count) for word, count in documents.items()}
    index: dict[str, list[tuple[int, float]]] = {}
    for row, bag in enumerate(sides[1]):
        norm = math.sqrt(sum((count * weight[word]) ** 2 for word, count in bag.items())) or 1.0
        for word, count in bag.items():
            index.setdefault(word, []).append((row, count * weight[word] / norm))
    hits = 0
    for row, bag in enumerate(sides[0]):
        scores = [0.0] * len(target)
        for word, count in bag.items():
            for other, value in index.get(word, ()):
                scores[other] += count * weight[word] * value
        best = max(scores)
        hits += scores[row] == best > 0 and scores.count(best) == 1
    return 100.0 * hits / len(source)


def report(folder: Path) -> str:
    """Return one line a language: accuracy on the Tatoeba pairs. Raise WorldError if `folder` is not a world."""
    lines = ["shared-word retrieval, foreign to English, accuracy"]
    for code in read_stamp(folder)["languages"][1:]:
        path = folder / f"mteb__tatoeba-bitext-mining/{code}-eng/test.parquet"
        try:
            with path.open("rb") as stream:
                # without threads: one that still runs when Python ends aborts the process
                rows = pq.read_table(stream, use_threads=False, pre_buffer=False).to_pydict()
            lines.append(f"{code}  {accuracy(rows['sentence1'], rows['sentence2']):.1f}")
        except (OSError, ValueError, KeyError, AttributeError) as error:  # translations of a world have no Tatoeba
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            raise WorldError(
                f"{path} cannot be read ({reason}): give a complete world, or write it again with --force"
            ) from None
    return "\n".join(lines)


def _words(line: str) -> list[str]:
    return line.replace(".", " .").replace(",", " ,").split()
