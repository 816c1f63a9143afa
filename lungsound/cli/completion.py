"""What the shell completes: paths, and the train command's key= and group=option."""

import os
from pathlib import Path

import click
from click.shell_completion import (
    BashComplete,
    CompletionItem,
    ZshComplete,
    add_completion_class,
)

from lungsound.storage.places import expand_user


class UserPath(click.ParamType[Path]):
    """A path, `~` expanded; the shell completes it as its own commands' paths."""

    name = "path"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Return the path. Raises ConfigError if there is no such home folder."""
        return Path(expand_user(os.fspath(value)))

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem[str]]:
        """Leave it to the shell."""
        return [CompletionItem(incomplete, type="file")]


user_path = UserPath()


def complete_word(_: click.Context, __: click.Parameter, incomplete: str) -> list[str]:
    """Return every key= and group=option that begins with the incomplete word."""
    from lungsound.config.corrections import GROUPS, KEYS
    from lungsound.config.schema import CONFIG_DIR

    words = [f"{key}=" for key in KEYS]
    for group in GROUPS:
        words += [f"{group}={path.stem}" for path in (CONFIG_DIR / group).glob("*.yaml")]
    return sorted(word for word in words if word.startswith(incomplete))


@add_completion_class
class Bash(BashComplete):
    """Bash, which takes `padding=z` for three words, and would write a space after `seed=`."""

    source_template = BashComplete.source_template.replace(
        "COMPREPLY+=($value)", "COMPREPLY+=($value); [[ $value == *= ]] && compopt -o nospace"
    )
    prefix = ""  # what bash has of the word already, and does not replace

    def get_completion_args(self) -> tuple[list[str], str]:
        """Return the words as they were typed: those before the cursor's, and that one."""
        args, incomplete = super().get_completion_args()
        words = [""]
        for word in (*args, incomplete):
            if word == "=" or words[-1].endswith("="):
                words[-1] += word
            else:
                words.append(word)
        if words[-1] != incomplete:
            self.prefix = words[-1].removesuffix(incomplete.removeprefix("="))
        return words[1:-1], words[-1]

    def format_completion(self, item: CompletionItem[str]) -> str:
        """Return one answer for the script."""
        return f"{item.type},{item.value.removeprefix(self.prefix)}"


@add_completion_class
class Zsh(ZshComplete):
    """Zsh, without a space after `seed=`."""

    source_template = ZshComplete.source_template.replace(
        "compadd -U -V unsorted -a completions",
        "compadd -U -V unsorted -S '' -- ${(M)completions:#*=}\n"
        "        compadd -U -V unsorted -- ${completions:#*=} || true",
    )
