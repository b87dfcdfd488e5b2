"""A dual encoder: one encoder for queries and passages, trained so that the two of a pair lie near each other.

sentence-transformers' own trainer and losses; ours are the batches (which rows, in which languages) and the folder
that comes out: `AutoModel.from_pretrained` and `SentenceTransformer` both load it, with the same weights.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from datasets import concatenate_datasets
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.sentence_transformer.losses import (
    CachedMultipleNegativesRankingLoss,
    MultipleNegativesRankingLoss,
)
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
from torch.utils.data import DataLoader
from transformers import ProgressCallback

from tasks.pairs import get_pairs
from xstilts.checkpoint import heads
from xstilts.checkpoint.config import check_attention, check_checkpoint
from xstilts.checkpoint.encoder import load_encoder as load_checked
from xstilts.checkpoint.layers import TruncatedEncoder, depth, hidden_state
from xstilts.checkpoint.tokenizer import clean_tokenizer, load_tokenizer
from xstilts.cli import unused
from xstilts.cli.arguments import non_defaults
from xstilts.errors import UserError
from xstilts.run import inputs, results
from xstilts.run.lifecycle import Run
from xstilts.run.record import Record
from xstilts.run.settings import settings_of
from xstilts.train import code_switch, featurizing, runner, trainers
from xstilts.train.batching import loader_options, order_seed
from xstilts.train.families import family_languages
from xstilts.train.multilingual import ROUND_TRIP, align, counts, draws
from xstilts.train.training_arguments import training_arguments

# (queries (n, dim), passages (m, dim)), neither normalised -> the index (n,) of every query's nearest passage
Nearest = Callable[[np.ndarray, np.ndarray], np.ndarray]
SWITCHED = "en, code-switched"  # stands beside the languages, but is none

# ---- pairs ----------------------------------------------------------------------------------------------------------


class PairRows(torch.utils.data.Dataset):
    """Pairs of several tasks and languages; an item is asked for as (row of its query, row of its passage).

    Args:
        parts: for each task {language: Dataset of query, passage, id}. Of several languages only the ids that all have
            are kept, in the same order.
        drawn: the languages batches are made of; None: all. The others only have a say in which ids are kept, and the
            first one in which pairs may stand in one batch.
        limit: pairs of a task at most: the first so many that are kept.
        shuffle: a seed to deal out the passages anew with, the same way in every language; None: each query has its
            own.

    Attributes:
        data: all rows one after another, query and passage.
        queries, passages: for each task an array (languages drawn, pairs) of row numbers in `data`; a column is one
            pair.
        texts: for each task an array (pairs, 2) that numbers equal queries, and equal passages, alike (first
            language).
        lacking: for each task {language: ids of the first language that it lacks}.

    Raises:
        UserError: an id stands twice in one language, or no id stands in all.
    """

    def __init__(
        self,
        parts: dict[str, dict],
        drawn: Sequence[str] | None = None,
        limit: int | None = None,
        shuffle: int | None = None,
    ):
        blocks, self.queries, self.passages, self.texts, self.lacking, start = [], {}, {}, {}, {}, 0
        for task, by_language in parts.items():
            places, self.lacking[task] = align(task, {language: data["id"] for language, data in by_language.items()})
            places = places[:, :limit]
            english = next(iter(by_language.values())).select(places[0])
            texts = [np.unique(english[side][:], return_inverse=True)[1] for side in ("query", "passage")]
            rows = places + start + np.cumsum([0, *map(len, by_language.values())][:-1])[:, None]
            rows = rows[[language in (drawn or by_language) for language in by_language]]
            dealt = slice(None) if shuffle is None else draws(shuffle, "labels").permutation(rows.shape[1])
            self.queries[task], self.passages[task] = rows, rows[:, dealt]
            self.texts[task] = np.stack([texts[0], texts[1][dealt]], 1)
            blocks += [data.select_columns(["query", "passage"]) for data in by_language.values()]
            start += sum(map(len, by_language.values()))
        self.data = concatenate_datasets(blocks)

    def __len__(self):
        return sum(rows.shape[1] for rows in self.queries.values())

    def __getitem__(self, pair: tuple[int, int]) -> dict[str, str]:
        return self.__getitems__([pair])[0]

    def __getitems__(self, pairs: list[tuple[int, int]]) -> list[dict[str, str]]:
        queries, passages = (list(side) for side in zip(*pairs, strict=True))
        both = zip(self.data[queries]["query"], self.data[passages]["passage"], strict=True)
        return [{"query": query, "passage": passage} for query, passage in both]


class PairSampler:
    """Batches of (query row, passage row): in each one task, no text twice on a side, and the languages of its kind.

    mono: both sides in one language, drawn uniformly. cross: the two sides in two different languages, drawn
    uniformly. hybrid: mono with probability alpha, else cross (arXiv 2408.10536). The languages are drawn once a
    batch: in a batch that mixed them a model could tell a passage by its language alone. english: mono, of the one
    language drawn.

    An epoch sees each id once at most, in whatever language; it has floor(pairs / batch size) batches a task, which
    are full unless too few different texts are left. What comes depends on seed and epoch alone.

    Args:
        processes: the number of batches is a multiple of it.
    """

    drop_last = True

    def __init__(
        self,
        pairs: PairRows,
        batch_size: int,
        batches: str = "mono",
        alpha: float = 0.5,
        seed: int = 0,
        processes: int = 1,
    ):
        for task, of in pairs.queries.items():
            if batches in ("cross", "hybrid") and len(of) < 2:
                raise UserError(
                    f"--batch_languages {batches} needs pairs in two languages at least: --train_languages en de ..."
                )
            different = min(len(np.unique(column)) for column in pairs.texts[task].T)
            if different < batch_size or of.shape[1] < batch_size * processes:
                raise UserError(
                    f"{task} has {of.shape[1]} pairs ({different} with different texts), fewer than a batch; "
                    f"lower --per_device_train_batch_size {batch_size}."
                )
        self.pairs, self.batch_size, self.seed, self.epoch = pairs, batch_size, seed, 0
        self.mono = {"cross": 0.0, "hybrid": alpha}.get(batches, 1.0)
        self.total = sum(of.shape[1] // batch_size for of in pairs.queries.values()) // processes * processes

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self):
        return self.total

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        rng = np.random.default_rng((self.seed, self.epoch))
        found = [(task, batch) for task, texts in self.pairs.texts.items() for batch in self._batches(texts, rng)]
        for number in rng.permutation(len(found))[: self.total]:
            task, batch = found[number]
            queries, passages = self.pairs.queries[task], self.pairs.passages[task]
            if rng.random() < self.mono:
                one = other = rng.integers(len(queries))
            else:
                one, other = rng.choice(len(queries), 2, replace=False)
            yield list(zip(queries[one, batch].tolist(), passages[other, batch].tolist(), strict=True))

    def _batches(self, texts: np.ndarray, rng: np.random.Generator) -> Iterator[list[int]]:
        """The pairs in random order, cut into batches; one whose text is in the batch already waits for the next."""
        coming, waiting = iter(rng.permutation(len(texts)).tolist()), []
        for _ in range(len(texts) // self.batch_size):
            batch, still, seen = [], [], (set(), set())
            for pair in _chain(waiting, coming):
                query, passage = texts[pair].tolist()
                if query in seen[0] or passage in seen[1]:
                    still.append(pair)
                else:
                    seen[0].add(query), seen[1].add(passage)
                    batch.append(pair)
                if len(batch) == self.batch_size:
                    break
            waiting = still + waiting
            yield batch


def _chain(waiting: list, coming: Iterator) -> Iterator:
    """Takes from `waiting` (and out of it) first, then from `coming`."""
    while waiting:
        yield waiting.pop(0)
    yield from coming


# ---- model, loss, trainer -------------------------------------------------------------------------------------------


def load_encoder(name: str, revision: str = "main", attention: str | None = None):
    """A checkpoint's encoder in float32; its pooler, which no loss here reaches, is handed on as it is, if it has
    one."""
    encoder, missing = load_checked(name, revision, pooler=True, attention=attention)
    if getattr(encoder, "pooler", None) is not None:
        if missing:
            encoder.pooler = None  # drawn at random: nothing to hand on
        else:
            encoder.pooler.requires_grad_(False)
    return encoder


class UpperLayers(TruncatedEncoder):
    """The layers of an encoder above the one whose vectors are trained: away while training, back in what is saved.

    Args:
        layer: 1 to the number of layers, or None for the last.

    Raises:
        UserError: no such layer, or an encoder that cannot be cut there.
    """

    def __init__(self, encoder, layer: int | None):
        n = depth(encoder)
        if layer is not None and not 1 <= layer <= n:
            raise UserError(f"--layer {layer}: the model has layers 1 to {n} to train.")
        super().__init__(encoder, n if layer is None else layer)
        if not self.exact:
            raise UserError(
                f"--layer {layer}: a {encoder.config.model_type} model cannot be cut there; train the last layer."
            )


def build(
    name: str,
    pooling: str = "mean",
    prompts: dict[str, str] | None = None,
    revision: str = "main",
    layer: int | None = None,
    attention: str | None = None,
) -> SentenceTransformer:
    """A checkpoint's encoder, in float32, under a pooling layer; on the CPU, from where the trainer moves it.

    Args:
        layer: whose vectors, hidden_states[layer], are pooled; None: the last one's. Written into the saved folder.
        prompts: text put before every "query" or "passage"; saved with the model.

    Raises:
        UserError: it does not load as an encoder, or encoder weights are missing from it.
    """
    encoder = load_encoder(name, revision, attention)
    where = {"revision": revision}
    transformer = Transformer(name, model_kwargs=where, processor_kwargs=where, config_kwargs=where)
    transformer.model = encoder  # the checked one
    transformer.processor = load_tokenizer(name, revision)  # pads on the right, whatever the checkpoint says
    if layer is not None:
        transformer.modality_config = hidden_state(layer)
    modules = [transformer, Pooling(encoder.config.hidden_size, pooling_mode=pooling)]
    return SentenceTransformer(modules=modules, device="cpu", prompts=prompts or {})


def make_loss(model: SentenceTransformer, scale: float, mini_batch: int | None) -> torch.nn.Module:
    """InfoNCE over the batch, query to passage, of cosines times `scale` (1 / temperature).

    Args:
        mini_batch: texts encoded at a time; the batch then costs no more memory than these (GradCache, arXiv
            2101.06983), for the price of a second forward pass. None: the whole batch at once.
    """
    if mini_batch is None:
        return MultipleNegativesRankingLoss(model, scale=scale)
    return CachedMultipleNegativesRankingLoss(model, scale=scale, mini_batch_size=mini_batch)


def library_arguments(args, prompts: dict[str, str]) -> SentenceTransformerTrainingArguments:
    """transformers' TrainingArguments as sentence-transformers' own class of them."""
    values = {f.name: getattr(args, f.name) for f in dataclasses.fields(args) if f.init}
    return SentenceTransformerTrainingArguments(**values, prompts=prompts or None)


class PairTrainer(trainers.Watched, SentenceTransformerTrainer):
    """sentence-transformers' trainer over `PairRows` in the batches of a `PairSampler`."""

    task = dev = None  # runner.train rehearses the scoring of a task with a head; this one has none

    def __init__(self, *args, pairs: PairRows, sampler: PairSampler, name: str, layer: int | None = None, **kwargs):
        self.upper = UpperLayers(kwargs["model"][0].model, layer)
        super().__init__(*args, train_dataset=pairs.data, **kwargs)
        self.pairs, self.sampler = pairs, sampler
        if self.pop_callback(ProgressCallback):
            self.add_callback(trainers.NamedProgress(name))

    def add_model_card_callback(self, default_args_dict):
        """No card by the library: ours is written from results.json's own record."""

    def get_train_dataloader(self):
        self.accelerator.even_batches = False
        loader = DataLoader(
            self.pairs, batch_sampler=self.sampler, collate_fn=self.data_collator, **loader_options(self.args)
        )
        return self.accelerator.prepare(loader)

    def _load_from_checkpoint(self, checkpoint_path):
        """The encoder's weights; the library would draw a pooler where the checkpoint has none, and trip over it."""
        with self.upper.restored():
            self.model[0].model.load_state_dict(load_encoder(checkpoint_path).state_dict())

    def _save(self, output_dir=None, state_dict=None):
        """Both libraries' layout, without a card."""
        clean_tokenizer(self.model.tokenizer)
        with self.upper.restored():
            self.model.save(output_dir or self.args.output_dir, create_model_card=False)
        results.obey_umask(*Path(output_dir or self.args.output_dir).glob("*.safetensors"))


