"""The defaults of arguments, and what was given otherwise."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


def defaults(*kinds: type[DataclassInstance]) -> dict[str, Any]:
    """Return {argument: default} of these groups of arguments."""
    return {name: value for kind in kinds for name, value in vars(kind()).items()}


def non_defaults(*arguments: DataclassInstance) -> dict[str, Any]:
    """Return the fields that differ from their default, {name: value}."""
    return {
        name: value
        for group in arguments
        for name, default in defaults(type(group)).items()
        if (value := getattr(group, name)) != default
    }
