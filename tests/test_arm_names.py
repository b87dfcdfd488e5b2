"""An arm's name, `base[+modifier]*`: every name in recipes and docs is an arm, and impossible combinations are
refused at once."""

import re
import subprocess
import sys

import pytest
import records
import yaml
from conftest import ROOT
from test_chain import make

import tasks
from tasks import get_task
from tasks.errors import UserError
from tasks.pairs import PAIRS
from xstilts.cli import arms, user_files
from xstilts.cli.arguments import ArmArguments, DataArguments, RetrievalArguments, TextArguments
from xstilts.cli.parsing import parse
from xstilts.report.spec import read_spec

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "benchmarks").glob("*.md"))]
PRESETS = sorted((ROOT / "recipes" / "presets").glob("*.mk"))
FILES = sorted([*(ROOT / arms.ARMS).glob("*.yaml"), *(ROOT / arms.MODIFIERS).glob("*.yaml")])


@pytest.fixture(autouse=True)
def here(monkeypatch):
    monkeypatch.chdir(ROOT)


def values_of(parsed_by, name):
    arm = arms.read_arm(name)
    return {"script": arm.script} | {k: v for k, v in parsed_by(arm.script, list(arm.words)).items() if k != "config"}


# ---- every name that is used ----------------------------------------------------------------------------------------


def named():
    """(where, arm) of the presets, questions, claims and pages."""
    for path in PRESETS:
        text = path.read_text().replace("\\\n", " ")
        for line in re.findall(r"^(?:ARMS \?=|#.*ARMS=\")([^\"\n]*)", text, re.M):
            yield from ((path.name, arm) for arm in line.split())
        yield from ((path.name, arm) for arm in re.findall(r"^ARGS_(\w+\+[\w+]+)", text, re.M))
    for path in sorted((ROOT / "recipes" / "question").glob("*.yaml")):
        yield from ((path.name, arm) for arm in read_spec(path).arms)
    for path in sorted((ROOT / "recipes" / "claims").glob("*.yaml")):
        for claim in yaml.safe_load(path.read_text())["claims"].values():
            yield from ((path.name, arm) for arm in (*claim["arms"], *claim.get("against", ())))
    for path in PAGES:
        text = path.read_text()
        found = [line.split() for line in re.findall(r"ARMS=\"([\w+ ]*)\"", text)] + [
            re.findall(r"`([a-z]\w*(?:\+[a-z]\w*)+)`", text)
        ]
        # scitail: the task that a reader of add-a-task.md adds
        yield from ((path.name, arm) for names in found for arm in names if arm != "scitail")


def test_every_arm_that_is_named_is_one(parsed_by):
    found = sorted(set(named()))
    assert len({arm for _, arm in found}) > 40
    assert {where for where, _ in found} >= {"question.mk", "world.yaml", "x-stilts.yaml", "arms.md"}
    for where, arm in found:
        if arm not in (arms.PLAIN, "..."):
            assert values_of(parsed_by, arm)["script"], (where, arm)


@pytest.mark.parametrize(
    "base",
    ["all", "mlm", "mlm_en", "mlm_squad", "squad_dual", "paraphrase_dual", "squad", "xnli", "sib200", "panx", "csqa"],
)
def test_what_a_name_may_be_its_script_takes(base, parsed_by):
    """Every modifier that is not refused changes what it says and nothing else, and is taken by the base's script."""
    plain = values_of(parsed_by, base)
    modes = {"language_mode"}
    keys = {
        "codeswitched_paper": {"code_switch", "switch_languages", "switch_treebank"},
        "codeswitched": {"code_switch"},
        "shuffled": {"shuffle_labels"},
        "mlm": {"mlm_rate"},
        "lora": {"peft"},
        "tokens": set(),
        "multilingual": modes | {"text_languages"},
        "hybrid_paper": modes | {"query_prompt", "passage_prompt"},
        **dict.fromkeys(("languages4", "languages16", "languages64"), modes | {"number_of_languages"}),
    }
    able = []
    for modifier in arms.modifiers():
        try:
            found = values_of(parsed_by, f"{base}+{modifier}")
        except UserError:
            continue
        able.append(modifier)
        differ = {key for key in found if found[key] != plain[key]}
        assert differ <= keys.get(modifier, modes) and bool(differ) == (modifier != "tokens"), modifier
    assert able


