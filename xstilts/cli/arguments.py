"""Arguments of the scripts: small dataclasses, default < YAML (--config) < command line. Imports nothing heavy."""

from __future__ import annotations

import difflib
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, get_type_hints

from xstilts.cli import arms, user_files
from xstilts.cli.privacy import with_underscores
from xstilts.cli.words import check_finite, check_rest, check_words, fail, short, yaml_words
from xstilts.errors import UserError

STARTED = time.time()  # about when this process began


@dataclass
class ModelArguments:
    model_name_or_path: str | None = field(
        default=None,
        metadata={"help": "A folder or Hub id from_pretrained takes: the checkpoint this phase starts from."},
    )
    model_revision: str = field(default="main", metadata={"help": "Revision, if it is a Hub id."})
    freeze_embeddings: bool = field(default=False, metadata={"help": "Train everything but the embedding layer."})
    attn_implementation: str | None = field(
        default=None,
        metadata={"help": "eager, sdpa, flash_attention_2 ...; default: transformers' choice for the model."},
    )

    def settings(self) -> dict[str, Any]:
        """What of these a training's record keeps beside the checkpoint; the kind of attention only where it was
        given."""
        attention = {"attn_implementation": self.attn_implementation} if self.attn_implementation else {}
        return {"freeze_embeddings": self.freeze_embeddings} | attention


@dataclass
class DataArguments:
    data_root: str = field(default="hub", metadata={"help": "'hub', or a folder of rows laid out as data/world."})
    splits: list[str] = field(
        default_factory=list,
        metadata={"help": "Other source splits than the adapter's, e.g. hellaswag.train=validation[:8000]."},
    )
    benchmark: str = field(
        default="xtreme", metadata={"help": "Whose languages are asked of the Hub.", "choices": ["xtreme", "xtreme-r"]}
    )
    languages: list[str] = field(
        default_factory=list, metadata={"help": "Score these only (two- or three-letter codes)."}
    )
    max_seq_length: int | None = field(default=None, metadata={"help": "Tokens a feature; default: the task's."})
    max_train_samples: int | None = field(default=None, metadata={"help": "Train on the first so many examples."})
    max_eval_samples: int | None = field(
        default=None, metadata={"help": "Score the first so many examples a language."}
    )


@dataclass
class FamilyArguments:
    """What all arms of a family are given alike, so that they train on the same rows (docs/arms.md)."""

    train_languages: list[str] = field(
        default_factory=list,
        metadata={
            "help": "The family's languages. Every arm of it, the English one too, trains on the rows that "
            "all of them have."
        },
    )
    match_roundtrip: bool = field(
        default=False,
        metadata={"help": "The family has an arm of rows translated and back: only rows that have come back."},
    )
    translations: str | None = field(
        default=None,
        metadata={"help": "Folder of translated rows (python -m xstilts.translate), for what --data_root lacks."},
    )
    lexicon: str | None = field(
        default=None,
        metadata={"help": "Folder of en-de.txt (source TAB target) or en-de/train.parquet, for --code_switch."},
    )


@dataclass
class ChangeArguments:
    """What an arm does with rows, whatever is trained on them."""

    alpha: float = field(default=0.5, metadata={"help": "hybrid: the share in one language, the others being in two."})
    code_switch: str | None = field(
        default=None,
        metadata={
            "help": "Replace English words: one language a text, or drawn for each word.",
            "choices": ["bilingual", "multilingual"],
        },
    )
    switch_probability: float = field(default=0.5, metadata={"help": "Of each word; those not in the lexicon stay."})
    switch_languages: list[str] = field(
        default_factory=list,
        metadata={
            "help": "Of the lexicon's; default: those of --train_languages. bilingual: one, or one for each text."
        },
    )
    switch_treebank: bool = field(
        default=False,
        metadata={
            "help": "Switch as the code of arXiv 2305.05295: Treebank tokens, the first "
            "translation, the text put together again (docs/retrieval.md)."
        },
    )
    skip_identities: bool = field(default=False, metadata={"help": "Leave out entries whose two words are the same."})
    shuffle_labels: bool = field(
        default=False,
        metadata={"help": "Deal labels (of pairs: passages) out anew at random: what any training does."},
    )


@dataclass
class ArmArguments(ChangeArguments):
    language_mode: str = field(
        default="english",
        metadata={
            "help": "Each row in English; in one of --train_languages (multilingual; translated: never English); "
            "its two texts in two (cross); half and half (hybrid); English that was translated and back.",
            "choices": ["english", "multilingual", "translated", "cross", "hybrid", "roundtrip"],
        },
    )


