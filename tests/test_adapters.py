"""The traps of each data set, one test each, on a few made-up rows."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset

from tasks import TARGETS, TASKS, get_task
from tasks.errors import UserError
from tasks.languages import BENCHMARKS
from tasks.rows import Rows
from tasks.source import Source


@pytest.fixture
def load(tmp_path):
    """`load(task, split, language, files, splits=...)` writes {path: rows} as JSON Lines and loads -> (examples,
    records)."""

    def go(name, split, language, files, splits=(), benchmark="xtreme"):
        for where, rows in files.items():
            path = tmp_path / f"{where}.jsonl"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
        rows = Rows(tmp_path, splits)
        return get_task(name, benchmark).load(split, language, rows), rows.records

    return go


@pytest.fixture
def hub(monkeypatch):
    """`hub(rows)` stands in for the Hub: every id holds these rows. Returns the list of what was asked for."""
    asked = []

    def install(rows):
        from tasks import hub

        def load(source, config, split, revision, cut=""):
            asked.append({"id": source, "config": config, "split": split, "revision": revision})
            return Dataset.from_list(rows), revision or "c0ffee" + "0" * 34

        def load_file(url, split, cut=""):
            asked.append({"url": url})
            return Dataset.from_list(rows)

        monkeypatch.setattr(hub, "load", load)
        monkeypatch.setattr(hub, "load_file", load_file)
        return asked

    return install


def featurize(task, examples, tokenizer, max_length=128, train=True):
    return Dataset.from_dict(task.featurize(examples[:], list(range(len(examples))), tokenizer, max_length, train))


def nli(label, premise="a man walks", hypothesis="somebody moves"):
    return {"premise": premise, "hypothesis": hypothesis, "label": label}


def qa(context, text, start, count=itertools.count()):  # noqa: B008 - ids that never repeat
    return {
        "id": f"q{next(count)}",
        "title": "",
        "context": context,
        "question": "what?",
        "answers": {"text": text, "answer_start": start},
    }


# ---- registry -------------------------------------------------------------------------------------------------------


def test_targets_are_the_trained_tasks_of_the_benchmarks():
    reported = {name for tasks in BENCHMARKS.values() for name in tasks}
    assert list(TARGETS) == [n for n in TASKS if get_task(n).auto_class and get_task(n).languages_in in reported]


# ---- sentence pairs -------------------------------------------------------------------------------------------------


def test_snli_pairs_without_gold_are_dropped_and_counted(load):
    files = {"stanfordnlp__snli/plain_text/train": [nli(0), nli(-1), nli(2), nli(-1)]}
    examples, (record,) = load("snli", "train", "en", files)
    assert examples["label"][:] == [0, 2]
    assert record["rows"] == 4 and record["notes"] == ["2 rows without gold dropped"]


@pytest.mark.parametrize("name, path", [("mnli", "nyu-mll__glue/mnli/train"), ("xnli", "facebook__xnli/en/train")])
def test_hidden_gold_is_refused_where_it_means_a_test_file(load, name, path):
    with pytest.raises(UserError, match="row 2, column 'label': -1"):
        load(name, "train", "en", {path: [nli(0), nli(-1)]})


def test_anli_takes_its_three_rounds_together(load):
    files = {f"facebook__anli/plain_text/train_r{r}": [nli(r - 1, premise=f"round {r}")] * r for r in (1, 2, 3)}
    examples, records = load("anli", "train", "en", files)
    assert examples["text_a"][:] == ["round 1"] + ["round 2"] * 2 + ["round 3"] * 3
    assert [(r["split"], r["rows"]) for r in records] == [("train_r1", 1), ("train_r2", 2), ("train_r3", 3)]


def test_anli_plus_is_its_parts_shuffled_with_one_label_order(load):
    files = {f"facebook__anli/plain_text/train_r{r}": [nli(r - 1)] for r in (1, 2, 3)}
    files["nyu-mll__glue/mnli/train"] = [{**nli("neutral"), "id": i} for i in range(40)]  # names, an id in one part
    files["stanfordnlp__snli/plain_text/train"] = [nli(2)] * 40 + [nli(-1)]
    examples, records = load("anli_plus", "train", "en", files)
    assert sorted(examples["label"]) == [0] + [1] * 41 + [2] * 41
    assert {1, 2} <= set(examples["label"][:10]), "the first rows must not all be of one part"
    assert [r["rows"] for r in records] == [1, 1, 1, 40, 41]
    again, _ = load("anli_plus", "train", "en", {})
    assert again["label"][:] == examples["label"][:]
    assert get_task("anli_plus").num_labels == 3


def test_qqp_of_another_split_says_so(load):
    row = {"question1": "a?", "question2": "b?", "label": 1}
    _, (record,) = load("qqp", "train", "en", {"nyu-mll__glue/qqp/train": [{**row, "idx": None}]})
    assert record["notes"] == ["rows without idx: not GLUE's split of QQP"]
    _, (record,) = load("qqp", "train", "en", {"nyu-mll__glue/qqp/train": [{**row, "idx": 0}]})
    assert "notes" not in record


def test_qqp_scores_accuracy_and_f1(load):
    rows = [{"question1": "a?", "question2": "b?", "label": i % 2, "idx": i} for i in range(4)]
    examples, _ = load("qqp", "dev", "en", {"nyu-mll__glue/qqp/validation": rows})
    assert get_task("qqp").score([0, 1, 0, 0], examples, "en") == pytest.approx({"accuracy": 75, "f1": 200 / 3})


def test_paws_labels_are_text_on_one_source_and_lines_are_digits(load):
    files = {
        "google__xtreme/PAWS-X.de/test": [{"sentence1": "x", "sentence2": "y", "label": label} for label in "011"]
    }
    examples, _ = load("pawsx", "test", "de", files)
    assert examples["label"][:] == [0, 1, 1]
    assert get_task("pawsx").lines([0, 1, 1], examples) == ["0", "1", "1"]


def test_xnli_in_one_config_with_labels_as_words(load):
    rows = [
        {"language": code, "sentence1": f"{code} a", "sentence2": f"{code} b", "gold_label": word}
        for code in ("de", "en")
        for word in ("neutral", "contradiction")
    ]
    examples, _ = load("xnli", "test", "de", {"google__xtreme/XNLI/test": rows})
    assert examples["text_a"][:] == ["de a", "de a"] and examples["label"][:] == [1, 2]


def test_xnli_nested_by_language(load, tmp_path):
    row = {
        "premise": {"de": "ein Mann", "en": "a man"},
        "hypothesis": {"language": ["en", "de"], "translation": ["somebody", "jemand"]},
        "label": 0,
    }
    examples, _ = load("xnli", "test", "de", {"facebook__xnli/all_languages/test": [row]})
    assert examples[0] == {"text_a": "ein Mann", "text_b": "jemand", "label": 0}
    assert get_task("xnli").languages(Rows(tmp_path)) == ["en", "de"]


def test_overlong_pairs_lose_tokens_of_the_longer_side_only(load, tokenizer):
    examples, _ = load(
        "mnli", "train", "en", {"nyu-mll__glue/mnli/train": [nli(0, "the man sees " * 200, "a short end")]}
    )
    (ids,) = featurize(get_task("mnli"), examples, tokenizer, 40)["input_ids"]
    assert len(ids) == 40 and ids[-1] == tokenizer.sep_token_id
    hypothesis = tokenizer("a short end", add_special_tokens=False)["input_ids"]
    assert ids[-1 - len(hypothesis) : -1] == hypothesis


def test_one_label_throughout_is_a_placeholder(load):
    examples, _ = load("xnli", "test", "de", {"facebook__xnli/de/test": [nli(0)] * 300})
    with pytest.raises(UserError, match="placeholder"):
        get_task("xnli").score([0] * 300, examples, "de")


# ---- spans ----------------------------------------------------------------------------------------------------------


def test_offsets_that_did_not_move_with_a_stripped_context_are_mended(load):
    rows = [
        qa("Ada met Ada here.", ["Ada"], [9]),
        qa("Ada met Ada here.", ["Ada"], [2]),
        qa("Ada met Ada.", ["Ada"], [8]),
    ]
    examples, (record,) = load("xquad", "test", "de", {"google__xtreme/XQuAD.de/validation": rows})
    assert [a["answer_start"] for a in examples["answers"]] == [[8], [0], [8]]  # of a repeated answer the nearer one
    (note,) = record["notes"]
    assert note.startswith("2 answer offsets") and "cut off the start" in note


@pytest.mark.parametrize("right", [0, 1])
def test_the_rows_of_a_context_lost_the_same_characters(load, right):
    """Alone, the first row's answer fits two places, or fits by chance where it is."""
    context, places, cut = (("a 1 1 1", {"1": 4, "a": 0}, 3), ("1 1 1 a", {"1": 0, "a": 6}, 2))[right]
    rows = [qa(context, [text], [at + cut]) for text, at in places.items()]
    examples, (record,) = load("xquad", "test", "de", {"google__xtreme/XQuAD.de/validation": rows})
    assert [a["answer_start"] for a in examples["answers"]] == [[at] for at in places.values()]
    assert record["notes"] == ["2 answer offsets mended: characters cut off the start of the context"]


