"""Put a head on a checkpoint's encoder: a fresh one, or the masked-LM head."""

from __future__ import annotations

import functools
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from tasks.errors import UserError, first_line
from xstilts.checkpoint.config import OUTPUTS, read_config
from xstilts.checkpoint.encoder import (
    attention_option,
    check_encoder,
    from_pretrained,
    load_encoder,
    prepare_attention,
)
from xstilts.checkpoint.tokenizer import load_tokenizer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase, PreTrainedTokenizerFast
    from transformers.modeling_outputs import MultipleChoiceModelOutput, QuestionAnsweringModelOutput

    from tasks.base import Task
    from tasks.rows import Rows

    Family = PreTrainedModel  # the heads below are mixed into a model class, see `head_class`
else:
    Family = object


def head_of(
    task: Task, name: str, revision: str, encoder: PreTrainedModel, notes: list[str] | None = None
) -> PreTrainedModel:
    """Return the task's model on an encoder: `masked_lm` for masked language modelling, else `fresh_head`."""
    if task.masks:
        return masked_lm(name, revision, encoder, notes=notes)
    return fresh_head(task, name, revision, encoder)


def fresh_head(
    task: Task,
    name: str,
    revision: str = "main",
    encoder: PreTrainedModel | None = None,
    attention: str | None = None,
) -> PreTrainedModel:
    """Return the task's model: the checkpoint's encoder with a newly initialised head.

    The head of the checkpoint is never reused, even if it has the same shape. The pooler (multiple choice on XLM-R) is
    kept if the checkpoint has one; otherwise it is new too. Draws from torch's global generator.

    Args:
        task: the task adapter.
        name, revision: the checkpoint.
        encoder: used instead of the checkpoint's own.
        attention: transformers' `attn_implementation`; None: its default.

    Raises:
        UserError: the checkpoint is not supported, or its model type has no head of the task's form.
    """
    config = head_config(task, name, revision, **attention_option(attention))
    model = head_class(task.auto_class, config)(config)
    if encoder is None:
        base = encoder_of(model)
        encoder, _ = load_encoder(name, revision, pooler=has_pooler(base))
        result = base.load_state_dict(encoder.state_dict(), strict=False)
        missing = [key for key in result.missing_keys if "pooler" not in key.split(".")]
        if missing or result.unexpected_keys:
            raise UserError(
                f"{name}: the encoder does not fit into {type(model).__name__} "
                f"({(missing + result.unexpected_keys)[0]})."
            )
        prepare_attention(name, model, attention)
    else:
        setattr(model, model.base_model_prefix, encoder)
    # these heads ignore num_items_in_batch, but the Trainer would assume that they use it
    model.accepts_loss_kwargs = False  # type: ignore[assignment]  # an attribute that torch's stubs take for a module
    return model


def head_config(task: Task, name: str, revision: str = "main", **changes: Any) -> PretrainedConfig:
    """Return the checkpoint's config with the labels of the task, and nothing of the head that it had before.

    Args:
        changes: of `read_config`.
    """
    config = read_config(name, revision, **changes)
    # the kind of the old head's labels: a pipeline would choose sigmoid or softmax by it
    config.problem_type = None
    labels = task.labels or [f"LABEL_{i}" for i in range(task.num_labels)]  # transformers' names where there are none
    config.id2label = dict(enumerate(labels))
    config.label2id = {label: i for i, label in enumerate(labels)}
    return config


def load(
    task: Task,
    rows: Rows,
    name: str,
    revision: str = "main",
    attention: str | None = None,
    frozen_embeddings: bool = False,
) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """Return (a checkpoint's encoder with a fresh head for `task`, its tokenizer).

    Args:
        rows: a task whose labels are in its rows reads them here.

    Raises:
        UserError: tokenizer, rows or model do not load, see `load_tokenizer`, `Task.prepare` and `fresh_head`.
    """
    tokenizer = load_tokenizer(name, revision)
    task.prepare(rows)
    model = fresh_head(task, name, revision, attention=attention)
    if frozen_embeddings:
        freeze_embeddings(model)
    return model, tokenizer


def encoder_of(model: PreTrainedModel) -> PreTrainedModel:
    """Return the encoder below a model's head, which transformers' annotations call a plain module."""
    return model.base_model  # type: ignore[return-value]


def has_pooler(base: PreTrainedModel) -> bool:
    """Whether an encoder has a pooler."""
    return getattr(base, "pooler", None) is not None


def needs_pooler(task: Task, name: str, revision: str = "main") -> bool:
    """Whether the task's head on this checkpoint reads the pooler. Draws no random numbers."""
    if task.masks:
        return False
    config = head_config(task, name, revision)
    with torch.device("meta"):
        return has_pooler(encoder_of(head_class(task.auto_class, config)(config)))


# ---- the heads that transformers lacks ------------------------------------------------------------------------------


class SpansFromTokens(Family):
    """Question answering with a token-classification head: the two scores of a token are start and end."""

    def __init__(self, config: PretrainedConfig):
        config.num_labels = 2
        super().__init__(config)

    def forward(self, *args: Any, **kwargs: Any) -> QuestionAnsweringModelOutput:
        from transformers.modeling_outputs import QuestionAnsweringModelOutput

        start, end = super().forward(*args, **kwargs).logits.unbind(-1)  # (rows, tokens) each
        return QuestionAnsweringModelOutput(start_logits=start, end_logits=end)


