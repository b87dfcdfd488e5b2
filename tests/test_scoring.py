import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.errors import UserError
from tasks.languages import XTREME_R
from xstilts.xtreme import scoring, submission

ROOT = Path(submission.__file__).parents[2]
MOCK = Path(os.environ.get("XSTILTS_DATA", ROOT.parent / "shared" / "data")) / "xtreme-mock"


def squad(gold):
    questions = [
        {"id": key, "question": "?", "answers": [{"text": text, "answer_start": 0} for text in texts]}
        for key, texts in gold.items()
    ]
    return json.dumps(
        {"version": "1.1", "data": [{"paragraphs": [{"context": "", "qas": questions}]}]}, ensure_ascii=False
    )


# One language of each form, made up: gold, predictions, and the benchmark's score of them, worked out by hand.
TOY = {
    "xnli": ("neutral\nentailment\n", "neutral\nneutral\n", 50.0),
    "udpos": ("DET\nNOUN\n\nVERB\n", "DET\nNOUN\n\nNOUN\n", 200 / 3),  # 2 of 3 spans, found and gold
    "panx": ("B-PER\nI-PER\n\nO\n", "B-PER\nI-PER\n\nO\n", 100.0),
    "xquad": (squad({"q1": ["the river"], "q2": ["big hill"]}), '{"q1": "River", "q2": "hill"}', (50 + 250 / 3) / 2),
    "mlqa": (squad({"q1": ["der Fluss"], "q2": ["Berg"]}), '{"q1": "Fluss.", "q2": "Tal"}', 50.0),
    "tydiqa": (squad({"swahili-1": ["mto"]}), '{"swahili-1": "mto"}', 100.0),
    "bucc2018": ("de-1\ten-1\nde-2\ten-2\n", "de-2\ten-2\n", 200 / 3),
    "tatoeba": ("0\n1\n2\n3\n", "0\n1\n1\n3\n", 75.0),
    "xcopa": ('{"label": 0}\n{"label": 1}\n', '{"label": 0}\n{"label": 1}\n', 100.0),
    "mewslix": ('{"m1": ["Q1"]}', '{"m1": ["Q9", "Q1"]}', 50.0),
    "lareqa": ('{"q1": ["a", "b"]}', '{"q1": ["a", "x", "b"]}', 100 * (1 + 2 / 3) / 2),
}
LANGUAGE = {"tydiqa": "sw", "xcopa": "et"}  # the others: German
SUFFIX = {"xcopa": "jsonl"} | dict.fromkeys(("xquad", "mlqa", "tydiqa", "mewslix", "lareqa"), "json")


def file(folder, kind, task, language=None):
    """Where the benchmark looks for a file."""
    return folder / kind / task / f"test-{language or LANGUAGE.get(task, 'de')}.{SUFFIX.get(task, 'tsv')}"


def write_task(folder, task, languages=(None,)):
    """Writes the toy gold and predictions of a task, in every language given or in its own."""
    for language in languages:
        for kind, text in zip(("labels", "predictions"), TOY[task], strict=False):
            path = file(folder, kind, task, language)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")


def score(folder, benchmark="xtreme-r", found_languages=True):
    return scoring.score(folder / "predictions", folder / "labels", benchmark, found_languages)


# --- the benchmark's own figures

# XTREME_R_GROUP2TASK of evaluate.py at 838c13b
XTREME_R_GROUPS = {
    "classification": ("xnli", "xcopa"),
    "tagging": ("udpos", "panx"),
    "qa": ("xquad", "mlqa", "tydiqa"),
    "retrieval": ("tatoeba", "mewslix"),
    "multi_choice": ("xcopa",),
}


@pytest.fixture(scope="module")
def mock():
    if not MOCK.is_dir():
        pytest.skip(f"the benchmark's mock submission is not at {MOCK} (set XSTILTS_DATA)")
    return MOCK


def leaves(tree, path=()):
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from leaves(value, (*path, key))
    else:
        yield path, tree


