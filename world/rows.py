"""The list of all data sets. To add one, write its function and list it here."""

from collections.abc import Iterator

from .base import Options, Table, TextFile
from .choices import belebele, commonsense_qa, copa, cosmos_qa, hellaswag, social_i_qa
from .pairs import inference, paws, qqp
from .retrieval import bucc, lexicons, mewsli_x, tatoeba
from .spans import question_answering
from .tagging import ccg, panx, udpos
from .texts import wikipedia
from .wide import flores, ntrex

RETRIEVAL = (tatoeba, bucc)  # first: their clauses are kept out of the monolingual text
LABELLED = (
    inference,
    qqp,
    paws,
    question_answering,
    hellaswag,
    cosmos_qa,
    commonsense_qa,
    social_i_qa,
    copa,
    udpos,
    panx,
    ccg,
    mewsli_x,
    lexicons,
)
# last: their sentences are drawn from what the text does not contain, and they do not change the text
WIDE = (ntrex, flores, belebele)


def files(options: Options) -> Iterator[Table | TextFile]:
    """Yield every file of the world."""
    for make in (*RETRIEVAL, *LABELLED, wikipedia, *WIDE):
        yield from make(options)
