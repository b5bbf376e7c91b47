"""The commands as a user types them."""

import os
import pickle
import re
from pathlib import Path

import pytest
import torch
import yaml

from iris_lightning.cli import main
from tests.conftest import assert_same_weights, curves, fails, fit, load, wine

METRICS = r"loss/val \d\.\d{4}, accuracy/val [01]\.\d{4}"
EPOCH = r"epoch \d  loss/train \d\.\d{4}  loss/val \d\.\d{4}  accuracy/val [01]\.\d{4}"


def test_what_a_default_run_says_and_writes(capfd: pytest.CaptureFixture[str]) -> None:
    main(["fit"])
    out, err = capfd.readouterr()
    lines = out.splitlines()
    assert err == ""
    assert re.fullmatch(
        r"Iris: 150 rows \(105 train, 30 val, 15 test\), 4 features, 3 classes of 'species'; 243 parameters on \w+",
        lines[0],
    )
    assert all(re.fullmatch(EPOCH, line) for line in lines[1:6])
    assert lines[6] == "run:    lightning_logs/version_0"
    assert re.fullmatch(rf"best:   epoch \d, {METRICS} \(lightning_logs/version_0/checkpoints/best\.ckpt\)", lines[7])
    assert lines[8] == "curves: tensorboard --logdir lightning_logs"
    assert lines[9] == "open:   http://localhost:6006/?smoothing=0#custom_scalars&_smoothingWeight=0"
    assert len(lines) == 10
    assert "test " not in "".join(lines[1:])
    run = set(os.listdir("lightning_logs/version_0"))
    assert {"config.yaml", "checkpoints"} < run


def test_tensorboard_shows_the_curves_against_the_epoch(default_run: Path) -> None:
    found = curves(default_run)
    curve = {f"{name}/{part}" for name in ("loss", "accuracy", "macro_f1") for part in ("train", "val")}
    assert set(found) == curve | {f"result/{name}" for name in ("loss_val", "accuracy_val", "epoch", "epochs")}
    assert all([step for step, _ in found[name]] == [0, 1, 2, 3, 4] for name in curve)


def test_options_from_yaml_and_command_line_the_later_winning(folder: Path) -> None:
    (folder / "mine.yaml").write_text("model:\n  lr: 0.5\n  hidden: [3]\ntrainer:\n  max_epochs: 4\n")
    cli = fit("--config", "mine.yaml", "--model.lr", "0.01", "--data.batch_size", "5", "--trainer.max_epochs", "2")
    assert dict(cli.model.hparams) | {"lr": 0.01, "hidden": [3]} == dict(cli.model.hparams)
    assert cli.trainer.current_epoch == 2
    assert cli.trainer.num_training_batches == 21
    saved = yaml.safe_load(Path("lightning_logs/version_0/config.yaml").read_text())
    assert saved["model"]["lr"] == 0.01


def test_the_config_of_a_run_repeats_it(default_run: Path) -> None:
    again = fit("--config", str(default_run / "config.yaml"))
    assert_same_weights(again.model.state_dict(), load(default_run / "checkpoints" / "last.ckpt")["state_dict"])


def test_classes_in_a_yaml_file(folder: Path) -> None:
    options = {
        "optimizer": {"class_path": "SGD", "init_args": {"lr": 0.1}},
        "lr_scheduler": {"class_path": "torch.optim.lr_scheduler.StepLR", "init_args": {"step_size": 2}},
        "trainer": {"callbacks": [{"class_path": "EarlyStopping", "init_args": {"monitor": "loss/val"}}]},
    }
    (folder / "mine.yaml").write_text(yaml.safe_dump(options))
    cli = fit("--config", "mine.yaml")
    assert type(cli.trainer.optimizers[0]) is torch.optim.SGD
    assert type(cli.trainer.lr_scheduler_configs[0].scheduler) is torch.optim.lr_scheduler.StepLR
    assert cli.trainer.early_stopping_callbacks


