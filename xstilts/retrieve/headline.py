"""The headline layer: the layer whose scores are the result of a measurement."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.errors import UserError
from xstilts.retrieve import measure, pools
from xstilts.retrieve.measurement import Measurement
from xstilts.run import inputs

if TYPE_CHECKING:
    from tasks.base import Task
    from tasks.rows import Rows
    from xstilts.cli.arguments import DataArguments, RetrievalArguments
    from xstilts.retrieve.measure import Embed

logger = logging.getLogger("xstilts")


def best_layer(
    layers: Mapping[Any, Mapping[str, Mapping[str, float]]], languages: Sequence[str], metric: str
) -> tuple[int, float]:
    """Return (the layer with the best mean of `metric` over `languages`, that mean). Ties go to the lowest layer.

    Layer 0 is no candidate, unless it is alone: it has no context yet, and with frozen embeddings it is the same in
    all arms.

    Args:
        layers: {layer: {language: {metric: score}}}, as in results.json.

    Raises:
        UserError: there is no layer or no language, or a language has no such metric.
    """
    if not layers or not languages:
        raise UserError(
            "a layer cannot be chosen without scores by layer (give --layer all) and at least one language."
        )
    try:
        means = {
            int(layer): float(np.mean([scores[language][metric] for language in languages]))
            for layer, scores in layers.items()
        }
    except KeyError as error:
        raise UserError(
            f"a layer cannot be chosen on {metric} of {', '.join(languages)}: {error} is missing."
        ) from error
    candidates = {layer: mean for layer, mean in means.items() if layer > 0} or means
    return min(candidates.items(), key=lambda item: (-item[1], item[0]))


class Headline:
    """The choice of the layer whose scores are the result.

    It is --report_layer, or the last layer, or with --select_on the best layer on some languages of a retrieval task
    or on the dev split of a mining task. No task reports the languages that the layer was chosen on.

    Attributes:
        notes: how the layer was chosen, for results.json.
        records: provenance of the rows it was chosen on.
        requested: their (task, split) pairs.
        held_out: the languages it was chosen on.

    Raises:
        UserError: --report_layer is not a layer of the model; --select_on has another form, or names an unknown task
            or language; its rows are missing or broken.
    """

    def __init__(self, options: RetrievalArguments, data_args: DataArguments, layers: Sequence[int]) -> None:
        self.options = options
        self.notes: list[str] = []
        self.records: list[dict[str, Any]] = []
        self.requested: set[tuple[str, str]] = set()
        self.held_out: list[str] = []
        self.layer: int = layers[-1] if options.report_layer is None else options.report_layer
        if self.layer not in layers:
            raise UserError(f"--report_layer {self.layer}: layers {layers[0]} to {layers[-1]} are measured.")
        if options.select_on is None:
            return
        self.task, words = inputs.selection(options.select_on, data_args.benchmark)
        self.mined, rows = self.task.mines, inputs.open_rows(data_args)
        languages = inputs.choose_languages(self.task, rows, words, "--select_on")
        self.held_out = [] if self.mined else languages
        self.options = replace(options, center="none", csls=None, pairs="english")
        if options.index is not None and not self.mined:  # dev pools can be large; a language has a thousand sentences
            self.options = replace(self.options, index=None, nprobe=None, index_candidates=None)
            self.notes.append(f"--select_on {options.select_on}: searched exactly, without --index")
        limit = data_args.max_eval_samples
        self.examples = pools.read(self.task, rows, languages, self.options, limit, ("dev",), self.notes)
        self.records, self.requested = rows.records, rows.requested

    def reported(self, task: Task, rows: Rows, wanted: list[str]) -> tuple[list[str], list[str]]:
        """Return (the task's languages without those the layer is chosen on, notes on the languages left out).

        Raises:
            UserError: a language to leave out was named with --languages or belongs to the benchmark, or no other
                language is left.
        """
        notes: list[str] = []
        languages = inputs.choose_languages(task, rows, wanted, notes=notes)
        both = [language for language in languages if language in self.held_out]
        kept = [language for language in languages if language not in both]
        if both and (wanted or not rows.local or not kept):
            raise UserError(
                f"--select_on {self.options.select_on}: {', '.join(both)} would be reported too ({task.name}). "
                "Choose the layer on other languages, or name the languages to report with --languages."
            )
        return kept, notes + ([f"{', '.join(both)} left out: the layer was chosen on it"] if both else [])

    def choose(self, embed: Embed) -> int:
        """Return the layer. With --select_on this embeds and scores the rows it is chosen on."""
        if self.options.select_on is None:
            return self.layer
        task, languages = self.task, list(self.examples)
        curve: dict[int, dict[str, dict[str, float]]] = {}
        found = Measurement()
        if self.mined:
            for language, pools in self.examples.items():
                for layer, mined in measure.candidate_pairs(
                    pools["dev"], embed, self.options, f"{task.name} {language} dev", found
                ).items():
                    curve.setdefault(layer, {})[language] = {
                        task.metric: measure.dev_threshold(*mined, pools["dev"].gold)[1]
                    }
        else:
            curve = measure.measure(task, self.examples, embed, self.options).layers
        self.notes += found.notes
        self.layer, mean = best_layer(curve, languages, task.metric)
        self.notes.append(
            f"layer {self.layer} chosen on {task.name} {' '.join(languages)}{' dev' * self.mined}: mean {task.metric} "
            f"{mean:.2f}, the best above layer 0"
        )
        logger.info(self.notes[-1])
        return self.layer
