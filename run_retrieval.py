"""Sentence retrieval and bitext mining with a checkpoint, all layers in one pass.

    python run_retrieval.py --model_name_or_path FacebookAI/xlm-roberta-large --tasks tatoeba --layer 14 \\
        --output_dir runs/none/seed0
    python run_retrieval.py --model_name_or_path runs/mnli/seed0 --data_root data/world --tasks tatoeba bucc \\
        --layer all --report_layer 2 --output_dir runs/mnli/seed0
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from xstilts.cli.arguments import (
    DataArguments,
    DualEncoderArguments,
    FamilyArguments,
    MeasurementArguments,
    ModelArguments,
    RetrievalArguments,
)
from xstilts.cli.parsing import parse
from xstilts.cli.words import unexpected_argument
from xstilts.run.endings import command

if TYPE_CHECKING:
    from tasks.base import Task
    from xstilts.retrieve.encoder_folder import EncoderFolder


def main(argv: list[str]) -> None:
    """Check the arguments, then run. Raise UserError for the first one that is wrong."""
    training = (DualEncoderArguments, FamilyArguments)  # --do_train, see `xstilts.train.alias`
    kinds = (RetrievalArguments, *training, ModelArguments, DataArguments, MeasurementArguments)
    parsed, rest = parse(argv, "run_retrieval.py", __doc__.splitlines()[0], *kinds)
    retrieval, dual, family, model_args, data_args, run_args = parsed
    if rest and not dual.do_train:
        raise unexpected_argument(rest[0], rest.known)

    from tasks import list_tasks
    from xstilts.checkpoint.config import check_attention, check_checkpoint
    from xstilts.cli import unused
    from xstilts.retrieve import encoder_folder, export, prompts
    from xstilts.run import inputs

    if run_args.list_tasks:
        return print(list_tasks(data_args.data_root, data_args.splits, data_args.benchmark))
    if dual.do_train:
        return train(parsed, rest)
    unused.check_measurement(dual, family, model_args)
    tasks = inputs.measured_tasks(retrieval, data_args.benchmark)
    if not tasks:
        unused.check_export(retrieval, data_args, run_args)
    name = check_checkpoint(model_args.model_name_or_path)
    check_attention(model_args.attn_implementation, head=False)
    inputs.check_cells(tasks, name, run_args, data_args)
    export.check_new_folder(retrieval.export_sentence_transformers)

    own = encoder_folder.settle(retrieval, name, model_args.model_revision)
    texts = prompts.resolve(dual.query_prompt, dual.passage_prompt, name, model_args.model_revision)
    prompts.check_matrix(own, texts, dual, run_args)
    measure(tasks, own, texts, parsed)  # imports torch, which takes seconds


def measure(tasks: list[Task], own: EncoderFolder, prompts: dict[str, str], parsed: list[Any]) -> None:
    """Write each task's results.json into its own folder; export the sentence encoder, if asked for."""
    retrieval, _, _, model_args, data_args, run_args = parsed
    from xstilts.retrieve import cells, export, together
    from xstilts.retrieve.headline import Headline
    from xstilts.retrieve.measure import embedder
    from xstilts.run import card, processes
    from xstilts.train import runner

    together.meet()
    runner.prepare(run_args)
    runner.logger.info("World size: %d", processes.world_size())
    settings = cells.settings_of(retrieval, model_args, data_args, prompts)
    folder = export.to_write(retrieval.export_sentence_transformers, settings)
    with cells.open_runs(tasks, settings, run_args) as opened, ExitStack() as stack:
        if processes.is_first():
            card.check_push(run_args)
        if opened or folder:
            encoder = cells.encoder_to_measure(retrieval, model_args, data_args)
            headline = Headline(retrieval, data_args, encoder.layers)
            work = cells.read(opened, headline, retrieval, model_args, data_args, encoder, own)

            # ---- all ranks embed, rank 0 searches -------------------------------------------------------------------
            cache_dir = stack.enter_context(together.shared_cache(retrieval.cache_dir, run_args.output_dir))
            if processes.world_size() > 1:
                texts = [(cell.task, cell.examples) for cell in work]
                together.embed_all(encoder, cache_dir, prompts, headline, texts, retrieval)
            if not processes.is_first():
                return
            embed = embedder(encoder, cache_dir, prompts)
            layer = headline.choose(embed)
            if folder:
                export.export(encoder, layer, folder, prompts, settings, headline.records)
            for cell in work:
                cells.measure_cell(cell, embed, layer, encoder, headline, retrieval)
    if processes.is_first():
        card.push_measured(tasks, run_args)


def train(parsed: list[Any], rest: list[str]) -> None:
    """Train a dual encoder, as run_intermediate.py does: the alias --do_train, for one release."""
    retrieval, dual, family, model_args, data_args, run_args = parsed
    from xstilts.train import alias

    alias.check(dual, family, retrieval, model_args, data_args, run_args)

    from xstilts.retrieve.neighbours import nearest_by_cosine
    from xstilts.train import dual_encoder

    dual_encoder.train(dual, family, retrieval, model_args, data_args, run_args, rest, nearest_by_cosine)


if __name__ == "__main__":
    command(main)
