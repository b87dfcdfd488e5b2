"""Rows from a folder: its formats, slices and provenance, and every way a file can be wrong: file, row and column are
named."""

import gzip
import hashlib
import json
import re
import shutil

import pytest
from datasets import load_dataset

from tasks import get_task
from tasks.errors import UserError
from tasks.pairs import get_pairs
from tasks.rows import Rows, alternatives
from xstilts.cli.arguments import ArmArguments, FamilyArguments, RetrievalArguments
from xstilts.retrieve import pools
from xstilts.run import inputs
from xstilts.train import featurizing, multilingual
from xstilts.train.pair_batches import PairRows
from xstilts.xtreme import submission

NLI = [{"premise": f"a man number {i} walks", "hypothesis": f"somebody {i} moves", "label": i % 3} for i in range(6)]
QA = [
    {
        "id": str(i),
        "title": "t",
        "context": f"Ada has {i} cats.",
        "question": "how many?",
        "answers": {"text": [str(i)], "answer_start": [8]},
    }
    for i in range(4)
]
POS = [{"tokens": ["cats", "sleep"], "pos_tags": [7, 15]} for _ in range(4)]
MC = [
    {
        "ind": i,
        "ctx_a": "A man sits.",
        "ctx_b": "he",
        "ctx": "A man sits. he",
        "endings": ["a", "b", "c", "d"],
        "label": str(i % 4),
    }
    for i in range(4)
]
PAIRS = [{"sentence1": f"ein Satz {i}", "sentence2": f"a sentence {i}", "lang": "deu-eng"} for i in range(4)]


@pytest.fixture
def folder(tmp_path):
    """`folder(where, rows)` writes JSON Lines (a str or bytes is written as it is) and returns the file."""

    def write(where, rows, suffix="jsonl"):
        path = tmp_path / f"{where}.{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        if not isinstance(rows, bytes):
            rows = "".join(json.dumps(row) + "\n" for row in rows).encode()
        if suffix == "parquet":
            plain = tmp_path / "plain.jsonl"
            plain.write_bytes(rows)
            load_dataset("json", data_files=str(plain), split="train").to_parquet(path)
            plain.unlink()
        elif suffix == "jsonl.gz":
            path.write_bytes(gzip.compress(rows))
        else:
            path.write_bytes(rows)
        return path

    return write


def load(tmp_path, name, split="train", language="en", splits=()):
    return get_task(name).load(split, language, Rows(tmp_path, splits))


def failing(tmp_path, name, split="train", language="en"):
    with pytest.raises(UserError) as caught:
        load(tmp_path, name, split, language)
    message = str(caught.value)
    assert "\n" not in message
    return message


# ---- what is read ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["parquet", "jsonl", "jsonl.gz"])
def test_formats_hold_the_same_rows(folder, tmp_path, suffix):
    path = folder("facebook__xnli/en/train", NLI, suffix)
    rows = Rows(tmp_path)
    data = get_task("xnli").load("train", "en", rows)
    assert data["text_a"][:] == [r["premise"] for r in NLI] and data["label"][:] == [0, 1, 2, 0, 1, 2]
    (record,) = rows.records
    assert record == {
        "id": "facebook/xnli",
        "config": "en",
        "split": "train",
        "file": str(path),
        "first": 0,
        "order": "6 rows",
        "rows": 6,
        "used_as": ["xnli.train en"],
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }


def test_changed_file_is_read_again(folder, tmp_path):
    folder("facebook__xnli/en/train", NLI)
    assert len(load(tmp_path, "xnli")) == 6
    folder("facebook__xnli/en/train", NLI * 2)
    assert len(load(tmp_path, "xnli")) == 12


def test_a_folder_with_a_card_serves_its_files_not_the_cards(folder, tmp_path):
    """datasets serves stale rows from a folder whose README has a `configs:` block."""
    folder("facebook__xnli/en/train", NLI)
    card = tmp_path / "facebook__xnli" / "README.md"
    card.write_text("---\nconfigs:\n- config_name: en\n  data_files: en/other.jsonl\n---\n")
    assert len(load(tmp_path, "xnli")) == 6


