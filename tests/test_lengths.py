"""Texts of any length with any tokenizer: features have the requested length, and nothing is lost."""

import json

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from tasks import get_task
from tasks.errors import UserError
from tasks.span import overlap

LETTERS = list("abcdefghijklmnopqrstuvwxyz0123456789?.,:;!'()-")
BENGALI = "বাংলাদেশের স্বাধীনতা যুদ্ধ কত সালে শুরু হয়েছিল এবং"
LIGATURE = "\ufdfa"  # one character, which NFKC writes as 18
TEXTS = [
    "",
    "who was in the small boat ?",
    "why " * 100,
    "w" * 200,
    BENGALI,
    LIGATURE * 9,
    "\u200b\x07",
    "😀" * 20,
    " \n\u3000 a",
]
WORDS = [
    ["the", "bird", "sees"],
    ["\u200b", "w" * 300, *["word"] * 90, "\x07", "end"],
    ["", " "],
    [BENGALI.replace(" ", "")] * 9,
    [LIGATURE] * 3,
]


def wrap(backend, single, pair, special, **names):
    ids = [(token, backend.token_to_id(token)) for token in special]
    if single:
        backend.post_processor = processors.TemplateProcessing(single=single, pair=pair, special_tokens=ids)
    inputs = ["input_ids", "attention_mask", *(["token_type_ids"] if ":1" in pair or not pair else [])]
    return PreTrainedTokenizerFast(tokenizer_object=backend, model_input_names=inputs, **names)


def byte_level(prefix_space=False, unknown=True):
    """As RoBERTa, ModernBERT, EuroBERT: a character is one to four tokens."""
    special = ["<s>", "<pad>", "</s>", *(["<unk>"] if unknown else []), "<mask>"]
    vocabulary = {token: i for i, token in enumerate([*special, *sorted(pre_tokenizers.ByteLevel.alphabet())])}
    backend = Tokenizer(models.BPE(vocabulary, []))
    backend.pre_tokenizer, backend.decoder = (
        pre_tokenizers.ByteLevel(add_prefix_space=prefix_space),
        decoders.ByteLevel(),
    )
    names = {"unk_token": "<unk>"} if unknown else {}
    return wrap(
        backend,
        "<s> $A </s>",
        "<s> $A </s> </s> $B </s>",
        ["<s>", "</s>"],
        bos_token="<s>",
        eos_token="</s>",
        cls_token="<s>",
        sep_token="</s>",
        pad_token="<pad>",
        mask_token="<mask>",
        **names,
    )


def nfkc(special=True):
    """As XLM-R, mT5: pieces of a normalised text, which may be longer than the text."""
    arabic = sorted(set("".join(normalizers.NFKC().normalize_str(LIGATURE))) - {" "})
    pieces = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", "▁", *LETTERS, *arabic]
    backend = Tokenizer(models.Unigram([(piece, -float(i)) for i, piece in enumerate(pieces)], unk_id=3))
    backend.normalizer, backend.pre_tokenizer = normalizers.NFKC(), pre_tokenizers.Metaspace()
    names = {"pad_token": "<pad>", "unk_token": "<unk>"}
    if not special:  # as T5: none before the text
        return wrap(backend, "$A </s>", "$A </s> $B </s>", ["</s>"], eos_token="</s>", **names)
    return wrap(
        backend,
        "<s> $A </s>",
        "<s> $A </s> </s> $B </s>",
        ["<s>", "</s>"],
        bos_token="<s>",
        eos_token="</s>",
        cls_token="<s>",
        sep_token="</s>",
        mask_token="<mask>",
        **names,
    )


def word_piece():
    """As BERT: token types, and characters that are taken out."""
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *LETTERS, *(f"##{letter}" for letter in LETTERS)]
    backend = Tokenizer(
        models.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]", max_input_chars_per_word=400)
    )
    backend.normalizer, backend.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    return wrap(
        backend,
        "[CLS]:0 $A:0 [SEP]:0",
        "[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        ["[CLS]", "[SEP]"],
        cls_token="[CLS]",
        sep_token="[SEP]",
        pad_token="[PAD]",
        unk_token="[UNK]",
        mask_token="[MASK]",
    )


