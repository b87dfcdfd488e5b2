"""A miniature world: invented languages over one shared set of meanings, written as rows in the Hub's own columns.

It is a rehearsal for the experiment, not evidence about human languages. `docs/world.md` tells what is in it;
`python -m world --out data/world --seed 0` writes it. Nothing imports this package: it only writes files.

    lexicon.py    the English words, class by class, and how words of the other languages are made up
    meaning.py    clauses, the shared preferences they are drawn from, and what follows from what
    language.py   the typology of each language, and clauses turned into words
    texts.py pairs.py spans.py choices.py tagging.py retrieval.py    one function a data set: meanings turned into rows
    rows.py       the list of them; base.py what they share
    translator.py train rows in other languages, as a translator that is not quite right would tell them
    files.py      parquet files, world.json, and what is done about a folder that exists
    baseline.py   retrieval by shared tokens, the figure every model should be compared with
"""

NOISE = 0.08  # words that go wrong in one pass of the translator; our choice: some questions are lost and most are not
