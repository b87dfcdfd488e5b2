"""Gold of every form: a file's own label names are used, and hidden, missing or invalid gold is refused
with its row."""

import json
import shutil

import pyarrow as pa
import pytest
from datasets import ClassLabel, Dataset, Features, List, Value
from pyarrow import parquet

from tasks import checks, get_task
from tasks.errors import UserError
from tasks.multiple_choice import MultipleChoice
from tasks.pairs import get_pairs
from tasks.rows import Rows
from tasks.sentence_pair import SentencePair
from tasks.source import Source
from tasks.tagging import UPOS, Tagging
from tasks.topic import Sentence
from xstilts.train import featurizing

NLI = ["entailment", "neutral", "contradiction"]
NER = ["O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC"]
PAIR = {"premise": "a man walks", "hypothesis": "somebody moves"}
SENTENCES = {"sentence1": "a man walks", "sentence2": "somebody moves"}
SIQA = {"context": "c", "question": "q", "answerA": "a", "answerB": "b", "answerC": "c"}
ENDINGS = {"ctx_a": "A", "ctx_b": "b", "ctx": "A b", "endings": list("abcd")}
LETTERS = {"question": "q", "choices": {"label": list("ABCDE"), "text": list("abcde")}}
# task, split: file, a row without its gold, its column, what the source calls the labels in the order of our numbers
CHOICES = {
    ("xnli", "test"): ("facebook__xnli/en/test", PAIR, "label", NLI),
    ("mnli", "dev"): ("nyu-mll__glue/mnli/validation_matched", PAIR, "label", NLI),
    ("pawsx", "test"): ("google-research-datasets__paws-x/en/test", SENTENCES, "label", ["0", "1"]),
    ("rte", "dev"): ("nyu-mll__glue/rte/validation", SENTENCES, "label", ["entailment", "not_entailment"]),
    ("qqp", "dev"): (
        "nyu-mll__glue/qqp/validation",
        {"question1": "a", "question2": "b"},
        "label",
        ["not_duplicate", "duplicate"],
    ),
    ("copa", "dev"): (
        "aps__super_glue/copa/validation",
        {"premise": "p", "choice1": "a", "choice2": "b", "question": "cause"},
        "label",
        ["choice1", "choice2"],
    ),
    ("siqa", "dev"): ("lighteval__siqa/default/validation", SIQA, "label", ["1", "2", "3"]),
    ("hellaswag", "dev"): ("Rowan__hellaswag/default/validation", ENDINGS, "label", ["0", "1", "2", "3"]),
    ("csqa", "dev"): ("tau__commonsense_qa/default/validation", LETTERS, "answerKey", list("ABCDE")),
}
TAGS = {
    ("udpos", "test"): ("google__xtreme/udpos.English/test", {}, "pos_tags", list(UPOS)),
    ("panx", "test"): ("google__xtreme/PAN-X.en/test", {}, "ner_tags", NER),
}
FORMS = CHOICES | TAGS
one_of_each = pytest.mark.parametrize("name, split", FORMS)


def rows_of(name, split, numbers, spell=lambda number: number):
    """Rows with these labels, in turn; of a tagging task sentences of two words."""
    _, row, column, _ = FORMS[name, split]
    if (name, split) in TAGS:
        return [
            {"tokens": ["dogs", "run"], column: [spell(a), spell(b)]}
            for a, b in zip(numbers[::2], numbers[1::2], strict=True)
        ]
    return [row | {column: spell(number)} for number in numbers]


def gold_of(name, split, root):
    """The numbers of the labels, in turn."""
    rows = Rows(root)
    examples = get_task(name).load(split, "en", rows)
    gold = examples["tags" if "tags" in examples.column_names else "label"][:]
    return [n for tags in gold for n in tags] if gold and isinstance(gold[0], list) else gold, rows.records[-1].get(
        "notes", []
    )