def test_every_figure_of_the_benchmarks_report(mock, capsys):
    arguments = ["score", "--predictions", str(mock / "predictions"), "--labels", str(mock / "labels"), "--json"]
    assert submission.main(arguments) == 0
    ours = dict(leaves(json.loads(capsys.readouterr().out)))
    theirs = dict(leaves(json.loads((mock / "scores.json").read_text())))
    assert len(theirs) > 300 and theirs["all_task",] == 62.19326490767729
    for path, value in theirs.items():
        assert ours[path] == pytest.approx(value, abs=1e-9), path


def test_figures_of_the_benchmarks_own_test(mock):
    """evaluate_test.py of google-research/xtreme expects these: UDPOS with the seqeval of 2020 (1.2.2: 70.398)."""
    scores = scoring.score(mock / "predictions", mock / "labels", "xtreme-r", found_languages=True)
    assert scores["udpos"]["avg_whole_tag_f1"] == pytest.approx(70.21746048354693, abs=1e-9)
    assert scores["mewslix"]["avg_metric"] == pytest.approx(14.39025156130419, abs=1e-9)
    assert "all_task" not in scores


# --- toy submissions


@pytest.fixture
def toy(tmp_path):
    for task in TOY:
        write_task(tmp_path, task)
    return tmp_path


def test_each_form_scores_as_worked_out_by_hand(toy):
    scores = score(toy)
    for task in set(TOY) - {"bucc2018"}:
        assert scores[task]["avg_metric"] == pytest.approx(TOY[task][2], abs=1e-9), task


def test_a_byte_order_mark_changes_no_score(toy):
    """The pair of BUCC's first line would count as not found."""
    for path in toy.rglob("test-*"):
        path.write_text(path.read_text(encoding="utf-8"), encoding="utf-8-sig")
    scores = score(toy)
    assert {task: scores[task]["avg_metric"] for task in set(TOY) - {"bucc2018"}} == pytest.approx(
        {task: TOY[task][2] for task in set(TOY) - {"bucc2018"}}, abs=1e-9
    )
    for kind in ("labels", "predictions"):
        file(toy, kind, "bucc2018").write_text("de-1\ten-1\n", encoding="utf-8-sig" if kind == "labels" else "utf-8")
    assert score(toy, "xtreme")["bucc2018"]["avg_metric"] == 100


def test_bucc(tmp_path):
    write_task(tmp_path, "bucc2018")
    figures = score(tmp_path, "xtreme")["bucc2018"]
    assert figures["avg_metric"] == pytest.approx(200 / 3, abs=1e-9)
    assert figures["precision"] == {"de": 100.0} and figures["recall"] == {"de": 50.0}


def test_groups_of_xtreme_r_are_the_benchmarks_and_other_means_have_names_of_their_own(toy):
    scores = score(toy)
    theirs = {group: sum(TOY[task][2] for task in tasks) / len(tasks) for group, tasks in XTREME_R_GROUPS.items()}
    assert {group: scores[group] for group in theirs} == pytest.approx(theirs, abs=1e-9)
    assert "all_task" not in scores  # evaluate.py never gives it: LAReQA has no languages there
    assert scores["ten_tasks"] == pytest.approx(sum(TOY[task][2] for task in XTREME_R) / 10, abs=1e-9)
    assert scores["retrieval_and_lareqa"] == pytest.approx((75 + 50 + TOY["lareqa"][2]) / 3, abs=1e-9)
    for ours in ("ten_tasks", "retrieval_and_lareqa"):
        assert any(note.startswith(ours) and "ours" in note for note in scores["notes"])
    table = scoring.table(scores)
    for group in (*theirs, "ten_tasks", "retrieval_and_lareqa"):
        assert re.search(rf"^{group} +{scores[group]:.2f}$", table, re.MULTILINE)


def test_no_overall_without_every_task(toy):
    for path in (toy / "predictions" / "xcopa").iterdir():
        path.unlink()
    (toy / "predictions" / "xcopa").rmdir()
    scores = score(toy)
    assert "all_task" not in scores and "classification" not in scores and "qa" in scores
    assert any(note.startswith("xcopa: not scored") for note in scores["notes"])