def accuracy(model: SentenceTransformer, task, examples, nearest: Nearest, batch_size: int = 64) -> dict[str, float]:
    """The task's score on its dev pairs, 0-100: every query's nearest passage by cosine. Equal tokens are embedded
    once, as in `Encoder.embed`."""
    sides = {"query": examples["query"][:], "passage": task.candidates(examples)}
    texts = [model.prompts.get(side, "") + text for side, column in sides.items() for text in column]
    ids = model.tokenizer(texts, truncation=True, max_length=model.max_seq_length)["input_ids"]
    # the first text of those with equal tokens
    of_tokens = dict(zip(map(tuple, reversed(ids)), reversed(texts), strict=True))
    place = {tokens: row for row, tokens in enumerate(of_tokens)}
    vectors = model.encode(list(of_tokens.values()), batch_size=batch_size, show_progress_bar=False)
    vectors = vectors[[place[tuple(row)] for row in ids]]
    found = nearest(vectors[: len(examples)], vectors[len(examples) :])
    return task.score(found.tolist(), examples, "en")


# ---- the run --------------------------------------------------------------------------------------------------------

# fields of TrainingArguments that this training does not take, beside those that none does
REFUSED = {
    "train_sampling_strategy": "--batch_languages says which pairs make a batch",
    "neftune_noise_alpha": "transformers knows no word embeddings of a SentenceTransformer to add noise to",
    "eval_accumulation_steps": "the pairs' vectors go to the CPU batch by batch anyway",
    "ddp_broadcast_buffers": "sentence-transformers sets it",
}


