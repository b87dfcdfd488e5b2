"""Keep the csv files of a report in docs/results, and make the pages, README's answers and its picture of them. No
table there is typed by hand.

    python benchmarks/results.py keep --report runs/question-human/report --name question-human
    python benchmarks/results.py keep --report runs/human/report --name human --runs    # and what the tables come from
    python benchmarks/results.py unpack --name human --out runs/human                   # back again, without weights
    python benchmarks/results.py pages            # docs/results/<name>.md, docs/claims.md, README.md, docs/scaling.md
    python benchmarks/results.py pages --check    # says which differ, exit 1

`keep` also writes origin.json: the commit that kept the report, versions, machine, and which arms and seeds there
were.
"""

from __future__ import annotations

import argparse
import hashlib
import inspect
import io
import json
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import costs, kept_runs, result_pages  # noqa: E402
from tasks.errors import UserError  # noqa: E402
from xstilts.report.cells import Table, TableCell  # noqa: E402
from xstilts.report.numbers import p_text  # noqa: E402
from xstilts.run.record import Record  # noqa: E402

KEPT = ("matrix.csv", "question.csv", "curve.csv", "claims.csv", "groups.csv")
ANSWER = re.compile(r"(<!-- answer: (\S+) -->\n).*?(<!-- end of answer -->)", re.S)
# of: report = its name in the table; ...
ANSWERS = re.compile(r"(<!-- printed by: benchmarks/results.py of ([^>]+) -->\n).*?(<!-- end of answers -->)", re.S)
COSTS = re.compile(r"(<!-- (costs|matrix costs) -->\n).*?(<!-- end of costs -->)", re.S)
PICTURE = re.compile(r"\(docs/img/(\S+)\.svg\)")
REACH = 22  # points: the picture ends here, and an arrow says that an interval goes on


# ---- what is kept ---------------------------------------------------------------------------------------------------


def keep(report: Path, folder: Path, machines: list[str], note: str = "") -> None:
    """Copy a report's csv files into `folder`, with where they come from.

    Args:
        machines: that the runs ran on; none for this one.
        note: what a reader of any of its numbers must know, such as what the encoder was trained for.
    """
    if not (report / "cells.csv").is_file():
        sys.exit(f"{report} holds no cells.csv: give the folder that run_report.py wrote.")
    folder.mkdir(parents=True, exist_ok=True)
    for name in KEPT:
        (folder / name).unlink(missing_ok=True)
        if (report / name).is_file():
            shutil.copyfile(report / name, folder / name)
    cells = pd.read_csv(report / "cells.csv", dtype=str)
    try:
        records = [Record.read(report.parent / path) for path in dict.fromkeys(cells["path"])]
    except UserError as error:
        sys.exit(str(error))
    versions = {
        name: sorted({record.versions.get(name, "?") for record in records}) for name in ("torch", "transformers")
    }
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.strip()
    origin = {
        "commit": commit,
        "finished": max(record.finished for record in records)[:10],
        "machine": "; ".join(machines) or machine(),
        "versions": versions,
        # what arm none measures is what the others start from, and what that was trained from: A > B
        "models": sorted({" > ".join(record.parents) or record.model for record in records if record.arm == "none"})
        or sorted({record.parents[0] if record.parents else record.model for record in records}),
        "cells": len(records),
        "arms": sorted({record.arm for record in records}),
        "seeds": sorted({record.seed for record in records}),
    }
    if note:
        origin["note"] = note
    (folder / "origin.json").write_text(json.dumps(origin, indent=1) + "\n", encoding="utf-8")


def machine() -> str:
    """The processor, its matrix units, and how many cores there are."""
    info = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").is_file() else ""
    name = re.search(r"model name\s*: (.*)", info)
    units = [unit for unit in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if re.search(rf"\b{unit}\b", info)]
    return (
        f"{name[1].strip() if name else platform.processor()} ({', '.join(units)}), "
        f"{len(re.findall(r'^processor', info, re.M))} cores"
    )


# ---- pages ----------------------------------------------------------------------------------------------------------


