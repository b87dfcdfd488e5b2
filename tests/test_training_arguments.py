"""Every field of transformers' TrainingArguments is honoured, refused with a reason, or harmless; none is ignored in
silence."""

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainingArguments

from tasks.errors import UserError, first_line
from xstilts.cli.arguments import ModelArguments, RunArguments
from xstilts.run.settings import as_json, compare, settings_of
from xstilts.train import dual_encoder, mixture, pair_trainer
from xstilts.train.training_arguments import NEEDS, OURS, REFUSED, training_arguments

ROOT = Path(__file__).resolve().parents[1]

# ---- the table: a field that a new version of transformers brings is missing here until somebody has decided --------

TAKEN = """
per_device_train_batch_size num_train_epochs max_steps learning_rate lr_scheduler_type lr_scheduler_kwargs warmup_steps
optim optim_args weight_decay adam_beta1 adam_beta2 adam_epsilon optim_target_modules gradient_accumulation_steps
average_tokens_across_devices max_grad_norm bf16 fp16 tf32 activation_checkpointing activation_checkpointing_kwargs
gradient_checkpointing gradient_checkpointing_kwargs torch_compile torch_compile_backend torch_compile_mode
neftune_noise_alpha torch_empty_cache_steps logging_strategy logging_steps logging_first_step log_level
log_level_replica log_on_each_node disable_tqdm report_to run_name project trackio_space_id trackio_bucket_id
trackio_static_space_id eval_strategy eval_steps eval_delay per_device_eval_batch_size eval_on_start
eval_accumulation_steps save_strategy save_steps save_total_limit load_best_model_at_end metric_for_best_model
greater_is_better full_determinism data_seed use_cpu dataloader_num_workers dataloader_pin_memory
dataloader_persistent_workers dataloader_prefetch_factor dataloader_multiprocessing_context train_sampling_strategy
ddp_find_unused_parameters ddp_bucket_cap_mb ddp_broadcast_buffers ddp_static_graph ddp_backend ddp_timeout fsdp
fsdp_config deepspeed skip_memory_metrics
""".split()
HARMLESS = {
    "logging_nan_inf_filter": "a training stops at such a loss, so that none is ever left out of the log",
    "do_train": "true is what happens; false is refused",
    "do_eval": "as do_train",
    "do_predict": "as do_train",
    "local_rank": "an old launcher's word, which it gives in the environment too",
}


def test_every_field_has_been_decided_on():
    fields = {f.name for f in dataclasses.fields(TrainingArguments)}
    decided = [*TAKEN, *HARMLESS, *REFUSED, *OURS]
    assert sorted(decided) == sorted(set(decided)), "decided on twice"
    assert fields == set(decided), (
        f"undecided: {fields - set(decided)}; gone from transformers: {set(decided) - fields}"
    )
    assert set(NEEDS) <= set(TAKEN) and set(mixture.REFUSED) <= set(TAKEN) and set(dual_encoder.REFUSED) <= set(TAKEN)


# ---- what is refused ------------------------------------------------------------------------------------------------


def made(*argv, scores=("f1", "accuracy"), defaults=None, **fixed):
    return training_arguments(RunArguments(output_dir="unused"), list(map(str, argv)), defaults or {}, scores, **fixed)


def refused(*argv, **more) -> str:
    with pytest.raises(UserError) as caught:
        made(*argv, **more)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def another(name: str) -> str:
    """A value that is not the field's default."""
    default = next(f.default for f in dataclasses.fields(TrainingArguments) if f.name == name)
    return {"hub_strategy": "end", "label_smoothing_factor": "0.1", "debug": "underflow_overflow"}.get(
        name, str(not default) if isinstance(default, bool) else "some"
    )


@pytest.mark.parametrize("name", [name for name in REFUSED if name != "include_num_input_tokens_seen"])
def test_what_is_not_taken_is_refused_however_it_is_written(name):
    for flag in (f"--{name}", f"--{name.replace('_', '-')}"):
        assert name in refused(flag, another(name)) and name in refused(f"{flag}={another(name)}")


def test_tokens_are_not_counted_twice():
    assert "measures" in refused("--include_num_input_tokens_seen", "true")


