"""Which cells of a task may be compared: those measured alike, on the same rows, and from the same plain model.

A cell that was measured otherwise than most is taken out of the matrix, so that no table, average, contrast or claim
pairs it, and a line says why. What may or may not matter is a line alone.
"""

import re
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import PurePath
from typing import Any, TypeVar

from tasks import TASKS, get_task, unused_search_options
from xstilts.cli.arguments import MEASURED_LENGTH, PHASE_2, DualEncoderArguments, RetrievalArguments
from xstilts.cli.arms import PLAIN
from xstilts.cli.defaults import defaults
from xstilts.report.numbers import seeds_text
from xstilts.report.reading import EXACT_MATCH, F1, CellKey, cell_name, fingerprints, is_placed
from xstilts.run.record import Record
from xstilts.run.rehearsal import STEPS

# Settings of run_retrieval.py that leave the score as it is: what is measured beside it, what is named elsewhere in
# results.json (the layer), and where files are. Every other one, a new one too, makes two cells differ.
BESIDE = {
    *("tasks", "layer", "report_layer", "select_on", "pooling"),
    *("pairs", "center", "csls", "dtype", "cache_dir", "export_sentence_transformers"),
}
MARKS = ("model_commit", "model_finished", "model_weights")  # settings that tell one plain model from another
PROMPTS = ("query_prompt", "passage_prompt")
# Settings of a training that leave its result as it is, or that are compared in another way: places, what is saved and
# logged, which rows are read and scored, rows a device. Every other one, a new one too, is compared.
BESIDE_TRAINING = re.compile(
    "(data_)?seed|model(_.*)?|data_root|translations|lexicon|.*cache_dir|output_dir|splits|languages|benchmark|"
    "seen_languages|tasks?|train_tasks|do_train|max_eval_samples|max_steps|num_train_epochs|keep_checkpoint|"
    "(per_device_(train|eval)|eval|per_gpu.*)_batch_size|gradient_accumulation_steps|use_cpu|push_to_hub|report_to|"
    "(logging|save|eval|hub|dataloader|ddp|fsdp|torch_compile|gradient_checkpointing|log)_.*|"
    "torch_compile|fsdp|deepspeed|gradient_checkpointing|accelerator_config|parallelism_config|do_(eval|predict)"
)
# of the scripts' own arguments, which older versions may lack
OWN_DEFAULTS = defaults(*PHASE_2, DualEncoderArguments)
# own settings that are no part of an arm: the arms of a family should share them, and those of TrainingArguments
OF_THE_ARM = ("lexicon_sha256", "steps")  # the steps are compared with the rows
SHARED = ("freeze_embeddings", "max_seq_length")
Key = TypeVar("Key", bound=Hashable)

Phase2 = Mapping[tuple[str, int], Record]  # {(arm, seed): its training}


def measured(record: Record, training: Record | None = None) -> dict[str, Any]:
    """Return what a score was measured with, rows aside: {setting: value}, defaults filled in.

    A setting that has no effect on the task is left out, and so is csls where nothing was measured with it. Prompts
    and pooling that phase 2 trained its vectors with are part of the arm, so they are left out, too.

    Args:
        training: phase 2 of the cell.
    """
    settings = record.settings
    found: dict[str, Any] = {"max_seq_length": settings.get("max_seq_length") or _default_length(record)}
    if record.phase != "retrieval":
        return found
    found |= {f.name: settings.get(f.name, f.default) for f in fields(RetrievalArguments) if f.name not in BESIDE}
    found["headline layer"] = settings.get("select_on") or record.layer
    trained = training.settings if training else {}
    vectors = {"pooling": record.pooling} | {name: settings.get(name) or "" for name in PROMPTS}
    found |= {name: value for name, value in vectors.items() if value in ("", "mean") or value != trained.get(name)}
    found |= {"csls": settings["csls"]} if settings.get("csls") else {}
    return {name: value for name, value in found.items() if name not in unused_search_options(record.task)}


def _default_length(record: Record) -> int | None:
    """Return --max_seq_length of a run to which it was not given, None of a task of the user's own."""
    if record.phase == "retrieval":
        return MEASURED_LENGTH
    return get_task(record.task).defaults.get("max_seq_length") if record.task in TASKS else None


