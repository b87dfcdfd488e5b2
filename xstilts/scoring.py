"""A folder of predictions in XTREME's layout, scored as the benchmark's own `evaluate.py` scores it.

Predictions and labels lie in two folders as `<task>/test-<language>.<tsv|json|jsonl>`. What a file holds depends on the
form of the task; its adapter's `lines` writes it, here it is read:

    form             tasks                a file holds
    sentence_pair    xnli pawsx           one label per line: a word for xnli, 0 or 1 for pawsx
    tagging          udpos panx           one tag per line, an empty line between sentences
    span             xquad mlqa tydiqa    a JSON object, question id -> answer (labels: SQuAD's JSON)
    mining           bucc2018             `foreign id<TAB>English id` per line
    retrieval        tatoeba              one integer per line, the row found among the foreign sentences, from 0
    multiple_choice  xcopa                one JSON object {"label": 0 or 1} per line
    ranking          mewslix lareqa       a JSON object, query id -> candidate ids, best first (labels: the gold ids)

Scores are 0-100. A task's score is the mean over its languages, a benchmark's the mean over its tasks (protocol of
github.com/google-research/xtreme at 838c13b). Means that this script does not compute have names of their own, see `OURS`.
"""

import contextlib
import io
import json
import re
import reprlib
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks import get_task
from tasks.base import Task
from tasks.languages import BENCHMARKS, languages, normalize
from tasks.reading import open_file, parse_json
from xstilts.errors import UserError

# Groups of `evaluate.py`, by its names. Its XTREME-R has LAReQA in none.
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
        "retrieval": ("tatoeba", "mewslix"),
        "multi_choice": ("xcopa",),
    },
}
# Means of ours, by names that `evaluate.py` does not use: it computes no overall score of XTREME-R, and the paper
# (arXiv:2104.07412) has LAReQA in retrieval.
OURS = {"xtreme": {}, "xtreme-r": {"retrieval_and_lareqa": ("tatoeba", "mewslix", "lareqa"), "ten_tasks": tuple(BENCHMARKS["xtreme-r"])}}


# --- reading


def read(path: Path, task: Task) -> Sequence[Any] | Mapping[str, Any]:
    """Returns what a file of predictions holds: an entry for each example, or for each pair found.

    Raises UserError, naming the file and the line, where it does not hold what the task's form should.
    """
    return _READERS[task.form](path, task)


def _lines(path: Path) -> list[str]:
    """The stripped lines, split where the benchmark splits them: at line ends only, not at Unicode's other breaks."""
    with _open(path) as file:
        return [line.strip() for line in file]


@contextlib.contextmanager
def _open(path: Path) -> Iterator[io.TextIOWrapper]:
    """Opens a file of UTF-8 text; raises UserError where it cannot be read."""
    try:
        with io.TextIOWrapper(open_file(path), encoding="utf-8") as file:
            yield file
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: byte {error.start} is not UTF-8. Write the file as UTF-8 text.") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}.") from error


def _class(line: str, classes: tuple[str, ...], path: Path, row: int) -> int:
    if line not in classes:
        raise UserError(f"{path}: line {row} is {reprlib.repr(line)}. It must be one of: {', '.join(classes)}.")
    return classes.index(line)


def _read_labels(path: Path, task: Task) -> list[int]:
    classes = tuple(task.lines(range(len(task.labels)), None))
    return [_class(line, classes, path, row) for row, line in enumerate(_lines(path), 1)]


def _read_tags(path: Path, task: Task) -> list[tuple[int, list[str]]]:
    """The sentences, each with the number of its first line."""
    # XTREME's own files tag a fused form ("du") that stands for two words "_"
    classes = (*task.labels, "_") if task.name == "udpos" else task.labels
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


def _read_indices(path: Path, task: Task) -> list[int]:
    indices = []
    for row, line in enumerate(_lines(path), 1):
        if not re.fullmatch(r"-?[0-9]{1,18}", line):
            raise UserError(f"{path}: line {row} is {reprlib.repr(line)}. Write one integer per line, nothing else.")
        indices.append(int(line))
    return indices


