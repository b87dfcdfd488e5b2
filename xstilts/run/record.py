"""results.json, schema 1: the result of a finished phase, for make and for the report.

The file is written last and renamed into place, so its existence means that the phase is finished. `Record` defines
its contents and validates them, both in a run and when it reads a file.

A failed run writes failed.json instead (`xstilts.run.results.write_failure`); the next run in the folder removes it.
Under make, a run that is refused before it begins writes failed.json too.

A retrieval result whose score is a mean over queries has hits.parquet beside it, with one row per language, layer,
variant and query (`xstilts.run.hits`). Mining has none, because F1 is not a mean over queries.
"""

from __future__ import annotations

import dataclasses
import json
import numbers
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tasks.errors import UserError
from tasks.languages import normalize
from tasks.reading import read_object
from xstilts.cli import privacy
from xstilts.cli.arguments import RunArguments
from xstilts.run import checks, consistency, rehearsal
from xstilts.run.checks import Check, naming, short
from xstilts.run.consistency import mean
from xstilts.run.environment import command_line, versions
from xstilts.run.files import write_text

SCHEMA = 1
FILE_NAME = "results.json"
TRAININGS = ("mlm", "intermediate")  # phases 1 and 2
PHASES = (*TRAININGS, "target", "retrieval")

Scores = dict[str, dict[str, float]]  # {language: {metric: score from 0 to 100}}


def _check_schema(value: Any, key: str) -> None:
    if value != SCHEMA:
        raise UserError(f"{key} is {short(value)}, this version reads {SCHEMA}; run that cell again.")
    checks.whole_number(value, key)


def _required(check: Check) -> Any:
    return dataclasses.field(metadata={"check": check})


def _optional(check: Check) -> Any:
    """Return a field that is None if the file lacks it."""
    return dataclasses.field(default=None, metadata={"check": check})


