"""Hundreds of malformed command lines for every script and tool, drawn with a seed: one line and exit code 2, or the
work begins.

Where the work would begin it is stopped: what is tested is all that comes before. A case is run again by its id.
"""

import importlib
import os
import random
import sys
from dataclasses import fields

import pytest

from xstilts.cli import words
from xstilts.run import endings

CASES = 40  # of each script
VALUES = [
    "",
    " ",
    "-1",
    "0",
    "-0.0",
    "nan",
    "inf",
    "-inf",
    "1e309",
    "1" + "0" * 30,
    "9" * 5000,
    "0.5",
    "true",
    "null",
    "None",
    "[]",
    "{}",
    "{",
    "a\nb",
    "é",
    "😀",
    "../..",
    "/",
    "~",
    "/dev/null",
    "FIFO",
    "FOLDER",
    "FILE",
    "FILE/x",
    "--",
    "-",
    "=",
    "x" * 6000,
    "en",
    "1,2",
    "tatoeba:ces",
    "bucc:dev",
    "%s",
    "{source}",
    "\udcff",
    "0x10",
    "qaa",
    "xnli",
    "all",
    '{"a": 1}',
    '{"a": NaN}',
    "'",
    '"',
    "a b",
    "no",
    "steps",
    "best",
    "a=b",
    "xnli.test=dev",
    "\x07",
    "https://host/x?token=abc",
    "hf_" + "a" * 30,
]
YAML = [
    "a: [",
    "seed: null",
    "seed: 1\nseed: 2",
    "help: true",
    "config: x",
    "seed: !!int x",
    "x: &a [1]\ny: *a",
    "- a",
    "a",
    "seed: {a: 1}",
    "seed: [1, 2]",
    "languages: [no]",
    "languages: []",
    "languages: [[a]]",
    "languages: [null]",
    "--seed: 1",
    "seed=3: 1",
    "run_name: --hub_token=x",
    "hub-token: x",
    "script: run_x.py",
    "script: [a]",
    "learning_rate: .nan",
    "logging_steps: 1e309",
    "1: 2",
    "? [a]\n: 1",
    'arm: "\\ud800"',
    'arm: "\\0"',
    "arm: |\n  a\n  b",
    "a: " + "[" * 3000,
    "\t- a",
    "---\na: 1\n---\nb: 2",
    "pooling: max",
    "benchmark: glue",
    "report_to: [a, --x]",
    "lr_scheduler_kwargs: {a: 1}",
    "bf16: maybe",
    "arm: 2001-99-99",
]
SCRIPTS = {
    "target": ("run_target.py", ["--task", "xnli"]),
    "intermediate": ("run_intermediate.py", ["--tasks", "mnli"]),
    "mlm": ("run_mlm.py", []),
    "retrieval": ("run_retrieval.py", ["--tasks", "tatoeba"]),
    "dual": ("run_intermediate.py", ["--tasks", "squad_dual"]),
    "report": ("run_report.py", []),
    "translate": ("xstilts.translate", ["--task", "xnli", "--languages", "qaa"]),
}


def begins(*args, **options):
    """The arguments are taken, and the work begins."""
    sys.exit(0)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An empty working folder beside one with a FIFO, a folder and a file; the scripts stop before their work."""
    from xstilts import seq2seq
    from xstilts.retrieve import embedding
    from xstilts.run.lifecycle import Run

    monkeypatch.setattr(Run, "open", begins)
    monkeypatch.setattr(embedding.Encoder, "load", begins)
    monkeypatch.setattr(seq2seq, "load", begins)
    monkeypatch.syspath_prepend(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    (tmp_path / "given").mkdir()
    os.mkfifo(tmp_path / "given/FIFO")
    (tmp_path / "given/FOLDER").mkdir()
    (tmp_path / "given/FILE").write_text("x")
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    return tmp_path


def flags(module) -> list[str]:
    """The names of a script's own arguments, and for one that trains those of TrainingArguments."""
    found = []

    def look(argv, script, description, *kinds, training=True):
        found.extend(f.name for kind in kinds for f in fields(kind))
        found.extend(words.training_fields() if training else ())
        begins()

    parse, module.parse = module.parse, look
    with pytest.raises(SystemExit):
        module.main([])
    module.parse = parse
    return found


