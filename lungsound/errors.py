"""Errors that a user can correct. Messages name what was expected, what came, where, and a cure."""


class LungsoundError(Exception):
    """Base class of every error that this package raises on purpose."""


class ConfigError(LungsoundError):
    """A value of the configuration is out of range or does not fit another one."""


class DataError(LungsoundError):
    """The database cannot be used as it is; `problems` lists all that were found."""

    def __init__(self, message: str, problems: tuple[str, ...] = ()) -> None:
        self.problems = problems
        super().__init__("\n".join([message, *(f"  - {problem}" for problem in problems)]))


class TrainingError(LungsoundError):
    """Training cannot continue."""


class Interrupted(BaseException):
    """SIGINT or SIGTERM ended the command; finished work is stored."""

    def __init__(self, signal_number: int, message: str) -> None:
        self.signal_number = signal_number
        super().__init__(signal_number, message)  # both: a joblib launcher pickles it

    def __str__(self) -> str:
        return str(self.args[1])


class StorageError(LungsoundError):
    """A file cannot be read or written, for example because the disk is full."""


class CorruptFileError(LungsoundError):
    """A stored file does not match its checksum, or is not as this version writes it."""
