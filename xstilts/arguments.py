"""Arguments of the scripts: small dataclasses, default < YAML (--config) < command line. Imports nothing heavy."""

from __future__ import annotations

import contextlib
import difflib
import math
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from xstilts import processes
from xstilts.errors import UserError, first_line, full_disk

STARTED = time.time()  # about when this process began


@dataclass
class ModelArguments:
    model_name_or_path: str | None = field(
        default=None, metadata={"help": "A folder or Hub id from_pretrained takes: the checkpoint this phase starts from."}
    )
    model_revision: str = field(default="main", metadata={"help": "Revision, if it is a Hub id."})
    freeze_embeddings: bool = field(default=False, metadata={"help": "Train everything but the embedding layer."})


@dataclass
class DataArguments:
    data_root: str = field(default="hub", metadata={"help": "'hub', or a folder of rows laid out as data/world."})
    splits: list[str] = field(
        default_factory=list,
        metadata={"help": "Other source splits than the adapter's, e.g. hellaswag.train=validation[:8000]."},
    )
    benchmark: str = field(default="xtreme", metadata={"help": "Whose languages are asked of the Hub.",
                                                       "choices": ["xtreme", "xtreme-r"]})
    languages: list[str] = field(default_factory=list, metadata={"help": "Score these only (two- or three-letter codes)."})
    max_seq_length: int | None = field(default=None, metadata={"help": "Tokens a feature; default: the task's."})
    max_train_samples: int | None = field(default=None, metadata={"help": "Train on the first so many examples."})
    max_eval_samples: int | None = field(default=None, metadata={"help": "Score the first so many examples a language."})


@dataclass
class FamilyArguments:
    """What all arms of a family are given alike, so that they train on the same rows (docs/arms.md)."""

    train_languages: list[str] = field(
        default_factory=list, metadata={"help": "The family's languages. Every arm of it, the English one too, trains on the rows that "
                                                "all of them have."})
    match_roundtrip: bool = field(default=False, metadata={"help": "The family has an arm of rows translated and back: only rows that "
                                                                   "have come back."})
    translations: str | None = field(default=None, metadata={"help": "Folder of translated rows (python -m xstilts.translate), for what "
                                                                     "--data_root lacks."})
    lexicon: str | None = field(default=None, metadata={"help": "Folder of en-de.txt (source TAB target) or en-de/train.parquet, for "
                                                                "--code_switch."})


@dataclass
class ChangeArguments:
    """What an arm does with rows, whatever is trained on them."""

    alpha: float = field(default=0.5, metadata={"help": "hybrid: the share in one language, the others being in two."})
    code_switch: str | None = field(default=None, metadata={"help": "Replace English words: one language a text, or drawn for each word.",
                                                            "choices": ["bilingual", "multilingual"]})
    switch_probability: float = field(default=0.5, metadata={"help": "Of each word; those not in the lexicon stay."})
    switch_languages: list[str] = field(default_factory=list, metadata={"help": "Of the lexicon's; default: those of --train_languages. "
                                                                                "bilingual: one, or one for each text."})
    skip_identities: bool = field(default=False, metadata={"help": "Leave out entries whose two words are the same."})
    shuffle_labels: bool = field(default=False, metadata={"help": "Deal labels (of pairs: passages) out anew at random: what any training "
                                                                  "does."})


@dataclass
class ArmArguments(ChangeArguments):
    language_mode: str = field(
        default="english", metadata={"help": "Each row in English; in one of --train_languages (multilingual; translated: never English); "
                                             "its two texts in two (cross); half and half (hybrid); English that was translated and back.",
                                     "choices": ["english", "multilingual", "translated", "cross", "hybrid", "roundtrip"]})


@dataclass
class TextArguments:
    text_languages: list[str] = field(default_factory=list, metadata={"help": "Languages of the text; default: --train_languages, "
                                                                              "else all there are."})
    mlm_probability: float = field(default=0.15, metadata={"help": "Share of tokens to predict."})


