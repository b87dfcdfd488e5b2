"""Sentence pairs: inference (MNLI, XNLI, SNLI, ANLI, RTE) and paraphrase (QQP, PAWS-X)."""

import random
from collections.abc import Iterable, Iterator
from functools import partial

from .base import DEV, INT32, INT64, TEST, Options, Table, even_labels, schema, sentence, table, unlike
from .language import QUERY, Language, text
from .meaning import CONTRADICTION, ENTAILMENT, NEUTRAL, Clause, Phrase, World
from .spans import askable, without

TRAIN = {"mnli": 6000, "xnli": 2000, "snli": 4000, "anli": (1000, 1500, 2000), "rte": 500, "qqp": 5000, "paws-x": 3000}

NLI = schema(strings="premise hypothesis", label=INT64)
PAWS = schema(id=INT32, strings="sentence1 sentence2", label=INT64)


def nli_meaning(world: World, rng: random.Random, label: int) -> tuple[Clause, Clause]:
    """Return (premise, hypothesis) with this label.

    The hypothesis is drawn independently of the label and never changed, so alone it tells nothing about the label.
    """
    hypothesis = world.clause(rng, details=0.2, negated=0.3)
    while True:
        premise = _premise(world, rng, hypothesis, label)
        if world.relation(premise, hypothesis) == label:
            return premise, hypothesis


def _premise(world: World, rng: random.Random, h: Clause, label: int) -> Clause:
    """Return a premise that probably has this label; `nli_meaning` draws until the rule agrees."""
    positive = h._replace(negated=False)
    fuller = world.more_told(rng, _specific(world, rng, positive))
    if label == ENTAILMENT:
        return world.less_told(rng, h) if h.negated else fuller
    if label == CONTRADICTION:
        opposite = world.verb_opposite.get(h.verb)
        if h.negated:
            return fuller
        if opposite and rng.random() < 0.25:
            return fuller._replace(verb=opposite)
        return h._replace(negated=True)
    return _elsewhere(world, rng, fuller._replace(negated=rng.random() < 0.3))


def _elsewhere(world: World, rng: random.Random, clause: Clause) -> Clause:
    """Return a different clause: two of agent, verb and patient changed, sometimes one, or only a detail."""
    other = world.clause(rng, details=1.0)
    draw = rng.random()
    if draw < 0.1:
        detail = rng.choice(("place", "time"))
        return clause._replace(**{detail: rng.choice((None, getattr(other, detail)))})
    changed = rng.sample(("agent", "verb", "patient"), 1 if draw < 0.4 else 2)
    if "agent" in changed:
        clause = clause._replace(agent=other.agent)
    if "verb" in changed:
        clause = clause._replace(verb=rng.choice(world.verbs_for(clause.patient.noun)))
    if "patient" in changed:
        clause = clause._replace(patient=world.phrase(rng, world.patient_of[clause.verb].draw(rng)))
    return clause


def _specific(world: World, rng: random.Random, clause: Clause) -> Clause:
    """Return the clause with a general noun replaced by a member of its class, if the verb allows it."""
    nouns = [n for n in world.patient_of[clause.verb].items if world.hypernym(n) == clause.patient.noun]
    return clause._replace(patient=clause.patient._replace(noun=rng.choice(nouns))) if nouns else clause


class Inference:
    """Draws labelled pairs for all inference sets. No pair is drawn twice, so no test pair is trained on."""

    def __init__(self, options: Options):
        self.options = options
        self.seen: set = set()

    def draw(self, name: str, count: int) -> list[tuple[Clause, Clause, int]]:
        """Return (premise, hypothesis, label) rows: the three labels in equal shares and random order."""
        rng = self.options.rng(name)
        pairs = []
        for label in even_labels(rng, self.options.rows(count), 3):
            (pair,) = unlike(self.seen, partial(nli_meaning, self.options.world, rng, label), 1)
            pairs.append((*pair, label))
        return pairs

    def rows(self, path: str, code: str, pairs: Iterable[tuple]) -> list[tuple[str, str, int]]:
        """Return the pairs in one language."""
        language, rng = self.options.languages[code], self.options.rng(f"{path}/words")
        return [(sentence(language, rng, p), sentence(language, rng, h), label) for p, h, label in pairs]


