"""The rows an arm trains on: those its family shares, in the languages and with the labels of the arm.

Arms are compared, so they may differ in nothing but what is asked about. A family (`--train_languages`, the same in
all its arms, the English one too) trains on the row ids that every language has; one feature a row, batches put
together by the lengths of the English rows: so rows, their order, batches and steps are the same whatever language the
text is in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, concatenate_datasets

from tasks.columns import join
from xstilts.cli.arguments import ArmArguments
from xstilts.errors import UserError
from xstilts.run import inputs
from xstilts.train import code_switch, featurizing
from xstilts.train.families import family_languages

ROUND_TRIP = "en, there and back"  # in counts: stands beside the languages, but is none
MISLABELLED = 0.1  # rows that go by number, and whose labels differ in more than this share, are not the same rows


@dataclass
class ArmRows:
    """The train rows of one task.

    Attributes:
        examples: what is trained on.
        english: the same rows in English, whose lengths decide the order; None where order is not matched.
        matched: whether each row becomes one feature.
        notes: sentences for results.json: what was left out, and how many.
    """

    examples: Dataset
    english: Dataset | None = None
    matched: bool = False
    notes: list[str] = field(default_factory=list)


def draws(seed: int, what: str) -> np.random.Generator:
    """A generator of its own for each thing that is drawn with one seed, so that they do not follow from each
    other."""
    return np.random.default_rng([seed, *what.encode()])


# ---- rows -----------------------------------------------------------------------------------------------------------


def load(task, family, arm, rows, limit: int | None, seed: int, lexicons: dict, alone: bool = True) -> ArmRows:
    """The rows of one task for an arm, drawn with `seed`.

    Args:
        limit: rows at most: the first so many of those that all languages have.
        lexicons: of `code_switch.read_lexicons`, for arms that switch.
        alone: False in a mixture, where a task that has no other languages stays English, with a note.

    Raises:
        UserError: the arm cannot be made, or cannot be matched; the counts are given.
    """
    languages, notes = family_languages(family), []
    if task.other_languages == "parallel" and (languages or family.match_roundtrip):
        by_language, notes = parallel(task, languages, family.match_roundtrip, rows, limit)
    elif task.other_languages == "native" and languages:
        by_language = native(task, languages, rows, limit)
    elif arm.language_mode != "english" and alone:
        raise UserError(f"--language_mode {arm.language_mode}: {task.name} has English train rows only.")
    else:
        by_language = {"en": inputs.first(task.load("train", "en", rows), limit)}
        notes += [f"{task.name}: English rows only, there are no others"] if arm.language_mode != "english" else []
    english = by_language["en"]
    if len(by_language) == 1 or arm.language_mode == "english":
        examples = english
    elif arm.language_mode == "roundtrip":
        examples = by_language[ROUND_TRIP]
    elif task.other_languages == "native":
        examples = one_share_each(task, by_language, languages, arm.language_mode)
    else:
        drawn = [code for code in languages if code != "en" or arm.language_mode != "translated"]
        examples = compose(task, by_language, drawn, arm.language_mode, arm.alpha, draws(seed, "languages"))
    if arm.code_switch:
        examples, found = switched(task, examples, arm, lexicons, seed)
        notes += [f"{task.name}, {part}: {count}" for part, count in found.items()]
    if arm.shuffle_labels:
        examples = task.shuffle_labels(examples, draws(seed, "labels"))
        notes.append(f"{task.name}: labels shuffled")
    matched = bool(languages or family.match_roundtrip or arm.code_switch)
    same_rows = matched and task.other_languages != "native"
    return ArmRows(examples, english if same_rows else None, matched, notes)


def row_texts(task, family, languages: Sequence[str], rows, limit: int | None, dev_limit: int | None, seed: int):
    """The texts of the rows a family's arms train on, for masked LM: the same ids, each in the language that is drawn
    for it.

    Args:
        languages: ["en"] for the texts of the English arm, those of the family for the multilingual one's.

    Returns:
        ({"rows": train texts}, {"en": English dev texts}, notes); a text is a row's fields with a blank between.

    Raises:
        UserError: other languages, or as `load`.
    """
    if list(languages) not in (["en"], family_languages(family)):
        raise UserError(
            f"--text_of {task.name}: --text_languages {' '.join(languages)} must be en, or those of --train_languages."
        )
    arm = ArmArguments(language_mode="english" if list(languages) == ["en"] else "multilingual")
    train = load(task, family, arm, rows, limit, seed, {})
    dev = inputs.first(task.load("dev", "en", rows), dev_limit)

    def text(examples: Dataset) -> Dataset:
        columns = [
            c
            for field in task.fields
            for c in field
            if getattr(examples.features[c], "dtype", None) in ("string", "large_string")
        ]
        if not columns:
            raise UserError(f"--text_of {task.name}: its rows are no running text.")
        return Dataset.from_dict(
            {"text": [" ".join(parts) for parts in zip(*(examples[c] for c in columns), strict=True)]}
        )

    return {"rows": text(train.examples)}, {"en": text(dev)}, train.notes


def parallel(
    task, languages: Sequence[str], with_roundtrip: bool, rows, limit: int | None
) -> tuple[dict[str, Dataset], list[str]]:
    """({language: the rows that all have, in the order of the English ones}, notes). English is always there, and
    first.

    Rows go by `task.ids`; where a language has none, by their number, and then all must have as many.
    A row whose label is not the same in all languages is left out.

    Raises:
        UserError: a language has no rows; no id is in all; numbers of rows differ; too many labels differ.
    """
    found = {code: task.load("train", code, rows) for code in dict.fromkeys(["en", *languages])}
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
        places, lacking = np.tile(np.arange(numbers["en"]), (len(found), 1)), {}
    else:
        places, lacking = align(task.name, ids)
    notes = (
        [
            f"{task.name}: {places.shape[1]} of {len(found['en'])} English rows are in every language; not in "
            f"{counts(lacking)}"
        ]
        if lacking
        else []
    )
    # an id may not be in all
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
    return {code: inputs.first(data, limit) for code, data in found.items()}, notes


def align(name: str, ids: dict[str, Sequence[str]]) -> tuple[np.ndarray, dict[str, int]]:
    """Where the ids that all languages have stand: array (languages, shared ids), in the order of the first language.

    Returns:
        (the row numbers, {language: ids of the first it lacks}, without those that lack none).

    Raises:
        UserError: an id stands twice in a language, or none stands in all.
    """
    arrays = {language: pa.array(list(of)) for language, of in ids.items()}
    for language, of in arrays.items():
        if pc.count_distinct(of).as_py() < len(of):
            twice = next(entry["values"] for entry in pc.value_counts(of).to_pylist() if entry["counts"] > 1)
            raise UserError(f"{name}, {language}: the id {twice!r} stands twice.")
    first = next(iter(arrays.values()))
    places = {language: pc.index_in(first, value_set=of) for language, of in arrays.items()}
    shared = np.logical_and.reduce([place.is_valid().to_numpy(zero_copy_only=False) for place in places.values()])
    if not shared.any():
        given = "; ".join(
            f"{language}: {len(of)} rows, {', '.join(map(str, of[:2].to_pylist()))}, ..."
            for language, of in arrays.items()
        )
        raise UserError(f"{name}: no id stands in every language, so the rows are not parallel ({given}).")
    rows = np.stack([place.fill_null(-1).to_numpy()[shared] for place in places.values()])
    return rows, {language: place.null_count for language, place in places.items() if place.null_count}


def native(task, languages: Sequence[str], rows, limit: int | None) -> dict[str, Dataset]:
    """{language: its share of as many rows as English has (and `limit` allows)}; under "en" all the English ones.

    The shares are equal (the first languages have one row more where they cannot be) and are a language's first rows.

    Raises:
        UserError: a language has fewer rows than its share.
    """
    english = inputs.first(task.load("train", "en", rows), limit)
    found = {code: task.load("train", code, rows) for code in languages if code != "en"}
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
    return {"en": english} | {code: inputs.first(data, shares[code]) for code, data in found.items()}


def one_share_each(task, by_language: dict[str, Dataset], languages: Sequence[str], mode: str) -> Dataset:
    """The shares of `native` as one set of rows; as many as there are in English."""
    if mode != "multilingual":
        raise UserError(
            f"--language_mode {mode}: {task.name}'s rows in other languages are not its English ones. It has "
            "--language_mode multilingual, with as many rows of other contents."
        )
    total, others = len(by_language["en"]), [by_language[code] for code in languages if code != "en"]
    english = [by_language["en"].select(range(total - sum(map(len, others))))] if "en" in languages else []
    return join(english + others)


def compose(task, by_language: dict[str, Dataset], languages: Sequence[str], mode: str, alpha: float, rng) -> Dataset:
    """Every row with its fields in drawn languages; what belongs to no field (label, id) is that of English.

    The language of the first field is drawn uniformly, and is the same in all modes with the same generator. The
    second has the same (multilingual, translated), another one drawn uniformly (cross), or the same with probability
    alpha (hybrid).
    """
    if mode in ("cross", "hybrid") and len(task.fields) < 2:
        raise UserError(f"--language_mode {mode}: {task.name} has one text a row, which cannot be in two languages.")
    n, total = len(by_language["en"]), len(languages)
    first = rng.integers(total, size=n)
    other = (first + 1 + rng.integers(max(total - 1, 1), size=n)) % total
    together = {"cross": np.zeros(n, bool), "hybrid": rng.random(n) < alpha}.get(mode, np.ones(n, bool))
    drawn = [first, np.where(together, first, other)][: len(task.fields)]
    english = by_language["en"]
    joined = join([by_language[code] for code in languages])
    parts = [
        joined.select(which * n + np.arange(n)).select_columns(list(columns))
        for columns, which in zip(task.fields, drawn, strict=True)
    ]
    kept = [c for c in english.column_names if not any(c in columns for columns in task.fields)]
    return concatenate_datasets([*parts, *([english.select_columns(kept)] if kept else [])], axis=1)


def switched(task, examples: Dataset, arm, lexicons: dict, seed: int) -> tuple[Dataset, dict]:
    """(the examples code-switched, {part of a text: Counts}); an answer stays where the text around it has it."""
    texts = task.to_texts(examples)
    sides = code_switch.sides(arm.code_switch, lexicons)
    of = {column: sides["query" if column.startswith("first") else "passage"] for column in texts.column_names}
    done, counts = code_switch.switch_columns(texts, of, arm.switch_probability, seed, arm.switch_treebank)
    return task.from_texts(examples, done), counts


def counts(numbers: dict[str, int]) -> str:
    """``de 12, sw 40``."""
    return ", ".join(f"{code} {n}" for code, n in numbers.items())


# ---- features -------------------------------------------------------------------------------------------------------


def featurize(task, arm: ArmRows, tokenizer, length: int) -> Dataset:
    """The train features of an arm; matched arms have one a row, in the order of the rows, of the English row's
    length.

    Of a context that is too long for one feature that is the first with the answer in it: how often a text must be cut
    depends on its language, and an arm with more features would see fewer rows in as many steps.
    """
    features = featurizing.featurize(task, arm.examples, tokenizer, length, True, f"{task.name} train")
    if not arm.matched:
        return features
    whole = len(features)
    features = one_a_row(features)
    if len(features) < whole:
        arm.notes.append(f"{task.name}: of {whole} windows {len(features)} are trained on, one a row")
    if arm.english is not None and arm.english is not arm.examples:
        english = one_a_row(featurizing.featurize(task, arm.english, tokenizer, length, True, f"{task.name} en"))
        features = features.remove_columns("length").add_column("length", english["length"][:])
    return features


def one_a_row(features: Dataset) -> Dataset:
    """One feature of each example, in the examples' order: the first that holds an answer, else the first."""
    examples = np.array(features["example"])
    if len(np.unique(examples)) == len(examples):
        return features
    empty = np.array([label == [0, 0] for label in features["labels"]])
    order = np.lexsort((np.arange(len(examples)), empty, examples))
    return features.select(order[np.unique(examples[order], return_index=True)[1]])
