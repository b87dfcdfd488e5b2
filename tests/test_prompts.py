"""Prompts when measuring: given, stored in a sentence-transformers folder, written down; equal to
SentenceTransformer's own vectors."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from xstilts.errors import UserError
from xstilts.retrieve import prompts
from xstilts.retrieve.embedding import Encoder
from xstilts.retrieve.measure import embedder, prompted


@pytest.fixture
def model(tiny_model, tmp_path) -> Path:
    """A checkpoint that is a sentence-transformers folder with prompts too."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    transformer = Transformer(str(tiny_model))
    SentenceTransformer(
        modules=[transformer, Pooling(32)], device="cpu", prompts={"query": "query: ", "document": "passage: "}
    ).save(str(tmp_path / "st"))
    return tmp_path / "st"


@pytest.mark.parametrize(
    "given, found",
    [
        ((None, None), {"query": "query: ", "passage": "passage: "}),
        (("", ""), {"query": "", "passage": ""}),
        (("q ", None), {"query": "q ", "passage": "passage: "}),
    ],
)
def test_given_prompts_win_over_stored_ones(given, found, model):
    assert prompts.resolve(*given, str(model)) == found


def test_a_plain_checkpoint_has_none(tiny_model):
    assert prompts.resolve(None, None, str(tiny_model)) == {"query": "", "passage": ""}


def test_vectors_are_those_of_sentence_transformers(model):
    from sentence_transformers import SentenceTransformer

    texts = ["ab ba", "some more words", "x"]
    embed = embedder(Encoder.load(str(model)), None, prompts.resolve(None, None, str(model)))
    theirs = SentenceTransformer(str(model), device="cpu")
    for side, name in (("query", "query"), ("passage", "document")):
        ours = next(iter(embed(prompted(embed, side, texts), "test").values()))
        np.testing.assert_allclose(ours, theirs.encode(texts, prompt_name=name), atol=1e-5)


@pytest.mark.parametrize(
    "config, message", [({"prompts": ["query: "]}, "expected {name: text}"), ([], "expected an object")]
)
def test_damaged_prompts_are_refused(config, message, model):
    (model / prompts.FILE).write_text(json.dumps(config))
    with pytest.raises(UserError, match=message):
        prompts.resolve(None, None, str(model))


def test_a_prompt_outside_the_mean_is_refused(model):
    (model / "1_Pooling/config.json").write_text(json.dumps({"include_prompt": False}))
    with pytest.raises(UserError, match="include_prompt"):
        prompts.resolve(None, None, str(model))
    assert prompts.resolve("", "", str(model)) == {"query": "", "passage": ""}


def test_a_measurement_says_its_prompts_and_depends_on_them(model, cli, tiny_world, tmp_path):
    def measure(name, *more):
        done = cli(
            "run_retrieval.py",
            "--tasks",
            "tatoeba",
            "--model_name_or_path",
            model,
            "--data_root",
            tiny_world,
            "--output_dir",
            tmp_path / name,
            "--max_eval_samples",
            "20",
            "--cache_dir",
            tmp_path / "cache",
            *more,
        )
        assert done.returncode == 0, done.stderr
        return json.loads((tmp_path / name / "tatoeba/results.json").read_text())

    stored, none, same = (
        measure("stored"),
        measure("none", "--query_prompt", "", "--passage_prompt", ""),
        measure("same", "--query_prompt", "query: ", "--passage_prompt", "passage: "),
    )
    assert stored["settings"]["query_prompt"] == "query: " and "query_prompt" not in none["settings"]
    assert stored["scores"] == same["scores"]
    assert len(list((tmp_path / "cache").glob("*.npy"))) == 4  # two languages, with and without: no vectors mixed up
    shutil.rmtree(tmp_path / "cache")
