"""Print the finished runs of a matrix that had other arguments than make gives them now, or have newer inputs.

    changed.py OUT --runs KIND=COMMAND ... [--model MODEL] [--only RESULTS_JSON ...]

KIND is <arm> for phase 2 of an arm, /<task> for a task's cells of every arm. The Makefile starts the runs that are
printed, though they are finished. Here words and file times are compared; the script compares what they mean: it
refuses other settings, runs again if rows or weights have changed, and else has nothing to do.

Needs no package, because it runs before there is an environment.
"""

import argparse
import functools
import json
import os
import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # python -I leaves it out

from xstilts.cli import privacy
from xstilts.cli.arms import PLAIN

RESULT = "results.json"
# what differs between the runs of a kind; the model is compared for runs that start from MODEL
OWN = re.compile(r" --(?:plain_model|(?:arm|seed|output_dir|model_name_or_path) \S+)")
MODEL = re.compile(r" --model_name_or_path (\S+)")


@dataclass(frozen=True)
class Command:
    """What the runs of a kind are started with, quoted for a shell.

    Attributes:
        model: the checkpoint that runs without a phase 2 start from; "" if the matrix makes it.
        paths: the files and folders among its arguments.
    """

    text: str
    model: str
    paths: tuple[str, ...]

    def is_of(self, command: str, from_model: bool) -> bool:
        """Whether a run's whole command has the same arguments, but for those that are the run's own."""
        words = command.partition(" ")[2]  # after "python"
        script, _, arguments = words.partition(" ")
        if OWN.sub("", f"{os.path.basename(script)} {arguments}") != self.text:
            return False
        return not (from_model and self.model) or MODEL.findall(command) == [self.model]


def commands(given: str, model: str) -> dict[bool, Command]:
    """Return {whether its paths are whole: a kind's command}, of a shell's words as the Makefile gives them."""
    try:
        words = shlex.split(given)
    except ValueError:  # an open quote: the shell says so when the run starts
        words = []
    shared = privacy.hide_words(words)
    paths = tuple(word for word in words if os.path.exists(word))
    whole = Command(shlex.join(shared), shlex.quote(model) if model else "", paths)
    short = Command(shlex.join(privacy.public(shared)), shlex.quote(privacy.public(model)) if model else "", paths)
    return {True: whole, False: short}


@functools.cache
def files_of(model: str) -> tuple[str, ...]:
    """Return the files of a checkpoint's folder, without those below, which may be other runs; () if it is none."""
    return tuple(entry.path for entry in os.scandir(model) if entry.is_file()) if os.path.isdir(model) else ()


@functools.cache
def newest(path: str) -> float:
    """Return the time of the last change of a file, or of any file below a folder."""
    files = [os.path.join(folder, name) for folder, _, names in os.walk(path) for name in names] or [path]
    return max((os.stat(file).st_mtime for file in files if os.path.exists(file)), default=0)


def command_of(folder: Path) -> tuple[str, bool]:
    """Return (the command that a finished run was started with, whether its paths are whole); ("", False) if unknown.

    run.json has them whole. Older versions wrote no command there, and a kept report has results.json alone.
    """
    for name in ("run.json", RESULT):
        try:
            command = json.loads((folder / name).read_bytes()).get("command")
        except (OSError, ValueError, AttributeError):  # the script says what is wrong
            continue
        if command:
            return str(command), name != RESULT
    return "", False


def finished(out: Path, kind: str, only: Sequence[str]) -> Iterator[Path]:
    """Yield the results.json of the finished runs of a kind; with `only`, of those and of their phases 2."""
    asked = {os.path.normpath(path) for path in only}
    asked |= {os.path.normpath(Path(path).parents[1] / RESULT) for path in asked}
    arm, _, task = kind.partition("/")
    for path in out.glob(f"*/seed*/{task}/{RESULT}" if task else f"{arm}/seed*/{RESULT}"):
        if path.is_file() and (not only or os.path.normpath(path) in asked):  # a pipe could block
            yield path


def main() -> None:
    """Print one path a line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--runs", nargs="*", default=[])
    parser.add_argument("--model", default="", help="the checkpoint that all arms start from, if it is given")
    parser.add_argument("--only", nargs="*", default=[])
    given = parser.parse_args()
    for run in given.runs:
        kind, _, text = run.partition("=")
        expected = commands(text, given.model)
        for path in finished(given.out, kind, given.only):
            command, whole = command_of(path.parent)
            from_model = not kind.startswith("/") or path.parents[2].name == PLAIN
            now = expected[whole]
            inputs = (*now.paths, *(files_of(given.model) if from_model else ()))
            if not now.is_of(command, from_model) or max(map(newest, inputs), default=0) > path.stat().st_mtime:
                print(path)


if __name__ == "__main__":
    main()
