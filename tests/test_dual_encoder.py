"""Training a retriever: the pairs, the batches, the loss, the folder that comes out, and what is refused."""

import json
from collections import Counter

import numpy as np
import pytest
import torch
from datasets import Dataset

from tasks.errors import UserError
from tasks.pairs import PAIRS, get_pairs, list_pairs
from tasks.rows import Rows
from tasks.sentences import sentence_at, sentence_spans
from xstilts.cli.arguments import DualEncoderArguments, FamilyArguments
from xstilts.train import alias

PARALLEL = ["xquad_dual.train=validation[:6]", "xquad_dual.dev=validation[6:]"]


# ---- sentences ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text, sentences",
    [
        ("One. Two! Three?", ["One.", "Two!", "Three?"]),
        ("He met Dr. J. Smith of the U.S. Army. It rained.", ["He met Dr. J. Smith of the U.S. Army.", "It rained."]),
        ('"Yes." She left (at 3.14 p.m. sharp).  So what?', ['"Yes."', "She left (at 3.14 p.m. sharp).", "So what?"]),
        ("see example.org for more. and a second", ["see example.org for more.", "and a second"]),
        ("今天下雨。他没来！为什么？", ["今天下雨。", "他没来！", "为什么？"]),
        ("वह आया। वह गया।", ["वह आया।", "वह गया।"]),
        ("  no stop at all \n", ["no stop at all"]),
        ("", []),
    ],
)
def test_sentences(text, sentences):
    assert [text[start:end] for start, end in sentence_spans(text)] == sentences


def test_the_sentence_at_a_character():
    text = "One two. Three four."
    assert sentence_at(text, 0) == sentence_at(text, 7) == "One two."
    assert sentence_at(text, 8) == sentence_at(text, 19) == "Three four."
    with pytest.raises(ValueError):
        sentence_at(text, 20)


def test_sentences_are_those_of_lareqa(real_data):
    """LAReQA's authors published where each sentence of XQuAD ends."""
    rows = Dataset.from_json(str(real_data / "lareqa__xquad-r/en/test.jsonl.gz"))
    same = []
    for row in rows:
        for question in row["qas"]:
            start = question["answers"][0]["answer_start"]
            begin, end = next(b for b in row["sentence_breaks"] if b[0] <= start < b[1])
            same.append(sentence_at(row["context"], start) == row["context"][begin:end].strip())
    assert len(same) == 1190 and np.mean(same) > 0.98


# ---- pairs ----------------------------------------------------------------------------------------------------------


def test_squad_pairs_are_a_question_and_the_sentence_of_its_answer(tiny_world):
    from tasks import get_task

    rows = Rows(tiny_world)
    squad = {row["id"]: row for row in get_task("squad").load("train", "en", rows)}
    pairs, long = (get_pairs(name).load("train", "en", rows) for name in ("squad_dual", "lareqa_dual"))
    assert len(pairs) == len(squad) and set(pairs.column_names) == {"query", "passage", "id"}
    for pair, with_paragraph in zip(pairs, long, strict=True):
        row = squad[pair["id"]]
        assert pair["query"] == row["question"]
        assert row["answers"]["text"][0] in pair["passage"] and pair["passage"] in row["context"]
        assert with_paragraph["passage"] == pair["passage"] + row["context"]
    assert any(pair["passage"] != squad[pair["id"]]["context"] for pair in pairs)


def test_lareqa_passages_have_no_line_end():
    """The text of XTREME-R's candidates, so that what is trained is what is searched."""
    rows = Dataset.from_dict(
        {
            "id": ["q"],
            "question": ["What?"],
            "context": ["Never. One\ntwo. Three.\n"],
            "answers": [{"text": ["two"], "answer_start": [11]}],
        }
    )
    assert get_pairs("lareqa_dual").pairs(rows, "here")["passage"][:] == ["Onetwo.Never. Onetwo. Three."]
    assert get_pairs("squad_dual").pairs(rows, "here")["passage"][:] == ["One\ntwo."]


@pytest.mark.parametrize(
    "change, told",
    [
        ({"entity": None}, "row 2"),
        ({"entity": {"description": None}}, "row 2"),
        (
            {
                "contextual_mention": {
                    "context": {"text": "Nils read"},
                    "mention": {"example_id": 3, "mention_span": {"start": 0, "end": 4, "text": "Nils"}},
                }
            },
            "row 2",
        ),
        (
            {
                "contextual_mention": {
                    "context": {"text": "Nils read"},
                    "mention": {"example_id": "m", "mention_span": {"start": -9, "end": -5, "text": "Nils"}},
                }
            },
            "at character -9",
        ),
    ],
)
def test_mention_pairs_that_are_broken_are_refused(change, told, tmp_path):
    good = {
        "contextual_mention": {
            "context": {"text": "Nils read"},
            "mention": {"example_id": "g", "mention_span": {"start": 0, "end": 4, "text": "Nils"}},
        },
        "entity": {"description": "a reader"},
    }
    file = tmp_path / "izhx__mewsli-x" / "wikipedia_pairs" / "train.jsonl"
    file.parent.mkdir(parents=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in (good, good | change)))
    with pytest.raises(UserError) as error:
        get_pairs("mewslix_dual").load("train", "en", Rows(tmp_path))
    assert "train.jsonl, row 2" in str(error.value) and told in str(error.value)