def test_labels_may_be_names_or_digits(folder, tmp_path):
    names = ["entailment", "neutral", "contradiction"] * 2
    folder("facebook__xnli/en/train", [{**r, "label": n} for r, n in zip(NLI, names, strict=True)])
    assert load(tmp_path, "xnli")["label"][:] == [0, 1, 2] * 2
    folder("facebook__xnli/en/test", [{**r, "label": str(r["label"])} for r in NLI])
    assert load(tmp_path, "xnli", "test")["label"][:] == [0, 1, 2] * 2


def test_a_split_that_is_given_twice_is_refused(tmp_path):
    """The last one alone counted."""
    with pytest.raises(UserError, match=r"xnli.test is given twice: test\[:5\] and test\[5:9\]"):
        Rows(tmp_path, ["xnli.test=test[:5]", "xnli.dev=dev", "xnli.test=test[5:9]"])
    assert len(Rows(tmp_path, ["xnli.test=a", "xnli.dev=b", "xnli.test=a"]).overrides) == 2


def test_splits_can_be_carved(folder, tmp_path):
    folder("facebook__xnli/en/validation", NLI)
    splits = ["xnli.train=validation[:4]", "xnli.dev=validation[4:]"]
    rows = Rows(tmp_path, splits)
    train, dev = (get_task("xnli").load(s, "en", rows) for s in ("train", "dev"))
    assert (len(train), len(dev)) == (4, 2) and not set(train["text_a"]) & set(dev["text_a"])
    assert [(r["split"], r["rows"]) for r in rows.records] == [("validation[:4]", 4), ("validation[4:]", 2)]
    assert len(load(tmp_path, "xnli", splits=["xnli.train=validation[:50%]"])) == 3


@pytest.mark.parametrize(
    "ids, more, joined",
    [
        ((None, None), ("a", "b"), None),
        (("a", "b"), (None, None), None),
        ((1, 2), ("a", "b"), ["1", "2", "a", "b"]),
        (("a", "b"), (1, 2), ["a", "b", "1", "2"]),
        ((1, 2), (3, 4), ["1", "2", "3", "4"]),
    ],
)
def test_joined_parts_may_differ_in_their_ids(folder, tmp_path, ids, more, joined):
    """An id is optional: parts without any, or with ids of another type, end in no traceback."""
    for name, of in (("train", ids), ("more", more)):
        rows = [row | ({} if number is None else {"id": number}) for row, number in zip(NLI, of, strict=False)]
        folder(f"facebook__xnli/en/{name}", rows)
    task, rows = get_task("xnli"), Rows(tmp_path, ["xnli.train=train+more"])
    examples = task.load("train", "en", rows)
    assert len(examples) == 4 and task.ids(examples) == joined
    noted = [note for record in rows.records for note in record.get("notes", [])]
    assert bool(noted) == (joined is None) and all("'id'" in note for note in noted)


TWO_PARTS = [{"premise": f"{part} {i}", "hypothesis": "x", "label": i % 3} for part in "ab" for i in range(6)][:9]


@pytest.fixture
def joined(folder, tmp_path):
    """XNLI in two languages, whose splits are joined of a (6 rows) and b (3), or of two files of one split."""
    for language in ("en", "de"):
        for name, rows in (("a", TWO_PARTS[:6]), ("b", TWO_PARTS[6:])):
            for file in (name, f"c-0000{'ab'.index(name)}-of-00002"):
                folder(f"facebook__xnli/{language}/{file}", [row | {"hypothesis": language} for row in rows])
    return lambda expression: Rows(tmp_path, [f"xnli.test={expression}"])


