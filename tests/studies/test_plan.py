"""Before the first job: what the words of a command come to, what is refused, shared and to do."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from support.runs import ROOT, SMALL_RUN_OVERRIDES

import lungsound.runs.build
import lungsound.runs.estimate
import lungsound.runs.trajectory_key
import lungsound.studies.study
from lungsound.config.overrides import compose_run, hydra_initialized
from lungsound.errors import ConfigError, DataError, LungsoundError, StorageError
from lungsound.runs.inputs import build_database, build_inputs
from lungsound.runs.validation import validate_config
from lungsound.studies.jobs import compose_jobs, expand_jobs
from lungsound.studies.plan import (
    REPORT_SECONDS,
    count_items,
    estimate_cost,
    format_cost,
    format_plan,
    job_work,
    plan_jobs,
)
from lungsound.studies.study import study_folder, work_by_run
from lungsound.training.progress import format_duration
from lungsound.training.schedule import Annealing


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_all_jobs_are_checked_before_the_first(
    sweep: Callable[..., Path], tmp_path: Path, trained_epochs: list[int]
) -> None:
    with pytest.raises(ConfigError) as error:
        sweep("annealing.cycles=2,0,3", "segment=2x2s,17s")
    lines = str(error.value).splitlines()
    assert lines[0] == "4 of 6 jobs cannot be run; none was begun:"
    assert sum("annealing.cycles: expected a number from 1 to" in line for line in lines) == 1
    assert sum("17s" in line for line in lines) == 3
    assert not (tmp_path / "outputs").exists()
    assert not trained_epochs


def test_jobs_that_their_data_refuse_are_all_named(
    sweep: Callable[..., Path], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError) as error:
        sweep("split=patient", "split.folds=3,50,60", "plan=true")
    first, *lines = str(error.value).splitlines()
    assert first == "2 of 3 jobs cannot be run; none was begun:"
    assert [line.split(": ")[0] for line in lines] == ["  - split.folds=50", "  - split.folds=60"]
    assert "at least 60 patients" in lines[1]
    with pytest.raises(DataError, match=r"^No ICBHI recordings at"):  # once, not for every job
        sweep("data=icbhi", f"data.root={tmp_path / 'nothing'}", "seed=1,2")


@pytest.mark.parametrize("word", ["nonsense=4", "--nonsense", "segment="])
def test_words_that_hydra_cannot_read_are_one_message(
    sweep: Callable[..., Path], word: str
) -> None:
    with pytest.raises(ConfigError, match=word):
        sweep("annealing.cycles=1,2", word)


@pytest.mark.parametrize(
    ("words", "error", "message"),
    [
        (["annealing.cycles=1,2", "output_dir=file/out"], StorageError, "expected a place"),
        (["output_dir=outputs,file/out"], LungsoundError, "output_dir=file/out"),  # one of the jobs
        (["tracking.uri=nonsense://here"], LungsoundError, r"tracking\.uri"),
    ],
)
def test_places_are_checked_before_any_data(
    sweep: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    error: type[Exception],
    message: str,
) -> None:
    monkeypatch.setattr("lungsound.studies.plan.build_database", lambda _: pytest.fail("begun"))
    (tmp_path / "file").write_text("")
    with pytest.raises(error, match=message):
        sweep(*words)


def test_plan_shows_which_jobs_share_a_trajectory(
    sweep: Callable[..., Path], capsys: pytest.CaptureFixture[str], trained_epochs: list[int]
) -> None:
    sweep("annealing.cycles=2,3,4", "annealing.total_epochs=9", "plan=true")  # C = 4, 3 and 2
    printed = capsys.readouterr().out
    assert "Trajectories: 3." in printed
    assert "25 epochs if each job trained alone; 25 are to be trained, 0 are not" in printed
    sweep("annealing.cycles=4,5", "annealing.total_epochs=11", "plan=true")  # C = 2 for both
    assert "18 epochs if each job trained alone; 10 are" in capsys.readouterr().out
    sweep("annealing.cycles=2,3,4,5,6,7,8,9,10", "plan=true")
    assert "54 epochs if each job trained alone; 10 are" in capsys.readouterr().out
    assert not trained_epochs


def test_two_jobs_of_one_run_are_the_work_of_both() -> None:
    jobs = plan_jobs([*SMALL_RUN_OVERRIDES, "trainer.num_workers=0,1"])
    first, second = job_work(jobs)
    assert jobs[0].folder.path == jobs[1].folder.path
    assert first > second > 0  # the second one finds the epochs of the first one
    assert list(work_by_run(jobs).values()) == [first + second]


def test_work_of_a_job_is_what_earlier_jobs_leave_to_it(sweep: Callable[..., Path]) -> None:
    words = [*SMALL_RUN_OVERRIDES, "segment=2x2s", "annealing.epochs_per_cycle=2"]
    jobs = plan_jobs([*words, "annealing.cycles=3,2,4"])
    train, val, test = (count_items(jobs[0], name) for name in ("train", "val", "test"))
    expected = []
    for epochs, members in [(6, 3), (0, 2), (2, 4)]:  # the second job finds all of its epochs
        evaluated = epochs * val + members * (val + test)
        expected.append((epochs * train + evaluated / 3) * 2)  # chunks of 2 s
    assert job_work(jobs) == pytest.approx(expected, abs=0.1)


def test_constant_baseline_does_not_follow_the_number_of_members(
    sweep: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """Table IV's baseline has 150 epochs for any M."""
    table4 = ("annealing.epochs_per_cycle=20", "annealing.constant_epochs=150", "plan=true")
    sweep("annealing=constant,cosine", "annealing.cycles=2,10", *table4)
    rows = re.findall(
        r"^annealing=(\S+) annealing.cycles=(\d+) +(\d+) +T", capsys.readouterr().out, re.MULTILINE
    )
    assert rows == [
        ("constant", "2", "150"),
        ("constant", "10", "150"),
        ("cosine", "2", "40"),
        ("cosine", "10", "200"),
    ]
    jobs = compose_jobs(
        ["experiment=table4", "annealing.cycles=8", "split.seed=0", "data.root=/icbhi"]
    )
    assert {Annealing(**vars(job.settings.annealing)).epochs for job in jobs} == {150, 160}