def bare():
    """No special tokens at all around a text."""
    pieces = ["[PAD]", "[UNK]", *LETTERS, *(f"##{letter}" for letter in LETTERS)]
    backend = Tokenizer(
        models.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]", max_input_chars_per_word=400)
    )
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return wrap(backend, "", "", [], pad_token="[PAD]", unk_token="[UNK]")


TOKENIZERS = {
    "byte-level": byte_level,
    "byte-level, prefix space": lambda: byte_level(True),
    "byte-level, no unknown token": lambda: byte_level(False, False),
    "NFKC": nfkc,
    "NFKC, as T5": lambda: nfkc(False),
    "WordPiece": word_piece,
    "bare": bare,
}
every_tokenizer = pytest.mark.parametrize("kind", TOKENIZERS)


def lengths(tokenizer):
    """The shortest that `featurizing.max_length` lets through, the next ones, and some more."""
    least = tokenizer.num_special_tokens_to_add(pair=True) + 2
    return [least, least + 1, least + 2, least + 4, least + 7, 24, 64, 129, 384]


def spans(length=384):
    contexts = [text for text in TEXTS if text.strip()]
    contexts = (
        [*contexts, f"{BENGALI} {LIGATURE} a b c. " * 5]
        if length > 64
        else [text[:30] for text in contexts if text[:30].strip()]
    )
    rows = [(question, context) for question in TEXTS for context in contexts]
    answers = [
        {"text": [context.split()[-1]], "answer_start": [context.rindex(context.split()[-1])]} for _, context in rows
    ]
    return {
        "id": list(map(str, range(len(rows)))),
        "question": [q for q, _ in rows],
        "context": [c for _, c in rows],
        "answers": answers,
    }


@every_tokenizer
def test_windows_of_any_length(kind):
    tokenizer = TOKENIZERS[kind]()
    for length in lengths(tokenizer):
        rows = {key: values[:: 1 if length > 128 else 3] for key, values in spans(length).items()}
        numbers = list(range(len(rows["id"])))
        trained, plain = (
            get_task("squad").featurize(rows, numbers, tokenizer, length, train) for train in (True, False)
        )
        same = trained["input_ids"] == plain["input_ids"]  # pytest would take minutes to show how such lists differ
        assert same
        assert max(map(len, plain["input_ids"])) <= length
        assert list(dict.fromkeys(plain["example"])) == numbers
        seen = [set() for _ in rows["id"]]
        for example, offsets in zip(plain["example"], plain["offsets"], strict=True):
            seen[example].update(map(tuple, offsets))
        whole = tokenizer(rows["context"], add_special_tokens=False, return_offsets_mapping=True, verbose=False)[
            "offset_mapping"
        ]
        lost = [row for row, (found, offsets) in enumerate(zip(seen, whole, strict=True)) if found != set(offsets)]
        assert not lost, "a token of the context is in no window"
        for ids, (start, end) in zip(trained["input_ids"], trained["labels"], strict=True):
            assert 0 <= start <= end < len(ids)


@every_tokenizer
def test_windows_are_those_of_run_qa(kind):
    """At the task's own length: the tokenizer's own windows, 128 tokens of each in the next."""
    tokenizer = TOKENIZERS[kind]()
    batch = spans()
    length, special = 384, tokenizer.num_special_tokens_to_add(pair=True)
    ours = get_task("squad").featurize(batch, list(range(len(batch["id"]))), tokenizer, length, False)
    compared = 0
    for row, (question, context) in enumerate(zip(batch["question"], batch["context"], strict=True)):
        tokens = len(tokenizer(question.lstrip(), add_special_tokens=False)["input_ids"])
        if tokens > 64:
            continue
        assert overlap(length - special - tokens) == 128
        theirs = tokenizer(
            question.lstrip(),
            context,
            truncation="only_second",
            max_length=length,
            stride=128,
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
        )
        mine = [i for i, example in enumerate(ours["example"]) if example == row]
        differ = [key for key in tokenizer.model_input_names if [ours[key][i] for i in mine] != theirs[key]]
        assert not differ
        sequences = [theirs.sequence_ids(i) for i in range(len(mine))]
        places = [
            [list(pair) for pair, text in zip(offsets, ids, strict=True) if text == 1]
            for offsets, ids in zip(theirs["offset_mapping"], sequences, strict=True)
        ]
        same = [ours["offsets"][i] for i in mine] == places
        assert same
        assert [ours["first"][i] for i in mine if ours["offsets"][i]] == [
            ids.index(1) for ids in sequences if 1 in ids
        ]
        compared += len(mine)
    assert compared > 40


