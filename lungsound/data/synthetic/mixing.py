"""One recording of the SYNTHETIC demo database: a patient's traits, the difficulty, and the mix of
all its sounds.
"""

from dataclasses import dataclass
from zlib import crc32

import numpy as np

from lungsound.data.synthetic.sounds import (
    CRACKLE_WIDTHS_MS,
    WHEEZE_HZ,
    WHEEZE_SHORTEST_SECONDS,
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
# reality.)
CRACKLE_DB = {
    "fine": (7.0, 14.0),
    "coarse": (11.0, 18.0),
}  # a patient's level is drawn from the range ...
WHEEZE_DB = (-11.0, -1.0)
CYCLE_SPREAD_DB = 2.0  # ... and every cycle's lies up to this far from it
CRACKLES_PER_CYCLE = {"fine": (6, 14), "coarse": (4, 9)}
FAINT_FRACTION = 0.04  # of the abnormal cycles hold a sound that is annotated but
FAINT_DB = -20.0  # this much softer: hardly anybody would hear it
BACKGROUND_DB = (-36.0, -20.0)  # a patient's room

CRACKLE_KINDS = ("fine", "fine", "coarse", "mixed")  # equally likely for a patient


@dataclass(frozen=True)
class Patient:
    """What all recordings of one patient share."""

    breath_rms: float
    background_db: float
    heart_db: float
    beats_per_minute: float
    crackle_kind: str
    crackle_level: float  # where in CRACKLE_DB its crackles lie, 0 to 1
    wheeze_db: float
    wheeze_hz: float


@dataclass(frozen=True)
class PlannedRecording:
    """A recording before it sounds: `borders` [n + 1] are the seconds between its n cycles,
    `labels` [n] their classes in the order of `LABELS`.
    """

    name: str
    patient: int
    number: int
    device: Device
    trachea: bool
    seconds: float
    borders: tuple[float, ...]
    labels: tuple[int, ...]


def sample_patient(seed: int, patient: int) -> Patient:
    """The patient's traits, a pure function of seed and number."""
    rng = np.random.default_rng([seed, crc32(b"demo"), patient])
    return Patient(
        breath_rms=float(np.exp(rng.uniform(np.log(0.02), np.log(0.08)))),
        background_db=rng.uniform(*BACKGROUND_DB),
        heart_db=rng.uniform(-3, 12),
        beats_per_minute=rng.uniform(58, 95),
        crackle_kind=str(rng.choice(CRACKLE_KINDS)),
        crackle_level=rng.uniform(0, 1),
        wheeze_db=rng.uniform(*WHEEZE_DB),
        wheeze_hz=float(np.exp(rng.uniform(np.log(130), np.log(800)))),
    )


def mix_recording(seed: int, plan: PlannedRecording) -> FloatArray:
    """The recording's waveform, float32 [seconds · rate], within ±0.99; the same for every order of
    making them.
    """
    rng = np.random.default_rng([seed, crc32(b"demo"), plan.patient, plan.number])
    patient, rate_hz = sample_patient(seed, plan.patient), plan.device.rate_hz
    samples = round(plan.seconds * rate_hz)
    envelopes = {phase: np.zeros(samples, np.float32) for phase in (True, False)}
    sounds = np.zeros(samples, np.float32)
    # The stretches before the first and after the last annotated cycle are breathed as well.
    borders = (plan.borders[0] - 3.0, *plan.borders, plan.borders[-1] + 3.0)
    for start, end, label in zip(borders, borders[1:], (0, *plan.labels, 0), strict=False):
        turning_point = start + (end - start) * rng.uniform(0.36, 0.46)
        _add_breath_envelopes(rng, envelopes, rate_hz, (start, turning_point, end), plan.trachea)
        faint_db = FAINT_DB if rng.uniform() < FAINT_FRACTION else 0.0
        if label in (1, 3):
            _add_crackles(rng, sounds, rate_hz, patient, (start, turning_point, end), faint_db)
        if label in (2, 3):
            _add_wheezes(rng, sounds, rate_hz, patient, (start, turning_point, end), faint_db)
    for inspiration, envelope in envelopes.items():
        sounds += envelope * breath(rng, samples, rate_hz, plan.trachea, inspiration)
    sounds += _gain(patient.heart_db) * heart(rng, samples, rate_hz, patient.beats_per_minute)
    room_noise = coloured_noise(rng, samples, rate_hz, rng.uniform(100, 300), rng.uniform(4, 8))
    sounds += _gain(patient.background_db) * room_noise
    recorded = apply_device_response(plan.device, patient.breath_rms * sounds)
    recorded += _gain(plan.device.floor_db) * rng.standard_normal(samples, dtype=np.float32)
    return recorded * np.float32(min(1, 0.99 / np.abs(recorded).max()))


def _add_breath_envelopes(
    rng: np.random.Generator,
    loudness: dict[bool, FloatArray],
    rate_hz: int,
    phase_times: tuple[float, float, float],
    trachea: bool,
) -> None:
    # Expiration is softer on the chest wall (by 6 to 8 dB at equal flow), about as loud as
    # inspiration over the trachea (Gavriely & Cugell, J Appl Physiol 80:5, 1996).
    gains = {
        True: rng.uniform(0.8, 1.1),
        False: _gain(rng.uniform(-3, 1) if trachea else rng.uniform(-12, -5)),
    }
    for inspiration, start, end in ((True, *phase_times[:2]), (False, *phase_times[1:])):
        first, last = round(start * rate_hz), round(end * rate_hz)
        envelope = gains[inspiration] * phase_envelope(rng, last - first, inspiration)
        add_at(loudness[inspiration], envelope[max(0, -first) :], max(0, first))


def _add_crackles(
    rng: np.random.Generator,
    sounds: FloatArray,
    rate_hz: int,
    patient: Patient,
    times: tuple[float, float, float],
    faint_db: float,
) -> None:
    """Fine crackles late in inspiration; coarse ones early in it or in expiration (ATS 1977, CORSA
    2000).
    """
    kind = (
        patient.crackle_kind
        if patient.crackle_kind != "mixed"
        else str(rng.choice(["fine", "coarse"]))
    )
    low, high = CRACKLE_DB[kind]
    level_db = (
        low + patient.crackle_level * (high - low) + rng.uniform(-1, 1) * CYCLE_SPREAD_DB + faint_db
    )
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
        add_at(sounds, sign * _gain(level_db + rng.uniform(-4, 0)) * wave, int(position))


def _add_wheezes(
    rng: np.random.Generator,
    sounds: FloatArray,
    rate_hz: int,
    patient: Patient,
    times: tuple[float, float, float],
    faint_db: float,
) -> None:
    """One tone, or now and then two unrelated ones (polyphonic), mostly in expiration."""
    start, turn, end = times
    first, last = (turn, end) if rng.uniform() < 0.85 else (start, turn)
    level_db = patient.wheeze_db + rng.uniform(-1, 1) * CYCLE_SPREAD_DB + faint_db
    for tone in range(1 if rng.uniform() < 0.7 else 2):
        seconds = max(WHEEZE_SHORTEST_SECONDS, (last - first) * rng.uniform(0.35, 0.75))
        onset = first + max(0.0, last - first - 1.3 * seconds) * rng.uniform(0, 0.8)
        hertz = (
            patient.wheeze_hz
            * rng.uniform(0.85, 1.18)
            * (1 if tone == 0 else rng.uniform(1.3, 1.8))
        )
        wave = wheeze(rng, rate_hz, seconds, float(np.clip(hertz, *WHEEZE_HZ)))
        add_at(sounds, _gain(level_db) * wave, round(onset * rate_hz))


def _gain(db: float) -> float:
    return float(10 ** (db / 20))
