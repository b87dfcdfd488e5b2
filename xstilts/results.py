"""results.json: the one file a finished phase leaves for make, for the report and for whoever asks later.

It is written last and by rename, so that the file being there means the phase is done. Scores are 0-100 everywhere.

    schema     1
    phase      mlm | intermediate | target | retrieval
    task       name of the task; of a mixture, the names joined by "+"
    form       form of the task (sentence_pair, span, ...), or mlm, or mixture
    arm, seed  the place in the matrix
    model      checkpoint this phase started from
    parents    checkpoints before it, oldest first; the plain model leads
    metric     name of the main metric, one of those in scores
    chance     {metric: score of guessing}, or null where there is no such thing
    at_chance  true when the English dev score of a finished training is at chance
    dev        {language: {metric: score}}, often {}
    scores     {language: {metric: score}}; {} only in the phases mlm and intermediate
    n          {language: rows scored}, for the languages of scores
    mean       {metric: macro mean over languages}, see `mean`
    settings   what was set, by argument name
    data       [{id, config, split, rows, and revision or sha256}]
    versions   {library: version}, see `versions`
    command    what was typed, see `command_line`
    seconds    wall time of the phase
    finished   time in UTC, ISO 8601

Retrieval has also

    layer      k of hidden_states[k], 0 = embedding output
    pooling    mean | cls
    layers     {k: {language: {metric: score}}}, where several layers were scored

and any phase may have

    measures   {name: number} that are no scores: perplexity, tokens per second, language bias in ranks
    notes      [sentence] for the reader of the report

A run that failed leaves failed.json in place of it, see `write_failure`; the next one that begins removes that. Under
make so does one that was refused before it began, and it leaves nothing else.

Beside a retrieval result whose score is a mean over queries (tatoeba, lareqa, mewslix) lies hits.parquet, one row for
each language, layer, variant and query, see `xstilts.measure.Found.hits_table`. BUCC has none: F1 is no such mean.
"""

import hashlib
import importlib.metadata
import json
import math
import numbers
import os
import platform
import re
import reprlib
import shlex
import sys
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tasks.reading import read_object
from xstilts import privacy
from xstilts.errors import UserError
from xstilts.listing import Listing, look

SCHEMA = 1
FILE_NAME = "results.json"
FAILED = "failed.json"
PHASES = ("mlm", "intermediate", "target", "retrieval")

_REQUIRED: dict[str, type | tuple[type, ...]] = {
    "schema": numbers.Integral,
    "phase": str,
    "task": str,
    "form": str,
    "arm": str,
    "seed": numbers.Integral,
    "model": str,
    "parents": list,
    "metric": str,
    "chance": (Mapping, type(None)),
    "at_chance": bool,
    "dev": Mapping,
    "scores": Mapping,
    "n": Mapping,
    "mean": Mapping,
    "settings": Mapping,
    "data": list,
    "versions": Mapping,
    "command": str,
    "seconds": numbers.Real,
    "finished": str,
}
_OPTIONAL: dict[str, type | tuple[type, ...]] = {
    "layer": numbers.Integral,
    "pooling": str,
    "layers": Mapping,
    "measures": Mapping,
    "notes": list,
}
_KEYS = _REQUIRED | _OPTIONAL
_LIBRARIES = (
    "torch transformers datasets evaluate accelerate peft sentence-transformers faiss-cpu huggingface_hub tokenizers "
    "safetensors numpy pandas pyarrow scipy scikit-learn seqeval sentencepiece"
).split()
# Settings that the report and a later run read back -> what they may hold; the others are only shown.
_SETTINGS: dict[str, type | tuple[type, ...]] = {
    "model": str,
    "model_finished": (str, type(None)),
    "seen_languages": (list, type(None)),
    "text_languages": (list, type(None)),
}
_LARGEST = 2**63 - 1  # of a whole number: tables keep them in 64 bits
_LONGEST = 1000  # characters shown of a cause
_repr = reprlib.Repr()
_repr.maxstring = _repr.maxother = _repr.maxlong = 80