def inference(options: Options) -> Iterator[Table]:
    """XNLI in every language, its rows parallel; MNLI, SNLI, ANLI and RTE in English."""
    draws = Inference(options)
    for split, pairs in xnli_meanings(draws).items():
        for code in options.languages if split != "train" else ["en"]:
            path = f"facebook__xnli/{code}/{split}"
            yield table(path, NLI, draws.rows(path, code, pairs))
    yield from _mnli(draws)
    yield from _snli(draws)
    yield from _anli(draws)
    yield from _rte(draws)


def xnli_meanings(draws: Inference) -> dict[str, list[tuple[Clause, Clause, int]]]:
    """Return XNLI's labelled pairs by split; they are drawn first."""
    sets = {
        "validation": ("xnli/validation", DEV),
        "test": ("xnli/test", TEST),
        "train": ("facebook__xnli/en/train", TRAIN["xnli"]),
    }
    return {split: draws.draw(name, count) for split, (name, count) in sets.items()}


def _mnli(draws: Inference) -> Iterator[Table]:
    types = schema(strings="premise hypothesis", label=INT64, idx=INT32)
    for split, count in {"train": TRAIN["mnli"], "validation_matched": DEV, "validation_mismatched": DEV}.items():
        path = f"nyu-mll__glue/mnli/{split}"
        rows = draws.rows(path, "en", draws.draw(path, count))
        yield table(path, types, [(*row, i) for i, row in enumerate(rows)])


def _snli(draws: Inference) -> Iterator[Table]:
    """SNLI: one row in fifty has no gold label (-1), as if annotators disagreed."""
    for split, count in {"train": TRAIN["snli"], "validation": DEV, "test": TEST}.items():
        path = f"stanfordnlp__snli/plain_text/{split}"
        rows = draws.rows(path, "en", draws.draw(path, count))
        yield table(path, NLI, [(p, h, -1 if i % 50 == 7 else label) for i, (p, h, label) in enumerate(rows)])