@pytest.mark.parametrize(
    "expression, n, taken",
    [
        ("a+b", 3, ["a 0", "a 1", "b 0"]),
        ("a+b", 5, ["a 0", "a 1", "a 2", "b 0", "b 1"]),  # 3.3 and 1.7
        ("a+b", 1, ["a 0"]),
        ("b+a[2:]", 2, ["b 0", "a 2"]),
        ("a+b", 9, None),
        ("a+b", 100, None),
        ("a+b", None, None),
        ("a", 3, ["a 0", "a 1", "a 2"]),
        # files of one split, and slices of one, are in the order that the split has on the Hub
        ("c-00000-of-00002+c-00001-of-00002", 7, [*(f"a {i}" for i in range(6)), "b 0"]),
        ("a[:2]+a[4:]", 3, ["a 0", "a 1", "a 4"]),
    ],
)
def test_the_first_rows_are_a_fair_share_of_each_joined_split(expression, n, taken, joined, tmp_path):
    """ANLI's rounds stand one behind the other: the first 1,000 rows were all of the first."""
    rows = joined(expression)
    whole = get_task("xnli").load("test", "de", rows)["text_a"][:]
    scored = featurizing.load_scored(get_task("xnli"), "test", "de", rows, n)
    assert scored["text_a"][:] == (whole if taken is None else taken)
    submission.gold(rows, tmp_path / "labels", ["xnli"], "xtreme", n)
    (labels,) = (tmp_path / "labels").rglob("test-de.tsv")
    names = [get_task("xnli").labels[label] for label in scored["label"][:]]
    assert labels.read_text().splitlines() == names


def test_matched_languages_take_the_same_share(joined):
    rows = joined("a+b")
    rows.overrides["xnli", "train"] = "a+b"
    found, _ = multilingual.parallel(get_task("xnli"), ["en", "de"], False, rows, 3)
    assert {code: data["text_a"][:] for code, data in found.items()} == dict.fromkeys(
        ["en", "de"], ["a 0", "a 1", "b 0"]
    )
    english = multilingual.load(
        get_task("xnli"), FamilyArguments(), ArmArguments(language_mode="english"), rows, 3, 0, {}
    )
    assert english.examples["text_a"][:] == ["a 0", "a 1", "b 0"]


def test_pairs_of_a_dual_encoder_are_a_fair_share_too(joined):
    """Of the entailed rows, a 0, a 3 and b 0."""
    rows = joined("a+b")
    rows.overrides["xnli", "train"] = "b+a"
    loaded = get_pairs("xnli_dual").read("train", "en", rows)
    assert loaded.examples["query"][:] == ["b 0", "a 0", "a 3"] and loaded.sizes == (1, 2)
    pairs = PairRows({"xnli_dual": {"en": loaded.examples}}, limit=2, joined={"xnli_dual": loaded.parts})
    assert [pairs.data[row]["query"] for row in pairs.queries["xnli_dual"][0].tolist()] == ["b 0", "a 0"]
    rows.overrides["xnli", "train"] = "a+b"
    loaded = get_pairs("xnli_dual").read("train", "en", rows)
    pairs = PairRows({"xnli_dual": {"en": loaded.examples}}, limit=2, joined={"xnli_dual": loaded.parts})
    assert [pairs.data[row]["query"] for row in pairs.queries["xnli_dual"][0].tolist()] == ["a 0", "b 0"]


def test_queries_are_a_fair_share_of_each_joined_split(folder, tmp_path):
    for name, numbers in (("a", range(6)), ("b", range(6, 9))):
        rows = [{"sentence1": f"{name} {i}", "sentence2": f"{name} {i} too"} for i in numbers]
        folder(f"mteb__tatoeba-bitext-mining/deu-eng/{name}", rows)
    rows = Rows(tmp_path, ["tatoeba.test=a+b"])
    found = pools.read(get_task("tatoeba"), rows, ["de"], RetrievalArguments(), 3)
    assert get_task("tatoeba").sides(found["de"])[0] == ["a 0", "a 1", "b 6"]


