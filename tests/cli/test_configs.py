"""Configs, and those that ship with the project."""

from pathlib import Path

from tests.conftest import REPOSITORY, assert_same_weights, fit, load

CONFIGS = REPOSITORY / "configs"


def test_a_config_refines_the_optimizer_of_another(folder: Path) -> None:
    (folder / "a.yaml").write_text("optimizer: {class_path: SGD, init_args: {lr: 0.1}}")
    (folder / "b.yaml").write_text("optimizer: {init_args: {momentum: 0.9}}")
    cli = fit("--config", "a.yaml", "--config", "b.yaml", "--trainer.max_epochs", "1")
    (group,) = cli.trainer.optimizers[0].param_groups
    assert (group["lr"], group["momentum"]) == (0.1, 0.9)


def test_tutorial_is_the_same_as_no_config(default_run: Path) -> None:
    cli = fit("--config", str(CONFIGS / "tutorial.yaml"))
    last = load(default_run / "checkpoints" / "last.ckpt")
    assert_same_weights(cli.model.state_dict(), last["state_dict"])