@pytest.mark.parametrize(
    ("experiment", "jobs"),
    [("table2", 10 * 2 * 16), ("table3", 10 * 9), ("table4", 10 * 2), ("table3_demo", 3 * 9)],
)
def test_the_papers_studies_have_their_jobs(experiment: str, jobs: int) -> None:
    all_jobs = expand_jobs([f"experiment={experiment}"])
    assert len(all_jobs) == jobs
    one_seed = expand_jobs([f"experiment={experiment}", "split.seed=4"])
    assert len(one_seed) == jobs // len({job["split.seed"] for job in all_jobs})


# What must make another trajectory, and what must not.
OTHER_TRAJECTORY = """
    seed=1 split.seed=1 padding=zero segment=3s features.n_mels=48 features.roll=false
    augment=none augment.redraw=epoch model.l2=0 model.table1=outputs loss=cross_entropy
    annealing.epochs_per_cycle=3 annealing.max_lr=1e-3 annealing.continue_from=best task=two_class
    trainer.precision=bf16-mixed trainer.batch_size=16 trainer.matmul_precision=high
    data.demo_seed=1 trainer.deterministic=false trainer.compile=true
"""
SAME_TRAJECTORY = """
    annealing.cycles=3 annealing.select=last annealing.monitor=loss trainer.num_workers=2
    tracking.experiment=other tracking.log_snapshots=true output_dir=elsewhere redo=true
"""


@pytest.mark.slow
def test_what_makes_another_trajectory() -> None:
    def key(*words: str) -> str:
        of_groups = [word for word in words if "." not in word]
        cfg = compose_run([*SMALL_RUN_OVERRIDES, *of_groups])[0] if of_groups else base
        cfg = OmegaConf.merge(cfg, OmegaConf.from_dotlist([w for w in words if w not in of_groups]))
        settings = validate_config(cfg)
        return build_inputs(settings, build_database(settings)).trajectory.folder.name

    with hydra_initialized():
        base, _ = compose_run(SMALL_RUN_OVERRIDES)
        usual = key()
        same = {word: key(word) for word in SAME_TRAJECTORY.split()}
        others = {word: key(word) for word in OTHER_TRAJECTORY.split()}
        # The monitor shapes the training only if the next period goes on from the best.
        best_by_loss = key("annealing.continue_from=best", "annealing.monitor=loss")
    assert same == dict.fromkeys(same, usual)
    assert len({usual, best_by_loss, *others.values()}) == len(others) + 2


