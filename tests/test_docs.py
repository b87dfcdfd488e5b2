"""Every command of README, CONTRIBUTING and docs: executed here, on the tiny world and model, or marked with why not.

A mark stands on the line before its block: `<!-- not run: why -->`, or `<!-- run by: tests/test_x.py, on what -->`.
What is marked is still parsed: make's lines by `make -n`, the scripts' by their own parser.
"""

import re
import shlex
from pathlib import Path
from typing import NamedTuple

import pytest
from conftest import ROOT
from test_chain import make

from xstilts.report.matrix import collect
from xstilts.xtreme import submission

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
MARK = re.compile(r"^<!-- (not run|run by): (.+) -->$")
FEW = ["--max_train_samples", "100", "--max_eval_samples", "20", "--max_steps", "5"]
TRAINS = ("run_mlm.py", "run_intermediate.py", "run_target.py")
STARTS = re.compile(r"^\s*(make|python|bash|torchrun|accelerate|pip|pytest|srun|source|\.venv/bin/\w+)\s+[\w./=-]")


class Block(NamedTuple):
    """A block of code on a page."""

    language: str
    mark: re.Match | None
    lines: list[str]


def blocks(text: str) -> list[Block]:
    """Return the fenced blocks of a page."""
    found: list[Block] = []
    lines = text.splitlines()
    inside = False
    for number, line in enumerate(lines):
        if line.startswith("```") and not inside:
            found.append(Block(line[3:], MARK.match(lines[number - 1] if number else ""), []))
            inside = True
        elif line.startswith("```"):
            inside = False
        elif inside:
            found[-1].lines.append(line)
    return found


def commands(block: Block) -> list[list[str]]:
    """Return the words of each command, without comments; a line that ends in a backslash goes on."""
    whole = "\n".join(block.lines).replace("\\\n", " ").splitlines()
    lines = [line.partition("  #")[0].strip() for line in whole]
    return [shlex.split(line) for line in lines if line and not line.startswith("#")]


def pages_with(kind: str) -> list[str]:
    """Return the pages with bash blocks that are to be run ("run"), or that are marked ("marked")."""
    wanted = [
        page for page in PAGES if any((b.mark is None) == (kind == "run") for b in bash(page.read_text("utf-8")))
    ]
    return [str(page.relative_to(ROOT)) for page in wanted]


def bash(text: str) -> list[Block]:
    return [block for block in blocks(text) if block.language == "bash"]


# ---- the marks ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_stand_in_bash_blocks(page):
    """So that none escapes the tests below."""
    text = page.read_text(encoding="utf-8")
    other = [line for block in blocks(text) if block.language != "bash" for line in block.lines]
    outside = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S).splitlines()
    found = [line for line in other if STARTS.match(line)]
    found += [line for line in outside if line.startswith("    ") and STARTS.match(line)]
    assert not found


def test_a_test_that_a_mark_names_is_there():
    marks = [block.mark for page in PAGES for block in bash(page.read_text("utf-8")) if block.mark]
    named = [mark[2].split(",")[0] for mark in marks if mark[1] == "run by"]
    assert named and all((ROOT / name).is_file() for name in named)


def test_what_pages_name_is_there():
    """Scripts and modules in running text, and links to other pages."""
    missing = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        named = set(re.findall(r"python (?!-)([\w/]+\.py)", text)) | {
            f"{module.replace('.', '/')}.py"
            for module in re.findall(r"python -m ((?:xstilts|world|tests)[\w.]*)", text)
        }
        links = {
            str((page.parent / link).resolve().relative_to(ROOT))
            for link in re.findall(r"\]\((?!http)([^)#]+)\)", text)
        }
        for name in named | links:
            there = ROOT / name, ROOT / name.removesuffix(".py") / "__main__.py"
            if not any(path.exists() for path in there):
                missing.append(f"{page.relative_to(ROOT)}: {name}")
    assert not missing


