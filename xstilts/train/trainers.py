"""Trainers: one loss for every head, checks for non-finite weights, and masks that a resumed run reproduces."""

from __future__ import annotations

import contextlib
import functools
import logging
import math
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from torch.utils.data import BatchSampler, DataLoader
from transformers import (
    DataCollatorForLanguageModeling,
    PreTrainedTokenizerBase,
    SchedulerType,
    TokenizersBackend,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.trainer_pt_utils import LengthGroupedSampler
from transformers.training_args import OptimizerNames

from tasks.base import Task
from tasks.errors import UserError
from xstilts.checkpoint import padding_free
from xstilts.checkpoint.encoder import all_finite
from xstilts.checkpoint.layers import layer_classes
from xstilts.checkpoint.tokenizer import clean_tokenizer
from xstilts.run import checkpoints
from xstilts.run.files import obey_umask
from xstilts.train import batching, host_facts
from xstilts.train.masked import labelled_places, masked_tokens_alone
from xstilts.train.progress import show_progress
from xstilts.train.training_checks import user_errors

logger = logging.getLogger("xstilts")


class Masking(DataCollatorForLanguageModeling):
    """Masking that depends only on the seed and the batch, so a resumed run reproduces it.

    The generator saved with a checkpoint would not do: batches are loaded ahead of their step, so it has already
    drawn the masks of the next one.

    At least one token of a batch is masked: in a few short texts chance often selects none, and the mean loss over no
    token is NaN. Special tokens are never masked.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, mlm_probability: float, seed: int):
        super().__init__(tokenizer, mlm_probability=mlm_probability)
        self.run_seed, self.special = seed, torch.tensor(tokenizer.all_special_ids)

    def __call__(self, features: list[dict[str, Any]], return_tensors: str | None = None) -> dict[str, Any]:
        batch = repr([list(row["input_ids"]) for row in features]).encode()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.run_seed * 2**32 + zlib.crc32(batch))
            return super().__call__(features, return_tensors)

    def torch_mask_tokens(
        self, inputs: torch.Tensor, special_tokens_mask: Any = None, offset_mapping: Any = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        words = ~torch.isin(inputs, self.special)
        inputs, labels = super().torch_mask_tokens(inputs, ~words, offset_mapping)
        if (labels == -100).all():  # nothing was masked, so inputs are unchanged too
            places = words.nonzero()
            row, column = places[torch.randint(len(places), ())]
            labels[row, column], inputs[row, column] = inputs[row, column].clone(), self.tokenizer.mask_token_id
        return inputs, labels


class Checkpoints(TrainerCallback):
    """Decides what is logged with a checkpoint, which checkpoints stay, and where the best one is looked for."""

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        # transformers would rotate by modification time, and remove the last checkpoint if another one is the best: a
        # run killed during scoring would then train again
        self.limit, args.save_total_limit = args.save_total_limit, None
        # transformers stores a path, but the folder may have been moved since. If nothing is there, it keeps the last
        # weights instead of the best, and does not report it
        if state.best_model_checkpoint or state.best_global_step:
            state.best_model_checkpoint = str(Path(str(args.output_dir), f"checkpoint-{state.best_global_step}"))

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        # Log with each checkpoint: logging restarts the running mean of the loss, and so does resuming. Without this
        # line the logs of a resumed run would differ from those of an uninterrupted one.
        control.should_log |= control.should_save

    on_epoch_end = on_step_end

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if self.limit and state.is_world_process_zero:
            assert args.output_dir is not None  # every run has one
            checkpoints.rotate(args.output_dir, self.limit, state.best_model_checkpoint)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        args.save_total_limit = self.limit


class CheckedTrainer(Trainer):
    """A Trainer that raises on a non-finite loss or weight before it saves a checkpoint.

    It also counts the tokens it trains on (without padding, over all processes) in the saved trainer state. Losses and
    tokens are summed where they are and read with each log line, each checkpoint and at the end: a step that read
    them would make a GPU wait.
    """

    tokens: torch.Tensor | int = 0  # seen by this process since the last count
    losses: torch.Tensor | float = 0.0  # sum over this process's batches since the last check
    checked_step = 0  # the step at which losses were last checked
    resumed_step = 0  # the step of the checkpoint that the training resumes from

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> Any:
        self.add_callback(Checkpoints)
        # this filter would read every loss, and hide a non-finite one from the log
        self.args.logging_nan_inf_filter = False
        if resume_from_checkpoint:
            state = TrainerState.load_from_json(str(Path(str(resume_from_checkpoint), "trainer_state.json")))
            self.resumed_step = self.checked_step = state.global_step
        output = super().train(resume_from_checkpoint, *args, **kwargs)
        self.check_losses()
        self.count_tokens()
        return output

    def create_accelerator_and_postprocess(self) -> None:
        """Also let batches travel from pinned memory to a GPU while it works."""
        super().create_accelerator_and_postprocess()
        self.accelerator.dataloader_config.non_blocking = self.args.dataloader_pin_memory

    def set_initial_training_values(self, args: TrainingArguments, dataloader: DataLoader) -> tuple:
        """Return transformers' numbers, with no epoch left to train after the last step.

        transformers would train one step too many when it resumes from the checkpoint of the last step.
        """
        epochs, steps_per_epoch, *others, max_steps = super().set_initial_training_values(args, dataloader)
        if self.resumed_step >= max_steps:
            epochs = self.resumed_step // steps_per_epoch
        return epochs, steps_per_epoch, *others, max_steps

    def create_optimizer(self, *args: Any, **kwargs: Any) -> torch.optim.Optimizer:
        with user_errors(f"--optim {OptimizerNames(self.args.optim).value}, --optim_args and --adam_*"):
            return super().create_optimizer(*args, **kwargs)

    def create_scheduler(self, *args: Any, **kwargs: Any) -> Any:
        schedule = SchedulerType(self.args.lr_scheduler_type).value
        with user_errors(f"--lr_scheduler_type {schedule}, --lr_scheduler_kwargs and --warmup_steps"):
            return super().create_scheduler(*args, **kwargs)

    def training_step(
        self, model: torch.nn.Module, inputs: dict[str, torch.Tensor], *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        self.tokens += sum(value.sum() for key, value in inputs.items() if key.endswith("attention_mask"))
        loss = super().training_step(model, inputs, *args, **kwargs)
        self.losses = self.losses + loss
        return loss

    def log(self, *args: Any, **kwargs: Any) -> None:
        """Log, after a check of the losses. All ranks call this together."""
        self.check_losses()
        super().log(*args, **kwargs)

    def check_losses(self) -> None:
        """Raise UserError if a loss since the last check is not finite. All ranks call this together."""
        own = torch.as_tensor(self.losses, dtype=torch.float32, device=self.args.device)
        total = float(self.accelerator.gather(own).sum())
        steps = f"steps {self.checked_step + 1} to {self.state.global_step}"
        self.losses, self.checked_step = 0.0, self.state.global_step
        if not math.isfinite(total):
            raise UserError(f"the loss is not a finite number ({steps}); try a smaller --learning_rate")

    def count_tokens(self) -> None:
        """Add the tokens of all processes to the trainer state. All ranks call this together."""
        own = torch.as_tensor(self.tokens, device=self.args.device)
        self.state.num_input_tokens_seen += int(self.accelerator.gather(own).sum())
        self.tokens = 0

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save the model and its tokenizer; transformers calls this for every checkpoint too."""
        if self.is_in_train:
            self.check_losses()
        check_weights(self.model)
        if self.is_in_train:
            self.count_tokens()
        folder = output_dir or str(self.args.output_dir)
        self.write(folder, _internal_call)
        if self.args.should_save:
            obey_umask(*Path(folder).glob("*.safetensors"))

    def write(self, folder: str, in_training: bool) -> None:
        """Write model and tokenizer to `folder`. All ranks call this together.

        Args:
            in_training: whether they belong to a checkpoint.
        """
        assert isinstance(self.processing_class, TokenizersBackend)  # a run's tokenizer comes from load_tokenizer
        clean_tokenizer(self.processing_class)
        super().save_model(folder, in_training)


def check_weights(model: torch.nn.Module | None) -> None:
    """Raise UserError if a weight is not a finite number."""
    assert model is not None  # Trainer.model is optional in its annotation alone
    if not all(map(all_finite, model.parameters())):
        raise UserError("the weights are not finite numbers; try a smaller --learning_rate")


class TaskTrainer(CheckedTrainer):
    """A Trainer with one loss for every head, and dev scores from the task's own decoding.

    Args:
        task: the task adapter (None for a mixture or masked LM).
        dev: (examples, features) of English dev, for choosing the checkpoint.
        name: the name on the progress bar (default: the task's name).
        kwargs: of transformers.Trainer.
    """

    def __init__(
        self,
        *,
        task: Task | None = None,
        dev: tuple[Dataset, Dataset] | None = None,
        name: str | None = None,
        **kwargs: Any,
    ):
        # also passed to Trainer, which derives its loss scaling from it
        super().__init__(compute_loss_func=token_mean, **kwargs)
        assert self.model is not None and self.args.output_dir is not None
        self.task, self.dev = task, dev
        check_model(self)
        if (
            plugin := getattr(self.accelerator.state, "fsdp_plugin", None)
        ) and plugin.transformer_cls_names_to_wrap is None:
            encoder = self.model.base_model
            assert isinstance(encoder, torch.nn.Module)
            plugin.transformer_cls_names_to_wrap = layer_classes(encoder)
        show_progress(self, name or (task.name if task else Path(self.args.output_dir).name))

    def get_train_dataloader(self) -> DataLoader:
        """Return a loader that draws the batches of all processes together and yields this process's part."""
        assert self.model is not None
        plain = self.data_collator
        self.data_collator = host_facts.Described(plain, padding_free.used_by(self.model))
        try:
            loader, parts = super().get_train_dataloader(), self.args.world_size
        finally:
            self.data_collator = plain
        # accelerate's BatchSamplerShard, which has no annotations, holds the sampler of batches if there are parts
        own: Any = loader.batch_sampler if parts == 1 else loader.batch_sampler.batch_sampler  # type: ignore[union-attr]
        if isinstance(own.sampler, LengthGroupedSampler):
            size = own.sampler.batch_size * parts
            own.sampler = batching.EpochSampler(own.sampler.lengths, size, batching.order_seed(self.args))
        if parts == 1:
            return loader
        return batching.split_batches(loader, BatchSampler(own.sampler, own.batch_size * parts, own.drop_last), parts)

    def get_eval_dataloader(self, eval_dataset: Any = None) -> DataLoader:
        with self._in_order():
            return super().get_eval_dataloader(eval_dataset)

    def get_test_dataloader(self, test_dataset: Any) -> DataLoader:
        with self._in_order():
            return super().get_test_dataloader(test_dataset)

    @contextlib.contextmanager
    def _in_order(self) -> Iterator[None]:
        """Keep the order of examples in loaders made within the block: scoring goes by position."""
        strategy, self.args.train_sampling_strategy = self.args.train_sampling_strategy, "sequential"
        try:
            yield
        finally:
            self.args.train_sampling_strategy = strategy

    def compute_loss(self, model: torch.nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        padded, labelled, layout = host_facts.take(inputs)
        self.compute_loss_func = functools.partial(
            token_mean, attention_mask=inputs["attention_mask"], labelled=labelled
        )
        plain = self.accelerator.unwrap_model(model, keep_torch_compile=False)
        head = plain.whole[inputs["task"]] if "task" in inputs else plain  # of a mixture
        known = host_facts.known_padding(padded), padding_free.known_layout(layout)
        with known[0], known[1], masked_tokens_alone(head, inputs.get("labels"), labelled):
            return super().compute_loss(model, inputs, *args, **kwargs)

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Return the task's scores on English dev, 0-100."""
        if self.dev is None or self.task is None:
            return super().evaluate(eval_dataset, ignore_keys, metric_key_prefix)
        predictions = self.task.decode(self.logits(self.dev[1]), self.dev[1], self.dev[0])
        metrics = {f"eval_{k}": v for k, v in self.task.score(predictions, self.dev[0], "en").items()}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def logits(self, features: Dataset) -> Any:
        """Return logits in the order of `features`: an array (n, ...), or for spans (starts, ends), each (n, tokens).

        Features are sorted by length before prediction, so that batches hold little padding.
        """
        order: Any = np.argsort(features["length"], kind="stable")[::-1]
        output = self.predict(features.select(order)).predictions
        if not all(np.isfinite(part).all() for part in (output if isinstance(output, tuple) else [output])):
            check_weights(self.model)
            raise UserError("the model's predictions are not finite numbers; give --bf16 false and --fp16 false")
        back = np.argsort(order)
        return tuple(part[back] for part in output) if isinstance(output, tuple) else output[back]


def check_model(trainer: Trainer) -> None:
    """Raise UserError if the model, or its attention, does not go with an argument of the training or with a GPU."""
    model, args = trainer.model, trainer.args
    assert isinstance(model, torch.nn.Module)
    able = all(getattr(part, "supports_gradient_checkpointing", True) for part in model.modules())
    if args.activation_checkpointing and not able:
        raise UserError(
            "--activation_checkpointing (or --gradient_checkpointing, its older name): transformers does not have it "
            "for this model type. Leave it out."
        )
    if (encoder := padding_free.encoder_in(model)) is None:
        return
    taken = f"--attn_implementation {padding_free.NAME}"
    for name, given, why in (
        ("torch_compile", args.torch_compile, "each batch has another shape"),
        ("neftune_noise_alpha", args.neftune_noise_alpha, "transformers divides the noise by the length of a row"),
        ("fsdp", getattr(trainer.accelerator.state, "fsdp_plugin", None), "it was not tried"),
        ("deepspeed", trainer.is_deepspeed_enabled, "it was not tried"),
    ):
        if given:
            raise UserError(f"--{name} does not go with {taken}: {why}. Leave one of them out.")
    if args.device.type != "cpu":
        padding_free.check_gpu(padding_free.attention_dropout(encoder.config), args.bf16 or args.fp16)
        if reason := padding_free.fault(encoder, trainer.accelerator.autocast):
            raise UserError(f"{taken} does not work on this device ({args.device}): {reason}. Give sdpa.")


def token_mean(
    outputs: dict[str, torch.Tensor],
    labels: torch.Tensor,
    num_items_in_batch: torch.Tensor | int | None = None,
    attention_mask: torch.Tensor | None = None,
    labelled: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return the cross-entropy summed over labels that are not -100, divided by their number in the optimiser step.

    One formula for every head (start and end of a span are two labels), so that neither gradient accumulation nor the
    number of processes changes loss or gradient.

    Args:
        labels: (n,) classes, (n, tokens) tags, or (n, 2) span ends.
        num_items_in_batch: labels in the whole optimiser step; None: only those of this batch.
        attention_mask: (n, tokens). Spans in the padding (0) are ruled out; otherwise the loss would depend on how
            much padding the batch holds.
        labelled: (k,) as for `masked_tokens_alone`; None: computed.
    """
    if "logits" in outputs:
        logits = outputs["logits"]
        if logits.dim() == labels.dim() == 2:  # of the tokens with a label alone (`masked_tokens_alone`)
            labels = labels.reshape(-1)[labelled_places(labels) if labelled is None else labelled]
    else:
        logits = torch.stack((outputs["start_logits"], outputs["end_logits"]), 1).float()
        if attention_mask is not None:
            logits = logits.masked_fill(attention_mask[:, None] == 0, torch.finfo(logits.dtype).min)
    total = torch.nn.functional.cross_entropy(
        logits.reshape(-1, logits.size(-1)).float(), labels.reshape(-1), ignore_index=-100, reduction="sum"
    )
    return total / (num_items_in_batch if num_items_in_batch is not None else (labels != -100).sum())
