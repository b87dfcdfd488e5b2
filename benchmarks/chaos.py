"""kill -9 at random moments of a tiny matrix, then `make matrix` again, until it ends; is everything equal to an
undisturbed one's?

    python benchmarks/chaos.py [--kills 50] [--seed 0] [--out FOLDER] [--longest SECONDS]

A life is one matrix, killed again and again until an attempt comes to its end before its kill. Lives follow each other
until there were `--kills` kills; every second one trains on two processes under torchrun. A kill takes, at random, the
run that is at work (of two processes: one of them, or their launcher), make alone, or the whole process group: after
the last two, runs may live on without their make, and the next make meets them. Delays are uniform from 0 to
`--longest` seconds, by default one and a half times what a run of the undisturbed matrix took, its start included, so
that kills fall everywhere. Every third kill waits first until a training has its last checkpoint and no results.json
yet, and takes all processes at once: a run that is begun again there has nothing to train. Caches of features are each
life's own: they are killed half written too.

Compared bit by bit: weights, predictions, hits and tables; of results.json all but times and command. Stopped and
started again with the same --out it goes on. Works in a copy of the repository, so that this one may be edited
meanwhile.
"""

import argparse
import collections
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[1]
SIZES = {
    "model_type": "xlm-roberta",
    "num_hidden_layers": 2,
    "hidden_size": 16,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "max_position_embeddings": 130,
    "hidden_dropout_prob": 0.1,
}
FEW = "--max_seq_length 64 --per_device_train_batch_size 4 --bf16 False --save_strategy steps --save_steps 100"
# so that a training takes about as long as its start, and kills fall into both; no whole number of epochs
STEPS = 999
# {processes: the matrix, and how many runs it has: the model, the arms, the cells, the report}
MATRICES = {
    1: (
        [
            "ARMS=none squad squad_dual",
            "TARGETS=udpos",
            "RETRIEVAL=tatoeba",
            "ARGS_squad_dual=--layer 1",
            "ARGS_tatoeba=",
        ],
        1 + 2 + 3 * 2 + 1,
    ),
    2: (["ARMS=none squad", "TARGETS=udpos", "RETRIEVAL="], 1 + 1 + 2 + 1),
}
SCRIPTS = tuple(path.name for path in ROOT.glob("run_*.py"))
# What a finished file may differ in: when, how long, and where
VARYING = {"seconds", "finished", "command", "versions", "model_finished"}
TIMED = {"README.md", "run.json", "index.html", ".asked", "training_args.bin", "world.json"}


def matrix(folder: Path, processes: int) -> list[str]:
    """The command of the tiny matrix below `folder`, on one process or two."""
    sizes = folder.parent / "sizes.json"
    torchrun = f"{sys.executable} -m torch.distributed.run --standalone --nproc_per_node 2"
    return [
        "make",
        "matrix",
        f"PY={sys.executable}",
        "PRESET=world",
        f"OUT={folder}/runs",
        f"DATA_ROOT={folder}/world",
        "WORLD_ARGS=--seed 0 --size 0.02 --languages 2",
        *MATRICES[processes][0],
        "SEEDS=0",
        "DEFAULT_JOBS=1",
        "THREADS=1",
        "ARGS_udpos=",
        f"MLM_ARGS=--config_name {sizes} --vocab_size 300 --max_steps {STEPS} {FEW}",
        f"INTERMEDIATE_ARGS={FEW} --max_steps {STEPS} --max_train_samples 60 --max_eval_samples 8",
        f"TARGET_ARGS={FEW} --max_steps {STEPS} --max_train_samples 30 --max_eval_samples 8 --eval_strategy steps "
        "--eval_steps 100",
        "RETRIEVAL_ARGS=--layer all --report_layer 1",
        *([f"RUN={torchrun}"] if processes == 2 else []),
    ]