@dataclass
class PeftArguments:
    peft: str | None = field(default=None, metadata={"help": "Train an adapter, and the head, in place of all weights.",
                                                     "choices": ["lora"]})
    lora_rank: int = field(default=8, metadata={"help": "Rank of the update of each target."})
    lora_alpha: float | None = field(default=None, metadata={"help": "The update is scaled by alpha / rank; default: twice the rank."})
    lora_targets: list[str] = field(default_factory=lambda: ["query", "value"], metadata={"help": "Modules of the encoder to adapt."})
    lora_dropout: float = field(default=0.1, metadata={"help": "Dropout before the update."})


@dataclass
class RetrievalArguments:
    """How run_retrieval.py measures."""

    tasks: list[str] = field(default_factory=list, metadata={"help": "Of tatoeba, bucc, lareqa, mewslix."})
    layer: str = field(default="last", metadata={"help": "k (hidden_states[k], 0 = embeddings), 'all' or 'last'."})
    report_layer: int | None = field(default=None, metadata={"help": "With --layer all: the headline layer, fixed before looking; "
                                                                     "default: the last."})
    select_on: str | None = field(default=None, metadata={"help": "With --layer all: the headline layer is the best one on languages that "
                                                                  "are then not reported (tatoeba:ces,dan) or on a dev split (bucc:dev)."})
    pooling: str = field(default="mean", metadata={"help": "Tokens to sentence vector.", "choices": ["mean", "cls"]})
    include_special: bool = field(default=True, metadata={"help": "Whether the mean counts <s> and </s>, as XTREME's does."})
    query_side: str = field(default="english", metadata={"help": "Tatoeba: whose sentences look for the other's (XTREME: english).",
                                                         "choices": ["english", "foreign"]})
    center: str = field(default="none", metadata={"help": "Not BUCC: also report accuracy_centered, each language's mean taken away.",
                                                  "choices": ["none", "language"]})
    csls: int | None = field(default=None, metadata={"help": "Not BUCC: also report accuracy_csls with so many neighbours (usually 10)."})
    margin: str = field(default="ratio", metadata={"help": "BUCC: the margin score.", "choices": ["ratio", "distance", "absolute"]})
    mining: str = field(default="max", metadata={"help": "BUCC: which candidates become pairs.",
                                                 "choices": ["max", "forward", "backward", "intersect"]})
    candidate_text: str = field(default="sentence", metadata={"help": "LAReQA: what an answer is; with its paragraph for a dual encoder "
                                                                      "trained so (lareqa_dual).",
                                                              "choices": ["sentence", "sentence_context"]})
    dtype: str = field(default="fp32", metadata={"help": "Precision of the encoder.", "choices": ["fp32", "bf16"]})
    cache_dir: str | None = field(default=None, metadata={"help": "Keep and reuse vectors here."})
    index: str | None = field(default=None, metadata={"help": "Tatoeba, BUCC: search with this faiss index, e.g. IVF4096,PQ64, when exact "
                                                              "search takes long; its recall is measured. Needs --cache_dir."})
    nprobe: int | None = field(default=None, metadata={"help": "--index with lists: how many to look into (default 16)."})
    index_candidates: int | None = field(default=None, metadata={"help": "--index: how many it finds for exact scoring (default 64)."})
    export_sentence_transformers: str | None = field(
        default=None, metadata={"help": "Write this checkpoint, layer and pooling to a new folder SentenceTransformer loads."})


@dataclass
class DualEncoderArguments(ChangeArguments):
    do_train: bool = field(default=False, metadata={"help": "Train a dual encoder, on the vectors of --layer and --pooling, instead of "
                                                            "measuring."})
    train_tasks: list[str] = field(default_factory=list, metadata={"help": "Pairs, e.g. squad_dual; see --list_tasks."})
    batch_languages: str = field(default="mono", metadata={"help": "One of --train_languages a batch, query and passage in two, or both "
                                                                   "kinds; or English alone.",
                                                           "choices": ["mono", "cross", "hybrid", "english"]})
    switch_side: str = field(default="both", metadata={"help": "Whose words.", "choices": ["query", "passage", "both"]})
    scale: float = field(default=20.0, metadata={"help": "Cosines are multiplied by it: 1 / temperature."})
    cached_loss_mini_batch: int | None = field(default=None, metadata={"help": "GradCache: texts encoded at a time, for large batches."})
    query_prompt: str = field(default="", metadata={"help": "Text before every query in training, kept with the model."})
    passage_prompt: str = field(default="", metadata={"help": "Text before every passage."})


