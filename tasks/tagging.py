"""Token tagging: one tag a word, read off the word's first sub-token. No word is ever lost to truncation."""

from __future__ import annotations

from tasks import languages as codes
from tasks.base import XTREME_REVISION, Frame, Source, Task, check_labels, fingerprint, put
from tasks.errors import UserError

UPOS = ("ADJ", "ADP", "ADV", "AUX", "CCONJ", "DET", "INTJ", "NOUN", "NUM", "PART", "PRON", "PROPN", "PUNCT", "SCONJ",
        "SYM", "VERB", "X")  # the order of the Hub's integers


class Tagging(Task):
    """Columns after loading: tokens (list of words), tags (list of indices into `labels`)."""

    form = "tagging"
    auto_class = "AutoModelForTokenClassification"
    fields = (("tokens", "tags"),)
    metric = "f1"
    columns = ("tokens", "pos_tags")  # words, tags

    def examples(self, data, language, where):
        words, tags = self.columns
        for row, (w, t) in enumerate(zip(data[words][:], data[tags][:], strict=True), 1):
            if not w or len(w) != len(t):
                raise UserError(f"{where}, row {row}: {len(w)} in {words!r}, {len(t)} in {tags!r}; expected one tag a word.")
            if not all(isinstance(word, str) for word in w):
                raise UserError(f"{where}, row {row}, column {words!r}: {w!r}, expected words.")
            check_labels(t, self.labels, f"{where}, sentence {row}", tags)
        data = data.select_columns([words, tags])
        return data.rename_columns({old: new for old, new in ((words, "tokens"), (tags, "tags")) if old != new})

    def shuffle_labels(self, examples, rng):
        """All tags of all sentences in random order."""
        tags = examples["tags"][:]
        flat = iter(rng.permutation([tag for row in tags for tag in row]).tolist())
        return put(examples, tags=[[next(flat) for _ in row] for row in tags])

    def featurize(self, batch, indices, tokenizer, max_length, train):
        features = {"input_ids": [], "attention_mask": [], "example": [], "words": []}
        if train:
            features["labels"] = []
        frame = Frame.of(tokenizer, 1)
        encoded = tokenizer(batch["tokens"], is_split_into_words=True, add_special_tokens=False, verbose=False)
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
    def _by_word(encoding, words, tokenizer):
        """The tokens of each word. One of which nothing is left (control characters) is unknown, as XTREME has it (protocol 3.3)."""
        tokens = [[] for _ in words]
        for token, word in zip(encoding.ids, encoding.word_ids, strict=True):
            tokens[word].append(token)
        if all(tokens):
            return tokens
        unknown = tokenizer.mask_token_id if tokenizer.unk_token_id is None else tokenizer.unk_token_id  # byte-level: none is unknown
        if unknown is None:
            empty = words[tokens.index([])]
            raise UserError(f"the tokenizer makes no token of the word {empty!r}, and has no token for unknown words.")
        return [some or [unknown] for some in tokens]

    @staticmethod
    def _pieces(words, room):
        """Yields (index of its first word, its words): one piece for most sentences, several for one that is too long."""
        start = used = 0
        words = [word[:room] for word in words]  # one word longer than a whole input keeps its first sub-tokens
        for i, word in enumerate(words):
            if used + len(word) > room:
                yield start, words[start:i]
                start, used = i, 0
            used += len(word)
        yield start, words[start:]

    def collator(self, tokenizer):
        from transformers import DataCollatorForTokenClassification

        return DataCollatorForTokenClassification(tokenizer)

    def decode(self, logits, features, examples):
        tags = [[None] * len(words) for words in examples["tokens"]]
        best = logits.argmax(-1)
        for row, example, words in zip(best, features["example"], features["words"], strict=True):
            for position, word in enumerate(words):
                if word >= 0:
                    tags[example][word] = self.labels[row[position]]
        for row, sentence in enumerate(tags, 1):
            if None in sentence:
                raise UserError(f"{self.name}: sentence {row} got {len(sentence) - sentence.count(None)} tags for "
                                f"{len(sentence)} words; refusing to score a shortened prediction.")
        return tags

    def gold(self, examples):
        return [[self.labels[i] for i in check_labels(tags, self.labels, "tags")] for tags in examples["tags"]]

    def constant(self, examples):
        flat = [tag for tags in self.gold(examples) for tag in tags]
        common = max(self.labels, key=flat.count)
        return [[common] * len(words) for words in examples["tokens"]]

    def score(self, predictions, examples, language):
        from tasks.metrics import compute

        return compute("tagging", predictions=predictions, references=self.gold(examples))

    def lines(self, predictions, examples):
        """The submission's lines: one tag a word, a blank line between sentences."""
        return [line for tags in predictions for line in (*tags, "")]


