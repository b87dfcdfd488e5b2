"""Retrieval: Tatoeba, BUCC, entity linking as in Mewsli-X, and bilingual lexicons."""

import random
from collections.abc import Iterator

import pyarrow as pa

from .base import INT64, STRING, Options, Table, schema, sentence, table
from .meaning import Clause, Phrase

TATOEBA_PAIRS = 500
BUCC_SENTENCES, BUCC_PAIRS = 1000, 150
ENTITIES, MENTIONS, MENTION_PAIRS = 300, 150, 2000


def held_out_clauses(options: Options, rng: random.Random, seen_english: set[str], count: int) -> list[tuple]:
    """Return (clause, its English sentence). All English sentences differ, and no text contains the clauses."""
    rows: list[tuple[Clause, str]] = []
    while len(rows) < count:
        clause = options.world.clause(rng, details=0.7)
        if clause in options.held_out or clause in options.in_text:
            continue
        english = sentence(options.english, rng, clause)
        if english not in seen_english:
            seen_english.add(english)
            options.held_out.add(clause)
            rows.append((clause, english))
    return rows


def tatoeba(options: Options) -> Iterator[Table]:
    """Tatoeba: row i is translated by row i; each language has other sentences."""
    types = schema(strings="sentence1 sentence2 lang")
    for code in options.codes:
        rng = options.rng(f"tatoeba/{code}")
        language = options.languages[code]
        clauses = held_out_clauses(options, rng, set(), options.rows(TATOEBA_PAIRS))
        rows = [(sentence(language, rng, clause), english, f"{code}-eng") for clause, english in clauses]
        yield table(f"mteb__tatoeba-bitext-mining/{code}-eng/test", types, rows)


def bucc(options: Options) -> Iterator[Table]:
    """BUCC: two comparable corpora for each language and split, with a few hidden pairs."""
    corpus, gold = schema(strings="id text"), schema(strings="source_id target_id")
    for code in options.codes:
        rng = options.rng(f"bucc/{code}")
        language = options.languages[code]
        seen_english: set[str] = set()
        for split in ("validation", "test"):
            pairs = options.rows(BUCC_PAIRS)
            size = max(options.rows(BUCC_SENTENCES), 2 * pairs)
            clauses = held_out_clauses(options, rng, seen_english, 2 * size - pairs)
            # The first `pairs` clauses are on both sides, the others on one.
            source = [(i, sentence(language, rng, clause)) for i, (clause, _) in enumerate(clauses[:size])]
            target = [(i, english) for i, (_, english) in enumerate(clauses[:pairs] + clauses[size:])]
            ids = {}
            for side, name, rows in ((code, "source", source), ("en", "target", target)):
                rng.shuffle(rows)
                numbered = [(f"{side}-{n:09d}", words) for n, (_, words) in enumerate(rows, 1)]
                ids[name] = {i: row_id for (i, _), (row_id, _) in zip(rows, numbered, strict=True)}
                yield table(f"bucc2018__{code}-en/{name}/{split}", corpus, numbered)
            links = [(ids["source"][i], ids["target"][i]) for i in range(pairs)]
            rng.shuffle(links)
            yield table(f"bucc2018__{code}-en/gold/{split}", gold, links)


def lexicons(options: Options) -> Iterator[Table]:
    """English words and their translations, one pair a row; equal words are included, as in MUSE."""
    types = schema(strings="source target")
    for code in options.codes:
        forms = options.languages[code].forms
        rows = [
            (english, foreign)
            for concept, words in options.english.forms.items()
            for english in words
            for foreign in forms[concept]
        ]
        yield table(f"bilingual-lexicons__world/en-{code}/train", types, rows)


# Entities ------------------------------------------------------------------------------------------------------

SPAN = pa.struct([("start", INT64), ("end", INT64)])
TEXT_SPAN = pa.struct([("start", INT64), ("end", INT64), ("text", STRING)])
CONTEXT = pa.struct(
    [(name, STRING) for name in ("document_title", "document_url", "document_id", "language", "text", "section_title")]
    + [("sentence_spans", pa.list_(SPAN))]
)
MENTION = pa.struct([("example_id", STRING), ("mention_span", TEXT_SPAN), ("entity_id", STRING)])
ENTITY = schema(
    a="entity_id title description", sentence_spans=pa.list_(SPAN), b="description_language description_url"
)


