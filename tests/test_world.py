"""The miniature world: the same bytes for a seed, the Hub's columns, correct labels, no leaks."""

import json
import random
import re
import time
from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from world import choices, pairs, spans, tagging, wide
from world.__main__ import main
from world.base import sentence
from world.baseline import accuracy
from world.files import STAMP, WorldError, read_stamp, translate, write
from world.language import INVENTED, TAGS, Language
from world.meaning import CONTRADICTION, ENTAILMENT, NEUTRAL, Clause, Phrase, World

CODES = ["en", "qaa", "qab", "qac", "qad"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tenth of the default world."""
    out = tmp_path_factory.mktemp("world") / "w"
    write(out, seed=0, size=0.1)
    return out


def table(folder, path):
    return pq.read_table(folder / f"{path}.parquet").to_pylist()


def test_same_seed_same_bytes_other_seed_other_rows(tmp_path):
    files = {}
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        write(tmp_path / name, seed=seed, size=0.02)
        paths = [path for path in (tmp_path / name).rglob("*") if path.is_file()]
        files[name] = {path.relative_to(tmp_path / name): path.read_bytes() for path in paths}
    assert files["a"] == files["b"]
    assert files["a"].keys() == files["c"].keys()
    same = [str(path) for path in files["a"] if files["a"][path] == files["c"][path]]
    assert same in ([], ["ccgbank/ccg/tags_to_id.json"])


def test_more_languages_leave_the_tests_of_others_as_they_were(tmp_path, folder):
    write(tmp_path / "w", size=0.1, languages=9)
    few, many = read_stamp(folder), read_stamp(tmp_path / "w")
    assert many["languages"] == ["en", *INVENTED]
    for language in ("qaa", "qad"):
        path = f"google__xquad/xquad.{language}/validation.parquet"
        assert few["files"][path] == many["files"][path]


def test_tiny_world_is_fast(tmp_path):
    begin = time.process_time()
    write(tmp_path / "w", size=0.02)
    assert time.process_time() - begin < 5


def test_existing_folders(tmp_path, capsys):
    out = tmp_path / "w"
    command = ["--out", str(out), "--size", "0.02"]
    assert main(command) == 0 and "written" in capsys.readouterr().out
    assert main(command) == 0 and "unchanged" in capsys.readouterr().out
    assert main([*command, "--seed", "1"]) == 2 and "--force" in capsys.readouterr().err
    assert read_stamp(out)["seed"] == 0
    assert main([*command, "--seed", "1", "--force"]) == 0
    assert read_stamp(out)["seed"] == 1
    next(out.rglob("*.parquet")).write_bytes(b"broken")
    assert main([*command, "--seed", "1"]) == 2 and "missing or changed" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["w"]


def test_folder_that_is_not_a_world_is_not_changed(tmp_path):
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(WorldError, match="not a world"):
        write(tmp_path, size=0.02, force=True)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    (tmp_path / "file").write_text("")
    with pytest.raises(WorldError, match="not a world"):
        write(tmp_path / "file", size=0.02)


# ---- translations ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def translated(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("translated") / "t"
    assert translate(folder, out) and not translate(folder, out)
    return out


def test_translated_rows_are_the_english_ones_with_noise(folder, translated):
    english, note = table(folder, "facebook__xnli/en/train"), "train.translation.json"
    for code in [*CODES[1:], "en.roundtrip"]:
        rows = table(translated, f"facebook__xnli/{code}/train")
        assert [row["label"] for row in rows] == [row["label"] for row in english]
        assert json.loads((translated / f"facebook__xnli/{code}/{note}").read_text()) == {
            "model": "the miniature world's own translator, noise 0.08",
            "rows": len(english),
            "lost": 0,
        }
        assert [row["id"] for row in table(translated, f"google-research-datasets__paws-x/{code}/train")] == [
            row["id"] for row in table(folder, "google-research-datasets__paws-x/en/train")
        ]
    back = table(translated, "facebook__xnli/en.roundtrip/train")
    # some words are English words that were there, most rows have one that was not or lack one
    gone = [len(set(a["premise"].split()) - set(b["premise"].split())) for a, b in zip(english, back, strict=True)]
    assert 0.3 < sum(n > 0 for n in gone) / len(gone) and sum(n <= 2 for n in gone) / len(gone) > 0.5


def test_answers_of_translated_questions_stand_in_them_and_some_are_lost(folder, translated):
    ids = {row["id"] for row in table(folder, "rajpurkar__squad/plain_text/train")}
    lost = {}
    for code, path in {
        **{c: f"juletxara__xquad_xtreme/{c}/translate_train" for c in CODES[1:]},
        "back": "rajpurkar__squad/plain_text.roundtrip/train",
    }.items():
        rows = table(translated, path)
        for row in rows:
            (answer,), (start,) = row["answers"]["text"], row["answers"]["answer_start"]
            assert row["id"] in ids and row["context"][start : start + len(answer)] == answer
        lost[code] = 1 - len(rows) / len(ids)
        assert json.loads((translated / f"{path}.translation.json").read_text())["lost"] == len(ids) - len(rows)
    assert all(0.01 < share < 0.07 for code, share in lost.items() if code != "back") and lost["back"] > max(
        lost["qaa"], lost["qab"]
    )


def test_without_noise_the_rows_are_right(folder, tmp_path):
    translate(folder, tmp_path / "t", noise=0.0)
    rows = table(tmp_path / "t", "juletxara__xquad_xtreme/qac/translate_train")
    english = table(folder, "rajpurkar__squad/plain_text/train")
    assert [row["id"] for row in rows] == [row["id"] for row in english]
    names = set(World(0).names) | set(World(0).towns)
    for row, other in zip(rows, english, strict=True):
        told, there = (
            sorted(word.strip(".,?") for word in of["context"].split() if word.strip(".,?") in names)
            for of in (row, other)
        )
        assert told == there


def test_impossible_translations(folder, translated, tmp_path, capsys):
    with pytest.raises(WorldError, match="holds another world .*noise 0.08 there, 0.2 asked"):
        translate(folder, translated, noise=0.2)
    with pytest.raises(WorldError, match="--noise 1.5"):
        translate(folder, tmp_path / "t", noise=1.5)
    with pytest.raises(WorldError, match="is not a world"):
        translate(tmp_path, tmp_path / "t")
    stamp = json.loads((folder / STAMP).read_text())
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / STAMP).write_text(json.dumps(stamp | {"version": 1}))
    with pytest.raises(WorldError, match="written by another version"):
        translate(tmp_path / "old", tmp_path / "t")
    assert main(["--translate", str(folder), "--out", str(tmp_path / "t"), "--noise", "0.1"]) == 0
    assert "written" in capsys.readouterr().out and read_stamp(tmp_path / "t")["noise"] == 0.1


@pytest.mark.parametrize("options", [{"languages": 0}, {"languages": 99}, {"size": 0}, {"size": -1}])
def test_options_out_of_range(tmp_path, options):
    with pytest.raises(WorldError, match="--"):
        write(tmp_path / "w", **options)
    assert not list(tmp_path.iterdir())


def test_the_stamp_counts_every_file(folder):
    stamp = json.loads((folder / STAMP).read_text())
    on_disk = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert set(stamp["files"]) == on_disk - {STAMP}
    for path, facts in stamp["files"].items():
        lines = (folder / path).read_bytes().count(b"\n")
        assert facts["rows"] == (pq.read_metadata(folder / path).num_rows if path.endswith("parquet") else lines) > 0


@pytest.mark.parametrize(
    ("path", "columns"),
    [
        ("wikimedia__wikipedia/20231101.qad/train", "id url title text"),
        ("nyu-mll__glue/mnli/validation_mismatched", "premise hypothesis label idx"),
        ("facebook__xnli/qac/test", "premise hypothesis label"),
        ("rajpurkar__squad/plain_text/train", "id title context question answers"),
        ("google__xquad/xquad.qab/validation", "id title context question answers"),
        ("google-research-datasets__tydiqa/secondary_task/train", "id title context question answers"),
        (
            "Rowan__hellaswag/default/train",
            "ind activity_label ctx_a ctx_b ctx endings source_id split split_type label",
        ),
        ("google__xtreme/udpos.qaa/validation", "tokens pos_tags"),
        ("mteb__tatoeba-bitext-mining/qaa-eng/test", "sentence1 sentence2 lang"),
        ("bucc2018__qad-en/gold/test", "source_id target_id"),
        ("bucc2018__qad-en/source/validation", "id text"),
        ("facebook__anli/plain_text/dev_r2", "uid premise hypothesis label reason"),
        ("stanfordnlp__snli/plain_text/train", "premise hypothesis label"),
        ("nyu-mll__glue/qqp/validation", "question1 question2 label idx"),
        ("nyu-mll__glue/rte/train", "sentence1 sentence2 label idx"),
        ("rajpurkar__squad_v2/squad_v2/train", "id title context question answers"),
        ("google__xtreme/MLQA.qab.qab/test", "id title context question answers"),
        ("lareqa__xquad-r/qaa/test", "title context sentences sentence_breaks qas"),
        ("allenai__cosmos_qa/default/train", "id context question answer0 answer1 answer2 answer3 label"),
        ("tau__commonsense_qa/default/train", "id question question_concept choices answerKey"),
        ("lighteval__siqa/default/train", "context question answerA answerB answerC label"),
        ("aps__super_glue/copa/train", "premise choice1 choice2 question idx label"),
        ("cambridgeltl__xcopa/qac/test", "premise choice1 choice2 question label idx changed"),
        ("google-research-datasets__paws-x/qac/test", "id sentence1 sentence2 label"),
        ("google__xtreme/PAN-X.qaa/test", "tokens ner_tags langs"),
        ("izhx__mewsli-x/qaa/test", "context mentions"),
        (
            "izhx__mewsli-x/candidate_entities/test",
            "entity_id title description sentence_spans description_language description_url",
        ),
        ("bilingual-lexicons__world/en-qaa/train", "source target"),
        ("mteb__NTREXBitextMining/default/test", "eng_Latn qaa qab qac qad"),
        ("mteb__FloresBitextMining/default/devtest", "eng_Latn qaa qab qac qad"),
        ("Davlan__sib200/qab/train", "index_id category text"),
        (
            "facebook__belebele/qac/test",
            "link question_number flores_passage question mc_answer1 mc_answer2 mc_answer3 mc_answer4 "
            "correct_answer_num dialect ds",
        ),
    ],
)
def test_columns(folder, path, columns):
    schema = pq.read_schema(folder / f"{path}.parquet")
    assert schema.names == columns.split()
    if "answers" in schema.names:
        assert schema.field("answers").type == spans.ANSWERS
    if "label" in schema.names:
        strings = pa.types.is_string(schema.field("label").type)
        assert strings == ("hellaswag" in path or "siqa" in path)


def test_every_language_has_every_test(folder):
    for code in CODES:
        name = "English" if code == "en" else code
        for path in (
            f"facebook__xnli/{code}/test",
            f"google__xquad/xquad.{code}/validation",
            f"google__xtreme/udpos.{name}/test",
            f"wikimedia__wikipedia/20231101.{code}/train",
        ):
            assert (folder / f"{path}.parquet").is_file()
    ids = [row["id"] for row in table(folder, "google-research-datasets__tydiqa/secondary_task/validation")]
    assert Counter(row_id.split("-")[0] for row_id in ids) == {c: 30 for c in ["english", *CODES[1:]]}
    ids = [row["id"] for row in table(folder, "google-research-datasets__tydiqa/secondary_task/train")]
    assert {row_id.split("-")[0] for row_id in ids} == {"english"}


def qa_files(folder):
    parts = ("rajpurkar__squad", "google__xquad", "google-research-datasets__tydiqa", "google__xtreme/MLQA*")
    return [path for part in parts for path in sorted(folder.glob(f"{part}/**/*.parquet"))]


def test_answers_are_in_their_contexts(folder):
    for path in qa_files(folder):
        for row in pq.read_table(path).to_pylist():
            (answer,), (start,) = row["answers"]["text"], row["answers"]["answer_start"]
            assert answer and row["context"][start : start + len(answer)] == answer
            assert row["context"].count(".") >= 2


def test_a_question_has_one_answer():
    world = World(0)
    rng = random.Random(0)
    for _ in range(300):
        context, told, asked, slot = spans.qa_meaning(world, rng)
        assert context.count(told) == 1
        rest = spans.without(asked, slot)
        known = [part for part in ("agent", "verb", "patient", "place", "time") if getattr(rest, part) is not None]
        fits = [all(getattr(spans.without(c, slot), part) == getattr(rest, part) for part in known) for c in context]
        assert sum(fits) == 1


def test_questions_without_an_answer(folder):
    """A third of SQuAD 2.0 has none, and no clause of its context could be taken for one."""
    rows = table(folder, "rajpurkar__squad_v2/squad_v2/train")
    empty = [row for row in rows if not row["answers"]["text"]]
    assert 0.25 < len(empty) / len(rows) < 0.42
    assert all(row["answers"] == {"text": [], "answer_start": []} for row in empty)
    world, rng = World(0), random.Random(0)
    for _ in range(200):
        context, told, asked, slot = spans.unanswerable(world, rng, spans.qa_meaning(world, rng))
        assert told is None and not any(spans.could_answer(asked, slot, clause) for clause in context)


def test_sentences_of_lareqa(folder):
    for row in table(folder, "lareqa__xquad-r/qad/test"):
        assert [row["context"][start:end] for start, end in row["sentence_breaks"]] == row["sentences"]
        assert " ".join(row["sentences"]) == row["context"]
        (answer,) = row["qas"][0]["answers"]
        start = answer["answer_start"]
        assert row["context"][start : start + len(answer["text"])] == answer["text"]


def test_parallel_rows_mean_the_same(folder):
    labels = [[row["label"] for row in table(folder, f"facebook__xnli/{code}/test")] for code in CODES]
    assert all(column == labels[0] for column in labels)
    english, other = (table(folder, f"google__xquad/xquad.{code}/validation") for code in ("en", "qac"))
    digits = [[re.findall(r"\d", row["context"]) for row in side] for side in (english, other)]
    assert digits[0] == digits[1]


def test_labels_are_even(folder):
    for path in ("nyu-mll__glue/mnli/train", "facebook__xnli/qad/test", "facebook__xnli/en/train"):
        counts = Counter(row["label"] for row in table(folder, path))
        assert set(counts) == {0, 1, 2} and max(counts.values()) - min(counts.values()) <= 1
    gold = Counter(row["label"] for row in table(folder, "Rowan__hellaswag/default/train"))
    assert set(gold) == set("0123") and min(gold.values()) > 0.2 * sum(gold.values())


ANNA = Clause(Phrase("Anna"), "lift", Phrase("lamp", "old"), place="park")


@pytest.mark.parametrize(
    ("premise", "hypothesis", "label"),
    [
        (ANNA, ANNA._replace(place=None), ENTAILMENT),
        (ANNA, ANNA._replace(patient=Phrase("tool")), ENTAILMENT),
        (ANNA._replace(place=None), ANNA, NEUTRAL),
        (ANNA, ANNA._replace(agent=Phrase("Hugo")), NEUTRAL),
        (ANNA, ANNA._replace(negated=True, place=None), CONTRADICTION),
        (ANNA._replace(negated=True), ANNA._replace(place=None), NEUTRAL),
        (ANNA._replace(negated=True, place=None), ANNA, CONTRADICTION),
        (ANNA._replace(negated=True, place=None), ANNA._replace(negated=True), ENTAILMENT),
        (ANNA, ANNA._replace(verb="lower"), CONTRADICTION),
        (ANNA, ANNA._replace(verb="lower", negated=True), None),
    ],
)
def test_relation(premise, hypothesis, label):
    assert World(0).relation(premise, hypothesis) == label


def test_a_hypothesis_alone_says_little_of_the_label(tmp_path):
    """A bag-of-words logistic regression on hypotheses stays near the majority share of a third."""
    text = pytest.importorskip("sklearn.feature_extraction.text")
    linear = pytest.importorskip("sklearn.linear_model")
    world = World(0)
    english = Language("en", world, 0)
    rng = random.Random(0)
    labels = [i % 3 for i in range(3000)]
    meanings = [pairs.nli_meaning(world, rng, label) for label in labels]
    hypotheses = [sentence(english, rng, hypothesis) for _, hypothesis in meanings]
    bags = text.CountVectorizer(ngram_range=(1, 2), min_df=2).fit_transform(hypotheses)
    model = linear.LogisticRegression(max_iter=200).fit(bags[:2000], labels[:2000])
    assert model.score(bags[2000:], labels[2000:]) < 0.42
    # The label does follow from both: the rule that made it gives it back.
    assert [world.relation(*meaning) for meaning in meanings] == labels


def test_choices_differ_and_only_one_follows():
    world = World(0)
    rng = random.Random(0)
    for _ in range(300):
        first, endings, label = choices.choice_meaning(world, rng)
        assert len({ending.verb for ending in endings}) == 4
        follows = [world.next_verb[first.verb].share(ending.verb) > 0 for ending in endings]
        assert follows == [i == label for i in range(4)]


def test_causes_are_distinguished_from_effects():
    """Going backwards, what happened follows from the right choice and from no other."""
    world, rng = World(0), random.Random(0)
    for _ in range(300):
        first, causes, label = choices.choice_meaning(world, rng, 2, backwards=True)
        leads = [world.next_verb[cause.verb].share(first.verb) > 0 for cause in causes]
        assert leads == [i == label for i in range(2)]


def test_habits_have_one_answer():
    world, rng = World(0), random.Random(0)
    for _ in range(200):
        clause, slot, items, label = choices.habit_meaning(world, rng)
        assert len(set(items)) == 5 and items[label] == getattr(clause, slot)


def test_other_labels(folder):
    def counts(path, column="label"):
        return Counter(row[column] for row in table(folder, path))

    snli = counts("stanfordnlp__snli/plain_text/train")
    assert set(snli) == {-1, 0, 1, 2} and snli[-1] < 0.03 * sum(snli.values())
    assert counts("nyu-mll__glue/qqp/train") == {0: 250, 1: 250}
    assert counts("google-research-datasets__paws-x/qab/test") == {0: 20, 1: 20}
    hidden = ("nyu-mll__glue/qqp", "nyu-mll__glue/rte", "allenai__cosmos_qa/default", "aps__super_glue/copa")
    assert all(set(counts(f"{path}/test")) == {-1} for path in hidden)
    assert set(counts("tau__commonsense_qa/default/train", "answerKey")) == set("ABCDE")
    assert set(counts("tau__commonsense_qa/default/test", "answerKey")) == {""}
    assert set(counts("lighteval__siqa/default/train")) == set("123")
    assert set(counts("cambridgeltl__xcopa/qaa/test", "question")) == {"cause", "effect"}


def test_paraphrases():
    """In PAWS what differs in meaning differs in few words; in QQP both questions are never the same string."""
    world, rng = World(0), random.Random(0)
    for label in (0, 1) * 100:
        first, second = pairs.paws_meaning(world, rng, label)
        assert (first == second) == bool(label)
        one, two = pairs.question_pair(world, Language("en", world, 0), rng, label)
        assert one != two and one.endswith("?")


def test_names(folder):
    rows = table(folder, "google__xtreme/PAN-X.qad/test")
    used = set()
    for row in rows:
        tags = [tagging.NAMES[tag] for tag in row["ner_tags"]]
        assert len(tags) == len(row["tokens"]) == len(row["langs"]) and set(row["langs"]) == {"qad"}
        for before, tag in zip(["O", *tags], tags, strict=False):
            assert not tag.startswith("I-") or before[2:] == tag[2:]
        used.update(tags)
    assert used == set(tagging.NAMES)


def test_supertags(folder):
    lines = (folder / "ccgbank/ccg/train.tsv").read_text().splitlines()
    assert len(lines) == 400
    known = json.loads((folder / "ccgbank/ccg/tags_to_id.json").read_text())
    assert sorted(known.values()) == list(range(len(known))) and len(known) > 10
    for line in lines:
        words, tags = (part.split() for part in line.split("\t"))
        assert len(words) == len(tags) and set(tags) <= set(known)
    english, rng = Language("en", World(0), 0), random.Random(0)
    clause = Clause(Phrase("Anna"), "lift", Phrase("lamp"), negated=True)
    tags = tagging.supertags(english.clause(rng, clause))
    assert tags == ["N", r"(S[dcl]\NP)/(S[b]\NP)", r"(S\NP)\(S\NP)", r"(S[b]\NP)/NP", "NP[nb]/N", "N"]


def test_entities(folder):
    entities = {row["entity_id"] for row in table(folder, "izhx__mewsli-x/candidate_entities/test")}
    for code in CODES:
        for row in table(folder, f"izhx__mewsli-x/{code}/test"):
            assert row["context"]["language"] == code
            for mention in row["mentions"]:
                span = mention["mention_span"]
                assert row["context"]["text"][span["start"] : span["end"]] == span["text"]
                assert mention["entity_id"] in entities
    pair = table(folder, "izhx__mewsli-x/wikipedia_pairs/train")[0]
    assert pair["contextual_mention"]["mention"]["entity_id"] == pair["entity"]["entity_id"]


def test_lexicon_words_are_words_of_the_text(folder):
    for code in ("qaa", "qac"):
        text = " ".join(row["text"] for row in table(folder, f"wikimedia__wikipedia/20231101.{code}/train"))
        rows = table(folder, f"bilingual-lexicons__world/en-{code}/train")
        assert sum(row["target"] in text for row in rows) > 0.95 * len(rows)


def test_tags_fit_words(folder):
    for row in table(folder, "google__xtreme/udpos.qad/test"):
        assert len(row["tokens"]) == len(row["pos_tags"])
        for word, tag in zip(row["tokens"], row["pos_tags"], strict=True):
            assert (TAGS[tag] == "PUNCT") == (word in ".,?")
            assert (TAGS[tag] == "NUM") == word.isdigit()
    used = {TAGS[tag] for row in table(folder, "google__xtreme/udpos.English/train") for tag in row["pos_tags"]}
    assert used == set("ADJ ADP ADV AUX CCONJ DET NOUN NUM PART PRON PROPN PUNCT SCONJ VERB".split())


def test_tested_sentences_are_not_in_the_text(folder):
    """Neither the sentences of retrieval tests nor, for an English sentence, any telling of its pair."""
    for code in CODES[1:]:
        text = {
            lang: {
                re.sub(r"^\S+, ", "", s)
                for row in table(folder, f"wikimedia__wikipedia/20231101.{lang}/train")
                for s in re.split(r"(?<=[.?]) ", row["text"])
            }
            for lang in ("en", code)
        }
        pairs = table(folder, f"mteb__tatoeba-bitext-mining/{code}-eng/test")
        assert len({row["sentence2"] for row in pairs}) == len(pairs) == 50
        assert text["en"].isdisjoint(row["sentence2"] for row in pairs)
        assert text[code].isdisjoint(row["sentence1"] for row in pairs)
        for split in ("validation", "test"):
            assert text[code].isdisjoint(r["text"] for r in table(folder, f"bucc2018__{code}-en/source/{split}"))


def test_sentences_in_every_language_are_in_no_text(folder):
    """NTREX and FLORES: drawn after the text was written, from what no language tells in it; the English ones all
    differ."""
    text = {
        lang: {
            re.sub(r"^\S+, ", "", s)
            for row in table(folder, f"wikimedia__wikipedia/20231101.{lang}/train")
            for s in re.split(r"(?<=[.?]) ", row["text"])
        }
        for lang in CODES
    }
    for path, n in (("NTREX", "test"), 50), (("Flores", "dev"), 50), (("Flores", "devtest"), 50):
        rows = table(folder, "mteb__{}BitextMining/default/{}".format(*path))
        assert len(rows) == len({row["eng_Latn"] for row in rows}) == n
        for lang in CODES:
            assert text[lang].isdisjoint(row["eng_Latn" if lang == "en" else lang] for row in rows)


def test_topics_are_of_the_sentences_of_flores(folder):
    flores = [
        row for split in ("dev", "devtest") for row in table(folder, f"mteb__FloresBitextMining/default/{split}")
    ]
    seen = []
    for split, n in (("train", 70), ("validation", 10), ("test", 20)):
        english = table(folder, f"Davlan__sib200/eng_Latn/{split}")
        assert len(english) == n
        seen += [row["index_id"] for row in english]
        for code in CODES:
            name = "eng_Latn" if code == "en" else code
            rows = table(folder, f"Davlan__sib200/{name}/{split}")
            assert [(row["index_id"], row["category"]) for row in rows] == [
                (row["index_id"], row["category"]) for row in english
            ]
            assert [row["text"] for row in rows] == [flores[row["index_id"]][name] for row in rows]
    assert sorted(seen) == list(range(100)) and seen != sorted(seen)
    assert {row["category"] for row in table(folder, "Davlan__sib200/eng_Latn/train")} <= set(wide.TOPICS.values())
    assert len(set(wide.TOPICS.values())) == 7


def test_one_answer_of_four_is_right():
    world, rng, labels = World(0), random.Random(0), Counter()
    for _ in range(300):
        passage, asked, slot, choices_, label = choices.reading_meaning(world, rng)
        parts = [getattr(getattr(clause, slot), "noun", getattr(clause, slot)) for clause in choices_]
        assert len(set(parts)) == 4 and None not in parts
        right = [clause for clause in passage if spans.could_answer(asked, slot, clause)]
        assert len(right) == 1 and getattr(getattr(right[0], slot), "noun", getattr(right[0], slot)) == parts[label]
        labels[label] += 1
    assert min(labels.values()) > 50


def test_passages_are_parallel(folder):
    english, other = (table(folder, f"facebook__belebele/{code}/test") for code in ("eng_Latn", "qad"))
    assert len(english) == 40 and [row["correct_answer_num"] for row in english] == [
        row["correct_answer_num"] for row in other
    ]
    assert all(
        len({row[f"mc_answer{i}"] for i in range(1, 5)}) == 4 and all(row[f"mc_answer{i}"] for i in range(1, 5))
        for row in english + other
    )
    digits = [[re.findall(r"\d", row["flores_passage"]) for row in rows] for rows in (english, other)]
    assert digits[0] == digits[1]


def test_train_and_test_share_no_row(folder):
    def pairs(path):
        return {(row["premise"], row["hypothesis"]) for row in table(folder, path)}

    tested = pairs("facebook__xnli/en/test") | pairs("facebook__xnli/en/validation")
    assert tested.isdisjoint(pairs("nyu-mll__glue/mnli/train") | pairs("facebook__xnli/en/train"))
    train = {(r["context"], r["question"]) for r in table(folder, "rajpurkar__squad/plain_text/train")}
    assert train.isdisjoint((r["context"], r["question"]) for r in table(folder, "google__xquad/xquad.en/validation"))
    tagged = {tuple(row["tokens"]) for row in table(folder, "google__xtreme/udpos.English/train")}
    assert tagged.isdisjoint(tuple(row["tokens"]) for row in table(folder, "google__xtreme/udpos.English/test"))


def test_comparable_corpora(folder):
    texts = {}
    for split in ("validation", "test"):
        side = {
            name: {r["id"]: r["text"] for r in table(folder, f"bucc2018__qab-en/{name}/{split}")}
            for name in ("source", "target")
        }
        gold = table(folder, f"bucc2018__qab-en/gold/{split}")
        assert len(gold) == 15 and len(side["source"]) == len(side["target"]) == 100
        assert gold != sorted(gold, key=lambda pair: pair["source_id"])
        for pair in gold:
            digits = [re.findall(r"\d", side[n][pair[f"{n}_id"]]) for n in ("source", "target")]
            assert digits[0] == digits[1]
        texts[split] = set(side["target"].values())
        assert len(texts[split]) == 100
    assert texts["validation"].isdisjoint(texts["test"])


def test_baseline_counts_nearest_neighbours(folder, capsys):
    assert accuracy(["Anna ran.", "x 7 y."], ["7 z.", "Anna z."]) == 0.0
    assert accuracy(["Anna ran.", "x 7 y."], ["Anna z.", "7 z."]) == 100.0
    assert accuracy(["a.", "b."], ["c.", "d."]) == 0.0
    assert main(["--baseline", str(folder)]) == 0
    lines = capsys.readouterr().out.splitlines()[1:]
    assert [line.split()[0] for line in lines] == CODES[1:]
    assert all(0 < float(line.split()[1]) < 100 for line in lines)
    assert main(["--baseline", str(folder / "nowhere")]) == 2


def test_every_typology_says_everything():
    """In each language two meanings that differ in one part are told differently, and names come through."""
    world = World(0)
    base = Clause(Phrase("Anna"), "lift", Phrase("lamp", "old", 3), place="park", time="today")
    changes = [
        {"future": True},
        {"negated": True},
        {"place": "Torvik"},
        {"time": None},
        {"verb": "lower"},
        {"agent": Phrase("Hugo")},
        {"patient": Phrase("lamp", "new", 3)},
        {"patient": Phrase("lamp", "old")},
    ]
    for code in ["en", *INVENTED]:
        language = Language(code, world, 0)
        tellings = {sentence(language, random.Random(0), base._replace(**c)) for c in [{}, *changes]}
        assert len(tellings) == len(changes) + 1
        assert all("Anna" in t or "Hugo" in t for t in tellings)


@pytest.mark.parametrize(
    "stamp",
    [
        "[]",
        "{}",
        '{"version": 3}',
        '{"version": 3, "seed": 0, "languages": ["en", "qaa"], "size": 0.02}',
        '{"version": 3, "seed": 0, "languages": ["en", "zzz"], "size": 0.02, "files": {}}',
        '{"version": 3, "seed": 0, "languages": ["en", "qaa"], "size": 0.02, "files": {"a": 1}}',
    ],
)
def test_a_damaged_stamp_is_one_line_whatever_is_done_with_the_world(stamp, tmp_path, capsys):
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / STAMP).write_text(stamp)
    for argv in (
        ["--out", "w", "--size", "0.02", "--languages", "1"],
        ["--translate", "w", "--out", "t"],
        ["--baseline", "w"],
    ):
        assert main([str(tmp_path / word) if word in "wt" else word for word in argv]) == 2
        assert "not a world" in (said := capsys.readouterr().err) and said.count("\n") == 1


def test_baseline_without_tatoeba_is_refused_in_one_line(tmp_path, capsys):
    write(tmp_path / "w", size=0.02, languages=1)
    translate(tmp_path / "w", tmp_path / "t")
    assert main(["--baseline", str(tmp_path / "t")]) == 2
    next((tmp_path / "w").glob("mteb__tatoeba*/*/test.parquet")).write_text("cut")
    assert main(["--baseline", str(tmp_path / "w")]) == 2
    assert capsys.readouterr().err.count("cannot be read") == 2


def test_translations_do_not_take_the_place_of_their_world(tmp_path):
    """--force, which make gives too, would have deleted it."""
    write(tmp_path / "w", size=0.02, languages=1)
    with pytest.raises(WorldError, match="is the world itself"):
        translate(tmp_path / "w", tmp_path / "w" / ".." / "w", force=True)
    assert next((tmp_path / "w").glob("mteb__tatoeba*/*/test.parquet")).is_file()
