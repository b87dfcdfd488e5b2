"""Files of rows are read under their own name; only columns that are read can stop a run, and each error names its
row."""

import gzip
import json
import os
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from tasks import get_task
from tasks.errors import UserError
from tasks.rows import Rows
from xstilts.train.code_switch import read_lexicons

PAIRS = [{"sentence1": f"Satz {i}", "sentence2": f"sentence {i}"} for i in range(3)]
TATOEBA = "mteb__tatoeba-bitext-mining/deu-eng/test"
NLI = [{"premise": f"a man number {i} walks", "hypothesis": f"somebody {i} moves", "label": i % 3} for i in range(6)]
XNLI = "facebook__xnli/en/test"


def write(path, rows):
    """JSON Lines (bytes as they are), gzipped JSON Lines or parquet, as the name ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(rows, pa.Table):
        with path.open("wb") as stream:
            return parquet.write_table(rows, stream)
    if path.suffix == ".parquet":
        return write(path, pa.Table.from_pylist(rows))
    content = rows if isinstance(rows, bytes) else b"".join(json.dumps(row).encode() + b"\n" for row in rows)
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def load(root, name="xnli", split="test", language="en", splits=()):
    return get_task(name).load(split, language, Rows(root, splits))


def refused(root, *told, **options):
    with pytest.raises(UserError) as caught:
        load(root, **options)
    assert all(str(part) in str(caught.value) for part in told), caught.value
    assert "\n" not in str(caught.value)


# ---- names of folders -----------------------------------------------------------------------------------------------

ODD = [
    "rows[1]",
    "rows*",
    "rows?",
    "rows{1}",
    "[!x]rows",
    "a::b",
    "zip://x::y",
    "file:x",
    "s3:x",
    "~",
    "~root",
    "**",
    "a#b",
    "100%25",
    "-rows",
    "räume und ß",
    "new\nline",
    "x=1",
]


@pytest.mark.parametrize("suffix", ["jsonl", "jsonl.gz", "parquet"])
@pytest.mark.parametrize("name", ODD)
def test_a_folder_is_read_by_its_own_name(name, suffix, tmp_path):
    """As a pattern rows[1] is rows1, and its rows were read; a::b was an address."""
    for other in ("rows1", "rowsx", "b", "x"):
        write(tmp_path / other / f"{TATOEBA}.{suffix}", [{"sentence1": "falsch", "sentence2": "wrong folder"}])
    path = tmp_path / name / f"{TATOEBA}.{suffix}"
    write(path, PAIRS)
    rows = Rows(tmp_path / name)
    found = get_task("tatoeba").load("test", "de", rows)
    assert found["source"][:] == [row["sentence1"] for row in PAIRS]
    assert rows.records[0]["file"] == str(path) and rows.records[0]["rows"] == 3


@pytest.mark.parametrize("name", ["a::b", "s3:x", "rows[1]", "~"])
def test_a_folder_named_from_where_one_is(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / name / f"{TATOEBA}.jsonl", PAIRS)
    assert len(load(name, "tatoeba", language="de")) == 3


@pytest.mark.parametrize("name", ["rows[1]", "a::b", "rows*"])
def test_translations_and_lexicons_are_read_by_their_own_name(name, tmp_path):
    write(tmp_path / "rows" / f"{XNLI}.jsonl", NLI)
    for folder in ("rows1", name):
        write(tmp_path / folder / "facebook__xnli/de/train.jsonl", NLI[:2] if folder == name else NLI)
        (tmp_path / folder / "facebook__xnli/de/train.translation.json").write_text('{"model": "m"}')
        write(
            tmp_path / folder / "en-de/train.jsonl",
            [{"source": "dog", "target": "Hund" if folder == name else "falsch"}],
        )
    rows = Rows(tmp_path / "rows", translations=tmp_path / name)
    assert len(get_task("xnli").load("train", "de", rows)) == 2 and rows.records[0]["translated_by"] == "m"
    assert read_lexicons(str(tmp_path / name))[0]["de"] == {"dog": ["Hund"]}


@pytest.mark.parametrize("name", ["a::b", "s3:x", "w[1]"])
def test_world_is_written_to_the_given_folder(name, tmp_path, monkeypatch):
    from world.files import write as write_world

    monkeypatch.chdir(tmp_path)
    write_world(Path(name, "in it"), languages=1, size=0.01)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert len(load(Path(name, "in it"), "tatoeba", language="qaa"))


def test_cache_folder_that_looks_like_an_address_is_refused(tmp_path, monkeypatch):
    """Its features would be written elsewhere."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "a::b")
    write(tmp_path / f"{XNLI}.jsonl", NLI)
    refused(tmp_path, "a::b", "HF_HOME")


