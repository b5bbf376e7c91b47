"""Noise within the classes: its mean, its covariance, and the discriminant analysis that it leads to."""

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_iris, load_wine
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from iris_lightning import IrisDataModule
from iris_lightning.noise import ClassNoise
from tests.conftest import assert_same_weights, fails, fit, load

FEATURES, TARGETS = (torch.tensor(values) for values in load_iris(return_X_y=True))
FEATURES = FEATURES.float() * torch.tensor([1, 1000, 0.001, 1])  # whatever the units


def many(noise: ClassNoise, features: Tensor, targets: Tensor) -> Tensor:
    """Returns noisy rows, shape `(draws, rows, features)`."""
    generator = torch.Generator().manual_seed(0)
    return torch.stack(
        [noise(features, targets, torch.randn(features.shape, generator=generator)) for _ in range(2000)]
    )


@pytest.mark.parametrize("shrinkage", [0.0, 0.3, 1.0])
def test_noise_has_the_covariance_within_the_classes(shrinkage: float) -> None:
    noise = ClassNoise(FEATURES, TARGETS, 3, share=1.0, shrinkage=shrinkage)
    rows = many(noise, FEATURES, TARGETS)
    oracle = LinearDiscriminantAnalysis(solver="lsqr").fit(FEATURES.numpy(), TARGETS.numpy())
    expected = oracle.covariance_ * np.where(np.eye(4), 1, 1 - shrinkage)
    deviation = np.sqrt(np.diag(expected))
    for kind in range(3):
        own = rows[:, kind == TARGETS].flatten(0, 1).double().numpy() / deviation
        np.testing.assert_allclose(own.mean(axis=0), oracle.means_[kind] / deviation, atol=0.02)
        np.testing.assert_allclose(np.cov(own.T), expected / np.outer(deviation, deviation), atol=0.02)


def test_a_share_of_each_row_is_kept() -> None:
    noise = ClassNoise(FEATURES, TARGETS, 3, share=0.36)
    means = torch.stack([FEATURES[kind == TARGETS].mean(dim=0) for kind in range(3)])[TARGETS]
    expected = means + 0.8 * (FEATURES - means)
    found = many(noise, FEATURES, TARGETS).mean(dim=0)
    torch.testing.assert_close(found / FEATURES.std(dim=0), expected / FEATURES.std(dim=0), rtol=0, atol=0.06)


@pytest.mark.parametrize("load_table", [load_iris, load_wine])
def test_without_minor_discriminants_the_classes_differ_along_the_first_alone(load_table: object) -> None:
    features, targets = load_table(return_X_y=True)  # type: ignore[operator]
    noise = ClassNoise(torch.tensor(features).float(), torch.tensor(targets), 3, share=1.0, minor_discriminants=0.25)
    oracle = LinearDiscriminantAnalysis(solver="svd").fit(features, targets)
    means, centres = (oracle.transform(values.numpy()) for values in (noise.means, noise.centres))
    np.testing.assert_allclose(centres[:, 0], means[:, 0], atol=2e-3)
    np.testing.assert_allclose(centres[:, 1], 0.25 * means[:, 1], atol=2e-3)


def test_constant_features_missing_ones_and_classes_without_rows() -> None:
    features = torch.cat([FEATURES[:100], torch.full((100, 1), 7.0), FEATURES[:100, :1] * 2], dim=1)
    features[5, 2] = float("nan")
    noise = ClassNoise(features, TARGETS[:100], 3, share=1.0, shrinkage=0.1, minor_discriminants=0.0)
    rows = noise(features, TARGETS[:100], torch.randn(100, 6))
    assert rows.isnan().nonzero().tolist() == [[5, 2]], "what is missing stays missing"
    assert (rows[:, 4] == 7).all()
    assert rows[torch.arange(100) != 5].isfinite().all()


def test_missing_values_have_no_part_in_the_means_of_their_class() -> None:
    features = FEATURES.clone()
    features[::3, 2] = float("nan")
    noise = ClassNoise(features, TARGETS, 3, share=1.0)
    expected = [features[kind == TARGETS].nanmean(dim=0).tolist() for kind in range(3)]
    torch.testing.assert_close(noise.means, torch.tensor(expected))
    features[TARGETS == 1, 2] = float("nan")  # a class without any value has the mean of all
    noise = ClassNoise(features, TARGETS, 3, share=1.0, minor_discriminants=0.0)
    torch.testing.assert_close(noise.means[1, 2], features[:, 2].nanmean())


def test_a_constant_feature_is_no_discriminant() -> None:
    features = torch.cat([FEATURES, torch.full((150, 1), 0.1)], dim=1)  # whose mean is not 0.1, but for rounding
    one, other = (ClassNoise(own, TARGETS, 3, share=1.0, minor_discriminants=0.0) for own in (FEATURES, features))
    torch.testing.assert_close(other.centres[:, :4], one.centres)


def test_with_noise_alone_the_best_linear_classifier_is_discriminant_analysis() -> None:
    features = FEATURES / FEATURES.std(dim=0)
    rows = many(ClassNoise(features, TARGETS, 3, share=1.0), features, TARGETS)[:500].flatten(0, 1)
    classifier = LogisticRegression(C=1e4, max_iter=1000).fit(rows.numpy(), TARGETS.repeat(500).numpy())
    oracle = LinearDiscriminantAnalysis(solver="lsqr").fit(features.numpy(), TARGETS.numpy())
    found, expected = (one.predict_proba(features.numpy()) for one in (classifier, oracle))
    np.testing.assert_allclose(found, expected, atol=0.03)


def test_every_epoch_has_noise_of_its_own_which_follows_from_the_seed() -> None:
    data = IrisDataModule(noise=0.5)
    data.seed = 7
    loader = data.train_dataloader()
    epochs = []
    for epoch in (0, 1, 0):
        loader.sampler.set_epoch(epoch)  # type: ignore[union-attr]
        epochs.append(torch.cat([features for features, _ in loader]))
    assert torch.equal(epochs[0], epochs[2])
    assert not torch.isin(epochs[0], epochs[1]).any()
    assert torch.equal(torch.cat([features for features, _ in data.val_dataloader()]), data.tensors("val")[0])


def test_workers_draw_the_same_noise() -> None:
    for workers in ("0", "2"):
        fit("--data.noise", "0.5", "--data.num_workers", workers, "--trainer.max_epochs", "2")
    one, other = (load(Path(f"lightning_logs/version_{i}/checkpoints/last.ckpt"))["state_dict"] for i in (0, 1))
    assert_same_weights(one, other)


@pytest.mark.parametrize("name", ["noise", "noise_shrinkage", "minor_discriminants"])
def test_shares_lie_between_0_and_1(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    for value in ("-0.1", "1.5"):
        expected = f"--data.{name}: expected a number from 0 to 1, got {value}"
        assert expected in fails(capsys, "fit", f"--data.{name}", value)


def test_options_of_noise_have_no_part_without_it(capsys: pytest.CaptureFixture[str]) -> None:
    for option in ("noise_shrinkage", "minor_discriminants"):
        assert "--data.noise: expected above 0 beside noise_shrinkage" in fails(
            capsys, "fit", f"--data.{option}", "0.5"
        )
