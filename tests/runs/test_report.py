"""The content of TensorBoard, read with its own reader."""

import time
from pathlib import Path
from typing import Any

import lightning as L
import pytest
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from torch import Tensor
from torch.nn.functional import nll_loss

from iris_lightning import IrisClassifier, IrisDataModule, TensorBoardReport, plots
from iris_lightning.cli import main
from iris_lightning.plots import Trained
from tests.conftest import curves, fit

pytestmark = [
    pytest.mark.plots,
    pytest.mark.filterwarnings("ignore:.torch.jit.trace:DeprecationWarning"),  # of `add_graph`
    pytest.mark.filterwarnings("ignore:The dirpath has changed"),
]

RUN = Path("lightning_logs/version_0")
PLOTS = {f"plots/{name}" for name in plots.PLOTS}


def events(run: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(run)).Reload()


def hyperparameters(run: Path) -> Any:
    """Reads the hyperparameters in the tab HParams."""
    from tensorboard.plugins.hparams import metadata

    content = events(run).SummaryMetadata(metadata.SESSION_START_INFO_TAG).plugin_data.content
    return metadata.parse_session_start_info_plugin_data(content).hparams


def train(
    *callbacks: L.Callback,
    model: L.LightningModule | None = None,
    ckpt_path: str | None = None,
) -> Path:
    """Trains with a plain Trainer, and returns the run's folder."""
    logger = TensorBoardLogger(".", default_hp_metric=False)
    trainer = L.Trainer(
        max_epochs=6,
        logger=logger,
        callbacks=list(callbacks),
        log_every_n_steps=1,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    L.seed_everything(20)
    trainer.fit(model or IrisClassifier(lr=0.1), IrisDataModule(), ckpt_path=ckpt_path)
    trainer.save_checkpoint("last.ckpt")
    return Path(logger.log_dir)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, float]]:
    """Records the title and validation loss of each classifier that would be drawn."""
    found: list[tuple[str, float]] = []

    def draw(trained: Trained) -> list[Any]:
        _, targets = trained.data.tensors("val")
        loss = nll_loss(trained.predict_val().log(), targets)
        found.append((trained.title, float(loss)))
        return []

    monkeypatch.setattr("iris_lightning.runs.report.draw_all", draw)
    return found


def test_contents_of_tensorboard() -> None:
    options = ["--model.lr", "0.1", "--model.hidden", "[12]", "--lr_scheduler", "ExponentialLR"]
    fit(*options, "--lr_scheduler.gamma", "0.5", "--trainer.max_epochs", "3")
    found = events(RUN)
    assert {*found.Tags()["images"]} == PLOTS
    assert found.Tags()["graph"]
    (layout, *_) = found.Tensors("custom_scalars__config__")
    for tag in ("loss/train", "loss/val", "accuracy/train", "accuracy/val"):
        assert tag.encode() in layout.tensor_proto.string_val[0]
    row = hyperparameters(RUN)
    assert row["table"].string_value == "Iris"
    assert row["lr"].number_value == 0.1
    for setting in ("hidden [12]", "optimizer Adam", "lr_scheduler ExponentialLR"):
        assert setting in row["settings"].string_value
    assert "activation" not in row["settings"].string_value
    assert row["seed"].number_value == 20


def test_hparams_show_the_best_epoch_and_its_test_metrics() -> None:
    fit("--model.lr", "0.1", "--trainer.max_epochs", "6", "--figures", "false")
    found = curves(RUN)
    losses = [loss for _, loss in found["loss/val"]]
    best = losses.index(min(losses))
    assert best < 5
    assert found["result/epoch"] == [(5, best)]
    assert found["result/loss/val"][0][1] == pytest.approx(min(losses), abs=1e-6)
    assert found["result/loss/test"][0][1] is None
    assert "hp_metric" not in found
    time.sleep(1 - time.time() % 1)  # TensorBoard orders event files by the second they start in
    main(["test", "--ckpt_path", "last"])
    tested = main(["test"]).trainer.callback_metrics["loss/test"]
    assert curves(RUN)["result/loss/test"][1:] == [(best, pytest.approx(float(tested)))]


@pytest.mark.parametrize("checkpoint", [[], [ModelCheckpoint(monitor="loss/val")]])
def test_plots_show_the_best_kept_epoch(
    checkpoint: list[L.Callback], drawn: list[tuple[str, float]]
) -> None:
    run = train(TensorBoardReport(), *checkpoint)
    losses = [loss for _, loss in curves(run)["loss/val"]]
    epoch = losses.index(min(losses)) if checkpoint else 5
    assert losses[5] != min(losses)
    ((title, loss),) = drawn
    assert title == f"epoch {epoch}"
    assert loss == pytest.approx(losses[epoch], rel=1e-5)


def test_plots_show_the_predictions_of_a_subclass(drawn: list[tuple[str, float]]) -> None:
    class Colder(IrisClassifier):
        def forward(self, features: Tensor) -> Tensor:
            return 3 * super().forward(features)

    run = train(TensorBoardReport(), model=Colder())
    assert drawn[0][1] == pytest.approx(curves(run)["loss/val"][-1][1], rel=1e-5)


def test_resuming_a_finished_run_completes_its_report() -> None:
    train()
    run = train(TensorBoardReport(), ckpt_path="last.ckpt")
    assert {*events(run).Tags()["images"]} == PLOTS
    assert curves(run)["result/epoch"] == [(5, 5)]


def test_without_plots_or_a_tensorboard_logger(drawn: list[Trained]) -> None:
    for logger in (False, CSVLogger(".")):
        trainer = L.Trainer(
            max_epochs=1, logger=logger, callbacks=[TensorBoardReport()], log_every_n_steps=1
        )
        trainer.fit(IrisClassifier(), IrisDataModule())
    assert hyperparameters(train(TensorBoardReport(figures=False)))
    assert not drawn


def test_a_failing_plot_does_not_end_the_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("latex could not be found")

    monkeypatch.setattr("iris_lightning.plots.draw_confusion", fail)
    with pytest.warns(UserWarning, match="latex could not be found"):
        fit()
    assert (RUN / "checkpoints" / "last.ckpt").is_file()


def test_unwritable_runs_can_be_evaluated(
    capfd: pytest.CaptureFixture[str],
) -> None:
    fit("--trainer.max_epochs", "1", "--figures", "false")
    (RUN / ".lock").unlink(missing_ok=True)
    (RUN / ".lock").mkdir()
    main(["test"])
    printed = capfd.readouterr()
    assert "loss/test" in printed.out
    assert "could not be added to TensorBoard" in printed.out
