"""No argument is ignored in silence: it is honoured, refused before the work, or noted in results.json and
logged."""

import importlib
from dataclasses import fields
from pathlib import Path

import pytest
import records as saved

import tasks
from xstilts.cli import arguments, unused
from xstilts.cli.arguments import (
    ArmArguments,
    ChangeArguments,
    DataArguments,
    DualEncoderArguments,
    FamilyArguments,
    MeasurementArguments,
    MixtureArguments,
    ModelArguments,
    PairArguments,
    PeftArguments,
    RetrievalArguments,
    RunArguments,
    TextArguments,
    VectorArguments,
)

ONE = ["--tasks", "mnli"]
TWO = ["--tasks", "hellaswag", "csqa"]
DUAL = ["--tasks", "squad_dual"]
ALIAS = ["--do_train", "--train_tasks", "squad_dual"]
SWITCH = ["--code_switch", "bilingual", "--lexicon", "LEXICON"]
EXPORT = ["--export_sentence_transformers", "OUT/encoder"]
# (script, what else is given, the argument that does nothing there, with a value)
REFUSED = [
    ("run_intermediate.py", ONE, ["--temperature", "2"]),
    ("run_intermediate.py", ONE, ["--examples_cap", "5"]),
    ("run_intermediate.py", [*ONE, "--mlm_rate", "0.5"], ["--temperature", "2"]),
    ("run_intermediate.py", ["--tasks", "mnli", "mnli"], ["--temperature", "2"]),
    ("run_intermediate.py", ONE, ["--mlm_probability", "0.3"]),
    ("run_intermediate.py", ONE, ["--text_languages", "en"]),
    ("run_intermediate.py", ONE, ["--text_of", "mnli"]),
    ("run_intermediate.py", ONE, ["--languages", "en"]),
    ("run_intermediate.py", ONE, ["--alpha", "0.2"]),
    ("run_intermediate.py", [*ONE, "--language_mode", "cross", "--train_languages", "en", "qaa"], ["--alpha", "0.2"]),
    ("run_intermediate.py", [*TWO, "--train_languages", "en", "qaa"], ["--language_mode", "multilingual"]),
    ("run_intermediate.py", ["--tasks", "csqa", "--train_languages", "en", "qaa"], ["--language_mode", "cross"]),
    ("run_intermediate.py", [*ONE, "--train_languages", "en", "qaa"], ["--number_of_languages", "4"]),
    *(
        ("run_intermediate.py", ONE, more)
        for more in (
            ["--switch_probability", "0.3"],
            ["--switch_languages", "qaa"],
            ["--switch_treebank"],
            ["--skip_identities"],
            ["--lora_rank", "4"],
            ["--lora_alpha", "4"],
            ["--lora_targets", "query"],
            ["--lora_dropout", "0.2"],
            ["--hub_model_id", "me/it"],
            ["--hub_private_repo"],
        )
    ),
    ("run_intermediate.py", [*ONE, *SWITCH], ["--switch_languages", "en"]),
    ("run_target.py", ["--task", "xnli"], ["--hub_model_id", "me/it"]),
    ("run_target.py", ["--task", "xnli"], ["--hub_private_repo"]),
    ("run_target.py", ["--task", "xnli"], ["--splits", "anli_plus.train=validation"]),
    ("run_mlm.py", [], ["--vocab_size", "300"]),
    ("run_mlm.py", [], ["--lora_rank", "4"]),
    ("run_mlm.py", [], ["--languages", "en"]),
    ("run_mlm.py", ["--config_name", "SIZES"], ["--model_revision", "old"]),
    ("run_mlm.py", ["--config_name", "SIZES"], ["--attn_implementation", "eager"]),
    *(
        ("run_intermediate.py", DUAL, more)
        for more in (
            ["--alpha", "0.2"],
            ["--switch_side", "query"],
            ["--switch_probability", "0.3"],
            ["--splits", "squad_dual.train=validation"],
            ["--splits", "nli_dual.dev=validation"],
            ["--languages", "en"],
            ["--temperature", "2"],
            ["--examples_cap", "5"],
            ["--mlm_rate", "0.5"],
            ["--mlm_probability", "0.3"],
            ["--text_of", "mnli"],
            ["--peft", "lora"],
            ["--lora_rank", "4"],
        )
    ),
    ("run_intermediate.py", [*DUAL, *SWITCH, "--switch_languages", "qaa", "qab"], ["--switch_side", "query"]),
    *(
        ("run_intermediate.py", ONE, more)
        for more in (
            ["--layer", "1"],
            ["--pooling", "cls"],
            ["--scale", "10"],
            ["--cached_loss_mini_batch", "4"],
            ["--switch_side", "query"],
            ["--query_prompt", "x"],
            ["--passage_prompt", "x"],
        )
    ),
    ("run_retrieval.py", ALIAS, ["--batch_languages", "cross"]),
    *(
        ("run_retrieval.py", ALIAS, more)
        for more in (
            ["--csls", "2"],
            ["--center", "language"],
            ["--query_side", "foreign"],
            ["--margin", "distance"],
            ["--mining", "forward"],
            ["--dtype", "bf16"],
            ["--cache_dir", "OUT/c"],
            ["--index", "Flat"],
            ["--nprobe", "4"],
            ["--index_candidates", "4"],
            ["--candidate_text", "sentence_context"],
            ["--languages", "en"],
            ["--plain_model"],
            ["--report_layer", "1"],
            ["--pairs", "all"],
        )
    ),
    *(
        ("run_retrieval.py", ["--tasks", "tatoeba"], more)
        for more in (
            ["--scale", "10"],
            ["--train_tasks", "squad_dual"],
            ["--batch_languages", "cross"],
            ["--cached_loss_mini_batch", "4"],
            ["--switch_side", "query"],
            ["--shuffle_labels"],
            ["--alpha", "0.2"],
            ["--lexicon", "LEXICON"],
            ["--match_roundtrip"],
            ["--train_languages", "en"],
            ["--translations", "LEXICON"],
            ["--freeze_embeddings"],
            ["--nprobe", "4"],
            ["--report_layer", "1"],
            ["--hub_model_id", "me/it"],
            ["--pairs", "all"],
        )
    ),
    *(
        ("run_retrieval.py", EXPORT, more)
        for more in (
            ["--csls", "2"],
            ["--dtype", "bf16"],
            ["--margin", "distance"],
            ["--cache_dir", "OUT/c"],
            ["--max_eval_samples", "4"],
            ["--languages", "qaa"],
            ["--data_root", "hub2"],
            ["--pairs", "all"],
            ["--arm", "x"],
            ["--seed", "1"],
            ["--plain_model"],
            ["--push_to_hub", "--hub_model_id", "me/it"],
        )
    ),
    ("xstilts.translate", ["--languages", "qaa"], ["--back_model", "MODEL"]),
    ("xstilts.translate", ["--languages", "qaa"], ["--model_revision", "old"]),
    ("xstilts.translate", ["--languages", "qaa"], ["--language_codes", "qab=x"]),
]


