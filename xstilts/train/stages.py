"""Several trainings one after the other with one head: XCOPA is trained on Social IQa, then on COPA (protocol 4)."""

from __future__ import annotations

import copy
from pathlib import Path

from tasks import get_task
from xstilts.checkpoint import heads
from xstilts.run import inputs
from xstilts.run.checkpoints import last_checkpoint
from xstilts.run.lifecycle import Run
from xstilts.train import featurizing, runner, trainers


def train_before(run: Run, task, model, args, rows, tokenizer, length: int, data_args, model_args) -> float:
    """Trains on all but the last of `task.train_from`, with the settings of the last, and puts the weights into
    `model`.

    Each stage keeps its checkpoints, and at its end its model, in `checkpoint-<stage>` below the output folder: a run
    that is begun again goes on where it stopped, and a finished run removes them.

    Returns:
        Seconds of training; 0 for a task with one stage.
    """
    seconds, before = 0.0, None
    for name in task.train_from[:-1]:
        stage, folder = get_task(name), Path(args.output_dir, f"checkpoint-{name}")
        done = folder / "done"
        with args.main_process_first(desc="features"):
            train = inputs.first(stage.load("train", "en", rows), data_args.max_train_samples)
            dev = featurizing.load_scored(stage, "dev", "en", rows, data_args.max_eval_samples)
            train_features = featurizing.featurize(stage, train, tokenizer, length, True, f"{name} train")
            dev_features = featurizing.featurize(stage, dev, tokenizer, length, False, f"{name} dev")
        if not done.is_dir():
            # a model of its own: a trainer leaves its hooks on the one it trained
            part = heads.fresh_head(
                task,
                model_args.model_name_or_path,
                model_args.model_revision,
                attention=model_args.attn_implementation,
            )
            part.load_state_dict((before or model).state_dict())
            if model_args.freeze_embeddings:
                heads.freeze_embeddings(part)
            stage_args = copy.copy(args)
            stage_args.output_dir = str(folder)
            trainer = trainers.TaskTrainer(
                model=part,
                args=stage_args,
                train_dataset=train_features,
                task=stage,
                data_collator=stage.collator(tokenizer),
                processing_class=tokenizer,
                dev=(dev, dev_features),
                eval_dataset=dev_features,
            )
            seconds += runner.train(trainer, run, last_checkpoint(folder) if folder.is_dir() else None)
            trainer.save_model(str(folder / "part"))
            if trainer.is_world_process_zero():
                (folder / "part").rename(done)
            trainer.accelerator.wait_for_everyone()
            run.trainer = None  # the checkpoints of this stage are not those of the next
        before = type(model).from_pretrained(done, dtype="float32")
    if before is not None:
        model.load_state_dict(before.state_dict())
    return seconds
