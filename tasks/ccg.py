"""CCG supertagging: one category per word. The licence of CCGbank forbids copies, so users need their own."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.checks import describe
from tasks.defaults import INTERMEDIATE
from tasks.errors import UserError
from tasks.files import class_names
from tasks.overlap import Use
from tasks.rows import Loaded, Read, sha256
from tasks.tagging import Tagging, check_words

if TYPE_CHECKING:
    from datasets import Dataset

    from tasks.rows import Rows

SECTIONS = {"train": range(2, 22), "dev": [0], "test": [23]}  # of CCGbank (Hockenmaier & Steedman 2007)
NAMES = {"train": ("train",), "dev": ("validation", "dev"), "test": ("test",)}
HIDDEN = ("", "-1")  # how hidden gold is written
LEAF = re.compile(r"\(<L (\S+) \S+ \S+ (\S+) \S+>\)")
BRACKETS = {"-LRB-": "(", "-RRB-": ")", "-LCB-": "{", "-RCB-": "}", "-LSB-": "[", "-RSB-": "]"}
HINT = (
    "CCGbank is sold by the Linguistic Data Consortium (catalogue number LDC2005T13, catalog.ldc.upenn.edu) and may "
    "not be redistributed. Put your copy below the --data_root folder as ccgbank/: either its AUTO tree "
    "(data/AUTO/02/*.auto ...), or files train.*, dev.* and test.* with one sentence per line, `words<TAB>categories` "
    "or `word|POS|category` for each word."
)


class CCG(Tagging):
    """CCGbank (Hockenmaier & Steedman 2007), in three file formats, detected from the content.

    The labels are the categories of the train split. Other categories of dev and test get the ignore index, so they
    are not scored (jiant does the same). Accuracy over words.
    """

    name = "ccg"
    title = "CCG supertags"
    train_rows = 39604  # sections 02-21; the number is from the literature, not counted here
    metric = "accuracy"
    columns = ("tokens", "tags")
    splits = {"train": "train", "dev": "validation", "test": "test"}
    sources = ()
    defaults = INTERMEDIATE

    def where(self) -> str:
        return "CCGbank (local files)"

    def languages(self, rows: Rows) -> list[str]:
        self.refuse_hub(rows)
        return ["en"]

    def refuse_hub(self, rows: Rows) -> None:
        """Raise UserError, with the source of CCGbank, unless the rows are in a folder that has it."""
        if not rows.local:
            raise UserError(f"ccg is not on the Hub. {HINT}")
        if not rows.folder("ccgbank").is_dir():
            raise UserError(f"ccg: there is no folder {rows.folder('ccgbank')}. {HINT}")

    def prepare(self, rows: Rows) -> None:
        if not self.labels:
            self.labels = tuple(sorted({tag for tags in self._read("train", rows).examples["tags"] for tag in tags}))

    def read(self, split: str, language: str, rows: Rows) -> Loaded:
        self.refuse_hub(rows)
        self.prepare(rows)
        loaded, number = self._read(split, rows), {tag: i for i, tag in enumerate(self.labels)}
        tags = [[number.get(tag, -100) for tag in sentence] for sentence in loaded.examples["tags"]]
        unseen = sum(sentence.count(-100) for sentence in tags)
        if unseen:
            loaded.note(f"{unseen} words whose category is not in train are not scored")
        return replace(loaded, examples=loaded.examples.remove_columns("tags").add_column("tags", tags))

    def _read(self, split: str, rows: Rows) -> Loaded:
        """The rows of a split, with the names of the categories as tags."""
        expression, use = rows.expression(self.name, split, self.splits[split]), Use(self.name, split, "en")
        if rows.has("ccgbank", "default", expression):
            read = rows.read("ccgbank", "default", expression, None, self.columns, use=use)
            return Loaded(columns_of(rows_of(read.data, read.where)), (read,))
        if (self.name, split) in rows.overrides:
            raise UserError(
                f"--splits {self.name}.{split}={expression}: only rows in {rows.folder('ccgbank')}/default can be "
                "cut. Leave it out, or cut the file."
            )
        paths = self._files(split, rows)
        data = columns_of([sentence for path in paths for sentence in sentences_of(path)])
        where, names = paths[0].parent, paths[0].name
        if len(paths) > 1:  # of sections, each a folder
            where = where.parent
            names = "+".join(f"{section}/*.auto" for section in dict.fromkeys(path.parent.name for path in paths))
        record: dict[str, Any] = {
            "id": "ccgbank",
            "config": str(where.relative_to(rows.folder("ccgbank"))),
            "split": names,
        }
        record |= {"first": 0, "sha256": sha256(*paths), "rows": len(data), "file": str(paths[0])}
        read = rows.keep(Read(data, record | ({"files": len(paths)} if len(paths) > 1 else {})), use)
        return Loaded(data, (read,))

    def _files(self, split: str, rows: Rows) -> list[Path]:
        folder = rows.folder("ccgbank")
        found = sorted(p for name in NAMES[split] for p in folder.rglob(f"{name}.*") if p.is_file())
        if len(found) > 1:
            raise UserError(f"ccg: {found[0]} and {found[1]} could both be the {split} split. Keep one.")
        tree = sorted(
            p for p in folder.rglob("*.auto") if p.parent.name.isdigit() and int(p.parent.name) in SECTIONS[split]
        )
        if not found and not tree:
            raise UserError(f"ccg: {folder} has no {split} split. {HINT}")
        if not found and len(trees := {p.parent.parent for p in tree}) > 1:
            first, second = sorted(trees)[:2]
            raise UserError(f"ccg: {first} and {second} could both be the {split} split. Keep one.")
        return found or tree

    def gold(self, examples: Dataset) -> list:
        """Return the gold categories; for an unseen one, which is not scored, any category."""
        return [[self.labels[max(i, 0)] for i in tags] for tags in examples["tags"][:]]

    def gold_values(self, examples: Dataset) -> list:
        return [tag for tags in examples["tags"][:] for tag in tags]

    @property
    def dev_metrics(self) -> tuple[str, ...]:
        return ("accuracy",)

    def score(self, predictions: list[list[str]], examples: Dataset, language: str) -> dict[str, float]:
        from tasks.metrics import compute

        number = {tag: i for i, tag in enumerate(self.labels)}
        pairs = [
            (number[guess], gold)
            for guesses, tags in zip(predictions, examples["tags"][:], strict=True)
            for guess, gold in zip(guesses, tags, strict=True)
            if gold != -100
        ]
        return compute("accuracy", predictions=[g for g, _ in pairs], references=[g for _, g in pairs])


def columns_of(sentences: list[tuple[list[str], list[str]]]) -> Dataset:
    """Return (words, categories) of sentences as columns tokens and tags."""
    from datasets import Dataset

    return Dataset.from_dict({"tokens": [t for t, _ in sentences], "tags": [t for _, t in sentences]})


def rows_of(data: Dataset, where: str) -> list[tuple[list[str], list[str]]]:
    """Return (words, categories) of each row.

    Raises:
        UserError: a row is not a list of words with a list of categories, or a word has none; names the row.
    """
    names, sentences = dict(enumerate(class_names(data.features["tags"]))), []
    for row, (tokens, tags) in enumerate(zip(data["tokens"][:], data["tags"][:], strict=True), 1):
        check_words(tokens, tags, CCG.columns, f"{where}, row {row}")
        tags = [names.get(tag, tag) for tag in tags]
        for number, tag in enumerate(tags, 1):
            if not isinstance(tag, str) or tag in HIDDEN:
                raise UserError(
                    f"{where}, row {row}, column 'tags', word {number}: {describe(tag)} is not a category such as "
                    "N or S\\NP. This split cannot be used."
                )
        sentences.append((tokens, tags))
    return sentences


def sentences_of(path: Path) -> list[tuple[list[str], list[str]]]:
    """Return (words, categories) of each sentence of a file in one of the three formats.

    Raises:
        UserError: the file is not UTF-8, or a line has another format; names the line.
    """
    try:
        # splitlines also splits at characters inside words; utf-8-sig: a byte order mark is no part of the first word
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: byte {error.start} is not UTF-8.") from None
    sentences = []
    for number, line in enumerate(lines, 1):
        # the header of a derivation in CCGbank: ID=wsj_0001.1 PARSER=GOLD NUMPARSE=1
        if not line.strip() or re.fullmatch(r"ID=[^\s|]+( [A-Z]+=[^\s|]+)*\s*", line):
            continue
        if line.startswith("(<"):
            leaves = LEAF.findall(line)
            whole = len(leaves) == line.count("(<L")  # otherwise a word would be missing
            pairs = [(BRACKETS.get(word, word), tag) for tag, word in leaves] if whole else []
        elif "\t" in line:
            words, _, tags = line.partition("\t")
            if len(words.split()) != len(tags.split()):
                raise UserError(
                    f"{path}, line {number}: {len(words.split())} words, {len(tags.split())} categories; expected "
                    "one per word."
                )
            pairs = list(zip(words.split(), tags.split(), strict=True))
        else:
            # from the right, because a word may contain a bar
            split = [item.rsplit("|", 2) for item in line.split()]
            pairs = [(item[0], item[2]) for item in split if len(item) == 3]
            if len(pairs) != len(split):
                pairs = []
        if not pairs:
            raise UserError(
                f"{path}, line {number}: {line[:60]!r} is neither `words<TAB>categories`, nor `word|POS|category`, "
                "nor an AUTO derivation."
            )
        if without_gold := [word for word, tag in pairs if tag in HIDDEN]:
            raise UserError(
                f"{path}, line {number}: the word {without_gold[0]!r} has no category. This split cannot be used."
            )
        sentences.append(([w for w, _ in pairs], [t for _, t in pairs]))
    if not sentences:
        raise UserError(f"{path}: no sentence.")
    return sentences