def test_many_wrong_rows_of_one_context_take_no_longer(monkeypatch, load):
    from tasks import offsets

    asked, readings = [], offsets._readings
    monkeypatch.setattr(offsets, "_readings", lambda *row: asked.append(row) or readings(*row))
    context = " ".join(f"w{i}" for i in range(60))
    rows = [qa(context, [f"w{i}"], [context.index(f"w{i}") + 3]) for i in range(10, 60)]
    examples, _ = load("squad", "train", "en", {"rajpurkar__squad/plain_text/train": rows})
    assert [a["answer_start"][0] + 3 for a in examples["answers"]] == [
        row["answers"]["answer_start"][0] for row in rows
    ]
    assert len(asked) == 1


THAI = "โครงการเริ่มในปี 2003 ที่กรุงเทพ แล้วหยุดไปหลายปีก่อนจะเริ่มใหม่ในปี 2003 อีกครั้ง"
CRLF = "Line one.\r\nBob ran.\r\nBob fell.\r\nBob."
# what the file's offsets count -> (contexts, answer, the number that the file gives for a character's)
OTHER_UNITS = {
    "UTF-8 bytes": ([THAI, "2003", "é 2003 2003"], "2003", lambda context, at: len(context[:at].encode())),
    "UTF-16 units": (
        ["😀😀 in 1 and 1 and 11", "1", "😀1 1 1"],
        "1",
        lambda context, at: len(context[:at].encode("utf-16-le")) // 2,
    ),
    "CR LF as one character": ([CRLF, "Bob"], "Bob", lambda context, at: len(context[:at].replace("\r\n", "\n"))),
    "LF as two characters": (
        [CRLF.replace("\r", ""), "Bob"],
        "Bob",
        lambda context, at: len(context[:at].replace("\n", "\r\n")),
    ),
}


@pytest.mark.parametrize("unit", OTHER_UNITS)
def test_offsets_in_another_unit_are_converted_and_counted(load, unit):
    """Each place of a repeated answer, in a file whose offsets all count something else than characters."""
    contexts, answer, given = OTHER_UNITS[unit]
    meant = [(context, i) for context in contexts for i in range(len(context)) if context.startswith(answer, i)]
    rows = [qa(context, [answer], [given(context, at)]) for context, at in meant]
    examples, (record,) = load("squad", "train", "en", {"rajpurkar__squad/plain_text/train": rows})
    assert [a["answer_start"] for a in examples["answers"]] == [[at] for _, at in meant]
    moved = sum(given(context, at) != at for context, at in meant)
    assert moved and record["notes"] == [f"{moved} answer offsets mended: {unit}"]


def test_one_row_with_an_offset_in_bytes_among_others_is_mended(load):
    at = THAI.index("2003")
    rows = [
        qa("Ulm 2003 2003", ["2003"], [9]),
        qa("ä 2003", ["2003"], [2]),
        qa(THAI, ["2003"], [len(THAI[:at].encode())]),
    ]
    examples, (record,) = load("squad", "train", "en", {"rajpurkar__squad/plain_text/train": rows})
    assert examples["answers"][2]["answer_start"] == [at] and record["notes"] == [
        "1 answer offsets mended: UTF-8 bytes"
    ]


def test_offsets_that_are_right_in_two_units_are_noted(load):
    """So few rows that nothing tells which unit they count: characters, as documented, but not in silence."""
    for rows, noted in (
        ([qa("éé1 1 1", ["1"], [4])], True),
        ([qa("éé1 1 1", ["1"], [4]), qa("é 1", ["1"], [2])], False),
    ):
        examples, (record,) = load("squad", "train", "en", {"rajpurkar__squad/plain_text/train": rows})
        assert examples["answers"][0]["answer_start"] == [4]
        assert ["UTF-8 bytes" in note for note in record.get("notes", [])] == [True] * noted


@pytest.mark.parametrize(
    "context, start, named",
    [
        ("Bob and " * 3 + "x" * 40, 50, "character 50"),  # several, none near
        ("x" * 40 + " Bob Bob", 20, "41, 45"),  # near, but behind
        ("x" * 40 + "Bob Bob" + "x" * 40, 61, "40, 44"),  # 17 behind the last
        ("Bob was it, Bob", -3, "answer_start -3"),
        ("Bob and Bob", -1, "answer_start -1"),
    ],
)
def test_an_offset_that_leads_to_several_places_is_refused(load, context, start, named):
    """Also where the nearest place would be one of them; a negative start is no way to count from the end."""
    rows = [qa("Bob.", ["Bob"], [0]), qa(context, ["Bob"], [start])]
    with pytest.raises(UserError) as caught:
        load("squad", "train", "en", {"rajpurkar__squad/plain_text/train": rows})
    assert "train.jsonl, row 2, column 'answers': 'Bob'" in str(caught.value) and named in str(caught.value)


def test_two_readings_of_an_offset_that_differ_are_refused(load):
    """In bytes it is the first Bob; if two characters were cut off it is the second. The other row is right as it
    is."""
    context = "äääääBobBob"
    assert context.encode()[10:13] == b"Bob" and context[10 - 2 :][:3] == "Bob"
    with pytest.raises(UserError, match="row 2, column 'answers': 'Bob' .* 5, 8"):
        rows = [qa("ü Bob Bob", ["Bob"], [2]), qa(context, ["Bob"], [10])]
        load("squad", "train", "en", {"rajpurkar__squad/plain_text/train": rows})