def test_multilingual_means_the_same_of_every_form(parsed_by):
    """Each text in one of the family's languages: a row's, a batch's, masked LM's."""
    assert values_of(parsed_by, "xnli+multilingual")["language_mode"] == "multilingual"
    assert values_of(parsed_by, "squad_dual+multilingual")["language_mode"] == "multilingual"
    assert values_of(parsed_by, "mlm_squad")["text_languages"] == ["en"]
    assert values_of(parsed_by, "mlm_squad+multilingual")["text_languages"] == []  # --train_languages
    assert values_of(parsed_by, "mlm_en+multilingual") == values_of(parsed_by, "mlm")
    english = values_of(parsed_by, "mlm_en")
    for name, task in arms.OF_TEXT.items():
        assert values_of(parsed_by, name) == english | {"text_of": task}


# ---- what a combination cannot mean ---------------------------------------------------------------------------------

REFUSED = [
    ("sqaud", "Did you mean squad?"),
    ("Squad", "Did you mean squad?"),
    ("sqaud+mlm", "sqaud is unknown. Did you mean squad?"),
    ("squad+multilingal", "Did you mean multilingual?"),
    ("squad+", "is not a modifier"),
    ("+mlm", "is unknown"),
    ("", "is unknown"),
    ("squad+squad", "is not a modifier"),
    ("none", "trains nothing"),
    ("none+mlm", "trains nothing"),
    ("tatoeba", "Give RETRIEVAL=tatoeba"),
    ("mlm+codeswitched", "run_mlm.py"),
    ("mlm_squad+cross", "run_mlm.py"),
    ("mlm_panx", "mlm_panx is unknown"),
    ("mlm_tatoeba", "mlm_tatoeba is unknown"),
    ("mlm_mnli+multilingual", "mnli has English train rows only"),
    ("mlm+shuffled", "run_mlm.py"),
    ("mlm+mlm", "run_mlm.py"),
    ("mlm_en+translated", "run_mlm.py"),
    ("mlm+multilingual", "text_languages"),
    ("squad_dual+lora", "squad_dual trains a dual encoder"),
    ("squad_dual+mlm", "squad_dual trains a dual encoder"),
    ("squad_dual+roundtrip", "squad_dual trains a dual encoder"),
    ("xnli_dual+translated", "xnli_dual trains a dual encoder"),
    ("paraphrase_dual+lora", "nli_dual trains a dual encoder"),
    ("squad+hybrid_paper", "squad trains a head"),
    ("nli_dual+multilingual", "nli_dual has English train rows only"),
    ("xnli_dul", "Did you mean xnli_dual?"),
    ("mnli+multilingual", "mnli has English train rows only"),
    ("squad_v2+languages4", "English train rows only"),
    ("paraphrase_dual+multilingual", "nli_dual has English train rows only"),
    ("paraphrase_dual+cross", "nli_dual"),
    ("mlqa+translated", "mlqa"),
    ("panx+translated", "panx"),
    ("tydiqa+cross", "tydiqa"),
    ("sib200+cross", "one text a row"),
    ("sib200+hybrid", "one text a row"),
    ("panx+codeswitched", "panx"),
    ("ccg+codeswitched", "ccg"),
    ("squad+multilingual+cross", "both set language_mode"),
    ("xnli+codeswitched+multilingual", "both set language_mode"),
    ("xnli+mlm+translated+hybrid", "both set language_mode"),
    ("squad_dual+codeswitched+cross", "both set language_mode"),
    ("xnli+tokens+multilingual", "both set language_mode"),
    ("xnli+codeswitched+codeswitched_paper", "both set"),
    ("squad+mlm+mlm", "given twice"),
]


REFUSED += [
    (name, name.partition("+")[0]) for name in re.findall(r"`ARMS=([\w+]+)`", (ROOT / "docs" / "arms.md").read_text())
]


@pytest.mark.parametrize("name, told", REFUSED)
def test_impossible_combination_is_refused(name, told):
    with pytest.raises(UserError) as caught:
        arms.read_arm(name)
    assert told in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "asked, told",
    [
        (["ARMS=squad+multilingual+cross"], "ARMS: squad+multilingual+cross: "),
        (["ARMS=mlm+codeswitched"], "ARMS: mlm+codeswitched: "),
        (["ARMS=squad+mlm+lora squad+lora+mlm"], "squad+mlm+lora and squad+lora+mlm are the same arm"),
        (["ARGS_sib200+cross=--max_steps 1"], "ARGS_sib200+cross="),
        (["FAMILY_squad+mlm=x"], "Did you mean FAMILY_squad?"),
    ],
)
def test_make_refuses_it_before_anything_is_built(asked, told, tmp_path):
    done = make("matrix", f"OUT={tmp_path}/runs", f"DATA_ROOT={tmp_path}/world", *asked)
    assert done.returncode == 2 and done.stdout == "" and not list(tmp_path.iterdir())
    (line,) = done.stderr.splitlines()
    assert told in line