@pytest.mark.parametrize(
    "logger",
    [
        "false",
        "CSVLogger --trainer.logger.save_dir .",
        "TensorBoardLogger --trainer.logger.save_dir elsewhere --trainer.logger.name mine",
        "[{class_path: CSVLogger, init_args: {save_dir: a}}, {class_path: CSVLogger, init_args: {save_dir: b}}]",
    ],
)
def test_the_run_folder_is_the_same_whatever_the_loggers(logger: str) -> None:
    for number in (0, 1):
        fit(
            "--trainer.logger",
            *logger.split(" ") if "class_path" not in logger else [logger],
            "--trainer.max_epochs",
            "1",
        )
        run = sorted(Path("lightning_logs").glob("*/checkpoints"))[number].parent
        assert {path.name for path in run.glob("*.yaml")} == {"config.yaml", "environment.yaml"}
        assert {path.name for path in run.glob("*/*")} == {"best.ckpt", "last.ckpt"}
        assert bool(curves(run)) == (logger != "false")
        assert main(["test"]).ckpt_path == run / "checkpoints" / "best.ckpt"
    assert not Path("checkpoints").exists()
    main(["fit", "--ckpt_path", "last", "--trainer.max_epochs", "2"])
    assert load(run / "checkpoints" / "last.ckpt")["epoch"] == 1


def test_spawned_processes_get_the_callbacks() -> None:
    folder = fit("--trainer.max_epochs", "1").folder
    assert folder is not None
    assert pickle.loads(pickle.dumps(folder)).options == folder.options


def test_a_users_own_checkpoints_lie_in_the_run_folder() -> None:
    checkpoint = ["--trainer.callbacks+=ModelCheckpoint", "--trainer.callbacks.filename=mine"]
    fit("--trainer.max_epochs", "1", *checkpoint)
    found = sorted(path.name for path in Path("lightning_logs/version_0/checkpoints").iterdir())
    assert found == ["best.ckpt", "last.ckpt", "mine.ckpt"]


def test_a_resumed_run_can_be_repeated_from_its_config() -> None:
    fit("--trainer.max_epochs", "1", "--lr_scheduler", "StepLR", "--lr_scheduler.step_size", "1")
    resumed = main(["fit", "--ckpt_path", "last", "--trainer.max_epochs", "2"])
    again = fit("--config", "lightning_logs/version_0/config.yaml")
    assert_same_weights(again.model.state_dict(), resumed.model.state_dict())


def test_a_scheduler_without_an_optimizer_works_on_adam() -> None:
    cli = fit(
        "--lr_scheduler", "StepLR", "--lr_scheduler.step_size", "1", "--model.lr", "0.01", "--model.weight_decay", "0.1"
    )
    (optimizer,) = cli.trainer.optimizers
    assert type(optimizer) is torch.optim.Adam
    assert optimizer.param_groups[0]["initial_lr"] == 0.01
    assert optimizer.param_groups[0]["weight_decay"] == 0.1
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.01 * 0.1**5)


def test_a_plateau_scheduler_watches_a_metric() -> None:
    cli = fit("--lr_scheduler", "ReduceLROnPlateau", "--lr_scheduler.monitor", "loss/val", "--trainer.max_epochs", "1")
    assert cli.trainer.lr_scheduler_configs[0].monitor == "loss/val"


@pytest.mark.filterwarnings("error:.*could not find the monitored key", "ignore:You requested to overfit")
@pytest.mark.parametrize(
    ("options", "steps", "kept"),
    [
        ("--trainer.max_epochs 3 --trainer.fast_dev_run true", 1, False),
        ("--trainer.max_epochs 3 --trainer.enable_checkpointing false", 33, False),
        ("--trainer.max_epochs 3 --trainer.limit_val_batches 0", 33, True),
        ("--trainer.max_epochs 3 --trainer.overfit_batches 2", 6, True),
        ("--trainer.max_epochs 3 --trainer.check_val_every_n_epoch 2", 33, True),
        ("--trainer.max_epochs 3 --trainer.limit_train_batches 1", 3, True),
        ("--trainer.max_epochs 3 --trainer.limit_train_batches 1.0", 33, True),
        ("--trainer.max_epochs 3 --trainer.max_steps 7", 7, True),
        ("--trainer.max_epochs 3 --trainer.max_steps 70", 33, True),
        ("--trainer.max_steps 70", 70, True),
        ("--trainer.max_epochs -1 --trainer.max_steps 60", 60, True),
    ],
)
def test_the_trainers_own_switches_work(options: str, steps: int, kept: bool, folder: Path) -> None:
    assert fit(*options.split()).trainer.global_step == steps
    assert kept == bool(list(folder.rglob("last.ckpt")))


