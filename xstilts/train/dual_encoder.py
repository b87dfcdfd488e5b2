"""Train a dual encoder: one encoder for queries and passages, so that the two of a pair get similar vectors.

The trainer and the losses are sentence-transformers' own (`xstilts.train.pair_trainer`). Ours are the batches
(`xstilts.train.pair_batches`) and the folder: `AutoModel.from_pretrained` and `SentenceTransformer` both load it, with
the same weights.
"""

from __future__ import annotations

import dataclasses
import logging
from typing import Any

import numpy as np
from datasets import Dataset
from sentence_transformers import SentenceTransformer
from transformers import TrainingArguments

from tasks.errors import UserError
from tasks.pairs import Pairs, get_pairs
from tasks.rows import Rows
from xstilts.checkpoint import heads
from xstilts.checkpoint.config import check_attention, check_checkpoint
from xstilts.checkpoint.tokenizer import load_tokenizer
from xstilts.cli import unused
from xstilts.cli.arguments import (
    DataArguments,
    DualEncoderArguments,
    FamilyArguments,
    ModelArguments,
    RetrievalArguments,
    RunArguments,
    VectorArguments,
)
from xstilts.cli.defaults import non_defaults
from xstilts.run import inputs
from xstilts.run.lifecycle import Run
from xstilts.run.record import Record
from xstilts.run.settings import settings_of
from xstilts.train import code_switch, featurizing, runner
from xstilts.train.batching import order_seed
from xstilts.train.families import family_languages
from xstilts.train.multilingual import ROUND_TRIP, counts
from xstilts.train.pair_batches import PairRows, PairSampler
from xstilts.train.pair_trainer import (
    Nearest,
    PairTrainer,
    accuracy,
    build,
    encoder_of,
    library_arguments,
    make_loss,
)
from xstilts.train.training_arguments import training_arguments

SWITCHED = "en, code-switched"  # key of the code-switched rows, beside the language codes

