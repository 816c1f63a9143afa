"""What the fuzzer feeds: databases, split files, archives and command lines."""

import io
import json
import struct
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import soundfile
from robustness.fuzz_bytes import NUMBERS, TEXTS, corrupt_json, corrupt_lines, encoded, mutate_bytes

from lungsound.config.ellipsis import expand_ellipses
from lungsound.config.overrides import compose_run
from lungsound.data.database import open_database
from lungsound.data.labels import FOUR_CLASS, SPRSOUND_SEVEN
from lungsound.data.registry import DATABASES
from lungsound.data.splits.checks import check_classes
from lungsound.data.splits.official import OFFICIAL_SPLIT_FILENAME, official_icbhi
from lungsound.data.splits.table import file_split
from lungsound.data.tools.audit import audit
from lungsound.data.tools.download import download_database
from lungsound.runs.validation import validate_config
from lungsound.studies import jobs

RATE_HZ = 4000
WAV = ("PCM_16", "PCM_24", "FLOAT", "PCM_U8", "ULAW", "DOUBLE", "MS_ADPCM", "IMA_ADPCM")
FORMATS = (
    *(("WAV", subtype) for subtype in WAV),
    *(("WAVEX", "PCM_16"), ("FLAC", "PCM_16"), ("FLAC", "PCM_24")),
)
STEMS = ("101_1b1_Al_sc_Meditron", "102_1b1_Tc_mc_AKGC417L", "103_2b2_Pr_mc_LittC2SE")
NAMES = ("40638274_9.7_1_p1_1696", "40672181_13.1_0_p2_2740")
ANNOTATION = "0.036\t0.579\t0\t0\n0.579\t1.2\t1\t0\n1.2\t1.9\t0\t1\n"
# Validation needs five patients.
SPLIT = (*STEMS, *(f"{patient}_1b1_Al_sc_Meditron" for patient in range(104, 110)))
DEMOGRAPHICS = "101 3 F NA 19 99\n102 0.75 F NA 9.8 73\n103 70 M 33 NA NA\n"
DIAGNOSES = "101,URTI\n102,Healthy\n103,Asthma\n"
OFFICIAL = "".join(f"{stem}\t{'test' if stem == STEMS[1] else 'train'}\n" for stem in SPLIT)
LINES = (
    "segment=9s", "seed=3", "split.seed=1", "model.width=0.25", "augment=light", "loss.gamma=0.5",
    "padding=zero", "augment.vtlp_copies.both=2", "features.n_mels=64", "task=two_class",
    "augment.stretch_rate=[0.8,1.2]", "experiment=paper data=icbhi data.root=x", "redo=true",
    "split=patient split.fold=0", "annealing.total_epochs=40", "trainer.batch_size=16",
    "hydra/launcher=basic", "features.sample_rate=16000", "annealing=constant", "output_dir='a b'",
    "features={n_mels:60}", "data.demo_cycles=40", "split=file split.file=s.csv",
)  # fmt: skip
SWEPT = (
    "annealing.cycles=2,3,...,5", "segment=3s,4s,...,6s", "padding=sample,zero",
    "split.seed=0,1,...,3", "annealing.max_lr=1e-3,2e-3,...,4e-3", "seed=range(1,5)",
    "segment=glob(*)", "seed=choice(1,2)",
)  # fmt: skip
WORDS = (
    "...", ",", "=", "==", "[", "]", "{", "}", "(", ")", "'", '"', "\\", "${", "}", "${seed}",
    "${oc.env:NOPE}", "???", "null", "@", "~", "+", "++", ":", "*", "range(0,1000000000)",
    "interval(1,2)", "shuffle(1)", "sort(3,2)", "int(x)", "9s", "+x=1", "~loss",
)  # fmt: skip


class FuzzCase(NamedTuple):
    """What is done with an input, and its names, of which an error's message must have one."""

    run: Callable[[], Any]
    names: tuple[str, ...]


@cache
def audio(kind: str, subtype: str) -> bytes:
    """Two seconds of noise as a file."""
    buffer, noise = io.BytesIO(), np.random.default_rng(0).normal(0, 0.1, 2 * RATE_HZ)
    soundfile.write(buffer, noise, RATE_HZ, subtype, format=kind)
    return buffer.getvalue()


def icbhi(folder: Path, stems: tuple[str, ...] = STEMS) -> Path:
    """A valid database."""
    for stem in stems:
        (folder / f"{stem}.wav").write_bytes(audio("WAV", "PCM_16"))
        (folder / f"{stem}.txt").write_text(ANNOTATION)
    return folder


