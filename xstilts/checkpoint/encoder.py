"""The encoder of a checkpoint: loaded, checked, and its longest input."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from tasks.errors import UserError, first_line
from xstilts.checkpoint.config import WORKS, adapter_beside, encoder_class, not_loaded, read_config

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerFast

# rounding in a float32 state, relative to its largest value; measured with random weights in 24 layers: 1e-5
NOISE = 1e-4
UNLIMITED = 10**6  # tokens, for a model without a limit
# What published checkpoints hold beside their encoder's weights, and no config.json describes: computed numbers, which
# old versions of transformers saved, and the table that DeBERTa-v3 trained on top of its generator's, whose sum
# `weight` holds.
UNUSED = re.compile(r"(^|[._])(position_ids|token_type_ids|inv_freq)$|_embeddings\._weight$")


# ---- loading --------------------------------------------------------------------------------------------------------


def load_encoder(
    name: str, revision: str = "main", pooler: bool = False, attention: str | None = None
) -> tuple[PreTrainedModel, list[str]]:
    """Return the checkpoint's encoder in float32, without its head, and the names of its missing parameters.

    Args:
        name: a folder or Hub id.
        revision: of a Hub id.
        pooler: whether to load the pooler, in classes that have one.
        attention: transformers' `attn_implementation`; None: its default.

    Raises:
        UserError: it does not load; weights other than the pooler's are missing or unexpected; a weight is not
            finite; or `check_encoder` refuses it.
    """
    from transformers import AutoModel

    config = read_config(name, revision)
    options = pooling_layer(config, pooler)
    model, missing = from_pretrained(AutoModel, "as an encoder", name, revision, config, attention, **options)
    check_encoder(name, model)
    return model, missing


def from_pretrained(
    auto_class: Any,
    purpose: str,
    name: str,
    revision: str,
    config: PretrainedConfig,
    attention: str | None,
    **options: Any,
) -> tuple[PreTrainedModel, list[str]]:
    """Return a checkpoint's model of a transformers Auto class, in float32, and its missing parameters, sorted.

    Args:
        purpose: for the error, such as "as an encoder".
        config: of `read_config`.
        attention: transformers' `attn_implementation`; None: its default.
        options: of the class's `from_pretrained`.

    Raises:
        UserError: it does not load, or see `check_plain` and `check_weights`.
    """
    options |= attention_option(attention)
    try:
        with quiet():
            model, info = auto_class.from_pretrained(
                name,
                revision=revision,
                config=config,
                dtype=torch.float32,
                trust_remote_code=False,
                output_loading_info=True,
                **options,
            )
    except Exception as error:
        raise not_loaded(name, f"does not load {purpose}", error) from error
    check_plain(name, model)
    missing = sorted(info["missing_keys"])
    start_biases(model, missing)
    check_weights(name, model, missing, info["unexpected_keys"])
    prepare_attention(name, model, attention)
    return model, missing


def start_biases(model: PreTrainedModel, missing: Iterable[str]) -> None:
    """Set the biases that a checkpoint lacks to zero, as they are in a new model.

    transformers leaves those of some heads as they lay in memory, whatever the seed: Longformer's lm_head.bias.

    Args:
        missing: keys, from `output_loading_info`.
    """
    parameters = dict(model.named_parameters(remove_duplicate=False))
    for key in missing:
        if key.rpartition(".")[2] == "bias" and key in parameters:
            torch.nn.init.zeros_(parameters[key])


def check_plain(name: str, model: PreTrainedModel) -> None:
    """Raise UserError if transformers loaded a PEFT adapter with the model, as it does from the Hub too."""
    if getattr(model, "peft_config", None):
        raise adapter_beside(name)


def attention_option(attention: str | None) -> dict[str, str]:
    """The argument `attn_implementation` of transformers' loaders, if one is given. Makes ours known to them."""
    if not attention:
        return {}
    from xstilts.checkpoint import padding_free

    padding_free.register()
    return {"attn_implementation": attention}


def prepare_attention(name: str, model: PreTrainedModel, attention: str | None) -> None:
    """Do what an attention of ours needs, after the weights are loaded.

    Args:
        name: the checkpoint, for the message.
        model: an encoder, or a model with a head.
        attention: the one it was loaded with.

    Raises:
        UserError: this model type cannot use it.
    """
    from xstilts.checkpoint import padding_free

    if attention == padding_free.NAME:
        padding_free.install(name, model.base_model)  # type: ignore[arg-type]  # annotated as a plain module


