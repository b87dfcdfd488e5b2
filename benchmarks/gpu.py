"""What this project does on one GPU, in under ten minutes; `bash benchmarks/gpu.sh` starts it.

    python benchmarks/gpu.py [--tiny] [--out FOLDER] [--parts card train-mmbert-base ...] [--minutes 9.5]

The parts run one after another, each in a process of its own with a time limit of its own. A part that fails or runs
out of time is reported as such, and the next one runs. Models are random weights in a published model's shape, so
nothing comes from the Hub, and no score of theirs means anything.

card: the card, its rate in a large bf16 product, and of copies. The shares below are of that measured rate.
train-SHAPE: real tokens a second in training, bf16, beside Hugging Face's example script with its best flags on the
same rows; also with frozen embeddings, and mmBERT without padding; peak memory; how often a step makes the program
wait for the GPU.
embed: sentences a second of the largest shape, beside sentence-transformers with the same weights, and whether the
vectors are equal. mine: mining on the card and on the CPU, whether the pairs are equal, and whether the neighbours are
those of float64. matrix: a small matrix of the world on the card and on the CPU, from the same model.

--tiny runs every part on the CPU with sizes that say nothing, to see that they run; its limits are half an hour each.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from argparse import Namespace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from gpu_page import markdown  # noqa: E402  (they lie beside this file)
from gpu_parts import PARTS, TINY, Place, Result, Sizes  # noqa: E402
from training import quiet  # noqa: E402

# seconds that a part may take: together a little less than ten minutes
LIMITS = {
    "card": 30,
    "train-xlm-r-large": 210,
    "train-mmbert-base": 110,
    "embed": 75,
    "mine": 35,
    "matrix": 130,
}


def run_part(name: str, out: Path, words: list[str], limit: float) -> Result:
    """Run a part in a process group of its own. Return its result, with "failed": why if it did not end well."""
    start, file = time.perf_counter(), out / f"{name}.json"
    file.unlink(missing_ok=True)
    with open(out / f"{name}.log", "w") as log:
        command = [sys.executable, __file__, "--out", str(out), *words, "--part", name]
        hidden = {"CUDA_VISIBLE_DEVICES": ""} if "--tiny" in words else {}
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=log, stderr=log, start_new_session=True, env=os.environ | hidden
        )
        try:
            process.wait(limit)
            said = file.with_suffix(".log").read_text(errors="replace").split("\n")
            last = next((line for line in reversed(said) if line.strip()), "nothing was printed")
            why = f"exit status {process.returncode}: {last[:300]} (all of it: {file.with_suffix('.log')})"
        except subprocess.TimeoutExpired:
            why = f"not done after {limit:.0f} s"
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    done = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return done | ({"failed": why} if process.returncode else {}) | {"wall_seconds": time.perf_counter() - start}


def rows_of(out: Path, given: Namespace) -> str:
    """The folder of rows: the one given, or a world made in `out`."""
    if given.data_root:
        return os.path.abspath(given.data_root)
    options = (TINY if given.tiny else Sizes()).world.split()
    command = [sys.executable, "-m", "world", "--out", str(out / "world"), *options]
    subprocess.run(command, cwd=ROOT, check=True, stdout=sys.stderr)  # standard output is the page alone
    return str(out / "world")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--out", default="runs/gpu", help="folder for results, logs and models (default: runs/gpu)")
    parser.add_argument("--data_root", help="a folder of rows; without it a world is made")
    parser.add_argument("--tiny", action="store_true", help="tiny sizes, on the CPU: to see that it runs")
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=list(PARTS), metavar="PART")
    parser.add_argument("--minutes", type=float, default=9.5, help="for all parts together (default: 9.5)")
    parser.add_argument("--part", choices=list(PARTS), help=argparse.SUPPRESS)
    given = parser.parse_args(argv)
    out = Path(given.out).resolve()
    if given.part:
        quiet()
        place = Place(out, given.data_root, given.tiny)
        place.keep(given.part, PARTS[given.part](place))
        return 0
    if not given.tiny and subprocess.run(["nvidia-smi", "-L"], capture_output=True).returncode:
        parser.error("nvidia-smi lists no GPU here. --tiny runs the same in small, on the CPU.")
    ends = time.perf_counter() + 60 * given.minutes
    out.mkdir(parents=True, exist_ok=True)
    words = ["--data_root", rows_of(out, given), *(["--tiny"] if given.tiny else [])]
    results: dict[str, Result] = {}
    for name in given.parts:
        limit = 1800 if given.tiny else min(LIMITS[name], ends - time.perf_counter())
        print(f"{name} ...", file=sys.stderr, flush=True)
        results[name] = run_part(name, out, words, limit) if limit > 0 else {"failed": "no time was left"}
        (out / "gpu.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    for folder in ("models", "stops"):
        shutil.rmtree(out / folder, ignore_errors=True)
    print(markdown(results))
    return int(any("failed" in result for result in results.values()))


if __name__ == "__main__":
    sys.exit(main())