@pytest.mark.parametrize("name", OURS)
def test_what_the_scripts_take_themselves_does_not_come_in_by_another_name(name):
    assert name in refused(f"--{name.replace('_', '-')}", "3")


def test_a_token_is_in_no_message():
    assert "secret" not in refused("--hub-token", "secret")


def test_the_default_of_what_is_not_taken_may_be_given():
    made(
        "--label_smoothing_factor",
        "0",
        "--dataloader_drop_last",
        "false",
        "--hub_strategy",
        "every_save",
        "--label_names",
        "labels",
        "--remove_unused_columns",
        "true",
        "--do_train",
        "--do_eval",
        "true",
    )


@pytest.mark.parametrize(
    "argv, told",
    [
        ("--save_steps 3", "--save_strategy steps"),
        ("--eval_steps 3", "--eval_strategy steps"),
        ("--eval_delay 1", "--eval_strategy"),
        ("--logging_steps 3 --logging_strategy epoch", "--logging_strategy steps"),
        ("--metric_for_best_model f1", "--load_best_model_at_end"),
        ("--greater_is_better false", "--load_best_model_at_end"),
        ('--activation_checkpointing_kwargs {"use_reentrant":false}', "--activation_checkpointing"),
        ('--gradient_checkpointing_kwargs {"use_reentrant":false}', "--activation_checkpointing"),
        ("--dataloader_persistent_workers true", "--dataloader_num_workers"),
        ("--dataloader_prefetch_factor 2", "--dataloader_num_workers"),
        ("--dataloader_multiprocessing_context fork", "--dataloader_num_workers"),
        ("--warmup_steps 10 --lr_scheduler_type constant", "constant_with_warmup"),
        ('--lr_scheduler_kwargs {"a":1} --lr_scheduler_type constant', "--lr_scheduler_type"),
        ("--optim_target_modules query", "--optim"),
        ("--fsdp_config x.json", "--fsdp"),
        ("--ddp_timeout 60", "several processes"),
        ("--fp16 true --use_cpu true", "GPU"),
        ("--run_name x", "--report_to"),
        ("--project x", "trackio"),
        ("--trackio_space_id x", "trackio"),
        ("--trackio_bucket_id x", "trackio"),
        ("--trackio_static_space_id x", "trackio"),
        # what the optimizer does not look at
        ("--optim adafactor --adam_beta1 0.8", "adafactor"),
        ("--optim sgd --adam_epsilon 1e-7", "sgd"),
        ("--optim_args a=1", "a=1"),
        ("--optim sgd --optim_args momentum=0.5,foo=1", "foo=1"),
    ],
)
def test_what_would_do_nothing_says_what_it_needs(argv, told):
    flag, value, *_ = argv.split()
    said = refused(*argv.split())
    assert told in said and (flag.lstrip("-") in said or flag == "--optim"), said


def test_every_need_is_tried_above():
    (mark,) = test_what_would_do_nothing_says_what_it_needs.pytestmark
    tried = " ".join(argv for argv, _ in mark.args[1])
    assert [name for name in NEEDS if f"--{name} " not in tried] == []


