"""Try a training's loggers, data loader and schedule before rows and model are loaded."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from typing import Any

import torch
from accelerate.utils import TorchDynamoPlugin
from transformers import BertConfig, BertModel, SchedulerType, Trainer, TrainingArguments, get_scheduler
from transformers.integrations import get_reporting_integration_callbacks
from transformers.training_args import OptimizerNames

from tasks.errors import UserError, first_line
from xstilts.run import processes
from xstilts.train.batching import loader_options

# beginnings of the names of low-rank optimizers, and of all whose options depend on the model
LOW_RANK = ("galore", "apollo")
NEED_MODEL = (*LOW_RANK, "lomo", "adalomo")


def check_training(args: TrainingArguments, given: dict[str, Any]) -> None:
    """Try what transformers would only build after rows and model are loaded, so that it fails now.

    Args:
        given: {argument: value} that the user gave.

    Raises:
        UserError: names the argument.
    """
    if args.fsdp and args.world_size == 1:
        raise UserError(f"--fsdp needs several processes. {processes.HOW}")
    reporters = [args.report_to] if isinstance(args.report_to, str) else args.report_to or []
    with user_errors(f"--report_to {' '.join(reporters)}"):
        for callback in get_reporting_integration_callbacks(reporters):
            callback()
    with user_errors("--dataloader_num_workers and the other dataloader arguments"):
        torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.zeros(1)), **loader_options(args))
    if args.torch_compile:
        with user_errors(
            f"--torch_compile_backend {args.torch_compile_backend} --torch_compile_mode {args.torch_compile_mode}"
        ):
            plugin = TorchDynamoPlugin(backend=args.torch_compile_backend, mode=args.torch_compile_mode)
            torch.compile(torch.nn.Linear(1, 1), **plugin.to_kwargs())(torch.zeros(1, 1))
    if args.activation_checkpointing_kwargs:
        with user_errors(f"--activation_checkpointing_kwargs {args.activation_checkpointing_kwargs}"):
            options = _as_dict(args.activation_checkpointing_kwargs)
            tiny = BertModel(
                BertConfig(
                    vocab_size=2, hidden_size=2, num_hidden_layers=1, num_attention_heads=1, intermediate_size=2
                )
            )
            tiny.activation_checkpointing_enable(
                every_n_layers=options.pop("every_n_layers", 1),
                offload=options.pop("offload", False),
                activation_checkpointing_kwargs=options or None,
            )
            tiny.train()(torch.zeros(1, 1, dtype=torch.long)).last_hidden_state.sum().backward()
    check_optimizer(args, given)
    check_schedule(args)


def check_schedule(args: TrainingArguments) -> None:
    """Build the schedule of the learning rate, for an optimizer of one weight.

    Raises:
        UserError: the schedule needs other --lr_scheduler_kwargs, or another --learning_rate.
    """
    schedule, steps = SchedulerType(args.lr_scheduler_type), args.max_steps if args.max_steps > 0 else 1_000_000
    settings = f" --lr_scheduler_kwargs {args.lr_scheduler_kwargs}" if args.lr_scheduler_kwargs else ""
    with user_errors(f"--lr_scheduler_type {schedule.value}{settings}"):
        get_scheduler(
            schedule,
            torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=args.learning_rate),
            args.get_warmup_steps(steps),
            steps,
            scheduler_specific_kwargs=_as_dict(args.lr_scheduler_kwargs),
        )


def check_optimizer(args: TrainingArguments, given: dict[str, Any]) -> None:
    """Build the optimizer, for one weight; raise if it ignores an argument that was given for it.

    One that needs the model (`NEED_MODEL`) is not built; only its package is looked for.

    Raises:
        UserError: names the argument.
    """
    optimizer = OptimizerNames(args.optim).value  # __post_init__ has turned the name into an enum
    settings = [part for part in (args.optim_args or "").split(",") if part]
    if wrong := [part for part in settings if part.count("=") != 1]:
        raise UserError(f"--optim_args {wrong[0]}: expected name=value, or several with commas between.")
    if optimizer.startswith(LOW_RANK) and not args.optim_target_modules:
        raise UserError(f"--optim {optimizer} needs --optim_target_modules, e.g. query value.")
    if optimizer.startswith(NEED_MODEL):
        with user_errors(f"--optim {optimizer}"), contextlib.suppress(ValueError):  # raised without a model
            Trainer.get_optimizer_cls_and_kwargs(args)
        return

    def options(**changes: Any) -> dict[str, Any]:
        changed = copy.copy(args)
        vars(changed).update(changes)
        return Trainer.get_optimizer_cls_and_kwargs(changed)[1]

    numbers = [name for name in ("optim_args", "adam_beta1", "adam_beta2", "adam_epsilon") if name in given]
    with user_errors(" ".join([f"--optim {optimizer}", *(f"--{name} {given[name]}" for name in numbers)])):
        built, used = Trainer.get_optimizer_cls_and_kwargs(args)
        built([torch.zeros(1, requires_grad=True)], **used)
    changes: dict[str, dict[str, Any]] = {
        f"--{name}": {name: given[name] / 2 + 0.1}
        for name in ("adam_beta1", "adam_beta2", "adam_epsilon")
        if name in given
    }
    changes |= {
        f"--optim_args {part}": {"optim_args": ",".join(p for p in settings if p != part)} for part in settings
    }
    for name, other in changes.items():
        if options(**other) == used:
            raise UserError(f"{name} does nothing here: --optim {optimizer} ignores it. Leave it out.")


@contextlib.contextmanager
def user_errors(arguments: str) -> Iterator[None]:
    """Turn any error within the block into a UserError that names `arguments`."""
    try:
        yield
    except Exception as error:
        raise UserError(f"{arguments}: {first_line(error).rstrip('.')}.") from error


def _as_dict(value: dict[str, Any] | str | None) -> dict[str, Any]:
    """Return settings that TrainingArguments has parsed into a dict; its annotation allows the text too."""
    assert not isinstance(value, str)
    return dict(value or {})
