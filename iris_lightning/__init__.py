"""A classifier of iris flowers, trained with PyTorch Lightning."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the aliases mark these names as public
    from iris_lightning.classifier import IrisClassifier as IrisClassifier
    from iris_lightning.data import IrisDataModule as IrisDataModule
    from iris_lightning.ensemble.classifier import EnsembleClassifier as EnsembleClassifier
    from iris_lightning.ensemble.data import EnsembleDataModule as EnsembleDataModule
    from iris_lightning.ensemble.training import cross_validate as cross_validate
    from iris_lightning.errors import UserError as UserError
    from iris_lightning.network import IrisNetwork as IrisNetwork
    from iris_lightning.predictor import IrisPredictor as IrisPredictor
    from iris_lightning.predictor import load as load
    from iris_lightning.runs.report import TensorBoardReport as TensorBoardReport

__version__ = "0.2.0"

_MODULES = {
    "EnsembleClassifier": "ensemble.classifier",
    "EnsembleDataModule": "ensemble.data",
    "IrisClassifier": "classifier",
    "IrisDataModule": "data",
    "IrisNetwork": "network",
    "IrisPredictor": "predictor",
    "TensorBoardReport": "runs.report",
    "UserError": "errors",
    "cross_validate": "ensemble.training",
    "load": "predictor",
}
__all__ = [*_MODULES]


def __getattr__(name: str) -> Any:
    """Imports public names on first use, so that `load` does not import Lightning."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    """Lists the public names, including those that are not imported yet."""
    return [*__all__, "__version__"]