def test_several_languages_are_averaged(tmp_path):
    write_task(tmp_path, "tatoeba", ["de", "qaa"])
    file(tmp_path, "predictions", "tatoeba", "qaa").write_text("0\n1\n2\n3\n")
    figures = score(tmp_path)["tatoeba"]
    assert figures["accuracy"] == {"de": 75.0, "qaa": 100.0} and figures["avg_accuracy"] == 87.5


def test_token_accuracy_and_language_aware_answers_stand_beside(toy):
    scores = score(toy)
    assert scores["udpos"]["avg_accuracy"] == pytest.approx(200 / 3, abs=1e-9)
    assert scores["xquad"]["exact_match_language"] == {"de": 0.0}  # "the" is no German article
    assert scores["xquad"]["exact_match"] == {"de": 50.0}
    assert "f1_language" not in scores["mlqa"]


def test_whole_tags_tell_cconj_from_sconj(toy):
    file(toy, "labels", "udpos").write_text("DET\nCCONJ\n")
    file(toy, "predictions", "udpos").write_text("DET\nSCONJ\n")
    figures = score(toy)["udpos"]
    assert figures["f1"] == {"de": 100.0} and figures["whole_tag_f1"] == {"de": 50.0}
    assert figures["avg_metric"] == 100.0


def test_whole_tags_count_the_tag_of_words_without_one(toy):
    """seqeval 0.0.12 gives 50 here; "_" is a type like any other."""
    file(toy, "labels", "udpos").write_text("NOUN\n_\n")
    file(toy, "predictions", "udpos").write_text("NOUN\nSYM\n")
    assert score(toy)["udpos"]["whole_tag_f1"] == {"de": 50.0}


def test_a_question_without_prediction_scores_zero_and_is_noted(toy):
    file(toy, "predictions", "xquad").write_text('{"q1": "river", "stray": "x"}')
    scores = score(toy)
    assert scores["xquad"]["exact_match"] == {"de": 50.0} and scores["xquad"]["f1"] == {"de": 50.0}
    assert any("1 of 2 ids have no prediction" in note for note in scores["notes"])
    assert any("1 ids are not in the labels" in note for note in scores["notes"])


def test_gold_answers_as_datasets_loads_them(toy):
    path = toy / "labels" / "tydiqa" / "test-sw.json"
    questions = [{"id": "swahili-1", "answers": {"text": ["mto"], "answer_start": [0]}}]
    path.write_text(json.dumps([{"paragraphs": [{"qas": questions}]}]))
    assert score(toy)["tydiqa"]["avg_metric"] == 100.0


def test_unicode_line_breaks_do_not_break_lines(toy):
    answer = "a\u2028b\x85c"
    for kind, text in (
        ("labels", squad({"q1": [answer]})),
        ("predictions", json.dumps({"q1": answer}, ensure_ascii=False)),
    ):
        file(toy, kind, "xquad").write_text(text, encoding="utf-8")
    assert score(toy)["xquad"]["avg_metric"] == 100.0


# --- broken submissions: one line that names the file and the row

