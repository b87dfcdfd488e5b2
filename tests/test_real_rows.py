"""Every file of the folder of real rows, through its adapter: counts as its README says, features, gold decoded, 100.

The folder is found as tests/conftest.py says, and the tests skip without it. The tokenizer is a multilingual one,
made on the spot from these rows.
"""

import os
import re
import subprocess
from pathlib import Path

import pytest
from test_contract import featurize, right_logits

from tasks import TASKS, get_task
from tasks import languages as codes
from tasks.errors import UserError
from tasks.rows import Rows
from xstilts.train import featurizing

FOLDER = Path(os.environ.get("XSTILTS_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
SCORED, FEATURISED = 500, 20  # rows of each file
PIECES = 6000
# files whose gold is one label throughout
PLACEHOLDERS = {"aps__super_glue/copa/test.jsonl.gz"}
# files whose gold does not score 100: MLQA's script takes articles out, and one of these 500 answers is nothing else
BELOW_100 = {"google__xtreme/MLQA.es.es/validation.jsonl.gz": 99.8}
# tasks of a hundred languages and more: a test of their own for all files together
WIDE = {"ntrex", "flores", "sib200", "belebele"}
# files no adapter reads, and why
NOT_READ = {
    "bilingual-lexicons": "word lists, not a task",
    "google__xtreme/bucc18.": "gold pairs alone are no mining",
    "google__xtreme/MLQA.": "context and question in two languages",
}


def listed() -> dict[str, int]:
    """File -> rows, from the tables of the folder's README."""
    counts, folder = {}, ""
    for line in (FOLDER / "README.md").read_text(encoding="utf-8").splitlines():
        if line.startswith("### "):
            folder = line[4:].strip()
        elif match := re.match(r"\| (\S+\.jsonl\.gz) \| (\d+) \|", line):
            counts[f"{folder}/{match[1]}"] = int(match[2])
    return counts


def readings() -> list[tuple[str, int, str, str, str]]:
    """(task, number of its source, config, split, language or "" for a file of several) for every file a source
    reads."""
    found, rows = [], Rows(FOLDER)
    for name in TASKS:
        if name in WIDE:
            continue
        for number, source in enumerate(get_task(name).sources):
            for config in rows.configs(source.id):
                language = (
                    source.language_of(config)
                    if "{language}" in source.config
                    else "en"
                    if config == source.config
                    else None
                )
                if language is None or (config == "all_languages" and not source.inside):
                    continue
                for path in sorted((rows.folder(source.id) / config).iterdir()):
                    found.append(
                        (name, number, config, path.name.partition(".")[0], "" if source.inside else language)
                    )
    return found


READINGS = readings() if FOLDER.is_dir() else []
pytestmark = pytest.mark.skipif(not READINGS, reason=f"no real rows at {FOLDER} (set XSTILTS_DATA)")


def open_task(name, number, split):
    """The adapter held to one of its sources, and the rows of a split under the name of test."""
    task = get_task(name)
    task.sources = (task.sources[number],)
    return task, Rows(FOLDER, [f"{name}.test={split}"])


def path_of(task, config, split):
    return f"{task.sources[0].id.replace('/', '__')}/{config}/{split}.jsonl.gz"


@pytest.fixture(scope="session")
def big_tokenizer(once):
    """A Unigram tokenizer of the texts of every language here."""

    def build(folder):
        from datasets import load_dataset

        from xstilts.train.tokenizer import train_tokenizer

        texts = []
        for path in sorted(FOLDER.glob("mteb__tatoeba-bitext-mining/*/test.jsonl.gz")):
            texts += load_dataset("json", data_files=str(path), split="train[:100]")["sentence1"][:]
        for path in sorted(FOLDER.glob("google__xtreme/XQuAD.*/validation.jsonl.gz")):
            texts += sorted(set(load_dataset("json", data_files=str(path), split="train[:200]")["context"]))
        train_tokenizer(texts, PIECES).save_pretrained(folder)

    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(once("big_tokenizer", build))
    assert len(tokenizer) >= 4000
    return tokenizer


def test_every_file_is_read_by_an_adapter_or_named():
    read = {path_of(open_task(n, number, split)[0], config, split) for n, number, config, split, _ in READINGS}
    read |= {f"bucc2018__zh-en/{part}/validation.jsonl.gz" for part in ("source", "target", "gold")}
    left = {path for path in listed() if path not in read and not path.startswith(tuple(NOT_READ))}
    assert not left
    assert len(listed()) > 300


@pytest.mark.parametrize("name, number, config, split, language", READINGS, ids=lambda value: str(value))
def test_file(name, number, config, split, language, big_tokenizer):
    task, rows = open_task(name, number, split)
    path = path_of(task, config, split)
    if task.form == "ranking":
        return  # LAReQA has a test of its own: every language is needed for one
    total = 0
    for code in [language] if language else task.languages(rows):
        examples = task.load("test", code, rows)
        total += len(examples)
        some = examples.select(range(min(SCORED, len(examples))))
        if path in PLACEHOLDERS:
            with pytest.raises(UserError, match="placeholder"):
                task.score(task.gold(some), some, code)
            with pytest.raises(UserError, match="placeholder"):
                featurizing.load_scored(task, "test", code, rows, None)
            return
        assert task.score(task.gold(some), some, code)[task.metric] == BELOW_100.get(path, 100)
        if task.auto_class:
            check_features(task, examples.select(range(min(FEATURISED, len(examples)))), code, big_tokenizer)
    read = {r["rows"] for r in rows.records}
    assert read == {listed()[path]}, "rows read, and rows the README tells"
    assert total == listed()[path] * (len(task.languages(rows)) if config == "all_languages" else 1), "rows were lost"


def check_features(task, examples, language, tokenizer):
    """The labels of the features, decoded as if a model had said them, are the gold."""
    with_labels = featurize(task, examples, tokenizer, task.defaults["max_seq_length"], True)
    plain = featurize(task, examples, tokenizer, task.defaults["max_seq_length"], False)
    assert sorted(set(plain["example"])) == list(range(len(examples)))
    predictions = task.decode(right_logits(task, with_labels, examples), plain, examples)
    if task.form == "span":
        examples, predictions = can_be_told(task, examples, with_labels, plain, predictions)
    assert len(predictions) == len(examples)
    gold = task.gold(examples)
    if task.form in ("sentence_pair", "multiple_choice") and len(set(gold)) == 1:
        assert predictions == gold  # the score takes one label throughout for a placeholder
        return
    assert task.score(predictions, examples, language)[task.metric] == 100


def can_be_told(task, examples, with_labels, plain, predictions):
    """The rows whose answer some window holds whole, begins and ends with a piece, and has no more than 30 pieces.

    The others a model cannot get right, whatever it says; they must be few. What is said of them holds the answer.
    """
    told = {}
    for label, owner, first, offsets in zip(
        with_labels["labels"], plain["example"], plain["first"], plain["offsets"], strict=True
    ):
        answers = examples[owner]["answers"]
        if label == [0, 0]:
            told[owner] = told.get(owner, False) or not answers["text"]
            continue
        (start, _), (_, end) = offsets[label[0] - first], offsets[label[1] - first]
        said = examples[owner]["context"][start:end]
        assert answers["text"][0] in said
        told[owner] = told.get(owner, False) or (
            said.strip() == answers["text"][0].strip() and label[1] - label[0] < 30
        )
    kept = [i for i in range(len(examples)) if told[i]]
    assert len(kept) >= 0.5 * len(examples)
    return examples.select(kept), [predictions[i] for i in kept]


@pytest.mark.parametrize(
    "name, language", [("tydiqa", "ar"), ("tydiqa", "bn"), ("xquad", "zh"), ("xquad", "ru"), ("squad", "en")]
)
def test_answers_of_stripped_contexts_and_of_bytes_are_found_again(name, language, real_data):
    """The copies of google/xtreme strip contexts and leave the offsets; TyDiQA's own files count bytes. None is
    refused or misplaced."""
    from tasks import offsets

    split = "test" if name != "squad" else "dev"
    examples = get_task(name).load(split, language, Rows(real_data))
    contexts, answers = examples["context"][:], examples["answers"][:]
    assert (
        offsets.mend(contexts, answers) == {}
        and offsets.other_unit(
            (context, a["text"], a["answer_start"]) for context, a in zip(contexts, answers, strict=True)
        )
        is None
    )

    def starts(given):
        found = offsets.mend(
            [context for context, _, _ in given], [{"text": t, "answer_start": s} for _, t, s in given]
        )
        return [found.get(row, s) for row, (_, _, s) in enumerate(given)]

    pairs = list(zip(contexts, answers, strict=True))
    assert starts([(c.strip(), a["text"], a["answer_start"]) for c, a in pairs]) == [
        [s - (len(c) - len(c.lstrip())) for s in a["answer_start"]] for c, a in pairs
    ]
    in_bytes = [(c, a["text"], [len(c[:s].encode()) for s in a["answer_start"]]) for c, a in pairs]
    assert starts(in_bytes) == [a["answer_start"] for _, a in pairs]


def test_lareqa(real_data):
    task, rows = get_task("lareqa"), Rows(real_data)
    languages = task.languages(rows)
    pool = task.load("test", "en", rows)
    assert {f"lareqa__xquad-r/{r['config']}/{r['split']}.jsonl.gz": r["rows"] for r in rows.records} == {
        path: n for path, n in listed().items() if path.startswith("lareqa")
    }
    # 1,190 questions in each language; sentences as counted in the files of the LAReQA repository
    sentences = {
        "ar": 1222,
        "de": 1276,
        "en": 1180,
        "es": 1215,
        "hi": 1244,
        "ru": 1219,
        "tr": 1167,
        "vi": 1209,
        "zh": 1196,
    }
    assert len(pool) == 1190 and len(pool.candidates) == len(set(pool.candidate_ids)) == sum(
        sentences[code] for code in languages
    )
    assert min(map(len, pool.gold)) >= len(languages)
    texts = task.texts(pool, "sentence_context")  # XTREME-R takes (sentence + context).replace("\n", "")
    assert sum("\n" in text for text in pool.candidates) == 25 and not any("\n" in text for text in texts)
    for language in languages:
        pool = task.load("test", language, rows)
        assert len(pool) == 1190 and task.score(task.gold(pool), pool, language)["map@20"] == pytest.approx(100)


def test_sib200_is_the_same_rows_in_every_language(real_data, big_tokenizer):
    """As the folder's README says: 701, 99 and 204 rows, parallel by index_id, in each of 193 languages."""
    task, rows = get_task("sib200"), Rows(real_data)
    languages = task.languages(rows)
    assert len(languages) == 193 and set(languages) < set(codes.languages("sib200")) and languages[0] == "en"
    for split, n in (("train", 701), ("dev", 99), ("test", 204)):
        english = task.load(split, "en", rows)
        assert len(english) == n and len(set(task.ids(english))) == n
        for language in languages[:: 1 if split == "test" else 20]:
            examples = task.load(split, language, rows)
            assert task.ids(examples) == task.ids(english) and examples["label"][:] == english["label"][:], language
            if language in ("en", "th", "sr", "zh-Hant", "ace-Arab"):
                assert task.score(task.gold(examples), examples, language)["accuracy"] == 100
                check_features(task, examples.select(range(FEATURISED)), language, big_tokenizer)
    assert set(english["label"]) == set(range(7))


def test_sib200_is_matched_in_many_languages(real_data):
    """A family of 64 languages has all 701 rows, each in one of them."""
    from xstilts.cli.arguments import ArmArguments, FamilyArguments
    from xstilts.train import multilingual

    task, rows = get_task("sib200"), Rows(real_data)
    languages = task.languages(rows)[:64]
    family = FamilyArguments(train_languages=languages)
    english, several = (
        multilingual.load(task, family, ArmArguments(language_mode=mode), rows, None, 0, {})
        for mode in ("english", "multilingual")
    )
    assert len(english.examples) == len(several.examples) == 701 and not several.notes
    assert (
        task.ids(english.examples) == task.ids(several.examples)
        and english.examples["label"][:] == several.examples["label"][:]
    )
    assert several.english.to_dict() == english.examples.to_dict()
    of_language = {code: task.load("train", code, rows)["text_a"][:] for code in languages}
    drawn = [
        {code for code in languages if of_language[code][row] == text}
        for row, text in enumerate(several.examples["text_a"])
    ]
    assert all(drawn) and len(set().union(*drawn)) == 64


def test_ntrex(real_data):
    task, rows = get_task("ntrex"), Rows(real_data)
    languages = task.languages(rows)
    assert len(languages) == 108 and set(languages) < set(codes.languages("ntrex"))
    english = set()
    for language in ("de", "sr", "sr-Latn", "mn", "zh-Hant"):
        examples = task.load("test", language, rows)
        assert len(examples) == 1997 and task.score(task.gold(examples), examples, language)["accuracy"] == 100
        english.add(tuple(examples["target"]))
    assert len(english) == 1
    assert {(r["rows"], r["sha256"]) for r in rows.records} == {
        (1997, "feb82d5d67c3ceb4be07e5272fa2d4021f27a20c0a79156e616c622837fe0108")
    }


def test_bucc(real_data):
    rows = Rows(real_data)
    pools = get_task("bucc").load("dev", "zh", rows)
    parts = [f"bucc2018__zh-en/{part}/validation.jsonl.gz" for part in ("source", "target", "gold")]
    assert [r["rows"] for r in rows.records] == [listed()[part] for part in parts]
    assert get_task("bucc").score(get_task("bucc").gold(pools), pools, "zh")["f1"] == 100


def test_qqp_and_copies_of_another_split_say_so(real_data):
    rows = Rows(real_data)
    get_task("qqp").load("train", "en", rows)
    assert rows.records[0]["notes"] == ["rows without idx: not GLUE's split of QQP"]


@pytest.mark.parametrize("preset", ["human", "question-human", "question-human-mlm"])
def test_the_languages_that_a_preset_measures_are_there(preset, real_data):
    """A language that is not would stop the cell, and that only once everything before it has run."""
    done = subprocess.run(
        [
            "make",
            "-n",
            "matrix",
            f"PRESET={preset}",
            f"DATA_ROOT={real_data}",
            "ARMS=none",
            "SEEDS=0",
            "OUT=runs/never",
        ],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=True,
    )
    asked = re.findall(
        r"run_retrieval\.py --tasks (\w+) .*?--languages ((?:[\w-]+ ?)+)", done.stdout.replace("\\\n", " ")
    )
    assert asked
    for task, languages in asked:
        assert set(languages.split()) <= set(get_task(task).languages(Rows(real_data))), task


def test_the_languages_that_a_preset_trains_on_are_there(real_data):
    asked = set()
    for preset in ("human", "question-human", "question-human-mlm"):
        found = set()
        done = subprocess.run(
            ["make", "-n", "matrix", f"PRESET={preset}", f"DATA_ROOT={real_data}", "SEEDS=0", "OUT=runs/never"],
            cwd=Path(__file__).parents[1],
            capture_output=True,
            text=True,
            check=True,
        )
        for line in done.stdout.replace("\\\n", " ").splitlines():
            if trained := re.findall(r"--train_languages ((?:[a-z]+ ?)+)", line):  # the last one given counts
                base = re.search(r"--arm (\w+)", line)[1].removeprefix("mlm_").removesuffix("_dual")
                splits = tuple(re.search(r"--splits ((?:\w+\.\S+ ?)+)", line)[1].split())
                found |= {(base, splits, language) for language in trained[-1].split()}
        assert found, preset
        asked |= found
    for base, splits, language in sorted(asked):  # several presets ask for the same
        assert len(get_task(base).load("train", language, Rows(real_data, splits=splits))), (base, language)