@pytest.mark.parametrize(
    "name", ["training/losses.py", "runs/inputs.py", "runs/build.py", "runs/predict.py"]
)
def test_changed_source_makes_another_trajectory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Weights and probabilities, which the store keeps, follow from all of these modules."""
    copy = tmp_path / "lungsound"
    shutil.copytree(ROOT / "lungsound", copy)
    source_hash = lungsound.runs.trajectory_key.source_hash.__wrapped__  # a process keeps its first
    before = source_hash()
    monkeypatch.setattr(lungsound.runs.trajectory_key, "PACKAGE", copy)
    assert source_hash() == before
    source = (copy / name).read_text()
    (copy / name).write_text("# A comment.\n" + source.replace('"""', '"""Other words: ', 1))
    assert source_hash() == before
    (copy / name).write_text(source + "GAMMA = 1\n")
    assert source_hash() != before


@pytest.mark.slow
def test_other_data_or_other_source_are_another_study(
    finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their runs must not come into one row."""
    (demo,) = (finished_run.parents[1] / "store" / "demo").glob("[!.]*")
    root = shutil.copytree(demo, tmp_path / "mine")

    def name(seeds: str) -> str:
        words = ["experiment=tiny", "data=icbhi", f"data.root={root}", f"split.seed={seeds}"]
        return study_folder(plan_jobs(words)).name

    one = name("0,1")
    assert name("2,3") == one
    with monkeypatch.context() as patch:
        patch.setattr(lungsound.studies.study, "source_hash", lambda: "other")
        assert name("0,1") != one
    annotations = max(root.rglob("*_*.txt"), key=lambda path: len(path.read_text().splitlines()))
    annotations.write_text("".join(annotations.read_text().splitlines(keepends=True)[:-1]))
    assert name("0,1") != one


def test_study_is_named_by_what_its_runs_are_not_by_how_they_are_made() -> None:
    def folder(*words: str) -> Path:
        return study_folder(plan_jobs([*SMALL_RUN_OVERRIDES, "padding=zero,sample", *words]))

    usual = folder()
    how = ("redo=true", "hydra/launcher=joblib", "tracking.experiment=o", "trainer.num_workers=1")
    assert folder(*how) == usual
    assert folder("segment=3s") != usual


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["loss.gamma=1,5"], "2 values of loss.gamma: 1 and 5"),  # typed for 1.5
        (
            ["padding=zero,sample", "annealing.cycles=1,2,3"],
            "3 values of annealing.cycles: 1, 2 and 3; 2 values of padding: zero and sample",
        ),
        (["seed=range(0,13)"], "13 values of seed: 0, 1, 2, ... and 12"),
    ],
)
def test_a_plan_begins_with_the_swept_values(words: list[str], line: str) -> None:
    assert format_plan(plan_jobs([*SMALL_RUN_OVERRIDES, *words])).splitlines()[0] == line


@pytest.mark.parametrize("augment", ["none", "paper"])
def test_items_are_counted_as_training_counts_them(augment: str) -> None:
    (job,) = plan_jobs([*SMALL_RUN_OVERRIDES, f"augment={augment}", "augment.stretch=none"])
    datamodule = lungsound.runs.build.build_components(job.settings).datamodule
    batches = datamodule.training_batches(1).batches
    assert count_items(job, "train") == sum(len(batch) for batch in batches)
    for name in ("val", "test"):
        segments = sum(len(batch["cycle"]) for batch in datamodule.eval_dataloader(name))
        assert count_items(job, name) == segments * job.settings.segment.chunks


def test_cost_is_of_shared_epochs_members_answers_and_reports(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lungsound.runs.estimate, "time_training_step", lambda *_: 3.0)
    jobs = plan_jobs(["experiment=tiny", "annealing.cycles=1,2"])
    train, val, test = (count_items(jobs[0], name) for name in ("train", "val", "test"))
    expected = 2 * (3 * train + val) + (1 + 2) * (val + test) + 2 * REPORT_SECONDS
    seconds, _ = estimate_cost(jobs)
    assert seconds == expected
    assert f"About {format_duration(expected)} on this machine" in format_cost(jobs)


def test_a_value_named_twice_is_remarked() -> None:
    line = "Jobs that repeat the run of another: 1."
    for values, is_named in {"0,0": True, "0,1": False}.items():
        plan = format_plan(plan_jobs([*SMALL_RUN_OVERRIDES, f"seed={values}"]))
        assert (line in plan.splitlines()) == is_named