# fields of TrainingArguments that this training does not take, besides those that no training takes
REFUSED = {
    "train_sampling_strategy": "--language_mode says which pairs make a batch",
    "neftune_noise_alpha": "transformers does not find the word embeddings of a SentenceTransformer, to add noise to",
    "eval_accumulation_steps": "the pairs' vectors go to the CPU batch by batch anyway",
    "ddp_broadcast_buffers": "sentence-transformers sets it",
}


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a training needs besides rows and model.

    Attributes:
        dual, family, model_args, data_args, run_args: the script's arguments.
        args: transformers' TrainingArguments.
        tasks: the sets of pairs, each batch from one of them.
        model: the checkpoint that training starts from.
        layer: the layer whose vectors are trained; None: the last one.
        pooling: mean or cls.
        max_length: tokens of a text, unless --max_seq_length says otherwise.
        languages: the languages that must have a pair's id for the pair to be kept; English first.
        drawn: the languages that batches are made of.
        lexicons: {language: lexicon} for code-switching.
        settings: what run.json and results.json keep.
    """

    dual: DualEncoderArguments
    family: FamilyArguments
    model_args: ModelArguments
    data_args: DataArguments
    run_args: RunArguments
    args: TrainingArguments
    tasks: list[Pairs]
    model: str
    layer: int | None
    pooling: str
    max_length: int
    languages: list[str]
    drawn: list[str]
    lexicons: dict[str, code_switch.Lexicon]
    settings: dict[str, Any]

    @property
    def label(self) -> str:
        """Name of the task; of several, their names joined by "+"."""
        return "+".join(task.name for task in self.tasks)

    @property
    def prompts(self) -> dict[str, str]:
        """{"query" or "passage": text put before it}, without empty ones."""
        prompts = {"query": self.dual.query_prompt, "passage": self.dual.passage_prompt}
        return {side: text for side, text in prompts.items() if text}


def train(
    dual: DualEncoderArguments,
    family: FamilyArguments,
    vectors: VectorArguments | RetrievalArguments,
    model_args: ModelArguments,
    data_args: DataArguments,
    run_args: RunArguments,
    rest: list[str],
    nearest: Nearest,
) -> None:
    """Train a dual encoder from a checkpoint, or resume; write the checkpoint and a phase-2 results.json.

    Args:
        vectors: `layer`, a number or "last", whose vectors are trained, and `pooling`. Higher layers stay as they are.
        rest: the words of the command line that belong to transformers' TrainingArguments.
        nearest: the search that scores the dev pairs.

    Raises:
        UserError: arguments, rows or checkpoint are wrong. Raised before the first step.
    """
    plan = _plan(dual, family, vectors, model_args, data_args, run_args, rest)
    args, tasks = plan.args, plan.tasks
    rows = inputs.open_rows(data_args, family.translations)
    with Run.open(run_args, plan.settings, rows) as run:
        if run.finished:
            return
        model = _build_model(plan)
        pairs, dev, notes = _read_pairs(plan, rows)
        trainer = _trainer(plan, model, pairs)

        # ---- train --------------------------------------------------------------------------------------------------
        def dev_scores() -> dict[str, dict[str, float]]:
            batch_size = args.per_device_eval_batch_size
            return {task.name: accuracy(model, task, dev[task.name], nearest, batch_size) for task in tasks}

        before = dev_scores()
        run.begin(notes)
        runner.train(trainer, run, run.checkpoint)

        # ---- score on English dev, save, finish ---------------------------------------------------------------------
        scores = dev_scores()
        chance = {task.name: task.chance(dev[task.name]) for task in tasks}
        at_chance = _warn_at_chance(plan, dev, scores, chance, run.is_rehearsal)
        trainer.save_model(str(run_args.output_dir))
        notes += [f"{task}: the English dev score is at chance" for task in at_chance]
        measures = runner.measures(trainer, len(pairs)) | _flatten(before, "dev_", "_before")
        record = _record(run, plan, scores, chance, bool(at_chance), measures, notes)
        key = tasks[0].metric
        for name in scores:
            numbers = (scores[name][key], before[name][key], chance[name][key])
            runner.logger.info("%s English dev %s: %.1f, before %.1f, chance %.1f", name, key, *numbers)
        run.finish(record, checkpoint=True)


def _plan(
    dual: DualEncoderArguments,
    family: FamilyArguments,
    vectors: VectorArguments | RetrievalArguments,
    model_args: ModelArguments,
    data_args: DataArguments,
    run_args: RunArguments,
    rest: list[str],
) -> Plan:
    """Check the arguments and derive what follows from them; see `train` for arguments and errors."""
    dual = dataclasses.replace(dual, query_prompt=dual.query_prompt or "", passage_prompt=dual.passage_prompt or "")
    tasks = [get_pairs(name, data_args.benchmark) for name in dict.fromkeys(dual.train_tasks)]
    languages = family_languages(family) or ["en"]
    # The arms of a family share their pairs whatever languages they draw: those that every language has.
    drawn = [SWITCHED] if dual.code_switch else ["en"] if dual.batch_languages == "english" else languages
    languages = list(dict.fromkeys(["en", *languages]))
    name = check_checkpoint(model_args.model_name_or_path)
    check_attention(model_args.attn_implementation, head=False)
    runner.prepare(run_args)
    logging.getLogger("sentence_transformers").setLevel(logging.WARNING)  # it logs the path of each checkpoint
    defaults = tasks[0].defaults | {"max_seq_length": max(task.defaults["max_seq_length"] for task in tasks)}
    args = training_arguments(run_args, rest, defaults, refused=REFUSED, train_sampling_strategy="random")
    if args.per_device_train_batch_size < 2:
        # the other passages of a batch are the negatives: without them the loss is 0
        raise UserError(
            "--per_device_train_batch_size 1 trains nothing: a pair learns from the others of its batch. Give 2 or "
            "more. If memory is short, give a larger batch and --cached_loss_mini_batch 1."
        )
    lexicons, lexicon_records = _read_lexicons(dual, family, languages)
    pooling = vectors.pooling or "mean"
    settings = settings_of(
        args,
        name,
        model_args,
        layer=vectors.layer,
        pooling=pooling,
        **vars(dual),
        **vars(data_args),
        **non_defaults(family) | {"train_languages": languages},
        seen_languages=[code for code in (lexicons or drawn) if code != "en"],
        lexicon_sha256={lexicon["config"]: lexicon["sha256"] for lexicon in lexicon_records},
    )
    return Plan(
        dual,
        family,
        model_args,
        data_args,
        run_args,
        args,
        tasks,
        name,
        None if vectors.layer == "last" else int(vectors.layer),
        pooling,
        defaults["max_seq_length"],
        languages,
        drawn,
        lexicons,
        settings,
    )


def _read_lexicons(
    dual: DualEncoderArguments, family: FamilyArguments, languages: list[str]
) -> tuple[dict[str, code_switch.Lexicon], list[dict[str, Any]]]:
    if not dual.code_switch:
        return {}, []
    assert family.lexicon  # `code_switch.check` refuses --code_switch without it
    return code_switch.read_lexicons(
        family.lexicon, dual.switch_languages or languages, dual.skip_identities, dual.switch_treebank
    )


def _build_model(plan: Plan) -> SentenceTransformer:
    """Return the model to train.

    Raises:
        UserError: the checkpoint does not load, or a prompt leaves no room for a text.
    """
    model_args = plan.model_args
    tokenizer = load_tokenizer(plan.model, model_args.model_revision)
    model = build(
        plan.model,
        plan.pooling,
        plan.prompts,
        model_args.model_revision,
        plan.layer,
        model_args.attn_implementation,
    )
    encoder = encoder_of(model)
    length = featurizing.max_length(plan.data_args, plan.max_length, tokenizer, encoder.config)
    model.max_seq_length = length
    for side, prompt in plan.prompts.items():
        if (tokens := len(tokenizer(prompt)["input_ids"])) >= length:
            raise UserError(
                f"--{side}_prompt has {tokens} tokens, and --max_seq_length is {length}: no room for a {side}. "
                "Shorten the prompt, or raise --max_seq_length."
            )
    if model_args.freeze_embeddings:
        heads.freeze_embeddings(encoder)
    return model


def _read_pairs(plan: Plan, rows: Rows) -> tuple[PairRows, dict[str, Dataset], list[str]]:
    """Return (train pairs, {task: English dev pairs}, notes for results.json)."""
    dual, family, data_args, seed = plan.dual, plan.family, plan.data_args, plan.args.seed
    notes = unused.of_model(plan.model_args) + unused.of_rows(data_args) + unused.of_family(family, dual, [])
    if dual.code_switch:
        sides = code_switch.sides(
            dual.code_switch, plan.lexicons, *(dual.switch_side in (side, "both") for side in ("query", "passage"))
        )
    with plan.args.main_process_first(desc="pairs"):
        by_task: dict[str, dict[str, Dataset]] = {}
        joined: dict[str, np.ndarray] = {}
        for task in plan.tasks:
            loaded = {code: task.read("train", code, rows) for code in plan.languages}
            by_language = {code: of.examples for code, of in loaded.items()}
            if (parts := next(iter(loaded.values())).parts) is not None:
                joined[task.name] = parts
            if family.match_roundtrip:
                by_language[ROUND_TRIP] = task.load("train", "en", rows.roundtrip())
            if dual.code_switch:
                by_language[SWITCHED], switched = code_switch.switch_columns(
                    by_language["en"], sides, dual.switch_probability, seed, dual.switch_treebank
                )
                notes += [f"{task.name} {side}: {count}" for side, count in switched.items()]
            by_task[task.name] = by_language
        limit = data_args.max_eval_samples
        scored = {task.name: task.read("dev", "en", rows) for task in plan.tasks}
        dev = {name: inputs.first(of.examples, limit, of.parts) for name, of in scored.items()}
        shuffle = seed if dual.shuffle_labels else None
        pairs = PairRows(by_task, plan.drawn, data_args.max_train_samples, shuffle, joined)
    notes += [
        f"{name}: pairs left out, which not every language has: {counts(missing)}"
        for name, missing in pairs.lacking.items()
        if missing
    ]
    notes += ["passages shuffled: each query has some other's"] if dual.shuffle_labels else []
    return pairs, dev, notes + unused.of_translations(family, rows)


def _trainer(plan: Plan, model: SentenceTransformer, pairs: PairRows) -> PairTrainer:
    """Return the trainer.

    Raises:
        UserError: there are fewer pairs than a batch.
    """
    args, dual = plan.args, plan.dual
    sampler = PairSampler(
        pairs, args.per_device_train_batch_size, dual.batch_languages, dual.alpha, order_seed(args), args.world_size
    )
    return PairTrainer(
        model=model,
        args=library_arguments(args, plan.prompts),
        pairs=pairs,
        sampler=sampler,
        name=plan.run_args.arm or plan.label,
        layer=plan.layer,
        loss=make_loss(model, dual.scale, dual.cached_loss_mini_batch),
    )


def _warn_at_chance(plan: Plan, dev: dict[str, Dataset], scores: dict, chance: dict, rehearsal: bool) -> list[str]:
    """Log a warning for each task whose dev score is at chance; return their names. Shuffled passages: none."""
    key = plan.tasks[0].metric
    at_chance = [
        task.name
        for task in plan.tasks
        if not plan.dual.shuffle_labels
        and task.at_chance(scores[task.name], {key: chance[task.name][key]}, len(dev[task.name]))
    ]
    for task in at_chance:
        runner.warn_at_chance(task, key, scores[task][key], chance[task][key], rehearsal)
    return at_chance


def _record(
    run: Run,
    plan: Plan,
    scores: dict[str, dict[str, float]],
    chance: dict[str, dict[str, float]],
    at_chance: bool,
    measures: dict[str, float],
    notes: list[str],
) -> Record:
    single = len(plan.tasks) == 1
    return run.record(
        phase="intermediate",
        task=plan.label,
        form=plan.tasks[0].form,
        model=plan.model,
        metric=plan.tasks[0].metric,
        chance=chance[plan.label] if single else None,
        at_chance=at_chance,
        dev={"en": scores[plan.label] if single else _flatten(scores)},
        measures=measures,
        notes=notes,
    )


def _flatten(scores: dict[str, dict[str, float]], prefix: str = "", suffix: str = "") -> dict[str, float]:
    """Return {"task/metric": score}."""
    return {f"{task}/{prefix}{m}{suffix}": score for task, by in scores.items() for m, score in by.items()}