def test_windows_move_on_by_a_quarter():
    for size in range(1, 700):
        shared = overlap(size)
        assert 0 <= shared <= 128 and size - shared >= max(1, size / 4)
        assert shared == 128 or size < 172


@every_tokenizer
def test_tagging_of_any_length_keeps_every_word(kind):
    tokenizer = TOKENIZERS[kind]()
    batch = {"tokens": WORDS, "tags": [[i % 17 for i in range(len(words))] for words in WORDS]}
    if tokenizer.unk_token_id is None and tokenizer.mask_token_id is None:
        return
    for length in lengths(tokenizer):
        features = get_task("udpos").featurize(batch, list(range(len(WORDS))), tokenizer, length, True)
        assert max(map(len, features["input_ids"])) <= length
        found = [[] for _ in WORDS]
        for example, words, labels in zip(features["example"], features["words"], features["labels"], strict=True):
            found[example] += [word for word in words if word >= 0]
            assert labels == [batch["tags"][example][word] if word >= 0 else -100 for word in words]
        assert found == [list(range(len(words))) for words in WORDS]


def test_tagging_without_a_token_for_nothing_is_refused():
    tokenizer = byte_level(unknown=False)
    tokenizer.mask_token = None
    with pytest.raises(UserError, match="no token for the word ''"):
        get_task("udpos").featurize({"tokens": [["", "a"]], "tags": [[0, 0]]}, [0], tokenizer, 32, True)


@every_tokenizer
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_side_moves_no_position(kind, side):
    tokenizer, other = TOKENIZERS[kind](), TOKENIZERS[kind]()
    tokenizer.padding_side = side
    for task, batch in (
        ("squad", spans(64)),
        ("udpos", {"tokens": WORDS, "tags": [[0] * len(words) for words in WORDS]}),
    ):
        rows = list(range(len(next(iter(batch.values())))))
        for train in (True, False):
            same = get_task(task).featurize(batch, rows, tokenizer, 64, train) == get_task(task).featurize(
                batch, rows, other, 64, train
            )
            assert same


@every_tokenizer
def test_pairs_and_choices_of_any_length(kind):
    tokenizer = TOKENIZERS[kind]()
    for length in lengths(tokenizer):
        # several times as long as the length; the library makes all pairs of the pieces that it cuts off, thousands
        most = min(4 * length, 400) if length >= 24 else 10
        texts = [text[:most] for text in TEXTS[1:]]
        pairs = [(a, b) for a in texts for b in texts[::2]]
        found = get_task("xnli").featurize(
            {"text_a": [a for a, _ in pairs], "text_b": [b for _, b in pairs], "label": [0] * len(pairs)},
            list(range(len(pairs))),
            tokenizer,
            length,
            True,
        )
        assert len(found["input_ids"]) == len(pairs) and max(map(len, found["input_ids"])) <= length
        batch = {
            "prompt": texts,
            "choices": [["a", "b c", "w" * most, text] for text in texts],
            "label": [0] * len(texts),
        }
        found = get_task("hellaswag").featurize(batch, list(range(len(texts))), tokenizer, length, True)
        assert all(len(row) == 4 and max(map(len, row)) <= length for row in found["input_ids"])
        if length >= 24:  # what stands at the gap is kept on both sides
            bare = len(tokenizer("b c", add_special_tokens=False)["input_ids"])
            closing = min(1, tokenizer.num_special_tokens_to_add(pair=True))
            ends = [row[1][-bare - closing :] for row in found["input_ids"]]
            assert len(set(map(tuple, ends))) == 1


