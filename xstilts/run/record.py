"""results.json, schema 1: the one file a finished phase leaves for make, for the report and for whoever asks later.

It is written last and by rename, so that the file being there means the phase is done. `Record` says what it holds,
and checks it, whether it was made by a run or read from a file.

A run that failed leaves failed.json in place of it, see `xstilts.run.results.write_failure`; the next one that begins
removes that. Under make so does one that was refused before it began, and it leaves nothing else.

Beside a retrieval result whose score is a mean over queries (tatoeba, lareqa, mewslix) lies hits.parquet, one row for
each language, layer, variant and query, see `xstilts.retrieve.measurement.Measurement.hits_table`. BUCC has none:
its F1 is not such a mean.
"""

from __future__ import annotations

import dataclasses
import json
import math
import numbers
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from tasks.reading import read_object
from xstilts.cli import privacy
from xstilts.errors import UserError
from xstilts.run import checks
from xstilts.run.checks import Check, naming, short, shown
from xstilts.run.environment import command_line, versions
from xstilts.run.files import write_text

SCHEMA = 1
FILE_NAME = "results.json"
TRAININGS = ("mlm", "intermediate")  # phases 1 and 2
PHASES = (*TRAININGS, "target", "retrieval")

Scores = dict[str, dict[str, float]]  # {language: {metric: score from 0 to 100}}


class RunArguments(Protocol):
    """What a record takes from the arguments of its run."""

    arm: str | None
    seed: int
    output_dir: str


# ---- checks of single fields ----------------------------------------------------------------------------------------

# Settings that the report and a later run read back; the others are only shown.
_SETTINGS: dict[str, Check] = {
    "model": checks.text,
    "model_finished": checks.text_or_null,
    "seen_languages": checks.sequence_or_null,
    "text_languages": checks.sequence_or_null,
}


def _check_schema(value: Any, key: str) -> None:
    if value != SCHEMA:
        raise UserError(f"{key} is {short(value)}, this version reads {SCHEMA}; run that cell again.")
    checks.whole_number(value, key)


def _check_settings(settings: Any, key: str) -> None:
    checks.mapping(settings, key)
    for name, check in _SETTINGS.items():
        if name in settings:
            check(settings[name], f"{key}.{name}")
            if isinstance(settings[name], list):
                checks.texts(settings[name], f"{key}.{name}")
    if settings.get("model_finished") is not None and "model" not in settings:
        raise UserError(f"{key}.model is missing, whose training {key}.model_finished is the time of.")


def _check_layers(layers: Any, key: str) -> None:
    checks.mapping(layers, key)
    for layer, scores in layers.items():
        if not re.fullmatch("0|[1-9][0-9]{0,8}", str(layer)) or not isinstance(scores, Mapping):
            raise UserError(f"{key}.{short(layer)}: expected {{layer number: {{language: {{metric: score}}}}}}.")
        checks.score_table(scores, f"{key}.{layer}")


# ---- the record -----------------------------------------------------------------------------------------------------


def _required(check: Check) -> Any:
    return dataclasses.field(metadata={"check": check})


def _optional(check: Check) -> Any:
    """A field that a file may lack: None then."""
    return dataclasses.field(default=None, metadata={"check": check})


