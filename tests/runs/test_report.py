"""What TensorBoard shows of runs, asked from a server of its own."""

import contextlib
import errno
import io
import json
import math
import os
import re
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from PIL import Image
from torch.nn.functional import cross_entropy, nll_loss

from iris_lightning import IrisClassifier, IrisDataModule, IrisNetwork, TensorBoardReport
from iris_lightning.cli import main
from tests.conftest import curves, fails, fit, load

pytestmark = pytest.mark.pictures

REGIONS = ["sepal length (cm)", "sepal width (cm)", "petal length (cm)", "petal width (cm)"]
PICTURES = {"pictures/confusion", "pictures/reliability"} | {
    f"pictures/regions {one}, {other}" for i, one in enumerate(REGIONS) for other in REGIONS[i + 1 :]
}
QUIET: dict[str, Any] = {"enable_progress_bar": False, "enable_model_summary": False, "log_every_n_steps": 1}
Ask = Callable[..., Any]
DEFAULT, NAMED, FOLDS, PLAIN = "version_0", "wide/version_1", "version_2", "plain"


def next_second() -> None:
    """Waits for another name of an event file: TensorBoard reads those of a run in the order of their names."""
    time.sleep(1 - time.time() % 1)


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of `fit` (one resumed and tested), `crossvalidate`, and of a Trainer of one's own."""
    root = tmp_path_factory.mktemp("report")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        fit()
        how = ["--model.hidden", "[12]", "--model.activation", "relu", "--model.standardize", "true"]
        how += ["--lr_scheduler", "ExponentialLR", "--lr_scheduler.gamma", "0.5", "--trainer.max_epochs", "4"]
        fit("--name", "wide", "--model.lr", "0.1", *how, "--trainer.callbacks+=LearningRateMonitor")
        next_second()
        main(["test", "--ckpt_path", "last"])
        next_second()
        fit("--ckpt_path", "last", "--trainer.max_epochs", "8")
        next_second()
        main(["test"])
        main(["crossvalidate", "--folds", "3", "--repeats", "2"])
        own = ModelCheckpoint(monitor="loss/val")
        logger = TensorBoardLogger(root, name="lightning_logs", version="plain")
        trainer = L.Trainer(
            max_epochs=2,
            logger=logger,
            callbacks=[TensorBoardReport(), own],
            log_every_n_steps=1,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        L.seed_everything(20)
        trainer.fit(IrisClassifier(), IrisDataModule())
    return root / "lightning_logs"


@pytest.fixture(scope="module")
def ask(logs: Path) -> Iterator[Ask]:
    """Asks the server's HTTP interface for data."""
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(logs), "--host", "127.0.0.1", "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stderr is not None
            address = next(found[0] for line in server.stderr if (found := re.search(r"http://127.0.0.1:\d+", line)))

            def get(path: str, body: Any = None, **query: Any) -> Any:
                url = f"{address}/data/{path}?{urllib.parse.urlencode(query)}"
                data = None if body is None else json.dumps(body).encode()
                request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
                with urllib.request.urlopen(request, timeout=30) as answer:
                    content = answer.read()
                return json.loads(content) if answer.headers.get_content_type() == "application/json" else content

            for _ in range(120):  # it loads in the background
                if len(get("plugin/images/tags")) == 4 and len(get("plugin/text/tags")) == 3:
                    break
                time.sleep(0.25)
            yield get
        finally:
            server.terminate()


def points(ask: Ask, run: str, tag: str) -> list[tuple[int, float]]:
    return [(step, value) for _, step, value in ask("plugin/scalars/scalars", run=run, tag=tag)]


def check_everything_is_on_the_tab_where_it_is_expected(ask: Ask) -> None:
    active = {name for name, plugin in ask("plugins_listing").items() if plugin["enabled"]}
    assert active == {"timeseries", "scalars", "custom_scalars", "images", "graphs", "text", "hparams"}
    assert set(ask("runs")) == {DEFAULT, NAMED, FOLDS, PLAIN}


def check_curves_have_a_point_for_each_epoch(ask: Ask) -> None:
    for run, epochs in ((DEFAULT, 5), (NAMED, 8), (PLAIN, 2)):
        for name in ("loss", "accuracy", "macro_f1"):
            for split in ("train", "val"):
                assert [step for step, _ in points(ask, run, f"{name}/{split}")] == [*range(epochs)]


def check_accuracy_and_loss_are_the_first_two_groups(ask: Ask) -> None:
    scalars, images = ask("plugin/scalars/tags"), ask("plugin/images/tags")
    groups = {tag.partition("/")[0] for run in (DEFAULT, NAMED) for tag in {**scalars[run], **images[run]}}
    assert sorted(groups)[:2] == ["accuracy", "loss"]


def check_learning_rates_are_against_the_epoch(ask: Ask) -> None:
    found = {tag: dict(points(ask, NAMED, tag)) for tag in ("lr", "lr-Adam")}
    expected = {epoch: 0.1 * 0.5**epoch for epoch in range(8)}
    assert found["lr"] == pytest.approx(expected)
    assert len(points(ask, NAMED, "lr")) == 8
    assert found["lr-Adam"] == pytest.approx(expected)
    assert "lr" not in ask("plugin/scalars/tags")[DEFAULT]


def check_train_and_val_are_on_one_chart(ask: Ask) -> None:
    layout = {category["title"]: category["chart"] for category in ask("plugin/custom_scalars/layout")["category"]}
    charts = {chart["title"]: chart["margin"]["series"] for chart in layout["train and validation"]}
    assert list(charts) == ["loss: ■ train, ◆ validation", "accuracy: ■ train, ◆ validation"]
    for name, series in zip(("loss", "accuracy"), charts.values(), strict=True):
        tags = [f"{name}/train", f"{name}/val"]
        assert [{*one.values()} for one in series] == [{tag} for tag in tags]
        for run in (DEFAULT, NAMED, FOLDS, PLAIN):
            assert {*tags} < {*ask("plugin/scalars/tags")[run]}


def session_groups(ask: Ask) -> dict[str, tuple[dict[str, Any], dict[str, float]]]:
    states = [f"STATUS_{state}" for state in ("UNKNOWN", "SUCCESS", "FAILURE", "RUNNING")]
    body = {"experimentName": "", "allowedStatuses": states, "colParams": [], "startIndex": 0, "sliceSize": 100}
    return {
        group["name"]: (group["hparams"], {item["name"]["tag"]: item["value"] for item in group["metricValues"]})
        for group in ask("plugin/hparams/session_groups", body)["sessionGroups"]
    }


def check_hparams_have_a_row_for_each_run_with_its_best_epoch_and_test(ask: Ask, logs: Path) -> None:
    columns = ask("plugin/hparams/experiment", {"experimentName": "", "includeMetrics": True})
    names = [metric["displayName"] for metric in columns["metricInfos"]]
    assert names == ["best loss/val", "its accuracy/val", "its epoch", "loss/test", "accuracy/test", "epochs"]
    rows = session_groups(ask)
    assert rows.keys() == {DEFAULT, NAMED, PLAIN}
    options, _ = rows[NAMED]
    assert {info["name"] for info in columns["hparamInfos"]} == options.keys()
    settings = "activation relu, standardize, lr_scheduler ExponentialLR"
    assert options == {"batch_size": 10, "hidden": "[12]", "lr": 0.1, "settings": settings}
    assert rows[DEFAULT][0] == {"batch_size": 10, "hidden": "[16, 8]", "lr": 0.001, "settings": "as in the lesson"}
    for run, (_, metrics) in rows.items():
        losses, accuracies = (dict(points(ask, run, f"{name}/val")) for name in ("loss", "accuracy"))
        best = min(losses, key=lambda epoch: losses[epoch])
        assert metrics["result/loss_val"] == losses[best], run
        assert (metrics["result/accuracy_val"], metrics["result/epoch"]) == (accuracies[best], best)
        assert metrics["result/epochs"] == len(losses)
        assert ("result/loss_test" in metrics) == (run == NAMED)
        assert "hp_metric" not in metrics
    assert rows[NAMED][1]["result/loss_test"] == curves(logs / NAMED)["loss/test"][-1][1]
    assert curves(logs / NAMED)["loss/test"][-1][0] == load(logs / NAMED / "checkpoints/best.ckpt")["epoch"]


def check_the_pictures_of_the_best_epoch_are_there_and_not_blank(ask: Ask) -> None:
    tags = ask("plugin/images/tags")
    assert {run: set(found) for run, found in tags.items()} == {
        DEFAULT: PICTURES,
        NAMED: PICTURES,
        PLAIN: PICTURES,
        FOLDS: {"pictures/confusion", "pictures/folds"},
    }
    for run in (NAMED, FOLDS):
        for tag in tags[run]:
            pictures = ask("plugin/images/images", run=run, tag=tag, sample=0)
            assert [picture["step"] for picture in pictures[:-1]] == [3] * (len(pictures) - 1)  # before it was resumed
            content = urllib.parse.parse_qs(pictures[-1]["query"])
            image = Image.open(
                io.BytesIO(ask("plugin/images/individualImage", **{k: v[0] for k, v in content.items()}))
            )
            assert min(image.size) >= 240
            assert len(image.convert("RGB").getcolors(2**24) or []) > 50, (run, tag)
    assert ask("plugin/images/images", run=NAMED, tag="pictures/confusion", sample=0)[-1]["step"] == 7


def check_the_graph_names_the_layers(ask: Ask) -> None:
    graph = ask("plugin/graphs/graph", run=NAMED, limit_attr_size=1024, large_attrs_key="_")
    names = re.findall(r'name: "(.*)"', graph.decode())
    assert names == ["features", "scale", "0_Linear", "1_ReLU", "2_Linear", "logits"]


def check_the_text_is_a_table_of_options_and_result(ask: Ask) -> None:
    text = ask("plugin/text/text", run=NAMED, tag="run/text_summary")[-1]
    cells = re.findall(r"<td[^>]*>(.*?)</td>", text["text"])
    table = dict(zip(cells[::2], cells[1::2], strict=True))
    expected = {"lr": "0.1", "hidden": "[12]", "activation": "relu", "standardize": "True", "seed": "20", "epochs": "8"}
    assert {name: table[name] for name in expected} == expected
    assert (table["optimizer"], table["lr_scheduler"], table["table"]) == ("Adam", "ExponentialLR", "Iris")
    best = min(loss for _, loss in points(ask, NAMED, "loss/val"))
    assert float(table["best loss/val"]) == pytest.approx(best, rel=1e-5)


def test_what_a_server_shows(ask: Ask, logs: Path) -> None:
    # One test, since pytest's other worker would start a server of its own.
    check_everything_is_on_the_tab_where_it_is_expected(ask)
    check_curves_have_a_point_for_each_epoch(ask)
    check_accuracy_and_loss_are_the_first_two_groups(ask)
    check_learning_rates_are_against_the_epoch(ask)
    check_train_and_val_are_on_one_chart(ask)
    check_hparams_have_a_row_for_each_run_with_its_best_epoch_and_test(ask, logs)
    check_the_pictures_of_the_best_epoch_are_there_and_not_blank(ask)
    check_the_graph_names_the_layers(ask)
    check_the_text_is_a_table_of_options_and_result(ask)


def test_without_a_tensorboard_logger_nothing_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Any] = []

    def draw(*of: Any) -> list[Any]:
        drawn.append(of)
        return []

    monkeypatch.setattr("iris_lightning.runs.report.draw_classifier", draw)
    for logger in (False, CSVLogger(".")):
        trainer = L.Trainer(max_epochs=1, logger=logger, callbacks=[TensorBoardReport()], **QUIET)
        trainer.fit(IrisClassifier(), IrisDataModule())
    fit("--figures", "false")
    fit("--trainer.logger", "false")
    assert not drawn
    fit()
    assert drawn


