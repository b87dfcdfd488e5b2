"""Modules and functions are short."""

import ast

import pytest
from conftest import ROOT

MODULE_LINES, FUNCTION_LINES = 400, 60
SCRIPT_LINES = 120  # one reads a script in one sitting
PLACES = sorted(
    path
    for pattern in ("*.py", "xstilts/**/*.py", "tasks/**/*.py", "world/**/*.py", "recipes/*.py", "benchmarks/*.py")
    for path in ROOT.glob(pattern)
)


def too_long(source: str) -> list[str]:
    """Name what is longer than the limits, with its number of lines."""
    lines = len(source.splitlines())
    functions = [
        node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    long = {f"{node.name} (line {node.lineno})": node.end_lineno - node.lineno + 1 for node in functions}
    return ([f"the module: {lines} lines"] if lines > MODULE_LINES else []) + [
        f"{name}: {length} lines" for name, length in long.items() if length > FUNCTION_LINES
    ]


@pytest.mark.parametrize("path", PLACES, ids=lambda path: str(path.relative_to(ROOT)))
def test_modules_and_functions_are_short(path):
    assert not too_long(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", sorted(ROOT.glob("run_*.py")), ids=lambda path: path.stem)
def test_scripts_are_shorter(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) < SCRIPT_LINES


def test_what_is_too_long_is_found():
    body = "    pass\n" * FUNCTION_LINES
    assert too_long(f"def f():\n{body}") == ["f (line 1): 61 lines"]
    assert too_long("x = 1\n" * (MODULE_LINES + 1)) == ["the module: 401 lines"]
    assert not too_long(f"def f():\n{body[9:]}")
