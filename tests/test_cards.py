"""The card of a checkpoint: what it tells the Hub is true of the run."""

import pytest
from huggingface_hub import ModelCard

from xstilts.run import card as cards
from xstilts.run.record import Record, completed

HUB = {"id": "facebook/xnli", "config": "en", "split": "train", "revision": "b8dd5d7", "rows": 9}
FILE = {
    "id": "facebook/xnli",
    "config": "en",
    "split": "train",
    "sha256": "0" * 64,
    "file": "data/world/train.parquet",
    "rows": 9,
}
LINK = HUB | {
    "id": "lareqa/xquad-r",
    "url": "https://github.com/google-research-datasets/lareqa/raw/9bc8c7f/xquad-r/en.json",
}


def card(data, scores=None, phase="intermediate", **settings):
    record = {
        "arm": "xnli",
        "task": "xnli",
        "seed": 0,
        "form": "sentence_pair",
        "phase": phase,
        "metric": "accuracy",
        "model": "me/base",
        "parents": ["me/base"],
        "at_chance": False,
        "dev": {"en": {"accuracy": 60.0, "f1": 50.0}},
        "chance": {"accuracy": 33.3},
        "measures": {},
        "data": data,
        "settings": settings,
        "command": "python x.py",
        "versions": {},
        "seconds": 1.0,
        "scores": scores or {},
        "n": dict.fromkeys(scores or {}, 9),
    }
    return cards.card(Record.from_dict(completed(record, "results.json"), "results.json"), checkpoint=True)


def metadata(*args, **kwargs):
    """What the Hub reads of the card: its front matter, parsed by the Hub's own client."""
    return ModelCard(card(*args, **kwargs)).data


def test_a_checkpoint_of_phase_2_says_how_good_it_is():
    assert "\nEnglish dev: accuracy 60.00 (chance 33.30), f1 50.00\n" in card([HUB])


@pytest.mark.parametrize(
    "data, named", [([HUB, HUB], ["facebook/xnli"]), ([FILE], None), ([HUB, FILE], ["facebook/xnli"]), ([LINK], None)]
)
def test_only_what_was_read_from_the_hub_is_named_as_its_own(data, named):
    """A world's rows lie in a folder of facebook/xnli's name and columns, and are no such thing."""
    assert metadata(data).datasets == named


@pytest.mark.parametrize("data, name", [([HUB], "xnli"), ([LINK], "xnli"), ([HUB, FILE], "xnli (rows of a folder)")])
def test_a_score_says_whether_its_rows_can_be_had(data, name):
    (result,) = metadata(data, {"en": {"accuracy": 50.0}}).eval_results
    assert (result.dataset_name, result.dataset_config, result.metric_value) == (name, "en", 50.0)


@pytest.mark.parametrize(
    "phase, settings, scores, languages",
    [
        ("intermediate", {"seen_languages": ["de", "sw"]}, None, ["en", "de", "sw"]),
        ("intermediate", {"seen_languages": []}, None, ["en"]),
        ("intermediate", {"seen_languages": ["sw"], "language_mode": "translated"}, None, ["sw"]),
        ("intermediate", {}, None, None),
        ("mlm", {"text_languages": ["sw", "en", "de"]}, None, ["en", "de", "sw"]),
        ("mlm", {"text_languages": ["sw"]}, None, ["sw"]),
        ("mlm", {"text_languages": []}, None, None),
        ("target", {}, {"en": {"accuracy": 50.0}, "sw": {"accuracy": 40.0}}, ["en", "sw"]),
    ],
)
def test_the_languages_are_those_trained_on_or_measured(phase, settings, scores, languages):
    assert metadata([HUB], scores, phase, **settings).language == languages
