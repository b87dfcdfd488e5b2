"""One line about a finished run: its score and how long it took."""

from __future__ import annotations

from xstilts.cli.logs import duration
from xstilts.run.record import Record


def summary(record: Record) -> str:
    """Return a finished run in one line: ``mnli seed 0, xnli: accuracy 61.2 over 6 languages (en 70.1), 2.3 min``."""
    task = "" if record.task == record.arm else f", {record.task}"
    parts = filter(None, [_score(record), duration(record.seconds)])
    return f"{record.arm} seed {record.seed}{task}: {', '.join(parts)}"


def _score(record: Record) -> str:
    metric, scores = record.metric, record.scores
    if scores and metric in record.mean:
        english = f" (en {scores['en'][metric]:.1f})" if "en" in scores and len(scores) > 1 else ""
        over = f"{len(scores)} languages" if len(scores) > 1 else next(iter(scores))
        text = f"{metric} {record.mean[metric]:.1f} over {over}{english}"
        return f"{text}, at layer {record.layer}" if record.layer is not None else text
    if dev := record.dev.get("en"):
        return "English dev " + ", ".join(f"{name} {value:.1f}" for name, value in dev.items())
    measures = record.measures or {}
    return f"{metric} {measures[metric]:.4g}" if metric in measures else ""
