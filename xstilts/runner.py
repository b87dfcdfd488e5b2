"""What the training scripts share: settings, features, the trainer, scoring by language, finishing a folder."""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import logging
import os
import shutil
import time
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

# Two torch threads that spin while they wait starve each other on shared cores; set before torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")

import numpy as np
import pyarrow
import torch
import transformers
from datasets import concatenate_datasets
from safetensors import SafetensorError, safe_open
from transformers import DataCollatorForLanguageModeling, ProgressCallback, Trainer, TrainingArguments
from transformers.trainer_pt_utils import LengthGroupedSampler
from transformers.trainer_utils import get_last_checkpoint

from tasks.base import fingerprint
from tasks.rows import Rows, sha256
from xstilts import cards, claims, processes, results, submission
from xstilts.arguments import STARTED, unknown
from xstilts.errors import UserError, first_line, full_disk

logger = logging.getLogger("xstilts")


def has_bf16() -> bool:
    """Whether this machine multiplies bf16 matrices in hardware."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported()
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def training_arguments(run, rest: list[str], defaults: dict, **fixed) -> TrainingArguments:
    """TrainingArguments from the task's defaults, then the user's (`rest`), then what the script fixes.

    Ours beside transformers' defaults: length-grouped batches, bf16 where the machine has it, a log line every 50
    steps, checkpoints each epoch of which the last (and the best) is kept.

    Raises:
        UserError: an argument is unknown or wrong, or the run has not the processes it was asked to have.
    """
    from transformers.hf_argparser import HfArgumentParser

    if any(arg.partition("=")[0] == "--hub_token" for arg in rest):  # transformers would keep it in a file of every checkpoint
        raise UserError("--hub_token is not taken, so that it stands in no file. Log in with `hf auth login`, or set HF_TOKEN.")
    parser = HfArgumentParser(TrainingArguments, allow_abbrev=False)
    for key in (names := {a.dest for a in parser._actions}) & {"output_dir", "seed", "push_to_hub", "hub_model_id"}:
        for flag in [arg for arg in rest if arg.split("=")[0] == f"--{key}"]:
            raise unknown(flag, names)
    parser.set_defaults(**{
        "output_dir": run.output_dir, "seed": run.seed, "bf16": has_bf16(), "logging_steps": 50, "save_strategy": "epoch",
        "eval_strategy": "no", "save_total_limit": 1, "train_sampling_strategy": "group_by_length",
        "per_device_eval_batch_size": 64, "use_cpu": not torch.cuda.is_available(), "label_names": ["labels"],
        "disable_tqdm": False,
        **{k: v for k, v in defaults.items() if k in names}, **fixed,
    })

    def stop(message):
        raise UserError(message)

    parser.error = stop
    namespace, more = parser.parse_known_args(rest)
    if more:
        raise unknown(more[0], names | getattr(rest, "known", frozenset()))
    values = vars(namespace)
    if values["fp16"]:
        values["bf16"] = False
    asked = processes.world_size()
    try:
        args = TrainingArguments(**values)
    except (ValueError, ImportError) as error:
        raise UserError(first_line(error)) from error
    if args.world_size != asked:
        raise UserError(f"{asked} processes were asked for, {args.world_size} work together. {processes.HOW}")
    processes.watch(functools.partial(lost_touch, run.output_dir))
    if args.n_gpu > 1:  # torch's DataParallel would make every batch so many times larger, and nobody asked for that
        logger.warning("%d GPUs are visible, one is used. %s", args.n_gpu, processes.HOW)
        args._n_gpu = 1
    logger.info("World size: %d (%s), %d rows a step", args.world_size, args.device.type,
                args.world_size * args.train_batch_size * args.gradient_accumulation_steps)
    return args


class NamedProgress(ProgressCallback):
    """The Trainer's bars, with a name on them."""

    def __init__(self, name: str):
        super().__init__()
        self.name = name

    def on_train_begin(self, args, state, control, **kwargs):
        super().on_train_begin(args, state, control, **kwargs)
        if self.training_bar is not None:
            self.training_bar.set_description(f"{self.name} training")

    def on_prediction_step(self, args, state, control, eval_dataloader=None, **kwargs):
        super().on_prediction_step(args, state, control, eval_dataloader=eval_dataloader, **kwargs)
        if self.prediction_bar is not None:
            self.prediction_bar.set_description(f"{self.name} scoring", refresh=False)


