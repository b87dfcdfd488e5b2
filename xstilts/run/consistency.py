"""What the values of a record must have in common: mean, rows and layers fit its scores."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from tasks.errors import UserError
from xstilts.run.checks import short, shown

if TYPE_CHECKING:
    from xstilts.run.record import Record


def mean(scores: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Return {metric: mean over languages}, for metrics that every language has; {} without languages.

    Every language has the same weight, as in XTREME.
    """
    languages = list(scores.values())
    if not languages:
        return {}
    shared = [metric for metric in languages[0] if all(metric in language for language in languages)]
    return {metric: math.fsum(language[metric] for language in languages) / len(languages) for metric in shared}


def check_mean_and_rows(record: Record) -> None:
    """Raise UserError unless mean and n fit the scores."""
    expected = mean(record.scores)
    if set(expected) != set(record.mean) or any(abs(record.mean[m] - x) > 1e-6 for m, x in expected.items()):
        raise UserError(f"mean is {short(dict(record.mean))}, but scores give {short(expected)}.")
    if set(record.n) != set(record.scores):
        raise UserError(f"n has the languages {short(sorted(record.n))}, scores has {short(sorted(record.scores))}.")


def check_main_metric(record: Record, scores: Mapping[str, Mapping[str, float]], key: str) -> None:
    """Raise UserError, naming `key`, unless every language of the scores has the main metric."""
    if not scores:
        raise UserError(f"{key} is empty, expected at least one language.")
    for language, by_metric in scores.items():
        if record.metric not in by_metric:
            raise UserError(f"{key}.{shown(language)} lacks the main metric {short(record.metric)}.")


def check_layers(record: Record) -> None:
    """Raise UserError unless layer and pooling are given, and the layers fit the scores."""
    missing = [key for key in ("layer", "pooling") if getattr(record, key) is None]
    if missing:
        raise UserError(f"missing {', '.join(missing)}, which every retrieval result has.")
    layers = {str(layer): scores for layer, scores in (record.layers or {}).items()}
    for layer, scores in layers.items():
        check_main_metric(record, scores, f"layers.{layer}")
        if set(scores) != set(record.scores):
            raise UserError(
                f"layers.{layer} has the languages {short(sorted(scores))}, scores has {short(sorted(record.scores))}."
            )
    if not layers:
        return
    if str(record.layer) not in layers:
        raise UserError(f"layer is {record.layer}, not one of layers ({', '.join(layers)}).")
    for language, found in layers[str(record.layer)].items():
        if found != record.scores[language]:
            raise UserError(
                f"scores.{shown(language)} is {short(dict(record.scores[language]))}, but layers.{record.layer}, the "
                f"headline layer, has {short(dict(found))}."
            )
