"""Exact match and token F1 against the best of several gold answers, after normalisation.

normalization="squad" is SQuAD v1.1's: lower case, no ASCII punctuation, no English articles, split at white space.
XTREME scores XQuAD and TyDiQA by it in every language. normalization="mlqa" is MLQA's, for its seven languages:
Unicode punctuation too, the articles of that language, Chinese characters one by one. normalization="language" is
ours: MLQA's in its seven languages, elsewhere Unicode punctuation and no articles; Japanese and Thai characters one by
one.

A reference without answers means that the question has none, as in SQuAD 2.0: the right prediction is then "". With
`no_answer_probabilities`, the scores at the best threshold are given as well: a question whose probability is above
the threshold counts as answered by "". For those the predictions must be the best non-empty spans.

Sources:
    Rajpurkar et al. 2016, SQuAD, arXiv:1606.05250, and its evaluate-v1.1.py. Rajpurkar et al. 2018, arXiv:1806.03822,
    and its evaluate-v2.0.py (unanswerable questions, best thresholds). Lewis et al. 2020, MLQA, arXiv:1910.07475, and
    mlqa_evaluation_v1.py. Hu et al. 2020, XTREME, arXiv:2003.11080 (which rules for which task).
"""

import math
import re
import string
import unicodedata
from collections import Counter
from collections.abc import Callable

from .errors import UserError

NORMALIZATIONS = ("squad", "mlqa", "language")
_ENOUGH = 200  # rows of SQuAD 2.0 without any answer: half have one, and these lie together by paragraph

_ENGLISH_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
# What MLQA's script removes, by language: None where it removes nothing. The Arabic rule takes the letters of the
# article anywhere, within words too: that is what the script's pattern comes to.
_MLQA_ARTICLES = {
    "en": _ENGLISH_ARTICLES,
    "es": re.compile(r"\b(?:un|una|unos|unas|el|la|los|las)\b"),
    "de": re.compile(r"\b(?:ein|eine|einen|einem|eines|einer|der|die|das|den|dem|des)\b"),
    "vi": re.compile(r"\b(?:của|là|cái|chiếc|những)\b"),
    "ar": re.compile("ال"),
    "hi": None,
    "zh": None,
}
_CODE = re.compile("([a-z]{2,3})(-[A-Z][a-z]{3}|-[A-Z]{2})?")  # language; script or region
_HAN = re.compile("([\u4e00-\u9fa5])")  # the range MLQA's script takes for Chinese
# Scripts without blanks between words: Han, kana, Thai. Ours, for "language".
_UNSPACED = {
    "ja": re.compile("([\u3040-\u30ff\u4e00-\u9fff])"),
    "th": re.compile("([\u0e00-\u0e7f])"),
    "yue": _HAN,
    "wuu": _HAN,
}


def qa(
    predictions: list[str],
    references: list[list[str]],
    language: str = "en",
    normalization: str = "squad",
    squad_v2: bool = False,
    no_answer_probabilities: list[float] | None = None,
) -> dict[str, float]:
    """Return exact match and token F1 of extracted answers.

    Args:
        predictions: an answer per question.
        references: the gold answers of each question; [] means it has none.
        language: two- or three-letter code, used by "mlqa" and "language". "language" takes one with a script or a
            region, too (zh-Hant, pt-BR), and goes by the letters before it.
        normalization: "squad", "mlqa" or "language".
        squad_v2: whether gold and predictions that normalise to nothing ("the") are scored as SQuAD 2.0's script does.
            It is what the data set says, not whether a question of these rows has no answer. Always so with references
            that are [] or with no_answer_probabilities.
        no_answer_probabilities: how sure the model is that there is no answer, one per question.

    Returns:
        {"exact_match": float, "f1": float} from 0 to 100; with no_answer_probabilities also "best_exact_match" and
        "best_f1" (0 to 100) with "best_exact_match_threshold" and "best_f1_threshold" (in the probabilities' unit).

    Raises:
        UserError: the gold answers of a row are empty strings (XTREME's stripped test files); names the row. Or no
            question has a gold answer, or a setting is unknown.

    Examples:
        >>> qa(predictions=["the Panthers"], references=[["Panthers", "Carolina Panthers"]])
        {'exact_match': 100.0, 'f1': 100.0}
        >>> qa(predictions=["der Fluss"], references=[["Fluss"]], language="de", normalization="mlqa")
        {'exact_match': 100.0, 'f1': 100.0}
    """
    tokenize = _tokenizer(normalization, language)
    _check_gold(references, squad_v2)
    # SQuAD 2.0's script leaves out gold that normalises to nothing, unless there is no other, and gives F1 1 where the
    # prediction does so too. The other scripts leave nothing out and give such a pair F1 0, exact match 1.
    both_empty = float(squad_v2 or no_answer_probabilities is not None or not all(references))
    exact, f1 = [], []
    for prediction, answers in zip(predictions, references, strict=True):
        guess = tokenize(prediction)
        gold = [tokenize(answer) for answer in answers]
        if both_empty:
            gold = [tokens for tokens in gold if tokens] or [[]]
        exact.append(float(guess in gold))
        f1.append(max(_f1(guess, tokens, both_empty) for tokens in gold))
    scores = {"exact_match": 100.0 * sum(exact) / len(exact), "f1": 100.0 * sum(f1) / len(f1)}
    if no_answer_probabilities is not None:
        _check_probabilities(no_answer_probabilities, len(predictions))
        for name, values in (("exact_match", exact), ("f1", f1)):
            best, threshold = _best_threshold(values, predictions, references, no_answer_probabilities)
            scores[f"best_{name}"] = best
            scores[f"best_{name}_threshold"] = threshold
    return scores


