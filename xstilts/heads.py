"""Checkpoints in, models with fresh heads out."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

from xstilts.errors import UserError, first_line


def check_checkpoint(name: str | None, flag: str = "--model_name_or_path") -> str:
    """`name`, if from_pretrained can be expected to take it.

    Raises:
        UserError: nothing was given, or a folder that is absent or holds no model.
    """
    if not name:
        raise UserError(f"{flag} is missing: give a checkpoint folder or a Hub id, e.g. FacebookAI/xlm-roberta-base.")
    path = Path(name)
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise UserError(f"{flag} {name}: the folder has no config.json, so it is no checkpoint.")
        if not any(path.glob("*.safetensors")):
            bins = " It has only pickled weights (.bin), which are not loaded." if any(path.glob("*.bin")) else ""
            raise UserError(f"{flag} {name}: the folder has no model.safetensors.{bins}")
    elif name.startswith((".", "/", "~")) or name.count("/") > 1 or not re.fullmatch(r"[\w.\-]+(/[\w.\-]+)?", name) or (
        os.path.sep in name and Path(name).parent.is_dir()
    ):
        raise UserError(f"{flag} {name}: no such folder.")
    return name


def load_tokenizer(name: str, revision: str = "main"):
    """The checkpoint's tokenizer; it must be a fast one, because word and character offsets are needed."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(name, revision=revision)
    except Exception as error:
        raise UserError(f"{name}: its tokenizer does not load ({first_line(error)}).") from error
    if not tokenizer.is_fast:
        raise UserError(f"{name}: its tokenizer has no fast version, which offsets need.")
    check_length(tokenizer, name)
    return tokenizer


def check_length(tokenizer, name: str) -> None:
    """Refuses a tokenizer whose longest input is none: tokenizer_config.json may hold anything there."""
    longest = tokenizer.model_max_length
    if isinstance(longest, bool) or not isinstance(longest, int | float) or not longest >= 8:
        raise UserError(f"{name}: tokenizer_config.json has model_max_length {str(longest)[:80]!r}, expected a number of tokens.")


def clean_tokenizer(tokenizer) -> None:
    """Takes out of a fast tokenizer what loading and its last call left there: where it came from, cutting and padding.

    transformers sets these anew in every call. But they would be saved with it: another program that reads tokenizer.json
    would cut to our length, and the files would depend on what happened to be done last.
    """
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    for key in ("is_local", "local_files_only"):
        tokenizer.init_kwargs.pop(key, None)


def load_encoder(name: str, revision: str = "main", pooler: bool = False):
    """The checkpoint's encoder in float32, whatever head it carried. (model, names of parameters that were not in it)

    Raises:
        UserError: it does not load, or anything but the pooler is missing from it.
    """
    import torch
    from transformers import AutoConfig, AutoModel

    try:
        config = AutoConfig.from_pretrained(name, revision=revision)
        # not every architecture has a pooler to leave out
        options = {} if pooler or config.model_type in ("deberta-v2", "distilbert") else {"add_pooling_layer": False}
        model, info = AutoModel.from_pretrained(
            name, revision=revision, dtype=torch.float32, output_loading_info=True, **options
        )
    except Exception as error:
        raise UserError(f"{name}: does not load as an encoder ({first_line(error)}).") from error
    missing = sorted(info["missing_keys"])
    _check_complete(name, model, missing)
    return model, missing


def _check_complete(name: str, model, missing: list[str]) -> None:
    """Refuses a checkpoint that lacks weights of its encoder (the pooler aside: they would be random), or has some that are no numbers."""
    spoilt = [key for key, weight in model.named_parameters() if not weight.isfinite().all()]
    if spoilt:
        raise UserError(f"{name}: {len(spoilt)} of its weights hold NaN or infinity, {spoilt[0]} for one.")
    lost = sorted(key for key in missing if "pooler" not in key)
    if lost:
        raise UserError(f"{name}: {len(lost)} encoder weights are missing from the checkpoint, {lost[0]} for one.")


def fresh_head(task, name: str, revision: str = "main", encoder=None):
    """The task's stock transformers model: the checkpoint's encoder under a head drawn anew.

    A head that rode along in the checkpoint is never reused, equal in shape or not. The pooler (multiple choice on
    XLM-R) is handed on if the checkpoint has one, else it is fresh too. Draws from torch's global generator.
    """
    import transformers

    auto = getattr(transformers, task.auto_class)
    config = transformers.AutoConfig.from_pretrained(name, revision=revision, num_labels=task.num_labels)
    if task.labels:
        config.id2label = dict(enumerate(task.labels))
        config.label2id = {label: i for i, label in enumerate(task.labels)}
    model = auto.from_config(config)
    base = model.base_model
    if encoder is None:
        encoder, _ = load_encoder(name, revision, pooler=getattr(base, "pooler", None) is not None)
        result = base.load_state_dict(encoder.state_dict(), strict=False)
        lost = [key for key in result.missing_keys if "pooler" not in key]
        if lost or result.unexpected_keys:
            raise UserError(f"{name}: encoder and {type(model).__name__} do not fit ({(lost + result.unexpected_keys)[0]}).")
    else:
        setattr(model, model.base_model_prefix, encoder)
    model.accepts_loss_kwargs = False  # these heads ignore num_items_in_batch; the Trainer would assume they used it
    return model


def masked_lm(name: str, revision: str = "main", encoder=None):
    """The checkpoint with a masked-LM head: its own if it has one, else one tied to its embeddings and drawn anew.

    Args:
        encoder: put under the head in place of the checkpoint's own.
    """
    import torch
    from transformers import AutoModelForMaskedLM

    try:
        model, info = AutoModelForMaskedLM.from_pretrained(name, revision=revision, dtype=torch.float32, output_loading_info=True)
    except Exception as error:
        raise UserError(f"{name}: does not load for masked language modelling ({first_line(error)}).") from error
    _check_complete(name, model, [key for key in info["missing_keys"] if key.startswith(f"{model.base_model_prefix}.")])
    if encoder is not None:
        setattr(model, model.base_model_prefix, encoder)
        model.tie_weights()
    return model


def from_sizes(config_name: str, tokenizer):
    """An untrained masked-LM model from a JSON file of `model_type` and sizes; the tokenizer gives the vocabulary's.

    Raises:
        UserError: no such file, or not a model config.
    """
    from transformers import AutoConfig, AutoModelForMaskedLM

    try:
        sizes = json.loads(Path(config_name).read_text(encoding="utf-8"))
        config = AutoConfig.for_model(**sizes, vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id,
                                      bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id)
        return AutoModelForMaskedLM.from_config(config)
    except Exception as error:
        raise UserError(f"--config_name {config_name}: no model can be made of it ({first_line(error)}). Expected JSON such as "
                        "recipes/models/xlmr-tiny.json.") from error


def freeze_embeddings(model) -> None:
    """Stops gradients of the whole embedding layer (tokens, positions, norm)."""
    for parameter in model.base_model.embeddings.parameters():
        parameter.requires_grad = False
