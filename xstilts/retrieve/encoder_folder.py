"""What a sentence-transformers folder says of its vectors: pooling, layer, length. Imports no torch.

`prompts` reads the prompts of such a folder.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tasks.errors import UserError
from tasks.reading import read_json, read_object
from xstilts.cli.arguments import POOLINGS, RetrievalArguments

ADVICE = ": delete it, or correct it"
POOLING = "1_Pooling"  # where the library saves it
# {old key in the pooling's config: its mode}
OLD_MODES = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
APPLIED = ("Transformer", "Pooling", "Normalize")  # cosines need no Normalize


@dataclass(frozen=True)
class EncoderFolder:
    """How SentenceTransformer computes a checkpoint's vectors.

    Attributes:
        name: the checkpoint.
        pooling: its modes, more than one if they are concatenated; () if the checkpoint is no such folder.
        layer: the pooled vectors are hidden_states[layer]; None: the last layer.
        length: the most tokens of a text; None: the model's limit.
        lower: whether texts are lower-cased before the tokenizer gets them.
        others: modules that we do not apply.
        unknown: whether the Hub could not be asked, and the cache does not say if the checkpoint is such a folder.
        typed: whether --pooling was given.
    """

    name: str
    pooling: tuple[str, ...] = ()
    layer: int | None = None
    length: int | None = None
    lower: bool = False
    others: tuple[str, ...] = ()
    unknown: bool = False
    typed: bool = False

    def notes(self, retrieval: RetrievalArguments, last: int, max_length: int) -> list[str]:
        """Return how the measured vectors follow or differ from the library's, for the log and results.json.

        Args:
            retrieval: as `settle` left it.
            last: the number of the last layer.
            max_length: tokens of a text at most.
        """
        notes = []
        if self.unknown:
            notes.append(
                f"modules.json of {self.name} is not in the cache and the Hub is not asked: if it has a pooling or "
                "prompts of its own, they are not used"
            )
        if self.pooling and (self.pooling != ("mean",) or retrieval.pooling != "mean"):
            own = " + ".join(self.pooling)
            notes.append(
                f"--pooling {retrieval.pooling}: the checkpoint's own pooling (sentence-transformers) is {own}"
                if self.typed
                else f"pooling {own}: the checkpoint's own (sentence-transformers), because --pooling is not given"
            )
        free = retrieval.layer in ("last", "all") and retrieval.report_layer is None and retrieval.select_on is None
        if free and self.layer is not None and self.layer != last:
            notes.append(
                f"the checkpoint's own vectors (sentence-transformers) are those of layer {self.layer}, and layer "
                f"{last} is reported; --layer {self.layer} measures the former"
            )
        if self.length is not None and self.length < max_length:
            notes.append(
                f"sentence-transformers cuts texts at {self.length} tokens for this checkpoint, here they are cut at "
                f"{max_length}; --max_seq_length {self.length} does the same"
            )
        if self.lower:
            notes.append(
                "sentence-transformers makes texts lower-case for this checkpoint (do_lower_case), which is not done "
                "here"
            )
        if self.others:
            notes.append(f"modules of the checkpoint that are not applied: {', '.join(self.others)}")
        return notes


def settle(retrieval: RetrievalArguments, name: str, revision: str = "main") -> EncoderFolder:
    """Fill in --pooling: as given, else the checkpoint's own, else mean. Return what the checkpoint says.

    Raises:
        UserError: see `read`; or the checkpoint has another pooling, or one that does not go with
            --no_include_special.
    """
    if retrieval.pooling:
        # nothing is asked of the Hub for notes alone
        return replace(read(name, revision) if os.path.isdir(name) else EncoderFolder(name), typed=True)
    found = read(name, revision)
    mode = " + ".join(found.pooling) or "mean"
    if mode not in POOLINGS:
        raise UserError(
            f"{name}: sentence-transformers pools its vectors by {mode}. Here are mean and cls: give --pooling mean "
            "or --pooling cls to measure other vectors."
        )
    if mode != "mean" and not retrieval.include_special:
        raise UserError(f"--no_include_special goes with --pooling mean, and {name} has {mode}. Give both.")
    retrieval.pooling = mode
    return found


def read(name: str, revision: str = "main") -> EncoderFolder:
    """Return what a checkpoint says; without its own pooling if it is no sentence-transformers folder.

    Raises:
        UserError: one of its files cannot be read.
    """
    listed = file_of(name, "modules.json", revision, "--pooling")
    config = pooling_config(name, revision, "--pooling")
    if config is None:
        return EncoderFolder(name, unknown=listed is None and _is_unknown(name, "modules.json", revision))
    kinds = [] if listed is None else [_kind(module) for module in _modules(listed)]
    layer, length, lower = _transformer(name, revision) if listed else (None, None, False)
    others = tuple(dict.fromkeys(kind for kind in kinds if kind not in APPLIED))
    return EncoderFolder(name, _modes(config), layer, length, lower, others)


def file_of(name: str, file: str, revision: str, advice: str) -> Path | None:
    """Return a file of a folder or a Hub repository, or None. With HF_HUB_OFFLINE only the cache is read.

    Args:
        advice: the arguments that make the file unnecessary.

    Raises:
        UserError: the Hub does not answer.
    """
    if os.path.isdir(name):
        path = Path(name, file)
        return path if path.exists() else None
    from huggingface_hub import hf_hub_download
    from huggingface_hub.constants import is_offline_mode
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    try:
        return Path(hf_hub_download(name, file, revision=revision))
    except Exception as error:
        # a Hub that does not answer gives LocalEntryNotFoundError, too
        if isinstance(error, EntryNotFoundError) and (
            is_offline_mode() or not isinstance(error, LocalEntryNotFoundError)
        ):
            return None
        raise UserError(
            f"{name}: {file} could not be fetched from the Hub ({type(error).__name__}). Give {advice}."
        ) from error


def _is_unknown(name: str, file: str, revision: str) -> bool:
    """Whether neither a folder nor the cache of the Hub tells if there is a file."""
    from huggingface_hub import try_to_load_from_cache

    return not os.path.isdir(name) and try_to_load_from_cache(name, file, revision=revision) is None


def pooling_config(name: str, revision: str, advice: str) -> Path | None:
    """Return the config file of a checkpoint's pooling, in the folder that modules.json names; None without one.

    Args:
        advice: as in `file_of`.
    """
    listed = file_of(name, "modules.json", revision, advice)
    if listed is not None:
        folder = next((module["path"] for module in _modules(listed) if _kind(module) == "Pooling"), None)
    else:
        folder = POOLING if os.path.isdir(name) else None
    return None if folder is None else file_of(name, f"{folder}/config.json", revision, advice)


def _kind(module: dict[str, Any]) -> str:
    """Return the class of a module, whatever version of the library wrote its full name."""
    return module["type"].rpartition(".")[2]


def _modules(path: Path) -> list[dict[str, Any]]:
    found = read_json(path, ADVICE)
    if not isinstance(found, list) or not all(
        isinstance(module, dict) and isinstance(module.get("type"), str) and isinstance(module.get("path"), str)
        for module in found
    ):
        raise UserError(f"{path}: expected a list of modules with type and path{ADVICE}.")
    return found


def _modes(path: Path) -> tuple[str, ...]:
    """Return the modes in the config of a pooling, as the library reads it."""
    config = read_object(path, ADVICE)
    mode = config.get("pooling_mode") or [mode for key, mode in OLD_MODES.items() if config.get(key)] or "mean"
    modes = (mode,) if isinstance(mode, str) else tuple(mode) if isinstance(mode, Sequence) else (mode,)
    if not all(isinstance(mode, str) for mode in modes):
        raise UserError(f"{path}: pooling_mode is {str(mode)[:80]!r}, expected a name{ADVICE}.")
    return modes


def _transformer(name: str, revision: str) -> tuple[int | None, int | None, bool]:
    """Return (the layer, the length, whether texts are lower-cased) in the config of the library's Transformer."""
    path = file_of(name, "sentence_bert_config.json", revision, "--pooling, --layer and --max_seq_length")
    if path is None:
        return None, None, False
    config = read_object(path, ADVICE)
    try:
        output = config["modality_config"]["text"]["method_output_name"]
    except (KeyError, TypeError):
        output = None
    length = config.get("max_seq_length")
    return (
        output[1] if isinstance(output, list) and len(output) == 2 and isinstance(output[1], int) else None,
        length if isinstance(length, int) else None,
        config.get("do_lower_case") is True,
    )
