"""The parts of benchmarks/gpu.py: what each measures on the card, as numbers by name."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
import warnings
from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from made_up import invented_sentences, unit_vectors, untrained_checkpoint  # noqa: E402  (they lie beside this file)
from shapes import SHAPES, Shape  # noqa: E402
from training import race, texts_of  # noqa: E402

Result = dict[str, Any]


@dataclass(frozen=True)
class Sizes:
    """How large everything is.

    product: rows of the square product; rows, batch, runs: of a training; contexts: joined to one, which makes SQuAD's
    rows as long as real ones; sentences: embedded; pool, width: sentences a side and their vectors' width in mining;
    world: options of the world; steps: of masked LM in the matrix, and matrix: its other variables.
    """

    product: int = 8192
    rows: int = 1000
    batch: int = 32
    runs: int = 2
    contexts: int = 4
    sentences: int = 4000
    pool: int = 30_000
    width: int = 1024
    world: str = "--size 0.4"  # 2,400 rows of MNLI
    steps: int = 600
    matrix: tuple[str, ...] = ("ARMS=none mnli", "TARGETS=xnli udpos", "RETRIEVAL=tatoeba", "DEFAULT_JOBS=2")


TINY = Sizes(
    product=128,
    rows=16,
    batch=8,
    runs=1,
    sentences=24,
    pool=600,
    width=64,
    world="--size 0.02 --languages 2",
    steps=4,
    matrix=("ARMS=none", "TARGETS=xnli", "RETRIEVAL=", "DEFAULT_JOBS=1"),
)
TINY_SHAPE = Shape(2, 64, 5000, feed_forward=96)


@dataclass(frozen=True)
class Place:
    """Where a part runs: its folder of models and rows, and on what."""

    folder: Path
    data_root: str
    tiny: bool

    @property
    def sizes(self) -> Sizes:
        return TINY if self.tiny else Sizes()

    @property
    def device(self) -> str:
        return "cpu" if self.tiny else "cuda"

    def shape(self, name: str) -> Shape:
        return TINY_SHAPE if self.tiny else SHAPES[name]

    def model(self, name: str) -> str:
        """A checkpoint of random weights in that shape; made once."""
        folder = self.folder / "models" / name
        if not (folder / "model.safetensors").is_file():
            shape, kind = self.shape(name), "modernbert" if name.startswith("mmbert") else "xlm-roberta"
            texts = texts_of(self.data_root)
            untrained_checkpoint(str(folder), texts, shape.layers, shape.hidden, shape.vocabulary, kind)
        return str(folder)

    def keep(self, name: str, result: Result) -> Result:
        """Write what a part has so far, which stays if its time runs out."""
        (self.folder / f"{name}.json").write_text(json.dumps(result), encoding="utf-8")
        return result

    def wait(self) -> None:
        """Wait until the card has done what it was given."""
        if not self.tiny:
            import torch

            torch.cuda.synchronize()

    def seconds(self, call: Callable[[], object], repeats: int = 1) -> float:
        """Seconds of one call, after a first one that does not count."""
        call()
        self.wait()
        start = time.perf_counter()
        for _ in range(repeats):
            call()
        self.wait()
        return (time.perf_counter() - start) / repeats


# ---- the parts ------------------------------------------------------------------------------------------------------


def product_rate(place: Place, dtype: str = "bfloat16") -> float:
    """Floating-point operations a second in a square product: the best that a model made of products could have."""
    import torch

    size = place.sizes.product
    a, b = (torch.randn(size, size, device=place.device, dtype=getattr(torch, dtype)) for _ in range(2))
    return 2 * size**3 / place.seconds(lambda: a @ b, 30)


def card(place: Place) -> Result:
    """Name, memory and measured rates of the card."""
    import torch
    import transformers

    block = torch.ones(place.sizes.product**2, device=place.device)
    result = {
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "bf16_tflops": product_rate(place) / 1e12,
        "fp32_tflops": product_rate(place, "float32") / 1e12,
        "copies_gb_per_second": 2 * block.nbytes / place.seconds(lambda: block.clone(), 20) / 1e9,
    }
    if place.tiny:
        return {"name": "CPU, tiny sizes"} | result
    found = torch.cuda.get_device_properties(0)
    return {"name": found.name, "memory_gib": found.total_memory / 2**30, "cuda": torch.version.cuda} | result


def train(place: Place, part: str, tasks: tuple[str, ...]) -> Result:
    """Training in one shape: rates, shares of the card's own rate, memory, stops."""
    from tasks import get_task
    from tasks.rows import Rows

    name = part.partition("-")[2]
    sizes, shape, peak = place.sizes, place.shape(name), product_rate(place)
    given = Namespace(
        cpu_time=False,
        max_seq_length=None,
        batch_size=sizes.batch,
        rows=sizes.rows,
        runs=sizes.runs,
        learning_rate=5e-5,
        bf16=not place.tiny,
        frozen=True,
        padding_free=name.startswith("mmbert"),  # on a GPU it has no dropout of attention weights, which XLM-R has
    )
    result: Result = {"shape": name, "parameters": shape.parameters}
    for task in tasks:
        given.contexts = sizes.contexts if task == "squad" else 1
        found = race(get_task(task), Rows(place.data_root), place.model(name), given, without=("example, defaults",))
        ratios = [
            mine.rate / theirs.rate for mine, theirs in zip(found["ours"], found["example, best flags"], strict=True)
        ]
        result[task] = {
            "ratios": ratios,
            "rivals": {rival: summary(rounds, shape, peak) for rival, rounds in found.items()},
        }
        place.keep(part, result)
    return result | {"stops_in_8_steps": None if place.tiny else stops_of(place, name)}


