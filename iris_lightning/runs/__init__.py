"""Run folders: claiming one, checkpoints, resuming, TensorBoard."""
