"""Remove what a matrix wrote into its folder: clean.py FOLDER [--model MODEL]. Other files stay, and are named.

A folder is ours by what its results.json, run.json, failed.json, .lock, .unpacked or cells.csv says. Of it only files
with names that runs and reports write are removed. No link is followed or removed, nor is anything of MODEL.

Needs no package, because `make clean` may come before there is an environment.
"""

import argparse
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

# keys that each of these files has
RESULT = {"schema", "phase", "task", "form", "arm", "seed", "model", "settings", "finished"}
SETTINGS = {"model", "data_root", "benchmark"}
FAILURE = {"cause", "checkpoint", "time"}
PHASES = ("mlm", "intermediate", "target", "retrieval")
REPORT = "arm,task,form,seed,language"  # how the cells.csv of a report begins
# what a run writes, and libraries for it: files, and folders that hold nothing else
RUN_FILES = (
    r"(results|run|failed)\.json|\.lock|\.unpacked|(README|LICENSE)\.md|(adapter_)?config\.json|"
    r"(adapter_model|heads|model|model-\d+-of-\d+)\.safetensors|heads\.safetensors\.tmp|"
    r"generation_config\.json|model\.safetensors\.index\.json|"
    r"tokenizer(_config)?\.json|special_tokens_map\.json|added_tokens\.json|chat_template\.jinja|vocab\.(txt|json)|"
    r"merges\.txt|(sentencepiece\.bpe|spiece|spm|tokenizer)\.model|modules\.json|sentence_bert_config\.json|"
    r"config_sentence_transformers\.json|hits\.parquet|pairs\.tsv|training_args\.bin|trainer_state\.json|"
    r"\.((results|run|failed)\.json|(README|LICENSE)\.md|hits\.parquet|pairs\.tsv)\.\w{8}"  # of killed processes
)
RUN_FOLDERS = r"checkpoint-[\w-]+|predictions|candidates|adapter|\d+_[A-Z]\w*|\.eval_results|\.vectors-\w{8}"
REPORT_FILES = (
    r"cells\.csv|\.asked|matrix\.(csv|md|tex)|groups\.csv|index\.html|question\.(csv|md)|curve\.csv|claims\.(csv|md)|"
    r"(question-)?(forest|differences|layers|languages)\.png"
)
SHOWN = 20  # names of files that stay


