"""Mistakes of the user's: one line or two on stderr, exit status 2, nothing left behind."""

import shutil
from pathlib import Path

import pytest
import torch

from iris_lightning.cli import main
from tests.conftest import fails, fit, load

# What is typed, and what the message must hold: the option, what was given, what is allowed.
COMMANDS = {
    "": ["no command", "fit, validate, test, crossvalidate, predict, export"],
    "train": ["'train'", "did you mean fit?"],
    "eval": ["'eval'", "did you mean test?"],
    "fit --lr 3": ["--lr", "did you mean --model.lr?"],
    "fit --epochs 9": ["--epochs", "did you mean --trainer.max_epochs?"],
    "fit --seed 1": ["--seed", "did you mean --seed_everything?"],
    "fit --batch_size 5": ["--batch_size", "did you mean --data.batch_size?"],
    "fit --modell.hidden [3]": ["--modell.hidden", "did you mean --model.hidden?"],
    "fit --model.dropout 0.1": ["--model.dropout", "expected one of --model.hidden, --model.activation,"],
    "fit --optimizer Adamw": ["--optimizer", "'Adamw'", "did you mean AdamW?"],
    "fit --lr_scheduler steplr": ["--lr_scheduler", "'steplr'", "did you mean StepLR?"],
    "fit --optimizer StepLR": ["--optimizer: StepLR is a class for another option"],
    "fit --optimizer torch.nn.Linear": ["--optimizer: expected a class of the kind Optimizer, got torch.nn.Linear"],
    "fit --trainer.callbacks Foo": ["--trainer.callbacks: there is no class 'Foo'"],
    "fit --trainer.max_steps -2": ["--trainer.max_steps -2: expected a number of at least -1"],
    "fit --trainer.min_epochs -1": ["--trainer.min_epochs -1"],
    "fit --trainer.val_check_interval 0": ["--trainer.val_check_interval 0: expected a number above 0"],
    "fit --trainer.gradient_clip_algorithm value": ["no effect without --trainer.gradient_clip_val"],
    "fit --data.features [1,2]": ["--data.features: expected text", "got 1; put it in quotes"],
    "fit --model foo.yaml": ["--model: no such file: foo.yaml"],
    "test --ckpt_path /": ["--ckpt_path: /: a folder"],
    "test --optimizer.class_path SGD --ckpt_path RUN": ["--optimizer.class_path: has no effect in test"],
    "test --optimizer.lr 1 --ckpt_path RUN": ["--optimizer.lr: has no effect in test"],
    "test --lr_scheduler StepLR --ckpt_path RUN": ["--lr_scheduler: has no effect in test"],
    "test --weights model.ckpt": ["model.ckpt: expected a file that ends in .pth, .safetensors, which export makes"],
    "fit --lr_scheduler CosineAnnealingLR": ["CosineAnnealingLR: expected --lr_scheduler.T_max"],
    "fit --lr_scheduler.gamma 0.5": ["--lr_scheduler: name a class first, as in --lr_scheduler StepLR"],
    "fitt": ["'fitt'", "did you mean fit?"],
    "fit extra": ["unexpected argument 'extra'"],
    "fit --model.lrr 1": ["--model.lrr", "did you mean --model.lr?"],
    "fit --model.l 1": ["unknown option --model.l"],
    "fit --model.lr": ["--model.lr", "expected one argument"],
    "fit --model.lr abc": ["--model.lr", "expected a number, got abc"],
    "fit --model.lr 0": ["--model.lr", "above 0, got 0.0"],
    "fit --model.lr -1": ["--model.lr", "above 0, got -1.0"],
    "fit --model.lr nan": ["--model.lr", "a number, got nan"],
    "fit --model.lr .inf": ["--model.lr", "finite number above 0, got inf"],
    "fit --model.weight_decay -1": ["--model.weight_decay", "at least 0, got -1.0"],
    "fit --model.hidden [0]": ["--model.hidden", "at least 1, got [0]"],
    "fit --model.hidden 8": ["--model.hidden", "a list, got 8; a list is typed as '[8]'"],
    "fit --model.hidden [a]": ["--model.hidden", "an integer, got a"],
    "fit --model.activation rleu": ["--model.activation", "relu, tanh, gelu, silu or null, got 'rleu'"],
    "fit --model.class_names [a]": ["unknown option --model.class_names"],
    "fit --data.batch_size 0": ["--data.batch_size", "from 1 to 2147483647, got 0"],
    "fit --data.batch_size 2.5": ["--data.batch_size", "an integer, got 2.5"],
    "fit --data.batch_size nan": ["--data.batch_size", "an integer, got nan"],
    "fit --data.num_workers -1": ["--data.num_workers", "from 0 to 1023, got -1"],
    "fit --data.split_seed -1": ["--data.split_seed", "got -1"],
    "fit --data.split [0.5,0.5]": ["--data.split", "three fractions above 0 that sum to 1, got [0.5, 0.5]"],
    "fit --data.split [0.5,0.5,0.5]": ["--data.split", "sum to 1, got [0.5, 0.5, 0.5]"],
    "fit --data.split [1.2,-0.1,-0.1]": ["--data.split", "above 0", "[1.2, -0.1, -0.1]"],
    "fit --data.split [0.99,0.005,0.005]": ["--data.split", "[0.99, 0.005, 0.005]", "test split empty"],
    "fit --data.stratify true --data.split [0.98,0.01,0.01]": ["--data.stratify", "[148, 1, 1] rows"],
    "fit --data.stratify 3": ["--data.stratify", "true or false, got 3"],
    "fit --seed_everything -1": ["--seed_everything", "-1", "from 0 to 4294967295"],
    "fit --trainer.max_epochs 0": ["--trainer.max_epochs 0", "not a single step"],
    "fit --trainer.max_epochs -1": ["--trainer.max_epochs -1", "never end", "max_steps, max_time or EarlyStopping"],
    "fit --trainer.max_steps 0": ["--trainer.max_steps 0", "not a single step"],
    "fit --trainer.check_val_every_n_epoch 0": ["--trainer.check_val_every_n_epoch 0", "at least 1"],
    "fit --trainer.accumulate_grad_batches 0": ["--trainer.accumulate_grad_batches 0", "at least 1"],
    "fit --trainer.max_epochs null": ["--trainer.max_epochs null", "at least -1"],
    "fit --threads 2 --trainer.devices 2": ["--threads: expected one process, or OMP_NUM_THREADS"],
    "fit --trainer.gradient_clip_val -1": ["--trainer.gradient_clip_val -1", "at least 0"],
    "fit --trainer.min_epochs 9": ["--trainer.min_epochs 9", "--trainer.max_epochs, which is 5"],
    "fit --trainer.min_steps 9 --trainer.max_steps 5": ["--trainer.min_steps 9", "--trainer.max_steps, which is 5"],
    "fit --trainer.devices 99": ["--trainer.devices: 99 processes would share batches of 10 rows"],
    "fit --trainer.limit_test_batches 1": ["--trainer.limit_test_batches: has no effect in fit"],
    "test --trainer.limit_val_batches 1 --ckpt_path RUN": ["--trainer.limit_val_batches: has no effect in test"],
    "validate --trainer.limit_test_batches 1 --ckpt_path RUN": ["no effect in validate"],
    "fit --optimizer Rprop --model.weight_decay 0.1": ["--model.weight_decay 0.1: has no effect beside --optimizer"],
    "fit --trainer.callbacks+=ModelCheckpoint --trainer.callbacks.filename best": ["itself keeps best.ckpt"],
    "fit --trainer.callbacks+=ModelCheckpoint --trainer.callbacks.save_last true": ["itself keeps last.ckpt"],
    "fit --print_config=x": ["--print_config"],
    "fit --trainer.limit_train_batches 0": ["--trainer.limit_train_batches 0", "not a single step"],
    "validate --ckpt_path RUN --trainer.limit_val_batches 0": ["--trainer.limit_val_batches 0", "not a single row"],
    "fit --data.batch_size 99999999999999999999": ["--data.batch_size", "from 1 to 2147483647"],
    "fit --model.hidden [100000000000000]": ["--model"],
    "fit --model.lr 1e308": ["--model.lr", "above 0, got 1e+308"],
    "fit --trainer.strategy xla": ["--trainer.strategy xla"],
    "fit --trainer.barebones true": ["unknown option --trainer.barebones"],
    "test --trainer.max_epochs 3 --ckpt_path RUN": ["--trainer.max_epochs", "no effect in test"],
    "fit --model.hidden [9223372036854775808]": ["--model", "Overflow"],
    "fit --model.hidden.x 3": ["--model.hidden: has no option 'x'"],
    "fit --data.path=": ["--data.path: expected a value, got ''"],
    "predict --table f.csv": ["unknown option --table"],
    "test --optimizer Adam --ckpt_path RUN": ["--optimizer", "no effect in test"],
    "validate --lr_scheduler=StepLR --lr_scheduler.step_size=1 --ckpt_path RUN": [
        "--lr_scheduler",
        "no effect in validate",
    ],
    "fit --optimizer SparseAdam": ["SparseAdam"],
    "fit --optimizer SGD --optimizer.lr .inf": ["--optimizer.lr", "above 0, got inf"],
    "fit --optimizer SGD --optimizer.lr inf": ["--optimizer", "lr: expected a number", "got inf"],
    "fit --optimizer SGD --optimizer.lrr 3": ["--optimizer: SGD has no option 'lrr'"],
    "fit --optimizer SGD --optimizer.lr x": ["--optimizer: SGD: lr: expected a number", "got x"],
    "fit --optimizer SGD --optimizer.weight_decay -1": ["--optimizer.weight_decay", "at least 0, got -1.0"],
    "fit --optimizer SGD --model.lr 0.002": ["--model.lr 0.002", "--optimizer.lr"],
    "fit --optimizer.lr 0.1": ["--optimizer: name a class first, as in --optimizer SGD", "or use --model.lr"],
    "fit --lr_scheduler StepLR --lr_scheduler.step_size 0": ["--lr_scheduler", "zero"],
    "fit --trainer.callbacks+=EarlyStopping --trainer.callbacks.monitor=loss/val --trainer.callbacks.mode=mini": [
        "--trainer.callbacks",
        "mini",
    ],
    "test --ckpt_path=": ["--ckpt_path: expected a value, got ''"],
    "test --ckpt_path .": ["--ckpt_path: .: a folder"],
    "fit --trainer.max_epochs inf": ["--trainer.max_epochs", "an integer or null, got inf"],
    "fit --trainer.precision 7": ["--trainer.precision", "16-mixed", "got 7"],
    "fit --trainer.accelerator abacus": ["--trainer.accelerator abacus", "Available names are"],
    "fit --trainer.devices 0": ["--trainer.devices 0", "not a valid input"],
    "fit --trainer.val_check_interval 50": ["--trainer.val_check_interval 50", "number of the training batches (11)"],
    "fit --trainer.callbacks EarlyStoping": ["--trainer.callbacks", "did you mean EarlyStopping?"],
    "fit --trainer.logger CSVLoger": ["--trainer.logger", "did you mean CSVLogger?"],
    "fit --trainer.callbacks+=EarlyStoping": ["--trainer.callbacks", "'EarlyStoping'; did you mean EarlyStopping?"],
    "fit --trainer.callbacks+=EarlyStopping --trainer.callbacks.monitor loss/vall": [
        "--trainer.callbacks",
        "`loss/vall` which is not available",
        "`loss/val`",
    ],
    "fit --lr_scheduler ReduceLROnPlateau --lr_scheduler.monitor val": [
        "--lr_scheduler",
        "metric val which is not available",
        "loss/val",
    ],
    "fit --lr_scheduler StepLR": ["--lr_scheduler", "StepLR", "step_size"],
    "fit --optimizer Adm": ["--optimizer", "no class 'Adm'"],
    "fit --optimizer SGD --optimizer.lr -1": ["--optimizer.lr", "above 0, got -1.0"],
    "fit --optimizer SGD --optimizer.momentum -1": ["--optimizer", "momentum", "-1.0"],
    "fit --optimizer SGD --model.lr 0.5": ["--model.lr 0.5", "--optimizer.lr"],
    "--config nope.yaml fit": ["the command comes first", "fit --config"],
    "fit --data.features length": ["--data.features", "or null, got length"],
    "fit --data.features [length]": ["--data.features", "no column 'length' in Iris", "sepal length (cm)"],
    "fit --data.target kind": ["--data.path: expected one beside target"],
    "fit --data.decimal_comma true": ["--data.path: expected one beside target, missing, decimal_comma"],
    "fit --trainer.logger WandbLogger": ["wandb"],
    "fit --trainer.default_root_dir s3://x/y": ["--trainer.default_root_dir s3://x/y: expected a folder"],
    "fit --lr_scheduler LRScheduler": ["--lr_scheduler"],
    "fit --config nope.yaml": ["--config", "no such file: nope.yaml"],
    "fit --config .": ["--config", "no such file: ."],
    "validate": ["no run under lightning_logs", "fit"],
    "test --ckpt_path last": ["no run under lightning_logs", "fit"],
    "test --ckpt_path nope.ckpt": ["--ckpt_path: nope.ckpt: no such file"],
    "fit --ckpt_path .": ["--ckpt_path: .: a folder"],
    "fit --ckpt_path nope.ckpt": ["--ckpt_path: nope.ckpt: no such file"],
    "fit --weights nope.pth": ["nope.pth: No such file"],
    "fit --model.weights nope.pth": ["unknown option --model.weights"],
    "test --weights nope.onnx": ["nope.onnx", "ends in .pth, .safetensors"],
    "fit --ckpt_path RUN --weights RUN": ["--weights", "no effect beside a checkpoint"],
    "predict": ["required: table"],
    "predict a.csv b.csv": ["unexpected argument 'b.csv'"],
    "predict a.csv --outputs b.csv": ["--outputs", "did you mean --output?"],
    "predict a.csv --trainer.devices 2": ["unknown option --trainer.devices"],
    "predict a.csv --data.predict_path b.csv": ["unknown option --data.predict_path"],
    "predict a.csv --config nope.yaml": ["unknown option --config"],
    "predict a.csv --ckpt_path RUN --weights RUN": ["--weights", "no effect beside a checkpoint"],
    "predict a.csv --decimal_comma 3": ["--decimal_comma", "true or false", "got 3"],
    "predict a.csv": ["no run under lightning_logs", "fit", "--ckpt_path FILE"],
    "export": ["required: output"],
    "export model.pth other.pth": ["unexpected argument 'other.pth'"],
    "export --output model.pth": ["unknown option --output"],
    "export model.pth --trainer.devices 2": ["unknown option --trainer.devices"],
    "export model.pth --ckpt_path RUN --weights RUN": ["--weights", "no effect beside a checkpoint"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_mistyped_commands(command: str, default_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    message = fails(capsys, *command.replace("RUN", str(default_run / "checkpoints" / "best.ckpt")).split())
    for part in COMMANDS[command]:
        assert part in message
    assert "Namespace(" not in message, "a dump of options"
    assert message.strip().rpartition("did you mean ")[2].rstrip("?") not in command.split(), "suggests what was typed"


FILES = {
    "model:\n  lr: 0.1\ndata:\n  batch_size: 5\nmodel:\n  hidden: [3]\n": ["mine.yaml: line 5: model stands twice"],
    "model: &a\n  lr: 0.1\n  hidden: *a\n": ["mine.yaml: line 1: an anchor stands within itself"],
    "trainer: null\n": ["mine.yaml: trainer: expected options of its own"],
    "trainer: [1]\n": ["mine.yaml: trainer: expected options of its own"],
    "model:\n  lrr: 1\n": ["unknown option model.lrr; did you mean model.lr?"],
    "modell:\n  lr: 1\n": ["unknown option modell.lr; did you mean model.lr?"],
    "foo: 1\n": ["unknown option foo"],
    "trainer:\n  max_epochs: x\n": ["--trainer.max_epochs: expected an integer or null, got x"],
    "model: [\n": ["line 2"],
    "model: 5\n": ["model: expected options of its own, got 5"],
    "model:\n  lr: null\n": ["--model.lr", "got null"],
    "seed_everything: null\n": ["--seed_everything", "got null"],
    "model:\n  class_names: [a]\n": ["class_names"],
    "": ["expected options", "got nothing"],
    "- a\n": ["expected options", "got - a"],
    "trainer:\n  callbacks:\n  - class_path: EarlyStopping\n    init_args:\n      monitr: x\n": ["'monitr'"],
    "\x00\x01": ["mine.yaml"],
    "model:\n  lr: &a 1\n  lr: *b\n": ["mine.yaml"],
}


def test_a_key_that_stands_twice_in_a_file_for_a_group(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "model.yaml").write_text("lr: 0.1\nlr: 0.2\n")
    (folder / "mine.yaml").write_text("model: model.yaml\n")
    for options in (["--config", "mine.yaml"], ["--model", "model.yaml"], ["--model=model.yaml"]):
        assert "model.yaml: line 2: lr stands twice" in fails(capsys, "fit", *options)


def test_values_that_are_empty(capsys: pytest.CaptureFixture[str]) -> None:
    for command, option in (("test", "--ckpt_path"), ("fit", "--data.path"), ("fit", "--config")):
        assert f"{option}: expected a value, got ''" in fails(capsys, command, option, "")


def test_a_network_that_was_never_trained_is_evaluated_by_no_command(
    default_run: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(load(default_run / "checkpoints" / "last.ckpt") | {"global_step": 0}, "last.ckpt")
    for command in (["test"], ["validate"], ["predict", "a.csv"], ["export", "model.pth"]):
        assert "last.ckpt: its network is untrained" in fails(capsys, *command, "--ckpt_path", "last.ckpt")


@pytest.mark.parametrize("text", FILES)
def test_bad_yaml_files_are_named(text: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "mine.yaml").write_text(text)
    message = fails(capsys, "fit", "--config", "mine.yaml")
    for part in [*([] if "null" in text else ["mine.yaml: "]), *FILES[text]]:
        assert part in message


def test_a_yaml_file_that_is_no_text(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "mine.yaml").write_bytes(bytes(range(256)))
    assert "mine.yaml: " in fails(capsys, "fit", "--config", "mine.yaml")


@pytest.mark.parametrize(
    ("options", "given", "trained"),
    [
        ("--model.lr 0.5", "0.5", "0.001"),
        ("--model.hidden [8]", "[8]", "[16, 8]"),
        ("--model.standardize true", "True", "False"),
        ("--data.split_seed 0", "0", "20"),
        ("--data.split [0.6,0.2,0.2]", "[0.6, 0.2, 0.2]", "[0.7, 0.2, 0.1]"),
        ("--data.stratify true", "True", "False"),
    ],
)
@pytest.mark.parametrize("command", ["fit", "test"])
def test_what_contradicts_the_checkpoint_is_refused(
    command: str, options: str, given: str, trained: str, default_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = default_run / "checkpoints" / "best.ckpt"
    message = fails(capsys, command, "--ckpt_path", str(path), *options.split())
    assert options.split()[0] in message
    assert f" {given}: {path} was trained with {trained}" in message


@pytest.mark.parametrize(
    "options", ["--optimizer SGD", "--lr_scheduler ExponentialLR --lr_scheduler.gamma 0.5", "--seed_everything 1"]
)
def test_what_contradicts_the_run_to_resume_is_refused(
    options: str, default_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = default_run / "checkpoints" / "best.ckpt"
    message = fails(capsys, "fit", "--ckpt_path", str(path), "--trainer.max_epochs", "9", *options.split())
    assert f"{options.split()[0]}: {default_run} has another one" in message


def test_a_newest_run_without_checkpoint(capsys: pytest.CaptureFixture[str]) -> None:
    fit("--trainer.max_epochs", "1")
    fit("--trainer.max_epochs", "1", "--trainer.limit_val_batches", "0")
    assert "lightning_logs/version_1, has no best.ckpt: no epoch was validated; try --ckpt_path last" in fails(
        capsys, "test"
    )
    fit("--trainer.max_epochs", "1", "--trainer.enable_checkpointing", "false")
    for command in (["test"], ["predict", "a.csv"], ["fit", "--ckpt_path", "last"]):
        assert "lightning_logs/version_2, kept no checkpoints; try --ckpt_path FILE" in fails(capsys, *command)


def test_a_checkpoint_outside_a_run_has_no_run_to_resume(
    default_run: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(default_run / "checkpoints" / "last.ckpt", folder)
    message = fails(capsys, "fit", "--ckpt_path", "last.ckpt", "--trainer.max_epochs", "9")
    assert "--ckpt_path: last.ckpt: lies in no run folder" in message


def test_an_earlier_checkpoint_would_lose_the_later_epochs(capsys: pytest.CaptureFixture[str]) -> None:
    fit("--optimizer", "SGD", "--optimizer.lr", "0.1", "--trainer.max_epochs", "8")
    message = fails(capsys, "fit", "--ckpt_path", "best", "--trainer.max_epochs", "9")
    assert "the run has gone on to epoch 7; resume last" in message


@pytest.mark.parametrize("mistake", ["--trainer.val_check_interval 500", "--trainer.check_val_every_n_epoch 0"])
def test_a_mistake_leaves_the_run_that_was_to_be_resumed_as_it_was(
    mistake: str, capsys: pytest.CaptureFixture[str]
) -> None:
    fit("--trainer.max_epochs", "1")
    config = Path("lightning_logs/version_0/config.yaml")
    before = config.read_text()
    with pytest.raises(SystemExit):
        main(["fit", "--ckpt_path", "last", "--trainer.max_epochs", "2", *mistake.split()])
    assert "Traceback" not in capsys.readouterr().err
    assert config.read_text() == before
    assert main(["fit", "--ckpt_path", "last", "--trainer.max_epochs", "2"]).trainer.current_epoch == 2


def test_a_mistake_leaves_other_runs_alone() -> None:
    fit("--trainer.max_epochs", "1")
    logger = ["--trainer.logger=TensorBoardLogger", "--trainer.logger.save_dir=.", "--trainer.logger.version=0"]
    checkpoints = Path("lightning_logs/version_0/checkpoints")
    before = sorted(checkpoints.iterdir())
    with pytest.raises(SystemExit):
        main(["fit", *logger, "--trainer.val_check_interval", "500"])
    assert sorted(checkpoints.iterdir()) == before


def test_without_a_logger_no_config_is_overwritten(folder: Path) -> None:
    (folder / "config.yaml").write_text("# mine\ntrainer: {max_epochs: 1}\n")
    fit("--config", "config.yaml", "--trainer.logger", "false")
    assert (folder / "config.yaml").read_text().startswith("# mine")


def test_a_run_folder_that_cannot_be_made(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "taken").write_text("a file")
    assert "taken" in fails(capsys, "fit", "--trainer.default_root_dir", "taken")
