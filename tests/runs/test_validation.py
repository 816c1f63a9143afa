"""Configurations that cannot be run stop at once, with their key and value; the paper's contract;
every option.
"""

import re

import pytest
import torch
from hydra.errors import ConfigCompositionException
from omegaconf import OmegaConf
from support.runs import ROOT, compose_config, compose_settings

from lungsound.config.overrides import add_experiment_from_env, compose_run
from lungsound.config.schema import to_container
from lungsound.errors import ConfigError
from lungsound.runs.validation import validate_config
from lungsound.studies.jobs import compose_jobs

# The paper's contract (docs/paper.md) in this project's keys.
PAPER = {
    "split": {
        "protocol": "random", "seed": 0, "file": None, "folds": None, "fold": None, "part": None,
    },
    "segment": {"seconds": 9.0, "chunks": 2},
    "padding": {"mode": "sample"},
    "features": {
        "sample_rate": 22_000, "n_fft": 512, "hop": 512, "n_mels": 50, "f_min": 0.0,
        "f_max": 7500.0, "floor": 1e-11, "normalization": "segment", "roll": True,
        "test_rolls": 1,
    },
    "augment": {
        "stretch": "phase_vocoder", "stretch_rate": [0.9, 1.1],
        "vtlp_copies": {"normal": 1, "crackle": 3, "wheeze": 4, "both": 7},
        "vtlp_alpha": [0.9, 1.1], "vtlp_f_hi": [3200.0, 3800.0], "redraw": "once",
        "balance": 0.0, "mixup": 0.0, "band_mask": 0, "frame_mask": 0,
    },
    "model": {
        "name": "cnn7", "options": {}, "width": 1.0, "table1": "inputs", "l2": 0.001,
        "bn_momentum": 0.99, "bn_eps": 0.001, "adam_eps": 1e-7,
        "checkpoint": None, "pretrained": False,
    },
    "loss": {"gamma": 1.0, "teacher": None},
    "annealing": {
        "schedule": "cosine", "cycles": 8, "epochs_per_cycle": 20, "total_epochs": None,
        "max_lr": 1e-4, "select": "best", "monitor": "score", "continue_from": "last",
        "constant_epochs": 150,
    },
    "task": {"classes": 4},
}  # fmt: skip
SEGMENTS = (
    *("3s", "4s", "5s", "6s", "7s", "8s", "9s"),
    *("2x2s", "2x2.5s", "2x3s", "3x2s", "2x3.5s", "2x4s", "4x2s", "2x4.5s", "3x3s"),
)


def problems(*overrides: str) -> list[str]:
    """The lines of the error that these overrides end in."""
    with pytest.raises(ConfigError) as error:
        compose_settings(*overrides)
    first, *lines = str(error.value).splitlines()
    assert first == "The configuration cannot be run:"
    return lines


def options(group: str) -> list[str]:
    return sorted(path.stem for path in (ROOT / "conf" / group).glob("*.yaml"))


# --- values that cannot be run ---


