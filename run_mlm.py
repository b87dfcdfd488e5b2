"""Phase 1: continue masked language modelling of a checkpoint, or train an encoder from scratch.

python run_mlm.py --model_name_or_path FacebookAI/xlm-roberta-base --text_languages en de sw \\
    --output_dir runs/mlm/seed0
python run_mlm.py --config_name recipes/models/xlmr-tiny.json --data_root data/world --output_dir runs/world/model
python run_mlm.py --config recipes/arms/mlm.yaml --model_name_or_path ... --train_languages en de sw \\
    --output_dir runs/mlm/seed0
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from xstilts.cli.arguments import (
    DataArguments,
    FamilyArguments,
    ModelArguments,
    PeftArguments,
    RunArguments,
    TextArguments,
)
from xstilts.cli.defaults import non_defaults
from xstilts.cli.parsing import parse
from xstilts.run.endings import command

if TYPE_CHECKING:
    from tasks.base import Task
    from tasks.rows import Rows


@dataclass
class MlmArguments:
    """The sizes of a model that is trained from scratch."""

    config_name: str | None = field(default=None, metadata={"help": "JSON of a model's sizes: train from scratch."})
    vocab_size: int = field(default=4000, metadata={"help": "Pieces of the tokenizer made with --config_name."})


def main(argv: list[str]) -> None:
    """Check the arguments, then run. Raise UserError for the first one that is wrong."""
    kinds = (MlmArguments, TextArguments, FamilyArguments, PeftArguments, ModelArguments, DataArguments, RunArguments)
    parsed, rest = parse(argv, "run_mlm.py", __doc__.splitlines()[0], *kinds)
    mlm, text_args, family, peft, model_args, data_args, run_args = parsed

    from tasks import get_task, list_tasks
    from xstilts.checkpoint.config import check_attention, check_checkpoint
    from xstilts.cli import unused
    from xstilts.run import inputs
    from xstilts.train import families

    if run_args.list_tasks:
        return print(list_tasks(data_args.data_root, data_args.splits, data_args.benchmark))
    unused.check_text(mlm.config_name, mlm, text_args, peft, model_args, data_args)
    families.check_adapter(peft)
    source = get_task(text_args.text_of, data_args.benchmark) if text_args.text_of else None
    if mlm.config_name:
        inputs.check_sizes(mlm.config_name)
    else:
        check_checkpoint(model_args.model_name_or_path)
        check_attention(model_args.attn_implementation)
    inputs.check_training(run_args)
    rows = inputs.open_rows(data_args, family.translations)
    notes = unused.of_model(model_args, peft) + unused.of_rows(data_args) + unused.of_text(family, text_args, source)

    # imports torch, which takes seconds
    train(source, rows, notes, parsed, rest)


def train(source: Task | None, rows: Rows, notes: list[str], parsed: list[Any], rest: list[str]) -> None:
    """Train on texts, measure the loss on held-out ones, save the checkpoint, write results.json."""
    mlm, text_args, family, peft, model_args, data_args, run_args = parsed
    from tasks.text import Wikipedia
    from xstilts.cli import unused
    from xstilts.run.lifecycle import Run
    from xstilts.run.settings import settings_of
    from xstilts.train import families, featurizing, lora, runner, start, texts

    task, name = Wikipedia(data_args.benchmark), mlm.config_name or model_args.model_name_or_path
    languages = families.text_languages(text_args, family)
    args = runner.begin(run_args, rest, task.defaults, scores=["loss"])
    own = vars(mlm) | vars(text_args) | {"text_languages": languages} | vars(data_args) | non_defaults(family, peft)
    with Run.open(run_args, settings_of(args, name, model_args, **own), rows) as run:
        if run.finished:
            return
        found, more = texts.read_texts(task, source, family, languages, rows, data_args, run_args.seed)
        held_out = texts.read_held_out(task, source, languages, rows, data_args)
        notes += more + (unused.of_translations(family, rows) if source else [])
        model, tokenizer = start.masked_lm(mlm.config_name, mlm.vocab_size, model_args, found, run, notes)
        model = lora.wrap(model, peft)
        length = featurizing.max_length(data_args, task.defaults["max_seq_length"], tokenizer, model.config)
        with args.main_process_first(desc="features"):
            features, cut = featurizing.text_features(task, found, tokenizer, length, True, source is None)
            dev, dev_cut = featurizing.text_features(task, held_out, tokenizer, length, False, source is None)
        notes += cut + dev_cut
        run.begin(notes)
        trainer = runner.mlm_trainer(model, args, tokenizer, features, dev, text_args.mlm_probability)
        runner.train(trainer, run, run.checkpoint)
        if peft.peft:
            lora.finish(trainer, run_args.output_dir)
        loss = runner.held_out_loss(trainer)

        trainer.save_model(run_args.output_dir)
        record = run.record(
            phase="mlm",
            task="mlm",
            form=task.form,
            model=name,
            metric=task.metric,
            notes=notes,
            measures=runner.measures(trainer, len(features))
            | {"held_out_loss": loss, "perplexity": math.exp(min(loss, 700))},
        )
        run.finish(record, checkpoint=True)


if __name__ == "__main__":
    command(main)
