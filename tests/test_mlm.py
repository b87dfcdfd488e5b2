"""Masked language modelling on texts that are short, empty or few: every step predicts something, and what is left out
is counted."""

import json
import math
import shutil
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

from tasks.text import Wikipedia
from xstilts.checkpoint.encoder import load_encoder
from xstilts.cli.arguments import ModelArguments, PeftArguments
from xstilts.train import featurizing, lora, mixture, start, trainers

SENTENCE = "the small boat was early and the doctor rejected it"
FEW = ["--max_steps", "6", "--max_seq_length", "48", "--bf16", "false", "--disable_tqdm", "true"]


@pytest.fixture
def mlm(cli, tiny_model, tmp_path):
    """`mlm({"en": ["a text", ...]}, "--mlm_probability", 0.1)` trains on these texts alone -> (what it said,
    results.json's record)."""

    def run(texts, *argv):
        for language, some in texts.items():
            file = tmp_path / f"rows/wikimedia__wikipedia/20231101.{language}/train.jsonl"
            file.parent.mkdir(parents=True)
            file.write_text("".join(json.dumps({"text": text}) + "\n" for text in some))
        done = cli(
            "run_mlm.py",
            "--model_name_or_path",
            tiny_model,
            "--data_root",
            tmp_path / "rows",
            "--text_languages",
            *texts,
            *FEW,
            "--output_dir",
            tmp_path / "out",
            *argv,
        )
        path = tmp_path / "out/results.json"
        return done, json.loads(path.read_text()) if path.is_file() else None

    return run


def remarks(record) -> str:
    return " ".join(record["notes"] + [note for data in record["data"] for note in data.get("notes", [])])


@pytest.mark.parametrize(
    "texts, argv, rows, told",
    [
        (["a dog", "the cat", "one", "two", "it"] * 8, ["--per_device_train_batch_size", 1], 39, ""),
        ([SENTENCE, "", " ", "\t\n"] * 8, ["--per_device_train_batch_size", 2], 7, "24 empty texts"),
        ([SENTENCE] * 40 + [""], ["--per_device_train_batch_size", 8], 39, "1 empty texts"),
        (
            [*["</s>", "<pad><mask>"] * 8, SENTENCE, SENTENCE],
            ["--per_device_train_batch_size", 1],
            1,
            "16 of 17 texts without a token",
        ),
        ([SENTENCE] * 30, ["--per_device_train_batch_size", 1, "--mlm_probability", "1e-9"], 29, ""),
        (
            [SENTENCE] * 30,
            ["--per_device_train_batch_size", 1, "--gradient_accumulation_steps", 2, "--mlm_probability", "0.01"],
            29,
            "",
        ),
    ],
)
def test_every_training_ends_with_numbers_and_counts_what_it_left_out(texts, argv, rows, told, mlm):
    """They ended in "the loss is not a finite number", or after the training in "measures cannot be JSON", for ever
    again."""
    done, record = mlm({"en": texts}, *argv)
    assert done.returncode == 0, done.stderr
    found = record["measures"]
    assert found["rows"] == rows and found["steps"] == 6
    assert all(math.isfinite(found[name]) and found[name] > 1 for name in ("last_loss", "held_out_loss", "perplexity"))
    assert told in remarks(record) and (told or not remarks(record))


@pytest.mark.parametrize(
    "texts, told",
    [
        ({"en": [SENTENCE]}, "20231101.en/train.jsonl: 1 text"),
        ({"en": ["", " "]}, "20231101.en/train.jsonl: 0 text"),
        ({"en": [SENTENCE] * 9, "de": [""] * 9}, "20231101.de/train.jsonl: 0 text"),
        ({"en": ["</s>"] * 9}, "en: none of 8 texts"),
        ({"en": [SENTENCE] * 9 + ["<pad>"]}, "held out, en: none of 1"),
    ],
)
def test_texts_that_are_too_few_are_refused_before_the_training(texts, told, mlm):
    done, record = mlm(texts)
    assert (
        done.returncode == 2
        and told in done.stderr.splitlines()[-1]
        and "Traceback" not in done.stderr
        and record is None
    )