def test_an_empty_answer_names_its_row(load):
    with pytest.raises(UserError, match="train.jsonl, row 2, column 'answers': ''"):
        rows = [qa("Bob.", ["Bob"], [0]), qa("Bob.", ["Bob", ""], [0, 1])]
        load("squad", "train", "en", {"rajpurkar__squad/plain_text/train": rows})


def test_an_answer_that_is_not_there_is_refused(load):
    with pytest.raises(UserError, match="row 2, column 'answers': 'Bob' is not at character 0"):
        load(
            "squad",
            "train",
            "en",
            {"rajpurkar__squad/plain_text/train": [qa("Ada.", ["Ada"], [0]), qa("Ada.", ["Bob"], [0])]},
        )


@pytest.mark.parametrize(
    "name, path", [("xquad", "google__xquad/xquad.de/validation"), ("mlqa", "google__xtreme/MLQA.de.de/test")]
)
def test_stripped_gold_of_qa_is_refused(load, name, path):
    with pytest.raises(UserError, match="stripped"):
        load(name, "test", "de", {path: [qa("Ada.", [""], [0])]})


def test_zero_width_characters_stay_and_count(load, tokenizer):
    context = "\ufeff  Ada\u200b lives in\u200bUlm."
    examples, _ = load("xquad", "test", "de", {"google__xquad/xquad.de/validation": [qa(context, ["Ulm"], [17])]})
    task = get_task("xquad")
    assert examples["context"][0] == context and examples["answers"][0]["answer_start"] == [17]
    train, plain = (featurize(task, examples, tokenizer, train=t) for t in (True, False))
    logits = [np.eye(len(train["input_ids"][0]))[[pair[side]]] for pair in train["labels"] for side in (0, 1)]
    (text,) = task.decode(tuple(logits), plain, examples)
    assert task.score([text], examples, "de")["f1"] == 100


def test_answers_as_a_list_of_objects(load):
    row = qa("Ada.", None, None) | {"answers": [{"text": "Ada", "answer_start": 0}]}
    examples, _ = load("squad", "train", "en", {"rajpurkar__squad/plain_text/train": [row]})
    assert examples["answers"][0] == {"text": ["Ada"], "answer_start": [0]}


def test_tydiqa_language_is_in_the_id_and_training_is_english_only(load, tmp_path):
    ids = ["english-12-3", "swahili--8211684794284159625-4", "english--5-1", "korean-7-0"]
    rows = [qa("Ada.", ["Ada"], [0]) | {"id": i} for i in ids]
    files = {f"google-research-datasets__tydiqa/secondary_task/{split}": rows for split in ("train", "validation")}
    examples, _ = load("tydiqa", "train", "en", files)
    assert examples["id"][:] == ["english-12-3", "english--5-1"]
    assert load("tydiqa", "test", "sw", {})[0]["id"][:] == ["swahili--8211684794284159625-4"]
    assert get_task("tydiqa").languages(Rows(tmp_path)) == ["en", "ko", "sw"]
    with pytest.raises(UserError, match="no row in language 'fi'"):
        load("tydiqa", "test", "fi", {})


def test_a_language_is_the_same_in_every_spelling(load):
    rows = [qa("Ada.", ["Ada"], [0]) | {"id": f"{name}-1"} for name in ("english", "English", "en", "eng", "korean")]
    files = {"google-research-datasets__tydiqa/secondary_task/validation": rows}
    assert len(load("tydiqa", "test", "en", files)[0]) == 4
    rows = [
        {"language": code, "sentence1": f"{code} a", "sentence2": "b", "gold_label": "neutral"}
        for code in ("de", "deu", "German", "en")
    ]
    assert len(load("xnli", "test", "de", {"google__xtreme/XNLI/test": rows})[0]) == 3


def test_mlqa_names_the_context_language_first(load, tmp_path):
    files = {
        f"google__xtreme/MLQA.{pair}/test": [qa(f"{pair} Ada.", ["Ada"], [6])]
        for pair in ("de.de", "de.en", "en.de", "en.en")
    }
    examples, _ = load("mlqa", "test", "de", files)
    assert examples["context"][:] == ["de.de Ada."]
    assert get_task("mlqa").languages(Rows(tmp_path)) == ["en", "de"]
    assert Source("x/y", "MLQA.{language}.{language}", {}).language_of("MLQA.de.en") is None


def test_mlqa_drops_the_articles_of_the_language(load):
    examples, _ = load("mlqa", "test", "de", {"google__xtreme/MLQA.de.de/test": [qa("der Fluss", ["Fluss"], [4])]})
    assert get_task("mlqa").score(["der Fluss"], examples, "de")["exact_match"] == 100
    assert get_task("xquad").score(["der Fluss"], examples, "de")["exact_match"] == 0


@pytest.mark.parametrize(
    "name, config",
    [("xquad", "google__xquad/xquad.zh-Hant/validation"), ("mlqa", "google__xtreme/MLQA.zh-Hant.zh-Hant/test")],
)
def test_answers_in_a_language_with_a_subtag_are_scored(load, tmp_path, name, config):
    examples, _ = load(name, "test", "zh-Hant", {config: [qa("大河", ["大河"], [0])]})
    task = get_task(name)
    assert task.languages(Rows(tmp_path)) == ["zh-Hant"]
    assert task.score(["大河"], examples, "zh-Hant")["f1"] == 100
    assert 0 < task.score(["河"], examples, "zh-Hant")["f1_language" if name == "xquad" else "f1"] < 100


def v2_rows():
    return [
        qa("Ada lives in Ulm.", ["Ulm"], [13]) | {"id": "1"},
        qa("Ada lives in Ulm.", [], []) | {"id": "2"},
        qa("Bob lives in Bonn.", ["Bonn"], [13]) | {"id": "3"},
        qa("Bob lives in Bonn.", [], []) | {"id": "4"},
    ]


def test_squad_v2_trains_no_answer_on_the_first_token_and_squad_refuses_it(load, tokenizer):
    examples, _ = load("squad_v2", "train", "en", {"rajpurkar__squad_v2/squad_v2/train": v2_rows()})
    labels = featurize(get_task("squad_v2"), examples, tokenizer)["labels"]
    assert [label == [0, 0] for label in labels] == [False, True, False, True]
    with pytest.raises(UserError, match="no answer"):
        load("squad", "train", "en", {"rajpurkar__squad/plain_text/train": v2_rows()})


def test_squad_v2_cuts_at_zero_and_at_the_best_threshold(load):
    examples, _ = load("squad_v2", "dev", "en", {"rajpurkar__squad_v2/squad_v2/validation": v2_rows()})
    task = get_task("squad_v2")
    # sure of 1, wrongly unsure of 3, 2 rightly none, 4 wrongly answered by a little: the cut between -1 and 0.5 is
    # worse
    predictions = [("Ulm", -3.0), ("Ada", 2.0), ("Bonn", 0.5), ("Bob", 1.0)]
    scores = task.score(predictions, examples, "en")
    assert scores["exact_match"] == 75 and scores["best_exact_match"] == 100 and scores["best_f1"] == 100
    assert json.loads(task.lines(predictions, examples)[0]) == {"1": "Ulm", "2": "", "3": "", "4": ""}
    assert task.chance(examples)["best_f1"] == 50


