"""The project's only list of languages: which a task has, and what each source calls them.

Our code for a language is its ISO 639-1 code if it has one (`de`), else its ISO 639-3 code (`ceb`). A second script or
a regional variant has a subtag, as in BCP 47: `zh` is Chinese in simplified characters, `zh-Hant` in traditional ones;
`sr` is Serbian in Cyrillic, `sr-Latn` in Latin letters; `pt-BR` is Brazilian Portuguese.

Sources write the same language as `deu` (Tatoeba), `German` (google/xtreme's udpos, Universal Dependencies), `german`
(TyDiQA's ids) or `deu_Latn` (FLORES, SIB-200, Belebele, NTREX). `normalize` converts any of them to our code;
`tatoeba_code`, `ud_name`, `flores_code` and `ntrex_code` convert our code to theirs. ISO 639's
private-use codes `qaa`..`qtz` are invented languages, and are the same everywhere.

Which languages a model was pretrained on: tasks/coverage.py.
"""

import re

from tasks.errors import UserError, did_you_mean

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
_NAME = {code: name for code, _, name in _ROWS}  # more below

_NOT_IN_TATOEBA = {"en", "gu", "ht", "my", "pa", "qu", "wo", "yo"}  # in the benchmarks, not in LASER's 112
# The other ISO 639-3 code of a macro-language, as some sources write it. `als` stays out: Albanian there, Alemannic
# in WikiANN.
_MACRO = {"zho": "zh", "fas": "fa", "swa": "sw", "msa": "ms", "lav": "lv", "arb": "ar"}