# ---- through the scripts --------------------------------------------------------------------------------------------


@pytest.fixture
def byte_model(tmp_path, tiny_model):
    """The tiny model under a byte-level tokenizer."""
    import shutil

    folder = tmp_path / "byte"
    shutil.copytree(tiny_model, folder, ignore=shutil.ignore_patterns("tokenizer*", "special*"))
    tokenizer = byte_level()
    tokenizer.model_max_length = 128
    tokenizer.save_pretrained(folder)
    return folder


def tydiqa_rows(root, **questions):
    def row(name, question):
        return {
            "id": name,
            "title": "t",
            "context": "the small boat was early " * 40,
            "question": question,
            "answers": {"text": ["early"], "answer_start": [19]},
        }

    folder = root / "google-research-datasets__tydiqa/secondary_task"
    folder.mkdir(parents=True)
    dev = [
        row("english-v", "when was the boat ?"),
        *(row(f"{language}-1", question) for language, question in questions.items()),
    ]
    for split, rows in (
        ("train", [row(f"english-{i}", "when was the boat here ?") for i in range(8)]),
        ("validation", dev),
    ):
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    return root


def test_questions_of_several_tokens_a_character_are_scored(byte_model, tmp_path, cli):
    """Such a question once ended the run after its training, in a Rust panic."""
    out = tmp_path / "out"
    done = cli(
        "run_target.py",
        "--task",
        "tydiqa",
        "--model_name_or_path",
        byte_model,
        "--data_root",
        tydiqa_rows(tmp_path / "rows", bengali=BENGALI),
        "--max_seq_length",
        100,
        "--max_steps",
        1,
        "--per_device_train_batch_size",
        4,
        "--output_dir",
        out,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads((out / "results.json").read_text())["n"] == {"en": 1, "bn": 1}


def test_features_of_every_language_come_before_training(byte_model, tmp_path, cli, monkeypatch):
    """What the tokenizer cannot do ends a run before its first step, with language and row; nothing is featurised
    after it."""
    from tasks import span
    from xstilts.train import runner

    featurize = span.Span.featurize

    class PanicException(BaseException):
        """As pyo3's: no Exception."""

    def panics(self, batch, indices, tokenizer, max_length, train):
        if any("সালে" in question for question in batch["question"]):
            raise PanicException("stride must be less than max_len")
        return featurize(self, batch, indices, tokenizer, max_length, train)

    monkeypatch.setattr(runner, "train", lambda *a: pytest.fail("trained first"))
    monkeypatch.setattr(span.Span, "featurize", panics)  # at a length of which the cache holds no features
    done = cli(
        "run_target.py",
        "--task",
        "tydiqa",
        "--model_name_or_path",
        byte_model,
        "--data_root",
        tydiqa_rows(tmp_path / "rows", bengali=BENGALI),
        "--max_seq_length",
        99,
        "--output_dir",
        tmp_path / "out",
    )
    assert done.returncode == 2 and "tydiqa bn, row 1" in done.stderr and "stride must be less" in done.stderr
    assert "Traceback" not in done.stderr


def test_features_are_made_once_a_language(byte_model, tmp_path, cli, monkeypatch):
    from xstilts.train import featurizing

    seen, featurize = [], featurizing.featurize
    monkeypatch.setattr(featurizing, "featurize", lambda *a: seen.append(a[-1]) or featurize(*a))
    rows = tydiqa_rows(tmp_path / "rows", bengali=BENGALI, finnish="missä ?")
    done = cli(
        "run_target.py",
        "--task",
        "tydiqa",
        "--model_name_or_path",
        byte_model,
        "--data_root",
        rows,
        "--max_seq_length",
        100,
        "--max_steps",
        1,
        "--per_device_train_batch_size",
        4,
        "--output_dir",
        tmp_path / "out",
    )
    assert done.returncode == 0, done.stderr
    assert seen == ["tydiqa train", "tydiqa dev", "tydiqa en", "tydiqa bn", "tydiqa fi"]
