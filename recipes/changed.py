"""Print the finished runs of a matrix that had other arguments than make gives them now, or have newer inputs.

    changed.py OUT --runs GLOB=COMMAND ... [--model MODEL] [--package PACKAGE] [--only RESULTS_JSON ...]

The results.json below OUT that a GLOB matches are runs of one kind. The Makefile starts the runs that are printed,
though they are finished. Here words and file times are compared; the script compares what they mean: it refuses other
settings, runs again if rows or weights have changed, and else has nothing to do. The last line is `looked`, or what is
wrong.

Needs no package, because it runs before there is an environment.
"""

import argparse
import contextlib
import functools
import glob
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # python -I leaves it out

from xstilts.cli import privacy
from xstilts.cli.arms import PLAIN

RESULT = "results.json"
# what the Makefile gives a single run, before what a user gives; the model is compared for runs without a phase 2
OWN = ("--plain_model", r"--arm[ =]\S+", r"--output_dir[ =]\S+", r"--seed[ =]\S+", r"--model_name_or_path[ =]\S+")
OF_MODEL = OWN[:3]  # of the run that trains OUT/model
MODEL = re.compile(r" --model_name_or_path[ =](\S+)")


@dataclass(frozen=True)
class Command:
    """What the runs of a kind are started with, from the script's name on, quoted for a shell.

    Attributes:
        model: the checkpoint that runs without a phase 2 start from; "" if the matrix makes it, as OUT/model.
    """

    text: str
    model: str

    def is_of(self, command: str, own: Sequence[str], starts: bool) -> bool:
        """Whether a run's whole command has the same arguments, but for those that are the run's own.

        Args:
            own: patterns of those.
            starts: whether the run has no phase 2, so that its model counts.
        """
        text = from_script(command.partition(" ")[2])  # after "python"
        for pattern in own:
            text = re.sub(f" {pattern}(?= |$)", "", text, count=1)
        if text != self.text or not starts:
            return text == self.text
        model = "".join(shlex.split("".join(MODEL.findall(command)[:1])))
        return model == self.model if self.model else model.endswith("/model")


def from_script(command: str) -> str:
    """Return a command without the folder of its script."""
    script, _, arguments = command.partition(" ")
    return f"{os.path.basename(script)} {arguments}".rstrip()


def words_of(command: str) -> list[str]:
    """Return the words of a command as the shell of make's recipes makes them: $HOME, ~, *.yaml and comments count.

    Raises:
        ValueError: it is more than one command, or has a quote that is not closed.
    """
    try:
        tokens = list(shlex.shlex(command, punctuation_chars="<>|;&"))
    except ValueError as error:
        raise ValueError(f"{command}: {error}") from error
    if found := [token for token in tokens if set(token) <= set("<>|;&")]:
        raise ValueError(f"{command}: {found[0]} is no argument. Put it in quotes, or leave it out")
    done = subprocess.run(["/bin/bash", "-c", f"printf '%s\\0' {command}"], stdout=subprocess.PIPE, text=True)
    return done.stdout.split("\0")[:-1]


def commands(words: Sequence[str], model: str) -> dict[bool, Command]:
    """Return {whether its paths are whole: a kind's command}."""
    whole = privacy.hide_words(words)
    short = privacy.public(whole), privacy.public(model)
    return {
        kept: Command(from_script(shlex.join(texts)), start)
        for kept, (texts, start) in {True: (whole, model), False: short}.items()
    }


def command_of(folder: Path) -> tuple[str, bool]:
    """Return (the command that a finished run was started with, whether its paths are whole); ("", False) if unknown.

    run.json has them whole. Older versions wrote no command there, and a kept report has results.json alone.
    """
    for name in ("run.json", RESULT):
        try:
            # a pipe could block
            command = json.loads((folder / name).read_bytes()).get("command") if (folder / name).is_file() else None
        except (OSError, ValueError, AttributeError, RecursionError):  # the script says what is wrong
            continue
        if command:
            return str(command), name != RESULT
    return "", False


# ---- inputs ---------------------------------------------------------------------------------------------------------


