"""A run's folder and what stands in it: found, read, written. No option of the command line, and nothing printed."""