@pytest.mark.parametrize(
    "name, exact, f1, failed",
    [
        ("squad", 2.5, 16.6, False),  # seldom exact, often half right
        ("squad", 2.5, 11.0, True),
        ("squad_v2", 45.0, 52.0, True),
        ("squad_v2", 60.0, 80.0, False),
    ],
)
def test_answers_are_at_chance_by_the_mean_of_exact_match_and_f1(name, exact, f1, failed):
    prefix, level = ("best_", 50.0) if name == "squad_v2" else ("", 2.5)
    names = [f"{prefix}exact_match", f"{prefix}f1"]
    scores = {"exact_match": 0.0, "f1": 0.0, **dict(zip(names, (exact, f1), strict=True))}
    assert get_task(name).at_chance(scores, dict.fromkeys(names, level), 40) == (names if failed else [])


def test_a_tagger_is_at_chance_by_its_accuracy_alone():
    chance = {"f1": 0.0, "accuracy": 80.0}
    assert get_task("panx").at_chance({"f1": 3.0, "accuracy": 81.0}, chance, 60) == ["accuracy"]
    assert get_task("panx").at_chance({"f1": 30.0, "accuracy": 95.0}, chance, 60) == []


def reference_decode(start, end, offsets, contexts, n_best=20, longest=30):
    """The published procedure, word for word slow: per window all pairs of the best starts and ends, then the best of
    all.

    offsets: per window, a list with None outside the context. Returns (text, null score minus the text's).
    """
    found, null = [], None
    for s, e, spans in zip(start, end, offsets, strict=True):
        score = s[0] + e[0]
        null = score if null is None or score < null else null
        for i in sorted(range(len(s)), key=lambda t: -s[t])[:n_best]:
            for j in sorted(range(len(e)), key=lambda t: -e[t])[:n_best]:
                if (
                    i >= len(spans)
                    or j >= len(spans)
                    or spans[i] is None
                    or spans[j] is None
                    or j < i
                    or j - i + 1 > longest
                ):
                    continue
                found.append((s[i] + e[j], contexts[spans[i][0] : spans[j][1]]))
    if not found:
        return "", float(np.finfo("float32").max)
    score, text = max(found, key=lambda pair: pair[0])
    return text, null - score


@pytest.mark.parametrize("seed", range(5))
def test_decoding_agrees_with_the_published_procedure(load, tokenizer, seed):
    """Several windows, a repeated answer string, random logits."""
    context = "Ada lives in Ulm and Bob lives in Bonn. " * 12
    rows = [qa(context, ["Bonn"], [34]) | {"id": "1"}, qa("Ulm.", [], []) | {"id": "2"}]
    examples, _ = load("squad_v2", "dev", "en", {"rajpurkar__squad_v2/squad_v2/validation": rows})
    task = get_task("squad_v2")
    features = featurize(task, examples, tokenizer, 48, train=False)
    assert list(features["example"]).count(0) > 3, "the context no longer needs several windows"
    lengths = list(map(len, features["input_ids"]))
    random = np.random.default_rng(seed)
    start, end = random.normal(size=(2, len(features), max(lengths))).astype(np.float32)
    predictions = task.decode((start, end), features, examples)
    padded = [np.pad(side, ((0, 0), (0, 30)), constant_values=3.5) for side in (start, end)]
    assert task.decode(tuple(padded), features, examples) == predictions  # however much padding the batch held
    for i, (text, nothing) in enumerate(predictions):
        windows = [w for w, e in enumerate(features["example"]) if e == i]
        spans = [[None] * features["first"][w] + features["offsets"][w] for w in windows]
        rows = ([side[w][: lengths[w]].tolist() for w in windows] for side in (start, end))
        expected = reference_decode(*rows, spans, examples["context"][i])
        assert text == expected[0] and nothing == pytest.approx(expected[1], rel=1e-6, abs=1e-5)


def test_decoding_agrees_with_hugging_faces_own_code_on_frozen_logits():
    """Several windows, a repeated answer string, one question without answer; the fixture says how it was made."""
    frozen = json.loads((Path(__file__).parent / "fixtures/qa_logits.json").read_text(encoding="utf-8"))
    examples = Dataset.from_dict(frozen["examples"])
    logits = np.array(frozen["start"], np.float32), np.array(frozen["end"], np.float32)
    ids, features = frozen["examples"]["id"], frozen["features"] | {"input_ids": logits[0]}
    assert dict(zip(ids, get_task("squad").decode(logits, features, examples), strict=True)) == frozen["predictions"]
    task = get_task("squad_v2")
    found = task.decode(logits, features, examples)
    assert json.loads(task.lines(found, examples)[0]) == frozen["predictions_v2"]
    assert {i: odds for i, (_, odds) in zip(ids, found, strict=True)} == pytest.approx(frozen["null_odds"], abs=1e-5)


# ---- multiple choice ------------------------------------------------------------------------------------------------


def copa(label=0, question="cause"):
    return {
        "premise": "The cup fell.",
        "choice1": "It broke.",
        "choice2": "Tom pushed it.",
        "question": question,
        "label": label,
    }


def siqa(label):
    return {"context": "Tom fell.", "question": "Why?", "answerA": "a", "answerB": "b", "answerC": "c", "label": label}


def csqa(key):
    return {
        "id": "1",
        "question": "Where?",
        "question_concept": "x",
        "answerKey": key,
        "choices": {"label": list("BACDE"), "text": ["bank", "attic", "cave", "den", "eave"]},
    }


def hellaswag(label, **more):
    return {
        "ctx_a": "A man sits.",
        "ctx_b": "he",
        "ctx": "A man sits. he",
        "endings": ["a", "b", "c", "d"],
        "label": label,
    } | more


def test_social_iqa_counts_from_one(load):
    examples, _ = load("siqa", "train", "en", {"lighteval__siqa/default/train": [siqa("1"), siqa("3")]})
    assert examples["label"][:] == [0, 2]
    assert examples[0]["prompt"] == "Tom fell. Why?" and examples[0]["choices"] == ["a", "b", "c"]
    with pytest.raises(UserError, match="row 1, column 'label': '0' is not a label; expected one of 1, 2, 3"):
        load("siqa", "train", "en", {"lighteval__siqa/default/train": [siqa("0")]})


def test_commonsense_qa_goes_by_the_letter(load):
    examples, _ = load("csqa", "train", "en", {"tau__commonsense_qa/default/train": [csqa("A"), csqa("E")]})
    assert examples["label"][:] == [0, 4] and examples[0]["choices"] == ["attic", "bank", "cave", "den", "eave"]


@pytest.mark.parametrize(
    "name, path, row",
    [
        ("csqa", "tau__commonsense_qa/default/validation", csqa("")),
        ("hellaswag", "Rowan__hellaswag/default/validation", hellaswag("")),
        ("copa", "aps__super_glue/copa/validation", copa(-1)),
    ],
)
def test_hidden_answers_are_refused(load, name, path, row):
    with pytest.raises(UserError, match=r"row 1, column '\w+': ('|-1).*hidden gold"):
        load(name, "dev", "en", {path: [row]})