@pytest.fixture
def place(tmp_path, tiny_world, tiny_model):
    """`place(words)`: them with the tests' own paths in place of names in capitals."""
    paths = {
        "LEXICON": tiny_world / "bilingual-lexicons__world",
        "SIZES": Path("recipes/models/xlmr-tiny.json").absolute(),
        "MODEL": tiny_model,
        "WORLD": tiny_world,
    }

    def named(words):
        return [str(paths.get(word, word)).replace("OUT", str(tmp_path)) for word in words]

    return named


@pytest.mark.parametrize(
    "script, given, needless", REFUSED, ids=lambda value: "_".join(value) if isinstance(value, list) else value
)
def test_what_would_do_nothing_is_refused_before_the_work(script, given, needless, place, cli, tmp_path, monkeypatch):
    monkeypatch.chdir(Path(arguments.__file__).parents[2])
    model = (
        []
        if "--config_name" in given
        else ["--model" if script == "xstilts.translate" else "--model_name_or_path", "MODEL"]
    )
    rows = [] if given == EXPORT else ["--data_root", "WORLD"]
    if script == "xstilts.translate":
        rows += ["--task", "xnli", "--output_root", "OUT/run"]
    elif given != EXPORT:
        rows += ["--output_dir", "OUT/run"]
    done = cli(script, *place([*given, *model, *rows, *needless]))
    said = done.stderr.strip().splitlines()
    assert (
        done.returncode == 2 and len(said) == 1 and said[0].startswith(f"{script}: error: ") and needless[0] in said[0]
    ), done.stderr
    assert not list(tmp_path.iterdir())


