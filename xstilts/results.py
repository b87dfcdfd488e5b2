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

A run that failed leaves failed.json in place of it, see `write_failure`; the next one that ends well removes that. Under
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
import shlex
import sys
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from xstilts import privacy
from xstilts.errors import UserError, first_line

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
        UserError: naming the file, when it cannot be read, is not whole JSON, is of another schema, or breaks a rule.
    """
    try:
        record = json.loads(Path(path).read_bytes().decode("utf-8"), parse_constant=_refuse_constant)
    except (OSError, ValueError) as error:  # ValueError covers JSON, UTF-8 and NaN
        raise UserError(f"{path} cannot be read ({error}); delete it and run its cell again.") from error
    if not isinstance(record, dict):
        raise UserError(f"{path} holds {type(record).__name__}, expected an object with the keys of results.json.")
    _check(record, str(path))
    return record


def paths(root: str | os.PathLike) -> list[Path]:
    """Returns every results.json below `root`, sorted. Checkpoints of a training under way are not looked into.

    Raises:
        UserError: when `root` is no folder.
    """
    if not Path(root).is_dir():
        raise UserError(f"{root} is not a folder. Give the folder that holds <arm>/seed<k>/.../{FILE_NAME}.")
    return _named(root, FILE_NAME)


def _named(root: str | os.PathLike, name: str) -> list[Path]:
    found = []
    for folder, below, files in os.walk(root):
        below[:] = [part for part in below if not part.startswith((".", "checkpoint-"))]
        if name in files:
            found.append(Path(folder, name))
    return sorted(found)


def read_note(path: str | os.PathLike, otherwise: str) -> dict[str, Any]:
    """Returns the JSON object in a file that these programs wrote for themselves.

    Raises:
        UserError: it is damaged; `otherwise` ends the sentence.
    """
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        found = first_line(error)
    if not isinstance(found, dict):
        raise UserError(f"{path} cannot be read ({found}), {otherwise}")
    return found


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


def failures(root: str | os.PathLike) -> dict[str, str]:
    """{folder below `root`: why its run failed}, of the runs that failed and have no result."""
    found = {}
    for path in _named(root, FAILED):
        if not path.with_name(FILE_NAME).exists():
            try:
                cause = str(json.loads(path.read_bytes())["cause"])
            except (OSError, ValueError, KeyError, TypeError) as error:
                cause = f"{FAILED} cannot be read ({error})"
            found[str(path.parent.relative_to(root))] = cause
    return found


def unfinished(root: str | os.PathLike) -> list[str]:
    """The folders below `root` of trainings that were begun and neither finished nor failed by themselves."""
    begun = (path.parent for path in _named(root, "run.json"))
    return [str(folder.relative_to(root)) for folder in begun if not (folder / FILE_NAME).exists() and not (folder / FAILED).exists()]


def find(root: str | os.PathLike) -> list[tuple[Path, dict[str, Any]]]:
    """Returns (path, record) for every results.json below `root`, sorted by path.

    Raises:
        UserError: from the first file that `read` refuses.
    """
    return [(path, read(path)) for path in paths(root)]


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

    Raises:
        UserError: when the folder or file cannot be written.
    """
    write_bytes(path, text.encode("utf-8"))


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
        raise UserError(f"{where}: schema is {record['schema']!r}, this version reads {SCHEMA}; run that cell again.")
    missing = [key for key in _REQUIRED if key not in record]
    if missing:
        raise UserError(f"{where}: missing {', '.join(missing)}.")
    unknown = [repr(key) for key in record if key not in _KEYS]
    if unknown:
        raise UserError(f"{where}: unknown {', '.join(unknown)}. Known: {', '.join(_KEYS)}.")
    for key, value in record.items():
        wrong_bool = isinstance(value, bool) and _KEYS[key] is not bool
        if wrong_bool or not isinstance(value, _KEYS[key]):
            raise UserError(f"{where}: {key} is {value!r}, expected {_type_name(_KEYS[key])}.")
    if record["phase"] not in PHASES:
        raise UserError(f"{where}: phase is {record['phase']!r}, expected one of {', '.join(PHASES)}.")
    if not math.isfinite(record["seconds"]) or record["seconds"] < 0:
        raise UserError(f"{where}: seconds is {record['seconds']!r}, expected a finite number from 0.")
    _check_all_scores(record, where)
    _check_data(record["data"], where)
    if record["phase"] == "retrieval":
        _check_layers(record, where)


