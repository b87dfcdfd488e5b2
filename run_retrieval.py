"""Sentence retrieval and bitext mining with a checkpoint as it is, every layer from one pass; or trains a retriever (--do_train).

    python run_retrieval.py --model_name_or_path FacebookAI/xlm-roberta-large --tasks tatoeba --layer 14 --output_dir runs/none/seed0
    python run_retrieval.py --model_name_or_path runs/mnli/seed0 --data_root data/world --tasks tatoeba bucc --layer all \\
        --report_layer 2 --output_dir runs/mnli/seed0
    python run_retrieval.py --do_train --train_tasks squad_dual --model_name_or_path FacebookAI/xlm-roberta-base \\
        --per_device_train_batch_size 64 --output_dir runs/squad_dual/seed0
"""

import time
from dataclasses import replace
from pathlib import Path

from xstilts.arguments import (
    DataArguments,
    DualEncoderArguments,
    FamilyArguments,
    ModelArguments,
    RetrievalArguments,
    RunArguments,
    command,
    parse,
    told,
    unknown,
)


def main(argv: list[str]) -> None:
    kinds = (RetrievalArguments, DualEncoderArguments, FamilyArguments, ModelArguments, DataArguments, RunArguments)
    (how, dual, family, model_args, data_args, run), rest = parse(argv, "run_retrieval.py", __doc__.splitlines()[0], *kinds)
    if rest and not dual.do_train:
        raise unknown(rest[0], rest.known)

    from tasks import get_task, list_tasks
    from xstilts.errors import UserError

    if run.list_tasks:
        from tasks.pairs import list_pairs

        return print(list_tasks(data_args.data_root, data_args.splits, data_args.benchmark), list_pairs(), sep="\n\n")
    if dual.do_train:
        if how.tasks or how.select_on or not (how.layer == "last" or how.layer.isdecimal()):
            raise UserError("--do_train trains one layer's vectors (--layer k, or the last one's) and measures nothing: give --tasks "
                            "and --layer all afterwards, with the trained folder as --model_name_or_path.")
        if unused := told(how).keys() - {"tasks", "select_on", "layer", "pooling", "include_special", "query_prompt", "passage_prompt"}:
            raise UserError(f"--{min(unused)} is for measuring: give it with --tasks, without --do_train.")
        if not how.include_special:
            raise UserError("--no_include_special is for measuring: what --do_train trains counts <s> and </s>.")
        from xstilts import dual_encoder

        prompts = {"query": how.query_prompt, "passage": how.passage_prompt}
        return dual_encoder.train(dual, family, how.layer, how.pooling, prompts, model_args, data_args, run, rest)
    if unused := told(dual, family):
        raise UserError(f"--{next(iter(unused))} goes with --do_train.")
    if not how.tasks and not how.export_sentence_transformers:
        raise UserError("--tasks is missing: of tatoeba, bucc, lareqa, mewslix.")
    tasks = [get_task(name, data_args.benchmark) for name in dict.fromkeys(how.tasks)]
    for task in tasks:
        if task.auto_class:
            raise UserError(f"--tasks {task.name} needs training; use run_target.py --task {task.name}.")
    if how.layer not in ("all", "last") and not how.layer.isdecimal():
        raise UserError(f"--layer {how.layer}: give a number, 'all' or 'last'.")
    for flag in ("report_layer", "select_on"):
        if getattr(how, flag) is not None and how.layer != "all":
            raise UserError(f"--{flag} goes with --layer all.")
    if how.select_on is not None and how.report_layer is not None:
        raise UserError("--select_on chooses the headline layer, --report_layer names it: give one of them.")
    if not how.include_special and how.pooling != "mean":
        raise UserError(f"--no_include_special is about the mean; --pooling {how.pooling} takes <s> itself.")
    if not how.include_special and how.export_sentence_transformers:
        raise UserError("--export_sentence_transformers cannot leave out <s> and </s>: SentenceTransformer's mean counts them.")

    from xstilts.processes import TEAM

    with TEAM.gather() as first:  # under torchrun or accelerate launch the other processes only help to embed
        if first:
            measure_tasks(tasks, how, model_args, data_args, run, TEAM.size)


