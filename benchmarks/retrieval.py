"""Speed and memory of retrieval beside what a user would pick instead; the results are checked to be equal.

    python benchmarks/retrieval.py embed [--checkpoint FOLDER] [--sentences FILE] [--layer 14] [--hidden 1024]
    python benchmarks/retrieval.py nway [--checkpoint FOLDER] [--sentences FILE] [--languages 109] [--rows 1997]
    python benchmarks/retrieval.py mine [--sizes 5000 10000 20000] [--dim 768] [--isotropic]
    python benchmarks/retrieval.py curve [--sizes 10000 20000 40000] [--plot curve.png]
    python benchmarks/retrieval.py memory [--sizes 50000] [--mapped]
    python benchmarks/retrieval.py index [--sizes 50000] [--factories IVF1024,Flat IVF1024,PQ64] [--nprobe 16]

`embed`: our encoder at one layer, at the top, at all layers and (`--bf16`) in bf16, beside SentenceTransformer.encode
on the same weights and sentences. `nway`: what retrieval between all pairs of languages adds to embedding them at one
layer; a sample of each is measured and counted up. `mine`: mining beside two exact faiss searches and the pair-by-pair
scoring of LASER and XTREME; `--isotropic`: vectors without directions of more variance. `curve`: our mining alone,
time against n, and the power of n it grows with. `memory`: peak memory of mining beyond the vectors, each size in a
process of its own, the vectors in memory or (`--mapped`) on disk. `index`: what an index costs to train and fill, its
CPU time a query and its recall, beside exact search. Rivals run in turn, `--runs` times; a line gives medians in
seconds and the rival's time over ours. The defaults end in a minute or two; the sizes of a claim are flags. Set
OMP_NUM_THREADS for the threads both sides use. With `--cpu_time` seconds are those of the processor, for a machine
where other jobs run beside. A CPU with AVX2 alone is imitated by ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2
MKL_ENABLE_INSTRUCTIONS=AVX2, for faiss and numpy FAISS_OPT_LEVEL=AVX2 OPENBLAS_CORETYPE=Haswell too.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.made_up import in_turn, isotropic_vectors, sentences_of, unit_vectors, untrained_checkpoint  # noqa: E402


def benchmark_embed(args: argparse.Namespace) -> None:
    import torch
    from sentence_transformers import SentenceTransformer

    from xstilts.retrieve.embedding import Encoder
    from xstilts.retrieve.export import export_sentence_transformers
    from xstilts.retrieve.neighbours import nearest
    from xstilts.retrieve.vectors import normalize

    sentences = sentences_of(args)
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = args.checkpoint or untrained_checkpoint(folder, sentences, args.model_layers, args.hidden)
        export_sentence_transformers(checkpoint, "last", "mean", f"{folder}/exported")
        peer = SentenceTransformer(f"{folder}/exported", device="cpu")
        encoders = {
            "top layer": Encoder.load(checkpoint, device="cpu"),
            f"layer {args.layer}": Encoder.load(checkpoint, layers=args.layer, device="cpu"),
            "all layers": Encoder.load(checkpoint, layers="all", device="cpu"),
        }
        size = args.peer_batch_size
        rivals: dict[str, Callable[[], object]] = {
            "sentence-transformers": lambda: peer.encode(sentences, batch_size=size, show_progress_bar=False)
        }
        if args.bf16:
            encoders["top layer, bf16"] = Encoder.load(checkpoint, dtype="bf16", device="cpu")
            encoders[f"layer {args.layer}, bf16"] = Encoder.load(
                checkpoint, layers=args.layer, dtype="bf16", device="cpu"
            )
            rough = SentenceTransformer(f"{folder}/exported", device="cpu", model_kwargs={"dtype": torch.bfloat16})
            rivals["the same, bf16"] = lambda: rough.encode(sentences, batch_size=size, show_progress_bar=False)
        for name, encoder in encoders.items():
            rivals[name] = lambda encoder=encoder: encoder.embed(sentences)
        seconds, vectors = in_turn(rivals, args.runs, args.cpu_time)
    top = encoders["top layer"].layers[0]
    ours = vectors["top layer"][top]
    np.testing.assert_allclose(ours, vectors["sentence-transformers"], atol=1e-4)
    np.testing.assert_allclose(vectors["all layers"][top], ours, atol=1e-4)
    middle = vectors[f"layer {args.layer}"][args.layer]
    np.testing.assert_allclose(vectors["all layers"][args.layer], middle, atol=1e-4)
    print(f"embed: {len(sentences)} sentences, {top} layers of {ours.shape[1]}; seconds, and how many times as fast")
    for name, value in seconds.items():
        print(f"  {name:24s} {value:8.2f}  {seconds['sentence-transformers'] / value:5.2f}x")
    print(f"  all layers take {seconds['all layers'] / seconds['top layer']:.2f} of the top layer's time")
    if not args.bf16:
        return
    half = len(sentences) // 2
    unit = normalize(ours)
    for name, rough in (("ours", vectors["top layer, bf16"][top]), ("theirs", vectors["the same, bf16"])):
        rough = normalize(rough)
        same = 100 * (nearest(unit[:half], unit[half:]) == nearest(rough[:half], rough[half:])).mean()
        print(
            f"  bf16, {name}: smallest cosine to fp32 {(unit * rough).sum(axis=1).min():.5f}, nearest neighbours "
            f"equal {same:.2f} %"
        )


def benchmark_nway(args: argparse.Namespace) -> None:
    """Processor seconds a sentence and a pair of languages, and from them the share of the pairs. In fp32."""
    from xstilts.retrieve import nway
    from xstilts.retrieve.embedding import Encoder

    sentences = sentences_of(args)
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = args.checkpoint or untrained_checkpoint(folder, sentences, args.model_layers, args.hidden)
        encoder = Encoder.load(checkpoint, device="cpu")
        base = unit_vectors(args.rows, encoder.model.config.hidden_size, seed=1)
        vectors = {str(k): unit_vectors(args.rows, base.shape[1], seed=2 + k, near=base) for k in range(5)}
        rivals = {"embed": lambda: encoder.embed(sentences), "pairs": lambda: nway.every_pair(vectors)}
        seconds, _ = in_turn(rivals, args.runs, cpu_time=True)
    sentence, pair = seconds["embed"] / len(sentences), seconds["pairs"] / 10
    embedding, pairs = args.languages * args.rows * sentence, args.languages * (args.languages - 1) / 2 * pair
    print(
        f"nway: {args.languages} languages of {args.rows} rows, top layer, {base.shape[1]} dimensions, counted up\n"
        f"  from {1000 * sentence:.1f} ms a sentence ({len(sentences)} embedded), {1000 * pair:.1f} ms a pair (10)\n"
        f"  embedding {embedding:.0f} s, all pairs {pairs:.0f} s: together {1 + pairs / embedding:.2f} of embedding"
    )


def mine_with_faiss(source: np.ndarray, target: np.ndarray, k: int = 4) -> tuple[list[tuple[int, int]], np.ndarray]:
    """Ratio-margin mining as it is commonly written: two exact searches, every candidate scored in a loop, greedy."""
    import faiss

    def search(queries: np.ndarray, pool: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        index = faiss.IndexFlatIP(pool.shape[1])
        index.add(pool)
        return index.search(queries, k)

    def best(x: np.ndarray, y: np.ndarray, index: np.ndarray, own: np.ndarray, other: np.ndarray):
        scores = np.empty(index.shape)
        for i in range(len(x)):
            for place, j in enumerate(index[i]):
                scores[i, place] = x[i].dot(y[j]) / ((own[i] + other[j]) / 2)
        return index[np.arange(len(x)), scores.argmax(axis=1)], scores.max(axis=1)

    forward_cosine, forward_index = search(source, target)
    backward_cosine, backward_index = search(target, source)
    forward_mean, backward_mean = forward_cosine.mean(axis=1), backward_cosine.mean(axis=1)
    target_of, forward = best(source, target, forward_index, forward_mean, backward_mean)
    source_of, backward = best(target, source, backward_index, backward_mean, forward_mean)
    i = np.concatenate([np.arange(len(source)), source_of])
    j = np.concatenate([target_of, np.arange(len(target))])
    score = np.concatenate([forward, backward])
    pairs, scores, used_source, used_target = [], [], set(), set()
    for position in np.argsort(-score):
        a, b = i[position], j[position]
        if a not in used_source and b not in used_target:
            used_source.add(a)
            used_target.add(b)
            pairs.append((int(a), int(b)))
            scores.append(score[position])
    return pairs, np.array(scores)


def benchmark_mine(args: argparse.Namespace) -> None:
    from xstilts.retrieve import mining, product

    print(f"mine: n x n x {args.dim}, k=4, ratio margin, max; this machine's engine: {product.fastest_engine()}")
    print("  n          ours       faiss + loop")
    for size in args.sizes:
        if args.isotropic:
            source, target = isotropic_vectors(size, args.dim)
        else:
            target = unit_vectors(size, args.dim, seed=1)
            source = unit_vectors(size, args.dim, seed=2, near=target)
        rivals = {"ours": lambda: mining.mine(source, target), "faiss": lambda: mine_with_faiss(source, target)}  # noqa: B023
        seconds, results = in_turn(rivals, args.runs, args.cpu_time)
        i, j, score = results["ours"]
        pairs, scores = results["faiss"]
        ours, theirs = set(zip(i.tolist(), j.tolist(), strict=True)), set(pairs)
        # fp32 sums differ in the last bits, which may turn the order of two all but equal candidates.
        differ = len(ours ^ theirs)
        assert differ <= 1e-4 * len(ours), f"{differ} of {len(ours)} pairs differ"
        np.testing.assert_allclose(score, scores, atol=1e-4)
        ratio = seconds["faiss"] / seconds["ours"]
        times = f"{seconds['ours']:8.2f} s  {seconds['faiss']:8.2f} s  {ratio:5.2f}x"
        print(f"  {size:<8d}{times}  {differ} pairs differ", flush=True)


def benchmark_curve(args: argparse.Namespace) -> None:
    from xstilts.retrieve import mining, product

    print(f"curve: mining n x n x {args.dim}, this machine's engine: {product.fastest_engine()}")
    print("  n           time    of this a pair of sentences", flush=True)
    seconds = []
    for size in args.sizes:
        target = unit_vectors(size, args.dim, seed=1)
        source = unit_vectors(size, args.dim, seed=2, near=target)
        taken, _ = in_turn({"ours": lambda: mining.mine(source, target)}, args.runs)  # noqa: B023
        seconds.append(taken["ours"])
        print(f"  {size:<8d}{seconds[-1]:8.2f} s  {1e9 * seconds[-1] / size**2:10.3f} ns", flush=True)
    if len(seconds) > 1:
        power = np.polyfit(np.log(args.sizes), np.log(seconds), 1)[0]
        print(f"  time grows with n to the power {power:.2f}")
    if args.plot:
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot

        figure, axes = pyplot.subplots()
        axes.loglog(args.sizes, seconds, "o-")
        axes.set(xlabel="sentences a side, n", ylabel="seconds", title=f"Exact mining, n x n x {args.dim}")
        figure.savefig(args.plot)


def benchmark_index(args: argparse.Namespace) -> None:
    """CPU seconds, not wall time: they are added up over threads, and a busy machine does not change them."""
    from xstilts.retrieve import index, neighbours

    def cpu(call: Callable[[], object]) -> tuple[float, object]:
        start = time.process_time()
        result = call()
        return time.process_time() - start, result

    for size in args.sizes:
        target = unit_vectors(size, args.dim, seed=1)
        queries = unit_vectors(size, args.dim, seed=2, near=target)[: args.queries]
        plain, (best, _) = cpu(lambda: neighbours.knn(queries, target))  # noqa: B023
        print(f"index: {args.queries} queries in {size} x {args.dim}, k=4; CPU seconds\n  exact: {plain:.1f} s")
        print(
            "  factory             nprobe   train on      train    fill 1M   bytes a vector   search 1000   recall@4",
            flush=True,
        )
        for factory in args.factories:
            how = index.Index(factory, args.nprobe if factory.startswith("IVF") or ",IVF" in factory else None)
            train, trained = cpu(lambda: how.trained(target))  # noqa: B023
            fill, _ = cpu(lambda: trained.add(target))  # noqa: B023
            search, (_, found) = cpu(lambda: trained.search(queries, index.CANDIDATES))  # noqa: B023
            score, scores = cpu(lambda: index.exact(queries, target, found))  # noqa: B023
            recall = 100 * (index.best_of(4, (scores, found))[0] >= best[:, -1:]).mean()
            print(
                f"  {factory:<20s}{how.nprobe or '':>6}{how.sample(size, args.dim):>11d}{train:9.1f} "
                f"s{fill * 1e6 / size:9.1f} s"
                f"{index.code_size(trained):>17d}{(search + score) * 1000 / len(queries):12.3f} s{recall:11.1f}",
                flush=True,
            )


def resident_bytes() -> int:
    """What the process holds (Linux), without the pages of mapped files, which the system drops where it needs
    room."""
    _, resident, shared, *_ = map(int, Path("/proc/self/statm").read_text().split())
    return (resident - shared) * os.sysconf("SC_PAGE_SIZE")


def highest(done: threading.Event, seen: list[int]) -> None:
    """Looks every 10 ms how much the process holds."""
    while not done.wait(0.01):
        seen.append(resident_bytes())


def measure_memory(size: int, dim: int, mapped: bool) -> None:
    import torch  # the library itself is no part of the figure

    from xstilts.retrieve.mining import mine

    mine(*(unit_vectors(64, dim, seed) for seed in (1, 2)))
    torch.mm(torch.ones(64, 64, dtype=torch.bfloat16), torch.ones(64, 64, dtype=torch.bfloat16))
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder, name) if mapped else None for name in ("target.npy", "source.npy")]
        target = unit_vectors(size, dim, seed=1, path=paths[0])
        source = unit_vectors(size, dim, seed=2, near=target, path=paths[1])
        done, seen = threading.Event(), [before := resident_bytes()]
        watcher = threading.Thread(target=highest, args=(done, seen))
        watcher.start()
        start = time.perf_counter()
        pairs = len(mine(source, target)[0])
        seconds = time.perf_counter() - start
        done.set()
        watcher.join()
    vectors = (source.nbytes + target.nbytes) / 2**20
    print(
        f"  {size:<8d}{vectors:10.0f} MiB{(max(seen) - before) / 2**20:10.0f} MiB{seconds:9.1f} s  {pairs} pairs",
        flush=True,
    )


def benchmark_memory(args: argparse.Namespace) -> None:
    print(
        f"memory: n x n x {args.dim}, vectors {'on disk' if args.mapped else 'in memory'}\n"
        "  n             vectors     beyond them     time",
        flush=True,
    )
    for size in args.sizes:
        command = [sys.executable, __file__, "memory", "--measure", "--sizes", str(size), "--dim", str(args.dim)]
        subprocess.run([*command, *(["--mapped"] if args.mapped else [])], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    embed, nway = commands.add_parser("embed"), commands.add_parser("nway")
    for command in (embed, nway):
        command.add_argument("--checkpoint", help="a trained encoder; without it an untrained XLM-R is made")
        command.add_argument("--sentences", help="a text file, one sentence a line; without it sentences are invented")
        command.add_argument("--count", type=int, default=100, help="sentences")
        command.add_argument("--model_layers", type=int, default=24, help="of the untrained model")
        command.add_argument("--hidden", type=int, default=256, help="of the untrained model (XLM-R Large: 1024)")
    nway.add_argument("--languages", type=int, default=109)
    nway.add_argument("--rows", type=int, default=1997, help="of each language")
    nway.add_argument("--runs", type=int, default=3)
    embed.add_argument("--layer", type=int, default=14)
    embed.add_argument("--peer_batch_size", type=int, default=32, help="of sentence-transformers; 32 is its default")
    embed.add_argument("--bf16", action="store_true", help="in bf16 too: slow on a CPU without bf16 units")
    embed.add_argument("--runs", type=int, default=5)
    embed.add_argument("--cpu_time", action="store_true", help="seconds of the processor")
    mine = commands.add_parser("mine")
    mine.add_argument("--sizes", type=int, nargs="+", default=[2000, 4000, 8000])
    mine.add_argument("--dim", type=int, default=768)
    mine.add_argument("--isotropic", action="store_true", help="random vectors, a tenth of them pairs")
    mine.add_argument("--runs", type=int, default=5)
    mine.add_argument("--cpu_time", action="store_true", help="seconds of the processor")
    curve = commands.add_parser("curve")
    curve.add_argument("--sizes", type=int, nargs="+", default=[5000, 10000, 20000])
    curve.add_argument("--dim", type=int, default=768)
    curve.add_argument("--runs", type=int, default=3)
    curve.add_argument("--plot", help="a .png to draw it in")
    memory = commands.add_parser("memory")
    memory.add_argument("--sizes", type=int, nargs="+", default=[10000, 20000])
    memory.add_argument("--dim", type=int, default=768)
    memory.add_argument("--mapped", action="store_true", help="the vectors lie on disk, memory-mapped")
    memory.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    index = commands.add_parser("index")
    index.add_argument("--sizes", type=int, nargs="+", default=[20000])
    index.add_argument("--dim", type=int, default=384)
    index.add_argument("--queries", type=int, default=2000)
    index.add_argument("--factories", nargs="+", default=["IVF256,Flat", "IVF256,PQ48"])
    index.add_argument("--nprobe", type=int, default=16, help="of factories with lists (IVF)")
    args = parser.parse_args()
    if args.command == "memory" and args.measure:
        measure_memory(args.sizes[0], args.dim, args.mapped)
    else:
        globals()[f"benchmark_{args.command}"](args)


if __name__ == "__main__":
    main()