class Masking(DataCollatorForLanguageModeling):
    """transformers' masking, of which seed and batch decide alone what is masked.

    Batches are made ahead of the step that takes them, so a generator saved with a checkpoint is already past the next
    one's masks, and a resumed run would mask it anew.
    """

    def __init__(self, tokenizer, mlm_probability: float, seed: int):
        super().__init__(tokenizer, mlm_probability=mlm_probability)
        self.run_seed = seed

    def __call__(self, features, return_tensors=None):
        batch = repr([list(row["input_ids"]) for row in features]).encode()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.run_seed * 2**32 + zlib.crc32(batch))
            return super().__call__(features, return_tensors)


POOL, LARGE_POOL = 8, 50  # batches among which rows are sorted by length, in epochs of fewer and of at least LARGE batches
LARGE = 500


def length_groups(lengths: torch.Tensor, size: int, generator: torch.Generator) -> list[torch.Tensor]:
    """Every row once, in batches of `size` rows of about one length, in random order (a short batch, if any, last).

    Sorted in pools of some batches, and the batches shuffled. transformers sorts pools of up to 50 and keeps them from
    long to short; lengths tell labels and languages apart, and on small data its batches then pull one way after the other:
    XNLI in the world came to 53 in English, against 60 with batches at random. On large data small pools cost time instead:
    of SQuAD's and XNLI's batches 11 and 9 % would be padding, with large ones 2 %.
    """
    pool = size * (POOL if len(lengths) < LARGE * size else LARGE_POOL)
    order = torch.randperm(len(lengths), generator=generator)
    pools = [some[lengths[some].argsort(descending=True, stable=True)] for some in order.split(pool)]
    batches = [batch for some in pools for batch in some.split(size)]
    short = [batch for batch in batches if len(batch) < size]
    full = [batch for batch in batches if len(batch) == size]
    return [full[i] for i in torch.randperm(len(full), generator=generator).tolist()] + short


class EpochSampler(torch.utils.data.Sampler):
    """`length_groups` in an order that seed and epoch decide alone.

    transformers' own sampler draws from the global generator, whose state is another when a run is resumed in the middle
    of an epoch: some rows would come twice and others not at all.
    """

    def __init__(self, lengths: list[int], size: int, seed: int):
        self.lengths, self.size, self.seed, self.epoch = torch.tensor(lengths), size, seed, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self):
        return len(self.lengths)

    def __iter__(self):
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        return iter(torch.cat(length_groups(self.lengths, self.size, generator)).tolist())


class Dealt:
    """Each of `batches` cut into one part for every process, so that together they see the rows that one alone would see.

    The parts differ by one row at most, and only in the last batch of an epoch. Where that has fewer rows than there
    are processes, some come twice.
    """

    drop_last = True  # there is a part for each process always

    def __init__(self, batches, parts: int):
        self.batches, self.parts = batches, parts

    def set_epoch(self, epoch: int) -> None:
        source = getattr(self.batches, "sampler", self.batches)
        if hasattr(source, "set_epoch"):
            source.set_epoch(epoch)

    def __len__(self):
        return len(self.batches) * self.parts

    def __iter__(self):
        for batch in self.batches:
            rows = list(itertools.islice(itertools.cycle(batch), max(len(batch), self.parts)))
            for part in np.array_split(rows, self.parts):
                yield part.tolist()


