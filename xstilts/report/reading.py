"""The results.json files of a matrix: read, checked against their folders, and compared with each other."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tasks.errors import UserError
from xstilts.run import results
from xstilts.run.listing import Listing
from xstilts.run.places import SEED_FOLDER
from xstilts.run.record import FILE_NAME, Record, mean

EXACT_MATCH, F1, EM_F1 = "exact_match", "f1", "(EM+F1)/2"  # with both, XTREME counts a task as their mean

CellKey = tuple[str, str, int]  # (arm, task, seed)


def seeds_begun(below: Listing) -> set[tuple[str, int]]:
    """Return (arm, seed) of every folder <arm>/seed<k>."""
    found = (
        re.fullmatch(rf"([^/]+)/{SEED_FOLDER}", Path(folder).relative_to(below.root).as_posix())
        for folder in below.names
    )
    return {(place[1], int(place[2])) for place in found if place}


def is_placed(path: str, record: Record) -> bool:
    """Whether a training lies where one that belongs to the matrix does: <arm>/seed<k>/results.json."""
    return path == f"{printable(record.arm)}/seed{record.seed}/{FILE_NAME}"


def printable(text: str) -> str:
    """Return the text with the bytes of a file's name that are not UTF-8 written as escapes."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def read_all(
    below: Listing, problems: list[str]
) -> tuple[list[tuple[str, Record]], dict[CellKey, list[tuple[str, Record]]]]:
    """Return (trainings, results_of): results_of has the (path, record) of each cell, or several of one cell."""
    trainings: list[tuple[str, Record]] = []
    results_of: dict[CellKey, list[tuple[str, Record]]] = {}
    for path in results.paths(below):
        name = path.relative_to(below.root).as_posix()
        try:
            record = Record.read(path)
        except UserError as error:
            problems.append(str(error))
            continue
        place = re.fullmatch(
            rf"([^/]+)/{SEED_FOLDER}/results\.json"
            if record.is_training
            else rf"([^/]+)/{SEED_FOLDER}/[^/]+/results\.json",
            name,
        )
        if record.is_training and not place:  # phase 1 may lie anywhere
            trainings.append((printable(name), record))
            if record.phase != "mlm":
                problems.append(f"{name} is a phase 2 outside <arm>/seed<k>, so it counts for no arm.")
            continue
        if not place or (place[1], int(place[2])) != (record.arm, record.seed):
            holds = f"arm {record.arm}, seed {record.seed}, task {record.task}"
            problems.append(f"{name} says {holds}, which belongs in another folder; it is left out.")
            continue
        if record.is_training:
            trainings.append((name, record))
            continue
        results_of.setdefault((record.arm, record.task, record.seed), []).append((name, record))
    return trainings, results_of


def outdated_lines(root: Path, records: Mapping[CellKey, Record], trainings: list[tuple[str, Record]]) -> list[str]:
    """Return a line for each result whose checkpoint was trained again since; make, which goes by time, may miss
    it."""
    finished = {os.path.realpath((root / name).parent): record.finished for name, record in trainings}
    started = [(cell_name(key), record.settings) for key, record in records.items()]
    started += [(name.removesuffix(f"/{FILE_NAME}"), record.settings) for name, record in trainings]
    return [
        f"{name} started from an earlier training of {settings['model']}; delete its results.json and run it again."
        for name, settings in started
        if "model_finished" in settings
        and finished.get(_parent(root / name, settings), settings["model_finished"]) != settings["model_finished"]
    ]


def _parent(folder: Path, settings: Mapping) -> str:
    """Return the checkpoint a run started from: run.json has its whole path, results.json, which is pushed, may
    not."""
    try:
        settings = {**settings, **results.read_note(folder / results.RUN_FILE, "")}
    except UserError:  # the result of another machine
        pass
    path = str(settings["model"])
    return path if "\0" in path else os.path.realpath(path)


def fingerprints(record: Record) -> list[str]:
    """Return what tells the rows behind a result from others, one line a file, sorted."""
    return sorted(
        f"{e['id']}|{e['config']}|{e['split']}|{e['rows']}|{e.get('revision') or e.get('sha256')}" for e in record.data
    )


def cell_row(key: CellKey, record: Record) -> dict[str, Any]:
    """Return one row of `Matrix.cells`; scores in [0, 100], NaN where there is none.

    `english`; `others`, the macro mean over the other languages; `all`, over all of them; `em_f1`, (EM + F1) / 2 of
    the means where there are both; `score`, what enters averages: em_f1 or else all (XTREME's convention); `dev`,
    the same of English dev.
    """
    metric, scores = record.metric, record.scores
    others = {language: metrics for language, metrics in scores.items() if language != "en"}
    em_f1 = _em_f1(record.mean)
    return {
        **dict(zip(("arm", "task", "seed"), key, strict=True)),
        "phase": record.phase,
        "english": scores.get("en", {}).get(metric, np.nan),
        "others": mean(others).get(metric, np.nan),
        "all": record.mean[metric],
        "em_f1": np.nan if em_f1 is None else em_f1,
        "score": record.mean[metric] if em_f1 is None else em_f1,
        "dev": dev[1] if (dev := english_dev(record)) else np.nan,
        "at_chance": record.at_chance,
    }


def english_dev(record: Record) -> tuple[str, float] | None:
    """Return (its name, score 0-100) of English dev in what the task is ranked by; None without such a score."""
    found = record.dev.get("en", {})
    if (em_f1 := _em_f1(found)) is not None:
        return EM_F1, em_f1
    return (record.metric, found[record.metric]) if record.metric in found else None


def _em_f1(metrics: Mapping[str, float]) -> float | None:
    """Return the mean of exact match and F1, None without both."""
    return (metrics[EXACT_MATCH] + metrics[F1]) / 2 if EXACT_MATCH in metrics and F1 in metrics else None


def cell_name(key: CellKey) -> str:
    """Return a cell as text: <arm>/seed<k>/<task>."""
    arm, task, seed = key
    return f"{arm}/seed{seed}/{task}"
