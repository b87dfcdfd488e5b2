"""Train a LoRA adapter (arXiv 2106.09685) in place of the whole encoder, with the peft library.

The encoder is frozen; low-rank updates of its target modules and the whole head are trained. At the end the updates
are merged, so the checkpoint loads as any other. The adapter is saved beside it in `adapter/`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, Trainer

from tasks.errors import UserError
from xstilts.checkpoint.heads import encoder_of, has_pooler
from xstilts.cli import privacy
from xstilts.cli.arguments import PeftArguments
from xstilts.run.files import obey_umask

FOLDER = "adapter"


def wrap(model: PreTrainedModel, arguments: PeftArguments) -> Any:
    """Return the model with an adapter, a PeftModel; without --peft, the model itself.

    Raises:
        UserError: the encoder has none of the modules in --lora_targets.
    """
    if not arguments.peft:
        return model
    from peft import LoraConfig, get_peft_model

    encoder: Any = model.base_model
    chosen = targets(encoder, arguments.lora_targets)
    alpha = arguments.lora_alpha if arguments.lora_alpha is not None else 2 * arguments.lora_rank
    # without task_type: with it peft chooses the trained head itself, and for some forms chooses none
    config = LoraConfig(
        r=arguments.lora_rank,
        lora_alpha=alpha,  # type: ignore[arg-type]  # peft only divides by it; its annotation says int
        target_modules=chosen,
        lora_dropout=arguments.lora_dropout,
        modules_to_save=list(heads(model)) or None,
    )
    wrapped = get_peft_model(model, config)
    wrapped.accepts_loss_kwargs = False  # type: ignore[assignment]  # read by Trainer; torch takes attributes for modules
    _link(model)
    return wrapped


def targets(encoder: PreTrainedModel, names: list[str] | None) -> list[str]:
    """Return the names of the encoder's modules that get an adapter.

    Args:
        encoder: the encoder below the head.
        names: --lora_targets: module names, or "all-linear"; None: peft's default for the model type, else the
            attention's `query` and `value` if the encoder has them, else every linear layer.

    Raises:
        UserError: the encoder has no module of that name.
    """
    from peft.utils.constants import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as USUAL

    linear = {
        name.rpartition(".")[2]
        for name, module in encoder.named_modules()
        if isinstance(module, torch.nn.Linear) and "pooler" not in name.split(".")
    }
    if names is None:
        usual = [list(USUAL.get(encoder.config.model_type, [])), ["query", "value"]]
        names = next((default for default in usual if default and set(default) <= linear), ["all-linear"])
    if names == ["all-linear"]:
        return sorted(linear)
    for target in names:
        if target not in linear:
            raise UserError(
                f"--lora_targets {target}: the encoder has no such module. It has {' '.join(sorted(linear))}."
            )
    return names


def heads(model: PreTrainedModel) -> Iterator[str]:
    """Yield the names of the modules that are trained whole: those outside the encoder, and the pooler.

    Tied output weights (masked LM) stay frozen with the embeddings.
    """
    encoder = encoder_of(model)
    shared = {id(parameter) for parameter in encoder.parameters()}
    containers = (torch.nn.ModuleDict, torch.nn.ModuleList)  # peft takes no containers, only the modules in them

    def walk(module: torch.nn.Module, path: str) -> Iterator[str]:
        for name, child in module.named_children():
            weights = {id(parameter) for parameter in child.parameters()}
            if child is encoder or not weights:
                continue
            if isinstance(child, containers) or weights & shared:
                yield from walk(child, f"{path}{name}.")
            else:
                yield path + name

    yield from walk(model, "")
    if has_pooler(encoder):
        yield f"{model.base_model_prefix}.pooler"


def finish(trainer: Trainer, folder: str) -> Any:
    """Save the adapter below `folder`, merge it, and return the plain model, which replaces the trainer's."""
    wrapped: Any = trainer.model  # a PeftModel
    if trainer.is_world_process_zero():
        for config in wrapped.peft_config.values():
            # goes into adapter_config.json, which may be pushed
            config.base_model_name_or_path = privacy.public(config.base_model_name_or_path)
            config.target_modules = sorted(config.target_modules)  # peft keeps a set, in no fixed order
        wrapped.save_pretrained(str(Path(folder, FOLDER)))
        obey_umask(*Path(folder, FOLDER).glob("*.safetensors"))
        # peft's card template; the folder has its own card
        Path(folder, FOLDER, "README.md").unlink(missing_ok=True)
    model = trainer.model = trainer.model_wrapped = wrapped.merge_and_unload(safe_merge=True)
    _link(model)
    return model


def _link(model: Any) -> None:
    """Let a mixture put the exchanged modules into its other models, which share its heads."""
    if hasattr(model, "link"):
        model.link()
