"""Rows that are trained on are not scored: in one run, and after a checkpoint that was trained on them."""

import json
import shutil

import pytest
import records
from test_rows import QA

from tasks import get_task, overlap
from tasks.errors import UserError
from tasks.pairs import get_pairs
from tasks.rows import Rows
from xstilts.run import leakage

NLI = [{"premise": f"a man number {i} walks", "hypothesis": f"somebody {i} moves", "label": i % 3} for i in range(10)]
WORDS = [{"tokens": ["cats", f"number{i}"], "ner_tags": [0, 1 + i % 2], "langs": ["x", "x"]} for i in range(10)]


@pytest.fixture
def folder(tmp_path):
    """XNLI's test rows in English and German, PAN-X's in both, and an English copy of XNLI's under another name."""
    for config in ("en", "de"):
        for where, rows in (
            (f"facebook__xnli/{config}/test", NLI),
            (f"google__xtreme/PAN-X.{config}/test", WORDS),
        ):
            path = tmp_path / f"{where}.jsonl"
            path.parent.mkdir(parents=True)
            path.write_text("".join(json.dumps(row | {"at": config}) + "\n" for row in rows))
    shutil.copy(tmp_path / "facebook__xnli/en/test.jsonl", tmp_path / "facebook__xnli/en/copy.jsonl")
    return tmp_path


def read(folder, splits, *loads, of="xnli"):
    rows = Rows(folder, [f"{of}.{split}" for split in splits])
    for split, language in loads:
        get_task(of).load(split, language, rows)
    return rows


@pytest.mark.parametrize(
    "splits, scored, shared",
    [
        (["train=test[:60%]", "dev=test[40%:]"], ("dev", "en"), 2),
        (["train=test[:7]", "test=test[50%:]"], ("test", "en"), 2),
        (["train=test", "test=test[9:]"], ("test", "en"), 1),
        (["train=test[-3:]"], ("test", "de"), 3),  # XNLI's languages are translations, row by row
        (["train=test[:4]+test[6:]", "test=test[5:7]"], ("test", "de"), 1),
        (["train=copy", "test=test[:5]"], ("test", "en"), 5),
        (["train=copy", "test=test[:5]"], ("test", "de"), 0),  # of a file of another name nothing is known
        (["train=test[:50%]", "dev=test[50%:]"], ("dev", "en"), 0),
        (["train=test[:4]", "test=test[4:]"], ("test", "de"), 0),
    ],
)
@pytest.mark.parametrize("first", ["train", "scored"])
def test_no_row_is_trained_on_and_scored(folder, splits, scored, shared, first):
    order = [("train", "en"), scored][:: 1 if first == "train" else -1]
    if not shared:
        read(folder, splits, *order)
        return
    with pytest.raises(UserError) as caught:
        read(folder, splits, *order)
    told, rows = str(caught.value), "1 row" if shared == 1 else f"{shared} rows"
    assert f"xnli.train and xnli.{scored[0]} share {rows} of facebook/xnli" in told
    # what it says to type, of one split, is accepted
    typed = [word.strip(".,") for word in told.split() if word.startswith("xnli.") and "=" in word]
    read(folder, [word.removeprefix("xnli.").replace("SPLIT", "test") for word in typed], *order)


PAWS = [{"id": i, "sentence1": f"a {i}", "sentence2": f"b {i}", "label": i % 2} for i in range(20)]


@pytest.mark.parametrize(
    "german, shared",
    [(PAWS, 0), (PAWS[2:], 4), (PAWS[::-1], 4), ([row | {"id": float(row["id"])} for row in PAWS], 0)],
    ids=["the same", "two rows lost", "in another order", "ids as 1.0"],
)
def test_rows_of_the_same_number_are_translations_only_if_their_ids_say_so(german, shared, tmp_path):
    """google/xtreme's PAWS-X lacks rows in some languages."""
    for code, rows in (("en", PAWS), ("de", german)):
        write(tmp_path / f"google-research-datasets__paws-x/{code}/train.jsonl", rows)
    order = ["train=train[:16]", "dev=train[16:]"], ("dev", "en"), ("train", "de")
    if not shared:
        read(tmp_path, *order, of="pawsx")
        return
    with pytest.raises(
        UserError, match=f"pawsx.train and pawsx.dev may share up to {shared} rows .* in the same order"
    ):
        read(tmp_path, *order, of="pawsx")