def test_best_is_the_best_of_the_validated_epochs(capsys: pytest.CaptureFixture[str]) -> None:
    fit("--trainer.max_epochs", "6", "--trainer.check_val_every_n_epoch", "4")
    assert "best:   epoch 3, loss/val " in capsys.readouterr().out


def test_what_ends_a_run_early_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    stopping = ["--trainer.callbacks+=EarlyStopping", "--trainer.callbacks.monitor=loss/val"]
    fit(*stopping, "--trainer.callbacks.min_delta=1", "--trainer.callbacks.patience=1", "--trainer.max_epochs", "100")
    said = capsys.readouterr().out.splitlines()
    assert said[3].startswith(
        "ended by EarlyStopping: Monitored metric loss/val did not improve in the last 1 records."
    )
    assert said[4].startswith("run: ")


def test_a_run_without_a_folder_says_so(capfd: pytest.CaptureFixture[str]) -> None:
    fit("--trainer.fast_dev_run", "true")
    out, err = capfd.readouterr()
    assert err == ""
    assert [line.split()[0] for line in out.splitlines()] == ["Iris:", "epoch", "nothing"]
    assert not list(Path().iterdir())


def test_the_config_of_a_run_works_with_every_command(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wine(folder / "wine.csv")
    sgd = ["--optimizer", "SGD", "--lr_scheduler", "StepLR", "--lr_scheduler.step_size", "1"]
    fit("--data.path", "wine.csv", "--trainer.max_epochs", "1", *sgd)
    config = ["--config", "lightning_logs/version_0/config.yaml"]
    saved = yaml.safe_load(Path(config[1]).read_text())["data"]
    assert saved["target"] == "kind"
    assert saved["features"][:2] == ["alcohol", "malic_acid"]
    said = []
    for command in (["test"], ["test", *config], ["validate"], ["validate", *config]):
        capsys.readouterr()
        main(command)
        said.append(capsys.readouterr().out)
    assert (said[0], said[2]) == (said[1], said[3])
    resumed = main(["fit", "--ckpt_path", "last", *config, "--trainer.max_epochs", "2"])
    assert resumed.run == Path("lightning_logs/version_0").absolute()
    assert resumed.trainer.current_epoch == 2
    (folder / "other.csv").write_text("a,b\n1,2\n")
    assert "'total_phenols', 'flavanoids', 'nonflavanoid_phenols' and 5 more; found" in fails(
        capsys, "predict", "other.csv"
    )


def test_a_config_that_started_from_weights_evaluates_what_was_trained(capsys: pytest.CaptureFixture[str]) -> None:
    fit("--trainer.max_epochs", "1")
    main(["export", "model.pth"])
    fit("--weights", "model.pth", "--trainer.max_epochs", "1")
    config = ["--config", "lightning_logs/version_1/config.yaml"]
    capsys.readouterr()
    main(["test", *config])
    assert capsys.readouterr().out.startswith("checkpoint: lightning_logs/version_1/checkpoints/best.ckpt")
    resumed = main(["fit", "--ckpt_path", "last", *config, "--trainer.max_epochs", "2"])
    assert resumed.run == Path("lightning_logs/version_1").absolute()


def test_a_run_is_used_from_another_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wine(folder / "wine.csv")
    fit("--data.path", "wine.csv", "--trainer.max_epochs", "1")
    main(["test"])
    here = capsys.readouterr().out.splitlines()[-1]
    (folder / "elsewhere").mkdir()
    monkeypatch.chdir(folder / "elsewhere")
    checkpoint = "../lightning_logs/version_0/checkpoints/last.ckpt"
    main(["test", "--ckpt_path", checkpoint])
    assert capsys.readouterr().out.splitlines()[-1] == here
    main(["fit", "--ckpt_path", checkpoint, "--trainer.max_epochs", "2"])
    Path("../wine.csv").rename("moved.csv")
    message = fails(capsys, "test", "--ckpt_path", checkpoint)
    assert f"{checkpoint} was trained with " in message
    assert "wine.csv: no such file here; try --data.path FILE" in message
    main(["test", "--ckpt_path", checkpoint, "--data.path", "moved.csv"])


HELP = {  # options that the help of a command must list, and one that the command does not have
    "fit": ["--config", "--data.split_seed", "--model.hidden", "--weights", "--model.class_names"],
    "validate": ["--ckpt_path", "--weights", "--trainer.devices", "--model.class_names"],
    "test": ["--ckpt_path", "--weights", "--data.path", "--model.class_names"],
    "predict": ["  table ", "--output", "--ckpt_path", "--weights", "--target", "--decimal_comma", "--trainer"],
    "export": ["  output ", "--ckpt_path", "--weights", "--output"],
}


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--version"])
    assert capsys.readouterr().out == "iris_lightning 0.1.0\n"
    main(["--help"])
    printed = capsys.readouterr().out
    assert all(f"  {command} " in printed for command in HELP)
    for command, (*known, unknown) in HELP.items():
        with pytest.raises(SystemExit) as stop:
            main([command, "--help"])
        assert stop.value.code == 0
        printed = capsys.readouterr().out
        assert [option for option in (*known, unknown) if option in printed] == known, command
        assert "subcommand" not in printed
        assert len(printed.splitlines()) < 100
        assert not [word for word in (":paramref:", "hpc", "registry", "__main__") if word in printed]


def test_the_help_lists_every_option_once(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["fit", "--help"])
    listed = re.findall(r"^  --([\w.]+) ", capsys.readouterr().out, re.MULTILINE)
    with pytest.raises(SystemExit):
        main(["fit", "--print_config"])
    config = yaml.safe_load(capsys.readouterr().out)
    groups = {f"{group}.{name}" for group in ("model", "data", "trainer") for name in config.pop(group)}
    assert sorted(listed) == sorted({*groups, *config, "config", "print_config"} - {"trainer.limit_test_batches"})


PRINTED: dict[
    str, tuple[list[str], dict[str, dict[str, object]]]
] = {  # what is typed before `--print_config`, beside the file later, and what then holds
    "": ([], {"model": {"lr": 0.001}, "trainer": {"max_epochs": 1}}),
    "--model.hidden [8]": ([], {"model": {"hidden": [8]}}),
    "--optimizer SGD": ([], {"model": {"lr": 0.001}, "optimizer": {"class_path": "torch.optim.SGD"}}),
    "--optimizer SGD --optimizer.lr 0.05": (["--optimizer.lr", "0.2"], {"model": {"lr": 0.2}}),
    "--seed_everything 3": (["--optimizer", "SGD", "--optimizer.lr", "0.1"], {"model": {"lr": 0.1}}),
    "--trainer.max_steps 11": ([], {"trainer": {"max_steps": 11}}),
}


@pytest.mark.parametrize("typed", PRINTED)
def test_print_config_is_a_config(typed: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["fit", *typed.split(), "--print_config"])
    assert stop.value.code == 0
    (folder / "mine.yaml").write_text(capsys.readouterr().out)
    beside, expected = PRINTED[typed]
    fit("--config", "mine.yaml", *beside, "--trainer.max_epochs", "1")
    saved = yaml.safe_load(Path("lightning_logs/version_0/config.yaml").read_text())
    for group, options in expected.items():
        assert {name: saved[group][name] for name in options} == options
    main(["test", "--config", "mine.yaml" if not beside else "lightning_logs/version_0/config.yaml"])


def test_print_config_takes_its_flags(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["fit", "--model.lr", "0.5", "--print_config=skip_default"])
    assert yaml.safe_load(capsys.readouterr().out) == {"model": {"lr": 0.5}}
    with pytest.raises(SystemExit):
        main(["fit", "--print_config=skip_null"])
    assert "null" not in capsys.readouterr().out
    assert "--print_config: expected skip_null or skip_default, got foo" in fails(capsys, "fit", "--print_config=foo")


def test_print_config_has_no_default_where_something_else_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["fit", "--trainer.max_steps", "1000", "--print_config"])
    limits = yaml.safe_load(capsys.readouterr().out)["trainer"]
    assert (limits["max_epochs"], limits["max_steps"]) == (-1, 1000)


