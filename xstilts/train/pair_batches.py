"""The pairs that a dual encoder trains on, and their batches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from datasets import Dataset, concatenate_datasets

from tasks.errors import UserError
from tasks.expressions import fair_share
from xstilts.train.multilingual import align, draws


class PairRows(torch.utils.data.Dataset):
    """Pairs of several tasks and languages. The index of an item is (row of its query, row of its passage).

    Args:
        parts: for each task {language: Dataset of query, passage, id}. Only ids that all languages have are kept, in
            the order of the first language.
        drawn: the languages that batches are made of; None: all. The others only decide which ids are kept, and the
            first language decides which pairs may share a batch.
        limit: the largest number of pairs of a task; the first ones are kept.
        shuffle: seed to shuffle the passages with, in the same way in every language; None: no shuffling.
        joined: for tasks of several joined splits `Loaded.parts` of the first language: `limit` keeps a fair share.

    Attributes:
        data: all rows, one language after another; columns query and passage.
        queries, passages: for each task an array (languages drawn, pairs) of row numbers in `data`. A column is one
            pair.
        texts: for each task an array (pairs, 2) of text numbers in the first language; equal texts have equal numbers.
        lacking: for each task {language: number of ids of the first language that it lacks}.

    Raises:
        UserError: an id occurs twice in a language, or no id occurs in all.
    """

    def __init__(
        self,
        parts: Mapping[str, Mapping[str, Dataset]],
        drawn: Sequence[str] | None = None,
        limit: int | None = None,
        shuffle: int | None = None,
        joined: Mapping[str, np.ndarray] | None = None,
    ):
        self.queries: dict[str, np.ndarray] = {}
        self.passages: dict[str, np.ndarray] = {}
        self.texts: dict[str, np.ndarray] = {}
        self.lacking: dict[str, dict[str, int]] = {}
        blocks: list[Dataset] = []
        start = 0
        for task, by_language in parts.items():
            places, self.lacking[task] = align(task, {language: data["id"] for language, data in by_language.items()})
            if joined and task in joined and limit is not None and limit < places.shape[1]:
                places = places[:, fair_share(joined[task][places[0]], limit)]
            places = places[:, :limit]
            english = next(iter(by_language.values())).select(places[0])
            texts = [np.unique(english[side][:], return_inverse=True)[1] for side in ("query", "passage")]
            rows = places + start + np.cumsum([0, *map(len, by_language.values())][:-1])[:, None]
            rows = rows[[language in (drawn or by_language) for language in by_language]]
            order = (
                np.arange(rows.shape[1]) if shuffle is None else draws(shuffle, "labels").permutation(rows.shape[1])
            )
            self.queries[task], self.passages[task] = rows, rows[:, order]
            self.texts[task] = np.stack([texts[0], texts[1][order]], 1)
            blocks += [data.select_columns(["query", "passage"]) for data in by_language.values()]
            start += sum(map(len, by_language.values()))
        self.data = concatenate_datasets(blocks)

    def __len__(self) -> int:
        return sum(rows.shape[1] for rows in self.queries.values())

    def __getitem__(self, pair: tuple[int, int]) -> dict[str, str]:
        return self.__getitems__([pair])[0]

    def __getitems__(self, pairs: list[tuple[int, int]]) -> list[dict[str, str]]:
        queries, passages = (list(side) for side in zip(*pairs, strict=True))
        both = zip(self.data[queries]["query"], self.data[passages]["passage"], strict=True)
        return [{"query": query, "passage": passage} for query, passage in both]


class PairSampler:
    """Batches of (query row, passage row). A batch has one task, no text twice on a side, and one language a side.

    Args:
        pairs: the pairs to draw from.
        batch_size: pairs of a batch.
        batches: mono: both sides in one language, drawn uniformly. cross: in two different languages, drawn
            uniformly. hybrid: mono with probability alpha, else cross (arXiv 2408.10536). english: mono; `pairs` then
            draws one language only. For cross and hybrid `pairs` draws two languages at least (`families.check`).
        alpha: for hybrid.
        seed: batches depend only on seed and epoch, so a resumed run reproduces them.
        processes: the number of batches is a multiple of it.

    The languages are drawn once per batch: with several languages on a side a model could rule out a passage by its
    language. An epoch uses each id at most once and has floor(pairs / batch size) batches per task. A batch is smaller
    only if too few different texts are left.

    Raises:
        UserError: fewer pairs than a batch.
    """

    drop_last = True

    def __init__(
        self,
        pairs: PairRows,
        batch_size: int,
        batches: str = "mono",
        alpha: float = 0.5,
        seed: int = 0,
        processes: int = 1,
    ):
        for task, of in pairs.queries.items():
            different = min(len(np.unique(column)) for column in pairs.texts[task].T)
            if different < batch_size or of.shape[1] < batch_size * processes:
                where = f" of each of the {processes} processes" if processes > 1 else ""
                raise UserError(
                    f"{task} has {of.shape[1]} pairs ({different} with different texts), fewer than a batch{where}; "
                    f"lower --per_device_train_batch_size {batch_size}."
                )
        self.pairs, self.batch_size, self.seed, self.epoch = pairs, batch_size, seed, 0
        self.mono = {"cross": 0.0, "hybrid": alpha}.get(batches, 1.0)
        self.total = sum(of.shape[1] // batch_size for of in pairs.queries.values()) // processes * processes

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.total

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        rng = np.random.default_rng((self.seed, self.epoch))
        found = [(task, batch) for task, texts in self.pairs.texts.items() for batch in self._batches(texts, rng)]
        for number in rng.permutation(len(found))[: self.total]:
            task, batch = found[number]
            queries, passages = self.pairs.queries[task], self.pairs.passages[task]
            if rng.random() < self.mono:
                first = second = rng.integers(len(queries))
            else:
                first, second = rng.choice(len(queries), 2, replace=False)
            yield list(zip(queries[first, batch].tolist(), passages[second, batch].tolist(), strict=True))

    def _batches(self, texts: np.ndarray, rng: np.random.Generator) -> Iterator[list[int]]:
        """Yield batches of pairs in random order. A pair whose text is already in the batch waits for the next."""
        coming = iter(rng.permutation(len(texts)).tolist())
        waiting: list[int] = []
        for _ in range(len(texts) // self.batch_size):
            batch: list[int] = []
            postponed: list[int] = []
            queries: set[int] = set()
            passages: set[int] = set()
            for pair in _chain(waiting, coming):
                query, passage = texts[pair].tolist()
                if query in queries or passage in passages:
                    postponed.append(pair)
                else:
                    queries.add(query)
                    passages.add(passage)
                    batch.append(pair)
                if len(batch) == self.batch_size:
                    break
            waiting = postponed + waiting
            yield batch


def _chain(waiting: list[int], coming: Iterator[int]) -> Iterator[int]:
    """Yield the items of `waiting`, removing them from it, then those of `coming`."""
    while waiting:
        yield waiting.pop(0)
    yield from coming
