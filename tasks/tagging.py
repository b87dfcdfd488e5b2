"""Token tagging: one tag per word, predicted at its first sub-token. Truncation never drops a word."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar

from tasks import languages as codes
from tasks.base import Task
from tasks.checks import describe, is_no_label, label_error, label_numbers
from tasks.columns import replace_columns
from tasks.errors import UserError
from tasks.files import class_names
from tasks.fingerprint import fingerprint
from tasks.frame import Frame
from tasks.source import XTREME_REVISION, Source
from tasks.submitted import class_number, compute, read_stripped

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from datasets import Dataset
    from tokenizers import Encoding
    from transformers import PreTrainedTokenizerFast

    from tasks.base import Collator
    from tasks.rows import Loaded, Rows
    from tasks.submitted import Scorer, Submitted

UPOS = (
    "ADJ",
    "ADP",
    "ADV",
    "AUX",
    "CCONJ",
    "DET",
    "INTJ",
    "NOUN",
    "NUM",
    "PART",
    "PRON",
    "PROPN",
    "PUNCT",
    "SCONJ",
    "SYM",
    "VERB",
    "X",
)  # the order of the Hub's integers


def words_need_space(tokenizer: PreTrainedTokenizerFast) -> bool:
    """Whether split words need a leading space, except the first, to get the same tokens as in running text.

    In byte-level tokenizers (RoBERTa, ModernBERT) the space is part of the word. XLM-R's and BERT's need none.

    Raises:
        UserError: neither way gives the tokens of running text.
    """
    words = ["the", "bird", "sees"]

    def ids(text: str | list[str], **options: Any) -> list[int]:
        return tokenizer(text, add_special_tokens=False, **options)["input_ids"]

    running = ids(" ".join(words))
    if ids(words, is_split_into_words=True) == running:
        return False
    if ids([words[0], *(f" {word}" for word in words[1:])], is_split_into_words=True) == running:
        return True
    raise UserError(
        f"the tokenizer cannot be used for tagging: the tokens of {' '.join(words)!r} differ from those of its words, "
        "with and without a leading space."
    )


class Tagging(Task):
    """Columns after loading: tokens (list of words), tags (list of indices into `labels`)."""

    form = "tagging"
    auto_class = "AutoModelForTokenClassification"
    pipeline_tag = "token-classification"
    usage = """\
words = "Anna moved to Paris .".split()
inputs = tokenizer(words, is_split_into_words=True, return_tensors="pt")
with torch.inference_mode():
    tags = model(**inputs).logits[0].argmax(-1).tolist()