def _read_pairs(path: Path, task: Task) -> list[str]:
    pairs = _lines(path)
    for row, line in enumerate(pairs, 1):
        if not re.fullmatch(r"[^\t]+\t[^\t]+", line):
            raise UserError(f"{path}: line {row} is {reprlib.repr(line)}. Write two ids with one tab between them.")
    return pairs


def _parse(text: str, where: str) -> Any:
    try:
        value = parse_json(text)
        json.dumps(value, ensure_ascii=False).encode("utf-8")
        return value
    except UnicodeEncodeError as error:
        raise UserError(f"{where}: {error.object[error.start]!r} is half a character. Write the text as UTF-8.") from None
    except ValueError as error:
        raise UserError(f"{where}: no valid JSON: {error}.") from None


def _read_json(path: Path) -> Any:
    with _open(path) as file:
        return _parse(file.read(), str(path))


def _read_choices(path: Path, task: Task) -> list[int]:
    choices = []
    for row, line in enumerate(_lines(path), 1):
        value = _parse(line, f"{path}: line {row}")
        label = value.get("label") if isinstance(value, dict) else None
        if type(label) is not int or label not in (0, 1):
            raise UserError(f'{path}: line {row} is {reprlib.repr(line)}. Write {{"label": 0}} or {{"label": 1}}.')
        choices.append(label)
    return choices


def _object(value: Any, path: Path) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UserError(f"{path}: holds a {type(value).__name__}. Give one object, from id to prediction.")
    return value


def _read_answers(path: Path, task: Task) -> dict[str, str]:
    answers = _object(_read_json(path), path)
    for row, (key, answer) in enumerate(answers.items(), 1):
        if not isinstance(answer, str):
            raise UserError(f"{path}: entry {row}, id {key!r}, is {reprlib.repr(answer)}. Give a string.")
    return answers


def _read_ranking(path: Path, task: Task) -> dict[str, list[str]]:
    ranking = _object(_read_json(path), path)
    for row, (key, ids) in enumerate(ranking.items(), 1):
        if not isinstance(ids, list) or not all(isinstance(each, str) for each in ids):
            raise UserError(f"{path}: entry {row}, id {key!r}, is {reprlib.repr(ids)}. Give a list of ids.")
    return ranking


_READERS: dict[str, Callable[[Path, Task], Any]] = {
    "sentence_pair": _read_labels,
    "tagging": _read_tags,
    "span": _read_answers,
    "mining": _read_pairs,
    "retrieval": _read_indices,
    "multiple_choice": _read_choices,
    "ranking": _read_ranking,
}


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
        if not isinstance(key, str) or not all(isinstance(answer, str) for answer in answers):
            raise UserError(f"{path}: question {row}: id {reprlib.repr(key)} and answers {reprlib.repr(answers)} must be text.")
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
    if isinstance(answers, dict) and not isinstance(answers["text"], list):
        raise TypeError("answers.text is no list")
    return answers["text"] if isinstance(answers, dict) else [answer["text"] for answer in answers]


# --- scoring


