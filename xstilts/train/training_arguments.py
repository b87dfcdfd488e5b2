"""Parse transformers' TrainingArguments: our defaults, and the fields that are refused."""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from transformers import TrainingArguments

from tasks.errors import UserError, first_line
from xstilts.checkpoint.precision import has_bf16
from xstilts.cli.arguments import RunArguments
from xstilts.cli.user_files import read_json
from xstilts.cli.words import JSON_FILES, check_training_numbers, fail, shown, unknown
from xstilts.run import processes
from xstilts.train import trackers
from xstilts.train.library_internals import use_one_gpu
from xstilts.train.training_checks import LOW_RANK, check_training

logger = logging.getLogger("xstilts")

# fields that the scripts take as RunArguments
OURS = ("output_dir", "seed", "push_to_hub", "hub_model_id", "hub_private_repo")
PUSH = "the finished folder is pushed once, to its main branch (--push_to_hub, --hub_model_id)"
SCORES = "scores come from the task's own decoding of all predictions"
# Fields of TrainingArguments that no training here takes, and why: they have no effect, break something later, or make
# the result differ from its record. tests/test_training_arguments.py lists what happens to every other field.
REFUSED = {
    "label_smoothing_factor": "the loss is cross-entropy over the whole step, without smoothing",
    "use_liger_kernel": "Liger has no kernels for encoders",
    "liger_kernel_config": "Liger has no kernels for encoders",
    "use_cache": "encoders have no cache",
    "auto_find_batch_size": "another batch size trains another model, and the steps of a failed try would stay in it",
    "parallelism_config": "a model is whole on every GPU, or sharded by recipes/accelerate/gpu-8-fsdp2.yaml",
    "accelerator_config": "the scripts make the batches and split them among the processes themselves",
    "include_num_input_tokens_seen": "tokens are counted anyway (measures in results.json), and would count twice",
    "debug": "transformers' debugging stops at these models' boolean masks, or needs a TPU",
    "prediction_loss_only": "scores need predictions",
    "bf16_full_eval": "it would cast the model before it is trained and saved. --bf16 applies to scoring too",
    "fp16_full_eval": "it would cast the model before it is trained and saved. --fp16 applies to scoring too",
    "eval_do_concat_batches": SCORES,
    "eval_use_gather_object": SCORES,
    "include_for_metrics": SCORES,
    "batch_eval_metrics": SCORES,
    "save_only_model": "a stopped run could not resume from such a checkpoint. For fewer: --save_strategy",
    "save_on_each_node": "all nodes share one output folder",
    "enable_jit_checkpoint": "a run stopped that way would be scored half trained. --save_strategy steps "
    "--save_steps N limits what a kill costs; the same command resumes",
    "hub_token": "it would be saved with every checkpoint. Log in with `hf auth login`, or set HF_TOKEN",
    "hub_strategy": PUSH,
    "hub_always_push": PUSH,
    "hub_revision": PUSH,
    "resume_from_checkpoint": "the same command resumes from its last checkpoint by itself",
    "ignore_data_skip": "a resumed run would not see the remaining rows",
    "restore_callback_states_from_checkpoint": "no callback here has a state",
    "dataloader_drop_last": "it would drop rows that are to be scored",
    "dataloader_in_order": "the order of batches is part of the result",
    "remove_unused_columns": "the models take no other columns",
    "label_names": "the labels of all heads are called labels",
    "length_column_name": "the lengths of features are in the column length",
}
PLATEAU = ("reduce_lr_on_plateau", "greedy")  # schedules that follow the dev score


def compares_dev_scores(values: Mapping[str, Any]) -> bool:
    """Return whether the run compares dev scores, to choose a checkpoint or a learning rate."""
    return (
        values["load_best_model_at_end"] or values["save_strategy"] == "best" or values["lr_scheduler_type"] in PLATEAU
    )


