"""What a sweep will do, before it does it: its jobs, checked; which share a trajectory; what is
there already.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

from hydra import initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.types import ChoiceSweep, Override, RangeSweep
from omegaconf import open_dict

from lungsound.config.overrides import compose_config, parse_overrides, translate_hydra_errors
from lungsound.config.schema import CONFIG_DIR, Config
from lungsound.data.database import Database
from lungsound.errors import ConfigError, DataError, LungsoundError
from lungsound.results.folder import RunFolder
from lungsound.runs.build import RunInputs, build_database, build_inputs, build_network
from lungsound.runs.estimate import seconds_per_item
from lungsound.runs.naming import run_name
from lungsound.runs.validation import validate_config
from lungsound.signal.copies import plan_copies
from lungsound.studies.report import format_values as swept_words

MAX_JOBS = 10_000
FORWARD_PASS_FRACTION = 1 / 3  # of a training step: forward alone
REPORT_SECONDS = 5  # a run's scores, figures and MLflow on two cores, of which only the network's part is measured
SNAPSHOTS_PER_PERIOD = (
    3  # best by the score, which is mostly also the best by accuracy; by the loss; the last
)


@dataclass(frozen=True)
class Job:
    """One run of a sweep: its values of the swept keys, the words that all jobs share, and what it
    works on.
    """

    values: dict[str, str | int | float]
    fixed_overrides: tuple[str, ...]
    settings: Config
    choices: dict[str, str]
    known: RunInputs

    @property
    def folder(self) -> RunFolder:
        return RunFolder(
            Path(self.settings.output_dir) / run_name(self.settings, self.choices, self.known)
        )

    @property
    def epochs(self) -> int:
        return self.known.annealing.epochs

    @property
    def trajectory(self) -> str:
        return self.known.trajectory.folder.name

    @property
    def needs_training(self) -> bool:
        """Whether the run would take epochs from its trajectory: one that was trained does not,
        even without it.
        """
        return self.settings.redo or not self.folder.has_predictions

    @property
    def state(self) -> str:
        if self.settings.redo:
            return "to do again"
        return "finished" if self.folder.is_complete else "to do"

    def __str__(self) -> str:
        return swept_words(self.values, "(one run)")


def plan_jobs(
    words: Sequence[str], preflight: Callable[[Config], None] = lambda _: None
) -> list[Job]:
    """The jobs that Hydra makes of a command line, in its order.

    `preflight` sees the settings before a database is opened, which may take long. Raises
    ConfigError with all jobs that cannot be run, each with what is wrong, before any of them
    begins.
    """
    databases: dict[str, Database] = {}  # each is opened once, however many jobs are on it
    composed = compose_jobs(words)
    settings_by_location = {repr((job.settings.output_dir, job.settings.store_dir, job.settings.tracking)): job.settings
              for job in composed}  # fmt: skip
    for settings in settings_by_location.values():
        preflight(settings)
    planned, wrong = [], []
    for job in composed:
        database_key = repr(
            (job.settings.data, job.settings.features.sample_rate, job.settings.store_dir)
        )
        if database_key not in databases:
            databases[database_key] = build_database(job.settings)
        try:
            planned.append(Job(*job, build_inputs(job.settings, databases[database_key])))
        except DataError as error:
            wrong.append((swept_words(job.values, " ".join(words)), error))
    if len(wrong) == len(composed) and len({str(error) for _, error in wrong}) == 1:
        raise wrong[0][1]  # it is not the jobs' own values
    raise_invalid_jobs(wrong, len(composed))
    return planned


class ComposedJob(NamedTuple):
    """A job before its data are looked at."""

    values: dict[str, str | int | float]
    shared: tuple[str, ...]
    settings: Config
    choices: dict[str, str]


def compose_jobs(words: Sequence[str]) -> list[ComposedJob]:
    """The jobs of a command line, each checked. Raises ConfigError with all that cannot be run."""
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        overrides_per_job = expand_jobs(words)
        swept = [
            key
            for key in _ordered_keys(overrides_per_job)
            if len({dict(line).get(key) for line in overrides_per_job}) > 1
        ]
        shared = tuple(
            sorted(f"{key}={value}" for key, value in overrides_per_job[0] if key not in swept)
        )
        jobs, wrong = [], []
        for line in overrides_per_job:
            values = {key: value for key, value in line if key in swept}
            try:
                settings, choices = compose_job([f"{key}={value}" for key, value in line])
                numbers = {key: _parse_number(value) for key, value in values.items()}
                jobs.append(ComposedJob(numbers, shared, settings, choices))
            except LungsoundError as error:
                wrong.append((swept_words(values, " ".join(words)), error))
    raise_invalid_jobs(wrong, len(overrides_per_job))
    return jobs


def raise_invalid_jobs(wrong: Sequence[tuple[str, LungsoundError]], jobs: int) -> None:
    """Raises ConfigError with the jobs that are `wrong`, each with its error, out of so many."""
    lines = []
    for job, error in wrong:
        first, *more = (line.strip(" -") for line in str(error).splitlines())
        what = (
            more if more and isinstance(error, ConfigError) else [first, *more]
        )  # its heading is the same for all
        lines.append(f"  - {job}: {'; '.join(what)}")
    if lines:
        raise ConfigError(
            "\n".join([f"{len(lines)} of {jobs} jobs cannot be run; none was begun:", *lines])
        )


def expand_jobs(words: Sequence[str]) -> list[list[tuple[str, str]]]:
    """The (key, value) pairs of each job, as Hydra's own sweeper makes them of words and the
    experiment's params.

    Raises ConfigError where Hydra cannot read the words.
    """
    constant_overrides = [
        word
        for word, override in zip(words, parse_overrides(words), strict=True)
        if not override.is_sweep_override()
    ]
    params = compose_config(constant_overrides).hydra.sweeper.params or {}
    lines = parse_overrides([*(f"{key}={value}" for key, value in params.items()), *words])
    number = math.prod(_count_values(line) for line in lines)
    if not 1 <= number <= MAX_JOBS:
        raise ConfigError(
            f"{' '.join(words)}: expected from 1 to {MAX_JOBS} jobs, but these words make {number}"
        )
    with translate_hydra_errors(words):
        (jobs,) = BasicSweeper.split_arguments(lines, None)
    if not jobs:  # a pattern that fits nothing: only Hydra's sweeper counts those
        raise ConfigError(
            f"{' '.join(words)}: expected at least one job, but no option has such a name"
        )
    return [[(word.partition("=")[0], word.partition("=")[2]) for word in job] for job in jobs]


def _count_values(line: Override) -> int:
    """How many values a word stands for."""
    value = line.value()
    if isinstance(value, RangeSweep) and value.start is not None and value.stop is not None:
        return max(0, math.ceil((value.stop - value.start) / value.step)) if value.step else 0
    return len(value.list) if isinstance(value, ChoiceSweep) else 1


def format_plan(jobs: Sequence[Job]) -> str:
    """The jobs, the trajectories they share, and what is still to train."""
    trajectories = list(dict.fromkeys(job.trajectory for job in jobs))
    names = {key: f"T{number}" for number, key in enumerate(trajectories, start=1)}
    width = max(len(str(job)) for job in jobs)
    lines = [f"{'job':{width}} {'epochs':>6} {'trajectory':>10}  state"]
    for job in jobs:
        lines.append(f"{job!s:{width}} {job.epochs:6d} {names[job.trajectory]:>10}  {job.state}")
    epochs_without_sharing = sum(job.epochs for job in jobs)
    trained, seconds, size = (
        0,
        sum(estimate_scoring_seconds(job) for job in jobs if job.state != "finished"),
        0,
    )
    for key in trajectories:
        pending = [job for job in jobs if job.trajectory == key and job.needs_training]
        longest = max(pending, key=lambda job: job.epochs, default=None)
        stored_epochs = (
            0
            if longest is None or longest.settings.redo
            else longest.known.trajectory.completed_epochs()
        )
        if longest is not None and longest.epochs > stored_epochs:
            trained += longest.epochs - stored_epochs
            seconds += (longest.epochs - stored_epochs) * estimate_epoch_seconds(longest)
            size += _estimate_snapshot_bytes(longest, stored_epochs)
    return "\n".join([
        *lines,
        f"Jobs: {len(jobs)}. Trajectories: {len(trajectories)}.",
        f"{epochs_without_sharing} epochs if each job trained alone; {trained} are to be trained, {epochs_without_sharing - trained} are not.",
        f"About {timedelta(seconds=round(seconds))} on this machine, as measured just now, and {size / 1e6:.0f} MB of "
        "snapshots.",
    ])  # fmt: skip


def estimate_epoch_seconds(job: Job) -> float:
    """A measured training step × the items that this job's own cycles make, and the validation."""
    return seconds_per_item(job.settings) * (
        count_items(job, "train") + FORWARD_PASS_FRACTION * count_items(job, "val")
    )


