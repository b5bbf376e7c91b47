"""Hyperparameters as plain values, for checkpoints and YAML files."""

import inspect
import os
import re
from collections.abc import Mapping
from typing import Any

import yaml

from iris_lightning.network import uncompiled
from iris_lightning.table import CsvFormat

FORMAT = 1  # of checkpoints; version 0.1.0 recorded none


def class_name(instance: object) -> str:
    """Returns the qualified name of an object's class."""
    kind = type(instance)
    return f"{kind.__module__}.{kind.__qualname__}"


def describe_origin(module: Any) -> dict[str, Any]:
    """Returns what a checkpoint records of a module and its `network`: classes and options."""
    network = uncompiled(module.network)
    return {
        "format": FORMAT,
        "module": class_name(module),
        "network": class_name(network),
        "network_options": getattr(network, "options", None),
    }


def option_names(kind: type) -> list[str]:
    """Returns the parameters of a class, with those of `CsvFormat` in place of `**csv`."""
    names = list(inspect.signature(kind).parameters)
    if "csv" in names:
        names.remove("csv")
        names += inspect.signature(CsvFormat).parameters
    return names


def to_builtin(value: Any) -> Any:
    """Converts an option to built-in types: numbers, texts, tuples, lists and dicts."""
    if hasattr(value, "tolist"):  # NumPy and torch
        return value.tolist()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Mapping):
        return {name: to_builtin(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(to_builtin, value))
    return value


class _Dumper(yaml.SafeDumper):
    """Quotes texts that jsonargparse would read as numbers, such as `1e3`."""


_Dumper.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[\d_.]+([eE][-+]?\d+)?$"), [*"-+0123456789."]
)
# jsonargparse and Lightning have subclasses of int and str. Other types, such as time spans, are
# written as texts.
_Dumper.add_multi_representer(int, _Dumper.represent_int)
_Dumper.add_multi_representer(str, _Dumper.represent_str)
_Dumper.add_multi_representer(object, lambda dumper, value: dumper.represent_str(str(value)))


def to_yaml(options: Any) -> str:
    """Formats plain values as YAML that PyYAML and jsonargparse read alike."""
    return yaml.dump(options, Dumper=_Dumper, sort_keys=False)