def write(root, name, split, rows, names=None, width="int64"):
    """As JSON Lines, or as parquet with the names of a ClassLabel, in integers of a width."""
    where, _, column, _ = FORMS[name, split]
    path = root / f"{where}.{'parquet' if names else 'jsonl'}"
    path.parent.mkdir(parents=True, exist_ok=True)
    if not names:
        return path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    plain = Dataset.from_list(rows)
    label = ClassLabel(names=names)
    named = plain.cast(Features(plain.features | {column: List(label) if (name, split) in TAGS else label}))
    table = named.data.table
    kind = pa.list_(getattr(pa, width)()) if (name, split) in TAGS else getattr(pa, width)()
    at = table.column_names.index(column)
    parquet.write_table(table.set_column(at, column, table[column].cast(kind)), path)


@one_of_each
@pytest.mark.parametrize("width", ["int64", "int8"])
def test_a_files_own_names_are_obeyed(name, split, width, tmp_path):
    """Integers were read in our order, whatever the file called them: a perfect answer scored 0."""
    names = FORMS[name, split][3]
    numbers = [i % len(names) for i in range(2 * len(names))]
    other = names[1:] + names[:1]
    write(
        tmp_path, name, split, rows_of(name, split, numbers, lambda number: other.index(names[number])), other, width
    )
    gold, notes = gold_of(name, split, tmp_path)
    assert gold == numbers
    assert any(FORMS[name, split][2] in note and ", ".join(other) in note for note in notes), (
        "what was mended is written down"
    )
    write(tmp_path, name, split, rows_of(name, split, numbers, lambda number: number), names, width)
    assert gold_of(name, split, tmp_path) == (numbers, [] if name != "qqp" else notes[-1:])


@one_of_each
@pytest.mark.parametrize("width", ["float64", "string"])
def test_a_files_own_names_beside_numbers_of_another_type_are_refused(name, split, width, tmp_path):
    """They were left aside, and the numbers read in our order."""
    names = FORMS[name, split][3]
    if width == "string" and names[0].isdigit():
        return  # digits are the names themselves
    numbers = [i % len(names) for i in range(2 * len(names))]
    write(tmp_path, name, split, rows_of(name, split, numbers), names[::-1], width)
    with pytest.raises(UserError, match=rf"column '{FORMS[name, split][2]}'.*{names[-1]}.*expected integers"):
        gold_of(name, split, tmp_path)


@one_of_each
def test_names_of_the_hub_are_obeyed(name, split, monkeypatch):
    names = FORMS[name, split][3]
    numbers, other = [i % len(names) for i in range(2 * len(names))], names[::-1]
    plain = Dataset.from_list(rows_of(name, split, numbers, lambda number: other.index(names[number])))
    label = ClassLabel(names=other)
    data = plain.cast(
        Features(plain.features | {FORMS[name, split][2]: List(label) if (name, split) in TAGS else label})
    )
    monkeypatch.setattr("tasks.hub.load", lambda *where: (data, "0"))
    monkeypatch.setattr("tasks.hub.load_file", lambda *where: data)
    assert gold_of(name, split, "hub")[0] == numbers


@one_of_each
def test_names_nobody_knows_are_refused(name, split, tmp_path):
    names = [f"LABEL_{i}" for i in range(len(FORMS[name, split][3]))]
    write(tmp_path, name, split, rows_of(name, split, [1, 0]), names)
    with pytest.raises(UserError, match=f"row 1, column '{FORMS[name, split][2]}'.*'LABEL_1' by the file's own names"):
        gold_of(name, split, tmp_path)


def test_a_name_too_many_hurts_only_where_it_is_used(tmp_path):
    """Universal Dependencies has `_` among its tags."""
    names = ["_", *UPOS]
    write(tmp_path, "udpos", "test", rows_of("udpos", "test", [1, 17]), names)
    assert gold_of("udpos", "test", tmp_path)[0] == [0, 16]
    write(tmp_path, "udpos", "test", rows_of("udpos", "test", [1, 0]), names)
    with pytest.raises(UserError, match="row 1, column 'pos_tags', word 2: 0 .'_' by"):
        gold_of("udpos", "test", tmp_path)


