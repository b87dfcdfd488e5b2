"""Adapters in place of full training (LoRA, arXiv 2106.09685), through the peft library; the next phase never sees
them.

The encoder's weights stay, low-rank updates of its targets are trained, and the head is trained whole. At the end the
updates are merged into the checkpoint, which then loads as any other, and the adapter is kept beside it in `adapter/`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch

from xstilts.cli import privacy
from xstilts.errors import UserError
from xstilts.run import results

FOLDER = "adapter"


def wrap(model, arguments):
    """The model (PreTrainedModel or MixtureModel) under an adapter: a PeftModel; the model itself if none is asked
    for.

    Args:
        arguments: xstilts.cli.arguments.PeftArguments.

    Raises:
        UserError: the encoder has no such modules.
    """
    if not arguments.peft:
        return model
    from peft import LoraConfig, get_peft_model

    chosen = targets(model.base_model, arguments.lora_targets)
    alpha = arguments.lora_alpha if arguments.lora_alpha is not None else 2 * arguments.lora_rank
    # no task_type: peft would then choose by itself which head is trained, and for some forms choose none
    config = LoraConfig(
        r=arguments.lora_rank,
        lora_alpha=alpha,
        target_modules=chosen,
        lora_dropout=arguments.lora_dropout,
        modules_to_save=list(heads(model)) or None,
    )
    wrapped = get_peft_model(model, config)
    wrapped.accepts_loss_kwargs = False
    _link(model)
    return wrapped


def targets(encoder, asked: list[str] | None) -> list[str]:
    """Return the names of the encoder's modules that get an adapter.

    Args:
        encoder: the encoder under the head.
        asked: --lora_targets: module names, or "all-linear"; None: peft's own choice for the model type, else the
            attention's `query` and `value` where modules of these names exist, else every linear layer.

    Raises:
        UserError: the encoder has no module of that name.
    """
    from peft.utils.constants import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as USUAL

    linear = {
        name.rpartition(".")[2]
        for name, module in encoder.named_modules()
        if isinstance(module, torch.nn.Linear) and "pooler" not in name.split(".")
    }
    if asked is None:
        usual = [USUAL.get(encoder.config.model_type, []), ["query", "value"]]
        asked = next((names for names in usual if names and set(names) <= linear), ["all-linear"])
    if list(asked) == ["all-linear"]:
        return sorted(linear)
    for target in asked:
        if target not in linear:
            raise UserError(
                f"--lora_targets {target}: the encoder has no such module. It has {' '.join(sorted(linear))}."
            )
    return list(asked)


def heads(model) -> Iterator[str]:
    """The modules outside the encoder that are trained whole, and the pooler, which is fresh with some of them.

    Output weights that are the encoder's own embeddings (masked LM) stay as these do.
    """
    encoder = model.base_model
    shared = {id(parameter) for parameter in encoder.parameters()}
    plain = (torch.nn.ModuleDict, torch.nn.ModuleList)  # which peft does not take as modules

    def walk(module, path: str) -> Iterator[str]:
        for name, child in module.named_children():
            weights = {id(parameter) for parameter in child.parameters()}
            if child is encoder or not weights:
                continue
            if isinstance(child, plain) or weights & shared:
                yield from walk(child, f"{path}{name}.")
            else:
                yield path + name

    yield from walk(model, "")
    if getattr(encoder, "pooler", None) is not None:
        yield f"{model.base_model_prefix}.pooler"


def finish(trainer, folder: str):
    """Writes the adapter below `folder`, merges it, and returns the plain model, which is the trainer's from then
    on."""
    wrapped = trainer.model
    if trainer.is_world_process_zero():
        for config in wrapped.peft_config.values():
            # adapter_config.json, which is pushed, names the checkpoint below the adapter
            config.base_model_name_or_path = privacy.public(config.base_model_name_or_path)
        wrapped.save_pretrained(str(Path(folder, FOLDER)))
        results.obey_umask(*Path(folder, FOLDER).glob("*.safetensors"))
        # peft's form to be filled in; the folder's card says all
        Path(folder, FOLDER, "README.md").unlink(missing_ok=True)
    model = trainer.model = trainer.model_wrapped = wrapped.merge_and_unload(safe_merge=True)
    _link(model)
    return model


def _link(model) -> None:
    """A mixture's heads are parts of other models too, in which peft does not exchange them."""
    if hasattr(model, "link"):
        model.link()
