"""Speed of training beside what a user would run instead, on the same model, rows and settings; the losses stand
beside it.

    python benchmarks/training.py tasks --model FOLDER --data_root data/world [--tasks xnli squad udpos] \\
        [--rows 2000] [--runs 3]
    python benchmarks/training.py resume --data_root data/world [--save_steps 1000]

`tasks`: an epoch of run_target.py's Trainer beside what Hugging Face's example scripts run_glue.py, run_qa.py and
run_ner.py make of the same flags, restated on a plain Trainer: with their defaults (run_glue and run_qa pad every row
to the maximal length, run_ner to the longest of its batch; batches at random, fp32), and with their best flags
(padding to the longest, group_by_length, and bf16 where we use it). Rates are real tokens (padding aside) a second of
training alone, from the first step to the last. The sides alternate, each round with another seed and another side
first, and the same initial weights for all; ratios are medians over rounds. Losses are the means of each quarter of
the epoch, and afterwards on dev rows, measured in one way for all (in training run_qa.py's counts padding among the
places where an answer may lie, so that its curve begins higher).
`resume`: run_mlm.py as the preset world has it, killed (-9) between two checkpoints and started again: the time to the
first new step beside the time from one checkpoint to the next.
On a GPU: benchmarks/gpu.sh.
Set OMP_NUM_THREADS for the threads all sides use.
"""

from __future__ import annotations

import argparse
import copy
import gc
import math
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from featurise import example_pair, example_qa  # noqa: E402  (they lie beside this file)
from resume import benchmark_resume  # noqa: E402


@dataclass
class Run:
    """One training.

    lengths: tokens of each row, padding aside; seconds: from the first step to the last; losses: mean of each quarter
    of the steps; dev_loss: afterwards, by our loss; memory: bytes of GPU memory at most, 0 on a CPU.
    """

    lengths: list[int]
    seconds: float
    losses: list[float]
    dev_loss: float
    memory: int

    @property
    def rate(self) -> float:
        """Real tokens a second."""
        return sum(self.lengths) / self.seconds

    @property
    def mean_length(self) -> float:
        """Length of the row a token stands in, on average over tokens."""
        return sum(n * n for n in self.lengths) / sum(self.lengths)


def example_tags(batch, indices, tokenizer, max_length, padding):
    """The recipe of run_ner.py's features: a word's tag on its first token, -100 on all others."""
    encoded = tokenizer(
        batch["tokens"], padding=padding, truncation=True, max_length=max_length, is_split_into_words=True
    )
    rows = []
    for i, tags in enumerate(batch["tags"]):
        words = encoded.word_ids(i)
        rows.append([-100 if w is None or (k and words[k - 1] == w) else tags[w] for k, w in enumerate(words)])
    return {**encoded, "labels": rows}


TAGS = "AutoModelForTokenClassification"
PACKED = "ours, padding_free"  # --attn_implementation padding_free
# On a GPU the tokens of a row, padding included, are a multiple of this, for all sides: first batches of a shape were
# slow there. A long training has soon met all shapes; a short one would meet new ones in every step.
WIDTHS = 32
# by the head that the example script trains
EXAMPLES = {
    "AutoModelForSequenceClassification": example_pair,
    "AutoModelForQuestionAnswering": example_qa,
    TAGS: example_tags,
}


def rivals(
    task, examples, tokenizer, length: int, bf16: bool, frozen: bool = False, packed: bool = False
) -> dict[str, Callable]:
    """{name: (settings, output_dir, seed) -> (Trainer class, its arguments)}: ours first, then the example script's
    two; with `frozen` also ours with frozen embeddings, with `packed` also ours without padding."""
    import torch
    import transformers

    from xstilts.checkpoint import heads
    from xstilts.cli.arguments import RunArguments
    from xstilts.train import featurizing, trainers
    from xstilts.train.training_arguments import training_arguments

    cpu = not torch.cuda.is_available()
    dynamic = (
        transformers.DataCollatorForTokenClassification
        if task.auto_class == TAGS
        else transformers.DataCollatorWithPadding
    )

    def ours(settings, folder, seed):
        args = training_arguments(RunArguments(output_dir=folder, seed=seed), ["--bf16", str(bf16)], settings)
        features = featurizing.featurize(task, examples, tokenizer, length, True, task.name)
        return trainers.TaskTrainer, {
            "args": args,
            "train_dataset": features,
            "data_collator": task.collator(tokenizer),
        }

    def ours_frozen(settings, folder, seed):
        def trainer(model, **kwargs):
            heads.freeze_embeddings(model)
            return trainers.TaskTrainer(model=model, **kwargs)

        return trainer, ours(settings, folder, seed)[1]

    def example(padding, collator, **flags):
        def build(settings, folder, seed):
            args = transformers.TrainingArguments(output_dir=folder, seed=seed, use_cpu=cpu, **settings, **flags)
            features = examples.map(
                EXAMPLES[task.auto_class],
                batched=True,
                with_indices=True,
                remove_columns=examples.column_names,
                fn_kwargs={"tokenizer": tokenizer, "max_length": length, "padding": padding},
            )
            return transformers.Trainer, {"args": args, "train_dataset": features, "data_collator": collator}

        return build

    if task.auto_class == TAGS:
        defaults = example(False, dynamic(tokenizer))
    else:
        defaults = example("max_length", transformers.default_data_collator)
    best = example(False, dynamic(tokenizer), bf16=bf16, train_sampling_strategy="group_by_length")
    found = {"ours": ours, "example, defaults": defaults, "example, best flags": best}
    return found | ({"ours, embeddings frozen": ours_frozen} if frozen else {}) | ({PACKED: ours} if packed else {})