def score(
    predictions: Path | str, labels: Path | str, benchmark: str = "xtreme", found_languages: bool = False
) -> dict[str, Any]:
    """Returns all scores of a submission folder, 0-100, in the shape of the benchmark's own report.

    {task: {metric: {language: score}, "avg_<metric>": score, "avg_metric": score}, group: score, "all_task": score}
    with "benchmark" and "notes", a list of sentences. A task without predictions or labels is left out and noted;
    groups and "all_task" are there when all their tasks are, for XTREME-R the means of `OURS` instead of "all_task".
    Beyond the benchmark's figures: token accuracy of the tagging tasks; for UDPOS "whole_tag_f1", what the benchmark gives
    with the seqeval of 2020 (0.0.12); for XQuAD and TyDiQA "language_exact_match" and "language_f1", normalised by language.

    Each task is scored in the benchmark's languages or, with `found_languages`, in those of its label files.

    Raises UserError, naming the file and the row, before anything is scored, if a file is missing or broken or holds
    placeholders for gold.
    """
    predictions, labels = Path(predictions), Path(labels)
    tasks = adapters(benchmark)
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
        codes = languages(tasks[task].languages_in, benchmark)
        if found_languages:
            codes = _found_languages(labels, tasks[task])
            notes.append(f"{task}: in the languages of its label files ({len(codes)}), not the benchmark's list.")
        scorers[task] = {code: _check(tasks[task], code, predictions, labels, notes) for code in codes}

    scores: dict[str, Any] = {}
    for task, by_language in scorers.items():
        figures: dict[str, dict[str, float]] = {}
        for language, scorer in by_language.items():
            for metric, value in scorer().items():
                figures.setdefault(metric, {})[language] = value
        averages = {f"avg_{metric}": _mean(values.values()) for metric, values in figures.items()}
        headline = _mean(averages[f"avg_{metric}"] for metric in _HEADLINE[tasks[task].form])
        scores[task] = {**figures, **averages, "avg_metric": headline}

    whole: dict[str, Any] = {}
    if benchmark == "xtreme" and present == list(tasks):
        whole["all_task"] = _mean(scores[task]["avg_metric"] for task in tasks)
    for group, members in {**GROUPS[benchmark], **OURS[benchmark]}.items():
        if set(members) <= set(present):
            whole[group] = _mean(scores[task]["avg_metric"] for task in members)
        if group in whole and group in OURS[benchmark]:
            notes.append(f"{group}: the mean of {', '.join(members)} is ours, the benchmark's own script does not compute it.")
    return {"benchmark": benchmark, **whole, **scores, "notes": notes}


# The figures a task's score is the mean of.
_HEADLINE = {
    "sentence_pair": ("accuracy",),
    "tagging": ("f1",),
    "span": ("exact_match", "f1"),
    "mining": ("f1",),
    "retrieval": ("accuracy",),
    "multiple_choice": ("accuracy",),
    "ranking": ("map@20",),
}

_Scorer = Callable[[], dict[str, float]]


def adapters(benchmark: str) -> dict[str, Task]:
    """Returns the benchmark's task adapters by the names of their folders. Raises UserError if it is unknown."""
    if benchmark not in GROUPS:
        raise UserError(f"Benchmark {benchmark!r} is unknown. Use one of: {', '.join(GROUPS)}.")
    tasks = [get_task(name, benchmark) for name in BENCHMARKS[benchmark]]
    return {Path(task.predictions_file("en")).parent.name: task for task in tasks}


def _found_languages(labels: Path, task: Task) -> tuple[str, ...]:
    pattern = task.predictions_file("*")
    codes = tuple(sorted(path.name.split(".")[0].removeprefix("test-") for path in labels.glob(pattern)))
    if not codes:
        raise UserError(f"{labels}: holds no {pattern}.")
    for code in codes:
        ours = normalize(code)
        if ours != code:
            raise UserError(f"{labels / task.predictions_file(code)}: {code!r} is called {ours!r} here. Rename the file.")
    return codes


def _mean(values: Iterable[float]) -> float:
    values = list(values)
    return sum(values) / len(values)


def _check(task: Task, language: str, predictions: Path, labels: Path, notes: list[str]) -> _Scorer:
    """Reads and checks the two files of a task in a language; returns the function that then scores them."""
    found, gold = (folder / task.predictions_file(language) for folder in (predictions, labels))
    for path in (found, gold):
        if not path.is_file():
            raise UserError(f"{path}: no such file. {task.name} is scored in all its languages.")
    return _CHECKS[task.form](_Files(task, language, found, gold, notes))


@dataclass(frozen=True)
class _Files:
    task: Task
    language: str
    found: Path  # the predictions
    gold: Path  # the labels
    notes: list[str]  # sentences for the reader of the scores are added here

    def read(self) -> tuple[Any, Any]:
        found, gold = read(self.found, self.task), read(self.gold, self.task)
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
    found, gold = files.read()
    files.same_number(found, gold, "lines")
    return lambda: _compute("accuracy", predictions=found, references=gold)


