"""Tests of `iris_lightning/weights`."""
