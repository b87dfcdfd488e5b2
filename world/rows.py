"""The rows of every data set: `tables(options)` yields one file after the other, in the Hub's columns.

Each data set draws from a random generator of its own, named by the seed and the data set, so that adding a language
or a data set leaves the test rows of the others as they were.
"""

import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import pyarrow as pa

from .language import COMMA, QUERY, STOP, TAGS, Language, Token, text
from .meaning import CONTRADICTION, ENTAILMENT, Clause, World

Table = tuple[str, dict[str, list], pa.Schema]  # path below the world's folder without its ending, columns, types

STRING, INT32, INT64 = pa.string(), pa.int32(), pa.int64()
NLI = pa.schema([("premise", STRING), ("hypothesis", STRING), ("label", INT64)])
GLUE_NLI = pa.schema([*NLI, ("idx", INT32)])
ANSWERS = pa.struct([("text", pa.list_(STRING)), ("answer_start", pa.list_(INT32))])
QA = pa.schema([(name, STRING) for name in ("id", "title", "context", "question")] + [("answers", ANSWERS)])
BITEXT = pa.schema([(name, STRING) for name in ("sentence1", "sentence2", "lang")])

DOCUMENTS = 24_000  # a language; at size 1, as all counts here
TRAIN = {"mnli": 6000, "xnli": 2000, "squad": 6000, "tydiqa": 500, "hellaswag": 6000, "udpos": 2000}
DEV, TEST = 300, 400
TATOEBA_PAIRS = 500
BUCC_SENTENCES, BUCC_PAIRS = 1000, 150
SLOTS = ("agent", "patient", "number", "place", "time")


@dataclass
class Options:
    """What is written: private-use language codes beside English, the seed, a factor on every count."""

    codes: list[str]
    seed: int
    size: float
    world: World = field(init=False)
    languages: dict[str, Language] = field(init=False)

    def __post_init__(self):
        self.world = World(self.seed)
        self.languages = {code: Language(code, self.world, self.seed) for code in ["en", *self.codes]}
        self.held_out: set[Clause] = set()  # clauses of retrieval tests; never told in the monolingual text

    @property
    def english(self) -> Language:
        return self.languages["en"]

    def rng(self, name: str) -> random.Random:
        """The generator of one data set or of one language's wording of it."""
        return random.Random(f"{self.seed}/{name}")

    def rows(self, count: int) -> int:
        """A count at this size, never below 8."""
        return max(8, round(count * self.size))


def tables(options: Options) -> Iterator[Table]:
    """Every file of the world. Retrieval tests come first: what they hold is kept out of the text that follows."""
    for make in (tatoeba, bucc, mnli_and_xnli, question_answering, hellaswag, udpos, wikipedia):
        yield from make(options)


def _columns(schema: pa.Schema, rows: Iterable[tuple]) -> dict[str, list]:
    rows = list(rows)
    return {name: [row[i] for row in rows] for i, name in enumerate(schema.names)}


def _unlike(seen: set, draw: Callable[[], tuple], count: int) -> list[tuple]:
    """`count` drawn meanings, none of them in `seen`, which then holds them too."""
    drawn = []
    while len(drawn) < count:
        item = draw()
        if item not in seen:
            seen.add(item)
            drawn.append(item)
    return drawn


def sentence(language: Language, rng: random.Random, clause: Clause) -> str:
    """One clause as a sentence."""
    return text([*language.clause(rng, clause), STOP])


# Monolingual text ----------------------------------------------------------------------------------------------


def document(world: World, language: Language, rng: random.Random) -> tuple[str, tuple[Clause, ...]]:
    """(text, its clauses): a story, a restatement, a denial, a question with its answer, or news of two kinds."""
    first = world.clause(rng)
    positive = first._replace(negated=False)
    kind = rng.random()
    if kind < 0.3:  # what happens next, as two sentences or one
        second = world.successor(rng, first, details=0.3, negated=0.0)
        clauses = (first, second) if rng.random() < 0.7 else (second, first)
        between = [STOP, *language.link("then")] if clauses[0] is first else language.link("because")
    elif kind < 0.55:  # said again in other words
        clauses = (positive, world.less_told(rng, positive))
        between = [STOP, *language.link("indeed")]
    elif kind < 0.65:  # denied, or the opposite said
        clauses = (positive, deny(world, rng, world.less_told(rng, positive)))
        between = [STOP, *language.link("however")]
    elif kind < 0.8:  # asked and answered
        slot = rng.choice(askable(positive))
        said = language.clause(rng, positive)
        answer = [token for token in said if answers(token, slot)]
        return text([*said, STOP, *language.question(rng, positive, slot), QUERY, *answer, STOP]), (positive,)
    else:  # more of the same agent, or something else
        clauses = (first, world.clause(rng, first.agent if rng.random() < 0.5 else None))
        between = language.link("and") if rng.random() < 0.3 else [STOP]
    told = [language.clause(rng, clause) for clause in clauses]
    return text([*told[0], *between, *told[1], STOP]), clauses