@dataclass
class TextArguments:
    text_languages: list[str] = field(
        default_factory=list,
        metadata={"help": "Languages of the text; default: --train_languages, else all there are."},
    )
    mlm_probability: float = field(default=0.15, metadata={"help": "Share of tokens to predict."})
    text_of: str | None = field(
        default=None,
        metadata={
            "help": "Not Wikipedia: the texts of this task's train rows, each in one of the "
            "text's languages, as its arms have them."
        },
    )


@dataclass
class PeftArguments:
    peft: str | None = field(
        default=None,
        metadata={"help": "Train an adapter, and the head, in place of all weights.", "choices": ["lora"]},
    )
    lora_rank: int = field(default=8, metadata={"help": "Rank of the update of each target."})
    lora_alpha: float | None = field(
        default=None, metadata={"help": "The update is scaled by alpha / rank; default: twice the rank."}
    )
    lora_targets: list[str] | None = field(
        default=None,
        metadata={
            "help": "Modules of the encoder to adapt, or all-linear; default: peft's choice for the model type, "
            "query and value for XLM-R."
        },
    )
    lora_dropout: float = field(default=0.1, metadata={"help": "Dropout before the update."})


@dataclass
class RetrievalArguments:
    """How run_retrieval.py measures."""

    tasks: list[str] = field(
        default_factory=list, metadata={"help": "Of tatoeba, bucc, ntrex, flores, lareqa, mewslix."}
    )
    layer: str = field(default="last", metadata={"help": "k (hidden_states[k], 0 = embeddings), 'all' or 'last'."})
    report_layer: int | None = field(
        default=None,
        metadata={"help": "With --layer all: the headline layer, fixed before looking; default: the last."},
    )
    select_on: str | None = field(
        default=None,
        metadata={
            "help": "With --layer all: the headline layer is the best one on languages that "
            "are then not reported (tatoeba:ces,dan) or on a dev split (bucc:dev)."
        },
    )
    pooling: str = field(default="mean", metadata={"help": "Tokens to sentence vector.", "choices": ["mean", "cls"]})
    include_special: bool = field(
        default=True, metadata={"help": "Whether the mean counts <s> and </s>, as XTREME's does."}
    )
    query_side: str = field(
        default="english",
        metadata={
            "help": "Tatoeba, NTREX, FLORES: whose sentences look for the other's (XTREME: english).",
            "choices": ["english", "foreign"],
        },
    )
    pairs: str = field(
        default="english",
        metadata={
            "help": "NTREX, FLORES: every language with English, or also any two of the others "
            "(accuracy_without_english, at the headline layer).",
            "choices": ["english", "all"],
        },
    )
    center: str = field(
        default="none",
        metadata={
            "help": "Not BUCC: also report accuracy_centered, each language's mean taken away.",
            "choices": ["none", "language"],
        },
    )
    csls: int | None = field(
        default=None, metadata={"help": "Not BUCC: also report accuracy_csls with so many neighbours (usually 10)."}
    )
    margin: str = field(
        default="ratio", metadata={"help": "BUCC: the margin score.", "choices": ["ratio", "distance", "absolute"]}
    )
    mining: str = field(
        default="max",
        metadata={
            "help": "BUCC: which candidates become pairs.",
            "choices": ["max", "forward", "backward", "intersect"],
        },
    )
    candidate_text: str = field(
        default="sentence",
        metadata={
            "help": "LAReQA: what an answer is; with its paragraph for a dual encoder trained so (lareqa_dual).",
            "choices": ["sentence", "sentence_context"],
        },
    )
    dtype: str = field(default="fp32", metadata={"help": "Precision of the encoder.", "choices": ["fp32", "bf16"]})
    cache_dir: str | None = field(default=None, metadata={"help": "Keep and reuse vectors here."})
    index: str | None = field(
        default=None,
        metadata={
            "help": "Tatoeba, BUCC: search with this faiss index, e.g. IVF4096,PQ64, when exact "
            "search takes long; its recall is measured. Needs --cache_dir."
        },
    )
    nprobe: int | None = field(
        default=None, metadata={"help": "--index with lists: how many to look into (default 16)."}
    )
    index_candidates: int | None = field(
        default=None, metadata={"help": "--index: how many it finds for exact scoring (default 64)."}
    )
    export_sentence_transformers: str | None = field(
        default=None,
        metadata={"help": "Write this checkpoint, layer and pooling to a new folder SentenceTransformer loads."},
    )


