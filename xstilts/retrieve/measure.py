"""Retrieval, mining and ranking over a task's languages: vectors of one pass, scores of every layer asked for.

Rows are read and checked (`read`) before the first sentence is embedded; `measure` retrieves, ranks or mines, as the
task says; `Headline` says which layer's scores are the result.
"""

from __future__ import annotations

import io
import logging
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from tasks import languages as codes
from xstilts.errors import UserError
from xstilts.retrieve import index, mining, neighbours, nway, ranks
from xstilts.retrieve.cache import cached_embed
from xstilts.retrieve.embedding import Encoder
from xstilts.retrieve.vectors import center, normalize
from xstilts.run import inputs, results
from xstilts.run.predictions import write_lines

logger = logging.getLogger("xstilts")
NEIGHBOURS = 4  # of the margin score, as in the BUCC code of LASER and XTREME
HITS = "hits.parquet"
PROMPTS = "config_sentence_transformers.json"


@dataclass
class Found:
    """What a measurement came to: figures of every layer, and what is written of the headline layer alone."""

    headline: int | None = None
    # {layer: {language: {metric: 0-100}}}
    layers: dict[int, dict[str, dict[str, float]]] = field(default_factory=dict)
    # what is no score from 0 to 100: {layer: {name: number}}
    measures: dict[int, dict[str, float]] = field(default_factory=dict)
    hits: list[tuple[str, int, str, list[str], list[float]]] = field(default_factory=list)  # see `hits_table`
    n: dict[str, int] = field(default_factory=dict)
    chance: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    predictions: dict[str, tuple] = field(default_factory=dict)  # {language: (predictions, examples)}
    files: dict[str, str] = field(default_factory=dict)  # what else lies beside the predictions: {name: text}

    def add(self, layer: int, language: str, scores: dict[str, float], predictions: list, examples) -> None:
        self.layers.setdefault(layer, {})[language] = scores
        if layer == self.headline:
            self.predictions[language] = predictions, examples

    def answer(self, task, layer: int, language: str, variant: str, predictions: list, examples) -> None:
        """Score and keeps predictions: all figures of the plain variant, which comes first, the main one of
        another."""
        if variant == "plain":
            self.add(layer, language, task.score(predictions, examples, language), predictions, examples)
        else:
            self.layers[layer][language][f"{task.metric}_{variant}"] = task.main_score(predictions, examples, language)
        self.hits.append((language, layer, variant, task.query_ids(examples), task.hits(predictions, examples)))

    def measured(self) -> dict[str, float]:
        """The headline layer's measures, then those of every layer where there are several."""
        every = {f"layer{k}/{name}": value for k, by_name in self.measures.items() for name, value in by_name.items()}
        return self.measures.get(self.headline, {}) | (every if len(self.measures) > 1 else {})

    def write(self, folder: Path, task) -> None:
        """Write what lies beside results.json: the headline layer's predictions and candidates, every layer's
        hits."""
        for language, (predictions, examples) in self.predictions.items():
            write_lines(folder / "predictions", task, language, task.lines(predictions, examples))
        for name, text in self.files.items():
            results.write_text(folder / name, text)
        if self.hits:
            results.write_bytes(folder / HITS, self.hits_table())

    def hits_table(self) -> bytes:
        """The bytes of hits.parquet, one row for each layer, variant and query of every language.

        Columns language (string), layer (int16), variant (string: see `hits.VARIANTS`), query (string, the query's id)
        and value (float32, 0-1: hit, AP or RR, or a mean of hits). 100 times the mean value of a language, layer and
        variant is its score.
        """
        import pyarrow as pa
        import pyarrow.parquet

        schema = pa.schema(
            [
                ("language", pa.string()),
                ("layer", pa.int16()),
                ("variant", pa.string()),
                ("query", pa.string()),
                ("value", pa.float32()),
            ]
        )
        parts = [
            pa.table(
                [[language] * len(values), [layer] * len(values), [variant] * len(values), queries, values],
                schema=schema,
            )
            for language, layer, variant, queries, values in self.hits
        ]
        file = io.BytesIO()
        pa.parquet.write_table(pa.concat_tables(parts), file)
        return file.getvalue()


