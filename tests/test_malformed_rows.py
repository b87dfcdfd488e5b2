"""Generated rows of every form: accepted rows keep their meaning, and rows without a meaning are refused
in one line.

What rows say is written down here a second time, as plainly as can be. The cases are the same in every run;
HYPOTHESIS_SEED=n draws others.
"""

import functools
import gzip
import json
import math
import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_malformed import FORMS, VALUES, cases, damage, judged, sources, spoil

from tasks import get_task
from tasks import languages as codes
from tasks.errors import UserError
from tasks.pairs import get_pairs
from tasks.rows import Rows
from tasks.tagging import UPOS
from tasks.text import Wikipedia
from xstilts.train.code_switch import read_lexicons

NLI = ("entailment", "neutral", "contradiction")
PAIRS = {
    "xnli": ("premise", "hypothesis", NLI),
    "mnli": ("premise", "hypothesis", NLI),
    "pawsx": ("sentence1", "sentence2", ("not_paraphrase", "paraphrase")),
}
TAGS = {"udpos": ("pos_tags", UPOS), "panx": ("ner_tags", ("O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC"))}
SPANS = ("squad", "squad_v2", "tydiqa")
CHOICES = {
    "hellaswag": ("label", ("0", "1", "2", "3")),
    "copa": ("label", ("choice1", "choice2")),
    "siqa": ("label", ("1", "2", "3")),
    "csqa": ("answerKey", tuple("ABCDE")),
    "cosmosqa": ("label", ("0", "1", "2", "3")),
}
GOLD = {name: "label" for name in PAIRS} | {name: column for name, (column, _) in (TAGS | CHOICES).items()}


class Nonsense(Exception):
    """The rows say nothing."""


def need(true):
    if not true:
        raise Nonsense


def text(value):
    need(isinstance(value, str))
    return value


def label(value, names):
    """The number of a label: its name, its number, or its number in digits, unless the names are digits."""
    need(isinstance(value, str | int | float) and not isinstance(value, bool))
    if isinstance(value, float):
        need(math.isfinite(value) and value == int(value))
        value = int(value)
    if value in names:
        return names.index(value)
    digits = names[0].isdigit()
    known = {str(name if digits else number): number for number, name in enumerate(names)}
    need(str(value) in known)
    return known[str(value)]


def choices_of(name, row):
    if name == "hellaswag":
        need(isinstance(row["endings"], list))
        start = f"{row['ctx_b']} " if row["ctx_b"] and row["ctx_a"] is not None else ""
        return (row["ctx"] if row["ctx_a"] is None else row["ctx_a"]), [
            start + text(ending) for ending in row["endings"]
        ]
    if name == "copa":
        need(row["question"] in ("cause", "effect"))
        return f"{text(row['premise'])} What was the {row['question']}?", [row["choice1"], row["choice2"]]
    if name == "csqa":
        need(isinstance(row["choices"]["label"], list) and isinstance(row["choices"]["text"], list))
        need(sorted(row["choices"]["label"]) == list("ABCDE") and len(row["choices"]["text"]) == 5)
        return row["question"], [
            dict(zip(row["choices"]["label"], row["choices"]["text"], strict=True))[letter] for letter in "ABCDE"
        ]
    answers = ("answerA", "answerB", "answerC") if name == "siqa" else [f"answer{i}" for i in range(4)]
    return f"{text(row['context'])} {text(row['question'])}", [row[answer] for answer in answers]


def answers_of(row):
    given = row["answers"]
    texts, starts = (
        [one[k] for one in given] if isinstance(given, list) else given[k] for k in ("text", "answer_start")
    )
    need(isinstance(texts, list) and isinstance(starts, list) and len(texts) == len(starts))
    for start in starts:
        need(isinstance(start, int | float) and not isinstance(start, bool) and start == int(start))
    return list(map(text, texts))


def meaning(name, rows, language):
    """What the rows say, as `said` has it of what was loaded.

    Raises:
        Nonsense, or what Python raises where something is not there.
    """
    need(rows and all(isinstance(row, dict) for row in rows))
    if name in PAIRS:
        first, second, names = PAIRS[name]
        return [(text(row[first]), text(row[second]), label(row["label"], names)) for row in rows]
    if name in TAGS:
        column, names = TAGS[name]
        need(all(row["tokens"] and isinstance(row["tokens"], list) and isinstance(row[column], list) for row in rows))
        need(all(len(row["tokens"]) == len(row[column]) for row in rows))
        return [(list(map(text, row["tokens"])), [label(tag, names) for tag in row[column]]) for row in rows]
    if name in CHOICES:
        column, names = CHOICES[name]
        found = [(*choices_of(name, row), label(row[column], names)) for row in rows]
        need(all(len(choices) in (len(names), 4) and all(map(text, choices)) for _, choices, _ in found))
        return [(text(prompt), choices, number) for prompt, choices, number in found]
    if name in SPANS:
        if name == "tydiqa":
            rows = [row for row in rows if codes.normalize(text(row["id"]).partition("-")[0]) == language]
        need(len({text(row["id"]) for row in rows}) == len(rows))
        return [(row["id"], text(row["context"]), text(row["question"]), answers_of(row)) for row in rows]
    if name == "tatoeba":
        found = [(text(row["sentence1"]).rstrip("\r\n"), text(row["sentence2"]).rstrip("\r\n")) for row in rows]
        need(all(a.strip() and b.strip() for a, b in found))
        return found
    if name == "lareqa":
        return [
            (text(question["question"]), question["answers"][0]["text"]) for row in rows for question in row["qas"]
        ]
    mentions = [mention for row in rows for mention in row["mentions"]]
    return [
        (text(mention["example_id"]), text(mention["entity_id"]), mention["mention_span"]["text"])
        for mention in mentions
    ]


