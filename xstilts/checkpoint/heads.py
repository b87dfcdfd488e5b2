"""A checkpoint's encoder under a head: a fresh one, or the masked-LM head."""

from __future__ import annotations

import functools
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from xstilts.checkpoint.config import read_config
from xstilts.checkpoint.encoder import check_encoder, check_weights, load_encoder, quiet
from xstilts.errors import UserError, first_line

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel


def head_of(task, name: str, revision: str = "main", encoder=None) -> PreTrainedModel:
    """Return the task's model: `masked_lm` where the task masks, else `fresh_head`."""
    return masked_lm(name, revision, encoder) if task.masks else fresh_head(task, name, revision, encoder)


def fresh_head(task, name: str, revision: str = "main", encoder=None, attention: str | None = None) -> PreTrainedModel:
    """Return the task's model: the checkpoint's encoder under a head drawn anew.

    A head that was in the checkpoint is never reused, equal in shape or not. The pooler (multiple choice on XLM-R) is
    handed on if the checkpoint has one, else it is fresh too. Draws from torch's global generator.

    Args:
        task: the task adapter.
        name, revision: the checkpoint.
        encoder: put under the head in place of the checkpoint's own.
        attention: transformers' `attn_implementation`; None: its choice.

    Raises:
        UserError: the checkpoint is refused, or has no head of the task's form.
    """
    config = read_config(
        name, revision, num_labels=task.num_labels, **({"attn_implementation": attention} if attention else {})
    )
    if task.labels:
        config.id2label = dict(enumerate(task.labels))
        config.label2id = {label: i for i, label in enumerate(task.labels)}
    model = head_class(task.auto_class, config)(config)
    base = model.base_model
    if encoder is None:
        encoder, _ = load_encoder(name, revision, pooler=has_pooler(base))
        result = base.load_state_dict(encoder.state_dict(), strict=False)
        lost = [key for key in result.missing_keys if "pooler" not in key.split(".")]
        if lost or result.unexpected_keys:
            raise UserError(
                f"{name}: encoder and {type(model).__name__} do not fit ({(lost + result.unexpected_keys)[0]})."
            )
    else:
        setattr(model, model.base_model_prefix, encoder)
    model.accepts_loss_kwargs = False  # these heads ignore num_items_in_batch; the Trainer would assume they used it
    return model


def has_pooler(base: PreTrainedModel) -> bool:
    """Whether an encoder has a pooler."""
    return getattr(base, "pooler", None) is not None


def needs_pooler(task, name: str, revision: str = "main") -> bool:
    """Whether the task's head on this checkpoint reads the pooler. Draws nothing: the model is made without memory."""
    if task.masks:
        return False
    config = read_config(name, revision, num_labels=task.num_labels)
    with torch.device("meta"):
        return has_pooler(head_class(task.auto_class, config)(config).base_model)


# ---- the heads that transformers lacks ------------------------------------------------------------------------------


class SpansFromTokens:
    """Question answering on a family's token-classification head: its two scores of each token are start and end."""

    def __init__(self, config):
        config.num_labels = 2
        super().__init__(config)

    def forward(self, *args, **kwargs):
        from transformers.modeling_outputs import QuestionAnsweringModelOutput

        start, end = super().forward(*args, **kwargs).logits.unbind(-1)  # (rows, tokens) each
        return QuestionAnsweringModelOutput(start_logits=start, end_logits=end)


class ChoicesFromPairs:
    """Multiple choice on a family's sequence-classification head: its one score of each (question, choice) row."""

    def __init__(self, config):
        config.num_labels = 1
        super().__init__(config)

    def forward(self, input_ids, **kwargs):
        from transformers.modeling_outputs import MultipleChoiceModelOutput

        rows, choices = input_ids.shape[:2]
        flat = {
            key: value.flatten(0, 1) if isinstance(value, torch.Tensor) else value for key, value in kwargs.items()
        }
        logits = super().forward(input_ids=input_ids.flatten(0, 1), **flat).logits
        return MultipleChoiceModelOutput(logits=logits.view(rows, choices))


# the auto class that a family may lack: ours over the family's class of another auto class
STANDS_ON = {
    "AutoModelForQuestionAnswering": (SpansFromTokens, "AutoModelForTokenClassification"),
    "AutoModelForMultipleChoice": (ChoicesFromPairs, "AutoModelForSequenceClassification"),
}