def test_without_matplotlib_nothing_fails(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("iris_lightning.plots.find_spec", lambda name: None)
    fit()
    assert capsys.readouterr().out.splitlines()[-1] == "no pictures: matplotlib is not installed"
    main(["crossvalidate", "--folds", "2", "--repeats", "1", "--trainer.max_epochs", "1"])
    with pytest.raises(SystemExit) as stop:
        main(["plot"])
    assert stop.value.code == 2
    assert "matplotlib" in capsys.readouterr().err


def run_of(logger: TensorBoardLogger) -> dict[str, list[tuple[int, float]]]:
    return curves(Path(str(logger.log_dir)))


def test_a_run_that_its_user_ends_has_a_result() -> None:
    class Interrupt(L.Callback):
        def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
            if trainer.current_epoch == 2:
                raise KeyboardInterrupt

    logger = TensorBoardLogger(".")
    trainer = L.Trainer(max_epochs=4, logger=logger, callbacks=[TensorBoardReport(), Interrupt()], **QUIET)
    with contextlib.suppress(SystemExit):
        trainer.fit(IrisClassifier(), IrisDataModule())
    found = run_of(logger)
    assert found["result/loss_val"] == found["loss/val"][-1:]
    assert (found["result/epoch"], found["result/epochs"]) == ([(1, 1)], [(1, 2)])


@pytest.mark.parametrize("checkpoint", [{}, {"monitor": "loss/val", "mode": "max"}, {"save_weights_only": True}])
def test_the_best_epoch_does_not_depend_on_the_checkpoints(checkpoint: dict[str, Any]) -> None:
    class Wider(IrisClassifier):
        def __init__(self) -> None:
            super().__init__(lr=0.1)
            self.temperature = torch.nn.Parameter(torch.ones(1))

    logger, report = TensorBoardLogger("."), TensorBoardReport(figures=False)
    callbacks = [report, ModelCheckpoint(**checkpoint)]
    trainer = L.Trainer(max_epochs=6, logger=logger, callbacks=callbacks, **QUIET)
    L.seed_everything(20)
    trainer.fit(Wider(), IrisDataModule())
    found = run_of(logger)
    losses = [loss for _, loss in found["loss/val"]]
    assert losses[-1] != min(losses) != losses[0]
    assert found["result/loss_val"] == [(5, min(losses))]
    assert found["result/epoch"] == [(5, losses.index(min(losses)))]
    features, targets = IrisDataModule().tensors("val")
    network = IrisNetwork()
    network.load_state_dict(report.weights)
    loss = cross_entropy(network(features), targets)
    assert float(loss.detach()) == pytest.approx(min(losses), rel=1e-5)


def test_a_resumed_trainer_names_the_epoch_that_its_pictures_are_of(monkeypatch: pytest.MonkeyPatch) -> None:
    titles: list[str] = []

    def draw(*of: Any) -> list[Any]:
        titles.append(of[-1])
        return []

    monkeypatch.setattr("iris_lightning.runs.report.draw_classifier", draw)
    for epochs, checkpoint in ((6, None), (7, "last.ckpt")):
        logger = TensorBoardLogger(".")
        trainer = L.Trainer(max_epochs=epochs, logger=logger, callbacks=[TensorBoardReport()], **QUIET)
        L.seed_everything(20)
        trainer.fit(IrisClassifier(lr=0.1), IrisDataModule(), ckpt_path=checkpoint)
        trainer.save_checkpoint("last.ckpt")
    assert run_of(logger)["result/epoch"] == [(6, 4)], "the best epoch is that of before"
    assert titles == ["epoch 4", "epoch 6"]


def test_pictures_are_of_the_best_epoch_and_of_the_right_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Any] = []

    def draw(*of: Any) -> list[Any]:
        drawn.append(of)
        return []

    monkeypatch.setattr("iris_lightning.runs.report.draw_classifier", draw)
    fit("--optimizer", "SGD", "--optimizer.lr", "0.1", "--trainer.max_epochs", "8")
    ((predict, train, val, features, classes, title),) = drawn
    losses = [loss for _, loss in curves(Path("lightning_logs/version_0"))["loss/val"]]
    assert min(losses) != losses[-1]
    assert (len(train[1]), len(val[1]), len(features), len(classes)) == (105, 30, 4, 3)
    assert title == f"epoch {losses.index(min(losses))}"
    assert float(nll_loss(predict(val[0]).log(), val[1])) == pytest.approx(min(losses), rel=1e-5)


