"""Which languages a model's pretraining covers, in the codes of tasks/languages.py.

A language is covered if the source names it. A second script or a member of a macro-language must be named itself
(`zh-Hant`, `bn-Latn`); a regional variant (`pt-BR`) is covered if its language is. A language that is not covered may
still be in the text: Serbian in Latin letters is not in XLM-R's list, but Croatian and Bosnian are.
"""

import re

from tasks import languages as codes
from tasks.errors import UserError

# XLM-R (Conneau et al. 2020, arXiv 1911.02116, Table 6 of the appendix; the list in fairseq's examples/xlmr/README.md
# is the same): CC-100's hundred, of which five are in Latin letters beside another script and one is Burmese in the
# Zawgyi font. Their `no` is taken for Bokmaal (Nynorsk is not named); `tl` is Filipino, `ku` Kurmanji.
_XLMR = """
af am ar as az be bg bn bn-Latn br bs ca cs cy da de el en eo es et eu fa fi fr fy ga gd gl gu ha he hi hi-Latn hr hu
hy id is it ja jv ka kk km kn ko ku ky la lo lt lv mg mk ml mn mr ms my nb ne nl om or pa pl ps pt ro ru sa sd si sk sl
so sq sr su sv sw ta ta-Latn te te-Latn th tl tr ug uk ur ur-Latn uz vi xh yi zh zh-Hant
"""
# mBERT (github.com/google-research/bert, multilingual.md, "List of Languages"): 102 Wikipedias, in the cased model
# 104. Serbo-Croatian's Wikipedia is mostly in Latin letters, and stands here for `sr-Latn`. Nine that no task here has
# are left out: Aragonese, Bavarian, Bishnupriya Manipuri, Chechen, Chuvash, Newar, Scots, Volapuek, Western Punjabi.
_MBERT = """
af ar ast az azb ba be bg bn br bs ca ceb cs cy da de el en es et eu fa fi fr fy ga gl gu he hi hr ht hu hy id io is it
ja jv ka kk kn ko ky la lb lmo lt lv mg min mk ml mr ms my nb nds ne nl nn oc pa pl pms pt ro ru scn sk sl sq sr
sr-Latn su sv sw ta te tg tl tr tt uk ur uz vi war yo zh zh-Hant
"""
# mmBERT (Marone et al. 2025, arXiv 2509.06888): 1,833 languages, named in statistics/language_counts.csv of
# github.com/JHU-CLSP/mmBERT (at 320317b; every language with a token in any of its mixtures, 1,723 of them in the last
# phase alone). These of ours it does not name. It tells no scripts apart; Chinese is one language there, in both.
_NOT_MMBERT = "acq ajp ak ber fuc ha mey prs"

_REGION = re.compile(r"-[A-Z]{2}")


def _mmbert() -> frozenset[str]:
    every = (code for code in codes.known() if "-" not in code)
    return frozenset(every) - frozenset(_NOT_MMBERT.split()) | {"zh-Hant"}


COVERAGE: dict[str, frozenset[str]] = {
    "xlmr": frozenset(_XLMR.split()),
    # multilingual-e5: "It supports 100 languages from xlm-roberta" (model cards of intfloat/multilingual-e5-*; the
    # small one starts from Multilingual-MiniLM-L12-H384, distilled from XLM-R). What it saw afterwards, in pairs, is
    # not counted.
    "e5": frozenset(_XLMR.split()),
    "mbert": frozenset([*_MBERT.split(), "th", "mn"]),
    "mbert_uncased": frozenset(_MBERT.split()),
    "mmbert": _mmbert(),
}


def check(coverage: str) -> None:
    """Raise UserError if there is no such list in `COVERAGE`."""
    if coverage not in COVERAGE:
        raise UserError(f"Coverage {coverage!r} is unknown. Use one of: {', '.join(COVERAGE)}.")


def covered(language: str, coverage: str) -> bool:
    """Whether a list of `COVERAGE` names a language, in any spelling that `languages.normalize` accepts.

    Raises:
        UserError: no such list, or no such language.
    """
    check(coverage)
    ours = codes.normalize(language)
    return ours in COVERAGE[coverage] or _REGION.sub("", ours) in COVERAGE[coverage]