def test_what_ends_a_run_before_its_steps_is_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "mine.yaml").write_text("trainer:\n  max_epochs: 2\n")
    fit("--config", "mine.yaml", "--trainer.max_steps", "1000")
    assert "ended by max_epochs 2 after 22 steps; max_steps is 1000\n" in capsys.readouterr().out


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "options",
    [
        "--trainer.max_time 00:00:10:00 --trainer.max_epochs 1",
        "--trainer.callbacks+=Timer --trainer.callbacks.duration 00:00:01:00",
        "--trainer.callbacks+=ModelPruning --trainer.callbacks.pruning_fn l1_unstructured",
        "--trainer.callbacks+=OnExceptionCheckpoint --trainer.callbacks.dirpath x",
        "--trainer.log_every_n_steps 50",
        "--trainer.val_check_interval 1.0",
    ],
)
def test_options_that_are_kept_and_make_no_noise(options: str, capfd: pytest.CaptureFixture[str]) -> None:
    fit(*options.split())
    fit("--config", "lightning_logs/version_0/config.yaml")
    out, err = capfd.readouterr()
    assert err == ""
    assert {line.split()[0] for line in out.splitlines()} == {"Iris:", "epoch", "run:", "best:", "curves:", "open:"}


def test_columns_whose_names_look_like_numbers(folder: Path) -> None:
    (folder / "rows.csv").write_text("1e3,no,2E5\n" + "1,2,x\n2,1,y\n3,4,x\n" * 20)
    fit("--data.path", "rows.csv", "--data.na_values", '[.nan, "1e5"]', "--trainer.max_epochs", "1")
    assert main(["test", "--config", "lightning_logs/version_0/config.yaml"]).datamodule.feature_names == ["1e3", "no"]
    assert fit("--ckpt_path", "last", "--trainer.max_epochs", "2").trainer.current_epoch == 2