def answer(folder: Path) -> str:
    """Two sentences: the primary contrast, and what English alone does beside no phase 2."""
    first, others = _contrasts(folder)
    if pd.isna(first["difference"]):
        return f"Not computed yet: {first['why']}.\n"
    seeds = f"{first['seeds']:.0f} seed" + "s" * int(first["seeds"] > 1)
    alone = others[(others["contrast"] == "E-none") & (others["layer"] == first["layer"])].iloc[0]
    p = "" if pd.isna(alone["p_judged"]) else f", p {p_text(alone['p_judged'])} (Holm-corrected)"
    beside = (
        f"What `{first['against']}` alone changes was not computed: {alone['why']}.\n"
        if pd.isna(alone["difference"])
        else f"Without phase 2 it is {alone['score_against']:.1f}: `{first['against']}` alone changes it by "
        f"{result_pages.difference(alone)}{p}, verdict *{alone['verdict']}*.\n"
    )
    return (
        f"In {len(str(first['languages']).split())} languages that phase 2 had not seen, retrieval is "
        f"{first['score']:.1f} after `{first['arm']}` and {first['score_against']:.1f} after `{first['against']}`: "
        f"{result_pages.difference(first)} points ({seeds}), verdict *{first['verdict']}*. " + beside
    )


def answers(folders: dict[str, Path]) -> str:
    """A Markdown table of {name of a start: its report}: the primary contrast, the same at the other layer that was
    named beforehand, and English alone beside no phase 2."""
    rows = []
    for name, folder in folders.items():
        first, others = _contrasts(folder)
        for number, (_, row) in enumerate(pd.concat([first.to_frame().T, others]).iterrows()):
            found = pd.notna(row["difference"])
            rows.append(
                (
                    "" if number else f"[{name}](docs/results/{folder.name}.md)",
                    [
                        TableCell(f"`{row['arm']}` − `{row['against']}`"),
                        TableCell(str(row["layer"])),
                        TableCell(f"{row['score']:.1f} − {row['score_against']:.1f}" if found else ""),
                        TableCell(result_pages.difference(row), bold=found and bool(row["primary"])),
                        TableCell(f"{row['seeds']:.0f}" if found else ""),
                        TableCell(str(row["verdict"] if pd.notna(row["verdict"]) else "" if found else row["why"])),
                    ],
                )
            )
    heads = ["phase 2", "arms", "layer", "scores", "difference [95 % interval]", "seeds", "verdict"]
    return Table("", heads, rows).markdown().partition("\n\n")[2]


def _contrasts(folder: Path) -> tuple[pd.Series, pd.DataFrame]:
    """The primary contrast of a question, and its family's other rows of the same arms in the same languages."""
    found = pd.read_csv(folder / "question.csv")
    first = found[found["primary"].astype(bool)].iloc[0]
    like = found[(found["family"] == first["family"]) & (found["on"] == first["on"]) & (found["variant"] == "plain")]
    fixed = like[(like["contrast"] == first["contrast"]) & (like["layer"] != first["layer"])]
    return first, pd.concat([fixed, like[(like["contrast"] == "E-none") & (like["layer"] == first["layer"])]])


def picture(folder: Path, old: str) -> str:
    """Return the SVG of a question's differences in unseen languages, a row each with its interval.

    Args:
        old: the SVG that is there. It is kept if it was made of this csv by this code: the bytes of a drawing depend
            on matplotlib's version.
    """
    source = (folder / "question.csv").read_bytes()
    mark = hashlib.sha256(source + inspect.getsource(draw).encode()).hexdigest()
    if f"<!-- {mark} -->" in old:
        return old
    return draw(pd.read_csv(io.BytesIO(source))) + f"<!-- {mark} -->\n"


def draw(found: pd.DataFrame) -> str:
    """Return the SVG of `picture`."""
    import matplotlib
    from matplotlib.figure import Figure

    layer = found[found["primary"].astype(bool)].iloc[0]["layer"]
    shown = found[(found["on"] == "unseen") & (found["layer"] == layer) & found["verdict"].notna()]
    shown = shown[shown["difference"].notna()].reset_index(drop=True)
    colours = {family: f"C{number}" for number, family in enumerate(shown["family"].unique())}
    figure = Figure(figsize=(8.4, 0.9 + 0.24 * len(shown)), layout="constrained")
    axes = figure.add_subplot()
    for y, row in shown.iterrows():
        colour, low, high = colours[row["family"]], row["interval_low"], row["interval_high"]
        axes.plot([max(low, -REACH), min(high, REACH)], [y, y], color=colour, linewidth=2)
        for goes_on, end, symbol in ((low < -REACH, -REACH, "<"), (high > REACH, REACH, ">")):
            if goes_on:
                axes.plot(end, y, symbol, color=colour)
        if abs(row["difference"]) <= REACH:
            axes.plot(row["difference"], y, "D" if row["primary"] else "o", color=colour)
        weight = "bold" if row["primary"] else "normal"
        text = f"{result_pages.difference(row)}, {str(row['verdict']).partition(' [')[0]}"
        axes.annotate(text, (1.02, y), xycoords=("axes fraction", "data"), va="center", fontsize=8, weight=weight)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_yticks(
        range(len(shown)), [f"{row['family']}: {row['contrast']}" for _, row in shown.iterrows()], fontsize=8
    )
    axes.set_ylim(len(shown) - 0.5, -0.5)
    axes.set_xlim(-REACH - 1, REACH + 1)
    axes.set_xlabel(
        f"difference in points, 95 % interval (layer {layer}; languages that phase 2 had not seen)", fontsize=9
    )
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    file = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "x-stilts", "svg.fonttype": "none"}):
        figure.savefig(file, format="svg", metadata={"Date": None}, facecolor="white")
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines()) + "\n"