def deal(loader, batches, parts: int):
    """A prepared loader that hands its process the parts of `batches` (of all processes together) that are its own."""
    shard = loader.batch_sampler  # accelerate's: of every so many batches one is this process's
    shard.batch_sampler = shard.sampler = Dealt(batches, parts)  # as `sampler` accelerate tells it the epoch after a resume
    shard.batch_size, shard.drop_last = None, True
    return loader


class Watched:
    """A Trainer that stops when its loss or weights are no longer numbers, before it keeps such a checkpoint.

    It also counts the tokens it trains on (padding aside, over all processes) in what its checkpoints keep.
    """

    def training_step(self, model, inputs, *args, **kwargs):
        count = sum(value.sum() for key, value in inputs.items() if key.endswith("attention_mask"))
        self.state.num_input_tokens_seen += int(self.accelerator.gather(count.to(self.args.device)).sum())
        loss = super().training_step(model, inputs, *args, **kwargs)
        if not torch.isfinite(loss):
            raise UserError("the loss is no longer a number; try a smaller --learning_rate")
        return loss

    def _save_checkpoint(self, model, trial):
        check_weights(self.model)
        # transformers deletes the oldest by the clock: one that was set back would make the newest checkpoint that
        for older in Path(self.args.output_dir).glob("checkpoint-*"):
            if older.stat().st_mtime > time.time() and self.is_world_process_zero():
                os.utime(older, (0, 0))
        super()._save_checkpoint(model, trial)


def check_weights(model) -> None:
    """Raises UserError if a weight is not a finite number."""
    if not all(torch.isfinite(p).all() for p in model.parameters()):
        raise UserError("the weights are no longer finite numbers; try a smaller --learning_rate")


class TaskTrainer(Watched, Trainer):
    """HF's Trainer with one loss for every head, and dev scores from the task's own decoding.

    Args:
        task: the task adapter (None for a mixture or masked LM).
        dev: (examples, features) of English dev, for choosing the checkpoint.
        name: what the progress bar says; the task's name unless given.
    """

    def __init__(self, *args, task=None, dev=None, name=None, **kwargs):
        super().__init__(*args, compute_loss_func=token_mean, **kwargs)  # told to __init__ too: it decides how losses are summed
        self.task, self.dev = task, dev
        if self.pop_callback(ProgressCallback):
            self.add_callback(NamedProgress(name or (task.name if task else Path(self.args.output_dir).name)))

    def _get_train_sampler(self, train_dataset=None):
        sampler = super()._get_train_sampler(train_dataset)
        if not isinstance(sampler, LengthGroupedSampler):
            return sampler
        return EpochSampler(sampler.lengths, sampler.batch_size * self.args.world_size, self.args.seed)

    def get_train_dataloader(self):
        """Batches of all processes together, of which each has its part (one process: the library's own loader)."""
        loader, parts = super().get_train_dataloader(), self.args.world_size
        if parts == 1:
            return loader
        own = loader.batch_sampler.batch_sampler
        return deal(loader, torch.utils.data.BatchSampler(own.sampler, own.batch_size * parts, own.drop_last), parts)

    def _get_eval_sampler(self, eval_dataset):
        return torch.utils.data.SequentialSampler(eval_dataset)  # grouping by length would shuffle what is scored by position

    def compute_loss(self, model, inputs, *args, **kwargs):
        self.compute_loss_func = functools.partial(token_mean, attention_mask=inputs["attention_mask"])
        return super().compute_loss(model, inputs, *args, **kwargs)

    def evaluate(self, eval_dataset=None, ignore_keys=None, metric_key_prefix="eval"):
        """The task's scores on English dev, 0-100."""
        if self.dev is None:
            return super().evaluate(eval_dataset, ignore_keys, metric_key_prefix)
        predictions = self.task.decode(self.logits(self.dev[1]), self.dev[1], self.dev[0])
        metrics = {f"eval_{k}": v for k, v in self.task.score(predictions, self.dev[0], "en").items()}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def logits(self, features):
        """Logits in the order of `features`: array (n, ...), or for spans (starts, ends), each (n, tokens).

        Rows are run sorted by length, so that batches hold little padding.
        """
        order = np.argsort(features["length"], kind="stable")[::-1]
        output = self.predict(features.select(order)).predictions
        back = np.argsort(order)
        return tuple(part[back] for part in output) if isinstance(output, tuple) else output[back]


