"""The task adapters: the only code that knows what a row means. Independent of training."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from tasks.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from tasks.base import Task

# name -> module:class; add a line for a new task
TASKS = {
    # intermediate
    "mnli": "tasks.sentence_pair:MNLI",
    "snli": "tasks.sentence_pair:SNLI",
    "anli": "tasks.sentence_pair:ANLI",
    "anli_plus": "tasks.sentence_pair:ANLIPlus",
    "qqp": "tasks.sentence_pair:QQP",
    "rte": "tasks.sentence_pair:RTE",
    "squad": "tasks.question_answering:SQuAD",
    "squad_v2": "tasks.question_answering:SQuADv2",
    "hellaswag": "tasks.multiple_choice:HellaSwag",
    "cosmosqa": "tasks.multiple_choice:CosmosQA",
    "csqa": "tasks.multiple_choice:CommonsenseQA",
    "siqa": "tasks.multiple_choice:SocialIQA",
    "copa": "tasks.multiple_choice:COPA",
    "ccg": "tasks.ccg:CCG",
    # target
    "xnli": "tasks.sentence_pair:XNLI",
    "pawsx": "tasks.sentence_pair:PAWSX",
    "udpos": "tasks.tagging:UDPOS",
    "panx": "tasks.tagging:PANX",
    "xquad": "tasks.question_answering:XQuAD",
    "mlqa": "tasks.question_answering:MLQA",
    "tydiqa": "tasks.question_answering:TyDiQA",
    "xcopa": "tasks.multiple_choice:XCOPA",
    "sib200": "tasks.topic:SIB200",
    "belebele": "tasks.multiple_choice:Belebele",
    # retrieval
    "tatoeba": "tasks.retrieval:Tatoeba",
    "bucc": "tasks.retrieval:BUCC",
    "ntrex": "tasks.retrieval:NTREX",
    "flores": "tasks.retrieval:FLORES",
    "lareqa": "tasks.ranking:LAReQA",
    "mewslix": "tasks.ranking:MewsliX",
}
# `make matrix TARGETS=all`: every target task of the two benchmarks that has a head
TARGETS = ("xnli", "pawsx", "udpos", "panx", "xquad", "mlqa", "tydiqa", "xcopa")
# the tasks that make accepts in RETRIEVAL, and those it accepts only in ARMS: tasks without test rows
RETRIEVAL = ("tatoeba", "bucc", "ntrex", "flores", "lareqa", "mewslix")
UNTESTED = (
    "mnli",
    "snli",
    "anli",
    "anli_plus",
    "qqp",
    "rte",
    "squad",
    "squad_v2",
    "hellaswag",
    "cosmosqa",
    "csqa",
    "siqa",
    "copa",
)
# the pairs that phase 2 trains a dual encoder on (tasks/pairs.py); make accepts them in ARMS
PAIR_NAMES = (
    "squad_dual",
    "lareqa_dual",
    "xquad_dual",
    "nli_dual",
    "xnli_dual",
    "qqp_dual",
    "paws_dual",
    "mewslix_dual",
)
# What an arm can do with the train rows of tasks and pairs (xstilts/cli/arms.py). The adapters say the same, but make
# needs it before an environment exists. Train rows in other languages: translations, or a language's own.
PARALLEL = ("squad", "xnli", "pawsx", "xquad", "sib200", "squad_dual", "lareqa_dual", "xquad_dual", "xnli_dual")
NATIVE = ("udpos", "panx", "tydiqa")
ONE_TEXT = ("ccg", "udpos", "panx", "sib200")
TAGGED = ("ccg", "udpos", "panx")


def get_task(name: str, benchmark: str = "xtreme") -> Task:
    """Return the adapter called `name`.

    Raises:
        UserError: no such task; gives the nearest names.
    """
    if name not in TASKS:
        raise UserError(f"Task {name!r} is unknown.{did_you_mean(name, TASKS, 3)} See --list_tasks.")
    module, _, cls = TASKS[name].partition(":")
    return getattr(importlib.import_module(module), cls)(benchmark)


def get_target(name: str | None, benchmark: str = "xtreme") -> Task:
    """Return the adapter of a target task, --task.

    Raises:
        UserError: no name, or a task that is unknown or not trained.
    """
    if not name:
        raise UserError("--task is missing; see --list_tasks.")
    if name in PAIR_NAMES:
        raise UserError(f"--task {name} is not a target task; train on it with run_intermediate.py --tasks {name}.")
    task = get_task(name, benchmark)
    if not task.auto_class:
        raise UserError(f"--task {name} is not trained; measure it with run_retrieval.py --tasks {name}.")
    return task


def unused_search_options(name: str) -> set[str]:
    """Return the arguments of run_retrieval.py that only other tasks use; none for a task of the user's own."""
    if name not in TASKS:
        return set()
    some = {option for other in RETRIEVAL for option in get_task(other).search_options}
    return some - set(get_task(name).search_options)


def list_tasks(data_root: str = "hub", splits: tuple[str, ...] | list[str] = (), benchmark: str = "xtreme") -> str:
    """Return a table of the tasks: name, form, metric, English train rows, source, languages.

    For the Hub, train rows and languages are the published ones; for a folder, what it holds ("-": none).
    """
    from tasks.rows import Rows

    rows = Rows(data_root, splits)
    lines = [("name", "form", "metric", "train rows", "source", "languages")]
    for name in TASKS:
        task = get_task(name, benchmark)
        count: object = task.train_rows or "-"
        try:
            languages = task.languages(rows) if rows.local or not hasattr(task, "refuse_hub") else ["folder only"]
        except UserError:
            languages = []
        if rows.local and task.train_rows:
            try:
                count = len(task.load("train", "en", rows))
            except UserError:
                count = "-"
        lines.append((name, task.form, task.metric, str(count), task.where(), " ".join(languages) or "-"))
    widths = [max(len(line[i]) for line in lines) for i in range(5)]
    return "\n".join("  ".join([*(c.ljust(w) for c, w in zip(line, widths, strict=False)), line[5]]) for line in lines)