@pytest.mark.parametrize(
    "argv",
    [
        "--logging_steps 1e309",
        "--save_steps 1e309",
        "--eval_steps -1e309",
        "--learning_rate inf",
        "--eval_delay nan",
        "--eval_delay -3",
        *(
            f"--{name} 1000000000000000000000000000000"
            for name in (
                "per_device_train_batch_size",
                "per_device_eval_batch_size",
                "gradient_accumulation_steps",
                "max_steps",
                "save_total_limit",
                "dataloader_num_workers",
                "eval_accumulation_steps",
                "data_seed",
                "torch_empty_cache_steps",
                "ddp_timeout",
            )
        ),
        "--num_train_epochs 1e300",
        "--warmup_steps 1e300",
        "--weight_decay 1e308",
        "--neftune_noise_alpha -5",
        "--ddp_timeout -1",
        "--lr_scheduler_kwargs {bad",
        "--lr_scheduler_kwargs [1]",
        '--activation_checkpointing_kwargs {"nope":1} --activation_checkpointing true',
        "--activation_checkpointing_kwargs x",
        "--torch_compile_backend bogus",
        "--torch_compile_mode bogus",
        "--report_to bogus",
        "--dataloader_multiprocessing_context bogus",
        "--dataloader_prefetch_factor 0 --dataloader_num_workers 1",
        "--optim_args foo",
        "--train_sampling_strategy batch_rebalance",
        "--do_train false",
        "--do_eval false",
        "--do_predict false",
        "--deepspeed nowhere.json",
        "--deepspeed {}",
        "--fsdp bogus",
        "--tf32 true",
        "--adam_beta1 2",
        "--adam_beta2 -0.1",
        "--optim_args momentum=-1 --optim sgd",
        "--optim_args nesterov=True --optim sgd",
        "--optim lomo",  # their packages are not installed
        "--optim adalomo",
        "--optim galore_adamw --optim_target_modules query",
        "--optim apollo_adamw",  # without --optim_target_modules
        "--lr_scheduler_type cosine_with_min_lr",  # without its settings
        "--lr_scheduler_type warmup_stable_decay",
        "--lr_scheduler_type polynomial --learning_rate 0",
        "--metric_for_best_model bogus --load_best_model_at_end true",
        "--metric_for_best_model eval_loss --lr_scheduler_type reduce_lr_on_plateau --eval_strategy epoch",
        "--eval_delay 4 --load_best_model_at_end true --num_train_epochs 3",
        "--eval_delay 9 --save_strategy best --eval_strategy steps --eval_steps 2 --max_steps 8",
    ],
)
def test_training_arguments_that_fail_later_are_refused_by_name(argv):
    if argv == "--tf32 true" and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    assert argv.split()[0].lstrip("-") in refused(*argv.split())


def test_a_value_of_a_script_that_no_field_has_is_an_error():
    with pytest.raises(TypeError, match="sampling_strategy"):
        training_arguments(RunArguments(output_dir="unused"), [], {}, sampling_strategy="random")


def test_nested_settings_of_any_depth_are_one_line():
    assert "lr_scheduler_kwargs" in refused("--lr_scheduler_kwargs", '{"a":' * 100_000 + "1" + "}" * 100_000)


def test_message_that_continues_in_a_list_is_kept_whole():
    error = ValueError(
        "the two must match, but found\n- Evaluation strategy: steps\n- Save strategy: epoch\nSee the docs."
    )
    assert first_line(error).endswith("but found - Evaluation strategy: steps - Save strategy: epoch")
    assert (
        first_line(ValueError("one of:\n(1) a file,\n(2) a slow one.\nYou need more"))
        == "one of: (1) a file, (2) a slow one."
    )
    assert first_line(ValueError("done.\nand details")) == "done."


# ---- dev scores during a training -----------------------------------------------------------------------------------


def test_strategies_that_do_not_match_name_both():
    said = refused("--eval_strategy", "steps", load_best_model_at_end=True)
    assert "--save_strategy epoch" in said and "--eval_strategy steps" in said and "default" in said
    assert "--save_strategy no" in refused("--save_strategy", "no", load_best_model_at_end=True)
    assert "--eval_strategy" in refused("--save_strategy", "best")


def test_the_best_checkpoint_goes_by_the_tasks_own_score():
    args = made("--load_best_model_at_end", "true")
    assert (args.eval_strategy, args.metric_for_best_model, args.greater_is_better) == ("epoch", "eval_f1", True)
    assert made("--load_best_model_at_end", "true", scores=["loss"]).greater_is_better is False
    assert (
        made(load_best_model_at_end=True).metric_for_best_model == "eval_f1" and made().metric_for_best_model is None
    )
    assert "perplexity" in refused(
        "--load_best_model_at_end", "true", "--metric_for_best_model", "perplexity", scores=["loss"]
    )


@pytest.mark.parametrize(
    "argv",
    [
        "--eval_strategy epoch",
        "--load_best_model_at_end true",
        "--eval_on_start true",
        "--save_strategy best",
        "--lr_scheduler_type reduce_lr_on_plateau",
    ],
)
def test_a_training_without_dev_scores_refuses_what_needs_them(argv):
    assert argv.split()[0] in refused(*argv.split(), scores=())