def test_a_question_that_two_joined_parts_have_is_refused(folder, tmp_path):
    """It would be scored twice, and a file of predictions has one answer for it."""
    path = folder("google__xquad/xquad.de/validation", QA)
    apart, overlapping = (["xquad.test=validation[:50%]+validation[" + start] for start in ("50%:]", "25%:]"))
    assert load(tmp_path, "xquad", "test", "de", apart)["id"][:] == ["0", "1", "2", "3"]
    with pytest.raises(UserError) as caught:
        load(tmp_path, "xquad", "test", "de", overlapping)
    parts = "validation[:50%] and validation[25%:]"
    assert f"xquad.test has 1 row twice, of google/xquad (xquad.de, {parts})" in str(caught.value)
    # in two files, no row of the file tells that the questions are the same
    folder("google__xquad/xquad.de/more", [QA[1] | {"title": "another"}])
    with pytest.raises(UserError) as caught:
        load(tmp_path, "xquad", "test", "de", ["xquad.test=validation+more"])
    assert f"{path} + {path.with_stem('more')}, row 5" in str(caught.value) and "'1' appears twice" in str(
        caught.value
    )


def test_alternatives_take_the_first_present(folder, tmp_path):
    folder("facebook__xnli/en/test", NLI[:2])
    folder("facebook__xnli/de/test", NLI[:3])
    folder("facebook__xnli/de/validation", NLI)
    splits = ["xnli.test=validation,test"]
    rows = Rows(tmp_path, splits)
    assert get_task("xnli").languages(rows) == ["en", "de"]
    assert [len(get_task("xnli").load("test", code, rows)) for code in ("en", "de")] == [2, 6]
    assert [r["split"] for r in rows.records] == ["test", "validation"]
    assert alternatives("validation[:80%],test") == [("validation", "[:80%]"), ("test", "")]


def test_languages_are_those_present(folder, tmp_path):
    for code in ("sw", "en", "de"):
        folder(f"facebook__xnli/{code}/test", NLI)
    folder("facebook__xnli/fr/validation", NLI)  # no test rows: not a language one can score
    folder("facebook__xnli/all_languages/test", NLI)
    assert get_task("xnli").languages(Rows(tmp_path)) == ["en", "de", "sw"]


def test_sources_in_order(folder, tmp_path):
    folder("google__xtreme/XQuAD.de/validation", QA)
    assert load(tmp_path, "xquad", "test", "de")["id"][:] == ["0", "1", "2", "3"]
    folder("google__xquad/xquad.de/validation", QA[:1])
    assert load(tmp_path, "xquad", "test", "de")["id"][:] == ["0"]


def test_an_answer_moved_by_stripped_blanks_is_found(folder, tmp_path):
    folder("rajpurkar__squad/plain_text/train", [QA[0], {**QA[1], "answers": {"text": ["1"], "answer_start": [9]}}])
    assert [a["answer_start"] for a in load(tmp_path, "squad")["answers"]] == [[8], [8]]


def test_bucc_in_a_language_with_a_subtag(folder, tmp_path):
    folder("bucc2018__zh-Hant-en/source/test", [])
    assert get_task("bucc").languages(Rows(tmp_path)) == ["zh-Hant"]


def test_bucc_pools(folder, tmp_path):
    def pools(gold):
        for part in ("source", "target"):
            folder(f"bucc2018__de-en/{part}/test", [{"id": f"{part}-{i}", "text": f"text {i}"} for i in range(3)])
        folder("bucc2018__de-en/gold/test", gold)

    pools([{"source_id": "source-1", "target_id": "target-0"}])
    assert load(tmp_path, "bucc", "test", "de").gold == {("source-1", "target-0")}
    pools([{"source_id": "source-1", "target_id": "target-9"}])
    message = failing(tmp_path, "bucc", "test", "de")
    assert "gold/test.jsonl" in message and "'target-9' is not an id" in message
    folder("bucc2018__de-en/target/test", [{"id": "target-0", "text": "a"}, {"id": "target-0", "text": "b"}])
    assert "'target-0' appears twice" in failing(tmp_path, "bucc", "test", "de")


# ---- what is refused ------------------------------------------------------------------------------------------------


def without(rows, column):
    return [{k: v for k, v in row.items() if k != column} for row in rows]


def changed(rows, row, **values):
    return [{**r, **(values if i == row else {})} for i, r in enumerate(rows, 1)]


