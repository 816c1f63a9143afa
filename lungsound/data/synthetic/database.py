"""The SYNTHETIC demo database: computed from a seed, in ICBHI 2017's layout, names and formats."""

import hashlib
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from zlib import crc32

import numpy as np
import soundfile
from numpy.random import Generator
from numpy.typing import NDArray

from lungsound.data.readers.files import SYNTHETIC_MARKER
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
# How many of ICBHI's 126 patients have most of their cycles in each class.
DOMINANT_CLASS_COUNTS = np.array([90, 19, 11, 6])
SYNTHETIC_NOTICE = (
    "SYNTHETIC: every sound in this folder was computed by lungsound.data.synthetic. "
    "No patient was recorded.\n"
)

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


def demo_root(store_dir: Path, seed: int, patients: int, cycles: int) -> Path:
    """Return the folder of this demo database; make it on the first call, in one process alone."""
    sources = sorted(Path(__file__).parent.glob("*.py"))
    source = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()
    key = content_key({"seed": seed, "patients": patients, "cycles": cycles, "source": source})
    root = store_dir / "demo" / key
    with file_lock(store_dir / "demo" / f".{key}.lock", root):
        if not is_intact_folder(root):
            if (root / CHECKSUM_MANIFEST).exists():  # else a killed process left it unfinished
                quarantine(root)
            make_demo(root, seed, patients, cycles)
    return root


def make_demo(folder: Path, seed: int, patients: int = 36, cycles: int = 864) -> None:
    """Write a demo database below `folder`: the same bytes for the same arguments.

    Raises ValueError for fewer cycles than patients or more patients than three digits can name.
    """
    write_folder(folder, _demo_files(seed, plan_recordings(seed, patients, cycles)))


def _demo_files(seed: int, plans: Sequence[PlannedRecording]) -> Iterator[tuple[str, bytes]]:
    yield SYNTHETIC_MARKER, SYNTHETIC_NOTICE.encode()
    for plan in plans:
        audio, device = io.BytesIO(), plan.device
        waveform = mix_recording(seed, plan)
        soundfile.write(audio, waveform, device.rate_hz, subtype=device.subtype, format="WAV")
        yield f"audio_and_txt_files/{plan.name}.wav", audio.getvalue()
        lines = [
            f"{start:g}\t{end:g}\t{label & 1}\t{label >> 1}\n"
            for start, end, label in zip(plan.borders, plan.borders[1:], plan.labels, strict=False)
        ]
        yield f"audio_and_txt_files/{plan.name}.txt", "".join(lines).encode()


def plan_recordings(seed: int, patients: int, cycles: int) -> list[PlannedRecording]:
    """Draw who breathes what into which device, with ICBHI's cycle lengths and class shares."""
    if not 0 < patients <= min(cycles, 1000 - FIRST_PATIENT):
        raise ValueError(
            f"Expected 1 to 699 patients and a cycle for each, but got {patients} and {cycles}."
        )
    rng = np.random.default_rng([seed, crc32(b"demo plan")])
    recordings = max(patients, round(cycles / CYCLES_PER_RECORDING))
    shares = rng.dirichlet(np.full(patients, 0.8))
    recordings_per_patient = 1 + rng.multinomial(recordings - patients, shares)
    patient = np.repeat(np.arange(patients), recordings_per_patient)
    # Slow breathers fit fewer cycles into a recording's 20 seconds.
    slowness = rng.standard_normal(recordings)
    counts = 1 + _largest_remainder(np.exp(-0.35 * slowness), cycles - recordings)
    recording = np.repeat(np.arange(recordings), counts)
    lengths = _cycle_lengths(rng, slowness[recording])
    labels = _cycle_labels(rng, patient[recording], recording)
    devices = _assign_devices(np.bincount(patient[recording], lengths).astype(np.float64))
    plans, numbers = [], [number for count in recordings_per_patient for number in range(count)]
    for row, number in enumerate(numbers):
        owner, own = int(patient[row]), recording == row
        plan = _plan_recording(rng, owner, number, devices[owner], lengths[own], labels[own])
        plans.append(plan)
    return plans


def _plan_recording(
    rng: Generator, patient: int, number: int, device: Device, lengths: Floats, labels: Integers
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


def _cycle_lengths(rng: Generator, slowness: Floats) -> Floats:
    """Return seconds with ICBHI's quantiles; cycles of one recording (and slowness) are similar."""
    draw = 0.75 * slowness + 0.66 * rng.standard_normal(len(slowness))
    rank = (np.argsort(np.argsort(draw)) + 0.5) / len(draw)
    seconds = np.exp(np.interp(rank, QUANTILES, np.log(CYCLE_SECONDS)))
    return np.asarray(seconds.round(3), np.float64)


def _cycle_labels(rng: Generator, patient: Integers, recording: Integers) -> Integers:
    """Return classes with ICBHI's shares, to within a cycle or two; a patient has mostly one."""
    patients, kinds = patient.max() + 1, len(CLASS_COUNTS)
    counts = _largest_remainder(DOMINANT_CLASS_COUNTS, patients)
    dominant_class = rng.permutation(np.repeat(np.arange(kinds), counts))
    preference = 2.5 * (dominant_class[:, None] == np.arange(kinds))
    preference = preference + rng.standard_normal((patients, kinds))
    drift = 0.7 * rng.standard_normal((recording.max() + 1, kinds))
    score = preference[patient] + drift[recording] + rng.gumbel(size=(len(patient), kinds))
    target = _largest_remainder(CLASS_COUNTS, len(patient))
    bias, best, smallest = np.zeros(kinds), np.zeros(len(patient), np.int64), 2 * len(patient) + 1
    for _ in range(300):
        labels = (score + bias).argmax(axis=1)
        counts = np.bincount(labels, minlength=kinds)
        if (error := int(np.abs(counts - target).sum())) < smallest:
            best, smallest = labels, error
        bias += 0.3 * np.log((target + 0.5) / (counts + 0.5))
    return np.asarray(best, np.int64)


def _assign_devices(seconds: Floats) -> list[Device]:
    """Return a device for each patient, so that each device gets about its share of all seconds."""
    remaining_seconds = np.array([device.share for device in DEVICES]) * seconds.sum()
    assigned = [DEVICES[0]] * len(seconds)
    # The longest first: the short ones even it out.
    for patient in np.argsort(-seconds, kind="stable"):
        device = int(remaining_seconds.argmax())
        assigned[patient] = DEVICES[device]
        remaining_seconds[device] -= seconds[patient]
    return assigned


def _largest_remainder(weights: Floats | Integers, total: int) -> Integers:
    """Return whole numbers in proportion to the weights that add up to `total`."""
    exact = weights / weights.sum() * total
    whole = np.floor(exact).astype(np.int64)
    whole[np.argsort(whole - exact, kind="stable")[: total - whole.sum()]] += 1
    return np.asarray(whole, np.int64)
