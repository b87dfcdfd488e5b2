"""Where the rows of a task are: on the Hub at a revision, or in a folder of the same layout."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tasks import languages as codes
from tasks.errors import UserError

if TYPE_CHECKING:
    from datasets import Dataset

XTREME_REVISION = "ec5f1f46e9af79639a90684a7a70a956c4998f04"  # of google/xtreme, in parquet; many tasks read it


@dataclass(frozen=True)
class Source:
    """A Hub id at a revision, and the names of its configs and splits.

    Attributes:
        id: the Hub id.
        config: the config; ``{language}`` in it (once or twice) is replaced by `code(language)`.
        splits: train/dev/test -> the source's split, or several joined by ``+``, whose rows are concatenated.
        revision: a commit of the Hub repository; None: the commit that `main` is now, which is recorded.
        code: our language code -> the source's.
        columns: the required columns, if they are not the task's `columns`; or a function that picks them from all
            column names.
        shape: (rows, language) -> the rows of that language in the task's columns, for a source that needs it.
        inside: rows -> the language codes in them, for a config with several languages.
        nested: whether each row of such a config is in all of its languages, not in one.
        only: the languages that the Hub has (empty: all of the task's); a folder may have others.
        files: split -> URL with ``{revision}`` and ``{language}``, for an id that the Hub library cannot load.
        folders_only: whether the Hub's copy cannot be read, so that only folders have rows of this id.
    """

    id: str
    config: str
    splits: Mapping[str, str]
    revision: str | None = None
    code: Callable[[str], str] = staticmethod(lambda language: language)
    columns: tuple[str, ...] | Callable[[list[str]], tuple[str, ...]] = ()
    shape: Callable[[Dataset, str], Dataset] | None = None
    inside: Callable[[Dataset], Iterable[str]] | None = None
    nested: bool = False
    only: tuple[str, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    folders_only: bool = False

    def config_of(self, language: str) -> str:
        """Return the config that holds a language."""
        return self.config.replace("{language}", self.code(language))

    def serves(self, language: str, local: bool) -> bool:
        """Whether the source can have rows of a language. A config without a language in its name is English."""
        if self.folders_only and not local:
            return False
        if "{language}" not in self.config and not self.inside:
            return language == "en"
        return local or not self.only or language in self.only

    def language_in(self, config: str) -> str | None:
        """Return what stands for the language in a config's name; None if it does not fit this source's names."""
        first, *rest = map(re.escape, self.config.split("{language}"))
        match = re.fullmatch(first + "(.+)" + r"\1".join(rest), config) if rest else None
        return match[1] if match else None

    def language_of(self, config: str) -> str | None:
        """Return the language of a config; None if it is not a config of this source."""
        name = self.language_in(config)
        try:
            language = codes.normalize(name) if name else None
        except UserError:
            return None
        return language if language and self.config_of(language) == config else None
