"""The text that `COMMAND --help` prints: one line per option."""

import json
import re
import textwrap

from jsonargparse import ArgumentParser

WIDTH = 118  # characters
INDENT = 46
PURPOSES = {  # instead of the help texts of jsonargparse and Lightning
    "config": "YAML file with options, or the name of a preset; can be repeated.",
    "trainer.max_epochs": "Number of epochs; by default 5, unless there is another limit.",
    "optimizer": "Replaces Adam, as in --optimizer SGD --optimizer.lr 0.1.",
    "lr_scheduler": "Scheduler, as in --lr_scheduler StepLR --lr_scheduler.step_size 2.",
}


def format_help(parser: ArgumentParser) -> str:
    """Returns the usage of a command, and its options with their defaults."""
    usage = f"usage: python -m {parser.prog}"
    defaults = dict(parser.get_defaults().items())
    lines = [""]
    for action in parser._actions:
        name = action.dest
        if name not in defaults:
            continue
        purpose = PURPOSES.get(name) or str(action.help)
        if action.option_strings:
            default = json.dumps(defaults[name]).strip('"')
            lines.append(_format_option(f"--{name} {default}", purpose))
        else:
            usage += f" {name.upper()}"
            lines.append(_format_option(name, purpose))
    if "config" in defaults:
        lines.append(_format_option("--print_config", "Print all options as a config, and exit."))
    return "\n".join([f"{usage} [options]", *lines])


def _format_option(option: str, purpose: str) -> str:
    text = re.sub(r":\w+:|`", "", purpose)
    if option.startswith("--trainer."):  # Lightning's texts are long
        sentence, *_ = re.split(r"\.\s", text)
        text = textwrap.shorten(sentence, WIDTH - INDENT, placeholder=" …")
    indent = " " * INDENT
    return textwrap.fill(f"  {option:{INDENT - 2}}{text}", WIDTH, subsequent_indent=indent)