def said(name, examples):
    """What was loaded, in the words of `meaning`."""
    if name == "lareqa":
        where = dict(zip(examples.candidate_ids, examples.candidates, strict=True))
        return [(query, [where[i] for i in gold]) for query, gold in zip(examples.queries, examples.gold, strict=True)]
    if name == "mewslix":
        return [
            (i, gold[0], query)
            for i, gold, query in zip(examples.query_ids, examples.gold, examples.queries, strict=True)
        ]
    columns = {
        "sentence_pair": ("text_a", "text_b", "label"),
        "tagging": ("tokens", "tags"),
        "retrieval": ("source", "target"),
        "multiple_choice": ("prompt", "choices", "label"),
        "span": ("id", "context", "question", "answers"),
    }[get_task(name).form]
    rows = list(zip(*(examples[column][:] for column in columns), strict=True))
    if name not in SPANS:
        return rows
    for _, context, _, answers in rows:
        for answer, start in zip(answers["text"], answers["answer_start"], strict=True):
            assert start >= 0 or name != "squad"  # the offsets themselves have tests of their own
            assert context[start : start + len(answer)] == answer or start < 0
    return [(*row[:3], row[3]["text"]) for row in rows]


def agree(name, loaded, expected):
    if name == "lareqa":  # a question whose answer begins in no sentence is left out, and that is noted
        return set(query for query, _ in loaded) <= set(query for query, _ in expected) and len(loaded) <= len(
            expected
        )
    if name == "mewslix":
        return [(i, entity) for i, entity, _ in loaded] == [(i, entity) for i, entity, _ in expected] and all(
            query.startswith(" ".join(span.split()))
            for (_, _, query), (_, _, span) in zip(loaded, expected, strict=True)
        )
    return loaded == expected


def case(world, root, data):
    """(task, split, language, JSON Lines file below `root`, its rows) of a drawn task; what else it needs is there."""
    name = data.draw(st.sampled_from(sorted(FORMS)))
    split, language, file, table = sources(world)[name]
    language = "en" if name == "tydiqa" else language  # the first rows of its file
    if name == "mewslix":
        shutil.copytree(
            world / "izhx__mewsli-x" / "candidate_entities", root / "izhx__mewsli-x" / "candidate_entities"
        )
    path = (root / file).with_suffix(".jsonl")
    path.parent.mkdir(parents=True, exist_ok=True)
    return name, split, language, path, table.to_pylist()


def lines(rows):
    return b"".join(json.dumps(row, default=str).encode("utf-8", "surrogatepass") + b"\n" for row in rows)


@cases(200)
@given(data=st.data())
def test_what_is_taken_means_what_the_rows_say(data, tiny_world, tmp_path_factory):
    root = tmp_path_factory.mktemp("rows")
    name, split, language, path, rows = case(tiny_world, root, data)
    spoilt = spoil(data, rows)
    path.write_bytes(lines(spoilt) if isinstance(spoilt, list) else b"")
    with judged():
        loaded = said(name, get_task(name).load(split, language, Rows(root)))
        assert agree(name, loaded, meaning(name, json.loads(json.dumps(spoilt)), language)), (name, spoilt, loaded)
    shutil.rmtree(root)


NO_GOLD = [
    -1,
    "-1",
    "",
    None,
    True,
    False,
    " ",
    "none",
    0.5,
    math.nan,
    math.inf,
    -2,
    -100,
    99,
    2**70,
    [],
    [0],
    {},
    {"a": 0},
    "0.0",
    "_",
    "?",
    "NOUN ",
]


@cases(100)
@given(data=st.data())
def test_invalid_gold_is_refused_with_its_row(data, tiny_world, tmp_path_factory):
    root = tmp_path_factory.mktemp("gold")
    name, split, language, path, rows = case(tiny_world, root, data)
    if name in GOLD:
        row, value = data.draw(st.integers(0, len(rows) - 1)), data.draw(st.sampled_from(NO_GOLD))
        old = rows[row][GOLD[name]]
        tag = data.draw(st.integers(0, len(old) - 1)) if isinstance(old, list) else None
        rows[row][GOLD[name]] = value if tag is None else [*old[:tag], value, *old[tag + 1 :]]
        path.write_bytes(lines(rows))
        with pytest.raises(UserError) as caught:
            get_task(name).load(split, language, Rows(root))
        told = str(caught.value)
        # where types differ, the first row that differs from those before
        named = {row + 1, 2} if row == 0 else {row + 1}
        assert f"'{GOLD[name]}'" in told and "\n" not in told, (rows[row], told)
        assert any(f"{path}, row {number}," in told for number in named), (rows[row], told)
    shutil.rmtree(root)