def test_the_row_has_no_test_metrics_of_another_epoch() -> None:
    logger = TensorBoardLogger(".")
    trainer = L.Trainer(max_epochs=6, logger=logger, callbacks=[TensorBoardReport(figures=False)], **QUIET)
    L.seed_everything(20)
    model, data = IrisClassifier(lr=0.1), IrisDataModule()
    trainer.fit(model, data)
    assert run_of(logger)["result/epoch"][-1][1] < 5
    trainer.test(model, data, verbose=False)
    assert "loss/test" in run_of(logger)
    assert "result/loss_test" not in run_of(logger)


def test_a_report_begins_anew_with_each_training() -> None:
    report = TensorBoardReport(figures=False)
    for epochs, hidden in ((6, [16, 8]), (2, [4])):
        logger = TensorBoardLogger(".")
        L.Trainer(max_epochs=epochs, logger=logger, callbacks=[report], **QUIET).fit(
            IrisClassifier(hidden=hidden), IrisDataModule()
        )
    assert run_of(logger)["result/loss_val"][-1][1] == min(loss for _, loss in run_of(logger)["loss/val"])


def test_a_module_of_another_kind_and_one_without_optimizer() -> None:
    class Other(L.LightningModule):
        def training_step(self, batch: Any, batch_idx: int) -> None:
            return None

        def configure_optimizers(self) -> None:
            return None

    class Untrained(IrisClassifier):
        def configure_optimizers(self) -> Any:
            return None

    for model in (Other(), Untrained()):
        callback = TensorBoardReport(figures=False)
        L.Trainer(max_epochs=1, logger=TensorBoardLogger("."), callbacks=[callback], **QUIET).fit(
            model, IrisDataModule()
        )


