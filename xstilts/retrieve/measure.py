"""Retrieval, mining and ranking over a task's languages: each text is embedded once, and every layer is scored.

`measure` retrieves, ranks or mines, as the task's form asks. `xstilts.retrieve.pools` reads the rows,
`xstilts.retrieve.headline` chooses the layer whose scores are the result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from tasks import languages as codes
from xstilts.retrieve import index, mining, neighbours, nway, ranks
from xstilts.retrieve.cache import cached_embed
from xstilts.retrieve.embedding import Encoder
from xstilts.retrieve.measurement import Measurement
from xstilts.retrieve.pools import NEIGHBOURS, error_context, index_of
from xstilts.retrieve.vectors import center, normalize
from xstilts.run.temporary import temporary_folder

if TYPE_CHECKING:
    from tasks.base import Task
    from tasks.ranking import Ranking
    from tasks.retrieval import Pools, Tatoeba
    from xstilts.cli.arguments import RetrievalArguments

Vectors = dict[int, np.ndarray]  # {layer: (n, dim) float32}
Embed = Callable[[Sequence[str], str], Vectors]  # (sentences, text of the progress bar)


@dataclass(frozen=True)
class Prompted:
    """An `Embed` function, and the text that `prompted` puts before every "query" and every "passage"."""

    embed: Embed
    prompts: Mapping[str, str]

    def __call__(self, sentences: Sequence[str], desc: str) -> Vectors:
        return self.embed(sentences, desc)


def embedder(encoder: Encoder, cache_dir: str | None, prompts: Mapping[str, str] | None = None) -> Prompted:
    """Return a function (sentences, desc) -> {layer: (n, dim) float32} that uses the cache, if there is one.

    Args:
        prompts: {"query" or "passage": text put before each by `prompted`}.
    """

    def embed(sentences: Sequence[str], desc: str) -> Vectors:
        with error_context(desc):
            if cache_dir is None:
                return encoder.embed(sentences, desc=desc)
            return cached_embed(encoder, sentences, cache_dir, desc=desc)

    return Prompted(embed, dict(prompts or {}))


def prompted(embed: Embed, side: str, texts: Sequence[str]) -> list[str]:
    """Return the texts of a side, "query" or "passage", each after the prompt that `embed` has for this side."""
    prompt = getattr(embed, "prompts", {}).get(side, "")
    return [prompt + text for text in texts]


def _variants(
    queries: np.ndarray,
    candidates: np.ndarray,
    options: RetrievalArguments,
    query_languages: np.ndarray | None = None,
    candidate_languages: np.ndarray | None = None,
) -> Iterator[tuple[str, np.ndarray, np.ndarray, int | None]]:
    """Yield (variant, unit queries, unit candidates, neighbours of CSLS or None): plain, then --center and --csls.

    Args:
        query_languages, candidate_languages: the language of each vector; None: each side has one language.
    """
    with _unit(options, queries, candidates) as plain:
        left, right = plain
        yield "plain", left, right, None
        if options.center == "language":
            yield "centered", _centered(queries, query_languages), _centered(candidates, candidate_languages), None
        if options.csls is not None:
            yield "csls", left, right, options.csls


@contextmanager
def _unit(options: RetrievalArguments, *sides: np.ndarray) -> Iterator[list[np.ndarray]]:
    """Yield unit vectors of each side. With --index they are temporary memory-mapped files beside the cache."""
    if options.index is None:
        yield [normalize(side) for side in sides]
        return
    with temporary_folder(str(options.cache_dir), "unit-") as folder:
        yield [normalize(side, Path(folder, f"{number}.npy")) for number, side in enumerate(sides)]


def _centered(vectors: np.ndarray, languages: np.ndarray | None) -> np.ndarray:
    """Subtract the mean of each language and return unit vectors."""
    if languages is None:
        return normalize(center(vectors))
    moved = np.empty(vectors.shape, dtype=np.float32)
    for language in np.unique(languages):
        moved[languages == language] = center(vectors[languages == language])
    return normalize(moved)


def _finish(found: Measurement, task: Task, examples: Mapping[str, Any]) -> Measurement:
    """Add chance and notes to `found` and return it.

    If all languages of a benchmark are there, and others too, add the benchmark's own mean to the measures.
    """
    for benchmark, by_task in codes.BENCHMARKS.items():
        reported = by_task.get(task.languages_in, ())
        if reported and set(reported) < set(examples):
            for layer, scores in found.layers.items():
                mean = float(np.mean([scores[language][task.metric] for language in reported]))
                found.measures.setdefault(layer, {})[f"{task.metric}_{benchmark}"] = mean
    chances = [task.chance(rows)[task.metric] for rows in examples.values()]
    found.chance = {task.metric: float(np.mean(chances))}
    beside = dict.fromkeys(
        f"{task.metric}_{variant}" for _, _, variant, _, _ in found.hits if variant in ("centered", "csls")
    )
    if beside:
        found.notes.append(f"{' and '.join(beside)}: means and neighbours are those of the searched sentences alone")
    return found


def retrieve(
    task: Tatoeba, examples: Mapping[str, Any], embed: Embed, options: RetrievalArguments, headline: int | None = None
) -> Measurement:
    """Find the nearest neighbour of every query by cosine. --query_side says which language the queries are in.

    --center and --csls add the accuracy of centred vectors (each side minus its own mean) and of CSLS to the plain
    accuracy. Means and neighbours come from the searched sentences alone.
    """
    if task.parallel:
        return _retrieve_parallel(task, examples, embed, options, headline)
    found = Measurement(headline)
    for language, rows in examples.items():
        names = ("passage", "query") if options.query_side == "english" else ("query", "passage")
        texts = [
            text
            for side, column in zip(names, ("source", "target"), strict=True)
            for text in prompted(embed, side, rows[column][:])
        ]
        both = embed(texts, f"{task.name} {language}")
        n = found.n[language] = len(rows)
        for layer, vectors in both.items():
            foreign, english = vectors[:n], vectors[n:]
            sides = (english, foreign) if options.query_side == "english" else (foreign, english)
            with error_context(f"{task.name} {language}, layer {layer}"):
                for variant, queries, candidates, csls in _variants(sides[0], sides[1], options):
                    if options.index is None:
                        near = neighbours.nearest(queries, candidates, csls=csls)
                    else:
                        near, share = index.nearest(queries, candidates, index_of(options))
                        found.measures.setdefault(layer, {})[f"recall@1 {language} {variant}"] = share
                    found.answer(task, layer, language, variant, near.tolist(), rows)
    return _finish(found, task, examples)


def _retrieve_parallel(
    task: Tatoeba, examples: Mapping[str, Any], embed: Embed, options: RetrievalArguments, headline: int | None
) -> Measurement:
    """`retrieve` of one text in many languages: each is embedded once, English too, and is both query and pool.

    `accuracy_reverse` is that of the search in the other direction. With `options.pairs` "all", at the headline layer
    alone, every language is also compared with every other: `accuracy_without_english`, see `nway.every_pair`, and
    pairs.tsv.
    """
    found, n = Measurement(headline), len(next(iter(examples.values())))
    texts = {"en": next(iter(examples.values()))["target"][:]} | {
        code: rows["source"][:] for code, rows in examples.items()
    }
    asking, asked = (
        [text for code in texts for text in prompted(embed, side, texts[code])] for side in ("query", "passage")
    )
    # one call: equal tokens get equal vectors
    both = embed(asking if asking == asked else [*asking, *asked], task.name)
    found.n = dict.fromkeys(examples, n)
    for layer, vectors in both.items():
        query = {code: vectors[start : start + n] for code, start in zip(texts, range(0, len(asking), n), strict=True)}
        passage = query
        if asking != asked:
            starts = range(len(asking), 2 * len(asking), n)
            passage = {code: vectors[start : start + n] for code, start in zip(texts, starts, strict=True)}
        for language, rows in examples.items():
            sides = [("en", language), (language, "en")]
            asks, reverse = sides if options.query_side == "english" else reversed(sides)
            with error_context(f"{task.name} {language}, layer {layer}"):
                for variant, left, right, csls in _variants(query[asks[0]], passage[asks[1]], options):
                    found.answer(
                        task, layer, language, variant, neighbours.nearest(left, right, csls=csls).tolist(), rows
                    )
                near = neighbours.nearest(normalize(query[reverse[0]]), normalize(passage[reverse[1]]))
                found.answer(task, layer, language, "reverse", near.tolist(), rows)
        if options.pairs == "all" and layer == headline:
            _every_pair(found, task, examples, layer, query, None if passage is query else passage)
    return _finish(found, task, examples)


def _every_pair(
    found: Measurement,
    task: Tatoeba,
    examples: Mapping[str, Any],
    layer: int,
    query: Mapping[str, np.ndarray],
    passage: Mapping[str, np.ndarray] | None,
) -> None:
    """Add the scores of every pair of languages without English (`nway.every_pair`), and pairs.tsv."""
    queries = {code: normalize(query[code]) for code in examples}
    passages = None if passage is None else {code: normalize(passage[code]) for code in examples}
    values, accuracies = nway.every_pair(queries, passages, desc=f"{task.name} pairs")
    metric = f"{task.metric}_without_english"
    for language, rows in examples.items():
        found.layers[layer][language][metric] = 100 * float(values[language].mean())
        found.hits.append((language, layer, "without_english", task.query_ids(rows), values[language].tolist()))
    lines = [f"{one}\t{other}\t{accuracy:.4f}" for (one, other), accuracy in sorted(accuracies.items())]
    found.files["pairs.tsv"] = "\n".join([f"# who asks, who is asked, accuracy at layer {layer}", *lines]) + "\n"
    found.notes.append(
        f"{metric}: each language with each of the {len(examples) - 1} others, both asking and asked; its mean is "
        f"that of all {len(accuracies)} ordered pairs. At layer {layer} alone"
    )


def rank(
    task: Ranking, examples: Mapping[str, Any], embed: Embed, options: RetrievalArguments, headline: int | None = None
) -> Measurement:
    """Rank the candidates of all languages, one pool, for every query by cosine.

    If every language has right candidates of its own (`task.parallel`), add uncut mAP in one pool, within a language
    and across two languages, and the language bias as a measure: see `ranks.by_language`. Centring subtracts the mean
    of each language, for queries and candidates separately.
    """
    found, pools = Measurement(headline), list(examples.values())
    ids, texts = pools[0].candidate_ids, task.texts(pools[0], options.candidate_text)
    query_languages = np.repeat(list(examples), [len(pool) for pool in pools])
    candidate_languages = np.array(pools[0].candidate_languages)
    asking = prompted(embed, "query", [query for pool in pools for query in pool.queries])
    both = embed([*asking, *prompted(embed, "passage", texts)], task.name)
    for layer, vectors in both.items():
        queries, candidates = vectors[: len(query_languages)], vectors[len(query_languages) :]
        with error_context(f"{task.name}, layer {layer}"):
            for variant, left, right, csls in _variants(
                queries, candidates, options, query_languages, candidate_languages
            ):
                _, near = neighbours.knn(left, right, min(task.depth, len(right)), csls=csls)
                for language, pool in examples.items():
                    predictions = [[ids[i] for i in row] for row in near[query_languages == language].tolist()]
                    found.answer(task, layer, language, variant, predictions, pool)
                if variant == "plain" and task.parallel:
                    _compare_languages(found, layer, examples, left, right, query_languages, candidate_languages)
    found.n = {language: len(pool) for language, pool in examples.items()}
    return _finish(found, task, examples)


def _compare_languages(
    found: Measurement,
    layer: int,
    examples: Mapping[str, Any],
    queries: np.ndarray,
    candidates: np.ndarray,
    query_languages: np.ndarray,
    candidate_languages: np.ndarray,
) -> None:
    """Add the figures of `ranks.by_language` to a layer's scores and measures."""
    pools = list(examples.values())
    names, languages = np.unique(candidate_languages, return_inverse=True)
    place = {name: row for row, name in enumerate(pools[0].candidate_ids)}
    right = [[place[name] for name in gold] for pool in pools for gold in pool.gold]
    gold = np.full((len(right), max(map(len, right))), -1)
    for row, indices in enumerate(right):
        gold[row, : len(indices)] = indices
    pooled, within = ranks.gold_ranks(queries, candidates, gold, languages)
    answers, biases = np.where(gold < 0, -1, languages[gold]), []
    for language in examples:
        rows = query_languages == language
        own = names.tolist().index(language) if language in names else -1
        scores, bias = ranks.by_language(pooled[rows], within[rows], answers[rows], own)
        found.layers[layer][language] |= scores
        biases += [] if bias is None else [bias]
    if biases:
        found.measures.setdefault(layer, {})["language_bias"] = float(np.mean(biases))