@cases(100)
@given(data=st.data())
def test_the_same_rows_otherwise_written_are_the_same(data, tiny_world, tmp_path_factory):
    """Blank lines, other line ends, a byte order mark, gzip, other orders of names, columns nobody reads: whatever
    they hold."""
    root = tmp_path_factory.mktemp("same")
    name, split, language, path, rows = case(tiny_world, root, data)
    read = set(rows[0])
    path.write_bytes(lines(rows))
    before = said(name, get_task(name).load(split, language, Rows(root)))
    more = data.draw(
        st.lists(st.dictionaries(st.text(max_size=4), VALUES, max_size=2), min_size=len(rows), max_size=len(rows))
    )
    written = []
    for row, extra in zip(rows, more, strict=True):
        both = {key: value for key, value in extra.items() if key not in read} | row
        order = data.draw(st.permutations(sorted(both)))
        written.append(lines([{key: both[key] for key in order}])[:-1])
    end = data.draw(st.sampled_from([b"\n", b"\r\n", b"\n\n", b"\n  \t\n"]))
    content = (
        data.draw(st.sampled_from([b"", b"\xef\xbb\xbf"])) + end.join(written) + data.draw(st.sampled_from([b"", end]))
    )
    if data.draw(st.booleans()):
        path.unlink()
        path = path.with_suffix(".jsonl.gz")
        content = gzip.compress(content)
    path.write_bytes(content)
    assert said(name, get_task(name).load(split, language, Rows(root))) == before
    shutil.rmtree(root)


OTHERS = {  # what is no task of the registry with one file of rows: its file, and how it is read
    "bucc": ("bucc2018__qaa-en/gold/test", lambda root: get_task("bucc").load("test", "qaa", Rows(root))),
    "bucc source": ("bucc2018__qaa-en/source/test", lambda root: get_task("bucc").load("test", "qaa", Rows(root))),
    "candidates": (
        "izhx__mewsli-x/candidate_entities/test",
        lambda root: get_task("mewslix").load("test", "qaa", Rows(root)),
    ),
    "mewslix_dual": (
        "izhx__mewsli-x/wikipedia_pairs/train",
        lambda root: get_pairs("mewslix_dual").load("train", "en", Rows(root)),
    ),
    "squad_dual": (
        "rajpurkar__squad/plain_text/train",
        lambda root: get_pairs("squad_dual").load("train", "en", Rows(root)),
    ),
    "nli_dual": ("nyu-mll__glue/mnli/train", lambda root: get_pairs("nli_dual").load("train", "en", Rows(root))),
    "wikipedia": ("wikimedia__wikipedia/20231101.en/train", lambda root: Wikipedia().load("train", "en", Rows(root))),
    "lexicon": (
        "bilingual-lexicons__world/en-qaa/train",
        lambda root: read_lexicons(str(root / "bilingual-lexicons__world")),
    ),
}


@functools.cache
def first_rows(path):
    import pyarrow.parquet as pq

    return pq.read_table(path).slice(0, 3).to_pylist()


@cases(150)
@given(data=st.data())
def test_pairs_pools_and_lexicons(data, tiny_world, tmp_path_factory):
    root = tmp_path_factory.mktemp("others")
    file, read = OTHERS[data.draw(st.sampled_from(sorted(OTHERS)))]
    folder = file.partition("/")[0]
    shutil.copytree(tiny_world / folder, root / folder)
    rows = spoil(data, first_rows(tiny_world / f"{file}.parquet"))
    (root / f"{file}.parquet").unlink()
    (root / f"{file}.jsonl").write_bytes(lines(rows) if isinstance(rows, list) else b"")
    with judged():
        read(root)
    shutil.rmtree(root)


CCG = [
    b"the|DT|NP/N dog|NN|N runs|VBZ|S\\NP\n",
    b"the dog runs\tNP/N N S\\NP\n",
    b"ID=1\n(<T S 0 2> (<L NP/N DT DT the NP/N>) (<L N NN NN dog N>))\n",
]


@cases(80)
@given(data=st.data())
def test_text_files(data, tmp_path_factory):
    """CCGbank and lexicons as text: words never shift against what stands beside them."""
    root = tmp_path_factory.mktemp("text")
    (root / "ccgbank").mkdir()
    (root / "ccgbank" / "train.txt").write_bytes(damage(data, data.draw(st.sampled_from(CCG)) * 3))
    with judged():
        examples = get_task("ccg").load("train", "en", Rows(root))
        assert all(
            len(words) == len(tags) > 0 for words, tags in zip(examples["tokens"], examples["tags"], strict=True)
        )
    (root / "en-de.txt").write_bytes(damage(data, b"dog\tHund\ncat Katze\n" * 3))
    with judged():
        lexicons, _ = read_lexicons(str(root))
        assert all(word and all(translations) for word, translations in lexicons["de"].items())
    shutil.rmtree(root)
