"""Weights files: `.safetensors`, `.pth` and `.onnx`. Checkpoints are in `runs`."""
