"""The rows an arm trains on: those its family shares, in the arm's languages and with the arm's labels.

Arms are compared, so they may differ only in what the comparison is about. All arms of a family, the English one too,
have the same `--train_languages` and train on the row ids that every language has. Each row becomes one feature, and
batches are grouped by the lengths of the English rows. So rows, order, batches and steps do not depend on the
language of the text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, concatenate_datasets
from transformers import TokenizersBackend

from tasks.base import Task
from tasks.columns import join
from tasks.errors import UserError
from tasks.rows import Rows
from xstilts.cli.arguments import ArmArguments, DataArguments, FamilyArguments
from xstilts.run import inputs
from xstilts.train import code_switch, featurizing
from xstilts.train.families import family_languages

ROUND_TRIP = "en, there and back"  # key of round-trip translations, beside the language codes
# rows without ids are matched by number; if more than this share of the labels differs, they are not the same rows
MISLABELLED = 0.1


@dataclass
class ArmRows:
    """The train rows of one task.

    Attributes:
        examples: the rows to train on.
        english: the same rows in English, whose lengths decide the batches; None if the order is not matched.
        matched: whether each row becomes one feature.
        notes: sentences for results.json: what was left out, with counts.
    """

    examples: Dataset
    english: Dataset | None = None
    matched: bool = False
    notes: list[str] = field(default_factory=list)


def draws(seed: int, what: str) -> np.random.Generator:
    """Return a generator for one purpose, independent of those of other purposes with the same seed.

    Args:
        what: name of the purpose.
    """
    return np.random.default_rng([seed, *what.encode()])


# ---- rows -----------------------------------------------------------------------------------------------------------


def load(
    task: Task,
    family: FamilyArguments,
    arm: ArmArguments,
    rows: Rows,
    limit: int | None,
    seed: int,
    lexicons: dict[str, code_switch.Lexicon],
    alone: bool = True,
) -> ArmRows:
    """Return the train rows of one task for an arm.

    Args:
        limit: the largest number of rows; the first ones that all languages have are kept.
        seed: of everything that is drawn.
        lexicons: as `code_switch.read_lexicons` returns them, for code-switching arms.
        alone: False in a mixture, where a task that has no other languages stays English, with a note.

    Raises:
        UserError: the rows do not allow this arm, or rows of different languages cannot be matched; gives the counts.
    """
    languages = family_languages(family)
    notes: list[str] = []
    if task.other_languages == "parallel" and (languages or family.match_roundtrip):
        by_language, notes = parallel(task, languages, family.match_roundtrip, rows, limit)
    elif task.other_languages == "native" and languages:
        by_language = native(task, languages, rows, limit)
    elif arm.language_mode != "english" and alone:
        raise UserError(f"--language_mode {arm.language_mode}: {task.name} has English train rows only.")
    else:
        loaded = task.read("train", "en", rows)
        by_language = {"en": inputs.first(loaded.examples, limit, loaded.parts)}
        notes += [f"{task.name}: English rows only, there are no others"] if arm.language_mode != "english" else []
    english = by_language["en"]
    if len(by_language) == 1 or arm.language_mode == "english":
        examples = english
    elif arm.language_mode == "roundtrip":
        examples = by_language[ROUND_TRIP]
    elif task.other_languages == "native":
        examples = one_share_each(task, by_language, languages, arm.language_mode)
    else:
        candidates = [code for code in languages if code != "en" or arm.language_mode != "translated"]
        examples = compose(task, by_language, candidates, arm.language_mode, arm.alpha, draws(seed, "languages"))
    if arm.code_switch:
        examples, switch_counts = switched(task, examples, arm, lexicons, seed)
        notes += [f"{task.name}, {part}: {count}" for part, count in switch_counts.items()]
    if arm.shuffle_labels:
        examples = task.shuffle_labels(examples, draws(seed, "labels"))
        notes.append(f"{task.name}: labels shuffled")
    matched = bool(languages or family.match_roundtrip or arm.code_switch)
    same_rows = matched and task.other_languages != "native"
    return ArmRows(examples, english if same_rows else None, matched, notes)


def parallel(
    task: Task, languages: Sequence[str], with_roundtrip: bool, rows: Rows, limit: int | None
) -> tuple[dict[str, Dataset], list[str]]:
    """Return ({language: the rows that all languages have, in English order}, notes); English is always the first.

    Rows are matched by `task.ids`. If a language has no ids, they are matched by number, and all languages must have
    equally many. A row whose label differs between languages is left out.

    Raises:
        UserError: a language has no rows; no id occurs in all; numbers of rows differ; too many labels differ.
    """
    loaded = {code: task.read("train", code, rows) for code in dict.fromkeys(["en", *languages])}
    parts, found = loaded["en"].parts, {code: of.examples for code, of in loaded.items()}
    if with_roundtrip:
        found[ROUND_TRIP] = task.load("train", "en", rows.roundtrip())
    ids = {code: task.ids(data) for code, data in found.items()}
    by_number = None in ids.values()
    if by_number:
        numbers = {code: len(data) for code, data in found.items()}
        if len(set(numbers.values())) > 1:
            raise UserError(
                f"{task.name}: without ids rows go by their number, but there are not as many in each language: "
                f"{counts(numbers)}. Rows of other languages must be the English ones, in the same order."
            )
        places = np.tile(np.arange(numbers["en"]), (len(found), 1))
        lacking: dict[str, int] = {}
    else:
        places, lacking = align(task.name, {code: list(of or ()) for code, of in ids.items()})
    notes = (
        [
            f"{task.name}: {places.shape[1]} of {len(found['en'])} English rows are in every language; not in "
            f"{counts(lacking)}"
        ]
        if lacking
        else []
    )
    parts = None if parts is None else parts[places[0]]
    # not every language need have the same columns
    columns = [c for c in found["en"].column_names if all(c in data.column_names for data in found.values())]
    found = {
        code: data.select_columns(columns).select(place)
        for (code, data), place in zip(found.items(), places, strict=True)
    }
    if task.shared_labels(found["en"]) is not None:
        labels = np.array([task.shared_labels(data) for data in found.values()])
        same = (labels == labels[0]).all(0)
        differ = {code: int(n) for code, n in zip(found, (labels != labels[0]).sum(1), strict=True) if n}
        if by_number and max(differ.values(), default=0) > MISLABELLED * len(same):
            raise UserError(
                f"{task.name}: rows that go by their number have other labels than in English: {counts(differ)} of "
                f"{len(same)}. They are not the same rows."
            )
        if not same.all():
            notes.append(
                f"{task.name}: {int((~same).sum())} rows left out whose label is not the same in all; other than in "
                f"English: {counts(differ)}"
            )
            found = {code: data.select(np.flatnonzero(same)) for code, data in found.items()}
            parts = None if parts is None else parts[same]
    return {code: inputs.first(data, limit, parts) for code, data in found.items()}, notes


def align(name: str, ids: dict[str, Sequence[str]]) -> tuple[np.ndarray, dict[str, int]]:
    """Find the ids that all languages have.

    Args:
        name: the task's name, for errors.
        ids: {language: the ids of its rows}.

    Returns:
        (array (languages, shared ids) of row numbers, in the order of the first language;
        {language: number of ids of the first language that it lacks}, for languages that lack any).

    Raises:
        UserError: an id occurs twice in a language, or no id occurs in all.
    """
    arrays = {language: pa.array(list(of)) for language, of in ids.items()}
    for language, of in arrays.items():
        if pc.count_distinct(of).as_py() < len(of):
            twice = next(entry["values"] for entry in pc.value_counts(of).to_pylist() if entry["counts"] > 1)
            raise UserError(f"{name}, {language}: the id {twice!r} occurs twice.")
    first = next(iter(arrays.values()))
    places = {language: pc.index_in(first, value_set=of) for language, of in arrays.items()}
    shared = np.logical_and.reduce([place.is_valid().to_numpy(zero_copy_only=False) for place in places.values()])
    if not shared.any():
        given = "; ".join(
            f"{language}: {len(of)} rows, {', '.join(map(str, of[:2].to_pylist()))}, ..."
            for language, of in arrays.items()
        )
        raise UserError(f"{name}: no id occurs in every language, so the rows are not parallel ({given}).")
    rows = np.stack([place.fill_null(-1).to_numpy()[shared] for place in places.values()])
    return rows, {language: place.null_count for language, place in places.items() if place.null_count}


def native(task: Task, languages: Sequence[str], rows: Rows, limit: int | None) -> dict[str, Dataset]:
    """Return {language: its share of the rows}; the shares add up to the number of English rows, up to `limit`.

    "en" holds all English rows. A share is the first rows of a language. Shares differ by one row at most, the first
    languages having the larger ones.

    Raises:
        UserError: a language has fewer rows than its share.
    """
    loaded = {code: task.read("train", code, rows) for code in dict.fromkeys(["en", *languages])}
    english = inputs.first(loaded["en"].examples, limit, loaded["en"].parts)
    found = {code: of.examples for code, of in loaded.items() if code != "en"}
    shares = {
        code: len(english) // len(languages) + (i < len(english) % len(languages)) for i, code in enumerate(languages)
    }
    short = {code: len(data) for code, data in found.items() if len(data) < shares[code]}
    if short:
        raise UserError(
            f"{task.name}: {len(english)} rows in {len(languages)} languages are {shares[languages[0]]} of each, but "
            f"there are only {counts(short)}. Give every arm of the family --max_train_samples "
            f"{min(short.values()) * len(languages)} or less, or leave the language out."
        )
    return {"en": english} | {
        code: inputs.first(data, shares[code], loaded[code].parts) for code, data in found.items()
    }


def one_share_each(task: Task, by_language: dict[str, Dataset], languages: Sequence[str], mode: str) -> Dataset:
    """Return the shares of `native` joined; as many rows as in English.

    Raises:
        UserError: --language_mode is not multilingual.
    """
    if mode != "multilingual":
        raise UserError(
            f"--language_mode {mode}: {task.name}'s rows in other languages are not its English ones. It has "
            "--language_mode multilingual, with as many rows of other contents."
        )
    total, others = len(by_language["en"]), [by_language[code] for code in languages if code != "en"]
    english = [by_language["en"].select(range(total - sum(map(len, others))))] if "en" in languages else []
    return join(english + others, task.optional)


def compose(
    task: Task,
    by_language: dict[str, Dataset],
    languages: Sequence[str],
    mode: str,
    alpha: float,
    rng: np.random.Generator,
) -> Dataset:
    """Return every row with its fields in drawn languages; other columns (label, id) are those of the English row.

    The language of the first field is drawn uniformly, and is the same in all modes with the same generator. The
    second field has the same language (multilingual, translated), a different one drawn uniformly (cross), or the same
    one with probability alpha (hybrid).

    Raises:
        UserError: cross or hybrid for a task with one field.
    """
    if mode in ("cross", "hybrid") and len(task.fields) < 2:
        raise UserError(f"--language_mode {mode}: {task.name} has one text a row, which cannot be in two languages.")
    n, total = len(by_language["en"]), len(languages)
    first = rng.integers(total, size=n)
    other = (first + 1 + rng.integers(max(total - 1, 1), size=n)) % total
    together = {"cross": np.zeros(n, bool), "hybrid": rng.random(n) < alpha}.get(mode, np.ones(n, bool))
    drawn = [first, np.where(together, first, other)][: len(task.fields)]
    english = by_language["en"]
    joined = join([by_language[code] for code in languages], task.optional)
    parts = [
        joined.select(which * n + np.arange(n)).select_columns(list(columns))
        for columns, which in zip(task.fields, drawn, strict=True)
    ]
    kept = [c for c in english.column_names if not any(c in columns for columns in task.fields)]
    return concatenate_datasets([*parts, *([english.select_columns(kept)] if kept else [])], axis=1)


def switched(
    task: Task, examples: Dataset, arm: ArmArguments, lexicons: dict[str, code_switch.Lexicon], seed: int
) -> tuple[Dataset, dict[str, code_switch.Counts]]:
    """Return (the examples code-switched, {column of text: counts of words}). Answer spans move with their text."""
    texts = task.to_texts(examples)
    sides = code_switch.sides(str(arm.code_switch), lexicons)
    of = {column: sides["query" if column.startswith("first") else "passage"] for column in texts.column_names}
    done, counts = code_switch.switch_columns(texts, of, arm.switch_probability, seed, arm.switch_treebank)
    return task.from_texts(examples, done), counts


def counts(numbers: Mapping[str, int]) -> str:
    """Return {code: number} as ``de 12, sw 40``."""
    return ", ".join(f"{code} {n}" for code, n in numbers.items())


# ---- features -------------------------------------------------------------------------------------------------------


def read_features(
    tasks: Sequence[Task],
    family: FamilyArguments,
    arm: ArmArguments,
    lexicons: dict[str, code_switch.Lexicon],
    rows: Rows,
    tokenizer: TokenizersBackend,
    length: int,
    data_args: DataArguments,
    seed: int,
) -> tuple[dict[str, Dataset], dict[str, tuple[Dataset, Dataset]], int, list[str]]:
    """Return what phase 2 trains on and is scored on.

    Returns:
        ({task: train features}, {task: (examples, features) of English dev}, distinct train rows, notes).

    Raises:
        UserError: see `load` and `featurizing.read_scored`.
    """
    features, dev, n_rows = {}, {}, 0
    notes: list[str] = []
    for task in tasks:
        train = load(task, family, arm, rows, data_args.max_train_samples, seed, lexicons, alone=len(tasks) == 1)
        features[task.name] = featurize(task, train, tokenizer, length)
        notes, n_rows = notes + train.notes, n_rows + len(train.examples)
        dev[task.name] = featurizing.read_scored(task, "dev", "en", rows, tokenizer, length, data_args)
    return features, dev, n_rows, notes


def featurize(task: Task, arm: ArmRows, tokenizer: TokenizersBackend, length: int) -> Dataset:
    """Return the train features of an arm. A matched arm has one per row, in row order, with the English row's length.

    A context too long for one feature keeps the first window that holds the answer. The number of windows depends on
    the language, so an arm with more of them would see fewer rows in the same number of steps.

    Args:
        length: tokens of a feature at most.
    """
    features = featurizing.featurize(task, arm.examples, tokenizer, length, True, f"{task.name} train")
    if not arm.matched:
        return features
    windows = len(features)
    features = one_per_row(features, task)
    if len(features) < windows:
        arm.notes.append(f"{task.name}: of {windows} windows {len(features)} are trained on, one a row")
    if arm.english is not None and arm.english is not arm.examples:
        windows_en = featurizing.featurize(task, arm.english, tokenizer, length, True, f"{task.name} en")
        english = one_per_row(windows_en, task)
        features = features.remove_columns("length").add_column("length", english["length"][:])
    return features


def one_per_row(features: Dataset, task: Task) -> Dataset:
    """Return one feature per example, in the examples' order: the first one with an answer, else the first."""
    examples = np.array(features["example"])
    if len(np.unique(examples)) == len(examples):
        return features
    empty = np.array([label == task.empty_label for label in features["labels"][:]])
    order = np.lexsort((np.arange(len(examples)), empty, examples))
    return features.select(order[np.unique(examples[order], return_index=True)[1]])
