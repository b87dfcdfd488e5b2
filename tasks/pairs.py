"""Text pairs to train a retriever on: a query and the passage that belongs to it. No head; only vectors are compared.

A pair task is a task adapter without a head, listed in `PAIRS` and not among the tasks that are trained and scored
cell by cell: `run_retrieval.py --do_train --train_tasks` takes their names.
"""

from __future__ import annotations

import difflib
import inspect
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from tasks import sentences
from tasks.base import Task, fingerprint
from tasks.checks import check_ids, check_text, map_rows
from tasks.errors import UserError
from tasks.rows import Loaded
from tasks.source import Source

if TYPE_CHECKING:
    from datasets import Dataset

    from tasks.rows import Rows


class Pairs(Task):
    """Columns after loading: query, passage, id (text, all three).

    An id means the same pair in every language the task has; it does not repeat. The score is accuracy: of all
    different passages of the split, is the one nearest to the query its own?
    """

    # the task whose rows these are, if they are another's: --splits <of>.train=... applies here too
    of: ClassVar[str] = ""
    form = "pairs"
    metric = "accuracy"
    select = "last"
    # rate and epochs: XTREME-R's LAReQA recipe (protocol 4). Its batch of 4 is ours 32: all negatives come from the
    # batch.
    defaults: ClassVar[dict] = {
        "learning_rate": 2e-5,
        "num_train_epochs": 3,
        "per_device_train_batch_size": 32,
        "max_seq_length": 256,
    }

    def read(self, split: str, language: str, rows: Rows) -> Loaded:
        """The pairs of one split and language, and where they came from.

        Raises:
            UserError: the rows are absent, not what the form needs, or none of them makes a pair.
        """
        loaded = self.source_rows(split, language, rows)
        with self.reading(loaded.where):
            pairs = self.pairs(loaded.examples, loaded.where)
        if not len(pairs):
            raise UserError(f"{self.name}: the {split} split of {language} ({loaded.where}) holds no pair.")
        return replace(loaded, examples=pairs)

    def source_rows(self, split: str, language: str, rows: Rows) -> Loaded:
        """What the pairs are made of: the examples of the task `of`."""
        from tasks import get_task

        return get_task(self.of, self.benchmark).read(split, language, rows)

    def pairs(self, examples: Dataset, where: str) -> Dataset:
        """Examples of `source_rows` -> columns query, passage, id. Implemented by each adapter."""
        raise NotImplementedError

    def candidates(self, examples: Dataset) -> list[str]:
        """The different passages, in order of appearance: what a query's nearest is looked for among."""
        return list(dict.fromkeys(examples["passage"]))

    def sides(self, examples: Dataset) -> tuple[list[str], list[str]]:
        return examples["query"][:], examples["passage"][:]

    def gold(self, examples: Dataset) -> list:
        place = {passage: i for i, passage in enumerate(self.candidates(examples))}
        return [place[passage] for passage in examples["passage"]]

    def score(self, predictions: list[int], examples: Dataset, language: str) -> dict[str, float]:
        from tasks.metrics import compute

        return compute("accuracy", predictions=predictions, references=self.gold(examples))

    def chance(self, examples: Dataset, language: str = "en") -> dict[str, float]:
        """One guess among the different passages."""
        return {"accuracy": 100 / len(self.candidates(examples))}


class SquadDual(Pairs):
    """SQuAD v1.1: a question, and the sentence of the paragraph in which its (first) answer begins.

    The rows are the task squad's own (so --splits squad.train=... applies here too), English or translated.
    """

    name, of = "squad_dual", "squad"
    other_languages = "parallel"

    def pairs(self, examples: Dataset, where: str) -> Dataset:
        """Span examples (id, context, question, answers) -> pairs."""

        def pair(row: dict) -> dict[str, str]:
            return {
                "query": row["question"].strip(),
                "passage": self.passage(row["context"], row["answers"]["answer_start"][0]),
            }

        return map_rows(
            examples,
            pair,
            remove_columns=[c for c in examples.column_names if c != "id"],
            desc=f"{self.name}: sentences",
            new_fingerprint=fingerprint(self, examples, inspect.getsource(sentences)),
        )

    def passage(self, context: str, start: int) -> str:
        """What stands for the answer that begins at this character."""
        return sentences.sentence_at(context, start)


class LareqaDual(SquadDual):
    """SQuAD v1.1 in LAReQA's text form: the sentence, followed at once by its whole paragraph, without line ends."""

    name = "lareqa_dual"

    def passage(self, context: str, start: int) -> str:
        return sentences.with_paragraph(sentences.sentence_at(context, start), context)


