"""Text pairs for training a dual encoder: a query and its passage. No head: vectors are compared.

A pair task is a task adapter without a head. It is listed in `PAIRS`, not among the tasks of the matrix.
`run_intermediate.py --tasks` trains on it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from tasks import sentences
from tasks.base import Task
from tasks.checks import check_ids, check_text, map_rows
from tasks.errors import UserError, did_you_mean, reading
from tasks.fingerprint import fingerprint
from tasks.overlap import Use
from tasks.rows import Loaded
from tasks.source import Source

if TYPE_CHECKING:
    from datasets import Dataset

    from tasks.rows import Rows


class Pairs(Task):
    """Columns after loading: query, passage, id (text, all three).

    An id is unique and names the same pair in every language. The score is accuracy: is the query's passage the
    nearest of all distinct passages of the split?
    """

    # the task that provides the rows, if any: --splits <of>.train=... applies here too
    of: ClassVar[str] = ""
    form = "pairs"
    metric = "accuracy"
    select = "last"
    # rate and epochs: XTREME-R's LAReQA recipe. Batch size 32, not its 4: negatives come from the batch.
    defaults: ClassVar[dict] = {
        "learning_rate": 2e-5,
        "num_train_epochs": 3,
        "per_device_train_batch_size": 32,
        "max_seq_length": 256,
    }

    def read(self, split: str, language: str, rows: Rows) -> Loaded:
        """Return the pairs of one split and language, and their provenance.

        Raises:
            UserError: the rows are missing or invalid, or there is no pair.
        """
        import numpy as np

        loaded = self.source_rows(split, language, rows)
        with reading(self.name, loaded.where):
            pairs = self.pairs(loaded.examples, loaded.where)
        numbers = self.row_numbers(pairs, loaded.examples)
        # from an empty text nothing can be learned
        texts = zip(*self.sides(pairs), strict=True)
        whole = [row for row, (query, passage) in enumerate(texts) if query.strip() and passage.strip()]
        if len(whole) < len(pairs):
            loaded.note(f"{len(pairs) - len(whole)} pairs with an empty text left out")
            pairs, numbers = pairs.select(whole), numbers and [numbers[row] for row in whole]
        if not len(pairs):
            raise UserError(f"{self.name}: the {split} split of {language} ({loaded.where}) holds no pair.")
        sizes = np.diff(np.searchsorted(numbers, np.cumsum(loaded.sizes)), prepend=0) if numbers is not None else ()
        return replace(loaded, examples=pairs, sizes=tuple(map(int, sizes)))

    def source_rows(self, split: str, language: str, rows: Rows) -> Loaded:
        """Return the examples that become pairs: those of the task `of`."""
        from tasks import get_task

        return get_task(self.of, self.benchmark).read(split, language, rows)

    def origins(self, split: str, language: str, rows: Rows) -> list[tuple[str, str, str]]:
        from tasks import get_task

        if not self.of:
            return super().origins(split, language, rows)
        return get_task(self.of, self.benchmark).origins(split, language, rows)

    def examples(self, data: Dataset, language: str, where: str) -> Dataset:
        """Convert source rows, of a task that has its own, to pairs."""
        return self.pairs(data, where)

    def pairs(self, examples: Dataset, where: str) -> Dataset:
        """Convert examples of `source_rows` to columns query, passage, id. Each adapter implements this."""
        raise NotImplementedError

    def row_numbers(self, pairs: Dataset, examples: Dataset) -> list[int] | None:
        """Return the number of the row that each pair is from, in order; None where `pairs` leaves out some."""
        return list(range(len(pairs))) if len(pairs) == len(examples) else None

    def candidates(self, examples: Dataset) -> list[str]:
        """Return the distinct passages, in order of appearance: the candidates of every query."""
        return list(dict.fromkeys(examples["passage"][:]))

    def sides(self, examples: Dataset) -> tuple[list[str], list[str]]:
        return examples["query"][:], examples["passage"][:]

    def gold(self, examples: Dataset) -> list:
        place = {passage: i for i, passage in enumerate(self.candidates(examples))}
        return [place[passage] for passage in examples["passage"][:]]

    def score(self, predictions: list[int], examples: Dataset, language: str) -> dict[str, float]:
        from tasks.metrics import compute

        return compute("accuracy", predictions=predictions, references=self.gold(examples))

    def chance(self, examples: Dataset, language: str = "en") -> dict[str, float]:
        """Accuracy of a random guess among the distinct passages."""
        return {"accuracy": 100 / len(self.candidates(examples))}


class SquadDual(Pairs):
    """SQuAD v1.1: a question, and the sentence of the paragraph in which its (first) answer begins.

    The rows are the task squad's own (so --splits squad.train=... applies here too), English or translated.
    """

    name, of = "squad_dual", "squad"
    title = "SQuAD 1.1 questions and answer sentences"
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
            new_fingerprint=fingerprint(self, examples),
        )

    def passage(self, context: str, start: int) -> str:
        """Return the passage of the answer that starts at this character."""
        return sentences.sentence_at(context, start)


class LareqaDual(SquadDual):
    """SQuAD v1.1 in LAReQA's format: the sentence, directly followed by its paragraph, without line breaks."""

    name = "lareqa_dual"
    title = "SQuAD 1.1 questions and answers in context"

    def passage(self, context: str, start: int) -> str:
        return sentences.with_paragraph(sentences.sentence_at(context, start), context)


