"""Fixed cost of a run: our run_target.py beside Hugging Face's own run_glue.py, one optimiser step each.

    python benchmarks/startup.py --model FOLDER --data_root data/world --peer PATH/run_glue.py [--runs 5]

`--peer` is examples/pytorch/text-classification/run_glue.py of a transformers checkout of the installed version; it is
not part of this project. Both start a process, load model, tokenizer and the same sentence pairs, featurise, train one
step, score the same dev rows and save. Runs alternate; medians and their ratio are printed.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--data_root", default="data/world")
    parser.add_argument("--peer", help="run_glue.py; without it only ours is timed")
    parser.add_argument("--runs", type=int, default=5)
    args = parser.parse_args()
    seconds: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        common = ["--max_train_samples", "64", "--max_eval_samples", "64", "--max_steps", "1", "--max_seq_length", "128",
                  "--per_device_train_batch_size", "32", "--report_to", "none", "--use_cpu", "True"]
        ours = [sys.executable, "run_target.py", "--task", "xnli", "--languages", "en", "--data_root", args.data_root,
                "--model_name_or_path", args.model, *common]
        commands = {"run_target.py": ours}
        if args.peer:
            import pyarrow.parquet as parquet

            for split in ("train", "validation"):
                rows = parquet.read_table(Path(args.data_root, "facebook__xnli", "en", f"{split}.parquet"))
                rows.to_pandas().to_json(Path(folder, f"{split}.json"), orient="records", lines=True)
            commands["run_glue.py"] = [
                sys.executable, args.peer, "--model_name_or_path", args.model, "--train_file", f"{folder}/train.json",
                "--validation_file", f"{folder}/validation.json", "--do_train", "--do_eval", "--save_strategy", "no",
                "--ignore_mismatched_sizes", *common,
            ]
        for run in range(args.runs):
            for name, command in commands.items():
                start = time.perf_counter()
                subprocess.run([*command, "--output_dir", f"{folder}/{name}{run}"], check=True, capture_output=True)
                seconds.setdefault(name, []).append(time.perf_counter() - start)
    for name, times in seconds.items():
        print(f"{name:15s} median {statistics.median(times):6.2f} s  (min {min(times):.2f}, max {max(times):.2f}, n {len(times)})")
    if len(seconds) == 2:
        ratio = statistics.median(seconds["run_target.py"]) / statistics.median(seconds["run_glue.py"])
        print(f"ours / run_glue.py: {ratio:.2f}")


if __name__ == "__main__":
    main()