def opened(rng: Random, name: str, root: Path, store: Path) -> Callable[[], Any]:
    """One of the ways in which a user has a database read."""
    skip = rng.random() < 0.5
    if rng.random() < 0.3:
        return lambda: audit(DATABASES[name], root)
    return lambda: open_database(DATABASES[name], root, RATE_HZ, store, skip)


def annotations(rng: Random, folder: Path, store: Path) -> FuzzCase:
    content = ANNOTATION.encode()
    if rng.random() < 0.6:
        content = encoded(rng, corrupt_lines(rng, ANNOTATION, "\t"))
    if rng.random() < 0.6:
        content = mutate_bytes(rng, content, DEMOGRAPHICS.encode())
    (icbhi(folder) / f"{STEMS[1]}.txt").write_bytes(content)
    return FuzzCase(opened(rng, "icbhi", folder, store), known_as(STEMS[1]))


def known_as(stem: str) -> tuple[str, ...]:
    """A recording, by its own name or that of one of its files."""
    return tuple(stem + suffix for suffix in ("", ".txt", ".wav", ".json", ".flac"))


def file_names(rng: Random, folder: Path, store: Path) -> FuzzCase:
    """Names as bytes: they need not be UTF-8."""
    name = rng.choice(("icbhi", "sprsound"))
    stem, places = (STEMS[1], ("",)) if name == "icbhi" else (NAMES[1], ("train_wav", "train_json"))
    icbhi(folder) if name == "icbhi" else sprsound(folder)
    made = []
    for suffix in rng.sample((".txt", ".wav", ".TXT", ".flac", ".json", ""), rng.randint(1, 3)):
        spliced = rng.choice(TEXTS).encode(errors="replace")
        odd = mutate_bytes(rng, (stem + suffix).encode(), spliced)
        odd = odd.replace(b"/", b"_").replace(b"\0", b"_")[: rng.choice((100, 255))] or b"_"
        if odd not in (b".", b".."):
            path = folder / rng.choice(places) / odd.decode(errors="surrogateescape")
            path.write_bytes(ANNOTATION.encode())
            made += [path.name, path.stem]
    return FuzzCase(opened(rng, name, folder, store), tuple(made))


def side_files(rng: Random, folder: Path, store: Path) -> FuzzCase:
    icbhi(folder, SPLIT)
    files = {"demographic_info.txt": (DEMOGRAPHICS, " "), "patient_diagnosis.csv": (DIAGNOSES, ","),
             OFFICIAL_SPLIT_FILENAME: (OFFICIAL, "\t")}  # fmt: skip
    for name, (text, separator) in files.items():
        content = encoded(rng, corrupt_lines(rng, text, separator))
        (folder / name).write_bytes(mutate_bytes(rng, content) if rng.random() < 0.5 else content)

    def run() -> None:
        database = open_database(DATABASES["icbhi"], folder, RATE_HZ, store, False)
        clean = rng.random() < 0.5
        official_icbhi(database.cycles, 0, folder, folder / OFFICIAL_SPLIT_FILENAME, clean)

    return FuzzCase(run, tuple(files))


def recordings(rng: Random, folder: Path, store: Path) -> FuzzCase:
    kind, subtype = rng.choice(FORMATS)
    content = audio(kind, subtype)
    if rng.random() < 0.3:  # a header that promises anything
        codec = rng.choice((1, 1, 2, 3, 6, 7, 17, 49, 85, 65534))
        channels, rate = rng.choice((0, 1, 2, 65535)), rng.choice((0, 1, 8000, 2**31, 2**32 - 1))
        align, bits = rng.choice((0, 1, 2, 65535)), rng.choice((0, 4, 8, 16, 24, 32, 64, 65535))
        head = struct.pack("<HHIIHH", codec, channels, rate, 8000, align, bits)
        sizes = [rng.choice((0, 16, 4000, 2**31, 2**32 - 2, 2**32 - 1)) for _ in range(2)]
        data = content[44:4044]
        content = b"RIFF" + struct.pack("<I", sizes[0]) + b"WAVEfmt " + struct.pack("<I", 16) + head
        content += b"data" + struct.pack("<I", rng.choice((sizes[1], len(data)))) + data
    if rng.random() < 0.8:
        content = mutate_bytes(rng, content, audio(*rng.choice(FORMATS)))
    if kind == "FLAC":
        root = sprsound(folder, NAMES[:1], ".flac")
        (root / "train_wav" / f"{NAMES[0]}.flac").write_bytes(content)
        return FuzzCase(opened(rng, "sprsound", root, store), known_as(NAMES[0]))
    (icbhi(folder) / f"{STEMS[1]}.wav").write_bytes(content)
    return FuzzCase(opened(rng, "icbhi", folder, store), known_as(STEMS[1]))


