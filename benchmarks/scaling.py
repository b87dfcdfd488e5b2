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
import json
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

LENGTH = 128  # tokens a row at which a rate is meant
LONGER = 1.2  # assumed: a row in other languages has so many times the tokens of its English original


@dataclass(frozen=True)
class Shape:
    """An encoder of XLM-R's architecture (Conneau et al. 2020; feed-forward layers of 4 times the width)."""

    layers: int
    hidden: int
    vocabulary: int = 250002
    feed_forward: int = 0
    positions: int = 514

    @property
    def wide(self) -> int:
        return self.feed_forward or 4 * self.hidden

    @property
    def parameters(self) -> int:
        """Weights of the encoder without pooler and head: embeddings (words, positions, one type, norm), then the
        layers."""
        h, wide = self.hidden, self.wide
        layer = 4 * (h * h + h) + (h * wide + wide) + (wide * h + h) + 2 * 2 * h
        return (self.vocabulary + self.positions + 1 + 2) * h + self.layers * layer

    def forward_flops(self, length: float) -> float:
        """Floating-point operations for a token in a row of `length`: two for each weight of the layers' matrices, and
        attention.

        Four matrices of h x h, two of h x wide; scores and weighted sum 2 * length * h each. Heads, norms and softmax
        are left out (under 1 % but for masked LM's head, see `text_flops`). For wide = 4 h it is the forward third of
        Narayanan et al. 2021 (arXiv 2104.04473, equation 3, without recomputation and vocabulary).
        """
        h = self.hidden
        return self.layers * (2 * (4 * h * h + 2 * h * self.wide) + 4 * length * h)

    def train_flops(self, length: float) -> float:
        """Forward, and twice that backward."""
        return 3 * self.forward_flops(length)

    @property
    def text_flops(self) -> float:
        """What masked LM's head adds for a token in training: a matrix of h x h and the vocabulary's, at every
        position."""
        return 3 * 2 * (self.hidden + self.vocabulary) * self.hidden

    def memory(self, tokens: int, gpus: int = 1) -> tuple[float, float]:
        """Bytes on a GPU in bf16 autocast: (weights, gradients and AdamW's two moments in fp32, activations of
        `tokens` in a batch).

        gpus: among how many the first is cut (FSDP, ZeRO-3). Activations: ACTIVATION bytes for a token, layer and unit
        of width.
        """
        return 16 * self.parameters / gpus, ACTIVATION * tokens * self.layers * self.hidden


# Kept for the backward pass under bf16 autocast, where attention keeps no scores: counted by torch's saved-tensor
# hooks (tests/test_scaling.py). All in 16 bits it would be 34 (Korthikanti et al. 2022, arXiv 2205.05198).
ACTIVATION = 44

# mmBERT's gated feed-forward has three matrices of 768 x 1,152: as many operations as two of 768 x 1,728
SHAPES = {"xlm-r-base": Shape(12, 768), "xlm-r-large": Shape(24, 1024), "mmbert-base": Shape(22, 768, 256000, 1728)}


@dataclass(frozen=True)
class Rows:
    """What a task's rows hold, in real tokens (all windows and choices of a row) and rows.

    length: of the row that a token stands in, on average over tokens; train: rows (None: as many as the adapter knows
    of); scored: test rows of all languages; dev: English dev rows.
    """

    tokens: float
    length: float
    train: int | None = None
    scored: int = 0
    dev: int = 0


