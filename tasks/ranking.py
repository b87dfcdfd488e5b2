"""Ranking: find the right candidates of each query, best first. Rows, gold and scores; no model."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Container, Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from tasks import languages as codes
from tasks.base import Task
from tasks.checks import at_row, check_ids, check_placeholder, check_text, describe, whole_number
from tasks.errors import MissingColumn, RowError, UserError, reading
from tasks.overlap import Use
from tasks.question_answering import SQUAD_DEV
from tasks.rows import Loaded, Read
from tasks.sentences import with_paragraph
from tasks.source import Source
from tasks.submitted import compute, read_entries

if TYPE_CHECKING:
    from pathlib import Path

    from tasks.rows import Rows
    from tasks.submitted import Scorer, Submitted

K = 20  # XTREME-R scores the first twenty


@dataclass(frozen=True)
class Pool:
    """The queries of one language and the candidates of all languages. `gold` has each query's right ids.

    The candidates, and their order, are the same for every language of a task. `contexts` has a candidate's paragraph
    (LAReQA) or title (Mewsli-X), `candidate_languages` its language.
    """

    query_ids: list[str]
    queries: list[str]
    gold: list[list[str]]
    candidate_ids: list[str]
    candidates: list[str]
    contexts: list[str]
    candidate_languages: list[str]

    def __len__(self) -> int:
        return len(self.queries)

    def select(self, rows: Iterable[int]) -> Pool:
        """Return the pool with only these queries."""
        rows = list(rows)
        kept = {name: [getattr(self, name)[row] for row in rows] for name in ("query_ids", "queries", "gold")}
        return replace(self, **kept)


class Ranking(Task):
    """A prediction is a list of candidate ids, best first."""

    form = "ranking"
    ranks = True
    search_options: ClassVar[tuple[str, ...]] = ("center", "csls")
    official_metrics = (f"map@{K}",)
    depth = K  # the number of candidates to search and write per query

    def texts(self, pool: Pool, kind: str) -> list[str]:
        """Return the text to embed for each candidate. `kind` (--candidate_text) matters only for LAReQA."""
        return pool.candidates

    def gold(self, examples: Pool) -> list:
        return examples.gold

    def score(self, predictions: list[list[str]], examples: Pool, language: str) -> dict[str, float]:
        from tasks.metrics import compute

        return compute("mean_average_precision", predictions=predictions, references=examples.gold, k=K)

    def hits(self, predictions: list[list[str]], examples: Pool) -> list[float]:
        """Return AP@20 of each query, 0-1. With one right candidate it is the reciprocal rank."""
        from tasks.metrics.mean_average_precision import per_query

        return [per_query(ranked, gold, K)[0] for ranked, gold in zip(predictions, examples.gold, strict=True)]

    def query_ids(self, examples: Pool) -> list[str]:
        return examples.query_ids

    def chance(self, examples: Pool, language: str = "en") -> dict[str, float]:
        """Expected score of a random order of n candidates, m of them right.

        Rank r is right with probability m / n. Given that, each of the r - 1 ranks above it is right with probability
        (m - 1) / (n - 1).
        """
        n = len(examples.candidates)

        def expected(m: int) -> float:
            ranks = range(1, min(K, n) + 1)
            return sum(m / n * (1 + (r - 1) * (m - 1) / max(n - 1, 1)) / r for r in ranks) / min(m, K)

        sizes = [len(set(gold)) for gold in examples.gold]
        return {f"map@{K}": 100 * sum(map(expected, sizes)) / len(sizes)}

    def predictions_file(self, language: str) -> str:
        return f"{self.name}/test-{language}.json"

    def lines(self, predictions: list[list[str]], examples: Pool) -> list[str]:
        """The submission: one JSON object, query id -> candidate ids."""
        known = set(examples.candidate_ids)
        if unknown := next((i for ids in predictions for i in ids if i not in known), None):
            raise UserError(f"{self.name}: {unknown!r} is not the id of a candidate.")
        return [json.dumps(dict(zip(examples.query_ids, predictions, strict=True)), ensure_ascii=False)]

    def read_lines(self, path: Path) -> dict[str, list[str]]:
        return read_entries(
            path, lambda ids: isinstance(ids, list) and all(isinstance(i, str) for i in ids), "a list of ids"
        )

    def compare(self, files: Submitted) -> Scorer:
        found, gold = files.read(self.read_lines)
        files.check_ids(found, gold)
        for row, (key, ids) in enumerate(gold.items(), 1):
            if not ids or not all(ids):
                raise UserError(f"{files.labels}: entry {row}, id {key!r}, has no gold id. Give the gold labels.")
        ranked, right = [found.get(key, []) for key in gold], [[i.strip() for i in ids] for ids in gold.values()]
        return lambda: {
            f"map@{K}": compute("mean_average_precision", predictions=ranked, references=right, k=K)[f"map@{K}"]
        }

    def sides(self, examples: Pool) -> tuple[list[str], list[str]]:
        return examples.queries, examples.candidates


# the read, {question id: question}, {question id: gold candidate ids}, [(candidate id, sentence, paragraph)]
Parsed = tuple[Read, dict[str, str], dict[str, list[str]], list[tuple[str, str, str]]]


class LAReQA(Ranking):
    """LAReQA's XQuAD-R (Roy et al. 2020): which sentences, of any language, answer the question? mAP@20.

    The candidates are all sentences of all languages. A question's gold are the sentences with its answer, one or more
    per language. The Hub's copy lacks the sentence breaks, so the authors' files on GitHub are read. The cut at 20 is
    XTREME-R's, not the LAReQA paper's.
    """

    name = "lareqa"
    title = "LAReQA"
    metric = f"map@{K}"
    languages_in = "lareqa"
    same_sentences = (*SQUAD_DEV, "google/xquad/xquad.", "google/xtreme/XQuAD.")
    parallel = True  # a question has right candidates in every language
    search_options = (*Ranking.search_options, "candidate_text")
    sources = (
        Source(
            "lareqa/xquad-r",
            "{language}",
            {"test": "test"},
            "9bc8c7fb6dd8d01d72a05a93c2cb96882b0d299c",
            files={
                "test": "https://github.com/google-research-datasets/lareqa/raw/{revision}/xquad-r/{language}.json"
            },
        ),
    )
    columns = ("context", "sentence_breaks", "qas")

    def shared_query(self, query_id: str, language: str) -> str:
        return query_id.removesuffix(f"_{language}")

    def read(self, split: str, language: str, rows: Rows) -> Loaded:
        """Return the questions of one language, whose ids end in its code, and the sentences of every language."""
        parsed = {code: self._parsed(split, code, rows) for code in dict.fromkeys([*self.languages(rows), language])}
        right: dict[str, list[str]] = {}
        for _, _, gold, _ in parsed.values():
            for question, ids in gold.items():
                right.setdefault(question, []).extend(ids)
        questions = parsed[language][1]
        sentences = [(*row, code) for code, (*_, candidates) in parsed.items() for row in candidates]
        pool = Pool(
            [f"{i}_{language}" for i in questions],
            list(questions.values()),
            [right[i] for i in questions],
            *map(list, zip(*sentences, strict=True)),
        )
        return Loaded(pool, tuple(read for read, *_ in parsed.values()))

    def texts(self, pool: Pool, kind: str) -> list[str]:
        """Return the sentences; with their paragraphs if `kind` is not "sentence"."""
        if kind == "sentence":
            return pool.candidates
        return [with_paragraph(text, context) for text, context in zip(pool.candidates, pool.contexts, strict=True)]

    @functools.lru_cache(maxsize=64)  # noqa: B019 - every language is needed for every language's pool
    def _parsed(self, split: str, language: str, rows: Rows) -> Parsed:
        """Return the questions and candidates of one language."""
        source, config, expression = self.locate(split, language, rows)
        url = source.files["test"].format(revision=source.revision, language=language)
        # in GitHub's files paragraphs are nested in articles; in a folder a row is a paragraph
        columns = self.columns if rows.local else ("paragraphs",)
        try:
            read = rows.read(
                source.id, config, expression, source.revision, columns, url, use=Use(self.name, split, language)
            )
        except MissingColumn as error:
            raise UserError(
                f"{error} (google-research-datasets/xquad_r on the Hub lacks the sentence breaks. Use "
                "github.com/google-research-datasets/lareqa.)"
            ) from error
        with reading(self.name, read.where):
            return read, *self._parse(read, language, "row" if rows.local else "paragraph")

    @staticmethod
    def _parse(read: Read, language: str, what: str) -> tuple[dict, dict, list]:
        nested = "paragraphs" in read.data.column_names
        paragraphs = [p for row in read.data for p in row["paragraphs"]] if nested else read.data
        questions: dict[str, str] = {}
        gold: dict[str, list[str]] = {}
        sentences: list[tuple[str, str, str]] = []
        unplaced = 0
        for number, paragraph in enumerate(paragraphs, 1):
            with at_row(number, paragraph, what):
                context = paragraph["context"]
                places = _sentence_places(context, paragraph["sentence_breaks"])
                texts = [context[start:end] for start, end in places]
                ids = [f"{language}_{number}_{i}" for i in range(len(places))]
                sentences += zip(ids, texts, [context] * len(ids), strict=True)
                for question in paragraph["qas"]:
                    name, at = _answer_start(question, context, questions)
                    answer = next(
                        (text for text, (start, end) in zip(texts, places, strict=True) if start <= at < end), None
                    )
                    if answer is None:
                        unplaced += 1  # a wrong sentence break; XTREME-R also leaves such questions out
                        continue
                    questions[name] = question["question"]
                    gold[name] = [i for i, text in zip(ids, texts, strict=True) if text == answer]
        if not questions:
            raise UserError(f"{read.where}: no answer of a question starts in a sentence.")
        if unplaced:
            read.note(f"{unplaced} questions left out: their answer begins in no sentence")
        return questions, gold, sentences


def _sentence_places(context: str, breaks: list) -> list[tuple[int, int]]:
    """The (start, end) of each sentence of a paragraph. Raise RowError if one is out of range or overlaps another."""
    if not isinstance(context, str):
        raise RowError(f"column 'context': {describe(context)}, expected text.")
    what = "column 'sentence_breaks': a place"
    places = [(whole_number(start, what), whole_number(end, what)) for start, end in breaks]
    before = 0
    for start, end in places:
        if not before <= start < end <= len(context):
            raise RowError(
                f"column 'sentence_breaks': a sentence from {start} to {end}; expected ascending places from "
                f"{before} to {len(context)}."
            )
        if not context[start:end].strip():
            raise RowError(f"column 'sentence_breaks': from {start} to {end} the context is only white space.")
        before = end
    return places


def _answer_start(question: dict, context: str, known: Container[str]) -> tuple[str, int]:
    """The (id, start of the first answer) of a question.

    Raises:
        RowError: the id is in `known`, there is no answer, or the answer is not at its start.
    """
    name, answers = question["id"], question["answers"]
    if not isinstance(name, str) or not isinstance(question["question"], str):
        raise RowError(
            f"column 'qas': the id is {describe(name)}, the question {describe(question['question'])}; expected text."
        )
    if not question["question"].strip():
        raise RowError(f"column 'qas': expected a question, found only white space for the id {name!r}.")
    if name in known:
        raise RowError(f"column 'qas': the question id {name!r} appears twice.")
    if not answers or not answers[0]["text"]:
        raise RowError(f"column 'qas': {name!r} has no answer (a stripped test file?). This split cannot be scored.")
    text, at = answers[0]["text"], whole_number(answers[0]["answer_start"], f"column 'qas': answer_start of {name!r}")
    if at < 0 or context[at : at + len(text)] != text:
        raise RowError(
            f"column 'qas': the answer of {name!r}, {text[:60]!r}, is not at character {at} of the context."
        )
    return name, at


class MewsliX(Ranking):
    """Mewsli-X (Ruder et al. 2021): which entity, described in any of fifty languages, is the mention in the text?

    One entity is right, so XTREME-R's "mAP@20" is the mean reciprocal rank within the first 20, and is called mrr@20
    here. A context has one or more mentions. The query is the mention, then its sentence with the mention in braces.
    """

    name = "mewslix"
    title = "Mewsli-X"
    metric = f"mrr@{K}"
    languages_in = "mewslix"
    columns = ("context", "mentions")
    sources = (Source("izhx/mewsli-x", "{language}", {"dev": "validation", "test": "test"}),)

    def read(self, split: str, language: str, rows: Rows) -> Loaded:
        source, config, expression = self.locate(split, language, rows)
        use = Use(self.name, split, language)
        read = rows.read(source.id, config, expression, source.revision, self.columns, use=use)
        ids, queries, gold = [], [], []
        described, *candidates, known = self._candidates(rows)
        with reading(self.name, read.where):
            for row, (context, mentions) in enumerate(
                zip(read.data["context"][:], read.data["mentions"][:], strict=True), 1
            ):
                with at_row(row, {"context": context, "mentions": mentions}):
                    for mention in mentions:
                        name, entity = mention["example_id"], mention["entity_id"]
                        if not isinstance(name, str):
                            raise RowError(f"column 'mentions': example_id is {describe(name)}, expected text.")
                        if entity not in known:
                            what = (
                                f"the entity {entity!r}, which is not a candidate"
                                if entity
                                else "no entity_id (stripped gold)"
                            )
                            raise RowError(f"column 'mentions': {name!r} has {what}. This split cannot be scored.")
                        ids.append(name)
                        queries.append(marked_query(context, mention["mention_span"]))
                        gold.append([entity])
        if not queries:
            raise UserError(f"{read.where}: no row has a mention.")
        check_ids(ids, read.where, "example_id of mentions")
        check_placeholder([right[0] for right in gold], read.where)
        return Loaded(Pool(ids, queries, gold, *candidates), (described, read))

    @functools.lru_cache(maxsize=2)  # noqa: B019 - a million entities, the same for every language
    def _candidates(self, rows: Rows) -> tuple[Any, ...]:
        """Return (the read, ids, descriptions, titles, languages, the ids as a set) of the candidates."""
        source, columns = self.sources[0], ("entity_id", "description", "title", "description_language")
        read = rows.read(source.id, "candidate_entities", "test", source.revision, columns)
        check_text(read.data, columns, read.where)
        values = [read.data[column][:] for column in columns]
        if blank := sum(not text.strip() for text in values[1]):
            read.note(f"blank descriptions of candidates: {blank}")  # a million rows that are not the user's to mend
        check_ids(values[0], read.where, "entity_id")
        return read, *values, frozenset(values[0])

    def languages(self, rows: Rows) -> list[str]:
        return [
            code for code in super().languages(rows) if code in codes.XTREME_R["mewslix"] or codes.is_private_use(code)
        ]

    def score(self, predictions: list[list[str]], examples: Pool, language: str) -> dict[str, float]:
        return {self.metric: super().score(predictions, examples, language)[self.metric]}

    def chance(self, examples: Pool, language: str = "en") -> dict[str, float]:
        return {f"mrr@{K}": super().chance(examples)[f"map@{K}"]}


def marked_query(context: dict, span: dict) -> str:
    """``mention: left { mention } right``, from the mention's sentence, as in XTREME-R's preprocessing."""
    text, start, end = (
        context["text"],
        whole_number(span["start"], "a mention's start"),
        whole_number(span["end"], "a mention's end"),
    )
    if not span["text"].strip():
        raise RowError("column 'mentions': expected the text of a mention, found only white space.")
    if start < 0 or text[start:end] != span["text"]:
        raise RowError(f"column 'mentions': {span['text']!r} is not at character {start} of the context.")
    sentences = context.get("sentence_spans") or [{"start": 0, "end": len(text)}]
    first, last = next(
        ((s["start"], s["end"]) for s in sentences if s["start"] <= start and end <= s["end"]), (0, len(text))
    )
    # braces mark the mention, so braces in the text become parentheses
    left, right = (re.sub(r"\{(.*?)\}", r"(\1)", part) for part in (text[first:start], text[end:last]))
    query = f"{span['text']}: {left} {{ {span['text']} }} {right}"
    return " ".join(query.split())
