"""The arms of a family have the same rows, order, batches and steps in any language; what cannot be matched is
refused."""

import json
import math
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import records
from datasets import Dataset

from tasks import get_task
from tasks.errors import UserError
from tasks.rows import Loaded, Rows
from tasks.source import Source
from tasks.text import Wikipedia
from xstilts.cli.arguments import ArmArguments, DataArguments, FamilyArguments
from xstilts.cli.arms import read_arm
from xstilts.run.settings import outdated
from xstilts.train import batching, code_switch, families, featurizing, multilingual, trainers
from xstilts.train import texts as texts_of

ROOT = Path(__file__).resolve().parents[1]
LANGUAGES = ["en", "qaa", "qab"]
FAMILY = FamilyArguments(train_languages=LANGUAGES)
MODES = ["english", "multilingual", "translated", "cross", "hybrid", "roundtrip"]


@pytest.fixture(scope="session")
def translations(once, tiny_world):
    """The tiny world's train rows in its other languages."""
    from world.files import translate

    def build(folder):
        folder.rmdir()
        translate(tiny_world, folder)

    return once("translations", build)


@pytest.fixture
def rows(tiny_world, translations):
    return Rows(tiny_world, translations=translations)


@pytest.fixture
def lexicons(tiny_world):
    return code_switch.read_lexicons(str(tiny_world / "bilingual-lexicons__world"))[0]


@pytest.fixture
def arm(rows, lexicons):
    """`arm("squad", "cross", seed=1)` -> ArmRows; more are fields of ArmArguments."""

    def load(task, mode="english", family=FAMILY, limit=None, seed=0, **more):
        given = ArmArguments(language_mode=mode, **more)
        family = replace(family, match_roundtrip=family.match_roundtrip or mode == "roundtrip", lexicon="somewhere")
        families.check(family, given)
        return multilingual.load(get_task(task), family, given, rows, limit, seed, lexicons)

    return load


@pytest.fixture
def languages_of(rows):
    """`languages_of("xnli", examples)`: for each row the languages that its first and its second field may be in, by
    their texts."""
    texts = {}

    def find(task, examples):
        fields = [field[0] for field in get_task(task).fields]
        if task not in texts:
            found = multilingual.parallel(get_task(task), LANGUAGES, False, rows, None)[0]
            texts[task] = {field: {code: data[field][:] for code, data in found.items()} for field in fields}
        drawn = [
            [
                {code for code, of in texts[task][field].items() if of[number] == text}
                for number, text in enumerate(examples[field])
            ]
            for field in fields
        ]
        assert all(map(all, drawn)), "a text of another row"
        return list(zip(*drawn, strict=True))

    return find


# ---- rows -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", ["xnli", "squad", "pawsx"])  # by number, by id and with answers, by id
def test_every_arm_has_the_same_rows_in_the_same_order(task, arm):
    family = replace(FAMILY, match_roundtrip=True)
    english = arm(task, family=family)
    ids = get_task(task).ids(english.examples)
    assert len(english.examples) > 20 and (ids is None) == (task == "xnli")
    for mode in MODES[1:]:
        other = arm(task, mode, family=family)
        assert get_task(task).ids(other.examples) == ids and len(other.examples) == len(english.examples), mode
        assert other.english.to_dict() == english.examples.to_dict(), mode
        if task != "squad":
            assert other.examples["label"][:] == english.examples["label"][:], mode
            assert other.examples["text_a"][:] != english.examples["text_a"][:], mode


@pytest.mark.parametrize("languages", [["en"], ["en", "qaa"], ["en", "qaa", "qab"], ["qaa", "qab"]])
def test_topics_in_any_number_of_languages(languages, arm, rows):
    """SIB-200 has train rows in every language: however many an arm has, its rows, topics and order are the same."""
    task, family = get_task("sib200"), replace(FAMILY, train_languages=languages)
    english = arm("sib200", family=family)
    assert english.examples["text_a"][:] == task.load("train", "en", rows)["text_a"][:]  # in the same order, too
    for mode in ("multilingual", "translated") if len(languages) > 1 else ():
        other = arm("sib200", mode, family=family)
        assert not other.notes and other.english.to_dict() == english.examples.to_dict()
        assert (
            task.ids(other.examples) == task.ids(english.examples)
            and other.examples["label"][:] == english.examples["label"][:]
        )
        of_language = {code: task.load("train", code, rows)["text_a"][:] for code in LANGUAGES}
        drawn = {
            code
            for row, text in enumerate(other.examples["text_a"])
            for code in LANGUAGES
            if of_language[code][row] == text
        }
        assert drawn == set(languages) - ({"en"} if mode == "translated" else set())
    shuffled = arm("sib200", family=family, shuffle_labels=True)
    assert Counter(shuffled.examples["label"]) == Counter(english.examples["label"])
    switched = arm("sib200", family=family, code_switch="multilingual", switch_probability=1.0)
    assert switched.examples["text_a"][:] != english.examples["text_a"][:]
    assert switched.examples["label"][:] == english.examples["label"][:]