def train(
    how, family, layer: str, pooling: str, model_args, data_args, run_args, rest: list[str], nearest: Nearest
) -> None:
    """Trains `run_args.output_dir` from a checkpoint; goes on where it stopped. Writes a phase-2 results.json.

    Args:
        how: the script's own training arguments (DualEncoderArguments).
        family: languages whose ids are kept, where translations and lexicon lie (FamilyArguments).
        layer: whose vectors are trained: a number, or "last". The layers above it stay as they are.
        nearest: the search that scores the dev pairs.
        prompts: text put before every "query" or "passage"; "" for none. Kept with the model.

    Raises:
        UserError: anything wrong with arguments, rows or checkpoint, before the first step.
    """
    how = dataclasses.replace(how, query_prompt=how.query_prompt or "", passage_prompt=how.passage_prompt or "")
    tasks = [get_pairs(name, data_args.benchmark) for name in dict.fromkeys(how.train_tasks)]
    languages = family_languages(family) or ["en"]
    # whatever is drawn: of all these only ids that all have, in the order of English, its equal texts in different
    # batches
    drawn = [SWITCHED] if how.code_switch else ["en"] if how.batch_languages == "english" else languages
    languages = list(dict.fromkeys(["en", *languages]))
    name = check_checkpoint(model_args.model_name_or_path)
    check_attention(model_args.attn_implementation)
    runner.prepare(run_args)
    logging.getLogger("sentence_transformers").setLevel(logging.WARNING)  # where each checkpoint went
    defaults = tasks[0].defaults | {"max_seq_length": max(task.defaults["max_seq_length"] for task in tasks)}
    args = training_arguments(run_args, rest, defaults, refused=REFUSED, train_sampling_strategy="random")
    if args.per_device_train_batch_size < 2:
        # the other passages of a batch are what is wrong: without any the loss is 0
        raise UserError(
            "--per_device_train_batch_size 1 trains nothing: a pair learns from the others of its batch. Give 2 at "
            "least, or --cached_loss_mini_batch 1 with a larger one where memory does not suffice."
        )
    lexicons, read = {}, []
    if how.code_switch:
        lexicons, read = code_switch.read_lexicons(
            family.lexicon, how.switch_languages or languages, how.skip_identities, how.switch_treebank
        )
    settings = settings_of(
        args,
        name,
        model_args,
        layer=layer,
        pooling=pooling,
        **vars(how),
        **vars(data_args),
        **non_defaults(family) | {"train_languages": languages},
        seen_languages=[code for code in (lexicons or drawn) if code != "en"],
        lexicon_sha256={lexicon["config"]: lexicon["sha256"] for lexicon in read},
    )
    rows = inputs.open_rows(data_args, family.translations)
    with Run.open(run_args, settings, rows) as run:
        if run.finished:
            return
        prompts = {side: text for side, text in (("query", how.query_prompt), ("passage", how.passage_prompt)) if text}
        tokenizer = load_tokenizer(name, model_args.model_revision)
        trained = None if layer == "last" else int(layer)
        model = build(name, pooling, prompts, model_args.model_revision, trained, model_args.attn_implementation)
        encoder = model[0].model
        model.max_seq_length = featurizing.max_length(data_args, defaults["max_seq_length"], tokenizer, encoder.config)
        for side, prompt in prompts.items():
            if (tokens := len(tokenizer(prompt)["input_ids"])) >= model.max_seq_length:
                raise UserError(
                    f"--{side}_prompt has {tokens} tokens of at most {model.max_seq_length}: no room for a {side}. "
                    "Shorten it, or raise --max_seq_length."
                )
        if model_args.freeze_embeddings:
            heads.freeze_embeddings(encoder)

        # ---- rows ---------------------------------------------------------------------------------------------------
        notes = unused.of_model(model_args) + unused.of_rows(data_args) + unused.of_family(family, how, [])
        if how.code_switch:
            switched = code_switch.sides(
                how.code_switch, lexicons, *(how.switch_side in (side, "both") for side in ("query", "passage"))
            )
        with args.main_process_first(desc="pairs"):
            parts = {}
            for task in tasks:
                of = {code: task.load("train", code, rows) for code in languages}
                if family.match_roundtrip:
                    of[ROUND_TRIP] = task.load("train", "en", rows.roundtrip())
                if how.code_switch:
                    of[SWITCHED], found = code_switch.switch_columns(
                        of["en"], switched, how.switch_probability, run_args.seed, how.switch_treebank
                    )
                    notes += [f"{task.name} {side}: {count}" for side, count in found.items()]
                parts[task.name] = of
            dev = {task.name: inputs.first(task.load("dev", "en", rows), data_args.max_eval_samples) for task in tasks}
            pairs = PairRows(parts, drawn, data_args.max_train_samples, run_args.seed if how.shuffle_labels else None)
        notes += [
            f"{task}: pairs left out, which not every language has: {counts(n)}"
            for task, n in pairs.lacking.items()
            if n
        ]
        notes += ["passages shuffled: each query has some other's"] if how.shuffle_labels else []
        notes += unused.of_translations(family, rows)
        sampler = PairSampler(
            pairs, args.per_device_train_batch_size, how.batch_languages, how.alpha, order_seed(args), args.world_size
        )
        unused.log(notes, rows)

        # ---- train --------------------------------------------------------------------------------------------------
        label = "+".join(task.name for task in tasks)
        trainer = PairTrainer(
            model=model,
            args=library_arguments(args, prompts),
            pairs=pairs,
            sampler=sampler,
            name=run_args.arm or label,
            layer=trained,
            loss=make_loss(model, how.scale, how.cached_loss_mini_batch),
        )
        before = {
            task.name: accuracy(model, task, dev[task.name], nearest, args.per_device_eval_batch_size)
            for task in tasks
        }
        run.begin()
        seconds = runner.train(trainer, run, run.checkpoint)

        # ---- score on English dev, save, say ------------------------------------------------------------------------
        scores = {
            task.name: accuracy(model, task, dev[task.name], nearest, args.per_device_eval_batch_size)
            for task in tasks
        }
        chance = {task.name: task.chance(dev[task.name]) for task in tasks}
        key = tasks[0].metric
        flat = [
            t.name
            for t in tasks
            if not how.shuffle_labels and t.at_chance(scores[t.name][key], chance[t.name][key], len(dev[t.name]))
        ]
        for task in flat:
            runner.logger.warning(
                "\n*** %s: English dev %s is %.1f, at chance (%.1f): this training did not work. ***\n",
                task,
                key,
                scores[task][key],
                chance[task][key],
            )
        trainer.save_model(run_args.output_dir)
        single = len(tasks) == 1
        run.finish(
            Record.new(
                run_args,
                phase="intermediate",
                task=label,
                form="pairs",
                model=name,
                metric=key,
                chance=chance[label] if single else None,
                at_chance=bool(flat),
                dev={
                    "en": scores[label]
                    if single
                    else {f"{t}/{m}": v for t, by in scores.items() for m, v in by.items()}
                },
                settings=settings,
                data=rows.records,
                seconds=seconds,
                measures=runner.measures(trainer, len(pairs))
                | {f"{t}/dev_{m}_before": v for t, by in before.items() for m, v in by.items()},
                notes=notes + [f"{task}: the English dev score is at chance" for task in flat],
            ),
            checkpoint=True,
        )
        for task in tasks:
            runner.logger.info(
                "%s English dev %s: %.1f, before %.1f, chance %.1f",
                task.name,
                key,
                scores[task.name][key],
                before[task.name][key],
                chance[task.name][key],
            )
