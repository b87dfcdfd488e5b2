"""Training as one, two and four processes that share the rows of a step: speed, and what it costs in CPU time.

    python benchmarks/processes.py [--processes 1 2 4] [--batch_size 128] [--layers 4] [--hidden 768] [--steps 8] \\
        [--runs 3]

Each number of processes trains the same model on the same rows, a thread (or, where there are GPUs, a GPU) each; they
form a group as under torchrun and accelerate launch. Counted are the steps after the first. Speed wants as many idle
cores as processes; CPU time of all processes together says on a busy machine too what the group costs beside the work.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import socket
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.scaling import table  # noqa: E402


@dataclass(frozen=True)
class Work:
    """What is trained: sizes of the model, rows of a step, tokens of a row, steps counted."""

    layers: int = 4
    hidden: int = 768
    rows: int = 128
    tokens: int = 48
    steps: int = 8


def rank(work: Work, world: int, folder: str) -> None:
    """Train as one of the processes, and write {"wall", "cpu", "loss"} of the steps after the first."""
    import torch
    import transformers
    from datasets import Dataset

    from xstilts.cli.arguments import RunArguments
    from xstilts.train import trainers
    from xstilts.train.training_arguments import training_arguments

    torch.set_num_threads(1)
    transformers.utils.logging.set_verbosity_error()
    torch.manual_seed(0)
    config = transformers.XLMRobertaConfig(
        vocab_size=1000,
        hidden_size=work.hidden,
        num_hidden_layers=work.layers,
        num_attention_heads=max(1, work.hidden // 64),
        intermediate_size=4 * work.hidden,
        num_labels=3,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    model = transformers.XLMRobertaForSequenceClassification(config)
    model.accepts_loss_kwargs = False
    count = work.rows * (work.steps + 1)
    ids = torch.randint(5, 1000, (count, work.tokens)).tolist()
    rows = {"input_ids": ids, "attention_mask": [[1] * work.tokens] * count, "labels": [row[0] % 3 for row in ids]}
    found: dict[str, float] = {}

    class Clock(transformers.TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == 1:
                found.update(wall=time.perf_counter(), cpu=time.process_time())

        def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            found.update(wall=time.perf_counter() - found["wall"], cpu=time.process_time() - found["cpu"])

    settings = {
        "per_device_train_batch_size": work.rows // world,
        "max_steps": work.steps + 1,
        "bf16": False,
        "save_strategy": "no",
        "disable_tqdm": True,
        "logging_steps": 1,
        "train_sampling_strategy": "sequential",
    }
    trainer = trainers.TaskTrainer(
        model=model,
        args=training_arguments(RunArguments(output_dir=folder), [], settings),
        train_dataset=Dataset.from_dict(rows),
        data_collator=transformers.default_data_collator,
        callbacks=[Clock()],
    )
    trainer.train()
    found["loss"] = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry][-1]
    Path(folder, f"rank{os.environ.get('RANK', '0')}.json").write_text(json.dumps(found), encoding="utf-8")


def start(work: Work, world: int, number: int, port: int, folder: str) -> None:
    """Become rank `number` of a group, and train. torchrun sets the same variables."""
    if world > 1:
        where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        ranks = {"RANK": number, "LOCAL_RANK": number, "WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world}
        os.environ |= {name: str(value) for name, value in (where | ranks).items()}
    rank(work, world, folder)
    os._exit(0)  # the group would wait for threads of gloo


def measure(work: Work, world: int) -> dict[str, float]:
    """Return {"wall": seconds a step, "cpu": CPU seconds a step of all processes together, "loss": the last one}.

    Raises:
        RuntimeError: a process failed; its message stands above.
    """
    with socket.socket() as free, tempfile.TemporaryDirectory() as folder:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        fork = multiprocessing.get_context("fork")  # so that libraries are imported once
        jobs = [fork.Process(target=start, args=(work, world, number, port, folder)) for number in range(world)]
        for job in jobs:
            job.start()
        for job in jobs:
            job.join()
        if any(job.exitcode for job in jobs):
            raise RuntimeError(f"{world} processes ended with {[job.exitcode for job in jobs]}")
        found = [json.loads(file.read_text(encoding="utf-8")) for file in Path(folder).glob("rank*.json")]
    return {
        "wall": max(of["wall"] for of in found) / work.steps,
        "cpu": sum(of["cpu"] for of in found) / work.steps,
        "loss": found[0]["loss"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--hidden", type=int, default=768)
    parser.add_argument("--batch_size", type=int, default=128, help="rows of a step, of all processes together")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--runs", type=int, default=3)
    args = parser.parse_args()
    if wrong := [n for n in args.processes if n < 1 or args.batch_size % n]:
        parser.error(f"--processes {wrong[0]} does not divide --batch_size {args.batch_size}.")
    os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported
    import transformers  # noqa: F401  (before the processes start, so once)

    work = Work(args.layers, args.hidden, args.batch_size, steps=args.steps)
    found: dict[int, list[dict[str, float]]] = {world: [] for world in args.processes}
    for _ in range(args.runs):
        for world in found:
            found[world].append(measure(work, world))
    first = found[args.processes[0]]
    lines = []
    for world, runs in found.items():
        speed = statistics.median(one["wall"] / of["wall"] for one, of in zip(first, runs, strict=True))
        cost = statistics.median(of["cpu"] / one["cpu"] for one, of in zip(first, runs, strict=True))
        numbers = [statistics.median(of[name] for of in runs) for name in ("wall", "cpu", "loss")]
        lines.append([str(world), *(f"{n:.4g}" for n in numbers), f"{speed:.2f}x", f"{cost:.2f}x"])
    print(f"{work.layers} layers x {work.hidden}, {work.rows} rows x {work.tokens} tokens a step, {args.runs} runs")
    heads = ["processes", "seconds a step", "CPU seconds a step, all", "last loss", "speed", "CPU time"]
    print(table(heads, lines))


if __name__ == "__main__":
    main()
