"""Train one encoder on several tasks; each optimiser step has one task (as jiant's multi-task runner)."""

from __future__ import annotations

import bisect
import copy
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
import torch
from safetensors.torch import save_file
from torch.utils.data import ConcatDataset, DataLoader
from transformers import PreTrainedModel, TokenizersBackend, TrainingArguments

from tasks.base import Task
from tasks.errors import UserError
from tasks.rows import Rows
from xstilts.checkpoint import heads, padding_free
from xstilts.checkpoint.config import read_config
from xstilts.checkpoint.encoder import load_encoder
from xstilts.checkpoint.heads import head_of, needs_pooler
from xstilts.checkpoint.tokenizer import clean_tokenizer, load_tokenizer
from xstilts.cli.arguments import ArmArguments, MixtureArguments, ModelArguments, RunArguments
from xstilts.run.files import obey_umask
from xstilts.run.lifecycle import Run
from xstilts.train import runner
from xstilts.train.batching import length_groups, loader_options, order_seed, split_batches
from xstilts.train.host_facts import Described
from xstilts.train.library_internals import set_tied_weights
from xstilts.train.trainers import Masking, TaskTrainer

# fields of TrainingArguments that a mixture does not take, besides those that no training takes
UNUSED = "every step leaves the heads of the other tasks unused"
REFUSED = {
    "train_sampling_strategy": "a mixture draws a task for each step, and rows of about one length",
    "ddp_find_unused_parameters": UNUSED,
    "ddp_static_graph": UNUSED,
}


class MixtureModel(PreTrainedModel):
    """One encoder with transformers' heads of several tasks.

    The encoder keeps its model type's attribute name (`roberta`, `bert`), so that every checkpoint loads with
    `AutoModel.from_pretrained`. The heads are below `heads.<task>`.

    Args:
        notes: gets what `heads.masked_lm` notes.

    Attributes:
        whole: {task: the task's model}; these models share the encoder.
    """

    whole: dict[str, PreTrainedModel]

    accepts_loss_kwargs = False
    supports_gradient_checkpointing = True

    def __init__(
        self,
        tasks: Sequence[Task],
        name: str,
        revision: str = "main",
        attention: str | None = None,
        notes: list[str] | None = None,
    ):
        super().__init__(read_config(name, revision))
        encoder, _ = load_encoder(
            name, revision, pooler=any(needs_pooler(task, name, revision) for task in tasks), attention=attention
        )
        whole = {task.name: head_of(task, name, revision, encoder, notes) for task in tasks}
        self.base_model_prefix = next(iter(whole.values())).base_model_prefix
        setattr(self, self.base_model_prefix, encoder)
        own = {t: {n: m for n, m in model.named_children() if m is not encoder} for t, model in whole.items()}
        self.heads = torch.nn.ModuleDict({t: torch.nn.ModuleDict(parts) for t, parts in own.items()})
        self.__dict__["whole"] = whole  # not as submodules: their parts are registered above
        first: dict[int, str] = {}
        names = [(n, first.setdefault(id(p), n)) for n, p in self.named_parameters(remove_duplicate=False)]
        set_tied_weights(self, {name: other for name, other in names if name != other})

    def link(self) -> None:
        """Put the modules in `heads` into the tasks' models again, after some were exchanged."""
        for task, parts in self.heads.items():
            assert isinstance(parts, torch.nn.ModuleDict)
            for name, module in parts.items():
                setattr(self.whole[task], name, module)

    @property
    def base_model(self) -> PreTrainedModel:
        """The encoder."""
        return getattr(self, self.base_model_prefix)

    def forward(self, task: str, **inputs: torch.Tensor) -> Any:
        """Return the output of the task's model."""
        return self.whole[task](**inputs)


