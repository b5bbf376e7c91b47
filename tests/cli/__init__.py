"""Tests of `iris_lightning/cli`."""
