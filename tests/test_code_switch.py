"""Code-switching: which words are replaced, what is counted, and the formats of a lexicon."""

import gzip
import json
import random

import pytest
from datasets import Dataset

from tasks.errors import UserError
from xstilts.train.code_switch import Counts, read_lexicons, sides, switch, switch_columns

GERMAN = {"the": ["die"], "cat": ["Katze"], "don't": ["nicht"], "house": ["Haus", "Gebäude"]}
FRENCH = {"the": ["le"], "cat": ["chat"], "house": ["maison"]}


@pytest.fixture
def folder(tmp_path):
    """A lexicon of each layout, among files that are none."""
    (tmp_path / "en-de.txt").write_text(
        "the\tdie\nthe\tder\nThe\tdie\n\nphone Telefon\nname\tName\nbanana\tBanane\n", encoding="utf-8"
    )
    (tmp_path / "en-fr").mkdir()
    with gzip.open(tmp_path / "en-fr/train.jsonl.gz", "wt", encoding="utf-8") as stream:
        stream.writelines(
            json.dumps({"source": s, "target": t}) + "\n" for s, t in (("the", "le"), ("of course", "bien sûr"))
        )
    (tmp_path / "README.md").write_text("two lexicons")
    return tmp_path


# ---- text -----------------------------------------------------------------------------------------------------------


def test_every_word_of_the_lexicon_is_replaced_and_nothing_else():
    text, counts = switch("The cat, 42 of them: I don't see THE dog!", [GERMAN], 1.0, random.Random(0))
    assert text == "die Katze, 42 of them: I nicht see die dog!"
    assert counts == Counts(words=9, drawn=9, switched=4)
    assert str(counts) == "4 of 9 words switched (44.4 %), 5 more drawn but not in the lexicon"


def test_one_of_several_translations_is_drawn():
    rng = random.Random(0)
    assert {switch("house", [GERMAN], 1.0, rng)[0] for _ in range(40)} == {"Haus", "Gebäude"}


def test_multilingual_draws_a_language_for_each_word():
    rng, seen = random.Random(0), set()
    for _ in range(60):
        seen.add(switch("the cat", [GERMAN, FRENCH], 1.0, rng)[0])
    assert seen == {"die Katze", "die chat", "le Katze", "le chat"}


def test_the_real_rate_is_the_probability_times_what_the_lexicon_has():
    text = "the bird " * 3000
    _, counts = switch(text, [GERMAN], 0.4, random.Random(1))
    assert counts.words == 6000 and abs(counts.drawn / 6000 - 0.4) < 0.03
    assert abs(counts.switched / 6000 - 0.2) < 0.03


def test_text_without_words_stays():
    assert switch("12 + 30 = ?", [GERMAN], 1.0, random.Random(0)) == ("12 + 30 = ?", Counts())
    assert switch("", [GERMAN], 1.0, random.Random(0))[0] == ""


def test_treebank_tokens_are_switched_as_published():
    """The first translation of a token, whatever it is made of; the text put together again; blanks around it stay."""
    pytest.importorskip("nltk", reason="requirements.txt has it")
    lexicon = {
        "the": ["die", "der"],
        "n't": ["nicht"],
        "house": ["Haus", "Gebäude"],
        "42": ["zweiundvierzig"],
        "!": ["!!"],
    }
    text, counts = switch(
        "  The house,  42 of them:\nI don't see THE dog!\n", [lexicon], 1.0, random.Random(0), treebank=True
    )
    assert text == "  die Haus, zweiundvierzig of them: I do nicht see die dog!!\n"
    assert counts == Counts(words=14, drawn=14, switched=6)
    for text in ("", " \n"):
        assert switch(text, [lexicon], 1.0, random.Random(0), treebank=True) == (text, Counts())
    text = 'He said: "It cannot (really) be in New York."'
    assert switch(text, [lexicon], 0.0, random.Random(0), treebank=True)[0] == text
    rows = Dataset.from_dict({"text_a": ["the house"] * 20})
    assert set(switch_columns(rows, {"text_a": [lexicon]}, 1.0, 0, treebank=True)[0]["text_a"]) == {"die Haus"}
    assert len(set(switch_columns(rows, {"text_a": [lexicon]}, 1.0, 0)[0]["text_a"])) == 4


def test_treebank_lexicons_have_tokens(tmp_path):
    (tmp_path / "en-de.txt").write_text("n't\tnicht\n1990\t1990\nof course\tja\n.\t.\nthe\tdie\n", encoding="utf-8")
    assert list(read_lexicons(str(tmp_path))[0]["de"]) == ["n't", "the"]
    assert list(read_lexicons(str(tmp_path), treebank=True)[0]["de"]) == ["n't", "1990", ".", "the"]


# ---- rows -----------------------------------------------------------------------------------------------------------


def rows(n=30):
    return Dataset.from_dict(
        {"text_a": ["the cat in the house"] * n, "text_b": ["the cat"] * n, "label": list(range(n))}
    )


def test_rows_of_any_task_are_switched_by_column_and_the_rest_stays():
    done, counts = switch_columns(rows(), {"text_a": [GERMAN]}, 0.5, seed=3)
    assert done.column_names == ["text_a", "text_b", "label"]
    assert done["text_b"][:] == ["the cat"] * 30 and done["label"][:] == list(range(30))
    assert len(set(done["text_a"])) > 5
    assert counts["text_a"].words == 150 and 0 < counts["text_a"].switched <= counts["text_a"].drawn < 150
    replaced = sum(word not in "the cat in the house".split() for text in done["text_a"] for word in text.split())
    assert replaced == counts["text_a"].switched


