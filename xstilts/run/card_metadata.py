"""What a model card tells the Hub: ancestors, data sets, languages, scores. Their text is in `xstilts.run.card`.

A claim about a data set of the Hub is made only if its rows were loaded from the Hub: a folder of rows has the same
names, and may hold something else.

Imports no other package at the top: every script imports this before it knows that they are there.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from tasks import get_task
from tasks.base import Task
from tasks.errors import UserError, first_line
from tasks.languages import is_private_use
from tasks.rows import Rows
from xstilts.cli import privacy
from xstilts.run.record import Record

if TYPE_CHECKING:
    from huggingface_hub import EvalResult, EvalResultEntry, ModelCardData

logger = logging.getLogger("xstilts")
TAG = "x-stilts"  # of every card that we write
# the licences of base model and data all hold; the Hub has no name for that
LICENCE: dict[str, Any] = {"license": "other", "license_name": "base-model-and-data", "license_link": "LICENSE.md"}
METRICS = ("accuracy", "f1", "exact_match", "perplexity")  # the names that huggingface.co/metrics has
MOST_NAMED = 4  # tasks that a title names


# ---- the checkpoint that a run started from -------------------------------------------------------------------------


@dataclass(frozen=True)
class Parent:
    """What the card of a run says of the checkpoint that it started from.

    Attributes:
        title: for people: the model's name, or the title of its card.
        base_model: the Hub's id of the parent, or of its nearest ancestor that is on the Hub; None if there is none.
        datasets: what the parent was trained on, if it is not on the Hub, where its own card says so.
        trained: whether the title says what the parent was trained on.
    """

    title: str
    base_model: str | list[str] | None = None
    datasets: list[str] = field(default_factory=list)
    trained: bool = False


def parent_of(model: str) -> Parent:
    """Return the parent at a path or Hub id, as the run was given it. A local parent is described by its card."""
    from huggingface_hub import ModelCard

    if is_hub_id(model):
        return Parent(PurePath(model).name, model)
    path = Path(model)
    name = path.stem if path.suffix == ".json" else path.resolve().name if path.exists() else path.name
    readme = path / "README.md"
    if not readme.is_file():
        return Parent(name)
    try:
        card = ModelCard.load(readme, ignore_metadata_errors=True)
    except Exception as error:  # somebody else's file; the run is finished, and only the card would lack something
        logger.warning("%s cannot be read (%s): the new card names no base model.", readme, first_line(error))
        return Parent(name)
    base = card.data.get("base_model")
    heading = re.search(r"^# (.+)$", card.text, re.MULTILINE)
    ours = bool(heading) and TAG in _texts(card.data.get("tags"))
    return Parent(
        heading[1] if ours and heading else name,
        base if isinstance(base, str) else _texts(base) or None,
        _texts(card.data.get("datasets")),
        trained=ours and " trained on " in str(heading),
    )


def _texts(value: Any) -> list[str]:
    """Return a text, or the texts of a list; somebody else's card may hold anything in their place."""
    return [part for part in (value if isinstance(value, list) else [value]) if isinstance(part, str)]


def is_hub_id(model: str) -> bool:
    """Whether a model was loaded from the Hub: no local path has its name, and the Hub allows it."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    if model.startswith(privacy.ELSEWHERE) or Path(model).exists():
        return False
    try:
        validate_repo_id(model)
    except HFValidationError:
        return False
    return True


# ---- what the run was trained on and measured with ------------------------------------------------------------------


def tasks_of(record: Record) -> list[Task]:
    """Return the tasks that a run was trained on or measures, without masked language modelling."""
    from tasks.pairs import PAIRS, get_pairs

    names = [] if record.phase == "mlm" else record.task.split("+")
    benchmark = record.settings.get("benchmark") or "xtreme"
    return [get_pairs(name, benchmark) if name in PAIRS else get_task(name, benchmark) for name in names]


def text_of(record: Record) -> Task | None:
    """Return the task whose text was used for masked language modelling; None if there was none."""
    from tasks.text import Wikipedia  # here, as it imports numpy

    if record.phase != "mlm" and not record.settings.get("mlm_rate"):
        return None
    return get_task(name) if (name := record.settings.get("text_of")) else Wikipedia()


def title(record: Record, parent: Parent) -> str:
    """Return the heading of a card: `xlm-roberta-base trained on MultiNLI, then on XNLI`."""
    titles = [task.title or task.name for task in tasks_of(record)]
    if len(titles) > MOST_NAMED:
        titles = [f"{len(titles)} tasks"]
    named = " and ".join(filter(None, [", ".join(titles[:-1]), *titles[-1:]]))
    if record.phase == "retrieval":
        return f"{parent.title}, measured on {named}"
    languages = record.trained_on or []
    if text := text_of(record):
        read = record.text_languages or []
        if titles and languages != read:
            named += _number(languages)
        source = "text" if text.masks else f"the text of {text.title or text.name}"
        named, languages = f"{named} and {source}" if named else source, read
    named += _number(languages)
    return f"{parent.title}{', then' if parent.trained else ' trained'} on {named}"


def _number(languages: list[str]) -> str:
    return f" in {len(languages)} languages" if len(languages) > 1 else ""


def pinned(record: Record) -> list[dict[str, Any]]:
    """Return the data records of rows that were loaded from the Hub."""
    return [data for data in record.data if "revision" in data and "url" not in data]


def train_data(record: Record) -> list[str]:
    """Return the Hub ids of the rows that a run was trained on, sorted; [] for a measurement."""
    return _train_data(record, pinned(record))


def train_files(record: Record) -> list[str]:
    """Return the ids of the rows of folders that a run was trained on, sorted."""
    return _train_data(record, [data for data in record.data if "sha256" in data])


def _train_data(record: Record, data: list[dict[str, Any]]) -> list[str]:
    if record.phase == "retrieval" or not data:
        return []
    rows, used = Rows("hub", record.settings.get("splits") or ()), set()
    for task in filter(None, [*tasks_of(record), text_of(record)]):
        stages = [get_task(name) for name in task.train_from[:-1]]
        for one in [*stages, task]:
            used |= {(source, split) for source, _, split in _origins(one, "train", "en", rows)}
    return sorted({entry["id"] for entry in data if (entry["id"], entry["split"]) in used})


def _origins(task: Task, split: str, language: str, rows: Rows) -> list[tuple[str, str, str]]:
    try:
        return task.origins(split, language, rows)
    except UserError:  # of another source than the Hub's
        return []


def scored(record: Record) -> Iterator[tuple[Task, str, str, Mapping[str, float], dict[str, Any]]]:
    """Yield (task, split, language, {metric: score}, data record) of the scores on rows of the Hub.

    These are the test scores, and of phase 2 those on English dev. Scores on other rows are left out.
    """
    if not (data := pinned(record)):
        return
    rows, tasks = Rows("hub", record.settings.get("splits") or ()), tasks_of(record)
    tables: list[tuple[Task, str, str, Mapping[str, float]]] = [
        (task, "test", language, by_metric) for task in tasks for language, by_metric in record.scores.items()
    ]
    if record.phase == "intermediate" and record.dev:
        for task in tasks:
            prefix = f"{task.name}/" if len(tasks) > 1 else ""
            dev = {m.removeprefix(prefix): v for m, v in record.dev["en"].items() if m.startswith(prefix)}
            tables.append((task, "dev", "en", dev))
    for task, split, language, by_metric in tables:
        places = _origins(task, split, language, rows)
        found = next((entry for entry in data if (entry["id"], entry["config"], entry["split"]) in places), None)
        if found:
            yield task, split, language, by_metric, found


def eval_results(record: Record) -> list[EvalResult]:
    """Return the scores for the card's model-index, main metric first."""
    from huggingface_hub import EvalResult

    return [
        EvalResult(
            task_type=task.pipeline_tag,
            dataset_type=data["id"],
            dataset_name=task.title or task.name,
            dataset_config=data["config"],
            dataset_split=data["split"],
            dataset_revision=data["revision"],
            metric_type=metric,
            metric_value=round(value, 2),
            metric_name=f"{metric} ({language}{', dev' if split == 'dev' else ''})",
        )
        for task, split, language, by_metric, data in scored(record)
        for metric, value in sorted(by_metric.items(), key=lambda item: item[0] != task.metric)
    ]


