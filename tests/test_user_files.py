"""A user's YAML and JSON are read literally, or refused in one line with file and line, without waiting."""

import os

import pytest

from tasks.errors import UserError
from xstilts.cli.user_files import LARGEST, read_json, read_yaml


@pytest.fixture
def file(tmp_path):
    def write(text):
        path = tmp_path / "given"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def refused(read, path):
    with pytest.raises(UserError) as caught:
        read(path, "--flag")
    said = str(caught.value)
    assert said.startswith(f"--flag {path}") and "\n" not in said
    return said.removeprefix(f"--flag {path}")


def test_values_are_text_and_nothing_is_guessed(file):
    """YAML 1.1 takes these for false, 8, 5400, a date, 10 and a number."""
    text = "a: no\nb: 010\nc: 1:30\nd: 2001-01-01\ne: 1_0\nf: 2e-5\ng: [on, {h: 1.10}]\ni: 'null'\nj: null\nk:\nl: ~\n"
    assert read_yaml(file(text), "--flag") == {
        "a": "no",
        "b": "010",
        "c": "1:30",
        "d": "2001-01-01",
        "e": "1_0",
        "f": "2e-5",
        "g": ["on", {"h": "1.10"}],
        "i": "null",
        "j": None,
        "k": None,
        "l": None,
    }
    assert read_yaml(file("a: 2001-99-99\n"), "--flag") == {"a": "2001-99-99"}
    assert read_yaml(file("\ufeff# nothing\n"), "--flag") == {} == read_yaml(file(""), "--flag")


@pytest.mark.parametrize(
    "text, line, why",
    [
        ("a: 1\nb: 2\na: 3\n", 3, "the key 'a' is given twice"),
        ("a: {b: 1, b: 2}\n", 1, "the key 'b' is given twice"),
        ("a: 1\nb: !!int x\n", 2, "!!int"),
        ("a: !!python/object:os.system x\n", 1, "!!python/object"),
        ("a: !mine x\n", 1, "!mine"),
        ("a: &x 1\nb: *x\n", 1, "aliases"),
        ("a: [*x]\n", 1, "aliases"),
        ("a: 1\n---\nb: 2\n", 2, "a second document"),
        ("~: 1\n", 1, "the key 'None' is not a name"),
        ("a: 1\n? [b]\n: c\n", 2, "is not a name"),
        ("a:\n\t- b\n", 2, "\\t"),
        ("a: 1\nb: [1, 2\n", 3, "expected ',' or ']'"),
        ("a: b: c\n", 1, "mapping values"),
        ("a: " + "[" * 5000, 1, "nested"),
        ("a: " + "{b: " * 5000, 1, "nested"),
        ('a: "\\ud800"\n', 1, "is not text"),
        ('a: "\\0"\n', 1, "is not text"),
        ("a: \x07\n", None, "#x0007"),
        ("- a\n", None, "key: value"),
        ("a\n", None, "key: value"),
    ],
)
def test_empty_or_repeated_yaml_is_refused(file, text, line, why):
    said = refused(read_yaml, file(text))
    assert why in said and said.startswith(f", line {line}: " if line else ": ")


def test_aliases_that_grow_are_refused_at_once(file):
    bomb = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12))
    assert "aliases" in refused(read_yaml, file(bomb))


@pytest.mark.parametrize(
    "text, why",
    [
        ("{", ", line 1: not valid JSON"),
        ("{}\n{", ", line 2: not valid JSON"),
        ("[1]", "expected a JSON object"),
        ("1", "expected a JSON object"),
        ('{"a": 1, "a": 2}', "'a' is given twice"),
        ('{"a": {"b": 1, "b": 1}}', "'b' is given twice"),
        ('{"a": NaN}', "NaN is not a finite"),
        ('{"a": -Infinity}', "not a finite"),
        ('{"a": 1e999}', "1e999 is not a finite"),
        ('{"a": ' + "9" * 5000 + "}", "not valid JSON"),
        ('{"a": ' + "[" * 50000, "nested"),
    ],
)
def test_json_that_means_nothing_or_two_things_is_refused(file, text, why):
    assert why in refused(read_json, file(text))
    assert read_json(file('{"a": [1, 2.5, null]}'), "--flag") == {"a": [1, 2.5, None]}


@pytest.mark.parametrize("read", [read_yaml, read_json])
def test_file_that_is_not_a_small_text_is_refused(read, file, tmp_path):
    assert "is a folder" in refused(read, tmp_path)
    assert "no such file" in refused(read, tmp_path / "none")
    os.mkfifo(tmp_path / "fifo")
    assert "is a pipe or a device" in refused(read, tmp_path / "fifo")  # opened, it would be waited for
    assert "is a pipe or a device" in refused(read, "/dev/zero")
    assert "cannot be read" in refused(read, file("x") / "below")
    assert "not valid UTF-8 (byte 3)" in refused(read, file(b"a: \xe4"))
    assert f"at most {LARGEST:,}" in refused(read, file(b"a" * (LARGEST + 1)))