def embedder(encoder: Encoder, cache_dir: str | None, prompts: Mapping[str, str] | None = None) -> Callable:
    """A function (sentences, desc) -> {layer: (n, d)}, through the cache if there is one.

    Args:
        prompts: text before every "query" and every "passage", put there by `prompted`.
    """

    def embed(sentences: Sequence[str], desc: str) -> dict[int, np.ndarray]:
        if cache_dir is None:
            return encoder.embed(sentences, desc=desc)
        return cached_embed(encoder, sentences, cache_dir, desc=desc)

    embed.prompts = dict(prompts or {})
    return embed


def prompted(embed: Callable, side: str, texts: Sequence[str]) -> list[str]:
    """The texts of a side, "query" or "passage", behind the prompt that `embed` has for it."""
    prompt = getattr(embed, "prompts", {}).get(side, "")
    return [prompt + text for text in texts]


# ---- rows -----------------------------------------------------------------------------------------------------------


def read(
    task, rows, languages: Sequence[str], how, limit: int | None = None, splits: Sequence[str] = ("dev", "test")
) -> dict:
    """{language: examples} of a task, {language: {split: pools}} in mining: everything that will be embedded, checked.

    Args:
        limit: only the first so many queries a language; mining is never cut, half a pool would be another task.
        splits: of mining.

    Raises:
        UserError: a row is broken, or a pool is smaller than the neighbours asked of it.
    """
    if task.mines:
        found = {language: {split: task.load(split, language, rows) for split in splits} for language in languages}
        for language, pools in found.items():
            for split, pool in pools.items():
                for side, texts in zip(("source", "target"), task.sides(pool), strict=True):
                    if (size := len(set(texts))) < NEIGHBOURS:
                        raise UserError(
                            f"{task.name} {language}: the {split} {side} pool has {size} different sentences; a "
                            f"margin score takes {NEIGHBOURS} neighbours."
                        )
        return found
    found = {language: inputs.first(task.load("test", language, rows), limit) for language in languages}
    _check_sizes(task, found, how)
    if "pairs" in task.search_options and how.pairs == "all" and len(found) < 2:
        raise UserError(
            f"--pairs all: {task.name} has {' '.join(found)} alone; a pair without English takes two languages."
        )
    return found


def smaller_pools(task, examples: Mapping, limit: int | None) -> list[str]:
    """Notes on pools that are smaller than the benchmark's, which makes a search easier: cut off, or without some
    languages."""
    notes = []
    if (
        not task.mines
        and not task.ranks
        and (cut := [language for language, rows in examples.items() if len(rows) == limit])
    ):
        notes.append(f"{', '.join(cut)}: only the first {limit} sentences are searched (--max_eval_samples)")
    if task.ranks and task.parallel:
        spoken, reported = set(next(iter(examples.values())).candidate_languages), codes.XTREME_R[task.languages_in]
        absent = [code for code in reported if code not in spoken]
        if absent and spoken <= set(reported):
            notes.append(
                f"candidates are in {len(spoken)} languages, the benchmark's in {len(reported)}: without "
                f"{', '.join(absent)}"
            )
    return notes


def _check_sizes(task, examples: Mapping, how) -> None:
    """Raise UserError if there is nothing to search, no mean to take away, or fewer sentences than CSLS needs."""
    # each has a mean of its own
    groups = {f"{task.name} {language}: queries": len(rows) for language, rows in examples.items()}
    pools = groups  # each is searched as a whole
    if task.ranks:
        spoken = Counter(next(iter(examples.values())).candidate_languages)
        pools = {f"{task.name}: queries": sum(groups.values()), f"{task.name}: candidates": spoken.total()}
        groups = groups | {f"{task.name} {language}: candidates": size for language, size in spoken.items()}
    for flag, sizes, least in (
        ("--max_eval_samples", groups, 1),
        ("--center language", groups, 2 if how.center == "language" else 0),
        (f"--csls {how.csls}", pools, how.csls or 0),
    ):
        for what, size in sizes.items():
            if size < least:
                raise UserError(f"{flag}: {what} are {size}, at least {least} are needed.")