def test_a_rate_that_follows_the_score_follows_it_upwards():
    """transformers lets it go down with every better score, where higher is better."""
    args = made("--lr_scheduler_type", "reduce_lr_on_plateau", "--eval_strategy", "epoch")
    assert args.lr_scheduler_kwargs == {"mode": "max"} and args.metric_for_best_model == "eval_f1"
    args = made(
        "--lr_scheduler_type",
        "greedy",
        "--eval_strategy",
        "epoch",
        "--lr_scheduler_kwargs",
        '{"patience":3}',
        scores=["loss"],
    )
    assert args.lr_scheduler_kwargs == {"mode": "min", "patience": 3}
    assert "--eval_strategy" in refused("--lr_scheduler_type", "reduce_lr_on_plateau")


def test_a_constant_rate_records_no_warm_up():
    assert made("--lr_scheduler_type", "constant", defaults={"warmup_steps": 0.1}).warmup_steps == 0
    assert made(defaults={"warmup_steps": 0.1}).warmup_steps == 0.1


# ---- in each of the trainings ---------------------------------------------------------------------------------------

TRAININGS = {
    "target": ["run_target.py", "--task", "udpos"],
    "intermediate": ["run_intermediate.py", "--tasks", "mnli"],
    "mixture": ["run_intermediate.py", "--tasks", "mnli", "squad", "--mlm_rate", "0.3"],
    "mlm": ["run_mlm.py"],
    "dual": ["run_intermediate.py", "--tasks", "squad_dual"],
}
FEW = [
    "--max_steps",
    "4",
    "--max_train_samples",
    "40",
    "--max_eval_samples",
    "6",
    "--per_device_train_batch_size",
    "4",
    "--bf16",
    "false",
    "--max_seq_length",
    "48",
    "--learning_rate",
    "1e-3",
    "--disable_tqdm",
    "true",
]


@pytest.fixture
def train(cli, tiny_model, tiny_world, tmp_path):
    """`train("mixture", "--data_seed", 3, out="x")`: four steps of it -> (what it said, its folder)."""

    def run(kind, *argv, out="out"):
        script, *more = TRAININGS[kind]
        command = [
            script,
            *more,
            "--model_name_or_path",
            tiny_model,
            "--data_root",
            tiny_world,
            *FEW,
            "--output_dir",
            tmp_path / out,
        ]
        return cli(*command, *argv), tmp_path / out

    return run


def refuse_once(monkeypatch):
    """Let the optimizer of the next training refuse its settings, as one can that looks at the model."""
    from xstilts.train.trainers import Trainer

    def create(self, *args, **kwargs):
        monkeypatch.setattr(Trainer, "create_optimizer", original)
        raise ValueError("none of the target modules were found")

    original = Trainer.create_optimizer
    monkeypatch.setattr(Trainer, "create_optimizer", create)


def test_what_an_optimizer_refuses_of_the_model_is_named_at_the_first_step(train, monkeypatch):
    refuse_once(monkeypatch)
    done, folder = train("target")
    said = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    assert "--optim" in said and json.loads((folder / "failed.json").read_text())
    assert not list(folder.glob("checkpoint-*")) and not (folder / "results.json").exists()


def test_the_mended_command_trains_in_the_same_folder(train, monkeypatch):
    """xcopa has a stage before it, whose folder of checkpoints is made, and is empty, before the first step."""
    monkeypatch.setitem(TRAININGS, "stages", ["run_target.py", "--task", "xcopa"])
    refuse_once(monkeypatch)
    done, folder = train("stages")
    assert done.returncode == 2 and (folder / "run.json").is_file()
    done, folder = train("stages")
    assert done.returncode == 0 and (folder / "results.json").is_file(), done.stderr