def cost_pages() -> dict[Path, str]:
    """{file: what should stand in it} of what things cost: a picture, and two tables in docs/scaling.md."""
    folder, page = ROOT / "docs/results", ROOT / "docs/scaling.md"
    if not (folder / "costs.csv").is_file():
        return {}
    file = ROOT / "docs/img/costs.svg"
    made = {"costs": costs.table(folder), "matrix costs": costs.matrix_table(folder)}
    text = COSTS.sub(lambda found: found[1] + made[found[2]] + found[3], page.read_text(encoding="utf-8"))
    return {page: text, file: costs.picture(folder, file.read_text(encoding="utf-8") if file.is_file() else "")}


def pages() -> dict[Path, str]:
    """{file: what should stand in it}."""
    folders = sorted(path.parent for path in (ROOT / "docs/results").glob("*/origin.json"))
    made = {ROOT / f"docs/results/{folder.name}.md": result_pages.page(folder) for folder in folders}
    with_claims = [folder for folder in folders if (folder / "claims.csv").is_file()]
    if len(with_claims) > 1:
        names = " and ".join(folder.name for folder in with_claims)
        sys.exit(f"docs/results: {names} hold claims.csv, and docs/claims.md has room for one. Remove all but one.")
    if with_claims:
        made[ROOT / "docs/claims.md"] = result_pages.claims_page(with_claims[0])
    readme = ROOT / "README.md"
    text = readme.read_text(encoding="utf-8")
    for name in PICTURE.findall(text):
        file = ROOT / f"docs/img/{name}.svg"
        made[file] = picture(ROOT / "docs/results" / name, file.read_text(encoding="utf-8") if file.is_file() else "")
    text = ANSWER.sub(lambda found: found[1] + answer(ROOT / "docs/results" / found[2]) + found[3], text)
    text = ANSWERS.sub(lambda found: found[1] + answers(_named(found[2])) + found[3], text)
    return made | cost_pages() | {readme: text}


def _named(text: str) -> dict[str, Path]:
    """{name: folder} of `report = name; ...`."""
    pairs = [[part.strip() for part in one.split("=")] for one in text.split(";")]
    return {name: ROOT / "docs/results" / report for report, name in pairs}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="what", required=True)
    keeping = commands.add_parser("keep")
    keeping.add_argument("--report", type=Path, required=True)
    keeping.add_argument("--name", required=True)
    keeping.add_argument("--machine", nargs="+", default=[], help="what the runs ran on, if not on this machine")
    keeping.add_argument("--note", default="", help="what a reader of any number must know; stands on every page")
    keeping.add_argument("--runs", action="store_true", help=f"also {kept_runs.FILE}: what it reads of its runs")
    back = commands.add_parser("unpack")
    back.add_argument("--name", required=True)
    back.add_argument("--out", type=Path, required=True, help="the matrix's OUT: a folder without these runs")
    commands.add_parser("pages").add_argument("--check", action="store_true")
    given = parser.parse_args(argv)
    if given.what == "keep":
        keep(given.report, ROOT / "docs/results" / given.name, given.machine, given.note)
        if given.runs:
            kept_runs.pack(given.report, ROOT / "docs/results" / given.name)
        return 0
    if given.what == "unpack":
        kept_runs.unpack(ROOT / "docs/results" / given.name, given.out)
        return 0
    other = {
        path: text for path, text in pages().items() if not path.is_file() or path.read_text(encoding="utf-8") != text
    }
    for path, text in other.items():
        print(f"{path.relative_to(ROOT)} {'differs' if given.check else 'written'}")
        if not given.check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    return int(bool(other) and given.check)


if __name__ == "__main__":
    sys.exit(main())
