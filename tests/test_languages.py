import os
from pathlib import Path

import pytest

from tasks import languages as lang
from tasks.coverage import COVERAGE, covered
from tasks.errors import UserError

SPELL = [lang.tatoeba_code, lang.ud_name, lang.flores_code, lang.ntrex_code]
DATA = Path(os.environ.get("XSTILTS_DATA", Path(__file__).parents[2] / "shared" / "data"))


def test_counts_are_the_benchmarks():
    counts = {task: len(codes) for task, codes in lang.XTREME.items()}
    assert counts == dict(xnli=15, pawsx=7, udpos=33, panx=40, xquad=11, mlqa=7, tydiqa=9, bucc=4, tatoeba=36)
    assert len({code for codes in lang.XTREME.values() for code in codes}) == 40
    counts = {task: len(codes) for task, codes in lang.XTREME_R.items()}
    assert counts == dict(
        xnli=15, xcopa=11, udpos=38, panx=48, xquad=12, mlqa=7, tydiqa=9, tatoeba=41, mewslix=11, lareqa=11
    )
    assert len({code for codes in lang.XTREME_R.values() for code in codes}) == 50


def test_no_language_is_listed_twice_and_all_are_known():
    for lists in lang.BENCHMARKS.values():
        for codes in lists.values():
            assert len(set(codes)) == len(codes)
            assert all(len(code) == 2 and lang.normalize(code) == code for code in codes)


def test_tatoeba_is_panx_without_four():
    assert set(lang.languages("panx")) - set(lang.languages("tatoeba")) == {"en", "ms", "my", "yo"}


@pytest.mark.parametrize("spell", SPELL)
@pytest.mark.parametrize("code", [*lang.known(), "qaa", "qtz"])
def test_round_trip(spell, code):
    assert lang.normalize(spell(code)) == code


def test_no_spelling_means_two_languages():
    spellings = [word for code in lang.known() for word in {code, *(spell(code) for spell in SPELL)}]
    assert len(spellings) == len(set(spellings))


@pytest.mark.parametrize(
    "spelt, ours",
    [
        ("aze", "az"),
        ("kur", "ku"),
        ("nob", "nb"),
        ("nno", "nn"),
        ("arq", "arq"),
        ("arz", "arz"),
        ("zsm", "ms"),
        ("cmn", "zh"),
        ("wuu", "wuu"),
        ("pes", "fa"),
        ("swh", "sw"),
        ("lvs", "lv"),
        ("est", "et"),
        ("sqi", "sq"),
        ("German", "de"),
        ("swahili", "sw"),
        ("zho", "zh"),
        ("max", "max"),
        ("ber", "ber"),
        ("qab", "qab"),
    ],
)
def test_macro_languages_and_names(spelt, ours):
    assert lang.normalize(spelt) == ours


def test_tatoeba_112():
    assert len(lang.TATOEBA_112) == len(set(lang.TATOEBA_112)) == 112
    assert {lang.tatoeba_code(code) for code in lang.languages("tatoeba", "xtreme-r")} <= set(lang.TATOEBA_112)
    assert "eng" not in lang.TATOEBA_112
    assert lang.tatoeba_code("my") == "mya" and "mya" not in lang.TATOEBA_112


@pytest.mark.parametrize("private", ["qaa", "qmz", "qtz"])
def test_private_use_codes_are_the_same_everywhere(private):
    assert {spell(private) for spell in [lang.normalize, *SPELL]} == {private}


@pytest.mark.parametrize("bad", ["", "xx", "qua", "qzz", "DE", "Germann", "zh-CN", "no"])
@pytest.mark.parametrize("function", [lang.normalize, *SPELL])
def test_unknown_language_is_refused(function, bad):
    with pytest.raises(UserError, match="is unknown"):
        function(bad)


def test_errors_say_what_was_meant():
    with pytest.raises(UserError, match="Did you mean German"):
        lang.normalize("Germann")
    with pytest.raises(UserError, match="Did you mean pawsx.*tatoeba"):
        lang.languages("pawx")
    with pytest.raises(UserError, match="xtreme-r"):
        lang.languages("xnli", "xtreme2")
    with pytest.raises(UserError, match="not in xtreme-r"):
        lang.languages("bucc", "xtreme-r")


def test_every_tatoeba_folder_is_known():
    folder = DATA / "mteb__tatoeba-bitext-mining"
    if not folder.is_dir():
        pytest.skip(f"no real rows at {folder} (set XSTILTS_DATA)")
    codes = {pair.name.removesuffix("-eng") for pair in folder.iterdir()}
    assert len(codes) >= 92 and codes <= set(lang.TATOEBA_112)


# ---- the wider data sets --------------------------------------------------------------------------------------------


def test_counts_are_those_published():
    counts = {task: len(set(lang.languages(task))) for task in lang.OTHERS}
    # NTREX and FLORES: English is the other side
    assert counts == {"ntrex": 120, "flores": 203, "sib200": 205, "belebele": 122}
    assert all(len(codes) == len(set(codes)) for codes in lang.OTHERS.values())
    assert {task for task, codes in lang.OTHERS.items() if codes[0] == "en"} == {"sib200", "belebele"}
    assert set(lang.OTHERS["flores"]) < set(lang.OTHERS["sib200"])


