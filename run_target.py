"""Phase 3: a fresh head on a checkpoint, trained on English, scored zero-shot in every language.

python run_target.py --task xnli --model_name_or_path FacebookAI/xlm-roberta-base --output_dir runs/none/seed0/xnli
accelerate launch run_target.py --task udpos --model_name_or_path runs/mnli/seed0 \\
    --output_dir runs/mnli/seed0/udpos
python run_target.py --task xnli --model_name_or_path ... --output_dir /tmp/x --max_train_samples 100 \\
    --max_eval_samples 20
"""

from dataclasses import dataclass, field
from pathlib import Path

from xstilts.cli.arguments import DataArguments, MeasurementArguments, ModelArguments
from xstilts.cli.parsing import parse
from xstilts.run.endings import command


@dataclass
class TargetArguments:
    task: str | None = field(default=None, metadata={"help": "The target task; see --list_tasks."})
    keep_checkpoint: bool = field(default=True, metadata={"help": "Save the fine-tuned model, not only its scores."})


def main(argv: list[str]) -> None:
    kinds = (TargetArguments, ModelArguments, DataArguments, MeasurementArguments)
    (target, model_args, data_args, run_args), rest = parse(argv, "run_target.py", __doc__.splitlines()[0], *kinds)

    from tasks import get_task, list_tasks
    from xstilts.checkpoint.config import check_attention, check_checkpoint
    from xstilts.cli import unused
    from xstilts.errors import UserError
    from xstilts.run import inputs, places

    if run_args.list_tasks:
        return print(list_tasks(data_args.data_root, data_args.splits, data_args.benchmark))
    if not target.task:
        raise UserError("--task is missing; see --list_tasks.")
    task = get_task(target.task, data_args.benchmark)
    if not task.auto_class:
        raise UserError(f"--task {task.name} is not trained; measure it with run_retrieval.py --tasks {task.name}.")
    name = check_checkpoint(model_args.model_name_or_path)
    check_attention(model_args.attn_implementation)
    places.settle_measurement(run_args, name, run_args.output_dir)
    inputs.check_run(run_args)
    rows = inputs.open_rows(data_args)
    languages = inputs.choose_languages(task, rows, data_args.languages)
    notes = unused.of_model(model_args) + unused.of_rows(data_args)

    # imports torch, which takes seconds
    from xstilts.checkpoint import heads
    from xstilts.checkpoint.tokenizer import load_tokenizer
    from xstilts.run.lifecycle import Run
    from xstilts.run.record import Record
    from xstilts.run.settings import settings_of
    from xstilts.train import featurizing, runner, stages, trainers
    from xstilts.train.training_arguments import training_arguments

    # ---- fail fast: validate before loading -----------------------------------------------------------------------
    runner.prepare(run_args)
    select = task.select == "best"
    args = training_arguments(
        run_args, rest, task.defaults, metric=f"eval_{task.metric}", load_best_model_at_end=select
    )
    settings = settings_of(args, name, model_args, task=task.name, **vars(data_args))
    with Run.open(run_args, settings, rows) as run:
        if run.finished:
            return
        tokenizer = load_tokenizer(name, model_args.model_revision)
        task.prepare(rows)
        model = heads.fresh_head(task, name, model_args.model_revision, attention=model_args.attn_implementation)
        if model_args.freeze_embeddings:
            heads.freeze_embeddings(model)
        length = featurizing.max_length(data_args, task.defaults["max_seq_length"], tokenizer, model.config)

        # ---- rows and features --------------------------------------------------------------------------------------
        with args.main_process_first(desc="features"):
            train = inputs.first(task.load("train", "en", rows), data_args.max_train_samples)
            train_features = featurizing.featurize(task, train, tokenizer, length, True, f"{task.name} train")
            dev = featurizing.load_scored(task, "dev", "en", rows, data_args.max_eval_samples)
            dev_features = featurizing.featurize(task, dev, tokenizer, length, False, f"{task.name} dev")
            tests = {}  # featurized before training, so that a wrong row fails now
            for language in languages:
                test = featurizing.load_scored(task, "test", language, rows, data_args.max_eval_samples)
                tests[language] = (
                    test,
                    featurizing.featurize(task, test, tokenizer, length, False, f"{task.name} {language}"),
                )

        unused.log(notes, rows)

        # ---- train --------------------------------------------------------------------------------------------------
        run.begin()
        earlier = stages.train_before(run, task, model, args, rows, tokenizer, length, data_args, model_args)
        trainer = trainers.TaskTrainer(
            model=model,
            args=args,
            train_dataset=train_features,
            data_collator=task.collator(tokenizer),
            processing_class=tokenizer,
            task=task,
            dev=(dev, dev_features),
            eval_dataset=dev_features,
        )
        seconds = earlier + runner.train(trainer, run, run.checkpoint)

        # ---- score, save, finish ------------------------------------------------------------------------------------
        scores, n = runner.score_languages(trainer, task, tests, Path(run_args.output_dir, "predictions"))
        dev_scores, chance, at_chance = runner.compare_with_chance(trainer, task, dev, rehearsal=run.is_rehearsal)
        if target.keep_checkpoint:
            trainer.save_model(run_args.output_dir)
        run.finish(
            Record.new(
                run_args,
                phase="target",
                task=task.name,
                form=task.form,
                model=name,
                metric=task.metric,
                chance=chance,
                at_chance=at_chance,
                dev={"en": dev_scores},
                scores=scores,
                n=n,
                settings=settings,
                data=rows.records,
                seconds=seconds,
                measures=runner.measures(trainer),
                notes=notes,
            ),
            checkpoint=target.keep_checkpoint,
        )


if __name__ == "__main__":
    command(main)