first_token = inputs.word_ids().index  # a word's tag is that of its first token
print([(word, model.config.id2label[tags[first_token(i)]]) for i, word in enumerate(words)])"""
    other_tags: ClassVar[tuple[str, ...]] = ()  # tags that a file of predictions may have besides `labels`
    fields = (("tokens", "tags"),)
    metric = "f1"
    columns = ("tokens", "pos_tags")  # words, tags

    def examples(self, data: Dataset, language: str, where: str) -> Dataset:
        from datasets import List, Value

        words, tags = self.columns
        stored = class_names(data.features[tags])
        table, numbers = label_numbers(self.labels, stored), []
        for row, (w, t) in enumerate(zip(data[words][:], data[tags][:], strict=True), 1):
            check_words(w, t, self.columns, f"{where}, row {row}")
            for number, tag in enumerate(t, 1):
                if is_no_label(tag, table) or table[tag] == -1:
                    what = (
                        label_error(tag, self.labels, stored)
                        if is_no_label(tag, table)
                        else (f"{tag!r} (hidden or no gold). This split cannot be used for training or scoring.")
                    )
                    raise UserError(f"{where}, row {row}, column {tags!r}, word {number}: {what}")
            numbers.append([table[tag] for tag in t])
        # our numbers: a file may have names, digits, or numbers in another order
        return (
            data.select_columns([words])
            .rename_columns({words: "tokens"} if words != "tokens" else {})
            # with a key of our own: datasets would take longer to hash these lists than all else here takes
            .add_column("tags", numbers, new_fingerprint=fingerprint(self, data, "tags"), feature=List(Value("int64")))
        )

    def shuffle_labels(self, examples: Dataset, rng: np.random.Generator) -> Dataset:
        """Permute the tags of all sentences."""
        tags = examples["tags"][:]
        shuffled = iter(rng.permutation([tag for row in tags for tag in row]).tolist())
        return replace_columns(examples, tags=[[next(shuffled) for _ in row] for row in tags])

    def featurize(
        self,
        batch: dict[str, list],
        indices: list[int],
        tokenizer: PreTrainedTokenizerFast,
        max_length: int,
        train: bool,
    ) -> dict[str, list]:
        features: dict[str, list] = {"input_ids": [], "attention_mask": [], "example": [], "words": []}
        if train:
            features["labels"] = []
        sentences = [[f" {word}" if i else word for i, word in enumerate(words)] for words in batch["tokens"]]
        sentences = sentences if words_need_space(tokenizer) else batch["tokens"]
        frame = Frame.of(tokenizer, 1)
        encoded = tokenizer(sentences, is_split_into_words=True, add_special_tokens=False, verbose=False)
        for n, index in enumerate(indices):
            words = self._by_word(encoded.encodings[n], batch["tokens"][n], tokenizer)
            for start, piece in self._pieces(words, max_length - frame.size):
                ids, _ = frame.around([token for word in piece for token in word])
                row = [-100] * len(ids)  # -100: not the first sub-token of a word
                position = len(frame.ids[0])
                for word, tokens in enumerate(piece, start):
                    row[position] = word
                    position += len(tokens)
                features["input_ids"].append(ids)
                features["attention_mask"].append([1] * len(ids))
                features["example"].append(index)
                features["words"].append(row)
                if train:
                    tags = batch["tags"][n]
                    features["labels"].append([tags[w] if w >= 0 else -100 for w in row])
        return features

    @staticmethod
    def _by_word(encoding: Encoding, words: list[str], tokenizer: PreTrainedTokenizerFast) -> list[list[int]]:
        """The tokens of each word; the unknown token for a word without any, as in XTREME.

        Words of control characters have no tokens.

        Raises:
            UserError: a word has no tokens, and the tokenizer has no unknown token.
        """
        tokens: list[list[int]] = [[] for _ in words]
        for token, word in zip(encoding.ids, encoding.word_ids, strict=True):
            tokens[word].append(token)  # type: ignore[index]  # None only of special tokens, left out above
        if all(tokens):
            return tokens
        # byte-level tokenizers have no unknown token
        unknown = tokenizer.mask_token_id if tokenizer.unk_token_id is None else tokenizer.unk_token_id
        if unknown is None:
            empty = words[tokens.index([])]
            raise UserError(f"the tokenizer has no token for the word {empty!r}, and no unknown token.")
        return [of_word or [unknown] for of_word in tokens]

    @staticmethod
    def _pieces(words: list[list[int]], room: int) -> Iterator[tuple[int, list[list[int]]]]:
        """Yield (index of the first word, the words) of each piece: one per sentence, more if it is too long."""
        start = used = 0
        words = [word[:room] for word in words]  # of a word longer than the input, only the first sub-tokens are kept
        for i, word in enumerate(words):
            if used + len(word) > room:
                yield start, words[start:i]
                start, used = i, 0
            used += len(word)
        yield start, words[start:]

    def collator(self, tokenizer: PreTrainedTokenizerFast) -> Collator:
        from transformers import DataCollatorForTokenClassification

        return DataCollatorForTokenClassification(tokenizer)

    def decode(self, logits: np.ndarray, features: Dataset, examples: Dataset) -> list:
        tags = [[None] * len(words) for words in examples["tokens"][:]]
        best = logits.argmax(-1)
        for row, example, words in zip(best, features["example"][:], features["words"][:], strict=True):
            for position, word in enumerate(words):
                if word >= 0:
                    tags[example][word] = self.labels[row[position]]
        for row, sentence in enumerate(tags, 1):
            if None in sentence:
                raise UserError(
                    f"{self.name}: sentence {row} has {len(sentence) - sentence.count(None)} tags for "
                    f"{len(sentence)} words, so its prediction cannot be scored."
                )
        return tags

    def gold(self, examples: Dataset) -> list:
        return [[self.labels[i] for i in tags] for tags in examples["tags"][:]]

    def gold_values(self, examples: Dataset) -> list:
        return [self.labels[i] for tags in examples["tags"][:] for i in tags]

    def constant(self, examples: Dataset) -> list:
        gold = [tag for tags in self.gold(examples) for tag in tags]
        common = max(self.labels, key=gold.count)
        return [[common] * len(words) for words in examples["tokens"][:]]

    @property
    def dev_metrics(self) -> tuple[str, ...]:
        return "f1", "precision", "recall", "accuracy"

    def score(self, predictions: list[list[str]], examples: Dataset, language: str) -> dict[str, float]:
        from tasks.metrics import compute

        return compute("tagging", predictions=predictions, references=self.gold(examples))

    def lines(self, predictions: list[list[str]], examples: Dataset) -> list[str]:
        """The submission's lines: one tag per word, a blank line after each sentence."""
        return [line for tags in predictions for line in (*tags, "")]

    def read_lines(self, path: Path) -> list[tuple[int, list[str]]]:
        """Return the sentences, each with the number of its first line."""
        classes = (*self.labels, *self.other_tags)
        sentences, tags, start = [], [], 1
        for row, line in enumerate(read_stripped(path), 1):
            if line:
                tags.append(classes[class_number(line, classes, path, row)])
            else:
                sentences.append((start, tags))
                tags, start = [], row + 1
        return [*sentences, (start, tags)] if tags else sentences

    def compare(self, files: Submitted) -> Scorer:
        found, gold = files.read(self.read_lines)
        files.check_number(found, gold, "sentences")
        for row, ((line, tags), (_, answers)) in enumerate(zip(found, gold, strict=True), 1):
            if len(tags) != len(answers):
                raise UserError(
                    f"{files.predictions}: sentence {row}, from line {line}, has {len(tags)} tags, "
                    f"but {len(answers)} in {files.labels}."
                )
        return lambda: self.official_scores([tags for _, tags in found], [tags for _, tags in gold])

    def official_scores(self, predictions: list[list[str]], references: list[list[str]]) -> dict[str, float]:
        """Return the benchmark's scores of tags in files, 0-100."""
        return compute("tagging", predictions=predictions, references=references)


