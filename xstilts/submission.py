"""Predictions in XTREME's layout: written by the run scripts, scored as the benchmark's own `evaluate.py` scores them.

    python -m xstilts.submission score --predictions DIR --labels DIR [--benchmark xtreme|xtreme-r]
                                       [--found_languages] [--json]

Both folders hold `<task>/test-<language>.<tsv|json|jsonl>`. What stands in a file depends on the form of the task:

    form      tasks                  a file holds
    labels    xnli pawsx             one label per line: a word for xnli, 0 or 1 for pawsx
    tags      udpos panx             one tag per line, an empty line between sentences
    answers   xquad mlqa tydiqa      a JSON object, question id -> answer (labels: SQuAD's JSON)
    pairs     bucc2018               `foreign id<TAB>English id` per line
    indices   tatoeba                one integer per line, the row found among the foreign sentences, from 0
    choices   xcopa                  one JSON object {"label": 0 or 1} per line
    ranking   mewslix lareqa         a JSON object, query id -> candidate ids, best first (labels: the gold ids)

Scores are 0-100. A task's score is the mean over its languages, a benchmark's the mean over its tasks (protocol of
github.com/google-research/xtreme at 838c13b). That script gives no overall score for XTREME-R: the one here is ours.
"""

import argparse
import json
import operator
import os
import re
import reprlib
import sys
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.languages import BENCHMARKS, languages, normalize
from xstilts.errors import UserError

FORMS = {
    "xnli": "labels",
    "pawsx": "labels",
    "udpos": "tags",
    "panx": "tags",
    "xquad": "answers",
    "mlqa": "answers",
    "tydiqa": "answers",
    "bucc2018": "pairs",
    "tatoeba": "indices",
    "xcopa": "choices",
    "mewslix": "ranking",
    "lareqa": "ranking",
}

# Groups of `evaluate.py`. Its XTREME-R lists XCOPA a second time, as a group of its own, and leaves LAReQA out of
# retrieval, where the paper (arXiv:2104.07412) has it.
GROUPS = {
    "xtreme": {
        "classification": ("pawsx", "xnli"),
        "tagging": ("udpos", "panx"),
        "qa": ("xquad", "mlqa", "tydiqa"),
        "retrieval": ("bucc2018", "tatoeba"),
    },
    "xtreme-r": {
        "classification": ("xnli", "xcopa"),
        "tagging": ("udpos", "panx"),
        "qa": ("xquad", "mlqa", "tydiqa"),
        "retrieval": ("tatoeba", "mewslix", "lareqa"),
    },
}

_SUFFIXES = {"answers": "json", "ranking": "json", "choices": "jsonl"}
_CLASSES = {
    "xnli": ("contradiction", "entailment", "neutral"),
    "pawsx": ("0", "1"),
    "panx": ("O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC"),
    # Universal Dependencies' 17 tags, and "_", which it gives a fused form ("du") where that stands for two words.
    "udpos": (
        *("ADJ", "ADP", "ADV", "AUX", "CCONJ", "DET", "INTJ", "NOUN", "NUM", "PART", "PRON", "PROPN", "PUNCT"),
        *("SCONJ", "SYM", "VERB", "X", "_"),
    ),
}
_LANGUAGE_LISTS = {"bucc2018": "bucc"}  # the one folder whose name is not the task's


def prediction_path(folder: Path | str, task: str, language: str) -> Path:
    """Returns where XTREME's layout keeps the predictions of a task in a language; `task` is the folder's name there.

    Raises UserError if the task is unknown.
    """
    if task not in FORMS:
        raise UserError(f"Task {task!r} has no place in a submission. Use one of: {', '.join(FORMS)}.")
    return Path(folder) / task / f"test-{language}.{_SUFFIXES.get(FORMS[task], 'tsv')}"


# --- writing