def candidate_pairs(
    pools: Pools, embed: Embed, options: RetrievalArguments, what: str, found: Measurement
) -> dict[int, tuple[list[tuple[str, str]], np.ndarray]]:
    """Return {layer: (id pairs, their margin scores)}, best first.

    The foreign corpus is the source side and gets the query's prompt. With --index, add its recall to `found`; a dev
    pool that is too small to train the index on is searched exactly.

    Args:
        what: task, language and split, for notes and errors.
    """
    source, source_ids = mining.deduplicate(pools.source_ids, pools.source)
    target, target_ids = mining.deduplicate(pools.target_ids, pools.target)
    mined = {}
    both_sides = [*prompted(embed, "query", source), *prompted(embed, "passage", target)]
    for layer, both in embed(both_sides, what).items():
        exact = options.index is None or (
            what.endswith(" dev") and min(len(source), len(target)) < index_of(options).least(both.shape[1])
        )
        with (
            error_context(f"{what}, layer {layer}"),
            _unit(options, both[: len(source)], both[len(source) :]) as sides,
        ):
            if exact:
                near = neighbours.bidirectional_knn(sides[0], sides[1], NEIGHBOURS)
            else:
                near, recalls = index.bidirectional_knn(sides[0], sides[1], NEIGHBOURS, index_of(options))
                named = {f"recall@{NEIGHBOURS} {what} {direction}": share for direction, share in recalls.items()}
                found.measures[layer] = found.measures.get(layer, {}) | named
            mined[layer] = mining.id_pairs(*mining.pair(near, options.margin, options.mining), source_ids, target_ids)
    if options.index is not None and mined:
        way = (
            "exactly: too few to train the index"
            if exact
            else "with " + index_of(options).describe(len(target), both.shape[1])
        )
        found.notes.append(f"{what}: searched {way}")
    return mined


