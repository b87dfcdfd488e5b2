"""The contract of tasks/base.py, tested for every registered task, so a new task needs no test of its own."""

import itertools
import json

import numpy as np
import pytest

from tasks import TASKS, get_task, list_tasks
from tasks import languages as codes
from tasks.errors import UserError
from tasks.rows import Rows

TRAINED = [name for name in TASKS if get_task(name).auto_class]
MEASURED = [name for name in TASKS if not get_task(name).auto_class]
NUMBERS = itertools.count()
LENGTHS = [128, 24]  # 24: contexts become windows, sentences pieces, pairs are cut

every_task = pytest.mark.parametrize("task_name", list(TASKS))
every_trained = pytest.mark.parametrize("task_name", TRAINED)
every_length = pytest.mark.parametrize("max_length", LENGTHS)


@pytest.fixture
def rows(tiny_world):
    return Rows(tiny_world)


def splits_of(task):
    """The splits a task must be able to load from a complete source."""
    named = (
        set().union(*(source.splits for source in task.sources)) if task.sources else set(getattr(task, "splits", ()))
    )
    return sorted(named | ({"train", "dev"} if task.train_from or task.parts else set()))


def scored(task, rows):
    """(a split that has gold, its examples, their language): the first test language that is not English, or dev."""
    if "test" in splits_of(task):
        language = task.languages(rows)[-1]
        return task.load("test", language, rows), language
    return task.load("dev", "en", rows), "en"


def featurize(task, examples, tokenizer, max_length, train):
    return examples.map(
        task.featurize,
        batched=True,
        batch_size=3,
        with_indices=True,
        remove_columns=examples.column_names,
        fn_kwargs={"tokenizer": tokenizer, "max_length": max_length, "train": train},
        keep_in_memory=True,
        new_fingerprint=f"features{next(NUMBERS)}",  # so that the tokenizer is not hashed each time
    )


def one_hot(labels, width):
    """(..., width) with 1 at each label; none where it is -100."""
    labels = np.asarray(labels)
    return (labels[..., None] == np.arange(width)).astype(np.float32)


def padded(rows, width, fill=-100):
    return np.array([[*row, *[fill] * (width - len(row))] for row in rows])


def right_logits(task, features, examples):
    """Logits of a model that makes no mistake, from the labels it would be trained on.

    `features` are those with labels. By the head, not by the task: a head is one of transformers' own.
    """
    width = max(len(f) if isinstance(f[0], int) else max(map(len, f)) for f in features["input_ids"])
    labels = features["labels"][:]
    if task.auto_class == "AutoModelForSequenceClassification":
        return one_hot(labels, task.num_labels)
    if task.auto_class == "AutoModelForMultipleChoice":
        return one_hot(labels, len(features[0]["input_ids"]))
    if task.auto_class == "AutoModelForTokenClassification":
        return one_hot(padded(labels, width), task.num_labels)
    if task.auto_class == "AutoModelForQuestionAnswering":
        return tuple(one_hot([pair[side] for pair in labels], width) for side in (0, 1))
    raise AssertionError(f"{task.name}: no logits are known for {task.auto_class}; add them here")


# ---- declaration ----------------------------------------------------------------------------------------------------


@every_task
def test_declaration(task_name):
    task = get_task(task_name)
    assert task.name == task_name and task.form and task.metric
    for source in task.sources:
        assert "/" in source.id and set(source.splits) <= {"train", "dev", "test"}
    if task.auto_class:
        assert task.train_rows > 0
        assert {"learning_rate", "num_train_epochs", "per_device_train_batch_size", "max_seq_length"} <= set(
            task.defaults
        )
        assert task.select in ("best", "last")
    if task.languages_in:
        if task_name != "bucc":  # not on the Hub
            benchmark = next(
                (name for name, tasks in codes.BENCHMARKS.items() if task.languages_in in tasks), "xtreme"
            )
            assert task.languages(Rows("hub")) == list(codes.languages(task.languages_in, benchmark))
        assert task_name in task.predictions_file("de") or "2018" in task.predictions_file("de")


@every_task
def test_languages_of_a_folder(task_name, rows):
    task = get_task(task_name)
    if "test" not in splits_of(task):
        with pytest.raises(UserError, match=f"{task_name}: no test rows"):
            task.languages(rows)
        return
    english, foreign = task_name in TRAINED or task.form == "ranking", ["qaa", "qab"] if task.languages_in else []
    assert task.languages(rows) == ["en"] * english + foreign


