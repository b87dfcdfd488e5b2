"""Phase 3: a fresh head on a checkpoint, trained on English, scored in every language.

python run_target.py --task xnli --model_name_or_path FacebookAI/xlm-roberta-base --output_dir runs/none/seed0/xnli
accelerate launch run_target.py --task udpos --model_name_or_path runs/mnli/seed0 \\
    --output_dir runs/mnli/seed0/udpos
python run_target.py --task xnli --model_name_or_path ... --output_dir /tmp/x --max_train_samples 100 \\
    --max_eval_samples 20
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from xstilts.cli.arguments import DataArguments, MeasurementArguments, ModelArguments
from xstilts.cli.parsing import parse
from xstilts.run.endings import command

if TYPE_CHECKING:
    from tasks.base import Task
    from tasks.rows import Rows


@dataclass
class TargetArguments:
    """The target task, and what to keep."""

    task: str | None = field(default=None, metadata={"help": "The target task; see --list_tasks."})
    keep_checkpoint: bool = field(default=True, metadata={"help": "Save the fine-tuned model, not only its scores."})

    def settings(self) -> dict[str, Any]:
        """What run.json and results.json keep: that the checkpoint was not kept, if so."""
        return {} if self.keep_checkpoint else {"keep_checkpoint": False}


def main(argv: list[str]) -> None:
    """Check the arguments, then run. Raise UserError for the first one that is wrong."""
    kinds = (TargetArguments, ModelArguments, DataArguments, MeasurementArguments)
    parsed, rest = parse(argv, "run_target.py", __doc__.splitlines()[0], *kinds)
    target, model_args, data_args, run_args = parsed

    from tasks import get_target, list_tasks
    from xstilts.checkpoint.config import check_attention, check_checkpoint
    from xstilts.cli import unused
    from xstilts.run import inputs

    if run_args.list_tasks:
        return print(list_tasks(data_args.data_root, data_args.splits, data_args.benchmark))
    task = get_target(target.task, data_args.benchmark)
    name = check_checkpoint(model_args.model_name_or_path)
    check_attention(model_args.attn_implementation)
    inputs.check_target(task, run_args, name)
    rows = inputs.open_rows(data_args)
    notes: list[str] = []
    languages = inputs.choose_languages(task, rows, data_args.languages, notes=notes)
    notes += unused.of_model(model_args) + unused.of_rows(data_args)

    # imports torch, which takes seconds
    train(task, languages, rows, notes, parsed, rest)


def train(task: Task, languages: list[str], rows: Rows, notes: list[str], parsed: list[Any], rest: list[str]) -> None:
    """Train a fresh head and the encoder on English, score every language, write predictions and results.json."""
    target, model_args, data_args, run_args = parsed
    from xstilts.checkpoint import heads
    from xstilts.run.lifecycle import Run
    from xstilts.run.settings import settings_of
    from xstilts.train import featurizing, runner, stages

    name, best = str(model_args.model_name_or_path), task.select == "best"
    args = runner.begin(run_args, rest, task.defaults, scores=task.dev_metrics, load_best_model_at_end=best)
    settings = settings_of(args, name, model_args, task=task.name, **vars(data_args), **target.settings())
    with Run.open(run_args, settings, rows) as run:
        if run.finished:
            return
        model, tokenizer = heads.load(
            task, rows, name, **model_args.loading, frozen_embeddings=model_args.freeze_embeddings
        )
        length = featurizing.max_length(data_args, task.defaults["max_seq_length"], tokenizer, model.config)
        with args.main_process_first(desc="features"):
            features, dev = featurizing.read_train(task, rows, tokenizer, length, data_args)
            tests = {  # featurized before training, so that a wrong row fails now
                language: featurizing.read_scored(task, "test", language, rows, tokenizer, length, data_args)
                for language in languages
            }
            before = featurizing.read_before(task, rows, tokenizer, length, data_args)

        run.begin(notes)
        stages.train_before(run, task, model, args, tokenizer, before, model_args)
        trainer = runner.task_trainer(task, model, args, tokenizer, dev, features)
        runner.train(trainer, run, run.checkpoint)

        scores, n = runner.score_languages(trainer, task, tests, run.folder / "predictions")
        english, chance, at_chance = runner.compare_with_chance(trainer, task, dev[0], rehearsal=run.is_rehearsal)
        measures = runner.measures(trainer)
        if target.keep_checkpoint:
            trainer.save_model(run_args.output_dir)
        record = run.record(
            phase="target",
            task=task.name,
            form=task.form,
            model=name,
            metric=task.metric,
            chance=chance,
            at_chance=at_chance,
            dev={"en": english},
            scores=scores,
            n=n,
            measures=measures,
            notes=notes,
        )
        run.finish(record, checkpoint=target.keep_checkpoint)


if __name__ == "__main__":
    command(main)
