"""What a folder of rows holds of a task, from the names of its folders and files, and what to type for the rest."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from tasks import languages as codes
from tasks.errors import UserError, reading
from tasks.expressions import alternatives, shards
from tasks.rows import ROUND_TRIP

if TYPE_CHECKING:
    from tasks.base import Task
    from tasks.rows import Rows
    from tasks.source import Source


def test_languages(task: Task, rows: Rows) -> list[str]:
    """Return the languages that a folder has test rows of, English first.

    Raises:
        UserError: the task has no test split, or the folder has no test rows.
    """
    found: set[str] = set()
    for source in task.sources:
        expression = test_expression(task, source, rows)
        for config in rows.configs(source.id):
            language = (
                source.language_of(config) if "{language}" in source.config else source.config == config and "en"
            )
            if language and not source.inside and expression and rows.has(source.id, config, expression):
                found.add(language)
        # the languages of a mixed file are only known once it is read; do so only if no other source has any
        if not found and source.inside and expression and rows.has(source.id, source.config, expression):
            found = _languages_inside(task, source, rows, expression)
    if not any(test_expression(task, source, rows) for source in task.sources):
        raise UserError(
            f"{task.name}: no test rows: it is an intermediate task, scored on its English dev split "
            f"(--splits {task.name}.test=... makes another split the test)."
        )
    if not found:
        looked = ", ".join(dict.fromkeys(str(rows.folder(source.id)) for source in task.sources))
        several = (
            _files_to_join(task, "test", source, config, rows)
            for source in task.sources
            for config in rows.configs(source.id)
            if config == source.config or source.language_of(config)
        )
        more = next(filter(None, several), "")
        if not more and (names := unread(task, rows, [])):
            more = f" Not read: {', '.join(names[:3])}."
        raise UserError(f"{task.name}: no test rows below {rows.root} (looked in {looked}).{more}")
    return sorted(found, key=lambda code: (code != "en", code))


def test_expression(task: Task, source: Source, rows: Rows) -> str:
    """Return the source split that is the task's test split, or the user's override; "" if it has none."""
    return rows.expression(task.name, "test", source.splits.get("test", ""))


def _languages_inside(task: Task, source: Source, rows: Rows, expression: str) -> set[str]:
    """Return the languages of a config with several languages: those that any part of the expression has."""
    assert source.inside
    found: set[str] = set()
    for part in expression.split("+"):
        seen = rows.peek(source.id, source.config, part, source.revision, source.columns or task.columns)
        with reading(task.name, seen.where):
            found |= set(map(codes.normalize, source.inside(seen.data)))
    return found


# ---- what is not read -----------------------------------------------------------------------------------------------

# a folder of this name is meant as a language: de, deu, zh-CN, eng_Latn, es-419
_LIKE_A_CODE = re.compile(r"[A-Za-z]{2,3}([-_][A-Za-z0-9]{2,4})*")


def unread(task: Task, rows: Rows, scored: Sequence[str]) -> list[str]:
    """Return the configs of a folder that hold test rows and are named as for a language, but are not read, and why.

    Args:
        scored: the languages with test rows.
    """
    found = []
    for source in task.sources:
        expression = test_expression(task, source, rows)
        for config in rows.configs(source.id) if expression else ():
            name, language = source.language_in(config), source.language_of(config)
            if not name or config.endswith(ROUND_TRIP) or language in scored:
                continue
            # where the name is all of the config, another config may fit: xnli's all_languages
            fits = name != config or _LIKE_A_CODE.fullmatch(name) or language_like(name)
            if fits and rows.has(source.id, config, expression):
                why = f"{task.name} has no such language" if language else what_is(name, source.config_of)
                found.append(f"{rows.folder(source.id).name}/{config} ({why})")
    return found


def language_like(name: str) -> str | None:
    """Return the language that a name stands for, in whatever case and with whatever script or region; else None."""
    for spelling in (name, name.lower(), re.split("[-_]", name)[0].lower()):
        with contextlib.suppress(UserError):
            return codes.normalize(spelling)
    return None


def what_is(name: str, named: Callable[[str], str]) -> str:
    """Return why a name is not read: what its language is called here, or that it is unknown.

    Args:
        named: our code for a language -> its name in the source.
    """
    language = language_like(name)
    return f"{language} is called {named(language)} here" if language else "an unknown language"


# ---- what to type for rows that are in no file ----------------------------------------------------------------------


def advice(task: Task, split: str, language: str, rows: Rows) -> str:
    """Return a sentence on what to type for a split that is in no file, with a blank before it; "" if there is none.

    A split may come in several files, which `+` joins. Train or dev may be cut off another split, but never off one
    that a task is tested on.
    """
    places = [(source, source.config_of(language)) for source in task.sources]
    for source, config in places:
        if sentence := _files_to_join(task, split, source, config, rows):
            return sentence
    if split == "test" or language != "en":
        return ""
    other = "dev" if split == "train" else "train"
    for source, config in places:
        tested = _tested(source, task, rows)
        whole = [name for name in rows.splits(source.id, config) if not re.search(r"-\d+-of-\d+$", name)]
        likely = rows.expression(task.name, other, source.splits.get(other, ""))
        for name in sorted(set(whole) - tested, key=lambda name: (name != likely, name)):
            return (
                f" If {name} has them, cut it in two: --splits {task.name}.train={name}[:90%] "
                f"{task.name}.dev={name}[90%:]."
            )
    return ""


def _files_to_join(task: Task, split: str, source: Source, config: str, rows: Rows) -> str:
    """Return what to type if a split of a config comes in several files, see `shards`; "" if it does not."""
    parts = rows.expression(task.name, split, source.splits.get(split, "")).split("+")
    found = {part: _files(part, rows.splits(source.id, config)) for part in parts if part}
    for base, cut, files, missing in filter(None, found.values()):
        what = f" {base} of {rows.folder(source.id) / config} is cut into files"
        if missing:
            return f"{what}, but {', '.join(missing)} is missing."
        if cut:
            return f"{what}, and {cut} is a part of them all: join {' and '.join(files)} into one file {base}."
    typed = "+".join("+".join(of[2]) if (of := found.get(part)) else part for part in parts)
    if not any(found.values()):
        return ""
    return f" The {split} split is cut into files. Give them all: --splits {task.name}.{split}={typed}."


def _files(part: str, names: list[str]) -> tuple[str, str, list[str], list[str]] | None:
    """Return (split, slice, its files, missing ones) of the first alternative of a part that comes in files; None if
    none does, or if an alternative is a file itself."""
    options = alternatives(part)
    if any(base in names for base, _ in options):
        return None
    return next(((base, cut, *of) for base, cut in options if (of := shards(base, names))[0]), None)


def _tested(source: Source, task: Task, rows: Rows) -> set[str]:
    """Return the source splits of a config that this task, or another, is tested on, with --splits or without."""
    from tasks import TASKS, get_task

    tasks = [task, *map(get_task, TASKS)]
    start = f"{source.id}/{source.config}/"
    same = {name.removeprefix(start) for one in tasks for name in one.same_sentences if name.startswith(start)}
    return same | {
        base
        for one in tasks
        for other in one.sources
        if (other.id, other.config) == (source.id, source.config)
        for expression in (other.splits.get("test", ""), test_expression(one, other, rows))
        for part in filter(None, expression.split("+"))
        for base, _ in alternatives(part)
    }
