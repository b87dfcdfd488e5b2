"""Check that a checkpoint is supported. An error names the reason and what works instead."""

from __future__ import annotations

import json
import os
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks import hub
from tasks.errors import UserError, first_line

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

WORKS = (
    "Give an encoder with a masked-LM head in transformers, such as XLM-R, mBERT, mDeBERTa or mmBERT (docs/models.md)."
)
ADAPTER = "adapter_config.json"  # PEFT's file; where it lies beside a model, transformers loads the adapter too
# Whatever a config.json says: code that needs hidden states asks for them, and no other output or form is expected.
OUTPUTS = {"output_hidden_states": False, "output_attentions": False, "return_dict": True}


def check_checkpoint(name: str | None, flag: str = "--model_name_or_path") -> str:
    """Return `name` if `from_pretrained` should be able to load it. Reads no weights and imports no torch.

    Args:
        name: a folder or Hub id, as given.
        flag: the argument that holds it, for errors.

    Raises:
        UserError: no name, no such folder, a folder without a model, or one with a PEFT adapter beside it.
    """
    if not name:
        raise UserError(f"{flag} is missing: give a checkpoint folder or a Hub id, e.g. FacebookAI/xlm-roberta-base.")
    path = Path(name)
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise UserError(f"{flag} {name}: the folder has no config.json, so it is not a checkpoint.")
        check_own_code(name, _read_json(path / "config.json"))
        check_no_adapter(name)
        if not any(path.glob("*.safetensors")):
            hint = f" {convert(name)}" if any(path.glob("pytorch_model*.bin")) else ""
            raise UserError(f"{flag} {name}: the folder has no model.safetensors.{hint}")
    elif (
        name.startswith((".", "/", "~"))
        or name.count("/") > 1
        or not re.fullmatch(r"[\w.\-]+(/[\w.\-]+)?", name)
        or (os.path.sep in name and Path(name).parent.is_dir())
    ):
        raise UserError(f"{flag} {name}: no such folder.")
    return name


def convert(folder: str) -> str:
    """Return what to type where a folder has pickled weights: they are not read, and this keeps every tensor."""
    code = (
        "import pathlib, sys, torch; from safetensors.torch import save_file; folder = pathlib.Path(sys.argv[1]); "
        "save_file({key: weight.contiguous().clone() for file in folder.glob('pytorch_model*.bin') for key, weight in "
        "torch.load(file, map_location='cpu', weights_only=True).items()}, folder / 'model.safetensors', "
        "{'format': 'pt'})"
    )
    return f'Pickled weights (.bin) of a folder are not read. Convert them: python -c "{code}" {shlex.quote(folder)}'


def _read_json(path: Path) -> dict:
    """The object in a JSON file; {} if it cannot be read, because transformers' own error is clearer."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def check_own_code(name: str, config: dict) -> None:
    """Raise if a checkpoint needs its own Python code, which is never run.

    A checkpoint may name such code (`auto_map`) although transformers supports its model type. Then the class of
    transformers is used.

    Raises:
        UserError: transformers does not have the model type.
    """
    if not config.get("auto_map"):
        return
    from transformers import CONFIG_MAPPING

    if (kind := config.get("model_type")) not in CONFIG_MAPPING:
        raise UserError(
            f"{name}: model type {kind!r} is not in transformers; its own Python code (auto_map in "
            f"config.json) is never run, and no flag allows it. {WORKS}"
        )


def check_no_adapter(name: str) -> None:
    """Raise UserError if a folder holds a PEFT adapter beside a model; one of the Hub is found when it is loaded.

    Merged weights would count twice, and of an adapter on a base model only the adapter would be trained.
    """
    if os.path.isfile(os.path.join(name, ADAPTER)):
        raise adapter_beside(name)


def adapter_beside(name: str) -> UserError:
    """Return the error of a checkpoint with a PEFT adapter beside the model."""
    return UserError(
        f"{name}: it holds a PEFT adapter ({ADAPTER}) beside the model, which transformers would put on top of it. "
        "Merge the adapter and save only the merged model, or move the adapter's files to another folder."
    )


def not_loaded(name: str, what: str, error: Exception) -> UserError:
    """Return the error of a checkpoint that does not load: what the Hub did, or the first line of the library's."""
    if not os.path.isdir(name) and hub.is_of_the_hub(error):
        return UserError(f"{name} cannot be loaded from the Hub: {hub.advice(error, name, 'model')}")
    return UserError(f"{name}: {what} ({first_line(error).rstrip(': ')}).")


