"""Whether two reads hold the same rows, from their records: no row may be both trained on and scored."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from tasks.checks import id_text
from tasks.errors import UserError
from tasks.expressions import are_other_shards, whole_split

if TYPE_CHECKING:
    from datasets import Dataset

    from tasks.base import Task
    from tasks.source import Source


ID_COLUMNS = ("id", "index_id")  # of rows that are the same in every language


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
        rows: how many rows they share; at most so many, where a file's rows are in several languages.
        where: Hub id, config and split of both reads.
        aligned: whether rows of the same number belong together; if not, `rows` is the most that it can be.
    """

    one: Use
    other: Use
    rows: int
    where: str
    aligned: bool = True

    @property
    def count(self) -> str:
        """The number of rows in words: "1 row", "up to 3 rows"."""
        return f"{'' if self.aligned else 'up to '}{self.rows} row{'s' * (self.rows != 1)}"


def shared(
    earlier: Iterable[Mapping[str, Any]], later: Sequence[Mapping[str, Any]], splits: tuple[str, Sequence[str]]
) -> Iterator[Shared]:
    """Yield what reads share with other reads, in the same language or in translation.

    Args:
        earlier, later: data records. Those without `used_as` or `first`, as older versions wrote them, share nothing.
        splits: the split of the earlier reads (train, dev or test), and those of the later ones.
    """
    there = [(use, record) for record in later for use in uses(record) if use.split in splits[1]]
    for record in earlier:
        for one in uses(record):
            for other, found in there if one.split == splits[0] else ():
                aligned = _aligned(one, record, other, found)
                if rows := _common(one, record, other, found, aligned):
                    yield Shared(one, other, rows, _where(record, found), aligned)


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
        task, other = found.one.task, found.other
        if not found.aligned:
            raise UserError(
                f"{task}.train and {other.task}.{other.split} may share {found.count} of {found.where}: their ids, or "
                "their numbers of rows, are not the same. Give both files the same rows in the same order, or leave "
                "out one of the languages."
            )
        raise UserError(
            f"{task}.train and {other.task}.{other.split} share {found.count} of {found.where}. Rows that are trained "
            f"on must not be scored. Give each rows of its own with --splits, such as {task}.train=SPLIT[:80%], "
            f"{other.task}.dev=SPLIT[80%:90%] and {other.task}.test=SPLIT[90%:]."
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
                    f"{use.task}.{use.split} has {found.count} twice, of {found.where}. Leave one part out, or let it "
                    "begin where the other ends."
                )


def _where(record: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    """Return Hub id, config and split of two records, each once: "facebook/xnli (en, test[:60%] and test[40%:])"."""
    if (record["id"], record["config"]) == (found["id"], found["config"]):
        splits = " and ".join(dict.fromkeys([record["split"], found["split"]]))
        return f"{found['id']} ({found['config']}, {splits})"
    return " and ".join(f"{one['id']} ({one['config']}, {one['split']})" for one in (record, found))


def order_of(data: Dataset) -> str:
    """Return what is equal for two files if rows of the same number belong together: a digest of the ids, or without
    ids the number of rows."""
    column = next((name for name in ID_COLUMNS if name in data.column_names), None)
    if column is None:
        return f"{len(data)} rows"
    return hashlib.sha256("\n".join(map(id_text, data[column][:])).encode()).hexdigest()[:16]


def _aligned(one: Use, record: Mapping[str, Any], other: Use, found: Mapping[str, Any]) -> bool:
    """Whether rows of the same number belong together, as far as `order_of` tells. Older records have no order."""
    orders = [of["order"] for of in (record, found) if "order" in of]
    if len(orders) < 2 or orders[0] == orders[1]:
        return True
    # a file is read without the ids that a task does not need, and a split of the Hub with them
    return one.language == other.language and len({order.endswith(" rows") for order in orders}) == 2


def _common(one: Use, record: Mapping[str, Any], other: Use, found: Mapping[str, Any], aligned: bool) -> int:
    """Return how many rows two records share; the most that it can be, where they are not aligned or one is of a file
    that a split is cut into. Rows of the same number are the same, or translations of each other."""
    same_language = one.language == other.language
    by_number = max(0, min(_end(record), _end(found)) - max(record["first"], found["first"]))
    if same_language and record.get("sha256") is not None and record.get("sha256") == found.get("sha256"):
        return by_number
    files = [of["split"].partition("[")[0] for of in (record, found)]
    if whole_split(files[0]) != whole_split(files[1]) or are_other_shards(*files):
        return 0
    if files[0] != files[1] or not aligned:
        by_number = min(record["rows"], found["rows"])
    for task in filter(None, map(adapter, (one.task, other.task))):
        ours, theirs = _source(task, record, one.language), _source(task, found, other.language)
        if ours and theirs and (same_language or task.parallel or task.other_languages == "parallel"):
            # in a file whose rows are each in one language, translations have other numbers
            mixed = any(source.inside and not source.nested for source in (ours, theirs))
            return min(record["rows"], found["rows"]) if mixed and not same_language else by_number
    same_place = (record["id"], record["config"]) == (found["id"], found["config"])
    return by_number if same_place and same_language else 0


def _end(record: Mapping[str, Any]) -> int:
    return record["first"] + record["rows"]


def _source(task: Task, record: Mapping[str, Any], language: str) -> Source | None:
    """Return the source of a task that a data record in this language is of; None if it is of none."""
    place = record["id"], record["config"]
    return next((one for one in task.sources if (one.id, one.config_of(language)) == place), None)


@functools.cache
def adapter(name: str) -> Task | None:
    """Return the adapter of a task, or of pairs; None if there is none, as of a task that a user has removed."""
    from tasks import TASKS, get_task
    from tasks.pairs import PAIRS, get_pairs

    return get_task(name) if name in TASKS else get_pairs(name) if name in PAIRS else None
