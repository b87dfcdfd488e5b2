"""Whether two reads hold the same rows, from their records: no row may be both trained on and scored."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from tasks.errors import UserError

if TYPE_CHECKING:
    from tasks.base import Task


class Use(NamedTuple):
    """What rows are read for, in results.json as ``xnli.test de``.

    Attributes:
        task: the task.
        split: train, dev or test.
        language: of the rows; a file may hold rows in several.
    """

    task: str
    split: str
    language: str

    def __str__(self) -> str:
        return f"{self.task}.{self.split} {self.language}"

    @classmethod
    def of(cls, text: str) -> Use:
        """Return the use that ``str(use)`` describes."""
        name, _, language = text.partition(" ")
        task, _, split = name.rpartition(".")
        return cls(task, split, language)


@dataclass(frozen=True)
class Shared:
    """Rows that two reads share.

    Attributes:
        one, other: what the reads are for.
        rows: how many rows they share.
        where: Hub id and config of the rows, and the splits of both reads.
        split: the later split, without its slice.
    """

    one: Use
    other: Use
    rows: int
    where: str
    split: str


def shared(
    earlier: Iterable[Mapping[str, Any]], later: Sequence[Mapping[str, Any]], splits: tuple[str, Sequence[str]]
) -> Iterator[Shared]:
    """Yield what reads share with other reads.

    Args:
        earlier, later: data records. Those without `used_as` or `first`, as older versions wrote them, share nothing.
        splits: what the earlier reads must be for (train, dev or test), and what the later ones may be for.
    """
    there = [(use, record) for record in later for use in uses(record) if use.split in splits[1]]
    for record in earlier:
        for one in uses(record):
            for other, found in there if one.split == splits[0] else ():
                if _same_rows(one, record, other, found) and (rows := _common(record, found)):
                    split = " and ".join(dict.fromkeys([record["split"], found["split"]]))
                    where = f"{found['id']} ({found['config']}, {split})"
                    yield Shared(one, other, rows, where, _base(found)[1])


def uses(record: Mapping[str, Any]) -> list[Use]:
    """Return what the rows of a data record were read for."""
    return [Use.of(text) for text in record.get("used_as") or ()] if "first" in record else []


def refuse(records: Sequence[Mapping[str, Any]], record: Mapping[str, Any]) -> None:
    """Raise if a read would train on rows that an earlier one scores, or the other way round.

    Args:
        records: the earlier reads of a run.
        record: the new one.

    Raises:
        UserError: names both, and says what to type.
    """
    scored = ("dev", "test")
    for found in (*shared(records, [record], ("train", scored)), *shared([record], records, ("train", scored))):
        train, test = (f"{use.task}.{use.split}" for use in (found.one, found.other))
        raise UserError(
            f"{train} and {test} share {found.rows} rows of {found.where}. Rows that are trained on must not be "
            "scored. Give each a part of its own, such as "
            f"--splits {train}={found.split}[:90%] {test}={found.split}[90%:]."
        )


def refuse_repeats(records: Sequence[Mapping[str, Any]]) -> None:
    """Raise if parts of one split hold the same rows, which would then count twice.

    Args:
        records: of the parts.

    Raises:
        UserError: names both parts.
    """
    for number, record in enumerate(records):
        for use in uses(record):
            for found in shared([record], records[number + 1 :], (use.split, [use.split])):
                if found.one != found.other:  # LAReQA reads all languages for one, and they are translations
                    continue
                raise UserError(
                    f"{use.task}.{use.split} has {found.rows} rows of {found.where} twice. Let each "
                    "part begin where the one before ends."
                )


def _same_rows(one: Use, record: Mapping[str, Any], other: Use, found: Mapping[str, Any]) -> bool:
    """Whether rows of the same number are the same in two records, or translations of each other."""
    of_one_split = _base(record) == _base(found)
    if one.language != other.language:
        configs = {one.language: record["config"], other.language: found["config"]}
        return of_one_split and any(_translations(task, record["id"], configs) for task in (one.task, other.task))
    same_file = record.get("sha256") is not None and record.get("sha256") == found.get("sha256")
    return same_file or (of_one_split and record["config"] == found["config"])


def _base(record: Mapping[str, Any]) -> tuple[str, str]:
    return record["id"], record["split"].partition("[")[0]


def _common(record: Mapping[str, Any], found: Mapping[str, Any]) -> int:
    ends = (one["first"] + one["rows"] for one in (record, found))
    return max(0, min(ends) - max(record["first"], found["first"]))


def _translations(name: str, source: str, configs: Mapping[str, str]) -> bool:
    """Whether configs of a Hub id hold the same rows of a task in several languages.

    Args:
        configs: {language: config}.
    """
    task = adapter(name)
    return (
        task is not None
        and (task.parallel or task.other_languages == "parallel")
        and any(
            one.id == source and all(one.config_of(language) == config for language, config in configs.items())
            for one in task.sources
        )
    )


@functools.cache
def adapter(name: str) -> Task | None:
    """Return the adapter of a task, or of pairs; None if there is none, as of a task that a user has removed."""
    from tasks import TASKS, get_task
    from tasks.pairs import PAIRS, get_pairs

    return get_task(name) if name in TASKS else get_pairs(name) if name in PAIRS else None
