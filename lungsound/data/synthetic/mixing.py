"""One recording of the SYNTHETIC demo database: the patient, the difficulty, the mix of sounds."""

from collections.abc import Iterator
from dataclasses import dataclass
from zlib import crc32

import numpy as np
from numpy.random import Generator

from lungsound.data.synthetic.sounds import (
    CRACKLE_WIDTHS_MS,
    WHEEZE_HZ,
    WHEEZE_MIN_SECONDS,
    Device,
    FloatArray,
    add_at,
    apply_device_response,
    breath,
    coloured_noise,
    crackle,
    heart,
    phase_envelope,
    wheeze,
)

# The difficulty of the demo database is tuned here and nowhere else. Levels are relative to the rms
# of the patient's breath noise at the height of inspiration; the crackle's is its peak, the
# wheeze's its rms. (Over the trachea the broad breath noise masks more of them, as it does in
# reality.) A patient's level is drawn from the range ...
CRACKLE_DB = {"fine": (7.0, 14.0), "coarse": (11.0, 18.0)}
WHEEZE_DB = (-11.0, -1.0)
CYCLE_SPREAD_DB = 2.0  # ... and every cycle's is up to this far from it
CRACKLES_PER_CYCLE = {"fine": (6, 14), "coarse": (4, 9)}
FAINT_FRACTION = 0.04  # of the abnormal cycles have an annotated sound that is
FAINT_DB = -20.0  # this much softer: hardly anybody would hear it
BACKGROUND_DB = (-36.0, -20.0)  # ambient noise around a patient
CRACKLE_KINDS = ("fine", "fine", "coarse", "mixed")  # equally likely for a patient

CycleTimes = tuple[float, float, float]  # seconds: start, begin of expiration, end
Sound = tuple[FloatArray, int]  # a waveform and its first sample


class Patient:
    """What all recordings of one patient share, a pure function of seed and number."""

    def __init__(self, seed: int, number: int) -> None:
        rng = np.random.default_rng([seed, crc32(b"demo"), number])
        self.breath_rms = float(np.exp(rng.uniform(np.log(0.02), np.log(0.08))))
        self.background_db = rng.uniform(*BACKGROUND_DB)
        self.heart_db = rng.uniform(-3, 12)
        self.beats_per_minute = rng.uniform(58, 95)
        self.crackle_kind = str(rng.choice(CRACKLE_KINDS))
        self.crackle_level = rng.uniform(0, 1)  # its place in CRACKLE_DB
        self.wheeze_db = rng.uniform(*WHEEZE_DB)
        self.wheeze_hz = float(np.exp(rng.uniform(np.log(130), np.log(800))))


@dataclass(frozen=True)
class PlannedRecording:
    """A recording before its sounds are computed: `number` counts those of its patient.

    `borders` [n + 1] are the seconds between its n cycles, `labels` [n] their classes in the order
    of `FOUR_CLASS`.
    """

    name: str
    patient: int
    number: int
    device: Device
    trachea: bool
    seconds: float
    borders: tuple[float, ...]
    labels: tuple[int, ...]


def mix_recording(seed: int, plan: PlannedRecording) -> FloatArray:
    """Return the recording's waveform, float32 [seconds · rate], within ±0.99.

    It does not depend on the recordings before it.
    """
    rng = np.random.default_rng([seed, crc32(b"demo"), plan.patient, plan.number])
    patient, rate_hz = Patient(seed, plan.patient), plan.device.rate_hz
    samples = round(plan.seconds * rate_hz)
    envelopes = {phase: np.zeros(samples, np.float32) for phase in (True, False)}
    sounds = np.zeros(samples, np.float32)
    # The stretches before the first and after the last annotated cycle are breathed as well.
    borders = (plan.borders[0] - 3.0, *plan.borders, plan.borders[-1] + 3.0)
    for start, end, label in zip(borders, borders[1:], (0, *plan.labels, 0), strict=False):
        times = (start, start + (end - start) * rng.uniform(0.36, 0.46), end)
        _add_breath_envelopes(rng, envelopes, rate_hz, times, plan.trachea)
        faint_db = FAINT_DB if rng.uniform() < FAINT_FRACTION else 0.0
        if label in (1, 3):
            for crackle_sound in _crackles(rng, rate_hz, patient, times, faint_db):
                add_at(sounds, *crackle_sound)
        if label in (2, 3):
            for wheeze_sound in _wheezes(rng, rate_hz, patient, times, faint_db):
                add_at(sounds, *wheeze_sound)
    for inspiration, envelope in envelopes.items():
        sounds += envelope * breath(rng, samples, rate_hz, plan.trachea, inspiration)
    sounds += _gain(patient.heart_db) * heart(rng, samples, rate_hz, patient.beats_per_minute)
    ambient = coloured_noise(rng, samples, rate_hz, rng.uniform(100, 300), rng.uniform(4, 8))
    sounds += _gain(patient.background_db) * ambient
    recorded = apply_device_response(plan.device, patient.breath_rms * sounds)
    recorded += _gain(plan.device.floor_db) * rng.standard_normal(samples, dtype=np.float32)
    return recorded * np.float32(min(1, 0.99 / np.abs(recorded).max()))


