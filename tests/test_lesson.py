"""`fit` gives the same weights as the lesson's plain PyTorch loop, bit for bit."""

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_iris
from torch import nn
from torch.utils.data import DataLoader, Dataset, random_split

from tests.conftest import assert_same_weights, curves, fit


class Flowers(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """Iris, one row per item."""

    def __init__(self) -> None:
        self.data, self.target = load_iris(return_X_y=True)

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.tensor(self.data[index]).float(), torch.tensor(self.target[index])


class LessonNetwork(nn.Module):
    """Three linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 16), nn.Linear(16, 8), nn.Linear(8, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.layers(x)
        return logits


def lesson(seed: int, batch_size: int, epochs: int) -> tuple[nn.Module, dict[str, list[float]]]:
    """Trains like the lesson, but with the row order that `fit` derives from seed and epoch."""
    device = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    train, val, _ = random_split(Flowers(), [0.7, 0.2, 0.1], torch.Generator().manual_seed(20))
    torch.manual_seed(seed)
    model = LessonNetwork().to(device)
    loss_fn = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters())
    history: dict[str, list[float]] = {}
    for epoch in range(epochs):
        (mixed,) = np.random.SeedSequence([seed, epoch]).generate_state(1, np.uint64)
        order = torch.randperm(len(train), generator=torch.Generator().manual_seed(int(mixed)))
        loaders = {
            "train": DataLoader(train, batch_size, sampler=order.tolist()),
            "val": DataLoader(val, batch_size, shuffle=False),
        }
        for split, loader in loaders.items():
            model.train(split == "train")
            losses, correct, rows = 0.0, 0, 0
            for data, target in loader:
                data, target = data.to(device), target.to(device)
                with torch.set_grad_enabled(split == "train"):
                    optimizer.zero_grad()
                    logits = model(data)
                    loss = loss_fn(logits, target)
                    if split == "train":
                        loss.backward()
                        optimizer.step()
                rows += len(target)
                losses += loss.item() * len(target)
                correct += int(logits.argmax(dim=1).eq(target).sum())
            history.setdefault(f"loss/{split}", []).append(losses / rows)
            history.setdefault(f"accuracy/{split}", []).append(correct / rows)
    return model, history


@pytest.mark.parametrize(("seed", "batch_size"), [(20, 10), (7, 16)])
def test_fit_equals_the_lesson(seed: int, batch_size: int) -> None:
    model, history = lesson(seed, batch_size, epochs=5)
    cli = fit("--seed_everything", str(seed), "--data.batch_size", str(batch_size))
    ours = cli.model.network.to(next(model.parameters()).device)
    assert_same_weights(ours.state_dict(), model.state_dict())
    found = curves(Path("lightning_logs/version_0"))
    for name, values in history.items():
        assert [value for _, value in found[name]] == pytest.approx(values, rel=2e-6), name
