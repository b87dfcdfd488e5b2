"""Precision, recall and F1 of mined sentence pairs: an evaluate module."""

import datasets
import evaluate

try:
    from tasks.errors import UserError
except ImportError:  # loaded by path, outside this project
    UserError = ValueError

_DESCRIPTION = """\
Precision, recall and F1 of the set of sentence pairs found in a pair of corpora, as BUCC and XTREME score mining.
"""

_CITATION = """\
Zweigenbaum et al. 2018, Overview of the Third BUCC Shared Task; the function `bucc_f1` of evaluate.py in
github.com/google-research/xtreme.
"""

_INPUTS = """
Args:
    predictions: list of lists of str, for each pair of corpora (a row) the pairs found, as `id<TAB>id`, in any order.
    references: list of lists of str, the gold pairs of the same corpora; a row without any is refused.
Returns:
    {"precision", "recall", "f1"}, floats from 0 to 100, each the mean over the rows (with one row: that row's). A pair
    given twice counts once. Where nothing found is right, all three are 0.
Examples:
    >>> mining = evaluate.load("tasks/metrics/mining")
    >>> mining.compute(predictions=[["de-1\\ten-4", "de-2\\ten-9"]], references=[["de-1\\ten-4"]])["precision"]
    50.0
"""


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _INPUTS)
class Mining(evaluate.Metric):
    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS,
            features=datasets.Features(
                {
                    "predictions": datasets.Sequence(datasets.Value("string")),
                    "references": datasets.Sequence(datasets.Value("string")),
                }
            ),
        )

    def _compute(self, predictions: list[list[str]], references: list[list[str]]) -> dict[str, float]:
        rows = []
        for row, (pairs, gold) in enumerate(zip(predictions, references, strict=True), 1):
            if not gold:
                raise UserError(f"Row {row}: no gold pairs. Score corpora whose gold is known.")
            rows.append(_scores(_pairs(pairs, row, "prediction"), _pairs(gold, row, "gold pair")))
        return {name: sum(scores[name] for scores in rows) / len(rows) for name in ("precision", "recall", "f1")}


def _pairs(lines: list[str], row: int, what: str) -> set[str]:
    for number, line in enumerate(lines, 1):
        if len(line.split("\t")) != 2:
            raise UserError(f"Row {row}: {what} {number} is {line!r}. Write two ids with one tab between them.")
    return set(lines)


def _scores(found: set[str], gold: set[str]) -> dict[str, float]:
    right = len(found & gold)
    if not right:
        return {"precision": 0.0, "recall": 0.0, "f1": 0.0}
    precision, recall = right / len(found), right / len(gold)
    f1 = 2 * precision * recall / (precision + recall)
    return {"precision": 100.0 * precision, "recall": 100.0 * recall, "f1": 100.0 * f1}
