"""What spares time changes no result."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml

from iris_lightning.cli import main
from tests.conftest import assert_same_weights, fails, fit, load


@pytest.fixture
def two_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What torch has where the environment says nothing, on a machine with two cores."""
    monkeypatch.delenv("OMP_NUM_THREADS")
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def used(number: int) -> int:
    environment = yaml.safe_load(Path(f"lightning_logs/version_{number}/environment.yaml").read_text())
    return int(environment["threads"])


@pytest.mark.usefixtures("two_threads")
def test_threads_follow_the_size_of_a_batch_unless_a_user_says_otherwise(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    once = ["--trainer.max_epochs", "1"]
    fit(*once)
    fit(*once, "--data.batch_size", "8192")
    fit(*once, "--threads", "2")
    fit(*once, "--threads", "1", "--data.batch_size", "8192")
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    fit(*once)
    assert [used(number) for number in range(5)] == [1, 2, 2, 1, 2]
    assert torch.get_num_threads() == 2, "as before"
    weights = [load(Path(f"lightning_logs/version_{number}/checkpoints/last.ckpt"))["state_dict"] for number in (0, 2)]
    assert_same_weights(*weights)
    for value in ("0", "-1"):
        assert f"--threads: expected a whole number from 1, got {value}" in fails(capsys, "fit", f"--threads={value}")
    assert "--threads: has no effect in crossvalidate" in fails(capsys, "crossvalidate", "--threads", "2")


def test_a_resumed_run_may_have_other_threads() -> None:
    fit("--trainer.max_epochs", "1", "--threads", "2")
    main(["fit", "--ckpt_path", "last", "--trainer.max_epochs", "2", "--threads", "1"])
    main(["test", "--threads", "1"])


def test_a_users_profiler_measures(caplog: pytest.LogCaptureFixture) -> None:
    fit("--trainer.max_epochs", "1", "--trainer.profiler", "simple")
    assert "run_training_epoch" in caplog.text
