"""What a matrix costs before any of it has run: tokens, floating-point operations, GPU-hours, wall time, memory,
storage, money.

    python benchmarks/scaling.py PRESET=xtreme SEEDS="0 1 2" --tokens_per_second 10000 30000 --gpus 1 8 64 \\
        --price_per_hour 2
    python benchmarks/scaling.py PRESET=question-base --model xlm-r-base --tokens_per_second 40000
    python benchmarks/scaling.py PRESET=world --model runs/world/model --count --tokens_per_second 9000 \\
        --start_seconds 8 --gpus 1 2

The runs are those `make -n matrix VARIABLE=value ...` prints (so what is done already does not count), with their
epochs, steps and batches. The rate is yours: real tokens a second of one GPU in training, as `benchmarks/gpu.sh`
measures it; it is taken as a rate of floating-point operations at 128 tokens a row, so that longer rows cost what
their attention costs. Nothing here is measured but the tokens a row: see ROWS. With --count rows and tokens are
counted in the folder of rows by the model's own tokenizer instead.
"""

from __future__ import annotations

import argparse
import heapq
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.shapes import SHAPES, Shape, shape_of  # noqa: E402
from benchmarks.task_rows import ROWS, Rows, adapter, count  # noqa: E402

LENGTH = 128  # tokens a row at which a rate is meant
LONGER = 1.2  # assumed: a row in other languages has so many times the tokens of its English original


@dataclass
class Run:
    """One run of a matrix.

    train, scored: (tokens, mean length); text: how many of the first are masked LM's; depth: the share of the layers
    that what is scored passes.
    """

    kind: str
    folder: str
    parent: str | None
    train: list[tuple[float, float]]
    scored: list[tuple[float, float]]
    depth: float = 1.0
    text: float = 0

    @property
    def tokens(self) -> float:
        """Trained on, each time they come."""
        return sum(tokens for tokens, _ in self.train)

    def flops(self, shape: Shape) -> float:
        trained = sum(tokens * shape.train_flops(length) for tokens, length in self.train)
        scored = sum(tokens * shape.forward_flops(length) for tokens, length in self.scored)
        return trained + self.text * shape.text_flops + self.depth * scored


def commands(variables: list[str]) -> list[list[str]]:
    """The command lines of the scripts that make would run, each from the script's name on."""
    done = subprocess.run(["make", "-n", "matrix", *variables], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr.strip())
    found = re.findall(r"run_(?:mlm|intermediate|target|retrieval)\.py .*", done.stdout.replace("\\\n", " "))
    return [shlex.split(line) for line in found]


def settings_of(words: list[str]) -> dict:
    """A command's arguments that matter here, by name; those of its recipes (--config) below those of the line."""
    from xstilts.cli.parsing import add_layer, read_yaml
    from xstilts.cli.words import yaml_words

    parser = argparse.ArgumentParser()
    for name in (
        "task",
        "arm",
        "layer",
        "model_name_or_path",
        "output_dir",
        "text_of",
        "data_root",
        "language_mode",
    ):
        parser.add_argument(f"--{name}")
    for name in (
        "max_steps",
        "max_train_samples",
        "max_seq_length",
        "per_device_train_batch_size",
        "gradient_accumulation_steps",
    ):
        parser.add_argument(f"--{name}", type=int)
    for name in ("num_train_epochs", "mlm_rate"):
        parser.add_argument(f"--{name}", type=float)
    for name in ("config", "tasks", "languages"):
        parser.add_argument(f"--{name}", nargs="+")
    layers: dict = {}
    for path in parser.parse_known_args(words[1:])[0].config or ():
        add_layer(layers, read_yaml(path, words[0]))
    recipe = yaml_words(layers, "", {}, True)
    return {
        name: value
        for name, value in vars(parser.parse_known_args([*recipe, *words[1:]])[0]).items()
        if value is not None
    }


def names_of(given: dict) -> list[str]:
    """The tasks a command trains on or, for retrieval, scores."""
    return given.get("tasks") or [given.get("task") or given.get("text_of") or "mlm"]


