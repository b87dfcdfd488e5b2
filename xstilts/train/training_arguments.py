"""transformers' TrainingArguments as these scripts take them: their defaults, and what is refused before any work."""

from __future__ import annotations

import argparse
import contextlib
import copy
import json
import logging
import os
from collections.abc import Iterator
from datetime import timedelta

import torch
import transformers
from accelerate import PartialState
from accelerate.utils import TorchDynamoPlugin
from transformers import BertConfig, BertModel, Trainer, TrainingArguments
from transformers.integrations import get_reporting_integration_callbacks

from xstilts.cli.user_files import read_json
from xstilts.cli.words import JSON_FILES, check_training_numbers, fail, shown, unknown
from xstilts.errors import UserError, first_line
from xstilts.run import processes
from xstilts.train.batching import loader_options

logger = logging.getLogger("xstilts")

# What the scripts take themselves, as RunArguments
OURS = ("output_dir", "seed", "push_to_hub", "hub_model_id", "hub_private_repo")
PUSH = "the finished folder is pushed once, to its main branch (--push_to_hub, --hub_model_id)"
SCORES = "scores come from the task's own decoding of all predictions"
# Fields of TrainingArguments that no training here takes, and why: they would change nothing, break something later,
# or make the result another than its record says. tests/test_training_arguments.py lists what becomes of every other
# field.
REFUSED = {
    "label_smoothing_factor": "the loss is cross-entropy over the whole step, without smoothing",
    "use_liger_kernel": "Liger has no kernels for encoders",
    "liger_kernel_config": "Liger has no kernels for encoders",
    "use_cache": "encoders have no cache",
    "auto_find_batch_size": "another batch size would train another model, and what a failed try had trained would "
    "stay in it",
    "parallelism_config": "a model is whole on every GPU, or sharded by recipes/accelerate/gpu-8-fsdp2.yaml",
    "accelerator_config": "the scripts make the batches and deal them out to the processes themselves",
    "include_num_input_tokens_seen": "tokens are counted anyway (measures in results.json), and would be counted "
    "twice",
    "debug": "transformers' debugging stops at these models' boolean masks, or needs a TPU",
    "prediction_loss_only": "scores need predictions",
    "bf16_full_eval": "it would cast the model itself, before it is trained and saved. --bf16 counts for scoring too",
    "fp16_full_eval": "it would cast the model itself, before it is trained and saved. --fp16 counts for scoring too",
    "eval_do_concat_batches": SCORES,
    "eval_use_gather_object": SCORES,
    "include_for_metrics": SCORES,
    "batch_eval_metrics": SCORES,
    "save_only_model": "a run that was stopped could not go on from such a checkpoint. For fewer of them: "
    "--save_strategy",
    "save_on_each_node": "all nodes share one output folder",
    "enable_jit_checkpoint": "a run that was stopped so would be scored half trained. --save_strategy steps "
    "--save_steps N bounds what a "
    "kill costs; the same command goes on",
    "hub_token": "it would stand in a file of every checkpoint. Log in with `hf auth login`, or set HF_TOKEN",
    "hub_strategy": PUSH,
    "hub_always_push": PUSH,
    "hub_revision": PUSH,
    "resume_from_checkpoint": "the same command goes on from its last checkpoint by itself",
    "ignore_data_skip": "a run that goes on would not see the rows that are left",
    "restore_callback_states_from_checkpoint": "no callback here has a state",
    "dataloader_drop_last": "it would drop rows that are scored too",
    "dataloader_in_order": "the order of batches is part of the result",
    "remove_unused_columns": "the models take no other columns",
    "label_names": "the labels of all heads are called labels",
    "length_column_name": "features have their lengths in the column length",
}
PLATEAU = ("reduce_lr_on_plateau", "greedy")  # learning rates that follow the dev score
LOW_RANK = ("galore", "apollo")


def chooses(values: dict) -> bool:
    """Whether the run compares dev scores with each other."""
    return (
        values["load_best_model_at_end"] or values["save_strategy"] == "best" or values["lr_scheduler_type"] in PLATEAU
    )


