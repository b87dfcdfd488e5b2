"""Keep access tokens out of all files, and the paths of local folders out of shared ones.

Argument names are compared as `name_of` returns them, because argparse accepts --hub-token for --hub_token.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import PurePath
from typing import Any

from tasks.errors import UserError

LOG_IN = "Log in with `hf auth login`, or set HF_TOKEN."
HIDDEN = "<hidden>"
ELSEWHERE = ".../"  # replaces the path before the name of a local folder

_FLAG = re.compile(r"(--[A-Za-z]\w*(?:-\w+)*)(=.*)?", re.DOTALL)
_SECRET_NAME = re.compile(r"(?:.*_)?(?:tok|toke|token|password|secret|api_key)")
_SECRETS = re.compile(
    r"\b(?:hf_|api_org_)[A-Za-z0-9]{16,}"  # the Hub's own tokens
    r"|(?<=://)[^/\s?#@]+(?=@)"  # https://name:token@host
    r"|(?<=[?&#])(?:[\w.-]*(?:token|secret|signature|password|credential|api[_-]?key)[\w.-]*|sig|key)=[^&\s#]+",  # https://host?token=...
    re.IGNORECASE,
)
# an absolute or home path within a text: not the middle of a path, nor of a URL
_PATH = re.compile(r"(?<![\w.:/~-])~?/[^\s/'\"`,;:|]+/[^\s'\"`,;:|)]+")


# ---- argument names -------------------------------------------------------------------------------------------------


def name_of(word: str) -> str | None:
    """Return the argument that a word of a command line names: hub_token for --hub-token=x; None for a value."""
    flag = _FLAG.fullmatch(word)
    return flag[1][2:].replace("-", "_") if flag else None


def with_underscores(word: str) -> str:
    """Return a word with its argument's name as the dataclasses spell it: --hub_token=x. A value is unchanged."""
    flag = _FLAG.fullmatch(word)
    return f"--{name_of(word)}{flag[2] or ''}" if flag else word


# ---- access tokens --------------------------------------------------------------------------------------------------


def refuse_secrets(words: Iterable[str]) -> None:
    """Raise if a command line holds an access token, by its argument's name or by its form.

    transformers would save it with every checkpoint, and results.json and the model card quote the command.

    Raises:
        UserError: names the argument, never the value.
    """
    last = "of this command"
    for word in words:
        name = name_of(word)
        if name and _SECRET_NAME.fullmatch(name.lower()):
            raise UserError(f"--{name} is not accepted, so that no file can hold an access token. {LOG_IN}")
        last = f"--{name}" if name else last
        if _SECRETS.search(word):
            raise UserError(
                f"Argument {last} holds an access token or password, which would be written to files. Leave it out. "
                f"{LOG_IN}"
            )


def hide(text: str) -> str:
    """Return a text with `<hidden>` in place of everything that looks like an access token or password."""
    return _SECRETS.sub(HIDDEN, text)


def hide_words(words: Iterable[str]) -> list[str]:
    """Return the words of a command line with `<hidden>` in place of access tokens, by argument name or form."""
    found: list[str] = []
    secret = False
    for word in words:
        name = name_of(word)
        if secret and name is None:
            found.append(HIDDEN)
            secret = False
            continue
        secret = bool(name and _SECRET_NAME.fullmatch(name.lower()))
        if secret and "=" in word:
            found.append(f"{word.partition('=')[0]}={HIDDEN}")
            secret = False
        else:
            found.append(hide(word))
    return found


# ---- local paths ----------------------------------------------------------------------------------------------------


def public(value: Any) -> Any:
    """Return a JSON value without the location of local folders.

    Of a path that is absolute, or leads out of the working folder (..), only the last part is kept:
    `/home/jo/runs/mnli` becomes `.../mnli`. `runs/mnli` and Hub ids are unchanged. In a list `notes`, paths within the
    text are shortened too.
    """
    if isinstance(value, str):
        return " + ".join(map(_public_word, value.split(" + ")))  # the two models of a round-trip translation
    if isinstance(value, Mapping):
        return {
            key: [public_text(note) for note in item] if key == "notes" else public(item)
            for key, item in value.items()
        }
    return [public(item) for item in value] if isinstance(value, list | tuple) else value


def _public_word(word: str) -> str:
    name, equals, path = word.partition("=")
    if equals and re.fullmatch(r"[\w-]+", name):  # --output_dir=/home/jo/out
        return f"{name}={_public_word(path)}"
    return ELSEWHERE + PurePath(word).name if is_private(word) else public_text(word)


def public_text(text: str) -> str:
    """Return a text in which absolute paths are shortened to their last part."""
    return _PATH.sub(lambda found: ELSEWHERE + PurePath(found[0]).name, text)


def is_private(text: str) -> bool:
    """Whether the whole text is a path that reveals a location on this machine."""
    if os.path.isabs(text):  # a prompt may begin with a slash too
        return os.path.exists(text) or (text.count("/") > 1 and text == text.strip())
    return (text.startswith(("~/", "../")) or "/../" in text) and (not re.search(r"\s", text) or os.path.exists(text))
