"""A miniature world: invented languages over one shared set of meanings, written as rows in the Hub's own columns.

It is a demonstration of the experiment, not evidence about human languages. `docs/world.md` describes it;
`python -m world --out data/world --seed 0` writes it. Nothing imports this package: it only writes files.

    lexicon.py    the English words, class by class, and how words of the other languages are made up
    meaning.py    clauses, the shared preferences that generate them, and the rule of entailment
    language.py   the typology of each language, and clauses turned into words
    texts.py pairs.py spans.py choices.py tagging.py retrieval.py    one function for each data set: meanings to rows
    rows.py       the list of data sets; base.py what they share
    translator.py train rows in other languages, with the errors of a translator
    files.py      parquet files, world.json, and the checks of an existing folder
    baseline.py   retrieval by shared tokens, the baseline for every model
"""

NOISE = 0.08  # share of wrong words in one pass of the translator; our choice: a few questions are lost, most are kept