def pooling_layer(config: PretrainedConfig, wanted: bool) -> dict[str, bool]:
    """The argument `add_pooling_layer`, for the model classes that have it; their defaults differ."""
    has_argument = "add_pooling_layer" in inspect.signature(encoder_class(config).__init__).parameters
    return {"add_pooling_layer": wanted} if has_argument else {}


def load_without_pooler(folder: str | Path, config: PretrainedConfig) -> None:
    """Make SentenceTransformer load a folder, saved without a pooler, without one; it would add random weights.

    Args:
        config: of the encoder in the folder. Nothing is written for a class that has no pooler to leave out.
    """
    path, options = Path(folder, "sentence_bert_config.json"), pooling_layer(config, False)
    if options:
        # model_args: the name that older versions of sentence-transformers read too
        values = json.loads(path.read_text(encoding="utf-8")) | {"model_args": options}
        path.write_text(json.dumps(values, indent=4), encoding="utf-8")


@contextmanager
def quiet() -> Iterator[None]:
    """Hide transformers' report on weights and its progress bars: `check_weights` reports missing weights."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def check_weights(name: str, model: PreTrainedModel, missing: Iterable[str], unexpected: Iterable[str]) -> None:
    """Raise UserError unless the checkpoint holds exactly the model's encoder weights, all of them finite.

    The pooler is not checked. A missing weight would be random. An unexpected one, unless it is `UNUSED`, means that
    config.json describes another encoder, e.g. one with fewer layers.

    Args:
        name: the checkpoint, for the message.
        model: the encoder, or a model with a head.
        missing, unexpected: keys, from `output_loading_info`.
    """
    not_finite = [key for key, weight in model.named_parameters() if not all_finite(weight)]
    if not_finite:
        raise UserError(f"{name}: {len(not_finite)} of its weights hold NaN or infinity, e.g. {not_finite[0]}.")
    base = model.base_model
    prefix = f"{model.base_model_prefix}."
    parts = {child for child, _ in base.named_children()}

    def of_encoder(key: str) -> bool:
        inside = key.removeprefix(prefix)
        return "pooler" not in inside.split(".") and (
            key.startswith(prefix) or (base is model and inside.split(".")[0] in parts)
        )

    absent = sorted(key for key in missing if of_encoder(key))
    if absent:
        raise UserError(f"{name}: {len(absent)} encoder weights are missing from the checkpoint, e.g. {absent[0]}.")
    # the keys of a bare encoder have no prefix; with a head they have one, and the head's keys are not the encoder's
    extra = sorted(key for key in unexpected if key.startswith(prefix) or key.split(".")[0] in parts)
    extra = [key for key in extra if "pooler" not in key.split(".") and not UNUSED.search(key)]
    if extra:
        raise UserError(
            f"{name}: the checkpoint holds {len(extra)} encoder weights that config.json does not describe, e.g. "
            f"{extra[0]}. Correct config.json (e.g. num_hidden_layers), or another encoder than the trained one loads."
        )


def all_finite(weight: torch.Tensor) -> bool:
    """Whether a weight holds neither NaN nor infinity.

    From its extremes, which are NaN if any value is: `isfinite` makes copies, of a table of 250,000 embeddings a GiB.
    """
    if type(weight.data) is not torch.Tensor or not weight.numel():  # of parts on several processes, or empty
        return bool(weight.isfinite().all())
    return bool(torch.stack(weight.detach().aminmax()).isfinite().all())


# ---- checks on two short rows ---------------------------------------------------------------------------------------


def probe(config: PretrainedConfig) -> dict[str, torch.Tensor]:
    """A batch of two rows of arbitrary tokens, shape (2, 7); the second row has 4 tokens and 3 of padding."""
    pad = config.pad_token_id if isinstance(config.pad_token_id, int) and config.pad_token_id >= 0 else 0
    ids = [token for token in range(config.vocab_size // 2, config.vocab_size) if token != pad][:9]
    if len(ids) < 9:
        ids = ([token for token in range(config.vocab_size) if token != pad] * 9)[:9]
    rows = torch.tensor([ids[:7], ids[5:9] + [pad] * 3])
    mask = torch.tensor([[1] * 7, [1] * 4 + [0] * 3])
    return {"input_ids": rows, "attention_mask": mask}


@contextmanager
def evaluating(model: PreTrainedModel) -> Iterator[None]:
    """Run without dropout and gradients, and leave torch's random state unchanged."""
    training = model.training
    model.eval()
    try:
        with torch.random.fork_rng(devices=[]), torch.inference_mode():
            yield
    finally:
        model.train(training)