BROKEN = [
    ("xnli", "predictions", "neutral\ncontradictory\n", "test-de.tsv: line 2 is 'contradictory'"),
    ("xnli", "predictions", "neutral\n", "test-de.tsv: 1 lines, but .*labels.* has 2"),
    ("xnli", "predictions", "neutral\n\nneutral\n", "test-de.tsv: line 2 is ''"),
    ("xnli", "labels", "neutral\nplaceholder\n", "labels.*test-de.tsv: line 2 is 'placeholder'"),
    ("xnli", "labels", "-1\n-1\n", "labels.*test-de.tsv: line 1 is '-1'"),
    ("xnli", "labels", "", "labels.*test-de.tsv: empty"),
    ("xnli", "predictions", b"neutral\n\xff\n", "test-de.tsv: byte 8 is not UTF-8"),
    ("udpos", "predictions", "DET\nNOUN\n", "test-de.tsv: 1 sentences, but .*labels.* has 2"),
    ("udpos", "predictions", "DET\nNOUN\n\nVERB\nVERB\n", "sentence 2, from line 4, has 2 tags, but 1"),
    ("udpos", "predictions", "DET\nnoun\n\nVERB\n", "test-de.tsv: line 2 is 'noun'"),
    ("udpos", "predictions", "the\tDET\nNOUN\n\nVERB\n", "line 1 is 'the.tDET'"),
    ("panx", "labels", "placeholder\nplaceholder\n\nplaceholder\n", "labels.*test-de.tsv: line 1 is 'placeholder'"),
    ("panx", "labels", "", "labels.*test-de.tsv: empty"),
    ("xquad", "predictions", "{'q1': 1}", "test-de.json: not valid JSON"),
    ("xquad", "predictions", '["river"]', "test-de.json: holds a list"),
    ("xquad", "predictions", '{"q1": 308}', "entry 1, id 'q1', is 308"),
    ("xquad", "predictions", "[" * 10**5, "test-de.json: not valid JSON: nested more than"),
    ("xquad", "predictions", '{"q1": "\\ud800"}', "test-de.json: .* is half a character"),
    (
        "xquad",
        "labels",
        squad({"q1": ["\ud800"]}).encode("utf-8", "backslashreplace"),
        "labels.*test-de.json: .* is half a character",
    ),
    ("xquad", "labels", squad({"q1": [3]}), "labels.*question 1: id 'q1' and answers .3. must be text"),
    (
        "xquad",
        "labels",
        squad({"q1": ["x"]}).replace('"q1"', '["q1"]'),
        "labels.*question 1: id .'q1'. and answers .'x'. must be text",
    ),
    (
        "xquad",
        "labels",
        '[{"paragraphs": [{"qas": [{"id": "q1", "answers": {"text": "abc"}}]}]}]',
        "labels.*answers.text is not a list",
    ),
    ("xquad", "predictions", '{"q1": "a", "q1": "b"}', "'q1' appears twice"),
    ("xquad", "predictions", '{"other": "river"}', "none of the 2 ids"),
    ("mlqa", "labels", squad({"q1": ["x"], "q2": [""]}), "labels.*question 2, id 'q2', has an empty"),
    ("mlqa", "labels", squad({"q1": []}), "labels.*question 1, id 'q1', has an empty placeholder"),
    ("mlqa", "labels", '{"q1": "river"}', "labels.*not in SQuAD's format"),
    ("mlqa", "labels", '{"data": []}', "labels.*empty"),
    ("tatoeba", "predictions", "0\n[1]\n2\n3\n", "line 2 is '.1.'. Write one integer"),
    ("tatoeba", "predictions", "0\n" + "1" * 5000 + "\n2\n3\n", "line 2 is '1+[.]+1+'. Write one integer"),
    ("tatoeba", "labels", "0\n" + "1" * 400 + "\n2\n3\n", "labels.*line 2 is '1+[.]+1+'. Write one integer"),
    ("tatoeba", "predictions", "0\n1\n2\n", "3 lines, but .*labels.* has 4"),
    ("tatoeba", "predictions", "0\n1.0\n2\n3\n", "line 2 is '1.0'"),
    ("tatoeba", "predictions", "0\n\n2\n3\n", "line 2 is ''"),
    ("tatoeba", "labels", "0\n1\n-1\n3\n", "labels.*line 3 is -1, a placeholder"),
    ("xcopa", "predictions", '{"label": 0}\n{"label": "1"}\n', "line 2 is .*Write"),
    ("xcopa", "predictions", '{"label": 0}\n1\n', "line 2 is '1'"),
    ("xcopa", "predictions", '{"label": 0}\n{label: 1}\n', "line 2: not valid JSON"),
    ("xcopa", "predictions", '{"label": 0}\n', "1 lines, but .*labels.* has 2"),
    ("xcopa", "labels", '{"label": 0}\n{"label": -1}\n', "labels.*line 2 is"),
    ("mewslix", "predictions", '{"m1": "Q1"}', "entry 1, id 'm1', is 'Q1'. Give a list"),
    ("mewslix", "predictions", '{"m1": [1]}', r"entry 1, id 'm1', is \[1\]"),
    ("mewslix", "predictions", '{"m2": ["Q1"]}', "none of the 1 ids"),
    ("mewslix", "predictions", "", "not valid JSON"),
    ("lareqa", "labels", '{"q1": []}', "labels.*entry 1, id 'q1', has no gold id"),
    ("lareqa", "labels", "{}", "labels.*empty"),
    ("bucc2018", "predictions", "de-1 en-1\n", "line 1 is 'de-1 en-1'. Write two ids"),
    ("bucc2018", "predictions", "de-1\ten-1\nde-2\n", "line 2 is 'de-2'"),
    ("bucc2018", "predictions", "de-1\ten-1\t0.9\n", "line 1 is"),
    ("bucc2018", "predictions", "de-1\ten-1\n\nde-2\ten-2\n", "line 2 is ''"),
    ("bucc2018", "labels", "", "labels.*empty"),
]


