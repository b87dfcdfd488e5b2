"""Machine-translate the English train rows of a task with any seq2seq checkpoint; answers keep their offsets.

    python -m xstilts.translate --model facebook/nllb-200-distilled-600M --task squad --languages de sw \\
        --output_root data/mt --language_codes en=eng_Latn de=deu_Latn sw=swh_Latn
    python -m xstilts.translate --model Helsinki-NLP/opus-mt-en-de --task xnli --languages de \\
        --data_root data/rows --output_root data/mt
    python -m xstilts.translate --model Helsinki-NLP/opus-mt-en-de --back_model Helsinki-NLP/opus-mt-de-en \\
        --task xnli --roundtrip de ...

Writes `<output_root>/<id>/<config>/<split>.parquet` where the Hub has (or would have) such rows, in its columns, for
--translations of the training scripts, and a note of what made them beside it. Sentences are translated one by one,
equal ones once. Marks stand around an answer; if the translation loses them, the row is left out and counted. A
sentence that the model takes only in part, or does not end, is kept and counted. If the command was stopped, run it
again: it continues.
"""

from __future__ import annotations

import functools
import json
import logging
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks import languages as codes
from tasks.errors import UserError, first_line
from xstilts.cli import logs
from xstilts.cli.parsing import parse
from xstilts.cli.unused import refuse_unused
from xstilts.marked_text import Parts, joined, sentences
from xstilts.run.checks import then_and_now
from xstilts.run.endings import command
from xstilts.run.record import without_uses
from xstilts.seq2seq import COUNTS, Translator, named_languages

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset

    from tasks.base import Task
    from tasks.rows import Rows

SETTINGS = "settings.json"  # in the folder of parts: what they are made with
ROWS = 1000  # of a part: the most that is lost when the command stops

logger = logging.getLogger("xstilts")


@dataclass
class TranslateArguments:
    """The rows to translate, the model that does it, and where to write."""

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
    """Translate a task's English train rows into each language.

    Raises:
        UserError: arguments, rows or checkpoint are wrong, or a file was made with other settings.
    """
    (options,), _ = parse(argv, "xstilts.translate", __doc__.splitlines()[0], TranslateArguments, training=False)
    for flag in ("model", "task", "output_root"):
        if not getattr(options, flag):
            raise UserError(f"--{flag} is missing.")
    if bool(options.languages) == bool(options.roundtrip):
        raise UserError("Give --languages to translate into, or --roundtrip LANGUAGE.")
    if not options.roundtrip:
        refuse_unused("it goes with --roundtrip", options, only=["back_model"])
    if options.batch_size < 1 or options.num_beams < 1:
        raise UserError(f"--batch_size {options.batch_size} and --num_beams {options.num_beams} must be positive.")
    try:
        options.prefix.format(source="English", target="German")
    except (LookupError, ValueError, AttributeError) as error:
        raise UserError(
            f"--prefix {options.prefix!r}: only {{source}} and {{target}} may stand in braces ({first_line(error)})."
        ) from error

    from tasks import get_task
    from tasks.rows import Rows
    from xstilts.checkpoint.config import check_checkpoint

    logs.begin()
    refuse_foreign(Path(options.output_root))
    task, rows = get_task(options.task), Rows(options.data_root)
    check_checkpoint(options.model, "--model")
    check_checkpoint(options.back_model or options.model, "--back_model")
    if Path(options.model).is_dir() and Path(options.back_model or options.model).is_dir():
        refuse_unused("a folder is taken as it is", options, only=["model_revision"])
    targets = [codes.normalize(code) for code in options.languages or [options.roundtrip]]
    for code in named_languages(options.language_codes):
        if code not in ("en", *targets):
            raise UserError(
                f"--language_codes {code}=...: this run translates from en into {' '.join(targets)}. Leave it out."
            )
    places = {code: place(task, code, bool(options.roundtrip), rows) for code in targets}
    english = task.load("train", "en", rows)
    english = english.select(range(min(len(english), options.max_samples or len(english))))
    source = without_uses(rows.records)
    translator = functools.partial(
        Translator,
        revision=options.model_revision,
        dtype=options.dtype,
        named=options.language_codes,
        prefix=options.prefix,
        batch_size=options.batch_size,
        num_beams=options.num_beams,
    )
    for code in targets:
        there = translator(options.model, "en", code)
        ways = [there, translator(options.back_model or options.model, code, "en")] if options.roundtrip else [there]
        write(task, english, source, code, ways, options, Path(options.output_root, *places[code]))


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


