"""A member of a stack equals a classifier that a plain Trainer trains alone."""

import warnings
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import lightning as L
import numpy as np
import polars as pl
import pytest
import torch
from torch import Tensor, nn

from iris_lightning import IrisClassifier, IrisDataModule, UserError, cross_validate
from iris_lightning.ensemble.members import (
    Member,
    assign_folds,
    groups_of_folds,
    split_into_stacks,
)
from iris_lightning.ensemble.stack import StackedClassifier
from iris_lightning.ensemble.training import TRAINER
from tests.conftest import plain_lightning

pytestmark = plain_lightning


class Own(IrisClassifier):
    """Overrides all supported methods; adds an option, a parameter and a buffer."""

    temperature: Tensor

    def __init__(self, width: int = 6, **options: Any) -> None:
        super().__init__(**options)
        self.register_buffer("temperature", torch.rand(()) + 0.5)
        self.bias = nn.Parameter(torch.zeros(len(self.hparams["class_names"])))

    def make_network(self) -> nn.Module:
        width = self.hparams["width"]
        inputs, outputs = len(self.hparams["feature_names"]), len(self.hparams["class_names"])
        shared = nn.PReLU()
        layers = nn.Linear(inputs, width), nn.LayerNorm(width), shared, nn.Dropout(0.0)
        return nn.Sequential(*layers, nn.Linear(width, outputs), shared)

    def make_optimizer(self, parameters: Iterable[nn.Parameter]) -> Any:
        groups: list[dict[str, Any]] = []
        for parameter in parameters:
            decay = 0.1 if parameter.ndim > 1 else 0.0
            groups.append({"params": [parameter], "weight_decay": decay})
        optimizer = torch.optim.SGD(groups, lr=0.05, momentum=0.9)
        steps = int(self.trainer.estimated_stepping_batches)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=steps)
        schedule = {"scheduler": scheduler, "interval": "step"}
        return {"optimizer": optimizer, "lr_scheduler": schedule}

    def row_losses(self, logits: Tensor, targets: Tensor) -> Tensor:
        return super().row_losses(logits / self.temperature, targets) + logits.square().mean(dim=1)

    def forward(self, features: Tensor) -> Tensor:
        return super().forward(features) + self.bias


class FoldData(IrisDataModule):
    """Uses the rows of one member instead of the splits."""

    member: Member

    @property
    def rows(self) -> dict[str, Tensor]:
        return {"train": self.member.train, "val": self.member.val, "test": self.member.held_out}


BALANCED: dict[str, Any] = {"standardize": True, "class_weight": "balanced"}
CASES: dict[str, tuple[Any, ...]] = {  # class, and options of it, the data module and the Trainer
    "lesson": (IrisClassifier, {}, {}, {}),
    "own table, in epochs of unequal steps": (
        IrisClassifier,
        {**BALANCED, "hidden": [12], "activation": "gelu", "lr": 0.01, "weight_decay": 0.1},
        {"path": "rows.csv", "features": ["length", "width"], "batch_size": 17},
        {"gradient_clip_val": 0.5, "accumulate_grad_batches": 3},
    ),
    "categories, and means for missing values": (
        IrisClassifier,
        {**BALANCED, "impute": True, "activation": "silu"},
        {"path": "rows.csv", "features": ["gap", "width", "site"], "missing": "mean"},
        {},
    ),
    "subclass": (
        Own,
        {"width": 9, "class_weight": "balanced"},
        {"batch_size": 32},
        {"gradient_clip_val": 0.1},
    ),
}


@pytest.fixture
def rows() -> None:
    """Writes a table with categories, missing values and unequal classes."""
    draw = np.random.default_rng(0)
    kind = draw.choice(3, size=90, p=[0.6, 0.3, 0.1])
    length = kind + draw.normal(size=90)
    gap = np.where(np.arange(90) % 9 == 0, np.nan, length)
    columns = {
        "length": length,
        "width": draw.normal(size=90) * 100,
        "gap": pl.Series(gap).fill_nan(None),
        "site": draw.choice(["x", "y"], size=90),
        "kind": np.array(["a", "b", "c"])[kind],
    }
    pl.DataFrame(columns).write_csv("rows.csv")