def test_a_table_that_has_moved_is_told_once(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "rows.csv").write_text("a,b,kind\n" + "1,2,x\n2,1,y\n3,4,x\n" * 20)
    fit("--data.path", "rows.csv", "--trainer.max_epochs", "1")
    (folder / "other").mkdir()
    (folder / "rows.csv").rename("other/rows.csv")
    (folder / "longer.csv").write_text((folder / "other/rows.csv").read_text() + "1,2,x\n")
    resume = ["fit", "--ckpt_path", "last", "--trainer.max_epochs"]
    assert "no such file here; try --data.path FILE" in fails(capsys, *resume, "2")
    message = fails(capsys, *resume, "2", "--data.path", "longer.csv")
    assert "longer.csv: not the table that the checkpoint was trained with" in message
    main([*resume, "2", "--data.path", "other/rows.csv"])
    assert main([*resume, "3"]).trainer.current_epoch == 3


def test_what_weights_know_is_not_changed_in_an_evaluation(capsys: pytest.CaptureFixture[str]) -> None:
    fit("--trainer.max_epochs", "1")
    main(["export", "model.pth"])
    for option, value in (("--model.hidden", "[8]"), ("--data.features", "[petal length (cm)]")):
        assert f"{option} " in fails(capsys, "test", "--weights", "model.pth", option, value)
    assert "--model.lr: has no effect in test" in fails(capsys, "test", "--weights", "model.pth", "--model.lr", "1")


def test_weights_of_other_classes_are_no_start(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, other in (("one", "z"), ("two", "x")):
        (folder / f"{name}.csv").write_text("a,b,kind\n" + f"1,2,{other}\n2,1,y\n3,4,{other}\n" * 20)
    fit("--data.path", "one.csv", "--trainer.max_epochs", "1")
    main(["export", "model.pth"])
    message = fails(capsys, "fit", "--data.path", "two.csv", "--weights", "model.pth")
    assert "--weights: model.pth: made for the classes y, z, got x, y" in message
    fit("--data.path", "one.csv", "--weights", "model.pth", "--trainer.max_epochs", "1")
    assert "starts from the weights: model.pth\n" in capsys.readouterr().out


def test_a_printed_config_evaluates_a_table_that_it_does_not_name(folder: Path) -> None:
    (folder / "rows.csv").write_text("a,b,kind\n" + "1,2,x\n2,1,y\n3,4,x\n" * 20)
    (folder / "mine.yaml").write_text("data:\n  path: null\n  target: null\n  features: null\n")
    fit("--config", "mine.yaml", "--data.path", "rows.csv", "--trainer.max_epochs", "1")
    assert main(["test", "--config", "mine.yaml"]).datamodule.table.source == "rows.csv"


def test_a_time_in_words() -> None:
    assert fit("--trainer.max_time", "{minutes: 5}", "--trainer.max_epochs", "1").trainer.current_epoch == 1