def keep_comparable(
    task: str, records: dict[CellKey, Record], trainings: Sequence[tuple[str, Record]], problems: list[str]
) -> None:
    """Take out of `records` the cells of `task` that cannot be compared with most of its cells; say why.

    Args:
        trainings: (path, record) of phases 1 and 2, which say what a cell's phase 2 started from.
    """
    _drop_scored_otherwise(task, records, problems)
    phase_2 = {(record.arm, record.seed): record for path, record in trainings if is_placed(path, record)}
    _drop_measured_otherwise(task, records, phase_2, problems)
    _drop_of_other_models(task, records, phase_2, problems)
    here = {key: record for key, record in records.items() if key[1] == task}
    _name_other_rows(task, here, problems)
    _name_other_precision(task, here, problems)
    _name_other_training(task, here, problems)


def _odd(values: Mapping[Key, Hashable]) -> tuple[Any, list[Key]]:
    """Return (the most common value, the keys, e.g. cells, that have another one)."""
    usual = Counter(values.values()).most_common(1)[0][0] if values else None
    return usual, [key for key, value in values.items() if value != usual]


def _drop(keys: Iterable[CellKey], records: dict[CellKey, Record], problems: list[str], why: Callable) -> None:
    for key in keys:
        problems.append(f"{cell_name(key)} {why(key)}; the cell is left blank.")
        del records[key]


def _drop_scored_otherwise(task: str, records: dict[CellKey, Record], problems: list[str]) -> None:
    """Drop cells of another phase, metric or number of rows, or without the exact match that others have beside F1."""

    def scored(record: Record) -> tuple:
        both = EXACT_MATCH in record.mean and F1 in record.mean
        return record.phase, record.metric, both, tuple(sorted(record.n.items()))

    def shown(value: tuple) -> str:
        _, metric, both, rows = value
        return f"{f'{EXACT_MATCH} and {F1}' if both else metric} on {', '.join(f'{lang} {n}' for lang, n in rows)}"

    here = {key: scored(record) for key, record in records.items() if key[1] == task}
    usual, odd = _odd(here)
    _drop(
        odd,
        records,
        problems,
        lambda key: (
            f"has another metric or row count than the other cells ({shown(here[key])}; the others: {shown(usual)})"
        ),
    )


def _drop_measured_otherwise(task: str, records: dict[CellKey, Record], phase_2: Phase2, problems: list[str]) -> None:
    """Drop cells that differ in a setting of `measured`."""
    here = {key: measured(record, phase_2.get((key[0], key[2]))) for key, record in records.items() if key[1] == task}
    differ: dict[CellKey, list[str]] = {}
    for name in sorted({name for settings in here.values() for name in settings}):
        # as text: a spoilt file may hold what has no hash
        usual, odd = _odd(values := {key: repr(found[name]) for key, found in here.items() if name in found})
        for key in odd:
            differ.setdefault(key, []).append(f"{name} {values[key]} (the other cells: {usual})")
    _drop(differ, records, problems, lambda key: f"was measured with {', '.join(differ[key])}")


# ---- the plain model ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Start:
    """The plain model of a cell, as the records tell it.

    Attributes:
        chain: its checkpoint and that one's ancestors, the oldest first, as paths or Hub ids.
        mark: ("model_commit", its commit on the Hub), ("model_finished", when its training ended) or ("model_weights",
            a digest of them); () if none is recorded.
    """

    chain: tuple[str, ...]
    mark: tuple[str, ...]

    def is_same(self, other: "Start") -> bool | None:
        """Whether both are one model; None if the records do not tell: a folder may have been moved.

        A path is that of the machine it was on, and an absolute one is recorded by its last part alone.
        """
        if self.mark and self.mark[:1] == other.mark[:1]:
            return self.mark == other.mark
        if self.chain == other.chain:
            return True
        names, others = ([PurePath(part).name for part in one.chain] for one in (self, other))
        return None if names == others else False


