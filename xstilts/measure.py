"""Retrieval and mining over a task's languages: vectors of one pass, scores of every layer asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from xstilts import mining
from xstilts.embedding import Encoder, cached_embed, center, normalize


@dataclass
class Found:
    """What a measurement came to, per layer and language."""

    layers: dict[int, dict[str, dict[str, float]]] = field(default_factory=dict)
    predictions: dict[int, dict[str, tuple]] = field(default_factory=dict)  # (predictions, examples)
    n: dict[str, int] = field(default_factory=dict)
    chance: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    files: dict[int, dict[str, str]] = field(default_factory=dict)  # what to write beside the predictions: {layer: {name: text}}

    def add(self, layer: int, language: str, scores: dict[str, float], predictions, examples) -> None:
        self.layers.setdefault(layer, {})[language] = scores
        self.predictions.setdefault(layer, {})[language] = predictions, examples


def embedder(encoder: Encoder, cache_dir: str | None) -> Callable:
    """A function (sentences, desc) -> {layer: (n, d)}, through the cache if there is one."""
    if cache_dir is None:
        return lambda sentences, desc: encoder.embed(sentences, desc=desc)
    return lambda sentences, desc: cached_embed(encoder, sentences, cache_dir, desc=desc)


def retrieve(task, encoder, rows, languages, how, limit) -> Found:
    """Cosine 1-nearest neighbour, `how.query_side` asking.

    With `how.center` and `how.csls` the accuracy of centred vectors (each side minus its own mean) and of CSLS stand beside
    the plain one, never in its place. Their statistics come from the searched sentences alone.
    """
    embed, found, chances = embedder(encoder, how.cache_dir), Found(), []
    for language in languages:
        examples = task.load("test", language, rows)
        examples = examples if limit is None else examples.select(range(min(limit, len(examples))))
        both = embed([*examples["source"], *examples["target"]], f"{task.name} {language}")
        n = found.n[language] = len(examples)
        chances.append(task.chance(examples))
        for layer, vectors in both.items():
            foreign, english = normalize(vectors[:n]), normalize(vectors[n:])
            sides = (english, foreign) if how.query_side == "english" else (foreign, english)
            predictions = mining.nearest(*sides).tolist()
            scores = task.score(predictions, examples, language)
            beside = {}
            if how.center == "language":
                means = [normalize(center(vectors[:n])), normalize(center(vectors[n:]))]
                beside["centered"] = mining.nearest(*(means[::-1] if how.query_side == "english" else means))
            if how.csls:
                beside["csls"] = mining.nearest(*sides, csls=how.csls)
            for name, nearest in beside.items():
                scores[f"accuracy_{name}"] = task.score(nearest.tolist(), examples, language)["accuracy"]
            found.add(layer, language, scores, predictions, examples)
    if how.center == "language" or how.csls:
        found.notes.append("accuracy_centered and accuracy_csls take their means and neighbours from the searched sentences alone")
    found.chance = {task.metric: float(np.mean([c[task.metric] for c in chances]))}
    return found


def mine(task, encoder, rows, languages, how, limit) -> Found:
    """Margin-based mining as in BUCC: k = 4, ratio margin, greedy one-to-one, the threshold of dev applied to test.

    Every test candidate is kept with its score, best first, to be read: candidates/<language>.tsv. The foreign corpus is
    the source side. `limit` does not apply: half a pool would be another task.
    """
    embed, found, chances = embedder(encoder, how.cache_dir), Found(), []
    for language in languages:
        mined = {}
        for split in ("dev", "test"):
            pools = task.load(split, language, rows)
            source, source_ids = mining.deduplicate(pools.source_ids, pools.source)
            target, target_ids = mining.deduplicate(pools.target_ids, pools.target)
            vectors = embed([*source, *target], f"{task.name} {language} {split}")
            for layer, both in vectors.items():
                sides = normalize(both[: len(source)]), normalize(both[len(source) :])
                pairs = mining.mine(*sides, margin=how.margin, retrieval=how.mining)
                mined[split, layer] = mining.id_pairs(*pairs, source_ids, target_ids)
            if split == "dev":
                gold, n_gold = pools.gold, len(pools.gold)
        found.n[language] = len(pools)
        chances.append(task.chance(pools))
        for layer in encoder.layers:
            pairs, values = mined["dev", layer]
            hits = np.array([pair in gold for pair in pairs], dtype=bool)
            if hits.any():
                threshold, dev_f1 = mining.best_threshold(values, hits, n_gold)
            else:  # nothing right on dev: no threshold is better than another, so nothing is extracted
                threshold, dev_f1 = float("inf"), 0.0
                found.notes.append(f"{language}, layer {layer}: no gold pair among the dev candidates, so none is extracted")
            predictions = mining.pairs_above(*mined["test", layer], threshold)
            texts = dict(zip([*pools.source_ids, *pools.target_ids], [*pools.source, *pools.target], strict=True))
            lines = [f"{value:.6f}\t{a}\t{b}\t{texts[a]}\t{texts[b]}" for (a, b), value in zip(*mined["test", layer], strict=True)]
            header = f"# score, ids, sentences; extracted on test: score >= {threshold:.6f} (best F1 on dev)"
            found.files.setdefault(layer, {})[f"candidates/{language}.tsv"] = "\n".join([header, *lines]) + "\n"
            scores = task.score(predictions, pools, language) | {"dev_f1": dev_f1}
            found.add(layer, language, scores, predictions, pools)
    found.chance = {task.metric: float(np.mean([c[task.metric] for c in chances]))}
    return found


def show(scores: dict[str, float]) -> str:
    """``accuracy 12.3 f1 10.1``."""
    return " ".join(f"{name} {value:.1f}" for name, value in scores.items())
