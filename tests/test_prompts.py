"""Prompts when measuring: given, stored in a sentence-transformers folder, written down; equal to
SentenceTransformer's own vectors."""

import json
import shlex
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tasks.errors import UserError
from xstilts.cli.arguments import RetrievalArguments
from xstilts.retrieve import encoder_folder, prompts
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


@pytest.mark.parametrize("folder", ["1_Pooling", "pool"])
def test_a_prompt_outside_the_mean_is_refused(folder, model):
    """The pooling lies where modules.json says."""
    if folder != "1_Pooling":
        (model / "1_Pooling").rename(model / folder)
        modules = (model / "modules.json").read_text()
        (model / "modules.json").write_text(modules.replace("1_Pooling", folder))
    (model / folder / "config.json").write_text(json.dumps({"include_prompt": False}))
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


# ---- pooling, layer and length of such a folder ---------------------------------------------------------------------


def library_model(tiny_model, folder, mode="cls", layer=None):
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    from xstilts.checkpoint.layers import hidden_state

    transformer = Transformer(str(tiny_model))
    if layer is not None:
        transformer.modality_config = hidden_state(layer)
    SentenceTransformer(modules=[transformer, Pooling(32, pooling_mode=mode)], device="cpu").save(str(folder))
    return folder


def settled(name, *, pooling=None, **options):
    retrieval = RetrievalArguments(tasks=["tatoeba"], pooling=pooling, **options)
    folder = encoder_folder.settle(retrieval, str(name))
    return retrieval.pooling, folder.notes(retrieval, 2, 128)


def test_pooling_of_a_folder_is_that_of_the_library(tiny_model, tmp_path):
    from sentence_transformers import SentenceTransformer

    folder = library_model(tiny_model, tmp_path / "st", "cls")
    pooling, notes = settled(folder)
    assert pooling == "cls" and len(notes) == 1 and "cls" in notes[0]
    ours = Encoder.load(str(folder), pooling=pooling).embed(["ab ba", "some more words"])[2]
    theirs = SentenceTransformer(str(folder), device="cpu").encode(["ab ba", "some more words"])
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    pooling, notes = settled(folder, pooling="mean")
    assert pooling == "mean" and len(notes) == 1 and "cls" in notes[0]


def test_pooling_of_other_folders_is_the_mean(tiny_model, tmp_path):
    assert settled(tiny_model) == ("mean", []) == settled(library_model(tiny_model, tmp_path / "st", "mean"))


@pytest.mark.parametrize(
    "config, pooling",
    [
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "cls"),
        ({"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}, "mean"),
        ({"word_embedding_dimension": 32}, "mean"),
        ({"pooling_mode": ["cls"]}, "cls"),
        ({"pooling_mode": "lasttoken"}, None),
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True}, None),
        ({"pooling_mode": 3}, None),
        ({"pooling_mode": ["cls", 3]}, None),
    ],
)
def test_pooling_configs_of_all_versions(config, pooling, tiny_model, tmp_path):
    folder = library_model(tiny_model, tmp_path / "st")
    (folder / "1_Pooling/config.json").write_text(json.dumps(config))
    if pooling:
        assert settled(folder)[0] == pooling
    else:
        with pytest.raises(UserError, match="pool"):
            settled(folder)


def test_special_tokens_are_left_out_of_a_mean_alone(tiny_model, tmp_path):
    with pytest.raises(UserError, match="--no_include_special goes with --pooling mean"):
        settled(library_model(tiny_model, tmp_path / "st"), include_special=False)


@pytest.mark.parametrize(
    "text", ["{}", "[1]", '[{"type": 1, "path": ""}]', "[", '[{"type": "x.Pooling", "path": null}]']
)
def test_damaged_modules_are_refused(text, tiny_model, tmp_path):
    folder = library_model(tiny_model, tmp_path / "st")
    (folder / "modules.json").write_text(text)
    with pytest.raises(UserError, match="modules.json"):
        settled(folder)


def test_what_is_not_measured_like_the_library_is_noted(tiny_model, tmp_path):
    folder = library_model(tiny_model, tmp_path / "st", "mean", layer=1)
    assert "layer 1" in settled(folder)[1][0] and "layer 1" in settled(folder, layer="all")[1][0]
    assert settled(folder, layer="1")[1] == settled(folder, layer="all", report_layer=1)[1] == []
    modules = json.loads((folder / "modules.json").read_text())
    (folder / "modules.json").write_text(json.dumps([*modules, {"type": "a.Dense", "path": "2_Dense"}]))
    config = json.loads((folder / "sentence_bert_config.json").read_text()) | {"max_seq_length": 64}
    (folder / "sentence_bert_config.json").write_text(json.dumps(config))
    notes = settled(folder, layer="1")[1]
    assert len(notes) == 2 and "--max_seq_length 64" in notes[0] and "Dense" in notes[1]


