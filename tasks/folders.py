"""What a folder of rows holds of a task, from the names of its folders and files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tasks import languages as codes
from tasks.errors import UserError, reading

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
        raise UserError(f"{task.name}: no test rows below {rows.root} (looked in {looked}).")
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