BAD = {  # what is wrong: (file, rows, task, split, what must be named)
    "missing column": (
        "facebook__xnli/en/train",
        without(NLI, "premise"),
        "xnli",
        "train",
        ["'premise' is missing", "hypothesis"],
    ),
    "unknown label": (
        "facebook__xnli/en/train",
        changed(NLI, 3, label=7),
        "xnli",
        "train",
        ["row 3", "'label'", "7", "entailment"],
    ),
    "unknown label word": (
        "facebook__xnli/en/train",
        [{**r, "label": "entails"} for r in NLI],
        "xnli",
        "train",
        ["row 1", "'label'", "'entails'", "entailment"],
    ),
    "hidden label": ("facebook__xnli/en/test", changed(NLI, 2, label=-1), "xnli", "test", ["row 2", "'label'", "-1"]),
    "null text": (
        "facebook__xnli/en/train",
        changed(NLI, 4, hypothesis=None),
        "xnli",
        "train",
        ["row 4", "'hypothesis'", "null"],
    ),
    "answer elsewhere": (
        "rajpurkar__squad/plain_text/train",
        changed(QA, 2, answers={"text": ["dogs"], "answer_start": [8]}),
        "squad",
        "train",
        ["row 2", "'answers'", "'dogs'", "character 8"],
    ),
    "no answer": (
        "rajpurkar__squad/plain_text/validation",
        changed(QA, 3, answers={"text": [], "answer_start": []}),
        "squad",
        "dev",
        ["row 3", "'answers'", "no answer"],
    ),
    "a tag too few": (
        "google__xtreme/udpos.English/train",
        changed(POS, 2, pos_tags=[7]),
        "udpos",
        "train",
        ["row 2", "one tag per word"],
    ),
    "a sentence without words": (
        "google__xtreme/udpos.English/train",
        changed(POS, 2, tokens=[], pos_tags=[]),
        "udpos",
        "train",
        ["row 2"],
    ),
    "unknown tag": (
        "google__xtreme/udpos.English/train",
        changed(POS, 2, pos_tags=[7, 40]),
        "udpos",
        "train",
        ["row 2", "'pos_tags'", "word 2", "40"],
    ),
    "a choice too few": (
        "Rowan__hellaswag/default/train",
        changed(MC, 2, endings=["a", "b", "c"]),
        "hellaswag",
        "train",
        ["row 2", "3 choices", "expected 4"],
    ),
    "no prompt": (
        "Rowan__hellaswag/default/train",
        changed(MC, 2, ctx_a=None, ctx=None),
        "hellaswag",
        "train",
        ["row 2"],
    ),
    "null ending": (
        "Rowan__hellaswag/default/train",
        changed(MC, 2, endings=["a", None, "c", "d"]),
        "hellaswag",
        "train",
        ["row 2"],
    ),
    "null sentence": (
        "mteb__tatoeba-bitext-mining/deu-eng/test",
        changed(PAIRS, 2, sentence1=None),
        "tatoeba",
        "test",
        ["row 2", "'sentence1'"],
    ),
}


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
@pytest.mark.parametrize("what", BAD)
def test_bad_rows_name_file_row_and_column(folder, tmp_path, what, suffix):
    where, rows, task, split, named = BAD[what]
    path = folder(where, rows, suffix)
    message = failing(tmp_path, task, split, "de" if task == "tatoeba" else "en")
    assert all(part in message for part in [str(path), *named]), message


def test_misspelt_column_names_the_nearest(folder, tmp_path):
    folder("facebook__xnli/en/train", [{"premises": r["premise"], **without([r], "premise")[0]} for r in NLI])
    assert "'premise' is missing" in (message := failing(tmp_path, "xnli")) and "'premises'" in message


def test_row_of_a_slice_is_counted_in_the_slice(folder, tmp_path):
    path = folder("facebook__xnli/en/validation", changed(NLI, 5, label=9))
    with pytest.raises(UserError) as caught:
        load(tmp_path, "xnli", splits=["xnli.train=validation[3:]"])
    assert f"{path} [3:], row 2" in str(caught.value)