def test_positive_pairs_are_those_with_the_label_and_parallel_across_languages(tiny_world):
    from tasks import get_task

    rows = Rows(tiny_world, ["xnli.train=validation"])
    source = get_task("xnli").load("train", "en", rows)
    english, foreign = (get_pairs("xnli_dual").load("train", language, rows) for language in ("en", "qaa"))
    assert english["id"][:] == foreign["id"][:] == [str(i) for i, label in enumerate(source["label"]) if label == 0]
    assert english[0]["query"] == source[int(english[0]["id"])]["text_a"] != foreign[0]["query"]


def test_pairs_with_an_empty_text_are_left_out_and_counted(tmp_path):
    """Quora has some."""
    lines = [("How?", "How so?", 1), (" ", "Why?", 1), ("Who?", "Where?", 0), ("", "", 0), ("When?", "", 1)]
    questions = [(*pair, number) for number, pair in enumerate([*lines, ("Which?", "Which one?", 1)])]
    write(tmp_path / "nyu-mll__glue/qqp/train.jsonl", questions)
    rows = Rows(tmp_path, ["qqp.train=train[:3]+train[3:]"])
    loaded = get_pairs("qqp_dual").read("train", "en", rows)
    assert loaded.examples.to_list() == [
        {"query": "How?", "passage": "How so?", "id": "0"},
        {"query": "Which?", "passage": "Which one?", "id": "5"},
    ]
    assert loaded.sizes == (1, 1) and "2 pairs with an empty text left out" in rows.records[-1]["notes"]
    write(tmp_path / "nyu-mll__glue/qqp/train.jsonl", questions[1:2])
    with pytest.raises(UserError, match="holds no pair"):
        get_pairs("qqp_dual").load("train", "en", Rows(tmp_path))


def write(path, questions):
    """Write rows in the columns of GLUE's QQP."""
    names = ("question1", "question2", "label", "idx")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(dict(zip(names, row, strict=True))) + "\n" for row in questions))


def test_the_right_passage_scores_100_and_equal_passages_are_one():
    task = get_pairs("nli_dual")
    examples = Dataset.from_dict({"query": ["a", "b", "c"], "passage": ["x", "y", "x"], "id": ["0", "1", "2"]})
    assert task.candidates(examples) == ["x", "y"] and task.gold(examples) == [0, 1, 0]
    assert task.score([0, 1, 0], examples, "en") == {"accuracy": 100}
    assert task.chance(examples) == {"accuracy": 50}


def test_mewslix_pairs(tmp_path):
    folder = tmp_path / "izhx__mewsli-x/wikipedia_pairs"
    folder.mkdir(parents=True)
    mention = {"example_id": "m1", "mention_span": {"start": 13, "end": 18, "text": "Smith"}, "entity_id": "Q1"}
    context = {
        "text": "It was cold. Smith {left}. He slept.",
        "language": "en",
        "sentence_spans": [{"start": 0, "end": 12}, {"start": 13, "end": 26}, {"start": 27, "end": 36}],
    }
    entity = {"entity_id": "Q1", "title": "Smith", "description": "A smith\nof  old."}
    line = {"contextual_mention": {"context": context, "mention": mention}, "entity": entity}
    (folder / "train.jsonl").write_text(json.dumps(line) + "\n")
    (pair,) = get_pairs("mewslix_dual").load("train", "en", Rows(tmp_path))
    assert pair == {"query": "Smith: { Smith } (left).", "passage": "A smith of old.", "id": "m1"}


def test_every_pair_task_is_listed_and_a_wrong_name_helped():
    assert all(name in list_pairs() for name in PAIRS)
    with pytest.raises(UserError, match="squad_daul.*Did you mean squad_dual"):
        get_pairs("squad_daul")


def test_xquad_trains_only_when_splits_name_it(tiny_world):
    with pytest.raises(UserError, match=r"XQuAD is a test set.*xquad_dual.train=validation"):
        get_pairs("xquad_dual").load("train", "en", Rows(tiny_world))


# ---- rows of several languages --------------------------------------------------------------------------------------


def language(code, ids, texts=None):
    texts = texts or ids
    return Dataset.from_dict(
        {
            "query": [f"{code} q{t}" for t in texts],
            "passage": [f"{code} p{t}" for t in texts],
            "id": [str(i) for i in ids],
        }
    )