def deny(world: World, rng: random.Random, clause: Clause) -> Clause:
    """A clause that contradicts a positive one: its negation, or the opposite verb where there is one."""
    opposite = world.verb_opposite.get(clause.verb)
    if opposite and rng.random() < 0.5:
        return clause._replace(verb=opposite)
    return clause._replace(negated=True)


def wikipedia(options: Options) -> Iterator[Table]:
    """Documents of each language, drawn on their own: no two languages tell the same ones but by chance."""
    schema = pa.schema([(name, STRING) for name in ("id", "url", "title", "text")])
    for code, language in options.languages.items():
        rng = options.rng(f"wikipedia/{code}")
        texts: list[str] = []
        while len(texts) < options.rows(DOCUMENTS):
            told, clauses = document(options.world, language, rng)
            if options.held_out.isdisjoint(clauses):
                texts.append(told)
        rows = ((str(i), f"https://{code}.example.org/{i}", f"{code} {i}", told) for i, told in enumerate(texts))
        yield f"wikimedia__wikipedia/20231101.{code}/train", _columns(schema, rows), schema


# Sentence pairs ------------------------------------------------------------------------------------------------


def nli_meaning(world: World, rng: random.Random, label: int) -> tuple[Clause, Clause, int]:
    """(premise, hypothesis, label) in meanings.

    The hypothesis is drawn before the label is looked at, and never changed: on its own it says nothing of the label.
    """
    hypothesis = world.clause(rng, details=0.25, negated=0.3)
    while True:
        premise = _premise(world, rng, hypothesis, label)
        if world.relation(premise, hypothesis) == label:
            return premise, hypothesis, label


def _premise(world: World, rng: random.Random, h: Clause, label: int) -> Clause:
    positive = h._replace(negated=False)
    fuller = world.more_told(rng, _specific(world, rng, positive))
    if label == ENTAILMENT:
        return world.less_told(rng, h) if h.negated else fuller
    if label == CONTRADICTION:
        if h.negated:
            return fuller
        opposite = world.verb_opposite.get(h.verb)
        if opposite and rng.random() < 0.5:
            return fuller._replace(verb=opposite)
        return h._replace(negated=True)
    # Neutral: one thing is another, in a premise as negative or positive as those of the other labels.
    p = fuller._replace(negated=rng.random() < 0.3)
    other = world.clause(rng, details=1.0)
    change = rng.choice(("agent", "verb", "patient", "detail"))
    if change == "agent":
        return p._replace(agent=other.agent)
    if change == "verb":
        verb = rng.choice([v for v in world.verbs if world.patient_of[v].share(p.patient.noun) > 0])
        return p._replace(verb=verb)
    if change == "patient":
        patient = world.phrase(rng, world.patient_of[p.verb].draw(rng))
        return p._replace(patient=patient)
    if h.place:
        return p._replace(place=rng.choice((None, other.place)))
    if h.time:
        return p._replace(time=rng.choice((None, other.time)))
    return p._replace(agent=other.agent)


def _specific(world: World, rng: random.Random, clause: Clause) -> Clause:
    """The clause with a general noun made a particular one of its class, where the verb allows."""
    options = [n for n in world.patient_of[clause.verb].items if world.hypernym(n) == clause.patient.noun]
    if not options:
        return clause
    return clause._replace(patient=clause.patient._replace(noun=rng.choice(options)))


def _nli(options: Options, seen: set, name: str, count: int) -> list[tuple[Clause, Clause, int]]:
    """Meanings with the three labels in equal shares, in random order."""
    rng = options.rng(name)
    labels = [i % 3 for i in range(count)]
    rng.shuffle(labels)
    drawn = iter(labels)
    label = next(drawn)
    pairs = []
    while True:
        pair = nli_meaning(options.world, rng, label)
        if pair[:2] in seen:
            continue
        seen.add(pair[:2])
        pairs.append(pair)
        label = next(drawn, None)
        if label is None:
            return pairs


