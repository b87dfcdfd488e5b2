"""Phase 1: continues masked language modelling of a checkpoint, or trains an encoder from scratch.

python run_mlm.py --model_name_or_path FacebookAI/xlm-roberta-base --text_languages en de sw \\
    --output_dir runs/mlm/seed0
python run_mlm.py --config_name recipes/models/xlmr-tiny.json --data_root data/world --output_dir runs/world/model
python run_mlm.py --config recipes/arms/mlm.yaml --model_name_or_path ... --train_languages en de sw \\
    --output_dir runs/mlm/seed0
"""

import itertools
import math
from dataclasses import dataclass, field

from xstilts.cli.arguments import (
    DataArguments,
    FamilyArguments,
    ModelArguments,
    PeftArguments,
    RunArguments,
    TextArguments,
    non_defaults,
    refuse_unused,
)
from xstilts.cli.parsing import parse
from xstilts.run.endings import command


@dataclass
class MlmArguments:
    config_name: str | None = field(
        default=None, metadata={"help": "JSON of a model config (model_type, sizes): train from scratch."}
    )
    vocab_size: int = field(default=4000, metadata={"help": "Pieces of the tokenizer made with --config_name."})


def main(argv: list[str]) -> None:
    kinds = (MlmArguments, TextArguments, FamilyArguments, PeftArguments, ModelArguments, DataArguments, RunArguments)
    (mlm, text_args, family, peft, model_args, data_args, run_args), rest = parse(
        argv, "run_mlm.py", __doc__.splitlines()[0], *kinds
    )

    from tasks import get_task, list_tasks
    from tasks.text import Wikipedia
    from xstilts.checkpoint.config import check_attention, check_checkpoint
    from xstilts.cli import unused
    from xstilts.errors import UserError
    from xstilts.run import inputs, places
    from xstilts.train import families

    if run_args.list_tasks:
        return print(list_tasks(data_args.data_root, data_args.splits, data_args.benchmark))
    if bool(mlm.config_name) == bool(model_args.model_name_or_path):
        raise UserError(
            "Give either --model_name_or_path (continue a checkpoint) or --config_name (train from scratch)."
        )
    if mlm.config_name and (text_args.text_of or peft.peft):
        raise UserError(
            "--config_name trains from scratch; --text_of and --peft continue a checkpoint (--model_name_or_path)."
        )
    refuse_unused("--text_languages are those of the text", data_args, only=["languages"])
    if mlm.config_name:
        inputs.check_sizes(mlm.config_name)
    families.check_adapter(peft)
    unused.check_text(mlm, model_args)
    task = Wikipedia(data_args.benchmark)
    source = get_task(text_args.text_of, data_args.benchmark) if text_args.text_of else None
    name = mlm.config_name or check_checkpoint(model_args.model_name_or_path)
    check_attention(model_args.attn_implementation)
    places.settle_training(run_args)
    inputs.check_run(run_args)
    rows = inputs.open_rows(data_args, family.translations)
    notes = unused.of_model(model_args, peft) + unused.of_rows(data_args) + unused.of_text(family, text_args, source)
    languages = families.text_languages(text_args, family)

    # imports torch, which takes seconds
    from xstilts.checkpoint import heads
    from xstilts.checkpoint.tokenizer import load_tokenizer
    from xstilts.run.lifecycle import Run
    from xstilts.run.record import Record
    from xstilts.run.settings import settings_of
    from xstilts.train import featurizing, lora, multilingual, runner, trainers
    from xstilts.train.tokenizer import train_tokenizer
    from xstilts.train.training_arguments import training_arguments

    # ---- fail fast: validate before loading -----------------------------------------------------------------------
    runner.prepare(run_args)
    args = training_arguments(run_args, rest, task.defaults, metric="eval_loss")
    settings = settings_of(
        args,
        name,
        model_args,
        **vars(mlm),
        **vars(text_args) | {"text_languages": languages},
        **vars(data_args),
        **non_defaults(family, peft),
    )
    with Run.open(run_args, settings, rows) as run:
        if run.finished:
            return
        if source:
            texts, held_out, text_notes = multilingual.row_texts(
                source, family, languages, rows, data_args.max_train_samples, data_args.max_eval_samples, run_args.seed
            )
            notes += text_notes + unused.of_translations(family, rows)
        else:
            languages = languages or task.languages(rows)
            texts = {
                code: inputs.first(task.load("train", code, rows), data_args.max_train_samples) for code in languages
            }
            held_out = {
                code: inputs.first(task.load("dev", code, rows), data_args.max_eval_samples) for code in languages
            }

        # ---- model and tokenizer ------------------------------------------------------------------------------------
        if mlm.config_name:
            last = run.checkpoint  # a resumed run keeps its tokenizer
            lines = itertools.chain.from_iterable(t["text"] for t in texts.values())
            tokenizer = load_tokenizer(last) if last else train_tokenizer(lines, mlm.vocab_size)
            model = heads.from_sizes(mlm.config_name, tokenizer)
        else:
            tokenizer = load_tokenizer(name, model_args.model_revision, mask=True)
            model = heads.masked_lm(name, model_args.model_revision, attention=model_args.attn_implementation)
        model.accepts_loss_kwargs = False  # type: ignore[assignment]  # read by Trainer; torch's stubs take modules only
        if model_args.freeze_embeddings:
            heads.freeze_embeddings(model)
        model = lora.wrap(model, peft)
        length = featurizing.max_length(data_args, task.defaults["max_seq_length"], tokenizer, model.config)

        # ---- features -----------------------------------------------------------------------------------------------
        with args.main_process_first(desc="features"):
            train, left_out = featurizing.text_features(task, texts, tokenizer, length, True)
            dev, dev_left_out = featurizing.text_features(task, held_out, tokenizer, length, False)
        unused.log(notes, rows)

        # ---- train --------------------------------------------------------------------------------------------------
        trainer = trainers.TaskTrainer(
            model=model,
            args=args,
            train_dataset=train,
            eval_dataset=dev,
            processing_class=tokenizer,
            data_collator=trainers.Masking(tokenizer, text_args.mlm_probability, run_args.seed),
        )
        run.begin()
        seconds = runner.train(trainer, run, run.checkpoint)
        if peft.peft:
            lora.finish(trainer, run_args.output_dir)
        loss = runner.held_out_loss(trainer)

        # ---- save, finish -------------------------------------------------------------------------------------------
        trainer.save_model(run_args.output_dir)
        run.finish(
            Record.new(
                run_args,
                phase="mlm",
                task="mlm",
                form="mlm",
                model=name,
                metric="perplexity",
                settings=settings,
                data=rows.records,
                seconds=seconds,
                notes=notes + left_out + dev_left_out,
                measures=runner.measures(trainer, len(train))
                | {"held_out_loss": loss, "perplexity": math.exp(min(loss, 700))},
            ),
            checkpoint=True,
        )


if __name__ == "__main__":
    command(main)