def test_rows_whose_answer_is_lost_in_one_language_are_in_no_arm(arm, rows):
    task = get_task("squad")
    ids = {code: set(task.load("train", code, rows)["id"]) for code in LANGUAGES}
    back = set(task.load("train", "en", rows.roundtrip())["id"])
    shared = ids["en"] & ids["qaa"] & ids["qab"]
    assert shared < ids["en"] and not shared <= back, "this world lost no answer: the test says nothing"
    english = arm("squad")
    assert set(english.examples["id"]) == shared
    (note,) = english.notes
    assert (
        note.startswith(f"squad: {len(shared)} of {len(ids['en'])} English rows")
        and f"qab {len(ids['en'] - ids['qab'])}" in note
    )
    with_back = arm("squad", family=replace(FAMILY, match_roundtrip=True))
    assert set(with_back.examples["id"]) == shared & back
    assert arm("squad", limit=7).examples["id"][:] == english.examples["id"][:7], "the first of the shared rows"


@pytest.mark.parametrize("task", ["xnli", "squad"])
def test_languages_are_drawn_as_the_arm_says(task, arm, languages_of):
    seen = {
        mode: [languages_of(task, arm(task, mode, seed=seed).examples) for seed in range(2)]
        for mode in ("multilingual", "translated", "cross", "hybrid")
    }  # each row, each field
    for mode, by_seed in seen.items():
        together = []
        for drawn in by_seed:
            together += [bool(first & second) for first, second in drawn]
        share = np.mean(together)
        assert share == {"multilingual": 1, "translated": 1, "cross": 0}.get(mode, pytest.approx(0.5, abs=0.2)), mode
        firsts = Counter(min(first) for drawn in by_seed for first, _ in drawn)
        wanted = LANGUAGES[1:] if mode == "translated" else LANGUAGES
        assert set(firsts) == set(wanted)
        n = sum(firsts.values())
        assert all(abs(count - n / len(wanted)) < 5 * math.sqrt(n / len(wanted)) for count in firsts.values()), mode
    for drawn, crossed, mixed in zip(*(seen[mode] for mode in ("multilingual", "cross", "hybrid")), strict=True):
        assert [first for first, _ in drawn] == [first for first, _ in crossed] == [first for first, _ in mixed]
    assert seen["multilingual"][0] != seen["multilingual"][1]
    assert languages_of(task, arm(task, "multilingual").examples) == seen["multilingual"][0]


def test_answers_stand_where_the_arm_says_they_do(arm):
    given = {mode: arm("squad", mode) for mode in MODES} | {
        "codeswitched": arm("squad", code_switch="multilingual", switch_probability=0.7),
        "shuffled": arm("squad", shuffle_labels=True),
    }
    for name, one in given.items():
        for row in one.examples:
            for text, start in zip(row["answers"]["text"], row["answers"]["answer_start"], strict=True):
                assert text and row["context"][start : start + len(text)] == text, name
    english, switched = given["english"].examples, given["codeswitched"]
    assert any("words switched" in note and note.startswith("squad, second: ") for note in switched.notes)
    changed = [a["text"] != b["text"] for a, b in zip(english["answers"], switched.examples["answers"], strict=True)]
    assert 0 < sum(changed) < len(changed)
    moved = given["shuffled"].examples
    assert moved.remove_columns("answers").to_dict() == english.remove_columns("answers").to_dict()
    for old, new in zip(english["answers"], moved["answers"], strict=True):
        assert [len(text) for text in new["text"]] == [len(old["text"][0])]
    assert (
        np.mean(
            [
                a["answer_start"][0] != b["answer_start"][0]
                for a, b in zip(english["answers"], moved["answers"], strict=True)
            ]
        )
        > 0.8
    )


def test_shuffled_labels_are_as_many_of_each(arm):
    english, shuffled, other = arm("xnli"), arm("xnli", shuffle_labels=True), arm("xnli", shuffle_labels=True, seed=1)
    assert english.examples["text_a"][:] == shuffled.examples["text_a"][:]
    assert sorted(english.examples["label"]) == sorted(shuffled.examples["label"])
    assert english.examples["label"][:] != shuffled.examples["label"][:] != other.examples["label"][:]
    tags, dealt = arm("udpos", family=FamilyArguments()), arm("udpos", family=FamilyArguments(), shuffle_labels=True)
    assert [len(row) for row in tags.examples["tags"]] == [len(row) for row in dealt.examples["tags"]]
    assert Counter(t for row in tags.examples["tags"] for t in row) == Counter(
        t for row in dealt.examples["tags"] for t in row
    )


def test_choices_are_code_switched(arm):
    plain, switched = (
        arm("hellaswag", family=FamilyArguments()),
        arm("hellaswag", code_switch="multilingual", family=FamilyArguments()),
    )
    assert (
        plain.examples["label"][:] == switched.examples["label"][:]
        and plain.examples["choices"][:] != switched.examples["choices"][:]
    )
    assert all(len(choices) == 4 for choices in switched.examples["choices"])