def _nli_rows(language: Language, rng: random.Random, pairs) -> Iterator[tuple]:
    for i, (premise, hypothesis, label) in enumerate(pairs):
        yield sentence(language, rng, premise), sentence(language, rng, hypothesis), label, i


def mnli_and_xnli(options: Options) -> Iterator[Table]:
    """English train and dev rows, and the parallel dev and test rows of every language."""
    seen: set = set()
    for split, count in {"validation": DEV, "test": TEST}.items():
        pairs = _nli(options, seen, f"xnli/{split}", options.rows(count))
        for code, language in options.languages.items():
            rows = _nli_rows(language, options.rng(f"xnli/{split}/{code}"), pairs)
            yield f"facebook__xnli/{code}/{split}", _columns(NLI, rows), NLI
    files = {
        "facebook__xnli/en/train": (TRAIN["xnli"], NLI),
        "nyu-mll__glue/mnli/train": (TRAIN["mnli"], GLUE_NLI),
        "nyu-mll__glue/mnli/validation_matched": (DEV, GLUE_NLI),
        "nyu-mll__glue/mnli/validation_mismatched": (DEV, GLUE_NLI),
    }
    for path, (count, schema) in files.items():
        pairs = _nli(options, seen, path, options.rows(count))
        rows = _nli_rows(options.english, options.rng(f"{path}/words"), pairs)
        yield path, _columns(schema, rows), schema


# Question answering --------------------------------------------------------------------------------------------


def askable(clause: Clause) -> list[str]:
    """The parts of a positive clause that one can ask for."""
    told = {"number": clause.patient.number, "place": clause.place, "time": clause.time}
    return [slot for slot in SLOTS if told.get(slot, True)]


def answers(token: Token, slot: str) -> bool:
    """Whether the token is part of the answer to a question for `slot`."""
    return token.tag == "NUM" if slot == "number" else token.slot == slot


def without(clause: Clause, slot: str) -> Clause:
    """The clause as far as a question for `slot` tells it."""
    if slot == "number":
        return clause._replace(patient=clause.patient._replace(number=None))
    return clause._replace(**{slot: None})


def qa_meaning(world: World, rng: random.Random) -> tuple[tuple[Clause, ...], Clause, Clause, str]:
    """(context clauses, the one that answers, the question's clause, the part asked for); no other clause answers.

    The question may leave place and time out. Some of the other clauses share agent or verb with the one asked for.
    """
    while True:
        told = world.clause(rng, details=0.6, negated=0.0)
        slot = rng.choice(askable(told))
        others = []
        for _ in range(rng.choice((2, 3))):
            draw = rng.random()
            agent = told.agent if draw < 0.3 else None
            verb = told.verb if draw > 0.7 else None
            others.append(world.clause(rng, agent, verb, details=0.6, negated=0.0))
        asked = told._replace(
            place=told.place if slot == "place" or rng.random() < 0.4 else None,
            time=told.time if slot == "time" or rng.random() < 0.4 else None,
        )
        if not any(_could_answer(world, asked, slot, other) for other in others):
            context = [*others, told]
            rng.shuffle(context)
            return tuple(context), told, asked, slot


def _could_answer(world: World, asked: Clause, slot: str, clause: Clause) -> bool:
    """Whether a clause could be taken to answer: it tells, or leaves open, all that the question tells."""

    def fits(a, b) -> bool:
        return a is None or b is None or a == b

    q, c = without(asked, slot), without(clause, slot)
    return (
        (slot == "agent" or q.agent.noun == c.agent.noun)
        and q.verb == c.verb
        and (slot == "patient" or q.patient.noun == c.patient.noun)
        and fits(q.place, c.place)
        and fits(q.time, c.time)
    )


def qa_row(language: Language, rng: random.Random, meaning, row_id: str, title: str) -> tuple:
    """(id, title, context, question, answers): the answer is the words of the part asked for, without article."""
    context, told, asked, slot = meaning
    parts, start, answer = [], -1, ""
    for clause in context:
        tokens = [*language.clause(rng, clause), STOP]
        if clause == told:
            hit = [i for i, token in enumerate(tokens) if answers(token, slot)]
            answer = text(tokens[hit[0] : hit[-1] + 1])
            before = text([*tokens[: hit[0]], tokens[hit[0]]])
            start = sum(len(part) + 1 for part in parts) + len(before) - len(tokens[hit[0]].word)
        parts.append(text(tokens))
    question = text([*language.question(rng, asked, slot), QUERY])
    return row_id, title, " ".join(parts), question, {"text": [answer], "answer_start": [start]}


