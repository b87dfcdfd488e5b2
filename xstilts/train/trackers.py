"""What trackers (--report_to) call a run: its place in the matrix, which distinguishes arms, seeds and tasks."""

from __future__ import annotations

import json
import os
from pathlib import Path

from xstilts.run import places


def run_name(folder: Path) -> str:
    """Return ``<arm>/seed<k>`` or ``<arm>/seed<k>/<task>``, the place of a run's folder; any other folder's name."""
    for length, place in ((2, folder), (3, folder.absolute().parent)):
        if places.of_folder(place)[0]:
            return "/".join(folder.absolute().parts[-length:])
    return folder.name


def set_tags(name: str) -> None:
    """Set the variables from which wandb and mlflow take group and tags, unless the user has set them."""
    arm, *rest = name.split("/")
    tags = {"arm": arm} | dict(zip(("seed", "task"), rest, strict=False))
    os.environ.setdefault("WANDB_RUN_GROUP", arm)
    os.environ.setdefault("WANDB_TAGS", ",".join(tags.values()))
    os.environ.setdefault("MLFLOW_TAGS", json.dumps(tags))
