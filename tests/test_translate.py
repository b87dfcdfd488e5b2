"""Translating train rows: spans keep their place, losses are counted, a stopped command continues.

The model is a real seq2seq checkpoint (BART) whose weights were set by hand so that it writes, word by word, what a
dictionary says: what goes in and comes out is known exactly. No model of NLLB's class was run.
"""

import json
import shutil

import pytest
from datasets import load_dataset

from tasks import get_task
from tasks.errors import UserError
from tasks.rows import Rows
from xstilts import marked_text, seq2seq, translate
from xstilts.run.endings import command

SPECIAL = ["<s>", "<pad>", "</s>", "<unk>"]
POSITIONS = 40


def word_translator(folder, dictionary: dict[str, str], tokenizer=None):
    """Writes a BART whose decoder at step t copies the encoder's token t, through the dictionary.

    Words and positions are one-hot parts of every vector; the one cross-attention looks up the position and hands the
    word's translation on, which outweighs all else.
    """
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BartConfig, BartForConditionalGeneration, PreTrainedTokenizerFast

    words = SPECIAL + sorted({*dictionary, *dictionary.values()})
    if tokenizer is None:
        backend = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
        backend.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation("isolated")]
        )
        backend.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 2)])
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_object=backend,
            bos_token="<s>",
            pad_token="<pad>",
            eos_token="</s>",
            unk_token="<unk>",
            model_max_length=POSITIONS - 4,
        )
    n, width = len(words), len(words) + POSITIONS
    config = BartConfig(
        vocab_size=n,
        d_model=width,
        encoder_layers=0,
        decoder_layers=1,
        encoder_attention_heads=1,
        decoder_attention_heads=1,
        encoder_ffn_dim=4,
        decoder_ffn_dim=4,
        max_position_embeddings=POSITIONS - 2,
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=2,
        decoder_start_token_id=0,
        forced_eos_token_id=None,
    )
    model = BartForConditionalGeneration(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.zero_()
        model.model.shared.weight[:, :n] = torch.eye(n)
        for side in (model.model.encoder, model.model.decoder):
            side.embed_positions.weight[:, n:] = torch.eye(POSITIONS)
        (layer,) = model.model.decoder.layers
        attention = layer.encoder_attn
        attention.q_proj.weight[n:, n:] = 30 * torch.eye(POSITIONS)
        attention.k_proj.weight[n:, n:] = torch.eye(POSITIONS)
        for word in words:
            attention.v_proj.weight[words.index(dictionary.get(word, word)), words.index(word)] = 1
        attention.out_proj.weight[:n, :n] = 20 * torch.eye(n)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


ENGLISH = (
    "the cat sat in a house . Anna went to Ulm , she saw 3 dogs where did who it rained [ ] { } < > ? unknown".split()
)
GERMAN = (
    "die Katze sass in einem Haus . Anna ging nach Ulm , sie sah 3 Hunde wo hat wer es regnete [ ] { } < > ? <unk>"
).split()


@pytest.fixture(scope="module")
def model(once):
    return str(
        once("word_translator", lambda folder: word_translator(folder, dict(zip(ENGLISH, GERMAN, strict=True))))
    )


@pytest.fixture(scope="module")
def back(once):
    return str(
        once(
            "word_translator_back",
            lambda folder: word_translator(folder, dict(zip(GERMAN[:-1], ENGLISH[:-1], strict=True))),
        )
    )


def question(number, context, answer, asked="where did Anna sat ?"):
    start = context.index(answer)
    return {
        "id": f"q{number}",
        "title": "t",
        "context": context,
        "question": asked,
        "answers": {"text": [answer], "answer_start": [start]},
    }


QUESTIONS = [
    question(0, "it rained. Anna went to Ulm. the cat sat in a house.", "Ulm"),
    question(1, "it rained. Anna went to Ulm. the cat sat in a house.", "a house"),
    question(2, "Anna saw unknown, she saw 3 dogs.", "unknown"),  # nothing comes back between the marks
    question(3, "Anna [saw] 3 dogs.", "3 dogs"),  # other marks
    question(4, "Anna [saw] {a} <3> dogs.", "3"),  # no marks are left
    question(5, "it rained. Anna went to Ulm.", "rained. Anna"),  # over a sentence's end
]


@pytest.fixture
def data(tmp_path):
    """A folder with English train rows of SQuAD and XNLI."""

    def write(folder, rows):
        (tmp_path / "rows" / folder).mkdir(parents=True)
        (tmp_path / "rows" / folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    write("rajpurkar__squad/plain_text", QUESTIONS)
    write(
        "facebook__xnli/en",
        [{"premise": "the cat sat.", "hypothesis": "it rained.", "label": i % 3} for i in range(5)],
    )
    return tmp_path / "rows"


@pytest.fixture
def run(data, tmp_path, monkeypatch, capsys):
    """`run("--task", "xnli", ...)` -> exit code and what it said; output below tmp_path/mt."""

    def start(*arguments):
        argv = ["translate", "--data_root", data, "--output_root", tmp_path / "mt", "--batch_size", 2, *arguments]
        monkeypatch.setattr("sys.argv", list(map(str, argv)))
        try:
            command(translate.main)
        except SystemExit as leave:
            return leave.code, capsys.readouterr().err
        return 0, capsys.readouterr().err

    return start


def test_answers_are_found_again_and_lost_ones_left_out_and_counted(run, data, tmp_path, model):
    code, said = run("--model", model, "--task", "squad", "--languages", "de")
    assert code == 0, said
    path = tmp_path / "mt/juletxara__xquad_xtreme/de/translate_train.parquet"
    rows = {row["id"]: row for row in load_dataset("parquet", data_files=str(path), split="train")}
    assert list(rows) == ["q0", "q1", "q3", "q5"]
    assert rows["q0"]["context"] == "es regnete . Anna ging nach Ulm . die Katze sass in einem Haus ."
    assert [row["answers"]["text"][0] for row in rows.values()] == ["Ulm", "einem Haus", "3 Hunde", "regnete . Anna"]
    for row in rows.values():
        (text,), (start,) = row["answers"]["text"], row["answers"]["answer_start"]
        assert row["context"][start : start + len(text)] == text
    assert rows["q3"]["context"] == "Anna [ sah ] 3 Hunde ." and rows["q0"]["question"] == "wo hat Anna sass ?"
    note = json.loads(path.with_name("translate_train.translation.json").read_text())
    assert (note["model"], note["rows"], note["lost"], note["stopped"], note["english_rows"]) == (model, 4, 2, 0, 6)
    # "first", "order" and "used_as" make no other rows: a translation that was begun without them goes on
    assert set(note["source"][0]) == {"id", "config", "split", "sha256", "rows"}
    assert note["source"][0]["id"] == "rajpurkar/squad" and len(note["source"][0]["sha256"]) == 64
    assert sorted(p.name for p in path.parent.iterdir()) == [
        "translate_train.parquet",
        "translate_train.translation.json",
    ]
    reader = Rows(data, translations=tmp_path / "mt")
    assert get_task("squad").load("train", "de", reader)["id"][:] == list(rows)
    assert reader.records[-1]["translated_by"] == model


def test_a_model_without_a_tokenizer_is_refused(run, model, tmp_path):
    """transformers would make an empty one, and translate unknown words."""
    bare = shutil.copytree(model, tmp_path / "bare", ignore=shutil.ignore_patterns("tokenizer*"))
    code, said = run("--model", bare, "--task", "squad", "--languages", "de")
    assert code == 2 and f"{bare}: it has no tokenizer" in said and not list(tmp_path.glob("mt/**/*.parquet"))


def test_every_row_of_pairs_comes_through_in_order(run, data, tmp_path, model):
    assert run("--model", model, "--task", "xnli", "--languages", "de", "sw", "--num_beams", 2)[0] == 0
    examples = get_task("xnli").load("train", "sw", Rows(data, translations=tmp_path / "mt"))
    assert examples["label"][:] == [0, 1, 2, 0, 1] and set(examples["text_a"]) == {"die Katze sass ."}


def test_a_sentence_that_the_model_takes_only_in_part_is_counted(run, data, tmp_path, model):
    """There is no blank to cut it at; 200 tokens are more than the model takes."""
    rows = [{"premise": "?" * 200, "hypothesis": text, "label": 0} for text in ("it rained.", "did it ?")]
    (data / "facebook__xnli/en/train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    code, said = run("--model", model, "--task", "xnli", "--languages", "de")
    assert code == 0, said
    (note,) = (tmp_path / "mt").rglob("*.translation.json")
    assert json.loads(note.read_text())["shortened"] == 1  # equal sentences are one


def test_there_and_back(run, data, tmp_path, model, back):
    assert run("--model", model, "--back_model", back, "--task", "squad", "--roundtrip", "de")[0] == 0
    rows = Rows(data, translations=tmp_path / "mt").roundtrip()
    examples = get_task("squad").load("train", "en", rows)
    assert examples["id"][:] == ["q0", "q1", "q3", "q5"]
    assert examples["context"][0] == "it rained . Anna went to Ulm . the cat sat in a house ."
    assert examples["answers"][1] == {"text": ["a house"], "answer_start": [46]}
    assert (
        rows.records[-1]["config"] == "plain_text.roundtrip"
        and rows.records[-1]["translated_by"] == f"{model} + {back}"
    )


def test_a_way_back_that_does_not_load_is_named_and_not_called_model(run, model, tiny_model):
    code, said = run("--model", model, "--back_model", tiny_model, "--task", "xnli", "--roundtrip", "de")
    assert code != 0 and f"{tiny_model}: " in said and f"--model {tiny_model}" not in said


def test_stopped_command_continues_and_finished_one_does_nothing(run, tmp_path, model, monkeypatch):
    monkeypatch.setattr(translate, "ROWS", 2)
    calls, plain = [], translate.translate

    def stopping(task, some, *more):
        calls.append(len(some))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return plain(task, some, *more)

    whole = tmp_path / "mt/juletxara__xquad_xtreme/de/translate_train.parquet"
    arguments = ("--model", model, "--task", "squad", "--languages", "de")
    monkeypatch.setattr(translate, "translate", stopping)
    assert run(*arguments)[0] != 0 and not whole.exists()
    assert "begun, with other settings (num_beams: 1 then, 3 now)" in run(*arguments, "--num_beams", 3)[1]
    assert run(*arguments)[0] == 0 and calls == [2, 2, 2, 2]  # one part of three was there
    stopped = whole.read_bytes()
    assert run(*arguments)[0] == 0 and len(calls) == 4
    assert "made, or begun, with other settings" in run(*arguments, "--prefix", "x")[1]
    whole.unlink()
    assert run(*arguments)[0] == 0 and whole.read_bytes() == stopped


def test_long_sentences_are_cut_at_blanks():
    assert marked_text.fitting("aa bb cc dd", lambda text: len(text) < 6) == ["aa bb", "cc dd"]
    assert marked_text.fitting("aaaaaaaa", lambda text: False) == ["aaaaaaaa"]
    long, answer = "one two three four five six. The answer is here.", (33, 39)
    assert [text for text, _ in marked_text.sentences(long, answer, lambda text: len(text) < 22)] == [
        "one two three",
        "four five six.",
        "The [answer] is here.",
    ]
    assert marked_text.sentences(long, answer, lambda text: len(text) < 15) is None


@pytest.mark.parametrize(
    "text, found",
    [
        ("x [y] z", ("x ", "y", " z")),
        ("x[ y ]z", ("x ", "y", " z")),
        ("[y]", ("", "y", "")),
        ("x[y].", ("x", "y", ".")),
        ("x y z", None),
        ("x [y z", None),
        ("] y [", None),
        ("[y] [z]", None),
        ("x [ ] z", None),
    ],
)
def test_marks_must_come_back_whole(text, found):
    assert marked_text.unmarked(text, ("[", "]")) == found


def test_language_codes_of_a_model():
    from transformers import NllbTokenizer

    # "en" and "de" are ordinary pieces, as in the real vocabulary
    pieces = [*SPECIAL, "▁a", "e", "n", "d", "en", "de"]
    tokenizer = NllbTokenizer(vocab={w: i for i, w in enumerate(pieces)}, merges=[("e", "n"), ("d", "e")])
    assert seq2seq.language_options(tokenizer, "en", "de", ["en=eng_Latn", "de=deu_Latn"]) == (
        "eng_Latn",
        {"forced_bos_token_id": tokenizer.convert_tokens_to_ids("deu_Latn")},
    )
    for given in ([], ["de=de"], ["de=deu"], ["de=<unk>"], ["de=</s>"]):
        with pytest.raises(UserError, match="the model does not know de as '.*'; give its code, e.g. de=deu_Latn"):
            seq2seq.language_options(tokenizer, "en", "de", ["en=eng_Latn", *given])
    with pytest.raises(UserError, match="the model does not know en as 'en'"):
        seq2seq.language_options(tokenizer, "en", "de", ["de=deu_Latn"])
    with pytest.raises(UserError, match="expected ours=theirs"):
        seq2seq.language_options(tokenizer, "en", "de", ["eng_Latn"])
    with pytest.raises(UserError, match="no languages to choose from"):
        seq2seq.language_options(object(), "en", "de", ["en=eng_Latn"])


@pytest.mark.parametrize("name, theirs", [("MBart50Tokenizer", "de_DE"), ("MBartTokenizer", "de_DE")])
def test_language_codes_of_mbart(name, theirs, tmp_path):
    import transformers

    getattr(transformers, name)().save_pretrained(tmp_path)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    _, options = seq2seq.language_options(tokenizer, "en", "de", ["en=en_XX", f"de={theirs}"])
    assert tokenizer.decode(options["forced_bos_token_id"]) == theirs


def test_a_model_with_its_own_map_of_languages():
    """M2M100's `get_lang_id` takes the code, and raises KeyError for one that it does not know."""

    class Tokenizer:
        src_lang = "en"
        get_lang_id = {"en": 7, "de": 8}.__getitem__

    assert seq2seq.language_options(Tokenizer(), "en", "de", []) == ("en", {"forced_bos_token_id": 8})
    with pytest.raises(UserError, match="the model does not know sw as 'sw'"):
        seq2seq.language_options(Tokenizer(), "en", "sw", [])


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "--model is missing"),
        (
            ["--model", "nowhere/at/all", "--task", "xnli", "--languages", "de"],
            "--model nowhere/at/all: no such folder",
        ),
        (["--model", "MODEL", "--task", "xnli"], "Give --languages to translate into, or --roundtrip"),
        (["--model", "MODEL", "--task", "mnli", "--languages", "de"], "--task mnli: its train rows are English alone"),
        (["--model", "MODEL", "--task", "xnli", "--languages", "en"], "name another language"),
        (
            ["--model", "MODEL", "--task", "xnli", "--languages", "de", "--language_codes", "de=deu_Latn"],
            "no languages to choose from",
        ),
        (["--model", "MODEL", "--task", "pawsx", "--languages", "de"], "No rows at"),
        (["--model", "MODEL", "--task", "xnli", "--langages", "de"], "Did you mean --languages?"),
        (
            ["--model", "MODEL", "--task", "xnli", "--languages", "de", "--prefix", "{x}: "],
            "only {source} and {target} may stand in braces",
        ),
        (
            ["--model", "MODEL", "--task", "xnli", "--languages", "de", "--prefix", "{"],
            "only {source} and {target} may stand in braces",
        ),
        (
            ["--model", "MODEL", "--task", "xnli", "--languages", "de", "--max_samples", "0"],
            "--max_samples 0: give 1 at least",
        ),
    ],
)
def test_impossible_request_is_one_line(run, model, tmp_path, arguments, message):
    code, said = run(*(model if word == "MODEL" else word for word in arguments))
    assert code == 2 and message in said and not list(tmp_path.glob("mt/**/*.parquet"))