def test_ids_that_every_language_has_are_kept_in_one_order():
    from xstilts.train.pair_batches import PairRows

    pairs = PairRows(
        {
            "t": {"en": language("en", [1, 2, 3, 4]), "de": language("de", [4, 9, 2, 1])},
            "u": {"en": language("en", [7])},
        }
    )
    assert len(pairs) == 4 and pairs.lacking == {"t": {"de": 1}, "u": {}}
    english, german = pairs.queries["t"]
    assert pairs[int(english[1]), int(german[1])] == {"query": "en q2", "passage": "de p2"}
    assert pairs.data[pairs.queries["u"][0].tolist()]["query"] == ["en q7"]


def test_ids_that_do_not_match_are_refused():
    from xstilts.train.pair_batches import PairRows

    with pytest.raises(
        UserError, match=r"t: no id occurs in every language, .* \(en: 2 rows, 1, 2, ...; de: 2 rows, 8, 9"
    ):
        PairRows({"t": {"en": language("en", [1, 2]), "de": language("de", [8, 9])}})
    with pytest.raises(UserError, match="t, de: the id '2' occurs twice"):
        PairRows({"t": {"en": language("en", [1, 2]), "de": language("de", [2, 2, 1])}})


# ---- batches --------------------------------------------------------------------------------------------------------

N, SIZE, LANGUAGES = 403, 8, ("en", "de", "fr")


def made_pairs(**options):
    """Two tasks in three languages; in the first every passage stands three times, as sentences of SQuAD do."""
    from xstilts.train.pair_batches import PairRows

    def of(code, texts):
        rows = language(code, list(range(N)), texts)
        return rows.remove_columns("query").add_column("query", [f"{code} q{i}" for i in range(N)])

    return PairRows(
        {
            name: {code: of(code, texts) for code in LANGUAGES}
            for name, texts in (("t", [f"t{i // 3}" for i in range(N)]), ("u", [f"u{i}" for i in range(N)]))
        },
        **options,
    )


@pytest.fixture(scope="module")
def pairs():
    return made_pairs()


def epoch(pairs, batches, number=0, **more):
    """The batches of one epoch as texts: [[(query, passage), ...], ...]."""
    from xstilts.train.pair_batches import PairSampler

    sampler = PairSampler(pairs, SIZE, batches, **more)
    sampler.set_epoch(number)
    found = [[tuple(item.values()) for item in pairs.__getitems__(batch)] for batch in sampler]
    assert len(found) == len(sampler)
    return found


