"""Sentence retrieval and bitext mining with a checkpoint, all layers in one pass.

    python run_retrieval.py --model_name_or_path FacebookAI/xlm-roberta-large --tasks tatoeba --layer 14 \\
        --output_dir runs/none/seed0
    python run_retrieval.py --model_name_or_path runs/mnli/seed0 --data_root data/world --tasks tatoeba bucc \\
        --layer all --report_layer 2 --output_dir runs/mnli/seed0
"""

import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from xstilts.cli.arguments import (
    DataArguments,
    DualEncoderArguments,
    FamilyArguments,
    MeasurementArguments,
    ModelArguments,
    RetrievalArguments,
    refuse_unused,
)
from xstilts.cli.parsing import parse
from xstilts.cli.words import unexpected_argument
from xstilts.run.endings import command

NOT_TRAINED = "run_retrieval.py only measures; run_intermediate.py --tasks trains"


def main(argv: list[str]) -> None:
    kinds = (
        RetrievalArguments,
        DualEncoderArguments,
        FamilyArguments,
        ModelArguments,
        DataArguments,
        MeasurementArguments,
    )
    (retrieval, dual, family, model_args, data_args, run_args), rest = parse(
        argv, "run_retrieval.py", __doc__.splitlines()[0], *kinds
    )
    if rest and not dual.do_train:
        raise unexpected_argument(rest[0], rest.known)

    from tasks import list_tasks
    from xstilts.checkpoint.config import check_attention, check_checkpoint
    from xstilts.cli import unused
    from xstilts.retrieve import prompts
    from xstilts.retrieve.export import check_new_folder
    from xstilts.run import inputs, outputs, places

    if run_args.list_tasks:
        return print(list_tasks(data_args.data_root, data_args.splits, data_args.benchmark))
    if dual.do_train:
        return train_as_before(retrieval, dual, family, model_args, data_args, run_args, rest)
    for arguments in (dual, family):
        refuse_unused(NOT_TRAINED, arguments, but=["query_prompt", "passage_prompt"])
    refuse_unused(NOT_TRAINED, model_args, only=["freeze_embeddings"])
    tasks = inputs.measured_tasks(retrieval, data_args.benchmark)
    if not tasks:
        unused.check_export(retrieval, data_args, run_args)
    name = check_checkpoint(model_args.model_name_or_path)
    check_attention(model_args.attn_implementation)
    for task in tasks:
        inputs.check_unseen(task, name)
    for task in tasks or [None]:
        places.settle_measurement(
            run_args, name, Path(run_args.output_dir, task.name) if task and run_args.output_dir else None
        )
    inputs.check_run(run_args, needs_output=bool(tasks), own=False)
    for task in tasks:
        outputs.refuse_occupied(Path(run_args.output_dir, task.name))
    if retrieval.export_sentence_transformers:
        check_new_folder(retrieval.export_sentence_transformers)
    rows = inputs.open_rows(data_args)
    for task in tasks if data_args.languages else ():
        inputs.choose_languages(task, rows, data_args.languages)

    # imports torch, which takes seconds
    texts_before = prompts.resolve(
        dual.query_prompt, dual.passage_prompt, model_args.model_name_or_path, model_args.model_revision
    )
    measure_tasks(tasks, retrieval, texts_before, model_args, data_args, run_args)


def train_as_before(
    retrieval: RetrievalArguments,
    dual: DualEncoderArguments,
    family: FamilyArguments,
    model_args: ModelArguments,
    data_args: DataArguments,
    run_args: MeasurementArguments,
    rest: list[str],
) -> None:
    """Train a dual encoder, as run_intermediate.py does: the alias --do_train, for one release."""
    from xstilts.checkpoint.config import check_attention, check_checkpoint
    from xstilts.run import inputs, places
    from xstilts.train import alias

    alias.check(dual, family, retrieval, data_args, run_args)
    check_checkpoint(model_args.model_name_or_path)
    check_attention(model_args.attn_implementation)
    places.settle_training(run_args)
    inputs.check_run(run_args)
    inputs.open_rows(data_args, family.translations)

    from xstilts.retrieve.neighbours import nearest_by_cosine
    from xstilts.train import dual_encoder

    dual_encoder.train(dual, family, retrieval, model_args, data_args, run_args, rest, nearest_by_cosine)


