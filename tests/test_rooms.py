"""Which room of the project may import which."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# room: the rooms that it may import
BASE = {"cli", "checkpoint", "run", "tasks"}
ALLOWED = {
    "world": set(),
    "tasks": set(),
    "cli": {"tasks"},
    "checkpoint": {"tasks"},
    "run": {"tasks", "cli"},
    "train": BASE,
    "retrieve": BASE,
    "report": BASE,
    "xtreme": BASE | {"report"},
    # tools, a module each, started by `python -m xstilts.<tool>`
    "four_bit": {"tasks"},
    "xlmr_tokenizer": {"tasks", "checkpoint", "four_bit"},
    "dequantise": BASE | {"four_bit", "xlmr_tokenizer"},
    "marked_text": {"tasks"},
    "seq2seq": {"tasks", "checkpoint"},
    "translate": BASE | {"marked_text", "seq2seq"},
    "plan": BASE,
    "push": BASE | {"plan"},
}
SCRIPTS = {path.stem for path in ROOT.glob("*.py")}
FILES = sorted(path for room in ("xstilts", "tasks", "world") for path in (ROOT / room).rglob("*.py"))


def room_of(module: str) -> str | None:
    """Return the room of a dotted name: xstilts.train.lora -> train; None of what is not ours, and of the package
    xstilts itself."""
    top, *below = module.split(".")
    if top == "xstilts":
        return below[0] if below else None
    return top if top in ("tasks", "world") or top in SCRIPTS else None


def imports(text: str, module: str) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of everything a module imports, within functions too, and by name
    (`import_module("...")`)."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = module.split(".")[: -node.level] if node.level else []
            name = ".".join([*above, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{name}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and "import" in ast.unparse(node.func).rpartition(".")[2] and node.args:
            if isinstance(node.args[0], ast.Constant) and isinstance(node.args[0].value, str):
                yield node.lineno, node.args[0].value


def wrong(text: str, module: str) -> list[tuple[int, str]]:
    """(line, name) of the imports in a module's text that ALLOWED does not have."""
    own = room_of(module)
    rooms = ((line, name, room_of(name)) for line, name in imports(text, module))
    return [
        (line, name) for line, name, room in rooms if room is not None and room not in ALLOWED.get(own, set()) | {own}
    ]


def test_every_import_goes_where_it_may():
    found = []
    for path in FILES:
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        found += [f"{path.relative_to(ROOT)}, line {line}: {name}" for line, name in wrong(path.read_text(), module)]
    assert not found, "\n".join(found)


def test_the_table_names_what_is_there():
    rooms = {
        path.stem for path in (ROOT / "xstilts").iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()
    }
    assert rooms - {"__init__"} | {"tasks", "world"} == set(ALLOWED)


def test_the_table_has_no_circle():
    left = dict(ALLOWED)
    while last := [room for room, others in left.items() if not others & left.keys()]:
        for room in last:
            del left[room]
    assert not left


@pytest.mark.parametrize(
    "module, line",
    [
        ("xstilts.train.runner", "from xstilts.retrieve import mining"),
        ("xstilts.retrieve.measure", "def f():\n    from xstilts.train.runner import first"),
        ("xstilts.report.hits", "from ..retrieve import measure"),
        ("xstilts.cli.arguments", "import xstilts.run.inputs as inputs"),
        ("xstilts.run.lifecycle", "from xstilts import plan"),
        ("xstilts.xtreme.submission", "from run_report import main"),
        ("tasks.rows", "from xstilts.run.files import write_text"),
        ("world.build", "import tasks"),
        ("xstilts.train.runner", 'importlib.import_module("xstilts.retrieve.mining")'),
    ],
)
def test_a_wrong_import_is_found(module, line):
    assert len(wrong(line, module)) == 1


@pytest.mark.parametrize(
    "module, line",
    [
        ("xstilts.train.runner", "from xstilts.train import trainers"),
        ("xstilts.train.runner", "from tasks.errors import UserError"),
        ("xstilts.run.lifecycle", "from xstilts.cli.arguments import STARTED"),
        ("tasks.rows", "from tasks.errors import UserError"),
        ("world.build", "import tasksmith, numpy"),
    ],
)
def test_a_right_import_is_not(module, line):
    assert not wrong(line, module)


# ---- a script leads to few modules ----------------------------------------------------------------------------------


def stays(text: str, objects: dict[str, str]) -> list[str]:
    """The modules that a script's calls lead to, from top to bottom; calls into the same one, in a row, are one stay.

    Args:
        objects: {variable: module of its class}, for calls of methods.
    """
    tree, homes = ast.parse(text), dict(objects)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and room_of(str(node.module)):
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                is_module = (ROOT / whole.replace(".", "/")).with_suffix(".py").is_file()
                homes[alias.name] = whole if is_module else str(node.module)
    calls = sorted(
        (node.func.lineno, node.func.col_offset, ast.unparse(node.func).partition(".")[0])
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
    )
    found = [homes[name] for _, _, name in calls if name in homes and name != "command"]
    return [module for i, module in enumerate(found) if i == 0 or found[i - 1] != module]


def test_following_one_target_run_leads_to_few_modules():
    objects = {"run": "xstilts.run.lifecycle", "task": "tasks.base"}
    found = stays((ROOT / "run_target.py").read_text(), objects)
    assert len(found) <= 14 and len(found) - len(set(found)) <= 5, found


def _is_call(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)


def test_importing_a_module_makes_no_state():
    """Outside functions: locks, threads, sockets, empty containers to fill, objects of a class without arguments;
    calls and loops, which change something of another module. xstilts/__init__.py sets what torch reads at import."""
    found = []
    for path in (
        *ROOT.glob("run_*.py"),
        *(one for room in ("xstilts", "tasks", "recipes") for one in ROOT.glob(f"{room}/**/*.py")),
    ):
        tree = ast.parse(path.read_text())
        classes = {node.name for node in tree.body if isinstance(node, ast.ClassDef)}
        for node in tree.body:
            value = node.value if isinstance(node, ast.Assign | ast.AnnAssign) else None
            if isinstance(value, ast.Call):
                name = ast.unparse(value.func)
                state = name.startswith(("threading.", "socket.", "queue.")) or (
                    name in classes | {"dict", "list", "set"} and not (value.args or value.keywords)
                )
            else:
                state = isinstance(value, ast.List | ast.Dict | ast.Set) and not (
                    value.keys if isinstance(value, ast.Dict) else value.elts
                )
            # calls and loops change something elsewhere; a script's start, and its search path, are not imported
            if isinstance(node, ast.For | ast.While | ast.Expr):
                called = ast.unparse(node.value.func) if _is_call(node) else ""
                allowed = called == "sys.path.insert" or path.relative_to(ROOT).as_posix() == "xstilts/__init__.py"
                state = not (allowed or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)))
            if state:
                found.append(f"{path.relative_to(ROOT)}:{node.lineno}: {ast.unparse(node)}")
    assert not found