def test_a_cache_folder_that_is_a_file_is_not_taken_for_a_fault_of_the_rows(tmp_path, monkeypatch):
    import datasets

    (tmp_path / "cache").write_text("mine")
    write(tmp_path / f"{XNLI}.jsonl", NLI)
    for place in ("cache", "cache/datasets"):
        monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / place)
        with pytest.raises(UserError, match="HF_HOME") as caught:
            load(tmp_path, "xnli")
        assert f"{XNLI}.jsonl" not in str(caught.value) and str(tmp_path / "cache") in str(caught.value)


def test_two_files_of_one_split_are_refused(tmp_path):
    write(tmp_path / f"{XNLI}.jsonl", NLI)
    write(tmp_path / f"{XNLI}.parquet", NLI[:2])
    refused(tmp_path, "test.parquet and test.jsonl both hold 'test'")


def test_file_is_read_again_when_its_content_changes(tmp_path):
    path = tmp_path / f"{XNLI}.jsonl"
    write(path, NLI)
    before, time = load(tmp_path)["label"][:], path.stat().st_mtime_ns
    write(path, [{**row, "label": (row["label"] + 1) % 3} for row in NLI])
    os.utime(path, ns=(time, time))
    assert load(tmp_path)["label"][:] == [(label + 1) % 3 for label in before]


@pytest.mark.parametrize(
    "cut, numbers",
    [
        ("[:2]", [0, 1]),
        ("[4:]", [4, 5]),
        ("[-1:]", [5]),
        ("[:50%]", [0, 1, 2]),
        ("[4:99]", [4, 5]),
        ("[0:50%]", [0, 1, 2]),
    ],
)
def test_slices(cut, numbers, tmp_path):
    write(tmp_path / "facebook__xnli/en/validation.jsonl", NLI)
    assert load(tmp_path, splits=[f"xnli.test=validation{cut}"])["text_a"][:] == [NLI[i]["premise"] for i in numbers]


@pytest.mark.parametrize(
    "cut", ["[a:b]", "[1]", "[::2]", "[:200%]", "[100:]", "[4:2]", "[:0]", "[2:50%]", "[50%:5]", "[ 1 : 50% ]"]
)
def test_slices_that_hold_nothing(cut, tmp_path):
    write(tmp_path / "facebook__xnli/en/validation.jsonl", NLI)
    refused(tmp_path, "validation.jsonl", cut, splits=[f"xnli.test=validation{cut}"])


# ---- JSON Lines -----------------------------------------------------------------------------------------------------


def line(**values):
    return json.dumps({"premise": "a", "hypothesis": "b", "label": 0} | values).encode() + b"\n"


@pytest.mark.parametrize(
    "text",
    [
        "2003-01-02",
        "2003-01-02T10:00:00Z",
        "12:30",
        "5",
        "true",
        "null",
        "1e5",
        "0012",
        "[1]",
        '{"a": 1}',
        "NaN",
        "a\tb",
    ],
)
def test_text_is_text(text, tmp_path):
    """A column of dates became times, one of mixed types lost its quotes."""
    write(tmp_path / f"{TATOEBA}.jsonl", [{"sentence1": text, "sentence2": text}] * 2)
    assert load(tmp_path, "tatoeba", language="de")[:] == {"source": [text] * 2, "target": [text] * 2}
    write(
        tmp_path / "rajpurkar__squad/plain_text/train.jsonl",
        [
            {
                "id": text,
                "context": f"so {text} it is",
                "question": text,
                "answers": {"text": [text], "answer_start": [3]},
            }
        ],
    )
    assert load(tmp_path, "squad", "train")[0]["answers"] == {"text": [text], "answer_start": [3]}


