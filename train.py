"""Train and score one snapshot ensemble: python train.py [group=option] [key=value]; --help names the groups."""

import sys

import hydra
from omegaconf import DictConfig

from lungsound.config import with_environment  # which registers the schema, too


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(cfg: DictConfig) -> None:
    from hydra.core.hydra_config import HydraConfig

    from lungsound.errors import LungsoundError
    from lungsound.run import run

    try:
        run(cfg, dict(HydraConfig.get().runtime.choices))
    except LungsoundError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    sys.argv[1:] = with_environment(sys.argv[1:])
    main()
