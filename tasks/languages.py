"""The project's only list of languages: which a task has, and what each source calls them.

Our code for a language is its ISO 639-1 code where it has one (`de`), else its ISO 639-3 code (`ceb`). Sources write
the same language as `deu` (Tatoeba), `German` (google/xtreme's udpos, Universal Dependencies) or `german` (TyDiQA's
ids): `normalize` takes any of them, `tatoeba_code`, `ud_name` and `tydiqa_name` go the other way. ISO 639's
private-use codes `qaa`..`qtz` stand for invented languages and are written alike everywhere.
"""

import difflib
import re
from collections.abc import Iterable

from tasks.errors import UserError

# XTREME (Hu et al. 2020) and XTREME-R (Ruder et al. 2021): languages and their order as in `evaluate.py` of
# github.com/google-research/xtreme at 838c13b. There LAReQA has an empty list; its eleven languages are XQuAD-R's.
_XNLI = "ar bg de el en es fr hi ru sw th tr ur vi zh"
_UDPOS = "af ar bg de el en es et eu fa fi fr he hi hu id it ja kk ko mr nl pt ru ta te th tl tr ur vi yo zh"
_PANX = (
    "ar he vi id jv ms tl eu ml ta te af nl en de el bn hi mr ur fa fr it pt es bg ru ja ka ko th sw yo my zh kk tr "
    "et fi hu"
)
_TATOEBA = " ".join(code for code in _PANX.split() if code not in {"en", "ms", "my", "yo"})
_XQUAD = "en es de el ru tr ar vi th zh hi"
_MLQA = "en es de ar hi vi zh"
_TYDIQA = "en ar bn fi id ko ru sw te"


def _split(lists: dict[str, str]) -> dict[str, tuple[str, ...]]:
    return {task: tuple(codes.split()) for task, codes in lists.items()}


XTREME = _split(
    {
        "xnli": _XNLI,
        "pawsx": "de en es fr ja ko zh",
        "udpos": _UDPOS,
        "panx": _PANX,
        "xquad": _XQUAD,
        "mlqa": _MLQA,
        "tydiqa": _TYDIQA,
        "bucc": "de fr ru zh",
        "tatoeba": _TATOEBA,
    }
)

XTREME_R = _split(
    {
        "xnli": _XNLI,
        "xcopa": "et ht id it qu sw ta th tr vi zh",
        "udpos": _UDPOS + " lt pl uk wo ro",
        "panx": _PANX + " qu pl uk az lt pa gu ro",
        "xquad": _XQUAD + " ro",
        "mlqa": _MLQA,
        "tydiqa": _TYDIQA,
        "tatoeba": _TATOEBA + " az lt pl uk ro",
        "mewslix": "ar de en es fa ja pl ro ta tr uk",
        "lareqa": "ar de el en es hi ru th tr vi zh",
    }
)

BENCHMARKS = {"xtreme": XTREME, "xtreme-r": XTREME_R}

# Every language of LASER's Tatoeba test set (v1, 112 languages) and of the two benchmarks: our code, the three-letter
# code as in Tatoeba's file names, the English name as Universal Dependencies spells names. Where ISO 639-3 tells a
# macro-language from its members, the three-letter code is LASER's (`pes`, `swh`, `cmn`, `zsm`, but `aze`, `sqi`).
_TABLE = """
af/afr/Afrikaans am/amh/Amharic ang/ang/Old_English ar/ara/Arabic arq/arq/Algerian_Arabic arz/arz/Egyptian_Arabic
ast/ast/Asturian awa/awa/Awadhi az/aze/Azerbaijani be/bel/Belarusian bn/ben/Bengali ber/ber/Berber bs/bos/Bosnian
br/bre/Breton bg/bul/Bulgarian ca/cat/Catalan cbk/cbk/Chavacano ceb/ceb/Cebuano cs/ces/Czech ch/cha/Chamorro
zh/cmn/Chinese kw/cor/Cornish csb/csb/Kashubian cy/cym/Welsh da/dan/Danish de/deu/German dsb/dsb/Lower_Sorbian
dtp/dtp/Central_Dusun el/ell/Greek en/eng/English eo/epo/Esperanto et/est/Estonian eu/eus/Basque fo/fao/Faroese
fi/fin/Finnish fr/fra/French fy/fry/Western_Frisian gd/gla/Scottish_Gaelic ga/gle/Irish gl/glg/Galician
gsw/gsw/Swiss_German gu/guj/Gujarati ht/hat/Haitian_Creole he/heb/Hebrew hi/hin/Hindi hr/hrv/Croatian
hsb/hsb/Upper_Sorbian hu/hun/Hungarian hy/hye/Armenian io/ido/Ido ie/ile/Interlingue ia/ina/Interlingua
id/ind/Indonesian is/isl/Icelandic it/ita/Italian jv/jav/Javanese ja/jpn/Japanese kab/kab/Kabyle ka/kat/Georgian
kk/kaz/Kazakh km/khm/Khmer ko/kor/Korean ku/kur/Kurdish kzj/kzj/Coastal_Kadazan la/lat/Latin
lfn/lfn/Lingua_Franca_Nova lt/lit/Lithuanian lv/lvs/Latvian ml/mal/Malayalam mr/mar/Marathi
max/max/North_Moluccan_Malay mhr/mhr/Eastern_Mari mk/mkd/Macedonian mn/mon/Mongolian my/mya/Burmese nds/nds/Low_Saxon
nl/nld/Dutch nn/nno/Norwegian_Nynorsk nb/nob/Norwegian_Bokmaal nov/nov/Novial oc/oci/Occitan orv/orv/Old_East_Slavic
pa/pan/Punjabi pam/pam/Kapampangan fa/pes/Persian pms/pms/Piedmontese pl/pol/Polish pt/por/Portuguese qu/que/Quechua
ro/ron/Romanian ru/rus/Russian sk/slk/Slovak sl/slv/Slovenian es/spa/Spanish sq/sqi/Albanian sr/srp/Serbian
sv/swe/Swedish swg/swg/Swabian sw/swh/Swahili ta/tam/Tamil tt/tat/Tatar te/tel/Telugu tl/tgl/Tagalog th/tha/Thai
tk/tuk/Turkmen tr/tur/Turkish tzl/tzl/Talossan ug/uig/Uyghur uk/ukr/Ukrainian ur/urd/Urdu uz/uzb/Uzbek
vi/vie/Vietnamese war/war/Waray wo/wol/Wolof wuu/wuu/Wu_Chinese xh/xho/Xhosa yi/yid/Yiddish yo/yor/Yoruba
yue/yue/Cantonese ms/zsm/Malay
"""
_ROWS = [tuple(row.split("/")) for row in _TABLE.split()]
_THREE = {code: three for code, three, _ in _ROWS}
_NAME = {code: name for code, _, name in _ROWS}