def check_words(words: list, tags: list, columns: tuple[str, ...], where: str) -> None:
    """Raise UserError if a sentence is not a list of words with one tag each."""
    for column, values in zip(columns, (words, tags), strict=True):
        if not isinstance(values, list):
            raise UserError(f"{where}, column {column!r}: {describe(values)}, expected a list.")
    if not words or len(words) != len(tags):
        raise UserError(
            f"{where}: {len(words)} in {columns[0]!r}, {len(tags)} in {columns[1]!r}; expected one tag per word."
        )
    if wrong := [word for word in words if not isinstance(word, str)]:
        raise UserError(f"{where}, column {columns[0]!r}: {describe(wrong[0])}, expected a word.")


# XTREME's script of May 2020 (docs/protocol.md)
TARGET = {"learning_rate": 2e-5, "num_train_epochs": 10, "per_device_train_batch_size": 32, "max_seq_length": 128}
# Hub configs with extra rows of an old or regional variety: the loader matched the name anywhere in the path
OLD_VARIETIES = {
    "udpos.Greek": "Ancient Greek",
    "udpos.Chinese": "Classical Chinese",
    "udpos.French": "Old French",
    "udpos.Russian": "Old Russian",
    "udpos.German": "Swiss German",
}


class UDPOS(Tagging):
    """Universal Dependencies part-of-speech tags, XTREME's selection.

    The Hub's rows have syntactic words where XTREME's own files have fused ones ("du" as one word), and mix old or
    regional varieties into five languages. Nothing is filtered; results.json notes it. XTREME-R's lt
    pl uk wo ro are not on the Hub in this form.
    """

    name = "udpos"
    title = "UD part-of-speech tags"
    train_rows = 21253
    labels = UPOS
    languages_in = "udpos"
    other_languages = "native"
    sources = (
        Source(
            "google/xtreme",
            "udpos.{language}",
            {"train": "train", "dev": "validation", "test": "test"},
            XTREME_REVISION,
            code=codes.ud_name,
            only=codes.XTREME["udpos"],
        ),
    )
    defaults = TARGET
    other_tags = ("_",)  # XTREME's tag of a fused form ("du") of two words

    def official_scores(self, predictions: list[list[str]], references: list[list[str]]) -> dict[str, float]:
        """Add the F1 of seqeval's version of 2020, which the benchmark's evaluate_test.py uses for UDPOS."""
        from tasks.metrics.tagging import f1_of_seqeval_0_0_12

        return super().official_scores(predictions, references) | {
            "whole_tag_f1": f1_of_seqeval_0_0_12(predictions, references)
        }

    def read(self, split: str, language: str, rows: Rows) -> Loaded:
        loaded = super().read(split, language, rows)
        for read in loaded.reads:
            if "revision" in read.record and (mixed := OLD_VARIETIES.get(read.record["config"])):
                read.note(f"the Hub's copy mixes in {mixed}; not comparable with XTREME's files")
        return loaded