@every_task
def test_every_split_loads(task_name, rows):
    task = get_task(task_name)
    for split in splits_of(task):
        languages = (
            task.languages(rows) if split == "test" else [task.languages(rows)[0]] if task_name in MEASURED else ["en"]
        )
        for language in languages:
            examples = task.load(split, language, rows)
            assert len(examples) > 0
    assert rows.records and all(r["rows"] > 0 and len(r["sha256"]) == 64 for r in rows.records)


def test_list_tasks_has_every_task(tiny_world):
    for table in (list_tasks(), list_tasks(str(tiny_world))):
        lines = table.splitlines()
        assert [line.split()[0] for line in lines[1:]] == list(TASKS)
        assert lines[0].split()[:3] == ["name", "form", "metric"]


def test_unknown_task_names_the_nearest():
    with pytest.raises(UserError, match="'xnil' is unknown. Did you mean xnli"):
        get_task("xnil")


# ---- scores ---------------------------------------------------------------------------------------------------------


@every_task
def test_gold_scores_100_and_a_constant_scores_chance(task_name, rows):
    task = get_task(task_name)
    examples, language = scored(task, rows)
    assert task.score(task.gold(examples), examples, language)[task.metric] == 100
    level = task.chance(examples, language)
    chance = level[task.metric]
    assert 0 <= chance < 100
    if task_name in TRAINED:
        assert task.score(task.constant(examples), examples, language)[task.metric] == chance
        dev = task.load("dev", "en", rows)
        assert task.dev_metrics[0] == task.metric and set(task.dev_metrics) == set(
            task.score(task.gold(dev), dev, "en")
        )
    assert task.at_chance(level, level, len(examples)) and not task.at_chance(dict.fromkeys(level, 100.0), level, 1000)


@every_task
def test_lines_are_one_an_example(task_name, rows):
    task = get_task(task_name)
    examples, _ = scored(task, rows)
    gold = task.gold(examples)
    text = "\n".join(task.lines(gold, examples))
    if task.predictions_file("en").endswith(".json"):
        ids = examples.query_ids if task.form == "ranking" else examples["id"]
        answers = [g[0] if isinstance(g, tuple) else g for g in gold]  # squad_v2: with how sure no answer is
        assert json.loads(text) == dict(zip(ids, answers, strict=True))
    elif task.form == "tagging":
        assert [block.split("\n") for block in text.rstrip("\n").split("\n\n")] == gold
    else:
        assert len(text.split("\n")) == len(gold) and "" not in text.split("\n")


# ---- features -------------------------------------------------------------------------------------------------------


@every_length
@every_trained
def test_gold_through_the_features_scores_100(task_name, max_length, rows, tokenizer):
    """Labels the model is trained on -> logits -> decode -> score: 100, so labels and decoding mean the same."""
    task = get_task(task_name)
    examples, language = scored(task, rows)
    with_labels = featurize(task, examples, tokenizer, max_length, True)
    plain = featurize(task, examples, tokenizer, max_length, False)
    assert plain["input_ids"][:] == with_labels["input_ids"][:]
    predictions = task.decode(right_logits(task, with_labels, examples), plain, examples)
    assert len(predictions) == len(examples)
    if task.form == "span" and max_length < 128:
        # an answer longer than the windows' overlap may be whole in none of them; the others must be found
        whole = {e for e, label in zip(with_labels["example"], with_labels["labels"], strict=True) if label != [0, 0]}
        assert len(whole) > len(examples) / 2
        examples, predictions = examples.select(sorted(whole)), [predictions[i] for i in sorted(whole)]
    assert task.score(predictions, examples, language)[task.metric] == 100


@every_length
@every_trained
def test_no_example_is_lost_and_none_too_long(task_name, max_length, rows, tokenizer):
    task = get_task(task_name)
    for split in splits_of(task):
        examples = task.load(split, "en", rows)
        features = featurize(task, examples, tokenizer, max_length, split == "train")
        assert list(dict.fromkeys(features["example"])) == list(range(len(examples)))
        flat = [ids for row in features["input_ids"] for ids in (row if isinstance(row[0], list) else [row])]
        assert max(map(len, flat)) <= max_length
        if max_length == min(LENGTHS) and task.form in ("span", "tagging"):
            assert len(features) > len(examples), "the tiny world's rows no longer need windows at this length"


@every_length
@every_trained
def test_batches_fit_the_head(task_name, max_length, rows, tokenizer, tiny_model):
    """The collator's batch goes through the stock model of the form and gives a loss for every example."""
    import torch

    from xstilts.checkpoint import heads
    from xstilts.train import trainers

    task = get_task(task_name)
    examples = task.load("train", "en", rows).select(range(8))
    features = featurize(task, examples, tokenizer, max_length, True)
    keep = [c for c in features.column_names if c in ("input_ids", "attention_mask", "labels")]
    batch = task.collator(tokenizer)([{k: row[k] for k in keep} for row in features])
    model = heads.fresh_head(task, str(tiny_model))
    with torch.no_grad():
        output = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
    loss = trainers.token_mean(output, batch["labels"])
    assert torch.isfinite(loss) and loss > 0
    assert len(batch["labels"]) == len(features)


