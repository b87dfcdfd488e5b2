"""Multiple choice: HellaSwag, Cosmos QA, CommonsenseQA, Social IQa, COPA, XCOPA and Belebele.

All but CommonsenseQA and Belebele ask what happened next or before. In this world each verb has two verbs that usually
follow it.
"""

import random
from collections.abc import Iterator

import pyarrow as pa

from .base import (
    DEV,
    INT32,
    INT64,
    STRINGS,
    TEST,
    Options,
    Table,
    column,
    even_labels,
    schema,
    sentence,
    table,
    unlike,
)
from .language import QUERY, STOP, Language, Token, text
from .meaning import Clause, World
from .spans import answers, qa_meaning

TRAIN = {"hellaswag": 6000, "cosmos_qa": 4000, "commonsense_qa": 3000, "social_i_qa": 4000, "copa": 400}
COPA_DEV = 100


def choice_meaning(
    world: World, rng: random.Random, choices: int = 4, backwards: bool = False
) -> tuple[Clause, tuple[Clause, ...], int]:
    """Return (what happened, possible next events, the number of the right one). Only its verb follows the first.

    `backwards`: possible earlier events instead; only the verb of the right one is followed by what happened.
    """
    first = world.clause(rng, negated=0.0)
    if backwards:
        causes = [verb for verb in world.verbs if world.next_verb[verb].share(first.verb)]
        if not causes:
            return choice_meaning(world, rng, choices, backwards)
        right_verb = rng.choice(causes)
        wrong = [v for v in world.verbs if v != first.verb and v not in causes]
    else:
        right_verb = world.next_verb[first.verb].draw(rng)
        wrong = [v for v in world.verbs if v != first.verb and not world.next_verb[first.verb].share(v)]
    # Verbs that suit the patient come first, so that the patient alone does not give the answer away.
    rng.shuffle(wrong)
    wrong.sort(key=lambda v: world.patient_of[v].share(first.patient.noun) == 0)
    verbs = wrong[: choices - 1]
    label = rng.randrange(choices)
    verbs.insert(label, right_verb)
    return first, tuple(world.with_verb(rng, first, verb, details=0.3, negated=0.0) for verb in verbs), label


def predicate(language: Language, rng: random.Random, clause: Clause) -> str:
    """Return the clause without its agent."""
    return text([*language.predicate(rng, clause), STOP])


def hellaswag(options: Options) -> Iterator[Table]:
    """HellaSwag: what happened, and four continuations."""
    types = schema(
        ind=INT32, a="activity_label ctx_a ctx_b ctx", endings=STRINGS, b="source_id split split_type label"
    )
    seen: set = set()
    english = options.english
    for split, count in {"validation": DEV, "train": TRAIN["hellaswag"]}.items():
        rng = options.rng(f"hellaswag/{split}")
        rows = []
        meanings = unlike(seen, lambda rng=rng: choice_meaning(options.world, rng), options.rows(count))
        for i, (first, endings, label) in enumerate(meanings):
            ctx_a = sentence(english, rng, first)
            ctx_b = text([*english.link("then"), *english.agent(rng, first)])
            predicates = [predicate(english, rng, ending) for ending in endings]
            name = "val" if split == "validation" else split
            activity = english.forms[first.verb][0]
            rows.append(
                (i, activity, ctx_a, ctx_b, f"{ctx_a} {ctx_b}", predicates, f"world~{i}", name, "indomain", str(label))
            )
        yield table(f"Rowan__hellaswag/default/{split}", types, rows)