def test_the_seed_decides_and_a_row_does_not_depend_on_those_after_it():
    both = {"text_a": [GERMAN], "text_b": [FRENCH]}
    once, twice, other = (switch_columns(rows(), both, 0.5, seed)[0] for seed in (3, 3, 4))
    assert once.to_dict() == twice.to_dict() != other.to_dict()
    assert switch_columns(rows(7), both, 0.5, 3)[0].to_dict() == once.select(range(7)).to_dict()


def test_rows_are_switched_again_when_the_lexicon_changes():
    assert switch_columns(rows(2), {"text_b": [GERMAN]}, 1.0, 0)[0]["text_b"][0] == "die Katze"
    assert switch_columns(rows(2), {"text_b": [FRENCH]}, 1.0, 0)[0]["text_b"][0] == "le chat"


# ---- lexicons -------------------------------------------------------------------------------------------------------


def test_both_layouts_are_read(folder):
    lexicons, records = read_lexicons(str(folder))
    assert lexicons == {
        "fr": {"the": ["le"]},
        "de": {"the": ["die", "der"], "phone": ["Telefon"], "name": ["Name"], "banana": ["Banane"]},
    }
    assert {r["config"]: r["rows"] for r in records} == {"en-de": 6, "en-fr": 2}
    assert all(len(r["sha256"]) == 64 and r["id"] == folder.name for r in records)


def test_a_byte_order_mark_is_no_part_of_the_first_word(tmp_path):
    (tmp_path / "en-de.txt").write_text("the\tdie\ncat Katze\n", encoding="utf-8-sig")
    assert read_lexicons(str(tmp_path))[0] == {"de": {"the": ["die"], "cat": ["Katze"]}}


def test_a_language_with_a_subtag_has_a_lexicon(tmp_path):
    (tmp_path / "en-pt-BR.txt").write_text("the\to\n")
    assert read_lexicons(str(tmp_path))[0] == {"pt-BR": {"the": ["o"]}}


def test_identities_are_skipped_if_asked(folder):
    assert "name" not in read_lexicons(str(folder), ["de"], skip_identities=True)[0]["de"]


def test_languages_are_chosen_by_any_of_their_codes(folder):
    assert list(read_lexicons(str(folder), ["deu"])[0]) == ["de"]


@pytest.mark.parametrize(
    "make, languages, message",
    [
        (lambda f: None, ["es"], "--switch_languages es: .* has no en-es; it has de fr"),
        (
            lambda f: f.joinpath("en-de.txt").write_text("of course\tja\nname\tName\n"),
            ["de"],
            "en-de has no entry that can be used .* 2 rows",
        ),
        (lambda f: f.joinpath("en-de.txt").write_text("\n"), ["de"], "en-de has no entry that can be used"),
        (
            lambda f: f.joinpath("en-de.txt").write_text("alone\n"),
            ["de"],
            "en-de.txt, line 1: expected `source TAB target`, found 'alone'",
        ),
        (lambda f: f.joinpath("en-de.txt").write_bytes(b"the\tf\xfcr\n"), ["de"], "en-de.txt: not valid UTF-8"),
        (lambda f: f.joinpath("en-fr/train.jsonl.gz").rename(f / "en-fr/test.jsonl.gz"), ["fr"], "No rows at"),
    ],
)
def test_a_lexicon_that_cannot_be_used_is_refused(folder, make, languages, message):
    make(folder)
    with pytest.raises(UserError, match=message):
        read_lexicons(str(folder), languages, skip_identities=True)


def test_two_lexicons_of_a_language_are_refused(tmp_path):
    for name in ("en-de.txt", "en-deu.txt"):
        (tmp_path / name).write_text("the\tdie\n")
    with pytest.raises(UserError, match=r"en-de.txt and en-deu.txt are both lexicons of de"):
        read_lexicons(str(tmp_path))


def test_a_folder_without_lexicons_is_refused(tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        read_lexicons(str(tmp_path / "none"))
    with pytest.raises(UserError, match="no lexicon in it. Expected en-de.txt"):
        read_lexicons(str(tmp_path))


def test_sides():
    two = {"de": GERMAN, "fr": FRENCH}
    assert sides("multilingual", two) == {"query": [GERMAN, FRENCH], "passage": [GERMAN, FRENCH]}
    assert sides("bilingual", two) == {"query": [GERMAN], "passage": [FRENCH]}
    assert sides("bilingual", {"de": GERMAN}) == {"query": [GERMAN], "passage": [GERMAN]}
    assert sides("multilingual", two, passage=False) == {"query": [GERMAN, FRENCH]}
    with pytest.raises(UserError, match="bilingual has one language a side, and the lexicons have 3"):
        sides("bilingual", two | {"es": {}})


def test_real_lexicons(real_data):
    lexicons, records = read_lexicons(
        str(real_data / "bilingual-lexicons__cosda-ml"), ["de", "zh"], skip_identities=True
    )
    assert {"die", "der", "das"} <= set(lexicons["de"]["the"])
    assert [r["rows"] for r in records] == [10000, 10000]
    text, counts = switch("The house and the street.", [lexicons["de"]], 1.0, random.Random(0))
    assert (
        counts.switched == counts.words == 5 and text.endswith(".") and not {"the", "and"} & set(text.lower().split())
    )


def test_the_world_has_lexicons_of_its_own(tiny_world):
    lexicons, _ = read_lexicons(str(tiny_world / "bilingual-lexicons__world"))
    assert sorted(lexicons) == ["qaa", "qab"]
    _, counts = switch("the teacher and the doctor", [lexicons["qaa"]], 1.0, random.Random(0))
    assert counts.switched >= 2