@dataclass(frozen=True, kw_only=True)
class Record:
    """The result of a finished phase: one attribute per key of results.json, in the file's order. Scores are 0-100.

    Change a record with `dataclasses.replace`, which validates the new one.

    Attributes:
        schema: 1.
        phase: mlm, intermediate, target or retrieval.
        task: name of the task; of a mixture, the names joined by "+".
        form: form of the task (sentence_pair, span, ...), or mlm, or mixture.
        arm: the arm; arm and seed are the place in the matrix.
        model: checkpoint this phase started from.
        parents: the checkpoints before it, oldest first; the first one is the plain model.
        metric: name of the main metric, one of those in scores.
        chance: {metric: score of guessing}; None if the phase has none.
        at_chance: whether the English dev score of a finished training is at chance.
        dev: {language: {metric: score}}, often {}.
        scores: {language: {metric: score}}; {} only in the phases mlm and intermediate.
        n: {language: rows scored}, for the languages of scores.
        mean: {metric: macro mean over languages}, see `mean`.
        settings: {argument: value}.
        data: [{id, config, split, rows, and revision or sha256}].
        versions: {library: version}, see `versions`.
        command: the command, see `command_line`.
        seconds: wall time of training or measuring and scoring, without loading; of a resumed run, since it resumed.
        finished: time in UTC, ISO 8601.
        layer: retrieval only: k of hidden_states[k], 0 = embedding output.
        pooling: retrieval only: mean or cls.
        layers: {str(k): {language: {metric: score}}}, if several layers were scored.
        measures: {name: number} of what is not a score: perplexity, tokens per second, language bias in ranks.
        notes: sentences for the reader of the report.

    Raises:
        UserError: a key has the wrong type, is out of range, or contradicts another. Names the key.
    """

    schema: int = _required(_check_schema)
    phase: str = _required(checks.one_of(*PHASES))
    task: str = _required(checks.text)
    form: str = _required(checks.text)
    arm: str = _required(checks.text)
    seed: int = _required(checks.whole_number)
    model: str = _required(checks.text)
    parents: list[str] = _required(checks.texts)
    metric: str = _required(checks.text)
    chance: dict[str, float] | None = _required(checks.scores_or_null)
    at_chance: bool = _required(checks.true_or_false)
    dev: Scores = _required(checks.score_table)
    scores: Scores = _required(checks.score_table)
    n: dict[str, int] = _required(checks.row_counts)
    mean: dict[str, float] = _required(checks.scores)
    settings: dict[str, Any] = _required(checks.settings)
    data: list[dict[str, Any]] = _required(checks.data)
    versions: dict[str, str] = _required(checks.text_values)
    command: str = _required(checks.text)
    seconds: float = _required(checks.seconds)
    finished: str = _required(checks.text)
    layer: int | None = _optional(checks.whole_number)
    pooling: str | None = _optional(checks.text)
    layers: dict[str, Scores] | None = _optional(checks.layers)
    measures: dict[str, float] | None = _optional(checks.finite_numbers)
    notes: list[str] | None = _optional(checks.texts)

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value is not None or field.default is dataclasses.MISSING:
                field.metadata["check"](value, field.name)
        if not self.is_training:
            consistency.check_main_metric(self, self.scores, "scores")
        consistency.check_mean_and_rows(self)
        if self.phase == "retrieval" or self.layers:
            consistency.check_layers(self)

    # ---- reading and writing ----------------------------------------------------------------------------------------

    @classmethod
    def new(
        cls,
        run: RunArguments,
        *,
        phase: str,
        task: str,
        form: str,
        model: str,
        metric: str,
        settings: Mapping[str, Any],
        data: Sequence[Mapping[str, Any]],
        seconds: float,
        scores: Scores | None = None,
        n: Mapping[str, int] | None = None,
        dev: Scores | None = None,
        chance: Mapping[str, float] | None = None,
        at_chance: bool = False,
        measures: Mapping[str, float] | None = None,
        notes: Sequence[str] = (),
        layer: int | None = None,
        pooling: str | None = None,
        layers: Mapping[int, Scores] | None = None,
    ) -> Record:
        """Return the record of a phase that ends now, without paths of local folders (`xstilts.cli.privacy`).

        Args:
            run: gives the seed, the arm (default for a training: the task) and the file named in errors.
            model: checkpoint the phase started from; its own record gives the parents.

        Raises:
            UserError: a value is invalid (names file and key), or the checkpoint's record is damaged.
        """
        values: dict[str, Any] = {
            "phase": phase,
            "task": task,
            "form": form,
            "arm": run.arm or (task if phase in TRAININGS else None),
            "seed": run.seed,
            "model": model,
            "parents": chain(model),
            "metric": metric,
            "chance": chance,
            "at_chance": at_chance,
            "dev": dev or {},
            "scores": scores or {},
            "n": n or {},
            "settings": settings,
            "data": unique(data),
            "seconds": round(seconds, 1),
            "notes": list(notes),
        }
        optional = {
            "layer": layer,
            "pooling": pooling,
            "measures": measures,
            "layers": None if layers is None else {str(k): by_language for k, by_language in layers.items()},
        }
        values |= {key: value for key, value in optional.items() if value is not None}
        path = Path(str(run.output_dir), FILE_NAME)
        return cls.from_dict(privacy.public(completed(values, path)), path)

    @classmethod
    def read(cls, path: str | os.PathLike) -> Record:
        """Return the record in a file.

        Raises:
            UserError: the file cannot be read (see `tasks.reading`), has another schema, or is invalid. Names the
                file.
        """
        return cls.from_dict(read_object(path, "; delete it and run its cell again.", _refuse_constant), path)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], path: str | os.PathLike) -> Record:
        """Return the record of a JSON object; raise UserError, naming `path` and the key, if it is invalid."""
        with naming(path):
            _check_keys(values)
            return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object, with keys in a fixed order."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {key: value for key, value in values.items() if value is not None or key in _REQUIRED}

    def to_json(self) -> str:
        """Return the text of results.json.

        Raises:
            UserError: a value cannot be written as JSON. Names the key.
        """
        values = self.to_dict()
        for key, value in values.items():
            try:
                json.dumps(value, default=_number, allow_nan=False)
            except (TypeError, ValueError) as error:
                raise UserError(f"{key} cannot be written as JSON ({error}); give text, numbers, lists.") from error
        return json.dumps(values, default=_number, allow_nan=False, indent=1, ensure_ascii=False) + "\n"

    def write(self, path: str | os.PathLike) -> None:
        """Write results.json under a temporary name and rename it.

        Raises:
            UserError: a value cannot be written as JSON (names file and key), or the folder cannot be written.
        """
        with naming(path):
            text = self.to_json()
        write_text(path, text)

    # ---- derived values ---------------------------------------------------------------------------------------------

    @property
    def is_training(self) -> bool:
        """Whether the phase is 1 or 2; such a record is not a cell of the matrix."""
        return self.phase in TRAININGS

    @property
    def failed(self) -> bool:
        """Whether a training's English dev score is at chance, though its labels were not shuffled."""
        return self.at_chance and not self.settings.get("shuffle_labels")

    @property
    def is_rehearsal(self) -> bool:
        """Whether the run was a training cut short to try it, see `rehearsal.is_rehearsal`."""
        return rehearsal.is_rehearsal(self.settings, (self.measures or {}).get("steps", rehearsal.STEPS))

    @property
    def by_layer(self) -> dict[int | None, Scores]:
        """{layer: {language: {metric: score}}}, the headline layer included; {None: scores} outside retrieval."""
        return {int(layer): scores for layer, scores in (self.layers or {}).items()} | {self.layer: self.scores}

    @property
    def trained_on(self) -> list[str] | None:
        """The languages that a training had rows of its task in, English first; None if the record does not name them.

        Of masked LM alone these are the languages of its text.
        """
        if self.phase == "mlm":
            return self.text_languages
        if self.settings.get("seen_languages") is None:
            return None
        return [
            *([] if self.settings.get("language_mode") == "translated" else ["en"]),
            *self.settings["seen_languages"],
        ]

    @property
    def text_languages(self) -> list[str] | None:
        """The languages of the text for masked LM, English first; None without such text, or if the record does not
        name them: without a list it is in all languages that there are."""
        found = self.settings.get("text_languages") or ()
        if self.phase != "mlm":  # beside a task, where they are as the user typed them
            given = (found or self.settings.get("train_languages") or ()) if self.settings.get("mlm_rate") else ()
            found = {normalize(code) for code in given}
        return sorted(found, key=lambda code: (code != "en", code)) or None


