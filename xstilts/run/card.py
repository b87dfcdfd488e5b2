"""The model card of a finished folder, made from its record, and the push to the Hub."""

from __future__ import annotations

import glob
import json
import logging
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.base import Task
from tasks.errors import UserError, first_line
from tasks.hub import answer_of, client
from xstilts.cli import privacy
from xstilts.cli.arguments import RunArguments
from xstilts.run import card_metadata, results
from xstilts.run.card_metadata import Parent
from xstilts.run.files import write_text
from xstilts.run.record import FILE_NAME, Record
from xstilts.run.rehearsal import at_chance_means

if TYPE_CHECKING:
    from huggingface_hub import HfApi

logger = logging.getLogger("xstilts")
# seconds without a byte from the Hub after which a call fails (the client tries an upload six times)
HUB_TIMEOUT = 300.0
FOLDER = "- rows of a folder: "  # in LICENSE.md, before the name that the Hub has for such rows
EVAL_RESULTS = ".eval_results"  # the Hub's folder of scores
CHECKPOINT = 'checkpoint = "."  # this folder'  # `push` puts the repository's name into this line
ENCODER = """\
inputs = tokenizer("The cat sleeps on the sofa.", return_tensors="pt")
with torch.inference_mode():
    print(model(**inputs).last_hidden_state.shape)"""
VECTORS = f"""\
from sentence_transformers import SentenceTransformer

{CHECKPOINT}
model = SentenceTransformer(checkpoint)
vectors = model.encode(["The cat sleeps on the sofa.", "Die Katze schläft auf dem Sofa."])
print(model.similarity(vectors, vectors))"""


def card(record: Record, checkpoint: bool, parent: Parent) -> str:
    """Return a model card (README.md) in the Hub's format: scores, how to load it, data, settings, command.

    Args:
        checkpoint: whether the folder holds weights.
        parent: the checkpoint that the run started from.
    """
    from huggingface_hub import ModelCard

    lines = [
        f"---\n{card_metadata.metadata(record, checkpoint, parent).to_yaml()}\n---\n",
        f"# {card_metadata.title(record, parent)}\n",
        f"Phase `{record.phase}` of X-STILTs: "
        + ("a checkpoint" if checkpoint else "a measurement, no weights")
        + f" for `{record.task}` (arm `{record.arm}`, seed {record.seed}).\n",
        *_score_lines(record),
        *(_usage_lines(record) if checkpoint else []),
        "## Chain\n",
        " -> ".join(f"`{p}`" for p in [*record.parents, "this"]) + "\n",
        *_provenance_lines(record),
    ]
    text = "\n".join(lines)
    ModelCard(text)  # validates the front matter here rather than on the Hub
    return text


def write(folder: Path, record: Record, checkpoint: bool, model: str) -> None:
    """Write the card into a run's folder; beside weights also LICENSE.md, and the scores as .eval_results has them.

    Args:
        checkpoint: whether the folder holds weights.
        model: the checkpoint that the run started from, as the run was given it.

    Raises:
        UserError: a file cannot be written.
    """
    from huggingface_hub import eval_result_entries_to_yaml
    from huggingface_hub.utils import yaml_dump

    parent = card_metadata.parent_of(model)
    write_text(folder / "README.md", card(record, checkpoint, parent))
    if checkpoint:
        write_text(folder / "LICENSE.md", licence(parent, model, record.parents, record))
        if entries := card_metadata.eval_entries(record):
            text = yaml_dump(eval_result_entries_to_yaml(entries))
            write_text(folder / EVAL_RESULTS / f"{record.task}.yaml", text)


def licence(parent: Parent, model: str, parents: Sequence[str], record: Record | None = None) -> str:
    """Return LICENSE.md: whose licences hold for weights.

    Args:
        parent: what they were trained from.
        model: its path, whose own LICENSE.md names the rows of folders that it was trained on.
        parents: the chain of checkpoints, for a parent that does not come from the Hub.
        record: of the training; None: there was none.
    """
    bases = [parent.base_model] if isinstance(parent.base_model, str) else parent.base_model or []
    data = sorted({*parent.datasets, *(card_metadata.train_data(record) if record else [])})
    folders = set(card_metadata.train_files(record)) if record else set()
    if (before := Path(model, "LICENSE.md")).is_file():
        folders |= set(
            re.findall(
                rf"^{re.escape(FOLDER)}`(.+)`$", before.read_text(encoding="utf-8", errors="replace"), re.MULTILINE
            )
        )
    return "\n".join(
        [
            "# Licence\n",
            "X-STILTs puts no licence on these weights. Those of the model they started from, and of the rows they",
            "were trained on, hold; the strictest decides.\n",
            *(f"- model: [{name}](https://huggingface.co/{name})" for name in bases),
            *([] if bases else [f"- model: `{parents[0]}`"]),
            *(f"- rows: [{name}](https://huggingface.co/datasets/{name})" for name in data),
            *(f"{FOLDER}`{name}`" for name in sorted(folders)),
            *([] if data or folders else ["- rows: those that README.md lists"]),
            "",
        ]
    )