@pytest.mark.parametrize(
    "metadata, told",
    [
        (b"{not json", "names of the labels are unknown"),
        (b"[1]", "names of the labels are unknown"),
        (b'{"info": {"features": {"label": {"_type": "Nothing"}}}}', "names of the labels are unknown"),
        (
            b'{"info": {"features": {"label": {"names": ["a", "a", "b"], "_type": "ClassLabel"}}}}',
            "names of the labels are unknown",
        ),
        (b'{"info": {"features": {"x": {"_type": "Nothing"}}}}', None),
        (b'{"info": {"features": {}}}', None),
        (b'{"info": null}', None),
        (b'{"info": {"features": {"gone": {"dtype": "string", "_type": "Value"}}}}', None),
        (b"{}", None),
    ],
)
def test_what_a_file_says_of_itself(metadata, told, tmp_path):
    """Damaged, of columns that are not there, of a later version: refused only where the labels' names may be in
    it."""
    path = tmp_path / "facebook__xnli/en/test.parquet"
    path.parent.mkdir(parents=True)
    table = pa.table({"premise": ["a"] * 3, "hypothesis": ["b"] * 3, "label": [0, 1, 2], "x": [1, 2, 3]})
    parquet.write_table(table.replace_schema_metadata({b"huggingface": metadata}), path)
    if told:
        with pytest.raises(UserError, match=f"test.parquet.*{told}"):
            gold_of("xnli", "test", tmp_path)
    else:
        assert gold_of("xnli", "test", tmp_path)[0] == [0, 1, 2]


def test_text_with_names_beside_it_is_text(tmp_path):
    path = tmp_path / "facebook__xnli/en/test.parquet"
    path.parent.mkdir(parents=True)
    metadata = json.dumps({"info": {"features": {"label": {"names": NLI[::-1], "_type": "ClassLabel"}}}}).encode()
    table = pa.table({"premise": ["a"] * 3, "hypothesis": ["b"] * 3, "label": NLI})
    parquet.write_table(table.replace_schema_metadata({b"huggingface": metadata}), path)
    assert gold_of("xnli", "test", tmp_path)[0] == [0, 1, 2]
    table = table.set_column(2, "label", pa.array([*NLI[:2], None]))
    parquet.write_table(table.replace_schema_metadata({b"huggingface": metadata}), path)
    with pytest.raises(UserError, match="row 3, column 'label': empty"):
        gold_of("xnli", "test", tmp_path)


def kind(name, number):
    return number(name) if name.isdigit() else name


@one_of_each
def test_every_spelling_is_the_same_label(name, split, tmp_path, tokenizer):
    """Tags given as names crashed in the collator."""
    names = FORMS[name, split][3]
    digits = names[0].isdigit() or name == "csqa"  # then names are the numbers themselves, or numbers are refused
    numbers = [i % len(names) for i in range(2 * len(names))]
    spellings = [
        lambda n: names[n],
        lambda n: kind(names[n], int) if digits else n,
        lambda n: kind(names[n], float) if digits else float(n),
        lambda n: names[n] if digits else str(n),
    ]
    for spell in spellings:
        write(tmp_path, name, split, rows_of(name, split, numbers, spell))
        assert gold_of(name, split, tmp_path)[0] == numbers
        task = get_task(name)
        examples = task.load(split, "en", Rows(tmp_path))
        features = featurizing.featurize(task, examples, tokenizer, 48, True, "spelling")
        labels = [
            label for row in features["labels"] for label in (row if isinstance(row, list) else [row]) if label != -100
        ]
        assert labels == numbers and {type(label) for label in labels} == {int}
        assert task.score(task.gold(examples), examples, "en")["accuracy"] == 100


class Stars(Sentence):
    name = "stars"
    labels = ("5", "4", "3", "2", "1")
    sources = (Source("me/stars", "all", {"train": "train", "dev": "dev", "test": "test"}),)


class Halves(Stars):
    name = "halves"
    labels = ("1.0", "0", "0.5")


class Unnamed(Stars):
    name = "unnamed"
    labels = ("yes", "1", "0")  # 1 is the second label, whatever else


class Pair(SentencePair):
    name = "pair"
    labels = ("1", "0")
    sources = Stars.sources


class Answers(MultipleChoice):
    name, answers, n_choices = "answers", ("2", "1"), 2
    columns, answer = ("prompt", "choices", "label"), "label"
    sources = Stars.sources

    def row(self, row):
        return {"prompt": row["prompt"], "choices": row["choices"]}


class Tags(Tagging):
    name, labels = "tags", ("1", "0")
    columns = ("tokens", "label")
    sources = Stars.sources


def flat(column):
    return [n for row in column for n in (row if isinstance(row, list) else [row])]


