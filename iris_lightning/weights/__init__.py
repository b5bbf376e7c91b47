"""Files of a network's weights: read, written, checked. Checkpoints, which hold a whole run, are in `runs`."""
