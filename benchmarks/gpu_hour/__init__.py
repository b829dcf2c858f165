"""The first hour on a Hopper machine: what of the CUDA path holds on a real GPU, one module per step. See `run.py`."""
