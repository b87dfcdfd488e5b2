"""What the training scripts share: TrainingArguments, features, the trainer, scoring by language."""

from __future__ import annotations

import contextlib
import functools
import logging
import math
import time
import zlib
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.compute as pc
import torch
import transformers
from datasets import Dataset, concatenate_datasets
from transformers import DataCollatorForLanguageModeling, ProgressCallback, Trainer, TrainerCallback
from transformers.trainer_pt_utils import LengthGroupedSampler

from tasks.base import fingerprint
from tasks.checks import check_placeholder
from xstilts.checkpoint.encoder import check_vocabulary, layer_classes, length_limit
from xstilts.checkpoint.tokenizer import clean_tokenizer
from xstilts.cli import logs
from xstilts.errors import UserError, first_line, full_disk, is_panic
from xstilts.run import checkpoints, processes, results
from xstilts.run.lifecycle import Run
from xstilts.train import batching
from xstilts.xtreme import submission

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
    no token is no number; BERT's own masking takes at least one token of every text. Special tokens are never predicted.
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
        self.args.logging_nan_inf_filter = False  # would look at every loss too, only to leave such a one out of the log
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
        # a log line with each checkpoint: where a run that is resumed begins its next mean loss, others are to begin theirs
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
        # transformers removes the last checkpoint where another is the best: a run killed while it scores would train again
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
        super().__init__(*args, compute_loss_func=token_mean, **kwargs)  # told to __init__ too: it decides how losses are summed
        self.task, self.dev = task, dev
        if (plugin := getattr(self.accelerator.state, "fsdp_plugin", None)) and plugin.transformer_cls_names_to_wrap is None:
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
        return batching.EpochSampler(sampler.lengths, sampler.batch_size * self.args.world_size, batching.order_seed(self.args))

    def get_train_dataloader(self):
        """Batches of all processes together, of which each has its part (one process: the library's own loader)."""
        loader, parts = super().get_train_dataloader(), self.args.world_size
        if parts == 1:
            return loader
        own = loader.batch_sampler.batch_sampler
        return batching.deal(loader, torch.utils.data.BatchSampler(own.sampler, own.batch_size * parts, own.drop_last), parts)

    def _get_eval_sampler(self, eval_dataset):
        return torch.utils.data.SequentialSampler(eval_dataset)  # grouping by length would shuffle what is scored by position

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


def featurize(task, examples, tokenizer, max_length: int, train: bool, desc: str):
    """The examples' features, cached on disk by datasets (key: rows, adapter, tokenizer, length).

    Raises:
        UserError: the tokenizer fails on an example, which is named.
    """
    options = {"tokenizer": tokenizer, "max_length": max_length, "train": train}
    clean_tokenizer(tokenizer)
    key = fingerprint(task, examples, tokenizer.backend_tokenizer.to_str(), max_length, train)
    try:
        features = through_cache(examples, task.featurize, with_indices=True, fn_kwargs=options, remove_columns=examples.column_names,
                                 desc=f"{desc}: features", new_fingerprint=key)
    except BaseException as error:
        if not (isinstance(error, UserError) or type(error) is Exception or is_panic(error)):  # tokenizers raises bare Exceptions
            raise
        row, cause = _failing(task, examples, options)
        raise UserError(f"{desc}, row {row + 1}: {first_line(cause or error)}") from error
    return through_cache(features, lambda ids: {"length": task.lengths(ids)}, input_columns="input_ids", desc=f"{desc}: lengths",
                         new_fingerprint=fingerprint(task, features, "length"))


def _failing(task, examples, options: dict) -> tuple[int, BaseException | None]:
    """(the first example, from 0, that no features can be made of; the error)."""
    for row in range(len(examples)):
        try:
            task.featurize(examples[row : row + 1], [row], **options)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt | SystemExit):
                raise
            return row, error
    return 0, None