def train(trainer_class, model, tokenizer, watch, dev_loss, **kwargs) -> Run:
    """Trains a copy of `model`; loading, features and the order of the rows are not in the time, which `watch`
    tells."""
    import torch
    import transformers

    class Clock(transformers.TrainerCallback):
        def on_train_begin(self, *args, **kwargs):
            self.start = watch()

        def on_train_end(self, *args, **kwargs):
            self.seconds = watch() - self.start

    clock, cuda = Clock(), torch.cuda.is_available()
    if cuda:
        gc.collect()  # the trainer before refers to itself, and so keeps its model on the card
        torch.cuda.reset_peak_memory_stats()
    before, model = torch.cuda.memory_allocated() if cuda else 0, copy.deepcopy(model)
    trainer = trainer_class(model=model, processing_class=tokenizer, callbacks=[clock], **kwargs)
    trainer.train()
    memory = torch.cuda.max_memory_allocated() - before if cuda else 0
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry][:4]
    lengths = [sum(mask) for mask in kwargs["train_dataset"]["attention_mask"]]
    return Run(lengths, clock.seconds, losses, dev_loss(model), memory)


def longer(examples, times: int):
    """Questions whose contexts are followed by those of the next `times` - 1 rows: the world's are short."""
    if times == 1:
        return examples
    contexts = examples["context"]
    wide = [" ".join(contexts[(i + k) % len(contexts)] for k in range(times)) for i in range(len(contexts))]
    return examples.remove_columns("context").add_column("context", wide)


def turns(names: list[str], seed: int) -> list[str]:
    """The sides in the order of a round: each round begins with another."""
    first = max(seed, 0) % len(names)
    return names[first:] + names[:first]


def fresh_models(task, name: str, seed: int, packed: bool) -> list:
    """A checkpoint with a fresh head; with `packed` then the same weights with --attn_implementation padding_free."""
    import torch
    import transformers

    from xstilts.checkpoint import heads

    models = []
    for attention in (None, "padding_free")[: 1 + packed]:
        transformers.set_seed(seed)
        models.append(heads.fresh_head(task, name, attention=attention))
        if torch.cuda.is_available():
            models[-1].cuda()  # copies are quicker there
    return models