def _anli(draws: Inference) -> Iterator[Table]:
    """ANLI: the premise is among other sentences, one more each round, which are irrelevant."""
    types = schema(strings="uid premise hypothesis", label=INT64, reason="reason")
    world, english = draws.options.world, draws.options.english
    for number, train in enumerate(TRAIN["anli"], 1):
        for split, count in {"train": train, "dev": DEV // 2, "test": DEV // 2}.items():
            path = f"facebook__anli/plain_text/{split}_r{number}"
            rng = draws.options.rng(f"{path}/words")
            rows = []
            for i, (premise, hypothesis, label) in enumerate(draws.draw(path, count)):
                clauses = [premise]
                while len(clauses) <= number:
                    other = world.clause(rng)
                    if world.relation(other, hypothesis) == NEUTRAL:
                        clauses.append(other)
                rng.shuffle(clauses)
                context = " ".join(sentence(english, rng, clause) for clause in clauses)
                rows.append((f"{split}-r{number}-{i}", context, sentence(english, rng, hypothesis), label, ""))
            yield table(path, types, rows)


def _rte(draws: Inference) -> Iterator[Table]:
    """0 entailment, 1 not entailment (neutral or contradiction) in equal shares; no labels in test, as in GLUE."""
    types = schema(strings="sentence1 sentence2", label=INT64, idx=INT32)
    for split, count in {"train": TRAIN["rte"], "validation": DEV // 2, "test": DEV // 2}.items():
        path = f"nyu-mll__glue/rte/{split}"
        options = draws.options
        rng = options.rng(path)
        rows = []
        for i, label in enumerate(even_labels(rng, options.rows(count), 2)):
            relation = rng.choice((NEUTRAL, CONTRADICTION)) if label else ENTAILMENT
            (pair,) = unlike(draws.seen, partial(nli_meaning, options.world, rng, relation), 1)
            shown = -1 if split == "test" else label
            rows.append((*(sentence(options.english, rng, clause) for clause in pair), shown, i))
        yield table(path, types, rows)


# Paraphrase ----------------------------------------------------------------------------------------------------


def question_pair(world: World, language: Language, rng: random.Random, label: int) -> tuple[str, str]:
    """Return two questions with different words: with one meaning (label 1), or with one part changed (label 0)."""
    while True:
        clause = world.clause(rng, negated=0.0)
        slot = rng.choice(askable(clause))
        asked = clause if label else world.another(rng, clause)
        # The question does not contain the part asked for, so a change there would not show.
        same = slot in askable(asked) and without(asked, slot) == without(clause, slot)
        if slot not in askable(asked) or same != bool(label):
            continue
        first, second = (text([*language.question(rng, c, slot), QUERY]) for c in (clause, asked))
        if first != second:
            return first, second


def qqp(options: Options) -> Iterator[Table]:
    """QQP: two questions, the same in other words (1) or with one part changed (0). English; no labels in test."""
    types = schema(strings="question1 question2", label=INT64, idx=INT32)
    seen: set = set()
    for split, count in {"validation": DEV, "test": TEST, "train": TRAIN["qqp"]}.items():
        path = f"nyu-mll__glue/qqp/{split}"
        rng = options.rng(path)
        rows = []
        for i, label in enumerate(even_labels(rng, options.rows(count), 2)):
            draw = partial(question_pair, options.world, options.english, rng, label)
            rows.append((*unlike(seen, draw, 1)[0], -1 if split == "test" else label, i))
        yield table(path, types, rows)


def paws_meaning(world: World, rng: random.Random, label: int) -> tuple[Clause, Clause]:
    """Return (clause, the same or one with nearly the same words): parts swapped, as in PAWS, or the opposite verb."""
    while True:
        clause = world.clause(rng, details=0.6, negated=0.1)
        if rng.random() < 0.6:
            # Two names, or two nouns with an adjective each: something that can be swapped.
            patient = Phrase(rng.choice(world.people))
            clause = clause._replace(verb=rng.choice(world.verbs_for_people), patient=patient)
        swapped = _swap(world, rng, clause)
        if swapped and swapped != clause:
            return clause, clause if label else swapped


def _swap(world: World, rng: random.Random, clause: Clause) -> Clause | None:
    agent, patient = clause.agent, clause.patient
    if agent.noun in world.names and patient.noun in world.names:
        return clause._replace(agent=patient, patient=agent)
    if agent.noun not in world.names and patient.noun not in world.names and agent.adjective != patient.adjective:
        return clause._replace(
            agent=agent._replace(adjective=patient.adjective), patient=patient._replace(adjective=agent.adjective)
        )
    opposite = world.verb_opposite.get(clause.verb)
    return clause._replace(verb=opposite) if opposite and rng.random() < 0.5 else None


def paws(options: Options) -> Iterator[Table]:
    """PAWS-X: dev and test in every language, parallel; train in English. Half of the pairs mean the same."""
    for split, pairs in paws_meanings(options).items():
        for code in options.languages if split != "train" else ["en"]:
            path = f"google-research-datasets__paws-x/{code}/{split}"
            yield table(path, PAWS, paws_rows(options, path, code, pairs))


def paws_meanings(options: Options) -> dict[str, list[tuple[Clause, Clause, int]]]:
    """Return PAWS-X's labelled pairs by split."""
    found, seen = {}, set()
    for split, count in {"validation": DEV, "test": TEST, "train": TRAIN["paws-x"]}.items():
        rng = options.rng(f"paws-x/{split}")
        labels = even_labels(rng, options.rows(count), 2)
        found[split] = [
            (*unlike(seen, partial(paws_meaning, options.world, rng, label), 1)[0], label) for label in labels
        ]
    return found


def paws_rows(options: Options, path: str, code: str, pairs: Iterable[tuple]) -> list[tuple[int, str, str, int]]:
    """The pairs in the words of one language."""
    language, words = options.languages[code], options.rng(path)
    return [(i, *_two_wordings(language, words, a, b), label) for i, (a, b, label) in enumerate(pairs, 1)]


def _two_wordings(language: Language, rng: random.Random, first: Clause, second: Clause) -> tuple[str, str]:
    """Return both once as sentences; if they mean the same, in other words if the language has any."""
    once = sentence(language, rng, first)
    for _ in range(10):
        again = sentence(language, rng, second)
        if again != once:
            break
    return once, again