class XquadDual(SquadDual):
    """XQuAD's questions and answer sentences, parallel in all its languages: for batches across languages.

    Its rows are test rows and come from SQuAD's dev paragraphs, so nothing is a train split unless --splits says so
    (xquad_dual.train=validation[:800]); report nothing on XQuAD or LAReQA after that.
    """

    name = "xquad_dual"
    of = ""  # --splits xquad_dual.train=...

    def source_rows(self, split: str, language: str, rows: Rows) -> Loaded:
        from tasks.span import SQuAD, XQuAD

        expression = rows.expression(self.name, split, "")
        if not expression:
            raise UserError(
                f"{self.name}: XQuAD is a test set. To train on a part of it all the same, say which: "
                "--splits xquad_dual.train=validation[:800] xquad_dual.dev=validation[800:]."
            )
        squad = SQuAD(self.benchmark)
        squad.sources = tuple(replace(source, splits={split: expression}) for source in XQuAD.sources)
        return squad.read(split, language, rows)


class PositivePairs(Pairs):
    """The pairs of a sentence-pair task that carry its positive label. The id is the row's number in the source, from
    0."""

    positive: ClassVar[str]  # the label of a pair that means the same

    defaults: ClassVar[dict] = {**Pairs.defaults, "max_seq_length": 128}

    def pairs(self, examples: Dataset, where: str) -> Dataset:
        from tasks import get_task

        wanted = get_task(self.of).labels.index(self.positive)
        numbers = [i for i, label in enumerate(examples["label"]) if label == wanted]
        data = examples.select(numbers).select_columns(["text_a", "text_b"])
        data = data.rename_columns({"text_a": "query", "text_b": "passage"})
        return data.add_column("id", [str(i) for i in numbers])


class NLIDual(PositivePairs):
    """MultiNLI's entailed pairs: premise and hypothesis."""

    name, of, positive = "nli_dual", "mnli", "entailment"


class XNLIDual(PositivePairs):
    """XNLI's entailed pairs. Its languages are parallel row by row: for batches across languages."""

    name, of, positive = "xnli_dual", "xnli", "entailment"
    other_languages = "parallel"


class QQPDual(PositivePairs):
    """Quora's duplicate questions."""

    name, of, positive = "qqp_dual", "qqp", "duplicate"


class PAWSDual(PositivePairs):
    """PAWS' paraphrases. Its translations (PAWS-X) lost rows here and there, so ids are the English rows' only."""

    name, of, positive = "paws_dual", "pawsx", "paraphrase"

    def source_rows(self, split: str, language: str, rows: Rows) -> Loaded:
        if language != "en":
            raise UserError(f"{self.name} has English pairs only: the rows of PAWS-X do not align across languages.")
        return super().source_rows(split, language, rows)


class MewslixDual(Pairs):
    """Mewsli-X's training pairs (Wikipedia, English): a mention in its sentence, and the description of its entity.

    The query's form is the task mewslix' own; the passage is the description. Ids are the mentions'.
    """

    name = "mewslix_dual"
    columns = ("contextual_mention", "entity")
    sources = (Source("izhx/mewsli-x", "wikipedia_pairs", {"train": "train", "dev": "validation"}),)
    # XTREME-R's recipe (protocol 4); batch 8 there
    defaults: ClassVar[dict] = {**Pairs.defaults, "learning_rate": 1e-5, "num_train_epochs": 2, "max_seq_length": 64}

    def source_rows(self, split: str, language: str, rows: Rows) -> Loaded:
        if language != "en":
            raise UserError(f"{self.name} has English pairs only.")
        source, config, expression = self.locate(split, language, rows)
        read = rows.read(source.id, config, expression, source.revision, self.columns)
        return Loaded(read.data, (read,))

    def pairs(self, examples: Dataset, where: str) -> Dataset:
        from tasks import ranking

        def pair(row: dict) -> dict[str, str]:
            mention, entity = row["contextual_mention"]["mention"], row["entity"]
            query = ranking._query(row["contextual_mention"]["context"], mention["mention_span"])
            return {"query": query, "passage": " ".join(entity["description"].split()), "id": mention["example_id"]}

        pairs = map_rows(
            examples,
            pair,
            remove_columns=examples.column_names,
            desc=self.name,
            new_fingerprint=fingerprint(self, examples, inspect.getsource(ranking)),
        )
        check_text(pairs, ("id",), where)
        check_ids(pairs["id"][:], where, "contextual_mention")
        return pairs


PAIRS: dict[str, type[Pairs]] = {
    cls.name: cls for cls in (SquadDual, LareqaDual, XquadDual, NLIDual, XNLIDual, QQPDual, PAWSDual, MewslixDual)
}


def get_pairs(name: str, benchmark: str = "xtreme") -> Pairs:
    """The pair task called `name`.

    Raises:
        UserError: no such task; the known ones are given.
    """
    if name not in PAIRS:
        near = difflib.get_close_matches(name, PAIRS, 1)
        hint = f"Did you mean {near[0]!r}? " if near else ""
        raise UserError(f"--train_tasks {name}: no such pairs. {hint}Known: {', '.join(PAIRS)}.")
    return PAIRS[name](benchmark)


def list_pairs() -> str:
    """A table of the pair tasks: name, and what their pairs are."""
    width = max(map(len, PAIRS))
    lines = [f"{name.ljust(width)}  {(cls.__doc__ or '').splitlines()[0]}" for name, cls in PAIRS.items()]
    return "\n".join(["pairs, for run_retrieval.py --do_train --train_tasks", *lines])