# Tokens and lengths: counted on 1,200 to 2,000 real English rows each, cut at 256 tokens (questions 384), with BERT's
# English vocabulary; XLM-R's is assumed to cut English as finely. MNLI and CCG, not at hand: as XNLI's and a little
# over UDPOS's. Masked LM: every text assumed to fill its 256 tokens. Scored: XTREME's test rows; those of UDPOS and
# PAN-X to one figure. Retrieval: the sentences of both sides; BUCC's eight test pools are assumed to hold 350,000
# each.
ROWS = {
    "mnli": Rows(37, 41, dev=9815),
    "snli": Rows(26, 28, dev=10000),
    "anli": Rows(90, 92, dev=3200),
    "anli_plus": Rows(39, 50, dev=23015),
    "qqp": Rows(31, 38, dev=40430),
    "squad": Rows(188, 213, dev=10570),
    "squad_v2": Rows(188, 213, dev=11873),
    "hellaswag": Rows(167, 52, dev=10042),
    "cosmosqa": Rows(409, 112, dev=2985),
    "csqa": Rows(99, 23, dev=1221),
    "siqa": Rows(91, 33, dev=1954),
    "ccg": Rows(25, 35, dev=1913),
    "mlm": Rows(256, 256),
    "xnli": Rows(37, 41, scored=75150, dev=2490),
    "pawsx": Rows(52, 56, scored=14000, dev=2000),
    "udpos": Rows(21, 32, scored=100000, dev=3974),
    "panx": Rows(13, 22, scored=300000, dev=10000),
    "xquad": Rows(188, 213, scored=13090, dev=10570),
    "mlqa": Rows(188, 213, scored=42245, dev=10570),
    "tydiqa": Rows(149, 182, scored=5077, dev=440),
    "squad_dual": Rows(54, 40, train=87599, dev=10570),
    "tatoeba": Rows(10, 12, scored=2 * 31692),
    "bucc": Rows(23, 28, scored=8 * 350000),
}


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


def adapter(name: str):
    """The task, the pairs of a dual encoder, or text (`mlm`) of that name."""
    from tasks import get_task
    from tasks.pairs import PAIRS, get_pairs
    from tasks.text import Wikipedia

    return Wikipedia() if name == "mlm" else get_pairs(name) if name in PAIRS else get_task(name)


def names_of(given: dict) -> list[str]:
    """The tasks a command trains on or, for retrieval, scores."""
    return given.get("tasks") or [given.get("task") or given.get("text_of") or "mlm"]


def run_of(words: list[str], rows: dict[str, Rows], shape: Shape) -> Run:
    """What one command trains on and scores.

    Raises:
        UserError: it says neither steps nor how many rows there are.
    """
    from xstilts.errors import UserError

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


def count(name: str, root: str, tokenizer, length: int, target: bool) -> Rows:
    """What `ROWS` says of a task, from a folder of rows: the files' sizes, and tokens of the first 1,000 rows of
    each."""
    from tasks.rows import Rows as Folder
    from xstilts.run import inputs
    from xstilts.train import featurizing

    task, folder, lengths, some = adapter(name), Folder(root), [], 1000
    searched = task.search_options and not task.ranks
    languages = task.languages(folder) if target or searched or task.masks else []
    scored = train = dev = 0
    if searched:
        for language in languages:
            for split in ("dev", "test") if task.mines else ("test",):
                data = task.load(split, language, folder)
                texts = [text for side in task.sides(data) for text in side]
                scored += len(texts)
                lengths += map(len, tokenizer(texts[:some], truncation=True, max_length=length)["input_ids"])
        return Rows(sum(lengths) / len(lengths), _length(lengths), scored=scored)
    trained = 0  # rows whose tokens are in `lengths`
    for language in languages if task.masks else ["en"]:
        data = task.load("train", language, folder)
        train, trained = train + len(data), trained + min(some, len(data))
        data = inputs.first(data, some)
        if not task.auto_class:
            texts = [text for side in task.sides(data) for text in side]
            lengths += map(len, tokenizer(texts, truncation=True, max_length=length)["input_ids"])
        else:
            for ids in featurizing.featurize(task, data, tokenizer, length, True, name)["input_ids"]:
                lengths += map(len, ids) if isinstance(ids[0], list) else [len(ids)]
    if not task.masks:
        dev = len(task.load("dev", "en", folder))
        scored = sum(len(task.load("test", language, folder)) for language in languages)
    return Rows(sum(lengths) / trained, _length(lengths), train, scored, dev)


def _length(lengths: list[int]) -> float:
    return sum(n * n for n in lengths) / sum(lengths)


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


def shape_of(model: str) -> Shape:
    """One of `SHAPES`, or that of a checkpoint's folder."""
    if model in SHAPES:
        return SHAPES[model]
    config = json.loads(Path(model, "config.json").read_text(encoding="utf-8"))
    return Shape(config["num_hidden_layers"], config["hidden_size"], config["vocab_size"], config["intermediate_size"])


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
    from xstilts.errors import UserError

    try:
        lines, shape = commands(args.variables), shape_of(args.model)
        rows = count_all(lines, args.model) if args.count else ROWS
        print(report([run_of(words, rows, shape) for words in lines], shape, args))
    except UserError as error:
        sys.exit(f"scaling.py: error: {error}")


if __name__ == "__main__":
    main()