_REQUIRED = {field.name for field in dataclasses.fields(Record) if field.default is dataclasses.MISSING}


def _check_keys(values: Mapping[str, Any]) -> None:
    """Raise UserError if keys are missing or unknown."""
    fields = {field.name: field for field in dataclasses.fields(Record)}
    # First of all: a file of another schema may have other keys.
    if "schema" in values:
        _check_schema(values["schema"], "schema")
    missing = [key for key in fields if key in _REQUIRED and key not in values]
    if "schema" in missing:
        raise UserError(f"missing {', '.join(missing)}: X-STILTs did not write this file. Move it elsewhere.")
    if missing:
        raise UserError(f"missing {', '.join(missing)}.")
    unknown = [short(key) for key in values if key not in fields]
    if unknown:
        raise UserError(f"unknown {', '.join(unknown[:5])}. Known: {', '.join(fields)}.")
    for key in fields.keys() - _REQUIRED:
        if key in values and values[key] is None:  # would count as a missing key
            fields[key].metadata["check"](None, key)


# ---- values that a run fills in -------------------------------------------------------------------------------------


def completed(values: Mapping[str, Any], path: str | os.PathLike) -> dict[str, Any]:
    """Return the values, with `schema`, `mean`, `versions`, `command` and `finished` filled in if missing.

    Raises:
        UserError: `scores` are invalid, so they have no mean. Names `path`.
    """
    values = {
        "schema": SCHEMA,
        "versions": versions(),
        "command": command_line(),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        **values,
    }
    if "mean" not in values and "scores" in values:
        with naming(path):
            checks.score_table(values["scores"], "scores")
        values["mean"] = mean(values["scores"])
    return values


def chain(model: str | os.PathLike) -> list[str]:
    """Return a model's ancestors from its results.json, if it has one, oldest first; then the model itself."""
    parents = Record.read(Path(model, FILE_NAME)).parents if is_there(model) else []
    return privacy.public([*parents, model])


def is_there(folder: str | os.PathLike) -> bool:
    """Return whether anything in `folder` is named results.json, even a folder or pipe, which `Record.read`
    refuses."""
    return os.path.lexists(Path(folder, FILE_NAME))


def without_uses(data: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return data records without what their rows were read for, to compare them with those of earlier versions."""
    left_out = ("file", "first", "order", "used_as")
    return [{name: value for name, value in entry.items() if name not in left_out} for entry in data]


def unique(data: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the data records without repeats and local paths. What repeats were used for is joined."""
    kept: dict[tuple[str, ...], dict[str, Any]] = {}
    for entry in data:
        key = entry["id"], entry["config"], entry["split"]
        used = [*kept.get(key, {}).get("used_as", ()), *entry.get("used_as", ())]
        kept[key] = {name: value for name, value in entry.items() if name != "file"}
        kept[key] |= {"used_as": list(dict.fromkeys(used))} if used else {}
    return list(kept.values())


def _number(value: Any) -> int | float:
    """Return a numpy scalar as Python's own number, for `json`."""
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value)
    raise TypeError(f"{value!r} is a {type(value).__name__}")


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number")