def changed_at(path: str) -> float:
    """Return when a file was last written, or put where it is: a copy or a link may have an old time. 0 if unknown."""
    found = 0.0
    for look_at in (os.lstat, os.stat):
        with contextlib.suppress(OSError):  # a link to nothing, or a file that has just been removed
            found = max(found, look_at(path).st_mtime, look_at(path).st_ctime)
    return found


def entries(folder: str) -> list[os.DirEntry[str]]:
    """Return what is in a folder; [] if it cannot be read, as lost+found of a disk."""
    try:
        return list(os.scandir(folder))
    except OSError:
        return []


@functools.cache
def newest(path: str, leave: str) -> float:
    """Return the time of the last change of a file, or of anything in a folder and its subfolders but `leave`."""
    found, folders, seen = changed_at(path), [path] if os.path.isdir(path) else [], {os.path.realpath(leave)}
    while folders:
        folder = folders.pop()
        seen.add(os.path.realpath(folder))
        for entry in entries(folder):
            if (
                os.path.isdir(entry.path) and os.path.realpath(entry.path) in seen
            ):  # a link to a folder above, or `leave`
                continue
            found = max(found, changed_at(entry.path))
            folders += [entry.path] if os.path.isdir(entry.path) else []
    return found


@functools.cache
def weights_at(model: str) -> float:
    """Return the time of the last change of a checkpoint's own files: folders below may be other runs. 0 if none."""
    files = [entry.path for entry in entries(model) if os.path.isfile(entry.path)]
    return max((changed_at(path) for path in (*files, *([model] if os.path.islink(model) else []))), default=0)


def inputs_at(words: Sequence[str], out: str) -> float:
    """Return the time of the last change of the files and folders that a command names."""
    paths = [word.partition("=")[2] if word.startswith("--") else word for word in words[1:]]
    return max((newest(path, out) for path in paths if os.path.exists(path)), default=0)


# ---- all runs -------------------------------------------------------------------------------------------------------


def finished(out: str, pattern: str, only: Sequence[str]) -> Iterator[str]:
    """Yield the results.json of the finished runs of a kind; with `only`, of those and of their phases 2."""
    asked = {os.path.normpath(path) for path in only}
    asked |= {os.path.normpath(Path(path).parents[1] / RESULT) for path in asked}
    for name in glob.glob(pattern, root_dir=out):
        path = f"{out}/{name}"  # spelled as make spells it
        if os.path.isfile(path) and (not only or os.path.normpath(path) in asked):
            yield path


def look(given: argparse.Namespace) -> None:
    """Print the runs, one a line."""
    for run in given.runs:
        pattern, _, text = run.partition("=")
        words = words_of(text)
        expected, inputs = commands(words, given.model), inputs_at(words, given.out)
        for path in finished(given.out, pattern, given.only):
            command, whole = command_of(Path(path).parent)
            arm, *cell, _ = path[len(given.out) + 1 :].split("/")
            starts = len(cell) == 1 or (arm == PLAIN and bool(cell))  # not the model itself, which starts from nothing
            latest = max(inputs, weights_at(given.model) if starts else 0)
            own = OWN if cell else OF_MODEL
            if not command or not expected[whole].is_of(command, own, starts) or latest > os.stat(path).st_mtime:
                print(path)


def main() -> None:
    """Print what the Makefile reads."""
    parser = argparse.ArgumentParser()
    parser.add_argument("out")
    parser.add_argument("--runs", nargs="*", default=[])
    parser.add_argument("--model", default="", help="the checkpoint that all arms start from, if it is given")
    parser.add_argument("--package", default="", help="the package that OUT/model is made from, if it is")
    parser.add_argument("--only", nargs="*", default=[])
    given = parser.parse_args()
    note = Path(given.out, "model/.unpacked")
    if given.package and note.is_file() and given.package not in note.read_text(encoding="utf-8"):
        print(f"{note.parent} was made from another package than {given.package}. Give that one, or another OUT")
        return
    try:
        look(given)
    except ValueError as error:
        print(error)
    else:
        print("looked")


if __name__ == "__main__":
    main()
