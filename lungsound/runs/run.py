"""One run from start to end: check, build, train, predict, report, send to MLflow."""

from collections.abc import Callable
from pathlib import Path

from omegaconf import DictConfig

from lungsound.config.schema import Config
from lungsound.results.folder import RunFolder
from lungsound.runs.build import RunComponents, build_components
from lungsound.runs.estimate import experiment_sentence
from lungsound.runs.naming import data_title, run_name
from lungsound.runs.predict import predict_run
from lungsound.runs.preflight import ensure_writable
from lungsound.runs.report import print_results, write_run_report
from lungsound.runs.train import train
from lungsound.runs.validation import validate_config
from lungsound.storage.signals import interruptible, raise_if_interrupted
from lungsound.tracking.background import background_sync
from lungsound.tracking.client import validate_tracking_uri
from lungsound.tracking.state import TrackingState, reset_run_folder, start_tracking


@interruptible()
def run(cfg: DictConfig, choices: dict[str, str]) -> Path:
    """Train what is missing, score the ensemble, send it to MLflow; return the run's folder.

    `choices` has the chosen option of each config group. Raises LungsoundError for anything that a
    user can correct.
    """
    settings = validate_config(cfg)
    is_standalone = settings.tracking.study is None
    if is_standalone:  # a study prints it once for all its runs
        print(experiment_sentence(settings, choices["experiment"]), flush=True)
    ensure_writable(settings)
    validate_tracking_uri(settings.tracking.uri)
    parts = build_components(settings)
    if is_standalone:
        print(*parts.notes, parts.leakage_sentence, sep="\n", flush=True)
    folder = RunFolder(Path(settings.output_dir) / run_name(settings, choices, parts))
    with folder.lock():
        if settings.redo:
            reset_run_folder(folder)
        else:
            folder.quarantine_corrupt()
        state = make_tracking_state(settings, parts, folder)
        with background_sync(folder.path, state, retry_at_end=is_standalone) as tracking:
            if folder.is_complete:
                if is_standalone:
                    print(
                        "This run is finished; its results are listed. redo=true trains it again."
                    )
            else:
                complete_run(settings, choices, parts, folder, tracking.notify)
            if settings.tracking.log_snapshots:
                tracking.send_weights(folder.member_paths())
    if is_standalone:
        print_results(settings, folder, tracking.sync_warning)
    elif tracking.sync_warning:
        print(tracking.sync_warning)
    return folder.path


def complete_run(
    settings: Config,
    choices: dict[str, str],
    parts: RunComponents,
    folder: RunFolder,
    notify: Callable[[], None],
) -> None:
    """Make what is missing: members, predictions, report, and last the checksums."""
    if not folder.is_trained:
        train(settings, choices, parts, folder, notify)
    if not folder.has_predictions:
        folder.write_predictions(predict_run(settings, parts, folder))
    # A signal in a DataLoader's `__del__` is recorded, but Python discards its exception.
    raise_if_interrupted()
    write_run_report(settings, parts, folder)
    folder.write_checksums()


def make_tracking_state(settings: Config, parts: RunComponents, folder: RunFolder) -> TrackingState:
    """Return what MLflow needs of the run besides its files."""
    tags = {
        "data": data_title(parts),
        "leak": parts.leakage_sentence,
        "trajectory": parts.trajectory.folder.name,
    }
    tracking = settings.tracking
    study = None if tracking.study is None else Path(tracking.study)
    return start_tracking(folder.path, tracking.uri, tracking.experiment, tags, study)
