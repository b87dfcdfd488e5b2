"""The groups of tasks whose mean score the benchmarks report. Their tasks and languages are in tasks/languages.py."""

from tasks.languages import BENCHMARKS

# Groups of `evaluate.py` of github.com/google-research/xtreme at 838c13b, with its names. In its XTREME-R, LAReQA is
# in no group.
GROUPS: dict[str, dict[str, tuple[str, ...]]] = {
    "xtreme": {
        "classification": ("pawsx", "xnli"),
        "tagging": ("udpos", "panx"),
        "qa": ("xquad", "mlqa", "tydiqa"),
        "retrieval": ("bucc2018", "tatoeba"),
    },
    "xtreme-r": {
        "classification": ("xnli", "xcopa"),
        "tagging": ("udpos", "panx"),
        "qa": ("xquad", "mlqa", "tydiqa"),
        "retrieval": ("tatoeba", "mewslix"),
        "multi_choice": ("xcopa",),
    },
}
# Our own means, with names that `evaluate.py` does not use: it computes no overall score of XTREME-R, and the paper
# (arXiv:2104.07412) has LAReQA in retrieval.
OUR_GROUPS: dict[str, dict[str, tuple[str, ...]]] = {
    "xtreme": {},
    "xtreme-r": {"retrieval_and_lareqa": ("tatoeba", "mewslix", "lareqa"), "ten_tasks": tuple(BENCHMARKS["xtreme-r"])},
}