@pytest.mark.usefixtures("rows")
@pytest.mark.parametrize("case", CASES)
def test_a_member_equals_a_classifier_trained_alone(case: str) -> None:
    kind, options, data_options, trainer_options = CASES[case]
    data = FoldData(**data_options)
    table = data.table
    names = {"feature_names": table.feature_names, "class_names": table.class_names}
    options = names | options
    make_trainer = partial(L.Trainer, **{**TRAINER, "max_epochs": 3, **trainer_options})
    assigned = assign_folds(table, 4, 1, fold_seed=1)
    groups = groups_of_folds(assigned, data, num_members=1, seed=5, choose="last")
    stacks = list(split_into_stacks(groups, data.batch_size, largest=3))
    assert {1, 3} == {len(stack) for stack in stacks}
    for stack in stacks:
        trainer = make_trainer()
        stacked = StackedClassifier(kind(**options), data, stack)
        trainer.fit(stacked)
        weights = stacked.step.classifier.state_dict()
        for i in {0, len(stack) - 1}:
            own_data = FoldData(**data_options)
            [own_data.member] = stack[i]
            torch.manual_seed(own_data.member.seed)
            alone = kind(**options)
            make_trainer().fit(alone, own_data)
            for name, tensor in alone.state_dict().items():
                torch.testing.assert_close(weights[name][i], tensor, rtol=0, atol=1e-5, msg=name)


class Dropping(IrisClassifier):
    """Uses dropout."""

    def make_network(self) -> nn.Module:
        return nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 3))


def test_results_do_not_depend_on_stack_size(monkeypatch: pytest.MonkeyPatch) -> None:
    model = {"hidden": [5], "activation": "relu", "lr": 0.02, "class_weight": "balanced"}
    one = cross_validate(model, folds=5, repeats=2, max_epochs=2)
    monkeypatch.setattr("iris_lightning.ensemble.training.MAX_STACK_SIZE", 3)
    other = cross_validate(model, folds=5, repeats=2, max_epochs=2)
    assert len(other.networks) == 4
    np.testing.assert_allclose(one.probabilities, other.probabilities, rtol=0, atol=1e-6)


def test_dropout_is_repeatable() -> None:
    one, other = (cross_validate(Dropping(), folds=5, repeats=1, max_epochs=2) for _ in range(2))
    np.testing.assert_array_equal(one.probabilities, other.probabilities)


def test_compiled_networks_can_be_stacked() -> None:
    model = IrisClassifier()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        model.network = torch.compile(model.network)  # type: ignore[assignment]  # a module, too
    one, other = (cross_validate(each, folds=2, repeats=1, max_epochs=1) for each in (model, None))
    np.testing.assert_array_equal(one.probabilities, other.probabilities)


class OwnStep(IrisClassifier):
    """Overrides a method that the stack does not call."""

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        return super().training_step(batch, batch_idx)


class Normalized(IrisClassifier):
    """Uses batch normalization."""

    def make_network(self) -> nn.Module:
        return nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 3))


def optimized(make: Callable[[Any], Any]) -> IrisClassifier:
    model = IrisClassifier()
    vars(model)["make_optimizer"] = make
    return model


def replaced() -> IrisClassifier:
    model = IrisClassifier()
    model.network = nn.Linear(4, 3)
    return model


REFUSED: dict[str, tuple[Callable[[], IrisClassifier], str]] = {
    "a step of its own": (OwnStep, "OwnStep.training_step"),
    "running statistics": (Normalized, "BatchNorm1d"),
    "a replaced network": (replaced, "make_network"),
    "optimizer that mixes numbers": (lambda: optimized(torch.optim.LBFGS), "LBFGS"),
    "optimizer of other parameters": (
        lambda: optimized(lambda _: torch.optim.Adam(IrisClassifier().parameters())),
        "make_optimizer",
    ),
    "other classes": (lambda: IrisClassifier(class_names=["a", "b"]), "class_names"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_unsupported_classifiers_raise_an_error(case: str) -> None:
    make, name = REFUSED[case]
    with pytest.raises(UserError, match=name):
        cross_validate(make(), folds=2, repeats=1, max_epochs=1)