# XTREME's script of May 2020 (protocol 3.2)
TARGET = {"learning_rate": 2e-5, "num_train_epochs": 10, "per_device_train_batch_size": 32, "max_seq_length": 128}
# whose Hub configs also hold rows of an old or regional variety: the loader matched the name anywhere in the path
OLD_VARIETIES = {"udpos.Greek": "Ancient Greek", "udpos.Chinese": "Classical Chinese", "udpos.French": "Old French",
                 "udpos.Russian": "Old Russian", "udpos.German": "Swiss German"}


class UDPOS(Tagging):
    """Universal Dependencies part-of-speech tags, XTREME's selection.

    The Hub's rows keep syntactic words where XTREME's own files keep fused ones ("du" as one word), and mix old or
    regional varieties into five languages; nothing is filtered, but results.json says so (docs/datasets). XTREME-R's
    lt pl uk wo ro are not on the Hub in this form.
    """

    name = "udpos"
    train_rows = 21253
    labels = UPOS
    languages_in = "udpos"
    other_languages = "native"
    sources = (Source("google/xtreme", "udpos.{language}", {"train": "train", "dev": "validation", "test": "test"}, XTREME_REVISION,
                      code=codes.ud_name, only=codes.XTREME["udpos"]),)
    defaults = TARGET

    def load(self, split, language, rows):
        data = super().load(split, language, rows)
        mixed = OLD_VARIETIES.get(rows.records[-1]["config"])
        if mixed and not rows.local:
            rows.note(f"the Hub's copy mixes in {mixed}; not comparable with XTREME's files")
        return data


def _panx_rows(data, language):
    """Drops the `xx:` before every token in XTREME's own files; the Hub's copies have none."""
    first = data[0]["tokens"][0] if data[0]["tokens"] else ""
    prefix = first.partition(":")[0] + ":"
    if prefix not in (f"{language}:", f"{codes.tatoeba_code(language)}:"):
        return data
    if not all(token.startswith(prefix) for token in data[0]["tokens"]):
        return data  # a word that happens to begin so
    for row, tokens in enumerate(data["tokens"], 1):
        odd = next((token for token in tokens if not token.startswith(prefix)), None)
        if odd is not None:
            raise UserError(f"panx {language}, row {row}, column 'tokens': {odd!r} lacks the prefix {prefix!r} that row 1 has.")
    return data.map(lambda row: {"tokens": [token[len(prefix):] for token in row["tokens"]]}, desc=f"panx {language}: prefixes",
                    new_fingerprint=fingerprint(PANX(), data, prefix))


class PANX(Tagging):
    """PAN-X, or WikiANN (Pan et al. 2017), in the balanced splits of Rahimi et al. 2019: persons, organisations, places."""

    name = "panx"
    train_rows = 20000
    labels = ("O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC")  # the order of the Hub's integers
    columns = ("tokens", "ner_tags")
    languages_in = "panx"
    other_languages = "native"
    sources = (
        Source("google/xtreme", "PAN-X.{language}", {"train": "train", "dev": "validation", "test": "test"}, XTREME_REVISION,
               shape=_panx_rows, only=codes.XTREME["panx"]),
        # XTREME-R's az gu lt pa pl qu ro uk
        Source("unimelb-nlp/wikiann", "{language}", {"train": "train", "dev": "validation", "test": "test"}, shape=_panx_rows),
    )
    defaults = TARGET
