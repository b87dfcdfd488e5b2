"""Featurising: our adapters beside what Hugging Face's example scripts do in their map calls, on the same rows and
flags.

    python benchmarks/featurise.py --model FOLDER --data_root data/world [--rows 2000] [--runs 5]

The peer is the recipe of run_qa.py and run_glue.py with their default flags, restated here: pad to the maximal length,
and for question answering walk each window's tokens from both ends to the answer. Both sides go through `Dataset.map`
into a fresh cache; labels of the windows are asserted equal. Rows a second, medians, and their ratio.
"""

import argparse
import os
import statistics
import tempfile
import time

os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def example_qa(batch, indices, tokenizer, max_length, padding="max_length"):
    """The recipe of run_qa.py's training features."""
    from tasks.span import DOC_STRIDE

    questions = [q.lstrip() for q in batch["question"]]
    stride = DOC_STRIDE if max_length > 2 * DOC_STRIDE else max_length // 4  # run_qa's own stops at so short an input
    encoded = tokenizer(
        questions,
        batch["context"],
        truncation="only_second",
        max_length=max_length,
        padding=padding,
        stride=stride,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
    )
    owner, offsets = encoded.pop("overflow_to_sample_mapping"), encoded.pop("offset_mapping")
    starts, ends = [], []
    for i, offset in enumerate(offsets):
        answers, sequence = batch["answers"][owner[i]], encoded.sequence_ids(i)
        start_char = answers["answer_start"][0]
        end_char = start_char + len(answers["text"][0])
        first = 0
        while sequence[first] != 1:
            first += 1
        last = len(sequence) - 1
        while sequence[last] != 1:
            last -= 1
        if not (offset[first][0] <= start_char and offset[last][1] >= end_char):
            starts.append(0)
            ends.append(0)
            continue
        while first < len(offset) and offset[first][0] <= start_char:
            first += 1
        starts.append(first - 1)
        while offset[last][1] >= end_char:
            last -= 1
        ends.append(last + 1)
    return {**encoded, "start_positions": starts, "end_positions": ends}


def example_pair(batch, indices, tokenizer, max_length, padding="max_length"):
    """The recipe of run_glue.py's features."""
    encoded = tokenizer(batch["text_a"], batch["text_b"], padding=padding, max_length=max_length, truncation=True)
    return {**encoded, "label": batch["label"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--data_root", required=True)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--runs", type=int, default=5)
    args = parser.parse_args()
    os.environ["TOKENIZERS_PARALLELISM"] = "true"
    with tempfile.TemporaryDirectory() as cache:
        os.environ["HF_DATASETS_CACHE"] = cache
        import datasets

        from tasks import get_task
        from tasks.rows import Rows
        from xstilts.checkpoint.tokenizer import load_tokenizer
        from xstilts.run import inputs
        from xstilts.train import featurizing

        datasets.disable_progress_bars()
        tokenizer, rows = load_tokenizer(args.model), Rows(args.data_root)
        for name, split, length, peer in (("squad", "train", 384, example_qa), ("xnli", "dev", 128, example_pair)):
            examples = inputs.first(get_task(name).load(split, "en", rows), args.rows)
            seconds = {"ours": [], "example": []}
            for run in range(args.runs):
                start = time.perf_counter()
                # another length each run: another cache key; datasets would otherwise hand out the first run's
                # features
                ours = featurizing.featurize(get_task(name), examples, tokenizer, length - run, True, name)
                seconds["ours"].append(time.perf_counter() - start)
                start = time.perf_counter()
                theirs = examples.map(
                    peer,
                    batched=True,
                    with_indices=True,
                    remove_columns=examples.column_names,
                    fn_kwargs={"tokenizer": tokenizer, "max_length": length - run},
                )
                seconds["example"].append(time.perf_counter() - start)
                assert len(ours) == len(theirs)
                if name == "squad":
                    pairs = [list(p) for p in zip(theirs["start_positions"], theirs["end_positions"], strict=True)]
                    assert ours["labels"][:] == pairs, "window labels differ"
            median = {side: statistics.median(times) for side, times in seconds.items()}
            speed = {side: len(examples) / median[side] for side in median}
            print(
                f"{name} ({len(examples)} rows, {len(ours)} features, length {length}): ours {speed['ours']:.0f} "
                f"rows/s, example {speed['example']:.0f} rows/s, ratio {speed['ours'] / speed['example']:.2f}"
            )
            start = time.perf_counter()
            featurizing.featurize(get_task(name), examples, tokenizer, length, True, name)
            print(f"{name}: again, from the cache: {time.perf_counter() - start:.2f} s")


if __name__ == "__main__":
    main()