def _add_breath_envelopes(
    rng: Generator,
    envelopes: dict[bool, FloatArray],
    rate_hz: int,
    times: CycleTimes,
    trachea: bool,
) -> None:
    # Expiration is softer on the chest wall (by 6 to 8 dB at equal flow), about as loud as
    # inspiration over the trachea (Gavriely & Cugell, J Appl Physiol 80:5, 1996).
    inspiration_gain = rng.uniform(0.8, 1.1)
    expiration_gain = _gain(rng.uniform(-3, 1) if trachea else rng.uniform(-12, -5))
    start, turn, end = times
    phases = ((True, inspiration_gain, start, turn), (False, expiration_gain, turn, end))
    for inspiration, gain, begin, stop in phases:
        first, last = round(begin * rate_hz), round(stop * rate_hz)
        envelope = gain * phase_envelope(rng, last - first, inspiration)
        add_at(envelopes[inspiration], envelope[max(0, -first) :], max(0, first))


def _crackles(
    rng: Generator, rate_hz: int, patient: Patient, times: CycleTimes, faint_db: float
) -> Iterator[Sound]:
    """Fine crackles late in inspiration, coarse ones early or in expiration (ATS 1977, CORSA)."""
    kind = patient.crackle_kind
    if kind == "mixed":
        kind = str(rng.choice(["fine", "coarse"]))
    low, high = CRACKLE_DB[kind]
    level_db = low + patient.crackle_level * (high - low)
    level_db += rng.uniform(-1, 1) * CYCLE_SPREAD_DB
    level_db += faint_db
    start, turn, end = times
    if kind == "fine":
        first, last = start + 0.5 * (turn - start), turn
    elif rng.uniform() < 0.6:
        first, last = start, start + 0.6 * (turn - start)
    else:
        first, last = turn, turn + 0.6 * (end - turn)
    widths, durations = CRACKLE_WIDTHS_MS[kind]
    sign = rng.choice([-1.0, 1.0])
    for _ in range(rng.integers(*CRACKLES_PER_CYCLE[kind], endpoint=True)):
        position = rng.uniform(first, last - durations[1] / 1000) * rate_hz
        wave = crackle(rate_hz, rng.uniform(*widths), rng.uniform(*durations), position % 1)
        yield sign * _gain(level_db + rng.uniform(-4, 0)) * wave, int(position)


def _wheezes(
    rng: Generator, rate_hz: int, patient: Patient, times: CycleTimes, faint_db: float
) -> Iterator[Sound]:
    """One tone, or now and then two unrelated ones (polyphonic), mostly in expiration."""
    start, turn, end = times
    first, last = (turn, end) if rng.uniform() < 0.85 else (start, turn)
    level_db = patient.wheeze_db + rng.uniform(-1, 1) * CYCLE_SPREAD_DB + faint_db
    for tone in range(1 if rng.uniform() < 0.7 else 2):
        seconds = max(WHEEZE_MIN_SECONDS, (last - first) * rng.uniform(0.35, 0.75))
        onset = first + max(0.0, last - first - 1.3 * seconds) * rng.uniform(0, 0.8)
        hertz = patient.wheeze_hz * rng.uniform(0.85, 1.18)
        if tone:
            hertz *= rng.uniform(1.3, 1.8)
        wave = wheeze(rng, rate_hz, seconds, float(np.clip(hertz, *WHEEZE_HZ)))
        yield _gain(level_db) * wave, round(onset * rate_hz)


def _gain(db: float) -> float:
    return float(10 ** (db / 20))
