"""The checkpoints a run keeps, and how to find and read them."""

import re
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from iris_lightning.errors import UserError

__all__ = ["BestCheckpoint", "LastCheckpoint", "find_checkpoint", "read_checkpoint", "run_of"]

RUNS = "lightning_logs"
NEEDED = {
    "pytorch-lightning_version": str,
    "epoch": int,
    "state_dict": dict,
    "hyper_parameters": dict,
    "datamodule_hyper_parameters": dict,
    "IrisDataModule": dict,
    "optimizer_states": list,
    "lr_schedulers": list,
    "callbacks": dict,
    "loops": dict,
}


class BestCheckpoint(ModelCheckpoint):
    """Keeps `checkpoints/best.ckpt`, the epoch with the lowest `loss/val`."""

    def __init__(self) -> None:
        super().__init__(
            filename="best",
            monitor="loss/val",
            mode="min",
            save_on_train_epoch_end=True,  # when the epoch's train metrics are known, too
            enable_version_counter=False,
        )

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Knows the best epoch of a resumed run, also where its folder has moved since."""
        best = Path(str(self.dirpath), "best.ckpt")
        if best.is_file():
            here = {"dirpath": self.dirpath, "best_model_path": str(best), "kth_best_model_path": str(best)}
            super().load_state_dict(
                {**state_dict, **here, "best_k_models": {str(best): state_dict["best_model_score"]}}
            )


class LastCheckpoint(ModelCheckpoint):
    """Keeps `checkpoints/last.ckpt`, the latest epoch.

    `ModelCheckpoint(save_last=True)` would not do: that file goes stale while the monitored metric worsens.
    """

    def __init__(self) -> None:
        super().__init__(filename="last", save_on_train_epoch_end=True, enable_version_counter=False)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Needs nothing of a resumed run."""


def find_checkpoint(name: str, root: Path) -> Path:
    """Returns the path that `--ckpt_path` means.

    Args:
        name: `best` or `last`, those of the newest run, or the path of a checkpoint.
        root: Folder that holds `lightning_logs`.

    Raises:
        UserError: If there is no such file.
    """
    if name not in ("best", "last"):
        path = Path(name)
        if not path.is_file():
            found = "a folder" if path.is_dir() else "no such file"
            raise UserError(f"--ckpt_path {name}: {found}; expected a checkpoint, or best or last of the newest run")
        return path
    # By number: as text, version_10 would come before version_2.
    runs = {
        int(match[1]): folder
        for folder in (root / RUNS).glob("version_*")
        if folder.is_dir() and (match := re.fullmatch(r"version_(\d+)", folder.name))
    }
    if not runs:
        raise UserError(f"no run under {root / RUNS}; train one first (fit), or give --ckpt_path FILE")
    path = runs[max(runs)] / "checkpoints" / f"{name}.ckpt"
    if not path.is_file():
        raise UserError(
            f"the newest run, {path.parent.parent}, has no {name}.ckpt; delete it, or give --ckpt_path FILE"
        )
    return path


def run_of(path: Path) -> Path:
    """Returns the run folder that a checkpoint lies in, to resume the run.

    Raises:
        UserError: If it lies in none, or is not the latest checkpoint of the run.
    """
    run = path.parent.parent
    if path.parent.name != "checkpoints" or not (run / "config.yaml").is_file():
        raise UserError(f"--ckpt_path {path}: lies in no run folder, so there is no run to resume ({run}/config.yaml)")
    last = path.with_name("last.ckpt")
    if last != path and last.is_file() and (reached := read_checkpoint(last)["epoch"]) > read_checkpoint(path)["epoch"]:
        raise UserError(f"--ckpt_path {path}: the run has gone on to epoch {reached}, which would be lost; resume last")
    return run


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Reads a checkpoint of this project as data: nothing that it holds can run.

    Returns:
        At least what `NEEDED` lists.

    Raises:
        UserError: If the file is not such a checkpoint.
    """
    try:
        checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever bytes the file holds, the user's remedy is the same
        raise UserError(f"{path}: not a checkpoint, or a damaged one ({type(error).__name__})") from error
    for key, kind in NEEDED.items():
        if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get(key), kind):
            raise UserError(f"{path}: not a checkpoint of iris_lightning: it has no {key}")
    table = checkpoint["IrisDataModule"]
    if not isinstance(table.get("sha256"), str) or not isinstance(table.get("class_names"), list):
        raise UserError(f"{path}: not a checkpoint of iris_lightning: it does not know its table")
    for name, tensor in checkpoint["state_dict"].items():
        if not isinstance(tensor, torch.Tensor) or tensor.layout != torch.strided or tensor.is_meta:
            raise UserError(f"{path}: not a checkpoint of iris_lightning: its {name} is no tensor")
    return checkpoint
