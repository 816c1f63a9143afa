"""`lungsound train` and `lungsound sweep`: train.py and sweep.py, also away from a clone."""

import click

HYDRA_LINE = {"ignore_unknown_options": True, "allow_interspersed_args": False}


def complete_word(_: click.Context, __: click.Parameter, incomplete: str) -> list[str]:
    """Return every group=option and key= that begins with the incomplete word."""
    from lungsound.config.corrections import GROUPS, KEYS
    from lungsound.config.schema import CONFIG_DIR

    words = [f"{key}=" for key in KEYS]
    for group in GROUPS:
        words += [f"{group}={path.stem}" for path in (CONFIG_DIR / group).glob("*.yaml")]
    return sorted(word for word in words if word.startswith(incomplete))


words_argument = click.argument(
    "words",
    metavar="[GROUP=OPTION|KEY=VALUE]...",
    nargs=-1,
    type=click.UNPROCESSED,
    shell_complete=complete_word,
)


@click.command(context_settings=HYDRA_LINE, add_help_option=False)
@words_argument
def train(words: tuple[str, ...]) -> None:
    """Train and score a snapshot ensemble, as train.py does."""
    from lungsound.cli import hydra_commands

    hydra_commands.train(words)


@click.command(context_settings=HYDRA_LINE, add_help_option=False)
@words_argument
def sweep(words: tuple[str, ...]) -> None:
    """Run a study, as sweep.py does: padding=zero,sample annealing.cycles=2,3,...,10."""
    from lungsound.cli import hydra_commands

    hydra_commands.sweep(words)
