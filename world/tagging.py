"""Tagging: parts of speech (UDPOS), names (PAN-X), and CCG supertags of English."""

import json
import random
from collections.abc import Iterator

import pyarrow as pa

from .base import DEV, INT64, STRINGS, TEST, Options, Table, TextFile, schema, table, unlike
from .language import COMMA, QUERY, STOP, TAGS, Language, Token
from .meaning import World
from .spans import askable

TRAIN = {"udpos": 2000, "panx": 2000, "ccg": 4000}

NAMES = "O B-PER I-PER B-ORG I-ORG B-LOC I-LOC".split()


def tagging_meaning(world: World, rng: random.Random) -> tuple:
    """Return (kind, first clause, second clause or the part asked for)."""
    first = world.clause(rng, details=0.6)
    kind = rng.choice(("plain", "plain", "and", "because", "then", "indeed", "question"))
    if kind == "question":
        first = first._replace(negated=False)
        return kind, first, rng.choice(askable(first))
    if kind == "plain":
        return kind, first, None
    return kind, first, world.successor(rng, first) if kind in ("because", "then") else world.clause(rng)


def tagged(language: Language, rng: random.Random, meaning: tuple) -> list[Token]:
    """Return the tagged words of one sentence."""
    kind, first, second = meaning
    if kind == "question":
        return [*language.question(rng, first, second), QUERY]
    tokens = language.clause(rng, first)
    if kind in ("then", "indeed"):
        tokens = [*tokens, COMMA, *language.link(kind), *language.clause(rng, second)]
    elif kind != "plain":
        tokens = [*tokens, *language.link(kind), *language.clause(rng, second)]
    return [*tokens, STOP]


def udpos(options: Options) -> Iterator[Table]:
    """UDPOS: words and parts of speech. English train rows; parallel dev and test rows in every language."""
    types = schema(tokens=STRINGS, pos_tags=pa.list_(INT64))
    seen: set = set()
    for split, count in {"validation": DEV, "test": TEST, "train": TRAIN["udpos"]}.items():
        rng = options.rng(f"udpos/{split}")
        meanings = unlike(seen, lambda rng=rng: tagging_meaning(options.world, rng), options.rows(count))
        for code in options.languages if split != "train" else ["en"]:
            words = options.rng(f"udpos/{split}/{code}")
            sentences = [tagged(options.languages[code], words, meaning) for meaning in meanings]
            rows = [([t.word for t in tokens], [TAGS.index(t.tag) for t in tokens]) for tokens in sentences]
            yield table(f"google__xtreme/udpos.{'English' if code == 'en' else code}/{split}", types, rows)


def named(world: World, rng: random.Random, tokens: list[Token]) -> tuple[list[str], list[int]]:
    """Return (words, name tags) of a tagged sentence.

    Some names get a second part, so that neighbours matter: people another name, companies and towns that of a town.
    """
    words, tags = [], []
    for token in tokens:
        bare = next((name for name in world.kinds_of_name if token.word.startswith(name)), None)
        kind = world.kinds_of_name.get(bare, "")
        words.append(token.word)
        tags.append(f"B-{kind}" if kind else "O")
        more = {"PER": world.people, "ORG": world.towns, "LOC": world.towns}.get(kind)
        if more and token.word == bare and rng.random() < 0.4:
            words.append(rng.choice(more))
            tags.append(f"I-{kind}")
    return words, [NAMES.index(tag) for tag in tags]


def panx(options: Options) -> Iterator[Table]:
    """PAN-X: names of people, companies and towns. English train rows; dev and test rows in every language."""
    types = schema(tokens=STRINGS, ner_tags=pa.list_(INT64), langs=STRINGS)
    seen: set = set()
    for split, count in {"validation": DEV, "test": TEST, "train": TRAIN["panx"]}.items():
        rng = options.rng(f"panx/{split}")
        meanings = unlike(seen, lambda rng=rng: tagging_meaning(options.world, rng), options.rows(count))
        for code in options.languages if split != "train" else ["en"]:
            words = options.rng(f"panx/{split}/{code}")
            rows = []
            for meaning in meanings:
                tokens, tags = named(options.world, words, tagged(options.languages[code], words, meaning))
                rows.append((tokens, tags, [code] * len(tokens)))
            yield table(f"google__xtreme/PAN-X.{code}/{split}", types, rows)


# Supertags -----------------------------------------------------------------------------------------------------

VERB_PHRASE = r"S\NP"
ADVERBIAL = rf"({VERB_PHRASE})\({VERB_PHRASE})"


def supertags(tokens: list[Token]) -> list[str]:
    """Return the CCG category of each word of an English sentence (notation: Hockenmaier and Steedman 2007)."""
    categories = []
    before_agent, helped = True, False
    for i, token in enumerate(tokens):
        if token.slot == "agent" or (token.tag == "DET" and _slot_after(tokens, i) == "agent"):
            before_agent = False
        modifier = "S/S" if before_agent else ADVERBIAL
        following = tokens[i + 1].tag if i + 1 < len(tokens) else ""
        verb = rf"(S[{'b' if helped else 'dcl'}]\NP)/NP"
        category = {
            "DET": "NP[nb]/N",
            "ADJ": "N/N",
            "NUM": "N/N",
            "NOUN": "N",
            "PROPN": "N",
            "VERB": verb,
            "PART": ADVERBIAL,
            "AUX": r"(S[dcl]\NP)/(S[b]\NP)",
            "ADP": "(S/S)/NP" if before_agent else f"({ADVERBIAL})/NP",
            "ADV": modifier,
            "CCONJ": "conj",
            "SCONJ": f"({ADVERBIAL})/S[dcl]",
            "PUNCT": token.word,
        }
        categories.append(category[token.tag])
        if token.tag in ("CCONJ", "SCONJ") or (token.tag == "PUNCT" and following):
            before_agent, helped = True, False
        helped = helped or token.tag == "AUX"
    return categories


def _slot_after(tokens: list[Token], start: int) -> str:
    return next((token.slot for token in tokens[start:] if token.slot), "")


def ccg(options: Options) -> Iterator[TextFile]:
    """CCG: English supertags in jiant's format: one sentence a line, words TAB supertags; a file numbers them."""
    rows, seen = {}, set()
    for split, count in {"validation": DEV, "test": TEST, "train": TRAIN["ccg"]}.items():
        rng = options.rng(f"ccg/{split}")

        def draw(rng: random.Random = rng) -> tuple:
            while (meaning := tagging_meaning(options.world, rng))[0] == "question":
                pass
            return meaning

        rows[split] = []
        for meaning in unlike(seen, draw, options.rows(count)):
            tokens = tagged(options.english, rng, meaning)
            rows[split].append(([t.word for t in tokens], supertags(tokens)))
    known = sorted({tag for _, tags in rows["train"] for tag in tags})
    yield TextFile("ccgbank/ccg/tags_to_id.json", json.dumps({tag: i for i, tag in enumerate(known)}, indent=1) + "\n")
    for split, sentences in rows.items():
        lines = [f"{' '.join(words)}\t{' '.join(tags)}\n" for words, tags in sentences]
        yield TextFile(f"ccgbank/ccg/{split}.tsv", "".join(lines))