def _check_all_scores(record: Mapping[str, Any], where: str) -> None:
    scores = record["scores"]
    for key in ("dev", "scores"):
        _check_scores(record[key], f"{where}: {key}")
    _check_scores({"chance": record["chance"] or {}}, where)
    _check_scores({"mean": record["mean"]}, where)
    if record["phase"] in ("target", "retrieval"):
        if not scores:
            raise UserError(f"{where}: scores is empty, expected at least one language.")
        for language, metrics in scores.items():
            if record["metric"] not in metrics:
                raise UserError(f"{where}: scores.{language} lacks the main metric {record['metric']!r}.")
    expected = mean(scores)
    if set(expected) != set(record["mean"]) or any(abs(record["mean"][m] - x) > 1e-6 for m, x in expected.items()):
        raise UserError(f"{where}: mean is {dict(record['mean'])}, but scores give {expected}.")
    n = record["n"]
    if set(n) != set(scores):
        raise UserError(f"{where}: n has the languages {sorted(n)}, scores has {sorted(scores)}.")
    for language, rows in n.items():
        if isinstance(rows, bool) or not isinstance(rows, numbers.Integral) or rows < 1:
            raise UserError(f"{where}: n.{language} is {rows!r}, expected a whole number of rows from 1.")


def _check_scores(scores: Mapping[str, Any], where: str) -> None:
    for language, metrics in scores.items():
        if not isinstance(metrics, Mapping):
            raise UserError(f"{where}.{language} is {metrics!r}, expected {{metric: score}}.")
        for metric, score in metrics.items():
            is_number = isinstance(score, numbers.Real) and not isinstance(score, bool)
            # A mean of hundreds may end a rounding error above 100.
            if not is_number or not math.isfinite(score) or not -1e-9 <= score <= 100 + 1e-9:
                raise UserError(f"{where}.{language}.{metric} is {score!r}, expected a score from 0 to 100.")


def _check_data(data: list, where: str) -> None:
    for i, entry in enumerate(data):
        if not isinstance(entry, Mapping):
            raise UserError(f"{where}: data[{i}] is {entry!r}, expected an object.")
        missing = [key for key in ("id", "config", "split", "rows") if key not in entry]
        if not entry.get("revision") and not entry.get("sha256"):
            missing.append("revision or sha256")
        if missing:
            raise UserError(f"{where}: data[{i}] lacks {', '.join(missing)}.")


def _check_layers(record: Mapping[str, Any], where: str) -> None:
    missing = [key for key in ("layer", "pooling") if key not in record]
    if missing:
        raise UserError(f"{where}: missing {', '.join(missing)}, which every retrieval result has.")
    layers = record.get("layers", {})
    for layer, scores in layers.items():
        if not str(layer).isdecimal() or not isinstance(scores, Mapping):
            raise UserError(f"{where}: layers.{layer}: expected {{layer number: {{language: {{metric: score}}}}}}.")
        _check_scores(scores, f"{where}: layers.{layer}")
    if layers and str(record["layer"]) not in {str(layer) for layer in layers}:
        raise UserError(f"{where}: layer is {record['layer']}, not one of layers ({', '.join(map(str, layers))}).")


def _type_name(kind: type | tuple[type, ...]) -> str:
    names = {Mapping: "an object", type(None): "null", list: "a list", str: "text"}
    names |= {numbers.Real: "a number", numbers.Integral: "a whole number", bool: "true or false"}
    return " or ".join(names[one] for one in (kind if isinstance(kind, tuple) else (kind,)))
