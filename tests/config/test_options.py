"""Groups of options, as Hydra composes them."""

from pathlib import Path

from support.runs import compose_config


def test_what_an_option_sets_is_not_taken_back(tmp_path: Path) -> None:
    """config.yaml has blocks for some groups, with the values of options that lack a key."""
    for group, text in {
        "augment": "defaults: [paper]\nmixup: 0.4\n",
        "trainer": "defaults: [auto]\nbatch_size: 7\n",
    }.items():
        (tmp_path / group).mkdir()
        (tmp_path / group / "mine.yaml").write_text(text)
    cfg, _ = compose_config(f"hydra.searchpath=[file://{tmp_path}]", "augment=mine", "trainer=mine")
    assert (cfg.augment.mixup, cfg.augment.band_mask) == (0.4, 0)
    assert (cfg.trainer.batch_size, cfg.trainer.accelerator) == (7, "auto")
