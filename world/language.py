"""Languages: a typology, a lexicon made from it, and clauses as tagged words."""

import random
from dataclasses import dataclass
from typing import NamedTuple

from . import lexicon
from .meaning import Clause, Phrase, World

FIRST_CHOICE = 0.7  # how often a concept with synonyms is expressed by its first word
TAGS = "ADJ ADP ADV AUX CCONJ DET INTJ NOUN NUM PART PRON PROPN PUNCT SCONJ SYM VERB X".split()


class Token(NamedTuple):
    """A word, its part of speech, and the part of the clause it belongs to (`agent`, `place`, ...; "" for none)."""

    word: str
    tag: str
    slot: str = ""


@dataclass(frozen=True)
class Typology:
    """How a language builds clauses. Shares are of all concepts.

    order: S agent, V verb, O patient, P place, T time, in the order of a plain clause.
    article: whether singular nouns have one. plural: whether nouns are marked after a number.
    accusative, place, tense, negation: "suffix", or a separate word "before" or "after"; "" if unmarked.
    fronted: whether the question word comes first.
    cognates: words spelled as in English, in Latin script only. loans: English words used as second synonyms.
    """

    order: str
    script: str
    adjective_first: bool
    article: bool
    plural: bool
    accusative: str
    place: str
    tense: str
    negation: str
    fronted: bool
    cognates: float
    loans: float = 0.65


ENGLISH = Typology("SVOPT", "latin", True, True, True, "", "before", "suffix", "before", True, 1.0)
INVENTED = {
    "qaa": Typology("SVOPT", "latin", False, True, True, "", "before", "suffix", "before", True, 0.2),
    "qab": Typology("TSPOV", "latin", True, False, False, "after", "after", "after", "after", False, 0.15),
    "qac": Typology("SVOPT", "cyrillic", True, False, False, "", "before", "before", "before", True, 0.0),
    "qad": Typology("SPTOV", "georgian", True, False, False, "after", "after", "suffix", "before", False, 0.0),
    "qae": Typology("VSOPT", "latin", False, True, False, "", "before", "before", "before", True, 0.1),
    "qaf": Typology("SOVPT", "greek", True, True, True, "", "after", "before", "after", False, 0.0),
    "qag": Typology("TSVOP", "latin", True, False, False, "before", "before", "after", "before", False, 0.3),
    "qah": Typology("VSOTP", "armenian", True, False, True, "suffix", "suffix", "suffix", "suffix", True, 0.0),
    "qai": Typology("TPSVO", "cyrillic", False, False, False, "", "after", "suffix", "suffix", False, 0.0),
}


