"""benchmarks/mteb_parity.py: our figures beside published ones, and the tables it keeps."""

import importlib.util
import json
import re

import pytest
from conftest import ROOT

spec = importlib.util.spec_from_file_location("mteb_parity", ROOT / "benchmarks" / "mteb_parity.py")
parity = importlib.util.module_from_spec(spec)
spec.loader.exec_module(parity)

OURS = {
    "de": {"accuracy": 98.0, "f1": 97.5},
    "sw": {"accuracy": 70.0, "f1": 66.0},
    "qaa": {"accuracy": 1.0, "f1": 1.0},
}


@pytest.fixture
def files(tmp_path):
    """`files(published={...}, **settings)` -> paths of our results.json and mteb's file, in either of its forms."""

    def write(published, several=False, **changed):
        settings = {
            "query_side": "foreign",
            "layer": "last",
            "pooling": "mean",
            "include_special": True,
            "max_eval_samples": None,
            "query_prompt": "query: ",
            "passage_prompt": "query: ",
            "dtype": "fp32",
            **changed,
        }
        record = {
            "settings": settings,
            "scores": OURS,
            "n": dict.fromkeys(OURS, 1000),
            "layer": 12,
            "seconds": 1.5,
            "finished": "2020-01-01T00:00:00+00:00",
            "versions": {"torch": "2", "transformers": "5", "python": "3"},
        }
        rows = {f"{name}-eng": {"accuracy": a / 100, "f1": f / 100} for name, (a, f) in published.items()}
        form = (
            {"BUCC@x": {"scores": {}}, "Tatoeba@x": {"scores": rows}}
            if several
            else {"scores": {"test": [{"hf_subset": name, **row} for name, row in rows.items()]}}
        )
        for name, content in (("results.json", record), ("published.json", form)):
            (tmp_path / name).write_text(json.dumps(content))
        return [str(tmp_path / "results.json"), str(tmp_path / "published.json")]

    return write


@pytest.mark.parametrize("several", [False, True])
def test_equal_figures_pass_and_others_fail_beyond_the_tolerance(several, files, capsys):
    assert parity.main(files({"deu": (98.0, 97.5), "swh": (70.0, 66.0), "fra": (9.0, 9.0)}, several)) == 0
    out = capsys.readouterr().out
    assert "qaa: not among the published ones" in out and "2 languages compared, 0 differ" in out
    both = files({"deu": (98.0, 97.5), "swh": (76.0, 72.0)}, several)
    assert parity.main(both) == parity.main([*both, "--tolerance", "2.9"]) == 1
    assert parity.main([*both, "--tolerance", "3.0001"]) == 0
    out = capsys.readouterr().out
    assert (
        "| accuracy | 2 | 84.00 | 87.00 | -3.00 | 3.00 | 1 / 0 |" in out
        and "| sw | 1000 | 70.0 | 76.0 | -6.0 |" in out
    )
    assert "2,000 pairs; layer 12, fp32, `query: ` before both sides" in out


@pytest.mark.parametrize(
    "changed",
    [
        {"query_side": "english"},
        {"max_eval_samples": 100},
        {"pooling": "cls"},
        {"include_special": False},
        {"layer": "all"},
    ],
)
def test_another_measurement_than_mtebs_is_refused(changed, files, capsys):
    assert parity.main(files({"deu": (98.0, 97.5)}, **changed)) == 2
    assert f"--{next(iter(changed))} " in capsys.readouterr().err


def test_a_file_without_these_languages_is_refused(files, capsys):
    assert parity.main(files({"fra": (98.0, 97.5)})) == 2 and "published.json" in capsys.readouterr().err


def test_what_is_kept_is_read_back_whole(files, tmp_path):
    ours, theirs = files({"deu": (98.1, 97.25), "swh": (76.0, 72.0)})
    rows = parity.compare(parity.tatoeba_record(ours), parity.published(theirs, "Tatoeba"))
    rows.append(
        dict.fromkeys(parity.COLUMNS)
        | {"task": "bucc", "language": "zh", "pairs": 257, "f1": 90.0, "published_f1": 92.0}
    )
    about = parity.describe(parity.tatoeba_record(ours), "a model: small")
    parity.write_csv(tmp_path / "kept.csv", about, rows)
    assert parity.read_csv(tmp_path / "kept.csv") == (about, rows)
    page = parity.put(
        "before <!-- mteb_parity x -->old<!-- end --> after <!-- end -->", "x", parity.table(about, rows)
    )
    assert (
        page.startswith("before ")
        and page.endswith(" after <!-- end -->")
        and "-->old" not in page
        and "257 pairs" in page
    )
    with pytest.raises(parity.UserError):
        parity.put(page, "y", "")


def test_every_table_of_the_page_is_that_of_its_csv_file():
    page = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
    names = re.findall(r"<!-- mteb_parity (\S+) -->", page)
    for name in names:
        assert (
            parity.put(page, name, parity.table(*parity.read_csv(ROOT / "docs" / "results" / f"{name}.csv"))) == page
        ), name
    assert names
