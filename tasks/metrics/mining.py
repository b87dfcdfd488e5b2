"""Precision, recall and F1 of the set of sentence pairs found in a pair of corpora, as BUCC and XTREME score mining.

Sources:
    Zweigenbaum et al. 2018, Overview of the Third BUCC Shared Task; the function `bucc_f1` of evaluate.py in
    github.com/google-research/xtreme.
"""

from .errors import UserError


def mining(predictions: list[list[str]], references: list[list[str]]) -> dict[str, float]:
    r"""Return precision, recall and F1 of mined sentence pairs.

    Args:
        predictions: for each pair of corpora (a row) the pairs found, as `id<TAB>id`, in any order.
        references: the gold pairs of the same corpora.

    Returns:
        {"precision", "recall", "f1"}, floats from 0 to 100, each the mean over the rows (with one row: that row's). A
        pair given twice counts once. Where nothing found is right, all three are 0.

    Raises:
        UserError: a row has no gold pairs, or a pair is not two ids with one tab between them; names the row.

    Examples:
        >>> mining(predictions=[["de-1\ten-4", "de-2\ten-9"]], references=[["de-1\ten-4"]])["precision"]
        50.0
    """
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
