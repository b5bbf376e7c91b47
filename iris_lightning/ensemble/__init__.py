"""Many classifiers trained at once as one stacked model, and cross-validation on top of it."""
