"""Mistakes of the user: one or two lines on stderr, exit status 2, nothing left behind."""

import shutil
import sys
from pathlib import Path

import pytest
import torch

from iris_lightning.cli import main
from tests.conftest import fails, fit, load

# What is typed, and the word that helps. BEST is a checkpoint; LOST one that lies in no run.
COMMANDS = {
    "fitt": "did you mean 'fit'?",
    "--config a.yaml fit": "expected one of fit,",
    "fit extra": "extra",
    "fit --lr 3": "did you mean --model.lr?",
    "fit --epochs 9": "--trainer.max_epochs",
    "fit --modell.hidden [3]": "did you mean --model.hidden?",
    "fit --model.lrr=1": "did you mean --model.lr?",
    "fit --trainer.fast_dev_run true": "unrecognized arguments",
    "fit --model.class_names [a]": "unrecognized arguments: --model.class_names",
    "fit --model.lr": "--model.lr: expected one argument",
    "fit --model.lr abc": "--model.lr: Expected a float",
    "fit --model.lr -1": "Invalid learning rate: -1",
    "fit --model.hidden 8": "--model.hidden: Expected a Sequence",
    "fit --model.hidden [0]": "--model.hidden",
    "fit --model.hidden.x 3": "--model.hidden",
    "fit --model.hidden [100000000000000]": "allocate memory",
    "fit --model.hidden [9223372036854775808]": "--model",
    "fit --model.activation rleu": "got 'rleu'",
    "fit --model foo.yaml": "foo.yaml",
    "fit --data.batch_size 0": "--data.batch_size",
    "fit --data.num_workers -1": "num_workers option should be non-negative",
    "fit --data.split_seed -1": "--data.split_seed",
    "fit --data.split [0.5,0.5]": "--data.split: expected three fractions",
    "fit --data.split [0.99,0.005,0.005]": "test split empty",
    "fit --data.stratify true --data.split [0.98,0.01,0.01]": "--data.stratify",
    "fit --data.features length": "--data.features: Expected a list",
    "fit --data.features [1,2]": "--data.features: Expected a str",
    "fit --data.features [length]": "no column 'length'",
    "fit --data.target kind": "--data.path",
    "fit --data.path=": "expected a file",
    "fit --data.path caf\udce9.csv": "\\udce9",
    "fit --seed_everything -1": "-1 is not in bounds",
    "fit --trainer.max_epochs 0": "step",
    "fit --trainer.max_epochs inf": "--trainer.max_epochs: Expected a int",
    "fit --trainer.max_steps -2": "max_steps",
    "fit --trainer.limit_train_batches 0": "step",
    "fit --trainer.val_check_interval 50": "number of the training batches (11)",
    "fit --trainer.precision 7": "16-mixed",
    "fit --trainer.accelerator abacus": "Available names are",
    "fit --trainer.devices 0": "not a valid input",
    "fit --trainer.strategy xla": "torch_xla",
    "fit --trainer.logger WandbLogger": "wandb",
    "fit --trainer.logger CSVLoger": "CSVLogger",
    "fit --trainer.callbacks+=EarlyStoping": "did you mean EarlyStopping?",
    "fit --trainer.callbacks+=EarlyStopping --trainer.callbacks.monitor loss": "`loss/val`",
    "crossvalidate --seed-everything 3": "did you mean --seed_everything",
    "fit --optimizer Adamw": "did you mean AdamW",
    "fit --optimizer StepLR": "--optimizer: Expected a class",
    "fit --optimizer torch.nn.Linear": "subclass of Optimizer",
    "fit --optimizer SparseAdam": "consider Adam instead",
    "fit --optimizer SGD --optimizer.lrr 3": "'lrr'",
    "fit --optimizer SGD --optimizer.lr x": '"lr": Expected a float',
    "fit --optimizer SGD --optimizer.momentum -1": "momentum",
    "fit --optimizer SGD --model.lr 0.5": "--optimizer replaces",
    "fit --optimizer.lr 0.1": "--optimizer",
    "fit --lr_scheduler StepLR": "step_size",
    "fit --lr_scheduler StepLR --lr_scheduler.step_size 0": "zero",
    "fit --config nope.yaml": "nope.yaml: no such file",
    "fit --config .": "expected a regular file",
    "predict --weights nope.pth t.csv": "nope.pth: No such file",
    "fit --ckpt_path nope.ckpt": "nope.ckpt: no such file",
    "fit --ckpt_path .": "checkpoints/best.ckpt: no such file",
    "fit --ckpt_path LOST": "--ckpt_path",
    "fit --ckpt_path BEST -c standardized": "-c: a resumed run keeps its options",
    "fit --ckpt_path BEST --model.lr 0.5": "--model.lr",
    "fit --ckpt_path BEST --optimizer SGD": "--optimizer",
    "fit --ckpt_path BEST --seed_everything 1": "--seed_everything",
    "validate": "run fit first",
    "validate --ckpt_path BEST --trainer.limit_val_batches 1": "unrecognized arguments",
    "test --ckpt_path last": "run fit first",
    "test --ckpt_path BEST --optimizer Adam": "--optimizer",
    "test --ckpt_path BEST --trainer.max_epochs 3": "--trainer.max_epochs",
    "test --ckpt_path BEST --model.hidden [8]": "--model.hidden",
    "test --ckpt_path BEST --data.split_seed 0": "--data.split_seed",
    "predict": "required: table",
    "predict a.csv": "run fit first",
    "predict a.csv b.csv": "b.csv",
    "predict a.csv --outputs b.csv": "did you mean --output?",
    "predict a.csv --config nope.yaml": "unrecognized arguments: --config",
    "predict a.csv --ckpt_path BEST --weights BEST": "only one checkpoint, weights file or run",
    "predict a.csv --decimal_comma 3": "--decimal_comma",
    "export": "required: output",
    "export --output model.pth": "unrecognized arguments: --output",
}


