"""seqeval's span F1, precision and recall, and the share of tokens tagged right, as XTREME scores UDPOS and PAN-X.

XTREME hands UDPOS's bare tags (NOUN, VERB) to seqeval, which reads their first letter as a B/I prefix and merges equal
neighbours into one span: that F1 is the benchmark's figure, and it depends on seqeval's version (1.2.2 is demanded
here). `accuracy` is the plain token accuracy to read beside it.

Sources:
    Hu et al. 2020, XTREME, arXiv:2003.11080; the function `f1` of evaluate.py in github.com/google-research/xtreme.
    Nakayama 2018, seqeval, github.com/chakki-works/seqeval.
"""

import importlib.metadata
import warnings

from .errors import UserError

_SEQEVAL = "1.2.2"


def tagging(predictions: list[list[str]], references: list[list[str]]) -> dict[str, float]:
    """Return span F1, precision and recall, and token accuracy of tag sequences.

    Args:
        predictions: a tag per token of each sentence.
        references: the gold tags, as many per sentence.

    Returns:
        {"f1", "precision", "recall", "accuracy"}, floats from 0 to 100; the first three are 0 where there is no span.

    Raises:
        UserError: a sentence has another number of tags than its gold, or a gold tag is empty or a placeholder; names
            the row. Or another version of seqeval is installed.

    Examples:
        >>> scores = tagging(predictions=[["B-PER", "O", "O"]], references=[["B-PER", "O", "B-LOC"]])
        >>> {name: round(score, 1) for name, score in scores.items()}
        {'f1': 66.7, 'precision': 100.0, 'recall': 50.0, 'accuracy': 66.7}
    """
    # here, so that the other metrics load without seqeval
    from seqeval.metrics.sequence_labeling import precision_recall_fscore_support

    version = importlib.metadata.version("seqeval")
    if version != _SEQEVAL:
        raise UserError(
            f"seqeval {version} computes UDPOS F1 differently; {_SEQEVAL} is required. Type: pip install "
            f"seqeval=={_SEQEVAL}"
        )
    for row, (tags, gold) in enumerate(zip(predictions, references, strict=True), 1):
        if len(tags) != len(gold):
            raise UserError(f"Row {row}: {len(tags)} predicted tags for {len(gold)} gold tags. Give one a token.")
        for tag in gold:
            if not tag or tag.lower() == "placeholder":
                raise UserError(f"Row {row}: gold tag {tag!r} is a placeholder. Score a split that has labels.")
    tokens = sum(len(gold) for gold in references)
    if not tokens:
        raise UserError("Nothing to score: no sentence has a token.")
    right = sum(
        tag == answer
        for tags, gold in zip(predictions, references, strict=True)
        for tag, answer in zip(tags, gold, strict=True)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # seqeval warns of every tag that is not in the IOB scheme
        precision, recall, f1, _ = precision_recall_fscore_support(
            references, predictions, average="micro", zero_division=0
        )
    return {
        "f1": 100.0 * float(f1),
        "precision": 100.0 * float(precision),
        "recall": 100.0 * float(recall),
        "accuracy": 100.0 * right / tokens,
    }


def f1_of_seqeval_0_0_12(predictions: list[list[str]], references: list[list[str]]) -> float:
    """The F1, 0-100, that seqeval 0.0.12 gives, the version of 2020. Sentences as for the metric, checked by it
    before.

    1.2.2 takes a span's type from what follows a tag's first letter, so that CCONJ and SCONJ are one type and "_" is
    that of the end of a sentence. 0.0.12 took the whole tag, or what follows its last hyphen. Where spans begin and
    end is the same code in both.
    """
    found, gold = _spans(predictions), _spans(references)
    right = len(found & gold)
    if not right:
        return 0.0
    precision, recall = right / len(found), right / len(gold)
    return 100.0 * (2 * precision * recall / (precision + recall))


def _spans(sentences: list[list[str]]) -> set[tuple[str, int, int]]:
    """(type, first token, last token) of all spans as seqeval 0.0.12 finds them; a tag O stands after each
    sentence."""
    from seqeval.metrics.sequence_labeling import end_of_chunk, start_of_chunk

    spans, start, last_letter, last_type = set(), 0, "O", ""
    for place, tag in enumerate(tag for sentence in sentences for tag in (*sentence, "O")):
        letter, kind = tag[0], tag.rpartition("-")[2]
        if end_of_chunk(last_letter, letter, last_type, kind):
            spans.add((last_type, start, place - 1))
        if start_of_chunk(last_letter, letter, last_type, kind):
            start = place
        last_letter, last_type = letter, kind
    return spans
