"""Train batches whose spread within the classes is replaced by noise, so that a network cannot learn single rows."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.utils.data import Dataset

from iris_lightning.sharing import Batches, BatchOrder, generator_of

__all__ = ["ClassNoise", "add_noise", "noise_of"]


class ClassNoise:
    """Replaces what sets rows apart from the others of their class, in part or whole, by fresh Gaussian noise.

    A row x of class k becomes `centre_k + sqrt(1 - share) (x - mean_k) + sqrt(share) L z`, with z standard normal and
    `L L'` the covariance within the classes, pooled. This is vicinal risk minimisation (Chapelle, Weston, Bottou and
    Vapnik, 2000), the vicinity of a row having the shape of its class. With a share of 1, the best linear network is
    linear discriminant analysis. The centres are the classes' means, drawn together along the lesser discriminants.

    Args:
        features: Train rows, float32, shape `(rows, features)`. Missing ones are NaN, and stay so.
        targets: Their classes, int64, shape `(rows,)`.
        num_classes: Number of classes.
        share: Share of the variance that is replaced, 0 to 1.
        shrinkage: Share by which the covariances between features are reduced, 0 to 1: with 1, the noise of each
            feature is independent of that of the others.
        minor_discriminants: What is kept of the classes' differences along all discriminants but the first one, 0 to
            1: with 0, linear discriminant analysis of rank 1 (Fisher 1936; Hastie, Tibshirani and Friedman, "The
            Elements of Statistical Learning", 2009, section 4.3.3).
    """

    def __init__(
        self,
        features: Tensor,
        targets: Tensor,
        num_classes: int,
        share: float,
        shrinkage: float = 0.0,
        minor_discriminants: float = 1.0,
    ) -> None:
        rows, present = features.nan_to_num().double(), (~features.isnan()).double()
        own = torch.nn.functional.one_hot(targets, num_classes).double()  # shape (rows, classes)
        weights = own.mean(dim=0)
        known, of_all = own.T @ present, rows.sum(dim=0) / present.sum(dim=0).clamp(min=1)
        means = torch.where(known > 0, (own.T @ rows) / known.clamp(min=1), of_all)
        deviations = (rows - means[targets]) * present
        scale = (deviations.square().sum(dim=0) / present.sum(dim=0).clamp(min=1)).sqrt()
        scale[scale <= 1e-7 * rows.abs().amax(dim=0)] = 1  # of a constant feature, but for rounding
        deviations = deviations / scale  # whatever the units, the variance of a feature is 1 from here on
        covariance = (deviations.T @ deviations) / (present.T @ present).clamp(min=1)
        covariance = torch.lerp(covariance, covariance.diagonal().diag(), shrinkage)
        variances, axes = torch.linalg.eigh(covariance)
        usable = variances > 1e-6  # a feature may be constant, or the sum of others
        root, inverse = (axes * variances.clamp(min=0).sqrt()) @ axes.T, axes[:, usable] / variances[usable].sqrt()
        centre = weights @ means
        differences = (means - centre) / scale
        whitened = differences @ inverse  # shape (classes, axes)
        _, directions = torch.linalg.eigh((whitened.T * weights) @ whitened)
        minor = directions[:, :-1] @ directions[:, :-1].T
        along_minor = whitened @ minor @ (axes[:, usable] * variances[usable].sqrt()).T
        differences = differences - (1 - minor_discriminants) * along_minor
        self.share = share
        self.means = means.float()  # shape (classes, features)
        self.centres = (centre + differences * scale).float()  # shape (classes, features)
        self.root = (root * scale).float()  # shape (features, features): draws @ root are the noise

    @classmethod
    def stacked(cls, noises: Sequence["ClassNoise"]) -> "ClassNoise":
        """Returns one for features of shape `(noises, rows, features)`, each with its own statistics."""
        stacked = cls.__new__(cls)
        stacked.share = noises[0].share
        for name in ("means", "centres", "root"):
            setattr(stacked, name, torch.stack([getattr(noise, name) for noise in noises]))
        return stacked

    def __call__(self, features: Tensor, targets: Tensor, draws: Tensor) -> Tensor:
        """Returns features, shape `(rows, features)`, with noise from standard normal draws of the same shape."""
        own = targets.unsqueeze(-1)
        centres, means = (torch.take_along_dim(values, own, dim=-2) for values in (self.centres, self.means))
        kept = (1 - self.share) ** 0.5 * (features - means)
        noisy: Tensor = centres + kept + self.share**0.5 * (draws @ self.root)
        return noisy


class NoisyBatches(Dataset[tuple[Tensor, Tensor]]):
    """Batches with noise. All processes get the draws of a whole batch, and use those of their part."""

    def __init__(self, batches: Batches, noise: ClassNoise) -> None:
        self.batches = batches
        self.noise = noise

    def __getitem__(self, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Returns this process' share of the batch of these rows, with these draws."""
        rows, draws = batch
        features, targets = self.batches[rows]
        return self.noise(features, targets, draws[self.batches.share_of(len(rows))]), targets


class NoisyOrder(BatchOrder):
    """The row numbers of each batch of an epoch, and the draws of its noise, from the same seed and epoch."""

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        draws = noise_of(self.seed, self.epoch, self.batches.features.shape)
        return zip(super().__iter__(), draws.split(self.batches.batch_size), strict=True)


def noise_of(seed: int, epoch: int, shape: Sequence[int]) -> Tensor:
    """Returns the standard normal draws of an epoch, of shape `(rows, features)`, in the order of its batches."""
    # 2 sets these draws apart from the order of the rows, and from what a network draws.
    return torch.randn(*shape, generator=generator_of(seed, epoch, 2))


def add_noise(batches: Batches, order: BatchOrder, noise: ClassNoise) -> tuple[NoisyBatches, NoisyOrder]:
    """Returns the same batches, in the same order, with noise."""
    return NoisyBatches(batches, noise), NoisyOrder(batches, order.shuffle, order.seed)
