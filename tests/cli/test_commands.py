"""The commands as a user types them."""

import io
import os
import re
import sys
from pathlib import Path

import pytest
import torch
import yaml

from iris_lightning.cli import main
from tests.conftest import assert_same_weights, curves, fails, fit, load, wine

EPOCH = r"epoch \d  loss/train \d\.\d{4}  loss/val \d\.\d{4}  accuracy/val [01]\.\d{4}"
SHORT = ("--trainer.max_epochs", "1")


def small_table(path: str, rare: str = "y") -> None:
    Path(path).write_text("a,b,kind\n" + f"1,2,x\n2,1,{rare}\n3,4,x\n" * 20)


def exits(*args: str) -> object:
    """Runs a command that exits, and returns its status."""
    with pytest.raises(SystemExit) as stop:
        main(list(args))
    return stop.value.code


def test_a_default_run(capfd: pytest.CaptureFixture[str]) -> None:
    fit()
    out, err = capfd.readouterr()
    assert err == ""
    table, features, classes, *epochs, run, best, look, page = out.splitlines()
    assert table.startswith("Iris: 150 rows (105 train, 30 val, 15 test); 243 parameters on ")
    assert features.startswith("4 features: sepal length (cm), sepal width (cm), petal")
    assert classes.startswith("3 classes in 'species' (found by name): setosa, versicolor, virgin")
    assert "the largest has 33.3% of the rows" in classes
    assert len(epochs) == 5
    assert all(re.fullmatch(EPOCH, line) for line in epochs)
    assert run == "run:    lightning_logs/version_0"
    assert re.fullmatch(
        r"best:   epoch 4  loss/val 0.*  accuracy/val 0.*  macro_f1/val 0.*"
        r"  \(majority class 0\.\d{4}\)",
        best,
    )
    assert look == "curves: tensorboard --logdir lightning_logs"
    assert page.startswith("open:   http://localhost:6006/")


@pytest.mark.parametrize(
    "config", [["--config", "mine.yaml"], ["--config=mine.yaml"], ["-c", "mine.yaml"]]
)
def test_typed_options_win_over_configs(config: list[str], folder: Path) -> None:
    (folder / "other.yaml").write_text("data:\n  batch_size: 7\n")
    (folder / "mine.yaml").write_text(
        "model:\n  lr: 0.5\n  hidden: [3]\ndata:\n  batch_size: 5\ntrainer:\n  max_epochs: 4\n"
    )
    typed = ["--model.lr", "0.01", "--trainer.max_epochs", "2"]
    cli = fit(*typed, "--config", "other.yaml", *config)
    assert (cli.model.hparams["lr"], cli.model.hparams["hidden"]) == (0.01, [3])
    assert cli.trainer.current_epoch == 2
    assert cli.trainer.num_training_batches == 21, "the later config wins"
    saved = yaml.safe_load(Path("lightning_logs/version_0/config.yaml").read_text())
    assert saved["model"]["lr"] == 0.01


def test_a_config_with_aliases_and_numbers(folder: Path) -> None:
    (folder / "mine.yaml").write_text("model:\n  lr: &x 1e-2\n  weight_decay: *x\n")
    hparams = fit("--config", "mine.yaml", *SHORT).model.hparams
    assert (hparams["lr"], hparams["weight_decay"]) == (0.01, 0.01)


def test_classes_in_a_config(folder: Path) -> None:
    options = {
        "optimizer": {"class_path": "SGD", "init_args": {"lr": 0.1}},
        "lr_scheduler": {"class_path": "StepLR", "init_args": {"step_size": 2}},
        "trainer": {
            "callbacks": [{"class_path": "EarlyStopping", "init_args": {"monitor": "loss/val"}}]
        },
    }
    (folder / "mine.yaml").write_text(yaml.safe_dump(options))
    trainer = fit("--config", "mine.yaml").trainer
    assert type(trainer.optimizers[0]) is torch.optim.SGD
    assert type(trainer.lr_scheduler_configs[0].scheduler) is torch.optim.lr_scheduler.StepLR
    assert trainer.early_stopping_callbacks


@pytest.mark.parametrize(
    "logger",
    [
        "false",
        "CSVLogger --trainer.logger.save_dir .",
        "TensorBoardLogger --trainer.logger.save_dir elsewhere --trainer.logger.name mine",
    ],
)
def test_the_run_folder_is_the_same_whatever_the_loggers(logger: str) -> None:
    fit("--trainer.logger", *logger.split(), *SHORT)
    run = Path("lightning_logs/version_0")
    assert {path.name for path in run.glob("*/*")} == {"best.ckpt", "last.ckpt"}
    assert bool(curves(run)) == (logger != "false")
    assert main(["test"]).source.path == run / "checkpoints" / "best.ckpt"


def test_a_users_own_checkpoints_lie_in_the_run_folder() -> None:
    fit(*SHORT, "--trainer.callbacks+=ModelCheckpoint", "--trainer.callbacks.filename=mine")
    found = sorted(os.listdir("lightning_logs/version_0/checkpoints"))
    assert found == ["best.ckpt", "last.ckpt", "mine.ckpt"]


def test_a_scheduler_alone_works_on_adam() -> None:
    scheduler = ["--lr_scheduler", "StepLR", "--lr_scheduler.step_size", "1"]
    cli = fit(*scheduler, "--model.lr", "0.01", "--model.weight_decay", "0.1")
    (optimizer,) = cli.trainer.optimizers
    (group,) = optimizer.param_groups
    assert type(optimizer) is torch.optim.Adam
    assert (group["initial_lr"], group["weight_decay"]) == (0.01, 0.1)
    assert group["lr"] == pytest.approx(0.01 * 0.1**5)


