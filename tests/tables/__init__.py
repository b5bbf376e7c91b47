"""Tests of `iris_lightning/tables`."""
