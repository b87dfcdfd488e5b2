"""Score a folder of predictions in XTREME's layout as the benchmark's own `evaluate.py` does.

Predictions and labels are two folders with files `<task>/test-<language>.<tsv|json|jsonl>`. The task defines the
format: `lines` writes predictions, `read_lines` reads them, `gold_lines` writes labels, `compare` scores them.

Scores are 0-100. A task's score is the mean over its languages, a benchmark's the mean over its tasks (protocol of
github.com/google-research/xtreme at 838c13b). Means that its script does not compute have names of their own
(`tasks.benchmarks.OUR_GROUPS`).
"""

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tasks import get_task
from tasks.base import Task
from tasks.benchmarks import GROUPS, OUR_GROUPS
from tasks.errors import UserError
from tasks.languages import BENCHMARKS, languages, normalize
from tasks.submitted import Scorer, Submitted


def score(
    predictions: Path | str, labels: Path | str, benchmark: str = "xtreme", found_languages: bool = False
) -> dict[str, Any]:
    """Return all scores of a submission folder, 0-100, in the shape of the benchmark's own report.

    {task: {metric: {language: score}, "avg_<metric>": score, "avg_metric": score}, group: score, "all_task": score}
    It also has "benchmark" and "notes", a list of sentences. A task without predictions or labels is left out and
    noted. A group and "all_task" need all their tasks; XTREME-R has the means of `OUR_GROUPS` instead of "all_task".
    Beyond the benchmark's scores there are: token accuracy of the tagging tasks; "whole_tag_f1" of UDPOS, which the
    benchmark gives with the seqeval of 2020 (0.0.12); "exact_match_language" and "f1_language" of XQuAD and TyDiQA,
    normalised by language.

    Args:
        predictions, labels: folders with files <task>/test-<language>.<tsv|json|jsonl>.
        benchmark: "xtreme" or "xtreme-r".
        found_languages: score each task in the languages of its label files, not in the benchmark's.

    Raises:
        UserError: before anything is scored: a file is missing or broken, or its gold labels are placeholders. The
            message names the file and the row.
    """
    predictions, labels = Path(predictions), Path(labels)
    tasks = adapters(benchmark)
    for folder in (predictions, labels):
        if not folder.is_dir():
            raise UserError(f"No folder {folder}. Give a folder with <task>/test-<language>.<tsv|json|jsonl>.")
    others = sorted(child.name for child in predictions.iterdir() if child.is_dir() and child.name not in tasks)
    notes = [f"{folder}: not a task of {benchmark}, left out." for folder in others]
    present = []
    for task in tasks:
        absent = [str(folder / task) for folder in (predictions, labels) if not (folder / task).is_dir()]
        if absent:
            notes.append(f"{task}: not scored, because {' and '.join(absent)} is missing.")
        else:
            present.append(task)
    if not present:
        raise UserError(f"No task of {benchmark} ({', '.join(tasks)}) is both in {predictions} and in {labels}.")
    scorers: dict[str, dict[str, Scorer]] = {}
    for task in present:
        codes = languages(tasks[task].languages_in, benchmark)
        if found_languages:
            codes = _found_languages(labels, tasks[task])
            notes.append(f"{task}: in the languages of its label files ({len(codes)}), not the benchmark's list.")
        scorers[task] = {code: _compare(tasks[task], code, predictions, labels, notes) for code in codes}

    scores: dict[str, Any] = {}
    for task, by_language in scorers.items():
        figures: dict[str, dict[str, float]] = {}
        for language, scorer in by_language.items():
            for metric, value in scorer().items():
                figures.setdefault(metric, {})[language] = value
        averages = {f"avg_{metric}": _mean(values.values()) for metric, values in figures.items()}
        headline = _mean(averages[f"avg_{metric}"] for metric in tasks[task].official_metrics)
        scores[task] = {**figures, **averages, "avg_metric": headline}

    whole = _group_scores(scores, benchmark, list(tasks), notes)
    return {"benchmark": benchmark, **whole, **scores, "notes": notes}


def _group_scores(
    scores: Mapping[str, Any], benchmark: str, tasks: Sequence[str], notes: list[str]
) -> dict[str, float]:
    """Return the means over groups of tasks that are all scored, and add to `notes`."""
    whole: dict[str, float] = {}
    if benchmark == "xtreme" and list(scores) == tasks:
        whole["all_task"] = _mean(scores[task]["avg_metric"] for task in tasks)
    for group, members in {**GROUPS[benchmark], **OUR_GROUPS[benchmark]}.items():
        if set(members) <= set(scores):
            whole[group] = _mean(scores[task]["avg_metric"] for task in members)
        if group in whole and group in OUR_GROUPS[benchmark]:
            notes.append(
                f"{group}: the mean of {', '.join(members)} is ours: the benchmark's own script does not compute it."
            )
    return whole


def adapters(benchmark: str) -> dict[str, Task]:
    """Return {folder name: task adapter} of a benchmark. Raise UserError if it is unknown."""
    if benchmark not in GROUPS:
        raise UserError(f"Benchmark {benchmark!r} is unknown. Use one of: {', '.join(GROUPS)}.")
    tasks = [get_task(name, benchmark) for name in BENCHMARKS[benchmark]]
    return {Path(task.predictions_file("en")).parent.name: task for task in tasks}


def _found_languages(labels: Path, task: Task) -> tuple[str, ...]:
    pattern = task.predictions_file("*")
    codes = tuple(sorted(path.name.split(".")[0].removeprefix("test-") for path in labels.glob(pattern)))
    if not codes:
        raise UserError(f"{labels}: has no {pattern}.")
    for code in codes:
        ours = normalize(code)
        if ours != code:
            raise UserError(
                f"{labels / task.predictions_file(code)}: {code!r} is called {ours!r} here. Rename the file."
            )
    return codes


def _mean(values: Iterable[float]) -> float:
    values = list(values)
    return sum(values) / len(values)


def _compare(task: Task, language: str, predictions: Path, labels: Path, notes: list[str]) -> Scorer:
    """Read and check the two files of a task in a language. Return the function that scores them."""
    found, gold = (folder / task.predictions_file(language) for folder in (predictions, labels))
    for path in (found, gold):
        if not path.is_file():
            raise UserError(f"{path}: no such file. {task.name} is scored in all its languages.")
    return task.compare(Submitted(language, found, gold, notes))


def table(scores: Mapping[str, Any]) -> str:
    """Return the scores of `score` as text: a line for each task, its languages below, then groups and notes."""
    benchmark = scores["benchmark"]
    lines = [f"{'task':<15}{'score':>7}  averages over languages"]
    for task, adapter in adapters(benchmark).items():
        if task not in scores:
            continue
        figures = scores[task]
        names = [name for name, value in figures.items() if isinstance(value, Mapping)]
        averages = "  ".join(f"{name} {figures['avg_' + name]:.2f}" for name in names)
        lines.append(f"{task:<15}{figures['avg_metric']:>7.2f}  {averages}")
        metric = adapter.official_metrics[-1]
        cells = ", ".join(f"{language}\xa0{value:.1f}" for language, value in figures[metric].items())
        lines += textwrap.wrap(f"{metric}: {cells}", 118, initial_indent=" " * 24, subsequent_indent=" " * 24)
    lines += [""]
    groups = [group for group in ("all_task", *GROUPS[benchmark], *OUR_GROUPS[benchmark]) if group in scores]
    lines += [f"{group:<22}{scores[group]:>7.2f}" for group in groups]
    lines += [f"note: {note}" for note in scores["notes"]]
    return "\n".join(lines).replace("\xa0", " ")