def test_native_rows_are_equal_shares_of_other_contents(tiny_world):
    task, rows = get_task("tydiqa"), Rows(tiny_world, ["tydiqa.train=validation"])
    english = task.load("train", "en", rows)
    drawn = multilingual.load(task, FAMILY, ArmArguments(language_mode="multilingual"), rows, None, 0, {})
    names = Counter(i.partition("-")[0] for i in drawn.examples["id"])
    assert len(drawn.examples) == len(english) and max(names.values()) - min(names.values()) <= 1 and len(names) == 3
    assert drawn.english is None and drawn.matched
    few = multilingual.load(task, FAMILY, ArmArguments(), rows, 5, 0, {})
    assert few.examples["id"][:] == english["id"][:5]


def test_a_mixture_keeps_english_what_has_no_other_languages(rows):
    given = ArmArguments(language_mode="multilingual")
    one = multilingual.load(get_task("mnli"), FAMILY, given, rows, None, 0, {}, alone=False)
    assert one.notes == ["mnli: English rows only, there are no others"] and len(one.examples) > 20


# ---- what cannot be matched -----------------------------------------------------------------------------------------


def pairs(texts, labels, ids=None):
    data = Dataset.from_dict({"text_a": texts, "text_b": texts, "label": labels})
    return data.add_column("id", ids) if ids else data


@pytest.fixture
def made():
    """`made(en=Dataset, de=Dataset)`: an inference task with these train rows."""

    def make(kind="xnli", **data):
        task = get_task(kind)
        task.read = lambda split, language, rows: Loaded(data[language], ())
        return task

    return make


@pytest.mark.parametrize(
    "foreign, message",
    [
        (pairs(["x"] * 19, [0, 1] * 9 + [0]), "not as many in each language: en 20, de 19"),
        (pairs(["x"] * 20, [1, 0] * 10), "other labels than in English: de 20 of 20. They are not the same rows"),
    ],
)
def test_rows_without_ids_that_are_not_the_same_rows_are_refused(made, foreign, message):
    task = made(en=pairs(["x"] * 20, [0, 1] * 10), de=foreign)
    with pytest.raises(UserError, match=message):
        multilingual.parallel(task, ["en", "de"], False, None, None)


def test_rows_whose_label_differs_in_one_language_are_left_out(made):
    labels = [0, 1] * 10
    task = made(
        en=pairs(list("abcdefghijklmnopqrst"), labels), de=pairs(list("ABCDEFGHIJKLMNOPQRST"), [1, *labels[1:]])
    )
    found, notes = multilingual.parallel(task, ["en", "de"], False, None, None)
    assert found["en"]["text_a"][:] == list("bcdefghijklmnopqrst") and found["de"]["text_a"][:] == list(
        "BCDEFGHIJKLMNOPQRST"
    )
    assert notes == ["xnli: 1 rows left out whose label is not the same in all; other than in English: de 1"]


def test_ids_that_do_not_match_are_refused_with_the_counts(made):
    task = made(en=pairs(["x", "y"], [0, 1], ["1", "2"]), de=pairs(["x"], [0], ["7"]))
    with pytest.raises(UserError, match=r"xnli: no id occurs in every language.*en: 2 rows, 1, 2, ...; de: 1 rows, 7"):
        multilingual.parallel(task, ["en", "de"], False, None, None)


def test_a_native_language_with_too_few_rows_is_refused_with_the_counts(made):
    def of(n):
        return Dataset.from_dict({"tokens": [["a"]] * n, "tags": [[0]] * n})

    with pytest.raises(
        UserError,
        match="20 rows in 2 languages are 10 of each, but there are only jv 4.*--max_train_samples 8 or less",
    ):
        multilingual.native(made("panx", en=of(20), jv=of(4)), ["en", "jv"], None, None)
    with pytest.raises(UserError, match="panx's rows in other languages are not its English ones"):
        task = made("panx", en=of(4), jv=of(4))
        multilingual.load(
            task, FamilyArguments(train_languages=["en", "jv"]), ArmArguments(language_mode="cross"), None, None, 0, {}
        )


@pytest.mark.parametrize(
    "family, given, message",
    [
        ({}, {"language_mode": "multilingual"}, "multilingual needs .*--train_languages"),
        (
            {"train_languages": ["en"]},
            {"language_mode": "translated"},
            "translated needs .*--train_languages",
        ),
        ({"train_languages": ["de"]}, {"language_mode": "cross"}, "cross needs .*--train_languages"),
        (
            {"train_languages": ["en", "de", "de", "sw"]},
            {"language_mode": "multilingual", "number_of_languages": 4},
            r"_languages 4: --train_languages has 3 \(en de sw\)",
        ),
        ({}, {"language_mode": "roundtrip"}, "needs --match_roundtrip"),
        ({"train_languages": ["xx"]}, {}, "'xx' is unknown"),
        ({}, {"code_switch": "multilingual"}, "--code_switch needs --lexicon"),
        (
            {"train_languages": ["de"], "lexicon": "x"},
            {"code_switch": "bilingual", "language_mode": "translated"},
            "not translated",
        ),
        ({}, {"switch_languages": ["de"]}, "--switch_languages goes with --code_switch"),
        ({}, {"switch_treebank": True}, "--switch_treebank goes with --code_switch"),
        ({}, {"skip_identities": True}, "--skip_identities goes with --code_switch"),
    ],
)
def test_arguments_that_cannot_go_together(family, given, message):
    with pytest.raises(UserError, match=message):
        families.check(FamilyArguments(**family), ArmArguments(**given))