def differ(state: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether two tensors differ by more than rounding."""
    if state.shape != other.shape:
        return True
    # not <=, so that NaN counts as a difference
    return not bool((state - other).abs().max() <= NOISE * other.abs().max().clamp(min=1e-9))


def check_language(name: str, model: PreTrainedModel) -> None:
    """Raise UserError if a model needs the language of its input (X-MOD, some XLM), which no script gives it."""
    config = model.config
    if hasattr(model, "set_default_language") and getattr(config, "default_language", None) is None:
        raise UserError(
            f'{name}: its layers depend on the language. Set "default_language" in config.json to one of: '
            f"{' '.join(config.languages)}."
        )
    if getattr(model, "lang_embeddings", None) is not None:
        raise UserError(
            f"{name}: it adds language embeddings to its input (use_lang_emb), and transformers would run it without "
            f"them, because no language is given. {WORKS}"
        )


def check_encoder(name: str, model: PreTrainedModel) -> None:
    """Raise UserError unless the encoder attends in both directions and ignores padding.

    The check does not know model names. It runs two short rows, once padded together and once alone.
    """
    check_language(name, model)
    config, batch = model.config, probe(model.config)
    try:
        with evaluating(model):
            together = model(**batch).last_hidden_state
            alone = model(**{key: rows[1:, :4] for key, rows in batch.items()}).last_hidden_state
            changed = batch["input_ids"][:1].clone()
            changed[0, 1] = changed[0, 2]
            other = model(input_ids=changed, attention_mask=batch["attention_mask"][:1]).last_hidden_state
    except Exception as error:
        raise UserError(
            f"{name}: a {config.model_type} model fails on two short rows of tokens ({first_line(error)}), so it is "
            f"not supported. {WORKS}"
        ) from error
    if not together[0].isfinite().all():
        raise UserError(
            f"{name}: its output on two short rows of tokens is NaN or infinity. Its weights are too large."
        )
    if together.shape[1] != batch["input_ids"].shape[1] or differ(together[1:, :4], alone):
        raise UserError(
            f"{name}: the vectors of a {config.model_type} model depend on the padding of its batch, so scores could "
            f"not be reproduced. {WORKS}"
        )
    if torch.equal(other[0, 0], together[0, 0]) and not torch.equal(other[0, 1], together[0, 1]):
        raise UserError(f"{name}: a decoder: the first token does not attend to the second. {WORKS}")


def check_precision(name: str, model: PreTrainedModel, dtype: str) -> None:
    """Raise UserError if an encoder cast to `dtype` does not run; DeBERTa's code, for example, mixes precisions."""
    try:
        with evaluating(model):
            model(**probe(model.config))
    except Exception as error:
        raise UserError(f"{name} does not run in {dtype} ({first_line(error)}). Give --dtype fp32.") from error


# ---- the longest input ----------------------------------------------------------------------------------------------


def position_limit(config: PretrainedConfig) -> int:
    """Return the largest number of tokens that the model's position embeddings cover.

    RoBERTa models count positions from padding_idx + 1, so a table of 514 covers 512 tokens. For a model without a
    table (relative or rotary positions) the limit is `max_position_embeddings`, its length in training.
    """
    from transformers import AutoModel

    longest = getattr(config, "max_position_embeddings", None)
    if not longest:
        return UNLIMITED
    with torch.device("meta"):  # no memory, no time, no random numbers
        model = AutoModel.from_config(config, trust_remote_code=False)
    return longest - first_position(model)


def first_position(model: PreTrainedModel) -> int:
    """Return the number of a row's first position: padding_idx + 1 in RoBERTa models, else 0."""
    for path, module in model.named_modules():
        if (
            isinstance(module, torch.nn.Embedding)
            and "position" in path.rpartition(".")[2]
            and module.num_embeddings == getattr(model.config, "max_position_embeddings", None)
        ):
            return 0 if module.padding_idx is None else module.padding_idx + 1
    return 0


def length_limit(config: PretrainedConfig, tokenizer: PreTrainedTokenizerFast) -> int:
    """Return the largest number of tokens that both model and tokenizer accept."""
    return int(min(position_limit(config), tokenizer.model_max_length))


def check_vocabulary(name: str, config: PretrainedConfig, tokenizer: PreTrainedTokenizerFast) -> None:
    """Raise UserError if a token of the tokenizer has no embedding in the model. A GPU would fail without a reason."""
    needed = max(tokenizer.get_vocab().values()) + 1
    if needed > config.vocab_size:
        raise UserError(
            f"{name}: the tokenizer has {needed} tokens, but the model only {config.vocab_size} embeddings. Give a "
            "checkpoint with its own tokenizer."
        )