class ChoicesFromPairs(Family):
    """Multiple choice with a sequence-classification head: one score for each row of (question, choice)."""

    def __init__(self, config: PretrainedConfig):
        config.num_labels = 1
        super().__init__(config)

    def forward(self, input_ids: torch.Tensor, **kwargs: Any) -> MultipleChoiceModelOutput:
        from transformers.modeling_outputs import MultipleChoiceModelOutput

        rows, choices = input_ids.shape[:2]
        by_row = {
            key: value.flatten(0, 1) if isinstance(value, torch.Tensor) else value for key, value in kwargs.items()
        }
        logits = super().forward(input_ids=input_ids.flatten(0, 1), **by_row).logits
        return MultipleChoiceModelOutput(logits=logits.view(rows, choices))


# an auto class that a model type may lack -> our mixin, and the auto class whose head it uses
SUBSTITUTES: dict[str, tuple[type[SpansFromTokens] | type[ChoicesFromPairs], str]] = {
    "AutoModelForQuestionAnswering": (SpansFromTokens, "AutoModelForTokenClassification"),
    "AutoModelForMultipleChoice": (ChoicesFromPairs, "AutoModelForSequenceClassification"),
}


def head_class(auto_class: str, config: PretrainedConfig) -> type[PreTrainedModel]:
    """Return the model class with this head: transformers' own, or ours on another head of the same model type.

    Our class is registered with the auto class, so `AutoModelFor...from_pretrained` loads its checkpoints in any
    program that has called this function for the model type.

    Args:
        auto_class: e.g. "AutoModelForQuestionAnswering".

    Raises:
        UserError: the model type has neither.
    """
    import transformers

    try:
        if type(config) in (own := mapping(auto_class)):
            return own[type(config)]
        mixin, substitute = SUBSTITUTES[auto_class]
        family = mapping(substitute)[type(config)]
    except KeyError as error:
        form = auto_class.removeprefix("AutoModelFor")
        raise UserError(
            f"a {config.model_type} model has no head for {form} in transformers, nor one that could replace it. "
            "docs/models.md lists the models that work."
        ) from error

    @functools.wraps(family.forward)  # the Trainer keeps the columns that the signature names
    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        return mixin.forward(self, *args, **kwargs)

    model_class: type[PreTrainedModel] = type(
        f"{family.__name__.partition('For')[0]}For{auto_class.removeprefix('AutoModelFor')}",
        (mixin, family),
        {"forward": forward},
    )
    getattr(transformers, auto_class).register(type(config), model_class)
    return model_class


def mapping(auto_class: str) -> Mapping[type[PretrainedConfig], type[PreTrainedModel]]:
    """Transformers' {config class: model class} of an auto class, e.g. MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING."""
    import transformers

    words = re.findall("[A-Z][a-z]+", auto_class.removeprefix("AutoModelFor"))
    return getattr(transformers, f"MODEL_FOR_{'_'.join(words).upper()}_MAPPING")


def load_head(folder: str, auto_class: str) -> PreTrainedModel:
    """Return a saved model with its trained head, including heads that transformers lacks.

    Args:
        folder: written by run_target.py or run_intermediate.py, or a Hub id.
        auto_class: e.g. "AutoModelForQuestionAnswering".

    Raises:
        UserError: it does not load.
    """
    config = read_config(folder)
    try:
        return head_class(auto_class, config).from_pretrained(folder, config=config, dtype=torch.float32)
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(f"{folder}: does not load with {auto_class} ({first_line(error)}).") from error


# ---- masked LM ------------------------------------------------------------------------------------------------------


def masked_lm(
    name: str,
    revision: str = "main",
    encoder: PreTrainedModel | None = None,
    attention: str | None = None,
    notes: list[str] | None = None,
) -> PreTrainedModel:
    """Return the checkpoint with its masked-LM head, or with a new one, tied to the embeddings, if it has none.

    A new head draws from torch's global generator.

    Args:
        name, revision: the checkpoint.
        encoder: used instead of the checkpoint's own.
        attention: transformers' `attn_implementation`; None: its default.
        notes: gets one if the head is new.

    Raises:
        UserError: it does not load, or its encoder is not supported.
    """
    from transformers import AutoModelForMaskedLM

    config = read_config(name, revision)
    purpose = "for masked language modelling"
    model, missing = from_pretrained(AutoModelForMaskedLM, purpose, name, revision, config, attention)
    check_encoder(name, encoder_of(model))
    new = [key for key in missing if not key.startswith(f"{model.base_model_prefix}.")]
    if new and notes is not None:
        notes.append(
            f"masked LM: the checkpoint lacks {len(new)} weights of {type(model).__name__}'s head, e.g. {new[0]}: a "
            "new head is trained"
        )
    if encoder is not None:
        setattr(model, model.base_model_prefix, encoder)
        model.tie_weights()
    return model


def from_sizes(config_name: str, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    """Return an untrained masked-LM model from a JSON file of `model_type` and sizes, with the tokenizer's vocabulary.

    Raises:
        UserError: no such file, or not a model config.
    """
    from transformers import AutoConfig, AutoModelForMaskedLM

    try:
        sizes = json.loads(Path(config_name).read_text(encoding="utf-8"))
        config = AutoConfig.for_model(
            **(sizes | OUTPUTS),
            vocab_size=len(tokenizer),
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
        return AutoModelForMaskedLM.from_config(config, trust_remote_code=False)
    except Exception as error:
        raise UserError(
            f"--config_name {config_name}: no model can be built from it ({first_line(error)}). Expected JSON such as "
            "recipes/models/xlmr-tiny.json."
        ) from error


def freeze_embeddings(model: PreTrainedModel) -> None:
    """Freeze the embedding layer: token embeddings and, in the same module or beside it, positions and norm."""
    base = encoder_of(model)
    tokens = base.get_input_embeddings()
    for child in base.children():
        if any(module is tokens for module in child.modules()) or isinstance(child, torch.nn.Embedding):
            child.requires_grad_(False)
