"""The plan of a sweep: its jobs, the trajectories they share, and what is still to train."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lungsound.config.schema import Config
from lungsound.data.database import Database
from lungsound.errors import DataError
from lungsound.results.folder import RunFolder
from lungsound.runs.estimate import seconds_per_item
from lungsound.runs.inputs import (
    RunInputs,
    build_database,
    build_inputs,
    build_network,
    vtlp_copies,
)
from lungsound.runs.naming import run_name
from lungsound.runs.preflight import ensure_writable
from lungsound.signal.copies import plan_copies
from lungsound.studies.jobs import Values, compose_jobs, format_values, raise_invalid_jobs
from lungsound.tracking.client import validate_tracking_uri

FORWARD_PASS_FRACTION = 1 / 3  # of a training step
REPORT_SECONDS = 5  # scores, figures and MLflow of a run on two cores
MAX_SHOWN_VALUES = 12  # of a swept key
SNAPSHOTS_PER_PERIOD = 3  # last, best by loss, best by score (usually also by accuracy)


@dataclass(frozen=True)
class Job:
    """One run of a sweep, with its data."""

    values: Values
    fixed_overrides: tuple[str, ...]
    settings: Config
    choices: dict[str, str]
    inputs: RunInputs

    @property
    def folder(self) -> RunFolder:
        name = run_name(self.settings, self.choices, self.inputs)
        return RunFolder(Path(self.settings.output_dir) / name)

    @property
    def epochs(self) -> int:
        return self.inputs.annealing.epochs

    @property
    def trajectory(self) -> str:
        """The key of its trajectory."""
        return self.inputs.trajectory.folder.name

    @property
    def needs_training(self) -> bool:
        """False if predictions exist, even if the trajectory was deleted."""
        return self.settings.redo or not self.folder.has_predictions

    @property
    def state(self) -> str:
        if self.settings.redo:
            return "to do again"
        return "finished" if self.folder.is_complete else "to do"

    def __str__(self) -> str:
        return format_values(self.values, "(one run)")


def plan_jobs(words: Sequence[str], check_places: bool = False) -> list[Job]:
    """Return the jobs of a command line, in Hydra's order.

    With `check_places`, folders and MLflow's address are checked before databases are opened, which
    may take long. Raises ConfigError with every job that cannot be run.
    """
    composed = compose_jobs(words)
    if check_places:
        for settings in {_places(job.settings): job.settings for job in composed}.values():
            ensure_writable(settings)
            validate_tracking_uri(settings.tracking.uri)
    databases: dict[str, Database] = {}  # opened once for all jobs that use it
    planned, invalid = [], []
    for job in composed:
        settings = job.settings
        key = repr((settings.data, settings.features.sample_rate, settings.store_dir))
        if key not in databases:
            databases[key] = build_database(settings)
        try:
            planned.append(Job(*job, inputs=build_inputs(settings, databases[key])))
        except DataError as error:
            invalid.append((format_values(job.values, " ".join(words)), error))
    if not planned and len({str(error) for _, error in invalid}) == 1:
        raise invalid[0][1]  # all jobs fail with the same error
    raise_invalid_jobs(invalid, len(composed))
    return planned


def _places(settings: Config) -> str:
    return repr((settings.output_dir, settings.store_dir, settings.tracking))


def format_plan(jobs: Sequence[Job]) -> str:
    """Format the swept values, a table of the jobs, and the epochs that they share."""
    trajectories = list(dict.fromkeys(job.trajectory for job in jobs))
    names = {key: f"T{number}" for number, key in enumerate(trajectories, start=1)}
    width = max(len(str(job)) for job in jobs)
    lines = [format_sweep(jobs)] if jobs[0].values else []
    lines.append(f"{'job':{width}} {'epochs':>6} {'trajectory':>10}  state")
    for job in jobs:
        lines.append(f"{job!s:{width}} {job.epochs:6d} {names[job.trajectory]:>10}  {job.state}")
    alone = sum(job.epochs for job in jobs)
    trained = sum(
        job.epochs - stored for job, stored in zip(jobs, stored_epochs(jobs), strict=True)
    )
    lines.append(f"Jobs: {len(jobs)}. Trajectories: {len(trajectories)}.")
    if repeated := len(jobs) - len({job.folder.path for job in jobs}):
        lines.append(f"Jobs that repeat the run of another: {repeated}.")
    lines.append(
        f"{alone} epochs if each job trained alone; {trained} are to be trained, "
        f"{alone - trained} are not."
    )
    return "\n".join(lines)


def format_sweep(jobs: Sequence[Job]) -> str:
    """Format the values of each swept key: 2 values of loss.gamma: 1 and 5."""
    parts = []
    for key in jobs[0].values:
        values = list(dict.fromkeys(str(job.values[key]) for job in jobs))
        shown = values if len(values) <= MAX_SHOWN_VALUES else [*values[:3], "...", values[-1]]
        parts.append(f"{len(values)} values of {key}: {', '.join(shown[:-1])} and {shown[-1]}")
    return "; ".join(parts)


def format_cost(jobs: Sequence[Job]) -> str:
    """Estimate time and disk space of the jobs, by measuring training steps."""
    from lungsound.training.progress import format_duration  # imports Lightning

    seconds, size = estimate_cost(jobs)
    return (
        f"About {format_duration(seconds)} on this machine, as measured just now, and "
        f"{size / 1e6:.0f} MB of snapshots."
    )


def group_jobs(jobs: Sequence[Job]) -> list[list[Job]]:
    """Return the jobs of each trajectory: what a launcher runs as one."""
    groups: dict[str, list[Job]] = {}
    for job in jobs:
        groups.setdefault(job.trajectory, []).append(job)
    return list(groups.values())


def estimate_cost(jobs: Sequence[Job]) -> tuple[float, int]:
    """Estimate seconds and bytes of all jobs together."""
    seconds = 0.0
    size = 0
    for job, stored in zip(jobs, stored_epochs(jobs), strict=True):
        if job.state != "finished":
            seconds += REPORT_SECONDS
        if items := job_items(job, stored):
            seconds += seconds_per_item(job.settings) * items
        if stored < job.epochs:
            size += estimate_snapshot_bytes(job, stored)
    return seconds, size


def stored_epochs(jobs: Sequence[Job]) -> list[int]:
    """Return how many of its epochs each job will find stored, if the jobs run in this order."""
    stored: dict[str, int] = {}
    found = []
    for job in jobs:
        if not job.needs_training:
            found.append(job.epochs)
            continue
        if job.trajectory not in stored:
            completed = 0 if job.settings.redo else job.inputs.trajectory.completed_epochs()
            stored[job.trajectory] = completed
        found.append(min(stored[job.trajectory], job.epochs))
        stored[job.trajectory] = max(stored[job.trajectory], job.epochs)
    return found


def job_work(jobs: Sequence[Job]) -> list[float]:
    """Return the work of each job, in seconds of sound: how long it takes beside the others."""
    work = []
    for job, stored in zip(jobs, stored_epochs(jobs), strict=True):
        segment = job.settings.segment
        work.append(round(job_items(job, stored) * segment.seconds / segment.chunks, 1))
    return work


def job_items(job: Job, stored_epochs: int) -> float:
    """Count the items that a job trains on, and those of answers as a third."""
    train, val, test = (count_items(job, name) for name in ("train", "val", "test"))
    epochs = job.epochs - stored_epochs
    answered = epochs * val
    if job.needs_training:
        answered += job.inputs.annealing.num_periods * (val + test)
    return epochs * train + FORWARD_PASS_FRACTION * answered


def estimate_snapshot_bytes(job: Job, stored_epochs: int) -> int:
    """Estimate the size of snapshots and resume point (weights and Adam's two moments)."""
    parameters = sum(parameter.numel() for parameter in build_network(job.settings).parameters())
    annealing = job.inputs.annealing
    periods = annealing.num_periods - stored_epochs // annealing.epochs_per_period
    resume_point = 0 if stored_epochs else 3
    return 4 * parameters * (SNAPSHOTS_PER_PERIOD * periods + resume_point)


def count_items(job: Job, name: str) -> int:
    """Count the items of a set: chunks of all segments of its cycles and, in training, copies.

    A stretched copy is counted with the length of its cycle.
    """
    settings, cycles = job.settings, job.inputs.cycles
    cycles = cycles[cycles["set"] == name]
    samples = (cycles["end_sample"] - cycles["start_sample"]).to_numpy()
    segments = -(-samples // round(settings.segment.seconds * settings.features.sample_rate))
    if name == "train":
        stretch = settings.augment.stretch != "none"
        copies = vtlp_copies(settings, job.inputs.database)
        segments = segments[plan_copies(cycles, stretch, copies)["row"]]
    return int(segments.sum()) * settings.segment.chunks
