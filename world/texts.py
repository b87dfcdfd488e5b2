"""Monolingual text for masked language modelling."""

import random
from collections.abc import Iterator

from .base import Options, Table, schema, table
from .language import QUERY, STOP, Language, text
from .meaning import Clause, World
from .spans import answers, askable

DOCUMENTS = 24_000  # of each language


def document(world: World, language: Language, rng: random.Random) -> tuple[str, tuple[Clause, ...]]:
    """Return (text, its clauses): a story, a restatement, a denial, a question and answer, or two kinds of news."""
    first = world.clause(rng)
    positive = first._replace(negated=False)
    kind = rng.random()
    if kind < 0.35:  # what happens next, as two sentences or one
        second = world.successor(rng, first, details=0.3, negated=0.0)
        clauses = (first, second) if rng.random() < 0.7 else (second, first)
        between = [STOP, *language.link("then")] if clauses[0] is first else language.link("because")
    elif kind < 0.55:  # repeated in other words
        clauses = (positive, world.less_told(rng, positive))
        between = [STOP, *language.link("indeed")]
    elif kind < 0.63:  # negated, or the opposite
        clauses = (positive, deny(world, rng, world.less_told(rng, positive)))
        between = [STOP, *language.link("however")]
    elif kind < 0.73:  # question and answer
        slot = rng.choice(askable(positive))
        statement = language.clause(rng, positive)
        answer = [token for token in statement if answers(token, slot)]
        return text([*statement, STOP, *language.question(rng, positive, slot), QUERY, *answer, STOP]), (positive,)
    else:  # about the same agent, or something else
        clauses = (first, world.clause(rng, first.agent if rng.random() < 0.5 else None))
        between = language.link("and") if rng.random() < 0.3 else [STOP]
    first_words, second_words = (language.clause(rng, clause) for clause in clauses)
    return text([*first_words, *between, *second_words, STOP]), clauses


def deny(world: World, rng: random.Random, clause: Clause) -> Clause:
    """Return a clause that contradicts a positive one: its negation, or the opposite verb if there is one."""
    opposite = world.verb_opposite.get(clause.verb)
    if opposite and rng.random() < 0.5:
        return clause._replace(verb=opposite)
    return clause._replace(negated=True)


def wikipedia(options: Options) -> Iterator[Table]:
    """Yield the documents of each language, drawn independently: languages share a document only by chance."""
    types = schema(strings="id url title text")
    for code, language in options.languages.items():
        rng = options.rng(f"wikipedia/{code}")
        texts: list[str] = []
        while len(texts) < options.rows(DOCUMENTS):
            words, clauses = document(options.world, language, rng)
            if options.held_out.isdisjoint(clauses):
                texts.append(words)
                options.in_text.update(clauses)
        rows = ((str(i), f"https://{code}.example.org/{i}", f"{code} {i}", words) for i, words in enumerate(texts))
        yield table(f"wikimedia__wikipedia/20231101.{code}/train", types, rows)
