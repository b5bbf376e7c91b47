"""The configs that ship with the project."""

from pathlib import Path

from iris_lightning.cli import main
from tests.conftest import REPOSITORY, assert_same_weights, fit, load


def test_tutorial_is_the_same_as_no_config(default_run: Path) -> None:
    cli = fit("--config", str(REPOSITORY / "configs" / "tutorial.yaml"))
    assert_same_weights(cli.model.state_dict(), load(default_run / "checkpoints" / "last.ckpt")["state_dict"])
    assert Path("lightning_logs/version_0/config.yaml").read_text() == (default_run / "config.yaml").read_text()


def test_standardized_beats_the_lesson(default_run: Path) -> None:
    fit("--config", str(REPOSITORY / "configs" / "standardized.yaml"))
    best = load(Path("lightning_logs/version_0/checkpoints/best.ckpt"))["metrics"]
    assert best["loss/val"] < load(default_run / "checkpoints" / "best.ckpt")["metrics"]["loss/val"] / 2
    assert round(best["accuracy/val"], 4) >= 0.9


def test_the_recipe_learns_the_classes_from_noise_alone() -> None:
    config = str(REPOSITORY / "configs" / "iris_record.yaml")
    short = ["--repeats", "1", "--trainer.max_epochs", "100", "--lr_scheduler.T_max", "100"]
    result = main(["crossvalidate", "--config", config, *short])
    assert result.summary()["accuracy"]["mean"] > 0.9