def write_predictions(form: str, predictions: Sequence[Any] | Mapping[str, Any], path: Path | str) -> None:
    """Writes the predictions for one language to `path`, whole or not at all.

    `form` is a value of `FORMS`, and `predictions` are, in the order of the test rows: labels: str or int; tags: a
    list of str per sentence; pairs: (foreign id, English id); indices and choices: int; answers: {id: str}; ranking:
    {id: list of ids}. Raises UserError, naming the row, for what the form cannot hold.
    """
    if form not in _WRITERS:
        raise UserError(f"Form {form!r} is unknown. Use one of: {', '.join(_WRITERS)}.")
    path = Path(path)
    text = _WRITERS[form](predictions, path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8", newline="\n")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _word(word: Any, path: Path, where: str) -> str:
    text = str(word)
    if not text or text.split() != [text]:
        raise UserError(f"{path}: {where} is {text!r}. It must not be empty or hold white space.")
    return text


def _write_labels(predictions: Sequence[str | int], path: Path) -> str:
    return "".join(_word(label, path, f"row {row}") + "\n" for row, label in enumerate(predictions, 1))


def _write_tags(predictions: Sequence[Sequence[str]], path: Path) -> str:
    sentences = []
    for row, tags in enumerate(predictions, 1):
        if not tags:
            raise UserError(f"{path}: sentence {row} has no tags. Leave sentences without words out of the test rows.")
        words = (_word(tag, path, f"tag {n} of sentence {row}") for n, tag in enumerate(tags, 1))
        sentences.append("".join(f"{word}\n" for word in words))
    return "\n".join(sentences)


def _write_pairs(predictions: Sequence[tuple[str, str]], path: Path) -> str:
    lines = []
    for row, (foreign, english) in enumerate(predictions, 1):
        lines.append(f"{_word(foreign, path, f'row {row}')}\t{_word(english, path, f'row {row}')}\n")
    return "".join(lines)


def _integer(value: Any, path: Path, row: int, allowed: tuple[int, ...] | None = None) -> int:
    try:
        number = operator.index(value)  # refuses 1.0 and "1", takes numpy's integers
    except TypeError:
        raise UserError(f"{path}: row {row} is {value!r}. Give an integer.") from None
    if allowed and number not in allowed:
        raise UserError(f"{path}: row {row} is {number}. Give one of: {', '.join(map(str, allowed))}.")
    return number


def _write_indices(predictions: Sequence[int], path: Path) -> str:
    return "".join(f"{_integer(index, path, row)}\n" for row, index in enumerate(predictions, 1))


def _write_choices(predictions: Sequence[int], path: Path) -> str:
    rows = (_integer(choice, path, row, (0, 1)) for row, choice in enumerate(predictions, 1))
    return "".join(json.dumps({"label": choice}) + "\n" for choice in rows)


def _write_answers(predictions: Mapping[str, str], path: Path) -> str:
    return json.dumps(_answers(predictions, path), ensure_ascii=False, indent=1) + "\n"


def _write_ranking(predictions: Mapping[str, Sequence[str]], path: Path) -> str:
    return json.dumps(_ranking(predictions, path), ensure_ascii=False) + "\n"


_WRITERS: dict[str, Callable[[Any, Path], str]] = {
    "labels": _write_labels,
    "tags": _write_tags,
    "answers": _write_answers,
    "pairs": _write_pairs,
    "indices": _write_indices,
    "choices": _write_choices,
    "ranking": _write_ranking,
}


# --- reading


def _lines(path: Path) -> list[str]:
    """The stripped lines, split where the benchmark splits them: at line ends only, not at Unicode's other breaks."""
    try:
        with open(path, encoding="utf-8") as file:
            return [line.strip() for line in file]
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: byte {error.start} is not UTF-8. Write the file as UTF-8 text.") from None


def _class(line: str, classes: tuple[str, ...], path: Path, row: int) -> int:
    if line not in classes:
        raise UserError(f"{path}: line {row} is {line!r}. It must be one of: {', '.join(classes)}.")
    return classes.index(line)


def _read_labels(path: Path, classes: tuple[str, ...]) -> list[int]:
    return [_class(line, classes, path, row) for row, line in enumerate(_lines(path), 1)]


def _read_tags(path: Path, classes: tuple[str, ...]) -> list[tuple[int, list[str]]]:
    """The sentences, each with the number of its first line."""
    sentences, tags, start = [], [], 1
    for row, line in enumerate(_lines(path), 1):
        if line:
            tags.append(classes[_class(line, classes, path, row)])
        else:
            sentences.append((start, tags))
            tags, start = [], row + 1
    if tags:
        sentences.append((start, tags))
    return sentences


def _read_indices(path: Path) -> list[int]:
    indices = []
    for row, line in enumerate(_lines(path), 1):
        if not re.fullmatch(r"-?[0-9]+", line):
            raise UserError(f"{path}: line {row} is {line!r}. Write one integer per line, nothing else.")
        indices.append(int(line))
    return indices


def _read_pairs(path: Path) -> list[str]:
    pairs = _lines(path)
    for row, line in enumerate(pairs, 1):
        if not re.fullmatch(r"[^\t]+\t[^\t]+", line):
            raise UserError(f"{path}: line {row} is {line!r}. Write two ids with one tab between them.")
    return pairs


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        twice = next(key for key in values if sum(key == other for other, _ in pairs) > 1)
        raise ValueError(f"{twice!r} stands twice in one object")
    return values


def _parse(text: str, where: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_unique)
    except ValueError as error:
        raise UserError(f"{where}: no valid JSON: {error}.") from None


def _read_json(path: Path) -> Any:
    try:
        return _parse(path.read_text(encoding="utf-8"), str(path))
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: byte {error.start} is not UTF-8. Write the file as UTF-8 text.") from None


def _read_choices(path: Path) -> list[int]:
    choices = []
    for row, line in enumerate(_lines(path), 1):
        value = _parse(line, f"{path}: line {row}")
        label = value.get("label") if isinstance(value, dict) else None
        if type(label) is not int or label not in (0, 1):
            raise UserError(f'{path}: line {row} is {line!r}. Write {{"label": 0}} or {{"label": 1}}.')
        choices.append(label)
    return choices


def _object(value: Any, path: Path) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise UserError(f"{path}: holds a {type(value).__name__}. Give one object, from id to prediction.")
    return value


def _answers(value: Any, path: Path) -> dict[str, str]:
    for row, (key, answer) in enumerate(_object(value, path).items(), 1):
        if not isinstance(answer, str):
            raise UserError(f"{path}: entry {row}, id {key!r}, is {reprlib.repr(answer)}. Give a string.")
    return dict(value)


def _ranking(value: Any, path: Path) -> dict[str, list[str]]:
    for row, (key, ids) in enumerate(_object(value, path).items(), 1):
        if not isinstance(ids, list | tuple) or not all(isinstance(each, str) for each in ids):
            raise UserError(f"{path}: entry {row}, id {key!r}, is {reprlib.repr(ids)}. Give a list of ids.")
    return {key: list(ids) for key, ids in value.items()}


def _read_gold_answers(path: Path) -> dict[str, list[str]]:
    """{question id: gold answers} of a file in SQuAD's format; refuses the blanks XTREME puts into its test sets."""
    gold: dict[str, list[str]] = {}
    value = _read_json(path)
    try:
        questions = [
            (question["id"], _texts(question["answers"]))
            for article in (value["data"] if isinstance(value, dict) else value)
            for paragraph in article["paragraphs"]
            for question in paragraph["qas"]
        ]
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: not in SQuAD's format (data, paragraphs, qas, answers): {error!r}.") from None
    for row, (key, answers) in enumerate(questions, 1):
        if key in gold:
            raise UserError(f"{path}: question {row}: id {key!r} stands twice.")
        if not any(answers):
            raise UserError(
                f"{path}: question {row}, id {key!r}, has an empty placeholder for its answer. XTREME strips the gold "
                "of its test sets: give labels with the answers."
            )
        gold[key] = answers
    if not gold:
        raise UserError(f"{path}: empty. Give the gold labels.")
    return gold


def _texts(answers: Any) -> list[str]:
    """The texts, from SQuAD's list of answers or from the dict of lists that `datasets` makes of it."""
    return list(answers["text"]) if isinstance(answers, dict) else [answer["text"] for answer in answers]


# --- scoring


def score(
    predictions: Path | str, labels: Path | str, benchmark: str = "xtreme", found_languages: bool = False
) -> dict[str, Any]:
    """Returns all scores of a submission folder, 0-100, in the shape of the benchmark's own report.

    {task: {metric: {language: score}, "avg_<metric>": score, "avg_metric": score}, group: score, "all_task": score}
    with "benchmark" and "notes", a list of sentences. A task without predictions or labels is left out and noted;
    groups and "all_task" are there when all their tasks are. Beyond the benchmark's figures: token accuracy of the
    tagging tasks; for UDPOS "whole_tag_f1", what the benchmark gives with the seqeval of 2020 (0.0.12); for XQuAD and
    TyDiQA "language_exact_match" and "language_f1", normalised by language.

    Each task is scored in the benchmark's languages or, with `found_languages`, in those of its label files.

    Raises UserError, naming the file and the row, before anything is scored, if a file is missing or broken or holds
    placeholders for gold.
    """
    predictions, labels = Path(predictions), Path(labels)
    tasks = _tasks(benchmark)
    for folder in (predictions, labels):
        if not folder.is_dir():
            raise UserError(f"No folder {folder}. Give one that holds <task>/test-<language>.<tsv|json|jsonl>.")
    others = sorted(child.name for child in predictions.iterdir() if child.is_dir() and child.name not in tasks)
    notes = [f"{folder}: no task of {benchmark}, left out." for folder in others]
    present = []
    for task in tasks:
        absent = [str(folder / task) for folder in (predictions, labels) if not (folder / task).is_dir()]
        if absent:
            notes.append(f"{task}: not scored, there is no {' and no '.join(absent)}.")
        else:
            present.append(task)
    if not present:
        raise UserError(f"No task of {benchmark} ({', '.join(tasks)}) is both in {predictions} and in {labels}.")
    scorers: dict[str, dict[str, _Scorer]] = {}
    for task in present:
        codes = languages(_LANGUAGE_LISTS.get(task, task), benchmark)
        if found_languages:
            codes = _found_languages(labels, task)
            notes.append(f"{task}: in the languages of its label files ({len(codes)}), not the benchmark's list.")
        scorers[task] = {code: _check(task, code, predictions, labels, notes) for code in codes}

    scores: dict[str, Any] = {}
    for task, by_language in scorers.items():
        figures: dict[str, dict[str, float]] = {}
        for language, scorer in by_language.items():
            for metric, value in scorer().items():
                figures.setdefault(metric, {})[language] = value
        averages = {f"avg_{metric}": _mean(values.values()) for metric, values in figures.items()}
        headline = _mean(averages[f"avg_{metric}"] for metric in _HEADLINE[FORMS[task]])
        scores[task] = {**figures, **averages, "avg_metric": headline}

    whole: dict[str, Any] = {}
    if present == tasks:
        whole["all_task"] = _mean(scores[task]["avg_metric"] for task in tasks)
        if benchmark == "xtreme-r":
            notes.append("all_task: the mean of the ten tasks is ours, the benchmark's own script never computes it.")
    for group, members in GROUPS[benchmark].items():
        if set(members) <= set(present):
            whole[group] = _mean(scores[task]["avg_metric"] for task in members)
    return {"benchmark": benchmark, **whole, **scores, "notes": notes}


# The figures a task's score is the mean of.
_HEADLINE = {
    "labels": ("accuracy",),
    "tags": ("f1",),
    "answers": ("exact_match", "f1"),
    "pairs": ("f1",),
    "indices": ("accuracy",),
    "choices": ("accuracy",),
    "ranking": ("map@20",),
}

_Scorer = Callable[[], dict[str, float]]


def _tasks(benchmark: str) -> list[str]:
    """The benchmark's tasks by the names of their folders."""
    if benchmark not in GROUPS:
        raise UserError(f"Benchmark {benchmark!r} is unknown. Use one of: {', '.join(GROUPS)}.")
    folders = {name: folder for folder, name in _LANGUAGE_LISTS.items()}
    return [folders.get(task, task) for task in BENCHMARKS[benchmark]]


def _found_languages(labels: Path, task: str) -> tuple[str, ...]:
    pattern = prediction_path("", task, "*").name
    codes = tuple(sorted(path.name.split(".")[0].removeprefix("test-") for path in (labels / task).glob(pattern)))
    if not codes:
        raise UserError(f"{labels / task}: holds no {pattern}.")
    for code in codes:
        ours = normalize(code)
        if ours != code:
            raise UserError(f"{labels / task}: language {code!r} is called {ours!r} here. Rename its files.")
    return codes


def _mean(values: Iterable[float]) -> float:
    values = list(values)
    return sum(values) / len(values)


def _check(task: str, language: str, predictions: Path, labels: Path, notes: list[str]) -> _Scorer:
    """Reads and checks the two files of a task in a language; returns the function that then scores them."""
    files = _Files(
        task, language, prediction_path(predictions, task, language), prediction_path(labels, task, language), notes
    )
    for path in (files.found, files.gold):
        if not path.is_file():
            raise UserError(f"{path}: no such file. {task} is scored in all its languages.")
    return _CHECKS[FORMS[task]](files)


@dataclass(frozen=True)
class _Files:
    task: str
    language: str
    found: Path  # the predictions
    gold: Path  # the labels
    notes: list[str]  # sentences for the reader of the scores are added here

    def read(self, reader: Callable[..., Any], *settings: Any) -> tuple[Any, Any]:
        found, gold = reader(self.found, *settings), reader(self.gold, *settings)
        if not gold:
            raise UserError(f"{self.gold}: empty. Give the gold labels.")
        return found, gold

    def same_number(self, found: Sequence[Any], gold: Sequence[Any], what: str) -> None:
        if len(found) != len(gold):
            raise UserError(f"{self.found}: {len(found)} {what}, but {self.gold} has {len(gold)}.")

    def compare_ids(self, found: Mapping[str, Any], gold: Mapping[str, Any]) -> None:
        missing, extra = len(gold.keys() - found.keys()), len(found.keys() - gold.keys())
        if missing == len(gold):
            raise UserError(f"{self.found}: none of the {missing} ids of {self.gold} has a prediction.")
        if missing:
            self.notes.append(f"{self.found}: {missing} of {len(gold)} ids have no prediction and score 0.")
        if extra:
            self.notes.append(f"{self.found}: {extra} ids are not in the labels, left out.")

    def refuse_gold_below_zero(self, gold: Sequence[int]) -> None:
        for row, index in enumerate(gold, 1):
            if index < 0:
                raise UserError(f"{self.gold}: line {row} is {index}, a placeholder. Give the gold labels.")


def _check_labels(files: _Files) -> _Scorer:
    found, gold = files.read(_read_labels, _CLASSES[files.task])
    files.same_number(found, gold, "lines")
    return lambda: _compute("accuracy", predictions=found, references=gold)


def _check_choices(files: _Files) -> _Scorer:
    found, gold = files.read(_read_choices)
    files.same_number(found, gold, "lines")
    return lambda: _compute("accuracy", predictions=found, references=gold)


def _check_tags(files: _Files) -> _Scorer:
    found, gold = files.read(_read_tags, _CLASSES[files.task])
    files.same_number(found, gold, "sentences")
    for row, ((line, tags), (_, answers)) in enumerate(zip(found, gold, strict=True), 1):
        if len(tags) != len(answers):
            raise UserError(
                f"{files.found}: sentence {row}, from line {line}, has {len(tags)} tags, "
                f"but {len(answers)} in {files.gold}."
            )
    rows = {"predictions": [tags for _, tags in found], "references": [tags for _, tags in gold]}
    if files.task != "udpos":
        return lambda: _compute("tagging", **rows)
    whole = {name: [[_whole_tag(tag) for tag in tags] for tags in sentences] for name, sentences in rows.items()}
    return lambda: _compute("tagging", **rows) | {"whole_tag_f1": _compute("tagging", **whole)["f1"]}


def _whole_tag(tag: str) -> str:
    """A bare tag, written so that seqeval 1.2.2 takes all of it for a span's type, as seqeval 0.0.12 did.

    1.2.2 drops the first letter, which makes CCONJ and SCONJ one type. The UDPOS figures in the benchmark's own
    evaluate_test.py are those of the whole tags.
    """
    return f"{tag[0]}-{tag}"


def _check_indices(files: _Files) -> _Scorer:
    found, gold = files.read(_read_indices)
    files.same_number(found, gold, "lines")
    files.refuse_gold_below_zero(gold)
    # mteb's F1 is left out: the benchmark has none here.
    return lambda: {"accuracy": _compute("retrieval_accuracy", predictions=found, references=gold)["accuracy"]}


def _check_pairs(files: _Files) -> _Scorer:
    found, gold = files.read(_read_pairs)
    return lambda: _compute("mining", predictions=[found], references=[gold])


def _check_answers(files: _Files) -> _Scorer:
    found = _answers(_read_json(files.found), files.found)
    gold = _read_gold_answers(files.gold)
    files.compare_ids(found, gold)
    answered = [key for key in gold if key in found]
    rows = {"predictions": [found[key] for key in answered], "references": [gold[key] for key in answered]}
    if files.task != "mlqa":
        rules = {"": "squad", "language_": "language"}
    elif files.language in languages("mlqa"):
        rules = {"": "mlqa"}
    else:
        rules = {"": "language"}
        files.notes.append(f"mlqa {files.language}: MLQA has no normalisation for it, ours is used.")

    def scorer() -> dict[str, float]:
        figures = {}
        for prefix, rule in rules.items():
            scores = _compute("qa", **rows, language=files.language, normalization=rule)
            # A question without a prediction scores 0, even where the gold answer normalises to nothing.
            figures |= {prefix + metric: value * len(answered) / len(gold) for metric, value in scores.items()}
        return figures

    return scorer


def _check_ranking(files: _Files) -> _Scorer:
    found, gold = files.read(lambda path: _ranking(_read_json(path), path))
    files.compare_ids(found, gold)
    for row, (key, ids) in enumerate(gold.items(), 1):
        if not ids or not all(ids):
            raise UserError(f"{files.gold}: entry {row}, id {key!r}, has no gold id. Give the gold labels.")
    rows = {
        "predictions": [found.get(key, []) for key in gold],
        "references": [[each.strip() for each in ids] for ids in gold.values()],
    }
    return lambda: {"map@20": _compute("mean_average_precision", **rows)["map@20"]}


def _compute(name: str, **inputs: Any) -> dict[str, float]:
    from tasks import metrics  # what it loads takes seconds, which neither --help nor a refused file should cost

    return metrics.compute(name, **inputs)


_CHECKS: dict[str, Callable[[_Files], _Scorer]] = {
    "labels": _check_labels,
    "tags": _check_tags,
    "answers": _check_answers,
    "pairs": _check_pairs,
    "indices": _check_indices,
    "choices": _check_choices,
    "ranking": _check_ranking,
}


# --- command line


def _table(scores: Mapping[str, Any]) -> str:
    """The scores for people: a line a task with its averages, its languages below; then groups, overall, notes."""
    benchmark = scores["benchmark"]
    lines = [f"{'task':<15}{'score':>7}  averages over languages"]
    for task in (name for name in _tasks(benchmark) if name in scores):
        figures = scores[task]
        names = [name for name, value in figures.items() if isinstance(value, Mapping)]
        averages = "  ".join(f"{name} {figures['avg_' + name]:.2f}" for name in names)
        lines.append(f"{task:<15}{figures['avg_metric']:>7.2f}  {averages}")
        metric = _HEADLINE[FORMS[task]][-1]
        cells = ", ".join(f"{language}\xa0{value:.1f}" for language, value in figures[metric].items())
        lines += textwrap.wrap(f"{metric}: {cells}", 118, initial_indent=" " * 24, subsequent_indent=" " * 24)
    lines += [""]
    lines += [f"{group:<15}{scores[group]:>7.2f}" for group in GROUPS[benchmark] if group in scores]
    overall = f"{scores['all_task']:.2f}" if "all_task" in scores else "-"
    lines += [f"{benchmark:<15}{overall:>7}", *(f"note: {note}" for note in scores["notes"])]
    return "\n".join(lines).replace("\xa0", " ")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line and returns the exit status: 0, or 2 after a one-line error on stderr."""
    parser = argparse.ArgumentParser(prog="python -m xstilts.submission", description=__doc__.split("\n\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    scorer = commands.add_parser("score", help="score a folder of predictions as the benchmark does")
    scorer.add_argument("--predictions", type=Path, required=True, help="folder of <task>/test-<language>.<suffix>")
    scorer.add_argument("--labels", type=Path, required=True, help="folder of the gold, in the same layout")
    scorer.add_argument("--benchmark", choices=tuple(GROUPS), default="xtreme", help="default: %(default)s")
    scorer.add_argument(
        "--found_languages",
        action="store_true",
        help="score each task in the languages of its label files, not in the benchmark's",
    )
    scorer.add_argument("--json", action="store_true", help="every figure, unrounded, as one JSON object")
    arguments = parser.parse_args(argv)
    try:
        scores = score(arguments.predictions, arguments.labels, arguments.benchmark, arguments.found_languages)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(json.dumps(scores, indent=1) if arguments.json else _table(scores))
    return 0


if __name__ == "__main__":
    sys.exit(main())