def token_mean(outputs, labels, num_items_in_batch=None, attention_mask=None):
    """Cross-entropy over every label that is not -100, divided by their number in the whole optimiser step.

    One formula for every head (spans: start and end are two labels), so that neither accumulation nor the number of
    processes changes loss or gradient. labels: (n,) classes, (n, tokens) tags, or (n, 2) span ends. A span cannot lie
    in the padding (attention_mask 0); counting it among the choices would make the loss depend on the batch.
    """
    if "logits" in outputs:
        logits = outputs["logits"]
    else:
        logits = torch.stack((outputs["start_logits"], outputs["end_logits"]), 1).float()
        if attention_mask is not None:
            logits = logits.masked_fill(attention_mask[:, None] == 0, torch.finfo(logits.dtype).min)
    total = torch.nn.functional.cross_entropy(
        logits.reshape(-1, logits.size(-1)).float(), labels.reshape(-1), ignore_index=-100, reduction="sum"
    )
    return total / (num_items_in_batch if num_items_in_batch is not None else (labels != -100).sum())


def featurize(task, examples, tokenizer, max_length: int, train: bool, desc: str):
    """The examples' features, cached on disk by datasets (key: rows, adapter, tokenizer, length)."""
    options = {"tokenizer": tokenizer, "max_length": max_length, "train": train}
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()  # what the last call left in it is no part of what it is
    backend.no_padding()
    key = fingerprint(task, examples, backend.to_str(), max_length, train)
    features = through_cache(examples, task.featurize, with_indices=True, fn_kwargs=options, remove_columns=examples.column_names,
                             desc=f"{desc}: features", new_fingerprint=key)
    return through_cache(features, lengths, input_columns="input_ids", desc=f"{desc}: lengths")


def through_cache(data, function, **options):
    """`data.map` in batches; what the cache holds of it and cannot be read, cut off or damaged, is made anew, and that is said."""
    try:
        return data.map(function, batched=True, **options)
    except (pyarrow.ArrowInvalid, OSError) as error:
        if full_disk(error):
            raise
        logger.warning("%s: the cache of it cannot be read (%s); making it anew.", options["desc"], first_line(error))
        return data.map(function, batched=True, load_from_cache_file=False, **options)


def text_features(task, texts: dict, tokenizer, max_length: int, train: bool):
    """The features of texts in several languages, {language: examples}, one language after the other."""
    return concatenate_datasets([featurize(task, some, tokenizer, max_length, train, code) for code, some in texts.items()])


def lengths(input_ids: list) -> dict[str, list[int]]:
    """Tokens a feature (of the longest choice), for grouping by length."""
    return {"length": [max(map(len, ids)) if ids and isinstance(ids[0], list) else len(ids) for ids in input_ids]}


def first(data, n: int | None):
    """The first n examples (all if None). Examples are cut, never features: a cut window would score as a wrong answer."""
    return data if n is None else data.select(range(min(n, len(data))))


def max_length(data_args, task_length: int, tokenizer, config) -> int:
    """Tokens a feature may have: the user's, or the task's capped by what the model takes.

    Raises:
        UserError: the user's is more than the model takes.
    """
    positions = getattr(config, "max_position_embeddings", None)
    limit = min(positions - (2 if config.model_type in ("xlm-roberta", "roberta", "camembert") else 0) if positions else 10**6,
                tokenizer.model_max_length)
    if data_args.max_seq_length is None:
        return min(task_length, limit)
    if data_args.max_seq_length > limit:
        raise UserError(f"--max_seq_length {data_args.max_seq_length}: the model takes at most {limit} tokens.")
    return data_args.max_seq_length


