import os
from pathlib import Path

import pytest

from tasks import languages as lang
from tasks.errors import UserError

SPELL = [lang.tatoeba_code, lang.ud_name, lang.tydiqa_name]
BENCHMARK_CODES = {code for lists in lang.BENCHMARKS.values() for codes in lists.values() for code in codes}
KNOWN = sorted(BENCHMARK_CODES | {lang.normalize(code) for code in lang.TATOEBA_112})


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
@pytest.mark.parametrize("code", [*KNOWN, "qaa", "qtz"])
def test_round_trip(spell, code):
    assert lang.normalize(spell(code)) == code


def test_no_spelling_means_two_languages():
    spellings = [word for code in KNOWN for word in {code, *(spell(code) for spell in SPELL)}]
    assert len(spellings) == len(set(spellings))


@pytest.mark.parametrize(
    "spelt, ours",
    [
        ("aze", "az"), ("kur", "ku"), ("nob", "nb"), ("nno", "nn"), ("arq", "arq"), ("arz", "arz"), ("zsm", "ms"),
        ("cmn", "zh"), ("wuu", "wuu"), ("pes", "fa"), ("swh", "sw"), ("lvs", "lv"), ("est", "et"), ("sqi", "sq"),
        ("German", "de"), ("swahili", "sw"), ("zho", "zh"), ("max", "max"), ("ber", "ber"), ("qab", "qab"),
    ],
)  # fmt: skip
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
    with pytest.raises(UserError, match="Did you mean 'German'"):
        lang.normalize("Germann")
    with pytest.raises(UserError, match="Did you mean 'pawsx'.*tatoeba"):
        lang.languages("pawx")
    with pytest.raises(UserError, match="xtreme-r"):
        lang.languages("xnli", "xtreme2")
    with pytest.raises(UserError, match="not in xtreme-r"):
        lang.languages("bucc", "xtreme-r")


def test_every_tatoeba_folder_is_known():
    data = Path(os.environ.get("XSTILTS_DATA", Path(__file__).parents[2] / "shared" / "data"))
    folder = data / "mteb__tatoeba-bitext-mining"
    if not folder.is_dir():
        pytest.skip(f"no real rows at {folder} (set XSTILTS_DATA)")
    codes = {pair.name.removesuffix("-eng") for pair in folder.iterdir()}
    assert len(codes) >= 92 and codes <= set(lang.TATOEBA_112)
