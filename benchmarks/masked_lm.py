"""A step of masked LM with the logits of the masked tokens alone, beside one with the logits of all tokens.

    python benchmarks/masked_lm.py --model_name_or_path MODEL

Prints CPU seconds and peak memory of forward and backward on random tokens, each way in a process of its own.
"""

import argparse
import resource
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


def measure(name: str, rows: int, tokens: int, steps: int, alone: bool) -> None:
    import torch

    from xstilts.checkpoint import heads
    from xstilts.train.masked import masked_tokens_alone
    from xstilts.train.trainers import token_mean

    torch.manual_seed(0)
    model = heads.masked_lm(name)
    heads.freeze_embeddings(model)
    torch.manual_seed(1)
    ids = torch.randint(5, model.config.vocab_size, (rows, tokens))
    labels = torch.where(torch.rand(ids.shape) < 0.15, ids, -100)
    seconds = []
    for _ in range(steps):
        start = time.process_time()
        with masked_tokens_alone(model, labels if alone else None):
            logits = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
        loss = token_mean({"logits": logits}, labels)
        loss.backward()
        seconds.append(time.process_time() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # KiB on Linux
    way = "masked tokens alone" if alone else "all tokens"
    print(f"{way}: {min(seconds):.2f} s a step, peak {peak:.1f} GiB, loss {loss.item():.5f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model_name_or_path", required=True)
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--alone", choices=("yes", "no"), help="measure one way in this process")
    args = parser.parse_args()
    if args.alone:
        measure(args.model_name_or_path, args.rows, args.tokens, args.steps, args.alone == "yes")
        return
    for alone in ("no", "yes"):
        subprocess.run([sys.executable, __file__, *sys.argv[1:], "--alone", alone], check=True)


if __name__ == "__main__":
    main()