# FLORES-200 (NLLB Team 2022): our code, FLORES' code (the list of github.com/facebookresearch/flores,
# flores200/README.md, with `sat_Olck` for its `sat_Beng`, as in all data), the English name where the table above has
# none. FLORES names members of a macro-language (`azj`, `pbt`, `plt`); our code is that of the macro-language, as
# elsewhere (`az`, `ps`, `mg`), where only one member is there. The other members keep theirs: `azb`, `prs`, the spoken
# Arabics, `ak` and `tw`.
_FLORES_200 = """
ace-Arab/ace_Arab/Acehnese_(Arabic_script) ace/ace_Latn/Acehnese acm/acm_Arab/Mesopotamian_Arabic
acq/acq_Arab/Ta'izzi-Adeni_Arabic aeb/aeb_Arab/Tunisian_Arabic af/afr_Latn ajp/ajp_Arab/South_Levantine_Arabic
ak/aka_Latn/Akan sq/als_Latn am/amh_Ethi apc/apc_Arab/North_Levantine_Arabic ar/arb_Arab
ar-Latn/arb_Latn/Arabic_(Latin_script) ars/ars_Arab/Najdi_Arabic ary/ary_Arab/Moroccan_Arabic arz/arz_Arab
as/asm_Beng/Assamese ast/ast_Latn awa/awa_Deva ay/ayr_Latn/Aymara azb/azb_Arab/South_Azerbaijani az/azj_Latn
ba/bak_Cyrl/Bashkir bm/bam_Latn/Bambara ban/ban_Latn/Balinese be/bel_Cyrl bem/bem_Latn/Bemba bn/ben_Beng
bho/bho_Deva/Bhojpuri bjn-Arab/bjn_Arab/Banjar_(Arabic_script) bjn/bjn_Latn/Banjar bo/bod_Tibt/Tibetan bs/bos_Latn
bug/bug_Latn/Buginese bg/bul_Cyrl ca/cat_Latn ceb/ceb_Latn cs/ces_Latn cjk/cjk_Latn/Chokwe ckb/ckb_Arab/Central_Kurdish
crh/crh_Latn/Crimean_Tatar cy/cym_Latn da/dan_Latn de/deu_Latn dik/dik_Latn/Southwestern_Dinka dyu/dyu_Latn/Dyula
dz/dzo_Tibt/Dzongkha el/ell_Grek en/eng_Latn eo/epo_Latn et/est_Latn eu/eus_Latn ee/ewe_Latn/Ewe fo/fao_Latn
fj/fij_Latn/Fijian fi/fin_Latn fon/fon_Latn/Fon fr/fra_Latn fur/fur_Latn/Friulian fuv/fuv_Latn/Nigerian_Fulfulde
om/gaz_Latn/Oromo gd/gla_Latn ga/gle_Latn gl/glg_Latn gn/grn_Latn/Guarani gu/guj_Gujr ht/hat_Latn ha/hau_Latn/Hausa
he/heb_Hebr hi/hin_Deva hne/hne_Deva/Chhattisgarhi hr/hrv_Latn hu/hun_Latn hy/hye_Armn ig/ibo_Latn/Igbo
ilo/ilo_Latn/Ilocano id/ind_Latn is/isl_Latn it/ita_Latn jv/jav_Latn ja/jpn_Jpan kab/kab_Latn kac/kac_Latn/Jingpho
kam/kam_Latn/Kamba kn/kan_Knda/Kannada ks/kas_Arab/Kashmiri ks-Deva/kas_Deva/Kashmiri_(Devanagari) ka/kat_Geor
kk/kaz_Cyrl kbp/kbp_Latn/Kabiyè kea/kea_Latn/Kabuverdianu mn/khk_Cyrl km/khm_Khmr ki/kik_Latn/Kikuyu
rw/kin_Latn/Kinyarwanda ky/kir_Cyrl/Kyrgyz kmb/kmb_Latn/Kimbundu ku/kmr_Latn kr-Arab/knc_Arab/Kanuri_(Arabic_script)
kr/knc_Latn/Kanuri kg/kon_Latn/Kikongo ko/kor_Hang lo/lao_Laoo/Lao lij/lij_Latn/Ligurian li/lim_Latn/Limburgish
ln/lin_Latn/Lingala lt/lit_Latn lmo/lmo_Latn/Lombard ltg/ltg_Latn/Latgalian lb/ltz_Latn/Luxembourgish
lua/lua_Latn/Luba-Kasai lg/lug_Latn/Ganda luo/luo_Latn/Luo lus/lus_Latn/Mizo lv/lvs_Latn mag/mag_Deva/Magahi
mai/mai_Deva/Maithili ml/mal_Mlym mr/mar_Deva min-Arab/min_Arab/Minangkabau_(Arabic_script) min/min_Latn/Minangkabau
mk/mkd_Cyrl mt/mlt_Latn/Maltese mni/mni_Beng/Meitei mos/mos_Latn/Mossi mi/mri_Latn/Maori my/mya_Mymr nl/nld_Latn
nn/nno_Latn nb/nob_Latn ne/npi_Deva/Nepali nso/nso_Latn/Northern_Sotho nus/nus_Latn/Nuer ny/nya_Latn/Nyanja oc/oci_Latn
or/ory_Orya/Odia pag/pag_Latn/Pangasinan pa/pan_Guru pap/pap_Latn/Papiamento ps/pbt_Arab/Pashto fa/pes_Arab
mg/plt_Latn/Malagasy pl/pol_Latn pt/por_Latn prs/prs_Arab/Dari qu/quy_Latn ro/ron_Latn rn/run_Latn/Rundi ru/rus_Cyrl
sg/sag_Latn/Sango sa/san_Deva/Sanskrit sat/sat_Olck/Santali scn/scn_Latn/Sicilian shn/shn_Mymr/Shan si/sin_Sinh/Sinhala
sk/slk_Latn sl/slv_Latn sm/smo_Latn/Samoan sn/sna_Latn/Shona sd/snd_Arab/Sindhi so/som_Latn/Somali
st/sot_Latn/Southern_Sotho es/spa_Latn sc/srd_Latn/Sardinian sr/srp_Cyrl ss/ssw_Latn/Swati su/sun_Latn/Sundanese
sv/swe_Latn sw/swh_Latn szl/szl_Latn/Silesian ta/tam_Taml taq/taq_Latn/Tamasheq taq-Tfng/taq_Tfng/Tamasheq_(Tifinagh)
tt/tat_Cyrl te/tel_Telu tg/tgk_Cyrl/Tajik tl/tgl_Latn th/tha_Thai ti/tir_Ethi/Tigrinya tpi/tpi_Latn/Tok_Pisin
tn/tsn_Latn/Tswana ts/tso_Latn/Tsonga tk/tuk_Latn tum/tum_Latn/Tumbuka tr/tur_Latn tw/twi_Latn/Twi
tzm/tzm_Tfng/Central_Atlas_Tamazight ug/uig_Arab uk/ukr_Cyrl umb/umb_Latn/Umbundu ur/urd_Arab uz/uzn_Latn
vec/vec_Latn/Venetian vi/vie_Latn war/war_Latn wo/wol_Latn xh/xho_Latn yi/ydd_Hebr yo/yor_Latn yue/yue_Hant zh/zho_Hans
zh-Hant/zho_Hant/Traditional_Chinese ms/zsm_Latn zu/zul_Latn/Zulu
"""
# What SIB-200 and Belebele have besides: N'Ko, and five languages in Latin letters.
_BESIDE_FLORES = """
nqo/nqo_Nkoo/N'Ko bn-Latn/ben_Latn/Bengali_(Latin_script) hi-Latn/hin_Latn/Hindi_(Latin_script)
ne-Latn/npi_Latn/Nepali_(Latin_script) si-Latn/sin_Latn/Sinhala_(Latin_script) ur-Latn/urd_Latn/Urdu_(Latin_script)
"""
# NTREX-128 (Federmann et al. 2022): our code, the column in the Hub's copy where it is not FLORES' code, the English
# name. The columns `mon_Mong` and `orm_Ethi` are named for other scripts than they hold: Cyrillic and Latin.
_NTREX = """
az/aze_Latn fa/fas_Arab tl/fil_Latn lv/lav_Latn mg/mlg_Latn mn/mon_Mong ms/msa_Latn ne/nep_Deva om/orm_Ethi ps/pus_Arab
sq/sqi_Latn sw/swa_Latn uz/uzb_Latn dv/div_Thaa/Dhivehi fuc/fuc_Latn/Pulaar hmn/hmn_Latn/Hmong
mey/mey_Arab/Hassaniya_Arabic nd/nde_Latn/Northern_Ndebele shi/shi_Arab/Tashelhiyt
sr-Latn/srp_Latn/Serbian_(Latin_script) ty/tah_Latn/Tahitian to/ton_Latn/Tongan ve/ven_Latn/Venda
"""
# NTREX-128's files themselves (github.com/MicrosoftTranslator/NTREX) have variants that the Hub's copy leaves out.
_NTREX_VARIANTS = """
en-GB/eng-GB/English_(United_Kingdom) en-IN/eng-IN/English_(India) en-US/eng-US/English_(United_States)
es-MX/spa-MX/Spanish_(Mexico) fr-CA/fra-CA/French_(Canada) pt-BR/por-BR/Portuguese_(Brazil) zh/zho-CN zh-Hant/zho-TW
"""


