"""Machine-translate the English train rows of a task with any seq2seq checkpoint; answers keep their offsets.

    python -m xstilts.translate --model facebook/nllb-200-distilled-600M --task squad --languages de sw \\
        --output_root data/mt --language_codes en=eng_Latn de=deu_Latn sw=swh_Latn
    python -m xstilts.translate --model Helsinki-NLP/opus-mt-en-de --task xnli --languages de \\
        --data_root data/rows --output_root data/mt
    python -m xstilts.translate --model Helsinki-NLP/opus-mt-en-de --back_model Helsinki-NLP/opus-mt-de-en \\
        --task xnli --roundtrip de ...

Writes `<output_root>/<id>/<config>/<split>.parquet` where the Hub has (or would have) such rows, in its columns, for
--translations of the training scripts, and a note of what made them beside it. Sentences are translated one by one,
equal ones once. Marks stand around an answer; if the translation loses them, the row is left out and counted. If the
command was stopped, run it again: it continues.
"""

from __future__ import annotations

import functools
import json
import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks import languages as codes
from tasks.sentences import sentence_spans
from xstilts.cli import logs
from xstilts.cli.arguments import refuse_unused
from xstilts.cli.parsing import parse
from xstilts.cli.progress import Bar
from xstilts.errors import UserError, first_line
from xstilts.run.endings import command

if TYPE_CHECKING:
    from datasets import Dataset

    from tasks.base import Task
    from tasks.rows import Rows

MARKS = (("[", "]"), ("{", "}"), ("<", ">"))  # the first pair that the sentence itself does not have
NO_BLANKS = {"zh", "wuu", "yue", "ja", "th", "km", "my"}  # no blank between two sentences
ROWS = 1000  # of a part: the most that is lost when the command stops
LENGTH = 512  # maximum input in tokens, if the tokenizer has no lower limit

Parts = list[tuple[str, tuple[str, str] | None]]  # (sentence, the marks around the answer in it)

logger = logging.getLogger("xstilts")


@dataclass
class TranslateArguments:
    model: str | None = field(default=None, metadata={"help": "Seq2seq checkpoint: a folder or a Hub id."})
    model_revision: str = field(default="main", metadata={"help": "Revision, if it is a Hub id."})
    task: str | None = field(
        default=None, metadata={"help": "Whose train rows: xnli, squad, pawsx or one of your own."}
    )
    languages: list[str] = field(default_factory=list, metadata={"help": "Translate into these."})
    roundtrip: str | None = field(default=None, metadata={"help": "Translate into this language and back."})
    back_model: str | None = field(
        default=None, metadata={"help": "The checkpoint for the way back; default: --model."}
    )
    data_root: str = field(default="hub", metadata={"help": "'hub', or a folder of rows laid out as data/world."})
    output_root: str | None = field(default=None, metadata={"help": "Folder to write to."})
    language_codes: list[str] = field(
        default_factory=list,
        metadata={"help": "What the model calls languages, e.g. en=eng_Latn de=deu_Latn; default: our codes."},
    )
    prefix: str = field(
        default="",
        metadata={
            "help": "Text before every input; {source} and {target} become English names (T5), e.g. "
            "'translate {source} to {target}: '."
        },
    )
    batch_size: int = field(default=32, metadata={"help": "Sentences at a time."})
    num_beams: int = field(default=1, metadata={"help": "1: greedy."})
    dtype: str = field(default="fp32", metadata={"help": "Precision of the model.", "choices": ["fp32", "bf16"]})
    max_samples: int | None = field(default=None, metadata={"help": "The first so many rows only."})