def test_a_split_of_the_hub_has_ids_that_a_file_is_read_without():
    def record(order, use, first):
        place = {"id": "tau/commonsense_qa", "config": "default", "split": "train[:50%]", "sha256": order}
        return place | {"first": first, "rows": 50, "order": order, "used_as": [use]}

    hub, file = record("0123456789abcdef", "csqa.train en", 0), record("100 rows", "csqa.dev en", 50)
    assert list(overlap.shared([hub], [file], ("train", ("dev",)))) == []
    assert [found.rows for found in overlap.shared([hub], [file | {"first": 40}], ("train", ("dev",)))] == [10]


@pytest.mark.parametrize(
    "splits, shared",
    [
        (["train=train", "dev=train-00001-of-00002"], 5),
        (["train=train-00000-of-00002", "dev=train[:2]"], 2),
        (["train=train-00000-of-00002+train"], 5),
        (["train=train-00000-of-00002", "dev=train-00001-of-00002"], 0),
    ],
)
def test_a_file_that_a_split_is_cut_into_holds_rows_of_the_split(splits, shared, tmp_path):
    folder = tmp_path / "facebook__xnli/en"
    for name, rows in (("train", NLI), ("train-00000-of-00002", NLI[:5]), ("train-00001-of-00002", NLI[5:])):
        write(folder / f"{name}.jsonl", rows)
    order = [("train", "en"), *([("dev", "en")] if len(splits) > 1 else [])]
    if not shared:
        read(tmp_path, splits, *order)
        return
    with pytest.raises(UserError, match=f"{shared} rows"):
        read(tmp_path, splits, *order)


def test_languages_that_are_no_translations_share_nothing(folder):
    splits = ["train=test"]
    read(folder, splits, ("train", "en"), ("test", "de"), of="panx")
    with pytest.raises(UserError, match=r"panx.train and panx.test share 10 rows of google/xtreme \(PAN-X.en, test\)"):
        read(folder, splits, ("train", "en"), ("test", "en"), of="panx")


def test_tasks_that_share_a_hub_id_share_no_rows():
    """google/xtreme has many data sets, whose splits are all called the same."""

    def record(config, use):
        place = {"id": "google/xtreme", "config": config, "split": "validation", "revision": "0"}
        return place | {"first": 0, "rows": 9, "used_as": [use]}

    def common(one, other):
        return [found.rows for found in overlap.shared([one], [other], ("train", ("test",)))]

    questions = record("XQuAD.en", "xquad_dual.train en")
    assert common(questions, record("MLQA.en.en", "mlqa.test en")) == []
    assert common(questions, record("XQuAD.de", "xquad.test de")) == [9]
    assert common({k: v for k, v in questions.items() if k != "used_as"}, record("XQuAD.de", "xquad.test de")) == []


def test_a_part_that_is_joined_to_itself_is_refused(folder):
    with pytest.raises(
        UserError, match=r"xnli.test has 2 rows twice, of facebook/xnli \(en, test\[:6\] and test\[4:\]\)"
    ):
        read(folder, ["test=test[:6]+test[4:]"], ("test", "en"))
    with pytest.raises(UserError, match="xnli.train has 10 rows"):
        read(folder, ["train=test+copy"], ("train", "en"))


def checkpoint(folder, rows, parent="m"):
    """A checkpoint's results.json, trained on what `rows` has read."""
    folder.mkdir()
    records.write(folder / "results.json", records.small("intermediate", model=str(parent), data=rows.records))
    return folder


def test_a_checkpoint_that_was_trained_on_test_rows_is_not_scored_on_them(folder):
    one = checkpoint(folder / "one", read(folder, ["train=test[:6]"], ("train", "en")))
    two = checkpoint(folder / "two", read(folder, ["train=test[:6]"], ("train", "en"), of="panx"), parent=one)
    with pytest.raises(
        UserError, match=rf"xnli: 2 rows of test were trained on by {one}: .*en, test\[:6\].*de, test\[4:\]"
    ):
        leakage.check_rows(read(folder, ["test=test[4:]"], ("test", "de")), str(two))
    assert leakage.check_rows(read(folder, ["test=test[6:]"], ("test", "de")), str(two)) == []
    assert leakage.check_rows(read(folder, ["train=test[:6]"], ("train", "en")), str(two)) == []
    assert leakage.check_rows(read(folder, [], ("test", "de")), "a/hub-id") == []