@pytest.mark.parametrize("batches", ["mono", "cross", "hybrid"])
def test_every_batch_is_one_task_in_the_languages_of_its_kind(pairs, batches):
    found = epoch(pairs, batches)
    assert len(found) == 2 * (N // SIZE) and {len(batch) for batch in found} == {SIZE}
    kinds, seen = Counter(), Counter()
    for batch in found:
        queries, passages = zip(*batch, strict=True)
        # a copy of the right passage would count as a wrong one
        assert len(set(queries)) == len(set(passages)) == SIZE
        (q_language,), (p_language,) = {q[:2] for q in queries}, {p[:2] for p in passages}
        assert len({passage.split()[1][1] for passage in passages}) == 1
        kinds["mono" if q_language == p_language else "cross"] += 1
        seen.update((passage.split()[1][1], query.split()[1]) for query, passage in batch)
    assert max(seen.values()) == 1  # no id comes twice, in whatever language
    assert {"mono": kinds["cross"] == 0, "cross": kinds["mono"] == 0, "hybrid": min(kinds.values()) > 20}[batches]


def test_query_and_passage_belong_together(pairs):
    for batch in epoch(pairs, "cross"):
        for query, passage in batch:
            number, text = int(query.split()[1][1:]), passage.split()[1]
            assert text in (f"pt{number // 3}", f"pu{number}")


def test_batches_hold_the_same_pairs_in_every_arm(pairs):
    def numbers(found):
        return [[query.split()[1] for query, _ in batch] for batch in found]

    arms = {batches: epoch(pairs, batches, 1) for batches in ("mono", "cross", "hybrid")} | {
        "english": epoch(made_pairs(drawn=["en"]), "english", 1)
    }
    assert all(numbers(found) == numbers(arms["mono"]) for found in arms.values())
    assert {text[:2] for batch in arms["english"] for pair in batch for text in pair} == {"en"}
    assert sum(map(len, epoch(made_pairs(limit=100), "mono"))) == 2 * (100 // SIZE) * SIZE


def test_shuffled_passages_are_some_others_in_every_language():
    found = epoch(made_pairs(shuffle=3), "cross")
    own, dealt = 0, {}
    for batch in found:
        assert len({passage for _, passage in batch}) == SIZE
        for query, passage in batch:
            own += query.split()[1][1:] in (passage.split()[1][2:],)
            dealt[query.split()[1], passage.split()[1][1]] = passage.split()[1]
    assert own < 20
    assert (
        dealt.items()
        >= {
            (q.split()[1], p.split()[1][1]): p.split()[1]
            for b in epoch(made_pairs(shuffle=3), "mono")
            for q, p in b
            if (q.split()[1], p.split()[1][1]) in dealt
        }.items()
    )
    assert epoch(made_pairs(shuffle=4), "cross") != found


@pytest.mark.parametrize("batches, expected", [("mono", 3), ("cross", 6)])
def test_languages_are_drawn_uniformly(pairs, batches, expected):
    drawn = Counter(
        (batch[0][0][:2], batch[0][1][:2]) for number in range(12) for batch in epoch(pairs, batches, number)
    )
    share = sum(drawn.values()) / expected
    assert len(drawn) == expected and all(abs(count - share) < 5 * np.sqrt(share) for count in drawn.values())


@pytest.mark.parametrize("alpha", [0.0, 0.2, 1.0])
def test_alpha_is_the_share_of_mono_batches(pairs, alpha):
    found = [batch[0] for number in range(6) for batch in epoch(pairs, "hybrid", number, alpha=alpha)]
    share = np.mean([query[:2] == passage[:2] for query, passage in found])
    assert abs(share - alpha) <= 4 * np.sqrt(alpha * (1 - alpha) / len(found))


def test_seed_and_epoch_decide(pairs):
    first = epoch(pairs, "hybrid", 1, seed=5)
    assert first == epoch(pairs, "hybrid", 1, seed=5)
    assert first != epoch(pairs, "hybrid", 2, seed=5) and first != epoch(pairs, "hybrid", 1, seed=6)


def test_too_few_pairs_for_all_processes_say_so(pairs):
    with pytest.raises(UserError, match=f"fewer than a batch of each of the {N} processes"):
        epoch(pairs, "mono", processes=N)


def test_processes_get_as_many_batches_each(pairs):
    assert len(epoch(pairs, "mono", processes=3)) == 2 * (N // SIZE) // 3 * 3


@pytest.mark.parametrize(
    "rows, message",
    [
        (
            {"en": [1] * 20},
            r"t has 20 pairs \(1 with different texts\), fewer than a batch; lower --per_device_train_batch_size 8",
        ),
        ({"en": list(range(5))}, "t has 5 pairs"),
    ],
)
def test_batches_that_cannot_be_made_are_refused(rows, message):
    from xstilts.train.pair_batches import PairRows

    pairs = PairRows({"t": {code: language(code, list(range(len(texts))), texts) for code, texts in rows.items()}})
    with pytest.raises(UserError, match=message):
        epoch(pairs, "mono")


# ---- loss and trainer -----------------------------------------------------------------------------------------------


@pytest.fixture
def model(tiny_model):
    from xstilts.train.pair_trainer import build

    model = build(str(tiny_model))
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    model[0].model.config._attn_implementation = "eager"
    return model.train()


@pytest.fixture
def texts(tiny_world):
    return get_pairs("squad_dual").load("train", "en", Rows(tiny_world))


def gradients(model, loss, batch):
    features = [model.preprocess(list(side)) for side in batch]
    model.zero_grad()
    value = loss(features, None)
    value.backward()
    return value.item(), {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def test_the_cached_loss_has_the_gradient_of_the_plain_one(model, texts):
    """GradCache (arXiv 2101.06983): encoding 5 texts at a time changes memory, nothing else."""
    from xstilts.train.pair_trainer import make_loss

    batch = texts["query"][:24], texts["passage"][:24]
    plain, of_plain = gradients(model, make_loss(model, 20.0, None), batch)
    cached, of_cached = gradients(model, make_loss(model, 20.0, 5), batch)
    assert plain == pytest.approx(cached, abs=1e-5) and plain > 0.1
    assert of_plain.keys() == of_cached.keys() and max(g.abs().max() for g in of_plain.values()) > 1e-2
    for name, gradient in of_plain.items():
        torch.testing.assert_close(of_cached[name], gradient, atol=1e-5, rtol=0)


def test_the_loss_is_cross_entropy_of_scaled_cosines(model, texts):
    from xstilts.train.pair_trainer import make_loss

    batch = texts["query"][:6], texts["passage"][:6]
    queries, passages = (
        torch.nn.functional.normalize(torch.tensor(model.eval().encode(side)), dim=1) for side in batch
    )
    expected = torch.nn.functional.cross_entropy(7.0 * queries @ passages.T, torch.arange(6)).item()
    assert gradients(model, make_loss(model, 7.0, None), batch)[0] == pytest.approx(expected, abs=1e-5)


def test_the_pooler_of_a_checkpoint_is_handed_on_and_none_is_made_up(tiny_model, tmp_path):
    from transformers import AutoModel, AutoTokenizer

    from xstilts.train.pair_trainer import build

    assert build(str(tiny_model))[0].model.pooler is None
    with_pooler = AutoModel.from_pretrained(tiny_model)
    with_pooler.save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(tmp_path)
    assert torch.equal(build(str(tmp_path))[0].model.pooler.dense.weight, with_pooler.pooler.dense.weight)


@pytest.mark.parametrize("pooler", [False, True])
def test_a_folder_saved_without_a_pooler_loads_without_one(pooler, tiny_model, tmp_path):
    """sentence-transformers would draw a random one, and transformers warn of it."""
    from sentence_transformers import SentenceTransformer
    from transformers import AutoModel

    from xstilts.checkpoint.encoder import load_without_pooler
    from xstilts.train.pair_trainer import build

    model = build(str(tiny_model))
    model.save(str(tmp_path))
    config = AutoModel.from_pretrained(tiny_model).config
    if not pooler:
        load_without_pooler(tmp_path, config)
    assert (SentenceTransformer(str(tmp_path), device="cpu")[0].model.pooler is not None) is pooler
    assert json.loads((tmp_path / "sentence_bert_config.json").read_text())["transformer_task"] == "feature-extraction"


def trainer(model, data, folder, layer=None, **settings):
    from transformers import TrainingArguments

    from xstilts.train.pair_batches import PairRows, PairSampler
    from xstilts.train.pair_trainer import PairTrainer, library_arguments, make_loss

    pairs = PairRows({"squad_dual": {"en": data}})
    plain = TrainingArguments(output_dir=str(folder), use_cpu=True, seed=0, logging_steps=100, **settings)
    return PairTrainer(
        model=model,
        args=library_arguments(plain, {}),
        pairs=pairs,
        name="test",
        layer=layer,
        loss=make_loss(model, 20.0, None),
        sampler=PairSampler(pairs, plain.per_device_train_batch_size),
    )


def test_accumulation_is_the_mean_of_its_batches(model, texts, tmp_path):
    """Stock heads grow with the number of accumulated batches; this loss must not."""
    from xstilts.train.pair_trainer import make_loss

    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    run = trainer(
        model,
        texts,
        tmp_path,
        max_steps=1,
        per_device_train_batch_size=8,
        gradient_accumulation_steps=2,
        optim="sgd",
        learning_rate=0.1,
        lr_scheduler_type="constant",
        max_grad_norm=0.0,
        save_strategy="no",
    )
    batches = [run.pairs.__getitems__(batch) for batch, _ in zip(run.sampler, range(2), strict=False)]
    expected: Counter = Counter()
    for batch in batches:
        texts = [row["query"] for row in batch], [row["passage"] for row in batch]
        for name, gradient in gradients(model, make_loss(model, 20.0, None), texts)[1].items():
            expected[name] = expected[name] + gradient / 2
    model.zero_grad()
    run.train()
    moved = 0.0
    for name, p in model.named_parameters():
        if name in expected:
            torch.testing.assert_close(before[name] - p.detach(), 0.1 * expected[name], atol=1e-6, rtol=1e-3)
            moved = max(moved, (before[name] - p.detach()).abs().max().item())
    assert moved > 1e-4


@pytest.mark.parametrize("layer", [None, 1])
def test_resumed_run_equals_an_undisturbed_one(tiny_model, texts, tmp_path, layer):
    from xstilts.train.pair_trainer import build

    settings = {
        "layer": layer,
        "max_steps": 5,
        "save_steps": 3,
        "per_device_train_batch_size": 32,
        "learning_rate": 1e-3,
    }
    whole, again = build(str(tiny_model), layer=layer), build(str(tiny_model), layer=layer)
    first = trainer(whole, texts.select(range(70)), tmp_path, **settings)
    assert len(first.sampler) == 2  # the checkpoint at step 3 lies within the second epoch
    first.train()
    assert not (tmp_path / "checkpoint-3/README.md").exists()
    trainer(again, texts.select(range(70)), tmp_path, **settings).train(
        resume_from_checkpoint=str(tmp_path / "checkpoint-3")
    )
    for a, b in zip(whole.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)


# ---- from outside ---------------------------------------------------------------------------------------------------


@pytest.fixture
def train(cli, tiny_world, tiny_model, tmp_path):
    def run(*arguments, out="out"):
        return cli(
            "run_intermediate.py",
            "--model_name_or_path",
            tiny_model,
            "--data_root",
            tiny_world,
            "--output_dir",
            tmp_path / out,
            "--max_steps",
            2,
            "--per_device_train_batch_size",
            16,
            *arguments,
        ), tmp_path / out

    return run


def test_a_trained_folder_loads_by_both_libraries_and_is_an_arm(cli, train, tiny_model, tiny_world, tmp_path):
    from sentence_transformers import SentenceTransformer
    from transformers import AutoModel

    recipe = (
        "--config",
        "recipes/arms/squad_dual.yaml",
        "--arm",
        "squad_dual",
        "--learning_rate",
        1e-2,
        "--freeze_embeddings",
        "--max_seq_length",
        64,
        "--query_prompt",
        "Query: ",
    )
    done, out = train(*recipe)
    assert done.returncode == 0, done.stderr
    sentence = SentenceTransformer(str(out), device="cpu")
    plain, before = AutoModel.from_pretrained(out), AutoModel.from_pretrained(tiny_model)
    assert sentence.max_seq_length == 64 and sentence.prompts["query"] == "Query: "
    weights, old = plain.state_dict(), before.state_dict()
    for name, value in sentence[0].model.state_dict().items():
        if "pooler" not in name:  # the tiny model has none, and each load draws its own
            assert torch.equal(value, weights[name])
            assert torch.equal(value, old[name]) == name.startswith("embeddings."), name

    record = json.loads((out / "results.json").read_text())
    assert (record["phase"], record["arm"], record["form"]) == ("intermediate", "squad_dual", "pairs")
    assert 0 <= record["dev"]["en"]["accuracy"] <= 100 and 0 < record["chance"]["accuracy"] < 20
    assert record["measures"]["steps"] == 2 and "squad_dual/dev_accuracy_before" in record["measures"]
    assert [d["split"] for d in record["data"]] == ["train", "validation"]
    saved = json.loads((out / "tokenizer.json").read_text())
    assert saved["truncation"] is None and saved["padding"] is None  # of training
    assert not list(out.glob("checkpoint-*")) and "squad_dual" in (out / "README.md").read_text()

    # finished: nothing to do
    assert train(*recipe)[0].returncode == 0 and json.loads((out / "results.json").read_text()) == record
    done = cli(
        "run_retrieval.py",
        "--model_name_or_path",
        out,
        "--data_root",
        tiny_world,
        "--tasks",
        "tatoeba",
        "--layer",
        "all",
        "--output_dir",
        tmp_path / "cell",
    )
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "cell/tatoeba/results.json").read_text())["parents"] == [
        f".../{tiny_model.name}",
        f".../{out.name}",
    ]


def test_dev_pairs_of_equal_tokens_are_embedded_once(tiny_model, monkeypatch):
    """Passages cut off at the same word have equal vectors, of which the first is taken; prompts count as text
    does."""
    from xstilts.retrieve.neighbours import nearest_by_cosine
    from xstilts.train.pair_trainer import accuracy, build

    model = build(str(tiny_model), prompts={"query": "the ", "passage": "a "})
    model.max_seq_length = 12
    encode, given = model.encode, []
    monkeypatch.setattr(model, "encode", lambda texts, **more: given.extend(texts) or encode(texts, **more))
    long = "the teacher sees the doctor " * 5
    pairs = Dataset.from_dict(
        {"query": [long, "the doctor", long], "passage": [long + "one", "the doctor", long + "two"]}
    )
    # the third query cannot find its passage
    assert accuracy(model, get_pairs("squad_dual"), pairs, nearest_by_cosine)["accuracy"] < 100
    assert sorted(given) == sorted(["the " + long, "the the doctor", "a " + long + "one", "a the doctor"])


def test_a_middle_layer_is_trained_and_the_folder_stays_whole(train, tiny_model):
    """The layers above are neither run nor changed; SentenceTransformer reads the layer that was trained."""
    from sentence_transformers import SentenceTransformer
    from transformers import AutoModel

    from xstilts.retrieve.embedding import Encoder

    done, out = train("--tasks", "squad_dual", "--layer", 1, "--learning_rate", 1e-2)
    assert done.returncode == 0, done.stderr
    after, before = (
        AutoModel.from_pretrained(path, add_pooling_layer=False).state_dict() for path in (out, tiny_model)
    )
    assert after.keys() == before.keys()
    for name, value in after.items():
        assert torch.equal(value, before[name]) == ("layer.1." in name), name
    sentences = ["vem godezi zipenne", "who praised Zelda in the library?"]
    ours = Encoder.load(str(out), layers=1).embed(sentences)[1]
    np.testing.assert_allclose(SentenceTransformer(str(out), device="cpu").encode(sentences), ours, atol=1e-5)


def test_hybrid_batches_of_two_tasks_with_the_cached_loss(train):
    done, out = train(
        "--tasks",
        "xquad_dual",
        "xnli_dual",
        "--train_languages",
        "en",
        "qaa",
        "qab",
        "--language_mode",
        "hybrid",
        "--splits",
        *PARALLEL,
        "xnli.train=test",
        "--per_device_train_batch_size",
        2,
        "--cached_loss_mini_batch",
        1,
    )
    assert done.returncode == 0, done.stderr
    record = json.loads((out / "results.json").read_text())
    assert (
        set(record["dev"]["en"]) == {"xquad_dual/accuracy", "xnli_dual/accuracy"}
        and record["arm"] == "xquad_dual+xnli_dual"
    )
    assert {d["config"] for d in record["data"]} == {"xquad.en", "xquad.qaa", "xquad.qab", "en", "qaa", "qab"}


def test_code_switched_training_reports_the_real_rate(train, tmp_path):
    (tmp_path / "lexicon").mkdir()
    (tmp_path / "lexicon/en-qaa.txt").write_text("the\tvem\nwho\tgur\n")
    arguments = (
        "--tasks",
        "squad_dual",
        "--code_switch",
        "bilingual",
        "--lexicon",
        tmp_path / "lexicon",
        "--switch_side",
        "query",
        "--switch_probability",
        1.0,
    )
    done, out = train(*arguments)
    assert done.returncode == 0, done.stderr
    record = json.loads((out / "results.json").read_text())
    (note,) = [note for note in record["notes"] if "words switched" in note]
    assert note.startswith("squad_dual query: ") and "more drawn but not in the lexicon" in note
    assert train(*arguments)[0].returncode == 0
    (tmp_path / "lexicon/en-qaa.txt").write_text("the\tvom\n")
    done, _ = train(*arguments)
    assert done.returncode == 2 and "begun with other arguments (lexicon_sha256" in done.stderr


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--tasks", "mnli_dual"], "Task 'mnli_dual' is unknown. Did you mean nli_dual?"),
        (["--tasks", "squad_dual", "tatoeba"], "run_retrieval.py --tasks tatoeba"),
        (["--tasks", "mnli", "squad_dual"], "squad_dual trains a dual encoder, which has no head"),
        (["--tasks", "squad_dual", "--peft", "lora"], "--peft"),
        (["--tasks", "squad_dual", "--mlm_rate", "0.5"], "--mlm_rate"),
        (
            ["--tasks", "squad_dual", "--language_mode", "translated", "--train_languages", "de"],
            "translated is not for",
        ),
        (["--tasks", "squad_dual", "--layer", "all"], "--layer all: expected"),
        (["--tasks", "squad_dual", "--layer", "3"], "--layer 3: the model has layers 1 to 2 to train"),
        (
            ["--tasks", "squad_dual", "--language_mode", "cross"],
            "--language_mode cross",
        ),
        (["--tasks", "squad_dual", "--train_languages", "xx"], "Did you mean"),
        (["--tasks", "squad_dual", "--train_languages", "en", "de"], "No rows at"),
        (["--tasks", "squad_dual", "--alpha", "2"], "--alpha 2.0"),
        (["--tasks", "squad_dual", "--scale", "0"], "--scale 0.0"),
        (["--tasks", "squad_dual", "--code_switch", "bilingual"], "--code_switch needs --lexicon"),
        (["--tasks", "squad_dual", "--switch_languages", "de"], "goes with --code_switch"),
        (
            ["--tasks", "squad_dual", "--code_switch", "bilingual", "--lexicon", "nowhere"],
            "--lexicon nowhere: no such folder",
        ),
        (
            [
                "--tasks",
                "xnli_dual",
                "--code_switch",
                "bilingual",
                "--lexicon",
                "x",
                "--train_languages",
                "en",
                "qaa",
                "--language_mode",
                "multilingual",
            ],
            "replaces English",
        ),
        (["--tasks", "squad_dual", "--max_eval_samples", "0"], "give 1 at least"),
        (["--tasks", "squad_dual", "--per_device_train_batch_size", "4096"], "fewer than a batch"),
        (["--tasks", "squad_dual", "--max_seq_length", "4096"], "the model takes at most 128 tokens"),
        (["--tasks", "squad_dual", "--lerning_rate", "1"], "Did you mean --learning_rate?"),
    ],
)
def test_impossible_request_is_one_line(train, arguments, message):
    done, out = train(*arguments)
    # rows may be read first, with a bar
    said = [line for line in done.stderr.splitlines() if line.strip() and "%|" not in line]
    assert done.returncode == 2 and len(said) == 1 and message in said[0]
    assert not (out / "results.json").exists()