def run_of(words: list[str], rows: dict[str, Rows], shape: Shape) -> Run:
    """What one command trains on and scores.

    Raises:
        UserError: it says neither steps nor how many rows there are.
    """
    from tasks.errors import UserError

    given = settings_of(words)
    names, folder, parent = names_of(given), given["output_dir"], given.get("model_name_or_path")
    if missing := [name for name in names if name not in rows]:
        raise UserError(f"{missing[0]}: its tokens a row are not known; give --count.")
    if words[0] == "run_retrieval.py":
        (name,) = names
        scored = rows[name].scored
        if name == "tatoeba" and "languages" in given:
            scored *= len(given["languages"]) / 36
        layer = str(given.get("layer", "last"))
        depth = int(layer) / shape.layers if layer.isdecimal() else 1.0
        return Run(name, f"{folder}/{name}", parent, [], [(scored * rows[name].tokens, rows[name].length)], depth)

    tasks = {name: adapter(name) for name in names}
    given = (
        {"num_train_epochs": 3, "gradient_accumulation_steps": 1, "mlm_rate": 0, "max_steps": -1}
        | tasks[names[0]].defaults
        | given
    )
    sizes = {name: rows[name].train or task.train_rows for name, task in tasks.items()}
    if None in sizes.values() and given["max_steps"] < 0:
        raise UserError(f"{folder}: how many rows of text there are is not known; give --max_steps, or --count.")
    sizes = {name: min(size or 1, given.get("max_train_samples", size or 1)) for name, size in sizes.items()}
    if given["max_steps"] > 0:
        seen = given["max_steps"] * given["per_device_train_batch_size"] * given["gradient_accumulation_steps"]
    else:
        seen = sum(sizes.values()) * given["num_train_epochs"] / (1 - given["mlm_rate"])
    text = seen * given["mlm_rate"]
    times = {name: (seen - text) * size / sum(sizes.values()) for name, size in sizes.items()} | (
        {"mlm": text} if text else {}
    )
    english = given.get("language_mode", "english") == "english"
    longer = 1 if english else LONGER
    train = [(count * rows[name].tokens * longer, rows[name].length * longer) for name, count in times.items()]
    target = words[0] == "run_target.py"
    looks = given["num_train_epochs"] if target and tasks[names[0]].select == "best" else 1  # at English dev
    scored = [
        ((looks * rows[name].dev + target * LONGER * rows[name].scored) * rows[name].tokens, rows[name].length)
        for name in names
    ]
    kind = names[0] if target else "model" if given.get("arm") == "model" else f"phase 2: {given['arm']}"
    masked = sum(
        count * rows[name].tokens * longer
        for name, count in times.items()
        if name == "mlm" or words[0] == "run_mlm.py"
    )
    return Run(kind, folder, parent, train, scored, text=masked)


def makespan(runs: list[Run], seconds: list[float], gpus: int) -> float:
    """Seconds until all are done, a run on each GPU: whenever one is free it takes the longest run whose parent is
    done."""
    waiting: dict[str | None, list[tuple[float, str]]] = {}
    known = {run.folder for run in runs}
    for run, cost in zip(runs, seconds, strict=True):
        waiting.setdefault(run.parent if run.parent in known else None, []).append((-cost, run.folder))
    ready, running, now = waiting.pop(None, []), [], 0.0
    heapq.heapify(ready)
    while ready or running:
        while ready and len(running) < gpus:
            cost, folder = heapq.heappop(ready)
            heapq.heappush(running, (now - cost, folder))
        now, folder = heapq.heappop(running)
        for child in waiting.pop(folder, []):
            heapq.heappush(ready, child)
    return now


def count_all(lines: list[list[str]], model: str) -> dict[str, Rows]:
    """`ROWS` counted for the tasks of `lines`, in the folders of rows and with the lengths that these name."""
    import datasets

    from xstilts.checkpoint.tokenizer import load_tokenizer

    datasets.disable_progress_bars()
    tokenizer, found = load_tokenizer(model), {}
    for words in lines:
        given = settings_of(words)
        for name in names_of(given):
            if name not in found or words[0] == "run_target.py":
                length = int(given.get("max_seq_length", adapter(name).defaults.get("max_seq_length", 512)))
                found[name] = count(name, given["data_root"], tokenizer, length, words[0] == "run_target.py")
    return found


def hours(seconds: float) -> str:
    """A table's cell: hours, or seconds where an hour would be nothing."""
    return f"{seconds / 3600:,.1f} h" if seconds >= 360 else f"{seconds:.0f} s"


def table(head: list[str], lines: list[list[str]]) -> str:
    """Markdown, the first column to the left."""
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, rule, *lines))