class XquadDual(SquadDual):
    """XQuAD's questions and answer sentences, parallel in all its languages: for batches across languages.

    Its rows are test rows from SQuAD's dev paragraphs, so it has no train split without --splits
    (xquad_dual.train=validation[:800]). A model trained on it must not be scored on XQuAD or LAReQA.
    """

    name = "xquad_dual"
    title = "XQuAD questions and answer sentences"
    of = ""  # --splits xquad_dual.train=...

    def source_rows(self, split: str, language: str, rows: Rows) -> Loaded:
        return self._questions(split, rows).read(split, language, rows)

    def origins(self, split: str, language: str, rows: Rows) -> list[tuple[str, str, str]]:
        return self._questions(split, rows).origins(split, language, rows)

    def _questions(self, split: str, rows: Rows) -> Task:
        """Return SQuAD's adapter with the part of XQuAD that --splits names as its split.

        Raises:
            UserError: --splits names none.
        """
        from tasks.question_answering import SQuAD, XQuAD

        expression = rows.expression(self.name, split, "")
        if not expression:
            raise UserError(
                f"{self.name}: XQuAD is a test set. To train on a part of it, give "
                "--splits xquad_dual.train=validation[:800] xquad_dual.dev=validation[800:]."
            )

        class Questions(SQuAD):
            name = self.name  # its --splits, and what results.json says that the rows are for
            sources = tuple(replace(source, splits={split: expression}) for source in XQuAD.sources)

        return Questions(self.benchmark)


class PositivePairs(Pairs):
    """The pairs of a sentence-pair task with the positive label. The id is the row's number, from 0."""

    positive: ClassVar[str]  # the label of the pairs to keep

    defaults: ClassVar[dict] = {**Pairs.defaults, "max_seq_length": 128}

    def pairs(self, examples: Dataset, where: str) -> Dataset:
        from tasks import get_task

        wanted = get_task(self.of).labels.index(self.positive)
        numbers = [i for i, label in enumerate(examples["label"][:]) if label == wanted]
        data = examples.select(numbers).select_columns(["text_a", "text_b"])
        data = data.rename_columns({"text_a": "query", "text_b": "passage"})
        return data.add_column("id", [str(i) for i in numbers])

    def row_numbers(self, pairs: Dataset, examples: Dataset) -> list[int]:
        return [int(number) for number in pairs["id"][:]]