def check_index(task, examples: Mapping, how, dim: int) -> None:
    """Raise UserError if --index cannot be used: before anything is embedded in `dim` dimensions."""
    if how.index is None:
        return
    for language, rows in examples.items():
        sizes = [len(set(side)) for side in task.sides(rows["test"])] if task.mines else [len(rows)]
        with _told(f"{task.name} {language}"):
            _index(how).sample(min(sizes), dim)


def _index(how) -> index.Index:
    return index.Index(how.index, how.nprobe, how.index_candidates)


# ---- measuring ------------------------------------------------------------------------------------------------------


@contextmanager
def _told(what: str) -> Iterator[None]:
    """Say of which vectors an error is."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{what}: {error}") from error


def _variants(
    queries: np.ndarray, candidates: np.ndarray, how, asked: np.ndarray | None = None, spoken: np.ndarray | None = None
) -> Iterator[tuple[str, np.ndarray, np.ndarray, int | None]]:
    """(name, unit queries, unit candidates, neighbours of CSLS) of each kind of comparison: plain, and those asked
    for.

    Args:
        asked, spoken: the language of each query and of each candidate; None: one language a side.
    """
    with _unit(how, queries, candidates) as plain:
        yield "plain", *plain, None
        if how.center == "language":
            yield "centered", _centered(queries, asked), _centered(candidates, spoken), None
        if how.csls is not None:
            yield "csls", *plain, how.csls


@contextmanager
def _unit(how, *sides: np.ndarray) -> Iterator[list[np.ndarray]]:
    """Unit vectors of each side; with --index they lie on disk beside the cache, memory-mapped, until the block is
    left."""
    if how.index is None:
        yield [normalize(side) for side in sides]
        return
    with tempfile.TemporaryDirectory(dir=how.cache_dir, prefix="unit-") as folder:
        yield [normalize(side, Path(folder, f"{number}.npy")) for number, side in enumerate(sides)]


def _centered(vectors: np.ndarray, languages: np.ndarray | None) -> np.ndarray:
    """Unit vectors less the mean of their language."""
    if languages is None:
        return normalize(center(vectors))
    moved = np.empty(vectors.shape, dtype=np.float32)
    for language in np.unique(languages):
        moved[languages == language] = center(vectors[languages == language])
    return normalize(moved)


def _finish(found: Found, task, examples: Mapping) -> Found:
    """`found` with chance, the mean over languages, and a word on what the figures beside the plain one rest on.

    Where all languages of a benchmark are there, and others besides, the benchmark's own mean joins the measures.
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


def retrieve(task, examples: Mapping, embed: Callable, how, headline: int | None = None) -> Found:
    """Cosine 1-nearest neighbour, `how.query_side` asking.

    With `how.center` and `how.csls` the accuracy of centred vectors (each side minus its own mean) and of CSLS stand
    beside the plain one, never in its place. Their statistics come from the searched sentences alone.
    """
    if task.parallel:
        return _retrieve_parallel(task, examples, embed, how, headline)
    found = Found(headline)
    for language, rows in examples.items():
        names = ("passage", "query") if how.query_side == "english" else ("query", "passage")
        foreign, english = (
            prompted(embed, side, rows[column][:]) for side, column in zip(names, ("source", "target"), strict=True)
        )
        both = embed([*foreign, *english], f"{task.name} {language}")
        n = found.n[language] = len(rows)
        for layer, vectors in both.items():
            foreign, english = vectors[:n], vectors[n:]
            sides = (english, foreign) if how.query_side == "english" else (foreign, english)
            with _told(f"{task.name} {language}, layer {layer}"):
                for variant, queries, candidates, csls in _variants(*sides, how):
                    if how.index is None:
                        near = neighbours.nearest(queries, candidates, csls=csls)
                    else:
                        near, share = index.nearest(queries, candidates, _index(how))
                        found.measures.setdefault(layer, {})[f"recall@1 {language} {variant}"] = share
                    found.answer(task, layer, language, variant, near.tolist(), rows)
    return _finish(found, task, examples)