@dataclass
class DualEncoderArguments(ChangeArguments):
    do_train: bool = field(
        default=False,
        metadata={"help": "Train a dual encoder, on the vectors of --layer and --pooling, instead of measuring."},
    )
    train_tasks: list[str] = field(
        default_factory=list, metadata={"help": "Pairs, e.g. squad_dual; see --list_tasks."}
    )
    batch_languages: str = field(
        default="mono",
        metadata={
            "help": "One of --train_languages a batch, query and passage in two, or both kinds; or English alone.",
            "choices": ["mono", "cross", "hybrid", "english"],
        },
    )
    switch_side: str = field(
        default="both", metadata={"help": "Whose words.", "choices": ["query", "passage", "both"]}
    )
    scale: float = field(default=20.0, metadata={"help": "Cosines are multiplied by it: 1 / temperature."})
    cached_loss_mini_batch: int | None = field(
        default=None, metadata={"help": "GradCache: texts encoded at a time, for large batches."}
    )
    query_prompt: str | None = field(
        default=None,
        metadata={
            "help": "Text before every query, e.g. 'query: ' for e5: in training, where it is kept with the model "
            "(default: none), and in "
            "measuring (default: what the checkpoint's sentence-transformers config has)."
        },
    )
    passage_prompt: str | None = field(default=None, metadata={"help": "Text before every passage, likewise."})


@dataclass
class RunArguments:
    output_dir: str | None = field(default=None, metadata={"help": "Folder for checkpoint, results.json and card."})
    arm: str | None = field(
        default=None,
        metadata={
            "help": "What phase 2 was, for the report; default: the arm of the checkpoint "
            "measured, or of a training what its folder <arm>/seed<k> or its tasks say."
        },
    )
    seed: int | None = field(
        default=None,
        metadata={
            "help": "Seed of order, fresh heads and dropout; default: that of the checkpoint "
            "measured, else of the folder seed<k>, else 0."
        },
    )
    push_to_hub: bool = field(default=False, metadata={"help": "Push the finished folder to the Hub."})
    hub_model_id: str | None = field(default=None, metadata={"help": "Repository to push to: name or namespace/name."})
    hub_private_repo: bool = field(default=False, metadata={"help": "Create that repository as private."})
    list_tasks: bool = field(default=False, metadata={"help": "Print the tasks and leave."})


@dataclass
class MeasurementArguments(RunArguments):
    plain_model: bool = field(
        default=False,
        metadata={"help": "The checkpoint is the plain model of a matrix, arm none, whatever its own record says."},
    )


def non_defaults(*arguments: Any) -> dict[str, Any]:
    """What the given dataclasses hold other than their defaults, by field name."""
    return {
        f.name: value
        for one in arguments
        for f, plain in zip(fields(one), vars(type(one)()).values(), strict=True)
        if (value := getattr(one, f.name)) != plain
    }


def refuse_unused(why: str, one: Any, only: Sequence[str] | None = None, but: Sequence[str] = ()) -> None:
    """Refuses arguments of a dataclass, other than their defaults, that would change nothing.

    Args:
        why: what they go with, or why they are not used here.
        only, but: the names that are not used, or those that are; all that there are, if neither is given.

    Raises:
        UserError: naming the first of them.
    """
    for name in non_defaults(one):
        if name not in but and (only is None or name in only):
            raise UserError(f"--{name} changes nothing here: {why}. Leave it out.")


TRAINING = (
    "The fields of transformers.TrainingArguments are arguments too: --learning_rate, --num_train_epochs, "
    "--max_steps, --per_device_train_batch_size, --gradient_accumulation_steps, --warmup_steps, --bf16, --report_to, "
    "--save_strategy ... Those that cannot work here are refused, with the reason."
)


class Rest(list):
    """Arguments a script does not know, as on a command line; `known` has the names it does, to say which was
    meant."""

    known: frozenset[str] = frozenset()