def malformed(rng, given: list[str], names: list[str], place) -> list[str]:
    """A command line with one to three things done to it."""

    def value():
        text = rng.choice(VALUES)
        return str(place / "given" / text) if text.startswith(("FIFO", "FOLDER", "FILE")) else text

    line = list(given)
    for _ in range(rng.choice([1, 1, 2, 3])):
        flag, kind = rng.choice(names), rng.randrange(10)
        if kind == 0 and f"--{flag}" in line:
            line[line.index(f"--{flag}") + 1 :][:1] = [value()]
        elif kind <= 3:
            line += [f"--{flag}", value()]
        elif kind == 4:
            line.append(f"--{flag.replace('_', '-')}={value()}")
        elif kind == 5:
            line += [f"--{flag}", value(), value()]
        elif kind == 6:
            line += rng.choice([[f"--{flag[:-1]}", value()], [f"--no_{flag}"], [f"--{flag}"]])
        elif kind == 7 and line:
            del line[rng.randrange(len(line))]
        elif kind == 8:
            line.insert(rng.randrange(len(line) + 1), value())
        else:
            path = place / "given" / f"{rng.randrange(10**9)}.yaml"
            path.write_text(rng.choice(YAML) + "\n")
            line += ["--config", str(path)]
    return line


@pytest.mark.parametrize("name", SCRIPTS)
def test_malformed_arguments_are_refused_in_one_line_and_nothing_is_left(
    name, place, tiny_model, tiny_world, monkeypatch, capsys
):
    script, given = SCRIPTS[name]
    module = importlib.import_module(script.removesuffix(".py"))
    model = [
        "--model" if name == "translate" else "--model_name_or_path",
        str(tiny_model),
        "--data_root",
        str(tiny_world),
    ]
    output = ["--output_root" if name == "translate" else "--output_dir", str(place / "out/run")]
    given = ["--runs_dir", str(place), *output] if name == "report" else [*given, *model, *output]
    names, refused = flags(module), 0
    for case in range(CASES):
        line = malformed(random.Random(f"{name} {case}"), given, names, place)
        monkeypatch.setattr(sys, "argv", [script, *line])
        code = 0
        try:
            endings.command(module.main)
        except SystemExit as leave:
            code = leave.code
        said = capsys.readouterr().err.splitlines()
        where = f"case {case}: {[word[:80] for word in line]}: {said[-3:]}"
        assert code in (0, 2), where
        if code == 2:
            refused += 1
            assert len(said) == 1 and said[0].startswith(f"{script}: error: ") and len(said[0]) < 1600, where
            assert not (place / "out").exists() and not list((place / "cwd").iterdir()), where
    assert refused > CASES / 2
    assert not os.listdir(place / "given/FOLDER")


TOOLS = {
    "push": ["--hub", "me", "--matrix", "m"],
    "plan": [],
    "xtreme.submission": ["gold", "--data_root", "nowhere", "--output", "out"],
    "xtreme.submission score": ["score", "--predictions", "nowhere", "--labels", "nowhere"],
    "xtreme.submission write": ["write", "nowhere", "--output", "out"],
}


@pytest.mark.parametrize("name", TOOLS)
def test_tools_refuse_malformed_arguments(name, place, capsys):
    main = importlib.import_module(f"xstilts.{name.split()[0]}").main
    names = ["output", "hub", "matrix", "jobs", "seed", "tasks", "splits", "arm", "labels", "private"]
    for case in range(CASES):
        line = malformed(random.Random(f"{name} {case}"), TOOLS[name], names, place)
        try:
            main(line)
        except SystemExit as leave:
            assert leave.code == 2 or "--help" in line, line
        assert "Traceback" not in capsys.readouterr().err
        assert not list((place / "cwd").iterdir()), line