@pytest.mark.filterwarnings(
    "error:.*could not find the monitored key", "ignore:You requested to overfit"
)
@pytest.mark.parametrize(
    ("options", "steps"),
    [
        ("--trainer.overfit_batches 2", 6),
        ("--trainer.check_val_every_n_epoch 2", 33),
        ("--trainer.limit_train_batches 1", 3),
        ("--trainer.limit_train_batches 1.0", 33),
        ("--trainer.max_steps 7", 7),
    ],
)
def test_options_of_the_trainer(options: str, steps: int) -> None:
    assert fit("--trainer.max_epochs", "3", *options.split()).trainer.global_step == steps


def test_the_config_of_a_run_works_with_every_command(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wine(folder / "wine.csv")
    sgd = ["--optimizer", "SGD", "--lr_scheduler", "StepLR", "--lr_scheduler.step_size", "1"]
    first = fit("--data.path", "wine.csv", *SHORT, *sgd)
    config = ["--config", "lightning_logs/version_0/config.yaml"]
    assert yaml.safe_load(Path(config[1]).read_text())["data"]["target"] == "kind"
    for command in ("test", "validate"):
        capsys.readouterr()
        main([command])
        said = capsys.readouterr().out
        main([command, *config])
        assert capsys.readouterr().out == said
    main(["crossvalidate", *config, "--folds", "2", "--repeats", "1"])
    assert_same_weights(fit(*config).model.state_dict(), first.model.state_dict())


def test_a_run_is_used_from_another_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small_table("rows.csv")
    fit("--data.path", "rows.csv", *SHORT)
    main(["test", "--ckpt_path", "lightning_logs/version_0"])
    here = capsys.readouterr().out.splitlines()[-1]
    (folder / "elsewhere").mkdir()
    monkeypatch.chdir(folder / "elsewhere")
    run = ["--ckpt_path", "../lightning_logs/version_0"]
    assert "rows.csv: no such file" in fails(capsys, "test", *run)
    main(["test", *run, "--data.path", "../rows.csv"])
    assert capsys.readouterr().out.splitlines()[-1] == here


def test_columns_whose_names_look_like_numbers(folder: Path) -> None:
    (folder / "rows.csv").write_text("1e3,no,2E5\n" + "1,2,x\n2,1,y\n3,4,x\n" * 20)
    fit("--data.path", "rows.csv", "--data.na_values", '[.nan, "1e5"]', *SHORT)
    again = fit("--config", "lightning_logs/version_0/config.yaml")
    assert again.datamodule.feature_names == ["1e3", "no"]


HELP = {  # options that the help of a command lists, and one that the command does not have
    "fit": ["--config", "--data.split_seed", "--model.hidden", "--members", "--model.class_names"],
    "test": ["--ckpt_path", "--trainer.devices", "--data.path", "--model.class_names"],
    "crossvalidate": ["--folds", "--model.lr", "--model.class_names"],
    "predict": ["  table ", "--output", "--ckpt_path", "--weights", "--separator", "--trainer"],
    "export": ["  output ", "--ckpt_path", "--weights", "--output"],
}


@pytest.mark.parametrize("command", HELP)
def test_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    main(["--help"])
    assert f"  {command} " in capsys.readouterr().out
    assert exits(command, "--help") == 0
    printed = capsys.readouterr().out
    *known, unknown = HELP[command]
    assert all(option in printed for option in known)
    assert unknown not in printed
    assert "  None\n" not in printed
    assert len(printed.splitlines()) < 100


def test_a_printed_config_is_a_config(
    default_run: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    exits("fit", "--trainer.max_epochs", "5", "--print_config")
    (folder / "mine.yaml").write_text(capsys.readouterr().out)
    last = load(default_run / "checkpoints" / "last.ckpt")
    assert_same_weights(fit("--config", "mine.yaml").model.state_dict(), last["state_dict"])


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "options",
    [
        "--trainer.max_time 00:00:10:00",
        "--trainer.callbacks+=EarlyStopping --trainer.callbacks.monitor loss/val",
        "--trainer.log_every_n_steps 50",
        "--trainer.val_check_interval 1.0",
    ],
)
def test_options_that_are_kept_and_make_no_noise(
    options: str, capfd: pytest.CaptureFixture[str]
) -> None:
    fit(*options.split(), *SHORT)
    fit("--config", "lightning_logs/version_0/config.yaml")
    out, err = capfd.readouterr()
    assert err == ""
    words = {line.split()[0] for line in out.splitlines()}
    assert words == {"Iris:", "4", "3", "epoch", "run:", "best:", "curves:", "open:"}


def test_characters_that_cannot_be_printed_are_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    printed = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(printed, "ascii", write_through=True))
    fit("--name", "实验", *SHORT)
    assert b"run:    lightning_logs/\\u5b9e\\u9a8c/version_0\n" in printed.getvalue()


def test_closed_streams(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fit(*SHORT)
    monkeypatch.setattr(sys, "stdin", None)
    assert "standard input: " in fails(capsys, "predict", "-")
    monkeypatch.setattr(sys, "stdout", None)
    main(["export", "model.pth"])
    assert Path("model.pth").is_file()