class Language:
    """One language. `clause` and `question` return tokens; `text` joins tokens into written text."""

    def __init__(self, code: str, world: World, seed: int):
        self.code = code
        self.world = world
        self.typology = ENGLISH if code == "en" else INVENTED[code]
        self.english = code == "en"
        entries = {e[0]: e for e in _english_entries()}
        self.forms = entries if self.english else self._invent(entries, random.Random(f"{seed}/language/{code}"))

    def _invent(self, entries: dict[str, list[str]], rng: random.Random) -> dict[str, list[str]]:
        """Return the words of each concept, and set the affixes and particles."""
        typology = self.typology
        maker = lexicon.WordMaker(rng, {word for entry in entries.values() for word in entry})
        forms = {}
        for concept in entries:
            syllables = 1 if concept in lexicon.FUNCTION_WORDS else rng.choice((2, 2, 3))
            invented = [lexicon.transliterate(maker.word(syllables), typology.script)]
            if concept not in lexicon.FUNCTION_WORDS:
                if rng.random() < typology.cognates:
                    invented = [concept]
                elif rng.random() < typology.loans:
                    invented.append(concept)
            forms[concept] = invented
        for name in ("plural", "accusative", "past", "future", "negation"):
            forms[name] = [lexicon.transliterate(maker.word(1), typology.script)]
        return forms

    # Words -----------------------------------------------------------------------------------------------------

    def _word(self, rng: random.Random, concept: str) -> str:
        forms = self.forms[concept]
        return forms[0] if len(forms) == 1 or rng.random() < FIRST_CHOICE else rng.choice(forms[1:])

    def _marked(self, tokens: list[Token], how: str, name: str, tag: str) -> list[Token]:
        """Return the tokens with a grammatical mark: a suffix on the last, or a separate tagged word at one side."""
        if not how:
            return tokens
        mark = self.forms[name][0]
        if how == "suffix":
            return [*tokens[:-1], tokens[-1]._replace(word=tokens[-1].word + mark)]
        return [Token(mark, tag), *tokens] if how == "before" else [*tokens, Token(mark, tag)]

    def _noun_phrase(self, rng: random.Random, phrase: Phrase, slot: str) -> list[Token]:
        accusative = self.typology.accusative if slot == "patient" else ""
        if phrase.noun in self.world.names:
            name = [Token(phrase.noun, "PROPN", slot)]
            return self._marked(name, accusative, "accusative", "ADP") if accusative != "suffix" else name
        word = self._word(rng, phrase.noun)
        if phrase.number and self.typology.plural:
            word += "s" if self.english else self.forms["plural"][0]
        tokens = [Token(word, "NOUN", slot)]
        if accusative == "suffix":
            tokens = self._marked(tokens, accusative, "accusative", "ADP")
        if phrase.adjective:
            adjective = Token(self._word(rng, phrase.adjective), "ADJ", slot)
            tokens = [adjective, *tokens] if self.typology.adjective_first else [*tokens, adjective]
        if phrase.number:
            tokens = [Token(str(phrase.number), "NUM", slot), *tokens]
        elif self.typology.article:
            tokens = [Token(self.forms["the"][0], "DET"), *tokens]
        return tokens if accusative == "suffix" else self._marked(tokens, accusative, "accusative", "ADP")

    def _place(self, rng: random.Random, place: str) -> list[Token]:
        town = place in self.world.towns
        tokens = [Token(place, "PROPN", "place")] if town else [Token(self._word(rng, place), "NOUN", "place")]
        if self.typology.article and not town:
            tokens = [Token(self.forms["the"][0], "DET"), *tokens]
        return self._marked(tokens, self.typology.place, "in", "ADP")

    def _time(self, rng: random.Random, time: str) -> list[Token]:
        return [Token(self._word(rng, time), "ADV", "time")]

    def _verb(self, rng: random.Random, clause: Clause) -> list[Token]:
        stem = self._word(rng, clause.verb)
        if self.english:
            if clause.future or clause.negated:
                auxiliary = [Token("will" if clause.future else "did", "AUX")]
                return auxiliary + [Token("not", "PART")] * clause.negated + [Token(stem, "VERB", "verb")]
            return [Token(stem + ("d" if stem.endswith("e") else "ed"), "VERB", "verb")]
        tokens = [Token(stem, "VERB", "verb")]
        tokens = self._marked(tokens, self.typology.tense, "future" if clause.future else "past", "AUX")
        return self._marked(tokens, self.typology.negation if clause.negated else "", "negation", "PART")

    # Clauses ---------------------------------------------------------------------------------------------------

    def _parts(self, rng: random.Random, clause: Clause) -> dict[str, list[Token]]:
        return {
            "S": self._noun_phrase(rng, clause.agent, "agent"),
            "V": self._verb(rng, clause),
            "O": self._noun_phrase(rng, clause.patient, "patient"),
            "P": self._place(rng, clause.place) if clause.place else [],
            "T": self._time(rng, clause.time) if clause.time else [],
        }

    def clause(self, rng: random.Random, clause: Clause) -> list[Token]:
        """Return the clause in words, without a full stop. A fifth of the clauses put place or time first."""
        parts = self._parts(rng, clause)
        order = self.typology.order
        if rng.random() < 0.2:
            first = "P" if clause.place else "T"
            order = first + order.replace(first, "")
        return [token for part in order for token in parts[part]]

    def agent(self, rng: random.Random, clause: Clause) -> list[Token]:
        """Return the agent alone."""
        return self._parts(rng, clause)["S"]

    def predicate(self, rng: random.Random, clause: Clause) -> list[Token]:
        """Return the clause without its agent, in the plain order."""
        parts = self._parts(rng, clause)
        return [token for part in self.typology.order.replace("S", "") for token in parts[part]]

    def question(self, rng: random.Random, clause: Clause, slot: str) -> list[Token]:
        """Return the question for one part of a positive clause: `agent`, `patient`, `number`, `place` or `time`."""
        parts = self._parts(rng, clause)
        word = {"agent": "who", "patient": "what", "place": "where", "time": "when", "number": "how many"}[slot]
        if word == "how many":
            tags = ("ADV", "ADJ") if self.english else ("DET",)
        else:
            tags = ("PRON",) if slot in ("agent", "patient") else ("ADV",)
        asked = [Token(w, tag) for w, tag in zip(self.forms[word][0].split(), tags, strict=True)]
        part = {"agent": "S", "patient": "O", "place": "P", "time": "T", "number": "O"}[slot]
        if slot == "number":
            asked += self._noun_phrase(rng, clause.patient, "patient")[1:]
        parts[part] = asked
        order = self.typology.order
        if self.typology.fronted:
            order = part + order.replace(part, "")
        if self.english and slot != "agent":
            auxiliary = Token("will" if clause.future else "did", "AUX")
            parts["V"] = [Token(self._word(rng, clause.verb), "VERB", "verb")]
            parts["S"] = [auxiliary, *parts["S"]]
        return [token for name in order for token in parts[name]]

    def link(self, concept: str) -> list[Token]:
        """Return a linking word (`then`, `because`, ...), with its comma if it has one."""
        tag = {"because": "SCONJ", "and": "CCONJ"}.get(concept, "ADV")
        tokens = [Token(self.forms[concept][0], tag)]
        return tokens + [COMMA] if concept in ("indeed", "however") else tokens


COMMA, STOP, QUERY = Token(",", "PUNCT"), Token(".", "PUNCT"), Token("?", "PUNCT")


def text(tokens: list[Token]) -> str:
    """Return the tokens as text: words between spaces, punctuation attached to the word before it."""
    return " ".join([token.word for token in tokens]).replace(" .", ".").replace(" ,", ",").replace(" ?", "?")


def _english_entries() -> list[list[str]]:
    tables = [*lexicon.NOUNS.values(), *lexicon.HYPERNYMS.values(), *lexicon.VERB_PAIRS, *lexicon.VERBS]
    tables += [*lexicon.ADJECTIVE_PAIRS.split(";"), lexicon.PLACES, lexicon.TIMES]
    return [entry for table in tables for entry in lexicon.words(table)] + [[word] for word in lexicon.FUNCTION_WORDS]