def _retrieve_parallel(task, examples: Mapping, embed: Callable, how, headline: int | None) -> Found:
    """`retrieve` of one text in many languages: each is embedded once, English too, and asks and is asked.

    `accuracy_reverse` is that of the other side asking. With `how.pairs` "all", at the headline layer alone, every
    language is also compared with every other: `accuracy_without_english`, see `nway.every_pair`, and pairs.tsv.
    """
    found, n = Found(headline), len(next(iter(examples.values())))
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
            asks, reverse = sides if how.query_side == "english" else reversed(sides)
            with _told(f"{task.name} {language}, layer {layer}"):
                for variant, left, right, csls in _variants(query[asks[0]], passage[asks[1]], how):
                    found.answer(
                        task, layer, language, variant, neighbours.nearest(left, right, csls=csls).tolist(), rows
                    )
                near = neighbours.nearest(normalize(query[reverse[0]]), normalize(passage[reverse[1]]))
                found.answer(task, layer, language, "reverse", near.tolist(), rows)
        if how.pairs == "all" and layer == headline:
            _every_pair(found, task, examples, layer, query, None if passage is query else passage)
    return _finish(found, task, examples)


def _every_pair(found: Found, task, examples: Mapping, layer: int, query: Mapping, passage: Mapping | None) -> None:
    """Add what `nway.every_pair` finds, without English, and the accuracies of all these pairs as pairs.tsv."""
    sides = [None if side is None else {code: normalize(side[code]) for code in examples} for side in (query, passage)]
    values, accuracies = nway.every_pair(*sides, desc=f"{task.name} pairs")
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


def rank(task, examples: Mapping, embed: Callable, how, headline: int | None = None) -> Found:
    """The nearest candidates of every query by cosine, among those of all languages: one pool, embedded once.

    Where every language has right candidates of its own (`task.parallel`) also uncut mAP in one pool, within a
    language and across two, and in `measures` the language bias: see `ranks.by_language`. Centred vectors have lost
    the mean of their own language, queries and candidates apart.
    """
    found, pools = Found(headline), list(examples.values())
    ids, texts = pools[0].candidate_ids, task.texts(pools[0], how.candidate_text)
    asked = np.repeat(list(examples), [len(pool) for pool in pools])
    spoken = np.array(pools[0].candidate_languages)
    asking = prompted(embed, "query", [query for pool in pools for query in pool.queries])
    both = embed([*asking, *prompted(embed, "passage", texts)], task.name)
    for layer, vectors in both.items():
        queries, candidates = vectors[: len(asked)], vectors[len(asked) :]
        with _told(f"{task.name}, layer {layer}"):
            for variant, left, right, csls in _variants(queries, candidates, how, asked, spoken):
                _, near = neighbours.knn(left, right, min(task.depth, len(right)), csls=csls)
                for language, pool in examples.items():
                    predictions = [[ids[i] for i in row] for row in near[asked == language].tolist()]
                    found.answer(task, layer, language, variant, predictions, pool)
                if variant == "plain" and task.parallel:
                    _compare_languages(found, layer, examples, left, right, asked, spoken)
    found.n = {language: len(pool) for language, pool in examples.items()}
    return _finish(found, task, examples)


def _compare_languages(found: Found, layer: int, examples: Mapping, queries, candidates, asked, spoken) -> None:
    """Add the figures of `ranks.by_language` to a layer's scores and measures."""
    pools = list(examples.values())
    names, languages = np.unique(spoken, return_inverse=True)
    place = {name: row for row, name in enumerate(pools[0].candidate_ids)}
    right = [[place[name] for name in gold] for pool in pools for gold in pool.gold]
    gold = np.full((len(right), max(map(len, right))), -1)
    for row, indices in enumerate(right):
        gold[row, : len(indices)] = indices
    pooled, within = ranks.gold_ranks(queries, candidates, gold, languages)
    answers, biases = np.where(gold < 0, -1, languages[gold]), []
    for language in examples:
        rows = asked == language
        own = names.tolist().index(language) if language in names else -1
        scores, bias = ranks.by_language(pooled[rows], within[rows], answers[rows], own)
        found.layers[layer][language] |= scores
        biases += [] if bias is None else [bias]
    if biases:
        found.measures.setdefault(layer, {})["language_bias"] = float(np.mean(biases))


