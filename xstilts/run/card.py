"""The model card of a finished folder, made from its record, and the push to the Hub."""

from __future__ import annotations

import glob
import json
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks import get_task
from tasks.base import Task
from xstilts.cli import privacy
from xstilts.cli.arguments import RunArguments
from xstilts.errors import UserError, first_line
from xstilts.run import results
from xstilts.run.record import Record

if TYPE_CHECKING:
    from huggingface_hub import HfApi, ModelCardData

logger = logging.getLogger("xstilts")
# seconds without a byte from the Hub after which a call fails (the client tries an upload six times)
HUB_TIMEOUT = 300.0


def card(record: Record, checkpoint: bool) -> str:
    """Return a model card (README.md) in the Hub's format: chain of checkpoints, scores, data, settings, command.

    Args:
        checkpoint: whether the folder holds weights.
    """
    from huggingface_hub import ModelCard

    name = f"{record.arm}-{record.task}-seed{record.seed}"
    lines = [
        f"---\n{_metadata(record, name).to_yaml()}\n---\n",
        f"# {name}\n",
        f"Phase `{record.phase}` of X-STILTs: "
        + ("a checkpoint" if checkpoint else "a measurement, no weights")
        + f" for `{record.task}` (arm `{record.arm}`, seed {record.seed}).\n",
        "## Chain\n",
        " -> ".join(f"`{p}`" for p in [*record.parents, "this"]) + "\n",
        *_score_lines(record),
        *_provenance_lines(record),
    ]
    text = "\n".join(lines)
    ModelCard(text)  # validates the front matter here rather than on the Hub
    return text


def _metadata(record: Record, name: str) -> ModelCardData:
    """Return the card's front matter. It lists a dataset only if its rows were loaded from the Hub."""
    from huggingface_hub import EvalResult, ModelCardData

    pinned = [d for d in record.data if "revision" in d]
    hub = {d["id"] for d in pinned if "url" not in d}
    rows = record.task + ("" if len(pinned) == len(record.data) else " (rows of a folder)")
    evaluated = [
        EvalResult(
            task_type=get_task(record.task).pipeline_tag,
            dataset_type=record.task,
            dataset_name=rows,
            dataset_config=language,
            metric_type=record.metric,
            metric_value=round(by_metric[record.metric], 3),
        )
        for language, by_metric in record.scores.items()
    ]
    base = record.model
    local = base.startswith(privacy.ELSEWHERE) or Path(base).exists()
    return ModelCardData(
        base_model=None if local else base,
        datasets=sorted(hub) or None,
        library_name="transformers",
        language=list(record.scores) or record.trained_on,
        tags=["x-stilts", record.phase],
        model_name=name if evaluated else None,
        eval_results=evaluated or None,
        license="other",
    )


def _score_lines(record: Record) -> list[str]:
    lines: list[str] = []
    if record.scores:
        metrics = list(record.mean)
        lines += [
            "## Scores (0-100)\n",
            "| language | n | " + " | ".join(metrics) + " |",
            "|---" * (len(metrics) + 2) + "|",
        ]
        lines += [
            f"| {code} | {record.n[code]} | " + " | ".join(f"{by[m]:.2f}" for m in metrics) + " |"
            for code, by in record.scores.items()
        ]
        lines += ["| mean | | " + " | ".join(f"{record.mean[m]:.2f}" for m in metrics) + " |\n"]
    if record.dev:
        chance = record.chance or {}
        lines += [
            "English dev: "
            + ", ".join(
                f"{metric} {value:.2f}" + (f" (chance {chance[metric]:.2f})" if metric in chance else "")
                for metric, value in record.dev["en"].items()
            )
            + "\n"
        ]
    if record.at_chance:
        lines += ["**The English dev score is at chance level: this training did not work.**\n"]
    if record.measures:
        lines += ["## Training\n", *(f"- {name}: {value:,}" for name, value in record.measures.items()), ""]
    return lines