def head_class(auto_class: str, config: PretrainedConfig) -> type[PreTrainedModel]:
    """Return the model class of a head for a config: transformers' own or, where it has none, ours over another head
    of the family.

    Ours is registered with the auto class, so that `AutoModelFor...from_pretrained` loads what it saved, in any
    program that has called this function for the family.

    Args:
        auto_class: e.g. "AutoModelForQuestionAnswering".

    Raises:
        UserError: the family has neither.
    """
    import transformers

    try:
        if type(config) in (own := mapping(auto_class)):
            return own[type(config)]
        ours, stand = STANDS_ON[auto_class]
        family = mapping(stand)[type(config)]
    except KeyError as error:
        form = auto_class.removeprefix("AutoModelFor")
        raise UserError(
            f"a {config.model_type} model has no head for {form} in transformers, and none it could stand on; "
            "docs/models.md lists which models work."
        ) from error

    @functools.wraps(family.forward)  # the Trainer keeps the columns that are named in the signature
    def forward(self, *args, **kwargs):
        return ours.forward(self, *args, **kwargs)

    made = type(
        f"{family.__name__.partition('For')[0]}For{auto_class.removeprefix('AutoModelFor')}",
        (ours, family),
        {"forward": forward},
    )
    getattr(transformers, auto_class).register(type(config), made)
    return made


def mapping(auto_class: str):
    """transformers' {config class: model class} of an auto class, e.g. MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING."""
    import transformers

    words = re.findall("[A-Z][a-z]+", auto_class.removeprefix("AutoModelFor"))
    return getattr(transformers, f"MODEL_FOR_{'_'.join(words).upper()}_MAPPING")


def load_head(folder: str, auto_class: str) -> PreTrainedModel:
    """Return a whole saved model with its trained head, also where the head is one that transformers lacks.

    Args:
        folder: written by run_target.py or run_intermediate.py, or a Hub id.
        auto_class: e.g. "AutoModelForQuestionAnswering".

    Raises:
        UserError: it does not load.
    """
    config = read_config(folder)
    try:
        return head_class(auto_class, config).from_pretrained(folder, dtype=torch.float32)
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(f"{folder}: does not load with {auto_class} ({first_line(error)}).") from error


# ---- masked LM ------------------------------------------------------------------------------------------------------


def masked_lm(name: str, revision: str = "main", encoder=None, attention: str | None = None) -> PreTrainedModel:
    """Return the checkpoint with a masked-LM head: its own if it has one, else one tied to its embeddings and drawn
    anew.

    Args:
        name, revision: the checkpoint.
        encoder: put under the head in place of the checkpoint's own.
        attention: transformers' `attn_implementation`; None: its choice.

    Raises:
        UserError: it does not load, or its encoder is refused.
    """
    from transformers import AutoModelForMaskedLM

    read_config(name, revision)
    options = {"attn_implementation": attention} if attention else {}
    try:
        with quiet():
            model, info = AutoModelForMaskedLM.from_pretrained(
                name,
                revision=revision,
                dtype=torch.float32,
                trust_remote_code=False,
                output_loading_info=True,
                **options,
            )
    except Exception as error:
        raise UserError(f"{name}: does not load for masked language modelling ({first_line(error)}).") from error
    check_weights(name, model, info["missing_keys"], info["unexpected_keys"])
    check_encoder(name, model.base_model)
    if encoder is not None:
        setattr(model, model.base_model_prefix, encoder)
        model.tie_weights()
    return model


def from_sizes(config_name: str, tokenizer) -> PreTrainedModel:
    """Return an untrained masked-LM model from a JSON file of `model_type` and sizes; the tokenizer gives the
    vocabulary's.

    Raises:
        UserError: no such file, or not a model config.
    """
    from transformers import AutoConfig, AutoModelForMaskedLM

    try:
        sizes = json.loads(Path(config_name).read_text(encoding="utf-8"))
        config = AutoConfig.for_model(
            **sizes,
            vocab_size=len(tokenizer),
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
        return AutoModelForMaskedLM.from_config(config, trust_remote_code=False)
    except Exception as error:
        raise UserError(
            f"--config_name {config_name}: no model can be made of it ({first_line(error)}). Expected JSON such as "
            "recipes/models/xlmr-tiny.json."
        ) from error


def freeze_embeddings(model: PreTrainedModel) -> None:
    """Stop gradients of the embedding layer: tokens and, where they stand beside them, positions and norm."""
    base = model.base_model
    tokens = base.get_input_embeddings()
    for child in base.children():
        if any(module is tokens for module in child.modules()) or isinstance(child, torch.nn.Embedding):
            child.requires_grad_(False)
