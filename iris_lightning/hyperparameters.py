"""Hyperparameters and what else a checkpoint records: plain values, which files can hold."""

import os
import re
from collections.abc import Mapping
from typing import Any

import yaml

FORMAT = 1  # of checkpoints; those of version 0.1.0 have no number


def class_name(instance: object) -> str:
    """Returns the qualified name of the class of an object."""
    kind = type(instance)
    return f"{kind.__module__}.{kind.__qualname__}"


def to_builtin(value: Any) -> Any:
    """Returns an option as Python's own numbers, texts, tuples, lists and dicts."""
    if hasattr(value, "tolist"):  # NumPy's and torch's
        return value.tolist()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Mapping):
        return {name: to_builtin(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(to_builtin, value))
    return value


class _Dumper(yaml.SafeDumper):
    """Quotes texts such as `1e3`, which jsonargparse would read as numbers."""


_Dumper.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[\d_.]+([eE][-+]?\d+)?$"), [*"-+0123456789."]
)
_Dumper.add_representer(tuple, yaml.SafeDumper.represent_list)


def to_yaml(options: Any) -> str:
    """Returns plain values as YAML, which PyYAML and jsonargparse read as the same values."""
    return yaml.dump(options, Dumper=_Dumper, sort_keys=False)