_PREFIX = re.compile(r"([A-Za-z][A-Za-z-]+:).")  # of a word in XTREME's own files: en:Anna


class PANX(Tagging):
    """PAN-X, or WikiANN (Pan et al. 2017): persons, organisations, places; splits of Rahimi et al. 2019."""

    name = "panx"
    title = "PAN-X"
    train_rows = 20000
    labels = ("O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC")  # the order of the Hub's integers
    columns = ("tokens", "ner_tags")
    languages_in = "panx"
    other_languages = "native"
    sources = (
        Source(
            "google/xtreme",
            "PAN-X.{language}",
            {"train": "train", "dev": "validation", "test": "test"},
            XTREME_REVISION,
            only=codes.XTREME["panx"],
        ),
        # XTREME-R's az gu lt pa pl qu ro uk
        Source("unimelb-nlp/wikiann", "{language}", {"train": "train", "dev": "validation", "test": "test"}),
    )
    defaults = TARGET

    def examples(self, data: Dataset, language: str, where: str) -> Dataset:
        """Remove the prefix `xx:` that every token has in XTREME's own files, but not on the Hub."""
        data = super().examples(data, language, where)
        prefixes = tuple(dict.fromkeys((f"{language}:", f"{codes.tatoeba_code(language)}:")))
        prefixed = [all(token.startswith(prefixes) for token in tokens) for tokens in data["tokens"][:]]
        if not all(prefixed):
            if prefixed[0] or any(
                whole and len(tokens) > 1 for whole, tokens in zip(prefixed, data["tokens"][:], strict=True)
            ):
                row = prefixed.index(False)
                bare = next(token for token in data["tokens"][row] if not token.startswith(prefixes))
                raise UserError(
                    f"{where}, row {row + 1}, column 'tokens': {bare!r} lacks the prefix {prefixes[0]!r} that row "
                    f"{prefixed.index(True) + 1} has."
                )
            matches = [_PREFIX.match(token) for tokens in data["tokens"][:] for token in tokens]
            if all(matches) and len(others := {match[1] for match in matches if match}) == 1:
                raise UserError(
                    f"{where}, column 'tokens': every word begins with {others.pop()!r}; expected the prefix "
                    f"{prefixes[0]!r} or none. These are rows of another language."
                )
            return data  # a sentence of one word may begin like that by chance
        return data.map(
            lambda row: {"tokens": [token.partition(":")[2] for token in row["tokens"]]},
            desc=f"panx {language}: prefixes",
            new_fingerprint=fingerprint(self, data, prefixes),
        )