def test_training_arguments_without_training_are_refused(cli, tiny_model, tmp_path):
    done = cli(
        "run_retrieval.py",
        "--model_name_or_path",
        tiny_model,
        "--tasks",
        "tatoeba",
        "--output_dir",
        tmp_path,
        "--learning_rat",
        1,
    )
    assert done.returncode == 2 and "'learning_rat' is unknown" in done.stderr


def test_any_checkpoint_is_exported_as_a_sentence_encoder(cli, tiny_model, tmp_path):
    from sentence_transformers import SentenceTransformer

    from xstilts.retrieve.embedding import Encoder

    out = tmp_path / "encoder"
    arguments = (
        "run_retrieval.py",
        "--model_name_or_path",
        tiny_model,
        "--layer",
        1,
        "--export_sentence_transformers",
        out,
    )
    done = cli(*arguments)
    assert done.returncode == 0, done.stderr
    sentences = ["vem godezi zipenne", "who praised Zelda in the library?"]
    ours = Encoder.load(str(tiny_model), layers=1).embed(sentences)[1]
    np.testing.assert_allclose(SentenceTransformer(str(out), device="cpu").encode(sentences), ours, atol=1e-5)
    card = (out / "README.md").read_text()
    assert (
        "layer 1, mean pooling" in card and "library_name: sentence-transformers" in card and str(tmp_path) not in card
    )
    assert cli(*arguments, "--layer", 2).returncode == 2  # a folder that is there is never overwritten


