"""Our Tatoeba figures beside mteb's published ones, language by language; exits with 1 if they differ by more than
--tolerance.

    python run_retrieval.py --tasks tatoeba --query_side foreign --layer last --pooling mean --dtype fp32 \\
        --data_root ROWS --model_name_or_path sentence-transformers/all-MiniLM-L6-v2 --output_dir runs/minilm
    python benchmarks/mteb_parity.py runs/minilm/tatoeba/results.json Tatoeba.json

Any model and any published file: the model's Tatoeba.json in github.com/embeddings-benchmark/results, or several tasks
in one file, {"Tatoeba@revision": {"scores": {"deu-eng": {"accuracy": 0.98, "f1": 0.97}}}}. mteb lets the foreign
sentences ask and takes whole files. In 1.36 at least it puts no prompt before them, not even for e5: its
BitextMiningEvaluator says of no text whether it is a query, and e5's prompts there are for queries and passages. So
give --query_prompt '' --passage_prompt ''. A model whose weights were rounded differs: then --tolerance says by how
many points on average (mean absolute difference of accuracy and of F1).

--bucc RESULTS names a run of BUCC on the pools too. Its F1 is of another kind than mteb's and only stands beside it:
mteb looks for each sentence's pair among the gold pairs alone, mining has to find which of the pools' sentences have a
pair at all. --write NAME keeps the figures in docs/results/NAME.csv and puts their table between the marks of that
name in benchmarks/README.md.
"""

import argparse
import csv
import io
import json
import re
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from tasks.errors import UserError  # noqa: E402
from tasks.languages import tatoeba_code  # noqa: E402

COLUMNS = ("task", "language", "pairs", "accuracy", "published_accuracy", "f1", "published_f1")
WORST = 10  # languages shown
BANDS = ((90, 101), (50, 90), (0, 50))  # published accuracy, points


def published(path: str, task: str) -> dict[str, dict[str, float]]:
    """Return {subset: {"accuracy", "f1"}}, 0-100, of mteb's `task`; {} where the file has none."""
    record = json.loads(Path(path).read_text(encoding="utf-8"))
    if isinstance(record.get("scores"), dict) and "test" in record["scores"]:  # one task's file, as mteb writes it
        scores = (
            {row["hf_subset"]: row for row in record["scores"]["test"]}
            if record.get("task_name", task) == task
            else {}
        )
    else:
        scores = next((found["scores"] for name, found in record.items() if name.partition("@")[0] == task), {})
    return {subset: {metric: 100 * row[metric] for metric in ("accuracy", "f1")} for subset, row in scores.items()}


def tatoeba_record(path: str) -> dict:
    """Return our results.json.

    Raises:
        UserError: it was measured in another way than mteb does.
    """
    record = json.loads(Path(path).read_text(encoding="utf-8"))
    settings = record["settings"]
    for name, needed in (
        ("query_side", "foreign"),
        ("layer", "last"),
        ("pooling", "mean"),
        ("include_special", True),
        ("max_eval_samples", None),
    ):
        if settings.get(name, needed) != needed:
            raise UserError(f"{path} was made with --{name} {settings[name]}; mteb's figures need {needed}.")
    return record


def compare(record: dict, theirs: dict[str, dict[str, float]]) -> list[dict]:
    """Return a row of COLUMNS for each language that both have."""
    rows = []
    for language, scores in record["scores"].items():
        if row := theirs.get(f"{tatoeba_code(language)}-eng"):
            rows.append(
                {
                    "task": "tatoeba",
                    "language": language,
                    "pairs": record["n"][language],
                    "accuracy": scores["accuracy"],
                    "published_accuracy": row["accuracy"],
                    "f1": scores["f1"],
                    "published_f1": row["f1"],
                }
            )
        else:
            print(f"{language}: not among the published ones")
    return rows


def bucc_rows(path: str, file: str) -> list[dict]:
    """Return a row for each language of a BUCC run; its F1 is of mining, the published one is not."""
    record, theirs = json.loads(Path(path).read_text(encoding="utf-8")), published(file, "BUCC")
    return [
        {
            "task": "bucc",
            "language": language,
            "pairs": record["n"][language],
            "accuracy": None,
            "published_accuracy": None,
            "f1": scores["f1"],
            "published_f1": theirs[f"{language}-en"]["f1"],
        }
        for language, scores in record["scores"].items()
        if f"{language}-en" in theirs
    ]


def differences(rows: list[dict], metric: str) -> list[float]:
    """Return ours minus theirs, points, one for each Tatoeba row."""
    return [row[metric] - row[f"published_{metric}"] for row in rows if row["task"] == "tatoeba"]


