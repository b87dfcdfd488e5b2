"""Meanings: clauses, the preferences that generate them (the same for every language), and the rule of entailment."""

import itertools
import random
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from . import lexicon

ENTAILMENT, NEUTRAL, CONTRADICTION = 0, 1, 2


class Phrase(NamedTuple):
    """A name or a noun phrase. `noun` is a concept or a name; `number` is 2 to 9, None for one."""

    noun: str
    adjective: str | None = None
    number: int | None = None


class Clause(NamedTuple):
    """One event. A place or time of None is not mentioned."""

    agent: Phrase
    verb: str
    patient: Phrase
    future: bool = False
    negated: bool = False
    place: str | None = None
    time: str | None = None


class Choice:
    """A fixed distribution over items. `draw(rng)` returns one of them."""

    def __init__(self, items: Sequence, weights: Sequence[float]):
        self.items = list(items)
        self.weights = list(weights)
        self.cumulative = list(itertools.accumulate(self.weights))

    def draw(self, rng: random.Random) -> Any:
        """Return a random item."""
        return rng.choices(self.items, cum_weights=self.cumulative)[0]

    def share(self, item: Any) -> float:
        """Return the probability of `item`; 0 if it is never drawn."""
        return self.weights[self.items.index(item)] / self.cumulative[-1] if item in self.items else 0.0


def dirichlet(rng: random.Random, items: Sequence, concentration: float) -> Choice:
    """Return a random distribution over `items`. A smaller concentration favours fewer of them."""
    return Choice(items, [rng.gammavariate(concentration, 1.0) + 1e-4 for _ in items])


