"""Train and score one snapshot ensemble: python train.py [group=option] [key=value]."""

import sys

import hydra
from omegaconf import DictConfig

from lungsound.cli.command import told
from lungsound.config.overrides import parse_train_overrides  # which registers the schema, too


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
@told  # inside Hydra, which would show an error of ours as its own
def hydra_main(cfg: DictConfig) -> None:
    from hydra.core.hydra_config import HydraConfig

    from lungsound.runs.run import run

    run(cfg, dict(HydraConfig.get().runtime.choices))


@told
def main() -> None:
    sys.argv[1:] = parse_train_overrides(sys.argv[1:])
    hydra_main()


if __name__ == "__main__":
    main()
