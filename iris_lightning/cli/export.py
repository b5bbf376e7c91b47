"""The command `export`."""

from pathlib import Path

from iris_lightning.cli.source import find_source
from iris_lightning.weights.export import export as write

__all__ = ["export"]


def export(output: str, ckpt_path: str | None = None, weights: str | None = None) -> None:
    """Writes a trained network as a file for others, and checks it.

    Args:
        output: File to write: .pth for plain torch, .safetensors, or .onnx, which gives probabilities.
        ckpt_path: Checkpoint to use: best or last of the newest run, or a file. By default best.
        weights: Weights to use in place of a checkpoint: .pth or .safetensors.
    """
    source = find_source(ckpt_path, weights)
    predictor = source.predictor()
    names = [str(name) for name in predictor.feature_names_in_], [str(name) for name in predictor.classes_]
    result = write(predictor.network, *names, Path(output), source.path)
    print(f"{source}\n{output}: {result}")
