"""What --freeze_embeddings spares with a vocabulary of 250,000: time of a step, gradients, optimizer, peak memory.

    python benchmarks/frozen.py [--layers 2] [--hidden 768] [--heads xnli mlm] [--steps 3]

A model of XLM-R Base's width with random weights is loaded, trained for a few steps by our Trainer and saved as a
checkpoint, with all weights and with frozen embeddings, each in a process of its own. Printed are CPU seconds of a
step, bytes of gradients and of the optimizer's state, and what resident memory peaks at in each stage (saving: beyond
what is held before). Few layers show best what the embeddings cost: the layers cost the same both ways.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from made_up import invented_sentences, untrained_checkpoint  # noqa: E402  (it lies beside this file)
from scaling import table  # noqa: E402

VOCABULARY = 250_002
WAYS = ("all weights", "frozen")
SETTINGS = {
    "per_device_train_batch_size": 8,
    "save_strategy": "no",
    "disable_tqdm": True,
    "train_sampling_strategy": "sequential",
}


class Peak:
    """The peak of resident memory since the last `restart`, in bytes (Linux)."""

    @staticmethod
    def restart() -> None:
        Path("/proc/self/clear_refs").write_text("5")

    @staticmethod
    def read() -> int:
        status = Path("/proc/self/status").read_text()
        return 1024 * int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))


def random_features(rows: int, tokens: int, vocabulary: int, labelled: bool) -> dict[str, list]:
    """Features of random tokens, all of one length; `labelled`: each with label 0."""
    import torch

    draw = torch.Generator().manual_seed(0)
    ids = torch.randint(5, vocabulary, (rows, tokens), generator=draw).tolist()
    features = {"input_ids": ids, "attention_mask": [[1] * tokens] * rows, "length": [tokens] * rows}
    return features | ({"labels": [0] * rows} if labelled else {})


def measure(checkpoint: str, head: str, frozen: bool, steps: int, tokens: int) -> dict[str, float]:
    """Load, train and save one model in this process."""
    import torch
    import transformers
    from datasets import Dataset

    from tasks import get_task
    from xstilts.checkpoint import heads
    from xstilts.checkpoint.tokenizer import load_tokenizer
    from xstilts.cli.arguments import RunArguments
    from xstilts.train import trainers
    from xstilts.train.training_arguments import training_arguments

    transformers.utils.logging.disable_progress_bar()
    tokenizer = load_tokenizer(checkpoint, mask=True)
    start = Peak.read()
    Peak.restart()
    task = None if head == "mlm" else get_task(head)
    model = heads.fresh_head(task, checkpoint) if task else heads.masked_lm(checkpoint)
    model.accepts_loss_kwargs = False
    if frozen:
        heads.freeze_embeddings(model)
    loaded = Peak.read()
    weights = sum(p.nbytes for p in model.parameters())
    features = random_features(8 * steps, tokens, model.config.vocab_size, labelled=task is not None)
    seconds: list[float] = []
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        args = training_arguments(RunArguments(output_dir=folder), [], SETTINGS | {"max_steps": steps})
        trainer = trainers.TaskTrainer(
            model=model,
            args=args,
            train_dataset=Dataset.from_dict(features),
            data_collator=task.collator(tokenizer) if task else trainers.Masking(tokenizer, 0.15, 0),
            processing_class=tokenizer,
            callbacks=[watch(model, seconds, found)],
        )
        Peak.restart()
        trainer.train()
        trained = Peak.read()
        state = trainer.optimizer.state.values()
        found["optimizer"] = sum(v.nbytes for of in state for v in of.values() if torch.is_tensor(v))
        trainer.optimizer = trainer.lr_scheduler = None
        model.zero_grad(set_to_none=True)
        del state
        Peak.restart()
        before = Peak.read()
        trainer.save_model(f"{folder}/saved")
        saved = Peak.read() - before
    return found | {
        "weights": weights,
        "load_peak": loaded - start,
        "steps_peak": trained - start,
        "save_peak": saved,
        "seconds": min(seconds[1:] or seconds),
    }


def watch(model: Any, seconds: list[float], found: dict[str, float]) -> Any:
    """A callback that adds the CPU seconds of each step to `seconds`, and puts the bytes of gradients into `found`."""
    import transformers

    class Watch(transformers.TrainerCallback):
        def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
            self.start = time.process_time()

        def on_pre_optimizer_step(self, *args: Any, **kwargs: Any) -> None:
            found["gradients"] = sum(p.grad.nbytes for p in model.parameters() if p.grad is not None)

        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            seconds.append(time.process_time() - self.start)

    return Watch()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--hidden", type=int, default=768)
    parser.add_argument("--heads", nargs="+", default=["xnli", "mlm"], help="a task, or mlm")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=64, help="of a row; a batch has 8 rows")
    parser.add_argument("--vocabulary", type=int, default=VOCABULARY)
    parser.add_argument("--model", help=argparse.SUPPRESS)
    parser.add_argument("--frozen", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.model:
        print(json.dumps(measure(args.model, *args.heads, args.frozen, args.steps, args.tokens)))
        return
    with tempfile.TemporaryDirectory() as folder:
        model = untrained_checkpoint(folder, invented_sentences(500), args.layers, args.hidden, args.vocabulary)
        lines = []
        for head in args.heads:
            found = {}
            for way in WAYS:
                command = [sys.executable, __file__, "--model", model, "--heads", head, "--steps", str(args.steps)]
                command += ["--tokens", str(args.tokens), *(["--frozen"] if way == "frozen" else [])]
                done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
                found[way] = json.loads(done.stdout.splitlines()[-1])
            for name in found["frozen"]:
                whole, frozen = (found[way][name] for way in WAYS)
                shown = [f"{v:.2f} s" if name == "seconds" else f"{v / 2**20:,.0f} MiB" for v in (whole, frozen)]
                ratio = f"{frozen / whole:.2f}" if whole else ""
                lines.append([f"{head}: {name.replace('_', ' ')}", *shown, ratio])
    print(f"{args.layers} layers x {args.hidden}, vocabulary {args.vocabulary:,}, 8 x {args.tokens} tokens")
    print(table(["", *WAYS, "ratio"], lines))


if __name__ == "__main__":
    main()