# Fields that count only beside another one: (whether they do, what to add)
NEEDS = {
    "save_steps": (lambda v: v["save_strategy"] == "steps", "--save_strategy steps"),
    "eval_steps": (lambda v: v["eval_strategy"] == "steps", "--eval_strategy steps"),
    "logging_steps": (lambda v: v["logging_strategy"] == "steps", "--logging_strategy steps"),
    "eval_delay": (lambda v: v["eval_strategy"] != "no", "--eval_strategy epoch"),
    "metric_for_best_model": (chooses, "--load_best_model_at_end true"),
    "greater_is_better": (chooses, "--load_best_model_at_end true"),
    "activation_checkpointing_kwargs": (
        lambda v: v["activation_checkpointing"] or v["gradient_checkpointing"],
        "--activation_checkpointing true",
    ),
    "gradient_checkpointing_kwargs": (
        lambda v: v["activation_checkpointing"] or v["gradient_checkpointing"],
        "--activation_checkpointing true",
    ),
    "dataloader_persistent_workers": (lambda v: v["dataloader_num_workers"], "--dataloader_num_workers"),
    "dataloader_prefetch_factor": (lambda v: v["dataloader_num_workers"], "--dataloader_num_workers"),
    "dataloader_multiprocessing_context": (lambda v: v["dataloader_num_workers"], "--dataloader_num_workers"),
    "warmup_steps": (
        lambda v: v["lr_scheduler_type"] not in ("constant", *PLATEAU),
        "an --lr_scheduler_type that warms up (constant_with_warmup)",
    ),
    "lr_scheduler_kwargs": (
        lambda v: not v["lr_scheduler_type"].startswith("constant"),
        "an --lr_scheduler_type that has settings",
    ),
    "optim_target_modules": (lambda v: v["optim"].startswith(LOW_RANK), "--optim galore_adamw"),
    "fsdp_config": (lambda v: v["fsdp"], "--fsdp"),
    "ddp_timeout": (lambda v: processes.world_size() > 1, "several processes (torchrun or accelerate launch)"),
    "fp16": (lambda v: not v["use_cpu"] and torch.cuda.is_available(), "a GPU"),
    "run_name": (lambda v: v["report_to"] not in (None, "none", ["none"]), "--report_to"),
    **dict.fromkeys(
        ("project", "trackio_space_id", "trackio_bucket_id", "trackio_static_space_id"),
        (lambda v: {"trackio", "all"} & set(v["report_to"] or ()), "--report_to trackio"),
    ),
}