def _tokenizer(normalization: str, language: str) -> Callable[[str], list[str]]:
    """Return the function from an answer to its normalised tokens."""
    if normalization not in NORMALIZATIONS:
        raise UserError(f"normalization {normalization!r} is unknown. Use one of: {', '.join(NORMALIZATIONS)}.")
    if normalization == "mlqa" and language not in _MLQA_ARTICLES:
        raise UserError(
            f"MLQA has no normalisation for language {language!r}, only for {' '.join(_MLQA_ARTICLES)}. "
            'Use normalization="language" for others.'
        )
    code = _CODE.fullmatch(language)
    if not code:
        raise UserError(
            f"language {language!r} is not a language code. Give two or three letters, such as de, with a script or a "
            "region if need be: sr-Latn, pt-BR."
        )
    if normalization == "squad":
        articles: re.Pattern[str] | None = _ENGLISH_ARTICLES
        characters: re.Pattern[str] | None = None
    else:
        articles = _MLQA_ARTICLES.get(code[1])
        characters = _HAN if code[1] == "zh" else _UNSPACED.get(code[1])
    unicode_punctuation = normalization != "squad"

    def tokenize(answer: str) -> list[str]:
        text = "".join(
            char
            for char in answer.lower()
            if char not in string.punctuation and not (unicode_punctuation and unicodedata.category(char)[0] == "P")
        )
        if articles is not None:
            text = articles.sub(" ", text)
        if characters is not None:
            text = characters.sub(r" \1 ", text)
        return text.split()

    return tokenize


def _f1(guess: list[str], gold: list[str], both_empty: float) -> float:
    if not guess and not gold:
        return both_empty
    common = sum((Counter(guess) & Counter(gold)).values())
    if not common:
        return 0.0
    precision, recall = common / len(guess), common / len(gold)
    return 2 * precision * recall / (precision + recall)


def _best_threshold(
    scores: list[float], predictions: list[str], references: list[list[str]], probabilities: list[float]
) -> tuple[float, float]:
    """Return the best score (0-100) over all thresholds, and that threshold, as SQuAD 2.0's script defines them.

    It starts from answering nothing (threshold 0) and answers one question after the other, the least probably
    unanswerable first; the first best counts.
    """
    total = float(sum(not answers for answers in references))
    best, threshold = total, 0.0
    for row in sorted(range(len(scores)), key=lambda row: probabilities[row]):
        if references[row]:
            total += scores[row]
        elif predictions[row]:
            total -= 1
        if total > best:
            best, threshold = total, float(probabilities[row])
    return 100.0 * best / len(scores), threshold


def _check_gold(references: list[list[str]], squad_v2: bool) -> None:
    for row, answers in enumerate(references, 1):
        if answers and not any(answers):
            raise UserError(f"Row {row}: the gold answer is an empty placeholder. Score a split that has answers.")
    if not any(references) and not (squad_v2 and len(references) < _ENOUGH):
        raise UserError("No question has a gold answer: the gold was stripped. Score a split that has answers.")


def _check_probabilities(probabilities: list[float], rows: int) -> None:
    if len(probabilities) != rows:
        raise UserError(f"{len(probabilities)} no_answer_probabilities for {rows} predictions. Give one for each.")
    for row, probability in enumerate(probabilities, 1):
        if not math.isfinite(probability):
            raise UserError(f"Row {row}: no_answer_probability is {probability}. Give a finite number.")
