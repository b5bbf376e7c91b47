"""Tests of `iris_lightning/runs`."""
