"""Our Tatoeba figures beside mteb's published ones, language by language; exits with 1 if any differs.

    python run_retrieval.py --tasks tatoeba --query_side foreign --layer last --pooling mean --data_root ROWS \\
        --model_name_or_path sentence-transformers/all-MiniLM-L6-v2 --output_dir runs/minilm
    python benchmarks/mteb_parity.py runs/minilm/tatoeba/results.json Tatoeba.json

Tatoeba.json is the model's file in github.com/embeddings-benchmark/results. mteb lets the foreign sentences ask.
"""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tasks.languages import tatoeba_code  # noqa: E402


def main(ours: str, published: str) -> int:
    record = json.loads(Path(ours).read_text(encoding="utf-8"))
    if record["settings"]["query_side"] != "foreign":
        sys.exit(f"{ours} was made with --query_side {record['settings']['query_side']}; mteb's figures need foreign.")
    theirs = {row["hf_subset"]: row for row in json.loads(Path(published).read_text(encoding="utf-8"))["scores"]["test"]}
    compared, differing = 0, 0
    for language, scores in record["scores"].items():
        row = theirs.get(f"{tatoeba_code(language)}-eng")
        if row is None:
            print(f"{language}: not among the published ones")
            continue
        compared += 1
        pairs = {metric: (scores[metric], 100 * row[metric]) for metric in ("accuracy", "f1")}
        if any(abs(a - b) > 1e-9 for a, b in pairs.values()):
            differing += 1
            print(f"{language}: " + ", ".join(f"{metric} {a} here, {b} published" for metric, (a, b) in pairs.items()))
    print(f"{compared} languages compared, {differing} differ in accuracy or F1 by more than 1e-9")
    return int(differing > 0)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    sys.exit(main(*sys.argv[1:]))
