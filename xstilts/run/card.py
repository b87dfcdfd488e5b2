"""What a finished folder shows others: the model card, made of the run's record, and the push to the Hub."""

from __future__ import annotations

import glob
import json
import logging
import os
from pathlib import Path

from tasks import get_task
from xstilts.cli import privacy
from xstilts.errors import UserError, first_line
from xstilts.run import results
from xstilts.run.record import Record

logger = logging.getLogger("xstilts")
# seconds without a byte from the Hub, after which a call to it has failed (uploads are tried six times by the
# client)
SILENCE = 300.0


def card(record: Record, checkpoint: bool) -> str:
    """A model card (README.md) in the Hub's format: what it is, the chain, data, scores per language, command.

    Its metadata name as the Hub's only rows that came from there: a folder of rows can hold anything under any name.
    """
    from huggingface_hub import EvalResult, ModelCard, ModelCardData

    name = f"{record.arm}-{record.task}-seed{record.seed}"
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
    data = ModelCardData(
        base_model=None if local else base,
        datasets=sorted(hub) or None,
        library_name="transformers",
        language=list(record.scores) or record.trained_on,
        tags=["x-stilts", record.phase],
        model_name=name if evaluated else None,
        eval_results=evaluated or None,
        license="other",
    )
    lines = [
        f"---\n{data.to_yaml()}\n---\n",
        f"# {name}\n",
        f"Phase `{record.phase}` of X-STILTs: "
        + ("a checkpoint" if checkpoint else "a measurement, no weights")
        + f" for `{record.task}` (arm `{record.arm}`, seed {record.seed}).\n",
        "## Chain\n",
        " -> ".join(f"`{p}`" for p in [*record.parents, "this"]) + "\n",
    ]
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
    lines += ["## Data\n"] + [
        f"- `{d['id']}` {d['config']} `{d['split']}`: {d['rows']} rows "
        f"({'revision ' + str(d['revision']) if 'revision' in d else 'sha256 ' + d['sha256'][:16]})"
        + (f", translated by {d['translated_by']}" if "translated_by" in d else "")
        for d in record.data
    ]
    lines += [
        "\n## Settings\n",
        *(f"- {k}: `{v}`" for k, v in record.settings.items()),
        "\n## Command\n",
        f"```\n{record.command}\n```\n",
        "## Versions\n",
        ", ".join(f"{k} {v}" for k, v in record.versions.items()) + "\n",
    ]
    text = "\n".join(lines)
    ModelCard(text)  # parses the front matter: raises here rather than on the Hub
    return text


def hub():
    """The Hub's client. Its own calls have no time limit: where the Hub takes them and says nothing, it would wait for
    ever."""
    from huggingface_hub import HfApi, set_client_factory
    from huggingface_hub.utils._http import default_client_factory

    def impatient():
        client = default_client_factory()
        client.timeout = SILENCE
        return client

    set_client_factory(impatient)
    return HfApi()


def check_push(run) -> None:
    """Creates the repository before any work, so that a wrong token or name costs seconds, not a night."""
    if not run.push_to_hub:
        return
    try:
        run.hub_model_id = (
            hub().create_repo(run.hub_model_id, private=run.hub_private_repo or None, exist_ok=True).repo_id
        )
    except Exception as error:
        raise UserError(
            f"--push_to_hub {run.hub_model_id}: {first_line(error)} (log in with `hf auth login`)"
        ) from error


def push(repo: str, folder: Path, inside: str | None = None) -> None:
    """Uploads a finished folder to `repo`, without its intermediate checkpoints and without the cells that lie in it.

    Args:
        inside: folder of the repository; its top unless given.

    Raises:
        UserError: the Hub refused; the folder stays as it is.
    """
    # each is a result, or a model, of its own
    cells = [f"{glob.escape(stamp.parent.name)}/**" for stamp in folder.glob("*/results.json")]
    _leave_out_places(folder)
    try:
        hub().upload_folder(
            repo_id=repo,
            folder_path=folder,
            path_in_repo=inside,
            ignore_patterns=["checkpoint-*/**", ".*", "*/.*", results.FAILED, "run.json", *cells],
            commit_message=f"X-STILTs {folder.name}",
        )
    except Exception as error:
        raise UserError(f"{folder} is finished but was not pushed to {repo}: {first_line(error)}") from error
    logger.info("Pushed %s to %s", folder, repo)


def _leave_out_places(folder: Path) -> None:
    """Takes the places of local folders out of the files to be pushed, which older versions wrote; the files keep
    their times for make."""
    for path in filter(
        Path.is_file, (folder / results.FILE_NAME, folder / "README.md", folder / "adapter" / "adapter_config.json")
    ):
        times = path.stat()
        if path.suffix == ".json":
            old = results.read_note(path, "so it is not pushed.")
            new = privacy.public(old)
            text = json.dumps(new, indent=1, ensure_ascii=False) + "\n"
        else:
            old = path.read_text(encoding="utf-8")
            new = text = privacy.public_text(old)
        if new != old:
            results.write_text(path, text)
            os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def push_measured(tasks: list, run) -> None:
    """Each task's folder into a folder of the repository, when all are measured: none stops another or takes its
    place."""
    for task in tasks if run.push_to_hub else ():
        push(run.hub_model_id, Path(run.output_dir, task.name), task.name)