def test_more_columns_than_needed_are_no_error(folder, tmp_path):
    folder("rajpurkar__squad/plain_text/train", [{**row, "source": "somewhere"} for row in QA])
    assert load(tmp_path, "squad").column_names == ["id", "context", "question", "answers"]


def test_empty_split(folder, tmp_path):
    path = folder("facebook__xnli/en/test", b"")
    assert f"{path}: it is empty" in failing(tmp_path, "xnli", "test")
    folder("facebook__xnli/en/train", NLI, "parquet")
    with pytest.raises(UserError, match="no data|no rows"):
        load(tmp_path, "xnli", splits=["xnli.train=train[:0]"])


@pytest.mark.parametrize(
    "content, told",
    [
        (
            b'{"premise": "a", "hypothesis": "b", "label": 0}\n{"premise": "\xff", "hypothesis": "b", "label": 0}\n',
            "row 2, column 'premise': not valid UTF-8",
        ),
        (b'{"premise": "a", "hypothesis": "b", "label": 0}\n{"premise": "a", \n', "row 2 is not valid JSON"),
        (b'["a"]\n', "is not a JSON object"),
    ],
)
def test_file_that_is_not_json_lines(folder, tmp_path, content, told):
    for suffix in ("jsonl", "jsonl.gz"):
        shutil.rmtree(tmp_path / "facebook__xnli", ignore_errors=True)
        path = folder("facebook__xnli/en/train", content, suffix)
        message = failing(tmp_path, "xnli")
        assert str(path) in message and told in message


def test_parquet_text_that_is_not_utf8(folder, tmp_path):
    import pyarrow
    from pyarrow import parquet

    path = folder("google__xtreme/udpos.English/train", POS, "parquet")
    rows = [["cats", "sleep"], [b"\xff", "sleep"]]
    tokens = pyarrow.array(rows, pyarrow.list_(pyarrow.binary())).cast(pyarrow.list_(pyarrow.string()), safe=False)
    parquet.write_table(pyarrow.table({"tokens": tokens, "pos_tags": [[7, 15]] * 2}), path)
    assert f"{path}, row 2, column 'tokens': not valid UTF-8" in failing(tmp_path, "udpos")


def test_truncated_gz(folder, tmp_path):
    path = folder("facebook__xnli/en/train", NLI * 50, "jsonl.gz")
    path.write_bytes(path.read_bytes()[:-20])
    assert str(path) in (message := failing(tmp_path, "xnli")) and "row" in message


def test_damaged_parquet(folder, tmp_path):
    path = folder("facebook__xnli/en/train", NLI, "parquet")
    path.write_bytes(path.read_bytes()[:-20])
    assert str(path) in failing(tmp_path, "xnli")


def test_absent_rows_say_what_is_there(folder, tmp_path):
    folder("facebook__xnli/de/test", NLI)
    message = failing(tmp_path, "xnli", "train")
    assert "facebook__xnli/en/train.parquet" in message and "de" in message
    assert "is absent" in failing(tmp_path, "squad", "train")


def typed(message):
    """What --splits an error says to type."""
    return [word.rstrip(".") for word in message.split() if re.match(r"\w+\.(train|dev|test)=", word)]


SHARDS = ["-00000-of-00002", "-00001-of-00002"]


