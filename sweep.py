"""Run a study: python sweep.py [-m] key=2,3,...,10 [group=a,b] [plan=true]. Each of its jobs is a run of train.py."""

import sys

import hydra
from omegaconf import DictConfig

from lungsound.cli.command import told
from lungsound.config.ellipsis import study_words


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def job(cfg: DictConfig) -> None:
    from lungsound.studies.study import run_job

    run_job(cfg)


@told
def main() -> None:
    if {"--help", "-h", "--cfg", "-c"} & set(sys.argv):
        sys.exit(job())
    words = study_words(sys.argv[1:])
    from lungsound.studies.study import study

    study(words, job)


if __name__ == "__main__":
    main()
