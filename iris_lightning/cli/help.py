"""What `--help` after a command prints: its options, a line each, the project's own first."""

import inspect
import json
import textwrap
from collections.abc import Callable
from typing import Any

from docstring_parser import parse

__all__ = ["help_of", "help_text"]

# Lightning's own texts fill pages, with marks of its documentation.
TRAINER = {
    "max_epochs": "Epochs to train; -1 where something else ends the run.",
    "max_steps": "Steps to train.",
    "max_time": "Time to train, as DD:HH:MM:SS.",
    "min_epochs": "Epochs to train even where a callback would end the run.",
    "min_steps": "Steps to train even where a callback would end the run.",
    "accelerator": "auto, cpu, gpu, mps, …",
    "devices": "Number of devices, or of processes on the CPU.",
    "num_nodes": "Number of machines.",
    "strategy": "How several processes share the work: ddp, …",
    "precision": "32-true, 16-mixed, bf16-mixed, 64-true, …",
    "callbacks": "Further callbacks, as in --trainer.callbacks+=EarlyStopping.",
    "logger": "Further loggers, such as CSVLogger; false for no curves.",
    "enable_checkpointing": "Whether best.ckpt and last.ckpt are kept.",
    "enable_progress_bar": "Whether there is a progress bar; by default in a terminal.",
    "enable_model_summary": "Whether the layers are listed.",
    "default_root_dir": "Folder of lightning_logs/; by default the current one.",
    "limit_train_batches": "Train batches of an epoch: a number, or with 0.5 half of them.",
    "limit_val_batches": "Validation batches: a number or a fraction.",
    "limit_test_batches": "Test batches: a number or a fraction.",
    "overfit_batches": "Train batches to overfit: a number or a fraction.",
    "fast_dev_run": "One batch of everything, or this many; nothing is kept.",
    "check_val_every_n_epoch": "Epochs from one validation to the next.",
    "val_check_interval": "Train batches from one validation to the next, or a fraction.",
    "num_sanity_val_steps": "Validation batches before the first epoch.",
    "log_every_n_steps": "Steps from one logging to the next, for callbacks.",
    "accumulate_grad_batches": "Batches whose gradients are added up for a step.",
    "gradient_clip_val": "Largest norm, or value, of the gradients.",
    "gradient_clip_algorithm": "norm or value.",
    "deterministic": "Whether nondeterministic operations are refused, or warn.",
    "benchmark": "Whether cuDNN looks for its fastest algorithm.",
    "inference_mode": "Whether evaluation uses inference mode rather than no_grad.",
    "detect_anomaly": "Whether autograd looks for NaN in the backward pass.",
    "profiler": "simple, advanced or pytorch: where the time goes.",
    "plugins": "Lightning's plugins.",
    "enable_autolog_hparams": "Whether loggers get the hyperparameters.",
}


def help_text(command: str) -> str:
    """Returns the options of a command of LightningCLI, each with its default and what it is for."""
    import lightning as L  # here: `predict --help` does without

    from iris_lightning.cli.options import FOLDS, FROM_THE_TABLE, GROUPS, OVERRIDABLE, WITHOUT_EFFECT
    from iris_lightning.cli.trainer import TRAINER_DEFAULTS
    from iris_lightning.crossvalidation.training import cross_validate

    trains = command in ("fit", "crossvalidate")
    general = {
        "--config FILE": "YAML file of options; those typed after it win.",
        "--print_config": "Prints all options as such a file.",
        "--ckpt_path CHECKPOINT": "Checkpoint to evaluate: best (the default) or last of the newest run, or a file.",
        "--weights FILE": "Weights to evaluate in place of a checkpoint: .pth or .safetensors.",
        "--threads N": "Threads of torch; by default one for small batches, else OMP_NUM_THREADS, or all cores.",
    }
    if trains:
        general |= {
            "--ckpt_path CHECKPOINT": "Run to go on with: last, of the newest run, or a file.",
            "--weights FILE": "Weights to start from: .pth or .safetensors.",
            "--name NAME": "Name for a list of runs: the folder is lightning_logs/NAME/version_N/.",
            "--figures true": "Whether pictures are drawn at the end, for TensorBoard.",
            "--seed_everything 20": "Seed of the initial weights and of the order of the train rows.",
        }
    without = WITHOUT_EFFECT[command]
    sections = [{option: text for option, text in general.items() if option.split()[0].strip("-") not in without}]
    if command == "crossvalidate":
        folds = {
            param.arg_name: str(param.description).replace("`", "")
            for param in parse(str(cross_validate.__doc__)).params
        }
        sections.append(_section("", FOLDS, {name: folds[name] for name in FOLDS}))
    for group, kind in GROUPS.items():
        texts = {param.arg_name: str(param.description) for param in parse(str(kind.__doc__)).params}
        has_part = texts.keys() - FROM_THE_TABLE if trains else OVERRIDABLE[command]
        has_part = {name for name in has_part if f"{group}.{name}" not in without}
        options = _section(f"{group}.", _defaults(kind), {name: texts[name] for name in texts if name in has_part})
        # What an evaluation leaves out is as in training, whatever the default is there.
        sections.append(options if trains else {f"{name.split()[0]} (as trained)": options[name] for name in options})
    if trains:
        scheduler = "As in --lr_scheduler StepLR --lr_scheduler.step_size 2; by default none."
        optimizer = "In place of Adam, as in --optimizer SGD --optimizer.lr 0.1."
        sections.append({"--optimizer CLASS": optimizer, "--lr_scheduler CLASS": scheduler})
    texts = {name: text for name, text in TRAINER.items() if f"trainer.{name}" not in without}
    return _list_options(command, *sections, _section("trainer.", _defaults(L.Trainer) | TRAINER_DEFAULTS, texts))


def _section(prefix: str, defaults: dict[str, Any], texts: dict[str, str]) -> dict[str, str]:
    return {f"--{prefix}{name} {_in_yaml(defaults[name])}": text.replace("`", "") for name, text in texts.items()}


def _defaults(kind: Callable[..., Any]) -> dict[str, Any]:
    return {name: parameter.default for name, parameter in inspect.signature(kind).parameters.items()}


def help_of(function: Callable[..., Any]) -> str:
    """Returns the options of a command that is a function, from its parameters and docstring."""
    texts = {param.arg_name: str(param.description) for param in parse(str(function.__doc__)).params}
    defaults = _defaults(function)
    required = [name for name in texts if defaults[name] is inspect.Parameter.empty]
    options = {f"--{name} {_in_yaml(defaults[name])}": text for name, text in texts.items() if name not in required}
    command = f"{function.__name__} {' '.join(required).upper()}"
    return _list_options(command, {name: texts[name] for name in required}, options)


def _list_options(command: str, *sections: dict[str, str]) -> str:
    lines = [f"usage: python -m iris_lightning {command} [options]"]
    for section in filter(None, sections):
        lines.append("")
        for option, text in section.items():
            lines += textwrap.wrap(text, 118, initial_indent=f"  {option:44}", subsequent_indent=" " * 46)
    return "\n".join(lines)


def _in_yaml(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
