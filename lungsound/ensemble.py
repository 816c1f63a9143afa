"""A finished run as something that answers: probabilities for a user's own recordings.

Needs neither Hydra, Lightning nor MLflow.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any
from warnings import warn

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from lungsound.data.sound import Sound, array_sound, open_sound
from lungsound.errors import ConfigError, DataError
from lungsound.results.folder import CONFIG, RunFolder
from lungsound.results.members import RunMembers, load_members
from lungsound.scoring.probabilities import cycle_probabilities
from lungsound.signal.chunks import split_into_chunks
from lungsound.signal.segments import cut_segment, segment_count
from lungsound.signal.windows import Span, cut_spans, window_spans
from lungsound.storage.files import corrupt_file_on_error

WINDOW_SECONDS, HOP_SECONDS = 3.0, 1.0
MAX_SECONDS = 3600
MODEL_SCHEMES = ("models:/", "runs:/")  # of MLflow
CYCLE_COLUMNS = ["start_seconds", "end_seconds"]
BATCH_SEGMENTS = 32
# `trainer.precision`
AUTOCAST = {"32-true": None, "16-mixed": torch.float16, "bf16-mixed": torch.bfloat16}
File = str | os.PathLike[str]
Cycles = Sequence[tuple[float, float]] | NDArray[Any] | pd.DataFrame


class Ensemble:
    """The members of a finished run, on the device of its `trainer.accelerator`.

    `config` is the run's configuration, `labels` are its classes in their order, `members` its
    networks, from chunks of log-mels [B, 1, F, N] to logits [B, K]. `threshold` is the run's
    operating point: that of 1 − p_normal with the best score on validation, None if it has none.
    """

    def __init__(self, parts: RunMembers) -> None:
        self.config, self.segments, self.threshold = parts.config, parts.segments, parts.threshold
        self.labels = parts.labels.labels
        self._normal = f"p_{parts.labels.normal}"
        self._columns = [f"p_{label}" for label in self.labels]
        trainer = self.config["trainer"]
        self._autocast = AUTOCAST[trainer["precision"]]
        uses_gpu = trainer["accelerator"] != "cpu" and torch.cuda.is_available()
        self.device = torch.device("cuda" if uses_gpu else "cpu")
        self.features = parts.features.to(self.device)
        self.members = [one.to(self.device).train(False) for one in parts.networks]

    @classmethod
    def load(cls, run: File) -> "Ensemble":
        """Load a finished run from its folder, wherever that is now, or from MLflow.

        There it is a model, such as `models:/NAME/1` or `runs:/ID/ensemble`, of the MLflow that
        MLFLOW_TRACKING_URI names, by default sqlite:///mlflow.db. Its code is not run.

        Raises ConfigError if it is no finished run, DataError if members are missing,
        CorruptFileError for a damaged file, and LungsoundError if MLflow lacks the model.
        """
        if isinstance(run, str) and run.startswith(MODEL_SCHEMES):
            from lungsound.tracking.model import downloaded_run

            with downloaded_run(run) as place:
                return cls.load(place)
        folder = RunFolder(Path(os.path.expanduser(run)))
        members = load_members(folder)
        with corrupt_file_on_error(folder.path / CONFIG):
            return cls(members)

    def predict(
        self,
        recording: File | NDArray[Any] | Sound | list[File] | tuple[File, ...],
        sample_rate: float | None = None,
        cycles: Cycles | None = None,
        window: float = WINDOW_SECONDS,
        hop: float = HOP_SECONDS,
    ) -> pd.DataFrame:
        """Return the ensemble's probabilities, one row per window or cycle.

        `recording` is a file that libsndfile reads, a list of files, or a waveform [n] or
        [n, channels] at `sample_rate` Hz. `cycles` [n, 2] has the start and end in seconds of known
        cycles; a table may name them `start_seconds` and `end_seconds`. Without it there are
        windows of `window` seconds every `hop` seconds; the last one ends with the recording. An
        ICBHI cycle lasts 2.7 s on average: the default window is about a breath, as the run has
        learned it, and the default hop puts each second into three.

        Columns: `recording` (of a list), `start_seconds`, `end_seconds`, the members' mean `p_X`
        for each label X, the most probable `label`, and `spread`, the standard deviation of its
        probability over the members; with a `threshold` also whether that calls it `abnormal`.
        Raises DataError with the recording's fault, and ConfigError
        for a window or hop out of range.
        """
        if not isinstance(recording, list | tuple):
            members = self.predict_members(recording, sample_rate, cycles, window, hop)
            return self.average(members)
        if not recording or cycles is not None or sample_rate is not None:
            raise DataError(
                "expected one or more files without cycles and sample_rate, or one file or array "
                "(numpy, no list) with its own"
            )
        tables = []
        for file in recording:
            tables.append(self.predict(file, window=window, hop=hop))
            tables[-1].insert(0, "recording", os.fspath(file))
        return pd.concat(tables, ignore_index=True)

    def predict_members(
        self,
        recording: File | NDArray[Any] | Sound,
        sample_rate: float | None = None,
        cycles: Cycles | None = None,
        window: float = WINDOW_SECONDS,
        hop: float = HOP_SECONDS,
    ) -> pd.DataFrame:
        """Return each member's probabilities: a row per member, from 1, and window or cycle.

        The arguments are those of `predict`, and so are the columns, with `member` in place of
        `label` and `spread`.
        """
        rate = self.features.sample_rate
        sizes = [check_seconds("window", window, rate), check_seconds("hop", hop, rate)]
        sound = _open(recording, sample_rate)
        if cycles is None:
            spans = _windows(sound, rate, *sizes)
            seconds = np.array(spans) / rate
        else:
            seconds = _cycle_times(cycles, sound.name)
            spans = [sound.span(start, end, rate) for start, end in seconds.tolist()]
        order = np.argsort([start for start, _ in spans], kind="stable")
        waveforms = cut_spans(sound.blocks(rate), [spans[place] for place in order])
        probabilities = self._evaluate(waveforms)[:, np.argsort(order)]
        if not probabilities.isfinite().all():
            raise DataError(
                f"{sound.name}: expected finite probabilities, but got NaN: its samples are too "
                "large. Export it with samples in [-1, 1]"
            )
        starts, ends = np.minimum(seconds, sound.seconds).T
        columns = {"start_seconds": starts, "end_seconds": ends}
        tables = []
        for member, values in enumerate(probabilities.numpy(), start=1):
            labelled = dict(zip(self._columns, values.T, strict=True))
            tables.append(pd.DataFrame({**columns, "member": member, **labelled}))
        return pd.concat(tables, ignore_index=True)

    def average(self, members: pd.DataFrame) -> pd.DataFrame:
        """Return the table of `predict` from that of `predict_members`."""
        rows = members[self._columns].to_numpy()  # one member after the other
        values = rows.reshape(len(self.members), -1, len(self.labels))
        means = values.mean(axis=0)
        winner = means.argmax(axis=1)
        table = members.loc[members["member"] == 1, ["start_seconds", "end_seconds"]]
        table = table.assign(**dict(zip(self._columns, means.T, strict=True)))
        spread = values.std(axis=0)[np.arange(len(winner)), winner]
        table = table.assign(label=np.array(self.labels)[winner], spread=spread)
        if self.threshold is not None:
            table["abnormal"] = 1 - table[self._normal] >= self.threshold
        return table

    @torch.no_grad()
    def _evaluate(self, waveforms: Iterable[NDArray[np.float32]]) -> Tensor:
        """Return the members' probabilities [M, n, K] of n cycles, as evaluation computes them."""
        chunks = self.segments.chunks * self.segments.rolls
        outputs, cycles = [], list[int]()
        numbered = self.cut(waveforms)
        while batch := list(islice(numbered, BATCH_SEGMENTS)):
            numbers, segments = zip(*batch, strict=True)
            inputs = self.chunks(segments)
            with self._precision():
                logits = torch.stack([member(inputs) for member in self.members])
            outputs.append(torch.softmax(logits.float(), -1).cpu())
            cycles += numbers
        cycle, count = torch.tensor(cycles).repeat_interleave(chunks), cycles[-1] + 1
        members = torch.cat(outputs, dim=1)
        return torch.stack([cycle_probabilities(member, cycle, count) for member in members])

    def cut(
        self, waveforms: Iterable[NDArray[np.float32]]
    ) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Yield the cycle's number and the samples of each segment of cycles at the run's rate."""
        length, padding = self.segments.length, self.segments.padding
        for number, waveform in enumerate(waveforms):
            for segment in range(segment_count(len(waveform), length)):
                yield number, cut_segment(waveform, segment, length, padding)

    def chunks(self, segments: Sequence[NDArray[np.float32]]) -> Tensor:
        """Return the networks' inputs [B * rolls * chunks, 1, F, N] for B segments' samples."""
        waveforms = torch.from_numpy(np.stack(segments)).to(self.device)
        log_mels = self.features(waveforms)
        chunks, rolls = self.segments.chunks, self.segments.rolls
        return split_into_chunks(log_mels, chunks, rolls).flatten(0, 1).unsqueeze(1)

    @contextmanager
    def _precision(self) -> Iterator[None]:
        """Multiply as evaluation does: the run's autocast, and no TF32."""
        autocast = torch.autocast(
            self.device.type, self._autocast, enabled=self._autocast is not None
        )
        with autocast, torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            yield