# ---- tables ---------------------------------------------------------------------------------------------------------


def typed_tables(text: str) -> list[str]:
    """Return the first lines of the tables with measured figures that name no script which prints them."""
    if text.startswith(("<!-- Written by `", "# Which encoders work\n\nWritten by `")):
        return []
    found = []
    for table in re.finditer(r"(?:^<!-- printed by: (\S+).* -->\n+)?((?:^\|.*\n)+)", text, re.M):
        cells = [cell.strip(" *†") for row in table[2].splitlines()[2:] for cell in row.strip("|").split("|")]
        figures = [cell for cell in cells if re.match(r"[+−-]?\d+\.\d", cell)]
        if len(figures) > 2 and not (table[1] and (ROOT / table[1]).is_file()):
            found.append(table[2].splitlines()[0])
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_table_of_figures_is_typed_by_hand(page):
    assert not typed_tables(page.read_text(encoding="utf-8"))


def test_a_typed_table_is_found():
    table = "| arm | xnli |\n|---|---|\n| a | 1.5 |\n| b | **2.5** |\n| c | −0.5 [−1.0, 0.1] |\n"
    assert typed_tables(f"# Page\n\n{table}") == ["| arm | xnli |"]
    assert typed_tables(f"# Page\n\n<!-- printed by: run_report.py -->\n{table}") == []
    assert typed_tables(f"# Page\n\n<!-- printed by: nowhere.py -->\n{table}")


# ---- marked commands are parsed -------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", pages_with("marked"))
def test_marked_commands_are_accepted(page, parsed_by):
    for block in bash((ROOT / page).read_text(encoding="utf-8")):
        for words in commands(block) if block.mark else ():
            script = next((word for word in words if re.fullmatch(r"run_\w+\.py", word)), None)
            if script:
                parsed_by(script, words[words.index(script) + 1 :])
            elif words[0] == "make" and words[1:2] not in (["help"], ["test"], ["check"]):
                takes([word.replace("scitail", "rte") for word in words[1:]])  # the task that a reader adds
            elif words[:2] == ["bash", "recipes/slurm/matrix.sbatch"]:  # sbatch's options, then make's variables
                takes(["matrix", *(word for word in words[2:] if not word.startswith(("-", "AT_ONCE=")))])


def takes(words: list[str]) -> None:
    done = make("-n", *(word for word in words if word != "-n"))
    assert done.returncode == 0 and done.stdout, done.stderr


# ---- the others are run ---------------------------------------------------------------------------------------------


@pytest.fixture
def place(tmp_path) -> Path:
    """Where the commands of a page write."""
    return tmp_path


@pytest.fixture
def run(place, cli, fork_python, tiny_model, tiny_world, capsys):
    """`run(words)`: execute a command in `place`, with the sizes, model and world of the tests -> what it printed."""
    names = {
        "FacebookAI/xlm-roberta-base": str(tiny_model),
        "data/world": str(tiny_world),
        "de": "qaa",
        "sw": "qab",
    }

    def adapted(words: list[str]) -> list[str]:
        if "world" in words[:2]:  # one of its own, which is made small
            words = [word.replace("data/world", f"{place}/world") for word in words]
        words = [re.sub(r"^runs(/world|/hand)?(?=$|/)", f"{place}/runs", names.get(word, word)) for word in words]
        own = ("submission", "labels", "vectors", "mnli-layer2", "data/w9", "/tmp/w")
        return [f"{place}/{word.strip('/')}" if word in own else word for word in words]

    def execute(words: list[str]) -> str:
        words = words[words.index("python") :] if "python" in words else words
        if words[:2] == ["accelerate", "launch"]:
            words = ["python", *words[2:]]
        if words[0] == "make":
            done = make(*words[1:])
        elif words[1] in ("-m", "benchmarks/scaling.py", "benchmarks/results.py"):
            if words[2] == "xstilts.xtreme.submission":
                more = {"write": ["--arm", "mnli"], "gold": ["--max_eval_samples", "20"], "score": []}
                assert submission.main([*adapted(words[3:]), *more[words[3]]]) == 0, capsys.readouterr().err
                return capsys.readouterr().out
            small = ["--size", "0.02"] if words[2] == "world" and "--out" in words and "--size" not in words else []
            small = [] if "--translate" in words else small
            done = fork_python(*adapted(words[1:]), *small)
        else:
            words = adapted(words[1:])
            if words[0] != "run_report.py" and "--export_sentence_transformers" not in words:
                words += [] if "--data_root" in words else ["--data_root", str(tiny_world)]
                words += FEW if words[0] in TRAINS else ["--max_eval_samples", "20"]
            done = cli(*words)
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout

    return execute