@pytest.mark.parametrize("kind", TRAININGS)
def test_fields_that_are_taken_work_in_every_training(kind, train, monkeypatch):
    other = {"dual": {"--neftune_noise_alpha", "--eval_accumulation_steps"}}.get(kind, set())
    given = {
        "--activation_checkpointing": "true",
        "--neftune_noise_alpha": "5",
        "--torch_empty_cache_steps": "1",
        "--log_level": "error",
        "--logging_first_step": "true",
        "--data_seed": "3",
        "--eval_accumulation_steps": "1",
        "--skip_memory_metrics": "false",
        "--optim": "adafactor",
        "--lr_scheduler_type": "cosine_with_min_lr",
        "--lr_scheduler_kwargs": '{"min_lr": 0.0001}',
        "--weight_decay": "0.1",
        "--max_grad_norm": "0",
        "--gradient_accumulation_steps": "2",
        "--per_device_eval_batch_size": "3",
        "--average_tokens_across_devices": "false",
        "--ddp_bucket_cap_mb": "1",
        "--save_strategy": "steps",
        "--save_steps": "2",
        "--save_total_limit": "2",
        "--dataloader_pin_memory": "false",
        "--full_determinism": "true",
    }
    for name in (
        "CUDA_LAUNCH_BLOCKING",
        "CUBLAS_WORKSPACE_CONFIG",
        "ASCEND_LAUNCH_BLOCKING",
        "HCCL_DETERMINISTIC",
        "FLASH_ATTENTION_DETERMINISTIC",
    ):
        monkeypatch.setenv(name, "")  # full_determinism sets them
    try:
        done, folder = train(kind, *(word for pair in given.items() if pair[0] not in other for word in pair))
    finally:
        torch.use_deterministic_algorithms(False)
    assert done.returncode == 0, done.stderr
    record = json.loads((folder / "results.json").read_text())
    assert record["measures"]["steps"] == 4 and record["settings"]["data_seed"] == 3


@pytest.mark.parametrize("kind", ["intermediate", "mlm"])
def test_the_best_checkpoint_is_kept_where_it_is_asked_for(kind, train, monkeypatch):
    from xstilts.train.trainers import TaskTrainer

    seen, evaluate = [], TaskTrainer.evaluate

    def watched(self, *args, **kwargs):
        seen.append(evaluate(self, *args, **kwargs))
        return seen[-1]

    monkeypatch.setattr(TaskTrainer, "evaluate", watched)
    done, folder = train(
        kind, *"--load_best_model_at_end true --save_strategy steps --save_steps 1 --eval_on_start true".split()
    )
    assert done.returncode == 0, done.stderr
    record = json.loads((folder / "results.json").read_text())
    if kind == "mlm":  # the last one is the scoring of what is kept
        assert len(seen) == 6 and record["measures"]["held_out_loss"] == pytest.approx(
            min(s["eval_loss"] for s in seen[1:])
        )
    else:
        assert len(seen) == 5 and record["dev"]["en"]["accuracy"] == max(s["eval_accuracy"] for s in seen[1:])


@pytest.mark.parametrize(
    "kind, argv",
    [
        ("mixture", "--eval_strategy epoch"),
        ("mixture", "--load_best_model_at_end true"),
        ("mixture", "--train_sampling_strategy random"),
        ("mixture", "--ddp_find_unused_parameters false"),
        ("dual", "--eval_strategy steps"),
        ("dual", "--train_sampling_strategy sequential"),
        ("dual", "--neftune_noise_alpha 5"),
        ("dual", "--eval_accumulation_steps 2"),
        ("target", "--use_liger_kernel true"),
        ("mlm", "--remove_unused_columns false"),
        ("intermediate", "--eval_do_concat_batches false"),
        ("mixture", "--mlm_rate 0.001"),
    ],
)
def test_what_a_training_has_no_use_for_is_refused_in_it(kind, argv, train):
    done, folder = train(kind, *argv.split())
    assert done.returncode == 2 and argv.split()[0] in done.stderr.splitlines()[-1] and "Traceback" not in done.stderr
    assert not (folder / "results.json").exists()


