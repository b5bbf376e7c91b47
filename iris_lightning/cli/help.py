"""What `--help` after a command prints: a line for each option of its parser."""

import json
import re
import textwrap

from jsonargparse import ArgumentParser

WIDTH = 118  # characters
INDENT = 46
PURPOSES = {  # where jsonargparse lists classes, or Lightning says something else
    "optimizer": "In place of Adam, as in --optimizer SGD --optimizer.lr 0.1.",
    "lr_scheduler": "As in --lr_scheduler StepLR --lr_scheduler.step_size 2.",
    "trainer.max_epochs": "Number of epochs; by default 5 without max_steps or max_time.",
    "trainer.limit_train_batches": "Train batches of an epoch: a number, or a fraction.",
    "trainer.limit_val_batches": "Batches of a validation: a number, or a fraction.",
    "trainer.limit_test_batches": "Batches of a test: a number, or a fraction.",
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
        purpose = PURPOSES.get(name) or str(action.help)
        if action.option_strings:
            default = json.dumps(defaults[name]).strip('"')
            lines.append(_format_option(f"--{name} {default}", purpose))
        else:
            usage += f" {name.upper()}"
            lines.append(_format_option(name, purpose))
    return "\n".join([f"{usage} [options]", *lines])


def _format_option(option: str, purpose: str) -> str:
    text = re.sub(r":\w+:|`", "", purpose)
    if option.startswith("--trainer."):  # of Lightning's long texts, the first sentence or less
        sentence, *_ = re.split(r"\.\s", text)
        text = textwrap.shorten(sentence, WIDTH - INDENT, placeholder=" …")
    indent = " " * INDENT
    return textwrap.fill(f"  {option:{INDENT - 2}}{text}", WIDTH, subsequent_indent=indent)
