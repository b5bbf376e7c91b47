"""The folder of a run: claiming it, checkpoints, resuming, TensorBoard."""