def begin(tasks: Sequence[Task], text: Task | None, run_args: RunArguments, rest: list[str]) -> TrainingArguments:
    """Return the arguments of a training on tasks, after `runner.begin`. A mixture has the settings of its first task.

    Raises:
        UserError: see `runner.begin`; or a mixture does not take an argument (`REFUSED`).
    """
    if len(tasks) == 1 and not text:
        return runner.begin(run_args, rest, tasks[0].defaults, scores=tasks[0].dev_metrics)
    return runner.begin(run_args, rest, tasks[0].defaults, refused=REFUSED)


def load(
    tasks: Sequence[Task], text: Task | None, rows: Rows, model_args: ModelArguments, notes: list[str] | None = None
) -> tuple[PreTrainedModel, TokenizersBackend]:
    """Return (a checkpoint with the head of the one task, or a `MixtureModel` of several; its tokenizer).

    Args:
        text: masked LM alongside, or None.
        rows: tasks whose labels are in their rows read them here.
        notes: gets what `heads.masked_lm` notes.

    Raises:
        UserError: see `heads.load`; or the tokenizer has no mask token, which `text` needs.
    """
    name, frozen = str(model_args.model_name_or_path), model_args.freeze_embeddings
    if len(tasks) == 1 and not text:
        return heads.load(tasks[0], rows, name, **model_args.loading, frozen_embeddings=frozen)
    tokenizer = load_tokenizer(name, model_args.model_revision, mask=bool(text))
    for task in tasks:
        task.prepare(rows)
    model = MixtureModel([*tasks, text] if text else tasks, name, **model_args.loading, notes=notes)
    if frozen:
        heads.freeze_embeddings(model)
    return model, tokenizer


class Concatenated(ConcatDataset):
    """The features of all tasks, one task after another; each item names its task.

    Args:
        features: {task: features}.
        columns: the columns to keep.
    """

    def __init__(self, features: Mapping[str, datasets.Dataset], columns: set[str]):
        parts = (data.select_columns([c for c in data.column_names if c in columns]) for data in features.values())
        super().__init__(parts)
        self.tasks = list(features)

    def __getitem__(self, index: int) -> dict[str, Any]:
        task = self.tasks[bisect.bisect_right(self.cumulative_sizes, index)]
        return {"task": task, **super().__getitem__(index)}


