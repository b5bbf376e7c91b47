"""What `--help` after a command prints: a line for each option of its parser."""

import json
import re
import textwrap

from jsonargparse import ArgumentParser

__all__ = ["format_help"]

WIDTH = 118
INDENT = 46
GENERAL = {  # options that no docstring explains, or in other words
    "seed_everything": "Seed of the initial weights and of the order of the train rows.",
    "ckpt_path": "Checkpoint to use, or run to resume: best or last of the newest, or a file.",
    "weights": "Weights to start from: .pth or .safetensors.",
    "name": "Name for a list of runs: the folder is lightning_logs/NAME/version_N/.",
    "figures": "Whether pictures are drawn at the end, for TensorBoard.",
    "threads": "Threads of torch; by default one for small batches.",
    "folds": "Folds of each repeat.",
    "repeats": "Repeats, each with other folds.",
    "fold_seed": "Seed of the folds, as scikit-learn's random_state.",
    "max_parallel": "Folds that are trained at once; the results do not depend on it.",
    "baselines": "Whether scikit-learn's classifiers are measured on the same folds.",
    "trainer.limit_train_batches": "Batches of an epoch: a number, or a fraction.",
    "trainer.limit_val_batches": "Batches of a validation: a number, or a fraction.",
    "trainer.limit_test_batches": "Batches of a test: a number, or a fraction.",
    "optimizer": "In place of Adam, as in --optimizer SGD --optimizer.lr 0.1.",
    "lr_scheduler": "As in --lr_scheduler StepLR --lr_scheduler.step_size 2.",
}


def format_help(parser: ArgumentParser) -> str:
    """Returns the options of a parser, with their defaults."""
    usage = f"usage: python -m {parser.prog}"
    defaults = dict(parser.get_defaults().items())
    lines: list[str] = []
    group = None
    for action in parser._actions:
        name = action.dest
        if name not in defaults:
            continue
        if name.rpartition(".")[0] != group:
            group = name.rpartition(".")[0]
            lines.append("")
        purpose = GENERAL.get(name) or str(action.help)
        if action.option_strings:
            default = json.dumps(defaults[name]).strip('"')
            lines.append(_entry(f"--{name} {default}", purpose))
        else:
            usage += f" {name.upper()}"
            lines.append(_entry(name, purpose))
    return "\n".join([f"{usage} [options]", *lines])


def _entry(option: str, purpose: str) -> str:
    text = re.sub(r":\w+:|`", "", purpose)
    if option.startswith("--trainer."):  # of Lightning's long texts, the first sentence or less
        sentence, *_ = re.split(r"\.\s", text)
        text = textwrap.shorten(sentence, WIDTH - INDENT, placeholder=" …")
    indent = " " * INDENT
    return textwrap.fill(f"  {option:{INDENT - 2}}{text}", WIDTH, subsequent_indent=indent)