def has_bf16() -> bool:
    """Whether this machine multiplies bf16 matrices in hardware."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported()
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def training_arguments(
    run, rest: list[str], defaults: dict, metric: str | None = None, refused: dict[str, str] | None = None, **fixed
) -> TrainingArguments:
    """TrainingArguments from the task's defaults, then what the script fixes, then the user's (`rest`).

    Ours beside transformers' defaults: length-grouped batches, bf16 where the machine has it, a log line every 50
    steps, checkpoints each epoch of which the last (and the best) is kept.

    Args:
        metric: the score by which checkpoints of this training are compared; None: it is not scored before its end.
        refused: fields that this training does not take, beside `REFUSED`, and why.

    Raises:
        UserError: an argument is unknown or wrong, does nothing here, or the run has not the processes it was asked to
            have.
    """
    values, given = parse(run, rest, defaults | fixed, REFUSED | (refused or {}))
    check_training_numbers(values)
    check_dicts(values)
    compare_checkpoints(given, values, metric)
    check_needs(given, values)
    check_precision(given, values)
    asked = processes.world_size()
    try:
        if asked > 1 and values["use_cpu"]:  # transformers gives --ddp_timeout to GPUs alone
            PartialState(cpu=True, backend=values["ddp_backend"], timeout=timedelta(seconds=values["ddp_timeout"]))
        args = TrainingArguments(**values)
    except Exception as error:
        if processes.lost(error):
            raise
        raise UserError(first_line(error)) from error
    with torch.random.fork_rng(devices=[]):
        # what is tried here takes nothing from the numbers that heads are drawn from
        check_training(args, given)
    if args.world_size != asked:
        raise UserError(f"{asked} processes were asked for, {args.world_size} work together. {processes.HOW}")
    if args.n_gpu > 1:  # torch's DataParallel would make every batch so many times larger, and nobody asked for that
        logger.warning("%d GPUs are visible, one is used. %s", args.n_gpu, processes.HOW)
        args._n_gpu = 1
    logger.info(
        "World size: %d (%s), %d rows a step",
        args.world_size,
        args.device.type,
        args.world_size * args.train_batch_size * args.gradient_accumulation_steps,
    )
    return args


def parse(run, rest: list[str], defaults: dict, refused: dict[str, str]) -> tuple[dict, dict]:
    """(all fields and their values, those of them that the user gave).

    Raises:
        UserError: a field is unknown, of the wrong type, or in `refused`.
    """
    from transformers.hf_argparser import HfArgumentParser

    parser = HfArgumentParser(TrainingArguments, allow_abbrev=False)
    library = vars(parser.parse_args([]))
    parser.set_defaults(
        **{
            "output_dir": run.output_dir,
            "seed": run.seed or 0,
            "bf16": has_bf16(),
            "logging_steps": 50,
            "save_strategy": "epoch",
            "eval_strategy": "no",
            "save_total_limit": 1,
            "train_sampling_strategy": "group_by_length",
            "per_device_eval_batch_size": 64,
            "use_cpu": not torch.cuda.is_available(),
            "label_names": ["labels"],
            "disable_tqdm": False,
            **{k: v for k, v in defaults.items() if k in library},
        }
    )

    parser.error = fail
    plain, absent = vars(parser.parse_args([])), object()
    parsed, more = parser.parse_known_args(rest, argparse.Namespace(**dict.fromkeys(library, absent)))
    given = {name: value for name, value in vars(parsed).items() if value is not absent}
    for name, value in given.items():
        if name in OURS:
            raise UserError(f"--{name} is not written so; see --help.")
        if name in refused and value != plain[name]:
            raise UserError(f"--{name} is not taken: {refused[name]}. Leave it out.")
    for name in ("do_train", "do_eval", "do_predict"):
        if given.get(name) is False:
            raise UserError(f"--{name} false: this script always trains and scores. Leave it out.")
    if more:
        raise unknown(more[0], library.keys() | getattr(rest, "known", frozenset()))
    return plain | given, given


def check_dicts(values: dict) -> None:
    """Refuses what is no JSON where a field takes settings by name; transformers would not say which field is wrong.

    Raises:
        UserError: naming the argument.
    """
    for name in (
        "lr_scheduler_kwargs",
        "activation_checkpointing_kwargs",
        "gradient_checkpointing_kwargs",
        "fsdp_config",
        "deepspeed",
    ):
        value = values[name]
        if value is None:
            continue
        if name in JSON_FILES and not value.startswith("{"):
            read_json(value, f"--{name}")
            continue
        try:
            right = isinstance(json.loads(value), dict)
        except (ValueError, RecursionError):
            right = False
        if not right:
            raise UserError(f"--{name} {value[:80]}: expected settings by name, as JSON: '{{\"name\": 1}}'.")


def check_needs(given: dict, values: dict) -> None:
    """Refuses fields that do nothing beside the others given.

    Raises:
        UserError: naming the field and what it needs.
    """
    for name, value in given.items():
        matters, what = NEEDS.get(name, (None, ""))
        if matters and (value or name == "greater_is_better") and not matters(values):
            raise UserError(f"--{name} {shown(value)} does nothing without {what}: add that, or leave it out.")
    if not NEEDS["warmup_steps"][0](values):
        values["warmup_steps"] = 0  # a task's own warm-up: the record names none where there is none
    if values["train_sampling_strategy"] == "batch_rebalance":
        raise UserError(
            "--train_sampling_strategy batch_rebalance is not taken: its order is the same for every seed. Give "
            "group_by_length, random or sequential."
        )


def check_precision(given: dict, values: dict) -> None:
    """Makes --fp16 win over our default of bf16, and both over accelerate's settings.

    Raises:
        UserError: the user gave both.
    """
    if values["fp16"]:
        if given.get("bf16"):
            raise UserError("--fp16 and --bf16 were given, expected one of them.")
        values["bf16"] = False
    # accelerate's own word, of its launcher or its default config, would win over --bf16 false and stand in no record
    precision = "fp16" if values["fp16"] else "bf16" if values["bf16"] else "no"
    if (word := os.environ.pop("ACCELERATE_MIXED_PRECISION", "no")) not in ("no", precision):
        logger.warning(
            "accelerate was told to train in %s; --bf16 and --fp16 decide: %s.",
            word,
            "fp32" if precision == "no" else precision,
        )


def compare_checkpoints(given: dict, values: dict, metric: str | None) -> None:
    """Fills in what follows from --load_best_model_at_end and the like: when to score on dev, and which score counts.

    Args:
        metric: as for `training_arguments`.

    Raises:
        UserError: this training is not scored before its end, or checkpoints would be compared that are not scored.
    """
    best, rate = values["load_best_model_at_end"], values["lr_scheduler_type"]
    if best and "eval_strategy" not in given:  # each checkpoint is scored on dev, or none could be the best
        values["eval_strategy"] = "epoch" if values["save_strategy"] == "best" else values["save_strategy"]
    if best and values["save_strategy"] == values["eval_strategy"] == "steps":
        values["eval_steps"] = values["eval_steps"] or values["save_steps"]
    asks = [
        f"--{name} {shown(values[name])}"
        for name in ("load_best_model_at_end", "eval_strategy", "eval_on_start")
        if values[name] not in (False, "no")
    ]
    asks += ["--save_strategy best"] if values["save_strategy"] == "best" else []
    asks += [f"--lr_scheduler_type {rate}"] if rate in PLATEAU else []
    if asks and metric is None:
        raise UserError(f"{asks[0]} is not taken: this training is scored once, at its end. Leave it out.")
    if best and (values["save_strategy"] == "no" or values["save_strategy"] not in ("best", values["eval_strategy"])):
        default = "" if given.get("load_best_model_at_end") else " (this task's default)"
        raise UserError(
            f"--load_best_model_at_end true{default} needs checkpoints, and a dev score of each: given "
            f"--save_strategy {values['save_strategy']} and --eval_strategy {values['eval_strategy']}. Give epoch or "
            "steps to both, or --load_best_model_at_end false."
        )
    if chooses(values) and values["eval_strategy"] == "no":
        raise UserError(f"{asks[-1]} needs dev scores: add --eval_strategy epoch.")
    if chooses(values):
        name = values["metric_for_best_model"] = values["metric_for_best_model"] or metric
        if metric == "eval_loss" and name not in ("loss", "eval_loss"):
            raise UserError(f"--metric_for_best_model {name}: expected loss, the only score of this training.")
        if rate in PLATEAU:  # the library would take every metric for one that is better when lower
            higher = (
                values["greater_is_better"] if values["greater_is_better"] is not None else not name.endswith("loss")
            )
            values["lr_scheduler_kwargs"] = {"mode": "max" if higher else "min"} | json.loads(
                values["lr_scheduler_kwargs"] or "{}"
            )


def check_training(args: TrainingArguments, given: dict) -> None:
    """Tries what transformers makes last of all, once rows and model are there: so that it does not fail then.

    Raises:
        UserError: naming the argument.
    """
    if args.fsdp and args.world_size == 1:
        raise UserError(f"--fsdp needs several processes. {processes.HOW}")
    with refusing(f"--report_to {' '.join(args.report_to)}"):
        for callback in get_reporting_integration_callbacks(args.report_to):
            callback()
    with refusing("--dataloader_num_workers and what goes with it"):
        torch.utils.data.DataLoader([0], **loader_options(args))
    if args.torch_compile:
        with refusing(
            f"--torch_compile_backend {args.torch_compile_backend} --torch_compile_mode {args.torch_compile_mode}"
        ):
            plugin = TorchDynamoPlugin(backend=args.torch_compile_backend, mode=args.torch_compile_mode)
            torch.compile(torch.nn.Linear(1, 1), **plugin.to_kwargs())(torch.zeros(1, 1))
    if args.activation_checkpointing_kwargs:
        with refusing(f"--activation_checkpointing_kwargs {args.activation_checkpointing_kwargs}"):
            options = dict(args.activation_checkpointing_kwargs)
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


def check_optimizer(args: TrainingArguments, given: dict) -> None:
    """Makes the optimizer and the schedule for one weight.

    Raises:
        UserError: they cannot be made, or the optimizer does not look at an argument that was given for it.
    """

    def kind_and_options(**other):
        changed = copy.copy(args)
        vars(changed).update(other)
        return Trainer.get_optimizer_cls_and_kwargs(changed)

    settings = [part for part in (args.optim_args or "").split(",") if part]
    if wrong := [part for part in settings if part.count("=") != 1]:
        raise UserError(f"--optim_args {wrong[0]}: expected name=value, or several with commas between.")
    parameter, steps = torch.nn.Parameter(torch.zeros(1)), 10**6
    try:
        kind, options = kind_and_options()
        transformers.get_scheduler(
            args.lr_scheduler_type,
            kind([parameter], **options),
            args.get_warmup_steps(steps),
            steps,
            scheduler_specific_kwargs=dict(args.lr_scheduler_kwargs or {}),
        )
    except Exception as error:
        # made of the model, which is not there yet
        of_model = args.optim.value.startswith((*LOW_RANK, "lomo", "adalomo"))
        if of_model and not isinstance(error, ImportError):
            return
        words = {"optim": args.optim.value, "lr_scheduler_type": args.lr_scheduler_type.value} | {
            name: value
            for name, value in given.items()
            if name.startswith(("optim", "adam", "lr_scheduler", "warmup"))
        }
        raise UserError(
            f"{' '.join(f'--{name} {shown(value)}' for name, value in words.items())} cannot go together "
            f"({first_line(error).rstrip('.')})."
        ) from error
    changes = {
        f"--{name}": {name: given[name] / 2 + 0.1}
        for name in ("adam_beta1", "adam_beta2", "adam_epsilon")
        if name in given
    }
    changes |= {
        f"--optim_args {part}": {"optim_args": ",".join(p for p in settings if p != part)} for part in settings
    }
    for name, other in changes.items():
        if kind_and_options(**other)[1] == options:
            raise UserError(f"{name} does nothing here: --optim {args.optim.value} does not look at it. Leave it out.")


@contextlib.contextmanager
def refusing(what: str) -> Iterator[None]:
    """Any error within is the user's: `what` was given."""
    try:
        yield
    except Exception as error:
        raise UserError(f"{what}: {first_line(error).rstrip('.')}.") from error