def race(task, rows, model_name: str, args: argparse.Namespace, without: tuple[str, ...] = ()) -> dict[str, list[Run]]:
    """{rival: its runs}, in turn, an epoch of the first `args.rows` English rows each, after two steps (on a GPU: an
    epoch) of each to warm up; `args.contexts`: see `longer`."""
    import torch
    import transformers

    from xstilts.checkpoint.tokenizer import load_tokenizer
    from xstilts.cli.arguments import RunArguments
    from xstilts.run import inputs
    from xstilts.train import featurizing, trainers
    from xstilts.train.training_arguments import training_arguments

    tokenizer, watch = load_tokenizer(model_name), time.process_time if args.cpu_time else time.perf_counter
    length = args.max_seq_length or task.defaults["max_seq_length"]
    batch = args.batch_size or task.defaults["per_device_train_batch_size"]
    examples = longer(inputs.first(task.load("train", "en", rows), args.rows), getattr(args, "contexts", 1))
    dev = featurizing.featurize(
        task, inputs.first(task.load("dev", "en", rows), 200), tokenizer, length, True, f"{task.name} dev"
    )
    print(
        f"{task.name}: {len(examples)} rows in batches of {batch}, at most {length} tokens, "
        f"{'bf16' if args.bf16 else 'fp32'}, {args.runs} rounds"
    )
    settings = {
        "learning_rate": args.learning_rate,
        "warmup_steps": 0.1,
        "num_train_epochs": 1,
        "per_device_train_batch_size": batch,
        "save_strategy": "no",
        "disable_tqdm": True,
    }
    found: dict[str, list[Run]] = {}
    with tempfile.TemporaryDirectory() as folder:

        def dev_loss(model) -> float:
            # in the training's precision: a GPU has no attention without padding in fp32
            same = training_arguments(RunArguments(output_dir=folder), ["--bf16", str(args.bf16)], settings)
            trainer = trainers.TaskTrainer(
                model=model, args=same, data_collator=task.collator(tokenizer), processing_class=tokenizer
            )
            return trainer.evaluate(dev)["eval_loss"]

        for seed in range(-1, args.runs):  # -1: warming up
            frozen, packed = (getattr(args, name, False) for name in ("frozen", "padding_free"))
            builds = rivals(task, examples, tokenizer, length, args.bf16, frozen, packed)
            models = fresh_models(task, model_name, max(seed, 0), packed)
            for name in turns([name for name in builds if name not in without], seed):
                trainer_class, kwargs = builds[name](settings, folder, max(seed, 0))
                if torch.cuda.is_available():
                    kwargs["data_collator"].pad_to_multiple_of = WIDTHS
                kwargs["args"].logging_steps = max(1, len(kwargs["train_dataset"]) // batch // 4)
                # a GPU meets every shape once: its first steps also take memory, which later ones find there
                kwargs["args"].max_steps = 2 if seed < 0 and not torch.cuda.is_available() else -1
                transformers.set_seed(max(seed, 0))
                judge = dev_loss if seed >= 0 else lambda _: math.nan
                run = train(trainer_class, models[name == PACKED], tokenizer, watch, judge, **kwargs)
                if seed >= 0:
                    found.setdefault(name, []).append(run)
    return found


def show(found: dict[str, list[Run]]) -> None:
    """Rates, the median over rounds of our rate over the rival's, and losses beside their spread over seeds."""
    ours = found["ours"]
    for name, rounds in found.items():
        ratios = [mine.rate / run.rate for mine, run in zip(ours, rounds, strict=True)]
        quarters = [statistics.mean(values) for values in zip(*(run.losses for run in rounds), strict=True)]
        print(
            f"  {name:20s} {statistics.median(run.rate for run in rounds):9.0f} tokens/s, ours "
            f"{statistics.median(ratios):5.2f}x ({min(ratios):.2f} to {max(ratios):.2f}); loss "
            + " ".join(f"{q:.3f}" for q in quarters)
            + f", on dev {statistics.mean(run.dev_loss for run in rounds):.3f}"
        )
    if len(ours) > 1:
        for name, rounds in list(found.items())[1:]:
            gaps = [run.dev_loss - mine.dev_loss for mine, run in zip(ours, rounds, strict=True)]
            print(
                f"  dev loss of {name} minus ours: {statistics.mean(gaps):+.3f}, standard deviation over seeds "
                f"{statistics.stdev(gaps):.3f} of that difference, "
                f"{statistics.stdev(run.dev_loss for run in ours):.3f} of ours"
            )


def benchmark_tasks(args: argparse.Namespace) -> None:
    from tasks import get_task
    from tasks.rows import Rows
    from xstilts.checkpoint.precision import has_bf16

    quiet()
    if args.bf16 is None:
        args.bf16 = has_bf16()
    for name in args.tasks:
        show(
            race(
                get_task(name),
                Rows(args.data_root, args.splits),
                args.model,
                args,
                ("example, defaults",) if args.best else (),
            )
        )


def quiet() -> None:
    import datasets
    import transformers
    from transformers.trainer_callback import PrinterCallback

    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    PrinterCallback.on_log = lambda *args, **kwargs: None  # a line of ours says it


def texts_of(data_root: str) -> list[str]:
    """English sentences of a folder's rows, for a tokenizer."""
    from tasks import get_task
    from tasks.rows import Rows

    examples = get_task("xnli").load("train", "en", Rows(data_root))
    return [*examples["text_a"][:2000], *examples["text_b"][:2000]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    commands = parser.add_subparsers(required=True)
    common, training = argparse.ArgumentParser(add_help=False), argparse.ArgumentParser(add_help=False)
    common.add_argument("--data_root", required=True)
    common.add_argument("--runs", type=int, default=3)
    training.add_argument("--max_seq_length", type=int, help="default: the task's")
    training.add_argument("--learning_rate", type=float, default=5e-5)

    command = commands.add_parser("tasks", parents=[common, training])
    command.add_argument("--model", required=True)
    command.add_argument("--splits", nargs="*", default=[], help="as the scripts' argument, e.g. xnli.train=test")
    command.add_argument("--tasks", nargs="+", default=["xnli", "squad", "udpos"])
    command.add_argument("--rows", type=int, default=2000)
    command.add_argument("--batch_size", type=int, help="default: the task's")
    command.add_argument(
        "--bf16", action=argparse.BooleanOptionalAction, help="ours and best flags; default: where the machine has it"
    )
    command.add_argument(
        "--cpu_time", action="store_true", help="seconds of the processor, where other jobs run beside; not with a GPU"
    )
    command.add_argument(
        "--best", action="store_true", help="beside the best flags only: the defaults take many times as long"
    )
    command.add_argument("--padding_free", action="store_true", help="ours with that --attn_implementation as well")
    command.set_defaults(run=benchmark_tasks)

    command = commands.add_parser("resume", parents=[common])
    command.add_argument("--save_steps", type=int, default=1000)
    command.set_defaults(run=benchmark_resume)

    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
