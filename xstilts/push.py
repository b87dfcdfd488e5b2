"""`make push`: push every finished checkpoint of a matrix to its own Hub repository, and a card that lists them.

    python -m xstilts.push --hub my-name --runs_dir runs/world --arms none mnli --tasks xnli --seeds 0 1 --model

Files that the Hub already has are not sent again, so repeat the command to send what failed.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from tasks.errors import UserError, first_line
from xstilts import plan
from xstilts.cli import privacy
from xstilts.cli.arguments import RunArguments
from xstilts.cli.words import parse_tool
from xstilts.run import card
from xstilts.run.card_metadata import TAG
from xstilts.run.endings import tool
from xstilts.run.record import FILE_NAME, Record, is_there


def repository(hub: str, matrix: str, record: Record) -> str:
    """Return the repository of a checkpoint: hub/matrix-arm-seed0, for a target task hub/matrix-arm-seed0-task.

    The Hub does not allow "+", so "+" in the name of an arm becomes "-plus-".
    """
    name = f"{matrix}-{record.arm}-seed{record.seed}" + (f"-{record.task}" if record.phase == "target" else "")
    return f"{hub}/{name.replace('+', '-plus-')}"


def push_all(hub: str, matrix: str, folders: Sequence[Path], private: bool = False) -> list[str]:
    """Push every checkpoint among `folders`, then the card hub/matrix. Return the error messages.

    An error does not stop the others. Folders without results.json (not finished) or without weights are skipped.
    """
    pushed: dict[str, Record] = {}
    repository_of: dict[Path, str] = {}
    errors: list[str] = []
    for folder in folders:
        if not is_there(folder) or not (folder / "model.safetensors").is_file():
            continue
        try:
            record = Record.read(folder / FILE_NAME)
            repo = repository(hub, matrix, record)
            run = RunArguments(push_to_hub=True, hub_private_repo=private, hub_model_id=repo)
            card.check_push(run)
            repo = str(run.hub_model_id)  # with the namespace
            card.push(repo, folder, base_model=repository_of.get(parent_folder(folder, record)))
        except UserError as error:
            errors.append(str(error))
        else:
            pushed[repo], repository_of[folder] = record, repo
            print(f"{folder} -> {repo}", flush=True)
    if not pushed:
        return errors or ["there is no finished checkpoint to push; run `make matrix` first."]
    try:
        index(f"{hub}/{matrix}", pushed, len(errors), private)
    except UserError as error:
        errors.append(str(error))
    return errors


def parent_folder(folder: Path, record: Record) -> Path:
    """Return the folder of a run's parent: for a cell that of its phase 2, else that of the model of all arms.

    Args:
        record: names the parent. A checkpoint from elsewhere gives a folder that does not exist.
    """
    places = [folder.parent, *(above / "model" for above in list(folder.parents)[1:3])]
    return next((place for place in places if privacy.public(str(place)) == record.model), Path(record.model))


def index(repo: str, pushed: dict[str, Record], failed: int, private: bool) -> None:
    """Push the card that lists the pushed checkpoints to a repository without weights.

    Args:
        repo: repository of the card.
        pushed: {repository: record}.
        failed: checkpoints that could not be pushed.
        private: create the repository as private.

    Raises:
        UserError: the Hub refused the card.
    """
    from huggingface_hub import ModelCardData

    data = ModelCardData(tags=[TAG])  # no weights, so no library and no licence
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
    run = RunArguments(push_to_hub=True, hub_private_repo=private, hub_model_id=repo)
    card.check_push(run)
    try:
        card.hub().upload_file(
            path_or_fileobj="\n".join([*lines, ""]).encode(),
            path_in_repo="README.md",
            repo_id=str(run.hub_model_id),
            commit_message="X-STILTs: the checkpoints of the matrix",
        )
    except Exception as error:
        raise UserError(f"the card {repo} was not pushed: {first_line(error)}") from error
    print(f"index -> {run.hub_model_id}")


def main(argv: Sequence[str] | None = None) -> int:
    """Return the exit status: 0, or 2 if a push failed, with a line on stderr for each."""
    parser = argparse.ArgumentParser(prog="python -m xstilts.push", description=__doc__.split("\n")[0])
    plan.grid_arguments(parser)
    parser.add_argument("--hub", required=True, help="namespace on the Hub: your name or an organisation's")
    parser.add_argument(
        "--matrix", help="name of the matrix, the beginning of every repository name; default: name of its folder"
    )
    parser.add_argument("--private", action="store_true", help="create the repositories as private")
    arguments = parse_tool(parser, argv)
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    matrix = arguments.matrix or arguments.runs_dir.resolve().name
    errors = push_all(arguments.hub, matrix, [stamp.parent for stamp in plan.stamps_of(arguments)], arguments.private)
    for error in errors:
        print(f"error: {error}", file=sys.stderr)
    return 2 if errors else 0


if __name__ == "__main__":
    tool(main)
