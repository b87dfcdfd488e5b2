"""Phase 2: train a checkpoint on one intermediate task, on a mixture of several, or on pairs as a dual encoder.

    python run_intermediate.py --tasks mnli --model_name_or_path FacebookAI/xlm-roberta-base \\
        --output_dir runs/mnli/seed0
    python run_intermediate.py --config recipes/arms/all.yaml --model_name_or_path ... --output_dir runs/all/seed0
    python run_intermediate.py --tasks xnli --train_languages en de sw --language_mode multilingual \\
        --model_name_or_path ... --output_dir runs/xnli+multilingual/seed0
    python run_intermediate.py --tasks squad_dual --model_name_or_path ... --output_dir runs/squad_dual/seed0
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from xstilts.cli.arguments import PHASE_2
from xstilts.cli.defaults import non_defaults
from xstilts.cli.parsing import parse
from xstilts.run.endings import command

if TYPE_CHECKING:
    from tasks.base import Task
    from tasks.rows import Rows
    from xstilts.train.families import Lexicons


def main(argv: list[str]) -> None:
    """Check the arguments, then run. Raise UserError for the first one that is wrong."""
    parsed, rest = parse(argv, "run_intermediate.py", __doc__.splitlines()[0], *PHASE_2)
    mix, text_args, family, arm, vectors, peft, model_args, data_args, run_args = parsed

    from tasks import get_task, list_tasks
    from tasks.pairs import list_pairs
    from xstilts.checkpoint.config import check_attention, check_checkpoint
    from xstilts.cli import unused
    from xstilts.run import inputs
    from xstilts.train import families

    if run_args.list_tasks:
        return print(list_tasks(data_args.data_root, data_args.splits, data_args.benchmark), list_pairs(), sep="\n\n")
    tasks, pairs = families.trained_tasks(mix.tasks, data_args.benchmark)
    unused.refuse_unused("run_target.py scores languages", data_args, only=["languages"])
    families.check(family, arm)
    if pairs:
        dual = families.dual_encoder_arguments(pairs, arm, vectors, mix, text_args, family, peft)
    else:
        families.check_adapter(peft)
        unused.check_mixture(mix, tasks, text_args, arm, vectors)
    source = get_task(text_args.text_of, data_args.benchmark) if text_args.text_of else None
    check_checkpoint(model_args.model_name_or_path)
    check_attention(model_args.attn_implementation)
    inputs.check_training(run_args)
    rows = inputs.open_rows(data_args, family.translations)

    # imports torch, which takes seconds
    if pairs:
        from xstilts.retrieve.neighbours import nearest_by_cosine
        from xstilts.train import dual_encoder

        return dual_encoder.train(dual, family, vectors, model_args, data_args, run_args, rest, nearest_by_cosine)
    train(tasks, source, families.read_lexicons(family, arm), rows, parsed, rest)


def train(
    tasks: list[Task], source: Task | None, lexicons: Lexicons, rows: Rows, parsed: list[Any], rest: list[str]
) -> None:
    """Train on tasks with a head, score English dev, save the checkpoint, write results.json."""
    mix, text_args, family, arm, _, peft, model_args, data_args, run_args = parsed
    from tasks.text import Wikipedia
    from xstilts.cli import unused
    from xstilts.run.lifecycle import Run
    from xstilts.run.settings import settings_of
    from xstilts.train import featurizing, lora, mixture, multilingual, runner, texts

    name, text = model_args.model_name_or_path, Wikipedia(data_args.benchmark) if mix.mlm_rate else None
    notes = unused.of_model(model_args, peft) + unused.of_rows(data_args) + unused.of_family(family, arm, tasks)
    args = mixture.begin(tasks, text, run_args, rest)
    own = vars(mix) | vars(data_args) | non_defaults(text_args, family, arm, peft)
    own |= {"seen_languages": lexicons.seen_languages, "lexicon_sha256": lexicons.sha256}
    with Run.open(run_args, settings_of(args, name, model_args, **own), rows) as run:
        if run.finished:
            return
        model, tokenizer = mixture.load(tasks, text, rows, model_args, notes)
        model = lora.wrap(model, peft)
        longest = max(task.defaults["max_seq_length"] for task in tasks)
        length = featurizing.max_length(data_args, longest, tokenizer, model.config)
        inputs = (rows, tokenizer, length, data_args, run_args.seed)
        with args.main_process_first(desc="features"):
            features, dev, n_rows, more = multilingual.read_features(tasks, family, arm, lexicons.by_language, *inputs)
            notes += more
            if text:
                features[text.name], more = texts.read_features(text, source, family, text_args, *inputs)
                notes += more
        notes += unused.of_translations(family, rows)

        run.begin(notes)
        trainer = mixture.trainer(tasks, text, model, args, tokenizer, features, dev, mix, text_args.mlm_probability)
        runner.train(trainer, run, run.checkpoint)
        if peft.peft:
            model = lora.finish(trainer, run_args.output_dir)

        scores, chance, at_chance = mixture.score_dev(tasks, model, args, tokenizer, dev, arm, run)
        mixture.save(trainer, model, tokenizer, run_args.output_dir)
        record = run.record(
            phase="intermediate",
            task="+".join(task.name for task in tasks),
            form=tasks[0].form if len(features) == 1 else "mixture",
            model=name,
            metric=tasks[0].metric,
            chance=chance,
            at_chance=bool(at_chance),
            dev={"en": scores},
            measures=runner.measures(trainer, n_rows),
            notes=notes + [f"{task}: the English dev score is at chance" for task in at_chance],
        )
        run.finish(record, checkpoint=True)


if __name__ == "__main__":
    command(main)