def _columns(table: str) -> list[tuple[str, str, str]]:
    """The rows of a table: our code, the source's, the English name or ""."""
    rows = ((*row.split("/"), "") for row in table.split())
    return [(ours, theirs, name) for ours, theirs, name, *_ in rows]


_FLORES_CODE = {ours: theirs for ours, theirs, _ in _columns(_FLORES_200 + _BESIDE_FLORES)}
_NTREX_CODE = _FLORES_CODE | {ours: theirs for ours, theirs, _ in _columns(_NTREX)}
_WIDER = _columns(_FLORES_200 + _BESIDE_FLORES + _NTREX + _NTREX_VARIANTS)
_NAME |= {ours: name for ours, _, name in _WIDER if name}

# Tasks of no benchmark: the languages as published, English first where it is one of them. NTREX and FLORES: those
# that are compared with English. NTREX' are the columns of mteb/NTREXBitextMining (mteb's task), Belebele's those of
# github.com/facebookresearch/belebele's README.
OTHERS = _split(
    {
        "ntrex": """
af am ar az ba be bem bn bo bs bg ca cs ckb cy da de dv dz el eu ee fo fa fj tl fi fr fuc ga gl gu ha he hi hmn hr hu
hy ig id is it ja kn ka kk km rw ky ku ko lo lv lt lb ml mr mey mk mg mt mn mi ms my nd ne nl nn nb nso ny om pa pl pt
prs ps ro ru shi si sk sl sm sn sd so es sq sr sr-Latn ss sw sv ty ta tt te tg th ti to tn tk tr ug uk ur uz ve vi wo
xh yo yue zh zh-Hant zu
""",
        "flores": " ".join(ours for ours, _, _ in _columns(_FLORES_200) if ours != "en"),
        "sib200": " ".join(["en", *(ours for ours, _, _ in _columns(_FLORES_200) if ours != "en"), "nqo"]),
        "belebele": """
en acm af sq am apc ar ar-Latn ars ary arz as az bm bn bn-Latn bo bg ca ceb cs ckb da de el et eu fi fr fuv om gn gu ht
ha he hi hi-Latn hr hu hy ig ilo id is it jv ja kac kn ka kk kea mn km rw ky ko lo ln lt lg luo lv ml mr mk mt mi my nl
nb ne ne-Latn nso ny or pa ps fa mg pl pt ro ru shn si-Latn si sk sl sn sd so st es sr ss su sv sw ta te tg tl th ti tn
ts tr uk ur ur-Latn uz vi war wo xh yo zh zh-Hant ms zu
""",
    }
)

