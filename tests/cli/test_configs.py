"""The configs that ship with the project."""

from pathlib import Path

from tests.conftest import REPOSITORY, assert_same_weights, fit, load

CONFIGS = REPOSITORY / "configs"


def test_tutorial_is_the_same_as_no_config(default_run: Path) -> None:
    cli = fit("--config", str(CONFIGS / "tutorial.yaml"))
    last = load(default_run / "checkpoints" / "last.ckpt")
    assert_same_weights(cli.model.state_dict(), last["state_dict"])