@pytest.mark.parametrize("kind", [Stars, Halves, Unnamed, Pair, Answers, Tags])
def test_labels_that_are_numbers_are_names_in_every_spelling(kind, tmp_path, monkeypatch, tokenizer):
    """One split spells them as text, another as integers, a third as fractions or with a ClassLabel's own numbers."""
    task = kind()
    names = task.label_names
    where = "me__stars/all/dev"
    monkeypatch.setitem(FORMS, (task.name, "dev"), (where, {}, "label", names))
    if kind is Tags:
        monkeypatch.setitem(TAGS, (task.name, "dev"), FORMS[task.name, "dev"])
    content = {"text": "a", "premise": "a", "hypothesis": "b", "prompt": "a", "choices": ["a", "b"]}
    numbers = [i % len(names) for i in range(2 * len(names))]
    spellings = [str] if kind is Unnamed else [str, float] + [lambda name: int(float(name))] * (kind is not Halves)
    for spell in spellings:
        rows = [content | row for row in rows_of(task.name, "dev", numbers, lambda n, spell=spell: spell(names[n]))]
        write(tmp_path, task.name, "dev", rows)
        examples = task.load("dev", "en", Rows(tmp_path))
        assert flat(examples["tags" if kind is Tags else "label"]) == numbers
        features = featurizing.featurize(task, examples, tokenizer, 48, True, "names")
        assert [n for n in flat(features["labels"]) if n != -100] == numbers
    (tmp_path / f"{where}.jsonl").unlink()
    other = sorted(names)
    rows = [content | row for row in rows_of(task.name, "dev", numbers, lambda n: other.index(names[n]))]
    write(tmp_path, task.name, "dev", rows, other)
    examples = task.load("dev", "en", Rows(tmp_path))
    assert flat(examples["tags" if kind is Tags else "label"]) == numbers


@pytest.mark.parametrize("names", [("1", "0"), ("1", "yes"), ("yes", "0"), ("0.5", "1.0", "0")])
def test_numbers_are_never_two_labels(names):
    table = checks.label_numbers(names)
    assert [table[name] for name in names] == list(range(len(names)))
    for number in (0, 1, 0.5):
        expected = [i for i, name in enumerate(names) if name[0].isdigit() and float(name) == number]
        assert [table[number]] == expected if expected else number not in table


@pytest.mark.parametrize("names", [("-1", "0", "1"), ("a", ""), ("a", "b", "a"), ("1", "01"), ("1.0", "1")])
def test_labels_that_cannot_be_told_apart_are_refused(names):
    with pytest.raises(UserError, match="^labels: "):
        checks.label_numbers(names)


def test_computed_labels_are_part_of_the_cache_key(tmp_path, tokenizer, monkeypatch):
    """A class may read its labels from a file: its source code is the same when they change."""
    write(tmp_path, "mnli", "dev", rows_of("mnli", "dev", [0, 1, 2]))
    task, found = get_task("mnli"), []
    for names in (NLI, NLI[::-1]):
        monkeypatch.setattr(task, "labels", tuple(names), raising=False)
        write(tmp_path, "mnli", "dev", rows_of("mnli", "dev", range(3), lambda n: NLI[n]))
        examples = task.load("dev", "en", Rows(tmp_path))
        found.append(featurizing.featurize(task, examples, tokenizer, 48, True, "computed")["labels"][:])
    assert found == [[0, 1, 2], [2, 1, 0]]


@one_of_each
@pytest.mark.parametrize(
    "value",
    [-1, "-1", "", None, True, "no label", " ", 0.5, float("nan"), -2, 99, -100, [0], {"a": 0}, "Entailment", "0.0"],
)
def test_invalid_gold_is_refused_with_its_row(name, split, value, tmp_path):
    """Of tags -1 and "" became gold of the last label, and were scored."""
    named = isinstance(value, str) or name == "csqa"
    fine = FORMS[name, split][3][0] if named else 1.0 if name == "siqa" else 0.0
    rows = rows_of(name, split, [0] * 6, lambda number: fine)
    column = FORMS[name, split][2]
    rows[2][column] = [fine, value] if (name, split) in TAGS else value
    write(tmp_path, name, split, rows)
    with pytest.raises(UserError, match=f"{FORMS[name, split][0]}.jsonl, row 3, column '{column}'"):
        gold_of(name, split, tmp_path)
    for row in rows:  # the same throughout: no other row says what it should be
        row[column] = [value, value] if (name, split) in TAGS else value
    write(tmp_path, name, split, rows)
    with pytest.raises(UserError, match=f"{FORMS[name, split][0]}.jsonl, row 1, column '{column}'"):
        gold_of(name, split, tmp_path)