def dev_threshold(pairs: list[tuple[str, str]], values: np.ndarray, gold: set[tuple[str, str]]) -> tuple[float, float]:
    """Return (threshold, F1 on dev).

    Without a right pair they are (0, 0), as in XTREME's code, and every pair is then extracted.
    """
    hits = np.array([pair in gold for pair in pairs], dtype=bool)
    return mining.best_threshold(values, hits, len(gold)) if hits.any() else (0.0, 0.0)


def mine(
    task: Task, examples: Mapping[str, Any], embed: Embed, options: RetrievalArguments, headline: int | None = None
) -> Measurement:
    """Mine pairs as in BUCC: k = 4, ratio margin, greedy one-to-one, the threshold chosen on dev and applied to test.

    candidates/<language>.tsv lists every test candidate with its score, best first. There are no hits, because F1 is
    not a mean over queries.
    """
    found = Measurement(headline)
    for language, pools in examples.items():
        dev = candidate_pairs(pools["dev"], embed, options, f"{task.name} {language} dev", found)
        one_pool = pools["test"] == pools["dev"]  # by --splits
        if one_pool:
            found.notes.append(f"{language}: the threshold was chosen on the very pairs that are scored")
        if one_pool and options.index is None:
            test = dev
        else:
            test = candidate_pairs(pools["test"], embed, options, f"{task.name} {language} test", found)
        pool = pools["test"]
        found.n[language] = len(pool)
        for layer in test:
            threshold, dev_f1 = dev_threshold(*dev[layer], pools["dev"].gold)
            if not dev_f1:
                found.notes.append(
                    f"{language}, layer {layer}: no dev candidate is a gold pair, so the threshold is 0, as in XTREME"
                )
            predictions = mining.pairs_above(*test[layer], threshold)
            if layer == headline:
                found.files[f"candidates/{language}.tsv"] = _readable(*test[layer], threshold, pool)
            scores = task.score(predictions, pool, language) | {"dev_f1": dev_f1}
            found.add(layer, language, scores, predictions, pool)
    return _finish(found, task, {language: pools["test"] for language, pools in examples.items()})


