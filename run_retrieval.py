"""Sentence retrieval and bitext mining with a checkpoint as it is: no training, every layer from one pass.

    python run_retrieval.py --model_name_or_path FacebookAI/xlm-roberta-large --tasks tatoeba --layer 14 --output_dir runs/none/seed0
    python run_retrieval.py --model_name_or_path runs/mnli/seed0 --data_root data/world --tasks tatoeba bucc --layer all \\
        --report_layer 2 --output_dir runs/mnli/seed0
"""

import time
from dataclasses import dataclass, field, replace
from pathlib import Path

from xstilts.arguments import DataArguments, ModelArguments, RunArguments, command, parse


@dataclass
class RetrievalArguments:
    tasks: list[str] = field(default_factory=list, metadata={"help": "tatoeba, bucc, or both."})
    layer: str = field(default="last", metadata={"help": "k (hidden_states[k], 0 = embeddings), 'all' or 'last'."})
    report_layer: int | None = field(default=None, metadata={"help": "With --layer all: the headline layer, fixed before looking; "
                                                                     "default: the last."})
    pooling: str = field(default="mean", metadata={"help": "Tokens to sentence vector.", "choices": ["mean", "cls"]})
    query_side: str = field(default="english", metadata={"help": "Tatoeba: whose sentences look for the other's (XTREME: english).",
                                                         "choices": ["english", "foreign"]})
    dtype: str = field(default="fp32", metadata={"help": "Precision of the encoder.", "choices": ["fp32", "bf16"]})
    cache_dir: str | None = field(default=None, metadata={"help": "Keep and reuse vectors here."})


def main(argv: list[str]) -> None:
    kinds = (RetrievalArguments, ModelArguments, DataArguments, RunArguments)
    (how, model_args, data_args, run), _ = parse(argv, "run_retrieval.py", __doc__.splitlines()[0], *kinds, training=False)

    from tasks import get_task, list_tasks
    from xstilts.errors import UserError

    if run.list_tasks:
        return print(list_tasks(data_args.data_root, data_args.splits, data_args.benchmark))
    if not how.tasks:
        raise UserError("--tasks is missing: tatoeba, bucc, or both.")
    tasks = [get_task(name, data_args.benchmark) for name in dict.fromkeys(how.tasks)]
    for task in tasks:
        if task.form not in ("retrieval", "mining"):
            raise UserError(f"--tasks {task.name} needs training; use run_target.py --task {task.name}.")
    if how.layer not in ("all", "last") and not how.layer.isdigit():
        raise UserError(f"--layer {how.layer}: give a number, 'all' or 'last'.")
    if how.report_layer is not None and how.layer != "all":
        raise UserError("--report_layer goes with --layer all.")

    from xstilts import cards, heads, measure, results, runner, submission
    from xstilts.embedding import Encoder

    # ---- everything that can be wrong is found before the first sentence is embedded -------------------------------
    name = heads.check_checkpoint(model_args.model_name_or_path)
    runner.prepare(run)
    settings = {"model": name, **vars(how), **vars(data_args)}
    settings.pop("cache_dir"), settings.pop("tasks")
    cells = [(task, replace(run, output_dir=str(Path(run.output_dir, task.name)))) for task in tasks]
    cells = [(task, cell) for task, cell in cells if not runner.finished(cell, settings)]
    cards.check_push(run)
    if not cells:
        return
    encoder = Encoder.load(name, layers=int(how.layer) if how.layer.isdigit() else how.layer, pooling=how.pooling,
                           max_length=data_args.max_seq_length or 512, dtype=how.dtype)
    layer = encoder.layers[-1] if how.report_layer is None else how.report_layer
    if layer not in encoder.layers:
        raise UserError(f"--report_layer {layer}: the model has layers 0 to {encoder.layers[-1]}.")

    # ---- one task after the other ----------------------------------------------------------------------------------
    for task, cell in cells:
        start = time.time()
        rows = runner.open_rows(data_args)
        languages = runner.choose_languages(task, rows, data_args.languages)
        run_task = measure.retrieve if task.form == "retrieval" else measure.mine
        found = run_task(task, encoder, rows, languages, how, data_args.max_eval_samples)
        for language, (predictions, examples) in found.predictions[layer].items():
            submission.write_lines(Path(cell.output_dir, "predictions"), task, language, task.lines(predictions, examples))
        scores = found.layers[layer]
        record = {
            "phase": "retrieval", "task": task.name, "form": task.form, "arm": run.arm or "none", "seed": run.seed, "model": name,
            "parents": cards.chain(name), "metric": task.metric, "chance": found.chance, "at_chance": False, "dev": {},
            "scores": scores, "n": found.n, "layer": layer, "pooling": how.pooling, "settings": settings,
            "data": runner.unique(rows.records), "seconds": round(time.time() - start, 1), "notes": found.notes,
        }
        if len(encoder.layers) > 1:
            record["layers"] = {str(k): by_language for k, by_language in found.layers.items()}
        results.write_text(Path(cell.output_dir, "run.json"), runner.as_json(settings))
        cards.finish(cell, record, [task], checkpoint=False)
        for language, by_metric in scores.items():
            runner.logger.info("%s %s layer %s: %s", task.name, language, layer, measure.show(by_metric))
        runner.logger.info("%s mean: %s", task.name, measure.show(results.mean(scores)))


if __name__ == "__main__":
    command(main)