def main(argv: list[str]) -> None:
    (how,), _ = parse(argv, "xstilts.translate", __doc__.splitlines()[0], TranslateArguments, training=False)
    for flag in ("model", "task", "output_root"):
        if not getattr(how, flag):
            raise UserError(f"--{flag} is missing.")
    if bool(how.languages) == bool(how.roundtrip):
        raise UserError("Give --languages to translate into, or --roundtrip LANGUAGE.")
    if not how.roundtrip:
        refuse_unused("it goes with --roundtrip", how, only=["back_model"])
    if how.batch_size < 1 or how.num_beams < 1:
        raise UserError(f"--batch_size {how.batch_size} and --num_beams {how.num_beams} must be positive.")
    try:
        how.prefix.format(source="English", target="German")
    except (LookupError, ValueError, AttributeError) as error:
        raise UserError(
            f"--prefix {how.prefix!r}: only {{source}} and {{target}} may stand in braces ({first_line(error)})."
        ) from error

    from tasks import get_task
    from tasks.rows import Rows
    from xstilts.checkpoint.config import check_checkpoint

    logs.begin()
    refuse_foreign(Path(how.output_root))
    task, rows = get_task(how.task), Rows(how.data_root)
    check_checkpoint(how.model, "--model")
    check_checkpoint(how.back_model or how.model, "--back_model")
    if Path(how.model).is_dir() and Path(how.back_model or how.model).is_dir():
        refuse_unused("a folder is taken as it is", how, only=["model_revision"])
    targets = [codes.normalize(code) for code in how.languages or [how.roundtrip]]
    for code in named_languages(how.language_codes):
        if code not in ("en", *targets):
            raise UserError(
                f"--language_codes {code}=...: this run translates from en into {' '.join(targets)}. Leave it out."
            )
    places = {code: place(task, code, bool(how.roundtrip), rows) for code in targets}
    english = task.load("train", "en", rows)
    english = english.select(range(min(len(english), how.max_samples or len(english))))
    source = [{key: value for key, value in record.items() if key != "file"} for record in rows.records]
    for code in targets:
        there = Translator(how, how.model, "en", code)
        ways = [there, Translator(how, how.back_model or how.model, code, "en")] if how.roundtrip else [there]
        write(task, english, source, code, ways, how, Path(how.output_root, *places[code]))


def refuse_foreign(root: Path) -> None:
    """Raise UserError if a folder of translations holds a file that has no note beside it on what translated it."""
    from tasks.rows import translation_note

    for path in sorted(root.rglob("*")):
        # parts of a file, too, until it is whole
        hidden = any(part.startswith(".") for part in path.relative_to(root).parts)
        if path.is_file() and not hidden and not translation_note(path).is_file():
            raise UserError(
                f"--output_root {root} holds {path.relative_to(root)}, which this script did not write. Give a new or "
                "an empty folder."
            )


def place(task: Task, language: str, roundtrip: bool, rows: Rows) -> tuple[str, str, str]:
    """Return (folder, config, file) of a task's train rows in a language, or of its English rows translated and back.

    Raises:
        UserError: the task has no place for them, or the language is English.
    """
    from tasks.rows import ROUND_TRIP

    if language == "en":
        raise UserError("English is what is translated; name another language.")
    places = [source for source in task.sources if "{language}" in source.config and source.splits.get("train")]
    if task.other_languages != "parallel" or not places:
        raise UserError(
            f"--task {task.name}: its train rows are English alone, wherever they lie. Tasks with a place for others "
            "have a source for each language, as xnli (MultiNLI's rows), squad and pawsx."
        )
    if roundtrip:
        source, config, split = task.locate("train", "en", rows)
        return source.id.replace("/", "__"), config + ROUND_TRIP, f"{split}.parquet"
    source = places[0]
    return source.id.replace("/", "__"), source.config_of(language), f"{source.splits['train']}.parquet"


# ---- the model ------------------------------------------------------------------------------------------------------


@functools.cache
def load(name: str, revision: str, dtype: str) -> tuple[Any, Any]:
    """Return (model, tokenizer) of a checkpoint, on the GPU if there is one. Cached: all languages share it.

    Raises:
        UserError: it does not load as a seq2seq model.
    """
    import torch
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(name, revision=revision)
        precision = {"fp32": torch.float32, "bf16": torch.bfloat16}[dtype]
        model = AutoModelForSeq2SeqLM.from_pretrained(name, revision=revision, dtype=precision)
    except Exception as error:
        raise UserError(f"--model {name}: does not load as a seq2seq model ({first_line(error)}).") from error
    return model.to("cuda" if torch.cuda.is_available() else "cpu").eval(), tokenizer


