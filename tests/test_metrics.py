import doctest
import os
import random
import re
import string
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from tasks import languages, metrics
from tasks.errors import UserError
from tasks.metrics.tagging import f1_of_seqeval_0_0_12

METRICS = Path(metrics.__file__).parent


def close(score):
    return pytest.approx(score, abs=1e-9)


def qa(predictions, references, **settings):
    return metrics.compute("qa", predictions=predictions, references=references, **settings)


# --- every metric


def test_no_module_is_forgotten():
    assert {file.stem for file in METRICS.glob("*.py")} == {*metrics.NAMES, "__init__", "errors", "inputs", "metrics"}


@pytest.mark.parametrize("name", metrics.NAMES)
def test_the_example_in_the_docstring_is_right(name):
    test = doctest.DocTestParser().get_doctest(
        metrics.function(name).__doc__, {name: metrics.function(name)}, name, None, 0
    )
    assert test.examples and doctest.DocTestRunner().run(test).failed == 0


def test_a_metric_of_the_library_evaluate_cuts_no_number():
    from tasks.metrics.metrics import Metric

    accuracy = Metric(config_name="accuracy")
    assert accuracy.compute(predictions=[1, 0], references=[1, 0]) == {"accuracy": 100}
    with pytest.raises(ValueError, match="row 1: 1.7. Give a whole number"):
        accuracy.compute(predictions=[1.7, 0.2], references=[1, 0])


@pytest.mark.whole
def test_metrics_load_by_path_from_outside_offline(tmp_path):
    """A stranger's process: nothing of ours importable, no network, an empty cache. Runs each metric's example."""
    (tmp_path / "a_copy").symlink_to(METRICS.parent)
    (tmp_path / "outside.py").write_text(
        "import doctest, evaluate, sys\n"
        "parser, runner = doctest.DocTestParser(), doctest.DocTestRunner()\n"
        "for name in sys.argv[1:]:\n"
        "    metric = evaluate.load('a_copy/metrics', name)\n"
        "    assert metric.info.description.strip() and '20' in metric.info.citation\n"
        "    text = metric.info.inputs_description\n"
        "    assert all(part in text for part in ('Args:', 'predictions:', 'references:', 'Returns:', 'Raises:', "
        "'Examples:'))\n"
        "    runner.run(parser.get_doctest(text, {name: metric.compute}, name, name, 0))\n"
        "    try:\n"
        "        metric.compute(predictions=[], references=[])\n"
        "        sys.exit(f'{name} scores nothing')\n"
        "    except ValueError:\n"
        "        pass\n"
        "for settings in ((), ('acc',)):\n"
        "    try:\n"
        "        sys.exit(evaluate.load('a_copy/metrics', *settings))\n"
        "    except ValueError as error:\n"
        "        assert 'accuracy' in str(error)\n"
        "assert 'tasks' not in sys.modules\n"
        "print(runner.summarize(verbose=False))\n"
    )
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_EVALUATE_OFFLINE": "1", "HF_HOME": str(tmp_path / "cache")}
    env.pop("PYTHONPATH", None)
    command = [sys.executable, "-I", "outside.py", *metrics.NAMES]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "failed=0" in done.stdout.splitlines()[-1] and "attempted=0" not in done.stdout, done.stdout


