"""`make check-hub`: ask the real Hub for what the tasks read from it, and say what is not as expected.

    python recipes/check_hub.py [TASK ...] [--model HUB_ID]

It takes about five minutes. It reads the first rows of every source at its pinned revision (as a stream: no whole data
set is downloaded), lets the task's adapter convert them, and compares the number of rows that the Hub states with the
one that we expect. Then it loads the config and the tokenizer of one model. Exit status: 0 if all is as expected,
else 1. docs/hub.md shows what it prints.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tasks import TASKS, get_task, hub
from tasks import languages as codes
from tasks.base import Task
from tasks.errors import UserError, first_line, reading
from tasks.pairs import MewslixDual
from tasks.rows import Rows
from tasks.source import Source
from tasks.text import Wikipedia
from xstilts.checkpoint.config import read_config
from xstilts.checkpoint.tokenizer import load_tokenizer

FIRST = 200  # rows


class FirstRows(Rows):
    """The first rows of a source instead of all; `stated`: how many rows the Hub says there are."""

    stated: int | None = None

    def _read_hub(self, source: str, config: str, expression: str, revision: str | None, url: str) -> tuple[Any, dict]:
        from datasets import Dataset, load_dataset

        if url:
            return hub.load_file(url, expression), {"split": expression, "first": 0, "revision": revision}
        try:
            commit = hub.client().resolve_revision(source, repo_type="dataset", revision=revision).resolved
            hub.check_access(source, commit)
            if revision == hub.CONVERTED:
                files = f"hf://datasets/{source}@{commit}/{config}/{expression}/*.parquet"
                data = load_dataset("parquet", data_files={expression: files}, split=expression, streaming=True)
            else:
                data = load_dataset(source, config, split=expression, revision=commit, streaming=True)
                splits = data.info.splits or {}
                self.stated = splits[expression].num_examples if expression in splits else None
            rows = Dataset.from_list(list(islice(data, FIRST)), features=data.features)
        except Exception as error:
            raise UserError(hub.advice(error, source)) from error
        return rows, {"split": expression, "first": 0, "revision": commit}


def language_of(task: Task, source: Source) -> str:
    """Return a language of the source, English if it can be. One that only this source has comes first."""
    if "{language}" not in source.config and not source.inside:
        return "en"
    tables = (codes.OTHERS, *codes.BENCHMARKS.values())
    known = [code for table in tables for code in table.get(task.languages_in, ())]
    able = [code for code in ("en", "de", "it", *known) if code in (known or [code]) and source.serves(code, False)]
    earlier = task.sources[: task.sources.index(source)]
    return next((code for code in able if not any(other.serves(code, False) for other in earlier)), able[0])


def check(task: Task, source: Source, split: str) -> Iterator[str]:
    """Yield what is not as expected of one split of a source; nothing if all is."""
    rows, language = FirstRows("hub"), language_of(task, source)
    columns = source.columns or task.columns
    for part in source.splits[split].split("+"):
        url = source.files.get(part, "").format(revision=source.revision, language=source.code(language))
        config = source.config_of(language)
        if task.ranks:  # a part of the candidates does not have every answer: only the columns are checked
            rows.read(source.id, config, part, source.revision, ("paragraphs",) if url else columns, url)
            continue
        data = rows.read(source.id, config, part, source.revision, columns, url, task.optional).data
        with reading(task.name, source.id):
            if source.inside:  # the first rows may have other languages
                found = list(map(codes.normalize, source.inside(data)))
                language = language if language in found else found[0]
            if source.shape:
                data = source.shape(data, language)
            task.examples(data, language, source.id)
    whole = split == "train" and source is task.sources[0] and "+" not in source.splits[split] and not source.inside
    if whole and rows.stated and task.train_rows and rows.stated != task.train_rows:
        yield f"{rows.stated:,} rows, expected {task.train_rows:,}"


def check_model(name: str) -> Iterator[str]:
    """Yield what is not as expected of a model: its config and tokenizer load, and its weights are safetensors."""
    read_config(name)
    load_tokenizer(name, mask=True)
    files = [file.rfilename for file in hub.client().model_info(name).siblings or []]
    if not any(file.endswith(".safetensors") for file in files):
        yield "no weights in safetensors"


def main(argv: list[str] | None = None) -> int:
    """Return the exit status."""
    import datasets

    tasks: list[Task] = [*map(get_task, TASKS), Wikipedia(), MewslixDual()]
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0], prog="check_hub.py")
    parser.add_argument("tasks", nargs="*", metavar="TASK", help="default: all")
    parser.add_argument("--model", default="FacebookAI/xlm-roberta-base", help="Hub id (default: %(default)s)")
    arguments = parser.parse_args(argv)
    for name in arguments.tasks:
        try:
            if name not in [task.name for task in tasks]:
                get_task(name)  # raises, with the nearest names
        except UserError as error:
            parser.error(str(error))
    datasets.disable_progress_bars()
    jobs = [
        (f"{task.name} {source.id} {source.config} {split}", check(task, source, split))
        for task in tasks
        if not arguments.tasks or task.name in arguments.tasks
        for source in task.sources
        if not source.folders_only
        for split in source.splits
    ]
    jobs.append((f"model {arguments.model}", check_model(arguments.model)))
    wrong = 0
    for name, job in jobs:
        try:
            difference = "; ".join(job)
        except UserError as error:
            difference = first_line(error)
        wrong += bool(difference)
        print(f"DIFFERENT  {name}: {difference}" if difference else f"ok         {name}", flush=True)
    print(f"{len(jobs) - wrong} of {len(jobs)} are as expected.")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
