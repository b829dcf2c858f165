"""GLASS as a model of the Triton Inference Server."""
