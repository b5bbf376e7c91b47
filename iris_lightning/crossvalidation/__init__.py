"""Cross-validation: the classifiers of all folds stacked into one. No option of the command line, nothing printed."""