def summary(rounds: list, shape: Shape, peak: float) -> Result:
    """Medians and means over the rounds of a training; see `training.Run`."""
    rates = [run.rate for run in rounds]
    rate = statistics.median(rates)
    return {
        "tokens_per_second": rate,
        "of_each_round": rates,
        "share_of_product": rate * shape.train_flops(rounds[0].mean_length) / peak,
        "gib": max(run.memory for run in rounds) / 2**30,
        "dev_loss": statistics.mean(run.dev_loss for run in rounds),
    }


def stops_of(place: Place, name: str) -> list[str]:
    """Where the program waited for the GPU in eight steps of training after the first two, as torch reports it."""
    import torch
    from transformers import TrainerCallback

    from tasks import get_task
    from tasks.rows import Rows
    from xstilts.checkpoint import heads
    from xstilts.checkpoint.tokenizer import load_tokenizer
    from xstilts.cli.arguments import RunArguments
    from xstilts.run import inputs
    from xstilts.train import featurizing, trainers
    from xstilts.train.training_arguments import training_arguments

    class Watch(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            torch.cuda.set_sync_debug_mode("warn" if state.global_step in range(2, 10) else "default")

    task, tokenizer = get_task("mnli"), load_tokenizer(place.model(name))
    settings = {"max_steps": 12, "per_device_train_batch_size": 8, "logging_steps": 100, "save_strategy": "no"}
    args = training_arguments(RunArguments(output_dir=str(place.folder / "stops")), [], settings)
    examples = inputs.first(task.load("train", "en", Rows(place.data_root)), 96)
    trainer = trainers.TaskTrainer(
        model=heads.fresh_head(task, place.model(name)),
        args=args,
        train_dataset=featurizing.featurize(task, examples, tokenizer, 128, True, task.name),
        data_collator=task.collator(tokenizer),
        processing_class=tokenizer,
        callbacks=[Watch()],
    )
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        trainer.train()
    stops = [w for w in found if "called a synchronizing CUDA operation" in str(w.message)]
    return sorted(f"{Path(w.filename).name}:{w.lineno}" for w in stops)


def embed(place: Place) -> Result:
    """Our encoder beside sentence-transformers on the same weights and sentences."""
    import numpy as np
    import torch
    from sentence_transformers import SentenceTransformer

    from xstilts.retrieve.embedding import Encoder
    from xstilts.retrieve.export import export_sentence_transformers

    checkpoint, exported = place.model("xlm-r-large"), str(place.folder / "models" / "exported")
    sentences = invented_sentences(place.sizes.sentences)
    export_sentence_transformers(checkpoint, "last", "mean", exported)
    result: Result = {"sentences": len(sentences)}
    for dtype, kind in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        ours = Encoder.load(checkpoint, dtype=dtype, device=place.device)
        theirs = SentenceTransformer(exported, device=place.device, model_kwargs={"dtype": kind})
        vectors: dict[str, np.ndarray] = {}

        def our_way(ours=ours, vectors=vectors) -> None:
            vectors["ours"] = ours.embed(sentences)[ours.layers[0]]

        def their_way(theirs=theirs, vectors=vectors) -> None:
            vectors["theirs"] = theirs.encode(sentences, batch_size=64, show_progress_bar=False)

        rates = [len(sentences) / place.seconds(call) for call in (our_way, their_way)]
        result[dtype] = {
            "sentences_per_second": rates[0],
            "sentence_transformers": rates[1],
            "ratio": rates[0] / rates[1],
            "largest_difference": float(np.abs(vectors["ours"] - vectors["theirs"].astype(np.float32)).max()),
        }
    return result


def mine(place: Place) -> Result:
    """Mining on the card and on the CPU; the neighbours of some rows beside those of a product in float64."""
    import numpy as np

    from xstilts.retrieve import mining
    from xstilts.retrieve.neighbours import Knn
    from xstilts.retrieve.product import fastest_engine, walk

    target = unit_vectors(place.sizes.pool, place.sizes.width, seed=1)
    source = unit_vectors(place.sizes.pool, place.sizes.width, seed=2, near=target)
    found: dict[str, Any] = {}

    def on(device: str) -> Callable[[], None]:
        def search() -> None:
            forward, backward = walk(source, target, 4, fastest_engine(device), both=True, device=device)
            found[device] = Knn(*forward, *backward)

        return search

    on(place.device)()
    result = {"pool": len(source), "width": source.shape[1], "seconds": place.seconds(on(place.device))}
    start = time.perf_counter()
    on("cpu")()
    result["seconds_cpu"] = time.perf_counter() - start
    pairs = [set(zip(*(side.tolist() for side in mining.pair(near)[:2]), strict=True)) for near in found.values()]
    some = slice(0, 500)
    exact = -np.sort(-(source[some].astype(np.float64) @ target.T.astype(np.float64)), axis=1)[:, :4]
    scores = found[place.device].forward_scores[some]
    return result | {
        "pairs": len(pairs[0]),
        "pairs_that_differ_from_cpu": len(pairs[0] ^ pairs[-1]),
        "largest_error_of_500_rows": float(np.abs(scores - exact).max()),
    }


def matrix(place: Place) -> Result:
    """A small matrix on the card and, beside it, on the CPU, from the same model."""
    import pandas as pd

    runs = place.folder / "matrix"
    model = f"--config_name recipes/models/xlmr-tiny.json --vocab_size 2000 --max_steps {place.sizes.steps}"
    model += " --learning_rate 2e-3 --per_device_train_batch_size 32 --bf16 False --save_strategy no"
    # PY: the environment this runs in
    common = [f"DATA_ROOT={place.data_root}", "WORLD_ARGS=", "SEEDS=0", f"PY={sys.executable}"]
    common += place.sizes.matrix
    if place.tiny:
        common += ["TARGET_ARGS=--max_train_samples 32 --max_eval_samples 16 --languages en --max_seq_length 64"]

    def make(name: str, *words: str, **environment: str) -> subprocess.Popen:
        with open(place.folder / f"matrix-{name}.log", "w") as log:
            command = ["make", *words, f"OUT={runs / name}", *common]
            return subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, env=os.environ | environment)

    def end(name: str, job: subprocess.Popen) -> None:
        if job.wait():
            raise RuntimeError(f"matrix on {name}:\n{(place.folder / f'matrix-{name}.log').read_text()[-1500:]}")

    end("model", make("model", "model", f"MLM_ARGS={model}"))
    start = time.perf_counter()
    given = f"MODEL={runs / 'model' / 'model'}"
    jobs = {"gpu": make("gpu", "matrix", given), "cpu": make("cpu", "matrix", given, CUDA_VISIBLE_DEVICES="")}
    for name, job in jobs.items():
        end(name, job)
    tables = {name: pd.read_csv(runs / name / "report" / "matrix.csv", index_col="arm") for name in jobs}
    scores = [
        {"arm": arm, "task": column.removesuffix(".score"), "gpu": value, "cpu": tables["cpu"].at[arm, column]}
        for column in tables["gpu"].columns
        if column.endswith(".score")
        for arm, value in tables["gpu"][column].items()
    ]
    return {"seconds_of_both": time.perf_counter() - start, "scores": scores}


PARTS: dict[str, Callable[[Place], Result]] = {
    "card": card,
    "train-xlm-r-large": lambda place: train(place, "train-xlm-r-large", ("squad", "mnli")),
    "train-mmbert-base": lambda place: train(place, "train-mmbert-base", ("squad",)),
    "embed": embed,
    "mine": mine,
    "matrix": matrix,
}
