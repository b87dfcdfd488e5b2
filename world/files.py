"""The world on disk: parquet files in a folder, and `world.json`, written last, that lists them."""

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from . import NOISE
from .base import Options, Table, TextFile
from .language import INVENTED
from .rows import files
from .translator import translations

VERSION = 4  # increase it when the same options give other bytes
STAMP = "world.json"
STAMPED = {"version": int, "seed": int, "languages": list, "size": int | float, "files": dict}  # what it holds


class WorldError(ValueError):
    """The user gave something wrong; the message says what to type instead."""


def write(out: Path, *, seed: int = 0, languages: int = 4, size: float = 1.0, force: bool = False) -> bool:
    """Write a world to `out`; return True if it was written, False if the same one is already there.

    The files are written to a temporary folder beside `out`, which is renamed at the end.
    Raises WorldError if an option is out of range, `out` is not a world, or it is another world and not `force`.
    """
    if not 1 <= languages <= len(INVENTED):
        raise WorldError(f"--languages {languages}: expected 1 to {len(INVENTED)} invented languages")
    if not 0 < size <= 10:
        raise WorldError(f"--size {size}: expected a factor above 0 and up to 10, such as 0.02 for a tiny world")
    settings = {"version": VERSION, "seed": seed, "languages": ["en", *list(INVENTED)[:languages]], "size": size}
    return _write(out, settings, force, lambda: files(Options(settings["languages"][1:], seed, size)))


def translate(world: Path, out: Path, *, noise: float = NOISE, force: bool = False) -> bool:
    """Write the translations of a world's train rows to `out`; otherwise as `write`.

    Also raises WorldError if `world` is not a world, or has another version.
    """
    if not 0 <= noise < 1:
        raise WorldError(f"--noise {noise}: expected a share of words from 0 to below 1, such as {NOISE}")
    stamp = read_stamp(world)
    if stamp.get("version") != VERSION:
        raise WorldError(
            f"{world} was written by another version ({stamp.get('version')}, this is {VERSION}): write it again with "
            "--force"
        )
    if out.resolve() == world.resolve():  # --force would delete the world
        raise WorldError(f"--out {out} is the world itself: give another folder for its translations")
    settings = {name: stamp[name] for name in ("version", "seed", "languages", "size")} | {"noise": noise}
    options = Options(stamp["languages"][1:], stamp["seed"], stamp["size"])
    return _write(out, settings, force, lambda: translations(options, noise))


def _write(out: Path, settings: dict, force: bool, make: Callable[[], Iterable[Table | TextFile]]) -> bool:
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        folder = os.open(out.parent, os.O_RDONLY)
    except OSError as error:
        raise WorldError(f"--out {out}: cannot write ({error.strerror}); give a folder you may write to") from None
    try:
        with suppress(OSError):  # some network file systems have no locks
            fcntl.flock(folder, fcntl.LOCK_EX)  # a second process finds the world that the first wrote
        return _write_alone(out, settings, force, make)
    finally:
        os.close(folder)


def _write_alone(out: Path, settings: dict, force: bool, make: Callable[[], Iterable[Table | TextFile]]) -> bool:
    if not _may_write(out, settings, force):
        return False
    temporary, old = out.with_name(f".{out.name}.partial"), out.with_name(f".{out.name}.old")
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        written = _write_files(temporary, make())
        (temporary / STAMP).write_text(json.dumps(settings | {"files": written}, indent=1) + "\n", encoding="utf-8")
        shutil.rmtree(old, ignore_errors=True)
        if out.exists():
            out.rename(old)  # not emptied in place: half a world would not be recognised as one, and be kept
        temporary.rename(out)
    except OSError as error:
        raise WorldError(f"--out {out}: cannot write ({error.strerror}); give a folder you may write to") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)
    return True


def read_stamp(folder: Path) -> dict:
    """Return the contents of `world.json`. Raise WorldError if it is missing or incomplete."""
    try:
        if not (folder / STAMP).is_file() or (folder / STAMP).stat().st_size > 2**26:
            # reading a named pipe would block
            raise ValueError("not a regular file")
        stamp = json.loads((folder / STAMP).read_text(encoding="utf-8"))
        whole = stamp.keys() <= {*STAMPED, "noise"} and all(
            _is(stamp.get(name), kind) for name, kind in STAMPED.items()
        )
        whole = (
            whole
            and set(stamp["languages"]) <= {"en", *INVENTED}
            and stamp["languages"][:1] == ["en"]
            and 0 < stamp["size"] <= 10
        )
        if (
            not whole
            or not _is(stamp.get("noise", 0), int | float)
            or not all(
                isinstance(facts, dict) and {"rows", "sha256"} <= facts.keys() for facts in stamp["files"].values()
            )
        ):
            raise ValueError("not in the format of this tool")
        return stamp
    except (OSError, ValueError, AttributeError, TypeError, RecursionError):
        raise WorldError(
            f"{folder} is not a world: it has no readable {STAMP}. Write one with python -m world"
        ) from None


def _is(value: object, kind: type) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


def _may_write(out: Path, settings: dict, force: bool) -> bool:
    if not os.path.exists(out) or (out.is_dir() and not any(out.iterdir())):
        return True
    if not (out / STAMP).is_file():
        raise WorldError(f"--out {out} exists and is not a world (no {STAMP}): give another folder")
    stamp = read_stamp(out)
    if force:
        _refuse_to_replace(out, settings, stamp)
        return True
    asked, found = ({name: value for name, value in of.items() if name != "files"} for of in (settings, stamp))
    if found != asked:
        differences = [
            f"{name} {found.get(name)} there, {asked.get(name)} asked"
            for name in dict.fromkeys([*asked, *found])
            if found.get(name) != asked.get(name)
        ]
        raise WorldError(f"--out {out} holds another world ({'; '.join(differences)}): add --force to replace it")
    for name, facts in stamp["files"].items():
        if not (out / name).is_file() or _sha256(out / name) != facts["sha256"]:
            raise WorldError(f"--out {out}: {name} is missing or changed: add --force to write the world again")
    return False


def _refuse_to_replace(out: Path, settings: dict, stamp: dict) -> None:
    """Raise WorldError if the folder holds files that its stamp does not list, or translations instead of a world."""
    if ("noise" in stamp) != ("noise" in settings):
        kind = "translations of a world" if "noise" in stamp else "a world, no translations"
        raise WorldError(f"--out {out} holds {kind}: give another folder")
    others = sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file() or path.is_symlink())
    others = [name for name in others if name != STAMP and name not in stamp["files"]]
    if others:
        more = f" and {len(others) - 1} more" if len(others) > 1 else ""
        raise WorldError(
            f"--out {out} holds {others[0]}{more}, not of this world: give another folder, or move them away"
        )


def _write_files(folder: Path, made: Iterable[Table | TextFile]) -> dict[str, dict]:
    facts = {}
    with tqdm(made, desc="writing the world", unit=" files", disable=None) as bar:
        for file in bar:
            path = f"{file.path}.parquet" if isinstance(file, Table) else file.path
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(file, Table):
                with target.open("wb") as stream:  # an open file: pyarrow reads some paths as addresses
                    pq.write_table(pa.table(file.columns, schema=file.schema), stream)
                rows = len(next(iter(file.columns.values())))
            else:
                target.write_text(file.content, encoding="utf-8")
                rows = file.content.count("\n")
            facts[path] = {"rows": rows, "sha256": _sha256(target)}
    return dict(sorted(facts.items()))


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