def _candidates(
    task, pools, embed: Callable, how, what: str, found: Found
) -> dict[int, tuple[list[tuple[str, str]], np.ndarray]]:
    """{layer: (id pairs, their margin scores)}, best first; the foreign corpus is the source side, and has the query's
    prompt.

    With --index its recall goes into `found`. A dev pool, often far smaller than the test pool, is searched exactly
    where the index could not be trained on it.
    """
    source, source_ids = mining.deduplicate(pools.source_ids, pools.source)
    target, target_ids = mining.deduplicate(pools.target_ids, pools.target)
    mined = {}
    both_sides = [*prompted(embed, "query", source), *prompted(embed, "passage", target)]
    for layer, both in embed(both_sides, what).items():
        exact = how.index is None or (
            what.endswith(" dev") and min(len(source), len(target)) < _index(how).least(both.shape[1])
        )
        with _told(f"{what}, layer {layer}"), _unit(how, both[: len(source)], both[len(source) :]) as sides:
            if exact:
                near = neighbours.bidirectional_knn(*sides, NEIGHBOURS)
            else:
                near, recalls = index.bidirectional_knn(*sides, NEIGHBOURS, _index(how))
                named = {f"recall@{NEIGHBOURS} {what} {direction}": share for direction, share in recalls.items()}
                found.measures[layer] = found.measures.get(layer, {}) | named
            mined[layer] = mining.id_pairs(*mining.pair(near, how.margin, how.mining), source_ids, target_ids)
    if how.index is not None and mined:
        way = (
            "exactly: too few to train the index"
            if exact
            else "with " + _index(how).describe(len(target), both.shape[1])
        )
        found.notes.append(f"{what}: searched {way}")
    return mined


def _threshold(pairs: list[tuple[str, str]], values: np.ndarray, gold: set[tuple[str, str]]) -> tuple[float, float]:
    """(threshold, F1 on dev); (0, 0) where nothing is right, as XTREME's code starts from 0: every pair is then
    extracted."""
    hits = np.array([pair in gold for pair in pairs], dtype=bool)
    return mining.best_threshold(values, hits, len(gold)) if hits.any() else (0.0, 0.0)


def mine(task, examples: Mapping, embed: Callable, how, headline: int | None = None) -> Found:
    """Margin-based mining as in BUCC: k = 4, ratio margin, greedy one-to-one, the threshold of dev applied to test.

    Every test candidate is kept with its score, best first, to be read: candidates/<language>.tsv. F1 is no mean over
    queries, so there are no hits.
    """
    found = Found(headline)
    for language, pools in examples.items():
        dev, test = (
            _candidates(task, pools[split], embed, how, f"{task.name} {language} {split}", found)
            for split in ("dev", "test")
        )
        pool = pools["test"]
        found.n[language] = len(pool)
        texts = dict(zip([*pool.source_ids, *pool.target_ids], [*pool.source, *pool.target], strict=True))
        for layer in test:
            threshold, dev_f1 = _threshold(*dev[layer], pools["dev"].gold)
            if not dev_f1:
                found.notes.append(
                    f"{language}, layer {layer}: no dev candidate is a gold pair, so the threshold is 0, as in XTREME"
                )
            predictions = mining.pairs_above(*test[layer], threshold)
            if layer == headline:
                found.files[f"candidates/{language}.tsv"] = _readable(*test[layer], threshold, texts)
            scores = task.score(predictions, pool, language) | {"dev_f1": dev_f1}
            found.add(layer, language, scores, predictions, pool)
    return _finish(found, task, {language: pools["test"] for language, pools in examples.items()})


def _readable(pairs: list[tuple[str, str]], values: np.ndarray, threshold: float, texts: Mapping[str, str]) -> str:
    """Every candidate, best first: score, ids and sentences, tabs between them."""
    lines = [f"{value:.6f}\t{a}\t{b}\t{texts[a]}\t{texts[b]}" for (a, b), value in zip(pairs, values, strict=True)]
    header = f"# score, ids, sentences; extracted on test: score >= {threshold:.6f} (best F1 on dev)"
    return "\n".join([header, *lines]) + "\n"


def measure(task, examples: Mapping, embed: Callable, how, headline: int | None = None) -> Found:
    """`mine`, `rank` or `retrieve`, as the task's form asks for."""
    return (mine if task.mines else rank if task.ranks else retrieve)(task, examples, embed, how, headline)