def event_list() -> dict[str, Any]:
    events = []
    for place, kind in enumerate(SPRSOUND_SEVEN.labels[:4]):
        events.append({"start": f"{300 * place}", "end": f"{300 * place + 250}", "type": kind})
    return {"record_annotation": "CAS", "event_annotation": events}


def sprsound(folder: Path, names: tuple[str, ...] = NAMES, suffix: str = ".wav") -> Path:
    """A valid training part."""
    for place in ("train_wav", "train_json"):
        (folder / place).mkdir()
    for name in names:
        (folder / "train_wav" / f"{name}{suffix}").write_bytes(audio(suffix[1:].upper(), "PCM_16"))
        (folder / "train_json" / f"{name}.json").write_text(json.dumps(event_list()))
    return folder


def events(rng: Random, folder: Path, store: Path) -> FuzzCase:
    content = corrupt_json(rng, event_list())
    if rng.random() < 0.4:
        content = mutate_bytes(rng, content)
    (sprsound(folder) / "train_json" / f"{NAMES[1]}.json").write_bytes(content)
    return FuzzCase(opened(rng, "sprsound", folder, store), known_as(NAMES[1]))


def split_files(rng: Random, folder: Path, store: Path) -> FuzzCase:
    sets = ("train", "val", "test")
    rows = [(stem, line, name) for stem in STEMS for line, name in enumerate(sets)]
    cycles = pd.DataFrame(rows, columns=["recording", "cycle", "set"])
    text = cycles.to_csv(index=False)
    cycles["label"] = "normal"
    content = encoded(rng, corrupt_lines(rng, text, ","))
    if rng.random() < 0.5:
        content = mutate_bytes(rng, content)
    path = folder / "my.csv"
    path.write_bytes(content)

    def run() -> None:
        sets, _ = file_split(cycles, path)
        check_classes(cycles["label"], sets, FOUR_CLASS.labels)

    return FuzzCase(run, ("my.csv", "split.file"))


def archives(rng: Random, folder: Path, store: Path) -> FuzzCase:
    buffer = io.BytesIO()
    with zipfile.ZipFile(
        buffer, "w", rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
    ) as archive:
        for stem in STEMS[:2]:
            elsewhere = rng.choice(("../", "/", "C:\\", "a/../../"))
            name = f"ICBHI/{stem}" if rng.random() < 0.8 else elsewhere + stem
            archive.writestr(f"{name}.wav", audio("WAV", "PCM_U8"))
            archive.writestr(f"{name}.txt", ANNOTATION)
    content = buffer.getvalue()
    path = folder / "my.zip"
    path.write_bytes(mutate_bytes(rng, content) if rng.random() < 0.9 else content)
    return FuzzCase(lambda: download_database("icbhi", folder / "to", str(path)), ("my.zip",))


def line(rng: Random, *swept: str) -> list[str]:
    """A command line: valid words, mostly with some of them mutated."""
    chosen = [*rng.sample(LINES, rng.randint(1, 3)), *swept]
    words = [word for words in chosen for word in ([words] if "'" in words else words.split(" "))]
    for _ in range(rng.choice((0, 1, 1, 2, 3))):
        place = rng.randrange(len(words))
        word = words[place]
        key, equals, value = word.partition("=")
        odd = rng.choice(NUMBERS + TEXTS + WORDS)
        other_bytes = mutate_bytes(rng, word.encode(errors="replace"))
        changed = rng.choice((
            key + equals + odd, key + odd + equals + value, word + odd, f"{key}={value},{odd}",
            f"{key}={odd},{value}", key + equals + value[: rng.randint(0, len(value))],
            word.replace(".", odd, 1), key[:-1] + equals + value,
            other_bytes.decode(errors="surrogateescape"),
        ))  # fmt: skip
        words[place] = changed.replace("\0", "")  # no argument of a process holds one
    return words


def train_lines(rng: Random, folder: Path, store: Path) -> FuzzCase:
    words = line(rng)
    return FuzzCase(lambda: validate_config(compose_run(words)[0]), typed(words))


def sweep_lines(rng: Random, folder: Path, store: Path) -> FuzzCase:
    words = line(rng, rng.choice(SWEPT))
    return FuzzCase(lambda: jobs.compose_jobs(expand_ellipses(words)), typed(words))


def typed(words: list[str]) -> tuple[str, ...]:
    """What names a word in a message: its key, or the word itself."""
    names = [word.partition("=")[0].strip("+~ ") or word.strip() or repr(word) for word in words]
    return tuple(names)


DATA = {
    annotations: 4, file_names: 3, side_files: 2, recordings: 6, events: 5, split_files: 4,
    archives: 2, train_lines: 2, sweep_lines: 2,
}  # fmt: skip