@dataclass
class RunArguments:
    output_dir: str | None = field(default=None, metadata={"help": "Folder for checkpoint, results.json and card."})
    arm: str | None = field(default=None, metadata={"help": "What phase 2 was, for the report; default: from the tasks."})
    seed: int = field(default=0, metadata={"help": "Seed of order, fresh heads and dropout."})
    push_to_hub: bool = field(default=False, metadata={"help": "Push the finished folder to the Hub."})
    hub_model_id: str | None = field(default=None, metadata={"help": "Repository to push to: name or namespace/name."})
    hub_private_repo: bool = field(default=False, metadata={"help": "Create that repository as private."})
    list_tasks: bool = field(default=False, metadata={"help": "Print the tasks and leave."})


def told(*arguments: Any) -> dict[str, Any]:
    """What the given dataclasses hold other than their defaults, by field name."""
    return {f.name: value for one in arguments for f, plain in zip(fields(one), vars(type(one)()).values(), strict=True)
            if (value := getattr(one, f.name)) != plain}


TRAINING = "The fields of transformers.TrainingArguments are arguments too: --learning_rate, --num_train_epochs, --max_steps, \
--per_device_train_batch_size, --gradient_accumulation_steps, --warmup_steps, --bf16, --report_to, --save_strategy ... Those that cannot \
work here are refused, with the reason."


class Rest(list):
    """Arguments a script does not know, as on a command line; `known` has the names it does, to say which was meant."""

    known: frozenset[str] = frozenset()


def parse(argv: list[str], script: str, description: str, *kinds: type, training: bool = True) -> tuple[list[Any], Rest]:
    """Parses a script's arguments.

    Args:
        argv: the command line, without the script's name.
        script: the script's file name; a YAML file that names another one in its key `script` is refused.
        kinds: the script's argument dataclasses.
        training: whether what they do not know may be a field of TrainingArguments (parsed later, by the runner).

    Returns:
        (one instance of each of `kinds`, the arguments they do not know, YAML's first).

    Raises:
        UserError: unknown key (with the nearest name), unreadable YAML, YAML of another script.
    """
    from transformers.hf_argparser import HfArgumentParser

    parser = HfArgumentParser(kinds, description=description, epilog=TRAINING if training else None, allow_abbrev=False)
    parser.add_argument("--config", help="YAML file of arguments; the command line wins.")
    parser.error = _raise  # argparse's own way out prints the whole usage before the one line that matters
    known = {action.dest: action for action in parser._actions}
    path = parser.parse_known_args(argv)[0].config
    rest = Rest()
    rest.known = frozenset(known)
    for key, value in (read_yaml(path, script) if path else {}).items():
        if key in known and key != "config":
            parser.set_defaults(**{key: _like(known[key], value)})
        elif training:
            values = value if isinstance(value, list) else [value]
            rest += [f"--{key}", *map(str, values)]
        else:
            raise unknown(key, known)
    *parsed, _, more = parser.parse_args_into_dataclasses(argv, return_remaining_strings=True, look_for_args_file=False)
    if more and not training:
        raise unknown(more[0], known)
    rest += more
    for word in argv:
        if any("\ud800" <= letter <= "\udfff" for letter in word):  # results.json could not be written, after all the work
            raise UserError(f"Argument {word!r} is not UTF-8 text; write it in another way.")
    for one in parsed:
        check_numbers(one)
    return parsed, rest


# what a number may be, by argument name (None: without an end); every other argument that is a number checks itself
RANGES = {"max_train_samples": (1, None), "max_eval_samples": (1, None), "max_samples": (1, None), "max_seq_length": (1, None),
          "seed": (0, 2**32 - 1), "vocab_size": (1, 2**31 - 1), "lora_rank": (1, 2**16)}


