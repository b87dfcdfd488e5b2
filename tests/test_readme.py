"""README.md's commands, copied from it: all of make's and the scripts', on the tiny world and model, and the report
they end in."""

import re
import shlex

import pytest
from conftest import ROOT
from test_chain import make

from xstilts.report.matrix import collect
from xstilts.run import results
from xstilts.xtreme import submission

README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = [
    line.partition("  #")[0].strip()
    for block in re.findall(r"^```bash\n(.*?)^```", README, re.M | re.S)
    for line in block.splitlines()
]
TABLE = re.findall(r"^\| [^|]+ \| `run_\w+\.py` \| `([^`]+)` \|$", README, re.M)
(FEW,) = re.findall(r"rehearsal of any that trains add `([^`]+)`", README)


def test_every_command_of_the_page_is_tried_here():
    scripts = [next(word for word in line.split() if word.startswith("run_")) for line in TABLE]
    assert scripts == ["run_mlm.py", "run_intermediate.py", "run_target.py", "run_retrieval.py", "run_report.py"]
    assert all(line.startswith(("make", "bash", "python -m xstilts.xtreme.submission")) for line in BLOCKS)


def test_the_phases_by_hand_end_in_a_report_and_a_submission(cli, tiny_model, tiny_world, tmp_path, capsys):
    """The commands of the phases as they stand, then those of phase 3 for the plain model; with sizes, model and world
    of the tests."""
    names = {"FacebookAI/xlm-roberta-base": str(tiny_model), "data/world": str(tiny_world), "de": "qaa", "sw": "qab"}

    def adapted(command):
        words = [
            re.sub(r"^runs(/world)?(?=$|/)", f"{tmp_path}/runs", names.get(word, word))
            for word in shlex.split(command)
        ]
        return [f"{tmp_path}/{word}" if word in ("submission", "labels") else word for word in words]

    def run(command):
        words = adapted(command.removeprefix("accelerate launch ").removeprefix("python "))
        if words[0] != "run_report.py":
            words += [
                "--data_root",
                tiny_world,
                *(["--max_eval_samples", "20"] if words[0] == "run_retrieval.py" else shlex.split(FEW)),
            ]
        done = cli(*words)
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout

    *phases, report = TABLE
    for command in phases:
        run(command)
    for command in phases[2:]:
        run(
            command.replace("_path runs/mnli/seed0", "_path FacebookAI/xlm-roberta-base").replace(
                "runs/mnli", "runs/none"
            )
        )
    printed, found = run(report), collect(tmp_path / "runs")
    assert set(found.records) == {(arm, task, 0) for arm in ("mnli", "none") for task in ("xnli", "tatoeba")}
    assert not found.problems and "Problem" not in printed and "| mnli |" in printed
    assert results.read(tmp_path / "runs/mlm/results.json")["settings"]["text_languages"] == ["en", "qaa", "qab"]

    commands = [adapted(line) for line in BLOCKS if line.startswith("python -m xstilts.xtreme.submission")]
    assert [words[3] for words in commands] == ["write", "gold", "score"]
    for words, more in zip(commands, (["--arm", "mnli"], ["--max_eval_samples", "20"], []), strict=True):
        # all arms are at chance here
        assert submission.main([*words[3:], *more]) == 0, capsys.readouterr().err
    assert "xnli" in capsys.readouterr().out


@pytest.mark.parametrize("line", [line for line in BLOCKS if line.startswith(("make", "bash"))])
def test_make_takes_every_command(line):
    for command in line.split(";"):
        words = shlex.split(command)
        if words[0] == "bash":  # sbatch's options, then make's variables
            assert (ROOT / words[1]).is_file()
            words = ["make", "matrix", *(word for word in words[2:] if not word.startswith("-"))]
        done = make("-n", *words[1:])
        assert done.returncode == 0 and done.stdout, done.stderr


def commands_of(page):
    """The lines of a page's code that start a script or make, without comments and what is left to the reader
    (...)."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8").replace("\\\n", " ")
    lines = re.findall(r"^(?:    )?((?:python run_|make [a-z-]|bash recipes).*)$", text, re.M)
    return [shlex.split(line.partition("  #")[0].strip().removesuffix(" ...")) for line in lines]


@pytest.mark.parametrize("page", sorted(path.name for path in (ROOT / "docs").glob("*.md") if commands_of(path.name)))
def test_the_arguments_of_every_page_are_known(page, parsed_by):
    for words in commands_of(page):
        if words[0] == "python":
            parsed_by(words[1], words[2:])
        elif words[1] not in ("goes", "-k"):
            given = (
                ["matrix", *(word for word in words[2:] if not word.startswith("-"))]
                if words[0] == "bash"
                else words[1:]
            )
            done = make("-n", *given)
            assert done.returncode == 0, done.stderr
