"""The loop: steps, validation, checkpoints, logs, and how a run is stopped and resumed."""