# Overrides, and the message that they end in.
WRONG = [
    ("annealing.cycles=0", "annealing.cycles: .*a number from 1 to 10000, but got 0"),
    ("annealing.cycles=8 annealing.total_epochs=7", "annealing.total_epochs: .*=8.* but got 7"),
    ("segment.seconds=0.01", "segment.seconds=0.01: .* of 512 samples, but got 220 samples"),
    ("segment.seconds=0", "segment.seconds: .*above 0 and at most 3600, but got 0.0"),
    (
        "segment=9s segment.chunks=387",
        "segment.chunks: .*at most 386, .*segment.seconds=9.0.* got 387",
    ),
    ("segment=9s segment.chunks=9", "segment.seconds=9.0 in 9 chunks: .*least 45 .* but got 42"),
    ("features.n_mels=44", "features.n_mels: .*at least 45 .* but got 44"),
    ("features.f_max=11001", "features.f_max: .*features.sample_rate=22000, but got 11001.0"),
    ("features.f_min=7500", "features.f_max: .*more than features.f_min=7500.0 .* but got 7500.0"),
    ("data=icbhi", "data.root: .*but got none.* data.root=PATH.* LUNGSOUND_DATA=PATH"),
    ("split=file", "split.file: .*but got none.* split.file=PATH"),
    ("model.width=0", "model.width: .*above 0 and at most 8, but got 0.0"),
    ("model.table1=both", "model.table1: .*one of inputs, outputs, but got 'both'"),
    ("padding.mode=reflect", "padding.mode: .*one of sample, zero, tile, but got 'reflect'"),
    ("task.classes=3", "task.classes: .*one of 2, 4 for data=demo, but got 3. Add task.classes=4"),
    ("data.table=a.csv", "data.table: .*none for data=demo, but got 'a.csv'. It is for data=table"),
    ("data.labels=[a,b]", r"data.labels: .*none for data=demo, but got \['a', 'b'\]. It is for"),
    ("data.labels=[a]", r"data.labels: .*two or more different classes, but got \['a'\]"),
    ("data=table data.root=/x data.labels=[a,b,c] augment=none", "task.classes: .*one of 2, 3 for"),
    (
        "data=table data.root=/x data.labels=[a,b] task.classes=2",
        "augment.vtlp_copies: .*a, b with",
    ),
    ("split=column", "split: .*one of random, patient, file for data=demo, but got column"),
    ("trainer.batch_size=1", "trainer.batch_size: .*from 2 to .*but got 1"),
    ("model.bn_momentum=1.1", "model.bn_momentum: .*from 0 to 1, but got 1.1"),
    ("augment.stretch_rate=[1.1,0.9]", r"augment.stretch_rate: .*but got \[1.1, 0.9\]"),
    ("augment.stretch_rate=[0,1]", r"augment.stretch_rate: .*above 0, but got \[0.0, 1.0\]"),
    ("augment.stretch_rate=[1e-9,1]", r"augment.stretch_rate: .*from 0.1 to 10.0, but got \[1e-09"),
    ("augment.vtlp_alpha=[1.1,0.9]", r"augment.vtlp_alpha: .*rising .*but got \[1.1, 0.9\]"),
    ("augment.vtlp_f_hi=[3800,3200]", r"augment.vtlp_f_hi: .*but got \[3800.0, 3200.0\]"),
    ("augment.vtlp_f_hi=[3200]", r"augment.vtlp_f_hi: .*two .*but got \[3200.0\]"),
    ("augment.vtlp_f_hi=[3200,11000]", r"augment.vtlp_f_hi: .*rate=22000 .*\[3200.0, 11000.0\]"),
    ("augment.balance=2", "augment.balance: .*from 0 to 1, but got 2.0"),
    ("augment.mixup=-1", "augment.mixup: .*from 0 to 100, but got -1.0"),
    ("augment.band_mask=51", "augment.band_mask: .*at most a chunk's 50, but got 51"),
    ("augment.frame_mask=194", "augment.frame_mask: .*at most a chunk's 193, but got 194"),
    ("augment.vtlp_copies.wheeze=-1", "augment.vtlp_copies: .*but got .*'wheeze': -1"),
    ("++augment.vtlp_copies.Wheeze=9", "augment.vtlp_copies: .*, wheeze, .*but got .*'Wheeze': 9"),
    ("augment.vtlp_copies.both=1000000", "augment.vtlp_copies: .*from 0 to 1000, but got"),
    ("data.root=/icbhi", "data.root: .*none for data=demo, .*but got '/icbhi'. Add data=icbhi"),
    ("split.file=a.csv", "split.file: .*none for split=random data=demo, .*'a.csv'. It is for"),
    ("split.fold=1", "split.fold: .*none for split=random .*got 1. It is for split=patient"),
    ("split.part=inter", "split.part: .*none for split=random .*got 'inter'. It is for"),
    ("data.demo_patients=700", "data.demo_patients: .*from 1 to 699, but got 700"),
    ("data.demo_cycles=35", "data.demo_cycles: .*data.demo_patients=36, but got 35"),
    ("seed=99999999999999", "seed: .*from 0 to 4294967295, but got 99999999999999"),
    ("trainer.matmul_precision=tf32", "trainer.matmul_precision: .*high, medium, but got 'tf32'"),
    ("trainer=cpu trainer.precision=16-mixed", "trainer.precision: .*on a CPU, but got '16-mixed'"),
    # Values that are no numbers, or would fill the memory.
    ("segment.seconds=inf", "segment.seconds: .*but got inf"),
    ("annealing.max_lr=inf", "annealing.max_lr: .*but got inf"),
    ("model.width=nan", "model.width: .*but got nan"),
    ("loss.gamma=inf", "loss.gamma: .*but got inf"),
    ("features.n_mels=1000000", "features.n_mels: .*but got 1000000"),
    ("segment.seconds=1e9", "segment.seconds: .*but got 1000000000.0"),
    ("model.width=1000", "model.width: .*but got 1000.0"),
    ("data.demo_cycles=1000000000", "data.demo_cycles: .*but got 1000000000"),
    ("annealing.cycles=1000000000", "annealing.cycles: .*but got 1000000000"),
    # `+plan=true`, Hydra's own advice after train.py plan=true, would train, perhaps for days.
    ("+typo=1", "typo: expected a key that there is"),
    ("+data.typo=1", "data.typo: expected a key that there is"),
    ("+annealing.typo=1", "annealing.typo: expected a key that there is"),
]


