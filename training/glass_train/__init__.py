"""Stage 0: labelled images become a checkpoint, and at the end of a run a bundle with its card."""
