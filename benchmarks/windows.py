"""What the overlap of windows changes: a trained question answering checkpoint scored by each rule, its weights the
same throughout.

    python run_target.py --task xquad --model_name_or_path MODEL --data_root ROWS --output_dir QA
    python benchmarks/windows.py --model QA --data_root ROWS --task mlqa --splits mlqa.test=validation \\
        --lengths 384 256 160

Rules: how many tokens two windows share that have room for n tokens of the context. Ours (`tasks.span.overlap`); a
quarter of the whole length, which ours was once; half of n; n - 128, which is XTREME's and jiant's step of 128
(without their rule that an answer starts in the window with most of the context around it). The rules differ only for
contexts that do not fit into one window, so only their questions are scored. Printed: their number, windows a
question, how many questions have a window that holds their (first) answer whole, the scores, and the CPU time of the
model.
"""

import argparse
import tempfile
import time

RULES = {
    "n - 128": lambda n, length: max(0, n - 128),
    "half of n": lambda n, length: min(128, n // 2),
    "length / 4": lambda n, length: min(128, length // 4, n - 1),
}


def features_of(task, examples, tokenizer, length):
    """The features a run scores, and the share of the questions whose answer stands whole in one of them, in
    percent."""
    from datasets import Dataset

    rows, numbers = examples[:], list(range(len(examples)))
    trained, plain = (task.featurize(rows, numbers, tokenizer, length, train) for train in (True, False))
    whole = {row for row, label in zip(trained["example"], trained["labels"], strict=True) if label != [0, 0]}
    return Dataset.from_dict(plain | {"length": task.lengths(plain["input_ids"])}), 100 * len(whole) / len(examples)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--data_root", required=True)
    parser.add_argument("--task", default="xquad")
    parser.add_argument("--splits", nargs="*", default=[])
    parser.add_argument("--language", default="en")
    parser.add_argument("--lengths", nargs="+", type=int, default=[384, 256, 160])
    parser.add_argument("--rows", type=int)
    parser.add_argument("--batch_size", type=int, default=32)
    args = parser.parse_args()

    import datasets
    import transformers

    from tasks import get_task, span
    from tasks.rows import Rows
    from xstilts.checkpoint.tokenizer import load_tokenizer
    from xstilts.run import inputs
    from xstilts.train import trainers

    datasets.disable_progress_bars()
    transformers.utils.logging.set_verbosity_error()
    task, tokenizer, ours = get_task(args.task), load_tokenizer(args.model), span.overlap
    every = inputs.first(task.load("test", args.language, Rows(args.data_root, args.splits)), args.rows)
    with tempfile.TemporaryDirectory() as folder:
        options = transformers.TrainingArguments(
            folder, per_device_eval_batch_size=args.batch_size, report_to="none", disable_tqdm=True
        )
        model = transformers.AutoModelForQuestionAnswering.from_pretrained(args.model, dtype="float32")
        trainer = trainers.TaskTrainer(
            model=model, args=options, task=task, data_collator=task.collator(tokenizer), processing_class=tokenizer
        )
        for length in args.lengths:
            span.overlap = ours
            numbers = features_of(task, every, tokenizer, length)[0]["example"][:]
            examples = every.select(
                sorted({number for number, next_one in zip(numbers, numbers[1:], strict=False) if number == next_one})
            )
            for name in ("ours", *RULES):
                span.overlap = ours if name == "ours" else lambda n, name=name, length=length: RULES[name](n, length)
                features, whole = features_of(task, examples, tokenizer, length)
                start = time.process_time()
                logits = trainer.logits(features)
                seconds = time.process_time() - start
                scores = task.score(task.decode(logits, features, examples), examples, args.language)
                print(
                    f"{args.task} {args.language}, {len(examples)} of {len(every)} questions, {length} tokens, "
                    f"overlap {name}: {len(features) / len(examples):.2f} windows a question, answer whole "
                    f"{whole:.1f} %, exact match {scores['exact_match']:.2f}, F1 {scores['f1']:.2f}, {seconds:.0f} s",
                    flush=True,
                )


if __name__ == "__main__":
    main()