def test_hellaswag_without_its_two_halves_uses_the_whole(load):
    rows = [hellaswag("0"), hellaswag("1", ctx_a=None, ctx_b=None), hellaswag("1", ctx_a="", ctx_b="")]
    examples, _ = load("hellaswag", "train", "en", {"Rowan__hellaswag/default/train": rows})
    assert examples[0] == {"prompt": "A man sits.", "choices": ["he a", "he b", "he c", "he d"], "label": 0}
    assert examples[1] == examples[2] == {"prompt": "A man sits. he", "choices": ["a", "b", "c", "d"], "label": 1}
    with pytest.raises(UserError, match="row 1, column 'prompt': expected a sentence"):
        load("hellaswag", "train", "en", {"Rowan__hellaswag/default/train": [hellaswag("0", ctx_a=None, ctx=" ")]})


def test_a_digit_is_no_place_among_choices_with_letters(load):
    """In other files of such questions 1 is A, and 0 is A in others."""
    with pytest.raises(
        UserError, match="row 1, column 'answerKey': '1' is not a label; expected one of A, B, C, D, E"
    ):
        load("csqa", "train", "en", {"tau__commonsense_qa/default/train": [csqa("1")]})


def test_cosmos_qa_prompt_is_context_and_question(load):
    row = {
        "id": "1",
        "context": "It rained.",
        "question": "Why?",
        **{f"answer{i}": "abcd"[i] for i in range(4)},
        "label": 3,
    }
    examples, _ = load("cosmosqa", "dev", "en", {"allenai__cosmos_qa/default/validation": [row]})
    assert examples[0] == {"prompt": "It rained. Why?", "choices": ["a", "b", "c", "d"], "label": 3}


def test_copa_asks_for_the_cause_or_the_effect(load):
    examples, _ = load("copa", "train", "en", {"aps__super_glue/copa/train": [copa(1), copa(0, "effect")]})
    assert examples["prompt"][:] == ["The cup fell. What was the cause?", "The cup fell. What was the effect?"]
    with pytest.raises(UserError, match="expected cause or effect"):
        load("copa", "train", "en", {"aps__super_glue/copa/train": [copa(0, "why")]})


def test_xcopa_trains_on_two_tasks_and_is_scored_in_english_on_copa(load, tmp_path):
    files = {
        "aps__super_glue/copa/train": [copa(0)],
        "aps__super_glue/copa/validation": [copa(1)] * 2,
        "cambridgeltl__xcopa/et/test": [copa(0) | {"premise": "Tass kukkus.", "changed": False}],
    }
    assert get_task("xcopa").train_from == ("siqa", "copa")
    assert len(load("xcopa", "train", "en", files)[0]) == 1 and len(load("xcopa", "dev", "en", {})[0]) == 2
    assert len(load("xcopa", "test", "en", {})[0]) == 2
    examples, _ = load("xcopa", "test", "et", {})
    assert examples["prompt"][:] == ["Tass kukkus. What was the cause?"]
    assert get_task("xcopa").languages(Rows(tmp_path)) == ["en", "et"]
    assert get_task("xcopa").lines([1], examples) == ['{"label": 1}']
    assert "en" not in get_task("xcopa").languages(Rows("hub"))


# ---- tagging --------------------------------------------------------------------------------------------------------


def ner(tokens, tags=None):
    return {"tokens": tokens, "ner_tags": tags or [0] * len(tokens), "langs": ["de"] * len(tokens)}


def test_panx_prefix_goes_up_to_the_first_colon(load):
    rows = [ner(["de:Ada", "de:12:30", "de::"], [1, 0, 0]), ner(["de:http://x.de"])]
    examples, _ = load("panx", "test", "de", {"google__xtreme/PAN-X.de/test": rows})
    assert examples["tokens"][:] == [["Ada", "12:30", ":"], ["http://x.de"]]


def test_panx_without_prefix_keeps_its_colons(load):
    rows = [ner(["de:x", "Ada", "12:30"]), ner([":", "de:y"])]
    examples, _ = load("panx", "test", "de", {"google__xtreme/PAN-X.de/test": rows})
    assert examples["tokens"][:] == [["de:x", "Ada", "12:30"], [":", "de:y"]]


def test_panx_with_the_prefix_of_another_language_is_refused(load):
    path = "google__xtreme/PAN-X.de/test"
    with pytest.raises(UserError, match="column 'tokens': every word begins with 'fr:'"):
        load("panx", "test", "de", {path: [ner(["fr:la"]), ner(["fr:Ada", "fr:rit"])]})
    assert (
        len(load("panx", "test", "de", {path: [ner(["Ada", "rit"]), ner(["http://a.org", "http://b.org"])]})[0]) == 2
    )


def test_tatoeba_in_a_file_of_several_pairs_is_refused(load):
    rows = [{"sentence1": f"Satz {i}", "sentence2": f"a {i}", "lang": "deu-eng"} for i in range(3)]
    path = "mteb__tatoeba-bitext-mining/deu-eng/test"
    assert len(load("tatoeba", "test", "de", {path: rows})[0]) == 3
    with pytest.raises(UserError, match="column 'lang': rows of deu-eng, fra-eng; expected those of one pair"):
        load("tatoeba", "test", "de", {path: [*rows, rows[0] | {"lang": "fra-eng"}]})


@pytest.mark.parametrize("line, right", [("7", True), ("0", True), ("-1", True), ("007", False), ("-0", False)])
def test_a_line_of_tatoeba_is_one_number_as_the_benchmark_writes_it(line, right, tmp_path):
    path = tmp_path / "test-de.tsv"
    path.write_text(f"{line}\n")
    if right:
        assert get_task("tatoeba").read_lines(path) == [int(line)]
    else:
        with pytest.raises(UserError, match="one integer per line"):
            get_task("tatoeba").read_lines(path)


def test_panx_with_half_a_prefix_is_refused(load):
    with pytest.raises(UserError, match="row 2, column 'tokens': 'Ulm' lacks the prefix 'de:'"):
        load("panx", "test", "de", {"google__xtreme/PAN-X.de/test": [ner(["de:Ada"]), ner(["Ulm"])]})


def test_panx_takes_xtreme_r_languages_from_wikiann(hub):
    asked = hub([ner(["Vilnius"], [5])])
    rows = Rows("hub")
    for language in ("de", "lt"):
        get_task("panx", "xtreme-r").load("test", language, rows)
    assert [(a["id"], a["config"]) for a in asked] == [("google/xtreme", "PAN-X.de"), ("unimelb-nlp/wikiann", "lt")]
    assert rows.records[1]["revision"] == "c0ffee" + "0" * 34  # what main is today
    assert rows.records[0]["revision"] == asked[0]["revision"] == get_task("panx").sources[0].revision


def test_udpos_of_the_hub_says_where_old_languages_are_mixed_in(hub):
    hub([{"tokens": ["x"], "pos_tags": [7]}])
    rows = Rows("hub")
    for language in ("el", "fi"):
        get_task("udpos").load("test", language, rows)
    assert "Ancient Greek" in rows.records[0]["notes"][0] and "notes" not in rows.records[1]
    with pytest.raises(UserError, match=r"google/xtreme has no Wolof \(wo\)"):
        get_task("udpos", "xtreme-r").load("test", "wo", rows)


def pos(tokens, tags=None):
    return {"tokens": tokens, "pos_tags": tags or [i % 17 for i in range(len(tokens))]}


