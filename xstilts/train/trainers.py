"""The trainers: transformers' own with one loss for every head, checked weights, masks that a resumed run repeats."""

from __future__ import annotations

import contextlib
import functools
import logging
import math
import zlib
from pathlib import Path

import numpy as np
import torch
from transformers import DataCollatorForLanguageModeling, ProgressCallback, Trainer, TrainerCallback
from transformers.trainer_pt_utils import LengthGroupedSampler

from xstilts.checkpoint.layers import layer_classes
from xstilts.checkpoint.tokenizer import clean_tokenizer
from xstilts.errors import UserError
from xstilts.run import checkpoints, results
from xstilts.train import batching

logger = logging.getLogger("xstilts")


class NamedProgress(ProgressCallback):
    """The Trainer's bars, with a name on them."""

    def __init__(self, name: str):
        super().__init__()
        self.name = name

    def on_train_begin(self, args, state, control, **kwargs):
        super().on_train_begin(args, state, control, **kwargs)
        if self.training_bar is not None:
            self.training_bar.set_description(f"{self.name} training")

    def on_prediction_step(self, args, state, control, eval_dataloader=None, **kwargs):
        super().on_prediction_step(args, state, control, eval_dataloader=eval_dataloader, **kwargs)
        if self.prediction_bar is not None:
            self.prediction_bar.set_description(f"{self.name} scoring", refresh=False)


class Masking(DataCollatorForLanguageModeling):
    """transformers' masking, of which seed and batch decide alone what is masked; at least one token a batch is.

    Batches are made ahead of the step that takes them, so a generator saved with a checkpoint is already past the next
    one's masks, and a resumed run would mask it anew. Of a few short texts chance often masks nothing, and a mean over
    no token is no number; BERT's own masking takes at least one token of every text. Special tokens are never
    predicted.
    """

    def __init__(self, tokenizer, mlm_probability: float, seed: int):
        super().__init__(tokenizer, mlm_probability=mlm_probability)
        self.run_seed, self.special = seed, torch.tensor(tokenizer.all_special_ids)

    def __call__(self, features, return_tensors=None):
        batch = repr([list(row["input_ids"]) for row in features]).encode()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.run_seed * 2**32 + zlib.crc32(batch))
            return super().__call__(features, return_tensors)

    def torch_mask_tokens(self, inputs, special_tokens_mask=None, offset_mapping=None):
        words = ~torch.isin(inputs, self.special)
        inputs, labels = super().torch_mask_tokens(inputs, ~words, offset_mapping)
        if (labels == -100).all():  # then nothing was replaced in inputs either
            places = words.nonzero()
            row, column = places[torch.randint(len(places), ())]
            labels[row, column], inputs[row, column] = inputs[row, column].clone(), self.tokenizer.mask_token_id
        return inputs, labels


class BestOfFolder(TrainerCallback):
    """The best checkpoint is looked for where the run is: its folder may have been moved or copied since a kill.

    transformers keeps a path. Where nothing is there it would take the last weights for the best, without a word.
    """

    def on_train_begin(self, args, state, control, **kwargs):
        if state.best_model_checkpoint or state.best_global_step:
            state.best_model_checkpoint = str(Path(args.output_dir, f"checkpoint-{state.best_global_step}"))


class Watched:
    """A Trainer that stops when its loss or weights are no longer numbers, before it keeps such a checkpoint.

    It also counts the tokens it trains on (padding aside, over all processes) in what its checkpoints keep.
    """

    tokens: torch.Tensor | int = 0  # of this process since they were last counted

    def train(self, *args, **kwargs):
        self.add_callback(BestOfFolder)
        # would look at every loss too, only to leave such a one out of the log
        self.args.logging_nan_inf_filter = False
        output = super().train(*args, **kwargs)
        self.count_tokens()
        return output

    def training_step(self, model, inputs, *args, **kwargs):
        self.tokens += sum(value.sum() for key, value in inputs.items() if key.endswith("attention_mask"))
        loss = super().training_step(model, inputs, *args, **kwargs)
        if not math.isfinite(loss.item()):
            raise UserError("the loss is no longer a number; try a smaller --learning_rate")
        return loss

    def _run_epoch(self, *args, **kwargs):
        # a run resumed from its last checkpoint has nothing left to train; transformers would train one step more
        if self.state.global_step < self.state.max_steps:
            super()._run_epoch(*args, **kwargs)

    def _maybe_log_save_evaluate(self, *args, **kwargs):
        # a log line with each checkpoint: where a run that is resumed begins its next mean loss, others are to begin
        # theirs
        self.control.should_log |= self.control.should_save
        super()._maybe_log_save_evaluate(*args, **kwargs)

    def count_tokens(self) -> None:
        """What all processes have trained on goes into the state; they call it together."""
        mine = torch.as_tensor(self.tokens, device=self.args.device)
        self.state.num_input_tokens_seen += int(self.accelerator.gather(mine).sum())
        self.tokens = 0

    def _save_checkpoint(self, model, trial):
        check_weights(self.model)
        self.count_tokens()
        with self._all_kept() as limit:
            super()._save_checkpoint(model, trial)
        if limit and self.is_world_process_zero():
            checkpoints.rotate(self.args.output_dir, limit, self.state.best_model_checkpoint)

    def _finalize_training(self, *args, **kwargs):
        # transformers removes the last checkpoint where another is the best: a run killed while it scores would train
        # again
        with self._all_kept():
            return super()._finalize_training(*args, **kwargs)

    @contextlib.contextmanager
    def _all_kept(self):
        """transformers removes no checkpoint; yields the limit there is otherwise."""
        limit, self.args.save_total_limit = self.args.save_total_limit, None
        try:
            yield limit
        finally:
            self.args.save_total_limit = limit


