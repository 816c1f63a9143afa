"""Run a study: python sweep.py [-m] key=2,3,...,10 [plan=true]; each job is a run of train.py."""

import sys

import hydra
from omegaconf import DictConfig

from lungsound.cli.command import told
from lungsound.config.ellipsis import parse_sweep_overrides


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def job(cfg: DictConfig) -> None:
    from lungsound.studies.study import run_job

    run_job(cfg)


@told
def main() -> None:
    if {"--help", "-h", "--cfg", "-c"} & set(sys.argv):
        sys.exit(job())
    words = parse_sweep_overrides(sys.argv[1:])
    from lungsound.studies.study import run_study

    run_study(words, job)


if __name__ == "__main__":
    main()