def mewsli_x(options: Options) -> Iterator[Table]:
    """Mewsli-X: entities are people who share names; the town and the trade in the text identify them.

    Each entity is described in one language, in turn. Mentions are in every language, training pairs in English.
    """
    world, rng = options.world, options.rng("mewsli-x")
    codes = list(options.languages)
    trades = [noun for noun, kind in world.class_of.items() if kind == "person" and world.hypernym(noun)]
    triples = [(name, trade, town) for name in world.people for trade in trades for town in world.towns]
    entities = rng.sample(triples, min(len(triples), options.rows(ENTITIES)))
    described = [_entity(options, rng, i, triple, codes[i % len(codes)]) for i, triple in enumerate(entities)]
    columns = [tuple(entity[name] for name in ENTITY.names) for entity in described]
    yield table("izhx__mewsli-x/candidate_entities/test", ENTITY, columns)
    types = pa.schema([("context", CONTEXT), ("mentions", pa.list_(MENTION))])
    for split in ("validation", "test"):
        for code in codes:
            words = options.rng(f"mewsli-x/{code}/{split}")
            rows = []
            for n in range(options.rows(MENTIONS)):
                i = words.randrange(len(entities))
                context, mention = _mention(options, words, code, entities[i], f"{code}-{split}-{n}", f"Q{i + 1}")
                rows.append((context, [mention]))
            yield table(f"izhx__mewsli-x/{code}/{split}", types, rows)
    pair = pa.schema(
        [
            ("contextual_mention", pa.struct([("context", CONTEXT), ("mention", MENTION)])),
            ("entity", pa.struct(list(ENTITY))),
        ]
    )
    for split, count in {"train": MENTION_PAIRS, "validation": MENTIONS}.items():
        words = options.rng(f"mewsli-x/pairs/{split}")
        rows = []
        for n in range(options.rows(count)):
            i = words.randrange(len(entities))
            context, mention = _mention(options, words, "en", entities[i], f"pairs-{split}-{n}", f"Q{i + 1}")
            entity = _entity(options, words, i, entities[i], "en")
            rows.append(({"context": context, "mention": mention}, entity))
        yield table(f"izhx__mewsli-x/wikipedia_pairs/{split}", pair, rows)


def _entity(options: Options, rng: random.Random, i: int, triple: tuple[str, str, str], code: str) -> dict:
    """Return a description: what this person, for example a teacher, did in their town."""
    about, spans = _sentences_about(options, rng, code, triple, first=Phrase(triple[1]))
    return {
        "entity_id": f"Q{i + 1}",
        "title": triple[0],
        "description": f"{triple[0]}: {about}",
        "sentence_spans": _shifted(spans, len(triple[0]) + 2),
        "description_language": code,
        "description_url": f"https://{code}.example.org/Q{i + 1}",
    }


def _mention(
    options: Options, rng: random.Random, code: str, triple: tuple[str, str, str], example: str, entity: str
) -> tuple[dict, dict]:
    about, spans = _sentences_about(options, rng, code, triple, first=Phrase(triple[0]), second=Phrase(triple[1]))
    start = about.index(triple[0])
    span = {"start": start, "end": start + len(triple[0]), "text": triple[0]}
    context = {
        "document_title": example,
        "document_url": f"https://{code}.example.org/{example}",
        "document_id": example,
        "language": code,
        "text": about,
        "section_title": "",
        "sentence_spans": spans,
    }
    return context, {"example_id": example, "mention_span": span, "entity_id": entity}


def _sentences_about(
    options: Options,
    rng: random.Random,
    code: str,
    triple: tuple[str, str, str],
    first: Phrase,
    second: Phrase | None = None,
) -> tuple[str, list[dict[str, int]]]:
    """Return (one or two sentences, their spans): the first agent acts in the town, the second anywhere."""
    language, world = options.languages[code], options.world
    clauses = []
    for agent, place in ((first, triple[2]), (second, None)):
        if agent:
            verb = world.verb_of[agent.noun].draw(rng)
            clauses.append(world.clause(rng, agent, verb, None, details=0.2, negated=0.0))
            clauses[-1] = clauses[-1]._replace(place=place)
    sentences = [sentence(language, rng, clause) for clause in clauses]
    starts = [sum(len(s) + 1 for s in sentences[:i]) for i in range(len(sentences))]
    spans = [{"start": start, "end": start + len(s)} for start, s in zip(starts, sentences, strict=True)]
    return " ".join(sentences), spans


def _shifted(spans: list[dict], by: int) -> list[dict]:
    return [{"start": 0 if not span["start"] else span["start"] + by, "end": span["end"] + by} for span in spans]
