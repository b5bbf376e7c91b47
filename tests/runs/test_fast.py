"""What spares time changes no result."""

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
import yaml
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import CSVLogger

from iris_lightning import IrisClassifier, IrisDataModule
from iris_lightning.cli import main
from iris_lightning.runs.fast import LeanClassifier, LeanPrecision, LeanStrategy, MetricsAtOnce, NoProfiler
from iris_lightning.runs.saving import BestCheckpoint
from tests.conftest import assert_same_weights, fails, fit, load


class Hooked(Callback):
    """Halves the gradients, and notes in which order its hooks are called."""

    called: list[str]

    def __init__(self) -> None:
        Hooked.called = []
        vars(self)["on_before_backward"] = lambda *args: self.called.append("before")  # as in a `LambdaCallback`

    def on_after_backward(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.called.append("after")

    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Any) -> None:
        self.called.append("step")
        for parameter in pl_module.parameters():
            assert parameter.grad is not None
            parameter.grad /= 1 + trainer.global_step


class Clips(Callback):
    """Clips the gradients from the start of the training on."""

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        trainer.gradient_clip_val = 0.1


PLAIN: dict[str, dict[str, Any]] = {
    "by default": {},
    "hooks": {"callbacks": Hooked},
    "clipping by a callback": {"callbacks": Clips},
    "accumulation and validation within epochs": {"accumulate_grad_batches": 3, "val_check_interval": 4},
    "a check before": {"num_sanity_val_steps": 2},
    "clipping, and not each epoch validated": {"gradient_clip_val": 0.1, "check_val_every_n_epoch": 2},
    "ended within an epoch": {"max_steps": 15},
    "double precision": {"precision": "64-true"},
}


@pytest.mark.parametrize("name", PLAIN)
def test_a_fit_does_what_a_plain_trainer_does(name: str) -> None:
    options = {"max_epochs": 3, "accelerator": "cpu", "num_sanity_val_steps": 0, "log_every_n_steps": 1, **PLAIN[name]}
    typed = [f"--trainer.{option}={value}" for option, value in options.items() if option != "callbacks"]
    own = options.pop("callbacks", None)
    typed += [f"--trainer.callbacks+=tests.runs.test_fast.{own.__name__}"] if own else []
    ours = fit(*typed, "--trainer.logger+=CSVLogger", "--trainer.logger.save_dir=ours")
    called = [*Hooked.called] if own is Hooked else []
    L.seed_everything(20)
    plain = L.Trainer(
        **options,
        callbacks=[own()] if own else [],
        logger=CSVLogger("plain"),
        enable_progress_bar=False,
    )
    plain.fit(IrisClassifier(), IrisDataModule())
    assert_same_weights(ours.model.state_dict(), plain.lightning_module.state_dict())
    for kept in ("callback_metrics", "logged_metrics", "progress_bar_metrics"):
        assert getattr(ours.trainer, kept) == getattr(plain, kept), kept
        assert len(getattr(plain, kept)) == 6
    rows = [Path(root, "lightning_logs/version_0/metrics.csv").read_text() for root in ("ours", "plain")]
    assert rows[0] == rows[1]
    assert rows[0].count("\n") >= 4
    if called:
        assert called == Hooked.called == ["before", "after", "step"] * plain.global_step


def test_what_spares_time_is_in_use() -> None:
    cli = fit("--trainer.max_epochs", "1")
    trainer: Any = cli.trainer
    used = trainer.profiler, trainer.strategy, trainer.precision_plugin, cli.model, cli.model.val_metrics
    assert [type(item) for item in used] == [NoProfiler, LeanStrategy, LeanPrecision, LeanClassifier, MetricsAtOnce]
    assert isinstance(vars(BestCheckpoint)["state_key"], cached_property)


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
    for value in ("0", "-1", "1000000000"):
        assert f"--threads: expected a whole number from 1 to 256, got {value}" in fails(
            capsys, "fit", f"--threads={value}"
        )
    assert "--threads: has no effect in crossvalidate" in fails(capsys, "crossvalidate", "--threads", "2")


def test_a_resumed_run_may_have_other_threads() -> None:
    fit("--trainer.max_epochs", "1", "--threads", "2")
    main(["fit", "--ckpt_path", "last", "--trainer.max_epochs", "2", "--threads", "1"])
    main(["test", "--threads", "1"])


def test_a_users_profiler_measures(caplog: pytest.LogCaptureFixture) -> None:
    fit("--trainer.max_epochs", "1", "--trainer.profiler", "simple")
    assert "run_training_epoch" in caplog.text