def test_snli_drops_and_counts_pairs_without_gold(tmp_path):
    """Its annotators did not agree on them; nothing else is dropped."""
    path = tmp_path / "stanfordnlp__snli/plain_text/train.jsonl"
    path.parent.mkdir(parents=True)
    for values, kept, dropped in (([0, -1, 2, -1], [0, 2], 2), (["neutral", "", "-1"], [1], 2)):
        path.write_text("".join(json.dumps(PAIR | {"label": value}) + "\n" for value in values))
        rows = Rows(tmp_path)
        assert get_task("snli").load("train", "en", rows)["label"][:] == kept
        assert rows.records[0]["notes"] == [f"{dropped} rows without gold dropped"]
    for value in (None, "-", 3):
        path.write_text(json.dumps(PAIR | {"label": value}) + "\n")
        with pytest.raises(UserError, match="row 1, column 'label'"):
            get_task("snli").load("train", "en", rows)


@pytest.mark.parametrize(
    "words, tags, told",
    [
        ("ab", [7, 7], "row 1, column 'tokens': 'ab' .text., expected a list"),
        (["a", "b"], "77", "row 1, column 'pos_tags'.*a list"),
        (None, [7], "row 1, column 'tokens'.*null"),
        (["a"], None, "row 1, column 'pos_tags'.*null"),
        (["a", None], [7, 7], "row 1, column 'tokens'.*null"),
        ([], [], "row 1"),
        (["a", "b"], [7], "row 1.*one tag per word"),
        ([["a"], ["b"]], [7, 7], "row 1, column 'tokens'"),
        ([1, 2], [7, 7], "row 1, column 'tokens'.*expected a word"),
        (["a", "b"], [[7], [7]], "row 1, column 'pos_tags', word 1"),
    ],
)
def test_invalid_sentences(words, tags, told, tmp_path):
    """The letters of a text were taken for words."""
    write(tmp_path, "udpos", "test", [{"tokens": words, "pos_tags": tags}])
    with pytest.raises(UserError, match=told):
        gold_of("udpos", "test", tmp_path)


# ---- CCG ------------------------------------------------------------------------------------------------------------


def ccg(root, content, suffix="txt", split="train"):
    path = root / f"ccgbank/{split}.{suffix}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


@pytest.mark.parametrize("content", ["the|DT|NP/N dog|NN|\n", "the|DT|-1 dog|NN|N\n", "the dog\tNP/N -1\n"])
def test_words_without_category_are_refused(content, tmp_path):
    ccg(tmp_path, "a\tN\n" + content)
    with pytest.raises(UserError, match="train.txt, line 2: the word .* has no category"):
        get_task("ccg").load("train", "en", Rows(tmp_path))


def test_a_leaf_that_is_damaged_does_not_leave_its_word_out(tmp_path):
    ccg(tmp_path, "ID=1\n(<T S 0 2> (<L NP/N DT DT the NP/N>) (<L N NN NN dog N))\n")
    with pytest.raises(UserError, match="train.txt, line 2: .* is neither"):
        get_task("ccg").load("train", "en", Rows(tmp_path))


@pytest.mark.parametrize("tags", [["N", ""], ["N", "-1"], ["N", None], [1, 2], "NN", None, ["N"]])
def test_rows_without_category_are_refused(tags, tmp_path):
    path = tmp_path / "ccgbank/default/train.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"tokens": ["a", "b"], "tags": tags}) + "\n")
    with pytest.raises(UserError, match="train.jsonl, row 1"):
        get_task("ccg").load("train", "en", Rows(tmp_path))