def test_make_needs_no_file_of_a_combination(tmp_path):
    asked = ["-n", "matrix", "MODEL=m", f"OUT={tmp_path}", "WORLD_ARGS=", "TARGETS=", "RETRIEVAL="]
    text = make(*asked, "ARMS=xnli+translated+mlm+lora ccg", "ARGS_xnli+translated+mlm+lora=--max_steps 7").stdout
    files = " ".join(f"{arms.MODIFIERS}/{name}.yaml" for name in ("translated", "mlm", "lora"))
    assert f"run_intermediate.py --tasks xnli --config {files} --model_name_or_path m " in text
    assert "--arm xnli+translated+mlm+lora " in text and "--max_steps 7" in text
    assert "run_intermediate.py --tasks ccg --model_name_or_path" in text


@pytest.mark.parametrize(
    "file, again",
    [
        ("arms/squad_dual", ["squad_dual+cross"]),
        ("modifiers/cross", ["squad_dual+cross"]),
        ("modifiers/mlm", ["squad+mlm+lora"]),
        ("modifiers/lora", ["squad+mlm+lora"]),
        ("modifiers/shuffled", []),
    ],
)
def test_an_arm_is_trained_again_when_a_file_of_its_name_changes(file, again, tmp_path):
    trained = ["squad_dual+cross", "squad+mlm+lora", "squad"]
    asked = [
        "-n",
        "matrix",
        "MODEL=m",
        f"OUT={tmp_path}",
        "WORLD_ARGS=",
        "TARGETS=",
        "RETRIEVAL=",
        "SEEDS=0",
        f"ARMS={' '.join(trained)}",
    ]
    assert len(records.write_all(make(*asked).stdout)) == 3
    assert re.findall(r"--arm (\S+)", make(*asked).stdout) == []
    assert re.findall(r"--arm (\S+)", make(*asked, "-W", f"recipes/{file}.yaml").stdout) == again