def cosmos_qa(options: Options) -> Iterator[Table]:
    """Cosmos QA: several people did several things; what did one of them do next? Choices are full sentences."""
    types = schema(a="id context question answer0 answer1 answer2 answer3", label=INT32)
    world, english = options.world, options.english
    seen: set = set()
    for split, count in {"validation": DEV, "test": DEV, "train": TRAIN["cosmos_qa"]}.items():
        rng = options.rng(f"cosmos_qa/{split}")
        rows = []
        meanings = unlike(seen, lambda rng=rng: choice_meaning(world, rng), options.rows(count))
        for i, (first, endings, label) in enumerate(meanings):
            others = [c for c in (world.clause(rng) for _ in range(3)) if c.agent.noun != first.agent.noun][:2]
            clauses = [first, *others]
            rng.shuffle(clauses)
            context = " ".join(sentence(english, rng, clause) for clause in clauses)
            answers = [sentence(english, rng, ending) for ending in endings]
            label = -1 if split == "test" else label
            rows.append((f"cosmos-{split}-{i}", context, _asked(english, rng, first, "then"), *answers, label))
        yield table(f"allenai__cosmos_qa/default/{split}", types, rows)


def _asked(english: Language, rng: random.Random, first: Clause, when: str) -> str:
    """Return the question: what did someone do next, or before?"""
    did, do = Token("did", "AUX"), Token("do", "VERB")
    return text([Token("what", "PRON"), did, *english.agent(rng, first), do, Token(when, "ADV"), QUERY])


def habit_meaning(world: World, rng: random.Random) -> tuple[Clause, str, tuple[str, ...], int]:
    """Return (clause, "place" or "time", five of these, the number of the usual one): the others are rare."""
    while True:
        clause = world.clause(rng, details=0.0, negated=0.0)
        slot = rng.choice(("place", "time"))
        if slot == "place":
            items = world.places
            home, usual = world.home[clause.agent.noun], world.place_of[clause.verb]
            share = {place: (home.share(place) + usual.share(place)) / 2 for place in items}
        else:
            items = world.times
            share = {t: world.time_of[clause.verb].share(t) for t in items}
        best = max(items, key=share.__getitem__)
        rare = [item for item in items if share[item] < 0.03]
        if share[best] < 0.4 or len(rare) < 4:
            continue
        choices = rng.sample(rare, 4)
        label = rng.randrange(5)
        choices.insert(label, best)
        return clause._replace(**{slot: best}), slot, tuple(choices), label


def commonsense_qa(options: Options) -> Iterator[Table]:
    """CommonsenseQA: where or when does someone usually do something? The text says it often enough."""
    choices = pa.struct([("label", STRINGS), ("text", STRINGS)])
    types = schema(a="id question question_concept", choices=choices, answerKey="answerKey")
    english = options.english
    seen: set = set()
    for split, count in {"validation": DEV, "train": TRAIN["commonsense_qa"], "test": DEV}.items():
        rng = options.rng(f"commonsense_qa/{split}")
        rows = []
        meanings = unlike(seen, lambda rng=rng: habit_meaning(options.world, rng), options.rows(count))
        for i, (clause, slot, items, label) in enumerate(meanings):
            question = text([*english.question(rng, clause, slot), QUERY])
            words = [english.forms[item][0] if item in english.forms else item for item in items]
            key = "" if split == "test" else "ABCDE"[label]
            answers = {"label": list("ABCDE"), "text": words}
            rows.append((f"csqa-{split}-{i}", question, english.forms[clause.verb][0], answers, key))
        yield table(f"tau__commonsense_qa/default/{split}", types, rows)


def social_i_qa(options: Options) -> Iterator[Table]:
    """Social IQa: what did someone do next, or before? Three predicates; labels are "1" to "3"."""
    types = schema(a="context question answerA answerB answerC label")
    english = options.english
    seen: set = set()
    for split, count in {"validation": DEV, "train": TRAIN["social_i_qa"]}.items():
        rng = options.rng(f"social_i_qa/{split}")

        def draw(rng: random.Random = rng) -> tuple:
            backwards = rng.random() < 0.5
            return backwards, choice_meaning(options.world, rng, 3, backwards)

        rows = []
        for backwards, (first, endings, label) in unlike(seen, draw, options.rows(count)):
            question = _asked(english, rng, first, "before" if backwards else "then")
            predicates = [predicate(english, rng, ending) for ending in endings]
            rows.append((sentence(english, rng, first), question, *predicates, str(label + 1)))
        yield table(f"lighteval__siqa/default/{split}", types, rows)