@pytest.mark.parametrize(
    "task, given, message",
    [
        ("mnli", {"language_mode": "multilingual"}, "mnli has English train rows only"),
        ("panx", {"code_switch": "multilingual"}, "words of its texts cannot be replaced"),
        ("squad_v2", {"shuffle_labels": True}, "some questions have no answer"),
        ("xnli", {"language_mode": "multilingual"}, r"No rows at .*facebook__xnli/qaa/train.parquet"),
        ("sib200", {"language_mode": "cross"}, "sib200 has one text a row, which cannot be in two languages"),
        ("sib200", {"language_mode": "hybrid"}, "sib200 has one text a row, which cannot be in two languages"),
    ],
)
def test_tasks_that_an_arm_does_not_fit(task, given, message, tiny_world, lexicons):
    family = FAMILY if "language_mode" in given else FamilyArguments()
    with pytest.raises(UserError, match=message):
        multilingual.load(get_task(task), family, ArmArguments(**given), Rows(tiny_world), None, 0, lexicons)


# ---- features -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task, length", [("xnli", 60), ("squad", 48)])
def test_batches_hold_the_same_rows_in_every_arm(task, length, arm, tokenizer):
    """Also where contexts are cut into windows, of which each language has its own number."""
    order, windows = {}, {}
    arms = {mode: arm(task, mode) for mode in ("english", "multilingual", "cross")}
    arms["codeswitched"] = arm(task, code_switch="multilingual")
    for name, one in arms.items():
        features = multilingual.featurize(get_task(task), one, tokenizer, length)
        assert features["example"][:] == list(range(len(one.examples)))
        sampler = batching.EpochSampler(features["length"][:], 4, seed=0)
        order[name] = list(sampler)
        windows[name] = len(featurizing.featurize(get_task(task), one.examples, tokenizer, length, True, "all"))
        if task == "squad":
            assert sum(label != [0, 0] for label in features["labels"]) > 0.9 * len(features)
    assert len(set(map(tuple, order.values()))) == 1
    assert (len(set(windows.values())) > 1) == (task == "squad"), "no context was cut: the test says nothing"


# ---- translations beside the rows -----------------------------------------------------------------------------------


@pytest.fixture
def two(tmp_path):
    """A folder of rows with de, and one of translations with de and fr."""
    for root, codes in (("rows", ["en", "de"]), ("more", ["de", "fr"])):
        for code in codes:
            folder = tmp_path / root / "facebook__xnli" / code
            folder.mkdir(parents=True)
            (folder / "train.jsonl").write_text(
                json.dumps({"premise": f"{root} {code}", "hypothesis": "x", "label": 0}) + "\n"
            )
            if root == "more":
                (folder / "train.translation.json").write_text(json.dumps({"model": "me/mt"}))
    return tmp_path / "rows", tmp_path / "more"


def test_translations_are_read_where_the_rows_have_none_and_named(two):
    rows, task = Rows(two[0], translations=two[1]), get_task("xnli")
    assert [task.load("train", code, rows)["text_a"][0] for code in ("en", "de", "fr")] == [
        "rows en",
        "rows de",
        "more fr",
    ]
    assert [record.get("translated_by") for record in rows.records] == [None, None, "me/mt"]
    record = SimpleNamespace(data=rows.records, finished="", settings={}, phase="intermediate")
    assert outdated(record, {"model": "x", "data_root": two[0], "translations": two[1]}) is None
    with pytest.raises(UserError, match="es/train.parquet.*not in --translations"):
        task.load("train", "es", rows)
    (two[1] / "facebook__xnli/fr/train.translation.json").unlink()
    with pytest.raises(UserError, match="train.translation.json cannot be read"):
        task.load("train", "fr", rows)


def test_of_the_hub_translations_are_read_from_their_folder(two, monkeypatch):
    asked = []

    def read_hub(self, source, config, *more):
        asked.append(config)
        return self._read_file(source, "de", "train", ("premise", "hypothesis", "label"), ())

    monkeypatch.setattr(Rows, "_read_hub", read_hub)
    rows, task = Rows("hub", translations=two[1]), get_task("xnli")
    assert task.load("train", "fr", rows)["text_a"][0] == "more fr" and asked == []
    task.load("train", "en", rows)
    assert asked == ["en"]
    with pytest.raises(UserError, match=r"No rows at .*more/facebook__xnli/en.roundtrip/train"):
        task.load("train", "en", rows.roundtrip())