class NLIDual(PositivePairs):
    """MultiNLI's entailed pairs: premise and hypothesis."""

    name, of, positive = "nli_dual", "mnli", "entailment"
    title = "MultiNLI entailments"


class XNLIDual(PositivePairs):
    """XNLI's entailed pairs. Its languages are parallel row by row: for batches across languages."""

    name, of, positive = "xnli_dual", "xnli", "entailment"
    title = "XNLI entailments"
    other_languages = "parallel"


class QQPDual(PositivePairs):
    """Quora's duplicate questions."""

    name, of, positive = "qqp_dual", "qqp", "duplicate"
    title = "Quora duplicates"


class PAWSDual(PositivePairs):
    """PAWS' paraphrases, English only: its translations (PAWS-X) lack some rows, so rows do not align."""

    name, of, positive = "paws_dual", "pawsx", "paraphrase"
    title = "PAWS-X paraphrases"

    def source_rows(self, split: str, language: str, rows: Rows) -> Loaded:
        if language != "en":
            raise UserError(f"{self.name} has only English pairs: the rows of PAWS-X do not align across languages.")
        return super().source_rows(split, language, rows)


class MewslixDual(Pairs):
    """Mewsli-X's training pairs (Wikipedia, English): a mention in its sentence, and the description of its entity.

    The query has the format of the task mewslix. The passage is the description. The id is the mention's.
    """

    name = "mewslix_dual"
    title = "Mewsli-X mentions and entities"
    columns = ("contextual_mention", "entity")
    sources = (Source("izhx/mewsli-x", "wikipedia_pairs", {"train": "train", "dev": "validation"}),)
    # XTREME-R's recipe; batch 8 there
    defaults: ClassVar[dict] = {**Pairs.defaults, "learning_rate": 1e-5, "num_train_epochs": 2, "max_seq_length": 64}

    def source_rows(self, split: str, language: str, rows: Rows) -> Loaded:
        if language != "en":
            raise UserError(f"{self.name} has only English pairs.")
        source, config, expression = self.locate(split, language, rows)
        use = Use(self.name, split, language)
        read = rows.read(source.id, config, expression, source.revision, self.columns, use=use)
        return Loaded(read.data, (read,))

    def pairs(self, examples: Dataset, where: str) -> Dataset:
        from tasks import ranking

        def pair(row: dict) -> dict[str, str]:
            mention, entity = row["contextual_mention"]["mention"], row["entity"]
            query = ranking.marked_query(row["contextual_mention"]["context"], mention["mention_span"])
            return {"query": query, "passage": " ".join(entity["description"].split()), "id": mention["example_id"]}

        pairs = map_rows(
            examples,
            pair,
            remove_columns=examples.column_names,
            desc=self.name,
            new_fingerprint=fingerprint(self, examples),
        )
        check_text(pairs, ("id",), where)
        check_ids(pairs["id"][:], where, "contextual_mention")
        return pairs


PAIRS: dict[str, type[Pairs]] = {
    cls.name: cls for cls in (SquadDual, LareqaDual, XquadDual, NLIDual, XNLIDual, QQPDual, PAWSDual, MewslixDual)
}


def get_pairs(name: str, benchmark: str = "xtreme") -> Pairs:
    """Return the pair task called `name`.

    Raises:
        UserError: no such task; lists the known ones.
    """
    if name not in PAIRS:
        raise UserError(f"Pairs {name!r} are unknown.{did_you_mean(name, PAIRS)} Known: {', '.join(PAIRS)}.")
    return PAIRS[name](benchmark)


def list_pairs() -> str:
    """Return a table of the pair tasks: name and description."""
    width = max(map(len, PAIRS))
    lines = [f"{name.ljust(width)}  {(cls.__doc__ or '').splitlines()[0]}" for name, cls in PAIRS.items()]
    return "\n".join(["pairs, for run_intermediate.py --tasks", *lines])