@pytest.mark.parametrize(("overrides", "message"), WRONG)
def test_a_value_that_cannot_be_run_is_named_with_its_key(overrides: str, message: str) -> None:
    (problem,) = problems(*overrides.split())
    assert re.match(f"  - {message}", problem)
    assert ": expected " in problem


def test_a_gpu_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    (problem,) = problems("trainer=gpu")
    assert problem.startswith("  - trainer.accelerator: expected a GPU, but got none ")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert compose_settings("trainer=gpu").trainer.accelerator == "gpu"


@pytest.mark.parametrize(
    "overrides",
    [
        "annealing.cycles=0 model.width=-1 padding.mode=reflect loss.gamma=-0.5",
        "data.root=/x split.file=x annealing.total_epochs=1 features.f_max=12000",
    ],
)
def test_all_problems_come_together(overrides: str) -> None:
    keys = {override.partition("=")[0] for override in overrides.split()}
    assert {line.partition(":")[0].strip(" -") for line in problems(*overrides.split())} == keys


@pytest.mark.parametrize(
    "overrides",
    [
        "annealing.cycles=8 annealing.total_epochs=8",
        "segment=9s segment.chunks=8",  # 48 frames each
        "features.n_mels=45",
        "features.f_max=11000",
        "trainer.batch_size=2",
        "augment.vtlp_f_hi=[9000,10500]",
        "augment=none features.sample_rate=7000 features.f_max=3500",  # nothing is warped
        "augment.stretch_rate=[1,1]",
        "data=icbhi data.root=/icbhi split=file split.file=split.csv",
    ],
)
def test_the_last_value_that_can_be_run(overrides: str) -> None:
    cfg, _ = compose_config(*overrides.split())
    assert to_container(validate_config(cfg)) == OmegaConf.to_container(cfg, resolve=True)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("annealing.cycle=8", "annealing.cycle"),
        ("snapshots=8", "snapshots"),
        ("segment=10s", "segment/10s.*Available options.*2x4.5s"),
        ("experiment=papers", "experiment/papers.*Available options.*paper"),
        ("annealing.cycles=abc", "abc.*Integer.*annealing.cycles"),
        ("annealing.cycles=2.5", "2.5.*Integer.*annealing.cycles"),
        ("annealing.cycles=null", "annealing.cycles"),
        ("features.roll=maybe", "maybe.*bool.*features.roll"),
        ("augment.vtlp_alpha=[0.9,high]", "high.*Float.*vtlp_alpha"),
    ],
)
def test_hydra_refuses_unknown_keys_options_and_wrong_types(override: str, said: str) -> None:
    with pytest.raises(ConfigCompositionException) as error:
        compose_config(override)
    # Hydra says one half in its own message, omegaconf the other in the cause.
    assert re.search(said, f"{error.value} {error.value.__cause__}", re.DOTALL)


# --- the options ---


def test_the_paper_is_what_its_contract_says() -> None:
    cfg, choices = compose_config("experiment=paper", "data.root=/icbhi")
    validate_config(cfg)
    resolved = OmegaConf.to_container(cfg, resolve=True)
    assert {group: resolved[group] for group in PAPER} == PAPER
    assert (resolved["data"]["name"], resolved["data"]["root"]) == ("icbhi", "/icbhi")
    assert (resolved["trainer"]["batch_size"], resolved["trainer"]["precision"]) == (32, "32-true")
    assert (choices["segment"], choices["padding"]) == ("2x4.5s", "sample")


def test_the_baseline_is_150_epochs_at_one_rate() -> None:
    baseline = compose_settings(
        "experiment=paper", "data.root=/icbhi", "annealing=constant"
    ).annealing
    expected = PAPER["annealing"] | {"schedule": "constant"}
    assert vars(baseline) == expected


def test_segments_are_as_their_names_say() -> None:
    assert options("segment") == sorted(SEGMENTS)
    for name in SEGMENTS:
        chunks, seconds = re.fullmatch(r"(?:(\d)x)?([\d.]+)s", name).groups(default="1")
        expected = {"chunks": int(chunks), "seconds": int(chunks) * float(seconds)}
        assert OmegaConf.load(ROOT / "conf" / "segment" / f"{name}.yaml") == expected