# ---- the headline layer ---------------------------------------------------------------------------------------------


def best_layer(layers: Mapping, languages: Sequence[str], metric: str) -> tuple[int, float]:
    """(the layer with the best mean of `metric` over `languages`, that mean); of equal ones the lowest layer.

    Args:
        layers: {layer: {language: {metric: score}}}, as in results.json.

    Raises:
        UserError: no layers, no language, or one without that figure.
    """
    if not layers or not languages:
        raise UserError(
            "a layer cannot be chosen: there are no scores by layer (--layer all), or no language is named."
        )
    try:
        means = {
            int(layer): float(np.mean([scores[language][metric] for language in languages]))
            for layer, scores in layers.items()
        }
    except KeyError as error:
        raise UserError(
            f"a layer cannot be chosen on {metric} of {', '.join(languages)}: {error} is not there."
        ) from error
    return min(means.items(), key=lambda item: (-item[1], item[0]))


class Headline:
    """Which layer's scores are the result: `--report_layer`, the last, or by `--select_on` the best one on languages
    of a retrieval task, or on a mining task's dev split. Languages chosen on are reported in no task.

    Attributes:
        notes: on what the layer was chosen, for results.json.
        records: the rows it was chosen on.

    Raises:
        UserError: no such layer; --select_on is of another form, or names no such task or language; its rows are
            absent or broken.
    """

    def __init__(self, how, data_args, layers: Sequence[int]):
        self.how, self.layer, self.notes, self.records, self.held_out = how, how.report_layer, [], [], []
        if self.layer is None:
            self.layer = layers[-1]
        if self.layer not in layers:
            raise UserError(f"--report_layer {self.layer}: the model has layers {layers[0]} to {layers[-1]}.")
        if how.select_on is None:
            return
        self.task, words = inputs.selection(how.select_on, data_args.benchmark)
        self.mined, rows = self.task.mines, inputs.open_rows(data_args)
        languages = inputs.choose_languages(self.task, rows, words, "--select_on")
        self.held_out = [] if self.mined else languages
        self.how = replace(how, center="none", csls=None, pairs="english")
        self.examples = read(self.task, rows, languages, self.how, data_args.max_eval_samples, ("dev",))
        self.records = rows.records

    def reported(self, task, rows, wanted: list[str]) -> tuple[list[str], list[str]]:
        """(the task's languages less those the layer is chosen on, a note if that leaves any out).

        Raises:
            UserError: one of them was asked for, or is the benchmark's, or no other is there.
        """
        languages = inputs.choose_languages(task, rows, wanted)
        both = [language for language in languages if language in self.held_out]
        kept = [language for language in languages if language not in both]
        if both and (wanted or not rows.local or not kept):
            raise UserError(
                f"--select_on {self.how.select_on}: {', '.join(both)} would be reported too ({task.name}). Choose the "
                "layer on languages that are not, or name with --languages those to report."
            )
        return kept, [f"{', '.join(both)} left out: the layer was chosen on it"] if both else []

    def choose(self, embed: Callable) -> int:
        """The layer; where it is to be chosen, the rows it is chosen on are embedded first."""
        if self.how.select_on is None:
            return self.layer
        task, curve, languages = self.task, {}, list(self.examples)
        if self.mined:
            for language, pools in self.examples.items():
                for layer, mined in _candidates(
                    task, pools["dev"], embed, self.how, f"{task.name} {language} dev", Found()
                ).items():
                    curve.setdefault(layer, {})[language] = {task.metric: _threshold(*mined, pools["dev"].gold)[1]}
        else:
            curve = retrieve(task, self.examples, embed, self.how).layers
        self.layer, mean = best_layer(curve, languages, task.metric)
        self.notes.append(
            f"layer {self.layer} chosen on {task.name} {' '.join(languages)}{' dev' * self.mined}: mean {task.metric} "
            f"{mean:.2f}, the best of all layers"
        )
        logger.info(self.notes[-1])
        return self.layer


def show(scores: dict[str, float]) -> str:
    """``accuracy 12.3 f1 10.1``."""
    return " ".join(f"{name} {value:.1f}" for name, value in scores.items())