class Translator:
    """A translator of one pair of languages: `translator(texts)` returns (translations, number of unfinished ones).

    Raises:
        UserError: the checkpoint does not load, or does not know a language by this code.
    """

    def __init__(self, how: TranslateArguments, name: str, source: str, target: str) -> None:
        self.model, self.tokenizer = load(name, how.model_revision, how.dtype)
        self.how = how
        self.source, self.options = language_options(self.tokenizer, source, target, how.language_codes)
        self.prefix = how.prefix.format(source=codes.ud_name(source), target=codes.ud_name(target))
        self.limit = min(self.tokenizer.model_max_length, LENGTH)

    def fits(self, text: str) -> bool:
        """Return whether the model takes the whole text."""
        return len(self.tokenizer(self.prefix + text)["input_ids"]) <= self.limit

    def __call__(self, texts: list[str]) -> tuple[list[str], int]:
        import torch

        if self.source:
            self.tokenizer.src_lang = self.source
        done, stopped = [""] * len(texts), 0
        order = sorted(range(len(texts)), key=lambda i: -len(texts[i]))  # batches of one length
        for start in range(0, len(order), self.how.batch_size):
            chosen = order[start : start + self.how.batch_size]
            inputs = self.tokenizer(
                [self.prefix + texts[i] for i in chosen],
                return_tensors="pt",
                padding=True,
                truncation=True,
                max_length=self.limit,
            ).to(self.model.device)
            inputs.pop("token_type_ids", None)
            room = min(2 * inputs["input_ids"].shape[1] + 16, LENGTH)
            with torch.inference_mode():
                found = self.model.generate(
                    **inputs, num_beams=self.how.num_beams, do_sample=False, max_new_tokens=room, **self.options
                )
            stopped += int((found[:, 1:] != self.tokenizer.eos_token_id).all(1).sum())
            for i, text in zip(chosen, self.tokenizer.batch_decode(found, skip_special_tokens=True), strict=True):
                done[i] = text.strip()
        return done, stopped


def named_languages(pairs: list[str]) -> dict[str, str]:
    """Return {our code: the model's code} from --language_codes.

    Raises:
        UserError: a word has another form than ours=theirs, or a language is repeated.
    """
    names: dict[str, str] = {}
    for pair in pairs:
        ours, equals, theirs = pair.partition("=")
        if not equals or not theirs:
            raise UserError(f"--language_codes {pair}: expected ours=theirs, e.g. de=deu_Latn.")
        if names.setdefault(codes.normalize(ours), theirs) != theirs:
            raise UserError(
                f"--language_codes {pair}: {ours} is also named {names[codes.normalize(ours)]!r}. Give one of them."
            )
    return names


def language_options(tokenizer: Any, source: str, target: str, given: list[str]) -> tuple[str | None, dict[str, int]]:
    """Return (the tokenizer's name of the source, arguments of `generate` for the target).

    A model of one pair of languages needs neither: (None, {}).

    Raises:
        UserError: the model has no such language.
    """
    names = named_languages(given)
    if not hasattr(tokenizer, "src_lang"):
        if names:
            raise UserError("--language_codes: this model has no languages to choose from; leave them out.")
        return None, {}
    ids = {}
    for code in (source, target):
        name = names.get(code, code)
        try:  # M2M100 writes its codes as __de__
            ids[code] = (
                tokenizer.get_lang_id(name)
                if hasattr(tokenizer, "get_lang_id")
                else tokenizer.convert_tokens_to_ids(name)
            )
        except KeyError:
            ids[code] = None
        if ids[code] in (None, tokenizer.unk_token_id):
            raise UserError(
                f"--language_codes: the model does not know {code} as {name!r}; give its code, e.g. {code}=deu_Latn."
            )
    return names.get(source, source), {"forced_bos_token_id": ids[target]}


# ---- rows -----------------------------------------------------------------------------------------------------------