def check_seconds(name: str, seconds: float, sample_rate: int) -> int:
    """Return the samples of `seconds`. Raises ConfigError if there is not one, or no end."""
    is_number = isinstance(seconds, int | float | np.number)
    if not is_number or not 0.5 <= seconds * sample_rate <= MAX_SECONDS * sample_rate:
        raise ConfigError(
            f"{name}: expected seconds above 0, at most {MAX_SECONDS}, but got {seconds!r}. "
            f"The default is {WINDOW_SECONDS if name == 'window' else HOP_SECONDS}"
        )
    return max(1, round(seconds * sample_rate))


def _cycle_times(cycles: Cycles, name: str) -> NDArray[np.float64]:
    """Return the start and end [n, 2] of cycles. Raises DataError if they are something else."""
    if isinstance(cycles, pd.DataFrame) and {*CYCLE_COLUMNS} <= {*cycles.columns}:
        cycles = cycles[CYCLE_COLUMNS]
    try:
        times = np.asarray(cycles, dtype=np.float64)
    except (TypeError, ValueError):
        times = np.zeros(0)
    if times.ndim != 2 or times.shape[1] != 2 or not len(times):
        raise DataError(
            f"{name}: expected one or more cycles, each with its start and end in seconds, as "
            f"[(0.3, 2.9)], but got {str(cycles)[:60]!r}"
        )
    return times


def _open(recording: File | NDArray[Any] | Sound, sample_rate: float | None) -> Sound:
    """Open a file or an array; its note becomes a warning."""
    if isinstance(recording, Sound):
        return recording
    if isinstance(recording, str | os.PathLike):
        sound = open_sound(Path(os.path.expanduser(recording)))
    elif sample_rate is None:
        raise DataError("sample_rate: expected the waveform's rate in Hz, but got none")
    else:
        sound = array_sound(recording, sample_rate)
    if sound.note:
        warn(f"{sound.name}: {sound.note}", stacklevel=4)
    return sound


def _windows(sound: Sound, sample_rate: int, length: int, hop: int) -> list[Span]:
    total = sound.samples_at(sample_rate)
    if total < length:
        raise DataError(
            f"{sound.name}: expected at least one window of {length / sample_rate:g} s, but it "
            f"lasts {sound.seconds:.3f} s: choose a shorter window, or give its cycles"
        )
    return window_spans(total, length, hop)
