"""The miniature world: the same bytes for a seed, the Hub's columns, labels that hold, nothing that leaks."""

import json
import random
import re
import time
from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from world import rows
from world.__main__ import main
from world.baseline import accuracy
from world.files import STAMP, WorldError, read_stamp, write
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
    assert not [path for path in files["a"] if files["a"][path] == files["c"][path]]


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


def test_a_folder_that_is_no_world_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(WorldError, match="not a world"):
        write(tmp_path, size=0.02, force=True)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    (tmp_path / "file").write_text("")
    with pytest.raises(WorldError, match="not a world"):
        write(tmp_path / "file", size=0.02)


@pytest.mark.parametrize("options", [{"languages": 0}, {"languages": 99}, {"size": 0}, {"size": -1}])
def test_options_out_of_range(tmp_path, options):
    with pytest.raises(WorldError, match="--"):
        write(tmp_path / "w", **options)
    assert not list(tmp_path.iterdir())


def test_the_stamp_counts_every_file(folder):
    stamp = json.loads((folder / STAMP).read_text())
    on_disk = {str(path.relative_to(folder)) for path in folder.rglob("*.parquet")}
    assert set(stamp["files"]) == on_disk
    for path, facts in stamp["files"].items():
        assert pq.read_metadata(folder / path).num_rows == facts["rows"] > 0


@pytest.mark.parametrize(
    ("path", "columns"),
    [
        ("wikimedia__wikipedia/20231101.qad/train", "id url title text"),
        ("nyu-mll__glue/mnli/validation_mismatched", "premise hypothesis label idx"),
        ("facebook__xnli/qac/test", "premise hypothesis label"),
        ("rajpurkar__squad/plain_text/train", "id title context question answers"),
        ("google__xquad/xquad.qab/validation", "id title context question answers"),
        ("google-research-datasets__tydiqa/secondary_task/train", "id title context question answers"),
        ("Rowan__hellaswag/default/train",
         "ind activity_label ctx_a ctx_b ctx endings source_id split split_type label"),
        ("google__xtreme/udpos.qaa/validation", "tokens pos_tags"),
        ("mteb__tatoeba-bitext-mining/qaa-eng/test", "sentence1 sentence2 lang"),
        ("bucc2018__qad-en/gold/test", "source_id target_id"),
        ("bucc2018__qad-en/source/validation", "id text"),
    ],
)  # fmt: skip
def test_columns(folder, path, columns):
    schema = pq.read_schema(folder / f"{path}.parquet")
    assert schema.names == columns.split()
    if "answers" in schema.names:
        assert schema.field("answers").type == rows.ANSWERS
    if "label" in schema.names:
        assert schema.field("label").type == (pa.string() if "hellaswag" in path else pa.int64())


def test_every_language_has_every_test(folder):
    for code in CODES:
        name = "English" if code == "en" else code
        for path in (f"facebook__xnli/{code}/test", f"google__xquad/xquad.{code}/validation",
                     f"google__xtreme/udpos.{name}/test", f"wikimedia__wikipedia/20231101.{code}/train"):  # fmt: skip
            assert (folder / f"{path}.parquet").is_file()
    ids = [row["id"] for row in table(folder, "google-research-datasets__tydiqa/secondary_task/validation")]
    assert Counter(row_id.split("-")[0] for row_id in ids) == {c: 30 for c in ["english", *CODES[1:]]}
    ids = [row["id"] for row in table(folder, "google-research-datasets__tydiqa/secondary_task/train")]
    assert {row_id.split("-")[0] for row_id in ids} == {"english"}


def qa_files(folder):
    return [p for part in ("rajpurkar__squad", "google__xquad", "google-research-datasets__tydiqa")
            for p in sorted((folder / part).rglob("*.parquet"))]  # fmt: skip


def test_answers_stand_in_their_contexts(folder):
    for path in qa_files(folder):
        for row in pq.read_table(path).to_pylist():
            (answer,), (start,) = row["answers"]["text"], row["answers"]["answer_start"]
            assert answer and row["context"][start : start + len(answer)] == answer
            assert row["context"].count(".") >= 3


def test_a_question_has_one_answer():
    world = World(0)
    rng = random.Random(0)
    for _ in range(300):
        context, told, asked, slot = rows.qa_meaning(world, rng)
        assert context.count(told) == 1
        rest = rows.without(asked, slot)
        known = [part for part in ("agent", "verb", "patient", "place", "time") if getattr(rest, part) is not None]
        assert sum(all(getattr(rows.without(c, slot), part) == getattr(rest, part) for part in known) for c in context) == 1


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
    pairs = [rows.nli_meaning(world, rng, i % 3) for i in range(3000)]
    hypotheses = [rows.sentence(english, rng, hypothesis) for _, hypothesis, _ in pairs]
    labels = [label for _, _, label in pairs]
    bags = text.CountVectorizer(ngram_range=(1, 2), min_df=2).fit_transform(hypotheses)
    model = linear.LogisticRegression(max_iter=200).fit(bags[:2000], labels[:2000])
    assert model.score(bags[2000:], labels[2000:]) < 0.42
    # The label does follow from both: the rule that made it gives it back.
    assert all(world.relation(premise, hypothesis) == label for premise, hypothesis, label in pairs)


def test_choices_differ_and_only_one_follows():
    world = World(0)
    rng = random.Random(0)
    for _ in range(300):
        first, endings, label = rows.choice_meaning(world, rng)
        assert len({ending.verb for ending in endings}) == 4
        follows = [world.next_verb[first.verb].share(ending.verb) > 0 for ending in endings]
        assert follows == [i == label for i in range(4)]


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
        text = {lang: {re.sub(r"^\S+, ", "", s) for row in table(folder, f"wikimedia__wikipedia/20231101.{lang}/train")
                       for s in re.split(r"(?<=[.?]) ", row["text"])} for lang in ("en", code)}  # fmt: skip
        pairs = table(folder, f"mteb__tatoeba-bitext-mining/{code}-eng/test")
        assert len({row["sentence2"] for row in pairs}) == len(pairs) == 50
        assert text["en"].isdisjoint(row["sentence2"] for row in pairs)
        assert text[code].isdisjoint(row["sentence1"] for row in pairs)
        for split in ("validation", "test"):
            assert text[code].isdisjoint(r["text"] for r in table(folder, f"bucc2018__{code}-en/source/{split}"))


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
        side = {name: {r["id"]: r["text"] for r in table(folder, f"bucc2018__qab-en/{name}/{split}")}
                for name in ("source", "target")}  # fmt: skip
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
    changes = [{"future": True}, {"negated": True}, {"place": "Torvik"}, {"time": None}, {"verb": "lower"},
               {"agent": Phrase("Hugo")}, {"patient": Phrase("lamp", "new", 3)}, {"patient": Phrase("lamp", "old")}]  # fmt: skip
    for code in ["en", *INVENTED]:
        language = Language(code, world, 0)
        tellings = {rows.sentence(language, random.Random(0), base._replace(**c)) for c in [{}, *changes]}
        assert len(tellings) == len(changes) + 1
        assert all("Anna" in t or "Hugo" in t for t in tellings)