def write(
    task: Task,
    english: Dataset,
    source: list[dict],
    language: str,
    ways: list[Translator],
    how: TranslateArguments,
    path: Path,
) -> None:
    """Translate part by part, then write the note and the whole file.

    Raises:
        UserError: the file, or parts of it, were made with other settings.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    from tasks.rows import translation_note
    from xstilts.run.results import read_note, write_text

    made_by = {
        "model": " + ".join(dict.fromkeys(filter(None, (how.model, how.back_model)))),
        "revision": how.model_revision,
        "task": task.name,
        "language": language,
        "source": source,
        "english_rows": len(english),
        "num_beams": how.num_beams,
        "dtype": how.dtype,
        "prefix": how.prefix,
        "language_codes": how.language_codes,
    }
    note, parts = translation_note(path), path.with_name(f".{path.stem}.parts")
    # the note may be from another user's translation
    begun = note if note.is_file() else parts / "settings.json"
    unknown = f"so nobody knows how {path} was made. Delete both, or give another --output_root."
    if begun.is_file():
        old = read_note(begun, unknown)
        differ = [key for key, value in made_by.items() if old.get(key) != value]
        if differ:
            shown = "; ".join(f"{key}: {old.get(key)!r} then, {made_by[key]!r} now" for key in differ)
            raise UserError(
                f"{path} was made, or begun, with other settings ({shown}). Give another --output_root, or delete it."
            )
        if path.is_file():
            return logger.info("%s is there already; nothing to do.", path)
    write_text(parts / "settings.json", json.dumps(made_by, indent=1))
    counts = {"lost": 0, "stopped": 0}
    with Bar(len(english), f"{task.name} {language}", "rows") as bar:
        for start in range(0, len(english), ROWS):
            part, count = parts / f"{start:09d}.parquet", parts / f"{start:09d}.json"
            some = english.select(range(start, min(start + ROWS, len(english))))
            if not (count.is_file() and part.is_file()):
                done, found = translate(task, some, ways, language)
                with open(f"{part}.tmp", "wb") as stream:  # an open file: the libraries read some paths as addresses
                    done.to_parquet(stream)
                Path(f"{part}.tmp").rename(part)
                write_text(count, json.dumps(found))  # written last: a part with a count is complete
            counted = read_note(count, unknown)
            if counted.keys() != counts.keys() or not all(type(n) is int and n >= 0 for n in counted.values()):
                raise UserError(f"{count} does not hold the numbers {', '.join(counts)}, {unknown}")
            counts = {key: counts[key] + counted[key] for key in counts}
            bar.update(len(some))
    try:
        whole = pa.concat_tables(
            [pq.ParquetFile(pa.OSFile(str(part))).read() for part in sorted(parts.glob("*.parquet"))]
        )
    except (OSError, ValueError) as error:
        raise UserError(
            f"{parts} holds a part that cannot be read ({first_line(error)}). Delete that folder, or give another "
            "--output_root."
        ) from error
    if not len(whole):
        raise UserError(f"{path}: no row was kept: all {len(english)} lost the marks around their answer.")
    write_text(note, json.dumps(made_by | {"rows": len(whole)} | counts, indent=1, ensure_ascii=False))
    with open(f"{path}.tmp", "wb") as stream:
        pq.write_table(whole, stream)
    Path(f"{path}.tmp").rename(path)
    shutil.rmtree(parts)
    logger.info(
        "%s: %d rows, %d lost their answer's marks, %d sentences stopped before their end",
        path,
        len(whole),
        *counts.values(),
    )


def translate(task: Task, examples: Dataset, ways: list[Translator], language: str) -> tuple[Dataset, dict[str, int]]:
    """Return (rows in the source's columns, {"lost": rows, "stopped": sentences})."""
    texts = task.text_columns
    pieces: list[dict[str, Parts | None]] = []  # the sentences of each row's texts
    distinct: dict[str, None] = {}  # every sentence once, in order
    for row in examples:
        places = task.places(row)
        cut = {column: sentences(row[column], places.get(column), ways[0].fits) for column in texts}
        pieces.append(cut)
        distinct |= dict.fromkeys(text for parts in cut.values() if parts for text, _ in parts)
    done, stopped = list(distinct), 0
    for way in ways:
        done, more = way(done)
        stopped += more
    translated = dict(zip(distinct, done, strict=True))
    blank = "" if language in NO_BLANKS and len(ways) == 1 else " "
    columns: dict[str, list] = {name: [] for name in examples.column_names}
    for row, cut in zip(examples, pieces, strict=True):
        found = {column: text for column in texts if (text := joined(cut[column], translated, blank)) is not None}
        if len(found) < len(texts):
            continue
        new = row | {column: text for column, (text, _) in found.items()}
        new = task.replaced(new, {column: answers for column, (_, answers) in found.items()})
        for name, value in new.items():
            columns[name].append(value)
    kept = type(examples).from_dict(columns, features=examples.features)
    return task.to_rows(kept), {"lost": len(examples) - len(kept), "stopped": stopped}


def sentences(text: str, answer: tuple[int, int] | None, fits: Callable[[str], bool]) -> Parts | None:
    """Return the sentences of a text as [(sentence, its marks or None)]; None if the answer cannot be marked.

    The sentences that hold the (first) answer become one, with marks around the answer. A sentence that is too long
    for the model is cut at blanks, except the one with the answer.
    """
    spans = sentence_spans(text)
    if answer is None:
        return [(part, None) for start, end in spans for part in fitting(text[start:end], fits)]
    start, end = answer
    inside = [span for span in spans if span[0] < end and start < span[1]]
    if not inside:  # an answer of blanks
        return None
    first, last = min(inside[0][0], start), max(inside[-1][1], end)
    marks = next((pair for pair in MARKS if not any(mark in text[first:last] for mark in pair)), None)
    if marks is None:
        return None
    marked = text[first:start] + marks[0] + text[start:end] + marks[1] + text[end:last]
    if not fits(marked):
        return None
    before = [(part, None) for a, b in spans if b <= first for part in fitting(text[a:b], fits)]
    after = [(part, None) for a, b in spans if a >= last for part in fitting(text[a:b], fits)]
    return [*before, (marked, marks), *after]


def fitting(text: str, fits: Callable[[str], bool]) -> list[str]:
    """Return the text, or pieces of it cut at the blank nearest the middle, each short enough for the model."""
    middle = len(text) // 2
    blanks = [i for i, letter in enumerate(text) if letter.isspace()]
    if not blanks or fits(text):
        return [text]
    at = min(blanks, key=lambda i: abs(i - middle))
    return [part for half in (text[:at], text[at + 1 :]) if half.strip() for part in fitting(half, fits)]


def joined(parts: Parts | None, translated: dict[str, str], blank: str) -> tuple[str, list[tuple[int, str]]] | None:
    """Return (the translated text, [(start, answer)]), or None if an answer was lost."""
    if parts is None:
        return None
    text, answers = "", []
    for sentence, marks in parts:
        new = translated[sentence]
        text += blank if text and new else ""
        if marks:
            pieces = unmarked(new, marks)
            if pieces is None:
                return None
            answers.append((len(text) + len(pieces[0]), pieces[1]))
            new = "".join(pieces)
        text += new
    return text, answers


def unmarked(text: str, marks: tuple[str, str]) -> tuple[str, str, str] | None:
    """Return (before, answer, after) without the marks; None unless each mark occurs once, in order."""
    opened, closed = marks
    if text.count(opened) != 1 or text.count(closed) != 1 or text.index(closed) < text.index(opened):
        return None
    before, _, rest = text.partition(opened)
    answer, _, after = rest.partition(closed)
    if not answer.strip():
        return None
    # blanks on either side of a mark are one blank
    left = " " if before.strip() and (before[-1:].isspace() or answer[:1].isspace()) else ""
    right = " " if after.strip() and (after[:1].isspace() or answer[-1:].isspace()) else ""
    return before.rstrip() + left, answer.strip(), right + after.lstrip()


if __name__ == "__main__":
    command(main)
