"""The `lungsound` command in the tests' own process."""

from lungsound.cli import app


def run_lungsound(*words: object) -> None:
    """Run `lungsound WORDS`; its exceptions come through."""
    app.lungsound([str(word) for word in words], standalone_mode=False)