def test_folders_that_are_not_there(tiny_world, tmp_path):
    with pytest.raises(UserError, match="--translations .* is not a folder"):
        Rows(tiny_world, translations=tmp_path / "none")
    with pytest.raises(UserError, match="give --translations FOLDER"):
        Rows(tiny_world).roundtrip()


def test_a_source_of_several_languages_is_not_asked_for_english():
    assert isinstance(get_task("squad").sources[1], Source)
    task = get_task("squad")
    assert task.locate("train", "en", Rows("hub"))[0].id == "rajpurkar/squad"
    assert task.locate("train", "de", Rows("hub"))[:2] == (task.sources[1], "de")


# ---- through the scripts --------------------------------------------------------------------------------------------


@pytest.fixture
def train(cli, tiny_model, tiny_world, translations, tmp_path):
    """`train("xnli+cross", *more)`: an arm by its recipe, as make calls it -> (what the script did, its record or
    None)."""

    def run(arm, *more, out=None):
        found = read_arm(arm)
        folder = tmp_path / (out or arm)
        done = cli(
            found.script,
            *found.words,
            "--arm",
            arm,
            "--model_name_or_path",
            tiny_model,
            "--data_root",
            tiny_world,
            "--output_dir",
            folder,
            "--train_languages",
            *LANGUAGES,
            "--match_roundtrip",
            "--translations",
            translations,
            "--lexicon",
            tiny_world / "bilingual-lexicons__world",
            "--max_train_samples",
            24,
            "--max_eval_samples",
            6,
            "--max_seq_length",
            48,
            "--num_train_epochs",
            1,
            "--per_device_train_batch_size",
            8,
            "--learning_rate",
            1e-3,
            "--bf16",
            "False",
            "--disable_tqdm",
            "True",
            *more,
        )
        return done, records.read(folder / "results.json") if done.returncode == 0 else None

    return run


MATCHED = {
    "xnli": ["hybrid", "roundtrip", "shuffled"],
    "squad": ["multilingual", "codeswitched"],
    "squad_dual": ["cross", "codeswitched", "shuffled"],
}


@pytest.mark.parametrize("family", MATCHED)
def test_the_arms_of_a_family_are_matched_in_rows_and_steps(family, train, tmp_path):
    found = {}
    for arm in [family, *(f"{family}+{mode}" for mode in MATCHED[family])]:
        done, found[arm] = train(arm)
        assert done.returncode == 0, done.stderr
    english = found.pop(family)
    assert english["measures"]["rows"] == 24 and english["measures"]["steps"] == 3
    assert english["settings"]["seen_languages"] == []
    other_tokens = 0
    for arm, record in found.items():
        assert [record["measures"][key] for key in ("rows", "steps", "epochs")] == [24, 3, 1.0], arm
        settings = {
            key: (english["settings"].get(key), record["settings"].get(key))
            for key in english["settings"].keys() | record["settings"].keys()
        }
        differ = {key for key, (one, other) in settings.items() if one != other}
        assert differ <= {
            "language_mode",
            "batch_languages",  # of a dual encoder
            "code_switch",
            "shuffle_labels",
            "seen_languages",
            "lexicon_sha256",
        }, arm
        seen = [] if arm.endswith(("roundtrip", "shuffled")) else LANGUAGES[1:]
        assert sorted(record["settings"]["seen_languages"]) == seen, arm
        other_tokens += record["measures"]["tokens"] != english["measures"]["tokens"]
        assert f"tokens: {record['measures']['tokens']:,}" in (tmp_path / arm / "README.md").read_text()
        assert not record["at_chance"] or not arm.endswith("shuffled")
    assert other_tokens >= 2  # text in another language has other tokens
    translated = {d.get("translated_by", "") for record in found.values() for d in record["data"]}
    assert any("translator, noise 0.08" in name for name in translated)


def test_native_families_have_as_many_rows(train):
    several = train(
        "tydiqa+multilingual", "--splits", "tydiqa.train=validation", "tydiqa.dev=train", "--max_train_samples", 6
    )[1]
    assert several["measures"]["rows"] == 6 and several["measures"]["steps"] == 1
    assert several["settings"]["seen_languages"] == LANGUAGES[1:]
    done, _ = train("panx+multilingual")
    assert done.returncode == 2 and "PAN-X.qaa/train.parquet" in done.stderr


# ---- masked LM alongside --------------------------------------------------------------------------------------------


def parts(sampler, ends):
    """[(part, rows)] of one epoch's batches; a batch of rows that are not one part's fails."""
    found = []
    for batch in sampler:
        (part,) = {next(p for p, end in enumerate(ends) if row < end) for row in batch}
        found.append((part, batch))
    return found