def test_importing_the_functions_is_cheap():
    code = (
        "import sys; from tasks import metrics; [metrics.function(name) for name in metrics.NAMES]; "
        "assert not {'evaluate', 'datasets', 'sklearn', 'seqeval', 'numpy'} & set(sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=METRICS.parents[1]).returncode == 0


def test_scores_need_no_evaluate():
    code = (
        "import sys; from tasks.metrics import compute; compute('retrieval_accuracy', predictions=[0], "
        "references=[0]); compute('tagging', predictions=[['O']], references=[['O']]); assert not {'evaluate', "
        "'datasets'} & set(sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=METRICS.parents[1]).returncode == 0


@pytest.mark.parametrize("name", ["accuracy", "accuracy_f1", "retrieval_accuracy"])
@pytest.mark.parametrize("value", [1.5, "1", None, [1], 2**63, float("nan")])
def test_value_that_is_not_an_integer_is_refused_with_its_row(name, value):
    for rows in (dict(predictions=[0, value], references=[0, 1]), dict(predictions=[0, 1], references=[0, value])):
        with pytest.raises(UserError, match="row 2"):
            metrics.compute(name, **rows)


@pytest.mark.parametrize("value", [5, None, b"b", ["b"], float("nan"), "\ud800"])
def test_value_that_is_not_text_is_refused_with_its_row(value):
    with pytest.raises(UserError, match="predictions, row 2"):
        qa(["a", value], [["a"], ["b"]])
    for name in ("qa", "mean_average_precision", "tagging", "mining"):
        with pytest.raises(UserError, match="references, row 2, entry 1"):
            metrics.compute(
                name, predictions=["a", "b"] if name == "qa" else [["a"], ["b"]], references=[["a"], [value]]
            )


@pytest.mark.parametrize("value", ["ab", {"a": 1}, {"a", "b"}, None, 5])
def test_value_that_is_not_a_list_is_refused(value):
    with pytest.raises(UserError, match="predictions: "):
        qa(value, [["a"], ["b"]])
    with pytest.raises(UserError, match="references, row 1: "):
        metrics.compute("mean_average_precision", predictions=[["a"]], references=[value])


def test_arrays_score_as_lists_do():
    numbers, rows = np.array([0, 1, 1], dtype=np.int32), np.array([["a", "b"]])
    for given in (numbers, list(numbers), tuple(numbers.tolist()), torch.tensor(numbers)):
        scores = metrics.compute("accuracy", predictions=given, references=[0, 1, 2])
        assert scores == metrics.compute("accuracy", predictions=[0, 1, 1], references=[0, 1, 2])
        assert type(scores["accuracy"]) is float
    assert metrics.compute("mean_average_precision", predictions=rows, references=list(rows)) == {
        "map@20": 100,
        "mrr@20": 100,
    }


def test_a_failed_score_does_not_touch_the_next():
    with pytest.raises(UserError):
        metrics.compute("accuracy", predictions=[1, 1], references=[1, -1])
    assert metrics.compute("accuracy", predictions=[1], references=[1]) == {"accuracy": 100.0}


@pytest.mark.parametrize("name", metrics.NAMES)
def test_nothing_and_unequal_numbers_are_refused(name):
    with pytest.raises(UserError, match="nothing to score"):
        metrics.compute(name, predictions=[], references=[])
    with pytest.raises(UserError, match="1 predictions for 2 references"):
        metrics.compute(name, predictions=[0], references=[0, 0])


def test_unknown_metric():
    with pytest.raises(UserError, match="'acc' is unknown.*accuracy"):
        metrics.compute("acc", predictions=[0], references=[0])


# --- classes


def test_accuracy():
    scores = metrics.compute("accuracy", predictions=[0, 1, 2], references=[0, 1, 1])
    assert scores == {"accuracy": close(200 / 3)}
    assert type(scores["accuracy"]) is float


def test_accuracy_f1_is_of_the_class_one():
    scores = metrics.compute("accuracy_f1", predictions=[1, 1, 1, 0, 0], references=[1, 0, 1, 1, 0])
    assert scores == {"accuracy": close(60), "f1": close(200 / 3)}
    assert metrics.compute("accuracy_f1", predictions=[0, 0], references=[0, 0]) == {"accuracy": 100.0, "f1": 0.0}


@pytest.mark.parametrize("name", ["accuracy", "accuracy_f1", "retrieval_accuracy"])
def test_hidden_gold_is_refused_with_its_row(name):
    with pytest.raises(UserError, match="Row 2: gold .* -1"):
        metrics.compute(name, predictions=[1, 0, 0], references=[1, -1, -1])


def test_gold_of_one_class_only_is_a_placeholder():
    """COPA's test set goes about with 500 labels of 0."""
    with pytest.raises(UserError, match="every gold label is 0"):
        metrics.compute("accuracy", predictions=[0, 1] * 250, references=[0] * 500)
    assert metrics.compute("accuracy", predictions=[0, 1], references=[0, 0]) == {"accuracy": 50.0}


def test_accuracy_f1_refuses_a_third_class():
    with pytest.raises(UserError, match="Row 1: prediction 2 is neither 0 nor 1"):
        metrics.compute("accuracy_f1", predictions=[2], references=[1])


# --- tags


def test_tagging_spans():
    gold = [["B-PER", "I-PER", "O"], ["B-LOC", "O"]]
    tags = [["B-PER", "O", "O"], ["B-LOC", "O"]]
    scores = metrics.compute("tagging", predictions=tags, references=gold)
    assert scores == {"f1": close(50), "precision": close(50), "recall": close(50), "accuracy": close(80)}
    assert all(type(score) is float for score in scores.values())


def test_tagging_reads_bare_tags_as_the_pinned_seqeval_does():
    """One wrong tag of five costs half the spans: equal neighbours (NOUN NOUN) are one span to seqeval."""
    gold = [["DET", "ADJ", "NOUN", "NOUN", "VERB"]]
    tags = [["DET", "ADJ", "NOUN", "VERB", "VERB"]]
    scores = metrics.compute("tagging", predictions=tags, references=gold)
    assert (scores["f1"], scores["accuracy"]) == (close(50), close(80))
    # CCONJ and SCONJ lose their first letter and become the same type, so this error is none to seqeval.
    scores = metrics.compute("tagging", predictions=[["CCONJ", "X"]], references=[["SCONJ", "X"]])
    assert (scores["f1"], scores["accuracy"]) == (close(100), close(50))


@pytest.mark.parametrize(
    "gold, tags, score",
    [
        ([["NOUN", "_"]], [["NOUN", "SYM"]], 50),  # 1.2.2 loses a span of "_" at the end of a sentence
        ([["_"], ["_"]], [["_"], ["X"]], 50),
        ([["DET", "CCONJ"]], [["DET", "SCONJ"]], 50),
        ([["B-A-B", "I-B"]], [["B-B", "I-A-B"]], 100),  # the type is what follows the last hyphen
        ([["NOUN", "NOUN"], ["NOUN"]], [["NOUN", "NOUN"], ["X"]], 50),  # a span ends with its sentence
        ([["O"]], [["O"]], 0),
    ],
)
def test_f1_of_seqeval_0_0_12(gold, tags, score):
    assert f1_of_seqeval_0_0_12(tags, gold) == close(score)


def test_f1_of_seqeval_0_0_12_on_random_tags():
    """The sum over 3,000 random cases, which seqeval 0.0.12 itself gave; its code with 1.2.2's types gives another."""
    draw, total = random.Random(0), 0.0
    bare = "ADJ ADP AUX CCONJ INTJ NOUN PUNCT SCONJ SYM X _".split()
    hyphens = "B-PER I-PER O B-A-B I-A-B N-O O-X - -b a- B E S . NOUN _".split()
    for number in range(3000):
        known = bare if number % 2 else hyphens
        gold = [[draw.choice(known) for _ in range(draw.randint(1, 8))] for _ in range(draw.randint(1, 4))]
        tags = [[tag if draw.random() < 0.6 else draw.choice(known) for tag in sentence] for sentence in gold]
        total += f1_of_seqeval_0_0_12(tags, gold)
    assert total == pytest.approx(178371.71279884517, abs=1e-6)


def test_tagging_without_spans_scores_zero_quietly(recwarn):
    scores = metrics.compute("tagging", predictions=[["O", "O"]], references=[["O", "O"]])
    assert scores == {"f1": 0.0, "precision": 0.0, "recall": 0.0, "accuracy": 100.0}
    assert not [warning for warning in recwarn if "seqeval" in warning.filename]


@pytest.mark.parametrize(
    "tags, gold, message",
    [
        ([["O"], ["O", "O"]], [["O"], ["O"]], "Row 2: 2 predicted tags for 1 gold"),
        ([["O"], ["O"]], [["O"], [""]], "Row 2: gold tag '' is a placeholder"),
        ([["O"], ["O"]], [["O"], ["placeholder"]], "Row 2: gold tag 'placeholder' is a placeholder"),
        ([[], []], [[], []], "no sentence has a token"),
    ],
)
def test_tagging_refuses(tags, gold, message):
    with pytest.raises(UserError, match=message):
        metrics.compute("tagging", predictions=tags, references=gold)


# --- answers


def test_qa_takes_the_best_of_several_answers():
    assert qa(["The 2 Panthers!"], [["308", "2 panthers"]]) == {"exact_match": 100.0, "f1": 100.0}
    assert qa(["carolina panthers", "x"], [["Panthers"], ["y"]]) == {"exact_match": 0.0, "f1": close(100 / 3)}


def test_qa_normalization_of_squad_is_english_and_ascii():
    assert qa(["der Fluss"], [["Fluss"]])["exact_match"] == 0.0
    assert qa(["«Fluss»"], [["Fluss"]])["exact_match"] == 0.0
    assert qa(["(Fluss)"], [["Fluss"]])["exact_match"] == 100.0
    # An answer that is only an article or a sign: equal, but no token in common, which SQuAD v1.1's script scores so.
    assert qa(["the"], [["the"]]) == {"exact_match": 100.0, "f1": 0.0}


@pytest.mark.parametrize(
    "language, prediction, answer, scores",
    [
        ("en", "the river", "“River”", (100, 100)),
        ("en", "der Fluss", "Fluss", (0, 200 / 3)),
        ("es", "las casas", "¡casas!", (100, 100)),
        ("de", "des Flusses", "Flusses", (100, 100)),
        ("hi", "नदी।", "नदी", (100, 100)),
        ("vi", "những con sông", "con sông", (100, 100)),
        ("ar", "النهر", "نهر", (100, 100)),
        ("zh", "电池", "电 池", (100, 100)),
        ("zh", "电化电池", "电池", (0, 200 / 3)),
        ("zh", "NASA电池", "nasa 电池", (100, 100)),
    ],
)
def test_qa_normalization_of_mlqa_is_by_language(language, prediction, answer, scores):
    got = qa([prediction], [[answer]], language=language, normalization="mlqa")
    assert (got["exact_match"], got["f1"]) == (close(scores[0]), close(scores[1]))


@pytest.mark.parametrize("language, prediction, answer", [("th", "แม่น้ำ", "น้ำ"), ("ja", "大きな川", "川")])
def test_qa_language_normalization_splits_scripts_without_blanks(language, prediction, answer):
    assert qa([prediction], [[answer]])["f1"] == 0.0
    assert 0 < qa([prediction], [[answer]], language=language, normalization="language")["f1"] < 100


def test_qa_language_normalization_is_mlqas_where_there_is_one():
    rows = (["des Flusses", "x"], [["Flusses"], ["die"]])
    settings = [dict(language="de", normalization=name) for name in ("mlqa", "language")]
    assert qa(*rows, **settings[0]) == qa(*rows, **settings[1])


@pytest.mark.parametrize("language", ["zh", "zh-Hant"])
def test_qa_language_normalization_goes_by_the_letters_before_a_script(language):
    assert qa(["大河"], [["河"]], language=language, normalization="language")["f1"] == close(200 / 3)


def test_qa_takes_every_language_of_the_project():
    for code in (*languages.known(), "qaa"):
        assert qa(["river"], [["river"]], language=code)["f1"] == 100.0, code


@pytest.mark.parametrize(
    "settings, message",
    [
        (dict(language="pt-br"), "'pt-br' is not a language code"),
        (dict(language="zh-Hant", normalization="mlqa"), "MLQA has no normalisation for language 'zh-Hant'"),
        (dict(language="ru", normalization="mlqa"), "MLQA has no normalisation for language 'ru'"),
        (dict(normalization="squad2"), "'squad2' is unknown. Use one of: squad, mlqa, language"),
        (dict(language="German", normalization="language"), "'German'"),
        (dict(no_answer_probabilities=[0.5, 0.5]), "2 no_answer_probabilities for 1 predictions"),
        (dict(no_answer_probabilities=[float("nan")]), "Row 1: no_answer_probability is nan"),
    ],
)
def test_qa_refuses_settings(settings, message):
    with pytest.raises(UserError, match=message):
        qa(["a"], [["b"]], **settings)


def test_qa_refuses_stripped_gold():
    with pytest.raises(UserError, match="Row 2: the gold answer is an empty placeholder"):
        qa(["a", "b"], [["a"], [""]])
    with pytest.raises(UserError, match="the gold was stripped"):
        qa(["a", "b"], [[], []])


def test_qa_without_answer():
    """An unanswerable question wants the empty string."""
    assert qa(["", "x", "river"], [[], [], ["river"]]) == {"exact_match": close(200 / 3), "f1": close(200 / 3)}


def normalize_answer(text):
    """As in SQuAD's evaluate-v1.1.py and evaluate-v2.0.py, in their order."""
    text = "".join(char for char in text.lower() if char not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def official_scores(predictions, references, version, probabilities=()):
    """What SQuAD's own scripts give, restated: exact match and F1, and for 2.0 the best of each over all
    thresholds."""

    def f1(prediction, gold):
        guess, right = normalize_answer(prediction).split(), normalize_answer(gold).split()
        same = sum((Counter(guess) & Counter(right)).values())
        if version == 2 and not (guess and right):
            return float(guess == right)
        return 2 * same / (len(guess) + len(right)) if same else 0.0

    exact, overlap = [], []
    for prediction, answers in zip(predictions, references, strict=True):
        if version == 2:
            answers = [answer for answer in answers if normalize_answer(answer)] or [""]
        exact.append(max(float(normalize_answer(prediction) == normalize_answer(answer)) for answer in answers))
        overlap.append(max(f1(prediction, answer) for answer in answers))
    scores = {"exact_match": 100 * sum(exact) / len(exact), "f1": 100 * sum(overlap) / len(exact)}
    for name, values in (("best_exact_match", exact), ("best_f1", overlap)) if probabilities else ():
        total = best = sum(not answers for answers in references)
        for row in sorted(range(len(values)), key=lambda row: probabilities[row]):
            total += values[row] if references[row] else -1 if predictions[row] else 0
            best = max(best, total)
        scores[name] = 100 * best / len(values)
    return scores


@pytest.mark.parametrize("version, unanswerable", [(1, 0), (2, 0), (2, 0.4)])
def test_qa_agrees_with_squads_own_scripts(version, unanswerable):
    """On 3,000 random rows each, of words most of which normalise to nothing."""
    draw, words = (
        random.Random(version),
        ["the", "a", "An", "!", "...", "-", "river", "Lake", "lake.", "2", "the-river", ""],
    )

    def text():
        return " ".join(draw.choice(words) for _ in range(draw.randint(0, 3)))

    def gold():
        return [] if draw.random() < unanswerable else [text() or "the" for _ in range(draw.randint(1, 3))]

    for rows in [3] * 40 + [30] * 20 + [2280]:
        predictions, references = [text() for _ in range(rows)], [gold() for _ in range(rows - 1)] + [["the"]]
        probabilities = [draw.choice([0, 0.5, 0.5, 1, -3, 2]) for _ in range(rows)] if version == 2 else []
        more = {"squad_v2": True} if version == 2 else {}
        found = qa(predictions, references, **more)
        if version == 2:
            best = qa(predictions, references, **more, no_answer_probabilities=probabilities)
            found |= {name: best[name] for name in ("best_exact_match", "best_f1")}
        assert found == {
            name: close(value)
            for name, value in official_scores(predictions, references, version, probabilities).items()
        }


def test_squad_2_scores_by_its_own_rules_also_without_an_unanswerable_question():
    from datasets import Dataset

    from tasks import get_task

    examples = Dataset.from_dict(
        {"answers": [{"text": ["the"], "answer_start": [0]}, {"text": ["Ulm", "a"], "answer_start": [0, 3]}]}
    )
    scores = get_task("squad_v2").score([("a", -1.0), ("an", -1.0)], examples, "en")
    assert scores["f1"] == scores["best_f1"] == 50  # the second has gold that does not normalise to nothing
    assert get_task("squad").score(["a", "an"], examples, "en") == {"exact_match": 100, "f1": 0}
    nothing = Dataset.from_dict({"answers": [{"text": [], "answer_start": []}] * 4}).cast(examples.features)
    assert get_task("squad_v2").score([("", 1.0)] * 4, nothing, "en")["best_f1"] == 100
    with pytest.raises(UserError, match="stripped"):
        qa([""] * 200, [[]] * 200, squad_v2=True)


def test_qa_best_threshold():
    """By hand: answering nothing is right twice; answering the surest two (0.1, 0.2) is right three times."""
    predictions = ["river", "lake", "sea", "hill"]
    references = [["river"], ["lake"], [], []]
    scores = qa(predictions, references, no_answer_probabilities=[0.1, 0.2, 0.3, 0.9])
    assert scores == {
        "exact_match": 50.0,
        "f1": 50.0,
        "best_exact_match": 100.0,
        "best_exact_match_threshold": 0.2,
        "best_f1": 100.0,
        "best_f1_threshold": 0.2,
    }
    # The other way round nothing beats leaving everything unanswered, which is threshold 0.
    scores = qa(predictions, references, no_answer_probabilities=[0.9, 0.8, 0.1, 0.2])
    assert (scores["best_exact_match"], scores["best_exact_match_threshold"]) == (50.0, 0.0)


def test_qa_best_threshold_of_f1_and_exact_match_may_differ():
    scores = qa(["big river", "sea"], [["river"], []], no_answer_probabilities=[0.1, 0.5])
    assert (scores["best_exact_match"], scores["best_exact_match_threshold"]) == (50.0, 0.0)
    assert (scores["best_f1"], scores["best_f1_threshold"]) == (close(100 * (1 + 2 / 3) / 2), 0.1)


# --- retrieval


def test_retrieval_accuracy_and_mtebs_f1():
    """By hand: class 0 has F1 1, class 1 F1 2/3 (precision 1/2), class 2 F1 0; each is gold once."""
    scores = metrics.compute("retrieval_accuracy", predictions=[0, 1, 1], references=[0, 1, 2])
    assert scores == {"accuracy": close(200 / 3), "f1": close(100 * (1 + 2 / 3) / 3)}
    assert metrics.compute("retrieval_accuracy", predictions=[-1], references=[0]) == {"accuracy": 0.0, "f1": 0.0}
    assert metrics.compute("retrieval_accuracy", predictions=[0, 1, 1], references=[0, 1, 2], f1=False) == {
        "accuracy": scores["accuracy"]
    }


@pytest.mark.parametrize("name", ["tatoeba", "ntrex"])
def test_the_main_score_of_retrieval_computes_no_f1(name, monkeypatch):
    import sklearn.metrics
    from datasets import Dataset

    from tasks import get_task

    task, examples = get_task(name), Dataset.from_dict({"source": ["a", "b", "c"], "target": ["d", "e", "f"]})
    score = task.score([0, 1, 1], examples, "de")["accuracy"]
    monkeypatch.delattr(sklearn.metrics, "f1_score")
    assert task.main_score([0, 1, 1], examples, "de") == score


def test_retrieval_accuracy_is_scikit_learns_to_the_last_bit():
    import sklearn.metrics

    draw = random.Random(0)
    for n in (3, 7, 49, 310):
        gold = list(range(n))
        found = [row if draw.random() < 0.6 else draw.randrange(-1, n) for row in gold]
        assert metrics.compute("retrieval_accuracy", predictions=found, references=gold) == {
            "accuracy": 100.0 * sklearn.metrics.accuracy_score(gold, found),
            "f1": 100.0 * sklearn.metrics.f1_score(gold, found, average="weighted", zero_division=0),
        }


def test_mining():
    found = [["a\t1", "b\t2", "c\t3", "c\t3"]]
    scores = metrics.compute("mining", predictions=found, references=[["a\t1", "d\t4"]])
    assert scores == {"precision": close(100 / 3), "recall": close(50), "f1": close(40)}
    assert metrics.compute("mining", predictions=[[]], references=[["a\t1"]])["f1"] == 0.0
    two = metrics.compute("mining", predictions=[["a\t1"], ["b\t1"]], references=[["a\t1"], ["a\t1"]])
    assert two == {"precision": 50.0, "recall": 50.0, "f1": 50.0}


@pytest.mark.parametrize(
    "found, gold, message",
    [
        ([["a 1"]], [["a\t1"]], "Row 1: prediction 1 is 'a 1'. Write two ids"),
        ([["a\t1"], []], [["a\t1"], []], "Row 2: no gold pairs"),
        ([["a\t1"]], [["a\t1", "placeholder"]], "Row 1: gold pair 2 is 'placeholder'"),
    ],
)
def test_mining_refuses(found, gold, message):
    with pytest.raises(UserError, match=message):
        metrics.compute("mining", predictions=found, references=gold)


def test_mean_average_precision():
    """By hand: hits at ranks 1 and 3 of two gold ids: (1/1 + 2/3) / 2; then none."""
    rows = dict(predictions=[["a", "x", "b"], []], references=[["a", "b"], ["c"]])
    scores = metrics.compute("mean_average_precision", **rows)
    assert scores == {"map@20": close(100 * (5 / 6) / 2), "mrr@20": close(50)}


def test_mean_average_precision_is_cut_at_k_and_divided_by_what_fits():
    rows = dict(predictions=[["a", "b", "c"]], references=[["a", "b", "c"]])
    assert metrics.compute("mean_average_precision", k=2, **rows) == {"map@2": 100.0, "mrr@2": 100.0}
    late = dict(predictions=[["x"] * 20 + ["a"]], references=[["a"]])
    assert metrics.compute("mean_average_precision", **late) == {"map@20": 0.0, "mrr@20": 0.0}


def test_mean_average_precision_counts_a_repeated_candidate_once():
    rows = dict(predictions=[["a", "a", "b"]], references=[["b", "a", "a"]])
    assert metrics.compute("mean_average_precision", **rows)["map@20"] == close(100 * (1 + 2 / 3) / 2)


def test_mean_average_precision_refuses_missing_gold():
    with pytest.raises(UserError, match="Row 2: no gold ids"):
        metrics.compute("mean_average_precision", predictions=[["a"], ["a"]], references=[["a"], []])
