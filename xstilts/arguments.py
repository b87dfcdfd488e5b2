"""Arguments of the scripts: small dataclasses, default < YAML (--config) < command line. Imports nothing heavy."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xstilts.errors import UserError


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
class RunArguments:
    output_dir: str | None = field(default=None, metadata={"help": "Folder for checkpoint, results.json and card."})
    arm: str | None = field(default=None, metadata={"help": "What phase 2 was, for the report; default: from the tasks."})
    seed: int = field(default=0, metadata={"help": "Seed of order, fresh heads and dropout."})
    push_to_hub: bool = field(default=False, metadata={"help": "Push the finished folder to the Hub."})
    hub_model_id: str | None = field(default=None, metadata={"help": "Repository to push to: name or namespace/name."})
    hub_private_repo: bool = field(default=False, metadata={"help": "Create that repository as private."})
    list_tasks: bool = field(default=False, metadata={"help": "Print the tasks and leave."})


TRAINING = "Every field of transformers.TrainingArguments is accepted too: --learning_rate, --num_train_epochs, --max_steps, \
--per_device_train_batch_size, --gradient_accumulation_steps, --warmup_steps, --bf16, --report_to, --save_steps ..."


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
    return parsed, rest


def read_yaml(path: str, script: str) -> dict[str, Any]:
    """A recipe's keys and values, without `script` and `description`."""
    import yaml

    if not Path(path).is_file():
        near = difflib.get_close_matches(Path(path).stem, sorted(p.stem for p in Path("recipes/arms").glob("*.yaml")), 3)
        raise UserError(f"--config {path}: no such file." + (f" Did you mean {', '.join(near)}?" if near else ""))
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"--config {path}: not valid YAML: {str(error).splitlines()[0]}.") from error
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
        return [action.type(v) if action.type else v for v in (value if isinstance(value, list) else [value])]
    if isinstance(value, list | dict):
        raise UserError(f"--config: {action.dest} takes one value, given {value!r}.")
    return value if isinstance(value, bool) or value is None else str(value)


def _raise(message: str):
    raise UserError(message[0].upper() + message[1:] + ("" if message.endswith(".") else "."))


def command(main: Callable[[list[str]], None]) -> None:
    """Runs a script's main; a user's error is one line on stderr and exit code 2, an interrupt 130."""
    try:
        main(sys.argv[1:])
    except UserError as error:
        print(f"{Path(sys.argv[0]).name}: error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit("Stopped. The same command again goes on from the last checkpoint.")