@pytest.mark.parametrize("experiment", options("experiment"))
def test_every_segment_padding_and_model_of_an_experiment_can_be_run(experiment: str) -> None:
    for group in ("segment", "padding", "model"):
        cfg, _ = compose_config(f"experiment={experiment}")
        cfg.data.root = None if cfg.data.name == "demo" else "/database"
        for name in set(options(group)) - {"own"}:  # a user's, by its name
            option, choices = compose_config(f"{group}={name}")
            assert choices[group] == name
            cfg[group] = option[group]
            assert vars(validate_config(cfg).segment) == cfg.segment


@pytest.mark.parametrize("group", ["augment", "loss", "annealing", "task"])
def test_every_other_option_can_be_run(group: str) -> None:
    for name in options(group):
        sprsound = ("data=sprsound", "data.root=/sprsound") if "sprsound" in name else ()
        cfg, choices = compose_config(f"{group}={name}", *sprsound)
        assert to_container(validate_config(cfg)) == OmegaConf.to_container(cfg, resolve=True)
        assert choices[group] == name


# --- the machine's defaults ---


def test_the_environment_names_the_experiment_where_the_command_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert add_experiment_from_env(["padding=zero"]) == ["padding=zero"]
    monkeypatch.setenv("LUNGSOUND_EXPERIMENT", "paper")
    assert set(add_experiment_from_env(["padding=zero"])) == {"padding=zero", "experiment=paper"}
    for named in ("experiment=demo", "+experiment=demo"):
        assert add_experiment_from_env([named, "padding=zero"]) == [named, "padding=zero"]
    assert "experiment=paper" in add_experiment_from_env(["tracking.experiment=trial"])
    monkeypatch.setenv("LUNGSOUND_EXPERIMENT", "")
    assert add_experiment_from_env(["padding=zero"]) == ["padding=zero"]


def test_a_machines_defaults_are_the_paper(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LUNGSOUND_EXPERIMENT", "paper")
    monkeypatch.setenv("LUNGSOUND_DATA", "/from/the/environment")
    cfg, choices = compose_config(*add_experiment_from_env(["padding=zero"]))
    assert choices["experiment"] == "paper"
    found = validate_config(cfg)
    data = found.data
    assert (data.name, data.root, found.padding.mode) == ("icbhi", "/from/the/environment", "zero")
    assert compose_settings("experiment=paper", "data.root=/typed").data.root == "/typed"
    assert compose_settings("experiment=demo").data.name == "demo"


# --- command lines that Hydra cannot read ---


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["no.such.key=1"], "no.such.key=1"),
        (["data=none"], "data=none"),
        (["seed"], "got seed: "),
        ([""], "got '': "),
        (["seed=[1"], "seed=[1"),
        (["seed=" + "9" * 5000], "Exceeds the limit"),
        (["seed=" + "[" * 2000], "seed=[[["),
        (["data=" + "a" * 3000], "data=aaa"),
        (["split=-1"], "expected the name of an option of split, but got -1"),
        (["segment=[9]"], "segment=[9]"),
        (["segment=true"], "expected the name of an option of segment, but got True"),
    ],
)
def test_a_word_that_hydra_cannot_read_is_one_of_our_errors(words: list[str], said: str) -> None:
    with pytest.raises(ConfigError) as error:
        compose_run(words)
    (line,) = str(error.value).splitlines()
    assert said in line


def test_a_value_that_leads_nowhere_is_named() -> None:
    for word in ("seed=${oc.env:LUNGSOUND_NO_SUCH_NAME}", "seed=???"):
        with pytest.raises(ConfigError, match=r"(?s)cannot be run.*seed"):
            compose_settings(word)


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["seed=range(0,1000000000)"], "more than 10000"),
        (["seed=range(0,101)", "split.seed=range(0,100)"], "more than 10000"),
        (["seed=range(5,1)"], "none"),
        (["segment=glob(x*)"], "none"),
    ],
)
def test_a_sweep_of_too_many_jobs_is_refused(words: list[str], found: str) -> None:
    message = f"from 1 to 10000 jobs, but these overrides make {found}$"
    with pytest.raises(ConfigError, match=message):
        compose_jobs(words)


def test_values_in_a_random_order_are_refused() -> None:
    """Hydra would shuffle them anew, so that the jobs have other numbers than in the plan."""
    with pytest.raises(ConfigError, match=r"^seed=shuffle.*: expected values without shuffle"):
        compose_jobs(["seed=shuffle(range(0,1000000000000))"])


def test_a_pattern_stands_for_the_options_it_fits() -> None:
    jobs = compose_jobs(["segment=glob(2x*)"])
    expected = [name for name in options("segment") if name.startswith("2x")]
    assert [job.choices["segment"] for job in jobs] == expected
