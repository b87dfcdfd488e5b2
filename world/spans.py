"""Question answering: SQuAD 1.1 and 2.0, XQuAD, MLQA, TyDiQA, and the paragraphs of LAReQA."""

import random
from collections.abc import Callable, Iterable, Iterator

import pyarrow as pa

from .base import DEV, INT32, INT64, STRING, STRINGS, TEST, Options, Table, schema, table, unlike
from .language import QUERY, STOP, Language, Token, text
from .meaning import Clause, World

TRAIN = {"squad": 6000, "squad_v2": 6000, "tydiqa": 500}

ANSWERS = pa.struct([("text", STRINGS), ("answer_start", pa.list_(INT32))])
QA = schema(strings="id title context question", answers=ANSWERS)
SLOTS = ("agent", "patient", "number", "place", "time")


def askable(clause: Clause) -> list[str]:
    """Return the parts of a positive clause that a question can ask for."""
    optional = {"number": clause.patient.number, "place": clause.place, "time": clause.time}
    return [slot for slot in SLOTS if optional.get(slot, True)]


def answers(token: Token, slot: str) -> bool:
    """Whether the token is part of the answer to a question for `slot`."""
    return token.tag == "NUM" if slot == "number" else token.slot == slot


def without(clause: Clause, slot: str) -> Clause:
    """Return the part of the clause that a question for `slot` contains."""
    if slot == "number":
        return clause._replace(patient=clause.patient._replace(number=None))
    return clause._replace(**{slot: None})


def qa_meaning(world: World, rng: random.Random) -> tuple[tuple[Clause, ...], Clause, Clause, str]:
    """Return (context, the clause that answers, the question's clause, the part asked for). No other clause answers.

    The question may leave place and time out. Some other clauses share agent or verb with the answer's clause.
    """
    while True:
        answering = world.clause(rng, details=0.6, negated=0.0)
        slot = rng.choice(askable(answering))
        others = []
        for _ in range(rng.choice((1, 2, 2))):
            draw = rng.random()
            agent = answering.agent if draw < 0.3 else None
            verb = answering.verb if draw > 0.7 else None
            others.append(world.clause(rng, agent, verb, details=0.6, negated=0.0))
        asked = answering._replace(
            place=answering.place if slot == "place" or rng.random() < 0.4 else None,
            time=answering.time if slot == "time" or rng.random() < 0.4 else None,
        )
        if not any(could_answer(asked, slot, other) for other in others):
            context = [*others, answering]
            rng.shuffle(context)
            return tuple(context), answering, asked, slot


def could_answer(asked: Clause, slot: str, clause: Clause) -> bool:
    """Whether a clause could answer: it says, or leaves open, everything that the question says."""

    def fits(a: object, b: object) -> bool:
        return a is None or b is None or a == b

    q, c = without(asked, slot), without(clause, slot)
    return (
        (slot == "agent" or q.agent.noun == c.agent.noun)
        and q.verb == c.verb
        and (slot == "patient" or q.patient.noun == c.patient.noun)
        and fits(q.place, c.place)
        and fits(q.time, c.time)
    )


def unanswerable(world: World, rng: random.Random, meaning: tuple) -> tuple:
    """Return the meaning with a similar question that no clause of the context answers."""
    context, answering, asked, slot = meaning
    while True:
        changed = world.another(rng, asked)
        if slot in askable(changed) and not any(could_answer(changed, slot, clause) for clause in context):
            return context, None, changed, slot


def qa_row(language: Language, rng: random.Random, meaning: tuple, row_id: str, title: str) -> tuple:
    """Return (id, title, context, question, answers). The answer is the words of the part asked for, without article.

    The answers are empty if the language leaves these words out (as a translator may).
    """
    context, answering, asked, slot = meaning
    parts: list[str] = []
    found: dict[str, list] = {"text": [], "answer_start": []}
    for clause in context:
        tokens = [*language.clause(rng, clause), STOP]
        if clause == answering:
            hit = [i for i, token in enumerate(tokens) if answers(token, slot)]
            if hit:
                before = text(tokens[: hit[0] + 1])
                found["text"].append(text(tokens[hit[0] : hit[-1] + 1]))
                found["answer_start"].append(sum(len(p) + 1 for p in parts) + len(before) - len(tokens[hit[0]].word))
        parts.append(text(tokens))
    question = text([*language.question(rng, asked, slot), QUERY])
    return row_id, title, " ".join(parts), question, found


class Questions:
    """Draws questions for all data sets. None is drawn twice, so no test question is trained on."""

    def __init__(self, options: Options):
        self.options = options
        self.seen: set = set()

    def draw(self, name: str, count: int) -> list[tuple]:
        rng = self.options.rng(name)
        return unlike(self.seen, lambda: qa_meaning(self.options.world, rng), self.options.rows(count))

    def rows(self, path: str, code: str, meanings: Iterable[tuple], row_id: Callable[[int], str]) -> list[tuple]:
        """Return the questions in one language."""
        language, rng = self.options.languages[code], self.options.rng(f"{path}/{code}")
        return [qa_row(language, rng, m, row_id(i), f"{code} {i}") for i, m in enumerate(meanings)]