@pytest.mark.parametrize("task, kind, content, message", BROKEN)
def test_broken_file_is_one_line_that_names_it(tmp_path, capsys, task, kind, content, message):
    write_task(tmp_path, task)
    path = file(tmp_path, kind, task)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    benchmark = "xtreme" if task == "bucc2018" else "xtreme-r"
    with pytest.raises(UserError, match=message):
        score(tmp_path, benchmark)
    folders = ["--predictions", str(tmp_path / "predictions"), "--labels", str(tmp_path / "labels")]
    assert submission.main(["score", *folders, "--benchmark", benchmark, "--found_languages"]) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.startswith("error: ") and shown.err.count("\n") == 1
    assert path.name in shown.err


def test_no_found_pairs_are_a_score_of_zero(tmp_path):
    write_task(tmp_path, "bucc2018")
    file(tmp_path, "predictions", "bucc2018").write_text("")
    assert score(tmp_path, "xtreme")["bucc2018"]["avg_metric"] == 0.0


def test_every_language_of_the_benchmark_must_be_there(tmp_path):
    write_task(tmp_path, "tatoeba", XTREME_R["tatoeba"])
    assert score(tmp_path, found_languages=False)["tatoeba"]["avg_metric"] == 75.0
    file(tmp_path, "predictions", "tatoeba", "sw").unlink()
    with pytest.raises(UserError, match="predictions.tatoeba.test-sw.tsv: no such file"):
        score(tmp_path, found_languages=False)
    with pytest.raises(UserError, match="predictions.tatoeba.test-sw.tsv: no such file"):
        score(tmp_path)


def test_folders_that_are_not_there_or_hold_no_task(tmp_path):
    with pytest.raises(UserError, match="No folder .*predictions"):
        score(tmp_path)
    (tmp_path / "predictions" / "xnly").mkdir(parents=True)
    (tmp_path / "labels").mkdir()
    with pytest.raises(UserError, match="No task of xtreme-r"):
        score(tmp_path)


def test_a_language_by_another_name(tmp_path):
    write_task(tmp_path, "tatoeba", ["deu"])
    with pytest.raises(UserError, match="'deu' is called 'de' here"):
        score(tmp_path)


# --- the command line


def test_table_for_people(toy, capsys):
    folders = ["--predictions", str(toy / "predictions"), "--labels", str(toy / "labels")]
    assert submission.main(["score", *folders, "--benchmark", "xtreme-r", "--found_languages"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.split()[:2] == ["tatoeba", "75.00"] for line in lines)
    assert any(line.split() == ["accuracy:", "de", "75.0"] for line in lines)
    assert any(line.startswith("ten_tasks") for line in lines)
    assert any(line.startswith("note: ten_tasks") and "ours" in line for line in lines)


@pytest.mark.parametrize("arguments, status", [("--help", 0), ("--predictions nowhere --labels nowhere", 2)])
def test_help_and_errors_load_nothing_heavy(arguments, status):
    code = (
        "import sys; from xstilts.xtreme import submission\n"
        "try: status = submission.main(['score', *sys.argv[1:]])\n"
        "except SystemExit as end: status = end.code\n"
        "print(status, sorted({'evaluate', 'datasets', 'transformers', 'torch', 'pandas'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code, *arguments.split()]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == f"{status} []", done.stderr