def test_a_run_that_cannot_be_written_to_is_evaluated_all_the_same(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    fit("--trainer.max_epochs", "1")
    run = Path("lightning_logs/version_0")
    before = sorted(run.iterdir())

    def refuse(path: Path) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    monkeypatch.setattr("iris_lightning.runs.report.atomic_write", refuse)
    main(["test"])
    printed = capfd.readouterr()
    assert "cannot be written to: its curves do not get these figures" in printed.out
    assert "loss/test" in printed.out
    assert printed.err == ""
    assert sorted(run.iterdir()) == before


def test_lightning_s_own_ways_go_on_beside_it() -> None:
    class Logs(IrisClassifier):
        def on_train_start(self) -> None:
            self.logger.log_hyperparams({"own": 1}, {"own/metric": 0.5})  # type: ignore[union-attr]

    logger = TensorBoardLogger(".")
    for epochs in (1, 2):  # the second one with the logger of the first
        trainer = L.Trainer(max_epochs=epochs, logger=logger, callbacks=[TensorBoardReport()], **QUIET)
        model, data = Logs(), IrisDataModule()
        trainer.fit(model, data)
        trainer.test(model, data, verbose=False)
    found = run_of(logger)
    assert found["own/metric"][0][1] == 0.5
    assert found["result/loss_test"][-1][1] == found["loss/test"][-1][1]


def test_test_metrics_of_an_earlier_best_epoch_are_not_those_of_the_row() -> None:
    fit("--trainer.max_epochs", "2", "--figures", "false")
    main(["test"])
    run = Path("lightning_logs/version_0")
    assert curves(run)["result/loss_test"] == curves(run)["loss/test"]
    main(["test", "--ckpt_path", "last"])
    next_second()
    fit("--ckpt_path", "last", "--trainer.max_epochs", "4")
    assert math.isnan(dict(curves(run)["result/loss_test"])[3])
    next_second()
    main(["test"])
    assert curves(run)["result/loss_test"][-1] == curves(run)["loss/test"][-1]
    assert curves(run)["loss/test"][-1][0] == 3


def test_validate_adds_the_last_epoch_alone_to_the_curve() -> None:
    fit("--trainer.max_epochs", "3", "--trainer.check_val_every_n_epoch", "2", "--figures", "false")
    run = Path("lightning_logs/version_0")
    assert [step for step, _ in curves(run)["loss/val"]] == [1]
    next_second()
    main(["validate"])
    main(["validate", "--ckpt_path", "last", "--trainer.limit_val_batches", "1"])
    assert [step for step, _ in curves(run)["loss/val"]] == [1]
    main(["validate", "--ckpt_path", "last"])
    assert [step for step, _ in curves(run)["loss/val"]] == [1, 2]


def test_a_picture_that_cannot_be_drawn_does_not_take_the_run_along(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("latex could not be found")

    # This one first: its module takes the function from the other when it is imported.
    monkeypatch.setattr("iris_lightning.crossvalidation.pictures.draw_confusion", fail)
    monkeypatch.setattr("iris_lightning.plots.draw_confusion", fail)
    with pytest.warns(UserWarning, match="no pictures: RuntimeError: latex could not be found"):
        fit()
    capsys.readouterr()
    main(["crossvalidate", "--folds", "2", "--repeats", "1", "--trainer.max_epochs", "1"])
    assert "no pictures: latex could not be found" in capsys.readouterr().out
    assert Path("lightning_logs/version_1/summary.json").is_file()
    assert "cannot be drawn: RuntimeError: latex" in fails(capsys, "plot")


def test_a_picture_that_cannot_be_written_does_not_take_the_folds_along(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("no font could be found")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", fail)
    main(["crossvalidate", "--folds", "2", "--repeats", "1", "--trainer.max_epochs", "1"])
    assert "no pictures: no font could be found" in capsys.readouterr().out
    assert Path("lightning_logs/version_0/summary.json").is_file()
