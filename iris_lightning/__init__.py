"""A classifier of iris flowers, trained with PyTorch Lightning."""

from iris_lightning.classifier import IrisClassifier
from iris_lightning.data import IrisDataModule
from iris_lightning.errors import UserError
from iris_lightning.network import IrisNetwork

__all__ = ["IrisClassifier", "IrisDataModule", "IrisNetwork", "UserError"]

__version__ = "0.1.0"
