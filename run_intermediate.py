"""Phase 2: trains a checkpoint on one intermediate task, or on a mixture of several, in English.

    python run_intermediate.py --tasks mnli --model_name_or_path FacebookAI/xlm-roberta-base --output_dir runs/mnli/seed0
    python run_intermediate.py --tasks mnli squad hellaswag --model_name_or_path ... --output_dir runs/all/seed0
    python run_intermediate.py --config recipes/arms/all.yaml --model_name_or_path ... --output_dir ...
"""

from dataclasses import dataclass, field

from xstilts.arguments import DataArguments, ModelArguments, RunArguments, command, parse


@dataclass
class IntermediateArguments:
    tasks: list[str] = field(default_factory=list, metadata={"help": "One intermediate task, or several for a mixture."})
    examples_cap: int | None = field(default=None, metadata={"help": "Mixture: a task counts as at most so many examples."})
    temperature: float = field(default=1.0, metadata={"help": "Mixture: p ~ min(n, cap) ** (1 / temperature)."})


def main(argv: list[str]) -> None:
    kinds = (IntermediateArguments, ModelArguments, DataArguments, RunArguments)
    (mix, model_args, data_args, run), rest = parse(argv, "run_intermediate.py", __doc__.splitlines()[0], *kinds)

    from tasks import get_task, list_tasks
    from xstilts.errors import UserError

    if run.list_tasks:
        return print(list_tasks(data_args.data_root, data_args.splits, data_args.benchmark))
    if not mix.tasks:
        raise UserError("--tasks is missing: one intermediate task or several; see --list_tasks.")
    tasks = [get_task(name, data_args.benchmark) for name in dict.fromkeys(mix.tasks)]
    for task in tasks:
        if not task.auto_class:
            raise UserError(f"--tasks {task.name} has no training; it is measured with run_retrieval.py.")
    if mix.temperature <= 0 or (mix.examples_cap is not None and mix.examples_cap < 1):
        raise UserError(f"--temperature {mix.temperature} and --examples_cap {mix.examples_cap} must be positive.")

    from xstilts import cards, heads, mixture, runner

    # ---- everything that can be wrong is found before training ---------------------------------------------------
    name = heads.check_checkpoint(model_args.model_name_or_path)
    runner.prepare(run)
    # a mixture trains with the settings of its first task; the longest input any of them wants
    defaults = tasks[0].defaults | {"max_seq_length": max(task.defaults["max_seq_length"] for task in tasks)}
    args = runner.training_arguments(run, rest, defaults)
    settings = runner.settings_of(args, model=name, **vars(mix), **vars(data_args), freeze_embeddings=model_args.freeze_embeddings)
    if runner.finished(run, settings):
        return
    cards.check_push(run)
    rows = runner.open_rows(data_args)
    tokenizer = heads.load_tokenizer(name, model_args.model_revision)
    for task in tasks:
        task.prepare(rows)
    if len(tasks) == 1:
        model = heads.fresh_head(tasks[0], name, model_args.model_revision)
    else:
        model = mixture.MixtureModel(tasks, name, model_args.model_revision)
    if model_args.freeze_embeddings:
        heads.freeze_embeddings(model)
    length = runner.max_length(data_args, defaults["max_seq_length"], tokenizer, model.config)

    # ---- rows and features ---------------------------------------------------------------------------------------
    train_features, dev = {}, {}
    with args.main_process_first(desc="features"):
        for task in tasks:
            examples = runner.first(task.load("train", "en", rows), data_args.max_train_samples)
            train_features[task.name] = runner.featurize(task, examples, tokenizer, length, True, f"{task.name} train")
            examples = runner.first(task.load("dev", "en", rows), data_args.max_eval_samples)
            dev[task.name] = examples, runner.featurize(task, examples, tokenizer, length, False, f"{task.name} dev")

    # ---- train ---------------------------------------------------------------------------------------------------
    if len(tasks) == 1:
        (task,) = tasks
        trainer = runner.TaskTrainer(model=model, args=args, train_dataset=train_features[task.name], task=task, dev=dev[task.name],
                                     data_collator=task.collator(tokenizer), processing_class=tokenizer)
    else:
        trainer = mixture.trainer(model, args, tasks, train_features, tokenizer, mix.examples_cap, mix.temperature)
    seconds = runner.train(trainer, runner.begin(run, settings))

    # ---- score on English dev, save, say -------------------------------------------------------------------------
    dev_scores, chance, flat = {}, {}, []
    for task in tasks:
        judge = runner.TaskTrainer(model=model if len(tasks) == 1 else model.whole[task.name], args=args, task=task, dev=dev[task.name],
                                   data_collator=task.collator(tokenizer), processing_class=tokenizer)
        dev_scores[task.name], chance[task.name], at_chance = runner.judge(judge, task, dev[task.name][0])
        flat += [task.name] if at_chance else []
    single = len(tasks) == 1
    if single:
        trainer.save_model(run.output_dir)
    if trainer.is_world_process_zero():
        if not single:
            mixture.save(model, tokenizer, run.output_dir)
        key = tasks[0].metric
        cards.finish(run, {
            "phase": "intermediate", "task": "+".join(task.name for task in tasks), "form": tasks[0].form if single else "mixture",
            "arm": run.arm or "+".join(task.name for task in tasks), "seed": run.seed, "model": name, "parents": cards.chain(name),
            "metric": key, "chance": chance[tasks[0].name] if single else None, "at_chance": bool(flat),
            "dev": {"en": dev_scores[tasks[0].name] if single else {
                f"{t}/{m}": v for t, by in dev_scores.items() for m, v in by.items()}},
            "scores": {}, "n": {}, "settings": settings, "data": runner.unique(rows.records), "seconds": round(seconds, 1),
            "measures": runner.measures(trainer), "notes": [f"{t}: the English dev score is at chance" for t in flat],
        }, tasks, checkpoint=True)
        runner.clean(run)


if __name__ == "__main__":
    command(main)