def check_weights(model) -> None:
    """Raises UserError if a weight is not a finite number."""
    if not all(torch.isfinite(p).all() for p in model.parameters()):
        raise UserError("the weights are no longer finite numbers; try a smaller --learning_rate")


class TaskTrainer(Watched, Trainer):
    """HF's Trainer with one loss for every head, and dev scores from the task's own decoding.

    Args:
        task: the task adapter (None for a mixture or masked LM).
        dev: (examples, features) of English dev, for choosing the checkpoint.
        name: what the progress bar says; the task's name unless given.
    """

    def __init__(self, *args, task=None, dev=None, name=None, **kwargs):
        # told to __init__ too: it decides how losses are summed
        super().__init__(*args, compute_loss_func=token_mean, **kwargs)
        self.task, self.dev = task, dev
        if (
            plugin := getattr(self.accelerator.state, "fsdp_plugin", None)
        ) and plugin.transformer_cls_names_to_wrap is None:
            plugin.transformer_cls_names_to_wrap = layer_classes(self.model.base_model)
        if self.pop_callback(ProgressCallback):
            self.add_callback(NamedProgress(name or (task.name if task else Path(self.args.output_dir).name)))

    def _save(self, output_dir=None, state_dict=None):
        clean_tokenizer(self.processing_class)
        super()._save(output_dir, state_dict)
        results.obey_umask(*Path(output_dir or self.args.output_dir).glob("*.safetensors"))

    def _get_train_sampler(self, train_dataset=None):
        sampler = super()._get_train_sampler(train_dataset)
        if not isinstance(sampler, LengthGroupedSampler):
            return sampler
        return batching.EpochSampler(
            sampler.lengths, sampler.batch_size * self.args.world_size, batching.order_seed(self.args)
        )

    def get_train_dataloader(self):
        """Batches of all processes together, of which each has its part (one process: the library's own loader)."""
        loader, parts = super().get_train_dataloader(), self.args.world_size
        if parts == 1:
            return loader
        own = loader.batch_sampler.batch_sampler
        return batching.deal(
            loader, torch.utils.data.BatchSampler(own.sampler, own.batch_size * parts, own.drop_last), parts
        )

    def _get_eval_sampler(self, eval_dataset):
        # grouping by length would shuffle what is scored by position
        return torch.utils.data.SequentialSampler(eval_dataset)

    def compute_loss(self, model, inputs, *args, **kwargs):
        self.compute_loss_func = functools.partial(token_mean, attention_mask=inputs["attention_mask"])
        return super().compute_loss(model, inputs, *args, **kwargs)

    def evaluate(self, eval_dataset=None, ignore_keys=None, metric_key_prefix="eval"):
        """The task's scores on English dev, 0-100."""
        if self.dev is None:
            return super().evaluate(eval_dataset, ignore_keys, metric_key_prefix)
        predictions = self.task.decode(self.logits(self.dev[1]), self.dev[1], self.dev[0])
        metrics = {f"eval_{k}": v for k, v in self.task.score(predictions, self.dev[0], "en").items()}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def logits(self, features):
        """Logits in the order of `features`: array (n, ...), or for spans (starts, ends), each (n, tokens).

        Rows are run sorted by length, so that batches hold little padding.
        """
        order = np.argsort(features["length"], kind="stable")[::-1]
        output = self.predict(features.select(order)).predictions
        if not all(np.isfinite(part).all() for part in (output if isinstance(output, tuple) else [output])):
            check_weights(self.model)
            raise UserError("the model's predictions are no longer finite numbers; give --bf16 false and --fp16 false")
        back = np.argsort(order)
        return tuple(part[back] for part in output) if isinstance(output, tuple) else output[back]


def token_mean(outputs, labels, num_items_in_batch=None, attention_mask=None):
    """Cross-entropy over every label that is not -100, divided by their number in the whole optimiser step.

    One formula for every head (spans: start and end are two labels), so that neither accumulation nor the number of
    processes changes loss or gradient. labels: (n,) classes, (n, tokens) tags, or (n, 2) span ends. A span cannot lie
    in the padding (attention_mask 0); counting it among the choices would make the loss depend on the batch.
    """
    if "logits" in outputs:
        logits = outputs["logits"]
    else:
        logits = torch.stack((outputs["start_logits"], outputs["end_logits"]), 1).float()
        if attention_mask is not None:
            logits = logits.masked_fill(attention_mask[:, None] == 0, torch.finfo(logits.dtype).min)
    total = torch.nn.functional.cross_entropy(
        logits.reshape(-1, logits.size(-1)).float(), labels.reshape(-1), ignore_index=-100, reduction="sum"
    )
    return total / (num_items_in_batch if num_items_in_batch is not None else (labels != -100).sum())