@dataclass(frozen=True, kw_only=True)
class Record:
    """What a finished phase leaves, one attribute for each key of results.json, in the file's order. Scores are 0-100.

    Nothing in it is to be changed. `dataclasses.replace` makes another, which is checked as well.

    Attributes:
        schema: 1.
        phase: mlm, intermediate, target or retrieval.
        task: name of the task; of a mixture, the names joined by "+".
        form: form of the task (sentence_pair, span, ...), or mlm, or mixture.
        arm: place in the matrix, with `seed`.
        model: checkpoint this phase started from.
        parents: checkpoints before it, oldest first; the plain model leads.
        metric: name of the main metric, one of those in scores.
        chance: {metric: score of guessing}, or None where there is no such thing.
        at_chance: whether the English dev score of a finished training is at chance.
        dev: {language: {metric: score}}, often {}.
        scores: {language: {metric: score}}; {} only in the phases mlm and intermediate.
        n: {language: rows scored}, for the languages of scores.
        mean: {metric: macro mean over languages}, see `mean`.
        settings: what was set, by argument name.
        data: [{id, config, split, rows, and revision or sha256}].
        versions: {library: version}, see `versions`.
        command: what was typed, see `command_line`.
        seconds: wall time of the phase.
        finished: time in UTC, ISO 8601.
        layer: retrieval only: k of hidden_states[k], 0 = embedding output.
        pooling: retrieval only: mean or cls.
        layers: {str(k): {language: {metric: score}}}, where several layers were scored.
        measures: {name: number} that are no scores: perplexity, tokens per second, language bias in ranks.
        notes: sentences for the reader of the report.

    Raises:
        UserError: naming the key that is of the wrong type, out of range, or at odds with another.
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
    settings: dict[str, Any] = _required(_check_settings)
    data: list[dict[str, Any]] = _required(checks.data)
    versions: dict[str, str] = _required(checks.text_values)
    command: str = _required(checks.text)
    seconds: float = _required(checks.seconds)
    finished: str = _required(checks.text)
    layer: int | None = _optional(checks.whole_number)
    pooling: str | None = _optional(checks.text)
    layers: dict[str, Scores] | None = _optional(_check_layers)
    measures: dict[str, float] | None = _optional(checks.finite_numbers)
    notes: list[str] | None = _optional(checks.texts)

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value is not None or field.default is dataclasses.MISSING:
                field.metadata["check"](value, field.name)
        if not self.is_training:
            self._check_main_metric(self.scores, "scores")
        self._check_mean_and_rows()
        if self.phase == "retrieval" or self.layers:
            self._check_layers()

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
        """Return the record of a phase that ends now, without places of local folders (`xstilts.cli.privacy`).

        Args:
            run: names the seed, the arm (of a training without one it is the task) and, in errors, the file.
            model: checkpoint the phase started from; its own record tells the parents.
            data: what was read, with repeats and files (`tasks.rows.Rows.records`).

        Raises:
            UserError: naming the file and the key that breaks a rule; or the checkpoint's record is spoilt.
        """
        values = {
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
        path = Path(run.output_dir, FILE_NAME)
        return cls.from_dict(privacy.public(completed(values, path)), path)

    @classmethod
    def read(cls, path: str | os.PathLike) -> Record:
        """Return the record in a file.

        Raises:
            UserError: naming the file, when it cannot be read (see `tasks.reading`), is of another schema, or breaks a
                rule.
        """
        return cls.from_dict(read_object(path, "; delete it and run its cell again.", _refuse_constant), path)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], path: str | os.PathLike) -> Record:
        """Return the record of a JSON object; raise UserError, naming `path` and the key, where it breaks a rule."""
        with naming(path):
            _check_keys(values)
            return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object, its keys in the same order for every record."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {key: value for key, value in values.items() if value is not None or key in _REQUIRED}

    def to_json(self) -> str:
        """Return the text of results.json.

        Raises:
            UserError: naming the key that cannot be JSON.
        """
        values = self.to_dict()
        for key, value in values.items():
            try:
                json.dumps(value, default=_number, allow_nan=False)
            except (TypeError, ValueError) as error:
                raise UserError(f"{key} cannot be JSON ({error}); give text, numbers, lists.") from error
        return json.dumps(values, default=_number, allow_nan=False, indent=1, ensure_ascii=False) + "\n"

    def write(self, path: str | os.PathLike) -> None:
        """Write results.json, whole or not at all.

        Raises:
            UserError: naming the file, and the key that cannot be JSON; or the folder that cannot be written.
        """
        with naming(path):
            text = self.to_json()
        write_text(path, text)

    # ---- what follows from it ---------------------------------------------------------------------------------------

    @property
    def is_training(self) -> bool:
        """Whether it is of phase 1 or 2, and so no cell of the matrix."""
        return self.phase in TRAININGS

    @property
    def by_layer(self) -> dict[int | None, Scores]:
        """{layer: {language: {metric: score}}}, the headline layer included; {None: scores} outside retrieval."""
        return {int(layer): scores for layer, scores in (self.layers or {}).items()} | {self.layer: self.scores}

    @property
    def trained_on(self) -> list[str] | None:
        """The languages that a training says it trained on, English first; None where it does not say."""
        if self.phase == "mlm":  # without a list it takes all the text there is
            languages = self.settings.get("text_languages") or ()
            return sorted(languages, key=lambda language: (language != "en", language)) or None
        if self.settings.get("seen_languages") is None:
            return None
        return [
            *([] if self.settings.get("language_mode") == "translated" else ["en"]),
            *self.settings["seen_languages"],
        ]

    # ---- checks of one field against another ------------------------------------------------------------------------

    def _check_mean_and_rows(self) -> None:
        expected = mean(self.scores)
        if set(expected) != set(self.mean) or any(abs(self.mean[m] - x) > 1e-6 for m, x in expected.items()):
            raise UserError(f"mean is {short(dict(self.mean))}, but scores give {short(expected)}.")
        if set(self.n) != set(self.scores):
            raise UserError(f"n has the languages {short(sorted(self.n))}, scores has {short(sorted(self.scores))}.")

    def _check_main_metric(self, scores: Scores, key: str) -> None:
        if not scores:
            raise UserError(f"{key} is empty, expected at least one language.")
        for language, by_metric in scores.items():
            if self.metric not in by_metric:
                raise UserError(f"{key}.{shown(language)} lacks the main metric {short(self.metric)}.")

    def _check_layers(self) -> None:
        missing = [key for key in ("layer", "pooling") if getattr(self, key) is None]
        if missing:
            raise UserError(f"missing {', '.join(missing)}, which every retrieval result has.")
        layers = {str(layer): scores for layer, scores in (self.layers or {}).items()}
        for layer, scores in layers.items():
            self._check_main_metric(scores, f"layers.{layer}")
            if set(scores) != set(self.scores):
                raise UserError(
                    f"layers.{layer} has the languages {short(sorted(scores))}, scores has "
                    f"{short(sorted(self.scores))}."
                )
        if not layers:
            return
        if str(self.layer) not in layers:
            raise UserError(f"layer is {self.layer}, not one of layers ({', '.join(layers)}).")
        for language, found in layers[str(self.layer)].items():
            if found != self.scores[language]:
                raise UserError(
                    f"scores.{shown(language)} is {short(dict(self.scores[language]))}, but layers.{self.layer}, the "
                    f"headline layer, has {short(dict(found))}."
                )


_REQUIRED = {field.name for field in dataclasses.fields(Record) if field.default is dataclasses.MISSING}


def _check_keys(values: Mapping[str, Any]) -> None:
    """Raise UserError unless these are the keys of a record."""
    fields = {field.name: field for field in dataclasses.fields(Record)}
    # Before all else: a file of another schema may rightly lack keys or have others.
    if "schema" in values:
        _check_schema(values["schema"], "schema")
    missing = [key for key in fields if key in _REQUIRED and key not in values]
    if "schema" in missing:
        raise UserError(
            f"missing {', '.join(missing)}: no result of these programs. If another one wrote it, move it elsewhere."
        )
    if missing:
        raise UserError(f"missing {', '.join(missing)}.")
    unknown = [short(key) for key in values if key not in fields]
    if unknown:
        raise UserError(f"unknown {', '.join(unknown[:5])}. Known: {', '.join(fields)}.")
    for key in fields.keys() - _REQUIRED:
        if key in values and values[key] is None:  # it would pass for a key that is not there
            fields[key].metadata["check"](None, key)


# ---- what follows from the run itself -------------------------------------------------------------------------------


def completed(values: Mapping[str, Any], path: str | os.PathLike) -> dict[str, Any]:
    """Return the values with `schema`, `mean`, `versions`, `command` and `finished` filled in where they are left out.

    Raises:
        UserError: `scores`, whose mean is taken, are spoilt; `path` is named.
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
    """Return the names of the checkpoints a model came from, oldest first, itself last: from its results.json, if it
    has one."""
    parents = Record.read(Path(model, FILE_NAME)).parents if is_there(model) else []
    return privacy.public([*parents, model])


def is_there(folder: str | os.PathLike) -> bool:
    """Whether anything is named results.json in `folder`, be it a folder or a pipe: `Record.read` then says what is
    wrong with it."""
    return os.path.lexists(Path(folder, FILE_NAME))


def unique(data: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return what was read, without repeats and without this machine's paths."""
    kept = {(r["id"], r["config"], r["split"]): {k: v for k, v in r.items() if k != "file"} for r in data}
    return list(kept.values())


def mean(scores: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Return {metric: macro mean over languages}, of the metrics that every language has; {} without languages.

    A language counts once whatever its number of rows, as in XTREME.
    """
    languages = list(scores.values())
    if not languages:
        return {}
    shared = [metric for metric in languages[0] if all(metric in language for language in languages)]
    return {metric: math.fsum(language[metric] for language in languages) / len(languages) for metric in shared}


def _number(value: Any) -> int | float:
    """Return a numpy scalar as Python's own number, for `json`."""
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value)
    raise TypeError(f"{value!r} is a {type(value).__name__}")


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number")
