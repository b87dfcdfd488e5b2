"""`make push`: every finished checkpoint of a matrix to a repository of its own on the Hub, and a card that lists
them.

    python -m xstilts.push --hub my-name --runs_dir runs/world --arms none mnli --tasks xnli --seeds 0 1 --model

Files that the Hub has already are not sent again, so the same command sends what an earlier one could not.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

from xstilts import plan
from xstilts.cli.words import parse_tool
from xstilts.errors import UserError, first_line
from xstilts.run import card
from xstilts.run.record import FILE_NAME, Record, is_there


def repository(hub: str, matrix: str, record: Record) -> str:
    """The name of a checkpoint's repository: hub/matrix-arm-seed0, of a target hub/matrix-arm-seed0-task.

    "+" in the name of an arm, which the Hub does not take, is written "-plus-".
    """
    name = f"{matrix}-{record.arm}-seed{record.seed}" + (f"-{record.task}" if record.phase == "target" else "")
    return f"{hub}/{name.replace('+', '-plus-')}"


def push_all(hub: str, matrix: str, folders: Sequence[Path], private: bool = False) -> list[str]:
    """Push every checkpoint among `folders`, then the card hub/matrix. Returns the errors, [] if there were none.

    One that fails does not stop the others. Folders without results.json (not finished) or weights are passed over.
    """
    pushed, errors = {}, []
    for folder in folders:
        if not is_there(folder) or not (folder / "model.safetensors").is_file():
            continue
        try:
            record = Record.read(folder / FILE_NAME)
            run = SimpleNamespace(
                push_to_hub=True, hub_private_repo=private, hub_model_id=repository(hub, matrix, record)
            )
            card.check_push(run)
            card.push(run.hub_model_id, folder)
        except UserError as error:
            errors.append(str(error))
        else:
            pushed[run.hub_model_id] = record
            print(f"{folder} -> {run.hub_model_id}", flush=True)
    if not pushed:
        return errors or ["there is no finished checkpoint to push; run `make matrix` first."]
    try:
        index(f"{hub}/{matrix}", pushed, len(errors), private)
    except UserError as error:
        errors.append(str(error))
    return errors


def index(repo: str, pushed: dict[str, Record], failed: int, private: bool) -> None:
    """Push the card that lists `pushed`, {repository: record}, in a repository without weights.

    Raises:
        UserError: the Hub refused.
    """
    from huggingface_hub import ModelCardData

    data = ModelCardData(license="other", tags=["x-stilts"], library_name="transformers")
    lines = [
        f"---\n{data.to_yaml()}\n---\n",
        f"# {repo.partition('/')[2]}\n",
        "The checkpoints of one matrix of X-STILTs: what an encoder is first trained on (arm) and what that does to "
        "other tasks.\n",
        "| checkpoint | phase | arm | task | seed | metric | mean over languages |",
        "|---" * 7 + "|",
    ]
    for name, record in pushed.items():
        mean = f"{record.mean[record.metric]:.1f}" if record.mean else ""
        link = f"[{name.partition('/')[2]}](https://huggingface.co/{name})"
        cells = [link, record.phase, record.arm, record.task, record.seed, record.metric, mean]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    if failed:
        lines.append(f"\n{failed} more could not be pushed yet.")
    run = SimpleNamespace(push_to_hub=True, hub_private_repo=private, hub_model_id=repo)
    card.check_push(run)
    try:
        card.hub().upload_file(
            path_or_fileobj="\n".join([*lines, ""]).encode(),
            path_in_repo="README.md",
            repo_id=run.hub_model_id,
            commit_message="X-STILTs: the checkpoints of the matrix",
        )
    except Exception as error:
        raise UserError(f"the card {repo} was not pushed: {first_line(error)}") from error
    print(f"index -> {run.hub_model_id}")


def main(argv: Sequence[str] | None = None) -> int:
    """Return the exit status: 0, or 2 if anything was not pushed, each with a line on stderr."""
    parser = argparse.ArgumentParser(prog="python -m xstilts.push", description=__doc__.split("\n")[0])
    plan.grid_arguments(parser)
    parser.add_argument("--hub", required=True, help="namespace on the Hub: your name or an organisation's")
    parser.add_argument(
        "--matrix", help="name of the matrix, with which the repositories' names begin; default: its folder's"
    )
    parser.add_argument("--private", action="store_true", help="create the repositories as private")
    given = parse_tool(parser, argv)
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    matrix = given.matrix or given.runs_dir.resolve().name
    errors = push_all(given.hub, matrix, [stamp.parent for stamp in plan.stamps_of(given)], given.private)
    for error in errors:
        print(f"error: {error}", file=sys.stderr)
    return 2 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
