"""The card of a checkpoint: its metadata match the run, and its code runs."""

import contextlib
import io
import logging
import os
from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCard, parse_eval_result_entries
from huggingface_hub.utils import validate_repo_id

from tasks import TASKS, get_task
from tasks.text import Wikipedia
from xstilts.run import card as cards
from xstilts.run import card_metadata
from xstilts.run.record import Record, completed

SHA = "b8dd5d7af51114dbda02c0e3f6133f332186418e"
HUB = {"id": "facebook/xnli", "config": "en", "split": "train", "revision": SHA, "rows": 9}
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
TEST = [HUB | {"config": language, "split": "test"} for language in ("en", "de")]
SCORES = {"en": {"accuracy": 50.123456}, "de": {"accuracy": 40.0}}


def record_of(data, scores=None, phase="intermediate", task="xnli", **more):
    record = {
        "arm": "xnli",
        "task": task,
        "seed": 0,
        "form": "sentence_pair",
        "phase": phase,
        "metric": "accuracy",
        "model": "me/base",
        "parents": ["me/base"],
        "at_chance": False,
        "dev": {"en": {"accuracy": 60.0, "f1": 50.0}},
        "chance": {"accuracy": 33.3},
        "measures": {"steps": 1200, "last_loss": 0.693147180559945},
        "data": data,
        "settings": {},
        "command": "python x.py",
        "versions": {},
        "seconds": 1.0,
        "scores": scores or {},
        "n": dict.fromkeys(scores or {}, 9),
    }
    return Record.from_dict(completed(record | more, "results.json"), "results.json")


MLM = {"mlm_rate": 0.5, "seen_languages": []}


def card(*args, parent="me/base", **kwargs):
    return cards.card(record_of(*args, **kwargs), True, card_metadata.parent_of(str(parent)))


def metadata(*args, **kwargs):
    """What the Hub reads of the card: its front matter, parsed by the Hub's own client."""
    return ModelCard(card(*args, **kwargs)).data


def test_a_checkpoint_of_phase_2_says_how_good_it_is():
    assert "\nEnglish dev: accuracy 60.00 (chance 33.30), f1 50.00\n" in card([HUB])
    (dev, f1) = metadata([HUB, HUB | {"split": "validation"}]).eval_results
    assert (dev.dataset_split, dev.metric_type, dev.metric_value, f1.metric_type) == (
        "validation",
        "accuracy",
        60,
        "f1",
    )


# ---- data sets ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data, named",
    [
        ([HUB, HUB], ["facebook/xnli"]),
        ([FILE], None),
        ([HUB, FILE], ["facebook/xnli"]),
        ([LINK], None),
        ([HUB | {"split": "validation"}], None),  # only chosen by it
    ],
)
def test_only_what_was_trained_on_and_read_from_the_hub_is_named(data, named):
    """A world's rows lie in a folder of facebook/xnli's name and columns, and are no such thing."""
    assert metadata(data).datasets == named


def test_a_test_set_is_not_named_as_trained_on():
    squad = {"id": "rajpurkar/squad", "config": "plain_text", "split": "train", "revision": SHA, "rows": 9}
    xquad = HUB | {"id": "google/xquad", "config": "xquad.en", "split": "validation"}
    assert metadata([squad, xquad], phase="target", task="xquad", scores={"en": {"accuracy": 1.0}}).datasets == [
        "rajpurkar/squad"
    ]


@pytest.mark.parametrize("task, named", [("nli_dual", ["nyu-mll/glue"]), ("mnli+squad", ["nyu-mll/glue"])])
def test_pairs_and_mixtures_name_the_data_of_their_tasks(task, named):
    assert metadata([HUB | {"id": "nyu-mll/glue", "config": "mnli"}], task=task, dev={}).datasets == named


def test_other_splits_given_to_train_on_count():
    data = [HUB | {"split": "validation[:1000]"}, HUB | {"split": "train"}]
    given = {"splits": ["xnli.train=validation[:1000]"]}
    assert card_metadata.train_data(record_of(data[:1], settings=given)) == ["facebook/xnli"]
    assert card_metadata.train_data(record_of(data[1:], settings=given)) == []


def test_pairs_that_only_splits_gives_rows_name_their_data_set():
    data = [HUB | {"id": "google/xquad", "config": "xquad.en", "split": "validation[:800]"}]
    given = {"splits": ["xquad_dual.train=validation[:800]", "xquad_dual.dev=validation[800:]"]}
    assert metadata(data, task="xquad_dual", settings=given, dev={}).datasets == ["google/xquad"]