def test_categories_by_the_files_own_names(tmp_path):
    path = tmp_path / "ccgbank/default/train.parquet"
    path.parent.mkdir(parents=True)
    features = Features({"tokens": List(Value("string")), "tags": List(ClassLabel(names=["NP/N", "N"]))})
    Dataset.from_dict({"tokens": [["the", "dog"]], "tags": [[0, 1]]}, features=features).to_parquet(path)
    task = get_task("ccg")
    assert task.gold(task.load("train", "en", Rows(tmp_path))) == [["NP/N", "N"]]


# ---- retrieval and ranking ------------------------------------------------------------------------------------------


def paragraph(i, **question):
    return {
        "context": "Ada ran. Bob fell.",
        "sentence_breaks": [[0, 8], [9, 18]],
        "qas": [{"id": f"q{i}", "question": "who ?", "answers": [{"text": "Bob", "answer_start": 9}]} | question],
    }


@pytest.mark.parametrize(
    "answers",
    [
        [{"text": "", "answer_start": 0}],
        [],
        None,
        [{"text": "Bob", "answer_start": -1}],
        [{"text": "Bob", "answer_start": 3}],
        [{"text": "Bob", "answer_start": 9.5}],
        [{"text": "Bob", "answer_start": None}],
        [{"text": None, "answer_start": 9}],
    ],
)
def test_lareqa_without_gold_is_refused(answers, tmp_path):
    """The first sentence was the gold of a question whose answer was stripped."""
    path = tmp_path / "lareqa__xquad-r/en/test.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in [paragraph(1), paragraph(2, answers=answers)]))
    with pytest.raises(UserError, match="test.jsonl, row 2"):
        get_task("lareqa").load("test", "en", Rows(tmp_path))


@pytest.mark.parametrize(
    "breaks", [[[-9, 8], [9, 18]], [[0, 8], [9, 99]], [[0, 18], [9, 18]], [[9, 9]], None, [0, 8], "ab", [[0, 8, 9]]]
)
def test_lareqa_sentences_lie_in_the_context_one_after_the_other(breaks, tmp_path):
    path = tmp_path / "lareqa__xquad-r/en/test.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text(
        "".join(json.dumps(row) + "\n" for row in [paragraph(1), paragraph(2) | {"sentence_breaks": breaks}])
    )
    with pytest.raises(UserError, match="test.jsonl, row 2"):
        get_task("lareqa").load("test", "en", Rows(tmp_path))


def mention(i, **changes):
    return {
        "example_id": f"m{i}",
        "entity_id": "Q1",
        "mention_span": {"text": "Bonn", "start": 6, "end": 10},
    } | changes


@pytest.mark.parametrize(
    "changes",
    [
        {"entity_id": ""},
        {"entity_id": None},
        {"entity_id": "-1"},
        {"example_id": None},
        {"example_id": "m1"},
        {"mention_span": None},
        {"mention_span": {"text": "Bonn", "start": -11, "end": -7}},
        {"mention_span": {"text": "Bonn", "start": 5, "end": 9}},
        {"mention_span": {"text": "", "start": 0, "end": 0}},
        {"mention_span": {"text": "Bonn", "start": 6.5, "end": 10}},
    ],
)
def test_mentions_without_gold_or_place_are_refused(changes, tmp_path):
    context = {"text": "I saw Bonn today.", "sentence_spans": [{"start": 0, "end": 17}]}
    entity = {"entity_id": "Q1", "description": "a city", "title": "Bonn", "description_language": "en"}
    rows = [{"context": context, "mentions": [mention(1)]}, {"context": context, "mentions": [mention(2, **changes)]}]
    for where, content in (("en/test", rows), ("candidate_entities/test", [entity])):
        path = tmp_path / f"izhx__mewsli-x/{where}.jsonl"
        path.parent.mkdir(parents=True)
        path.write_text("".join(json.dumps(row) + "\n" for row in content))
    with pytest.raises(UserError, match="en/test.jsonl, row 2"):
        get_task("mewslix").load("test", "en", Rows(tmp_path))
    train = tmp_path / "izhx__mewsli-x/wikipedia_pairs/train.jsonl"
    train.parent.mkdir()
    pair = [
        {"contextual_mention": {"context": context, "mention": row["mentions"][0]}, "entity": entity} for row in rows
    ]
    train.write_text("".join(json.dumps(row) + "\n" for row in pair))
    if "entity_id" not in changes:  # training pairs name the entity by its description
        with pytest.raises(UserError, match="wikipedia_pairs/train.jsonl, row 2"):
            get_pairs("mewslix_dual").load("train", "en", Rows(tmp_path))