# Fields that need another one to have an effect: (whether they have one, what to add)
NEEDS: dict[str, tuple[Callable[[Mapping[str, Any]], Any], str]] = {
    "save_steps": (lambda v: v["save_strategy"] == "steps", "--save_strategy steps"),
    "eval_steps": (lambda v: v["eval_strategy"] == "steps", "--eval_strategy steps"),
    "logging_steps": (lambda v: v["logging_strategy"] == "steps", "--logging_strategy steps"),
    "eval_delay": (lambda v: v["eval_strategy"] != "no", "--eval_strategy epoch"),
    "metric_for_best_model": (compares_dev_scores, "--load_best_model_at_end true"),
    "greater_is_better": (compares_dev_scores, "--load_best_model_at_end true"),
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


def training_arguments(
    run: RunArguments,
    rest: list[str],
    defaults: Mapping[str, Any],
    scores: Sequence[str] = (),
    refused: Mapping[str, str] | None = None,
    **fixed: Any,
) -> TrainingArguments:
    """Return TrainingArguments. Later wins: our defaults, `defaults`, `fixed`, `rest`.

    Our defaults differ from transformers' in this: length-grouped batches, bf16 if the GPU or CPU has it in hardware,
    64 rows at a time in scoring, a log line every 50 steps, a checkpoint each epoch; the last one and the best are
    kept.

    Args:
        rest: the words of the command line that belong to TrainingArguments.
        defaults: of the task.
        scores: of dev, during this training; the first one compares checkpoints. () if it is scored only at its end.
        refused: {field that this training does not take: why}, besides `REFUSED`.
        fixed: values of the script, by the names of TrainingArguments.

    Raises:
        TypeError: `fixed` has a name that is not one of TrainingArguments.
        UserError: an argument is unknown, wrong or has no effect, or the number of processes is not the one asked for.
    """
    if unknown_names := fixed.keys() - {f.name for f in dataclasses.fields(TrainingArguments)}:
        raise TypeError(f"not fields of TrainingArguments: {', '.join(sorted(unknown_names))}")
    values, given = parse(run, rest, {**defaults, **fixed}, {**REFUSED, **(refused or {})})
    if values["report_to"] not in (None, "none", ["none"]) and not values["run_name"]:
        values["run_name"] = trackers.run_name(Path(str(run.output_dir)))
        trackers.set_tags(values["run_name"])
    check_training_numbers(values)
    check_dicts(values)
    compare_checkpoints(given, values, scores)
    check_needs(given, values)
    check_precision(given, values)
    n_processes = processes.world_size()
    try:
        if n_processes > 1 and values["use_cpu"]:  # transformers passes --ddp_timeout only for GPUs
            PartialState(cpu=True, backend=values["ddp_backend"], timeout=timedelta(seconds=values["ddp_timeout"]))
        args = TrainingArguments(**values)
    except Exception as error:
        if processes.lost(error):
            raise
        raise UserError(first_line(error)) from error
    with torch.random.fork_rng(devices=[]):
        # so that trying things here does not change the random state that heads are drawn from
        check_training(args, given)
    if args.world_size != n_processes:
        raise UserError(f"Found {args.world_size} processes in one group, expected {n_processes}. {processes.HOW}")
    if args.n_gpu > 1:  # torch's DataParallel would multiply the batch size
        logger.warning("%d GPUs are visible, one is used. %s", args.n_gpu, processes.HOW)
        use_one_gpu(args)
    logger.info(
        "World size: %d (%s), %d rows a step",
        args.world_size,
        args.device.type,
        args.world_size * args.train_batch_size * args.gradient_accumulation_steps,
    )
    return args


def parse(
    run: RunArguments, rest: list[str], defaults: Mapping[str, Any], refused: Mapping[str, str]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return (values of all fields, values of the fields that the user gave).

    Raises:
        UserError: a field is unknown, of the wrong type, or in `refused`.
    """
    from transformers.hf_argparser import HfArgumentParser

    parser = HfArgumentParser(TrainingArguments, allow_abbrev=False)  # type: ignore[arg-type]  # takes any dataclass
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
    parser.error = fail  # type: ignore[method-assign]  # argparse's way to raise in place of exit
    plain, absent = vars(parser.parse_args([])), object()
    parsed, more = parser.parse_known_args(rest, argparse.Namespace(**dict.fromkeys(library, absent)))
    given = {name: value for name, value in vars(parsed).items() if value is not absent}
    for name, value in given.items():
        if name in OURS:
            raise UserError(f"--{name}: expected `--{name} VALUE`; see --help.")
        if name in refused and value != plain[name]:
            raise UserError(f"--{name} is not taken: {refused[name]}. Leave it out.")
    for name in ("do_train", "do_eval", "do_predict"):
        if given.get(name) is False:
            raise UserError(f"--{name} false: this script always trains and scores. Leave it out.")
    if more:
        raise unknown(more[0], library.keys() | getattr(rest, "known", frozenset()))
    return plain | given, given


def check_dicts(values: dict[str, Any]) -> None:
    """Raise if a field that takes a JSON object has something else; transformers' error does not name the field.

    Raises:
        UserError: names the argument.
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
            settings = json.loads(value)
        except (ValueError, RecursionError):
            settings = None
        if not isinstance(settings, dict):
            raise UserError(f"--{name} {value[:80]}: expected settings by name, as JSON: '{{\"name\": 1}}'.")
        if name == "deepspeed" and not settings:  # transformers takes an empty object for no --deepspeed
            raise UserError("--deepspeed {} does nothing: it has no settings. Give some, or leave it out.")


def check_needs(given: dict[str, Any], values: dict[str, Any]) -> None:
    """Raise if a field has no effect with the other values (`NEEDS`).

    Raises:
        UserError: names the field and what it needs.
    """
    for name, value in given.items():
        has_effect, needed = NEEDS.get(name, (None, ""))
        if has_effect and (value or name == "greater_is_better") and not has_effect(values):
            raise UserError(f"--{name} {shown(value)} does nothing without {needed}: add that, or leave it out.")
    if not NEEDS["warmup_steps"][0](values):
        values["warmup_steps"] = 0  # the task's default: settings must name no warm-up where there is none
    if values["train_sampling_strategy"] == "batch_rebalance":
        raise UserError(
            "--train_sampling_strategy batch_rebalance is not taken: its order is the same for every seed. Give "
            "group_by_length, random or sequential."
        )


def check_precision(given: dict[str, Any], values: dict[str, Any]) -> None:
    """Let --fp16 override our default of bf16, and both override accelerate's settings.

    Raises:
        UserError: the user gave both.
    """
    if values["fp16"]:
        if given.get("bf16"):
            raise UserError("--fp16 and --bf16 were given, expected one of them.")
        values["bf16"] = False
    # accelerate's launcher or config would override --bf16 false, and results.json would not show it
    precision = "fp16" if values["fp16"] else "bf16" if values["bf16"] else "no"
    if (word := os.environ.pop("ACCELERATE_MIXED_PRECISION", "no")) not in ("no", precision):
        logger.warning(
            "accelerate is configured for %s; --bf16 and --fp16 decide: %s.",
            word,
            "fp32" if precision == "no" else precision,
        )


def compare_checkpoints(given: dict[str, Any], values: dict[str, Any], scores: Sequence[str]) -> None:
    """Fill in what follows from --load_best_model_at_end and the like: when to score dev, and by which metric.

    Args:
        scores: as for `training_arguments`.

    Raises:
        UserError: this training is scored only at its end, or has no such score, or checkpoints would be compared
            without one.
    """
    best, rate = values["load_best_model_at_end"], values["lr_scheduler_type"]
    if best and "eval_strategy" not in given:  # every checkpoint needs a dev score
        values["eval_strategy"] = "epoch" if values["save_strategy"] == "best" else values["save_strategy"]
    if best and values["save_strategy"] == values["eval_strategy"] == "steps":
        values["eval_steps"] = values["eval_steps"] or values["save_steps"]
    comparing = [
        f"--{name} {shown(values[name])}"
        for name in ("load_best_model_at_end", "eval_strategy", "eval_on_start")
        if values[name] not in (False, "no")
    ]
    comparing += ["--save_strategy best"] if values["save_strategy"] == "best" else []
    comparing += [f"--lr_scheduler_type {rate}"] if rate in PLATEAU else []
    if comparing and not scores:
        raise UserError(f"{comparing[0]} is not taken: this training is scored once, at its end. Leave it out.")
    if best and (values["save_strategy"] == "no" or values["save_strategy"] not in ("best", values["eval_strategy"])):
        default = "" if given.get("load_best_model_at_end") else " (this task's default)"
        raise UserError(
            f"--load_best_model_at_end true{default} needs checkpoints, and a dev score of each: given "
            f"--save_strategy {values['save_strategy']} and --eval_strategy {values['eval_strategy']}. Give epoch or "
            "steps to both, or --load_best_model_at_end false."
        )
    if compares_dev_scores(values) and values["eval_strategy"] == "no":
        raise UserError(f"{comparing[-1]} needs dev scores: add --eval_strategy epoch.")
    if compares_dev_scores(values):
        name = values["metric_for_best_model"] = values["metric_for_best_model"] or f"eval_{scores[0]}"
        if name.removeprefix("eval_") not in scores:
            raise UserError(f"--metric_for_best_model {name}: expected a score of this training: {', '.join(scores)}.")
        length = {"epoch": "num_train_epochs", "steps": "max_steps"}[values["eval_strategy"]]
        if (values["max_steps"] > 0) == (length == "max_steps") and values["eval_delay"] > values[length]:
            raise UserError(
                f"--eval_delay {shown(values['eval_delay'])}: {comparing[-1]} needs a dev score before the training "
                f"ends (--{length} {shown(values[length])})."
            )
        if rate in PLATEAU:  # the library's default is that lower is better
            higher = (
                values["greater_is_better"]
                if values["greater_is_better"] is not None
                else not str(name).endswith("loss")
            )
            values["lr_scheduler_kwargs"] = {"mode": "max" if higher else "min"} | json.loads(
                values["lr_scheduler_kwargs"] or "{}"
            )