TATOEBA_112 = tuple(sorted(three for code, three, _ in _ROWS if code not in _NOT_IN_TATOEBA))

_SPELLINGS = {
    # a bare three-letter code of FLORES (`asm`) means the script that has no subtag; `als` stays out, as above
    **{theirs[:3]: ours for ours, theirs, _ in _WIDER if "-" not in ours and not theirs.startswith("als")},
    **{theirs: ours for ours, theirs, _ in _WIDER},
    **_MACRO,
    **{name.lower(): code for code, name in _NAME.items()},
    **{name: code for code, name in _NAME.items()},
    **{three: code for code, three in _THREE.items()},
    **{code: code for code in _NAME},
}
_PRIVATE_USE = re.compile(r"q[a-t][a-z]")


def languages(task: str, benchmark: str = "xtreme") -> tuple[str, ...]:
    """Return our codes of the languages in which `task` is scored, in the benchmark's order.

    For a task of `OTHERS` they are the published ones. For retrieval and mining they are without English, the other
    side of every pair.
    Raise UserError if the benchmark ("xtreme" or "xtreme-r") or the task is unknown.
    """
    if benchmark not in BENCHMARKS:
        raise UserError(f"Benchmark {benchmark!r} is unknown. Use one of: {', '.join(BENCHMARKS)}.")
    tasks = BENCHMARKS[benchmark] | OTHERS
    if task not in tasks:
        raise UserError(
            f"Task {task!r} is not in {benchmark}.{did_you_mean(task, tasks, 3, 0.5)} Its tasks: "
            f"{', '.join(BENCHMARKS[benchmark])}."
        )
    return tasks[task]


def known() -> tuple[str, ...]:
    """Return our codes of all languages, without invented ones."""
    return tuple(_NAME)


def is_private_use(code: str) -> bool:
    """Whether a code is one of `qaa`..`qtz`, the private-use codes of ISO 639: our invented languages."""
    return _PRIVATE_USE.fullmatch(code) is not None


def normalize(code: str) -> str:
    """Return our code for a language spelt as any source spells it: `de`, `deu`, `German` and `german` all give `de`.

    Raise UserError, with the nearest spellings known, for anything else.
    """
    if is_private_use(code):
        return code
    if code not in _SPELLINGS:
        raise UserError(
            f"Language {code!r} is unknown.{did_you_mean(code, _SPELLINGS, 3, 0.5)} Give a two-letter code (de), a "
            "three-letter one (deu), one of FLORES (deu_Latn) or an English name (German); they are in "
            "tasks/languages.py."
        )
    return _SPELLINGS[code]


def tatoeba_code(code: str) -> str:
    """Return the three-letter code in Tatoeba's style (`pes` for `fa`); `TATOEBA_112` says which Tatoeba has.

    Accepts the same spellings as `normalize`.
    """
    ours = normalize(code)
    return _THREE.get(ours, ours)


def flores_code(code: str) -> str:
    """Return the code of FLORES-200, SIB-200 and Belebele, with its script (`deu_Latn`).

    A private-use code, and a language they do not have, gives our own code. Accepts the same spellings as `normalize`.
    """
    ours = normalize(code)
    return _FLORES_CODE.get(ours, ours)


def ntrex_code(code: str) -> str:
    """Return the name of NTREX' column in the Hub's copy (`fas_Arab`, where FLORES has `pes_Arab`).

    A private-use code, and a language it does not have, gives our own code. Accepts the same spellings as `normalize`.
    """
    ours = normalize(code)
    return _NTREX_CODE.get(ours, ours)


def ud_name(code: str) -> str:
    """Return the English name as Universal Dependencies and google/xtreme's udpos spell it (`German`).

    A private-use code gives itself. Accepts the same spellings as `normalize`.
    """
    ours = normalize(code)
    return _NAME.get(ours, ours)


def english_name(code: str) -> str:
    """Return the English name of a language in our code, "" for a code without one (an invented language)."""
    return _NAME.get(code, "").replace("_", " ")


def script(code: str) -> str:
    """Return the ISO 15924 code of the script that FLORES or NTREX writes a language in, "" if neither has it."""
    return (_FLORES_CODE.get(code) or _NTREX_CODE.get(code, "")).partition("_")[2]


def between_sentences(code: str) -> str:
    """Return what stands between two sentences: "" in Chinese and Japanese, else a blank.

    Thai, Lao, Khmer and Burmese write no blank between words, but one between sentences.
    """
    return "" if code == "wuu" or script(code) in {"Hans", "Hant", "Jpan"} else " "  # Wu is in neither list of scripts