def _qa(options: Options, seen: set, name: str, count: int) -> list[tuple]:
    rng = options.rng(name)
    return _unlike(seen, lambda: qa_meaning(options.world, rng), options.rows(count))


def question_answering(options: Options) -> Iterator[Table]:
    """SQuAD (English), XQuAD (every language, parallel) and TyDiQA (English train, other rows in every language)."""
    seen: set = set()

    def table(path: str, meanings, codes: Iterable[str], row_id: Callable[[str, int], str]) -> Table:
        rows = []
        for code in codes:
            rng = options.rng(f"{path}/{code}")
            language = options.languages[code]
            rows += [qa_row(language, rng, m, row_id(code, i), f"{code} {i}") for i, m in enumerate(meanings)]
        return path, _columns(QA, rows), QA

    xquad = _qa(options, seen, "xquad", TEST)
    for code in options.languages:
        yield table(f"google__xquad/xquad.{code}/validation", xquad, [code], lambda _, i: f"xquad-{i:06d}")
    for split, count in {"train": TRAIN["squad"], "validation": DEV}.items():
        meanings = _qa(options, seen, f"squad/{split}", count)
        ids = f"squad-{split}-"
        yield table(f"rajpurkar__squad/plain_text/{split}", meanings, ["en"], lambda _, i, ids=ids: f"{ids}{i:06d}")

    def tydiqa_id(code: str, i: int) -> str:
        return f"{'english' if code == 'en' else code}-{7_919 * (i + 1)}-{i % 3}"

    folder = "google-research-datasets__tydiqa/secondary_task"
    # Not parallel, as in TyDiQA: each language has questions of its own.
    rows = {name: [] for name in QA.names}
    for code in options.languages:
        meanings = _qa(options, seen, f"tydiqa/validation/{code}", DEV)
        _, columns, _ = table(f"{folder}/validation", meanings, [code], tydiqa_id)
        for name in rows:
            rows[name] += columns[name]
    yield f"{folder}/validation", rows, QA
    meanings = _qa(options, seen, "tydiqa/train", TRAIN["tydiqa"])
    yield table(f"{folder}/train", meanings, ["en"], lambda code, i: tydiqa_id(code, 1_000_000 + i))


# Multiple choice -----------------------------------------------------------------------------------------------


def choice_meaning(world: World, rng: random.Random) -> tuple[Clause, tuple[Clause, ...], int]:
    """(what happened, four continuations, the right one): only the right one has a verb that follows."""
    first = world.clause(rng, negated=0.0)
    follows = world.next_verb[first.verb]
    right = world.successor(rng, first, details=0.3, negated=0.0)
    wrong = [v for v in world.verbs if v != first.verb and not follows.share(v)]
    # Verbs that go with the patient come first, so that the patient alone does not give the answer away.
    rng.shuffle(wrong)
    wrong.sort(key=lambda v: world.patient_of[v].share(first.patient.noun) == 0)
    endings = [world.with_verb(rng, first, verb, details=0.3, negated=0.0) for verb in wrong[:3]]
    label = rng.randrange(4)
    endings.insert(label, right)
    return first, tuple(endings), label


def hellaswag(options: Options) -> Iterator[Table]:
    """What happened, and four ways to go on: English only."""
    names = ("activity_label", "ctx_a", "ctx_b", "ctx")
    last = ("source_id", "split", "split_type", "label")
    schema = pa.schema(
        [("ind", INT32)] + [(n, STRING) for n in names] + [("endings", pa.list_(STRING))] + [(n, STRING) for n in last]
    )
    seen: set = set()
    language = options.english
    for split, count in {"validation": DEV, "train": TRAIN["hellaswag"]}.items():
        rng = options.rng(f"hellaswag/{split}")
        rows = []
        for i, (first, endings, label) in enumerate(
            _unlike(seen, lambda rng=rng: choice_meaning(options.world, rng), options.rows(count))
        ):
            ctx_a = sentence(language, rng, first)
            ctx_b = text([*language.link("then"), *language._noun_phrase(rng, first.agent, "agent")])
            choices = [text([*language.predicate(rng, ending), STOP]) for ending in endings]
            activity = language.forms[first.verb][0]
            short = "val" if split == "validation" else split
            rows.append(
                (i, activity, ctx_a, ctx_b, f"{ctx_a} {ctx_b}", choices, f"world~{i}", short, "indomain", str(label))
            )
        yield f"Rowan__hellaswag/default/{split}", _columns(schema, rows), schema


