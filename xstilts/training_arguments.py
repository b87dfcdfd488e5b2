"""transformers' TrainingArguments as these scripts take them: their defaults, and what is refused before any work."""

from __future__ import annotations

import functools
import logging
import os

import torch
import transformers
from transformers import Trainer, TrainingArguments
from transformers.integrations import get_reporting_integration_callbacks

from xstilts import folders, processes
from xstilts.errors import UserError, first_line
from xstilts.words import check_finite, unknown

logger = logging.getLogger("xstilts")


def has_bf16() -> bool:
    """Whether this machine multiplies bf16 matrices in hardware."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported()
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def training_arguments(run, rest: list[str], defaults: dict, **fixed) -> TrainingArguments:
    """TrainingArguments from the task's defaults, then the user's (`rest`), then what the script fixes.

    Ours beside transformers' defaults: length-grouped batches, bf16 where the machine has it, a log line every 50
    steps, checkpoints each epoch of which the last (and the best) is kept.

    Raises:
        UserError: an argument is unknown or wrong, or the run has not the processes it was asked to have.
    """
    from transformers.hf_argparser import HfArgumentParser

    parser = HfArgumentParser(TrainingArguments, allow_abbrev=False)
    names = {a.dest for a in parser._actions}
    parser.set_defaults(**{
        "output_dir": run.output_dir, "seed": run.seed or 0, "bf16": has_bf16(), "logging_steps": 50, "save_strategy": "epoch",
        "eval_strategy": "no", "save_total_limit": 1, "train_sampling_strategy": "group_by_length",
        "per_device_eval_batch_size": 64, "use_cpu": not torch.cuda.is_available(), "label_names": ["labels"],
        "disable_tqdm": False,
        **{k: v for k, v in defaults.items() if k in names}, **fixed,
    })

    def stop(message):
        raise UserError(message)

    parser.error = stop
    namespace, more = parser.parse_known_args(rest)
    if more:
        raise unknown(more[0], names | getattr(rest, "known", frozenset()))
    values = vars(namespace)
    if values["fp16"]:
        values["bf16"] = False
    # accelerate's own word, of its launcher or its default config, would win over --bf16 false and stand in no record
    precision = "fp16" if values["fp16"] else "bf16" if values["bf16"] else "no"
    if (word := os.environ.pop("ACCELERATE_MIXED_PRECISION", "no")) not in ("no", precision):
        logger.warning("accelerate was told to train in %s; --bf16 and --fp16 decide: %s.", word,
                       "fp32" if precision == "no" else precision)
    if values["load_best_model_at_end"] and values["save_strategy"] == "steps":
        # each checkpoint is scored on dev, or none could be the best; more of them are wanted where a run may be ended
        values["eval_strategy"], values["eval_steps"] = "steps", values["eval_steps"] or values["save_steps"]
    asked = processes.world_size()
    try:
        args = TrainingArguments(**values)
    except Exception as error:  # it reads files and looks at the machine, so anything may come
        raise UserError(first_line(error)) from error
    check_training(args)
    if args.world_size != asked:
        raise UserError(f"{asked} processes were asked for, {args.world_size} work together. {processes.HOW}")
    processes.watch(functools.partial(folders.lost_touch, run.output_dir))
    if args.n_gpu > 1:  # torch's DataParallel would make every batch so many times larger, and nobody asked for that
        logger.warning("%d GPUs are visible, one is used. %s", args.n_gpu, processes.HOW)
        args._n_gpu = 1
    logger.info("World size: %d (%s), %d rows a step", args.world_size, args.device.type,
                args.world_size * args.train_batch_size * args.gradient_accumulation_steps)
    return args


# the least a number may be, of those that transformers takes as they come
LEAST = {"per_device_train_batch_size": 1, "per_device_eval_batch_size": 1, "gradient_accumulation_steps": 1, "eval_accumulation_steps": 1,
         "dataloader_num_workers": 0, "save_total_limit": 1, "learning_rate": 0, "weight_decay": 0, "max_grad_norm": 0, "adam_epsilon": 0,
         "data_seed": 0}
# what transformers has and these scripts' own loss, scoring and resuming would pass over without a word, or trip over
NOT_USED = {"label_smoothing_factor": "the loss here is cross-entropy over the whole step, without smoothing",
            "prediction_loss_only": "scores need predictions",
            "dataloader_drop_last": "it would drop rows that are scored too",
            "resume_from_checkpoint": "the same command goes on from its last checkpoint by itself"}


def check_training(args: TrainingArguments) -> None:
    """Refuses values that would end in a traceback once rows and model are there, or train nothing, or be ignored.

    Raises:
        UserError: naming the argument.
    """
    for name, value in vars(args).items():
        check_finite(name, value)
        if name in LEAST and value is not None and value < LEAST[name]:
            raise UserError(f"--{name} {value}: give {LEAST[name]} at least.")
        if name in NOT_USED and value:
            raise UserError(f"--{name} is not taken: {NOT_USED[name]}. Leave it out.")
    for name in ("logging_steps", "save_steps", "eval_steps"):
        if (value := getattr(args, name)) is not None and value <= 0:
            raise UserError(f"--{name} {value}: give 1 at least, or a share of all steps above 0 (--{name.partition('_')[0]}"
                            "_strategy no for none).")
    if args.max_steps != -1 and args.max_steps < 1:
        raise UserError(f"--max_steps {args.max_steps} trains nothing: give 1 at least, or -1 to go by --num_train_epochs.")
    if args.max_steps == -1 and args.num_train_epochs <= 0:
        raise UserError(f"--num_train_epochs {args.num_train_epochs} trains nothing: give a number above 0.")
    if args.fsdp and args.world_size == 1:
        raise UserError(f"--fsdp needs several processes. {processes.HOW}")
    try:
        for callback in get_reporting_integration_callbacks(args.report_to):
            callback()
    except Exception as error:
        raise UserError(f"--report_to {' '.join(args.report_to)}: {first_line(error)}") from error
    parameter, steps = torch.nn.Parameter(torch.zeros(1)), 10**6  # tried here, because transformers makes them last of all
    try:
        kind, options = Trainer.get_optimizer_cls_and_kwargs(args)
        transformers.get_scheduler(args.lr_scheduler_type, kind([parameter], **options), args.get_warmup_steps(steps), steps,
                                   scheduler_specific_kwargs=dict(args.lr_scheduler_kwargs or {}))
    except Exception as error:
        of_model = args.optim.value.partition("_")[0] in ("galore", "apollo", "lomo", "adalomo")  # made of the model, not there yet
        if of_model and not isinstance(error, ImportError):
            return
        raise UserError(f"--optim {args.optim.value} and --lr_scheduler_type {args.lr_scheduler_type.value} cannot be made with the "
                        f"arguments given ({first_line(error)}).") from error