def write(
    task: Task,
    english: Dataset,
    source: list[dict],
    language: str,
    ways: list[Translator],
    options: TranslateArguments,
    path: Path,
) -> None:
    """Translate part by part, then write the note and the whole file.

    Raises:
        UserError: the file, or parts of it, were made with other settings.
    """
    import pyarrow.parquet as pq

    from tasks.rows import translation_note
    from xstilts.run.files import write_text

    made_by = {
        "model": " + ".join(dict.fromkeys(filter(None, (options.model, options.back_model)))),
        "revision": options.model_revision,
        "task": task.name,
        "language": language,
        "source": source,
        "english_rows": len(english),
        "num_beams": options.num_beams,
        "dtype": options.dtype,
        "prefix": options.prefix,
        "language_codes": options.language_codes,
    }
    note, parts = translation_note(path), path.with_name(f".{path.stem}.parts")
    # the note may be from another user's translation
    begun = note if note.is_file() else parts / SETTINGS
    _check_settings(begun, made_by, path)
    if begun.is_file() and path.is_file():
        return logger.info("%s is there already; nothing to do.", path)
    write_text(parts / SETTINGS, json.dumps(made_by, indent=1))
    counts = _write_parts(task, english, language, ways, parts, _unknown(path))
    whole = _joined_parts(parts)
    if not len(whole):
        raise UserError(f"{path}: no row was kept: all {len(english)} lost the marks around their answer.")
    write_text(note, json.dumps(made_by | {"rows": len(whole)} | counts, indent=1, ensure_ascii=False))
    with open(f"{path}.tmp", "wb") as stream:
        pq.write_table(whole, stream)
    Path(f"{path}.tmp").rename(path)
    shutil.rmtree(parts)
    logger.info(
        "%s: %d rows, %d lost their answer's marks, %d sentences stopped before their end, %d were too long",
        path,
        len(whole),
        *counts.values(),
    )


def _unknown(path: Path) -> str:
    """Return the end of an error about a damaged note: what it means, and what to do."""
    return f"so nobody knows how {path} was made. Delete both, or give another --output_root."


def _check_settings(begun: Path, made_by: dict[str, Any], path: Path) -> None:
    """Raise UserError if the note of an earlier translation, `begun`, has other settings than `made_by`."""
    from xstilts.run.results import read_note

    if not begun.is_file():
        return
    old = read_note(begun, _unknown(path))
    differ = [key for key, value in made_by.items() if old.get(key) != value]
    if differ:
        shown = then_and_now(old, made_by, differ)
        raise UserError(
            f"{path} was made, or begun, with other settings ({shown}). Give another --output_root, or delete it."
        )


def _write_parts(
    task: Task, english: Dataset, language: str, ways: list[Translator], parts: Path, unknown: str
) -> dict[str, int]:
    """Translate the parts that are missing and return the sums {"lost": rows, and COUNTS: sentences}.

    Args:
        unknown: the end of an error about a damaged count.
    """
    from xstilts.cli.progress import Bar
    from xstilts.run.files import write_text
    from xstilts.run.results import read_note

    counts = dict.fromkeys(("lost", *COUNTS), 0)
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
    return counts


def _joined_parts(parts: Path) -> pa.Table:
    """Return the rows of all parts. Raise UserError if a part cannot be read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pa.concat_tables(
            [pq.ParquetFile(pa.OSFile(str(part))).read() for part in sorted(parts.glob("*.parquet"))]
        )
    except (OSError, ValueError) as error:
        raise UserError(
            f"{parts} holds a part that cannot be read ({first_line(error)}). Delete that folder, or give another "
            "--output_root."
        ) from error


def translate(task: Task, examples: Dataset, ways: list[Translator], language: str) -> tuple[Dataset, dict[str, int]]:
    """Return (rows in the source's columns, {"lost": rows, and COUNTS: sentences})."""
    texts = task.text_columns
    pieces: list[dict[str, Parts | None]] = []  # the sentences of each row's texts
    distinct: dict[str, None] = {}  # every sentence once, in order
    for row in examples:
        places = task.places(row)
        cut = {column: sentences(row[column], places.get(column), ways[0].fits) for column in texts}
        pieces.append(cut)
        distinct |= dict.fromkeys(text for parts in cut.values() if parts for text, _ in parts)
    done, counts = list(distinct), dict.fromkeys(COUNTS, 0)
    for way in ways:
        done, more = way(done)
        counts = {name: counts[name] + more[name] for name in COUNTS}
    translated = dict(zip(distinct, done, strict=True))
    blank = codes.between_sentences("en" if len(ways) == 2 else language)
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
    return task.to_rows(kept), {"lost": len(examples) - len(kept)} | counts


if __name__ == "__main__":
    command(main)