def eval_entries(record: Record) -> list[EvalResultEntry]:
    """Return the test scores for .eval_results: the main metric of each language."""
    from huggingface_hub import EvalResultEntry

    found = [part for part in scored(record) if part[1] == "test"]
    configs = [data["config"] for *_, data in found]
    trained = f"the head was trained on English; phase 2: {record.arm}"
    return [
        EvalResultEntry(
            dataset_id=data["id"],
            # a config may hold several languages
            task_id=data["config"] if configs.count(data["config"]) == 1 else f"{data['config']}_{language}",
            value=round(by_metric[task.metric], 2),
            dataset_revision=data["revision"],
            date=record.finished,
            notes=f"{task.metric}, 0-100; language {language}, split {data['split']}; {trained}",
        )
        for task, _, language, by_metric, data in found
    ]


# ---- front matter ---------------------------------------------------------------------------------------------------


def languages(record: Record) -> list[str] | None:
    """Return the languages trained on (also in text for masked LM) or measured, as the Hub spells them.

    Invented ones have no name there.
    """
    found = list(record.scores) or [*(record.trained_on or ()), *(record.text_languages or ())]
    codes = [re.split("[-_]", code)[0] for code in found]
    return [code for code in dict.fromkeys(codes) if not is_private_use(code)] or None


def metadata(record: Record, checkpoint: bool, parent: Parent) -> ModelCardData:
    """Return the card's front matter.

    Args:
        checkpoint: whether the folder holds weights.
        parent: the checkpoint that the run started from.
    """
    from huggingface_hub import ModelCardData

    results = eval_results(record)
    measured = {m.rpartition("/")[2] for by in (*record.scores.values(), *record.dev.values()) for m in by}
    measured |= set(record.measures or ())
    kind: dict[str, Any] = {}
    if checkpoint:
        kind = {"library_name": library(record), "pipeline_tag": pipeline_tag(record), **LICENCE}
    return ModelCardData(
        base_model=parent.base_model,
        datasets=sorted({*parent.datasets, *train_data(record)}) or None,
        language=languages(record),
        metrics=[metric for metric in METRICS if metric in measured] or None,
        tags=[TAG, record.phase],
        model_name=title(record, parent) if results else None,
        eval_results=results or None,
        **kind,
    )


def library(record: Record) -> str:
    """Return the library that loads the whole checkpoint: transformers does not apply pooling or prompts."""
    tasks = tasks_of(record)
    return "transformers" if not tasks or any(task.auto_class for task in tasks) else "sentence-transformers"


def task_of_head(record: Record) -> Task | None:
    """Return the task whose head is saved with the encoder; None of a mixture, and of pairs."""
    from tasks.text import Wikipedia  # here, as it imports numpy

    tasks, text = tasks_of(record), text_of(record)
    if record.phase == "mlm":
        return Wikipedia()
    return tasks[0] if len(tasks) == 1 and text is None and tasks[0].auto_class else None


def pipeline_tag(record: Record) -> str:
    """Return what the Hub calls the task of a checkpoint."""
    if head := task_of_head(record):
        return head.pipeline_tag
    return "feature-extraction" if library(record) == "transformers" else tasks_of(record)[0].pipeline_tag