FEW = ["--max_train_samples", "8", "--max_eval_samples", "4", "--max_steps", "1", "--per_device_train_batch_size", "4"]
# the world's rows that are the same in every language
PARTS = (("train", "[:6]"), ("dev", "[6:]"))
XQUAD = [f"{name}.{split}=validation{part}" for name in ("xquad", "xquad_dual") for split, part in PARTS]
FAMILY = ["--lexicon", "LEXICON", "--translations", "OUT/translations"]
# (script, its words, the arguments its results.json says do nothing: {name: its value}, what it must not say so of)
NOTED = {
    "mining": (
        "run_retrieval.py",
        ["--tasks", "bucc"],
        [
            "--center",
            "language",
            "--csls",
            "2",
            "--query_side",
            "foreign",
            "--candidate_text",
            "sentence_context",
            "--max_eval_samples",
            "4",
            "--max_train_samples",
            "4",
            "--benchmark",
            "xtreme-r",
            "--model_revision",
            "old",
        ],
        ["--margin", "distance"],
    ),
    "retrieval": (
        "run_retrieval.py",
        ["--tasks", "tatoeba"],
        ["--margin", "distance", "--mining", "forward", "--max_train_samples", "4"],
        ["--center", "language", "--csls", "2", "--query_side", "foreign", "--max_eval_samples", "4"],
    ),
    "ranking": (
        "run_retrieval.py",
        ["--tasks", "lareqa"],
        ["--margin", "distance", "--query_side", "foreign"],
        ["--candidate_text", "sentence_context", "--csls", "2"],
    ),
    "target": (
        "run_target.py",
        ["--task", "xnli", *FEW],
        ["--model_revision", "old", "--benchmark", "xtreme-r"],
        ["--languages", "en"],
    ),
    "phase 2": (
        "run_intermediate.py",
        ["--tasks", "csqa", *FEW],
        [*FAMILY, "--match_roundtrip", "--model_revision", "old"],
        ["--freeze_embeddings"],
    ),
    "LoRA": (
        "run_intermediate.py",
        [*ONE, *FEW, "--peft", "lora"],
        ["--freeze_embeddings", *FAMILY],
        ["--lora_rank", "2"],
    ),
    "text": (
        "run_mlm.py",
        ["--text_languages", "en", *FEW],
        [*FAMILY, "--match_roundtrip", "--train_languages", "qaa"],
        [],
    ),
    "text of rows": (
        "run_mlm.py",
        ["--text_of", "xquad", "--text_languages", "en", *FEW],
        FAMILY,
        ["--train_languages", "en", "qaa"],
    ),
    "dual": (
        "run_intermediate.py",
        ["--tasks", "xquad_dual", *FEW],
        FAMILY,
        ["--train_languages", "en", "qaa"],
    ),
}


def flags(words):
    return [word for word in words if word.startswith("--")]


@pytest.mark.parametrize("run", NOTED)
def test_what_make_gives_to_many_runs_is_noted_where_it_does_nothing(run, place, cli, tmp_path, caplog):
    caplog.set_level("INFO", "xstilts")
    script, given, needless, needed = NOTED[run]
    (tmp_path / "translations").mkdir()
    asked = ["--model_name_or_path", "MODEL", "--data_root", "WORLD", "--output_dir", "OUT/run"]
    asked += ["--splits", "rte.train=validation", *XQUAD]
    done = cli(script, *place([*given, *needless, *needed, *asked]))
    assert done.returncode == 0, done.stderr
    (path,) = tmp_path.glob("run/**/results.json")
    notes = [note for note in saved.read(path)["notes"] if "nothing here" in note]
    assert all(any(flag in note for note in notes) for flag in flags(needless)), notes
    assert not any(flag in note.partition(":")[0] for flag in flags(needed) for note in notes), notes
    assert all(note in caplog.text for note in notes) and "not read here: rte.train" in caplog.text