def test_a_dual_encoder_is_measured_with_the_pooling_it_was_trained_with(
    tiny_model, tiny_world, cli, tmp_path, caplog
):
    """The prompts of its folder were taken, its pooling was not, and no line said so."""
    caplog.set_level("INFO")
    common = ["--data_root", tiny_world, "--max_eval_samples", "20"]
    trained = cli(
        "run_intermediate.py",
        *[*common, "--tasks", "squad_dual", "--model_name_or_path", tiny_model, "--output_dir", tmp_path / "dual"],
        *["--pooling", "cls", "--layer", "1", "--query_prompt", "q ", "--max_steps", "2", "--bf16", "false"],
        *["--per_device_train_batch_size", "8", "--max_seq_length", "48"],
    )
    assert trained.returncode == 0, trained.stderr

    def measure(name, *more):
        where = ["--model_name_or_path", tmp_path / "dual", "--output_dir", tmp_path / name, "--tasks", "tatoeba"]
        done = cli("run_retrieval.py", *common, *where, *more)
        assert done.returncode == 0, done.stderr
        return json.loads((tmp_path / name / "tatoeba/results.json").read_text())

    own, same, mean = measure("own"), measure("same", "--pooling", "cls"), measure("mean", "--pooling", "mean")
    assert own["pooling"] == own["settings"]["pooling"] == "cls" and mean["pooling"] == "mean"
    assert own["scores"] == same["scores"] != mean["scores"]
    assert own["settings"] == same["settings"]
    told = [note for note in own["notes"] if "pooling" in note or "layer 1" in note]
    assert len(told) == 2 and all(note in caplog.text for note in told)


@pytest.mark.parametrize("stored", [True, False])
def test_a_matrix_wants_the_pooling_and_prompts_of_a_plain_model_typed(
    stored, model, tiny_model, tiny_world, cli, tmp_path, monkeypatch
):
    """The other arms' checkpoints have neither, so arm `none` alone would be measured with them."""
    monkeypatch.setenv("XSTILTS_MATRIX", "1")
    name = model if stored else library_model(tiny_model, tmp_path / "cls")

    def measure(*more):
        where = ["--model_name_or_path", name, "--data_root", tiny_world, "--output_dir", tmp_path / "out"]
        return cli("run_retrieval.py", *where, "--tasks", "tatoeba", "--max_eval_samples", "20", *more)

    wanted = "--query_prompt 'query: ' --passage_prompt 'passage: '" if stored else "--pooling cls"
    done = measure("--plain_model")
    assert done.returncode == 2 and wanted in done.stderr
    for more in (["--plain_model", *shlex.split(wanted)], [f"--arm={tmp_path.name}"]):  # another arm's own are its own
        assert measure(*more).returncode == 0
        shutil.rmtree(tmp_path / "out")


def test_a_hub_that_does_not_answer_is_not_taken_for_a_model_without_prompts(monkeypatch):
    """The library raises the same error as for a file that is not in the cache."""
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    def silent(*args, **kwargs):
        raise LocalEntryNotFoundError("no connection")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", silent)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    with pytest.raises(UserError, match="could not be fetched from the Hub .*Give --pooling"):
        settled("me/encoder")
    with pytest.raises(UserError, match="Give --query_prompt and --passage_prompt"):
        prompts.resolve(None, None, "me/encoder")
    assert settled("me/encoder", pooling="cls") == ("cls", [])  # nothing is asked
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    mode, notes = settled("me/encoder")
    assert mode == "mean" and len(notes) == 1 and "modules.json of me/encoder" in notes[0]


def test_of_several_prompts_for_passages_the_librarys_counts(model):
    from sentence_transformers import SentenceTransformer

    (model / prompts.FILE).write_text(json.dumps({"prompts": {"passage": "p: ", "document": "d: "}}))
    theirs = SentenceTransformer(str(model), device="cpu")
    ours = prompts.resolve(None, None, str(model))["passage"]
    np.testing.assert_allclose(theirs.encode([ours + "ab ba"]), theirs.encode_document(["ab ba"]), atol=1e-6)
    for own in ({"document": "", "passage": "p: "}, {"corpus": "p: "}):
        (model / prompts.FILE).write_text(json.dumps({"prompts": own}))
        assert prompts.resolve(None, None, str(model))["passage"] == "p: "


def test_lower_case_that_only_the_library_makes_is_said(model):
    file = model / "sentence_bert_config.json"
    assert not encoder_folder.read(str(model)).lower
    file.write_text(json.dumps((json.loads(file.read_text()) if file.exists() else {}) | {"do_lower_case": True}))
    found = encoder_folder.read(str(model))
    notes = found.notes(SimpleNamespace(pooling="mean", layer="last", report_layer=None, select_on=None), 2, 128)
    assert any("do_lower_case" in note for note in notes)