def test_rows_that_somebody_else_translated_are_not_written_over(run, tmp_path, model):
    note = tmp_path / "mt/facebook__xnli/de/train.translation.json"
    note.parent.mkdir(parents=True)
    note.write_text('{"model": "people"}')
    note.with_name("train.jsonl").write_text("{}")
    code, said = run("--model", model, "--task", "xnli", "--languages", "de")
    assert code == 2 and "was made, or begun, with other settings (model: 'people' then" in said
    assert note.read_text() == '{"model": "people"}' and len(list(note.parent.iterdir())) == 2


@pytest.mark.parametrize(
    "file, told",
    [
        ("settings.json", "nobody knows how"),
        ("000000000.json", "nobody knows how"),
        ("000000000.parquet", "a part that cannot be read"),
    ],
)
def test_a_damaged_part_is_one_line(file, told, run, tmp_path, model, monkeypatch):
    monkeypatch.setattr(translate, "ROWS", 2)
    plain, calls = translate.translate, []

    def stopping(*arguments):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return plain(*arguments)

    arguments = ("--model", model, "--task", "xnli", "--languages", "de")
    monkeypatch.setattr(translate, "translate", stopping)
    assert run(*arguments)[0] != 0
    (part,) = tmp_path.glob(f"mt/**/{file}")
    part.write_text("[")
    code, said = run(*arguments)
    assert code == 2 and told in said.splitlines()[-1]