def question_answering(options: Options) -> Iterator[Table]:
    """Yield every data set of this form. Only English has train rows. XQuAD and MLQA are parallel, TyDiQA is not."""
    draws = Questions(options)
    yield from _parallel(draws)
    yield from _squad(draws)
    yield from _tydiqa(draws)
    yield from _lareqa(draws)


PARALLEL = [("xquad", "validation", TEST), ("mlqa", "validation", DEV), ("mlqa", "test", TEST)]
SQUAD_TRAIN = "rajpurkar__squad/plain_text/train"


def _parallel(draws: Questions) -> Iterator[Table]:
    for name, split, count in PARALLEL:
        meanings = draws.draw(f"{name}/{split}", count)
        for code in draws.options.languages:
            folder = f"google__xquad/xquad.{code}" if name == "xquad" else f"google__xtreme/MLQA.{code}.{code}"
            path = f"{folder}/{split}"
            rows = draws.rows(path, code, meanings, lambda i, ids=f"{name}-{split}": f"{ids}-{i:06d}")
            yield table(path, QA, rows)


def squad_meanings(draws: Questions) -> list[tuple]:
    """Return SQuAD's train questions, drawn after those of `_parallel`, because no question occurs twice."""
    for name, split, count in PARALLEL:
        draws.draw(f"{name}/{split}", count)
    return draws.draw(SQUAD_TRAIN, TRAIN["squad"])


def _squad(draws: Questions) -> Iterator[Table]:
    """SQuAD. Version 2.0 has other questions, a third of them without an answer: both lists are empty."""
    world = draws.options.world
    for name, config in {"squad": "plain_text", "squad_v2": "squad_v2"}.items():
        for split, count in {"train": TRAIN[name], "validation": DEV}.items():
            path = f"rajpurkar__{name}/{config}/{split}"
            rng = draws.options.rng(f"{path}/unanswerable")
            meanings = draws.draw(path, count)
            if name == "squad_v2":
                meanings = [unanswerable(world, rng, m) if rng.random() < 1 / 3 else m for m in meanings]
            rows = draws.rows(path, "en", meanings, lambda i, ids=f"{name}-{split}": f"{ids}-{i:06d}")
            yield table(path, QA, rows)


def _tydiqa(draws: Questions) -> Iterator[Table]:
    """TyDiQA: all languages are in one file, distinguished by the id. The small train set is English."""
    folder = "google-research-datasets__tydiqa/secondary_task"

    def ids(code: str, offset: int = 0) -> Callable[[int], str]:
        language = "english" if code == "en" else code
        return lambda i: f"{language}-{7_919 * (offset + i + 1)}-{i % 3}"

    rows = []
    for code in draws.options.languages:
        meanings = draws.draw(f"tydiqa/validation/{code}", DEV)
        rows += draws.rows(f"{folder}/validation", code, meanings, ids(code))
    yield table(f"{folder}/validation", QA, rows)
    meanings = draws.draw("tydiqa/train", TRAIN["tydiqa"])
    yield table(f"{folder}/train", QA, draws.rows(f"{folder}/train", "en", meanings, ids("en", 1_000_000)))


def _lareqa(draws: Questions) -> Iterator[Table]:
    """LAReQA: parallel paragraphs with sentence breaks, as in XQuAD-R. The answer to a question is a sentence."""
    answer = pa.list_(pa.struct([("answer_start", INT64), ("text", STRING)]))
    qas = pa.list_(pa.struct([("id", STRING), ("question", STRING), ("answers", answer)]))
    types = schema(strings="title context", sentences=STRINGS, sentence_breaks=pa.list_(pa.list_(INT64)), qas=qas)
    meanings = draws.draw("lareqa", DEV // 2)
    for code in draws.options.languages:
        path = f"lareqa__xquad-r/{code}/test"
        rows = []
        for row_id, title, context, question, found in draws.rows(path, code, meanings, lambda i: f"lareqa-{i:06d}"):
            sentences = [part + "." for part in context.rstrip(".").split(". ")]
            starts = [sum(len(s) + 1 for s in sentences[:i]) for i in range(len(sentences))]
            breaks = [[start, start + len(s)] for start, s in zip(starts, sentences, strict=True)]
            answer = {"answer_start": found["answer_start"][0], "text": found["text"][0]}
            asked = {"id": row_id, "question": question, "answers": [answer]}
            rows.append((title, context, sentences, breaks, [asked]))
        yield table(path, types, rows)
