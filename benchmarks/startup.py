"""Fixed cost of each script beside a plain Trainer script in the manner of Hugging Face's run_glue.py.

    python benchmarks/startup.py --model FOLDER --data_root data/world [--runs 5]

Every command starts a process, imports, loads the checkpoint, reads and featurises 64 rows, does the least its phase
can do (one optimiser step and a score of 64 rows; for retrieval, one language) and saves. The plain script, `peer`
below, does the same for one sentence-pair task with transformers, datasets and evaluate alone. Runs alternate; medians
and ratios are printed.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def peer(model_name: str, folder: str, output_dir: str) -> None:
    """What a script in run_glue.py's order does: parse, rows, model, map, metric, Trainer, one step, evaluate,
    save."""
    import datasets
    import evaluate
    import transformers

    rows = datasets.load_dataset("parquet", data_files={s: f"{folder}/{s}.parquet" for s in ("train", "validation")})
    tokenizer = transformers.AutoTokenizer.from_pretrained(model_name)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(
        model_name, num_labels=3, ignore_mismatched_sizes=True
    )
    features = {
        split: data.select(range(64)).map(
            lambda batch: tokenizer(batch["premise"], batch["hypothesis"], truncation=True, max_length=128),
            batched=True,
        )
        for split, data in rows.items()
    }
    metric = evaluate.load(str(Path("tasks/metrics").resolve()), "accuracy")
    args = transformers.TrainingArguments(
        output_dir=output_dir, max_steps=1, per_device_train_batch_size=32, use_cpu=True
    )
    trainer = transformers.Trainer(
        model=model,
        args=args,
        train_dataset=features["train"],
        eval_dataset=features["validation"],
        processing_class=tokenizer,
        compute_metrics=lambda p: metric.compute(
            predictions=p.predictions.argmax(-1).tolist(), references=p.label_ids.tolist()
        ),
    )
    trainer.train()
    trainer.evaluate()
    trainer.save_model()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--data_root", default="data/world")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--peer", metavar="OUTPUT_DIR", help=argparse.SUPPRESS)
    args = parser.parse_args()
    pairs = f"{args.data_root}/facebook__xnli/en"
    if args.peer:
        return peer(args.model, pairs, args.peer)
    few = ["--max_train_samples", "64", "--max_eval_samples", "64", "--max_seq_length", "128"]
    step = ["--max_steps", "1", "--per_device_train_batch_size", "32"]
    common = ["--model_name_or_path", args.model, "--data_root", args.data_root]
    commands = {
        "plain Trainer": ["benchmarks/startup.py", "--model", args.model, "--data_root", args.data_root, "--peer"],
        "run_target.py": [
            "run_target.py",
            "--task",
            "xnli",
            "--languages",
            "en",
            *common,
            *few,
            *step,
            "--output_dir",
        ],
        "run_intermediate.py": ["run_intermediate.py", "--tasks", "mnli", *common, *few, *step, "--output_dir"],
        "run_mlm.py": ["run_mlm.py", "--text_languages", "en", *common, *few, *step, "--output_dir"],
        "run_retrieval.py": [
            "run_retrieval.py",
            "--tasks",
            "tatoeba",
            "--languages",
            "qaa",
            "--max_eval_samples",
            "64",
            *common,
            "--output_dir",
        ],
    }
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    with tempfile.TemporaryDirectory() as folder:
        for run in range(args.runs):
            for name, command in commands.items():
                start = time.perf_counter()
                done = subprocess.run(
                    [sys.executable, *command, f"{folder}/{name}{run}"], capture_output=True, text=True
                )
                if done.returncode:
                    sys.exit(f"{name} failed:\n{done.stderr[-2000:]}")
                seconds[name].append(time.perf_counter() - start)
    plain = statistics.median(seconds["plain Trainer"])
    for name, times in seconds.items():
        median = statistics.median(times)
        print(
            f"{name:20s} median {median:6.2f} s  (min {min(times):.2f}, max {max(times):.2f}, n {len(times)})  x "
            f"{median / plain:.2f}"
        )


if __name__ == "__main__":
    main()