def usage(record: Record) -> str:
    """Return Python code that loads a checkpoint from its own folder and uses it once."""
    head = card_metadata.task_of_head(record)
    if head is None and card_metadata.library(record) == "sentence-transformers":
        return VECTORS
    name, lines = (head.auto_class, head.usage) if head else ("AutoModel", ENCODER)
    return (
        f"import torch\nfrom transformers import {', '.join(sorted([name, 'AutoTokenizer']))}\n\n{CHECKPOINT}\n"
        f"tokenizer = AutoTokenizer.from_pretrained(checkpoint)\nmodel = {name}.from_pretrained(checkpoint)\n{lines}"
    )


def _usage_lines(record: Record) -> list[str]:
    return ["## Use\n", f"```python\n{usage(record)}\n```\n"]


def _score_lines(record: Record) -> list[str]:
    lines: list[str] = []
    if record.scores:
        metrics = list(record.mean)
        lines += [
            "## Scores (0-100)\n",
            *(
                [f"Layer {record.layer} (`hidden_states`), pooling {record.pooling}.\n"]
                if record.layer is not None
                else []
            ),
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
        lines += [f"**The English dev score is at chance level: {at_chance_means(record.is_rehearsal)}.**\n"]
    if record.measures:
        heading = "Other measures" if record.phase == "retrieval" else "Training"
        lines += [
            f"## {heading}\n",
            *(f"- {name}: {round(value, 3):,}" for name, value in record.measures.items()),
            "",
        ]
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
        *(f"- {k}: `{f'{v:g}' if isinstance(v, float) else v}`" for k, v in record.settings.items()),
        "\n## Command\n",
        f"```\n{record.command}\n```\n",
        "## Versions\n",
        ", ".join(f"{k} {v}" for k, v in record.versions.items()) + "\n",
    ]


def hub() -> HfApi:
    """Return the Hub's client with a timeout of `HUB_TIMEOUT` seconds."""
    return client(HUB_TIMEOUT)


def check_push(run_args: RunArguments) -> None:
    """Create the repository before any work, so that a wrong token or name fails early; store its full name.

    Raises:
        UserError: the Hub refuses.
    """
    if not run_args.push_to_hub:
        return
    api = hub()
    try:
        repository = api.create_repo(
            str(run_args.hub_model_id), private=run_args.hub_private_repo or None, exist_ok=True
        )
        run_args.hub_model_id = repository.repo_id
    except Exception as error:
        answer = answer_of(error)
        log_in = f" {privacy.LOG_IN}" if answer is not None and answer.status_code in (401, 403) else ""
        raise UserError(f"--push_to_hub {run_args.hub_model_id}: {first_line(error).rstrip('.')}.{log_in}") from error


def push(repo: str, folder: Path, inside: str | None = None, base_model: str | None = None) -> None:
    """Upload a finished folder to `repo`, without intermediate checkpoints and without the cells below it, finished
    or not.

    Args:
        inside: folder of the repository to upload to; None: its top, whose card then names `repo`.
        base_model: repository of the parent checkpoint, for the card; None: as the card has it.

    Raises:
        UserError: the Hub refused. The folder does not change.
    """
    notes = (FILE_NAME, results.RUN_FILE, results.FAILED)
    cells = {f"{glob.escape(path.parent.name)}/**" for name in notes for path in folder.glob(f"*/{name}")}
    hidden = [glob.escape(path.name) for path in folder.glob(".*") if path.name != EVAL_RESULTS]
    _hide_local_paths(folder)
    if inside is None:
        _name_repository(folder / "README.md", repo, base_model)
    try:
        hub().upload_folder(
            repo_id=repo,
            folder_path=folder,
            path_in_repo=inside,
            ignore_patterns=[
                "checkpoint-*/**",
                "*/checkpoint-*/**",
                *hidden,
                *(f"{name}/**" for name in hidden),
                "*/.*",
                results.FAILED,
                results.RUN_FILE,
                *cells,
            ],
            commit_message=f"X-STILTs {folder.name}",
        )
    except Exception as error:
        raise UserError(f"{folder} is finished but was not pushed to {repo}: {first_line(error)}") from error
    logger.info("Pushed %s to %s", folder, repo)


def _hide_local_paths(folder: Path) -> None:
    """Remove local paths, which older versions wrote, from the files to push. File times stay as they are, for
    make."""
    for path in filter(
        Path.is_file, (folder / FILE_NAME, folder / "README.md", folder / "adapter" / "adapter_config.json")
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
            write_text(path, text)
            os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def _name_repository(readme: Path, repo: str, base_model: str | None) -> None:
    """Put the repository's name into the code of a card, and the parent's into its front matter. File times stay."""
    from huggingface_hub import ModelCard

    if not readme.is_file():
        return
    times, old = readme.stat(), readme.read_text(encoding="utf-8")
    text = re.sub(r'^checkpoint = ".*$', f'checkpoint = "{repo}"', old, flags=re.MULTILINE)
    if base_model:
        card = ModelCard(text, ignore_metadata_errors=True)
        card.data["base_model"] = base_model
        text = str(card)
    if text != old:
        write_text(readme, text)
        os.utime(readme, ns=(times.st_atime_ns, times.st_mtime_ns))


def push_measured(tasks: Sequence[Task], run_args: RunArguments) -> None:
    """Push each task's folder into its own folder of the repository, after all tasks are measured."""
    for task in tasks if run_args.push_to_hub else ():
        push(str(run_args.hub_model_id), Path(str(run_args.output_dir), task.name), task.name)
