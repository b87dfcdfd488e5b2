"""Prompts: the text before every query and passage with which e5, bge, gte and jina were trained. Imports no torch."""

from __future__ import annotations

import os
import shlex

from tasks.errors import UserError
from tasks.reading import read_object
from xstilts.cli.arguments import DualEncoderArguments, MeasurementArguments
from xstilts.retrieve.encoder_folder import ADVICE, EncoderFolder, file_of, pooling_config

FILE = "config_sentence_transformers.json"
# Names of the two sides in the config of a sentence-transformers folder, in the order of its encode_document. The
# first that is not empty counts: the library saves an empty "document" beside a "passage".
NAMES = {"query": ("query",), "passage": ("document", "passage", "corpus")}


def resolve(query: str | None, passage: str | None, name: str, revision: str = "main") -> dict[str, str]:
    """Return the prompts of a checkpoint: {"query": ..., "passage": ...}, "" for no prompt.

    Args:
        query, passage: --query_prompt and --passage_prompt; None: the prompt in the checkpoint's
            sentence-transformers config.
        name, revision: the checkpoint.

    Raises:
        UserError: that config cannot be read, or leaves its prompts out of the mean, which is not supported.
    """
    if query is not None and passage is not None:
        return {"query": query, "passage": passage}
    kept = stored(name, revision)
    sides = (("query", query), ("passage", passage))
    return {side: kept.get(side, "") if text is None else text for side, text in sides}


def stored(name: str, revision: str = "main") -> dict[str, str]:
    """Return the prompts in a sentence-transformers folder, {} if there are none.

    Raises:
        UserError: see `resolve`.
    """
    flags = "--query_prompt and --passage_prompt"
    path = file_of(name, FILE, revision, flags)
    if path is None:
        return {}
    found = read_object(path, ADVICE).get("prompts") or {}
    if not isinstance(found, dict) or not all(isinstance(text, str) for text in found.values()):
        raise UserError(f"{path}: prompts is {str(found)[:80]!r}, expected {{name: text}}.")
    prompts = {side: next((found[key] for key in keys if found.get(key)), "") for side, keys in NAMES.items()}
    pooling = pooling_config(name, revision, flags)
    if any(prompts.values()) and pooling and read_object(pooling, ADVICE).get("include_prompt") is False:
        raise UserError(
            f"{name}: its pooling leaves the prompt out of the mean (include_prompt: false), which is not supported. "
            "Give --query_prompt '' --passage_prompt '' to measure it without prompts."
        )
    return {side: text for side, text in prompts.items() if text}


def check_matrix(
    own: EncoderFolder, texts: dict[str, str], dual: DualEncoderArguments, run: MeasurementArguments
) -> None:
    """Refuse, in a matrix, a plain model with a pooling or prompts of its own that were not typed.

    What phase 2 writes after training a task does not have them, so such arms would be measured otherwise than arm
    `none`.

    Args:
        own: as `encoder_folder.settle` left it.
        texts: as `resolve` returned them.

    Raises:
        UserError: says what to type.
    """
    if not run.plain_model or "XSTILTS_MATRIX" not in os.environ:
        return
    flags = [] if own.typed or own.pooling in ((), ("mean",)) else ["--pooling", *own.pooling]
    for side, typed in (("query", dual.query_prompt), ("passage", dual.passage_prompt)):
        flags += [f"--{side}_prompt", texts[side]] if texts[side] and typed is None else []
    if flags:
        raise UserError(
            f"{own.name} has a pooling or prompts of its own, and checkpoints that phase 2 trains with a task "
            f"have not. To measure all alike add {shlex.join(flags)} to RETRIEVAL_ARGS, or --pooling mean "
            "--query_prompt '' --passage_prompt ''."
        )