@pytest.mark.parametrize("rate", [0.25, 0.5, 0.8])
def test_text_has_its_rate_of_the_steps_and_the_task_its_rows_in_their_order(rate):
    from xstilts.train.mixture import MixtureSampler

    lengths = [1 + (7 * k) % 50 for k in range(203)]
    one = MixtureSampler({"task": lengths, "text": [0] * 1000}, 4, 2, None, 1.0, seed=3, mlm_rate=rate)
    one.set_epoch(2)
    found = parts(one, [203, 1203])
    assert len(found) == len(one) == 2 * one.steps
    assert all(a == b for (a, _), (b, _) in zip(found[::2], found[1::2], strict=True)), "a step is wholly one of them"
    share = sum(part == 1 for part, _ in found) / len(found)
    assert share == pytest.approx(rate, abs=0.02) and one.steps - one.task_steps == round(share * one.steps)
    plain = batching.EpochSampler(lengths, 4, seed=3)
    plain.set_epoch(2)
    rows = [row for part, batch in found if part == 0 for row in batch]
    assert rows[:200] == list(plain)[:200]
    texts = [tuple(batch) for part, batch in found if part == 1]
    assert len(set(texts)) == len(texts)


@pytest.mark.parametrize("peft", [False, True])
def test_a_task_with_masked_lm_alongside(peft, train, tmp_path, tiny_model):
    from safetensors.torch import load_file
    from transformers import AutoModel

    done, record = train(
        "xnli+mlm+lora" if peft else "xnli+mlm", "--save_strategy", "steps", "--save_steps", 2, out="out"
    )
    assert done.returncode == 0, done.stderr
    assert (record["form"], record["task"], record["metric"]) == (
        "mixture",
        "xnli",
        "accuracy",
    ) and "accuracy" in record["dev"]["en"]
    assert record["measures"]["rows"] == 24 and record["measures"]["steps"] == 6  # half of them text
    assert {d["config"] for d in record["data"] if "wikipedia" in d["id"]} == {
        f"20231101.{code}" for code in LANGUAGES
    }
    heads = load_file(tmp_path / "out/heads.safetensors")
    assert any(name.startswith("heads.wikipedia.lm_head.dense") for name in heads)
    assert not any("decoder" in name for name in heads), "the embeddings once more"
    before, after = (
        AutoModel.from_pretrained(f, add_pooling_layer=False).state_dict() for f in (tiny_model, tmp_path / "out")
    )
    changed = {name for name in before if not before[name].equal(after[name])}
    targets = {name for name in before if name.endswith(("query.weight", "value.weight"))}
    assert changed == targets if peft else changed > targets | {"embeddings.word_embeddings.weight"}


def test_masked_lm_on_the_texts_of_the_rows(train, tmp_path):
    done, english = train("mlm_squad")
    assert done.returncode == 0, done.stderr
    several = train("mlm_squad+multilingual")[1]
    assert english["measures"]["rows"] == several["measures"]["rows"] == 24 and english["measures"]["steps"] == 3
    assert english["settings"]["text_languages"] == ["en"] and several["settings"]["text_languages"] == LANGUAGES
    assert english["measures"]["tokens"] != several["measures"]["tokens"]
    # how many texts are too long depends on their language; that is why each is one feature
    notes = [[note for note in record["notes"] if "cut there" not in note] for record in (english, several)]
    assert notes[0] == notes[1] != [] and all(len(record["notes"]) > len(notes[0]) for record in (english, several))
    done, _ = train("mlm_squad", "--text_languages", "qaa", out="other")
    assert done.returncode == 2 and "must be en, or those of --train_languages" in done.stderr
    done, _ = train("mlm_squad", "--text_of", "udpos", "--splits", "udpos.train=validation", out="other")
    assert done.returncode == 2 and "udpos: its rows are not running text" in done.stderr


@pytest.mark.parametrize(
    "task, languages, message",
    [
        ("mnli", ["en", "de"], "English rows only"),
        ("xnli", [], "Give --train_languages, or --text_languages en"),
    ],
)
def test_texts_of_rows_in_no_known_language_are_refused(task, languages, message):
    family = FamilyArguments(train_languages=languages)
    with pytest.raises(UserError, match=f"--text_of {task}: .*{message}"):
        texts_of.row_texts(get_task(task), family, languages, Rows("hub"), None, 0)


def test_masked_lm_alongside_on_the_texts_of_rows(train):
    """Where a folder of rows has no Wikipedia."""
    done, record = train("xnli+mlm", "--text_of", "xnli")
    assert done.returncode == 0, done.stderr
    assert record["settings"]["text_of"] == "xnli" and not any("wikipedia" in entry["id"] for entry in record["data"])
    wikipedia = train("xnli+mlm", out="other")[1]
    assert wikipedia["measures"]["steps"] == record["measures"]["steps"]
    assert wikipedia["measures"]["tokens"] != record["measures"]["tokens"]
    done, _ = train("xnli+mlm", "--text_of", "xnli", "--text_languages", "qaa", out="another")  # as run_mlm.py has it
    assert done.returncode == 2 and "must be en, or those of --train_languages" in done.stderr