def _starts(records: Mapping[CellKey, Record], phase_2: Phase2) -> dict[CellKey, Start]:
    """Return the plain model of each cell whose records name it.

    An arm may have a phase 1 of its own between the plain model and its phase 2, so of every chain only as much counts
    as arm `none` has (without it: the shortest chain). An arm without a training before it is a model that the user
    has given a name, and is left out.
    """
    chains = {key: record.parents if key[0] == PLAIN else record.parents[:-1] for key, record in records.items()}
    chains = {key: chain for key, chain in chains.items() if chain}
    lengths = [len(chain) for key, chain in chains.items() if key[0] == PLAIN] or [len(c) for c in chains.values()]
    depth = min(lengths, default=0)
    found = {}
    for key, chain in chains.items():
        first = records[key] if key[0] == PLAIN else phase_2.get((key[0], key[2]))
        mark: tuple[str, ...] = ()
        if first and first.parents == chain and len(chain) == depth:
            marks = [(kind, str(first.settings.get(kind) or "")) for kind in MARKS]
            mark = next((one for one in marks if one[1]), ())
        found[key] = Start(tuple(chain[:depth]), mark)
    return found


def _drop_of_other_models(task: str, records: dict[CellKey, Record], phase_2: Phase2, problems: list[str]) -> None:
    """Drop cells from another plain model than most. Seeds may have a model each, if all arms of a seed have it."""
    starts = _starts({key: record for key, record in records.items() if key[1] == task}, phase_2)
    if not starts:
        return
    usual = Counter(starts.values()).most_common(1)[0][0]
    unclear, seeds = [], []
    other: dict[CellKey, Start] = {}  # {cell: the model it should start from}
    by_seed: dict[int, dict[CellKey, Start]] = {}
    for key, start in starts.items():
        by_seed.setdefault(key[2], {})[key] = start
    mains = {seed: Counter(of_seed.values()).most_common(1)[0][0] for seed, of_seed in by_seed.items()}
    for seed, of_seed in sorted(by_seed.items()):
        first = next(iter(of_seed.values()))
        if all(start.is_same(first) is not False for start in of_seed.values()):
            seeds += [seed] if first.is_same(usual) is False else []
            unclear += [key for key, start in of_seed.items() if start.is_same(first) is None]
        else:
            # if the other seeds have several models, this seed has one of its own, too
            one_model = len({main for other_seed, main in mains.items() if other_seed != seed}) == 1
            main = usual if one_model else mains[seed]
            other |= {key: main for key, start in of_seed.items() if start.is_same(main) is False}
    _drop(
        other,
        records,
        problems,
        lambda key: (
            f"starts from another plain model ({_named(starts[key])}) than the other cells ({_named(other[key])})"
        ),
    )
    if seeds:
        problems.append(
            f"{task}: {seeds_text(seeds)} started from another plain model than the other seeds "
            f"({_named(usual)}), so a mean over seeds is over several models."
        )
    if unclear:
        paths = ", ".join(sorted({" -> ".join(starts[key].chain) for key in starts}))
        problems.append(
            f"{task}: the plain models have several paths ({paths}), and the results do not tell whether they are one "
            "model. If they are not, these cells must not be compared."
        )


def _named(start: Start) -> str:
    return " -> ".join(start.chain) + (f", {start.mark[1]}" if start.mark else "")


# ---- lines ----------------------------------------------------------------------------------------------------------


def _listed(keys: Iterable[CellKey], values: Mapping[CellKey, Any]) -> str:
    """Return cells by name, each with its value."""
    return ", ".join(f"{cell_name(key)} ({values[key]})" for key in keys)


def _name_other_rows(task: str, here: Mapping[CellKey, Record], problems: list[str]) -> None:
    _, odd = _odd({key: tuple(fingerprints(record)) for key, record in here.items()})
    if odd:
        other = ", ".join(map(cell_name, odd))
        problems.append(f"{task}: the rows behind {other} are of another revision or number than behind the others.")