def through_cache(data, function, **options):
    """`data.map` in batches; what the cache holds of it and cannot be read, cut off or damaged, is made anew, and that is said."""
    try:
        return data.map(function, batched=True, **options)
    except (pyarrow.ArrowInvalid, OSError) as error:
        if full_disk(error):
            raise
        logger.warning("%s: the cache of it cannot be read (%s); making it anew.", options["desc"], first_line(error))
        return data.map(function, batched=True, load_from_cache_file=False, **options)


def text_features(task, texts: dict, tokenizer, max_length: int, train: bool) -> tuple[Dataset, list[str]]:
    """The features of texts in several languages, {language: examples}, one language after the other; and notes.

    Texts without a token that could be masked are left out, with a note.

    Raises:
        UserError: a language has no other texts, or the tokenizer cannot mask.
    """
    if tokenizer.mask_token is None:
        raise UserError("The checkpoint's tokenizer has no mask token, so it cannot be trained by masked language modelling.")
    parts, notes, name = [], [], f"{task.name}{'' if train else ', held out'}"
    for code, some in texts.items():
        features = featurize(task, some, tokenizer, max_length, train, code)
        kept = np.flatnonzero(has_words(features, tokenizer.all_special_ids))
        if not len(kept):
            raise UserError(f"{name}, {code}: none of {len(some)} texts has a token to predict. Give more text, or leave {code} out.")
        if len(kept) < len(features):
            notes.append(f"{name}, {code}: {len(features) - len(kept)} of {len(features)} texts without a token to predict left out")
            features = features.select(kept)
        parts.append(features)
    return concatenate_datasets(parts), notes


def has_words(features, special: list[int]) -> np.ndarray:
    """For each feature whether it has a token that is not special: array (n,) of bool."""
    found = [np.zeros(0, bool)]
    for ids in features.with_format("arrow")[:]["input_ids"].chunks:
        feature = np.repeat(np.arange(len(ids)), pc.list_value_length(ids))
        found.append(np.bincount(feature[~np.isin(ids.flatten(), special)], minlength=len(ids)) > 0)
    return np.concatenate(found)


def load_scored(task, split: str, language: str, rows, limit: int | None):
    """The first `limit` examples of a split that will be scored.

    Raises:
        UserError: as `task.load`; or the gold is a placeholder, which the score would find only after the training.
    """
    loaded = task.read(split, language, rows)
    check_placeholder(task.gold_values(loaded.examples), loaded.where)
    return first(loaded.examples, limit)


def first(data, n: int | None):
    """The first n examples (all if None). Examples are cut, never features: a cut window would score as a wrong answer."""
    return data if n is None else data.select(range(min(n, len(data))))


def max_length(data_args, task_length: int, tokenizer, config) -> int:
    """Tokens a feature may have: the user's, or the task's capped by what the model takes.

    Raises:
        UserError: the user's is more than the model takes, or too little for two texts (the tokenizer would then not cut at all);
            tokenizer and model are not of each other.
    """
    check_vocabulary("--model_name_or_path", config, tokenizer)
    limit = length_limit(config, tokenizer)
    if data_args.max_seq_length is None:
        return min(task_length, limit)
    if data_args.max_seq_length > limit:
        raise UserError(f"--max_seq_length {data_args.max_seq_length}: the model takes at most {limit} tokens.")
    least = tokenizer.num_special_tokens_to_add(pair=True) + 2
    if data_args.max_seq_length < least:
        raise UserError(f"--max_seq_length {data_args.max_seq_length}: give at least {least} tokens, {least - 2} of which are special.")
    return data_args.max_seq_length


def prepare(run) -> None:
    """Logging and seeds."""
    logs.begin(logging.INFO if processes.is_first() else logging.ERROR)
    transformers.utils.logging.disable_progress_bar()  # "Loading weights": not what the user waits for
    transformers.utils.logging.set_verbosity_error()
    transformers.set_seed(run.seed)


def train(trainer, run: Run, checkpoint: str | None) -> float:
    """Trains (or goes on), leaves the last or best weights in the model. Returns seconds.

    Args:
        run: what the training belongs to; it names step and checkpoint if the training stops.
        checkpoint: to resume from.
    """
    start = time.time()
    run.trainer = trainer
    _train(trainer, checkpoint)
    return time.time() - start


