"""Embedding by several processes: all ranks fill the cache of vectors, then rank 0 measures and the others end.

The ranks wait for each other only while they embed, and each embeds an equal share. A long search blocks no rank.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from accelerate import PartialState

from tasks.errors import UserError
from xstilts.retrieve import measure
from xstilts.retrieve.cache import fill_cache
from xstilts.retrieve.embedding import Encoder
from xstilts.retrieve.headline import Headline
from xstilts.retrieve.pools import error_context
from xstilts.run import processes
from xstilts.run.temporary import temporary_folder

if TYPE_CHECKING:
    from tasks.base import Task
    from xstilts.cli.arguments import RetrievalArguments

# Of a collective: the default of --ddp_timeout in transformers. A measurement has no such argument, because its ranks
# wait for each other only while they embed equal shares, never while one of them reads, searches or writes.
TIMEOUT = timedelta(minutes=30)


def meet() -> None:
    """Join the process group that the launcher set up. Do nothing if there is one process.

    Raises:
        UserError: see `processes.world_size`.
    """
    if processes.world_size() > 1:
        PartialState(cpu=not torch.cuda.is_available(), timeout=TIMEOUT)


@contextlib.contextmanager
def shared_cache(cache_dir: str | None, output_dir: str | None) -> Iterator[str | None]:
    """Yield the folder through which the ranks share vectors.

    It is the cache, or a temporary hidden folder in the output folder. It is None for one process without a cache. All
    ranks call this.
    """
    if cache_dir or processes.world_size() == 1:
        yield cache_dir
        return
    with temporary_folder(str(output_dir), ".vectors-") if processes.is_first() else contextlib.nullcontext() as own:
        yield str(processes.broadcast(own))


def embed_all(
    encoder: Encoder,
    cache_dir: str,
    prompts: Mapping[str, str],
    headline: Headline,
    work: Sequence[tuple[Task, Mapping[str, Any]]],
    options: RetrievalArguments,
) -> None:
    """Fill `cache_dir` with the vectors of every text that will be measured. All ranks call this.

    Afterwards the process group is closed, and no rank waits for another.

    Args:
        headline: the rows its layer is chosen on are embedded too.
        work: (task, its examples) of each measurement.
        options: as for `measure.measure`.
    """
    calls: list[tuple[Sequence[str], str]] = []
    plan = _planner(calls, prompts)
    with contextlib.suppress(UserError):  # the planner returns no vectors, so the choice fails
        headline.choose(plan)
    for task, examples in work:
        measure.measure(task, examples, plan, options)
    for sentences, desc in calls:
        with error_context(desc):
            fill_cache(encoder, sentences, cache_dir, desc)
    processes.leave()


def _planner(calls: list[tuple[Sequence[str], str]], prompts: Mapping[str, str]) -> measure.Prompted:
    """Return an `Embed` function that records its calls and returns no layer, so that nothing is searched."""

    def embed(sentences: Sequence[str], desc: str) -> dict[int, np.ndarray]:
        calls.append((list(sentences), desc))
        return {}

    return measure.Prompted(embed, dict(prompts))
