"""Hyperparameters as plain values, which checkpoints and YAML can hold."""

import os
import re
from collections.abc import Sequence
from typing import Any

import yaml

__all__ = ["plain", "to_yaml"]


def plain(value: Any) -> Any:
    """Returns an option as Python's own numbers, texts and lists, where it is NumPy's, a path or another sequence."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [plain(item) for item in value]
    return os.fspath(value) if isinstance(value, os.PathLike) else value


class _Dumper(yaml.SafeDumper):
    """Puts texts such as `1e3` in quotes, which jsonargparse would read as numbers."""


_Dumper.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[\d_.]+([eE][-+]?\d+)?$"), [*"-+0123456789."]
)


def to_yaml(options: Any) -> str:
    """Returns plain values as YAML, which is read as the same values, by PyYAML and as a config."""
    return yaml.dump(options, Dumper=_Dumper, sort_keys=False)
