"""Write and read results.json as plain objects."""

import json
import os
from collections.abc import Mapping
from typing import Any

from xstilts.run.record import Record, completed


def write(path: str | os.PathLike, result: Mapping[str, Any]) -> dict[str, Any]:
    """Write a record with missing values filled in (`completed`); return the written object."""
    record = Record.from_dict(completed(result, path), path)
    record.write(path)
    return json.loads(record.to_json())


def read(path: str | os.PathLike) -> dict[str, Any]:
    """Return the object in a results.json, checked as `Record.read` does."""
    return Record.read(path).to_dict()
