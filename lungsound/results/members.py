"""The members of a finished run, from its folder alone: networks, front end and labels."""

from typing import Any, NamedTuple

from torch import nn

from lungsound.data.labels import LabelSet, own_label_set
from lungsound.errors import ConfigError, DataError
from lungsound.models.registry import find_network, network_settings
from lungsound.results.folder import CONFIG, MEMBERS, RunFolder
from lungsound.signal.features import Features
from lungsound.signal.segments import SegmentSpec
from lungsound.storage.files import corrupt_file_on_error
from lungsound.training.weights import read_weights

Config = dict[str, Any]
SCORES = "scores.json"


class RunMembers(NamedTuple):
    """A run's configuration, labels, operating point, segments, front end and networks.

    `threshold` of 1 − p_normal is that of the best score on validation; None if there is none.
    """

    config: Config
    labels: LabelSet
    threshold: float | None
    segments: SegmentSpec
    features: Features
    networks: list[nn.Module]


def load_members(folder: RunFolder) -> RunMembers:
    """Build the networks of a finished run, with its weights.

    Raises ConfigError if it is not finished, DataError if members are missing, and CorruptFileError
    for a damaged file.
    """
    _check_finished(folder)
    config = folder.read_config()
    snapshots = {path: read_weights(path) for path in folder.member_paths()}
    labels = next(iter(snapshots.values()))["label_order"]
    with corrupt_file_on_error(folder.path / CONFIG):
        if not isinstance(config["data"]["name"], str):
            raise TypeError("data.name: expected text")
        segments, features = _segment_spec(config), _build_features(config)
        networks = [_build_network(config, segments, len(labels)) for _ in snapshots]
    for network, (path, snapshot) in zip(networks, snapshots.items(), strict=True):
        with corrupt_file_on_error(path):
            if snapshot["label_order"] != labels:
                raise ValueError(f"expected the classes {labels}")
            network.load_state_dict(snapshot["network"])
            features.load_state_dict(snapshot["features"])  # the same in all members
    with corrupt_file_on_error(next(iter(snapshots))):
        label_set = own_label_set(labels)
    threshold = _read_threshold(folder)
    return RunMembers(config, label_set, threshold, segments, features, networks)


def _check_finished(folder: RunFolder) -> None:
    if not (folder.path / CONFIG).is_file():
        raise ConfigError(
            f"{folder.path}: expected the folder of a finished run, below outputs, "
            "but it has no config.yaml"
        )
    if len(folder.member_paths()) != folder.metadata().get("annealing.cycles"):
        raise DataError(
            f"{folder.path / MEMBERS}: expected the weights of all members, but "
            f"{len(folder.member_paths())} are there: the run is not finished, or of release 0.1, "
            "or files are missing. The command that began it makes them"
        )


def _read_threshold(folder: RunFolder) -> float | None:
    if not (folder.path / SCORES).is_file():
        return None
    results = folder.read_json(SCORES)
    with corrupt_file_on_error(folder.path / SCORES):
        operating = results.get("operating")  # runs of release 0.1 have none
        return float(operating["points"]["best_score"]["threshold"]) if operating else None


def _segment_spec(config: Config) -> SegmentSpec:
    segment, features = config["segment"], config["features"]
    return SegmentSpec.from_seconds(
        segment["seconds"],
        segment["chunks"],
        config["padding"]["mode"],
        features["sample_rate"],
        features["n_fft"],
        features["hop"],
        features.get("test_rolls", 1),  # earlier runs have none
    )


def _build_features(config: Config) -> Features:
    return Features.from_settings(config["features"])


def _build_network(config: Config, segments: SegmentSpec, classes: int) -> nn.Module:
    """Build a network whose weights are loaded afterwards."""
    model, bands = config["model"], config["features"]["n_mels"]
    sizes = {"classes": classes, "bands": bands, "frames": segments.chunk_frames}
    return find_network(model["name"]).create(seed=0, **sizes, **network_settings(model))