def measure_tasks(tasks: list, how: RetrievalArguments, model_args: ModelArguments, data_args: DataArguments, run: RunArguments,
                  world_size: int) -> None:
    """Every task's results.json in a folder of its own, and the exported sentence encoder, if asked for."""
    from xstilts import cards, folders, heads, measure, results, runner
    from xstilts.embedding import Encoder

    # ---- everything that can be wrong is found before the first sentence is embedded -------------------------------
    name = heads.check_checkpoint(model_args.model_name_or_path)
    runner.prepare(run, needs_output=bool(tasks))
    runner.logger.info("World size: %d", world_size)
    saved, of_task = measure.saved_prompts(name, model_args.model_revision), {}
    for task in tasks:
        asked, notes = measure.prompted(task, how, saved)
        settings = {"model": name, **folders.parent(name, model_args.model_revision), **vars(asked), **vars(data_args)}
        for key in ("cache_dir", "tasks", "export_sentence_transformers"):
            settings.pop(key)
        of_task[task.name] = asked, settings, notes
    tasks = sorted(tasks, key=lambda task: task.name)  # two processes claim the folders in one order, or each would wait for the other
    cells = [(task, replace(run, output_dir=str(Path(run.output_dir, task.name)), push_to_hub=False)) for task in tasks]
    for _, cell in cells:
        runner.prepare(cell)
    cells = [(task, cell) for task, cell in cells if not folders.finished(cell, of_task[task.name][1])]
    cards.check_push(run)
    if how.export_sentence_transformers:
        from xstilts.dual_encoder import export
        from xstilts.embedding import check_new_folder

        check_new_folder(how.export_sentence_transformers)
    if not cells and not how.export_sentence_transformers:
        return cards.push_measured(tasks, run)
    cells = [(task, cell, runner.open_rows(data_args)) for task, cell in cells]
    length = data_args.max_seq_length or 512
    encoder = Encoder.load(name, layers=int(how.layer) if how.layer.isdecimal() else how.layer, pooling=how.pooling,
                           include_special=how.include_special, max_length=length, dtype=how.dtype, revision=model_args.model_revision)
    headline = measure.Headline(how, data_args, encoder.layers)
    work = []
    for task, cell, rows in cells:
        languages, notes = headline.reported(task, rows, data_args.languages)
        examples = measure.read(task, rows, languages, how, data_args.max_eval_samples)
        measure.check_index(task, examples, how, encoder.model.config.hidden_size)
        work.append((task, cell, rows, examples, notes + measure.smaller_pools(task, examples, data_args.max_eval_samples)))

    # ---- the headline layer, then one task after the other ---------------------------------------------------------
    embed = measure.embedder(encoder, how.cache_dir)
    layer = headline.choose(embed)
    if how.export_sentence_transformers:
        export(name, layer, how.pooling, how.export_sentence_transformers, length, model_args.model_revision)
    for task, cell, rows, examples, notes in work:
        start, (asked, settings, prompt_notes) = time.time(), of_task[task.name]
        with folders.failures(cell.output_dir):
            found = measure.MEASURES[task.form](task, examples, embed, asked, layer)
            found.write(Path(cell.output_dir), task)
        scores = found.layers[layer]
        record = {
            "phase": "retrieval", "task": task.name, "form": task.form, "arm": run.arm or "none", "seed": run.seed, "model": name,
            "parents": cards.chain(name), "metric": task.metric, "chance": found.chance, "at_chance": False, "dev": {},
            "scores": scores, "n": found.n, "layer": layer, "pooling": how.pooling, "settings": settings,
            "data": folders.unique(rows.records + headline.records), "seconds": round(time.time() - start, 1),
            "notes": headline.notes + notes + prompt_notes + found.notes,
        }
        if len(encoder.layers) > 1:
            record["layers"] = {str(k): by_language for k, by_language in found.layers.items()}
        if found.measures:
            record["measures"] = found.measured()
        results.write_text(Path(cell.output_dir, "run.json"), folders.as_json(settings))
        cards.finish(cell, record, checkpoint=False)
        for language, by_metric in scores.items():
            runner.logger.info("%s %s layer %s: %s", task.name, language, layer, measure.show(by_metric))
        runner.logger.info("%s mean: %s", task.name, measure.show(results.mean(scores) | found.measures.get(layer, {})))
    cards.push_measured(tasks, run)


if __name__ == "__main__":
    command(main)