def test_more_than_the_first_megabytes_decide_a_type(tmp_path):
    """The library's reader has the first ten decide, and named no cause."""
    path, long = tmp_path / f"{XNLI}.jsonl", "a long meal " * 30
    rows = [line(premise=long, pairID=None, other=1)] * 30_000 + [line(pairID="x1", other={"a": [1]}, label=1)]
    write(path, b"".join(rows))
    assert len(load(tmp_path)) == 30_001
    write(path, b"".join(rows) + line(label="neutral"))
    refused(tmp_path, path, "row 30002", "'label'", "text", "number")


@pytest.mark.parametrize(
    "unread",
    [
        {"x": 1},
        {"x": {"y": []}},
        {"x": "\ud800"},
        {"x": "2003-01-02"},
        {"x": None},
        {"id": [1]},
        {"pairID": 5},
        {"type": "user", "message": {"role": "user"}, "sessionId": "s", "timestamp": "t"},
    ],
)
def test_unread_column_may_hold_anything(unread, tmp_path):
    write(tmp_path / f"{XNLI}.jsonl", line(x="text", id="a") + line(label=1, **unread) + line(label=2))
    assert load(tmp_path)["label"][:] == [0, 1, 2]


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbf" + line() + line(label=1),
        line() + b"\n  \r\n" + line(label=1),
        line().replace(b"\n", b"\r\n") + line(label=1),
        line() + line(label=1)[:-1],
        line() + b'{"premise": "a", "hypothesis": "b", "label": 1, "x": "\xff", "\xfe": 1}\n',
        line() + b'{"premise": "a", "hypothesis": "b", "label": 1, "x": 1, "x": 2, "y": {"z": 1, "z": 2}}\n',
        line() + b'{"premise": "a", "hypothesis": "b", "label": 1, "x": ' + b"[" * 400 + b"]" * 400 + b"}\n",
    ],
)
def test_user_errors_are_not_bugs(content, tmp_path):
    for suffix in ("jsonl", "jsonl.gz"):
        (tmp_path / f"{XNLI}.jsonl").unlink(missing_ok=True)
        write(tmp_path / f"{XNLI}.{suffix}", content)
        assert load(tmp_path)[:] == {"text_a": ["a", "a"], "text_b": ["b", "b"], "label": [0, 1]}


@pytest.mark.parametrize(
    "second, told",
    [
        (b'\n{"premise": "a", "hypothesis": \n', ["row 2 (line 3)", "not valid JSON"]),
        (line(premise=5), ["row 2", "'premise'", "number", "text"]),
        (line(premise=["a"]), ["row 2", "'premise'", "list"]),
        (line(premise=None), ["row 2", "'premise'", "null"]),
        (b'{"hypothesis": "b", "label": 1}\n', ["row 2", "'premise'", "null"]),
        (line(label=None), ["row 2", "'label'", "null"]),
        (line(label=0.5), ["row 2", "'label'", "0.5"]),
        (line(label=True), ["row 2", "'label'", "true or false"]),
        (line(label=2**70), ["row 2", "'label'", "64 bits"]),
        (line(premise="\ud800"), ["row 2", "'premise'", "UTF-8"]),
        (b'{"premise": "\xff", "hypothesis": "b", "label": 0}\n', ["row 2", "'premise'", "UTF-8"]),
        (b'{"premise": "a", "premise": "c", "hypothesis": "b", "label": 0}\n', ["row 2", "'premise'", "twice"]),
        (b"null\n", ["row 2", "not a JSON object", "null"]),
        (b"[1]\n", ["row 2", "not a JSON object", "list"]),
        (line()[:-1] + line(), ["row 2", "Extra data"]),
        (line().replace(b"}", b"},"), ["row 2", "Extra data"]),
        (b"[" * 100_000 + b"\n", ["row 2", "too deep"]),
        (b'{"x": ' + b'{"a":' * 100_000 + b"\n", ["row 2", "too deep"]),
        (
            b'{"premise": ' + b"[" * 400 + b"]" * 400 + b', "hypothesis": "b", "label": 0}\n',
            ["row 2", "'premise'", "deep"],
        ),
        (b'{"x": 1' + b"0" * 5000 + b"}\n", ["row 2", "digits"]),
        (line().decode().encode("utf-16"), ["row 2", "UTF-8"]),
    ],
)
def test_error_names_its_row(second, told, tmp_path):
    """Before this, some ended the process by a signal, some said `an error occurred while generating the dataset`."""
    for suffix in ("jsonl", "jsonl.gz"):
        (tmp_path / f"{XNLI}.jsonl").unlink(missing_ok=True)
        write(tmp_path / f"{XNLI}.{suffix}", line() + second)
        refused(tmp_path, tmp_path / f"{XNLI}.{suffix}", *told)