class Life:
    """One matrix below `folder`: `start` begins an attempt, `kill` ends it."""

    def __init__(self, folder: Path, processes: int, source: Path):
        self.folder, self.command, self.source = folder, matrix(folder, processes), source
        folder.mkdir(exist_ok=True)
        (folder.parent / "sizes.json").write_text(json.dumps(SIZES))
        self.environment = os.environ | {
            "HF_DATASETS_CACHE": str(folder / "cache"),
            "HF_HUB_OFFLINE": "1",
            "OMP_WAIT_POLICY": "passive",
            "XSTILTS_CHAOS": str(folder),
        }
        self.environment.pop("MAKEFLAGS", None)

    def start(self) -> None:
        with (self.folder / "log").open("a") as log:
            self.make = subprocess.Popen(
                self.command, cwd=self.source, env=self.environment, stdout=log, stderr=log, start_new_session=True
            )

    def workers(self) -> dict[psutil.Process, str]:
        """{Python process of one of this life's runs, those too whose make is dead: its phase}, the youngest first."""
        found = {}
        for process in psutil.process_iter():
            try:
                if process.environ().get("XSTILTS_CHAOS") == str(self.folder) and (found_phase := phase(process)):
                    found[process] = found_phase
            except psutil.Error:
                continue
        return dict(sorted(found.items(), key=lambda item: -item[0].pid))

    def at_end(self) -> bool:
        """Whether a run has its last checkpoint and is not finished."""
        states = (self.folder / "runs").rglob(f"checkpoint-{STEPS}/trainer_state.json")
        return any(not (state.parents[1] / "results.json").exists() for state in states)

    def wait_for_end(self) -> None:
        """Returns when a run is `at_end`, or when the attempt has come to its end before."""
        while self.make.poll() is None and not self.at_end():
            time.sleep(0.02)

    def finish(self, longest: float) -> None:
        """Lets the attempt that runs, and runs of earlier ones, come to their end. Raises SystemExit if it fails or
        hangs."""
        try:
            code = self.make.wait(timeout=longest)
        except subprocess.TimeoutExpired:
            code = "no end"
        if code:
            sys.exit(f"{self.folder}: make ended with {code}, not killed by us; see {self.folder}/log")
        # what is left are processes whose launcher was killed before they had met: they would wait half an hour for
        # each other
        for process in psutil.wait_procs(list(self.workers()), timeout=60)[1]:
            process.kill()

    def kill(self, how: str, rng: random.Random) -> str:
        """Kills; returns the phase that was at work."""
        workers = self.workers()
        at_work = next(iter(workers.values()), "between runs")
        if how == "run" and workers:
            with contextlib.suppress(psutil.NoSuchProcess):  # it has just ended by itself
                rng.choice(list(workers)).kill()
        elif how == "all":  # torchrun's workers have a process group of their own
            os.killpg(self.make.pid, signal.SIGKILL)
            for worker in workers:
                with contextlib.suppress(psutil.NoSuchProcess):
                    worker.kill()
        elif how == "group":
            os.killpg(self.make.pid, signal.SIGKILL)
        else:
            self.make.kill()
        self.make.wait()
        return at_work


def phase(process: psutil.Process) -> str | None:
    """What a process does, if it is a run of ours. Raises psutil.Error if it has ended."""
    words = process.cmdline()
    if not words or "python" not in Path(words[0]).name:
        return None
    if (
        "--for" in words
    ):  # of recipes/preload.py: a fork at work has its script's name, cut at 15 letters; its parent python's
        name = process.name()
        return next((script for script in SCRIPTS if script.startswith(name)), None)
    script = next(
        (word for word in words if word == "world" or (word.startswith("run_") and word.endswith(".py"))), None
    )
    return f"{script} squad_dual" if "recipes/arms/squad_dual.yaml" in words else script


def content(folder: Path) -> dict[str, object]:
    """{path: bytes, or of results.json what may not vary} of all that a finished matrix holds."""
    found: dict[str, object] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if not path.is_file() or path.name in TIMED or path.suffix == ".png" or is_left_over(name):
            continue
        found[name] = path.read_bytes()
        if path.name == "results.json":
            text = path.read_text().replace(str(folder.parent), "LIFE")
            found[name] = without_times(json.loads(text))
    return found


def without_times(value):
    if isinstance(value, dict):
        return {
            key: without_times(inner)
            for key, inner in value.items()
            if key not in VARYING and not key.startswith("seconds")
        }
    return value


def is_left_over(name: str) -> bool:
    """Of a temporary name, or a checkpoint of a training that is done."""
    return any(part.startswith((".", "checkpoint-")) for part in name.split("/"))


def differences(one: dict, other: dict) -> list[str]:
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))