def prepare(run, needs_output: bool = True) -> None:
    """Logging, seeds, and the output folder, which must be writable."""
    logging.basicConfig(level=logging.INFO if is_first() else logging.ERROR, format="%(message)s")
    for noisy in ("httpx", "filelock", "fsspec", "datasets", "faiss", "urllib3"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    transformers.utils.logging.disable_progress_bar()  # "Loading weights": not what the user waits for
    transformers.utils.logging.set_verbosity_error()
    if needs_output:
        if not run.output_dir:
            raise UserError("--output_dir is missing.")
        try:
            Path(run.output_dir).mkdir(parents=True, exist_ok=True)
            probe = Path(run.output_dir, f".writable-{os.getpid()}")
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise UserError(f"--output_dir {run.output_dir} cannot be written: {error.strerror}.") from error
    transformers.set_seed(run.seed)


def open_rows(data_args, translations: str | None = None) -> Rows:
    return Rows(data_args.data_root, data_args.splits, translations)


def choose_languages(task, rows, wanted: list[str], flag: str = "--languages") -> list[str]:
    """The task's languages, or the wanted ones among those there are.

    Raises:
        UserError: a wanted language has no rows.
    """
    from tasks import languages as codes

    if not wanted:
        return task.languages(rows)
    have = task.available(rows)
    wanted = list(dict.fromkeys(codes.normalize(code) for code in wanted))
    for code in wanted:
        if code not in have:
            raise UserError(f"{flag} {code}: {task.name} has no such test rows here; it has {' '.join(have)}.")
    return wanted


def is_first() -> bool:
    """Whether this process is the one that writes: the only one, or the first of those that torchrun started."""
    return int(os.environ.get("RANK", 0)) == 0


def last_checkpoint(folder: str) -> str | None:
    """The newest whole checkpoint below `folder`; others newer than it are removed, and that is said.

    Every process calls this; the first one looks.
    """
    box = [None]
    while is_first() and (found := get_last_checkpoint(folder)):
        if is_whole(Path(found)):
            box = [found]
            break
        logger.warning("%s is not whole; going back to the one before, or to the beginning.", found)
        shutil.rmtree(found)
    return agreed(box[0])


def agreed(value):
    """What the first process says, on every process that trains; where one works alone, or leads helpers, its own value."""
    box = [value]
    if torch.distributed.is_initialized() and processes.TEAM.size == 1:
        torch.distributed.broadcast_object_list(box)
    return box[0]


def is_whole(checkpoint: Path) -> bool:
    """Whether a run can go on from a checkpoint as if it had not stopped.

    trainer_state.json is the last file the Trainer writes, so this is usually enough; but files get lost and cut later too,
    and without optimizer or random state the Trainer would go on all the same, to other weights.
    """
    try:
        state = json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
        for file in checkpoint.glob("*.safetensors"):
            with safe_open(file, "pt"):  # compares the file's size with what its header says
                pass
    except (OSError, ValueError, SafetensorError):
        return False
    if not isinstance(state, dict) or not isinstance(state.get("global_step"), int):
        return False
    if any(checkpoint.glob("global_step*")) or any(checkpoint.glob("pytorch_model_fsdp*")):  # sharded: the libraries' own layout
        return True
    pickles = [checkpoint / "optimizer.pt", checkpoint / "scheduler.pt", *checkpoint.glob("rng_state*.pth")]
    return len(pickles) > 2 and all(map(zipfile.is_zipfile, pickles)) and any(checkpoint.glob("*.safetensors"))


def resumable(run, settings: dict, rows: Rows) -> str | None:
    """The newest whole checkpoint, or None; those of other rows, or of a parent that was trained again, are removed, and that is said.

    Args:
        rows: of which all that are trained on have been read.

    Raises:
        UserError: the folder was begun with other arguments, see `compare`.
    """
    old, now = compare(run, settings), inputs(settings, rows)
    if old and is_first() and any(old.get(key, now[key]) != now[key] for key in now):  # older versions did not keep them
        logger.warning("%s: the model it starts from, or its rows, are others since it was begun; beginning anew.", run.output_dir)
        cards.clean(Path(run.output_dir))
    return last_checkpoint(run.output_dir)


def inputs(settings: dict, rows: Rows) -> dict:
    """What the arguments led to, by its name in run.json: other inputs are no mistake, but none may be mixed with those before."""
    return json.loads(as_json({"model_finished": settings.get("model_finished"), "data": unique(rows.records)}))


def begin(run, settings: dict, rows: Rows) -> str | None:
    """The checkpoint to resume from, or None, see `resumable`; what is left of an earlier result or failure goes."""
    checkpoint = resumable(run, settings, rows)
    if is_first():
        for name in (results.FILE_NAME, results.FAILED):
            Path(run.output_dir, name).unlink(missing_ok=True)
        results.write_text(Path(run.output_dir, "run.json"), as_json(settings | inputs(settings, rows)))
    if checkpoint:
        logger.info("Going on from %s", checkpoint)
    return checkpoint


def compare(run, settings: dict) -> dict | None:
    """Compares this run's settings with those the folder was begun with, which come back: None if nothing was made with them.

    Raises:
        UserError: they are others (the difference is shown), and there is something that was made with them; or what they
            were cannot be read.
    """
    path, old = Path(run.output_dir, "run.json"), None
    if any(path.parent.glob("checkpoint-*")) or (path.is_file() and path.with_name(results.FILE_NAME).is_file()):
        try:
            old = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            old = first_line(error)
        if not isinstance(old, dict):
            raise UserError(f"{path} cannot be read ({old}), so nobody knows what the folder was begun with. Delete the folder, or give "
                            "another --output_dir.")
        # an argument there was not yet, and that is not given now, makes no difference
        differ = sorted(k for k in (old.keys() | settings.keys()) - {"model_finished", "data"} if old.get(k) != settings.get(k)
                        and (k in old or settings[k]))
        if differ:
            shown = "; ".join(f"{k}: {old.get(k)!r} then, {settings.get(k)!r} now" for k in differ[:5])
            raise UserError(f"{run.output_dir} was begun with other arguments ({shown}). Give the same, another "
                            "--output_dir, or delete the folder.")
    return old


def finished(run, settings: dict) -> bool:
    """Whether this very run is done already: results.json is there, of the same settings, rows and parent.

    If rows or parent have changed since, the run is to be done again. If not, its results.json is touched, so that make,
    which goes by time, does not ask again (one that was written after this process began is new to make already). Waits for
    another process that is at work on it.
    """
    # the others ask again and again, lest they give up on the first one while it waits for another run; what it finds decides
    while not agreed(claims.claim(run.output_dir, patience=60) if is_first() else None):
        pass
    return agreed(_finished(run, settings) if is_first() else None)


def _finished(run, settings: dict) -> bool:
    stamp = Path(run.output_dir, "results.json")
    if not stamp.is_file():
        return False
    compare(run, settings)
    if reason := outdated(results.read(stamp), settings):
        logger.info("%s: %s; running it again.", run.output_dir, reason)
        return False
    if stamp.stat().st_mtime < STARTED:
        stamp.touch()
    cards.clean(stamp.parent)  # what a kill just before its end has left
    claims.release(run.output_dir)
    logger.info("%s is finished; nothing to do. Delete its results.json to run it again.", run.output_dir)
    return True


def outdated(record: dict, settings: dict) -> str | None:
    """Why a result no longer stands for its inputs, or None: the parent was trained again, or a file of rows changed."""
    if (now := settings.get("model_finished")) is not None:
        then = record["settings"].get("model_finished")  # older versions did not keep it
        if now != then if then is not None else now > record["finished"]:
            return f"{settings['model']} was trained again"
    if settings["data_root"] != "hub":
        rows = Rows(settings["data_root"], translations=settings.get("translations"))
        for data in record["data"]:
            file = rows.file(data["id"], data["config"], data["split"].partition("[")[0])
            if file is None or sha256(file) != data["sha256"]:
                return f"the rows of {data['id']} ({data['config']}, {data['split']}) have changed"
    return None


def parent(model: str) -> dict[str, str]:
    """When the training of the checkpoint a run starts from was finished, for its settings; {} where that is no folder of ours.

    It tells whether it is still the same one, and, as it is only compared for equality, whatever the clock did since.
    """
    path = Path(model, results.FILE_NAME)
    return {"model_finished": results.read(path)["finished"]} if path.is_file() else {}


def settings_of(args: TrainingArguments, model: str, **more) -> dict:
    """What a run was told: the TrainingArguments that differ from transformers' defaults, and the script's own."""
    plain = TrainingArguments(output_dir="x", use_cpu=args.use_cpu).to_dict()
    volatile = {"output_dir", "logging_dir", "run_name", "hub_token", "disable_tqdm", "local_rank", "report_to", "label_names"}
    changed = {k: v for k, v in args.to_dict().items() if k not in volatile and plain.get(k) != v}
    return json.loads(json.dumps(changed | {"model": model} | parent(model) | more, default=str))


def train(trainer, checkpoint: str | None) -> float:
    """Trains (or goes on), leaves the last or best weights in the model. Returns seconds.

    Raises:
        UserError: it cannot go on, see `failures`.
    """
    start = time.time()
    with failures(trainer.args.output_dir, trainer):
        _train(trainer, checkpoint)
    return time.time() - start


@contextlib.contextmanager
def failures(folder: str | os.PathLike, trainer=None) -> Iterator[None]:
    """What stops a run that was begun is kept in its folder, in failed.json, for the report: a cause, the last checkpoint.

    Args:
        trainer: of a training; None for a measurement.

    Raises:
        UserError: naming folder, cause and checkpoint, where a user can do something about it: memory, disk, no numbers.
            Anything else is raised as it is.
    """
    try:
        yield
    except Exception as error:
        folder = Path(folder)
        last = get_last_checkpoint(folder)
        place = folder.parent if folder.name.startswith("checkpoint-") else folder  # a stage's, see xstilts.stages
        cause = cause_of(error, LESS if trainer else "--max_seq_length, or give --dtype bf16")
        if not (processes.lost(error) and Path(place, results.FAILED).is_file()):  # the process that ended has said more
            with contextlib.suppress(UserError):  # the disk may be full
                results.write_failure(place, cause or f"{type(error).__name__}: {first_line(error)}", last)
        if cause is None:
            raise
        if trainer is None:
            raise UserError(f"{place} stopped: {cause}.") from error
        raise UserError(f"{place} stopped at step {trainer.state.global_step}: {cause}. Last good checkpoint: {last or 'none'}; the same "
                        "command goes on from it.") from error


def lost_touch(folder: str, cause: str) -> None:
    """Keeps in `folder` why a run has ended that another process was lost to, for the report."""
    if is_first():
        results.write_failure(folder, cause, get_last_checkpoint(folder))


LESS = "--per_device_train_batch_size (and raise --gradient_accumulation_steps), --per_device_eval_batch_size or --max_seq_length"


def cause_of(error: Exception, less: str) -> str | None:
    """Why a run cannot go on, and what to do, where that is not a mistake in the program; else None.

    Args:
        less: what to lower where memory does not suffice.
    """
    said = str(error).lower()
    if isinstance(error, UserError):
        return str(error).rstrip(".")
    if isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in said or "out of memory" in said:
        return f"out of memory; lower {less}"
    if full_disk(error) or "pytorchstreamwriter failed" in said or "inline_container" in said:  # torch.save does not say why
        return f"the folder cannot be written, the disk may be full ({first_line(error)})"
    return processes.lost(error)


def _train(trainer, checkpoint: str | None) -> None:
    # A few rows through model, decoding and score before hours of training. Not where there are several processes: a model
    # that accelerate has evaluated counts as prepared there, and would be trained by each process for itself, without DDP.
    if checkpoint is None and trainer.dev is not None and trainer.task is not None and trainer.args.world_size == 1:
        few = trainer.dev[0].select(range(min(4, len(trainer.dev[0]))))
        wanted = [i for i, e in enumerate(trainer.dev[1]["example"]) if e < len(few)]
        features = trainer.dev[1].select(wanted)
        trainer.task.score(trainer.task.decode(trainer.logits(features), features, few), few, "en")
    trainer.train(resume_from_checkpoint=checkpoint)
    check_weights(trainer.model)


def score_languages(trainer, task, rows, languages, tokenizer, length, limit, folder: Path):
    """Zero-shot scores of every language; predictions are written in XTREME's layout below `folder`.

    Returns:
        ({language: {metric: 0-100}}, {language: examples scored}).
    """
    scores, n = {}, {}
    for language in languages:
        examples = first(task.load("test", language, rows), limit)
        features = featurize(task, examples, tokenizer, length, False, f"{task.name} {language}")
        with failures(trainer.args.output_dir, trainer):
            predictions = task.decode(trainer.logits(features), features, examples)
        scores[language], n[language] = task.score(predictions, examples, language), len(examples)
        if trainer.is_world_process_zero():
            submission.write_lines(folder, task, language, task.lines(predictions, examples))
        logger.info("%s %s: %s", task.name, language, " ".join(f"{k} {v:.1f}" for k, v in scores[language].items()))
    return scores, n


def judge(trainer, task, dev, shuffled: bool = False) -> tuple[dict, dict, bool]:
    """(English dev scores, chance, whether the dev score is at chance), the last said loudly.

    Where labels were shuffled chance is where it should be, and is no news.
    """
    features = trainer.dev[1]
    scores = task.score(task.decode(trainer.logits(features), features, dev), dev, "en")
    chance = task.chance(dev)
    # one metric at chance is enough: a tagger below the most frequent tag may still beat its F1 of 0
    flat = [m for m in chance if not shuffled and task.at_chance(scores[m], chance[m], len(dev))]
    for metric in flat:
        logger.warning("\n*** %s: English dev %s is %.1f, at chance (%.1f): this training did not work. ***\n",
                       task.name, metric, scores[metric], chance[metric])
    return scores, chance, bool(flat)


def measures(trainer, rows: int | None = None) -> dict[str, float]:
    """Numbers about a finished training that are no scores.

    Rows (different examples there are to train on), optimiser steps, epochs, tokens trained on (padding aside, each time
    they come), mean loss of the last log lines.
    """
    state = trainer.state
    losses = [entry["loss"] for entry in state.log_history if "loss" in entry]
    found = {} if rows is None else {"rows": rows}
    found |= {"steps": state.global_step, "epochs": state.epoch, "tokens": state.num_input_tokens_seen}
    return found | ({"last_loss": float(np.mean(losses[-5:]))} if losses else {})


def unique(records: list[dict]) -> list[dict]:
    """The data records without repeats and without this machine's paths."""
    kept = {(r["id"], r["config"], r["split"]): {k: v for k, v in r.items() if k != "file"} for r in records}
    return list(kept.values())


def as_json(settings: dict) -> str:
    """Settings as they stand in run.json."""
    return json.dumps(settings, indent=1, sort_keys=True, default=str)