def read_text(path: Path) -> str:
    """Return the text of a file; "" if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return ""


def read_object(path: Path) -> dict:
    """Return the JSON object in a file; {} if it holds something else."""
    try:
        found = json.loads(read_text(path))
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def is_run(folder: Path) -> bool:
    """Whether a run, or what builds OUT/model, wrote this folder: by what its files say, not by their names."""
    result = read_object(folder / "results.json")
    return (
        (result.keys() >= RESULT and result["phase"] in PHASES)
        or read_object(folder / "run.json").keys() >= SETTINGS
        or read_object(folder / "failed.json").keys() == FAILURE
        or read_text(folder / ".lock").startswith("process ")
        or bool(unpacked(folder))
    )


def unpacked(folder: Path) -> set[str]:
    """Return the files of a checkpoint that recipes/unpack.py copied or xstilts/dequantise.py converted."""
    note = folder / ".unpacked"
    if converted := read_object(note):
        names = list(converted["files"]) if isinstance(converted.get("files"), dict) else []
        return {".unpacked", *names} if "package" in converted else set()
    source, *names = read_text(note).splitlines() or [""]
    return {".unpacked", *names} if re.fullmatch(r"[\w.-]+/\S+", source) else set()


def is_report(folder: Path) -> bool:
    """Whether `folder` is that of a report."""
    return read_text(folder / "cells.csv").startswith(REPORT)


class Cleaner:
    """Removes files below a folder, but no link and nothing of the given model.

    Args:
        out: the folder of the matrix.
        model: MODEL. A Hub id is no path, and protects nothing.

    Attributes:
        entered: the folders from which something was removed.
    """

    def __init__(self, out: Path, model: str):
        self.out = out
        self.model = Path(model).resolve() if model else None
        self.entered: set[Path] = set()

    def stays(self, path: Path) -> bool:
        """Whether `path` is a link, is the given model, or is in it."""
        return path.is_symlink() or (
            self.model is not None and self.model in (path.resolve(), *path.resolve().parents)
        )

    def remove(self, path: Path) -> None:
        """Remove a file, or a folder with its contents, unless it stays or holds the given model."""
        if self.stays(path) or (self.model is not None and path.resolve() in self.model.parents):
            return
        if path.is_dir():
            shutil.rmtree(path)  # removes links in it, and does not follow them
        else:
            path.unlink()
        self.entered |= set(path.relative_to(self.out).parents)

    def remove_empty(self, folder: Path) -> None:
        """Remove a folder if it is empty."""
        if folder.is_dir() and not any(folder.iterdir()):
            self.remove(folder)

    def clean(self, folder: Path, files: str, folders: str = "") -> None:
        """Remove files and folders whose names match, files that .unpacked lists, and then the folder, if empty."""
        if not folder.is_dir() or self.stays(folder):
            return
        for name in unpacked(folder):
            path = folder / name
            if ".." not in path.parts and path.is_file():
                self.remove(path)
                self.remove_empty(path.parent)
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            if re.fullmatch(folders if path.is_dir() else files, path.name) or is_log(path):
                self.remove(path)
        self.remove_empty(folder)

    def clean_run(self, folder: Path) -> None:
        """Remove what a run wrote into its folder."""
        if folder.is_dir() and not self.stays(folder) and is_run(folder):
            self.clean(folder, RUN_FILES, RUN_FOLDERS)

    def clean_seed(self, folder: Path) -> None:
        """Remove the cells in <arm>/seed<k>, and the run there."""
        if not folder.is_dir() or self.stays(folder):
            return
        for cell in sorted(folder.iterdir()):
            self.clean_run(cell)
        self.clean_run(folder)
        if folder.is_dir():  # what processes left that were killed while they shared vectors
            self.clean(folder, "", r"\.vectors-\w{8}")

    def kept(self, folder: Path) -> Iterator[str]:
        """Yield what is left in a folder, by its path below the matrix: a folder that was not entered as a whole."""
        for path in sorted(folder.iterdir()):
            below = path.relative_to(self.out)
            if below in self.entered and not path.is_symlink():
                yield from self.kept(path)
            else:
                yield str(below)


def is_log(path: Path) -> bool:
    """Whether `path` is the folder of TensorBoard's files, which a Trainer names runs."""
    if path.name != "runs" or not path.is_dir():
        return False
    files = [file for file in path.rglob("*") if not file.is_dir()]
    return bool(files) and all(file.name.startswith("events.out.tfevents") for file in files)


def main(out: Path, model: str) -> None:
    """Remove the matrix in a folder, and print what is left."""
    if not out.is_dir():
        return
    cleaner = Cleaner(out, model)
    cleaner.clean_run(out / "model")
    if is_report(out / "report"):
        cleaner.clean(out / "report", REPORT_FILES)
    cleaner.clean(out / "slurm", r"\d+_\d+\.out")
    for arm in sorted(out.iterdir()):
        if arm.is_dir() and not cleaner.stays(arm):
            for seed in sorted(arm.iterdir()):
                if re.fullmatch(r"seed\d+", seed.name):
                    cleaner.clean_seed(seed)
            if arm.relative_to(out) in cleaner.entered:
                cleaner.remove_empty(arm)
    if left := list(cleaner.kept(out)):
        more = f" and {len(left) - SHOWN} more" if len(left) > SHOWN else ""
        or_model = " or reads it as MODEL" if cleaner.model and out.resolve() in cleaner.model.parents else ""
        print(f"{out}: kept, because the matrix did not write it{or_model}: {' '.join(left[:SHOWN])}{more}")
    elif not out.is_symlink():
        out.rmdir()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", default="", help="the checkpoint that the matrix starts from, which is only read")
    given = parser.parse_args()
    main(given.out, given.model)
