"""The configs that ship with the project."""

from pathlib import Path

from tests.conftest import REPOSITORY, assert_same_weights, fit, load

CONFIGS = REPOSITORY / "configs"


def test_tutorial_is_the_same_as_no_config(default_run: Path) -> None:
    cli = fit("--config", str(CONFIGS / "tutorial.yaml"))
    last = load(default_run / "checkpoints" / "last.ckpt")
    assert_same_weights(cli.model.state_dict(), last["state_dict"])


def test_standardized_beats_the_lesson(default_run: Path) -> None:
    lesson = load(default_run / "checkpoints" / "best.ckpt")["metrics"]
    fit("--config", str(CONFIGS / "standardized.yaml"))
    best = load(Path("lightning_logs/version_0/checkpoints/best.ckpt"))["metrics"]
    assert best["loss/val"] < lesson["loss/val"] / 2
    assert best["accuracy/val"] > 0.89