@pytest.mark.parametrize("page", [page for page in pages_with("run") if page != "README.md"])
def test_the_commands_of_a_page_run(page, run, place):
    printed = ""
    if page == "docs/retrieval.md":  # it measures what another page trains
        model = ["--model_name_or_path", "FacebookAI/xlm-roberta-base"]
        run(["python", "run_intermediate.py", "--tasks", "mnli", *model, "--output_dir", "runs/mnli/seed0"])
    for block in bash((ROOT / page).read_text(encoding="utf-8")):
        for words in commands(block) if not block.mark else ():
            printed += run(words)
    if page == "docs/scaling.md":
        whole = (ROOT / page).read_text(encoding="utf-8")
        shown = re.search(r"^<!-- output of .*?-->\n(.*?)\n<!-- end", whole, re.M | re.S)[1]
        assert re.sub(r"<!-- .*? -->\n", "", shown) == printed.strip()
    if page == "docs/matrix.md":
        found = collect(place / "runs")
        assert {("mnli", "xnli", 0), ("mnli", "tatoeba", 0)} <= set(found.records) and not found.problems
        assert "| mnli |" in printed and "Problem" not in printed and "xnli" in printed


def test_readme_runs_from_the_first_cell_to_python(run, place, fork_python):
    """Its commands, then its Python, which reads what they and two more cells leave."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    printed = "".join(run(words) for block in bash(text) if not block.mark for words in commands(block))
    cost = re.search(
        r"(\d+) runs, (\d+) GB of disk, (\d+) hours and (\d+) GiB .* at ([\d,]+) tokens a second, so (\d+) dollars",
        text,
    )
    assert f"| all | {cost[1]} |" in printed and f"| 1 GPU | {cost[3]}." in printed and f"| {cost[6]} |" in printed
    assert round(sum(map(float, re.findall(r"([\d.]+) GB", printed)))) == int(cost[2])
    memory = [float(row.split("|")[-2]) for row in printed.splitlines() if row.startswith("| 8 x 384 tokens |")]
    assert round(memory[0]) == int(cost[4]) and f"at {cost[5]} tokens/s" in printed
    model = ["--model_name_or_path", "FacebookAI/xlm-roberta-base"]
    run(["python", "run_intermediate.py", "--tasks", "squad", *model, "--output_dir", "runs/squad/seed0"])
    model = ["--model_name_or_path", "runs/squad/seed0"]
    run(["python", "run_target.py", "--task", "tydiqa", *model, "--output_dir", "runs/squad/seed0/tydiqa"])
    (python,) = [block for block in blocks(text) if block.language == "python"]
    code = "\n".join(python.lines).replace('"runs/world/squad_dual/seed0"', '"runs/world/squad/seed0"')
    code = code.replace('"runs/world/', f'"{place}/runs/')
    done = fork_python("-c", code)
    assert done.returncode == 0, done.stderr
    cosines, labels, answer = done.stdout[: done.stdout.index("{")], *done.stdout.splitlines()[-2:]
    assert cosines.count(".") == 9 and "entailment" in labels
    assert answer and answer in re.search(r'question, context = ".*", "(.*)"$', code, re.M)[1]


def test_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) < 150
