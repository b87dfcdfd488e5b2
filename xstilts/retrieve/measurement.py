"""The result of a measurement: scores of every layer, and the files written beside results.json."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xstilts.run.files import write_bytes, write_text
from xstilts.run.hits import COLUMNS, HITS
from xstilts.run.predictions import write_lines

if TYPE_CHECKING:
    from tasks.base import Task
    from tasks.ranking import Ranking
    from tasks.retrieval import Tatoeba


@dataclass
class Measurement:
    """Scores of every layer, and the predictions and files of the headline layer.

    Attributes:
        headline: the layer whose scores are the result.
        layers: {layer: {language: {metric: 0-100}}}.
        measures: figures that are not scores from 0 to 100: {layer: {name: number}}.
        hits: (language, layer, variant, query ids, value of each query), see `hits_table`.
        n: {language: queries scored}.
        chance: {metric: score of a random choice, 0-100}.
        predictions: {language: (predictions, examples)} of the headline layer.
        files: other files beside the predictions: {name: text}.
    """

    headline: int | None = None
    layers: dict[int, dict[str, dict[str, float]]] = field(default_factory=dict)
    measures: dict[int, dict[str, float]] = field(default_factory=dict)
    hits: list[tuple[str, int, str, list[str], list[float]]] = field(default_factory=list)
    n: dict[str, int] = field(default_factory=dict)
    chance: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    predictions: dict[str, tuple[list, Any]] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)

    def add(self, layer: int, language: str, scores: dict[str, float], predictions: list, examples: Any) -> None:
        """Keep the scores of a language, and at the headline layer its predictions."""
        self.layers.setdefault(layer, {})[language] = scores
        if layer == self.headline:
            self.predictions[language] = predictions, examples

    def answer(
        self, task: Tatoeba | Ranking, layer: int, language: str, variant: str, predictions: list, examples: Any
    ) -> None:
        """Score and keep predictions: every metric of the plain variant, the main metric of the others.

        The plain variant of a language must come first.
        """
        if variant == "plain":
            self.add(layer, language, task.score(predictions, examples, language), predictions, examples)
        else:
            self.layers[layer][language][f"{task.metric}_{variant}"] = task.main_score(predictions, examples, language)
        self.hits.append((language, layer, variant, task.query_ids(examples), task.hits(predictions, examples)))

    def measured(self) -> dict[str, float]:
        """Return the headline layer's measures and, with several layers, those of each layer as layer<k>/<name>."""
        every = {f"layer{k}/{name}": value for k, by_name in self.measures.items() for name, value in by_name.items()}
        headline = {} if self.headline is None else self.measures.get(self.headline, {})
        return headline | (every if len(self.measures) > 1 else {})

    def write(self, folder: Path, task: Task) -> None:
        """Write the files beside results.json: predictions and candidates of the headline layer, hits of every layer.

        Raises:
            UserError: a file cannot be written.
        """
        for language, (predictions, examples) in self.predictions.items():
            write_lines(folder / "predictions", task, language, task.lines(predictions, examples))
        for name, text in self.files.items():
            write_text(folder / name, text)
        if self.hits:
            write_bytes(folder / HITS, self.hits_table())

    def hits_table(self) -> bytes:
        """Return the bytes of hits.parquet: one row for each language, layer, variant and query.

        100 times the mean value of a language, layer and variant is its score. Columns: `xstilts.run.hits`.
        """
        import pyarrow as pa
        import pyarrow.parquet

        schema = pa.schema([(name, pa.type_for_alias(kind)) for name, kind in COLUMNS.items()])
        parts = [
            pa.table(
                [[language] * len(values), [layer] * len(values), [variant] * len(values), queries, values],
                schema=schema,
            )
            for language, layer, variant, queries, values in self.hits
        ]
        file = io.BytesIO()
        pa.parquet.write_table(pa.concat_tables(parts), file)
        return file.getvalue()