def test_column_of_floats_with_one_null(tmp_path):
    """pandas writes labels so where one is missing; the row without one was not the one that was named."""
    write(tmp_path / f"{XNLI}.jsonl", [{**row, "label": float(row["label"])} for row in NLI])
    assert load(tmp_path)["label"][:] == [row["label"] for row in NLI]
    write(
        tmp_path / f"{XNLI}.jsonl",
        [{**row, "label": float(i)} for i, row in enumerate(NLI[:2])] + [{**NLI[0], "label": None}],
    )
    refused(tmp_path, "row 3", "'label'", "null")


# ---- parquet --------------------------------------------------------------------------------------------------------

COLUMNS = {"premise": ["a", "b", "c"], "hypothesis": ["x", "y", "z"], "label": [0, 1, 2]}


@pytest.mark.parametrize(
    "changes",
    [
        {"premise": pa.array(["a", "b", "c"]).dictionary_encode()},
        {"premise": pa.array(["a", "b", "c"], pa.large_string())},
        {"premise": pa.array(["a", "b", "c"], pa.string_view())},
        {"label": pa.array([0, 1, 2], pa.uint8())},
        {"label": pa.array(["entailment", "neutral", "contradiction"]).dictionary_encode()},
        {"label": ["0", "1", "2"]},
        {"x": pa.array([[("a", 1)]] * 3, pa.map_(pa.string(), pa.int64()))},
        {"x": pa.array([b"\xff"] * 3)},
        {"x": pa.array([b"0123456789abcdef"] * 3, pa.uuid())},
        {"x": pa.array([1, 2, 3], pa.duration("s"))},
    ],
)
def test_columns_of_other_types(changes, tmp_path):
    write(tmp_path / f"{XNLI}.parquet", pa.table(COLUMNS | changes))
    assert load(tmp_path)[:] == {"text_a": ["a", "b", "c"], "text_b": ["x", "y", "z"], "label": [0, 1, 2]}


@pytest.mark.parametrize(
    "changes, told",
    [
        ({"premise": [b"a"] * 3}, ["row 1", "'premise'"]),
        ({"premise": [["a"]] * 3}, ["row 1", "'premise'", "list"]),
        ({"premise": [None, None, None]}, ["row 1", "'premise'", "null"]),
        ({"label": [True, False, True]}, ["row 1", "'label'", "True"]),
        ({"premise": pa.array([b"0123456789abcdef"] * 3, pa.uuid())}, ["'premise'", "uuid"]),
        ({"label": pa.array([0, 1, 2], pa.date32())}, ["row 1", "'label'"]),
        ({"label": [{"a": 1}] * 3}, ["row 1", "'label'"]),
    ],
)
def test_columns_of_wrong_types(changes, told, tmp_path):
    write(tmp_path / f"{XNLI}.parquet", pa.table(COLUMNS | changes))
    refused(tmp_path, "test.parquet", *told)


def test_repeated_column(tmp_path):
    names = ["premise", "premise", "hypothesis", "label"]
    write(
        tmp_path / f"{XNLI}.parquet",
        pa.Table.from_arrays([pa.array(v) for v in (["a"], ["b"], ["x"], [0])], names=names),
    )
    refused(tmp_path, "two columns 'premise'")
