"""The SYNTHETIC demo database: made on the spot from a seed, in the layout, names and formats of
ICBHI 2017.
"""

import hashlib
import io
from collections.abc import Iterator
from pathlib import Path
from zlib import crc32

import numpy as np
import soundfile
from numpy.typing import NDArray

from lungsound.data.database import SYNTHETIC_MARKER
from lungsound.data.synthetic import mixing as demo_mixing
from lungsound.data.synthetic import sounds as demo_sounds
from lungsound.data.synthetic.mixing import PlannedRecording, mix_recording
from lungsound.data.synthetic.sounds import Device
from lungsound.storage.files import CHECKSUM_MANIFEST, is_intact_folder, quarantine, write_folder
from lungsound.storage.keys import content_key
from lungsound.storage.locks import file_lock

# Mostly small files: the few at 44.1 kHz are three quarters of the disk space.
DEVICES = (
    Device("Litt3200", "sc", 4000, "PCM_16", 0.48, 20, 1700, 0.0, -75),
    Device("AKGC417L", "mc", 4000, "PCM_16", 0.30, 35, 1850, 1.0, -72),
    Device("AKGC417L", "mc", 44100, "PCM_24", 0.06, 35, 9000, 1.0, -78),
    Device("LittC2SE", "mc", 44100, "PCM_16", 0.06, 25, 1500, -1.5, -80),
    Device("Meditron", "sc", 44100, "PCM_16", 0.05, 20, 4000, 0.5, -82),
    Device("Meditron", "sc", 44100, "PCM_24", 0.05, 20, 4000, 0.5, -90),
)
LOCATIONS = ("Tc", "Al", "Ar", "Pl", "Pr", "Ll", "Lr")
FIRST_PATIENT = 301  # ICBHI's own end at 226: no name of ours is one of theirs

# ICBHI's 6898 cycles: how many of each class, and the quantiles of their lengths in seconds.
CLASS_COUNTS = np.array([3642, 1864, 886, 506])
QUANTILES = np.array([0, 0.01, 0.05, 0.10, 0.25, 0.50, 0.75, 0.90, 0.95, 0.99, 1])
CYCLE_SECONDS = np.array([0.2, 0.61, 1.05, 1.33, 1.93, 2.54, 3.37, 4.11, 4.59, 6.41, 16.2])
CYCLES_PER_RECORDING = 7.5

SYNTHETIC_NOTICE = "SYNTHETIC: every sound in this folder was computed by lungsound.data.demo. No patient was recorded.\n"


def make_demo(folder: Path, seed: int, patients: int = 36, cycles: int = 864) -> None:
    """Write a demo database into `folder`/audio_and_txt_files: the same bytes for the same
    arguments.

    Raises ValueError for fewer cycles than patients or more patients than three digits can name.
    """
    plans = plan_recordings(seed, patients, cycles)

    def files() -> Iterator[tuple[str, bytes]]:
        yield SYNTHETIC_MARKER, SYNTHETIC_NOTICE.encode()
        for plan in plans:
            waveform, audio = mix_recording(seed, plan), io.BytesIO()
            soundfile.write(
                audio, waveform, plan.device.rate_hz, subtype=plan.device.subtype, format="WAV"
            )
            yield f"audio_and_txt_files/{plan.name}.wav", audio.getvalue()
            lines = (
                f"{start:g}\t{end:g}\t{label & 1}\t{label >> 1}\n"
                for start, end, label in zip(
                    plan.borders, plan.borders[1:], plan.labels, strict=False
                )
            )
            yield f"audio_and_txt_files/{plan.name}.txt", "".join(lines).encode()

    write_folder(folder, files())


def demo_root(store_dir: Path, seed: int, patients: int, cycles: int) -> Path:
    """The folder of the demo database with these arguments; it is made on the first call, by one
    process alone.
    """
    sources = [Path(str(module.__file__)) for module in (demo_sounds, demo_mixing)] + [
        Path(__file__)
    ]
    source = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()
    key = content_key({"seed": seed, "patients": patients, "cycles": cycles, "source": source})
    root = store_dir / "demo" / key
    with file_lock(store_dir / "demo" / f".{key}.lock", root):
        if not is_intact_folder(root):
            if (root / CHECKSUM_MANIFEST).exists():  # without it, the making died and goes on here
                quarantine(root)
            make_demo(root, seed, patients, cycles)
    return root