@every_length
@pytest.mark.parametrize("task_name", [n for n in TRAINED if get_task(n).form == "tagging"])
def test_tagging_keeps_every_word(task_name, max_length, rows, tokenizer):
    task = get_task(task_name)
    examples = task.load("test", "qaa", rows)
    # nothing to see, too long for any input, many
    odd = {"tokens": ["\u200b", "w" * 300, *["word"] * 90, "\x07", "end"]}
    examples = examples.add_item(odd | {"tags": [i % task.num_labels for i in range(len(odd["tokens"]))]})
    features = featurize(task, examples, tokenizer, max_length, True)
    found = [
        [w for words, e in zip(features["words"], features["example"], strict=True) if e == i for w in words if w >= 0]
        for i in range(len(examples))
    ]
    assert found == [list(range(len(words))) for words in examples["tokens"]]
    predictions = task.decode(right_logits(task, features, examples), features, examples)
    assert predictions == task.gold(examples)


@every_length
@pytest.mark.parametrize("task_name", [n for n in TRAINED if get_task(n).form == "span"])
def test_windows_cover_the_context(task_name, max_length, rows, tokenizer):
    task = get_task(task_name)
    examples, _ = scored(task, rows)
    features = featurize(task, examples, tokenizer, max_length, False)
    for i, context in enumerate(examples["context"]):
        seen = set()
        for owner, offsets in zip(features["example"], features["offsets"], strict=True):
            if owner == i:
                seen.update(*(range(*pair) for pair in offsets))
        assert {p for p, c in enumerate(context) if not c.isspace()} <= seen


def test_overlong_question_leaves_room_for_the_context(rows, tokenizer):
    task = get_task("xquad")
    examples = task.load("test", "en", rows).map(lambda r: {"question": "why " * 400 + r["question"]})
    plain = featurize(task, examples, tokenizer, 24, False)
    assert all(offsets for offsets in plain["offsets"])
    assert set(plain["example"]) == set(range(len(examples)))


def test_span_labels_point_at_the_answer(rows, tokenizer):
    task = get_task("squad")
    examples = task.load("train", "en", rows)
    features = featurize(task, examples, tokenizer, 128, True)
    for ids, example, (start, end) in zip(features["input_ids"], features["example"], features["labels"], strict=True):
        answer = examples[example]["answers"]["text"][0]
        if (start, end) != (0, 0):
            text = tokenizer.decode(ids[start : end + 1])
            assert answer.replace(" ", "") in text.replace(" ", "")


def test_multiple_choice_keeps_what_stands_at_the_gap(rows, tokenizer):
    task = get_task("hellaswag")
    examples = (
        task.load("train", "en", rows)
        .select(range(6))
        .map(lambda r: {"prompt": "once upon a time " * 60 + r["prompt"]})
    )
    features = featurize(task, examples, tokenizer, 40, True)
    for prompt, choices, ids in zip(examples["prompt"], examples["choices"], features["input_ids"], strict=True):
        for choice, row in zip(choices, ids, strict=True):
            text = tokenizer.decode(row, skip_special_tokens=True)
            assert choice.split()[-1] in text and prompt.split()[-1] in text
    assert tokenizer.truncation_side == "right"


# ---- gold that is none ----------------------------------------------------------------------------------------------


def test_placeholder_gold_is_refused(rows):
    """One label throughout is what a stripped test file looks like (a published score of 0.33 came from one)."""
    task = get_task("xnli")
    examples = task.load("test", "en", rows)
    stripped = examples.remove_columns("label").add_column("label", [0] * len(examples))
    stripped = stripped.select([i % len(stripped) for i in range(300)])
    with pytest.raises(UserError, match="placeholder"):
        task.score(task.gold(stripped), stripped, "en")


def test_bucc_refuses_the_hub_and_says_what_to_do():
    with pytest.raises(UserError, match="--data_root"):
        get_task("bucc").load("test", "de", Rows("hub"))


def test_tydiqa_tells_languages_apart_by_id(rows):
    task = get_task("tydiqa")
    for language in task.languages(rows):
        ids = task.load("test", language, rows)["id"][:]
        assert {codes.normalize(i.partition("-")[0]) for i in ids} == {language}
