"""How many rows the tasks have, and how many tokens a row: counted once (`ROWS`), or in a folder of rows (`count`)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Rows:
    """What a task's rows hold, in real tokens (all windows and choices of a row) and rows.

    length: of the row that a token stands in, on average over tokens; train: rows (None: as many as the adapter knows
    of); scored: test rows of all languages; dev: English dev rows.
    """

    tokens: float
    length: float
    train: int | None = None
    scored: int = 0
    dev: int = 0


# Tokens and lengths: counted on 1,200 to 2,000 real English rows each, cut at 256 tokens (questions 384), with BERT's
# English vocabulary; XLM-R's is assumed to cut English as finely. MNLI and CCG, not at hand: as XNLI's and a little
# over UDPOS's. Masked LM: every text assumed to fill its 256 tokens. Scored: XTREME's test rows; those of UDPOS and
# PAN-X to one figure. Retrieval: the sentences of both sides; BUCC's eight test pools are assumed to hold 350,000
# each.
ROWS = {
    "mnli": Rows(37, 41, dev=9815),
    "snli": Rows(26, 28, dev=10000),
    "anli": Rows(90, 92, dev=3200),
    "anli_plus": Rows(39, 50, dev=23015),
    "qqp": Rows(31, 38, dev=40430),
    "squad": Rows(188, 213, dev=10570),
    "squad_v2": Rows(188, 213, dev=11873),
    "hellaswag": Rows(167, 52, dev=10042),
    "cosmosqa": Rows(409, 112, dev=2985),
    "csqa": Rows(99, 23, dev=1221),
    "siqa": Rows(91, 33, dev=1954),
    "ccg": Rows(25, 35, dev=1913),
    "mlm": Rows(256, 256),
    "xnli": Rows(37, 41, scored=75150, dev=2490),
    "pawsx": Rows(52, 56, scored=14000, dev=2000),
    "udpos": Rows(21, 32, scored=100000, dev=3974),
    "panx": Rows(13, 22, scored=300000, dev=10000),
    "xquad": Rows(188, 213, scored=13090, dev=10570),
    "mlqa": Rows(188, 213, scored=42245, dev=10570),
    "tydiqa": Rows(149, 182, scored=5077, dev=440),
    "squad_dual": Rows(54, 40, train=87599, dev=10570),
    "tatoeba": Rows(10, 12, scored=2 * 31692),
    "bucc": Rows(23, 28, scored=8 * 350000),
}


def adapter(name: str):
    """The task, the pairs of a dual encoder, or text (`mlm`) of that name."""
    from tasks import get_task
    from tasks.pairs import PAIRS, get_pairs
    from tasks.text import Wikipedia

    return Wikipedia() if name == "mlm" else get_pairs(name) if name in PAIRS else get_task(name)


def count(name: str, root: str, tokenizer, length: int, target: bool) -> Rows:
    """What `ROWS` says of a task, from a folder of rows: the files' sizes, and tokens of the first 1,000 rows of
    each."""
    from tasks.rows import Rows as Folder
    from xstilts.run import inputs
    from xstilts.train import featurizing

    task, folder, lengths, some = adapter(name), Folder(root), [], 1000
    searched = task.search_options and not task.ranks
    languages = task.languages(folder) if target or searched or task.masks else []
    scored = train = dev = 0
    if searched:
        for language in languages:
            for split in ("dev", "test") if task.mines else ("test",):
                data = task.load(split, language, folder)
                texts = [text for side in task.sides(data) for text in side]
                scored += len(texts)
                lengths += map(len, tokenizer(texts[:some], truncation=True, max_length=length)["input_ids"])
        return Rows(sum(lengths) / len(lengths), _length(lengths), scored=scored)
    trained = 0  # rows whose tokens are in `lengths`
    for language in languages if task.masks else ["en"]:
        data = task.load("train", language, folder)
        train, trained = train + len(data), trained + min(some, len(data))
        data = inputs.first(data, some)
        if not task.auto_class:
            texts = [text for side in task.sides(data) for text in side]
            lengths += map(len, tokenizer(texts, truncation=True, max_length=length)["input_ids"])
        else:
            for ids in featurizing.featurize(task, data, tokenizer, length, True, name)["input_ids"]:
                lengths += map(len, ids) if isinstance(ids[0], list) else [len(ids)]
    if not task.masks:
        dev = len(task.load("dev", "en", folder))
        scored = sum(len(task.load("test", language, folder)) for language in languages)
    return Rows(sum(lengths) / trained, _length(lengths), train, scored, dev)


def _length(lengths: list[int]) -> float:
    return sum(n * n for n in lengths) / sum(lengths)