@pytest.mark.parametrize("command", COMMANDS)
def test_mistyped_commands(
    command: str, default_run: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    best = default_run / "checkpoints" / "best.ckpt"
    if "LOST" in command:
        shutil.copy(best, folder / "LOST")
    message = fails(capsys, *command.replace("BEST", str(best)).split())
    assert COMMANDS[command] in message
    assert "Namespace(" not in message, "a dump of options"


NESTED = "model: " + "[" * 500 + "]" * 500
BOMB = "a: &a0 [x, x]\n" + "".join(f"a{i}: &a{i + 1} [*a{i}, *a{i}]\n" for i in range(30))
CONFIGS = {  # the text of a file, and the word that helps
    "model:\n  lr: 0.1\ndata: {}\nmodel:\n  hidden: [3]\n": "line 4: duplicate key 'model'",
    "model: &a\n  hidden: *a\n": "--model.hidden",
    "model:\n  lr: *b\n": "line 2",
    BOMB: "more than 30 aliases",
    NESTED: "recursion",
    "#" * 2_000_000: "at most 1000000 bytes",
    "model: mine.yaml\n": "model: expected a mapping",
    "trainer:\n  fast_dev_run: true\n": "fast_dev_run",
    "trainer: null\n": "trainer: expected a mapping",
    "model: 5\n": "model: expected a mapping",
    "": "expected a mapping",
    "- a\n": "expected a mapping",
    "model: [\n": "line 2",
    "\x00\x01": "#x0000",
    "\udcff": "utf-8",
    "model:\n  lrr: 1\n": "did you mean --model.lr?",
    "modell:\n  lr: 1\n": "did you mean --model.lr?",
    "ä: 1\n": "'ä'",
    "trainer:\n  max_epochs: x\n": "--trainer.max_epochs: Expected a int",
    "optimizer:\n  class_path: SGD\n  init_args: {lrr: 1}\n": "'lrr'",
}


@pytest.mark.parametrize("text", CONFIGS, ids=range(len(CONFIGS)))
def test_a_mistake_in_a_config_names_the_file(
    text: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "mine.yaml").write_bytes(text.encode(errors="surrogateescape"))
    message = fails(capsys, "fit", "--config", "mine.yaml")
    assert "error: mine.yaml: " in message
    assert CONFIGS[text] in message


@pytest.mark.skipif(sys.platform == "win32", reason="has no /dev/zero")
def test_a_config_without_an_end(capsys: pytest.CaptureFixture[str]) -> None:
    assert "/dev/zero: expected a regular file" in fails(capsys, "fit", "--config", "/dev/zero")


def test_an_untrained_network_is_evaluated_by_no_command(
    default_run: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(load(default_run / "checkpoints" / "last.ckpt") | {"global_step": 0}, "last.ckpt")
    for command in ("test", "validate", "predict a.csv", "export model.pth"):
        message = fails(capsys, *command.split(), "--ckpt_path", "last.ckpt")
        assert "its network is untrained" in message


def test_a_newest_run_without_a_checkpoint(capsys: pytest.CaptureFixture[str]) -> None:
    fit("--trainer.max_epochs", "1")
    fit("--trainer.max_epochs", "1", "--trainer.limit_val_batches", "0")
    assert "version_1/checkpoints/best.ckpt: no such file" in fails(capsys, "test")


def test_a_mistake_leaves_a_run_as_it_was(capsys: pytest.CaptureFixture[str]) -> None:
    fit("--trainer.max_epochs", "1")
    config = Path("lightning_logs/version_0/config.yaml")
    before = config.read_text()
    resume = ["fit", "--ckpt_path", "last", "--trainer.max_epochs", "2"]
    with pytest.raises(SystemExit):
        main([*resume, "--trainer.val_check_interval", "500"])
    assert "number of the training batches" in capsys.readouterr().err
    assert config.read_text() == before
    assert main(resume).trainer.current_epoch == 2


def test_a_run_folder_that_cannot_be_made(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "taken").write_text("a file")
    assert "taken" in fails(capsys, "fit", "--trainer.default_root_dir", "taken")