# ---- scores ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [[FILE | {"split": "test"}], [LINK | {"split": "test"}], [HUB]])
def test_no_result_is_claimed_on_rows_that_are_not_the_hubs(data):
    assert metadata(data, SCORES, phase="target", dev={}).eval_results is None


def test_a_result_names_data_set_config_split_and_revision():
    en, de = metadata(TEST, SCORES, phase="target").eval_results
    assert (en.dataset_type, en.dataset_config, en.dataset_split, en.dataset_revision) == (
        "facebook/xnli",
        "en",
        "test",
        SHA,
    )
    assert (en.dataset_name, en.metric_type, en.metric_value, de.dataset_config) == ("XNLI", "accuracy", 50.12, "de")


def test_languages_in_one_config_keep_a_result_each():
    rows = {"id": "google-research-datasets/tydiqa", "config": "secondary_task", "split": "validation"}
    scores = {code: {"f1": score, "exact_match": 1.0} for code, score in {"en": 60.0, "sw": 50.0}.items()}
    record = record_of(
        [rows | {"revision": SHA, "rows": 9}], scores, "target", "tydiqa", metric="f1", dev={}, chance=None
    )
    found = card_metadata.eval_results(record)
    assert [(one.metric_type, one.metric_value) for one in found[::2]] == [("f1", 60.0), ("f1", 50.0)]
    assert len({one.metric_name for one in found}) == 4
    assert len({entry.task_id for entry in card_metadata.eval_entries(record)}) == 2


@pytest.mark.parametrize("arm", ["none", "xnli+multilingual"])
def test_a_result_says_what_was_trained_on_english_and_what_phase_2_was(arm):
    entries = card_metadata.eval_entries(record_of(TEST, SCORES, phase="target", arm=arm))
    assert all("head was trained on English" in e.notes and e.notes.endswith(f"phase 2: {arm}") for e in entries)
    assert len(entries) == 2


def test_numbers_are_rounded():
    text = card(TEST, SCORES, phase="target", settings={"learning_rate": 0.1 + 0.2})
    assert "last_loss: 0.693\n" in text and "50.1234" not in text and "learning_rate: `0.3`" in text


@pytest.mark.parametrize("phase", ["retrieval", "target"])
def test_measures_are_headed_for_what_they_are(phase):
    """A measurement trains nothing; its measures are such as the recall of an index."""
    more = {"layer": 2, "pooling": "mean"} if phase == "retrieval" else {}
    record = record_of(TEST, SCORES, phase, measures={"recall@1 de plain": 0.5}, **more)
    text = cards.card(record, phase == "target", card_metadata.parent_of("me/base"))
    section = next(part for part in text.split("\n## ") if "recall@1 de plain: 0.5" in part)
    assert section.startswith("Training\n") == (phase == "target")
    assert section.startswith("Other measures\n") == ("## Training" not in text)


def test_eval_results_lie_beside_the_card(tmp_path):
    cards.write(tmp_path, record_of(TEST, SCORES, phase="target"), True, "me/base")
    (path,) = (tmp_path / ".eval_results").iterdir()
    entries = parse_eval_result_entries(yaml.safe_load(path.read_text()))
    assert [(e.dataset_id, e.task_id, e.value, e.dataset_revision) for e in entries] == [
        ("facebook/xnli", "en", 50.12, SHA),
        ("facebook/xnli", "de", 40.0, SHA),
    ]
    assert path.name == "xnli.yaml"


def test_a_measurement_without_weights_says_nothing_of_weights(tmp_path):
    data = [HUB | {"id": "mteb/tatoeba-bitext-mining", "config": "deu-eng", "split": "test"}]
    record = record_of(data, {"de": {"accuracy": 1.0}}, "retrieval", "tatoeba", layer=1, pooling="mean", dev={})
    cards.write(tmp_path, record, False, "me/base")
    assert [path.name for path in tmp_path.iterdir()] == ["README.md"]
    found = ModelCard.load(tmp_path / "README.md")
    assert found.data.license is None and found.data.pipeline_tag is None and "```python" not in found.text
    assert "Layer 1 (`hidden_states`), pooling mean." in found.text


# ---- base model, title, licence -------------------------------------------------------------------------------------