@pytest.mark.parametrize("source, target", [("", "e1"), (None, "e1"), ("-1", "e1"), ("d1", "d1"), (1, 1)])
def test_pairs_to_mine_that_are_none(source, target, tmp_path):
    pair = {"source_id": source, "target_id": target}
    for part, row in (("source", {"id": "d1", "text": "a"}), ("target", {"id": "e1", "text": "b"}), ("gold", pair)):
        path = tmp_path / f"bucc2018__de-en/{part}/test.jsonl"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(row) + "\n")
    with pytest.raises(UserError, match="gold/test.jsonl, row 1, column"):
        get_task("bucc").load("test", "de", Rows(tmp_path))


@pytest.mark.parametrize("one, other", [("", "b"), ("a", " \u3000"), (None, "b")])
def test_sentences_of_blanks(one, other, tmp_path):
    path = tmp_path / "mteb__tatoeba-bitext-mining/deu-eng/test.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text(
        "".join(json.dumps({"sentence1": a, "sentence2": b}) + "\n" for a, b in (("a", "b"), (one, other)))
    )
    with pytest.raises(UserError, match="test.jsonl, row 2, column 'sentence"):
        get_task("tatoeba").load("test", "de", Rows(tmp_path))


def test_line_ends_that_are_taken_off_are_counted(tmp_path):
    path = tmp_path / "google__xtreme/tatoeba.deu/validation.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text(
        "".join(
            json.dumps({"source_sentence": a, "target_sentence": b}) + "\n"
            for a, b in [("a\r", "b\n"), ("c", "d\r\n")]
        )
    )
    rows = Rows(tmp_path)
    assert get_task("tatoeba").load("test", "de", rows)[:] == {"source": ["a", "c"], "target": ["b", "d"]}
    assert rows.records[0]["notes"] == ["3 sentences without the line end they have in the file"]


# ---- placeholders that look like gold -------------------------------------------------------------------------------


@one_of_each
def test_the_same_gold_throughout_is_a_placeholder_before_anything_is_trained(name, split, tmp_path):
    label = FORMS[name, split][3][0]
    write(tmp_path, name, split, rows_of(name, split, [0] * checks.PLACEHOLDER, lambda number: label))
    with pytest.raises(
        UserError, match=f"{FORMS[name, split][0]}.jsonl: all {checks.PLACEHOLDER} gold labels .* placeholder"
    ):
        featurizing.load_scored(get_task(name), split, "en", Rows(tmp_path), None)


@one_of_each
def test_rows_sorted_by_label_are_not_cut_to_those_of_one_label(name, split, tmp_path):
    """The metric refused them after the training. Fewer rows of one label are scored, as those of a small file are."""
    labels, gold_of_a_row = FORMS[name, split][3], 2 if (name, split) in TAGS else 1
    write(
        tmp_path, name, split, rows_of(name, split, [0] * checks.PLACEHOLDER + [1, 1], lambda number: labels[number])
    )

    def scored(limit):
        return len(featurizing.load_scored(get_task(name), split, "en", Rows(tmp_path), limit))

    most = checks.PLACEHOLDER // gold_of_a_row
    assert scored(None) == most + 2 // gold_of_a_row and scored(most + 1) == most + 1 and scored(most - 1) == most - 1
    with pytest.raises(UserError, match=f"--max_eval_samples {most}: .*{FORMS[name, split][0]}.*sorted by label"):
        scored(most)


def test_questions_without_an_answer_are_not_cut_to_those_alone(tmp_path):
    """SQuAD 2.0 sorted by whether a question has an answer."""
    path = tmp_path / "rajpurkar__squad_v2/squad_v2/validation.jsonl"
    path.parent.mkdir(parents=True)
    most = checks.PLACEHOLDER
    rows = [question(str(i)) | {"answers": {"text": [], "answer_start": []}} for i in range(most)]
    path.write_text("".join(json.dumps(row) + "\n" for row in [*rows, question("answered")]))
    task = get_task("squad_v2")
    with pytest.raises(UserError, match=f"--max_eval_samples {most}: .*validation.jsonl"):
        featurizing.load_scored(task, "dev", "en", Rows(tmp_path), most)
    examples = featurizing.load_scored(task, "dev", "en", Rows(tmp_path), most - 1)
    assert task.score(task.gold(examples), examples, "en")["best_f1"] == 100