def parse(
    argv: list[str], script: str, description: str, *kinds: type, training: bool = True
) -> tuple[list[Any], Rest]:
    """Parses a script's arguments.

    Args:
        argv: the command line, without the script's name.
        script: the script's file name; a YAML file that names another one in its key `script` is refused.
        kinds: the script's argument dataclasses.
        training: whether what they do not know may be a field of TrainingArguments (parsed later, by the runner).

    Returns:
        (one instance of each of `kinds`, the arguments they do not know, YAML's first).

    Raises:
        UserError: unknown argument (with the nearest name), wrong value, access token, unreadable YAML, YAML of
            another script.
    """
    from transformers.hf_argparser import HfArgumentParser

    argv = [with_underscores(word) for word in argv]
    check_words(argv)
    parser = HfArgumentParser(
        kinds, description=description, epilog=TRAINING if training else None, allow_abbrev=False
    )
    parser.add_argument(
        "--config",
        action="append",
        nargs="+",
        help="YAML files of arguments; later ones win, and then the command line.",
    )
    parser.error = fail  # argparse's own way out prints the whole usage before the one line that matters
    plain = {f.name: value for kind in kinds for f, value in zip(fields(kind), vars(kind()).values(), strict=True)}
    lists = {name for kind in kinds for name, hint in get_type_hints(kind).items() if "list[" in str(hint)}
    given = parser.parse_known_args(argv)[0].config or []
    paths = [path for paths in given for path in paths]
    if len(given) > 1:
        raise UserError(f"--config is given {len(given)} times; give all files after one: --config {' '.join(paths)}.")

    def take(words: list[str]) -> tuple[list[Any], list[str]]:
        *parsed, _, more = parser.parse_args_into_dataclasses(
            words, return_remaining_strings=True, look_for_args_file=False
        )
        check_rest(more, plain, training)
        for one in parsed:
            check_numbers(one)
        return parsed, more

    layers: dict[str, Any] = {}
    for path in paths:
        values = read_yaml(path, script)
        words = yaml_words(without_removed(values, layers), path, plain, training, lists)
        try:
            check_words(words)
            take(words)  # alone first: an error names the file
        except UserError as error:
            raise UserError(f"--config {path}: {error}") from error
        add_layer(layers, values)
    words = yaml_words(layers, " ".join(paths), plain, training, lists)
    words += [f"--config={path}" for path in paths]  # ends a list of values
    parsed, more = take([*words, *argv])
    rest = Rest(more)
    rest.known = frozenset([*plain, "config"])
    return parsed, rest


# what a number may be, by argument name (None: without an end); every other argument that is a number checks itself
RANGES = {
    "max_train_samples": (1, None),
    "max_eval_samples": (1, None),
    "max_samples": (1, None),
    "max_seq_length": (1, None),
    "seed": (0, 2**32 - 1),
    "vocab_size": (1, 2**31 - 1),
    "lora_rank": (1, 2**16),
}


def check_numbers(one: Any) -> None:
    """Refuses a dataclass of arguments with a number out of range: `range` and slices would make something else of it,
    unseen.

    Raises:
        UserError: naming the argument.
    """
    for f in fields(one):
        value = getattr(one, f.name)
        check_finite(f.name, value)
        least, most = RANGES.get(f.name, (None, None))
        if value is not None and ((least is not None and value < least) or (most is not None and value > most)):
            raise UserError(
                f"--{f.name} {value}: give {least} "
                + (f"to {most}." if most is not None else "at least, or leave it out.")
            )


def read_yaml(path: str, script: str) -> dict[str, Any]:
    """A recipe's keys and values for a script, without `script`, `description` and `needs`; see
    `user_files.read_yaml`.

    Raises:
        UserError: no such file (with the arguments of the arm that its name is), or nothing in it is for this script.
    """
    if not os.path.exists(path):
        raise UserError(f"--config {path}: no such file.{_arm_meant(path)}")
    values = user_files.read_yaml(path, "--config")
    named = values.pop("script", script)
    if named != script:
        raise UserError(
            f"--config {path} is a recipe of {short(named)}; run `python {short(named)} --config {path} ...`."
        )
    for key in ("description", "needs"):
        values.pop(key, None)
    sections = {key: value for key, value in values.items() if key.endswith(".py")}
    if not sections:
        return values
    if beside := [key for key in values if key not in sections]:
        raise UserError(f"--config {path}: {beside[0]} belongs to no script. Indent it below {', '.join(sections)}.")
    if script not in sections:
        raise UserError(f"--config {path} has nothing for {script}; it goes with {', '.join(sections)}.")
    if not isinstance(sections[script], dict):
        raise UserError(f"--config {path}: expected indented `key: value` lines below {script}.")
    return sections[script]


def _arm_meant(path: str) -> str:
    """How the arm is asked for that has, or almost has, the name of a file that is not there; "" where none has."""
    name, known = Path(path).stem, [*arms.bases(), *arms.modifiers()]
    try:
        return f" Give {' '.join(arms.read_arm(name).words)}."
    except UserError:
        near = difflib.get_close_matches(name, known, 3)
        return f" Did you mean {', '.join(near)}?" if near else ""


def without_removed(values: dict[str, Any], layers: dict[str, Any]) -> dict[str, Any]:
    """A file's values but those that only take one of an earlier file away (`key: null`)."""
    return {key: value for key, value in values.items() if value is not None or key.replace("-", "_") not in layers}


def add_layer(layers: dict[str, Any], values: dict[str, Any]) -> None:
    """Puts a file's values over those of the files before it, in place."""
    for key, value in values.items():
        was = layers.pop(key.replace("-", "_"), None)
        if value is not None or was is None:
            layers[key.replace("-", "_")] = value