def test_dev_rows_that_were_trained_on_or_are_test_rows_are_noted(folder):
    one = checkpoint(folder / "one", read(folder, ["train=test[:6]"], ("train", "en")))
    rows = read(folder, ["dev=test[4:8]", "test=test[6:]"], ("dev", "en"), ("test", "en"), ("test", "de"))
    where = "facebook/xnli (en, test"
    assert leakage.check_rows(rows, "m") == [f"xnli: 2 rows of dev in test too: {where}[4:8] and test[6:])"]
    rows = read(folder, ["dev=test[4:8]"], ("dev", "en"))
    assert leakage.check_rows(rows, str(one)) == [
        f"xnli: 2 rows of dev were trained on by {one}: {where}[:6] and test[4:8])"
    ]


def test_the_default_splits_of_the_world_share_nothing(tiny_world):
    """Nor do those of TyDiQA, XCOPA and XQuAD, whose dev and test are known to overlap, give a note."""
    from tasks import TASKS

    for name in TASKS:
        task, rows = get_task(name), Rows(tiny_world)
        if not task.auto_class or not any("test" in source.splits for source in task.sources):
            continue
        for split in ("train", "dev"):
            if name != "belebele":  # has no train rows of its own
                task.load(split, "en", rows)
        for language in task.languages(rows):
            task.load("test", language, rows)
        assert leakage.check_rows(rows, "m") == [], name


def test_what_lareqa_searches_is_not_trained_on(folder):
    write(folder / "google__xquad/xquad.en/validation.jsonl", QA[3:])
    rows, task = Rows(folder, ["xquad_dual.train=validation"]), get_task("lareqa")
    get_pairs("xquad_dual").load("train", "en", rows)
    assert rows.records[0]["used_as"] == ["xquad_dual.train en"]
    with pytest.raises(UserError, match=r"lareqa: .*one was trained on google/xquad \(xquad.en, validation\)"):
        leakage.check_sentences(task, str(checkpoint(folder / "one", rows)))
    rows = Rows(folder)
    get_task("xquad").load("test", "en", rows)
    leakage.check_sentences(task, str(checkpoint(folder / "two", rows)))


@pytest.mark.parametrize(
    "script, task", [("run_target.py", ["--task", "xnli"]), ("run_retrieval.py", ["--tasks", "tatoeba"])]
)
def test_the_scripts_refuse_it_before_work_starts(script, task, cli, tiny_model, tiny_world, tmp_path):
    model, rows = tmp_path / "runs/arm/seed0", Rows(tiny_world)
    shutil.copytree(tiny_model, model)
    language = get_task(task[1]).languages(rows)[-1]
    get_task(task[1]).load("test", language, rows)
    trained = [record | {"used_as": [f"{task[1]}.train {language}"]} for record in rows.records]
    records.write(model / "results.json", records.small("intermediate", arm="arm", data=trained))
    out = model / (task[1] if script == "run_target.py" else "")
    done = cli(script, *task, "--model_name_or_path", model, "--data_root", tiny_world, "--output_dir", out)
    assert done.returncode == 2 and f"{trained[0]['rows']} rows of test were trained on by {model}" in done.stderr
    assert not list((model / task[1]).glob("*.json"))


# ---- rows of other places -------------------------------------------------------------------------------------------