def test_a_placeholder_stops_a_run_before_it_trains(cli, tiny_model, tiny_world, tmp_path):
    """The metric found it after the training."""
    shutil.copytree(tiny_world / "facebook__xnli", tmp_path / "rows" / "facebook__xnli")
    (tmp_path / "rows/facebook__xnli/qaa/test.parquet").unlink()
    (tmp_path / "rows/facebook__xnli/qaa/test.jsonl").write_text((json.dumps(PAIR | {"label": 0}) + "\n") * 200)
    done = cli(
        "run_target.py",
        "--task",
        "xnli",
        "--model_name_or_path",
        tiny_model,
        "--data_root",
        tmp_path / "rows",
        "--max_steps",
        1,
        "--max_eval_samples",
        4,
        "--max_train_samples",
        4,
        "--output_dir",
        tmp_path / "out",
    )
    assert done.returncode == 2 and "qaa/test.jsonl" in done.stderr and "placeholder" in done.stderr
    assert not (tmp_path / "out/run.json").exists()


# ---- languages in one file ------------------------------------------------------------------------------------------


def in_language(code, label="neutral"):
    return {"language": code, "sentence1": "a", "sentence2": "b", "gold_label": label}


def question(name):
    return {"id": name, "context": "Ada ran", "question": "who ?", "answers": {"text": ["Ada"], "answer_start": [0]}}


@pytest.mark.parametrize(
    "name, file, rows",
    [
        ("xnli", "google__xtreme/XNLI/test", [in_language("en"), in_language(None)]),
        ("xnli", "google__xtreme/XNLI/test", [in_language("en"), in_language("xx")]),
        (
            "tydiqa",
            "google-research-datasets__tydiqa/secondary_task/validation",
            [question("english-1"), question("xx-1")],
        ),
        (
            "tydiqa",
            "google-research-datasets__tydiqa/secondary_task/validation",
            [question("english-1"), question(None)],
        ),
    ],
)
def test_a_row_in_no_known_language_is_refused_not_left_out(name, file, rows, tmp_path):
    path = tmp_path / f"{file}.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for read in (
        lambda: get_task(name).load("test", "en", Rows(tmp_path)),
        lambda: get_task(name).languages(Rows(tmp_path)),
    ):
        with pytest.raises(UserError, match=f"{file}.jsonl, row 2"):
            read()


@pytest.mark.parametrize(
    "name, file, column, rows, more",
    [
        (
            "xnli",
            "google__xtreme/XNLI",
            "text_a",
            [in_language("en"), in_language("de")],
            [in_language("en"), in_language("sw")],
        ),
        (
            "tydiqa",
            "google-research-datasets__tydiqa/secondary_task",
            "id",
            [question("english-1"), question("german-1")],
            [question("english-2"), question("swahili-2")],
        ),
    ],
)
def test_files_of_many_languages_are_joined(name, file, column, rows, more, tmp_path):
    """A language may be in any of them; it is refused where none has it."""
    for split, of in (("one", rows), ("two", more)):
        path = tmp_path / file / f"{split}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(row) + "\n" for row in of))
    task, there = get_task(name), Rows(tmp_path, [f"{name}.test=one+two"])
    assert task.languages(there) == ["en", "de", "sw"]
    assert {code: len(task.load("test", code, there)[column]) for code in ("en", "de", "sw")} == {
        "en": 2,
        "de": 1,
        "sw": 1,
    }
    with pytest.raises(UserError, match=r"one.jsonl \+ .*two.jsonl: no row in language 'fi'"):
        task.load("test", "fi", there)


def test_a_row_of_one_language_says_where_it_is_counted(tmp_path):
    path = tmp_path / "google__xtreme/XNLI/test.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in (in_language("de"), in_language("en", "x"))))
    with pytest.raises(UserError, match=r"test.jsonl \[rows in en\], row 1, column 'label': 'x'"):
        get_task("xnli").load("test", "en", Rows(tmp_path))