def test_words_of_several_parts_get_one_tag(load, tokenizer):
    """Vietnamese and French words may hold blanks; fused forms ("du") are one word in XTREME's files."""
    examples, _ = load(
        "udpos", "test", "vi", {"google__xtreme/udpos.Vietnamese/test": [pos(["Việt Nam", "du", "10 000", "x"])]}
    )
    task = get_task("udpos")
    features = featurize(task, examples, tokenizer)
    (words,), (labels,) = features["words"][:], features["labels"][:]
    assert [w for w in words if w >= 0] == [0, 1, 2, 3] and [t for t in labels if t >= 0] == [0, 1, 2, 3]


def test_only_the_first_sub_word_has_a_label(load, tokenizer):
    examples, _ = load(
        "udpos", "test", "de", {"google__xtreme/udpos.German/test": [pos(["Donaudampfschifffahrt", "fährt"], [7, 15])]}
    )
    features = featurize(get_task("udpos"), examples, tokenizer)
    ids = tokenizer([["Donaudampfschifffahrt", "fährt"]], is_split_into_words=True)
    first = [ids.word_ids().index(w) for w in (0, 1)]
    assert len(ids.word_ids()) > 4, "the word no longer has several pieces"
    assert [i for i, label in enumerate(features["labels"][0]) if label != -100] == first


def test_long_sentences_are_split_and_rejoined(load, tokenizer):
    words = [f"word{i}" for i in range(300)]
    examples, _ = load("udpos", "test", "de", {"google__xtreme/udpos.German/test": [pos(words), pos(["kurz"])]})
    task = get_task("udpos")
    features = featurize(task, examples, tokenizer, 32)
    assert len(features) > 10 and max(map(len, features["input_ids"])) <= 32
    width = max(map(len, features["input_ids"]))
    logits = np.array(
        [[np.eye(17)[max(t, 0)] for t in [*row, *[-100] * (width - len(row))]] for row in features["labels"]]
    )
    predictions = task.decode(logits, features, examples)
    assert predictions == task.gold(examples)
    with pytest.raises(UserError, match="sentence 1 has .* tags for .* words"):
        task.decode(logits[:-3], features.select(range(len(features) - 3)), examples)


def test_missing_tag_is_refused(load):
    with pytest.raises(UserError, match="row 1: 2 in 'tokens', 1 in 'pos_tags'"):
        load("udpos", "test", "de", {"google__xtreme/udpos.German/test": [{"tokens": ["a", "b"], "pos_tags": [7]}]})


# ---- CCG: made-up sentences, none from CCGbank ----------------------------------------------------------------------

CCG = {
    "jiant": "Cats sleep (\tN S\\NP (\nDogs a|b\tN N\n",
    "stagged": "Cats|NNS|N sleep|VBP|S\\NP (|(|(\nDogs|NNS|N a|b|XX|N\n",
    "auto": "ID=made_up.1 PARSER=GOLD NUMPARSE=1\n(<T S 0 2> (<L N NNS NNS Cats N>) (<L S\\NP VBP VBP sleep S\\NP>) "
    "(<L ( -LRB- -LRB- -LRB- (>) )\nID=made_up.2\n(<T N 0 2> (<L N NNS NNS Dogs N>) (<L N XX XX a|b N>) )\n",
}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])  # without and with a byte order mark
@pytest.mark.parametrize("form", CCG)
def test_ccg_forms_hold_the_same(tmp_path, form, encoding):
    folder = tmp_path / "ccgbank"
    folder.mkdir()
    (folder / "train.txt").write_text(CCG[form], encoding=encoding)
    task = get_task("ccg")
    examples = task.load("train", "en", Rows(tmp_path))
    assert examples["tokens"][:] == [["Cats", "sleep", "("], ["Dogs", "a|b"]]
    assert task.gold(examples) == [["N", "S\\NP", "("], ["N", "N"]]
    assert task.labels == ("(", "N", "S\\NP") and task.num_labels == 3


@pytest.mark.parametrize("more", ["\n", "ID=made_up.3 PARSER=GOLD\n", ""])
def test_headers_of_ccg_are_no_sentences(tmp_path, more):
    (tmp_path / "ccgbank").mkdir()
    (tmp_path / "ccgbank/train.txt").write_text(f"ID=made_up.1\n{more}Cats|NNS|N sleep|VBP|S\nID=made_up.2\n")
    assert get_task("ccg").load("train", "en", Rows(tmp_path))["tokens"][:] == [["Cats", "sleep"]]


@pytest.mark.parametrize("line", ["ID=5 run\tNP S\n", "ID=5|P|NP run|V|S\n"])
def test_a_sentence_that_begins_like_a_header_of_ccg_is_read(tmp_path, line):
    (tmp_path / "ccgbank").mkdir()
    (tmp_path / "ccgbank/train.txt").write_text(line * 2)
    assert get_task("ccg").load("train", "en", Rows(tmp_path))["tokens"][:] == [["ID=5", "run"]] * 2


def test_ccg_auto_tree_by_sections(tmp_path):
    for section, word in (("02", "Cats"), ("21", "Dogs"), ("00", "Birds"), ("23", "Fish"), ("24", "Left")):
        folder = tmp_path / "ccgbank" / "data" / "AUTO" / section
        folder.mkdir(parents=True)
        (folder / f"wsj_{section}01.auto").write_text(f"ID=made_up\n(<L N NNS NNS {word} N>)\n")
    rows = Rows(tmp_path)
    task = get_task("ccg")
    words = {
        split: [w for s in task.load(split, "en", rows)["tokens"] for w in s] for split in ("train", "dev", "test")
    }
    assert words == {"train": ["Cats", "Dogs"], "dev": ["Birds"], "test": ["Fish"]}
    assert all(rows.digest(r) == r["sha256"] for r in rows.records), "records must find their files again"
    train = next(r for r in rows.records if r.get("files"))
    (tmp_path / "ccgbank/data/AUTO/21/wsj_2101.auto").write_text("ID=made_up\n(<L NP NNS NNS Dogs NP>)\n")
    assert rows.digest(train) != train["sha256"]  # not of the first file alone


@pytest.mark.parametrize("split", ["train[:2]", "nonsense"])
def test_splits_of_ccg_files_that_cannot_be_cut_are_refused(tmp_path, split):
    (tmp_path / "ccgbank").mkdir()
    (tmp_path / "ccgbank" / "train.tsv").write_text("Cats sleep\tN S\n" * 3)
    with pytest.raises(UserError, match="--splits ccg.train"):
        get_task("ccg").load("train", "en", Rows(tmp_path, [f"ccg.train={split}"]))


def test_ccg_categories_not_in_train_are_neither_labels_nor_scored(tmp_path, tokenizer):
    (tmp_path / "ccgbank").mkdir()
    (tmp_path / "ccgbank" / "train.tsv").write_text("Cats sleep\tN S\n")
    (tmp_path / "ccgbank" / "dev.tsv").write_text("Cats sleep loud\tN S RARE\n")
    rows, task = Rows(tmp_path), get_task("ccg")
    task.prepare(rows)
    assert task.labels == ("N", "S")
    examples = task.load("dev", "en", rows)
    assert examples["tags"][:] == [[0, 1, -100]] and rows.records[-1]["notes"] == [
        "1 words whose category is not in train are not scored"
    ]
    assert [t for t in featurize(task, examples, tokenizer)["labels"][0] if t != -100] == [0, 1]
    assert task.score([["N", "N", "S"]], examples, "en") == {"accuracy": 50}


