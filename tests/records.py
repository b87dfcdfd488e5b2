"""Write and read results.json as plain objects."""

import json
import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from xstilts.run.environment import command_line
from xstilts.run.record import TRAININGS, Record, completed


def small(phase: str = "target", **values: Any) -> dict[str, Any]:
    """Return a small valid record: by default the cell xnli of arm none. `values` replace the defaults.

    The phases mlm and intermediate have no scores. `n` is 5 rows for each language of the scores.
    """
    record = {
        "phase": phase,
        "task": "xnli",
        "form": "sentence_pair",
        "arm": "none",
        "seed": 0,
        "model": "m",
        "parents": [],
        "metric": "accuracy",
        "chance": None,
        "at_chance": False,
        "dev": {},
        "scores": {} if phase in TRAININGS else {"en": {"accuracy": 60}},
        "settings": {},
        "data": [],
        "seconds": 1,
    } | values
    return {"n": dict.fromkeys(record["scores"], 5)} | record


def write(path: str | os.PathLike, result: Mapping[str, Any]) -> dict[str, Any]:
    """Write a record with missing values filled in (`completed`); return the written object."""
    record = Record.from_dict(completed(result, path), path)
    record.write(path)
    return json.loads(record.to_json())


def write_all(printed: str) -> list[Path]:
    """Write the results.json of every run that `make -n matrix` printed, as the run would; return their paths."""
    found = []
    for script, given in re.findall(r"\brun_(target|retrieval|intermediate|mlm)\.py (.*)", printed):
        shell = subprocess.run(
            ["bash", "-c", f"printf '%s\\0' {given}"], stdout=subprocess.PIPE, text=True, check=True
        )
        words = shell.stdout.split("\0")[:-1]
        value = dict(zip(words, words[1:], strict=False)).get
        task = value("--tasks") or value("--task") or "wikipedia"
        folder = Path(str(value("--output_dir")), task if script == "retrieval" else "")
        about = {"arm": value("--arm"), "task": task, "model": value("--model_name_or_path", "sizes.json")}
        about |= {"layer": 1, "pooling": "mean"} if script == "retrieval" else {}
        command = command_line([f"run_{script}.py", *words])
        write(folder / "results.json", small(script, command=command, **about))
        found.append(folder / "results.json")
    return found


def read(path: str | os.PathLike) -> dict[str, Any]:
    """Return the object in a results.json, checked as `Record.read` does."""
    return Record.read(path).to_dict()