def test_the_texts_are_those_of_the_arms_rows(rows, arm):
    task = get_task("squad")
    texts, _ = texts_of.row_texts(task, FAMILY, LANGUAGES, rows, 10, seed=4)
    assert not any(record["split"] == "validation" for record in rows.records)  # only what is trained on is read
    dev = texts_of.read_held_out(Wikipedia(), task, LANGUAGES, rows, DataArguments(max_eval_samples=5))
    drawn = arm("squad", "multilingual", limit=10, seed=4).examples
    assert texts["rows"]["text"][:] == [f"{c} {q}" for c, q in zip(drawn["context"], drawn["question"], strict=True)]
    assert len(dev["en"]) == 5


# ---- adapters -------------------------------------------------------------------------------------------------------


def fresh(task, tiny_model, seed=0):
    import torch

    from xstilts.checkpoint import heads

    torch.manual_seed(seed)
    return heads.fresh_head(get_task(task), str(tiny_model)) if task else heads.masked_lm(str(tiny_model))


@pytest.mark.parametrize("task", ["xnli", "squad", "hellaswag", "udpos", ""])  # every head; "": masked LM
def test_an_adapter_trains_targets_and_head_alone_and_is_merged(task, tiny_model, tmp_path):
    import torch
    from peft import PeftModel

    from xstilts.cli.arguments import PeftArguments
    from xstilts.train import lora

    model = fresh(task, tiny_model)
    base = {name: value.clone() for name, value in model.state_dict().items()}
    wrapped = lora.wrap(model, PeftArguments(peft="lora", lora_rank=2))
    with torch.no_grad():
        for parameter in wrapped.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape) * 0.1)
    inputs = {"input_ids": torch.randint(5, 300, (2, 4, 9) if task == "hellaswag" else (3, 9))}

    def outputs(of):
        with torch.no_grad():
            return of.eval()(**inputs).to_tuple()

    expected = outputs(wrapped)
    trainer = SimpleNamespace(model=wrapped, is_world_process_zero=lambda: True)
    merged = lora.finish(trainer, tmp_path)
    assert type(merged) is type(fresh(task, tiny_model)) and trainer.model is merged
    again = PeftModel.from_pretrained(fresh(task, tiny_model, seed=1), tmp_path / "adapter")
    for found in (outputs(merged), outputs(again)):
        for a, b in zip(expected, found, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=2e-5)
    after = merged.state_dict()
    assert after.keys() == base.keys()
    changed = {name for name in base if not base[name].equal(after[name])}
    inside = {name for name in changed if name.startswith(merged.base_model_prefix + ".") and "pooler" not in name}
    assert inside == {name for name in base if name.endswith(("query.weight", "value.weight"))}
    assert len(changed) > len(inside), "the head was not trained"
    assert ("roberta.pooler.dense.weight" in changed) == (task == "hellaswag")


def test_an_adapters_config_lists_its_modules_in_order(tiny_model, tmp_path):
    """Two equal runs write equal files; peft itself writes a set."""
    from xstilts.cli.arguments import PeftArguments
    from xstilts.train import lora

    wrapped = lora.wrap(fresh("xnli", tiny_model), PeftArguments(peft="lora", lora_targets=["all-linear"]))
    lora.finish(SimpleNamespace(model=wrapped, is_world_process_zero=lambda: True), tmp_path)
    listed = json.loads((tmp_path / "adapter/adapter_config.json").read_text())["target_modules"]
    assert listed == sorted(listed) and len(listed) > 3


def test_a_mixture_trains_its_heads_beside_the_adapter(tiny_model, tmp_path):
    import torch

    from xstilts.cli.arguments import PeftArguments
    from xstilts.train import lora
    from xstilts.train.mixture import MixtureModel

    tasks = [get_task("xnli"), get_task("squad")]
    torch.manual_seed(0)
    model = MixtureModel(tasks, str(tiny_model))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    wrapped = lora.wrap(model, PeftArguments(peft="lora"))
    optimizer = torch.optim.SGD([p for p in wrapped.parameters() if p.requires_grad], lr=0.5)
    inputs = torch.randint(5, 300, (3, 9))
    for _ in range(2):  # at first the update is zero, and its first half gets no gradient
        optimizer.zero_grad()
        wrapped(task="xnli", input_ids=inputs, labels=torch.tensor([0, 1, 2])).loss.backward()
        optimizer.step()
    wrapped.eval()
    expected = wrapped(task="xnli", input_ids=inputs).logits
    merged = lora.finish(SimpleNamespace(model=wrapped, is_world_process_zero=lambda: True), tmp_path)
    torch.testing.assert_close(expected, merged(task="xnli", input_ids=inputs).logits, rtol=0, atol=2e-5)
    changed = {name for name, value in merged.state_dict().items() if not value.equal(before[name])}
    assert {name for name in changed if name.startswith("heads.")} == {
        name for name in before if name.startswith("heads.xnli.")
    }
    inside = {name.rpartition(".attention.self.")[2] for name in changed if not name.startswith("heads.")}
    assert inside == {"query.weight", "value.weight"}