class World:
    """The concepts and the seeded preferences among them: who does what to what, where, when, and what comes next.

    The languages have nothing in common but these preferences, names, digits and shared words.
    """

    def __init__(self, seed: int):
        rng = random.Random(f"{seed}/world")
        self.class_of = {entry[0]: name for name, table in lexicon.NOUNS.items() for entry in lexicon.words(table)}
        self.class_of |= {noun: name for name, noun in lexicon.HYPERNYMS.items()}
        self.people = lexicon.PEOPLE.split()
        self.companies = lexicon.COMPANIES.split()
        self.towns = lexicon.TOWNS.split()
        self.names = set(self.people + self.companies)
        self.adjective_opposite = _opposites(lexicon.ADJECTIVE_PAIRS.split(";"))
        self.verb_opposite = _opposites(lexicon.VERB_PAIRS)
        self.adjectives = list(self.adjective_opposite)
        self.times = [entry[0] for entry in lexicon.words(lexicon.TIMES)]
        self.places = [entry[0] for entry in lexicon.words(lexicon.PLACES)] + self.towns
        self.classes_of_verb = {
            entry[0]: classes.split()
            for table, classes in (lexicon.VERB_PAIRS | lexicon.VERBS).items()
            for entry in lexicon.words(table)
        }
        self.verbs = list(self.classes_of_verb)
        self.verbs_for_people = [verb for verb, classes in self.classes_of_verb.items() if "person" in classes]
        self.kinds_of_name = dict.fromkeys(self.people, "PER") | dict.fromkeys(self.companies, "ORG")
        self.kinds_of_name |= dict.fromkeys(self.towns, "LOC")
        self._draw_preferences(rng)

    def _draw_preferences(self, rng: random.Random) -> None:
        specific = {name: [e[0] for e in lexicon.words(table)] for name, table in lexicon.NOUNS.items()}
        agents = self.people + self.companies + specific["person"] + specific["animal"]
        rng.shuffle(agents)
        self.agent = Choice(agents, [1 / (rank + 8) for rank in range(len(agents))])  # Zipf-like, flattened
        self.verb_of = {agent: dirichlet(rng, self.verbs, 0.15) for agent in agents}
        self.home = {agent: dirichlet(rng, self.places, 0.15) for agent in agents}
        self.patient_of = {}
        for verb, classes in self.classes_of_verb.items():
            nouns = [noun for name in classes for noun in specific[name]]
            nouns += [lexicon.HYPERNYMS[name] for name in classes]
            nouns += rng.sample(self.people, 6) if "person" in classes else []
            self.patient_of[verb] = dirichlet(rng, nouns, 0.35)
        self.time_of = {verb: dirichlet(rng, self.times, 0.25) for verb in self.verbs}
        self.place_of = {verb: dirichlet(rng, self.places, 0.2) for verb in self.verbs}
        nouns = list(self.class_of)
        self.adjective_of = {noun: dirichlet(rng, self.adjectives, 0.25) for noun in nouns}
        self.number_of = {noun: dirichlet(rng, range(2, 10), 0.25) for noun in nouns}
        self.next_verb = {}
        for verb, classes in self.classes_of_verb.items():
            fitting = [v for v in self.verbs if v != verb and set(classes) & set(self.classes_of_verb[v])]
            # Two verbs usually follow, so that wrong continuations can be recognised.
            self.next_verb[verb] = Choice(rng.sample(fitting, 2), [2, 1])

    def phrase(self, rng: random.Random, noun: str, details: float = 0.4) -> Phrase:
        """Return `noun`, with an adjective (probability `details`) and sometimes a number. Names have neither."""
        if noun in self.names:
            return Phrase(noun)
        adjective = self.adjective_of[noun].draw(rng) if rng.random() < details else None
        number = self.number_of[noun].draw(rng) if rng.random() < 0.2 else None
        return Phrase(noun, adjective, number)

    def clause(
        self,
        rng: random.Random,
        agent: Phrase | None = None,
        verb: str | None = None,
        patient: Phrase | None = None,
        details: float = 0.5,
        negated: float = 0.15,
    ) -> Clause:
        """Draw a clause; what is given is kept. `details`, `negated`: how often these occur."""
        if agent is None:
            noun = self.agent.draw(rng)
            # Singular agents only: with a plural subject English would need a second verb form.
            agent = Phrase(noun, self.phrase(rng, noun, 0.2).adjective)
        verb = verb or self.verb_of[agent.noun].draw(rng)
        while patient is None or patient.noun == agent.noun:
            patient = self.phrase(rng, self.patient_of[verb].draw(rng))
        place = time = None
        if rng.random() < details:
            place = (self.home[agent.noun] if rng.random() < 0.5 else self.place_of[verb]).draw(rng)
        if rng.random() < details:
            time = self.time_of[verb].draw(rng)
        return Clause(agent, verb, patient, rng.random() < 0.25, rng.random() < negated, place, time)

    def successor(self, rng: random.Random, clause: Clause, **options: Any) -> Clause:
        """Return what the same agent does next: a verb that follows, with the same patient if the verb allows it."""
        return self.with_verb(rng, clause, self.next_verb[clause.verb].draw(rng), **options)

    def with_verb(self, rng: random.Random, clause: Clause, verb: str, **options: Any) -> Clause:
        """Return a clause of the same agent with this verb, and the same patient if the verb allows it."""
        noun = clause.patient.noun
        kept = self.patient_of[verb].share(noun) > 0 and noun != clause.agent.noun
        patient = Phrase(noun, None, clause.patient.number) if kept else None
        return self.clause(rng, clause.agent, verb, patient, **options)._replace(future=clause.future)

    def verbs_for(self, noun: str) -> list[str]:
        """Return the verbs that take `noun` as patient."""
        return [verb for verb in self.verbs if self.patient_of[verb].share(noun) > 0]

    def hypernym(self, noun: str) -> str | None:
        """Return the noun for the whole class; None for names and for such a noun itself."""
        general = lexicon.HYPERNYMS.get(self.class_of.get(noun, ""))
        return None if general == noun else general

    def less_told(self, rng: random.Random, clause: Clause) -> Clause:
        """Return a clause that follows from a positive `clause`: details left out, some nouns more general."""
        return clause._replace(
            agent=self._general(rng, clause.agent),
            patient=self._general(rng, clause.patient),
            place=clause.place if rng.random() < 0.4 else None,
            time=clause.time if rng.random() < 0.4 else None,
        )

    def more_told(self, rng: random.Random, clause: Clause) -> Clause:
        """Return a clause from which a positive `clause` follows: details added."""
        fuller = self.clause(rng, clause.agent, clause.verb, clause.patient, details=0.5)
        patient = clause.patient
        if patient.adjective is None and patient.noun not in self.names and rng.random() < 0.4:
            patient = patient._replace(adjective=self.adjective_of[patient.noun].draw(rng))
        return clause._replace(patient=patient, place=clause.place or fuller.place, time=clause.time or fuller.time)

    def _general(self, rng: random.Random, phrase: Phrase) -> Phrase:
        general = self.hypernym(phrase.noun)
        noun = general if general and rng.random() < 0.25 else phrase.noun
        return phrase._replace(noun=noun, adjective=phrase.adjective if rng.random() < 0.5 else None)

    def another(self, rng: random.Random, clause: Clause) -> Clause:
        """Return the clause with one part changed: agent, verb, patient, place or time."""
        other = self.clause(rng, details=1.0)
        changes = [
            {"agent": other.agent},
            {"verb": rng.choice(self.verbs_for(clause.patient.noun))},
            {"patient": self.phrase(rng, self.patient_of[clause.verb].draw(rng))},
        ]
        changes += [{"place": other.place}] * bool(clause.place) + [{"time": other.time}] * bool(clause.time)
        changed = clause._replace(**rng.choice(changes))
        return changed if changed != clause else self.another(rng, clause)

    def covers(self, general: Clause, specific: Clause) -> bool:
        """Whether every event that `specific` describes is one that `general` describes; negation is ignored."""
        return (
            self._phrase_covers(general.agent, specific.agent)
            and general.verb == specific.verb
            and self._phrase_covers(general.patient, specific.patient)
            and general.future == specific.future
            and general.place in (None, specific.place)
            and general.time in (None, specific.time)
        )

    def _phrase_covers(self, general: Phrase, specific: Phrase) -> bool:
        return (
            general.noun in (specific.noun, self.hypernym(specific.noun))
            and general.adjective in (None, specific.adjective)
            and general.number == specific.number
        )

    def relation(self, premise: Clause, hypothesis: Clause) -> int | None:
        """Return 0 (entailment), 1 (neutral), 2 (contradiction), or None if the label is debatable.

        A negated clause negates every event it covers; opposite verbs exclude each other for the same agent, patient,
        place and time. Debatable: whether doing something also negates the opposite, and negation of the opposite.
        """
        p, h = premise, hypothesis
        opposite = self.verb_opposite.get(h.verb)
        if p.negated != h.negated:
            if p.verb == opposite:
                return None
            positive, denied = (h, p) if p.negated else (p, h)
            return CONTRADICTION if self.covers(denied, positive) else NEUTRAL
        if p.negated:
            return None if p.verb == opposite else ENTAILMENT if self.covers(p, h) else NEUTRAL
        if p.verb == opposite:
            return CONTRADICTION if self.covers(h._replace(verb=opposite), p) else NEUTRAL
        return ENTAILMENT if self.covers(h, p) else NEUTRAL


def _opposites(pairs: Iterable[str]) -> dict[str, str]:
    opposite = {}
    for pair in pairs:
        (first, *_), (second, *_) = lexicon.words(pair)
        opposite |= {first: second, second: first}
    return opposite