def test_a_task_of_no_benchmark_has_the_same_languages_in_both():
    assert all(lang.languages(task, "xtreme") == lang.languages(task, "xtreme-r") for task in lang.OTHERS)
    assert not set(lang.OTHERS) & {task for tasks in lang.BENCHMARKS.values() for task in tasks}


def test_a_language_has_one_code_in_every_source():
    sources = [
        ("zh", "zho_Hans cmn zho zho-CN Chinese"),
        ("zh-Hant", "zho_Hant zho-TW"),
        ("sr", "srp_Cyrl srp"),
        ("sr-Latn", "srp_Latn"),
        ("ku", "kmr_Latn kur"),
        ("tl", "fil_Latn tgl_Latn tgl"),
        ("az", "azj_Latn aze_Latn aze"),
        ("mn", "khk_Cyrl mon_Mong mon"),
        ("fa", "pes_Arab fas_Arab pes"),
        ("sw", "swh_Latn swa_Latn swh"),
        ("pt", "por_Latn por"),
        ("pt-BR", "por-BR"),
        ("sq", "als_Latn sqi_Latn sqi"),
        ("nb", "nob_Latn nob"),
        ("nn", "nno_Latn nno"),
        ("yue", "yue_Hant yue"),
        ("en", "eng_Latn"),
    ]
    for code, spellings in sources:
        assert {lang.normalize(spelling) for spelling in spellings.split()} == {code}
    apart = (
        "azb_Arab azj_Latn prs_Arab pes_Arab ckb_Arab kmr_Latn fuv_Latn fuc_Latn aka_Latn twi_Latn arb_Arab "
        "arb_Latn arz_Arab"
    )
    assert len({lang.normalize(spelling) for spelling in apart.split()}) == len(apart.split())
    with pytest.raises(UserError, match="is unknown"):
        lang.normalize("als")  # Albanian in ISO 639-3, Alemannic in WikiANN


@pytest.mark.parametrize(
    "folder, task, spell",
    [("mteb__NTREXBitextMining", "ntrex", lang.ntrex_code), ("Davlan__sib200", "sib200", lang.flores_code)],
)
def test_every_language_of_the_real_rows_is_known(folder, task, spell):
    import gzip
    import json

    if not (DATA / folder).is_dir():
        pytest.skip(f"no real rows at {DATA / folder} (set XSTILTS_DATA)")
    found = [path.name for path in (DATA / folder).iterdir()]
    if task == "ntrex":
        with gzip.open(DATA / folder / "default" / "test.jsonl.gz", "rt", encoding="utf-8") as file:
            found = list(json.loads(file.readline()))
    assert len(found) > 100 and [spell(code) for code in found] == found
    assert {lang.normalize(code) for code in found} <= {"en", *lang.languages(task)}


# ---- what a pretraining covers --------------------------------------------------------------------------------------


def test_lists_are_as_long_as_their_sources_say():
    assert len(COVERAGE["xlmr"]) == 100 - 1  # without Burmese in the Zawgyi font
    # without nine that are in no task
    assert (len(COVERAGE["mbert"]), len(COVERAGE["mbert_uncased"])) == (104 - 9, 102 - 9)
    assert COVERAGE["e5"] == COVERAGE["xlmr"]
    assert COVERAGE["xlmr"] - set(lang.known()) == {"ta-Latn", "te-Latn"}
    assert all(COVERAGE[name] <= set(lang.known()) for name in ("mbert", "mmbert"))


@pytest.mark.parametrize(
    "coverage, inside, outside",
    [
        (
            "xlmr",
            "xh zho_Hant pt-BR bn-Latn nb kmr_Latn swahili fil_Latn",
            "nn tk yo ckb_Arab zu arz yue qaa sr-Latn prs",
        ),
        ("mbert", "nn yo azb_Arab tha mon_Mong sr-Latn zho_Hant ceb", "xh am km ku ckb_Arab qab"),
        ("mbert_uncased", "nn yo", "th mn"),
        ("mmbert", "tk xh yue ckb_Arab kab zh-Hant nn", "prs_Arab fuc_Latn acq_Arab bn-Latn qaa"),
    ],
)
def test_covered(coverage, inside, outside):
    assert [code for code in inside.split() if not covered(code, coverage)] == []
    assert [code for code in outside.split() if covered(code, coverage)] == []


def test_an_unknown_list_or_language_is_refused():
    with pytest.raises(UserError, match="xlmr, e5, mbert"):
        covered("de", "xlm-r")
    with pytest.raises(UserError, match="unknown"):
        covered("klingon", "xlmr")


def test_no_blank_between_sentences_in_chinese_and_japanese_alone():
    without = {code for code in lang.known() if not lang.between_sentences(code)}
    assert without == {
        "zh",
        "zh-Hant",
        "yue",
        "wuu",
        "ja",
    }