def plan_recordings(seed: int, patients: int, cycles: int) -> list[PlannedRecording]:
    """Who breathes what into which device: ICBHI's cycle lengths and class shares, patients mostly
    of one kind.
    """
    if not 0 < patients <= min(cycles, 1000 - FIRST_PATIENT):
        raise ValueError(
            f"Expected 1 to 699 patients and a cycle for each, but got {patients} and {cycles}."
        )
    rng = np.random.default_rng([seed, crc32(b"demo plan")])
    recordings = max(patients, round(cycles / CYCLES_PER_RECORDING))
    recordings_per_patient = 1 + rng.multinomial(
        recordings - patients, rng.dirichlet(np.full(patients, 0.8))
    )
    patient = np.repeat(np.arange(patients), recordings_per_patient)
    # Slow breathers fit fewer cycles into a recording's 20 seconds.
    breath_slowness = rng.standard_normal(recordings)
    counts = 1 + _largest_remainder(np.exp(-0.35 * breath_slowness), cycles - recordings)
    recording = np.repeat(np.arange(recordings), counts)
    lengths = _cycle_lengths(rng, breath_slowness[recording])
    labels = _cycle_labels(rng, patient[recording], recording)
    seconds = np.bincount(patient[recording], lengths).astype(np.float64)
    devices = _assign_devices(seconds)
    plans = []
    for number in range(recordings):
        in_recording = recording == number
        first = number - int(np.searchsorted(patient, patient[number]))
        plans.append(
            _plan_recording(
                rng,
                int(patient[number]),
                first,
                devices[patient[number]],
                lengths[in_recording],
                labels[in_recording],
            )
        )
    return plans


def _plan_recording(
    rng: np.random.Generator,
    patient: int,
    number: int,
    device: Device,
    lengths: NDArray[np.float64],
    labels: NDArray[np.int64],
) -> PlannedRecording:
    session, place = divmod(number, len(LOCATIONS))  # a session visits each location at most once
    location = LOCATIONS[(3 * patient + place) % len(LOCATIONS)]
    index = f"{session // 4 + 1}{'bp'[patient % 4 == 3]}{session % 4 + 1}"
    lead_seconds = round(min(rng.exponential(0.6), 3), 3)
    borders = np.round(lead_seconds + np.concatenate([[0], np.cumsum(lengths)]), 3)
    return PlannedRecording(
        name=f"{FIRST_PATIENT + patient}_{index}_{location}_{device.mode}_{device.name}",
        patient=patient,
        number=number,
        device=device,
        trachea=location == "Tc",
        seconds=float(borders[-1] + rng.uniform(0.02, 0.6)),
        borders=tuple(borders.tolist()),
        labels=tuple(labels.tolist()),
    )


def _cycle_lengths(rng: np.random.Generator, slowness: NDArray[np.float64]) -> NDArray[np.float64]:
    """Seconds of each cycle: ICBHI's quantiles, by rank of a draw that the cycles of one recording
    share in part.
    """
    draw = 0.75 * slowness + 0.66 * rng.standard_normal(len(slowness))
    rank = (np.argsort(np.argsort(draw)) + 0.5) / len(draw)
    return np.asarray(
        np.exp(np.interp(rank, QUANTILES, np.log(CYCLE_SECONDS))).round(3), np.float64
    )


def _cycle_labels(
    rng: np.random.Generator, patient: NDArray[np.int64], recording: NDArray[np.int64]
) -> NDArray[np.int64]:
    """The class of each cycle: ICBHI's shares to within a cycle or two, and a patient mostly of one
    kind.
    """
    patients, kinds = patient.max() + 1, len(CLASS_COUNTS)
    # How many of ICBHI's 126 patients have most of their cycles in each class.
    dominant_class = rng.permutation(
        np.repeat(np.arange(kinds), _largest_remainder(np.array([90.0, 19, 11, 6]), patients))
    )
    class_preference = 2.5 * (dominant_class[:, None] == np.arange(kinds)) + rng.standard_normal(
        (patients, kinds)
    )
    drift = 0.7 * rng.standard_normal((recording.max() + 1, kinds))
    class_preference = (
        class_preference[patient] + drift[recording] + rng.gumbel(size=(len(patient), kinds))
    )
    target = _largest_remainder(CLASS_COUNTS.astype(float), len(patient))
    bias, best, smallest = np.zeros(kinds), np.zeros(len(patient), np.int64), 2 * len(patient) + 1
    for _ in range(300):
        labels = (class_preference + bias).argmax(axis=1)
        counts = np.bincount(labels, minlength=kinds)
        if (error := int(np.abs(counts - target).sum())) < smallest:
            best, smallest = labels, error
        bias += 0.3 * np.log((target + 0.5) / (counts + 0.5))
    return np.asarray(best, np.int64)


def _assign_devices(seconds: NDArray[np.float64]) -> list[Device]:
    """One device for each patient, so that every device gets its share of all seconds as nearly as
    can be.
    """
    remaining_seconds = np.array([device.share for device in DEVICES]) * seconds.sum()
    assigned = [DEVICES[0]] * len(seconds)
    for patient in np.argsort(
        -seconds, kind="stable"
    ):  # the longest first: the short ones even it out
        device = int(remaining_seconds.argmax())
        assigned[patient] = DEVICES[device]
        remaining_seconds[device] -= seconds[patient]
    return assigned


def _largest_remainder(weights: NDArray[np.float64], total: int) -> NDArray[np.int64]:
    """Whole numbers in proportion to the weights that add up to `total` (largest remainders)."""
    exact = weights / weights.sum() * total
    whole = np.floor(exact).astype(np.int64)
    whole[np.argsort(whole - exact, kind="stable")[: total - whole.sum()]] += 1
    return np.asarray(whole, np.int64)
