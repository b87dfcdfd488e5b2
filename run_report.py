"""Tables, plots and a page from the results.json files of a matrix; reads nothing else.

    python run_report.py --runs_dir runs/world
    python run_report.py --runs_dir runs/world --arms none mnli squad --tasks xnli udpos tatoeba --seeds 0 1 2
    python run_report.py --runs_dir runs/question --question recipes/question/world.yaml

The first takes the grid it finds. The second names the grid, so that a cell that was never run shows as blank and is
listed. Writes matrix.md, matrix.tex, matrix.csv, cells.csv and index.html into <runs_dir>/report (docs/report.md).
The third also compares arms, with intervals and verdicts (docs/statistics.md): question.md, question.csv, plots, a
section of the page; it reads hits.parquet as well. --claims recipes/claims/x-stilts.yaml sets a paper's claims beside
what these runs say: claims.md, claims.csv, a table of the page. --coverage xlmr splits the languages of every task by
whether a phase 2 trained on them and whether that list of pretraining names them: groups.csv, tables of the page.
"""

from dataclasses import dataclass, field
from pathlib import Path

from tasks.errors import UserError
from xstilts.cli.parsing import parse
from xstilts.run.endings import command


@dataclass
class ReportArguments:
    """What the report shows, and where it is written."""

    runs_dir: str | None = field(default=None, metadata={"help": "Folder with <arm>/seed<k>/<task>/results.json."})
    output_dir: str | None = field(default=None, metadata={"help": "Where to write; default: <runs_dir>/report."})
    title: str | None = field(
        default=None, metadata={"help": "Heading of the page; default: has the name of the runs folder."}
    )
    arms: list[str] = field(default_factory=list, metadata={"help": "Arms expected; default: those found."})
    question: str | None = field(
        default=None, metadata={"help": "YAML file of the contrasts between arms to compute."}
    )
    claims: str | None = field(
        default=None, metadata={"help": "YAML file of a paper's claims to set beside these runs."}
    )
    coverage: str | None = field(
        default=None,
        metadata={
            "help": "Split every task's languages by a list of tasks/coverage.py (xlmr, mbert, ...) and by phase 2."
        },
    )
    tasks: list[str] = field(default_factory=list, metadata={"help": "Tasks expected; default: those found."})
    seeds: list[int] = field(default_factory=list, metadata={"help": "Seeds expected; default: those found."})
    seeds_of: list[str] = field(
        default_factory=list, metadata={"help": "ARM=SEED,SEED,...: the seeds expected of an arm, if they differ."}
    )


def main(argv: list[str]) -> None:
    """Write the report and print its headline tables.

    Raises:
        UserError: there is no usable result, or the report cannot be written.
    """
    (arguments,), _ = parse(argv, "run_report.py", __doc__.split("\n")[0], ReportArguments, training=False)
    if not arguments.runs_dir:
        raise UserError("--runs_dir is missing: give the folder with <arm>/seed<k>/<task>/results.json.")

    from xstilts.run import outputs
    from xstilts.run.results import check_runs_dir

    check_runs_dir(arguments.runs_dir)  # before the imports that take a second
    from xstilts.plan import read_seeds_of
    from xstilts.report import folder, paper_table, question
    from xstilts.report.matrix import collect
    from xstilts.report.page import write_report

    runs_dir = Path(arguments.runs_dir)
    output_dir = Path(arguments.output_dir or runs_dir / "report")
    outputs.refuse_foreign(output_dir, ["cells.csv"] if folder.is_report(output_dir) else [])
    if arguments.question:
        from xstilts.report import contrasts, spec

        asked = spec.read_spec(arguments.question)
    if arguments.claims:
        from xstilts.report import claims_file, paper

        claims, about, margin = claims_file.read_claims(arguments.claims)
    if arguments.coverage:
        from tasks import coverage

        coverage.check(arguments.coverage)
    seeds_of = read_seeds_of(arguments.seeds_of, arguments.arms or None)
    matrix = collect(runs_dir, arguments.arms, arguments.tasks, arguments.seeds, seeds_of)
    answered = contrasts.ask(matrix, asked) if arguments.question else None
    judged = paper_table.as_frame(paper.judge(matrix, claims, margin), about, margin) if arguments.claims else None
    groups = None
    if arguments.coverage:
        from xstilts.report import language_groups

        groups = language_groups.as_frame(matrix, arguments.coverage)
    folder.begin(output_dir)  # nothing is written or removed before
    section = question.write(answered, output_dir)
    found = paper_table.write(judged, output_dir)
    title = arguments.title or f"Intermediate-task training: {runs_dir.resolve().name}"
    print(write_report(matrix, output_dir, title, section, found, groups))
    folder.finish(output_dir, argv, matrix.missing)
    if section:
        print(f"{section.answer}\n\n{section.tables['verdicts'].markdown()}")
    if matrix.missing:
        print(f"Missing cells: {len(matrix.missing)}. The page lists them.")
    for problem in matrix.problems:
        print(f"Problem: {problem}")
    print(f"Report: {output_dir / folder.PAGE}")


if __name__ == "__main__":
    command(main)