def _provenance_lines(record: Record) -> list[str]:
    lines = ["## Data\n"] + [
        f"- `{d['id']}` {d['config']} `{d['split']}`: {d['rows']} rows "
        f"({'revision ' + str(d['revision']) if 'revision' in d else 'sha256 ' + d['sha256'][:16]})"
        + (f", translated by {d['translated_by']}" if "translated_by" in d else "")
        for d in record.data
    ]
    return [
        *lines,
        "\n## Settings\n",
        *(f"- {k}: `{v}`" for k, v in record.settings.items()),
        "\n## Command\n",
        f"```\n{record.command}\n```\n",
        "## Versions\n",
        ", ".join(f"{k} {v}" for k, v in record.versions.items()) + "\n",
    ]


def hub() -> HfApi:
    """Return the Hub's client with a timeout of `HUB_TIMEOUT` seconds; by default it has none for these calls."""
    from huggingface_hub import HfApi, get_session, set_client_factory

    usual = get_session()

    def with_timeout() -> Any:
        # the library's own client but for the timeout: its event hook keeps it offline if HF_HUB_OFFLINE is set
        return type(usual)(event_hooks=usual.event_hooks, follow_redirects=usual.follow_redirects, timeout=HUB_TIMEOUT)

    set_client_factory(with_timeout)
    return HfApi()


def check_push(run_args: RunArguments) -> None:
    """Create the repository before any work, so that a wrong token or name fails early; store its full name.

    Raises:
        UserError: the Hub refuses.
    """
    if not run_args.push_to_hub:
        return
    try:
        repository = hub().create_repo(
            str(run_args.hub_model_id), private=run_args.hub_private_repo or None, exist_ok=True
        )
        run_args.hub_model_id = repository.repo_id
    except Exception as error:
        raise UserError(
            f"--push_to_hub {run_args.hub_model_id}: {first_line(error)} (log in with `hf auth login`)"
        ) from error


def push(repo: str, folder: Path, inside: str | None = None) -> None:
    """Upload a finished folder to `repo`, without intermediate checkpoints and without the cells below it.

    Args:
        inside: folder of the repository to upload to; None: its top.

    Raises:
        UserError: the Hub refused. The folder does not change.
    """
    cells = [f"{glob.escape(stamp.parent.name)}/**" for stamp in folder.glob("*/results.json")]
    _hide_local_paths(folder)
    try:
        hub().upload_folder(
            repo_id=repo,
            folder_path=folder,
            path_in_repo=inside,
            ignore_patterns=["checkpoint-*/**", ".*", "*/.*", results.FAILED, results.RUN_FILE, *cells],
            commit_message=f"X-STILTs {folder.name}",
        )
    except Exception as error:
        raise UserError(f"{folder} is finished but was not pushed to {repo}: {first_line(error)}") from error
    logger.info("Pushed %s to %s", folder, repo)


def _hide_local_paths(folder: Path) -> None:
    """Remove local paths, which older versions wrote, from the files to push. File times stay as they are, for
    make."""
    for path in filter(
        Path.is_file, (folder / results.FILE_NAME, folder / "README.md", folder / "adapter" / "adapter_config.json")
    ):
        times = path.stat()
        if path.suffix == ".json":
            values: dict[str, Any] = results.read_note(path, "so it is not pushed.")
            public = privacy.public(values)
            changed, text = public != values, json.dumps(public, indent=1, ensure_ascii=False) + "\n"
        else:
            old = path.read_text(encoding="utf-8")
            text = privacy.public_text(old)
            changed = text != old
        if changed:
            results.write_text(path, text)
            os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def push_measured(tasks: Sequence[Task], run_args: RunArguments) -> None:
    """Push each task's folder into its own folder of the repository, after all tasks are measured."""
    for task in tasks if run_args.push_to_hub else ():
        push(str(run_args.hub_model_id), Path(str(run_args.output_dir), task.name), task.name)
