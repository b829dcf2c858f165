"""What is trained: start values, and the module whose loss is computed."""