# Tagging -------------------------------------------------------------------------------------------------------


def tagging_meaning(world: World, rng: random.Random) -> tuple:
    """(kind, first clause, second clause or asked part)."""
    first = world.clause(rng, details=0.6)
    kind = rng.choice(("plain", "plain", "and", "because", "then", "indeed", "question"))
    if kind == "question":
        first = first._replace(negated=False)
        return kind, first, rng.choice(askable(first))
    if kind == "plain":
        return kind, first, None
    return kind, first, world.successor(rng, first) if kind in ("because", "then") else world.clause(rng)


def tagged(language: Language, rng: random.Random, meaning: tuple) -> list[Token]:
    """The tagged words of one sentence."""
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
    """Words and their parts of speech: English train rows, dev and test rows of every language."""
    schema = pa.schema([("tokens", pa.list_(STRING)), ("pos_tags", pa.list_(INT64))])
    number = {tag: i for i, tag in enumerate(TAGS)}
    seen: set = set()
    for split, count in {"validation": DEV, "test": TEST, "train": TRAIN["udpos"]}.items():
        rng = options.rng(f"udpos/{split}")
        meanings = _unlike(seen, lambda rng=rng: tagging_meaning(options.world, rng), options.rows(count))
        for code in options.languages if split != "train" else ["en"]:
            words = options.rng(f"udpos/{split}/{code}")
            rows = []
            for meaning in meanings:
                tokens = tagged(options.languages[code], words, meaning)
                rows.append(([t.word for t in tokens], [number[t.tag] for t in tokens]))
            name = "English" if code == "en" else code
            yield f"google__xtreme/udpos.{name}/{split}", _columns(schema, rows), schema


# Retrieval -----------------------------------------------------------------------------------------------------


def _retrieval_clauses(options: Options, rng: random.Random, seen_english: set[str], count: int) -> list[tuple]:
    """(clause, its English sentence): all English sentences differ; the clauses are held out of the text."""
    rows = []
    while len(rows) < count:
        clause = options.world.clause(rng, details=0.7)
        if clause in options.held_out:
            continue
        english = sentence(options.english, rng, clause)
        if english not in seen_english:
            seen_english.add(english)
            options.held_out.add(clause)
            rows.append((clause, english))
    return rows


def tatoeba(options: Options) -> Iterator[Table]:
    """Sentence pairs, row i with row i; other sentences for each language, as in Tatoeba."""
    for code in options.codes:
        rng = options.rng(f"tatoeba/{code}")
        clauses = _retrieval_clauses(options, rng, set(), options.rows(TATOEBA_PAIRS))
        language = options.languages[code]
        rows = [(sentence(language, rng, clause), english, f"{code}-eng") for clause, english in clauses]
        yield f"mteb__tatoeba-bitext-mining/{code}-eng/test", _columns(BITEXT, rows), BITEXT


def bucc(options: Options) -> Iterator[Table]:
    """Two comparable corpora a language and split, and the few pairs hidden in them."""
    corpus = pa.schema([("id", STRING), ("text", STRING)])
    gold = pa.schema([("source_id", STRING), ("target_id", STRING)])
    for code in options.codes:
        language = options.languages[code]
        rng = options.rng(f"bucc/{code}")
        seen_english: set[str] = set()
        for split in ("validation", "test"):
            pairs = options.rows(BUCC_PAIRS)
            size = max(options.rows(BUCC_SENTENCES), 2 * pairs)
            clauses = _retrieval_clauses(options, rng, seen_english, 2 * size - pairs)
            # The first `pairs` clauses are told on both sides, the others on one.
            source = [(i, sentence(language, rng, c)) for i, (c, _) in enumerate(clauses[:size])]
            target = [(i, english) for i, (_, english) in enumerate(clauses[:pairs] + clauses[size:])]
            rng.shuffle(source)
            rng.shuffle(target)
            place = {}
            for side, rows in ((code, source), ("en", target)):
                ids = [f"{side}-{i:09d}" for i in range(1, len(rows) + 1)]
                place[side] = dict(zip([i for i, _ in rows], ids, strict=True))
                name = "target" if side == "en" else "source"
                columns = {"id": ids, "text": [words for _, words in rows]}
                yield f"bucc2018__{code}-en/{name}/{split}", columns, corpus
            links = [(place[code][i], place["en"][i]) for i in range(pairs)]
            rng.shuffle(links)
            yield f"bucc2018__{code}-en/gold/{split}", _columns(gold, links), gold