# ---- before there is an environment ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command", [["recipes/check.py", "--help"], ["-m", "tasks", "--names"], ["-c", "import xstilts.cli.arms"]]
)
def test_what_make_asks_needs_no_package(command):
    done = subprocess.run(
        [sys.executable, "-S", *(["-I"] if command[0].endswith(".py") else []), *command],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "kind, names",
    [("all", list(tasks.TASKS)), ("targets", list(tasks.TARGETS))],
)
def test_the_registry_says_its_names(kind, names):
    done = subprocess.run([sys.executable, "-m", "tasks", "--names", kind], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.split() == names


def test_lists_for_make_equal_the_classes():
    able = {name: get_task(name) for name in tasks.TASKS if get_task(name).auto_class}
    assert tasks.PAIR_NAMES == tuple(PAIRS)
    both = able | {name: cls() for name, cls in PAIRS.items()}
    for kind, names in (("parallel", tasks.PARALLEL), ("native", tasks.NATIVE)):
        assert set(names) == {name for name, task in both.items() if task.other_languages == kind}
    assert set(tasks.ONE_TEXT) == {name for name, task in able.items() if len(task.fields) < 2}
    assert set(tasks.TAGGED) == {name for name, task in able.items() if task.form == "tagging"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_recipe_is_read_alike_without_yaml(path):
    recipe, whole = arms.read_recipe(path), user_files.read_yaml(path, "--config")
    sections = {key: value for key, value in whole.items() if isinstance(value, dict)}
    flat = {key: value for key, value in whole.items() if key not in sections}
    assert {**recipe.about, **recipe.arguments.get("", {})}.keys() == flat.keys() and set(recipe.arguments) - {
        ""
    } == sections.keys()
    for script, values in (
        sections or {"": {key: value for key, value in flat.items() if key not in arms.ABOUT}}
    ).items():
        for key, text in recipe.arguments[script].items():
            said = values[key]
            assert (
                arms.words_of(text)
                if isinstance(said, list)
                else yaml.safe_load(text)
                if said is None
                else text.strip('"')
            ) == said
    assert set(arms.words_of(recipe.about.get("needs", ""))) <= set(arms.NEEDS)


@pytest.mark.parametrize(
    "text, told",
    [
        ("tasks:\n  - squad\n", "line 2"),
        ("tasks: [squad]\ntasks: [mnli]\n", "line 2: tasks is given twice"),
        ("tasks\n", "line 1"),
        ("run_mlm.py:\n  peft: lora\nmlm_rate: 0.5\n", "mlm_rate belongs to no script"),
        ("a: b  # c\n", "a line of its own"),
        ("script: rm -r\n", "expected the name of a .py file"),
        (b"\xff: 1\n", "not valid UTF-8"),
    ],
)
def test_a_recipe_that_cannot_be_read_is_refused_with_its_line(text, told, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError, match=re.escape(told)) as caught:
        arms.read_recipe(path)
    assert "mine.yaml" in str(caught.value)


def test_file_name_with_a_plus_is_not_a_base(tmp_path, monkeypatch):
    (tmp_path / "squad+mine.yaml").write_text("tasks: [squad]\n")
    monkeypatch.setattr(arms, "ARMS", tmp_path)
    with pytest.raises(UserError, match=r"squad\+mine.yaml"):
        arms.read_arm("mnli")


# ---- layers of --config ---------------------------------------------------------------------------------------------


def layered(tmp_path, *texts, argv=(), script="run_intermediate.py"):
    paths = []
    for number, text in enumerate(texts):
        paths.append(str(tmp_path / f"layer{number}.yaml"))
        (tmp_path / f"layer{number}.yaml").write_text(text)
    kinds = (RetrievalArguments,) if script == "run_retrieval.py" else (ArmArguments, TextArguments)
    (one, *more), rest = parse(["--config", *paths, *argv], script, "A script.", *kinds, DataArguments)
    return {name: value for kind in (one, *more) for name, value in vars(kind).items()}, rest


def test_a_later_file_wins_and_then_the_command_line(tmp_path):
    texts = (
        "alpha: 0.1\nlearning_rate: 1e-3\nsplits: [a.train=b]\n",
        "alpha: 0.2\nlearning-rate: 2e-3\n",
        "language-mode: hybrid\n",
    )
    values, rest = layered(tmp_path, *texts)
    assert (values["alpha"], values["language_mode"], values["splits"], rest) == (
        0.2,
        "hybrid",
        ["a.train=b"],
        ["--learning_rate=2e-3"],
    )
    assert layered(tmp_path, *texts, argv=["--alpha", "0.3"])[0]["alpha"] == 0.3


def test_null_takes_the_value_of_an_earlier_file_away(tmp_path):
    values, rest = layered(
        tmp_path, "text_languages: [en]\nlearning_rate: 1\n", "text-languages: null\nlearning_rate: null\n"
    )
    assert values["text_languages"] == [] and rest == []
    with pytest.raises(UserError, match=r"layer1.yaml: text_languages has no value"):
        layered(tmp_path, "alpha: 0.1\n", "text_languages: null\n")


def test_a_script_takes_its_own_lines_of_a_file(tmp_path):
    text = "run_intermediate.py:\n  language_mode: cross\nrun_retrieval.py:\n  pooling: cls\n"
    assert layered(tmp_path, text)[0]["language_mode"] == "cross"
    assert layered(tmp_path, text, script="run_retrieval.py")[0]["pooling"] == "cls"
    with pytest.raises(
        UserError, match=r"layer0.yaml has nothing for run_mlm.py; it goes with run_intermediate.py, run_retrieval.py"
    ):
        layered(tmp_path, text, script="run_mlm.py")
    with pytest.raises(UserError, match=r"layer0.yaml: alpha belongs to no script"):
        layered(tmp_path, text + "alpha: 0.1\n")
    with pytest.raises(UserError, match=r"layer0.yaml: expected indented"):
        layered(tmp_path, "run_intermediate.py: x\n")


def test_an_error_names_the_file_it_is_in(tmp_path):
    with pytest.raises(UserError, match=r"layer1.yaml: .*alpha"):
        layered(tmp_path, "alpha: 0.1\n", "alpha: half\n")


@pytest.mark.parametrize(
    "name, told",
    [
        ("squad", "Give --tasks squad"),
        ("squad+cross", "Give --tasks squad --config recipes/modifiers/cross.yaml"),
        ("squad_dual+cross", "Give --config recipes/arms/squad_dual.yaml recipes/modifiers/cross.yaml"),
        ("helaswag", "Did you mean hellaswag"),
    ],
)
def test_a_file_that_is_not_there_but_is_an_arm_says_what_to_type(name, told):
    with pytest.raises(UserError, match="no such file") as caught:
        parse(["--config", f"recipes/arms/{name}.yaml"], "run_intermediate.py", "A script.", ArmArguments)
    assert told in str(caught.value)