def _check_tags(files: _Files) -> _Scorer:
    found, gold = files.read()
    files.same_number(found, gold, "sentences")
    for row, ((line, tags), (_, answers)) in enumerate(zip(found, gold, strict=True), 1):
        if len(tags) != len(answers):
            raise UserError(
                f"{files.found}: sentence {row}, from line {line}, has {len(tags)} tags, "
                f"but {len(answers)} in {files.gold}."
            )
    rows = {"predictions": [tags for _, tags in found], "references": [tags for _, tags in gold]}
    if files.task.name != "udpos":
        return lambda: _compute("tagging", **rows)
    from tasks.metrics.tagging import f1_of_seqeval_0_0_12

    # the UDPOS figures in the benchmark's own evaluate_test.py are of that version
    return lambda: _compute("tagging", **rows) | {"whole_tag_f1": f1_of_seqeval_0_0_12(**rows)}


def _check_indices(files: _Files) -> _Scorer:
    found, gold = files.read()
    files.same_number(found, gold, "lines")
    files.refuse_gold_below_zero(gold)
    # mteb's F1 is left out: the benchmark has none here.
    return lambda: {"accuracy": _compute("retrieval_accuracy", predictions=found, references=gold)["accuracy"]}


def _check_pairs(files: _Files) -> _Scorer:
    found, gold = files.read()
    return lambda: _compute("mining", predictions=[found], references=[gold])


def _check_answers(files: _Files) -> _Scorer:
    found = read(files.found, files.task)
    gold = _read_gold_answers(files.gold)
    files.compare_ids(found, gold)
    answered = [key for key in gold if key in found]
    rows = {"predictions": [found[key] for key in answered], "references": [gold[key] for key in answered]}
    rules = {"": files.task.normalization_of(files.language)}
    if rules[""] == "squad":  # English, whatever the language: beside it ours
        rules["language_"] = "language"
    elif rules[""] == "language":
        files.notes.append(f"{files.task.name} {files.language}: the benchmark has no normalisation for it, ours is used.")

    def scorer() -> dict[str, float]:
        figures = {}
        for prefix, rule in rules.items():
            scores = _compute("qa", **rows, language=files.language, normalization=rule)
            # A question without a prediction scores 0, even where the gold answer normalises to nothing.
            figures |= {prefix + metric: value * len(answered) / len(gold) for metric, value in scores.items()}
        return figures

    return scorer


def _check_ranking(files: _Files) -> _Scorer:
    found, gold = files.read()
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
    "sentence_pair": _check_labels,
    "tagging": _check_tags,
    "span": _check_answers,
    "mining": _check_pairs,
    "retrieval": _check_indices,
    "multiple_choice": _check_labels,
    "ranking": _check_ranking,
}


def table(scores: Mapping[str, Any]) -> str:
    """Returns the scores of `score` for people: a line a task with its averages, its languages below; then groups, overall, notes."""
    benchmark = scores["benchmark"]
    lines = [f"{'task':<15}{'score':>7}  averages over languages"]
    for task, adapter in adapters(benchmark).items():
        if task not in scores:
            continue
        figures = scores[task]
        names = [name for name, value in figures.items() if isinstance(value, Mapping)]
        averages = "  ".join(f"{name} {figures['avg_' + name]:.2f}" for name in names)
        lines.append(f"{task:<15}{figures['avg_metric']:>7.2f}  {averages}")
        metric = _HEADLINE[adapter.form][-1]
        cells = ", ".join(f"{language}\xa0{value:.1f}" for language, value in figures[metric].items())
        lines += textwrap.wrap(f"{metric}: {cells}", 118, initial_indent=" " * 24, subsequent_indent=" " * 24)
    lines += [""]
    groups = [group for group in ("all_task", *GROUPS[benchmark], *OURS[benchmark]) if group in scores]
    lines += [f"{group:<22}{scores[group]:>7.2f}" for group in groups]
    lines += [f"note: {note}" for note in scores["notes"]]
    return "\n".join(lines).replace("\xa0", " ")
