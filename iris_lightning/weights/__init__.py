"""Files of a network's weights: `.safetensors`, `.pth`, `.onnx`. Checkpoints are in `runs`."""