_NOT_IN_TATOEBA = {"en", "gu", "ht", "my", "pa", "qu", "wo", "yo"}  # in the benchmarks, not in LASER's 112
# The other ISO 639-3 code of a macro-language, as some sources write it. `als` stays out: Albanian there, Alemannic
# in WikiANN.
_MACRO = {"zho": "zh", "fas": "fa", "swa": "sw", "msa": "ms", "lav": "lv", "arb": "ar"}

TATOEBA_112 = tuple(sorted(three for code, three, _ in _ROWS if code not in _NOT_IN_TATOEBA))

_SPELLINGS = {
    **_MACRO,
    **{name.lower(): code for code, name in _NAME.items()},
    **{name: code for code, name in _NAME.items()},
    **{three: code for code, three in _THREE.items()},
    **{code: code for code in _THREE},
}
_PRIVATE_USE = re.compile(r"q[a-t][a-z]")


def languages(task: str, benchmark: str = "xtreme") -> tuple[str, ...]:
    """Returns our codes of the languages `task` is scored in, in the benchmark's order.

    Tatoeba and BUCC: the foreign side only, English being the other.
    Raises UserError if the benchmark ("xtreme" or "xtreme-r") or the task is unknown.
    """
    if benchmark not in BENCHMARKS:
        raise UserError(f"Benchmark {benchmark!r} is unknown. Use one of: {', '.join(BENCHMARKS)}.")
    tasks = BENCHMARKS[benchmark]
    if task not in tasks:
        raise UserError(f"Task {task!r} is not in {benchmark}.{_nearest(task, tasks)} Its tasks: {', '.join(tasks)}.")
    return tasks[task]


def is_private_use(code: str) -> bool:
    """True for `qaa`..`qtz`, which ISO 639 leaves to private use: our codes of invented languages."""
    return _PRIVATE_USE.fullmatch(code) is not None


def normalize(code: str) -> str:
    """Returns our code for a language spelt as any source spells it: `de`, `deu`, `German` and `german` all give `de`.

    Raises UserError, with the nearest spellings known, for anything else.
    """
    if is_private_use(code):
        return code
    if code not in _SPELLINGS:
        raise UserError(
            f"Language {code!r} is unknown.{_nearest(code, _SPELLINGS)} Give a two-letter code (de), a three-letter "
            "one (deu) or an English name (German); they stand in tasks/languages.py."
        )
    return _SPELLINGS[code]


def tatoeba_code(code: str) -> str:
    """Returns the three-letter code in Tatoeba's style (`pes` for `fa`); `TATOEBA_112` says which Tatoeba has.

    Takes and refuses what `normalize` does.
    """
    ours = normalize(code)
    return _THREE.get(ours, ours)


def ud_name(code: str) -> str:
    """Returns the English name as Universal Dependencies and google/xtreme's udpos spell it (`German`).

    A private-use code gives itself. Takes and refuses what `normalize` does.
    """
    ours = normalize(code)
    return _NAME.get(ours, ours)


def tydiqa_name(code: str) -> str:
    """Returns the name that begins TyDiQA's ids (`swahili`).

    A private-use code gives itself. Takes and refuses what `normalize` does.
    """
    return ud_name(code).lower()


def _nearest(word: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(word, list(known), n=3, cutoff=0.5)
    return f" Did you mean {' or '.join(repr(name) for name in near)}?" if near else ""
