"""`lungsound distill`: one network in place of an ensemble."""

from pathlib import Path

import click

from lungsound.cli.completion import user_path


@click.command()
@click.argument("run", type=user_path)
@click.argument("settings", metavar="[KEY=VALUE]...", nargs=-1)
def distill(run: Path, settings: tuple[str, ...]) -> None:
    """Train one network to answer as a finished run's ensemble, at the cost of one member.

    RUN is the run's folder below outputs. The new run lies beside it and is scored like any other.
    It has RUN's settings, and one period as long as all of RUN's; its loss is the cross entropy to
    the members' mean probabilities of the training cycles. Further settings change it, for example
    model=cnn7_eighth, or model=timm model.name=resnet18.
    """
    from lungsound.runs.teacher import distill_run

    distill_run(run, settings)
