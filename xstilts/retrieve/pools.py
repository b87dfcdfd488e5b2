"""The rows that a measurement embeds, read and checked before the model loads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tasks import languages as codes
from tasks.errors import UserError
from xstilts.retrieve.index import Index
from xstilts.run import inputs

if TYPE_CHECKING:
    from tasks.base import Task
    from tasks.rows import Rows
    from xstilts.cli.arguments import RetrievalArguments

NEIGHBOURS = 4  # of the margin score, as in the BUCC code of LASER and XTREME


@contextmanager
def error_context(what: str) -> Iterator[None]:
    """Prefix the message of a UserError with `what`: the task, the language and the layer."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{what}: {error}") from error


def index_of(options: RetrievalArguments) -> Index:
    """Return the index that --index, --nprobe and --index_candidates describe."""
    if options.index is None:
        raise ValueError("search is exact: --index is not given")
    return Index(options.index, options.nprobe, options.index_candidates)


def read(
    task: Task,
    rows: Rows,
    languages: Sequence[str],
    options: RetrievalArguments,
    limit: int | None = None,
    splits: Sequence[str] = ("dev", "test"),
    notes: list[str] | None = None,
) -> dict[str, Any]:
    """Return every text that will be embedded: {language: examples}, in mining {language: {split: pools}}.

    Args:
        limit: queries of each language, see `inputs.first`; None: all. Mining is never cut: half a pool is another
            task.
        splits: the splits that mining reads.
        notes: gets one on the languages whose pool `limit` cut, which makes the search easier.

    Raises:
        UserError: a row is broken, or a pool is smaller than the number of neighbours.
    """
    if task.mines:
        found = {language: {split: task.load(split, language, rows) for split in splits} for language in languages}
        for language, pools in found.items():
            for split, pool in pools.items():
                for side, texts in zip(("source", "target"), task.sides(pool), strict=True):
                    if (size := len(set(texts))) < NEIGHBOURS:
                        raise UserError(
                            f"{task.name} {language}: the {split} {side} pool has {size} different sentences; "
                            f"the margin score needs at least {NEIGHBOURS}."
                        )
        return found
    whole = {language: task.read("test", language, rows) for language in languages}
    found = {language: inputs.first(loaded.examples, limit, loaded.parts) for language, loaded in whole.items()}
    cut = [language for language in languages if len(found[language]) < len(whole[language].examples)]
    if cut and notes is not None and not task.ranks:
        notes.append(f"{', '.join(cut)}: only the first {limit} sentences are searched (--max_eval_samples)")
    _check_sizes(task, found, options)
    if "pairs" in task.search_options and options.pairs == "all" and len(found) < 2:
        raise UserError(
            f"--pairs all: {task.name} has only {' '.join(found)}; a pair without English needs two languages."
        )
    return found


def smaller_pools(task: Task, examples: Mapping[str, Any]) -> list[str]:
    """Return a note on a pool of all languages that lacks some of the benchmark's, which makes the search easier."""
    notes = []
    if task.ranks and task.parallel:
        spoken, reported = set(next(iter(examples.values())).candidate_languages), codes.XTREME_R[task.languages_in]
        absent = [code for code in reported if code not in spoken]
        if absent and spoken <= set(reported):
            notes.append(
                f"candidates are in {len(spoken)} languages, the benchmark's in {len(reported)}: without "
                f"{', '.join(absent)}"
            )
    return notes


def _check_sizes(task: Task, examples: Mapping[str, Any], options: RetrievalArguments) -> None:
    """Raise UserError if a pool is empty, a language has one text to centre, or CSLS has too few neighbours."""
    # --center takes a mean of each group
    groups = {f"{task.name} {language}: queries": len(rows) for language, rows in examples.items()}
    pools = groups  # one search covers a pool
    if task.ranks:
        spoken = Counter(next(iter(examples.values())).candidate_languages)
        pools = {f"{task.name}: queries": sum(groups.values()), f"{task.name}: candidates": spoken.total()}
        groups = groups | {f"{task.name} {language}: candidates": size for language, size in spoken.items()}
    for flag, sizes, least in (
        ("--max_eval_samples", groups, 1),
        ("--center language", groups, 2 if options.center == "language" else 0),
        (f"--csls {options.csls}", pools, options.csls or 0),
    ):
        for what, size in sizes.items():
            if size < least:
                where, _, kind = what.rpartition(": ")
                raise UserError(f"{flag}: {where} has {size} {kind}, expected at least {least}.")


def check_index(task: Task, examples: Mapping[str, Any], options: RetrievalArguments, dim: int) -> None:
    """Raise UserError if --index cannot search these pools. Call it before the texts are embedded.

    Args:
        dim: dimensions of the vectors.
    """
    if options.index is None:
        return
    for language, rows in examples.items():
        sizes = [len(set(side)) for side in task.sides(rows["test"])] if task.mines else [len(rows)]
        with error_context(f"{task.name} {language}"):
            index_of(options).sample(min(sizes), dim)