def check_metric(trainer) -> None:
    """Raises UserError if the score that chooses the checkpoint is none of the task's."""
    best = trainer.args.metric_for_best_model
    if trainer.task is not None and best and trainer.args.eval_strategy != "no":
        names = trainer.task.chance(trainer.dev[0].select(range(min(4, len(trainer.dev[0])))))
        if best.removeprefix("eval_") not in names:
            raise UserError(f"--metric_for_best_model {best}: {trainer.task.name} has {', '.join(names)}")


def _train(trainer, checkpoint: str | None) -> None:
    check_metric(trainer)
    # A few rows through model, decoding and score before hours of training. Not where there are several processes: a model
    # that accelerate has evaluated counts as prepared there, and would be trained by each process for itself, without DDP.
    if checkpoint is None and trainer.dev is not None and trainer.task is not None and trainer.args.world_size == 1:
        few = trainer.dev[0].select(range(min(4, len(trainer.dev[0]))))
        wanted = [i for i, e in enumerate(trainer.dev[1]["example"]) if e < len(few)]
        features = trainer.dev[1].select(wanted)
        trainer.task.score(trainer.task.decode(trainer.logits(features), features, few), few, "en")
    trainer.train(resume_from_checkpoint=checkpoint)
    if trainer.state.global_step < trainer.state.max_steps:  # --enable_jit_checkpoint ends a training so, at a SIGTERM
        raise UserError(f"the training was ended before its last step, {trainer.state.max_steps}")
    check_weights(trainer.model)


def held_out_loss(trainer) -> float:
    """The mean loss over the batches of the held-out text.

    Raises:
        UserError: it is not a finite number, which results.json could not hold.
    """
    loss = trainer.evaluate()["eval_loss"]
    if not math.isfinite(loss):
        raise UserError("the loss of the held-out text is not a finite number; try a smaller --learning_rate")
    return loss


def score_languages(trainer, task, tests: dict, folder: Path):
    """Zero-shot scores of every language; predictions are written in XTREME's layout below `folder`.

    Args:
        tests: {language: (examples, features)}.

    Returns:
        ({language: {metric: 0-100}}, {language: examples scored}).
    """
    scores, n = {}, {}
    for language, (examples, features) in tests.items():
        predictions = task.decode(trainer.logits(features), features, examples)
        scores[language], n[language] = task.score(predictions, examples, language), len(examples)
        if trainer.is_world_process_zero():
            submission.write_lines(folder, task, language, task.lines(predictions, examples))
        logger.info("%s %s: %s", task.name, language, " ".join(f"{k} {v:.1f}" for k, v in scores[language].items()))
    return scores, n


def judge(trainer, task, dev, shuffled: bool = False) -> tuple[dict, dict, bool]:
    """(English dev scores, chance, whether the dev score is at chance), the last said loudly.

    Where labels were shuffled chance is where it should be, and is no news.
    """
    features = trainer.dev[1]
    scores = task.score(task.decode(trainer.logits(features), features, dev), dev, "en")
    chance = task.chance(dev)
    # one metric at chance is enough: a tagger below the most frequent tag may still beat its F1 of 0
    flat = [m for m in chance if not shuffled and task.at_chance(scores[m], chance[m], len(dev))]
    for metric in flat:
        logger.warning("\n*** %s: English dev %s is %.1f, at chance (%.1f): this training did not work. ***\n",
                       task.name, metric, scores[metric], chance[metric])
    return scores, chance, bool(flat)


def measures(trainer, rows: int | None = None) -> dict[str, float]:
    """Numbers about a finished training that are no scores.

    Rows (different examples there are to train on), optimiser steps, epochs, tokens trained on (padding aside, each time
    they come), mean loss of the last log lines.
    """
    state = trainer.state
    losses = [entry["loss"] for entry in state.log_history if "loss" in entry]
    found = {} if rows is None else {"rows": rows}
    found |= {"steps": state.global_step, "epochs": state.epoch, "tokens": state.num_input_tokens_seen}
    return found | ({"last_loss": float(np.mean(losses[-5:]))} if losses else {})