def test_a_batch_of_one_pair_is_refused(cli, tiny_model, tiny_world, tmp_path):
    """It has nothing to tell its passage from: the loss was 0 at every step, and a result was written."""
    found = cli(
        "run_intermediate.py",
        "--tasks",
        "squad_dual",
        "--model_name_or_path",
        tiny_model,
        "--data_root",
        tiny_world,
        "--output_dir",
        tmp_path / "out",
        "--per_device_train_batch_size",
        1,
        "--gradient_accumulation_steps",
        8,
        "--max_steps",
        1,
    )
    assert found.returncode == 2 and "trains nothing: a pair learns from the others of its batch" in found.stderr
    assert not (tmp_path / "out/results.json").exists()


# ---- run_retrieval.py --do_train, until the next release ------------------------------------------------------------


def test_the_old_command_warns_and_trains_the_same(cli, train, tiny_model, tiny_world, tmp_path, caplog):
    mixed = ["xquad_dual", "xnli_dual"]
    same = ["--train_languages", "en", "qaa", "--splits", *PARALLEL, "xnli.train=test"]
    same += ["--per_device_train_batch_size", 2]
    done, new = train("--tasks", *mixed, "--language_mode", "multilingual", *same)
    assert done.returncode == 0, done.stderr
    new = new.rename(tmp_path / "new")
    old = ["--do_train", "--train_tasks", *mixed, *same, "--max_steps", 2, "--output_dir", tmp_path / "out"]
    done = cli("run_retrieval.py", *old, "--model_name_or_path", tiny_model, "--data_root", tiny_world)
    assert done.returncode == 0, done.stderr
    assert "run_intermediate.py --tasks xquad_dual xnli_dual --language_mode multilingual" in caplog.text
    assert (new / "model.safetensors").read_bytes() == (tmp_path / "out/model.safetensors").read_bytes()
    begun = [json.loads((folder / "run.json").read_text()) for folder in (new, tmp_path / "out")]
    assert begun[0].pop("command") != begun[1].pop("command") and begun[0] == begun[1]
    one, other = (json.loads((folder / "results.json").read_text()) for folder in (new, tmp_path / "out"))
    assert {key for key in one if one[key] != other[key]} <= {"command", "seconds", "finished"}
    # what the new command began, the old one finds finished, and the other way round
    assert cli("run_retrieval.py", *old, "--model_name_or_path", tiny_model, "--data_root", tiny_world).returncode == 0
    assert json.loads((tmp_path / "out/results.json").read_text()) == other