def table(about: dict[str, str], rows: list[dict]) -> str:
    """Return the Markdown of a comparison: means, the languages by how good the published model is at them, the worst,
    BUCC."""
    ours = [row for row in rows if row["task"] == "tatoeba"]

    def line(name: str, some: list[dict], metric: str) -> str:
        found = differences(some, metric)
        return (
            f"| {name} | {len(some)} | {statistics.mean(row[metric] for row in some):.2f} | "
            f"{statistics.mean(row[f'published_{metric}'] for row in some):.2f} | {statistics.mean(found):+.2f} | "
            f"{statistics.mean(map(abs, found)):.2f} | {sum(d < 0 for d in found)} / {sum(d > 0 for d in found)} |"
        )

    out = [
        f"{about['name']}, {len(ours)} languages of Tatoeba, {sum(row['pairs'] for row in ours):,} pairs; "
        f"{about['how']}.",
        "",
        "| | languages | here | published | difference | mean absolute difference | lower / higher here in |",
        "|---" * 7 + "|",
        line("accuracy", ours, "accuracy"),
        line("F1", ours, "f1"),
    ]
    for low, high in BANDS:
        if some := [row for row in ours if low <= row["published_accuracy"] < high]:
            out.append(line(f"accuracy where {low} to {min(high, 100)} is published", some, "accuracy"))
    if any(differences(ours, "accuracy") + differences(ours, "f1")):
        worst = sorted(ours, key=lambda row: -abs(row["accuracy"] - row["published_accuracy"]))[:WORST]
        out += ["", f"The {len(worst)} that differ most:", "", "| language | pairs | here | published | difference |"]
        out += ["|---|---|---|---|---|"]
        out += [
            f"| {row['language']} | {row['pairs']} | {row['accuracy']:.1f} | {row['published_accuracy']:.1f} | "
            f"{row['accuracy'] - row['published_accuracy']:+.1f} |"
            for row in worst
        ]
    else:
        out += ["", "No figure of any language differs."]
    for row in rows:
        if row["task"] == "bucc":
            out += [
                "",
                f"BUCC {row['language']}-en, mined from the pools ({row['pairs']} pairs): F1 {row['f1']:.1f}. mteb "
                f"publishes F1 {row['published_f1']:.1f} for finding pairs among the gold ones alone, on other rows: "
                "not the same quantity.",
            ]
    return "\n".join([*out, "", f"Measured with {about['versions']}, code {about['code']}."])


def read_csv(path: Path) -> tuple[dict[str, str], list[dict]]:
    """Return what `write_csv` kept: {name: text} of the lines that begin with #, and the rows."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    about = dict(line[2:].rstrip("\n").split(": ", 1) for line in lines if line.startswith("# "))
    rows = list(csv.DictReader(line for line in lines if not line.startswith("# ")))
    for row in rows:
        row |= {
            name: (int(row[name]) if name == "pairs" else float(row[name])) if row[name] else None
            for name in COLUMNS[2:]
        }
    return about, rows


def write_csv(path: Path, about: dict[str, str], rows: list[dict]) -> None:
    """Keep the figures, in full."""
    out = io.StringIO()
    out.writelines(f"# {name}: {text}\n" for name, text in about.items())
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(out.getvalue(), encoding="utf-8")


def put(page: str, name: str, text: str) -> str:
    """Return `page` with `text` between the marks of that name.

    Raises:
        UserError: it has no such marks.
    """
    begin, end = f"<!-- mteb_parity {name} -->", "<!-- end -->"
    found, count = re.subn(
        f"{re.escape(begin)}.*?{end}", lambda _: f"{begin}\n{text}\n{end}", page, count=1, flags=re.S
    )
    if not count:
        raise UserError(f"benchmarks/README.md has no {begin} ... {end} to put the table in.")
    return found


def describe(record: dict, name: str) -> dict[str, str]:
    """Return what a reader has to know of the run, for the head of the csv file; no path of this machine."""
    settings, versions = record["settings"], record["versions"]
    prompts = [settings.get(key) or "" for key in ("query_prompt", "passage_prompt")]
    how = f"layer {record['layer']}, {settings.get('dtype', 'fp32')}, " + (
        f"`{prompts[0]}` before both sides"
        if prompts[0] == prompts[1] != ""
        else f"prompts {prompts}"
        if any(prompts)
        else "no prompts"
    )
    code = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True
    ).stdout.strip()
    return {
        "name": name,
        "how": how,
        "versions": ", ".join(f"{key} {versions[key]}" for key in ("torch", "transformers", "python")),
        "code": code or "unknown",
        "seconds": f"{record['seconds']:.0f}",
        "finished": record["finished"],
    }


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", help="results.json of our run on Tatoeba")
    parser.add_argument("published", help="mteb's file of the same model")
    parser.add_argument(
        "--tolerance", type=float, default=1e-9, help="points by which the two may differ on average (default: 1e-9)"
    )
    parser.add_argument("--bucc", metavar="RESULTS", help="results.json of our run on BUCC")
    parser.add_argument("--name", default="the model", help="how the table calls the model")
    parser.add_argument(
        "--write", metavar="NAME", help="keep the figures: docs/results/NAME.csv, and a table in benchmarks/README.md"
    )
    given = parser.parse_args(argv)
    try:
        record = tatoeba_record(given.results)
        rows = compare(record, published(given.published, "Tatoeba"))
        if not rows:
            raise UserError(f"{given.published}: no language of {given.results} is among its figures for Tatoeba.")
        about, rows = (
            describe(record, given.name),
            rows + (bucc_rows(given.bucc, given.published) if given.bucc else []),
        )
        if given.write:
            write_csv(ROOT / "docs" / "results" / f"{given.write}.csv", about, rows)
            page = ROOT / "benchmarks" / "README.md"
            page.write_text(put(page.read_text(encoding="utf-8"), given.write, table(about, rows)), encoding="utf-8")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(table(about, rows))
    off = {metric: statistics.mean(map(abs, differences(rows, metric))) for metric in ("accuracy", "f1")}
    count = sum(
        any(abs(row[m] - row[f"published_{m}"]) > 1e-9 for m in off) for row in rows if row["task"] == "tatoeba"
    )
    print(
        f"\n{len(differences(rows, 'f1'))} languages compared, {count} differ in accuracy or F1 by more than 1e-9; "
        "on average by " + ", ".join(f"{metric} {value:.3g}" for metric, value in off.items())
    )
    return int(max(off.values()) > given.tolerance)


if __name__ == "__main__":
    sys.exit(main())
