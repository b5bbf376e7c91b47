"""The number of threads."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml

from tests.conftest import fit


@pytest.fixture
def two_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Simulates two cores, without environment variables for threads."""
    monkeypatch.delenv("OMP_NUM_THREADS")
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize(
    ("options", "expected"),
    [([], 1), (["--data.batch_size", "8192"], 2)],
)
def test_threads_depend_on_the_batch_size_by_default(options: list[str], expected: int) -> None:
    fit("--trainer.max_epochs", "1", *options)
    environment = Path("lightning_logs/version_0/environment.yaml").read_text()
    assert yaml.safe_load(environment)["threads"] == expected
    assert torch.get_num_threads() == 2, "as before"
