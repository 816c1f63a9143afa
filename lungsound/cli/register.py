"""`lungsound register`: a finished run's ensemble as a model that MLflow serves."""

from pathlib import Path

import click

from lungsound.cli.completion import user_path


@click.command()
@click.argument("run", type=user_path)
@click.option("--name", required=True, help="The model's name; a new run is its next version.")
@click.option("--uri", help="MLflow's database or server, if it is not the one in tracking.json.")
def register(run: Path, name: str, uri: str | None) -> None:
    """Register a finished run's ensemble as a model in MLflow, and print its address.

    RUN is the run's folder below outputs. `mlflow models serve -m ADDRESS --env-manager local`
    answers requests with probabilities, and lungsound.Ensemble.load(ADDRESS) loads it.
    """
    from lungsound.cli.send import send_folder
    from lungsound.errors import ConfigError, DataError
    from lungsound.results.folder import RunFolder

    if not name.strip() or set("/:'") & set(name):
        raise ConfigError(
            f"--name {name!r}: expected a name, without any of / : ', such as breaths"
        )
    folder = RunFolder(run)
    if not (folder.is_complete and folder.is_trained):
        raise DataError(
            f"{run}: expected the folder of a finished run with its members, but it is none. The "
            "command that began the run finishes it"
        )
    print(send_folder(run, uri, name))
