"""Errors that a user can correct: expected, got, where, and what to do."""


class LungsoundError(Exception):
    """Base of every error of ours."""


class ConfigError(LungsoundError):
    """A value of the configuration is out of range or does not fit another one."""


class DataError(LungsoundError):
    """The database cannot be used as it is. It has every problem found, not only the first."""

    def __init__(self, message: str, problems: tuple[str, ...] = ()) -> None:
        self.problems = problems
        super().__init__("\n".join([message, *(f"  - {problem}" for problem in problems)]))


class TrainingError(LungsoundError):
    """The training cannot go on."""


class Interrupted(BaseException):
    """A signal asked the command to end: what is finished is kept."""

    def __init__(self, signal_number: int, message: str) -> None:
        self.signal_number = signal_number
        super().__init__(signal_number, message)  # both, as a launcher's process pickles it

    def __str__(self) -> str:
        return str(self.args[1])


class StorageError(LungsoundError):
    """A file cannot be stored: its disk is full, or its folder cannot be written to."""


class CorruptFileError(LungsoundError):
    """A stored file does not match its checksum, or is not as this version writes it."""