OTHER_SEARCH = {"center": "language", "csls": 2, "query_side": "foreign", "pairs": "all", "margin": "distance"}
OTHER_SEARCH |= {"mining": "forward", "index": "Flat", "candidate_text": "sentence_context"}


@pytest.mark.parametrize("name", tasks.RETRIEVAL)
def test_every_search_option_is_noted_by_the_tasks_that_do_not_use_it(name):
    used = set(tasks.get_task(name).search_options)
    assert used <= set(OTHER_SEARCH), "an option without a value here"
    given = RetrievalArguments(**OTHER_SEARCH)
    noted = " ".join(unused.of_measurement(tasks.get_task(name), given, DataArguments()))
    assert {option for option in OTHER_SEARCH if f"--{option} " in noted} == set(OTHER_SEARCH) - used


def test_what_the_layer_is_chosen_by_is_not_said_to_do_nothing():
    """BUCC takes its whole pools, and the rows that --select_on names do not."""
    bucc, data = tasks.get_task("bucc"), DataArguments(max_eval_samples=5)
    given = {"layer": "all", "query_side": "foreign", "pairs": "all"}
    assert len(unused.of_measurement(bucc, RetrievalArguments(**given), data)) == 2
    (left,) = unused.of_measurement(bucc, RetrievalArguments(**given, select_on="tatoeba:de"), data)
    assert "--pairs" in left and "query_side" not in left
    assert unused.without_effect(bucc, "hub", "tatoeba:de").keys() == unused.BESIDE_SELECTION


def test_translations_that_are_read_are_not_said_to_do_nothing():
    from types import SimpleNamespace

    from xstilts.cli import unused

    family = FamilyArguments(translations="mt")
    assert unused.of_translations(family, SimpleNamespace(records=[{"translated_by": "me/mt"}, {}])) == []
    assert len(unused.of_translations(family, SimpleNamespace(records=[{}]))) == 1


# What becomes of every argument: a new one has to be put somewhere. "used" are those that change any run of the script
# that takes them, or say where and as what it runs; all others stand in REFUSED or NOTED, where they do nothing.
USED = {
    ModelArguments: "model_name_or_path",
    RunArguments: "output_dir arm seed push_to_hub list_tasks",
    DataArguments: "data_root max_seq_length",
    FamilyArguments: "",
    ChangeArguments: "code_switch",
    ArmArguments: "",
    TextArguments: "",
    PeftArguments: "peft",
    MeasurementArguments: "",
    RetrievalArguments: "tasks layer pooling include_special select_on export_sentence_transformers",
    PairArguments: "",
    VectorArguments: "",
    MixtureArguments: "tasks",
    DualEncoderArguments: "do_train code_switch",
}
USED_BY = {"run_target": "task keep_checkpoint", "run_mlm": "config_name"}


def test_every_argument_has_a_place_in_these_tables():
    tried = {flag.removeprefix("--") for _, _, words in REFUSED for flag in flags(words)}
    tried |= {flag.removeprefix("--") for _, _, words, _ in NOTED.values() for flag in flags(words)}
    for kind, names in USED.items():
        assert {f.name for f in fields(kind)} - {
            f.name for base in kind.__bases__ if base in USED for f in fields(base)
        } <= tried | set(names.split()), kind
    for script, names in USED_BY.items():
        module = importlib.import_module(script)
        (own,) = [kind for kind in vars(module).values() if isinstance(kind, type) and kind.__module__ == script]
        assert {f.name for f in fields(own)} <= tried | set(names.split()), script


@pytest.mark.parametrize(
    "words",
    [
        ["--noise", "0.2"],
        ["--translate", "x", "--seed", "1"],
        ["--translate", "x", "--size", "0.1"],
        ["--baseline", "x", "--languages", "3"],
        ["--baseline", "x", "--force"],
    ],
)
def test_the_worlds_command_refuses_what_does_nothing(words, capsys, tmp_path, monkeypatch):
    from world.__main__ import main

    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as leave:
        main(words)
    assert leave.value.code == 2 and "changes nothing" in capsys.readouterr().err and not list(tmp_path.iterdir())
