"""`lungsound compare`: is one run better than another, on the same test cycles?"""

from pathlib import Path

import click

from lungsound.cli.completion import user_path


@click.command()
@click.argument("runs", metavar="RUN RUN...", nargs=-1, required=True, type=user_path)
@click.option(
    "--score", metavar="NAME", help="Such as score_2 or macro_f1; by default the run's own score."
)
@click.option("--to", "file", type=user_path, metavar="FILE", help="Write the table as csv, too.")
def compare(runs: tuple[Path, ...], score: str | None, file: Path | None) -> None:
    """Compare the ensembles of finished runs with that of the first one.

    RUN is a run's folder below outputs, a folder of `lungsound score`, or that of a study that
    swept split.fold alone: its runs' answers together. All must have the same test cycles.
    Intervals (95 %) are by bootstrap over patients; p by exchanging the two ensembles' answers
    patient by patient, then adjusted for several runs (Holm); McNemar's takes cycles as
    independent.
    """
    from lungsound.cli.compare_runs import compare_runs

    print(compare_runs(runs, score, file))