def write(path: str | os.PathLike, result: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the record as written to `path`.

    `schema`, `mean`, `versions`, `command` and `finished` follow from the run itself and are filled in where the
    caller leaves them out. The file appears whole or not at all: a temporary name in the same folder, renamed last.

    Raises:
        UserError: naming the key that is missing, unknown, of the wrong type or out of range; or the folder that
            cannot be written.
    """
    path = Path(path)
    record = dict(result)
    record.setdefault("schema", SCHEMA)
    if isinstance(record.get("scores"), Mapping):
        _check_scores(record["scores"], f"{path}: scores")
        record.setdefault("mean", mean(record["scores"]))
    record.setdefault("versions", versions())
    record.setdefault("command", command_line())
    record.setdefault("finished", datetime.now(UTC).isoformat(timespec="seconds"))
    _check(record, str(path))
    record = {key: record[key] for key in _KEYS if key in record}  # the same order in every file, for diffs
    for key, value in record.items():
        try:
            json.dumps(value, default=_number, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise UserError(f"{path}: {key} cannot be JSON ({error}); give text, numbers, lists.") from error
    text = json.dumps(record, default=_number, allow_nan=False, indent=1, ensure_ascii=False) + "\n"
    write_text(path, text)
    return json.loads(text)


def read(path: str | os.PathLike) -> dict[str, Any]:
    """Returns the record in `path`, checked as strictly as on writing.

    Raises:
        UserError: naming the file, when it cannot be read (see `tasks.reading`), is of another schema, or breaks a rule.
    """
    record = read_object(path, "; delete it and run its cell again.", _refuse_constant)
    _check(record, str(path))
    return record


def is_there(folder: str | os.PathLike) -> bool:
    """Whether anything is named results.json in `folder`, be it a folder or a pipe: `read` then says what is wrong with it."""
    return os.path.lexists(Path(folder, FILE_NAME))


def paths(below: Listing | str | os.PathLike) -> list[Path]:
    """Returns every results.json below a folder, sorted. Checkpoints of a training under way are not looked into.

    Raises:
        UserError: it is no folder.
    """
    return listing(below).named(FILE_NAME)


def listing(root: Listing | str | os.PathLike) -> Listing:
    """Returns what lies below a folder of runs, see `xstilts.listing`.

    Raises:
        UserError: it is no folder.
    """
    if isinstance(root, Listing):
        return root
    if not Path(root).is_dir():
        raise UserError(f"{root} is not a folder. Give the folder that holds <arm>/seed<k>/.../{FILE_NAME}.")
    return look(root)


def read_note(path: str | os.PathLike, otherwise: str) -> dict[str, Any]:
    """Returns the JSON object in a file that these programs wrote for themselves.

    Raises:
        UserError: it is damaged; `otherwise` ends the sentence.
    """
    return read_object(path, f", {otherwise}")


def trained_on(record: Mapping[str, Any]) -> list[str] | None:
    """Returns the languages that a training's result says it trained on, English first; None where it does not say."""
    settings = record["settings"]
    if record["phase"] == "mlm":  # without a list it takes all the text there is
        return sorted(settings.get("text_languages") or (), key=lambda language: (language != "en", language)) or None
    if settings.get("seen_languages") is None:
        return None
    return [*([] if settings.get("language_mode") == "translated" else ["en"]), *settings["seen_languages"]]


def write_failure(folder: str | os.PathLike, cause: str, checkpoint: str | None) -> None:
    """Writes failed.json into `folder`: what stopped its run, and the last good checkpoint.

    Raises:
        UserError: it cannot be written.
    """
    record = {"cause": privacy.hide(cause), "checkpoint": checkpoint, "time": datetime.now(UTC).isoformat(timespec="seconds")}
    write_text(Path(folder, FAILED), json.dumps(record, indent=1) + "\n")


def failures(below: Listing | str | os.PathLike) -> dict[str, str]:
    """{folder below a folder of runs: why its run failed}, of the runs that failed and have no result."""
    below, found = listing(below), {}
    for path in below.named(FAILED):
        if not is_there(path.parent):
            try:
                cause = str(read_note(path, "so the cause is not known").get("cause", f"{FAILED} names no cause"))
            except UserError as error:
                cause = str(error)
            found[str(path.parent.relative_to(below.root))] = " ".join(cause[:_LONGEST].split())
    return found


def unfinished(below: Listing | str | os.PathLike) -> list[str]:
    """The folders below a folder of runs of trainings that were begun and neither finished nor failed by themselves."""
    below = listing(below)
    begun = (path.parent for path in below.named("run.json"))
    return [str(folder.relative_to(below.root)) for folder in begun if not is_there(folder) and not os.path.lexists(folder / FAILED)]


def mean(scores: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Returns {metric: macro mean over languages}, of the metrics that every language has; {} without languages.

    A language counts once whatever its number of rows, as in XTREME.
    """
    languages = list(scores.values())
    if not languages:
        return {}
    shared = [metric for metric in languages[0] if all(metric in language for language in languages)]
    return {metric: math.fsum(language[metric] for language in languages) / len(languages) for metric in shared}


def versions() -> dict[str, str]:
    """Returns {"python": ..., library: installed version}; a library that is not installed is left out."""
    found = {"python": platform.python_version()}
    for library in _LIBRARIES:
        try:
            found[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def file_sha256(path: str | os.PathLike) -> str:
    """Returns the SHA-256 of the file's bytes, 64 hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def command_line(argv: list[str] | None = None) -> str:
    """Returns the command that runs now, quoted for a shell, without access tokens and places of local folders (`privacy`).

    Args:
        argv: in place of `sys.argv`.
    """
    argv = list(sys.argv if argv is None else argv)
    script = os.path.relpath(argv[0]) if argv else ""
    # A script elsewhere is named by its file alone: the folders above it say more about the machine than the run.
    words = ["python", os.path.basename(script) if script.startswith("..") else script]
    return shlex.join(words + privacy.public(privacy.hide_words(argv[1:])))


def write_text(path: str | os.PathLike, text: str) -> None:
    """Writes `text` as UTF-8 so that `path` is either as it was or whole; makes the folder.

    Bytes of a file's name that are not UTF-8 are written as escapes.

    Raises:
        UserError: when the folder or file cannot be written.
    """
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


def write_bytes(path: str | os.PathLike, content: bytes) -> None:
    """As `write_text`, for bytes."""
    path = Path(path)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        obey_umask(temporary)
        os.replace(temporary, path)
    except OSError as error:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        raise UserError(f"{path} cannot be written ({error.strerror}). Choose another --output_dir.") from error


def obey_umask(*paths: str | os.PathLike) -> None:
    """Gives files the mode that the umask asks for: mkstemp and safetensors make files that only their owner can read."""
    umask = os.umask(0)
    os.umask(umask)
    for path in paths:
        os.chmod(path, 0o666 & ~umask)


def _number(value: Any) -> int | float:
    """Returns a numpy scalar as Python's own number, for `json`."""
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value)
    raise TypeError(f"{value!r} is a {type(value).__name__}")


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number")


def _check(record: Mapping[str, Any], where: str) -> None:
    """Raises UserError, naming `where` and the key, unless the record keeps every rule of the module's docstring."""
    # Before all else: a file of another schema may rightly lack keys or have others.
    if "schema" in record and record["schema"] != SCHEMA:
        raise UserError(f"{where}: schema is {_short(record['schema'])}, this version reads {SCHEMA}; run that cell again.")
    missing = [key for key in _REQUIRED if key not in record]
    if "schema" in missing:
        raise UserError(f"{where}: missing {', '.join(missing)}: no result of these programs. If another one wrote it, move it elsewhere.")
    if missing:
        raise UserError(f"{where}: missing {', '.join(missing)}.")
    unknown = [_short(key) for key in record if key not in _KEYS]
    if unknown:
        raise UserError(f"{where}: unknown {', '.join(unknown[:5])}. Known: {', '.join(_KEYS)}.")
    for key, value in record.items():
        _check_type(value, _KEYS[key], f"{where}: {key}")
    if record["phase"] not in PHASES:
        raise UserError(f"{where}: phase is {_short(record['phase'])}, expected one of {', '.join(PHASES)}.")
    if not _is_finite(record["seconds"]) or record["seconds"] < 0:
        raise UserError(f"{where}: seconds is {_short(record['seconds'])}, expected a finite number from 0.")
    for key in ("parents", "notes"):
        _check_texts(record.get(key), f"{where}: {key}")
    _check_texts(list(record["versions"].values()), f"{where}: versions")
    _check_all_scores(record, where)
    _check_data(record["data"], where)
    _check_measures(record, where)
    _check_settings(record["settings"], where)
    if record["phase"] == "retrieval":
        _check_layers(record, where)


def _check_type(value: Any, kind: type | tuple[type, ...], where: str) -> None:
    wrong = isinstance(value, bool) and kind is not bool
    if wrong or not isinstance(value, kind) or (isinstance(value, numbers.Integral) and not -_LARGEST <= value <= _LARGEST):
        raise UserError(f"{where} is {_short(value)}, expected {_type_name(kind)}.")
    if isinstance(value, str) and not value.isascii() and any("\ud800" <= letter <= "\udfff" for letter in value):
        raise UserError(f"{where} is {_short(value)}, which is not UTF-8 text.")


def _check_texts(values: Any, where: str) -> None:
    for value in values or ():
        _check_type(value, str, where)


def _is_finite(value: Any) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number of hundreds of digits
        return False


def _short(value: Any) -> str:
    """Returns the value as it would be typed, a long or deep one cut: it becomes part of a message."""
    return _repr.repr(value)


def _name(key: str) -> str:
    """Returns a key of the record as it stands in a message: quoted where it would break the line."""
    return key if key.isprintable() and len(key) <= 80 else _short(key)


def _check_measures(record: Mapping[str, Any], where: str) -> None:
    for name, value in record.get("measures", {}).items():
        _check_type(name, str, f"{where}: measures")
        _check_type(value, numbers.Real, f"{where}: measures.{_name(name)}")
        if not _is_finite(value):
            raise UserError(f"{where}: measures.{_name(name)} is {_short(value)}, expected a finite number.")


def _check_settings(settings: Mapping[str, Any], where: str) -> None:
    for key, kind in _SETTINGS.items():
        if key in settings:
            _check_type(settings[key], kind, f"{where}: settings.{key}")
            if isinstance(settings[key], list):
                _check_texts(settings[key], f"{where}: settings.{key}")
    if settings.get("model_finished") is not None and "model" not in settings:
        raise UserError(f"{where}: settings.model is missing, whose training settings.model_finished is the time of.")


def _check_all_scores(record: Mapping[str, Any], where: str) -> None:
    scores = record["scores"]
    for key in ("dev", "scores"):
        _check_scores(record[key], f"{where}: {key}")
    _check_scores({"chance": record["chance"] or {}}, where)
    _check_scores({"mean": record["mean"]}, where)
    if record["phase"] in ("target", "retrieval"):
        _check_main_metric(record["metric"], scores, f"{where}: scores")
    expected = mean(scores)
    if set(expected) != set(record["mean"]) or any(abs(record["mean"][m] - x) > 1e-6 for m, x in expected.items()):
        raise UserError(f"{where}: mean is {_short(dict(record['mean']))}, but scores give {_short(expected)}.")
    n = record["n"]
    if set(n) != set(scores):
        raise UserError(f"{where}: n has the languages {_short(sorted(n))}, scores has {_short(sorted(scores))}.")
    for language, rows in n.items():
        _check_count(rows, 1, f"{where}: n.{_name(language)}")


def _check_main_metric(metric: str, scores: Mapping[str, Mapping[str, float]], where: str) -> None:
    if not scores:
        raise UserError(f"{where} is empty, expected at least one language.")
    for language, metrics in scores.items():
        if metric not in metrics:
            raise UserError(f"{where}.{_name(language)} lacks the main metric {_short(metric)}.")


def _check_count(value: Any, least: int, where: str) -> None:
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or not least <= value <= _LARGEST:
        raise UserError(f"{where} is {_short(value)}, expected a whole number of rows from {least}.")


def _check_scores(scores: Mapping[str, Any], where: str) -> None:
    for language, metrics in scores.items():
        _check_type(language, str, where)
        if not isinstance(metrics, Mapping):
            raise UserError(f"{where}.{_name(language)} is {_short(metrics)}, expected {{metric: score}}.")
        for metric, score in metrics.items():
            _check_type(metric, str, where)
            is_number = isinstance(score, numbers.Real) and not isinstance(score, bool)
            # A mean of hundreds may end a rounding error above 100.
            if not is_number or not -1e-9 <= score <= 100 + 1e-9:  # no comparison holds for NaN
                raise UserError(f"{where}.{_name(language)}.{_name(metric)} is {_short(score)}, expected a score from 0 to 100.")


def _check_data(data: list, where: str) -> None:
    for i, entry in enumerate(data):
        if not isinstance(entry, Mapping):
            raise UserError(f"{where}: data[{i}] is {_short(entry)}, expected an object.")
        missing = [key for key in ("id", "config", "split", "rows") if key not in entry]
        if not entry.get("revision") and not entry.get("sha256"):
            missing.append("revision or sha256")
        if missing:
            raise UserError(f"{where}: data[{i}] lacks {', '.join(missing)}.")
        _check_count(entry["rows"], 0, f"{where}: data[{i}].rows")
        for key in ("id", "config", "split", "revision", "sha256", "url", "translated_by"):
            _check_type(entry.get(key) or "", str, f"{where}: data[{i}].{key}")


def _check_layers(record: Mapping[str, Any], where: str) -> None:
    missing = [key for key in ("layer", "pooling") if key not in record]
    if missing:
        raise UserError(f"{where}: missing {', '.join(missing)}, which every retrieval result has.")
    layers = record.get("layers", {})
    for layer, scores in layers.items():
        if not re.fullmatch("0|[1-9][0-9]{0,8}", str(layer)) or not isinstance(scores, Mapping):
            raise UserError(f"{where}: layers.{_short(layer)}: expected {{layer number: {{language: {{metric: score}}}}}}.")
        _check_scores(scores, f"{where}: layers.{layer}")
        _check_main_metric(record["metric"], scores, f"{where}: layers.{layer}")
        if set(scores) != set(record["scores"]):
            raise UserError(f"{where}: layers.{layer} has the languages {_short(sorted(scores))}, scores has "
                            f"{_short(sorted(record['scores']))}.")
    if layers and str(record["layer"]) not in {str(layer) for layer in layers}:
        raise UserError(f"{where}: layer is {record['layer']}, not one of layers ({', '.join(map(str, layers))}).")


def _type_name(kind: type | tuple[type, ...]) -> str:
    names = {Mapping: "an object", type(None): "null", list: "a list", str: "text"}
    names |= {numbers.Real: "a number", numbers.Integral: "a whole number", bool: "true or false"}
    return " or ".join(names[one] for one in (kind if isinstance(kind, tuple) else (kind,)))
