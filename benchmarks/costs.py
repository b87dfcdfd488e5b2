"""How CPU time grows with cells, rows, languages, layers and processes; what a matrix costs: measured, kept, drawn.

    python benchmarks/costs.py [--curves cells rows languages layers processes]   # a minute of CPU time
    python benchmarks/costs.py --matrix                                           # what a matrix costs on a GPU
    python benchmarks/results.py pages                                            # the picture and tables of them

The first writes docs/results/costs.csv, of the curves named, and costs-origin.json. Sizes are small: what a curve says
is its shape, the power of x that time grows with. CPU time of all processes is counted, so that other jobs beside it
matter little. cells: the report of that many cells with two languages each. rows: an epoch of training, 2 layers x 64.
languages: sentences in that many languages embedded once, and the nearest neighbours of all pairs. layers: embedding
with the vectors of layer x of 12 x 128, nothing above it computed; or all layers up to x at once. processes: a
training step of the same rows shared by that many processes (see processes.py).

--matrix writes docs/results/matrix-costs.csv: GPU-hours and money of the paper's matrix with each of `MODELS`, by
scaling.py's arithmetic, at rates that are a share of a card's data sheet, or measured (`RATES`).
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import inspect
import io
import json
import math
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

FOLDER = ROOT / "docs/results"
HEAD = ("curve", "series", "x", "seconds")
Point = tuple[str, str, int, float]  # as HEAD


@dataclass(frozen=True)
class Sizes:
    """The x of each curve, and sentences a language."""

    cells: tuple[int, ...] = (50, 200, 800)
    rows: tuple[int, ...] = (128, 256, 512, 1024)
    languages: tuple[int, ...] = (4, 8, 16, 32)
    layers: tuple[int, ...] = (1, 2, 4, 8, 12)
    processes: tuple[int, ...] = (1, 2, 4)
    sentences: int = 40
    repeats: int = 3


def cpu_seconds(call: Callable[[], object], repeats: int) -> float:
    """Median CPU seconds of a call, after a first one that does not count."""
    found = []
    for _ in range(repeats + 1):
        start = time.process_time()
        call()
        found.append(time.process_time() - start)
    return statistics.median(found[1:])


# ---- the curves -----------------------------------------------------------------------------------------------------


def cells(sizes: Sizes) -> Iterator[Point]:
    import run_report
    from xstilts.run.record import Record, completed

    for x in sizes.cells:
        with tempfile.TemporaryDirectory() as folder:
            arms = ["none", "mnli", "squad", "hellaswag"]
            seeds = [str(seed) for seed in range(-(-x // len(arms)))]
            for number in range(x):
                arm, seed = arms[number % len(arms)], number // len(arms)
                path = Path(folder, arm, f"seed{seed}", "xnli", "results.json")
                scores = {code: {"accuracy": 40.0 + (7 * number) % 13} for code in ("en", "de")}
                record = {"phase": "target", "task": "xnli", "form": "sentence_pair", "arm": arm, "seed": seed}
                record |= {"model": "m", "parents": [], "metric": "accuracy", "chance": None, "at_chance": False}
                record |= {"dev": {}, "scores": scores, "n": dict.fromkeys(scores, 500), "settings": {}, "data": []}
                path.parent.mkdir(parents=True)
                Record.from_dict(completed(record | {"seconds": 1}, path), path).write(path)
            words = ["--runs_dir", folder, "--arms", *arms, "--tasks", "xnli", "--seeds", *seeds]
            yield "cells", "report", x, cpu_seconds(lambda words=words: run_report.main(words), 1)


def rows(sizes: Sizes) -> Iterator[Point]:
    import torch
    import transformers
    from datasets import Dataset

    from xstilts.cli.arguments import RunArguments
    from xstilts.train import trainers
    from xstilts.train.training_arguments import training_arguments

    config = transformers.XLMRobertaConfig(
        vocab_size=1000,
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=1,
        intermediate_size=256,
        num_labels=3,
    )
    for x in sizes.rows:
        ids = torch.randint(5, 1000, (x, 32), generator=torch.Generator().manual_seed(0)).tolist()
        data = Dataset.from_dict({"input_ids": ids, "attention_mask": [[1] * 32] * x, "labels": [0] * x})

        def train(data=data) -> None:
            model = transformers.XLMRobertaForSequenceClassification(config)
            model.accepts_loss_kwargs = False
            settings = {"bf16": False, "save_strategy": "no", "disable_tqdm": True, "num_train_epochs": 1}
            settings |= {"per_device_train_batch_size": 32, "train_sampling_strategy": "sequential"}
            with tempfile.TemporaryDirectory() as folder:
                args = training_arguments(RunArguments(output_dir=folder), [], settings)
                collator = transformers.default_data_collator
                trainers.TaskTrainer(model=model, args=args, train_dataset=data, data_collator=collator).train()

        yield "rows", "an epoch", x, cpu_seconds(train, sizes.repeats)


def languages(sizes: Sizes) -> Iterator[Point]:
    from benchmarks.made_up import invented_sentences, untrained_checkpoint
    from xstilts.retrieve.embedding import Encoder
    from xstilts.retrieve.neighbours import nearest
    from xstilts.retrieve.vectors import normalize

    with tempfile.TemporaryDirectory() as folder:
        texts = invented_sentences(max(sizes.languages) * sizes.sentences)
        encoder = Encoder.load(untrained_checkpoint(folder, texts[:500], 2, 128), device="cpu")
        top = encoder.layers[0]
        for x in sizes.languages:
            count = x * sizes.sentences
            found = {}

            def embed(count=count, found=found) -> None:
                found["vectors"] = encoder.embed(texts[:count])[top]

            yield "languages", "embedding", x, cpu_seconds(embed, sizes.repeats)
            parts = normalize(found["vectors"]).reshape(x, sizes.sentences, -1)

            def search(parts=parts) -> None:
                for number, one in enumerate(parts):
                    for other in (*parts[:number], *parts[number + 1 :]):
                        nearest(one, other)

            yield "languages", "nearest, all pairs", x, cpu_seconds(search, sizes.repeats)


def layers(sizes: Sizes) -> Iterator[Point]:
    from benchmarks.made_up import invented_sentences, untrained_checkpoint
    from xstilts.retrieve.embedding import Encoder

    texts = invented_sentences(4 * sizes.sentences)
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = untrained_checkpoint(folder, texts, max(sizes.layers), 128)
        for x in sizes.layers:
            encoder = Encoder.load(checkpoint, layers=x, device="cpu")
            yield "layers", "layer x alone", x, cpu_seconds(lambda e=encoder: e.embed(texts), sizes.repeats)
        whole = Encoder.load(checkpoint, layers="all", device="cpu")
        yield "layers", "all layers", max(sizes.layers), cpu_seconds(lambda: whole.embed(texts), sizes.repeats)


def processes(sizes: Sizes) -> Iterator[Point]:
    from benchmarks import processes as group

    work = group.Work(layers=4, hidden=256, rows=64, steps=3)
    for x in sizes.processes:
        yield "processes", "a step", x, group.measure(work, x)["cpu"]


CURVES: dict[str, Callable[[Sizes], Iterator[Point]]] = {
    "processes": processes,  # first: they are copies of this process, which has not started threads yet
    "cells": cells,
    "rows": rows,
    "languages": languages,
    "layers": layers,
}


# ---- what a matrix costs on a GPU -----------------------------------------------------------------------------------

# the command of docs/scaling.md
MATRIX = [
    "PRESET=xtreme",
    "SEEDS=0 1 2",
    "ARMS=none anli_plus mnli qqp squad squad_v2 hellaswag ccg cosmosqa csqa all",
    "ARGS_all=",
    "TARGETS=xnli pawsx udpos panx xquad mlqa tydiqa",
    "RETRIEVAL=tatoeba bucc",
]
MODELS = ("xlm-r-large", "mmbert-base")
CARD, CARD_FLOPS = "A100", 312e12  # bf16, NVIDIA's data sheet
SHARES = (0.06, 0.18, 0.44)  # assumed, as in docs/scaling.md
# real tokens a second, from benchmarks/README.md
RATES = {
    "xlm-r-large": {12802: "an H200, 32 rows of 37 tokens", 50205: "an H200, 32 rows of 185 tokens"},
    "mmbert-base": {13605: "an H200, an older script"},
}
PRICE = 2.0  # of a GPU-hour, an example
START = 60.0  # seconds of each run, as scaling.py has it


def matrix_costs(variables: list[str]) -> list[list[str]]:
    """Return lines of matrix-costs.csv: model, real tokens a second, where that is from, GPU-hours, cost."""
    from benchmarks import scaling

    commands, lines = scaling.commands(variables), []
    for model in MODELS:
        shape = scaling.SHAPES[model]
        runs = [scaling.run_of(words, scaling.ROWS, shape) for words in commands]
        training = shape.train_flops(scaling.LENGTH)
        rates = {round(share * CARD_FLOPS / training): f"{100 * share:.0f} % of an {CARD}" for share in SHARES}
        for rate, source in sorted((rates | RATES.get(model, {})).items()):
            hours = sum(run.flops(shape) / (rate * training) + START for run in runs) / 3600
            lines.append([model, str(rate), source, f"{hours:.1f}", f"{hours * PRICE:.0f}"])
    return lines


def matrix_table(folder: Path) -> str:
    """The Markdown table of matrix-costs.csv."""
    from benchmarks.scaling import table as markdown

    with open(folder / "matrix-costs.csv", encoding="utf-8", newline="") as text:
        head, *lines = csv.reader(text)
    lines = [[model, f"{int(rate):,}", source, hours, cost] for model, rate, source, hours, cost in lines]
    return f"<!-- printed by: benchmarks/costs.py -->\n{markdown(head, lines)}\n"


# ---- kept, and shown ------------------------------------------------------------------------------------------------


def keep(points: list[Point], folder: Path) -> None:
    """Write the points beside those of other curves that are kept already, and where they come from."""
    import torch

    from benchmarks.results import machine

    new = {curve for curve, *_ in points}
    file = folder / "costs.csv"
    old = [point for point in read(file) if point[0] not in new] if file.is_file() else []
    order = list(CURVES)[1:] + list(CURVES)[:1]
    folder.mkdir(parents=True, exist_ok=True)
    with open(file, "w", encoding="utf-8", newline="") as text:
        lines = csv.writer(text, lineterminator="\n")
        lines.writerow(HEAD)
        for curve, series, x, seconds in sorted(old + points, key=lambda point: order.index(point[0])):
            lines.writerow([curve, series, x, f"{seconds:.4g}"])
    origin = {"machine": machine(), "torch": torch.__version__, "measured": time.strftime("%Y-%m-%d")}
    (folder / "costs-origin.json").write_text(json.dumps(origin, indent=1) + "\n", encoding="utf-8")


def read(file: Path) -> list[Point]:
    with open(file, encoding="utf-8", newline="") as text:
        return [(p["curve"], p["series"], int(p["x"]), float(p["seconds"])) for p in csv.DictReader(text)]


def by_series(points: list[Point]) -> dict[tuple[str, str], tuple[list[int], list[float]]]:
    """{(curve, series): (x, seconds)}."""
    found: dict[tuple[str, str], tuple[list[int], list[float]]] = {}
    for curve, series, x, seconds in points:
        xs, ys = found.setdefault((curve, series), ([], []))
        xs.append(x)
        ys.append(seconds)
    return found


def power(xs: list[int], ys: list[float]) -> str:
    """The power of x that time grows with between the last two points; empty of a single point."""
    return f"{math.log(ys[-1] / ys[-2]) / math.log(xs[-1] / xs[-2]):.2f}" if len(xs) > 1 else ""


def table(folder: Path) -> str:
    """The Markdown table of the points, with the machine they were measured on."""
    from benchmarks.scaling import table as markdown

    origin = json.loads((folder / "costs-origin.json").read_text(encoding="utf-8"))
    lines = [
        [f"{curve}: {series}", ", ".join(map(str, xs)), ", ".join(f"{y:.3g}" for y in ys), power(xs, ys)]
        for (curve, series), (xs, ys) in by_series(read(folder / "costs.csv")).items()
    ]
    where = f"{origin['machine']}; a thread each, torch {origin['torch']}, {origin['measured']}."
    heads = ["curve", "x", "CPU seconds", "power of x at the end"]
    return f"<!-- printed by: benchmarks/costs.py -->\n{markdown(heads, lines)}\n\n{where}\n"


def picture(folder: Path, old: str) -> str:
    """Return the SVG; `old` is kept if it was made of this csv by this code, as in `results.picture`."""
    file = folder / "costs.csv"
    mark = hashlib.sha256(file.read_bytes() + inspect.getsource(draw).encode()).hexdigest()
    return old if f"<!-- {mark} -->" in old else draw(read(file)) + f"<!-- {mark} -->\n"


def draw(points: list[Point]) -> str:
    """Return the SVG: a panel for each curve, both axes logarithmic. On white, so that it reads on a dark page too."""
    import matplotlib
    from matplotlib.figure import Figure

    found = by_series(points)
    curves = list(dict.fromkeys(curve for curve, _ in found))
    figure = Figure(figsize=(2.5 * len(curves), 2.7), layout="constrained")
    for axes, curve in zip(figure.subplots(1, len(curves), squeeze=False)[0], curves, strict=True):
        for number, ((name, series), (xs, ys)) in enumerate(found.items()):
            if name == curve:
                axes.plot(xs, ys, "osD^v"[number % 5] + "-", color=f"C{number}", label=series, linewidth=1.6)
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        ticks = sorted({x for (name, _), (xs, _) in found.items() if name == curve for x in xs})
        axes.set_xticks(ticks, [str(tick) for tick in ticks], fontsize=7)
        seconds = [y for (name, _), (_, ys) in found.items() if name == curve for y in ys]
        low, high = math.floor(math.log10(min(seconds))), math.ceil(math.log10(max(seconds)))
        decades = [10.0**power for power in range(low, high + 1)]  # whole ones, so that no slope looks steeper
        axes.set_yticks(decades, [f"{decade:g}" for decade in decades], fontsize=7)
        axes.set_ylim(decades[0], decades[-1])
        axes.minorticks_off()
        axes.set_xlabel(curve, fontsize=9)
        axes.grid(color="#ddd", linewidth=0.6)
        axes.legend(fontsize=7, frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
    figure.supylabel("CPU seconds", fontsize=9)
    file = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "x-stilts", "svg.fonttype": "none"}):
        figure.savefig(file, format="svg", metadata={"Date": None}, facecolor="white")
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines()) + "\n"


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--curves", nargs="+", default=list(CURVES), choices=list(CURVES))
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder of costs.csv (default: docs/results)")
    parser.add_argument("--matrix", action="store_true", help="what a matrix costs; measures nothing")
    args = parser.parse_args(argv)
    if args.matrix:
        with open(args.out / "matrix-costs.csv", "w", encoding="utf-8", newline="") as text:
            head = ["model", "tokens/s", "rate from", "GPU-hours", f"cost at {PRICE:g} a GPU-hour"]
            csv.writer(text, lineterminator="\n").writerows([head, *matrix_costs(MATRIX)])
        return
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported
    for name, curve in CURVES.items():
        if name in args.curves:
            points = list(curve(Sizes()))
            keep(points, args.out)
            for point in points:
                print(*point)


if __name__ == "__main__":
    main()