def test_a_long_text_is_read_whole_and_a_short_one_as_before(tokenizer):
    texts = [SENTENCE, " ".join(str(i) for i in range(40)), "cat"]
    features = Wikipedia().featurize({"text": texts}, [5, 6, 7], tokenizer, 16, True)
    plain = tokenizer(texts, truncation=True, max_length=16)
    assert set(features) == {*plain, "example"}
    assert features["example"] == sorted(features["example"]) and features["example"].count(6) > 2
    for i, text in enumerate(texts):
        pairs = zip(features["input_ids"], features["example"], strict=True)
        rows = [row for row, example in pairs if example == 5 + i]
        assert rows[0] == plain["input_ids"][i] and all(len(row) <= 16 for row in rows)
        assert sum((row[1:-1] for row in rows), []) == tokenizer(text, add_special_tokens=False)["input_ids"]


LONG = " ".join([SENTENCE] * 20)


def test_windows_of_long_articles_are_counted(mlm, tokenizer):
    texts = [SENTENCE, LONG] * 20
    done, record = mlm({"en": texts}, "--max_train_samples", 30, "--per_device_train_batch_size", 2)
    assert done.returncode == 0, done.stderr
    windows = -(-len(tokenizer(LONG, add_special_tokens=False)["input_ids"]) // 46)
    rows = 15 + 15 * windows
    assert windows > 2 and record["measures"]["rows"] == rows and record["data"][0]["rows"] == 40
    assert [f"wikipedia, en: 15 of 30 texts are longer than 48 tokens: cut into windows, {rows} with the others"] == [
        note for note in record["notes"] if "held out" not in note
    ]
    assert "held out, en: 1 of 1" in remarks(record)


def test_rows_that_are_matched_across_languages_are_one_feature_each(tokenizer):
    texts = {"rows": Dataset.from_dict({"text": [SENTENCE, LONG, "cat"]})}
    whole, _ = featurizing.text_features(Wikipedia(), texts, tokenizer, 48, True, True)
    first, (note,) = featurizing.text_features(Wikipedia(), texts, tokenizer, 48, True, False)
    assert len(whole) > 3 and first["example"][:] == [0, 1, 2] and "1 of 3 texts" in note
    plain = tokenizer([SENTENCE, LONG, "cat"], truncation=True, max_length=48)["input_ids"]
    assert first["input_ids"][:] == plain


def test_at_least_one_token_a_batch_is_masked_and_any_of_them(tokenizer):
    mask = trainers.Masking(tokenizer, 1e-9, 0)
    seen = set()
    for length in range(1, 40):
        rows = [tokenizer(" ".join(["dog"] * length)), tokenizer("cat")]
        batch = mask(rows)
        (places,) = [(batch["labels"] != -100).nonzero().tolist()]
        ((row, column),) = places
        assert batch["input_ids"][row, column] == tokenizer.mask_token_id
        assert batch["labels"][row, column] == rows[row]["input_ids"][column] not in tokenizer.all_special_ids
        assert torch.equal(mask(rows)["labels"], batch["labels"])  # a run that is resumed masks the same
        seen.add(row)
    assert seen == {0, 1}


def test_where_chance_masks_something_nothing_more_is(tokenizer):
    rows = [tokenizer(SENTENCE) for _ in range(8)]
    batch = trainers.Masking(tokenizer, 0.15, 0)(rows)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(zlib.crc32(repr([row["input_ids"] for row in rows]).encode()))
        plain = DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.15)(rows)
    assert torch.equal(batch["labels"], plain["labels"]) and torch.equal(batch["input_ids"], plain["input_ids"])


def test_texts_with_a_word_are_found_in_any_order():
    features = Dataset.from_dict({"input_ids": [[0, 2], [0, 7, 2], [], [0, 0, 2], [8]]}).select([4, 3, 2, 1, 0])
    assert featurizing.has_words(features, [0, 2]).tolist() == [True, False, False, True, False]
    assert featurizing.has_words(features.select([]), [0, 2]).tolist() == []