def estimate_scoring_seconds(job: Job) -> float:
    """Every member's answers, and the run's report."""
    scored_items = (
        0
        if job.folder.has_predictions and not job.settings.redo
        else count_items(job, "val") + count_items(job, "test")
    )
    return (
        seconds_per_item(job.settings)
        * FORWARD_PASS_FRACTION
        * job.known.annealing.num_periods
        * scored_items
        + REPORT_SECONDS
    )


def count_items(job: Job, name: str) -> int:
    """Chunks of all segments of a set's cycles; in training of their copies, too, a stretched one
    as long as it was.
    """
    settings, cycles = job.settings, job.known.cycles
    cycles = cycles[cycles["set"] == name]
    samples = (cycles["end_sample"] - cycles["start_sample"]).to_numpy()
    segments = -(-samples // round(settings.segment.seconds * settings.features.sample_rate))
    if name == "train":
        copies = plan_copies(
            cycles, settings.augment.stretch != "none", settings.augment.vtlp_copies
        )
        segments = segments[copies["row"]]
    return int(segments.sum()) * settings.segment.chunks


def compose_job(words: list[str]) -> tuple[Config, dict[str, str]]:
    """The settings and choices of one job, as Hydra will make them. Raises ConfigError where it
    cannot.
    """
    cfg = compose_config(words)
    choices = dict(cfg.hydra.runtime.choices)
    with open_dict(cfg):
        del cfg["hydra"]
    return validate_config(cfg), choices


def _ordered_keys(lines: list[list[tuple[str, str]]]) -> list[str]:
    return list(dict.fromkeys(key for line in lines for key, _ in line))


def _parse_number(value: str) -> str | int | float:
    for kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            pass
    return value


def _estimate_snapshot_bytes(job: Job, there: int) -> int:
    """Snapshots hold the weights in 4 bytes each; the resume point also Adam's two moments.
    `there`: epochs stored.
    """
    parameters = sum(parameter.numel() for parameter in build_network(job.settings).parameters())
    periods = job.known.annealing.num_periods - there // job.known.annealing.epochs_per_period
    return 4 * parameters * (SNAPSHOTS_PER_PERIOD * periods + (0 if there else 3))
