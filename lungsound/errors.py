"""The errors a user can mend. Their messages say what was expected, what came, where, and what to do."""


class LungsoundError(Exception):
    """Base of every error of ours; `train.py` prints it as one message, without a traceback."""


class ConfigError(LungsoundError):
    """A value of the configuration is out of range or does not fit another one."""


class DataError(LungsoundError):
    """The database cannot be used as it is. Carries every problem found, not only the first."""

    def __init__(self, message: str, problems: tuple[str, ...] = ()) -> None:
        self.problems = problems
        super().__init__("\n".join([message, *(f"  - {problem}" for problem in problems)]))


class DamagedFileError(LungsoundError):
    """A stored file does not match its checksum."""