@pytest.mark.parametrize(
    "batches, languages, switch, mode",
    [
        ("mono", [], None, ""),  # every batch is English
        ("mono", ["en"], None, ""),
        ("mono", ["de"], None, " --language_mode multilingual"),  # every batch is German
        ("mono", ["en", "de"], None, " --language_mode multilingual"),
        ("cross", ["en", "de"], None, " --language_mode cross"),
        ("english", ["en", "de"], None, ""),
        ("mono", ["en"], "multilingual", ""),
    ],
)
def test_the_new_command_trains_in_the_same_languages(batches, languages, switch, mode):
    dual = DualEncoderArguments(train_tasks=["squad_dual"], batch_languages=batches, code_switch=switch)
    family = FamilyArguments(train_languages=languages)
    assert alias.command(dual, family) == f"python run_intermediate.py --tasks squad_dual{mode}"


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "--train_tasks is missing"),
        (["--train_tasks", "squad_dual", "--tasks", "tatoeba"], "and measures nothing: give --tasks"),
        (["--train_tasks", "squad_dual", "--layer", "all"], "--do_train trains one layer's vectors"),
        (["--train_tasks", "squad"], "run_intermediate.py --tasks squad"),
        (["--train_tasks", "squad_dual", "--alpha", "0.3"], "--batch_languages hybrid"),
        (["--train_tasks", "mnli_dual"], "Did you mean nli_dual?"),
        (
            "--train_tasks squad_dual --batch_languages cross --code_switch bilingual --lexicon x".split(),
            "--batch_languages cross needs pairs in at least two languages",
        ),
    ],
)
def test_what_the_old_command_refuses(cli, tiny_model, tmp_path, arguments, message):
    done = cli(
        "run_retrieval.py", "--do_train", "--model_name_or_path", tiny_model, *arguments, "--output_dir", tmp_path
    )
    assert done.returncode == 2 and message in done.stderr


def test_pairs_are_not_measured(cli, tiny_model, tmp_path):
    done = cli(
        "run_retrieval.py", "--tasks", "squad_dual", "--model_name_or_path", tiny_model, "--output_dir", tmp_path
    )
    assert done.returncode == 2 and "run_intermediate.py --tasks squad_dual" in done.stderr