@pytest.mark.parametrize(
    "task, split, files, splits, expected",
    [
        # a split in several files: all of them, joined
        ("xnli", "train", ["train" + s for s in SHARDS], (), "xnli.train=" + "+".join("train" + s for s in SHARDS)),
        ("xnli", "train", ["train-00000-of-00001"], (), "xnli.train=train-00000-of-00001"),
        ("xnli", "train", ["train-1-of-2", "train-2-of-2"], (), "xnli.train=train-1-of-2+train-2-of-2"),
        ("xnli", "test", ["test" + s for s in SHARDS], (), "xnli.test=" + "+".join("test" + s for s in SHARDS)),
        (
            "xnli",
            "train",
            ["more", *("train" + s for s in SHARDS)],
            ["xnli.train=more+train"],
            "xnli.train=more+" + "+".join("train" + s for s in SHARDS),
        ),
        # one of them is not there, or a slice is asked for: nothing to type
        ("xnli", "train", ["train-00000-of-00002"], (), ""),
        ("xnli", "train", ["train" + s for s in SHARDS], ["xnli.train=train[:90%]"], ""),
        # train and dev may be cut off each other, never off the test split, nor a file of several
        ("xnli", "dev", ["train", "test"], (), "xnli.train=train[:90%] xnli.dev=train[90%:]"),
        ("xnli", "train", ["test", "validation"], (), "xnli.train=validation[:90%] xnli.dev=validation[90%:]"),
        ("xnli", "train", ["test"], (), ""),
        ("xnli", "train", ["test", "validation"], ["xnli.test=validation"], ""),
        ("xnli", "dev", ["train" + s for s in SHARDS], (), ""),
        ("xnli", "test", ["train", "validation"], (), ""),
        ("copa", "train", ["validation"], (), ""),  # English XCOPA is tested on it
    ],
)
def test_what_to_type_for_a_split_that_is_not_there(folder, tmp_path, task, split, files, splits, expected):
    where = {"xnli": "facebook__xnli/en", "copa": "aps__super_glue/copa"}[task]
    for number, name in enumerate(files):
        folder(f"{where}/{name}", [row | {"premise": f"{number} {row['premise']}"} for row in NLI])
    with pytest.raises(UserError) as caught:
        load(tmp_path, task, split, splits=splits)
    message = str(caught.value)
    assert typed(message) == expected.split()
    assert ("Rename" in message) == ("-of-" not in "".join(files) or split == "dev")
    if files == ["train-00000-of-00002"]:
        assert "train-00001-of-00002 is missing" in message
    if expected and ":" not in expected:
        assert len(load(tmp_path, task, split, splits=[expected])) == len(NLI) * expected.count("-of-") + len(
            NLI * ("more" in expected)
        )


def test_test_splits_in_several_files_are_found_wherever_they_lie(folder, tmp_path):
    for name in SHARDS:
        folder(f"google__xtreme/PAN-X.sw/validation{name}", POS)  # of another task
        folder(f"unimelb-nlp__wikiann/de/test{name}", POS)
    expected = ["panx.test=" + "+".join("test" + name for name in SHARDS)]
    with pytest.raises(UserError) as caught:
        get_task("panx").languages(Rows(tmp_path))
    assert typed(str(caught.value)) == typed(failing(tmp_path, "panx", "test", "de")) == expected
    assert get_task("panx").languages(Rows(tmp_path, expected)) == ["de"]
    assert typed(failing(tmp_path, "xnli", "test", "de")) == []


def test_another_language_that_is_not_there_is_not_cut(folder, tmp_path):
    """--splits would cut the English rows, too."""
    folder("facebook__xnli/de/validation", NLI)
    assert typed(failing(tmp_path, "xnli", "train", "de")) == []


def test_split_that_the_task_lacks(tmp_path):
    assert "mnli has no test split. Its rows have train, dev." in failing(tmp_path, "mnli", "test")
    with pytest.raises(UserError, match="anli_plus has no train split"):  # its rows are those of its parts
        get_task("anli_plus").locate("train", "en", Rows("hub"))


def test_wrong_root(tmp_path):
    with pytest.raises(UserError, match="--data_root .*nothing is not a folder. Give 'hub'"):
        Rows(tmp_path / "nothing")


@pytest.mark.parametrize("text", ["xnli=validation", "xnli.test", "xnli.valid=validation", "train=validation"])
def test_wrong_override(tmp_path, text):
    with pytest.raises(UserError, match="is not of the form task.split=source"):
        Rows(tmp_path, [text])


def test_wrong_slice(folder, tmp_path):
    folder("facebook__xnli/en/validation", NLI)
    with pytest.raises(UserError, match="is not a split"):
        load(tmp_path, "xnli", splits=["xnli.train=validation[:4"])