def read_config(name: str, revision: str = "main", **changes: Any) -> PretrainedConfig:
    """Return the config of an encoder checkpoint, with `OUTPUTS`.

    Args:
        name: a folder or Hub id.
        revision: of a Hub id.
        changes: fields to set, e.g. `num_labels`.

    Raises:
        UserError: config.json cannot be read, the model needs its own code or has a PEFT adapter beside it, or it is a
            decoder or encoder-decoder.
    """
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_MASKED_LM_MAPPING, AutoConfig

    if os.path.isdir(name) and not os.path.isfile(os.path.join(name, "config.json")):
        raise UserError(f"{name}: it has no config.json. Give a folder that save_pretrained wrote.")
    check_no_adapter(name)
    try:
        config = AutoConfig.from_pretrained(name, revision=revision, trust_remote_code=False, **OUTPUTS, **changes)
    except Exception as error:  # a field of the wrong type raises many kinds of error
        if os.path.isdir(name):
            check_own_code(name, _read_json(Path(name, "config.json")))
            raise UserError(f"{name} has no usable config.json ({first_line(error)}).") from error
        if "trust_remote_code" in str(error):
            raise UserError(f"{name}: its own Python code is never run, and no flag allows it. {WORKS}") from error
        what = hub.advice(error, name, "model")
        raise UserError(f"{name} is not a folder, and cannot be loaded from the Hub: {what}") from error
    kind = config.model_type
    if getattr(config, "is_encoder_decoder", False):
        raise UserError(f"{name}: an encoder-decoder (model type {kind}). {WORKS}")
    if type(config) not in MODEL_FOR_MASKED_LM_MAPPING:
        what = (
            "a decoder"
            if type(config) in MODEL_FOR_CAUSAL_LM_MAPPING
            else "not an encoder with a masked-LM head in transformers"
        )
        raise UserError(f"{name}: {what} (model type {kind}). {WORKS}")
    if getattr(config, "is_decoder", False):
        raise UserError(f"{name}: config.json sets is_decoder, so tokens attend only to earlier ones. {WORKS}")
    return config


def check_attention(implementation: str | None, head: bool = True) -> None:
    """Raise if this attention implementation cannot be used: on this machine, or in this script.

    Args:
        implementation: --attn_implementation; None: transformers' default for the model.
        head: whether the model has a head; else it makes vectors.

    Raises:
        UserError: it is unknown, or its package is not installed. Kernels from the Hub are refused: they are code.
    """
    if implementation is None:
        return
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
    from transformers.utils import is_flash_attn_2_available, is_flash_attn_3_available

    from xstilts.checkpoint import padding_free

    padding_free.register()
    if implementation == padding_free.NAME and not head:
        raise UserError(
            f"--attn_implementation {implementation} is for models with a head, not for vectors. Give sdpa."
        )
    known = ["eager", *(key for key in ALL_ATTENTION_FUNCTIONS.valid_keys() if not key.startswith("paged"))]
    if implementation not in known:
        raise UserError(f"--attn_implementation {implementation} is unknown; choose one of: {' '.join(known)}.")
    installed = {"flash_attention_2": is_flash_attn_2_available, "flash_attention_3": is_flash_attn_3_available}
    if implementation in installed and not installed[implementation]():
        raise UserError(
            f"--attn_implementation {implementation}: it needs the package flash-attn and a GPU. Install the "
            "package, or give sdpa."
        )


def encoder_class(config: PretrainedConfig) -> type[PreTrainedModel]:
    """Return the class that AutoModel builds from a config."""
    from transformers import MODEL_MAPPING

    entry: Any = MODEL_MAPPING[type(config)]
    return entry[0] if isinstance(entry, tuple) else entry  # some model types have two classes


def check_layer(layer: int, top: int) -> None:
    """Raise UserError if a model with `top` layers has no hidden_states[layer]."""
    if not 0 <= layer <= top:
        raise UserError(f"layer {layer} does not exist: this model has layers 0 (embedding output) to {top} (top).")