def check_finite(name: str, value: Any) -> None:
    """Raises UserError where the argument's value is NaN or infinite."""
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"--{name} {value} is no number to go by; give a finite one.")


def check_numbers(one: Any) -> None:
    """Refuses a dataclass of arguments with a number out of range: `range` and slices would make something else of it, unseen.

    Raises:
        UserError: naming the argument.
    """
    for f in fields(one):
        value = getattr(one, f.name)
        check_finite(f.name, value)
        least, most = RANGES.get(f.name, (None, None))
        if value is not None and ((least is not None and value < least) or (most is not None and value > most)):
            raise UserError(f"--{f.name} {value}: give {least} " + (f"to {most}." if most is not None else "at least, or leave it out."))


def read_yaml(path: str, script: str) -> dict[str, Any]:
    """A recipe's keys and values, without `script` and `description`."""
    import yaml

    if not Path(path).is_file():
        near = difflib.get_close_matches(Path(path).stem, sorted(p.stem for p in Path("recipes/arms").glob("*.yaml")), 3)
        raise UserError(f"--config {path}: no such file." + (f" Did you mean {', '.join(near)}?" if near else ""))
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"--config {path}: not valid YAML: {first_line(error)}.") from error
    if not isinstance(values, dict):
        raise UserError(f"--config {path}: expected `key: value` lines.")
    named = values.pop("script", script)
    if named != script:
        raise UserError(f"--config {path} is a recipe of {named}; run `python {named} --config {path} ...`.")
    values.pop("description", None)
    return values


def unknown(key: str, names) -> UserError:
    """The error for a key nobody knows, with the nearest name."""
    key = key.lstrip("-").partition("=")[0]
    near = difflib.get_close_matches(key, list(names), 1)
    return UserError(f"Argument {key!r} is unknown." + (f" Did you mean --{near[0]}?" if near else " See --help."))


def _like(action, value):
    """YAML gives 2e-5 as text and one item where a list is meant; argparse casts text defaults, but not lists."""
    if action.nargs in ("+", "*"):
        try:
            return [action.type(v) if action.type else v for v in (value if isinstance(value, list) else [value])]
        except (TypeError, ValueError) as error:
            raise UserError(f"--config: {action.dest} takes a list of {action.type.__name__}, given {value!r}.") from error
    if isinstance(value, list | dict):
        raise UserError(f"--config: {action.dest} takes one value, given {value!r}.")
    return value if isinstance(value, bool) or value is None else str(value)


def _raise(message: str):
    raise UserError(message[0].upper() + message[1:] + ("" if message.endswith(".") else "."))


def command(main: Callable[[list[str]], None]) -> None:
    """Runs a script's main; a user's error is one line on stderr and exit code 2, an interrupt 130.

    Under make, which names the run's folder in XSTILTS_CELL, that error, or whatever else ended it, is kept there for the report.
    """
    try:
        main(sys.argv[1:])
        processes.leave()
    except UserError as error:
        keep_cause(str(error).rstrip("."))
        print(f"{Path(sys.argv[0]).name}: error: {error}", file=sys.stderr)
        sys.exit(2)
    except Exception as error:
        keep_cause(f"{type(error).__name__}: {first_line(error)}")
        full, lost = full_disk(error), processes.lost(error)
        if not (full or lost):
            raise
        said = f"nothing can be written: {full}. Make room, or choose another folder." if full else f"{lost}. {processes.AGAIN}"
        print(f"{Path(sys.argv[0]).name}: error: {said}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit("Stopped. The same command again goes on from the last checkpoint.")


def keep_cause(cause: str) -> None:
    """Writes failed.json into the folder of XSTILTS_CELL, unless this process has done so already, with more to say."""
    from xstilts import results

    if folder := os.environ.get("XSTILTS_CELL"):
        path = Path(folder, results.FAILED)
        if not path.is_file() or path.stat().st_mtime < STARTED:
            with contextlib.suppress(UserError):  # the disk may be full
                results.write_failure(folder, cause, None)
