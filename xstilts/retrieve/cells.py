"""The runs of a measurement: each task has a folder of its own, with its own results.json."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accelerate import PartialState

from tasks.base import Task
from tasks.errors import UserError
from xstilts.cli import logs, unused
from xstilts.cli.arguments import (
    MEASURED_LENGTH,
    DataArguments,
    MeasurementArguments,
    ModelArguments,
    RetrievalArguments,
)
from xstilts.retrieve import measure, pools
from xstilts.run import consistency, inputs, leakage, processes
from xstilts.run.lifecycle import Run
from xstilts.run.settings import parent

if TYPE_CHECKING:
    from xstilts.retrieve.embedding import Encoder
    from xstilts.retrieve.encoder_folder import EncoderFolder
    from xstilts.retrieve.headline import Headline

logger = logging.getLogger("xstilts")
UNIFORM = "with --pooling cls every text has the same vector in layer 0, that of the first token before any layer"


@dataclass(frozen=True)
class Cell:
    """A task to measure.

    Attributes:
        run: its `rows` are those that `examples` were read from.
        examples: as `pools.read` returns them.
        notes: sentences for results.json.
    """

    task: Task
    run: Run
    examples: Mapping[str, Any]
    notes: list[str]


def settings_of(
    retrieval: RetrievalArguments, model_args: ModelArguments, data_args: DataArguments, prompts: Mapping[str, str]
) -> dict[str, Any]:
    """Return the settings of a measurement, for run.json and results.json.

    Raises:
        UserError: the checkpoint's results.json is damaged.
    """
    name = str(model_args.model_name_or_path)
    settings = {"model": name, **parent(name, model_args.model_revision), **vars(retrieval), **vars(data_args)}
    settings |= {key: value for key, value in model_args.settings().items() if key == "attn_implementation"}
    for key in ("cache_dir", "tasks", "export_sentence_transformers"):
        settings.pop(key)
    if retrieval.pairs == "english":
        settings.pop("pairs")  # older versions lack it
    return settings | {f"{side}_prompt": text for side, text in prompts.items() if text}


def encoder_to_measure(retrieval: RetrievalArguments, model_args: ModelArguments, data_args: DataArguments) -> Encoder:
    """Return the encoder to measure. Layer 0 is left out where it has one vector for all texts.

    All ranks call this together.

    Raises:
        UserError: see `Encoder.load`; only layer 0, or the headline layer, would be left out; or --dtype auto chose
            another precision here than on rank 0.
    """
    from xstilts.retrieve.embedding import Encoder

    encoder = Encoder.load(
        str(model_args.model_name_or_path),
        layers=int(retrieval.layer) if retrieval.layer.isdecimal() else retrieval.layer,
        pooling=retrieval.pooling or "mean",
        include_special=retrieval.include_special,
        max_length=data_args.max_seq_length or MEASURED_LENGTH,
        dtype=retrieval.dtype,
        **model_args.loading,
    )
    if 0 in encoder.layers and encoder.starts_alike:
        if encoder.layers == [0] or retrieval.report_layer == 0:
            flag = "--layer" if encoder.layers == [0] else "--report_layer"
            raise UserError(f"{flag} 0: {UNIFORM}. Give {flag} 1 or higher, or --pooling mean.")
        encoder.layers = encoder.layers[1:]
    if encoder.dtype != (first := processes.broadcast(encoder.dtype)):
        raise UserError(
            f"--dtype auto chose {encoder.dtype} in this process and {first} in process 0, because their machines "
            "differ. Give --dtype fp32, or --dtype bf16."
        )
    if encoder.dtype_note:
        logger.log(logging.INFO if retrieval.dtype == "auto" else logging.WARNING, encoder.dtype_note)
    return encoder


@contextlib.contextmanager
def open_runs(
    tasks: Sequence[Task], settings: dict[str, Any], run_args: MeasurementArguments
) -> Iterator[list[tuple[Task, Run]]]:
    """Yield (task, its open run) for every task that is not finished. All ranks call this together.

    Args:
        tasks: in a fixed order: with different orders two processes would wait for each other's locks.

    Raises:
        UserError: see `inputs.check_run` and `Run.open`.
    """
    one = replace(run_args, push_to_hub=False, hub_model_id=None, hub_private_repo=False)  # pushed together at the end
    cells = [replace(one, output_dir=str(Path(str(run_args.output_dir), task.name))) for task in tasks]
    for cell in cells:
        inputs.check_run(cell)
    with ExitStack() as stack:
        runs = [stack.enter_context(Run.open(cell, settings, trains=False)) for cell in cells]
        yield [(task, run) for task, run in zip(tasks, runs, strict=True) if not run.finished]


def read(
    opened: Sequence[tuple[Task, Run]],
    headline: Headline,
    retrieval: RetrievalArguments,
    model_args: ModelArguments,
    data_args: DataArguments,
    encoder: Encoder,
    own: EncoderFolder,
) -> list[Cell]:
    """Read every row that will be embedded, and check that it can be searched. All ranks call this together.

    Args:
        own: what the checkpoint says of its vectors.

    Raises:
        UserError: see `Headline.reported`, `pools.read` and `pools.check_index`.
    """
    work = []
    of_vectors = own.notes(retrieval, encoder.layers[-1], encoder.max_length)
    if retrieval.layer == "all" and 0 not in encoder.layers:
        of_vectors.append(f"layer 0 left out: {UNIFORM}")
    if not opened and processes.is_first():  # an export alone
        for text in of_vectors:
            logger.info(text)
    for task, run in opened:
        rows = inputs.open_rows(data_args)
        languages, notes = headline.reported(task, rows, data_args.languages)
        notes += of_vectors + unused.of_model(model_args) + unused.of_measurement(task, retrieval, data_args)
        examples = pools.read(task, rows, languages, retrieval, data_args.max_eval_samples, notes=notes)
        pools.check_index(task, examples, retrieval, encoder.model.config.hidden_size)
        notes += pools.smaller_pools(task, examples)
        notes += leakage.check_rows(rows, str(encoder.checkpoint))
        rows.requested |= headline.requested
        run.rows = rows
        work.append(Cell(task, run, examples, notes))
    if processes.world_size() > 1:
        PartialState().wait_for_everyone()
    for cell in work:
        cell.run.checked = True
    return work


def measure_cell(
    cell: Cell,
    embed: measure.Prompted,
    layer: int,
    encoder: Encoder,
    headline: Headline,
    retrieval: RetrievalArguments,
) -> None:
    """Measure a task; write its files, results.json last; log its scores.

    Args:
        layer: the headline layer.

    Raises:
        UserError: a search fails, or a file cannot be written.
    """
    task = cell.task
    unused.log(cell.notes, cell.run.rows)
    cell.run.begin()
    encoder.longer.clear()
    measured = measure.measure(task, cell.examples, embed, retrieval, layer)
    measured.write(cell.run.folder, task)
    scores = measured.layers[layer]
    notes = headline.notes + cell.notes + measured.notes + ([encoder.dtype_note] if encoder.dtype_note else [])
    if encoder.longer:
        notes.append(f"{len(encoder.longer)} texts are longer than {encoder.max_length} tokens and were cut there")
    record = cell.run.record(
        phase="retrieval",
        task=task.name,
        form=task.form,
        model=str(encoder.checkpoint),
        metric=task.metric,
        chance=measured.chance,
        scores=scores,
        n=measured.n,
        layer=layer,
        pooling=retrieval.pooling,
        layers=measured.layers if len(encoder.layers) > 1 else None,
        data=cell.run.rows.records + headline.records,
        measures=measured.measured() if measured.measures else None,
        notes=list(dict.fromkeys(notes)),  # the pools that the layer was chosen on may be measured, too
        settings={"dtype": encoder.dtype},  # what "auto" chose
    )
    for language, by_metric in scores.items():
        logger.info("%s layer %s: %s", logs.named(f"{task.name} {language}"), layer, measure.show(by_metric))
    mean = measure.show(consistency.mean(scores) | measured.measures.get(layer, {}))
    logger.info("%s: %s", logs.named(f"{task.name} mean"), mean)
    cell.run.finish(record, checkpoint=False)