def copa(options: Options) -> Iterator[Table]:
    """COPA (English) and XCOPA (every other language, parallel): the cause or the effect of what happened."""
    english = schema(a="premise choice1 choice2 question", idx=INT32, label=INT64)
    others = schema(a="premise choice1 choice2 question", label=INT32, idx=INT32, changed=pa.bool_())
    seen: set = set()

    def draw_all(name: str, count: int) -> list[tuple]:
        rng = options.rng(name)
        drawn = []
        for kind in even_labels(rng, options.rows(count), 2):

            def draw(backwards: bool = bool(kind)) -> tuple:
                return backwards, choice_meaning(options.world, rng, 2, backwards)

            drawn += unlike(seen, draw, 1)
        return drawn

    def worded(path: str, code: str, meanings: list[tuple]) -> Iterator[tuple]:
        language, rng = options.languages[code], options.rng(f"{path}/words")
        for backwards, (first, endings, label) in meanings:
            sentences = [sentence(language, rng, clause) for clause in (first, *endings)]
            yield *sentences, "cause" if backwards else "effect", label

    for split, count in {"validation": COPA_DEV, "test": DEV, "train": TRAIN["copa"]}.items():
        meanings = draw_all(f"copa/{split}", count)
        path = f"aps__super_glue/copa/{split}"
        rows = enumerate(worded(path, "en", meanings))
        yield table(path, english, [(*row, i, -1 if split == "test" else label) for i, (*row, label) in rows])
    for split, count in {"validation": COPA_DEV, "test": TEST}.items():
        meanings = draw_all(f"xcopa/{split}", count)
        for code in options.codes:
            path = f"cambridgeltl__xcopa/{code}/{split}"
            rows = [(*row, label, i, False) for i, (*row, label) in enumerate(worded(path, code, meanings))]
            yield table(path, others, rows)


def reading_meaning(
    world: World, rng: random.Random
) -> tuple[tuple[Clause, ...], Clause, str, tuple[Clause, ...], int]:
    """Return (passage, the question's clause, the part asked for, four clauses with answers, the right one's number).

    Wrong answers come from the passage's other clauses if these have any. No other clause answers the question.
    """
    while True:
        passage, answering, asked, slot = qa_meaning(world, rng)
        if slot != "number":
            break
    found = {_name(getattr(answering, slot)): answering}
    drawn = [clause for clause in passage if getattr(clause, slot)]
    while len(found) < 4:
        clause = drawn.pop() if drawn else world.clause(rng, details=1.0)
        found.setdefault(_name(getattr(clause, slot)), answering._replace(**{slot: getattr(clause, slot)}))
    right, *wrong = found.values()
    label = rng.randrange(4)
    wrong.insert(label, right)
    return passage, asked, slot, tuple(wrong), label


def _name(part: object) -> str:
    return getattr(part, "noun", part)


def belebele(options: Options) -> Iterator[Table]:
    """Belebele: a passage, a question for one part of one of its clauses, four answers. Parallel; test rows only."""
    types = schema(
        link="link",
        question_number=INT64,
        a="flores_passage question mc_answer1 mc_answer2 mc_answer3 mc_answer4 correct_answer_num dialect ds",
    )
    rng, seen = options.rng("belebele"), set()
    meanings = unlike(seen, lambda: reading_meaning(options.world, rng), options.rows(TEST))
    for code, language in options.languages.items():
        name = column(code)
        words, rows = options.rng(f"belebele/{code}"), []
        for i, (passage, asked, slot, choices, label) in enumerate(meanings):
            context = " ".join(sentence(language, words, clause) for clause in passage)
            question = text([*language.question(words, asked, slot), QUERY])
            given = [
                text([token for token in language.clause(words, clause) if answers(token, slot)]) for clause in choices
            ]
            rows.append(
                (f"https://en.example.org/{i}", 1, context, question, *given, str(label + 1), name, "2023-05-03")
            )
        yield table(f"facebook__belebele/{name}/test", types, rows)