@pytest.mark.parametrize(
    "text, message",
    [
        ("Cats sleep\tN\n", "line 1: 2 words, 1 categories"),
        ("Cats|NNS|N sleep\n", "line 1: .*is neither"),
        ("no form at all\n", "line 1: .*is neither"),
        ("\n", "no sentence"),
        (b"\xff\xfe\n", "byte 0 is not UTF-8"),
    ],
)
def test_ccg_broken_files_are_named(tmp_path, text, message):
    (tmp_path / "ccgbank").mkdir()
    path = tmp_path / "ccgbank" / "train.tsv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError, match=f"{path}.*{message}"):
        get_task("ccg").load("train", "en", Rows(tmp_path))


def test_missing_ccgbank_is_explained(tmp_path):
    for rows in (Rows("hub"), Rows(tmp_path)):
        with pytest.raises(UserError, match="Linguistic Data Consortium.*LDC2005T13.*ccgbank/"):
            get_task("ccg").load("train", "en", rows)


# ---- retrieval ------------------------------------------------------------------------------------------------------


def test_tatoeba_line_ends_go(load):
    row = {"source_sentence": "Ja.\n", "target_sentence": "Yes.\r\n", "source_lang": "deu", "target_lang": "eng"}
    examples, _ = load("tatoeba", "test", "de", {"google__xtreme/tatoeba.deu/validation": [row]})
    assert examples[0] == {"source": "Ja.", "target": "Yes."}


def test_gold_pairs_alone_are_no_mining(tmp_path):
    (tmp_path / "google__xtreme" / "bucc18.de").mkdir(parents=True)
    with pytest.raises(UserError, match="bucc18.de holds only the gold pairs"):
        get_task("bucc").languages(Rows(tmp_path))


def lareqa_row(context, breaks, *questions):
    qas = [
        {"id": i, "question": f"{i}?", "answers": [{"answer_start": at, "text": context[at]}]} for i, at in questions
    ]
    return {"title": "", "context": context, "sentences": [], "sentence_breaks": breaks, "qas": qas}


def test_lareqa_candidates_are_every_sentence_of_every_language(load):
    files = {
        "lareqa__xquad-r/en/test": [lareqa_row("One. Two. Three.", [[0, 4], [5, 9], [10, 16]], ("q1", 5), ("q2", 4))],
        "lareqa__xquad-r/de/test": [
            lareqa_row("Eins. Zwei. Zwei.", [[0, 5], [6, 11], [12, 17]], ("q1", 6), ("q2", 0))
        ],
    }
    pool, records = load("lareqa", "test", "en", files)
    assert pool.candidate_ids == ["en_1_0", "en_1_1", "en_1_2", "de_1_0", "de_1_1", "de_1_2"]
    assert pool.candidates[1] == "Two." and pool.contexts[1] == "One. Two. Three."
    # both German sentences read the same, so both are right; q2's English answer begins between two sentences
    assert pool.query_ids == ["q1_en"] and pool.gold == [["en_1_1", "de_1_1", "de_1_2"]]
    assert any("1 questions left out" in note for r in records for note in r.get("notes", []))
    task = get_task("lareqa")
    assert task.score([["en_1_1", "x", "de_1_1", "de_1_2"]], pool, "en")["map@20"] == pytest.approx(
        100 * (1 + 2 / 3 + 3 / 4) / 3
    )
    assert task.metric == "map@20" and json.loads(task.lines([["de_1_0"]], pool)[0]) == {"q1_en": ["de_1_0"]}
    with pytest.raises(UserError, match="'sentence_breaks' is missing.*github.com"):
        load("lareqa", "test", "fr", {"lareqa__xquad-r/fr/test": [{"context": "x", "qas": []}]})


def test_ranking_chance_is_what_a_random_order_scores(load):
    files = {"lareqa__xquad-r/en/test": [lareqa_row("abcdefgh" * 5, [[i, i + 1] for i in range(40)], ("q1", 3))]}
    pool, _ = load("lareqa", "test", "en", files)
    task, random = get_task("lareqa"), np.random.default_rng(0)
    assert len(pool.gold[0]) == 5
    drawn = [task.score([list(random.permutation(pool.candidate_ids))], pool, "en")["map@20"] for _ in range(300)]
    error = np.std(drawn) / np.sqrt(len(drawn))
    assert abs(np.mean(drawn) - task.chance(pool)["map@20"]) < 4 * error


def test_mewslix_marks_the_mention_and_is_scored_by_reciprocal_rank(load):
    text = "First one. Ada {x} met Ada\nhere. Last."
    spans = [{"start": start, "end": end} for start, end in ((0, 10), (11, 32), (33, 38))]
    context = {"language": "de", "text": text, "sentence_spans": spans}
    mentions = [
        {"example_id": f"m{i}", "entity_id": "Q7", "mention_span": {"start": at, "end": at + 3, "text": "Ada"}}
        for i, at in enumerate((11, 23))
    ]
    entities = [
        {"entity_id": f"Q{i}", "title": f"t{i}", "description": f"d{i}", "description_language": "de"}
        for i in range(9)
    ]
    files = {
        "izhx__mewsli-x/de/test": [{"context": context, "mentions": mentions}],
        "izhx__mewsli-x/candidate_entities/test": entities,
    }
    pool, _ = load("mewslix", "test", "de", files)
    assert pool.queries == ["Ada: { Ada } (x) met Ada here.", "Ada: Ada (x) met { Ada } here."]
    assert pool.query_ids == ["m0", "m1"] and pool.gold == [["Q7"], ["Q7"]] and len(pool.candidates) == 9
    task = get_task("mewslix")
    scores = task.score([["Q1", "Q7"], ["Q7"]], pool, "de")
    assert task.metric == "mrr@20" and scores == {"mrr@20": 75}
    for entity, message in (
        ("", "'m0' has no entity_id"),
        ("Q99", "'m0' has the entity 'Q99', which is not a candidate"),
    ):
        wrong = [mention | {"entity_id": entity} for mention in mentions]
        with pytest.raises(UserError, match=f"row 1, column 'mentions': {message}"):
            load(
                "mewslix", "test", "de", files | {"izhx__mewsli-x/de/test": [{"context": context, "mentions": wrong}]}
            )


# ---- the Hub --------------------------------------------------------------------------------------------------------


def test_every_pinned_revision_is_a_whole_commit():
    """But for the Hub's own conversion of a repository that is a loading script: a branch."""
    revisions = [
        s.revision
        for name in TASKS
        for s in get_task(name).sources
        if s.revision not in (None, "refs/convert/parquet")
    ]
    assert len(revisions) > 20 and all(len(r) == 40 and int(r, 16) >= 0 for r in revisions)