class MixtureSampler:
    """Batches of indices into `Concatenated`; each optimiser step draws its task with p ~ min(n, cap) ** (1 / T).

    Args:
        lengths: {task: tokens of each feature}, in the order of `Concatenated`.
        batch_size: rows of a batch, of all processes together.
        per_step: batches of an optimiser step (gradient accumulation), all of one task.
        cap: examples cap, None for no cap; as in jiant's task samplers.
        temperature: as in jiant's task samplers.
        mlm_rate: share of all steps for the last entry of `lengths`, the text, whatever its size. The text's steps are
            added between those of the tasks, whose order does not change.

    An epoch has the sum over tasks of ceil(min(n, cap) / (batch_size * per_step)) steps, plus those of the text.
    """

    drop_last = False

    def __init__(
        self,
        lengths: dict[str, list[int]],
        batch_size: int,
        per_step: int,
        cap: int | None,
        temperature: float,
        seed: int,
        mlm_rate: float = 0.0,
    ):
        self.lengths = [torch.tensor(rows) for rows in lengths.values()]
        self.sizes = [min(len(rows), cap or len(rows)) for rows in (self.lengths[:-1] if mlm_rate else self.lengths)]
        self.batch_size, self.per_step, self.seed, self.epoch = batch_size, per_step, seed, 0
        # divided by the largest size, so that no power overflows
        self.probabilities = (torch.tensor([float(n) for n in self.sizes]) / max(self.sizes)) ** (1 / temperature)
        self.probabilities /= self.probabilities.sum()
        self.task_steps = sum(-(-n // (batch_size * per_step)) for n in self.sizes)
        self.steps = round(self.task_steps / (1 - mlm_rate))

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.steps * self.per_step

    def __iter__(self) -> Iterator[list[int]]:
        generator = self._generator()
        text = self.steps > self.task_steps
        # with text, tasks draw from generators of their own, so that the text does not change their order
        streams = [self._stream(part, self._generator() if text else generator) for part in range(len(self.lengths))]
        parts = torch.multinomial(self.probabilities, self.task_steps, replacement=True, generator=generator)
        if text:
            places = torch.randperm(self.steps, generator=generator)[: self.task_steps].sort().values
            parts = torch.full((self.steps,), len(self.sizes)).index_copy(0, places, parts)
        for part in parts.tolist():
            for _ in range(self.per_step):
                yield next(streams[part])

    def _generator(self) -> torch.Generator:
        return torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)

    def _stream(self, part: int, generator: torch.Generator) -> Iterator[list[int]]:
        """Yield full batches of one task, grouped by length, without end."""
        start = sum(len(lengths) for lengths in self.lengths[:part])
        lengths = self.lengths[part]
        size = min(self.batch_size, len(lengths))
        while True:
            for batch in length_groups(lengths, size, generator):
                if len(batch) == size:
                    yield (batch + start).tolist()


class MixtureCollator:
    """Collates a batch of one task with that task's collator."""

    def __init__(self, collators: Mapping[str, Callable[[list[dict]], Any]]):
        self.collators = collators

    def __call__(self, items: list[dict[str, Any]]) -> dict[str, Any]:
        (task,) = {item.pop("task") for item in items}
        return {"task": task, **self.collators[task](items)}


class MixtureTrainer(TaskTrainer):
    """Trains on a mixture, with a `MixtureSampler` in place of the Trainer's own sampler.

    Args:
        kwargs: of `TaskTrainer`.
    """

    def __init__(self, *, sampler: MixtureSampler, train_dataset: Concatenated, **kwargs: Any):
        super().__init__(train_dataset=train_dataset, **kwargs)
        self.sampler, self.concatenated = sampler, train_dataset

    def get_train_dataloader(self) -> DataLoader:
        """Return a loader of the sampler's batches."""
        assert self.model is not None
        loader = self.accelerator.prepare(
            DataLoader(
                self.concatenated,
                batch_sampler=self.sampler,
                collate_fn=Described(self.data_collator, padding_free.used_by(self.model)),
                **loader_options(self.args),
            )
        )
        return split_batches(loader, self.sampler, self.args.world_size) if self.args.world_size > 1 else loader


def trainer(
    tasks: Sequence[Task],
    text: Task | None,
    model: torch.nn.Module,
    args: TrainingArguments,
    tokenizer: TokenizersBackend,
    features: Mapping[str, datasets.Dataset],
    dev: Mapping[str, tuple[datasets.Dataset, datasets.Dataset]],
    mix: MixtureArguments,
    mlm_probability: float,
) -> TaskTrainer:
    """Return the trainer of a model of `load`.

    Args:
        model: of `load`, or a PeftModel of it.
        features: {task: train features}; those of `text` are the last.
        dev: {task: (examples, features)} of English dev, by which the trainer of a single task scores.
        mlm_probability: share of tokens of `text` to predict.

    Raises:
        UserError: --mlm_rate is too small for one step of text.
    """
    if len(features) == 1:
        (task,) = tasks
        return runner.task_trainer(task, model, args, tokenizer, dev[task.name], features[task.name])
    collators: dict[str, Callable[[list[dict]], Any]] = {task.name: task.collator(tokenizer) for task in tasks}
    if text:
        collators[text.name] = Masking(tokenizer, mlm_probability, args.seed)
    return _mixture_trainer(model, args, features, collators, tokenizer, mix)


def _mixture_trainer(
    model: torch.nn.Module,
    args: TrainingArguments,
    features: Mapping[str, datasets.Dataset],
    collators: Mapping[str, Callable[[list[dict]], Any]],
    tokenizer: TokenizersBackend,
    mix: MixtureArguments,
) -> MixtureTrainer:
    """Return the mixture's trainer. Its sampler draws one task per optimiser step, for all processes together."""
    mlm_rate = mix.mlm_rate
    columns = {*tokenizer.model_input_names, "labels"}
    lengths: dict[str, list[int]] = {task: data["length"][:] for task, data in features.items()}
    if mlm_rate:  # text in random order, as in phase 1 (tasks.text says why)
        lengths[list(lengths)[-1]] = [0] * len(features[list(lengths)[-1]])
    sampler = MixtureSampler(
        lengths,
        args.per_device_train_batch_size * args.world_size,
        args.gradient_accumulation_steps,
        mix.examples_cap,
        mix.temperature,
        order_seed(args),
        mlm_rate,
    )
    if mlm_rate and sampler.steps == sampler.task_steps:
        raise UserError(
            f"--mlm_rate {mlm_rate}: none of the {sampler.steps} steps of an epoch would be text. Give "
            f"{math.ceil(1000 / (2 * sampler.steps + 1)) / 1000:g} or more, or leave it out."
        )
    args = copy.copy(args)
    args.remove_unused_columns = False  # columns differ by task; Concatenated selects them
    # transformers sets it too, but not with activation checkpointing
    args.ddp_find_unused_parameters = True
    return MixtureTrainer(
        model=model,
        args=args,
        name="+".join([*list(features)[:-1], "masked LM"] if mlm_rate else features),  # of Wikipedia or of --text_of
        train_dataset=Concatenated(features, columns),
        sampler=sampler,
        data_collator=MixtureCollator(collators),
        processing_class=tokenizer,
    )


def score_dev(
    tasks: Sequence[Task],
    model: PreTrainedModel,
    args: TrainingArguments,
    tokenizer: TokenizersBackend,
    dev: Mapping[str, tuple[datasets.Dataset, datasets.Dataset]],
    arm: ArmArguments,
    run: Run,
) -> tuple[dict[str, float], dict[str, float] | None, list[str]]:
    """Score English dev of every task.

    Args:
        model: of `load`, trained.
        dev: {task: (examples, features)}.
        arm, run: whether labels are shuffled, and whether it is a rehearsal: then a score at chance is not reported.

    Returns:
        (scores 0-100, of several tasks as {"task/metric": score}; scores of guessing, of several tasks None; the tasks
        that are at chance).
    """
    at_chance = []
    by_task: dict[str, dict[str, float]] = {}
    for task in tasks:
        own = model.whole[task.name] if isinstance(model, MixtureModel) else model
        scorer = runner.task_trainer(task, own, args, tokenizer, dev[task.name])
        by_task[task.name], chance, failed = runner.compare_with_chance(
            scorer, task, dev[task.name][0], arm.shuffle_labels, run.is_rehearsal
        )
        at_chance += [task.name] if failed else []
    scores = {f"{name}/{metric}": score for name, by in by_task.items() for metric, score in by.items()}
    single = not isinstance(model, MixtureModel)
    return by_task[task.name] if len(tasks) == 1 else scores, chance if single else None, at_chance


def save(trainer: TaskTrainer, model: PreTrainedModel, tokenizer: TokenizersBackend, folder: str) -> None:
    """Save a trained model of `load`; of a mixture the encoder, as a plain checkpoint, and the heads beside it.

    The next phase takes only the encoder, and a checkpoint of the encoder alone loads without unexpected weights.
    All ranks call this together.
    """
    if not isinstance(model, MixtureModel):
        return trainer.save_model(folder)
    if not trainer.is_world_process_zero():
        return None
    model.base_model.save_pretrained(folder)
    clean_tokenizer(tokenizer)
    tokenizer.save_pretrained(folder)
    weights = {
        name: value.contiguous()
        for name, value in model.state_dict().items()
        if name.startswith("heads.") and name not in model.all_tied_weights_keys
    }
    save_file(weights, f"{folder}/heads.safetensors.tmp", metadata={"format": "pt"})
    os.replace(f"{folder}/heads.safetensors.tmp", f"{folder}/heads.safetensors")
    obey_umask(*Path(folder).glob("*.safetensors"))
