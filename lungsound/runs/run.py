"""One run from start to end: check, build, train, predict, report, send to MLflow."""

import gc
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from lungsound.config.overrides import compose_run, read_arguments
from lungsound.config.schema import Config
from lungsound.results.folder import RunFolder
from lungsound.results.study_folder import read_study
from lungsound.runs.estimate import experiment_sentence
from lungsound.runs.inputs import RunInputs, build_inputs
from lungsound.runs.naming import data_title, run_name, short_name
from lungsound.runs.preflight import ensure_writable
from lungsound.runs.scores import format_scores
from lungsound.runs.validation import validate_config
from lungsound.storage.signals import interruptible, raise_if_interrupted, resumable
from lungsound.tracking.background import background_sync
from lungsound.tracking.client import page_command, validate_tracking_uri
from lungsound.tracking.state import TrackingState, reset_run_folder, start_tracking

if TYPE_CHECKING:  # Lightning takes seconds to import, and a finished run is listed without it
    from lungsound.runs.build import RunComponents


@interruptible()
@resumable()
def run(cfg: DictConfig, choices: dict[str, str], trains_here: bool = True) -> Path:
    """Train what is missing, score the ensemble, send it to MLflow; return the run's folder.

    `choices` has the chosen option of each config group. Without `trains_here` the run is finished,
    and may need a device that this machine lacks. Raises LungsoundError for anything that a
    user can correct.
    """
    settings = validate_config(cfg, trains_here)
    is_standalone = settings.tracking.study is None
    if is_standalone:  # a study prints it once for all its runs
        print(experiment_sentence(settings, choices["experiment"]), flush=True)
    ensure_writable(settings)
    validate_tracking_uri(settings.tracking.uri)
    inputs = build_inputs(settings)
    if is_standalone:
        print(*inputs.notes, inputs.leakage_sentence, sep="\n", flush=True)
    folder = RunFolder(Path(settings.output_dir) / run_name(settings, choices, inputs))
    with folder.lock():
        if not settings.redo:
            folder.quarantine_corrupt()
        parts = None
        if settings.redo or not folder.is_complete:
            from lungsound.runs.build import build_components  # imports Lightning

            parts = build_components(settings, inputs)
        if settings.redo:
            reset_run_folder(folder)
        state = make_tracking_state(settings, choices, inputs, folder)
        system = settings.tracking.system_metrics and parts is not None
        with background_sync(folder.path, state, is_standalone, system) as tracking:
            if parts is not None:
                complete_run(settings, choices, parts, folder, tracking.notify)
            elif is_standalone:
                print("This run is finished; its results are listed. redo=true trains it again.")
            if settings.tracking.log_snapshots:
                tracking.send_weights(folder.member_paths())
            if settings.tracking.log_model:
                tracking.send_model()
    if is_standalone:
        print_results(settings, folder, tracking.sync_warning)
    elif tracking.sync_warning:
        print(tracking.sync_warning)
    return folder.path


def train_run(overrides: Sequence[str]) -> Path:
    """Do what `lungsound train OVERRIDES` does; return the run's folder. Raises LungsoundError."""
    return run(*compose_run(read_arguments(overrides)))


def complete_run(
    settings: Config,
    choices: dict[str, str],
    parts: "RunComponents",
    folder: RunFolder,
    notify: Callable[[], None],
) -> None:
    """Make what is missing: members, predictions, report, and last the checksums."""
    # Lightning and matplotlib, see above.
    from lungsound.runs.predict import predict_run
    from lungsound.runs.report import write_run_report
    from lungsound.runs.teacher import teacher_probabilities
    from lungsound.runs.train import train

    gc.collect()  # reference cycles of Lightning keep the log-mels of a sweep's earlier run
    if not folder.is_trained:
        if settings.loss.teacher is not None:
            parts.datamodule.teacher = teacher_probabilities(settings, parts)
            gc.collect()  # the teacher's, too
        train(settings, choices, parts, folder, notify)
    if not folder.has_predictions:
        folder.write_predictions(predict_run(settings, parts, folder))
    # A signal in a DataLoader's `__del__` is recorded, but Python discards its exception.
    raise_if_interrupted()
    write_run_report(settings, parts, folder)
    folder.write_checksums()


def make_tracking_state(
    settings: Config, choices: dict[str, str], inputs: RunInputs, folder: RunFolder
) -> TrackingState:
    """Return what MLflow needs of the run besides its files."""
    tags = {
        "data": data_title(inputs),
        "leak": inputs.leakage_sentence,
        "trajectory": inputs.trajectory.folder.name,
    }
    tracking = settings.tracking
    study, swept = None, {}
    if tracking.study is not None:
        study = Path(tracking.study)
        jobs = {Path(job["run"]).name: job["values"] for job in read_study(study)["jobs"]}
        swept = jobs.get(folder.path.name, {})
    name = short_name(settings, choices, inputs, swept)
    return start_tracking(folder.path, tracking.uri, tracking.experiment, tags, name, study)


def print_results(settings: Config, folder: RunFolder, tracking_warning: str | None) -> None:
    """Print scores, where the results are, and `tracking_warning`; the run's folder comes last."""
    page = page_command(settings.tracking.uri)
    print(format_scores(folder))
    print(f"figures: {folder.path / 'figures'}")
    print(f"MLflow:  {tracking_warning or page}")
    print(f"run: {folder.path}")