def measure_tasks(
    tasks: list,
    retrieval: RetrievalArguments,
    prompts: dict[str, str],
    model_args: ModelArguments,
    data_args: DataArguments,
    run_args: MeasurementArguments,
) -> None:
    """Write each task's results.json into its own folder; export the sentence encoder, if asked for."""
    from xstilts.cli import unused
    from xstilts.retrieve import measure, pools, together
    from xstilts.retrieve.embedding import Encoder
    from xstilts.retrieve.headline import Headline
    from xstilts.run import card, inputs, processes, results
    from xstilts.run.lifecycle import Run
    from xstilts.run.record import Record
    from xstilts.run.settings import parent
    from xstilts.train import runner

    # ---- fail fast: validate before embedding ---------------------------------------------------------------------
    together.meet()
    name = model_args.model_name_or_path
    runner.prepare(run_args)
    runner.logger.info("World size: %d", processes.world_size())
    settings = {"model": name, **parent(name, model_args.model_revision), **vars(retrieval), **vars(data_args)}
    settings |= {key: value for key, value in model_args.settings().items() if key == "attn_implementation"}
    for key in ("cache_dir", "tasks", "export_sentence_transformers"):
        settings.pop(key)
    if retrieval.pairs == "english":
        settings.pop("pairs")  # older versions lack it
    settings |= {f"{side}_prompt": text for side, text in prompts.items() if text}
    # in a fixed order: with different orders two processes would wait for each other's locks
    cells = [
        (
            task,
            replace(
                run_args,
                output_dir=str(Path(run_args.output_dir, task.name)),
                push_to_hub=False,
                hub_model_id=None,
                hub_private_repo=False,
            ),
        )
        for task in tasks
    ]
    for _, cell in cells:
        inputs.check_run(cell)
    with ExitStack() as stack:
        opened = [(task, cell, stack.enter_context(Run.open(cell, settings, trains=False))) for task, cell in cells]
        opened = [(task, cell, run) for task, cell, run in opened if not run.finished]
        if processes.is_first():
            card.check_push(run_args)
        if retrieval.export_sentence_transformers:
            from xstilts.retrieve.export import export
        if not opened and not retrieval.export_sentence_transformers:
            return card.push_measured(tasks, run_args) if processes.is_first() else None
        length = data_args.max_seq_length or 512
        encoder = Encoder.load(
            name,
            layers=int(retrieval.layer) if retrieval.layer.isdecimal() else retrieval.layer,
            pooling=retrieval.pooling,
            include_special=retrieval.include_special,
            max_length=length,
            dtype=retrieval.dtype,
            revision=model_args.model_revision,
            attention=model_args.attn_implementation,
        )
        headline, work = Headline(retrieval, data_args, encoder.layers), []
        for task, cell, run in opened:
            rows = inputs.open_rows(data_args)
            languages, notes = headline.reported(task, rows, data_args.languages)
            notes += unused.of_model(model_args) + unused.of_measurement(task, retrieval, data_args)
            examples = pools.read(task, rows, languages, retrieval, data_args.max_eval_samples)
            pools.check_index(task, examples, retrieval, encoder.model.config.hidden_size)
            work.append(
                (
                    task,
                    cell,
                    run,
                    rows,
                    examples,
                    notes + pools.smaller_pools(task, examples, data_args.max_eval_samples),
                )
            )

        # ---- the headline layer, then one task after the other -----------------------------------------------------
        cache_dir = stack.enter_context(together.shared_cache(retrieval.cache_dir, run_args.output_dir))
        if processes.world_size() > 1:
            together.embed_all(
                encoder, cache_dir, prompts, headline, [(task, examples) for task, *_, examples, _ in work], retrieval
            )
        if not processes.is_first():
            return
        embed = measure.embedder(encoder, cache_dir, prompts)
        layer = headline.choose(embed)
        if retrieval.export_sentence_transformers:
            export(
                name,
                layer,
                retrieval.pooling,
                retrieval.export_sentence_transformers,
                length,
                model_args.model_revision,
                prompts,
            )
        for task, cell, run, rows, examples, notes in work:
            start = time.time()
            unused.log(notes, rows)
            run.begin()
            measured = measure.measure(task, examples, embed, retrieval, layer)
            measured.write(run.folder, task)
            scores = measured.layers[layer]
            run.finish(
                Record.new(
                    cell,
                    phase="retrieval",
                    task=task.name,
                    form=task.form,
                    model=name,
                    metric=task.metric,
                    chance=measured.chance,
                    scores=scores,
                    n=measured.n,
                    layer=layer,
                    pooling=retrieval.pooling,
                    layers=measured.layers if len(encoder.layers) > 1 else None,
                    settings=settings,
                    data=rows.records + headline.records,
                    seconds=time.time() - start,
                    measures=measured.measured() if measured.measures else None,
                    notes=headline.notes + notes + measured.notes,
                ),
                checkpoint=False,
            )
            for language, by_metric in scores.items():
                runner.logger.info("%s %s layer %s: %s", task.name, language, layer, measure.show(by_metric))
            runner.logger.info(
                "%s mean: %s", task.name, measure.show(results.mean(scores) | measured.measures.get(layer, {}))
            )
    card.push_measured(tasks, run_args)


if __name__ == "__main__":
    command(main)
