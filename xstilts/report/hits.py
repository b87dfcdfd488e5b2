"""hits.parquet beside a retrieval result: what each query was worth, read and checked against the result's scores."""

from dataclasses import dataclass

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from tasks.errors import UserError, first_line
from tasks.reading import open_file
from xstilts.report.matrix import Matrix
from xstilts.run.hits import COLUMNS, HITS

WIDE = {"int16": pa.int64(), "float32": pa.float64()}  # numbers of a file may have any width
_SCHEMA = pa.schema([pa.field(name, WIDE.get(kind, pa.string()), nullable=False) for name, kind in COLUMNS.items()])
VARIANTS = {
    name: "{}" if name == "plain" else f"{{}}_{name}"  # variant -> its metric in results.json
    for name in ("plain", "centered", "csls", "reverse", "without_english")
}


@dataclass(frozen=True)
class ReadOut:
    """Which vectors a score is of."""

    layer: int
    variant: str = "plain"

    def __str__(self) -> str:
        return f"layer {self.layer}" + ("" if self.variant == "plain" else f", {self.variant}")


class Hits:
    """The hits of one retrieval task, read when asked for."""

    def __init__(self, matrix: Matrix, task: str) -> None:
        self.matrix, self.task = matrix, task
        self._read: dict[tuple[str, int, ReadOut], dict[str, pd.Series]] = {}

    def of(self, arm: str, seed: int, readout: ReadOut) -> dict[str, pd.Series]:
        """Return {language: values in 0..1, by query id, sorted}; raises as `read`."""
        key = arm, seed, readout
        if key not in self._read:
            self._read[key] = self.read(*key)
        return self._read[key]

    def read(self, arm: str, seed: int, readout: ReadOut) -> dict[str, pd.Series]:
        """As `of`, from the file.

        Raises:
            UserError: it is missing, not such a file, names a query twice, or does not give the scores of the
                results.json beside it.
        """
        record = self.matrix.records[arm, self.task, seed]
        path = (self.matrix.root / self.matrix.paths[arm, self.task, seed]).with_name(HITS)
        name = path.relative_to(self.matrix.root)
        again = "delete its results.json and run that cell again"
        try:
            with open_file(path) as file:
                table = pq.read_table(
                    file,
                    columns=list(COLUMNS),
                    filters=[("layer", "==", readout.layer), ("variant", "==", readout.variant)],
                )
            frame = table.cast(_SCHEMA).to_pandas().sort_values(["language", "query"])  # a null is refused by the cast
        except FileNotFoundError:
            raise UserError(f"{name} is missing: {again}") from None
        except (OSError, ValueError, KeyError, MemoryError, pa.ArrowException) as error:
            raise UserError(f"{name} cannot be read ({first_line(error)}): {again}") from error
        if not frame["value"].between(0, 1).all():
            raise UserError(
                f"{name} holds {frame['value'][~frame['value'].between(0, 1)].iloc[0]}, expected values from 0 to 1: "
                f"{again}"
            )
        if frame.duplicated(["language", "query"]).any():
            language, query = frame.loc[frame.duplicated(["language", "query"]).idxmax(), ["language", "query"]]
            raise UserError(f"{name} has query {query} of {language} twice: {again}")
        scores = record.by_layer.get(readout.layer, {})
        metric = VARIANTS[readout.variant].format(record.metric)
        found = {}
        for language, group in frame.groupby("language"):
            found[language] = group.set_index("query")["value"].astype(float)
            score = scores.get(language, {}).get(metric)
            if score is None or not abs(100 * found[language].mean() - score) <= 1e-3:  # true for NaN, too
                raise UserError(
                    f"{name} gives {100 * found[language].mean():.2f} in {language} at {readout}, "
                    f"results.json says {score}: {again}"
                )
        return found
