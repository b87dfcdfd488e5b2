"""Embedding by several processes: all fill the cache of vectors, then rank 0 measures from it and the others are done.

So no process waits for another but while they embed, where each has an equal share, and a search may take as long as
it takes.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta

import numpy as np
import torch
from accelerate import PartialState

from xstilts.errors import UserError
from xstilts.retrieve import measure
from xstilts.retrieve.cache import fill_cache
from xstilts.retrieve.embedding import Encoder
from xstilts.run import processes

TIMEOUT = timedelta(minutes=30)  # that one process waits for another; transformers' own for training (--ddp_timeout)


def meet() -> None:
    """Make the processes that a launcher started one group; do nothing where there is only one.

    Raises:
        UserError: see `processes.world_size`.
    """
    if processes.world_size() > 1:
        PartialState(cpu=not torch.cuda.is_available(), timeout=TIMEOUT)


@contextlib.contextmanager
def shared_cache(cache_dir: str | None, output_dir: str | None) -> Iterator[str | None]:
    """Yield the folder that the processes share vectors in: the cache, or a hidden folder of the output folder while
    the block lasts.

    All ranks call it. One process without a cache has no use for it: None.
    """
    if cache_dir or processes.world_size() == 1:
        yield cache_dir
        return
    first = processes.is_first()
    folder = processes.broadcast(tempfile.mkdtemp(prefix=".vectors-", dir=output_dir) if first else None)
    try:
        yield folder
    finally:
        if first:
            shutil.rmtree(folder, ignore_errors=True)


def embed_all(
    encoder: Encoder,
    cache_dir: str,
    prompts: Mapping[str, str],
    headline: measure.Headline,
    work: Sequence[tuple],
    how,
) -> None:
    """Put the vectors of all that will be measured into `cache_dir`. All ranks call it; each is on its own afterwards.

    Args:
        headline: the rows its layer is chosen on are embedded too.
        work: (task, its examples) of each measurement.
        how: as for `measure.measure`.
    """
    calls: list[tuple[Sequence[str], str]] = []
    plan = _planner(calls, prompts)
    with contextlib.suppress(UserError):  # no layer can be chosen without vectors
        headline.choose(plan)
    for task, examples in work:
        measure.measure(task, examples, plan, how)
    for sentences, desc in calls:
        fill_cache(encoder, sentences, cache_dir, desc)
    processes.leave()


def _planner(calls: list[tuple[Sequence[str], str]], prompts: Mapping[str, str]) -> Callable:
    """Return an `embed` that notes what it is asked for, and has vectors of no layer: nothing is searched."""

    def embed(sentences: Sequence[str], desc: str) -> dict[int, np.ndarray]:
        calls.append((list(sentences), desc))
        return {}

    embed.prompts = dict(prompts)
    return embed