@pytest.mark.parametrize("script", ["run_mlm.py", "run_intermediate.py"])
@pytest.mark.parametrize("head", [True, False])
def test_a_new_head_is_noted(script, head, cli, tiny_model, tiny_world, tmp_path):
    more = [] if script == "run_mlm.py" else ["--tasks", "mnli", "--mlm_rate", 0.5, "--max_eval_samples", 8]
    shutil.copytree(tiny_model, tmp_path / "model")
    if not head:
        load_encoder(str(tiny_model))[0].save_pretrained(tmp_path / "model")
    where = ("--model_name_or_path", tmp_path / "model", "--data_root", tiny_world, "--output_dir", tmp_path / "out")
    done = cli(script, *where, "--text_languages", "en", "--max_train_samples", 20, *more, *FEW, "--max_steps", 2)
    assert done.returncode == 0, done.stderr
    notes = json.loads((tmp_path / "out/results.json").read_text())["notes"]
    assert [note.split(":")[-1].strip() for note in notes if "XLMRobertaForMaskedLM" in note] == (
        [] if head else ["a new head is trained"]
    )


def test_a_tokenizer_that_cannot_mask_is_refused(cli, tiny_model, tiny_world, tmp_path):
    shutil.copytree(tiny_model, tmp_path / "model")
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        if (file := tmp_path / "model" / name).is_file():
            file.write_text(json.dumps({k: v for k, v in json.loads(file.read_text()).items() if k != "mask_token"}))
    for script, more in (("run_mlm.py", []), ("run_intermediate.py", ["--tasks", "mnli", "--mlm_rate", "0.5"])):
        done = cli(
            script,
            *more,
            "--model_name_or_path",
            tmp_path / "model",
            "--data_root",
            tiny_world,
            *FEW,
            "--output_dir",
            tmp_path / script,
        )
        assert done.returncode == 2 and "mask token" in done.stderr.splitlines()[-1], done.stderr


def test_non_finite_held_out_loss_is_reported(mlm, monkeypatch, tmp_path):
    evaluate = trainers.TaskTrainer.evaluate
    monkeypatch.setattr(
        trainers.TaskTrainer, "evaluate", lambda *args, **more: evaluate(*args, **more) | {"eval_loss": math.nan}
    )
    done, record = mlm({"en": [SENTENCE] * 9})
    assert done.returncode == 2 and "held-out" in done.stderr.splitlines()[-1] and record is None
    assert "held-out" in json.loads(Path(tmp_path, "out/failed.json").read_text())["cause"]


@pytest.mark.parametrize(
    "argv, told",
    [
        (["--vocab_size", "1" + "0" * 30], "--vocab_size"),
        (["--vocab_size", "-1"], "--vocab_size"),
        (["--vocab_size", "3"], "pieces"),
    ],
)
def test_impossible_vocabulary_is_refused(argv, told, cli, tiny_world, tmp_path):
    done = cli(
        "run_mlm.py",
        "--config_name",
        "recipes/models/xlmr-tiny.json",
        "--data_root",
        tiny_world,
        *FEW,
        "--output_dir",
        tmp_path,
        *argv,
    )
    assert done.returncode == 2 and told in done.stderr.splitlines()[-1] and "Traceback" not in done.stderr, (
        done.stderr
    )


@pytest.mark.parametrize("temperature", [1e-300, 1e-3, 1.0, 1e300])
def test_probabilities_of_any_temperature_are_numbers(temperature):
    sampler = mixture.MixtureSampler({"one": [1] * 4000, "other": [1] * 8}, 4, 1, None, temperature, 0)
    assert torch.isfinite(sampler.probabilities).all() and float(sampler.probabilities.sum()) == pytest.approx(1)
    assert np.unique([row // 4000 for batch in sampler for row in batch]).tolist() == (
        [0, 1] if temperature >= 1 else [0]
    )


@pytest.mark.parametrize("peft", [None, "lora"])
def test_the_model_is_given_no_argument_of_the_loss(peft, tiny_model, tmp_path):
    """The Trainer would add num_items_in_batch, which not every encoder takes, also below an adapter."""
    model, _ = start.masked_lm(None, 0, ModelArguments(str(tiny_model)), {}, run=None)
    model = lora.wrap(model, PeftArguments(peft=peft))
    args = TrainingArguments(output_dir=str(tmp_path), report_to=[], use_cpu=True)
    assert Trainer(model=model, args=args).model_accepts_loss_kwargs is False