def _readable(pairs: list[tuple[str, str]], values: np.ndarray, threshold: float, pool: Pools) -> str:
    """Return a line for each candidate, best first: score, ids and sentences, separated by tabs. White space within a
    sentence becomes a blank."""
    texts = dict(zip(pool.source_ids, pool.source, strict=True)), dict(zip(pool.target_ids, pool.target, strict=True))
    lines = []
    for pair, value in zip(pairs, values, strict=True):
        sentences = (" ".join(side[name].split()) for side, name in zip(texts, pair, strict=True))
        lines.append("\t".join([f"{value:.6f}", *pair, *sentences]))
    header = f"# score, ids, sentences; extracted on test: score >= {threshold:.6f} (best F1 on dev)"
    return "\n".join([header, *lines]) + "\n"


def measure(
    task: Task, examples: Mapping[str, Any], embed: Embed, options: RetrievalArguments, headline: int | None = None
) -> Measurement:
    """Call `mine`, `rank` or `retrieve`, as the task's form asks."""
    if task.mines:
        return mine(task, examples, embed, options, headline)
    if task.ranks:
        return rank(cast("Ranking", task), examples, embed, options, headline)  # no other form ranks
    return retrieve(cast("Tatoeba", task), examples, embed, options, headline)


def show(scores: dict[str, float]) -> str:
    """Return the scores as text: ``accuracy 12.3 f1 10.1``."""
    return " ".join(f"{name} {value:.1f}" for name, value in scores.items())
