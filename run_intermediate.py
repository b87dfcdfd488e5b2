"""Phase 2: trains a checkpoint on one intermediate task, or on a mixture of several, in one or more languages.

    python run_intermediate.py --tasks mnli --model_name_or_path FacebookAI/xlm-roberta-base \\
        --output_dir runs/mnli/seed0
    python run_intermediate.py --config recipes/arms/all.yaml --model_name_or_path ... --output_dir runs/all/seed0
    python run_intermediate.py --tasks xnli --train_languages en de sw --language_mode multilingual \\
        --model_name_or_path ... --output_dir runs/xnli+multilingual/seed0
"""

from dataclasses import dataclass, field

from xstilts.cli.arguments import (
    ArmArguments,
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
class IntermediateArguments:
    tasks: list[str] = field(
        default_factory=list, metadata={"help": "One intermediate task, or several for a mixture."}
    )
    examples_cap: int | None = field(
        default=None, metadata={"help": "Mixture: count at most this many examples of each task."}
    )
    temperature: float = field(default=1.0, metadata={"help": "Mixture: p ~ min(n, cap) ** (1 / temperature)."})
    mlm_rate: float = field(
        default=0.0,
        metadata={
            "help": "Masked LM alongside: its share of all steps. The tasks keep their steps, unless "
            "--max_steps sets the total."
        },
    )


def main(argv: list[str]) -> None:
    kinds = (
        IntermediateArguments,
        TextArguments,
        FamilyArguments,
        ArmArguments,
        PeftArguments,
        ModelArguments,
        DataArguments,
        RunArguments,
    )
    parsed, rest = parse(argv, "run_intermediate.py", __doc__.splitlines()[0], *kinds)
    mix, text_args, family, arm, peft, model_args, data_args, run_args = parsed

    from tasks import get_task, list_tasks
    from tasks.text import Wikipedia
    from xstilts.checkpoint.config import check_attention, check_checkpoint
    from xstilts.cli import unused
    from xstilts.errors import UserError
    from xstilts.run import inputs, places
    from xstilts.train import code_switch, families

    if run_args.list_tasks:
        return print(list_tasks(data_args.data_root, data_args.splits, data_args.benchmark))
    if not mix.tasks:
        raise UserError("--tasks is missing: one intermediate task or several; see --list_tasks.")
    tasks = [get_task(name, data_args.benchmark) for name in dict.fromkeys(mix.tasks)]
    for task in tasks:
        if not task.auto_class:
            raise UserError(
                f"--tasks {task.name} is not trained; measure it with run_retrieval.py --tasks {task.name}."
            )
    if mix.temperature <= 0 or (mix.examples_cap is not None and mix.examples_cap < 1):
        raise UserError(f"--temperature {mix.temperature} and --examples_cap {mix.examples_cap} must be positive.")
    if not 0 <= mix.mlm_rate < 1 or not 0 < text_args.mlm_probability < 1:
        raise UserError(
            f"--mlm_rate {mix.mlm_rate} must be from 0 to below 1, --mlm_probability {text_args.mlm_probability} "
            "between 0 and 1."
        )
    refuse_unused("run_target.py scores languages", data_args, only=["languages"])
    if not mix.mlm_rate:
        refuse_unused("it goes with --mlm_rate", text_args)
    families.check(family, arm)
    families.check_adapter(peft)
    unused.check_mixture(mix, tasks, arm)
    source = get_task(text_args.text_of, data_args.benchmark) if text_args.text_of else None
    name = check_checkpoint(model_args.model_name_or_path)
    check_attention(model_args.attn_implementation)
    places.settle_training(run_args)
    inputs.check_run(run_args)
    rows = inputs.open_rows(data_args, family.translations)
    notes = unused.of_model(model_args, peft) + unused.of_rows(data_args) + unused.of_family(family, arm, tasks)
    lexicons: dict[str, code_switch.Lexicon] = {}
    lexicon_records: list[dict] = []
    if arm.code_switch:
        lexicons, lexicon_records = code_switch.read_lexicons(
            family.lexicon, families.seen_languages(family, arm), arm.skip_identities, arm.switch_treebank
        )

    # imports torch, which takes seconds
    from xstilts.checkpoint import heads
    from xstilts.checkpoint.tokenizer import load_tokenizer
    from xstilts.run.lifecycle import Run
    from xstilts.run.record import Record
    from xstilts.run.settings import settings_of
    from xstilts.train import featurizing, lora, mixture, multilingual, runner, trainers
    from xstilts.train.training_arguments import training_arguments

    # ---- fail fast: validate before loading -----------------------------------------------------------------------
    runner.prepare(run_args)
    text = Wikipedia(data_args.benchmark) if mix.mlm_rate else None
    # a mixture has the settings of its first task, and the longest input length of all
    defaults = tasks[0].defaults | {"max_seq_length": max(task.defaults["max_seq_length"] for task in tasks)}
    single = len(tasks) == 1 and not text
    args = training_arguments(
        run_args,
        rest,
        defaults,
        metric=f"eval_{tasks[0].metric}" if single else None,
        refused={} if single else mixture.REFUSED,
    )
    seen = list(lexicons) if arm.code_switch else families.seen_languages(family, arm)
    settings = settings_of(
        args,
        name,
        model_args,
        **vars(mix),
        **vars(data_args),
        **non_defaults(text_args, family, arm, peft),
        seen_languages=seen,
        lexicon_sha256={lexicon["config"]: lexicon["sha256"] for lexicon in lexicon_records},
    )
    with Run.open(run_args, settings, rows) as run:
        if run.finished:
            return
        tokenizer = load_tokenizer(name, model_args.model_revision, mask=bool(text))
        for task in tasks:
            task.prepare(rows)
        if single:
            model = heads.fresh_head(
                tasks[0], name, model_args.model_revision, attention=model_args.attn_implementation
            )
        else:
            model = mixture.MixtureModel(
                [*tasks, text] if text else tasks, name, model_args.model_revision, model_args.attn_implementation
            )
        if model_args.freeze_embeddings:
            heads.freeze_embeddings(model)
        model = lora.wrap(model, peft)
        length = featurizing.max_length(data_args, defaults["max_seq_length"], tokenizer, model.config)

        # ---- rows and features --------------------------------------------------------------------------------------
        train_features, dev, n_rows = {}, {}, 0
        with args.main_process_first(desc="features"):
            for task in tasks:
                train = multilingual.load(
                    task,
                    family,
                    arm,
                    rows,
                    data_args.max_train_samples,
                    run_args.seed,
                    lexicons,
                    alone=len(tasks) == 1,
                )
                train_features[task.name] = multilingual.featurize(task, train, tokenizer, length)
                notes, n_rows = notes + train.notes, n_rows + len(train.examples)
                examples = featurizing.load_scored(task, "dev", "en", rows, data_args.max_eval_samples)
                dev[task.name] = (
                    examples,
                    featurizing.featurize(task, examples, tokenizer, length, False, f"{task.name} dev"),
                )
            if text:
                languages = families.text_languages(text_args, family)
                if source:
                    texts, _, text_notes = multilingual.row_texts(
                        source, family, languages, rows, data_args.max_train_samples, None, run_args.seed
                    )
                    notes += text_notes
                else:
                    languages = languages or text.languages(rows)
                    texts = {
                        code: inputs.first(text.load("train", code, rows), data_args.max_train_samples)
                        for code in languages
                    }
                train_features[text.name], left_out = featurizing.text_features(text, texts, tokenizer, length, True)
                notes += left_out
        notes += unused.of_translations(family, rows)
        unused.log(notes, rows)

        # ---- train --------------------------------------------------------------------------------------------------
        collators = {task.name: task.collator(tokenizer) for task in tasks}
        if single:
            (task,) = tasks
            trainer = trainers.TaskTrainer(
                model=model,
                args=args,
                train_dataset=train_features[task.name],
                task=task,
                dev=dev[task.name],
                eval_dataset=dev[task.name][1],
                data_collator=collators[task.name],
                processing_class=tokenizer,
            )
        else:
            if text:
                collators[text.name] = trainers.Masking(tokenizer, text_args.mlm_probability, run_args.seed)
            trainer = mixture.trainer(
                model, args, train_features, collators, tokenizer, mix.examples_cap, mix.temperature, mix.mlm_rate
            )
        run.begin()
        seconds = runner.train(trainer, run, run.checkpoint)
        if peft.peft:
            model = lora.finish(trainer, run_args.output_dir)

        # ---- score on English dev, save, finish ---------------------------------------------------------------------
        dev_scores, chance, at_chance = {}, {}, []
        for task in tasks:
            scorer = trainers.TaskTrainer(
                model=model if single else model.whole[task.name],
                args=args,
                task=task,
                dev=dev[task.name],
                eval_dataset=dev[task.name][1],
                data_collator=collators[task.name],
                processing_class=tokenizer,
            )
            dev_scores[task.name], chance[task.name], failed = runner.compare_with_chance(
                scorer, task, dev[task.name][0], arm.shuffle_labels, run.is_rehearsal
            )
            at_chance += [task.name] if failed else []
        if single:
            trainer.save_model(run_args.output_dir)
        elif trainer.is_world_process_zero():
            mixture.save(model, tokenizer, run_args.output_dir)
        label, key = "+".join(task.name for task in tasks), tasks[0].metric
        run.finish(
            Record.new(
                run_args,
                phase="intermediate",
                task=label,
                form=tasks[0].form if single else "mixture",
                model=name,
                metric=key,
                chance=chance[tasks[0].name] if single else None,
                at_chance=bool(at_chance),
                dev={
                    "en": dev_scores[tasks[0].name]
                    if len(tasks) == 1
                    else {f"{t}/{m}": v for t, by in dev_scores.items() for m, v in by.items()}
                },
                settings=settings,
                data=rows.records,
                seconds=seconds,
                measures=runner.measures(trainer, n_rows),
                notes=notes + [f"{t}: the English dev score is at chance" for t in at_chance],
            ),
            checkpoint=True,
        )


if __name__ == "__main__":
    command(main)