def test_the_base_model_is_found_through_local_parents(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    mnli = HUB | {"id": "nyu-mll/glue", "config": "mnli"}
    cards.write(Path("mnli"), record_of([mnli], task="mnli", dev={}), True, "FacebookAI/xlm-roberta-base")
    cards.write(Path("mnli/xnli"), record_of([HUB, *TEST], SCORES, phase="target"), True, "mnli")
    found = ModelCard.load("mnli/xnli/README.md")
    assert found.data.base_model == "FacebookAI/xlm-roberta-base"
    assert found.data.datasets == ["facebook/xnli", "nyu-mll/glue"]
    assert found.text.strip().startswith("# xlm-roberta-base trained on MultiNLI, then on XNLI\n")
    licence = Path("mnli/xnli/LICENSE.md").read_text()
    for link in ("FacebookAI/xlm-roberta-base", "datasets/facebook/xnli", "datasets/nyu-mll/glue"):
        assert f"https://huggingface.co/{link})" in licence


def test_the_licence_names_rows_of_folders_too_and_those_of_the_parent(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = {key: value for key, value in HUB.items() if key != "revision"} | {"sha256": "0" * 64}
    mnli, test = file | {"id": "nyu-mll/glue", "config": "mnli"}, file | {"split": "test"}
    cards.write(Path("mnli"), record_of([mnli], task="mnli", dev={}), True, "me/base")
    assert "- rows of a folder: `nyu-mll/glue`" in Path("mnli/LICENSE.md").read_text()
    cards.write(Path("mnli/xnli"), record_of([HUB, test], SCORES, phase="target"), True, "mnli")
    text = Path("mnli/xnli/LICENSE.md").read_text()
    assert "datasets/facebook/xnli)" in text and text.count("- rows of a folder: ") == 1
    assert "- rows of a folder: `nyu-mll/glue`" in text  # of the parent; the rows of a test train nothing
    cards.write(Path("other"), record_of([file, HUB | {"split": "test"}], SCORES, phase="target"), True, "me/base")
    text = Path("other/LICENSE.md").read_text()
    assert "- rows of a folder: `facebook/xnli`" in text and "datasets/" not in text


@pytest.mark.parametrize("parent", ["runs/gone/seed0", ".../model", "model", "recipes/models/xlmr-tiny.json"])
def test_a_parent_that_is_not_on_the_hub_is_not_named_as_there(parent, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").mkdir()
    assert card_metadata.parent_of(parent).base_model is None


def test_a_parents_card_that_cannot_be_read_stops_nothing(tmp_path, caplog):
    (tmp_path / "README.md").write_text("---\ntags: [x\n---\n")
    with caplog.at_level(logging.WARNING):
        assert card_metadata.parent_of(str(tmp_path)).base_model is None
    assert str(tmp_path / "README.md") in caplog.text


@pytest.mark.parametrize(
    "front", ["base_model: 3", "datasets: [{name: a}, b, 2]", "datasets: 5", "tags: 5", "tags: {a: b}"]
)
def test_a_card_of_somebody_else_with_odd_values_does_not_stop_a_run(tmp_path, front):
    """The card is written when the training is done, and before its results.json."""
    (tmp_path / "parent").mkdir()
    (tmp_path / "parent/README.md").write_text(f"---\n{front}\n---\n# Mine\n")
    cards.write(tmp_path, record_of([]), True, str(tmp_path / "parent"))
    found = ModelCard.load(tmp_path / "README.md").data
    assert found.get("base_model") is None and found.get("datasets") == (["b"] if "b," in front else None)


@pytest.mark.parametrize(
    "task, settings, title",
    [
        ("mnli", {}, "base trained on MultiNLI"),
        ("mnli+squad+hellaswag", {}, "base trained on MultiNLI, SQuAD 1.1 and HellaSwag"),
        ("xnli", {"seen_languages": ["de", "sw"]}, "base trained on XNLI in 3 languages"),
        ("mnli", {"mlm_rate": 0.2}, "base trained on MultiNLI and text"),
        ("xnli", MLM | {"train_languages": ["en", "de", "sw"]}, "base trained on XNLI and text in 3 languages"),
        (
            "xnli",
            MLM | {"seen_languages": ["de"], "text_languages": ["en", "de", "sw"]},
            "base trained on XNLI in 2 languages and text in 3 languages",
        ),
        (
            "xnli",
            MLM | {"seen_languages": ["de"], "train_languages": ["de", "en"]},
            "base trained on XNLI and text in 2 languages",
        ),
    ],
)
def test_the_title_is_one_that_a_person_would_give(task, settings, title):
    assert f"\n# {title}\n" in card([HUB], task=task, dev={}, settings=settings)


def test_the_fields_are_those_that_the_hub_knows():
    """License names and links as the Hub's documentation of model cards has them; ids the Hub accepts."""
    found = metadata([HUB, *TEST], SCORES, phase="target")
    assert (found.license, found.license_link, found.library_name) == ("other", "LICENSE.md", "transformers")
    assert found.license_name == "base-model-and-data" and found.pipeline_tag == "text-classification"
    assert found.metrics == ["accuracy", "f1"] and "x-stilts" in found.tags
    for name in [found.base_model, *found.datasets, *(result.dataset_type for result in found.eval_results)]:
        validate_repo_id(name)
    assert found.to_dict()["model-index"][0]["name"] == "base trained on XNLI"


@pytest.mark.parametrize("name", TASKS)
def test_every_task_has_a_title_and_what_is_trained_a_pipeline(name):
    task = get_task(name)
    assert task.title and (not task.auto_class or task.usage)


# ---- the code of a card ---------------------------------------------------------------------------------------------


def run_code(text, folder):
    code = text.partition("```python\n")[2].partition("\n```")[0]
    here, printed = os.getcwd(), io.StringIO()
    os.chdir(folder)
    try:
        with contextlib.redirect_stdout(printed):
            exec(compile(code, "README.md", "exec"), {})  # noqa: S102  # the code of our own card
    finally:
        os.chdir(here)
    return printed.getvalue()


@pytest.mark.parametrize("name", ["xnli", "udpos", "squad", "hellaswag", "sib200", "mlm"])
def test_the_code_of_a_card_runs(name, tiny_model, tokenizer, tmp_path):
    from xstilts.checkpoint import heads

    if name == "mlm":
        heads.masked_lm(str(tiny_model)).save_pretrained(tmp_path)
    else:
        heads.fresh_head(get_task(name), str(tiny_model)).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    record = record_of([FILE], phase="mlm" if name == "mlm" else "intermediate", task=name, dev={})
    assert run_code(cards.card(record, True, card_metadata.parent_of("me/base")), tmp_path).strip()
    head = card_metadata.task_of_head(record)
    assert head.auto_class == (Wikipedia() if name == "mlm" else get_task(name)).auto_class


def test_the_code_for_a_mixture_runs(tiny_model):
    record = record_of([FILE], task="mnli+squad", dev={})
    assert "torch.Size" in run_code(cards.card(record, True, card_metadata.parent_of("me/base")), tiny_model)
    assert card_metadata.pipeline_tag(record) == "feature-extraction"


def test_the_pushed_card_names_its_repository(tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text(card([HUB]))
    os.utime(readme, (1, 1))
    cards._name_repository(readme, "me/one", None)
    assert 'checkpoint = "me/one"\n' in readme.read_text() and ModelCard.load(readme).data.base_model == "me/base"
    cards._name_repository(readme, "me/two", "me/parent")
    found = ModelCard.load(readme)
    assert 'checkpoint = "me/two"\n' in found.text and found.data.base_model == "me/parent"
    assert readme.stat().st_mtime == 1 and found.data.datasets == ["facebook/xnli"]


# ---- a rehearsal ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings, steps, rehearsal",
    [
        ({"max_steps": 5}, 5, True),
        ({"max_train_samples": 100}, 12, True),
        ({}, 39, False),
        ({"max_steps": 400}, 400, False),
    ],
)
def test_rehearsal_at_chance_is_not_called_a_failure(settings, steps, rehearsal):
    text = card([HUB], settings=settings, at_chance=True, measures={"steps": steps})
    assert ("rehearsal" in text, "did not work" in text) == (rehearsal, not rehearsal)


# ---- languages ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "phase, settings, scores, languages",
    [
        ("intermediate", {"seen_languages": ["de", "sw"]}, None, ["en", "de", "sw"]),
        ("intermediate", {"seen_languages": []}, None, ["en"]),
        ("intermediate", {"seen_languages": ["sw"], "language_mode": "translated"}, None, ["sw"]),
        ("intermediate", {}, None, None),
        # the text of masked LM is in other languages than the rows
        ("intermediate", MLM | {"train_languages": ["en", "deu", "sw"]}, None, ["en", "de", "sw"]),
        ("intermediate", MLM | {"train_languages": ["en", "de"], "text_languages": ["fr"]}, None, ["en", "fr"]),
        ("intermediate", MLM | {"mlm_rate": 0.0, "train_languages": ["en", "de"]}, None, ["en"]),
        ("mlm", {"text_languages": ["sw", "en", "de"]}, None, ["en", "de", "sw"]),
        ("mlm", {"text_languages": ["sw"]}, None, ["sw"]),
        ("mlm", {"text_languages": []}, None, None),
        ("target", {}, {"en": {"accuracy": 50.0}, "sw": {"accuracy": 40.0}}, ["en", "sw"]),
    ],
)
def test_the_languages_are_those_trained_on_or_measured(phase, settings, scores, languages):
    assert metadata([HUB], scores, phase, settings=settings, dev={}).language == languages


def test_an_invented_language_has_no_name_on_the_hub():
    assert metadata([HUB], {"en": {"accuracy": 1.0}, "qaa": {"accuracy": 1.0}}, phase="target").language == ["en"]
