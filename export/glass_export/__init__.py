"""Stage 1: a PyTorch checkpoint becomes a portable model."""