def test_cosmos_qa_is_read_from_its_authors(hub):
    asked = hub(
        [{"context": "c", "question": "q", "answer0": "a", "answer1": "b", "answer2": "c", "answer3": "d", "label": 0}]
    )
    rows = Rows("hub")
    get_task("cosmosqa").load("dev", "en", rows)
    url = asked[0]["url"]
    assert url.endswith("/data/valid.csv") and rows.records[0]["revision"] in url


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in TASKS if get_task(n).sources])
def test_every_hub_id_opens_at_its_revision(name, monkeypatch):
    """Needs a network. Opens every source of every split (the first rows), and asks for the columns the adapter
    reads."""
    from datasets import config, load_dataset
    from huggingface_hub import HfApi, constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)  # tests/conftest.py turned the network off
    monkeypatch.setattr(config, "HF_HUB_OFFLINE", False)
    task = get_task(name)
    for source in task.sources:
        language = source.only[0] if source.only else "en"
        if source.folders_only:
            continue
        for expression in dict.fromkeys(source.splits.values()):
            for split in expression.split("+"):
                if source.files:
                    url = source.files[split].format(revision=source.revision, language=language)
                    data = load_dataset(
                        "csv" if url.endswith("csv") else "json", data_files=url, split="train", streaming=True
                    )
                else:
                    revision = source.revision or HfApi().dataset_info(source.id).sha
                    data = load_dataset(
                        source.id, source.config_of(language), split=split, revision=revision, streaming=True
                    )
                row = next(iter(data))
                assert source.files or set(source.columns or task.columns) <= set(row)


# ---- topics, and reading in many languages --------------------------------------------------------------------------


def topic(number, category="travel", text="We flew to Ulm."):
    return {"index_id": number, "category": category, "text": text}


def test_sib200_has_the_same_rows_in_every_language(load, tmp_path, tokenizer):
    files = {
        f"Davlan__sib200/{code}/{split}": [topic(7), topic(3, "science/technology", "Atoms are small.")]
        for code in ("eng_Latn", "zho_Hant", "xho_Latn")
        for split in ("train", "validation", "test")
    }
    task = get_task("sib200")
    for split in ("train", "dev", "test"):
        examples, (record,) = load("sib200", split, "zh-Hant", files)
        assert dict(zip(task.ids(examples), examples["label"][:], strict=True)) == {"7": 1, "3": 0}
        assert (record["config"], record["rows"]) == ("zho_Hant", 2)
    assert task.languages(Rows(tmp_path)) == ["en", "xh", "zh-Hant"] and len(task.languages(Rows("hub"))) == 205
    assert task.lines([0, 1], examples) == ["science/technology", "travel"]
    # what a translation of them is written as
    assert set(task.to_rows(examples).column_names) == {"text", "category", "index_id"}
    features = featurize(task, examples, tokenizer)
    assert [tokenizer.decode(ids) for ids in features["input_ids"]] == [
        tokenizer.decode(tokenizer(text)["input_ids"]) for text in examples["text_a"]
    ]


@pytest.mark.parametrize(
    "row, told",
    [
        (
            topic(1, "weather"),
            "row 2, column 'category': 'weather' is not a label; expected one of science/technology, travel",
        ),
        (topic(1, None), "row 2, column 'category'"),
        (topic(1, text=None), "row 2, column 'text': empty (null)"),
    ],
)
def test_sib200_refuses_invalid_rows(load, row, told):
    with pytest.raises(UserError) as error:
        load("sib200", "test", "en", {"Davlan__sib200/eng_Latn/test": [topic(0), row]})
    assert told in str(error.value)


def test_the_order_of_sib200_is_that_of_the_numbers_however_they_are_stored(load):
    """pandas writes 0.0 after a column had a null."""
    files = {
        f"Davlan__sib200/{code}/test": [topic(kind(number), text=f"number {number}") for number in range(9)]
        for code, kind in (("eng_Latn", int), ("xho_Latn", float), ("deu_Latn", str))
    }
    texts = [load("sib200", "test", language, files)[0]["text_a"][:] for language in ("en", "xh", "de")]
    assert texts[0] == texts[1] == texts[2]


def test_the_first_rows_of_sib200_are_no_one_topic(load):
    """Its test file is sorted by topic, and --max_eval_samples takes the first rows: the same ones in every
    language."""
    labels = get_task("sib200").labels
    rows = [topic(number, labels[number // 30], f"number {number}") for number in range(210)]
    files = {"Davlan__sib200/eng_Latn/test": rows, "Davlan__sib200/xho_Latn/test": rows[::-1]}
    english, (record,) = load("sib200", "test", "en", files)
    xhosa, _ = load("sib200", "test", "xh", {})
    assert sorted(english["text_a"]) == sorted(row["text"] for row in rows) and english["id"][:] == xhosa["id"][:]
    assert all(text == f"number {number}" for text, number in zip(english["text_a"], english["id"], strict=True))
    assert len(set(english["label"][:20])) >= 5 and any("order" in note for note in record["notes"])


def reading(answer, text="Bob lives in Ulm."):
    return {
        "link": "x",
        "question_number": 1,
        "flores_passage": text,
        "question": "Where?",
        "correct_answer_num": answer,
        "dialect": "x",
        "ds": "2023-05-03",
        **{f"mc_answer{i}": place for i, place in enumerate(("Ulm", "Bonn", "Rome", "Oslo"), 1)},
    }


def test_belebele_is_trained_on_cosmosqa_unless_rows_of_its_own_are_named(load, tmp_path):
    cosmos = {"context": "It rains.", "question": "Why?", "label": 2} | {f"answer{i}": f"a{i}" for i in range(4)}
    files = {
        "allenai__cosmos_qa/default/train": [cosmos] * 3,
        "allenai__cosmos_qa/default/validation": [cosmos],
        "facebook__belebele/eng_Latn/test": [reading("1"), reading("4")],
        "facebook__belebele/als_Latn/test": [reading("2")],
        "facebook__belebele/eng_Latn/collected": [reading("3", "Ada lives in Rome.")],
    }
    examples, (record,) = load("belebele", "train", "en", files)
    assert (
        len(examples) == 3 and record["id"] == "allenai/cosmos_qa" and len(load("belebele", "dev", "en", {})[0]) == 1
    )
    examples, _ = load("belebele", "test", "en", {})
    assert examples[1] == {
        "prompt": "Bob lives in Ulm. Where?",
        "choices": ["Ulm", "Bonn", "Rome", "Oslo"],
        "label": 3,
    }
    assert (
        get_task("belebele").languages(Rows(tmp_path)) == ["en", "sq"]
        and len(get_task("belebele").languages(Rows("hub"))) == 122
    )
    examples, (record,) = load("belebele", "train", "en", {}, splits=["belebele.train=collected"])
    assert examples["prompt"][:] == ["Ada lives in Rome. Where?"] and examples["label"][:] == [2]
    assert (record["id"], record["split"]) == ("facebook/belebele", "collected")
    with pytest.raises(UserError, match="column 'correct_answer_num': '5' is not a label; expected one of 1, 2, 3, 4"):
        load("belebele", "test", "en", {"facebook__belebele/eng_Latn/test": [reading("5")]})


def test_the_wide_tasks_are_no_part_of_a_submission(tmp_path, tiny_world):
    """Gold of a benchmark's layout holds the benchmarks' tasks alone, unless another is named."""
    from xstilts.xtreme import submission

    wide = {"ntrex", "flores", "sib200", "belebele"}
    assert not wide & set(TARGETS) and not wide & set(submission.gold(Rows(tiny_world), tmp_path / "gold"))
    assert set(submission.gold(Rows(tiny_world), tmp_path / "named", ["sib200"])) == {"sib200"}