def test_lora_run_is_a_plain_checkpoint_and_resumes(train, tmp_path, tiny_model, monkeypatch):
    from safetensors.torch import load_file
    from transformers import AutoModelForSequenceClassification

    recipe = ("xnli+translated+lora", "--save_strategy", "steps", "--save_steps", 2)
    done, record = train(*recipe, out="whole")
    assert done.returncode == 0, done.stderr
    assert record["settings"]["peft"] == "lora" and (tmp_path / "whole/adapter/adapter_model.safetensors").is_file()
    calls, step = [], trainers.TaskTrainer.training_step

    def stopping(*args, **kwargs):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return step(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(trainers.TaskTrainer, "training_step", stopping)
        assert train(*recipe, out="stopped")[0].returncode != 0
    assert (tmp_path / "stopped/checkpoint-2/adapter_model.safetensors").is_file()
    with monkeypatch.context() as patch:
        patch.setattr(trainers.TaskTrainer, "training_step", lambda *a, **k: (calls.append(1), step(*a, **k))[1])
        done, other = train(*recipe, out="stopped")
    assert len(calls) == 4, "it did not go on from the checkpoint"
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "stopped"))
    assert one.keys() == two.keys() and all(one[name].equal(two[name]) for name in one)
    assert (record["measures"], record["dev"]) == (other["measures"], other["dev"])
    _, info = AutoModelForSequenceClassification.from_pretrained(tmp_path / "whole", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    # another training in its folder leaves no adapter, and no heads of a mixture, beside its own weights
    (tmp_path / "whole/results.json").unlink()
    for name in ("adapter/mine.txt", "heads.safetensors"):
        (tmp_path / "whole" / name).touch()
    with monkeypatch.context() as patch:
        calls[:] = [1, 1]
        patch.setattr(trainers.TaskTrainer, "training_step", stopping)
        assert train("xnli+translated", out="whole")[0].returncode != 0
    assert (tmp_path / "whole/adapter/adapter_model.safetensors").is_file(), "until then they are the last"
    assert train("xnli+translated", out="whole")[0].returncode == 0
    assert [path.name for path in (tmp_path / "whole/adapter").iterdir()] == ["mine.txt"]
    assert not (tmp_path / "whole/heads.safetensors").exists()


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--lora_rank", 0], "--lora_rank 0: give 1 to 65536"),
        (["--lora_dropout", 1], "--lora_dropout 1.0"),
        (
            ["--lora_targets", "querry"],
            "--lora_targets querry: the encoder has no such module. It has dense key query value",
        ),
    ],
)
def test_impossible_adapters(train, arguments, message):
    done, _ = train("xnli+translated+lora", *arguments)
    assert done.returncode == 2 and message in done.stderr


def test_masked_lm_by_an_adapter(train, tmp_path, tiny_model):
    from safetensors.torch import load_file

    done, record = train("mlm+lora")
    assert done.returncode == 0, done.stderr
    assert record["settings"]["text_languages"] == LANGUAGES and record["phase"] == "mlm"
    before, after = load_file(tiny_model / "model.safetensors"), load_file(tmp_path / "mlm+lora/model.safetensors")
    changed = {name for name in before if not before[name].equal(after[name])}
    assert {name for name in changed if name.startswith("roberta.")} == {
        name for name in before if name.endswith(("query.weight", "value.weight"))
    }
    assert any(name.startswith("lm_head.dense") for name in changed)


# ---- real rows ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "task, splits, languages, expected",
    [
        ("xnli", ["xnli.train=validation+test"], "en de sw zh", 7500),
        ("pawsx", ["pawsx.train=validation"], "en de es fr ja ko zh", 1928),
        ("xquad", ["xquad.train=validation"], "en ar de es hi ru tr vi zh", 1190),
    ],
)
def test_real_parallel_rows_are_matched(task, splits, languages, expected, real_data):
    """XNLI goes by number, PAWS-X too where a copy lacks ids, and loses the rows whose label differs; XQuAD by id."""
    family = FamilyArguments(train_languages=languages.split())
    rows = Rows(real_data, splits)
    one, other = (
        multilingual.load(get_task(task), family, ArmArguments(language_mode=mode), rows, None, 0, {})
        for mode in ("english", "cross")
    )
    assert len(one.examples) == len(other.examples) == expected
    assert get_task(task).ids(one.examples) == get_task(task).ids(other.examples)


def test_real_native_rows(real_data):
    family, given = FamilyArguments(train_languages=["en", "ko", "sw"]), ArmArguments(language_mode="multilingual")
    found = multilingual.load(get_task("tydiqa"), family, given, Rows(real_data), 900, 0, {}).examples
    assert Counter(i.partition("-")[0] for i in found["id"]) == {"english": 300, "korean": 300, "swahili": 300}
    with pytest.raises(UserError, match="4000 rows in 2 languages are 2000 of each, but there are only"):
        multilingual.load(
            get_task("panx"), FamilyArguments(train_languages=["en", "sw"]), given, Rows(real_data), 4000, 0, {}
        )