def report(runs: list[Run], shape: Shape, args: argparse.Namespace) -> str:
    """The tables of docs/scaling.md."""
    costs = {
        rate: [run.flops(shape) / (rate * shape.train_flops(LENGTH)) + args.start_seconds for run in runs]
        for rate in args.tokens_per_second
    }
    kinds = list(dict.fromkeys(run.kind for run in runs))
    lines = []
    for kind in [*kinds, "all"]:
        chosen = [i for i, run in enumerate(runs) if kind in (run.kind, "all")]
        lines.append(
            [
                kind,
                str(len(chosen)),
                f"{sum(runs[i].tokens for i in chosen) / 1e6:,.1f}",
                f"{sum(runs[i].flops(shape) for i in chosen) / 1e15:,.1f}",
                *(hours(sum(seconds[i] for i in chosen)) for seconds in costs.values()),
            ]
        )
    rates = [f"at {rate:,} tokens/s" for rate in costs]
    text = [
        f"{shape.parameters / 1e6:,.1f} M parameters, {shape.train_flops(LENGTH) / 1e9:,.3f} GFLOP a token in "
        f"training at {LENGTH} tokens a row, {shape.train_flops(3 * LENGTH) / 1e9:,.3f} at {3 * LENGTH}; "
        f"{args.start_seconds:g} s a run for starting.",
        table(["runs", "how many", "M tokens trained on", "PFLOP", *(f"GPU time {rate}" for rate in rates)], lines),
    ]
    walls = [
        [f"{gpus} GPU" + "s" * (gpus > 1), *(hours(makespan(runs, seconds, gpus)) for seconds in costs.values())]
        for gpus in args.gpus
    ]
    if args.price_per_hour:
        prices = (f"{sum(seconds) / 3600 * args.price_per_hour:,.0f}" for seconds in costs.values())
        walls.append([f"cost at {args.price_per_hour:g} a GPU-hour", *prices])
    text.append(table(["wall time, a run on each GPU", *rates], walls))
    gib = [
        (batch, length, gpus, shape.memory(batch * length, gpus))
        for gpus in (1, 8)
        for batch, length in ((8, 256), (8, 384), (32, 256), (32, 384))
    ]
    text.append(
        table(
            ["memory of a GPU (GiB)", "weights, gradients, Adam", "activations", "together"],
            [
                [
                    f"{batch} x {length} tokens" + (f", weights cut among {gpus}" if gpus > 1 else ""),
                    *(f"{part / 2**30:.1f}" for part in (*parts, sum(parts))),
                ]
                for batch, length, gpus, parts in gib
            ],
        )
    )
    checkpoints = sum(bool(run.train) and run.kind.startswith(("phase", "model")) for run in runs)
    models = sum(bool(run.train) for run in runs) - checkpoints
    one = 4 * shape.parameters / 1e9
    text.append(
        f"Storage: {checkpoints} checkpoints that go on to a next phase, {checkpoints * one:,.1f} GB; {models} "
        f"fine-tuned models, {models * one:,.1f} GB, or none with --keep_checkpoint False; a run that trains keeps "
        f"{3 * one:,.1f} GB more to resume from."
    )
    return "\n\n".join(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument(
        "variables", nargs="*", metavar="VARIABLE=VALUE", help="of make matrix: PRESET, ARMS, TARGETS, SEEDS ..."
    )
    parser.add_argument(
        "--tokens_per_second", type=int, nargs="+", required=True, help="real ones, in training on one GPU"
    )
    parser.add_argument("--gpus", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--price_per_hour", type=float, help="of one GPU")
    parser.add_argument("--model", default="xlm-r-large", help=f"{', '.join(SHAPES)}, or a checkpoint folder")
    parser.add_argument(
        "--start_seconds", type=float, default=60, help="of each run: imports, loading, features (assumed: 60)"
    )
    parser.add_argument(
        "--count",
        action="store_true",
        help="count rows and tokens in the folder of rows, with the tokenizer of --model",
    )
    args = parser.parse_args()
    from tasks.errors import UserError

    try:
        lines, shape = commands(args.variables), shape_of(args.model)
        rows = count_all(lines, args.model) if args.count else ROWS
        print(report([run_of(words, rows, shape) for words in lines], shape, args))
    except UserError as error:
        sys.exit(f"scaling.py: error: {error}")


if __name__ == "__main__":
    main()