def write(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_translations_may_come_from_another_hub_id_of_the_task(tmp_path):
    write(tmp_path / "google__xquad/xquad.en/validation.jsonl", QA)
    write(tmp_path / "google__xtreme/XQuAD.de/validation.jsonl", QA[::-1])
    splits = ["train=validation[:3]", "dev=validation[3:]"]
    with pytest.raises(UserError, match=r"up to 3 rows of google/xquad .* and google/xtreme \(XQuAD.de, validation\)"):
        read(tmp_path, splits, ("train", "en"), ("test", "de"), of="xquad")


def test_in_a_file_sorted_by_language_translations_have_other_numbers(tmp_path):
    rows = [
        {"language": code, "sentence1": f"{row['premise']} {code}", "sentence2": code, "gold_label": "neutral"}
        for code in ("en", "de")
        for row in NLI
    ]
    write(tmp_path / "google__xtreme/XNLI/validation.jsonl", rows)
    splits = ["train=validation[:50%]", "test=validation[50%:]"]
    with pytest.raises(UserError, match="xnli.train and xnli.test share 10 rows"):
        read(tmp_path, splits, ("train", "en"), ("test", "de"))
    splits = ["train=validation[:4]", "dev=validation[4:10]"]
    read(tmp_path, splits, ("train", "en"), ("dev", "en"))


def test_xquad_is_not_scored_after_squads_dev(tmp_path):
    """XQuAD's questions are from there: of rows with other ids and in other files, no number tells."""
    write(tmp_path / "rajpurkar__squad/plain_text/validation.jsonl", QA)
    write(tmp_path / "google__xquad/xquad.de/validation.jsonl", QA[:2])
    rows = Rows(tmp_path, ["squad.train=validation[:3]", "squad.dev=validation[3:]"])
    for split in ("train", "dev"):
        get_task("xquad").load(split, "en", rows)
    leakage.check_rows(rows, "m")
    trained = checkpoint(tmp_path / "trained", rows)
    for name in ("xquad", "lareqa"):
        with pytest.raises(UserError, match=rf"{name}: .*trained on rajpurkar/squad \(plain_text, validation\[:3\]\)"):
            leakage.check_sentences(get_task(name), str(trained))
    get_task("xquad").load("test", "de", rows)
    with pytest.raises(UserError, match=r"xquad: rajpurkar/squad \(plain_text, validation\[:3\]\) is trained on"):
        leakage.check_rows(rows, "m")
    # nor is it said to cut that split
    with pytest.raises(UserError) as caught:
        get_task("squad").load("train", "en", Rows(tmp_path))
    assert "--splits" not in str(caught.value)


@pytest.mark.parametrize("split, refused", [("test", True), ("train", False)])
def test_flores_is_not_scored_after_belebeles_passages(split, refused, tmp_path):
    """They are of FLORES. Its train rows, which a user adds, are of other collections."""
    columns = get_task("belebele").columns
    row = dict(zip(columns, ("A cat. It sat.", "Who sat?", "a cat", "a dog", "a man", "nobody", "1"), strict=True))
    write(tmp_path / f"facebook__belebele/deu_Latn/{split}.jsonl", [row] * 4)
    rows = Rows(tmp_path, [f"belebele.train={split}"])
    get_task("belebele").load("train", "de", rows)
    trained = str(checkpoint(tmp_path / "trained", rows))
    if not refused:
        return leakage.check_sentences(get_task("flores"), trained)
    with pytest.raises(UserError, match=r"flores: .* was trained on facebook/belebele \(deu_Latn, test\)"):
        leakage.check_sentences(get_task("flores"), trained)


def test_a_record_that_does_not_say_what_rows_were_for(tmp_path):
    """A target xquad of an earlier version was trained on SQuAD, and scored on XQuAD."""
    (tmp_path / "old").mkdir()
    data = [{"id": "google/xquad", "config": "xquad.en", "split": "validation", "rows": 3, "revision": "0"}]
    records.write(tmp_path / "old/results.json", records.small(task="xquad", form="span", data=data))
    leakage.check_sentences(get_task("lareqa"), str(tmp_path / "old"))
    assert leakage.check_rows(Rows(tmp_path), str(tmp_path / "old")) == []


def test_a_parent_that_is_gone_is_noted(folder):
    one = checkpoint(folder / "one", Rows(folder))
    two = checkpoint(folder / "two", Rows(folder), parent=one)
    values = records.small("intermediate", model=str(two), parents=["m", str(one), str(two)])
    (folder / "three").mkdir()
    records.write(folder / "three/results.json", values)
    assert leakage.check_rows(Rows(folder), str(folder / "three")) == []
    shutil.rmtree(two)
    (note,) = leakage.check_rows(Rows(folder), str(folder / "three"))
    assert note == f"it is not known what {two} was trained on: its results.json is not there"