def undisturbed(out: Path, processes: int, source: Path) -> tuple[dict, float]:
    """(what it holds, seconds of a run) of the matrix that nobody kills; made once."""
    folder = out / f"undisturbed-{processes}"
    if not (folder / "seconds").is_file():
        shutil.rmtree(folder, ignore_errors=True)
        life, start = Life(folder, processes, source), time.monotonic()
        life.start()
        life.finish(3600)
        (folder / "seconds").write_text(str((time.monotonic() - start) / MATRICES[processes][1]))
    return content(folder / "runs"), float((folder / "seconds").read_text())


def next_kill(life: Life, rng: random.Random, longest: float, at_end: bool) -> tuple[float, str]:
    """(seconds to wait, what to kill); `at_end`: wait first until a run is between its last checkpoint and its end."""
    delay, how = rng.uniform(0, longest), rng.choice(["run", "run", "make", "group"])
    if at_end and not life.at_end():
        life.wait_for_end()
        return rng.uniform(0, 0.1), "all"  # a second later the run is done, or what lives on ends it
    return delay, how


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/chaos"))
    parser.add_argument("--longest", type=float)
    given = parser.parse_args()
    out, source = given.out.resolve(), given.out.resolve() / "source"
    out.mkdir(parents=True, exist_ok=True)
    if not source.is_dir():
        subprocess.run(["git", "clone", "--quiet", ROOT, source], check=True)

    # one line a kill, one a finished life: what stands there is not done again
    journal = out / "journal.jsonl"
    entries = [json.loads(line) for line in journal.read_text().splitlines()] if journal.is_file() else []

    def note(**entry) -> None:
        entries.append(entry)
        with journal.open("a") as file:
            file.write(json.dumps(entry) + "\n")

    kills = [entry for entry in entries if "how" in entry]
    with tqdm(total=given.kills, initial=len(kills), desc="kills", unit=" kills") as bar:
        number = sum("equal" in entry for entry in entries)
        while len(kills) < given.kills or kills[-1]["life"] == number:  # the last life is let finish
            processes = 1 + number % 2
            whole, seconds = undisturbed(out, processes, source)
            life = Life(out / f"life-{number}", processes, source)
            while True:
                rng = random.Random(f"{given.seed}/{len(kills)}")
                life.start()
                if len(kills) >= given.kills:
                    life.finish(3600)
                    break
                delay, how = next_kill(life, rng, given.longest or 1.5 * seconds, at_end=len(kills) % 3 == 0)
                try:
                    life.make.wait(timeout=delay)
                except subprocess.TimeoutExpired:
                    at_work = life.kill(how, rng)
                    note(
                        life=number,
                        how=how,
                        phase=at_work,
                        processes=processes,
                        delay=round(delay, 1),
                        at_end=life.at_end(),
                    )
                    kills.append(entries[-1])
                    bar.update()
                else:
                    life.finish(3600)
                    break
            unequal = differences(whole, content(life.folder / "runs"))
            left = [str(p.relative_to(life.folder)) for p in (life.folder / "runs").rglob("*") if is_left_over(p.name)]
            resumed = (life.folder / "log").read_text().count("Resuming from")
            note(life=number, equal=not unequal, unequal=unequal, left_over=left, resumed=resumed)
            number += 1

    print(report(entries))


def report(entries: list[dict]) -> str:
    """How many kills ended equal, where they fell, and how."""
    kills, lives = [e for e in entries if "how" in e], [e for e in entries if "equal" in e]
    good = {life["life"] for life in lives if life["equal"]}
    lines = [
        f"{sum(kill['life'] in good for kill in kills)} of {len(kills)} kills ended equal, in {len(good)} of "
        f"{len(lives)} matrices; {sum(life['resumed'] for life in lives)} trainings went on from a checkpoint; "
        f"{sum(k.get('at_end', False) for k in kills)} kills fell between the last checkpoint and results.json."
    ]
    for key in ("phase", "how", "processes"):
        counts = collections.Counter(str(kill[key]) for kill in kills)
        lines.append(f"  by {key}: " + ", ".join(f"{name} {n}" for name, n in sorted(counts.items())))
    lines += [
        f"  life {life['life']} differs in: {', '.join(life['unequal'][:8])}" for life in lives if not life["equal"]
    ]
    lines += [
        f"  life {life['life']} left behind: {', '.join(life['left_over'][:8])}" for life in lives if life["left_over"]
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