def test_a_language_without_test_rows_is_named(tiny_world, tmp_path):
    root = shutil.copytree(tiny_world, tmp_path / "rows")
    folder = root / "facebook__xnli/qaa"
    assert inputs.untested(get_task("xnli"), Rows(root), ["en", "qaa", "qab"]) == []
    (file,) = folder.glob("test.*")
    file.rename(folder / f"tset{file.suffix}")
    notes: list[str] = []
    assert "qaa" not in inputs.choose_languages(get_task("xnli"), Rows(root), [], notes=notes)
    assert "qaa (has" in notes[0] and "tset" in notes[0] and "validation" in notes[0]
    inputs.choose_languages(get_task("xnli"), Rows(root), ["en"], notes=notes)
    assert len(notes) == 1  # nothing is missing in what was asked for by name


@pytest.mark.parametrize(
    "task, there, scored, noted",
    [
        (
            "xnli",
            [
                f"facebook__xnli/{code}/test"
                for code in ("en", "de", "deu", "amh", "zh-CN", "DE", "xx", "all_languages")
            ],
            ["en", "de"],
            {"deu": "de is called de", "amh": "am is called am", "zh-CN": "zh is", "DE": "de is", "xx": "unknown"},
        ),
        # without test rows, or of no language: nothing is missing
        (
            "xnli",
            ["facebook__xnli/en/test", "facebook__xnli/deu/train", "facebook__xnli/en.roundtrip/test"],
            ["en"],
            {},
        ),
        (
            "tatoeba",
            [f"mteb__tatoeba-bitext-mining/{pair}/test" for pair in ("cmn-eng", "zho-eng", "fas-eng", "deu-fra")],
            ["zh"],
            {"zho-eng": "zh is called cmn-eng", "fas-eng": "fa is called pes-eng"},
        ),
        (
            "udpos",
            [f"google__xtreme/{name}/test" for name in ("udpos.German", "udpos.fr", "udpos.Gothic", "PAN-X.fra")],
            ["de"],
            {"udpos.fr": "fr is called udpos.French", "udpos.Gothic": "unknown"},
        ),
        # one config is read for every language, another is for training
        (
            "mewslix",
            [f"izhx__mewsli-x/{name}/test" for name in ("de", "cs", "candidate_entities", "wikipedia_pairs")],
            ["de"],
            {"cs": "mewslix has no such language"},
        ),
    ],
)
def test_folders_of_a_language_that_are_not_read_are_named(folder, tmp_path, task, there, scored, noted):
    """The mean was over fewer languages without a word."""
    for path in there:
        folder(path, NLI)
    rows, notes = Rows(tmp_path), []
    assert inputs.choose_languages(get_task(task), rows, [], notes=notes) == scored
    (note,) = notes or [""]
    source = there[0].partition("/")[0]
    named = dict(re.findall(rf"{source}/(\S+) \((.*?)\)", note))
    assert named.keys() == noted.keys() and all(why in named[name] for name, why in noted.items()), note


def test_a_language_that_was_asked_for_is_said_to_have_another_name(folder, tmp_path):
    folder("facebook__xnli/amh/test", NLI)
    with pytest.raises(UserError, match=r"no test rows below .*facebook__xnli/amh \(am is called am here\)"):
        get_task("xnli").languages(Rows(tmp_path))
    folder("facebook__xnli/en/test", NLI)
    with pytest.raises(
        UserError, match=r"--languages am: .* it has en\. .*facebook__xnli/amh \(am is called am here\)"
    ):
        inputs.choose_languages(get_task("xnli"), Rows(tmp_path), ["am"])


def test_a_split_that_is_not_there_is_said_with_what_is(tmp_path):
    folder = tmp_path / "nyu-mll__glue/mnli"
    folder.mkdir(parents=True)
    for name in ("train.jsonl", "dev.jsonl"):
        (folder / name).write_text("{}\n")
    with pytest.raises(UserError) as error:
        get_task("mnli").load("dev", "en", Rows(tmp_path))
    text = str(error.value)
    assert f"{folder}/validation_matched.parquet" in text and f"{folder} holds dev.jsonl, train.jsonl" in text
    assert typed(text) == ["mnli.train=train[:90%]", "mnli.dev=train[90%:]"]
