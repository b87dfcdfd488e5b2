"""pyproject.toml beside the files: what `pip install -e .` installs is what there is."""

import ast
import re
import sys
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def versions(lines):
    """{name: (relation, version)} of requirements."""
    found = (re.match(r"([\w.-]+)(==|>=)([\w.]+)", line) for line in lines)
    return {one[1].lower(): (one[2], tuple(map(int, one[3].split(".")))) for one in found if one}


def test_floors_name_the_pinned_libraries_and_none_is_above_its_pin():
    pins = versions((ROOT / "requirements.txt").read_text().splitlines())
    floors = versions(PROJECT["project"]["dependencies"])
    assert floors.keys() == pins.keys()
    for name, (_, floor) in floors.items():
        assert floor <= pins[name][1], name


def test_every_library_that_is_imported_is_a_requirement():
    named = {
        "yaml": "pyyaml",
        "sklearn": "scikit-learn",
        "faiss": "faiss-cpu",
        "sentence_transformers": "sentence-transformers",
    }
    ours = {"tasks", "world", "xstilts", "_typeshed"}  # the last one is a type checker's
    found = {}
    for pattern in ("run_*.py", "xstilts/**/*.py", "tasks/**/*.py", "world/**/*.py", "recipes/**/*.py"):
        for path in ROOT.glob(pattern):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                names += [str(node.module)] if isinstance(node, ast.ImportFrom) and not node.level else []
                found |= {name.partition(".")[0]: path.name for name in names}
    others = found.keys() - sys.stdlib_module_names - ours
    required = versions(PROJECT["project"]["dependencies"])
    assert not {name: found[name] for name in others if named.get(name, name) not in required}


def test_every_package_and_script_is_installed():
    setup = PROJECT["tool"]["setuptools"]
    inits = [path for room in ("tasks", "world", "xstilts") for path in (ROOT / room).rglob("__init__.py")]
    there = {".".join(path.parent.relative_to(ROOT).parts) for path in inits}
    assert set(setup["packages"]) == there
    assert set(setup["py-modules"]) == {path.stem for path in ROOT.glob("run_*.py")}


def test_the_version_is_that_of_the_changelog():
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.M)[1]
    assert PROJECT["project"]["version"].startswith(newest)


def test_the_linter_is_one_version_everywhere():
    pinned = versions((ROOT / "requirements-dev.txt").read_text().splitlines())["ruff"][1]
    assert f"rev: v{'.'.join(map(str, pinned))}\n" in (ROOT / ".pre-commit-config.yaml").read_text()


def test_the_citation_names_licence_and_paper():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["cff-version"] == "1.2.0" and citation["authors"] and citation["title"] and citation["message"]
    assert citation["license"] == PROJECT["project"]["license"]
    assert citation["references"][0]["identifiers"][0]["value"] == "arXiv:2005.13013"
