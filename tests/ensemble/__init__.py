"""Tests of stacks and of cross-validation."""