def _name_other_precision(task: str, here: Mapping[CellKey, Record], problems: list[str]) -> None:
    dtypes = {
        key: record.settings["dtype"]
        for key, record in here.items()
        if record.phase == "retrieval" and "dtype" in record.settings
    }
    usual, odd = _odd(dtypes)
    if odd:
        problems.append(
            f"{task}: the vectors behind {_listed(odd, dtypes)} were computed in another precision than behind "
            f"the others ({usual}), so a small difference may be rounding. For equal ones measure all with "
            "--dtype fp32."
        )


def _name_other_training(task: str, here: Mapping[CellKey, Record], problems: list[str]) -> None:
    """Name the targets that were trained with other settings than most."""
    targets = {key: record for key, record in here.items() if record.phase == "target"}
    for name, usual, others in other_settings(targets, cell_name):
        problems.append(
            f"{task}: {name} in the training of {others} is not that of the others ({usual}), so a difference may "
            "come from that."
        )


def name_other_seeds(
    trainings: Sequence[tuple[str, Record]], seeds_of: Mapping[str, Sequence[int]], problems: list[str]
) -> None:
    """Name the arms whose phase 2 had not the same settings in each of `seeds_of`, {arm: seeds}."""
    by_arm: dict[str, dict[int, Record]] = {}
    for path, record in trainings:
        if is_placed(path, record) and record.seed in seeds_of.get(record.arm, ()):
            by_arm.setdefault(record.arm, {})[record.seed] = record
    for arm, by_seed in by_arm.items():
        for name, usual, others in other_settings(by_seed, "seed {}".format):
            problems.append(
                f"phase 2 of {arm}: {name} in {others} is not that of the other seeds ({usual}), so a mean over seeds "
                "mixes two trainings."
            )


def other_settings(
    records: Mapping[Key, Record], named: Callable[[Key], str], common: Callable[[str], bool] = lambda name: True
) -> Iterator[tuple[str, str, str]]:
    """Yield (setting, its most common value, the others by name, with theirs) where trainings differ.

    Settings that leave a training as it is do not count (`BESIDE_TRAINING`). Rows a step are compared as one number,
    and the steps that were made instead of those that were asked for.

    Args:
        named: the name of a key.
        common: whether a setting, by name, is to be the same in all of these.
    """
    found = {key: _trained_with(record) for key, record in records.items()}
    for name in filter(common, sorted({name for settings in found.values() for name in settings})):
        values = {key: settings.get(name, OWN_DEFAULTS.get(name, "the default")) for key, settings in found.items()}
        if name == "steps":  # not every record has them
            values = {key: value for key, value in values.items() if value != "the default"}
        usual, odd = _odd({key: repr(value) for key, value in values.items()})
        if odd:
            others = ", ".join(f"{named(key)} ({values[key]})" for key in odd)
            yield name, str(values[next(key for key in values if key not in odd)]), others


def is_shared(setting: str) -> bool:
    """Whether arms that differ in their rows' languages alone should have the same value of a setting of phase 2."""
    return setting in SHARED or (setting not in OWN_DEFAULTS and setting not in OF_THE_ARM)


def _trained_with(record: Record) -> dict[str, Any]:
    """Return the settings of a training that can change its result; what is absent had the default."""
    settings = record.settings
    found = {name: value for name, value in settings.items() if not BESIDE_TRAINING.fullmatch(name)}
    found["max_seq_length"] = settings.get("max_seq_length") or _default_length(record)
    if isinstance(size := settings.get("per_device_train_batch_size"), int):
        found["rows a step and device"] = size * (settings.get("gradient_accumulation_steps") or 1)
    if (steps := (record.measures or {}).get("steps")) is not None:
        found["steps"] = steps
    return found


def name_rehearsals(
    records: Mapping[CellKey, Record], trainings: Sequence[tuple[str, Record]], problems: list[str]
) -> None:
    """Name the trainings that were cut short to try them, if others were not."""
    runs = {cell_name(key): record for key, record in records.items() if record.phase == "target"}
    runs |= {path.rpartition("/")[0]: record for path, record in trainings}
    short = [name for name, record in runs.items() if record.is_rehearsal]
    if short and len(short) < len(runs):
        problems.append(
            f"{', '.join(short)}: a rehearsal of fewer than {STEPS} steps beside whole trainings. Its scores say "
            "nothing about the task: delete its results.json and run it again."
        )