def test_a_score_that_a_task_does_not_have_is_refused_with_those_it_has(train):
    done, _ = train("target", "--metric_for_best_model", "rouge")
    assert done.returncode == 2 and "rouge" in done.stderr and "accuracy" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    "kind, sampler",
    [
        ("target", "xstilts.train.batching.EpochSampler"),
        ("mixture", "xstilts.train.mixture.MixtureSampler"),
        ("dual", "xstilts.train.dual_encoder.PairSampler"),
    ],
)
def test_data_seed_is_the_seed_of_the_order(kind, sampler, train, monkeypatch):
    """It was recorded, and the order was that of --seed."""
    import importlib

    module, _, name = sampler.rpartition(".")
    original, orders = getattr(importlib.import_module(module), name), []

    class Seen(original):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            orders.append(list(self))

    monkeypatch.setattr(sampler, Seen)
    for number, argv in enumerate([("--seed", 0), ("--seed", 3), ("--seed", 0, "--data_seed", 3)]):
        done, _ = train(kind, *argv, out=f"out{number}")
        assert done.returncode == 0, done.stderr
    assert orders[2] == orders[1] != orders[0]


# ---- workers --------------------------------------------------------------------------------------------------------


def test_a_tokenizer_in_a_forked_worker_does_not_wait_for_threads_that_are_not_there(tiny_model):
    """It did for ever, at step 0 of a dual encoder's training: xstilts switches its guard off."""
    program = f"""
import xstilts, torch
from tokenizers import Tokenizer  # that of transformers is this one, and is seconds of imports more
tokenizer = Tokenizer.from_file({str(tiny_model / "tokenizer.json")!r})
texts = ["some words to cut into pieces"] * 64
tokenizer.encode_batch(texts)  # starts the threads
loader = torch.utils.data.DataLoader(texts, batch_size=32, collate_fn=lambda some: len(tokenizer.encode_batch(some)),
    num_workers=2)
assert list(loader) == [32, 32]
"""
    environment = {name: value for name, value in os.environ.items() if name != "TOKENIZERS_PARALLELISM"}
    command = [sys.executable, "-c", program]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        _, error = process.communicate(timeout=120)
    finally:  # the workers of a loader that hangs would outlive it
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0 and "forked" not in error, error


@pytest.mark.parametrize("kind", TRAININGS)
def test_workers_change_nothing(kind, train):
    one, first = train(kind)
    two, second = train(kind, "--dataloader_num_workers", 2, "--dataloader_persistent_workers", "true", out="workers")
    assert one.returncode == two.returncode == 0, one.stderr + two.stderr
    weights, others = load_file(first / "model.safetensors"), load_file(second / "model.safetensors")
    assert weights.keys() == others.keys() and all(torch.equal(weights[name], others[name]) for name in weights)


@pytest.mark.parametrize("kind, module", [("mixture", mixture), ("dual", pair_trainer)])
def test_loaders_of_our_own_take_what_is_said_of_loading(kind, module, train, monkeypatch):
    """A mixture's workers were none."""
    seen, original = [], module.DataLoader

    def loader(*args, **options):
        seen.append(options)
        return original(*args, **options | {"num_workers": 0, "persistent_workers": False, "prefetch_factor": None})

    monkeypatch.setattr(module, "DataLoader", loader)
    done, _ = train(
        kind,
        "--dataloader_num_workers",
        2,
        "--dataloader_persistent_workers",
        "true",
        "--dataloader_prefetch_factor",
        3,
    )
    assert done.returncode == 0, done.stderr
    (options,) = seen
    assert (options["num_workers"], options["persistent_workers"], options["prefetch_factor"]) == (2, True, 3)


# ---- what a run was begun with --------------------------------------------------------------------------------------


def test_a_default_is_named_by_its_value_when_a_resume_is_refused(tmp_path):
    def settings(*argv):
        return settings_of(made("--use_cpu", "true", *argv), "model", ModelArguments())

    (tmp_path / "checkpoint-1").mkdir()
    (tmp_path / "checkpoint-1/trainer_state.json").touch()
    (tmp_path / "run.json").write_text(as_json(settings("--per_device_train_batch_size", "8")))
    with pytest.raises(UserError, match=r"per_device_train_batch_size: 8 then, 16 now"):
        compare(tmp_path, settings("--per_device_train_batch_size", "16"))
    with pytest.raises(UserError, match=r"lora_rank: 8 then, 4 now"):
        compare(tmp_path, settings() | {"lora_rank": 4})
